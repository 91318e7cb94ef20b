package rollup

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
)

// backlogRig is a site of three nodes that was live at t0 and is back hours later.
func backlogRig(t *testing.T) *rig {
	g := newRig(t, false)
	g.nodes = []string{"n0", "n1", "n2"}
	for _, n := range g.nodes {
		g.send(t0, nodeSender(n), pod(catalogue.PodCPU, "cart", n, 1))
	}
	g.advance()
	g.now = t0.Add(6 * time.Hour)
	for _, n := range g.nodes {
		g.send(g.now, nodeSender(n), pod(catalogue.PodCPU, "cart", n, 1))
	}
	g.advance()
	return g
}

// What a site brings is summed as it passes, but for what the store had of it before
// it was watched, and comes out as what is read from the store: whatever comes twice,
// late, in another order or around a kill.
func TestBacklogIsSummedAsItPasses(t *testing.T) {
	t.Parallel()
	const points, pods = 250, 8 // over two hours
	for seed := range uint64(2) {
		got := map[string]map[string]map[int64]float64{}
		for _, how := range []string{"passing", "passing, killed", "from the store", "little memory"} {
			g := backlogRig(t)
			switch how {
			case "from the store":
				g.r.backlogBytes = 0
			case "little memory":
				g.r.backlogBytes = 10 * sumBytes * len(g.r.cluster(test).numbered)
			}
			rng := rand.New(rand.NewPCG(seed, 7)) // the same values however they are summed
			value := make([][]float64, points)
			for n := range value {
				for range 3 * pods {
					value[n] = append(value[n], rng.NormFloat64()*1000)
				}
			}
			rng = rand.New(rand.NewPCG(seed, uint64(len(how))))
			next := [3]int{} // of each node
			left := 3 * points
			killAt := left / 2
			for left > 0 {
				node := rng.IntN(3)
				if next[node] == points || next[node] > min(next[0], next[1], next[2])+40 {
					continue
				}
				n := next[node]
				var ps []point
				for i := range pods {
					w := fmt.Sprint("w", (i+node)%5)
					if i == pods-1 {
						w = fmt.Sprint("job", n/50) // one that comes and goes
					}
					ps = append(ps, pod(catalogue.PodCPU, w, fmt.Sprint(w, "-", node, "-", i), value[n][node*pods+i]))
				}
				at, sender := t0.Add(time.Duration(n+1)*step), nodeSender(g.nodes[node])
				if how == "passing, killed" && left == killAt {
					g.store(at, sender, step, rng.IntN(2) == 0, ps[:1+rng.IntN(pods)]...) // a part, and nobody was told
					g.restart()
				}
				g.sendEvery(step, at, sender, true, ps...)
				if rng.IntN(4) == 0 { // the answer was lost
					g.sendEvery(step, at, sender, true, ps...)
				}
				if back := n - 70; rng.IntN(50) == 0 && back >= 0 { // one from long before
					g.sendEvery(step, t0.Add(time.Duration(back+1)*step), sender, true, pod(catalogue.PodCPU, "w0", "w0-again", 5))
				}
				next[node]++
				left--
				g.now = g.now.Add(500 * time.Millisecond) // what gathers is read before one from long before comes
				if rng.IntN(3) == 0 {
					g.advance()
				}
			}
			g.at(g.now.Add(graceLate + time.Second))
			g.settle()
			if n := len(g.r.cluster(test).open); n > 0 {
				t.Fatalf("%s: %d intervals are open after %v failures", how, n, testutil.ToFloat64(g.r.metrics.failures))
			}
			if n := g.r.cluster(test).owned; n != 0 {
				t.Errorf("%s: %d intervals still have sums of their own", how, n)
			}
			read := int(testutil.ToFloat64(g.r.metrics.rebuilt))
			switch {
			case how == "from the store" && read < points:
				t.Errorf("%s: %d of %d intervals were read", how, read, points)
			case how == "passing" && read > 60, how == "passing, killed" && read > 150:
				t.Errorf("%s: %d of %d intervals were read from the store", how, read, points)
			}
			got[how] = map[string]map[int64]float64{}
			for i := range 5 {
				w := fmt.Sprint("w", i)
				got[how][w] = g.cpu(w)
			}
			for i := range points / 50 {
				w := fmt.Sprint("job", i)
				got[how][w] = g.cpu(w)
			}
		}
		for how, sums := range got {
			for w, want := range got["from the store"] {
				equal(t, fmt.Sprintf("seed %d, %s, %s", seed, how, w), sums[w], want)
			}
		}
	}
}

