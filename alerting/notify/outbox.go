package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// Types of notifications that are treated in a way of their own.
const (
	typeResolved  = string(incident.Resolved) // depends on what was told before
	typeTest      = string(incident.Test)     // waits for nothing
	heartbeatType = incident.Heartbeat
)

const (
	firstBackoff = time.Second
	maxBackoff   = 10 * time.Minute
	// perTarget is how many attempts one webhook has at a time, each of another
	// incident. Chats have one, since there the order is seen.
	perTarget = 8
	// pageHeads is how many threads of a target are looked at in one go, and
	// maxPages how often for one look: the next look goes on from there.
	pageHeads = 64
	maxPages  = 16
	// maxCommit bounds the attempts that are stored in one transaction.
	maxCommit = 256
	// maxCopies bounds what is copied to another target in one transaction.
	maxCopies = 200
	// fallbackAfter failures in a row the fallback is told too.
	fallbackAfter = 3
	// holdAfterFailure keeps a broken database from being asked in a loop.
	holdAfterFailure = time.Second
	// lookEvery is how often a target with something waiting is looked at, woken
	// or not.
	lookEvery = time.Minute
	// calendarEvery is how often a closed calendar is asked again, since it may
	// have been edited.
	calendarEvery = 15 * time.Minute
	// grace is how long attempts may go on after the end was asked for.
	grace = 3 * time.Second
)

// Options of an outbox.
type Options struct {
	Store      *meta.DB              // required
	Keyring    *Keyring              // required
	Holder     string                // this outbox's name among those on one database, of which only one sends; empty: it is the only one
	Allowed    []netip.Prefix        // private ranges that targets may stand in; default none
	Timeout    time.Duration         // of one attempt; default 10 s
	Parallel   int                   // attempts at the same time beyond one for each target; default 64
	Logger     *slog.Logger          // default: discards
	Registerer prometheus.Registerer // nil: metrics are kept but not exported
	Now        func() time.Time      // default time.Now
	Jitter     func() float64        // from 0 up to 1; default random
}

