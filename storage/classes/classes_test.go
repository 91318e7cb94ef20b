package classes

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"go.uber.org/goleak"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/metrics"
	"github.com/crowsnest-dev/crowsnest/storage/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var t0 = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

func open(t *testing.T, dir string, change func(*Options)) *Store {
	t.Helper()
	o := Options{
		Metrics:  metrics.Options{Dir: filepath.Join(dir, "metrics"), Now: func() time.Time { return t0 }},
		Dir:      filepath.Join(dir, "classes"),
		Declared: func(name string) bool { return strings.HasPrefix(name, "k8s_") },
	}
	if change != nil {
		change(&o)
	}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func series(name, cluster string) labels.Labels {
	return labels.FromStrings(labels.MetricName, name, clusterLabel, cluster)
}

// put appends a sample of each series in one commit and gives the references.
func put(t *testing.T, s *Store, at time.Time, v float64, all ...labels.Labels) (refs []storage.SeriesRef) {
	t.Helper()
	app := s.Appender(context.Background())
	for _, lset := range all {
		ref, err := app.Append(0, lset, at.UnixMilli(), v)
		if err != nil {
			t.Fatal(err)
		}
		refs = append(refs, ref)
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	return refs
}

// names gives the samples by metric's name.
func names(t *testing.T, q storage.Queryable) map[string]int {
	t.Helper()
	r, err := q.Querier(math.MinInt64, math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	out := map[string]int{}
	set := r.Select(context.Background(), true, nil, labels.MustNewMatcher(labels.MatchNotEqual, labels.MetricName, ""))
	for set.Next() {
		for it := set.At().Iterator(nil); it.Next() != chunkenc.ValNone; {
			out[set.At().Labels().Get(labels.MetricName)]++
		}
	}
	if set.Err() != nil {
		t.Fatal(set.Err())
	}
	return out
}

// One progress tells of each class, while that opens.
func TestProgressTellsOfEachClass(t *testing.T) {
	dir, progress := t.TempDir(), &metrics.Progress{}
	with := func(o *Options) { o.Metrics.Progress = progress }
	s := open(t, dir, with)
	put(t, s, t0, 1, series("k8s_a", "prod"), series("up", "prod"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	progress = &metrics.Progress{}
	open(t, dir, with)
	if in, _, of := progress.Segments(); in != filepath.Join(dir, "classes", Raw) || of == 0 {
		t.Errorf("at last it read %d segments in %s", of, in)
	}
}

func TestEachSeriesLiesInItsClassAndAllAreReadAsOne(t *testing.T) {
	dir := t.TempDir()
	long := func(o *Options) {
		o.Named, o.Clusters = []Class{{Name: "long", Retention: 400 * 24 * time.Hour}}, map[string]string{"kept": "long"}
		o.Raw = Class{Retention: 24 * time.Hour}
	}
	s := open(t, dir, long)
	if len(s.Opened()) != 1 {
		t.Errorf("before the first sample of a class its store is there: %v", s.Opened())
	}
	refs := put(t, s, t0, 1, series("k8s_a", "prod"), series("up", "prod"), series("k8s_b", "kept"), series("own", "kept"))
	app := s.Appender(context.Background())
	for n, lset := range []labels.Labels{series("k8s_a", "prod"), series("up", "prod"), series("k8s_b", "kept"), series("own", "kept")} {
		if ref, found := app.(storage.GetRef).GetRef(lset, lset.Hash()); ref != refs[n] || !labels.Equal(found, lset) {
			t.Errorf("%v has the reference %d, was %d", found, ref, refs[n])
		}
		// A reference is enough.
		add := app.Append
		if n%2 == 1 {
			add = app.(newestAppender).AppendNewest
		}
		if ref, err := add(refs[n], labels.EmptyLabels(), t0.Add(time.Second).UnixMilli(), 2); err != nil || ref != refs[n] {
			t.Errorf("%d, %v", ref, err)
		}
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	check := func(s *Store) {
		t.Helper()
		open := s.Opened()
		for class, want := range map[string]string{Catalogue: "k8s_a", Raw: "up", "long": "k8s_b own"} {
			got := names(t, open[class])
			for _, name := range strings.Fields(want) {
				if got[name] != 2 {
					t.Errorf("class %s holds %v", class, got)
				}
			}
			if len(got) != len(strings.Fields(want)) {
				t.Errorf("class %s holds %v", class, got)
			}
		}
		if got := names(t, s); len(got) != 4 || got["up"] != 2 || got["own"] != 2 {
			t.Errorf("together %v", got)
		}
	}
	check(s)
	if n := s.Series(); n != 4 {
		t.Errorf("%d series", n)
	}
	st, err := s.Stats(labels.MetricName, 10)
	if err != nil || st.NumSeries != 4 || len(st.IndexPostingStats.CardinalityMetricsStats) != 4 {
		t.Errorf("%+v, %v", st, err)
	}
	if text := s.RetentionText(); text != "90d, long 400d, raw 1d" {
		t.Error(text)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	check(open(t, dir, long))
}

// What any store must do, with the suite's metrics spread over two classes.
func TestSuite(t *testing.T) {
	s := open(t, t.TempDir(), func(o *Options) { o.Declared = func(name string) bool { return len(name)%2 == 0 } })
	storetest.Run(t, storetest.Store{Storage: s, Engine: storetest.PromQL()}, "suite")
}

func TestWhatElseAnAppenderTakes(t *testing.T) {
	s := open(t, t.TempDir(), nil)
	x := series("up", "prod")
	app := s.Appender(context.Background())
	app.SetOptions(&storage.AppendOptions{})
	ref, err := app.Append(0, x, t0.UnixMilli(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := app.AppendExemplar(ref, x, exemplar.Exemplar{Labels: labels.FromStrings("trace_id", "1"), Value: 1, Ts: t0.UnixMilli()}); err != nil {
		t.Error(err)
	}
	if _, err := app.AppendHistogram(0, series("h", "prod"), t0.UnixMilli(), tsdbutil.GenerateTestHistogram(1), nil); err != nil {
		t.Error(err)
	}
	if _, err := app.UpdateMetadata(ref, x, metadata.Metadata{Type: "gauge"}); err != nil {
		t.Error(err)
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	q, err := s.ExemplarQuerier(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	found, err := q.Select(0, math.MaxInt64, []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, "up")})
	if err != nil || len(found) != 1 {
		t.Errorf("%v, %v", found, err)
	}
	taken := s.Appender(context.Background())
	if _, err := taken.AppendHistogram(0, series("g", "prod"), t0.UnixMilli(), nil, &histogram.FloatHistogram{}); err != nil {
		t.Error(err)
	}
	if err := taken.Rollback(); err != nil {
		t.Error(err)
	}
	if got := names(t, s); got["up"] != 1 || got["h"] != 1 || got["g"] != 0 {
		t.Errorf("%v", got)
	}
	c, err := s.ChunkQuerier(0, math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	set := c.Select(context.Background(), true, nil, labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, "up"))
	if !set.Next() || set.Next() || set.Err() != nil {
		t.Errorf("not one series: %v", set.Err())
	}
}

func TestEachClassHasItsRetention(t *testing.T) {
	s := open(t, t.TempDir(), func(o *Options) {
		o.Raw = Class{Retention: 24 * time.Hour}
		o.Metrics.CheckEvery = 20 * time.Millisecond
	})
	for at := t0.Add(-60 * time.Hour); !at.After(t0); at = at.Add(10 * time.Minute) {
		put(t, s, at, 1, series("k8s_a", "prod"), series("up", "prod"))
	}
	const all = 60*6 + 1
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		got := names(t, s)
		// Blocks go as a whole.
		if got["k8s_a"] == all && got["up"] < all*2/3 && got["up"] >= 24*6 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v of %d", got, all)
		}
	}
}

func TestDeletedClusterIsGoneFromAllClasses(t *testing.T) {
	s := open(t, t.TempDir(), nil)
	put(t, s, t0, 1, series("k8s_a", "prod"), series("up", "prod"), series("up", "other"))
	if err := s.DeleteCluster(context.Background(), "other"); err != nil { // has none in the catalogue
		t.Fatal(err)
	}
	if err := s.DeleteCluster(context.Background(), "prod"); err != nil {
		t.Fatal(err)
	}
	if got := names(t, s); len(got) != 0 {
		t.Errorf("%v", got)
	}
	if err := s.DeleteCluster(context.Background(), "nobody"); !errors.Is(err, fault.ErrNotFound) {
		t.Error(err)
	}
}

func TestClassesThatMakeNoSense(t *testing.T) {
	dir := t.TempDir()
	_, err := Open(Options{
		Metrics: metrics.Options{Dir: filepath.Join(dir, "metrics")}, Dir: dir, Declared: func(string) bool { return true },
		Named: []Class{{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "d"}, {Name: "../e"}, {Name: "raw"}}, Clusters: map[string]string{"prod": "none", "x": Raw},
	})
	for _, want := range []string{"at most 4", `"../e"`, `"raw"`, `"none"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to name %s", err, want)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "classes", "gone"), 0o750); err != nil {
		t.Fatal(err)
	}
	_, err = Open(Options{
		Metrics: metrics.Options{Dir: filepath.Join(dir, "metrics")}, Dir: filepath.Join(dir, "classes"), Declared: func(string) bool { return true },
	})
	if !errors.Is(err, fault.ErrInvalid) || !strings.Contains(err.Error(), `declare the class "gone" again`) {
		t.Errorf("a folder whose class is not declared any more: %v", err)
	}
}

func TestSelfMetricsHaveTheirClass(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := open(t, t.TempDir(), func(o *Options) { o.Metrics.Registerer = reg })
	put(t, s, t0, 1, series("k8s_a", "prod"), series("up", "prod"))
	if n, err := testutil.GatherAndCount(reg, "prometheus_tsdb_head_series"); err != nil || n != 2 {
		t.Errorf("%d, %v", n, err)
	}
	if in, never, known := s.Forecast(); known {
		t.Errorf("a forecast of nothing: %v %v", in, never)
	}
	if err := s.ReadOnly(); err != nil {
		t.Error(err)
	}
}

// A class that gets no more samples does not keep the last ones for longer than its retention, and
// the others' stay.
func TestAClassThatEndedGoesByItsRetention(t *testing.T) {
	dir := t.TempDir()
	for store, days := range map[string]int{"metrics": 1, filepath.Join("classes", Raw): 91, filepath.Join("classes", "long"): 91} {
		writeBlock(t, filepath.Join(dir, store), t0.AddDate(0, 0, -days), 60)
		writeBlock(t, filepath.Join(dir, store), t0.AddDate(0, 0, -days-5), 60)
	}
	s := open(t, dir, func(o *Options) { o.Named = []Class{{Name: "long", Retention: 100 * 24 * time.Hour}} })
	for class, want := range map[string]int{Catalogue: 2, Raw: 0, "long": 2} {
		// Which has the folder read anew, as any compaction does.
		if err := s.Opened()[class].SnapshotBlocks(context.Background(), filepath.Join(dir, "snapshot of "+class)); err != nil {
			t.Fatal(err)
		}
		metas, err := s.Opened()[class].BlockMetas()
		if err != nil || len(metas) != want {
			t.Errorf("%s has %d blocks, want %d, %v", class, len(metas), want, err)
		}
	}
}

// All classes fill one disk: what is told of each is when that is full.
func TestEachClassTellsTheForecastOfTheDiskThatAllShare(t *testing.T) {
	dir, reg := t.TempDir(), prometheus.NewRegistry()
	for _, store := range []string{"metrics", filepath.Join("classes", Raw)} {
		writeBlock(t, filepath.Join(dir, store), t0.Add(-2*time.Hour), 60)
	}
	s := open(t, dir, func(o *Options) {
		o.Metrics.Registerer, o.Metrics.CheckEvery = reg, 10*time.Millisecond
		o.Metrics.FreeBytes = func(string) (uint64, error) { return 512<<20 + 64<<10, nil }
	})
	in, never, known := s.Forecast()
	alone, _, _ := s.Opened()[Raw].Forecast()
	if never || !known || in <= 0 || in > alone*2/3 {
		t.Fatalf("%v of both, %v of one of them; %v %v", in, alone, never, known)
	}
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		told := map[string]float64{}
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				if f.GetName() == "crowsnest_metrics_full_seconds" {
					told[m.GetLabel()[0].GetValue()] = m.GetGauge().GetValue()
				}
			}
		}
		if told[Catalogue] == in.Seconds() && told[Raw] == in.Seconds() {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v, want %v", told, in.Seconds())
		}
	}
}

// writeBlock writes a block of so many samples, one a minute, into a store's folder.
func writeBlock(t *testing.T, store string, from time.Time, samples int) {
	t.Helper()
	w, err := tsdb.NewBlockWriter(slog.New(slog.DiscardHandler), store, 2*(24*time.Hour).Milliseconds())
	if err != nil {
		t.Fatal(err)
	}
	app := w.Appender(context.Background())
	for n := range samples {
		if _, err := app.Append(0, series("up", "prod"), from.Add(time.Duration(n)*time.Minute).UnixMilli(), float64(n*n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// Each class goes by a size of its own: the oldest blocks of the one that is too
// large go, and those of others stay.
func TestEachClassHasItsOwnBoundBySize(t *testing.T) {
	dir := t.TempDir()
	const days = 6
	var size int64
	for _, store := range []string{"metrics", filepath.Join("classes", Raw)} {
		for d := range days {
			writeBlock(t, filepath.Join(dir, store), t0.AddDate(0, 0, d-days), 1000)
		}
	}
	err := filepath.WalkDir(filepath.Join(dir, "metrics"), func(_ string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			info, err := e.Info()
			size += info.Size()
			return err
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, dir, func(o *Options) { o.Raw.MaxBytes = size / 2 })
	for class, want := range map[string]func(blocks int, oldest int64) bool{
		Catalogue: func(blocks int, _ int64) bool { return blocks == days },
		Raw: func(blocks int, oldest int64) bool {
			return blocks > 0 && blocks <= days/2 && oldest > t0.AddDate(0, 0, -days).UnixMilli()
		},
	} {
		// Which has the folder read anew, as any compaction does.
		if err := s.Opened()[class].SnapshotBlocks(context.Background(), filepath.Join(dir, "snapshot of "+class)); err != nil {
			t.Fatal(err)
		}
		metas, err := s.Opened()[class].BlockMetas()
		if err != nil || len(metas) == 0 || !want(len(metas), metas[0].MinTime) {
			t.Errorf("%s has %d blocks, %v", class, len(metas), err)
		}
	}
	if text := s.RetentionText(); !strings.HasPrefix(text, "90d, raw 90d or ") {
		t.Error(text)
	}
}
