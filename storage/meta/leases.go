package meta

import (
	"errors"
	"fmt"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// Lease says who may do what only one may do at a time.
type Lease struct {
	Name      string
	Holder    string
	Token     int64 // one more with each holder and each start of one
	ExpiresAt time.Time
}

// TakeLease gives a lease to a holder when nobody else holds it: it is free, it
// expired, or it was the holder's before, who begins anew. Each time the token
// is one more, so that whoever held it before is refused from now on. false:
// somebody else holds it, who is in the lease that is given.
func (tx *Tx) TakeLease(name, holder string, now time.Time, lasts time.Duration) (Lease, bool, error) {
	l, err := tx.Lease(name)
	if err != nil && !errors.Is(err, fault.ErrNotFound) {
		return l, false, err
	}
	if err == nil && l.Holder != holder && l.ExpiresAt.After(now) {
		return l, false, nil
	}
	l = Lease{Name: name, Holder: holder, Token: l.Token + 1, ExpiresAt: now.Add(lasts)}
	_, err = tx.exec("take lease", `INSERT INTO leases (name, holder, token, expires_at) VALUES (?, ?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, token = excluded.token, expires_at = excluded.expires_at`,
		l.Name, l.Holder, l.Token, millis(l.ExpiresAt))
	return l, err == nil, err
}

// Lease gives who holds, or held, a lease; fault.ErrNotFound when nobody did.
func (tx *Tx) Lease(name string) (Lease, error) {
	return one(tx, fmt.Sprintf("lease %q", name), func(s scanner) (Lease, error) {
		l := Lease{Name: name}
		var expires int64
		err := s.Scan(&l.Holder, &l.Token, &expires)
		l.ExpiresAt = time.UnixMilli(expires).UTC()
		return l, err
	}, "SELECT holder, token, expires_at FROM leases WHERE name = ?", name)
}

// RenewLease makes a lease last on; ErrLeaseLost when somebody took it since.
func (tx *Tx) RenewLease(l Lease, now time.Time, lasts time.Duration) error {
	n, err := tx.exec("renew lease", "UPDATE leases SET expires_at = ? WHERE name = ? AND token = ?", millis(now.Add(lasts)), l.Name, l.Token)
	if err == nil && n == 0 {
		err = fmt.Errorf("lease %q, token %d: %w", l.Name, l.Token, ErrLeaseLost)
	}
	return err
}

// Fence refuses a transaction of whoever does not hold a lease any more:
// ErrLeaseLost. It is asked within the transaction that it protects; the clock
// does not matter, only whether somebody took the lease since.
func (tx *Tx) Fence(l Lease) error {
	if l.Name == "" {
		return nil // nothing is leased here
	}
	now, err := tx.Lease(l.Name)
	if err == nil && now.Token != l.Token {
		err = fmt.Errorf("lease %q, token %d: %s holds it with %d: %w", l.Name, l.Token, now.Holder, now.Token, ErrLeaseLost)
	}
	return err
}

// ReleaseLease ends a lease at once, so that nobody waits for it to expire.
func (tx *Tx) ReleaseLease(l Lease, now time.Time) error {
	_, err := tx.exec("release lease", "UPDATE leases SET expires_at = ? WHERE name = ? AND token = ?", millis(now), l.Name, l.Token)
	return err
}

// ErrLeaseLost: somebody else took the lease meanwhile, and does the work.
var ErrLeaseLost = fmt.Errorf("another one took it: %w", fault.ErrConflict)
