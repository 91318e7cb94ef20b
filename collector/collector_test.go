package collector

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"go.uber.org/goleak"

	"github.com/crowsnest-dev/crowsnest/collector/compute"
	"github.com/crowsnest-dev/crowsnest/collector/push"
	"github.com/crowsnest-dev/crowsnest/collector/reading"
	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/bubbletest"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeState is a state that tests change.
type fakeState struct {
	mu      sync.Mutex
	now     *state.Snapshot
	changes chan state.Change
	trouble map[object.Kind]string
}

var _ state.Source = (*fakeState)(nil)

func (f *fakeState) Run(ctx context.Context) error { <-ctx.Done(); return nil }
func (f *fakeState) Snapshot() *state.Snapshot     { f.mu.Lock(); defer f.mu.Unlock(); return f.now }
func (f *fakeState) Health() map[object.Kind]string {
	return f.trouble
}
func (f *fakeState) Changes(ctx context.Context, fn func(state.Change)) {
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-f.changes:
			fn(c)
		}
	}
}

func (f *fakeState) set(p *object.Pod) {
	f.mu.Lock()
	before := f.now.Pods[p.UID]
	f.now = &state.Snapshot{Synced: true, Pods: map[string]*object.Pod{p.UID: p}, Nodes: f.now.Nodes, Workloads: f.now.Workloads}
	f.mu.Unlock()
	c := state.Change{At: time.Now(), Now: p}
	if before != nil {
		c.Before = before
	}
	f.changes <- c
}

// fakeReadings notes when it was read.
type fakeReadings struct {
	mu   sync.Mutex
	at   []time.Time // grid points
	when []time.Time // times of the reads
	slow time.Duration
}

func (f *fakeReadings) Name() string { return "fake" }
func (f *fakeReadings) Read(ctx context.Context, at time.Time, _ *state.Snapshot) []reading.Set {
	f.mu.Lock()
	f.at, f.when = append(f.at, at), append(f.when, time.Now())
	slow := f.slow
	f.mu.Unlock()
	set := reading.Set{Node: "n", Source: catalogue.CadvisorLabels}
	select {
	case <-ctx.Done():
		set.Err = ctx.Err()
	case <-time.After(slow):
		set.Containers = []reading.Container{{PodUID: "u", Name: "c", ID: "c1", WorkingSetBytes: reading.Value{V: 7, At: time.Now()}}}
	}
	return []reading.Set{set}
}

// server is a RoundTripper that takes everything and notes samples.
type server struct {
	mu    sync.Mutex
	got   []got
	clock bool // it says its time
}

// answers has the server say its time, as ours do.
func (s *server) answers(clock bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock = clock
}

type got struct {
	when     time.Time
	through  string
	interval string
	series   map[string]float64
	at       map[string]time.Time
}

func (s *server) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := &http.Response{StatusCode: http.StatusNoContent, Header: http.Header{}, Body: io.NopCloser(&bytes.Buffer{}), Request: r}
	s.mu.Lock()
	if s.clock {
		answer.Header.Set(wire.HeaderTime, wire.FormatMillis(time.Now()))
	}
	s.mu.Unlock()
	switch r.URL.Path {
	case wire.PathMetrics:
		raw, _ := io.ReadAll(r.Body)
		plain, err := snappy.Decode(nil, raw)
		var req writev2.Request
		if err != nil || req.Unmarshal(plain) != nil {
			answer.StatusCode = http.StatusBadRequest
			return answer, nil
		}
		g := got{when: time.Now(), through: r.Header.Get(wire.HeaderComplete), interval: r.Header.Get(wire.HeaderInterval), series: map[string]float64{}, at: map[string]time.Time{}}
		b := labels.NewScratchBuilder(8)
		for _, ts := range req.Timeseries {
			ls, _ := ts.ToLabels(&b, req.Symbols)
			g.series[ls.Get("__name__")] = ts.Samples[0].Value
			g.at[ls.Get("__name__")] = time.UnixMilli(ts.Samples[0].Timestamp)
		}
		s.mu.Lock()
		s.got = append(s.got, g)
		s.mu.Unlock()
		answer.Header.Set("X-Prometheus-Remote-Write-Samples-Written", "1")
	case wire.PathControl:
		answer.StatusCode = http.StatusNotFound
	}
	return answer, nil
}

