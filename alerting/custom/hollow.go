package custom

import (
	"context"
	"time"

	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
)

// lookback is PromQL's: how old the newest sample of a value may be.
const lookback = 5 * time.Minute

// hollow says that an expression surely has no value: something that it joins has
// no series in the cluster. PromQL reads both sides of a join, of which the other may
// be a series of each pod, before it finds that out. False may mean either.
func hollow(ctx context.Context, q storage.Querier, hints *storage.SelectHints, e parser.Expr) (bool, error) {
	switch e := e.(type) {
	case *parser.ParenExpr:
		return hollow(ctx, q, hints, e.Expr)
	case *parser.UnaryExpr:
		return hollow(ctx, q, hints, e.Expr)
	case *parser.AggregateExpr:
		return hollow(ctx, q, hints, e.Expr)
	case *parser.BinaryExpr:
		if m := e.VectorMatching; m != nil && (m.FillValues.LHS != nil || m.FillValues.RHS != nil) {
			return false, nil // what is not there has a value
		}
		left, err := hollow(ctx, q, hints, e.LHS)
		if err != nil || left && e.Op != parser.LOR || !left && (e.Op == parser.LOR || e.Op == parser.LUNLESS) {
			return left, err
		}
		// Of "or", the right side decides now; of a join, either does.
		return hollow(ctx, q, hints, e.RHS)
	case *parser.VectorSelector:
		if e.OriginalOffset != 0 || e.Timestamp != nil || e.StartOrEnd != 0 || e.OriginalOffsetExpr != nil {
			return false, nil // of another time
		}
		set := q.Select(ctx, false, hints, e.LabelMatchers...)
		return !set.Next() && set.Err() == nil, set.Err()
	}
	return false, nil
}

// hollow asks the store about a time.
func (m *Metrics) hollow(ctx context.Context, e parser.Expr, from, to time.Time) (bool, error) {
	// Only which series there are is asked for, and no chunk is read.
	hints := &storage.SelectHints{Start: from.Add(-lookback).UnixMilli(), End: to.UnixMilli(), Limit: 1, Func: "series"}
	q, err := m.opts.Store.Querier(hints.Start, hints.End)
	if err != nil {
		return false, err
	}
	defer q.Close()
	return hollow(ctx, q, hints, e)
}
