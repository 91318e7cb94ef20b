package push

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/crowsnest-dev/crowsnest/collector/queue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

const (
	// patience is how long a live batch may stay in memory alone. After that it
	// is on disk, whatever the attempt under way comes to. So nothing is synced
	// while the server answers as usual, and a kill loses three seconds at most
	// beside the interval that is being measured.
	patience = 3 * time.Second
	// liveBatches bounds what waits for its first attempt; more goes to disk.
	liveBatches = 8
	// drainTimeout bounds the last attempt when the collector ends.
	drainTimeout = 2 * time.Second
	// lateFor is how old samples may be and still count as live: late, not history.
	lateFor = time.Minute
	// ageMargin is how long before the server finds them too old samples go the
	// import way: its clock and the time of a request may differ from what is known.
	ageMargin = 10 * time.Minute
	// togetherFrom is how old a batch is at least that is sent together with others: no
	// alert waits for it.
	togetherFrom = 10 * time.Minute
	// wrongClock is how far off a clock's samples are flagged.
	wrongClock = time.Second

	contentTypeV2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
	contentTypeV1 = "application/x-protobuf"
	// headerWritten is what a receiver of remote write 2.0 must answer with.
	headerWritten = "X-Prometheus-Remote-Write-Samples-Written"
)

// Options of a Pusher.
type Options struct {
	Client *Client      // required
	Queue  *queue.Queue // required
	Path   string       // of the server's receiver; default wire.PathMetrics
	Logger *slog.Logger
	// ClockOffset is by how much this clock is ahead of the server's, if known;
	// default never.
	ClockOffset func() (time.Duration, bool)
	// Accept is how far back the server takes samples by Path, where it takes
	// older ones by wire.PathHistory; 0 where it does not or is not known.
	// Default 0.
	Accept func() time.Duration
	// Together says whether the server takes several intervals of a backlog in one
	// request; default never.
	Together   func() bool
	Registerer prometheus.Registerer
	Now        func() time.Time // default time.Now
}

// Pusher sends samples: live ones at once, those on disk behind them.
type Pusher struct {
	client  *Client
	queue   *queue.Queue
	path    string
	log     *slog.Logger
	now     func() time.Time
	metrics *metrics
	offset  func() (time.Duration, bool)
	accept  func() time.Duration
	// Of sendStored: what makes one request of several, of how many, and the last one
	// that it made, if that did not get through.
	together func() bool
	joint    *Together
	size     size
	kept     gathered

	live   chan *sealed
	stored chan struct{} // a batch went to disk

	encodeMu sync.Mutex
	encoder  *encoder

	mu        sync.Mutex
	v1        bool      // the server takes remote write 1.0 only
	timeless  bool      // the server does not tell its time
	notBefore time.Time // the server asked for quiet until then
	laterOn   time.Time // and until then for none of the backlog
	down      bool      // the last attempt did not reach it
	lastError string
	busy      int           // live attempts under way
	calm      chan struct{} // closed when busy is 0
}

// New checks the options and starts nothing.
func New(o Options) (*Pusher, error) {
	if o.Client == nil || o.Queue == nil {
		return nil, errors.New("push: Client and Queue are required")
	}
	if o.Path == "" {
		o.Path = wire.PathMetrics
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.ClockOffset == nil {
		o.ClockOffset = func() (time.Duration, bool) { return 0, false }
	}
	if o.Accept == nil {
		o.Accept = func() time.Duration { return 0 }
	}
	if o.Together == nil {
		o.Together = func() bool { return false }
	}
	calm := make(chan struct{})
	close(calm)
	return &Pusher{
		client: o.Client, queue: o.Queue, path: o.Path, log: o.Logger, now: o.Now, metrics: newMetrics(o.Registerer), offset: o.ClockOffset, accept: o.Accept, together: o.Together,
		live: make(chan *sealed, liveBatches), stored: make(chan struct{}, 1), encoder: newEncoder(), calm: calm,
	}, nil
}

// Push hands over a batch. It does not wait for the server. Samples are sealed
// before it returns, so the caller may use their memory again.
func (p *Pusher) Push(b Batch) error {
	if len(b.Samples) == 0 {
		return nil
	}
	p.encodeMu.Lock()
	requests, err := p.encoder.encode(b)
	p.encodeMu.Unlock()
	if err != nil {
		return err
	}
	for _, s := range requests {
		select {
		case p.live <- s:
		default: // attempts hang longer than intervals: the disk is the place to wait
			p.store(s)
		}
	}
	return nil
}

// Run sends until ctx ends. What was not acknowledged then is on disk.
func (p *Pusher) Run(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { p.sendLive(ctx); return nil })
	g.Go(func() error { p.sendStored(ctx); return nil })
	err := g.Wait()
	p.drain(context.WithoutCancel(ctx))
	return err
}

