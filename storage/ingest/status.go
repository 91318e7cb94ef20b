package ingest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/rollup"
)

// Run counts the series that were active before this process, and forgets idle
// ones of clusters that send nothing any more, until ctx ends.
func (i *Ingester) Run(ctx context.Context) error {
	if err := i.recover(ctx); err != nil && ctx.Err() == nil {
		// They are counted as they are sent again.
		i.log.Warn("count the series that were active before the start", "err", err)
	}
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			i.sweep()
		}
	}
}

func (i *Ingester) sweep() {
	for _, c := range i.all() {
		c.sweep(i.opts.Now(), i.releaser(c))
	}
}

// releaser gives feeds of a cluster back.
func (i *Ingester) releaser(c *cluster) func(of ...*rollup.Feed) {
	return func(of ...*rollup.Feed) { i.opts.Rollups.Release(c.id, of...) } // there are none without rollups
}

func (i *Ingester) all() []*cluster {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Collect(maps.Values(i.clusters))
}

// recover finds the active series in the store, so that limits and counts hold
// from the start.
func (i *Ingester) recover(ctx context.Context) error {
	now := i.opts.Now()
	q, err := i.opts.Store.Querier(now.Add(-idleAfter).UnixMilli(), now.Add(i.limits.Ahead).UnixMilli())
	if err != nil {
		return err
	}
	err = i.recoverFrom(ctx, q.Select(ctx, false, nil, labels.MustNewMatcher(labels.MatchNotEqual, clusterLabel, "")))
	return errors.Join(err, q.Close())
}

func (i *Ingester) recoverFrom(ctx context.Context, set storage.SeriesSet) error {
	now := i.opts.Now()
	var (
		it  chunkenc.Iterator
		buf []byte
		n   int
	)
	for set.Next() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		found := set.At()
		lset := found.Labels()
		if r := i.opts.Rollups; r != nil && r.Reserved(lset.Get(labels.MetricName)) {
			continue // the server's own
		}
		var last int64
		stale := false
		it = found.Iterator(it)
		for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
			last, stale = it.AtT(), false
			if typ == chunkenc.ValFloat {
				_, v := it.At()
				stale = value.IsStaleNaN(v)
			}
		}
		if err := it.Err(); err != nil {
			return err
		}
		if last == 0 || stale {
			continue
		}
		buf = buf[:0]
		lset.Range(func(l labels.Label) {
			if l.Name != clusterLabel {
				buf = appendPair(buf, l.Name, l.Value)
			}
		})
		c, k := i.cluster(lset.Get(clusterLabel)), i.hash.key(buf)
		if c.find(k) != nil {
			continue
		}
		s := i.newSeries(c, now, k, lset)
		s.seen.Store(uint32(last / 1000))
		// They had their places before; a limit that was lowered keeps new ones out.
		if why, _ := c.reserve(s, &unlimited); why != "" {
			continue
		}
		if _, added := i.keep(c, k, s); added {
			n++
		}
	}
	if err := set.Err(); err != nil {
		return err
	}
	for _, c := range i.all() {
		c.activeGauge.Set(float64(c.active.Load()))
	}
	if n > 0 {
		i.log.Info("took over active series", "series", n)
	}
	return nil
}

var unlimited = Limits{SeriesPerCluster: 1 << 62}

// Status is how a cluster's writes do.
type Status struct {
	Limits           Limits
	ActiveSeries     int64
	Senders          int              // collectors of ours
	SamplesPerSecond float64          // stored, over the last whole minute
	Samples          int64            // stored since the start
	Unreported       int64            // of these, that rollups sum but wait for no word of
	WrongClock       int64            // of these, stamped by a clock that was found wrong later
	Created          int64            // series that were new, since the start
	Refused          map[string]int64 // samples since the start, by reason
	Throttled        map[string]int64 // requests since the start, by reason
	// The origins with the most series, and with the most new series in the last
	// hour, by kind: metric, namespace, workload.
	Top, Churn map[string][]Origin
}

// Status tells how a cluster's writes do, with up to top origins of each kind.
// fault.ErrNotFound when nothing came from it since the start.
func (i *Ingester) Status(id string, top int) (*Status, error) {
	i.mu.Lock()
	c := i.clusters[id]
	i.mu.Unlock()
	if c == nil {
		return nil, fmt.Errorf("cluster %q has sent nothing since the start: %w", id, fault.ErrNotFound)
	}
	now := i.opts.Now()
	c.mu.Lock()
	st := &Status{
		Limits: i.limits, ActiveSeries: c.active.Load(), Senders: len(c.senders), SamplesPerSecond: c.rate.perSecond(now),
		Refused: map[string]int64{}, Throttled: map[string]int64{}, Top: map[string][]Origin{}, Churn: map[string][]Origin{},
	}
	c.mu.Unlock()
	st.WrongClock = c.wrongClock.n.Load()
	st.Samples, st.Unreported, st.Created = c.samples.n.Load(), c.unreported.n.Load(), c.created.n.Load()
	for why, n := range c.refused {
		st.Refused[why] = n.n.Load()
	}
	for why, n := range c.throttled {
		st.Throttled[why] = n.n.Load()
	}
	for _, kind := range []string{originMetric, originNamespace, originWorkload} {
		st.Top[kind] = c.origins.top(kind, top, now, false)
		st.Churn[kind] = c.origins.top(kind, top, now, true)
	}
	return st, nil
}
