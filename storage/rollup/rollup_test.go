package rollup

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"go.uber.org/goleak"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/storage/metrics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	step = 30 * time.Second
	test = "test" // the cluster
)

var t0 = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

// rig is a store, rollups, and what ingest does between them.
type rig struct {
	t       testing.TB
	dir     string
	db      *metrics.DB
	r       *Rollups
	now     time.Time
	nodes   []string
	written []Written
	feeds   map[string]*Feed
	fail    error // of the next commits of rollups
}

func (g *rig) Nodes(string) []string { return g.nodes }

// newRig starts at t0. A tapped one was born long before, so that samples are
// summed as they pass; one that is not reads the store.
func newRig(t testing.TB, tapped bool) *rig {
	g := &rig{t: t, dir: t.TempDir(), now: t0}
	g.start(tapped)
	t.Cleanup(func() { _ = g.db.Close() })
	return g
}

func (g *rig) start(tapped bool) {
	g.t.Helper()
	var err error
	// Blocks so long that none is written behind a test's back.
	if g.db, err = metrics.Open(metrics.Options{Dir: g.dir, BlockRange: 24 * time.Hour}); err != nil {
		g.t.Fatal(err)
	}
	real := g.now
	if tapped {
		g.now = g.now.Add(-time.Hour)
	}
	g.feeds = map[string]*Feed{}
	g.r, err = New(Options{
		Store: failing{g.db, g}, Expected: g, Now: func() time.Time { return g.now },
		Written:    func(w Written) { g.written = append(g.written, w) },
		Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		g.t.Fatal(err)
	}
	g.now = real
	if err := g.r.recover(context.Background()); err != nil {
		g.t.Fatal(err)
	}
}

// restart is a kill: nothing in memory survives.
func (g *rig) restart() {
	g.t.Helper()
	if err := g.db.Close(); err != nil {
		g.t.Fatal(err)
	}
	g.start(false)
}

type failing struct {
	*metrics.DB
	g *rig
}

func (f failing) Appender(ctx context.Context) storage.Appender {
	return failingAppender{f.DB.Appender(ctx), f.g}
}

type failingAppender struct {
	storage.Appender
	g *rig
}

func (f failingAppender) Commit() error {
	if f.g.fail != nil {
		return errors.Join(f.g.fail, f.Rollback())
	}
	return f.Appender.Commit()
}

type point struct {
	lset labels.Labels
	v    float64
}

func pod(metric, workload, name string, v float64) point {
	return point{labels.FromStrings(labels.MetricName, metric, "cluster", test, "namespace", "shop", "workload_type", "deployment",
		"workload", workload, "pod", name, "node", "n1"), v}
}

func total(metric string, v float64) point {
	return point{labels.FromStrings(labels.MetricName, metric, "cluster", test), v}
}

// store commits samples as ingest does, without telling the rollups.
func (g *rig) store(at time.Time, sender string, every time.Duration, complete bool, ps ...point) []Sample {
	g.t.Helper()
	app := g.db.Appender(context.Background())
	put := func(lset labels.Labels, v float64) bool {
		_, err := app.Append(0, lset, at.UnixMilli(), v)
		if err != nil && !errors.Is(err, storage.ErrDuplicateSampleForTimestamp) {
			g.t.Fatalf("append %s: %v", lset, err)
		}
		return err == nil
	}
	var out []Sample
	for _, p := range ps {
		key := p.lset.String()
		f, ok := g.feeds[key]
		if !ok {
			f = g.r.Feed(test, p.lset)
			g.feeds[key] = f
		}
		if put(p.lset, p.v) && f != nil && !value.IsStaleNaN(p.v) {
			out = append(out, Sample{f, at.UnixMilli(), p.v})
		}
	}
	if complete {
		put(labels.FromStrings(labels.MetricName, SenderInterval, "cluster", test, SenderLabel, sender), every.Seconds())
	}
	if err := app.Commit(); err != nil {
		g.t.Fatal(err)
	}
	return out
}

func (g *rig) sendEvery(every time.Duration, at time.Time, sender string, backlog bool, ps ...point) {
	g.t.Helper()
	g.r.Add(test, every, g.store(at, sender, every, true, ps...))
	g.r.Report(Report{Cluster: test, Sender: sender, Through: at, Interval: every, Backlog: backlog})
}

func (g *rig) send(at time.Time, sender string, ps ...point) {
	g.t.Helper()
	g.sendEvery(step, at, sender, false, ps...)
}

func (g *rig) advance() { g.r.Advance(context.Background()) }

// at sets the clock and lets the rollups look.
func (g *rig) at(now time.Time) {
	g.now = now
	g.advance()
}

// settle lets intervals of the past that are read from the store be together, and read.
func (g *rig) settle() {
	g.at(g.now.Add(gatherFor))
	for c, before := g.r.cluster(test), -1; before != len(c.open); {
		before = len(c.open)
		g.advance()
	}
}

// get reads a series of a metric by a label ("" for the first): seconds after t0
// → value; stale markers are told as -1.
func (g *rig) get(metric, label, want string) map[int64]float64 {
	g.t.Helper()
	q, err := g.db.Querier(math.MinInt64, math.MaxInt64)
	if err != nil {
		g.t.Fatal(err)
	}
	defer func() { _ = q.Close() }()
	out := map[int64]float64{}
	set := q.Select(context.Background(), false, nil, labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, metric))
	for set.Next() {
		if label != "" && set.At().Labels().Get(label) != want {
			continue
		}
		it := set.At().Iterator(nil)
		for it.Next() != chunkenc.ValNone {
			at, v := it.At()
			if value.IsStaleNaN(v) {
				v = -1
			}
			out[(at-t0.UnixMilli())/1000] = v
		}
	}
	return out
}

