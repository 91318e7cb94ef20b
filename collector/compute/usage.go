package compute

import (
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/crowsnest-dev/crowsnest/collector/reading"
	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/object"
)

// slowAge is how old a reading of disk space may be: the kubelet itself walks
// volumes once a minute, and is asked for them once a minute.
const slowAge = 3 * time.Minute

// containerFigures are what was measured of one running container.
type containerFigures struct {
	cpu, mem, usage, pids               figure
	logLines, logBytes                  figure
	fsRead, fsWrite, fsReads, fsWritten figure
	throttled                           figure
	ooms                                reading.Value
	instance                            string
}

// podFigures are what was measured of one pod as a whole.
type podFigures struct {
	cpu, receive, transmit           figure
	packetsIn, packetsOut, netErrors figure
	ephemeral, rootfs                figure
}

func (c *Computer) containerReading(f *containerFigures, s catalogue.Source, k containerKey, r *reading.Container, at time.Time) {
	instance := r.ID
	if instance == "" && !r.StartedAt.IsZero() {
		instance = r.StartedAt.UTC().Format(time.RFC3339Nano)
	}
	rate := func(what counterKind, v reading.Value) (float64, bool) {
		return c.note(counterKey{s, what, k.uid, k.name}, instance, v, at)
	}
	f.cpu.offer(rate(cpuTime, r.CPUSeconds))
	f.cpu.offer(r.CPUCores.V, c.young(r.CPUCores, at))
	f.mem.offer(r.WorkingSetBytes.V, c.young(r.WorkingSetBytes, at))
	f.usage.offer(r.UsageBytes.V, c.young(r.UsageBytes, at))
	f.pids.offer(r.PIDs.V, c.young(r.PIDs, at))
	f.logLines.offer(rate(logLines, r.LogLines))
	f.logBytes.offer(rate(logBytes, r.LogBytes))
	f.fsRead.offer(rate(fsRead, r.FSReadBytes))
	f.fsWrite.offer(rate(fsWrite, r.FSWriteBytes))
	f.fsReads.offer(rate(fsReads, r.FSReads))
	f.fsWritten.offer(rate(fsWrites, r.FSWrites))
	all, okAll := rate(periods, r.Periods)
	held, okHeld := rate(throttled, r.Throttled)
	switch {
	case okAll && okHeld && all > 0:
		f.throttled.offer(min(100, 100*held/all), true)
	case okAll && okHeld:
		f.throttled.offer(0, true) // it did not want to run
	}
	if r.OOMKills.OK() && !f.ooms.OK() {
		f.ooms, f.instance = r.OOMKills, instance
	}
}

func (c *Computer) podReading(f *podFigures, s catalogue.Source, p *object.Pod, r *reading.Pod, at time.Time) {
	rate := func(what counterKind, v reading.Value) (float64, bool) {
		return c.note(counterKey{source: s, what: what, id: p.UID}, "", v, at)
	}
	f.cpu.offer(rate(cpuTime, r.CPUSeconds))
	f.receive.offer(rate(receive, r.ReceiveBytes))
	f.transmit.offer(rate(transmit, r.TransmitBytes))
	f.packetsIn.offer(rate(receivePackets, r.ReceivePackets))
	f.packetsOut.offer(rate(transmitPackets, r.TransmitPackets))
	f.netErrors.offer(rate(netErrors, r.NetworkErrors))
	slow := func(v reading.Value) bool { return v.OK() && at.Sub(v.At) <= slowAge }
	f.ephemeral.offer(r.EphemeralBytes.V, slow(r.EphemeralBytes))
	f.rootfs.offer(100*r.RootfsBytes.V/r.RootfsDeviceBytes.V, slow(r.RootfsBytes) && r.RootfsDeviceBytes.V > 0)
}

// plus adds a part to a sum, which is known only while all of its parts are.
func (f figure) plus(part figure) figure { return figure{f.v + part.v, f.ok && part.ok} }

