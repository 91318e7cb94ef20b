package simulate

import (
	"context"
	"log/slog"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"go.uber.org/goleak"

	"github.com/crowsnest-dev/crowsnest/collector/compute"
	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/bubbletest"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var t0 = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func at(t time.Time) func() time.Time { return func() time.Time { return t } }

func TestOptionsNameEveryWrongValue(t *testing.T) {
	_, err := New(Options{Nodes: -1, Churn: 2, Speed: math.NaN()})
	if err == nil || !strings.Contains(err.Error(), "nodes") || !strings.Contains(err.Error(), "churn") || !strings.Contains(err.Error(), "speed") {
		t.Errorf("got %v", err)
	}
}

func TestFleetHasTheSizeThatWasAskedFor(t *testing.T) {
	for _, o := range []Options{{}, {Nodes: 1, PodsPerNode: 1}, {Nodes: 3, PodsPerNode: 7, ContainersPerPod: 2}, {Nodes: 50, PodsPerNode: 20}} {
		o.Now = at(t0)
		f, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		always := 0
		for _, s := range f.slots {
			if s.length == 0 {
				always++
			}
		}
		if want := f.opts.Nodes * f.opts.PodsPerNode; always != want {
			t.Errorf("%d nodes × %d: %d slots, want %d", f.opts.Nodes, f.opts.PodsPerNode, always, want)
		}
		s := f.Snapshot()
		if len(s.Nodes) != f.opts.Nodes || len(s.Pods) < always*9/10 {
			t.Errorf("%d nodes, %d pods of %d", len(s.Nodes), len(s.Pods), always)
		}
		for _, n := range f.nodes {
			for _, sl := range n.slots {
				if sl.w.cpuRequest > n.cores {
					t.Errorf("%s asks for %v cores of %v", sl.w.name, sl.w.cpuRequest, n.cores)
				}
			}
		}
	}
}

// What no node has room for must not dwarf what the fleet requests.
func TestWhatCannotBePlacedIsPlausible(t *testing.T) {
	for _, nodes := range []int{1, 10, 50} {
		f, err := New(Options{Nodes: nodes, Now: at(t0)})
		if err != nil {
			t.Fatal(err)
		}
		var requested, allocatable object.Resources
		pending := 0
		s := f.Snapshot()
		for _, n := range s.Nodes {
			allocatable.CPUCores += n.Allocatable.CPUCores
			allocatable.MemoryBytes += n.Allocatable.MemoryBytes
		}
		for _, p := range s.Pods {
			for _, c := range p.Containers {
				requested.CPUCores += c.Requests.CPUCores
				requested.MemoryBytes += c.Requests.MemoryBytes
			}
			if p.Name == "train-embeddings" {
				pending++
				if got := p.Containers[0].Requests.MemoryBytes; p.Node != "" || got <= f.nodes[0].memory || got > 2*f.nodes[0].memory {
					t.Errorf("%d nodes of %v bytes: it asks for %v, and is on %q", nodes, f.nodes[0].memory, got, p.Node)
				}
			}
		}
		if nodes > 1 && (requested.CPUCores > allocatable.CPUCores || requested.MemoryBytes > allocatable.MemoryBytes) {
			t.Errorf("%d nodes: %+v requested of %+v", nodes, requested, allocatable)
		}
		if kind, version := f.ClusterFacts(); pending != 1 || kind == "" || version == "" {
			t.Errorf("%d nodes: %d such pods, kind %q, version %q", nodes, pending, kind, version)
		}
	}
}

// The state at a time is the same for a fleet that was there all along and for
// one that begins then; so are the counters.
func TestFleetIsAFunctionOfTheTime(t *testing.T) {
	o := Options{Churn: 0.01, Seed: 7, Now: at(t0)}
	live, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	for d := time.Duration(0); d <= 8*time.Hour; d += 7 * time.Second {
		live.Advance(t0.Add(d))
	}
	end := t0.Add(8 * time.Hour)
	live.Advance(end)
	o.Now = at(end)
	fresh, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	a, b := live.Snapshot(), fresh.Snapshot()
	for _, uid := range slices.Sorted(maps.Keys(b.Pods)) {
		if !reflect.DeepEqual(a.Pods[uid], b.Pods[uid]) {
			t.Fatalf("pod differs:\nlive  %+v\nfresh %+v", a.Pods[uid], b.Pods[uid])
		}
	}
	if len(a.Pods) != len(b.Pods) {
		for uid, p := range a.Pods {
			if b.Pods[uid] == nil {
				t.Logf("only in the live one: %+v", p)
			}
		}
		t.Fatalf("%d pods live, %d fresh", len(a.Pods), len(b.Pods))
	}
	if !reflect.DeepEqual(a.Workloads, b.Workloads) {
		for k, w := range a.Workloads {
			if !reflect.DeepEqual(w, b.Workloads[k]) {
				t.Errorf("workload differs:\nlive  %+v\nfresh %+v", w, b.Workloads[k])
			}
		}
	}
	x, y := (*readings)(live).Read(context.Background(), end, a), (*readings)(fresh).Read(context.Background(), end, b)
	byUID := map[string]float64{}
	for _, s := range x {
		for _, c := range s.Containers {
			byUID[c.ID] = c.CPUSeconds.V
		}
	}
	for i, s := range y {
		for _, c := range s.Containers {
			if v, ok := byUID[c.ID]; !ok || v != c.CPUSeconds.V {
				t.Fatalf("%s/%s: %v CPU seconds live, %v fresh", c.Pod, c.Name, v, c.CPUSeconds.V)
			}
		}
		if x[i].Host != nil && x[i].Host.CPUBusySeconds != s.Host.CPUBusySeconds {
			t.Errorf("node %s: %v busy live, %v fresh", s.Node, x[i].Host.CPUBusySeconds, s.Host.CPUBusySeconds)
		}
	}
}

func TestCountersOnlyRiseAndStayWithinTheirLimits(t *testing.T) {
	o := Options{Churn: 0.005, ContainersPerPod: 1.5, Now: at(t0)}
	f, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	type last struct {
		cpu, read, write float64
		at               time.Duration
	}
	before := map[string]last{}
	beforePods := map[string][2]float64{}
	for d := time.Duration(0); d < 6*time.Hour; d += 30 * time.Second {
		f.Advance(t0.Add(d))
		now := f.Snapshot()
		for _, s := range (*readings)(f).Read(context.Background(), t0.Add(d), now) {
			for _, c := range s.Containers {
				p, ok := before[c.ID]
				v := last{c.CPUSeconds.V, c.FSReadBytes.V, c.FSWriteBytes.V, d}
				if ok && (v.cpu < p.cpu || v.read < p.read || v.write < p.write) {
					t.Fatalf("%s/%s: a counter fell: %+v to %+v", c.Pod, c.Name, p, v)
				}
				pod := now.Pods[c.PodUID]
				if pod == nil {
					t.Fatalf("%s is measured and does not exist", c.Pod)
				}
				i := slices.IndexFunc(pod.Containers, func(o object.Container) bool { return o.Name == c.Name })
				oc := pod.Containers[i]
				if oc.State != "running" || oc.ID != c.ID {
					t.Fatalf("%s/%s is measured and %s, id %s, %s", c.Pod, c.Name, oc.State, oc.ID, c.ID)
				}
				if used := (v.cpu - p.cpu) / (d - p.at).Seconds(); ok && oc.Limits.HasCPU && used > oc.Limits.CPUCores*1.05 {
					t.Errorf("%s/%s uses %.3f cores of %.3f", c.Pod, c.Name, used, oc.Limits.CPUCores)
				}
				if m := c.WorkingSetBytes.V; m <= 0 || oc.Limits.HasMemory && m > oc.Limits.MemoryBytes || math.Mod(m, 4096) != 0 {
					t.Errorf("%s/%s uses %v bytes of %v", c.Pod, c.Name, m, oc.Limits.MemoryBytes)
				}
				before[c.ID] = v
			}
			for _, p := range s.Pods {
				if pod := now.Pods[p.UID]; pod.HostNetwork == p.ReceiveBytes.OK() {
					t.Errorf("%s: hostNetwork %v, network measured %v", p.Name, pod.HostNetwork, p.ReceiveBytes.OK())
				}
				was := beforePods[p.UID]
				if p.ReceiveBytes.V < was[0] || p.TransmitBytes.V < was[1] {
					t.Fatalf("%s: network fell", p.Name)
				}
				beforePods[p.UID] = [2]float64{p.ReceiveBytes.V, p.TransmitBytes.V}
			}
		}
	}
}

// Whoever hears of every change knows the state; and a fleet shows what a real
// one shows.
func TestChangesAndVariety(t *testing.T) {
	f, err := New(Options{Churn: 0.002, Now: at(t0)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	pods := maps.Clone(f.Snapshot().Pods)
	workloads := maps.Clone(f.Snapshot().Workloads)
	seen := map[string]int{}
	f.Changes(ctx, func(c state.Change) {
		switch o := c.Now.(type) {
		case *object.Pod:
			if b, _ := c.Before.(*object.Pod); b != pods[o.UID] {
				t.Errorf("%s: the change begins elsewhere", o.Name)
			}
			pods[o.UID] = o
		case *object.Workload:
			workloads[o.UID] = o
		case nil:
			if b, ok := c.Before.(*object.Pod); ok {
				delete(pods, b.UID)
				seen["deleted"]++
			}
		}
	})
	for d := time.Duration(0); d < 30*time.Hour; d += 5 * time.Second {
		f.Advance(t0.Add(d))
		if int(d.Seconds())%60 != 0 {
			continue
		}
		s := f.Snapshot()
		if !maps.Equal(s.Pods, pods) || !maps.Equal(s.Workloads, workloads) {
			t.Fatal("the changes do not lead to the state")
		}
		for _, p := range s.Pods {
			seen[p.Phase]++
			seen[p.Reason]++
			if p.Terminating {
				seen["terminating"]++
			}
			if p.Phase == object.PhaseRunning && !p.Ready && !p.Terminating {
				seen["not ready"]++
			}
			for _, c := range p.Containers {
				if c.Last != nil {
					seen["last "+c.Last.Reason]++
				}
			}
			if got := f.state.Nodes[p.Node]; p.Node != "" && got == nil {
				t.Errorf("%s is on %s, which does not exist", p.Name, p.Node)
			}
		}
		for _, w := range s.Workloads {
			if w.Ready > w.Desired || w.Abnormal < 0 || w.Abnormal > w.Desired+1 {
				t.Errorf("%s/%s: %d ready of %d, %d abnormal", w.Namespace, w.Name, w.Ready, w.Desired, w.Abnormal)
			}
			if w.Abnormal > 0 {
				seen["abnormal"]++
			}
			if w.Reason == "RollingOut" {
				seen["rolling out"]++
			}
		}
	}
	for _, what := range []string{object.PhasePending, object.PhaseRunning, object.PhaseSucceeded, object.PhaseFailed, "CrashLoopBackOff", "Unschedulable", "terminating", "not ready",
		"last OOMKilled", "last Error", "abnormal", "rolling out", "deleted"} {
		if seen[what] == 0 {
			t.Errorf("in 30 hours there is no %q; there is %v", what, seen)
		}
	}
}

func TestBackfillWritesSamplesAndRollups(t *testing.T) {
	dir := t.TempDir()
	o := Options{Nodes: 3, PodsPerNode: 12, Cluster: "sim-1"}
	from, to := t0.Add(-30*time.Hour+7*time.Minute), t0.Add(13*time.Minute)
	if err := Backfill(context.Background(), o, dir, from, to); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "wal"), 0o755); err != nil { // the reader wants one
		t.Fatal(err)
	}
	db, err := tsdb.OpenDBReadOnly(dir, t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	blocks, err := db.Blocks()
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(blocks, func(a, b tsdb.BlockReader) int { return int(a.Meta().MinTime - b.Meta().MinTime) })
	for i, b := range blocks {
		if i > 0 && b.Meta().MinTime < blocks[i-1].Meta().MaxTime {
			t.Errorf("block %d overlaps the one before", i)
		}
	}
	if first, last := blocks[0].Meta().MinTime, blocks[len(blocks)-1].Meta().MaxTime; first < from.UnixMilli() || first > from.Add(5*time.Minute).UnixMilli() || last > to.UnixMilli() || last < to.Add(-time.Minute).UnixMilli() {
		t.Errorf("blocks are of %v to %v", time.UnixMilli(first).UTC(), time.UnixMilli(last).UTC())
	}
	q, err := db.Querier(from.UnixMilli(), to.UnixMilli())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = q.Close() }()
	values := func(metric string) map[string]map[int64]float64 {
		out := map[string]map[int64]float64{}
		set := q.Select(context.Background(), true, nil, labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, metric), labels.MustNewMatcher(labels.MatchEqual, "cluster", "sim-1"))
		for set.Next() {
			s := set.At()
			m := map[int64]float64{}
			for it := s.Iterator(nil); it.Next() != chunkenc.ValNone; {
				if at, v := it.At(); !value.IsStaleNaN(v) {
					m[at] = v
				}
			}
			out[s.Labels().String()] = m
		}
		if set.Err() != nil {
			t.Fatal(set.Err())
		}
		return out
	}
	for _, m := range catalogue.All() {
		if len(values(m.Name)) == 0 && m.Core {
			t.Errorf("%s has no series", m.Name)
		}
	}
	// The rollups are the sums of their parts.
	sums := map[int64]float64{}
	for _, m := range values(catalogue.PodCPU) {
		for at, v := range m {
			sums[at] += v
		}
	}
	workloads := map[int64]float64{}
	for l, m := range values(catalogue.WorkloadCPU) {
		if strings.Contains(l, "pod=") || !strings.Contains(l, "workload_type=") {
			t.Errorf("series %s", l)
		}
		for at, v := range m {
			workloads[at] += v
		}
	}
	total := values(catalogue.ClusterCPUTotal)
	for l, m := range values(catalogue.ClusterCPUUsedPercent) {
		if l != `{__name__="k8s_cluster_rate_cpu_core_used_cluster", cluster="sim-1"}` {
			t.Errorf("series %s", l)
		}
		if len(m) < 6*120 {
			t.Errorf("%d values in 30 h", len(m))
		}
		for at, v := range m {
			for _, capacity := range total {
				if want := 100 * sums[at] / capacity[at]; math.Abs(v-want) > 1e-9*want {
					t.Fatalf("at %d the cluster uses %v %%, its pods sum up to %v", at, v, want)
				}
			}
			if math.Abs(workloads[at]-sums[at]) > 1e-9*sums[at] {
				t.Fatalf("at %d workloads use %v cores, pods %v", at, workloads[at], sums[at])
			}
			if v < 3 || v > 80 {
				t.Errorf("the cluster uses %v %%", v)
			}
		}
	}
}

