package custom

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/kahansum"
)

// behind is an expression that sums up what is behind something, as all of the
// catalogue's about Services are:
//
//	sum by (GROUP) (MEMBERS * on (KEY) group_left () max by (KEY) (OF))
//
// Where each of 150,000 pods is behind a Service, PromQL builds labels for both sides
// of each such join, and that for each metric anew. Here the members are read once for
// an interval, and of OF only the values. What comes out is the same.
type behind struct {
	by      []string
	members *parser.VectorSelector
	on      []string
	of      parser.Expr
}

// behindOf takes an expression apart; false when it is another one.
func behindOf(e parser.Expr) (behind, bool) {
	total, ok := Bare(e).(*parser.AggregateExpr)
	if !ok || total.Op != parser.SUM || total.Without {
		return behind{}, false
	}
	join, ok := Bare(total.Expr).(*parser.BinaryExpr)
	if !ok || join.Op != parser.MUL || join.VectorMatching == nil {
		return behind{}, false
	}
	how := join.VectorMatching
	if !how.On || how.Card != parser.CardManyToOne || len(how.Include) > 0 || how.FillValues.LHS != nil || how.FillValues.RHS != nil {
		return behind{}, false
	}
	members, ok := Bare(join.LHS).(*parser.VectorSelector)
	if !ok || !ofNow(members) || members.Name == "" {
		return behind{}, false
	}
	each, ok := Bare(join.RHS).(*parser.AggregateExpr)
	if !ok || each.Op != parser.MAX || each.Without || !slices.Equal(each.Grouping, how.MatchingLabels) {
		return behind{}, false
	}
	return behind{by: total.Grouping, members: members, on: how.MatchingLabels, of: Bare(each.Expr)}, true
}

// Bare takes parentheses off.
func Bare(e parser.Expr) parser.Expr {
	for {
		p, ok := e.(*parser.ParenExpr)
		if !ok {
			return e
		}
		e = p.Expr
	}
}

// ofNow says that a selector is about the time of the evaluation.
func ofNow(s *parser.VectorSelector) bool {
	return s.OriginalOffset == 0 && s.Timestamp == nil && s.StartOrEnd == 0 && s.OriginalOffsetExpr == nil && !s.Anchored && !s.Smoothed
}

// memberships are those that were read for one interval of a cluster, by what was
// asked.
type memberships map[string]*members

// members say in which groups something counts.
type members struct {
	keys   map[string]int // of what counts
	in     []shares       // by key
	groups []labels.Labels
}

// shares are the groups of a key: of nearly all one, which is spared a slice.
type shares struct {
	first share
	more  []share
}

type share struct {
	group int
	times float64 // the member's value, which is 1 of a pod behind a Service
}

// errHistogramInJoin leaves an expression to PromQL.
var errHistogramInJoin = errors.New("a histogram is among the values")

// sumBehind evaluates such an expression; false leaves it to PromQL.
func (m *Metrics) sumBehind(ctx context.Context, e parser.Expr, at time.Time, known memberships) (_ promql.Vector, ok bool, _ error) {
	if m.elsewhere {
		return nil, false, nil
	}
	b, ok := behindOf(e)
	if !ok {
		return nil, false, nil
	}
	vector, err := m.sum(ctx, b, at, known)
	if errors.Is(err, errHistogramInJoin) {
		return nil, false, nil
	}
	return vector, err == nil, err
}

// since is the oldest time of which a sample is a value at a time, as in PromQL.
func since(at time.Time) int64 { return at.Add(-lookback).UnixMilli() + 1 }

