package metrics

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// said calls back when the TSDB logs a message.
type said struct {
	slog.Handler
	mu sync.Mutex
	on map[string]func()
}

func newSaid() *said { return &said{Handler: slog.DiscardHandler, on: map[string]func(){}} }

func (s *said) at(message string, fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.on[message] = fn
}

func (s *said) Enabled(context.Context, slog.Level) bool { return true }
func (s *said) WithAttrs([]slog.Attr) slog.Handler       { return s }
func (s *said) WithGroup(string) slog.Handler            { return s }
func (s *said) Handle(_ context.Context, r slog.Record) error {
	s.mu.Lock()
	fn := s.on[r.Message]
	delete(s.on, r.Message)
	s.mu.Unlock()
	if fn != nil {
		fn()
	}
	return nil
}

// A number of which there are samples is not given to a new series, though the log
// does not know it any more: the next start would take these samples for the new one's.
func TestNumbersOfWhatTheLogLostAreNotGivenAgain(t *testing.T) {
	for of, old := range map[string]func(db *DB, lset labels.Labels){
		"the head's chunks": func(db *DB, lset labels.Labels) {
			for n := range 400 {
				put(t, db, lset, t0.Add(time.Duration(n)*time.Second), 1)
			}
			db.tsdb.ForceHeadMMap()
		},
		"late samples": func(db *DB, lset labels.Labels) {
			put(t, db, lset, t0, 1)
			put(t, db, lset, t0.Add(-20*time.Hour), 1)
		},
	} {
		t.Run(of, func(t *testing.T) {
			dir := t.TempDir()
			db := still(t, dir)
			for n := range 5 {
				old(db, labels.FromStrings(labels.MetricName, "old", "n", fmt.Sprint(n)))
			}
			if err := db.Close(); err != nil { // the chunks stand in their file then
				t.Fatal(err)
			}
			if err := os.RemoveAll(filepath.Join(dir, "wal")); err != nil {
				t.Fatal(err)
			}
			db = still(t, dir)
			for n := range 5 {
				put(t, db, labels.FromStrings(labels.MetricName, "new", "n", fmt.Sprint(n)), t0.Add(time.Hour+time.Duration(n)*time.Second), 2)
			}
			for range 2 {
				dir = killed(t, dir)
				if got := values(t, still(t, dir), "new"); len(got) != 5 {
					t.Errorf("new series have %d samples, of which they got 5: %.200s", len(got), fmt.Sprint(got))
				}
			}
		})
	}
}

// A series that comes while the first compaction after a start is under way, and the
// highest of whose predecessors a trim of the log has dropped.
func TestNumbersOfTrimmedSeriesAreNotGivenAgain(t *testing.T) {
	dir, said := t.TempDir(), newSaid()
	reopened := func() *DB {
		return open(t, Options{Dir: dir, CheckEvery: time.Hour, Logger: slog.New(said), Now: func() time.Time { return t0 }})
	}
	db := reopened()
	<-db.settled
	db.opts.OutOfOrderLogBytes = 1
	live, late, over := labels.FromStrings(labels.MetricName, "live"), labels.FromStrings(labels.MetricName, "late"), labels.FromStrings(labels.MetricName, "over")
	put(t, db, live, t0, 1)
	random := rand.New(rand.NewPCG(1, 2)) // or they take no room when compressed
	const rounds = 8
	for n := range rounds {
		app := db.Appender(t.Context())
		for i := range 3000 {
			if _, err := app.Append(0, live, t0.Add(time.Duration(n-11)*50*time.Minute+time.Duration(i)*time.Second).UnixMilli(), random.Float64()); err != nil {
				t.Fatal(err)
			}
		}
		if err := app.Commit(); err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			put(t, db, late, t0.Add(-10*time.Hour), 1)
		}
		put(t, db, over, t0.Add(time.Duration(n-600)*time.Minute), 1) // its number is the highest
		// A series of late samples only that has some at each time that others are
		// dropped has their records dropped, too.
		said.at("Head GC started", func() {
			put(t, db, late, t0.Add(time.Duration(n-500)*time.Minute), 1)
			if n < rounds-1 {
				put(t, db, over, t0.Add(time.Duration(n-500)*time.Minute), 1)
			}
		})
		db.compaction.untrimmed = 1 << 30 // it is worth a trim
		if err := db.compactOutOfOrder(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil { // the chunks stand in their file then
		t.Fatal(err)
	}

	reached, goOn := make(chan struct{}), make(chan struct{})
	said.at("Head GC started", func() { close(reached); <-goOn })
	db = reopened()
	<-reached // the first compaction, before it drops the files of chunks
	put(t, db, labels.FromStrings(labels.MetricName, "new"), t0.Add(time.Second), 2)
	killed := killed(t, dir)
	close(goOn)
	<-db.settled
	if got := values(t, still(t, killed), "new"); len(got) != 1 {
		t.Errorf("the new series has %d samples, of which it got one: %v", len(got), got)
	}
}
