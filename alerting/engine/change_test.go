package engine

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
	"github.com/crowsnest-dev/crowsnest/storage/ingest"
	"github.com/crowsnest-dev/crowsnest/storage/inventory"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
	"github.com/crowsnest-dev/crowsnest/storage/rollup"
)

// ledger is a store of samples in memory.
type ledger struct {
	series  []*ledgerSeries
	byName  map[string]*ledgerSeries
	written []written // since somebody was told
	broken  bool
}

type written struct {
	of labels.Labels
	at time.Time
	v  float64
}

type ledgerSeries struct {
	labels  labels.Labels
	samples leanSamples
}

func (l *ledger) put(of labels.Labels, at time.Time, v float64) {
	name := of.String()
	s := l.byName[name]
	if s == nil {
		s = &ledgerSeries{labels: of}
		l.byName[name], l.series = s, append(l.series, s)
	}
	l.written = append(l.written, written{of, at, v})
	t := at.UnixMilli()
	i, found := slices.BinarySearchFunc(s.samples, t, func(x chunks.Sample, t int64) int { return cmp.Compare(x.T(), t) })
	if !found { // the first one stays
		s.samples = slices.Insert(s.samples, i, chunks.Sample(fleetSample{t, v}))
	}
}

func (l *ledger) Querier(mint, maxt int64) (storage.Querier, error) {
	if l.broken {
		return nil, errors.New("it is broken")
	}
	return &ledgerQuerier{l, mint, maxt}, nil
}

func (l *ledger) ReadOnly() error { return nil }

// Appender is of samples that were put before: of two at one time the first one stayed.
func (l *ledger) Appender(context.Context) storage.Appender { return ledgerAppender{l: l} }

type ledgerAppender struct {
	storage.Appender
	l *ledger
}

func (a ledgerAppender) Append(_ storage.SeriesRef, of labels.Labels, t int64, v float64) (storage.SeriesRef, error) {
	samples := a.l.byName[of.String()].samples
	i, found := slices.BinarySearchFunc(samples, t, func(x chunks.Sample, t int64) int { return cmp.Compare(x.T(), t) })
	if !found || math.Float64bits(samples[i].F()) != math.Float64bits(v) {
		return 0, storage.ErrDuplicateSampleForTimestamp
	}
	return 1, nil
}
func (ledgerAppender) Commit() error   { return nil }
func (ledgerAppender) Rollback() error { return nil }

type ledgerQuerier struct {
	l          *ledger
	mint, maxt int64
}

func (q *ledgerQuerier) Select(_ context.Context, _ bool, _ *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	out := &ledgerSet{i: -1}
	for _, s := range q.l.series {
		if slices.ContainsFunc(ms, func(m *labels.Matcher) bool { return !m.Matches(s.labels.Get(m.Name)) }) {
			continue
		}
		var in leanSamples
		for _, x := range s.samples {
			if x.T() >= q.mint && x.T() <= q.maxt {
				in = append(in, x)
			}
		}
		if len(in) > 0 {
			out.series = append(out.series, ledgerSeries{s.labels, in})
		}
	}
	return out
}

func (q *ledgerQuerier) LabelValues(context.Context, string, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, nil
}

func (q *ledgerQuerier) LabelNames(context.Context, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, nil
}
func (q *ledgerQuerier) Close() error { return nil }

type ledgerSet struct {
	series []ledgerSeries
	i      int
}

func (s *ledgerSet) Next() bool                        { s.i++; return s.i < len(s.series) }
func (s *ledgerSet) At() storage.Series                { return s }
func (s *ledgerSet) Err() error                        { return nil }
func (s *ledgerSet) Warnings() annotations.Annotations { return nil }
func (s *ledgerSet) Labels() labels.Labels             { return s.series[s.i].labels }
func (s *ledgerSet) Iterator(chunkenc.Iterator) chunkenc.Iterator {
	return storage.NewListSeriesIterator(s.series[s.i].samples)
}

// commotion is a cluster in which states change, two engines on it, one of which is told
// what, and all else that may happen to it.
type commotion struct {
	t       *testing.T
	random  *rand.Rand
	sender  string  // of all that is of the cluster: its collector, or one that is also its nodes'
	wild    float64 // how many of the policies are so
	now     time.Time
	grid    time.Time
	ledger  *ledger
	inv     *inventory.Store
	seq     uint64
	pods    []*object.Pod // nil: there is none of the place now
	nodes   []*object.Node
	values  map[string]float64 // by series
	ingest  *ingest.Ingester   // which tells what is odd
	watched *ingest.Watch
	arrived ingest.Arrival
	owed    owed
	calm    bool // nothing happens by chance
	gather  bool // what nodes send waits for that of all of them
	named   *Engine
	whole   *Engine
}

// owed is what is still to come of a point of the grid that comes in parts.
type owed struct {
	at     time.Time
	series []labels.Labels
	values []float64
}

const (
	podUnschedulable  = "k8s_pod_unschedulable"
	podWaiting        = "k8s_pod_waiting_reason"
	containerRestarts = "k8s_container_restart_total"
	nodeCondition     = "k8s_node_condition"
	clusterNodes      = "k8s_cluster_node_num"
)

func (w *commotion) one(of ...string) string { return of[w.random.IntN(len(of))] }

// spec is some policy, as a rule on what collectors that watch objects send.
func (w *commotion) spec() string {
	level := w.one("pod", "pod", "pod", "container", "node", "workload", "component", "cluster")
	metrics := map[string][]string{
		"pod": {catalogue.PodReady, catalogue.PodReady, catalogue.PodRestarts, podUnschedulable, catalogue.PodCPULimitPercent}, "container": {containerRestarts}, "node": {catalogue.NodeReady, catalogue.NodeCPUPercent},
		"workload": {"k8s_workload_replicas_ready", catalogue.WorkloadCPU}, "component": {catalogue.ComponentReady}, "cluster": {clusterNodes},
	}[level]
	wild := w.random.Float64() < w.wild
	if !wild { // it is about what its sender says of it, and hardly ever bad
		metrics = slices.DeleteFunc(metrics, func(name string) bool {
			m, _ := catalogue.Get(name)
			return m.Place != catalogue.ByCluster && !(w.sender == "all" && m.Place == catalogue.ByNode)
		})
	}
	var conditions []map[string]any
	for range 1 + w.random.IntN(2) {
		metric := w.one(metrics...)
		c := map[string]any{
			"metric": metric, "statistic": w.one("avg", "min", "max", "last", "last"), "period": w.one("30s", "1m", "2m"), "op": "<", "thresholds": map[string]any{w.one("warning", "critical"): w.one2(0.5, 1)},
			"need": 1, "of": 1 + w.random.IntN(2),
		}
		switch metric {
		case catalogue.PodRestarts, containerRestarts:
			c["statistic"], c["op"], c["thresholds"] = "increase", ">", map[string]any{"warning": float64(w.random.IntN(2))}
		case podUnschedulable:
			c["op"], c["thresholds"] = ">", map[string]any{"warning": w.one2(0, 0.5)}
		}
		if wild {
			c["op"], c["thresholds"] = w.one("<", "<=", ">", ">=", "==", "!="), map[string]any{w.one("warning", "critical"): w.one2(0, 0.5, 1)}
		}
		if wild && w.random.IntN(5) == 0 {
			c["change"] = map[string]any{"against": "1m", "as": "absolute"}
		}
		conditions = append(conditions, c)
	}
	if level == "pod" && w.random.IntN(6) == 0 { // one by a dimension that others lack
		conditions = append(conditions, map[string]any{
			"metric": podWaiting, "where": map[string]any{"reason": []string{w.one("Crash*", "Image*")}}, "statistic": "max", "period": "30s", "op": ">", "thresholds": map[string]any{"warning": 0.0}, "need": 1, "of": 1,
		})
	}
	objects := map[string]any{}
	switch w.random.IntN(7) {
	case 0:
		objects["namespaces"] = []string{"sh*"}
	case 1:
		objects["names"] = []string{"*" + w.one("1", "2", "3")}
	case 2:
		objects["selector"] = "tier=web"
	case 3:
		objects["selector"] = "tier"
		objects["exclude"] = map[string]any{"names": []string{"*" + w.one("4", "5")}}
	case 4:
		objects["workloads"] = []string{"deployment/cart-1"}
	case 5:
		objects["atLeast"] = 2 + w.random.IntN(3)
		objects["selector"] = "tier=web"
	}
	if level == "cluster" || level == "component" || level == "node" || level == "workload" {
		delete(objects, "namespaces")
		delete(objects, "workloads")
	}
	if level == "cluster" {
		objects = nil
	}
	spec := map[string]any{
		"level": level, "objects": objects, "conditions": conditions, "combine": w.one("all", "all", "any"), "recoverAfter": 1 + w.random.IntN(2), "minAge": w.one("0s", "0s", "1m"),
		"noData": map[string]any{"action": w.one("keep", "keep", "resolve", "alert"), "after": w.one("2m", "5m", "5m"), "severity": "warning"}, "group": map[string]any{"by": []string{w.one("policy", "pod")}, "interval": "5m"},
	}
	raw, err := json.Marshal(spec)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(raw)
}

