package aggregate

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"go.uber.org/goleak"

	"github.com/crowsnest-dev/crowsnest/storage/metrics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var t0 = time.Date(2026, 11, 3, 0, 0, 0, 0, time.UTC) // the beginning of a merged window

func series(name, pod string) labels.Labels {
	return labels.FromStrings(labels.MetricName, name, "cluster", "prod", "pod", pod)
}

// every is the distance of samples: buckets of 5 min have one or two.
const every = 4 * time.Minute

// kinds of series, each by what may go wrong with it.
var kinds = []string{"gauge", "gaps", "counter", "nan", "infinite", "edges", "ended"}

// writeDays makes a block a day, with samples that are not on full minutes.
func writeDays(t *testing.T, dir string, from time.Time, days int) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, uint64(from.Unix())))
	for d := range days {
		writeBlock(t, dir, from.AddDate(0, 0, d), 24*time.Hour, func(at time.Time, put func(lset labels.Labels, at int64, v float64)) {
			round := int(at.Sub(t0) / every)
			for n, kind := range kinds {
				millis, v := at.UnixMilli()+int64(n), math.Round(r.Float64()*2048)/16
				switch kind {
				case "gaps":
					if round/90%3 == 1 {
						continue
					}
					if round%90 == 89 {
						v = math.Float64frombits(value.StaleNaN)
					}
				case "counter":
					v = float64(round % 777) // begins anew now and then
				case "nan":
					if round%7 != 0 {
						v = math.NaN()
					}
				case "infinite":
					if round%100 == 0 {
						v = math.Inf(1)
					}
				case "edges":
					millis = at.UnixMilli() // on the end of buckets
				case "ended":
					if round > 500 {
						continue
					}
				}
				put(series("x", kind), millis, v)
			}
		})
	}
}

