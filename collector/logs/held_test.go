package logs

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/collector/state"
)

// holding is a State that lets its collector wait, as a busy machine does.
type holding struct {
	State
	mu      sync.Mutex
	hold    chan struct{} // closed when it may go on; nil when it need not wait
	waiting chan struct{} // closed when it waits
}

// heldUp gives options of a collector, and what lets it wait.
func (tr *tree) heldUp() (FilesOptions, *holding) {
	o := tr.options()
	h := &holding{State: o.State}
	o.State = h
	return o, h
}

func (h *holding) Snapshot() *state.Snapshot {
	h.mu.Lock()
	hold, waiting := h.hold, h.waiting
	h.waiting = nil
	h.mu.Unlock()
	if hold != nil {
		if waiting != nil {
			close(waiting)
		}
		<-hold
	}
	return h.State.Snapshot()
}

// while runs fn with the collector held up: a new container has it ask for its pod.
func (h *holding) while(tr *tree, name string, fn func()) {
	tr.t.Helper()
	hold, waiting := make(chan struct{}), make(chan struct{})
	h.mu.Lock()
	h.hold, h.waiting = hold, waiting
	h.mu.Unlock()
	if err := os.MkdirAll(filepath.Join(tr.root, "shop_cart-1_uid-1", name), 0o755); err != nil {
		tr.t.Fatal(err)
	}
	select {
	case <-waiting:
	case <-time.After(60 * time.Second):
		tr.t.Fatal("the collector does not ask for its pod")
	}
	fn()
	h.mu.Lock()
	h.hold = nil
	h.mu.Unlock()
	close(hold)
}

// once checks that each of n lines is there once, in whatever order.
func once(t testing.TB, got []string, n int) {
	t.Helper()
	seen := map[string]int{}
	for _, l := range got {
		seen[l]++
	}
	for i := range n {
		if times := seen[fmt.Sprintf("line %d", i)]; times != 1 {
			t.Errorf("line %d of %d is there %d times", i, n, times)
			return
		}
	}
}

// A collector that is held up for longer than rotation takes to compress a file
// has never had that file open. Its lines come all the same, once, and in their
// order, over kills in which the answer to their batch was lost.
func TestFilesHeldUpThroughRotations(t *testing.T) {
	for _, lost := range []bool{false, true} {
		t.Run(fmt.Sprintf("answer lost %v", lost), func(t *testing.T) {
			tr, s := newTree(t), newServer(t)
			tr.write("0.log", 20)
			o, h := tr.heldUp()
			_, stop := tr.runWith(o, s)
			s.await(key, 20)
			for round := range 3 {
				if lost {
					s.set(func() { s.lost = s.batches })
				}
				h.while(tr, fmt.Sprintf("other-%d", round), func() {
					for i := range 5 {
						tr.rotate(10*round + i + 1)
						tr.write("0.log", 30)
					}
				})
				if !lost {
					s.await(key, tr.next)
					continue
				}
				s.await(key, tr.next-149) // some of the batch
				kill(t, s, tr.positions(), stop)
				for i := 5; i < 8; i++ { // what was not compressed of it is now
					tr.rotate(10*round + i + 1)
					tr.write("0.log", 10)
				}
				s.set(func() { s.lost = -1 })
				_, stop = tr.runWith(o, s)
				s.await(key, tr.next)
			}
			stop()
			_, stop = tr.run(s)
			tr.write("0.log", 1)
			s.await(key, tr.next)
			stop()
			numbered(t, s.got(key), tr.next)
		})
	}
}

// What rotation took altogether while the collector was held up cannot be counted;
// that lines are missing, and of when, is told in the container's stream.
func TestFilesRotatedAwayWhileHeldUp(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	tr.write("0.log", 20)
	o, h := tr.heldUp()
	_, stop := tr.runWith(o, s)
	defer stop()
	s.await(key, 20)
	h.while(tr, "other", func() {
		for i := range 6 {
			tr.rotate(i + 1)
			tr.write("0.log", 30)
		}
		for i := range 4 {
			if err := os.Remove(filepath.Join(tr.dir, fmt.Sprintf("0.log.20261123-1000%02d%s", i+1, packedSuffix))); err != nil {
				t.Fatal(err)
			}
		}
	})
	waitFor(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, f := range s.fields {
			if f["crowsnest_dropped_reason"] == DropRotated && f["crowsnest_dropped_from"] != "" && f["crowsnest_dropped_until"] != "" {
				return true
			}
		}
		return false
	})
	// What is told of them may be the last that comes.
	waitFor(t, func() bool { return slices.Contains(s.got(key), fmt.Sprintf("line %d", tr.next-1)) })
}

// A batch with lines from before and after a truncation cannot be made anew: it
// would know one position of the file. So there is none.
func TestFilesCopyTruncateAndKill(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	o := tr.options()
	o.Linger = 300 * time.Millisecond // what is read meanwhile would share the batch
	f, stop := tr.runWith(o, s)
	for i := range 4 {
		s.set(func() { s.lost = s.batches })
		at := f.Health().Read
		tr.write("0.log", 50)
		waitFor(t, func() bool { return f.Health().Read >= at+50 })
		tr.copyTruncate(fmt.Sprintf("0.log.2026112310000%d", i))
		tr.write("0.log", 50)
		s.await(key, tr.next-100+1)
		kill(t, s, tr.positions(), stop)
		s.set(func() { s.lost = -1 })
		f, stop = tr.runWith(o, s)
		s.await(key, tr.next)
	}
	stop()
	once(t, s.got(key), tr.next)
}
