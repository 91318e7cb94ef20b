package charts

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"

	"github.com/crowsnest-dev/crowsnest/storage/aggregate"
)

// PromQL reads charts by queries, for samples that another engine keeps. It reads
// samples only.
type PromQL struct {
	Engine    promql.QueryEngine
	Queryable storage.Queryable
}

var _ Source = PromQL{}

// Chart evaluates the same by PromQL.
func (p PromQL) Chart(ctx context.Context, spec aggregate.Spec) (*aggregate.Answer, error) {
	if _, err := aggregate.NewChart(spec); err != nil { // it refuses what makes no sense
		return nil, err
	}
	q, err := p.Engine.NewRangeQuery(ctx, p.Queryable, nil, expression(spec), time.UnixMilli(spec.Start), time.UnixMilli(spec.End), time.Duration(spec.Step)*time.Millisecond)
	if err != nil {
		return nil, err
	}
	defer q.Close()
	res := q.Exec(ctx)
	m, err := res.Matrix()
	if err != nil {
		return nil, fmt.Errorf("chart: %w", err)
	}
	out := &aggregate.Answer{Read: []aggregate.Read{{From: spec.Start - spec.Step, To: spec.End}}}
	for _, s := range m {
		line := aggregate.Line{Labels: s.Metric, Values: make([]float64, (spec.End-spec.Start)/spec.Step+1)}
		for i := range line.Values {
			line.Values[i] = math.NaN()
		}
		for _, f := range s.Floats {
			if i := (f.T - spec.Start) / spec.Step; i >= 0 && i < int64(len(line.Values)) {
				line.Values[i] = f.F
			}
		}
		out.Lines = append(out.Lines, line)
	}
	slices.SortFunc(out.Lines, func(a, b aggregate.Line) int { return labels.Compare(a.Labels, b.Labels) })
	out.Highest(spec.Limit)
	return out, nil
}

func expression(spec aggregate.Spec) string {
	var name string
	var rest []string
	for _, m := range spec.Matchers {
		if m.Name == labels.MetricName && m.Type == labels.MatchEqual {
			name = m.Value
			continue
		}
		rest = append(rest, m.String())
	}
	series := fmt.Sprintf("{__name__=%q,%s}", name, strings.Join(rest, ","))
	step := fmt.Sprintf("%dms", spec.Step)
	expr := fmt.Sprintf("%s_over_time(%s[%s])", spec.Statistic, series, step)
	if spec.Statistic == aggregate.Increase {
		base := max(spec.Step, (5 * time.Minute).Milliseconds())
		expr = fmt.Sprintf("clamp_min(last_over_time(%s[%s]) - last_over_time(%s[%dms] offset %s), 0)", series, step, series, base, step)
	}
	by := make([]string, len(spec.By))
	for i, label := range spec.By {
		by[i] = fmt.Sprintf("%q", label)
	}
	across := spec.Across
	if across == "" {
		across = aggregate.Max
	}
	return fmt.Sprintf("%s by (%s) (%s)", across, strings.Join(by, ","), expr)
}
