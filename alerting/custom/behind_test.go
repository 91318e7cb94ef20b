package custom

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/storage/metrics"
	"github.com/crowsnest-dev/crowsnest/storage/rollup"
)

// text is a vector in the order of its labels.
func text(v promql.Vector) string {
	v = slices.Clone(v)
	slices.SortFunc(v, func(a, b promql.Sample) int { return cmp.Compare(a.Metric.String(), b.Metric.String()) })
	return v.String()
}

// What is behind something is summed up as PromQL does it, at each time.
func TestBehindIsWhatPromQLGives(t *testing.T) {
	b := newBench(t)
	stale := math.Float64frombits(value.StaleNaN)
	member := func(at time.Duration, v float64, service, pod string) {
		b.put(t0.Add(at), v, labels.MetricName, "k8s_service_pod", "cluster", "c1", "namespace", "shop", "service", service, "pod", pod)
	}
	pod := func(at time.Duration, v float64, metric, name, node string) {
		b.put(t0.Add(at), v, labels.MetricName, metric, "cluster", "c1", "namespace", "shop", "workload", "w-"+name, "pod", name, "node", node)
	}
	for i, name := range []string{"a", "b", "c", "d", "e", "nan", "gone"} {
		member(0, 1, "web", name)
		if i%2 == 0 {
			member(0, 1, "all", name) // a pod may be behind several
		}
		if name != "gone" {
			pod(0, 0.1*float64(i+1), "cpu", name, "n1")
			pod(0, float64(i), "mem", name, "n1")
		}
	}
	member(0, 1, "empty", "unknown")
	member(0, 2, "twice", "a")
	pod(0, 7, "cpu", "nobody's", "n1")
	pod(-4*time.Minute, 0.01, "cpu", "a", "gone") // an older series of it lingers
	pod(-4*time.Minute, 90, "cpu", "b", "gone")
	pod(-5*time.Minute, 50, "cpu", "c", "before") // as old as counts for nothing
	b.put(t0, 3, labels.MetricName, "cpu", "cluster", "c2", "namespace", "shop", "pod", "a")
	pod(time.Minute, math.NaN(), "cpu", "nan", "n1")
	pod(time.Minute, 4, "cpu", "a", "n1")
	pod(2*time.Minute, stale, "cpu", "b", "n1")
	member(2*time.Minute, stale, "web", "a")
	member(2*time.Minute, 1, "new", "a")
	pod(2*time.Minute, 1, "cpu", "gone", "n2")

	const join = "sum by (namespace, service) (k8s_service_pod * on (cluster, namespace, pod) group_left () max by (cluster, namespace, pod) (%s))"
	for expr, summed := range map[string]bool{
		fmt.Sprintf(join, "cpu"):                          true,
		fmt.Sprintf(join, "mem"):                          true,
		fmt.Sprintf(join, "none"):                         true,
		fmt.Sprintf(join, `cpu{node!="gone"}`):            true,
		fmt.Sprintf(join, "cpu - min_over_time(cpu[5m])"): true,
		fmt.Sprintf(join, "cpu offset 1m"):                true,
		"(sum by (service) ((k8s_service_pod{service=~\"web|new\"}) * on (namespace, pod) group_left () (max by (namespace, pod) (cpu))))": true,
		"sum (k8s_service_pod * on (pod) group_left () max by (pod) (cpu))":                                                                true,
		"sum by (service) (no_members * on (pod) group_left () max by (pod) (cpu))":                                                        true,
		"sum without (pod) (k8s_service_pod * on (pod) group_left () max by (pod) (cpu))":                                                  false,
		"avg by (service) (k8s_service_pod * on (pod) group_left () max by (pod) (cpu))":                                                   false,
		"sum by (service) (k8s_service_pod + on (pod) group_left () max by (pod) (cpu))":                                                   false,
		"sum by (service) (k8s_service_pod * on (pod) group_left () min by (pod) (cpu))":                                                   false,
		"sum by (service) (k8s_service_pod * on (pod) group_left () max by (pod, namespace) (mem))":                                        false,
		"sum by (service) (k8s_service_pod * ignoring (service) group_left () max by (cluster, namespace, pod) (cpu))":                     false,
		"sum by (service) (k8s_service_pod offset 1m * on (pod) group_left () max by (pod) (cpu))":                                         false,
	} {
		for _, after := range []time.Duration{-time.Minute, 0, 30 * time.Second, time.Minute, 2 * time.Minute, 6 * time.Minute, time.Hour} {
			at := t0.Add(after)
			e, err := selective(expr, "c1")
			if err != nil {
				t.Fatal(err)
			}
			known := memberships{}
			for range 2 { // with and without knowing the members
				got, ok, err := b.m.sumBehind(t.Context(), e, at, known)
				if ok != summed || err != nil {
					t.Fatalf("%s: %v, %v", expr, ok, err)
				}
				want, err := b.m.ask(t.Context(), e, at)
				if err != nil {
					t.Fatal(err)
				}
				if ok && text(got) != text(want) {
					t.Errorf("%s after %v gives\n%s, PromQL\n%s", expr, after, text(got), text(want))
				}
			}
		}
	}
}