func (w *commotion) one2(of ...float64) float64 { return of[w.random.IntN(len(of))] }

func newCommotion(t *testing.T, seed uint64, specs ...string) *commotion {
	w := &commotion{t: t, sender: []string{"cluster", "all"}[seed/8%2], random: rand.New(rand.NewPCG(seed, 9)), wild: []float64{0, 0, 0.05, 0.5}[seed%4], grid: epoch.Add(24 * time.Hour), ledger: &ledger{byName: map[string]*ledgerSeries{}}, values: map[string]float64{}}
	w.now = w.grid.Add(300 * time.Millisecond)
	var err error
	if w.inv, err = inventory.Open(inventory.Options{Path: filepath.Join(t.TempDir(), "inventory.db"), Now: w.clock}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.inv.Close() })
	for range []int{12, 2 * indexFrom}[seed/4%2] - len(specs) {
		specs = append(specs, w.spec())
	}
	engineFor := func() *Engine {
		e := engineOf(t, &fleet{}, w.clock, specs)
		e.opts.Queryable, e.opts.Inventory = w.ledger, w.inv
		return e
	}
	w.named, w.whole = engineFor(), engineFor()
	w.named.opts.Changed = w.inv.ChangedSince
	w.named.watch.Store(watchOf(w.named.policies))
	w.receive()
	first := &wire.InventoryBatch{Snapshot: true, Last: true, ClusterKind: "managed"}
	for i := range 3 {
		n := &object.Node{Meta: object.Meta{UID: fmt.Sprint("n", i), Name: fmt.Sprint("n-", i), Labels: w.tier(), CreatedAt: epoch}, Ready: true}
		w.nodes = append(w.nodes, n)
		first.Put(n)
		ref := object.WorkloadRef{Type: "deployment", Name: fmt.Sprint("cart-", i)}
		first.Put(&object.Workload{Meta: object.Meta{UID: "w" + ref.Name, Namespace: w.namespace(i), Name: ref.Name, Labels: w.tier(), CreatedAt: epoch}, Ref: ref, Desired: 3, Revision: "r1"})
	}
	for i := range 14 {
		p := w.pod(i, epoch)
		w.pods = append(w.pods, p)
		first.Put(p)
	}
	w.apply(first)
	return w
}

func (w *commotion) clock() time.Time { return w.now }

func (w *commotion) apply(b *wire.InventoryBatch) {
	w.seq++
	b.Session, b.Sequence, b.Time = "s", w.seq, w.now
	if err := w.inv.Apply(w.t.Context(), "prod-1", b); err != nil {
		w.t.Fatal(err)
	}
}

func (w *commotion) tier() map[string]string {
	return []map[string]string{nil, {"tier": "web"}, {"tier": "db"}}[w.random.IntN(3)]
}

func (w *commotion) namespace(i int) string { return []string{"shop", "pay"}[i%2] }

func (w *commotion) pod(i int, created time.Time) *object.Pod {
	return &object.Pod{
		Meta:     object.Meta{UID: fmt.Sprint("u", i, created.UnixMilli()), Namespace: w.namespace(i), Name: fmt.Sprint("cart-", i), CreatedAt: created, Labels: w.tier()},
		Node:     fmt.Sprint("n-", i%3),
		Workload: object.WorkloadRef{Type: "deployment", Name: fmt.Sprint("cart-", i%2)}, Phase: object.PhaseRunning, Ready: true, Limits: object.Resources{HasCPU: true, HasMemory: true},
		Containers: []object.Container{{Name: "app", State: "running"}, {Name: "side", State: "running"}},
	}
}

// all are the series that the sender of a place writes at a point of the grid.
func (w *commotion) all(place catalogue.Place, node string) (out []labels.Labels) {
	add := func(metric string, pairs ...string) {
		out = append(out, labels.FromStrings(append([]string{"__name__", metric, "cluster", "prod-1"}, pairs...)...))
	}
	for _, p := range w.pods {
		if p == nil || node != "" && p.Node != node {
			continue
		}
		of := []string{"namespace", p.Namespace, "workload_type", "deployment", "workload", p.Workload.Name, "pod", p.Name, "node", p.Node}
		if place == catalogue.ByNode {
			add(catalogue.PodCPULimitPercent, of...)
			continue
		}
		for _, metric := range []string{catalogue.PodReady, catalogue.PodRestarts, podUnschedulable} {
			add(metric, of...)
		}
		add(podWaiting, append(slices.Clone(of), "reason", "CrashLoopBackOff")...)
		for _, c := range p.Containers {
			add(containerRestarts, append(slices.Clone(of), "container", c.Name)...)
		}
	}
	if place == catalogue.ByNode {
		add(catalogue.NodeCPUPercent, "node", node)
		return out
	}
	for _, n := range w.nodes {
		add(catalogue.NodeReady, "node", n.Name)
		add(nodeCondition, "node", n.Name, "condition", "DiskPressure")
	}
	for i := range 3 {
		add("k8s_workload_replicas_ready", "namespace", w.namespace(i), "workload_type", "deployment", "workload", fmt.Sprint("cart-", i))
	}
	for _, c := range []string{"etcd", "scheduler"} {
		add(catalogue.ComponentReady, "component", c)
	}
	add(clusterNodes)
	return out
}

// sent are the series that the cluster's own sender writes.
func (w *commotion) sent() []labels.Labels {
	out := w.all(catalogue.ByCluster, "")
	if w.sender == "all" {
		for _, n := range w.nodes {
			out = append(out, w.all(catalogue.ByNode, n.Name)...)
		}
	}
	return out
}

// well is a series' value while nothing is wrong.
func (w *commotion) well(l labels.Labels) float64 {
	switch l.Get("__name__") {
	case podUnschedulable, podWaiting, nodeCondition:
		return 0
	case catalogue.PodRestarts, containerRestarts:
		return float64(len(l.Get("pod")) % 2) // some were restarted before
	}
	return 1
}

