package kube

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	goruntime "runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// meta writes an object's metadata; owner is "Kind/name/uid" or empty, with the
// owner's API version before it and a space.
func meta(name, uid, owner string, more ...string) string {
	m := fmt.Sprintf(`"metadata":{"namespace":"ns","name":%q,"uid":%q,"generation":1,"creationTimestamp":"2026-11-23T09:00:00Z"`, name, uid)
	if version, ref, ok := strings.Cut(owner, " "); ok {
		p := strings.Split(ref, "/")
		m += fmt.Sprintf(`,"ownerReferences":[{"apiVersion":%q,"kind":%q,"name":%q,"uid":%q,"controller":true}]`, version, p[0], p[1], p[2])
	}
	for _, x := range more {
		m += "," + x
	}
	return m + "}"
}

func podJSON(name, owner, phase string, ready bool, more ...string) string {
	status := "False"
	if ready {
		status = "True"
	}
	return fmt.Sprintf(`{%s,"spec":{"nodeName":"n","containers":[{"name":"c"}]},"status":{"phase":%q,"conditions":[{"type":"Ready","status":%q}]}}`,
		meta(name, "uid-"+name, owner, more...), phase, status)
}

func start(t *testing.T, c *Client, o Options) *Source {
	t.Helper()
	o.Client = c
	if o.Role == "" {
		o.Role = wire.RoleAll
	}
	s, err := NewSource(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return s
}

// eventually waits for a condition on the snapshot, without guessing how long it takes.
func eventually(t *testing.T, s *Source, what string, ok func(*state.Snapshot) bool) *state.Snapshot {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for {
		now := s.Snapshot()
		if ok(now) {
			return now
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s did not come; workloads %v, health %v", what, refs(now), s.Health())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func synced(s *state.Snapshot) bool { return s.Synced }

func refs(s *state.Snapshot) map[string]string {
	out := map[string]string{}
	for _, w := range s.Workloads {
		out[w.Ref.String()] = fmt.Sprintf("%d/%d, %d abnormal", w.Ready, w.Desired, w.Abnormal)
	}
	for _, p := range s.Pods {
		out["pod "+p.Name] = p.Workload.String()
	}
	return out
}

func TestPodsBelongToTheirTopController(t *testing.T) {
	a, c := newAPI(t)
	template := `"template":{"spec":{"containers":[{"name":"c","image":"img"}]}}`
	a.put("/apis/apps/v1/deployments", `{`+meta("cart", "d1", "")+`,"spec":{"replicas":1,`+template+`},"status":{"observedGeneration":1,"replicas":1,"updatedReplicas":1,"readyReplicas":1}}`)
	a.put("/apis/apps/v1/replicasets", `{`+meta("cart-abc", "rs1", "apps/v1 Deployment/cart/d1")+`,"spec":{"replicas":1,`+template+`}}`)
	a.put("/api/v1/pods", podJSON("cart-abc-1", "apps/v1 ReplicaSet/cart-abc/rs1", "Running", true))
	a.put("/apis/batch/v1/cronjobs", `{`+meta("nightly", "cj1", "")+`,"spec":{"schedule":"0 3 * * *","suspend":true,"jobTemplate":{"spec":{`+template+`}}}}`)
	a.put("/apis/batch/v1/jobs", `{`+meta("nightly-1", "j1", "batch/v1 CronJob/nightly/cj1")+`,"spec":{`+template+`},"status":{"conditions":[{"type":"Failed","status":"True","reason":"BackoffLimitExceeded"}]}}`)
	a.put("/api/v1/pods", podJSON("nightly-1-x", "batch/v1 Job/nightly-1/j1", "Failed", false))
	a.put("/api/v1/pods", podJSON("alone", "", "Running", false))
	a.put("/api/v1/pods", podJSON("static-n", "v1 Node/n/nu", "Running", true, `"annotations":{"kubernetes.io/config.mirror":"h","kubernetes.io/config.hash":"h"}`))
	// A custom controller that owns a StatefulSet and is itself owned by another.
	a.put("/apis/db.example/v1", `{"metadata":{"name":"unused"}}`)
	a.objects["/apis/db.example"] = map[string]map[string]any{"v1": {"kind": "APIResourceList", "groupVersion": "db.example/v1", "resources": []any{
		map[string]any{"name": "databases", "kind": "Database", "namespaced": true}, map[string]any{"name": "fleets", "kind": "Fleet", "namespaced": true},
		map[string]any{"name": "databases/status", "kind": "Database", "namespaced": true}}}}
	a.put("/apis/db.example/v1/namespaces/ns/databases", `{`+meta("main", "db1", "db.example/v1 Fleet/all/f1")+`}`)
	a.put("/apis/db.example/v1/namespaces/ns/fleets", `{`+meta("all", "f1", "")+`}`)
	a.put("/apis/apps/v1/statefulsets", `{`+meta("main", "sts1", "db.example/v1 Database/main/db1")+`,"spec":{"replicas":2,`+template+`},"status":{"observedGeneration":1,"replicas":2,"readyReplicas":1,"updatedReplicas":2}}`)
	a.put("/api/v1/pods", podJSON("main-0", "apps/v1 StatefulSet/main/sts1", "Running", true))
	// A controller whose kind cannot be looked up is the top, as far as is known.
	a.put("/api/v1/pods", podJSON("odd-0", "odd.example/v1 Odd/thing/o1", "Running", true))

	s := start(t, c, Options{})
	now := eventually(t, s, "the fleet", func(n *state.Snapshot) bool {
		return n.Synced && refs(n)["pod main-0"] == "fleet/all" && refs(n)["fleet/all"] != ""
	})
	want := map[string]string{
		"deployment/cart": "1/1, 0 abnormal", "pod cart-abc-1": "deployment/cart",
		"cronjob/nightly": "0/0, 1 abnormal", "pod nightly-1-x": "cronjob/nightly",
		"pod/alone": "0/1, 1 abnormal", "pod alone": "pod/alone",
		"pod/static-n": "1/1, 0 abnormal", "pod static-n": "pod/static-n",
		"fleet/all": "1/2, 1 abnormal", "pod main-0": "fleet/all",
		"odd/thing": "1/1, 0 abnormal", "pod odd-0": "odd/thing",
	}
	got := refs(now)
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s is %q, want %q", k, got[k], v)
		}
		delete(got, k)
	}
	if len(got) > 0 {
		t.Errorf("there is also %v", got)
	}
	if now.Pods["uid-static-n"].Mirror != "h" {
		t.Error("the static pod's UID at the kubelet is not known")
	}
}

func TestChangesArriveInOrder(t *testing.T) {
	a, c := newAPI(t)
	a.put("/api/v1/pods", podJSON("p", "", "Pending", false))
	s := start(t, c, Options{})
	eventually(t, s, "the first list", synced)
	var (
		mu  sync.Mutex
		got []string
	)
	ctx, cancel := context.WithCancel(t.Context())
	subscribed := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		close(subscribed)
		s.Changes(ctx, func(ch state.Change) {
			text := ""
			if p, ok := ch.Before.(*object.Pod); ok {
				text += p.Phase
			}
			text += "→"
			if p, ok := ch.Now.(*object.Pod); ok {
				text += p.Phase
			}
			if text != "→" {
				mu.Lock()
				got = append(got, text)
				mu.Unlock()
			}
		})
	}()
	<-subscribed
	eventually(t, s, "the subscriber", func(*state.Snapshot) bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.subscribers) == 1 })
	old := s.Snapshot()
	a.put("/api/v1/pods", podJSON("p", "", "Running", true))
	a.put("/api/v1/pods", podJSON("p", "", "Running", true)) // nothing new
	eventually(t, s, "running", func(n *state.Snapshot) bool { return n.Pods["uid-p"].Ready })
	if old.Pods["uid-p"].Phase != "Pending" {
		t.Error("a snapshot changed after it was handed out")
	}
	a.remove("/api/v1/pods", "p")
	eventually(t, s, "the end of the pod", func(n *state.Snapshot) bool { return len(n.Pods) == 0 && len(n.Workloads) == 0 })
	eventually(t, s, "three changes", func(*state.Snapshot) bool { mu.Lock(); defer mu.Unlock(); return len(got) >= 2 })
	cancel()
	<-ended
	if want := "Pending→Running Running→"; strings.Join(got, " ") != want {
		t.Errorf("changes were %q, want %q", strings.Join(got, " "), want)
	}
}

