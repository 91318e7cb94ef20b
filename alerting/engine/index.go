package engine

import (
	"github.com/crowsnest-dev/crowsnest/alerting/policy"
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
	sorted  map[string]numbered
	roster  *roster
	held    func(*compiled, subject) bool // it was ended by hand, and is to be looked at
}

// numbered are the subjects of a metric in order, and the numbers of their objects on
// the roster; -1 of what is not the inventory's.
type numbered struct {
	subjects []subject
	numbers  []int32
	gone     []subject // what is gone is judged only while it fires
}

func newIndex(ct *court, data readings, r *roster, held func(*compiled, subject) bool) *index {
	return &index{ct: ct, data: data, metrics: map[string]map[trait][]subject{}, sorted: map[string]numbered{}, roster: r, held: held}
}

// selected visits the subjects of a metric that a policy selects, and what is not the
// inventory's: whoever judges knows about that.
func (x *index) selected(c *compiled, metric string, visit func(subject)) {
	all := x.numbered(metric)
	for _, sub := range all.gone {
		if x.held(c, sub) {
			visit(sub)
		}
	}
	if c.selection.Everything() {
		for _, sub := range all.subjects {
			visit(sub)
		}
		return
	}
	picked := x.roster.pick(c)
	for i, sub := range all.subjects {
		if n := all.numbers[i]; n < 0 || picked.has(n) || x.held(c, sub) {
			visit(sub)
		}
	}
}

func (x *index) numbered(metric string) numbered {
	out, ok := x.sorted[metric]
	if ok {
		return out
	}
	of := x.data.metrics[metric]
	out.subjects = make([]subject, 0, len(of))
	for sub := range of {
		if k := x.ct.resolve(sub); k.listed && k.object == nil {
			out.gone = append(out.gone, sub)
			continue
		}
		out.subjects = append(out.subjects, sub)
	}
	out.subjects = inOrder(out.subjects)
	out.numbers = make([]int32, len(out.subjects))
	for i, sub := range out.subjects {
		out.numbers[i] = -1
		if k := x.ct.resolve(sub); k.listed {
			out.numbers[i] = x.roster.number(named{sub.level, sub.object}, k)
		}
	}
	x.sorted[metric] = out
	return out
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