func (s *server) all() []got {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got)
}

func thePod(ready bool) *object.Pod {
	return &object.Pod{
		Meta: object.Meta{UID: "u", Namespace: "ns", Name: "p"}, Node: "n", Workload: object.WorkloadRef{Type: "pod", Name: "p"}, Phase: object.PhaseRunning, Ready: ready,
		Containers: []object.Container{{Name: "c", ID: "c1", State: "running"}},
	}
}

type rig struct {
	*Collector
	state    *fakeState
	readings *fakeReadings
	server   *server
	reg      *prometheus.Registry
	stop     func()
}

// begin runs a collector inside a synctest bubble, whose clock it goes by.
func begin(t *testing.T, o Options, logs ...Logs) *rig {
	t.Helper()
	r := &rig{
		state: &fakeState{changes: make(chan state.Change), now: &state.Snapshot{
			Synced: true, Pods: map[string]*object.Pod{"u": thePod(true)}, Nodes: map[string]*object.Node{"n": {Meta: object.Meta{UID: "nu", Name: "n"}, Ready: true}},
		}},
		readings: &fakeReadings{}, server: &server{}, reg: prometheus.NewRegistry(),
	}
	o.Role, o.QueueDir, o.Registerer = cmp.Or(o.Role, wire.RoleAll), cmp.Or(o.QueueDir, t.TempDir()), r.reg
	o.World = World{State: r.state, Readings: []Readings{r.readings}, Logs: logs}
	client, err := push.NewClient(push.ClientOptions{Server: "http://server", Sender: "all", Transport: r.server})
	if err != nil {
		t.Fatal(err)
	}
	o.Client = client
	if r.Collector, err = New(o); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	return r
}

func TestSamplesStandOnTheGrid(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		time.Sleep(7 * time.Second) // away from the grid
		r := begin(t, Options{Interval: 10 * time.Second})
		synctest.Wait()
		if r.Ready() == nil {
			t.Error("ready before the first interval")
		}
		time.Sleep(60 * time.Second)
		all := r.server.all()
		if len(all) < 5 {
			t.Fatalf("%d requests in a minute", len(all))
		}
		for i, g := range all {
			through, err := wire.ParseMillis(g.through)
			if err != nil || through.Unix()%10 != 0 || g.interval != "10" {
				t.Errorf("request %d completes %q at interval %q", i, g.through, g.interval)
			}
			if i > 0 {
				if before, _ := wire.ParseMillis(all[i-1].through); through.Sub(before) != 10*time.Second {
					t.Errorf("request %d completes %v after the one before", i, through.Sub(before))
				}
			}
			if !g.at[catalogue.PodReady].Equal(through) || g.when.Before(through) || g.when.Sub(through) > time.Second {
				t.Errorf("request %d of %v was sent at %v with samples of %v", i, through, g.when, g.at[catalogue.PodReady])
			}
			if g.series[catalogue.ContainerMem] != 7 || g.series[catalogue.NodeReady] != 1 || g.series["crowsnest_collection_interval_seconds"] != 10 {
				t.Errorf("request %d holds %v", i, g.series)
			}
		}
		// The first read of all is for rates only.
		for i, when := range r.readings.when[1:] {
			i++
			if early := r.readings.at[i].Sub(when); early <= 0 || early > 10*time.Second/6 {
				t.Errorf("read %d began %v before its grid point", i, early)
			}
		}
		if err := errors.Join(r.Ready(), r.Alive()); err != nil {
			t.Error(err)
		}
		h := r.Health()
		if h.IntervalSeconds != 10 || len(h.Sources) != 2 || !h.Sources[0].Up || h.Sources[0].Name != "cadvisor/n" || h.Sources[0].Measured != 1 || h.Unavailable[catalogue.NodeTCPEstablished] == "" {
			t.Errorf("health %+v", h)
		}
		r.stop()
	})
}

