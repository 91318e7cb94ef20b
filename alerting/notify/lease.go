package notify

import (
	"context"
	"errors"
	"time"

	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

const (
	leaseName  = "outbox"
	leaseLasts = 15 * time.Second // after the last sign of life another outbox sends
	leaseRenew = 5 * time.Second
)

// take waits until this outbox is the one that sends; false: ctx ended.
func (o *Outbox) take(ctx context.Context) (meta.Lease, bool) {
	if o.opts.Holder == "" {
		return meta.Lease{}, ctx.Err() == nil
	}
	failing := false
	for ctx.Err() == nil {
		var l meta.Lease
		var ours bool
		err := o.opts.Store.Update(ctx, func(tx *meta.Tx) (err error) {
			l, ours, err = tx.TakeLease(leaseName, o.opts.Holder, o.opts.Now(), leaseLasts)
			return err
		})
		if err == nil && ours {
			return l, true
		}
		if err != nil && ctx.Err() == nil {
			o.metrics.failures.Inc()
			if !failing {
				o.opts.Logger.Error("take the lease of the outbox", "err", err)
			}
		}
		failing = err != nil
		timer := time.NewTimer(leaseRenew)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
	return meta.Lease{}, false
}

// keepLease gives signs of life until ctx ends, and calls lost when another
// outbox sends since.
func (o *Outbox) keepLease(ctx context.Context, l meta.Lease, lost func()) {
	if l.Name == "" {
		return
	}
	tick := time.NewTicker(leaseRenew)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := o.opts.Store.Update(ctx, func(tx *meta.Tx) error { return tx.RenewLease(l, o.opts.Now(), leaseLasts) })
		if errors.Is(err, meta.ErrLeaseLost) {
			lost()
			return
		}
	}
}

// giveBack lets another outbox go on at once.
func (o *Outbox) giveBack(ctx context.Context, l meta.Lease) {
	if l.Name == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = o.opts.Store.Update(ctx, func(tx *meta.Tx) error { return tx.ReleaseLease(l, o.opts.Now()) })
}
