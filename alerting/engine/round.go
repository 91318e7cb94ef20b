package engine

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/evaluate"
	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/object"
)

// maxPoints of evidence.
const maxPoints = 60

// evaluate makes one round: every policy that the arrival concerns, on every
// object that it can concern.
func (e *Engine) evaluate(ctx context.Context, r round) {
	now := e.opts.Now()
	s, ok := e.admit(&r, now)
	if !ok {
		return
	}
	if _, known := e.clusters[r.source.cluster]; !known {
		e.reload(ctx, now) // it is new: its labels decide which policies are about it
	}
	e.metrics.rounds.WithLabelValues(r.trigger).Inc()
	policies := e.concerned(r, s)
	if len(policies) == 0 {
		return
	}
	w := want{}
	for _, c := range policies {
		for i, cond := range c.conditions {
			back := c.span(i, r.interval)
			if c.rule.NoData == policy.NoDataAlert {
				// What fell silent must be found, also after we were away.
				back = max(back, c.rule.NoDataAfter+10*r.interval, e.opts.Now().Sub(e.born.Add(-time.Hour)))
				back = min(back, max(c.span(i, r.interval), evaluate.NoDataLimit))
			}
			w.add(cond.Metric, back)
		}
	}
	data, err := e.read(ctx, r, s, w)
	if err != nil {
		if ctx.Err() == nil {
			e.report("read", "read samples", err)
		}
		return
	}
	e.report("read", "read samples", nil)
	var changed, quiet []*incident.Alert
	for _, c := range policies {
		ch, qu := e.judge(r, s, c, data, now)
		changed, quiet = append(changed, ch...), append(quiet, qu...)
		e.view.evaluated(c.ref.ID, r.source.cluster, r.at)
	}
	began := len(changed) > 0
	if !e.commit(ctx, now, changed, quiet) {
		return
	}
	done := e.opts.Now()
	took := done.Sub(now)
	e.metrics.took.Observe(took.Seconds())
	if took > slowRound {
		e.metrics.slow.Inc()
		e.log.Warn("slow evaluation", "cluster", r.source.cluster, "sender", r.source.sender, "policies", len(policies), "took_seconds", took.Seconds())
	}
	if began {
		e.metrics.delay.Observe(done.Sub(r.received).Seconds())
	}
}

// admit notes that a source is alive and says whether its arrival is to be
// evaluated, and for what time.
func (e *Engine) admit(r *round, now time.Time) (scope, bool) {
	src := e.sources[r.source]
	if src == nil {
		src = &source{interval: defaultInterval}
		e.sources[r.source] = src
	}
	if r.received.After(src.seen) {
		src.seen = r.received
	}
	s := scope{places: []catalogue.Place{catalogue.ByServer}}
	if r.trigger == triggerRollup {
		r.interval = e.clusterInterval(r.source.cluster)
		src.interval = r.interval
	} else {
		s, _ = scopeOf(r.source.sender)
		if r.interval > 0 {
			src.interval = r.interval
		}
		r.interval = src.interval
		e.view.interval(r.source.cluster, r.source.sender, src.interval)
	}
	if r.trigger == triggerChange {
		src.changeAt = now
		s.changes = true
	}
	if now.Sub(r.at) > maxLate || r.at.Sub(now) > maxAhead {
		e.metrics.skipped.WithLabelValues("late").Inc()
		return s, false
	}
	switch {
	case r.at.After(src.at):
		src.at = r.at
	case r.trigger == triggerInterval && s.node == "" && src.at.Sub(r.at) < src.interval:
		// A change was evaluated a moment after the grid point: time never goes
		// back, so this one is evaluated as of the change.
		r.at = src.at
	default:
		e.metrics.skipped.WithLabelValues("order").Inc()
		return s, false
	}
	return s, true
}

