package rollup

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
)

// jobs sends an interval of a node that runs workloads which nobody else has, and lets ingest
// forget those of the interval that is kept intervals ago.
func (g *rig) jobs(i, n int, others []string, running *[][]*Feed, kept int) {
	g.t.Helper()
	at := t0.Add(time.Duration(i) * step)
	var ps []point
	var feeds []*Feed
	for j := range n {
		name := fmt.Sprintf("job-%d-%d", i, j)
		ps = append(ps, pod(catalogue.PodCPU, name, name, 1))
	}
	for _, node := range others {
		g.send(at, nodeSender(node), pod(catalogue.PodCPU, "cart", "cart-"+node, 2))
	}
	g.send(at, nodeSender("jobs"), ps...)
	g.at(at.Add(11 * time.Second))
	for _, p := range ps {
		feeds = append(feeds, g.feeds[p.lset.String()])
		delete(g.feeds, p.lset.String())
	}
	if *running = append(*running, feeds); len(*running) > kept {
		g.r.Release(test, (*running)[0]...)
		*running = (*running)[1:]
	}
}

// Where a node is away for good no interval is complete, and no rollup ends.
func TestWorkloadsThatComeAndGoWhileANodeIsAwayTakeNoMore(t *testing.T) {
	g := newRig(t, true)
	var others []string
	for n := range 19 {
		others = append(others, fmt.Sprint(n))
	}
	g.nodes = append([]string{"jobs", "away"}, others...)
	const a, kept = 5, 20
	var running [][]*Feed
	for i := range 300 {
		g.jobs(i, a, others, &running, kept)
	}
	// Those that run, that are over for no longer than a stale marker of them would be of use,
	// and those since the last sweep; and cart, the namespace and the cluster.
	most := a*(kept+int((g.r.markerAfter()+sweepEvery)/step)+2) + 3
	c := g.r.cluster(test)
	got := 0
	for _, groups := range c.groups {
		got += len(groups)
	}
	if got > most || len(c.numbered) > most+1 {
		t.Errorf("%d groups, numbered up to %d, want at most %d", got, len(c.numbered), most)
	}
	if len(g.written) != 300 || g.written[299].Complete {
		t.Errorf("%d intervals written, the last of them complete: %v", len(g.written), g.written[len(g.written)-1].Complete)
	}
	for _, w := range []string{"job-0-0", "job-150-4"} {
		if got := g.cpu(w); len(got) != 1 {
			t.Errorf("%s has %v", w, got)
		}
	}
	// One that comes again is summed, and ends once nobody is away.
	at := t0.Add(300 * step)
	g.nodes = slices.DeleteFunc(g.nodes, func(n string) bool { return n == "away" })
	for i := range 2 {
		at := at.Add(time.Duration(i) * step)
		for _, node := range others {
			g.send(at, nodeSender(node), pod(catalogue.PodCPU, "cart", "cart-"+node, 2))
		}
		if i == 0 {
			g.send(at, nodeSender("jobs"), pod(catalogue.PodCPU, "job-0-0", "job-0-0", 4))
		} else {
			g.send(at, nodeSender("jobs"))
		}
		g.at(at.Add(11 * time.Second))
	}
	equal(t, "job-0-0", g.cpu("job-0-0"), map[int64]float64{0: 1, 9000: 4, 9030: -1})
	if got := g.cpu("cart"); len(got) != 302 || got[9030] != 38 {
		t.Errorf("cart has %d samples, the last %v", len(got), got[9030])
	}
}

// What a rush of workloads took is given back.
func TestSumsAreAsLongAsWhatIsThere(t *testing.T) {
	g := newRig(t, true)
	g.nodes = []string{"jobs", "0"}
	var running [][]*Feed
	g.jobs(0, 2000, []string{"0"}, &running, 3)
	c := g.r.cluster(test)
	if len(c.numbered) < 2000 {
		t.Fatalf("%d groups of 2000 workloads", len(c.numbered))
	}
	for i := 1; i < 60; i++ {
		g.jobs(i, 2, []string{"0"}, &running, 3)
	}
	if len(c.numbered) > 30 || cap(c.numbered) > sparseRoom*30 {
		t.Errorf("numbered up to %d, with room for %d", len(c.numbered), cap(c.numbered))
	}
	for _, s := range c.spare {
		if cap(s) > sparseRoom*30 {
			t.Errorf("room for %d sums", cap(s))
		}
	}
	equal(t, "job-59-1", g.cpu("job-59-1"), map[int64]float64{59 * 30: 1})
	if got := g.cpu("cart"); len(got) != 60 || got[59*30] != 2 {
		t.Errorf("cart has %v", got)
	}
}