func (g *rig) cpu(workload string) map[int64]float64 {
	g.t.Helper()
	return g.get(catalogue.WorkloadCPU, "workload", workload)
}

func equal(t testing.TB, what string, got map[int64]float64, want map[int64]float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
		return
	}
	for k, v := range want {
		if math.Float64bits(got[k]) != math.Float64bits(v) {
			t.Errorf("%s: got %v, want %v", what, got, want)
			return
		}
	}
}

// both runs a test with samples summed as they pass, and read from the store.
func both(t *testing.T, f func(t *testing.T, g *rig)) {
	t.Run("tapped", func(t *testing.T) { f(t, newRig(t, true)) })
	t.Run("from the store", func(t *testing.T) { f(t, newRig(t, false)) })
}

func TestSumsAndPercentages(t *testing.T) {
	both(t, func(t *testing.T, g *rig) {
		g.send(t0, "all",
			pod(catalogue.PodCPU, "cart", "cart-1", 0.5), pod(catalogue.PodCPU, "cart", "cart-2", 0.25), pod(catalogue.PodCPU, "web", "web-1", 1),
			pod(catalogue.PodMem, "cart", "cart-1", 1<<30), pod(catalogue.PodNetworkReceive, "web", "web-1", 100),
			total(catalogue.ClusterCPUTotal, 7), total(catalogue.ClusterMemTotal, 4<<30))
		g.advance()
		equal(t, "cart", g.cpu("cart"), map[int64]float64{0: 0.75})
		equal(t, "web", g.cpu("web"), map[int64]float64{0: 1})
		equal(t, "cart's memory", g.get(catalogue.WorkloadMem, "workload", "cart"), map[int64]float64{0: 1 << 30})
		equal(t, "web's network", g.get(catalogue.WorkloadNetworkReceive, "", ""), map[int64]float64{0: 100})
		equal(t, "cluster's CPU", g.get(catalogue.ClusterCPUUsedPercent, "", ""), map[int64]float64{0: 25})
		equal(t, "cluster's memory", g.get(catalogue.ClusterMemUsedPercent, "", ""), map[int64]float64{0: 25})
		equal(t, "coverage", g.get(CoverageRatio, "", ""), map[int64]float64{0: 1})
		if len(g.written) != 1 || g.written[0] != (Written{test, t0, 1, true}) {
			t.Errorf("told %+v", g.written)
		}
	})
}

func TestEveryDeclaredSumIsWritten(t *testing.T) {
	g := newRig(t, true)
	var ps []point
	for _, m := range catalogue.All() {
		if m.Place == catalogue.ByServer && m.Sum == nil && m.Expr == "" {
			t.Errorf("%s is written by the server, but not declared as a sum", m.Name)
		}
		if m.Sum == nil {
			continue
		}
		for _, of := range []string{m.Sum.Of, m.Sum.Per} {
			if of != "" {
				src, _ := catalogue.Get(of)
				b := labels.NewBuilder(labels.FromStrings(labels.MetricName, of))
				for _, l := range src.Labels() {
					b.Set(l, l+"-1")
				}
				b.Set("cluster", test)
				ps = append(ps, point{b.Labels(), 1})
			}
		}
	}
	g.send(t0, "all", ps...)
	g.advance()
	for _, m := range catalogue.All() {
		if m.Sum != nil && len(g.get(m.Name, "", "")) != 1 {
			t.Errorf("%s was not written", m.Name)
		}
		if g.r.Reserved(m.Name) != (m.Place == catalogue.ByServer) {
			t.Errorf("%s: reserved %v", m.Name, g.r.Reserved(m.Name))
		}
	}
}

func TestDivisorThatIsMissingOrZeroGivesNoPercentage(t *testing.T) {
	both(t, func(t *testing.T, g *rig) {
		g.send(t0, "all", pod(catalogue.PodCPU, "cart", "cart-1", 0.5), total(catalogue.ClusterCPUTotal, 0))
		g.advance()
		equal(t, "cart", g.cpu("cart"), map[int64]float64{0: 0.5})
		equal(t, "percentage", g.get(catalogue.ClusterCPUUsedPercent, "", ""), nil)
	})
}

func TestResendCountsOnce(t *testing.T) {
	both(t, func(t *testing.T, g *rig) {
		for range 3 { // before it is written …
			g.send(t0, "node/n1", pod(catalogue.PodCPU, "cart", "cart-1", 0.5))
		}
		g.nodes = []string{"n1", "n2"}
		g.advance()
		if len(g.written) != 0 {
			t.Fatal("written while n2 is missing")
		}
		g.send(t0, "node/n2", pod(catalogue.PodCPU, "cart", "cart-2", 0.25))
		g.advance()
		equal(t, "cart", g.cpu("cart"), map[int64]float64{0: 0.75})
		g.send(t0, "node/n1", pod(catalogue.PodCPU, "cart", "cart-1", 0.5)) // … and after
		g.at(t0.Add(time.Minute))
		equal(t, "cart after a late resend", g.cpu("cart"), map[int64]float64{0: 0.75})
		if len(g.written) != 1 {
			t.Errorf("written %d times", len(g.written))
		}
	})
}

