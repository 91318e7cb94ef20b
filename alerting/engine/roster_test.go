package engine

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/object"
)

// selecting is a policy of which only the selection counts.
func selecting(t *testing.T, o *policy.Objects) *compiled {
	t.Helper()
	sel, err := policy.Compile(&policy.Spec{Level: string(catalogue.Pod), Objects: o})
	if err != nil {
		t.Fatal(err)
	}
	return &compiled{level: catalogue.Pod, selection: sel, picks: sel.Key()}
}

// Whatever comes, goes and changes, the roster says of each object what the selection
// says, for policies that were there from the beginning and for later ones.
func TestTheRosterSaysWhatSelectionsSay(t *testing.T) {
	var policies []*compiled
	add := func(o *policy.Objects) {
		t.Helper()
		policies = append(policies, selecting(t, o))
	}
	add(&policy.Objects{Names: []string{"p*1", "*7"}})
	add(&policy.Objects{Namespaces: []string{"n?"}, Exclude: &policy.Exclude{Selector: "tier=web"}})
	present := map[named]*object.Pod{}
	r := newRoster()
	random := rand.New(rand.NewPCG(3, 4))
	numbers := map[named]int32{}
	cleaned := false
	for round := range 300 {
		for range 30 {
			n := random.IntN(4000)
			p := &object.Pod{Meta: object.Meta{Namespace: fmt.Sprint("n", n%12), Name: fmt.Sprint("p", n), Labels: map[string]string{"tier": []string{"web", "db"}[random.IntN(2)]}}}
			p.Workload = object.WorkloadRef{Type: "deployment", Name: fmt.Sprint("w", random.IntN(2))}
			name := named{catalogue.Pod, p.Namespace + "/" + p.Name}
			if delete(present, name); random.IntN(3) > 0 {
				present[name] = p
			}
		}
		if round == 100 {
			add(&policy.Objects{Workloads: []string{"deployment/w1*"}})
		}
		if round == 150 { // as one that there is: they share what is remembered
			add(&policy.Objects{Workloads: []string{"deployment/w1*"}})
		}
		if round == 200 {
			policies = policies[1:]
			r.forget(policies)
		}
		before := len(r.members)
		r.begin(func(n named) bool { return present[n] != nil })
		cleaned = cleaned || len(r.members) < before
		clear(numbers)
		for n, p := range present {
			numbers[n] = r.number(n, known{listed: true, object: p})
		}
		for i, c := range policies {
			for n, p := range present {
				if got, want := r.pick(c).has(numbers[n]), c.selection.Object(p, ""); got != want {
					t.Fatalf("round %d, policy %d, %s: %v, want %v", round, i, n.name, got, want)
				}
			}
		}
		if taken := slices.Sorted(maps.Values(numbers)); len(slices.Compact(taken)) != len(present) {
			t.Fatalf("round %d: two objects have one number", round)
		}
		selections := map[string]bool{}
		for _, c := range policies {
			selections[c.picks] = true
			selected := 0
			r.pick(c).each(func(number int32) {
				if !r.pick(c).has(number) {
					t.Fatalf("round %d: %d is visited and not selected", round, number)
				}
				selected++
			})
			for _, number := range numbers {
				if r.pick(c).has(number) {
					selected--
				}
			}
			if selected < 0 { // what is gone may still be there
				t.Fatalf("round %d: %d that are selected were not visited", round, -selected)
			}
		}
		if len(r.picks) != len(selections) {
			t.Fatalf("round %d: %d selections are remembered of %d", round, len(r.picks), len(selections))
		}
	}
	if !cleaned {
		t.Error("nothing was ever forgotten")
	}
}