func (m *Metrics) sum(ctx context.Context, b behind, at time.Time, known memberships) (promql.Vector, error) {
	asked := b.asked()
	who := known[asked]
	if who == nil {
		var err error
		if who, err = m.readMembers(ctx, b, at); err != nil {
			return nil, err
		}
		known[asked] = who
	}
	if len(who.keys) == 0 {
		return nil, nil
	}
	values, there := make([]float64, len(who.keys)), make([]bool, len(who.keys))
	var key []byte
	find := func(ls labels.Labels) (int, bool) {
		key = keyOf(key[:0], ls, b.on)
		i, found := who.keys[string(key)]
		return i, found
	}
	greatest := func(_ labels.Labels, i int, v float64) {
		if !there[i] || values[i] < v || math.IsNaN(values[i]) {
			values[i], there[i] = v, true
		}
	}
	if of, plain := b.of.(*parser.VectorSelector); plain && ofNow(of) {
		if err := m.eachNow(ctx, of.LabelMatchers, at, find, greatest); err != nil {
			return nil, err
		}
		return who.total(values, there, at), nil
	}
	if of, ok := riseOf(b.of); ok {
		if done, err := m.eachRise(ctx, of.LabelMatchers, at, find, greatest); done || err != nil {
			return who.total(values, there, at), err
		}
	}
	vector, err := m.ask(ctx, b.of, at)
	if err != nil {
		return nil, err
	}
	for _, s := range vector {
		if s.H != nil {
			return nil, errHistogramInJoin
		}
		if i, found := find(s.Metric); found {
			greatest(s.Metric, i, s.F)
		}
	}
	return who.total(values, there, at), nil
}

// total sums up by group.
func (who *members) total(values []float64, there []bool, at time.Time) promql.Vector {
	sums, rest, some := make([]float64, len(who.groups)), make([]float64, len(who.groups)), make([]bool, len(who.groups))
	add := func(s share, v float64) {
		sums[s.group], rest[s.group] = kahansum.Inc(s.times*v, sums[s.group], rest[s.group])
		some[s.group] = true
	}
	for i := range who.in {
		if !there[i] {
			continue
		}
		add(who.in[i].first, values[i])
		for _, s := range who.in[i].more {
			add(s, values[i])
		}
	}
	vector := make(promql.Vector, 0, len(who.groups))
	for g, ls := range who.groups {
		if some[g] {
			vector = append(vector, promql.Sample{T: at.UnixMilli(), F: sums[g] + rest[g], Metric: ls})
		}
	}
	return vector
}

func (m *Metrics) readMembers(ctx context.Context, b behind, at time.Time) (*members, error) {
	asked := b.asked()
	who := &members{keys: make(map[string]int, m.many[asked]), in: make([]shares, 0, m.many[asked])}
	groups := map[string]int{}
	var key []byte
	every := func(labels.Labels) (int, bool) { return 0, true }
	err := m.eachNow(ctx, b.members.LabelMatchers, at, every, func(ls labels.Labels, _ int, times float64) {
		key = keyOf(key[:0], ls, b.by)
		g, known := groups[string(key)]
		if !known {
			g = len(who.groups)
			groups[string(key)] = g
			who.groups = append(who.groups, labels.NewBuilder(ls).Keep(b.by...).Labels())
		}
		key = keyOf(key[:0], ls, b.on)
		if i, known := who.keys[string(key)]; known {
			who.in[i].more = append(who.in[i].more, share{g, times})
			return
		}
		who.keys[string(key)] = len(who.in)
		who.in = append(who.in, shares{first: share{g, times}})
	})
	if m.many == nil {
		m.many = map[string]int{}
	}
	m.many[asked] = len(who.in)
	return who, err
}

// times are those of a range, at equal distances.
type times struct {
	from, step int64 // Unix milliseconds
	n          int
}

func (t times) at(i int) int64 { return t.from + int64(i)*t.step }

// overtime are members over a range.
type overtime struct {
	keys   map[string]int // of what counts
	groups []labels.Labels
	all    []membership
}

// membership says how often something counts in a group, at each time.
type membership struct {
	key, group int
	times      []float64
}

// maxValues bounds what is held of each side of a join over a range; of more, PromQL
// would hold more, too.
const maxValues = 4 << 20

// absent stands where a series has no value, as which no value can be.
var absent = math.Float64frombits(value.StaleNaN)

