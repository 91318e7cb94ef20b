// Package ingest owns the way of samples from a request to the store: remote
// write 1.0 and 2.0, the cluster label, limits, the samples' way past the
// rollups, and who is told that they arrived. It must not know who may send
// (api does) nor what an alert is.
package ingest

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/golang/snappy"
	"github.com/klauspost/compress/zstd"
	remoteapi "github.com/prometheus/client_golang/exp/api/remote"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
	"github.com/crowsnest-dev/crowsnest/storage/rollup"
)

// maxInterval bounds what a sender may say its interval is.
const maxInterval = 2 * time.Minute

// Store takes samples. ReadOnly is asked before each request: nil while samples
// can be stored, else a fault.ErrUnavailable that says why not.
type Store interface {
	storage.Queryable
	storage.Appendable
	ReadOnly() error
}

// Arrival says that a request of a sender was committed.
type Arrival struct {
	Cluster    string
	Sender     string        // empty when it is no collector of ours
	Through    time.Time     // up to here the sender has sent everything; zero after changes between two grid points
	Interval   time.Duration // the sender's; zero when unknown
	Backlog    bool          // it waited in the sender's queue: it completes history
	ReceivedAt time.Time     // by the server's clock
	// Part says of a request without Through that all of it lies on the interval's grid:
	// it is no change, and more of its interval is on the way.
	Part bool
	// Changed are the series that were written to, some twice, when Through is zero, it is
	// no Part and they are not more than maxNamed; nil: any of the sender's may have been.
	// Newest is the time of the newest sample when Through is zero.
	Changed []labels.Labels
	Newest  time.Time
	// Watch is what was watched when the request came, and Odd are the series that it
	// brought something odd of, OddUntil the time of the newest such sample; a nil Watch:
	// any may have been odd.
	Watch    *Watch
	Odd      []labels.Labels
	OddUntil time.Time
}

const (
	// maxNamed series are named by an Arrival. In a cluster of 5,000 nodes of whose pods
	// 1 % are replaced a minute some thousands change while an interval is on its way.
	maxNamed = 10_000
	// maxOnGrid of them may have been written to before one that lies off the grid: of a
	// part of an interval none is named.
	maxOnGrid = 1000
)

// Options of an ingester.
type Options struct {
	Store   Store           // required
	History Store           // of samples that are older than Limits.Behind; nil takes none
	Rollups *rollup.Rollups // default none
	Limits  Limits
	// Arrived is called after the commit of each request that stored something,
	// concurrently, and must not block.
	Arrived func(Arrival)
	// Watched gives what arrivals tell of by name because it is odd; default nothing. It is
	// asked once for each request.
	Watched    func() *Watch
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	Now        func() time.Time // default time.Now
}