// store takes each batch once.
type store struct {
	t     *testing.T
	mu    sync.Mutex
	ids   map[string]bool
	lines map[string]int
	level map[string]int
	multi int
	days  map[int64]bool
	event map[string]int
	times []int64
}

func (s *store) Send(_ context.Context, b *wire.LogBatch) error {
	if err := b.Validate(); err != nil {
		s.t.Errorf("batch %s: %v", b.ID, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ids[b.ID] {
		s.t.Errorf("batch %s comes twice", b.ID)
	}
	s.ids[b.ID] = true
	for _, g := range b.Groups {
		for _, l := range g.Lines {
			s.times = append(s.times, l.Time)
			s.days[l.Time/int64(24*time.Hour)] = true
			if g.Stream.Stream == wire.StreamEvents {
				s.event[l.Fields.Get("reason")]++
				continue
			}
			s.lines[g.Stream.Workload]++
			s.level[l.Fields.Get("level")]++
			if strings.Contains(l.Message, "\n") {
				s.multi++
			}
		}
	}
	return nil
}

func newStore(t *testing.T) *store {
	return &store{t: t, ids: map[string]bool{}, lines: map[string]int{}, level: map[string]int{}, days: map[int64]bool{}, event: map[string]int{}}
}

func TestHistoryAndLiveLogs(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		dir, s := t.TempDir(), newStore(t)
		start := time.Now().UTC()
		for range 2 { // the second start goes on where the first ended
			f, err := New(Options{Churn: 0.01, Dir: dir})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- f.World().Logs[0].Run(ctx, s) }()
			time.Sleep(5 * time.Minute)
			cancel()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		n := 0
		for _, c := range s.lines {
			n += c
		}
		if n < 60*70*20 || n > 60*70*60 {
			t.Errorf("%d lines in 70 minutes at 40 a second", n)
		}
		slices.Sort(s.times)
		if first, last := time.Unix(0, s.times[0]), time.Unix(0, s.times[len(s.times)-1]); first.Before(start.Add(-time.Hour-time.Minute)) || last.After(time.Now()) || last.Before(time.Now().Add(-10*time.Second)) {
			t.Errorf("lines from %v to %v", first, last)
		}
		gap := int64(0)
		for i := range s.times[1:] {
			gap = max(gap, s.times[i+1]-s.times[i])
		}
		if gap > int64(5*time.Second) {
			t.Errorf("a gap of %v", time.Duration(gap))
		}
		if s.level["error"] == 0 || s.level["info"] == 0 || s.level["warn"] == 0 || s.multi == 0 || s.lines["cart"] == 0 || s.lines["legacy-sync"] == 0 {
			t.Errorf("levels %v, %d stack traces, lines %v", s.level, s.multi, s.lines)
		}
		for _, r := range []string{"Scheduled", "Started", "Killing", "BackOff"} {
			if s.event[r] == 0 {
				t.Errorf("no event %s in %v", r, s.event)
			}
		}
	})
}

