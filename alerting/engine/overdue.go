package engine

import (
	"context"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

const (
	// byExpression is the place of conditions that are expressions: they are
	// evaluated with a cluster's sums, as all that it sends is there then, and
	// without them when those are overdue. A collector that died holds up sums for
	// minutes, and what finds that is an expression.
	byExpression catalogue.Place = "expression"

	triggerOverdue = "overdue"

	// senderExpression stands for the evaluation of expressions among the senders.
	senderExpression = "expression"

	// overdueSlack is what writing an interval's sums may take beyond their time.
	overdueSlack = 2 * time.Second
	// overdueFor is how long a cluster of which nothing comes is asked. Nothing of
	// it changes any more, and it may be gone for good.
	overdueFor = time.Hour
	// maxMissed times of one stall are journalled.
	maxMissed = 1000
)

// overdueAt gives the newest time whose sums should be there by now, and when
// there will be a newer one.
func overdueAt(now time.Time, interval time.Duration) (at, next time.Time) {
	grace := min(interval/3, 10*time.Second) + overdueSlack
	at = now.Add(-grace).Truncate(interval)
	return at, at.Add(interval + grace)
}

// overdue evaluates expressions whose turn has passed without sums, and says how
// long it is until others are.
func (e *Engine) overdue(ctx context.Context, now time.Time) time.Duration {
	wait := tickEvery
	for cluster, seen := range e.heard() {
		if now.Sub(seen) > overdueFor {
			continue
		}
		interval := e.clusterInterval(cluster)
		lag := e.lag(cluster, now)
		at, next := overdueAt(now.Add(-lag), interval)
		next = next.Add(lag)
		wait = min(wait, next.Sub(now))
		key := sourceKey{cluster, senderExpression}
		src := e.sources[key]
		if src == nil { // sums may just be on their way
			e.sources[key] = &source{seen: seen, interval: interval, at: at, first: next}
			continue
		}
		if at.After(src.at) {
			e.evaluate(ctx, round{source: key, trigger: triggerOverdue, at: at, interval: interval, received: seen})
		}
	}
	return wait
}

// lag is by how much all that a cluster sends is late; 0 when some of it is not.
// What its expressions ask about is as old, and is no silence.
func (e *Engine) lag(cluster string, now time.Time) time.Duration {
	least := time.Duration(0)
	for key, s := range e.sources {
		if key.cluster != cluster || key.sender == senderRollup || key.sender == senderExpression || s.silent(now) {
			continue
		}
		if s.trail.count == 0 {
			return 0
		}
		if least == 0 || s.trail.lag < least {
			least = s.trail.lag
		}
	}
	return least
}

// heard says of each cluster when a sender of it was last heard of.
func (e *Engine) heard() map[string]time.Time {
	out := map[string]time.Time{}
	for key, s := range e.sources {
		if key.sender != senderRollup && key.sender != senderExpression && s.seen.After(out[key.cluster]) {
			out[key.cluster] = s.seen
		}
	}
	return out
}

// admitExpressions says whether a cluster's expressions are still to be evaluated
// for a time, and notes that they are.
func (e *Engine) admitExpressions(r round) bool {
	key := sourceKey{r.source.cluster, senderExpression}
	src := e.sources[key]
	if src == nil {
		src = &source{first: r.at}
		e.sources[key] = src
	}
	src.interval = r.interval
	src.seen = e.heard()[r.source.cluster]
	if !r.at.After(src.at) {
		return false
	}
	if src.first.After(r.at) {
		src.first = r.at
	}
	if !src.at.Before(src.first) { // what a stall left out
		n := 0
		for t := src.at.Add(r.interval); t.Before(r.at) && n < maxMissed; t = t.Add(r.interval) {
			e.journal(round{source: key, at: t, received: r.received}, "overtaken")
			n++
		}
	}
	src.at = r.at
	return true
}

// missedExpressions journals that sums came too late for the expressions of their
// time, unless those were evaluated without.
func (e *Engine) missedExpressions(r round) {
	key := sourceKey{r.source.cluster, senderExpression}
	if src := e.sources[key]; src == nil || r.at.Before(src.first) {
		r.source = key
		e.journal(r, meta.ReasonLate)
	}
}
