// Package rollup owns the sums that the catalogue declares: it adds up samples
// as they pass, knows which senders have reported an interval, and writes each
// interval once. It must not know how samples arrive, nor what a policy does
// with the sums.
//
// An interval is summed in one of two ways, with the same result: from the
// samples as they pass, which costs nanoseconds, or from the store, where some
// may have passed before this process began. Which intervals were written is known
// from the store too: the coverage series has a sample for each, written in the
// same commit.
package rollup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// Series that only the server writes.
const (
	// CoverageRatio{cluster} has a sample at each interval that was written: the
	// senders that reported it, of those expected (0 to 1).
	CoverageRatio = "crowsnest_rollup_coverage_ratio"
	// SenderInterval{cluster, sender} has a sample at each point up to which a
	// sender has sent everything; its value is the sender's interval in seconds.
	// Ingest writes it in the commit of the samples.
	SenderInterval = "crowsnest_sender_interval_seconds"
	// SenderLabel names the sender in SenderInterval.
	SenderLabel = "sender"
)

const (
	clusterLabel = "cluster"

	// tapped is how many intervals are summed while samples pass; older ones that
	// are still open are summed from the store. A series remembers as many of its points.
	tapped = 16
	// graceLate is how long after its last report an interval of the past that has
	// enough waits for the rest.
	graceLate = 2 * time.Minute
	// lull is for how long no sender reports an interval whose deadline may have it written:
	// senders of a large cluster on a busy server report one after the other, and in a few seconds
	// all will have. They are waited for once more as long as until the deadline, at most.
	lull = time.Second
	// heardFor is how long after the first interval of a backlog none of it is written:
	// by then who else brings one has begun with it.
	heardFor = 30 * time.Second
	// maxAhead is how far ahead of the server samples are taken by ingest.
	maxAhead = 2 * time.Minute
	// missedIntervals a sender may miss before it is waited for no more.
	missedIntervals = 2

	outcomeComplete = "complete"
	outcomeDeadline = "deadline"
	outcomeAged     = "aged"
)

// Store is what rollups read and write. Both may be called concurrently.
type Store interface {
	storage.Queryable
	storage.Appendable
}

// Expected tells which nodes a cluster has, by the inventory: real ones, no
// virtual ones. It is asked often and must answer from memory.
type Expected interface {
	Nodes(cluster string) []string
}

// Written is one interval of a cluster that was written.
type Written struct {
	Cluster  string
	At       time.Time
	Coverage float64 // senders that reported ÷ those expected, 0 to 1
	Complete bool    // all expected ones reported
}

// Options of the rollups.
type Options struct {
	Store    Store         // required
	Expected Expected      // default: senders that have reported are expected, nobody else
	Written  func(Written) // called after an interval's commit, by one goroutine; must not block
	// Metrics are the declarations; default the catalogue's.
	Metrics []catalogue.Metric
	// Coverage at which an interval is written at its deadline although senders
	// are missing; default 0.95.
	Coverage float64
	// MaxOpen bounds how long an interval with less coverage waits after the
	// last sender that reported it, and how long a silent node is waited for;
	// default 10 min. It is written with what is there then. A correction later
	// is not possible, and a cluster with a dead node has no rollups meanwhile.
	MaxOpen time.Duration
	// MaxLate is the same for intervals of the past, which came when a site was
	// back after longer than MaxOpen: nobody needs them at once, so they wait for
	// the senders that are still away. Default 24 h, a sender's queue's age, and
	// at most Lookback.
	MaxLate time.Duration
	// Lookback is how far back open intervals are looked for at a start; default
	// 48 h, the store's out-of-order window.
	Lookback time.Duration
	// Newest are the metrics that Rollups.Newest answers for.
	Newest     []string
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	Now        func() time.Time // default time.Now
}

