package custom

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"go.uber.org/goleak"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
	"github.com/crowsnest-dev/crowsnest/storage/metrics"
	"github.com/crowsnest-dev/crowsnest/storage/rollup"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWhatIsWrongIsSaidAllAtOnce(t *testing.T) {
	for name, tc := range map[string]struct{ document, want string }{
		"nothing of it is right": {
			`{"apiVersion":"crowsnest.dev/v1","kind":"Metric","metadata":{"name":"9-lives"},"spec":{"title":"","level":"pot","unit":"MB","expr":"sum(","dimensions":["a b","cluster"],"statistic":"increase",
			  "alert":{"op":"=","threshold":1,"period":"1s","need":3,"of":2,"severity":"bad"},"chart":{"max":-1}}}`,
			"metadata.name spec.title spec.level spec.unit spec.statistic spec.chart spec.dimensions[0] spec.expr spec.alert.statistic spec.alert.op spec.alert.severity spec.alert.period spec.alert.need",
		},
		"unknown key":              {`{"apiVersion":"crowsnest.dev/v1","kind":"Metric","metadata":{"name":"a-b"},"spec":{"title":"T","level":"pod","unit":"s","expr":"x","query":"y"}}`, "spec.query"},
		"a name of the catalogue":  {`{"apiVersion":"crowsnest.dev/v1","kind":"Metric","metadata":{"name":"k8s-pod-cpu-core-used"},"spec":{"title":"T","level":"pod","unit":"s","expr":"x"}}`, "metadata.name"},
		"a name of others":         {`{"apiVersion":"crowsnest.dev/v1","kind":"Metric","metadata":{"name":"kube-things"},"spec":{"title":"T","level":"pod","unit":"s","expr":"x"}}`, "metadata.name"},
		"a name of Prometheus":     {`{"apiVersion":"crowsnest.dev/v1","kind":"Metric","metadata":{"name":"up"},"spec":{"title":"T","level":"pod","unit":"s","expr":"x"}}`, "metadata.name"},
		"no series":                {`{"apiVersion":"crowsnest.dev/v1","kind":"Metric","metadata":{"name":"a-b"},"spec":{"title":"T","level":"cluster","unit":"s","expr":"time()"}}`, "spec.expr"},
		"a matrix":                 {`{"apiVersion":"crowsnest.dev/v1","kind":"Metric","metadata":{"name":"a-b"},"spec":{"title":"T","level":"cluster","unit":"s","expr":"x[5m]"}}`, "spec.expr"},
		"dimensions that it is of": {`{"apiVersion":"crowsnest.dev/v1","kind":"Metric","metadata":{"name":"a-b"},"spec":{"title":"T","level":"pod","unit":"s","expr":"x","dimensions":["node","code","code"]}}`, "spec.dimensions[0] spec.dimensions[2]"},
		"an expression without end": {fmt.Sprintf(`{"apiVersion":"crowsnest.dev/v1","kind":"Metric","metadata":{"name":"a-b"},"spec":{"title":"T","level":"pod","unit":"s","expr":"x + %s x"}}`, strings.Repeat("x + ", 2000)),
			"spec.expr"},
	} {
		_, err := Parse([]byte(tc.document))
		var fields fault.Fields
		if !errors.As(err, &fields) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		paths := make([]string, len(fields))
		for i, f := range fields {
			paths[i] = f.Path
		}
		if got := strings.Join(paths, " "); got != tc.want {
			t.Errorf("%s: %s\n%v", name, got, err)
		}
	}
}

