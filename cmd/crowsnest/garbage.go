package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Go lets the heap grow to twice what lives (GOGC=100) before it collects. Of a
// server with millions of series that is gigabytes, so a large heap is collected at
// half of that. A small one is not: what is added to it comes by the second, and
// collecting it twice as often was a third of the CPU of storing log lines.
const (
	gcSmall = 100
	gcLarge = 50
	// gcRoom is what may become garbage of a heap between the two.
	gcRoom = 192 << 20

	gcEvery = 5 * time.Second
)

// gcPercent is the GOGC for a heap of which that many bytes live.
func gcPercent(live uint64) int {
	return int(min(gcSmall, max(gcLarge, 100*gcRoom/max(live, 1))))
}

// paceGarbage adapts GOGC to what lives on the heap until the returned function is
// called, unless the user has set GOGC.
func (c *common) paceGarbage(ctx context.Context) (stop func()) {
	if _, set := c.lookup("GOGC"); set {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		now := gcSmall
		tick := time.NewTicker(gcEvery)
		defer tick.Stop()
		for {
			metrics.Read(live)
			// Setting it stops everything for a moment.
			if want := gcPercent(live[0].Value.Uint64()); want > now+5 || want < now-5 {
				debug.SetGCPercent(want)
				now = want
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}