func TestDeadlineWithEnoughCoverage(t *testing.T) {
	both(t, func(t *testing.T, g *rig) {
		for n := range 20 {
			g.nodes = append(g.nodes, fmt.Sprint(n))
		}
		send := func(at time.Time, n int) {
			for i := range n {
				g.send(at, nodeSender(fmt.Sprint(i)), pod(catalogue.PodCPU, "cart", fmt.Sprint("cart-", i), 1))
			}
		}
		send(t0, 20)
		g.advance()
		t1 := t0.Add(step)
		g.at(t1.Add(time.Second))
		send(t1, 19)
		g.advance()
		equal(t, "before the deadline", g.cpu("cart"), map[int64]float64{0: 20})
		g.at(t1.Add(9 * time.Second))
		equal(t, "just before the deadline", g.cpu("cart"), map[int64]float64{0: 20})
		g.at(t1.Add(11 * time.Second)) // the first sample came 1 s after the end
		equal(t, "at the deadline", g.cpu("cart"), map[int64]float64{0: 20, 30: 19})
		if w := g.written[1]; w.Complete || w.Coverage != 0.95 {
			t.Errorf("told %+v", w)
		}
		// The last one comes late: the rollup is written once.
		g.send(t1, nodeSender("19"), pod(catalogue.PodCPU, "cart", "cart-19", 1))
		g.at(t1.Add(20 * time.Second))
		equal(t, "late", g.cpu("cart"), map[int64]float64{0: 20, 30: 19})
		if n := testutil.ToFloat64(g.r.metrics.skipped.WithLabelValues(reasonLate)); n != 1 {
			t.Errorf("%v late samples counted", n)
		}
	})
}

func TestSendersThatReportOneAfterTheOtherAreWaitedFor(t *testing.T) {
	both(t, func(t *testing.T, g *rig) {
		const all, early = 300, 285
		for n := range all {
			g.nodes = append(g.nodes, fmt.Sprint(n))
		}
		send := func(at time.Time, from, to int) {
			for i := from; i < to; i++ {
				g.send(at, nodeSender(fmt.Sprint(i)), pod(catalogue.PodCPU, "cart", fmt.Sprint("cart-", i), 1))
			}
		}
		// oneByOne sends of an interval, of which most came 1 s after its end, until so many are there.
		oneByOne := func(at time.Time, most int) {
			g.at(at.Add(time.Second))
			send(at, 0, early)
			for i := early; i < most; i++ {
				g.at(at.Add(10500*time.Millisecond + time.Duration(i-early)*800*time.Millisecond))
				send(at, i, i+1)
			}
		}
		send(t0, 0, all)
		g.advance()
		oneByOne(t0.Add(step), all-3)
		g.at(g.now.Add(900 * time.Millisecond))
		equal(t, "while they report", g.cpu("cart"), map[int64]float64{0: all})
		g.at(g.now.Add(200 * time.Millisecond))
		equal(t, "when none reports", g.cpu("cart"), map[int64]float64{0: all, 30: all - 3})
		oneByOne(t0.Add(2*step), all-1)
		equal(t, "for as long again", g.cpu("cart"), map[int64]float64{0: all, 30: all - 3})
		g.at(t0.Add(2*step + 21*time.Second))
		equal(t, "at last", g.cpu("cart"), map[int64]float64{0: all, 30: all - 3, 60: all - 1})
	})
}

func TestTooLittleCoverageWaitsForTheLateSender(t *testing.T) {
	both(t, func(t *testing.T, g *rig) {
		g.nodes = []string{"n1", "n2", "n3"}
		for _, n := range g.nodes[:2] {
			g.send(t0, nodeSender(n), pod(catalogue.PodCPU, "cart", n, 1))
		}
		for at := t0; at.Before(t0.Add(5 * time.Minute)); at = at.Add(time.Second) {
			g.at(at)
		}
		if len(g.written) != 0 {
			t.Fatalf("written with two of three: %+v", g.written)
		}
		g.send(t0, nodeSender("n3"), pod(catalogue.PodCPU, "cart", "n3", 1))
		g.advance()
		equal(t, "cart", g.cpu("cart"), map[int64]float64{0: 3})
		if !g.written[0].Complete {
			t.Errorf("told %+v", g.written)
		}
	})
}

func TestDeadNodeIsWaitedForOnce(t *testing.T) {
	both(t, func(t *testing.T, g *rig) {
		g.nodes = []string{"n1", "n2", "n3"}
		all := func(at time.Time, nodes ...string) {
			for _, n := range nodes {
				g.send(at, nodeSender(n), pod(catalogue.PodCPU, "cart", n, 1))
			}
			g.at(at.Add(time.Second))
		}
		all(t0, "n1", "n2", "n3")
		var at time.Time
		for i := 1; i <= 60; i++ {
			at = t0.Add(time.Duration(i) * step)
			all(at, "n1", "n2")
			late := at.Sub(t0)
			if n := len(g.written) - 1; late < g.r.opts.MaxOpen-step && n != 0 {
				t.Fatalf("after %v: %d written with two of three nodes", late, n)
			}
		}
		if len(g.written) != 61 {
			t.Fatalf("%d intervals written, want all 61", len(g.written))
		}
		if w := g.written[60]; w.Complete || math.Abs(w.Coverage-2.0/3) > 1e-9 || !w.At.Equal(at) {
			t.Errorf("told %+v, want the newest interval in time, with its coverage", w)
		}
		if got := g.cpu("cart"); got[0] != 3 || got[30] != 2 || got[1800] != 2 {
			t.Errorf("got %v", got)
		}
		// It comes back.
		at = at.Add(step)
		all(at, "n1", "n2", "n3")
		if w := g.written[61]; !w.Complete {
			t.Errorf("told %+v", w)
		}
	})
}

func TestSenderThatMissedTwoIntervalsIsNotWaitedFor(t *testing.T) {
	both(t, func(t *testing.T, g *rig) {
		g.send(t0, "cluster", total(catalogue.ClusterCPUTotal, 4))
		g.send(t0, "all", pod(catalogue.PodCPU, "cart", "cart-1", 1))
		g.advance()
		for i := 1; i <= 4; i++ {
			at := t0.Add(time.Duration(i) * step)
			g.send(at, "all", pod(catalogue.PodCPU, "cart", "cart-1", 1))
			g.at(at)
		}
		// 0 is complete, 1 and 2 wait, 3 and 4 are not delayed.
		equal(t, "cart", g.cpu("cart"), map[int64]float64{0: 1, 90: 1, 120: 1})
	})
}

