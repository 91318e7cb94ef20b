package custom

import (
	"context"
	"fmt"
	"math"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/value"

	"github.com/crowsnest-dev/crowsnest/storage/rollup"
)

var before = regexp.MustCompile(` before:\S+`)

func ago(cluster string, all ...time.Duration) (out []rollup.Written) {
	for _, d := range all {
		out = append(out, rollup.Written{Cluster: cluster, At: t0.Add(-d)})
	}
	return out
}

func TestALiveIntervalDoesNotWaitForThePast(t *testing.T) {
	m := &Metrics{opts: Options{Now: func() time.Time { return t0 }}, atOnce: maxAtOnce}
	m.waiting = append(ago("c1", time.Hour, 59*time.Minute), ago("c2", time.Hour, 58*time.Minute)...)
	m.waiting = append(m.waiting, ago("c1", 58*time.Minute, 57*time.Minute-time.Second, time.Minute, 30*time.Second)...)
	var got []string
	told := func(due bool) bool {
		next := m.nextLocked(due)
		var all []string
		for _, w := range next {
			all = append(all, fmt.Sprint(w.Cluster, "@", t0.Sub(w.At)))
		}
		got = append(got, strings.Join(all, " "))
		return len(next) > 0
	}
	for told(false) {
	}
	for told(true) {
	}
	want := "c1@1m0s|c1@30s||c1@1h0m0s c1@59m0s c1@58m0s|c2@1h0m0s|c2@58m0s|c1@56m59s|"
	if strings.Join(got, "|") != want {
		t.Errorf("evaluated in the order %s", strings.Join(got, "|"))
	}
}

func TestThePastIsTakenWhenThereIsMuchOfIt(t *testing.T) {
	m := &Metrics{opts: Options{Now: func() time.Time { return t0 }}, atOnce: 3}
	m.waiting = ago("c1", 60*time.Minute, 59*time.Minute)
	if next := m.nextLocked(false); next != nil {
		t.Errorf("two were taken before they are due: %v", next)
	}
	m.waiting = append(m.waiting, ago("c1", 58*time.Minute, 57*time.Minute)...)
	if next := m.nextLocked(false); len(next) != 3 || len(m.waiting) != 1 {
		t.Errorf("of four, %d were taken and %d are left", len(next), len(m.waiting))
	}
	m.waiting = nil
	for n := range crowded + 1 { // each of a cluster of its own
		m.waiting = append(m.waiting, ago(fmt.Sprint("c", n), time.Hour)...)
	}
	if next := m.nextLocked(false); len(next) != 1 {
		t.Errorf("of %d clusters none was taken before they were due", crowded+1)
	}
}

// Whatever is evaluated together gives what is evaluated one by one: series that
// begin, end and come again, and one object of two series at different times.
func TestIntervalsOfThePastTogetherGiveWhatEachGives(t *testing.T) {
	const spec = "apiVersion: crowsnest.dev/v1\nkind: Metric\nmetadata: {name: shop-orders}\nspec: {title: Orders, level: pod, unit: count, expr: 'avg without (code) (orders > 2) or label_replace(other, \"x\", \"y\", \"\", \"\")'}\n"
	const steps = 8
	begin := t0.Add(-40 * time.Minute)
	at := func(n int) time.Time { return begin.Add(time.Duration(n) * 30 * time.Second) }
	stored := map[bool]string{}
	for _, together := range []bool{false, true} {
		b := newBench(t, spec)
		for n := -1; n < steps; n++ {
			for pod := range 6 {
				name, v := "orders", float64((n+pod*3+9)%7) // at times too small
				if pod == 5 {
					name = "other"
				}
				of := func(code int) []string {
					return []string{"__name__", name, "cluster", "c1", "namespace", "shop", "pod", fmt.Sprint("p", pod), "code", fmt.Sprint(code), "node", "n", "workload", "w", "workload_type", "deployment"}
				}
				b.put(at(n), v, of(n/3)...)
				if n > 0 && n%3 == 0 { // goes on under another code
					b.put(at(n), math.Float64frombits(value.StaleNaN), of(n/3-1)...)
				}
			}
		}
		b.m.mu.Lock()
		all := b.m.all
		b.m.mu.Unlock()
		var run []rollup.Written
		for n := range steps {
			run = append(run, rollup.Written{Cluster: "c1", At: at(n)})
		}
		if together {
			if !b.m.within(t.Context(), run, all) {
				t.Fatal("it did not come to an end")
			}
		} else {
			b.m.interval(t.Context(), rollup.Written{Cluster: "c1", At: at(-1)}, all)
			for _, w := range run {
				b.m.interval(t.Context(), w, all)
			}
		}
		b.m.mu.Lock()
		status := b.m.state["shop_orders"]["c1"]
		b.m.mu.Unlock()
		if status.Problem != "" || status.Series == 0 || !status.At.Equal(at(steps-1)) {
			t.Errorf("together %v: status %+v", together, status)
		}
		// One by one, there is one time more, which tells the first what was before.
		stored[together] = strings.ReplaceAll(b.stored("shop_orders"), fmt.Sprintf(" %d:", int(at(-1).Sub(t0).Seconds())), " before:")
		stored[together] = before.ReplaceAllString(stored[together], "")
	}
	if stored[true] != stored[false] {
		t.Errorf("together:\n%s\none by one:\n%s", strings.ReplaceAll(stored[true], ";", "\n"), strings.ReplaceAll(stored[false], ";", "\n"))
	}
	if !strings.Contains(stored[true], "stale") {
		t.Errorf("no series ends, which this is about:\n%s", stored[true])
	}
}

