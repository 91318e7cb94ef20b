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
}

func newIndex(ct *court, data readings) *index {
	return &index{ct: ct, data: data, metrics: map[string]map[trait][]subject{}}
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
		key, container, ok := objectKey(sub.level, sub.object)
		if !ok { // one that the inventory does not hold
			l, _ := labelsOf(sub.level, sub.object)
			names := sub.level.ObjectLabels()
			add(policy.HintName, l[names[len(names)-1]])
			add(policy.HintNamespace, l["namespace"])
			add(policy.HintWorkload, l["workload_type"]+"/"+l["workload"])
			continue
		}
		o, exists := x.ct.inventory.Get(x.ct.cluster, key)
		if !exists {
			continue // what is gone is judged only while it fires
		}
		m := o.GetMeta()
		name, namespace, workload := m.Name, m.Namespace, object.WorkloadRef{}
		switch o := o.(type) {
		case *object.Namespace:
			namespace = m.Name
		case *object.Workload:
			workload = o.Ref
		case *object.Pod:
			workload = o.Workload
			if container != "" {
				name = container
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
