package simulate

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/crowsnest-dev/crowsnest/collector/reading"
	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// readings is the fleet as collector.Readings.
type readings Fleet

// Name says that it stands in for a kubelet's cAdvisor with labels.
func (*readings) Name() string { return string(catalogue.CadvisorLabels) }

// Read gives the values of every node at the time at.
func (r *readings) Read(_ context.Context, at time.Time, _ *state.Snapshot) []reading.Set {
	f := (*Fleet)(r)
	f.mu.Lock()
	defer f.mu.Unlock()
	w := f.world(at)
	sets := make([]reading.Set, 0, len(f.nodes))
	for _, n := range f.nodes {
		sets = append(sets, f.readNode(n, w, at))
	}
	return sets
}

func (f *Fleet) readNode(n *node, w float64, at time.Time) reading.Set {
	set := reading.Set{Node: n.name, Source: catalogue.CadvisorLabels, Took: 3 * time.Millisecond}
	if n.now != nil && !n.now.Ready {
		set.Err = fmt.Errorf("read kubelet of %s: connection refused: %w", n.name, fault.ErrUnavailable)
		return set
	}
	set.Containers = make([]reading.Container, 0, 2*len(f.running[n]))
	set.Pods = make([]reading.Pod, 0, len(f.running[n]))
	value := func(v float64) reading.Value { return reading.Value{V: v, At: at} }
	var memory float64
	for _, l := range f.running[n] {
		if l.phase != running && l.phase != ended && l.phase != backOff {
			continue
		}
		s, wl := l.s, l.s.w
		cpu, rx, tx, fs := s.integrals(w)
		for i := range l.ids {
			if i == 0 && l.phase != running {
				continue
			}
			c := reading.Container{PodUID: l.uid, Namespace: wl.namespace, Pod: l.name, Name: wl.name, ID: l.ids[i], StartedAt: l.begin[i]}
			if i > 0 {
				c.Name = sidecarNames[(i-1)%len(sidecarNames)]
				if i > len(sidecarNames) {
					c.Name = fmt.Sprintf("%s-%d", c.Name, i)
				}
			}
			used := f.counter(cpu-l.cpuStart[i]) * share(i)
			if i == 0 {
				used += s.warmUp(w-l.instance) / f.opts.Speed
			}
			mem := s.workingSet(i, w, l)
			memory += mem
			c.CPUSeconds, c.WorkingSetBytes, c.UsageBytes = value(used), value(mem), value(math.Floor(mem*1.18/4096)*4096)
			c.PIDs = value(float64(3 + i))
			if i == 0 {
				c.FSReadBytes, c.FSWriteBytes = value(math.Floor(f.counter(fs[0]-l.fsStart[0]))), value(math.Floor(f.counter(fs[1]-l.fsStart[1])))
			} else {
				c.FSReadBytes, c.FSWriteBytes = value(0), value(0)
			}
			c.FSReads, c.FSWrites = value(math.Floor(c.FSReadBytes.V/32e3)), value(math.Floor(c.FSWriteBytes.V/16e3))
			set.Containers = append(set.Containers, c)
		}
		p := reading.Pod{UID: l.uid, Namespace: wl.namespace, Name: l.name}
		if !wl.hostNetwork {
			p.ReceiveBytes = value(math.Floor(f.counter(math.Max(0, rx-l.netStart[0]))))
			p.TransmitBytes = value(math.Floor(f.counter(math.Max(0, tx-l.netStart[1]))))
			p.ReceivePackets, p.TransmitPackets = value(math.Floor(p.ReceiveBytes.V/700)), value(math.Floor(p.TransmitBytes.V/900))
			p.NetworkErrors = value(0)
		}
		set.Pods = append(set.Pods, p)
	}
	set.Host = f.host(n, w, memory, value)
	return set
}

// counter makes a world integral a counter over real time.
func (f *Fleet) counter(integral float64) float64 { return integral / f.opts.Speed }

// share is a container's part of its slot's CPU.
func share(container int) float64 {
	if container == 0 {
		return 1
	}
	return 0.08
}

// integrals gives the slot's CPU seconds, bytes in and out, and bytes read from
// and written to disk since origin. The constants do not matter: a container's
// counter is a difference of two of them.
func (s *slot) integrals(w float64) (cpu, rx, tx float64, fs [2]float64) {
	_, d := s.w.daily.at(w)
	_, n1 := s.noise1.at(w)
	_, n2 := s.noise2.at(w)
	cpu = s.cpu*(w+d+n1) + s.burst.integral(w)
	rx = s.network * (w + d + n2)
	tx = 1.4 * s.network * (w + d + 0.5*(n1+n2))
	fs[0] = 0.02 * s.network * (w + n1)
	fs[1] = 2e4*s.w.cpu*(w+n2) + 0.05*s.network*(w+n2)
	return cpu, rx, tx, fs
}

