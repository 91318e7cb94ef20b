package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/evaluate"
	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

const (
	// historyEvery is how often it is looked whether late data can be stepped
	// through.
	historyEvery = 30 * time.Second
	// historyQuiet after the newest late arrival all is taken to be there.
	historyQuiet = 2 * time.Minute
	// historyLongest is how long a backlog that goes on is waited for.
	historyLongest = 30 * time.Minute
	// historyAfter the range is looked for the ends of what began in it; what goes
	// on for longer is known live.
	historyAfter = time.Hour
	// historyWithin is how old late data may be to be looked at.
	historyWithin = 7 * 24 * time.Hour
	// giveWayFor is how long stepping through late data by one policy waits for live
	// evaluation at most; it ends some time, even if that never rests.
	giveWayFor = time.Minute
	// restAfter is for how many times as long as stepping through late data by one policy
	// took nothing is done before the next one: what is late of a large cluster takes minutes of
	// the processors that the present needs, too.
	restAfter = 4
	// maxHistory alerts of one backlog are kept; the rest is counted.
	maxHistory = 1000
)

// history is what began and ended while a cluster's data were late.
type history struct {
	meta.LateRange
	policies []*compiled
	of       meta.ClusterRow
	interval time.Duration
	until    time.Time // what fires then is live evaluation's affair

	alerts []*incident.Alert
	err    error
}

// gap is the stepping through of late data. All of it but the stepping itself
// belongs to Run's goroutine.
type gap struct {
	lookedAt time.Time
	working  bool
	done     chan *history // has room for the one that works
}

// lateHistory says whose late data can be stepped through now; nil: nobody's.
func (e *Engine) lateHistory(ctx context.Context, now time.Time) *history {
	if e.gap.working || now.Sub(e.gap.lookedAt) < historyEvery || e.opts.Archive == nil || e.opts.ScratchDir == "" {
		return nil
	}
	e.gap.lookedAt = now
	var ranges []meta.LateRange
	err := e.opts.Meta.View(ctx, func(tx *meta.Tx) (err error) { ranges, err = tx.LateRanges(); return err })
	if ctx.Err() == nil {
		e.report("load", "read which data came late", err)
	}
	for _, r := range ranges {
		if now.Sub(r.LastArrived) < historyQuiet && now.Sub(r.FirstArrived) < historyLongest {
			continue
		}
		least := now.Add(-historyWithin)
		if r.From.Before(least) {
			r.From = least
		}
		h := &history{LateRange: r, of: e.clusters[r.Cluster], interval: e.clusterInterval(r.Cluster)}
		h.of.ID = r.Cluster
		h.until = now.Add(-h.interval).Truncate(h.interval)
		if end := r.To.Add(historyAfter).Truncate(h.interval); end.Before(h.until) {
			h.until = end
		}
		for _, c := range e.policies {
			if r.To.After(least) && c.selection.Cluster(r.Cluster, h.of.Labels) && c.misfit(h.interval) == "" && c.created.Before(r.To) && !(c.lines() && e.opts.Lines == nil) {
				h.policies = append(h.policies, c)
			}
		}
		return h
	}
	return nil
}

// precedence has what looks at the past wait for what evaluates the present: both want
// the same processors, and a present that is evaluated late becomes a past that is
// looked at. May be used concurrently.
type precedence struct {
	mu   sync.Mutex
	over chan struct{} // closed when the present was evaluated; nil: it is not being evaluated
}

// begin says that the present is being evaluated, end that it was.
func (p *precedence) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over == nil {
		p.over = make(chan struct{})
	}
}

func (p *precedence) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over != nil {
		close(p.over)
		p.over = nil
	}
}

