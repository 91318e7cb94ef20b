package engine

import (
	"slices"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/evaluate"
	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/object"
)

// court judges the objects of one cluster as of one time. Live evaluation, dry
// runs, explanations and backtests share it; it changes nothing.
type court struct {
	inventory Inventory
	cluster   string
	at        time.Time
	interval  time.Duration
	// silent tells whether whoever computes metrics at a place, of a node, is
	// silent.
	silent func(place catalogue.Place, node string) bool
	// firing are the cluster's alerts by policy, and index finds subjects; nil:
	// they are not asked.
	firing     map[string][]*incident.Alert
	index      *index
	remembered map[string]map[subject]bool // by policy: alerts that ended, or were ended by hand; nil: any may
	// known are the objects that were asked for, of a court that is held once; nil:
	// each is asked for again.
	known map[named]known
	// rests take what is not settled; none: nobody asks.
	rests []*rest
	// skew is by how much the wall clock was set since a time; nil: it was not.
	skew func(since, until time.Time) time.Duration
}

// verdict is a judgement with all that it was made from.
type verdict struct {
	found
	in      evaluate.Input
	samples [][]evaluate.Sample // by condition
	before  evaluate.State
	state   evaluate.State
	cause   evaluate.Cause // when it ended an alert
}

// judge asks the step about one subject. a is its alert while it fires, nil
// otherwise; before is the state that it comes from. false: it cannot be judged
// now, and found says why.
func (ct *court) judge(c *compiled, sub subject, a *incident.Alert, before evaluate.State, data readings) (verdict, bool) {
	v := verdict{found: ct.find(c, sub, a), before: before}
	if v.unknown || (a == nil && v.gone != "") {
		return v, false
	}
	v.samples = make([][]evaluate.Sample, len(c.conditions))
	for i, cond := range c.conditions {
		if cond.Expr != "" {
			v.samples[i] = data.exprs[cond.exprKey()].samples(sub)
			continue
		}
		if cond.Query != "" {
			v.samples[i] = data.lines[c.linesKey(cond)].samples(sub)
			continue
		}
		if !v.lacks[i] {
			v.samples[i] = data.of(cond, c.rule.Conditions[i], cond.about(sub))
		}
	}
	if v.unlisted && v.gone == "" && !c.promql() && ended(v.samples) {
		v.gone = evaluate.ObjectDeleted
	}
	v.in = evaluate.Input{At: ct.at, Gone: v.gone, Interval: ct.interval}
	if v.gone == "" {
		for i, cond := range c.conditions {
			if cond.Expr != "" {
				w := data.exprs[cond.exprKey()].windows(sub, max(c.rule.Reach(i), 1))
				v.in.Windows = append(v.in.Windows, youngMissing(w, v.created, c.spec.MinAge.D()))
				continue
			}
			if cond.Query != "" {
				res := data.lines[c.linesKey(cond)]
				v.in.Windows = append(v.in.Windows, res.windows(cond, c.rule.Conditions[i], sub, v.object.Node, c.rule.Reach(i), v.created, c.spec.MinAge.D()))
				continue
			}
			v.in.Windows = append(v.in.Windows, cond.series(ct.interval, v.created, c.spec.MinAge.D()).Windows(ct.at, c.rule.Reach(i), v.samples[i]))
		}
		v.in.Newest = ct.newest(c, v.found, v.samples)
	}
	v.state, v.cause = before.Step(&c.rule, v.in)
	return v, true
}

// ended tells whether every series of an object ended.
func ended(samples [][]evaluate.Sample) bool {
	for _, s := range samples {
		if len(s) > 0 && !s[len(s)-1].Stale() {
			return false
		}
	}
	return true
}

// youngMissing makes those windows missing that end before an object is old
// enough.
func youngMissing(windows []evaluate.Window, created time.Time, minAge time.Duration) []evaluate.Window {
	if created.IsZero() {
		return windows
	}
	for i := range windows {
		if windows[i].End.Before(created.Add(minAge)) {
			windows[i].Missing = true
		}
	}
	return windows
}