// clusterInterval is that of the cluster's collectors; the longest counts,
// since all must have reported.
func (e *Engine) clusterInterval(cluster string) time.Duration {
	var out time.Duration
	for key, s := range e.sources {
		if key.cluster == cluster && key.sender != senderRollup {
			out = max(out, s.interval)
		}
	}
	if out == 0 {
		return defaultInterval
	}
	return out
}

// concerned gives the policies that a round evaluates.
func (e *Engine) concerned(r round, s scope) []*compiled {
	var out []*compiled
	for _, c := range e.policies {
		if c.concerns(s) && c.selection.Cluster(r.source.cluster, e.clusterLabels(r.source.cluster)) && c.misfit(r.interval) == "" {
			out = append(out, c)
		}
	}
	return out
}

func (e *Engine) clusterLabels(cluster string) map[string]string { return e.clusters[cluster].Labels }

// judge asks the step about every subject of a policy: those with samples, and
// those that fire. changed alerts are told about, quiet ones only stored.
func (e *Engine) judge(r round, s scope, c *compiled, data readings, now time.Time) (changed, quiet []*incident.Alert) {
	subjects := map[subject]*incident.Alert{}
	for _, cond := range c.conditions {
		if len(c.dimensions) > 0 && len(cond.metric.Dimensions) == 0 {
			continue // it is looked up for each subject of the others
		}
		for sub := range data.metrics[cond.Metric] {
			dims := parseDimensions(sub.dimensions)
			if cond.WhereMatches(func(k string) string { return dims[k] }) {
				subjects[sub] = nil
			}
		}
	}
	for key, a := range e.alerts {
		if key.policy != c.ref.ID || key.cluster != r.source.cluster {
			continue
		}
		if s.node != "" && a.Object.Node != s.node {
			continue // its samples were not read
		}
		subjects[subjectOf(a)] = a
	}
	for _, sub := range slices.SortedFunc(maps.Keys(subjects), compareSubjects) {
		a := subjects[sub]
		if ended, ok := e.ended[alertKey{c.ref.ID, r.source.cluster, sub.key(c.level)}]; a == nil && ok && !r.at.After(ended) {
			continue // nothing older than an end may fire
		}
		next, loud := e.judgeOne(r, s, c, sub, a, data, now)
		switch {
		case next == nil:
		case loud:
			changed = append(changed, next)
		default:
			quiet = append(quiet, next)
		}
	}
	return changed, quiet
}

func compareSubjects(a, b subject) int {
	if a.object != b.object {
		return strings.Compare(a.object, b.object)
	}
	return strings.Compare(a.dimensions, b.dimensions)
}

// subjectOf is the inverse of subject.key.
func subjectOf(a *incident.Alert) subject {
	_, rest, _ := strings.Cut(a.Key, " ")
	obj, dims, _ := strings.Cut(rest, "|")
	return subject{obj, dims}
}

