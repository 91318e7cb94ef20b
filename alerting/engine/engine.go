// Package engine owns when policies are evaluated and what follows: it waits for
// arrivals, reads the values, asks the pure step, and stores alerts together
// with their incidents and notifications in one transaction. It must not know
// how samples arrive, how a message looks or how it is sent.
//
// One loop does it all. What it keeps in memory is what the store has; it is
// replaced after a commit, so that a failed commit is tried again with the next
// arrival, and a kill at any point loses nothing and fires nothing twice.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"

	"github.com/crowsnest-dev/crowsnest/alerting/evaluate"
	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/alerting/routing"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/storage/ingest"
	"github.com/crowsnest-dev/crowsnest/storage/inventory"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
	"github.com/crowsnest-dev/crowsnest/storage/rollup"
)

const (
	// maxLate is how late data may be and still fire.
	maxLate = 2 * time.Minute
	// maxAhead is how far ahead of us a sender's time may be.
	maxAhead = 2 * time.Minute
	// missedIntervals make a source silent.
	missedIntervals = 3
	// changeGap is the least time between two evaluations for changes of state:
	// in a large cluster something always changes.
	changeGap = time.Second
	// changeShare is how many times as long as judging took the last time the next
	// evaluation for changes waits, though not longer than the sender's interval is.
	changeShare = 5
	// maxWaiting rounds of one sender; beyond that the oldest are left out.
	maxWaiting = 4
	// slowRound is counted.
	slowRound = time.Second
	// tickEvery is how often silence and due messages are looked at.
	tickEvery = 5 * time.Second
	// saveEvery is how often an alert that only goes on is stored.
	saveEvery = 10 * time.Minute
	// reloadEvery is how often policies and clusters are read without being told.
	reloadEvery = time.Minute
	// keep is how long what has ended is kept; pruneEvery is how often the rest
	// goes.
	keep       = 90 * 24 * time.Hour
	pruneEvery = time.Hour
	// defaultInterval until a sender said its own.
	defaultInterval = 30 * time.Second

	triggerInterval = "interval"
	triggerChange   = "change"
	triggerRollup   = "rollup"

	// senderRollup stands for the rollups among the senders.
	senderRollup = "rollup"
)

// Inventory is what the engine asks of the objects. Answers come from memory;
// what is handed out is not changed.
type Inventory interface {
	Clusters() []string
	Info(cluster string) (inventory.Info, bool)
	List(cluster string, kind object.Kind) []object.Object
	Get(cluster string, key object.Key) (object.Object, bool)
	Gone(cluster string, key object.Key) (inventory.Tombstone, bool)
}

var _ Inventory = (*inventory.Store)(nil)

// Options of an engine.
type Options struct {
	Queryable storage.Queryable // required; where samples are
	// PromQL gives what expressions are evaluated by, of what evaluates them here;
	// default the latter. A remote engine takes whole expressions.
	PromQL    func(promql.QueryEngine) promql.QueryEngine
	Inventory Inventory // required
	Meta      *meta.DB  // required
	// Changed tells which objects changed; nil: that is never known, and rounds for
	// changes of state judge everything.
	Changed Objects
	// Archive gives objects as they were; nil: nothing past is explained.
	Archive Archive
	// Hours give the calendar of a target, for backtests, and who is told while it
	// is closed; nil: none has one.
	Hours func(target meta.Resource) (hours Hours, outside string)
	// Holder is this engine's name among those on one database, of which only one
	// evaluates; two must not have the same. Empty: it is the only one.
	Holder string
	// ScratchDir is where backtests keep what they need for a while; empty: there
	// are none.
	ScratchDir string
	// Evidence collects what is around an alert that begins; nil: nothing is.
	Evidence Evidence
	// Lines counts log lines and events; nil: policies about them are not
	// evaluated, and say so.
	Lines Lines
	// Told is called after a commit that put rows into the outbox.
	Told func()
	// PublicURL is where people reach the console, without a slash at the end.
	PublicURL string
	// Tickets gives the paths of links in messages that act; nil: none.
	Tickets func(incident, notification, target string, now time.Time) (acknowledge, silence string)
	// Unavailable gives the metrics that a cluster's collectors cannot fill, with
	// the reasons; default none.
	Unavailable func(cluster string) map[string]string
	Logger      *slog.Logger          // default: discards
	Registerer  prometheus.Registerer // nil: metrics are kept but not exported
	Now         func() time.Time      // default time.Now
	// Monotonic is a clock that is never set; default: the time since New, by Now
	// when that is given.
	Monotonic func() time.Duration
}

