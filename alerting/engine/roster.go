package engine

import (
	"maps"
	"math/bits"
	"slices"

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
	asked   int              // of members about which every selection was asked
	picks   map[string]*pick // by the selection's key: policies with equal ones share it

	present []int32 // numbers of those whom the present round is about; some maybe twice
	looked  int     // at so many of present it was looked for who selects them, in this turn
	turn    int
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
	replaced  bool    // it is another one by now; a round that began before goes on with this one
	picked    []*pick // those that select it and few
}

// pick is what one selection said. Where it selects few, as most do, each of them knows
// it: a round about a node's pods asks these, and not a thousand selections about each.
type pick struct {
	selection *policy.Selection
	asked     int      // of members
	few       []int32  // numbers, in order
	many      []uint64 // bits by number, when they are not few; not up to the last number
	found     []int32  // those of few that are present, when its turn is the roster's
	turn      int
}

// few is how many members are few: so few that their numbers, and that they know of it,
// take no more memory than a bit for each member.
func (r *roster) few() int { return 32 + len(r.members)/256 }

func newRoster() *roster {
	return &roster{numbers: map[named]int32{}, picks: map[string]*pick{}}
}

// begin begins a round.
func (r *roster) begin(there func(named) bool) {
	r.clean(there)
	r.present = r.present[:0]
	r.look()
}

// look begins anew to look for who selects those that are present.
func (r *roster) look() { r.turn, r.looked = r.turn+1, 0 }

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
		r.asked = 0
	}
	return p
}

// pick gives what a policy selects of all members.
func (r *roster) pick(c *compiled) *pick {
	p := r.enlist(c)
	if r.asked < len(r.members) {
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
			for ; p.asked < from; p.asked++ {
				m := &r.members[p.asked]
				if p.selection.Object(m.object, m.container) {
					r.add(p, int32(p.asked))
				}
			}
		}
	}
	r.asked = len(r.members)
	r.look() // a selection that is new may be one that they were not asked for
}

// add notes that a member is selected, after all those before it.
func (r *roster) add(p *pick, number int32) {
	switch {
	case p.many != nil:
		p.set(number)
	case len(p.few) < r.few():
		p.few = append(p.few, number)
		m := &r.members[number]
		m.picked = append(m.picked, p)
	default:
		r.leave(p)
		for _, n := range append(p.few, number) {
			p.set(n)
		}
		p.few, p.found = nil, nil
	}
}

func (p *pick) set(number int32) {
	for int(number/64) >= len(p.many) {
		p.many = append(p.many, 0)
	}
	p.many[number/64] |= 1 << (number % 64)
}

// leave has members not know a selection any more.
func (r *roster) leave(p *pick) {
	for _, n := range p.few {
		m := &r.members[n]
		m.picked = slices.DeleteFunc(m.picked, func(of *pick) bool { return of == p })
	}
}

// each calls fn with the numbers of those that are selected.
func (p *pick) each(fn func(number int32)) {
	for _, n := range p.few {
		fn(n)
	}
	for i, word := range p.many {
		for ; word != 0; word &= word - 1 {
			fn(int32(i*64 + bits.TrailingZeros64(word)))
		}
	}
}

// eachPresent is each without those that are not present, where it is quicker to know.
func (r *roster) eachPresent(p *pick, fn func(number int32)) {
	if p.many != nil || len(r.present) > r.few() {
		p.each(fn)
		return
	}
	for ; r.looked < len(r.present); r.looked++ {
		n := r.present[r.looked]
		for _, of := range r.members[n].picked {
			if of.turn != r.turn {
				of.turn, of.found = r.turn, of.found[:0]
			}
			of.found = append(of.found, n)
		}
	}
	if p.turn == r.turn {
		for _, n := range p.found {
			fn(n)
		}
	}
}

func (p *pick) has(number int32) bool {
	if p.many == nil {
		_, ok := slices.BinarySearch(p.few, number)
		return ok
	}
	return int(number/64) < len(p.many) && p.many[number/64]&(1<<(number%64)) != 0
}

// forget leaves out what selections said that no policy has any more.
func (r *roster) forget(policies []*compiled) {
	in := make(map[string]bool, len(policies))
	for _, c := range policies {
		in[c.picks] = true
	}
	maps.DeleteFunc(r.picks, func(key string, p *pick) bool {
		if in[key] {
			return false
		}
		r.leave(p)
		return true
	})
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
	r.ask() // so that all were asked about all that are kept
	const gone = -1
	now := make([]int32, len(r.members)) // numbers, by those that they had
	kept := r.members[:0:0]
	for old, m := range r.members {
		if m.replaced || !there(m.named) {
			delete(r.numbers, m.named)
			now[old] = gone
			continue
		}
		now[old] = int32(len(kept))
		r.numbers[m.named] = now[old]
		m.picked = nil
		kept = append(kept, m)
	}
	r.members, r.kept, r.asked = kept, len(kept), len(kept)
	for _, p := range r.picks {
		before := *p
		*p = pick{selection: p.selection, asked: len(kept)}
		before.each(func(old int32) {
			if now[old] != gone {
				r.add(p, now[old])
			}
		})
	}
}

// minRoster is how many objects are not worth a cleaning.
const minRoster = 1024
