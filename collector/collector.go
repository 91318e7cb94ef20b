package collector

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/crowsnest-dev/crowsnest/collector/compute"
	"github.com/crowsnest-dev/crowsnest/collector/control"
	"github.com/crowsnest-dev/crowsnest/collector/push"
	"github.com/crowsnest-dev/crowsnest/collector/queue"
	"github.com/crowsnest-dev/crowsnest/collector/reading"
	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/config"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// DefaultInterval is in force unless the server or the local configuration says
// another one.
const DefaultInterval = 30 * time.Second

// Intervals lists the intervals that there are.
var Intervals = []time.Duration{10 * time.Second, 15 * time.Second, 30 * time.Second, 60 * time.Second}

const (
	// gatherChanges is how long state changes are gathered before their samples
	// are sent.
	gatherChanges = 100 * time.Millisecond
	// warmFor bounds the first reading, which only serves to have rates sooner.
	warmFor = 5 * time.Second
	// grace is how long after its grid point an interval still waits for sources.
	grace = 2 * time.Second

	// Less would drop what a short restart of the server leaves waiting.
	minQueueAge   = 10 * time.Minute
	minQueueBytes = 16 << 20
)

// Options of a Collector.
type Options struct {
	Role string // wire.RoleNode, RoleCluster or RoleAll; required
	Node string // name of the node; required in role node

	// Client talks to the server; where it is nil, one is made of Server, Token,
	// TokenFile and CAFile.
	Client    *push.Client
	Server    string
	Token     config.Secret
	TokenFile string
	CAFile    string

	// Interval overrides what the server says; zero means DefaultInterval until
	// the server says another.
	Interval time.Duration
	World    World         // required
	QueueDir string        // where batches wait; required
	QueueAge time.Duration // overrides what the server says; default 24 h. Never more than the server accepts
	QueueMax int64         // bytes; overrides what the server says; default 1 GiB
	// Lacking names catalogue metrics that the world can never fill, with the reason.
	Lacking map[string]string
	Version string // of the product
	// HealthAddress is where other nodes' collectors find this one's health, as
	// host:port; empty for nowhere.
	HealthAddress string
	// Shared: Share watches the objects, reads targets and follows the logs that are
	// shared, and Run does none of these.
	Shared bool
	// Replica tells this process from those that it shares with; required with Shared.
	Replica string

	Logger     *slog.Logger
	Registerer prometheus.Registerer
	Now        func() time.Time // default time.Now
}

