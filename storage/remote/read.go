package remote

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// Querier reads samples between two times, both included, Unix milliseconds.
// Stale markers are not among them: no query API gives any.
func (s *Store) Querier(mint, maxt int64) (storage.Querier, error) {
	return &querier{s: s, mint: mint, maxt: maxt}, nil
}

// ChunkQuerier is Querier for encoded chunks.
func (s *Store) ChunkQuerier(mint, maxt int64) (storage.ChunkQuerier, error) {
	return &chunkQuerier{querier{s: s, mint: mint, maxt: maxt}}, nil
}

// ExemplarQuerier reads exemplars, where the engine has any.
func (s *Store) ExemplarQuerier(ctx context.Context) (storage.ExemplarQuerier, error) {
	return &exemplarQuerier{s, ctx}, nil
}

// sample is one of a series.
type sample struct {
	t int64
	v float64
}

// series is one that was read.
type series struct {
	lset    labels.Labels
	samples []sample
}

type querier struct {
	s          *Store
	mint, maxt int64
}

func (q *querier) Close() error { return nil }

// Select asks for the samples as they were written, by a range selector; for the series alone
// where no samples are wanted.
func (q *querier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	mint, maxt := bounds(q.mint, q.maxt)
	if hints != nil && hints.Start <= hints.End {
		mint, maxt = max(mint, hints.Start), min(maxt, hints.End)
	}
	if mint > maxt {
		return storage.EmptySeriesSet()
	}
	var list []series
	var warnings annotations.Annotations
	var err error
	if hints != nil && hints.Func == "series" { // as Prometheus says it of a look-up without samples
		list, warnings, err = q.s.list(ctx, mint, maxt, ms, hints.Limit)
	} else {
		list, warnings, err = q.s.read(ctx, mint, maxt, ms)
	}
	if err != nil {
		return storage.ErrSeriesSet(err)
	}
	list = merge(list, q.s.recent.selected(mint, maxt, ms))
	if sorted {
		slices.SortFunc(list, func(a, b series) int { return labels.Compare(a.lset, b.lset) })
	}
	return &seriesSet{list: list, at: -1, warnings: warnings}
}

// read asks the engine for raw samples.
func (s *Store) read(ctx context.Context, mint, maxt int64, ms []*labels.Matcher) ([]series, annotations.Annotations, error) {
	// The range is open to the left, and 1 ms wide at least.
	expr := fmt.Sprintf("%s[%dms]", selectorText(ms), maxt-mint+1)
	ctx, cancel := context.WithTimeout(ctx, s.opts.QueryTimeout)
	defer cancel()
	v, warnings, infos, err := s.query.Query(ctx, expr, time.UnixMilli(maxt))
	if err = s.asked(err); err != nil {
		return nil, nil, err
	}
	matrix, ok := v.(model.Matrix)
	if !ok {
		return nil, nil, fmt.Errorf("read from the remote engine: the answer to a range selector is a %s: %w", v.Type(), fault.ErrUnavailable)
	}
	out := make([]series, 0, len(matrix))
	for _, stream := range matrix {
		one := series{lset: labelsOf(stream.Metric), samples: make([]sample, 0, len(stream.Values))}
		for _, p := range stream.Values {
			if t := int64(p.Timestamp); t >= mint && t <= maxt {
				one.samples = append(one.samples, sample{t, float64(p.Value)})
			}
		}
		if n := len(stream.Histograms); n > 0 {
			s.metrics.histograms.Add(float64(n))
		}
		if len(one.samples) > 0 {
			out = append(out, one)
		}
	}
	return out, noted(warnings, infos), nil
}

