package engine

import (
	"maps"
	"slices"

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
	sorted  map[string][]subject
	held    func(*compiled, subject) bool // it was ended by hand, and is to be looked at
}

func newIndex(ct *court, data readings, held func(*compiled, subject) bool) *index {
	return &index{ct: ct, data: data, metrics: map[string]map[trait][]subject{}, sorted: map[string][]subject{}, held: held}
}

// selected visits the subjects of a metric that a policy selects, in order, and what
// is no more or is not the inventory's: whoever judges knows about that.
func (x *index) selected(c *compiled, metric string, visit func(subject)) {
	all, ok := x.sorted[metric]
	if !ok {
		all = inOrder(slices.AppendSeq(make([]subject, 0, len(x.data.metrics[metric])), maps.Keys(x.data.metrics[metric])))
		x.sorted[metric] = all
	}
	for _, sub := range all {
		if k := x.ct.resolve(sub); k.object == nil || c.selection.Object(k.object, k.container) || x.held(c, sub) {
			visit(sub)
		}
	}
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
