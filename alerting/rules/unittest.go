package rules

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
	"go.yaml.in/yaml/v2"
)

// maxSteps bounds the evaluations of one test: ten years at an hour's interval.
const maxSteps = 100_000

// testFile is promtool's format of unit tests of rules, as its documentation
// has it.
type testFile struct {
	RuleFiles          []string       `yaml:"rule_files"`
	EvaluationInterval model.Duration `yaml:"evaluation_interval,omitempty"`
	GroupEvalOrder     []string       `yaml:"group_eval_order"`
	Tests              []testGroup    `yaml:"tests"`
	FuzzyCompare       bool           `yaml:"fuzzy_compare,omitempty"`
}

type testGroup struct {
	Interval    model.Duration `yaml:"interval"`
	InputSeries []struct {
		Series string `yaml:"series"`
		Values string `yaml:"values"`
	} `yaml:"input_series"`
	Alerts         []alertTest       `yaml:"alert_rule_test,omitempty"`
	Exprs          []exprTest        `yaml:"promql_expr_test,omitempty"`
	ExternalLabels map[string]string `yaml:"external_labels,omitempty"`
	ExternalURL    string            `yaml:"external_url,omitempty"`
	Name           string            `yaml:"name,omitempty"`
	Start          string            `yaml:"start_timestamp,omitempty"`
}

type alertTest struct {
	EvalTime  model.Duration `yaml:"eval_time"`
	Alertname string         `yaml:"alertname"`
	Want      []struct {
		Labels      map[string]string `yaml:"exp_labels"`
		Annotations map[string]string `yaml:"exp_annotations"`
	} `yaml:"exp_alerts"`
}

type exprTest struct {
	Expr     string         `yaml:"expr"`
	EvalTime model.Duration `yaml:"eval_time"`
	Want     []struct {
		Labels    string  `yaml:"labels"`
		Value     float64 `yaml:"value"`
		Histogram string  `yaml:"histogram"` // when given, the value is not looked at
	} `yaml:"exp_samples"`
}

// Test runs promtool's unit tests of a file and gives what failed. promtool's
// own code for it is a program and cannot be imported; the store, the series'
// notation, the groups and the engine are Prometheus'.
func Test(ctx context.Context, path string) (failures []string, err error) {
	raw, err := readFile(path)
	if err != nil {
		return nil, err
	}
	var file testFile
	if err := yaml.UnmarshalStrict([]byte(raw), &file); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if file.EvaluationInterval == 0 {
		file.EvaluationInterval = model.Duration(time.Minute)
	}
	var files []string
	for _, glob := range file.RuleFiles {
		if !filepath.IsAbs(glob) {
			glob = filepath.Join(filepath.Dir(path), glob)
		}
		found, err := filepath.Glob(glob)
		if err != nil || len(found) == 0 {
			return nil, fmt.Errorf("read %s: no rule file %s", path, glob)
		}
		files = append(files, found...)
	}
	if len(file.Tests) == 0 {
		return nil, fmt.Errorf("read %s: it has no tests", path)
	}
	for i, g := range file.Tests {
		if g.Name == "" {
			g.Name = fmt.Sprintf("tests[%d]", i)
		}
		g.Interval = cmp.Or(g.Interval, file.EvaluationInterval)
		failed, err := g.run(ctx, &file, files)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", path, g.Name, err)
		}
		for _, f := range failed {
			failures = append(failures, g.Name+": "+f)
		}
	}
	return failures, nil
}

func (g *testGroup) start() (time.Time, error) {
	if g.Start == "" {
		return time.Unix(0, 0).UTC(), nil
	}
	if t, err := time.Parse(time.RFC3339Nano, g.Start); err == nil {
		return t.UTC(), nil
	}
	var seconds float64
	if _, err := fmt.Sscanf(g.Start, "%g", &seconds); err != nil || math.Abs(seconds) > 1e11 {
		return time.Time{}, fmt.Errorf("start_timestamp %q is neither RFC 3339 nor seconds", g.Start)
	}
	return time.UnixMilli(int64(seconds * 1000)).UTC(), nil
}

