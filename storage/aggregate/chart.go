package aggregate

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// Statistics of a step's samples, and the ways to join series of one line.
const (
	Avg      = "avg"
	Min      = "min"
	Max      = "max"
	Sum      = "sum"
	Count    = "count"
	Last     = "last"
	Increase = "increase" // of a counter: what it rose from the last sample of the step before
)

// maxCells bounds series × steps of one chart: 56 bytes each.
const maxCells = 2 << 20

// increaseBase is how far before a step the sample may lie that a counter rose
// from: a gap of minutes loses no restart.
const increaseBase = 5 * time.Minute

// Spec says what a chart shows: for each step and line one value. A step holds the
// samples after its beginning, up to and with its end, which is its time.
type Spec struct {
	Matchers   []*labels.Matcher
	Start, End int64 // of the first and last step, Unix milliseconds
	Step       int64 // milliseconds
	Statistic  string
	// By are the labels that tell lines apart; series that share them are joined.
	By []string
	// Across says how: max, the default, min, sum or avg of the series' values.
	Across string
	// Resolution is the length of the longest buckets that may be read instead of
	// samples, milliseconds; 0 is samples only.
	Resolution int64
	// Limit of lines, those with the highest values first; 0 is none.
	Limit int
}

func (c *Spec) complete() error {
	var fs fault.Fields
	if c.Step <= 0 {
		fs.Add("step", "must have a length", c.Step)
	}
	if c.Start > c.End {
		fs.Add("start", "must not be after the end", c.Start)
	}
	if !slices.Contains([]string{Avg, Min, Max, Sum, Count, Last, Increase}, c.Statistic) {
		fs.Add("statistic", "must be avg, min, max, sum, count, last or increase", c.Statistic)
	}
	if c.Across == "" {
		c.Across = Max
	}
	if !slices.Contains([]string{Avg, Min, Max, Sum}, c.Across) {
		fs.Add("across", "must be max, min, sum or avg", c.Across)
	}
	return fs.Err()
}

// Read says from what a part of a chart was read.
type Read struct {
	Resolution int64 // milliseconds; 0 is samples
	From, To   int64 // after From, up to To; Unix milliseconds
}

// Line is the values of a chart that share labels, one a step; NaN where there is
// no sample.
type Line struct {
	Labels labels.Labels
	Values []float64
}

// Answer is a chart.
type Answer struct {
	Lines []Line
	Left  int    // lines beyond the limit
	Read  []Read // in the order of time
}

// Chart reads stores of samples, one after the other, into one answer. It is for
// one goroutine.
type Chart struct {
	spec  Spec
	first int64 // beginning of the first step
	pre   int   // steps before the first, for a counter's base
	n     int   // steps, those included
	rows  []*row
	known map[uint64][]*row // by the hash of the labels
	read  []Read

	it chunkenc.Iterator
	h  *histogram.FloatHistogram
}

type row struct {
	labels labels.Labels
	steps  []bucket
}

// NewChart refuses what makes no sense (fault.ErrInvalid) or is too much.
func NewChart(spec Spec) (*Chart, error) {
	if err := spec.complete(); err != nil {
		return nil, err
	}
	c := &Chart{spec: spec, known: map[uint64][]*row{}}
	c.n = int((spec.End-spec.Start)/spec.Step) + 1
	if spec.Statistic == Increase {
		c.pre = int((increaseBase.Milliseconds() + spec.Step - 1) / spec.Step)
		c.n += c.pre
	}
	if c.n > maxCells {
		return nil, fault.Because(fault.ErrTooLarge, fault.ChartSteps, c.n)
	}
	c.first = spec.Start - spec.Step*int64(1+c.pre)
	return c, nil
}

func (c *Chart) window() span { return span{c.first, c.first + int64(c.n)*c.spec.Step} }

// ReadRaw reads samples only.
func (c *Chart) ReadRaw(ctx context.Context, q storage.Queryable) error {
	return c.raw(ctx, q, c.window())
}

func (c *Chart) raw(ctx context.Context, q storage.Queryable, window span) error {
	from, err := q.Querier(window.From+1, window.To)
	if err != nil {
		return err
	}
	c.note(0, window)
	return c.samples(ctx, from, window)
}

