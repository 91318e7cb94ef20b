// Package storetest owns what every store of samples must do, embedded or remote,
// as one test-suite. It must not know which store it tests.
package storetest

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/annotations"
)

// Store is one that is tested.
type Store struct {
	storage.Storage
	Engine promql.QueryEngine
	// Settle is how long the store may take until PromQL sees what was written.
	Settle time.Duration
	// Differs gives results by expression that an engine answers in its own way, as
	// its documentation says.
	Differs map[string][]float64
}

// interval of the test's series.
const interval = 30 * time.Second

// Run tests a store. Several runs may share one: each writes a cluster of its
// own, whose name must be new.
func Run(t *testing.T, s Store, cluster string) {
	// Ten minutes ago, on the grid: engines refuse what is far from now.
	s.run(t, cluster, time.Now().Add(-30*time.Minute).Truncate(time.Minute))
}

func (s Store) run(t *testing.T, cluster string, t0 time.Time) {
	f := fixture{Store: s, cluster: cluster, t0: t0}
	t.Run("what is written is read, both ends included", f.readsBack)
	t.Run("every float keeps its value", f.keepsValues)
	t.Run("matchers of every kind", f.matches)
	t.Run("names and values of labels", f.listsLabels)
	t.Run("a request sent twice counts once", f.countsOnce)
	t.Run("samples that come late", f.takesLate)
	t.Run("a sample is read at once", f.readsAtOnce)
	t.Run("a stale marker ends a series", f.ends)
	t.Run("PromQL over time and groups", f.aggregates)
	t.Run("a query sees no other cluster", f.restricts)
	t.Run("many series at once", f.takesMany)
	t.Run("what was taken back is not there", f.rollsBack)
}

type fixture struct {
	Store
	cluster string
	t0      time.Time
}

// at is the n-th point of the grid.
func (f fixture) at(n int) int64 { return f.t0.Add(time.Duration(n) * interval).UnixMilli() }

func (f fixture) labels(name string, more ...string) labels.Labels {
	return labels.FromStrings(append([]string{labels.MetricName, name, "cluster", f.cluster}, more...)...)
}

type point struct {
	t int64
	v float64
}

func (f fixture) write(t *testing.T, lset labels.Labels, points ...point) {
	t.Helper()
	app := f.Appender(t.Context())
	for _, p := range points {
		if _, err := app.Append(0, lset, p.t, p.v); err != nil {
			t.Fatalf("append to %s: %v", lset, err)
		}
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
}

// read gives what a selection finds, by the labels beyond name and cluster.
func (f fixture) read(t *testing.T, mint, maxt int64, ms ...*labels.Matcher) map[string][]point {
	t.Helper()
	q, err := f.Querier(mint, maxt)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = q.Close() }()
	set := q.Select(t.Context(), true, nil, append(ms, labels.MustNewMatcher(labels.MatchEqual, "cluster", f.cluster))...)
	out := map[string][]point{}
	var it chunkenc.Iterator
	for set.Next() {
		it = set.At().Iterator(it)
		var list []point
		for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
			at, v := it.At()
			list = append(list, point{at, v})
		}
		if err := it.Err(); err != nil {
			t.Fatal(err)
		}
		out[labels.NewBuilder(set.At().Labels()).Del(labels.MetricName, "cluster").Labels().String()] = list
	}
	if err := set.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

func named(name string) *labels.Matcher {
	return labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, name)
}

