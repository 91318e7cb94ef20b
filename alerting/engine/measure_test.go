package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	runtimemetrics "runtime/metrics"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	promtsdb "github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/alerting/notify"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/storage/ingest"
	"github.com/crowsnest-dev/crowsnest/storage/inventory"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
	"github.com/crowsnest-dev/crowsnest/storage/rollup"
)

// The measurements of this file are made by test/bench, which reads their lines
// "measured NAME VALUE".

func measuring(t *testing.T) {
	if os.Getenv("CROWSNEST_MEASURE") == "" {
		t.Skip("a measurement: CROWSNEST_MEASURE=1, or make bench BENCH=\"--only engine\"")
	}
}

func measured(name string, value float64) { fmt.Printf("measured %s %g\n", name, value) }

func cpuSeconds() float64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
}

// fleet is a cluster of pods that is made up while it is asked, so that only
// what the engine keeps is measured.
type fleet struct {
	pods, nodes int
	value       func(pod int) float64
}

func (f *fleet) name(i int) string { return "cart-" + strconv.Itoa(i) }

func (f *fleet) pod(i int) *object.Pod {
	return &object.Pod{
		Meta: object.Meta{UID: "u" + strconv.Itoa(i), Namespace: "shop", Name: f.name(i), CreatedAt: epoch.Add(-24 * time.Hour), Labels: map[string]string{"g": strconv.Itoa(i % 100)}},
		Node: "n-" + strconv.Itoa(i%f.nodes), Workload: object.WorkloadRef{Type: "deployment", Name: "cart-" + strconv.Itoa(i%1000)}, Phase: object.PhaseRunning,
		Limits: object.Resources{HasCPU: true, HasMemory: true}, Containers: []object.Container{{Name: "app", State: "running"}},
	}
}

func (f *fleet) Clusters() []string { return []string{"prod-1"} }
func (f *fleet) Info(string) (inventory.Info, bool) {
	return inventory.Info{Kind: "managed", Synced: true}, true
}
func (f *fleet) List(string, object.Kind) []object.Object { return nil }
func (f *fleet) Get(_ string, k object.Key) (object.Object, bool) {
	if k.Kind != object.KindPod {
		return nil, false
	}
	i, err := strconv.Atoi(k.Name[len("cart-"):])
	return f.pod(i), err == nil
}
func (f *fleet) Gone(string, object.Key) (inventory.Tombstone, bool) {
	return inventory.Tombstone{}, false
}

func (f *fleet) Querier(mint, maxt int64) (storage.Querier, error) {
	return &fleetQuerier{f, mint, maxt}, nil
}

type fleetQuerier struct {
	f          *fleet
	mint, maxt int64
}

func (q *fleetQuerier) Select(_ context.Context, _ bool, h *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	s := &fleetSet{q: q, from: q.mint, step: 1, i: -1}
	if h != nil {
		s.from = h.Start
	}
	for _, m := range ms {
		switch m.Name {
		case labels.MetricName:
			s.metric = m.Value
		case "node":
			n, _ := strconv.Atoi(m.Value[len("n-"):])
			s.i, s.step = n-q.f.nodes, q.f.nodes
		}
	}
	return s
}
func (q *fleetQuerier) LabelValues(context.Context, string, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, nil
}
func (q *fleetQuerier) LabelNames(context.Context, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, nil
}
func (q *fleetQuerier) Close() error { return nil }

type fleetSet struct {
	q       *fleetQuerier
	metric  string
	i, step int
	from    int64
}

func (s *fleetSet) Next() bool {
	s.i += s.step
	return s.i < s.q.f.pods && s.metric != rollup.CoverageRatio
}
func (s *fleetSet) At() storage.Series                { return s }
func (s *fleetSet) Err() error                        { return nil }
func (s *fleetSet) Warnings() annotations.Annotations { return nil }
func (s *fleetSet) Labels() labels.Labels {
	p := s.q.f.pod(s.i)
	return labels.FromStrings("__name__", s.metric, "cluster", "prod-1", "namespace", p.Namespace, "workload_type", "deployment", "workload", p.Workload.Name, "pod", p.Name, "node", p.Node)
}
func (s *fleetSet) Iterator(chunkenc.Iterator) chunkenc.Iterator {
	step := interval.Milliseconds()
	from := (s.from + step - 1) / step * step
	return storage.NewListSeriesIterator(fleetSamples{from, int((s.q.maxt-from)/step) + 1, s.q.f.value(s.i)})
}

