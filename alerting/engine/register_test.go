package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/crowsnest-dev/crowsnest/alerting/evaluate"
	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
	"github.com/crowsnest-dev/crowsnest/storage/inventory"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
	"github.com/crowsnest-dev/crowsnest/storage/rollup"
)

// migration are two clusters whose pods come, go and come again by name for longer than
// numbers of subjects are kept, and engines on them: beside the one that is looked at one that
// has new memory for each round, or some that have its policies between them and go through
// everything.
type migration struct {
	t       *testing.T
	random  *rand.Rand
	now     time.Time
	inv     *inventory.Store
	seq     map[string]uint64
	ledger  *ledger
	pods    map[string]map[string]*object.Pod // by cluster and name
	changed map[told]bool
	kept    *Engine
	anew    *Engine
	plain   []*Engine
	values  map[string]float64
}

var migrants = []string{"prod-1", "prod-2"}

func newMigration(t *testing.T, seed uint64, policies int, wild float64, plain bool) *migration {
	m := &migration{
		t: t, random: rand.New(rand.NewPCG(seed, 19)), now: epoch.Add(24 * time.Hour), ledger: &ledger{byName: map[string]*ledgerSeries{}},
		seq: map[string]uint64{}, pods: map[string]map[string]*object.Pod{}, values: map[string]float64{},
	}
	var err error
	if m.inv, err = inventory.Open(inventory.Options{Path: filepath.Join(t.TempDir(), "inventory.db"), Now: m.clock}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.inv.Close() })
	var specs []string
	for w := (&commotion{t: t, random: m.random, wild: wild}); len(specs) < policies; {
		spec := w.spec()
		if strings.Contains(spec, `"level":"pod"`) || strings.Contains(spec, `"level":"container"`) {
			// Where missing data is bad, names are read for hours after they are gone.
			spec = strings.Replace(spec, `"action":"alert"`, `"action":"resolve"`, 1)
		}
		specs = append(specs, spec)
	}
	m.kept = m.engine(specs)
	if !plain {
		m.anew = m.engine(specs)
		return m.settle()
	}
	for few := range slices.Chunk(m.engine(specs).policies, indexFrom-1) { // without an index
		e := m.engine(nil)
		for _, c := range few {
			c.suspects = make([]func(prev, v float64) bool, len(c.conditions)) // nothing is calm
			e.policies, e.byID[c.ref.ID] = append(e.policies, c), c
		}
		m.plain = append(m.plain, e)
	}
	return m.settle()
}

// settle brings what the clusters have that stays.
func (m *migration) settle() *migration {
	for _, cluster := range migrants {
		m.pods[cluster] = map[string]*object.Pod{}
		first := &wire.InventoryBatch{Snapshot: true, Last: true, ClusterKind: "managed"}
		for i := range 3 {
			first.Put(m.node(i))
			ref := object.WorkloadRef{Type: "deployment", Name: fmt.Sprint("cart-", i)}
			first.Put(&object.Workload{Meta: object.Meta{UID: "w" + ref.Name, Namespace: "shop", Name: ref.Name, Labels: m.tier(), CreatedAt: epoch}, Ref: ref, Desired: 3, Revision: "r1"})
		}
		m.apply(cluster, first)
	}
	return m
}

func (m *migration) engine(specs []string) *Engine {
	e := engineOf(m.t, &fleet{}, m.clock, specs)
	e.opts.Queryable, e.opts.Inventory, e.opts.Changed = m.ledger, m.inv, m.inv.ChangedSince
	e.opts.Archive, e.opts.ScratchDir = m.inv, m.t.TempDir()
	e.clusters["prod-2"] = meta.ClusterRow{ID: "prod-2", Name: "prod-2"}
	return e
}

func (m *migration) clock() time.Time { return m.now }

func (m *migration) tier() map[string]string {
	return []map[string]string{nil, {"tier": "web"}, {"tier": "db"}}[m.random.IntN(3)]
}

func (m *migration) node(i int) *object.Node {
	return &object.Node{Meta: object.Meta{UID: fmt.Sprint("n", i), Name: fmt.Sprint("n-", i), Labels: m.tier(), CreatedAt: epoch}, Ready: true}
}

func (m *migration) apply(cluster string, b *wire.InventoryBatch) {
	m.seq[cluster]++
	b.Session, b.Sequence, b.Time = "s"+cluster, m.seq[cluster], m.now
	if err := m.inv.Apply(m.t.Context(), cluster, b); err != nil {
		m.t.Fatal(err)
	}
}