func want(t *testing.T, got, want []point) {
	t.Helper()
	if !slices.EqualFunc(got, want, func(a, b point) bool { return a.t == b.t && math.Float64bits(a.v) == math.Float64bits(b.v) }) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func (f fixture) readsBack(t *testing.T) {
	lset := f.labels("store_reads_back", "pod", "a")
	all := []point{{f.at(0), 1}, {f.at(1), 2}, {f.at(2), 3}, {f.at(3), 4}}
	f.write(t, lset, all...)
	key := `{pod="a"}`
	want(t, f.read(t, f.at(0), f.at(3), named("store_reads_back"))[key], all)
	want(t, f.read(t, f.at(1), f.at(2), named("store_reads_back"))[key], all[1:3])
	want(t, f.read(t, f.at(1)+1, f.at(2)-1, named("store_reads_back"))[key], nil)
	want(t, f.read(t, f.at(2), f.at(2), named("store_reads_back"))[key], all[2:3])
}

func (f fixture) keepsValues(t *testing.T) {
	lset := f.labels("store_keeps_values")
	all := []point{
		{f.at(0), 0}, {f.at(1), -1.5}, {f.at(2), 1e300}, {f.at(3), 5e-324}, {f.at(4), math.Inf(1)},
		{f.at(5), math.Inf(-1)}, {f.at(6), 0.1 + 0.2}, {f.at(7), 9007199254740991},
	}
	f.write(t, lset, all...)
	want(t, f.read(t, f.at(0), f.at(7), named("store_keeps_values"))["{}"], all)
}

func (f fixture) matches(t *testing.T) {
	for _, pod := range []string{"cart-1", "cart-2", `qu"ote\`, "ünï"} {
		f.write(t, f.labels("store_matches", "pod", pod), point{f.at(0), 1})
	}
	f.write(t, f.labels("store_matches"), point{f.at(0), 1})
	for name, tc := range map[string]struct {
		typ   labels.MatchType
		value string
		want  int
	}{
		"equal":                        {labels.MatchEqual, "cart-1", 1},
		"equal, with a quotation mark": {labels.MatchEqual, `qu"ote\`, 1},
		"equal, beyond ASCII":          {labels.MatchEqual, "ünï", 1},
		"not equal":                    {labels.MatchNotEqual, "cart-1", 4},
		"pattern":                      {labels.MatchRegexp, "cart-.*", 2},
		"pattern, anchored":            {labels.MatchRegexp, "cart", 0},
		"not the pattern":              {labels.MatchNotRegexp, "cart-.*", 3},
		"empty":                        {labels.MatchEqual, "", 1},
		"not empty":                    {labels.MatchNotEqual, "", 4},
	} {
		t.Run(name, func(t *testing.T) {
			if got := f.read(t, f.at(0), f.at(1), named("store_matches"), labels.MustNewMatcher(tc.typ, "pod", tc.value)); len(got) != tc.want {
				t.Errorf("got %d series, want %d: %v", len(got), tc.want, got)
			}
		})
	}
}

func (f fixture) listsLabels(t *testing.T) {
	f.write(t, f.labels("store_lists_labels", "node", "n-1"), point{f.at(0), 1})
	f.write(t, f.labels("store_lists_labels", "node", "n-2", "pod", "a"), point{f.at(0), 1})
	f.settled()
	q, err := f.Querier(f.at(0), time.Now().UnixMilli())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = q.Close() }()
	ms := []*labels.Matcher{named("store_lists_labels"), labels.MustNewMatcher(labels.MatchEqual, "cluster", f.cluster)}
	values, _, err := q.LabelValues(t.Context(), "node", nil, ms...)
	if err != nil || !slices.Equal(values, []string{"n-1", "n-2"}) {
		t.Errorf("values of node: %q, %v", values, err)
	}
	names, _, err := q.LabelNames(t.Context(), nil, ms...)
	for _, want := range []string{labels.MetricName, "cluster", "node", "pod"} {
		if err != nil || !slices.Contains(names, want) { // an engine may have labels of its own
			t.Errorf("names lack %s: %q, %v", want, names, err)
		}
	}
}

func (f fixture) countsOnce(t *testing.T) {
	lset := f.labels("store_counts_once")
	all := []point{{f.at(0), 1}, {f.at(1), 2}}
	f.write(t, lset, all...)
	app := f.Appender(t.Context())
	for _, p := range all {
		_, _ = app.Append(0, lset, p.t, p.v) // the embedded store says here that it has it
	}
	if err := app.Commit(); err != nil {
		t.Fatalf("the same again: %v", err)
	}
	f.settled()
	want(t, f.read(t, f.at(0), f.at(1), named("store_counts_once"))["{}"], all)
}

func (f fixture) takesLate(t *testing.T) {
	lset := f.labels("store_takes_late")
	f.write(t, lset, point{f.at(4), 5})
	f.write(t, lset, point{f.at(0), 1}, point{f.at(2), 3})
	f.write(t, lset, point{f.at(1), 2}, point{f.at(5), 6})
	f.settled()
	want(t, f.read(t, f.at(0), f.at(5), named("store_takes_late"))["{}"],
		[]point{{f.at(0), 1}, {f.at(1), 2}, {f.at(2), 3}, {f.at(4), 5}, {f.at(5), 6}})
}

