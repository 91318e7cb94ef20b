package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"go.uber.org/goleak"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var t0 = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

func open(t testing.TB, o Options) *DB {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	db, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func put(t testing.TB, db *DB, lset labels.Labels, at time.Time, v float64) {
	t.Helper()
	app := db.Appender(context.Background())
	if _, err := app.Append(0, lset, at.UnixMilli(), v); err != nil {
		t.Fatalf("append %s at %s: %v", lset, at, err)
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
}

// values reads a metric: the values by time in seconds after t0.
func values(t testing.TB, db *DB, name string) map[int64]float64 {
	t.Helper()
	q, err := db.Querier(math.MinInt64, math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = q.Close() }()
	out := map[int64]float64{}
	set := q.Select(context.Background(), false, nil, labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, name))
	for set.Next() {
		it := set.At().Iterator(nil)
		for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
			at, v := it.At()
			out[(at-t0.UnixMilli())/1000] = v
		}
		if it.Err() != nil {
			t.Fatal(it.Err())
		}
	}
	if set.Err() != nil {
		t.Fatal(set.Err())
	}
	return out
}

func TestSamplesSurviveAKill(t *testing.T) {
	dir := t.TempDir()
	db := open(t, Options{Dir: dir})
	x := labels.FromStrings(labels.MetricName, "x")
	put(t, db, x, t0, 1)
	put(t, db, x, t0.Add(time.Hour), 2)
	put(t, db, x, t0.Add(-40*time.Hour), 3) // out of order
	// What a killed process leaves is what is in the files now.
	copied := filepath.Join(t.TempDir(), "copy")
	if err := copyTree(dir, copied); err != nil {
		t.Fatal(err)
	}
	again := open(t, Options{Dir: copied})
	got := values(t, again, "x")
	if len(got) != 3 || got[0] != 1 || got[3600] != 2 || got[-40*3600] != 3 {
		t.Errorf("got %v, want all three samples", got)
	}
}

func TestOutOfOrderWindow(t *testing.T) {
	db := open(t, Options{})
	x := labels.FromStrings(labels.MetricName, "x")
	put(t, db, x, t0, 1)
	put(t, db, x, t0.Add(-48*time.Hour), 2)
	app := db.Appender(context.Background())
	if _, err := app.Append(0, x, t0.Add(-48*time.Hour-time.Second).UnixMilli(), 3); err == nil {
		t.Error("a sample older than the window was taken")
	}
	_ = app.Rollback()
}

func TestHistogramsAndExemplarsAreKept(t *testing.T) {
	db := open(t, Options{})
	ctx := context.Background()
	lset := labels.FromStrings(labels.MetricName, "h")
	app := db.Appender(ctx)
	want := tsdbutil.GenerateTestHistogram(3)
	if _, err := app.AppendHistogram(0, lset, t0.UnixMilli(), want, nil); err != nil {
		t.Fatal(err)
	}
	ex := exemplar.Exemplar{Labels: labels.FromStrings("trace_id", "abc"), Value: 1, Ts: t0.UnixMilli(), HasTs: true}
	if _, err := app.AppendExemplar(0, lset, ex); err != nil {
		t.Fatal(err)
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	m := labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, "h")
	q, err := db.Querier(t0.UnixMilli(), t0.UnixMilli())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = q.Close() }()
	set := q.Select(ctx, false, nil, m)
	if !set.Next() {
		t.Fatal("no histogram")
	}
	it := set.At().Iterator(nil)
	if it.Next() != chunkenc.ValHistogram {
		t.Fatal("the sample is no histogram")
	}
	var got *histogram.Histogram
	if _, got = it.AtHistogram(nil); !got.Equals(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	eq, err := db.ExemplarQuerier(ctx)
	if err != nil {
		t.Fatal(err)
	}
	res, err := eq.Select(t0.UnixMilli(), t0.UnixMilli(), []*labels.Matcher{m})
	if err != nil || len(res) != 1 || len(res[0].Exemplars) != 1 || !res[0].Exemplars[0].Equals(ex) {
		t.Errorf("got exemplars %v, %v", res, err)
	}
}