func (o *Options) complete() error {
	var errs []error
	if o.Store == nil {
		errs = append(errs, errors.New("ingest: Store is required"))
	}
	errs = append(errs, o.Limits.complete())
	if o.Arrived == nil {
		o.Arrived = func(Arrival) {}
	}
	if o.Watched == nil {
		o.Watched = func() *Watch { return nil }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return errors.Join(errs...)
}

// Ingester takes writes. It may be called concurrently.
type Ingester struct {
	opts    Options
	limits  Limits
	metrics *ownMetrics
	log     *slog.Logger
	hash    hasher
	buffers sync.Pool // of *[]byte, for bodies
	feeds   sync.Pool // of *[]rollup.Sample, for what a request brings the rollups
	// Decoded bodies, by protocol: *message1 and *message2.
	messages1, messages2 sync.Pool
	zstd, zstdSmall      sync.Pool // of *zstd.Decoder; of those for no more than smallBytes

	requests chan struct{} // a place for each request worked on
	large    chan struct{} // for each of these that takes much memory
	backlog  *turns
	numbers  atomic.Uint32 // of requests, by which series have their places

	mu       sync.Mutex
	clusters map[string]*cluster
}

// New makes an ingester.
func New(o Options) (*Ingester, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	return &Ingester{
		opts: o, limits: o.Limits, metrics: newMetrics(o.Registerer), log: o.Logger, hash: newHasher(),
		requests: make(chan struct{}, o.Limits.Requests), large: make(chan struct{}, o.Limits.LargeRequests), backlog: newTurns(o.Limits.BacklogRequests, o.Limits.BacklogWaiting),
		clusters: map[string]*cluster{},
	}, nil
}

func (i *Ingester) cluster(id string) *cluster {
	i.mu.Lock()
	defer i.mu.Unlock()
	if c := i.clusters[id]; c != nil {
		return c
	}
	c := &cluster{
		id: id, senders: map[string]sender{}, swept: i.opts.Now(), refused: map[string]*counter{},
		samples: &counter{metric: i.metrics.samples.WithLabelValues(id)}, bytes: &counter{metric: i.metrics.bytes.WithLabelValues(id)},
		created: &counter{metric: i.metrics.created.WithLabelValues(id)}, unreported: &counter{metric: i.metrics.unreported.WithLabelValues(id)},
		wrongClock:  &counter{metric: i.metrics.wrongClock.WithLabelValues(id)},
		activeGauge: i.metrics.active.WithLabelValues(id), throttled: map[string]*counter{},
	}
	for n := range c.shards {
		c.shards[n].series = map[uint64]*series{}
	}
	c.moves.last = map[*series]had{}
	for _, r := range sampleReasons {
		c.refused[r] = &counter{metric: i.metrics.refused.WithLabelValues(id, r)}
	}
	for _, r := range throttleReasons {
		c.throttled[r] = &counter{metric: i.metrics.throttled.WithLabelValues(id, r)}
	}
	i.clusters[id] = c
	return c
}

// about is what the headers say.
type about struct {
	sender   string
	interval time.Duration // 0 when there is none
	through  time.Time     // zero when there is none
	earlier  []time.Time   // points of a backlog before it that the request completes, too, in their order
	backlog  bool
	// clockAhead is by how much the sender's clock was ahead when it stamped the
	// samples, where that was not corrected; 0 for a right one.
	clockAhead time.Duration
}

// readHeaders gives fault.ErrMalformed for headers that mean nothing. Requests
// without any of them are taken, too: any remote write client may send.
func (i *Ingester) readHeaders(h http.Header, now time.Time) (a about, err error) {
	malformed := func(name, why string) error {
		return fmt.Errorf("header %s: %q %s: %w", name, clip(h.Get(name), 64), why, fault.ErrMalformed)
	}
	if v := h.Get(wire.HeaderVersion); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || !wire.Accepts(n) {
			return a, malformed(wire.HeaderVersion, fmt.Sprintf("is a version that this server (%d) does not take; update the older side", wire.Version))
		}
	}
	a.sender = h.Get(wire.HeaderSender)
	if len(a.sender) > 300 || !utf8.ValidString(a.sender) {
		return a, malformed(wire.HeaderSender, "must be at most 300 bytes of UTF-8")
	}
	if v := h.Get(wire.HeaderInterval); v != "" {
		n, err := strconv.Atoi(v)
		a.interval = time.Duration(n) * time.Second
		if err != nil || n < 1 || a.interval > maxInterval {
			return a, malformed(wire.HeaderInterval, fmt.Sprintf("must be whole seconds from 1 to %d", int(maxInterval/time.Second)))
		}
	}
	a.backlog = h.Get(wire.HeaderBacklog) == "true"
	if v := h.Get(wire.HeaderClockOffset); v != "" {
		seconds, err := strconv.ParseFloat(v, 64)
		if err != nil || !(math.Abs(seconds) < 1e9) {
			return a, malformed(wire.HeaderClockOffset, "must be seconds")
		}
		a.clockAhead = time.Duration(seconds * float64(time.Second))
	}
	if h.Get(wire.HeaderComplete) == "" {
		return a, nil
	}
	a.through, err = wire.ParseMillis(h.Get(wire.HeaderComplete))
	switch {
	case err != nil:
		return a, malformed(wire.HeaderComplete, "must be Unix milliseconds")
	case a.sender == "" || a.interval == 0:
		return a, malformed(wire.HeaderComplete, fmt.Sprintf("needs %s and %s", wire.HeaderSender, wire.HeaderInterval))
	case a.through.UnixMilli() <= 0 || a.through.UnixMilli()%a.interval.Milliseconds() != 0:
		return a, malformed(wire.HeaderComplete, "must be a multiple of the interval")
	case a.through.After(now.Add(i.limits.Ahead)):
		return a, malformed(wire.HeaderComplete, fmt.Sprintf("is more than %v ahead of the server's clock", i.limits.Ahead))
	}
	if a.earlier, err = wire.ParseEarlier(h.Get(wire.HeaderEarlier)); err != nil {
		return a, malformed(wire.HeaderEarlier, fmt.Sprintf("must be Unix milliseconds with commas between, at most %d", wire.MaxEarlier))
	}
	for n, at := range a.earlier {
		next := a.through
		if n+1 < len(a.earlier) {
			next = a.earlier[n+1]
		}
		if !a.backlog || at.UnixMilli() <= 0 || at.UnixMilli()%a.interval.Milliseconds() != 0 || !at.Before(next) {
			return a, malformed(wire.HeaderEarlier, fmt.Sprintf("must be multiples of the interval in ascending order, before %s, of a backlog", wire.HeaderComplete))
		}
	}
	return a, nil
}

