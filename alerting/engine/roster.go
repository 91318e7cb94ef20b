package engine

import (
	"maps"
	"math/bits"

	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/object"
)

// roster remembers, from round to round, which objects of a level of a cluster the
// policies select by patterns: asking every policy about every object costs their
// product, and the answer hardly ever changes. Objects have numbers. For one
// goroutine.
type roster struct {
	numbers map[named]int32
	members []member         // by number
	kept    int              // members after the last cleaning
	picks   map[string]*pick // by the selection's key: policies with equal ones share it
}

type rosterKey struct {
	cluster string
	level   catalogue.Level
}

// member is an object as policies were asked about it.
type member struct {
	named
	object    object.Object
	container string
	replaced  bool // it is another one by now; a round that began before goes on with this one
}

// pick is what one selection said.
type pick struct {
	selection *policy.Selection
	asked     int      // of members
	bits      []uint64 // by number
}

func newRoster() *roster {
	return &roster{numbers: map[named]int32{}, picks: map[string]*pick{}}
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
		m.replaced = true
	}
	num := int32(len(r.members))
	r.members = append(r.members, member{named: n, object: k.object, container: k.container})
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

// enlist has a policy's selection asked with the others, the next time that any is.
func (r *roster) enlist(c *compiled) *pick {
	p := r.picks[c.picks]
	if p == nil {
		p = &pick{selection: c.selection}
		r.picks[c.picks] = p
	}
	return p
}

// pick gives what a policy selects of all members.
func (r *roster) pick(c *compiled) *pick {
	p := r.enlist(c)
	if p.asked < len(r.members) {
		r.ask()
	}
	return p
}

// ask asks all selections about the members that they were not asked about. All of
// them are asked about a few members at a time, since fetching an object from memory
// takes longer than asking about it.
func (r *roster) ask() {
	from := len(r.members)
	for _, p := range r.picks {
		from = min(from, p.asked)
	}
	for from < len(r.members) {
		from = min(from+64, len(r.members))
		for _, p := range r.picks {
			for p.asked < from {
				m := &r.members[p.asked]
				p.add(p.selection.Object(m.object, m.container))
			}
		}
	}
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

// each calls fn with the numbers of those that are selected.
func (p *pick) each(fn func(number int32)) {
	for i, word := range p.bits {
		for ; word != 0; word &= word - 1 {
			fn(int32(i*64 + bits.TrailingZeros64(word)))
		}
	}
}

func (p *pick) has(number int32) bool { return p.bits[number/64]&(1<<(number%64)) != 0 }

// forget leaves out what selections said that no policy has any more.
func (r *roster) forget(policies []*compiled) {
	in := make(map[string]bool, len(policies))
	for _, c := range policies {
		in[c.picks] = true
	}
	maps.DeleteFunc(r.picks, func(key string, _ *pick) bool { return !in[key] })
}

// clean forgets objects that are gone, once they may be as many as those that are
// there. The others keep their order.
func (r *roster) clean(there func(named) bool) {
	if len(r.members) < 2*r.kept+minRoster {
		return
	}
	if r.kept == 0 { // they have just come
		r.kept = len(r.members)
		return
	}
	picks := make(map[string]*pick, len(r.picks))
	for key, p := range r.picks {
		picks[key] = &pick{selection: p.selection}
	}
	kept := r.members[:0:0]
	for old, m := range r.members {
		if m.replaced || !there(m.named) {
			delete(r.numbers, m.named)
			continue
		}
		r.numbers[m.named] = int32(len(kept))
		kept = append(kept, m)
		for key, p := range picks {
			if before := r.picks[key]; old < before.asked {
				p.add(before.has(int32(old)))
			}
		}
	}
	r.members, r.kept, r.picks = kept, len(kept), picks
}

// minRoster is how many objects are not worth a cleaning.
const minRoster = 1024
