package world

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/collector/compute"
	"github.com/crowsnest-dev/crowsnest/collector/kube"
	"github.com/crowsnest-dev/crowsnest/collector/reading"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// mixed is the API server of a managed cluster with a node n1 and a virtual node v1,
// a pod on each. Nodes do not answer, metrics.k8s.io and the pods' logs do.
type mixed struct {
	t       *testing.T
	url     string
	now     atomic.Int64 // Unix nanoseconds; a source asks while it is locked
	mu      sync.Mutex
	others  []string       // virtual nodes whose collectors the server hears
	asked   map[string]int // by path
	open    int            // logs that are being read
	trouble error          // of the server
	lines   map[string]int // that came, by pod
	marks   map[string]bool
}

func newMixed(t *testing.T) *mixed {
	m := &mixed{t: t, asked: map[string]int{}, lines: map[string]int{}, marks: map[string]bool{}}
	m.now.Store(time.Date(2026, 11, 23, 20, 30, 0, 0, time.UTC).UnixNano())
	srv := httptest.NewServer(http.HandlerFunc(m.serve))
	t.Cleanup(srv.Close)
	m.url = srv.URL
	return m
}

// openWorld opens it in role cluster.
func (m *mixed) openWorld() *Opened {
	m.t.Helper()
	o, err := Open(m.t.Context(), Options{
		Kube: kube.Config{Kubeconfig: configFor(m.t, m.url)}, Role: wire.RoleCluster, Dir: m.t.TempDir(), VirtualNodes: true, Readers: m.readers, LogPositions: unasked, Now: m.clock,
	})
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(o.Client.HTTP().CloseIdleConnections)
	return o
}

// run runs something until the test is over.
func (m *mixed) run(f func(ctx context.Context)) {
	var running sync.WaitGroup
	running.Go(func() { f(m.t.Context()) })
	m.t.Cleanup(running.Wait)
}

func (m *mixed) pod(name, node string) map[string]any {
	return map[string]any{
		"metadata": map[string]any{"namespace": "shop", "name": name, "uid": "uid-" + name, "creationTimestamp": "2026-11-23T20:00:00Z"},
		"spec":     map[string]any{"nodeName": node, "containers": []any{map[string]any{"name": "app", "image": "i"}}},
		"status": map[string]any{"phase": "Running", "podIP": "192.0.2.1", "containerStatuses": []any{map[string]any{"name": "app", "ready": true, "containerID": "containerd://" + name,
			"state": map[string]any{"running": map[string]any{"startedAt": "2026-11-23T20:00:03Z"}}}}},
	}
}

