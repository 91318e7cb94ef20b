package metrics

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/wlog"

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

// A segment to which a lost series was added has what it had, where it was.
func TestALogWithALostSeriesHasTheOthersStill(t *testing.T) {
	db := still(t, t.TempDir())
	refs := make([]storage.SeriesRef, 3)
	if err := sendBy(db, refs, t0); err != nil {
		t.Fatal(err)
	}
	if err := db.tsdb.Head().Truncate(t0.Add(-time.Hour).UnixMilli()); err != nil { // begins a segment
		t.Fatal(err)
	}
	log := filepath.Join(db.opts.Dir, "wal")
	_, last, err := segments(log)
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(wlog.SegmentName(log, last-1))
	if err != nil {
		t.Fatal(err)
	}
	lose(db, numbered("y", 0))
	if err := db.logLost(); err != nil {
		t.Fatal(err)
	}
	if len(db.lost) != 0 {
		t.Errorf("lost: %v", db.lost)
	}
	if raw, err := os.ReadFile(wlog.SegmentName(log, last-1)); err != nil || !bytes.Equal(raw[:len(before)], before) || len(raw) != 2*logPage {
		t.Errorf("%d bytes became %d others: %v", len(before), len(raw), err)
	}
	after := still(t, killedNow(t, db))
	if n := samplesOf(t, after, "x", t0); n != len(refs) {
		t.Errorf("%d of %d samples are there", n, len(refs))
	}
	if n := after.tsdb.Head().NumSeries(); n != uint64(len(refs)) { // that one has no samples
		t.Errorf("%d series", n)
	}
}

// lose has the store hold a series for one that the log lacks.
func lose(db *DB, lset labels.Labels) {
	db.series.Lock()
	defer db.series.Unlock()
	db.lost[1000] = lost{0, lset}
}

// A record that is added to a segment is read behind all others, however long it is.
func TestARecordIsAddedToASegment(t *testing.T) {
	dir := t.TempDir()
	path, tmp := wlog.SegmentName(dir, 0), filepath.Join(t.TempDir(), "tmp")
	if err := os.WriteFile(path, pagesOf([]byte("begin"))[:12], 0o600); err != nil { // as a kill leaves one
		t.Fatal(err)
	}
	want := [][]byte{[]byte("begin")}
	for _, size := range []int{1, logPage - partHeader - 1, logPage - partHeader, logPage - partHeader + 1, 2 * (logPage - partHeader), 200_000} {
		rec := bytes.Repeat([]byte{byte(record.Series)}, size)
		if err := addRecord(path, tmp, rec); err != nil {
			t.Fatal(err)
		}
		want = append(want, rec)
	}
	var got [][]byte
	_, damaged, err := readSegment(path, func(rec []byte) error { got = append(got, rec); return nil })
	if err != nil || damaged || !slices.EqualFunc(got, want, bytes.Equal) {
		t.Errorf("%d records, want %d; damaged: %v; %v", len(got), len(want), damaged, err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)-logPage+partHeader]++
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := addRecord(path, tmp, want[0]); err == nil {
		t.Error("it is added behind damage")
	}
}