func (o *Options) complete() error {
	var fs fault.Fields
	switch o.Role {
	case wire.RoleCluster, wire.RoleAll:
	case wire.RoleNode:
		if o.Node == "" {
			fs.Add("node", "is required in role node", nil)
		}
	default:
		fs.Add("role", "must be node, cluster or all", o.Role)
	}
	if o.Interval != 0 && !slices.Contains(Intervals, o.Interval) {
		fs.Add("interval", "must be 10s, 15s, 30s or 60s", o.Interval)
	}
	if o.World.State == nil {
		fs.Add("world.state", "is required", nil)
	}
	if o.QueueDir == "" {
		fs.Add("queue_dir", "is required", nil)
	}
	if o.QueueAge < 0 || (o.QueueAge > 0 && o.QueueAge < minQueueAge) {
		fs.Add("queue_age", "must be at least "+minQueueAge.String(), o.QueueAge)
	}
	if o.QueueMax < 0 || (o.QueueMax > 0 && o.QueueMax < minQueueBytes) {
		fs.Add("queue_bytes", fmt.Sprintf("must be at least %d", minQueueBytes), o.QueueMax)
	}
	if o.Shared && o.Replica == "" {
		fs.Add("replica", "is required with shared", nil)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return fs.Err()
}

// Collector measures one cluster, or one node of it.
type Collector struct {
	o              Options
	sender         string
	log            *slog.Logger
	now            func() time.Time
	metrics        *metrics
	client         *push.Client
	sink           sink
	pusher         *push.Pusher
	queue          *queue.Queue
	scrapedQueue   *queue.Queue
	inventoryQueue *queue.Queue    // nil in role node
	scraped        *push.Pusher    // of what the world's Scraper reads; nil without one
	inventory      *push.Inventory // nil in role node
	control        *control.Client
	computer       *compute.Computer
	clock          serverClock
	pace           *pace     // of measure alone
	lastGrid       time.Time // of measure alone: the newest interval that was sent
	lastSent       time.Time // of measure alone: the newest time of a sample
	started        time.Time
	leads          chan struct{} // closed when Run begins, by lead
	lead           func()
	stoodBy        chan struct{} // closed when the control stream is Run's

	mu       sync.Mutex
	interval time.Duration
	families []catalogue.Family // nil for all
	settings int64              // version of the newest that came
	good     wire.Settings      // the newest that were applied
	accept   time.Duration      // how far back the server takes samples; 0 while unknown
	history  time.Duration      // the same by the import way; 0 for none
	together bool               // the server takes several intervals of a backlog in one request
	logs     bool               // container logs are followed
	logRules int                // how often their rules changed
	told     bool               // the server's settings are known, or that there are none
	changes  []state.Change
	changed  chan struct{}
	health   wire.Health
	lastTick time.Time
	helloAt  time.Time // when the newest hello was said
}

// sink takes samples; the Pusher is one.
type sink interface {
	Push(push.Batch) error
}

// New checks the options and opens the queue; it starts nothing.
func New(o Options) (*Collector, error) {
	if err := o.complete(); err != nil {
		return nil, fmt.Errorf("collector: %w", err)
	}
	c := &Collector{
		o: o, sender: wire.Sender(o.Role, o.Node), log: o.Logger, now: o.Now,
		interval: DefaultInterval, logs: true, pace: newPace(),
		changed: make(chan struct{}, 1), leads: make(chan struct{}), stoodBy: make(chan struct{}),
	}
	c.lead = sync.OnceFunc(func() { close(c.leads) })
	if o.Interval != 0 {
		c.interval = o.Interval
	}
	c.client = o.Client
	if c.client == nil {
		client, err := push.NewClient(push.ClientOptions{
			Server: o.Server, Token: o.Token, TokenFile: o.TokenFile, CAFile: o.CAFile, Sender: c.sender, Now: o.Now,
		})
		if err != nil {
			return nil, err
		}
		c.client = client
	}
	c.client.OnTime(c.clock.exchanged)
	if err := os.MkdirAll(o.QueueDir, 0o700); err != nil {
		return nil, fmt.Errorf("collector: open queue: %w", err)
	}
	var err error
	if c.queue, c.pusher, err = c.stream("metrics", "catalogue", o.QueueMax); err != nil {
		return nil, err
	}
	if o.World.Scraper != nil {
		if c.scrapedQueue, c.scraped, err = c.stream("scraped", "scraped", cmp.Or(o.QueueMax, queue.DefaultMaxBytes)/2); err != nil {
			return nil, err
		}
	}
	c.sink = c.pusher
	if o.Role != wire.RoleNode {
		q, err := c.open("inventory", "inventory", inventoryBytes(cmp.Or(o.QueueMax, queue.DefaultMaxBytes)))
		if err != nil {
			return nil, err
		}
		c.inventoryQueue = q
		c.inventory = &push.Inventory{
			Client: c.client, Source: o.World.State, Queue: q, Logger: o.Logger, Now: c.serverTime, ClockOffset: c.clock.offset, Unchecked: c.clock.unchecked,
		}
	}
	if c.control, err = c.controlled(c.hello); err != nil {
		return nil, err
	}
	c.computer = compute.New(compute.Options{Role: o.Role, Sender: c.sender, Interval: c.interval})
	c.metrics = newMetrics(o.Registerer, &c.clock)
	c.restore()
	return c, nil
}

// controlled makes a control stream.
func (c *Collector) controlled(hello func() wire.Hello) (*control.Client, error) {
	return control.New(control.Options{
		URL: c.client.URL(wire.PathControl).String(), HTTP: c.client.HTTP1(), Header: c.client.Authorize,
		Hello: hello, Welcome: c.welcome, Parted: c.parted, Apply: c.apply, Logger: c.o.Logger,
	})
}

// serverTime is this clock's time, corrected by what is known of the server's.
func (c *Collector) serverTime() time.Time { return c.now().Add(-c.clock.correction()) }

// stream opens a queue and what empties it. Their metrics carry the stream's name.
func (c *Collector) stream(folder, name string, most int64) (*queue.Queue, *push.Pusher, error) {
	q, err := c.open(folder, name, most)
	if err != nil {
		return nil, nil, err
	}
	p, err := push.New(push.Options{
		Client: c.client, Queue: q, ClockOffset: c.clock.offset, Accept: c.taken, Together: c.takesTogether, Logger: c.o.Logger, Registerer: c.streamRegisterer(name), Now: c.serverTime,
	})
	return q, p, err
}

// taken is how far back the server takes samples by the ordinary way, where it
// has another one for older ones.
func (c *Collector) taken() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.history <= c.accept {
		return 0
	}
	return c.accept
}