// judgeOne asks the step about one subject. It gives the alert to store, nil
// when there is none, and whether people may have to be told.
func (e *Engine) judgeOne(r round, s scope, c *compiled, sub subject, a *incident.Alert, data readings, now time.Time) (next *incident.Alert, loud bool) {
	e.metrics.judged.Inc()
	f := e.find(r.source.cluster, c, sub, a, r.at)
	if a == nil && (f.gone != "" || f.unknown) {
		return nil, false
	}
	if f.unknown {
		return nil, false // the inventory is not complete: what is not there may exist
	}
	in := evaluate.Input{At: r.at, Gone: f.gone, Interval: r.interval}
	samples := make([][]evaluate.Sample, len(c.conditions))
	if f.gone == "" {
		for i, cond := range c.conditions {
			at := sub
			if len(cond.metric.Dimensions) == 0 {
				at.dimensions = ""
			}
			if !f.lacks[i] {
				samples[i] = data.of(cond, c.rule.Conditions[i], at)
			}
			in.Windows = append(in.Windows, cond.series(r.interval, f.created, c.spec.MinAge.D()).Windows(r.at, c.rule.Reach(i), samples[i]))
		}
		in.Newest = e.newest(r, c, f, samples)
	}
	var before evaluate.State
	if a != nil {
		before = a.State
	}
	state, cause := before.Step(&c.rule, in)
	rank := state.Rank(c.rule.NoDataRank)
	if a == nil {
		if rank == 0 {
			return nil, false
		}
		a := &incident.Alert{ID: incident.NewID("alt_", now), Key: sub.key(c.level), Firing: true, StartedAt: r.at, Data: incident.Data{Dimensions: parseDimensions(sub.dimensions)}}
		e.describe(a, r, s, c, f, state, in, samples)
		return a, true
	}
	after := *a
	if cause != "" {
		if (cause == evaluate.ValueNormal || cause == evaluate.NotSelected) && a.Policy.Revision != c.ref.Revision {
			cause = evaluate.PolicyChanged
		}
		e.describeEnd(&after, c, state, in, samples, cause)
		return &after, true
	}
	if rank == 0 { // it did not end, yet nothing is closed: an older input
		return nil, false
	}
	e.describe(&after, r, s, c, f, state, in, samples)
	if after.Severity != a.Severity || after.Policy.Revision != a.Policy.Revision || after.Stale != a.Stale {
		return &after, true
	}
	if state.Latches != a.State.Latches || state.Silent != a.State.Silent || now.Sub(e.savedAt[a.ID]) >= saveEvery {
		return &after, false
	}
	e.alerts[keyOf(&after)] = &after // only values moved on; the next start can do without
	return nil, false
}

// newest is the time of the newest sample that counts for "no data". A
// condition whose source is silent has no say: that is its source's failure,
// not the object's.
func (e *Engine) newest(r round, c *compiled, f found, samples [][]evaluate.Sample) time.Time {
	var out time.Time
	for i, cond := range c.conditions {
		if f.lacks[i] {
			continue
		}
		var t time.Time
		for _, s := range slices.Backward(samples[i]) {
			if !s.Stale() {
				t = time.UnixMilli(s.T).UTC()
				break
			}
		}
		if e.silentPlace(r.source.cluster, cond.metric.Place, f.object.Node, r.received) {
			t = r.at
		}
		switch {
		case t.IsZero() && !c.rule.Any:
			return time.Time{}
		case out.IsZero(), c.rule.Any && t.After(out), !c.rule.Any && t.Before(out):
			out = t
		}
	}
	return out
}

// silentPlace tells whether whoever computes metrics at a place is silent.
func (e *Engine) silentPlace(cluster string, place catalogue.Place, node string, now time.Time) bool {
	senders := []string{"all"}
	switch place {
	case catalogue.ByNode:
		senders = append(senders, "node/"+node)
	case catalogue.ByCluster:
		senders = append(senders, "cluster")
	case catalogue.ByServer:
		senders = []string{senderRollup}
	}
	for _, s := range senders {
		if src, ok := e.sources[sourceKey{cluster, s}]; ok && !src.silent(now) {
			return false
		}
	}
	return true
}

func (s *source) silent(now time.Time) bool { return now.Sub(s.seen) > missedIntervals*s.interval }

// describe fills what follows from a judgement of an alert that fires.
func (e *Engine) describe(a *incident.Alert, r round, s scope, c *compiled, f found, state evaluate.State, in evaluate.Input, samples [][]evaluate.Sample) {
	rank := state.Rank(c.rule.NoDataRank)
	a.Severity = catalogue.Severities[rank-1]
	a.Policy, a.Labels, a.Targets, a.Group = c.ref, c.labels, c.targets, c.group
	a.Object, a.UID, a.State, a.Stale = f.object, f.uid, state, false
	a.Desired, a.Rollout = f.desired, f.rollout
	if slices.Contains(s.places, c.conditions[0].metric.Place) {
		a.Sender = r.source.sender
	}
	onlySilent := state.Silent.Closed && !slices.ContainsFunc(state.Latches[:], func(l evaluate.Latch) bool { return l.Closed })
	a.Conditions = conditionsView(c, rank, in.Windows)
	a.Title, a.Explanation = title(c, rank, in, state, onlySilent), explain(c, rank, in, state, onlySilent)
	a.Series = points(samples[0])
	a.Annotations = annotate(c, a)
}

