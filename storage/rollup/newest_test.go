package rollup

import (
	"runtime"
	"testing"
	"time"
)

// Open intervals are counted for whoever asks for the server's own metrics, at any moment.
func TestOpenIntervalsAreCountedWhileAClusterIsDeleted(t *testing.T) {
	g := newRig(t, true)
	g.send(t0, "node/a", pod("k8s_pod_cpu_core_used", "web", "web-1", 1))
	counted := make(chan float64, 1)
	now := g.r.opts.Now
	g.r.opts.Now = func() time.Time { // asked for in the middle of it
		go func() { counted <- g.r.openIntervals() }()
		for g.r.mu.TryLock() {
			g.r.mu.Unlock()
			runtime.Gosched()
			if len(counted) > 0 {
				break
			}
		}
		return now()
	}
	deleted := make(chan error, 1)
	go func() { deleted <- g.r.DeleteCluster(t.Context(), test) }()
	select {
	case err := <-deleted:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("each waits for the other")
	}
	if n := <-counted; n != 0 {
		t.Errorf("%v intervals of a cluster that is deleted", n)
	}
}