// takesTogether says whether the server takes several intervals of a backlog in one
// request.
func (c *Collector) takesTogether() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.together
}

func (c *Collector) open(folder, stream string, most int64) (*queue.Queue, error) {
	return queue.Open(queue.Options{
		Dir: filepath.Join(c.o.QueueDir, folder), MaxAge: c.o.QueueAge, MaxBytes: most, Logger: c.o.Logger, Registerer: c.streamRegisterer(stream), Now: c.serverTime,
	})
}

func (c *Collector) streamRegisterer(stream string) prometheus.Registerer {
	return prometheus.WrapRegistererWith(prometheus.Labels{"stream": stream}, c.o.Registerer)
}

// inventoryBytes is the inventory's part of what may wait: a day of a large
// cluster's changes is a few dozen MiB.
func inventoryBytes(all int64) int64 { return all / 4 }

// Run collects until ctx ends. What was not acknowledged then is on disk. A part
// that fails is an error only where nothing could be collected without it.
func (c *Collector) Run(ctx context.Context) error {
	c.mu.Lock()
	c.started = c.now()
	c.mu.Unlock()
	c.lead()
	g, ctx := errgroup.WithContext(ctx)
	// The pusher ends after the last interval, so that nothing is left in memory.
	pushing, stopPushing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopPushing()
	if !c.o.Shared {
		g.Go(func() error { return c.Share(ctx) })
	}
	g.Go(func() error {
		c.o.World.State.Changes(ctx, c.note)
		return nil
	})
	g.Go(func() error { return c.pusher.Run(pushing) })
	g.Go(func() error {
		if c.o.Shared { // what it is told comes by one way at a time
			select {
			case <-c.stoodBy:
			case <-ctx.Done():
				return nil
			}
		}
		return c.control.Run(ctx)
	})
	if c.inventory != nil {
		g.Go(func() error { return c.inventory.Run(ctx) })
	}
	for _, l := range c.o.World.Logs {
		if !c.shares(l) {
			g.Go(func() error { return c.follow(ctx, l) })
		}
	}
	g.Go(func() error {
		defer stopPushing()
		c.warm(ctx)
		c.measure(ctx)
		return nil
	})
	err := g.Wait()
	c.client.Close()
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// partial marks log sources of which each of several replicas follows a part.
type partial interface{ Shared() bool }

func (c *Collector) shares(l Logs) bool {
	p, ok := l.(partial)
	return c.o.Shared && ok && p.Shared()
}

// standBy hears the settings and tells of the logs while this replica does not lead:
// what it follows goes by them, too.
func (c *Collector) standBy(ctx context.Context) error {
	defer close(c.stoodBy)
	stream, err := c.controlled(func() wire.Hello {
		h := c.hello()
		h.Sender += "/" + c.o.Replica
		return h
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	began := c.now().UTC()
	done := make(chan error, 1)
	go func() { done <- stream.Run(ctx) }()
	for {
		interval := c.inForce()
		stream.Report(wire.Health{Time: c.now().UTC(), StartedAt: began, IntervalSeconds: int(interval / time.Second), Logs: c.logHealth()})
		t := time.NewTimer(interval)
		select {
		case <-t.C:
			continue
		case <-c.leads:
		case <-ctx.Done():
		}
		t.Stop()
		cancel()
		return <-done
	}
}

// Share watches the objects, reads targets and follows the logs that are shared until
// ctx ends: what each of several replicas does, whichever of them leads and does the
// rest with Run.
func (c *Collector) Share(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return wrap("watch objects", c.o.World.State.Run(ctx)) })
	if c.scraped != nil {
		g.Go(func() error { return c.scrape(ctx) })
	}
	if c.o.Shared {
		g.Go(func() error { return c.standBy(ctx) })
	}
	for _, l := range c.o.World.Logs {
		if c.shares(l) {
			g.Go(func() error { return c.follow(ctx, l) })
		}
	}
	return g.Wait()
}

// scrape reads targets. What was read last is sealed before it ends.
func (c *Collector) scrape(ctx context.Context) error {
	sending, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	done := make(chan error, 1)
	go func() { done <- c.scraped.Run(sending) }()
	err := c.o.World.Scraper.Run(ctx, func(s []compute.Sample) error {
		return c.scraped.Push(push.Batch{Samples: s, Interval: c.inForce()})
	})
	stop()
	return errors.Join(wrap("scrape targets", err), <-done)
}

func wrap(what string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// measure runs the intervals. Sources are read shortly before each grid point,
// state is taken at it, so that a change never has an older time than a sample
// that did not know it. The grid is the server's, as far as its time is known;
// readings and what is computed of them go by this machine's clock, and samples
// are stamped with the server's time in the end.
func (c *Collector) measure(ctx context.Context) {
	var computed []catalogue.Family
	for ctx.Err() == nil {
		interval, families := c.inForce(), c.wanted()
		c.computer.SetInterval(interval)
		if !slices.Equal(families, computed) {
			c.computer.SetFamilies(families)
			computed = families
		}
		window := min(interval/6, 5*time.Second)
		correction, changed := c.clock.settle()
		if changed {
			c.log.Warn("this machine's clock differs from the server's, samples are corrected", "ahead_seconds", correction.Seconds())
		}
		at := nextGrid(c.now().Add(-correction), interval, window)
		if !at.After(c.lastGrid) && c.lastGrid.Sub(at) < 2*interval {
			at = c.lastGrid.Add(interval).Truncate(interval) // the clock went back a little; no time is told twice
		}
		local := at.Add(correction)
		start := local.Add(-window).Add(spread(c.sender, window/2))
		if !c.until(ctx, start) {
			return
		}
		type result struct{ sets []reading.Set }
		done := make(chan result, 1)
		readCtx, cancel := context.WithTimeout(ctx, local.Add(grace).Sub(c.now()))
		go func() { done <- result{c.read(readCtx, local)} }()
		ok := c.until(ctx, local)
		r := <-done // ends by readCtx at the latest
		cancel()
		if !ok {
			return
		}
		c.tick(at, local, interval, r.sets)
	}
}

// warm reads once at the start, as soon as objects are listed, so that the first
// interval has rates already. It gives up where that takes long.
func (c *Collector) warm(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, warmFor)
	defer cancel()
	for !c.o.World.State.Snapshot().Synced {
		select {
		case <-ctx.Done():
			return
		case <-time.After(gatherChanges):
		}
	}
	at := c.now().UTC()
	sets := c.read(ctx, at)
	c.takeChanges() // the snapshot has them
	c.computer.Warm(at, sets, c.o.World.State.Snapshot())
}

// nextGrid is the next grid point that leaves time for reading before it.
func nextGrid(now time.Time, interval, window time.Duration) time.Time {
	return now.Add(window).Truncate(interval).Add(interval).UTC()
}

// spread gives each sender its own place in the window, the same each time, so
// that not all kubelets and the server are asked at once.
func spread(sender string, window time.Duration) time.Duration {
	h := fnv.New64a()
	_, _ = h.Write([]byte(sender))
	return time.Duration(h.Sum64() % uint64(max(window, 1)))
}

// read asks all sources at the same time and keeps their order.
func (c *Collector) read(ctx context.Context, at time.Time) []reading.Set {
	now := c.o.World.State.Snapshot()
	results := make([][]reading.Set, len(c.o.World.Readings))
	var wg sync.WaitGroup
	for i, r := range c.o.World.Readings {
		wg.Go(func() { results[i] = r.Read(ctx, at, now) })
	}
	wg.Wait()
	return slices.Concat(results...)
}

// tick computes and sends one interval; at is its time, local the same by this
// machine's clock.
func (c *Collector) tick(at, local time.Time, interval time.Duration, sets []reading.Set) {
	changes := c.pace.told(c.takeChanges()) // the snapshot has them
	now := c.o.World.State.Snapshot()
	began := c.now()
	c.computer.Gone(changes, now)
	if offset, known := c.clock.offset(); known {
		c.computer.SetClockOffset(offset)
	}
	samples := c.computer.Interval(local, sets, now)
	for i := range samples {
		samples[i].At = at
	}
	c.lastGrid, c.lastSent = at, at
	took := c.now().Sub(began)
	if err := c.sink.Push(push.Batch{Samples: samples, Through: at, Interval: interval, Unchecked: c.clock.unchecked()}); err != nil {
		c.log.Error("seal samples", "err", err)
	}
	c.metrics.interval(len(samples), took, c.computer.Coverage())
	for _, m := range compute.Misfits {
		c.metrics.misfit(string(m), c.computer.Misfit(m))
	}
	if o, ok := c.o.World.State.(ownerLoops); ok {
		c.metrics.misfit(ownerLoop, o.OwnerLoops())
	}
	h := c.healthOf(at, interval)
	c.control.Report(h)
	c.mu.Lock()
	c.health, c.lastTick = h, c.now()
	c.mu.Unlock()
}

// until waits for a time, sending the samples of state changes meanwhile.
func (c *Collector) until(ctx context.Context, t time.Time) bool {
	timer := time.NewTimer(max(0, t.Sub(c.now())))
	defer timer.Stop()
	gather := time.NewTimer(0)
	defer gather.Stop()
	gathering := true // what was held before this call is due at once, or says when it is
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case <-c.changed:
			if !gathering {
				gathering = true
				gather.Reset(gatherChanges)
			}
		case <-gather.C:
			now := c.now()
			if !now.Before(t) {
				// Both timers are due, as when this process had to wait for a processor.
				// What changed is part of the interval that begins: sent before it, with
				// a later time, a series that ended would have no end at the grid point
				// where the one that took its place is there already.
				return true
			}
			gathering = false
			if again := c.sendChanges(now.UTC()); again > 0 {
				// A change that comes meanwhile need not wait for those that are held.
				gather.Reset(max(again, gatherChanges))
			}
		}
	}
}

