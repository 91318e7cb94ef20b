package engine

import (
	"fmt"
	"strings"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/evaluate"
	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
)

// countPrefix begins the key of the alert that too few objects match.
const countPrefix = "atLeast "

func isCount(key string) bool { return strings.HasPrefix(key, countPrefix) }

// atLeast is how many objects must match in each cluster; 0: any number.
func (c *compiled) atLeast() int {
	if c.spec.Objects == nil || c.spec.Objects.AtLeast == nil {
		return 0
	}
	return *c.spec.Objects.AtLeast
}

// counted gives the policies that ask for a number of objects, when a round
// says how the cluster's objects are.
func (e *Engine) counted(r round, s scope) []*compiled {
	if !s.whole() || r.trigger == triggerOverdue {
		return nil
	}
	if info, ok := e.opts.Inventory.Info(r.source.cluster); !ok || !info.Synced {
		return nil // what is not listed may exist
	}
	var out []*compiled
	for _, c := range e.policies {
		if c.atLeast() > 0 && c.selection.Cluster(r.source.cluster, e.clusterLabels(r.source.cluster)) {
			out = append(out, c)
		}
	}
	return out
}

// countKey is that of the alert that too few objects match.
func (c *compiled) countKey(cluster string) alertKey {
	return alertKey{c.ref.ID, cluster, countPrefix + "|"}
}

// judgeCount judges whether enough objects match. It fires when there were too
// few for noData's time: a rollout has a moment of few.
func (e *Engine) judgeCount(r round, c *compiled, n int, now time.Time) *incident.Alert {
	key := c.countKey(r.source.cluster)
	a := e.alerts[key]
	least := float64(c.atLeast())
	if float64(n) >= least {
		delete(e.few, key)
		e.lift(key)
	} else if _, ok := e.few[key]; !ok {
		e.few[key] = r.at
	}
	since, few := e.few[key]
	rule := evaluate.Rule{Conditions: []evaluate.Condition{{Op: "<", Need: 1, Of: 1}}, RecoverAfter: 1}
	rule.Conditions[0].Thresholds[c.rule.NoDataRank-1] = &least
	w := evaluate.Window{End: r.at, Value: float64(n), Missing: few && a == nil && r.at.Sub(since) < c.rule.NoDataAfter}
	before := evaluate.State{Changes: e.changes[key]}
	if a != nil {
		before = a.State
	}
	in := evaluate.Input{At: r.at, Windows: [][]evaluate.Window{{w}}, Newest: r.at, Interval: r.interval}
	state, cause := before.Step(&rule, in)
	switch {
	case cause != "":
		after := *a
		after.Firing, after.EndedAt, after.Cause, after.State = false, r.at, cause, state
		after.Explanation = fmt.Sprintf("%d match, %d are asked for", n, c.atLeast())
		return &after
	case a != nil || state.Rank(c.rule.NoDataRank) == 0 || e.muzzled[key]:
		if a != nil {
			after := *a
			after.State = state
			e.alerts[key] = &after
		}
		return nil
	}
	value := float64(n)
	out := &incident.Alert{ID: incident.NewID("alt_", now), Key: key.key, Firing: true, StartedAt: r.at, Severity: catalogue.Severities[c.rule.NoDataRank-1]}
	out.Policy, out.Labels, out.Group = c.ref, c.labels, c.group
	out.Object = incident.Object{Level: catalogue.Cluster, Cluster: r.source.cluster}
	out.State, out.Sender = state, r.source.sender
	out.Title = fmt.Sprintf("fewer than %d %ss match %s", c.atLeast(), c.level, c.ref.Name)
	out.Explanation = fmt.Sprintf("%d match since %s, %d are asked for", n, since.UTC().Format(time.RFC3339), c.atLeast())
	out.Conditions = []incident.Condition{{Metric: "atLeast", Statistic: "last", Op: "<", Threshold: least, Need: 1, Of: 1, Value: &value, Unit: string(catalogue.Count), Holds: true}}
	out.Annotations = annotate(c, out)
	e.address(out, c)
	return out
}
