package engine

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// Rounds are made in the order in which they came, whatever was left out of it: of each
// source the oldest, of equally old ones the one that came first.
func TestRoundsWaitInTheOrderInWhichTheyCame(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	var q queued
	var want []round
	for n := range 20_000 {
		r := round{
			source: sourceKey{"prod-1", fmt.Sprint("node/n-", random.IntN(40))}, trigger: triggerInterval,
			at: epoch.Add(time.Duration(random.IntN(8)) * interval), received: epoch.Add(time.Duration(n)),
		}
		oldest, waiting := -1, 0
		want = append(want, r)
		for i, w := range want {
			if w.source != r.source {
				continue
			}
			if waiting++; oldest < 0 || w.at.Before(want[oldest].at) {
				oldest = i
			}
		}
		left, full := q.add(r)
		if full != (waiting > maxWaiting) || full && left != want[oldest] {
			t.Fatalf("%d: %v, %v is left out, want %v of %d", n, full, left, want[oldest], waiting)
		}
		if full {
			want = slices.Delete(want, oldest, oldest+1)
		}
		if random.IntN(500) > 0 {
			continue
		}
		if got := q.take(); !slices.Equal(got, want) {
			t.Fatalf("%d: %v wait, want %v", n, got, want)
		}
		want = nil
	}
}

// What a round of one of so many senders costs while the engine is behind.
func BenchmarkQueue(b *testing.B) {
	for _, senders := range []int{100, 5000} {
		b.Run(fmt.Sprint(senders), func(b *testing.B) {
			now := epoch.Add(24 * time.Hour)
			e := engineOf(b, &fleet{}, func() time.Time { return now }, nil)
			rounds := make([]round, senders)
			for i := range rounds {
				rounds[i] = round{source: sourceKey{"prod-1", fmt.Sprint("node/n-", i)}, trigger: triggerInterval, at: now, received: now}
			}
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				e.enqueueLocked(rounds[n%senders])
			}
		})
	}
}
