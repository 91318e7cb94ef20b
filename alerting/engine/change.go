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
	// maxFew objects of a metric are remembered and read by name; of more, the whole metric
	// is. By name a series costs about what it costs among all of them.
	maxFew = 20_000
	// restFor intervals after a point of the grid was judged, everything is.
	restFor = 2
	// wholeEvery is how long at most points of the grid are judged by what is odd. How many
	// objects a policy is about is known anew when everything is judged.
	wholeEvery = 5 * time.Minute
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

// news is what a sender wrote and nobody has judged yet. Times are those of the newest
// sample, in Unix milliseconds; 0: there is none.
type news struct {
	// Between two points of the grid, until a round for changes has judged it.
	told   map[told]int64
	untold int64 // of what came without a name, though it may be odd
	// Of all that it wrote, until a round for an interval has.
	odd     marks
	watch   *ingest.Watch // by which it is odd
	unknown int64         // of what may be odd, without a name
	newest  int64
}

// marks are roots of objects by metric, each with the time of the newest sample for which
// it is there.
type marks struct {
	roots map[string]map[string]int64
	many  map[string]int64 // metrics of which there are too many
}

func (m *marks) add(metric, root string, at int64) {
	if before, ok := m.many[metric]; ok {
		m.many[metric] = max(before, at)
		return
	}
	of := m.roots[metric]
	if of == nil {
		if m.roots == nil {
			m.roots, m.many = map[string]map[string]int64{}, map[string]int64{}
		}
		of = map[string]int64{}
		m.roots[metric] = of
	}
	if of[root] = max(of[root], at); len(of) > maxFew {
		m.crowd(metric, 0)
	}
}

// crowd leaves out which objects of a metric it is.
func (m *marks) crowd(metric string, at int64) {
	for _, newest := range m.roots[metric] {
		at = max(at, newest)
	}
	m.many[metric] = max(m.many[metric], at)
	delete(m.roots, metric)
}

// join takes over what is not used any more.
func (m *marks) join(more marks) {
	if len(m.roots)+len(m.many) == 0 {
		*m = more
		return
	}
	for metric, at := range more.many {
		m.crowd(metric, at)
	}
	for metric, of := range more.roots {
		for root, at := range of {
			m.add(metric, root, at)
		}
	}
}

// has tells whether an object is among them, maybe without its name.
func (m *marks) has(metric, root string) bool {
	if _, ok := m.many[metric]; ok {
		return true
	}
	_, ok := m.roots[metric][root]
	return ok
}

// judged leaves out what is not newer than a time.
func (m *marks) judged(at int64) {
	for metric, of := range m.roots {
		if maps.DeleteFunc(of, func(_ string, newest int64) bool { return newest <= at }); len(of) == 0 {
			delete(m.roots, metric)
		}
	}
	maps.DeleteFunc(m.many, func(_ string, newest int64) bool { return newest <= at })
}

// newsOf reads an arrival, of which by is watched.
func newsOf(a ingest.Arrival, received time.Time, by *ingest.Watch) news {
	n := changesOf(a, received)
	newest := later(later(a.Newest, a.Through), a.OddUntil)
	if newest.IsZero() {
		newest = received
	}
	n.newest, n.watch = newest.UnixMilli(), a.Watch
	if a.Backlog || a.Watch == nil || a.Watch != by {
		n.unknown = n.newest
		return n
	}
	n.untold = 0 // nothing else of it could have anything found
	for _, l := range a.Odd {
		if m, ok := catalogue.Get(l.Get(labels.MetricName)); ok {
			n.odd.add(m.Name, rootOf(m.Level, objectOf(m.Level, l.Get)), n.newest)
		}
	}
	return n
}

