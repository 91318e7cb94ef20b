package rollup

import (
	"runtime"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
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

// A request may be on its way while its series is forgotten for having been idle.
func TestSampleOfASeriesThatIsForgottenIsLeftToTheStore(t *testing.T) {
	g := newRig(t, true)
	g.r.opts.Newest = []string{"k8s_service_pod"}
	lset := labels.FromStrings(labels.MetricName, "k8s_service_pod", "cluster", test, "pod", "a")
	feed := g.r.Feed(test, lset)
	g.r.Release(test, feed)
	g.r.Pass(test, []Sample{{Feed: feed, At: t0.UnixMilli(), V: 1}})
	g.r.Pass(test, []Sample{{Feed: g.r.Feed(test, lset), At: t0.Add(step).UnixMilli(), V: 2}})
	newest := func(at time.Time) ([]Value, bool) {
		return g.r.Newest(test, "k8s_service_pod", at.Add(-5*time.Minute).UnixMilli()+1, at.UnixMilli(), nil)
	}
	if values, known := newest(t0); known {
		t.Errorf("the store has a value, not %v", values)
	}
	if values, known := newest(t0.Add(5 * time.Minute)); !known || len(values) != 1 || values[0].V != 2 {
		t.Errorf("%v, known %v", values, known)
	}
}