func (g *testGroup) run(ctx context.Context, file *testFile, files []string) (failures []string, err error) {
	start, err := g.start()
	if err != nil {
		return nil, err
	}
	var load strings.Builder
	fmt.Fprintf(&load, "load %s\n", g.Interval)
	for _, s := range g.InputSeries {
		fmt.Fprintf(&load, "  %s %s\n", s.Series, s.Values)
	}
	suite, err := promqltest.NewLazyLoader(load.String(), promqltest.LazyLoaderOpts{EnableAtModifier: true, EnableNegativeOffset: true, StartTime: start})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, suite.Close()) }()
	interval := time.Duration(file.EvaluationInterval)
	suite.SubqueryInterval = interval

	pql := parser.NewParser(parser.Options{})
	manager := rules.NewManager(&rules.ManagerOptions{
		QueryFunc: rules.EngineQueryFunc(suite.QueryEngine(), suite.Storage()), Appendable: suite.Storage(), Context: ctx,
		NotifyFunc: func(context.Context, string, ...*rules.Alert) {}, Logger: slog.New(slog.DiscardHandler), Parser: pql,
	})
	loaded, errs := manager.LoadGroups(time.Duration(g.Interval), labels.FromMap(g.ExternalLabels), g.ExternalURL, nil, false, files...)
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	groups := ordered(loaded, file.GroupEvalOrder)
	for _, group := range groups {
		for _, r := range group.AlertingRules() {
			r.SetRestored(true) // else ALERTS is not written
		}
	}

	due := slices.Clone(g.Alerts)
	slices.SortStableFunc(due, func(a, b alertTest) int { return cmp.Compare(a.EvalTime, b.EvalTime) })
	var last model.Duration
	for _, t := range due {
		if t.Alertname == "" {
			return nil, fmt.Errorf("an alert_rule_test at %s lacks alertname", t.EvalTime)
		}
		last = max(last, t.EvalTime)
	}
	for _, t := range g.Exprs {
		last = max(last, t.EvalTime)
	}
	if time.Duration(last)/interval > maxSteps {
		return nil, fmt.Errorf("eval_time %s at an interval of %s is over %d evaluations", last, interval, maxSteps)
	}
	for at := time.Duration(0); at <= time.Duration(last); at += interval {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var evalErr error
		suite.WithSamplesTill(start.Add(at), func(err error) {
			if evalErr = err; err != nil {
				return
			}
			for _, group := range groups {
				group.Eval(suite.Context(), start.Add(at))
				for _, r := range group.Rules() {
					if err := r.LastError(); err != nil {
						evalErr = errors.Join(evalErr, fmt.Errorf("rule %s at %s: %w", r.Name(), at, err))
					}
				}
			}
		})
		if evalErr != nil {
			return nil, evalErr
		}
		for len(due) > 0 && time.Duration(due[0].EvalTime) < at+interval {
			if want, got := due[0].want(), firing(groups, due[0].Alertname); !slices.Equal(want, got) {
				failures = append(failures, differ("alert "+due[0].Alertname, due[0].EvalTime, want, got))
			}
			due = due[1:]
		}
	}
	for _, t := range g.Exprs {
		want, err := t.want(pql)
		if err != nil {
			return nil, err
		}
		got, err := query(suite, t.Expr, start.Add(time.Duration(t.EvalTime)))
		if err != nil {
			failures = append(failures, fmt.Sprintf("%s at %s: %v", t.Expr, t.EvalTime, err))
			continue
		}
		if !alike(want, got, file.FuzzyCompare) {
			failures = append(failures, differ(t.Expr, t.EvalTime, texts(want), texts(got)))
		}
	}
	return failures, nil
}

// ordered sorts groups as the file wants it; those that it does not name come
// first, as in promtool.
func ordered(loaded map[string]*rules.Group, order []string) []*rules.Group {
	out := make([]*rules.Group, 0, len(loaded))
	for _, g := range loaded {
		out = append(out, g)
	}
	slices.SortFunc(out, func(a, b *rules.Group) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.Name()), slices.Index(order, b.Name())), cmp.Compare(a.File(), b.File()), cmp.Compare(a.Name(), b.Name()))
	})
	return out
}