func TestRestartInMidInterval(t *testing.T) {
	for name, restarts := range map[string]int{"once": 1, "twice": 2} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, true)
			g.nodes = []string{"n1", "n2"}
			for i := range 3 {
				at := t0.Add(time.Duration(i) * step)
				g.now = at
				g.send(at, nodeSender("n1"), pod(catalogue.PodCPU, "cart", "n1", 1))
				g.send(at, nodeSender("n2"), pod(catalogue.PodCPU, "cart", "n2", 2))
				g.advance()
			}
			at := t0.Add(3 * step)
			g.now = at
			g.send(at, nodeSender("n1"), pod(catalogue.PodCPU, "cart", "n1", 1))
			g.advance()
			for range restarts {
				g.restart()
				g.now = g.now.Add(2 * time.Second)
				g.advance()
			}
			if got := len(g.written); got != 3 {
				t.Fatalf("%d written, want the 3 complete ones only", got)
			}
			g.send(at, nodeSender("n1"), pod(catalogue.PodCPU, "cart", "n1", 1)) // its acknowledgement was lost
			g.advance()
			g.send(at, nodeSender("n2"), pod(catalogue.PodCPU, "cart", "n2", 2))
			g.advance()
			equal(t, "cart", g.cpu("cart"), map[int64]float64{0: 3, 30: 3, 60: 3, 90: 3})
			if len(g.written) != 4 || !g.written[3].Complete {
				t.Errorf("told %+v", g.written)
			}
		})
	}
}

func TestReportsBeforeTheStoreWasReadAreKept(t *testing.T) {
	g := newRig(t, true)
	g.nodes = []string{"n1", "n2"}
	g.send(t0, nodeSender("n1"), pod(catalogue.PodCPU, "cart", "n1", 1))
	g.advance()
	if err := g.db.Close(); err != nil {
		t.Fatal(err)
	}
	g.start(false)
	g.r.recovered = false // as between New and Run
	g.send(t0, nodeSender("n2"), pod(catalogue.PodCPU, "cart", "n2", 2))
	g.at(t0.Add(time.Minute))
	if len(g.written) != 0 {
		t.Fatal("written before the store was read")
	}
	if err := g.r.recover(context.Background()); err != nil {
		t.Fatal(err)
	}
	g.advance()
	equal(t, "cart", g.cpu("cart"), map[int64]float64{0: 3})
	if !g.written[0].Complete {
		t.Errorf("told %+v", g.written)
	}
}

func TestGroupThatVanishesGetsAStaleMarker(t *testing.T) {
	both(t, func(t *testing.T, g *rig) {
		g.send(t0, "all", pod(catalogue.PodCPU, "cart", "cart-1", 1), pod(catalogue.PodCPU, "web", "web-1", 2))
		g.advance()
		g.send(t0.Add(step), "all", pod(catalogue.PodCPU, "cart", "cart-1", 1), pod(catalogue.PodCPU, "web", "web-1", math.Float64frombits(value.StaleNaN)))
		g.at(t0.Add(step))
		g.send(t0.Add(2*step), "all", pod(catalogue.PodCPU, "cart", "cart-1", 1))
		g.at(t0.Add(2 * step))
		equal(t, "web", g.cpu("web"), map[int64]float64{0: 2, 30: -1})
		equal(t, "cart", g.cpu("cart"), map[int64]float64{0: 1, 30: 1, 60: 1})
	})
}

func TestGroupThatVanishedOverARestartGetsItsMarker(t *testing.T) {
	g := newRig(t, true)
	g.send(t0, "all", pod(catalogue.PodCPU, "cart", "cart-1", 1), pod(catalogue.PodCPU, "web", "web-1", 2))
	g.advance()
	g.restart()
	g.send(t0.Add(step), "all", pod(catalogue.PodCPU, "cart", "cart-1", 1))
	g.at(t0.Add(step))
	equal(t, "web", g.cpu("web"), map[int64]float64{0: 2, 30: -1})
}

func TestIncompleteIntervalEndsNoGroup(t *testing.T) {
	g := newRig(t, true)
	for n := range 20 {
		g.nodes = append(g.nodes, fmt.Sprint(n))
	}
	send := func(at time.Time, n int) {
		for i := range n {
			g.send(at, nodeSender(fmt.Sprint(i)), pod(catalogue.PodCPU, fmt.Sprint("w", i), fmt.Sprint("p", i), 1))
		}
		g.at(at.Add(11 * time.Second))
	}
	send(t0, 20)
	send(t0.Add(step), 19) // w19's only pod is on the node that is late
	send(t0.Add(2*step), 20)
	equal(t, "w19", g.cpu("w19"), map[int64]float64{0: 1, 60: 1})
}

