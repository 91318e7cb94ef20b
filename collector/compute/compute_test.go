package compute

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/quick"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/crowsnest-dev/crowsnest/collector/reading"
	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

var t0 = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

// sec is the time so many seconds after t0.
func sec(s float64) time.Time { return t0.Add(time.Duration(s * float64(time.Second))) }

// val is a value read so many seconds after t0.
func val(v, s float64) reading.Value { return reading.Value{V: v, At: sec(s)} }

// pod makes a running pod p with one container c that runs as instance c1.
func pod(change ...func(*object.Pod)) *object.Pod {
	p := &object.Pod{
		Meta: object.Meta{UID: "u", Namespace: "ns", Name: "p", CreatedAt: sec(-600)}, Node: "n",
		Workload: object.WorkloadRef{Type: "deployment", Name: "w"}, Phase: object.PhaseRunning, Ready: true,
		Containers: []object.Container{{Name: "c", ID: "c1", State: "running", Ready: true, StartedAt: sec(-600),
			Requests: object.Resources{CPUCores: .1, HasCPU: true, MemoryBytes: 64, HasMemory: true}}},
		Requests: object.Resources{CPUCores: .1, HasCPU: true, MemoryBytes: 64, HasMemory: true},
	}
	for _, c := range change {
		c(p)
	}
	return p
}

func node(change ...func(*object.Node)) *object.Node {
	n := &object.Node{
		Meta: object.Meta{UID: "nu", Name: "n"}, Ready: true,
		Capacity:    object.Resources{CPUCores: 4, HasCPU: true, MemoryBytes: 1000, HasMemory: true},
		Allocatable: object.Resources{CPUCores: 2, HasCPU: true, MemoryBytes: 800, HasMemory: true},
	}
	for _, c := range change {
		c(n)
	}
	return n
}

func workload(change ...func(*object.Workload)) *object.Workload {
	w := &object.Workload{Meta: object.Meta{UID: "wu", Namespace: "ns", Name: "w"}, Ref: object.WorkloadRef{Type: "deployment", Name: "w"}}
	for _, c := range change {
		c(w)
	}
	return w
}

func snapshot(objects ...object.Object) *state.Snapshot {
	s := &state.Snapshot{
		Synced: true, Pods: map[string]*object.Pod{}, Nodes: map[string]*object.Node{}, Workloads: map[string]*object.Workload{},
		Namespaces: map[string]*object.Namespace{}, Services: map[string]*object.Service{},
	}
	for _, o := range objects {
		switch o := o.(type) {
		case *object.Pod:
			s.Pods[o.UID] = o
		case *object.Node:
			s.Nodes[o.Name] = o
		case *object.Workload:
			s.Workloads[o.UID] = o
		}
	}
	return s
}

func container(cpu, mem reading.Value) reading.Container {
	return reading.Container{PodUID: "u", Namespace: "ns", Pod: "p", Name: "c", ID: "c1", StartedAt: sec(-600), CPUSeconds: cpu, WorkingSetBytes: mem}
}

func set(cs ...reading.Container) reading.Set {
	return reading.Set{Node: "n", Source: catalogue.CadvisorLabels, Containers: cs}
}

// series writes samples as "metric{values of labels}" → value, labels in the
// order of their names.
func series(t *testing.T, samples []Sample) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, s := range samples {
		var values []string
		s.Labels.Range(func(l labels.Label) { values = append(values, l.Value) })
		key := strings.TrimPrefix(s.Metric, "k8s_") + "{" + strings.Join(values, ",") + "}"
		v := fmt.Sprint(s.V)
		if s.Stale() {
			v = "stale"
		}
		if old, twice := out[key]; twice && old != "stale" {
			t.Errorf("%s has two samples at one time: %s and %s", key, old, v)
		}
		out[key] = v
	}
	return out
}

// step is one call of Interval, at a number of seconds after t0.
type step struct {
	at   float64
	sets []reading.Set
	now  *state.Snapshot
	// want holds the series that matter: their value, "stale", or "-" for none.
	want map[string]string
}

func run(t *testing.T, role string, steps []step) *Computer {
	t.Helper()
	c := New(Options{Role: role, Sender: "s", Interval: 30 * time.Second})
	for i, s := range steps {
		samples := c.Interval(sec(s.at), s.sets, s.now)
		got := series(t, samples)
		for key, want := range s.want {
			v, ok := got[key]
			if want == "-" && ok || want != "-" && v != want {
				t.Errorf("step %d at %vs: %s is %q, want %q", i, s.at, key, v, want)
			}
		}
		for _, smp := range samples {
			if !smp.At.Equal(sec(s.at)) {
				t.Errorf("step %d: %s stands at %v, want the grid point", i, smp.Metric, smp.At)
			}
		}
		if t.Failed() {
			t.Logf("step %d gave:", i)
			for _, k := range slices.Sorted(maps.Keys(got)) {
				t.Logf("  %s %s", k, got[k])
			}
			return c
		}
	}
	return c
}

const (
	ctrCPU  = "container_cpu_core_used{c,ns,n,p,w,deployment}"
	ctrMem  = "container_mem_no_cache_bytes{c,ns,n,p,w,deployment}"
	podCPUs = "pod_cpu_core_used{ns,n,p,w,deployment}"
	podMems = "pod_mem_no_cache_bytes{ns,n,p,w,deployment}"
	podRdy  = "pod_status_ready{ns,n,p,w,deployment}"
	podRst  = "pod_restart_total{ns,n,p,w,deployment}"
	wlRst   = "workload_pod_restart_total{ns,w,deployment}"
	nodeRst = "node_pod_restart_total{n}"
)

func TestRates(t *testing.T) {
	s := snapshot(pod(), node())
	for name, steps := range map[string][]step{
		"by the readings' own times, between the last two different ones": {
			{30, []reading.Set{set(container(val(10, 20), val(1000, 20)))}, s, map[string]string{ctrCPU: "-", ctrMem: "1000", podCPUs: "-", podMems: "1000"}},
			{60, []reading.Set{set(container(val(12, 40), val(1001, 40)))}, s, map[string]string{ctrCPU: "0.0999755859375", podCPUs: "0.0999755859375", podMems: "1001"}},
			{90, []reading.Set{set(container(val(17, 60), val(1001, 60)))}, s, map[string]string{ctrCPU: "0.25"}},
		},
		"an unchanged reading repeats the last rate, one too old gives none": {
			{30, []reading.Set{set(container(val(10, 20), val(1, 20)))}, s, nil},
			{60, []reading.Set{set(container(val(15, 40), val(2, 40)))}, s, map[string]string{ctrCPU: "0.25", ctrMem: "2"}},
			{85, []reading.Set{set(container(val(15, 40), val(2, 40)))}, s, map[string]string{ctrCPU: "0.25", ctrMem: "2"}},
			{90, []reading.Set{set(container(val(15, 40), val(2, 40)))}, s, map[string]string{ctrCPU: "-", ctrMem: "-", podCPUs: "-"}},
			{120, []reading.Set{set(container(val(30, 100), val(3, 100)))}, s, map[string]string{ctrCPU: "0.25", ctrMem: "3"}},
		},
		"an older reading than the last is no reading": {
			{30, []reading.Set{set(container(val(10, 20), val(1, 20)))}, s, nil},
			{60, []reading.Set{set(container(val(15, 40), val(2, 40)))}, s, map[string]string{ctrCPU: "0.25"}},
			{80, []reading.Set{set(container(val(11, 39), val(2, 60)))}, s, map[string]string{ctrCPU: "0.25"}},
		},
		"a counter that went down is a restart, not a negative rate": {
			{30, []reading.Set{set(container(val(10, 20), val(1, 20)))}, s, nil},
			{60, []reading.Set{set(container(val(1, 50), val(1, 50)))}, s, map[string]string{ctrCPU: "-"}},
			{90, []reading.Set{set(container(val(6, 70), val(1, 70)))}, s, map[string]string{ctrCPU: "0.25"}},
		},
		"no reading at all is a gap, not an end": {
			{30, []reading.Set{set(container(val(10, 20), val(1, 20)))}, s, nil},
			{60, []reading.Set{set(container(val(15, 40), val(2, 40)))}, s, map[string]string{ctrCPU: "0.25"}},
			{90, []reading.Set{{Node: "n", Source: catalogue.CadvisorLabels, Err: errors.New("refused")}}, s, map[string]string{ctrCPU: "-", podCPUs: "-", podMems: "-"}},
		},
		"a summary's rates span a minute for traffic, for whole seconds are coarse": {
			{30, []reading.Set{traffic(catalogue.StatsSummary, 0, 20)}, s, map[string]string{"pod_network_receive_bytes_bw{ns,n,p,w,deployment}": "-"}},
			{60, []reading.Set{traffic(catalogue.StatsSummary, 300, 50)}, s, map[string]string{"pod_network_receive_bytes_bw{ns,n,p,w,deployment}": "-"}},
			{90, []reading.Set{traffic(catalogue.StatsSummary, 600, 80)}, s, map[string]string{"pod_network_receive_bytes_bw{ns,n,p,w,deployment}": "10"}},
			{120, []reading.Set{traffic(catalogue.StatsSummary, 1500, 110)}, s, map[string]string{"pod_network_receive_bytes_bw{ns,n,p,w,deployment}": "20"}},
		},
	} {
		t.Run(name, func(t *testing.T) { run(t, wire.RoleNode, steps) })
	}
}

