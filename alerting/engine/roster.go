package engine

import (
	"maps"

	"github.com/crowsnest-dev/crowsnest/internal/object"
)

// roster remembers, from round to round, which objects of a cluster the policies
// select by patterns: asking every policy about every object costs their product,
// and the answer hardly ever changes. Objects have numbers. For one goroutine.
type roster struct {
	numbers map[named]int32
	members []member // by number
	kept    int      // members after the last cleaning
	picks   map[*compiled]*pick
}

// member is an object as policies were asked about it.
type member struct {
	named
	object    object.Object // nil: it is another one now, or gone
	container string
}

// pick is what one policy said.
type pick struct {
	asked int      // of members
	bits  []uint64 // by number
}

func newRoster() *roster {
	return &roster{numbers: map[named]int32{}, picks: map[*compiled]*pick{}}
}

// number gives an object its number: a new one when it is not what it was, as far as
// a selection can tell.
func (r *roster) number(n named, k known) int32 {
	if num, ok := r.numbers[n]; ok {
		m := &r.members[num]
		if alike(m.object, k.object) {
			m.object = k.object
			return num
		}
		m.object = nil
	}
	num := int32(len(r.members))
	r.members = append(r.members, member{n, k.object, k.container})
	r.numbers[n] = num
	return num
}

// alike tells whether any selection takes both of two objects of one name or none.
func alike(a, b object.Object) bool {
	if a == b {
		return true
	}
	if !maps.Equal(a.GetMeta().Labels, b.GetMeta().Labels) {
		return false
	}
	before, ok := a.(*object.Pod)
	if !ok {
		return true // a workload's reference is its name
	}
	after, ok := b.(*object.Pod)
	return ok && before.Workload == after.Workload
}

// pick gives what a policy selects of all members.
func (r *roster) pick(c *compiled) *pick {
	p := r.picks[c]
	if p == nil {
		p = &pick{}
		r.picks[c] = p
	}
	for p.asked < len(r.members) {
		m := &r.members[p.asked]
		p.add(m.level == c.level && m.object != nil && c.selection.Object(m.object, m.container))
	}
	return p
}

// add notes the answer about the next member.
func (p *pick) add(selected bool) {
	if p.asked%64 == 0 {
		p.bits = append(p.bits, 0)
	}
	if selected {
		p.bits[p.asked/64] |= 1 << (p.asked % 64)
	}
	p.asked++
}

func (p *pick) has(number int32) bool { return p.bits[number/64]&(1<<(number%64)) != 0 }

// forget leaves out what policies said that are no more.
func (r *roster) forget(policies []*compiled) {
	in := make(map[*compiled]bool, len(policies))
	for _, c := range policies {
		in[c] = true
	}
	maps.DeleteFunc(r.picks, func(c *compiled, _ *pick) bool { return !in[c] })
}

// clean forgets objects that are gone, once they may be as many as those that are
// there. The others keep their order.
func (r *roster) clean(there func(named) bool) {
	if len(r.members) < 2*r.kept+minRoster {
		return
	}
	picks := make(map[*compiled]*pick, len(r.picks))
	for c := range r.picks {
		picks[c] = &pick{}
	}
	kept := r.members[:0:0]
	for old, m := range r.members {
		if m.object == nil || !there(m.named) {
			delete(r.numbers, m.named)
			continue
		}
		r.numbers[m.named] = int32(len(kept))
		kept = append(kept, m)
		for c, p := range picks {
			if before := r.picks[c]; old < before.asked {
				p.add(before.has(int32(old)))
			}
		}
	}
	r.members, r.kept, r.picks = kept, len(kept), picks
}

// minRoster is how many objects are not worth a cleaning.
const minRoster = 1024
