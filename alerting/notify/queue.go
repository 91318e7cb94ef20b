package notify

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

const (
	// openAfter failures in a row a target is probed only.
	openAfter = 5
	// A closed circuit's first pause, and its longest.
	firstPause = 5 * time.Second
	maxPause   = 5 * time.Minute
)

// circuit keeps a target that fails from being asked by everything that waits
// for it.
type circuit struct {
	failures int // in a row
	tryAt    time.Time
}

func (c *circuit) open() bool { return c.failures >= openAfter }

// failed notes a failure; pause is for the time of which it takes the half at
// random.
func (c *circuit) failed(now time.Time, jitter float64) {
	c.failures++
	if !c.open() {
		return
	}
	d := maxPause
	if shift := c.failures - openAfter; shift < 8 {
		d = min(maxPause, firstPause<<shift)
	}
	c.tryAt = now.Add(d/2 + time.Duration(jitter*float64(d/2)))
}

// queue is what the scheduler knows of a target. What waits is in the table.
type queue struct {
	id       string
	inflight map[string]bool // incidents
	probing  bool            // the attempt in flight is an open circuit's probe
	cursor   string          // incident after which the next look begins
	circuit  circuit
	limit    RateLimit
	limiter  *rate.Limiter // nil: no limit
	held     time.Time     // nothing before: the receiver asked for it, or the database failed
	nextAt   time.Time     // of the next look; zero: now
	to       Sealed
	revision int64 // of to; 0: not read yet
	calendar *Calendar
}

// scheduler decides what is sent next. It is used by one goroutine.
type scheduler struct {
	outbox *Outbox
	queues map[string]*queue
	begin  func(Sealed, meta.Notification)
	extra  int  // attempts in flight beyond one for each target
	all    bool // the list of targets is to be read again
	listed time.Time
}

func (s *scheduler) wakeAll() { s.all = true }

// look begins what is due, and says when to look again.
func (s *scheduler) look(ctx context.Context) (time.Duration, error) {
	now := s.outbox.opts.Now()
	if s.all || now.Sub(s.listed) >= lookEvery {
		if err := s.list(ctx); err != nil {
			return holdAfterFailure, err
		}
		s.all, s.listed = false, now
	}
	next := lookEvery
	var failed error
	for _, q := range s.queues {
		if !q.nextAt.After(now) {
			if err := s.fill(ctx, q, now); err != nil {
				failed, q.nextAt = err, now.Add(holdAfterFailure)
			}
		}
		next = min(next, q.nextAt.Sub(now))
	}
	return max(next, time.Millisecond), failed
}

// list finds the targets for which something waits.
func (s *scheduler) list(ctx context.Context) error {
	var ids []string
	if err := s.outbox.opts.Store.View(ctx, func(tx *meta.Tx) (err error) { ids, err = tx.PendingTargets(); return err }); err != nil {
		return err
	}
	o := s.outbox
	o.mu.Lock()
	byHand := maps.Clone(o.byHand)
	clear(o.byHand)
	o.mu.Unlock()
	waiting := make(map[string]bool, len(ids))
	for _, id := range ids {
		waiting[id] = true
		q := s.queues[id]
		if q == nil {
			q = &queue{id: id, inflight: map[string]bool{}}
			s.queues[id] = q
		}
		q.nextAt = time.Time{}
		if byHand[id] { // whoever asked for it probably mended something
			q.circuit.tryAt, q.held = time.Time{}, time.Time{}
		}
	}
	threads := 0
	for id, q := range s.queues {
		threads += len(q.inflight)
		// One whose circuit is open is remembered for as long as it is.
		if !waiting[id] && len(q.inflight) == 0 && !q.circuit.open() {
			delete(s.queues, id)
		}
	}
	s.outbox.metrics.pending.Set(float64(len(ids)))
	s.outbox.metrics.flying.Set(float64(threads))
	return nil
}

// finished takes over what came of an attempt.
func (s *scheduler) finished(r result) {
	o, now := s.outbox, r.at
	q := s.queues[r.n.TargetID]
	if q == nil {
		return
	}
	delete(q.inflight, r.n.IncidentID)
	if len(q.inflight) > 0 {
		s.extra--
	}
	q.nextAt = time.Time{}
	if !r.stored {
		q.held = now.Add(holdAfterFailure)
	}
	switch {
	case r.attempt == nil:
	case r.answer.outcome == retry:
		q.circuit.failed(now, o.opts.Jitter())
		if r.answer.retryAfter > 0 { // meant for all that comes from us
			if until := now.Add(r.answer.retryAfter); until.After(q.held) {
				q.held = until
			}
		}
	default: // it answers, if only that it does not want this one
		q.circuit = circuit{}
	}
	q.probing = false
	s.show(q)
}

