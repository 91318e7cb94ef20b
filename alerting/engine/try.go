package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/evaluate"
	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// maxTried objects of one cluster in a trial.
const maxTried = 200

// Try says what a policy would select and say now, without keeping anything:
// for each cluster the objects, the worst first, with their present values. May
// be called concurrently.
func (e *Engine) Try(ctx context.Context, r meta.Resource, clusters []meta.ClusterRow) ([]policy.Trial, error) {
	c, err := compile(r)
	if err != nil {
		return nil, err
	}
	out := []policy.Trial{}
	rows := map[string]map[string]string{}
	for _, id := range e.opts.Inventory.Clusters() {
		rows[id] = nil
	}
	for _, row := range clusters {
		rows[row.ID] = row.Labels
	}
	intervals := e.Intervals()
	for _, id := range slices.Sorted(maps.Keys(rows)) {
		interval := intervals[id]
		if interval == 0 {
			interval = defaultInterval
		}
		if !c.selection.Cluster(id, rows[id]) || c.misfit(interval) != "" {
			continue
		}
		t, err := e.try(ctx, c, id, interval)
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}

func (e *Engine) try(ctx context.Context, c *compiled, cluster string, interval time.Duration) (policy.Trial, error) {
	at := e.view.newest(cluster)
	if at.IsZero() {
		at = e.opts.Now()
	}
	at = at.Add(-interval).Truncate(interval).UTC() // what every sender has sent
	out := policy.Trial{Cluster: cluster, At: at, Objects: []policy.TrialObject{}}
	w := newWant()
	w.add(c, interval, 0)
	rd := reader{queryable: e.opts.Queryable, promql: e.promql, cluster: cluster, lines: e.opts.Lines}
	if c.lines() && rd.lines != nil {
		at = e.opts.Now().Add(-linesSettle).Truncate(interval).UTC()
		out.At = at
		rd.known = e.complete(cluster, c.spec.Level == policy.LevelEvent, e.opts.Now())
	}
	data, err := rd.read(ctx, at, w)
	if err != nil {
		return out, err
	}
	if err := data.exprError(c); err != nil {
		out.Reason = err.Error()
		return out, nil
	}
	ct := &court{inventory: e.opts.Inventory, cluster: cluster, at: at, interval: interval, silent: func(catalogue.Place, string) bool { return false }}
	var has picked
	c.subjects(data, nil, &has)
	subjects := has.inOrder()
	if c.lines() {
		for sub := range c.linesSubjects(e.opts.Inventory, cluster, data, true) {
			subjects = append(subjects, sub.subject)
		}
		subjects = inOrder(subjects)
	}
	seen := map[string]bool{}
	for _, sub := range subjects {
		v, ok := ct.judge(c, sub, nil, evaluate.State{}, data)
		if !ok {
			continue
		}
		seen[sub.object] = true
		rank := v.state.Rank(c.rule.NoDataRank)
		o := policy.TrialObject{Object: objectMap(v.object), Dimensions: parseDimensions(sub.dimensions), Conditions: []policy.TrialValue{}}
		if rank > 0 {
			o.Severity = string(catalogue.Severities[rank-1])
			o.Explanation = explain(c, rank, v.in, v.state, isOnlySilent(v.state))
		}
		for _, cond := range conditionsView(c, max(rank, 1), v.in.Windows) {
			o.Conditions = append(o.Conditions, policy.TrialValue{Metric: cond.Metric, Expr: cond.Expr, Query: cond.Query, Value: cond.Value, Unit: cond.Unit})
		}
		out.Objects = append(out.Objects, o)
	}
	// What is selected and has no value is told as well: it would be silence.
	eachSelected(e.opts.Inventory, c, cluster, func(o object.Object, container string) {
		if name := nameOf(o, container); !seen[name] {
			ct := &court{inventory: e.opts.Inventory, cluster: cluster}
			f := found{object: incident.Object{Level: c.level, Cluster: cluster}}
			f.fill(ct.know(o, container))
			out.Objects = append(out.Objects, policy.TrialObject{Object: objectMap(f.object), Conditions: []policy.TrialValue{}, Explanation: "it has no value now"})
		}
	})
	slices.SortStableFunc(out.Objects, func(a, b policy.TrialObject) int {
		return cmp.Compare(catalogue.Severity(b.Severity).Rank(), catalogue.Severity(a.Severity).Rank())
	})
	out.Matching = len(out.Objects)
	out.Objects = out.Objects[:min(len(out.Objects), maxTried)]
	return out, nil
}

// nameOf is what subject.object has for an object.
func nameOf(o object.Object, container string) string {
	m := o.GetMeta()
	switch o := o.(type) {
	case *object.Node, *object.Namespace:
		return m.Name
	case *object.Workload:
		return m.Namespace + "/" + o.Ref.String()
	}
	if container != "" {
		return m.Namespace + "/" + m.Name + "/" + container
	}
	return m.Namespace + "/" + m.Name
}

func objectMap(o incident.Object) map[string]string {
	out := map[string]string{}
	b, err := json.Marshal(o)
	if err == nil {
		_ = json.Unmarshal(b, &out) // it has text only
	}
	return out
}

// isOnlySilent tells whether nothing but missing data keeps an alert open.
func isOnlySilent(s evaluate.State) bool {
	return s.Silent.Closed && !slices.ContainsFunc(s.Latches[:], func(l evaluate.Latch) bool { return l.Closed })
}
