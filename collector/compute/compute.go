// Package compute turns readings and object state into catalogue samples. It
// owns the rules of the catalogue: rates, maximum ages, limits, restart
// counters, stale markers. It is pure: what it knows of the past is what it was
// given before, and it reads no clock. It must not know where readings come
// from or where samples go.
package compute

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"

	"github.com/crowsnest-dev/crowsnest/collector/reading"
	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// Series about the collector's own work, sent with the samples.
const (
	// SourceUp is 1 when the last attempt to read a source succeeded.
	SourceUp = "crowsnest_source_up"
	// SourceExpected counts the containers that a source should have measured.
	SourceExpected = "crowsnest_source_containers_expected"
	// SourceMeasured counts those that it did.
	SourceMeasured = "crowsnest_source_containers_measured"
	// SourceOldest is the age of the oldest reading of the source that was used.
	SourceOldest = "crowsnest_source_oldest_reading_seconds"
	// CollectionInterval is the sender's interval in force.
	CollectionInterval = "crowsnest_collection_interval_seconds"
	// ClockOffset is by how much the sender's clock is ahead of the server's.
	ClockOffset = "crowsnest_collector_clock_offset_seconds"
)

// Sample is one value of one series.
type Sample struct {
	Metric string
	Labels labels.Labels // without __name__ and cluster
	At     time.Time
	V      float64 // math.Float64frombits(value.StaleNaN) where the series ends

	order uint64 // puts equal series at equal places in each interval
}

// Stale says whether the sample ends its series.
func (s Sample) Stale() bool { return value.IsStaleNaN(s.V) }

// Options of a Computer.
type Options struct {
	Role     string        // wire.RoleNode, RoleCluster or RoleAll: which metrics are computed; required
	Sender   string        // wire.Sender(role, node); label of CollectionInterval
	Interval time.Duration // default 30 s
	// Families are the parts of the catalogue that are computed; nil means all.
	Families []catalogue.Family
}

// Computer makes samples. It keeps the previous readings and which series it has
// begun. It is not for concurrent use.
type Computer struct {
	sender    string
	interval  time.Duration
	byNode    bool
	byCluster bool
	// reads are the nodes that role cluster measured in the last Interval: virtual ones.
	reads map[string]bool

	entities map[key]*entity
	byPod    map[string][]key // entities of each pod, by its UID
	counters map[counterKey]*counter
	ooms     map[containerKey]*oomMemory
	hists    map[histogramKey]histogramMemory
	pods     map[string]podMemory // by UID
	raised   map[key]float64      // restart counters of workloads and nodes
	began    uint64               // entities begun so far
	pass     uint64               // number of the call, marks what it touched
	last     time.Time            // grid point of the last Interval
	lastAt   time.Time            // newest time of any sample

	onlyChanges bool // put drops values that were sent before
	touched     []*entity
	out         []Sample
	coverage    []Coverage
	misfits     map[Misfit]int  // since New
	given       map[string]bool // metrics with a sample in the last Interval
	unavailable map[string]string
	scratch     labels.ScratchBuilder
	masks       map[catalogue.Level]uint64 // slots that are wanted
	clock       *time.Duration             // offset of this clock to the server's; nil while unknown
}

// Coverage tells how much of what it should one source measured on one node.
type Coverage struct {
	Node      string
	Source    catalogue.Source
	Up        bool
	Err       error
	Took      time.Duration
	Counts    bool          // it should tell of every running container
	Expected  int           // running containers
	Measured  int           // those with a reading that is young enough
	OldestAge time.Duration // of the readings that were used
}

// Misfit is a way in which inputs do not fit together. What does not fit is left out,
// and costs nothing but itself.
type Misfit string

const (
	// NoObject is a reading of a pod that no object is known of: it went between list and
	// use, or is not listed yet.
	NoObject Misfit = "no_object"
	// ReadTwice is a further reading of one container in one answer: its cgroup of before
	// beside the present one, or somebody else's that claims to be it.
	ReadTwice Misfit = "read_twice"
	// SharedID is a running container whose id another running one claims, too.
	SharedID Misfit = "shared_id"
	// CounterFell is a counter that went back within one instance.
	CounterFell Misfit = "counter_fell"
)

// Misfits are all there are.
var Misfits = []Misfit{NoObject, ReadTwice, SharedID, CounterFell}

