package aggregate

import (
	"fmt"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
)

// bucket is what is known of some samples, as PromQL's functions over time see
// them: stale markers are none.
type bucket struct {
	n         float64
	sum, rest float64 // by Kahan and Neumaier, as PromQL sums
	min, max  float64
	last      float64
	at        int64 // when last was, or by when; Unix milliseconds
}

func (b *bucket) add(at int64, v float64) {
	if b.n == 0 {
		b.min, b.max = v, v
	} else {
		// Another value goes before NaN, as in PromQL.
		if v < b.min || math.IsNaN(b.min) {
			b.min = v
		}
		if v > b.max || math.IsNaN(b.max) {
			b.max = v
		}
	}
	b.n++
	b.plus(v)
	b.last, b.at = v, at
}

func (b *bucket) plus(v float64) {
	t := b.sum + v
	switch {
	case math.IsInf(t, 0):
		b.rest = 0
	case math.Abs(b.sum) >= math.Abs(v):
		b.rest += (b.sum - t) + v
	default:
		b.rest += (v - t) + b.sum
	}
	b.sum = t
}

func (b *bucket) total() float64 { return b.sum + b.rest }

// join adds what is known of later samples.
func (b *bucket) join(o *bucket) {
	if b.n == 0 {
		*b = *o
		return
	}
	if o.min < b.min || math.IsNaN(b.min) {
		b.min = o.min
	}
	if o.max > b.max || math.IsNaN(b.max) {
		b.max = o.max
	}
	b.n += o.n
	b.plus(o.sum)
	b.plus(o.rest)
	b.last, b.at = o.last, o.at
}

// A bucket is kept as a histogram of gauge type, which has the five values in one
// sample of one series: index and times once instead of five times. Its time is
// the bucket's end. The block is written past all that would look for sense in
// it, and never merged by others.
func (b *bucket) encode(into *histogram.FloatHistogram) {
	into.CounterResetHint = histogram.GaugeType
	into.Count, into.Sum, into.ZeroCount = b.n, number(b.total()), number(b.min)
	into.PositiveSpans = append(into.PositiveSpans[:0], histogram.Span{Offset: 0, Length: 2})
	into.PositiveBuckets = append(into.PositiveBuckets[:0], number(b.max), number(b.last))
}

// number has each NaN be the same, and none a stale marker.
func number(v float64) float64 {
	if math.IsNaN(v) {
		return math.Float64frombits(value.NormalNaN)
	}
	return v
}

func decode(at int64, h *histogram.FloatHistogram) (bucket, error) {
	if len(h.PositiveBuckets) != 2 {
		return bucket{}, fmt.Errorf("aggregate of %d: %d values", at, len(h.PositiveBuckets))
	}
	return bucket{n: h.Count, sum: h.Sum, min: h.ZeroCount, max: h.PositiveBuckets[0], last: h.PositiveBuckets[1], at: at}, nil
}

// maxPerChunk bounds what is decoded of a series at least.
const maxPerChunk = 512

// encoder makes chunks of the buckets of a series.
type encoder struct {
	h     histogram.FloatHistogram
	chunk *chunkenc.FloatHistogramChunk
	app   chunkenc.Appender
	out   []chunks.Meta
}

// put takes the buckets of a series in the order of time.
func (e *encoder) put(end int64, b *bucket) error {
	if e.chunk == nil || e.chunk.NumSamples() >= maxPerChunk {
		e.chunk = chunkenc.NewFloatHistogramChunk()
		app, err := e.chunk.Appender()
		if err != nil {
			return err
		}
		e.app = app
		e.out = append(e.out, chunks.Meta{Chunk: e.chunk, MinTime: end})
	}
	b.encode(&e.h)
	if _, _, _, err := e.app.AppendFloatHistogram(nil, 0, end, &e.h, true); err != nil {
		return err
	}
	e.out[len(e.out)-1].MaxTime = end
	return nil
}

// take gives the chunks of the series, and begins the next.
func (e *encoder) take() []chunks.Meta {
	out := e.out
	e.chunk, e.app, e.out = nil, nil, nil
	return out
}

// fold reads samples of a series, which are in the order of time, into buckets of a
// length that divides the day. emit gets each bucket that has a sample, with its
// end. A native histogram is passed over: the functions that buckets serve are of
// numbers.
func fold(it chunkenc.Iterator, resolution int64, emit func(end int64, b *bucket) error) error {
	var b bucket
	end := int64(math.MinInt64)
	flush := func() error {
		if b.n == 0 {
			return nil
		}
		err := emit(end, &b)
		b = bucket{}
		return err
	}
	for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
		if typ != chunkenc.ValFloat {
			continue
		}
		at, v := it.At()
		if value.IsStaleNaN(v) {
			continue
		}
		if at > end {
			if err := flush(); err != nil {
				return err
			}
			end = endOf(at, resolution)
		}
		b.add(at, v)
	}
	if err := it.Err(); err != nil {
		return err
	}
	return flush()
}

// endOf is the end of the bucket that a time is in: buckets hold their end, and
// not their beginning, as PromQL's ranges do.
func endOf(at, resolution int64) int64 {
	end := at / resolution * resolution
	if end < at { // at is after it; for times before 1970 the division already rounded up
		end += resolution
	}
	return end
}