func (o Options) complete() (Options, error) {
	var errs []error
	if o.Store == nil {
		errs = append(errs, errors.New("notify: Store is required"))
	}
	if o.Keyring == nil {
		errs = append(errs, errors.New("notify: Keyring is required"))
	}
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	if o.Parallel == 0 {
		o.Parallel = 64
	}
	if o.Timeout < 0 || o.Parallel < 0 {
		errs = append(errs, fmt.Errorf("notify: Timeout %v and Parallel %d must be positive", o.Timeout, o.Parallel))
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Jitter == nil {
		o.Jitter = rand.Float64
	}
	return o, errors.Join(errs...)
}

// Outbox sends what is in the outbox table, at least once, and in order within
// each thread. Each target has a queue of its own: one that does not answer
// slows no other.
type Outbox struct {
	opts    Options
	client  *client
	guard   *Guard
	metrics *metrics
	wake    chan struct{}

	copied atomic.Bool // rows were added that the scheduler does not know of yet
	lease  atomic.Pointer[meta.Lease]
	lost   atomic.Pointer[context.CancelFunc] // ends the present run: another outbox sends

	mu       sync.Mutex
	circuits map[string]Circuit // by target id; those that are not closed
	byHand   map[string]bool    // targets that somebody wants to be tried now
}

// Circuit is how a target that fails stands.
type Circuit struct {
	State string    // open | half-open
	TryAt time.Time // of the next probe
}

// New makes an outbox; nothing is sent before Run.
func New(o Options) (*Outbox, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	g := &Guard{Allowed: o.Allowed}
	return &Outbox{
		opts: o, guard: g, client: newClient(g, o.Timeout), metrics: newMetrics(o.Registerer), wake: make(chan struct{}, 1), circuits: map[string]Circuit{}, byHand: map[string]bool{},
	}, nil
}

// Guard is what addresses are checked with.
func (o *Outbox) Guard() *Guard { return o.guard }

// Wake says that there are new rows, or that targets changed. It never blocks.
func (o *Outbox) Wake() {
	select {
	case o.wake <- struct{}{}:
	default: // somebody said so already
	}
}

// Circuit says how a target stands; false: its circuit is closed.
func (o *Outbox) Circuit(targetID string) (Circuit, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	c, ok := o.circuits[targetID]
	return c, ok
}

// result is an attempt that was made, or a row that needs none.
type result struct {
	n       meta.Notification
	attempt *meta.Attempt // nil: nothing was sent
	answer  answer
	at      time.Time // of the end
	stored  bool
}

// Run sends what is due until ctx ends. What was not sent stays in the table;
// the next start finds it. With a Holder it waits for its turn first, and again
// whenever another outbox took it.
func (o *Outbox) Run(ctx context.Context) error {
	defer o.client.close()
	for {
		l, ours := o.take(ctx)
		if !ours {
			return nil
		}
		turn, lost := context.WithCancel(ctx)
		o.lease.Store(&l)
		o.lost.Store(&lost)
		var keeper sync.WaitGroup
		keeper.Go(func() { o.keepLease(turn, l, lost) })
		err := o.run(turn)
		lost()
		keeper.Wait()
		if err != nil || ctx.Err() != nil {
			o.giveBack(ctx, l)
			return err
		}
		o.opts.Logger.Warn("another outbox sends now", "holder", o.opts.Holder, "token", l.Token)
	}
}

// run sends until ctx ends.
func (o *Outbox) run(ctx context.Context) error {
	// Attempts outlive ctx a little: one that is cut off must be made again.
	attemptCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })
	defer stop()

	made, done := make(chan result, maxCommit), make(chan []result)
	var workers, committer sync.WaitGroup
	committer.Go(func() { o.commit(attemptCtx, ctx.Done(), made, done) })
	defer func() {
		workers.Wait()
		close(made)
		committer.Wait()
	}()
	s := &scheduler{outbox: o, queues: map[string]*queue{}, begin: func(to Sealed, n meta.Notification) {
		workers.Go(func() { made <- o.attempt(attemptCtx, to, n) })
	}}
	s.wakeAll()
	failing := false
	for {
		next, err := s.look(ctx)
		if err != nil && ctx.Err() == nil {
			o.metrics.failures.Inc()
			if !failing {
				o.opts.Logger.Error("read outbox", "err", err)
			}
		}
		failing = err != nil
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-o.wake:
			s.wakeAll()
		case <-timer.C:
		case results := <-done:
			for _, r := range results {
				s.finished(r)
			}
		}
		timer.Stop()
	}
}

// attempt makes one attempt.
func (o *Outbox) attempt(ctx context.Context, to Sealed, n meta.Notification) result {
	began := o.opts.Now()
	clock := time.Now()
	a := o.client.send(ctx, to, note{id: n.ID, typ: n.Type, body: n.Body}, began)
	took := time.Since(clock)
	o.metrics.took.Observe(took.Seconds())
	o.metrics.attempts.WithLabelValues(to.Spec.Type, string(a.outcome)).Inc()
	ended := o.opts.Now()
	o.settle(&n, a, ended)
	if a.outcome != delivered {
		o.opts.Logger.Warn("send notification", "notification", n.ID, "target", n.TargetID, "attempt", n.Attempts, "status", a.status,
			"state", n.State, "took_seconds", took.Seconds(), "err", a.err)
	}
	return result{n: n, answer: a, at: ended, attempt: &meta.Attempt{
		NotificationID: n.ID, At: began, Took: took, Result: string(a.outcome), Status: a.status, Error: a.err, Request: a.request, Response: a.response,
	}}
}