// sendChanges sends what may travel now, and says when to look again at what
// has to wait; 0 when nothing does.
func (c *Collector) sendChanges(now time.Time) (again time.Duration) {
	changes, cluster, again := c.pace.next(now, c.takeChanges())
	c.metrics.held(c.pace.held)
	if len(changes) == 0 && !cluster {
		return again
	}
	samples := c.computer.Changes(now, changes, c.o.World.State.Snapshot(), cluster)
	c.metrics.changes.Add(float64(len(samples)))
	at := now.Add(-c.clock.correction())
	if !at.After(c.lastSent) {
		at = c.lastSent.Add(time.Millisecond)
	}
	for i := range samples {
		samples[i].At = at
	}
	if len(samples) > 0 {
		c.lastSent = at
	}
	if err := c.sink.Push(push.Batch{Samples: samples, Interval: c.inForce(), Unchecked: c.clock.unchecked()}); err != nil {
		c.log.Error("seal samples", "err", err)
	}
	return again
}

// note takes a change from the state source.
func (c *Collector) note(ch state.Change) {
	if c.inventory != nil {
		corrected := ch
		corrected.At = ch.At.Add(-c.clock.correction())
		c.inventory.Note(corrected)
	}
	c.mu.Lock()
	c.changes = append(c.changes, ch)
	c.mu.Unlock()
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

func (c *Collector) takeChanges() []state.Change {
	c.mu.Lock()
	defer c.mu.Unlock()
	changes := c.changes
	c.changes = nil
	return changes
}

func (c *Collector) inForce() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.interval
}