// warmUp is the extra CPU that an instance has used at an age: a few tens of
// seconds of class loading and cache filling.
func (s *slot) warmUp(age float64) float64 {
	if age <= 0 || s.w.typ == "cronjob" {
		return 0
	}
	const tau = 25
	return 0.5 * s.w.cpu * tau * (1 - math.Exp(-age/tau))
}

// workingSet is the memory of a container in bytes, in whole pages.
func (s *slot) workingSet(container int, w float64, l *life) float64 {
	var mem float64
	if container > 0 {
		wobble, _ := s.noise2.at(w)
		mem = (38 + 4*wobble) * mib
	} else {
		age := w - l.instance
		load, _ := s.w.daily.at(w)
		wobble, _ := s.noise1.at(w)
		mem = s.memory * (0.55 + 0.35*(1-math.Exp(-age/(40*minute))) + 0.06*load + 0.03*wobble)
		k, _ := divide(w, 2*hour) // caches and heaps grow in steps
		mem += s.memory * 0.08 * unit(s.key, 95, math.Float64bits(k))
		mem += s.growing * age
		if limit := s.w.memLimit; limit > 0 {
			mem = math.Min(mem, limit*0.998)
		}
	}
	return math.Floor(mem/4096) * 4096
}

// host is the node's own figures.
func (f *Fleet) host(n *node, w, podMemory float64, value func(float64) reading.Value) *reading.Node {
	var busy, rx, tx float64
	for _, s := range n.slots {
		c, r, t, _ := s.integrals(w)
		busy += c * (1 + 0.08*float64(s.w.sidecars))
		rx, tx = rx+r, tx+t
	}
	wobble, system := n.system.at(w)
	busy += 0.015 * n.cores * (w + system) // kubelet, runtime, kernel
	h := &reading.Node{
		CPUBusySeconds: value(f.counter(busy)), CPUTotalSeconds: value(f.counter(n.cores * w)),
		MemUsedBytes:  value(math.Min(podMemory+1.1*gib+0.1*gib*wobble, 0.97*n.memory)),
		MemTotalBytes: value(n.memory),
		ReceiveBytes:  value(math.Floor(f.counter(rx + 2e4*(w+system)))), TransmitBytes: value(math.Floor(f.counter(tx + 2e4*(w+system)))),
		TCPEstablished: value(math.Floor(40 + 18*float64(len(n.slots))*(1+0.3*wobble))),
	}
	used := busy / n.cores / math.Max(1, w)
	h.Load1, h.Load5, h.Load15 = value(n.cores*used*(1+0.2*wobble)), value(n.cores*used*(1+0.1*wobble)), value(n.cores*used)
	h.FSReadBytes, h.FSWriteBytes = value(math.Floor(f.counter(0.03*rx))), value(math.Floor(f.counter(0.2*tx+5e4*w)))
	h.FSReads, h.FSWrites = value(math.Floor(h.FSReadBytes.V/32e3)), value(math.Floor(h.FSWriteBytes.V/16e3))
	h.NetworkErrors, h.NetworkDrops, h.OOMKills = value(0), value(0), value(0)
	h.Conntrack, h.ConntrackMax = value(math.Floor(2.2*h.TCPEstablished.V)), value(262144)
	// Disks fill slowly and are cleaned; one of some tens of nodes gets close.
	fill := func(k uint64, size, lo, hi, period float64) reading.Filesystem {
		_, rest := divide(w+period*unit(n.key, k, 1), period)
		used := size * (lo + (hi-lo)*rest/period)
		return reading.Filesystem{UsedBytes: value(math.Floor(used/4096) * 4096), AvailableBytes: value(math.Floor((size*0.95-used)/4096) * 4096)}
	}
	root := fill(96, 100*gib, 0.22, between(0.3, 0.5, n.key, 97), 9*day)
	root.Mountpoint = "/"
	peak := between(0.55, 0.8, n.key, 98)
	if unit(n.key, 99) < 0.05 || n.index == len(f.nodes)-1 {
		peak = 0.9
	}
	images := fill(97, 200*gib, 0.35, peak, 5*day)
	images.Mountpoint = "/var/lib/containerd"
	h.Filesystems = []reading.Filesystem{root, images}
	return h
}
