package custom

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/storage/rollup"
)

// Samples of what is behind something are kept as they pass: to find and decode each pod's
// in the store, metric by metric and interval by interval, took a fifth of the server's
// CPU time and more than half of what it allocates.

// maxAsked is how many series of a metric are read from the store one by one: those of
// counters that moved, and those with more than one sample since the time in question, as
// what changes is sent at once. Of more, all are read together.
const maxAsked = 1000

// passed gives the value of each series that has one at a time with nearly no look into the
// store, where that is known: of all series that a cluster has of a metric.
func (m *Metrics) passed(ctx context.Context, matchers []*labels.Matcher, from, to int64) (_ []rollup.Value, known bool, _ error) {
	var metric, cluster string
	for _, one := range matchers {
		switch {
		case one.Type == labels.MatchEqual && one.Name == labels.MetricName && metric == "":
			metric = one.Value
		case one.Type == labels.MatchEqual && one.Name == clusterLabel && cluster == "":
			cluster = one.Value
		default:
			return nil, false, nil
		}
	}
	if m.opts.Newest == nil || metric == "" || cluster == "" {
		return nil, false, nil
	}
	m.values, known = m.opts.Newest(cluster, metric, from, to, m.values[:0])
	if !known {
		return nil, false, nil
	}
	asked := 0
	values := m.values[:0]
	for _, one := range m.values {
		if one.Asked {
			if asked++; asked > maxAsked {
				return nil, false, nil
			}
			has := false
			err := m.eachOf(ctx, one.Series, from, to, func(v float64) { one.V, has = v, !value.IsStaleNaN(v) })
			if err != nil {
				return nil, false, err
			}
			if !has {
				continue
			}
		}
		values = append(values, one)
	}
	return values, true, nil
}

// riseOf takes an expression apart that tells by how much a counter is above the least
// that it was in as long as a sample counts, as the catalogue's about restarts does:
//
//	COUNTER - min_over_time(COUNTER[5m])
func riseOf(e parser.Expr) (*parser.VectorSelector, bool) {
	diff, ok := e.(*parser.BinaryExpr)
	if !ok || diff.Op != parser.SUB {
		return nil, false
	}
	if how := diff.VectorMatching; how == nil || how.On || how.Card != parser.CardOneToOne || len(how.MatchingLabels) > 0 || how.FillValues.LHS != nil || how.FillValues.RHS != nil {
		return nil, false
	}
	now, ok := Bare(diff.LHS).(*parser.VectorSelector)
	if !ok || !ofNow(now) {
		return nil, false
	}
	least, ok := Bare(diff.RHS).(*parser.Call)
	if !ok || least.Func.Name != "min_over_time" {
		return nil, false
	}
	over, ok := least.Args[0].(*parser.MatrixSelector)
	if !ok || over.Range != lookback || over.RangeExpr != nil || over.VectorSelector.String() != now.String() {
		return nil, false
	}
	return now, true
}

// eachRise gives for each series that has a value at a time by how much that is above the
// least in the lookback; false when that is not known without the store. Nearly all have
// not moved.
func (m *Metrics) eachRise(ctx context.Context, matchers []*labels.Matcher, at time.Time, find func(labels.Labels) (int, bool), take func(of labels.Labels, i int, v float64)) (bool, error) {
	from, to := since(at), at.UnixMilli()
	values, known, err := m.passed(ctx, matchers, from, to)
	if !known || err != nil {
		return false, err
	}
	moved := 0
	for _, one := range values {
		if one.Moved >= from {
			moved++
		}
	}
	if moved > maxAsked {
		return false, nil
	}
	for _, one := range values {
		i, found := find(one.Series)
		if !found {
			continue
		}
		least := one.V
		if one.Moved >= from {
			err := m.eachOf(ctx, one.Series, from, to, func(v float64) {
				if !value.IsStaleNaN(v) && (v < least || math.IsNaN(least)) {
					least = v
				}
			})
			if err != nil {
				return false, err
			}
		}
		take(one.Series, i, one.V-least)
	}
	return true, nil
}

// eachOf gives the values of a series in a range, stale markers among them.
func (m *Metrics) eachOf(ctx context.Context, series labels.Labels, from, to int64, visit func(float64)) (err error) {
	var matchers []*labels.Matcher
	series.Range(func(l labels.Label) {
		matchers = append(matchers, labels.MustNewMatcher(labels.MatchEqual, l.Name, l.Value))
	})
	q, err := m.opts.Store.Querier(from, to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	one := func(ls labels.Labels) bool { return labels.Equal(ls, series) } // others have more labels
	return eachSeries(ctx, q, matchers, from, to, one, func(it chunkenc.Iterator) error {
		for typ := it.Seek(from); typ != chunkenc.ValNone && it.AtT() <= to; typ = it.Next() {
			if typ != chunkenc.ValFloat {
				return errHistogramInJoin
			}
			_, v := it.At()
			visit(v)
		}
		return it.Err()
	})
}

// Joined are the metrics of which the catalogue's expressions about what is behind
// something read the newest samples.
func Joined() []string {
	var names []string
	add := func(s *parser.VectorSelector) {
		if !slices.Contains(names, s.Name) {
			names = append(names, s.Name)
		}
	}
	for _, entry := range catalogue.All() {
		e, err := parser.NewParser(parser.Options{}).ParseExpr(entry.Expr)
		if err != nil {
			continue // most have none
		}
		b, ok := behindOf(e)
		if !ok {
			continue
		}
		add(b.members)
		if of, plain := b.of.(*parser.VectorSelector); plain && ofNow(of) {
			add(of)
		} else if of, ok := riseOf(b.of); ok {
			add(of)
		}
	}
	return names
}