// alwaysOn marks log sources that the setting "logs" does not switch off, as
// Kubernetes events.
type alwaysOn interface{ AlwaysOn() }

// follow runs one log source as long as settings want it. One that fails is
// begun again: metrics do not depend on it.
func (c *Collector) follow(ctx context.Context, l Logs) error {
	_, always := l.(alwaysOn)
	for ctx.Err() == nil {
		if !always && !c.wantLogs() {
			if !c.untilLogs(ctx, true) {
				return nil
			}
		}
		runCtx, cancel := context.WithCancel(ctx)
		var sink LogSink = c.client
		var ruling sync.WaitGroup
		if !always {
			rules := c.rulesSeen()
			var open chan struct{}
			if !c.toldSettings() {
				open = make(chan struct{})
				sink = heldBack{c.client, open}
			}
			ruling.Go(func() {
				if open != nil && c.firstSettings(runCtx) && c.wantLogs() && c.rulesSeen() == rules {
					close(open)
				}
				c.untilRules(runCtx, rules)
				cancel()
			})
		}
		err := l.Run(runCtx, sink)
		cancel()
		ruling.Wait()
		if err != nil && ctx.Err() == nil && !errors.Is(err, context.Canceled) {
			c.log.Error("log source ended, begins again", "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Second):
			}
		}
	}
	return nil
}