// A series that was forgotten meanwhile does not know any more what it has added.
func TestBacklogThatStandsStillIsReadFromTheStore(t *testing.T) {
	t.Parallel()
	g := backlogRig(t)
	at, p := t0.Add(2*time.Hour), pod(catalogue.PodCPU, "cart", "n0", 4)
	g.advance()
	g.sendEvery(step, at.Add(-step), nodeSender("n0"), true, p) // from here on the hour is watched
	g.advance()
	g.sendEvery(step, at, nodeSender("n0"), true, p)
	c := g.r.cluster(test)
	if c.open[at.UnixMilli()].sums == nil {
		t.Fatal("it is not summed as it passes")
	}
	g.r.Release(test, g.feeds[p.lset.String()])
	delete(g.feeds, p.lset.String())
	g.now = g.now.Add(31 * time.Minute)
	g.sendEvery(step, at, nodeSender("n0"), true, p)
	for _, n := range []string{"n1", "n2"} {
		for _, when := range []time.Time{at.Add(-step), at} {
			g.sendEvery(step, when, nodeSender(n), true, pod(catalogue.PodCPU, "cart", n, 1))
		}
	}
	g.at(g.now.Add(time.Second))
	g.settle()
	if v := g.cpu("cart")[7200]; v != 6 {
		t.Errorf("the sum is %v, want 6", v)
	}
}

// A server that knows a site's senders by what they send live does not take the first of
// them that brings a backlog for all there are.
func TestTheFirstOfABacklogIsNotAllOfIt(t *testing.T) {
	t.Parallel()
	g := newRig(t, false)
	g.now = t0.Add(6 * time.Hour)
	names := []string{"n0", "n1", "n2"}
	for _, n := range names {
		g.send(g.now, nodeSender(n), pod(catalogue.PodCPU, "cart", n, 1))
	}
	g.advance()
	want := map[int64]float64{6 * 3600: 3}
	for i, n := range names { // some seconds apart
		for at := range int64(100) { // more than are read at once
			g.sendEvery(step, t0.Add(time.Duration(at)*step), nodeSender(n), true, pod(catalogue.PodCPU, "cart", n, 1))
			want[at*30] = 3
		}
		g.at(g.now.Add(time.Duration(i+1) * 5 * time.Second))
	}
	g.at(g.now.Add(heardFor))
	g.settle()
	equal(t, "cart", g.cpu("cart"), want)
	if late := testutil.ToFloat64(g.r.metrics.skipped.WithLabelValues(reasonLate)); late != 0 {
		t.Errorf("%v samples came after their interval was written", late)
	}
}

// Another grid: what series have added is told by intervals of the old one.
func TestBacklogOfAnotherInterval(t *testing.T) {
	t.Parallel()
	g := backlogRig(t)
	send := func(at time.Time, every time.Duration) {
		for _, n := range g.nodes {
			g.sendEvery(every, at, nodeSender(n), true, pod(catalogue.PodCPU, "cart", n, 2))
			g.sendEvery(every, at, nodeSender(n), true, pod(catalogue.PodCPU, "cart", n, 2))
		}
	}
	want := map[int64]float64{0: 3, 6 * 3600: 3}
	for n := 1; n <= 40; n++ {
		send(t0.Add(2*time.Hour+time.Duration(n)*step), step)
		want[int64(7200+n*30)] = 6
	}
	g.at(g.now.Add(heardFor))
	for n := 1; n <= 40; n++ {
		send(t0.Add(75*time.Minute+time.Duration(n)*time.Minute), time.Minute) // before those
		if n == 1 {
			g.now = g.now.Add(20 * time.Second) // the pace is looked at now and then
		}
		g.advance()
		want[int64(75*60+n*60)] = 6
	}
	g.at(g.now.Add(graceLate + time.Minute))
	equal(t, "cart", g.cpu("cart"), want)
}

// A kill finds many intervals half filled, which become complete one by one: they are
// read from the store by few readings, while live ones wait for none of them.
func TestWhatAKillFindsHalfFilledIsReadTogether(t *testing.T) {
	t.Parallel()
	g := backlogRig(t)
	const points = 150
	send := func(node string, n int) {
		g.sendEvery(step, t0.Add(time.Duration(n)*step), nodeSender(node), true, pod(catalogue.PodCPU, "cart", node, float64(n)))
	}
	for n := 1; n <= points; n++ {
		send("n0", n)
		send("n1", n)
		g.advance()
	}
	g.restart()
	want := map[int64]float64{0: 3, 6 * 3600: 3}
	readings := 0
	for n := 1; n <= points; n++ {
		send("n2", n)
		want[int64(n*30)] = 3 * float64(n)
		before := len(g.written)
		g.at(g.now.Add(300 * time.Millisecond))
		if len(g.written) > before {
			readings++
		}
	}
	live := g.now.Truncate(step).Add(step)
	g.now = live
	for _, n := range g.nodes {
		g.send(live, nodeSender(n), pod(catalogue.PodCPU, "cart", n, 1))
	}
	before := len(g.written)
	g.advance()
	if n := len(g.written); n == before || !g.written[before].At.Equal(live) {
		t.Errorf("the live interval is not written first: %v", g.written[before:])
	}
	want[live.Sub(t0).Milliseconds()/1000] = 3
	g.settle()
	equal(t, "cart", g.cpu("cart"), want)
	if rebuilt := testutil.ToFloat64(g.r.metrics.rebuilt); rebuilt < points || readings > 4 {
		t.Errorf("%v intervals were read from the store, by %d readings while they came", rebuilt, readings)
	}
}
