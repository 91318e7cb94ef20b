package collector

import (
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/bubbletest"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

func TestPace(t *testing.T) {
	pod := func(uid string, restarts int) *object.Pod {
		p := thePod(true)
		p.UID, p.Containers[0].RestartCount = uid, restarts
		return p
	}
	start := time.Unix(1_800_000_000, 0)
	at := func(s float64) time.Time { return start.Add(time.Duration(s * float64(time.Second))) }
	p := newPace()
	for i := range paceBurst {
		if send, cluster, again := p.next(at(0), []state.Change{{Before: pod("a", i), Now: pod("a", i+1)}}); len(send) != 1 || !cluster || again != 0 {
			t.Fatalf("change %d: %v %v %v", i, send, cluster, again)
		}
	}
	// The seventh waits, and takes the eighth with it; another object is free.
	send, _, again := p.next(at(0), []state.Change{{Before: pod("a", 6), Now: pod("a", 7)}, {Before: pod("b", 0), Now: pod("b", 1)}})
	if len(send) != 1 || send[0].Now.GetMeta().UID != "b" || again <= 0 || again > paceEvery {
		t.Fatalf("got %v, again in %v", send, again)
	}
	if send, _, _ := p.next(at(1), []state.Change{{Before: pod("a", 7), Now: pod("a", 8)}}); len(send) != 0 || p.held != 1 {
		t.Fatalf("got %v, %d held", send, p.held)
	}
	send, cluster, again := p.next(at(5), nil)
	if len(send) != 1 || send[0].Now.(*object.Pod).Restarts() != 8 || send[0].Before.(*object.Pod).Restarts() != 6 || !cluster || again != 0 {
		t.Fatalf("after the wait came %v %v %v", send, cluster, again)
	}
	// An end never waits, and what is over is forgotten.
	if send, _, _ := p.next(at(5), []state.Change{{Before: pod("a", 8)}}); len(send) != 1 || p.objects[paced{object.KindPod, "a"}] != nil {
		t.Fatalf("got %v, %d objects remembered", send, len(p.objects))
	}
	if p.next(at(60), nil); len(p.objects) != 0 {
		t.Errorf("%d objects are remembered", len(p.objects))
	}
}

func TestAFlappingPodIsBoundedAndEndsInItsTrueState(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		r := begin(t, Options{Interval: 60 * time.Second})
		time.Sleep(121 * time.Second) // just after a grid point
		before := len(r.server.all())
		for i := range 201 { // 40 s of five changes a second, not ready in the end
			r.state.set(thePod(i%2 == 1))
			time.Sleep(200 * time.Millisecond)
		}
		last := time.Now()
		time.Sleep(paceEvery + time.Second)
		sent := 0
		var newest got
		for _, g := range r.server.all()[before:] {
			if _, ok := g.series[catalogue.PodReady]; ok && g.through == "" {
				sent, newest = sent+1, g
			}
		}
		if most := paceBurst + int((40*time.Second+paceEvery)/paceEvery) + 1; sent < paceBurst || sent > most {
			t.Errorf("%d samples of 201 changes, want %d to %d", sent, paceBurst, most)
		}
		if newest.series[catalogue.PodReady] != 0 || newest.when.Sub(last) > paceEvery {
			t.Errorf("the newest is %v, %v after the last change", newest.series, newest.when.Sub(last))
		}
		r.stop()
	})
}

func TestRestartsOfAPodThatWentBeforeTheGridCount(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		r := begin(t, Options{Interval: 30 * time.Second})
		time.Sleep(60*time.Second - 20*time.Millisecond) // within the time that changes are gathered
		p := thePod(true)
		p.Containers[0].RestartCount = 2
		r.state.mu.Lock()
		was := r.state.now.Pods["u"]
		r.state.now = &state.Snapshot{Synced: true, Pods: map[string]*object.Pod{}, Nodes: r.state.now.Nodes}
		r.state.mu.Unlock()
		r.state.changes <- state.Change{At: time.Now(), Before: was, Now: p}
		r.state.changes <- state.Change{At: time.Now(), Before: p}
		time.Sleep(time.Second)
		all := r.server.all()
		if last := all[len(all)-1]; last.through != wire.FormatMillis(time.Now().Truncate(30*time.Second)) || last.series["k8s_node_pod_restart_total"] != 2 {
			t.Errorf("after the grid point %s: %v", last.through, last.series)
		}
		r.stop()
	})
}