func traffic(source catalogue.Source, bytes, at float64) reading.Set {
	return reading.Set{Node: "n", Source: source, Pods: []reading.Pod{{UID: "u", ReceiveBytes: val(bytes, at), TransmitBytes: val(2*bytes, at)}}}
}

func TestInstances(t *testing.T) {
	running := snapshot(pod(), node())
	second := func(p *object.Pod) {
		p.Containers[0].ID, p.Containers[0].StartedAt, p.Containers[0].RestartCount = "c2", sec(45), 1
	}
	old := container(val(10, 20), val(100, 20))
	fresh := func(cpu, at float64) reading.Container {
		r := container(val(cpu, at), val(7, at))
		r.ID, r.StartedAt = "c2", sec(45)
		return r
	}
	for name, steps := range map[string][]step{
		"a new instance has no rate from the old one's counter": {
			{30, []reading.Set{set(old)}, running, nil},
			{60, []reading.Set{set(fresh(50, 55))}, snapshot(pod(second), node()), map[string]string{ctrCPU: "-", ctrMem: "7"}},
			{90, []reading.Set{set(fresh(60, 75))}, snapshot(pod(second), node()), map[string]string{ctrCPU: "0.5"}},
		},
		"while both cgroups are there the newest counts, once": {
			{60, []reading.Set{set(container(val(10, 50), val(100, 50)), fresh(1, 55))}, snapshot(pod(second), node()), map[string]string{ctrMem: "7", podMems: "7"}},
			{90, []reading.Set{set(fresh(6, 75), container(val(11, 80), val(100, 80)))}, snapshot(pod(second), node()), map[string]string{ctrMem: "7", ctrCPU: "0.25"}},
		},
		"the old instance alone is no reading of the new one": {
			{60, []reading.Set{set(container(val(10, 50), val(100, 50)))}, snapshot(pod(second), node()), map[string]string{ctrMem: "-", podMems: "-"}},
		},
		"the kubelet may know the new instance first": {
			{60, []reading.Set{set(fresh(1, 55))}, running, map[string]string{ctrMem: "7"}},
		},
		"a container that is not running has no series, and its old one ends": {
			{30, []reading.Set{set(old)}, running, map[string]string{ctrMem: "100"}},
			{60, []reading.Set{set(container(val(10, 50), val(100, 50)))}, snapshot(pod(func(p *object.Pod) { p.Containers[0].State = "waiting" }), node()),
				map[string]string{ctrMem: "stale", podMems: "0"}},
			{90, nil, snapshot(pod(func(p *object.Pod) { p.Containers[0].State = "waiting" }), node()), map[string]string{ctrMem: "-"}},
		},
		"the pod's own counter goes on over restarts of its containers": {
			{30, []reading.Set{podCounter(10, 20, old)}, running, map[string]string{podCPUs: "-"}},
			{60, []reading.Set{podCounter(20, 40, fresh(1, 55))}, snapshot(pod(second), node()), map[string]string{podCPUs: "0.5", ctrCPU: "-"}},
		},
		"the pause sandbox and what is unknown are no containers": {
			{30, []reading.Set{set(old,
				reading.Container{PodUID: "u", ID: "sandbox", WorkingSetBytes: val(5, 20)},
				reading.Container{PodUID: "gone", ID: "x", Name: "c", WorkingSetBytes: val(6, 20)})}, running, map[string]string{ctrMem: "100", podMems: "100"}},
		},
		"cgroup paths alone are enough": {
			{30, []reading.Set{{Node: "n", Source: catalogue.CadvisorPaths, Containers: []reading.Container{{PodUID: "u", ID: "c1", WorkingSetBytes: val(8, 20)}}}}, running,
				map[string]string{ctrMem: "8"}},
		},
		"names alone are enough": {
			{30, []reading.Set{{Node: "n", Source: catalogue.StatsSummary, Containers: []reading.Container{{Namespace: "ns", Pod: "p", Name: "c", WorkingSetBytes: val(8, 20)}}}}, running,
				map[string]string{ctrMem: "8"}},
		},
		"a static pod goes by the kubelet's UID": {
			{30, []reading.Set{{Node: "n", Source: catalogue.CadvisorPaths, Containers: []reading.Container{{PodUID: "hash", ID: "c1", WorkingSetBytes: val(8, 20)}}}},
				snapshot(pod(func(p *object.Pod) { p.Mirror = "hash" })), map[string]string{ctrMem: "8"}},
		},
		"a source that lacks something is filled in by the next": {
			{30, []reading.Set{set(container(reading.Value{}, val(3, 20))),
				{Node: "n", Source: catalogue.StatsSummary, Containers: []reading.Container{{PodUID: "u", Name: "c", CPUSeconds: val(10, 20), WorkingSetBytes: val(99, 20)}}}}, running,
				map[string]string{ctrMem: "3"}},
			{60, []reading.Set{set(container(reading.Value{}, val(4, 50))),
				{Node: "n", Source: catalogue.StatsSummary, Containers: []reading.Container{{PodUID: "u", Name: "c", CPUSeconds: val(25, 50), WorkingSetBytes: val(99, 50)}}}}, running,
				map[string]string{ctrMem: "4", ctrCPU: "0.5"}},
		},
	} {
		t.Run(name, func(t *testing.T) { run(t, wire.RoleNode, steps) })
	}
}

func podCounter(v, at float64, cs ...reading.Container) reading.Set {
	s := set(cs...)
	s.Pods = []reading.Pod{{UID: "u", CPUSeconds: val(v, at)}}
	return s
}

func TestPodSums(t *testing.T) {
	two := pod(func(p *object.Pod) {
		p.Containers = append(p.Containers, object.Container{Name: "d", ID: "d1", State: "running", StartedAt: sec(-600)})
	})
	d := func(cpu, mem reading.Value) reading.Container {
		r := container(cpu, mem)
		r.Name, r.ID = "d", "d1"
		return r
	}
	run(t, wire.RoleNode, []step{
		{30, []reading.Set{set(container(val(10, 20), val(100, 20)))}, snapshot(two), map[string]string{podMems: "-", ctrMem: "100"}}, // d has no reading yet
		{60, []reading.Set{set(container(val(15, 40), val(100, 40)), d(val(0, 40), val(50, 40)))}, snapshot(two), map[string]string{podMems: "150", podCPUs: "-"}},
		{90, []reading.Set{set(container(val(20, 60), val(100, 60)), d(val(10, 60), val(50, 60)))}, snapshot(two), map[string]string{podCPUs: "0.75"}},
	})
}