// sumBehindOver is sumBehind at each time of a range; false leaves it to PromQL.
func (m *Metrics) sumBehindOver(ctx context.Context, e parser.Expr, over times, known map[string]*overtime) (_ promql.Matrix, ok bool, err error) {
	if m.elsewhere {
		return nil, false, nil
	}
	b, ok := behindOf(e)
	if !ok {
		return nil, false, nil
	}
	of, plain := b.of.(*parser.VectorSelector)
	if !plain || !ofNow(of) {
		return nil, false, nil
	}
	q, err := m.opts.Store.Querier(since(time.UnixMilli(over.from)), over.at(over.n-1))
	if err != nil {
		return nil, false, err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	asked := b.asked()
	who := known[asked]
	if who == nil {
		if who, err = readOver(ctx, q, b, over); err == nil {
			known[asked] = who
		}
	}
	var matrix promql.Matrix
	if err == nil && len(who.keys) > 0 {
		matrix, err = who.total(ctx, q, b, of, over)
	}
	if errors.Is(err, errHistogramInJoin) {
		return nil, false, nil
	}
	return matrix, err == nil, err
}

// asked names the members that an expression needs, and how: others that are grouped or
// matched by other labels are of no use to it.
func (b behind) asked() string { return fmt.Sprintf("%s by %q on %q", b.members, b.by, b.on) }

func readOver(ctx context.Context, q storage.Querier, b behind, over times) (*overtime, error) {
	who := &overtime{keys: map[string]int{}}
	groups := map[string]int{}
	var buf []byte
	index := func(ls labels.Labels, names []string, known map[string]int) (i int, is bool) {
		buf = keyOf(buf[:0], ls, names)
		if i, is = known[string(buf)]; !is {
			i = len(known)
			known[string(buf)] = i
		}
		return i, is
	}
	err := eachOver(ctx, q, b.members.LabelMatchers, over, func(ls labels.Labels) func([]float64) error {
		return func(values []float64) error {
			if (len(who.all)+1)*over.n > maxValues {
				return promql.ErrTooManySamples("sum up what is behind something")
			}
			group, known := index(ls, b.by, groups)
			if !known {
				who.groups = append(who.groups, labels.NewBuilder(ls).Keep(b.by...).Labels())
			}
			key, _ := index(ls, b.on, who.keys)
			who.all = append(who.all, membership{key, group, slices.Clone(values)})
			return nil
		}
	})
	return who, err
}

// total reads the values of what counts, and sums them up by group.
func (who *overtime) total(ctx context.Context, q storage.Querier, b behind, of *parser.VectorSelector, over times) (promql.Matrix, error) {
	if len(who.keys)*over.n > maxValues {
		return nil, promql.ErrTooManySamples("sum up what is behind something")
	}
	greatest := make([]float64, len(who.keys)*over.n)
	for i := range greatest {
		greatest[i] = absent
	}
	var key []byte
	err := eachOver(ctx, q, of.LabelMatchers, over, func(ls labels.Labels) func([]float64) error {
		key = keyOf(key[:0], ls, b.on)
		i, found := who.keys[string(key)]
		if !found {
			return nil
		}
		return func(values []float64) error {
			have := greatest[i*over.n:][:over.n]
			for n, v := range values {
				if !value.IsStaleNaN(v) && (math.IsNaN(have[n]) || have[n] < v) {
					have[n] = v
				}
			}
			return nil
		}
	})
	if err != nil {
		return nil, err
	}
	sums, rest, some := make([]float64, len(who.groups)*over.n), make([]float64, len(who.groups)*over.n), make([]bool, len(who.groups)*over.n)
	for _, one := range who.all {
		values, at := greatest[one.key*over.n:][:over.n], one.group*over.n
		for n, times := range one.times {
			if value.IsStaleNaN(times) || value.IsStaleNaN(values[n]) {
				continue
			}
			sums[at+n], rest[at+n] = kahansum.Inc(times*values[n], sums[at+n], rest[at+n])
			some[at+n] = true
		}
	}
	matrix := make(promql.Matrix, 0, len(who.groups))
	for g, ls := range who.groups {
		series := promql.Series{Metric: ls}
		for n := range over.n {
			if i := g*over.n + n; some[i] {
				series.Floats = append(series.Floats, promql.FPoint{T: over.at(n), F: sums[i] + rest[i]})
			}
		}
		if len(series.Floats) > 0 {
			matrix = append(matrix, series)
		}
	}
	return matrix, nil
}

// eachOver gives the values of each series that has some, at the times of a range:
// absent where there is none. They are the visitor's until it returns. Of series for
// which visit returns nil no sample is read.
func eachOver(ctx context.Context, q storage.Querier, matchers []*labels.Matcher, over times, visit func(labels.Labels) func([]float64) error) error {
	from, to := since(time.UnixMilli(over.from)), over.at(over.n-1)
	values := make([]float64, over.n)
	var take func([]float64) error
	visited := func(of labels.Labels) bool { take = visit(of); return take != nil }
	return eachSeries(ctx, q, matchers, from, to, visited, func(it chunkenc.Iterator) error {
		last, v, next, some := int64(math.MinInt64), absent, 0, false
		until := func(t int64) { // the times before t have the value that was last
			for ; next < over.n && over.at(next) < t; next++ {
				values[next] = absent
				if last >= since(time.UnixMilli(over.at(next))) && !value.IsStaleNaN(v) {
					values[next], some = v, true
				}
			}
		}
		for typ := it.Seek(from); typ != chunkenc.ValNone && it.AtT() <= to; typ = it.Next() {
			if typ != chunkenc.ValFloat {
				return errHistogramInJoin
			}
			t, now := it.At()
			until(t)
			last, v = t, now
		}
		if err := it.Err(); err != nil {
			return err
		}
		if until(math.MaxInt64); !some {
			return nil
		}
		return take(values)
	})
}

// eachSeries walks over the series of a range of time and reads those that are visited.
// What is read may begin before the range and end after it: to have chunks cut costs half
// as much as all else.
func eachSeries(ctx context.Context, q storage.Querier, matchers []*labels.Matcher, from, to int64, visited func(labels.Labels) bool, read func(chunkenc.Iterator) error) error {
	set := q.Select(ctx, false, &storage.SelectHints{Start: from, End: to, DisableTrimming: true}, matchers...)
	var it chunkenc.Iterator
	for n := 0; set.Next(); n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		s := set.At()
		if !visited(s.Labels()) {
			continue
		}
		it = s.Iterator(it)
		if err := read(it); err != nil {
			return err
		}
	}
	return set.Err()
}

