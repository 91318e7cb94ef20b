package edge

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/crowsnest-dev/crowsnest/internal/bubbletest"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// TestReplacedAndMovedPodsCountOnce replaces, moves and re-owns pods over a
// hundred times, with the old and the new one overlapping, and asks at every
// point of the grid who is there and what their workloads sum up to.
func TestReplacedAndMovedPodsCountOnce(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		s, stop := serve(t)
		defer stop()
		o := newObjects()
		nodes := []string{"n1", "n2"}
		random := rand.New(rand.NewPCG(1, 2))
		alive := map[string]*object.Pod{}
		serial := 0
		fresh := func(name, workload string) *object.Pod {
			serial++
			if name == "" {
				name = fmt.Sprintf("%s-%d", workload, serial)
			}
			return aPod(fmt.Sprintf("u%d", serial), name, nodes[random.IntN(2)], workload)
		}
		put := []object.Object{aNode("n1"), aNode("n2"), aWorkload("cart", 4), aWorkload("shop", 2), aWorkload("db", 1)}
		begin := func(p *object.Pod) { alive[p.UID] = p; put = append(put, p) }
		for range 4 {
			begin(fresh("", "cart"))
		}
		begin(fresh("", "shop"))
		begin(fresh("db-0", "db"))
		o.change(put)
		cluster := s.collect(wire.RoleCluster, "", o, t.TempDir(), 0)
		n1 := s.collect(wire.RoleNode, "n1", o, t.TempDir(), 0)
		n2 := s.collect(wire.RoleNode, "n2", o, t.TempDir(), 0)
		untilPast(10 * time.Second)
		untilPast(time.Second)

		pick := func(workload string) *object.Pod {
			var found []*object.Pod
			for i := range serial + 1 { // in one order, whatever the map's is
				if p := alive[fmt.Sprintf("u%d", i)]; p != nil && p.Workload.Name == workload {
					found = append(found, p)
				}
			}
			if len(found) == 0 {
				return nil
			}
			return found[random.IntN(len(found))]
		}
		type truth struct {
			pods  map[string]*object.Pod
			since map[string]time.Time // of each pod as it is labelled
		}
		since := map[string]time.Time{}
		points := map[int64]truth{}
		done := map[string]int{}
		var leaving *object.Pod // its successor is there already
		step := 0
		for done["replaced"]+done["moved"]+done["re-owned"]+done["same name"] < 130 {
			// A few seconds anywhere in the interval, but never on a point of the grid.
			wait := time.Duration(3000+random.IntN(9000)) * time.Millisecond
			for wait > 0 {
				next := time.Now().Truncate(interval).Add(interval)
				if d := time.Until(next) + 300*time.Millisecond; d <= wait+500*time.Millisecond {
					time.Sleep(time.Until(next))
					at := truth{map[string]*object.Pod{}, map[string]time.Time{}}
					for uid, p := range alive {
						at.pods[uid], at.since[uid] = p, since[uid]
					}
					points[next.UnixMilli()] = at
					time.Sleep(300 * time.Millisecond)
					wait -= d
					continue
				}
				time.Sleep(wait)
				wait = 0
			}
			if leaving == nil {
				step++
			}
			change := func(p *object.Pod) { alive[p.UID], since[p.UID] = p, time.Now() }
			switch {
			case leaving != nil:
				delete(alive, leaving.UID)
				o.change(nil, leaving)
				leaving = nil
			case step%7 == 3: // adopted by another owner: same pod, other labels
				p := pick("cart")
				if pick("shop") != nil && (p == nil || random.IntN(2) == 0) {
					p = pick("shop")
				}
				q := *p
				q.Workload.Name = map[string]string{"cart": "shop", "shop": "cart"}[p.Workload.Name]
				change(&q)
				o.change([]object.Object{&q})
				done["re-owned"]++
			case step%7 == 5: // a StatefulSet's pod: gone and there again under its name
				old := pick("db")
				q := fresh(old.Name, "db")
				delete(alive, old.UID)
				change(q)
				o.change([]object.Object{q}, old)
				done["same name"]++
			default:
				old := pick("cart")
				if old == nil {
					old = pick("shop")
				}
				q := fresh("", old.Workload.Name)
				change(q)
				o.change([]object.Object{q})
				leaving = old
				if q.Node == old.Node {
					done["replaced"]++
				} else {
					done["moved"]++
				}
			}
		}
		time.Sleep(time.Minute)
		untilPast(20 * time.Second)

		memory, ready := s.series(catalogue.ContainerMem), s.series(catalogue.PodReady)
		sums := s.series("k8s_workload_mem_no_cache_bytes")
		label := func(p *object.Pod) string {
			return fmt.Sprintf("node=%q, pod=%q, workload=%q", p.Node, p.Name, p.Workload.Name)
		}
		// The same as the server's PromQL tells it, which is what anybody sees of it.
		first, last := time.Now(), time.Time{}
		for ms := range points {
			if at := time.UnixMilli(ms).UTC(); at.Before(first) {
				first = at
			}
			if at := time.UnixMilli(ms).UTC(); at.After(last) {
				last = at
			}
		}
		counted := s.answers(`count by (workload) (`+catalogue.PodReady+`)`, first, last)
		told := s.answers(`sum by (workload) (k8s_workload_pod_num)`, first, last)
		readiness := s.answers(`count by (node, pod, workload) (`+catalogue.PodReady+`)`, first, last)
		containers := s.answers(`count by (node, pod, workload) (`+catalogue.ContainerMem+`)`, first, last)
		added := s.answers(`sum by (workload) (`+catalogue.ContainerMem+`)`, first, last)
		summed := s.answers(`sum by (workload) (`+catalogue.WorkloadMem+`)`, first, last)

		looked := 0
		for ms, at := range points {
			pods, memories := map[string]float64{}, map[string]float64{}
			each, eachMeasured := map[string]float64{}, map[string]float64{}
			for _, p := range at.pods {
				workload, pod := labels.FromStrings("workload", p.Workload.Name).String(), "{"+label(p)+"}"
				pods[workload]++
				each[pod]++
				// Who came since the kubelet was read may be measured at the next point.
				since := at.since[p.UID]
				young := !since.IsZero() && time.UnixMilli(ms).Sub(since) < 6*time.Second
				if _, is := containers[ms][pod]; is || !young {
					eachMeasured[pod]++
					memories[workload] += memoryOf(p, time.UnixMilli(ms))
				}
			}
			for _, q := range []struct {
				what      string
				got, want map[string]float64
			}{
				{"pods counted", counted[ms], pods},
				{"pods that the workloads tell", told[ms], pods},
				{"pods one by one", readiness[ms], each},
				{"containers one by one", containers[ms], eachMeasured},
				{"memory of the containers", added[ms], memories},
				{"memory of the workloads", summed[ms], memories},
			} {
				if !maps.Equal(q.got, q.want) {
					t.Errorf("at %v the %s are %v by query, want %v", time.UnixMilli(ms).UTC(), q.what, q.got, q.want)
				}
			}
			when := time.UnixMilli(ms).UTC()
			// A pod may be there twice by its labels only when it is there twice.
			want := map[string]bool{}
			for _, p := range at.pods {
				want[label(p)] = true
			}
			got := present(ready, ms)
			for name := range want {
				if got[name] != 1 {
					t.Errorf("at %v %s has %d series of readiness", when, name, got[name])
				}
			}
			for name, n := range got {
				if !want[name] {
					t.Errorf("at %v %d series of readiness linger of %s", when, n, name)
				}
			}
			measured := present(memory, ms)
			total := map[string]float64{}
			for _, p := range at.pods {
				// Who came since the kubelet was read is measured at the next point.
				young := !at.since[p.UID].IsZero() && when.Sub(at.since[p.UID]) < 6*time.Second
				switch n := measured[label(p)]; {
				case n > 1:
					t.Errorf("at %v %s is measured %d times", when, label(p), n)
				case n == 1:
					if v := valueAt(memory, label(p), ms); !math.IsNaN(v) {
						total[p.Workload.Name] += v
					}
				case !young:
					t.Errorf("at %v %s is not measured", when, label(p))
				}
				delete(measured, label(p))
			}
			for name := range measured {
				t.Errorf("at %v the memory of %s lingers", when, name)
			}
			for workload, v := range total {
				if sum := only(t, "sums", sums, fmt.Sprintf("workload=%q", workload))[ms]; sum != v {
					t.Errorf("at %v the sum of %s is %v, its pods have %v", when, workload, sum, v)
				}
			}
			looked++
		}
		t.Logf("%v; %d points of the grid looked at", done, looked)
		if looked < 25 || done["replaced"]+done["moved"]+done["same name"] < 100 || done["re-owned"] < 10 || done["same name"] < 10 {
			t.Errorf("too little happened: %v at %d points", done, looked)
		}
		cluster.stop()
		n1.stop()
		n2.stop()
	})
}

// present counts the series that an instant query at a time gives, by the labels
// that matter here.
func present(all map[string]map[int64]float64, at int64) map[string]int {
	out := map[string]int{}
	for name, samples := range all {
		newest := int64(-1)
		for ms := range samples {
			if ms <= at && ms > at-(5*time.Minute).Milliseconds() && ms > newest {
				newest = ms
			}
		}
		if newest >= 0 && !math.IsNaN(samples[newest]) {
			out[shortened(name)]++
		}
	}
	return out
}

// valueAt is the sample at exactly a time; NaN without one.
func valueAt(all map[string]map[int64]float64, label string, at int64) float64 {
	v := math.NaN()
	for name, samples := range all {
		if got, ok := samples[at]; ok && shortened(name) == label && !math.IsNaN(got) {
			v = got
		}
	}
	return v
}

func shortened(name string) string {
	var parts []string
	for _, part := range strings.Split(strings.Trim(name, "{}"), ", ") {
		if strings.HasPrefix(part, "node=") || strings.HasPrefix(part, "pod=") || strings.HasPrefix(part, "workload=") {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, ", ")
}
