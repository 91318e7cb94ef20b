package engine

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/crowsnest-dev/crowsnest/alerting/evaluate"
	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/storage/ingest"
	"github.com/crowsnest-dev/crowsnest/storage/inventory"
)

const (
	// maxNews changes of a sender wait to be judged by name; of more, everything is.
	maxNews = 20_000
	// maxFew objects of a metric are read by name; of more, the whole metric is. By name a
	// series costs about what it costs among all of them.
	maxFew = 20_000
	// maxRestless objects of a sender are remembered; with more, everything is judged.
	maxRestless = 50_000
	// restFor intervals after everything was judged, it is so again.
	restFor = 2
	// namesAtOnce are asked for by one Select: of so few the store looks up each name.
	namesAtOnce = 200
)

// parts are those that came of an interval whose last part did not come yet. What is
// judged in the middle of them is judged of half an interval, and all of it; so changes
// of their sender wait for the last one, though not for long.
type parts struct {
	first  time.Time // when the first one came, by our clock
	seen   time.Time // when the newest one did, which is not when its request began: it may be long on its way
	last   round     // the newest one
	newest time.Time // of its samples
}

const (
	// partsPause without a further part, or partsFor after the first one, changes wait no longer.
	partsPause = 4 * time.Second
	partsFor   = 10 * time.Second
)

func (p parts) with(newest time.Time, r round, now time.Time) parts {
	if p.first.IsZero() {
		p.first = now
	}
	p.seen = now
	if p.last = r; newest.After(p.newest) {
		p.newest = newest
	}
	return p
}

// partsLocked takes for changes what came of intervals of which no more comes, and says
// when to look again. A clock that was set back makes nobody wait for longer.
func (e *Engine) partsLocked(now time.Time) (wait time.Duration) {
	wait = partsFor
	for key, p := range e.queue.parts {
		left := min(partsPause-now.Sub(p.seen), partsFor-now.Sub(p.first))
		if left <= 0 || left > partsPause {
			delete(e.queue.parts, key)
			e.changedLocked(p.last)
			continue
		}
		wait = min(wait, left)
	}
	return wait
}

// Objects tells which of a cluster's objects came, changed or went since a position;
// whole: any may have. May be called concurrently.
type Objects func(cluster string, since inventory.Position) (keys []object.Key, now inventory.Position, whole bool)

// told is a metric of an object that a sender wrote to. The object is named by its root:
// containers go with their pod.
type told struct{ metric, root string }

// news is what a sender wrote between two points of the grid and nobody has judged yet.
type news struct {
	told   map[told]int64 // with the time of the newest sample, Unix milliseconds
	untold int64          // that of what came without a name; 0: nothing did
}

// newsOf reads an arrival of changes.
func newsOf(a ingest.Arrival, received time.Time) news {
	newest := a.Newest
	if newest.IsZero() {
		newest = received
	}
	at := newest.UnixMilli()
	if a.Changed == nil {
		return news{untold: at}
	}
	n := news{told: make(map[told]int64, len(a.Changed))}
	for _, l := range a.Changed {
		if m, ok := catalogue.Get(l.Get(labels.MetricName)); ok { // policies are about no others
			n.told[told{m.Name, rootOf(m.Level, objectOf(m.Level, l.Get))}] = at
		}
	}
	return n
}

// add takes in what came later.
func (n *news) add(more news) {
	n.untold = max(n.untold, more.untold)
	if n.told == nil {
		n.told = map[told]int64{}
	}
	for t, at := range more.told {
		n.told[t] = max(n.told[t], at)
	}
	if len(n.told) > maxNews {
		n.untold = max(n.untold, slices.Max(slices.Collect(maps.Values(n.told))))
		n.told = nil
	}
}

// judged leaves out what a round as of a time has seen.
func (n *news) judged(at time.Time) {
	if n == nil {
		return
	}
	maps.DeleteFunc(n.told, func(_ told, newest int64) bool { return newest <= at.UnixMilli() })
	if n.untold <= at.UnixMilli() {
		n.untold = 0
	}
}

// hearLocked takes over what senders wrote since it was called last.
func (e *Engine) hearLocked() {
	for key, n := range e.queue.news {
		e.hear(key, *n)
	}
	clear(e.queue.news)
}

func (e *Engine) hear(key sourceKey, n news) {
	if e.news[key] == nil {
		e.news[key] = &news{}
	}
	e.news[key].add(n)
	e.disturb(key)
}

// rest is what a round that judged everything of a sender leaves to those for changes
// that follow it: all that can be bad after it without news of the sender, but by time
// alone. Anything else they need not look at.
type rest struct {
	places   []catalogue.Place // that its sender computes
	interval time.Duration
	until    time.Time                  // that it holds for
	objects  inventory.Position         // up to which changes of objects are judged
	restless map[string]map[string]bool // roots by metric
	size     int
}

func (t *rest) add(c *compiled, sub subject) {
	root := rootOf(sub.level, sub.object)
	for _, cond := range c.conditions {
		of := t.restless[cond.Metric]
		if of == nil {
			of = map[string]bool{}
			t.restless[cond.Metric] = of
		}
		if !of[root] {
			of[root] = true
			t.size++
		}
	}
}

