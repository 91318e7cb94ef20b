package engine

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/evaluate"
	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/object"
)

// Rounds about a few objects and about all find of each metric what each selection
// selects, and nothing else, whatever comes, goes and changes between them.
func TestAnIndexFindsWhatSelectionsSelect(t *testing.T) {
	const names, rounds = 600, 300
	random := rand.New(rand.NewPCG(7, 8))
	inv := newFakeInventory()
	r, m := newRoster(), newMemory(maxMemory)
	rosterOf := func(catalogue.Level) *roster { return r }
	metrics := []catalogue.Metric{{Name: "a", Level: catalogue.Pod}, {Name: "b", Level: catalogue.Pod}, {Name: "c", Level: catalogue.Pod, Dimensions: []string{"kind"}}}
	name := func(n int) (namespace, pod string) { return fmt.Sprint("n", n%12), fmt.Sprint("p", n) }
	var policies []*compiled
	add := func(o *policy.Objects) {
		t.Helper()
		policies = append(policies, selecting(t, o))
	}
	add(&policy.Objects{Workloads: []string{"deployment/w3*"}}) // few, until round 90
	some := func() *policy.Objects {
		switch n := random.IntN(100); n % 5 {
		case 0:
			return &policy.Objects{Names: []string{fmt.Sprintf("p*%d", n), fmt.Sprintf("*%d7", n)}}
		case 1:
			return &policy.Objects{Namespaces: []string{fmt.Sprintf("n%d*", n%10)}, Exclude: &policy.Exclude{Selector: "tier=web"}}
		case 2:
			return &policy.Objects{Names: []string{fmt.Sprintf("*%d", n)}, Selector: "tier=db"}
		case 3:
			return &policy.Objects{Workloads: []string{fmt.Sprintf("deployment/w%d*", n%6)}}
		default:
			return &policy.Objects{Names: []string{fmt.Sprintf("none%d*", n)}}
		}
	}
	cleaned, turned, back := false, false, false
	for round := range rounds {
		for range 24 {
			n := random.IntN(names)
			p := &object.Pod{Workload: object.WorkloadRef{Type: "deployment", Name: fmt.Sprint("w", round/30)}}
			p.Namespace, p.Name = name(n)
			p.Labels = map[string]string{"tier": []string{"web", "db"}[random.IntN(2)]}
			if inv.remove(p); random.IntN(6) > 0 {
				inv.put(p)
			}
		}
		for len(policies) < min(5+round, 40) {
			add(some())
		}
		if round%7 == 6 {
			i := 1 + random.IntN(len(policies)-1)
			policies = slices.Delete(policies, i, i+1)
			if random.IntN(2) > 0 {
				r.forget(policies)
			}
		}
		ct := &court{inventory: inv, cluster: "prod-1"}
		before, members := r.picks[policies[0].picks], len(r.members)
		wasMany := before != nil && before.many != nil
		r.begin(func(n named) bool { return ct.look(subject{level: n.level, object: n.name}).object != nil })
		cleaned = cleaned || len(r.members) < members

		data := readings{metrics: map[string]*values{}}
		for i, metric := range metrics {
			v := m.of("prod-1", metric)
			for n := range names {
				if round%16 == 0 || random.IntN(names) < 30 {
					for d := range 1 + i/2*2 {
						namespace, pod := name(n)
						v.put(v.of.number([]byte(namespace+"/"+pod), bytesOf(metric, d)), []evaluate.Sample{{V: 1}})
					}
				}
			}
			data.metrics[metric.Name] = v
		}
		known := policies
		if round%5 == 0 {
			known = known[:len(known)-1] // nobody said that the last one would be asked
		}
		x := newIndex(ct, data, known, rosterOf, nil)
		for range 2 { // the second time with all of them known
			for _, i := range random.Perm(len(policies)) {
				c := policies[i]
				metric := metrics[random.IntN(len(metrics))]
				got, want := map[subject]bool{}, map[subject]bool{}
				v := data.metrics[metric.Name]
				x.selected(c, metric.Name, func(number int32) { got[v.of.subjects[number]] = true })
				for sub := range v.subjects() {
					if k := ct.look(sub); k.object != nil && c.selection.Object(k.object, "") {
						want[sub] = true
					}
				}
				if !maps.Equal(got, want) {
					t.Fatalf("round %d, policy %d, metric %s of %d: %d are found, want %d", round, i, metric.Name, v.len(), len(got), len(want))
				}
			}
		}
		isMany := r.picks[policies[0].picks].many != nil
		turned, back = turned || !wasMany && isMany, back || wasMany && !isMany
		m.release()
	}
	if !cleaned || !turned || !back {
		t.Errorf("members were forgotten: %v; few became many: %v; many became few: %v", cleaned, turned, back)
	}
	r.forget(nil)
	for i, m := range r.members {
		if len(m.picked) > 0 {
			t.Fatalf("member %d knows of selections that no policy has", i)
		}
	}
}

