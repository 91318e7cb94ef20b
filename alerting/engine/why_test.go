package engine

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
	"github.com/crowsnest-dev/crowsnest/storage/inventory"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
	"github.com/crowsnest-dev/crowsnest/storage/rollup"
)

// fileInventory is a scene's inventory in a real store, whose past is kept.
func (s *scene) fileInventory() *inventory.Store {
	s.t.Helper()
	inv, err := inventory.Open(inventory.Options{Path: s.dir + "/inventory.db", Now: func() time.Time { return s.now }})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = inv.Close() })
	return inv
}

// report stores the scene's objects as its collector would.
func (s *scene) report(inv *inventory.Store, sequence int) {
	s.t.Helper()
	b := &wire.InventoryBatch{Session: "s" + string(rune('a'+sequence)), Sequence: 1, Time: s.now, Snapshot: true, Last: true, ClusterKind: "managed"}
	for _, o := range s.inv.now {
		switch o := o.(type) {
		case *object.Pod:
			c := *o
			b.Pods = append(b.Pods, &c)
		case *object.Workload:
			c := *o
			b.Workloads = append(b.Workloads, &c)
		case *object.Namespace:
			c := *o
			b.Namespaces = append(b.Namespaces, &c)
		case *object.Node:
			c := *o
			b.Nodes = append(b.Nodes, &c)
		}
	}
	if err := inv.Apply(context.Background(), "prod-1", b); err != nil {
		s.t.Fatal(err)
	}
}

// Every moment of an alert's life is explained, also after its pod is gone.
func TestWhy(t *testing.T) {
	s := newScene(t)
	inv := s.fileInventory()
	s.engine.opts.Archive, s.engine.opts.Inventory = inv, inv
	s.object("workload", []string{"cart", "desired=1"})
	s.object("pod", []string{"cart-1", "age=1h"})
	s.report(inv, 0)
	s.resource(meta.KindPolicy, "p", `  level: pod
  conditions: [{metric: k8s_pod_rate_cpu_core_used_limit, statistic: avg, period: 30s, op: ">", thresholds: {warning: 80, critical: 95}, need: 2, of: 2}]
  recoverAfter: 2`)
	start := s.now
	rows := func(values ...string) [][]string { return [][]string{append([]string{"cpu", "cart-1"}, values...)} }
	s.play("node/n-1", rows("50", "90", "91", "98", "99", "99", "50", "50", "50"), 0)
	s.expect("firing", "none")
	s.play("node/n-1", rows("90", "90"), 0)
	s.expect("firing", "cart-1 warning")
	s.gone("pod", "cart-1")
	s.report(inv, 1)
	gone := s.now
	s.play("node/n-1", [][]string{{"cpu", "other", "1", "1"}}, 0)
	s.expect("firing", "none")
	row := s.policyRow("p")
	ask := func(at time.Time, wants ...string) policy.Why {
		t.Helper()
		why, err := s.engine.Why(context.Background(), row, policy.Question{Cluster: "prod-1", Object: "shop/cart-1", At: at})
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if text := why.Words + " [" + why.Outcome + "] " + why.Before.Severity + " → " + why.After.Severity; !strings.Contains(text, want) {
				t.Errorf("at %s: got %q, want %q in it", at.Format(time.TimeOnly), text, want)
			}
		}
		return why
	}
	step := func(n int) time.Time { return start.Add(time.Duration(n) * interval) }
	ask(step(1), "it was ok and stayed so", "avg over 30s was 50 % in the last period; warning needs 2 of 2 above 80 %, and 0 are")
	ask(step(2), "and 1 are. So it was ok", "[ok]")
	why := ask(step(3), "90, 91 % in the last 2 periods", "the alert began with warning", "[begins]  → warning")
	if len(why.Conditions) != 1 || *why.Conditions[0].Windows[0].Value != 91 || why.Conditions[0].Windows[0].Bad != "warning" || why.Explanation == "" || len(why.Recorded) != 2 {
		t.Errorf("got %+v", why)
	}
	ask(step(5), "it went from warning to critical", "[severity] warning → critical")
	ask(step(6), "was firing with critical and went on", "[goes on]")
	ask(step(8), "the alert ended: the value is normal again", "[ends] critical →")
	ask(step(9), "[ok]")
	ask(step(11), "[begins]")
	ask(gone.Add(interval), "the alert ended: the object was deleted", "[ends] warning →")
	ask(gone.Add(3*interval), "was not judged") // the pod was away already
	ask(start.Add(-2*time.Hour), "was not judged: the object was not there yet: it is known since ")
	if why, err := s.engine.Why(context.Background(), row, policy.Question{Cluster: "prod-1", Object: "shop/nobody", At: step(3)}); err != nil || !strings.Contains(why.Words, "no pod of this name is known") {
		t.Errorf("got %q, %v", why.Words, err)
	}
	if _, err := s.engine.Why(context.Background(), row, policy.Question{Cluster: "prod-1", Object: "cart-1", At: step(3)}); err == nil || !strings.Contains(err.Error(), "must be namespace/pod") {
		t.Errorf("got %v", err)
	}
	if _, err := s.engine.Why(context.Background(), row, policy.Question{Cluster: "nowhere", Object: "shop/cart-1", At: step(3)}); !errors.Is(err, fault.ErrNotFound) {
		t.Errorf("of a cluster that there is not: %v", err)
	}
	if _, err := s.engine.Backtest(context.Background(), row, Range{From: start, To: s.now, Clusters: []string{"nowhere"}}); err == nil || !strings.Contains(err.Error(), "there is no such cluster") {
		t.Errorf("a backtest of a cluster that there is not: %v", err)
	}
}

