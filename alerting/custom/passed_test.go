package custom

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/crowsnest-dev/crowsnest/storage/rollup"
)

// What is kept of samples as they pass gives what PromQL gives of the store, in whatever
// order they come and whatever they do.
func TestWhatPassesIsWhatPromQLGives(t *testing.T) {
	const step = 30 * time.Second
	known := 0
	for seed := range uint64(16) {
		r := rand.New(rand.NewPCG(seed, 22))
		b := newBench(t)
		rollups, err := rollup.New(rollup.Options{Store: b.db, Newest: []string{"k8s_service_pod", "cpu", "restarts"}, Now: func() time.Time { return t0.Add(-3 * time.Minute) }})
		if err != nil {
			t.Fatal(err)
		}
		b.m.opts.Newest = rollups.Newest
		type series struct {
			lset labels.Labels
			feed *rollup.Feed
			v    float64
		}
		var all []*series
		add := func(ls ...string) {
			lset := labels.FromStrings(append(ls, "cluster", "c1", "namespace", "shop")...)
			s := &series{lset: lset, feed: rollups.Feed("c1", lset), v: float64(r.IntN(3))}
			if s.feed == nil || s.feed.Sums() {
				t.Fatalf("feed of %s: %+v", lset, s.feed)
			}
			all = append(all, s)
		}
		for n := range 6 {
			pod := "pod-" + strconv.Itoa(n)
			add(labels.MetricName, "k8s_service_pod", "service", "svc-"+strconv.Itoa(n%2), "pod", pod)
			add(labels.MetricName, "cpu", "pod", pod, "node", "n1")
			add(labels.MetricName, "restarts", "pod", pod, "node", "n1")
		}
		add(labels.MetricName, "cpu", "pod", "pod-1", "node", "n2")
		put := func(s *series, at time.Time, v float64) {
			app := b.db.Appender(t.Context())
			_, err := app.Append(0, s.lset, at.UnixMilli(), v)
			if err != nil {
				_ = app.Rollback() // the store has another one of that time, or refuses it
				return
			}
			if err := app.Commit(); err != nil {
				t.Fatal(err)
			}
			rollups.Pass("c1", []rollup.Sample{{Feed: s.feed, At: at.UnixMilli(), V: v}})
		}
		silent := r.IntN(len(all)) // for as long as a sample counts
		for n := range 20 {
			at := t0.Add(time.Duration(n) * step)
			for i, s := range all {
				if i == silent && n > 5 && n < 18 {
					continue
				}
				switch r.IntN(8) {
				case 0:
					continue // it is missing, and may come later
				case 1:
					put(s, at, math.Float64frombits(value.StaleNaN))
					continue
				case 2:
					s.v++
				case 3:
					s.v = 0
				case 4:
					put(s, at.Add(-step), s.v) // late
				case 5:
					put(s, at.Add(-time.Duration(r.IntN(600))*time.Second), float64(r.IntN(3)))
				case 6:
					put(s, at.Add(7*time.Second), s.v) // between two intervals
				}
				put(s, at, s.v)
			}
			if r.IntN(20) == 0 {
				gone := r.IntN(len(all))
				rollups.Release("c1", all[gone].feed)
				all[gone].feed = rollups.Feed("c1", all[gone].lset)
				put(all[gone], at.Add(time.Second), 9)
				rollups.Bypassed("c1", at.Add(time.Second).UnixMilli()) // a series is let go long after its last sample
			}
			for _, back := range []time.Duration{0, step, 2 * step} {
				for _, of := range []string{"cpu", "restarts", "restarts - min_over_time(restarts[5m])", "cpu * 2"} {
					e, err := selective(fmt.Sprintf("sum by (namespace, service) (k8s_service_pod * on (cluster, namespace, pod) group_left () max by (cluster, namespace, pod) (%s))", of), "c1")
					if err != nil {
						t.Fatal(err)
					}
					if _, is, _ := b.m.passed(t.Context(), e.(*parser.AggregateExpr).Expr.(*parser.BinaryExpr).LHS.(*parser.VectorSelector).LabelMatchers, since(at.Add(-back)), at.Add(-back).UnixMilli()); is {
						known++
					}
					got, ok, err := b.m.sumBehind(t.Context(), e, at.Add(-back), memberships{})
					if !ok || err != nil {
						t.Fatal(ok, err)
					}
					want, err := b.m.ask(t.Context(), e, at.Add(-back))
					if err != nil {
						t.Fatal(err)
					}
					if text(got) != text(want) {
						t.Fatalf("seed %d, %s %v before %d: got\n%s, PromQL\n%s", seed, of, back, n, text(got), text(want))
					}
				}
			}
		}
	}
	if known < 150 {
		t.Errorf("members were known without the store %d times only", known)
	}
}

// All that the catalogue's expressions about Services join is kept, so that none of it is
// read from the store.
func TestWhatTheCatalogueJoinsIsKept(t *testing.T) {
	names := Joined()
	if len(names) < 10 {
		t.Fatalf("joined: %v", names)
	}
	for _, o := range newBenchOf(t, false).m.builtin {
		e, err := selective(o.entry.Expr, "c1")
		if err != nil {
			t.Fatal(err)
		}
		b, ok := behindOf(e)
		if !ok {
			continue
		}
		_, plain := b.of.(*parser.VectorSelector)
		if _, rise := riseOf(b.of); !plain && !rise {
			t.Errorf("%s is left to PromQL: %s", o.entry.Name, o.entry.Expr)
		}
	}
}