// knows says whether the sender of a request is one of the cluster's, or may become
// one, and notes how far its backlog is.
func (c *cluster) knows(a about, now time.Time, limit int) bool {
	if a.sender == "" {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.senders[a.sender]
	if !ok && len(c.senders) >= limit {
		return false
	}
	if a.backlog && !a.through.IsZero() {
		s.far = a.through
	}
	s.heard = now
	c.senders[a.sender] = s
	return true
}

// far is up to when a request of backlog goes: where an interval comes in parts, only
// the last of them says so, and the others go by the interval before it.
func (c *cluster) far(a about) time.Time {
	if !a.through.IsZero() {
		return a.through
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.senders[a.sender].far
}

// ServeWrite takes a remote write request, 1.0 or 2.0, for the cluster that the
// caller's credential stands for; whatever cluster label the series carry is
// overwritten. Acknowledged means: in the store's log.
//
// 204 stored. 400 with a text that names each reason and the first series that
// it hit: malformed (nothing stored), or some samples refused and the rest
// stored, as remote write 2.0 has it. 413 too large, 415 not a remote write
// body, 408 not sent in time, 429 and 503 with Retry-After: nothing stored,
// send it again.
func (i *Ingester) ServeWrite(w http.ResponseWriter, r *http.Request, clusterID string) {
	i.serveTo(w, r, clusterID, false)
}

// ServeHistory is ServeWrite for samples that are too old for it: the import way.
// They are acknowledged when they are in a log of their own, and can be read when
// blocks were made of it. No alert hears of them.
func (i *Ingester) ServeHistory(w http.ResponseWriter, r *http.Request, clusterID string) {
	i.serveTo(w, r, clusterID, true)
}

func (i *Ingester) serveTo(w http.ResponseWriter, r *http.Request, clusterID string, history bool) {
	began := i.opts.Now()
	result := i.serve(w, r, clusterID, history, began)
	i.metrics.requests.WithLabelValues(result).Inc()
	i.metrics.seconds.Observe(i.opts.Now().Sub(began).Seconds())
}

func (i *Ingester) serve(w http.ResponseWriter, r *http.Request, clusterID string, history bool, now time.Time) (result string) {
	if history && i.opts.History == nil {
		return refuse(w, http.StatusNotFound, resultMalformed, "this server takes no samples that are older than its out-of-order window")
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return refuse(w, http.StatusMethodNotAllowed, resultMalformed, "only POST writes")
	}
	given := r.Header.Get("Content-Type")
	if given == "" {
		given = "application/x-protobuf"
	}
	kind, err := remoteapi.ParseProtoMsg(given)
	if err != nil {
		return refuse(w, http.StatusUnsupportedMediaType, resultMalformed, clip(err.Error(), 512))
	}
	enc := r.Header.Get("Content-Encoding")
	if enc != "" && enc != "snappy" && enc != "zstd" {
		return refuse(w, http.StatusUnsupportedMediaType, resultMalformed, fmt.Sprintf("the body is compressed as %q, only snappy and zstd are taken", clip(enc, 64)))
	}
	q, done, result := i.admit(w, r, clusterID, history, now)
	if q == nil {
		return result
	}
	defer done()
	packed, buf := i.buffer(), i.buffer()
	defer i.keepBuffer(packed)
	defer i.keepBuffer(buf)
	body, result := i.body(w, r, q, *packed)
	if body == nil {
		return result
	}
	*packed = body
	raw, err := i.unpack(*buf, body, enc, func() error { return q.grow(r.Context()) })
	if err != nil {
		return refuseBody(w, err, "")
	}
	*buf = raw
	m, decoded, err := i.decode(kind, raw, q.memory(r.Context(), len(body)+len(raw)))
	defer decoded()
	if err != nil {
		return refuseBody(w, err, fmt.Sprintf("the body is no %s: ", kind))
	}
	later := q.later()
	if most := i.limits.SamplesPerSecond * rateBacklog; most > 0 && later && len(q.earlier) > 0 && m.samples() > most {
		return refuse(w, http.StatusRequestEntityTooLarge, resultTooLarge,
			fmt.Sprintf("%d samples of several intervals are more than cluster %q, with the limit of %d samples a second, may bring at once: %d; send fewer intervals in one request",
				m.samples(), clusterID, i.limits.SamplesPerSecond, most))
	}
	if wait := q.c.take(now, m.samples(), i.limits.SamplesPerSecond, later); wait > 0 {
		return q.overRate(w, wait)
	}
	feed, _ := i.feeds.Get().(*[]rollup.Sample)
	if feed == nil {
		feed = new([]rollup.Sample)
	}
	q.feed = (*feed)[:0]
	defer func() {
		if *feed = q.feed; cap(q.feed)*int(unsafe.Sizeof(rollup.Sample{})) <= keptBytes {
			i.feeds.Put(feed)
		}
	}()
	i.write(r.Context(), q, m)
	if q.committed {
		i.after(q)
	}
	if kind == remoteapi.WriteV2MessageType {
		for name, n := range map[string]int{writtenSamples: q.floats, writtenHistograms: q.histograms, writtenExemplars: q.exemplars} {
			if !q.committed {
				n = 0
			}
			w.Header().Set(name, strconv.Itoa(n))
		}
	}
	return i.answer(w, q, http.StatusNoContent)
}

// unpack decompresses a body into buf's memory. fault.ErrTooLarge for one that
// would become larger than the limit, which is found before it has. Before it becomes
// a large one it calls grow, whose error it gives.
func (i *Ingester) unpack(buf, body []byte, enc string, grow func() error) ([]byte, error) {
	limit := i.limits.DecompressedBytes
	if enc != "zstd" {
		n, err := snappy.DecodedLen(body)
		if err != nil {
			return nil, fmt.Errorf("the body is not compressed as snappy block: %w", err)
		}
		if int64(n) > limit {
			return nil, fmt.Errorf("the body has %d bytes when decompressed, the limit is %d: %w", n, limit, fault.ErrTooLarge)
		}
		if n > smallBytes {
			if err := grow(); err != nil {
				return nil, err
			}
		}
		raw, err := snappy.Decode(buf[:cap(buf)], body)
		if err != nil {
			return nil, fmt.Errorf("the body cannot be decompressed: %w", err)
		}
		return raw, nil
	}
	// How large it becomes the body need not say, and may say wrongly. Where it says that it becomes a
	// large one, as what was compressed in one go does, the first decoder gives up before it begins.
	raw, err := unzstd(&i.zstdSmall, min(limit, smallBytes), buf, body)
	if limit > smallBytes && tooLargeZstd(err) {
		if err := grow(); err != nil {
			return nil, err
		}
		raw, err = unzstd(&i.zstd, limit, buf, body)
	}
	switch {
	case tooLargeZstd(err):
		return nil, fmt.Errorf("the body has more than the limit of %d bytes when decompressed: %w", limit, fault.ErrTooLarge)
	case err != nil:
		return nil, fmt.Errorf("the body cannot be decompressed as zstd: %w", err)
	}
	return raw, nil
}

func tooLargeZstd(err error) bool {
	return errors.Is(err, zstd.ErrDecoderSizeExceeded) || errors.Is(err, zstd.ErrWindowSizeExceeded)
}

// unzstd decompresses a body into buf's memory with a decoder of a pool, all of which have the same limit.
func unzstd(pool *sync.Pool, limit int64, buf, body []byte) ([]byte, error) {
	d, ok := pool.Get().(*zstd.Decoder)
	if !ok {
		var err error
		if d, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(limit)), zstd.WithDecoderLowmem(true)); err != nil {
			return nil, err
		}
	}
	defer pool.Put(d)
	return d.DecodeAll(body, buf[:0])
}