// settle turns an answer into the row's next state.
func (o *Outbox) settle(n *meta.Notification, a answer, now time.Time) {
	n.Attempts++
	n.Maybe = n.Maybe || a.maybe
	n.Error = a.err
	switch a.outcome {
	case delivered:
		n.State, n.DoneAt = meta.NotificationDelivered, now
	case final:
		n.State, n.DoneAt = meta.NotificationDead, now
	case retry:
		n.State, n.NextAt = meta.NotificationPending, now.Add(max(a.retryAfter, o.backoff(n.Attempts)))
		if n.NextAt.After(n.GiveUpAt) {
			n.State, n.DoneAt = meta.NotificationDead, now
			n.Error = "given up: " + a.err
		}
	}
}

// backoff doubles from a second to ten minutes; half of it is random, so that
// targets that came back are not asked by all at once.
func (o *Outbox) backoff(attempts int) time.Duration {
	d := maxBackoff
	if shift := attempts - 1; shift < 10 {
		d = min(maxBackoff, firstBackoff<<shift)
	}
	return d/2 + time.Duration(o.opts.Jitter()*float64(d/2))
}

// commit stores what was made, all that has come together in one transaction:
// each waits for the disk. It ends when made is closed; after stop nobody hears
// of the results any more.
func (o *Outbox) commit(ctx context.Context, stop <-chan struct{}, made <-chan result, done chan<- []result) {
	for first := range made {
		batch := []result{first}
	more:
		for len(batch) < maxCommit {
			select {
			case r, ok := <-made:
				if !ok {
					break more
				}
				batch = append(batch, r)
			default:
				break more
			}
		}
		err := o.store(ctx, batch)
		if err != nil {
			o.opts.Logger.Error("store attempts", "attempts", len(batch), "err", err)
			o.metrics.failures.Inc()
		}
		for i := range batch {
			batch[i].stored = err == nil
		}
		select {
		case done <- batch:
		case <-stop:
		}
	}
}

