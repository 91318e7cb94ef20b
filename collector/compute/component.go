package compute

import (
	"math"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/crowsnest-dev/crowsnest/collector/reading"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
)

// histogramKey names one histogram of one instance of a component.
type histogramKey struct{ component, instance, what string }

// histogramMemory is the last reading of a histogram and what it counted since
// the one before.
type histogramMemory struct {
	now    reading.Histogram
	counts []float64 // nil when that is not known
}

// VerbGroups are the groups of requests to the API server. WATCH and CONNECT
// last as long as their users want, so that their duration means nothing.
var VerbGroups = []string{"list", "read", "write"}

// components gives the control plane: each component as the best, or the worst,
// of its instances.
func (c *Computer) components(at time.Time, sets []reading.Set) {
	type state struct {
		ready                                    bool
		probe, cert                              figure
		requests, errors                         map[string]figure
		latency                                  map[string][]float64 // bucket counts, by verb group
		bounds                                   map[string][]float64
		database, leaders, fsync, pending, sched figure
	}
	all := map[string]*state{}
	for i := range sets {
		for j := range sets[i].Components {
			r := &sets[i].Components[j]
			s := all[r.Name]
			if s == nil {
				s = &state{requests: map[string]figure{}, errors: map[string]figure{}, latency: map[string][]float64{}, bounds: map[string][]float64{}}
				all[r.Name] = s
			}
			s.ready = s.ready || r.Ready
			if r.ProbeTook > 0 {
				s.probe.atMost(r.ProbeTook.Seconds())
			}
			if !r.CertExpires.IsZero() {
				s.cert.atMost(r.CertExpires.Sub(at).Hours() / 24)
			}
			rate := func(what counterKind, group string, v reading.Value) (float64, bool) {
				return c.note(counterKey{source: catalogue.Components, what: what, id: r.Name + "/" + r.Instance, sub: group}, "", v, at)
			}
			for group, v := range r.Requests {
				if per, ok := rate(requests, group, v); ok {
					s.requests[group] = figure{s.requests[group].v + per, true}
					bad, _ := rate(requestErrors, group, r.Errors[group])
					s.errors[group] = figure{s.errors[group].v + bad, true}
				}
			}
			for group, h := range r.Latency {
				if counts, ok := c.since(histogramKey{r.Name, r.Instance, group}, h); ok {
					s.bounds[group] = h.Bounds
					s.latency[group] = addTo(s.latency[group], counts)
				}
			}
			if c.young(r.DatabaseBytes, at) {
				s.database.atLeast(r.DatabaseBytes.V)
			}
			if c.young(r.LeaderChanges, at) {
				s.leaders.atLeast(r.LeaderChanges.V)
			}
			if c.young(r.PendingPods, at) {
				s.pending.atLeast(r.PendingPods.V)
			}
			if counts, ok := c.since(histogramKey{r.Name, r.Instance, "fsync"}, r.Fsync); ok {
				if v, ok := quantile(0.99, r.Fsync.Bounds, counts); ok {
					s.fsync.atLeast(v)
				}
			}
			if counts, ok := c.since(histogramKey{r.Name, r.Instance, "scheduling"}, r.Scheduling); ok {
				if v, ok := quantile(0.99, r.Scheduling.Bounds, counts); ok {
					s.sched.atLeast(v)
				}
			}
		}
	}
	for name, s := range all {
		e := c.entity(key{level: catalogue.Component, id: name}, name, func(b *labels.ScratchBuilder) { b.Add("component", name) })
		e.keep(componentProbe, componentCert, componentDatabase, componentLeaders, componentFsync, componentPending, componentScheduling)
		c.put(e, componentReady, boolean(s.ready))
		c.offer(e, componentProbe, s.probe, true)
		c.offer(e, componentCert, s.cert, true)
		c.offer(e, componentDatabase, s.database, false)
		c.offer(e, componentLeaders, s.leaders, false)
		c.offer(e, componentFsync, s.fsync, true)
		c.offer(e, componentPending, s.pending, false)
		c.offer(e, componentScheduling, s.sched, true)
		for _, group := range VerbGroups {
			per, ok := s.requests[group]
			if !ok && s.latency[group] == nil {
				continue
			}
			e := c.entity(key{level: catalogue.Component, id: name, sub: group, dim: byVerbs}, group, func(b *labels.ScratchBuilder) {
				b.Add("component", name)
				b.Add("verb_group", group)
			})
			e.keep(componentRequests, componentErrors, componentLatency)
			c.offer(e, componentRequests, per, true)
			if per.ok && per.v > 0 {
				c.offer(e, componentErrors, figure{min(100, 100*s.errors[group].v/per.v), true}, true)
			}
			if v, ok := quantile(0.99, s.bounds[group], s.latency[group]); ok {
				c.offer(e, componentLatency, figure{v, true}, true)
			}
		}
	}
}

func (f *figure) atMost(v float64) {
	if !f.ok || v < f.v {
		*f = figure{v, true}
	}
}

func (f *figure) atLeast(v float64) {
	if !f.ok || v > f.v {
		*f = figure{v, true}
	}
}

// since gives what a histogram counted between its last two different readings.
// The first reading, and one after a restart, give nothing.
func (c *Computer) since(k histogramKey, h reading.Histogram) (counts []float64, ok bool) {
	if h.At.IsZero() || len(h.Bounds) == 0 || len(h.Bounds) != len(h.Counts) {
		return nil, false
	}
	before, known := c.hists[k]
	if known && !h.At.After(before.now.At) {
		return before.counts, before.counts != nil
	}
	m := histogramMemory{now: h}
	if known && slices.Equal(before.now.Bounds, h.Bounds) {
		m.counts = make([]float64, len(h.Counts))
		for i := range m.counts {
			if m.counts[i] = h.Counts[i] - before.now.Counts[i]; m.counts[i] < 0 {
				m.counts = nil
				break
			}
		}
	}
	c.hists[k] = m
	return m.counts, m.counts != nil
}

func addTo(sum, part []float64) []float64 {
	if sum == nil {
		return slices.Clone(part)
	}
	for i := range min(len(sum), len(part)) {
		sum[i] += part[i]
	}
	return sum
}

// quantile reads a quantile from cumulative counts as histogram_quantile does:
// linear within a bucket, the highest finite bound where it lies above all.
func quantile(q float64, bounds, counts []float64) (v float64, ok bool) {
	n := len(counts)
	if n == 0 || n != len(bounds) || counts[n-1] <= 0 {
		return 0, false
	}
	rank := q * counts[n-1]
	i := slices.IndexFunc(counts, func(c float64) bool { return c >= rank })
	if i < 0 {
		return 0, false
	}
	if math.IsInf(bounds[i], 1) {
		if i == 0 {
			return 0, false
		}
		return bounds[i-1], true
	}
	low, below := 0.0, 0.0
	if i > 0 {
		low, below = bounds[i-1], counts[i-1]
	}
	if counts[i] == below {
		return bounds[i], true
	}
	return low + (bounds[i]-low)*(rank-below)/(counts[i]-below), true
}
