package ingest

import (
	"testing"
	"time"
	"unsafe"
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