func (c *Collector) wantLogs() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.logs
}

// untilLogs waits until the setting has the value.
func (c *Collector) untilLogs(ctx context.Context, want bool) bool {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for c.wantLogs() != want {
		select {
		case <-ctx.Done():
			return false
		case <-t.C:
		}
	}
	return true
}

func (c *Collector) hello() wire.Hello {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.helloAt = c.now()
	return wire.Hello{
		WireVersion: wire.Version, ProductVersion: c.o.Version, Role: c.o.Role, Sender: c.sender, Node: c.o.Node,
		Time: c.helloAt.UTC(), SettingsVersion: c.settings, HealthAddress: c.o.HealthAddress,
		Logs: c.o.Role == wire.RoleNode && len(c.o.World.Logs) > 0,
	}
}

func (c *Collector) welcome(w wire.Welcome) {
	c.log.Info("server accepts this collector", "cluster", w.Cluster, "accept_seconds", w.AcceptSeconds, "history_seconds", w.HistorySeconds)
	c.mu.Lock()
	none := !c.told && w.SettingsVersion != nil && *w.SettingsVersion == 0
	c.told = c.told || none
	c.accept, c.history = time.Duration(w.AcceptSeconds)*time.Second, time.Duration(w.HistorySeconds)*time.Second
	c.together = w.Together
	c.boundQueueLocked()
	h, sent := c.health, c.helloAt
	c.mu.Unlock()
	c.clock.exchanged(sent, c.now().Sub(sent), w.Time)
	if none { // a start while the server is away knows that, too
		if err := c.keep(wire.Settings{}); err != nil {
			c.log.Warn("keep settings", "err", err)
		}
	}
	if !h.Time.IsZero() {
		c.control.Report(h)
	}
}

