package rollup

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// Intervals read from the store at once: enough that a chunk is decoded for
// several of them, few enough that their sums fit into memory.
const (
	readIntervals = 60
	readSpan      = int64(time.Hour / time.Millisecond)
	retryAfter    = 5 * time.Second
)

// AppendNewest gives an appender's way to take samples of which the caller believes that their
// series have none as new. A store that commits late samples apart need not look for them among
// these; others have one way only.
func AppendNewest(app storage.Appender) func(ref storage.SeriesRef, l labels.Labels, t int64, v float64) (storage.SeriesRef, error) {
	if a, ok := app.(interface {
		AppendNewest(ref storage.SeriesRef, l labels.Labels, t int64, v float64) (storage.SeriesRef, error)
	}); ok {
		return a.AppendNewest
	}
	return app.Append
}

// sums are the sums of one interval by tally and group.
type sums []map[*group]sum

// write writes intervals in the order given: those that gathered last. Those that fail
// are open again.
func (r *Rollups) write(ctx context.Context, c *cluster, due []*span) error {
	tapped, own := map[*span]sums{}, map[*span][]sum{}
	c.mu.Lock()
	for _, iv := range due {
		if iv.own != nil {
			if c.wholeLocked(r, iv) {
				own[iv] = iv.own
				c.leaveLocked(iv)
				iv.tapped = true
				c.taken++
			} else {
				c.leaveLocked(iv)
			}
		}
		// From here on what arrives for it is late, and its slots may be taken.
		c.closeLocked(iv.at)
		if iv.tapped && own[iv] == nil {
			tapped[iv] = c.tappedLocked(iv.at)
		}
	}
	c.mu.Unlock()
	var errs []error
	for len(due) > 0 {
		// What a start found open takes long, and meanwhile the next hours come.
		if err := r.ask(ctx, c); err != nil {
			errs = append(errs, err)
		}
		n := 1
		c.mu.Lock()
		if !due[0].tapped {
			n = c.togetherLocked(r, due)
			c.taken += n
		}
		c.mu.Unlock()
		batch := due[:n]
		due = due[n:]
		var err error
		if !batch[0].tapped {
			var read [][]sum
			read, err = r.read(ctx, c, batch)
			for i := range read {
				own[batch[i]] = read[i]
			}
			r.metrics.rebuilt.Add(float64(n))
		}
		for _, iv := range batch {
			totals, werr := tapped[iv], err
			if mine, has := own[iv]; has || !iv.tapped { // as maps, one after the other: a site brings many at once
				c.mu.Lock()
				totals = c.ownLocked(mine)
				delete(own, iv)
				c.taken--
				c.mu.Unlock()
			}
			if werr == nil {
				werr = r.writeOne(ctx, c, iv, totals)
			}
			if werr == nil {
				continue
			}
			errs = append(errs, fmt.Errorf("interval %s: %w", time.UnixMilli(iv.at).UTC().Format(time.RFC3339), werr))
			c.mu.Lock()
			delete(c.closed, iv.at)
			iv.tapped, iv.look = false, r.opts.Now().Add(retryAfter)
			c.open[iv.at] = iv
			c.mu.Unlock()
		}
	}
	return errors.Join(errs...)
}

// tappedLocked copies the sums of an interval out of the slots.
func (c *cluster) tappedLocked(at int64) sums {
	slot := (at / c.interval) % slots
	out := make(sums, len(c.groups))
	for i, groups := range c.groups {
		out[i] = make(map[*group]sum, len(groups))
		for _, g := range groups {
			if s := &g.slots[slot]; s.at == at && s.n > 0 {
				out[i][g] = s.sum
			}
		}
	}
	return out
}

// read sums intervals up from the store, by the groups' numbers.
func (r *Rollups) read(ctx context.Context, c *cluster, batch []*span) (out [][]sum, err error) {
	at := make(map[int64]int, len(batch))
	out = make([][]sum, len(batch))
	for i, iv := range batch {
		at[iv.at] = i
	}
	mint, maxt := batch[0].at, batch[len(batch)-1].at
	q, err := r.opts.Store.Querier(mint, maxt)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	var it chunkenc.Iterator
	var targets []int // numbers of groups
	var buf [128]byte
	for of, tallies := range r.plan.readBy {
		set := q.Select(ctx, false, &storage.SelectHints{Start: mint, End: maxt, DisableTrimming: true}, // other times are passed over below
			labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, of),
			labels.MustNewMatcher(labels.MatchEqual, clusterLabel, c.id))
		for set.Next() {
			s := set.At()
			targets = targets[:0]
			c.mu.Lock()
			for _, t := range tallies {
				if key, ok := r.plan.tallies[t].key(buf[:0], s.Labels()); ok {
					targets = append(targets, c.groupLocked(t, string(key)).id)
				}
			}
			c.mu.Unlock()
			it = s.Iterator(it)
			for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
				if typ != chunkenc.ValFloat {
					continue
				}
				t, v := it.At()
				i, wanted := at[t]
				if !wanted {
					continue
				}
				for _, id := range targets {
					if id >= len(out[i]) {
						out[i] = append(out[i], make([]sum, id+1-len(out[i]))...)
					}
					out[i][id].add(v)
				}
			}
			if err := it.Err(); err != nil {
				return nil, err
			}
		}
		if err := set.Err(); err != nil {
			return nil, fmt.Errorf("read %s: %w", of, err)
		}
	}
	return out, nil
}

