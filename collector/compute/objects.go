package compute

import (
	"github.com/prometheus/prometheus/model/labels"

	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/object"
)

// change takes over one changed object. Gone objects end all their series at
// once; in role node that is all that there is to do.
func (c *Computer) change(ch state.Change, now *state.Snapshot) {
	switch before := ch.Before.(type) {
	case *object.Pod:
		if now.Pods[before.UID] == nil {
			c.noteRestart(before) // those that it had before it went
			delete(c.pods, before.UID)
			for _, k := range podKeys(before) {
				c.drop(k)
			}
		}
	case *object.Node:
		if now.Nodes[before.Name] == nil {
			c.drop(nodeKey(before.Name))
			delete(c.raised, nodeKey(before.Name))
		}
	case *object.Workload:
		if now.Workloads[before.UID] == nil && !hasWorkload(now, before) {
			k := workloadKey(before.Namespace, before.Ref)
			c.drop(k)
			delete(c.raised, k)
		}
	}
	if !c.byCluster {
		return
	}
	// What counts is the state now: a later change of the same object may be in
	// it already.
	switch o := ch.Now.(type) {
	case *object.Pod:
		if p := now.Pods[o.UID]; p != nil {
			c.noteRestart(p)
			c.podObject(p)
		}
	case *object.Node:
		if n := now.Nodes[o.Name]; n != nil {
			c.nodeObject(n)
		}
	case *object.Workload:
		if w := now.Workloads[o.UID]; w != nil {
			c.workloadObject(w)
		}
	}
}

// hasWorkload says whether another object of the same name took the place of a
// workload that went.
func hasWorkload(now *state.Snapshot, gone *object.Workload) bool {
	for _, w := range now.Workloads {
		if w.Namespace == gone.Namespace && w.Ref == gone.Ref {
			return true
		}
	}
	return false
}

// drop ends all series of an entity.
func (c *Computer) drop(k key) {
	if e := c.entities[k]; e != nil {
		c.end(e, e.sent)
		delete(c.entities, k)
	}
}

func nodeKey(name string) key { return key{level: catalogue.Node, id: name} }
func podKey(uid string) key   { return key{level: catalogue.Pod, id: uid} }

// podKeys are the keys of all entities that a pod may have.
func podKeys(p *object.Pod) []key {
	keys := []key{podKey(p.UID)}
	for _, m := range missing {
		keys = append(keys, key{level: catalogue.Pod, id: p.UID, sub: m.resource + m.what})
	}
	for _, ct := range p.Containers {
		keys = append(keys, key{level: catalogue.Container, id: p.UID, sub: ct.Name})
	}
	return keys
}

func (c *Computer) nodeObject(n *object.Node) {
	if n.Virtual {
		return
	}
	e := c.nodeEntity(n.Name)
	c.put(e, nodeReady, boolean(n.Ready))
}

func (c *Computer) nodeEntity(name string) *entity {
	// The labels are the key itself, so they never change.
	return c.entity(nodeKey(name), name, func(b *labels.ScratchBuilder) { b.Add("node", name) })
}

func (c *Computer) workloadObject(w *object.Workload) {
	e := c.workloadEntity(workloadKey(w.Namespace, w.Ref), w.Namespace, w.Ref)
	c.put(e, workloadAbnormal, float64(w.Abnormal))
}

func (c *Computer) workloadEntity(k key, namespace string, ref object.WorkloadRef) *entity {
	return c.entity(k, ref, func(b *labels.ScratchBuilder) {
		b.Add("namespace", namespace)
		b.Add("workload", ref.Name)
		b.Add("workload_type", ref.Type)
	})
}

func (c *Computer) podEntity(p *object.Pod) *entity {
	return c.entity(podKey(p.UID), p, func(b *labels.ScratchBuilder) { podLabels(b, p, "", "", "") })
}

// podLabels adds a pod's labels in the order of their names. A pod that is not
// scheduled has no node label.
func podLabels(b *labels.ScratchBuilder, p *object.Pod, container, resource, what string) {
	add := func(name, v string) {
		if v != "" {
			b.Add(name, v)
		}
	}
	add("container", container)
	add("namespace", p.Namespace)
	add("node", p.Node)
	add("pod", p.Name)
	add("resource", resource)
	add("what", what)
	add("workload", p.Workload.Name)
	add("workload_type", p.Workload.Type)
}

// missing lists what k8s_pod_spec_missing tells of.
var missing = []struct {
	resource, what string
	is             func(*object.Pod) bool
}{
	{"cpu", "limit", func(p *object.Pod) bool { return !p.Limits.HasCPU }},
	{"cpu", "request", func(p *object.Pod) bool {
		return !p.OwnRequests.HasCPU && anyOf(p, func(c object.Container) bool { return !c.Requests.HasCPU })
	}},
	{"memory", "limit", func(p *object.Pod) bool { return !p.Limits.HasMemory }},
	{"memory", "request", func(p *object.Pod) bool {
		return !p.OwnRequests.HasMemory && anyOf(p, func(c object.Container) bool { return !c.Requests.HasMemory })
	}},
}

// anyOf asks the containers of a pod that count.
func anyOf(p *object.Pod, is func(object.Container) bool) bool {
	for _, ct := range p.Containers {
		if ct.Counts() && is(ct) {
			return true
		}
	}
	return false
}