// describeEnd fills what follows from an end.
func (e *Engine) describeEnd(a *incident.Alert, c *compiled, state evaluate.State, in evaluate.Input, samples [][]evaluate.Sample, cause evaluate.Cause) {
	a.Firing, a.EndedAt, a.Cause, a.State, a.Stale = false, in.At, cause, state, false
	a.Explanation = explainEnd(c, a, in, cause)
	if c != nil && len(in.Windows) > 0 {
		a.Conditions = conditionsView(c, a.Severity.Rank(), in.Windows)
		a.Series = points(samples[0])
		a.Annotations = annotate(c, a)
	}
}

func points(samples []evaluate.Sample) []incident.Point {
	var out []incident.Point
	for _, s := range slices.Backward(samples) {
		if s.Stale() {
			continue
		}
		if out = append(out, incident.Point{T: time.UnixMilli(s.T).UTC(), V: s.V}); len(out) == maxPoints {
			break
		}
	}
	return out
}

// found is what the inventory says of a subject.
type found struct {
	object  incident.Object
	uid     string
	created time.Time
	gone    evaluate.Cause // not empty: it is not judged, and why
	unknown bool           // the inventory cannot say
	lacks   []bool         // by condition: the object does not have the metric now
	desired int            // replicas of its workload
	rollout string         // revision of its workload's template
}

// find asks the inventory about a subject: does it exist, is it selected, and
// which of the policy's metrics does it have.
func (e *Engine) find(cluster string, c *compiled, sub subject, a *incident.Alert, at time.Time) found {
	f := found{object: incident.Object{Level: c.level, Cluster: cluster}, lacks: make([]bool, len(c.conditions))}
	if c.level == catalogue.Cluster {
		return f
	}
	key, container, ok := objectKey(c.level, sub.object)
	if !ok {
		f.unknown = true
		return f
	}
	o, exists := e.opts.Inventory.Get(cluster, key)
	if !exists {
		if info, ok := e.opts.Inventory.Info(cluster); !ok || !info.Synced {
			f.unknown = true
			return f
		}
		f.gone = e.goneCause(cluster, key, a)
		return f
	}
	m := o.GetMeta()
	f.uid, f.created = m.UID, m.CreatedAt
	e.fill(&f, cluster, o, container)
	if a != nil && a.UID != "" && a.UID != m.UID {
		f.gone = e.goneCause(cluster, key, a) // another object has its name now
		return f
	}
	if !c.selection.Object(o, container) {
		f.gone = evaluate.NotSelected
		return f
	}
	if a == nil && at.Before(m.CreatedAt.Add(c.spec.MinAge.D())) {
		f.unknown = true // too young to be judged
		return f
	}
	f.gone = e.judgeable(&f, cluster, c, o, container, a)
	return f
}

// fill names the object for people and receivers.
func (e *Engine) fill(f *found, cluster string, o object.Object, container string) {
	m := o.GetMeta()
	switch o := o.(type) {
	case *object.Node:
		f.object.Node = m.Name
	case *object.Workload:
		f.object.Namespace, f.object.WorkloadType, f.object.Workload = m.Namespace, o.Ref.Type, o.Ref.Name
		f.desired, f.rollout = o.Desired, o.Revision
	case *object.Pod:
		f.object.Namespace, f.object.Pod, f.object.Container, f.object.Node = m.Namespace, m.Name, container, o.Node
		f.object.WorkloadType, f.object.Workload = o.Workload.Type, o.Workload.Name
		if w, ok := e.workload(cluster, m.Namespace, o.Workload); ok {
			f.desired, f.rollout = w.Desired, w.Revision
		}
	}
}

