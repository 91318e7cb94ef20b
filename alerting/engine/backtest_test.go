package engine

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/storage/ingest"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// A replay of what happened is what happened: with a deleted pod, a rollout, an
// outage and a late backfill.
func TestReplayIsLive(t *testing.T) {
	s := newScene(t)
	inv := s.fileInventory()
	s.engine.opts.Archive, s.engine.opts.Inventory, s.engine.opts.ScratchDir = inv, inv, t.TempDir()
	reports := 0
	report := func() { s.report(inv, reports); reports++ }
	s.object("workload", []string{"cart", "desired=2", "revision=1"})
	for _, p := range []string{"cart-1", "cart-2", "cart-3", "cart-4"} {
		s.object("pod", []string{p, "age=1h"})
	}
	report()
	s.resource(meta.KindTarget, "team", "")
	s.resource(meta.KindPolicy, "p", `  level: pod
  conditions: [{metric: k8s_pod_rate_cpu_core_used_limit, statistic: avg, period: 1m, op: ">", thresholds: {warning: 80, critical: 95}, recovery: {warning: 70}, need: 2, of: 3}]
  recoverAfter: 2
  group: {interval: 1m}
  notify: {targets: [team], repeat: {every: 5m}}`)
	start := s.now
	rows := func(late time.Duration, values map[string][]string) {
		var list [][]string
		for _, p := range []string{"cart-1", "cart-2", "cart-3", "cart-4"} {
			if v, ok := values[p]; ok {
				list = append(list, append([]string{"cpu", p}, v...))
			}
		}
		s.play("node/n-1", list, late)
	}
	fill := func(v string, n int) []string { return slices.Repeat([]string{v}, n) }
	rows(0, map[string][]string{"cart-1": fill("50", 10), "cart-2": fill("10", 10), "cart-3": fill("20", 10), "cart-4": fill("5", 10)})
	rows(0, map[string][]string{"cart-1": fill("90", 10), "cart-2": fill("99", 10), "cart-3": fill("20", 10), "cart-4": fill("5", 10)})
	s.gone("pod", "cart-2") // deleted while it fires
	report()
	rows(0, map[string][]string{"cart-1": fill("97", 12), "cart-3": fill("85", 12), "cart-4": fill("5", 12)})
	s.object("workload", []string{"cart", "desired=2", "revision=2"}) // a rollout takes a firing pod away
	s.gone("pod", "cart-3")
	report()
	rows(0, map[string][]string{"cart-1": fill("75", 10), "cart-4": fill("5", 10)}) // above its recovery
	outage := s.now.Truncate(interval)
	held := outage.Add(-5 * interval) // cart-1 is below its threshold by then, and fires
	s.wait(20 * time.Minute)
	back := s.now.Truncate(interval)
	rows(0, map[string][]string{"cart-1": fill("50", 2), "cart-4": fill("50", 2)})
	// What happened meanwhile arrives late: a burn that nobody saw.
	now := s.now
	for at := outage.Add(interval); at.Before(back); at = at.Add(interval) {
		s.put(s.series("cpu", "cart-4"), at, 99)
		s.engine.Arrived(arrival("node/n-1", at, now))
		rounds, _, _ := s.engine.next(s.now)
		for _, r := range rounds {
			s.engine.evaluate(context.Background(), r)
		}
	}
	s.engine.saveJournal(context.Background())
	rows(0, map[string][]string{"cart-1": fill("50", 10), "cart-4": fill("50", 10)})
	s.object("pod", []string{"cart-1", "age=3h", "phase=Succeeded"})
	report()
	rows(0, map[string][]string{"cart-1": fill("99", 6), "cart-4": append(fill("90", 4), fill("20", 8)...)[:6]})
	s.tick()
	var live []string
	for _, state := range []string{meta.AlertEnded, meta.AlertFiring} {
		for _, a := range s.alerts(state) {
			if !a.FoundAt.IsZero() {
				continue // nobody knew it then
			}
			live = append(live, fmt.Sprint(a.Object.Pod, " ", a.Severity, " ", a.StartedAt.Format(time.TimeOnly), " ", a.EndedAt.Format(time.TimeOnly), " ", a.Cause))
		}
	}
	slices.Sort(live)
	if len(live) < 4 {
		t.Fatalf("too little happened: %q", live)
	}
	r, err := s.engine.Backtest(context.Background(), s.policyRow("p"), Range{From: start, To: s.now})
	if err != nil {
		t.Fatal(err)
	}
	var replayed []string
	for _, inc := range r.Incidents {
		for _, a := range inc.Alerts {
			end := time.Time{}
			if a.EndedAt != nil {
				end = *a.EndedAt
			}
			replayed = append(replayed, fmt.Sprint(a.Object["pod"], " ", a.Severity, " ", a.StartedAt.Format(time.TimeOnly), " ", end.Format(time.TimeOnly), " ", a.Cause))
		}
	}
	slices.Sort(replayed)
	if !slices.Equal(live, replayed) {
		t.Errorf("live\n%q\nreplayed\n%q", live, replayed)
	}
	told := map[string]int{}
	_ = s.meta.View(context.Background(), func(tx *meta.Tx) error {
		rows, err := tx.Notifications(meta.NotificationFilter{Limit: 1000})
		for _, n := range rows {
			told[n.Type]++
		}
		return err
	})
	for _, m := range r.Messages {
		if m.Target != "team" {
			t.Errorf("told %+v", m)
		}
	}
	if r.Masked == 0 || r.Judged >= r.Steps || r.MessageCount == 0 || len(r.Thresholds) != 1 || *r.Thresholds[0].Suggested.Critical < 90 {
		t.Errorf("got %+v, live told %v", r, told)
	}
	if peak := r.Incidents[0].Alerts[0].Peak; peak == nil {
		t.Error("no peak")
	}
	// One that begins while an alert fires that nothing but the record tells of.
	late, err := s.engine.Backtest(context.Background(), s.policyRow("p"), Range{From: held, To: s.now})
	if err != nil {
		t.Fatal(err)
	}
	replayed = replayed[:0]
	for _, inc := range late.Incidents {
		for _, a := range inc.Alerts {
			if !a.StartedAt.After(held) {
				replayed = append(replayed, fmt.Sprint(a.Object["pod"], " ", a.Severity, " ", a.StartedAt.Format(time.TimeOnly), " ", a.EndedAt.Format(time.TimeOnly), " ", a.Cause))
			}
		}
	}
	if len(replayed) != 1 || !slices.Contains(live, replayed[0]) {
		t.Errorf("of what fired at %s: replayed %q, live %q", held.Format(time.TimeOnly), replayed, live)
	}
	// A draft that asks for more fires less.
	row := s.policyRow("p")
	row.Spec = []byte(`{"level":"pod","conditions":[{"metric":"k8s_pod_rate_cpu_core_used_limit","statistic":"avg","period":"1m","op":">","thresholds":{"critical":98},"need":1,"of":1}]}`)
	draft, err := s.engine.Backtest(context.Background(), row, Range{From: start, To: s.now})
	if err != nil || draft.AlertCount == 0 || draft.AlertCount >= r.AlertCount {
		t.Errorf("got %+v, %v", draft, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.engine.Backtest(ctx, row, Range{From: start, To: s.now}); err == nil {
		t.Error("a backtest went on after its end")
	}
}

// Samples can be older than what is known of objects: those that were there from
// the first are taken to have been, since they were created.
func TestABacktestReachesBehindTheInventory(t *testing.T) {
	s := newScene(t)
	inv := s.fileInventory()
	s.engine.opts.Archive, s.engine.opts.Inventory, s.engine.opts.ScratchDir = inv, inv, t.TempDir()
	s.resource(meta.KindPolicy, "p", `  level: pod
  objects: {atLeast: 1}
  conditions: [{metric: k8s_pod_rate_cpu_core_used_limit, statistic: avg, period: 1m, op: ">", thresholds: {warning: 80}}]
  recoverAfter: 1`)
	start := s.now
	for i := range 40 {
		v := 10.0
		if i >= 10 && i < 20 {
			v = 95
		}
		for _, pod := range []string{"old-1", "new-1"} {
			s.put(s.series("cpu", pod), start.Add(time.Duration(i)*interval), v)
		}
	}
	s.now = start.Add(40 * interval)
	s.inv.put(&object.Namespace{Meta: object.Meta{UID: "ns", Name: "shop", CreatedAt: start.Add(-time.Hour)}})
	s.object("pod", []string{"old-1", "age=1h"})
	s.object("pod", []string{"new-1", "age=1m"}) // the samples of its time before are of another
	s.report(inv, 0)
	for _, end := range []time.Time{s.now, s.now.Add(-10 * interval)} { // the second knows nothing of its own time
		r, err := s.engine.Backtest(context.Background(), s.policyRow("p"), Range{From: start, To: end})
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Incidents) != 1 || len(r.Incidents[0].Alerts) != 1 || r.Incidents[0].Alerts[0].Object["pod"] != "old-1" || r.Incidents[0].Alerts[0].EndedAt == nil {
			t.Errorf("to %s: got %+v", end.Format(time.TimeOnly), r.Incidents)
		}
	}
}

func arrival(sender string, at, received time.Time) ingest.Arrival {
	return ingest.Arrival{Cluster: "prod-1", Sender: sender, Through: at, Interval: interval, Backlog: true, ReceivedAt: received}
}
