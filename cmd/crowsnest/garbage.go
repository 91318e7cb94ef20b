package main

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// Go lets the heap grow to twice what lives (GOGC=100) before it collects. Of a
// server with millions of series that is gigabytes, so a large heap is collected at
// half of that. A small one is not: what is added to it comes by the second, and
// collecting it twice as often was a third of the CPU of storing log lines.
//
// While a backlog comes, most of what lives is there for some minutes only. It is held by a
// machine that was chosen for live data, so it is collected at half of that again.
const (
	gcSmall = 100
	gcLarge = 50
	gcFlood = 25
	// gcRoom is what may become garbage of a heap between the two.
	gcRoom = 192 << 20

	gcEvery = 5 * time.Second
)

// roomBeside is the most that a container keeps free beside Go's memory: for pages of the
// stores' files, which are given up when they are in the way, and for what comes between
// two looks of the collector.
const roomBeside = 768 << 20

// goMemory is how much of a container's memory Go may have: four fifths, of a large one
// all but roomBeside. The heap of a large cluster fills all of it, and each byte that it
// lacks has millions of series looked through more often.
func goMemory(container uint64) uint64 {
	return container - min(container/5, roomBeside)
}

// boundMemory has Go collect garbage before the container's limit is reached.
func boundMemory(logger *slog.Logger) {
	_, err := memlimit.SetGoMemLimitWithOpts(memlimit.WithRatio(1), memlimit.WithLogger(quiet(logger)), memlimit.WithProvider(func() (uint64, error) {
		container, err := memlimit.FromCgroup()
		return goMemory(container), err
	}))
	if err != nil && !errors.Is(err, memlimit.ErrNoLimit) && !errors.Is(err, memlimit.ErrNoCgroup) && !errors.Is(err, memlimit.ErrCgroupsNotSupported) {
		logger.Warn("memory limit not found", "error", err)
	}
}

// gcPercent is the GOGC for a heap of which that many bytes live.
func gcPercent(live uint64, flooded bool) int {
	least := uint64(gcLarge)
	if flooded {
		least = gcFlood
	}
	return int(min(gcSmall, max(least, 100*gcRoom/max(live, 1))))
}

// paceGarbage adapts to what lives on the heap, until the returned function is called:
// GOGC, unless the user has set it, and the size of a large heap's pages. flooded says
// whether a backlog comes.
func (c *common) paceGarbage(ctx context.Context, logger *slog.Logger, flooded func() bool) (stop func()) {
	_, paced := c.lookup("GOGC")
	ask, huge := hugeOnAsking(hugeSetting), hugePages{}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/released:bytes"}, {Name: "/memory/classes/total:bytes"}, {Name: "/gc/gomemlimit:bytes"}}
		now := gcSmall
		tick := time.NewTicker(gcEvery)
		defer tick.Stop()
		for {
			metrics.Read(samples)
			heap := heapSizes{samples[0].Value.Uint64(), samples[1].Value.Uint64(), samples[2].Value.Uint64(), samples[3].Value.Uint64()}
			// Setting it stops everything for a moment.
			if want := gcPercent(heap.live, flooded()); !paced && (want > now+5 || want < now-5) {
				debug.SetGCPercent(want)
				now = want
			}
			if ask {
				if err := huge.follow(heap); err != nil {
					logger.Warn("a large heap without huge pages takes more CPU", "error", err)
					ask = false
				}
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