func (o Options) complete() (Options, error) {
	var errs []error
	if o.Queryable == nil {
		errs = append(errs, errors.New("engine: Queryable is required"))
	}
	if o.Inventory == nil {
		errs = append(errs, errors.New("engine: Inventory is required"))
	}
	if o.Meta == nil {
		errs = append(errs, errors.New("engine: Meta is required"))
	}
	if o.PromQL == nil {
		o.PromQL = func(here promql.QueryEngine) promql.QueryEngine { return here }
	}
	if o.Told == nil {
		o.Told = func() {}
	}
	if o.Unavailable == nil {
		o.Unavailable = func(string) map[string]string { return nil }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case o.Now == nil:
		o.Now = time.Now
		if o.Monotonic == nil {
			began := time.Now()
			o.Monotonic = func() time.Duration { return time.Since(began) }
		}
	case o.Monotonic == nil: // whoever has a clock of their own sets it on purpose
		began := o.Now()
		o.Monotonic = func() time.Duration { return o.Now().Sub(began) }
	}
	o.PublicURL = strings.TrimSuffix(o.PublicURL, "/")
	return o, errors.Join(errs...)
}

// source is one sender of a cluster.
type source struct {
	seen     time.Time // when it last sent, by our clock
	interval time.Duration
	at       time.Time // newest time evaluated for it; it never goes back
	said     time.Time // of a node's lines: up to when it has said that they are complete
	changeAt time.Time // when changes of it were last evaluated, by our clock
	// changeTook is how long judging took then.
	changeTook time.Duration
	first      time.Time // of expressions: all times since were evaluated, or journalled
	judged     judged
	trail      trail
}

// judged is up to when all that is of a source was judged, and by the policies of what
// generation.
type judged struct {
	through    time.Time // zero: never
	generation int
}

type sourceKey struct{ cluster, sender string }

// alertKey identifies what can fire once.
type alertKey struct{ policy, cluster, key string }

// round is one evaluation to make.
type round struct {
	source   sourceKey
	trigger  string
	at       time.Time
	interval time.Duration
	received time.Time
}

// Engine evaluates policies. Arrived, RolledUp, PoliciesChanged and Status may
// be called concurrently; Run once.
type Engine struct {
	opts    Options
	log     *slog.Logger
	metrics *metrics
	book    *incident.Book
	promql  promql.QueryEngine
	wake    chan struct{}
	watch   atomic.Pointer[ingest.Watch] // what policies are suspicious of

	queue struct {
		sync.Mutex
		rounds  queued
		changes map[sourceKey]round // waiting for changeGap
		parts   map[sourceKey]parts
		news    map[sourceKey]*news
		strange map[string]news // by cluster: of what others than collectors of ours wrote
		reload  bool
		skipped []meta.SkippedRound // to be journalled
	}
	calls    chan call // of other goroutines, for Run's to make
	workers  sync.WaitGroup
	lease    meta.Lease
	leasedAt time.Time // when it was last renewed
	lost     bool      // another engine has it

	wall        time.Time // of the newest look at the clocks
	mono        time.Duration
	jumps       []jump
	pausedUntil time.Duration // by the monotonic clock: nothing is decided about silence before
	evidence    gathering
	gap         gap
	present     precedence // over the gap

	// Owned by Run's goroutine.
	born       time.Time
	policies   []*compiled
	byID       map[string]*compiled
	generation int // of policies: how often any was compiled
	clusters   map[string]meta.ClusterRow
	rosters    map[rosterKey]*roster
	memory     *memory
	news       map[sourceKey]*news
	rests      map[string]map[restKey]*rest // by cluster
	targets    []incident.Target
	routing    *routing.Set
	applying   []*incident.Alert                 // by the present commit
	gathered   []routing.Facts                   // of all that fires, for the present commit
	factsOf    map[*incident.Alert]routing.Facts // of those of e.alerts that were asked for the last time; an alert that changes is another one
	muzzled    map[alertKey]bool                 // ended by hand: they fire again after they were good once
	lifted     []alertKey                        // of these, what is good now; the next commit stores it
	sources    map[sourceKey]*source
	alerts     map[alertKey]*incident.Alert
	ended      map[alertKey]time.Time   // recently: nothing older may fire again
	changes    map[alertKey][]time.Time // of what does not fire, but did within the last hour
	few        map[alertKey]time.Time   // since when too few objects match
	savedAt    map[string]time.Time     // of alerts, by id
	counts     bool                     // some policy counts lines
	loadedAt   time.Time
	linesAt    time.Time       // when lines were last looked at
	failing    map[string]bool // what is failing, so that it is logged when it changes

	view view // what other goroutines see
}

