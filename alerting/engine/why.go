package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/evaluate"
	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

const (
	// warmSteps are made before the time in question, beyond what the windows
	// reach, so that the state before it is known.
	warmSteps = 20
	// maxWarm bounds them all.
	maxWarm = 2000
)

// Why judges one object as of a time again, by the same code, data and
// inventory as live evaluation, and tells everything that went into it. r is
// the policy in the version of that time. May be called concurrently.
func (e *Engine) Why(ctx context.Context, r meta.Resource, q policy.Question) (policy.Why, error) {
	c, err := compile(r)
	if err != nil {
		return policy.Why{}, err
	}
	if known, err := e.knows(ctx, q.Cluster); err != nil || !known {
		return policy.Why{}, cmp.Or(err, fmt.Errorf("cluster %q: %w", q.Cluster, fault.ErrNotFound))
	}
	interval, err := e.intervalOf(ctx, q.Cluster, q.At)
	if err != nil {
		return policy.Why{}, err
	}
	at := q.At.Truncate(interval).UTC()
	out := policy.Why{
		Policy: r.Name, Revision: r.Revision, Cluster: q.Cluster, At: at, Interval: policy.Duration(interval), Dimensions: q.Dimensions, ReplayFrom: at,
		Conditions: []policy.WhyCondition{}, Recorded: []policy.WhyAlert{}, Outcome: "not judged", Object: map[string]string{"level": string(c.level), "cluster": q.Cluster},
	}
	sub, err := c.subjectOf(q)
	if err != nil {
		return out, err
	}
	refuse := func(why string) (policy.Why, error) {
		out.Reason = why
		out.Words = fmt.Sprintf("At %s it was not judged: %s.", at.Format(time.RFC3339), why)
		return out, nil
	}
	switch {
	case !c.enabled:
		return refuse("the policy was disabled")
	case !c.selection.Cluster(q.Cluster, e.Labels(ctx, q.Cluster)):
		return refuse("the policy is not about this cluster")
	case c.misfit(interval) != "":
		return refuse(c.misfit(interval))
	case e.opts.Archive == nil:
		return out, fmt.Errorf("objects as they were are not kept: %w", fault.ErrUnavailable)
	}
	recorded, err := e.recorded(ctx, r.ID, q.Cluster, sub, at)
	if err != nil {
		return out, err
	}
	for _, a := range recorded {
		out.Recorded = append(out.Recorded, whyAlert(a))
	}
	v, from, judged, err := e.rejudge(ctx, c, q.Cluster, sub, at, interval, recorded)
	out.ReplayFrom = from
	if err != nil {
		return out, err
	}
	out.Object = objectMap(v.object)
	if !judged {
		why := v.why
		if v.gone != "" {
			why = incident.CauseWords(v.gone)
		}
		if v.gone == evaluate.ObjectDeleted {
			if why, err = e.whyNotThere(ctx, q.Cluster, sub, at, why); err != nil {
				return out, err
			}
		}
		return refuse(why)
	}
	out.Judged = true
	c.tell(&out, v)
	return out, nil
}

// whyNotThere tells what was deleted from what was not there yet, or never.
func (e *Engine) whyNotThere(ctx context.Context, cluster string, sub subject, at time.Time, deleted string) (string, error) {
	key, _, ok := objectKey(sub.level, sub.object)
	if !ok {
		return deleted, nil
	}
	versions, err := e.opts.Archive.Versions(ctx, cluster, key, at.Add(-keep), e.opts.Now())
	switch {
	case err != nil:
		return "", err
	case len(versions) == 0:
		return fmt.Sprintf("no %s of this name is known of the last %d days", sub.level, keep/(24*time.Hour)), nil
	case versions[0].From.After(at):
		return fmt.Sprintf("the object was not there yet: it is known since %s", versions[0].From.Format(time.RFC3339)), nil
	}
	return deleted, nil
}

// subjectOf reads which object is asked about.
func (c *compiled) subjectOf(q policy.Question) (subject, error) {
	sub := subject{level: c.level, object: q.Object}
	if c.promql() {
		if level, rest, ok := strings.Cut(q.Object, " "); ok { // as alerts' keys have it
			sub.level, sub.object = catalogue.Level(level), rest
		} else if q.Object == "" {
			sub.level = catalogue.Cluster
		} else {
			return sub, fault.Wrong("object", fault.Say(fault.WhyObject), q.Object)
		}
	}
	if _, ok := labelsOf(sub.level, sub.object); !ok {
		names := sub.level.ObjectLabels()
		want := "empty"
		if len(names) > 1 {
			want = strings.Join(names[1:], "/")
		}
		return sub, fault.Wrong("object", fault.Say(fault.WhyObjectOf, want, sub.level), q.Object)
	}
	names := c.dimensions
	if c.promql() {
		names = sortedNames(q.Dimensions)
	}
	for k := range q.Dimensions {
		if !slices.Contains(names, k) {
			return sub, fault.Wrong("dimensions", fault.Say(fault.WhyDimensions, strings.Join(names, ", ")), k)
		}
	}
	for _, k := range names {
		if _, ok := q.Dimensions[k]; !ok {
			return sub, fault.Wrong("dimensions", fault.Say(fault.WhyDimensionNeeded, k), nil)
		}
	}
	sub.dimensions = dimensionsOf(names, func(k string) string { return q.Dimensions[k] })
	return sub, nil
}

