package metrics

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/wlog"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// killed gives the folder as a kill leaves it now.
func killed(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "killed")
	if err := copyTree(dir, to); err != nil {
		t.Fatal(err)
	}
	return to
}

// still is a store whose maintenance does nothing by itself.
func still(t *testing.T, dir string) *DB {
	t.Helper()
	db := open(t, Options{Dir: dir, CheckEvery: time.Hour, Now: func() time.Time { return t0 }})
	<-db.settled
	return db
}

// Samples that are out of order are kept by kill after kill, wherever they are:
// more than a chunk of each series, so that the TSDB's log names chunks whose
// files the kills cut short.
func TestLateSamplesOutliveKills(t *testing.T) {
	dir := t.TempDir()
	x := labels.FromStrings(labels.MetricName, "x")
	want := 0
	for round := range 5 {
		db := still(t, dir)
		put(t, db, x, t0.Add(time.Duration(round)*time.Minute), 1)
		want++
		for n := range 50 {
			put(t, db, x, t0.Add(-20*time.Hour+time.Duration(round*50+n)*time.Second), 2)
			want++
		}
		dir = killed(t, dir)
		if got := len(values(t, still(t, killed(t, dir)), "x")); got != want {
			t.Fatalf("after kill %d: %d samples, want %d", round+1, got, want)
		}
	}
}

// While a compaction writes, the samples that it has collected are in the log
// only, and what comes meanwhile is logged behind the marker 0.
func TestLateSamplesOutliveAKillInACompaction(t *testing.T) {
	dir := t.TempDir()
	x := labels.FromStrings(labels.MetricName, "x")
	db := still(t, dir)
	put(t, db, x, t0, 1)
	put(t, db, x, t0.Add(-20*time.Hour), 2)
	before := killed(t, dir)
	if err := db.compactLate(context.Background()); err != nil {
		t.Fatal(err)
	}
	put(t, db, x, t0.Add(-19*time.Hour), 3)
	after := killed(t, dir)
	// The kill came before the first block was there.
	blocks, err := filepath.Glob(filepath.Join(after, "01*"))
	if err != nil || len(blocks) != 1 {
		t.Fatalf("blocks %v, %v", blocks, err)
	}
	if err := errors.Join(os.RemoveAll(blocks[0]), os.RemoveAll(filepath.Join(after, "chunks_head"))); err != nil {
		t.Fatal(err)
	}
	first, last, err := wlog.Segments(filepath.Join(before, "wbl"))
	if err != nil {
		t.Fatal(err)
	}
	for n := first; n <= last; n++ {
		if err := copyFile(wlog.SegmentName(filepath.Join(before, "wbl"), n), wlog.SegmentName(filepath.Join(after, "wbl"), n)); err != nil {
			t.Fatal(err)
		}
	}
	if got := values(t, still(t, after), "x"); len(got) != 3 {
		t.Errorf("%v", got)
	}
}

