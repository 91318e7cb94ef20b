package engine

import (
	"context"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/evaluate"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// jump is a time at which the wall clock was set.
type jump struct {
	at time.Time // by the clock as it was before
	by time.Duration
}

// watchClock compares the wall clock with the monotonic one. When they part by
// more than an interval, ages and deadlines go on as if nothing had been, and
// decisions about silence pause for three intervals: senders stamp by this
// clock, and have to find out first.
func (e *Engine) watchClock(ctx context.Context, now time.Time) {
	mono := e.opts.Monotonic()
	wall, before := e.wall, e.mono
	e.wall, e.mono = now, mono
	if wall.IsZero() {
		return
	}
	by := now.Sub(wall) - (mono - before)
	if by.Abs() <= defaultInterval {
		return
	}
	e.metrics.jumps.Inc()
	e.log.Warn("the wall clock was set", "by_seconds", by.Seconds())
	e.jumps = append(e.jumps, jump{wall, by})
	for len(e.jumps) > 0 && now.Sub(e.jumps[0].at) > evaluate.NoDataLimit {
		e.jumps = e.jumps[1:]
	}
	var longest time.Duration
	for _, s := range e.sources {
		if !s.seen.IsZero() {
			s.seen = s.seen.Add(by)
		}
		if !s.changeAt.IsZero() {
			s.changeAt = s.changeAt.Add(by)
		}
		longest = max(longest, s.interval)
	}
	for id, at := range e.savedAt {
		e.savedAt[id] = at.Add(by)
	}
	e.born = e.born.Add(by)
	clear(e.rests) // they hold for a time by the clock as it was
	e.pausedUntil = mono + missedIntervals*max(longest, defaultInterval)
	err := e.write(ctx, func(tx *meta.Tx) error { return e.book.Shift(tx, by) })
	e.report("store", "move deadlines with the clock", err)
}

// skew is by how much the wall clock was set within a time of data.
func (e *Engine) skew(since, until time.Time) (by time.Duration) {
	for _, j := range e.jumps {
		if j.by > 0 && since.Before(j.at.Add(j.by)) && !until.Before(j.at.Add(j.by)) {
			by += j.by
		}
	}
	return by
}

// silencePaused tells whether nothing is decided about silence now.
func (e *Engine) silencePaused() bool { return e.opts.Monotonic() < e.pausedUntil }
