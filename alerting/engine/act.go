package engine

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/crowsnest-dev/crowsnest/alerting/evaluate"
	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/alerting/routing"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// maxExternal alerts of others that fire at a time.
const maxExternal = 10_000

// call is something that another goroutine wants done; only Run's may.
type call struct {
	fn   func(ctx context.Context, now time.Time) error
	done chan error // buffered
}

// errNotHere: what is asked of an engine that does not evaluate.
var errNotHere = fault.Because(fault.ErrUnavailable, fault.EngineElsewhere)

func (e *Engine) act(ctx context.Context, c call) error { return c.fn(ctx, e.opts.Now()) }

// do has a function called by Run's goroutine and waits for it.
func (e *Engine) do(ctx context.Context, fn func(ctx context.Context, now time.Time) error) error {
	c := call{fn, make(chan error, 1)}
	select {
	case e.calls <- c:
	case <-ctx.Done():
		return fmt.Errorf("the engine does not answer: %w: %w", fault.ErrUnavailable, ctx.Err())
	}
	select {
	case err := <-c.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// update runs a function of the book in a transaction.
func (e *Engine) update(ctx context.Context, fn func(tx *meta.Tx, now time.Time) (told bool, err error)) error {
	return e.do(ctx, func(ctx context.Context, now time.Time) error {
		told := false
		e.gathered = nil
		err := e.write(ctx, func(tx *meta.Tx) (err error) { told, err = fn(tx, now); return err })
		if err == nil && told {
			e.opts.Told()
		}
		return err
	})
}

// Acknowledge notes that somebody takes care of an incident; until zero: for
// 24 h. May be called concurrently while Run runs, as all that follows.
func (e *Engine) Acknowledge(ctx context.Context, id, who, comment string, until time.Time) error {
	return e.update(ctx, func(tx *meta.Tx, now time.Time) (bool, error) {
		return e.book.Acknowledge(tx, now, id, who, comment, until)
	})
}

// Unacknowledge takes an acknowledgement back.
func (e *Engine) Unacknowledge(ctx context.Context, id, who string) error {
	return e.update(ctx, func(tx *meta.Tx, now time.Time) (bool, error) { return e.book.Unacknowledge(tx, now, id, who) })
}

// Comment adds to an incident's timeline.
func (e *Engine) Comment(ctx context.Context, id, who, text string) error {
	return e.update(ctx, func(tx *meta.Tx, now time.Time) (bool, error) { return false, e.book.Comment(tx, now, id, who, text) })
}

// Assign says who takes care of an incident.
func (e *Engine) Assign(ctx context.Context, id, who, assignee string) error {
	return e.update(ctx, func(tx *meta.Tx, now time.Time) (bool, error) {
		return false, e.book.Assign(tx, now, id, who, assignee)
	})
}

// Resolve ends all alerts of an incident by hand. What is still bad does not
// fire again before it was good once.
func (e *Engine) Resolve(ctx context.Context, id, who, comment string) error {
	return e.do(ctx, func(ctx context.Context, now time.Time) error {
		var changed []*incident.Alert
		for _, a := range e.alerts {
			if a.IncidentID != id {
				continue
			}
			at := now
			if a.State.At.After(at) {
				at = a.State.At
			}
			after := *a
			e.describeEnd(&after, nil, verdict{state: evaluate.State{At: at}, in: evaluate.Input{At: at}, cause: evaluate.Manual})
			changed = append(changed, &after)
		}
		if len(changed) == 0 {
			return fault.Because(fault.ErrConflict, fault.IncidentQuiet, id)
		}
		if !e.commit(ctx, now, changed, nil, func(tx *meta.Tx) error {
			for _, a := range changed {
				if a.External != nil {
					continue // its sender says it again while it is so
				}
				if err := tx.Muzzle(a.Policy.ID, a.Object.Cluster, a.Key, true); err != nil {
					return err
				}
			}
			return tx.AddIncidentEvent(meta.IncidentEvent{IncidentID: id, At: now, Type: incident.EventComment, Who: who, Text: strings.TrimSpace("resolved by hand. " + comment)})
		}) {
			return fmt.Errorf("resolve incident %s: %w", id, fault.ErrUnavailable)
		}
		for _, a := range changed {
			if a.External == nil {
				e.muzzled[keyOf(a)] = true
			}
		}
		return nil
	})
}

// facts of all alerts that fire, those that are just being stored included.
// They are gathered once a commit.
func (e *Engine) facts() []routing.Facts {
	if e.gathered == nil {
		e.gathered = e.gather()
	}
	return e.gathered
}

func (e *Engine) gather() []routing.Facts {
	out := make([]routing.Facts, 0, len(e.alerts)+len(e.applying))
	fresh := map[string]bool{}
	for _, a := range e.applying {
		fresh[a.ID] = true
		if a.Firing {
			out = append(out, a.Facts())
		}
	}
	known := make(map[*incident.Alert]routing.Facts, len(e.alerts))
	for _, a := range e.alerts {
		facts, ok := e.factsOf[a]
		if !ok {
			facts = a.Facts()
		}
		known[a] = facts
		if !fresh[a.ID] {
			out = append(out, facts)
		}
	}
	e.factsOf = known
	return out
}

// Routing gives what routes and mutes now, and the facts of all that fires.
func (e *Engine) Routing(ctx context.Context) (*routing.Set, []routing.Facts, error) {
	var set *routing.Set
	var firing []routing.Facts
	if err := e.do(ctx, func(context.Context, time.Time) error {
		set, firing = e.routing, e.gather()
		return nil
	}); err != nil {
		return nil, nil, err // the engine may be at it still
	}
	return set, firing, nil
}

// Received stores alerts that others judged, as new, changed or ended.
func (e *Engine) Received(ctx context.Context, alerts []incident.External) error {
	return e.do(ctx, func(ctx context.Context, now time.Time) error {
		var changed, quiet []*incident.Alert
		seen := map[alertKey]bool{}
		for i := range alerts {
			x := &alerts[i]
			a := newExternal(x, now)
			key := keyOf(a)
			if seen[key] {
				continue
			}
			seen[key] = true
			old := e.alerts[key]
			ended := !x.EndsAt.IsZero() && !x.EndsAt.After(now)
			switch {
			case ended && old != nil:
				changed = append(changed, endExternal(old, x.EndsAt, evaluate.ValueNormal))
			case ended: // never seen: nothing ends
			case old == nil:
				if len(e.alerts)+len(changed) >= maxExternal {
					return fmt.Errorf("%d alerts fire: %w", len(e.alerts), fault.ErrLimited)
				}
				a.Targets = e.routing.Targets(a.Facts())
				changed = append(changed, a)
			default:
				after := *old
				after.Annotations, after.External, after.Explanation = a.Annotations, a.External, a.Explanation
				quiet = append(quiet, &after)
			}
		}
		if !e.commit(ctx, now, changed, quiet) {
			return fmt.Errorf("store received alerts: %w", fault.ErrUnavailable)
		}
		return nil
	})
}

// newExternal maps a received alert to ours.
func newExternal(x *incident.External, now time.Time) *incident.Alert {
	sub := exprSubject(labels.FromMap(x.Labels))
	l, _ := labelsOf(sub.level, sub.object)
	sev := catalogue.Severity(x.Labels["severity"])
	if sev.Rank() == 0 {
		sev = catalogue.Warning
	}
	started := x.StartsAt
	if started.IsZero() || started.After(now) {
		started = now
	}
	name := x.Labels["alertname"]
	a := &incident.Alert{ID: incident.NewID("alt_", now), Key: "external " + labels.FromMap(x.Labels).String(), Firing: true, Severity: sev, StartedAt: started.UTC()}
	a.Policy = incident.PolicyRef{ID: "external", Name: name, Project: "default"}
	a.Object = incident.Object{
		Level: sub.level, Cluster: x.Labels["cluster"], Namespace: x.Labels["namespace"], Node: x.Labels["node"], WorkloadType: l["workload_type"], Workload: l["workload"],
		Pod: l["pod"], Container: l["container"], Service: l["service"], Volume: l["persistentvolumeclaim"], Component: l["component"],
	}
	a.Labels, a.Annotations, a.External = maps.Clone(x.Labels), maps.Clone(x.Annotations), x
	if a.Title = name; a.Title == "" {
		a.Title = "alert received"
	}
	for _, k := range []string{"summary", "description", "message"} {
		if text := x.Annotations[k]; text != "" {
			a.Explanation = text
			break
		}
	}
	a.Group = incident.Grouping{Interval: 5 * time.Minute}
	if a.Object.Cluster == "" {
		a.Group.By = []string{"policy"}
	}
	a.State.At, a.State.Newest = now, now
	return a
}

func endExternal(a *incident.Alert, at time.Time, cause evaluate.Cause) *incident.Alert {
	after := *a
	if at.Before(a.StartedAt) {
		at = a.StartedAt
	}
	after.Firing, after.EndedAt, after.Cause = false, at.UTC(), cause
	return &after
}
