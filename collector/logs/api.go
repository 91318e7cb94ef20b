package logs

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// Pods reads pods and their logs; a kube.Client does. Both methods are called
// concurrently, and give the API server's errors as apierrors knows them.
type Pods interface {
	GetPod(ctx context.Context, namespace, name string) (*corev1.Pod, error)
	// PodLogs gives an answer that ends with ctx.
	PodLogs(ctx context.Context, namespace, name string, o *corev1.PodLogOptions) (io.ReadCloser, error)
}

// Share divides containers among several processes; kube.Members is behind it.
type Share interface {
	// Owns says whether this process follows a container now. Who lets go of one does
	// so some seconds before another begins.
	Owns(key string) bool
	// Parts are the numbers of all who share, as bits, and own that of this process: -1
	// while it has no part. No parts mean that there is nobody to share with.
	Parts() (own int, parts uint64)
}

// APIOptions configure API.
type APIOptions struct {
	Pods  Pods  // required; a rate limit should allow MaxConnections requests in some seconds
	State State // the pods to follow; required
	// Services is required where rules select by Service.
	Services Services
	// Positions asks the server how far containers were taken, some hundred at a time;
	// push.Client has it. Required. There are no other positions: whichever process
	// begins with a container, on whatever disk, goes on where the lines end.
	Positions func(ctx context.Context, sources []wire.LogSource) ([]wire.LogPosition, error)
	Share     Share // with others; nil follows all
	// Reads says of which nodes the pods are followed; nil means all. Of one that is not
	// listed it is given the name alone.
	Reads func(*object.Node) bool
	// Quiet says whether nodes' collectors would have been heard by now if they were
	// there: before, what one of them followed last is left alone. Nil means yes.
	Quiet  func() bool
	Sender string // of the batches, wire.Sender(role, node); required

	// MaxConnections bounds the containers that are followed at once; default 200.
	// Where there are more, they take turns.
	MaxConnections int
	// MaxBytesPerSecond bounds what is read of all containers together; default 32
	// MiB. What is over it waits at the API server.
	MaxBytesPerSecond int
	// Turn is how long one keeps its connection while others wait; default 10 s.
	Turn time.Duration
	// LookBack is how much is read of a container of which the server has nothing and
	// that ran before this collector started; default 1 h. Containers of pods that
	// are younger are read from their first line.
	LookBack time.Duration
	Linger   time.Duration // how long a line waits for others to share its batch; default 250 ms
	Rules    Rules
	// Backoff is the first wait after a connection that failed; default 500 ms,
	// doubled up to 30 s.
	Backoff time.Duration
	// Poll is how often State is asked for new containers; default 500 ms.
	Poll time.Duration

	Logger     *slog.Logger // default: discarded
	Registerer prometheus.Registerer
	Now        func() time.Time // default time.Now
	// Monotonic is as of FilesOptions.
	Monotonic func() time.Duration
}

