package engine

import (
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
	metrics map[string]*indexed
	asked   map[*register]bool
	roster  func(catalogue.Level) *roster
	held    map[string][]subject // by policy: ended by hand, and to be looked at
}

// indexed are the values of a metric, of each of which the place is known.
type indexed struct {
	*values
	outside []int32           // what is not the inventory's
	traits  map[trait][]int32 // made when it is asked for
}

// newIndex makes the index of a round of policies.
func newIndex(ct *court, data readings, policies []*compiled, r func(catalogue.Level) *roster, held map[string][]subject) *index {
	for _, c := range policies {
		if c.patterned() {
			r(c.level).enlist(c)
		}
	}
	return &index{ct: ct, data: data, metrics: map[string]*indexed{}, asked: map[*register]bool{}, roster: r, held: held}
}

// patterned tells whether what a policy selects is found by asking its selection.
func (c *compiled) patterned() bool {
	return !c.hinted && !c.selection.Everything() && !c.promql() && !c.lines()
}

// Places of subjects that are not on the roster.
const (
	nobodyAsked = iota
	isGone
	isOutside // of the inventory
	onRoster  // this and more: the object's number there
)

// place tells where the object of a subject is on the roster. It is looked for once a
// round, whatever is read of it.
func (x *index) place(r *register, number int32) int32 {
	if p := r.places[number]; p != nobodyAsked {
		return p
	}
	sub := r.subjects[number]
	k := x.ct.look(sub)
	switch {
	case !k.listed:
		r.places[number] = isOutside
	case k.object == nil:
		r.places[number] = isGone
	default:
		of := x.roster(r.level)
		n := of.number(named{sub.level, sub.object}, k)
		for int(n) >= len(r.first) {
			r.first = append(r.first, 0)
		}
		if r.first[n] == 0 {
			of.present = append(of.present, n)
		}
		r.next[number], r.first[n] = r.first[n], number+1
		r.places[number] = onRoster + n
	}
	return r.places[number]
}

// metric gives the values of a metric; nil: there are none.
func (x *index) metric(name string) *indexed {
	m, ok := x.metrics[name]
	if ok {
		return m
	}
	if v := x.data.metrics[name]; v.len() > 0 {
		if !x.asked[v.of] {
			x.asked[v.of] = true
			v.of.ask()
		}
		m = &indexed{values: v}
		for _, r := range v.rows {
			if x.place(v.of, r.number) == isOutside {
				m.outside = append(m.outside, r.number)
			}
		}
	}
	x.metrics[name] = m
	return m
}

// selected visits the numbers of a metric's subjects that a policy selects, and what is
// not the inventory's: whoever judges knows about that. Some may be visited twice.
func (x *index) selected(c *compiled, metric string, visit func(number int32)) {
	m := x.metric(metric)
	if m == nil {
		return
	}
	for _, sub := range x.held[c.ref.ID] {
		if number, ok := m.of.find(sub); ok && m.has(number) {
			visit(number)
		}
	}
	if !c.patterned() {
		for _, r := range m.rows {
			if m.of.places[r.number] != isGone { // which is judged only while it fires
				visit(r.number)
			}
		}
		return
	}
	for _, number := range m.outside {
		visit(number)
	}
	r := x.roster(c.level)
	picked := r.pick(c)
	if len(m.rows) < len(picked.many) { // of a few it is quicker to ask which are
		for _, row := range m.rows {
			if p := m.of.places[row.number]; p >= onRoster && picked.has(p-onRoster) {
				visit(row.number)
			}
		}
		return
	}
	r.eachPresent(picked, func(number int32) {
		if int(number) >= len(m.of.first) {
			return // another metric has it
		}
		for n := m.of.first[number]; n > 0; n = m.of.next[n-1] {
			if m.has(n - 1) {
				visit(n - 1)
			}
		}
	})
}

// each visits the numbers of a metric's subjects that may be selected.
func (x *index) each(metric string, h policy.Hint, visit func(number int32)) {
	m := x.metric(metric)
	if m == nil {
		return
	}
	if m.traits == nil {
		m.traits = x.traits(m)
	}
	for _, v := range h.Values {
		for _, number := range m.traits[trait{h.Kind, v}] {
			visit(number)
		}
	}
}

func (x *index) traits(m *indexed) map[trait][]int32 {
	out := map[trait][]int32{}
	for _, r := range m.rows {
		add := func(kind, value string) {
			t := trait{kind, value}
			out[t] = append(out[t], r.number)
		}
		p := m.of.places[r.number]
		switch p {
		case isGone:
			continue // it is judged only while it fires
		case isOutside:
			sub := m.of.subjects[r.number]
			l, _ := labelsOf(sub.level, sub.object)
			names := sub.level.ObjectLabels()
			add(policy.HintName, l[names[len(names)-1]])
			add(policy.HintNamespace, l["namespace"])
			add(policy.HintWorkload, l["workload_type"]+"/"+l["workload"])
			continue
		}
		one := x.roster(m.of.level).members[p-onRoster]
		meta := one.object.GetMeta()
		name, namespace, workload := meta.Name, meta.Namespace, object.WorkloadRef{}
		switch o := one.object.(type) {
		case *object.Namespace:
			namespace = meta.Name
		case *object.Workload:
			workload = o.Ref
		case *object.Pod:
			workload = o.Workload
			if one.container != "" {
				name = one.container
			}
		}
		add(policy.HintName, name)
		add(policy.HintNamespace, namespace)
		add(policy.HintWorkload, workload.String())
		for k, v := range meta.Labels {
			add(policy.HintLabel, k+"="+v)
		}
	}
	return out
}
