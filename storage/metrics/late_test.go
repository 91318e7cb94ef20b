package metrics

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
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
	for _, name := range []string{logFailures, lateFailures} {
		if db.registry.watch[name] == nil {
			t.Fatalf("the TSDB has no counter %s any more", name)
		}
	}
	reg := &registry{}
	failures := promauto.With(prometheus.WrapRegistererWithPrefix("prometheus_tsdb_out_of_order_wbl_", reg)).
		NewCounter(prometheus.CounterOpts{Name: "writes_failed_total", Help: "As the TSDB's."})
	db.registry = reg
	db.space.minFree = math.MaxUint64 // so it is not mended
	if err := db.commit(func() error { return nil }, nil); err != nil {
		t.Fatal(err)
	}
	if err := db.commit(func() error { failures.Inc(); return nil }, nil); !errors.Is(err, fault.ErrUnavailable) || db.ReadOnly() == nil {
		t.Errorf("%v, read-only %v", err, db.ReadOnly())
	}
}

// A collector may have no counter of a name that it describes, or more than it.
func TestRegisteringWaitsForNoCounter(t *testing.T) {
	for n := range 3 {
		reg := &registry{}
		vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: logFailures, Help: "As the TSDB's."}, []string{"log"})
		for i := range n {
			vec.WithLabelValues(strconv.Itoa(i)).Inc()
		}
		reg.MustRegister(vec)
		if got := reg.count(logFailures); got != float64(min(n, 1)) {
			t.Errorf("of %d counters one is %g", n, got)
		}
	}
}

// A request of many late samples is committed in parts, and kept or taken back whole.
func TestManyLateSamplesAtOnce(t *testing.T) {
	dir := t.TempDir()
	db := still(t, dir)
	names := make([]labels.Labels, 3*lateAtOnce+7)
	for i := range names {
		names[i] = labels.FromStrings(labels.MetricName, "x", "n", strconv.Itoa(i))
	}
	write := func(at time.Time, end func(storage.Appender) error) *appender {
		t.Helper()
		app := db.Appender(t.Context())
		for _, lset := range names {
			if _, err := app.Append(0, lset, at.UnixMilli(), 1); err != nil {
				t.Fatal(err)
			}
		}
		if err := end(app); err != nil {
			t.Fatal(err)
		}
		return app.(*appender)
	}
	if parts := len(write(t0, storage.Appender.Commit).full); parts != 0 {
		t.Errorf("samples that are not late are committed in %d parts and one", parts)
	}
	if parts := len(write(t0.Add(-time.Hour), storage.Appender.Commit).full); parts != 3 {
		t.Errorf("late ones are committed in %d parts and one", parts)
	}
	write(t0.Add(-2*time.Hour), storage.Appender.Rollback)
	for where, db := range map[string]*DB{"store": db, "after a kill": still(t, killed(t, dir))} {
		for at, want := range map[time.Time]int{t0: len(names), t0.Add(-time.Hour): len(names), t0.Add(-2 * time.Hour): 0} {
			q, err := db.Querier(at.UnixMilli(), at.UnixMilli())
			if err != nil {
				t.Fatal(err)
			}
			got := 0
			for set := q.Select(t.Context(), false, nil, labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, "x")); set.Next(); {
				for it := set.At().Iterator(nil); it.Next() != chunkenc.ValNone; got++ {
				}
			}
			if err := q.Close(); err != nil || got != want {
				t.Errorf("%s: %d samples at %s, want %d: %v", where, got, at.Format(time.TimeOnly), want, err)
			}
		}
	}
}

// Samples that are newer than all of their series are committed together, though another
// series has one that is newer still; but for those that the head takes as late in any case.
func TestSamplesThatAreNotLateGoTogether(t *testing.T) {
	dir := t.TempDir()
	db := still(t, dir)
	put(t, db, labels.FromStrings(labels.MetricName, "ahead"), t0.Add(time.Hour), 1)
	times := []struct {
		at    time.Time
		parts int
	}{{t0, 0}, {t0.Add(time.Second), 0}, {t0.Add(-time.Hour), 3}} // the last ones are late, whatever is said of them
	for _, of := range times {
		app := db.Appender(t.Context()).(*appender)
		for i := range 3*lateAtOnce + 7 {
			if _, err := app.AppendNewest(0, labels.FromStrings(labels.MetricName, "x", "n", strconv.Itoa(i)), of.at.UnixMilli(), 1); err != nil {
				t.Fatal(err)
			}
		}
		if err := app.Commit(); err != nil || len(app.full) != of.parts {
			t.Errorf("committed in %d parts and one: %v", len(app.full), err)
		}
	}
	for where, db := range map[string]*DB{"store": db, "after a kill": still(t, killed(t, dir))} {
		if got := samplesAround(t, db, "x"); got != len(times)*(3*lateAtOnce+7) {
			t.Errorf("%s: %d samples", where, got)
		}
	}
}