func TestWhoHasUsage(t *testing.T) {
	readings := func(at float64) []reading.Set {
		s := podCounter(at, at, container(val(at, at), val(100, at)))
		s.Pods[0].ReceiveBytes, s.Pods[0].TransmitBytes = val(at*10, at), val(at*20, at)
		return []reading.Set{s}
	}
	const in, out = "pod_network_receive_bytes_bw{ns,n,p,w,deployment}", "pod_network_transmit_bytes_bw{ns,n,p,w,deployment}"
	limited := func(p *object.Pod) {
		p.Limits = object.Resources{CPUCores: 2, HasCPU: true, MemoryBytes: 400, HasMemory: true}
	}
	const cpuLimit, memLimit = "pod_rate_cpu_core_used_limit{ns,n,p,w,deployment}", "pod_rate_mem_no_cache_limit{ns,n,p,w,deployment}"
	for name, tc := range map[string]struct {
		pod  *object.Pod
		want map[string]string
	}{
		"running":      {pod(), map[string]string{podCPUs: "1", podMems: "100", in: "10", out: "20", cpuLimit: "-", memLimit: "-"}},
		"with limits":  {pod(limited), map[string]string{cpuLimit: "50", memLimit: "25"}},
		"zero limit":   {pod(limited, func(p *object.Pod) { p.Limits.CPUCores = 0 }), map[string]string{cpuLimit: "-", memLimit: "25"}},
		"host network": {pod(func(p *object.Pod) { p.HostNetwork = true }), map[string]string{podCPUs: "1", in: "-", out: "-"}},
		"terminating":  {pod(func(p *object.Pod) { p.Terminating = true }), map[string]string{podCPUs: "1"}},
		"init container runs": {pod(func(p *object.Pod) { p.Phase, p.Containers[0].Init = object.PhasePending, true }),
			map[string]string{podCPUs: "1", podMems: "100"}},
		"nothing runs yet": {pod(func(p *object.Pod) { p.Phase, p.Containers[0].State = object.PhasePending, "waiting" }),
			map[string]string{podCPUs: "-", podMems: "-", in: "-"}},
		"crash loop":    {pod(func(p *object.Pod) { p.Containers[0].State = "waiting" }), map[string]string{podCPUs: "1", podMems: "0", ctrMem: "-"}},
		"succeeded":     {pod(func(p *object.Pod) { p.Phase = object.PhaseSucceeded }), map[string]string{podCPUs: "-", podMems: "-", in: "-", ctrMem: "-"}},
		"failed":        {pod(func(p *object.Pod) { p.Phase = object.PhaseFailed }), map[string]string{podCPUs: "-", podMems: "-"}},
		"not scheduled": {pod(func(p *object.Pod) { p.Phase, p.Node = object.PhasePending, "" }), map[string]string{podCPUs: "-"}},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, wire.RoleNode, []step{
				{30, readings(20), snapshot(tc.pod), nil},
				{60, readings(50), snapshot(tc.pod), tc.want},
			})
		})
	}
}

func TestStateOfPods(t *testing.T) {
	const free = "pod_status_ready{ns,p,w,deployment}"
	missing := func(resource, what string) string {
		return "pod_spec_missing{ns,n,p," + resource + "," + what + ",w,deployment}"
	}
	for name, tc := range map[string]struct {
		pod  *object.Pod
		want map[string]string
	}{
		"ready":     {pod(), map[string]string{podRdy: "1", podRst: "0", missing("cpu", "limit"): "1", missing("memory", "limit"): "1", missing("cpu", "request"): "-"}},
		"not ready": {pod(func(p *object.Pod) { p.Ready = false }), map[string]string{podRdy: "0"}},
		"pending without a node still has series": {pod(func(p *object.Pod) { p.Node, p.Phase, p.Ready = "", object.PhasePending, false }),
			map[string]string{free: "0", "pod_restart_total{ns,p,w,deployment}": "0", podRdy: "-"}},
		"unknown":     {pod(func(p *object.Pod) { p.Phase, p.Ready = object.PhaseUnknown, false }), map[string]string{podRdy: "0"}},
		"terminating": {pod(func(p *object.Pod) { p.Terminating = true }), map[string]string{podRdy: "-", podRst: "0"}},
		"succeeded":   {pod(func(p *object.Pod) { p.Phase = object.PhaseSucceeded }), map[string]string{podRdy: "-", podRst: "0", missing("cpu", "limit"): "-"}},
		"evicted":     {pod(func(p *object.Pod) { p.Phase, p.Reason = object.PhaseFailed, "Evicted" }), map[string]string{podRdy: "-"}},
		"restarts of init containers count": {pod(func(p *object.Pod) {
			p.Containers[0].RestartCount = 2
			p.Containers = append(p.Containers, object.Container{Name: "i", Init: true, RestartCount: 3, State: "terminated"})
		}), map[string]string{podRst: "5"}},
		"limits set, requests not": {pod(func(p *object.Pod) {
			p.Limits = object.Resources{CPUCores: 1, HasCPU: true, MemoryBytes: 1, HasMemory: true}
			p.Containers[0].Requests = object.Resources{}
		}), map[string]string{missing("cpu", "limit"): "-", missing("memory", "limit"): "-", missing("cpu", "request"): "1", missing("memory", "request"): "1"}},
		"pod-level requests stand for all containers": {pod(func(p *object.Pod) {
			p.Containers[0].Requests = object.Resources{}
			p.OwnRequests = object.Resources{CPUCores: 1, HasCPU: true}
		}), map[string]string{missing("cpu", "request"): "-", missing("memory", "request"): "1"}},
		"an init container's missing request does not matter": {pod(func(p *object.Pod) {
			p.Containers = append(p.Containers, object.Container{Name: "i", Init: true, State: "terminated"})
		}), map[string]string{missing("cpu", "request"): "-"}},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, wire.RoleCluster, []step{{30, nil, snapshot(tc.pod, node()), tc.want}})
		})
	}
}

func TestCluster(t *testing.T) {
	phase := func(p string) string { return "cluster_pod_num{" + p + "}" }
	named := func(uid, phase, node string) *object.Pod {
		return pod(func(p *object.Pod) { p.UID, p.Name, p.Phase, p.Node = uid, uid, phase, node })
	}
	for name, tc := range map[string]struct {
		now  *state.Snapshot
		want map[string]string
	}{
		"all five phases, none absent": {snapshot(node(), pod()), map[string]string{
			phase("Pending"): "0", phase("Running"): "1", phase("Succeeded"): "0", phase("Failed"): "0", phase("Unknown"): "0",
		}},
		"requests of pending and running pods of allocatable": {
			snapshot(node(), named("a", object.PhaseRunning, "n"), named("b", object.PhasePending, ""), named("c", object.PhaseSucceeded, "n"), named("d", object.PhaseFailed, "n")),
			map[string]string{"cluster_rate_cpu_core_request_cluster{}": "10", "cluster_rate_mem_request_bytes_cluster{}": "16", "cluster_cpu_core_total{}": "2", "cluster_memory_total{}": "800"},
		},
		"nodes that are not ready or cordoned count": {
			snapshot(node(), node(func(n *object.Node) { n.Name, n.Ready, n.Unschedulable = "m", false, true })),
			map[string]string{"cluster_node_not_ready_num{}": "1", "cluster_cpu_core_total{}": "4", "node_status_ready{n}": "1", "node_status_ready{m}": "0"},
		},
		"none not ready is zero, not absent": {snapshot(node()), map[string]string{"cluster_node_not_ready_num{}": "0"}},
		"virtual nodes and their pods are left out": {
			snapshot(node(), node(func(n *object.Node) { n.Name, n.Virtual, n.Ready = "v", true, false }), named("a", object.PhaseRunning, "v"), named("b", object.PhaseRunning, "n")),
			map[string]string{"cluster_node_not_ready_num{}": "0", "cluster_cpu_core_total{}": "2", "cluster_rate_cpu_core_request_cluster{}": "5", "node_status_ready{v}": "-", phase("Running"): "2"},
		},
		"an elastic cluster has no totals": {
			snapshot(node(func(n *object.Node) { n.Virtual = true }), pod()),
			map[string]string{"cluster_node_not_ready_num{}": "-", "cluster_cpu_core_total{}": "-", "cluster_rate_cpu_core_request_cluster{}": "-", podRdy: "1"},
		},
		"workloads": {
			snapshot(workload(func(w *object.Workload) { w.Abnormal = 3 })),
			map[string]string{"workload_abnormal{ns,w,deployment}": "3", wlRst: "0"},
		},
	} {
		t.Run(name, func(t *testing.T) { run(t, wire.RoleCluster, []step{{30, nil, tc.now, tc.want}}) })
	}
}