// admit lets a request in, or answers it: whatever is told to come again is
// told so here, or by the cluster's rate, before anything is stored.
func (i *Ingester) admit(w http.ResponseWriter, r *http.Request, clusterID string, history bool, now time.Time) (q *request, done func(), result string) {
	store, behind := i.opts.Store, i.limits.Behind
	if history {
		store, behind = i.opts.History, i.limits.HistoryBehind
	}
	if err := store.ReadOnly(); err != nil {
		return nil, nil, refuse(w, http.StatusServiceUnavailable, resultUnavailable, err.Error())
	}
	head, err := i.readHeaders(r.Header, now)
	if err != nil {
		return nil, nil, refuse(w, http.StatusBadRequest, resultMalformed, err.Error())
	}
	c := i.cluster(clusterID)
	comeAgain := func(why string, places int, what string) string {
		c.throttled[why].add(1)
		return refuse(w, http.StatusTooManyRequests, resultLimited, fmt.Sprintf("%d %s are worked on already", places, what))
	}
	done = func() {}
	if head.backlog || history {
		if !i.backlog.take(r.Context(), i.limits.BacklogWait, c.far(head)) {
			return nil, nil, comeAgain(throttledBacklog, i.limits.BacklogRequests, "writes of backlog")
		}
		done = i.backlog.give
	}
	select {
	case i.requests <- struct{}{}:
		giveBack := done
		done = func() { <-i.requests; giveBack() }
	default:
		done()
		return nil, nil, comeAgain(throttledBusy, i.limits.Requests, "writes")
	}
	if !c.knows(head, now, i.limits.SendersPerCluster) {
		done()
		return nil, nil, refuse(w, http.StatusBadRequest, resultMalformed,
			fmt.Sprintf("cluster %q has the limit of %d senders already; %q is refused", clusterID, i.limits.SendersPerCluster, head.sender))
	}
	var watching *Watch
	if !history { // of which no alert hears
		watching = i.opts.Watched()
	}
	q = &request{
		i: i, number: i.numbers.Add(1), c: c, about: head, now: now, store: store, history: history, behind: behind, watching: watching,
		minTime: now.Add(-behind).UnixMilli(), maxTime: now.Add(i.limits.Ahead).UnixMilli(),
	}
	places := done
	return q, func() { q.shrink(); places() }, ""
}

