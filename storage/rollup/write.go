package rollup

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
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
	// sweepEvery is how often groups that are gone are looked for.
	sweepEvery = time.Minute
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

// write writes intervals in the order given: those that gathered last. Those that fail
// are open again.
func (r *Rollups) write(ctx context.Context, c *cluster, due []*span) error {
	c.mu.Lock()
	for _, iv := range due {
		if iv.past && !c.wholeLocked(r, iv) {
			c.leaveLocked(iv)
		}
		c.ownLocked(iv)
		delete(c.open, iv.at)
		c.closeLocked(iv.at) // from here on what arrives for it is late
	}
	c.mu.Unlock()
	var errs []error
	for len(due) > 0 {
		// What a start found open takes long, and meanwhile the next hours come.
		if err := r.ask(ctx, c); err != nil {
			errs = append(errs, err)
		}
		n := 1
		if due[0].sums == nil {
			c.mu.Lock()
			n = c.togetherLocked(r, due)
			c.mu.Unlock()
		}
		batch := due[:n]
		due = due[n:]
		var err error
		if batch[0].sums == nil {
			err = r.read(ctx, c, batch)
			r.metrics.rebuilt.Add(float64(n))
		}
		for _, iv := range batch {
			werr := err
			if werr == nil {
				werr = r.writeOne(ctx, c, iv)
			}
			c.mu.Lock()
			c.giveBackLocked(iv)
			if werr != nil {
				errs = append(errs, fmt.Errorf("interval %s: %w", time.UnixMilli(iv.at).UTC().Format(time.RFC3339), werr))
				delete(c.closed, iv.at)
				iv.look = r.opts.Now().Add(retryAfter)
				c.open[iv.at] = iv
			}
			c.mu.Unlock()
		}
	}
	return errors.Join(errs...)
}

// read sums intervals up from the store.
func (r *Rollups) read(ctx context.Context, c *cluster, batch []*span) (err error) {
	at := make(map[int64]int, len(batch))
	out := make([][]sum, len(batch))
	for i, iv := range batch {
		at[iv.at] = i
	}
	mint, maxt := batch[0].at, batch[len(batch)-1].at
	q, err := r.opts.Store.Querier(mint, maxt)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	var it chunkenc.Iterator
	var targets []uint32 // numbers of groups
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
					targets = append(targets, c.groupLocked(t, key).number)
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
				for _, number := range targets {
					out[i] = upTo(out[i], number)
					out[i][number].add(v)
				}
			}
			if err := it.Err(); err != nil {
				return err
			}
		}
		if err := set.Err(); err != nil {
			return fmt.Errorf("read %s: %w", of, err)
		}
	}
	for i, iv := range batch {
		iv.sums = out[i]
	}
	return nil
}

// writeOne writes one interval in one commit, the coverage last.
func (r *Rollups) writeOne(ctx context.Context, c *cluster, iv *span) error {
	c.mu.Lock()
	inOrder := iv.at > c.written
	groups := c.numbered // none is given back while an interval is written
	c.mu.Unlock()

	app := r.opts.Store.Appender(ctx)
	appendTo := app.Append
	if inOrder {
		appendTo = AppendNewest(app)
	}
	open, stored := true, false
	defer func() {
		if open {
			_ = app.Rollback() // the error that led here says more
		}
		for number := range iv.sums {
			if !inOrder || iv.sums[number].n == 0 {
				continue
			}
			g := groups[number]
			if stored {
				g.last = iv.at
			}
			for j := range g.series {
				s := &g.series[j]
				s.live, s.wrote = s.live || s.wrote && stored, false
			}
		}
	}()
	n := 0
	put := func(s *series, v float64) error {
		ref, err := appendTo(s.ref, s.lset, iv.at, v)
		if err != nil {
			if errors.Is(err, storage.ErrDuplicateSampleForTimestamp) {
				return nil // it is there; a sample is written once
			}
			return err
		}
		s.ref = ref
		n++
		return nil
	}
	var err error
	for number := range iv.sums {
		total := &iv.sums[number]
		if total.n == 0 {
			continue
		}
		g := groups[number]
		for j, o := range r.plan.tallies[g.tally].outputs {
			v := total.value()
			if per := r.plan.outputs[o].per; per >= 0 {
				divisor, ok := c.divisor(iv.sums, per, g.key)
				if !ok {
					continue
				}
				v = 100 * v / divisor
			}
			s := r.series(c, g, j)
			if err = put(s, v); err != nil {
				return r.tooOld(iv, err)
			}
			s.wrote = inOrder
		}
	}
	samples := n
	var ended []*series
	if inOrder && iv.complete {
		ended = c.ended()
		for _, s := range ended {
			if err = put(s, math.Float64frombits(value.StaleNaN)); err != nil {
				return r.tooOld(iv, err)
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
	stored = true
	for _, s := range ended {
		s.live = false
	}
	c.mu.Lock()
	c.written = max(c.written, iv.at)
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
func (c *cluster) divisor(sums []sum, tally int, key string) (float64, bool) {
	c.mu.Lock()
	g := c.groups[tally][key]
	c.mu.Unlock()
	if g == nil || int(g.number) >= len(sums) || sums[g.number].n == 0 {
		return 0, false
	}
	v := sums[g.number].value()
	return v, v > 0
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

// ended lists the rollups that an earlier interval has, and the one that is being written
// has not.
func (c *cluster) ended() []*series {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []*series
	for _, g := range c.numbered {
		if g == nil {
			continue
		}
		for j := range g.series {
			if s := &g.series[j]; s.live && !s.wrote {
				out = append(out, s)
			}
		}
	}
	return out
}

// sweepLocked drops groups that no series feeds, that hold no sum of an open interval and
// whose rollups have ended, or are so old that nobody needs their end: where a node is away
// for good no interval is complete, and none ends. No interval may be being written.
func (c *cluster) sweepLocked(r *Rollups, now time.Time) {
	if now.Sub(c.swept) < sweepEvery {
		return
	}
	c.swept = now
	border := c.written - r.markerAfter().Milliseconds()
	c.freeNumbers = c.freeNumbers[:0]
	var open [][]sum // of a long backlog few are, which is read from the store
	for _, iv := range c.open {
		if iv.sums != nil {
			open = append(open, iv.sums)
		}
	}
	for number := len(c.numbered) - 1; number > 0; number-- {
		g := c.numbered[number]
		if g != nil && g.feeds == 0 && !(g.live() && g.last >= border) && !added(open, number) {
			delete(c.groups[g.tally], g.key)
			c.numbered[number], g = nil, nil
		}
		switch {
		case g != nil:
		case number == len(c.numbered)-1:
			c.numbered = c.numbered[:number] // each interval has sums up to the last one
		default:
			c.freeNumbers = append(c.freeNumbers, uint32(number))
		}
	}
	if cap(c.numbered) > sparseRoom*len(c.numbered) {
		c.numbered = slices.Clone(c.numbered)
	}
}

// live says whether a rollup of the group has not ended.
func (g *group) live() bool {
	return slices.ContainsFunc(g.series, func(s series) bool { return s.live })
}

// added says whether one of some intervals has a sum of a group.
func added(intervals [][]sum, number int) bool {
	return slices.ContainsFunc(intervals, func(sums []sum) bool { return number < len(sums) && sums[number].n > 0 })
}