func (f fixture) readsAtOnce(t *testing.T) {
	lset := f.labels("store_reads_at_once")
	now := time.Now().Truncate(time.Second).UnixMilli()
	f.write(t, lset, point{now, 1})
	want(t, f.read(t, now-1000, now, named("store_reads_at_once"))["{}"], []point{{now, 1}})
}

func (f fixture) ends(t *testing.T) {
	lset := f.labels("store_ends")
	f.write(t, lset, point{f.at(0), 1}, point{f.at(1), 2}, point{f.at(2), math.Float64frombits(value.StaleNaN)})
	f.settled()
	if got := f.instant(t, "store_ends", f.at(1)); len(got) != 1 || got[0].F != 2 {
		t.Errorf("before its end: %v", got)
	}
	if got := f.instant(t, "store_ends", f.at(2)+1000); len(got) != 0 {
		t.Errorf("after its end: %v", got)
	}
}

func (f fixture) aggregates(t *testing.T) {
	for i, pod := range []string{"a", "b", "c"} {
		var list []point
		for n := range 10 {
			list = append(list, point{f.at(n), float64(10*i + n)})
		}
		f.write(t, f.labels("store_aggregates", "pod", pod, "workload", string("xxy"[i])), list...)
	}
	f.settled()
	for expr, want := range map[string][]float64{
		`sum by (workload) (store_aggregates)`:                                                   {28, 29},
		`max(store_aggregates)`:                                                                  {29},
		`avg_over_time(store_aggregates{pod="a"}[2m])`:                                           {7.5},
		`count_over_time(store_aggregates{pod="b"}[1m])`:                                         {2},
		`topk(1, store_aggregates)`:                                                              {29},
		`store_aggregates{pod="a"} / on() group_left() store_aggregates{pod="c"}`:                {9. / 29},
		`count(store_aggregates > 10)`:                                                           {2},
		`store_aggregates{pod="a"} offset 1m`:                                                    {7},
		`vector(1) + scalar(store_aggregates{pod="a"})`:                                          {10},
		`label_replace(store_aggregates{pod="a"}, "who", "$1", "pod", "(.*)")`:                   {9},
		`max_over_time((store_aggregates{pod="a"} * 2)[1m:30s])`:                                 {18},
		`quantile_over_time(0.5, store_aggregates{pod="a"}[90s])`:                                {8},
		`absent(store_aggregates{pod="nobody"})`:                                                 {1},
		`sort(sum by (workload) (avg_over_time(store_aggregates[1m]))) > bool 0`:                 {1, 1},
		`histogram_quantile(0.5, store_aggregates{pod="nobody"})`:                                {},
		`clamp_max(store_aggregates{pod="a"}, 3)`:                                                {3},
		`changes(store_aggregates{pod="a"}[1m])`:                                                 {1},
		`store_aggregates{pod="a"} and on(pod) store_aggregates{workload="x"}`:                   {9},
		`sum(store_aggregates{pod=~"a|b"}) unless on() store_aggregates{pod="nobody"}`:           {28},
		`min_over_time(store_aggregates{pod="c"}[1m]) - on(pod) store_aggregates{pod="c"} == -1`: {-1},
	} {
		if own, ok := f.Differs[expr]; ok {
			want = own
		}
		got := f.instant(t, expr, f.at(9))
		var values []float64
		for _, s := range got {
			values = append(values, s.F)
		}
		slices.Sort(values)
		if !slices.EqualFunc(values, want, func(a, b float64) bool { return math.Abs(a-b) < 1e-9 }) {
			t.Errorf("%s = %v, want %v", expr, values, want)
		}
	}
	matrix := f.ranged(t, `sum(store_aggregates)`, f.at(0), f.at(9))
	if len(matrix) != 1 || len(matrix[0].Floats) != 10 || matrix[0].Floats[9].F != 57 || matrix[0].Floats[0].F != 30 {
		t.Errorf("over time: %v", matrix)
	}
}

// only shows one cluster, as those who may read one alone have it.
type only struct {
	storage.Queryable
	m *labels.Matcher
}