// podMemory is what is remembered of a pod between calls.
type podMemory struct {
	restarts int
}

// New gives a Computer that knows nothing of the past.
func New(o Options) *Computer {
	if o.Interval == 0 {
		o.Interval = 30 * time.Second
	}
	return &Computer{
		sender:    o.Sender,
		interval:  o.Interval,
		byNode:    o.Role == wire.RoleNode || o.Role == wire.RoleAll,
		byCluster: o.Role == wire.RoleCluster || o.Role == wire.RoleAll,
		entities:  map[key]*entity{},
		byPod:     map[string][]key{},
		counters:  map[counterKey]*counter{},
		ooms:      map[containerKey]*oomMemory{},
		hists:     map[histogramKey]histogramMemory{},
		pods:      map[string]podMemory{},
		raised:    map[key]float64{},
		misfits:   map[Misfit]int{},
		scratch:   labels.NewScratchBuilder(8),
		masks:     masks(o.Families),
	}
}

// SetInterval changes the interval that later calls of Interval go by.
func (c *Computer) SetInterval(d time.Duration) { c.interval = d }

// SetFamilies changes which parts of the catalogue are computed from the next
// call of Interval on; nil means all. Series that are not wanted any more end.
func (c *Computer) SetFamilies(fs []catalogue.Family) {
	c.masks = masks(fs)
	for _, e := range c.entities {
		e.wanted = c.masks[e.level]
	}
}

// SetClockOffset says by how much this clock is ahead of the server's.
func (c *Computer) SetClockOffset(d time.Duration) { c.clock = &d }

// Interval gives all samples of the grid point at. sets are best first for each
// node; now must be the state at that time. Series that ended since the last
// call are marked stale. Before the state is complete it gives nothing but the
// collector's own series.
func (c *Computer) Interval(at time.Time, sets []reading.Set, now *state.Snapshot) []Sample {
	c.begin(false)
	c.unavailable = map[string]string{}
	c.coverage = nil
	if now == nil || !now.Synced {
		// What is missing from an incomplete list has not ended.
		for _, e := range c.entities {
			e.now |= e.sent
			e.pass = c.pass
		}
		c.self(at, sets)
		return c.finish(at)
	}
	if c.byCluster {
		c.noteRestarts(now)
		for _, n := range now.Nodes {
			c.nodeObject(n)
		}
		for _, w := range now.Workloads {
			c.workloadObject(w)
		}
		for _, p := range now.Pods {
			c.podObject(p)
		}
		c.restartCounters(now)
		c.clusterObjects(at, now)
		c.components(at, sets)
	}
	switch reads := c.read(sets, now); {
	case c.byNode:
		c.measured(at, sets, now, nil)
	case len(reads)+len(c.reads) > 0:
		c.handOver(reads, now)
		c.measured(at, sets, now, reads)
		c.reads = reads
	}
	c.noteLacking(sets, now)
	c.self(at, sets)
	c.last = at
	return c.finish(at)
}

// Warm takes readings and state as Interval does and gives nothing, so that the
// first interval has rates and knows which restarts are new. at must lie before
// the first grid point.
func (c *Computer) Warm(at time.Time, sets []reading.Set, now *state.Snapshot) {
	if now == nil || !now.Synced {
		return
	}
	c.Interval(at, sets, now)
	for _, e := range c.entities {
		e.sent, e.values = 0, nil // none of it was sent
	}
}

// Changes gives the samples that differ because of changes: state changes and
// restart counters, besides the grid. at is the time of the call; now is the
// state after the changes; cluster says whether what is counted over all objects
// is told too. In role node there are none but the stale markers of pods that
// went.
func (c *Computer) Changes(at time.Time, changes []state.Change, now *state.Snapshot, cluster bool) []Sample {
	if now == nil || !now.Synced || c.last.IsZero() {
		return nil // the first interval sends everything
	}
	if !at.After(c.lastAt) {
		at = c.lastAt.Add(time.Millisecond) // a series' samples never share a time
	}
	c.begin(true)
	for _, ch := range changes {
		c.change(ch, now)
	}
	if c.byCluster {
		c.restartCounters(now)
		if cluster {
			c.clusterObjects(at, now)
		}
	}
	for _, e := range c.touched {
		c.settle(e)
	}
	return c.take(at)
}