// New makes an engine; nothing is evaluated before Run.
func New(o Options) (*Engine, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	e := &Engine{
		opts: o, log: o.Logger, metrics: newMetrics(o.Registerer), wake: make(chan struct{}, 1),
		byID: map[string]*compiled{}, clusters: map[string]meta.ClusterRow{}, rosters: map[rosterKey]*roster{}, memory: newMemory(maxMemory), sources: map[sourceKey]*source{},
		news: map[sourceKey]*news{}, rests: map[string]map[restKey]*rest{},
		calls: make(chan call), muzzled: map[alertKey]bool{}, routing: &routing.Set{},
		promql: o.PromQL(newPromQL(o.Logger)), changes: map[alertKey][]time.Time{}, few: map[alertKey]time.Time{},
		alerts: map[alertKey]*incident.Alert{}, ended: map[alertKey]time.Time{}, savedAt: map[string]time.Time{}, failing: map[string]bool{},
	}
	e.queue.changes, e.queue.parts, e.queue.news, e.queue.strange = map[sourceKey]round{}, map[sourceKey]parts{}, map[sourceKey]*news{}, map[string]news{}
	e.evidence.done, e.evidence.budget = make(chan collected, collectors), evidenceBudget
	e.gap.done = make(chan *history, 1)
	e.view.reset()
	e.book = &incident.Book{
		Links:   incident.Links{Base: o.PublicURL},
		Tickets: o.Tickets,
		Targets: func() []incident.Target { return e.targets },
		Routing: func() *routing.Set { return e.routing },
		Firing:  e.facts,
		ClusterName: func(id string) string {
			if c, ok := e.clusters[id]; ok {
				return c.Name
			}
			return id
		},
	}
	return e, nil
}

// Watched gives what arrivals are to tell of by name: what policies are suspicious of. May
// be called concurrently.
func (e *Engine) Watched() *ingest.Watch { return e.watch.Load() }

// Arrived tells that samples of a sender were stored. It never blocks.
func (e *Engine) Arrived(a ingest.Arrival) {
	received := a.ReceivedAt
	if received.IsZero() {
		received = e.opts.Now()
	}
	by := e.watch.Load()
	s, ok := scopeOf(a.Sender)
	if !ok {
		e.strange(a, received, by)
		return
	}
	key := sourceKey{a.Cluster, a.Sender}
	r := round{source: key, trigger: triggerInterval, at: a.Through, interval: a.Interval, received: received}
	var brought news
	named := s.whole() // a node's own rounds are about little
	if named {
		brought = newsOf(a, r.received, by)
	}
	e.queue.Lock()
	if named {
		if e.queue.news[key] == nil {
			e.queue.news[key] = &news{}
		}
		e.queue.news[key].add(brought)
	}
	switch {
	case !a.Through.IsZero():
		if p, ok := e.queue.parts[key]; ok && !p.newest.After(a.Through) {
			delete(e.queue.parts, key)
		}
		e.enqueueLocked(r)
	case a.Backlog: // history; what changed meanwhile comes with the live data
	case a.Part:
		e.queue.parts[key] = e.queue.parts[key].with(a.Newest, r, e.opts.Now())
	default:
		e.changedLocked(r)
	}
	e.queue.Unlock()
	e.poke()
}

// strange notes what no collector of ours wrote, of which nobody judges anything at once: a
// collector's next round would not look for it.
func (e *Engine) strange(a ingest.Arrival, received time.Time, by *ingest.Watch) {
	if by == nil || a.Watch == by && len(a.Odd) == 0 {
		return
	}
	at := later(later(a.Newest, a.Through), later(a.OddUntil, received)).UnixMilli()
	e.queue.Lock()
	defer e.queue.Unlock()
	n := e.queue.strange[a.Cluster]
	n.unknown, n.untold = max(n.unknown, at), max(n.untold, at)
	e.queue.strange[a.Cluster] = n
}

