package ingest

import (
	"encoding/binary"
	"hash/maphash"
	"maps"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"github.com/crowsnest-dev/crowsnest/storage/rollup"
)

// When a series is forgotten. What is still open of an interval that it has added to is then
// left by rollups to the store, as what is asked of the newest samples is up to its last: so
// neither is shorter than what that may be late by.
const (
	idleAfter  = 30 * time.Minute // after its last sample
	endedAfter = 10 * time.Minute // after a stale marker that came within cameLive of its time
	cameLive   = 2 * time.Minute
	sweepEvery = 5 * time.Minute
	// senderAfter is when a sender is forgotten: nodes have new names as they are replaced, and would
	// use up how many a cluster may have.
	senderAfter = 24 * time.Hour
)

// shards of a cluster's series, so that many senders do not wait for one lock.
const shards = 32

// seriesKey is a 128-bit hash of the labels without the cluster's. The seeds are
// random, so that nobody can make two label sets that share it.
type seriesKey [2]uint64

// cluster is what ingest knows of one cluster.
type cluster struct {
	id      string
	shards  [shards]shard
	active  atomic.Int64 // series that are not stale
	origins origins
	moves   struct { // of series of which somebody hears when they move
		sync.Mutex
		last  map[*series]had
		turns uint64 // of requests that had one move
	}

	mu      sync.Mutex
	senders map[string]sender
	swept   time.Time
	rate    rate

	samples, bytes, created, unreported, wrongClock *counter
	refused, throttled                              map[string]*counter // by reason
	activeGauge                                     interface{ Set(float64) }
}

// sender is one of a cluster.
type sender struct {
	far   time.Time // up to when its backlog has come; zero when it did not say
	heard time.Time
}

// counter is one that can be read, too.
type counter struct {
	n      atomic.Int64
	metric prometheus.Counter
}

func (c *counter) add(n int) {
	c.n.Add(int64(n))
	c.metric.Add(float64(n))
}

// shard has its series by half of the key, which is as good as all of it, and takes a third
// less of a map whose size counts.
type shard struct {
	mu     sync.RWMutex
	series map[uint64]*series
	twins  map[seriesKey]*series // that share that half with another one: hardly ever any
}

// series is one series as the store knows it. There are millions of them: together the fields
// have just one of the sizes that the heap gives.
type series struct {
	key    seriesKey
	lset   labels.Labels // with the cluster's label
	feed   *rollup.Feed  // nil when no rollup counts it
	metric *origin
	owner  *origin // its workload, else its namespace, else nil
	// follower is the series that came after it in a request: a sender's next request
	// has them in the same order, and is spared the look into a map that is larger
	// than what a CPU keeps near.
	follower atomic.Pointer[series]
	ref      atomic.Uint64 // storage.SeriesRef; a stale one is found out by the store
	newest   atomic.Int64  // Unix milliseconds of about the newest sample that the store took; 0: not known
	// row is of what a sender last called it by: its references and the table of
	// symbols that they are of. The next request that has both alike means it.
	row   atomic.Uint64
	seen  atomic.Uint32 // Unix seconds of the last sample's arrival
	marks atomic.Uint32
}

// Marks of a series.
const (
	isGone   = 1 << iota // it is in the map no more
	hasRisen             // what it moved to is remembered
	// isStale: a stale marker was the last sample. The series is kept for endedAfter, since
	// samples before the marker may come again.
	isStale
	markBits = iota // above which is the number of the request that gave it its place
)

func (s *series) is(mark uint32) bool { return s.marks.Load()&mark != 0 }

// mark tells whether it was not marked so before.
func (s *series) mark(mark uint32) bool { return s.marks.Or(mark)&mark == 0 }

// unmark tells whether it was marked so before.
func (s *series) unmark(mark uint32) bool { return s.marks.And(^mark)&mark != 0 }

// placed notes by which request it has its place among the active series.
func (s *series) placed(by uint32) {
	s.marks.And(1<<markBits - 1)
	s.marks.Or(by << markBits)
}