func writeBlock(t *testing.T, dir string, from time.Time, of time.Duration, each func(at time.Time, put func(lset labels.Labels, at int64, v float64))) {
	t.Helper()
	w, err := tsdb.NewBlockWriter(slog.New(slog.DiscardHandler), dir, 2*of.Milliseconds())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	app := w.Appender(context.Background())
	for at := from; at.Before(from.Add(of)); at = at.Add(every) {
		each(at, func(lset labels.Labels, at int64, v float64) {
			if _, err := app.Append(0, lset, at, v); err != nil {
				t.Fatal(err)
			}
		})
	}
	if _, err := app.AppendHistogram(0, series("x", "histogram"), from.UnixMilli(), tsdbutil.GenerateTestHistogram(1), nil); err != nil {
		t.Fatal(err)
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
}

type world struct {
	dir string
	now time.Time
	db  *metrics.DB
	agg *Store
}

// open opens both stores; steps are made by hand.
func (w *world) open(t *testing.T) {
	t.Helper()
	var err error
	w.db, err = metrics.Open(metrics.Options{Dir: filepath.Join(w.dir, "metrics"), Retention: 400 * 24 * time.Hour, Now: func() time.Time { return w.now }})
	if err != nil {
		t.Fatal(err)
	}
	if w.agg, err = open(Options{Dir: filepath.Join(w.dir, "aggregates"), Raw: w.db, Now: func() time.Time { return w.now }}); err != nil {
		t.Fatal(err)
	}
	close(w.agg.done)
}

func (w *world) close(t *testing.T) {
	t.Helper()
	if err := w.agg.Close(); err != nil {
		t.Error(err)
	}
	if err := w.db.Close(); err != nil {
		t.Error(err)
	}
}

// work makes and merges all that is due.
func (w *world) work(t *testing.T) {
	t.Helper()
	for range 1000 {
		more, err := w.agg.step(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if !more {
			return
		}
	}
	t.Fatal("there is always more to do")
}

func (w *world) shape() (out []string) {
	for n, l := range levels {
		for _, p := range w.agg.parts[n] {
			out = append(out, fmt.Sprint(l.name, " ", nameOf(p.span)))
		}
	}
	return out
}

func (w *world) chart(t *testing.T, spec Spec) *Answer {
	t.Helper()
	c, err := NewChart(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.agg.Read(context.Background(), c); err != nil {
		t.Fatal(err)
	}
	return c.Answer()
}

func newWorld(t *testing.T, days int) *world {
	t.Helper()
	w := &world{dir: t.TempDir(), now: t0.AddDate(0, 0, days+3)}
	writeDays(t, filepath.Join(w.dir, "metrics"), t0, days)
	w.open(t)
	t.Cleanup(func() { w.close(t) })
	return w
}

var ofX = []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, "x")}

// same compares a chart with what PromQL says of the samples.
func (w *world) same(t *testing.T, spec Spec, wantRead int64) {
	t.Helper()
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 50_000_000, Timeout: time.Minute})
	defer engine.Close()
	step := fmt.Sprintf("%ds", spec.Step/1000)
	expr := fmt.Sprintf("max by (pod) (%s_over_time(x[%s]))", spec.Statistic, step)
	if spec.Statistic == Increase {
		expr = fmt.Sprintf("max by (pod) (clamp_min(last_over_time(x[%s]) - last_over_time(x[%ds] offset %s), 0))", step, max(spec.Step/1000, 300), step)
	}
	q, err := engine.NewRangeQuery(context.Background(), floats{w.db}, nil, expr, time.UnixMilli(spec.Start), time.UnixMilli(spec.End), time.Duration(spec.Step)*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	res := q.Exec(context.Background())
	want, err := res.Matrix()
	if err != nil {
		t.Fatal(err)
	}
	spec.By = []string{"pod"}
	got := w.chart(t, spec)
	if len(got.Read) == 0 || !some(got.Read, wantRead) {
		t.Errorf("%s by %s is read from %v, and not from %d", spec.Statistic, step, got.Read, wantRead)
	}
	if len(got.Lines) != len(want) {
		t.Errorf("%s by %s: %d lines, want %d", spec.Statistic, step, len(got.Lines), len(want))
		return
	}
	for i, line := range got.Lines {
		pod := want[i].Metric.Get("pod")
		if line.Labels.Get("pod") != pod {
			t.Errorf("%v, want %v", line.Labels, want[i].Metric)
			continue
		}
		points := map[int64]float64{}
		for _, p := range want[i].Floats {
			points[p.T] = p.F
		}
		for n, v := range line.Values {
			at := spec.Start + int64(n)*spec.Step
			exact, there := points[at]
			if !there { // NaN is how a line says that there is none
				exact = math.NaN()
			}
			// What is read of samples is the same bits; sums of sums may be rounded once more.
			near := math.Abs(v-exact) <= 1e-14*math.Abs(exact)
			if v != exact && (math.IsNaN(v) != math.IsNaN(exact) || !math.IsNaN(v) && !near) {
				t.Errorf("%s by %s of %s at %v: %v, PromQL says %v", spec.Statistic, step, pod, time.UnixMilli(at).UTC(), v, exact)
			}
		}
	}
}

func some(read []Read, resolution int64) bool {
	for _, r := range read {
		if r.Resolution == resolution {
			return true
		}
	}
	return false
}

// floats hides native histograms, which charts pass over.
type floats struct{ storage.Queryable }

func (f floats) Querier(mint, maxt int64) (storage.Querier, error) {
	q, err := f.Queryable.Querier(mint, maxt)
	return floatQuerier{q}, err
}

type floatQuerier struct{ storage.Querier }

func (q floatQuerier) Select(ctx context.Context, sorted bool, h *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	return q.Querier.Select(ctx, sorted, h, append(ms, labels.MustNewMatcher(labels.MatchNotEqual, "pod", "histogram"))...)
}

const hour = int64(3600_000)