// What is asked for and allowed is added up for the pods behind a Service, and for
// those of a namespace.
func TestServicesAndNamespaces(t *testing.T) {
	full := object.Resources{CPUCores: 2, HasCPU: true, MemoryBytes: 100, HasMemory: true}
	named := func(name, phase string, limits object.Resources) *object.Pod {
		return pod(func(p *object.Pod) {
			p.UID, p.Name, p.Phase, p.Limits = name, name, phase, limits
			p.Requests.CPUCores = .25 // which rounding leaves as it is
		})
	}
	behind := func(pods ...string) map[string]*state.Endpoints {
		return map[string]*state.Endpoints{ // by two protocols, as a Service has them that has both
			"v4": {Namespace: "ns", Service: "web", Ready: len(pods), Pods: pods}, "v6": {Namespace: "ns", Service: "web", Pods: pods},
		}
	}
	const of = "service_%s{ns,web}"
	name := func(metric string) string { return fmt.Sprintf(of, metric) }
	phase := func(p string) string { return "service_pod_num{ns," + p + ",web}" }
	with := func(endpoints map[string]*state.Endpoints, objects ...object.Object) *state.Snapshot {
		s := snapshot(objects...)
		s.Endpoints = endpoints
		return s
	}
	limited, pending, open, other := named("a", object.PhaseRunning, full), named("b", object.PhasePending, full), named("c", object.PhaseRunning, object.Resources{}), named("d", object.PhaseRunning, full)
	elsewhere := pod(func(p *object.Pod) { p.UID, p.Namespace, p.Name = "e", "ns2", "a" }) // of the same name
	run(t, wire.RoleCluster, []step{
		{30, nil, with(behind("a", "b"), limited, pending, open, other, elsewhere), map[string]string{
			name("cpu_core_request"): "0.5", name("mem_request_bytes"): "128", name("cpu_core_limit"): "4", name("mem_limit_bytes"): "200",
			phase("Running"): "1", phase("Pending"): "1", phase("Failed"): "-", "namespace_cpu_core_limit{ns}": "-",
		}},
		{60, nil, with(behind("a", "b", "c"), limited, pending, open), map[string]string{ // one without a limit
			name("cpu_core_request"): "0.75", name("cpu_core_limit"): "stale", name("mem_limit_bytes"): "stale", phase("Running"): "2",
		}},
		{90, nil, with(behind("gone"), limited), map[string]string{ // the object went before its address
			name("endpoints_ready"): "1", name("cpu_core_request"): "stale", phase("Running"): "stale", phase("Pending"): "stale",
		}},
		{120, nil, with(behind(), limited, workload(func(w *object.Workload) { w.Desired, w.Ready = 3, 1 }), workload(func(w *object.Workload) {
			w.UID, w.Name, w.Ref.Name, w.Desired, w.Ready = "wu2", "w2", "w2", 2, 2
		}), workload(func(w *object.Workload) { w.UID, w.Namespace, w.Desired = "wu3", "empty", 1 })), map[string]string{
			name("endpoints_ready"): "0", "namespace_replicas_desire{ns}": "5", "namespace_replicas_ready{ns}": "3", "namespace_cpu_core_limit{ns}": "2",
			"namespace_replicas_desire{empty}": "1", "namespace_replicas_ready{empty}": "0", "namespace_cpu_core_request{empty}": "-",
		}},
	})
}

// A cluster without nodes of its own is measured against its namespaces' quotas,
// where each with pods has one.
func TestAnElasticClusterIsMeasuredAgainstItsQuotas(t *testing.T) {
	virtual := node(func(n *object.Node) { n.Virtual = true })
	in := func(namespace string) *object.Pod {
		return pod(func(p *object.Pod) { p.UID, p.Namespace, p.Requests.CPUCores = namespace, namespace, .25 })
	}
	quota := func(namespace string, cpu, mem float64) *state.Quota {
		return &state.Quota{Namespace: namespace, CPUCores: cpu, MemoryBytes: mem}
	}
	for name, tc := range map[string]struct {
		quotas []*state.Quota
		nodes  []object.Object
		want   map[string]string
		lacks  string
	}{
		"each namespace has one": {[]*state.Quota{quota("a", 4, 640), quota("b", 1, 0), quota("b", 2, 640)}, nil,
			map[string]string{"cluster_cpu_core_total{}": "5", "cluster_memory_total{}": "1280", "cluster_rate_cpu_core_request_cluster{}": "10", "cluster_rate_mem_request_bytes_cluster{}": "10"}, ""},
		"one has none for CPU": {[]*state.Quota{quota("a", 4, 640), quota("b", 0, 640)}, nil,
			map[string]string{"cluster_cpu_core_total{}": "-", "cluster_rate_cpu_core_request_cluster{}": "-", "cluster_memory_total{}": "1280"}, catalogue.ClusterCPUTotal},
		"none has one":                    {nil, nil, map[string]string{"cluster_cpu_core_total{}": "-", "cluster_memory_total{}": "-"}, catalogue.ClusterMemTotal},
		"real nodes are what counts":      {[]*state.Quota{quota("a", 4, 640), quota("b", 4, 640)}, []object.Object{node(func(n *object.Node) { n.Name = "real" })}, map[string]string{"cluster_cpu_core_total{}": "2"}, ""},
		"an empty namespace adds its own": {[]*state.Quota{quota("a", 4, 640), quota("b", 4, 640), quota("c", 2, 640)}, nil, map[string]string{"cluster_cpu_core_total{}": "10"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			now := snapshot(append(tc.nodes, virtual, in("a"), in("b"))...)
			now.Quotas = map[string]*state.Quota{}
			for i, q := range tc.quotas {
				now.Quotas[fmt.Sprint(i)] = q
			}
			c := run(t, wire.RoleCluster, []step{{30, nil, now, tc.want}})
			for _, m := range []string{catalogue.ClusterCPUTotal, catalogue.ClusterMemTotal} {
				if why := c.Unavailable()[m]; (why == catalogue.NoQuota) != (tc.want["cluster_cpu_core_total{}"] == "-" && m == catalogue.ClusterCPUTotal || tc.want["cluster_memory_total{}"] == "-" && m == catalogue.ClusterMemTotal) {
					t.Errorf("%s lacks because %q", m, why)
				}
			}
			if tc.lacks != "" && c.Unavailable()[tc.lacks] == "" {
				t.Errorf("%s is not said to lack", tc.lacks)
			}
		})
	}
}

func restarted(n int, change ...func(*object.Pod)) *object.Pod {
	return pod(append([]func(*object.Pod){func(p *object.Pod) { p.Containers[0].RestartCount = n }}, change...)...)
}

func TestRestartCounters(t *testing.T) {
	created := func(s float64) func(*object.Pod) { return func(p *object.Pod) { p.CreatedAt = sec(s) } }
	other := func(p *object.Pod) { p.UID, p.Name = "v", "q" }
	for name, steps := range map[string][]step{
		"a first contact adds nothing": {
			{30, nil, snapshot(restarted(7), node()), map[string]string{podRst: "7", wlRst: "0", nodeRst: "0"}},
			{60, nil, snapshot(restarted(9), node()), map[string]string{podRst: "9", wlRst: "2", nodeRst: "2"}},
		},
		"a pod created since the last interval adds all": {
			{30, nil, snapshot(node()), nil},
			{60, nil, snapshot(restarted(2, created(40)), node()), map[string]string{wlRst: "2", nodeRst: "2"}},
		},
		"an old pod that is seen late adds nothing": {
			{30, nil, snapshot(node()), nil},
			{60, nil, snapshot(restarted(2), node()), map[string]string{wlRst: "0"}},
		},
		"they never fall when pods go": {
			{30, nil, snapshot(restarted(0), pod(other), node()), nil},
			{60, nil, snapshot(restarted(4), pod(other), node()), map[string]string{wlRst: "4"}},
			{90, nil, snapshot(pod(other), node()), map[string]string{wlRst: "4", nodeRst: "4", podRst: "stale"}},
		},
		"nor when a status was lost": {
			{30, nil, snapshot(restarted(3), node()), nil},
			{60, nil, snapshot(restarted(4), node()), map[string]string{wlRst: "1"}},
			{90, nil, snapshot(restarted(0), node()), map[string]string{wlRst: "1", podRst: "0"}},
			{120, nil, snapshot(restarted(1), node()), map[string]string{wlRst: "2"}},
		},
		"another workload of the name begins at zero": {
			{30, nil, snapshot(restarted(0), node()), nil},
			{60, nil, snapshot(restarted(1), node()), map[string]string{wlRst: "1"}},
			{90, nil, snapshot(node()), map[string]string{wlRst: "stale"}},
			{120, nil, snapshot(workload(), node()), map[string]string{wlRst: "0"}},
		},
	} {
		t.Run(name, func(t *testing.T) { run(t, wire.RoleCluster, steps) })
	}
}