// changedLocked has a change judged; of those that wait already it is one.
func (e *Engine) changedLocked(r round) {
	r.trigger, r.at = triggerChange, r.received
	if waiting, ok := e.queue.changes[r.source]; ok {
		r.received, r.at = waiting.received, later(r.at, waiting.at)
	}
	e.queue.changes[r.source] = r
}

// RolledUp tells that the rollups of an interval were written. It never blocks.
func (e *Engine) RolledUp(w rollup.Written) {
	now := e.opts.Now()
	e.queue.Lock()
	e.enqueueLocked(round{source: sourceKey{w.Cluster, senderRollup}, trigger: triggerRollup, at: w.At, received: now})
	e.queue.Unlock()
	e.poke()
}

// PoliciesChanged tells that policies, targets or clusters were written. It
// never blocks.
func (e *Engine) PoliciesChanged() {
	e.queue.Lock()
	e.queue.reload = true
	e.queue.Unlock()
	e.poke()
}

// enqueueLocked has a round made, and journals the one that it leaves no room for. What
// was late when it came would not have been judged live: it is late data like any other.
func (e *Engine) enqueueLocked(r round) {
	left, full := e.queue.rounds.add(r)
	if !full {
		return
	}
	reason := left.leftOut()
	e.metrics.skipped.WithLabelValues(reason).Inc()
	e.journalLocked(left, reason)
}

// leftOut is why a round that waited was not evaluated.
func (r round) leftOut() string {
	if r.received.Sub(r.at) > maxLate {
		return meta.ReasonLate
	}
	return "overtaken"
}

// maxJournalled rounds wait to be stored; more are not told from evaluated ones.
const maxJournalled = 20_000

// journalLocked notes a round that was not evaluated at its own time.
func (e *Engine) journalLocked(r round, reason string) {
	if r.trigger == triggerChange || len(e.queue.skipped) >= maxJournalled {
		return
	}
	e.queue.skipped = append(e.queue.skipped, meta.SkippedRound{
		Cluster: r.source.cluster, Sender: r.source.sender, At: r.at, Reason: reason, ArrivedAt: r.received,
	})
}

func (e *Engine) journal(r round, reason string) {
	e.queue.Lock()
	defer e.queue.Unlock()
	e.journalLocked(r, reason)
}

// leaveOut journals rounds that were to be made, and were not.
func (e *Engine) leaveOut(rounds ...round) {
	e.queue.Lock()
	defer e.queue.Unlock()
	for _, r := range rounds {
		e.journalLocked(r, r.leftOut())
	}
}

// saveJournal stores which rounds were left out, for backtests to do the same.
func (e *Engine) saveJournal(ctx context.Context) {
	e.queue.Lock()
	rounds := e.queue.skipped
	e.queue.skipped = nil
	e.queue.Unlock()
	if len(rounds) == 0 {
		return
	}
	err := e.write(ctx, func(tx *meta.Tx) error { return tx.AddSkippedRounds(rounds) })
	if ctx.Err() == nil {
		e.report("store", "journal rounds that were left out", err)
	}
	if err != nil { // tried again
		e.queue.Lock()
		e.queue.skipped = append(rounds, e.queue.skipped...)
		e.queue.skipped = e.queue.skipped[:min(len(e.queue.skipped), maxJournalled)]
		e.queue.Unlock()
		return
	}
	for _, r := range rounds {
		if r.Sender == senderRollup && r.Reason == meta.ReasonLate { // which goes along with the next ones
			e.missedExpressions(round{source: sourceKey{r.Cluster, r.Sender}, at: r.At, received: r.ArrivedAt})
		}
	}
}

// leave journals what waits and will not be evaluated any more, and lets another engine
// go on at once. What is late and not in the journal, nobody would ever look at.
func (e *Engine) leave(ctx context.Context) {
	e.queue.Lock()
	for _, r := range e.queue.rounds.take() {
		e.journalLocked(r, r.leftOut())
	}
	e.queue.Unlock()
	saving, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	for range 2 { // the second time the expressions that go along
		e.saveJournal(saving)
	}
	e.releaseLease(ctx)
}

func (e *Engine) poke() {
	select {
	case e.wake <- struct{}{}:
	default: // it is awake already
	}
}

