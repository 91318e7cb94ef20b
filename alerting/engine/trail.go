package engine

import "time"

const (
	// trailAfter arrivals that were all as late as each other a sender trails.
	trailAfter = 10
	// maxTrail is how late a sender may always be and still be evaluated.
	maxTrail = 30 * time.Minute
)

// trail tells a sender that is always late by the same time, as one with a wrong
// clock or behind a slow way is, from one that sends what it kept while it was
// cut off. The newest that the first has to say is late, and would never be
// evaluated; what the second has to say is about the past.
type trail struct {
	newest time.Time     // of late arrivals
	lag    time.Duration // of the first of them
	count  int
}

// follows notes a late arrival for a time, and says whether its
// sender trails by now. What a sender kept comes faster than it was made, so that
// each arrival is less late than the one before.
func (t *trail) follows(at, now time.Time, interval time.Duration) bool {
	if !at.After(t.newest) {
		return false
	}
	t.newest = at
	lag := now.Sub(at)
	if lag > maxTrail {
		t.count = 0
		return false
	}
	if d := lag - t.lag; t.count == 0 || d.Abs() >= interval {
		t.lag, t.count = lag, 0
	}
	t.count++
	return t.count > trailAfter
}

// trails says whether the newest arrivals were evaluated though they were late.
func (t *trail) trails() bool { return t.count > trailAfter }