// podObject gives what is known of a pod from its object.
func (c *Computer) podObject(p *object.Pod) {
	e := c.podEntity(p)
	e.now &^= 1 << podReady.slot
	if !p.Ended() && !p.Terminating {
		c.put(e, podReady, boolean(p.Ready))
	}
	c.put(e, podRestarts, float64(p.Restarts()))
	for _, m := range missing {
		k := key{level: catalogue.Pod, id: p.UID, sub: m.resource + m.what}
		if p.Ended() || !m.is(p) {
			if old := c.entities[k]; old != nil {
				c.touch(old)
				old.now = 0 // its series ends
			}
			continue
		}
		e := c.entity(k, p, func(b *labels.ScratchBuilder) { podLabels(b, p, "", m.resource, m.what) })
		c.put(e, podMissing, 1)
	}
}

// clusterObjects gives what is known of the cluster as a whole.
func (c *Computer) clusterObjects(now *state.Snapshot) {
	var cpu, mem float64
	real, notReady := 0, 0
	for _, n := range now.Nodes {
		if n.Virtual {
			continue
		}
		real++
		if !n.Ready {
			notReady++
		}
		cpu += n.Allocatable.CPUCores
		mem += n.Allocatable.MemoryBytes
	}
	phases := map[string]int{}
	var cpuRequested, memRequested float64
	for _, p := range now.Pods {
		phases[p.Phase]++
		if p.Phase != object.PhasePending && p.Phase != object.PhaseRunning {
			continue
		}
		// A virtual node's pods take nothing of what is allocatable.
		if n := now.Nodes[p.Node]; n != nil && n.Virtual {
			continue
		}
		cpuRequested += p.Requests.CPUCores
		memRequested += p.Requests.MemoryBytes
	}
	e := c.entity(key{level: catalogue.Cluster}, nil, func(*labels.ScratchBuilder) {})
	if real > 0 {
		c.put(e, clusterNotReady, float64(notReady))
	}
	for _, phase := range object.Phases {
		e := c.entity(key{level: catalogue.Cluster, sub: phase}, phase, func(b *labels.ScratchBuilder) { b.Add("phase", phase) })
		c.put(e, clusterPods, float64(phases[phase]))
	}
	if c.onlyChanges {
		return // gauges stand on the grid
	}
	if cpu > 0 {
		c.put(e, clusterCPUTotal, cpu)
		c.put(e, clusterCPURequest, round(100*cpuRequested/cpu))
	}
	if mem > 0 {
		c.put(e, clusterMemTotal, mem)
		c.put(e, clusterMemRequest, round(100*memRequested/mem))
	}
}

// noteRestarts raises the counters of workloads and nodes by what each pod's
// counter rose.
func (c *Computer) noteRestarts(now *state.Snapshot) {
	for _, p := range now.Pods {
		c.noteRestart(p)
	}
	for uid := range c.pods {
		if now.Pods[uid] == nil {
			delete(c.pods, uid)
		}
	}
}

// noteRestart takes over one pod's restart count. A pod that is seen for the
// first time adds nothing, since its restarts may be old, unless it was created
// since the last interval.
func (c *Computer) noteRestart(p *object.Pod) {
	known, seen := c.pods[p.UID]
	n := p.Restarts()
	rise := 0
	switch {
	case seen:
		rise = n - known.restarts // below zero when a status was lost: nothing happened
	case !c.last.IsZero() && p.CreatedAt.After(c.last.Add(-c.interval)):
		rise = n
	}
	if rise > 0 {
		c.raised[workloadKey(p.Namespace, p.Workload)] += float64(rise)
		if p.Node != "" {
			c.raised[nodeKey(p.Node)] += float64(rise)
		}
	}
	c.pods[p.UID] = podMemory{restarts: n}
}

// restartCounters gives the restart counters of workloads and nodes. A workload
// has one as soon as it exists or has a pod.
func (c *Computer) restartCounters(now *state.Snapshot) {
	if c.onlyChanges {
		// Only what rose, or began, differs; untouched entities stay as they are.
		for k, v := range c.raised {
			if e := c.entities[k]; e != nil {
				c.putRaised(e, k, v)
			}
		}
		return
	}
	done := map[key]bool{}
	for _, w := range now.Workloads {
		k := workloadKey(w.Namespace, w.Ref)
		done[k] = true
		c.put(c.workloadEntity(k, w.Namespace, w.Ref), workloadRestarts, c.raised[k])
	}
	for _, p := range now.Pods {
		k := workloadKey(p.Namespace, p.Workload)
		if p.Workload.Name == "" || done[k] {
			continue
		}
		done[k] = true
		c.put(c.workloadEntity(k, p.Namespace, p.Workload), workloadRestarts, c.raised[k])
	}
	for _, n := range now.Nodes {
		if n.Virtual {
			continue
		}
		k := nodeKey(n.Name)
		done[k] = true
		c.put(c.nodeEntity(n.Name), nodeRestarts, c.raised[k])
	}
	for k := range c.raised {
		if !done[k] {
			delete(c.raised, k) // the object is gone; another of its name begins at 0
		}
	}
}

// putRaised sends a counter that rose between two grid points.
func (c *Computer) putRaised(e *entity, k key, v float64) {
	m := workloadRestarts
	if k.level == catalogue.Node {
		m = nodeRestarts
	}
	if e.sent&(1<<m.slot) == 0 {
		return
	}
	for _, s := range e.values {
		if s.slot == m.slot && s.v == v {
			return
		}
	}
	c.touch(e)
	c.put(e, m, v)
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
