package metrics

import (
	"context"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// letGo has the head make series of which all is late, as a backlog's are, and let them go, and
// gives the references that their sender still has.
func letGo(t *testing.T, db *DB, series int, at time.Time) []storage.SeriesRef {
	t.Helper()
	put(t, db, numbered("live", 0), t0, 1)
	refs := make([]storage.SeriesRef, series)
	if err := sendBy(db, refs, at); err != nil {
		t.Fatal(err)
	}
	if err := db.compactLate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := db.Series(); n != 1 {
		t.Fatalf("the head still has %d series, want that of what is live", n)
	}
	return refs
}

// sendBy sends one sample of each series by its reference, and keeps what the store gives.
func sendBy(db *DB, refs []storage.SeriesRef, at time.Time) error {
	app := db.Appender(context.Background())
	for n, ref := range refs {
		got, err := app.Append(ref, numbered("x", n), at.UnixMilli(), 1)
		if err != nil {
			return errors.Join(err, app.Rollback())
		}
		refs[n] = got
	}
	return app.Commit()
}

// A series that the head let go begins anew in the log, too, where its sender still has the
// reference: another sender may be acknowledged before.
func TestASeriesBegunByAnOldReferenceIsLoggedFirst(t *testing.T) {
	spans := &histogram.Histogram{Count: 1, Sum: 1, Schema: 1, PositiveSpans: []histogram.Span{{Length: 1}}, PositiveBuckets: []int64{1}}
	for name, begin := range map[string]func(db *DB, ref storage.SeriesRef, lset labels.Labels, at int64) (storage.SeriesRef, storage.AppenderTransaction, error){
		"float": func(db *DB, ref storage.SeriesRef, lset labels.Labels, at int64) (storage.SeriesRef, storage.AppenderTransaction, error) {
			app := db.Appender(context.Background())
			ref, err := app.Append(ref, lset, at, 1)
			return ref, app, err
		},
		"histogram": func(db *DB, ref storage.SeriesRef, lset labels.Labels, at int64) (storage.SeriesRef, storage.AppenderTransaction, error) {
			app := db.Appender(context.Background())
			ref, err := app.AppendHistogram(ref, lset, at, spans, nil)
			return ref, app, err
		},
		"newer interface": func(db *DB, ref storage.SeriesRef, lset labels.Labels, at int64) (storage.SeriesRef, storage.AppenderTransaction, error) {
			app := db.AppenderV2(context.Background())
			ref, err := app.Append(ref, lset, 0, at, 1, nil, nil, storage.AppendV2Options{})
			return ref, app, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			db := still(t, dir)
			at := t0.Add(-19 * time.Hour)
			refs := letGo(t, db, 1, at)
			ref, first, err := begin(db, refs[0], numbered("x", 0), at.Add(time.Minute).UnixMilli())
			if err != nil || ref == refs[0] {
				t.Fatal(ref, err)
			}
			defer func() {
				if err := first.Rollback(); err != nil {
					t.Error(err)
				}
			}()
			if err := sendBy(db, refs, at.Add(2*time.Minute)); err != nil {
				t.Fatal(err)
			}
			if refs[0] != ref {
				t.Errorf("the series is %d for one sender and %d for the other", ref, refs[0])
			}
			if n := samplesOf(t, still(t, killedNow(t, db)), "x", at.Add(2*time.Minute)); n != 1 {
				t.Errorf("%d acknowledged samples are there after a kill, want 1", n)
			}
		})
	}
}

// So it does where the log cannot be written when it begins.
func TestABacklogOutlivesAFullDisk(t *testing.T) {
	dir := t.TempDir()
	db := still(t, dir)
	const series = 5000 // of which the records fill many pages
	at := t0.Add(-19 * time.Hour)
	refs := letGo(t, db, series, at)
	at = at.Add(time.Minute)
	db.compaction.mu.Lock() // nothing is mended while the disk is full
	full(t, filepath.Join(dir, "wal"), func() {
		if err := sendBy(db, refs, at); !errors.Is(err, fault.ErrUnavailable) {
			t.Errorf("with a full disk: %v", err)
		}
	})
	db.compaction.mu.Unlock()
	sendUntilTaken(t, func() error { return sendBy(db, refs, at) })
	if n := samplesOf(t, still(t, killedNow(t, db)), "x", at); n != series {
		t.Errorf("%d of %d acknowledged samples are there after a kill", n, series)
	}
}