// level gives a series' value.
func (w *commotion) level(l labels.Labels) float64 {
	name := l.String()
	if _, ok := w.values[name]; !ok {
		w.values[name] = w.well(l)
	}
	return w.values[name]
}

// turn changes a series' value.
func (w *commotion) turn(l labels.Labels) {
	switch v := w.level(l); l.Get("__name__") {
	case catalogue.PodRestarts, containerRestarts:
		if w.values[l.String()] = v + 1; w.random.IntN(2) == 0 {
			w.values[l.String()] = 0 // another one of the name
		}
	default:
		w.values[l.String()] = 1 - v
	}
}

// receive begins to take samples in anew.
func (w *commotion) receive() {
	var err error
	if w.ingest, err = ingest.New(ingest.Options{Store: w.ledger, Now: w.clock, Watched: func() *ingest.Watch { return w.watched }, Arrived: func(a ingest.Arrival) { w.arrived = a }}); err != nil {
		w.t.Fatal(err)
	}
}

// write has what was written taken in, and completes an arrival by what is odd of it.
func (w *commotion) write(a *ingest.Arrival) {
	if len(w.ledger.written) == 0 {
		return
	}
	symbols, req := writev2.NewSymbolTable(), &writev2.Request{}
	for _, one := range w.ledger.written {
		req.Timeseries = append(req.Timeseries, writev2.TimeSeries{
			LabelsRefs: symbols.SymbolizeLabels(one.of, nil), Samples: []writev2.Sample{{Value: one.v, Timestamp: one.at.UnixMilli()}},
		})
	}
	req.Symbols = symbols.Symbols()
	body, err := req.Marshal()
	if err != nil {
		w.t.Fatal(err)
	}
	r, answer := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(snappy.Encode(nil, body))), httptest.NewRecorder()
	r.Header.Set("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request")
	r.Header.Set("Content-Encoding", "snappy")
	w.watched, w.arrived = a.Watch, ingest.Arrival{}
	if w.ingest.ServeWrite(answer, r, "prod-1"); answer.Code != http.StatusNoContent {
		w.t.Fatal(answer.Code, answer.Body)
	}
	a.Odd, a.OddUntil = w.arrived.Odd, w.arrived.OddUntil
	if w.arrived.Watch != a.Watch {
		w.t.Fatal("it is not told what is odd")
	}
}

// tell has an arrival judged by both engines, of which one does not hear its names.
func (w *commotion) tell(a ingest.Arrival) {
	a.Cluster, a.Interval = "prod-1", interval
	if a.ReceivedAt.IsZero() {
		a.ReceivedAt = w.now
	}
	if a.Watch = w.named.Watched(); !w.calm && w.random.IntN(80) == 0 {
		a.Watch = watchOf(w.named.policies) // it came as others were watched
	}
	w.write(&a)
	w.ledger.written = nil
	w.named.Arrived(a)
	a.Changed, a.Watch, a.Odd = nil, nil, nil
	w.whole.Arrived(a)
	if s, _ := scopeOf(a.Sender); !w.gather || s.whole() {
		w.judge()
	}
}

func (w *commotion) judge() {
	for _, e := range []*Engine{w.named, w.whole} {
		rounds, _, _ := e.next(w.now)
		slices.SortFunc(rounds, func(a, b round) int {
			return cmp.Or(cmp.Compare(a.trigger, b.trigger), cmp.Compare(a.source.sender, b.source.sender))
		})
		if w.gather && e == w.whole {
			for _, r := range rounds {
				e.evaluate(context.Background(), r)
			}
		} else {
			e.evaluateAll(context.Background(), rounds)
		}
		for _, s := range e.sources {
			s.changeTook = 0 // which is of the machine
		}
	}
}