func TestBacklogCompletesHistory(t *testing.T) {
	both(t, func(t *testing.T, g *rig) {
		// Both nodes were heard before the outage, and are live again.
		g.nodes = []string{"n1", "n2"}
		two := func(at time.Time, backlog bool) {
			for i, n := range g.nodes {
				g.sendEvery(step, at, nodeSender(n), backlog, pod(catalogue.PodCPU, "cart", n, float64(i+1)))
			}
			g.advance()
		}
		two(t0, false)
		g.now = t0.Add(2 * time.Hour)
		two(g.now, false)
		want := map[int64]float64{0: 3, 7200: 3}
		equal(t, "live first", g.cpu("cart"), want)
		// n1 delivers all of its backlog before n2 begins.
		for at := t0.Add(step); at.Before(g.now); at = at.Add(step) {
			g.sendEvery(step, at, nodeSender("n1"), true, pod(catalogue.PodCPU, "cart", "n1", 1))
		}
		g.advance()
		equal(t, "half of the backlog", g.cpu("cart"), want)
		for at := t0.Add(step); at.Before(g.now); at = at.Add(step) {
			g.sendEvery(step, at, nodeSender("n2"), true, pod(catalogue.PodCPU, "cart", "n2", 2))
			want[int64(at.Sub(t0).Seconds())] = 3
		}
		g.at(g.now.Add(heardFor))
		g.settle()
		equal(t, "all of it", g.cpu("cart"), want)
		for _, w := range g.written {
			if !w.Complete {
				t.Errorf("told %+v", w)
			}
		}
	})
}

func TestIntervalWithNothingInItIsDroppedAndCounted(t *testing.T) {
	g := newRig(t, true)
	g.nodes = []string{"n1", "n2"}
	g.send(t0, nodeSender("n1"))
	g.at(t0.Add(g.r.opts.MaxOpen))
	if n := testutil.ToFloat64(g.r.metrics.dropped.WithLabelValues(reasonEmpty)); n != 1 || len(g.written) != 0 {
		t.Errorf("%v dropped, told %+v", n, g.written)
	}
	g.restart() // it stays closed
	g.at(t0.Add(2 * g.r.opts.MaxOpen))
	if n := testutil.ToFloat64(g.r.metrics.dropped.WithLabelValues(reasonEmpty)); n != 0 || g.r.openIntervals() != 0 {
		t.Errorf("%v dropped again, %v open", n, g.r.openIntervals())
	}
}

func TestFailedWriteIsTriedAgain(t *testing.T) {
	both(t, func(t *testing.T, g *rig) {
		g.fail = errors.New("disk full")
		g.send(t0, "all", pod(catalogue.PodCPU, "cart", "cart-1", 1))
		g.advance()
		g.at(t0.Add(time.Second))
		if len(g.written) != 0 || testutil.ToFloat64(g.r.metrics.failures) != 1 {
			t.Fatalf("told %+v, %v failures", g.written, testutil.ToFloat64(g.r.metrics.failures))
		}
		g.fail = nil
		g.at(t0.Add(retryAfter))
		equal(t, "cart", g.cpu("cart"), map[int64]float64{0: 1})
	})
}

func TestSlowestSenderSetsThePace(t *testing.T) {
	both(t, func(t *testing.T, g *rig) {
		const slow = 2 * step
		one, two := pod(catalogue.PodCPU, "cart", "n1", 1), pod(catalogue.PodCPU, "cart", "n2", 2)
		for at := t0; !at.After(t0.Add(6 * step)); at = at.Add(step) {
			g.now = at
			g.sendEvery(step, at, "node/n1", false, one)
			if at.UnixMilli()%slow.Milliseconds() == 0 && at.After(t0.Add(step)) {
				g.sendEvery(slow, at, "node/n2", false, two)
			}
			g.advance()
		}
		// n2 appears at 60 s: from then on only whole minutes are summed.
		got := g.cpu("cart")
		if got[60] != 3 && got[60] != 1 {
			t.Errorf("60: %v", got)
		}
		delete(got, 60)
		equal(t, "cart", got, map[int64]float64{0: 1, 30: 1, 120: 3, 180: 3})
	})
}

// What a series remembers of one grid is taken for nothing of the next.
func TestAnotherGridIsRememberedAnew(t *testing.T) {
	var live recent
	var late points
	for at := int64(10_000); at <= 70_000; at += 10_000 {
		live.mark(at, 10_000)
		late.mark(at, 10_000)
	}
	for _, at := range []int64{180_000, 120_000, 240_000} {
		if fresh := live.mark(at, 60_000); !fresh {
			t.Errorf("live: the point %d is left out", at)
		}
		if fresh, sure := late.mark(at, 60_000); !fresh || !sure {
			t.Errorf("of the past: the point %d is left out", at)
		}
		if fresh := live.mark(at, 60_000); fresh {
			t.Errorf("live: the point %d counts twice", at)
		}
		if fresh, _ := late.mark(at, 60_000); fresh {
			t.Errorf("of the past: the point %d counts twice", at)
		}
	}
}

func TestSumDoesNotDependOnOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	values := make([]float64, 1000)
	for i := range values {
		values[i] = math.Exp(rng.NormFloat64()*10) * float64(1-2*rng.IntN(2))
	}
	var want, exact float64
	for round := range 20 {
		rng.Shuffle(len(values), func(i, j int) { values[i], values[j] = values[j], values[i] })
		var s sum
		exact = 0
		for _, v := range values {
			s.add(v)
			exact += v
		}
		if round == 0 {
			want = s.value()
		}
		if math.Float64bits(s.value()) != math.Float64bits(want) {
			t.Fatalf("round %d: %v, before %v", round, s.value(), want)
		}
	}
	if math.Abs(want-exact) > 1e-9*math.Abs(exact)+1e-6 {
		t.Errorf("got %v, plain sum %v", want, exact)
	}
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), 1 << 60} {
		if (&sum{}).add(v) {
			t.Errorf("%v was summed", v)
		}
	}
}