func (m *mixed) serve(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	m.asked[r.URL.Path]++
	m.mu.Unlock()
	now := m.clock()
	kinds := map[string]string{"pods": "v1 Pod", "nodes": "v1 Node"}
	w.Header().Set("Content-Type", "application/json")
	last := path.Base(r.URL.Path)
	switch {
	case r.URL.Path == "/apis/metrics.k8s.io/v1beta1/pods":
		var items []any
		for _, name := range []string{"web", "job"} {
			items = append(items, map[string]any{"metadata": map[string]any{"namespace": "shop", "name": name}, "timestamp": now, "window": "30s",
				"containers": []any{map[string]any{"name": "app", "usage": map[string]any{"cpu": "250m", "memory": "64Mi"}}}})
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"items": items})
	case last == "log":
		for i := range 3 {
			fmt.Fprintf(w, "%s line %d\n", now.Add(time.Duration(i)*time.Millisecond).Format(time.RFC3339Nano), i)
		}
		w.(http.Flusher).Flush()
		m.set(func() { m.open++ })
		<-r.Context().Done()
		m.set(func() { m.open-- })
	case strings.HasPrefix(r.URL.Path, "/api/v1/namespaces/shop/pods/"):
		p := m.pod(last, "v1")
		p["kind"], p["apiVersion"] = "Pod", "v1"
		_ = json.NewEncoder(w).Encode(p)
	case kinds[last] == "" || strings.Contains(r.URL.Path, "/proxy/"):
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403}`)
	default:
		version, kind, _ := strings.Cut(kinds[last], " ")
		items := []any{m.pod("web", "n1"), m.pod("job", "v1")}
		if last == "nodes" {
			items = []any{
				map[string]any{"metadata": map[string]any{"name": "n1", "uid": "n1"}},
				map[string]any{"metadata": map[string]any{"name": "v1", "uid": "v1", "labels": map[string]any{"type": "virtual-kubelet"}}},
			}
		}
		if r.URL.Query().Get("watch") == "" {
			_ = json.NewEncoder(w).Encode(map[string]any{"kind": kind + "List", "apiVersion": version, "metadata": map[string]any{"resourceVersion": "1"}, "items": items})
			return
		}
		if r.URL.Query().Get("sendInitialEvents") == "true" {
			for _, item := range items {
				o := maps.Clone(item.(map[string]any))
				o["kind"], o["apiVersion"] = kind, version
				_ = json.NewEncoder(w).Encode(map[string]any{"type": "ADDED", "object": o})
			}
			_ = json.NewEncoder(w).Encode(map[string]any{"type": "BOOKMARK", "object": map[string]any{"kind": kind, "apiVersion": version,
				"metadata": map[string]any{"resourceVersion": "1", "annotations": map[string]any{"k8s.io/initial-events-end": "true"}}}})
		}
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
}

// Send implements collector.LogSink.
func (m *mixed) Send(_ context.Context, b *wire.LogBatch) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, g := range b.Groups {
		m.lines[g.Stream.Pod] += len(g.Lines)
	}
	for _, mark := range b.Complete {
		m.marks[mark.Node] = true
	}
	return nil
}

func (m *mixed) readers(_ context.Context, nodes []string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !slices.Equal(nodes, []string{"v1"}) {
		m.t.Errorf("asked whose %v are", nodes)
	}
	return m.others, m.trouble
}

func (m *mixed) set(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

func (m *mixed) clock() time.Time { return time.Unix(0, m.now.Load()).UTC() }

func (m *mixed) await(what string, ok func() bool) {
	m.t.Helper()
	for end := time.Now().Add(90 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		m.mu.Lock()
		done := ok()
		m.mu.Unlock()
		if done {
			return
		}
		if time.Now().After(end) {
			m.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// In a managed cluster the collector in role cluster reads the usage and the logs of
// pods on virtual nodes, and leaves the others to their nodes' collectors. A virtual
// node that gets a collector of its own is left to it within two intervals, and read
// again when that is not heard any more.
func TestVirtualNodesBesideNodeCollectors(t *testing.T) {
	m := newMixed(t)
	o := m.openWorld()
	m.run(func(ctx context.Context) { _ = o.World.State.Run(ctx) })
	m.await("pods and nodes", func() bool { return o.World.State.Snapshot().Synced })
	now := *o.World.State.Snapshot()

	computer := compute.New(compute.Options{Role: wire.RoleCluster, Sender: "cluster", Interval: 30 * time.Second})
	// interval gives the pods whose usage is told, and whether a series of it ends.
	interval := func() (pods []string, ended bool) {
		m.now.Add(int64(30 * time.Second))
		var sets []reading.Set
		for _, r := range o.World.Readings {
			sets = append(sets, r.Read(t.Context(), m.clock(), &now)...)
		}
		for _, s := range computer.Interval(m.clock(), sets, &now) {
			if s.Metric == catalogue.PodMem || s.Metric == catalogue.PodCPU {
				pods, ended = append(pods, s.Labels.Get("pod")), ended || s.Stale()
			}
		}
		return pods, ended
	}
	told := func(why string, want ...string) {
		t.Helper()
		if pods, ended := interval(); !slices.Equal(pods, want) || ended {
			t.Errorf("%s: usage of %v is told, a series ends: %v; want %v", why, pods, ended, want)
		}
	}
	// either is for an interval beside whose reading the server is asked: the answer may
	// come before it or after.
	either := func(why string) {
		t.Helper()
		if _, ended := interval(); ended {
			t.Errorf("%s: a series ends", why)
		}
	}
	told("at first", "job", "job")
	told("then", "job", "job")
	m.set(func() { m.trouble = errors.New("the server is away") })
	told("while the server is away", "job", "job")

	// A collector of the node's own is heard.
	m.set(func() { m.trouble, m.others = nil, []string{"v1"} })
	either("in the interval in which it is asked for")
	told("two intervals after")
	m.set(func() { m.trouble = errors.New("the server is away") })
	told("while the server is away again")
	m.set(func() { m.trouble, m.others = nil, nil })
	either("until it is known not to be heard")
	told("when it is not heard any more", "job", "job")

	// The node turns real.
	real := *now.Nodes["v1"]
	real.Virtual = false
	now.Nodes = map[string]*object.Node{"n1": now.Nodes["n1"], "v1": &real}
	told("of a node that is virtual no more")
	m.set(func() {
		for path := range m.asked {
			if strings.Contains(path, "/proxy/") && !strings.Contains(path, "/nodes/v1/") {
				t.Errorf("asked %s", path)
			}
		}
	})
}

// The logs of pods on virtual nodes are followed, and of no others; while a node has a
// collector of its own, not of that either.
func TestLogsOfVirtualNodesBesideNodeCollectors(t *testing.T) {
	m := newMixed(t)
	o := m.openWorld()
	m.run(func(ctx context.Context) { _ = o.World.State.Run(ctx) })
	m.run(func(ctx context.Context) {
		if err := o.World.Logs[0].Run(ctx, m); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	const log = "/api/v1/namespaces/shop/pods/job/log"
	m.await("the virtual node's lines", func() bool { return m.lines["job"] == 3 && m.open == 1 })
	nodes := o.World.Readings[0].(virtualReadings).virtualNodes
	hear := func(others ...string) {
		m.now.Add(int64(30 * time.Second))
		m.set(func() { m.others = others })
		nodes.refresh(t.Context())
	}
	hear("v1")
	m.await("its log to be let go", func() bool { return m.open == 0 })
	asked := 0
	m.set(func() { asked = m.asked[log] })
	hear()
	m.await("it to be followed again", func() bool { return m.open == 1 && m.asked[log] > asked })
	m.set(func() {
		for path := range m.asked {
			if strings.Contains(path, "/pods/web") {
				t.Errorf("asked %s", path)
			}
		}
		if len(m.lines) != 1 {
			t.Errorf("lines came of %v", m.lines)
		}
		if m.marks["n1"] {
			t.Error("the real node's logs are said to be complete")
		}
	})
}

// Without the setting, role cluster reads objects alone; in the other roles it is refused.
func TestVirtualNodesAreReadWhereThatIsAskedFor(t *testing.T) {
	for _, role := range []string{wire.RoleNode, wire.RoleAll} {
		_, err := Open(t.Context(), Options{Kube: kube.Config{Kubeconfig: kubeconfig(t)}, Role: role, Node: "n", Dir: t.TempDir(), VirtualNodes: true})
		if !errors.Is(err, fault.ErrInvalid) {
			t.Errorf("role %s: %v", role, err)
		}
	}
	for right, denied := range map[string]string{"pods.metrics.k8s.io": "pods/metrics.k8s.io", "pods/log": "pods/log"} {
		o, err := Open(t.Context(), Options{Kube: kube.Config{Kubeconfig: kubeconfig(t, denied)}, Role: wire.RoleCluster, Dir: t.TempDir(), VirtualNodes: true, LogPositions: unasked})
		if err != nil {
			t.Fatal(err)
		}
		if len(o.Missing) != 1 || o.Missing[0].Resource != right {
			t.Errorf("without %s: %v, %v", right, o.Missing, o.Trouble)
		}
	}
}