func TestSpeedPassesDaysNotRates(t *testing.T) {
	f, err := New(Options{Speed: 60, Now: at(t0)})
	if err != nil {
		t.Fatal(err)
	}
	c := compute.New(compute.Options{Role: wire.RoleAll, Sender: "all"})
	var low, high float64 = math.Inf(1), 0
	for d := time.Duration(0); d < 24*time.Minute; d += 30 * time.Second { // a simulated day
		f.Advance(t0.Add(d))
		s := f.Snapshot()
		sum := 0.0
		for _, v := range c.Interval(t0.Add(d), (*readings)(f).Read(context.Background(), t0.Add(d), s), s) {
			if v.Metric == catalogue.PodCPU && !v.Stale() {
				sum += v.V
			}
		}
		if d > 0 {
			low, high = min(low, sum), max(high, sum)
		}
	}
	if low < 5 || high > 200 || high < 1.3*low {
		t.Errorf("the fleet uses %v to %v cores within a day", low, high)
	}
}

func BenchmarkInterval1000Pods(b *testing.B) {
	f, err := New(Options{Nodes: 50, PodsPerNode: 20, Churn: DefaultChurn, Now: at(t0)})
	if err != nil {
		b.Fatal(err)
	}
	t := t0
	for b.Loop() {
		t = t.Add(30 * time.Second)
		f.Advance(t)
		(*readings)(f).Read(context.Background(), t, f.Snapshot())
	}
}

func BenchmarkBackfill24h(b *testing.B) {
	for b.Loop() {
		if err := Backfill(context.Background(), Options{Churn: DefaultChurn}, b.TempDir(), t0.Add(-24*time.Hour), t0); err != nil {
			b.Fatal(err)
		}
	}
}
