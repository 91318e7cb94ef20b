package ingest

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Kinds of origins, as the API names them.
const (
	originMetric    = "metric"
	originNamespace = "namespace"
	originWorkload  = "workload"
)

// Churn is counted over an hour, by parts that are dropped one by one.
const (
	churnParts = 6
	churnPart  = 10 * time.Minute
)

// origin counts the series of a metric, a namespace or a workload.
type origin struct {
	id     originID
	kind   string
	name   string  // "shop", "shop/deployment/cart", or the metric's
	parent *origin // a workload's namespace
	active atomic.Int64
	due    atomic.Int64 // Unix nanoseconds by which its samples would have come at its rate
	odd    atomic.Pointer[watchedOrigin]

	// Guarded by the origins' lock: series that were new, by part.
	born    [churnParts]uint32
	part    int64 // newest one
	touched int64 // the part in which it was asked for last
}

// rateOf asks for one sample of a workload and of its namespace. It gives the
// reason and whose rate is used up.
func rateOf(owner *origin, now time.Time, l *Limits) (reason string, over *origin) {
	for o := owner; o != nil; o = o.parent {
		perSecond, why := l.SamplesPerNamespace, reasonNamespaceRate
		if o.kind == originWorkload {
			perSecond, why = l.SamplesPerWorkload, reasonWorkloadRate
		}
		if perSecond > 0 && !o.take(now, perSecond) {
			if o != owner && l.SamplesPerWorkload > 0 {
				owner.due.Add(-int64(time.Second) / int64(l.SamplesPerWorkload)) // it was not used
			}
			return why, o
		}
	}
	return "", nil
}

// take asks for one sample: each moves the time on by which they were due, which
// may be ahead of now by the burst.
func (g *origin) take(now time.Time, perSecond int) bool {
	at, each := now.UnixNano(), int64(time.Second)/int64(perSecond)
	for {
		due := g.due.Load()
		from := max(due, at)
		if from-at >= int64(rateBurst*time.Second) {
			return false
		}
		if g.due.CompareAndSwap(due, from+each) {
			return true
		}
	}
}

// origins of a cluster. There are at most a few for each active series.
type origins struct {
	mu   sync.Mutex
	byID map[originID]*origin
}

type originID struct{ kind, namespace, name string }

func partOf(now time.Time) int64 { return now.UnixNano() / int64(churnPart) }

// of gives the origins of a series. Those that get none are given back by
// unused.
func (o *origins) of(now time.Time, metric, namespace, workloadType, workload string) (m, owner *origin) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.byID == nil {
		o.byID = map[originID]*origin{}
	}
	part := partOf(now)
	get := func(id originID, name string, parent *origin) *origin {
		g := o.byID[id]
		if g == nil {
			g = &origin{id: id, kind: id.kind, name: name, parent: parent, part: part}
			o.byID[id] = g
		}
		g.touched = part
		return g
	}
	m = get(originID{originMetric, "", metric}, metric, nil)
	if namespace == "" {
		return m, nil
	}
	owner = get(originID{originNamespace, "", namespace}, namespace, nil)
	if workload != "" {
		name := workloadType + "/" + workload
		owner = get(originID{originWorkload, namespace, name}, namespace+"/"+name, owner)
	}
	return m, owner
}

// created counts a new series.
func (o *origins) created(now time.Time, s *series) {
	o.mu.Lock()
	defer o.mu.Unlock()
	part := partOf(now)
	s.metric.bear(part)
	for g := s.owner; g != nil; g = g.parent {
		g.bear(part)
	}
}

func (g *origin) bear(part int64) {
	g.turn(part)
	g.born[g.part%churnParts]++
}

// unused forgets the origins of a series that was refused, where they have no
// other, so that refused names take no memory.
func (o *origins) unused(now time.Time, s *series) {
	o.mu.Lock()
	defer o.mu.Unlock()
	part := partOf(now)
	drop := func(g *origin) {
		if g.active.Load() == 0 && g.churn(part) == 0 && o.byID[g.id] == g {
			delete(o.byID, g.id)
		}
	}
	drop(s.metric)
	for g := s.owner; g != nil; g = g.parent {
		drop(g)
	}
}

// turn drops the parts that are over an hour old.
func (g *origin) turn(part int64) {
	for n := 0; g.part < part && n < churnParts; n++ {
		g.part++
		g.born[g.part%churnParts] = 0
	}
	g.part = max(g.part, part)
}

func (g *origin) churn(part int64) (n int64) {
	g.turn(part)
	for _, b := range g.born {
		n += int64(b)
	}
	return n
}

// sweep forgets origins without series and churn. A workload goes before its
// namespace, which has at least its series.
func (o *origins) sweep(now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	part := partOf(now)
	for id, g := range o.byID {
		// One asked for just now may be about to get its first series.
		if g.active.Load() == 0 && g.churn(part) == 0 && g.touched < part-1 {
			delete(o.byID, id)
		}
	}
}

// Origin is where series come from: a metric's name, a namespace, or a workload
// as namespace/type/name.
type Origin struct {
	Name   string
	Series int64 // active now
	Churn  int64 // new in the last hour
}

// top lists the n origins of a kind with the most series, or the most churn.
func (o *origins) top(kind string, n int, now time.Time, byChurn bool) []Origin {
	o.mu.Lock()
	defer o.mu.Unlock()
	part := partOf(now)
	out := []Origin{}
	for id, g := range o.byID {
		if id.kind == kind {
			out = append(out, Origin{g.name, g.active.Load(), g.churn(part)})
		}
	}
	slices.SortFunc(out, func(a, b Origin) int {
		by := cmp.Compare(b.Series, a.Series)
		if byChurn {
			by = cmp.Compare(b.Churn, a.Churn)
		}
		return cmp.Or(by, cmp.Compare(a.Name, b.Name))
	})
	return slices.Clone(out[:min(n, len(out))])
}