func TestWhatIsLeftOutIsFilled(t *testing.T) {
	o, err := Parse([]byte("apiVersion: crowsnest.dev/v1\nkind: Metric\nmetadata: {name: cart-orders}\nspec:\n  title: Orders\n  level: workload\n  unit: 1/s\n  expr: sum by (namespace, workload_type, workload) (rate(orders_total[2m]))\n  alert: {op: '<', threshold: 1, of: 3}\n"))
	if err != nil {
		t.Fatal(err)
	}
	e := o.entry()
	if e.Name != "cart_orders" || e.Statistic != catalogue.Avg || e.Place != catalogue.ByServer || e.Chart.Group != "cart_orders" || e.Help == "" {
		t.Errorf("entry %+v", e)
	}
	if a := e.Alert; a.Statistic != catalogue.Avg || a.Period != time.Minute || a.Need != 3 || a.Of != 3 || a.Severity != catalogue.Warning {
		t.Errorf("alert %+v", a)
	}
}

// Each selector of an expression sees one cluster, whatever it asks for itself.
func TestAnExpressionSeesOneCluster(t *testing.T) {
	for expr, want := range map[string]string{
		`a`: `a{cluster="c1"}`,
		`sum(rate(a{x="1"}[5m])) / ignoring(y) b offset 1m`: `sum(rate(a{cluster="c1",x="1"}[5m])) / ignoring (y) b{cluster="c1"} offset 1m`,
		`a{cluster="other"}`:         `a{cluster="c1",cluster="other"}`,
		`max_over_time(a[1h:1m])`:    `max_over_time(a{cluster="c1"}[1h:1m])`,
		`absent(a) or vector(1)`:     `absent(a{cluster="c1"}) or vector(1)`,
		`{__name__=~"a|b"} unless c`: `{__name__=~"a|b",cluster="c1"} unless c{cluster="c1"}`,
	} {
		e, err := selective(expr, "c1")
		if err != nil || e.String() != want {
			t.Errorf("%s became %v, %v", expr, e, err)
		}
	}
}

type bench struct {
	t     *testing.T
	db    *metrics.DB
	rows  *meta.DB
	m     *Metrics
	mu    sync.Mutex
	after []time.Time // that Next was told of
	reg   *prometheus.Registry
}

var t0 = time.Date(2026, 11, 28, 9, 0, 0, 0, time.UTC)

// roomy is a budget that no test is to meet on a busy machine.
const roomy = 2 * time.Minute

func newBench(t *testing.T, objects ...string) *bench {
	t.Helper()
	return newBenchOf(t, true, objects...)
}

func newBenchOf(t *testing.T, onlyCustom bool, objects ...string) *bench {
	t.Helper()
	b := &bench{t: t, reg: prometheus.NewRegistry()}
	dir := t.TempDir()
	var err error
	if b.db, err = metrics.Open(metrics.Options{Dir: filepath.Join(dir, "metrics"), MinFreeBytes: 1}); err != nil {
		t.Fatal(err)
	}
	if b.rows, err = meta.Open(filepath.Join(dir, "meta.db")); err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		b.create(o)
	}
	b.m, err = New(t.Context(), Options{Store: b.db, Rows: b.rows, OnlyCustom: onlyCustom, Registerer: b.reg, Now: func() time.Time { return t0.Add(time.Second) }, budget: roomy, Next: func(w rollup.Written) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.after = append(b.after, w.At)
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, b.db.Close(), b.rows.Close()); err != nil {
			t.Error(err)
		}
		catalogue.SetCustom(nil)
	})
	return b
}

