package logs

import (
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// A node whose containers several replicas share is as complete as the one that is
// behind, and only what all say under the same division counts.
func TestWatermarksOfReplicasThatShare(t *testing.T) {
	now := time.Date(2026, 11, 28, 10, 0, 0, 0, time.UTC)
	var w watermarks
	for i, step := range []struct {
		part    int
		parts   uint64
		seconds int // of now, that it has come
		want    int // the node's
	}{
		{0, 0b01, 1, 1},  // alone
		{0, 0b11, 2, 1},  // the other has said nothing
		{1, 0b11, 5, 2},  // it has: the first is behind
		{0, 0b11, 4, 4},  //
		{1, 0b111, 6, 4}, // it knows of a third one
		{0, 0b11, 7, 4},  // the first does not
		{0, 0b111, 7, 4}, // the third has said nothing
		{2, 0b111, 9, 6},
		{0, 0b011, 8, 6}, // the third is gone, as the first knows; the second may not read its share yet
		{1, 0b011, 9, 8},
		{2, 0b100, 5, 8}, // no way back
		{0, 0b011, 20, 9},
		{1, 0b011, 90, 20}, // its clock is ahead
	} {
		w.note("prod", []wire.LogMark{{Node: "n1", Through: now.Add(time.Duration(step.seconds) * time.Second).UnixNano(), Part: step.part, Parts: step.parts}}, now.Add(time.Minute))
		if got := w.byNode["prod"]["n1"].CompleteThrough.Sub(now); got != time.Duration(step.want)*time.Second {
			t.Errorf("step %d: complete through %s, want %d s", i, got, step.want)
		}
	}
	// By when it said so its lines were there, and no later: its clock was ahead, or is still.
	w.note("prod", []wire.LogMark{{Node: "n1", Through: now.Add(2 * time.Minute).UnixNano(), Part: 0, Parts: 0b011}}, now.Add(2*time.Minute))
	if got := w.byNode["prod"]["n1"].CompleteThrough.Sub(now); got != time.Minute {
		t.Errorf("complete through %s, want what the second said at the first minute, which was of the minute after", got)
	}
}
