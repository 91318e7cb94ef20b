package engine

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
	"github.com/crowsnest-dev/crowsnest/storage/inventory"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
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
	ask(start.Add(-2*time.Hour), "was not judged")
	if _, err := s.engine.Why(context.Background(), row, policy.Question{Cluster: "prod-1", Object: "cart-1", At: step(3)}); err == nil || !strings.Contains(err.Error(), "must be namespace/pod") {
		t.Errorf("got %v", err)
	}
}
