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

// index finds pods and containers by what sources know of them.
type index struct {
	byUID  map[string]*object.Pod // static pods under the kubelet's UID as well
	byName map[string]*object.Pod
	byID   map[string]containerRef
	shared int // running containers whose id another one has already
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
			if ct.ID == "" {
				continue
			}
			if _, taken := x.byID[ct.ID]; taken && ct.State == stateRunning && !p.Ended() {
				x.shared++
			}
			x.byID[ct.ID] = containerRef{p, i}
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
func (x index) container(r *reading.Container) (*object.Pod, *object.Container) {
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

// read gives the nodes that are measured in role cluster: the virtual ones that there
// are readings of, or an error in their place. One whose object went is among them for
// as long as its pods are there.
func (c *Computer) read(sets []reading.Set, now *state.Snapshot) map[string]bool {
	if c.byNode {
		return nil
	}
	reads := map[string]bool{}
	for i := range sets {
		if n := now.Nodes[sets[i].Node]; n != nil && n.Virtual {
			reads[n.Name] = true
		}
	}
	gone := false
	for node := range c.reads {
		gone = gone || now.Nodes[node] == nil
	}
	if gone {
		for _, p := range now.Pods {
			if c.reads[p.Node] && now.Nodes[p.Node] == nil {
				reads[p.Node] = true
			}
		}
	}
	return reads
}

// handOver lets go of what was measured on nodes that somebody else measures now.
// Those series go on, and so have no stale markers.
func (c *Computer) handOver(reads map[string]bool, now *state.Snapshot) {
	some := false
	for _, p := range now.Pods {
		if !c.reads[p.Node] || reads[p.Node] {
			continue
		}
		some = true
		for _, k := range c.byPod[p.UID] {
			c.entities[k].sent &^= measuredSlots[k.level]
		}
	}
	if some { // volumes, too: those of other pods are told of anew
		for k, e := range c.entities {
			if k.level == catalogue.Volume {
				e.sent &^= measuredSlots[k.level]
			}
		}
	}
}

// measured gives what was measured: all metrics that node collectors compute. reads
// are the nodes that it is about; nil for all.
func (c *Computer) measured(at time.Time, sets []reading.Set, now *state.Snapshot, reads map[string]bool) {
	x := newIndex(now)
	c.misfits[SharedID] += x.shared
	containers := map[containerKey]*containerFigures{}
	pods := map[string]*podFigures{}
	hosts := map[string][]reading.Set{}
	volumes := map[volumeKey]volumeFigures{}
	summaries := false // volumes were read, so that one that is missing is gone
	expected := running(now)

	for i := range sets {
		set := &sets[i]
		cov := Coverage{Node: set.Node, Source: set.Source, Up: set.Err == nil, Err: set.Err, Took: set.Took}
		seen := map[containerKey]bool{}
		for _, m := range c.newest(set.Containers, x) {
			r, k := m.r, containerKey{m.pod.UID, m.container.Name}
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
		for j := range set.Pods {
			r := &set.Pods[j]
			p := x.pod(r.UID, r.Namespace, r.Name)
			if p == nil {
				c.misfits[NoObject]++
			}
			if p == nil || p.Ended() {
				continue
			}
			f := pods[p.UID]
			if f == nil {
				f = &podFigures{}
				pods[p.UID] = f
			}
			c.podReading(f, set.Source, p, r, at)
			for _, v := range r.Volumes {
				noteVolume(volumes, v, at)
			}
		}
		c.probesMeasured(set, x, at)
		c.peersMeasured(set)
		summaries = summaries || set.Err == nil && set.Source == catalogue.StatsSummary
		if set.Host != nil {
			hosts[set.Node] = append(hosts[set.Node], *set)
		}
		if set.Counts() {
			cov.Expected, cov.Measured, cov.Counts = expected[set.Node], len(seen), true
		}
		c.coverage = append(c.coverage, cov)
	}
	for _, p := range now.Pods {
		if reads == nil || reads[p.Node] {
			c.podMeasured(p, now.Nodes[p.Node], containers, pods[p.UID])
		}
	}
	c.volumesMeasured(volumes, summaries)
	if reads != nil {
		return // virtual nodes have no figures of their own
	}
	c.kubelets(sets, now)
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
		case e.pass == c.pass && k.dim == plain:
			e.keep(nodeGauges...)
		case e.pass != c.pass && there && (k.dim == plain || k.dim == byMount && !mounted[k.id]):
			// What could not be read has a gap. A file system that is missing from
			// those that were read is unmounted, and ends.
			c.touch(e)
			e.now = e.sent
		}
	}
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

// match is a reading and whose it is.
type match struct {
	r         *reading.Container
	pod       *object.Pod
	container *object.Container
}

// newest leaves one reading for each container of a set: while a container is
// replaced, and for a while after it was killed, its old cgroup is there beside
// the new one.
func (c *Computer) newest(all []reading.Container, x index) []match {
	at := make(map[containerKey]int, len(all))
	out := make([]match, 0, len(all))
	for i := range all {
		r := &all[i]
		p, ct := x.container(r)
		if p == nil {
			c.misfits[NoObject]++
		}
		if ct == nil || p.Ended() {
			continue
		}
		k := containerKey{p.UID, ct.Name}
		i, twice := at[k]
		if !twice {
			at[k] = len(out)
			out = append(out, match{r, p, ct})
			continue
		}
		c.misfits[ReadTwice]++
		if newer(r, out[i].r, ct.ID) {
			out[i].r = r
		}
	}
	return out
}

func newer(a, b *reading.Container, present string) bool {
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

// noteLacking keeps why metrics may have no sample; finish takes out those that
// have one. What virtual nodes alone do not tell is not lacking beside real ones.
func (c *Computer) noteLacking(sets []reading.Set, now *state.Snapshot) {
	elastic := now.OnlyVirtualNodes()
	for _, set := range sets {
		if c.reads[set.Node] && !elastic {
			continue
		}
		for name, why := range set.Lacking {
			c.unavailable[name] = why
		}
	}
}

// self gives the collector's own series.
func (c *Computer) self(at time.Time, sets []reading.Set) {
	e := c.entity(key{level: own}, c.sender, func(b *labels.ScratchBuilder) { b.Add("sender", c.sender) })
	c.put(e, interval, c.interval.Seconds())
	if c.clock != nil {
		c.put(e, clockOffset, c.clock.Seconds())
	}
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
		if cov.Counts && (cov.Expected > 0 || cov.Measured > 0) {
			c.put(e, sourceExpected, float64(cov.Expected))
			c.put(e, sourceMeasured, float64(cov.Measured))
			c.put(e, sourceOldest, cov.OldestAge.Round(time.Millisecond).Seconds())
		}
	}
}
