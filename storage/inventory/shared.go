package inventory

import (
	"hash/maphash"
	"maps"

	"github.com/crowsnest-dev/crowsnest/internal/object"
)

// shared holds the texts and the sets of labels that objects of a cluster have in
// common, so that they are in memory once: decoded, each object has its own, which are
// two thirds of the pieces of memory that a pod takes.
type shared struct {
	seed  maphash.Seed
	texts map[string]string
	sets  map[uint64]map[string]string // by hash; of several with the same, one
	most  int                          // of both; with more, what no object has any more is let go
}

// minShared is what is held before it is asked whether objects have it still.
const minShared = 4096

func newShared() *shared {
	return &shared{seed: maphash.MakeSeed(), texts: map[string]string{}, sets: map[uint64]map[string]string{}, most: minShared}
}

// share gives an object, which nobody else may have yet, what others have already.
func (s *shared) share(o object.Object) {
	eachShared(o, func(t *string) { *t = s.text(*t) }, func(set *map[string]string) { *set = s.set(*set) })
	if p, ok := o.(*object.Pod); ok && len(p.Containers) < cap(p.Containers) {
		p.Containers = append(make([]object.Container, 0, len(p.Containers)), p.Containers...) // decoding doubles
	}
}

// trim lets go what no object of the present has, once that may be half.
func (s *shared) trim(present map[object.Key]entry) {
	if len(s.texts)+len(s.sets) <= s.most {
		return
	}
	s.texts, s.sets = map[string]string{}, map[uint64]map[string]string{}
	for _, e := range present {
		eachShared(e.o, func(t *string) { s.texts[*t] = *t }, func(set *map[string]string) { s.keep(*set) })
	}
	s.most = max(minShared, 2*(len(s.texts)+len(s.sets)))
}

func (s *shared) text(t string) string {
	if has, ok := s.texts[t]; ok {
		return has
	}
	s.texts[t] = t
	return t
}

func (s *shared) set(set map[string]string) map[string]string {
	if len(set) == 0 {
		return set // nil is not the same as empty
	}
	if has := s.sets[s.hash(set)]; maps.Equal(has, set) {
		return has
	}
	own := make(map[string]string, len(set))
	for k, v := range set {
		own[s.text(k)] = s.text(v)
	}
	s.keep(own)
	return own
}

func (s *shared) keep(set map[string]string) {
	s.sets[s.hash(set)] = set
	for k, v := range set {
		s.texts[k], s.texts[v] = k, v
	}
}

// hash does not depend on the order.
func (s *shared) hash(set map[string]string) (sum uint64) {
	for k, v := range set {
		sum += maphash.Comparable(s.seed, [2]string{k, v})
	}
	return sum
}

// eachShared calls text for the fields of an object whose values others have too, and
// set for its sets of labels.
func eachShared(o object.Object, text func(*string), set func(*map[string]string)) {
	meta := func(m *object.Meta) {
		text(&m.Namespace)
		set(&m.Labels)
	}
	switch o := o.(type) {
	case *object.Namespace:
		meta(&o.Meta)
		text(&o.Name)
	case *object.Node:
		meta(&o.Meta)
		for _, t := range []*string{&o.Name, &o.Kubelet, &o.Runtime, &o.OS} {
			text(t)
		}
		for i := range o.Conditions {
			c := &o.Conditions[i]
			text(&c.Type)
			text(&c.Status)
			text(&c.Reason)
		}
		for i := range o.Roles {
			text(&o.Roles[i])
		}
	case *object.Workload:
		meta(&o.Meta)
		for _, t := range []*string{&o.Name, &o.Ref.Type, &o.Ref.Name, &o.Reason, &o.Revision} {
			text(t)
		}
		for i := range o.Images {
			text(&o.Images[i])
		}
	case *object.Service:
		meta(&o.Meta)
		text(&o.Type)
		set(&o.Selector)
	case *object.Pod:
		meta(&o.Meta)
		for _, t := range []*string{&o.Node, &o.Workload.Type, &o.Workload.Name, &o.Phase, &o.Reason} {
			text(t)
		}
		for i := range o.Containers {
			c := &o.Containers[i]
			for _, t := range []*string{&c.Name, &c.Image, &c.State, &c.Reason} {
				text(t)
			}
			if c.Last != nil {
				text(&c.Last.Reason)
			}
		}
	}
}