// podMeasured gives a pod's and its containers' usage. n is the pod's node, nil
// while it is not known.
func (c *Computer) podMeasured(p *object.Pod, n *object.Node, containers map[containerKey]*containerFigures, pf *podFigures) {
	if p.Ended() || p.Node == "" {
		return
	}
	var node object.Resources // what a share of the node is taken of
	virtual := n != nil && n.Virtual
	if n != nil && !virtual {
		node = n.Allocatable
	}
	zero := figure{ok: true}
	runs := 0
	all := containerFigures{cpu: zero, mem: zero, usage: zero, fsRead: zero, fsWrite: zero, fsReads: zero, fsWritten: zero}
	for i := range p.Containers {
		ct := &p.Containers[i]
		if ct.State != stateRunning {
			continue
		}
		runs++
		f := containers[containerKey{p.UID, ct.Name}]
		if f == nil {
			f = &containerFigures{}
		}
		c.containerMeasured(p, ct, node, f)
		all.cpu, all.mem, all.usage = all.cpu.plus(f.cpu), all.mem.plus(f.mem), all.usage.plus(f.usage)
		all.fsRead, all.fsWrite = all.fsRead.plus(f.fsRead), all.fsWrite.plus(f.fsWrite)
		all.fsReads, all.fsWritten = all.fsReads.plus(f.fsReads), all.fsWritten.plus(f.fsWritten)
	}
	if runs == 0 && p.Phase != object.PhaseRunning {
		return // nothing of it runs yet
	}
	if runs == 0 {
		// What nothing has is not zero: the source may never have told it.
		all.fsRead, all.fsWrite, all.fsReads, all.fsWritten = figure{}, figure{}, figure{}, figure{}
	}
	e := c.podEntity(p)
	e.keep(podCPU, podMem, podUsage, podFSRead, podFSWrite, podFSReads, podFSWrites, podEphemeral, podRootfs)
	if pf == nil {
		pf = &podFigures{}
	}
	if pf.cpu.ok {
		all.cpu = pf.cpu // it goes on over restarts of containers
	}
	c.offer(e, podCPU, all.cpu, true)
	c.offer(e, podMem, all.mem, false)
	c.offer(e, podUsage, all.usage, false)
	c.offer(e, podFSRead, all.fsRead, true)
	c.offer(e, podFSWrite, all.fsWrite, true)
	c.offer(e, podFSReads, all.fsReads, true)
	c.offer(e, podFSWrites, all.fsWritten, true)
	c.offer(e, podEphemeral, pf.ephemeral, false)
	c.offer(e, podRootfs, pf.rootfs, true)

	c.ratio(e, podCPULimit, all.cpu, p.Limits.CPUCores, p.Limits.HasCPU)
	c.ratio(e, podMemLimit, all.mem, p.Limits.MemoryBytes, p.Limits.HasMemory)
	c.ratio(e, podUsageLimit, all.usage, p.Limits.MemoryBytes, p.Limits.HasMemory)
	cpuRequest, memRequest := requested(p)
	c.ratio(e, podCPURequest, all.cpu, p.Requests.CPUCores, cpuRequest)
	c.ratio(e, podMemRequest, all.mem, p.Requests.MemoryBytes, memRequest)
	c.ratio(e, podUsageRequest, all.usage, p.Requests.MemoryBytes, memRequest)
	c.ratio(e, podCPUNode, all.cpu, node.CPUCores, node.HasCPU)
	c.ratio(e, podMemNode, all.mem, node.MemoryBytes, node.HasMemory)
	c.ratio(e, podUsageNode, all.usage, node.MemoryBytes, node.HasMemory)
	if virtual {
		cpu, mem := specification(p)
		c.ratio(e, podCPUResource, all.cpu, cpu, cpu > 0)
		c.ratio(e, podMemResource, all.mem, mem, mem > 0)
		c.ratio(e, podUsageResource, all.usage, mem, mem > 0)
	}
	if !p.HostNetwork {
		e.keep(podReceive, podTransmit, podPacketsIn, podPacketsOut, podNetErrors)
		c.offer(e, podReceive, pf.receive, true)
		c.offer(e, podTransmit, pf.transmit, true)
		c.offer(e, podPacketsIn, pf.packetsIn, true)
		c.offer(e, podPacketsOut, pf.packetsOut, true)
		c.offer(e, podNetErrors, pf.netErrors, true)
	}
}

