package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/evaluate"
	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
	"github.com/crowsnest-dev/crowsnest/storage/logs"
)

const (
	// maxLateLines is how late lines may be and still fire.
	maxLateLines = 5 * time.Minute
	// linesSettle is what lines get to arrive where nobody says that all have.
	linesSettle = 10 * time.Second
	// linesEvery is how often it is looked whether more lines are complete.
	linesEvery = time.Second
	// byLines is the place of conditions that count lines: no arrival of samples
	// brings them.
	byLines catalogue.Place = "lines"

	triggerLines = "lines"

	// Senders of lines among the sources.
	senderLogs   = "logs" // and of one node: logs/NODE
	senderEvents = "events"
)

// Lines is what the engine asks of the log store. Both may be called
// concurrently.
type Lines interface {
	Counts(ctx context.Context, qs []logs.CountQuery) ([]logs.Count, error)
	// Watermarks say up to when the lines of a cluster's nodes are complete; none
	// when nobody says it.
	Watermarks(cluster string) []logs.Watermark
}

var _ Lines = (*logs.Store)(nil)

// lines tells whether the policy counts log lines or events.
func (c *compiled) lines() bool { return c.spec != nil && c.spec.Lines() }

// downward tells whether few lines are bad: then it matters that none is known
// to be none.
func (c condition) downward() bool { return c.Op != ">" && c.Op != ">=" }

// linesMetric describes a condition that counts lines as a metric's would be.
func linesMetric(s *policy.Spec, pc *policy.Condition) catalogue.Metric {
	what := "lines"
	if s.Level == policy.LevelEvent {
		what = "events"
	}
	title := strings.ToUpper(what[:1]) + what[1:]
	if q := strings.TrimSpace(pc.Query); q != "*" {
		title += " matching " + shorten(q)
	}
	m := catalogue.Metric{Title: title, Level: s.ObjectLevel(), Kind: catalogue.Counter, Unit: catalogue.Count, Place: byLines}
	if (condition{Condition: pc}).downward() {
		m.Kind = catalogue.State // what has ended writes no line, and that is no fault
	}
	return m
}

// linesKey is a count as several policies may share it.
type linesKey struct {
	filter string
	by     logs.CountLevel
	period time.Duration
	events bool // which count as often as they occurred
}

func (c *compiled) linesKey(cond condition) linesKey {
	only := "!"
	if c.spec.Level == policy.LevelEvent {
		only = ""
	}
	filter := fmt.Sprintf("%s%s:=%q (%s\n)", only, wire.FieldStream, wire.StreamEvents, cond.Query)
	return linesKey{filter, logs.CountLevel(c.level), cond.Period.D(), c.spec.Level == policy.LevelEvent}
}

// linesResult are the matches of a filter by window and object.
type linesResult struct {
	linesKey
	at      time.Time
	n       int
	matches map[subject][]uint64 // the newest window first
	nodes   map[subject]string   // on which the object lies, of those that lie on one
	known   completeness
	err     error

	grid *linesGrid // of a backtest: the matches are taken from there
}

// of gives the matches of a subject, the newest window first.
func (r *linesResult) of(sub subject) []uint64 {
	if r.grid != nil {
		return r.grid.matches(r.at, r.period, sub, r.n)
	}
	return r.matches[sub]
}

// completeness says up to when lines are complete.
type completeness struct {
	// through by node, of the nodes that are expected to send.
	through map[string]time.Time
	// sure: somebody says it. Otherwise lines are taken to be there after a
	// while, by which none cannot be told from late.
	sure bool
	all  time.Time // when not sure, and of events
	// covered says it of the past; nil: it is not asked.
	covered func(end time.Time) bool
}

// at tells whether the lines of a window that ends then are complete, on a node
// or, with an empty one, on enough nodes.
func (k completeness) at(node string, end time.Time) bool {
	if k.covered != nil {
		return k.covered(end)
	}
	if k.through == nil {
		return !end.After(k.all)
	}
	if node != "" {
		through, ok := k.through[node]
		return ok && !end.After(through)
	}
	there := 0
	for _, through := range k.through {
		if !end.After(through) {
			there++
		}
	}
	return there > 0 && float64(there) >= minCoverage*float64(len(k.through))
}

