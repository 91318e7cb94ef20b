package inventory

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"
	"go.uber.org/goleak"

	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/api/problem"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
	"github.com/crowsnest-dev/crowsnest/storage/inventory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// promqltest's samples begin at the epoch; now is two hours later.
var now = time.Unix(2*3600, 0).UTC()

// counting counts the Selects, so that nobody reads series one by one.
type counting struct {
	storage.Queryable
	selects *int
}

func (c counting) Querier(mint, maxt int64) (storage.Querier, error) {
	q, err := c.Queryable.Querier(mint, maxt)
	return countingQuerier{q, c.selects}, err
}

type countingQuerier struct {
	storage.Querier
	selects *int
}

func (c countingQuerier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, m ...*labels.Matcher) storage.SeriesSet {
	*c.selects++
	return c.Querier.Select(ctx, sorted, hints, m...)
}

type world struct {
	store   *inventory.Store
	url     string
	selects int
	opts    Options
}

// serve makes a server over an inventory with the objects and the series.
func serve(t *testing.T, series string, who *access.Principal, change func(*Options), objects ...object.Object) *world {
	t.Helper()
	w := &world{}
	var err error
	w.store, err = inventory.Open(inventory.Options{Path: filepath.Join(t.TempDir(), "inventory.db"), Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.store.Close(); err != nil {
			t.Error(err)
		}
	})
	if len(objects) > 0 {
		b := &wire.InventoryBatch{Session: "s", Sequence: 1, Time: now.Add(-20 * time.Minute), Snapshot: true, Last: true, ClusterKind: "managed", ClusterVersion: "v1.34.1"}
		for _, o := range objects {
			b.Put(o)
		}
		if err := w.store.Apply(t.Context(), "prod", b); err != nil {
			t.Fatal(err)
		}
	}
	w.opts = Options{Store: w.store, Now: func() time.Time { return now }}
	if series != "" {
		st := promqltest.LoadedStorage(t, series)
		t.Cleanup(func() {
			if err := st.Close(); err != nil {
				t.Error(err)
			}
		})
		w.opts.Values = counting{st, &w.selects}
	}
	if change != nil {
		change(&w.opts)
	}
	problem.Use()
	mux := http.NewServeMux()
	config := huma.DefaultConfig("test", "v1")
	config.CreateHooks = nil
	api := humago.New(mux, config)
	Register(api, w.opts)
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if who != nil {
			r = r.WithContext(access.With(r.Context(), *who))
		}
		mux.ServeHTTP(rw, r)
	}))
	t.Cleanup(srv.Close)
	w.url = srv.URL
	return w
}

var admin = &access.Principal{Kind: access.LocalAdmin}

func pagesAreTheWhole[T any](t *testing.T, w *world, path string) {
	t.Helper()
	want := fetch[page[T]](t, w, path).Items
	var got []T
	for cursor := "0"; ; {
		part := fetch[page[T]](t, w, path+"?limit=1&cursor="+cursor)
		got = append(got, part.Items...)
		if part.Next == nil {
			break
		}
		cursor = *part.Next
	}
	if len(want) < 2 || !reflect.DeepEqual(got, want) {
		t.Errorf("%s, one by one: %+v, want %+v", path, got, want)
	}
}

func fetch[T any](t *testing.T, w *world, path string) T {
	t.Helper()
	var out T
	status, body := raw(t, w, path)
	if status != http.StatusOK {
		t.Fatalf("GET %s: %d %s", path, status, body)
	}
	if err := json.Unmarshal([]byte(body), &out); err != nil {
		t.Fatalf("GET %s: %v in %s", path, err, body)
	}
	return out
}