// next takes what is to be done now, and says when there will be more of it.
func (e *Engine) next(now time.Time) (rounds []round, reload bool, wait time.Duration) {
	e.queue.Lock()
	defer e.queue.Unlock()
	rounds = e.queue.rounds.take()
	reload, e.queue.reload = e.queue.reload, false
	e.hearLocked()
	wait = min(tickEvery, e.partsLocked(now))
	for key, r := range e.queue.changes {
		if _, ok := e.queue.parts[key]; ok {
			continue
		}
		if s := e.sources[key]; s != nil {
			gap := max(changeGap, min(changeShare*s.changeTook, s.interval))
			if left := gap - now.Sub(s.changeAt); left > 0 {
				wait = min(wait, left)
				continue
			}
		}
		delete(e.queue.changes, key)
		rounds = append(rounds, r)
	}
	return rounds, reload, wait
}

// Run evaluates until ctx ends. With a Holder it waits for its turn first, and
// again whenever another engine took it.
func (e *Engine) Run(ctx context.Context) error {
	defer e.workers.Wait()
	for e.awaitLease(ctx) {
		if err := e.run(ctx); err != nil || ctx.Err() != nil {
			e.leave(ctx)
			return err
		}
	}
	return nil
}

// run evaluates until ctx ends or another engine took the lease.
func (e *Engine) run(ctx context.Context) error {
	e.born = e.opts.Now()
	for ctx.Err() == nil {
		err := e.restore(ctx)
		if err == nil {
			break
		}
		e.report("load", "load alerts", err)
		// Evaluating without knowing what fires would fire it again.
		if !sleep(ctx, time.Second) {
			return nil
		}
	}
	e.report("load", "load alerts", nil)
	if e.opts.Evidence != nil {
		e.collect(ctx) // what a restart cut short
	}
	tick := e.opts.Now()
	var pruned time.Time
	for {
		now := e.opts.Now()
		if !e.renewLease(ctx, now) {
			return nil
		}
		e.watchClock(ctx, now)
		rounds, reload, wait := e.next(now)
		if reload || now.Sub(e.loadedAt) >= reloadEvery {
			e.reload(ctx, now)
		}
		if e.evaluateAll(ctx, rounds); ctx.Err() != nil {
			return nil
		}
		wait = min(wait, e.overdue(ctx, e.opts.Now()))
		if e.counts {
			if now = e.opts.Now(); now.Sub(e.linesAt) >= linesEvery {
				e.linesAt = now
				e.countLines(ctx, now)
			}
			wait = min(wait, linesEvery)
		}
		if now = e.opts.Now(); now.Sub(tick) >= tickEvery {
			tick = now
			e.silence(ctx, now)
			e.saveJournal(ctx)
			e.startHistory(ctx, now)
		}
		if now.Sub(pruned) >= pruneEvery {
			pruned = now
			err := e.write(ctx, func(tx *meta.Tx) error { return tx.Prune(now.Add(-keep)) })
			if ctx.Err() == nil {
				e.report("store", "prune what is old", err)
			}
		}
		due := e.flush(ctx, now)
		timer := time.NewTimer(min(wait, due))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-e.wake:
		case c := <-e.calls:
			c.done <- e.act(ctx, c)
		case f := <-e.evidence.done:
			found := []collected{f}
			for range len(e.evidence.done) { // at once what is there at once
				found = append(found, <-e.evidence.done)
			}
			e.evidence.working -= len(found)
			e.collect(ctx)
			e.foundLate(ctx, found...)
		case h := <-e.gap.done:
			e.keepHistory(ctx, h, e.opts.Now())
		case <-timer.C:
		}
		timer.Stop()
	}
}

// evaluateAll makes rounds one after another.
func (e *Engine) evaluateAll(ctx context.Context, rounds []round) {
	if len(rounds) == 0 {
		return
	}
	e.present.begin()
	defer e.present.end()
	all := e.together(rounds)
	for i, some := range all {
		if ctx.Err() != nil {
			e.leaveOut(slices.Concat(all[i:]...)...)
			return
		}
		e.evaluate(ctx, some...)
	}
}

// maxTogether bounds how many nodes are judged together: others wait meanwhile, and the store
// looks up to 256 names up by a matcher instead of trying it on all there are.
const maxTogether = 250

