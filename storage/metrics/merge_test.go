package metrics

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/prometheus/tsdb"
)

// Blocks that overlap become one with the samples of all, each once; others are left alone. What a kill
// left, a merged block beside those that it was made of, is merged again.
func TestOverlappingBlocksAreMerged(t *testing.T) {
	dir := t.TempDir()
	at := func(minutes int) time.Time { return t0.Add(time.Duration(minutes) * time.Minute) }
	writeBlock(t, dir, 2, at(0), at(120), time.Minute, 1)
	alone, err := BlocksIn(dir)
	if err != nil {
		t.Fatal(err)
	}
	writeBlock(t, dir, 2, at(120), at(240), time.Minute, 1)
	writeBlock(t, dir, 3, at(200), at(300), time.Minute, 1) // overlaps the one before
	writeBlock(t, dir, 3, at(250), at(290), time.Minute, 1) // lies within that
	kept := t.TempDir()
	if err := os.CopyFS(kept, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := MergeOverlapping(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
		blocks, err := BlocksIn(dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(blocks) != 2 || len(tsdb.OverlappingBlocks(blocks)) > 0 || blocks[0].ULID != alone[0].ULID || blocks[1].Stats.NumSamples != 2*180+100 {
			t.Fatalf("%+v", blocks)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 2 {
			t.Errorf("left behind: %v", left)
		}
		entries, err := os.ReadDir(kept)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries { // as if it had been killed before it removed them
			if err := os.CopyFS(filepath.Join(dir, e.Name()), os.DirFS(filepath.Join(kept, e.Name()))); err != nil && e.Name() != alone[0].ULID.String() {
				t.Fatal(err)
			}
		}
	}
}