func TestMissingRightsAreNamedAndSpareTheRest(t *testing.T) {
	a, c := newAPI(t)
	a.put("/api/v1/pods", podJSON("p", "", "Running", true))
	for _, verb := range []string{"list", "watch"} {
		a.forbid[verb+" jobs"], a.forbid[verb+" nodes"] = true, true
	}
	s := start(t, c, Options{})
	eventually(t, s, "the pods", func(n *state.Snapshot) bool { return n.Synced && len(n.Pods) == 1 })
	h := s.Health()
	if h[object.KindWorkload] != "needs list and watch on jobs in API group batch" || h[object.KindNode] != "needs list and watch on nodes" || h[object.KindPod] != "" {
		t.Errorf("health is %v", h)
	}
}

func TestWithoutPodsThereIsNoState(t *testing.T) {
	a, c := newAPI(t)
	a.forbid["list pods"], a.forbid["watch pods"] = true, true
	s := start(t, c, Options{})
	eventually(t, s, "the refusal", func(*state.Snapshot) bool { return s.Health()[object.KindPod] != "" })
	if s.Snapshot().Synced {
		t.Error("it counts as complete without pods")
	}
	a.mu.Lock()
	clear(a.forbid)
	a.mu.Unlock()
	eventually(t, s, "the recovery", synced)
	if h := s.Health(); len(h) != 0 {
		t.Errorf("health is still %v", h)
	}
}

