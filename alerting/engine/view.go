package engine

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// view is what other goroutines see of the engine. Run's goroutine writes it.
type view struct {
	mu        sync.Mutex
	intervals map[sourceKey]time.Duration
	at        map[[2]string]time.Time // policy id, cluster → newest evaluation
	fires     map[string]int          // by policy id
}

func (v *view) reset() {
	v.intervals, v.at, v.fires = map[sourceKey]time.Duration{}, map[[2]string]time.Time{}, map[string]int{}
}

func (v *view) interval(cluster, sender string, d time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.intervals[sourceKey{cluster, sender}] = d
}

func (v *view) evaluated(policyID, cluster string, at time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.at[[2]string{policyID, cluster}] = at
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
	evaluated := map[string]time.Time{}
	for k, at := range e.view.at {
		if k[0] == r.ID {
			evaluated[k[1]] = at
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
		cs := policy.ClusterStatus{Cluster: id, Selected: e.selected(c, id)}
		out.Selected += cs.Selected
		if at, ok := evaluated[id]; ok {
			cs.EvaluatedAt = &at
		}
		if cs.Reason = e.idle(c, id, rows[id], intervals[id]); cs.Reason != "" {
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
	case out.Selected == 0:
		out.Reasons = append(out.Reasons, "selects nothing")
	}
	if len(c.targets) == 0 {
		out.Reasons = append(out.Reasons, "tells nobody: no target is named; incidents are shown in the console only")
	}
	switch {
	case !c.enabled:
		out.State = policy.StateDisabled
	case !works || out.Selected == 0:
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
	kind := info.Kind
	if row.Kind != "" {
		kind = row.Kind
	}
	unavailable := e.opts.Unavailable(cluster)
	for _, cond := range c.conditions {
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

// selected counts the objects that a policy selects on a cluster.
func (e *Engine) selected(c *compiled, cluster string) int {
	inv := e.opts.Inventory
	kind, ok := kindOf[c.level]
	if !ok {
		return 1 // the cluster itself
	}
	n := 0
	for _, o := range inv.List(cluster, kind) {
		if c.level != catalogue.Container {
			if c.selection.Object(o, "") {
				n++
			}
			continue
		}
		if p, ok := o.(*object.Pod); ok {
			for _, ct := range p.Containers {
				if ct.State == "running" && c.selection.Object(p, ct.Name) {
					n++
				}
			}
		}
	}
	return n
}

var kindOf = map[catalogue.Level]object.Kind{
	catalogue.Node: object.KindNode, catalogue.Workload: object.KindWorkload, catalogue.Pod: object.KindPod, catalogue.Container: object.KindPod,
}