// has tells whether an object is among what is restless for a policy already: all metrics
// that a policy has are read of the same objects.
func (t *rest) has(c *compiled, sub subject) bool {
	of := t.restless[c.conditions[0].Metric]
	return len(of) > 0 && of[rootOf(sub.level, sub.object)]
}

// disturb ends the rest of senders that are not alone with what they compute: what a
// sender wrote, the other's rounds hear nothing of.
func (e *Engine) disturb(by sourceKey) {
	if len(e.rests[by.cluster]) == 0 {
		return
	}
	s, ok := scopeOf(by.sender)
	if !ok {
		return
	}
	maps.DeleteFunc(e.rests[by.cluster], func(sender string, t *rest) bool {
		return sender != by.sender && slices.ContainsFunc(t.places, func(p catalogue.Place) bool { return slices.Contains(s.places, p) })
	})
}

// unrest has the next round for changes of a sender judge everything.
func (e *Engine) unrest(key sourceKey) { delete(e.rests[key.cluster], key.sender) }

// few are the roots of the objects that a round is about, by metric; a metric that is
// not there is read whole. Metrics that some policy has together have the same.
type few map[string]map[string]bool

// fewOf gives the objects that a round for changes of a sender can find anything of:
// those of the news, those whose object changed, those that fire or are remembered, and
// what is restless. nil: it judges everything.
func (e *Engine) fewOf(r round, s scope, ct *court, policies []*compiled) (few, *rest) {
	if r.trigger != triggerChange {
		return nil, nil
	}
	rest, n := e.rests[r.source.cluster][r.source.sender], e.news[r.source]
	if rest == nil || n == nil || n.untold != 0 || rest.interval != r.interval || r.at.After(rest.until) {
		return nil, nil
	}
	keys, now, whole := e.opts.Changed(r.source.cluster, rest.objects)
	if whole {
		return nil, nil
	}
	groups := grouped(policies)
	byLevel := map[catalogue.Level]map[*group]bool{}
	for name, g := range groups {
		m, _ := catalogue.Get(name)
		if byLevel[m.Level] == nil {
			byLevel[m.Level] = map[*group]bool{}
		}
		byLevel[m.Level][g] = true
		g.whole = g.whole || m.Level == catalogue.Cluster
	}
	for _, c := range policies {
		g := groups[c.conditions[0].Metric]
		g.whole = g.whole || !c.rests(s)
		for _, a := range ct.firing[c.ref.ID] {
			if !isCount(a.Key) {
				sub := parseSubject(a.Key)
				g.roots[rootOf(sub.level, sub.object)] = true
			}
		}
		for sub := range ct.remembered[c.ref.ID] {
			g.roots[rootOf(sub.level, sub.object)] = true
		}
	}
	for t := range n.told {
		if g := groups[t.metric]; g != nil {
			g.roots[t.root] = true
		}
	}
	for metric, roots := range rest.restless {
		if g := groups[metric]; g != nil && !g.whole {
			maps.Copy(g.roots, roots)
		}
	}
	for _, key := range keys {
		for _, at := range levelsOf[key.Kind] {
			for g := range byLevel[at] {
				g.roots[rootOfKey(key)] = true
			}
		}
	}
	out := few{}
	for name, g := range groups {
		if !g.whole && len(g.roots) <= maxFew {
			out[name] = g.roots
		}
	}
	after := *rest
	after.objects = now
	return out, &after
}

// group are metrics that policies have together, each with some other of them: what is
// judged by one of them is judged by all, so all are read of the same objects.
type group struct {
	roots map[string]bool
	whole bool
}

// grouped gives the group of each metric of some policies.
func grouped(policies []*compiled) map[string]*group {
	parent := map[string]string{}
	var find func(string) string
	find = func(name string) string {
		if p, ok := parent[name]; ok && p != name {
			parent[name] = find(p)
			return parent[name]
		}
		parent[name] = name
		return name
	}
	for _, c := range policies {
		first := find(c.conditions[0].Metric)
		for _, cond := range c.conditions[1:] {
			parent[find(cond.Metric)] = first
			first = find(first)
		}
	}
	out, byFirst := map[string]*group{}, map[string]*group{}
	for name := range parent {
		first := find(name)
		if byFirst[first] == nil {
			byFirst[first] = &group{roots: map[string]bool{}}
		}
		out[name] = byFirst[first]
	}
	return out
}

// resting begins what a round leaves to those for changes; nil: nothing, as it is not
// about all that a sender of the whole cluster sends.
func (e *Engine) resting(r round, s scope) *rest {
	if e.opts.Changed == nil || s.node != "" || r.trigger != triggerInterval && r.trigger != triggerChange {
		return nil
	}
	_, now, _ := e.opts.Changed(r.source.cluster, inventory.Position{})
	return &rest{places: s.places, interval: r.interval, until: r.at.Add(restFor * r.interval), objects: now, restless: map[string]map[string]bool{}}
}