// Health says what waits.
func (p *Pusher) Health() wire.QueueHealth {
	h := healthOf(p.queue)
	p.mu.Lock()
	defer p.mu.Unlock()
	h.LastError = p.lastError
	return h
}

func healthOf(q *queue.Queue) wire.QueueHealth {
	n, bytes, oldest, dropped := q.Stats()
	age, most := q.Bounds()
	h := wire.QueueHealth{Batches: n, Bytes: bytes, OldestAt: oldest, Dropped: dropped, MaxBytes: most, MaxAge: int64(age / time.Second)}
	for _, d := range q.Drops() {
		h.Drops = append(h.Drops, wire.QueueDrop{Reason: d.Reason, Samples: d.Samples, From: d.From, To: d.To})
	}
	return h
}

func (p *Pusher) sendLive(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-p.live:
			p.sendOneLive(ctx, s)
		}
	}
}

// sendOneLive tries a batch once. It goes to disk when the attempt takes long or
// fails, and is removed again should the attempt succeed after all.
func (p *Pusher) sendOneLive(ctx context.Context, s *sealed) {
	if p.quiet(false) > 0 {
		p.store(s)
		return
	}
	p.begin()
	defer p.end()
	done := make(chan error, 1)
	one := s.item // store gives s another one
	go func() { done <- p.bring(ctx, one, s.body) }()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	var err error
	select {
	case err = <-done:
	case <-timer.C:
		p.store(s)
		err = <-done // ends by its own timeout or with ctx
	}
	switch {
	case err == nil:
		if s.onDisk {
			p.queue.Done(s.item)
		}
	case final(err):
		p.refuse(s, err)
	default:
		if !s.onDisk {
			p.store(s)
		}
	}
}

// store brings a batch to disk. A disk that fails leaves it to memory alone,
// and the batch is lost and counted.
func (p *Pusher) store(s *sealed) {
	item, err := p.queue.Put(s.item, s.body)
	if err != nil {
		p.log.Error("batch lost", "samples", s.item.Samples, "err", err)
		return
	}
	s.item, s.onDisk = item, true
	select {
	case p.stored <- struct{}{}:
	default:
	}
}

func (p *Pusher) refuse(s *sealed, err error) {
	p.log.Error("server refused samples for good", "samples", s.item.Samples, "from", s.item.First, "to", s.item.Last, "err", err)
	if s.onDisk {
		p.queue.Drop(s.item, queue.DropRefused)
	} else {
		p.queue.Count(s.item, queue.DropRefused)
	}
}

// sendStored sends what is on disk, one at a time, never beside a live attempt,
// and pausing as long as each took: what is live still first, so that a hiccup
// does not put it behind the backlog of hours, then the oldest.
func (p *Pusher) sendStored(ctx context.Context) {
	var wait backoff
	for {
		if !p.awaitCalm(ctx) {
			return
		}
		began := p.now()
		item, ok := p.queue.Next(began.Add(-lateFor))
		if !ok {
			p.joint, p.kept = nil, gathered{}
			select {
			case <-ctx.Done():
				return
			case <-p.stored:
				// Give a server that just failed a moment.
				if !sleep(ctx, wait.next(nil)) {
					return
				}
				continue
			}
		}
		// What is younger than two intervals is late, not history.
		history := began.Sub(item.Last) > max(2*item.Interval, lateFor)
		if q := p.quiet(history); q > 0 {
			if history {
				q = min(q, lateFor/4) // something live may come to be stored meanwhile
			}
			if !sleep(ctx, q) {
				return
			}
			continue // by now it may have been sent
		}
		if err := p.check(ctx, item, history); err != nil {
			if !sleep(ctx, wait.next(err)) {
				return
			}
			continue
		}
		g, err := p.again(item)
		if errors.Is(err, fault.ErrNotFound) {
			continue // a live attempt that had seemed to hang brought it after all
		}
		if err != nil {
			p.log.Warn("queued batch dropped", "err", err)
			continue
		}
		began = p.now()
		err = p.attempt(ctx, g.shipment, history)
		took := p.now().Sub(began)
		pause := max(20*time.Millisecond, took)
		if g.most > 0 {
			p.size.after(len(g.all), took, err)
		}
		switch {
		case err == nil:
			p.kept = gathered{}
			for _, one := range g.all {
				p.queue.Done(one)
			}
			wait = backoff{}
		case final(err) && len(g.all) > 1: // which of them it is about shows when they come alone
		case final(err):
			p.refuse(&sealed{item: item, onDisk: true}, err)
		default:
			if len(g.all) > 1 {
				p.kept = g
			}
			pause = wait.next(err)
		}
		if !sleep(ctx, pause) {
			return
		}
	}
}