// What is lost is refused by an old reference as it is by its labels, and forgotten when the head
// lets it go.
func TestALostSeriesIsRefusedByAnOldReference(t *testing.T) {
	db := still(t, t.TempDir())
	at := t0.Add(-19 * time.Hour)
	refs := letGo(t, db, 1, at)
	old := refs[0]
	if err := sendBy(db, refs, at.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	db.series.Lock()
	db.lost[refs[0]] = lost{0, numbered("x", 0)}
	db.series.Unlock()
	if err := sendBy(db, []storage.SeriesRef{old}, at.Add(2*time.Minute)); !errors.Is(err, errLost) {
		t.Errorf("got %v", err)
	}
	app := db.Appender(t.Context())
	if ref, _ := app.(*appender).GetRef(numbered("x", 0), numbered("x", 0).Hash()); ref != 0 {
		t.Error("it is given a number")
	}
	if _, err := app.Append(0, numbered("x", 0), at.Add(2*time.Minute).UnixMilli(), 1); !errors.Is(err, errLost) {
		t.Errorf("it is taken by its labels: %v", err)
	}
	if err := app.Rollback(); err != nil {
		t.Error(err)
	}
	if err := db.compactLate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(db.lost) != 0 {
		t.Errorf("the head let it go, but it is held for lost: %v", db.lost)
	}
	if err := sendBy(db, []storage.SeriesRef{old}, at.Add(2*time.Minute)); err != nil {
		t.Error(err)
	}
}

// A log that is written anew for a lost series has what it had, in another place.
func TestALogWithALostSeriesHasTheOthersStill(t *testing.T) {
	db := still(t, t.TempDir())
	refs := make([]storage.SeriesRef, 3)
	if err := sendBy(db, refs, t0); err != nil {
		t.Fatal(err)
	}
	if err := db.tsdb.Head().Truncate(t0.Add(-time.Hour).UnixMilli()); err != nil { // begins a segment
		t.Fatal(err)
	}
	db.compaction.commits.Lock()
	_, last, err := segments(filepath.Join(db.opts.Dir, "wal"))
	db.compaction.whole = mark{last - 1, 1 << 20}
	db.compaction.commits.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	db.series.Lock()
	db.lost[1000] = lost{0, numbered("y", 0)}
	db.series.Unlock()
	if err := db.logLost(); err != nil {
		t.Fatal(err)
	}
	if at := db.compaction.whole; at != (mark{last - 1, 0}) || len(db.lost) != 0 {
		t.Errorf("the log is whole up to %v; lost: %v", at, db.lost)
	}
	after := still(t, killedNow(t, db))
	if n := samplesOf(t, after, "x", t0); n != len(refs) {
		t.Errorf("%d of %d samples are there", n, len(refs))
	}
	if n := after.tsdb.Head().NumSeries(); n != uint64(len(refs)) { // that one has no samples
		t.Errorf("%d series", n)
	}
}

// Nothing but introduce makes a series, whatever else the TSDB offers for it.
func TestNothingElseBeginsASeries(t *testing.T) {
	db := still(t, t.TempDir())
	put(t, db, numbered("x", 0), t0, 1)
	inner := db.tsdb.Appender(t.Context())
	if _, err := inner.Append(0, numbered("x", 1), t0.UnixMilli(), 1); !errors.Is(err, errLetGo) {
		t.Errorf("the TSDB's own appender: %v", err)
	}
	app := db.Appender(t.Context())
	if _, err := app.AppendSTZeroSample(0, numbered("x", 1), t0.UnixMilli()+1, t0.UnixMilli()); !errors.Is(err, errLetGo) {
		t.Errorf("the zero at its start: %v", err)
	}
	if err := errors.Join(inner.Rollback(), app.Rollback()); err != nil {
		t.Error(err)
	}
	if n := db.Series(); n != 1 {
		t.Errorf("the head has %d series, want 1", n)
	}
}

// Labels without a value are none, for whoever asks whether a series is there, too.
func TestASeriesWithAnEmptyLabelBeginsOnce(t *testing.T) {
	db := still(t, t.TempDir())
	for n := range 3 {
		put(t, db, labels.FromStrings(labels.MetricName, "x", "none", ""), t0.Add(time.Duration(n)*time.Second), 1)
	}
	if n := len(perTime(t, db, "x")); n != 3 || db.Series() != 1 {
		t.Errorf("%d samples of %d series", n, db.Series())
	}
}

// References outlive their series while senders and compactions go on beside each other.
func TestOldReferencesBesideCompactions(t *testing.T) {
	db := still(t, t.TempDir())
	put(t, db, numbered("live", 0), t0, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range 10 {
			if err := db.compactLate(context.Background()); err != nil {
				t.Error(err)
			}
		}
	}()
	random, refs, sent := rand.New(rand.NewPCG(1, 2)), make([]storage.SeriesRef, 200), map[int64]bool{}
	for n := 0; ; n++ {
		at := t0.Add(-20*time.Hour + time.Duration(n)*time.Second)
		if random.IntN(8) == 0 {
			clear(refs[:random.IntN(len(refs))])
		}
		sendUntilTaken(t, func() error { return sendBy(db, refs, at) })
		sent[at.UnixMilli()] = true
		select {
		case <-ended:
			got := perTime(t, still(t, killedNow(t, db)), "x")
			for at := range sent {
				if got[at] != len(refs) {
					t.Fatalf("%d of %d acknowledged samples at %d are there after a kill", got[at], len(refs), at)
				}
			}
			return
		default:
		}
	}
}