func TestRoleNodeWatchesItsOwnNodeOnly(t *testing.T) {
	a, c := newAPI(t)
	a.put("/api/v1/pods", podJSON("cart-7d9-x", "apps/v1 ReplicaSet/cart-7d9/rs1", "Running", true, `"labels":{"pod-template-hash":"7d9"}`))
	a.put("/api/v1/pods", podJSON("main-0", "apps/v1 StatefulSet/main/sts1", "Running", true))
	var (
		mu    sync.Mutex
		known = map[string]object.WorkloadRef{}
	)
	s := start(t, c, Options{Role: wire.RoleNode, Node: "n", Owners: func(_ context.Context, node string) (map[string]object.WorkloadRef, error) {
		mu.Lock()
		defer mu.Unlock()
		if node != "n" {
			t.Errorf("asked for node %q", node)
		}
		return known, nil
	}})
	now := eventually(t, s, "the pods", func(n *state.Snapshot) bool { return n.Synced && len(n.Pods) == 2 })
	// The server does not know them yet.
	if got := refs(now); got["pod cart-7d9-x"] != "deployment/cart" || got["pod main-0"] != "statefulset/main" {
		t.Errorf("by name they are %v", got)
	}
	mu.Lock()
	known = map[string]object.WorkloadRef{"uid-main-0": {Type: "fleet", Name: "all"}, "uid-cart-7d9-x": {Type: "deployment", Name: "cart"}}
	mu.Unlock()
	eventually(t, s, "the server's word", func(n *state.Snapshot) bool { return refs(n)["pod main-0"] == "fleet/all" })
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.asked {
		if strings.Contains(r, "/pods?") && !strings.Contains(r, "fieldSelector=spec.nodeName%3Dn") || strings.Contains(r, "/nodes?") && !strings.Contains(r, "fieldSelector=metadata.name%3Dn") {
			t.Errorf("asked for more than its node: %s", r)
		}
		if strings.Contains(r, "/replicasets") {
			t.Errorf("looked up what the name tells: %s", r)
		}
	}
}

func TestStartCheckNamesWhatIsMissing(t *testing.T) {
	a, c := newAPI(t)
	a.forbid["watch cronjobs"], a.forbid["get proxy"] = true, true
	missing, err := c.Check(t.Context(), Rights(Access{Role: wire.RoleAll, NodeProxy: true}))
	if err != nil {
		t.Fatal(err)
	}
	text := Explain(missing)
	if len(missing) != 2 || !strings.Contains(text, "needs watch on cronjobs.batch: without it") || !strings.Contains(text, "needs get on nodes/proxy: without it") {
		t.Errorf("missing: %s", text)
	}
	if v, err := c.Version(t.Context()); err != nil || v != "v1.34.4" {
		t.Errorf("version %q, %v", v, err)
	}
	a.srv.Close()
	if _, err := c.Version(t.Context()); err == nil || !strings.Contains(err.Error(), a.srv.URL) {
		t.Errorf("an API server that is away gave %v", err)
	}
}