func (e *Engine) workload(cluster, namespace string, ref object.WorkloadRef) (*object.Workload, bool) {
	o, ok := e.opts.Inventory.Get(cluster, object.Key{Kind: object.KindWorkload, Namespace: namespace, Name: ref.String()})
	if !ok {
		return nil, false
	}
	w, ok := o.(*object.Workload)
	return w, ok
}

// judgeable notes which metrics the object does not have now, and gives the
// cause when it has none that could be judged.
func (e *Engine) judgeable(f *found, cluster string, c *compiled, o object.Object, container string, a *incident.Alert) evaluate.Cause {
	var causes []evaluate.Cause
	for i, cond := range c.conditions {
		cause := e.lacks(cluster, cond.metric, o, container, a)
		f.lacks[i] = cause != ""
		if f.lacks[i] {
			causes = append(causes, cause)
		}
	}
	// Under all, one condition without a value can never hold; under any, it
	// takes all of them to be without.
	if len(causes) == len(c.conditions) || (len(causes) > 0 && !c.rule.Any) {
		return causes[0]
	}
	return ""
}

// lacks says why an object that exists does not have a metric; empty: it has.
func (e *Engine) lacks(cluster string, m catalogue.Metric, o object.Object, container string, a *incident.Alert) evaluate.Cause {
	switch o := o.(type) {
	case *object.Workload:
		if m.Place == catalogue.ByServer && o.Ref.Type == "job" && jobDone(o) {
			return evaluate.ObjectFinished
		}
	case *object.Pod:
		// Counts of what happened stay true; usage and readiness of what has
		// ended, or is about to, do not exist.
		if m.Kind != catalogue.Counter {
			switch {
			case o.Ended():
				return evaluate.ObjectFinished
			case o.Terminating:
				return e.replacedCause(cluster, o.Namespace, o.Workload, a)
			}
		}
		switch m.Name {
		case catalogue.PodCPULimitPercent:
			if !o.Limits.HasCPU {
				return evaluate.NotApplicable
			}
		case catalogue.PodMemLimitPercent:
			if !o.Limits.HasMemory {
				return evaluate.NotApplicable
			}
		case catalogue.PodNetworkReceive, catalogue.PodNetworkTransmit:
			if o.HostNetwork {
				return evaluate.NotApplicable
			}
		}
		if m.Level == catalogue.Container {
			i := slices.IndexFunc(o.Containers, func(c object.Container) bool { return c.Name == container })
			switch {
			case i < 0:
				return evaluate.ObjectDeleted
			case o.Containers[i].State == "terminated":
				return evaluate.ObjectFinished
			}
		}
	}
	return ""
}

// jobDone: a Job that wants no more pods.
func jobDone(w *object.Workload) bool { return !w.Paused && w.Desired == 0 }

// goneCause says how an object that fired came to be gone.
func (e *Engine) goneCause(cluster string, key object.Key, a *incident.Alert) evaluate.Cause {
	if a == nil || key.Kind != object.KindPod {
		return evaluate.ObjectDeleted
	}
	if t, ok := e.opts.Inventory.Gone(cluster, key); ok {
		if p, ok := t.Last.(*object.Pod); ok && p.UID == a.UID && p.Ended() {
			return evaluate.ObjectFinished
		}
	}
	return e.replacedCause(cluster, a.Object.Namespace, object.WorkloadRef{Type: a.Object.WorkloadType, Name: a.Object.Workload}, a)
}

// replacedCause says why a workload lets a pod go.
func (e *Engine) replacedCause(cluster, namespace string, ref object.WorkloadRef, a *incident.Alert) evaluate.Cause {
	w, ok := e.workload(cluster, namespace, ref)
	switch {
	case !ok || a == nil:
		return evaluate.ObjectDeleted
	case a.Rollout != "" && w.Revision != a.Rollout:
		return evaluate.WorkloadReplaced
	case w.Desired < a.Desired:
		return evaluate.ScaledDown
	}
	return evaluate.ObjectDeleted
}
