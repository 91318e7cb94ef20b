package edge

import (
	"fmt"
	"math"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crowsnest-dev/crowsnest/collector"
	"github.com/crowsnest-dev/crowsnest/collector/queue"
	"github.com/crowsnest-dev/crowsnest/internal/bubbletest"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
	"github.com/crowsnest-dev/crowsnest/storage/rollup"
)

// TestHoursWithoutTheServer cuts a site off for three hours, kills its node's
// collector in the middle, lets it back while the server asks for patience, and
// looks at every point of the grid.
func TestHoursWithoutTheServer(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		const outage = 3 * time.Hour
		s, stop := serve(t)
		defer stop()
		o := newObjects()
		put := []object.Object{aNode("n1"), aWorkload("cart", 3)}
		pods := []*object.Pod{aPod("u1", "cart-1", "n1", "cart"), aPod("u2", "cart-2", "n1", "cart"), aPod("u3", "cart-3", "n1", "cart")}
		for _, p := range pods {
			put = append(put, p)
		}
		o.change(put)
		// Holds at every moment but one hour of the outage, which alone it speaks of.
		start := time.Now()
		s.policy(`level: pod
conditions:
- {metric: k8s_pod_restart_total, statistic: increase, period: 1m, op: ">", thresholds: {critical: 0}, need: 1, of: 1}
recoverAfter: 1`)
		cluster := s.collect(wire.RoleCluster, "", o, t.TempDir(), 0)
		node := s.collect(wire.RoleNode, "n1", o, t.TempDir(), 0)
		time.Sleep(5 * time.Minute)
		untilPast(2 * time.Second)

		s.pipes.sever()
		cutAt := time.Now()
		time.Sleep(outage / 3)
		// Restarts in the middle of it: history, which is no news in the end.
		restarted := *pods[0]
		restarted.Containers = []object.Container{{Name: "app", ID: "c-u1-2", State: "running", StartedAt: time.Now().UTC(), RestartCount: 3}}
		o.change([]object.Object{&restarted})
		time.Sleep(outage / 6)
		untilPast(10 * time.Second)
		killedAt := time.Now()
		dir := node.image(t)
		node.stop() // what it writes from here on is in a folder that nobody reads again
		time.Sleep(45 * time.Second)
		node = s.collect(wire.RoleNode, "n1", o, dir, 0)
		backAgain := time.Now()
		time.Sleep(time.Until(cutAt.Add(outage)))
		if h := node.Health().Queue; h.Batches < int(outage/interval)-10 || h.Dropped != 0 {
			t.Errorf("before the end of the outage %+v wait", h)
		}

		// Back, and the server takes half a second for each request of the past and
		// sends every third one away.
		var n, together atomic.Int64 // requests of the past, and of several intervals
		s.mu.Lock()
		before := len(s.arrivals)
		s.before = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get(wire.HeaderBacklog) == "" {
				return false
			}
			if r.Header.Get(wire.HeaderEarlier) != "" {
				together.Add(1)
			}
			time.Sleep(500 * time.Millisecond)
			if n.Add(1)%3 != 0 {
				return false
			}
			w.Header().Set("Retry-After", "5")
			http.Error(w, "4 writes of backlog are worked on already", http.StatusTooManyRequests)
			return true
		}
		s.mu.Unlock()
		s.pipes.mend()
		mended := time.Now()
		drained := time.Duration(0)
		for range 200 {
			time.Sleep(interval / 2)
			synctest.Wait()
			if cluster.Health().Queue.Batches == 0 && node.Health().Queue.Batches == 0 {
				drained = time.Since(mended)
				break
			}
		}
		if drained < 5*interval {
			t.Errorf("the backlog was gone after %v: too quick to show that live data go first", drained)
		}
		if all := n.Load(); together.Load() < all/2 {
			t.Errorf("%d of %d requests of the past had several intervals", together.Load(), all)
		}
		time.Sleep(5 * time.Minute)
		untilPast(10 * time.Second)
		end := time.Now().Add(-interval).Truncate(interval)

		// Live at once, and in time all along.
		live := map[string]time.Time{}
		for _, a := range s.arrived(before) {
			if a.Backlog || a.Through.IsZero() || a.Through.Before(mended) {
				continue
			}
			if late := a.ReceivedAt.Sub(a.Through); late > 2*time.Second {
				t.Errorf("live data of %s at %v came %v late", a.Sender, a.Through, late)
			}
			if _, ok := live[a.Sender]; !ok {
				live[a.Sender] = a.ReceivedAt
			}
		}
		for _, sender := range []string{"cluster", "node/n1"} {
			if first, ok := live[sender]; !ok || first.Sub(mended) > interval+2*time.Second {
				t.Errorf("live data of %s came after %v", sender, first.Sub(mended))
			}
		}

		// Each sample once, at its time, with its value.
		first := start.Truncate(interval).Add(2 * interval)
		down := func(at time.Time) bool { return at.After(killedAt) && at.Before(backAgain.Add(interval)) }
		memory, sums, coverage := s.series(catalogue.ContainerMem), s.series("k8s_workload_mem_no_cache_bytes"), s.series(rollup.CoverageRatio)
		ready := s.series(catalogue.PodReady)
		workload, cover := only(t, "sums", sums, `workload="cart"`), only(t, "coverage", coverage, theCluster)
		points, missing := 0, 0
		for at := first; !at.After(end); at = at.Add(interval) {
			ms, sum := at.UnixMilli(), 0.0
			for _, p := range pods {
				points++
				if v := only(t, "readiness", ready, p.Name)[ms]; v != 1 {
					t.Errorf("%s is not ready at %v", p.Name, at)
				}
				v, ok := only(t, "memory", memory, p.Name)[ms]
				if !ok && down(at) {
					missing++
					continue
				}
				if want := memoryOf(p, at); v != want {
					t.Errorf("%s at %v is %v, want %v", p.Name, at, v, want)
				}
				sum += v
			}
			if down(at) {
				continue
			}
			if workload[ms] != sum || cover[ms] != 1 {
				t.Errorf("at %v the workload's sum is %v of %v, coverage %v", at, workload[ms], sum, cover[ms])
			}
		}
		if missing > 2*len(pods) {
			t.Errorf("%d samples are missing around the kill, the collector was down for 45 s", missing)
		}
		for name, one := range memory {
			for ms := range one {
				if ms%interval.Milliseconds() != 0 {
					t.Errorf("%s has a sample off the grid at %d", name, ms)
				}
			}
		}
		t.Logf("%d points of the grid looked at, backlog gone %v after the reconnect", points, drained)

		// What happened then is in the history, and alarmed nobody now.
		restarts := only(t, "restarts", s.series("k8s_pod_restart_total"), "cart-1")
		if restarts[cutAt.Truncate(interval).UnixMilli()] != 0 || restarts[end.UnixMilli()] != 3 {
			t.Errorf("restarts are %v before and %v after", restarts[cutAt.Truncate(interval).UnixMilli()], restarts[end.UnixMilli()])
		}
		if got := s.incidents(); len(got) != 0 {
			t.Errorf("the past raised %+v", got)
		}
		// The same policy speaks when it happens now.
		again := restarted
		again.Containers = []object.Container{{Name: "app", ID: "c-u1-3", State: "running", StartedAt: time.Now().UTC(), RestartCount: 5}}
		o.change([]object.Object{&again})
		time.Sleep(3 * interval)
		if got := s.incidents(); len(got) != 1 {
			t.Errorf("a restart now raised %d incidents", len(got))
		}
		node.stop()
		cluster.stop()
	})
}