// shipment is a request: a batch, or several with what all of them have.
type shipment struct {
	queue.Item
	earlier []time.Time // points that it completes before Through
	body    []byte
	ahead   time.Duration // what its times are to be righted by; 0 for right ones
	way     string        // the path that it goes
}

// ship makes a request of one batch. What it goes by is decided here, once: whatever is
// learned of the server's time afterwards, its times and its way fit each other.
func (p *Pusher) ship(item queue.Item, body []byte) shipment {
	s := shipment{Item: item, body: body}
	if off, known := p.offset(); item.Unchecked && known && off.Abs() > wrongClock {
		s.ahead = off
	}
	s.way = p.way(item, s.ahead)
	return s
}

// gathered is a request of the backlog with the batches that are in it.
type gathered struct {
	shipment
	all  []queue.Item
	most int // batches that it might have had; 0 for one that is of its batch alone
}

// again gives the request that begins with a batch: the last one, if that did not get
// through and would become the same, so that a server that is away costs no work.
func (p *Pusher) again(first queue.Item) (gathered, error) {
	k := &p.kept
	if len(k.all) > 1 && k.all[0].Sequence == first.Sequence && k.most == p.size.batches() && !first.Unchecked && p.together() && p.way(k.Item, 0) == k.way {
		return *k, nil
	}
	body, err := p.queue.Read(first)
	if err != nil {
		return gathered{}, err
	}
	return p.gather(first, body), nil
}

// gather makes a request of a batch of the backlog and those behind it.
func (p *Pusher) gather(first queue.Item, body []byte) gathered {
	alone := gathered{shipment: p.ship(first, body), all: []queue.Item{first}}
	border := p.now().Add(-togetherFrom)
	fits := func(one queue.Item) bool {
		return one.Last.Before(border) && one.Unchecked == first.Unchecked && one.Interval == first.Interval && p.way(one, alone.ahead) == p.path
	}
	if !p.together() || p.path != wire.PathMetrics || !fits(first) {
		return alone
	}
	alone.most = p.size.batches()
	if alone.most == 1 {
		return alone
	}
	if p.joint == nil {
		p.joint = &Together{}
	}
	p.joint.Reset()
	if _, err := p.joint.Add(body); err != nil {
		return alone
	}
	g := alone
	for len(g.all) < g.most {
		next, ok := p.queue.After(g.all[len(g.all)-1])
		if !ok || !fits(next) || !next.Through.IsZero() && !next.Through.After(g.Through) {
			break
		}
		more, err := p.queue.Read(next)
		if err != nil { // it is dropped, or was sent meanwhile
			break
		}
		if ok, err = p.joint.Add(more); err != nil {
			p.log.Warn("queued batch is sent alone", "err", err)
			return alone
		}
		if !ok {
			break
		}
		g.all = append(g.all, next)
		g.add(next)
	}
	if len(g.all) > 1 {
		g.body = p.joint.Body()
	}
	return g
}

// add notes what a batch brings that is sent, too.
func (s *shipment) add(next queue.Item) {
	if next.First.Before(s.First) {
		s.First = next.First
	}
	if next.Last.After(s.Last) {
		s.Last = next.Last
	}
	s.Samples += next.Samples
	if !next.Through.IsZero() {
		if !s.Through.IsZero() {
			s.earlier = append(s.earlier, s.Through)
		}
		s.Through = next.Through
	}
}

// bring sends a batch that did not wait.
func (p *Pusher) bring(ctx context.Context, item queue.Item, body []byte) error {
	if err := p.check(ctx, item, false); err != nil {
		return err
	}
	return p.attempt(ctx, p.ship(item, body), false)
}

// attempt sends one request, in the older version if the server wants that.
func (p *Pusher) attempt(ctx context.Context, item shipment, backlog bool) error {
	p.mu.Lock()
	v1 := p.v1
	p.mu.Unlock()
	began := p.now()
	written, err := p.post(ctx, item, backlog, v1)
	var r *refusal
	switch {
	case v1:
	case errors.As(err, &r) && r.status == http.StatusUnsupportedMediaType, err == nil && !written:
		// A receiver of 1.0 only, or one that took the body for 1.0 and found nothing in it.
		p.mu.Lock()
		p.v1 = true
		p.mu.Unlock()
		p.log.Info("server takes remote write 1.0 only", "server", p.client.Server())
		_, err = p.post(ctx, item, backlog, true)
	}
	p.note(item.Item, err, p.now().Sub(began), backlog)
	return err
}

