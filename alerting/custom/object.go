// Package custom owns the metrics that users add to the catalogue: what they are,
// by PromQL over stored series, and their evaluation into ordinary series of each
// cluster's grid, which the catalogue's own expressions go through too. It must not know policies' conditions, charts or HTTP.
package custom

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

const (
	maxExprBytes  = 4_000
	maxDimensions = 4
	maxTextBytes  = 500
)

// CustomMetric is a user's entry of the catalogue as an object of the API.
type CustomMetric struct {
	APIVersion string          `json:"apiVersion" enum:"crowsnest.dev/v1"`
	Kind       string          `json:"kind" enum:"Metric"`
	Metadata   policy.Metadata `json:"metadata"`
	Spec       MetricSpec      `json:"spec"`
	Status     *MetricStatus   `json:"status,omitempty" write:"ignored" doc:"Set by the server; ignored on write."`
}

// MetricSpec says what the metric is.
type MetricSpec struct {
	Title      string       `json:"title" doc:"The metric in the user's words."`
	Help       string       `json:"help,omitempty"`
	Level      string       `json:"level" enum:"cluster,node,namespace,workload,service,pod,container,volume,component" doc:"What the metric is about. The result of expr must have the labels that name an object of the level, cluster aside."`
	Unit       string       `json:"unit" enum:"%,cores,B,B/s,1/s,s,d,count,0/1"`
	Expr       string       `json:"expr" doc:"PromQL over stored series, evaluated for each cluster by itself at each point of its grid, when the cluster's sums are written. Each of its selectors sees that cluster only."`
	Dimensions []string     `json:"dimensions,omitempty" doc:"Labels of the result beyond those of the level: one object has a series for each value. All others are dropped."`
	Clusters   []string     `json:"clusters,omitempty" doc:"Clusters that have it, by id. Left out: all."`
	Statistic  string       `json:"statistic,omitempty" enum:"avg,max,min,sum,last,p50,p95,p99" doc:"What a form offers first. Left out: avg."`
	Alert      *MetricAlert `json:"alert,omitempty" doc:"The condition that a form starts from."`
	Chart      MetricChart  `json:"chart,omitzero"`
}

// MetricAlert is the condition that a form starts from.
type MetricAlert struct {
	Statistic string          `json:"statistic,omitempty" enum:"avg,max,min,sum,last,p50,p95,p99" doc:"Left out: the metric's."`
	Op        string          `json:"op" enum:">,>=,<,<=,==,!="`
	Threshold float64         `json:"threshold"`
	Period    policy.Duration `json:"period,omitempty" doc:"Left out: 1m."`
	Need      int             `json:"need,omitempty" doc:"Bad periods needed. Left out: as many as of."`
	Of        int             `json:"of,omitempty" doc:"Among the newest so many. Left out: as many as need, else 1."`
	Severity  string          `json:"severity,omitempty" enum:"info,warning,critical" doc:"Left out: warning."`
}

// MetricChart says how the metric is drawn.
type MetricChart struct {
	Group string  `json:"group,omitempty" doc:"Metrics of one group and level share a chart. Left out: a chart of its own."`
	Max   float64 `json:"max,omitempty" doc:"Top of the axis unless data goes beyond."`
}

// MetricStatus is how the metric does.
type MetricStatus struct {
	Name     string                `json:"name" doc:"Of its series: the object's name with _ for -."`
	Clusters []MetricClusterStatus `json:"clusters" nullable:"false" doc:"Those where it was evaluated since the server's start."`
}

// MetricClusterStatus is how it does in one cluster.
type MetricClusterStatus struct {
	Cluster string    `json:"cluster"`
	At      time.Time `json:"at" doc:"The point of the grid that it was evaluated for last."`
	Series  int       `json:"series"`
	Problem string    `json:"problem,omitempty" doc:"Why it has no value there."`
}

// foreign are beginnings of names that others own.
var foreign = []string{"k8s_", "crowsnest_", "kube_", "node_", "container_", "machine_", "kubelet_", "apiserver_", "etcd_", "scrape_", "go_", "process_"}

var nameRE = regexp.MustCompile(`^[a-z][a-z0-9_]+$`)

// SeriesName is the name of the metric's series.
func SeriesName(object string) string { return strings.ReplaceAll(object, "-", "_") }

