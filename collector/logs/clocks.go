package logs

import "time"

// setBackLeast is by how much a clock goes back when it was set, and not because its two
// readings are not of the same moment.
const setBackLeast = completeAfter / 10

// clocks are the wall clock, and one that is never set: they tell that the first one was.
type clocks struct {
	now       func() time.Time
	monotonic func() time.Duration // nil: what now's readings have of one
}

// moment is one by both clocks.
type moment struct {
	wall      time.Time
	monotonic time.Duration
}

func (c clocks) moment() moment {
	m := moment{wall: c.now()}
	if c.monotonic != nil {
		m.monotonic = c.monotonic()
	}
	return m
}

// setBackSince says whether the wall clock was set back after a moment, though it may have
// passed the time of that again: what was written meanwhile is of times before it.
func (c clocks) setBackSince(m moment) bool { return c.moment().setBackFrom(m) }

func (m moment) setBackFrom(before moment) bool {
	passed := m.wall.Sub(before.wall) // by the monotonic part, where both have one
	if m.monotonic != 0 || before.monotonic != 0 {
		passed = m.monotonic - before.monotonic
	}
	by := m.wall.Round(0).Sub(before.wall.Round(0))
	return by < 0 || by < passed-setBackLeast
}