// show lets others see an open circuit.
func (s *scheduler) show(q *queue) {
	o := s.outbox
	o.mu.Lock()
	defer o.mu.Unlock()
	if !q.circuit.open() {
		delete(o.circuits, q.id)
	} else {
		c := Circuit{State: "open", TryAt: q.circuit.tryAt}
		if q.probing {
			c.State = "half-open"
		}
		o.circuits[q.id] = c
	}
	o.metrics.circuits.Set(float64(len(o.circuits)))
}

// fill begins what is due of one target.
func (s *scheduler) fill(ctx context.Context, q *queue, now time.Time) error {
	o := s.outbox
	most := perTarget
	q.nextAt = now.Add(lookEvery)
	gone, err := s.read(ctx, q)
	if err != nil {
		return err
	}
	if gone != "" {
		return s.giveUp(ctx, q, gone, now)
	}
	if q.to.Spec.Type != TypeWebhook {
		most = 1
	}
	tests, err := s.tests(ctx, q)
	if err != nil {
		return err
	}
	for _, n := range tests { // somebody waits for these, and wants to know
		switch {
		case q.inflight[n.IncidentID]:
		case n.NextAt.After(now):
			if n.NextAt.Before(q.nextAt) {
				q.nextAt = n.NextAt
			}
		default:
			if err := s.start(ctx, q, n, now); err != nil {
				return err
			}
		}
	}
	if q.circuit.failures >= fallbackAfter && q.to.Spec.Fallback != "" {
		if err := s.fallBack(ctx, q); err != nil {
			return err
		}
	}
	until := q.held
	if q.circuit.open() {
		most = 1
		if q.circuit.tryAt.After(until) {
			until = q.circuit.tryAt
		}
	}
	if until.After(now) {
		q.nextAt = until
		return nil
	}
	open, opens := q.calendar.State(now)
	if !open {
		if again := now.Add(calendarEvery); opens.IsZero() || opens.After(again) {
			opens = again
		}
		if opens.Before(q.nextAt) {
			q.nextAt = opens
		}
	}
	from := q.cursor
	for range maxPages {
		if len(q.inflight) >= most || (len(q.inflight) > 0 && s.extra >= o.opts.Parallel) {
			return nil // an end wakes it
		}
		var heads []meta.Notification
		if err := o.opts.Store.View(ctx, func(tx *meta.Tx) (err error) { heads, err = tx.Heads(q.id, q.cursor, pageHeads); return err }); err != nil {
			return err
		}
		for _, n := range heads {
			q.cursor = n.IncidentID
			switch {
			case q.inflight[n.IncidentID] || n.Type == typeTest:
				continue
			case n.NextAt.After(now):
				if n.NextAt.Before(q.nextAt) {
					q.nextAt = n.NextAt
				}
				continue
			case !open && n.Type != typeResolved && n.Type != string(heartbeatType):
				if q.calendar.Outside != "" {
					told, err := s.outside(ctx, q, n, now)
					if err != nil {
						return err
					}
					if told {
						q.nextAt = now // what follows in the thread
					}
				}
				continue
			}
			if wait := q.reserve(now); wait > 0 {
				if at := now.Add(wait); at.Before(q.nextAt) {
					q.nextAt = at
				}
				q.cursor = "" // the oldest go first once it may go on
				return nil
			}
			if err := s.start(ctx, q, n, now); err != nil {
				return err
			}
			if len(q.inflight) >= most || (len(q.inflight) > 0 && s.extra >= o.opts.Parallel) {
				return nil
			}
		}
		if len(heads) < pageHeads {
			q.cursor = ""
			if from == "" {
				return nil // all was seen
			}
			from = ""
		}
	}
	q.nextAt = now.Add(holdAfterFailure) // there is more than one look sees
	return nil
}

// read gets the target's row when it changed. gone says why nothing can be sent
// there any more.
func (s *scheduler) read(ctx context.Context, q *queue) (gone string, err error) {
	o := s.outbox
	var r meta.Resource
	err = o.opts.Store.View(ctx, func(tx *meta.Tx) (err error) { r, err = tx.ResourceByID(q.id); return err })
	if errors.Is(err, fault.ErrNotFound) {
		return "the target was deleted", nil
	}
	if err != nil || r.Revision == q.revision {
		return "", err
	}
	to, err := Unseal(o.opts.Keyring, r)
	if err != nil {
		return err.Error(), nil
	}
	if q.revision != 0 {
		q.circuit, q.held = circuit{}, time.Time{} // what was wrong may be mended
		s.show(q)
	}
	q.to, q.revision, q.calendar = to, r.Revision, to.Spec.Calendar
	limit := to.Spec.limit()
	if limit != q.limit {
		q.limit, q.limiter = limit, nil
		if limit.Count > 0 {
			q.limiter = rate.NewLimiter(rate.Limit(float64(limit.Count)/limit.Per.D().Seconds()), limit.Count)
		}
	}
	return "", nil
}

