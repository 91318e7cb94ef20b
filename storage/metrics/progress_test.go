package metrics

import (
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// A start tells how many segments of the log it has read, and then of that of late samples.
func TestAStartTellsHowFarItIs(t *testing.T) {
	dir := t.TempDir()
	const kills = 5 // each start begins a segment
	for n := range kills {
		db := still(t, dir)
		at, x := t0.Add(time.Duration(n)*time.Minute), labels.FromStrings(labels.MetricName, "x")
		put(t, db, x, at, 1)
		put(t, db, x, at.Add(-5*time.Hour), 1)
		dir = killed(t, dir)
	}
	type reading struct{ read, of int }
	var seen [2][]reading // by log
	progress, log := &Progress{}, newSaid()
	for i, what := range []string{"WAL segment loaded", "WBL segment loaded"} {
		var look func()
		look = func() {
			in, read, of := progress.Segments()
			if in != dir {
				t.Errorf("it reads %s, want %s", in, dir)
			}
			seen[i] = append(seen[i], reading{read, of})
			log.at(what, look)
		}
		log.at(what, look)
	}
	if in, read, of := progress.Segments(); in != "" || read != 0 || of != 0 {
		t.Errorf("before: %d of %d in %q", read, of, in)
	}
	open(t, Options{Dir: dir, CheckEvery: time.Hour, Now: func() time.Time { return t0 }, Logger: slog.New(log), Progress: progress})
	for i, log := range []string{"wal", "wbl"} {
		of, last := len(seen[i]), 0
		for n, r := range seen[i] {
			if r.of != of || r.read < last || r.read > n {
				t.Errorf("%s: segment %d of %d is read: %+v", log, n+1, of, seen[i])
			}
			last = r.read
		}
		if min := []int{kills, 1}[i]; of < min || last < of-2 {
			t.Errorf("%s: %+v, want %d segments at least", log, seen[i], min)
		}
	}
}