// requested says whether a pod has a request that a ratio can be taken of: its
// own, or one of every container that counts.
func requested(p *object.Pod) (cpu, memory bool) {
	cpu = p.OwnRequests.HasCPU || !anyOf(p, func(c object.Container) bool { return !c.Requests.HasCPU })
	memory = p.OwnRequests.HasMemory || !anyOf(p, func(c object.Container) bool { return !c.Requests.HasMemory })
	return cpu && p.Requests.CPUCores > 0, memory && p.Requests.MemoryBytes > 0
}

// specification is what a pod without a node of its own was given: its limit,
// else its request.
func specification(p *object.Pod) (cpuCores, memoryBytes float64) {
	cpuCores, memoryBytes = p.Requests.CPUCores, p.Requests.MemoryBytes
	if p.Limits.HasCPU {
		cpuCores = max(cpuCores, p.Limits.CPUCores)
	}
	if p.Limits.HasMemory {
		memoryBytes = max(memoryBytes, p.Limits.MemoryBytes)
	}
	return cpuCores, memoryBytes
}

func (c *Computer) containerMeasured(p *object.Pod, ct *object.Container, node object.Resources, f *containerFigures) {
	e := c.containerEntity(p, ct)
	e.keep(containerCPU, containerMem, containerUsage, containerPIDs, containerFSRead, containerFSWrite, containerFSReads, containerFSWrites)
	c.offer(e, containerCPU, f.cpu, true)
	c.offer(e, containerMem, f.mem, false)
	c.offer(e, containerUsage, f.usage, false)
	c.offer(e, containerPIDs, f.pids, false)
	c.offer(e, containerFSRead, f.fsRead, true)
	c.offer(e, containerFSWrite, f.fsWrite, true)
	c.offer(e, containerFSReads, f.fsReads, true)
	c.offer(e, containerFSWrites, f.fsWritten, true)
	if f.logLines.ok || f.logBytes.ok {
		e.keep(containerLogLines, containerLogBytes)
		c.offer(e, containerLogLines, f.logLines, true)
		c.offer(e, containerLogBytes, f.logBytes, true)
	}
	if ct.Limits.HasCPU || f.throttled.ok {
		e.keep(containerThrottled)
		c.offer(e, containerThrottled, f.throttled, true)
	}
	c.ratio(e, containerCPULimit, f.cpu, ct.Limits.CPUCores, ct.Limits.HasCPU)
	c.ratio(e, containerMemLimit, f.mem, ct.Limits.MemoryBytes, ct.Limits.HasMemory)
	c.ratio(e, containerCPURequest, f.cpu, ct.Requests.CPUCores, ct.Requests.HasCPU)
	c.ratio(e, containerMemRequest, f.mem, ct.Requests.MemoryBytes, ct.Requests.HasMemory)
	c.ratio(e, containerCPUNode, f.cpu, node.CPUCores, node.HasCPU)
	c.ratio(e, containerMemNode, f.mem, node.MemoryBytes, node.HasMemory)
	c.put(e, containerOOM, c.outOfMemory(p, ct, f))
}

func (c *Computer) containerEntity(p *object.Pod, ct *object.Container) *entity {
	name := ct.Name
	return c.entity(key{level: catalogue.Container, id: p.UID, sub: name}, p, func(b *labels.ScratchBuilder) { podLabels(b, p, name, "", "") })
}