// maxFarBack bounds how much is read far back for nodes that are judged together: it is how
// many nodes look back for NoDataLimit by one policy. What the containers of one sent in that
// time takes 3 MB.
const maxFarBack = 16

// together puts what nodes of a cluster sent for one time together: a round costs for each
// policy, whatever few objects a node has. Of what else is of their cluster none is passed,
// and fewer are judged together that have to look far back, each by the same policies.
func (e *Engine) together(rounds []round) [][]round {
	type group struct{ n, far int }
	var out [][]round
	open := map[string]group{} // by cluster: where what others may join is in out
	silences := e.silences()
	for _, r := range rounds {
		s, _ := scopeOf(r.source.sender)
		joins, far := r.trigger == triggerInterval && !s.whole(), 0
		if joins {
			far = e.farBack(r, silences)
		}
		in, ok := open[r.source.cluster]
		if ok && joins && in.far == far && len(out[in.n]) < e.mostTogether(far) && out[in.n][0].at.Equal(r.at) && out[in.n][0].interval == r.interval {
			out[in.n] = append(out[in.n], r)
			continue
		}
		delete(open, r.source.cluster)
		if joins {
			open[r.source.cluster] = group{len(out), far}
		}
		out = append(out, []round{r})
	}
	return out
}

// silences are the policies by which rounds of nodes look for what fell silent.
func (e *Engine) silences() (out []*compiled) {
	for _, c := range e.policies {
		if c.rule.NoData == policy.NoDataAlert && c.concerns(scope{places: []catalogue.Place{catalogue.ByNode}}) {
			out = append(out, c)
		}
	}
	return out
}

// farBack is by how many of these a round looks far back; see lookBack. Of two rounds that do by
// as many they are the same: those that are new since, or all.
func (e *Engine) farBack(r round, silences []*compiled) (n int) {
	var known judged
	if src := e.sources[r.source]; src != nil {
		known = src.judged
	}
	long := r.at.Sub(known.through) > slack*r.interval
	for _, c := range silences {
		if long || c.generation > known.generation {
			n++
		}
	}
	return n
}

// mostTogether is how many nodes are judged together that look far back by so many policies.
func (e *Engine) mostTogether(far int) int {
	if far == 0 {
		return maxTogether
	}
	back := max(time.Hour, min(evaluate.NoDataLimit, e.opts.Now().Sub(e.born.Add(-time.Hour))))
	return max(1, min(maxTogether, int(maxFarBack*evaluate.NoDataLimit/back)/far))
}

// restore loads what fires, and everything else that Run keeps.
func (e *Engine) restore(ctx context.Context) error {
	now := e.opts.Now()
	alerts, ended, changes := map[alertKey]*incident.Alert{}, map[alertKey]time.Time{}, map[alertKey][]time.Time{}
	muzzled := map[alertKey]bool{}
	err := e.opts.Meta.View(ctx, func(tx *meta.Tx) error {
		firing, err := tx.FiringAlerts()
		if err != nil {
			return err
		}
		for _, row := range firing {
			a, err := incident.FromRow(row)
			if err != nil {
				return err
			}
			alerts[keyOf(a)] = a
		}
		recent, err := tx.EndedAlertsSince(now.Add(-evaluate.FlapWithin))
		if err != nil {
			return err
		}
		for _, row := range recent {
			a, err := incident.FromRow(row)
			if err != nil {
				return err
			}
			ended[keyOf(a)] = a.EndedAt
			changes[keyOf(a)] = a.State.Changes
		}
		byHand, err := tx.MuzzledAlerts()
		for _, row := range byHand {
			muzzled[alertKey{row.PolicyID, row.Cluster, row.Key}] = true
		}
		return err
	})
	if err != nil {
		return err
	}
	e.alerts, e.ended, e.changes, e.muzzled = alerts, ended, changes, muzzled
	clear(e.rests) // another engine may have judged meanwhile
	for _, s := range e.sources {
		s.judged = judged{}
	}
	for _, a := range alerts {
		e.savedAt[a.ID] = now
		if a.Collecting && len(e.evidence.waiting) < maxCollecting {
			e.evidence.waiting = append(e.evidence.waiting, a)
		}
	}
	return e.load(ctx, now)
}

