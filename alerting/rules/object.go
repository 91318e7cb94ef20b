package rules

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"sigs.k8s.io/yaml"

	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// RuleGroups are Prometheus' rule groups as an object of the API.
type RuleGroups struct {
	APIVersion string          `json:"apiVersion" enum:"crowsnest.dev/v1"`
	Kind       string          `json:"kind" enum:"RuleGroups"`
	Metadata   policy.Metadata `json:"metadata"`
	Spec       RulesSpec       `json:"spec"`
	Status     *RulesStatus    `json:"status,omitempty" write:"ignored" doc:"Set by the server; ignored on write."`
}

// RulesSpec holds what a rule file of Prometheus holds.
type RulesSpec struct {
	Groups []RuleGroup `json:"groups"`
}

// RuleGroup is evaluated as one, rule after rule.
type RuleGroup struct {
	Name        string            `json:"name"`
	Interval    string            `json:"interval,omitempty" doc:"Left out: 1m."`
	QueryOffset string            `json:"query_offset,omitempty" doc:"How far behind now it looks. Left out: 11s, when sums over a cluster are written."`
	Limit       int               `json:"limit,omitempty" doc:"Series or alerts that a rule may make; 0: no bound."`
	Labels      map[string]string `json:"labels,omitempty"`
	Rules       []Rule            `json:"rules"`
}

// Rule records a series or alerts.
type Rule struct {
	Record        string            `json:"record,omitempty"`
	Alert         string            `json:"alert,omitempty"`
	Expr          string            `json:"expr"`
	For           string            `json:"for,omitempty"`
	KeepFiringFor string            `json:"keep_firing_for,omitempty"`
	Labels        map[string]string `json:"labels,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// RulesStatus is how the groups do.
type RulesStatus struct {
	Problem  string `json:"problem,omitempty" doc:"Why they do not run as they are written."`
	Firing   int    `json:"firing" doc:"Alerts that fire."`
	Pending  int    `json:"pending" doc:"Alerts that wait for their for."`
	Failing  int    `json:"failing" doc:"Rules whose last evaluation failed; /api/v1/rules says why."`
	LastEval string `json:"last_evaluation,omitempty" doc:"When a group of them was evaluated last, RFC 3339."`
}

// Text gives the rule file that says the same.
func (s RulesSpec) Text() string {
	out, err := yaml.Marshal(s)
	if err != nil {
		panic("BUG: rule groups without YAML: " + err.Error())
	}
	return string(out)
}

// ParseObject reads and validates rule groups. A plain rule file of Prometheus
// is not taken: it has no name.
func ParseObject(document []byte) (*RuleGroups, error) {
	var o RuleGroups
	fields, err := policy.Decode(document, &o)
	if err != nil {
		return nil, fmt.Errorf("read rule groups: %w", err)
	}
	if o.APIVersion != policy.APIVersion {
		fields.Add("apiVersion", "must be "+policy.APIVersion, o.APIVersion)
	}
	if o.Kind != meta.KindRuleGroups {
		fields.Add("kind", "must be "+meta.KindRuleGroups, o.Kind)
	}
	policy.ValidateMetadata(&fields, &o.Metadata)
	if o.Metadata.Project == "" {
		o.Metadata.Project = policy.DefaultProject
	}
	if fields.Err() == nil { // else Prometheus would tell the same again
		for _, reason := range check(o.Spec.Text()) {
			fields.Add("spec.groups", reason, nil)
		}
	}
	if err := fields.Err(); err != nil {
		return nil, fmt.Errorf("rule groups %q: %w", o.Metadata.Name, err)
	}
	return &o, nil
}

// Of gives stored rule groups.
func Of(r meta.Resource) (*RuleGroups, error) {
	o := &RuleGroups{APIVersion: policy.APIVersion, Kind: r.Kind, Metadata: policy.MetadataOf(r)}
	if err := json.Unmarshal(r.Spec, &o.Spec); err != nil {
		return nil, fmt.Errorf("read %s %q: %w", r.Kind, r.Name, err)
	}
	return o, nil
}

// Show adds how stored groups do.
func (m *Manager) Show(o *RuleGroups) {
	o.Status = &RulesStatus{Problem: m.Problem(o.Metadata.Name)}
	for _, g := range m.RuleGroups() {
		if g.File() != fromAPI+o.Metadata.Name {
			continue
		}
		if t := g.GetLastEvaluation(); !t.IsZero() {
			o.Status.LastEval = max(o.Status.LastEval, t.UTC().Format("2006-01-02T15:04:05Z"))
		}
		for _, r := range g.Rules() {
			if r.LastError() != nil {
				o.Status.Failing++
			}
		}
		for _, r := range g.AlertingRules() {
			for _, a := range r.ActiveAlerts() {
				if a.ResolvedAt.IsZero() && a.FiredAt.IsZero() {
					o.Status.Pending++
				} else if a.ResolvedAt.IsZero() {
					o.Status.Firing++
				}
			}
		}
	}
}

// Import makes an object of a rule file of Prometheus, which must be right.
func Import(name, text string) (*RuleGroups, error) {
	if _, err := Parse(text); err != nil {
		return nil, err
	}
	asJSON, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("read rule groups: %w: %w", fault.ErrMalformed, err)
	}
	o := &RuleGroups{APIVersion: policy.APIVersion, Kind: meta.KindRuleGroups, Metadata: policy.Metadata{Name: name}}
	var file struct {
		Groups []struct {
			RuleGroup
			Rules []struct {
				Rule
				Expr json.RawMessage `json:"expr"` // a bare number is none of JSON's texts
			} `json:"rules"`
		} `json:"groups"`
	}
	if err := json.Unmarshal(asJSON, &file); err != nil {
		return nil, fmt.Errorf("read rule groups: %w: %w", fault.ErrMalformed, err)
	}
	for _, g := range file.Groups {
		group := g.RuleGroup
		group.Rules = make([]Rule, 0, len(g.Rules))
		for _, r := range g.Rules {
			rule := r.Rule
			if err := json.Unmarshal(r.Expr, &rule.Expr); err != nil {
				rule.Expr = string(r.Expr)
			}
			group.Rules = append(group.Rules, rule)
		}
		o.Spec.Groups = append(o.Spec.Groups, group)
	}
	return o, nil
}

// Parse reads and checks a rule file as promtool does. Everything that is wrong
// comes back at once.
func Parse(text string) (*rulefmt.RuleGroups, error) {
	if len(text) > maxFile {
		return nil, fmt.Errorf("rule groups of %d bytes: %w", len(text), fault.ErrTooLarge)
	}
	groups, errs := rulefmt.Parse([]byte(text), false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	var fields fault.Fields
	for _, err := range errs {
		fields.Add("groups", strings.ReplaceAll(err.Error(), "\n", " "), nil)
	}
	if len(errs) == 0 && len(groups.Groups) == 0 {
		fields.Add("groups", "must be at least one", nil)
	}
	return groups, fields.Err()
}

// check gives what is wrong with a rule file, in words.
func check(text string) (reasons []string) {
	_, err := Parse(text)
	fields, ok := err.(fault.Fields) //nolint:errorlint // Parse's own
	switch {
	case err == nil:
		return nil
	case !ok:
		return []string{err.Error()}
	}
	for _, f := range fields {
		reasons = append(reasons, f.Reason)
	}
	return reasons
}