func TestChangesAreSentAtOnce(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		r := begin(t, Options{Interval: 60 * time.Second})
		time.Sleep(130 * time.Second)
		before := len(r.server.all())
		changed := time.Now()
		r.state.set(thePod(false))
		time.Sleep(time.Second)
		all := r.server.all()[before:]
		if len(all) != 1 || all[0].through != "" || len(all[0].series) != 1 || all[0].series[catalogue.PodReady] != 0 || all[0].at[catalogue.PodReady].Sub(changed) > 200*time.Millisecond {
			t.Errorf("after a change came %+v", all)
		}
		r.stop()
	})
}

// What changes just before a grid point is due at that point: it belongs to the
// interval, and no series has a sample that is later than one still to come.
func TestAChangeAtTheGridPointBelongsToTheInterval(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		r := begin(t, Options{Interval: 10 * time.Second})
		time.Sleep(20 * time.Second)
		for i := range 40 {
			time.Sleep(time.Until(time.Now().Truncate(10 * time.Second).Add(10*time.Second - gatherChanges)))
			r.state.set(thePod(i%2 == 1))
			time.Sleep(gatherChanges)
		}
		time.Sleep(time.Second)
		var last time.Time
		grid := 0
		for i, g := range r.server.all() {
			at, ok := g.at[catalogue.PodReady]
			if !ok {
				continue
			}
			if !at.After(last) {
				t.Errorf("request %d has a sample of %v after one of %v", i, at, last)
			}
			if last = at; g.through != "" {
				grid++
			}
		}
		if grid < 40 {
			t.Errorf("%d intervals", grid)
		}
		r.stop()
	})
}

func TestSettings(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		r := begin(t, Options{})
		time.Sleep(40 * time.Second)
		no := false
		if a := r.apply(wire.Settings{Version: 3, IntervalSeconds: 10, Logs: &no}); a.Version != 3 || len(a.Overridden) != 0 || a.Error != "" {
			t.Errorf("applied %+v", a)
		}
		if a := r.apply(wire.Settings{Version: 4, IntervalSeconds: 7}); a.Error == "" {
			t.Error("an interval of 7 s is taken")
		}
		time.Sleep(time.Minute)
		all := r.server.all()
		if last := all[len(all)-1]; last.interval != "10" || last.series["crowsnest_collection_interval_seconds"] != 10 {
			t.Errorf("interval in force is %s", last.interval)
		}
		if r.hello().SettingsVersion != 4 || r.wantLogs() {
			t.Errorf("hello %+v", r.hello())
		}
		r.stop()
	})
	t.Run("local configuration wins", func(t *testing.T) {
		c := &Collector{o: Options{Interval: time.Minute}, interval: time.Minute}
		if a := c.set(wire.Settings{Version: 1, IntervalSeconds: 10}); a.Overridden["interval_seconds"] != "60" || c.interval != time.Minute {
			t.Errorf("applied %+v, interval %v", a, c.interval)
		}
	})
}

func TestASlowSourceDoesNotStopTheGrid(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		r := begin(t, Options{Interval: 10 * time.Second})
		r.readings.mu.Lock()
		r.readings.slow = time.Hour
		r.readings.mu.Unlock()
		time.Sleep(65 * time.Second)
		all := r.server.all()
		if len(all) < 4 {
			t.Fatalf("%d requests in a minute", len(all))
		}
		for _, g := range all {
			if g.series["crowsnest_source_up"] != 0 || g.series[catalogue.NodeReady] != 1 {
				t.Errorf("got %v", g.series)
			}
		}
		if h := r.Health(); !strings.Contains(h.Sources[0].Error, "deadline") {
			t.Errorf("health %+v", h.Sources)
		}
		r.stop()
	})
}

