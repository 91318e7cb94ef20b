package kube

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// group is replicas with one clock, over an API server of their own.
type group struct {
	t     *testing.T
	api   *leases
	url   string
	clock time.Time
	all   map[string]*Members
	keys  []string
	owner map[string]string // of each key, last seen
	since map[string]time.Time
}

func newGroup(t *testing.T) *group {
	g := &group{t: t, api: &leases{}, clock: time.Unix(1_800_000_000, 0), all: map[string]*Members{}, owner: map[string]string{}, since: map[string]time.Time{}}
	srv := httptest.NewServer(g.api)
	t.Cleanup(srv.Close)
	g.url = srv.URL
	for i := range 600 {
		g.keys = append(g.keys, fmt.Sprintf("job/%d", i))
	}
	return g
}

func (g *group) join(identity string) *Members {
	g.t.Helper()
	c := candidate(g.t, g.url, identity, &g.clock).Client
	m, err := NewMembers(MembersOptions{Client: c, Name: "shard", Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return g.clock }})
	if err != nil {
		g.t.Fatal(err)
	}
	m.identity = identity
	g.all[identity] = m
	m.round(g.t.Context())
	return m
}

// pass lets time pass: each replica looks every 5 s, at a time of its own. No key
// is ever anybody's twice, nor nobody's for longer than gap.
func (g *group) pass(d, gap time.Duration, silent ...string) {
	g.t.Helper()
	for end := g.clock.Add(d); g.clock.Before(end); {
		g.clock = g.clock.Add(time.Second)
		i := 0
		for name, m := range g.all {
			i++
			if g.clock.Unix()%5 == int64(m.own+1)%5 && !contains(silent, name) {
				m.round(g.t.Context())
			}
		}
		for _, k := range g.keys {
			by := g.owners(k)
			if len(by) > 1 {
				g.t.Fatalf("at %s %s is worked on by %v", g.clock, k, by)
			}
			if len(by) == 1 {
				g.owner[k], g.since[k] = by[0], g.clock
			} else if last, ok := g.since[k]; ok && g.clock.Sub(last) > gap {
				g.t.Fatalf("nobody works on %s for %s", k, g.clock.Sub(last))
			}
		}
	}
}

func contains(all []string, s string) bool {
	return strings.Contains(" "+strings.Join(all, " ")+" ", " "+s+" ")
}

func (g *group) owners(key string) (by []string) {
	for name, m := range g.all {
		if m.Owns(key) {
			by = append(by, name)
		}
	}
	return by
}

func (g *group) shares() map[string]int {
	out := map[string]int{}
	for _, k := range g.keys {
		for _, by := range g.owners(k) {
			out[by]++
		}
	}
	return out
}

func TestReplicasShareWithoutDoubleOrLongGap(t *testing.T) {
	g := newGroup(t)
	g.join("a")
	if n := g.shares()["a"]; n != 600 {
		t.Fatalf("alone, it has %d of 600 at once", n)
	}
	g.pass(20*time.Second, 0)
	g.join("b")
	g.pass(30*time.Second, settleFor+time.Second)
	if s := g.shares(); s["a"] < 250 || s["b"] < 250 || s["a"]+s["b"] != 600 {
		t.Fatalf("two share %v", s)
	}
	before := map[string]string{}
	for k, v := range g.owner {
		before[k] = v
	}
	g.join("c")
	g.pass(30*time.Second, settleFor+time.Second)
	moved := 0
	for _, k := range g.keys {
		if now := g.owner[k]; now != before[k] {
			if moved++; now != "c" {
				t.Fatalf("%s moved from %s to %s, which was there before", k, before[k], now)
			}
		}
	}
	if moved < 150 || moved > 250 {
		t.Errorf("%d of 600 moved to the third", moved)
	}
	// One leaves in order: the others have its work with their next look.
	left := g.all["b"]
	delete(g.all, "b")
	left.leave(t.Context())
	g.pass(20*time.Second, leaseRenew+time.Second)
	if s := g.shares(); s["a"]+s["c"] != 600 {
		t.Errorf("after one left: %v", s)
	}
	// One dies: it is missed once its Lease has ended.
	delete(g.all, "c")
	g.pass(40*time.Second, leaseFor+leaseRenew+time.Second)
	if s := g.shares(); s["a"] != 600 {
		t.Errorf("after one died: %v", s)
	}
	// A replica that is started again takes the place that it had.
	g.join("c")
	g.pass(20*time.Second, settleFor+time.Second)
	if own := g.all["c"].own; own != 2 {
		t.Errorf("it came back at place %d", own)
	}
}