// check asks the server's time before the first samples that nobody held against
// it are sent: from too far ahead they would be refused.
func (p *Pusher) check(ctx context.Context, item queue.Item, backlog bool) error {
	if _, known := p.offset(); known || !item.Unchecked {
		return nil
	}
	p.mu.Lock()
	timeless := p.timeless
	p.mu.Unlock()
	if timeless {
		return nil
	}
	if err := p.client.askTime(ctx); err != nil {
		p.note(item, err, 0, backlog)
		return err
	}
	if _, known := p.offset(); !known {
		p.mu.Lock()
		p.timeless = true
		p.mu.Unlock()
	}
	return nil
}

func (p *Pusher) post(ctx context.Context, s shipment, backlog, v1 bool) (written bool, err error) {
	h := http.Header{}
	item, earlier, body := s.Item, s.earlier, s.body
	if s.ahead != 0 {
		if item, body, err = restamp(item, body, s.ahead); err != nil {
			return false, err
		}
		earlier = nil
		for _, at := range s.earlier {
			earlier = append(earlier, righted(at, item.Interval, s.ahead))
		}
		h.Set(wire.HeaderClockOffset, strconv.FormatFloat(s.ahead.Seconds(), 'f', 3, 64))
	}
	h.Set("Content-Encoding", "snappy")
	h.Set("Content-Type", contentTypeV2)
	h.Set("X-Prometheus-Remote-Write-Version", "2.0.0")
	if v1 {
		if body, err = toV1(body); err != nil {
			return false, err
		}
		h.Set("Content-Type", contentTypeV1)
		h.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	}
	h.Set(wire.HeaderInterval, strconv.Itoa(int(item.Interval/time.Second)))
	if !item.Through.IsZero() {
		h.Set(wire.HeaderComplete, wire.FormatMillis(item.Through))
	}
	if len(earlier) > 0 {
		h.Set(wire.HeaderEarlier, wire.FormatEarlier(earlier))
	}
	if backlog {
		h.Set(wire.HeaderBacklog, "true")
	}
	answer, _, err := p.client.do(ctx, http.MethodPost, p.client.URL(s.way), h, body)
	return answer.Get(headerWritten) != "", err
}

// way is the path by which the server takes samples of a time, which is righted by
// ahead: for what it is about to find too old, the import way.
func (p *Pusher) way(item queue.Item, ahead time.Duration) string {
	first := item.First
	if ahead != 0 {
		first = righted(first, item.Interval, ahead)
	}
	if accept := p.accept(); accept > 0 && p.now().Sub(first) > accept-min(ageMargin, accept/10) {
		return wire.PathHistory
	}
	return p.path
}

// note keeps how the last attempt went, and logs when that changes.
func (p *Pusher) note(item queue.Item, err error, took time.Duration, backlog bool) {
	result := "ok"
	var r *refusal
	throttled := backlog && errors.As(err, &r) && (r.status == http.StatusTooManyRequests || r.status == http.StatusServiceUnavailable)
	switch {
	case throttled:
		result = "throttled"
	case err == nil:
		p.metrics.samples.WithLabelValues(fmt.Sprint(backlog)).Add(float64(item.Samples))
	case final(err):
		result = "refused"
	default:
		result = "failed"
	}
	p.metrics.attempts.WithLabelValues(result).Inc()
	p.metrics.seconds.Observe(took.Seconds())

	p.mu.Lock()
	defer p.mu.Unlock()
	if throttled {
		// The server takes its time for the past; live data are another matter.
		p.laterOn = p.now().Add(max(r.after, time.Second))
		return
	}
	if errors.As(err, &r) && r.after > 0 {
		p.notBefore = p.now().Add(r.after)
	}
	failed := err != nil && !final(err)
	text := ""
	if err != nil {
		text = err.Error()
	}
	if failed && (!p.down || text != p.lastError) {
		p.log.Warn("server does not take samples", "server", p.client.Server(), "err", err)
	}
	if !failed && p.down {
		p.log.Info("server takes samples again", "server", p.client.Server())
	}
	p.down, p.lastError = failed, text
}

// quiet is how long the server asked to be left alone, with history or at all.
func (p *Pusher) quiet(history bool) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	until := p.notBefore
	if history && p.laterOn.After(until) {
		until = p.laterOn
	}
	return until.Sub(p.now())
}

func (p *Pusher) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy == 0 {
		p.calm = make(chan struct{})
	}
	p.busy++
}

func (p *Pusher) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy--; p.busy == 0 {
		close(p.calm)
	}
}

func (p *Pusher) awaitCalm(ctx context.Context) bool {
	p.mu.Lock()
	calm := p.calm
	p.mu.Unlock()
	select {
	case <-ctx.Done():
		return false
	case <-calm:
		return true
	}
}

// drain tries what had no attempt yet once more, and keeps it on disk otherwise.
func (p *Pusher) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	for {
		select {
		case s := <-p.live:
			if ctx.Err() != nil || p.bring(ctx, s.item, s.body) != nil {
				p.store(s)
			}
		default:
			return
		}
	}
}