// Members that were read for one expression are another's only where both group and match
// them by the same labels.
func TestMembersOfOthersAreNotTakenForOnesOwn(t *testing.T) {
	b := newBench(t)
	for i, name := range []string{"a", "b", "c"} {
		namespace := []string{"shop", "shop", "pay"}[i]
		b.put(t0, 1, labels.MetricName, "k8s_service_pod", "cluster", "c1", "namespace", namespace, "service", "web", "pod", name)
		b.put(t0, float64(i+1), labels.MetricName, "cpu", "cluster", "c1", "namespace", namespace, "pod", name)
	}
	known, over := memberships{}, map[string]*overtime{}
	for _, by := range [][2]string{{"service, namespace", "pod"}, {"service", "namespace, pod"}, {"", "service, namespace, pod"}, {"service, namespace, pod", "pod"}} {
		expr := fmt.Sprintf("sum by (%s) (k8s_service_pod * on (%s) group_left () max by (%s) (cpu))", by[0], by[1], by[1])
		e, err := selective(expr, "c1")
		if err != nil {
			t.Fatal(err)
		}
		want, err := b.m.ask(t.Context(), e, t0)
		if err != nil {
			t.Fatal(err)
		}
		got, ok, err := b.m.sumBehind(t.Context(), e, t0, known)
		if !ok || err != nil || text(got) != text(want) {
			t.Errorf("%s gives\n%s, %v, PromQL\n%s", expr, text(got), err, text(want))
		}
		matrix, ok, err := b.m.sumBehindOver(t.Context(), e, times{t0.UnixMilli(), 1, 1}, over)
		var last promql.Vector
		for _, s := range matrix {
			last = append(last, promql.Sample{T: s.Floats[0].T, F: s.Floats[0].F, Metric: s.Metric})
		}
		if !ok || err != nil || text(last) != text(want) {
			t.Errorf("%s gives over a range\n%s, %v, PromQL\n%s", expr, text(last), err, text(want))
		}
	}
}

