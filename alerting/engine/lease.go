package engine

import (
	"context"
	"errors"
	"time"

	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

const (
	leaseName = "evaluation"
	// leaseLasts is how long another engine waits after the last sign of this one;
	// leaseRenew is how often it gives one.
	leaseLasts = 15 * time.Second
	leaseRenew = 5 * time.Second
)

// awaitLease waits until this engine is the one that evaluates. What arrives
// meanwhile is the other's to evaluate. false: ctx ended.
func (e *Engine) awaitLease(ctx context.Context) bool {
	for ctx.Err() == nil {
		if e.opts.Holder == "" {
			return true
		}
		now := e.opts.Now()
		var ours bool
		err := e.opts.Meta.Update(ctx, func(tx *meta.Tx) (err error) {
			e.lease, ours, err = tx.TakeLease(leaseName, e.opts.Holder, now, leaseLasts)
			return err
		})
		if err == nil && ours {
			e.leasedAt = now
			e.log.Info("evaluates", "holder", e.opts.Holder, "token", e.lease.Token)
			e.report("lease", "take the lease of evaluation", nil)
			return true
		}
		if ctx.Err() == nil && err != nil {
			e.report("lease", "take the lease of evaluation", err)
		}
		e.queue.Lock()
		e.queue.rounds, e.queue.skipped = queued{}, nil
		clear(e.queue.changes)
		e.queue.Unlock()
		timer := time.NewTimer(leaseRenew)
		select {
		case <-ctx.Done():
		case c := <-e.calls: // whoever evaluates has to be asked
			c.done <- errNotHere
		case <-timer.C:
		}
		timer.Stop()
	}
	return false
}

// renewLease gives a sign of life. false: another engine evaluates now.
func (e *Engine) renewLease(ctx context.Context, now time.Time) bool {
	if e.opts.Holder == "" || (!e.lost && now.Sub(e.leasedAt) < leaseRenew) {
		return true
	}
	if !e.lost {
		err := e.opts.Meta.Update(ctx, func(tx *meta.Tx) error { return tx.RenewLease(e.lease, now, leaseLasts) })
		e.lost = errors.Is(err, meta.ErrLeaseLost)
		if err == nil {
			e.leasedAt = now
		}
	}
	if e.lost {
		e.lost = false
		e.log.Warn("another engine evaluates now", "holder", e.opts.Holder, "token", e.lease.Token)
		return false
	}
	return true
}

// releaseLease lets another engine go on at once.
func (e *Engine) releaseLease(ctx context.Context) {
	if e.opts.Holder == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = e.opts.Meta.Update(ctx, func(tx *meta.Tx) error { return tx.ReleaseLease(e.lease, e.opts.Now()) })
}

// write is a transaction that fails when another engine evaluates since.
func (e *Engine) write(ctx context.Context, fn func(tx *meta.Tx) error) error {
	err := e.opts.Meta.Update(ctx, func(tx *meta.Tx) error {
		if err := tx.Fence(e.lease); err != nil {
			return err
		}
		return fn(tx)
	})
	if errors.Is(err, meta.ErrLeaseLost) {
		e.lost = true
		e.poke()
	}
	return err
}
