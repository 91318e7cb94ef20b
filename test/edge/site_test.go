package edge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/crowsnest-dev/crowsnest/alerting/engine"
	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/api/control"
	apiingest "github.com/crowsnest-dev/crowsnest/api/ingest"
	"github.com/crowsnest-dev/crowsnest/api/prometheus"
	"github.com/crowsnest-dev/crowsnest/api/settings"
	"github.com/crowsnest-dev/crowsnest/collector"
	"github.com/crowsnest-dev/crowsnest/collector/push"
	"github.com/crowsnest-dev/crowsnest/collector/reading"
	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
	"github.com/crowsnest-dev/crowsnest/storage/history"
	"github.com/crowsnest-dev/crowsnest/storage/ingest"
	"github.com/crowsnest-dev/crowsnest/storage/inventory"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
	"github.com/crowsnest-dev/crowsnest/storage/metrics"
	"github.com/crowsnest-dev/crowsnest/storage/rollup"
)

const (
	theCluster = "site"
	interval   = 30 * time.Second
)

// server is the real server's parts that samples pass, behind HTTP.
type server struct {
	t         *testing.T
	store     *metrics.DB
	inventory *inventory.Store
	meta      *meta.DB
	engine    *engine.Engine
	hub       *control.Hub
	ingester  *ingest.Ingester
	pipes     *pipes

	mu       sync.Mutex
	arrivals []ingest.Arrival
	// before decides on a write before the server does; nil when it is not asked.
	before func(w http.ResponseWriter, r *http.Request) (answered bool)
}

// pipes are connections in memory, which a bubble's clock can wait for.
type pipes struct {
	accept chan net.Conn
	done   chan struct{}

	mu   sync.Mutex
	cut  bool
	open map[net.Conn]struct{}
}

var errCut = errors.New("no route to host")

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.accept:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut {
		return nil, errCut
	}
	ours, theirs := net.Pipe()
	select {
	case p.accept <- theirs:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	p.open[ours] = struct{}{}
	return ours, nil
}

// sever cuts every connection and lets no new one come; mend lets them again.
func (p *pipes) sever() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	for c := range p.open {
		_ = c.Close()
	}
	clear(p.open)
}

func (p *pipes) mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = false
}

// serve opens the stores and serves them until the returned function is called.
func serve(t *testing.T) (s *server, stop func()) {
	t.Helper()
	return serveThatTakes(t, 48*time.Hour)
}

