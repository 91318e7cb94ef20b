package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/evaluate"
	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// maxPoints of evidence.
const maxPoints = 60

// evaluate makes one round: every policy that the arrival concerns, on every
// object that it can concern. Several arrivals are those of nodes that are judged together.
func (e *Engine) evaluate(ctx context.Context, rounds ...round) {
	now, began := e.opts.Now(), time.Now()
	var r round
	var s scope
	var known judged // by the one that is furthest behind
	admitted := rounds[:0]
	for _, one := range rounds {
		e.disturb(one.source)
		of, ok := e.admit(&one, now)
		if !ok {
			if one.trigger == triggerInterval && of.whole() { // what it brought is there all the same
				e.hear(one.source, news{untold: one.at.UnixMilli()})
			}
			continue
		}
		before := e.sources[one.source].judged
		if admitted = append(admitted, one); len(admitted) == 1 {
			r, s, known = one, of, before
			continue
		}
		known = judged{earlier(known.through, before.through), min(known.generation, before.generation)}
		r.received = later(r.received, one.received)
		s.nodes = append(s.nodes, of.nodes...)
	}
	if len(admitted) == 0 {
		return
	}
	slices.Sort(s.nodes)
	if _, known := e.clusters[r.source.cluster]; !known {
		e.reload(ctx, now) // it is new: its labels decide which policies are about it
	}
	e.metrics.rounds.WithLabelValues(r.trigger).Add(float64(len(admitted)))
	policies := e.concerned(r, s)
	e.memory.policies = policies
	counts := e.counted(r, s)
	if len(policies)+len(counts) == 0 {
		return
	}
	e.view.begins(r.source.cluster, r.at)
	ct := e.court(r, s, policies)
	about, left := e.fewOf(r, s, ct, policies)
	if about == nil {
		left = e.resting(r, s, policies)
		e.unrest(r) // until all of it was judged
	}
	ct.rests = left
	w := newWant()
	for _, c := range policies {
		var least time.Duration
		if c.rule.NoData == policy.NoDataAlert {
			least = e.lookBack(c, r, known, now)
		}
		w.add(c, r.interval, least)
	}
	e.memory.begin(now)
	defer e.memory.release()
	ct.known = e.memory.known
	rd := reader{queryable: e.opts.Queryable, promql: e.promql, cluster: r.source.cluster, on: onNodes(s.nodes), few: about, memory: e.memory}
	data, err := rd.read(ctx, r.at, w)
	if err != nil {
		if ctx.Err() == nil {
			e.report("read", "read samples", err)
		} else {
			e.leaveOut(admitted...)
		}
		return
	}
	e.report("read", "read samples", nil)
	if len(policies) >= indexFrom {
		e.beginRosters(ct)
		ct.index = newIndex(ct, data, policies, e.rosterOf(ct), e.heldOn(r.source.cluster))
	}
	var changed, quiet []*incident.Alert
	for _, c := range policies {
		ch, qu, n, err := e.judge(ct, r, s, c, data, now)
		changed, quiet = append(changed, ch...), append(quiet, qu...)
		if about != nil {
			n = someSubjects
		}
		e.view.evaluated(c.ref.ID, r.source.cluster, r.at, n, err)
	}
	for _, c := range counts {
		if a := e.judgeCount(r, c, selected(e.opts.Inventory, c, r.source.cluster), now); a != nil {
			changed = append(changed, a)
		}
	}
	if r.trigger == triggerChange {
		e.sources[r.source].changeTook = time.Since(began)
	}
	tells := len(changed) > 0
	if !e.commit(ctx, now, changed, quiet) {
		if ctx.Err() != nil {
			e.leaveOut(admitted...)
		}
		return
	}
	e.rested(r, left)
	if about == nil && (r.trigger == triggerInterval || r.trigger == triggerRollup) {
		for _, one := range admitted {
			e.sources[one.source].judged = judged{one.at, e.generation}
		}
	}
	e.view.ended(r.source.cluster, r.at)
	done := e.opts.Now()
	took := done.Sub(now)
	e.metrics.took.Observe(took.Seconds())
	if took > slowRound {
		e.metrics.slow.Inc()
		e.log.Warn("slow evaluation", "cluster", r.source.cluster, "sender", r.source.sender, "senders", len(admitted), "policies", len(policies), "took_seconds", took.Seconds())
	}
	if tells {
		first := slices.MinFunc(admitted, func(a, b round) int { return a.received.Compare(b.received) })
		e.metrics.delay.Observe(done.Sub(first.received).Seconds())
	}
}