func (b *bench) create(document string) {
	b.t.Helper()
	o, err := Parse([]byte(document))
	if err != nil {
		b.t.Fatal(err)
	}
	spec, err := json.Marshal(o.Spec)
	if err != nil {
		b.t.Fatal(err)
	}
	err = b.rows.Update(b.t.Context(), func(tx *meta.Tx) error {
		return tx.CreateResource(meta.Resource{ID: "met_" + o.Metadata.Name, Kind: meta.KindMetric, Project: "default", Name: o.Metadata.Name, Spec: spec, ManagedBy: "file", CreatedAt: t0, UpdatedAt: t0})
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) put(at time.Time, v float64, series ...string) {
	b.t.Helper()
	app := b.db.Appender(b.t.Context())
	if _, err := app.Append(0, labels.FromStrings(series...), at.UnixMilli(), v); err != nil {
		b.t.Fatal(err)
	}
	if err := app.Commit(); err != nil {
		b.t.Fatal(err)
	}
}

// rolledUp tells of an interval and waits until the next one is told.
func (b *bench) rolledUp(cluster string, at time.Time) {
	b.t.Helper()
	b.mu.Lock()
	before := len(b.after)
	b.mu.Unlock()
	b.m.RolledUp(rollup.Written{Cluster: cluster, At: at, Coverage: 1, Complete: true})
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		b.mu.Lock()
		n := len(b.after)
		b.mu.Unlock()
		if n > before {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatal("the interval was not passed on")
		}
	}
}

// stored gives the samples of a series name as text.
func (b *bench) stored(name string) string {
	b.t.Helper()
	q, err := b.db.Querier(t0.Add(-time.Hour).UnixMilli(), t0.Add(time.Hour).UnixMilli())
	if err != nil {
		b.t.Fatal(err)
	}
	defer q.Close()
	var out []string
	for set := q.Select(b.t.Context(), true, nil, labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, name)); set.Next(); {
		line := set.At().Labels().DropReserved(func(n string) bool { return n == labels.MetricName }).String()
		for it := set.At().Iterator(nil); it.Next() != 0; {
			at, v := it.At()
			text := fmt.Sprint(v)
			if value.IsStaleNaN(v) {
				text = "stale"
			}
			line += fmt.Sprintf(" %d:%s", (at-t0.UnixMilli())/1000, text)
		}
		out = append(out, line)
	}
	return strings.Join(out, "; ")
}

const orders = "apiVersion: crowsnest.dev/v1\nkind: Metric\nmetadata: {name: shop-orders}\nspec: {title: Orders, level: workload, unit: count, dimensions: [code], expr: 'sum by (cluster, namespace, workload_type, workload, code, noise) (orders)'}\n"

func TestAMetricBecomesOrdinarySeriesOfTheGrid(t *testing.T) {
	b := newBench(t, orders)
	for _, cluster := range []string{"c1", "c2"} {
		for pod, v := range map[string]float64{"a": 1, "b": 2} {
			b.put(t0, v, labels.MetricName, "orders", "cluster", cluster, "namespace", "shop", "workload_type", "deployment", "workload", "cart", "pod", pod, "code", "200", "noise", "x")
		}
	}
	if got, ok := catalogue.Get("shop_orders"); !ok || got.Level != catalogue.Workload || catalogue.Nearest("shop_order") != "shop_orders" {
		t.Errorf("the catalogue has %+v, %v", got, ok)
	}
	for name, want := range map[string]bool{"orders": true, "shop_orders": false, "nobody_sends_it": false} {
		if sent, err := b.m.Sent(name); err != nil || sent != want {
			t.Errorf("%s is sent: %v, %v", name, sent, err)
		}
	}
	b.rolledUp("c1", t0)
	b.rolledUp("c1", t0) // the same again adds nothing
	b.rolledUp("c1", t0.Add(30*time.Second))
	want := `{cluster="c1", code="200", namespace="shop", workload="cart", workload_type="deployment"} 0:3 30:3`
	if got := b.stored("shop_orders"); got != want {
		t.Errorf("stored\n%s, want\n%s", got, want)
	}
	for pod := range map[string]float64{"a": 1, "b": 2} { // both end
		b.put(t0.Add(40*time.Second), math.Float64frombits(value.StaleNaN), labels.MetricName, "orders", "cluster", "c1", "namespace", "shop", "workload_type", "deployment", "workload", "cart", "pod", pod, "code", "200", "noise", "x")
	}
	b.rolledUp("c1", t0.Add(time.Minute))
	if got := b.stored("shop_orders"); got != want+" 60:stale" {
		t.Errorf("after the end\n%s", got)
	}
	o := &CustomMetric{}
	o.Metadata.Name = "shop-orders"
	b.m.Show(o)
	if s := o.Status; s.Name != "shop_orders" || len(s.Clusters) != 1 || s.Clusters[0].Cluster != "c1" || s.Clusters[0].Problem != "" || !s.Clusters[0].At.Equal(t0.Add(time.Minute)) {
		t.Errorf("status %+v", s)
	}
}