func TestSeriesEnd(t *testing.T) {
	pending := pod(func(p *object.Pod) {
		p.Node, p.Phase, p.Ready, p.Containers[0].State = "", object.PhasePending, false, "waiting"
	})
	reads := []reading.Set{set(container(val(1, 20), val(100, 20)))}
	for name, steps := range map[string][]step{
		"when a pending pod gets its node, with the first sample of the new one": {
			{30, nil, snapshot(pending, node()), map[string]string{"pod_status_ready{ns,p,w,deployment}": "0"}},
			{60, nil, snapshot(pod(), node()), map[string]string{"pod_status_ready{ns,p,w,deployment}": "stale", podRdy: "1"}},
			{90, nil, snapshot(pod(), node()), map[string]string{"pod_status_ready{ns,p,w,deployment}": "-", podRdy: "1"}},
		},
		"when the workload turns out to be another": {
			{30, reads, snapshot(pod(), node()), map[string]string{podMems: "100"}},
			{60, reads, snapshot(pod(func(p *object.Pod) { p.Workload.Name = "x" }), node()), map[string]string{
				podMems: "stale", ctrMem: "stale", podRdy: "stale", "pod_mem_no_cache_bytes{ns,n,p,x,deployment}": "100", "pod_status_ready{ns,n,p,x,deployment}": "1",
			}},
		},
		"when the object goes": {
			{30, reads, snapshot(pod(), node(), workload()), map[string]string{podMems: "100"}},
			{60, nil, snapshot(), map[string]string{podMems: "stale", ctrMem: "stale", podRdy: "stale", "node_status_ready{n}": "stale",
				"workload_abnormal{ns,w,deployment}": "stale", "pod_spec_missing{ns,n,p,cpu,limit,w,deployment}": "stale"}},
			{90, nil, snapshot(), map[string]string{podMems: "-", podRdy: "-"}},
		},
		"when the pod is finished": {
			{30, reads, snapshot(pod()), map[string]string{podMems: "100", podRdy: "1"}},
			{60, reads, snapshot(pod(func(p *object.Pod) { p.Phase = object.PhaseSucceeded })), map[string]string{podMems: "stale", podRdy: "stale", podRst: "0"}},
		},
		"when a limit is taken away": {
			{30, reads, snapshot(pod(func(p *object.Pod) { p.Limits = object.Resources{MemoryBytes: 200, HasMemory: true} })), map[string]string{"pod_rate_mem_no_cache_limit{ns,n,p,w,deployment}": "50"}},
			{60, reads, snapshot(pod()), map[string]string{"pod_rate_mem_no_cache_limit{ns,n,p,w,deployment}": "stale"}},
		},
		"not while the list of objects is incomplete": {
			{30, reads, snapshot(pod()), map[string]string{podMems: "100"}},
			{60, reads, &state.Snapshot{}, map[string]string{podMems: "-", podRdy: "-"}},
			{90, reads, snapshot(), map[string]string{podMems: "stale", podRdy: "stale"}},
		},
	} {
		t.Run(name, func(t *testing.T) { run(t, wire.RoleAll, steps) })
	}
}

func hostSet(source catalogue.Source, at float64, n reading.Node) reading.Set {
	return reading.Set{Node: "n", Source: source, Host: &n}
}

func TestNodes(t *testing.T) {
	disk := func(mount string, used, free, at float64) reading.Filesystem {
		return reading.Filesystem{Mountpoint: mount, UsedBytes: val(used, at), AvailableBytes: val(free, at)}
	}
	full := func(at float64) reading.Set {
		return hostSet(catalogue.Host, at, reading.Node{
			CPUBusySeconds: val(at/2, at), CPUTotalSeconds: val(at*2, at), MemUsedBytes: val(30, at), MemTotalBytes: val(120, at),
			ReceiveBytes: val(at*100, at), TransmitBytes: val(at*200, at), TCPEstablished: val(17, at),
			Filesystems: []reading.Filesystem{disk("/", 30, 70, at), disk("/data", 1, 1, at)},
		})
	}
	outside := func(at float64) reading.Set {
		return hostSet(catalogue.CadvisorLabels, at, reading.Node{CPUBusySeconds: val(at, at), MemUsedBytes: val(250, at)})
	}
	const slash, data = "node_filesystem_usage{/,n}", "node_filesystem_usage{/data,n}"
	for name, steps := range map[string][]step{
		"from its own /proc": {
			{30, []reading.Set{full(28)}, snapshot(node()), map[string]string{"node_cpu_usage{n}": "-", "node_mem_usage{n}": "25", "node_tcp_curr_estab{n}": "17", slash: "30", data: "50"}},
			{60, []reading.Set{full(58)}, snapshot(node()), map[string]string{"node_cpu_usage{n}": "25", "node_network_receive_bytes_bw{n}": "100", "node_network_transmit_bytes_bw{n}": "200"}},
		},
		"from outside, of its capacity": {
			{30, []reading.Set{outside(28)}, snapshot(node()), map[string]string{"node_mem_usage{n}": "25", "node_tcp_curr_estab{n}": "-"}},
			{60, []reading.Set{outside(58)}, snapshot(node()), map[string]string{"node_cpu_usage{n}": "25"}},
		},
		"a file system that is unmounted ends": {
			{30, []reading.Set{full(28)}, snapshot(node()), map[string]string{data: "50"}},
			{60, []reading.Set{hostSet(catalogue.Host, 58, reading.Node{Filesystems: []reading.Filesystem{disk("/", 30, 70, 58)}})}, snapshot(node()), map[string]string{data: "stale", slash: "30"}},
		},
		"a node that cannot be read has a gap": {
			{30, []reading.Set{full(28)}, snapshot(node()), map[string]string{slash: "30"}},
			{60, []reading.Set{{Node: "n", Source: catalogue.Host, Err: errors.New("no")}}, snapshot(node()), map[string]string{slash: "-", "node_mem_usage{n}": "-", "crowsnest_source_up{n,host}": "0"}},
		},
		"a node that is gone ends": {
			{30, []reading.Set{full(28)}, snapshot(node()), map[string]string{slash: "30"}},
			{60, nil, snapshot(node(func(n *object.Node) { n.Name = "other" })), map[string]string{slash: "stale", "node_mem_usage{n}": "stale"}},
		},
		"a virtual node has no figures": {
			{30, []reading.Set{full(28)}, snapshot(node(func(n *object.Node) { n.Virtual = true })), map[string]string{slash: "-", "node_mem_usage{n}": "-"}},
		},
	} {
		t.Run(name, func(t *testing.T) { run(t, wire.RoleNode, steps) })
	}
}