// rested notes that a round judged all that it is about.
func (e *Engine) rested(r round, t *rest) {
	e.news[r.source].judged(r.at)
	switch {
	case t == nil:
	case t.size > maxRestless:
		e.unrest(r.source)
	default:
		if e.rests[r.source.cluster] == nil {
			e.rests[r.source.cluster] = map[string]*rest{}
		}
		e.rests[r.source.cluster][r.source.sender] = t
	}
}

// rests tells whether rounds for changes of a scope need not judge all that a policy is
// about: whether there may be what is settled.
func (c *compiled) rests(s scope) bool {
	return c.combined(func(i int) bool {
		return c.suspects[i] != nil && slices.Contains(s.places, c.conditions[i].metric.Place)
	})
}

// combined is whether some condition of a policy has a property that keeps it from being
// bad; of one that any condition makes bad, all must have it.
func (c *compiled) combined(has func(i int) bool) bool {
	for i := range c.conditions {
		if has(i) != c.rule.Any {
			return !c.rule.Any
		}
	}
	return c.rule.Any
}

// own tells whether what is calm is settled, too: nobody but the sender of a scope writes
// what a policy is about, and none of it is bad by being missing.
func (c *compiled) own(s scope) bool {
	return c.rule.NoData != policy.NoDataAlert && !slices.ContainsFunc(c.conditions, func(cond condition) bool { return !slices.Contains(s.places, cond.metric.Place) })
}

// settled tells that of a subject that does not fire no judgement up to a time would
// find anything, unless its object changes or the sender of a scope writes of it. What
// others send may change meanwhile, so it is not relied on.
func (c *compiled) settled(ct *court, s scope, sub subject, data readings, until time.Time) bool {
	if c.rule.NoData == policy.NoDataAlert && !c.heardOf(sub, data, until.Add(-ct.interval-c.rule.NoDataAfter)) {
		return false
	}
	return c.combined(func(i int) bool {
		cond := c.conditions[i]
		if c.suspects[i] == nil || !slices.Contains(s.places, cond.metric.Place) {
			return false
		}
		samples := data.metrics[cond.Metric].get(cond.about(sub))
		return !suspected(c.suspects[i], samples) || catalogue.Statistic(cond.Statistic) == catalogue.Increase && c.flat(ct, i, sub, samples)
	})
}

// heardOf tells whether each condition of a policy has a sample of a subject that is
// newer than a time.
func (c *compiled) heardOf(sub subject, data readings, since time.Time) bool {
	for _, cond := range c.conditions {
		heard := false
		for _, s := range slices.Backward(data.metrics[cond.Metric].get(cond.about(sub))) {
			if !s.Stale() {
				heard = s.T > since.UnixMilli()
				break
			}
		}
		if !heard {
			return false
		}
	}
	return true
}

// flat tells that a counter does not rise in any window: all of its samples are equal,
// and it did not begin within a window, when it rose from 0.
func (c *compiled) flat(ct *court, i int, sub subject, samples []evaluate.Sample) bool {
	var before *evaluate.Sample
	for n, s := range samples {
		if s.Stale() {
			continue
		}
		if before != nil && before.V != s.V {
			return false
		}
		before = &samples[n]
	}
	k := ct.resolve(sub)
	if !k.listed {
		return true // when it began is not known, which counts from its first sample
	}
	return k.object != nil && k.object.GetMeta().CreatedAt.Before(ct.at.Add(-c.span(i, ct.interval)))
}

// rootOf names the object that a subject goes with when it comes, changes or goes.
func rootOf(level catalogue.Level, name string) string {
	if level == catalogue.Container {
		if i := strings.LastIndexByte(name, '/'); i >= 0 {
			return name[:i]
		}
	}
	return name
}

// levelsOf are the levels whose subjects go with an object of a kind.
var levelsOf = map[object.Kind][]catalogue.Level{
	object.KindNode: {catalogue.Node}, object.KindNamespace: {catalogue.Namespace}, object.KindWorkload: {catalogue.Workload},
	object.KindService: {catalogue.Service}, object.KindPod: {catalogue.Pod, catalogue.Container},
}

// rootOfKey is rootOf of the inventory's name of an object.
func rootOfKey(k object.Key) string {
	if k.Namespace == "" {
		return k.Name
	}
	return k.Namespace + "/" + k.Name
}

// namedBy gives matchers that select the series of objects of a level by their names
// alone, each object by one of them; there may be others of such a name.
func namedBy(level catalogue.Level, roots map[string]bool) ([]*labels.Matcher, error) {
	names := level.ObjectLabels()
	label := names[len(names)-1]
	if level == catalogue.Container {
		label = names[len(names)-2]
	}
	of := map[string]bool{}
	for root := range roots {
		of[root[strings.LastIndexByte(root, '/')+1:]] = true
	}
	var out []*labels.Matcher
	for some := range slices.Chunk(slices.Sorted(maps.Keys(of)), namesAtOnce) {
		if len(some) == 1 {
			out = append(out, labels.MustNewMatcher(labels.MatchEqual, label, some[0]))
			continue
		}
		for i, name := range some {
			some[i] = regexp.QuoteMeta(name)
		}
		m, err := labels.NewMatcher(labels.MatchRegexp, label, strings.Join(some, "|"))
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}