// note keeps what was read from where, with neighbours of one kind together.
func (c *Chart) note(resolution int64, window span) {
	for i := range c.read {
		if r := &c.read[i]; r.Resolution == resolution && r.From <= window.To && window.From <= r.To {
			r.From, r.To = min(r.From, window.From), max(r.To, window.To)
			return
		}
	}
	c.read = append(c.read, Read{resolution, window.From, window.To})
}

// samples closes q.
func (c *Chart) samples(ctx context.Context, q storage.Querier, window span) (err error) {
	defer func() { err = errors.Join(err, q.Close()) }()
	set := q.Select(ctx, false, &storage.SelectHints{Start: window.From + 1, End: window.To}, c.spec.Matchers...)
	for set.Next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		s := set.At()
		r, err := c.row(s.Labels())
		if err != nil {
			return err
		}
		c.it = s.Iterator(c.it)
		end, at := c.first, -1 // of the step that is filled
		for typ := c.it.Next(); typ != chunkenc.ValNone; typ = c.it.Next() {
			switch typ {
			case chunkenc.ValFloat:
				t, v := c.it.At()
				if value.IsStaleNaN(v) {
					continue
				}
				if t > end {
					at = c.step(t)
					end = c.first + int64(at+1)*c.spec.Step
				}
				r.steps[at].add(t, v)
			case chunkenc.ValFloatHistogram:
				if !isBuckets(q) {
					continue
				}
				var t int64
				t, c.h = c.it.AtFloatHistogram(c.h)
				b, err := decode(t, c.h)
				if err != nil {
					return err
				}
				r.steps[c.step(t)].join(&b)
			}
		}
		if err := c.it.Err(); err != nil {
			return err
		}
	}
	return set.Err()
}

// step gives the one that a time is in.
func (c *Chart) step(t int64) int { return int((t - c.first - 1) / c.spec.Step) }

// buckets marks a querier of a part.
type buckets struct{ storage.Querier }

func isBuckets(q storage.Querier) bool {
	_, is := q.(buckets)
	return is
}

func (c *Chart) row(lset labels.Labels) (*row, error) {
	h := lset.Hash()
	for _, r := range c.known[h] {
		if labels.Equal(r.labels, lset) {
			return r, nil
		}
	}
	if (len(c.rows)+1)*c.n > maxCells {
		return nil, fault.Because(fault.ErrTooLarge, fault.ChartSeries, len(c.rows), c.n)
	}
	// A block's labels point into its file.
	r := &row{labels: lset.Copy(), steps: make([]bucket, c.n)}
	c.rows = append(c.rows, r)
	c.known[h] = append(c.known[h], r)
	return r, nil
}

// Read reads the store: buckets where they are exact and divide the steps, else
// samples.
func (s *Store) Read(ctx context.Context, c *Chart) error {
	var allowed []int
	for n, l := range levels {
		if l.resolution <= c.spec.Resolution && c.spec.Step%l.resolution == 0 && c.spec.Start%l.resolution == 0 {
			allowed = append(allowed, n)
		}
	}
	if len(allowed) == 0 {
		return c.raw(ctx, s.opts.Raw, c.window())
	}
	pieces, err := s.cover(c.window(), allowed)
	if err != nil {
		return err
	}
	for i, p := range pieces {
		if p.q == nil {
			err = c.raw(ctx, s.opts.Raw, p.span)
		} else {
			c.note(levels[p.level].resolution, p.span)
			err = c.samples(ctx, buckets{p.q}, p.span)
		}
		if err != nil {
			for _, left := range pieces[i+1:] {
				if left.q != nil {
					err = errors.Join(err, left.q.Close())
				}
			}
			if ctx.Err() == nil && p.q != nil {
				s.metrics.failures.Inc()
			}
			return err
		}
	}
	return nil
}

// piece of a chart's time, read from a part, or from samples where q is nil.
type piece struct {
	span
	level int
	q     storage.Querier
}