// fleetSamples are equal values at each interval.
type fleetSamples struct {
	from int64
	n    int
	v    float64
}

func (s fleetSamples) Len() int { return s.n }
func (s fleetSamples) Get(i int) chunks.Sample {
	return fleetSample{s.from + int64(i)*interval.Milliseconds(), s.v}
}

type fleetSample struct {
	t int64
	v float64
}

func (s fleetSample) ST() int64                     { return 0 }
func (s fleetSample) T() int64                      { return s.t }
func (s fleetSample) F() float64                    { return s.v }
func (s fleetSample) H() *histogram.Histogram       { return nil }
func (s fleetSample) FH() *histogram.FloatHistogram { return nil }
func (s fleetSample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (s fleetSample) Copy() chunks.Sample           { return s }

// engineOf makes an engine on a fleet with policies of its own.
func engineOf(t testing.TB, f *fleet, now func() time.Time, specs []string) *Engine {
	t.Helper()
	db, err := meta.OpenScratch(database(t, t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	e, err := New(Options{Queryable: f, Inventory: f, Meta: db, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	e.born, e.loadedAt = now(), now()
	e.clusters["prod-1"] = meta.ClusterRow{ID: "prod-1", Name: "prod-1"}
	for i, spec := range specs {
		c, err := compile(meta.Resource{ID: "p" + strconv.Itoa(i), Kind: meta.KindPolicy, Project: "default", Name: "p" + strconv.Itoa(i), Revision: 1, Spec: []byte(spec)})
		if err != nil {
			t.Fatal(err)
		}
		e.policies = append(e.policies, c)
		e.byID[c.ref.ID] = c
	}
	return e
}

// podMetrics are gauges of pods.
func podMetrics(n int) (out []string) {
	for _, m := range catalogue.All() {
		if m.Level == catalogue.Pod && m.Kind == catalogue.Gauge && len(m.Dimensions) == 0 {
			out = append(out, m.Name)
		}
	}
	return out[:min(n, len(out))]
}

// 10,000 policies on 10 objects each cost at most three times what 100 policies
// on 1,000 objects do.
func TestMeasurePolicies(t *testing.T) {
	measuring(t)
	metrics := podMetrics(20)
	t.Logf("%d metrics", len(metrics))
	spec := func(i int, selector string) string {
		period := []string{"30s", "1m", "2m", "5m", "10m"}[i%5]
		return fmt.Sprintf(`{"level":"pod","objects":{"selector":%q},"conditions":[{"metric":%q,"statistic":%q,"period":%q,"op":">","thresholds":{"warning":80,"critical":95},"need":2,"of":3}],"recoverAfter":2,"noData":{"action":"keep","after":"5m","severity":"warning"},"group":{"interval":"5m"}}`,
			selector, metrics[i/20%len(metrics)], []string{"avg", "max", "min", "last"}[i/5%4], period)
	}
	cost := func(specs []string) float64 {
		now := epoch.Add(24 * time.Hour)
		e := engineOf(t, &fleet{pods: 1000, nodes: 10, value: func(int) float64 { return 50 }}, func() time.Time { return now }, specs)
		const rounds = 6
		began := 0.0
		for i := range rounds {
			now = now.Add(interval)
			if i == 1 { // the first one warms up
				began = cpuSeconds()
			}
			e.evaluate(context.Background(), round{source: sourceKey{"prod-1", "all"}, trigger: triggerInterval, at: now.Truncate(interval), interval: interval, received: now})
		}
		return (cpuSeconds() - began) / (rounds - 1)
	}
	var few, many []string
	for i := range 100 {
		few = append(few, spec(i, "g"))
	}
	for i := range 10_000 {
		many = append(many, spec(i, fmt.Sprintf("g=%d,x!=%d", i%100, i)))
	}
	a := cost(few)
	b := cost(many)
	measured("engine_cpu_100_policies_1000_objects", a)
	measured("engine_cpu_10000_policies_10_objects", b)
}

// What the engine keeps of a million objects, of which more are bad than may
// fire.
func TestMeasureState(t *testing.T) {
	measuring(t)
	const pods = 1_000_000
	spec := `{"level":"pod","conditions":[{"metric":"k8s_pod_rate_cpu_core_used_limit","statistic":"avg","period":"1m","op":">","thresholds":{"warning":80},"need":2,"of":3}],"recoverAfter":2,"noData":{"action":"keep","after":"5m","severity":"warning"},"group":{"interval":"5m"}}`
	now := epoch.Add(24 * time.Hour)
	e := engineOf(t, &fleet{pods: pods, nodes: 1000, value: func(i int) float64 { return map[bool]float64{true: 90, false: 50}[i%50 == 0] }}, func() time.Time { return now }, []string{spec})
	heap := func() float64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	runtime.GC()
	before := heap()
	live := func() float64 { // what the newest collection of garbage left
		s := []runtimemetrics.Sample{{Name: "/gc/heap/live:bytes"}}
		runtimemetrics.Read(s)
		return float64(s[0].Value.Uint64())
	}
	liveBefore := live()
	peak, livePeak, stop := 0.0, 0.0, make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
				peak, livePeak = max(peak, heap()-before), max(livePeak, live()-liveBefore)
			}
		}
	})
	began := cpuSeconds()
	for range 2 {
		now = now.Add(interval)
		e.evaluate(context.Background(), round{source: sourceKey{"prod-1", "all"}, trigger: triggerInterval, at: now.Truncate(interval), interval: interval, received: now})
	}
	took := cpuSeconds() - began
	close(stop)
	wg.Wait()
	runtime.GC()
	runtime.GC()
	if len(e.alerts) != maxFiring {
		t.Errorf("%d alerts fire", len(e.alerts))
	}
	if done := e.view.done[[2]string{"p0", "prod-1"}]; done.err == nil {
		t.Error("nobody is told that there are too many")
	}
	measured("engine_state_mib", (heap()-before)/(1<<20))
	measured("engine_state_peak_mib", peak/(1<<20))
	measured("engine_state_live_peak_mib", livePeak/(1<<20))
	measured("engine_round_1m_objects_cpu", took/2)
}

// From the arrival of the sample that completes a condition to the webhook, over
// 500 alerts, while one node of the cluster is silent.
func TestMeasureWebhook(t *testing.T) {
	measuring(t)
	const n, step = 500, 10 * time.Second
	w := newWorld(t)
	w.close()
	db, err := meta.Open(database(t, w.dir))
	if err != nil {
		t.Fatal(err)
	}
	w.meta = db
	defer db.Close()
	outbox, err := notify.New(notify.Options{Store: db, Keyring: w.keyring, Allowed: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	if err != nil {
		t.Fatal(err)
	}
	w.outbox = outbox
	if w.engine, err = New(Options{Queryable: w.store, Inventory: w.inventory, Meta: db, Told: outbox.Wake}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = w.engine.Run(ctx) })
	wg.Go(func() { _ = outbox.Run(ctx) })
	defer func() { cancel(); wg.Wait() }()
	r := newReceiver(t)
	w.target("hook", r.server.URL, 0)
	w.policy(`
level: pod
conditions:
- {metric: k8s_pod_rate_cpu_core_used_limit, statistic: last, period: 10s, op: ">", thresholds: {warning: 80}}
group: {by: [pod]}
notify: {targets: [hook]}
`)
	for i := range n + 1 { // the last one's node is silent
		p := cartPod(time.Unix(0, 0))
		p.Name, p.UID, p.Node = "cart-"+strconv.Itoa(i), "u"+strconv.Itoa(i), "n-"+strconv.Itoa(i)
		w.inventory.put(p)
	}
	time.Sleep(time.Second) // the policy is loaded
	sent := map[string]time.Time{}
	began := cpuSeconds()
	for i := range n {
		name := "cart-" + strconv.Itoa(i)
		at := time.Now().UTC().Truncate(step)
		w.append(labels.FromStrings("__name__", catalogue.PodCPULimitPercent, "cluster", "prod-1", "namespace", "shop", "workload_type", "deployment", "workload", "cart", "pod", name, "node", "n-"+strconv.Itoa(i)), at, 90)
		sent[name] = time.Now()
		w.engine.Arrived(ingest.Arrival{Cluster: "prod-1", Sender: "node/n-" + strconv.Itoa(i), Through: at, Interval: step, ReceivedAt: time.Now()})
		time.Sleep(20 * time.Millisecond)
	}
	var took []float64
	for len(took) < n {
		x := r.next(t)
		took = append(took, x.at.Sub(sent[x.message.Alerts[0].Object.Pod]).Seconds())
	}
	slices.Sort(took)
	measured("webhook_p50_seconds", took[n/2])
	measured("webhook_p99_seconds", took[n*99/100])
	measured("webhook_max_seconds", took[n-1])
	measured("webhook_cpu_per_alert_seconds", (cpuSeconds()-began)/n)
}

// archive is a fleet of workloads that never change.
type archive struct{ *fakeInventory }

func (a archive) Versions(_ context.Context, cluster string, key object.Key, _, _ time.Time) ([]inventory.Version, error) {
	o, ok := a.Get(cluster, key)
	if !ok {
		return nil, nil
	}
	return []inventory.Version{{From: time.Unix(0, 0), Object: o}}, nil
}

func (a archive) VersionsOf(ctx context.Context, cluster string, _ object.Kind, keys []object.Key, from, to time.Time, fn func(inventory.Version) error) error {
	for _, key := range keys {
		versions, err := a.Versions(ctx, cluster, key, from, to)
		for _, v := range versions {
			if err := fn(v); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (a archive) History(context.Context, string, object.Kind, time.Time, time.Time, func(inventory.Version) error) error {
	return nil
}

// 90 days of one policy over 1,000 workloads at an interval of a minute.
func TestMeasureBacktest(t *testing.T) {
	measuring(t)
	const workloads, every = 1000, time.Minute
	days := 90
	if s := os.Getenv("CROWSNEST_MEASURE_DAYS"); s != "" {
		days, _ = strconv.Atoi(s)
	}
	dir := t.TempDir()
	to := time.Now().UTC().Truncate(24 * time.Hour)
	from := to.AddDate(0, 0, -days)
	sets := make([]labels.Labels, workloads)
	inv := newFakeInventory()
	for i := range sets {
		name := "w-" + strconv.Itoa(i)
		sets[i] = labels.FromStrings("__name__", catalogue.WorkloadCPU, "cluster", "prod-1", "namespace", "shop", "workload_type", "deployment", "workload", name)
		inv.put(&object.Workload{Meta: object.Meta{UID: name, Namespace: "shop", Name: name}, Ref: object.WorkloadRef{Type: "deployment", Name: name}, Desired: 3, Revision: "1"})
	}
	coverage := labels.FromStrings("__name__", rollup.CoverageRatio, "cluster", "prod-1")
	for part := from; part.Before(to); part = part.AddDate(0, 0, 2) {
		end := part.AddDate(0, 0, 2)
		if end.After(to) {
			end = to
		}
		bw, err := promtsdb.NewBlockWriter(slog.New(slog.DiscardHandler), dir, 48*time.Hour.Milliseconds())
		if err != nil {
			t.Fatal(err)
		}
		refs := make([]storage.SeriesRef, workloads+1)
		app := bw.Appender(context.Background())
		for at := part; at.Before(end); at = at.Add(every) {
			minute := int(at.Sub(from) / time.Minute)
			for i := range sets {
				v := 2 + float64((minute*7+i*13)%100)/100 // busy, but far from bad
				if (minute/30+i*37)%20_000 == 0 {
					v = 9 // half an hour of too much, now and then
				}
				if refs[i], err = app.Append(refs[i], sets[i], at.UnixMilli(), v); err != nil {
					t.Fatal(err)
				}
			}
			if refs[workloads], err = app.Append(refs[workloads], coverage, at.UnixMilli(), 1); err != nil {
				t.Fatal(err)
			}
			if minute%60 == 59 {
				if err := app.Commit(); err != nil {
					t.Fatal(err)
				}
				app = bw.Appender(context.Background())
			}
		}
		if err := app.Commit(); err != nil {
			t.Fatal(err)
		}
		if _, err := bw.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
		if err := bw.Close(); err != nil {
			t.Fatal(err)
		}
	}
	opts := promtsdb.DefaultOptions()
	opts.RetentionDuration = (1000 * 24 * time.Hour).Milliseconds()
	db, err := promtsdb.Open(dir, nil, nil, opts, nil)
	if err != nil {
		t.Fatal(err)
	}
	db.DisableCompactions()
	defer db.Close()
	m, err := meta.Open(filepath.Join(t.TempDir(), "meta.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	e, err := New(Options{Queryable: db, Inventory: inv, Archive: archive{inv}, Meta: m, ScratchDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	e.view.interval("prod-1", "cluster", every)
	row := meta.Resource{ID: "pol_1", Kind: meta.KindPolicy, Project: "default", Name: "busy", Revision: 1, Spec: json.RawMessage(`{"level":"workload","conditions":[{"metric":"` + catalogue.WorkloadCPU +
		`","statistic":"avg","period":"5m","op":">","thresholds":{"warning":6,"critical":8},"recovery":{"warning":5},"need":2,"of":3}],"recoverAfter":2,"group":{"interval":"5m"},"noData":{"action":"keep","severity":"warning","after":"5m"}}`)}
	began, cpu := time.Now(), cpuSeconds()
	r, err := e.Backtest(context.Background(), row, Range{From: from, To: to.Add(-every)})
	if err != nil {
		t.Fatal(err)
	}
	measured("backtest_seconds", time.Since(began).Seconds())
	measured("backtest_cpu_seconds", cpuSeconds()-cpu)
	measured("backtest_alerts", float64(r.AlertCount))
	if r.AlertCount == 0 || r.Objects != workloads || math.IsNaN(r.FiringSeconds) {
		t.Errorf("got %d alerts of %d objects", r.AlertCount, r.Objects)
	}
}

// settled is a fleet whose pods are made once, and named as a Deployment's are: so a
// round costs what the engine does, and not what makes them up.
type settled struct {
	*fleet
	held   []*object.Pod
	series []labels.Labels
	byName map[string]int
}

// letters are what such names end in.
const letters = "bcdfghjklmnpqrstvwxz2456789"

func settle(f *fleet) *settled {
	s := &settled{fleet: f, held: make([]*object.Pod, f.pods), series: make([]labels.Labels, f.pods), byName: make(map[string]int, f.pods)}
	for i := range s.held {
		s.replace(i, 0)
	}
	return s
}

// replace makes the pod at a place another one, as a rollout does.
func (s *settled) replace(i, generation int) {
	p := s.fleet.pod(i)
	n, suffix := i*7919+generation*104729, ""
	for range 5 {
		suffix, n = suffix+string(letters[n%len(letters)]), n/len(letters)
	}
	if old := s.held[i]; old != nil {
		delete(s.byName, old.Name)
	}
	p.Name = fmt.Sprintf("%s-%d-%s", p.Workload.Name, i, suffix)
	p.UID = p.Name
	s.held[i], s.byName[p.Name] = p, i
	s.series[i] = labels.FromStrings("cluster", "prod-1", "namespace", p.Namespace, "workload_type", "deployment", "workload", p.Workload.Name, "pod", p.Name, "node", p.Node)
}

func (s *settled) Get(_ string, k object.Key) (object.Object, bool) {
	i, ok := s.byName[k.Name]
	if k.Kind != object.KindPod || !ok {
		return nil, false
	}
	return s.held[i], true
}

func (s *settled) Querier(mint, maxt int64) (storage.Querier, error) {
	return &settledQuerier{fleetQuerier{s.fleet, mint, maxt}, s}, nil
}

type settledQuerier struct {
	fleetQuerier
	s *settled
}

func (q *settledQuerier) Select(ctx context.Context, sorted bool, h *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	return &settledSet{q.fleetQuerier.Select(ctx, sorted, h, ms...).(*fleetSet), q.s}
}

type settledSet struct {
	*fleetSet
	s *settled
}

func (s *settledSet) At() storage.Series    { return s }
func (s *settledSet) Labels() labels.Labels { return s.s.series[s.i] }

// patternSpecs are policies with patterns of their own, and some about everything.
func patternSpecs(patterns, everything int) []string {
	metrics := []string{catalogue.PodCPULimitPercent, catalogue.PodMemLimitPercent, catalogue.PodRestarts, catalogue.PodCPU, catalogue.PodMem}
	spec := func(n int, objects string) string {
		of := []struct{ statistic, period string }{{"avg", "2m"}, {"max", "1m"}, {"increase", "10m"}, {"avg", "5m"}, {"max", "5m"}}[n%5]
		return fmt.Sprintf(`{"level":"pod",%s"conditions":[{"metric":%q,"statistic":%q,"period":%q,"op":">=","thresholds":{"critical":99},"need":2,"of":3}],"recoverAfter":2,"noData":{"action":"keep","after":"5m","severity":"warning"},"group":{"interval":"5m"}}`,
			objects, metrics[n%5], of.statistic, of.period)
	}
	var specs []string
	for n := range patterns {
		specs = append(specs, spec(n, fmt.Sprintf(`"objects":{"names":["*%c%c"]},`, letters[n/len(letters)%len(letters)], letters[n%len(letters)])))
	}
	for n := range everything {
		specs = append(specs, spec(n, ""))
	}
	return specs
}

// A thousand policies with patterns of their own and twenty about everything, on the
// pods of a thousand nodes: what the first round costs, and each after it, with a
// hundredth of the pods replaced before each.
func TestMeasurePatterns(t *testing.T) {
	measuring(t)
	const pods, patterns, everything = 30_000, 1000, 20
	specs := patternSpecs(patterns, everything)
	now := epoch.Add(24 * time.Hour)
	f := settle(&fleet{pods: pods, nodes: 1000, value: func(int) float64 { return 50 }})
	e := engineOf(t, f.fleet, func() time.Time { return now }, specs)
	e.opts.Queryable, e.opts.Inventory = f, f
	const rounds = 4
	first, began := 0.0, cpuSeconds()
	for i := range rounds {
		now = now.Add(interval)
		e.evaluate(context.Background(), round{source: sourceKey{"prod-1", "all"}, trigger: triggerInterval, at: now.Truncate(interval), interval: interval, received: now})
		if i == 0 {
			first = cpuSeconds() - began
			began = cpuSeconds()
		}
		for n := range pods / 100 {
			f.replace(i*pods/100+n, i+1)
		}
	}
	measured("engine_patterns_first_cpu", first)
	measured("engine_patterns_next_cpu", (cpuSeconds()-began)/(rounds-1))
}

// lean is a settled fleet whose samples cost nothing to make up, so that what a round
// allots is the engine's.
type lean struct{ *settled }

func (l lean) Querier(mint, maxt int64) (storage.Querier, error) {
	return &leanQuerier{settledQuerier{fleetQuerier{l.fleet, mint, maxt}, l.settled}}, nil
}

type leanQuerier struct{ settledQuerier }

func (q *leanQuerier) Select(ctx context.Context, sorted bool, h *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	out := &leanSet{settledSet: q.settledQuerier.Select(ctx, sorted, h, ms...).(*settledSet)}
	step := interval.Milliseconds()
	for t := (out.from + step - 1) / step * step; t <= q.maxt; t += step {
		out.samples = append(out.samples, fleetSample{t, q.f.value(0)})
	}
	for _, m := range ms {
		if m.Name != "pod" {
			continue
		}
		out.named = true // as a store does: it looks up each name
		names := m.SetMatches()
		if m.Type == labels.MatchEqual {
			names = []string{m.Value}
		}
		for _, name := range names {
			if i, ok := q.s.byName[name]; ok {
				out.places = append(out.places, i)
			}
		}
	}
	return out
}

// leanSet has the same samples in all of its series.
type leanSet struct {
	*settledSet
	samples leanSamples
	named   bool
	places  []int // that are named
}

func (s *leanSet) Next() bool {
	if !s.named {
		return s.settledSet.Next()
	}
	if len(s.places) == 0 {
		return false
	}
	s.i, s.places = s.places[0], s.places[1:]
	return true
}
func (s *leanSet) At() storage.Series { return s }
func (s *leanSet) Iterator(chunkenc.Iterator) chunkenc.Iterator {
	return storage.NewListSeriesIterator(s.samples)
}

type leanSamples []chunks.Sample

func (s leanSamples) Len() int                { return len(s) }
func (s leanSamples) Get(i int) chunks.Sample { return s[i] }

// A round of a cluster whose collectors send as one, of one of the largest that this is
// made for, and one of a node that sends alone, also where 5,000 alerts of others fire.
func BenchmarkRound(b *testing.B) {
	for name, of := range map[string]struct {
		node          string
		nodes, firing int
	}{"cluster": {"", 1000, 0}, "large": {"", 5000, 0}, "node": {"/n-7", 1000, 0}, "firing": {"/n-7", 1000, 5000}} {
		b.Run(name, func(b *testing.B) {
			now, node := epoch.Add(24*time.Hour), of.node
			f := settle(&fleet{pods: 30 * of.nodes, nodes: of.nodes, value: func(int) float64 { return 50 }})
			e := engineOf(b, f.fleet, func() time.Time { return now }, patternSpecs(1000, 20))
			e.opts.Queryable, e.opts.Inventory = lean{f}, f
			sender := "all"
			if node != "" {
				sender = "node" + node
			}
			next := func() {
				now = now.Add(interval)
				e.evaluate(context.Background(), round{source: sourceKey{"prod-1", sender}, trigger: triggerInterval, at: now.Truncate(interval), interval: interval, received: now})
			}
			next() // it asks every selection about every pod
			for i := range of.firing {
				pod, c := "cart-"+strconv.Itoa(100_000+i), e.policies[i%len(e.policies)]
				a := &incident.Alert{ID: "alt_" + strconv.Itoa(i), IncidentID: "inc_1", Key: subject{level: catalogue.Pod, object: "shop/" + pod}.key(), Firing: true}
				a.Policy, a.Object = c.ref, incident.Object{Level: catalogue.Pod, Cluster: "prod-1", Namespace: "shop", Pod: pod, Node: "n-8"}
				e.alerts[keyOf(a)] = a
			}
			next()
			b.ReportAllocs()
			for b.Loop() {
				next()
			}
		})
	}
}

// A round for changes of state of so many pods among 30,000, by 1,020 policies on states;
// all: it is not told of which.
func BenchmarkChangeRound(b *testing.B) {
	var specs []string
	for i, spec := range patternSpecs(1000, 20) {
		of := []struct{ metric, statistic, op string }{{catalogue.PodReady, "max", "<"}, {catalogue.PodRestarts, "increase", ">"}}[i%2]
		var s map[string]any
		if err := json.Unmarshal([]byte(spec), &s); err != nil {
			b.Fatal(err)
		}
		c := s["conditions"].([]any)[0].(map[string]any)
		c["metric"], c["statistic"], c["op"], c["thresholds"] = of.metric, of.statistic, of.op, map[string]any{"warning": 0.5}
		raw, err := json.Marshal(s)
		if err != nil {
			b.Fatal(err)
		}
		specs = append(specs, string(raw))
	}
	now := epoch.Add(24 * time.Hour)
	f := settle(&fleet{pods: 30_000, nodes: 1000, value: func(int) float64 { return 1 }})
	e := engineOf(b, f.fleet, func() time.Time { return now }, specs)
	e.opts.Queryable, e.opts.Inventory = lean{f}, f
	e.opts.Changed = func(string, inventory.Position) ([]object.Key, inventory.Position, bool) {
		return nil, inventory.Position{}, false
	}
	source := sourceKey{"prod-1", "cluster"}
	e.evaluate(context.Background(), round{source: source, trigger: triggerInterval, at: now, interval: interval, received: now})
	for _, changed := range []int{1, 10, 300, 0} {
		b.Run(map[bool]string{true: strconv.Itoa(changed), false: "all"}[changed > 0], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				now = now.Add(time.Millisecond)
				a := ingest.Arrival{Newest: now}
				for i := range changed {
					a.Changed = append(a.Changed, labels.NewBuilder(f.series[i*100]).Set(labels.MetricName, catalogue.PodReady).Labels())
				}
				e.hear(source, newsOf(a, now, nil))
				e.evaluate(context.Background(), round{source: source, trigger: triggerChange, at: now, interval: interval, received: now})
			}
		})
	}
}