// ratio puts a figure in per cent of something. Without that something the
// series ends; without the figure it has a gap.
func (c *Computer) ratio(e *entity, m *metric, used figure, of float64, has bool) {
	if !has || of <= 0 {
		return
	}
	e.keep(m)
	if used.ok {
		c.put(e, m, round(100*used.v/of))
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

// oomMemory is what is known of a container's out-of-memory kills.
type oomMemory struct {
	total    float64
	ended    time.Time // of the last instance that ended so
	instance string    // of the living cgroup
	kernel   float64   // its counter
	grown    bool      // by the present instance
	pass     uint64
}

// outOfMemory counts a container's kills: one for each instance that ended
// OOMKilled, and what the counter of the living cgroup grew by. cAdvisor's own
// counter dies with the cgroup. What is found at the first contact is old, but
// for a container that was started since the last interval.
func (c *Computer) outOfMemory(p *object.Pod, ct *object.Container, f *containerFigures) float64 {
	k := containerKey{p.UID, ct.Name}
	m, known := c.ooms[k], true
	if m == nil {
		known = !c.last.IsZero() && p.CreatedAt.After(c.last.Add(-c.interval))
		m = &oomMemory{}
		c.ooms[k] = m
		if !known {
			if ct.Last != nil {
				m.ended = ct.Last.FinishedAt
			}
			m.instance, m.kernel = f.instance, f.ooms.V
		}
	}
	m.pass = c.pass
	if t := ct.Last; t != nil && t.Reason == "OOMKilled" && t.FinishedAt.After(m.ended) {
		m.ended = t.FinishedAt
		if !m.grown {
			m.total++
		}
		m.grown = false // it was of the instance that ended
	}
	if f.ooms.OK() {
		if f.instance != m.instance || f.ooms.V < m.kernel {
			m.instance, m.kernel, m.grown = f.instance, 0, false
		}
		if rise := f.ooms.V - m.kernel; rise > 0 {
			m.total += rise
			m.kernel, m.grown = f.ooms.V, true
		}
	}
	return m.total
}

// probesMeasured gives how often the kubelet probed containers.
func (c *Computer) probesMeasured(set *reading.Set, x index, at time.Time) {
	for i := range set.Probes {
		r := &set.Probes[i]
		p := x.byUID[r.PodUID]
		if p == nil || p.Ended() || !r.Count.OK() || at.Sub(r.Count.At) > slowAge || !hasContainer(p, r.Container) {
			continue
		}
		e := c.entity(key{level: catalogue.Container, id: p.UID, sub: r.Container + "/" + r.Probe + "/" + r.Result, dim: byProbe}, p, func(b *labels.ScratchBuilder) {
			podLabels(b, p, r.Container, "", "")
			b.Add("probe", r.Probe)
			b.Add("result", r.Result)
			b.Sort()
		})
		c.put(e, containerProbes, r.Count.V)
	}
}

func hasContainer(p *object.Pod, name string) bool {
	return slices.ContainsFunc(p.Containers, func(ct object.Container) bool { return ct.Name == name })
}

// peersMeasured gives what other nodes answered. Those series are of the node
// that was asked, and end when it is asked no more.
func (c *Computer) peersMeasured(set *reading.Set) {
	for _, r := range set.Peers {
		e := c.entity(key{level: catalogue.Node, id: r.Node, sub: set.Node + "/" + r.Probe, dim: byPeer}, set.Node, func(b *labels.ScratchBuilder) {
			b.Add("node", r.Node)
			b.Add("peer", set.Node)
			b.Add("probe", r.Probe)
		})
		c.put(e, nodePeerReached, boolean(r.Reached))
	}
}

// volumeKey names a claim.
type volumeKey struct{ namespace, claim string }

type volumeFigures struct{ used, inodes figure }

// noteVolume takes over a volume of a pod. Pods that share a volume tell the
// same of it.
func noteVolume(all map[volumeKey]volumeFigures, v reading.Volume, at time.Time) {
	k := volumeKey{v.Namespace, v.Claim}
	f := all[k]
	if size := v.UsedBytes.V + v.AvailableBytes.V; size > 0 {
		f.used.offer(100*v.UsedBytes.V/size, v.UsedBytes.OK() && v.AvailableBytes.OK() && at.Sub(v.UsedBytes.At) <= slowAge)
	}
	if n := v.UsedInodes.V + v.FreeInodes.V; n > 0 {
		f.inodes.offer(100*v.UsedInodes.V/n, v.UsedInodes.OK() && v.FreeInodes.OK() && at.Sub(v.UsedInodes.At) <= slowAge)
	}
	all[k] = f
}

// volumesMeasured gives how full volumes are. told says that summaries were
// read, so that a volume that is not among them is not in use any more.
func (c *Computer) volumesMeasured(all map[volumeKey]volumeFigures, told bool) {
	for k, f := range all {
		e := c.volumeEntity(k)
		e.keep(volumeUsed, volumeInodes)
		c.offer(e, volumeUsed, f.used, true)
		c.offer(e, volumeInodes, f.inodes, true)
	}
	if told {
		return
	}
	for k, e := range c.entities {
		if k.level == catalogue.Volume {
			c.touch(e)
			e.keep(volumeUsed, volumeInodes)
		}
	}
}

func (c *Computer) volumeEntity(k volumeKey) *entity {
	return c.entity(key{level: catalogue.Volume, id: k.namespace + "/" + k.claim}, k, func(b *labels.ScratchBuilder) {
		b.Add("namespace", k.namespace)
		b.Add("persistentvolumeclaim", k.claim)
	})
}

// kubelets gives which nodes' kubelets answered.
func (c *Computer) kubelets(sets []reading.Set, now *state.Snapshot) {
	answered := map[string]bool{}
	for i := range sets {
		switch sets[i].Source {
		case catalogue.CadvisorLabels, catalogue.CadvisorPaths, catalogue.ResourceAPI, catalogue.StatsSummary:
			answered[sets[i].Node] = answered[sets[i].Node] || sets[i].Err == nil
		}
	}
	for node, ok := range answered {
		if n := now.Nodes[node]; n == nil || !n.Virtual {
			c.put(c.nodeEntity(node), nodeKubeletReady, boolean(ok))
		}
	}
}

// nodeMeasured gives a node's own figures, and says whether its file systems
// were read. n is nil while its object is not known, which only those figures
// need that are taken of its capacity.
func (c *Computer) nodeMeasured(node string, sets []reading.Set, n *object.Node, at time.Time) (mounted bool) {
	if n != nil && n.Virtual {
		return false
	}
	var cpu, mem, in, out, tcp, load1, load5, load15, fsIn, fsOut, fsIns, fsOuts, errs, drops, oom, conntrack figure
	type space struct{ used, inodes figure }
	filesystems := map[string]space{}
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
		errs.offer(rate(netErrors, h.NetworkErrors))
		drops.offer(rate(netDrops, h.NetworkDrops))
		fsIn.offer(rate(fsRead, h.FSReadBytes))
		fsOut.offer(rate(fsWrite, h.FSWriteBytes))
		fsIns.offer(rate(fsReads, h.FSReads))
		fsOuts.offer(rate(fsWrites, h.FSWrites))
		tcp.offer(h.TCPEstablished.V, c.young(h.TCPEstablished, at))
		load1.offer(h.Load1.V, c.young(h.Load1, at))
		load5.offer(h.Load5.V, c.young(h.Load5, at))
		load15.offer(h.Load15.V, c.young(h.Load15, at))
		oom.offer(h.OOMKills.V, c.young(h.OOMKills, at))
		conntrack.offer(100*h.Conntrack.V/h.ConntrackMax.V, c.young(h.Conntrack, at) && h.ConntrackMax.V > 0)
		if len(filesystems) > 0 {
			continue // one source's view of the file systems, not a mixture
		}
		for _, fs := range h.Filesystems {
			if all := fs.UsedBytes.V + fs.AvailableBytes.V; all > 0 && c.young(fs.UsedBytes, at) {
				f := space{used: figure{100 * fs.UsedBytes.V / all, true}}
				if inodes := fs.UsedInodes.V + fs.FreeInodes.V; inodes > 0 {
					f.inodes = figure{100 * fs.UsedInodes.V / inodes, true}
				}
				filesystems[fs.Mountpoint] = f
			}
		}
	}
	e := c.nodeEntity(node)
	for _, r := range []struct {
		m *metric
		f figure
	}{
		{nodeCPU, cpu}, {nodeMem, mem}, {nodeReceive, in}, {nodeTransmit, out}, {nodeLoad1, load1}, {nodeLoad5, load5}, {nodeLoad15, load15},
		{nodeFSRead, fsIn}, {nodeFSWrite, fsOut}, {nodeFSReads, fsIns}, {nodeFSWrites, fsOuts}, {nodeNetErrors, errs}, {nodeNetDrops, drops},
		{nodeConntrack, conntrack},
	} {
		c.offer(e, r.m, r.f, true)
	}
	c.offer(e, nodeTCP, tcp, false)
	c.offer(e, nodeOOM, oom, false)
	if !c.byCluster && c.clock != nil {
		c.put(e, nodeClock, c.clock.Seconds())
	}
	for mount, f := range filesystems {
		e := c.entity(key{level: catalogue.Node, id: node, sub: mount, dim: byMount}, mount, func(b *labels.ScratchBuilder) {
			b.Add("mountpoint", mount)
			b.Add("node", node)
		})
		e.keep(nodeInodes)
		c.offer(e, nodeFS, f.used, true)
		c.offer(e, nodeInodes, f.inodes, true)
	}
	return len(filesystems) > 0
}