// A log whose end a kill tore is repaired, and the out-of-order log read all the
// same.
func TestLateSamplesOutliveATornLog(t *testing.T) {
	dir := t.TempDir()
	x := labels.FromStrings(labels.MetricName, "x")
	db := still(t, dir)
	put(t, db, x, t0, 1)
	put(t, db, x, t0.Add(-20*time.Hour), 2)
	put(t, db, x, t0.Add(time.Minute), 3)
	dir = killed(t, dir)
	last := lastSegment(t, filepath.Join(dir, "wal"))
	raw, err := os.ReadFile(last)
	if err != nil {
		t.Fatal(err)
	}
	raw = bytes.TrimRight(raw, "\x00") // the rest of the page
	if err := os.WriteFile(last, raw[:len(raw)-5], 0o600); err != nil {
		t.Fatal(err)
	}
	db = still(t, dir)
	if err := db.compactLate(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := values(t, still(t, killed(t, dir)), "x"); len(got) != 2 || got[-20*3600] != 2 {
		t.Errorf("%v", got)
	}
}

// A block of late samples that reaches beyond the head's blocks is not merged
// with these: a start would take the log up to its end for stored.
func TestMergedLateSamplesDoNotHideTheLog(t *testing.T) {
	dir := t.TempDir()
	start := t0.Truncate(6 * time.Hour)
	// The head's blocks of two thirds of a range, and samples up to behind it.
	x := labels.FromStrings(labels.MetricName, "x")
	db := still(t, dir)
	want := 0
	for n := range 12 * 31 { // 6 h 12 m by minute
		put(t, db, x, start.Add(time.Duration(n)*time.Minute), 1)
		want++
	}
	if err := db.compact(context.Background()); err != nil {
		t.Fatal(err)
	}
	for _, at := range []time.Duration{5 * time.Hour, 6*time.Hour + time.Minute} {
		put(t, db, x, start.Add(at+30*time.Second), 2)
		want++
	}
	if err := db.compactLate(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := db.compact(context.Background()); err != nil {
		t.Fatal(err)
	}
	metas, err := db.BlockMetas()
	if err != nil || len(metas) < 3 {
		t.Fatalf("blocks %v, %v", metas, err)
	}
	if got := len(values(t, still(t, killed(t, dir)), "x")); got != want {
		t.Errorf("%d samples, want %d", got, want)
	}
}

// What an import brings does not hide the log either.
func TestImportedBlockDoesNotHideTheLog(t *testing.T) {
	dir, in := t.TempDir(), t.TempDir()
	writeBlock(t, in, 1, t0.Truncate(2*time.Hour).Add(-time.Hour), t0.Truncate(2*time.Hour).Add(-time.Minute), time.Minute, 1)
	db := still(t, dir)
	if err := db.ImportBlocks(context.Background(), in); err != nil {
		t.Fatal(err)
	}
	put(t, db, labels.FromStrings(labels.MetricName, "y"), t0.Truncate(2*time.Hour).Add(-30*time.Minute), 1)
	if got := len(values(t, still(t, killed(t, dir)), "y")); got != 1 {
		t.Errorf("%d samples", got)
	}
}

// A series is in the log before a second writer can use it: else the log has the
// second writer's samples before it says what they are of, and a start drops them.
func TestTwoWritersOfANewSeries(t *testing.T) {
	dir := t.TempDir()
	db := still(t, dir)
	x := labels.FromStrings(labels.MetricName, "x")
	slow := db.Appender(context.Background())
	if _, err := slow.Append(0, x, t0.UnixMilli(), 1); err != nil {
		t.Fatal(err)
	}
	put(t, db, x, t0.Add(time.Second), 2)
	if got := values(t, still(t, killed(t, dir)), "x"); len(got) != 1 || got[1] != 2 {
		t.Errorf("%v", got)
	}
	if err := slow.Commit(); err != nil {
		t.Fatal(err)
	}
	if got := values(t, still(t, killed(t, dir)), "x"); len(got) != 2 {
		t.Errorf("%v", got)
	}
}

// The TSDB acknowledges a commit whose late samples it could not log.
func TestLateSamplesThatWereNotLoggedAreNotAcknowledged(t *testing.T) {
	db := still(t, t.TempDir())
	if db.registry.watch == nil {
		t.Fatalf("the TSDB has no counter %s any more", lateFailures)
	}
	reg := &registry{}
	failures := promauto.With(prometheus.WrapRegistererWithPrefix("prometheus_tsdb_out_of_order_wbl_", reg)).
		NewCounter(prometheus.CounterOpts{Name: "writes_failed_total", Help: "As the TSDB's."})
	db.registry = reg
	if err := db.commit(func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	if err := db.commit(func() error { failures.Inc(); return nil }); !errors.Is(err, fault.ErrUnavailable) || db.ReadOnly() == nil {
		t.Errorf("%v, read-only %v", err, db.ReadOnly())
	}
}

// Commits wait until a compaction knows what it takes.
func TestCommitsWaitForTheCollectionOfLateSamples(t *testing.T) {
	db := still(t, t.TempDir())
	x := labels.FromStrings(labels.MetricName, "x")
	put(t, db, x, t0, 1)
	put(t, db, x, t0.Add(-20*time.Hour), 2)
	inCommit, goOn, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		_ = db.commit(func() error { close(inCommit); <-goOn; return nil })
	}()
	<-inCommit
	go func() { done <- db.compactLate(context.Background()) }()
	// Once the compaction waits, no further commit gets in.
	for db.compaction.commits.TryRLock() {
		db.compaction.commits.RUnlock()
	}
	select {
	case err := <-done:
		t.Fatalf("it did not wait: %v", err)
	default:
	}
	close(goOn)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	put(t, db, x, t0.Add(-19*time.Hour), 3)
	if got := values(t, db, "x"); len(got) != 3 {
		t.Errorf("%v", got)
	}
}