// Who looks at the past of a cluster that is silent since the server was started
// is shown it by the interval that its senders had.
func TestIntervalOfASilentCluster(t *testing.T) {
	s := newScene(t)
	said := func(sender string, at time.Time, seconds float64) {
		s.put(labels.FromStrings(labels.MetricName, rollup.SenderInterval, "cluster", "prod-1", rollup.SenderLabel, sender), at, seconds)
	}
	is := func(want time.Duration) {
		t.Helper()
		if got, err := s.engine.intervalOf(context.Background(), "prod-1", s.now); got != want || err != nil {
			t.Errorf("%s, %v; want %s", got, err, want)
		}
	}
	is(defaultInterval)
	said("node/n-1", s.now.Add(-3*time.Hour), 60)
	said("node/n-1", s.now.Add(-2*time.Hour), 10)
	said("cluster", s.now.Add(-2*time.Hour), 15)
	is(15 * time.Second)
	s.object("pod", []string{"cart-1"})
	s.play("node/n-1", [][]string{{"cpu", "cart-1", "50"}}, 0)
	is(interval)
}

// Of expressions and of lines the state before is found, too: every moment of
// their alerts' lives says from where to where it went.
func TestWhyOfOtherLevels(t *testing.T) {
	s := newLogScene(t)
	inv := s.fileInventory()
	s.engine.opts.Archive, s.engine.opts.Inventory = inv, inv
	s.cart()
	s.inv.put(&object.Namespace{Meta: object.Meta{UID: "ns", Name: "shop", CreatedAt: s.now.Add(-time.Hour)}})
	s.report(inv, 0)
	s.resource(meta.KindPolicy, "expr", `  level: promql
  conditions: [{expr: 'max by (namespace, pod) (other) > 5', period: 30s, op: ">", thresholds: {warning: 5, critical: 50}, need: 2, of: 2}]
  recoverAfter: 1`)
	s.resource(meta.KindPolicy, "exists", `  level: promql
  conditions: [{expr: 'max by (namespace, pod) (other) > 5', period: 30s, severity: warning, need: 2, of: 2}]
  recoverAfter: 1`)
	s.resource(meta.KindPolicy, "lines", `  level: log
  conditions: [{query: "panic", count: {}, period: 30s, op: ">", thresholds: {warning: 0}, groupBy: workload}]
  recoverAfter: 2`)
	s.resource(meta.KindPolicy, "pulls", `  level: event
  conditions: [{query: "BackOff", period: 30s, op: ">=", thresholds: {info: 1, warning: 2}, groupBy: namespace}]
  recoverAfter: 1`)
	start := s.now
	for i, v := range []string{"1", "9", "9", "60", "60", "60", "1", "1", "1", "1"} {
		s.play(senderRollup, [][]string{{"other", "cart-1", v}}, 0)
		at, text := s.now.Truncate(interval), "fine"
		if i >= 2 && i < 5 {
			text = "panic"
		}
		for _, node := range []string{"n-1", "n-2"} {
			s.write(node, "cart-"+node[2:], "stdout", map[time.Time]string{at.Add(-time.Second): text}, at)
		}
		events := map[time.Time]string{}
		for n := range map[int]int{3: 1, 4: 2, 5: 1}[i] {
			events[at.Add(-time.Duration(n+1)*time.Second)] = "BackOff"
		}
		s.write("", "", wire.StreamEvents, events, at)
		s.engine.countLines(context.Background(), s.now)
	}
	step := func(n int) time.Time { return start.Add(time.Duration(n) * interval) }
	for _, tc := range []struct {
		policy, object string
		step           int
		want           string
	}{
		{"expr", "pod shop/cart-1", 2, "[ok]  → "},
		{"expr", "pod shop/cart-1", 3, "[begins]  → warning"},
		{"expr", "pod shop/cart-1", 4, "[goes on] warning → warning"},
		{"expr", "pod shop/cart-1", 5, "[severity] warning → critical"},
		{"expr", "pod shop/cart-1", 6, "[goes on] critical → critical"},
		{"exists", "pod shop/cart-1", 3, "[begins]  → warning"},
		{"exists", "pod shop/cart-1", 5, "[goes on] warning → warning"},
		{"exists", "pod shop/cart-1", 7, "[ends] warning → "},
		{"exists", "pod shop/cart-1", 8, "[ok]  → "},
		{"lines", "shop/deployment/cart", 2, "[ok]  → "},
		{"lines", "shop/deployment/cart", 3, "[begins]  → warning"},
		{"lines", "shop/deployment/cart", 5, "[goes on] warning → warning"},
		{"lines", "shop/deployment/cart", 6, "[goes on] warning → warning"},
		{"lines", "shop/deployment/cart", 7, "[ends] warning → "},
		{"pulls", "shop", 3, "[ok]  → "},
		{"pulls", "shop", 4, "[begins]  → info"},
		{"pulls", "shop", 5, "[severity] info → warning"},
		{"pulls", "shop", 7, "[ends] info → "},
	} {
		why, err := s.engine.Why(context.Background(), s.policyRow(tc.policy), policy.Question{Cluster: "prod-1", Object: tc.object, At: step(tc.step)})
		if err != nil {
			t.Fatalf("%s at %d: %v", tc.policy, tc.step, err)
		}
		if got := "[" + why.Outcome + "] " + why.Before.Severity + " → " + why.After.Severity; got != tc.want || why.Words == "" {
			t.Errorf("%s at %d: got %q (%s %s), want %q", tc.policy, tc.step, got, why.Words, why.Reason, tc.want)
		}
	}
}