// Over a range, too: what comes late, goes, comes again, and is told of less often than
// it is asked for.
func TestBehindOverARangeIsWhatPromQLGives(t *testing.T) {
	b := newBench(t)
	random := rand.New(rand.NewPCG(1, 2))
	stale := math.Float64frombits(value.StaleNaN)
	for i := range 40 {
		name, service := fmt.Sprint("p", i%12), fmt.Sprint("s", i%5)
		for _, of := range [][]string{
			{labels.MetricName, "k8s_service_pod", "cluster", "c1", "namespace", "shop", "service", service, "pod", name},
			{labels.MetricName, "cpu", "cluster", "c1", "namespace", "shop", "pod", name, "node", fmt.Sprint("n", i)},
		} {
			there := random.IntN(3) > 0
			for at := -6 * time.Minute; at <= 20*time.Minute; at += 30 * time.Second {
				switch n := random.IntN(30); {
				case n == 0 && there:
					b.put(t0.Add(at), stale, of...)
					there = false
				case n == 1:
					there = !there // without saying so
				case n == 2 && there && of[1] == "cpu":
					b.put(t0.Add(at), math.NaN(), of...)
				case there && n < 24:
					v := float64(1)
					if of[1] == "cpu" {
						v = math.Round(random.Float64()*1000) / 8 // sums up without a rest
					}
					b.put(t0.Add(at-time.Duration(n%3)*time.Second), v, of...)
				}
			}
		}
	}
	over := func(m promql.Matrix) string {
		slices.SortFunc(m, func(a, b promql.Series) int { return cmp.Compare(a.Metric.String(), b.Metric.String()) })
		return m.String()
	}
	for expr, summed := range map[string]bool{
		"sum by (namespace, service) (k8s_service_pod * on (cluster, namespace, pod) group_left () max by (cluster, namespace, pod) (cpu))":                          true,
		"sum (k8s_service_pod{service!=\"s1\"} * on (pod) group_left () max by (pod) (cpu))":                                                                         true,
		"sum by (service) (none * on (pod) group_left () max by (pod) (cpu))":                                                                                        true,
		"sum by (namespace, service) (k8s_service_pod * on (cluster, namespace, pod) group_left () max by (cluster, namespace, pod) (cpu - min_over_time(cpu[5m])))": false,
		"avg by (service) (k8s_service_pod * on (pod) group_left () max by (pod) (cpu))":                                                                             false,
	} {
		for _, step := range []time.Duration{10 * time.Second, 30 * time.Second, time.Minute} {
			for _, n := range []int{2, 7, 61} {
				from := t0.Add(-time.Minute)
				e, err := selective(expr, "c1")
				if err != nil {
					t.Fatal(err)
				}
				q, err := b.m.engine.NewRangeQuery(t.Context(), b.m.opts.Store, nil, e.String(), from, from.Add(time.Duration(n-1)*step), step)
				if err != nil {
					t.Fatal(err)
				}
				want, err := q.Exec(t.Context()).Matrix()
				if err != nil {
					t.Fatal(err)
				}
				known := map[string]*overtime{}
				for range 2 {
					got, ok, err := b.m.sumBehindOver(t.Context(), e, times{from.UnixMilli(), step.Milliseconds(), n}, known)
					if ok != summed || err != nil {
						t.Fatalf("%s: %v, %v", expr, ok, err)
					}
					if ok && over(got) != over(want) {
						t.Errorf("%s at %d times each %v gives\n%s, PromQL\n%s", expr, n, step, over(got), over(want))
					}
				}
				if summed && expr[:8] == "sum by (" && !strings.Contains(expr, "none") && len(want) == 0 {
					t.Error("nothing is compared")
				}
				q.Close()
			}
		}
	}
}