func (o *APIOptions) complete() error {
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{{&o.Turn, 10 * time.Second}, {&o.LookBack, time.Hour}, {&o.Linger, 250 * time.Millisecond}, {&o.Backoff, 500 * time.Millisecond}, {&o.Poll, 500 * time.Millisecond}} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	if err := errors.Join(o.Rules.complete(), o.Rules.answerable(o.Services)); err != nil {
		return err
	}
	if o.MaxConnections == 0 {
		o.MaxConnections = 200
	}
	if o.MaxBytesPerSecond == 0 {
		o.MaxBytesPerSecond = 32 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	var errs []error
	for _, c := range []struct {
		bad  bool
		what string
	}{{o.Pods == nil, "a reader of pods is required"}, {o.State == nil, "a state is required"}, {o.Positions == nil, "the server's positions are required"},
		{o.Sender == "", "a sender is required"}, {o.MaxConnections < 0, "the number of connections must not be negative"},
		{o.MaxBytesPerSecond < 0, "the bytes per second must not be negative"}} {
		if c.bad {
			errs = append(errs, errors.New(c.what))
		}
	}
	return errors.Join(errs...)
}

// apiPos is the last line of a container that was taken: the API has no offsets,
// so a line is known by its time and its content. File says it where a node's
// collector took lines, and what was taken since are none but those that it left open.
type apiPos struct {
	Time int64  `json:"time,omitzero"`
	Hash uint64 `json:"hash,omitzero"` // of the line with its time
	Seen int    `json:"seen,omitzero"` // lines with this time and content so far
	// Taken is how many lines of the container were taken with this one.
	Taken int64 `json:"-"` // the wire has it
	// Recent are the hashes of the last lines, the newest last: stdout and stderr
	// may be a little out of order.
	Recent   [8]uint64 `json:"recent,omitzero"`
	Restarts int       `json:"restarts,omitzero"` // of the container, when the line was written
	File     *reached  `json:"file,omitzero"`
	// Missed are lines that the API server did not have any more, and that are told as
	// lost; the files may be on the node still. The newest last.
	Missed []missed `json:"missed,omitempty"`
}

// missed are lines between two that were taken.
type missed struct {
	After int64    `json:"after"`          // time of the one before them
	File  *reached `json:"file,omitempty"` // where a node's collector took that one
	Until int64    `json:"until"`          // time of the one after them
}

// Bounds of what a position says to be missed, of which the server takes some KiB: the
// oldest go first, and what was left open by a node's collector is not told apart.
const (
	maxMissed     = 4
	maxMissedOpen = 4
)

// has says whether a line is among them.
func (m missed) has(s spot, at int64) bool {
	if m.File != nil {
		return at < m.Until && !m.File.taken(s)
	}
	return at > m.After && at < m.Until
}

// missing is the position once what lies before a line is known to be gone.
func (p apiPos) missing(until int64) (after apiPos, d drop) {
	m := missed{After: p.Time, Until: until}
	d = drop{from: p.Time, until: until}
	if p.File != nil {
		if first, open := p.File.first(); open {
			d.from = first.Time
		}
		if f := *p.File; len(f.Open) <= maxMissedOpen {
			m.File = &f
		}
	}
	p.Missed = append(slices.Clone(p.Missed[max(0, len(p.Missed)-maxMissed+1):]), m)
	p.Taken++
	return p, d
}

// same says whether both are the same line.
func (p apiPos) same(q apiPos) bool {
	return p.Time == q.Time && p.Hash == q.Hash && p.Seen == q.Seen && p.File == q.File
}

// byFile says that it was left by who reads files, and nobody read on since.
func (p apiPos) byFile() bool { return p.File != nil && p.File.Since == nil && len(p.Missed) == 0 }

// since is the time of the first line that is to be seen again.
func (p apiPos) since() int64 {
	if p.File != nil {
		return p.File.begins()
	}
	return sinceFor(p.Time)
}

// readPosition reads what the server keeps.
func readPosition(p wire.LogPosition) (apiPos, error) {
	var pos apiPos
	if err := json.Unmarshal([]byte(p.State), &pos); err != nil {
		return apiPos{Taken: p.Taken}, err
	}
	pos.Taken = p.Taken
	if f := pos.File; f != nil {
		if f.At == 0 {
			f.At = p.Taken - f.Lag
		}
		if pos.Time == 0 {
			pos.Time = f.At
		}
	}
	return pos, nil
}

// API follows containers through the API server. It is a collector.Logs. What it
// cannot know is whether a line is of stdout or stderr: all are called stdout.
type API struct {
	opts APIOptions
	clocks
	log       *slog.Logger
	journal   *journal[apiPos]
	counts    *counters
	metrics   *metrics
	shaper    shaper
	selects   selection
	joins     joining
	next      next // rules of the next Run
	slots     chan struct{}
	pace      *rate.Limiter // of the bytes of all answers
	waiting   atomic.Int64  // followers without a connection
	lines     chan apiChunk
	started   time.Time
	followers sync.Map // by key: what runs at this moment, for what is complete
	heard     atomic.Pointer[hearing]
	stale     chan error // another process went on with containers, and it is not known with which; 1 slot
	contests  contests
	// finished holds the restart count of containers that ended and were read to
	// their end in this run. It belongs to the goroutine of Run, as what follows does.
	finished map[string]int
	// later is when containers are looked at again that a node's collector followed last.
	later    map[string]time.Time
	askAgain time.Time // the server did not say positions
	askWait  time.Duration
}

// hearing is whom a look at the pods found followed.
type hearing struct {
	own   int
	parts uint64
	deaf  map[string]bool // nodes of which a container should be followed and is not
}

// apiChunk is some lines of one container, in order.
type apiChunk struct {
	of     *follower
	key    string
	id     Container
	stream wire.LogStream
	from   apiPos // before the first line
	lines  []apiLine
}

type apiLine struct {
	line  wire.LogLine
	lines int    // of the container in it; 0 for further parts of a long one
	pos   apiPos // of the last of them
}

const chunkLines = 256

// NewAPI checks the options; it starts nothing.
func NewAPI(o APIOptions) (*API, error) {
	if err := o.complete(); err != nil {
		return nil, fmt.Errorf("pod log API: %w", err)
	}
	m := newMetrics(o.Registerer)
	shaper, err := newShaper(o.Rules, m)
	if err != nil {
		return nil, fmt.Errorf("pod log API: %w", err)
	}
	selects, err := newSelection(o.Rules.Select)
	if err != nil {
		return nil, fmt.Errorf("pod log API: %w", err)
	}
	joins, err := newJoining(o.Rules.Join)
	if err != nil {
		return nil, fmt.Errorf("pod log API: %w", err)
	}
	return &API{opts: o, clocks: clocks{o.Now, o.Monotonic}, log: o.Logger, counts: newCounters(m), metrics: m, shaper: shaper, selects: selects, joins: joins,
		slots: make(chan struct{}, o.MaxConnections), pace: rate.NewLimiter(rate.Limit(o.MaxBytesPerSecond), max(o.MaxBytesPerSecond, readBytes)), lines: make(chan apiChunk)}, nil
}

// Health counts the lines of all containers.
func (a *API) Health() wire.LogHealth { return a.counts.health() }

// SetRules has the next Run go by other rules; it may be called during one. An
// error leaves them as they were.
func (a *API) SetRules(rules Rules) error { return a.next.set(rules, a.opts.Services, a.metrics) }

// Counts gives the lines of each container that is followed.
func (a *API) Counts() map[Container]Count { return a.counts.all() }

// Run follows until ctx ends. When another process went on with containers of a node, it
// begins those anew with what the server says, or all of them where it does not say which.
func (a *API) Run(ctx context.Context, sink Sink) error {
	for wait := time.Second; ctx.Err() == nil; {
		began := a.now()
		err := a.live(ctx, sink)
		if err == nil || ctx.Err() != nil {
			return nil
		}
		if a.now().Sub(began) > 2*maxAnew {
			wait = time.Second
		}
		a.log.Warn("follows containers anew", "wait_seconds", wait.Seconds(), "err", err)
		sleep(ctx, wait)
		wait = min(2*wait, maxAnew) // somebody who is not heard reads them, too
	}
	return nil
}

// maxAnew bounds the wait before containers are followed anew.
const maxAnew = 30 * time.Second

// contests are the nodes of which somebody else, who is not heard, reads containers, too.
type contests struct {
	mu     sync.Mutex
	byNode map[string]contest
}

type contest struct {
	until time.Time // when its containers are followed again
	wait  time.Duration
}

// lost has a node be left alone for a while, for longer each time.
func (c *contests) lost(node string, now time.Time) (wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byNode == nil {
		c.byNode = map[string]contest{}
	}
	maps.DeleteFunc(c.byNode, func(_ string, n contest) bool { return now.Sub(n.until) > 2*maxAnew })
	wait = min(max(2*c.byNode[node].wait, time.Second), maxAnew)
	c.byNode[node] = contest{now.Add(wait), wait}
	return wait
}

// rests says whether a node is left alone.
func (c *contests) rests(node string, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return now.Before(c.byNode[node].until)
}

// live follows until ctx ends, or gives what makes a new beginning necessary.
func (a *API) live(ctx context.Context, sink Sink) error {
	if u := a.next.take(); u != nil {
		a.opts.Rules, a.shaper, a.selects, a.joins = u.Rules, u.shaper, u.selects, u.joins
	}
	a.started, a.finished, a.askAgain, a.askWait = a.now(), map[string]int{}, time.Time{}, 0
	a.later = map[string]time.Time{}
	a.journal, a.stale = openMemory[apiPos](), make(chan error, 1)
	a.heard.Store(nil)
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer a.followers.Clear()
	defer wg.Wait()
	defer cancel()
	ship := newShipper(a.journal, a.counts, a.metrics, a.log, a.clocks)
	ship.conflict, ship.without = a.beginAnew, a.without
	wg.Go(func() { ship.run(ctx, sink) })
	wg.Go(func() { a.build(ctx, ship) })

	following := map[string]*following{}
	ended := make(chan *follower)
	tick := time.NewTicker(a.opts.Poll)
	defer tick.Stop()
	for {
		a.follow(ctx, &wg, following, ended)
		select {
		case <-ctx.Done():
			return nil
		case err := <-a.stale:
			return err
		case f := <-ended:
			delete(following, f.key)
			a.followers.CompareAndDelete(f.key, f)
			if f.ended && !f.contested.Load() { // that one's end may not have been read
				a.finished[f.key] = f.endedAt
			}
			if s := a.opts.State.Snapshot(); f.contested.Load() || s != nil && !a.follows(s, f.key, f.node) {
				a.journal.forget(f.key) // another goes on; if it comes back, the server knows
			}
		case <-tick.C:
		}
	}
}

// following is a container that is followed.
type following struct {
	by      *follower
	stop    context.CancelFunc
	stopped bool
}

// beginAnew ends this life of Run.
func (a *API) beginAnew(err error) {
	select {
	case a.stale <- err:
	default: // it ends already
	}
}

// without takes out of a refused batch what somebody else took further, and has the
// containers of those nodes be followed anew. It is false when that is not known.
func (a *API) without(ctx context.Context, b *batch[apiPos], refused error) bool {
	from := map[string]int64{}
	var sources []wire.LogSource
	for _, p := range b.wire.Positions {
		from[p.Key] = p.From
		sources = append(sources, p.LogSource)
	}
	theirs, nodes := map[Container]bool{}, map[string]bool{}
	s := a.opts.State.Snapshot()
	for some := range slices.Chunk(sources, askAtOnce) {
		askCtx, cancel := context.WithTimeout(ctx, 10*time.Second)
		known, err := a.opts.Positions(askCtx, some)
		cancel()
		if err != nil {
			return false
		}
		for _, p := range known {
			if p.Taken <= from[p.Key] {
				continue
			}
			uid, name, _ := strings.Cut(p.Key, "/")
			theirs[Container{Namespace: p.Namespace, Pod: p.Pod, UID: uid, Container: name}] = true
			if f, ok := a.followers.Load(p.Key); ok {
				nodes[f.(*follower).node] = true //nolint:forcetypeassert // nothing else is stored
			} else if s != nil && s.Pods[uid] != nil {
				nodes[s.Pods[uid].Node] = true
			}
		}
	}
	if len(theirs) == 0 || b.wire.Reopen() != nil {
		return false
	}
	for node := range nodes { // first: nobody may say of it that it is complete
		a.log.Warn("follows containers of a node anew", "node", node, "wait_seconds", a.contests.lost(node, a.now()).Seconds(), "err", refused)
	}
	for _, k := range strip(b, theirs) {
		if f, ok := a.followers.Load(k); ok {
			f.(*follower).contested.Store(true) //nolint:forcetypeassert // nothing else is stored
		}
	}
	b.seal(slices.DeleteFunc(b.wire.Complete, func(m wire.LogMark) bool { return nodes[m.Node] }), b.said)
	a.followers.Range(func(_, v any) bool {
		if f := v.(*follower); nodes[f.node] { //nolint:forcetypeassert // nothing else is stored
			f.contested.Store(true)
		}
		return true
	})
	return true
}

// strip takes containers out of a batch that has its positions; it gives their keys. Those
// of the same name go with them, as the lines do not say of which they are.
func strip(b *batch[apiPos], theirs map[Container]bool) (keys []string) {
	type names struct{ namespace, pod, container string }
	out := map[names]bool{}
	for c := range theirs {
		out[names{c.Namespace, c.Pod, c.Container}] = true
	}
	b.wire.Groups = slices.DeleteFunc(b.wire.Groups, func(g wire.LogGroup) bool {
		return out[names{g.Stream.Namespace, g.Stream.Pod, g.Stream.Container}]
	})
	b.lines, b.group = 0, 0
	clear(b.groups)
	for i, g := range b.wire.Groups {
		b.groups[g.Stream] = i
		b.lines += len(g.Lines)
	}
	maps.DeleteFunc(b.counted(), func(c Container, _ int) bool { return out[names{c.Namespace, c.Pod, c.Container}] })
	b.wire.Positions = slices.DeleteFunc(b.wire.Positions, func(p wire.LogPosition) bool {
		gone := out[names{p.Namespace, p.Pod, p.Container}]
		if gone {
			keys = append(keys, p.Key)
			delete(b.from, p.Key)
			delete(b.to, p.Key)
		}
		return gone
	})
	return keys
}

func (a *API) owns(key string) bool { return a.opts.Share == nil || a.opts.Share.Owns(key) }

// reads says whether the pods of a node are followed.
func (a *API) reads(s *state.Snapshot, node string) bool {
	if a.opts.Reads == nil {
		return true
	}
	n := s.Nodes[node]
	if n == nil { // not listed, or gone
		n = &object.Node{Meta: object.Meta{Name: node}}
	}
	return a.opts.Reads(n)
}

// follows says whether a container on a node goes on being followed: of a node that
// went with its pods, the rest is still read.
func (a *API) follows(s *state.Snapshot, key, node string) bool {
	return a.owns(key) && (s.Nodes[node] == nil || a.reads(s, node))
}

// follow starts a follower for every container that has none, ends those of
// containers that are another's now, and forgets the positions of pods that are gone.
func (a *API) follow(ctx context.Context, wg *sync.WaitGroup, all map[string]*following, ended chan<- *follower) {
	s := a.opts.State.Snapshot()
	if s == nil || !s.Synced {
		return
	}
	h := &hearing{deaf: map[string]bool{}}
	if a.opts.Share != nil {
		h.own, h.parts = a.opts.Share.Parts()
	}
	var begin []*follower
	quiet := true // nothing is left to a node's collector that is not heard yet
	for k, run := range all {
		uid, _, _ := strings.Cut(k, "/")
		if pod := s.Pods[uid]; !run.stopped && (run.by.contested.Load() || pod != nil && !a.follows(s, k, pod.Node)) {
			run.stopped = true
			run.stop()
		}
	}
	for uid, pod := range s.Pods {
		if !a.reads(s, pod.Node) {
			continue
		}
		for _, c := range pod.Containers {
			k := uid + "/" + c.Name
			if a.now().Before(a.later[k]) || a.contests.rests(pod.Node, a.now()) {
				h.deaf[pod.Node], quiet = true, false
				continue
			}
			if all[k] != nil || !hasLog(c) || c.State != "running" && a.drained(k, c) || !a.owns(k) {
				continue
			}
			switch a.selects.judge(Container{Namespace: pod.Namespace, Container: c.Name}, pod, a.opts.Services) {
			case undecided:
				h.deaf[pod.Node] = true
				continue
			case refused, elsewhere:
				continue
			}
			f := newFollower(a, pod, c.Name)
			f.node, f.begun = pod.Node, c
			begin = append(begin, f)
			// One that has just started has written nothing before apiDelay.
			if c.State != "running" || a.now().Sub(c.StartedAt) > apiDelay {
				h.deaf[pod.Node] = true
			}
		}
	}
	if a.opts.Share != nil {
		// What is another's since may have been left out above.
		if own, parts := a.opts.Share.Parts(); own != h.own || parts != h.parts || own < 0 {
			h = nil
		}
	}
	for len(begin) > 0 {
		some := begin[:min(len(begin), askAtOnce)]
		begin = begin[len(some):]
		if !a.position(ctx, some) {
			break // they stay deaf
		}
		for _, f := range some {
			if a.waits(f) {
				quiet = false
				continue
			}
			if c := f.begun; !f.known && c.State != "running" && c.Last != nil && c.Last.FinishedAt.Before(a.horizon()) {
				a.finished[f.key] = c.RestartCount // from before our time
				continue
			}
			a.start(ctx, wg, all, f, ended)
		}
	}
	if h != nil && len(begin) == 0 && quiet {
		clear(h.deaf) // each has a follower now, which knows whether it has caught up
	}
	a.heard.Store(h)
	maps.DeleteFunc(a.later, func(k string, at time.Time) bool { return !a.now().Before(at) })
	for k := range a.journal.sources() {
		uid, _, _ := strings.Cut(k, "/")
		if s.Pods[uid] == nil && all[k] == nil {
			a.journal.forget(k)
		}
	}
}

// askLater is how long a container is left to a node's collector that is not heard yet.
const askLater = 5 * time.Second

// waits says whether a container is left to the collector of its node for now.
func (a *API) waits(f *follower) bool {
	delete(a.later, f.key)
	if a.opts.Quiet == nil || !f.pos.byFile() || a.opts.Quiet() {
		return false
	}
	a.later[f.key] = a.now().Add(askLater)
	return true
}

// askAtOnce is of how many containers the server is asked at a time.
const askAtOnce = 500

// position has followers begin where the server's lines end; false when it did not
// say, in which case it is asked again after a while.
func (a *API) position(ctx context.Context, fs []*follower) bool {
	if a.now().Before(a.askAgain) {
		return false
	}
	sources := make([]wire.LogSource, len(fs))
	byKey := make(map[string]*follower, len(fs))
	for i, f := range fs {
		sources[i], byKey[f.key] = f.source(), f
	}
	askCtx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	known, err := a.opts.Positions(askCtx, sources)
	if err != nil {
		if a.askWait == 0 && ctx.Err() == nil {
			a.log.Warn("ask the server how far logs were taken; none are read before it says", "err", err)
		}
		a.askWait = min(max(2*a.askWait, a.opts.Backoff), 10*time.Second)
		a.askAgain = a.now().Add(a.askWait)
		return false
	}
	a.askWait = 0
	for i := range known {
		f := byKey[known[i].Key]
		if f == nil {
			continue
		}
		pos, err := readPosition(known[i])
		if err != nil {
			a.log.Warn("position of a container cannot be read, it is read anew", "namespace", f.id.Namespace, "pod", f.id.Pod, "container", f.id.Container, "err", err)
		}
		f.pos, f.known, f.in = pos, pos.Time > 0, pos.Restarts
		a.journal.set(f.key, pos)
	}
	return true
}

// start runs a follower.
func (a *API) start(ctx context.Context, wg *sync.WaitGroup, all map[string]*following, f *follower, ended chan<- *follower) {
	fctx, stop := context.WithCancel(ctx)
	all[f.key] = &following{by: f, stop: stop}
	a.followers.Store(f.key, f)
	f.take = func(c apiChunk) bool {
		if f.contested.Load() {
			return false
		}
		c.of = f
		select {
		case a.lines <- c:
			return true
		case <-fctx.Done():
			return false
		}
	}
	wg.Go(func() {
		defer stop()
		f.run(fctx)
		select {
		case ended <- f:
		case <-ctx.Done():
		}
	})
}

// hasLog says whether a container ever ran.
func hasLog(c object.Container) bool {
	return c.State == "running" || c.State == "terminated" || c.RestartCount > 0 && (c.ID != "" || c.Last != nil)
}

// horizon is the time before which what the server knows nothing of is left alone.
func (a *API) horizon() time.Time { return a.started.Add(-a.opts.LookBack) }

// drained says that everything a container that does not run has written was taken.
func (a *API) drained(k string, c object.Container) bool {
	restarts, ok := a.finished[k]
	return ok && restarts >= c.RestartCount
}

// build makes batches of what the followers bring.
func (a *API) build(ctx context.Context, ship *shipper[apiPos]) {
	b := newBatch[apiPos](a.opts.Sender)
	var rest apiChunk                 // what did not fit
	sources := map[string]*follower{} // of the batch
	// What came before it was known that somebody else reads it, too, is not sent.
	drop := func() {
		ids, theirs := map[string]Container{}, map[Container]bool{}
		for k, f := range sources {
			if ids[k] = f.id; f.contested.Load() {
				theirs[f.id] = true
			}
		}
		b.wire.Positions = positionsOf(b, ids)
		if len(theirs) == 0 {
			return
		}
		for _, k := range strip(b, theirs) {
			sources[k].contested.Store(true)
			delete(sources, k)
		}
	}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	due, told := false, a.now()
	tick := time.NewTicker(marksEvery)
	defer tick.Stop()
	for {
		if rest.of != nil && rest.of.contested.Load() {
			rest.lines = nil
		}
		if f := sources[rest.key]; f != nil && f != rest.of && f.contested.Load() {
			drop()
		}
		for len(rest.lines) > 0 && !b.full() && b.takes(rest.lines[0].line.Time) {
			l := rest.lines[0]
			rest.lines = rest.lines[1:]
			if b.lines == 0 {
				timer.Reset(a.opts.Linger)
			}
			if was, ok := b.to[rest.key]; !ok {
				b.from[rest.key] = rest.from
			} else if was.Taken != rest.from.Taken {
				// It was another's in between, and its lines of before wait here still.
				a.beginAnew(fmt.Errorf("container %s/%s of %s/%s was given away and came back before its lines were sent", rest.id.UID, rest.id.Container, rest.id.Namespace, rest.id.Pod))
				return
			}
			b.add(rest.stream, l.line)
			b.lineCounts[rest.id] += l.lines
			sources[rest.key] = rest.of
			b.to[rest.key], rest.from = l.pos, l.pos
		}
		lines, want := a.lines, chan struct{}(nil)
		if len(rest.lines) > 0 {
			lines = nil // the followers wait: so many lines are enough
		}
		if b.lines > 0 && (due || len(rest.lines) > 0) || b.lines == 0 && len(rest.lines) == 0 && a.now().Sub(told) >= marksEvery && len(a.marks()) > 0 {
			want = ship.want
		}
		select {
		case <-ctx.Done():
			return
		case rest = <-lines:
		case <-timer.C:
			due = true
		case <-tick.C:
		case <-want:
			var marks []wire.LogMark
			said := a.moment()
			if len(rest.lines) == 0 {
				marks = a.marks()
			}
			drop()
			b.seal(marks, said)
			told = a.now()
			if !ship.give(ctx, b) {
				return
			}
			b, due = newBatch[apiPos](a.opts.Sender), false
			clear(sources)
		}
	}
}

// positionsOf gives the positions that a batch brings, in the order of their keys.
func positionsOf(b *batch[apiPos], ids map[string]Container) []wire.LogPosition {
	out := make([]wire.LogPosition, 0, len(b.to))
	for _, k := range slices.Sorted(maps.Keys(b.to)) {
		state, err := json.Marshal(b.to[k])
		if err != nil {
			panic("BUG: a position cannot be written as JSON: " + err.Error())
		}
		id := ids[k]
		out = append(out, wire.LogPosition{
			LogSource: wire.LogSource{Key: k, Namespace: id.Namespace, Pod: id.Pod, Container: id.Container},
			From:      b.from[k].Taken, Taken: b.to[k].Taken, State: string(state),
		})
	}
	return out
}

// apiDelay is how long it may take until a container that starts is followed,
// with room.
const apiDelay = 5 * time.Second

// marks says up to when the lines of each node are complete with what was handed
// on: when all of its containers were heard to the end of what they had to say.
func (a *API) marks() []wire.LogMark {
	s := a.opts.State.Snapshot()
	if s == nil || !s.Synced {
		return nil
	}
	heard := a.heard.Load()
	if heard == nil {
		return nil
	}
	at := a.moment()
	now := at.wall
	least := map[string]int64{}
	for name := range s.Nodes {
		if a.reads(s, name) && !heard.deaf[name] && !a.contests.rests(name, now) {
			least[name] = now.Add(-apiDelay).UnixNano()
		}
	}
	a.followers.Range(func(_, v any) bool {
		f := v.(*follower) //nolint:forcetypeassert // nothing else is stored
		through := int64(0)
		switch caught := f.caught.Load(); {
		case caught == nil:
		case at.setBackFrom(*caught):
			f.caught.CompareAndSwap(caught, nil)
		default:
			through = caught.wall.UnixNano()
		}
		if at, ok := least[f.node]; ok {
			least[f.node] = min(at, through)
		}
		return true
	})
	var out []wire.LogMark
	for _, name := range slices.Sorted(maps.Keys(least)) {
		// A node that was never complete since this start has no mark.
		if through := least[name]; through > a.started.UnixNano() && len(out) < wire.MaxLogMarks {
			out = append(out, wire.LogMark{Node: name, Through: through, Part: heard.own, Parts: heard.parts})
		}
	}
	return out
}

// follower follows one container over its restarts.
type follower struct {
	a    *API
	key  string
	id   Container
	node string
	// begun is the container as it was when it was found.
	begun object.Container
	// caught is up to when all lines of the container were handed on; nil: never yet.
	caught  atomic.Pointer[moment]
	pos     apiPos
	known   bool
	in      int                 // the instance of the container that pos is a line of
	take    func(apiChunk) bool // hands lines on; false ends the answer
	limiter limiter
	// ended says that the container ended, with so many restarts, and was read.
	ended   bool
	endedAt int
	// pod is as it was last seen, and whole says that its log was read to the end then.
	pod   *object.Pod
	whole bool
	// contested says that somebody else took the container further: nothing is sent any more.
	contested atomic.Bool
}

func newFollower(a *API, pod *object.Pod, container string) *follower {
	return &follower{a: a, pod: pod, limiter: newLimiter(a.opts.Rules.Limit, pod), key: pod.UID + "/" + container, id: Container{Namespace: pod.Namespace, Pod: pod.Name, UID: pod.UID, Container: container}}
}

// catches notes up to when all lines were handed on.
func (f *follower) catches(through moment) { f.caught.Store(&through) }

func (f *follower) source() wire.LogSource {
	return wire.LogSource{Key: f.key, Namespace: f.id.Namespace, Pod: f.id.Pod, Container: f.id.Container}
}

// run ends when the pod is gone, or the container ended for good.
func (f *follower) run(ctx context.Context) {
	a := f.a
	a.counts.read(f.id, 0, 0)
	defer a.counts.forget(f.id)
	wait := a.opts.Backoff
	for ctx.Err() == nil {
		pod, c, ok := f.current()
		if !ok {
			f.tellUnread()
			return
		}
		f.pod = pod
		running := c.State == "running"
		began := a.now()
		n, err := f.connect(ctx, pod, c, running)
		if ctx.Err() != nil {
			return
		}
		// A connection that brought something was a good one, however it ended.
		good := n > 0 || a.now().Sub(began) > 10*time.Second
		if good {
			wait = a.opts.Backoff
		}
		if err != nil {
			if apierrors.IsNotFound(err) {
				if _, _, ok := f.current(); !ok {
					f.tellUnread()
					return
				}
			}
			a.log.Debug("follow container", "namespace", f.id.Namespace, "pod", f.id.Pod, "container", f.id.Container, "retry_seconds", wait.Seconds(), "err", err)
		}
		if err == nil && !running {
			// All of an instance that had ended before we asked.
			if !f.awaitRestart(ctx, c.RestartCount) {
				return
			}
			continue
		}
		if !sleep(ctx, wait) {
			return
		}
		if !good {
			wait = min(2*wait, 30*time.Second)
		}
	}
}

// awaitRestart waits for another instance; it is false when there will be none.
func (f *follower) awaitRestart(ctx context.Context, restarts int) bool {
	for sleep(ctx, f.a.opts.Poll) {
		f.catches(f.a.moment()) // it does not run
		pod, c, ok := f.current()
		if !ok || pod.Ended() && c.State == "terminated" && c.RestartCount == restarts && f.settled() {
			f.ended, f.endedAt = true, restarts
			return false
		}
		if c.State == "running" || c.RestartCount > restarts {
			return true
		}
	}
	return false
}

// settled says whether the last line of the container is acknowledged. Until then
// its follower stays, so that it is not read again.
func (f *follower) settled() bool {
	if !f.known {
		return true
	}
	pos, ok := f.a.journal.position(f.key)
	return ok && pos.same(f.pos)
}

func (f *follower) current() (*object.Pod, object.Container, bool) {
	s := f.a.opts.State.Snapshot()
	if s == nil {
		return nil, object.Container{}, false
	}
	pod := s.Pods[f.id.UID]
	if pod == nil {
		return nil, object.Container{}, false
	}
	i := slices.IndexFunc(pod.Containers, func(c object.Container) bool { return c.Name == f.id.Container })
	if i < 0 {
		return nil, object.Container{}, false
	}
	return pod, pod.Containers[i], true
}

// connect reads one connection's worth: what the previous instance left, then the
// present one, until the connection ends.
func (f *follower) connect(ctx context.Context, pod *object.Pod, c object.Container, running bool) (lines int, err error) {
	a := f.a
	if !f.slot(ctx) {
		return 0, nil
	}
	defer func() { <-a.slots }()

	// The state may be a second old, and an instance that ended meanwhile would be
	// taken for the one that follows it.
	restarts := c.RestartCount
	if f.known || pod.CreatedAt.After(a.horizon()) {
		if n, err := f.restarts(ctx); err == nil {
			restarts = max(restarts, n)
		}
	}
	if (f.known || pod.CreatedAt.After(a.horizon())) && restarts > f.pos.Restarts {
		if restarts > f.pos.Restarts+1 && !f.tellGone(pod, restarts) {
			return 0, nil
		}
		n, err := f.stream(ctx, pod, &corev1.PodLogOptions{Previous: true}, f.pos.Restarts)
		lines += n
		if err != nil && !apierrors.IsBadRequest(err) && !apierrors.IsNotFound(err) { // those say that there is none any more
			return lines, err
		}
		f.pos.Restarts = restarts
	}
	turn, stop := context.WithCancel(ctx)
	defer stop()
	if running {
		defer f.yield(turn, stop)()
	}
	n, err := f.stream(turn, pod, &corev1.PodLogOptions{Follow: running}, restarts)
	switch {
	case turn.Err() != nil && ctx.Err() == nil:
		err = nil // others' turn
		f.whole = false
	case err == nil:
		f.whole = true
	case n > 0:
		f.whole = false // there was something, and there may be more
	}
	return lines + n, err
}

// slot waits for a connection; false when ctx ended, or the pod went meanwhile.
func (f *follower) slot(ctx context.Context) bool {
	a := f.a
	a.waiting.Add(1)
	defer a.waiting.Add(-1)
	look := time.NewTicker(4 * a.opts.Poll)
	defer look.Stop()
	for {
		select {
		case a.slots <- struct{}{}:
			return true
		case <-ctx.Done():
			return false
		case <-look.C:
			if _, _, ok := f.current(); !ok {
				return false
			}
		}
	}
}

// tellGone adds a line that says that instances came and went between two looks: the
// API server has the present one's lines and the one's before, and no others. It is
// false when the line could not be handed on.
func (f *follower) tellGone(pod *object.Pod, restarts int) bool {
	pos := f.pos
	pos.Restarts = restarts - 1
	// Of pods from before our time nobody said that they would be complete.
	if f.known || pod.CreatedAt.After(f.a.started) {
		f.a.log.Warn("container restarted several times between two looks; lines may be lost", "namespace", f.id.Namespace, "pod", f.id.Pod,
			"container", f.id.Container, "instances", pos.Restarts-f.pos.Restarts)
		if !f.tell(pod, DropGone, &pos) {
			return false
		}
	}
	f.pos = pos
	return true
}

// tellUnread adds a line that says that the pod is gone and its log was not read to its
// end: it waited for its turn, or for the server.
func (f *follower) tellUnread() {
	if f.whole {
		return
	}
	f.a.log.Warn("pod is gone, and its log was not read to the end", "namespace", f.id.Namespace, "pod", f.id.Pod, "container", f.id.Container)
	pos := f.pos
	if f.tell(f.pod, DropPod, &pos) {
		f.pos = pos
	}
}

// tell adds a line about lines, nobody knows how many, that cannot be read any more. It
// is false when it could not be handed on.
func (f *follower) tell(pod *object.Pod, reason string, pos *apiPos) bool {
	f.a.counts.dropped(f.id, reason, 0)
	stream := streamOf(f.id, pod, "")
	stream.Stream = streams[0]
	d := drop{from: f.pos.Time, until: f.a.now().UnixNano()}
	line := d.line(dropKey{stream: stream, reason: reason})
	if f.pos.Time > 0 {
		line.Time = f.pos.Time // where the gap begins
	}
	pos.Taken++
	return f.take(apiChunk{key: f.key, id: f.id, stream: stream, from: f.pos, lines: []apiLine{{line: line, pos: *pos}}})
}

// yield ends a connection after its turn if others wait. The returned function
// waits for its end.
func (f *follower) yield(ctx context.Context, stop context.CancelFunc) func() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for sleep(ctx, f.a.opts.Turn) {
			if f.a.waiting.Load() > 0 {
				stop()
				return
			}
		}
	}()
	return func() { stop(); <-done }
}

