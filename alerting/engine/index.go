package engine

import (
	"slices"

	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/object"
)

// indexFrom so many policies in a round on, it is worth to know which of the
// values could be selected by which policy: asking each policy about each object
// costs their product.
const indexFrom = 50

// trait is something that an object has.
type trait struct{ kind, value string }

// index finds the subjects of a round's metrics by their traits. For one
// goroutine.
type index struct {
	ct      *court
	data    readings
	metrics map[string]map[trait][]subject
	byPick  map[string]*numbered
	roster  func(catalogue.Level) *roster
	held    map[string][]subject // by policy: ended by hand, and to be looked at
	scratch *scratch             // nil: everything is made anew
}

// numbered are the subjects of a metric by the numbers of their objects on the roster.
type numbered struct {
	roster   *roster
	subjects []subject
	numbers  []int32   // by place: that of the object
	first    []int32   // by number: a place in subjects; -1: the metric has none of it
	next     []int32   // by place: that of another subject of the same object; -1: there is none
	outside  []subject // what is not the inventory's
	all      []subject // subjects and outside, in order; made when it is asked for
	ordered  bool      // all is made
}

// reset empties the lists and keeps their memory.
func (n *numbered) reset() {
	*n = numbered{subjects: n.subjects[:0], numbers: n.numbers[:0], first: n.first[:0], next: n.next[:0], outside: n.outside[:0], all: n.all[:0]}
}

// newIndex makes the index of a round of policies.
func newIndex(ct *court, data readings, policies []*compiled, r func(catalogue.Level) *roster, held map[string][]subject) *index {
	for _, c := range policies {
		if c.patterned() {
			r(c.level).enlist(c)
		}
	}
	return &index{ct: ct, data: data, metrics: map[string]map[trait][]subject{}, byPick: map[string]*numbered{}, roster: r, held: held}
}

// patterned tells whether what a policy selects is found by asking its selection.
func (c *compiled) patterned() bool {
	return !c.hinted && !c.selection.Everything() && !c.promql() && !c.lines()
}

// selected visits the subjects of a metric that a policy selects, and what is not the
// inventory's: whoever judges knows about that. Some may be visited twice.
func (x *index) selected(c *compiled, metric string, visit func(subject)) {
	of := x.numbered(c.level, metric)
	for _, sub := range x.held[c.ref.ID] {
		if _, ok := x.data.metrics[metric][sub]; ok {
			visit(sub)
		}
	}
	if !c.patterned() {
		for _, sub := range of.inOrder() {
			visit(sub)
		}
		return
	}
	for _, sub := range of.outside {
		visit(sub)
	}
	picked := of.roster.pick(c)
	if len(of.subjects) < len(picked.bits) { // of a few it is quicker to ask which are
		for i, sub := range of.subjects {
			if picked.has(of.numbers[i]) {
				visit(sub)
			}
		}
		return
	}
	picked.each(func(number int32) {
		if int(number) >= len(of.first) {
			return // another metric has it
		}
		for i := of.first[number]; i >= 0; i = of.next[i] {
			visit(of.subjects[i])
		}
	})
}

func (x *index) numbered(level catalogue.Level, metric string) *numbered {
	out := x.byPick[metric]
	if out != nil {
		return out
	}
	out = x.scratch.numbered(metric)
	out.roster = x.roster(level)
	x.byPick[metric] = out
	of := x.data.metrics[metric]
	out.subjects, out.next, out.numbers = slices.Grow(out.subjects, len(of)), slices.Grow(out.next, len(of)), slices.Grow(out.numbers, len(of))
	for sub := range of {
		k := x.ct.resolve(sub)
		switch {
		case !k.listed:
			out.outside = append(out.outside, sub)
			continue
		case k.object == nil: // what is gone is judged only while it fires
			continue
		}
		number := out.roster.number(named{sub.level, sub.object}, k)
		for int(number) >= len(out.first) {
			out.first = append(out.first, -1)
		}
		out.next = append(out.next, out.first[number])
		out.first[number] = int32(len(out.subjects))
		out.subjects, out.numbers = append(out.subjects, sub), append(out.numbers, number)
	}
	return out
}

func (n *numbered) inOrder() []subject {
	if !n.ordered {
		n.all, n.ordered = inOrder(append(append(n.all, n.subjects...), n.outside...)), true
	}
	return n.all
}

// each visits the subjects of a metric that may be selected.
func (x *index) each(metric string, h policy.Hint, visit func(subject)) {
	by, ok := x.metrics[metric]
	if !ok {
		by = x.build(metric)
		x.metrics[metric] = by
	}
	for _, v := range h.Values {
		for _, sub := range by[trait{h.Kind, v}] {
			visit(sub)
		}
	}
}

func (x *index) build(metric string) map[trait][]subject {
	out := map[trait][]subject{}
	for sub := range x.data.metrics[metric] {
		add := func(kind, value string) {
			t := trait{kind, value}
			out[t] = append(out[t], sub)
		}
		k := x.ct.resolve(sub)
		if !k.listed { // one that the inventory does not hold
			l, _ := labelsOf(sub.level, sub.object)
			names := sub.level.ObjectLabels()
			add(policy.HintName, l[names[len(names)-1]])
			add(policy.HintNamespace, l["namespace"])
			add(policy.HintWorkload, l["workload_type"]+"/"+l["workload"])
			continue
		}
		if k.object == nil {
			continue // what is gone is judged only while it fires
		}
		m := k.object.GetMeta()
		name, namespace, workload := m.Name, m.Namespace, object.WorkloadRef{}
		switch o := k.object.(type) {
		case *object.Namespace:
			namespace = m.Name
		case *object.Workload:
			workload = o.Ref
		case *object.Pod:
			workload = o.Workload
			if k.container != "" {
				name = k.container
			}
		}
		add(policy.HintName, name)
		add(policy.HintNamespace, namespace)
		add(policy.HintWorkload, workload.String())
		for k, v := range m.Labels {
			add(policy.HintLabel, k+"="+v)
		}
	}
	return out
}