func TestChanges(t *testing.T) {
	begin := func(objects ...object.Object) (*Computer, *state.Snapshot) {
		c := New(Options{Role: wire.RoleAll, Sender: "s", Interval: 30 * time.Second})
		s := snapshot(objects...)
		c.Interval(sec(30), []reading.Set{set(container(val(1, 20), val(100, 20)))}, s)
		return c, s
	}
	for name, tc := range map[string]struct {
		before, after []object.Object
		changes       []state.Change
		want          map[string]string // everything, and nothing else
	}{
		"a pod that turns unready": {
			[]object.Object{pod(), node()}, []object.Object{pod(func(p *object.Pod) { p.Ready = false }), node()},
			[]state.Change{{Before: pod(), Now: pod(func(p *object.Pod) { p.Ready = false })}},
			map[string]string{podRdy: "0"},
		},
		"a restart": {
			[]object.Object{restarted(1), node()}, []object.Object{restarted(2), node()},
			[]state.Change{{Before: restarted(1), Now: restarted(2)}},
			map[string]string{podRst: "2", wlRst: "1", nodeRst: "1", "container_restart_total{c,ns,n,p,w,deployment}": "2", "namespace_pod_restart_total{ns}": "1"},
		},
		"a change that no metric shows": {
			[]object.Object{pod(), node()}, []object.Object{pod(func(p *object.Pod) { p.IP = "10.0.0.1" }), node()},
			[]state.Change{{Before: pod(), Now: pod(func(p *object.Pod) { p.IP = "10.0.0.1" })}},
			map[string]string{},
		},
		"a pod that begins to terminate": {
			[]object.Object{pod(), node()}, []object.Object{pod(func(p *object.Pod) { p.Terminating = true }), node()},
			[]state.Change{{Before: pod(), Now: pod(func(p *object.Pod) { p.Terminating = true })}},
			map[string]string{podRdy: "stale"},
		},
		"a pod that goes, after a last restart": {
			[]object.Object{pod(), node()}, []object.Object{node()},
			[]state.Change{{Before: restarted(1)}},
			map[string]string{podRdy: "stale", podRst: "stale", podMems: "stale", ctrMem: "stale", wlRst: "1", nodeRst: "1", "cluster_pod_num{Running}": "0",
				"pod_network_receive_bytes_bw{ns,n,p,w,deployment}": "-", "namespace_pod_restart_total{ns}": "1",
				"container_oom_kill_total{c,ns,n,p,w,deployment}": "stale", "container_restart_total{c,ns,n,p,w,deployment}": "stale",
				"container_rate_mem_no_cache_node{c,ns,n,p,w,deployment}": "stale", "container_rate_mem_no_cache_request{c,ns,n,p,w,deployment}": "stale",
				"pod_rate_mem_no_cache_node{ns,n,p,w,deployment}": "stale", "pod_rate_mem_no_cache_request{ns,n,p,w,deployment}": "stale",
				"pod_started_latency{ns,n,p,w,deployment}": "stale", "pod_status_phase{ns,n,Running,p,w,deployment}": "stale",
				"pod_spec_missing{ns,n,p,cpu,limit,w,deployment}": "stale", "pod_spec_missing{ns,n,p,memory,limit,w,deployment}": "stale"},
		},
		"a node that turns unready": {
			[]object.Object{node()}, []object.Object{node(func(n *object.Node) { n.Ready = false })},
			[]state.Change{{Before: node(), Now: node(func(n *object.Node) { n.Ready = false })}},
			map[string]string{"node_status_ready{n}": "0", "cluster_node_not_ready_num{}": "1"},
		},
		"a workload that turns abnormal": {
			[]object.Object{workload()}, []object.Object{workload(func(w *object.Workload) { w.Abnormal = 2 })},
			[]state.Change{{Before: workload(), Now: workload(func(w *object.Workload) { w.Abnormal = 2 })}},
			map[string]string{"workload_abnormal{ns,w,deployment}": "2", "cluster_workload_abnormal_num{}": "1"},
		},
		"a rollout that gets stuck": {
			[]object.Object{workload(func(w *object.Workload) { w.Rolls = true })}, []object.Object{workload(func(w *object.Workload) { w.Rolls, w.Stuck = true, true })},
			[]state.Change{{Before: workload(func(w *object.Workload) { w.Rolls = true }), Now: workload(func(w *object.Workload) { w.Rolls, w.Stuck = true, true })}},
			map[string]string{"workload_rollout_stuck{ns,w,deployment}": "1"},
		},
		"a pending pod that gets its node": {
			[]object.Object{pod(func(p *object.Pod) { p.Node, p.Ready = "", false }), node()}, []object.Object{pod(func(p *object.Pod) { p.Ready = false }), node()},
			[]state.Change{{Before: pod(func(p *object.Pod) { p.Node, p.Ready = "", false }), Now: pod(func(p *object.Pod) { p.Ready = false })}},
			map[string]string{
				"pod_status_ready{ns,p,w,deployment}": "stale", "pod_restart_total{ns,p,w,deployment}": "stale", podRdy: "0", podRst: "0",
				"pod_spec_missing{ns,p,cpu,limit,w,deployment}": "stale", "pod_spec_missing{ns,p,memory,limit,w,deployment}": "stale",
				"pod_spec_missing{ns,n,p,cpu,limit,w,deployment}": "1", "pod_spec_missing{ns,n,p,memory,limit,w,deployment}": "1",
				"container_restart_total{c,ns,p,w,deployment}": "stale", "container_restart_total{c,ns,n,p,w,deployment}": "0",
				"pod_status_phase{ns,Running,p,w,deployment}": "stale", "pod_status_phase{ns,n,Running,p,w,deployment}": "1",
				"pod_started_latency{ns,p,w,deployment}": "stale", "pod_unschedulable{ns,p,w,deployment}": "stale",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := begin(tc.before...)
			samples := c.Changes(sec(41), tc.changes, snapshot(tc.after...), true)
			got := series(t, samples)
			ended := maps.Clone(got)
			maps.DeleteFunc(ended, func(_, v string) bool { return v != "stale" })
			for k, v := range tc.want {
				if g, ok := got[k]; v == "-" && ok || v != "-" && g != v {
					t.Errorf("%s is %q, want %q", k, g, v)
				}
				delete(got, k)
			}
			if len(got) > 0 {
				t.Errorf("also sent %v", got)
			}
			for _, s := range samples {
				if !s.At.Equal(sec(41)) {
					t.Errorf("%s stands at %v, want the time of the change", s.Metric, s.At)
				}
			}
			// What was sent is not sent again, and the grid goes on from it.
			if again := c.Changes(sec(42), tc.changes, snapshot(tc.after...), true); len(again) != 0 {
				t.Errorf("the same changes again gave %v", series(t, again))
			}
			for k, v := range series(t, c.Interval(sec(60), nil, snapshot(tc.after...))) {
				if v == "stale" && ended[k] != "" {
					t.Errorf("%s ended twice", k)
				}
			}
		})
	}
}

func TestChangesNeverShareATimeWithTheGrid(t *testing.T) {
	c := New(Options{Role: wire.RoleCluster, Sender: "s"})
	if got := c.Changes(sec(1), []state.Change{{Now: pod()}}, snapshot(pod()), true); got != nil {
		t.Errorf("changes before the first interval gave %v", got)
	}
	c.Interval(sec(30), nil, snapshot(pod()))
	unready := pod(func(p *object.Pod) { p.Ready = false })
	got := c.Changes(sec(30), []state.Change{{Before: pod(), Now: unready}}, snapshot(unready), true)
	if len(got) != 1 || !got[0].At.After(sec(30)) {
		t.Errorf("a change at the grid point gave %v", got)
	}
}

func TestWarm(t *testing.T) {
	c := New(Options{Role: wire.RoleAll, Sender: "s"})
	c.Warm(sec(5), []reading.Set{set(container(val(10, 4), val(1, 4)))}, snapshot(restarted(3), node()))
	got := series(t, c.Interval(sec(30), []reading.Set{set(container(val(15, 24), val(1, 24)))}, snapshot(restarted(4), node())))
	for k, want := range map[string]string{ctrCPU: "0.25", podRdy: "1", podRst: "4", wlRst: "1"} {
		if got[k] != want {
			t.Errorf("%s is %q, want %q", k, got[k], want)
		}
	}
	c = New(Options{Role: wire.RoleAll, Sender: "s"})
	c.Warm(sec(5), nil, snapshot(pod(), node()))
	for k, v := range series(t, c.Interval(sec(30), nil, snapshot(node()))) {
		if v == "stale" {
			t.Errorf("%s ends though it was never sent", k)
		}
	}
}

