package compute

import (
	"testing"

	"github.com/crowsnest-dev/crowsnest/collector/reading"
	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// Beside node collectors, role cluster measures the pods on virtual nodes, and no
// others. When somebody else goes on with a node, its series go on: no stale marker is
// written into them, and nothing more is sent of them.
func TestRoleClusterMeasuresVirtualNodesAndHandsThemOver(t *testing.T) {
	virtual := node(func(n *object.Node) { n.Virtual = true })
	other := node(func(n *object.Node) { n.UID, n.Name = "ru", "r" })
	onReal := pod(func(p *object.Pod) { p.UID, p.Name, p.Node, p.Containers[0].ID = "u2", "q", "r", "c2" })
	with := func(objects ...object.Object) *state.Snapshot { return snapshot(append(objects, other, onReal)...) }
	readings := func(at float64) []reading.Set {
		s := podCounter(at, at, container(val(at, at), val(100, at)))
		s.Source, s.Lacking = catalogue.StatsSummary, map[string]string{catalogue.PodNetworkReceive: "the virtual nodes' summary does not tell it"}
		s.Pods[0].Volumes = []reading.Volume{{Namespace: "ns", Claim: "data", UsedBytes: val(60, at), AvailableBytes: val(40, at), UsedInodes: val(1, at), FreeInodes: val(1, at)}}
		return []reading.Set{s, {Source: catalogue.Components, Components: []reading.Component{{}}}}
	}
	const (
		oom, otherOOM, otherMem = "container_oom_kill_total{c,ns,n,p,w,deployment}", "container_oom_kill_total{c,ns,r,q,w,deployment}", "container_mem_no_cache_bytes{c,ns,r,q,w,deployment}"
		resource, volume        = "pod_rate_cpu_core_used_resource{ns,n,p,w,deployment}", "pvc_usage{ns,data}"
		ready                   = "node_status_ready{n}"
	)
	read := []step{
		{30, readings(20), with(virtual, pod()), nil},
		{60, readings(50), with(virtual, pod()), map[string]string{podCPUs: "1", podMems: "100", ctrCPU: "1", ctrMem: "100", resource: "1000", oom: "0", volume: "60", podRdy: "1", otherMem: "-", otherOOM: "-", ready: "-"}},
	}
	nothing := map[string]string{podCPUs: "-", podMems: "-", ctrCPU: "-", ctrMem: "-", resource: "-", oom: "-", volume: "-"}
	and := func(more map[string]string) map[string]string {
		out := map[string]string{}
		for _, m := range []map[string]string{nothing, more} {
			for k, v := range m {
				out[k] = v
			}
		}
		return out
	}
	for name, steps := range map[string][]step{
		"it stops being virtual": {
			{90, nil, with(node(), pod()), and(map[string]string{podRdy: "1", ready: "1"})},
			{120, nil, with(node()), and(map[string]string{podRdy: "stale"})},
		},
		"it has a collector of its own": {
			{90, nil, with(virtual, pod()), and(map[string]string{podRdy: "1"})},
			{120, readings(110), with(virtual, pod()), map[string]string{podCPUs: "1", podMems: "100", volume: "60"}}, // which went again
			{150, nil, with(virtual), map[string]string{podCPUs: "stale", podMems: "stale", ctrMem: "stale"}},
		},
		"its object is away for a while": {
			{90, nil, with(pod()), map[string]string{podCPUs: "-", podMems: "-", ctrMem: "-", podRdy: "1"}},
			{120, nil, with(), map[string]string{podCPUs: "stale", podMems: "stale", ctrMem: "stale", podRdy: "stale"}},
			{150, nil, with(virtual), map[string]string{podCPUs: "-", podMems: "-", podRdy: "-"}},
		},
		"it cannot be read": {
			{90, []reading.Set{{Node: "n", Source: catalogue.StatsSummary, Err: fault.ErrUnavailable}}, with(virtual, pod()), map[string]string{podCPUs: "-", podMems: "-", ctrMem: "-", podRdy: "1"}},
			{120, readings(110), with(virtual, pod()), map[string]string{podCPUs: "1", podMems: "100"}},
		},
		"the pod ends": {
			{90, readings(80), with(virtual, pod(func(p *object.Pod) { p.Phase, p.Containers[0].State = object.PhaseSucceeded, "terminated" })), map[string]string{podCPUs: "stale", podMems: "stale", ctrMem: "stale"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := run(t, wire.RoleCluster, append(read[:2:2], steps...))
			if why := c.Unavailable()[catalogue.PodNetworkReceive]; why != "" {
				t.Errorf("the cluster lacks traffic because %q, which node collectors tell", why)
			}
		})
	}
	t.Run("no real node", func(t *testing.T) {
		c := run(t, wire.RoleCluster, []step{{30, readings(20), snapshot(virtual, pod()), nil}, {60, readings(50), snapshot(virtual, pod()), map[string]string{podCPUs: "1"}}})
		if c.Unavailable()[catalogue.PodNetworkReceive] == "" {
			t.Error("nobody says why there is no traffic")
		}
		for _, cov := range c.Coverage() {
			if cov.Node == "n" && (!cov.Counts || cov.Expected != 1 || cov.Measured != 1) {
				t.Errorf("%+v", cov)
			}
		}
	})
}
