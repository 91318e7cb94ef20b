package engine

import (
	"context"
	"strings"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/evaluate"
	"github.com/crowsnest-dev/crowsnest/alerting/incident"
)

// silence marks the alerts of silent sources as stale. That is no end: what is
// not seen may still be so. After a day without a value it is over.
func (e *Engine) silence(ctx context.Context, now time.Time) {
	var changed, quiet []*incident.Alert
	for _, a := range e.alerts {
		if a.External != nil {
			if end := a.External.EndsAt; !end.IsZero() && !now.Before(end) {
				changed = append(changed, endExternal(a, end, evaluate.NoData))
			}
			continue
		}
		c := e.byID[a.Policy.ID]
		if c != nil && c.spec == nil { // it cannot be read, as when its metric was deleted: nobody judges what fires
			if after := e.unjudged(a, now); after != nil && !after.Firing {
				changed = append(changed, after)
			} else if after != nil {
				quiet = append(quiet, after)
			}
			continue
		}
		if c == nil || a.Sender == "" {
			continue
		}
		seen, interval := e.born, defaultInterval
		if src := e.sources[sourceKey{a.Object.Cluster, a.Sender}]; src != nil {
			seen, interval = src.seen, src.interval
		}
		silent := now.Sub(seen) > missedIntervals*interval
		if e.silencePaused() {
			silent = a.Stale
		}
		if silent && !a.State.Newest.IsZero() && now.Sub(a.State.Newest)-e.skew(a.State.Newest, now) > evaluate.NoDataLimit {
			after := *a
			v := verdict{in: evaluate.Input{At: now, Gone: evaluate.NoData}}
			if v.state, v.cause = a.State.Step(&c.rule, v.in); v.cause != "" {
				e.describeEnd(&after, c, v)
				changed = append(changed, &after)
			}
			continue
		}
		if silent != a.Stale {
			after := *a
			after.Stale = silent
			quiet = append(quiet, &after)
		}
	}
	for key, at := range e.ended {
		if now.Sub(at) > 2*maxLate {
			delete(e.ended, key)
		}
	}
	for key, changes := range e.changes {
		if len(changes) == 0 || now.Sub(changes[len(changes)-1]) > evaluate.FlapWithin {
			delete(e.changes, key)
		}
	}
	e.commit(ctx, now, changed, quiet)
}

// unjudged shows an alert that no policy can judge any more as stale, and ends it
// after a day; nil: nothing changes.
func (e *Engine) unjudged(a *incident.Alert, now time.Time) *incident.Alert {
	after := *a
	after.Stale = true
	if !a.State.Newest.IsZero() && !e.silencePaused() && now.Sub(a.State.Newest)-e.skew(a.State.Newest, now) > evaluate.NoDataLimit {
		e.describeEnd(&after, nil, verdict{state: evaluate.State{At: now}, in: evaluate.Input{At: now}, cause: evaluate.NoData})
		return &after
	}
	if a.Stale {
		return nil
	}
	return &after
}

// orphans ends the alerts that no evaluation will reach any more: those of
// policies that were deleted, disabled or turned elsewhere, and of clusters that
// were removed.
func (e *Engine) orphans(ctx context.Context, now time.Time) {
	listed := map[string]bool{}
	for _, id := range e.opts.Inventory.Clusters() {
		listed[id] = true
	}
	var changed []*incident.Alert
	for _, a := range e.alerts {
		cause := e.orphaned(a, listed)
		if cause == "" {
			continue
		}
		after := *a
		at := now
		if a.State.At.After(at) { // of a sender whose clock is ahead
			at = a.State.At
		}
		e.describeEnd(&after, nil, verdict{state: evaluate.State{At: at}, in: evaluate.Input{At: at}, cause: cause})
		changed = append(changed, &after)
	}
	e.commit(ctx, now, changed, nil)
}

func (e *Engine) orphaned(a *incident.Alert, listed map[string]bool) evaluate.Cause {
	c := e.byID[a.Policy.ID]
	cluster := a.Object.Cluster
	_, known := e.clusters[cluster]
	switch {
	case a.External != nil:
		return "" // its sender decides
	case c == nil:
		return evaluate.PolicyDeleted
	case c.spec == nil:
		return "" // it cannot be read; whoever mends it decides
	case !c.enabled:
		return evaluate.PolicyDisabled
	case !known && !listed[cluster]:
		return evaluate.ClusterRemoved
	case isCount(a.Key):
		if c.atLeast() == 0 {
			return evaluate.PolicyChanged
		}
	case c.promql():
		if !strings.HasPrefix(a.Key, string(a.Object.Level)+" ") || a.Conditions == nil || a.Conditions[0].Metric != "" {
			return evaluate.PolicyChanged
		}
	case c.level != a.Object.Level, !sameKeys(c.dimensions, a.Dimensions):
		return evaluate.PolicyChanged
	}
	switch {
	case !c.selection.Cluster(cluster, e.clusterLabels(cluster)):
		if c.ref.Revision != a.Policy.Revision {
			return evaluate.PolicyChanged
		}
		return evaluate.NotSelected // the cluster's labels changed
	}
	return ""
}

func sameKeys(names []string, m map[string]string) bool {
	if len(names) != len(m) {
		return false
	}
	for _, n := range names {
		if _, ok := m[n]; !ok {
			return false
		}
	}
	return true
}