// Among many policies, those with patterns fire for what they select and nothing else,
// round after round, also while objects change what they are.
func TestPatternsAmongManyPolicies(t *testing.T) {
	const pods = 400
	now := epoch.Add(24 * time.Hour)
	f := &fleet{pods: pods, nodes: 10, value: func(int) float64 { return 90 }}
	spec := func(objects string) string {
		return fmt.Sprintf(`{"level":"pod","objects":%s,"conditions":[{"metric":"k8s_pod_rate_cpu_core_used_limit","statistic":"last","period":"30s","op":">","thresholds":{"warning":80},"need":1,"of":1}],"recoverAfter":1,"noData":{"action":"keep","after":"5m","severity":"warning"},"group":{"by":["policy"],"interval":"5m"}}`, objects)
	}
	var specs []string
	for n := range indexFrom {
		specs = append(specs, spec(fmt.Sprintf(`{"names":["cart-%d?"]}`, n)))
	}
	specs = append(specs, spec(`{"namespaces":["sho*"],"exclude":{"names":["cart-1*"]}}`), spec(`{"workloads":["deployment/*9"]}`), spec(`{"names":["cart-7"]}`), spec(`{"namespaces":["none*"]}`))
	e := engineOf(t, f, func() time.Time { return now }, specs)
	for range 3 {
		now = now.Add(interval)
		e.evaluate(context.Background(), round{source: sourceKey{"prod-1", "all"}, trigger: triggerInterval, at: now.Truncate(interval), interval: interval, received: now})
		got := map[string]int{}
		for key := range e.alerts {
			got[key.policy]++
		}
		for _, c := range e.policies {
			want := 0
			for i := range pods {
				if c.selection.Object(f.pod(i), "") {
					want++
				}
			}
			if got[c.ref.ID] != want {
				t.Errorf("%s fires for %d pods, want %d", c.ref.ID, got[c.ref.ID], want)
			}
		}
	}
}

// Among many policies, too, what was ended by hand fires again once it was good.
func TestEndedByHandAmongManyPolicies(t *testing.T) {
	now := epoch.Add(24 * time.Hour)
	used := 90.0
	f := &fleet{pods: 100, nodes: 10, value: func(int) float64 { return used }}
	var specs []string
	for n := range indexFrom {
		specs = append(specs, fmt.Sprintf(`{"level":"pod","objects":{"names":["cart-%d?"]},"conditions":[{"metric":"k8s_pod_rate_cpu_core_used_limit","statistic":"last","period":"30s","op":">","thresholds":{"warning":80},"need":1,"of":1}],"recoverAfter":1,"noData":{"action":"keep","after":"5m","severity":"warning"},"group":{"by":["pod"],"interval":"5m"}}`, n))
	}
	e := engineOf(t, f, func() time.Time { return now }, specs)
	key := alertKey{"p3", "prod-1", subject{level: catalogue.Pod, object: "shop/cart-33"}.key()}
	for _, step := range []struct {
		used                float64
		byHand              bool // before it
		firing, held, other bool
	}{
		{used: 90, firing: true, other: true},
		{used: 90, byHand: true, held: true, other: true},
		{used: 90, held: true, other: true},
		{used: 10},
		{used: 90, firing: true, other: true},
	} {
		if step.byHand {
			id, done := e.alerts[key].IncidentID, make(chan error, 1)
			go func() { done <- e.Resolve(context.Background(), id, "somebody", "") }()
			c := <-e.calls // as Run does
			c.done <- e.act(context.Background(), c)
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		used, now = step.used, now.Add(interval)
		e.evaluate(context.Background(), round{source: sourceKey{"prod-1", "all"}, trigger: triggerInterval, at: now.Truncate(interval), interval: interval, received: now})
		other := alertKey{"p3", "prod-1", subject{level: catalogue.Pod, object: "shop/cart-34"}.key()}
		if firing := e.alerts[key] != nil; firing != step.firing || e.muzzled[key] != step.held || (e.alerts[other] != nil) != step.other {
			t.Fatalf("%+v: firing %v, held %v, the other %v", step, firing, e.muzzled[key], e.alerts[other] != nil)
		}
	}
}
