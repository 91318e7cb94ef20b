package exchange

import (
	"encoding/base64"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
	"sigs.k8s.io/yaml"

	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
)

func base64Of(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// Rules is a file of Prometheus' rules.
type Rules struct {
	Groups []RuleGroup `json:"groups"`
}

// RuleGroup of a file.
type RuleGroup struct {
	Name  string `json:"name"`
	Rules []Rule `json:"rules"`
}

// Rule is an alerting rule.
type Rule struct {
	Alert         string            `json:"alert"`
	Expr          string            `json:"expr"`
	For           string            `json:"for,omitempty"`
	KeepFiringFor string            `json:"keep_firing_for,omitempty"`
	Labels        map[string]string `json:"labels,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// YAML writes the file.
func (r Rules) YAML() ([]byte, error) { return yaml.Marshal(r) }

// Prometheus writes policies as Prometheus' alerting rules on the same series: a
// rule for each severity. What rules cannot say is named.
func Prometheus(policies []policy.Policy) (Rules, []Note) {
	var notes Result
	out := Rules{Groups: []RuleGroup{}}
	for _, p := range policies {
		group := RuleGroup{Name: p.Metadata.Name}
		where := "policy " + strconv.Quote(p.Metadata.Name)
		if p.Spec.Lines() {
			notes.note(where, "not exported: it counts lines of %ss, which Prometheus does not have", p.Spec.Level)
			continue
		}
		for _, severity := range []catalogue.Severity{catalogue.Info, catalogue.Warning, catalogue.Critical} {
			rule, ok := ruleOf(&p, severity)
			if !ok {
				continue
			}
			if _, err := parser.NewParser(parser.Options{}).ParseExpr(rule.Expr); err != nil {
				notes.note(where, "not exported at %s: %v", severity, err)
				continue
			}
			group.Rules = append(group.Rules, rule)
		}
		if len(group.Rules) > 0 {
			out.Groups = append(out.Groups, group)
		}
		lost(&notes, where, &p)
	}
	return out, notes.Notes
}

// lost names what a policy says and rules cannot.
func lost(out *Result, where string, p *policy.Policy) {
	s := &p.Spec
	if !p.IsEnabled() {
		out.note(where, "it is switched off here, and its rules are not")
	}
	for _, c := range s.Conditions {
		if c.Recovery != nil {
			out.note(where, "recovery thresholds: a rule ends as soon as its threshold is not met")
		}
		if c.Need != c.Of {
			out.note(where, "%d of %d periods: a rule wants all of them bad", c.Need, c.Of)
		}
		if c.Statistic == string(catalogue.Increase) {
			out.note(where, "increase is exact here; Prometheus extrapolates it")
		}
	}
	if o := s.Objects; o != nil {
		if o.Selector != "" || o.Exclude != nil && o.Exclude.Selector != "" {
			out.note(where, "label selectors ask the inventory, which is not in the series: all objects are looked at")
		}
		if x := o.Exclude; x != nil && slices.ContainsFunc(x.Workloads, func(g string) bool { return !strings.HasPrefix(g, "*/") }) {
			out.note(where, "excluded workloads are left out by name, of whichever type")
		}
		if o.AtLeast != nil {
			out.note(where, "atLeast is not exported")
		}
	}
	if s.Clusters != nil && len(s.Clusters.Labels) > 0 {
		out.note(where, "clusters by label are not in the series: all clusters are looked at")
	}
	if s.NoData != nil && s.NoData.Action != "" && s.NoData.Action != policy.NoDataKeep {
		out.note(where, "noData %s: a rule's alert ends when its series does", s.NoData.Action)
	}
	if s.MinAge > 0 {
		out.note(where, "minAge is not exported")
	}
	if s.Notify != nil {
		out.note(where, "whom it tells, how often and to whom it escalates is said by Alertmanager's routes there")
	}
	for name, text := range p.Spec.Annotations {
		if strings.Contains(text, "{{") {
			out.note(where, "annotation %q is a template of ours, and is left out", name)
		}
	}
}

func ruleOf(p *policy.Policy, severity catalogue.Severity) (Rule, bool) {
	s := &p.Spec
	var parts []string
	named, longest, recover := false, time.Duration(0), time.Duration(0)
	for i := range s.Conditions {
		c := &s.Conditions[i]
		threshold, own, ok := thresholdOf(c, severity, s.Combine == "any")
		named = named || own
		if !ok {
			continue // it does not speak of this severity
		}
		parts = append(parts, exprOf(s, c, threshold))
		// The first bad period is judged when it ends; "for" begins then.
		longest = max(longest, time.Duration(max(c.Need, 1)-1)*c.Period.D())
		recover = max(recover, time.Duration(max(s.RecoverAfter, 1)-1)*c.Period.D())
	}
	if !named || len(parts) == 0 {
		return Rule{}, false
	}
	expr := parts[0]
	for _, next := range parts[1:] {
		op := " or "
		if s.Combine != "any" {
			op = " and on (" + strings.Join(identity(s), ", ") + ") "
		}
		expr = "(" + expr + ")" + op + "(" + next + ")"
	}
	rule := Rule{Alert: p.Metadata.Name, Expr: expr, Labels: map[string]string{"severity": string(severity)}}
	maps.Copy(rule.Labels, p.Metadata.Labels)
	if longest > 0 {
		rule.For = model.Duration(longest).String()
	}
	if recover > 0 {
		rule.KeepFiringFor = model.Duration(recover).String()
	}
	for name, text := range s.Annotations {
		if strings.Contains(text, "{{") {
			continue
		}
		if rule.Annotations == nil {
			rule.Annotations = map[string]string{}
		}
		rule.Annotations[name] = text
	}
	return rule, true
}

// thresholdOf gives what a condition is judged by at a severity; own says that it
// is its own. Where all must hold, one that lacks the severity is judged by its
// nearest, the less severe first; where any may, it counts by a more severe one
// only.
func thresholdOf(c *policy.Condition, severity catalogue.Severity, either bool) (v *float64, own, ok bool) {
	of := c.Thresholds.Of
	if c.Expr != "" && c.Op == "" {
		of = func(s catalogue.Severity) (float64, bool) {
			return 0, catalogue.Severity(firstOf(c.Severity, string(catalogue.Warning))) == s
		}
	}
	for d := range len(catalogue.Severities) {
		for _, rank := range []int{severity.Rank() - d, severity.Rank() + d} {
			if rank < 1 || rank > len(catalogue.Severities) || either && rank < severity.Rank() {
				continue
			}
			if t, has := of(catalogue.Severities[rank-1]); has {
				return &t, d == 0, true
			}
		}
	}
	return nil, false, false
}

// identity is the labels that say which object a series of a level is about.
func identity(s *policy.Spec) []string {
	if s.Level == policy.LevelPromQL {
		return []string{"cluster", "namespace", "node", "workload_type", "workload", "pod", "container"}
	}
	return catalogue.Level(s.Level).SeriesLabels()
}

func exprOf(s *policy.Spec, c *policy.Condition, threshold *float64) string {
	expr := c.Expr
	if expr == "" {
		expr = valueOf(c, c.Metric+selectorOf(s, c))
	} else if c.Op != "" {
		expr = "(" + expr + ")"
	}
	if c.Op == "" || threshold == nil {
		return expr
	}
	return expr + " " + c.Op + " " + strconv.FormatFloat(*threshold, 'g', -1, 64)
}

// valueOf writes a statistic, and what is made of it.
func valueOf(c *policy.Condition, series string) string {
	over := func(offset string) string {
		window := series + "[" + c.Period.String() + "]" + offset
		switch c.Statistic {
		case string(catalogue.Increase):
			return "increase(" + window + ")"
		case "p50", "p95", "p99":
			return "quantile_over_time(0." + strings.TrimPrefix(c.Statistic, "p") + ", " + window + ")"
		}
		return c.Statistic + "_over_time(" + window + ")"
	}
	switch {
	case c.Forecast != nil:
		from := c.Forecast.From.D()
		if from == 0 {
			from = c.Forecast.Within.D() / 4
		}
		return fmt.Sprintf("predict_linear(%s[%s], %g)", series, model.Duration(from), c.Forecast.Within.D().Seconds())
	case c.Change != nil:
		before := over(" offset " + c.Change.Against.String())
		if c.Change.As == policy.ChangePercent {
			return "100 * (" + over("") + " - " + before + ") / (" + before + " != 0)"
		}
		return "(" + over("") + " - " + before + ")"
	}
	return over("")
}

// selectorOf writes which series a condition is about.
func selectorOf(s *policy.Spec, c *policy.Condition) string {
	var out []string
	match := func(label, op string, globs []string) {
		if len(globs) > 0 {
			out = append(out, label+op+strconv.Quote(globsOf(globs)))
		}
	}
	own := map[string]string{"cluster": "cluster", "node": "node", "namespace": "namespace", "workload": "workload", "service": "service", "pod": "pod", "container": "container",
		"volume": "persistentvolumeclaim", "component": "component"}[s.Level]
	if s.Clusters != nil {
		match("cluster", "=~", s.Clusters.Names)
	}
	workloads := func(op string, globs []string) {
		// A type and a name are two labels: several of them are written apart only
		// where they have one type.
		kinds, named := map[string]bool{}, []string{}
		for _, g := range globs {
			kind, name, _ := strings.Cut(g, "/")
			kinds[kind] = true
			named = append(named, name)
		}
		if len(globs) == 0 {
			return
		}
		if op == "=~" || len(kinds) == 1 && kinds["*"] {
			match("workload_type", "=~", slices.Sorted(maps.Keys(kinds)))
		}
		match("workload", op, named)
	}
	if o := s.Objects; o != nil {
		match("namespace", "=~", o.Namespaces)
		workloads("=~", o.Workloads)
		match(own, "=~", o.Names)
		if x := o.Exclude; x != nil {
			match("namespace", "!~", x.Namespaces)
			workloads("!~", x.Workloads)
			match(own, "!~", x.Names)
		}
	}
	for _, label := range slices.Sorted(maps.Keys(c.Where)) {
		match(label, "=~", c.Where[label])
	}
	if len(out) == 0 {
		return ""
	}
	return "{" + strings.Join(out, ",") + "}"
}

// globsOf writes globs as one regular expression.
func globsOf(globs []string) string {
	parts := make([]string, len(globs))
	for i, g := range globs {
		parts[i] = strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(g))
	}
	return strings.Join(parts, "|")
}