// Beside node collectors nobody reads the pods on virtual nodes unless that is asked for.
// The cluster's collector says so, as a source that measures none of them.
func TestPodsOnVirtualNodesAreToldToBeUnread(t *testing.T) {
	at := func(name, node, containerState string) *object.Pod {
		return &object.Pod{Meta: object.Meta{UID: name, Namespace: "d", Name: name}, Node: node, Phase: object.PhaseRunning, Containers: []object.Container{{Name: "app", ID: name, State: containerState}}}
	}
	ended := at("ended", "v", "running")
	ended.Phase = "Succeeded"
	for name, tc := range map[string]struct {
		role    string
		real    bool
		pods    []*object.Pod
		want    string // what is wrong, in part
		missing int
	}{
		"beside real nodes": {wire.RoleCluster, true, []*object.Pod{at("a", "v", "running"), at("b", "v", "running"), at("c", "n", "running"), at("w", "v", "waiting"), ended}, "2 running pods on 1 virtual nodes are not read, neither their usage nor their logs: no node collector runs there; this collector reads them with --virtual-nodes", 2},
		"no real nodes":     {wire.RoleCluster, false, []*object.Pod{at("a", "v", "running")}, "--role all", 1},
		"nothing runs":      {wire.RoleCluster, true, []*object.Pod{at("c", "n", "running"), at("w", "v", "waiting"), at("p", "", "waiting"), ended}, "", 0},
		"role all reads":    {wire.RoleAll, true, []*object.Pod{at("a", "v", "running")}, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			bubbletest.Test(t, func(t *testing.T) {
				r := begin(t, Options{Role: tc.role, Interval: 10 * time.Second})
				now := &state.Snapshot{Synced: true, Pods: map[string]*object.Pod{}, Nodes: map[string]*object.Node{"v": {Meta: object.Meta{Name: "v"}, Virtual: true}}}
				if tc.real {
					now.Nodes["n"] = &object.Node{Meta: object.Meta{Name: "n"}}
				}
				for _, p := range tc.pods {
					now.Pods[p.UID] = p
				}
				r.state.mu.Lock()
				r.state.now = now
				r.state.mu.Unlock()
				time.Sleep(25 * time.Second)
				var found []wire.SourceHealth
				for _, s := range r.Health().Sources {
					if s.Name == "virtual_nodes" {
						found = append(found, s)
					}
				}
				switch {
				case tc.want == "" && len(found) > 0:
					t.Errorf("told %+v", found)
				case tc.want != "" && (len(found) != 1 || !found[0].Up || found[0].Expected != tc.missing || found[0].Measured != 0 || !strings.Contains(found[0].Error, tc.want)):
					t.Errorf("told %+v, want %d containers and %q", found, tc.missing, tc.want)
				}
				r.stop()
			})
		})
	}
}

// readsVirtual reads the pods on virtual nodes, but for those that have collectors of
// their own.
type readsVirtual struct {
	fakeReadings
	others string
}

func (r *readsVirtual) Reads(n *object.Node) bool { return n.Virtual && n.Name != r.others }