// TestEveryMetricWithItsLabels holds compute to the catalogue: what a role should
// compute it does, with exactly the labels that the entry says.
func TestEveryMetricWithItsLabels(t *testing.T) {
	now, read := everything()
	for role, places := range map[string][]catalogue.Place{
		wire.RoleNode: {catalogue.ByNode}, wire.RoleCluster: {catalogue.ByCluster}, wire.RoleAll: {catalogue.ByNode, catalogue.ByCluster},
	} {
		c := New(Options{Role: role, Sender: "s"})
		c.SetClockOffset(time.Second)
		read := func(at float64) []reading.Set {
			return slices.DeleteFunc(read(at), func(s reading.Set) bool { return role == wire.RoleCluster && s.Node == "v" }) // which it would measure
		}
		c.Interval(sec(30), read(20), now)
		got := map[string][]string{}
		for _, s := range c.Interval(sec(60), read(50), now) {
			names := []string{"cluster"} // which the server sets
			s.Labels.Range(func(l labels.Label) { names = append(names, l.Name) })
			if s.Labels.Get("pod") == "p2" {
				names = append(names, "node") // it has none yet
			}
			slices.Sort(names)
			got[s.Metric] = names
		}
		for _, m := range catalogue.All() {
			names, has := got[m.Name]
			should := slices.Contains(places, m.Place)
			if m.Name == "k8s_node_clock_offset_seconds" {
				should = role == wire.RoleNode // another clock is not the node's
			}
			if has != should {
				t.Errorf("role %s: %s is computed: %v, want %v", role, m.Name, has, should)
			}
			want := m.Labels()
			slices.Sort(want)
			if has && !slices.Equal(names, want) {
				t.Errorf("role %s: %s has labels %v, want %v", role, m.Name, names, want)
			}
			delete(got, m.Name)
		}
		for name := range got {
			if !strings.HasPrefix(name, "crowsnest_") {
				t.Errorf("role %s: %s is not in the catalogue", role, name)
			}
		}
	}
}

// everything makes a cluster in which every metric has a value, and readings of
// it that all differ from one call to the next.
func everything() (*state.Snapshot, func(at float64) []reading.Set) {
	full := object.Resources{CPUCores: 1, HasCPU: true, MemoryBytes: 10, HasMemory: true}
	p := pod(func(p *object.Pod) {
		p.Limits, p.Requests, p.OwnRequests, p.GPUs, p.ScheduledAt = full, full, full, 1, sec(-599)
		p.Containers[0].Limits, p.Containers[0].Requests = full, full
		p.Containers[0].Last = &object.Termination{Reason: "Error", ExitCode: 1, FinishedAt: sec(-610)}
	})
	pending := pod(func(p *object.Pod) {
		p.UID, p.Namespace, p.Name, p.Node, p.Phase, p.Ready, p.Reason = "u2", "ns2", "p2", "", object.PhasePending, false, "Unschedulable"
		p.Containers[0].State, p.Containers[0].Requests, p.Containers[0].StartedAt = "waiting", object.Resources{}, time.Time{} // so that something is missing
	})
	elastic := pod(func(p *object.Pod) {
		p.UID, p.Name, p.Node, p.Containers[0].ID, p.Limits = "u3", "p3", "v", "c3", full
		p.Workload = object.WorkloadRef{Type: "cronjob", Name: "j"}
	})
	n := node(func(n *object.Node) {
		n.MaxPods, n.GPUs, n.CreatedAt = 110, 1, sec(-1000)
		n.Conditions = []object.Condition{{Type: "Ready", Status: "True"}, {Type: "DiskPressure", Status: "False"}}
	})
	v := node(func(n *object.Node) { n.UID, n.Name, n.Virtual = "vu", "v", true })
	job := workload(func(w *object.Workload) {
		w.UID, w.Name, w.Ref, w.Job = "ju", "j", object.WorkloadRef{Type: "cronjob", Name: "j"}, &object.JobState{StartedAt: sec(-100)}
	})
	now := snapshot(p, pending, elastic, n, v, workload(func(w *object.Workload) { w.Rolls = true }), job)
	now.Namespaces["ns"] = &object.Namespace{Meta: object.Meta{UID: "nsu", Name: "ns", CreatedAt: sec(-2000)}}
	now.Quotas = map[string]*state.Quota{"q": {Namespace: "ns", Name: "q", UsedPercent: map[string]float64{"pods": 50}}}
	now.Autoscalers = map[string]*state.Autoscaler{"a": {Namespace: "ns", Name: "a", Target: object.WorkloadRef{Type: "deployment", Name: "w"}, Current: 1, Desired: 2, Max: 3}}
	now.Claims = map[string]*state.Claim{"c": {Namespace: "ns", Name: "data", Bound: true}}
	now.Endpoints = map[string]*state.Endpoints{"e": {Namespace: "ns", Service: "web", Ready: 1, Pods: []string{"p"}}}
	read := func(at float64) []reading.Set {
		c := container(val(at, at), val(1, at))
		fill(&c, at)
		pr := reading.Pod{UID: "u", Volumes: []reading.Volume{{Namespace: "ns", Claim: "data"}}}
		fill(&pr, at)
		fill(&pr.Volumes[0], at)
		e := c
		e.PodUID, e.Pod, e.ID = "u3", "p3", "c3"
		h := reading.Node{Filesystems: []reading.Filesystem{{Mountpoint: "/"}}}
		fill(&h, at)
		fill(&h.Filesystems[0], at)
		hist := func(n float64) reading.Histogram {
			return reading.Histogram{At: sec(at), Bounds: []float64{0.1, math.Inf(1)}, Counts: []float64{n, n}}
		}
		component := reading.Component{
			Name: "apiserver", Ready: true, At: sec(at), ProbeTook: time.Millisecond, CertExpires: sec(86400 * 30), Fsync: hist(at), Scheduling: hist(at),
			Requests: map[string]reading.Value{"list": val(at, at)}, Errors: map[string]reading.Value{"list": val(at/2, at)}, Latency: map[string]reading.Histogram{"list": hist(at)},
		}
		fill(&component, at)
		return []reading.Set{
			{Node: "n", Source: catalogue.CadvisorLabels, Containers: []reading.Container{c}, Pods: []reading.Pod{pr}},
			{Node: "v", Source: catalogue.StatsSummary, Containers: []reading.Container{e}},
			hostSet(catalogue.Host, at, h),
			{Source: catalogue.Components, Components: []reading.Component{component}},
			{Node: "n", Source: catalogue.Peers, Partial: true, Peers: []reading.Peer{{Node: "n2", Probe: "node", Reached: true, At: sec(at)}}},
			{Node: "n", Source: catalogue.Probes, Partial: true, Probes: []reading.Probe{{PodUID: "u", Namespace: "ns", Pod: "p", Container: "c", Probe: "liveness", Result: "failed", Count: val(at, at)}}},
		}
	}
	return now, read
}

// fill gives each Value of a struct that is at.
func fill(to any, at float64) {
	v := reflect.ValueOf(to).Elem()
	for i := range v.NumField() {
		if f := v.Field(i); f.Type() == reflect.TypeFor[reading.Value]() {
			f.Set(reflect.ValueOf(val(at, at)))
		}
	}
}

func TestFamilies(t *testing.T) {
	now, read := everything()
	c := New(Options{Role: wire.RoleAll, Sender: "s", Families: []catalogue.Family{catalogue.CoreFamily}})
	c.Interval(sec(30), read(20), now)
	for _, s := range c.Interval(sec(60), read(50), now) {
		if m, ok := catalogue.Get(s.Metric); ok && m.Family() != catalogue.CoreFamily {
			t.Errorf("%s is computed though only the core is wanted", s.Metric)
		}
	}
	c.SetFamilies(nil)
	got := series(t, c.Interval(sec(90), read(80), now))
	if got["pod_mem_usage_bytes{ns,n,p,w,deployment}"] != "80" {
		t.Error("extras that are wanted again are not computed")
	}
	c.SetFamilies([]catalogue.Family{catalogue.CoreFamily})
	got = series(t, c.Interval(sec(120), read(110), now))
	if got["pod_mem_usage_bytes{ns,n,p,w,deployment}"] != "stale" || got[podMems] != "110" {
		t.Errorf("what is not wanted any more does not end: %q, %q", got["pod_mem_usage_bytes{ns,n,p,w,deployment}"], got[podMems])
	}
}

