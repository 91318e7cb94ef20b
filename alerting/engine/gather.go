package engine

import (
	"context"
	"slices"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/evidence"
	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

const (
	// evidenceBudget is how long the first message waits for its evidence. What
	// comes later follows as an update.
	evidenceBudget = 300 * time.Millisecond
	// evidenceTimeout is how long is collected for one alert.
	evidenceTimeout = 10 * time.Second
	// collectors work at the same time.
	collectors = 4
	// maxCollecting alerts wait for a collector; the evidence of more is not
	// collected, and that is counted.
	maxCollecting = 1000
)

// Evidence collects what is around an alert. It may be called concurrently, and
// must come back when its context ends.
type Evidence interface {
	Collect(ctx context.Context, a *incident.Alert, now time.Time) *incident.Around
}

var _ Evidence = (*evidence.Collector)(nil)

// collected is what was found around an alert.
type collected struct {
	alert  *incident.Alert
	around *incident.Around
}

// gathering is the collection of evidence. All of it but the collectors
// themselves belongs to Run's goroutine.
type gathering struct {
	waiting []*incident.Alert
	working int
	done    chan collected // has room for all that work
	paused  time.Time      // when the engine last waited
	budget  time.Duration  // how long it waits
}

// gatherEvidence has evidence collected for alerts that begin, and waits for it a
// little. What is not there by then comes through e.evidence.done.
func (e *Engine) gatherEvidence(ctx context.Context, changed []*incident.Alert) {
	if e.opts.Evidence == nil {
		return
	}
	g := &e.evidence
	begin := map[string]*incident.Alert{}
	for _, a := range changed {
		if a.IncidentID != "" || !a.Firing || a.External != nil {
			continue
		}
		if len(g.waiting) >= maxCollecting {
			e.metrics.bare.WithLabelValues("busy").Inc()
			continue
		}
		a.Collecting = true
		begin[a.ID] = a
		g.waiting = append(g.waiting, a)
	}
	if len(begin) == 0 {
		return
	}
	e.collect(ctx)
	// A store that does not answer must not keep the engine from its work: at
	// most half of the time is spent waiting.
	budget := min(g.budget, time.Since(g.paused))
	timer := time.NewTimer(budget)
	defer timer.Stop()
	defer func() { g.paused = time.Now() }()
	var late []collected
	for len(begin) > 0 {
		select {
		case f := <-g.done:
			g.working--
			if a := begin[f.alert.ID]; a != nil {
				a.Found, a.Collecting = f.around, false
				delete(begin, f.alert.ID)
			} else {
				late = append(late, f)
			}
			e.collect(ctx)
			continue
		case <-timer.C:
			e.metrics.bare.WithLabelValues("late").Add(float64(len(begin)))
		case <-ctx.Done():
		}
		break
	}
	e.foundLate(ctx, late...)
}

// collect starts collectors for what waits.
func (e *Engine) collect(ctx context.Context) {
	g := &e.evidence
	for g.working < collectors && len(g.waiting) > 0 {
		a := g.waiting[0]
		g.waiting = g.waiting[1:]
		g.working++
		// It reads a copy: the alert goes on changing.
		of, now := *a, e.opts.Now()
		e.workers.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, evidenceTimeout)
			defer cancel()
			g.done <- collected{a, e.opts.Evidence.Collect(ctx, &of, now)}
		})
	}
}

// foundLate keeps evidence that came after its alerts were told.
func (e *Engine) foundLate(ctx context.Context, found ...collected) {
	// Alerts that ended meanwhile, or were never stored, need none.
	found = slices.DeleteFunc(found, func(f collected) bool {
		a := e.alerts[keyOf(f.alert)]
		return a == nil || a.ID != f.alert.ID
	})
	if len(found) == 0 || ctx.Err() != nil {
		return
	}
	told := false
	e.gathered = nil
	complete := make([]*incident.Alert, len(found))
	err := e.write(ctx, func(tx *meta.Tx) error {
		told = false
		for i, f := range found {
			after := *e.alerts[keyOf(f.alert)]
			after.Collecting = false
			complete[i] = &after
			row, err := after.Row()
			if err != nil {
				return err
			}
			if err := tx.PutAlert(row); err != nil {
				return err
			}
			now, err := e.book.Evidence(tx, e.opts.Now(), after.IncidentID, after.ID, f.around)
			if err != nil {
				return err
			}
			told = told || now
		}
		return nil
	})
	e.report("store", "store evidence", err)
	if err != nil && len(found) > 1 { // that of one must not be the loss of the others
		for _, f := range found {
			e.foundLate(ctx, f)
		}
		return
	}
	if err != nil {
		return
	}
	for _, a := range complete {
		e.alerts[keyOf(a)] = a
	}
	if told {
		e.opts.Told()
	}
}