// Where the cluster's collector reads them, the source says how many it measures.
func TestPodsOnVirtualNodesAreToldToBeRead(t *testing.T) {
	at := time.Date(2026, 11, 23, 20, 0, 0, 0, time.UTC)
	now := &state.Snapshot{Synced: true, Pods: map[string]*object.Pod{}, Nodes: map[string]*object.Node{"n": {Meta: object.Meta{Name: "n"}}}}
	for _, name := range []string{"v1", "v2", "v3"} {
		now.Nodes[name] = &object.Node{Meta: object.Meta{Name: name}, Virtual: true}
		now.Pods[name] = &object.Pod{Meta: object.Meta{UID: name, Namespace: "d", Name: name}, Node: name, Phase: object.PhaseRunning, Containers: []object.Container{{Name: "app", ID: name, State: "running"}}}
	}
	set := func(node string, source catalogue.Source, pods ...string) reading.Set {
		s := reading.Set{Node: node, Source: source, Containers: []reading.Container{}}
		for _, p := range pods {
			s.Containers = append(s.Containers, reading.Container{PodUID: p, Name: "app", WorkingSetBytes: reading.Value{V: 7, At: at}})
		}
		return s
	}
	for name, tc := range map[string]struct {
		sets []reading.Set
		want wire.SourceHealth
	}{
		"all": {[]reading.Set{set("v1", catalogue.StatsSummary), set("v1", catalogue.MetricsAPI, "v1"), set("v2", catalogue.StatsSummary, "v2"), set("v2", catalogue.MetricsAPI, "v2")},
			wire.SourceHealth{Name: "virtual_nodes", Up: true, Expected: 2, Measured: 2}},
		"some": {[]reading.Set{set("v1", catalogue.StatsSummary, "v1"), set("v2", catalogue.StatsSummary)},
			wire.SourceHealth{Name: "virtual_nodes", Up: true, Expected: 2, Measured: 1, Error: "of 2 running containers on 2 virtual nodes, 1 are measured; what each node's sources say stands beside this"}},
	} {
		c := &Collector{
			o:        Options{World: World{State: &fakeState{now: now}, Readings: []Readings{&fakeReadings{}, &readsVirtual{others: "v3"}}}},
			computer: compute.New(compute.Options{Role: wire.RoleCluster, Sender: "cluster"}),
		}
		c.computer.Interval(at, tc.sets, now)
		if got, some := c.virtualNodes(); !some || got != tc.want {
			t.Errorf("%s: %+v, want %+v", name, got, tc.want)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	_, err := New(Options{Role: "boss", Interval: time.Second})
	var fs fault.Fields
	if !errors.As(err, &fs) || len(fs) != 4 {
		t.Errorf("got %v, want role, interval, world and queue folder named", err)
	}
	if _, err := New(Options{Role: wire.RoleNode}); err == nil || !strings.Contains(err.Error(), "node: is required in role node") {
		t.Errorf("got %v", err)
	}
}

func TestSpreadIsStableAndWithinTheWindow(t *testing.T) {
	seen := map[time.Duration]bool{}
	for _, s := range []string{"node/a", "node/b", "node/c", "node/d"} {
		d := spread(s, 2*time.Second)
		if d < 0 || d >= 2*time.Second || d != spread(s, 2*time.Second) {
			t.Errorf("%s: %v", s, d)
		}
		seen[d] = true
	}
	if len(seen) < 3 {
		t.Errorf("four senders share %d places", len(seen))
	}
}

func TestNextGrid(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0).UTC() }
	for _, tc := range []struct{ now, want int }{{0, 30}, {24, 30}, {25, 60}, {29, 60}, {30, 60}, {59, 90}} {
		if got := nextGrid(at(tc.now), 30*time.Second, 5*time.Second); !got.Equal(at(tc.want)) {
			t.Errorf("after %d comes %d, want %d", tc.now, got.Unix(), tc.want)
		}
	}
}

// What does not fit is counted where the collector is watched.
func TestMisfitsAreCounted(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		r := begin(t, Options{Interval: 30 * time.Second})
		time.Sleep(61 * time.Second)
		r.state.mu.Lock()
		r.state.now = &state.Snapshot{Synced: true, Nodes: r.state.now.Nodes} // the pod is gone, the kubelet tells of it still
		r.state.mu.Unlock()
		time.Sleep(60 * time.Second)
		if got := testutil.ToFloat64(r.metrics.misfits.WithLabelValues(string(compute.NoObject))); got != 2 {
			t.Errorf("readings of a pod that went were counted %v times in two intervals", got)
		}
		r.stop()
	})
}

func TestMetricsAreWellFormed(t *testing.T) {
	reg := prometheus.NewRegistry()
	newMetrics(reg, &serverClock{})
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}