// list asks the engine which series there are. It may give some that have no sample within these
// times, as it goes by whole blocks or days.
func (s *Store) list(ctx context.Context, mint, maxt int64, ms []*labels.Matcher, most int) ([]series, annotations.Annotations, error) {
	ctx, cancel := context.WithTimeout(ctx, s.opts.QueryTimeout)
	defer cancel()
	sets, warnings, infos, err := s.query.Series(ctx, selectors(ms), time.UnixMilli(mint), time.UnixMilli(maxt), limit(&storage.LabelHints{Limit: most})...)
	if err = s.asked(err); err != nil {
		return nil, nil, err
	}
	out := make([]series, len(sets))
	for i, set := range sets {
		out[i].lset = labelsOf(model.Metric(set))
	}
	return out, noted(warnings, infos), nil
}

// asked counts a question and gives its error the kind that callers act on.
func (s *Store) asked(err error) error {
	var said *v1.Error
	switch {
	case err == nil:
		s.metrics.queries.WithLabelValues(resultOK).Inc()
		return nil
	case errors.As(err, &said) && (said.Type == v1.ErrBadData || said.Type == v1.ErrExec):
		s.metrics.queries.WithLabelValues(resultRefused).Inc()
		return fmt.Errorf("the remote engine refused the query: %w: %w", fault.ErrInvalid, err)
	case errors.Is(err, context.Canceled), errors.Is(err, fault.ErrLimited):
		s.metrics.queries.WithLabelValues(resultRefused).Inc()
		return err
	}
	s.metrics.queries.WithLabelValues(resultUnavailable).Inc()
	return fmt.Errorf("ask the remote engine: %w: %w", fault.ErrUnavailable, err)
}

func noted(warnings v1.Warnings, infos v1.Infos) annotations.Annotations {
	var out annotations.Annotations
	for _, text := range append(slices.Clone(warnings), infos...) {
		out.Add(errors.New(text))
	}
	return out
}

// selectorText is a vector selector with all matchers between its braces.
func selectorText(ms []*labels.Matcher) string {
	parts := make([]string, len(ms))
	for i, m := range ms {
		parts[i] = m.String()
	}
	return "{" + strings.Join(parts, ",") + "}"
}

func labelsOf(m model.Metric) labels.Labels {
	b := labels.NewScratchBuilder(len(m))
	for name, v := range m {
		b.Add(string(name), string(v))
	}
	b.Sort()
	return b.Labels()
}

// merge adds what the engine may not show yet.
func merge(have, fresh []series) []series {
	if len(fresh) == 0 {
		return have
	}
	index := make(map[uint64][]int, len(have))
	for i := range have {
		h := have[i].lset.Hash()
		index[h] = append(index[h], i)
	}
	for _, f := range fresh {
		to := -1
		for _, i := range index[f.lset.Hash()] {
			if labels.Equal(have[i].lset, f.lset) {
				to = i
			}
		}
		if to < 0 {
			have = append(have, f)
			continue
		}
		have[to].samples = mergeSamples(have[to].samples, f.samples)
	}
	return have
}

// mergeSamples joins two lists in order of time; of one time the first list's
// stays.
func mergeSamples(a, b []sample) []sample {
	out := make([]sample, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0].t < b[0].t:
			out, a = append(out, a[0]), a[1:]
		case a[0].t > b[0].t:
			out, b = append(out, b[0]), b[1:]
		default:
			out, a, b = append(out, a[0]), a[1:], b[1:]
		}
	}
	return append(append(out, a...), b...)
}

// bounds are those of a querier; of one that asks for everything they are no times that an
// engine understands.
func bounds(mint, maxt int64) (from, to int64) {
	const first, last = 0, int64(4102444800000) // 1970 and 2100
	return max(mint, first), min(maxt, last)
}

func (q *querier) times() (from, to time.Time) {
	mint, maxt := bounds(q.mint, q.maxt)
	return time.UnixMilli(mint), time.UnixMilli(maxt)
}

