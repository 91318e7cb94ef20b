package ingest

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"github.com/crowsnest-dev/crowsnest/storage/rollup"
)

// A series is forgotten this long after its last sample. Rollups rely on it
// being longer than the intervals that they sum as samples pass.
const (
	idleAfter  = 30 * time.Minute
	sweepEvery = 5 * time.Minute
)

// shards of a cluster's series, so that many senders do not wait for one lock.
const shards = 32

// seriesKey is a 128-bit hash of the labels as sent. The seeds are random, so
// that nobody can make two label sets that share it.
type seriesKey [2]uint64

// cluster is what ingest knows of one cluster.
type cluster struct {
	id     string
	shards [shards]shard
	active atomic.Int64 // series that are not stale

	mu      sync.Mutex
	senders map[string]struct{}
	swept   time.Time

	samples, bytes counter
	refused        map[string]counter // by reason
	activeGauge    interface{ Set(float64) }
}

type counter interface{ Add(float64) }

type shard struct {
	mu     sync.RWMutex
	series map[seriesKey]*series
}

// series is one series as the store knows it.
type series struct {
	lset labels.Labels // with the cluster's label
	feed *rollup.Feed  // nil when no rollup counts it
	ref  atomic.Uint64 // storage.SeriesRef; a stale one is found out by the store
	seen atomic.Int64  // Unix seconds of the last sample's arrival
	// stale: a stale marker was the last sample. The series is kept for a while,
	// since samples before the marker may come again.
	stale atomic.Bool
}

func (s *series) storeRef() storage.SeriesRef { return storage.SeriesRef(s.ref.Load()) }

func (c *cluster) find(k seriesKey) *series {
	sh := &c.shards[k[0]%shards]
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return sh.series[k]
}

// add keeps a series, or gives the one that somebody else added first.
func (c *cluster) add(k seriesKey, s *series) (kept *series, added bool) {
	sh := &c.shards[k[0]%shards]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if have := sh.series[k]; have != nil {
		return have, false
	}
	sh.series[k] = s
	return s, true
}

// reserve takes n places among the active series; false when there are not as
// many.
func (c *cluster) reserve(limit int64) bool {
	if c.active.Add(1) > limit {
		c.active.Add(-1)
		return false
	}
	return true
}

// sweep forgets idle series, now and then.
func (c *cluster) sweep(now time.Time, rollups *rollup.Rollups) {
	c.mu.Lock()
	if now.Sub(c.swept) < sweepEvery {
		c.mu.Unlock()
		return
	}
	c.swept = now
	c.mu.Unlock()
	border := now.Add(-idleAfter).Unix()
	var feeds []*rollup.Feed
	for i := range c.shards {
		sh := &c.shards[i]
		sh.mu.Lock()
		for k, s := range sh.series {
			if s.seen.Load() >= border {
				continue
			}
			delete(sh.series, k)
			if !s.stale.Load() {
				c.active.Add(-1)
			}
			if s.feed != nil {
				feeds = append(feeds, s.feed)
			}
		}
		sh.mu.Unlock()
	}
	if rollups != nil && len(feeds) > 0 {
		rollups.Release(c.id, feeds...)
	}
	c.activeGauge.Set(float64(c.active.Load()))
}

// hasher makes keys.
type hasher struct{ a, b maphash.Seed }

func newHasher() hasher { return hasher{maphash.MakeSeed(), maphash.MakeSeed()} }

func (h hasher) key(lset labels.Labels, buf []byte) (seriesKey, []byte) {
	buf = lset.Bytes(buf[:0])
	return seriesKey{maphash.Bytes(h.a, buf), maphash.Bytes(h.b, buf)}, buf
}