// newest is the time of the newest sample that counts for "no data". A
// condition whose source is silent has no say: that is its source's failure,
// not the object's.
func (ct *court) newest(c *compiled, f found, samples [][]evaluate.Sample) time.Time {
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
		if cond.Expr != "" && cond.Op == "" || cond.Query != "" || ct.silent(cond.metric.Place, f.object.Node) {
			t = ct.at
		}
		switch {
		case t.IsZero() && !c.rule.Any:
			return time.Time{}
		case out.IsZero(), c.rule.Any && t.After(out), !c.rule.Any && t.Before(out):
			out = t
		}
	}
	if ct.skew != nil && !out.IsZero() { // an hour that never was is no hour without data
		out = out.Add(ct.skew(out, ct.at))
		if out.After(ct.at) {
			out = ct.at
		}
	}
	return out
}

// remembers tells whether a policy may have had an alert of a subject that is
// remembered.
func (ct *court) remembers(c *compiled, sub subject) bool {
	if ct.remembered == nil {
		return true
	}
	of := ct.remembered[c.ref.ID]
	// What an expression or a line is about can have any name, so a key may not give
	// back its subject.
	return of[sub] || len(of) > 0 && (c.promql() || c.lines())
}

// named is what values call an object; see objectOf.
type named struct {
	level catalogue.Level
	name  string
}

// known is what the inventory has by such a name.
type known struct {
	listed    bool          // it holds such objects
	object    object.Object // nil: it is not there
	container string        // of a pod, at its level
	workload  *object.Workload
}

// resolve finds an object by its name. Dozens of policies ask for the same one.
func (ct *court) resolve(sub subject) known {
	n := named{sub.level, sub.object}
	if k, ok := ct.known[n]; ok {
		return k
	}
	k := ct.look(sub)
	if k.object != nil {
		k = ct.know(k.object, k.container)
	}
	if ct.known != nil {
		ct.known[n] = k
	}
	return k
}

// look finds an object by its name, without what belongs to it.
func (ct *court) look(sub subject) known {
	key, container, listed := objectKey(sub.level, sub.object)
	k := known{listed: listed}
	if listed {
		if o, ok := ct.inventory.Get(ct.cluster, key); ok {
			k.object, k.container = o, container
		}
	}
	return k
}

// know adds what belongs to an object.
func (ct *court) know(o object.Object, container string) known {
	k := known{listed: true, object: o, container: container}
	switch o := o.(type) {
	case *object.Workload:
		k.workload = o
	case *object.Pod:
		k.workload, _ = ct.workload(o.Namespace, o.Workload)
	}
	return k
}

// lies tells whether a subject lies on one of the nodes of a scope, as the inventory has it. One
// of which it does not know the node yet lies on none: an alert of it would be of none, and nobody's
// to judge.
func (ct *court) lies(c *compiled, s scope, sub subject) bool {
	if s.whole() || !c.onNodes {
		return true
	}
	pod, ok := ct.resolve(sub).object.(*object.Pod)
	return !ok || s.on(pod.Node)
}

// found is what the inventory says of a subject.
type found struct {
	object  incident.Object
	uid     string
	created time.Time
	gone    evaluate.Cause // not empty: it is not judged, and why
	unknown bool           // the inventory cannot say
	why     string         // in words, when unknown
	// unlisted: the inventory does not hold such objects.
	unlisted bool
	lacks    []bool // by condition: the object does not have the metric now
	desired  int    // replicas of its workload
	rollout  string // revision of its workload's template
}

// find asks the inventory about a subject: does it exist, is it selected, and
// which of the policy's metrics does it have.
func (ct *court) find(c *compiled, sub subject, a *incident.Alert) found {
	f := found{object: incident.Object{Level: sub.level, Cluster: ct.cluster}, lacks: make([]bool, len(c.conditions))}
	if sub.level == catalogue.Cluster {
		return f
	}
	k := ct.resolve(sub)
	if !k.listed {
		ct.unlisted(&f, c, sub)
		return f
	}
	if k.object == nil {
		if info, ok := ct.inventory.Info(ct.cluster); !ok || !info.Synced {
			f.unknown, f.why = true, "the inventory is not complete: what is not there may exist"
			return f
		}
		key, _, _ := objectKey(sub.level, sub.object)
		// An expression may be about what Kubernetes does not know. What it knew is
		// gone, though a range of the expression still reaches its samples.
		if _, was := ct.inventory.Gone(ct.cluster, key); !was && c.promql() && (a == nil || a.UID == "") {
			ct.unlisted(&f, c, sub)
			return f
		}
		f.gone = ct.goneCause(key, a)
		return f
	}
	o, container := k.object, k.container
	m := o.GetMeta()
	f.uid, f.created = m.UID, m.CreatedAt
	f.fill(k)
	if a != nil && a.UID != "" && a.UID != m.UID {
		key, _, _ := objectKey(sub.level, sub.object)
		f.gone = ct.goneCause(key, a) // another object has its name now
		return f
	}
	if !c.selection.Object(o, container) {
		f.gone = evaluate.NotSelected
		return f
	}
	if a == nil && ct.at.Before(m.CreatedAt.Add(c.spec.MinAge.D())) {
		f.unknown, f.why = true, "the object is younger than minAge"
		return f
	}
	f.gone = ct.judgeable(&f, c, o, container, a)
	return f
}