func (o only) Restrict(_ context.Context, ms []*labels.Matcher) ([]*labels.Matcher, error) {
	return append(slices.Clone(ms), o.m), nil
}

func (o only) Unwrap() storage.Queryable { return o.Queryable }

func (o only) Querier(mint, maxt int64) (storage.Querier, error) {
	q, err := o.Queryable.Querier(mint, maxt)
	return onlyQuerier{q, o.m}, err
}

type onlyQuerier struct {
	storage.Querier
	m *labels.Matcher
}

func (q onlyQuerier) Select(ctx context.Context, sorted bool, h *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	return q.Querier.Select(ctx, sorted, h, append(slices.Clone(ms), q.m)...)
}

func (q onlyQuerier) LabelValues(context.Context, string, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, nil
}

func (f fixture) queryable(cluster string) storage.Queryable {
	return only{f.Storage, labels.MustNewMatcher(labels.MatchEqual, "cluster", cluster)}
}

func (f fixture) restricts(t *testing.T) {
	f.write(t, f.labels("store_restricts"), point{f.at(0), 1})
	other := f
	other.cluster += "-other"
	other.write(t, other.labels("store_restricts"), point{f.at(0), 10})
	f.settled()
	for cluster, v := range map[string]float64{f.cluster: 1, other.cluster: 10} {
		q, err := f.Engine.NewInstantQuery(t.Context(), f.queryable(cluster), nil, `sum(store_restricts) or sum({__name__="store_restricts"})`, time.UnixMilli(f.at(0)))
		if err != nil {
			t.Fatal(err)
		}
		got, err := q.Exec(t.Context()).Vector()
		if err != nil || len(got) != 1 || got[0].F != v {
			t.Errorf("%s sees %v, %v; want %v", cluster, got, err, v)
		}
		q.Close()
	}
}

func (f fixture) takesMany(t *testing.T) {
	const n = 20_000
	app := f.Appender(t.Context())
	for i := range n {
		if _, err := app.Append(0, f.labels("store_takes_many", "pod", fmt.Sprintf("p-%d", i)), f.at(0), float64(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	f.settled()
	if got := f.read(t, f.at(0), f.at(0), named("store_takes_many")); len(got) != n {
		t.Errorf("%d series are read of %d", len(got), n)
	}
	if got := f.instant(t, "count(store_takes_many)", f.at(0)); len(got) != 1 || got[0].F != n {
		t.Errorf("count: %v", got)
	}
}

func (f fixture) rollsBack(t *testing.T) {
	app := f.Appender(t.Context())
	if _, err := app.Append(0, f.labels("store_rolls_back"), f.at(0), 1); err != nil {
		t.Fatal(err)
	}
	if err := app.Rollback(); err != nil {
		t.Fatal(err)
	}
	f.settled()
	if got := f.read(t, f.at(0), f.at(1), named("store_rolls_back")); len(got) != 0 {
		t.Errorf("it is there: %v", got)
	}
}

func (f fixture) instant(t *testing.T, expr string, at int64) promql.Vector {
	t.Helper()
	q, err := f.Engine.NewInstantQuery(t.Context(), f.queryable(f.cluster), nil, expr, time.UnixMilli(at))
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	defer q.Close()
	v, err := q.Exec(t.Context()).Vector()
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	return slices.Clone(v)
}

func (f fixture) ranged(t *testing.T, expr string, from, to int64) promql.Matrix {
	t.Helper()
	q, err := f.Engine.NewRangeQuery(t.Context(), f.queryable(f.cluster), nil, expr, time.UnixMilli(from), time.UnixMilli(to), interval)
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	defer q.Close()
	m, err := q.Exec(t.Context()).Matrix()
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	return slices.Clone(m)
}

// settled waits until PromQL sees what was written. There is nothing to ask: an
// engine that shows one sample may not show the next.
func (f fixture) settled() { time.Sleep(f.Settle) }

// PromQL is an engine that evaluates here.
func PromQL() promql.QueryEngine {
	return promql.NewEngine(promql.EngineOpts{
		MaxSamples: 10_000_000, Timeout: time.Minute, EnableAtModifier: true, EnableNegativeOffset: true,
		NoStepSubqueryIntervalFn: func(int64) int64 { return interval.Milliseconds() }, Parser: parser.NewParser(parser.Options{}),
	})
}
