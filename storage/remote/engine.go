package remote

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/prometheus/prometheus/util/stats"
)

// Restricting is a Queryable around another that adds nothing but a say in which
// selections may be made, and by which matchers. So a whole query can be left to
// the engine.
type Restricting interface {
	storage.Queryable
	// Restrict gives the matchers that a selection is made by instead; an error ends
	// the query.
	Restrict(ctx context.Context, ms []*labels.Matcher) ([]*labels.Matcher, error)
	// Unwrap gives the Queryable inside.
	Unwrap() storage.Queryable
}

// way is what stands between a query and the store, the outermost first.
type way []Restricting

func (p way) restrict(ctx context.Context, ms []*labels.Matcher) (_ []*labels.Matcher, err error) {
	for _, r := range p {
		if ms, err = r.Restrict(ctx, ms); err != nil {
			return nil, err
		}
	}
	return ms, nil
}

// leads finds the way from a Queryable to the store; false when something else
// stands between, which sees samples.
func (s *Store) leads(q storage.Queryable) (way, bool) {
	var out way
	for {
		if q == storage.Queryable(s) {
			return out, true
		}
		r, ok := q.(Restricting)
		if !ok {
			return nil, false
		}
		out, q = append(out, r), r.Unwrap()
	}
}

// Engine leaves PromQL to the remote engine: it sees stale markers, which raw
// samples lack, and moves results instead of samples. A query whose way to the
// store leads through anything but Restricting is evaluated here.
type Engine struct {
	store  *Store
	local  promql.QueryEngine
	parser parser.Parser
}

var _ promql.QueryEngine = (*Engine)(nil)

// Engine makes one.
func (s *Store) Engine(local promql.QueryEngine) *Engine {
	return &Engine{s, local, parser.NewParser(parser.Options{})}
}

// NewInstantQuery prepares an evaluation at one time.
func (e *Engine) NewInstantQuery(ctx context.Context, q storage.Queryable, opts promql.QueryOpts, qs string, ts time.Time) (promql.Query, error) {
	r, ok := e.store.leads(q)
	if !ok {
		return e.local.NewInstantQuery(ctx, q, opts, qs, ts)
	}
	return e.prepare(r, qs, &parser.EvalStmt{Start: ts, End: ts})
}

// NewRangeQuery prepares an evaluation at several times.
func (e *Engine) NewRangeQuery(ctx context.Context, q storage.Queryable, opts promql.QueryOpts, qs string, start, end time.Time, interval time.Duration) (promql.Query, error) {
	r, ok := e.store.leads(q)
	if !ok {
		return e.local.NewRangeQuery(ctx, q, opts, qs, start, end, interval)
	}
	out, err := e.prepare(r, qs, &parser.EvalStmt{Start: start, End: end, Interval: interval})
	if err != nil {
		return nil, err
	}
	if t := out.stmt.Expr.Type(); t != parser.ValueTypeVector && t != parser.ValueTypeScalar {
		return nil, fmt.Errorf("invalid expression type %q for range query, must be Scalar or instant Vector", parser.DocumentedType(t))
	}
	return out, nil
}

func (e *Engine) prepare(through way, qs string, stmt *parser.EvalStmt) (*query, error) {
	expr, err := e.parser.ParseExpr(qs)
	if err != nil {
		return nil, err
	}
	stmt.Expr = expr
	return &query{engine: e, way: through, text: qs, stmt: stmt, timers: stats.NewQueryTimers()}, nil
}

// query is one that is left to the remote engine.
type query struct {
	engine *Engine
	way    way
	text   string
	stmt   *parser.EvalStmt
	timers *stats.QueryTimers
	cancel context.CancelFunc
}

func (q *query) Statement() parser.Statement { return q.stmt }
func (q *query) String() string              { return q.text }
func (q *query) Close()                      {}
func (q *query) Stats() *stats.Statistics {
	return &stats.Statistics{Timers: q.timers, Samples: stats.NewQuerySamples(false)}
}

