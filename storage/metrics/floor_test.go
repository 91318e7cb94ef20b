package metrics

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// waitsForWrites returns once a compaction waits for open writes.
func waitsForWrites(t *testing.T) {
	t.Helper()
	stacks := make([]byte, 4<<20)
	for began := time.Now(); ; runtime.Gosched() {
		if strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), "tsdb.(*Head).WaitForAppendersOverlapping(") {
			return
		}
		if time.Since(began) > 10*time.Second {
			t.Fatal("no compaction waits for open writes")
		}
	}
}

// The first writes of a store come at once: one begins while the head is young, and brings, in
// order, what is older than all in the head when that is due already. The block has it, in the
// store that goes on and after a kill.
func TestABlockOfTheHeadHasWhatAnOpenWriteBroughtBeforeIt(t *testing.T) {
	dir := t.TempDir()
	db := still(t, dir)
	first, late := t0.Add(-19*time.Hour), t0.Add(-19*time.Hour-30*time.Minute)
	put(t, db, labels.FromStrings(labels.MetricName, "first"), first, 1)
	app := db.Appender(t.Context())
	if _, err := app.Append(0, labels.FromStrings(labels.MetricName, "late"), late.UnixMilli(), 1); err != nil {
		t.Fatal(err)
	}
	put(t, db, labels.FromStrings(labels.MetricName, "live"), t0, 1) // has the head be due
	waitsForWrites(t)
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := db.compact(context.Background()); err != nil {
		t.Fatal(err)
	}
	if len(db.tsdb.Blocks()) == 0 {
		t.Error("the head was not due")
	}
	for what, of := range map[string]*DB{"going on": db, "after a kill": still(t, killed(t, dir))} {
		t.Log(what)
		holds(t, of, "first", "late", "live")
	}
}

// What drops late samples from the head and from the log waits for such a write, too, and has
// what is as old be late from then on.
func TestLateSamplesAreDroppedAfterAnOpenWriteInOrder(t *testing.T) {
	for name, to := range map[string]struct {
		newest time.Duration // after the first
		drop   func(*DB) error
	}{
		"blocks of them": {0, func(db *DB) error { return db.compactLate(context.Background()) }},
		"trimmed log":    {150 * time.Minute, (*DB).trimLog},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			db := still(t, dir)
			first := t0.Add(-19 * time.Hour)
			put(t, db, labels.FromStrings(labels.MetricName, "first"), first, 1)
			app := db.Appender(t.Context())
			if _, err := app.Append(0, labels.FromStrings(labels.MetricName, "open"), first.Add(-30*time.Minute).UnixMilli(), 1); err != nil {
				t.Fatal(err)
			}
			put(t, db, labels.FromStrings(labels.MetricName, "newest"), first.Add(to.newest), 1)
			db.compaction.mu.Lock()
			db.compaction.untrimmed = 1 << 30 // it is worth it
			db.compaction.mu.Unlock()
			done := make(chan error, 1)
			go func() { done <- to.drop(db) }()
			waitsForWrites(t)
			put(t, db, labels.FromStrings(labels.MetricName, "next"), first.Add(-40*time.Minute), 1)
			if at := db.tsdb.Head().MinTime(); at != first.UnixMilli() {
				t.Errorf("what began meanwhile is in order before the head: %s", time.UnixMilli(at).UTC())
			}
			if err := app.Commit(); err != nil {
				t.Fatal(err)
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			for what, of := range map[string]*DB{"going on": db, "after a kill": still(t, killed(t, dir))} {
				t.Log(what)
				holds(t, of, "first", "open", "newest", "next")
			}
		})
	}
}