// windows of a subject, of which the newest n are asked for. What is over the
// threshold is so even when lines are still to come.
func (r *linesResult) windows(c condition, rule evaluate.Condition, sub subject, node string, n int, created time.Time, minAge time.Duration) []evaluate.Window {
	least, named := rule.Least()
	matches := r.of(sub)
	if onOneNode(sub.level) && node == "" {
		node = r.nodes[sub]
	}
	out := make([]evaluate.Window, min(n, r.n))
	for i := range out {
		w := evaluate.Window{End: r.at.Add(-time.Duration(i) * r.period)}
		if i < len(matches) {
			w.Value = float64(matches[i])
		}
		down := c.downward()
		over := !down && named && rule.Bad(w.Value, least)
		switch {
		case !over && (!r.known.at(node, w.End) || down && !r.known.sure):
			w.Missing = true
		case down && !created.IsZero() && w.End.Add(-r.period).Before(created):
			w.Missing = true // it was not there all the time
		}
		out[i] = w
	}
	return youngMissing(out, created, minAge)
}

func onOneNode(level catalogue.Level) bool {
	return level == catalogue.Node || level == catalogue.Pod || level == catalogue.Container
}

// samples of a subject, in order of time: the counts of its windows.
func (r *linesResult) samples(sub subject) []evaluate.Sample {
	var out []evaluate.Sample
	matches := r.of(sub)
	for i := len(matches) - 1; i >= 0; i-- {
		out = append(out, evaluate.Sample{T: r.at.Add(-time.Duration(i) * r.period).UnixMilli(), V: float64(matches[i])})
	}
	return out
}

// readLines counts what is wanted, all in as few passes as the store can.
func (rd reader) readLines(ctx context.Context, at time.Time, w map[linesKey]int, out map[linesKey]*linesResult) error {
	if len(w) == 0 {
		return nil
	}
	if rd.lines == nil {
		return fault.Because(fault.ErrUnavailable, fault.LogsNone)
	}
	keys := slices.SortedFunc(maps.Keys(w), func(a, b linesKey) int { return strings.Compare(a.filter, b.filter) })
	windows := map[logs.CountLevel]map[time.Duration]int{} // the same for all that can share a pass
	for _, k := range keys {
		if windows[k.by] == nil {
			windows[k.by] = map[time.Duration]int{}
		}
		windows[k.by][k.period] = max(windows[k.by][k.period], w[k])
	}
	qs := make([]logs.CountQuery, len(keys))
	for i, k := range keys {
		qs[i] = logs.CountQuery{Cluster: rd.cluster, Filter: k.filter, By: k.by, Period: k.period, End: at, Windows: windows[k.by][k.period], Occurrences: k.events}
	}
	counts, err := rd.lines.Counts(ctx, qs)
	if err != nil {
		return fmt.Errorf("count lines: %w", err)
	}
	for i, k := range keys {
		res := &linesResult{linesKey: k, at: at, n: qs[i].Windows, matches: map[subject][]uint64{}, nodes: map[subject]string{}, known: rd.known, err: counts[i].Err}
		level := catalogue.Level(k.by)
		for _, g := range counts[i].Groups {
			l := map[string]string{
				"namespace": g.Namespace, "workload_type": g.WorkloadType, "workload": g.Workload, "pod": g.Pod, "container": g.Container, "node": g.Node,
			}
			sub := subject{level: level, object: objectOf(level, func(name string) string { return l[name] })}
			if _, ok := labelsOf(level, sub.object); !ok {
				continue // lines of nothing of this level, as those of no workload
			}
			if before := res.matches[sub]; before != nil { // a pod of the same name on another node
				for j, n := range g.Matches {
					before[j] += n
				}
			} else {
				res.matches[sub] = g.Matches
			}
			if onOneNode(level) {
				res.nodes[sub] = g.Node
			}
		}
		out[k] = res
	}
	return nil
}