// limit is what a user set, else what the service is known to take.
func (s *TargetSpec) limit() RateLimit {
	if s.RateLimit != nil {
		return *s.RateLimit
	}
	per := func(count int) RateLimit {
		r := RateLimit{Count: count}
		_ = r.Per.UnmarshalText([]byte("1m"))
		return r
	}
	switch s.Type {
	case TypeWeCom, TypeDingTalk, TypeTelegram:
		return per(20)
	case TypeDiscord:
		return per(30)
	case TypeSlack, TypeFeishu, TypeTeams:
		return per(60)
	}
	return RateLimit{}
}

// reserve takes a place under the rate limit, or says how long there is none.
func (q *queue) reserve(now time.Time) time.Duration {
	if q.limiter == nil {
		return 0
	}
	r := q.limiter.ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

// tests gives what was sent to try the target out.
func (s *scheduler) tests(ctx context.Context, q *queue) (tests []meta.Notification, err error) {
	err = s.outbox.opts.Store.View(ctx, func(tx *meta.Tx) (err error) { tests, err = tx.Heads(q.id, testThread, 10); return err })
	out := tests[:0]
	for _, n := range tests {
		if n.Type == typeTest {
			out = append(out, n)
		}
	}
	return out, err
}

// testThread is what the threads of tests begin with; incidents sort before.
const testThread = "test_"

// start begins the attempt of one notification, unless it needs none.
func (s *scheduler) start(ctx context.Context, q *queue, n meta.Notification, now time.Time) error {
	o := s.outbox
	told := true
	err := o.opts.Store.View(ctx, func(tx *meta.Tx) (err error) {
		if n.Type == typeResolved {
			if told, err = tx.MaybeTold(n); err != nil || !told {
				return err
			}
		}
		n, err = tx.Notification(n.ID)
		return err
	})
	if err != nil {
		return err
	}
	if !told {
		n.State, n.Error, n.DoneAt = meta.NotificationSkipped, "nothing that it would end was received", now
		q.nextAt = now
		return s.close(ctx, n)
	}
	if len(q.inflight) > 0 {
		s.extra++
	}
	q.inflight[n.IncidentID] = true
	if q.circuit.open() {
		q.probing = true
		s.show(q)
	}
	s.begin(q.to, n)
	return nil
}

// close ends notifications without an attempt.
func (s *scheduler) close(ctx context.Context, ns ...meta.Notification) error {
	o := s.outbox
	err := o.update(ctx, func(tx *meta.Tx) error {
		for _, n := range ns {
			err := tx.CloseNotification(n)
			if err == nil {
				err = o.afterwards(tx, n)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		for _, n := range ns {
			o.metrics.closed.WithLabelValues(n.State).Inc()
		}
	}
	return err
}

// giveUp closes what waits for a target that cannot be sent to.
func (s *scheduler) giveUp(ctx context.Context, q *queue, reason string, now time.Time) error {
	var heads []meta.Notification
	if err := s.outbox.opts.Store.View(ctx, func(tx *meta.Tx) (err error) { heads, err = tx.Heads(q.id, "", maxCopies); return err }); err != nil {
		return err
	}
	for i := range heads {
		heads[i].State, heads[i].Error, heads[i].DoneAt = meta.NotificationDead, reason, now
	}
	if len(heads) > 0 {
		q.nextAt = now
	}
	return s.close(ctx, heads...)
}

// fallBack tells the fallback what waits for a target that fails.
func (s *scheduler) fallBack(ctx context.Context, q *queue) error {
	var waiting []meta.Notification
	find := func(tx *meta.Tx) error {
		found, err := tx.PendingOf(q.id, "", maxCopies)
		waiting = slices.DeleteFunc(found, func(n meta.Notification) bool { return n.Type == typeTest || n.Type == string(heartbeatType) })
		return err
	}
	if err := s.outbox.opts.Store.View(ctx, find); err != nil || len(waiting) == 0 {
		return err
	}
	return s.outbox.update(ctx, func(tx *meta.Tx) error {
		r, err := tx.ResourceByID(q.id)
		if err == nil {
			err = find(tx)
		}
		if err == nil {
			_, err = s.outbox.copyTo(tx, r.Project, q.to.Spec.Fallback, waiting)
		}
		return err
	})
}

// outside tells the target of the closed hours instead; false when there is
// none.
func (s *scheduler) outside(ctx context.Context, q *queue, head meta.Notification, now time.Time) (told bool, err error) {
	o := s.outbox
	err = o.update(ctx, func(tx *meta.Tx) error {
		n, err := tx.Notification(head.ID)
		if err != nil {
			return err
		}
		r, err := tx.ResourceByID(q.id)
		if err != nil {
			return err
		}
		if told, err = o.copyTo(tx, r.Project, q.calendar.Outside, []meta.Notification{n}); err != nil || !told {
			return err
		}
		n.State, n.DoneAt, n.Error = meta.NotificationSkipped, now, "outside of the target's calendar: "+q.calendar.Outside+" was told instead"
		return tx.CloseNotification(n)
	})
	return told, err
}
