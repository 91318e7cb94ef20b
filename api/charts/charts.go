// Package charts serves the values of charts: one for each step of a range and
// each object. It must not know from what a store reads them; it passes on what
// the store says.
package charts

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/api/problem"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/aggregate"
)

// Source reads charts. *classes.Store is one.
type Source interface {
	Chart(ctx context.Context, spec aggregate.Spec) (*aggregate.Answer, error)
}

// Chart is the values of a range.
type Chart struct {
	Start       time.Time `json:"start" doc:"Of the first value. Each value stands at the end of its step."`
	StepSeconds int64     `json:"step_seconds"`
	Statistic   string    `json:"statistic"`
	// ResolutionSeconds is that of the coarsest of Read.
	ResolutionSeconds int64  `json:"resolution_seconds" doc:"Of the coarsest of what was read; 0 when all was read from samples."`
	Read              []Read `json:"read" nullable:"false" doc:"From what each part of the range was read, in the order of time. The values are those of the samples either way, up to the rounding of sums."`
	Lines             []Line `json:"lines" nullable:"false"`
	Left              int    `json:"left" doc:"Lines beyond the limit: those with the highest values are given."`
}

// Read says from what a part of a chart was read.
type Read struct {
	ResolutionSeconds int64     `json:"resolution_seconds" doc:"Length of the buckets of count, sum, least, greatest and last; 0 for samples."`
	From              time.Time `json:"from"`
	To                time.Time `json:"to"`
}

// Line is the values of series that share labels.
type Line struct {
	Labels map[string]string `json:"labels"`
	Values []*float64        `json:"values" nullable:"false" doc:"One a step; null where there is no sample, or no finite value."`
}

type input struct {
	Cluster    string    `path:"cluster" doc:"The cluster's id." maxLength:"63"`
	Series     string    `query:"series" maxLength:"8192" doc:"Required: which series, as PromQL selects them." example:"k8s_pod_cpu_core_used{namespace=\"shop\"}"`
	Start      time.Time `query:"start" doc:"Required: of the first step's end."`
	End        time.Time `query:"end" doc:"Required: of the last step's end."`
	Step       int64     `query:"step_seconds" maximum:"31536000" doc:"Required."`
	Statistic  string    `query:"statistic" enum:"avg,min,max,sum,count,last,increase" doc:"Of the samples of a step; left out: the one of the catalogue, else avg."`
	By         []string  `query:"by,explode" doc:"Labels that tell lines apart; series that share them are joined."`
	Across     string    `query:"across" enum:"max,min,sum,avg" default:"max" doc:"How series of one line are joined."`
	Resolution string    `query:"resolution" enum:"auto,raw,5m,1h" default:"auto" doc:"The coarsest that may be read. What is coarser than samples is read only where it says the same: where it divides the steps, and no sample of its time came later."`
	Limit      int       `query:"limit" minimum:"0" maximum:"10000" doc:"Of lines; 0 or left out: no limit."`
}

// maxPoints of a line, as Prometheus bounds them.
const maxPoints = 11_000

// Register adds GET /clusters/{cluster}/chart.
func Register(api huma.API, source Source) {
	huma.Register(api, huma.Operation{
		OperationID: "get-chart", Method: http.MethodGet, Path: "/clusters/{cluster}/chart", Tags: []string{"metrics"},
		Summary: "The values of a chart",
		Description: "A value for each step and line, of the samples after the step's beginning, up to and with its end. Where that gives the same, long ranges are read from buckets of 5 min and 1 h that the server keeps beside the samples; the answer says so. " +
			"Prometheus' API always reads samples.",
	}, func(ctx context.Context, in *input) (*struct{ Body Chart }, error) {
		out, err := chart(ctx, source, in)
		if err != nil {
			return nil, problem.Error(err)
		}
		return &struct{ Body Chart }{*out}, nil
	})
}

func chart(ctx context.Context, source Source, in *input) (*Chart, error) {
	matchers, wrong := parser.NewParser(parser.Options{}).ParseMetricSelector(in.Series)
	name, namespace := "", ""
	for _, m := range matchers {
		switch {
		case m.Name == labels.MetricName && m.Type == labels.MatchEqual:
			name = m.Value
		case m.Name == "namespace" && m.Type == labels.MatchEqual:
			namespace = m.Value
		}
	}
	// Before a word about what is wrong with the question.
	if err := access.Authorize(ctx, access.Read, in.Cluster, namespace); err != nil {
		return nil, err
	}
	if wrong != nil {
		return nil, fault.Field{Path: "series", Reason: fmt.Sprintf("must be a selection of series: %v", wrong), Value: in.Series}
	}
	if name == "" {
		return nil, fault.Field{Path: "series", Reason: "must name the metric", Value: in.Series}
	}
	// Whatever else is said of the cluster, this one has to hold too.
	spec := aggregate.Spec{
		Matchers: append(matchers, labels.MustNewMatcher(labels.MatchEqual, "cluster", in.Cluster)),
		Start:    in.Start.UnixMilli(), End: in.End.UnixMilli(), Step: in.Step * 1000,
		Statistic: in.Statistic, By: in.By, Across: in.Across, Limit: in.Limit,
		Resolution: map[string]int64{"auto": math.MaxInt64, "5m": (5 * time.Minute).Milliseconds(), "1h": time.Hour.Milliseconds()}[in.Resolution],
	}
	if spec.Statistic == "" {
		spec.Statistic = statisticOf(name)
	}
	if spec.Step > 0 && (spec.End-spec.Start)/spec.Step >= maxPoints {
		return nil, fault.Wrong("step_seconds", fault.Say(fault.StepShort, maxPoints), in.Step)
	}
	answer, err := source.Chart(ctx, spec)
	if err != nil {
		return nil, err
	}
	out := &Chart{Start: in.Start.UTC(), StepSeconds: in.Step, Statistic: spec.Statistic, Read: []Read{}, Lines: []Line{}, Left: answer.Left}
	for _, r := range answer.Read {
		out.Read = append(out.Read, Read{r.Resolution / 1000, time.UnixMilli(r.From).UTC(), time.UnixMilli(r.To).UTC()})
		out.ResolutionSeconds = max(out.ResolutionSeconds, r.Resolution/1000)
	}
	for _, l := range answer.Lines {
		values := slices.Clone(l.Values)
		line := Line{Labels: l.Labels.Map(), Values: make([]*float64, len(values))}
		for i := range values {
			if !math.IsNaN(values[i]) && !math.IsInf(values[i], 0) {
				line.Values[i] = &values[i]
			}
		}
		out.Lines = append(out.Lines, line)
	}
	return out, nil
}

// statisticOf is what the catalogue says, where buckets have it.
func statisticOf(name string) string {
	m, ok := catalogue.Get(name)
	if !ok {
		return aggregate.Avg
	}
	switch m.Statistic {
	case catalogue.Max, catalogue.Min, catalogue.Sum, catalogue.Last, catalogue.Increase:
		return string(m.Statistic)
	}
	return aggregate.Avg
}
