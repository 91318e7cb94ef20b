package engine

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// view is what other goroutines see of the engine. Run's goroutine writes it.
type view struct {
	mu        sync.Mutex
	intervals map[sourceKey]time.Duration
	done      map[[2]string]evaluation // by policy id and cluster
	at        map[string]time.Time     // newest time that was evaluated, by cluster
	began     map[string]time.Time     // newest time of which something was to be judged, by cluster
	through   map[string]time.Time     // newest of these whose evaluation came to its end
	routes    bool                     // there is some
	fires     map[string]int           // by policy id
}

// evaluation is what came of the newest one of a policy on a cluster.
type evaluation struct {
	at       time.Time
	subjects int
	err      error
}

func (v *view) reset() {
	v.intervals, v.done, v.fires = map[sourceKey]time.Duration{}, map[[2]string]evaluation{}, map[string]int{}
	v.at, v.began, v.through = map[string]time.Time{}, map[string]time.Time{}, map[string]time.Time{}
}

func (v *view) interval(cluster, sender string, d time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.intervals[sourceKey{cluster, sender}] = d
}

func (v *view) arrived(cluster string, at time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if at.After(v.at[cluster]) {
		v.at[cluster] = at
	}
}

func (v *view) begins(cluster string, at time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if at.After(v.began[cluster]) {
		v.began[cluster] = at
	}
	if v.through[cluster].IsZero() {
		v.through[cluster] = at // none before it was missed
	}
}

func (v *view) ended(cluster string, at time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if at.After(v.through[cluster]) {
		v.through[cluster] = at
	}
}

func (v *view) setRoutes(some bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.routes = some
}

func (v *view) hasRoutes() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.routes
}

func (v *view) newest(cluster string) time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.at[cluster]
}

// someSubjects were judged only: how many there are is what it was.
const someSubjects = -1

func (v *view) evaluated(policyID, cluster string, at time.Time, subjects int, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	key := [2]string{policyID, cluster}
	if subjects == someSubjects {
		subjects = v.done[key].subjects
	}
	v.done[key] = evaluation{at, subjects, err}
}