func TestAggregatesSayWhatSamplesSay(t *testing.T) {
	w := newWorld(t, 12)
	w.work(t)
	t.Log(w.shape())
	end := t0.AddDate(0, 0, 12).UnixMilli()
	for _, statistic := range []string{Avg, Min, Max, Sum, Count, Last, Increase} {
		for _, c := range []struct{ step, resolution, read int64 }{
			{hour, math.MaxInt64, hour},
			{6 * hour, math.MaxInt64, hour},
			{24 * hour, math.MaxInt64, hour},
			{hour / 2, math.MaxInt64, hour / 12},
			{hour / 12, math.MaxInt64, hour / 12},
			{hour, hour / 12, hour / 12}, // no coarser was allowed
			{6 * hour, 0, 0},
			{7 * 60_000, math.MaxInt64, 0}, // no multiple
			{60_000, math.MaxInt64, 0},
		} {
			start := t0.Add(36 * time.Hour).UnixMilli()
			if c.step < hour/12 { // a part, as these are slow
				start = t0.AddDate(0, 0, 11).Add(20 * time.Hour).UnixMilli()
			}
			if c.read == 0 {
				start -= start % c.step
			}
			w.same(t, Spec{Matchers: ofX, Start: start, End: end, Step: c.step, Statistic: statistic, Resolution: c.resolution}, c.read)
		}
		// A grid that buckets do not stand on.
		w.same(t, Spec{Matchers: ofX, Start: t0.Add(48*time.Hour + time.Minute).UnixMilli(), End: end, Step: hour, Statistic: statistic, Resolution: math.MaxInt64}, 0)
	}
}

func TestDaysAreMadeOnceMergedAndFoundAgain(t *testing.T) {
	w := newWorld(t, 12)
	w.work(t)
	// The window, and the day after it. The last one may still go on, and of the fine ones the first is too old.
	want := "[1h 20261103T0000-20261113T0000 1h 20261113T0000-20261114T0000 5m 20261104T0000-20261105T0000 5m 20261105T0000-20261106T0000]"
	if got := fmt.Sprint(w.shape()[:4]); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	before := fmt.Sprint(w.shape())
	content := read(t, w.dir)
	w.close(t)
	// A kill leaves what was not finished, and what was merged.
	half := filepath.Join(w.dir, "aggregates", "1h", "20261115T0000-20261116T0000"+making)
	if err := os.MkdirAll(half, 0o750); err != nil {
		t.Fatal(err)
	}
	w.open(t)
	if _, err := os.Stat(half); !os.IsNotExist(err) {
		t.Error("what was not finished is still there")
	}
	w.work(t)
	if got := fmt.Sprint(w.shape()); got != before {
		t.Errorf("after a start %s, before %s", got, before)
	}
	// Made again of the same samples they have the same content; only where blocks
	// come from may be known less exactly by now.
	w.close(t)
	if err := os.RemoveAll(filepath.Join(w.dir, "aggregates")); err != nil {
		t.Fatal(err)
	}
	w.open(t)
	w.work(t)
	if again := read(t, w.dir); again != content {
		t.Error("the same samples gave other files")
	}
}