// happens has one thing happen and says what.
func (w *commotion) happens() string {
	step := time.Duration(1001+w.random.IntN(6000)) * time.Millisecond
	if len(w.owed.series) > 0 {
		step /= 4 // parts come soon after one another, and what changes between them is not judged before the next step
	}
	w.now = w.now.Add(step)
	if next := w.grid.Add(interval); w.now.After(next) {
		w.grid = next
		w.now = next.Add(time.Duration(100+w.random.IntN(400)) * time.Millisecond)
		return w.tick()
	}
	if len(w.owed.series) > 0 && w.random.IntN(2) == 0 {
		return w.goOn()
	}
	series := w.sent()
	var turned []labels.Labels
	for _, l := range series {
		if v, ok := w.values[l.String()]; ok && v != w.well(l) && l.Get("__name__") != catalogue.PodRestarts && l.Get("__name__") != containerRestarts {
			turned = append(turned, l)
		}
	}
	some := func() (out []labels.Labels) {
		for range 1 + w.random.IntN(3) {
			from := series
			if len(turned) > 0 && w.random.IntN(5) < 3 {
				from = turned
			}
			if l := from[w.random.IntN(len(from))]; !slices.ContainsFunc(out, func(o labels.Labels) bool { return labels.Equal(o, l) }) {
				out = append(out, l)
			}
		}
		return out
	}
	alive := func() int {
		for {
			if i := w.random.IntN(len(w.pods)); w.pods[i] != nil {
				return i
			}
		}
	}
	write := func(of []labels.Labels, at time.Time) {
		for _, l := range of {
			w.turn(l)
			w.ledger.put(l, at, w.level(l))
		}
	}
	switch n := w.random.IntN(41); n {
	case 0: // the sender's clock is ahead
		of, at := some(), w.now.Add(time.Duration(w.random.IntN(40_000))*time.Millisecond)
		write(of, at)
		w.tell(ingest.Arrival{Sender: w.sender, Changed: of, Newest: at})
		return "ahead"
	case 1: // more than can be named
		of := some()
		write(of, w.now)
		w.tell(ingest.Arrival{Sender: w.sender, Newest: w.now})
		return "unnamed"
	case 2: // what waited in the sender's queue
		of, at := some(), w.now.Add(-time.Duration(w.random.IntN(90_000))*time.Millisecond)
		for _, l := range of {
			w.ledger.put(l, at, float64(w.random.IntN(2)))
		}
		w.tell(ingest.Arrival{Sender: w.sender, Backlog: true, Changed: of, Newest: at})
		return "backlog"
	case 3: // somebody else, who sends the same
		of := some()
		write(of, w.now)
		w.tell(ingest.Arrival{Sender: map[string]string{"cluster": "all", "all": "cluster"}[w.sender], Changed: of, Newest: w.now})
		return "another sender"
	case 4: // labels change, and no sample says so
		p := *w.pods[alive()]
		p.Labels = w.tier()
		w.replace(&p)
		return "labels of " + p.Name
	case 5: // one goes
		i := alive()
		p := w.pods[i]
		var of []labels.Labels
		for _, l := range series {
			if l.Get("pod") == p.Name && l.Get("namespace") == p.Namespace {
				w.ledger.put(l, w.now, math.Float64frombits(value.StaleNaN))
				delete(w.values, l.String())
				of = append(of, l)
			}
		}
		w.pods[i] = nil
		if slices.IndexFunc(w.pods, func(p *object.Pod) bool { return p != nil }) < 0 {
			w.pods[i] = p
			return "nothing"
		}
		b := &wire.InventoryBatch{Deleted: []wire.Deleted{{Key: object.KeyOf(p), UID: p.UID}}}
		w.apply(b)
		w.tell(ingest.Arrival{Sender: w.sender, Changed: of, Newest: w.now})
		return "gone " + p.Name
	case 6, 7: // one comes, or comes anew
		i := w.random.IntN(len(w.pods))
		w.pods[i] = w.pod(i, w.now)
		before := w.random.IntN(2) == 0 // samples come before the object, or after it
		if !before {
			w.replace(w.pods[i])
		}
		var of []labels.Labels
		for _, l := range w.sent() {
			if l.Get("pod") == w.pods[i].Name && l.Get("namespace") == w.pods[i].Namespace {
				of = append(of, l)
			}
		}
		write(of, w.now)
		w.tell(ingest.Arrival{Sender: w.sender, Changed: of, Newest: w.now})
		if before {
			w.replace(w.pods[i])
		}
		return "new " + w.pods[i].Name
	case 8: // an alert is ended by hand
		var keys []alertKey
		for key := range w.named.alerts {
			if !isCount(key.key) {
				keys = append(keys, key)
			}
		}
		if len(keys) == 0 {
			return "nothing"
		}
		slices.SortFunc(keys, func(a, b alertKey) int { return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
		key := keys[w.random.IntN(len(keys))]
		w.resolve(key)
		return "by hand"
	case 9: // samples cannot be read for a moment
		w.ledger.broken = true
		of := some()
		write(of, w.now)
		w.tell(ingest.Arrival{Sender: w.sender, Changed: of, Newest: w.now})
		w.ledger.broken = false
		return "broken"
	case 10:
		for _, e := range []*Engine{w.named, w.whole} {
			e.silence(context.Background(), w.now)
		}
		return "silence"
	case 11: // the server is killed
		w.named, w.whole = w.again(w.named), w.again(w.whole)
		w.named.watch.Store(watchOf(w.named.policies))
		w.receive()
		return "a kill"
	case 12: // somebody who is no collector
		of := some()
		write(of, w.now)
		w.tell(ingest.Arrival{Changed: of, Newest: w.now})
		return "a stranger"
	case 13:
		if w.gather && w.sender == "cluster" {
			return w.edit(w.pods[alive()])
		}
		return "nothing"
	default:
		of := some()
		write(of, w.now)
		w.tell(ingest.Arrival{Sender: w.sender, Changed: of, Newest: w.now})
		return fmt.Sprint("changed ", of)
	}
}

// edit has a policy come by which it is looked far back for a pod that fell silent an hour before.
// What is sent then is of nodes that were judged by it already, and of such as were not.
func (w *commotion) edit(silent *object.Pod) string {
	w.owed = owed{at: w.grid}
	point := func(after time.Duration, sends func(node string) bool) {
		w.grid = w.grid.Add(after)
		w.now = w.grid.Add(300 * time.Millisecond)
		for _, n := range w.nodes {
			if !sends(n.Name) {
				continue
			}
			for _, l := range w.all(catalogue.ByNode, n.Name) {
				if l.Get("pod") != silent.Name {
					w.ledger.put(l, w.grid, 1)
				}
			}
			w.tell(ingest.Arrival{Sender: "node/" + n.Name, Through: w.grid})
		}
		w.judge()
	}
	all := func(string) bool { return true }
	for range 6 {
		point(10*time.Minute, all)
	}
	i := w.random.IntN(len(w.named.policies))
	spec := fmt.Sprintf(`{"level":"pod","conditions":[{"metric":%q,"statistic":"last","period":"30s","op":"<","thresholds":{"warning":%g},"need":1,"of":1}],"recoverAfter":1,"noData":{"action":%q,"after":"5m","severity":"warning"},"group":{"interval":"5m"}}`,
		catalogue.PodCPULimitPercent, w.one2(0.5, 1), w.one("alert", "alert", "keep"))
	for _, e := range []*Engine{w.named, w.whole} {
		before := e.policies[i].ref
		c, err := compile(meta.Resource{ID: before.ID, Kind: meta.KindPolicy, Project: before.Project, Name: before.Name, Revision: before.Revision + 1, Spec: []byte(spec)})
		if err != nil {
			w.t.Fatal(err)
		}
		e.generation++
		c.generation, e.byID[before.ID], e.policies = e.generation, c, slices.Clone(e.policies)
		e.policies[i] = c
		clear(e.rests)
		for _, r := range e.rosters {
			r.forget(e.policies)
		}
		e.orphans(w.t.Context(), w.now)
	}
	w.named.watch.Store(watchOf(w.named.policies))
	point(interval, func(node string) bool { return node != silent.Node })
	point(interval, all)
	return "an edit, of " + silent.Name + " nothing came"
}

// resolve ends an alert by hand.
func (w *commotion) resolve(key alertKey) {
	for _, e := range []*Engine{w.named, w.whole} {
		id, done := e.alerts[key].IncidentID, make(chan error, 1)
		go func() { done <- e.Resolve(context.Background(), id, "somebody", "") }()
		c := <-e.calls // as Run does
		c.done <- e.act(context.Background(), c)
		if err := <-done; err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *commotion) replace(p *object.Pod) {
	for i, old := range w.pods {
		if old != nil && old.Name == p.Name && old.Namespace == p.Namespace {
			w.pods[i] = p
		}
	}
	b := &wire.InventoryBatch{}
	b.Put(p)
	w.apply(b)
}

// tick is a point of the grid.
func (w *commotion) tick() string {
	silent := w.random.IntN(4) == 0
	for _, n := range w.nodes {
		if w.sender == "all" || w.random.IntN(10) == 0 {
			continue
		}
		for _, l := range w.all(catalogue.ByNode, n.Name) {
			w.ledger.put(l, w.grid, float64(w.random.IntN(2)*w.random.IntN(2)))
		}
		w.tell(ingest.Arrival{Sender: "node/" + n.Name, Through: w.grid})
	}
	w.judge()
	if silent {
		return "a sender is silent"
	}
	if w.random.IntN(3) == 0 { // of the one before the rest never comes, if it did not yet
		w.owed = owed{at: w.grid}
	}
	inParts := w.owed.at.Equal(w.grid)
	for _, l := range w.sent() {
		if inParts && w.random.IntN(20) == 0 { // and no change says so
			w.turn(l)
		}
		switch {
		case w.random.IntN(12) == 0:
		case inParts && w.random.IntN(3) > 0:
			w.owed.series, w.owed.values = append(w.owed.series, l), append(w.owed.values, w.level(l))
		default:
			w.ledger.put(l, w.grid, w.level(l))
		}
	}
	if inParts {
		w.tell(ingest.Arrival{Sender: w.sender, Part: true, Newest: w.grid})
		return "the first part"
	}
	through := w.grid
	if w.random.IntN(15) == 0 {
		through = through.Add(-5 * interval) // as if all of it came late
	}
	w.ledger.broken = w.random.IntN(15) == 0
	w.tell(ingest.Arrival{Sender: w.sender, Through: through})
	w.ledger.broken = false
	for i := range 3 {
		w.ledger.put(labels.FromStrings("__name__", catalogue.WorkloadCPU, "cluster", "prod-1", "namespace", w.namespace(i), "workload_type", "deployment", "workload", fmt.Sprint("cart-", i)), w.grid, float64(w.random.IntN(2)))
	}
	coverage := w.one2(1, 1, 0.5)
	w.ledger.put(labels.FromStrings("__name__", rollup.CoverageRatio, "cluster", "prod-1"), w.grid, coverage)
	for _, e := range []*Engine{w.named, w.whole} {
		e.RolledUp(rollup.Written{Cluster: "prod-1", At: w.grid, Coverage: coverage})
	}
	w.ledger.written = nil // by the server
	w.judge()
	return "tick"
}

// goOn has more come of what is owed.
func (w *commotion) goOn() string {
	n, a, what := len(w.owed.series), ingest.Arrival{Sender: w.sender, Through: w.owed.at}, "the last part"
	switch w.random.IntN(6) {
	case 0: // what had no answer comes again
		n, a, what = 0, ingest.Arrival{Sender: w.sender, Part: true, Newest: w.owed.at}, "a part again"
	case 1, 2, 3:
		n, a, what = w.random.IntN(n), ingest.Arrival{Sender: w.sender, Part: true, Newest: w.owed.at}, "a part"
	}
	for i, l := range w.owed.series[:n] {
		w.ledger.put(l, w.owed.at, w.owed.values[i])
	}
	w.owed.series, w.owed.values = w.owed.series[n:], w.owed.values[n:]
	w.tell(a)
	return what
}

// again is an engine as it is after a kill: it knows what is stored.
func (w *commotion) again(old *Engine) *Engine {
	e, err := New(old.opts)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := e.restore(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	// Of these the database has none.
	e.policies, e.generation, e.byID, e.clusters, e.born, e.loadedAt = old.policies, old.generation, old.byID, old.clusters, w.now, w.now
	return e
}

// told is all that an engine knows of what fires, fired or may.
func (w *commotion) knows(e *Engine) (out []string) {
	text := func(a incident.Alert) string {
		a.ID, a.IncidentID = "", "" // random
		raw, err := json.Marshal(a)
		if err != nil {
			w.t.Fatal(err)
		}
		return string(raw)
	}
	for key, a := range e.alerts {
		out = append(out, fmt.Sprintf("%v fires: %s", key, text(*a)))
	}
	for key, at := range e.ended {
		out = append(out, fmt.Sprintf("%v ended %s", key, at))
	}
	for key, at := range e.changes {
		out = append(out, fmt.Sprintf("%v changed %s", key, at))
	}
	for key := range e.muzzled {
		out = append(out, fmt.Sprintf("%v is held", key))
	}
	for key, at := range e.few {
		out = append(out, fmt.Sprintf("%v are few since %s", key, at))
	}
	for key, done := range e.view.done {
		out = append(out, fmt.Sprintf("%v: %s %v", key, done.at, done.err))
	}
	slices.Sort(out)
	return out
}

// An engine that is told what changed, and what is odd, knows after each round what one does
// that judges everything at the same times, whatever the policies are and whatever happens.
func TestChangesByNameAreJudgedAsAllAre(t *testing.T) { changesAreJudgedAlike(t, false) }

// What several nodes sent is judged together as it is one by one.
func TestNodesAreJudgedTogetherAsEachIs(t *testing.T) { changesAreJudgedAlike(t, true) }

func changesAreJudgedAlike(t *testing.T, gather bool) {
	fired, spared, between, points := 0, 0, 0, 0
	for seed := range uint64(16) {
		w := newCommotion(t, seed)
		w.gather = gather
		judged := func(e *Engine) float64 { return testutil.ToFloat64(e.metrics.judged) }
		for n := range whileRacing(20, 100) {
			before, beforeWhole := judged(w.named), judged(w.whole)
			rounds := func() float64 { return testutil.ToFloat64(w.named.metrics.rounds.WithLabelValues(triggerChange)) }
			waited, judgedBetween := len(w.named.queue.parts) > 0, rounds()
			what := w.happens()
			if waited && what != "a kill" && rounds() > judgedBetween {
				between++
			}
			named, whole := w.knows(w.named), w.knows(w.whole)
			if !slices.Equal(named, whole) {
				for _, line := range named {
					if !slices.Contains(whole, line) {
						t.Errorf("told: %s", line)
					}
				}
				for _, line := range whole {
					if !slices.Contains(named, line) {
						t.Errorf("all:  %s", line)
					}
				}
				t.Fatalf("seed %d, %d: %s", seed, n, what)
			}
			fired += len(w.named.alerts)
			if judged(w.named)-before < judged(w.whole)-beforeWhole {
				spared++
				if what == "tick" || what == "the last part" {
					points++
				}
			}
		}
	}
	if !racing && (fired < 1000 || spared < 100 || between < 5 || points < 15) {
		t.Errorf("%d alerts fired, summed over all steps, in %d steps less was judged, %d of them points of the grid, and %d times changes waited no longer for the rest of an interval: that is no test", fired, spared, points, between)
	}
}

// An object that comes to be selected is judged with the next changes, though nobody
// looked at it before and they are not its own.
func TestWhatComesToBeSelectedIsJudgedWithChanges(t *testing.T) {
	var specs []string
	for range 2 * indexFrom { // among so many, nobody looks at what is not selected
		specs = append(specs, `{"level":"pod","objects":{"selector":"watched"},"conditions":[{"metric":"k8s_pod_status_ready","statistic":"last","period":"30s","op":"<","thresholds":{"warning":1},"need":1,"of":1}],"recoverAfter":1,"noData":{"action":"keep","after":"5m","severity":"warning"},"group":{"interval":"5m"}}`)
	}
	w := newCommotion(t, 4, specs...)
	series := w.all(catalogue.ByCluster, "")
	bad := slices.IndexFunc(series, func(l labels.Labels) bool { return l.Get("__name__") == catalogue.PodReady })
	w.turn(series[bad])
	for _, l := range series {
		w.ledger.put(l, w.grid, w.level(l))
	}
	w.tell(ingest.Arrival{Sender: "cluster", Through: w.grid})
	p := *w.pods[0]
	if len(w.named.alerts) > 0 || p.Name != series[bad].Get("pod") {
		t.Fatalf("%d fire, and %s is bad", len(w.named.alerts), series[bad])
	}
	p.Labels = map[string]string{"watched": "yes"}
	w.replace(&p)
	other := series[len(series)-1]
	w.now = w.now.Add(2 * time.Second)
	w.ledger.put(other, w.now, w.level(other))
	w.tell(ingest.Arrival{Sender: "cluster", Changed: []labels.Labels{other}, Newest: w.now})
	if len(w.named.alerts) != len(specs) || len(w.whole.alerts) != len(specs) {
		t.Errorf("%d fire, %d by the engine that judges everything; want %d", len(w.named.alerts), len(w.whole.alerts), len(specs))
	}
}

// So is one at a point of the grid of which nothing odd came: what is bad came before.
func TestWhatComesToBeSelectedIsJudgedAtTheNextPoint(t *testing.T) {
	var specs []string
	for range 2 * indexFrom {
		specs = append(specs, `{"level":"pod","objects":{"selector":"watched"},"conditions":[{"metric":"k8s_pod_rate_cpu_core_used_limit","statistic":"min","period":"2m","op":"<","thresholds":{"warning":1},"need":1,"of":1}],"recoverAfter":1,"noData":{"action":"keep","after":"5m","severity":"warning"},"group":{"interval":"5m"}}`)
	}
	w := newCommotion(t, 12, specs...)
	series := w.sent()
	bad := slices.IndexFunc(series, func(l labels.Labels) bool { return l.Get("__name__") == catalogue.PodCPULimitPercent })
	p := *w.pods[slices.IndexFunc(w.pods, func(p *object.Pod) bool { return p.Name == series[bad].Get("pod") })]
	judged := func() float64 { return testutil.ToFloat64(w.named.metrics.judged) }
	for n := range 3 {
		w.grid, w.now = w.grid.Add(interval), w.now.Add(interval)
		for i, l := range series {
			v := 1.0
			if i == bad && n == 0 {
				v = 0
			}
			w.ledger.put(l, w.grid, v)
		}
		if n == 2 {
			p.Labels = map[string]string{"watched": "yes"}
			w.replace(&p)
		}
		before := judged()
		w.tell(ingest.Arrival{Sender: w.sender, Through: w.grid})
		if want := len(specs) * (n / 2); len(w.named.alerts) != want || len(w.whole.alerts) != want {
			t.Fatalf("%d fire, %d by the engine that judges everything; want %d", len(w.named.alerts), len(w.whole.alerts), want)
		}
		if n == 1 && judged() != before {
			t.Errorf("of what is not selected and not odd %g were judged", judged()-before)
		}
	}
}

// A point of the grid is judged whole after so long, and where too much is odd, of which
// metric or at all; otherwise only what is odd is read.
func TestPointsOfTheGridAreJudgedByWhatIsOdd(t *testing.T) {
	var specs []string
	for range 12 {
		specs = append(specs, `{"level":"pod","conditions":[{"metric":"k8s_pod_rate_cpu_core_used_limit","statistic":"last","period":"30s","op":"<","thresholds":{"warning":1},"need":1,"of":1}],"recoverAfter":1,"noData":{"action":"keep","after":"5m","severity":"warning"},"group":{"interval":"5m"}}`)
	}
	w := newCommotion(t, 8, specs...)
	of := func() few {
		r := round{source: sourceKey{"prod-1", "all"}, trigger: triggerInterval, at: w.grid, interval: interval, received: w.now}
		s, _ := scopeOf("all")
		about, _ := w.named.fewOf(r, s, w.named.court(r, s, w.named.policies), w.named.policies)
		return about
	}
	point := func() {
		w.grid, w.now = w.grid.Add(interval), w.now.Add(interval)
		for _, l := range w.sent() {
			w.ledger.put(l, w.grid, 1)
		}
	}
	whole := 0
	for range 30 {
		point()
		w.tell(ingest.Arrival{Sender: "all", Through: w.grid})
		if w.named.rests["prod-1"][restKey{"all", true}].until.Equal(w.grid.Add(wholeEvery)) {
			whole++
		}
	}
	if whole != 3 {
		t.Errorf("30 points, %d of which were judged whole", whole)
	}
	key := sourceKey{"prod-1", "all"}
	hear := func(odd ...string) {
		n := news{watch: w.named.Watched(), newest: w.grid.UnixMilli()}
		for _, root := range odd {
			n.odd.add(catalogue.PodCPULimitPercent, root, w.grid.UnixMilli())
		}
		w.named.hear(key, n)
	}
	point()
	hear("shop/cart-2")
	if about := of(); about == nil || len(about[catalogue.PodCPULimitPercent]) != 1 || !about[catalogue.PodCPULimitPercent]["shop/cart-2"] {
		t.Errorf("it is about %v", about)
	}
	var many []string
	for i := range maxFew + 1 {
		many = append(many, fmt.Sprint("shop/other-", i))
	}
	hear(many...)
	about := of()
	if _, some := about[catalogue.PodCPULimitPercent]; about == nil || some {
		t.Errorf("of a metric of which too much is odd it is about %d", len(about[catalogue.PodCPULimitPercent]))
	}
	w.named.news[key].judged(round{trigger: triggerInterval, at: w.grid})
	if n := w.named.news[key]; len(n.odd.roots)+len(n.odd.many) > 0 {
		t.Error("what is judged is still news")
	}
	w.named.strange(ingest.Arrival{Cluster: "prod-1", Watch: w.named.Watched()}, w.now, w.named.Watched())
	w.named.next(w.now)
	if of() == nil {
		t.Error("a stranger who wrote nothing odd has everything judged")
	}
	w.named.strange(ingest.Arrival{Cluster: "prod-1", Watch: w.named.Watched(), Odd: w.sent()[:1]}, w.now, w.named.Watched())
	w.named.next(w.now)
	if of() != nil || w.named.news[key].untold == 0 {
		t.Error("what a stranger wrote is not looked for, or with changes")
	}
}

// calmFor is a cluster in which happens what a test says, and some policies alone. Its own
// sender is the cluster's, or that of all.
func calmFor(t *testing.T, sender string, specs ...string) *commotion {
	w := newCommotion(t, map[string]uint64{"cluster": 0, "all": 8}[sender], specs...)
	w.calm, w.named.policies, w.whole.policies = true, w.named.policies[:len(specs)], w.whole.policies[:len(specs)]
	w.named.watch.Store(watchOf(w.named.policies))
	return w
}

// point is one of the grid, at which a value of the series of some is 1, or what somebody
// says; false: there is none.
func (w *commotion) point(of []labels.Labels, value func(i int) (v float64, ok bool)) {
	w.grid, w.now = w.grid.Add(interval), w.now.Add(interval)
	for i, l := range of {
		if v, ok := value(i); ok {
			w.ledger.put(l, w.grid, v)
		}
	}
	w.tell(ingest.Arrival{Sender: w.sender, Through: w.grid})
}

// same fails where an engine knows something else than the one that judges everything.
func (w *commotion) same(what string, of ...any) {
	w.t.Helper()
	if named, whole := w.knows(w.named), w.knows(w.whole); !slices.Equal(named, whole) {
		w.t.Fatalf("%s: it knows %q, and the one that judges everything %q", fmt.Sprintf(what, of...), named, whole)
	}
}

// rests tells whether the next point of the grid is judged by what is odd, as far as what
// went before lets it.
func (w *commotion) rests() bool {
	r := round{source: sourceKey{"prod-1", w.sender}, trigger: triggerInterval, at: w.grid.Add(interval), interval: interval, received: w.now}
	s, _ := scopeOf(w.sender)
	about, _ := w.named.fewOf(r, s, w.named.court(r, s, w.named.policies), w.named.policies)
	return about != nil
}

func (w *commotion) series(metric string) (out []labels.Labels) {
	for _, l := range w.sent() {
		if l.Get("__name__") == metric {
			out = append(out, l)
		}
	}
	return out
}

// specOf is a policy on a metric of pods or containers.
func specOf(level, metric, rest string) string {
	return fmt.Sprintf(`{"level":%q,"conditions":[{"metric":%q,%s,"group":{"interval":"5m"}}`, level, metric, rest)
}

const keepNoData = `"noData":{"action":"keep","after":"5m","severity":"warning"}`

// A counter that began anew rises though it comes to what it was told with last: after it
// had been 0 for so long that its object was settled.
func TestCounterThatComesBackToWhatItWas(t *testing.T) {
	spec := specOf("container", "k8s_container_oom_kill_total", `"statistic":"increase","period":"5m","op":">","thresholds":{"warning":0},"need":1,"of":1}],"recoverAfter":1,`+keepNoData)
	for zeros := 31; zeros < 42; zeros++ { // each ends at another of the points between two that are judged whole
		w := calmFor(t, "all", spec)
		p := w.pods[0]
		of := labels.FromStrings("__name__", "k8s_container_oom_kill_total", "cluster", "prod-1", "namespace", p.Namespace, "workload_type", "deployment", "workload", p.Workload.Name, "pod", p.Name, "container", "app", "node", p.Node)
		for n := range 14 + zeros + 12 {
			w.point([]labels.Labels{of}, func(int) (float64, bool) { return map[bool]float64{true: 0, false: 1}[n >= 14 && n < 14+zeros], true })
			if w.same("%d zeros, point %d", zeros, n); (len(w.whole.alerts) > 0) != (n >= 14+zeros && n < 14+zeros+10) {
				t.Fatalf("%d zeros, point %d: %d fire", zeros, n, len(w.whole.alerts))
			}
		}
	}
}

// What falls silent just before everything was judged, or after it, is found at its time.
func TestSilenceIsFoundAtItsTime(t *testing.T) {
	spec := func(after string) string {
		return specOf("pod", catalogue.PodReady, `"statistic":"last","period":"30s","op":"<","thresholds":{"warning":1},"need":1,"of":1}],"recoverAfter":1,"noData":{"action":"alert","after":"`+after+`","severity":"warning"}`)
	}
	for name, specs := range map[string][]string{"1m": {spec("1m")}, "5m": {spec("5m")}, "both": {spec("1m"), spec("5m")}} {
		t.Run(name, func(t *testing.T) {
			w := calmFor(t, "all", specs...)
			of := w.series(catalogue.PodReady)
			for n := range 3 + len(of) + 16 { // 8 min after the last one
				w.point(of, func(i int) (float64, bool) { return 1, i == 0 || n < 3+i })
				w.same("point %d", n)
			}
			if want := (len(of) - 1) * len(specs); len(w.whole.alerts) != want {
				t.Errorf("%d fire of %d that are silent", len(w.whole.alerts), want)
			}
		})
	}
}

// After a backlog the next point of the grid is judged whole, and what it brought is found
// though it is not odd by itself.
func TestBacklogIsJudgedWhole(t *testing.T) {
	w := calmFor(t, "all", specOf("pod", catalogue.PodRestarts, `"statistic":"increase","period":"5m","op":">","thresholds":{"warning":0},"need":1,"of":1}],"recoverAfter":1,`+keepNoData))
	of := w.series(catalogue.PodRestarts)
	good := func(int) (float64, bool) { return 6, true }
	for range 14 {
		w.point(of, good)
	}
	if !w.rests() || len(w.whole.alerts) > 0 {
		t.Fatalf("it does not rest, or %d fire: that is no test", len(w.whole.alerts))
	}
	at := w.grid.Add(-interval - interval/2)
	w.ledger.put(of[0], at, 0)
	w.now = w.now.Add(time.Second)
	w.tell(ingest.Arrival{Sender: w.sender, Backlog: true, Changed: of[:1], Newest: at})
	if w.named.next(w.now); w.rests() {
		t.Error("the next point is not judged whole")
	}
	w.point(of, good)
	if w.same("the next point"); len(w.named.alerts) != 1 {
		t.Errorf("%d fire", len(w.named.alerts))
	}
}

// Where all was to be judged and could not be, it is with the next point.
func TestWhatCouldNotBeJudgedWholeIsWithTheNext(t *testing.T) {
	w := calmFor(t, "all", specOf("pod", catalogue.PodReady, `"statistic":"last","period":"30s","op":"<","thresholds":{"warning":1},"need":1,"of":1}],"recoverAfter":1,`+keepNoData))
	of := w.series(catalogue.PodReady)
	good := func(int) (float64, bool) { return 1, true }
	for range 3 {
		w.point(of, good)
	}
	key := sourceKey{"prod-1", w.sender}
	w.named.hear(key, news{watch: w.named.Watched(), newest: w.grid.UnixMilli(), unknown: w.grid.UnixMilli()})
	w.ledger.broken = true
	w.point(of, good)
	w.ledger.broken = false
	w.named.news[key].judged(round{trigger: triggerInterval, at: w.grid}) // whatever the news are
	if w.rests() {
		t.Error("it rests on what was judged before")
	}
}

// A second sender of the same may write what only the first one's point finds.
func TestSecondSenderEndsTheRestOfTheGrid(t *testing.T) {
	w := calmFor(t, "cluster", specOf("pod", catalogue.PodReady, `"statistic":"min","period":"2m","op":"<","thresholds":{"warning":1},"need":1,"of":1}],"recoverAfter":1,`+keepNoData))
	of := w.series(catalogue.PodReady)
	good := func(int) (float64, bool) { return 1, true }
	for range 6 {
		w.point(of, good)
	}
	if !w.rests() {
		t.Fatal("it does not rest: that is no test")
	}
	w.now = w.now.Add(interval / 3)
	at := w.grid.Add(interval / 3)
	w.ledger.put(of[0], at.Add(2*time.Second), 0) // its clock is ahead: its own round does not find it
	w.tell(ingest.Arrival{Sender: "all", Through: at})
	if w.same("its own point"); len(w.named.alerts) > 0 {
		t.Fatal("its own round finds it: that is no test")
	}
	w.now = w.now.Add(-interval / 3)
	w.point(of, good)
	if w.same("the next point"); len(w.named.alerts) != 1 {
		t.Errorf("%d fire", len(w.named.alerts))
	}
}

// What was ended by hand and is good again may fire again, though nothing odd comes of it and
// it was silent for so long that it is not restless.
func TestWhatIsRememberedIsJudgedAtEachPoint(t *testing.T) {
	spec := specOf("pod", catalogue.PodReady, `"statistic":"last","period":"30s","op":"<","thresholds":{"warning":1},"need":1,"of":1}],"recoverAfter":1,`+keepNoData)
	for silent := 40; silent < 51; silent++ { // each ends at another of the points between two that are judged whole
		w := calmFor(t, "all", spec)
		of := w.series(catalogue.PodReady)
		for n := range silent + 4 {
			w.point(of, func(i int) (float64, bool) {
				return map[bool]float64{true: 0, false: 1}[i == 0 && (n == 1 || n == silent+3)], i != 0 || n < 2 || n >= silent+2
			})
			if w.same("silent for %d, point %d", silent, n); n == 1 {
				for key := range w.named.alerts {
					w.resolve(key)
				}
			}
		}
		if len(w.named.alerts) != 1 {
			t.Errorf("silent for %d: %d fire at last", silent, len(w.named.alerts))
		}
	}
}

// Metrics that policies have together, each with some other, are one group.
func TestMetricsAreGroupedByPolicies(t *testing.T) {
	var policies []*compiled
	for _, of := range [][]string{{"a", "b"}, {"c"}, {"d", "e"}, {"b", "e"}, {"f", "f"}} {
		c := &compiled{}
		for _, name := range of {
			c.conditions = append(c.conditions, condition{&policy.Condition{Metric: name}, catalogue.Metric{Name: name}})
		}
		policies = append(policies, c)
	}
	groups := grouped(policies)
	for name, g := range groups {
		for other, h := range groups {
			together := name == other || name != "c" && name != "f" && other != "c" && other != "f"
			if (g == h) != together {
				t.Errorf("%s and %s: %t, want %t", name, other, g == h, together)
			}
		}
	}
	if len(groups) != 6 {
		t.Errorf("%d metrics are grouped", len(groups))
	}
}

// What was judged does not rest any more when policies or what they are about are others.
func TestOtherPoliciesAreJudgedWhole(t *testing.T) {
	w := newCommotion(t, 0)
	w.tick()
	w.named.rests["prod-1"] = map[restKey]*rest{{sender: "cluster"}: {}}
	if err := w.named.load(t.Context(), w.now); err != nil { // the database has none
		t.Fatal(err)
	}
	if len(w.named.rests) > 0 {
		t.Error("it still rests")
	}
	w.named.rests["prod-1"] = map[restKey]*rest{{sender: "cluster"}: {}}
	if err := w.named.load(t.Context(), w.now); err != nil {
		t.Fatal(err)
	}
	if len(w.named.rests) == 0 {
		t.Error("nothing changed, and it does not rest any more")
	}
}

// What a sender left to its rounds for changes does not hold once somebody else sends the
// same, what it sent could not be judged, or it is long ago.
func TestRestEnds(t *testing.T) {
	for name, end := range map[string]func(w *commotion){
		"another sender": func(w *commotion) { w.named.hear(sourceKey{"prod-1", "all"}, news{untold: w.now.UnixMilli()}) },
		"unnamed":        func(w *commotion) { w.named.hear(sourceKey{"prod-1", "cluster"}, news{untold: w.now.UnixMilli()}) },
		"long ago":       func(w *commotion) { w.now = w.now.Add(2*interval + time.Second) },
		"the clock is set": func(w *commotion) {
			w.named.watchClock(t.Context(), w.now)
			w.named.watchClock(t.Context(), w.now.Add(time.Hour))
		},
		"nothing": func(*commotion) {},
	} {
		w := newCommotion(t, 0)
		if name == "the clock is set" {
			w.named.opts.Monotonic = func() time.Duration { return 0 }
		}
		for _, l := range w.all(catalogue.ByCluster, "") {
			w.ledger.put(l, w.grid, 1)
		}
		w.tell(ingest.Arrival{Sender: "cluster", Through: w.grid})
		w.now = w.now.Add(time.Second)
		w.named.hear(sourceKey{"prod-1", "cluster"}, news{})
		end(w)
		r := round{source: sourceKey{"prod-1", "cluster"}, trigger: triggerChange, at: w.now, interval: interval, received: w.now}
		s, _ := scopeOf("cluster")
		if about, _ := w.named.fewOf(r, s, w.named.court(r, s, w.named.policies), w.named.policies); (about != nil) != (name == "nothing") {
			t.Errorf("%s: it is about some only: %t", name, about != nil)
		}
	}
}

// Of a policy by which nothing rests the metric is read whole, and that of others is not.
func TestWhatNeverRestsIsReadWhole(t *testing.T) {
	spec := func(level, more, metric string) string {
		return fmt.Sprintf(`{"level":%q,"conditions":[%s],"recoverAfter":1,"noData":{"action":"keep","after":"5m","severity":"warning"},"group":{"interval":"5m"}}`, level, fmt.Sprintf(
			`{"metric":%q,"statistic":"last","period":"30s","op":"<","thresholds":{"warning":1},"need":1,"of":1%s}`, metric, more))
	}
	specs := []string{spec("pod", `,"change":{"against":"1h","as":"absolute"}`, catalogue.PodReady), spec("component", "", catalogue.ComponentReady)}
	for len(specs) < 12 {
		specs = append(specs, spec("component", "", catalogue.ComponentReady))
	}
	w := newCommotion(t, 0, specs...)
	w.tell(ingest.Arrival{Sender: "cluster", Through: w.grid})
	w.now = w.now.Add(time.Second)
	w.named.hear(sourceKey{"prod-1", "cluster"}, news{})
	r := round{source: sourceKey{"prod-1", "cluster"}, trigger: triggerChange, at: w.now, interval: interval, received: w.now}
	s, _ := scopeOf("cluster")
	about, _ := w.named.fewOf(r, s, w.named.court(r, s, w.named.policies), w.named.policies)
	if _, some := about[catalogue.PodReady]; some {
		t.Error("what is compared with the past is judged of some only")
	}
	if _, some := about[catalogue.ComponentReady]; !some {
		t.Error("what rests is read whole beside it")
	}
}

// What changes while an interval comes in parts is judged together with the interval when
// its last part is there, and the parts are no changes. Nobody waits for long: neither
// when no further part comes nor when parts go on coming.
func TestChangesWaitForTheRestOfAnInterval(t *testing.T) {
	rounds := func(w *commotion) (out [2]float64) {
		for i, trigger := range []string{triggerInterval, triggerChange} {
			out[i] = testutil.ToFloat64(w.named.metrics.rounds.WithLabelValues(trigger))
		}
		return out
	}
	part := func(w *commotion) ingest.Arrival {
		return ingest.Arrival{Sender: "cluster", Part: true, Newest: w.grid}
	}
	change := func(w *commotion) ingest.Arrival {
		return ingest.Arrival{Sender: "cluster", Changed: w.all(catalogue.ByCluster, "")[:1], Newest: w.now}
	}
	for name, of := range map[string]struct {
		happens func(w *commotion, tell func(after time.Duration, a ingest.Arrival))
		want    [2]float64
	}{
		"all of it": {func(w *commotion, tell func(time.Duration, ingest.Arrival)) {
			tell(0, part(w))
			tell(time.Second, part(w))
			tell(time.Second, ingest.Arrival{Sender: "cluster", Through: w.grid})
			tell(time.Minute/2, change(w))
		}, [2]float64{1, 1}},
		"a change between two parts": {func(w *commotion, tell func(time.Duration, ingest.Arrival)) {
			tell(0, part(w))
			tell(1500*time.Millisecond, change(w))
			tell(100*time.Millisecond, part(w))
			tell(1500*time.Millisecond, ingest.Arrival{Sender: "cluster", Through: w.grid})
		}, [2]float64{1, 1}},
		"a part before the pause is over": {func(w *commotion, tell func(time.Duration, ingest.Arrival)) {
			tell(0, part(w))
			tell(partsPause-1, part(w))
			tell(partsPause-1, change(w))
		}, [2]float64{0, 0}},
		"no further part": {func(w *commotion, tell func(time.Duration, ingest.Arrival)) {
			tell(0, part(w))
			tell(time.Second, change(w))
			tell(partsPause-time.Second, ingest.Arrival{Sender: "node/n-1"})
		}, [2]float64{0, 2}}, // that of the node, too
		"no further part, and no change": {func(w *commotion, tell func(time.Duration, ingest.Arrival)) {
			tell(0, part(w))
			tell(partsPause, ingest.Arrival{Sender: "cluster", Backlog: true})
		}, [2]float64{0, 1}},
		"parts without an end": {func(w *commotion, tell func(time.Duration, ingest.Arrival)) {
			for range 11 {
				tell(time.Second, part(w))
			}
			tell(time.Second, ingest.Arrival{Sender: "cluster", Backlog: true})
		}, [2]float64{0, 1}},
		"an older interval's end": {func(w *commotion, tell func(time.Duration, ingest.Arrival)) {
			tell(0, part(w))
			tell(time.Second, ingest.Arrival{Sender: "cluster", Through: w.grid.Add(-interval)})
			tell(500*time.Millisecond, change(w))
		}, [2]float64{1, 0}},
		"the clock is set back": {func(w *commotion, tell func(time.Duration, ingest.Arrival)) {
			tell(0, part(w))
			tell(-time.Minute, change(w))
		}, [2]float64{0, 1}},
		"parts that are long on their way": {func(w *commotion, tell func(time.Duration, ingest.Arrival)) {
			long := part(w)
			long.ReceivedAt = w.now // all their requests began together
			for range 3 {
				tell(partsPause-1, long)
			}
			tell(1, change(w))
		}, [2]float64{0, 0}},
		"parts of a backlog": {func(w *commotion, tell func(time.Duration, ingest.Arrival)) {
			tell(0, ingest.Arrival{Sender: "cluster", Part: true, Backlog: true, Newest: w.grid.Add(-interval)})
			tell(time.Second, change(w))
		}, [2]float64{0, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newCommotion(t, 0)
			of.happens(w, func(after time.Duration, a ingest.Arrival) {
				w.now = w.now.Add(after)
				w.tell(a)
			})
			if got := rounds(w); got != of.want {
				t.Errorf("%v rounds for intervals and changes, want %v", got, of.want)
			}
		})
	}
}