// slack is how many intervals further back than it must a judgement looks for what fell silent:
// the evidence of what fires is of these.
const slack = maxPoints

// lookBack is how far back a round looks for what fell silent: what did before all of its source
// was judged last was found then. What was not judged yet, or not by this policy, must be found
// also after we were away.
func (e *Engine) lookBack(c *compiled, r round, known judged, now time.Time) time.Duration {
	// What is younger than minAge was not judged: it may have fallen silent since it came.
	back := max(c.rule.NoDataAfter, c.spec.MinAge.D()) + slack*r.interval
	if known.through.IsZero() || c.generation > known.generation || c.promql() {
		back = max(back, now.Sub(e.born.Add(-time.Hour)))
	} else {
		back += r.at.Sub(known.through)
	}
	back += e.skew(r.at.Add(-back), r.at) // an hour that never was hides nothing
	return min(evaluate.NoDataLimit, back)
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
	switch r.trigger {
	case triggerOverdue:
		return scope{places: []catalogue.Place{byExpression}}, e.admitExpressions(*r)
	case triggerRollup:
		r.interval = e.clusterInterval(r.source.cluster)
		src.interval = r.interval
	default:
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
	late := now.Sub(r.at) > maxLate
	if !late && r.at.After(src.trail.newest) && src.trail.count > 0 {
		trailed := src.trail.trails()
		if src.trail = (trail{}); trailed {
			e.countTrailing()
		}
	}
	if (late && !e.trails(src, *r, now)) || r.at.Sub(now) > maxAhead {
		e.metrics.skipped.WithLabelValues("late").Inc()
		e.journal(*r, meta.ReasonLate)
		return s, false
	}
	switch {
	case r.at.After(src.at):
		src.at = r.at
		e.view.arrived(r.source.cluster, r.at)
	case r.trigger == triggerInterval && s.whole() && src.at.Sub(r.at) < src.interval:
		// A change was evaluated a moment after the grid point: time never goes
		// back, so this one is evaluated as of the change.
		r.at = src.at
	default:
		e.metrics.skipped.WithLabelValues("order").Inc()
		if r.at.Before(src.at) {
			e.journal(*r, "order")
		}
		return s, false
	}
	if r.trigger == triggerRollup {
		if e.admitExpressions(*r) {
			s.places = append(s.places, byExpression)
		} else {
			e.missedExpressions(*r)
		}
	}
	return s, true
}

// trails notes a late arrival and says whether it is to be evaluated all the
// same, as its sender is never less late.
func (e *Engine) trails(src *source, r round, now time.Time) bool {
	before := src.trail.trails()
	trails := src.trail.follows(r.at, now, r.interval)
	if src.trail.trails() != before {
		e.countTrailing()
	}
	if trails && !before {
		e.log.Warn("a sender is always late: its policies are evaluated as of its own time; look at its clock and its way here",
			"cluster", r.source.cluster, "sender", r.source.sender, "late_seconds", now.Sub(r.at).Seconds())
	}
	return trails
}

func (e *Engine) countTrailing() {
	n := 0
	for _, s := range e.sources {
		if s.trail.trails() {
			n++
		}
	}
	e.metrics.trailing.Set(float64(n))
}

// clusterInterval is that of the cluster's collectors; the longest counts,
// since all must have reported.
func (e *Engine) clusterInterval(cluster string) time.Duration {
	var out time.Duration
	for key, s := range e.sources {
		if key.cluster == cluster && key.sender != senderRollup && key.sender != senderExpression {
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
	out, of := e.memory.policies[:0], e.clusterLabels(r.source.cluster)
	for _, c := range e.policies {
		if c.concerns(s) && c.selection.Cluster(r.source.cluster, of) && c.misfit(r.interval) == "" {
			out = append(out, c)
		}
	}
	return out
}

// remembered gives the alerts of a cluster that are remembered: of other subjects
// nobody need ask.
func (e *Engine) remembered(cluster string) map[string]map[subject]bool {
	out := e.memory.remembered
	for id, subjects := range out {
		if len(subjects) == 0 {
			delete(out, id)
		}
		clear(subjects)
	}
	note := func(key alertKey) {
		if key.cluster != cluster || isCount(key.key) {
			return
		}
		of := out[key.policy]
		if of == nil {
			of = map[subject]bool{}
			out[key.policy] = of
		}
		of[parseSubject(key.key)] = true
	}
	for key := range e.ended {
		note(key)
	}
	for key := range e.changes {
		note(key)
	}
	for key := range e.muzzled {
		note(key)
	}
	return out
}

// rosterOf gives what is remembered of a cluster's objects, level by level.
func (e *Engine) rosterOf(ct *court) func(catalogue.Level) *roster {
	return func(level catalogue.Level) *roster {
		key := rosterKey{ct.cluster, level}
		r := e.rosters[key]
		if r == nil {
			r = newRoster()
			e.rosters[key] = r
		}
		return r
	}
}

// beginRosters begins a round. What is gone is forgotten; numbers change by it, so it
// comes before the round uses any.
func (e *Engine) beginRosters(ct *court) {
	for key, r := range e.rosters {
		if key.cluster == ct.cluster {
			r.begin(func(n named) bool { return ct.look(subject{level: n.level, object: n.name}).object != nil })
		}
	}
}

// heldOn gives the subjects of a cluster whose alerts were ended by hand, by policy.
func (e *Engine) heldOn(cluster string) map[string][]subject {
	out := map[string][]subject{}
	for key := range e.muzzled {
		if key.cluster == cluster {
			out[key.policy] = append(out[key.policy], parseSubject(key.key))
		}
	}
	return out
}

func (e *Engine) clusterLabels(cluster string) map[string]string { return e.clusters[cluster].Labels }

// court is where a round's objects are judged, until the next round's. A round of nodes has
// only the alerts of these, of policies whose objects lie on nodes.
func (e *Engine) court(r round, s scope, policies []*compiled) *court {
	firing := e.memory.firing
	for id, alerts := range firing {
		if len(alerts) == 0 {
			delete(firing, id)
			continue
		}
		clear(alerts)
		firing[id] = alerts[:0]
	}
	elsewhere := map[string]bool{} // policies of which the others are asked for, too
	for _, c := range policies {
		if !s.whole() && !c.onNodes {
			elsewhere[c.ref.ID] = true
		}
	}
	for key, a := range e.alerts {
		if key.cluster == r.source.cluster && (s.on(a.Object.Node) || elsewhere[key.policy]) {
			firing[key.policy] = append(firing[key.policy], a)
		}
	}
	return &court{
		firing: firing, remembered: e.remembered(r.source.cluster), skew: e.skew, known: map[named]known{},
		inventory: e.opts.Inventory, cluster: r.source.cluster, at: r.at, interval: r.interval,
		silent: func(place catalogue.Place, node string) bool {
			return e.silentPlace(r.source.cluster, place, node, r.received)
		},
	}
}

// judge asks the step about every subject of a policy: those with values, and
// those that fire. changed alerts are told about, quiet ones only stored.
// subjects is how many were judged; an error is the policy's own.
func (e *Engine) judge(ct *court, r round, s scope, c *compiled, data readings, now time.Time) (changed, quiet []*incident.Alert, subjects int, err error) {
	if err := data.exprError(c); err != nil {
		e.metrics.failures.WithLabelValues("read").Inc()
		return nil, nil, 0, err
	}
	found := &e.memory.found
	c.subjects(data, ct.index, found)
	subjects = found.len()
	firing := map[subject]*incident.Alert{}
	for _, a := range ct.firing[c.ref.ID] { // of others the samples were not read
		if !isCount(a.Key) {
			firing[parseSubject(a.Key)] = a
		}
	}
	room, begins := 0, false
	var rests []*rest
	var until time.Time
	changes := c.concerns(scope{places: s.places, changes: true})
	for _, t := range ct.rests {
		if t.grid || changes {
			rests, until = append(rests, t), later(until, t.until)
		}
	}
	settles, own := len(rests) > 0 && c.rests(s), c.own(s)
	// Nearly all are calm and neither fire nor are remembered: of those nothing is to be
	// found, in whatever order.
	look, close := append(e.memory.stirred[:0], found.named...), 0
	for sub := range firing {
		look = append(look, sub)
		close += found.leave(sub)
	}
	for sub := range ct.remembered[c.ref.ID] {
		if found.leave(sub) > 0 {
			look = append(look, sub)
			close++
		}
	}
	tables, each := c.tables(data, e.memory.conditions), settles && !own
	for _, number := range found.numbers {
		if !found.has(number) {
			continue
		}
		if each || !c.calmBy(tables, found.of, number) {
			look = append(look, found.of.subjects[number])
			close++
		}
	}
	e.memory.conditions = tables
	look = inOrder(look)
	e.memory.stirred = look
	e.metrics.judged.Add(float64(len(found.numbers) - close))
	for _, sub := range look {
		a := firing[sub]
		remembers := ct.remembers(c, sub)
		calm := c.calm(sub, data)
		if settles && !(calm && own) && slices.ContainsFunc(rests, func(t *rest) bool { return !t.has(c, sub) }) {
			if !c.settled(ct, s, sub, data, until) {
				for _, t := range rests {
					t.add(c, sub)
				}
			} else {
				calm = true
			}
		}
		if a == nil && !remembers && calm {
			e.metrics.judged.Inc()
			continue
		}
		if a == nil && !ct.lies(c, s, sub) {
			continue // its node's sender says how it is; these have samples of an earlier one of its name
		}
		if a == nil && remembers {
			if ended, ok := e.ended[alertKey{c.ref.ID, r.source.cluster, sub.key()}]; ok && !r.at.After(ended) {
				continue // nothing older than an end may fire
			}
		}
		next, loud := e.judgeOne(ct, r, s, c, sub, a, data, now)
		if next != nil && a == nil {
			// It may have begun while the object, or another one of its name, lay elsewhere.
			if a = e.alerts[keyOf(next)]; a != nil {
				next, loud = e.judgeOne(ct, r, s, c, sub, a, data, now)
			}
		}
		if next != nil && a == nil {
			if !begins {
				room, begins = maxFiring-e.firingOf(c, r.source.cluster), true
			}
			if room--; room < 0 {
				err = errTooMany
				e.metrics.left.Inc()
				continue
			}
		}
		switch {
		case next == nil:
		case loud:
			changed = append(changed, next)
		default:
			quiet = append(quiet, next)
		}
	}
	return changed, quiet, subjects, err
}

// firingOf counts the alerts of a policy that fire on a cluster.
func (e *Engine) firingOf(c *compiled, cluster string) int {
	n := 0
	for key := range e.alerts {
		if key.policy == c.ref.ID && key.cluster == cluster {
			n++
		}
	}
	return n
}

// maxFiring alerts of one policy fire on one cluster. A policy that is bad of
// more objects than that is about the wrong objects, and nobody could read it.
const maxFiring = 10_000

var errTooMany = fmt.Errorf("%d of its alerts fire there, and it is bad of more objects: those are left out; select fewer objects, or judge them at a higher level: %w", maxFiring, fault.ErrLimited)

// exprError is why some expression or count of lines of a policy has no result.
func (d readings) exprError(c *compiled) error {
	for _, cond := range c.conditions {
		if cond.Query != "" {
			if res := d.lines[c.linesKey(cond)]; res == nil || res.err != nil {
				if res == nil {
					return errNotRead
				}
				return fmt.Errorf("query %s: %w", shorten(cond.Query), res.err)
			}
		}
		if cond.Expr == "" {
			continue
		}
		if res := d.exprs[cond.exprKey()]; res == nil || res.err != nil {
			if res == nil {
				return errNotRead
			}
			return res.err
		}
	}
	return nil
}

var errNotRead = errors.New("the expression was not read")

// picked are the subjects of a policy that have values, each once: by their numbers, or
// those of expressions by themselves.
type picked struct {
	of      *register
	numbers []int32
	named   []subject
	taken   []uint64 // by number
}

func (p *picked) len() int { return len(p.numbers) + len(p.named) }

// has tells whether a number is among them, and was not left out.
func (p *picked) has(number int32) bool {
	return int(number/64) < len(p.taken) && p.taken[number/64]&(1<<(number%64)) != 0
}

// leave leaves out a subject that is among them by its number, and says of how many it
// was one.
func (p *picked) leave(sub subject) int {
	if p.of == nil {
		return 0
	}
	n, ok := p.of.find(sub)
	if !ok || !p.has(n) {
		return 0
	}
	p.taken[n/64] &^= 1 << (n % 64)
	return 1
}

func (p *picked) add(number int32) {
	for int(number/64) >= len(p.taken) {
		p.taken = append(p.taken, 0)
	}
	if !p.has(number) {
		p.taken[number/64] |= 1 << (number % 64)
		p.numbers = append(p.numbers, number)
	}
}

// reset empties it and keeps its memory.
func (p *picked) reset() {
	for _, number := range p.numbers {
		p.taken[number/64] = 0
	}
	clear(p.named)
	p.of, p.numbers, p.named = nil, p.numbers[:0], p.named[:0]
}

// inOrder gives the subjects themselves.
func (p *picked) inOrder() []subject {
	out := slices.Clone(p.named)
	for _, number := range p.numbers {
		out = append(out, p.of.subjects[number])
	}
	return inOrder(out)
}

// subjects of a policy that have values.
func (c *compiled) subjects(data readings, x *index, into *picked) {
	into.reset()
	for _, cond := range c.conditions {
		if cond.Expr != "" {
			into.named = slices.AppendSeq(into.named, maps.Keys(data.exprs[cond.exprKey()].values))
			continue
		}
		if len(c.dimensions) > 0 && len(cond.metric.Dimensions) == 0 {
			continue // it is looked up for each subject of the others
		}
		v := data.metrics[cond.Metric]
		if v.len() == 0 {
			continue
		}
		into.of = v.of // all of a policy's metrics that get here are of the same subjects
		visit := into.add
		if len(cond.Where) > 0 {
			visit = func(number int32) {
				dims := parseDimensions(v.of.subjects[number].dimensions)
				if cond.WhereMatches(func(k string) string { return dims[k] }) {
					into.add(number)
				}
			}
		}
		switch {
		case x == nil:
			for _, r := range v.rows {
				visit(r.number)
			}
		case c.hinted:
			x.each(cond.Metric, c.hint, visit)
		default:
			x.selected(c, cond.Metric, visit)
		}
	}
	into.named = inOrder(into.named)
}

// inOrder sorts subjects, each once.
func inOrder(subjects []subject) []subject {
	slices.SortFunc(subjects, compareSubjects)
	return slices.Compact(subjects)
}

// judgeOne judges one subject. It gives the alert to store, nil when there is
// none, and whether people may have to be told.
func (e *Engine) judgeOne(ct *court, r round, s scope, c *compiled, sub subject, a *incident.Alert, data readings, now time.Time) (next *incident.Alert, loud bool) {
	e.metrics.judged.Inc()
	var key alertKey
	if ct.remembers(c, sub) {
		key = alertKey{c.ref.ID, r.source.cluster, sub.key()}
	}
	before := evaluate.State{Changes: e.changes[key]}
	if a != nil {
		before = a.State
	}
	if a == nil && e.muzzled[key] {
		before = c.bad(before) // only what is good lifts it, not a gap
	}
	v, ok := ct.judge(c, sub, a, before, data)
	if !ok {
		if v.gone != "" {
			e.lift(key) // what has its name next is another object
		}
		return nil, false
	}
	rank := v.state.Rank(c.rule.NoDataRank)
	if a == nil {
		if rank == 0 {
			e.lift(key)
			return nil, false
		}
		if e.muzzled[key] {
			return nil, false
		}
		a := &incident.Alert{ID: incident.NewID("alt_", now), Key: sub.key(), Firing: true, StartedAt: r.at, Data: incident.Data{Dimensions: parseDimensions(sub.dimensions)}}
		e.describe(a, r, s, c, v)
		return a, true
	}
	after := *a
	if v.cause != "" {
		if (v.cause == evaluate.ValueNormal || v.cause == evaluate.NotSelected) && a.Policy.Revision != c.ref.Revision {
			v.cause = evaluate.PolicyChanged
		}
		e.describeEnd(&after, c, v)
		return &after, true
	}
	if rank == 0 { // it did not end, yet nothing is closed: an older input
		return nil, false
	}
	e.describe(&after, r, s, c, v)
	if after.Severity != a.Severity || after.Policy.Revision != a.Policy.Revision || after.Stale != a.Stale || v.state.Flapping != a.State.Flapping {
		return &after, true
	}
	if v.state.Latches != a.State.Latches || v.state.Silent != a.State.Silent || now.Sub(e.savedAt[a.ID]) >= saveEvery {
		return &after, false
	}
	e.alerts[keyOf(&after)] = &after // only values moved on; the next start can do without
	return nil, false
}

// bad gives a state with all latches closed that the policy names.
func (c *compiled) bad(s evaluate.State) evaluate.State {
	for i := range s.Latches {
		s.Latches[i].Closed = c.rule.Names(i)
	}
	s.Silent.Closed = c.rule.NoData == policy.NoDataAlert
	return s
}

// lift notes that what was ended by hand may fire again, from the next commit on.
func (e *Engine) lift(key alertKey) {
	if e.muzzled[key] {
		e.lifted = append(e.lifted, key)
	}
}

// silentPlace tells whether whoever computes metrics at a place is silent.
func (e *Engine) silentPlace(cluster string, place catalogue.Place, node string, now time.Time) bool {
	if e.silencePaused() {
		return true // who is silent has no say about missing data
	}
	senders := []string{"all"}
	switch place {
	case catalogue.ByNode:
		senders = append(senders, "node/"+node)
	case catalogue.ByCluster:
		senders = append(senders, "cluster")
	case catalogue.ByServer, byExpression:
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
func (e *Engine) describe(a *incident.Alert, r round, s scope, c *compiled, v verdict) {
	f, state, in := v.found, v.state, v.in
	rank := state.Rank(c.rule.NoDataRank)
	a.Severity = catalogue.Severities[rank-1]
	a.Policy, a.Labels, a.Group = c.ref, c.labels, c.group
	a.Object, a.UID, a.State, a.Stale = f.object, f.uid, state, false
	a.Desired, a.Rollout = f.desired, f.rollout
	if slices.Contains(s.places, c.conditions[0].metric.Place) {
		a.Sender = r.source.sender
		if !s.whole() && s.on(a.Object.Node) { // of those that are judged together
			a.Sender = wire.Sender(wire.RoleNode, a.Object.Node)
		}
		if c.promql() { // not silent while anybody of the cluster sends
			a.Sender = senderExpression
		}
	}
	onlySilent := isOnlySilent(state)
	a.Conditions = conditionsView(c, rank, in.Windows)
	a.Title, a.Explanation = title(c, rank, in, state, onlySilent), explain(c, rank, in, state, onlySilent)
	a.Series = evidenceOf(c, v, a.Series)
	a.Annotations = annotate(c, a)
	// An expression says little to whoever did not write it.
	if summary := a.Annotations["summary"]; c.promql() && !onlySilent && summary != "" {
		a.Title = shorten(summary)
	}
	e.address(a, c)
}

// address says who is told: whom the policy names, else whom the routes do.
func (e *Engine) address(a *incident.Alert, c *compiled) {
	a.Targets, a.Repeat, a.Escalate = c.targets, c.repeat, c.escalate
	if len(c.targets) == 0 {
		a.Targets = e.routing.Targets(a.Facts())
	}
}

// describeEnd fills what follows from an end.
func (e *Engine) describeEnd(a *incident.Alert, c *compiled, v verdict) {
	a.Firing, a.EndedAt, a.Cause, a.State, a.Stale = false, v.in.At, v.cause, v.state, false
	if a.HoldUntil = (time.Time{}); v.cause == evaluate.WorkloadReplaced && c != nil {
		a.HoldUntil = e.opts.Now().Add(c.judgedWithin(v.in.Interval))
	}
	a.Explanation = explainEnd(c, a, v.in, v.cause)
	if c != nil && len(v.in.Windows) > 0 {
		a.Conditions = conditionsView(c, a.Severity.Rank(), v.in.Windows)
		a.Series = evidenceOf(c, v, a.Series)
		a.Annotations = annotate(c, a)
	}
}

// judgedWithin is how long it takes until a new object can be judged bad.
func (c *compiled) judgedWithin(interval time.Duration) time.Duration {
	var out time.Duration
	for _, cond := range c.conditions {
		out = max(out, time.Duration(max(1, cond.Need))*cond.Period.D())
	}
	return out + c.spec.MinAge.D() + 2*interval
}

// evidenceOf gives the points of what an alert is judged by first, of the last intervals, however
// far back anybody reads; had are those that it has.
func evidenceOf(c *compiled, v verdict, had []incident.Point) []incident.Point {
	samples := v.samples[0]
	if first := c.conditions[0]; first.Expr == "" && first.Query == "" {
		begin := v.in.At.Add(-maxPoints * v.in.Interval).UnixMilli()
		samples = samples[sort.Search(len(samples), func(i int) bool { return samples[i].T > begin }):]
	}
	read := points(samples)
	if len(read) == 0 && c.rule.NoData == policy.NoDataAlert {
		return had // of what is bad by silence the last are kept
	}
	return read
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