// Parse reads and validates an object. What is wrong comes back all at once as
// fault.Fields.
func Parse(document []byte) (*CustomMetric, error) {
	var o CustomMetric
	fields, err := policy.Decode(document, &o)
	if err != nil {
		return nil, fmt.Errorf("read metric: %w", err)
	}
	if o.APIVersion != policy.APIVersion {
		fields.Say("apiVersion", fault.Say(fault.MustBe, policy.APIVersion), o.APIVersion)
	}
	if o.Kind != meta.KindMetric {
		fields.Say("kind", fault.Say(fault.MustBe, meta.KindMetric), o.Kind)
	}
	policy.ValidateMetadata(&fields, &o.Metadata)
	if o.Metadata.Project == "" {
		o.Metadata.Project = policy.DefaultProject
	}
	checkName(&fields, o.Metadata.Name)
	o.Spec.complete()
	o.Spec.check(&fields)
	if err := fields.Err(); err != nil {
		return nil, fmt.Errorf("metric %q: %w", o.Metadata.Name, err)
	}
	return &o, nil
}

func checkName(fields *fault.Fields, object string) {
	name := SeriesName(object)
	const at = "metadata.name"
	switch {
	case object == "": // told already
	case !nameRE.MatchString(name):
		fields.Say(at, fault.Say(fault.MetricLetter), object)
	case name == "up" || name == "alerts":
		fields.Say(at, fault.Say(fault.MetricPrometheus), object)
	default:
		for _, m := range catalogue.All() {
			if m.Name == name {
				fields.Say(at, fault.Say(fault.MetricCatalogue), object)
				return
			}
		}
		for _, prefix := range foreign {
			if strings.HasPrefix(name, prefix) {
				fields.Say(at, fault.Say(fault.MetricForeign, strings.ReplaceAll(prefix, "_", "-")), object)
			}
		}
	}
}

func (s *MetricSpec) complete() {
	if s.Statistic == "" {
		s.Statistic = string(catalogue.Avg)
	}
	a := s.Alert
	if a == nil {
		return
	}
	if a.Statistic == "" {
		a.Statistic = s.Statistic
	}
	if a.Period == 0 {
		a.Period = policy.Duration(time.Minute)
	}
	if a.Severity == "" {
		a.Severity = string(catalogue.Warning)
	}
	switch {
	case a.Need == 0 && a.Of == 0:
		a.Need, a.Of = 1, 1
	case a.Need == 0:
		a.Need = a.Of
	case a.Of == 0:
		a.Of = a.Need
	}
}

var (
	units      = []catalogue.Unit{catalogue.Percent, catalogue.Cores, catalogue.Bytes, catalogue.BytesPerSecond, catalogue.PerSecond, catalogue.Seconds, catalogue.Days, catalogue.Count, catalogue.Bool}
	statistics = slices.DeleteFunc(slices.Clone(catalogue.Statistics), func(s catalogue.Statistic) bool { return s == catalogue.Increase })
	ops        = []string{">", ">=", "<", "<=", "==", "!="}
)

func oneOf[T ~string](fields *fault.Fields, at, value string, allowed []T) {
	if slices.Contains(allowed, T(value)) {
		return
	}
	words := make([]string, len(allowed))
	for i, w := range allowed {
		words[i] = string(w)
	}
	fields.Say(at, fault.Say(fault.OneOf, strings.Join(words, ", ")), value)
}