func TestNoShippedRoleAsksForSecretsOrWildcards(t *testing.T) {
	for _, role := range []string{wire.RoleNode, wire.RoleCluster} {
		for _, r := range Rights(Access{Role: role}) {
			if r.Resource == "secrets" || strings.Contains(r.Resource+r.Group, "*") || r.Subresource == "proxy" {
				t.Errorf("role %s asks for %v", role, r)
			}
		}
	}
}

func TestAnAPIServerThatIsAwayIsNamedOnceAndLeftAtOnce(t *testing.T) {
	a, c := newAPI(t)
	a.srv.Close()
	var log bytes.Buffer
	s, err := NewSource(Options{Client: c, Role: wire.RoleAll, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	eventually(t, s, "the trouble", func(*state.Snapshot) bool { return len(s.Health()) == 5 })
	for kind, why := range s.Health() {
		if strings.Count(why, a.srv.URL) != 1 {
			t.Errorf("%s says it more than once: %s", kind, why)
		}
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(60 * time.Second):
		t.Error("it does not end while the API server is away")
	}
	if n := strings.Count(log.String(), a.srv.URL); n != 1 {
		t.Errorf("it is named %d times:\n%s", n, log.String())
	}
}

func TestCoalesceKeepsFirstAndLast(t *testing.T) {
	p := func(uid, phase string) *object.Pod { return &object.Pod{Meta: object.Meta{UID: uid}, Phase: phase} }
	got := coalesce([]state.Change{
		{Before: p("a", "1"), Now: p("a", "2")}, {Now: p("b", "1")}, {Before: p("a", "2"), Now: p("a", "3")}, {Before: p("b", "1")}, {Now: p("c", "1")}, {Before: p("c", "1"), Now: p("c", "2")},
	})
	if len(got) != 2 || got[0].Before.(*object.Pod).Phase != "1" || got[0].Now.(*object.Pod).Phase != "3" || got[1].Before != nil || got[1].Now.(*object.Pod).Phase != "2" {
		t.Errorf("got %+v", got)
	}
}

// A list of more objects than may wait is told whole, at a cost in proportion to it;
// and changes of one object do not pile up.
func TestALargeFirstListCostsInProportion(t *testing.T) {
	const pods = maxQueued + 3_000
	s := &Source{now: time.Now, subscribers: map[*subscriber]bool{}}
	sub := &subscriber{most: maxQueued, wake: make(chan struct{}, 1)}
	s.subscribers[sub] = true
	all := make([]*object.Pod, pods)
	for i := range all {
		all[i] = &object.Pod{Meta: object.Meta{UID: strconv.Itoa(i)}}
	}
	var before, after goruntime.MemStats
	goruntime.ReadMemStats(&before)
	for _, p := range all {
		s.tell(state.Change{Now: p})
	}
	goruntime.ReadMemStats(&after)
	if len(sub.queue) != pods {
		t.Errorf("%d of %d changes wait", len(sub.queue), pods)
	}
	// Some 20 MiB are needed; looking through all at each of 3,000 takes gigabytes.
	if mib := (after.TotalAlloc - before.TotalAlloc) >> 20; mib > 200 {
		t.Errorf("to queue them took %d MiB", mib)
	}
	for i := range 2 * pods {
		s.tell(state.Change{Before: all[i%pods], Now: all[i%pods]})
	}
	if n := len(sub.queue); n < pods || n > 2*pods+1 {
		t.Errorf("%d changes of %d objects wait", n, pods)
	}
}

func TestClusterKind(t *testing.T) {
	n := func(virtual bool, roles ...string) *object.Node { return &object.Node{Virtual: virtual, Roles: roles} }
	for name, tc := range map[string]struct {
		nodes     map[string]*object.Node
		pods      map[string]*object.Pod
		want, why string
	}{
		"nothing known":      {},
		"virtual nodes only": {map[string]*object.Node{"a": n(true)}, nil, "elastic", "none of its 1 nodes"},
		"workers only":       {map[string]*object.Node{"a": n(false), "v": n(true)}, nil, "managed", "the provider runs it"},
		"control plane":      {map[string]*object.Node{"a": n(false), "b": n(false, "control-plane")}, nil, "independent", "node b"},
		"a static pod": {map[string]*object.Node{"a": n(false)}, map[string]*object.Pod{
			"u": {Meta: object.Meta{Namespace: "kube-system", Name: "kube-apiserver-a"}, Node: "a", Mirror: "x"},
		}, "independent", "static pod on node a"},
		"a master of old":                 {map[string]*object.Node{"a": n(false, "master")}, nil, "independent", "node a"},
		"a role of another":               {map[string]*object.Node{"a": n(false, "gpu")}, nil, "managed", "the provider runs it"},
		"a virtual one only has the role": {map[string]*object.Node{"a": n(false), "v": n(true, "control-plane")}, nil, "managed", "the provider runs it"},
		"a pod that is called so": {map[string]*object.Node{"a": n(false)}, map[string]*object.Pod{
			"not static": {Meta: object.Meta{Namespace: "kube-system", Name: "kube-apiserver-a"}, Node: "a"}, "elsewhere": {Meta: object.Meta{Namespace: "default", Name: "kube-apiserver-b"}, Node: "a", Mirror: "x"},
		}, "managed", "the provider runs it"},
		"edge":                   {map[string]*object.Node{"a": {Meta: object.Meta{Labels: map[string]string{"node-role.kubernetes.io/edge": ""}}}}, nil, "edge", "label node-role.kubernetes.io/edge"},
		"openyurt":               {map[string]*object.Node{"a": {Meta: object.Meta{Labels: map[string]string{"openyurt.io/is-edge-worker": "true"}}}}, nil, "edge", "label openyurt.io/is-edge-worker"},
		"openyurt's cloud nodes": {map[string]*object.Node{"a": {Meta: object.Meta{Labels: map[string]string{"openyurt.io/is-edge-worker": "false"}}}}, nil, "managed", "the provider runs it"},
	} {
		if got, why := clusterKind(tc.nodes, tc.pods); got != tc.want || (why == "") != (got == "") || !strings.Contains(why, tc.why) {
			t.Errorf("%s: %q because %q, want %q", name, got, why, tc.want)
		}
	}
	s := &Source{o: Options{ClusterKind: "edge"}}
	if kind, why := s.ClusterKind(); kind != "edge" || !strings.Contains(why, "--cluster-kind") {
		t.Errorf("set by hand it is %q because %q", kind, why)
	}
}

func TestClusterID(t *testing.T) {
	for in, want := range map[string]string{"kind-dev": "kind-dev", "arn:aws:eks:eu-1:1:cluster/Prod": "arn-aws-eks-eu-1-1-cluster-prod", "": "cluster", "--": "cluster"} {
		if got := ClusterID(in); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
}

// seen is an Observer that keeps names.
type seen struct {
	mu    sync.Mutex
	names map[string]bool
}

func (s *seen) name(o any) string { return fmt.Sprintf("%T/%s", o, o.(metav1.Object).GetName()) }

func (s *seen) Put(o any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names[s.name(o)] = true
}

func (s *seen) Delete(o any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.names, s.name(o))
}

func (s *seen) Replace(_ any, list []any) {
	for _, o := range list {
		s.Put(o)
	}
}

func (s *seen) has(want ...string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range want {
		if !s.names[w] {
			return false
		}
	}
	return len(s.names) == len(want)
}

// Who is shown objects later misses none, kinds that it alone wants are watched
// for it only, and their trouble is no trouble of the state.
func TestAnObserverMayComeLaterAndGo(t *testing.T) {
	a, c := newAPI(t)
	a.put("/api/v1/pods", podJSON("p", "", "Running", true))
	a.put("/api/v1/limitranges", `{`+meta("r", "u1", "")+`}`)
	a.mu.Lock()
	a.forbid["list leases"], a.forbid["watch leases"] = true, true
	a.mu.Unlock()
	s := start(t, c, Options{})
	eventually(t, s, "a complete state", func(now *state.Snapshot) bool { return now.Synced && len(now.Pods) == 1 })
	o := &seen{names: map[string]bool{}}
	s.Show(o, []Watched{
		{GroupVersion: corev1.SchemeGroupVersion, Resource: "limitranges", Example: &corev1.LimitRange{}, List: func() runtime.Object { return &corev1.LimitRangeList{} }},
		{GroupVersion: coordinationv1.SchemeGroupVersion, Resource: "leases", Example: &coordinationv1.Lease{}, List: func() runtime.Object { return &coordinationv1.LeaseList{} }},
	})
	eventually(t, s, "what there was before", func(*state.Snapshot) bool {
		return o.has("*v1.Pod/p", "*v1.LimitRange/r") && len(s.Extra()) == 1
	})
	if why := s.Extra()[0]; !strings.Contains(why, "needs list and watch on leases") {
		t.Errorf("trouble is %q", why)
	}
	if now := s.Snapshot(); !now.Synced || len(s.Health()) != 0 {
		t.Errorf("synced %v, health %v", now.Synced, s.Health())
	}
	a.put("/api/v1/limitranges", `{`+meta("r2", "u2", "")+`}`)
	a.remove("/api/v1/pods", "p")
	eventually(t, s, "changes", func(now *state.Snapshot) bool {
		return len(now.Pods) == 0 && o.has("*v1.LimitRange/r", "*v1.LimitRange/r2")
	})
	s.Hide(o)
	eventually(t, s, "the end of the extra kinds", func(*state.Snapshot) bool { return len(s.Extra()) == 0 })
	a.put("/api/v1/pods", podJSON("q", "", "Running", true))
	eventually(t, s, "the state goes on", func(now *state.Snapshot) bool { return len(now.Pods) == 1 })
	if o.has("*v1.LimitRange/r", "*v1.LimitRange/r2", "*v1.Pod/q") {
		t.Error("somebody who went is still shown objects")
	}
}

// Owners that own each other, or themselves, end: every object keeps a workload,
// and nothing hangs or is left out.
func TestOwnersThatOwnEachOther(t *testing.T) {
	a, c := newAPI(t)
	rs := func(name, uid, owner string) string {
		return `{` + meta(name, uid, owner) + `,"spec":{"replicas":1,"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[]}}}}`
	}
	a.put("/apis/apps/v1/replicasets", rs("a", "ua", "apps/v1 ReplicaSet/b/ub"))
	a.put("/apis/apps/v1/replicasets", rs("b", "ub", "apps/v1 ReplicaSet/a/ua"))
	a.put("/apis/apps/v1/replicasets", rs("self", "us", "apps/v1 ReplicaSet/self/us"))
	a.put("/api/v1/pods", podJSON("p", "apps/v1 ReplicaSet/a/ua", "Running", true))
	a.put("/api/v1/pods", podJSON("q", "apps/v1 ReplicaSet/self/us", "Running", true))
	a.put("/api/v1/pods", podJSON("alone", "", "Running", true))
	a.put("/api/v1/pods", podJSON("orphan", "apps/v1 ReplicaSet/gone/ug", "Running", true)) // whose owner went between list and use
	s := start(t, c, Options{})
	now := eventually(t, s, "a complete state", func(now *state.Snapshot) bool { return now.Synced && len(now.Pods) == 4 })
	for uid, p := range now.Pods {
		if p.Workload.Type == "" || p.Workload.Name == "" {
			t.Errorf("%s has no workload: %+v", uid, p.Workload)
		}
	}
	if w := now.Pods["uid-alone"].Workload; w != (object.WorkloadRef{Type: "pod", Name: "alone"}) {
		t.Errorf("a pod without owner is of %+v", w)
	}
	loops := s.OwnerLoops()
	if loops == 0 {
		t.Error("ways to a top controller that had no end are not counted")
	}
	// A change of one of them ends, too, and so does its going.
	a.put("/apis/apps/v1/replicasets", rs("b", "ub", "apps/v1 ReplicaSet/a/ua"))
	a.remove("/apis/apps/v1/replicasets", "a")
	a.put("/api/v1/pods", podJSON("late", "", "Running", true))
	eventually(t, s, "what comes after", func(now *state.Snapshot) bool { return now.Pods["uid-late"] != nil })
}