// restarts asks the API server for the container's restart count.
func (f *follower) restarts(ctx context.Context) (int, error) {
	p, err := f.a.opts.Pods.GetPod(ctx, f.id.Namespace, f.id.Pod)
	if err != nil {
		return 0, fmt.Errorf("get pod: %w", err)
	}
	if string(p.UID) != f.id.UID {
		return 0, nil
	}
	for _, list := range [][]corev1.ContainerStatus{p.Status.ContainerStatuses, p.Status.InitContainerStatuses, p.Status.EphemeralContainerStatuses} {
		for _, s := range list {
			if s.Name == f.id.Container {
				return int(s.RestartCount), nil
			}
		}
	}
	return 0, nil
}

// since limits a request to what may be new.
func (f *follower) since(o *corev1.PodLogOptions, pod *object.Pod) {
	o.Container, o.Timestamps = f.id.Container, true
	switch {
	case f.known && f.pos.Time > 0:
		t := metav1.NewTime(time.Unix(0, f.pos.since()))
		o.SinceTime = &t
	case !f.known && pod != nil && !pod.StartedAt.IsZero() && pod.StartedAt.Before(f.a.horizon()):
		t := metav1.NewTime(f.a.horizon())
		o.SinceTime = &t
	}
}

// stream reads one answer of the API to its end and hands on what is new.
func (f *follower) stream(ctx context.Context, pod *object.Pod, o *corev1.PodLogOptions, restarts int) (lines int, err error) {
	f.since(o, pod)
	body, err := f.a.opts.Pods.PodLogs(ctx, f.id.Namespace, f.id.Pod, o)
	if err != nil {
		return 0, fmt.Errorf("get logs: %w", err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	stop := make(chan struct{})
	defer close(stop)
	defer func() { _ = body.Close() }() // lets the reader go
	texts := make(chan apiText)
	wg.Go(func() { readTexts(paced{ctx, body, f.a.pace}, texts, stop) })

	stream := streamOf(f.id, pod, "")
	stream.Stream = streams[0]
	joiner, err := f.a.joins.of(f.id, pod)
	if err != nil {
		f.a.log.Warn("pod's annotation on multi-line records", "namespace", f.id.Namespace, "pod", f.id.Pod, "container", f.id.Container, "err", err)
	}
	g := &gatherer{a: f.a, joiner: joiner, limiter: &f.limiter, seek: newSeek(f.pos, f.known, restarts == f.in), chunk: apiChunk{key: f.key, id: f.id, stream: stream, from: f.pos}}
	hand := func() bool {
		g.tellDrops()
		if len(g.chunk.lines) == 0 {
			return true
		}
		if !f.take(g.chunk) {
			return false // the next connection begins before them
		}
		n := 0
		for _, l := range g.chunk.lines {
			n += l.lines
		}
		f.a.counts.read(f.id, n, 0)
		lines += n
		f.pos, f.known, f.in = g.chunk.lines[len(g.chunk.lines)-1].pos, true, restarts
		g.chunk.lines, g.chunk.from = nil, f.pos
		return true
	}
	hold := time.NewTimer(time.Hour)
	defer hold.Stop()
	quiet := time.NewTicker(completeAfter)
	defer quiet.Stop()
	since := f.a.moment() // when nothing had come that is not handed on
	for {
		select {
		case <-quiet.C:
			if o.Follow && !g.open && len(g.chunk.lines) == 0 {
				f.catches(since)
				since = f.a.moment()
			}
			continue
		case t := <-texts:
			since = f.a.moment()
			g.seek.latest = latestBy(since.wall)
			for _, text := range t.whole {
				g.line(text, restarts)
			}
			// A line without an end is what was cut off, unless nothing can follow.
			if t.err == io.EOF {
				if t.rest != "" && !o.Follow {
					g.line(t.rest, restarts)
				}
				g.flush() // a connection that broke is read again from the record's beginning
			}
			if !hand() {
				return lines, nil
			}
			if t.err == io.EOF {
				return lines, nil
			}
			if t.err != nil {
				return lines, fmt.Errorf("read logs: %w", t.err)
			}
			hold.Reset(f.a.opts.Rules.Join.Hold)
		case <-hold.C:
			g.flush()
			if !hand() {
				return lines, nil
			}
		}
	}
}

// paced reads no faster than all answers together may be read.
type paced struct {
	ctx  context.Context //nolint:containedctx // of one answer, with which it ends
	body io.Reader
	pace *rate.Limiter
}

func (p paced) Read(b []byte) (int, error) {
	n, err := p.body.Read(b[:min(len(b), p.pace.Burst())])
	if n > 0 {
		if waited := p.pace.WaitN(p.ctx, n); waited != nil && err == nil {
			err = waited
		}
	}
	return n, err
}

// apiText is what an answer brought at once.
type apiText struct {
	whole []string // lines
	rest  string   // one without its end, with err
	err   error
}

// readTexts reads an answer until it ends or nobody wants more.
func readTexts(body io.Reader, texts chan<- apiText, stop <-chan struct{}) {
	r := bufio.NewReaderSize(body, 64<<10)
	for {
		var t apiText
		for t.err == nil && len(t.whole) < chunkLines && (len(t.whole) == 0 || r.Buffered() > 0) {
			text, whole, err := readLine(r)
			if t.err = err; whole {
				t.whole = append(t.whole, text)
			} else {
				t.rest = text
			}
		}
		select {
		case texts <- t:
		case <-stop:
			return
		}
		if t.err != nil {
			return
		}
	}
}

// gatherer makes records of the lines of one answer.
type gatherer struct {
	a       *API
	joiner  joiner
	limiter *limiter
	dropped drop
	dropPos apiPos
	seek    *seek
	chunk   apiChunk

	open  bool // there is a record that may go on
	join  join
	first string
	text  []byte
	room  fieldRoom
	at    int64
	pos   apiPos // of its last line
}

func (g *gatherer) line(text string, restarts int) {
	at, message, pos, ok := g.seek.next(text, restarts)
	if d := g.seek.gap; d.until != 0 {
		g.seek.gap = drop{}
		g.a.counts.dropped(g.chunk.id, DropRotated, 0)
		g.a.log.Warn("log files were rotated away before they were read", "namespace", g.chunk.id.Namespace, "pod", g.chunk.id.Pod, "container", g.chunk.id.Container, "from", time.Unix(0, d.from).UTC(), "until", time.Unix(0, d.until).UTC())
		g.chunk.lines = append(g.chunk.lines, apiLine{line: d.line(dropKey{stream: g.chunk.stream, reason: DropRotated}), pos: g.seek.gapPos})
	}
	if !ok {
		return
	}
	message = strings.TrimSuffix(message, "\r")
	after, goesOn := join{}, false
	if o := g.a.opts.Rules.Join; g.open && at-g.pos.Time <= int64(joinGap) {
		after, goesOn = g.joiner.next(g.join, g.first, message)
		if full := g.join.lines >= o.Lines || at-g.at > int64(joinFor) || len(g.text)+1+len(message) > o.Bytes; goesOn && full {
			g.flush()
			after.lines = 1 // a further part of a long trace
			g.begin(message, at, after)
			goesOn = false
		} else if goesOn {
			g.join = after
			g.text = append(append(g.text, '\n'), message...)
		} else {
			g.flush()
		}
	} else {
		g.flush()
	}
	if !g.open && !goesOn {
		g.begin(message, at, g.joiner.begin(message, false))
	}
	g.pos = pos
	if g.join.whole {
		g.flush()
	}
}

func (g *gatherer) begin(message string, at int64, j join) {
	g.open, g.join, g.first, g.at = true, j, message, at
	g.text = append(g.text[:0], message...)
}

// flush ends the record that is open.
func (g *gatherer) flush() {
	if !g.open {
		return
	}
	g.open = false
	n := g.join.lines
	g.a.counts.wrote(g.chunk.id, len(g.text))
	if !g.limiter.takes(g.at, n, len(g.text)) {
		if g.dropped.lines > 0 && dayOf(g.dropped.until) != dayOf(g.at) {
			g.tellDrops()
		}
		g.dropped.add(n, len(g.text), g.at, g.at)
		g.dropPos = g.pos
		g.a.counts.read(g.chunk.id, n, 0)
		g.a.counts.dropped(g.chunk.id, DropRate, n)
		return
	}
	g.tellDrops()
	g.a.counts.joined(n)
	g.a.shaper.each(string(g.text), g.at, &g.room, func(message string, fields wire.LogFields) {
		g.chunk.lines = append(g.chunk.lines, apiLine{line: wire.LogLine{Time: g.at, Message: message, Fields: fields}, lines: n, pos: g.pos})
		n = 0
	})
}

// tellDrops adds a line for those that were left out since the last one.
func (g *gatherer) tellDrops() {
	if g.dropped.lines == 0 {
		return
	}
	k := dropKey{stream: g.chunk.stream, reason: DropRate, counted: true}
	g.chunk.lines = append(g.chunk.lines, apiLine{line: g.dropped.line(k), pos: g.dropPos})
	g.dropped = drop{}
}

// maxAPILine bounds a line; the rest of a longer one is a line of its own.
const maxAPILine = 1 << 20

// readLine reads up to a newline, which it leaves out. whole is false when the
// answer ended before one.
func readLine(r *bufio.Reader) (line string, whole bool, err error) {
	var b strings.Builder
	for {
		part, err := r.ReadSlice('\n')
		b.Write(part)
		switch {
		case err == nil:
			return strings.TrimSuffix(b.String(), "\n"), true, nil
		case err != bufio.ErrBufferFull:
			return b.String(), false, err
		case b.Len() >= maxAPILine:
			return b.String(), true, nil
		}
	}
}

// seek finds the lines that are new in an answer that begins with lines that may have
// been taken before.
type seek struct {
	from    apiPos
	latest  int64 // time that can be right
	passed  bool  // the last line that was taken has gone by
	matches int   // lines like it so far
	pos     apiPos

	begun  bool // a line of the answer was seen, or it need not be looked for what is missing
	gap    drop // what is missing before the line, once
	gapPos apiPos

	// How often each of the newest lines came, by hash, and of those before them.
	like, before map[uint64]int
	newest       int64 // time of a line

	// Of an answer that begins with lines that a node's collector took.
	at  spot
	new bool // the last line
}

// newSeek begins an answer; same says that it is of the instance of the container that from
// is of.
func newSeek(from apiPos, known, same bool) *seek {
	s := &seek{from: from, latest: math.MaxInt64, passed: !known || from.Time == 0}
	s.begun = s.passed || !same
	s.pos = from
	return s
}

// begin looks at the first line of an answer. Each answer begins before what is to be seen
// again: one that does not is of a file after that one.
func (s *seek) begin(at int64, hash uint64) {
	s.begun = true
	last := s.from.Time
	if s.from.File != nil {
		if first, open := s.from.File.first(); open {
			last = min(last, first.Time)
		}
	}
	if at <= last || slices.Contains(s.from.Recent[:], hash) {
		return
	}
	if n := len(s.from.Missed); n > 0 && s.from.Missed[n-1].After == s.from.Time { // nothing came since
		until := s.from.Missed[n-1].Until
		if at <= until {
			return // it was told
		}
		s.pos.Missed = slices.Clone(s.from.Missed) // what was there then has gone, too
		s.pos.Missed[n-1].Until = at
		s.pos.Taken++
		s.gap, s.gapPos = drop{from: until, until: at}, s.pos
		return
	}
	s.pos, s.gap = s.pos.missing(at)
	s.gapPos = s.pos
}

// next takes one line of an answer. ok is false for one that was taken before, or
// is no line of the container.
func (s *seek) next(text string, restarts int) (at int64, message string, p apiPos, ok bool) {
	stamp, message, _ := strings.Cut(text, " ")
	at, timed := parseTime(stamp)
	switch {
	case timed && at > s.latest: // from a position of that time on, no line would come any more
		at, timed, message = cmp.Or(s.pos.Time, s.latest-int64(aheadLimit)), false, text
	case !timed:
		// The kubelet's own words ("unable to retrieve container logs for …"), or the
		// rest of a line that was too long, which belongs to the line before.
		if s.pos.Time == 0 || !s.passed && !s.new {
			return 0, "", p, false
		}
		at, message = s.pos.Time, text
	}
	h := xxhash.Sum64String(text)
	if timed && !s.begun {
		s.begin(at, h)
	}
	p = apiPos{Time: at, Hash: h, Seen: 1, Taken: s.pos.Taken + 1, Restarts: restarts, Missed: s.pos.Missed}
	if timed {
		p.Seen = s.alike(at, h)
	} else if s.pos.Time == at && s.pos.Hash == h {
		p.Seen = s.pos.Seen + 1
	}
	switch file := s.from.File; {
	case s.passed:
	case file != nil:
		if timed {
			s.at = s.at.next(at)
			s.new = !file.taken(s.at)
			s.passed = file.passed(s.at)
		}
		if !s.new {
			s.pos.Recent = p.after(s.pos.Recent).Recent
			return 0, "", p, false
		}
		if !s.passed {
			p.File = file.after(s.at)
		}
	case at == s.from.Time && h == s.from.Hash:
		if s.matches++; s.matches >= s.from.Seen {
			s.passed = true
		}
		return 0, "", p, false
	case at <= s.from.Time, slices.Contains(s.from.Recent[:], h):
		return 0, "", p, false
	default:
		s.passed = true // that line is gone: this one is newer
	}
	p = p.after(s.pos.Recent)
	s.pos = p
	return at, message, p, true
}

// likeLines so many lines are told apart at least, of whatever time: stdout and stderr may
// be a little out of order. All of the newest time are, up to mostLike.
const (
	likeLines = 64
	mostLike  = 1 << 14
)

// alike counts a line among those of its time and content.
func (s *seek) alike(at int64, hash uint64) int {
	if s.like == nil {
		s.like, s.before = map[uint64]int{}, map[uint64]int{}
	}
	turn := len(s.like) >= mostLike
	if at > s.newest || at < s.newest-int64(clockSet) {
		s.newest = at
		turn = turn || len(s.like) >= likeLines
	}
	if turn {
		s.like, s.before = s.before, s.like
		clear(s.like)
	}
	n, ok := s.like[hash]
	if !ok {
		n = s.before[hash]
	}
	s.like[hash] = n + 1
	return n + 1
}

// after has the position follow on lines of which the last ones are known.
func (p apiPos) after(recent [8]uint64) apiPos {
	copy(p.Recent[:], recent[1:])
	p.Recent[len(p.Recent)-1] = p.Hash
	return p
}