func (o *Options) complete() error {
	var errs []error
	if o.Store == nil {
		errs = append(errs, errors.New("rollup: Store is required"))
	}
	if o.Expected == nil {
		o.Expected = nobody{}
	}
	if o.Written == nil {
		o.Written = func(Written) {}
	}
	if o.Metrics == nil {
		o.Metrics = catalogue.All()
	}
	if o.Coverage == 0 {
		o.Coverage = 0.95
	}
	if o.Coverage < 0 || o.Coverage > 1 {
		errs = append(errs, fmt.Errorf("rollup: Coverage must lie between 0 and 1, not %v", o.Coverage))
	}
	if o.MaxOpen == 0 {
		o.MaxOpen = 10 * time.Minute
	}
	if o.Lookback == 0 {
		o.Lookback = 48 * time.Hour
	}
	if o.MaxOpen < 0 || o.Lookback < o.MaxOpen {
		errs = append(errs, fmt.Errorf("rollup: MaxOpen %v must lie between 0 and Lookback %v", o.MaxOpen, o.Lookback))
	}
	if o.MaxLate == 0 {
		o.MaxLate = min(max(24*time.Hour, o.MaxOpen), o.Lookback)
	}
	if o.MaxLate < o.MaxOpen || o.Lookback < o.MaxLate {
		errs = append(errs, fmt.Errorf("rollup: MaxLate %v must lie between MaxOpen %v and Lookback %v", o.MaxLate, o.MaxOpen, o.Lookback))
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return errors.Join(errs...)
}

type nobody struct{}

func (nobody) Nodes(string) []string { return nil }

// Rollups keeps the open intervals of all clusters. All methods may be called
// concurrently; Run once.
type Rollups struct {
	opts    Options
	plan    *plan
	metrics *ownMetrics
	log     *slog.Logger
	born    int64 // Unix milliseconds of New: samples up to maxAhead later may have passed before
	wake    chan struct{}

	backlogBytes int // of a cluster's intervals of the past

	mu        sync.Mutex
	clusters  map[string]*cluster
	recovered bool
}

// New makes the rollups. Samples and reports are taken from then on; nothing is
// written before Run has read from the store what was open.
func New(o Options) (*Rollups, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	p, err := newPlan(o.Metrics)
	if err != nil {
		return nil, err
	}
	r := &Rollups{
		opts: o, plan: p, log: o.Logger, born: o.Now().UnixMilli(),
		wake: make(chan struct{}, 1), clusters: map[string]*cluster{}, backlogBytes: backlogBytes,
	}
	r.metrics = newMetrics(o.Registerer, r.openIntervals)
	return r, nil
}

// Run writes intervals as they become due, until ctx ends.
func (r *Rollups) Run(ctx context.Context) error {
	for {
		err := r.recover(ctx)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return nil
		}
		// Writing without knowing what was written could write it twice.
		r.log.Error("read open intervals from the store", "err", err)
		if !sleep(ctx, 5*time.Second) {
			return nil
		}
	}
	for {
		next := r.Advance(ctx)
		wait := min(max(next.Sub(r.opts.Now()), 10*time.Millisecond), time.Second)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-r.wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// Reserved says whether only the server may write a metric of that name.
func (r *Rollups) Reserved(name string) bool {
	if name == CoverageRatio || name == SenderInterval {
		return true
	}
	m, ok := catalogue.Get(name)
	return ok && m.Place == catalogue.ByServer
}

// Feed is what one series adds to. It belongs to the cluster that it was made
// for.
type Feed struct {
	// The numbers of its groups, in place up to as many as catalogue metrics have.
	// There are millions of feeds, so that each byte and each pointer counts.
	near     [3]uint32 // 0: none
	released bool
	live     recent
	newest   *newest // nil when nobody asks for it
	rare     *rare   // nil of nearly all
}

// rare is what few feeds have.
type rare struct {
	far  []uint32 // further groups
	late points   // those of the past that it has added to
}

// A feed remembers the grid points that it has added to: a sample that comes again adds
// nothing.

// recent are live grid points up to the last one, in Unix milliseconds above the lowest
// bits: bit i says whether there is the one i intervals before it.
type recent uint64

// points are grid points up to the last one: seen's bit i is the one i intervals
// before it.
type points struct {
	last int64
	seen uint64
}

// Sample is one sample of a series with a feed.
type Sample struct {
	Feed *Feed
	At   int64 // Unix milliseconds
	V    float64
}

// Feed gives what a series of the cluster adds to, nil when nothing. The caller
// keeps one feed for each series for as long as the series may be sent again,
// and gives it back by Release.
func (r *Rollups) Feed(clusterID string, lset labels.Labels) *Feed {
	name := lset.Get(labels.MetricName)
	fed, asked := r.plan.readBy[name], slices.Contains(r.opts.Newest, name)
	if len(fed) == 0 && !asked {
		return nil
	}
	c := r.cluster(clusterID)
	f := &Feed{}
	if asked {
		f.newest = c.newestSeries.keep(name, lset)
	}
	if len(fed) > 0 {
		c.mu.Lock()
		c.feedLocked(r.plan, fed, f, lset)
		c.mu.Unlock()
	}
	if !f.Sums() && f.newest == nil {
		return nil
	}
	return f
}

// feedLocked finds the groups of tallies that a series adds to.
func (c *cluster) feedLocked(p *plan, tallies []int, f *Feed, lset labels.Labels) {
	var buf [128]byte
	for _, i := range tallies {
		if key, ok := p.tallies[i].key(buf[:0], lset); ok {
			g := c.groupLocked(i, key)
			g.feeds++
			if place := slices.Index(f.near[:], 0); place >= 0 {
				f.near[place] = g.number
			} else {
				f.seldom().far = append(f.seldom().far, g.number)
			}
		}
	}
}

// Release gives feeds back; nil ones are skipped. Should their series be sent again, nobody
// remembers what they have added: intervals of that time that are still open are left to the
// store.
func (r *Rollups) Release(clusterID string, feeds ...*Feed) {
	c := r.cluster(clusterID)
	c.newestSeries.leave(feeds)
	c.mu.Lock()
	defer c.mu.Unlock()
	var live, late int64
	for _, f := range feeds {
		if f != nil {
			f.eachGroup(func(number uint32) { c.numbered[number].feeds-- })
			f.released = true
			live = max(live, f.live.last())
			if f.rare != nil {
				late = max(late, f.rare.late.last)
			}
		}
	}
	for at, iv := range c.open {
		through := live
		if iv.past {
			through = late
		}
		if at <= through {
			c.leaveLocked(iv)
		}
	}
}

// Sums says whether samples of the series are to be given to Add. Those of others are to
// Pass.
func (f *Feed) Sums() bool { return f.near[0] != 0 }

func (f *Feed) eachGroup(visit func(number uint32)) {
	for _, number := range f.near {
		if number == 0 {
			return
		}
		visit(number)
	}
	if f.rare != nil {
		for _, number := range f.rare.far {
			visit(number)
		}
	}
}

func (f *Feed) seldom() *rare {
	if f.rare == nil {
		f.rare = &rare{}
	}
	return f.rare
}

// Add counts samples that were committed. The interval is that of their sender,
// 0 when it did not say: its samples are summed where they fall on a point of
// the cluster's grid whose interval is still open, as reading the store does,
// and no interval waits for them. The slice is not kept.
func (r *Rollups) Add(clusterID string, interval time.Duration, samples []Sample) {
	if len(samples) == 0 {
		return
	}
	c := r.cluster(clusterID)
	now := r.opts.Now()
	c.newestSeries.add(samples)
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.passed
	for i := range samples {
		c.passed = max(c.passed, samples[i].At)
	}
	if c.interval == 0 {
		if interval <= 0 {
			// Should somebody report later, the store is read for these.
			r.metrics.skipped.WithLabelValues(reasonNoInterval).Add(float64(len(samples)))
			return
		}
		c.interval = interval.Milliseconds()
		c.unseen = before
	}
	var iv *span
	at := int64(-1)
	var late, offGrid, number int
	for i := range samples {
		s := &samples[i]
		if s.At != at {
			at = s.At
			iv = nil
			if at%c.interval == 0 {
				iv = c.openLocked(r, at, now)
			}
			if iv != nil && iv.past && now.Sub(iv.opened) > backlogAge {
				c.leaveLocked(iv)
			}
		}
		switch {
		case iv == nil && at%c.interval != 0:
			offGrid++
		case iv == nil:
			late++
		case iv.sums == nil:
			// The store has it, and is read.
		case s.Feed.released:
			c.leaveLocked(iv) // its groups may be others' by now
		case iv.past:
			fresh, sure := s.Feed.seldom().late.mark(at, c.interval)
			if !sure {
				c.leaveLocked(iv)
			} else if fresh && !iv.add(s.Feed, s.V) {
				number++
			}
		default:
			if s.Feed.live.mark(at, c.interval) && !iv.add(s.Feed, s.V) {
				number++
			}
		}
	}
	count := func(n int, reason string) {
		if n > 0 {
			r.metrics.skipped.WithLabelValues(reason).Add(float64(n))
		}
	}
	count(late, reasonLate)
	count(offGrid, reasonOffGrid)
	count(number, reasonNumber)
}

func (p recent) last() int64 { return int64(p >> tapped) }

// mark notes that the series has a sample at a live point of the grid; not fresh when it
// had one already, or when the point is older than any that is summed as it passes.
func (p *recent) mark(at, step int64) (fresh bool) {
	seen := uint64(*p) & (1<<tapped - 1)
	if last := p.last(); at > last {
		if shift := (at - last) / step; shift < tapped && (at-last)%step == 0 { // else it was another grid
			seen = seen<<shift&(1<<tapped-1) | 1
		} else {
			seen = 1
		}
		*p = recent(uint64(at)<<tapped | seen)
		return true
	} else if shift := (last - at) / step; shift < tapped {
		fresh = seen&(1<<shift) == 0
		*p |= 1 << shift
	}
	return fresh
}

// mark notes that the series has a sample at a point of the grid; not fresh when
// it had one already, not sure when the point is too old to tell.
func (p *points) mark(at, step int64) (fresh, sure bool) {
	if at > p.last {
		if shift := (at - p.last) / step; shift < 64 && (at-p.last)%step == 0 {
			p.seen = p.seen<<shift | 1
		} else {
			p.seen = 1
		}
		p.last = at
		return true, true
	}
	shift := (p.last - at) / step
	if shift >= 64 {
		return false, false
	}
	bit := uint64(1) << shift
	fresh = p.seen&bit == 0
	p.seen |= bit
	return fresh, true
}

// Report is a sender's word that it has sent everything up to a time.
type Report struct {
	Cluster  string
	Sender   string
	Through  time.Time // on the grid of Interval
	Interval time.Duration
	Backlog  bool // from its queue: it completes all earlier points too
}

// Imported notes that what a sender has of a point came by the import way. Others
// may have reported it here, before the border of what is taken had passed it; a
// backlog's later report would complete it without these samples. It is left to
// those who make the block, which sum all that there is.
func (r *Rollups) Imported(clusterID string, at time.Time) {
	c := r.cluster(clusterID)
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, open := c.open[at.UnixMilli()]; open {
		c.closeLocked(at.UnixMilli())
	}
}

// Report takes a sender's word, after the commit of what it is about.
func (r *Rollups) Report(rep Report) {
	c := r.cluster(rep.Cluster)
	now := r.opts.Now()
	c.mu.Lock()
	due := c.reportLocked(r, rep, now)
	c.mu.Unlock()
	if due {
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}

func (r *Rollups) cluster(id string) *cluster {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.clusters[id]
	if c == nil {
		c = newCluster(id, len(r.plan.tallies))
		c.newestSeries.before = r.born + maxAhead.Milliseconds()
		r.clusters[id] = c
	}
	return c
}

// DeleteCluster gives a cluster's open intervals up, so that nothing is written
// of them once its samples are deleted, and forgets who sent. When it sends
// again, it begins anew.
func (r *Rollups) DeleteCluster(_ context.Context, id string) error {
	r.mu.Lock()
	c := r.clusters[id]
	r.mu.Unlock()
	if c == nil {
		return nil
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	for at := range c.open {
		c.closeLocked(at)
		r.metrics.dropped.WithLabelValues(reasonDeleted).Inc()
	}
	clear(c.senders)
	clear(c.nodes)
	clear(c.windows)
	for _, groups := range c.groups {
		for _, g := range groups {
			g.series = nil // or a stale marker would be written of it
		}
	}
	c.coverageRef, c.spare = 0, nil
	c.newestSeries.leaveToStore(r.opts.Now().Add(maxAhead).UnixMilli()) // what it has of before is deleted
	return nil
}

func (r *Rollups) openIntervals() float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, c := range r.clusters {
		c.mu.Lock()
		n += len(c.open)
		c.mu.Unlock()
	}
	return float64(n)
}

// Advance writes what is due and says when to look again at the latest. Run
// calls it; tests do so by hand. Nothing is written before the store was read.
func (r *Rollups) Advance(ctx context.Context) (next time.Time) {
	now := r.opts.Now()
	next = now.Add(time.Second)
	r.mu.Lock()
	ids := slices.Sorted(maps.Keys(r.clusters))
	ready := r.recovered
	r.mu.Unlock()
	if !ready {
		return next
	}
	for _, id := range ids {
		if ctx.Err() != nil {
			return next
		}
		if at := r.advanceCluster(ctx, r.cluster(id), now); at.Before(next) {
			next = at
		}
	}
	return next
}

func (r *Rollups) advanceCluster(ctx context.Context, c *cluster, now time.Time) (next time.Time) {
	nodes := r.opts.Expected.Nodes(c.id)
	c.writing.Lock()
	defer c.writing.Unlock()
	if err := r.ask(ctx, c); err != nil && ctx.Err() == nil {
		r.log.Warn("ask the store what it has of the past", "cluster", c.id, "err", err)
	}
	c.mu.Lock()
	c.sweepLocked(r, now)
	due, next := c.dueLocked(r, now, nodes)
	c.mu.Unlock()
	if len(due) == 0 {
		return next
	}
	began := r.opts.Now()
	if err := r.write(ctx, c, due); err != nil && ctx.Err() == nil {
		r.metrics.failures.Inc()
		r.log.Warn("write rollups", "cluster", c.id, "intervals", len(due), "err", err)
	}
	r.metrics.writeTime.Observe(r.opts.Now().Sub(began).Seconds())
	return next
}

// nodeSender is the sender of a node's collector.
func nodeSender(node string) string { return wire.Sender(wire.RoleNode, node) }

func isNodeSender(sender string) bool { return strings.HasPrefix(sender, wire.RoleNode+"/") }