func TestTappedAndReadSumsAreTheSame(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	ps := make([]point, 300)
	for i := range ps {
		ps[i] = pod(catalogue.PodCPU, fmt.Sprint("w", i%7), fmt.Sprint("p", i), rng.Float64()*4)
	}
	got := map[bool]map[string]map[int64]float64{}
	for _, tapped := range []bool{true, false} {
		g := newRig(t, tapped)
		mine := slices.Clone(ps)
		rng.Shuffle(len(mine), func(i, j int) { mine[i], mine[j] = mine[j], mine[i] })
		g.send(t0, "all", mine...)
		g.advance()
		if n := testutil.ToFloat64(g.r.metrics.rebuilt); (n == 0) != tapped {
			t.Errorf("tapped %v: %v read from the store", tapped, n)
		}
		got[tapped] = map[string]map[int64]float64{}
		for i := range 7 {
			w := fmt.Sprint("w", i)
			got[tapped][w] = g.cpu(w)
		}
	}
	for w, want := range got[true] {
		equal(t, w, got[false][w], want)
	}
}

func TestSeriesThatIsForgottenLeavesNoGroup(t *testing.T) {
	g := newRig(t, true)
	p := pod(catalogue.PodCPU, "job-1", "p", 1)
	g.send(t0, "all", p)
	g.advance()
	g.r.Release(test, g.feeds[p.lset.String()])
	for i := 1; i < 80; i++ {
		g.send(t0.Add(time.Duration(i)*step), "all")
		g.at(t0.Add(time.Duration(i) * step))
	}
	n := 0
	for _, groups := range g.r.cluster(test).groups {
		for key := range groups {
			if strings.Contains(key, "job-1") {
				n++
			}
		}
	}
	if n != 0 {
		t.Errorf("%d groups of a workload that is gone", n)
	}
}

// A series that was forgotten meanwhile does not know any more what it has added.
func TestASeriesThatWasForgottenAddsNothingTwice(t *testing.T) {
	g := newRig(t, true)
	g.nodes = []string{"n0", "n1"}
	p := pod(catalogue.PodCPU, "cart", "n0", 4)
	for i := range 2 {
		g.send(t0.Add(time.Duration(i)*step), nodeSender("n0"), p)
	}
	at := t0.Add(step)
	if g.r.cluster(test).open[at.UnixMilli()].sums == nil {
		t.Fatal("it is not summed as it passes")
	}
	g.r.Release(test, g.feeds[p.lset.String()])
	delete(g.feeds, p.lset.String())
	g.send(at, nodeSender("n0"), p)
	for i := range 3 {
		g.send(t0.Add(time.Duration(i)*step), nodeSender("n1"), pod(catalogue.PodCPU, "cart", "n1", 1))
	}
	g.send(t0.Add(2*step), nodeSender("n0"))
	g.advance()
	equal(t, "cart", g.cpu("cart"), map[int64]float64{0: 5, step.Milliseconds() / 1000: 5, 2 * step.Milliseconds() / 1000: 1})
}