// writeOne writes one interval in one commit, the coverage last.
func (r *Rollups) writeOne(ctx context.Context, c *cluster, iv *span, totals sums) error {
	c.mu.Lock()
	inOrder := iv.at > c.written
	c.mu.Unlock()

	app := r.opts.Store.Appender(ctx)
	appendTo := app.Append
	if inOrder {
		appendTo = AppendNewest(app)
	}
	open := true
	defer func() {
		if open {
			_ = app.Rollback() // the error that led here says more
		}
	}()
	n := 0
	var touched []*series
	put := func(s *series, v float64) error {
		ref, err := appendTo(s.ref, s.lset, iv.at, v)
		if errors.Is(err, storage.ErrDuplicateSampleForTimestamp) {
			return nil // it is there; a sample is written once
		}
		if err != nil {
			return err
		}
		s.ref = ref
		n++
		return nil
	}
	wrote := map[*series]struct{}{}
	var err error
	for i := range totals {
		for g, total := range totals[i] {
			for j, o := range r.plan.tallies[i].outputs {
				v := total.value()
				if per := r.plan.outputs[o].per; per >= 0 {
					divisor, ok := r.divisor(c, totals[per], per, g.key)
					if !ok {
						continue
					}
					v = 100 * v / divisor
				}
				s := r.series(c, g, j)
				if err = put(s, v); err != nil {
					return r.tooOld(iv, err)
				}
				if inOrder {
					touched = append(touched, s)
					wrote[s] = struct{}{}
				}
			}
		}
	}
	samples := n
	var ended []*series
	if inOrder && iv.complete {
		for _, s := range c.live() {
			if _, still := wrote[s]; !still {
				if err = put(s, math.Float64frombits(value.StaleNaN)); err != nil {
					return r.tooOld(iv, err)
				}
				ended = append(ended, s)
			}
		}
	}
	coverage := series{lset: labels.FromStrings(labels.MetricName, CoverageRatio, clusterLabel, c.id), ref: c.coverageRef}
	if err = put(&coverage, iv.coverage); err != nil {
		return r.tooOld(iv, err)
	}
	c.coverageRef = coverage.ref
	open = false
	if err := app.Commit(); err != nil {
		return err
	}
	for _, s := range touched {
		s.live = true
	}
	for _, s := range ended {
		s.live = false
	}
	c.mu.Lock()
	c.written = max(c.written, iv.at)
	c.sweepLocked(iv.at)
	c.mu.Unlock()
	r.metrics.samples.Add(float64(n))
	if samples == 0 && !iv.complete {
		r.metrics.dropped.WithLabelValues(reasonEmpty).Inc()
		return nil
	}
	r.metrics.intervals.WithLabelValues(iv.outcome).Inc()
	r.opts.Written(Written{Cluster: c.id, At: time.UnixMilli(iv.at).UTC(), Coverage: iv.coverage, Complete: iv.complete})
	return nil
}

// tooOld gives an interval up when the store takes nothing of its time any more.
func (r *Rollups) tooOld(iv *span, err error) error {
	if errors.Is(err, storage.ErrTooOldSample) || errors.Is(err, storage.ErrOutOfBounds) {
		r.metrics.dropped.WithLabelValues(reasonTooOld).Inc()
		r.log.Warn("rollup too old for the store", "at", time.UnixMilli(iv.at).UTC(), "err", err)
		return nil
	}
	return err
}

// divisor is the value of a group's divisor; false when it has none that can be
// divided by.
func (r *Rollups) divisor(c *cluster, of map[*group]sum, tally int, key string) (float64, bool) {
	c.mu.Lock()
	g := c.groups[tally][key]
	c.mu.Unlock()
	if g == nil {
		return 0, false
	}
	total, ok := of[g]
	v := total.value()
	return v, ok && v > 0
}

// series gives the j-th output of a group's tally.
func (r *Rollups) series(c *cluster, g *group, j int) *series {
	t := r.plan.tallies[g.tally]
	if g.series == nil {
		g.series = make([]series, len(t.outputs))
	}
	s := &g.series[j]
	if s.lset.IsEmpty() {
		s.lset = t.labels(r.plan.outputs[t.outputs[j]].name, c.id, g.key)
	}
	return s
}

// live lists the rollups that go on from an earlier interval.
func (c *cluster) live() []*series {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []*series
	for _, groups := range c.groups {
		for _, g := range groups {
			for j := range g.series {
				if g.series[j].live {
					out = append(out, &g.series[j])
				}
			}
		}
	}
	return out
}

// sweepLocked drops groups that no series feeds, that hold no sum of an open
// interval and whose rollups have ended.
func (c *cluster) sweepLocked(at int64) {
	if c.writes++; c.writes < slots || c.taken > 0 {
		return
	}
	c.writes = 0
	border := at - slots*c.interval
	for _, groups := range c.groups {
		for key, g := range groups {
			if g.feeds > 0 {
				continue
			}
			idle := true
			for i := range g.slots {
				idle = idle && g.slots[i].at < border
			}
			for i := range g.series {
				idle = idle && !g.series[i].live
			}
			if !idle {
				continue
			}
			for _, iv := range c.open {
				idle = idle && (g.id >= len(iv.own) || iv.own[g.id].n == 0)
			}
			if idle {
				delete(groups, key)
				c.freeIDs = append(c.freeIDs, g.id)
			}
		}
	}
}
