package engine

import (
	"fmt"
	"slices"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/evaluate"
	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// compiled is a policy ready to be evaluated. It is never changed.
type compiled struct {
	ref        incident.PolicyRef
	spec       *policy.Spec
	labels     map[string]string
	enabled    bool
	generation int // of the engine's policies when it was compiled
	created    time.Time
	level      catalogue.Level
	onNodes    bool // its objects lie on one node each, which sends what they are judged by
	selection  *policy.Selection
	picks      string      // what the selection's answers are remembered by
	hint       policy.Hint // whatever is selected has this
	hinted     bool
	rule       evaluate.Rule
	conditions []condition
	suspects   []func(prev, v float64) bool // by condition; see suspicious
	dimensions []string                     // of the metrics that have some; they all have the same
	templates  map[string]*policy.Template
	targets    []policy.TargetRef // empty: the routes decide
	repeat     *policy.Repeat
	escalate   []policy.Escalate
	group      incident.Grouping
}

type condition struct {
	*policy.Condition
	metric catalogue.Metric
}

func compile(r meta.Resource) (*compiled, error) {
	p, err := policy.FromRow(r)
	if err != nil {
		return nil, err
	}
	s := &p.Spec
	c := &compiled{
		ref:  incident.PolicyRef{ID: r.ID, Name: r.Name, Project: r.Project, Revision: r.Revision},
		spec: s, labels: r.Labels, enabled: p.IsEnabled(), created: r.CreatedAt, level: s.ObjectLevel(),
		templates: map[string]*policy.Template{},
		group:     incident.Grouping{By: s.Group.By, Wait: s.Group.Wait.D(), Interval: s.Group.Interval.D()},
		rule: evaluate.Rule{
			Any: s.Combine == "any", RecoverAfter: s.RecoverAfter,
			NoData: s.NoData.Action, NoDataAfter: s.NoData.After.D(), NoDataRank: catalogue.Severity(s.NoData.Severity).Rank(),
		},
	}
	if s.Notify != nil {
		c.targets, c.repeat, c.escalate = s.Notify.Targets, s.Notify.Repeat, s.Notify.Escalate
	}
	if c.selection, err = policy.Compile(s); err != nil {
		return nil, fmt.Errorf("policy %q: %w", r.Name, err)
	}
	c.onNodes = !c.promql() && slices.Contains(c.level.SeriesLabels(), "node")
	c.picks = c.selection.Key()
	c.hint, c.hinted = c.selection.Hint()
	for i := range s.Conditions {
		pc := &s.Conditions[i]
		m, ok := catalogue.Get(pc.Metric)
		if pc.Expr != "" {
			m, ok = catalogue.Metric{Title: shorten(pc.Expr), Kind: catalogue.Gauge, Place: byExpression}, true
		}
		if s.Lines() {
			m, ok = linesMetric(s, pc), true
		}
		if !ok { // it left the catalogue with a newer version
			return nil, fmt.Errorf("policy %q: metric %q is not in the catalogue", r.Name, pc.Metric)
		}
		if len(m.Dimensions) > 0 {
			c.dimensions = m.Dimensions
		}
		ec := evaluate.Condition{Op: pc.Op, Need: pc.Need, Of: pc.Of}
		for rank, sev := range catalogue.Severities {
			if v, ok := pc.Thresholds.Of(sev); ok {
				ec.Thresholds[rank] = &v
			}
			if pc.Recovery != nil {
				if v, ok := pc.Recovery.Of(sev); ok {
					ec.Recovery[rank] = &v
				}
			}
		}
		if pc.Expr != "" && pc.Op == "" {
			exists := 0.0
			ec.Op = ">"
			if rank := catalogue.Severity(pc.Severity).Rank(); rank > 0 {
				ec.Thresholds[rank-1] = &exists
			}
		}
		c.conditions = append(c.conditions, condition{pc, m})
		c.rule.Conditions = append(c.rule.Conditions, ec)
	}
	for i := range c.conditions {
		c.suspects = append(c.suspects, c.suspicious(i))
	}
	for k, text := range s.Annotations {
		if c.templates[k], err = policy.ParseTemplate(text); err != nil {
			return nil, fmt.Errorf("policy %q: annotation %q: %w", r.Name, k, err)
		}
	}
	return c, nil
}

// series describes how a condition's samples become windows.
func (c condition) series(interval time.Duration, created time.Time, minAge time.Duration) evaluate.Series {
	s := evaluate.Series{
		Statistic: catalogue.Statistic(c.Statistic), Kind: c.metric.Kind, Period: c.Period.D(), Interval: interval, CreatedAt: created, MinAge: minAge,
	}
	if c.Change != nil {
		s.Change, s.ChangePercent = c.Change.Against.D(), c.Change.As == policy.ChangePercent
	}
	if c.Forecast != nil {
		s.Forecast, s.FitFrom = c.Forecast.Within.D(), c.Forecast.From.D()
	}
	return s
}

// about gives whose samples a condition judges a subject by: a metric without
// dimensions has one for all their values.
func (c condition) about(sub subject) subject {
	if len(c.metric.Dimensions) == 0 {
		sub.dimensions = ""
	}
	return sub
}

// promql tells whether the policy's conditions are expressions.
func (c *compiled) promql() bool { return c.level == policy.LevelPromQL }

// span is how far back a condition looks.
func (c *compiled) span(i int, interval time.Duration) time.Duration {
	cond := c.conditions[i]
	back := time.Duration(c.rule.Reach(i)) * cond.Period.D()
	if f := cond.Forecast; f != nil {
		back += max(0, f.From.D()-cond.Period.D())
	}
	return back + 3*interval
}

// misfit says why the policy cannot be evaluated at an interval; empty: it can.
func (c *compiled) misfit(interval time.Duration) string {
	for _, cond := range c.conditions {
		p := cond.Period.D()
		switch {
		case p < interval || p%interval != 0:
			return fmt.Sprintf("interval is %s, and %s is no multiple of it", policy.Duration(interval), cond.Period)
		case (cond.Statistic == "p95" || cond.Statistic == "p99") && p < 20*interval:
			return fmt.Sprintf("interval is %s, and %s needs 20 samples in %s", policy.Duration(interval), cond.Statistic, cond.Period)
		}
	}
	return ""
}

// scope is which values an arrival brought.
type scope struct {
	places  []catalogue.Place
	nodes   []string // only objects of these nodes, in order; empty: all
	changes bool     // only what is sent the moment it changes
}

// whole tells whether it is of all nodes.
func (s scope) whole() bool { return len(s.nodes) == 0 }

// on tells whether objects of a node are in it.
func (s scope) on(node string) bool {
	_, ok := slices.BinarySearch(s.nodes, node)
	return ok || s.whole()
}

// concerns tells whether the values of the scope can change a judgement.
func (c *compiled) concerns(s scope) bool {
	return slices.ContainsFunc(c.conditions, func(cond condition) bool {
		return slices.Contains(s.places, cond.metric.Place) && (!s.changes || cond.metric.Kind != catalogue.Gauge)
	})
}

func scopeOf(sender string) (scope, bool) {
	role, node := splitSender(sender)
	switch role {
	case "all":
		return scope{places: []catalogue.Place{catalogue.ByNode, catalogue.ByCluster}}, true
	case "cluster":
		return scope{places: []catalogue.Place{catalogue.ByCluster}}, true
	case "node":
		return scope{places: []catalogue.Place{catalogue.ByNode}, nodes: []string{node}}, node != ""
	}
	return scope{}, false // no collector of ours: its series are not the catalogue's
}