func (v *view) firing(alerts map[alertKey]*incident.Alert) {
	fires := map[string]int{}
	for k := range alerts {
		fires[k.policy]++
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.fires = fires
}

// Intervals gives the interval of each cluster that sends: the longest of its
// senders'. May be called concurrently.
func (e *Engine) Intervals() map[string]time.Duration {
	e.view.mu.Lock()
	defer e.view.mu.Unlock()
	out := map[string]time.Duration{}
	for k, d := range e.view.intervals {
		out[k.cluster] = max(out[k.cluster], d)
	}
	return out
}

// Lag says which cluster's evaluation is furthest behind what arrived, and by how
// much: when samples cannot be read or alerts not be stored. May be called
// concurrently.
func (e *Engine) Lag() (cluster string, by time.Duration) {
	e.view.mu.Lock()
	defer e.view.mu.Unlock()
	for id, at := range e.view.began {
		if d := at.Sub(e.view.through[id]); d > by {
			cluster, by = id, d
		}
	}
	return cluster, by
}

// Status says how a policy stands: what it selects now, and where and why it
// is not evaluated. May be called concurrently.
func (e *Engine) Status(r meta.Resource, clusters []meta.ClusterRow) (policy.Status, error) {
	c, err := compile(r)
	if err != nil {
		return policy.Status{}, err
	}
	intervals := e.Intervals()
	out := policy.Status{State: policy.StateActive, Reasons: []string{}, Clusters: []policy.ClusterStatus{}}
	e.view.mu.Lock()
	out.Firing = e.view.fires[r.ID]
	evaluated := map[string]evaluation{}
	for k, done := range e.view.done {
		if k[0] == r.ID {
			evaluated[k[1]] = done
		}
	}
	e.view.mu.Unlock()

	rows := map[string]meta.ClusterRow{}
	for _, row := range clusters {
		rows[row.ID] = row
	}
	for _, id := range e.opts.Inventory.Clusters() {
		if _, ok := rows[id]; !ok {
			rows[id] = meta.ClusterRow{ID: id, Name: id}
		}
	}
	works := false
	for _, id := range slices.Sorted(maps.Keys(rows)) {
		if !c.selection.Cluster(id, rows[id].Labels) {
			continue
		}
		cs := policy.ClusterStatus{Cluster: id, Selected: selected(e.opts.Inventory, c, id)}
		done, ok := evaluated[id]
		if ok {
			cs.EvaluatedAt = &done.at
		}
		if !c.listed() {
			cs.Selected = done.subjects
		}
		out.Selected += cs.Selected
		if errors.Is(done.err, fault.ErrLimited) && !c.promql() && !c.lines() {
			cs.Reason, works = done.err.Error(), true
			out.Reasons = append(out.Reasons, fmt.Sprintf("evaluated in part on %s: %s", id, cs.Reason))
		} else if done.err != nil {
			cs.Reason = done.err.Error()
			out.Reasons = append(out.Reasons, fmt.Sprintf("cannot be evaluated on %s: %s", id, cs.Reason))
		} else if cs.Reason = e.idle(c, id, rows[id], intervals[id]); cs.Reason != "" {
			out.Reasons = append(out.Reasons, fmt.Sprintf("not evaluated on %s: %s", id, cs.Reason))
		} else {
			works = true
		}
		out.Clusters = append(out.Clusters, cs)
	}
	switch {
	case len(out.Clusters) == 0 && len(rows) == 0:
		out.Reasons = append(out.Reasons, "there is no cluster yet")
	case len(out.Clusters) == 0:
		out.Reasons = append(out.Reasons, "selects no cluster")
	case out.Selected == 0 && c.promql():
		if len(evaluated) > 0 {
			out.Reasons = append(out.Reasons, "its expressions give no series now")
		}
	case out.Selected == 0 && !c.listed():
		out.Reasons = append(out.Reasons, "selects nothing that has values")
	case out.Selected == 0:
		out.Reasons = append(out.Reasons, "selects nothing")
	}
	if len(c.targets) == 0 && !e.view.hasRoutes() {
		out.Reasons = append(out.Reasons, "tells nobody: no target is named and there is no route; incidents are shown in the console only")
	}
	switch {
	case !c.enabled:
		out.State = policy.StateDisabled
	case !works || (out.Selected == 0 && !c.promql()):
		out.State = policy.StateIdle
	}
	return out, nil
}

// idle says why a policy is not evaluated on a cluster; empty: it is.
func (e *Engine) idle(c *compiled, cluster string, row meta.ClusterRow, interval time.Duration) string {
	info, seen := e.opts.Inventory.Info(cluster)
	if !seen && interval == 0 {
		return "nothing has been received from it since the server started"
	}
	if at, now := e.view.newest(cluster), e.opts.Now(); at.Sub(now) > maxAhead {
		// What was measured at those times is there already, and no time is judged twice.
		return fmt.Sprintf("the clock was set back; it is evaluated again from %s on", at.UTC().Format(time.RFC3339))
	}
	kind := info.Kind
	if row.Kind != "" {
		kind = row.Kind
	}
	unavailable := e.opts.Unavailable(cluster)
	for _, cond := range c.conditions {
		if cond.Query != "" {
			if why := e.idleLines(c, cond, cluster); why != "" {
				return why
			}
			continue
		}
		if cond.Expr != "" {
			continue
		}
		why, lacking := cond.metric.Lacking[catalogue.ClusterKind(kind)]
		if !lacking {
			why, lacking = unavailable[cond.Metric]
		}
		if lacking {
			return fmt.Sprintf("metric %s is not available there: %s", cond.Metric, why)
		}
	}
	if interval == 0 {
		return "" // nothing was received since our start: it may fit
	}
	return c.misfit(interval)
}

// idleLines says why a condition that counts lines cannot be judged on a
// cluster; empty: it can.
func (e *Engine) idleLines(c *compiled, cond condition, cluster string) string {
	if e.opts.Lines == nil {
		return "there is no log store"
	}
	if cond.downward() && !e.complete(cluster, c.spec.Level == policy.LevelEvent, e.opts.Now()).sure {
		return "no collector says up to when its lines are complete, so that none cannot be told from late ones; conditions with > and >= work"
	}
	return ""
}

// listed tells whether the inventory holds the policy's objects.
func (c *compiled) listed() bool {
	_, ok := kindOf[c.level]
	return ok || c.level == catalogue.Cluster
}

// selected counts the objects that a policy selects on a cluster.
func selected(inv Inventory, c *compiled, cluster string) int {
	n := 0
	eachSelected(inv, c, cluster, func(object.Object, string) { n++ })
	if c.level == catalogue.Cluster {
		n = 1
	}
	return n
}

// eachSelected visits the objects, and the names of containers, that a policy
// selects on a cluster.
func eachSelected(inv Inventory, c *compiled, cluster string, visit func(o object.Object, container string)) {
	kind, ok := kindOf[c.level]
	if !ok {
		return
	}
	for _, o := range inv.List(cluster, kind) {
		c.eachOf(o, func(container string) { visit(o, container) })
	}
}

var kindOf = map[catalogue.Level]object.Kind{
	catalogue.Node: object.KindNode, catalogue.Namespace: object.KindNamespace, catalogue.Workload: object.KindWorkload,
	catalogue.Service: object.KindService, catalogue.Pod: object.KindPod, catalogue.Container: object.KindPod,
}