// giveWay waits while the present is being evaluated, though no longer than most, and
// until ctx ends.
func (p *precedence) giveWay(ctx context.Context, most time.Duration) {
	p.mu.Lock()
	over := p.over
	p.mu.Unlock()
	if over == nil {
		return
	}
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-over:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// step finds what began and ended within the range, by what backtests use. It may
// run beside live evaluation, and gives way to it from policy to policy.
func (e *Engine) step(ctx context.Context, h *history) {
	archive, now := remember(e.opts.Archive), e.opts.Now()
	var replays []*replay
	var before scanned
	var read recorded
	for _, c := range h.policies {
		b := &replay{
			live: e, archive: archive, now: now, c: c, row: meta.Resource{ID: c.ref.ID, Name: c.ref.Name, Project: c.ref.Project}, cluster: h.of, interval: h.interval, complete: true, scanned: &before, recorded: &read,
			from: h.From.Truncate(h.interval), to: h.until, out: &policy.Replay{BySeverity: map[string]int{}}, messages: map[[2]string]int{}, progress: func(float64) {},
		}
		if b.from.Before(b.to) {
			replays = append(replays, b)
		}
	}
	byScan(replays)
	var took time.Duration // by the policy before
	for i, b := range replays {
		replays[i] = nil // what it read is large
		sleep(ctx, restAfter*took)
		e.present.giveWay(ctx, giveWayFor)
		if ctx.Err() != nil {
			return
		}
		began := time.Now()
		err := b.onScratch(ctx, func(db *meta.DB) error {
			return db.View(ctx, func(tx *meta.Tx) error {
				rows, err := tx.Alerts(meta.AlertFilter{State: meta.AlertEnded})
				for _, row := range rows {
					a, err := incident.FromRow(row)
					if err != nil {
						return err
					}
					if a.StartedAt.Before(later(h.From, b.c.created)) || a.StartedAt.After(h.To) {
						continue
					}
					h.alerts = append(h.alerts, a)
				}
				return err
			})
		})
		if err != nil { // the others may be told of
			h.err = errors.Join(h.err, fmt.Errorf("policy %q: %w", b.c.ref.Name, err))
		}
		took = time.Since(began)
	}
	slices.SortStableFunc(h.alerts, func(a, b *incident.Alert) int { return a.StartedAt.Compare(b.StartedAt) })
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// startHistory steps through late data, if any waits for that.
func (e *Engine) startHistory(ctx context.Context, now time.Time) {
	h := e.lateHistory(ctx, now)
	if h == nil {
		return
	}
	e.gap.working = true
	e.workers.Go(func() {
		e.step(ctx, h)
		e.gap.done <- h
	})
}

// keepHistory stores what began and ended while the data were late, and tells of
// all of it once. What live evaluation has found of the same time it leaves alone.
func (e *Engine) keepHistory(ctx context.Context, h *history, now time.Time) {
	e.gap.working = false
	if ctx.Err() != nil {
		return
	}
	e.report("read", "step through late data", h.err)
	told, left := false, 0
	e.gathered = nil
	err := e.write(ctx, func(tx *meta.Tx) error {
		var kept []*incident.Alert
		for _, a := range h.alerts {
			known, err := tx.AlertsAround(a.Policy.ID, h.Cluster, a.Key, a.StartedAt, a.EndedAt)
			if err != nil {
				return err
			}
			switch {
			case len(known) > 0:
			case len(kept) == maxHistory:
				left++
			default:
				a.ID, a.IncidentID = incident.NewID("alt_", a.StartedAt), ""
				a.State = evaluate.State{At: a.EndedAt, Newest: a.EndedAt}
				a.HoldUntil, a.Stale, a.Collecting = time.Time{}, false, false
				if c := e.byID[a.Policy.ID]; c != nil && c.spec != nil {
					e.address(a, c)
				}
				kept = append(kept, a)
			}
		}
		var err error
		if told, err = e.book.Late(tx, now, kept, left); err != nil {
			return err
		}
		return tx.StepLate(h.Cluster, h.LastArrived)
	})
	e.report("store", "store late history", err)
	if err == nil && told {
		e.opts.Told()
	}
	if err == nil {
		e.log.Info("stepped through late data", "cluster", h.Cluster, "from", h.From, "to", h.To, "alerts", len(h.alerts), "left", left)
	}
}
