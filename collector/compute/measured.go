package compute

import (
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/crowsnest-dev/crowsnest/collector/reading"
	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/object"
)

// figure is a value that the best source gave; later sources do not replace it.
type figure struct {
	v  float64
	ok bool
}

func (f *figure) offer(v float64, ok bool) {
	if ok && !f.ok {
		*f = figure{v, true}
	}
}

// containerFigures are what was measured of one running container.
type containerFigures struct{ cpu, mem, fsRead, fsWrite figure }

// podFigures are what was measured of one pod as a whole.
type podFigures struct{ cpu, receive, transmit figure }

// index finds pods and containers by what sources know of them.
type index struct {
	byUID  map[string]*object.Pod // static pods under the kubelet's UID as well
	byName map[string]*object.Pod
	byID   map[string]containerRef
}

type containerRef struct {
	pod       *object.Pod
	container int
}

func newIndex(now *state.Snapshot) index {
	x := index{
		byUID:  make(map[string]*object.Pod, len(now.Pods)),
		byName: make(map[string]*object.Pod, len(now.Pods)),
		byID:   make(map[string]containerRef, len(now.Pods)),
	}
	for uid, p := range now.Pods {
		x.byUID[uid] = p
		if p.Mirror != "" {
			x.byUID[p.Mirror] = p
		}
		// Of two pods of one name, one has ended; readings are of the living one.
		name := p.Namespace + "/" + p.Name
		if old := x.byName[name]; old == nil || old.Ended() || old.CreatedAt.Before(p.CreatedAt) {
			x.byName[name] = p
		}
		for i, ct := range p.Containers {
			if ct.ID != "" {
				x.byID[ct.ID] = containerRef{p, i}
			}
		}
	}
	return x
}

func (x index) pod(uid, namespace, name string) *object.Pod {
	if uid != "" {
		return x.byUID[uid]
	}
	return x.byName[namespace+"/"+name]
}

// container finds whose reading it is; nil for the sandbox, for a container that
// is not running, and for an instance before the present one.
func (x index) container(r reading.Container) (*object.Pod, *object.Container) {
	p := x.pod(r.PodUID, r.Namespace, r.Pod)
	if p == nil && r.ID != "" {
		p = x.byID[r.ID].pod
	}
	if p == nil {
		return nil, nil
	}
	for i := range p.Containers {
		ct := &p.Containers[i]
		switch {
		case r.Name != "" && r.Name != ct.Name, r.Name == "" && r.ID != ct.ID:
			continue
		case ct.State != stateRunning:
			return p, nil
		case r.ID == "" || ct.ID == "" || r.ID == ct.ID:
			return p, ct
		case !ct.StartedAt.IsZero() && r.StartedAt.After(ct.StartedAt.Add(time.Second)):
			return p, ct // the kubelet knows the new instance before the object does
		default:
			return p, nil // the cgroup of the instance before
		}
	}
	return p, nil
}

const stateRunning = "running"

// containerKey names a container of a pod.
type containerKey struct{ uid, name string }

