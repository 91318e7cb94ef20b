package inventory

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// Queryable is where current values come from; Prometheus' storage.Queryable.
type Queryable interface {
	Querier(mint, maxt int64) (storage.Querier, error)
}

// reader reads series of one cluster, or of all. One Select serves all objects
// of a list: one for each object would not end with 10,000 pods.
type reader struct {
	from    Queryable
	cluster string // "" for all
	now     time.Time
	match   []*labels.Matcher // further ones that narrow the list
}

// each calls fn with the labels and the samples of each series of a metric that
// has any in the window up to now.
func (r reader) each(ctx context.Context, metric string, window time.Duration, fn func(labels.Labels, chunkenc.Iterator) error) error {
	if r.from == nil {
		return nil
	}
	mint, maxt := r.now.Add(-window).UnixMilli(), r.now.UnixMilli()
	q, err := r.from.Querier(mint, maxt)
	if err != nil {
		return fmt.Errorf("read %s: %w", metric, err)
	}
	defer func() { _ = q.Close() }() // reading is over
	match := append([]*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, metric)}, r.match...)
	if r.cluster != "" {
		match = append(match, labels.MustNewMatcher(labels.MatchEqual, "cluster", r.cluster))
	}
	set := q.Select(ctx, false, &storage.SelectHints{Start: mint, End: maxt}, match...)
	var it chunkenc.Iterator
	for set.Next() {
		s := set.At()
		it = s.Iterator(it)
		if err := fn(s.Labels(), it); err != nil {
			return err
		}
		if err := it.Err(); err != nil {
			return fmt.Errorf("read %s: %w", metric, err)
		}
	}
	if err := set.Err(); err != nil {
		return fmt.Errorf("read %s: %w", metric, err)
	}
	return nil
}

// newest gives, by key, the newest sample of each series that is not older than
// maxAge. A series that ended (a stale marker is its newest) has none.
func (r reader) newest(ctx context.Context, metric string, maxAge time.Duration, key func(labels.Labels) string) (map[string]sample, error) {
	out := map[string]sample{}
	err := r.each(ctx, metric, maxAge, func(l labels.Labels, it chunkenc.Iterator) error {
		var last sample
		for it.Next() == chunkenc.ValFloat {
			t, v := it.At()
			last = sample{time.UnixMilli(t).UTC(), v}
		}
		if last.at.IsZero() || math.IsNaN(last.v) { // a stale marker is a NaN too
			return nil
		}
		if k := key(l); out[k].at.Before(last.at) {
			out[k] = last
		}
		return nil
	})
	return out, err
}

type sample struct {
	at time.Time
	v  float64
}

// increases gives, by key, by how much each counter rose within the window: the
// sum of its steps up, exact and without extrapolation. A fall is a counter that
// began anew, from zero. The window begins with the newest sample before it, so
// that a step across its edge counts; a series that began within the window
// counts from zero when born says that its object did too, else from its first
// sample.
func (r reader) increases(ctx context.Context, metric string, window, maxAge time.Duration, key func(labels.Labels) string, born func(key string) time.Time) (map[string]float64, error) {
	begin := r.now.Add(-window)
	out := map[string]float64{}
	err := r.each(ctx, metric, window+maxAge, func(l labels.Labels, it chunkenc.Iterator) error {
		k := key(l)
		sum, last, have := 0.0, 0.0, false
		for it.Next() == chunkenc.ValFloat {
			t, v := it.At()
			switch {
			case value.IsStaleNaN(v):
				continue // a gap, or a label that changed: the counter itself goes on
			case time.UnixMilli(t).Before(begin):
				last, have = v, true
				continue
			case !have:
				if born(k).After(begin) {
					sum += v
				}
			case v < last:
				sum += v
			default:
				sum += v - last
			}
			last, have = v, true
		}
		if have {
			out[k] += sum
		}
		return nil
	})
	return out, err
}
