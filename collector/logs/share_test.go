package logs

import (
	"context"
	"fmt"
	"hash/fnv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// division is who has which containers, of two replicas.
type division struct {
	mu    sync.Mutex
	alive uint64 // bits
	moved int    // changes who has which
}

func (d *division) set(fn func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fn()
}

// replica is one of them.
type replica struct {
	d   *division
	own int
}

var _ Share = replica{}

func (r replica) Owns(key string) bool {
	r.d.mu.Lock()
	defer r.d.mu.Unlock()
	if r.d.alive == 0b11 {
		h := fnv.New32a()
		_, _ = h.Write([]byte(key))
		return (int(h.Sum32())+r.d.moved)%2 == r.own
	}
	return r.d.alive == 1<<r.own
}

func (r replica) Parts() (own int, parts uint64) {
	r.d.mu.Lock()
	defer r.d.mu.Unlock()
	return r.own, r.d.alive
}

// cut is the way to the server of one replica.
type cut struct {
	*server
	dead  atomic.Bool   // nothing arrives any more
	holds chan struct{} // what is sent arrives when this is closed; nil: at once
	held  chan struct{} // something is held
}

var _ Sink = (*cut)(nil)

func (c *cut) Send(ctx context.Context, b *wire.LogBatch) error {
	if c.dead.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	if c.holds != nil && b.Lines() > 0 {
		select {
		case c.held <- struct{}{}:
		default:
		}
		select {
		case <-c.holds:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return c.server.Send(ctx, b)
}

func (c *cluster) runShared(s *server, d *division, own int) (at *cut, stop func()) {
	at = &cut{server: s}
	_, stop = c.runAt(c.sharedOptions(s, d, own), at)
	return at, stop
}

func (c *cluster) sharedOptions(s *server, d *division, own int) APIOptions {
	o := c.options(s)
	o.Share = replica{d, own}
	return o
}

// Two replicas share containers that restart, come and go; replicas are killed, others
// take over and give back. Each line is there once, in order.
func TestAPIReplicasAreKilledAndTakeOver(t *testing.T) {
	c, s := newCluster(t), newServer(t)
	c.pods = 8
	keys := make([]string, c.pods)
	for i := range keys {
		keys[i] = fmt.Sprintf("cart-%d/app/stdout", i+1)
	}
	await := func() {
		t.Helper()
		for _, k := range keys {
			s.await(k, c.next)
		}
	}
	d := &division{alive: 0b11}
	a, stopA := c.runShared(s, d, 0)
	_, stopB := c.runShared(s, d, 1)
	c.write(200)
	await()
	for range 4 {
		c.write(300)
		s.await(keys[0], c.next-250) // in the middle
		a.dead.Store(true)           // killed: what it has read and not sent is gone with it
		c.write(50)
		c.restart() // while nobody looks
		c.write(20)
		stopA()
		d.set(func() { d.alive = 0b10 })
		c.write(100)
		await()
		d.set(func() { d.alive = 0b11 }) // another one, of another folder
		a, stopA = c.runShared(s, d, 0)
		c.write(100)
		d.set(func() { d.moved++ }) // everything changes hands
		c.write(100)
		await()
	}
	stopA()
	d.set(func() { d.alive = 0b10 })
	c.write(30)
	c.set(func() { c.state = "terminated" })
	await()
	stopB()
	for _, k := range keys {
		numbered(t, s.got(k), c.next)
	}
}

// A replica that was stopped for long, with a batch on its way, comes back when the
// other has gone on with its containers.
func TestAPIReplicaThatComesBackLate(t *testing.T) {
	c, s := newCluster(t), newServer(t)
	d := &division{alive: 0b01}
	slow := &cut{server: s, holds: make(chan struct{}), held: make(chan struct{}, 1)}
	_, stopA := c.runAt(c.sharedOptions(s, d, 0), slow)
	c.write(100)
	<-slow.held
	d.set(func() { d.alive = 0b10 })
	_, stopB := c.runShared(s, d, 1)
	c.write(50)
	s.await(key, 150)
	close(slow.holds)
	// If the other's first batch had the same lines, it has the same id: then the late one
	// is known, and no conflict.
	waitFor(t, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.conflicts+s.again > 0 })
	d.set(func() { d.alive = 0b01 })
	stopB()
	c.write(50)
	s.await(key, 200)
	stopA()
	numbered(t, s.got(key), 200)
}

// Instances that came and went between two looks are told where they are missing.
func TestAPITellsOfInstancesThatAreGone(t *testing.T) {
	c, s := newCluster(t), newServer(t)
	_, stop := c.run(c.options(s), s)
	c.write(10)
	s.await(key, 10)
	silence(s, stop)
	c.restart()
	c.write(5) // nobody will see them
	c.restart()
	c.write(5)
	c.restart()
	c.write(5)
	_, stop = c.run(c.options(s), s)
	got := s.await(key, 21)
	stop()
	for i, want := range []string{"line 9", "lines of shop/cart-1 (app) dropped here: instances came and went between two looks", "line 15", "line 16"} {
		if got[9+i] != want {
			t.Errorf("line %d is %q, want %q", 9+i, got[9+i], want)
		}
	}
	if len(got) != 21 || got[20] != "line 24" {
		t.Errorf("%d lines, the last is %q", len(got), got[len(got)-1])
	}
	told := 0
	for _, f := range s.fields {
		if f["crowsnest_dropped_reason"] == DropGone && f["crowsnest_dropped_from"] != "" && strings.HasPrefix(f["crowsnest_dropped_until"], "20") {
			told++
		}
	}
	if told != 1 {
		t.Errorf("told %d times", told)
	}
	// Told once: another collector begins after it.
	_, stop = c.run(c.options(s), s)
	c.write(1)
	s.await(key, 22)
	stop()
	if got := s.got(key); len(got) != 22 {
		t.Errorf("%d lines: %q", len(got), got[20:])
	}
}

// A pod that is deleted while its log waits to be read leaves a line that says so; one
// that was read to its end does not.
func TestAPITellsOfPodsThatAreGone(t *testing.T) {
	c, s := newCluster(t), newServer(t)
	o := c.options(s)
	o.MaxConnections, o.Turn = 1, time.Hour
	a, stop := c.run(o, s)
	follows := func(key string) bool { _, ok := a.followers.Load(key); return ok }
	defer stop()
	c.write(10)
	s.await(key, 10)
	c.set(func() { c.pods = 2 }) // no connection is left for it
	c.write(10)
	s.await(key, 20)
	waitFor(t, func() bool { return follows("uid-cart-2/app") })
	c.set(func() { c.pods = 1 })
	got := s.await("cart-2/app/stdout", 1)
	if len(got) != 1 || got[0] != "lines of shop/cart-2 (app) dropped here: the pod was deleted before its log was read to the end" {
		t.Errorf("told %q", got)
	}
	c.set(func() { c.state = "terminated" }) // the first is read to its end
	c.write(5)
	s.await(key, 25)
	c.set(func() { c.pods = 0 })
	waitFor(t, func() bool { return !follows("uid-cart-1/app") })
	stop()
	numbered(t, s.got(key), 25)
}

// nodesOf has each pod of a cluster be on a node of its own.
type nodesOf struct{ *cluster }

func (n nodesOf) Snapshot() *state.Snapshot {
	s := n.cluster.Snapshot()
	for _, p := range s.Pods {
		p.Node = "of-" + p.Name
	}
	return s
}

// Somebody who is not heard reads the containers of one node, too: those are followed anew,
// again and again, and the others go on as if nothing had happened.
func TestAPIConflictsConcernTheirNodeAlone(t *testing.T) {
	c, s := newCluster(t), newServer(t)
	c.pods = 2
	o := c.options(s)
	o.State = nodesOf{c}
	a, stop := c.run(o, s)
	defer stop()
	const other = "cart-2/app/stdout"
	c.write(10)
	s.await(key, 10)
	s.await(other, 10)
	follower := func(key string) any {
		f, _ := a.followers.Load(key)
		return f
	}
	goesOn := follower("uid-cart-2/app")
	for round := range 2 {
		was := follower("uid-cart-1/app")
		had := len(s.got(key))
		s.set(func() { // the other reader went on
			p := s.positions["uid-cart-1/app"]
			p.Taken += 1000
			s.positions["uid-cart-1/app"] = p
		})
		c.write(10)
		s.await(other, c.next)
		s.set(func() {
			if s.conflicts != round+1 {
				t.Errorf("%d conflicts, want %d", s.conflicts, round+1)
			}
		})
		if !a.contests.rests("of-cart-1", time.Now()) || a.contests.rests("of-cart-2", time.Now()) {
			t.Error("not the one node alone is left alone for a while")
		}
		s.await(key, had+10)
		if follower("uid-cart-1/app") == was {
			t.Error("the contested container is not followed anew")
		}
		if follower("uid-cart-2/app") != goesOn {
			t.Error("the other node's container is followed anew")
		}
	}
	stop()
	numbered(t, s.got(key), c.next)
	numbered(t, s.got(other), c.next)
}