// measured gives what was measured: all metrics that node collectors compute.
func (c *Computer) measured(at time.Time, sets []reading.Set, now *state.Snapshot) {
	x := newIndex(now)
	containers := map[containerKey]*containerFigures{}
	pods := map[string]*podFigures{}
	hosts := map[string][]reading.Set{}
	measured := map[*reading.Set]map[containerKey]bool{}
	expected := running(now)

	for i := range sets {
		set := &sets[i]
		cov := Coverage{Node: set.Node, Source: set.Source, Up: set.Err == nil, Err: set.Err, Took: set.Took}
		seen := map[containerKey]bool{}
		for _, r := range newest(set.Containers, x) {
			p, ct := x.container(r)
			if ct == nil || p.Ended() {
				continue
			}
			k := containerKey{p.UID, ct.Name}
			f := containers[k]
			if f == nil {
				f = &containerFigures{}
				containers[k] = f
			}
			c.containerReading(f, set.Source, k, r, at)
			if r.CPUSeconds.OK() || r.WorkingSetBytes.OK() {
				if v := r.WorkingSetBytes; c.young(v, at) || c.young(r.CPUSeconds, at) {
					seen[k] = true
					cov.OldestAge = max(cov.OldestAge, age(v, at), age(r.CPUSeconds, at))
				}
			}
		}
		for _, r := range set.Pods {
			p := x.pod(r.UID, r.Namespace, r.Name)
			if p == nil || p.Ended() {
				continue
			}
			f := pods[p.UID]
			if f == nil {
				f = &podFigures{}
				pods[p.UID] = f
			}
			c.podReading(f, set.Source, p, r, at)
		}
		if set.Host != nil {
			hosts[set.Node] = append(hosts[set.Node], *set)
		}
		measured[set] = seen
		if set.Containers != nil || set.Host == nil {
			cov.Expected, cov.Measured = expected[set.Node], len(seen)
		}
		c.coverage = append(c.coverage, cov)
	}
	for _, p := range now.Pods {
		c.podMeasured(p, containers, pods[p.UID])
	}
	mounted := map[string]bool{} // nodes whose file systems were read
	for node, sets := range hosts {
		mounted[node] = c.nodeMeasured(node, sets, now.Nodes[node], at)
	}
	for k, e := range c.entities {
		if k.level != catalogue.Node {
			continue
		}
		// A node collector may lack the right to its node's object; the node is
		// there as long as it runs.
		there := now.Nodes[k.id] != nil || !c.byCluster && len(now.Nodes) == 0
		switch {
		case e.pass == c.pass && k.sub == "":
			e.keep(nodeCPU, nodeMem, nodeReceive, nodeTransmit, nodeTCP)
		case e.pass != c.pass && there && (k.sub == "" || !mounted[k.id]):
			// What could not be read has a gap. A file system that is missing from
			// those that were read is unmounted, and ends.
			c.touch(e)
			e.now = e.sent
		}
	}
	c.noteLacking(sets)
}

// running counts the running containers of each node.
func running(now *state.Snapshot) map[string]int {
	n := map[string]int{}
	for _, p := range now.Pods {
		if p.Ended() {
			continue
		}
		for _, ct := range p.Containers {
			if ct.State == stateRunning {
				n[p.Node]++
			}
		}
	}
	return n
}

// newest leaves one reading for each container of a set: while a container is
// replaced, and for a while after it was killed, its old cgroup is there beside
// the new one.
func newest(all []reading.Container, x index) []reading.Container {
	at := make(map[containerKey]int, len(all))
	out := make([]reading.Container, 0, len(all))
	for _, r := range all {
		p, ct := x.container(r)
		if ct == nil {
			continue
		}
		k := containerKey{p.UID, ct.Name}
		i, twice := at[k]
		if !twice {
			at[k] = len(out)
			out = append(out, r)
			continue
		}
		if newer(r, out[i], ct.ID) {
			out[i] = r
		}
	}
	return out
}

func newer(a, b reading.Container, present string) bool {
	if a.StartedAt.Equal(b.StartedAt) {
		if present != "" && (a.ID == present) != (b.ID == present) {
			return a.ID == present
		}
		return a.CPUSeconds.At.After(b.CPUSeconds.At)
	}
	return a.StartedAt.After(b.StartedAt)
}

func age(v reading.Value, at time.Time) time.Duration {
	if !v.OK() {
		return 0
	}
	return max(0, at.Sub(v.At))
}

func (c *Computer) containerReading(f *containerFigures, s catalogue.Source, k containerKey, r reading.Container, at time.Time) {
	instance := r.ID
	if instance == "" && !r.StartedAt.IsZero() {
		instance = r.StartedAt.UTC().Format(time.RFC3339Nano)
	}
	rate := func(what counterKind, v reading.Value) (float64, bool) {
		return c.note(counterKey{s, what, k.uid, k.name}, instance, v, at)
	}
	f.cpu.offer(rate(cpuTime, r.CPUSeconds))
	f.mem.offer(r.WorkingSetBytes.V, c.young(r.WorkingSetBytes, at))
	f.fsRead.offer(rate(fsRead, r.FSReadBytes))
	f.fsWrite.offer(rate(fsWrite, r.FSWriteBytes))
}