// later says whether a request brings what has waited, which takes one of the few places for
// that.
func (q *request) later() bool { return q.backlog || q.history }

// buffer gives memory for a body.
func (i *Ingester) buffer() *[]byte {
	if b, ok := i.buffers.Get().(*[]byte); ok {
		return b
	}
	return new([]byte)
}

func (i *Ingester) keepBuffer(b *[]byte) {
	if cap(*b) <= keptBytes {
		i.buffers.Put(b)
	}
}

// body reads a body as sent into buf's memory, or answers; it is nil then.
func (i *Ingester) body(w http.ResponseWriter, r *http.Request, q *request, buf []byte) (body []byte, result string) {
	into := bytes.NewBuffer(buf[:0])
	// A collector's: where a site's network is cut, nothing says so, and its uploads would keep all places.
	timed := (q.later() || q.sender != "") && http.NewResponseController(w).SetReadDeadline(time.Now().Add(i.limits.Upload)) == nil // until its end
	_, err := into.ReadFrom(http.MaxBytesReader(w, r.Body, i.limits.CompressedBytes))
	if body = into.Bytes(); body == nil {
		body = []byte{}
	}
	var tooBig *http.MaxBytesError
	switch {
	case errors.As(err, &tooBig):
		return nil, refuse(w, http.StatusRequestEntityTooLarge, resultTooLarge, fmt.Sprintf("the body is larger than the limit of %d bytes", i.limits.CompressedBytes))
	case timed && errors.Is(err, os.ErrDeadlineExceeded):
		q.c.throttled[throttledUpload].add(1)
		return nil, refuse(w, http.StatusRequestTimeout, resultLimited, fmt.Sprintf("the body did not arrive within %v; send less in one request", i.limits.Upload))
	case err != nil:
		return nil, refuse(w, http.StatusBadRequest, resultMalformed, "the body ended too early: "+err.Error())
	}
	q.c.bytes.add(len(body))
	return body, ""
}

