package quality

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/prometheus/prometheus/promql/parser"

	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/alerting/preset"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// Document is an object as it is written to the server.
type Document struct {
	Path string // of its kind
	Name string
	Body map[string]any
	// Own is what a policy needs by itself, from the first bad value on.
	Own time.Duration
}

// Presets gives the presets and what they mute, every period divided. What
// Kubernetes and the collectors do is not scaled.
func Presets(divisor int, interval time.Duration) ([]Document, error) {
	all, err := preset.All()
	if err != nil {
		return nil, err
	}
	var out []Document
	for _, p := range all {
		pol, err := p.Policy()
		if err != nil {
			return nil, err
		}
		s := scale{divisor: divisor, interval: interval}
		spec, err := s.spec(pol.Spec)
		if err != nil {
			return nil, fmt.Errorf("preset %s: %w", p.Name, err)
		}
		d := document("/policies", meta.KindPolicy, p.Name, spec, Own(spec))
		d.Body["metadata"] = map[string]any{"name": p.Name, "labels": p.Labels}
		out = append(out, d)
		if name, inhibition, ok := p.Inhibition(); ok {
			out = append(out, document("/inhibitions", meta.KindInhibition, name, inhibition, 0))
		}
	}
	return out, nil
}

func document(path, kind, name string, spec any, own time.Duration) Document {
	return Document{Path: path, Name: name, Own: own, Body: map[string]any{
		"apiVersion": policy.APIVersion, "kind": kind, "metadata": map[string]any{"name": name}, "spec": spec,
	}}
}

// Own is what a policy needs by itself: the periods that it wants to see bad.
// An increase holds with the first sample that shows it.
func Own(spec policy.Spec) time.Duration {
	var out time.Duration
	for _, c := range spec.Conditions {
		if c.Statistic == "increase" && c.Need <= 1 {
			continue
		}
		out = max(out, time.Duration(max(c.Need, 1))*c.Period.D())
	}
	return out
}

type scale struct {
	divisor  int
	interval time.Duration
}

func (s scale) duration(d policy.Duration) policy.Duration {
	if d == 0 {
		return 0
	}
	return policy.Duration(max((d.D() / time.Duration(s.divisor)).Round(s.interval), s.interval))
}

func (s scale) spec(in policy.Spec) (policy.Spec, error) {
	raw, err := json.Marshal(in)
	if err != nil {
		return in, err
	}
	var out policy.Spec
	if err := json.Unmarshal(raw, &out); err != nil {
		return in, err
	}
	for i := range out.Conditions {
		c := &out.Conditions[i]
		c.Period = s.duration(c.Period)
		if c.Forecast != nil {
			c.Forecast.Within, c.Forecast.From = s.duration(c.Forecast.Within), s.duration(c.Forecast.From)
		}
		if c.Expr != "" {
			if c.Expr, err = s.expr(c.Expr); err != nil {
				return in, err
			}
		}
	}
	out.MinAge = s.duration(out.MinAge)
	if out.NoData != nil {
		out.NoData.After = s.duration(out.NoData.After)
	}
	return out, nil
}

// expr divides the ranges of an expression.
func (s scale) expr(text string) (string, error) {
	e, err := parser.NewParser(parser.Options{}).ParseExpr(text)
	if err != nil {
		return "", err
	}
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		if m, ok := n.(*parser.MatrixSelector); ok {
			m.Range = s.duration(policy.Duration(m.Range)).D()
		}
		return nil
	})
	return e.String(), nil
}