func TestAMetricThatGivesNothingSaysWhyAndHoldsUpNothing(t *testing.T) {
	spec := func(name, level, expr, more string) string {
		return fmt.Sprintf("apiVersion: crowsnest.dev/v1\nkind: Metric\nmetadata: {name: %s}\nspec: {title: T, level: %s, unit: count, expr: '%s'%s}\n", name, level, expr, more)
	}
	b := newBench(t,
		spec("a-lacks", "workload", "sum by (namespace) (orders)", ""),
		spec("b-twice", "cluster", "orders", ""),
		spec("c-fails", "cluster", "orders * on (pod) orders * on (x) group_left () orders", ""),
		spec("d-elsewhere", "cluster", "sum(orders)", ", clusters: [c9]"),
		spec("e-good", "cluster", "scalar(sum(orders))", ""),
	)
	b.put(t0, 1, labels.MetricName, "orders", "cluster", "c1", "namespace", "shop", "pod", "a")
	b.put(t0, 2, labels.MetricName, "orders", "cluster", "c1", "namespace", "shop", "pod", "b")
	b.rolledUp("c1", t0)
	for name, want := range map[string]string{"a-lacks": "no label workload_type", "b-twice": "two values for", "c-fails": "many-to-many", "e-good": ""} {
		o := &CustomMetric{}
		o.Metadata.Name = name
		b.m.Show(o)
		if len(o.Status.Clusters) != 1 || !strings.Contains(o.Status.Clusters[0].Problem, want) || (want == "") != (o.Status.Clusters[0].Problem == "") {
			t.Errorf("%s: %+v", name, o.Status)
		}
	}
	if got := b.stored("e_good"); got != `{cluster="c1"} 0:3` {
		t.Errorf("the one that works has %s", got)
	}
	if got := b.stored("a_lacks") + b.stored("b_twice") + b.stored("d_elsewhere"); got != "" {
		t.Errorf("stored %s", got)
	}
	if err := testutil.GatherAndCompare(b.reg, strings.NewReader(`
# HELP crowsnest_custom_failed_evaluations_total Evaluations of custom metrics that gave no sample, by reason.
# TYPE crowsnest_custom_failed_evaluations_total counter
crowsnest_custom_failed_evaluations_total{reason="labels"} 2
crowsnest_custom_failed_evaluations_total{reason="overrun"} 0
crowsnest_custom_failed_evaluations_total{reason="overtake"} 0
crowsnest_custom_failed_evaluations_total{reason="query"} 1
crowsnest_custom_failed_evaluations_total{reason="series"} 0
crowsnest_custom_failed_evaluations_total{reason="store"} 0
`)); err != nil {
		t.Error(err)
	}
}