func TestSecondOpenIsRefused(t *testing.T) {
	if dir := os.Getenv("CROWSNEST_TEST_OPEN"); dir != "" { // the other process
		_, err := Open(Options{Dir: dir})
		fmt.Print(errors.Is(err, fault.ErrConflict), " ", err)
		return
	}
	db := open(t, Options{})
	cmd := exec.Command(os.Args[0], "-test.run=^TestSecondOpenIsRefused$")
	cmd.Env = append(os.Environ(), "CROWSNEST_TEST_OPEN="+db.opts.Dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if s := string(out); !strings.HasPrefix(s, "true ") || !strings.Contains(s, "another process has "+db.opts.Dir+" open") {
		t.Errorf("got %s", s)
	}
	put(t, db, labels.FromStrings(labels.MetricName, "x"), t0, 1) // and the first goes on
}

func TestUnwritableFolderIsSaidAtOpen(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]Options{
		"below a file": {Dir: filepath.Join(file, "metrics")},
		"read-only":    {Dir: t.TempDir(), Probe: func(string) error { return syscall.EROFS }},
		"full":         {Dir: t.TempDir(), Probe: func(string) error { return syscall.ENOSPC }},
	} {
		_, err := Open(o)
		if !errors.Is(err, fault.ErrUnavailable) || !strings.Contains(err.Error(), o.Dir) {
			t.Errorf("%s: got %v, want it unavailable, naming the folder", name, err)
		}
	}
}

// A full disk does not keep what is there from being read.
func TestAStoreOpensOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	db := open(t, Options{Dir: dir})
	put(t, db, labels.FromStrings(labels.MetricName, "x"), t0, 1)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	var room atomic.Bool
	var now atomic.Int64
	now.Store(t0.UnixNano())
	db = open(t, Options{Dir: dir, Now: func() time.Time { return time.Unix(0, now.Load()) }, Probe: func(string) error {
		if room.Load() {
			return nil
		}
		return fmt.Errorf("write: %w", syscall.ENOSPC)
	}})
	if got := values(t, db, "x"); len(got) != 1 {
		t.Errorf("of one sample %v is read", got)
	}
	if err := db.ReadOnly(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v, want that the disk is full", err)
	}
	room.Store(true)
	now.Add(int64(askReadOnly))
	if err := db.ReadOnly(); err != nil {
		t.Errorf("with room: %v", err)
	}
}

func TestReadOnlyWhileSpaceIsShortAndBackByItself(t *testing.T) {
	var free atomic.Uint64
	var probing atomic.Pointer[error]
	now := atomic.Int64{}
	now.Store(t0.UnixNano())
	free.Store(10 << 30)
	reg := prometheus.NewRegistry()
	db := open(t, Options{
		Registerer: reg, Now: func() time.Time { return time.Unix(0, now.Load()) },
		FreeBytes: func(string) (uint64, error) { return free.Load(), nil },
		Probe: func(string) error {
			if e := probing.Load(); e != nil {
				return *e
			}
			return nil
		},
	})
	pass := func(d time.Duration) { now.Add(int64(d)) }
	if err := db.ReadOnly(); err != nil {
		t.Fatal(err)
	}
	free.Store(100 << 20)
	pass(askWritable)
	if err := db.ReadOnly(); !errors.Is(err, fault.ErrUnavailable) || !strings.Contains(err.Error(), "100 MiB free") {
		t.Fatalf("got %v, want it unavailable, naming the free space", err)
	}
	if got := testutil.ToFloat64(db.metrics.readOnly); got != 1 {
		t.Errorf("gauge %v", got)
	}
	free.Store(10 << 30)
	pass(askReadOnly)
	if err := db.ReadOnly(); err != nil {
		t.Fatalf("space is back: %v", err)
	}

	// A write that failed turns it read-only at once, until a probe succeeds.
	broken := error(syscall.EIO)
	probing.Store(&broken)
	if err := db.commit(func() error { return syscall.EIO }, nil); !errors.Is(err, fault.ErrUnavailable) || !errors.Is(err, syscall.EIO) {
		t.Fatalf("got %v", err)
	}
	if db.ReadOnly() == nil {
		t.Fatal("a failed write did not turn it read-only")
	}
	pass(askReadOnly)
	if db.ReadOnly() == nil {
		t.Fatal("writable although the probe fails")
	}
	probing.Store(nil)
	pass(askReadOnly)
	if err := db.ReadOnly(); err != nil {
		t.Fatalf("the probe succeeds again: %v", err)
	}
}

