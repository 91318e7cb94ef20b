package compute

import (
	"cmp"
	"slices"
	"strconv"
	"time"

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
			for _, k := range slices.Clone(c.byPod[before.UID]) {
				c.drop(k)
			}
		}
	case *object.Node:
		if now.Nodes[before.Name] == nil {
			for k := range c.entities {
				if k.level == catalogue.Node && k.id == before.Name {
					c.drop(k)
				}
			}
			delete(c.raised, nodeKey(before.Name))
		}
	case *object.Workload:
		if now.Workloads[before.UID] == nil && !hasWorkload(now, before) {
			k := workloadKey(before.Namespace, before.Ref)
			c.drop(k)
			for _, phase := range object.Phases {
				c.drop(key{level: catalogue.Workload, id: k.id, sub: phase, dim: byPhase})
			}
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
		e.sent, e.now = 0, 0
		c.forget(k)
	}
}

func nodeKey(name string) key { return key{level: catalogue.Node, id: name} }
func podKey(uid string) key   { return key{level: catalogue.Pod, id: uid} }

func (c *Computer) nodeObject(n *object.Node) {
	if n.Virtual {
		return
	}
	e := c.nodeEntity(n.Name)
	c.put(e, nodeReady, boolean(n.Ready))
	for i := range n.Conditions {
		cond := &n.Conditions[i]
		if cond.Type == "Ready" {
			continue
		}
		e := c.entity(key{level: catalogue.Node, id: n.Name, sub: cond.Type, dim: byCondition}, cond.Type, func(b *labels.ScratchBuilder) {
			b.Add("condition", cond.Type)
			b.Add("node", n.Name)
		})
		c.put(e, nodeCondition, boolean(cond.Status != "False"))
	}
}

func (c *Computer) nodeEntity(name string) *entity {
	// The labels are the key itself, so they never change.
	return c.entity(nodeKey(name), name, func(b *labels.ScratchBuilder) { b.Add("node", name) })
}