func TestTooManySeriesAreNone(t *testing.T) {
	b := newBench(t, orders)
	app := b.db.Appender(t.Context())
	for i := range MaxSeries + 1 {
		if _, err := app.Append(0, labels.FromStrings(labels.MetricName, "orders", "cluster", "c1", "namespace", "shop", "workload_type", "d", "workload", fmt.Sprint(i)), t0.UnixMilli(), 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	b.rolledUp("c1", t0)
	o := &CustomMetric{}
	o.Metadata.Name = "shop-orders"
	b.m.Show(o)
	if s := o.Status.Clusters; len(s) != 1 || !strings.Contains(s[0].Problem, "at most 20000") {
		t.Errorf("status %+v", s)
	}
	if got := b.stored("shop_orders"); got != "" {
		t.Errorf("stored %d bytes", len(got))
	}
}

func TestWithoutMetricsAnIntervalIsPassedOnAtOnceAndAChangeIsSeen(t *testing.T) {
	b := newBench(t)
	b.rolledUp("c1", t0)
	b.create(orders)
	b.m.Changed()
	if _, ok := catalogue.Get("shop_orders"); !ok {
		t.Error("the new metric is not in the catalogue")
	}
	b.put(t0, 4, labels.MetricName, "orders", "cluster", "c1", "namespace", "shop", "workload_type", "d", "workload", "w")
	b.rolledUp("c1", t0.Add(30*time.Second))
	if got := b.stored("shop_orders"); !strings.HasSuffix(got, " 30:4") {
		t.Errorf("stored %s", got)
	}
	if err := b.rows.Update(t.Context(), func(tx *meta.Tx) error { return tx.DeleteResource(meta.KindMetric, "default", "shop-orders") }); err != nil {
		t.Fatal(err)
	}
	b.m.Changed()
	if _, ok := catalogue.Get("shop_orders"); ok {
		t.Error("the deleted metric is still in the catalogue")
	}
}

// The catalogue's own expressions give what they say, of series as collectors send
// them.
func TestTheCataloguesOwnExpressions(t *testing.T) {
	b := newBenchOf(t, false)
	pod := func(name string, v float64, metric string) {
		b.put(t0, v, labels.MetricName, metric, "cluster", "c1", "namespace", "shop", "workload_type", "deployment", "workload", "cart", "pod", name, "node", "n1")
	}
	for name, v := range map[string]float64{"a": 1, "b": 2, "elsewhere": 4} {
		pod(name, v, "k8s_pod_cpu_core_used")
	}
	// A pod whose series from before it had its node, or from another node, lingers has
	// one value all the same.
	for _, name := range []string{"k8s_pod_cpu_core_used", "k8s_pod_restart_total"} {
		b.put(t0.Add(-2*time.Minute), 0, labels.MetricName, name, "cluster", "c1", "namespace", "shop", "workload_type", "deployment", "workload", "cart", "pod", "a")
		b.put(t0.Add(-time.Minute), 0.5, labels.MetricName, name, "cluster", "c1", "namespace", "shop", "workload_type", "deployment", "workload", "cart", "pod", "a", "node", "gone")
	}
	for _, name := range []string{"a", "b", "not-measured"} {
		b.put(t0, 1, labels.MetricName, "k8s_service_pod", "cluster", "c1", "namespace", "shop", "service", "web", "pod", name)
	}
	b.put(t0, 7, labels.MetricName, "k8s_workload_cpu_core_used", "cluster", "c1", "namespace", "shop", "workload_type", "deployment", "workload", "cart")
	b.put(t0, 28, labels.MetricName, "k8s_cluster_cpu_core_total", "cluster", "c1")
	b.put(t0, 0, labels.MetricName, "k8s_cluster_memory_total", "cluster", "c1") // nothing is divided by it
	b.put(t0, 9, labels.MetricName, "k8s_workload_mem_no_cache_bytes", "cluster", "c1", "namespace", "shop", "workload_type", "deployment", "workload", "cart")
	pod("a", 2, "k8s_pod_gpu_request")
	pod("b", 1, "k8s_pod_gpu_request")
	// DCGM's own labels, and as they are where the scrape kept its own.
	b.put(t0, 50, labels.MetricName, "DCGM_FI_DEV_GPU_UTIL", "cluster", "c1", "gpu", "0", "namespace", "shop", "pod", "a")
	b.put(t0, 100, labels.MetricName, "DCGM_FI_DEV_GPU_UTIL", "cluster", "c1", "gpu", "1", "namespace", "shop", "pod", "a")
	b.put(t0, 25, labels.MetricName, "DCGM_FI_DEV_GPU_UTIL", "cluster", "c1", "gpu", "2", "namespace", "gpu", "pod", "dcgm", "exported_namespace", "shop", "exported_pod", "b")
	for ago, n := range map[time.Duration]float64{6 * time.Minute: 3, 2 * time.Minute: 5, 0: 7} { // "a" restarted twice in the window
		b.put(t0.Add(-ago), n, labels.MetricName, "k8s_pod_restart_total", "cluster", "c1", "namespace", "shop", "workload_type", "deployment", "workload", "cart", "pod", "a", "node", "n1")
	}
	pod("b", 50, "k8s_pod_restart_total") // long ago, seen for the first time
	for peer, reached := range map[string]float64{"n2": 1, "n3": 0, "n4": 0, "n5": 0} {
		for _, probe := range []string{"node", "kubelet", "collector"} {
			v := 0.0
			if probe == "node" {
				v = reached
			}
			b.put(t0, v, labels.MetricName, "k8s_node_peer_reached", "cluster", "c1", "node", "n1", "peer", peer, "probe", probe)
		}
	}
	for name, v := range map[string]float64{"network_receive_packets": 3, "fs_write_times": 5} {
		pod("a", v, "k8s_pod_"+name)
		pod("b", 2*v, "k8s_pod_"+name)
	}
	for name, v := range map[string]float64{"k8s_service_cpu_core_limit": 6, "k8s_service_mem_limit_bytes": 0} { // nothing is divided by none
		b.put(t0, v, labels.MetricName, name, "cluster", "c1", "namespace", "shop", "service", "web")
	}
	for name, v := range map[string]float64{"k8s_namespace_cpu_core_used": 7, "k8s_namespace_cpu_core_limit": 10, "k8s_namespace_mem_no_cache_bytes": 9} {
		b.put(t0, v, labels.MetricName, name, "cluster", "c1", "namespace", "shop")
	}
	b.rolledUp("c1", t0)
	for name, want := range map[string]string{
		"k8s_service_network_receive_packets":     `{cluster="c1", namespace="shop", service="web"} 0:9`,
		"k8s_service_fs_write_times":              `{cluster="c1", namespace="shop", service="web"} 0:15`,
		"k8s_service_fs_read_bytes":               ``,
		"k8s_service_rate_cpu_core_used_limit":    `{cluster="c1", namespace="shop", service="web"} 0:50`,
		"k8s_service_rate_mem_no_cache_limit":     ``,
		"k8s_service_rate_cpu_core_used_cluster":  `{cluster="c1", namespace="shop", service="web"} 0:10.714285714285714`,
		"k8s_service_rate_mem_no_cache_cluster":   ``,
		"k8s_namespace_rate_cpu_core_used_limit":  `{cluster="c1", namespace="shop"} 0:70`,
		"k8s_namespace_rate_mem_no_cache_limit":   ``,
		"k8s_service_pod_restarts":                `{cluster="c1", namespace="shop", service="web"} 0:2`,
		"k8s_node_peers_reached":                  `{cluster="c1", node="n1"} 0:25`,
		"k8s_service_cpu_core_used":               `{cluster="c1", namespace="shop", service="web"} 0:3`,
		"k8s_service_mem_no_cache_bytes":          ``,
		"k8s_workload_rate_cpu_core_used_cluster": `{cluster="c1", namespace="shop", workload="cart", workload_type="deployment"} 0:25`,
		"k8s_workload_rate_mem_no_cache_cluster":  ``,
		"k8s_pod_gpu_used": `{cluster="c1", namespace="shop", node="n1", pod="a", workload="cart", workload_type="deployment"} 0:1.5; ` +
			`{cluster="c1", namespace="shop", node="n1", pod="b", workload="cart", workload_type="deployment"} 0:0.25`,
	} {
		if got := b.stored(name); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
}