// changesOf reads the changes of an arrival. A point of the grid is none: its own round
// judges it.
func changesOf(a ingest.Arrival, received time.Time) news {
	if !a.Through.IsZero() {
		return news{}
	}
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
	if more.newest > 0 {
		if n.newest > 0 && n.watch != more.watch { // of what is odd now nobody told
			n.unknown, n.untold = max(n.unknown, n.newest), max(n.untold, n.newest)
		}
		n.watch, n.newest = more.watch, max(n.newest, more.newest)
	}
	n.unknown = max(n.unknown, more.unknown)
	n.odd.join(more.odd)
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

// judged leaves out what a round has seen.
func (n *news) judged(r round) {
	if n == nil {
		return
	}
	at := r.at
	if r.trigger == triggerInterval {
		n.odd.judged(at.UnixMilli())
		if n.unknown <= at.UnixMilli() {
			n.unknown = 0
		}
		if n.newest <= at.UnixMilli() {
			n.newest = 0
		}
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
	for cluster, n := range e.queue.strange {
		for key := range e.sources {
			if s, ok := scopeOf(key.sender); ok && s.whole() && key.cluster == cluster {
				e.hear(key, n)
			}
		}
	}
	clear(e.queue.strange)
}

func (e *Engine) hear(key sourceKey, n news) {
	if e.news[key] == nil {
		e.news[key] = &news{}
	}
	e.news[key].add(n)
	e.disturb(key)
}

// rest is what a round that judged everything of a sender leaves to those that follow it:
// all that can be bad after it without news of the sender, but by time alone. Anything
// else they need not look at.
type rest struct {
	grid     bool              // it is left to rounds for intervals, of all policies; else to those for changes
	places   []catalogue.Place // that its sender computes
	interval time.Duration
	heard    time.Time          // when a point of the grid, or everything, was judged last
	until    time.Time          // that it holds for
	objects  inventory.Position // up to which changes of objects are judged
	restless marks
}

// restKey names a rest of a cluster.
type restKey struct {
	sender string
	grid   bool
}

func (t *rest) add(c *compiled, sub subject) {
	root := rootOf(sub.level, sub.object)
	for _, cond := range c.conditions {
		t.restless.add(cond.Metric, root, 0)
	}
}

// has tells whether an object is among what is restless for a policy already: all metrics
// that a policy has are read of the same objects.
func (t *rest) has(c *compiled, sub subject) bool {
	return t.restless.has(c.conditions[0].Metric, rootOf(sub.level, sub.object))
}

// holds tells whether a round can rely on it.
func (t *rest) holds(r round) bool {
	return t != nil && t.interval == r.interval && !r.at.After(t.until) && !r.at.After(t.heard.Add(restFor*r.interval))
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
	maps.DeleteFunc(e.rests[by.cluster], func(of restKey, t *rest) bool {
		return of.sender != by.sender && slices.ContainsFunc(t.places, func(p catalogue.Place) bool { return slices.Contains(s.places, p) })
	})
}

// unrest has the next round like one that judges everything do so, too.
func (e *Engine) unrest(r round) {
	delete(e.rests[r.source.cluster], restKey{r.source.sender, false})
	if r.trigger == triggerInterval {
		delete(e.rests[r.source.cluster], restKey{r.source.sender, true})
	}
}

// few are the roots of the objects that a round is about, by metric; a metric that is
// not there is read whole. Metrics that some policy has together have the same.
type few map[string]map[string]bool

// few gives the objects of some subjects, where they are few.
func (w want) few(subs []subject) few {
	roots := map[catalogue.Level]map[string]bool{}
	for _, sub := range subs {
		if roots[sub.level] == nil {
			roots[sub.level] = map[string]bool{}
		}
		roots[sub.level][rootOf(sub.level, sub.object)] = true
	}
	out := few{}
	add := func(name string) {
		m, _ := catalogue.Get(name)
		if of := roots[m.Level]; len(of) > 0 && len(of) <= maxFew && m.Level != catalogue.Cluster {
			out[name] = of
		}
	}
	for name := range w.metrics {
		add(name)
	}
	for k := range w.past {
		add(k.metric)
	}
	return out
}

// fewOf gives the objects that a round of a sender can find anything of: those of the
// news, those whose object changed, those that fire or are remembered, and what is
// restless. nil: it judges everything.
func (e *Engine) fewOf(r round, s scope, ct *court, policies []*compiled) (few, []*rest) {
	if r.trigger != triggerChange && r.trigger != triggerInterval {
		return nil, nil
	}
	grid := r.trigger == triggerInterval
	base, n := e.rests[r.source.cluster][restKey{r.source.sender, grid}], e.news[r.source]
	switch {
	case n == nil || !base.holds(r), n.watch != e.watch.Load():
		return nil, nil
	case grid && (n.unknown != 0 || n.watch == nil):
		return nil, nil
	case !grid && n.untold != 0:
		return nil, nil
	}
	keys, now, whole := e.opts.Changed(r.source.cluster, base.objects)
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
		groups.add(t.metric, t.root)
	}
	groups.mark(base.restless)
	groups.mark(n.odd)
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
	after := *base
	after.objects = now
	left := []*rest{&after}
	if !grid {
		return out, left
	}
	after.heard = r.at
	if changes := e.rests[r.source.cluster][restKey{r.source.sender, false}]; changes.holds(r) {
		also := *changes
		also.objects, also.heard = now, r.at
		left = append(left, &also)
	}
	return out, left
}

// group are metrics that policies have together, each with some other of them: what is
// judged by one of them is judged by all, so all are read of the same objects.
type group struct {
	roots map[string]bool
	whole bool
}

// groups are those of metrics.
type groups map[string]*group

// add has an object read, if some policy has the metric.
func (of groups) add(metric, root string) {
	if g := of[metric]; g != nil {
		g.roots[root] = true
	}
}

// mark has objects read, or all of a metric.
func (of groups) mark(some marks) {
	for metric := range some.many {
		if g := of[metric]; g != nil {
			g.whole = true
		}
	}
	for metric, roots := range some.roots {
		if g := of[metric]; g != nil && !g.whole {
			for root := range roots {
				g.roots[root] = true
			}
		}
	}
}

// grouped gives the group of each metric of some policies.
func grouped(policies []*compiled) groups {
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

// resting begins what a round leaves to those that follow it; none: it is not about all
// that a sender of the whole cluster sends.
func (e *Engine) resting(r round, s scope, policies []*compiled) []*rest {
	if e.opts.Changed == nil || !s.whole() || r.trigger != triggerInterval && r.trigger != triggerChange {
		return nil
	}
	long := wholeEvery
	for _, c := range policies {
		if c.rule.NoData == policy.NoDataAlert {
			long = min(long, c.rule.NoDataAfter) // for longer none would be settled that was heard just now
		}
	}
	_, now, _ := e.opts.Changed(r.source.cluster, inventory.Position{})
	changes := rest{
		places: s.places, interval: r.interval, heard: r.at, until: r.at.Add(max(long, restFor*r.interval)), objects: now,
	}
	left := []*rest{&changes}
	if r.trigger == triggerInterval && e.watch.Load() != nil {
		grid := changes
		grid.grid = true
		left = append(left, &grid)
	}
	return left
}

// rested notes that a round judged all that it is about.
func (e *Engine) rested(r round, left []*rest) {
	e.news[r.source].judged(r)
	for _, t := range left {
		if e.rests[r.source.cluster] == nil {
			e.rests[r.source.cluster] = map[restKey]*rest{}
		}
		e.rests[r.source.cluster][restKey{r.source.sender, t.grid}] = t
	}
}

// rests tells whether rounds that follow one of a scope need not judge all that a policy is
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