func (c *Computer) podReading(f *podFigures, s catalogue.Source, p *object.Pod, r reading.Pod, at time.Time) {
	rate := func(what counterKind, v reading.Value) (float64, bool) {
		return c.note(counterKey{source: s, what: what, id: p.UID}, "", v, at)
	}
	f.cpu.offer(rate(cpuTime, r.CPUSeconds))
	f.receive.offer(rate(receive, r.ReceiveBytes))
	f.transmit.offer(rate(transmit, r.TransmitBytes))
}

// podMeasured gives a pod's and its containers' usage.
func (c *Computer) podMeasured(p *object.Pod, containers map[containerKey]*containerFigures, pf *podFigures) {
	if p.Ended() || p.Node == "" {
		return
	}
	runs, all := 0, containerFigures{cpu: figure{ok: true}, mem: figure{ok: true}}
	for i := range p.Containers {
		ct := &p.Containers[i]
		if ct.State != stateRunning {
			continue
		}
		runs++
		e := c.entity(key{level: catalogue.Container, id: p.UID, sub: ct.Name}, p, func(b *labels.ScratchBuilder) {
			podLabels(b, p, ct.Name, "", "")
		})
		e.keep(containerCPU, containerMem, containerFSRead, containerFSWrite)
		f := containers[containerKey{p.UID, ct.Name}]
		if f == nil {
			f = &containerFigures{}
		}
		c.offer(e, containerCPU, f.cpu, true)
		c.offer(e, containerMem, f.mem, false)
		c.offer(e, containerFSRead, f.fsRead, true)
		c.offer(e, containerFSWrite, f.fsWrite, true)
		all.cpu = figure{all.cpu.v + f.cpu.v, all.cpu.ok && f.cpu.ok}
		all.mem = figure{all.mem.v + f.mem.v, all.mem.ok && f.mem.ok}
	}
	if runs == 0 && p.Phase != object.PhaseRunning {
		return // nothing of it runs yet
	}
	e := c.podEntity(p)
	e.keep(podCPU, podMem)
	if pf == nil {
		pf = &podFigures{}
	}
	if pf.cpu.ok {
		all.cpu = pf.cpu // it goes on over restarts of containers
	}
	c.offer(e, podCPU, all.cpu, true)
	c.offer(e, podMem, all.mem, false)
	c.limitRatio(e, podCPULimit, all.cpu, p.Limits.CPUCores, p.Limits.HasCPU)
	c.limitRatio(e, podMemLimit, all.mem, p.Limits.MemoryBytes, p.Limits.HasMemory)
	if !p.HostNetwork {
		e.keep(podReceive, podTransmit)
		c.offer(e, podReceive, pf.receive, true)
		c.offer(e, podTransmit, pf.transmit, true)
	}
}

func (c *Computer) limitRatio(e *entity, m *metric, used figure, limit float64, has bool) {
	if !has || limit <= 0 {
		return
	}
	e.keep(m)
	if used.ok {
		c.put(e, m, round(100*used.v/limit))
	}
}

// offer puts a figure that is there. Rates are rounded, amounts are exact.
func (c *Computer) offer(e *entity, m *metric, f figure, isRate bool) {
	if !f.ok {
		return
	}
	if isRate {
		f.v = round(f.v)
	}
	c.put(e, m, f.v)
}