// placedBy says whether it has its place by a request.
func (s *series) placedBy(by uint32) bool { return s.marks.Load()>>markBits == by<<markBits>>markBits }

func (s *series) storeRef() storage.SeriesRef { return storage.SeriesRef(s.ref.Load()) }

func (c *cluster) find(k seriesKey) *series {
	sh := &c.shards[k[0]%shards]
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return sh.find(k)
}

func (sh *shard) find(k seriesKey) *series {
	if s := sh.series[k[1]]; s != nil && s.key == k {
		return s
	}
	return sh.twins[k]
}

// add keeps a series, or gives the one that somebody else added first.
func (c *cluster) add(k seriesKey, s *series) (kept *series, added bool) {
	sh := &c.shards[k[0]%shards]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if have := sh.find(k); have != nil {
		return have, false
	}
	if sh.series[k[1]] == nil {
		sh.series[k[1]] = s
	} else {
		if sh.twins == nil {
			sh.twins = map[seriesKey]*series{}
		}
		sh.twins[k] = s
	}
	return s, true
}

// reserve takes a place among the active series: the cluster's, its namespace's
// and its workload's. It gives the reason and the owner when there is none; the
// owner is nil when it is the cluster's.
func (c *cluster) reserve(s *series, l *Limits) (reason string, owner *origin) {
	if c.active.Add(1) > int64(l.SeriesPerCluster) {
		c.active.Add(-1)
		return reasonSeriesLimit, nil
	}
	for o := s.owner; o != nil; o = o.parent {
		limit, why := l.SeriesPerNamespace, reasonNamespace
		if o.kind == originWorkload {
			limit, why = l.SeriesPerWorkload, reasonWorkload
		}
		if o.active.Add(1) > int64(limit) && limit > 0 {
			for u := s.owner; ; u = u.parent {
				u.active.Add(-1)
				if u == o {
					break
				}
			}
			c.active.Add(-1)
			return why, o
		}
	}
	s.metric.active.Add(1)
	return "", nil
}

// release gives the place back.
func (c *cluster) release(s *series) {
	c.active.Add(-1)
	s.metric.active.Add(-1)
	for o := s.owner; o != nil; o = o.parent {
		o.active.Add(-1)
	}
}

// sweep forgets idle series, now and then.
func (c *cluster) sweep(now time.Time, release func(of ...*rollup.Feed)) {
	c.mu.Lock()
	if now.Sub(c.swept) < sweepEvery {
		c.mu.Unlock()
		return
	}
	c.swept = now
	maps.DeleteFunc(c.senders, func(_ string, s sender) bool { return now.Sub(s.heard) > senderAfter })
	c.mu.Unlock()
	idle, ended := now.Add(-idleAfter).Unix(), now.Add(-endedAfter).Unix()
	var feeds []*rollup.Feed // of one shard
	var gone []*series
	forget := func(s *series) bool {
		seen := int64(s.seen.Load())
		if goes := seen < idle || seen < ended && s.is(isStale) && seen-s.newest.Load()/1000 < int64(cameLive/time.Second); !goes {
			return false
		}
		s.mark(isGone)
		s.follower.Store(nil) // or a chain of them would hold one another
		gone = append(gone, s)
		// Whoever found it before marks it stale too, or revives it: one of both.
		if s.mark(isStale) {
			c.release(s)
		}
		if s.feed != nil {
			feeds = append(feeds, s.feed)
		}
		return true
	}
	for i := range c.shards {
		sh := &c.shards[i]
		sh.mu.Lock()
		maps.DeleteFunc(sh.series, func(_ uint64, s *series) bool { return forget(s) })
		maps.DeleteFunc(sh.twins, func(_ seriesKey, s *series) bool { return forget(s) })
		// Before anybody makes one of them anew, whose feed knows nothing of what they have added.
		if len(feeds) > 0 {
			release(feeds...)
			feeds = feeds[:0]
		}
		sh.mu.Unlock()
	}
	c.moves.Lock()
	for _, s := range gone {
		delete(c.moves.last, s)
	}
	c.moves.Unlock()
	c.origins.sweep(now)
	c.activeGauge.Set(float64(c.active.Load()))
}