func (t alertTest) want() (out []string) {
	for _, w := range t.Want {
		l := map[string]string{labels.AlertName: t.Alertname}
		for k, v := range w.Labels {
			if k != labels.AlertName {
				l[k] = v
			}
		}
		out = append(out, labels.FromMap(l).String()+" "+labels.FromMap(w.Annotations).String())
	}
	slices.Sort(out)
	return out
}

func firing(groups []*rules.Group, name string) (out []string) {
	for _, g := range groups {
		for _, r := range g.AlertingRules() {
			if r.Name() != name {
				continue
			}
			for _, a := range r.ActiveAlerts() {
				if a.State == rules.StateFiring {
					out = append(out, a.Labels.String()+" "+a.Annotations.String())
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

type testSample struct {
	labels    string
	value     float64
	histogram string
}

func (s testSample) String() string {
	if s.histogram != "" {
		return s.labels + " " + s.histogram
	}
	return fmt.Sprintf("%s %g", s.labels, s.value)
}

func texts(samples []testSample) (out []string) {
	for _, s := range samples {
		out = append(out, s.String())
	}
	return out
}

func (t exprTest) want(pql parser.Parser) (out []testSample, err error) {
	for _, w := range t.Want {
		metric, err := pql.ParseMetric(w.Labels)
		if err != nil {
			return nil, fmt.Errorf("labels %q of %s: %w", w.Labels, t.Expr, err)
		}
		s := testSample{labels: metric.String(), value: w.Value}
		if w.Histogram != "" {
			_, values, err := pql.ParseSeriesDesc("{} " + w.Histogram)
			if err != nil || len(values) != 1 || values[0].Histogram == nil {
				return nil, fmt.Errorf("histogram %q of %s is none", w.Histogram, t.Expr)
			}
			s.value, s.histogram = 0, promqltest.HistogramTestExpression(values[0].Histogram)
		}
		out = append(out, s)
	}
	sortSamples(out)
	return out, nil
}

func query(suite *promqltest.LazyLoader, expr string, at time.Time) (out []testSample, err error) {
	q, err := suite.QueryEngine().NewInstantQuery(suite.Context(), suite.Queryable(), nil, expr, at)
	if err != nil {
		return nil, err
	}
	defer q.Close()
	res := q.Exec(suite.Context())
	if res.Err != nil {
		return nil, res.Err
	}
	switch v := res.Value.(type) {
	case promql.Vector:
		for _, s := range v {
			one := testSample{labels: s.Metric.String(), value: s.F}
			if s.H != nil {
				one.histogram = promqltest.HistogramTestExpression(s.H)
			}
			out = append(out, one)
		}
	case promql.Scalar:
		out = []testSample{{labels: labels.EmptyLabels().String(), value: v.V}}
	default:
		return nil, errors.New("is neither a vector nor a scalar")
	}
	sortSamples(out)
	return out, nil
}

func sortSamples(s []testSample) {
	slices.SortFunc(s, func(a, b testSample) int { return cmp.Compare(a.labels, b.labels) })
}

func alike(a, b []testSample, fuzzy bool) bool {
	return slices.EqualFunc(a, b, func(x, y testSample) bool {
		same := x.value == y.value
		if fuzzy { // by one step of the format
			same = same || math.Nextafter(x.value, math.Inf(-1)) == y.value || math.Nextafter(x.value, math.Inf(1)) == y.value
		}
		return x.labels == y.labels && x.histogram == y.histogram && same
	})
}

func differ(what string, at model.Duration, want, got []string) string {
	text := func(list []string) string {
		if len(list) == 0 {
			return " nothing"
		}
		return "\n    " + strings.Join(list, "\n    ")
	}
	return fmt.Sprintf("%s at %s\n  want:%s\n  got:%s", what, at, text(want), text(got))
}
