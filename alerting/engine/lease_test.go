package engine

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/ingest"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// Of two engines on one database one evaluates; the other goes on where it
// stopped, and whatever the first still wants to write then is refused.
func TestTwoEnginesOnOneDatabase(t *testing.T) {
	s := newScene(t)
	s.object("pod", []string{"cart-1", "age=1h"})
	s.resource(meta.KindTarget, "hook", "")
	s.resource(meta.KindPolicy, "p", lastCPUPolicy)
	var mu sync.Mutex
	now := s.now
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	advance := func(d time.Duration) { mu.Lock(); defer mu.Unlock(); now = now.Add(d) }
	second, err := meta.Open(filepath.Join(s.dir, "meta.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	make1 := func(holder string, db *meta.DB) *Engine {
		e, err := New(Options{Queryable: s.store, Inventory: s.inv, Meta: db, Now: clock, Holder: holder})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	ctx := context.Background()
	a, b := make1("a", s.meta), make1("b", second)
	if !a.awaitLease(ctx) || a.lease.Token != 1 {
		t.Fatalf("got %+v", a.lease)
	}
	if err := a.restore(ctx); err != nil {
		t.Fatal(err)
	}
	var taken bool
	take := func(db *meta.DB, holder string) (l meta.Lease) {
		t.Helper()
		if err := db.Update(ctx, func(tx *meta.Tx) (err error) {
			l, taken, err = tx.TakeLease(leaseName, holder, clock(), leaseLasts)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return l
	}
	if take(second, "b"); taken {
		t.Fatal("two hold the lease")
	}
	round := func(e *Engine, v float64) {
		t.Helper()
		advance(interval)
		at := clock().Truncate(interval)
		s.now = at
		s.put(s.series("cpu", "cart-1"), at, v)
		e.Arrived(ingest.Arrival{Cluster: "prod-1", Sender: "node/n-1", Through: at, Interval: interval, ReceivedAt: clock()})
		rounds, _, _ := e.next(clock())
		for _, r := range rounds {
			e.evaluate(ctx, r)
		}
	}
	round(a, 90)
	if n := len(a.alerts); n != 1 {
		t.Fatalf("%d alerts", n)
	}
	// a hangs for longer than its lease: b takes over, and knows what fires.
	advance(leaseLasts + time.Second)
	if !b.awaitLease(ctx) || b.lease.Token != 2 {
		t.Fatalf("got %+v", b.lease)
	}
	if err := b.restore(ctx); err != nil || len(b.alerts) != 1 {
		t.Fatalf("%d alerts, %v", len(b.alerts), err)
	}
	round(b, 10)
	if len(b.alerts) != 0 {
		t.Fatal("b did not end it")
	}
	// a comes back, as if nothing had been: nothing of what it does is stored.
	round(a, 10)
	round(a, 95)
	if !a.lost {
		t.Error("a did not notice")
	}
	if err := a.write(ctx, func(*meta.Tx) error { return nil }); !errors.Is(err, fault.ErrConflict) {
		t.Errorf("got %v", err)
	}
	if a.renewLease(ctx, clock()) {
		t.Error("a goes on")
	}
	counts := map[string]int{}
	_ = s.meta.View(ctx, func(tx *meta.Tx) error {
		rows, err := tx.Notifications(meta.NotificationFilter{TargetID: "target_hook"})
		for _, n := range rows {
			counts[n.Type]++
		}
		return err
	})
	if fmt.Sprint(counts) != "map[incident.firing:1 incident.resolved:1]" {
		t.Errorf("told %v", counts)
	}
	// The same one that begins anew need not wait for itself.
	if l := take(second, "b"); !taken || l.Token != 3 {
		t.Errorf("got %+v", l)
	}
	b.releaseLease(ctx) // of an older token: it changes nothing
	if take(s.meta, "a"); taken {
		t.Error("an old token released the lease")
	}
}

// Two engines run, one is ended: the other evaluates.
func TestTheNextEngineGoesOn(t *testing.T) {
	s := newScene(t)
	second, err := meta.Open(filepath.Join(s.dir, "meta.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	run := func(holder string, db *meta.DB) (*Engine, func()) {
		e, err := New(Options{Queryable: s.store, Inventory: s.inv, Meta: db, Holder: holder})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- e.Run(ctx) }()
		return e, func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	ask := func(e *Engine) error {
		ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
		defer cancel()
		_, _, err := e.Routing(ctx)
		return err
	}
	a, stopA := run("a", s.meta)
	if err := ask(a); err != nil {
		t.Fatal(err)
	}
	b, stopB := run("b", second)
	defer stopB()
	if err := ask(b); !errors.Is(err, fault.ErrUnavailable) {
		t.Errorf("b answers: %v", err)
	}
	stopA()
	for deadline := time.Now().Add(60 * time.Second); ask(b) != nil; {
		if time.Now().After(deadline) {
			t.Fatal("b does not go on")
		}
	}
}