// serveThatTakes is serve with a bound of age, beyond which samples have to come
// by the import way.
func serveThatTakes(t *testing.T, accept time.Duration) (s *server, stop func()) {
	t.Helper()
	dir := t.TempDir()
	s = &server{t: t, pipes: &pipes{accept: make(chan net.Conn, 16), done: make(chan struct{}), open: map[net.Conn]struct{}{}}}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	s.store, err = metrics.Open(metrics.Options{Dir: filepath.Join(dir, "metrics"), MinFreeBytes: 1, OutOfOrderWindow: accept})
	must(err)
	s.inventory, err = inventory.Open(inventory.Options{Path: filepath.Join(dir, "inventory.db")})
	must(err)
	s.meta, err = meta.Open(filepath.Join(dir, "meta.db"))
	must(err)
	s.engine, err = engine.New(engine.Options{Queryable: s.store, Inventory: s.inventory, Meta: s.meta})
	must(err)
	must(s.meta.UpsertCluster(t.Context(), meta.ClusterRow{ID: theCluster, CreatedAt: time.Now()}))
	rollups, err := rollup.New(rollup.Options{Store: s.store, Expected: s.inventory, Written: s.engine.RolledUp, Lookback: accept, MaxLate: min(accept, 24*time.Hour)})
	must(err)
	past, err := history.Open(history.Options{Dir: filepath.Join(dir, "history"), Blocks: s.store, Expected: s.inventory})
	must(err)
	s.ingester, err = ingest.New(ingest.Options{Store: s.store, History: past, Rollups: rollups, Limits: ingest.Limits{Behind: accept}, Arrived: func(a ingest.Arrival) {
		s.mu.Lock()
		s.arrivals = append(s.arrivals, a)
		s.mu.Unlock()
		s.engine.Arrived(a)
	}})
	must(err)
	told, err := settings.New(t.Context(), settings.Options{
		Store:   s.meta,
		Senders: func(cluster string) map[string]control.Sender { return s.hub.Senders(cluster) },
		Changed: func(cluster string) { s.hub.SettingsChanged(cluster) },
	})
	must(err)
	s.hub, err = control.New(control.Options{Accept: accept, History: 90 * 24 * time.Hour, Settings: told.Of})
	must(err)
	gate, err := apiingest.New(apiingest.Options{Metrics: s.ingester, Inventory: s.inventory, Control: s.hub})
	must(err)

	mux := http.NewServeMux()
	mux.HandleFunc(wire.PathMetrics, func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		before := s.before
		s.mu.Unlock()
		if before == nil || !before(w, r) {
			gate.ServeMetrics(w, r)
		}
	})
	mux.HandleFunc(wire.PathHistory, gate.ServeHistory)
	mux.HandleFunc(wire.PathInventory, gate.ServeInventory)
	mux.HandleFunc(wire.PathControl, gate.ServeControl)
	mux.HandleFunc(wire.PathOwners, gate.ServeOwners)
	promql, err := prometheus.New(prometheus.Options{Store: s.store})
	must(err)
	mux.Handle(prometheus.Prefix+"/", promql)
	settings.Register(humago.New(mux, huma.DefaultConfig("test", "1")), told)
	web := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who := access.Principal{Kind: access.IngestToken, Cluster: theCluster}
		if strings.HasPrefix(r.URL.Path, "/clusters/") || strings.HasPrefix(r.URL.Path, prometheus.Prefix+"/query") {
			who = access.Principal{Kind: access.APIToken, Name: "admin"}
		}
		mux.ServeHTTP(w, r.WithContext(access.With(r.Context(), who)))
	})}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for _, run := range []func(context.Context) error{s.engine.Run, rollups.Run, s.ingester.Run, s.inventory.Run, past.Run} {
		running.Go(func() {
			if err := run(ctx); err != nil {
				t.Errorf("run: %v", err)
			}
		})
	}
	running.Go(func() { _ = web.Serve(s.pipes) })
	return s, func() {
		s.pipes.sever()
		close(s.pipes.done)
		s.hub.Close()
		_ = web.Close()
		cancel()
		running.Wait()
		if err := errors.Join(past.Close(), s.inventory.Close(), s.meta.Close(), s.store.Close()); err != nil {
			t.Error(err)
		}
	}
}