// unlisted names an object that the inventory does not hold; it exists as long
// as it has values.
func (ct *court) unlisted(f *found, c *compiled, sub subject) {
	l, ok := labelsOf(sub.level, sub.object)
	if !ok {
		f.unknown, f.why = true, "its labels name no object"
		return
	}
	f.unlisted = true
	f.object.Namespace, f.object.Node, f.object.WorkloadType, f.object.Workload = l["namespace"], l["node"], l["workload_type"], l["workload"]
	f.object.Pod, f.object.Container, f.object.Service, f.object.Volume, f.object.Component = l["pod"], l["container"], l["service"], l["persistentvolumeclaim"], l["component"]
	names := sub.level.ObjectLabels()
	if !c.selection.Named(l["namespace"], object.WorkloadRef{Type: l["workload_type"], Name: l["workload"]}, l[names[len(names)-1]]) {
		f.gone = evaluate.NotSelected
	}
}

// fill names the object for people and receivers.
func (f *found) fill(k known) {
	m := k.object.GetMeta()
	switch o := k.object.(type) {
	case *object.Node:
		f.object.Node = m.Name
	case *object.Namespace:
		f.object.Namespace = m.Name
	case *object.Service:
		f.object.Namespace, f.object.Service = m.Namespace, m.Name
	case *object.Workload:
		f.object.Namespace, f.object.WorkloadType, f.object.Workload = m.Namespace, o.Ref.Type, o.Ref.Name
	case *object.Pod:
		f.object.Namespace, f.object.Pod, f.object.Container, f.object.Node = m.Namespace, m.Name, k.container, o.Node
		f.object.WorkloadType, f.object.Workload = o.Workload.Type, o.Workload.Name
	}
	if w := k.workload; w != nil {
		f.desired, f.rollout = w.Desired, w.Revision
	}
}

func (ct *court) workload(namespace string, ref object.WorkloadRef) (*object.Workload, bool) {
	o, ok := ct.inventory.Get(ct.cluster, object.Key{Kind: object.KindWorkload, Namespace: namespace, Name: ref.String()})
	if !ok {
		return nil, false
	}
	w, ok := o.(*object.Workload)
	return w, ok
}

// judgeable notes which metrics the object does not have now, and gives the
// cause when it has none that could be judged.
func (ct *court) judgeable(f *found, c *compiled, o object.Object, container string, a *incident.Alert) evaluate.Cause {
	var causes []evaluate.Cause
	for i, cond := range c.conditions {
		cause := ct.lacks(cond.metric, o, container, a)
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
func (ct *court) lacks(m catalogue.Metric, o object.Object, container string, a *incident.Alert) evaluate.Cause {
	if m.Place == byLines { // lines that were written stay true
		if m.Kind == catalogue.Counter {
			return ""
		}
		return ct.quiet(o, container, a)
	}
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
				return ct.replacedCause(o.Namespace, o.Workload, a)
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
func (ct *court) goneCause(key object.Key, a *incident.Alert) evaluate.Cause {
	if a == nil || key.Kind != object.KindPod {
		return evaluate.ObjectDeleted
	}
	if t, ok := ct.inventory.Gone(ct.cluster, key); ok {
		if p, ok := t.Last.(*object.Pod); ok && p.UID == a.UID && p.Ended() {
			return evaluate.ObjectFinished
		}
	}
	return ct.replacedCause(a.Object.Namespace, object.WorkloadRef{Type: a.Object.WorkloadType, Name: a.Object.Workload}, a)
}

// replacedCause says why a workload lets a pod go.
func (ct *court) replacedCause(namespace string, ref object.WorkloadRef, a *incident.Alert) evaluate.Cause {
	w, ok := ct.workload(namespace, ref)
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