// A server always offers to wrap the engine; only one that answers elsewhere counts.
func TestSumsBehindAreLeftToAnotherEngine(t *testing.T) {
	b := newBench(t)
	e, err := selective("sum by (service) (k8s_service_pod * on (pod) group_left () max by (pod) (cpu))", "c1")
	if err != nil {
		t.Fatal(err)
	}
	for summed, wrap := range map[bool]func(promql.QueryEngine) promql.QueryEngine{
		true:  func(here promql.QueryEngine) promql.QueryEngine { return here },
		false: func(here promql.QueryEngine) promql.QueryEngine { return struct{ promql.QueryEngine }{here} },
	} {
		m, err := New(t.Context(), Options{Store: b.db, Rows: b.rows, PromQL: wrap, Next: func(rollup.Written) {}, OnlyCustom: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, ok, err := m.sumBehind(t.Context(), e, t0, memberships{}); ok != summed || err != nil {
			t.Errorf("summed: %v, %v, want %v", ok, err, summed)
		}
	}
}

// All of the catalogue's sums behind Services are summed so.
func TestTheCataloguesSumsBehindServicesAreKnown(t *testing.T) {
	n := 0
	for _, m := range catalogue.All() {
		if m.Level != catalogue.Service || m.Expr == "" || !slices.Contains(m.Parts(), "k8s_service_pod") {
			continue
		}
		n++
		e, err := selective(m.Expr, "c1")
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := behindOf(e); !ok {
			t.Errorf("%s is left to PromQL: %s", m.Name, m.Expr)
		}
	}
	if n == 0 {
		t.Error("no metric of a Service is computed of its pods")
	}
}

// BenchmarkBehind sums two metrics of 150,000 pods behind 15,000 Services up, ten each.
func BenchmarkBehind(b *testing.B) {
	const pods = 150_000
	db, err := metrics.Open(metrics.Options{Dir: b.TempDir(), MinFreeBytes: 1})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	var all []labels.Labels
	for at := -10; at <= 0; at++ {
		app := db.Appender(b.Context())
		for i := range pods {
			name, namespace := "pod-"+strconv.Itoa(i), "ns-"+strconv.Itoa(i%100)
			series := []labels.Labels{
				labels.FromStrings(labels.MetricName, "k8s_service_pod", "cluster", "c1", "namespace", namespace, "pod", name, "service", "service-"+strconv.Itoa(i/1000)),
				labels.FromStrings(labels.MetricName, "cpu", "cluster", "c1", "namespace", namespace, "pod", name, "node", "node-"+strconv.Itoa(i/30), "workload", "w", "workload_type", "deployment"),
				labels.FromStrings(labels.MetricName, "mem", "cluster", "c1", "namespace", namespace, "pod", name, "node", "node-"+strconv.Itoa(i/30), "workload", "w", "workload_type", "deployment"),
			}
			for _, ls := range series {
				if _, err := app.Append(0, ls, t0.Add(time.Duration(at)*time.Minute).UnixMilli(), float64(i)); err != nil {
					b.Fatal(err)
				}
				if at == 0 {
					all = append(all, ls)
				}
			}
		}
		if err := app.Commit(); err != nil {
			b.Fatal(err)
		}
	}
	m := &Metrics{opts: Options{Store: db}, engine: promql.NewEngine(promql.EngineOpts{MaxSamples: maxSamples, Timeout: time.Minute, EnableAtModifier: true, EnableNegativeOffset: true, Parser: parser.NewParser(parser.Options{})})}
	rollups, err := rollup.New(rollup.Options{Store: db, Newest: []string{"k8s_service_pod", "cpu", "mem"}, Now: func() time.Time { return t0.Add(-time.Hour) }})
	if err != nil {
		b.Fatal(err)
	}
	for _, ls := range all {
		rollups.Pass("c1", []rollup.Sample{{Feed: rollups.Feed("c1", ls), At: t0.UnixMilli(), V: 1}})
	}
	for _, how := range []string{"passed", "store", "promql"} {
		b.Run(how, func(b *testing.B) {
			promQL := how == "promql"
			if m.opts.Newest = nil; how == "passed" {
				m.opts.Newest = rollups.Newest
			}
			b.ReportAllocs()
			for b.Loop() {
				known := memberships{}
				for _, of := range []string{"cpu", "mem"} {
					e, err := selective("sum by (namespace, service) (k8s_service_pod * on (cluster, namespace, pod) group_left () max by (cluster, namespace, pod) ("+of+"))", "c1")
					if err != nil {
						b.Fatal(err)
					}
					var v promql.Vector
					if promQL {
						v, err = m.ask(b.Context(), e, t0)
					} else {
						v, _, err = m.sumBehind(b.Context(), e, t0, known)
					}
					if err != nil || len(v) != pods/10 {
						b.Fatal(len(v), err)
					}
				}
			}
		})
	}
}