// ask sends a request of the server's own API, and reads its answer into out.
func (s *server) ask(method, path string, in, out any) (status int) {
	s.t.Helper()
	raw, err := json.Marshal(in)
	if err != nil {
		s.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(s.t.Context(), method, "http://crowsnest"+path, bytes.NewReader(raw))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	client := &http.Client{Transport: &http.Transport{DialContext: s.pipes.dial, DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if out != nil {
		if err := json.NewDecoder(res.Body).Decode(out); err != nil {
			s.t.Fatal(err)
		}
	}
	return res.StatusCode
}

// answers asks the server's PromQL at every grid point from one to another, all at
// once and one by one, which must agree: the values by time and by the labels
// that the query leaves.
func (s *server) answers(query string, from, to time.Time) map[int64]map[string]float64 {
	s.t.Helper()
	type series struct {
		Metric map[string]string `json:"metric"`
		Value  [2]any            `json:"value"`
		Values [][2]any          `json:"values"`
	}
	ask := func(path string, form url.Values) []series {
		s.t.Helper()
		var out struct {
			Status, Error string
			Data          struct {
				Result []series `json:"result"`
			} `json:"data"`
		}
		if code := s.ask(http.MethodGet, prometheus.Prefix+path+"?"+form.Encode(), nil, &out); code != http.StatusOK || out.Status != "success" {
			s.t.Fatalf("%s: %d %s", query, code, out.Error)
		}
		return out.Data.Result
	}
	add := func(into map[int64]map[string]float64, of map[string]string, sample [2]any) {
		s.t.Helper()
		at, name := int64(sample[0].(float64)*1000), labels.FromMap(of).String()
		v, err := strconv.ParseFloat(sample[1].(string), 64)
		if err != nil {
			s.t.Fatal(err)
		}
		if _, twice := into[at][name]; twice {
			s.t.Errorf("%s answers twice for %s at %d", query, name, at)
		}
		if into[at] == nil {
			into[at] = map[string]float64{}
		}
		into[at][name] = v
	}
	whole, single := map[int64]map[string]float64{}, map[int64]map[string]float64{}
	for _, one := range ask("/query_range", url.Values{"query": {query}, "start": {stamp(from)}, "end": {stamp(to)}, "step": {fmt.Sprint(interval.Seconds())}}) {
		for _, sample := range one.Values {
			add(whole, one.Metric, sample)
		}
	}
	for at := from; !at.After(to); at = at.Add(interval) {
		for _, one := range ask("/query", url.Values{"query": {query}, "time": {stamp(at)}}) {
			add(single, one.Metric, one.Value)
		}
		if now := at.UnixMilli(); !maps.Equal(whole[now], single[now]) {
			s.t.Errorf("%s at %v is %v in the range, %v alone", query, at, whole[now], single[now])
		}
	}
	return whole
}

func stamp(t time.Time) string { return fmt.Sprint(t.Unix()) }

// policy stores one.
func (s *server) policy(spec string) {
	s.t.Helper()
	doc := "apiVersion: crowsnest.dev/v1\nkind: Policy\nmetadata: {name: p}\nspec:\n  " + strings.ReplaceAll(strings.TrimSpace(spec), "\n", "\n  ")
	p, err := policy.Parse([]byte(doc), policy.Known{})
	if err != nil {
		s.t.Fatal(err)
	}
	raw, err := json.Marshal(p.Spec)
	if err != nil {
		s.t.Fatal(err)
	}
	row := meta.Resource{ID: "pol_1", Kind: meta.KindPolicy, Project: "default", Name: "p", Revision: 1, Spec: raw, ManagedBy: "console", CreatedAt: time.Now(), UpdatedAt: time.Now()}
	if err := s.meta.Update(s.t.Context(), func(tx *meta.Tx) error { return tx.CreateResource(row) }); err != nil {
		s.t.Fatal(err)
	}
	s.engine.PoliciesChanged()
}

// incidents lists all that there ever were.
func (s *server) incidents() (out []meta.Incident) {
	s.t.Helper()
	err := s.meta.View(s.t.Context(), func(tx *meta.Tx) (err error) {
		out, err = tx.Incidents(meta.IncidentFilter{})
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// arrived gives what came since the n-th arrival.
func (s *server) arrived(n int) []ingest.Arrival {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.arrivals[n:])
}

// series gives all that is stored of a metric: the samples by time, stale
// markers as NaN, by the series' labels.
func (s *server) series(metric string) map[string]map[int64]float64 {
	s.t.Helper()
	q, err := s.store.Querier(math.MinInt64, math.MaxInt64)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = q.Close() }()
	set := q.Select(s.t.Context(), false, nil, labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, metric))
	out := map[string]map[int64]float64{}
	for set.Next() {
		one := map[int64]float64{}
		it := set.At().Iterator(nil)
		for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
			at, v := it.At()
			if _, twice := one[at]; twice {
				s.t.Errorf("%s has two samples at %d", set.At().Labels(), at)
			}
			if value.IsStaleNaN(v) {
				v = math.NaN()
			}
			one[at] = v
		}
		if it.Err() != nil {
			s.t.Fatal(it.Err())
		}
		out[set.At().Labels().String()] = one
	}
	if set.Err() != nil {
		s.t.Fatal(set.Err())
	}
	return out
}

// objects are a cluster that tests change, as state sources see it.
type objects struct {
	mu          sync.Mutex
	now         *state.Snapshot
	subscribers map[chan state.Change]struct{}
}

func newObjects() *objects {
	return &objects{subscribers: map[chan state.Change]struct{}{}, now: &state.Snapshot{
		Synced: true, Pods: map[string]*object.Pod{}, Nodes: map[string]*object.Node{}, Workloads: map[string]*object.Workload{}, Namespaces: map[string]*object.Namespace{},
	}}
}

// change puts and removes objects in one step.
func (o *objects) change(put []object.Object, gone ...object.Object) {
	o.mu.Lock()
	next := &state.Snapshot{Synced: true, Pods: map[string]*object.Pod{}, Nodes: map[string]*object.Node{}, Workloads: map[string]*object.Workload{}, Namespaces: o.now.Namespaces}
	for k, v := range o.now.Pods {
		next.Pods[k] = v
	}
	for k, v := range o.now.Nodes {
		next.Nodes[k] = v
	}
	for k, v := range o.now.Workloads {
		next.Workloads[k] = v
	}
	var changes []state.Change
	for _, g := range gone {
		changes = append(changes, state.Change{At: time.Now().UTC(), Before: g})
		delete(next.Pods, g.GetMeta().UID)
		delete(next.Workloads, g.GetMeta().UID)
	}
	for _, p := range put {
		ch := state.Change{At: time.Now().UTC(), Now: p}
		switch p := p.(type) {
		case *object.Pod:
			if old := next.Pods[p.UID]; old != nil {
				ch.Before = old
			}
			next.Pods[p.UID] = p
		case *object.Node:
			next.Nodes[p.Name] = p
		case *object.Workload:
			if old := next.Workloads[p.UID]; old != nil {
				ch.Before = old
			}
			next.Workloads[p.UID] = p
		}
		changes = append(changes, ch)
	}
	o.now = next
	subscribers := make([]chan state.Change, 0, len(o.subscribers))
	for c := range o.subscribers {
		subscribers = append(subscribers, c)
	}
	o.mu.Unlock()
	for _, c := range subscribers {
		for _, ch := range changes {
			c <- ch
		}
	}
}

func (o *objects) snapshot() *state.Snapshot { o.mu.Lock(); defer o.mu.Unlock(); return o.now }

// view is what one collector sees: all, or one node's pods.
type view struct {
	o    *objects
	node string
}

var _ state.Source = view{}

func (v view) Run(ctx context.Context) error  { <-ctx.Done(); return nil }
func (v view) Health() map[object.Kind]string { return nil }
func (v view) Snapshot() *state.Snapshot {
	all := v.o.snapshot()
	if v.node == "" {
		return all
	}
	mine := &state.Snapshot{Synced: true, Pods: map[string]*object.Pod{}, Nodes: map[string]*object.Node{}}
	for uid, p := range all.Pods {
		if p.Node == v.node {
			mine.Pods[uid] = p
		}
	}
	if n := all.Nodes[v.node]; n != nil {
		mine.Nodes[v.node] = n
	}
	return mine
}

func (v view) Changes(ctx context.Context, fn func(state.Change)) {
	c := make(chan state.Change, 10_000)
	v.o.mu.Lock()
	v.o.subscribers[c] = struct{}{}
	v.o.mu.Unlock()
	defer func() {
		v.o.mu.Lock()
		delete(v.o.subscribers, c)
		v.o.mu.Unlock()
	}()
	on := func(o object.Object) bool {
		p, ok := o.(*object.Pod)
		return ok && p.Node == v.node
	}
	for {
		select {
		case <-ctx.Done():
			return
		case ch := <-c:
			if v.node == "" || on(ch.Now) || on(ch.Before) {
				fn(ch)
			}
		}
	}
}

// kubelet reads the working set of a node's containers, which tell the time of
// the grid point that they were read for: whatever is stored at another time, or
// of another pod, shows.
type kubelet struct {
	node string
	now  func() time.Time // of its machine
}

func memoryOf(p *object.Pod, at time.Time) float64 {
	var base float64
	for _, c := range p.UID {
		base = base*31 + float64(c)
	}
	return math.Mod(base, 1000)*1e6 + float64(at.Unix()%100_000)
}

func (k kubelet) Name() string { return string(catalogue.CadvisorLabels) }
func (k kubelet) Read(_ context.Context, at time.Time, now *state.Snapshot) []reading.Set {
	set := reading.Set{Node: k.node, Source: catalogue.CadvisorLabels}
	for _, p := range now.Pods {
		for _, ct := range p.Containers {
			if ct.State == "running" {
				set.Containers = append(set.Containers, reading.Container{
					PodUID: p.UID, Namespace: p.Namespace, Pod: p.Name, Name: ct.Name, ID: ct.ID, StartedAt: ct.StartedAt,
					WorkingSetBytes: reading.Value{V: memoryOf(p, at), At: k.now()},
				})
			}
		}
	}
	return []reading.Set{set}
}

// running is one collector that runs.
type running struct {
	*collector.Collector
	dir  string
	stop func()
}

// collect starts a collector; clock is by how much its clock is ahead.
func (s *server) collect(role, node string, o *objects, dir string, clock time.Duration, change ...func(*collector.Options)) *running {
	s.t.Helper()
	now := func() time.Time { return time.Now().Add(clock) }
	client, err := push.NewClient(push.ClientOptions{
		Server: "http://crowsnest", Sender: wire.Sender(role, node), Now: now, Transport: &http.Transport{DialContext: s.pipes.dial},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	opts := collector.Options{Role: role, Node: node, Client: client, Interval: interval, QueueDir: dir, Now: now}
	opts.World.State = view{o, node}
	if role == wire.RoleNode {
		opts.World.Readings = []collector.Readings{kubelet{node, now}}
	}
	for _, fn := range change {
		fn(&opts)
	}
	c, err := collector.New(opts)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(s.t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	return &running{c, dir, func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Errorf("Run: %v", err)
		}
	}}
}

// image copies what a killed collector would leave on disk.
func (r *running) image(t *testing.T) (dir string) {
	t.Helper()
	synctest.Wait() // or files are renamed while they are copied, which no kill does
	dir = t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(r.dir)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// untilPast sleeps until so long past the next grid point.
func untilPast(d time.Duration) {
	now := time.Now()
	time.Sleep(now.Truncate(interval).Add(interval + d).Sub(now))
	synctest.Wait()
}

func aPod(uid, name, node, workload string) *object.Pod {
	return &object.Pod{
		Meta: object.Meta{UID: uid, Namespace: "shop", Name: name, CreatedAt: time.Now().UTC()}, Node: node,
		Workload: object.WorkloadRef{Type: "deployment", Name: workload}, Phase: object.PhaseRunning, Ready: true,
		Containers: []object.Container{{Name: "app", ID: "c-" + uid, State: "running", StartedAt: time.Now().UTC()}},
	}
}

func aNode(name string) *object.Node {
	return &object.Node{Meta: object.Meta{UID: "uid-" + name, Name: name}, Ready: true, Allocatable: object.Resources{CPUCores: 4, HasCPU: true, MemoryBytes: 8e9, HasMemory: true}}
}

func aWorkload(name string, replicas int) *object.Workload {
	return &object.Workload{Meta: object.Meta{UID: "uid-" + name, Namespace: "shop", Name: name}, Ref: object.WorkloadRef{Type: "deployment", Name: name}, Desired: replicas, Ready: replicas}
}

// only gives the one series of a map.
func only(t *testing.T, what string, all map[string]map[int64]float64, holds string) map[int64]float64 {
	t.Helper()
	var out map[int64]float64
	for name, s := range all {
		if strings.Contains(name, holds) {
			if out != nil {
				t.Fatalf("several series of %s hold %s", what, holds)
			}
			out = s
		}
	}
	if out == nil {
		t.Fatalf("no series of %s holds %s: %v", what, holds, fmt.Sprint(len(all)))
	}
	return out
}
