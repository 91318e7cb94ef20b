package ingest

import (
	"context"
	"slices"
	"sync"
	"time"
)

// turns are the places among the writes of backlog. Who waits for one gets it either
// by the order of coming or by the age of what it brings, by turns. By the order of
// coming alone, a sender whose requests are larger than others' falls further behind
// with each of them (a cluster's own collector beside those of its nodes), and then
// hundreds of intervals wait for it; by age alone, a site that brings a day would keep
// out one that brings an hour.
type turns struct {
	most int // that may wait

	mu      sync.Mutex
	free    int
	waiting []*turn // in the order of coming
	byAge   bool    // the next place goes to who brings the oldest
}

type turn struct {
	through time.Time // up to here its sender has sent everything; zero when it never said
	given   chan struct{}
}

func newTurns(places, most int) *turns { return &turns{most: most, free: places} }

// take waits for a place; false when there was none in time, or too many wait.
func (t *turns) take(ctx context.Context, wait time.Duration, through time.Time) bool {
	t.mu.Lock()
	if t.free > 0 {
		t.free--
		t.mu.Unlock()
		return true
	}
	if len(t.waiting) >= t.most {
		t.mu.Unlock()
		return false
	}
	mine := &turn{through: through, given: make(chan struct{})}
	t.waiting = append(t.waiting, mine)
	t.mu.Unlock()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-mine.given:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	n := slices.Index(t.waiting, mine)
	if n < 0 {
		return true // it was given meanwhile
	}
	t.waiting = slices.Delete(t.waiting, n, n+1)
	return false
}

// give gives a place back, to the next one that waits.
func (t *turns) give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) == 0 {
		t.free++
		return
	}
	next := 0
	if t.byAge {
		for n, one := range t.waiting {
			if first := t.waiting[next].through; !one.through.IsZero() && (first.IsZero() || one.through.Before(first)) {
				next = n
			}
		}
	}
	t.byAge = !t.byAge
	close(t.waiting[next].given)
	t.waiting = slices.Delete(t.waiting, next, next+1)
}

// length is how many wait.
func (t *turns) length() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.waiting)
}