func sortedNames(m map[string]string) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// knows says whether there is, or was, a cluster of this name.
func (e *Engine) knows(ctx context.Context, cluster string) (bool, error) {
	if slices.Contains(e.opts.Inventory.Clusters(), cluster) {
		return true, nil
	}
	known := false
	err := e.opts.Meta.View(ctx, func(tx *meta.Tx) error {
		rows, err := tx.ListClusters()
		known = slices.ContainsFunc(rows, func(r meta.ClusterRow) bool { return r.ID == cluster })
		return err
	})
	return known, err
}

// Labels of a cluster, as its row has them.
func (e *Engine) Labels(ctx context.Context, cluster string) map[string]string {
	var out map[string]string
	_ = e.opts.Meta.View(ctx, func(tx *meta.Tx) error {
		rows, err := tx.ListClusters()
		for _, r := range rows {
			if r.ID == cluster {
				out = r.Labels
			}
		}
		return err
	})
	return out
}

// recorded gives the alerts of a subject around a time.
func (e *Engine) recorded(ctx context.Context, policyID, cluster string, sub subject, at time.Time) ([]*incident.Alert, error) {
	var out []*incident.Alert
	err := e.opts.Meta.View(ctx, func(tx *meta.Tx) error {
		rows, err := tx.AlertsAround(policyID, cluster, sub.key(), at.Add(-time.Hour), at.Add(time.Hour))
		if err != nil {
			return err
		}
		for _, r := range rows {
			a, err := incident.FromRow(r)
			if err != nil {
				return err
			}
			out = append(out, a)
		}
		return nil
	})
	return out, err
}

// rejudge steps one subject through to a time, from before all that its windows
// reach or, when an alert is recorded that began earlier, from that.
func (e *Engine) rejudge(ctx context.Context, c *compiled, cluster string, sub subject, at time.Time, interval time.Duration, recorded []*incident.Alert) (verdict, time.Time, bool, error) {
	steps := warmSteps
	for i, cond := range c.conditions {
		steps = max(steps, warmSteps+int(time.Duration(c.rule.Reach(i))*cond.Period.D()/interval))
	}
	from := at.Add(-time.Duration(min(steps, maxWarm)) * interval)
	p := newPast(e.opts.Inventory, e.opts.Archive, cluster, from, at)
	began, err := inventoryBegan(ctx, e.opts.Archive, cluster, from, e.opts.Now())
	if err != nil {
		return verdict{}, from, false, err
	}
	p.began = began
	if err := p.load(ctx, sub); err != nil {
		return verdict{}, from, false, err
	}
	w := newWant()
	least := at.Sub(from)
	if c.rule.NoData == policy.NoDataAlert {
		least += evaluate.NoDataLimit
	}
	for i := range c.conditions {
		least = max(least, at.Sub(from)+c.span(i, interval))
	}
	w.add(c, interval, least)
	rd := reader{queryable: e.opts.Queryable, cluster: cluster, only: map[subject]bool{sub: true}}
	if sub.dimensions != "" {
		rd.only[subject{level: sub.level, object: sub.object}] = true
	}
	upTo := func(data readings, t time.Time) readings { return data.upTo(t, sub, c) }
	if c.promql() || c.lines() {
		// All steps at once, as a backtest does.
		b := &replay{live: e, c: c, cluster: meta.ClusterRow{ID: cluster}, interval: interval, begin: from, from: from, to: at, coverage: map[int64]float64{}, active: map[string][]bool{}}
		if err := b.scanCoverage(ctx); err != nil {
			return verdict{}, from, false, err
		}
		if err := b.grids(ctx, from, at); err != nil {
			return verdict{}, from, false, err
		}
		w.exprs, w.lines = nil, nil
		upTo = func(data readings, t time.Time) readings { b.asOf(t, &data); return data }
	}
	data, err := rd.read(ctx, at, w)
	if err != nil {
		return verdict{}, from, false, err
	}
	var a *incident.Alert // while it fires
	var state evaluate.State
	for _, r := range recorded {
		if r.StartedAt.Before(from) && (r.Firing || !r.EndedAt.Before(from)) {
			a, state = r, c.firingSince(r, from.Add(-interval))
		}
	}
	var v verdict
	judged := false
	for t := from; !t.After(at); t = t.Add(interval) {
		p.at = t
		ct := &court{inventory: p, cluster: cluster, at: t, interval: interval, silent: func(catalogue.Place, string) bool { return false }}
		v, judged = ct.judge(c, sub, a, state, upTo(data, t))
		if !judged {
			if v.gone != "" {
				a, state = nil, evaluate.State{}
			}
			continue
		}
		state = v.state
		switch {
		case v.cause != "":
			a, state = nil, evaluate.State{Changes: v.state.Changes}
		case a == nil && state.Rank(c.rule.NoDataRank) > 0:
			a = &incident.Alert{Data: incident.Data{Object: v.object, UID: v.uid, Desired: v.desired, Rollout: v.rollout}}
		case a == nil:
			state = evaluate.State{Changes: v.state.Changes}
		}
	}
	return v, from, judged, nil
}

