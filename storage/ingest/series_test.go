package ingest

import (
	"testing"
	"time"
	"unsafe"

	"github.com/crowsnest-dev/crowsnest/storage/rollup"
)

// What a million series take of memory goes by it.
func TestASeriesFillsASizeOfTheHeap(t *testing.T) {
	if n := unsafe.Sizeof(series{}); n != 96 {
		t.Errorf("a series has %d bytes, the heap gives 96 or 112", n)
	}
}

// Two series may share the half of the key that they are kept by.
func TestSeriesThatShareHalfAKey(t *testing.T) {
	g := newRig(t, Limits{})
	c := g.i.cluster("prod")
	of := func(n uint64, seen time.Time) *series {
		s := &series{key: seriesKey{n * shards, 7}, metric: &origin{}}
		s.seen.Store(uint32(seen.Unix()))
		if kept, added := c.add(s.key, s); kept != s || !added {
			t.Fatalf("series %d: a key that is new was there", n)
		}
		return s
	}
	found := func(when string, want ...*series) {
		t.Helper()
		for n := range uint64(4) {
			var at *series
			for _, s := range want {
				if s.key[0] == n*shards {
					at = s
				}
			}
			if got := c.find(seriesKey{n * shards, 7}); got != at {
				t.Errorf("%s: found %v for series %d", when, got, n)
			}
		}
	}
	now := g.now
	first, second, third := of(0, now.Add(-time.Hour)), of(1, now), of(2, now.Add(-time.Hour))
	found("all", first, second, third)
	if kept, added := c.add(second.key, &series{key: second.key}); added || kept != second {
		t.Error("a series was added twice")
	}
	c.sweep(now.Add(sweepEvery), nil)
	found("two are idle", second)
	fourth := of(3, now)
	found("a new one has the place", second, fourth)
	if kept, added := c.add(second.key, &series{key: second.key}); added || kept != second {
		t.Error("a series was added twice once the other one was gone")
	}
}

// One that is sent again while it is forgotten has a feed that knows nothing of what the one before
// has added: what of that is open must be left to the store by then, or it is counted twice.
func TestASeriesIsNotMadeAnewBeforeItsFeedIsGivenBack(t *testing.T) {
	g := newRig(t, Limits{})
	if a := g.post(v1, bodyV1(t, podSeries(t0, "cart", "cart-1", 1)...)); a.status != 204 {
		t.Fatal(a)
	}
	c := g.i.cluster("prod")
	given := 0
	c.sweep(t0.Add(2*idleAfter), func(of ...*rollup.Feed) {
		given += len(of)
		held := 0
		for n := range c.shards {
			if sh := &c.shards[n]; sh.mu.TryRLock() {
				sh.mu.RUnlock()
			} else {
				held++
			}
		}
		if held != 1 {
			t.Errorf("%d shards are held while %d feeds are given back", held, len(of))
		}
	})
	if given != 2 {
		t.Errorf("%d feeds were given back, want those of the pod's two series", given)
	}
}
