package rollup

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// recover reads from the store which intervals senders have reported, which of
// them are written, and which rollups are still alive. What arrived meanwhile
// stays.
func (r *Rollups) recover(ctx context.Context) error {
	now := r.opts.Now()
	mint, maxt := now.Add(-r.opts.Lookback).UnixMilli(), now.Add(maxAhead).UnixMilli()
	q, err := r.opts.Store.Querier(mint, maxt)
	if err != nil {
		return err
	}
	if err := errors.Join(r.recoverIntervals(ctx, q, now), q.Close()); err != nil {
		return err
	}
	if q, err = r.opts.Store.Querier(now.Add(-r.markerAfter()).UnixMilli(), maxt); err != nil {
		return err
	}
	if err := errors.Join(r.recoverLive(ctx, q), q.Close()); err != nil {
		return err
	}
	r.mu.Lock()
	r.recovered = true
	open := 0
	for _, c := range r.clusters {
		c.mu.Lock()
		open += len(c.open)
		c.mu.Unlock()
	}
	r.mu.Unlock()
	if open > 0 {
		r.log.Info("took over open rollup intervals", "intervals", open)
	}
	return nil
}

func (r *Rollups) recoverIntervals(ctx context.Context, q storage.Querier, now time.Time) error {
	// Closed ones first, so that no report opens them.
	err := eachSample(ctx, q, CoverageRatio, func(lset labels.Labels) func(int64, float64) {
		c := r.cluster(lset.Get(clusterLabel))
		return func(at int64, _ float64) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.closeLocked(at)
			c.written = max(c.written, at)
			c.newest = max(c.newest, at)
		}
	})
	if err != nil {
		return err
	}
	type word struct {
		sender string
		at     int64
	}
	words := map[*cluster][]word{}
	err = eachSample(ctx, q, SenderInterval, func(lset labels.Labels) func(int64, float64) {
		c, name := r.cluster(lset.Get(clusterLabel)), lset.Get(SenderLabel)
		return func(at int64, seconds float64) {
			interval := int64(seconds * 1000)
			if interval <= 0 {
				return
			}
			c.mu.Lock()
			s := c.senders[name]
			if s == nil {
				s = &sender{first: at, interval: interval}
				c.senders[name] = s
			}
			s.first = min(s.first, at)
			if at >= s.through {
				s.through = at
				s.interval = interval
			}
			s.heard = later(s.heard, time.UnixMilli(at))
			_, closed := c.closed[at]
			c.mu.Unlock()
			if !closed {
				words[c] = append(words[c], word{name, at})
			}
		}
	})
	if err != nil {
		return err
	}
	for c, ws := range words {
		c.mu.Lock()
		c.paceLocked()
		for _, w := range ws {
			if c.interval == 0 || w.at%c.interval != 0 {
				continue
			}
			if iv := c.openLocked(r, w.at, now); iv != nil {
				iv.reported[w.sender] = struct{}{}
			}
		}
		c.mu.Unlock()
	}
	return nil
}

// markerAfter is for how long after its last point a rollup that ended needs a stale marker:
// PromQL looks back 5 min, and a rollup may be as late as MaxOpen.
func (r *Rollups) markerAfter() time.Duration { return r.opts.MaxOpen + 5*time.Minute }

// recoverLive finds the rollups that had a sample at the last written interval,
// so that those which vanished meanwhile get their stale marker.
func (r *Rollups) recoverLive(ctx context.Context, q storage.Querier) error {
	for t, tally := range r.plan.tallies {
		for j, o := range tally.outputs {
			err := eachSample(ctx, q, r.plan.outputs[o].name, func(lset labels.Labels) func(int64, float64) {
				c := r.cluster(lset.Get(clusterLabel))
				c.mu.Lock()
				defer c.mu.Unlock()
				key, ok := tally.key(nil, lset)
				if !ok {
					return nil
				}
				g := c.groupLocked(t, key)
				if g.series == nil {
					g.series = make([]series, len(tally.outputs))
				}
				s, from := &g.series[j], c.written-missedIntervals*c.interval
				s.lset = lset
				return func(at int64, v float64) {
					g.last = max(g.last, at)
					if at >= from && at <= c.written {
						s.live = !value.IsStaleNaN(v)
					}
				}
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// eachSample calls what visit gives for each sample of a metric; nil skips the
// series.
func eachSample(ctx context.Context, q storage.Querier, name string, visit func(labels.Labels) func(at int64, v float64)) error {
	set := q.Select(ctx, false, nil, labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, name))
	var it chunkenc.Iterator
	for set.Next() {
		s := set.At()
		each := visit(s.Labels())
		if each == nil {
			continue
		}
		it = s.Iterator(it)
		for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
			if typ == chunkenc.ValFloat {
				at, v := it.At()
				each(at, v)
			}
		}
		if err := it.Err(); err != nil {
			return err
		}
	}
	return set.Err()
}