// nodeMeasured gives a node's own figures, and says whether its file systems
// were read. n is nil while its object is not known, which only those figures
// need that are taken of its capacity.
func (c *Computer) nodeMeasured(node string, sets []reading.Set, n *object.Node, at time.Time) (mounted bool) {
	if n != nil && n.Virtual {
		return false
	}
	var cpu, mem, in, out, tcp figure
	filesystems := map[string]figure{}
	for i := range sets {
		s, h := sets[i].Source, sets[i].Host
		rate := func(what counterKind, v reading.Value) (float64, bool) {
			return c.note(counterKey{source: s, what: what, id: node}, "", v, at)
		}
		busy, ok := rate(cpuTime, h.CPUBusySeconds)
		if h.CPUTotalSeconds.OK() {
			total, okTotal := rate(cpuTotal, h.CPUTotalSeconds)
			cpu.offer(100*busy/total, ok && okTotal && total > 0)
		} else if n != nil && n.Capacity.CPUCores > 0 {
			cpu.offer(100*busy/n.Capacity.CPUCores, ok)
		}
		if h.MemTotalBytes.OK() && h.MemTotalBytes.V > 0 {
			mem.offer(100*h.MemUsedBytes.V/h.MemTotalBytes.V, c.young(h.MemUsedBytes, at))
		} else if n != nil && n.Capacity.MemoryBytes > 0 {
			mem.offer(100*h.MemUsedBytes.V/n.Capacity.MemoryBytes, c.young(h.MemUsedBytes, at))
		}
		in.offer(rate(receive, h.ReceiveBytes))
		out.offer(rate(transmit, h.TransmitBytes))
		tcp.offer(h.TCPEstablished.V, c.young(h.TCPEstablished, at))
		if len(filesystems) > 0 {
			continue // one source's view of the file systems, not a mixture
		}
		for _, fs := range h.Filesystems {
			if all := fs.UsedBytes.V + fs.AvailableBytes.V; all > 0 && c.young(fs.UsedBytes, at) {
				filesystems[fs.Mountpoint] = figure{100 * fs.UsedBytes.V / all, true}
			}
		}
	}
	e := c.nodeEntity(node)
	c.offer(e, nodeCPU, cpu, true)
	c.offer(e, nodeMem, mem, true)
	c.offer(e, nodeReceive, in, true)
	c.offer(e, nodeTransmit, out, true)
	c.offer(e, nodeTCP, tcp, false)
	for mount, f := range filesystems {
		e := c.entity(key{level: catalogue.Node, id: node, sub: mount}, mount, func(b *labels.ScratchBuilder) {
			b.Add("mountpoint", mount)
			b.Add("node", node)
		})
		c.offer(e, nodeFS, f, true)
	}
	return len(filesystems) > 0
}

// noteLacking keeps why metrics may have no sample; finish takes out those that
// have one.
func (c *Computer) noteLacking(sets []reading.Set) {
	for _, set := range sets {
		for name, why := range set.Lacking {
			c.unavailable[name] = why
		}
	}
}

// self gives the collector's own series.
func (c *Computer) self(at time.Time, sets []reading.Set) {
	e := c.entity(key{level: own}, c.sender, func(b *labels.ScratchBuilder) { b.Add("sender", c.sender) })
	c.put(e, interval, c.interval.Seconds())
	if c.coverage == nil {
		for _, s := range sets {
			c.coverage = append(c.coverage, Coverage{Node: s.Node, Source: s.Source, Up: s.Err == nil, Err: s.Err, Took: s.Took})
		}
	}
	for _, cov := range c.coverage {
		e := c.entity(key{level: own, id: cov.Node, sub: string(cov.Source)}, cov.Source, func(b *labels.ScratchBuilder) {
			b.Add("node", cov.Node)
			b.Add("source", string(cov.Source))
		})
		c.put(e, sourceUp, boolean(cov.Up))
		if cov.Expected > 0 || cov.Measured > 0 {
			c.put(e, sourceExpected, float64(cov.Expected))
			c.put(e, sourceMeasured, float64(cov.Measured))
			c.put(e, sourceOldest, cov.OldestAge.Round(time.Millisecond).Seconds())
		}
	}
}