func (q *query) Cancel() {
	if q.cancel != nil {
		q.cancel()
	}
}

// Exec asks the remote engine.
func (q *query) Exec(ctx context.Context) *promql.Result {
	s := q.engine.store
	ctx, q.cancel = context.WithTimeout(ctx, s.opts.QueryTimeout)
	defer q.cancel()
	expr, err := q.restricted(ctx)
	if err != nil {
		return &promql.Result{Err: promql.ErrStorage{Err: err}}
	}
	timer, _ := q.timers.GetSpanTimer(ctx, stats.ExecTotalTime)
	defer timer.Finish()
	var v model.Value
	var warnings v1.Warnings
	var infos v1.Infos
	if q.stmt.Interval == 0 {
		v, warnings, infos, err = s.query.Query(ctx, expr, q.stmt.Start)
	} else {
		v, warnings, infos, err = s.query.QueryRange(ctx, expr, v1.Range{Start: q.stmt.Start, End: q.stmt.End, Step: q.stmt.Interval})
	}
	switch {
	case errors.Is(err, context.Canceled):
		return &promql.Result{Err: promql.ErrQueryCanceled("query execution")}
	case errors.Is(err, context.DeadlineExceeded):
		return &promql.Result{Err: promql.ErrQueryTimeout("query execution")}
	}
	if err = s.asked(err); err != nil {
		return &promql.Result{Err: promql.ErrStorage{Err: err}}
	}
	value, left := valueOf(v, q.stmt.Start)
	notes := noted(warnings, infos)
	if left > 0 {
		s.metrics.histograms.Add(float64(left))
		notes.Add(fmt.Errorf("%w: %d native histograms of the remote engine are left out", annotations.PromQLInfo, left))
	}
	return &promql.Result{Value: value, Warnings: notes}
}

// restricted is the expression with the matchers that its selections are to have.
func (q *query) restricted(ctx context.Context) (string, error) {
	// The caller's tree stays as it was written.
	expr, err := q.engine.parser.ParseExpr(q.text)
	if err != nil {
		return "", err
	}
	var failed error
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		v, ok := n.(*parser.VectorSelector)
		if !ok || failed != nil {
			return nil
		}
		if v.LabelMatchers, err = q.way.restrict(ctx, v.LabelMatchers); err != nil {
			failed = err
		}
		return nil
	})
	if failed != nil {
		return "", failed
	}
	return expr.String(), nil
}

// valueOf gives a result in the engine's own types, and how many histograms it
// lacks.
func valueOf(v model.Value, at time.Time) (out parser.Value, histograms int) {
	switch v := v.(type) {
	case *model.Scalar:
		return promql.Scalar{T: at.UnixMilli(), V: float64(v.Value)}, 0
	case *model.String:
		return promql.String{T: at.UnixMilli(), V: v.Value}, 0
	case model.Vector:
		list := make(promql.Vector, 0, len(v))
		for _, p := range v {
			if p.Histogram != nil {
				histograms++
				continue
			}
			list = append(list, promql.Sample{Metric: labelsOf(p.Metric), T: int64(p.Timestamp), F: float64(p.Value)})
		}
		return list, histograms
	case model.Matrix:
		list := make(promql.Matrix, 0, len(v))
		for _, stream := range v {
			one := promql.Series{Metric: labelsOf(stream.Metric), Floats: make([]promql.FPoint, len(stream.Values))}
			for i, p := range stream.Values {
				one.Floats[i] = promql.FPoint{T: int64(p.Timestamp), F: float64(p.Value)}
			}
			if histograms += len(stream.Histograms); len(one.Floats) > 0 {
				list = append(list, one)
			}
		}
		return list, histograms
	}
	return promql.Scalar{T: at.UnixMilli(), V: math.NaN()}, 0
}