func raw(t *testing.T, w *world, path string) (int, string) {
	t.Helper()
	resp, err := http.Get(w.url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var b strings.Builder
	if _, err := fmt.Fprint(&b, readAll(t, resp)); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, b.String()
}

func readAll(t *testing.T, resp *http.Response) string {
	t.Helper()
	var b strings.Builder
	buf := make([]byte, 4096)
	for {
		n, err := resp.Body.Read(buf)
		b.Write(buf[:n])
		if err != nil {
			return b.String()
		}
	}
}

func node(name string, ready bool) *object.Node {
	status := map[bool]string{true: "True", false: "Unknown"}[ready]
	return &object.Node{
		Meta: object.Meta{UID: "u-" + name, Name: name, CreatedAt: now.Add(-30 * 24 * time.Hour)}, Ready: ready,
		Allocatable: object.Resources{CPUCores: 4, HasCPU: true, MemoryBytes: 16e9, HasMemory: true},
		Conditions:  []object.Condition{{Type: "Ready", Status: status, Reason: "KubeletReady", Since: now.Add(-time.Hour)}},
	}
}

func workload(name string, desired, ready int) *object.Workload {
	return &object.Workload{
		Meta: object.Meta{UID: "w-" + name, Namespace: "shop", Name: name, CreatedAt: now.Add(-48 * time.Hour)},
		Ref:  object.WorkloadRef{Type: "deployment", Name: name}, Desired: desired, Ready: ready, Abnormal: desired - ready,
	}
}

func pod(name, workload, node, phase, reason string, ready bool) *object.Pod {
	c := object.Container{Name: "app", State: "running", Ready: ready, StartedAt: now.Add(-time.Hour)}
	if reason != "" {
		c.State, c.Reason, c.RestartCount = "waiting", reason, 7
		c.Last = &object.Termination{Reason: "Error", ExitCode: 1, FinishedAt: now.Add(-time.Minute)}
	}
	return &object.Pod{
		Meta: object.Meta{UID: "p-" + name, Namespace: "shop", Name: name, CreatedAt: now.Add(-time.Hour)},
		Node: node, Workload: object.WorkloadRef{Type: "deployment", Name: workload}, Phase: phase, Ready: ready,
		Containers: []object.Container{c}, Requests: object.Resources{CPUCores: 0.5, HasCPU: true, MemoryBytes: 1e9, HasMemory: true},
	}
}

const series = `load 30s
	k8s_cluster_rate_cpu_core_used_cluster{cluster="prod"} 25x240
	k8s_cluster_rate_mem_no_cache_bytes_cluster{cluster="prod"} 50x200
	k8s_cluster_pod_num{cluster="prod",phase="Running"} 2x239
	k8s_node_cpu_usage{cluster="prod",node="n-1"} 10x239 12.5
	k8s_node_mem_usage{cluster="prod",node="n-1"} 40x240
	k8s_node_pod_restart_total{cluster="prod",node="n-1"} 3x119 3 4 4 6x118
	k8s_workload_cpu_core_used{cluster="prod",namespace="shop",workload_type="deployment",workload="cart"} 1.5x240
	k8s_workload_mem_no_cache_bytes{cluster="prod",namespace="shop",workload_type="deployment",workload="cart"} 2e9x240
	k8s_workload_pod_restart_total{cluster="prod",namespace="shop",workload_type="deployment",workload="cart"} 10x200 12x20 1x20
	k8s_pod_cpu_core_used{cluster="prod",namespace="shop",pod="cart-1",node="n-1"} 0.25x240
	k8s_pod_cpu_core_used{cluster="prod",namespace="shop",pod="web-1",node="n-1"} 0.75x230 stale _x9
	k8s_pod_mem_no_cache_bytes{cluster="prod",namespace="shop",pod="cart-1",node="n-1"} 1e9x240
	k8s_pod_cpu_core_used{cluster="other",namespace="shop",pod="cart-1",node="n-1"} 99x240
`

func TestLists(t *testing.T) {
	w := serve(t, series, admin, func(o *Options) {
		o.Known = func(context.Context) ([]Known, error) {
			return []Known{{ID: "prod", Name: "Production"}, {ID: "new", Name: "New one"}}, nil
		}
		o.Incidents = func(context.Context) (map[string]IncidentCount, error) {
			return map[string]IncidentCount{"prod": {Warning: 1}}, nil
		}
		o.Health = func(cluster string) map[string]wire.Health {
			if cluster != "prod" {
				return nil
			}
			return map[string]wire.Health{"all": {Time: now.Add(-10 * time.Second), IntervalSeconds: 30, Unavailable: map[string]string{"k8s_container_fs_read_bytes": "cgroup v1", "k8s_pod_fs_read_bytes": "cgroup v1"},
				Sources: []wire.SourceHealth{{Name: "objects", Up: true, LastSuccess: now}, {Name: "cadvisor/n-1", Error: "refused", Expected: 3, Measured: 0}}}}
		}
	}, node("n-1", true), node("n-2", true), &object.Node{Meta: object.Meta{UID: "v", Name: "virtual"}, Ready: true, Virtual: true, Allocatable: object.Resources{CPUCores: 1000}},
		workload("cart", 2, 0), workload("web", 1, 1),
		pod("cart-1", "cart", "n-1", "Running", "CrashLoopBackOff", false), pod("web-1", "web", "n-1", "Running", "", true), pod("old", "cart", "n-1", "Succeeded", "", false))

	list := fetch[page[Cluster]](t, w, "/clusters")
	if len(list.Items) != 2 || list.Next != nil || list.Items[1].State != StateWaiting || list.Items[1].LastSeenAt != nil || list.Items[1].Sentence == "" {
		t.Fatalf("clusters: %+v", list)
	}
	c := list.Items[0]
	if got, want := c.Sentence, "1 of 2 workloads is unhealthy; cart has been restarting for 20 min; 1 of 2 sources cannot be read"; got != want {
		t.Errorf("sentence: %q, want %q", got, want)
	}
	if c.ID != "prod" || c.Name != "Production" || c.State != StateWarning || c.Kind != "managed" || c.Version != "v1.34.1" || c.IntervalSeconds != 30 {
		t.Errorf("cluster: %+v", c)
	}
	if c.Nodes != (NodeCount{2, 2}) || c.Workloads != (WorkloadCount{2, 1}) || c.Pods["running"] != 2 || c.Pods["succeeded"] != 1 || len(c.Pods) != 5 {
		t.Errorf("counts: %+v", c)
	}
	if c.CPU.Used == nil || *c.CPU.Used != 2 || *c.CPU.Requested != 1 || *c.CPU.Allocatable != 8 {
		t.Errorf("cpu: %+v", c.CPU)
	}
	if c.Memory.Used != nil { // the samples ended 20 min ago
		t.Errorf("memory: %v", *c.Memory.Used)
	}
	if len(c.Sources) != 2 || c.Sources[0].Name != "cadvisor/n-1" || c.Sources[0].LastSuccessAt != nil {
		t.Errorf("sources: %+v", c.Sources)
	}
	reasons := map[string]string{}
	for _, u := range c.Unavailable {
		reasons[u.Metric] = u.Reason
	}
	// What the collector says, what is made of it, and what the kind lacks; no guess.
	if reasons["k8s_container_fs_read_bytes"] != "cgroup v1" || reasons["k8s_service_fs_read_bytes"] != "cgroup v1" || reasons["k8s_workload_fs_read_bytes"] != "cgroup v1" || reasons["k8s_workload_fs_write_bytes"] != "" || reasons["k8s_node_tcp_curr_estab"] != "" {
		t.Errorf("unavailable: %+v", c.Unavailable)
	}
	if one := fetch[Cluster](t, w, "/clusters/prod"); one.Sentence != c.Sentence {
		t.Errorf("the cluster alone: %+v", one)
	}

	w.selects = 0
	nodes := fetch[page[Node]](t, w, "/clusters/prod/nodes")
	if n := nodes.Items[0]; len(nodes.Items) != 3 || n.Name != "n-1" || n.CPUPercent == nil || *n.CPUPercent != 12.5 || *n.MemPercent != 40 || n.Pods != 2 || *n.Restarts1h != 3 || len(n.Reasons) != 0 {
		t.Errorf("nodes: %+v", nodes.Items)
	}
	if n := fetch[Node](t, w, "/clusters/prod/nodes/n-2"); n.CPUPercent != nil || n.Restarts1h != nil {
		t.Errorf("n-2, which has no samples: %+v", n)
	}
	workloads := fetch[page[Workload]](t, w, "/clusters/prod/workloads?namespace=shop")
	if x := workloads.Items[0]; len(workloads.Items) != 2 || x.Name != "cart" || *x.CPUCores != 1.5 || *x.MemBytes != 2e9 || *x.Restarts1h != 3 { // 10 → 12, a new counter at 1
		t.Errorf("workloads: %+v", workloads.Items)
	}
	if x := fetch[Workload](t, w, "/clusters/prod/namespaces/shop/workloads/deployment/cart"); *x.Restarts1h != 3 || x.Desired != 2 {
		t.Errorf("the workload alone: %+v", x)
	}
	w.selects = 0
	pods := fetch[page[Pod]](t, w, "/clusters/prod/pods")
	if p := pods.Items[0]; len(pods.Items) != 3 || p.Name != "cart-1" || p.Reason != "CrashLoopBackOff" || *p.CPUCores != 0.25 || *p.MemBytes != 1e9 || p.CPULimitPercent != nil || p.Restarts != 7 || p.Containers[0].Last.ExitCode != 1 {
		t.Errorf("pods: %+v", pods.Items)
	}
	if w.selects != 4 {
		t.Errorf("the list of pods made %d selects, want one for each of 4 metrics", w.selects)
	}
	if p := fetch[Pod](t, w, "/clusters/prod/namespaces/shop/pods/web-1"); p.CPUCores != nil || p.Reason != "" {
		t.Errorf("web-1, whose series ended: %+v", p)
	}
	for filter, want := range map[string]int{"node=n-1": 3, "node=n-2": 0, "workload=web": 1, "workload=web&workload_type=statefulset": 0, "namespace=other": 0, "limit=2": 2, "limit=2&cursor=2": 1, "cursor=9": 0} {
		if got := fetch[page[Pod]](t, w, "/clusters/prod/pods?"+filter); len(got.Items) != want || (got.Next != nil) != (filter == "limit=2") {
			t.Errorf("%s: %d pods, next %v, want %d", filter, len(got.Items), got.Next, want)
		}
	}
	// A part of a list is a part of the whole, values included.
	pagesAreTheWhole[Node](t, w, "/clusters/prod/nodes")
	pagesAreTheWhole[Workload](t, w, "/clusters/prod/workloads")
	pagesAreTheWhole[Pod](t, w, "/clusters/prod/pods")

	// What is gone says so.
	b := &wire.InventoryBatch{Session: "s", Sequence: 2, Time: now, Deleted: []wire.Deleted{{Key: object.Key{Kind: object.KindPod, Namespace: "shop", Name: "old"}, UID: "p-old"}}}
	if err := w.store.Apply(t.Context(), "prod", b); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/clusters/prod/namespaces/shop/pods/old":  "was deleted at 1970-01-01T02:00:00Z",
		"/clusters/prod/namespaces/shop/pods/none": "not found",
		"/clusters/none":         "does not exist",
		"/clusters/none/pods":    "does not exist",
		"/clusters/none/nodes/x": "cluster",
	} {
		if status, body := raw(t, w, path); status != http.StatusNotFound || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	for _, path := range []string{"/clusters/prod/pods?cursor=x", "/clusters/prod/pods?limit=-1"} {
		if status, body := raw(t, w, path); status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if got := fetch[page[Pod]](t, w, "/clusters/new/pods"); len(got.Items) != 0 {
		t.Errorf("a cluster that sent nothing: %+v", got)
	}
}

func TestWhoMayAsk(t *testing.T) {
	for who, want := range map[*access.Principal]int{nil: 401, {Kind: access.IngestToken, Cluster: "prod"}: 403, {Kind: access.APIToken}: 200} {
		w := serve(t, "", who, nil, node("n-1", true), workload("cart", 1, 1), pod("cart-1", "cart", "n-1", "Running", "", true),
			&object.Namespace{Meta: object.Meta{UID: "n", Name: "shop"}}, &object.Service{Meta: object.Meta{UID: "s", Namespace: "shop", Name: "x"}})
		for _, path := range []string{
			"/clusters", "/clusters/prod", "/clusters/prod/nodes", "/clusters/prod/nodes/n-1", "/clusters/prod/workloads",
			"/clusters/prod/namespaces/shop/workloads/deployment/cart", "/clusters/prod/pods", "/clusters/prod/namespaces/shop/pods/cart-1", "/clusters/prod/namespaces", "/clusters/prod/namespaces/shop", "/clusters/prod/services", "/clusters/prod/namespaces/shop/services/x",
		} {
			if status, body := raw(t, w, path); status != want {
				t.Errorf("%v asks %s: %d %s, want %d", who, path, status, body, want)
			}
		}
	}
}

func TestNodeReasons(t *testing.T) {
	n := node("n", false)
	n.Unschedulable = true
	n.Conditions = append(n.Conditions, object.Condition{Type: "DiskPressure", Status: "True"}, object.Condition{Type: "PIDPressure", Status: "False"})
	n.Conditions[0].Reason = "NodeStatusUnknown"
	if got, want := fmt.Sprint(nodeReasons(n)), "[NotReady: NodeStatusUnknown DiskPressure Cordoned]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestJudge(t *testing.T) {
	good := facts{synced: true, lastSeen: now.Add(-time.Minute), interval: 30 * time.Second, nodes: NodeCount{3, 3}, workloads: WorkloadCount{40, 0}}
	bad := func(abnormal int, t trouble) func(*facts) {
		return func(f *facts) { f.workloads.Abnormal, f.worst = abnormal, &t }
	}
	for name, tc := range map[string]struct {
		change   func(*facts)
		state    string
		sentence string
	}{
		"well":        {func(*facts) {}, StateOK, "All 40 workloads are healthy"},
		"one":         {func(f *facts) { f.workloads.Total = 1 }, StateOK, "Its one workload is healthy"},
		"empty":       {func(f *facts) { f.workloads.Total = 0 }, StateOK, "There are no workloads yet"},
		"nothing yet": {func(f *facts) { *f = facts{} }, StateWaiting, "Waiting for the first data"},
		"listing":     {func(f *facts) { f.synced = false }, StateWaiting, "Its objects are being listed"},
		"no rights": {func(f *facts) { f.synced, f.unlisted = false, "needs list and watch on pods, which ci has not" }, StateWarning,
			"Its objects cannot be listed: needs list and watch on pods, which ci has not"},
		"restarting": {bad(2, trouble{name: "cart", reason: "CrashLoopBackOff", since: 12*time.Minute + 40*time.Second}), StateWarning, "2 of 40 workloads are unhealthy; cart has been restarting for 12 min"},
		"just now":   {bad(1, trouble{name: "cart", reason: "ImagePullBackOff"}), StateWarning, "1 of 40 workloads is unhealthy; cart is unable to pull its image"},
		"missing":    {bad(1, trouble{name: "cart", reason: "2 of 3 replicas not ready", ready: 1, wanted: 3, since: 3 * time.Hour}), StateWarning, "1 of 40 workloads is unhealthy; cart has been at 1 of 3 replicas for 3 h"},
		"a job":      {bad(1, trouble{name: "report", reason: "JobFailed", job: true, since: 50 * time.Hour}), StateWarning, "1 of 40 workloads is unhealthy; report failed 2 days ago"},
		"a node":     {func(f *facts) { f.notReady = []string{"n-2"} }, StateCritical, "Node n-2 is not ready"},
		"nodes and more": {func(f *facts) {
			f.notReady = []string{"n-2", "n-3"}
			bad(1, trouble{name: "cart", reason: "Unschedulable", since: time.Minute})(f)
		}, StateCritical, "2 of 3 nodes are not ready; 1 of 40 workloads is unhealthy; cart has been without a node for its pods for 1 min"},
		"an incident":   {func(f *facts) { f.incidents.Critical = 1 }, StateCritical, "All 40 workloads are healthy; 1 incident is open"},
		"a blind eye":   {func(f *facts) { f.down, f.sources = 1, 6 }, StateWarning, "All 40 workloads are healthy; 1 of 6 sources cannot be read"},
		"silent":        {func(f *facts) { f.lastSeen = now.Add(-12 * time.Minute) }, StateStale, "No data for 12 min; as last seen, all 40 workloads are healthy"},
		"silent though": {func(f *facts) { f.lastSeen = now.Add(-85 * time.Second) }, StateOK, "All 40 workloads are healthy"},
	} {
		f := good
		tc.change(&f)
		state, sentence := judge(f, now)
		if state != tc.state || sentence != tc.sentence {
			t.Errorf("%s: %s, %q; want %s, %q", name, state, sentence, tc.state, tc.sentence)
		}
	}
}

func TestAbnormalSince(t *testing.T) {
	at := func(minutes int, abnormal bool) state {
		return state{now.Add(time.Duration(-minutes) * time.Minute), abnormal}
	}
	for name, tc := range map[string]struct {
		states []state
		want   int // minutes ago; -1 for never
	}{
		"well":                 {[]state{at(60, false)}, -1},
		"bad from then":        {[]state{at(60, false), at(12, true)}, 12},
		"flapping is one":      {[]state{at(60, false), at(20, true), at(15, false), at(12, true), at(6, false), at(3, true)}, 20},
		"a long well spell":    {[]state{at(60, true), at(40, false), at(12, true)}, 12},
		"changed while bad":    {[]state{at(30, true), at(12, true)}, 30},
		"bad since we know it": {[]state{at(30, true)}, 30},
		"nothing known":        {nil, -1},
	} {
		got := abnormalSince(tc.states, now)
		want := time.Time{}
		if tc.want >= 0 {
			want = now.Add(time.Duration(-tc.want) * time.Minute)
		}
		if !got.Equal(want) {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func TestWhyObjectsAreNotListed(t *testing.T) {
	down := func(name, why string) wire.SourceHealth { return wire.SourceHealth{Name: name, Error: why} }
	for name, tc := range map[string]struct {
		sources []wire.SourceHealth
		want    string
	}{
		"nothing is wrong":            {[]wire.SourceHealth{{Name: "objects", Up: true}}, ""},
		"another source is down":      {[]wire.SourceHealth{down("cadvisor/n-1", "refused")}, ""},
		"services cannot be listed":   {[]wire.SourceHealth{down("objects/service", "no services")}, "no services"},
		"pods say more than the rest": {[]wire.SourceHealth{down("objects/namespace", "no namespaces"), down("objects/pod", "no pods")}, "no pods"},
	} {
		if got := unlisted(map[string]wire.Health{"cluster": {Sources: tc.sources}}); got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
}

func TestWhyAClusterIsOfItsKind(t *testing.T) {
	health := map[string]wire.Health{
		"node/n1": {}, "cluster": {ClusterKind: "independent", ClusterKindWhy: "node a has the role of a control plane"},
	}
	for name, tc := range map[string]struct{ byHand, kind, want string }{
		"as a collector saw it":          {"", "independent", "node a has the role of a control plane"},
		"set by hand":                    {"edge", "edge", "it was set by hand on the server"},
		"by hand, and the same":          {"independent", "independent", "it was set by hand on the server"},
		"nobody says so, as it was once": {"", "managed", ""},
	} {
		if got := kindReason(tc.byHand, tc.kind, health); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}