// A replica that cannot reach the API server lets go before others take over.
func TestACutOffReplicaLetsGo(t *testing.T) {
	g := newGroup(t)
	g.join("a")
	g.join("b")
	g.pass(30*time.Second, 0)
	g.pass(40*time.Second, leaseFor+leaseRenew+time.Second, "b")
	if s := g.shares(); s["a"] != 600 || s["b"] != 0 {
		t.Fatalf("with one cut off: %v", s)
	}
	g.pass(40*time.Second, settleFor+time.Second) // it is back
	if s := g.shares(); s["a"] < 250 || s["b"] < 250 {
		t.Errorf("after it is back: %v", s)
	}
	g.api.down = true
	g.pass(5*time.Second, 0) // a server that is away for a moment changes nothing
	g.api.down = false
	g.pass(20*time.Second, 0)
}

func TestPlacesAreBounded(t *testing.T) {
	g := newGroup(t)
	for i := range MaxMembers + 1 {
		g.join(fmt.Sprint("r", i))
	}
	last := g.all[fmt.Sprint("r", MaxMembers)]
	if last.own != -1 || !strings.Contains(last.said, "all 8 places are held") {
		t.Errorf("one too many has place %d, and says %q", last.own, last.said)
	}
	// Leases that are not places, or of somebody else, are left alone.
	g = newGroup(t)
	g.api.all = map[string]*coordinationv1.Lease{}
	for _, name := range []string{"shard", "shard-", "shard-x", "shard-8", "shard-01", "other-0"} {
		holder := "somebody"
		g.api.all[name] = &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: name, ResourceVersion: "7"}, Spec: coordinationv1.LeaseSpec{HolderIdentity: &holder}}
	}
	if m := g.join("a"); m.own != 0 || g.api.holder("shard") != "somebody" {
		t.Errorf("place %d", m.own)
	}
	if held, own := g.all["a"].Held(); len(held) != 0 || own != 0 {
		t.Errorf("held %v, own %d", held, own)
	}
}

func TestWithoutTheRightWorkIsNotShared(t *testing.T) {
	g := newGroup(t)
	g.api.forbidden = true
	m := g.join("a")
	if !strings.Contains(m.Lone(), "needs create and list on leases.coordination.k8s.io in namespace default, get and update on shard-0 to -7") || m.Owns("x") {
		t.Errorf("it says %q", m.Lone())
	}
	g.api.forbidden = false
	m.round(t.Context())
	if m.Lone() != "" || !m.Owns("x") {
		t.Errorf("with the right it says %q", m.Lone())
	}
}

func TestAPlaceIsHeldWhileTheWorkRuns(t *testing.T) {
	g := newGroup(t)
	m := g.join("")
	m.leave(t.Context())
	ctx, cancel := context.WithCancel(t.Context())
	m.identity = "a"
	err := m.Run(ctx, func(ctx context.Context) error {
		for g.api.holder("shard-0") != "a" {
			select {
			case <-time.After(time.Millisecond):
			case <-t.Context().Done():
				return nil
			}
		}
		cancel()
		<-ctx.Done()
		if g.api.holder("shard-0") != "a" {
			t.Error("it let go before the work had ended")
		}
		return nil
	})
	if err != nil || g.api.holder("shard-0") != "" {
		t.Errorf("%v, held by %q", err, g.api.holder("shard-0"))
	}
}