// read joins all files of parts.
func read(t *testing.T, dir string) (all string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(dir, "aggregates"), func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		if e.Name() != originsFile && e.Name() != partFile {
			all += filepath.Base(filepath.Dir(path)) + e.Name() + string(raw)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestWhatComesLateOrGoesIsNotMissed(t *testing.T) {
	w := newWorld(t, 11)
	w.work(t)
	spec := Spec{Matchers: ofX, Start: t0.Add(24 * time.Hour).UnixMilli(), End: t0.AddDate(0, 0, 11).UnixMilli(), Step: 6 * hour, Resolution: math.MaxInt64}
	all := func(read int64) {
		t.Helper()
		for _, statistic := range []string{Avg, Max, Count} {
			spec.Statistic = statistic
			w.same(t, spec, read)
		}
	}
	all(hour)

	// History that is imported: the days that it has samples of are read from samples at once.
	part := filepath.Join(w.dir, "import")
	writeBlock(t, part, t0.AddDate(0, 0, 10).Add(3*time.Hour), time.Hour, func(at time.Time, put func(labels.Labels, int64, float64)) {
		put(series("x", "late"), at.UnixMilli(), 1e6)
	})
	if err := w.db.ImportBlocks(context.Background(), part); err != nil {
		t.Fatal(err)
	}
	all(0)
	stale := len(w.shape())
	w.work(t)
	all(hour)
	if len(w.shape()) != stale {
		t.Errorf("%v", w.shape())
	}

	// A cluster that is deleted is gone at once, though the parts still have it.
	if err := w.db.DeleteCluster(context.Background(), "prod"); err != nil {
		t.Fatal(err)
	}
	if got := w.chart(t, spec); len(got.Lines) != 0 {
		t.Errorf("%d lines of a deleted cluster", len(got.Lines))
	}
	w.work(t)
	if got := w.shape(); len(got) != 0 {
		t.Errorf("what was deleted is still on the disk: %v", got)
	}
}

// What is in memory is read from there, and its day not made.
func TestNewSamplesAreReadFromMemory(t *testing.T) {
	w := newWorld(t, 4)
	w.work(t)
	parts := len(w.shape())
	app := w.db.Appender(context.Background())
	at := t0.AddDate(0, 0, 6).Add(12 * time.Hour)
	for n := range 60 {
		if _, err := app.Append(0, series("x", "gauge"), at.Add(time.Duration(n)*time.Minute).UnixMilli(), float64(n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	w.now = w.now.AddDate(0, 0, 3)
	w.work(t)
	if got := w.shape(); len(got) != parts {
		t.Errorf("%v", got)
	}
	w.same(t, Spec{Matchers: ofX, Start: t0.Add(24 * time.Hour).UnixMilli(), End: at.Truncate(time.Hour).Add(3 * time.Hour).UnixMilli(), Step: hour, Statistic: Avg, Resolution: math.MaxInt64}, hour)
}

func TestPartsGoWithTheirSamples(t *testing.T) {
	w := newWorld(t, 3)
	w.work(t)
	w.now = w.now.AddDate(0, 0, 12)
	w.work(t)
	for _, name := range w.shape() {
		if name[:2] == "5m" {
			t.Errorf("%s is older than fine ones are kept", name)
		}
	}
	if len(w.shape()) == 0 {
		t.Error("the coarse ones are gone, too")
	}
}

func TestADamagedPartIsMadeAgain(t *testing.T) {
	w := newWorld(t, 2)
	w.work(t)
	before := fmt.Sprint(w.shape())
	path := filepath.Join(w.agg.parts[0][0].dir, "index")
	w.close(t)
	if err := os.Truncate(path, 100); err != nil {
		t.Fatal(err)
	}
	w.open(t)
	w.work(t)
	if got := fmt.Sprint(w.shape()); got != before {
		t.Errorf("%s, before %s", got, before)
	}
}

func TestChartsThatMakeNoSense(t *testing.T) {
	for name, spec := range map[string]Spec{
		"no step":        {Statistic: Avg},
		"ends too soon":  {Start: 2, End: 1, Step: 1, Statistic: Avg},
		"no statistic":   {Step: 1, Statistic: "p95"},
		"no way to join": {Step: 1, Statistic: Avg, Across: "count"},
		"too much":       {End: 1 << 40, Step: 1, Statistic: Avg},
	} {
		if _, err := NewChart(spec); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestEndOfABucket(t *testing.T) {
	for at, want := range map[int64]int64{0: 0, 1: 10, 9: 10, 10: 10, 11: 20, -1: 0, -10: -10, -11: -10} {
		if got := endOf(at, 10); got != want {
			t.Errorf("endOf(%d) = %d, want %d", at, got, want)
		}
	}
}

func TestEncodingKeepsEveryBit(t *testing.T) {
	var e encoder
	r := rand.New(rand.NewPCG(2, 2))
	var want []bucket
	for n := range 3 * maxPerChunk {
		b := bucket{n: float64(r.IntN(100)), sum: r.NormFloat64(), min: -r.Float64(), max: r.Float64() * 1e9, last: math.Inf(-1), at: int64(n) * hour}
		if n%10 == 0 {
			b.sum, b.min, b.max, b.last = math.NaN(), math.NaN(), math.NaN(), math.NaN()
		}
		want = append(want, b)
		if err := e.put(b.at, &b); err != nil {
			t.Fatal(err)
		}
	}
	i := 0
	for _, m := range e.take() {
		for it := m.Chunk.Iterator(nil); it.Next() != chunkenc.ValNone; i++ {
			got, err := decode(it.AtFloatHistogram(nil))
			if err != nil || fmt.Sprint(got) != fmt.Sprint(want[i]) {
				t.Fatalf("%d: %v, want %v, %v", i, got, want[i], err)
			}
		}
	}
	if i != len(want) {
		t.Errorf("%d of %d", i, len(want))
	}
}