// bytesOf are dimensions of a metric, if it has some.
func bytesOf(m catalogue.Metric, n int) []byte {
	if len(m.Dimensions) == 0 {
		return nil
	}
	return fmt.Appendf(nil, "kind=%d", n)
}

// What it costs to find what a thousand policies with patterns select of 150,000 pods, in
// the round of a node that sends alone and in one of all of them.
func BenchmarkSelection(b *testing.B) {
	const nodes, each = 5000, 30
	f := settle(&fleet{pods: nodes * each, nodes: nodes})
	now := epoch.Add(24 * time.Hour)
	policies := engineOf(b, f.fleet, func() time.Time { return now }, patternSpecs(1000, 0)).policies
	r, m, ct := newRoster(), newMemory(maxMemory), &court{inventory: f, cluster: "prod-1"}
	read := func(from, to int) readings { // nodes
		data := readings{metrics: map[string]*values{}}
		for _, c := range policies[:5] {
			v := m.of("prod-1", c.conditions[0].metric)
			for n := from; n < to; n++ {
				for i := range each {
					v.put(v.of.number([]byte("shop/"+f.held[n+i*nodes].Name), nil), nil)
				}
			}
			data.metrics[c.conditions[0].Metric] = v
		}
		return data
	}
	begin := func(data readings) *index {
		r.begin(func(named) bool { return true })
		x := newIndex(ct, data, policies, func(catalogue.Level) *roster { return r }, nil)
		for name := range data.metrics {
			x.metric(name)
		}
		return x
	}
	found := 0
	selected := func(x *index) {
		for _, c := range policies {
			x.selected(c, c.conditions[0].Metric, func(int32) { found++ })
		}
	}
	for n := range nodes { // as they come
		begin(read(n, n+1))
		m.release()
	}
	heap := func() float64 {
		var s runtime.MemStats
		runtime.GC()
		runtime.GC() // what pools let go
		runtime.ReadMemStats(&s)
		return float64(s.HeapAlloc)
	}
	bytes := -heap()
	selected(begin(read(0, 1)))
	m.release()
	bytes += heap()
	b.Run("node", func(b *testing.B) {
		found = 0
		b.ReportAllocs()
		for n := 0; b.Loop(); n++ {
			at := n * 7919 % nodes
			selected(begin(read(at, at+1)))
			m.release()
		}
		b.ReportMetric(bytes/(1<<20), "MiB")
		b.ReportMetric(float64(found)/float64(b.N), "found/op")
	})
	b.Run("all", func(b *testing.B) {
		found = 0
		data := read(0, nodes)
		defer m.release()
		for b.Loop() {
			b.StopTimer()
			x := begin(data)
			b.StartTimer()
			selected(x)
		}
		b.ReportMetric(float64(found)/float64(b.N), "found/op")
	})
}