// keyOf appends the values of labels to a buffer, such that others give another key.
func keyOf(buf []byte, ls labels.Labels, names []string) []byte {
	for _, name := range names {
		buf = append(buf, ls.Get(name)...)
		buf = append(buf, 0xff) // in no valid UTF-8
	}
	return buf
}

// eachNow gives the value of each series that has one at a time, with what find gives of
// it. Of those that are not found no sample is read.
func (m *Metrics) eachNow(ctx context.Context, matchers []*labels.Matcher, at time.Time, find func(labels.Labels) (int, bool), take func(of labels.Labels, i int, v float64)) (err error) {
	from, to := since(at), at.UnixMilli()
	values, known, err := m.passed(ctx, matchers, from, to)
	if err != nil {
		return err
	}
	if known {
		for n, one := range values {
			if n%1024 == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			if i, found := find(one.Series); found {
				take(one.Series, i, one.V)
			}
		}
		return nil
	}
	q, err := m.opts.Store.Querier(from, to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	var of labels.Labels
	var i int
	visited := func(ls labels.Labels) (found bool) {
		of = ls
		i, found = find(ls)
		return found
	}
	return eachSeries(ctx, q, matchers, from, to, visited, func(it chunkenc.Iterator) error {
		newest, last := chunkenc.ValNone, 0.0
		for typ := it.Seek(from); typ != chunkenc.ValNone && it.AtT() <= to; typ = it.Next() {
			if newest = typ; typ == chunkenc.ValFloat {
				_, last = it.At()
			}
		}
		if err := it.Err(); err != nil {
			return err
		}
		switch newest {
		case chunkenc.ValFloat:
			if !value.IsStaleNaN(last) {
				take(of, i, last)
			}
		case chunkenc.ValHistogram, chunkenc.ValFloatHistogram:
			return errHistogramInJoin
		}
		return nil
	})
}