// Gone takes over what only changes tell: restarts of pods that went between
// two grid points. It is called before Interval with the changes that the
// interval stands for.
func (c *Computer) Gone(changes []state.Change, now *state.Snapshot) {
	if !c.byCluster || now == nil || !now.Synced {
		return
	}
	for _, ch := range changes {
		p, ok := ch.Before.(*object.Pod)
		if q, is := ch.Now.(*object.Pod); is {
			p, ok = q, true
		}
		if ok && now.Pods[p.UID] == nil {
			c.noteRestart(p)
		}
	}
}

// Coverage tells of the last Interval what each source delivered.
func (c *Computer) Coverage() []Coverage { return c.coverage }

// Misfit says how often inputs did not fit in one way, in all Intervals so far.
func (c *Computer) Misfit(m Misfit) int { return c.misfits[m] }

// Has says whether the last Interval gave a sample of a metric.
func (c *Computer) Has(metric string) bool { return c.given[metric] }

// Unavailable names metrics that no source could fill in the last Interval, with
// the reason that a source gave.
func (c *Computer) Unavailable() map[string]string { return c.unavailable }

func (c *Computer) begin(onlyChanges bool) {
	c.pass++
	c.onlyChanges = onlyChanges
	c.out, c.touched = nil, c.touched[:0]
}

// finish ends what was not touched and gives the samples.
func (c *Computer) finish(at time.Time) []Sample {
	for k, e := range c.entities {
		c.settle(e)
		if e.pass != c.pass {
			c.forget(k)
		}
	}
	c.given = map[string]bool{}
	for i := range c.out {
		if !c.out[i].Stale() {
			c.given[c.out[i].Metric] = true
		}
	}
	for name := range c.unavailable {
		if c.given[name] {
			delete(c.unavailable, name)
		}
	}
	for k, n := range c.counters {
		if at.Sub(n.seen) > 10*time.Minute {
			delete(c.counters, k)
		}
	}
	for k, o := range c.ooms {
		if o.pass != c.pass && o.pass+20 < c.pass {
			delete(c.ooms, k)
		}
	}
	for k, h := range c.hists {
		if at.Sub(h.now.At) > 10*time.Minute {
			delete(c.hists, k)
		}
	}
	return c.take(at)
}

func (c *Computer) take(at time.Time) []Sample {
	for i := range c.out {
		c.out[i].At = at
	}
	slices.SortFunc(c.out, func(a, b Sample) int { return cmp.Compare(a.order, b.order) })
	c.out = succeeded(c.out)
	out := c.out
	c.out = nil
	if at.After(c.lastAt) {
		c.lastAt = at
	}
	return out
}

// succeeded leaves out the stale markers of series that go on: a StatefulSet's
// new pod has the name of the one before, and so the same labels. A series cannot
// hold both at one time.
func succeeded(samples []Sample) []Sample {
	ended := map[uint64][]int{}
	for i := range samples {
		if samples[i].Stale() {
			h := samples[i].Labels.Hash()
			ended[h] = append(ended[h], i)
		}
	}
	if len(ended) == 0 {
		return samples
	}
	goesOn := map[int]bool{}
	of, hash := ^uint64(0), uint64(0) // samples of one entity lie together
	for i := range samples {
		s := &samples[i]
		if s.Stale() {
			continue
		}
		if s.order>>8 != of {
			of, hash = s.order>>8, s.Labels.Hash()
		}
		for _, j := range ended[hash] {
			if samples[j].Metric == s.Metric && labels.Equal(samples[j].Labels, s.Labels) {
				goesOn[j] = true
			}
		}
	}
	if len(goesOn) == 0 {
		return samples
	}
	out := samples[:0]
	for i, s := range samples {
		if !goesOn[i] {
			out = append(out, s)
		}
	}
	return out
}

// key names an entity.
type key struct {
	level catalogue.Level
	id    string // UID of a pod, name of a node, namespace/type/name of a workload
	sub   string // container, mountpoint, phase …
	dim   dimension
}

// dimension tells apart the entities of one object that have labels of their own.
type dimension uint8

const (
	plain dimension = iota
	byMount
	byMissing
	byPhase
	byMember
	byReason
	byEnd
	byCondition
	byResource
	byVerbs
	byProbe
	byPeer
)

