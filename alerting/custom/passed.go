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

// maxMoved is how many series of counters that moved are read from the store one by one.
const maxMoved = 1000

// passed gives the value of each series that has one at a time without the store, where
// that is known: of all series that a cluster has of a metric.
func (m *Metrics) passed(matchers []*labels.Matcher, from, to int64) ([]rollup.Value, bool) {
	var metric, cluster string
	for _, one := range matchers {
		switch {
		case one.Type == labels.MatchEqual && one.Name == labels.MetricName && metric == "":
			metric = one.Value
		case one.Type == labels.MatchEqual && one.Name == clusterLabel && cluster == "":
			cluster = one.Value
		default:
			return nil, false
		}
	}
	if m.opts.Newest == nil || metric == "" || cluster == "" {
		return nil, false
	}
	values, known := m.opts.Newest(cluster, metric, from, to, m.values[:0])
	m.values = values
	return values, known
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
func (m *Metrics) eachRise(ctx context.Context, matchers []*labels.Matcher, at time.Time, visit func(labels.Labels) func(float64)) (bool, error) {
	from, to := since(at), at.UnixMilli()
	values, known := m.passed(matchers, from, to)
	if !known {
		return false, nil
	}
	moved := 0
	for _, one := range values {
		if one.Moved >= from {
			moved++
		}
	}
	if moved > maxMoved {
		return false, nil
	}
	for _, one := range values {
		take := visit(one.Series)
		if take == nil {
			continue
		}
		least := one.V
		if one.Moved >= from {
			var err error
			if least, err = m.least(ctx, one, from, to); err != nil {
				return false, err
			}
		}
		take(one.V - least)
	}
	return true, nil
}

// least is the least value of a series in a range.
func (m *Metrics) least(ctx context.Context, of rollup.Value, from, to int64) (least float64, err error) {
	var matchers []*labels.Matcher
	of.Series.Range(func(l labels.Label) {
		matchers = append(matchers, labels.MustNewMatcher(labels.MatchEqual, l.Name, l.Value))
	})
	q, err := m.opts.Store.Querier(from, to)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	least = of.V
	one := func(ls labels.Labels) bool { return labels.Equal(ls, of.Series) } // others have more labels
	return least, eachSeries(ctx, q, matchers, from, to, one, func(it chunkenc.Iterator) error {
		for typ := it.Seek(from); typ != chunkenc.ValNone && it.AtT() <= to; typ = it.Next() {
			if typ != chunkenc.ValFloat {
				return errHistogramInJoin
			}
			if _, v := it.At(); !value.IsStaleNaN(v) && (v < least || math.IsNaN(least)) {
				least = v
			}
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