func (o *Outbox) store(ctx context.Context, batch []result) error {
	// What was sent must be known even when the end was asked for meanwhile.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err := o.update(ctx, func(tx *meta.Tx) error {
		for _, r := range batch {
			err := tx.SaveAttempt(r.n, *r.attempt)
			if err == nil {
				err = o.afterwards(tx, r.n)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, r := range batch {
		if r.n.State != meta.NotificationPending {
			o.metrics.closed.WithLabelValues(r.n.State).Inc()
		}
	}
	return nil
}

// update is a transaction that may add rows; the scheduler hears of them once
// they are there.
func (o *Outbox) update(ctx context.Context, fn func(tx *meta.Tx) error) error {
	err := o.opts.Store.Update(ctx, func(tx *meta.Tx) error {
		if l := o.lease.Load(); l != nil {
			if err := tx.Fence(*l); err != nil {
				return err
			}
		}
		return fn(tx)
	})
	if lost := o.lost.Load(); lost != nil && errors.Is(err, meta.ErrLeaseLost) {
		(*lost)()
	}
	if o.copied.Swap(false) {
		o.Wake()
	}
	return err
}

// afterwards tells other targets what follows from an attempt: the fallback,
// when this target keeps failing; and whoever was told of the beginning in its
// place, when it ended.
func (o *Outbox) afterwards(tx *meta.Tx, n meta.Notification) error {
	if n.CopyOf != "" || n.Type == typeTest || n.Type == string(heartbeatType) || n.Copied {
		return nil
	}
	if now, err := tx.Notification(n.ID); err != nil || now.Copied { // meanwhile, perhaps
		return err
	}
	failed := n.State == meta.NotificationDead || (n.State == meta.NotificationPending && n.Attempts >= fallbackAfter)
	if failed {
		r, err := tx.ResourceByID(n.TargetID)
		if errors.Is(err, fault.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		t, err := FromRow(r)
		if err != nil {
			return err
		}
		if t.Spec.Fallback == "" {
			return nil
		}
		var waiting []meta.Notification
		if n.IncidentID != "" { // what follows in the thread goes along
			if waiting, err = tx.PendingOf(n.TargetID, n.IncidentID, maxCopies); err != nil {
				return err
			}
		}
		if n.State == meta.NotificationDead {
			waiting = append([]meta.Notification{n}, waiting...)
		}
		_, err = o.copyTo(tx, t.Metadata.Project, t.Spec.Fallback, waiting)
		return err
	}
	if n.Type != typeResolved || n.State == meta.NotificationPending {
		return nil
	}
	told, err := tx.CopiedTo(n)
	if err != nil {
		return err
	}
	for _, id := range told {
		if err := o.copyOne(tx, n, id); err != nil {
			return err
		}
	}
	return nil
}

// copyTo tells another target, by name, what one was to be told. It is false
// when there is no such target.
func (o *Outbox) copyTo(tx *meta.Tx, project, name string, notifications []meta.Notification) (bool, error) {
	r, err := tx.Resource(meta.KindTarget, project, name)
	if errors.Is(err, fault.ErrNotFound) {
		o.opts.Logger.Warn("another target is to be told, and there is none of this name", "target", name)
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for _, n := range notifications {
		own, err := tx.HasOwnThread(n.IncidentID, r.ID)
		if err != nil {
			return false, err
		}
		if own { // it knows
			err = tx.MarkCopied(n.ID)
		} else {
			err = o.copyOne(tx, n, r.ID)
		}
		if err != nil {
			return false, err
		}
	}
	return true, nil
}

func (o *Outbox) copyOne(tx *meta.Tx, n meta.Notification, targetID string) (err error) {
	if len(n.Body) == 0 { // heads come without
		if n, err = tx.Notification(n.ID); err != nil {
			return err
		}
	}
	if err := tx.MarkCopied(n.ID); err != nil {
		return err
	}
	now := o.opts.Now()
	id := incident.NewID("ntf_", now)
	o.copied.Store(true)
	return tx.Enqueue(meta.Notification{
		ID: id, IncidentID: n.IncidentID, TargetID: targetID, Type: n.Type, Sequence: n.Sequence, Body: rename(n.Body, n.ID, id), CopyOf: n.ID,
		CreatedAt: now, NextAt: now, GiveUpAt: now.Add(incident.GiveUpAfter),
	})
}

// Again sends a notification again: with the same id, or as a new one, which
// receivers that know the old one will take. It gives what will be sent. The
// caller wakes the outbox after the commit.
func (o *Outbox) Again(tx *meta.Tx, id string, asNew bool, now time.Time) (meta.Notification, error) {
	n, err := tx.Notification(id)
	if err != nil {
		return n, err
	}
	o.mu.Lock()
	o.byHand[n.TargetID] = true
	o.mu.Unlock()
	if !asNew {
		if err := tx.Resend(id, now, now.Add(incident.GiveUpAfter)); err != nil {
			return n, err
		}
		return tx.Notification(id)
	}
	fresh := incident.NewID("ntf_", now)
	if err := tx.Enqueue(meta.Notification{
		ID: fresh, IncidentID: n.IncidentID, TargetID: n.TargetID, Type: n.Type, Sequence: n.Sequence, Body: rename(n.Body, n.ID, fresh), CopyOf: n.ID,
		CreatedAt: now, NextAt: now, GiveUpAt: now.Add(incident.GiveUpAfter),
	}); err != nil {
		return n, err
	}
	return tx.Notification(fresh)
}

// Direct makes one attempt past the table, for what must be told when the table
// itself is in trouble. The error says why it was not delivered.
func (o *Outbox) Direct(ctx context.Context, to Sealed, id, typ string, body []byte) error {
	if a := o.client.send(ctx, to, note{id: id, typ: typ, body: body}, o.opts.Now()); a.outcome != delivered {
		return errors.New(strings.TrimSpace("not delivered: " + a.err))
	}
	return nil
}