func (c *Computer) workloadObject(w *object.Workload) {
	e := c.workloadEntity(workloadKey(w.Namespace, w.Ref), w.Namespace, w.Ref)
	c.put(e, workloadAbnormal, float64(w.Abnormal))
	c.put(e, workloadDesired, float64(w.Desired))
	c.put(e, workloadReady, float64(w.Ready))
	if w.Rolls {
		c.put(e, workloadStuck, boolean(w.Stuck))
	}
	e.now &^= 1<<workloadJobFailed.slot | 1<<workloadMissed.slot
	if j := w.Job; j != nil {
		if !j.StartedAt.IsZero() || j.Failed {
			c.put(e, workloadJobFailed, boolean(j.Failed))
		}
		if w.Ref.Type == "cronjob" {
			c.put(e, workloadMissed, boolean(j.Missed))
		}
	}
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
	sub, resource, what string
	is                  func(*object.Pod) bool
}{
	{"cpulimit", "cpu", "limit", func(p *object.Pod) bool { return !p.Limits.HasCPU }},
	{"cpurequest", "cpu", "request", func(p *object.Pod) bool {
		return !p.OwnRequests.HasCPU && anyOf(p, func(c object.Container) bool { return !c.Requests.HasCPU })
	}},
	{"memorylimit", "memory", "limit", func(p *object.Pod) bool { return !p.Limits.HasMemory }},
	{"memoryrequest", "memory", "request", func(p *object.Pod) bool {
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

// podObject gives what is known of a pod and its containers from its object.
func (c *Computer) podObject(p *object.Pod) {
	e := c.podEntity(p)
	e.now &^= 1<<podReady.slot | 1<<podUnschedulable.slot
	if !p.Ended() && !p.Terminating {
		c.put(e, podReady, boolean(p.Ready))
	}
	if !p.Ended() && p.Node == "" {
		c.put(e, podUnschedulable, boolean(p.Reason == "Unschedulable"))
	}
	c.put(e, podRestarts, float64(p.Restarts()))
	if !c.onlyChanges && !p.Ended() {
		if !p.ScheduledAt.IsZero() {
			c.put(e, podScheduledIn, max(0, p.ScheduledAt.Sub(p.CreatedAt).Seconds()))
		}
		if started, ok := firstStart(p); ok {
			c.put(e, podStartedIn, max(0, started.Sub(p.CreatedAt).Seconds()))
		}
		if p.GPUs > 0 {
			c.put(e, podGPURequest, p.GPUs)
		}
	}
	c.podState(key{level: catalogue.Pod, id: p.UID, dim: byPhase}, p, podPhase, "phase", p.Phase)
	waits := ""
	if !p.Ended() && !p.Ready {
		waits = p.Reason
	}
	c.podState(key{level: catalogue.Pod, id: p.UID, dim: byReason}, p, podWaiting, "reason", waits)
	for _, m := range missing {
		k := key{level: catalogue.Pod, id: p.UID, sub: m.sub, dim: byMissing}
		if p.Ended() || !m.is(p) {
			c.absent(k)
			continue
		}
		e := c.entity(k, p, func(b *labels.ScratchBuilder) { podLabels(b, p, "", m.resource, m.what) })
		c.put(e, podMissing, 1)
	}
	for i := range p.Containers {
		ct := &p.Containers[i]
		c.put(c.containerEntity(p, ct), containerRestarts, float64(ct.RestartCount))
		k := key{level: catalogue.Container, id: p.UID, sub: ct.Name, dim: byEnd}
		t := ct.Last
		if t == nil {
			c.absent(k)
			continue
		}
		e := c.entity(k, p, func(b *labels.ScratchBuilder) {
			podLabels(b, p, ct.Name, "", "")
			b.Add("exit_code", strconv.Itoa(t.ExitCode))
			b.Add("reason", cmp.Or(t.Reason, "Unknown"))
			b.Sort()
		})
		c.put(e, containerEnd, 1)
	}
}

// podState gives one series of a pod that says in a label what state it is in.
func (c *Computer) podState(k key, p *object.Pod, m *metric, label, value string) {
	if value == "" {
		c.absent(k)
		return
	}
	e := c.entity(k, p, func(b *labels.ScratchBuilder) {
		podLabels(b, p, "", "", "")
		b.Add(label, value)
		b.Sort()
	})
	c.put(e, m, 1)
}

// absent ends the series of an entity that does not apply now.
func (c *Computer) absent(k key) {
	if old := c.entities[k]; old != nil {
		c.touch(old)
		old.now = 0
	}
}

// firstStart is when the last of a pod's containers ran for the first time.
func firstStart(p *object.Pod) (t time.Time, ok bool) {
	for _, ct := range p.Containers {
		if !ct.Counts() {
			continue
		}
		if ct.RestartCount > 0 || ct.StartedAt.IsZero() {
			return time.Time{}, false
		}
		if ct.StartedAt.After(t) {
			t = ct.StartedAt
		}
	}
	return t, !t.IsZero()
}

// sums are what is added up over pods for a node, a namespace or a workload.
type sums struct {
	pods                   int // Pending and Running
	phases                 map[string]int
	cpu, mem, gpu          float64 // requested
	cpuLimit, memLimit     float64
	noCPULimit, noMemLimit bool // a pod has none

	workloads, desired, ready int // of a namespace
}

func (s *sums) add(p *object.Pod) {
	if s.phases == nil {
		s.phases = map[string]int{}
	}
	s.phases[p.Phase]++
	if p.Phase != object.PhasePending && p.Phase != object.PhaseRunning {
		return
	}
	s.pods++
	s.cpu += p.Requests.CPUCores
	s.mem += p.Requests.MemoryBytes
	s.gpu += p.GPUs
	s.cpuLimit += p.Limits.CPUCores
	s.memLimit += p.Limits.MemoryBytes
	s.noCPULimit = s.noCPULimit || !p.Limits.HasCPU
	s.noMemLimit = s.noMemLimit || !p.Limits.HasMemory
}

// clusterObjects gives what is known of the cluster as a whole, and on the grid
// what is added up over pods.
func (c *Computer) clusterObjects(at time.Time, now *state.Snapshot) {
	var cpu, mem float64
	real, notReady, maxPods := 0, 0, 0
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
		maxPods += n.MaxPods
	}
	e := c.entity(key{level: catalogue.Cluster}, nil, func(*labels.ScratchBuilder) {})
	phases := map[string]int{}
	for _, p := range now.Pods {
		phases[p.Phase]++
	}
	if real > 0 {
		c.put(e, clusterNotReady, float64(notReady))
		c.put(e, clusterNodes, float64(real))
	}
	abnormal := 0
	for _, w := range now.Workloads {
		if w.Abnormal > 0 {
			abnormal++
		}
	}
	c.put(e, clusterWorkloads, float64(len(now.Workloads)))
	c.put(e, clusterAbnormal, float64(abnormal))
	for _, phase := range object.Phases {
		e := c.entity(key{level: catalogue.Cluster, sub: phase, dim: byPhase}, phase, func(b *labels.ScratchBuilder) { b.Add("phase", phase) })
		c.put(e, clusterPods, float64(phases[phase]))
	}
	if c.onlyChanges {
		return // gauges stand on the grid
	}
	nodes, namespaces, workloads := map[string]*sums{}, map[string]*sums{}, map[key]*sums{}
	var cpuRequested, memRequested float64
	elastic := now.OnlyVirtualNodes()
	if elastic {
		cpu, mem = quotas(now)
		c.lackTotals(cpu, mem)
	}
	for _, p := range now.Pods {
		sum(namespaces, p.Namespace).add(p)
		sum(workloads, workloadKey(p.Namespace, p.Workload)).add(p)
		if p.Node != "" {
			sum(nodes, p.Node).add(p)
		}
		if p.Phase != object.PhasePending && p.Phase != object.PhaseRunning {
			continue
		}
		// A virtual node's pods take nothing of what is allocatable.
		if n := now.Nodes[p.Node]; n != nil && n.Virtual && !elastic {
			continue
		}
		cpuRequested += p.Requests.CPUCores
		memRequested += p.Requests.MemoryBytes
	}
	c.put(e, clusterCPURequests, round(cpuRequested))
	c.put(e, clusterMemRequests, memRequested)
	if maxPods > 0 {
		c.put(e, clusterMaxPods, float64(maxPods))
	}
	if cpu > 0 {
		c.put(e, clusterCPUTotal, cpu)
		c.put(e, clusterCPURequest, round(100*cpuRequested/cpu))
	}
	if mem > 0 {
		c.put(e, clusterMemTotal, mem)
		c.put(e, clusterMemRequest, round(100*memRequested/mem))
	}
	if oldest, ok := oldestNamespace(now); ok {
		c.put(e, clusterAge, wholeSeconds(at.Sub(oldest)))
	}
	for _, n := range now.Nodes {
		if !n.Virtual {
			c.nodeSums(at, n, sum(nodes, n.Name))
		}
	}
	for _, w := range now.Workloads {
		s := sum(namespaces, w.Namespace)
		s.workloads++
		s.desired += w.Desired
		s.ready += w.Ready
	}
	for namespace, s := range namespaces {
		c.namespaceSums(namespace, s)
	}
	for k, s := range workloads {
		c.workloadSums(k, s)
	}
	c.platform(at, now)
}

// quotas gives what the pods of a cluster without nodes of its own may ask for
// altogether: the least that each namespace's quotas allow, added up. Where a
// namespace with pods has no quota there is no such bound, and it is 0.
func quotas(now *state.Snapshot) (cpu, mem float64) {
	type bound struct{ cpu, mem float64 }
	bounds := map[string]bound{}
	least := func(a, b float64) float64 {
		if a == 0 || b > 0 && b < a {
			return b
		}
		return a
	}
	for _, q := range now.Quotas {
		b := bounds[q.Namespace]
		bounds[q.Namespace] = bound{least(b.cpu, q.CPUCores), least(b.mem, q.MemoryBytes)}
	}
	noCPU, noMem := false, false
	for _, p := range now.Pods {
		if p.Phase == object.PhasePending || p.Phase == object.PhaseRunning {
			b := bounds[p.Namespace]
			noCPU, noMem = noCPU || b.cpu == 0, noMem || b.mem == 0
		}
	}
	for _, b := range bounds {
		cpu += b.cpu
		mem += b.mem
	}
	if noCPU {
		cpu = 0
	}
	if noMem {
		mem = 0
	}
	return cpu, mem
}

// lackTotals says why there is nothing to divide by.
func (c *Computer) lackTotals(cpu, mem float64) {
	for total, names := range map[*float64][]string{&cpu: catalogue.OfTotalCPU, &mem: catalogue.OfTotalMemory} {
		if *total > 0 {
			continue
		}
		for _, name := range names {
			c.unavailable[name] = catalogue.NoQuota
		}
	}
}

func sum[K comparable](all map[K]*sums, k K) *sums {
	s := all[k]
	if s == nil {
		s = &sums{}
		all[k] = s
	}
	return s
}

func oldestNamespace(now *state.Snapshot) (t time.Time, ok bool) {
	for _, n := range now.Namespaces {
		if !n.CreatedAt.IsZero() && (!ok || n.CreatedAt.Before(t)) {
			t, ok = n.CreatedAt, true
		}
	}
	return t, ok
}

func wholeSeconds(d time.Duration) float64 { return max(0, d.Truncate(time.Second).Seconds()) }

func (c *Computer) nodeSums(at time.Time, n *object.Node, s *sums) {
	e := c.nodeEntity(n.Name)
	c.put(e, nodePods, float64(s.pods))
	if !n.CreatedAt.IsZero() {
		c.put(e, nodeAge, wholeSeconds(at.Sub(n.CreatedAt)))
	}
	if n.Allocatable.CPUCores > 0 {
		c.put(e, nodeCPURequest, round(100*s.cpu/n.Allocatable.CPUCores))
	}
	if n.Allocatable.MemoryBytes > 0 {
		c.put(e, nodeMemRequest, round(100*s.mem/n.Allocatable.MemoryBytes))
	}
	for _, r := range []struct {
		resource                    string
		allocatable, request, limit float64
		limited                     bool
	}{
		{"cpu", n.Allocatable.CPUCores, s.cpu, s.cpuLimit, true}, {"memory", n.Allocatable.MemoryBytes, s.mem, s.memLimit, true},
		{"pods", float64(n.MaxPods), 0, 0, false}, {"gpu", n.GPUs, s.gpu, 0, false},
	} {
		if r.allocatable == 0 && r.request == 0 {
			continue
		}
		e := c.entity(key{level: catalogue.Node, id: n.Name, sub: r.resource, dim: byResource}, r.resource, func(b *labels.ScratchBuilder) {
			b.Add("node", n.Name)
			b.Add("resource", r.resource)
		})
		c.put(e, nodeAllocatable, r.allocatable)
		if r.resource != "pods" {
			c.put(e, nodeRequest, round(r.request))
		}
		if r.limited {
			c.put(e, nodeLimit, round(r.limit))
		}
	}
}

func namespaceKey(namespace string) key { return key{level: catalogue.Namespace, id: namespace} }

func (c *Computer) namespaceEntity(namespace string) *entity {
	return c.entity(namespaceKey(namespace), namespace, func(b *labels.ScratchBuilder) { b.Add("namespace", namespace) })
}

func (c *Computer) namespaceSums(namespace string, s *sums) {
	e := c.namespaceEntity(namespace)
	if s.workloads > 0 {
		c.put(e, namespaceDesired, float64(s.desired))
		c.put(e, namespaceReady, float64(s.ready))
	}
	c.putPods(e, namespaceKey(namespace), namespacePods, s)
}

func (c *Computer) workloadSums(k key, s *sums) {
	e := c.entities[k]
	if e == nil || e.pass != c.pass {
		return // a workload that is no more, or not yet
	}
	c.putPods(e, k, workloadPods, s)
}

// putPods gives how many pods a namespace, a workload or a Service has in each
// phase, and what they ask for and may use altogether. Limits of which one pod has
// none bound nothing.
func (c *Computer) putPods(e *entity, k key, m podSums, s *sums) {
	if s == nil || len(s.phases) == 0 {
		return // it has no pod
	}
	c.put(e, m.cpuRequest, round(s.cpu))
	c.put(e, m.memRequest, s.mem)
	if s.pods > 0 && !s.noCPULimit {
		c.put(e, m.cpuLimit, round(s.cpuLimit))
	}
	if s.pods > 0 && !s.noMemLimit {
		c.put(e, m.memLimit, s.memLimit)
	}
	of := e.labels
	for phase, n := range s.phases {
		e := c.entity(key{level: k.level, id: k.id, sub: phase, dim: byPhase}, phase, func(b *labels.ScratchBuilder) {
			of.Range(func(l labels.Label) { b.Add(l.Name, l.Value) })
			b.Add("phase", phase)
			b.Sort()
		})
		c.put(e, m.pods, float64(n))
	}
}

// platform gives autoscalers, quotas, claims, Services' endpoints and Jobs.
func (c *Computer) platform(at time.Time, now *state.Snapshot) {
	for _, a := range now.Autoscalers {
		if e := c.entities[workloadKey(a.Namespace, a.Target)]; e != nil && e.pass == c.pass {
			c.put(e, workloadHPACurrent, float64(a.Current))
			c.put(e, workloadHPADesired, float64(a.Desired))
			c.put(e, workloadHPAMax, float64(a.Max))
		}
	}
	for _, w := range now.Workloads {
		if j := w.Job; j != nil && !j.StartedAt.IsZero() {
			end := at
			if !j.FinishedAt.IsZero() {
				end = j.FinishedAt
			}
			c.put(c.workloadEntity(workloadKey(w.Namespace, w.Ref), w.Namespace, w.Ref), workloadJobTook, wholeSeconds(end.Sub(j.StartedAt)))
		}
	}
	type quota struct{ namespace, resource string }
	quotas := map[quota]float64{}
	for _, q := range now.Quotas {
		for resource, used := range q.UsedPercent {
			k := quota{q.Namespace, resource}
			quotas[k] = max(quotas[k], used)
		}
	}
	for k, used := range quotas {
		e := c.entity(key{level: catalogue.Namespace, id: k.namespace, sub: k.resource, dim: byResource}, k, func(b *labels.ScratchBuilder) {
			b.Add("namespace", k.namespace)
			b.Add("resource", k.resource)
		})
		c.put(e, namespaceQuota, round(used))
	}
	for _, v := range now.Claims {
		c.put(c.volumeEntity(volumeKey{v.Namespace, v.Name}), volumeBound, boolean(v.Bound))
	}
	c.services(now)
}

// services gives what is known of the pods behind each Service. What they use is
// added up by the server, since node collectors measure it.
func (c *Computer) services(now *state.Snapshot) {
	type name struct{ namespace, name string } // of a Service, or a pod
	type addresses struct {
		ready, notReady int
		pods            map[string]bool
	}
	services, behind := map[name]addresses{}, map[name][]name{}
	for _, s := range now.Endpoints {
		k := name{s.Namespace, s.Service}
		a := services[k]
		if a.pods == nil {
			a.pods = map[string]bool{}
		}
		for _, pod := range s.Pods { // one may have two addresses, by two protocols
			if !a.pods[pod] {
				a.pods[pod] = true
				p := name{s.Namespace, pod}
				behind[p] = append(behind[p], k)
			}
		}
		services[k] = addresses{a.ready + s.Ready, a.notReady + s.NotReady, a.pods}
	}
	added := map[name]*sums{}
	for _, p := range now.Pods {
		for _, k := range behind[name{p.Namespace, p.Name}] {
			sum(added, k).add(p)
		}
	}
	for k, a := range services {
		service := key{level: catalogue.Service, id: k.namespace + "/" + k.name}
		e := c.entity(service, k, func(b *labels.ScratchBuilder) {
			b.Add("namespace", k.namespace)
			b.Add("service", k.name)
		})
		c.put(e, serviceReady, float64(a.ready))
		c.put(e, serviceNotReady, float64(a.notReady))
		for pod := range a.pods {
			e := c.entity(key{level: service.level, id: service.id, sub: pod, dim: byMember}, pod, func(b *labels.ScratchBuilder) {
				b.Add("namespace", k.namespace)
				b.Add("pod", pod)
				b.Add("service", k.name)
			})
			c.put(e, servicePod, 1)
		}
		c.putPods(e, service, servicePods, added[k])
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
		c.raised[namespaceKey(p.Namespace)] += float64(rise)
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
	for _, p := range now.Pods {
		if k := namespaceKey(p.Namespace); !done[k] {
			done[k] = true
			c.put(c.namespaceEntity(p.Namespace), namespaceRestarts, c.raised[k])
		}
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
	switch k.level {
	case catalogue.Node:
		m = nodeRestarts
	case catalogue.Namespace:
		m = namespaceRestarts
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
