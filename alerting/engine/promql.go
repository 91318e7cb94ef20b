package engine

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"

	"github.com/crowsnest-dev/crowsnest/alerting/evaluate"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

const (
	// maxExprWindows bounds how far back an expression is evaluated.
	maxExprWindows = 200
	// maxExprSeries of one expression on one cluster.
	maxExprSeries = 10_000
	exprTimeout   = 10 * time.Second
	exprSamples   = 10_000_000
)

// newPromQL makes the engine that expressions are evaluated by.
func newPromQL(log *slog.Logger) *promql.Engine {
	return promql.NewEngine(promql.EngineOpts{
		Logger: log, MaxSamples: exprSamples, Timeout: exprTimeout, EnableAtModifier: true, EnableNegativeOffset: true,
		NoStepSubqueryIntervalFn: func(int64) int64 { return time.Minute.Milliseconds() },
		Parser:                   parser.NewParser(parser.Options{}),
	})
}

// exprKey is an expression as several policies may share it.
type exprKey struct {
	expr   string
	period time.Duration
	exists bool // a series is bad while it exists, good when it is absent
}

// exprResult are the values of an expression at the ends of its periods.
type exprResult struct {
	exprKey
	ends   []time.Time // the newest first
	absent []float64   // what a series that is absent stands for at each end; NaN: missing
	values map[subject][]float64
	err    error // it could not be evaluated; nothing is known then

	grid *exprGrid // of a backtest: everything is taken from there
	at   time.Time
}

func (c condition) exprKey() exprKey { return exprKey{c.Expr, c.Period.D(), c.Op == ""} }

// windows of a subject, of which the newest n are asked for.
func (r *exprResult) windows(sub subject, n int) []evaluate.Window {
	if r.grid != nil {
		return r.grid.windows(r.at, r.period, sub, n)
	}
	values, ok := r.values[sub]
	if !ok {
		values = r.absent
	}
	out := make([]evaluate.Window, min(n, len(r.ends)))
	for i := range out {
		out[i] = evaluate.Window{End: r.ends[i], Value: values[i], Missing: math.IsNaN(values[i])}
	}
	return out
}

// samples of a subject, in order of time.
func (r *exprResult) samples(sub subject) []evaluate.Sample {
	if r.grid != nil {
		return r.grid.samples(r.at, sub)
	}
	var out []evaluate.Sample
	values := r.values[sub]
	for i := len(values) - 1; i >= 0; i-- {
		if !math.IsNaN(values[i]) {
			out = append(out, evaluate.Sample{T: r.ends[i].UnixMilli(), V: values[i]})
		}
	}
	return out
}

// readExpr evaluates an expression on the cluster's series alone. Where the
// cluster's data were not complete, an absent series says nothing.
func (rd reader) readExpr(ctx context.Context, at time.Time, k exprKey, n int) (*exprResult, error) {
	out := &exprResult{exprKey: k, ends: make([]time.Time, n), absent: make([]float64, n), values: map[subject][]float64{}}
	index := make(map[int64]int, n)
	for i := range n {
		out.ends[i] = at.Add(-time.Duration(i) * k.period)
		out.absent[i] = math.NaN()
		index[out.ends[i].UnixMilli()] = i
	}
	start := out.ends[n-1]
	if k.exists {
		q, err := rd.queryable.Querier(start.UnixMilli(), at.UnixMilli())
		if err != nil {
			return nil, fmt.Errorf("open querier: %w", err)
		}
		err = rd.coverage(ctx, q, start.UnixMilli(), at.UnixMilli(), func(t int64, v float64) {
			if i, ok := index[t]; ok && v >= minCoverage {
				out.absent[i] = 0
			}
		})
		_ = q.Close()
		if err != nil {
			return nil, err
		}
	}
	query, err := rd.promql.NewRangeQuery(ctx, clusterQueryable{rd.queryable, rd.cluster}, nil, k.expr, start, at, k.period)
	if err != nil {
		return nil, fmt.Errorf("expression %s: %w", shorten(k.expr), err)
	}
	defer query.Close()
	res := query.Exec(ctx)
	if res.Err != nil {
		return nil, fmt.Errorf("expression %s: %w", shorten(k.expr), res.Err)
	}
	matrix, err := res.Matrix()
	if err != nil {
		return nil, fmt.Errorf("expression %s: %w", shorten(k.expr), err)
	}
	if len(matrix) > maxExprSeries {
		return nil, fmt.Errorf("expression %s gives %d series, at most %d are allowed: %w", shorten(k.expr), len(matrix), maxExprSeries, fault.ErrLimited)
	}
	for _, series := range matrix {
		values := make([]float64, n)
		copy(values, out.absent)
		for _, p := range series.Floats {
			if i, ok := index[p.T]; ok {
				if values[i] = p.F; k.exists {
					values[i] = 1
				}
			}
		}
		out.values[exprSubject(series.Metric)] = values
	}
	return out, nil
}

// narrowest lists the levels that labels are tried for, the narrowest first.
var narrowest = []catalogue.Level{
	catalogue.Container, catalogue.Pod, catalogue.Volume, catalogue.Service, catalogue.Workload, catalogue.Node, catalogue.Component, catalogue.Namespace,
}

// exprSubject finds the object that a result's labels name; what they say
// beyond it are dimensions.
func exprSubject(l labels.Labels) subject {
	sub := subject{level: catalogue.Cluster}
	for _, level := range narrowest {
		all := true
		for _, name := range level.ObjectLabels()[1:] {
			all = all && l.Get(name) != ""
		}
		if all {
			sub.level, sub.object = level, objectOf(level, l.Get)
			break
		}
	}
	skip := map[string]bool{labels.MetricName: true, "cluster": true}
	for _, name := range sub.level.SeriesLabels() {
		skip[name] = true
	}
	var dims []string
	l.Range(func(l labels.Label) {
		if !skip[l.Name] {
			dims = append(dims, l.Name+"="+l.Value)
		}
	})
	sub.dimensions = strings.Join(dims, dimensionSeparator)
	return sub
}

// shorten an expression for people.
func shorten(expr string) string {
	expr = strings.Join(strings.Fields(expr), " ")
	if r := []rune(expr); len(r) > 80 {
		return string(r[:79]) + "…"
	}
	return expr
}

// clusterQueryable shows one cluster's series only.
type clusterQueryable struct {
	storage.Queryable
	cluster string
}

func (c clusterQueryable) Querier(mint, maxt int64) (storage.Querier, error) {
	q, err := c.Queryable.Querier(mint, maxt)
	if err != nil {
		return nil, err
	}
	return clusterQuerier{q, labels.MustNewMatcher(labels.MatchEqual, "cluster", c.cluster)}, nil
}

// Restrict names the cluster in a selection, for an engine that takes whole
// expressions.
func (c clusterQueryable) Restrict(_ context.Context, ms []*labels.Matcher) ([]*labels.Matcher, error) {
	own := make([]*labels.Matcher, 0, len(ms)+1)
	return append(append(own, ms...), labels.MustNewMatcher(labels.MatchEqual, "cluster", c.cluster)), nil
}

// Unwrap gives the Queryable inside.
func (c clusterQueryable) Unwrap() storage.Queryable { return c.Queryable }

type clusterQuerier struct {
	storage.Querier
	matcher *labels.Matcher
}

func (c clusterQuerier) Select(ctx context.Context, sorted bool, h *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	own := make([]*labels.Matcher, 0, len(ms)+1)
	return c.Querier.Select(ctx, sorted, h, append(append(own, ms...), c.matcher)...)
}