func TestOptionsAreRefusedAllAtOnce(t *testing.T) {
	_, err := Open(Options{Retention: time.Hour, MaxBytes: -1})
	for _, want := range []string{"Dir is required", "Retention", "MaxBytes"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to name %s", err, want)
		}
	}
}

func TestOutOfOrderLogIsCompactedBySize(t *testing.T) {
	db := open(t, Options{OutOfOrderLogBytes: 1})
	x := labels.FromStrings(labels.MetricName, "x")
	put(t, db, x, t0, 1)
	put(t, db, x, t0.Add(-10*time.Hour), 2)
	if err := db.compactOutOfOrder(context.Background()); err != nil {
		t.Fatal(err)
	}
	if n := testutil.ToFloat64(db.metrics.outOfOrderCompactions); n != 1 {
		t.Errorf("%v compactions", n)
	}
	if metas, _ := db.BlockMetas(); len(metas) != 1 {
		t.Errorf("blocks %v, want one of the out-of-order sample", metas)
	}
	if got := values(t, db, "x"); len(got) != 2 || got[-36000] != 2 {
		t.Errorf("got %v", got)
	}
}

func TestSelfMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	newMetrics(reg)
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
}

// writeBlock makes a block of series x{n=…} with a sample each step of [from, to).
func writeBlock(t testing.TB, dir string, series int, from, to time.Time, step time.Duration, v float64) {
	t.Helper()
	w, err := tsdb.NewBlockWriter(slog.New(slog.NewTextHandler(io.Discard, nil)), dir, to.Sub(from).Milliseconds()*2)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	ctx := context.Background()
	for at := from; at.Before(to); at = at.Add(step) {
		app := w.Appender(ctx)
		for n := range series {
			if _, err := app.Append(0, labels.FromStrings(labels.MetricName, "x", "n", fmt.Sprint(n)), at.UnixMilli(), v); err != nil {
				t.Fatal(err)
			}
		}
		if err := app.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestImportedBlocksAreThereAtOnceAndStay(t *testing.T) {
	now := t0.Add(17 * time.Minute)
	dir := t.TempDir()
	db := open(t, Options{Dir: dir, Now: func() time.Time { return now }})
	put(t, db, labels.FromStrings(labels.MetricName, "live"), now, 1)
	put(t, db, labels.FromStrings(labels.MetricName, "x", "n", "0"), now, 7)

	in := t.TempDir()
	old := now.Add(-60 * 24 * time.Hour)
	writeBlock(t, in, 2, old, old.Add(2*time.Hour), time.Minute, 1)
	writeBlock(t, in, 2, old.Add(time.Hour), old.Add(3*time.Hour), time.Minute, 1) // overlaps
	// Reaches into the head's own time, and up to now.
	writeBlock(t, in, 2, now.Add(-6*time.Hour), now.Add(-time.Minute), time.Minute, 2)
	if err := db.ImportBlocks(context.Background(), in); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(in); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	count := func(db *DB) int { return len(values(t, db, "x")) }
	want := 180 + 359 + 1
	if got := count(db); got != want {
		t.Fatalf("got %d points, want %d", got, want)
	}
	// The block of the newest hours must not end inside the head.
	border := db.headStart()
	metas, _ := db.BlockMetas()
	for _, m := range metas {
		if m.MaxTime > border && !m.Compaction.FromOutOfOrder() {
			t.Errorf("block %s ends at %s, inside the head, which begins at %s", m.ULID, time.UnixMilli(m.MaxTime).UTC(), time.UnixMilli(border).UTC())
		}
	}
	if err := db.ImportBlocks(context.Background(), in); err != nil { // again: nothing to do
		t.Fatal(err)
	}
	if err := db.compact(context.Background()); err != nil { // merges the overlap
		t.Fatal(err)
	}
	if got := count(db); got != want {
		t.Errorf("after compaction: %d points, want %d", got, want)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	again := open(t, Options{Dir: dir, Now: func() time.Time { return now }})
	if got := count(again); got != want {
		t.Errorf("after a restart: %d points, want %d", got, want)
	}
	if got := values(t, again, "live"); len(got) != 1 {
		t.Errorf("after a restart the head's own sample is gone: %v", got)
	}
	// And live samples go on.
	put(t, again, labels.FromStrings(labels.MetricName, "x", "n", "1"), now.Add(30*time.Second), 8)
}

func TestImportIntoAnEmptyStore(t *testing.T) {
	now := t0.Add(17 * time.Minute)
	dir := t.TempDir()
	db := open(t, Options{Dir: dir, Now: func() time.Time { return now }})
	in := t.TempDir()
	writeBlock(t, in, 3, now.Add(-5*time.Hour), now.Add(-time.Second), 30*time.Second, 2)
	want := 600
	if err := db.ImportBlocks(context.Background(), in); err != nil {
		t.Fatal(err)
	}
	if got := len(values(t, db, "x")); got != want {
		t.Errorf("got %d points, want %d", got, want)
	}
	put(t, db, labels.FromStrings(labels.MetricName, "x", "n", "0"), now, 8)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	again := open(t, Options{Dir: dir, Now: func() time.Time { return now }})
	if got := len(values(t, again, "x")); got != want+1 {
		t.Errorf("after a restart: %d points, want %d", got, want+1)
	}
}

func TestBlocksPastTheRetentionGo(t *testing.T) {
	now := t0
	db := open(t, Options{Retention: 10 * 24 * time.Hour, Now: func() time.Time { return now }})
	put(t, db, labels.FromStrings(labels.MetricName, "live"), now, 1)
	in := t.TempDir()
	writeBlock(t, in, 1, now.Add(-20*24*time.Hour), now.Add(-20*24*time.Hour+time.Hour), time.Minute, 1)
	writeBlock(t, in, 1, now.Add(-5*time.Hour), now.Add(-4*time.Hour), time.Minute, 2)
	if err := db.ImportBlocks(context.Background(), in); err != nil {
		t.Fatal(err)
	}
	if got := len(values(t, db, "x")); got != 60 {
		t.Errorf("got %d points, want the 60 within the retention", got)
	}
}

func TestBrokenBlockIsRefusedAndNothingTaken(t *testing.T) {
	db := open(t, Options{Now: func() time.Time { return t0 }})
	in := t.TempDir()
	writeBlock(t, in, 1, t0.Add(-50*time.Hour), t0.Add(-49*time.Hour), time.Minute, 1)
	writeBlock(t, in, 1, t0.Add(-40*time.Hour), t0.Add(-39*time.Hour), time.Minute, 1)
	entries, _ := os.ReadDir(in)
	if err := os.Remove(filepath.Join(in, entries[1].Name(), "index")); err != nil {
		t.Fatal(err)
	}
	err := db.ImportBlocks(context.Background(), in)
	if !errors.Is(err, fault.ErrInvalid) || !strings.Contains(err.Error(), entries[1].Name()) {
		t.Errorf("got %v, want the broken block named", err)
	}
	if left, _ := os.ReadDir(in); len(left) != 2 {
		t.Errorf("left %v, want both", left)
	}
	if got := values(t, db, "x"); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}

func TestMoveAcrossFileSystems(t *testing.T) {
	in, to := t.TempDir(), t.TempDir()
	writeBlock(t, in, 1, t0, t0.Add(time.Hour), time.Minute, 1)
	entries, _ := os.ReadDir(in)
	name := entries[0].Name()
	if err := copyTree(filepath.Join(in, name), filepath.Join(to, name)); err != nil {
		t.Fatal(err)
	}
	b, err := tsdb.OpenBlock(nil, filepath.Join(to, name), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if b.Meta().Stats.NumSamples != 60 {
		t.Errorf("got %+v", b.Meta().Stats)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := moveBlock(filepath.Join(in, name), filepath.Join(to, name)); err != nil { // it is there already
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(in); len(left) != 0 {
		t.Errorf("left %v", left)
	}
}