func whyAlert(a *incident.Alert) policy.WhyAlert {
	out := policy.WhyAlert{ID: a.ID, Incident: a.IncidentID, Severity: string(a.Severity), StartedAt: a.StartedAt, Cause: string(a.Cause)}
	if !a.EndedAt.IsZero() {
		end := a.EndedAt
		out.EndedAt = &end
	}
	return out
}

// tell puts a judgement into words and numbers.
func (c *compiled) tell(out *policy.Why, v verdict) {
	rank, was := v.state.Rank(c.rule.NoDataRank), v.before.Rank(c.rule.NoDataRank)
	out.Before, out.After, out.Cause = c.whyState(v.before), c.whyState(v.state), string(v.cause)
	shown := max(rank, was)
	if shown == 0 { // judged by the least severe threshold that is named
		for shown = 1; shown < evaluate.Severities && !c.rule.Names(shown-1); shown++ {
		}
	}
	var words []string
	for i, cond := range c.conditions {
		wc := policy.WhyCondition{
			Metric: cond.Metric, Expr: cond.Expr, Query: cond.Query, Statistic: cond.Statistic, Period: cond.Period, Op: cond.Op, Unit: cond.unit(),
			Thresholds: cond.Thresholds, Recovery: cond.Recovery, Need: cond.Need, Of: cond.Of, Windows: []policy.WhyWindow{}, Holds: []string{}, Lacking: v.lacks[i],
		}
		rule := c.rule.Conditions[i]
		bad, seen := 0, 0
		if i < len(v.in.Windows) {
			threshold, _, named := rule.Threshold(shown)
			for _, w := range v.in.Windows[i] {
				ww := policy.WhyWindow{End: w.End.UTC()}
				if !w.Missing {
					value := w.Value
					ww.Value = &value
					for s, sev := range catalogue.Severities {
						if t := rule.Thresholds[s]; t != nil && rule.Bad(value, *t) {
							ww.Bad = string(sev)
						}
					}
					if seen < cond.Of {
						seen++
						if named && rule.Bad(value, threshold) {
							bad++
						}
					}
				}
				wc.Windows = append(wc.Windows, ww)
			}
			for s, sev := range catalogue.Severities {
				if rule.Thresholds[s] != nil && rule.Holds(s+1, v.in.Windows[i]) {
					wc.Holds = append(wc.Holds, string(sev))
				}
			}
			wc.Words = sentence(cond, v.in.Windows[i], cond.Of)
			if named {
				_, by, _ := rule.Threshold(shown)
				wc.Words += fmt.Sprintf("; %s needs %d of %d %s %s, and %d are", by, cond.Need, cond.Of, opWords[rule.Op], policy.FormatValue(threshold, cond.unit()), bad)
			}
		}
		if wc.Lacking {
			wc.Words = "the object does not have this metric then"
		}
		words = append(words, wc.Words)
		out.Conditions = append(out.Conditions, wc)
	}
	end := ""
	switch {
	case v.cause != "":
		out.Outcome, end = "ends", fmt.Sprintf("the alert ended: %s", incident.CauseWords(v.cause))
	case was == 0 && rank > 0:
		out.Outcome, end = "begins", fmt.Sprintf("the alert began with %s", catalogue.Severities[rank-1])
	case was > 0 && rank != was:
		out.Outcome, end = "severity", fmt.Sprintf("it went from %s to %s", catalogue.Severities[was-1], catalogue.Severities[rank-1])
	case rank > 0:
		out.Outcome, end = "goes on", fmt.Sprintf("it was firing with %s and went on: %d good periods in a row end it", catalogue.Severities[rank-1], c.rule.RecoverAfter)
	default:
		out.Outcome, end = "ok", "it was ok and stayed so"
	}
	if rank > 0 {
		out.Explanation = explain(c, rank, v.in, v.state, isOnlySilent(v.state))
	}
	combine := "; and "
	if c.rule.Any {
		combine = "; or "
	}
	text := end
	if len(words) > 0 && v.gone == "" {
		text = strings.Join(words, combine) + ". So " + end
	}
	out.Words = fmt.Sprintf("At %s %s.", out.At.Format(time.RFC3339), text)
}

func (c *compiled) whyState(s evaluate.State) policy.WhyState {
	out := policy.WhyState{Latches: []policy.WhyLatch{}, Flapping: s.Flapping}
	if rank := s.Rank(c.rule.NoDataRank); rank > 0 {
		out.Severity = string(catalogue.Severities[rank-1])
	}
	for i, l := range s.Latches {
		if !c.rule.Names(i) {
			continue
		}
		wl := policy.WhyLatch{Severity: string(catalogue.Severities[i]), Closed: l.Closed}
		if !l.Since.IsZero() {
			since := l.Since.UTC()
			wl.Since = &since
		}
		out.Latches = append(out.Latches, wl)
	}
	return out
}