// TestTheInventoryOfAnOutage changes a pod every ten minutes while the server is
// away, kills the collector in the middle, and asks the server afterwards for the
// states that the pod had, and when.
func TestTheInventoryOfAnOutage(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		s, stop := serve(t)
		defer stop()
		o := newObjects()
		pod := aPod("u1", "cart-1", "n1", "cart")
		o.change([]object.Object{aNode("n1"), pod})
		cluster := s.collect(wire.RoleCluster, "", o, t.TempDir(), 0)
		time.Sleep(time.Minute)
		s.pipes.sever()
		type state struct {
			at    time.Time
			count int
		}
		var want []state
		restart := func(n int) {
			next := *pod
			next.Containers = []object.Container{{Name: "app", ID: fmt.Sprint("c-", n), State: "running", StartedAt: time.Now().UTC(), RestartCount: n}}
			o.change([]object.Object{&next})
			want = append(want, state{time.Now(), n})
		}
		for n := range 18 {
			time.Sleep(10 * time.Minute)
			restart(n + 1)
			if n != 9 {
				continue
			}
			time.Sleep(time.Minute)
			dir := cluster.image(t)
			cluster.stop()
			restart(100) // nobody looks: the next collector sees what became of it
			want[len(want)-1].at = time.Now().Add(30 * time.Second)
			time.Sleep(30 * time.Second)
			cluster = s.collect(wire.RoleCluster, "", o, dir, 0)
		}
		time.Sleep(time.Minute)
		if h := cluster.Health().Inventory; h == nil || h.Batches < 18 || h.Dropped != 0 {
			t.Errorf("at the end of the outage %+v wait", h)
		}
		s.pipes.mend()
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if h := cluster.Health().Inventory; h == nil || h.Batches != 0 || h.Dropped != 0 {
			t.Errorf("after the outage %+v wait", h)
		}
		got, err := s.inventory.Versions(t.Context(), theCluster, object.KeyOf(pod), time.Time{}, time.Now())
		if err != nil || len(got) != len(want)+1 {
			t.Fatalf("%d states, want %d; %v", len(got), len(want)+1, err)
		}
		for i, w := range want {
			v := got[i+1]
			if n := v.Object.(*object.Pod).Containers[0].RestartCount; n != w.count || v.From.Sub(w.at).Abs() > 2*time.Second {
				t.Errorf("state %d has %d restarts from %v on, want %d from %v on", i, n, v.From, w.count, w.at)
			}
		}
		cluster.stop()
	})
}