func TestRunWritesAndEnds(t *testing.T) {
	g := newRig(t, true)
	told := make(chan Written, 1)
	r, err := New(Options{Store: g.db, Written: func(w Written) { told <- w }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	at := time.Now().Truncate(step)
	p := pod(catalogue.PodCPU, "cart", "cart-1", 1)
	f := r.Feed(test, p.lset)
	g.store(at, "all", step, true, p)
	r.Add(test, step, []Sample{{f, at.UnixMilli(), 1}})
	r.Report(Report{Cluster: test, Sender: "all", Through: at, Interval: step})
	if w := <-told; !w.At.Equal(at) || !w.Complete {
		t.Errorf("told %+v", w)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestDeclarationsThatMakeNoSenseAreRefused(t *testing.T) {
	for name, ms := range map[string][]catalogue.Metric{
		"unknown metric": {{Name: "a", Level: catalogue.Cluster, Sum: &catalogue.Summed{Of: "b"}}},
		"sum of a sum": {
			{Name: "a", Level: catalogue.Workload, Sum: &catalogue.Summed{Of: "p"}}, {Name: "p", Level: catalogue.Pod},
			{Name: "c", Level: catalogue.Cluster, Sum: &catalogue.Summed{Of: "a"}},
		},
		"no level": {{Name: "a", Sum: &catalogue.Summed{Of: "p"}}, {Name: "p", Level: catalogue.Pod}},
	} {
		if _, err := New(Options{Store: failing{}, Metrics: ms}); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := New(Options{Coverage: 2}); err == nil {
		t.Error("a coverage of 2, and no store: taken")
	}
}

func TestSelfMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	newMetrics(reg, func() float64 { return 0 })
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
}

// BenchmarkTap counts what the sums cost a passing sample: 15,000 workloads of
// ten pods.
func BenchmarkTap(b *testing.B) {
	g := newRig(b, true)
	const pods = 150_000
	samples := make([]Sample, pods)
	for i := range samples {
		p := pod(catalogue.PodCPU, fmt.Sprint("w", i/10), fmt.Sprint("p", i), 0)
		samples[i] = Sample{Feed: g.r.Feed(test, p.lset), V: float64(i) * 0.001}
	}
	b.ResetTimer()
	b.ReportAllocs()
	n := 0
	for round := 0; n < b.N; round++ {
		at := t0.Add(time.Duration(round) * step).UnixMilli()
		for i := range samples {
			samples[i].At = at
		}
		for off := 0; off < pods && n < b.N; off += 1000 { // as requests come
			g.r.Add(test, step, samples[off:off+1000])
			n += 1000
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/sample")
}

// cpuTime is what the process has used.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkSums counts what an interval of 150,000 pods costs both ways: summed
// as its samples pass, and read back from the store. make bench records it.
func BenchmarkSums(b *testing.B) {
	for _, tapped := range []bool{true, false} {
		b.Run(map[bool]string{true: "passing", false: "read"}[tapped], func(b *testing.B) {
			const pods = 150_000
			g := newRig(b, tapped)
			ps := make([]point, pods)
			for i := range ps {
				ps[i] = pod(catalogue.PodCPU, fmt.Sprint("w", i/10), fmt.Sprint("p", i), float64(i)*0.001)
			}
			var used time.Duration
			for n := range b.N {
				at := t0.Add(time.Duration(n) * step)
				g.now = at
				taken := g.store(at, "all", step, true, ps...)
				if !tapped { // one that was not there when they passed
					if err := g.db.Close(); err != nil {
						b.Fatal(err)
					}
					g.start(false)
				}
				began := cpuTime(b)
				if tapped {
					for off := 0; off < len(taken); off += 1000 { // as requests come
						g.r.Add(test, step, taken[off:min(off+1000, len(taken))])
					}
				}
				g.r.Report(Report{Cluster: test, Sender: "all", Through: at, Interval: step})
				g.advance()
				used += cpuTime(b) - began
			}
			if want := b.N; len(g.written) != want {
				b.Fatalf("%d intervals written, want %d", len(g.written), want)
			}
			b.ReportMetric(float64(used.Nanoseconds())/float64(b.N*pods), "cpu-ns/sample")
		})
	}
}

// taking is a store that keeps nothing of what is written.
type taking struct{ *metrics.DB }

type takingAppender struct{ storage.Appender }

func (s taking) Appender(context.Context) storage.Appender { return takingAppender{} }

func (takingAppender) Append(storage.SeriesRef, labels.Labels, int64, float64) (storage.SeriesRef, error) {
	return 1, nil
}
func (takingAppender) Commit() error { return nil }

// BenchmarkLargeCluster counts what the sums of 50,000 pods hold in memory, and what an
// interval of them allocates, the store's part aside: of 10,000 workloads, all that is
// summed of pods.
func BenchmarkLargeCluster(b *testing.B) {
	const pods = 50_000
	g := newRig(b, true)
	g.r.opts.Store = taking{g.db}
	var points []point
	for metric := range g.r.plan.readBy {
		if strings.HasPrefix(metric, "k8s_pod_") {
			g.r.opts.Newest = append(g.r.opts.Newest, metric)
			for i := range pods {
				points = append(points, pod(metric, fmt.Sprint("w", i/5), fmt.Sprint("p", i), float64(i)*0.001))
			}
		}
	}
	samples := make([]Sample, len(points))
	memory := func() (m runtime.MemStats) {
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m
	}
	interval := func(n int) {
		g.now = t0.Add(time.Duration(n) * step)
		for i := range samples {
			samples[i].At = g.now.UnixMilli()
		}
		for off := 0; off < len(samples); off += 1000 { // as requests come
			g.r.Add(test, step, samples[off:min(off+1000, len(samples))])
		}
		g.r.Report(Report{Cluster: test, Sender: "all", Through: g.now, Interval: step})
		g.advance()
	}
	before := memory()
	for i, p := range points {
		samples[i] = Sample{Feed: g.r.Feed(test, p.lset), V: p.v}
	}
	interval(0)
	held := memory()
	began := cpuTime(b)
	for n := range b.N {
		interval(n + 1)
	}
	used := cpuTime(b) - began
	if len(g.written) != b.N+1 {
		b.Fatalf("%d intervals written, want %d", len(g.written), b.N+1)
	}
	b.ReportMetric(float64(held.HeapAlloc-before.HeapAlloc)/float64(len(samples)), "B-held/series")
	b.ReportMetric(float64(memory().TotalAlloc-held.TotalAlloc)/float64(b.N), "B/interval")
	b.ReportMetric(float64(used.Nanoseconds())/float64(b.N*len(samples)), "cpu-ns/sample")
}

// A site that was away longer than MaxOpen is back, one of its nodes much later
// than the others: nothing is written without it.
func TestHistoryWaitsForTheNodesThatAreStillAway(t *testing.T) {
	both(t, func(t *testing.T, g *rig) {
		g.nodes = []string{"n1", "n2", "n3"}
		send := func(at time.Time, late bool, nodes ...string) {
			for _, n := range nodes {
				g.sendEvery(step, at, nodeSender(n), late, pod(catalogue.PodCPU, "cart", n, 1))
			}
		}
		send(t0, false, "n1", "n2", "n3")
		g.advance()
		want := map[int64]float64{0: 3}
		back := t0.Add(3 * time.Hour)
		for i := 1; i <= 20; i++ {
			g.now = back
			send(t0.Add(time.Duration(i)*step), true, "n1", "n2")
			want[int64(i*30)] = 3
		}
		for at := back; at.Before(back.Add(2 * time.Hour)); at = at.Add(time.Minute) {
			g.at(at)
		}
		if len(g.written) != 1 {
			t.Fatalf("%d written before the third node was back", len(g.written))
		}
		for i := 1; i <= 20; i++ {
			send(t0.Add(time.Duration(i)*step), true, "n3")
		}
		g.at(g.now.Add(time.Minute))
		equal(t, "cart", g.cpu("cart"), want)
		// Another gap, and it never comes: what is there is written in the end.
		last := g.now.Truncate(step)
		g.now = last.Add(time.Hour)
		send(last, true, "n1", "n2")
		g.at(g.now.Add(g.r.opts.MaxLate / 2))
		n := len(g.written)
		g.at(g.now.Add(g.r.opts.MaxLate / 2))
		if len(g.written) != n+1 || g.written[n].Complete {
			t.Errorf("%d written, then %+v", n, g.written[n:])
		}
	})
}

// A site that was cut off comes back one collector at a time: its objects' first,
// then one node after the other. No interval is written meanwhile without them.
func TestASiteThatIsBackIsWaitedFor(t *testing.T) {
	both(t, func(t *testing.T, g *rig) {
		g.nodes = []string{"n1", "n2", "n3"}
		node := func(at time.Time, n string) {
			g.send(at, nodeSender(n), pod(catalogue.PodCPU, "cart", n, 1))
		}
		g.send(t0, "cluster", total(catalogue.ClusterCPUTotal, 4))
		for _, n := range g.nodes {
			node(t0, n)
		}
		g.at(t0.Add(time.Second))
		back := t0.Add(3 * time.Hour)
		g.now = back
		g.send(back, "cluster", total(catalogue.ClusterCPUTotal, 4))
		for i, n := range g.nodes {
			g.at(back.Add(time.Duration(i+1) * 9 * time.Second))
			if len(g.written) != 1 {
				t.Fatalf("written with %d of three nodes: %+v", i, g.written[1:])
			}
			node(back, n)
		}
		g.at(back.Add(40 * time.Second))
		if len(g.written) != 2 || !g.written[1].Complete {
			t.Fatalf("told %+v", g.written[1:])
		}
		equal(t, "cart", g.cpu("cart"), map[int64]float64{0: 3, int64(back.Sub(t0) / time.Second): 3})
	})
}

// Senders of a site that is back are minutes apart: who is behind the others is in the
// sums, too.
func TestTheSlowestOfASiteThatIsBackIsWaitedFor(t *testing.T) {
	both(t, func(t *testing.T, g *rig) {
		for n := range 20 {
			g.nodes = append(g.nodes, fmt.Sprint(n))
		}
		send := func(at time.Time, late bool, from, to int) {
			for i := from; i < to; i++ {
				g.sendEvery(step, at, nodeSender(fmt.Sprint(i)), late, pod(catalogue.PodCPU, "cart", fmt.Sprint("cart-", i), 1))
			}
		}
		send(t0, false, 0, 20)
		g.advance()
		back := t0.Add(3 * time.Hour)
		g.now = back
		send(back, false, 0, 20) // the present is told of by all
		send(t0.Add(step), true, 0, 19)
		send(t0.Add(2*step), true, 0, 19)
		g.at(back.Add(90 * time.Second))
		send(t0.Add(step), true, 19, 20)
		g.advance()
		g.at(back.Add(119 * time.Second))
		want := map[int64]float64{0: 20, 30: 20, int64(back.Sub(t0) / time.Second): 20}
		equal(t, "when the slowest was there", g.cpu("cart"), want)
		g.at(back.Add(121 * time.Second)) // it does not tell of the other interval
		g.settle()
		want[60] = 19
		equal(t, "when nobody tells more", g.cpu("cart"), want)
	})
}

// A sender that says nothing of itself: what is summed as it passes is what
// reading the store sums, also when its samples passed before anybody reported.
func TestSenderWithoutAWordIsSummedTheSameWay(t *testing.T) {
	var first map[int64]float64
	both(t, func(t *testing.T, g *rig) {
		mute := func(at time.Time, v float64) {
			p := pod(catalogue.PodCPU, "cart", "mute", v)
			g.r.Add(test, 0, g.store(at, "", 0, false, p))
		}
		mute(t0, 1) // before any sender's interval is known
		for i := range 4 {
			at := t0.Add(time.Duration(i) * step)
			mute(at, 1)                      // the first one for a second time
			mute(at.Add(7*time.Second), 100) // off the grid: in no sum
			g.send(at, "all", pod(catalogue.PodCPU, "cart", "cart-1", 2))
			g.at(at.Add(time.Second))
		}
		got := g.cpu("cart")
		equal(t, "cart", got, map[int64]float64{0: 3, 30: 3, 60: 3, 90: 3})
		if first == nil {
			first = got
		} else if fmt.Sprint(first) != fmt.Sprint(got) {
			t.Errorf("%v and %v", first, got)
		}
	})
}

func TestNobodyReportsNothingIsWritten(t *testing.T) {
	g := newRig(t, true)
	g.r.Add(test, 0, g.store(t0, "", 0, false, pod(catalogue.PodCPU, "cart", "mute", 1)))
	g.at(t0.Add(time.Hour))
	if n := testutil.ToFloat64(g.r.metrics.skipped.WithLabelValues(reasonNoInterval)); n != 1 || len(g.written) != 0 {
		t.Errorf("%v counted, %d written", n, len(g.written))
	}
}

func TestNothingIsWrittenOfADeletedCluster(t *testing.T) {
	both(t, func(t *testing.T, g *rig) {
		g.nodes = []string{"n1", "n2"}
		cart := pod(catalogue.PodCPU, "cart", "cart-1", 0.5)
		g.send(t0, "node/n1", cart)
		g.send(t0, "node/n2")
		g.advance()
		g.send(t0.Add(step), "node/n1", cart) // and waits for the other
		g.advance()
		equal(t, "before", g.cpu("cart"), map[int64]float64{0: 0.5})
		if err := errors.Join(g.r.DeleteCluster(context.Background(), test), g.db.DeleteCluster(context.Background(), test)); err != nil {
			t.Fatal(err)
		}
		g.nodes = nil
		g.at(t0.Add(time.Hour))
		equal(t, "deleted", g.cpu("cart"), nil)
		equal(t, "coverage", g.get(CoverageRatio, "", ""), nil)
		if n := testutil.ToFloat64(g.r.metrics.dropped.WithLabelValues(reasonDeleted)); n != 1 {
			t.Errorf("%v intervals dropped", n)
		}
		// Another one under the same id.
		g.send(t0.Add(time.Hour), "node/n1", pod(catalogue.PodCPU, "web", "web-1", 2))
		g.advance()
		equal(t, "cart, anew", g.cpu("cart"), nil)
		equal(t, "web", g.cpu("web"), map[int64]float64{3600: 2})
		if err := g.r.DeleteCluster(context.Background(), "other"); err != nil {
			t.Error(err)
		}
	})
}