// cover divides a window among the parts that are exact, the coarsest first, and
// samples.
func (s *Store) cover(window span, allowed []int) (out []piece, err error) {
	_, since, err := s.look()
	if err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	var fill func(window span, allowed []int) error
	fill = func(window span, allowed []int) error {
		if window.From >= window.To {
			return nil
		}
		if len(allowed) == 0 {
			out = append(out, piece{span: window})
			return nil
		}
		at := window.From
		for _, p := range s.parts[allowed[0]] {
			if !p.exact || since <= p.To || !p.overlaps(window) {
				continue
			}
			one := span{max(at, p.From), min(window.To, p.To)}
			if err := fill(span{at, one.From}, allowed[1:]); err != nil {
				return err
			}
			q, err := tsdb.NewBlockQuerier(p.block, one.From+1, one.To)
			if err != nil {
				return err
			}
			out = append(out, piece{one, allowed[0], q})
			at = one.To
		}
		return fill(span{at, window.To}, allowed[1:])
	}
	if err := fill(window, allowed); err != nil {
		for _, p := range out {
			if p.q != nil {
				err = errors.Join(err, p.q.Close())
			}
		}
		return nil, err
	}
	return out, nil
}

// Answer joins what was read.
func (c *Chart) Answer() *Answer {
	type group struct {
		Line
		n []float64 // series that gave the value
	}
	groups := map[string]*group{}
	var key strings.Builder
	for _, r := range c.rows {
		key.Reset()
		b := labels.NewScratchBuilder(len(c.spec.By))
		for _, name := range c.spec.By {
			v := r.labels.Get(name)
			if v != "" {
				b.Add(name, v)
			}
			key.WriteString(v)
			key.WriteByte(0xff) // in no valid UTF-8
		}
		g := groups[key.String()]
		if g == nil {
			b.Sort()
			g = &group{Line: Line{Labels: b.Labels(), Values: make([]float64, c.n-c.pre)}, n: make([]float64, c.n-c.pre)}
			groups[key.String()] = g
		}
		for i := range g.Values {
			if v, ok := c.value(r, i+c.pre); ok {
				g.Values[i] = across(c.spec.Across, g.Values[i], v, g.n[i])
				g.n[i]++
			}
		}
	}
	out := &Answer{Read: c.read}
	for _, g := range groups {
		some := false
		for i := range g.Values {
			switch {
			case g.n[i] == 0:
				g.Values[i] = math.NaN()
				continue
			case c.spec.Across == Avg:
				g.Values[i] /= g.n[i]
			}
			some = true
		}
		if some {
			out.Lines = append(out.Lines, g.Line)
		}
	}
	slices.SortFunc(out.Lines, func(a, b Line) int { return labels.Compare(a.Labels, b.Labels) })
	slices.SortFunc(out.Read, func(a, b Read) int { return int(min(max(a.From-b.From, -1), 1)) })
	out.Highest(c.spec.Limit)
	return out
}

// Highest keeps so many lines with the highest values, these first; 0 keeps all as
// they are.
func (a *Answer) Highest(limit int) {
	if limit <= 0 || len(a.Lines) <= limit {
		return
	}
	a.Left = len(a.Lines) - limit
	slices.SortStableFunc(a.Lines, func(x, y Line) int { return cmp.Compare(y.peak(), x.peak()) })
	a.Lines = a.Lines[:limit]
}

func (l Line) peak() float64 {
	peak := math.Inf(-1)
	for _, v := range l.Values {
		if v > peak { // never NaN
			peak = v
		}
	}
	return peak
}

// across joins a value with what n series gave before it, as PromQL does.
func across(how string, have, v, n float64) float64 {
	switch {
	case n == 0:
		return v
	case how == Max && (v > have || math.IsNaN(have)), how == Min && (v < have || math.IsNaN(have)):
		return v
	case how == Sum || how == Avg:
		return have + v
	}
	return have
}

// value of a step; ok when it has one.
func (c *Chart) value(r *row, i int) (v float64, ok bool) {
	b := &r.steps[i]
	if b.n == 0 {
		return 0, false
	}
	switch c.spec.Statistic {
	case Avg:
		return b.total() / b.n, true
	case Min:
		return b.min, true
	case Max:
		return b.max, true
	case Sum:
		return b.total(), true
	case Count:
		return b.n, true
	case Last:
		return b.last, true
	}
	// What it rose: a counter that fell began anew, and nothing is known to have
	// happened.
	begin := c.first + int64(i)*c.spec.Step
	back := max(c.spec.Step, increaseBase.Milliseconds())
	for j := i - 1; j >= 0; j-- {
		if before := &r.steps[j]; before.n > 0 {
			if before.at <= begin-back {
				return 0, false
			}
			return max(0, b.last-before.last), true
		}
	}
	return 0, false
}