// TestAnOutageBeyondTheBounds keeps the newest and says what went, and of when.
func TestAnOutageBeyondTheBounds(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		s, stop := serve(t)
		defer stop()
		o := newObjects()
		o.change([]object.Object{aNode("n1"), aPod("u1", "cart-1", "n1", "cart")})
		node := s.collect(wire.RoleNode, "n1", o, t.TempDir(), 0, func(o *collector.Options) { o.QueueAge = 2 * time.Hour })
		time.Sleep(3 * time.Minute)
		s.pipes.sever()
		cutAt := time.Now()
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		h := node.Health().Queue
		if h.Batches < 238 || h.Batches > 241 || len(h.Drops) != 1 || h.Drops[0].Reason != queue.DropAge || h.Drops[0].Samples != h.Dropped {
			t.Errorf("queue %+v", h)
		} else if d := h.Drops[0]; d.From.Before(cutAt) || d.From.Sub(cutAt) > interval || d.To.Sub(cutAt).Round(time.Minute) != time.Hour {
			t.Errorf("dropped from %v to %v, the outage began at %v", d.From, d.To, cutAt)
		}
		s.pipes.mend()
		for node.Health().Queue.Batches > 0 {
			time.Sleep(interval)
			synctest.Wait()
			if time.Since(cutAt) > 4*time.Hour {
				t.Fatalf("after an hour still %+v", node.Health().Queue)
			}
		}
		memory := only(t, "memory", s.series(catalogue.ContainerMem), "cart-1")
		gaps := 0
		for at := cutAt.Truncate(interval); at.Before(time.Now().Add(-interval)); at = at.Add(interval) {
			if _, ok := memory[at.UnixMilli()]; !ok {
				gaps++
			}
		}
		if gaps < 110 || gaps > 130 {
			t.Errorf("%d intervals are missing, want those of one hour", gaps)
		}
		node.stop()
	})
}

