package collector

import (
	"math"
	"time"

	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/object"
)

// An object's changes travel at once: so many in a row, then one each paceEvery.
// What comes faster is held and told as one, so that a pod that flaps costs no
// more than its share and its newest state is at most paceEvery late.
const (
	paceBurst = 6
	paceEvery = 5 * time.Second
)

// pace bounds how often one object's changes travel beside the grid. It is not
// for concurrent use. It remembers objects only as long as they have changed
// lately.
type pace struct {
	objects map[paced]*allowance
	cluster allowance // for what is counted over all objects
	held    int       // changes that were told as one with a later one, since the start
}

type paced struct {
	kind object.Kind
	uid  string
}

// allowance is what one object may send still.
type allowance struct {
	left float64
	at   time.Time     // when left was reckoned; zero for a full one
	held *state.Change // what has to wait, as one change
}

func newPace() *pace { return &pace{objects: map[paced]*allowance{}} }

// refill reckons what is left at a time.
func (a *allowance) refill(now time.Time) {
	if a.at.IsZero() {
		a.left = paceBurst
	} else {
		a.left = min(paceBurst, a.left+max(0, now.Sub(a.at).Seconds())/paceEvery.Seconds())
	}
	a.at = now
}

// take uses one up; false when there is none.
func (a *allowance) take(now time.Time) bool {
	a.refill(now)
	if a.left < 1 {
		return false
	}
	a.left--
	return true
}

// wait is how long it takes until one is left.
func (a *allowance) wait() time.Duration {
	return time.Duration(math.Ceil(max(0, 1-a.left) * float64(paceEvery)))
}

// next gives the changes that may travel now, those that were held before among
// them, whether the cluster's own counts may, and when to ask again for what has
// to wait; 0 when nothing does. The end of an object never waits.
func (p *pace) next(now time.Time, changes []state.Change) (send []state.Change, cluster bool, again time.Duration) {
	for _, ch := range changes {
		k := pacedOf(ch)
		a := p.objects[k]
		if a == nil {
			a = &allowance{}
			p.objects[k] = a
		}
		if a.held != nil {
			if ch.Now != nil { // the end of an object speaks of its last state
				ch.Before = a.held.Before
			}
			p.held++
		}
		a.held = &ch
	}
	for k, a := range p.objects {
		if a.held == nil {
			if a.refill(now); a.left >= paceBurst {
				delete(p.objects, k)
			}
			continue
		}
		switch ended := a.held.Now == nil; {
		case ended:
			send = append(send, *a.held)
			delete(p.objects, k)
		case a.take(now):
			send = append(send, *a.held)
			a.held = nil
		default:
			again = sooner(again, a.wait())
		}
	}
	if len(send) > 0 {
		if cluster = p.cluster.take(now); !cluster {
			p.cluster.held = &state.Change{}
		}
	} else if p.cluster.held != nil {
		cluster = p.cluster.take(now)
	}
	if cluster {
		p.cluster.held = nil
	}
	if p.cluster.held != nil {
		again = sooner(again, p.cluster.wait())
	}
	return send, cluster, again
}

// told says that the grid has told everything: nothing waits any more. It gives
// the changes that it told.
func (p *pace) told(changes []state.Change) []state.Change {
	for _, a := range p.objects {
		if a.held != nil {
			changes = append(changes, *a.held)
			a.held = nil
		}
	}
	p.cluster.held = nil
	return changes
}

func pacedOf(ch state.Change) paced {
	o := ch.Now
	if o == nil {
		o = ch.Before
	}
	return paced{o.Kind(), o.GetMeta().UID}
}

func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b < a {
		return b
	}
	return a
}