func (s *MetricSpec) check(fields *fault.Fields) {
	if s.Title == "" || len(s.Title) > 100 {
		fields.Say("spec.title", fault.Say(fault.BytesBetween, 1, 100), s.Title)
	}
	if len(s.Help) > maxTextBytes {
		fields.Say("spec.help", fault.Say(fault.BytesAtMost, maxTextBytes), len(s.Help))
	}
	oneOf(fields, "spec.level", s.Level, catalogue.Levels)
	oneOf(fields, "spec.unit", s.Unit, units)
	oneOf(fields, "spec.statistic", s.Statistic, statistics)
	if len(s.Chart.Group) > 63 || s.Chart.Max < 0 || math.IsInf(s.Chart.Max, 0) || math.IsNaN(s.Chart.Max) {
		fields.Say("spec.chart", fault.Say(fault.ChartGroup, 63), s.Chart)
	}
	if len(s.Clusters) > 100 {
		fields.Say("spec.clusters", fault.Say(fault.CountAtMost, 100), len(s.Clusters))
	}
	if len(s.Dimensions) > maxDimensions {
		fields.Say("spec.dimensions", fault.Say(fault.AtMost, maxDimensions), len(s.Dimensions))
	}
	for i, d := range s.Dimensions {
		at := fmt.Sprintf("spec.dimensions[%d]", i)
		switch {
		case !model.LabelName(d).IsValidLegacy() || strings.HasPrefix(d, "__") || len(d) > 63:
			fields.Say(at, fault.Say(fault.LabelWrong), d)
		case slices.Contains(catalogue.Level(s.Level).SeriesLabels(), d):
			fields.Say(at, fault.Say(fault.LabelOfLevel), d)
		case slices.Index(s.Dimensions, d) != i:
			fields.Say(at, fault.Say(fault.LabelTwice), d)
		}
	}
	if _, err := selective(s.Expr, "any"); err != nil {
		fields.Say("spec.expr", fault.Say(fault.MetricExpr, err.Error()), s.Expr)
	}
	if a := s.Alert; a != nil {
		oneOf(fields, "spec.alert.statistic", a.Statistic, statistics)
		oneOf(fields, "spec.alert.op", a.Op, ops)
		oneOf(fields, "spec.alert.severity", a.Severity, catalogue.Severities)
		if math.IsNaN(a.Threshold) || math.IsInf(a.Threshold, 0) {
			fields.Say("spec.alert.threshold", fault.Say(fault.NotNumber), nil)
		}
		if p := a.Period.D(); p < 10*time.Second || p > 24*time.Hour {
			fields.Say("spec.alert.period", fault.Say(fault.Between, "10s", "24h"), a.Period.String())
		}
		if a.Need < 1 || a.Of < a.Need || a.Of > 60 {
			fields.Say("spec.alert.need", fault.Say(fault.NeedOf, 60), a.Need)
		}
	}
}

// selective gives the expression with each of its selectors bound to one cluster.
func selective(expr, cluster string) (parser.Expr, error) {
	if strings.TrimSpace(expr) == "" || len(expr) > maxExprBytes {
		return nil, fmt.Errorf("must be PromQL of at most %d bytes", maxExprBytes)
	}
	e, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		return nil, fmt.Errorf("is not PromQL: %w", err)
	}
	if t := e.Type(); t != parser.ValueTypeVector && t != parser.ValueTypeScalar {
		return nil, fmt.Errorf("gives a %s; it must give one value for each object", parser.DocumentedType(t))
	}
	if Bind(e, cluster) == 0 {
		return nil, fmt.Errorf("selects no series")
	}
	return e, nil
}

// Bind has each selector of an expression select series of one cluster only,
// and gives how many selectors there are.
func Bind(e parser.Expr, cluster string) (selectors int) {
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		if v, ok := n.(*parser.VectorSelector); ok {
			selectors++
			v.LabelMatchers = append(v.LabelMatchers, labels.MustNewMatcher(labels.MatchEqual, clusterLabel, cluster))
		}
		return nil
	})
	return selectors
}

// Of gives a stored object.
func Of(r meta.Resource) (*CustomMetric, error) {
	o := &CustomMetric{APIVersion: policy.APIVersion, Kind: r.Kind, Metadata: policy.MetadataOf(r)}
	if err := json.Unmarshal(r.Spec, &o.Spec); err != nil {
		return nil, fmt.Errorf("read %s %q: %w", r.Kind, r.Name, err)
	}
	o.Spec.complete()
	return o, nil
}

// entry is the metric as the catalogue has it.
func (o *CustomMetric) entry() catalogue.Metric {
	s := o.Spec
	m := catalogue.Metric{
		Name: SeriesName(o.Metadata.Name), Title: s.Title, Help: s.Help, Level: catalogue.Level(s.Level), Unit: catalogue.Unit(s.Unit), Kind: catalogue.Gauge,
		Dimensions: s.Dimensions, Place: catalogue.ByServer, From: []catalogue.Source{catalogue.Expression}, Expr: s.Expr,
		Absent: "its expression gives no value for the object", Statistic: catalogue.Statistic(s.Statistic),
		Chart: catalogue.Chart{Group: s.Chart.Group, Max: s.Chart.Max},
	}
	if m.Help == "" {
		m.Help = s.Title + "."
	}
	if m.Chart.Group == "" {
		m.Chart.Group = m.Name
	}
	if a := s.Alert; a != nil {
		m.Alert = &catalogue.Alert{
			Statistic: catalogue.Statistic(a.Statistic), Op: a.Op, Threshold: a.Threshold, Period: a.Period.D(), Need: a.Need, Of: a.Of, Severity: catalogue.Severity(a.Severity),
		}
	}
	return m
}