func (q *querier) LabelValues(ctx context.Context, name string, hints *storage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	ctx, cancel := context.WithTimeout(ctx, q.s.opts.QueryTimeout)
	defer cancel()
	from, to := q.times()
	list, warnings, infos, err := q.s.query.LabelValues(ctx, name, selectors(ms), from, to, limit(hints)...)
	if err = q.s.asked(err); err != nil {
		return nil, nil, err
	}
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = string(v)
	}
	slices.Sort(out)
	return out, noted(warnings, infos), nil
}

func (q *querier) LabelNames(ctx context.Context, hints *storage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	ctx, cancel := context.WithTimeout(ctx, q.s.opts.QueryTimeout)
	defer cancel()
	from, to := q.times()
	list, warnings, infos, err := q.s.query.LabelNames(ctx, selectors(ms), from, to, limit(hints)...)
	if err = q.s.asked(err); err != nil {
		return nil, nil, err
	}
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = string(v)
	}
	slices.Sort(out)
	return out, noted(warnings, infos), nil
}

func selectors(ms []*labels.Matcher) []string {
	if len(ms) == 0 {
		return nil
	}
	return []string{selectorText(ms)}
}

func limit(h *storage.LabelHints) []v1.Option {
	if h == nil || h.Limit <= 0 {
		return nil
	}
	return []v1.Option{v1.WithLimit(uint64(h.Limit))}
}

type chunkQuerier struct{ querier }

func (q *chunkQuerier) Select(ctx context.Context, sorted bool, h *storage.SelectHints, ms ...*labels.Matcher) storage.ChunkSeriesSet {
	return storage.NewSeriesSetToChunkSet(q.querier.Select(ctx, sorted, h, ms...))
}

// exemplarQuerier holds the context of its request, since Select gets none.
type exemplarQuerier struct {
	s   *Store
	ctx context.Context
}

func (q *exemplarQuerier) Select(start, end int64, sets ...[]*labels.Matcher) ([]exemplar.QueryResult, error) {
	ctx, cancel := context.WithTimeout(q.ctx, q.s.opts.QueryTimeout)
	defer cancel()
	start, end = bounds(start, end)
	var out []exemplar.QueryResult
	for _, ms := range sets {
		list, err := q.s.query.QueryExemplars(ctx, selectorText(ms), time.UnixMilli(start), time.UnixMilli(end))
		if err = q.s.asked(err); err != nil {
			return nil, err
		}
		for _, one := range list {
			r := exemplar.QueryResult{SeriesLabels: labelsOf(model.Metric(one.SeriesLabels))}
			for _, e := range one.Exemplars {
				r.Exemplars = append(r.Exemplars, exemplar.Exemplar{Labels: labelsOf(model.Metric(e.Labels)), Value: float64(e.Value), Ts: int64(e.Timestamp), HasTs: true})
			}
			out = append(out, r)
		}
	}
	return out, nil
}

// seriesSet goes through what was read.
type seriesSet struct {
	list     []series
	at       int
	warnings annotations.Annotations
}

func (s *seriesSet) Next() bool                        { s.at++; return s.at < len(s.list) }
func (s *seriesSet) At() storage.Series                { return s.list[s.at] }
func (s *seriesSet) Err() error                        { return nil }
func (s *seriesSet) Warnings() annotations.Annotations { return s.warnings }

func (s series) Labels() labels.Labels { return s.lset }

func (s series) Iterator(chunkenc.Iterator) chunkenc.Iterator {
	return storage.NewListSeriesIterator(samples(s.samples))
}

// samples are the series' as Prometheus' list iterator reads them.
type samples []sample

func (l samples) Get(i int) chunks.Sample { return l[i] }
func (l samples) Len() int                { return len(l) }

var _ chunks.Sample = sample{}

func (p sample) T() int64                      { return p.t }
func (p sample) ST() int64                     { return 0 }
func (p sample) F() float64                    { return p.v }
func (p sample) H() *histogram.Histogram       { return nil }
func (p sample) FH() *histogram.FloatHistogram { return nil }
func (p sample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (p sample) Copy() chunks.Sample           { return p }
