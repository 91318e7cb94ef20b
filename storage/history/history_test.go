package history

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"go.uber.org/goleak"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/storage/metrics"
	"github.com/crowsnest-dev/crowsnest/storage/rollup"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	t0   = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	past = t0.Add(-10 * 24 * time.Hour) // long before what the store takes
)

const step = 30 * time.Second

// declared is a sum and what it is of.
var declared = []catalogue.Metric{
	{Name: "pod_mem", Level: catalogue.Pod},
	{Name: "workload_mem", Level: catalogue.Workload, Sum: &catalogue.Summed{Of: "pod_mem"}},
}

func pod(name string) labels.Labels {
	return labels.FromStrings(labels.MetricName, "pod_mem", "cluster", "site", "namespace", "shop", "node", "n1", "pod", name, "workload", "cart", "workload_type", "deployment")
}

func word(sender string) labels.Labels {
	return labels.FromStrings(labels.MetricName, rollup.SenderInterval, "cluster", "site", rollup.SenderLabel, sender)
}

type nodes []string

func (n nodes) Nodes(string) []string { return n }

func openMetrics(t *testing.T, now func() time.Time) *metrics.DB {
	t.Helper()
	db, err := metrics.Open(metrics.Options{Dir: filepath.Join(t.TempDir(), "metrics"), MinFreeBytes: 1, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func put(t *testing.T, s *Store, at time.Time, value float64, pods ...string) {
	t.Helper()
	app := s.Appender(t.Context())
	for i, p := range pods {
		if _, err := app.Append(0, pod(p), at.UnixMilli(), value+float64(i)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := app.Append(0, word("node/n1"), at.UnixMilli(), step.Seconds()); err != nil {
		t.Fatal(err)
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
}

// read gives all samples of a metric by time, of all series together; a time that
// a series has twice is an error.
func read(t *testing.T, db *metrics.DB, name string) map[int64][]float64 {
	t.Helper()
	q, err := db.Querier(math.MinInt64, math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = q.Close() }()
	out := map[int64][]float64{}
	set := q.Select(t.Context(), true, nil, labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, name))
	for set.Next() {
		last := int64(math.MinInt64)
		it := set.At().Iterator(nil)
		for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
			at, v := it.At()
			if at <= last {
				t.Errorf("%s has %d after %d", set.At().Labels(), at, last)
			}
			last = at
			out[at] = append(out[at], v)
		}
	}
	if set.Err() != nil {
		t.Fatal(set.Err())
	}
	return out
}

// TestHistoryOverAKill logs hours of the past, loses the process in the middle of
// a write, has the sender repeat what it is not sure of, and reads it all back.
func TestHistoryOverAKill(t *testing.T) {
	now := t0
	clock := func() time.Time { return now }
	db := openMetrics(t, clock)
	app := db.Appender(t.Context())
	if _, err := app.Append(0, pod("a"), t0.UnixMilli(), 1); err != nil { // the present
		t.Fatal(err)
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	opts := Options{Dir: t.TempDir(), Blocks: db, Expected: nodes{"n1", "n2"}, Metrics: declared, Now: clock}
	first, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	const points = 600 // five hours: three blocks
	at := func(i int) time.Time { return past.Add(time.Duration(i) * step) }
	for i := range points / 2 {
		put(t, first, at(i), float64(i), "a", "b")
	}
	// The kill: the folder as it is, with half a record at the end of one log.
	opts.Dir = t.TempDir()
	if err := os.CopyFS(opts.Dir, os.DirFS(first.opts.Dir)); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	logs, err := filepath.Glob(filepath.Join(opts.Dir, "open", "site", "*", "*"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("logs %v, %v", logs, err)
	}
	f, err := os.OpenFile(logs[len(logs)-1], os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte{1, 0, 200, 1, 2}); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	opts.Registerer = reg
	s, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	for i := points/2 - 20; i < points; i++ {
		put(t, s, at(i), float64(i), "a", "b")
	}
	put(t, s, at(5), 5, "a", "b") // once more, far behind

	// Nothing is made while more may come.
	if err := s.advance(t.Context(), now); err != nil || len(read(t, db, "pod_mem")) != 1 {
		t.Errorf("%v; blocks were made at once", err)
	}
	now = now.Add(s.opts.Idle)
	if err := s.advance(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	samples, sums, coverage := read(t, db, "pod_mem"), read(t, db, "workload_mem"), read(t, db, rollup.CoverageRatio)
	for i := range points {
		ms, v := at(i).UnixMilli(), float64(i)
		if got := samples[ms]; len(got) != 2 || got[0] != v || got[1] != v+1 {
			t.Fatalf("point %d has %v", i, got)
		}
		if got := sums[ms]; len(got) != 1 || got[0] != 2*v+1 {
			t.Fatalf("point %d has the sum %v, want %v", i, got, 2*v+1)
		}
		if got := coverage[ms]; len(got) != 1 || got[0] != 0.5 { // n2 never came
			t.Fatalf("point %d has the coverage %v", i, got)
		}
	}
	if len(samples) != points+1 || len(sums) != points {
		t.Errorf("%d and %d points, want %d and the present", len(samples), len(sums), points)
	}
	if left, err := filepath.Glob(filepath.Join(opts.Dir, "*", "*")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if s.bytes() != 0 {
		t.Errorf("%d bytes are said to wait", s.bytes())
	}

	// What comes later is added; sums that are there stay.
	put(t, s, at(0), 1000, "c")
	put(t, s, at(points), 7, "c")
	now = now.Add(s.opts.Idle)
	if err := s.advance(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	samples, sums = read(t, db, "pod_mem"), read(t, db, "workload_mem")
	if len(samples[at(0).UnixMilli()]) != 3 || sums[at(0).UnixMilli()][0] != 1 || sums[at(points).UnixMilli()][0] != 7 {
		t.Errorf("%v, %v, %v", samples[at(0).UnixMilli()], sums[at(0).UnixMilli()], sums[at(points).UnixMilli()])
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestABuildThatFailsIsRepeated(t *testing.T) {
	now := t0
	db := openMetrics(t, func() time.Time { return now })
	s, err := Open(Options{Dir: t.TempDir(), Blocks: db, Metrics: declared, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, past, 1, "a")
	now = now.Add(s.opts.Idle)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_ = s.advance(ended, now) // what it says matters not: the log must be there still
	if err := s.advance(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	if got := read(t, db, "pod_mem"); len(got) != 1 {
		t.Errorf("%v", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestHistoryIsBounded(t *testing.T) {
	now := t0
	db := openMetrics(t, func() time.Time { return now })
	s, err := Open(Options{Dir: t.TempDir(), Blocks: db, Metrics: declared, Now: func() time.Time { return now }, ClusterBytes: 1000, MaxBytes: 2000})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for ; s.ReadOnly() == nil && n < 1000; n++ {
		put(t, s, past.Add(time.Duration(n)*step), 1, "a")
	}
	if n < 10 || n == 1000 {
		t.Errorf("%d writes were taken", n)
	}
	// A log that is full becomes blocks at once, and there is room again.
	if err := s.advance(t.Context(), now); err != nil || s.ReadOnly() != nil {
		t.Errorf("%v, %v", err, s.ReadOnly())
	}
	if got := read(t, db, "pod_mem"); len(got) != n {
		t.Errorf("%d of %d points", len(got), n)
	}
	put(t, s, past, 1, "b")
	if err := s.DeleteCluster(t.Context(), "site"); err != nil || s.bytes() != 0 {
		t.Errorf("%v, %d bytes are left", err, s.bytes())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// asked is a store of which somebody hears when a block is about to be handed over.
type asked struct {
	*metrics.DB
	hear func()
}

func (a asked) Querier(mint, maxt int64) (storage.Querier, error) {
	a.hear()
	return a.DB.Querier(mint, maxt)
}

// A cluster that is deleted while blocks are made of what it brought does not come back by them.
func TestAClusterThatIsDeletedWhileItsBlocksAreMade(t *testing.T) {
	now := t0
	db := openMetrics(t, func() time.Time { return now })
	var s *Store
	s, err := Open(Options{Dir: t.TempDir(), Metrics: declared, Now: func() time.Time { return now }, Blocks: asked{db, func() {
		if err := s.DeleteCluster(t.Context(), "site"); err != nil {
			t.Error(err)
		}
	}}})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		put(t, s, past, 1, "a")
		now = now.Add(time.Hour)
		if err := s.advance(t.Context(), now); err != nil {
			t.Error(err)
		}
		if got := read(t, db, "pod_mem"); len(got) != 0 || s.bytes() != 0 {
			t.Errorf("there are samples of %d times; %d bytes wait", len(got), s.bytes())
		}
		put(t, s, past.Add(blockRange), 1, "a") // of another block
	}
	left, err := os.ReadDir(s.path("blocks"))
	if err = errors.Join(err, s.Close()); err != nil || len(left) > 0 {
		t.Errorf("%d folders of blocks are left: %v", len(left), err)
	}
}

// Where some senders of an interval came in time for the ordinary way and others
// did not, the sums are of all of them; those that are written already stay.
func TestIntervalsOfBothWays(t *testing.T) {
	now := t0
	db := openMetrics(t, func() time.Time { return now })
	coverage := labels.FromStrings(labels.MetricName, rollup.CoverageRatio, "cluster", "site")
	stored := func(at time.Time, of map[string]float64, coverageIs float64) {
		t.Helper()
		app := db.Appender(t.Context())
		for p, v := range of {
			if _, err := app.Append(0, pod(p), at.UnixMilli(), v); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := app.Append(0, word("node/n2"), at.UnixMilli(), step.Seconds()); err != nil {
			t.Fatal(err)
		}
		if coverageIs > 0 {
			if _, err := app.Append(0, coverage, at.UnixMilli(), coverageIs); err != nil {
				t.Fatal(err)
			}
		}
		if err := app.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	both, closed := past.Add(step), past.Add(2*step)
	stored(both, map[string]float64{"a": 1, "z": 100}, 0) // a came by both ways
	stored(closed, map[string]float64{"z": 100}, 0.5)
	s, err := Open(Options{Dir: t.TempDir(), Blocks: db, Expected: nodes{"n1", "n2"}, Metrics: declared, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []time.Time{past, both, closed} {
		put(t, s, at, 1, "a", "b")
	}
	now = now.Add(s.opts.Idle)
	if err := s.advance(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	sums, ratios := read(t, db, "workload_mem"), read(t, db, rollup.CoverageRatio)
	for at, want := range map[time.Time][2]float64{past: {3, 0.5}, both: {103, 1}, closed: {0, 0.5}} {
		ms := at.UnixMilli()
		if got := append(sums[ms], 0)[0]; got != want[0] || len(ratios[ms]) != 1 || ratios[ms][0] != want[1] {
			t.Errorf("at %s: sum %v, coverage %v, want %v", at.Format(time.TimeOnly), sums[ms], ratios[ms], want)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