// A metric that has no value at one of the times has its values at the others, and
// the rest of the metrics have theirs.
func TestAnIntervalOfThePastWithoutAValueIsFoundOutAlone(t *testing.T) {
	bad := strings.ReplaceAll(strings.ReplaceAll(orders, "shop-orders", "shop-doubles"), "(orders)", "(doubles)")
	b := newBench(t, orders, bad)
	begin := t0.Add(-time.Hour)
	series := []string{"cluster", "c1", "namespace", "shop", "workload_type", "deployment", "workload", "cart", "code", "200"}
	var run []rollup.Written
	for n := range 4 {
		at := begin.Add(time.Duration(n) * 6 * time.Minute) // each out of the other's lookback
		b.put(at, 1, append([]string{"__name__", "orders"}, series...)...)
		b.put(at, 2, append([]string{"__name__", "doubles"}, series...)...)
		if n == 1 {
			b.put(at, 2, append([]string{"__name__", "doubles", "noise", "x"}, series...)...)
		}
		run = append(run, rollup.Written{Cluster: "c1", At: at})
	}
	b.m.mu.Lock()
	all := b.m.all
	b.m.mu.Unlock()
	if !b.m.within(t.Context(), run, all) {
		t.Fatal("it did not come to an end")
	}
	for name, want := range map[string]string{"shop_orders": "-3600:1 -3240:1 -2880:1 -2520:1", "shop_doubles": "-3600:2 -2880:2 -2520:2"} {
		if got := b.stored(name); !strings.HasSuffix(got, want) || strings.Contains(got, ";") {
			t.Errorf("%s: %s", name, got)
		}
	}
	if n := testutil.ToFloat64(b.m.failed.WithLabelValues(failedLabels)); n != 1 {
		t.Errorf("%v evaluations are counted as failed", n)
	}
}

func TestThePastIsToldOfInItsOrder(t *testing.T) {
	b := newBench(t, orders)
	all := ago("c1", 10*time.Minute, 9*time.Minute, 8*time.Minute, 7*time.Minute)
	for _, w := range all {
		b.m.RolledUp(w)
	}
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		b.mu.Lock()
		told := append([]time.Time(nil), b.after...)
		b.mu.Unlock()
		if len(told) == len(all) {
			for i, at := range told {
				if !at.Equal(all[i].At) {
					t.Errorf("told of %v, not in their order", told)
				}
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("told of %v", told)
		}
	}
}

// What takes too much is evaluated in smaller parts, and live intervals come between.
func TestARunThatIsTooMuchWaitsAgainInParts(t *testing.T) {
	b := newBench(t, orders)
	m := &Metrics{opts: b.m.opts, log: b.m.log, engine: b.m.engine, failed: b.m.failed, state: map[string]map[string]MetricClusterStatus{}, last: map[string]map[string]newest{}, atOnce: 4}
	m.waiting = ago("c1", 10*time.Minute, 9*time.Minute, 8*time.Minute, 7*time.Minute)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m.run(ctx, m.nextLocked(true), b.m.all)
	if m.atOnce != 2 || len(m.waiting) != 4 || len(b.after) != 0 {
		t.Fatalf("at once %d, waiting %v, told of %v", m.atOnce, m.waiting, b.after)
	}
	m.waiting = append(m.waiting, ago("c2", time.Second)...)
	if next := m.nextLocked(true); next[0].Cluster != "c2" {
		t.Errorf("next is %v", next)
	}
	m.run(t.Context(), m.nextLocked(true), nil)
	if m.atOnce != 4 || len(m.waiting) != 2 || len(b.after) != 2 {
		t.Errorf("at once %d, waiting %v, told of %v", m.atOnce, m.waiting, b.after)
	}
}

// One interval of the past by itself is no reason to go on one by one.
func TestWhatWasTooMuchOnceIsTriedTogetherAgain(t *testing.T) {
	b := newBench(t, orders)
	m := &Metrics{opts: b.m.opts, log: b.m.log, engine: b.m.engine, failed: b.m.failed, state: map[string]map[string]MetricClusterStatus{}, last: map[string]map[string]newest{}, atOnce: 2}
	for n := range 8 {
		m.waiting = append(m.waiting, ago("c1", time.Hour-time.Duration(n)*time.Minute)...)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m.run(ctx, m.nextLocked(true), nil)
	m.alone(t.Context(), rollup.Written{Cluster: "c1", At: t0}, nil)
	if m.atOnce != 1 {
		t.Fatalf("at once %d after two were too much, and after a live one", m.atOnce)
	}
	for _, want := range []int{1, 2, 4, 1} {
		next := m.nextLocked(true)
		if len(next) != want {
			t.Fatalf("%d at once, want %d", len(next), want)
		}
		if want == 1 {
			m.alone(t.Context(), next[0], nil)
		} else {
			m.run(t.Context(), next, nil)
		}
	}
	if m.atOnce != 8 {
		t.Errorf("at once %d in the end", m.atOnce)
	}
}

// Two are not tried again and again where one takes most of the budget by itself.
func TestWhatIsTooMuchGoesOnOneByOne(t *testing.T) {
	b := newBench(t, orders)
	now, took := t0, roomy/2
	o := b.m.opts
	o.Next = func(rollup.Written) {}
	o.Now = func() time.Time { now = now.Add(took); return now } // each look is as much later
	m := &Metrics{opts: o, log: b.m.log, engine: b.m.engine, failed: b.m.failed, state: map[string]map[string]MetricClusterStatus{}, last: map[string]map[string]newest{}, atOnce: 1}
	past := ago("c1", time.Hour)[0]
	m.alone(t.Context(), past, nil)
	if m.atOnce != 1 {
		t.Fatalf("%d at once after one took half of the budget", m.atOnce)
	}
	took = roomy / 8
	m.alone(t.Context(), past, nil)
	if m.atOnce != 2 {
		t.Errorf("%d at once after one took little", m.atOnce)
	}
}