// hasher makes keys.
type hasher struct{ a, b maphash.Seed }

func newHasher() hasher { return hasher{maphash.MakeSeed(), maphash.MakeSeed()} }

func (h hasher) key(buf []byte) seriesKey {
	return seriesKey{maphash.Bytes(h.a, buf), maphash.Bytes(h.b, buf)}
}

// table is of symbols.
func (h hasher) table(buf []byte) uint64 { return maphash.Bytes(h.a, buf) }

// row is of references to symbols, of which the hash is known. It is half of a key, as one
// is compared with what one series was called by, not looked for among millions.
func (h hasher) row(table uint64, refs []uint32) uint64 {
	return table ^ maphash.Bytes(h.b, unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(refs))), 4*len(refs)))
}

// appendPair writes a label so that no two lists of labels look the same.
func appendPair(buf []byte, name, value string) []byte {
	buf = binary.AppendUvarint(buf, uint64(len(name)))
	buf = append(buf, name...)
	buf = binary.AppendUvarint(buf, uint64(len(value)))
	return append(buf, value...)
}

// rate bounds samples per second by a bucket that what is live may overdraw: it is let
// in while there is something left, whatever its size. Backlog is let in for what is left
// above a reserve, so that what is live finds that whenever it comes.
type rate struct {
	left float64 // may be negative
	last time.Time

	// What arrived, for people: by whole minutes.
	minute        int64
	current, past float64
}

const (
	// rateBurst is what a cluster may bring at once, in seconds of its rate: more
	// than an interval's samples of all senders at one moment.
	rateBurst = 30
	// rateFull of that is as good as all of it: small live requests keep it from being
	// quite full.
	rateFull = rateBurst - 3
	// rateReserve is what backlog leaves: collectors send what is live all at the same
	// moment, and of a cluster that sends half of what it may at an interval of 30 s, or a
	// quarter at one of 60 s, that is so much.
	rateReserve = rateBurst / 2
	// rateBacklog is the most that backlog may bring at once, but for an interval that
	// alone is more.
	rateBacklog = rateFull - rateReserve
)

// take asks for n samples; wait is how long until it is worth asking again.
func (r *rate) take(now time.Time, n, perSecond int) (wait time.Duration) {
	r.fill(now, perSecond)
	if r.left <= 0 {
		return r.until(0, perSecond)
	}
	r.left -= float64(n)
	return 0
}

// takeSpare asks for n samples of a backlog. More than there can ever be overdraws what
// is as good as full.
func (r *rate) takeSpare(now time.Time, n, perSecond int) (wait time.Duration) {
	r.fill(now, perSecond)
	need := float64(min(n+perSecond*rateReserve, perSecond*rateFull))
	if r.left < need {
		return r.until(need, perSecond)
	}
	r.left -= float64(n)
	return 0
}

func (r *rate) fill(now time.Time, perSecond int) {
	full := float64(perSecond) * rateBurst
	if r.last.IsZero() {
		r.left = full
	} else if d := now.Sub(r.last).Seconds(); d > 0 {
		r.left = min(full, r.left+d*float64(perSecond))
	}
	r.last = now
}

func (r *rate) until(need float64, perSecond int) time.Duration {
	return max(time.Second, time.Duration((need-r.left)/float64(perSecond)*float64(time.Second)))
}

// count notes what was stored.
func (r *rate) count(now time.Time, n int) {
	if m := now.Unix() / 60; m != r.minute {
		r.past = 0
		if m == r.minute+1 {
			r.past = r.current
		}
		r.minute, r.current = m, 0
	}
	r.current += float64(n)
}

// perSecond is that of the last whole minute.
func (r *rate) perSecond(now time.Time) float64 {
	switch now.Unix()/60 - r.minute {
	case 0:
		return r.past / 60
	case 1:
		return r.current / 60
	}
	return 0
}