// parted takes no word of a server for that of the next one, which may be older: what it
// does not know of a request it would not tell.
func (c *Collector) parted() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.together = false
}

// Health is what the collector knew about itself at the last interval.
func (c *Collector) Health() wire.Health {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.health
}

// Alive says why the collector does not do its work; nil when the last interval
// was in time.
func (c *Collector) Alive() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := c.lastTick
	if last.IsZero() {
		last = c.started
	}
	if late := c.now().Sub(last); !last.IsZero() && late > 3*c.interval {
		return fmt.Errorf("no interval for %s", late.Round(time.Second))
	}
	return nil
}

// Ready says why nothing is measured yet; nil once objects were listed and an
// interval was sent, and while it stands by because Run was not called.
func (c *Collector) Ready() error {
	c.mu.Lock()
	standsBy := c.started.IsZero()
	c.mu.Unlock()
	if standsBy {
		return nil
	}
	if !c.o.World.State.Snapshot().Synced {
		return errors.New("objects are not listed yet")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lastTick.IsZero() {
		return errors.New("the first interval is not over")
	}
	return nil
}

// clusterKind is what a state source may know of the sort of its cluster.
type clusterKind interface {
	ClusterKind() (kind, why string)
}

// ownerLoops is what a state source may count of objects that own each other: how often
// the way to a top controller had no end, since the start.
type ownerLoops interface{ OwnerLoops() int }

// peerAnswers is what a source may know of other nodes.
type peerAnswers interface{ Answers() []wire.PeerAnswer }

func (c *Collector) healthOf(at time.Time, interval time.Duration) wire.Health {
	h := wire.Health{
		Time: at, StartedAt: c.started.UTC(), IntervalSeconds: int(interval / time.Second),
		Unavailable: map[string]string{}, Queue: c.pusher.Health(), ClockCorrectionSeconds: c.clock.correction().Seconds(),
	}
	if off, known := c.clock.offset(); known {
		seconds := off.Seconds()
		h.ClockOffsetSeconds = &seconds
	}
	c.mu.Lock()
	before := c.health.Sources
	c.mu.Unlock()
	success := func(name string, up bool) time.Time {
		if up {
			return at
		}
		for _, s := range before {
			if s.Name == name {
				return s.LastSuccess
			}
		}
		return time.Time{}
	}
	for _, cov := range c.computer.Coverage() {
		name := strings.TrimSuffix(string(cov.Source)+"/"+cov.Node, "/")
		s := wire.SourceHealth{
			Name: name, Up: cov.Up, LastSuccess: success(name, cov.Up), TookSeconds: cov.Took.Seconds(),
			Expected: cov.Expected, Measured: cov.Measured, OldestSecond: cov.OldestAge.Seconds(),
		}
		if cov.Err != nil {
			s.Error = cov.Err.Error()
		}
		h.Sources = append(h.Sources, s)
	}
	if c.inventory != nil {
		queued := c.inventory.Health()
		h.Inventory = &queued
	}
	trouble := c.o.World.State.Health()
	s := wire.SourceHealth{Name: string(catalogue.Objects), Up: c.o.World.State.Snapshot().Synced && len(trouble) == 0}
	s.LastSuccess = success(s.Name, s.Up)
	h.Sources = append(h.Sources, s)
	for kind, why := range trouble {
		name := string(catalogue.Objects) + "/" + string(kind)
		h.Sources = append(h.Sources, wire.SourceHealth{Name: name, Error: why, LastSuccess: success(name, false)})
	}
	if c.o.Role == wire.RoleCluster {
		if s, some := c.virtualNodes(); some {
			s.LastSuccess = success(s.Name, s.Measured > 0)
			h.Sources = append(h.Sources, s)
		}
	}
	if k, ok := c.o.World.State.(clusterKind); ok && c.o.Role != wire.RoleNode {
		h.ClusterKind, h.ClusterKindWhy = k.ClusterKind()
	}
	if c.o.World.Scraper != nil {
		h.Sources = append(h.Sources, c.o.World.Scraper.Health()...)
		h.Scrape = c.o.World.Scraper.Cost()
	}
	for _, r := range c.o.World.Readings {
		if p, ok := r.(peerAnswers); ok {
			h.Peers = append(h.Peers, p.Answers()...)
		}
	}
	slices.SortFunc(h.Sources, func(a, b wire.SourceHealth) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	if c.o.Role == wire.RoleAll {
		for _, m := range catalogue.All() {
			if m.LackingOutside != "" && !c.computer.Has(m.Name) {
				h.Unavailable[m.Name] = m.LackingOutside
			}
		}
	}
	for name, why := range c.o.Lacking {
		h.Unavailable[name] = why
	}
	for name, why := range c.computer.Unavailable() {
		h.Unavailable[name] = why
	}
	h.Logs = c.logHealth()
	return h
}

// virtualReader reads the pods on virtual nodes, but for those that have collectors of
// their own.
type virtualReader interface {
	Reads(n *object.Node) bool
}

// virtualNodes tells of the pods on virtual nodes: node collectors do not run there.
// Where role cluster does not read them either, this source is up, as nothing is
// broken, and blind.
func (c *Collector) virtualNodes() (s wire.SourceHealth, some bool) {
	now := c.o.World.State.Snapshot()
	var reader virtualReader
	for _, r := range c.o.World.Readings {
		if v, ok := r.(virtualReader); ok {
			reader = v
		}
	}
	pods, nodes := 0, map[string]bool{}
	for _, p := range now.Pods {
		n := now.Nodes[p.Node]
		if n == nil || !n.Virtual || p.Ended() || reader != nil && !reader.Reads(n) {
			continue
		}
		before := s.Expected
		for _, c := range p.Containers {
			if c.State == "running" {
				s.Expected++
			}
		}
		if s.Expected > before {
			pods++
			nodes[p.Node] = true
		}
	}
	if pods == 0 {
		return s, false
	}
	s.Name, s.Up = "virtual_nodes", true
	if reader == nil {
		s.Error = fmt.Sprintf("%d running pods on %d virtual nodes are not read, neither their usage nor their logs: no node collector runs there", pods, len(nodes))
		if now.OnlyVirtualNodes() {
			s.Error += "; a cluster without real nodes is read by one collector with --role all"
		} else {
			s.Error += "; this collector reads them with --virtual-nodes, and the rights of manifests/virtual-nodes"
		}
		return s, true
	}
	best := map[string]int{} // of a node's sources, which stand for each other
	for _, cov := range c.computer.Coverage() {
		if nodes[cov.Node] && cov.Counts {
			best[cov.Node] = max(best[cov.Node], cov.Measured)
		}
	}
	for _, measured := range best {
		s.Measured += measured
	}
	if s.Measured < s.Expected {
		s.Error = fmt.Sprintf("of %d running containers on %d virtual nodes, %d are measured; what each node's sources say stands beside this", s.Expected, len(nodes), s.Measured)
	}
	return s, true
}

func (c *Collector) logHealth() wire.LogHealth {
	h := wire.LogHealth{Dropped: map[string]int64{}}
	for _, l := range c.o.World.Logs {
		lh := l.Health()
		h.Containers += lh.Containers
		h.Read += lh.Read
		h.Sent += lh.Sent
		for reason, n := range lh.Dropped {
			h.Dropped[reason] += n
		}
	}
	return h
}
