package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// typeResolved is the one type that depends on what was told before.
const typeResolved = "incident.resolved"

const (
	firstBackoff = time.Second
	maxBackoff   = 10 * time.Minute
	// maxHeads bounds how much of the outbox is looked at in one go; what is due
	// soonest comes first, so the rest only waits.
	maxHeads = 1000
	// grace is how long attempts may go on after the end was asked for.
	grace = 3 * time.Second
	// holdAfterFailure keeps a broken database from being asked in a loop.
	holdAfterFailure = time.Second
)

// Options of an outbox.
type Options struct {
	Store      *meta.DB              // required
	Keyring    *Keyring              // required
	Allowed    []netip.Prefix        // private ranges that webhooks may reach; default none
	Timeout    time.Duration         // of one attempt; default 10 s
	Parallel   int                   // attempts at the same time; default 16. One target has one at most
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
		o.Parallel = 16
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

// Outbox sends what is in the outbox table, at least once, in order within each
// thread, one notification a target at a time.
type Outbox struct {
	opts    Options
	client  *client
	guard   *Guard
	metrics *metrics
	wake    chan struct{}
}

// New makes an outbox; nothing is sent before Run.
func New(o Options) (*Outbox, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	g := &Guard{Allowed: o.Allowed}
	return &Outbox{opts: o, guard: g, client: newClient(g, o.Timeout), metrics: newMetrics(o.Registerer), wake: make(chan struct{}, 1)}, nil
}

// Guard is what addresses are checked with.
func (o *Outbox) Guard() *Guard { return o.guard }

// Wake says that there are new rows. It never blocks.
func (o *Outbox) Wake() {
	select {
	case o.wake <- struct{}{}:
	default: // somebody said so already
	}
}

// finished is what a worker tells the loop.
type finished struct {
	target string
	failed bool // what came of the attempt could not be stored
}

// Run sends what is due until ctx ends. What was not sent stays in the table;
// the next start finds it.
func (o *Outbox) Run(ctx context.Context) error {
	defer o.client.close()
	// Attempts outlive ctx a little: one that is cut off must be made again.
	attemptCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })
	defer stop()

	var workers sync.WaitGroup
	defer workers.Wait()
	done := make(chan finished, o.opts.Parallel)
	busy := map[string]bool{}
	held := map[string]time.Time{}
	failing := false
	for {
		next, err := o.start(ctx, busy, held, func(n meta.Notification) {
			workers.Go(func() {
				err := o.attempt(attemptCtx, n)
				if err != nil {
					o.opts.Logger.Error("store attempt", "notification", n.ID, "err", err)
					o.metrics.failures.Inc()
				}
				done <- finished{n.TargetID, err != nil}
			})
		})
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
		case <-timer.C:
		case f := <-done:
			delete(busy, f.target)
			if f.failed {
				held[f.target] = o.opts.Now().Add(holdAfterFailure)
			}
		}
		timer.Stop()
	}
}

// start begins what is due, and says when to look again.
func (o *Outbox) start(ctx context.Context, busy map[string]bool, held map[string]time.Time, begin func(meta.Notification)) (next time.Duration, err error) {
	var heads []meta.Notification
	if err := o.opts.Store.View(ctx, func(tx *meta.Tx) (err error) { heads, err = tx.Heads(maxHeads); return err }); err != nil {
		return holdAfterFailure, err
	}
	o.metrics.pending.Set(float64(len(heads)))
	now := o.opts.Now()
	next = time.Minute
	for _, n := range heads {
		at := n.NextAt
		if h := held[n.TargetID]; h.After(at) {
			at = h
		}
		if wait := at.Sub(now); wait > 0 {
			next = min(next, wait)
			continue
		}
		if busy[n.TargetID] || len(busy) >= o.opts.Parallel {
			continue // its end wakes the loop
		}
		busy[n.TargetID] = true
		delete(held, n.TargetID)
		begin(n)
	}
	return next, nil
}

// attempt makes one attempt and stores what came of it. An error means that it
// could not be stored: it will be made again, with the same id.
func (o *Outbox) attempt(ctx context.Context, n meta.Notification) error {
	to, skip, err := o.prepare(ctx, &n)
	if err != nil {
		return err
	}
	now := o.opts.Now()
	if skip {
		n.DoneAt = now
		return o.store(ctx, n, nil)
	}
	a := o.client.post(ctx, to, n.ID, n.Body, now)
	took := o.opts.Now().Sub(now)
	o.metrics.took.Observe(took.Seconds())
	o.metrics.attempts.WithLabelValues(string(a.outcome)).Inc()
	o.settle(&n, a, o.opts.Now())
	attempt := meta.Attempt{NotificationID: n.ID, At: now, Took: took, Result: string(a.outcome), Status: a.status, Error: a.err}
	if a.outcome != delivered {
		o.opts.Logger.Warn("send notification", "notification", n.ID, "target", n.TargetID, "attempt", n.Attempts, "status", a.status,
			"state", n.State, "took_seconds", took.Seconds(), "err", a.err)
	}
	return o.store(ctx, n, &attempt)
}

// prepare finds the target. skip means that nothing is to be sent, with the
// reason in n.
func (o *Outbox) prepare(ctx context.Context, n *meta.Notification) (to Sealed, skip bool, err error) {
	err = o.opts.Store.View(ctx, func(tx *meta.Tx) error {
		if n.Type == typeResolved {
			told, err := tx.MaybeTold(*n)
			if err != nil {
				return err
			}
			if !told {
				n.State, n.Error, skip = meta.NotificationSkipped, "nothing that it would end was received", true
				return nil
			}
		}
		r, err := tx.ResourceByID(n.TargetID)
		if errors.Is(err, fault.ErrNotFound) {
			n.State, n.Error, skip = meta.NotificationDead, "the target was deleted", true
			return nil
		}
		if err != nil {
			return err
		}
		if to, err = Unseal(o.opts.Keyring, r); err != nil {
			n.State, n.Error, skip = meta.NotificationDead, err.Error(), true
		}
		return nil
	})
	return to, skip, err
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

func (o *Outbox) store(ctx context.Context, n meta.Notification, a *meta.Attempt) error {
	// What was sent must be known even when the end was asked for meanwhile.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err := o.opts.Store.Update(ctx, func(tx *meta.Tx) error {
		if a == nil {
			return tx.CloseNotification(n)
		}
		return tx.SaveAttempt(n, *a)
	})
	if err == nil && n.State != meta.NotificationPending {
		o.metrics.closed.WithLabelValues(n.State).Inc()
	}
	return err
}