// samplesAround counts those of an hour before and after t0.
func samplesAround(t *testing.T, db *DB, name string) (n int) {
	t.Helper()
	q, err := db.Querier(t0.Add(-time.Hour).UnixMilli(), t0.Add(time.Hour).UnixMilli())
	if err != nil {
		t.Fatal(err)
	}
	for set := q.Select(t.Context(), false, nil, labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, name)); set.Next(); {
		for it := set.At().Iterator(nil); it.Next() != chunkenc.ValNone; n++ {
		}
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	return n
}

// The TSDB keeps the room that a commit took, so what is not late has its bound, too.
func TestManySamplesGoInParts(t *testing.T) {
	dir := t.TempDir()
	db := still(t, dir)
	app := db.Appender(t.Context()).(*appender)
	const samples = 2*atOnce + 5
	for i := range samples {
		if _, err := app.AppendNewest(0, numbered("x", i%(atOnce/2)), t0.Add(time.Duration(i/(atOnce/2))*time.Second).UnixMilli(), 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := app.Commit(); err != nil || len(app.full) != 2 {
		t.Errorf("committed in %d parts and one: %v", len(app.full), err)
	}
	if got := samplesAround(t, still(t, killed(t, dir)), "x"); got != samples {
		t.Errorf("%d of %d samples are there after a kill", got, samples)
	}
	app = db.Appender(t.Context()).(*appender)
	for i := range atOnce + 1 {
		if _, err := app.AppendHistogram(0, labels.FromStrings(labels.MetricName, "h"), t0.Add(time.Hour+time.Duration(i)*time.Second).UnixMilli(), tsdbutil.GenerateTestHistogram(1), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := app.Rollback(); err != nil || len(app.full) != 1 {
		t.Errorf("histograms are taken back in %d parts and one: %v", len(app.full), err)
	}
}

// Where series have several samples each, more go into a part, by series and by samples.
func TestPartsOfManyLateSamplesEach(t *testing.T) {
	db := still(t, t.TempDir())
	put(t, db, labels.FromStrings(labels.MetricName, "newest"), t0, 1)
	refs := make([]storage.SeriesRef, 300)
	app := db.Appender(t.Context())
	for i := range refs {
		var err error
		if refs[i], err = app.Append(0, labels.FromStrings(labels.MetricName, "x", "n", strconv.Itoa(i)), t0.Add(-time.Hour).UnixMilli(), 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	for samples, want := range map[int]int{1: 2, 4: 2, 8: 4} { // full parts of 128 series, and of 512 samples
		app := db.Appender(t.Context())
		for _, ref := range refs {
			for n := range samples {
				if _, err := app.Append(ref, labels.EmptyLabels(), t0.Add(-time.Duration(samples)*time.Hour-time.Duration(n)*time.Second).UnixMilli(), 1); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := app.Commit(); err != nil {
			t.Fatal(err)
		}
		if got := len(app.(*appender).full); got != want {
			t.Errorf("%d samples each are committed in %d parts and one, want %d", samples, got, want)
		}
	}
}

// A late request of a large sender, each of whose series begins a chunk by it.
func BenchmarkLateCommit(b *testing.B) {
	db := open(b, Options{CheckEvery: time.Hour, Now: func() time.Time { return t0 }})
	names := make([]labels.Labels, 10_000)
	for i := range names {
		names[i] = labels.FromStrings(labels.MetricName, "x", "n", strconv.Itoa(i))
	}
	write := func(at time.Time) {
		app := db.Appender(b.Context())
		for _, lset := range names {
			if _, err := app.Append(0, lset, at.UnixMilli(), 1); err != nil {
				b.Fatal(err)
			}
		}
		if err := app.Commit(); err != nil {
			b.Fatal(err)
		}
	}
	write(t0)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		write(t0.Add(-20*time.Hour + time.Duration(n)*time.Second))
		for n++; n%32 != 1; n++ { // the rest of the chunks
			b.StopTimer()
			write(t0.Add(-20*time.Hour + time.Duration(n)*time.Second))
			b.StartTimer()
		}
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
		_ = db.commit(func() error { close(inCommit); <-goOn; return nil }, nil)
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

// The log does not hold for hours what blocks have already, and a kill at any time
// leaves all samples there: in order and not, of series that live and that are over.
func TestTheLogIsTrimmedOfLateSamples(t *testing.T) {
	dir := t.TempDir()
	db := still(t, dir)
	db.opts.OutOfOrderLogBytes = 1
	live, over := labels.FromStrings(labels.MetricName, "live"), func(n int) labels.Labels {
		return labels.FromStrings(labels.MetricName, "over", "n", fmt.Sprint(n))
	}
	wantLive, wantOver := map[int64]float64{}, map[int64]float64{}
	one := func(lset labels.Labels, want map[int64]float64, at time.Time, v float64) {
		put(t, db, lset, at, v)
		want[int64(at.Sub(t0).Seconds())] = v
	}
	checkpoints := func() (n int) {
		entries, err := os.ReadDir(filepath.Join(dir, "wal"))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), "checkpoint.") {
				n++
			}
		}
		return n
	}
	const rounds = 8
	wantMany := map[int64]float64{}
	random := rand.New(rand.NewPCG(1, 2)) // or they take no room when compressed
	many := func(from time.Time) {
		app := db.Appender(t.Context())
		for i := range 3000 {
			at, v := from.Add(time.Duration(i)*time.Second), random.Float64()
			if _, err := app.Append(0, labels.FromStrings(labels.MetricName, "many"), at.UnixMilli(), v); err != nil {
				t.Fatal(err)
			}
			wantMany[int64(at.Sub(t0).Seconds())] = v
		}
		if err := app.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	for n := range rounds {
		many(t0.Add(time.Duration(n-11) * 50 * time.Minute))
		one(live, wantLive, t0.Add(time.Duration(n)*time.Minute), float64(n))
		one(live, wantLive, t0.Add(time.Duration(n-600)*time.Minute), float64(n))
		one(over(n), wantOver, t0.Add(time.Duration(n-600)*time.Minute), float64(n))
		if err := db.compactOutOfOrder(t.Context()); err != nil {
			t.Fatal(err)
		}
		one(live, wantLive, t0.Add(time.Duration(n-300)*time.Minute), float64(n)) // in no block yet
		one(over(n), wantOver, t0.Add(time.Duration(n-300)*time.Minute), float64(n))
	}
	if n := checkpoints(); n != 1 {
		t.Fatalf("%d checkpoints of the log after %d rounds", n, rounds)
	}
	for range 2 {
		dir = killed(t, dir)
		db = still(t, dir)
		for name, want := range map[string]map[int64]float64{"live": wantLive, "over": wantOver, "many": wantMany} {
			if got := values(t, db, name); !maps.Equal(got, want) {
				t.Errorf("%s: got %d samples, want %d: %.300s", name, len(got), len(want), fmt.Sprint(got))
			}
		}
	}
	if mint := time.UnixMilli(db.tsdb.Head().MinTime()); mint.Before(t0.Add(-597 * time.Minute)) {
		t.Errorf("the log still has what is in blocks since long: %s", mint.Sub(t0))
	}
}

// Few of them are not worth that all else in the log is read and written again.
func TestTheLogIsNotTrimmedOfFewLateSamples(t *testing.T) {
	db := still(t, t.TempDir())
	db.opts.OutOfOrderLogBytes = 1
	random := rand.New(rand.NewPCG(1, 2))
	late := labels.FromStrings(labels.MetricName, "late")
	for n := range 5 {
		app := db.Appender(t.Context())
		for i := range 3000 {
			if _, err := app.Append(0, labels.FromStrings(labels.MetricName, "live"), t0.Add(time.Duration(3000*n+i)*100*time.Millisecond).UnixMilli(), random.Float64()); err != nil {
				t.Fatal(err)
			}
		}
		if err := app.Commit(); err != nil {
			t.Fatal(err)
		}
		put(t, db, late, t0.Add(time.Duration(n-600)*time.Minute), 1)
		if err := db.compactOutOfOrder(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if db.compaction.trimmed != 0 {
		t.Errorf("the log is trimmed up to %s", time.UnixMilli(db.compaction.trimmed))
	}
	if got := len(values(t, db, "late")); got != 5 {
		t.Errorf("%d late samples, want 5", got)
	}
}