// What a full disk or a rename that failed left of adding to a segment is neither kept open nor taken
// for a segment later, and what it was of has what it had.
func TestNothingIsLeftOfASegmentThatCouldNotBeAddedTo(t *testing.T) {
	db := still(t, t.TempDir())
	for n := range 5 {
		if err := send(db, "x", 3000, t0.Add(time.Duration(n)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.tsdb.Head().Truncate(t0.Add(-time.Hour).UnixMilli()); err != nil { // begins a segment
		t.Fatal(err)
	}
	lose(db, numbered("y", 0))
	longer := filepath.Join(db.opts.Dir, longerFile)
	if err := os.Symlink("/dev/full", longer); err != nil {
		t.Fatal(err)
	}
	if err := db.logLost(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("with a full disk: %v", err)
	}
	if _, err := os.Lstat(longer); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
	open, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range open {
		if to, err := os.Readlink(fd); err == nil && to == "/dev/full" {
			t.Errorf("%s is open", to)
		}
	}
	if err := os.WriteFile(longer, bytes.Repeat([]byte{1}, 1<<20), 0o600); err != nil { // of a rename that failed
		t.Fatal(err)
	}
	if err := db.logLost(); err != nil {
		t.Fatal(err)
	}
	if n := len(perTime(t, still(t, killedNow(t, db)), "x")); n != 5 {
		t.Errorf("%d of 5 acknowledged samples of each series are there after a kill", n)
	}
	if err := os.WriteFile(longer, nil, 0o600); err != nil { // of a kill
		t.Fatal(err)
	}
	if err := firstSegment(db.opts.Dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(longer); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left behind by a kill: %v", err)
	}
}

// A snapshot of the head names a place in a segment, from which on a start reads: a series that is
// added to that segment is read, and so is what was there.
func TestASegmentThatASnapshotNamesIsAddedTo(t *testing.T) {
	o := Options{Dir: t.TempDir(), CheckEvery: time.Hour, SnapshotAtClose: true, Now: func() time.Time { return t0 }}
	before, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	<-before.settled
	for n := range 3 {
		if err := send(before, "x", 3000, t0.Add(time.Duration(n)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	if err := before.Close(); err != nil {
		t.Fatal(err)
	}
	db := open(t, o)
	<-db.settled
	app := db.tsdb.Appender(t.Context()) // a series that the log has behind what is of it
	lset := numbered("y", 0)
	db.introduced.Store(&lset)
	ref, err := app.Append(0, lset, t0.UnixMilli(), 1)
	db.introduced.Store(nil)
	if err = errors.Join(err, app.Commit()); err != nil {
		t.Fatal(err)
	}
	db.series.Lock()
	db.lost[ref] = lost{0, lset}
	db.series.Unlock()
	log := filepath.Join(db.opts.Dir, "wal")
	_, last, err := segments(log)
	if err != nil {
		t.Fatal(err)
	}
	if err := withoutSeries(wlog.SegmentName(log, last)); err != nil {
		t.Fatal(err)
	}
	if err := db.logLost(); err != nil {
		t.Fatal(err)
	}
	o.Dir = killedNow(t, db)
	if snapshots, err := filepath.Glob(filepath.Join(o.Dir, "chunk_snapshot.*")); err != nil || len(snapshots) != 1 {
		t.Fatal(snapshots, err)
	}
	after := open(t, o)
	if x, y := len(perTime(t, after, "x")), len(perTime(t, after, "y")); x != 3 || y != 1 {
		t.Errorf("after a kill %d of 3 and %d of 1 acknowledged samples of each series are there", x, y)
	}
}

// withoutSeries takes the records of series out of a segment.
func withoutSeries(path string) error {
	var out []byte
	dec := record.NewDecoder(labels.NewSymbolTable(), nil)
	_, _, err := readSegment(path, func(rec []byte) error {
		if dec.Type(rec) != record.Series {
			out = append(out, pagesOf(rec)...)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return os.WriteFile(path, out, 0o600)
}

// A series that cannot be logged keeps nobody from writing the head: it alone is refused.
func TestTheHeadIsWrittenThoughASeriesCannotBeLogged(t *testing.T) {
	dir := t.TempDir()
	db := open(t, Options{Dir: dir, CheckEvery: 5 * time.Millisecond, Now: func() time.Time { return t0 }})
	<-db.settled
	wal := filepath.Join(dir, "wal")
	_, last, err := segments(wal)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(wlog.SegmentName(wal, last-1), []byte("\x01\x00\x05abcd12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	lose(db, numbered("y", 0))
	for n := range 5 {
		put(t, db, numbered("x", 0), t0.Add(time.Duration(n)*time.Hour), 1)
	}
	for began := time.Now(); len(db.tsdb.Blocks()) == 0; <-time.After(time.Millisecond) {
		if time.Since(began) > 10*time.Second {
			t.Fatal("no block of the head is written")
		}
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