// load reads policies, targets and clusters.
func (e *Engine) load(ctx context.Context, now time.Time) error {
	var policies, targets, rows []meta.Resource
	var clusters []meta.ClusterRow
	err := e.opts.Meta.View(ctx, func(tx *meta.Tx) (err error) {
		if policies, err = tx.Resources(meta.KindPolicy); err != nil {
			return err
		}
		if targets, err = tx.Resources(meta.KindTarget); err != nil {
			return err
		}
		for _, kind := range []string{meta.KindRoute, meta.KindSilence, meta.KindMaintenance, meta.KindInhibition} {
			of, err := tx.Resources(kind)
			if err != nil {
				return err
			}
			rows = append(rows, of...)
		}
		clusters, err = tx.ListClusters()
		return err
	})
	if err != nil {
		return err
	}
	set, err := routing.Compile(rows)
	e.report("load", "read routes and mutes", err) // the others work
	e.routing = set
	e.view.setRoutes(set.HasRoutes())
	e.loadedAt = now
	byID := make(map[string]*compiled, len(policies))
	before, labelsBefore := e.policies, e.clusters
	e.policies, e.counts = e.policies[:0:0], false
	generation := e.generation + 1
	for _, r := range policies {
		c := e.byID[r.ID]
		if c == nil || c.ref.Revision != r.Revision {
			if c, err = compile(r); err != nil {
				// One that cannot be read must not stop the others; its alerts stay.
				e.log.Error("read policy", "policy", r.Name, "err", err)
				e.metrics.failures.WithLabelValues("load").Inc()
				c = &compiled{ref: incident.PolicyRef{ID: r.ID, Name: r.Name, Project: r.Project, Revision: r.Revision}, enabled: true}
			}
			c.generation, e.generation = generation, generation
		}
		byID[r.ID] = c
		if c.enabled && c.spec != nil {
			e.policies = append(e.policies, c)
			e.counts = e.counts || c.lines()
		}
	}
	e.byID = byID
	e.targets = e.targets[:0:0]
	for _, r := range targets {
		t, err := targetOf(r)
		if err != nil {
			e.log.Error("read target", "target", r.Name, "err", err)
			continue
		}
		e.targets = append(e.targets, t)
	}
	e.clusters = make(map[string]meta.ClusterRow, len(clusters))
	for _, c := range clusters {
		e.clusters[c.ID] = c
	}
	for key, src := range e.sources {
		if !maps.Equal(labelsBefore[key.cluster].Labels, e.clusters[key.cluster].Labels) {
			src.judged = judged{} // others may be about it now
		}
	}
	if !slices.Equal(before, e.policies) || !maps.EqualFunc(labelsBefore, e.clusters, func(a, b meta.ClusterRow) bool { return maps.Equal(a.Labels, b.Labels) }) {
		clear(e.rests) // what others are about, or elsewhere, was not judged yet
		e.watch.Store(watchOf(e.policies))
	}
	maps.DeleteFunc(e.news, func(of sourceKey, _ *news) bool { return e.clusters[of.cluster].ID == "" })
	maps.DeleteFunc(e.rosters, func(of rosterKey, _ *roster) bool { return e.clusters[of.cluster].ID == "" })
	for _, r := range e.rosters {
		r.forget(e.policies)
	}
	e.view.firing(e.alerts)
	return nil
}

// reload loads and ends what policies and clusters that are gone leave behind.
func (e *Engine) reload(ctx context.Context, now time.Time) {
	if err := e.load(ctx, now); err != nil {
		e.report("load", "load policies", err)
		e.loadedAt = now.Add(tickEvery - reloadEvery) // again with the next tick
		return
	}
	e.report("load", "load policies", nil)
	e.orphans(ctx, now)
}

// flush tells what is due by time, and says when the next is.
func (e *Engine) flush(ctx context.Context, now time.Time) time.Duration {
	var told bool
	var next time.Time
	e.gathered = nil
	err := e.opts.Meta.View(ctx, func(tx *meta.Tx) (err error) { next, err = tx.NextThread(); return err })
	if err == nil && !next.IsZero() && !next.After(now) {
		err = e.write(ctx, func(tx *meta.Tx) (err error) {
			if told, err = e.book.Flush(tx, now); err != nil {
				return err
			}
			next, err = tx.NextThread()
			return err
		})
	}
	if err != nil && ctx.Err() == nil {
		e.report("store", "tell what is due", err)
		return tickEvery
	}
	if told {
		e.opts.Told()
	}
	if next.IsZero() {
		return tickEvery
	}
	return max(time.Millisecond, min(tickEvery, next.Sub(now)))
}