// quiet says why an object that exists has no lines to wait for; empty: it has.
func (ct *court) quiet(o object.Object, container string, a *incident.Alert) evaluate.Cause {
	switch o := o.(type) {
	case *object.Workload:
		switch {
		case o.Ref.Type == "job" && jobDone(o):
			return evaluate.ObjectFinished
		case o.Desired == 0:
			return evaluate.ScaledDown
		}
	case *object.Pod:
		switch {
		case o.Ended():
			return evaluate.ObjectFinished
		case o.Terminating:
			return ct.replacedCause(o.Namespace, o.Workload, a)
		}
		if i := slices.IndexFunc(o.Containers, func(c object.Container) bool { return c.Name == container }); container != "" {
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

// linesRound is one evaluation of policies that count lines.
type linesRound struct {
	events bool
	nodes  map[string]bool // only objects of these; nil: those that lie on none
	at     time.Time
}

// countLines evaluates the policies that count lines, wherever more lines are
// complete than at the last time.
func (e *Engine) countLines(ctx context.Context, now time.Time) {
	byCluster := map[string][]*compiled{}
	for _, cluster := range e.opts.Inventory.Clusters() {
		for _, c := range e.policies {
			if c.lines() && c.selection.Cluster(cluster, e.clusterLabels(cluster)) && c.misfit(e.clusterInterval(cluster)) == "" {
				byCluster[cluster] = append(byCluster[cluster], c)
			}
		}
	}
	if e.opts.Lines == nil {
		return
	}
	for _, cluster := range slices.Sorted(maps.Keys(byCluster)) {
		known := map[bool]completeness{false: e.complete(cluster, false, now), true: e.complete(cluster, true, now)}
		for _, r := range e.linesDue(cluster, byCluster[cluster], known, now) {
			if ctx.Err() != nil {
				return
			}
			e.evaluateLines(ctx, cluster, r, byCluster[cluster], known[r.events], now)
		}
	}
}

// complete says up to when a cluster's lines, or its events, are there.
func (e *Engine) complete(cluster string, events bool, now time.Time) completeness {
	return completenessOf(e.opts.Lines.Watermarks(cluster), e.opts.Inventory.List(cluster, object.KindNode), events, now)
}

func completenessOf(marks []logs.Watermark, nodes []object.Object, events bool, now time.Time) completeness {
	exists := map[string]bool{}
	for _, o := range nodes {
		exists[o.GetMeta().Name] = true
	}
	out := completeness{all: now.Add(-linesSettle)}
	for _, m := range marks {
		switch {
		case events && m.Node == "":
			return completeness{sure: true, all: m.CompleteThrough}
		case !events && m.Node != "" && exists[m.Node]:
			if out.through == nil {
				out.through, out.sure = map[string]time.Time{}, true
			}
			out.through[m.Node] = m.CompleteThrough
		}
	}
	return out
}

// linesDue gives the rounds that a cluster's lines allow now, in order of time.
// Objects of a node are judged as soon as that node's lines are there; what
// lies on several waits for all of them that still send.
func (e *Engine) linesDue(cluster string, policies []*compiled, known map[bool]completeness, now time.Time) []linesRound {
	interval := e.clusterInterval(cluster)
	steps := map[time.Time]map[string]bool{} // nodes by time
	var out []linesRound
	sourceOf := func(sender string) *source {
		src := e.sources[sourceKey{cluster, sender}]
		if src == nil {
			src = &source{}
			e.sources[sourceKey{cluster, sender}] = src
		}
		return src
	}
	advance := func(sender string, seen, through time.Time, step func(at time.Time)) {
		src := sourceOf(sender)
		src.interval = interval
		if seen.After(src.seen) {
			src.seen = seen
		}
		if through.After(now) {
			through = now
		}
		to := through.Truncate(interval)
		from := to
		if !src.at.IsZero() {
			from = src.at.Add(interval)
			if least := now.Add(-maxLateLines).Truncate(interval); from.Before(least) {
				from = least
			}
		}
		for at := from; !at.After(to) && at.After(src.at); at = at.Add(interval) {
			if now.Sub(at) > maxLateLines {
				e.metrics.skipped.WithLabelValues("late").Inc()
			} else {
				step(at)
			}
			src.at = at
		}
	}
	if slices.ContainsFunc(policies, func(c *compiled) bool { return c.spec.Level == policy.LevelEvent }) {
		advance(senderEvents, now, known[true].all, func(at time.Time) { out = append(out, linesRound{events: true, at: at}) })
	}
	if !slices.ContainsFunc(policies, func(c *compiled) bool { return c.spec.Level == policy.LevelLog }) {
		return out
	}
	k := known[false]
	if k.through == nil {
		advance(senderLogs, now, k.all, func(at time.Time) { out = append(out, linesRound{at: at}) })
		return out
	}
	seen := map[string]time.Time{}
	for _, m := range e.opts.Lines.Watermarks(cluster) {
		seen[m.Node] = m.SeenAt
	}
	// While a node is silent, time goes on without it. What it has to say when it
	// is back is judged as of its own time, as long as that is not too late.
	again := map[time.Time]bool{}
	var least time.Time
	for _, node := range slices.Sorted(maps.Keys(k.through)) {
		through := k.through[node]
		src := sourceOf(senderLogs + "/" + node)
		if said := through.Truncate(interval); src.said.IsZero() {
			src.said = said
		} else if said.After(src.said) {
			from := src.said.Add(interval)
			if earliest := now.Add(-maxLateLines).Truncate(interval).Add(interval); from.Before(earliest) {
				from = earliest
			}
			for at := from; !at.After(said) && !at.After(src.at); at = at.Add(interval) {
				if steps[at] == nil {
					steps[at] = map[string]bool{}
				}
				steps[at][node], again[at] = true, true
			}
			src.said = said
		}
		if silent := now.Sub(seen[node]) > missedIntervals*interval; silent {
			// Its alerts are looked at all the same: their objects may be gone.
			through = now.Add(-linesSettle)
		} else if now.Sub(through) <= maxLateLines {
			if least.IsZero() || through.Before(least) {
				least = through
			}
		}
		advance(senderLogs+"/"+node, seen[node], through, func(at time.Time) {
			if steps[at] == nil {
				steps[at] = map[string]bool{}
			}
			steps[at][node] = true
		})
	}
	if least.IsZero() { // nobody sends: what is gone ends all the same
		least = now.Add(-linesSettle)
	}
	var newest time.Time
	for node := range k.through {
		if seen[node].After(newest) {
			newest = seen[node]
		}
	}
	done := sourceOf(senderLogs).at
	for at := range again {
		if !at.After(done) {
			out = append(out, linesRound{at: at})
		}
	}
	advance(senderLogs, newest, least, func(at time.Time) { out = append(out, linesRound{at: at}) })
	for at, nodes := range steps {
		out = append(out, linesRound{at: at, nodes: nodes})
	}
	slices.SortStableFunc(out, func(a, b linesRound) int { return a.at.Compare(b.at) })
	return out
}

// about tells whether a round is about a policy's objects.
func (r linesRound) about(c *compiled, known completeness) bool {
	if r.events != (c.spec.Level == policy.LevelEvent) {
		return false
	}
	if r.events || known.through == nil {
		return true
	}
	return onOneNode(c.level) == (r.nodes != nil)
}

// evaluateLines makes one round.
func (e *Engine) evaluateLines(ctx context.Context, cluster string, lr linesRound, policies []*compiled, known completeness, now time.Time) {
	var about []*compiled
	w := newWant()
	interval := e.clusterInterval(cluster)
	for _, c := range policies {
		if lr.about(c, known) {
			about = append(about, c)
			w.add(c, interval, 0)
		}
	}
	if len(about) == 0 {
		return
	}
	e.metrics.rounds.WithLabelValues(triggerLines).Inc()
	rd := reader{queryable: e.opts.Queryable, promql: e.promql, lines: e.opts.Lines, known: known, cluster: cluster}
	data, err := rd.read(ctx, lr.at, w)
	if err != nil {
		if ctx.Err() == nil {
			e.report("read", "count lines", err)
		}
		return
	}
	e.report("read", "count lines", nil)
	ct := &court{inventory: e.opts.Inventory, cluster: cluster, at: lr.at, interval: interval, silent: func(catalogue.Place, string) bool { return true }}
	var changed, quiet []*incident.Alert
	for _, c := range about {
		if err := data.exprError(c); err != nil {
			e.metrics.failures.WithLabelValues("read").Inc()
			e.view.evaluated(c.ref.ID, cluster, lr.at, 0, err)
			continue
		}
		found := e.linesSubjects(cluster, c, lr, data)
		for _, sub := range slices.SortedFunc(maps.Keys(found), compareSubjects) {
			a, node := found[sub].alert, found[sub].node
			if ended, ok := e.ended[alertKey{c.ref.ID, cluster, sub.key()}]; a == nil && ok && !lr.at.After(ended) {
				continue // nothing older than an end may fire
			}
			r := round{source: sourceKey{cluster, senderLogs}, trigger: triggerLines, at: lr.at, interval: interval, received: now}
			switch {
			case lr.events:
				r.source.sender = senderEvents
			case lr.nodes != nil:
				r.source.sender = senderLogs + "/" + node
			}
			switch next, loud := e.judgeOne(ct, r, scope{places: []catalogue.Place{byLines}}, c, sub, a, data, now); {
			case next == nil:
			case loud:
				changed = append(changed, next)
			default:
				quiet = append(quiet, next)
			}
		}
		e.view.evaluated(c.ref.ID, cluster, lr.at, len(found), nil)
	}
	e.commit(ctx, now, changed, quiet)
}

// lineSubject is an object whose lines are counted.
type lineSubject struct {
	node  string
	alert *incident.Alert // while it fires
}

// linesSubjects are the objects with matching lines, those whose silence would
// be bad, and those that fire.
func (e *Engine) linesSubjects(cluster string, c *compiled, lr linesRound, data readings) map[subject]lineSubject {
	out := map[subject]lineSubject{}
	add := func(sub subject, node string, a *incident.Alert) {
		if lr.nodes == nil || lr.nodes[node] {
			out[sub] = lineSubject{node, a}
		}
	}
	for sub := range c.linesSubjects(e.opts.Inventory, cluster, data, false) {
		add(sub.subject, sub.node, nil)
	}
	for key, a := range e.alerts {
		if key.policy == c.ref.ID && key.cluster == cluster && !isCount(key.key) {
			add(parseSubject(a.Key), a.Object.Node, a)
		}
	}
	return out
}

// placed is a subject with its node, when it lies on one.
type placed struct {
	subject
	node string
}

// linesSubjects are the objects with matching lines and, where few are bad or
// all are asked for, those that are selected.
func (c *compiled) linesSubjects(inv Inventory, cluster string, data readings, all bool) map[placed]bool {
	out := map[placed]bool{}
	for _, cond := range c.conditions {
		all = all || cond.downward()
		res := data.lines[c.linesKey(cond)]
		for sub := range res.matches {
			node := res.nodes[sub]
			if key, _, ok := objectKey(sub.level, sub.object); ok && sub.level != catalogue.Node {
				if o, there := inv.Get(cluster, key); there {
					node = nodeOf(o)
				}
			}
			out[placed{sub, node}] = true
		}
	}
	if !all {
		return out
	}
	if c.level == catalogue.Cluster {
		out[placed{subject{level: catalogue.Cluster}, ""}] = true
	}
	eachSelected(inv, c, cluster, func(o object.Object, container string) {
		out[placed{subject{level: c.level, object: nameOf(o, container)}, nodeOf(o)}] = true
	})
	return out
}

func nodeOf(o object.Object) string {
	switch o := o.(type) {
	case *object.Node:
		return o.Name
	case *object.Pod:
		return o.Node
	}
	return ""
}