// TestAnOutageLongerThanTheServerTakes cuts a site off for six hours where the
// server takes four by the ordinary way: what is older comes by the import way.
func TestAnOutageLongerThanTheServerTakes(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		s, stop := serveThatTakes(t, 4*time.Hour)
		defer stop()
		o := newObjects()
		pods := []*object.Pod{aPod("u1", "cart-1", "n1", "cart"), aPod("u2", "cart-2", "n1", "cart")}
		o.change([]object.Object{aNode("n1"), aWorkload("cart", 2), pods[0], pods[1]})
		cluster := s.collect(wire.RoleCluster, "", o, t.TempDir(), 0)
		node := s.collect(wire.RoleNode, "n1", o, t.TempDir(), 0)
		start := time.Now()
		time.Sleep(5 * time.Minute)
		// Not at a point of the grid, of which one sender alone might have reported:
		// its sums are written at the deadline, once, as far as they are known.
		untilPast(10 * time.Second)
		s.pipes.sever()
		time.Sleep(6 * time.Hour)
		s.pipes.mend()
		// The queues drain in minutes; the blocks are made when nothing came for a while.
		time.Sleep(30 * time.Minute)
		untilPast(10 * time.Second)
		for _, c := range []*running{cluster, node} {
			if h := c.Health().Queue; h.Batches != 0 || h.Dropped != 0 {
				t.Errorf("after the outage %+v", h)
			}
		}
		memory, sums, coverage := s.series(catalogue.ContainerMem), s.series("k8s_workload_mem_no_cache_bytes"), only(t, "coverage", s.series(rollup.CoverageRatio), theCluster)
		workload := only(t, "sums", sums, `workload="cart"`)
		points := 0
		for at := start.Truncate(interval).Add(2 * interval); at.Before(time.Now().Add(-2 * interval)); at = at.Add(interval) {
			ms, sum := at.UnixMilli(), 0.0
			for _, p := range pods {
				points++
				v, ok := only(t, "memory", memory, p.Name)[ms]
				if !ok || v != memoryOf(p, at) {
					t.Fatalf("%s at %v is %v, want %v", p.Name, at, v, memoryOf(p, at))
				}
				sum += v
			}
			if workload[ms] != sum || coverage[ms] != 1 {
				t.Fatalf("at %v the workload's sum is %v of %v, coverage %v", at, workload[ms], sum, coverage[ms])
			}
		}
		t.Logf("%d points of the grid looked at", points)
		node.stop()
		cluster.stop()
	})
}

// TestAWrongClock has a collector seven minutes ahead begin while the server is
// away: further than the server takes samples from the future.
func TestAWrongClock(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		const ahead = 7*time.Minute + 13*time.Second
		s, stop := serve(t)
		defer stop()
		o := newObjects()
		pod := aPod("u1", "cart-1", "n1", "cart")
		o.change([]object.Object{aNode("n1"), pod})
		s.pipes.sever()
		start := time.Now()
		node := s.collect(wire.RoleNode, "n1", o, t.TempDir(), ahead)
		time.Sleep(20 * time.Minute)
		s.pipes.mend()
		mended := time.Now()
		time.Sleep(10 * time.Minute)
		untilPast(5 * time.Second)
		h := node.Health()
		if h.Queue.Batches != 0 || h.Queue.Dropped != 0 || h.ClockOffsetSeconds == nil || math.Abs(*h.ClockOffsetSeconds-ahead.Seconds()) > 0.1 || math.Abs(h.ClockCorrectionSeconds-ahead.Seconds()) > 0.1 {
			t.Errorf("health %+v, offset %v", h, h.ClockOffsetSeconds)
		}
		memory, clock := only(t, "memory", s.series(catalogue.ContainerMem), "cart-1"), only(t, "clock", s.series("crowsnest_collector_clock_offset_seconds"), "node/n1")
		gaps := 0
		for at := start.Truncate(interval).Add(2 * interval); at.Before(time.Now().Add(-2 * interval)); at = at.Add(interval) {
			v, ok := memory[at.UnixMilli()]
			if !ok {
				gaps++ // where the grid was brought to the server's
				continue
			}
			// The reading tells this machine's time: a point of either grid.
			off := math.Mod(v-memoryOf(pod, at)+100_000, 100_000)
			if math.Abs(off-ahead.Seconds()) > interval.Seconds() {
				t.Errorf("the sample at %v was read at its clock's %v s later", at, off)
			}
			if c := clock[at.UnixMilli()]; math.Abs(c-ahead.Seconds()) > 0.1 {
				t.Errorf("the sample at %v is not marked: offset %v", at, c)
			}
		}
		for ms := range memory {
			if time.UnixMilli(ms).After(time.Now()) {
				t.Errorf("a sample of the future: %v", time.UnixMilli(ms))
			}
		}
		if gaps > 2 {
			t.Errorf("%d points are missing, reconnected at %v", gaps, mended)
		}
		if st, err := s.ingester.Status(theCluster, 1); err != nil || st.WrongClock == 0 {
			t.Errorf("status %+v, %v", st, err)
		}
		node.stop()
	})
}