// commit stores alerts that began, changed or ended, with all that follows and
// what else belongs to it, and only then takes them over.
func (e *Engine) commit(ctx context.Context, now time.Time, changed, quiet []*incident.Alert, also ...func(*meta.Tx) error) bool {
	if len(changed) == 0 && len(quiet) == 0 && len(also) == 0 && len(e.lifted) == 0 {
		return true
	}
	var told bool
	e.gatherEvidence(ctx, changed)
	e.applying, e.gathered = changed, nil
	defer func() { e.applying = nil }()
	err := e.write(ctx, func(tx *meta.Tx) (err error) {
		if told, err = e.book.Apply(tx, now, changed); err != nil {
			return err
		}
		for _, a := range quiet {
			row, err := a.Row()
			if err != nil {
				return err
			}
			if err := tx.PutAlert(row); err != nil {
				return err
			}
		}
		for _, k := range e.lifted {
			if err := tx.Muzzle(k.policy, k.cluster, k.key, false); err != nil {
				return err
			}
		}
		for _, fn := range also {
			if err := fn(tx); err != nil {
				return err
			}
		}
		return nil
	})
	lifted := e.lifted
	e.lifted = nil // what was not stored is found again at the next judgement
	if err != nil {
		if ctx.Err() == nil {
			e.report("store", "store alerts", err)
		}
		return false
	}
	e.report("store", "store alerts", nil)
	for _, k := range lifted {
		delete(e.muzzled, k)
	}
	for _, list := range [][]*incident.Alert{changed, quiet} {
		for _, a := range list {
			e.take(a, now)
		}
	}
	if len(changed)+len(quiet) > 0 {
		e.metrics.firing.Set(float64(len(e.alerts)))
		e.view.firing(e.alerts)
	}
	if told {
		e.opts.Told()
	}
	return true
}

func (e *Engine) take(a *incident.Alert, now time.Time) {
	key := keyOf(a)
	_, before := e.alerts[key]
	a.Found = nil // it is stored
	switch {
	case a.Firing:
		e.alerts[key] = a
		delete(e.changes, key) // its state has them
		e.savedAt[a.ID] = now
		if !before {
			e.metrics.changes.WithLabelValues("began").Inc()
			e.log.Info("alert began", "alert", a.ID, "policy", a.Policy.Name, "cluster", a.Object.Cluster, "key", a.Key, "severity", a.Severity)
		}
	default:
		delete(e.alerts, key)
		delete(e.savedAt, a.ID)
		e.ended[key] = a.EndedAt
		if e.changes[key] = a.State.Changes; len(a.State.Changes) == 0 {
			delete(e.changes, key)
		}
		if before {
			e.metrics.changes.WithLabelValues("ended").Inc()
			e.log.Info("alert ended", "alert", a.ID, "policy", a.Policy.Name, "cluster", a.Object.Cluster, "key", a.Key, "cause", a.Cause)
		}
	}
}

// report logs a failure when it begins and when it ends, and counts it always.
func (e *Engine) report(reason, what string, err error) {
	if err == nil {
		if e.failing[what] {
			delete(e.failing, what)
			e.log.Info("works again", "what", what)
		}
		return
	}
	e.metrics.failures.WithLabelValues(reason).Inc()
	if !e.failing[what] {
		e.failing[what] = true
		e.log.Error("engine failure", "what", what, "err", err)
	}
}

func keyOf(a *incident.Alert) alertKey {
	return alertKey{a.Policy.ID, a.Object.Cluster, a.Key}
}

func splitSender(sender string) (role, node string) {
	role, node, _ = strings.Cut(sender, "/")
	return role, node
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func targetOf(r meta.Resource) (incident.Target, error) {
	var spec struct {
		Type     string   `json:"type"`
		MaxBytes int      `json:"maxBytes"`
		Evidence []string `json:"evidence"`
	}
	if err := unmarshal(r.Spec, &spec); err != nil {
		return incident.Target{}, fmt.Errorf("read target %q: %w", r.Name, err)
	}
	return incident.Target{ID: r.ID, Name: r.Name, MaxBytes: spec.MaxBytes, Webhook: spec.Type == "webhook", Evidence: spec.Evidence}, nil
}