// entity is all series that share one set of labels.
type entity struct {
	level  catalogue.Level
	labels labels.Labels
	from   any    // the object that the labels were made of
	order  uint64 // place among all entities, by age
	pass   uint64 // of the last call that touched it
	sent   uint64 // slots with a series that has not been ended
	now    uint64 // slots that have one in this call
	wanted uint64 // slots that are computed at all
	values []slotValue
}

type slotValue struct {
	slot uint8
	v    float64
}

// entity finds or begins the entity of k. Labels are made anew only when it is
// made from another object than last time; if they differ, all series with the
// old ones end.
func (c *Computer) entity(k key, from any, make func(*labels.ScratchBuilder)) *entity {
	e := c.entities[k]
	if e != nil && e.from == from {
		c.touch(e)
		return e
	}
	c.scratch.Reset()
	make(&c.scratch)
	ls := c.scratch.Labels()
	if e == nil {
		c.began++
		e = &entity{level: k.level, order: c.began, labels: ls, wanted: c.masks[k.level]}
		c.entities[k] = e
		if k.level == catalogue.Pod || k.level == catalogue.Container {
			c.byPod[k.id] = append(c.byPod[k.id], k)
		}
	}
	if !labels.Equal(e.labels, ls) {
		c.end(e, e.sent)
		e.sent, e.now, e.values = 0, 0, nil
		e.labels = ls
	}
	e.from = from
	c.touch(e)
	return e
}

// forget takes an entity out, whose series have been ended.
func (c *Computer) forget(k key) {
	delete(c.entities, k)
	if keys, ok := c.byPod[k.id]; ok {
		if keys = slices.DeleteFunc(keys, func(o key) bool { return o == k }); len(keys) == 0 {
			delete(c.byPod, k.id)
		} else {
			c.byPod[k.id] = keys
		}
	}
}

// touch says that the object exists. In a call of Interval all its series have
// to be put or kept; in one of Changes what is not mentioned goes on.
func (c *Computer) touch(e *entity) {
	if e.pass == c.pass {
		return
	}
	e.pass, e.now = c.pass, 0
	if c.onlyChanges {
		e.now = e.sent
		c.touched = append(c.touched, e)
	}
}

// put gives one value of an entity.
func (c *Computer) put(e *entity, m *metric, v float64) {
	bit := uint64(1) << m.slot
	if e.wanted&bit == 0 {
		return
	}
	e.now |= bit
	if m.keeps {
		i := slices.IndexFunc(e.values, func(s slotValue) bool { return s.slot == m.slot })
		switch {
		case i < 0:
			e.values = append(e.values, slotValue{m.slot, v})
		case c.onlyChanges && e.values[i].v == v && e.sent&bit != 0:
			return
		default:
			e.values[i].v = v
		}
	}
	c.out = append(c.out, Sample{Metric: m.name, Labels: e.labels, V: v, order: e.order<<8 | uint64(m.slot)})
}

// keep says that the object is alive though there is no value now: its series
// has a gap, not an end.
func (e *entity) keep(ms ...*metric) {
	for _, m := range ms {
		e.now |= e.sent & e.wanted & (1 << m.slot)
	}
}

// settle ends the series that have no value in this call.
func (c *Computer) settle(e *entity) {
	if e.pass != c.pass {
		e.now = 0
	}
	c.end(e, e.sent&^e.now)
	e.sent = e.now
}

// end writes a stale marker to each of the slots' series.
func (c *Computer) end(e *entity, slots uint64) {
	for slot := uint8(0); slots != 0; slot, slots = slot+1, slots>>1 {
		if slots&1 == 0 {
			continue
		}
		c.out = append(c.out, Sample{Metric: table[e.level][slot].name, Labels: e.labels, V: math.Float64frombits(value.StaleNaN), order: e.order<<8 | uint64(slot)})
		e.values = slices.DeleteFunc(e.values, func(s slotValue) bool { return s.slot == slot })
	}
}

// round cuts a gauge to 11 significant bits, an error of at most 0.05 %: it is
// an average of counters, known no better, and costs half the space to store.
// Integers of up to 11 bits stay exact.
func round(v float64) float64 {
	const keep = 52 - 10
	b := math.Float64bits(v)
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return v
	}
	b += 1 << (keep - 1)
	b &^= 1<<keep - 1
	return math.Float64frombits(b)
}

func workloadKey(namespace string, ref object.WorkloadRef) key {
	return key{level: catalogue.Workload, id: namespace + "/" + ref.String()}
}