func TestCoverageTellsWhatIsBlind(t *testing.T) {
	two := pod(func(p *object.Pod) {
		p.Containers = append(p.Containers, object.Container{Name: "d", ID: "d1", State: "running"})
	})
	s := set(container(val(1, 20), val(1, 20)))
	s.Lacking = map[string]string{catalogue.ContainerFSRead: "no figures", catalogue.ContainerMem: "wrong, it is there"}
	c := run(t, wire.RoleNode, []step{{30, []reading.Set{s}, snapshot(two), map[string]string{
		"crowsnest_source_up{n,cadvisor}": "1", "crowsnest_source_containers_expected{n,cadvisor}": "2", "crowsnest_source_containers_measured{n,cadvisor}": "1",
		"crowsnest_source_oldest_reading_seconds{n,cadvisor}": "10", "crowsnest_collection_interval_seconds{s}": "30",
	}}})
	if got := c.Unavailable(); len(got) != 1 || got[catalogue.ContainerFSRead] != "no figures" {
		t.Errorf("unavailable are %v, want only what has no sample", got)
	}
}

func TestOrderIsTheSameInEachInterval(t *testing.T) {
	var objects []object.Object
	for i := range 50 {
		objects = append(objects, pod(func(p *object.Pod) { p.UID = fmt.Sprint(i); p.Name = "p" + p.UID }))
	}
	c := New(Options{Role: wire.RoleCluster, Sender: "s"})
	c.Interval(sec(30), nil, snapshot(objects...))
	a, b := c.Interval(sec(60), nil, snapshot(objects...)), c.Interval(sec(90), nil, snapshot(objects...))
	if len(a) != len(b) || len(a) == 0 {
		t.Fatalf("%d and %d samples", len(a), len(b))
	}
	for i := range a {
		if a[i].Metric != b[i].Metric || !labels.Equal(a[i].Labels, b[i].Labels) {
			t.Fatalf("place %d holds %s%s and %s%s", i, a[i].Metric, a[i].Labels, b[i].Metric, b[i].Labels)
		}
	}
}

func TestRoundKeepsWhatCanBeKnown(t *testing.T) {
	for v := range 2049 {
		if round(float64(v)) != float64(v) {
			t.Fatalf("round(%d) = %v", v, round(float64(v)))
		}
	}
	near := func(v float64) bool {
		if math.IsNaN(v) || math.IsInf(v, 0) || math.Abs(v) > 1e300 || math.Abs(v) < 1e-300 {
			return true
		}
		return math.Abs(round(v)-v) <= math.Abs(v)/2000
	}
	if err := quick.Check(near, &quick.Config{MaxCount: 20_000}); err != nil {
		t.Error(err)
	}
}

func BenchmarkInterval(b *testing.B) {
	var objects []object.Object
	objects = append(objects, node())
	s := set()
	for i := range 110 {
		uid := fmt.Sprint(i)
		objects = append(objects, pod(func(p *object.Pod) { p.UID, p.Name, p.Containers[0].ID = uid, "p"+uid, uid }))
		r := container(val(1, 20), val(1, 20))
		r.PodUID, r.ID = uid, uid
		s.Containers = append(s.Containers, r)
	}
	now := snapshot(objects...)
	c := New(Options{Role: wire.RoleNode, Sender: "s"})
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		at := float64(30 * i)
		for j := range s.Containers {
			s.Containers[j].CPUSeconds, s.Containers[j].WorkingSetBytes = val(at, at), val(1, at)
		}
		c.Interval(sec(at), []reading.Set{s}, now)
	}
}

// Readings of what the objects do not know, or not any longer, cost nothing, change
// nothing and are counted: a pod that went between list and use, a node that is no more,
// two containers of which both objects claim one id, or both readings, counters that go back.
func TestReadingsThatDoNotFitTheObjects(t *testing.T) {
	twin := pod(func(p *object.Pod) { p.UID, p.Name = "u2", "twin" }) // its container claims the same id
	now := snapshot(pod(), twin, node())
	c := New(Options{Role: wire.RoleNode, Sender: "s"})
	read := func(at float64) []reading.Set {
		gone := container(val(9*at, at), val(9, at))
		gone.PodUID, gone.Pod, gone.ID = "went", "went", "c9"
		foreign := reading.Set{Node: "no-more", Source: catalogue.CadvisorLabels, Containers: []reading.Container{gone}}
		mine, other := container(val(at, at), val(10, at)), container(val(2*at, at), val(20, at))
		other.PodUID, other.Pod = "u2", "twin"
		again := mine // another that claims to be it
		again.WorkingSetBytes = val(99, at)
		s := set(mine, other, gone, again)
		s.Pods = []reading.Pod{{UID: "went", ReceiveBytes: val(at, at)}, {UID: "u", ReceiveBytes: val(1000-at, at)}}
		return []reading.Set{s, foreign}
	}
	c.Interval(sec(30), read(20), now)
	got := map[string]float64{}
	for _, s := range c.Interval(sec(60), read(50), now) {
		if s.Labels.Get("pod") == "went" || s.Labels.Get("node") == "no-more" && !strings.HasPrefix(s.Metric, "crowsnest_") && s.Metric != "k8s_node_kubelet_ready" {
			t.Errorf("%s %s is of nobody", s.Metric, s.Labels)
		}
		if math.IsNaN(s.V) || math.IsInf(s.V, 0) {
			t.Errorf("%s %s is %v", s.Metric, s.Labels, s.V)
		}
		if s.Metric == catalogue.PodCPU || s.Metric == catalogue.PodMem {
			got[s.Metric+" "+s.Labels.Get("pod")] += s.V
		}
	}
	for m, want := range map[Misfit]int{
		NoObject:    2 * 3, // in each of both intervals a container, its pod, and a container of a node that is no more
		ReadTwice:   2,
		SharedID:    2,
		CounterFell: 1, // what the pod received
	} {
		if got := c.Misfit(m); got != want {
			t.Errorf("%s was counted %d times, want %d", m, got, want)
		}
	}
	for key, want := range map[string]float64{catalogue.PodCPU + " p": 1, catalogue.PodCPU + " twin": 2, catalogue.PodMem + " p": 10, catalogue.PodMem + " twin": 20} {
		if got[key] != want {
			t.Errorf("%s is %v, want %v", key, got[key], want)
		}
	}
}

// A node's peers tell of it, so the series is of the node that was asked; what is
// asked no more ends, what is asked of a pod that went too.
func TestPeersAndProbes(t *testing.T) {
	c := New(Options{Role: wire.RoleNode, Sender: "node/n"})
	asked := func(peers ...reading.Peer) reading.Set {
		return reading.Set{Node: "n", Source: catalogue.Peers, Partial: true, Peers: peers}
	}
	probed := func(at, count float64, uid, container string) reading.Set {
		return reading.Set{Node: "n", Source: catalogue.CadvisorLabels, Partial: true, Probes: []reading.Probe{
			{PodUID: uid, Namespace: "ns", Pod: "p", Container: container, Probe: "readiness", Result: "failed", Count: val(count, at)},
		}}
	}
	const (
		n2Node, n2Kubelet = "node_peer_reached{n2,n,node}", "node_peer_reached{n2,n,kubelet}"
		failed            = "container_probe_total{c,ns,n,p,readiness,failed,w,deployment}"
	)
	now := snapshot(pod(), node())
	for i, step := range []struct {
		sets []reading.Set
		want map[string]string
	}{
		{[]reading.Set{asked(reading.Peer{Node: "n2", Probe: "node", Reached: true}, reading.Peer{Node: "n2", Probe: "kubelet"}), probed(20, 3, "u", "c")},
			map[string]string{n2Node: "1", n2Kubelet: "0", failed: "3"}},
		{[]reading.Set{asked(reading.Peer{Node: "n2", Probe: "node"}), probed(20, 3, "u", "c")}, // the kubelet is read once a minute
			map[string]string{n2Node: "0", n2Kubelet: "stale", failed: "3"}},
		{[]reading.Set{asked(), probed(80, 4, "other", "c")}, map[string]string{n2Node: "stale", failed: "stale"}},
		{[]reading.Set{probed(110, 4, "u", "gone")}, nil},
	} {
		got := series(t, c.Interval(sec(float64(30*(i+1))), step.sets, now))
		for k, v := range got {
			if _, wanted := step.want[k]; !wanted && (strings.HasPrefix(k, "node_peer") || strings.HasPrefix(k, "container_probe")) {
				t.Errorf("interval %d also gives %s %s", i, k, v)
			}
		}
		for k, v := range step.want {
			if got[k] != v {
				t.Errorf("interval %d: %s is %q, want %q", i, k, got[k], v)
			}
		}
	}
}
