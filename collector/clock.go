package collector

import (
	"sync"
	"time"
)

const (
	// clockSlack is how far this clock may be off the server's without being
	// corrected: less cannot be told from the way of a request.
	clockSlack = time.Second
	// clockExchanges are remembered; the quickest of them tells the offset best.
	clockExchanges = 8
	// slowestExchange is one that tells something still.
	slowestExchange = 10 * time.Second
)

// serverClock knows how far this machine's clock is ahead of the server's, as
// NTP finds it: each request's answer carries the server's time, which lies
// between sending and receiving. It is for concurrent use.
type serverClock struct {
	mu        sync.Mutex
	exchanges []exchange
	applied   time.Duration // by which samples are corrected
}

type exchange struct{ offset, trip time.Duration }

// exchanged takes the times of a request: by this clock when it was sent and how
// long it took until its answer, by the server's when it was read.
func (c *serverClock) exchanged(sent time.Time, trip time.Duration, server time.Time) {
	if server.IsZero() || trip < 0 || trip > slowestExchange {
		return
	}
	// The monotonic part would hide a clock that was set meanwhile.
	e := exchange{offset: sent.Round(0).Add(trip / 2).Sub(server.Round(0)), trip: trip}
	c.mu.Lock()
	defer c.mu.Unlock()
	if best, ok := c.bestLocked(); ok && (e.offset-best.offset).Abs() > (e.trip+best.trip)/2+clockSlack/2 {
		c.exchanges = c.exchanges[:0] // one of the clocks was set
	}
	if len(c.exchanges) == clockExchanges {
		c.exchanges = append(c.exchanges[:0], c.exchanges[1:]...)
	}
	c.exchanges = append(c.exchanges, e)
}

func (c *serverClock) bestLocked() (best exchange, ok bool) {
	for i, e := range c.exchanges {
		if i == 0 || e.trip <= best.trip {
			best, ok = e, true
		}
	}
	return best, ok
}

// offset is by how much this clock is ahead; unknown until the server answered.
func (c *serverClock) offset() (d time.Duration, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	best, ok := c.bestLocked()
	return best.offset, ok
}

// correction is what is in force; it changes by settle alone, so that it is the
// same for all of an interval.
func (c *serverClock) correction() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.applied
}

// unchecked says that what is stamped now may be wrong by more than the slack:
// the server's time is not known, or is known since a moment ago only.
func (c *serverClock) unchecked() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	best, ok := c.bestLocked()
	return !ok || (c.applied == 0 && best.offset.Abs() > clockSlack)
}

// settle takes over what is known now as correction: nothing within the slack.
func (c *serverClock) settle() (correction time.Duration, changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	best, ok := c.bestLocked()
	if !ok {
		return c.applied, false
	}
	want := best.offset.Round(time.Millisecond)
	// Once corrected, it stays so until the clock is clearly right: no to and fro.
	if want.Abs() <= clockSlack/2 || (c.applied == 0 && want.Abs() <= clockSlack) {
		want = 0
	}
	if want == c.applied || (want != 0 && (want-c.applied).Abs() <= clockSlack/2) {
		return c.applied, false
	}
	c.applied = want
	return want, true
}