// move has pods of a cluster come, go and change. Names are of one third of all there
// are at a time; which one moves along.
func (m *migration) move(cluster string, phase int) {
	const names = 27
	pods, batch := m.pods[cluster], &wire.InventoryBatch{}
	for range 8 {
		n := names/3*((phase+m.random.IntN(9)/8)%3) + m.random.IntN(names/3)
		name := fmt.Sprint("cart-", n)
		switch p := pods[name]; {
		case p != nil && m.random.IntN(3) == 0: // it is another one, or what it was with other labels
			next := *p
			if next.Labels = m.tier(); m.random.IntN(2) == 0 {
				next.UID, next.CreatedAt = fmt.Sprint("u", m.seq[cluster], "-", n), m.now
			}
			pods[name] = &next
			batch.Put(&next)
		case p == nil:
			p = &object.Pod{
				Meta: object.Meta{UID: fmt.Sprint("u", m.seq[cluster], "-", n), Namespace: "shop", Name: name, CreatedAt: m.now.Add(-time.Hour), Labels: m.tier()},
				Node: fmt.Sprint("n-", m.random.IntN(3)), Workload: object.WorkloadRef{Type: "deployment", Name: fmt.Sprint("cart-", n%3)},
				Phase: object.PhaseRunning, Ready: true, Limits: object.Resources{HasCPU: true, HasMemory: true},
				Containers: []object.Container{{Name: "app", State: "running"}, {Name: "side", State: "running"}}[:1+n%2],
			}
			pods[name] = p
			batch.Put(p)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(pods)) {
		var n int
		_, _ = fmt.Sscanf(name, "cart-%d", &n)
		if away := n/(names/3) != phase%3; away && m.random.IntN(3) == 0 || m.random.IntN(20) == 0 {
			batch.Deleted = append(batch.Deleted, wire.Deleted{Key: object.KeyOf(pods[name]), UID: pods[name].UID})
			delete(pods, name)
		}
	}
	if m.random.IntN(8) == 0 {
		batch.Put(m.node(m.random.IntN(3)))
	}
	m.apply(cluster, batch)
}

// write has a cluster's metrics written, of some pods that are gone, too.
func (m *migration) write(cluster string, at time.Time, share float64) {
	m.changed = map[told]bool{}
	put := func(metric string, pairs ...string) {
		if m.random.Float64() >= share {
			return
		}
		l := labels.FromStrings(append([]string{"__name__", metric, "cluster", cluster}, pairs...)...)
		key, of := l.String(), mustGet(metric)
		switch {
		case of.Kind == catalogue.Counter:
			m.values[key] += float64(m.random.IntN(12) / 11)
		default:
			m.values[key] = (&commotion{}).well(l)
			if m.random.IntN(20) == 0 {
				m.values[key] = 1 - m.values[key]
			}
		}
		m.ledger.put(l, at, m.values[key])
		m.changed[told{metric, rootOf(of.Level, objectOf(of.Level, l.Get))}] = true
	}
	pods := m.pods[cluster]
	for _, name := range slices.Sorted(maps.Keys(pods)) {
		p := pods[name]
		of := []string{"namespace", p.Namespace, "workload_type", "deployment", "workload", p.Workload.Name, "pod", p.Name, "node", p.Node}
		for _, metric := range []string{catalogue.PodReady, catalogue.PodRestarts, podUnschedulable, catalogue.PodCPULimitPercent} {
			put(metric, of...)
		}
		for _, reason := range []string{"CrashLoopBackOff", "ImagePullBackOff"} {
			put(podWaiting, append(slices.Clone(of), "reason", reason)...)
		}
		for _, c := range p.Containers {
			put(containerRestarts, append(slices.Clone(of), "container", c.Name)...)
		}
	}
	for i := range 3 {
		put(catalogue.NodeReady, "node", fmt.Sprint("n-", i))
		put(catalogue.NodeCPUPercent, "node", fmt.Sprint("n-", i))
		of := []string{"namespace", "shop", "workload_type", "deployment", "workload", fmt.Sprint("cart-", i)}
		put("k8s_workload_replicas_ready", of...)
		put(catalogue.WorkloadCPU, of...)
	}
	put(catalogue.ComponentReady, "component", "etcd")
	put(clusterNodes)
	m.ledger.put(labels.FromStrings("__name__", rollup.CoverageRatio, "cluster", cluster), at, 1)
}

// replay begins a backtest and gives what waits for its end.
func (m *migration) replay(policy int) (wait func()) {
	row := meta.Resource{ID: fmt.Sprint("p", policy), Kind: meta.KindPolicy, Project: "default", Name: fmt.Sprint("p", policy), Revision: 1}
	var err error
	if row.Spec, err = json.Marshal(m.kept.policies[policy].spec); err != nil {
		m.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := m.kept.Backtest(m.t.Context(), row, Range{From: m.now.Add(-10 * time.Minute), To: m.now})
		done <- err
	}()
	return func() {
		if err := <-done; err != nil {
			m.t.Error(err)
		}
	}
}

func mustGet(metric string) catalogue.Metric {
	m, _ := catalogue.Get(metric)
	return m
}

// judge makes a round of all engines and compares what fires.
func (m *migration) judge(r round) (fires int) {
	others := m.plain
	if m.anew != nil {
		others = []*Engine{m.anew}
	}
	kept, got := m.fires(r, m.kept), m.fires(r, others...)
	keys := maps.Clone(kept)
	maps.Copy(keys, got)
	for key := range keys {
		one, other := kept[key], got[key]
		if shared := min(len(one.Series), len(other.Series)); m.anew == nil { // how much is read depends on all policies of a round
			one.Series, other.Series = one.Series[:shared], other.Series[:shared]
			one.State.Newest, other.State.Newest = time.Time{}, time.Time{}
		}
		a, err := json.Marshal(one)
		b, err2 := json.Marshal(other)
		if err = errors.Join(err, err2); err != nil {
			m.t.Fatal(err)
		}
		if string(a) != string(b) {
			m.t.Fatalf("%s, %s of %v: %d alerts, want %d; %v is\n%s\nwant\n%s", m.now.Format(time.TimeOnly), r.trigger, r.source, len(kept), len(got), key, a, b)
		}
	}
	return len(kept)
}

// fires makes a round of engines and tells what fires then.
func (m *migration) fires(r round, engines ...*Engine) map[alertKey]incident.Alert {
	out := map[alertKey]incident.Alert{}
	for _, e := range engines {
		if e != m.kept {
			e.memory = newMemory(0)
		}
		if r.trigger == triggerChange {
			n := news{told: map[told]int64{}}
			for t := range m.changed {
				n.told[t] = r.at.UnixMilli()
			}
			if slices.Contains(m.plain, e) {
				n = news{untold: r.at.UnixMilli()}
			}
			e.hear(r.source, n)
		}
		e.evaluate(context.Background(), r)
		for key, a := range e.alerts {
			of := *a
			of.ID, of.IncidentID = "", "" // random
			out[key] = of
		}
	}
	return out
}

// Readings up to a time, of which a replay makes some for each step and subject, are those of all
// that were read, and take hardly any memory of their own.
func TestReadingsUpToATimeAreNoCopies(t *testing.T) {
	spec := []byte(`{"level":"pod","conditions":[{"metric":"` + catalogue.PodMem + `","statistic":"max","period":"1m","op":">","thresholds":{"critical":1},"need":1,"of":1}]}`)
	c, err := compile(meta.Resource{ID: "p", Kind: meta.KindPolicy, Project: "default", Name: "p", Revision: 1, Spec: spec})
	if err != nil {
		t.Fatal(err)
	}
	sub := subject{level: catalogue.Pod, object: "shop/cart-1"}
	var samples []evaluate.Sample
	for n := range 100 {
		samples = append(samples, evaluate.Sample{T: int64(n) * 1000, V: float64(n)})
	}
	all := readings{metrics: map[string]*values{catalogue.PodMem: valuesOf(sub, samples)}}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const steps = 1000
	for n := range steps {
		at := n % 101
		got := all.upTo(time.UnixMilli(int64(at)*1000-1), sub, c).metrics[catalogue.PodMem].get(sub)
		if !slices.Equal(got, samples[:at]) {
			t.Fatalf("%d samples before the %dth", len(got), at)
		}
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / steps; each > 4<<10 {
		t.Errorf("%d bytes for each step", each)
	}
}

// An engine fires for what one does that makes all of its memory anew, while subjects
// come, go and come again in two clusters for so long that the numbers of those that
// were away are given to others, and backtests are made in between.
func TestNumbersAreGivenAnew(t *testing.T) {
	for seed, policies := range []int{indexFrom + 5, indexFrom / 3} {
		m := newMigration(t, uint64(seed), policies, 0.1, false)
		numbers := map[registerKey]map[subject]int32{}
		renumbered, cameAgain, fired, byName, replayed := 0, 0, 0, 0, 0
		away := map[registerKey]map[subject]bool{}
		for n := range whileRacing(40, 52) {
			f, named, again := m.live(n)
			fired, byName, replayed = fired+f, byName+named, replayed+again
			for key, r := range m.kept.memory.registers {
				if len(r.numbers) != len(r.subjects) || len(r.used) != len(r.subjects) {
					t.Fatalf("%v: %d numbers of %d subjects, %d of which were used", key, len(r.numbers), len(r.subjects), len(r.used))
				}
				now := map[subject]int32{}
				for number, sub := range r.subjects {
					if found, ok := r.find(sub); !ok || found != int32(number) {
						t.Fatalf("%v: %v has the number %d, not %d", key, sub, found, number)
					}
					now[sub] = int32(number)
				}
				if away[key] == nil {
					away[key] = map[subject]bool{}
				}
				for sub, number := range numbers[key] {
					switch other, ok := now[sub]; {
					case !ok:
						away[key][sub] = true
					case other != number:
						renumbered++
					}
				}
				for sub := range now {
					if away[key][sub] {
						cameAgain++
						delete(away[key], sub)
					}
				}
				numbers[key] = now
			}
		}
		t.Logf("%d policies: %d alerts, %d renumbered, %d came again, %d rounds by name, %d backtests", policies, fired, renumbered, cameAgain, byName, replayed)
		if fired == 0 || renumbered == 0 || cameAgain == 0 || byName == 0 || replayed == 0 {
			t.Errorf("%d alerts fired, %d subjects got another number, %d came again after they were forgotten, %d rounds were by name, %d backtests were made", fired, renumbered, cameAgain, byName, replayed)
		}
	}
}

// live goes on by an interval or some, and tells how many alerts fired after the rounds, how
// many of these were by name, and how many backtests were made beside them.
func (m *migration) live(n int) (fired, byName, replayed int) {
	step := interval
	if n%4 == 3 {
		step = 12 * interval
	}
	m.now = m.now.Truncate(interval).Add(step + 300*time.Millisecond)
	at := m.now.Truncate(interval)
	for i, cluster := range migrants {
		if n/12%4 == 2 && i == 1 {
			continue // it is silent until its numbers are forgotten
		}
		m.move(cluster, n/10)
		m.write(cluster, at, 0.95)
		sender := "all"
		if n%7 == 3 {
			sender = fmt.Sprint("node/n-", n%3)
		}
		source := sourceKey{cluster, sender}
		replay := func() {}
		if n%20 == 19 { // beside the rounds
			replay = m.replay(n / 20)
			replayed++
		}
		fired += m.judge(round{source: source, trigger: triggerInterval, at: at, interval: interval, received: m.now})
		fired += m.judge(round{source: sourceKey{cluster, senderRollup}, trigger: triggerRollup, at: at, interval: interval, received: m.now})
		replay()
		if n%3 == 0 && sender == "all" {
			m.now = m.now.Add(4 * time.Second)
			m.move(cluster, n/10)
			m.write(cluster, at.Add(4*time.Second), 0.1)
			if m.kept.rests[cluster][restKey{sender: "all"}] != nil {
				byName++
			}
			fired += m.judge(round{source: source, trigger: triggerChange, at: at.Add(4 * time.Second), interval: interval, received: m.now})
		}
	}
	return fired, byName, replayed
}

// What is looked for by numbers, names, labels and patterns, and not judged where it is calm,
// is all that fires: engines that do none of it find the same.
func TestNothingThatFiresIsOverlooked(t *testing.T) {
	for seed, wild := range []float64{0.1, 0.4} {
		m, fired, byName := newMigration(t, uint64(seed), indexFrom+5, wild, true), 0, 0
		for n := range whileRacing(6, 26) {
			f, named, _ := m.live(n)
			fired, byName = fired+f, byName+named
		}
		t.Logf("%d alerts, %d rounds by name", fired, byName)
		if fired == 0 || byName == 0 || len(m.plain) < 2 {
			t.Errorf("%d alerts fired, %d rounds were by name", fired, byName)
		}
	}
}