// take asks for n samples of the cluster's rate, which are spare if nobody waits for them;
// wait is 0 when it has them.
func (c *cluster) take(now time.Time, n, perSecond int, spare bool) (wait time.Duration) {
	if perSecond == 0 {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if spare {
		return c.rate.takeSpare(now, n, perSecond)
	}
	return c.rate.take(now, n, perSecond)
}

// overRate answers a request for which nothing of the cluster's rate is left.
func (q *request) overRate(w http.ResponseWriter, wait time.Duration) (result string) {
	q.c.throttled[throttledRate].add(1)
	return refuseFor(w, wait, http.StatusTooManyRequests, resultLimited,
		fmt.Sprintf("cluster %q has the limit of %d samples a second, and has used it up", q.c.id, q.i.limits.SamplesPerSecond))
}

// after tells rollups and whoever waits for arrivals.
func (i *Ingester) after(q *request) {
	if len(q.feed) > 0 && q.interval == 0 {
		q.c.unreported.add(len(q.feed))
	}
	if i.opts.Rollups != nil && q.bypassed > 0 {
		i.opts.Rollups.Bypassed(q.c.id, q.bypassed)
	}
	if i.opts.Rollups != nil && !q.history { // which is summed when its blocks are made
		i.opts.Rollups.Pass(q.c.id, q.passed)
		i.opts.Rollups.Add(q.c.id, q.interval, q.feed)
		for _, at := range q.earlier { // the last one completes all before it
			i.opts.Rollups.Report(rollup.Report{Cluster: q.c.id, Sender: q.sender, Through: at, Interval: q.interval})
		}
		if !q.through.IsZero() {
			i.opts.Rollups.Report(rollup.Report{Cluster: q.c.id, Sender: q.sender, Through: q.through, Interval: q.interval, Backlog: q.backlog})
		}
	}
	if i.opts.Rollups != nil && q.history && !q.through.IsZero() {
		for _, at := range q.earlier {
			i.opts.Rollups.Imported(q.c.id, at)
		}
		i.opts.Rollups.Imported(q.c.id, q.through)
	}
	q.c.samples.add(q.stored)
	if q.clockAhead != 0 {
		q.c.wrongClock.add(q.stored)
	}
	q.c.mu.Lock()
	q.c.rate.count(q.now, q.stored)
	q.c.mu.Unlock()
	q.c.activeGauge.Set(float64(q.c.active.Load()))
	q.c.sweep(q.now, i.releaser(q.c))
	if (q.stored > 0 || !q.through.IsZero()) && !q.history {
		a := Arrival{
			Cluster: q.c.id, Sender: q.sender, Through: q.through, Interval: q.interval, Backlog: q.backlog, ReceivedAt: q.now,
		}
		if q.through.IsZero() && q.newest > 0 {
			a.Newest, a.Part = time.UnixMilli(q.newest).UTC(), q.interval > 0 && !q.between
			if !a.Part && !q.unnamed {
				a.Changed = q.named
			}
		}
		if odd, newest, ok := q.told(); ok {
			a.Watch, a.Odd, a.OddUntil = q.watching, odd, newest
		}
		for _, at := range q.earlier {
			one := a
			one.Through = at
			i.opts.Arrived(one)
		}
		i.opts.Arrived(a)
	}
}

// Headers by which remote write 2.0 tells what was written.
const (
	writtenSamples    = "X-Prometheus-Remote-Write-Samples-Written"
	writtenHistograms = "X-Prometheus-Remote-Write-Histograms-Written"
	writtenExemplars  = "X-Prometheus-Remote-Write-Exemplars-Written"
)

// answer tells what became of a request that was admitted; ok is the status of
// one that was stored whole.
func (i *Ingester) answer(w http.ResponseWriter, q *request, ok int) (result string) {
	switch {
	case q.abort != nil:
		return refuse(w, http.StatusRequestEntityTooLarge, resultTooLarge, q.abort.Error())
	case q.failed != nil:
		i.log.Error("store samples", "cluster", q.c.id, "sender", q.sender, "err", q.failed)
		return refuse(w, http.StatusServiceUnavailable, resultUnavailable, q.failed.Error())
	case len(q.refused) > 0:
		return refuse(w, http.StatusBadRequest, resultPartial, clip(q.explain(), 8<<10))
	}
	w.WriteHeader(ok)
	return resultStored
}

func refuse(w http.ResponseWriter, status int, result, text string) string {
	return refuseFor(w, 5*time.Second, status, result, text)
}

// refuseBody answers for a body that was not decompressed or decoded; what is said of a malformed
// one before why it is.
func refuseBody(w http.ResponseWriter, err error, malformed string) string {
	switch {
	case errors.Is(err, fault.ErrTooLarge):
		return refuse(w, http.StatusRequestEntityTooLarge, resultTooLarge, err.Error())
	case errors.Is(err, fault.ErrLimited):
		return refuse(w, http.StatusTooManyRequests, resultLimited, err.Error())
	default:
		return refuse(w, http.StatusBadRequest, resultMalformed, malformed+clip(err.Error(), 4096))
	}
}

// refuseFor says when to come again, where the status asks to.
func refuseFor(w http.ResponseWriter, wait time.Duration, status int, result, text string) string {
	if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", strconv.Itoa(int((wait+time.Second-1)/time.Second)))
	}
	http.Error(w, text, status)
	return result
}

// clip cuts a text for an answer.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}
