package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/storage/ingest"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
	"github.com/crowsnest-dev/crowsnest/storage/rollup"
)

// lived gives the alerts of a policy as live evaluation had them.
func (s *scene) lived(name string) (out []string) {
	for _, state := range []string{meta.AlertEnded, meta.AlertFiring} {
		for _, a := range s.alerts(state) {
			if a.Policy.Name == name {
				out = append(out, fmt.Sprint(nameOfAlert(a), " ", a.Severity, " ", a.StartedAt.Format(time.TimeOnly), " ", a.EndedAt.Format(time.TimeOnly), " ", a.Cause))
			}
		}
	}
	slices.Sort(out)
	return out
}

func replayed(r policy.Replay) (out []string) {
	for _, inc := range r.Incidents {
		for _, a := range inc.Alerts {
			end := time.Time{}
			if a.EndedAt != nil {
				end = *a.EndedAt
			}
			name := ""
			for _, k := range []string{"container", "pod", "volume", "service", "component", "workload", "node", "namespace", "cluster"} {
				if name = a.Object[k]; name != "" {
					break
				}
			}
			out = append(out, fmt.Sprint(name, " ", a.Severity, " ", a.StartedAt.Format(time.TimeOnly), " ", end.Format(time.TimeOnly), " ", a.Cause))
		}
	}
	slices.Sort(out)
	return out
}

// What PromQL, lines, events and a number of objects found is what a replay
// finds.
func TestReplayOfOtherLevels(t *testing.T) {
	s := newLogScene(t)
	inv := s.fileInventory()
	s.engine.opts.Archive, s.engine.opts.Inventory, s.engine.opts.ScratchDir = inv, inv, t.TempDir()
	s.cart()
	reports := 0
	report := func() { s.report(inv, reports); reports++ }
	report()
	s.resource(meta.KindTarget, "team", "")
	s.resource(meta.KindPolicy, "expr", `  level: promql
  conditions: [{expr: "sum by (namespace, pod) (test_load)", period: 1m, op: ">", thresholds: {warning: 5, critical: 20}, need: 2, of: 3}]
  recoverAfter: 2
  notify: {targets: [team]}`)
	s.resource(meta.KindPolicy, "exists", `  level: promql
  conditions: [{expr: "test_load > 10", period: 30s, severity: critical, need: 2, of: 2}]
  recoverAfter: 1
  notify: {targets: [team]}`)
	s.resource(meta.KindPolicy, "panics", `  level: log
  conditions: [{query: "panic", period: 1m, op: ">", thresholds: {warning: 1, critical: 3}, groupBy: workload}]
  recoverAfter: 1
  notify: {targets: [team]}`)
	s.resource(meta.KindPolicy, "quiet", `  level: log
  conditions: [{query: "*", period: 2m, op: "<", thresholds: {critical: 1}, groupBy: pod}]
  recoverAfter: 1`)
	s.resource(meta.KindPolicy, "pulls", `  level: event
  conditions: [{query: "reason:=BackOff", period: 1m, op: ">=", thresholds: {warning: 2}, groupBy: namespace}]
  recoverAfter: 1`)
	s.resource(meta.KindPolicy, "enough", `  level: pod
  objects: {names: ["cart-*"], atLeast: 2}
  noData: {action: keep, after: 1m, severity: critical}
  conditions: [{metric: k8s_pod_rate_cpu_core_used_limit, period: 30s, op: ">", thresholds: {warning: 99}}]
  notify: {targets: [team]}`)
	start := s.now
	for i := range 60 {
		s.now = start.Add(time.Duration(i+1) * interval)
		at := s.now
		load := map[bool]string{true: "30", false: "1"}[i > 10 && i < 20 || i == 30 || i > 40 && i < 50]
		var v float64
		_, _ = fmt.Sscan(load, &v)
		if i != 45 { // a gap
			s.put(s.series("test_load", "cart-1"), at, v)
		}
		s.put(s.series("coverage", ""), at, 1)
		if i == 25 {
			s.gone("pod", "cart-2")
			report()
		}
		if i == 35 {
			s.object("pod", []string{"cart-2", "age=10s", "node=n-2"})
			report()
		}
		for node, pod := range map[string]string{"n-1": "cart-1", "n-2": "cart-2"} {
			lines := map[time.Time]string{}
			if node == "n-2" || i < 5 || i > 15 { // cart-1 falls silent
				lines[at.Add(-10*time.Second)] = "ok"
			}
			if node == "n-1" && i > 20 && i < 30 && i%2 == 0 {
				lines[at.Add(-5*time.Second)], lines[at.Add(-4*time.Second)] = "panic", "panic again"
			}
			s.write(node, pod, "stdout", lines, at)
		}
		if i > 30 && i < 36 {
			s.write("", "", "events", map[time.Time]string{at.Add(-3 * time.Second): "x"}, at)
		} else {
			s.write("", "", "events", nil, at)
		}
		s.now = at.Add(300 * time.Millisecond)
		s.engine.RolledUp(rollup.Written{Cluster: "prod-1", At: at})
		s.engine.Arrived(ingest.Arrival{Cluster: "prod-1", Sender: "cluster", Through: at, Interval: interval, ReceivedAt: s.now})
		rounds, _, _ := s.engine.next(s.now)
		for _, r := range rounds {
			s.engine.evaluate(context.Background(), r)
		}
		s.engine.countLines(context.Background(), s.now)
		s.tick()
	}
	for name, least := range map[string]int{"expr": 2, "exists": 2, "panics": 1, "quiet": 1, "enough": 1} {
		live := s.lived(name)
		if len(live) < least {
			t.Errorf("%s: too little happened: %q", name, live)
		}
		r, err := s.engine.Backtest(context.Background(), s.policyRow(name), Range{From: start.Add(interval), To: s.now})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := replayed(r); !slices.Equal(live, got) {
			t.Errorf("%s: live\n%s\nreplayed\n%s", name, strings.Join(live, "\n"), strings.Join(got, "\n"))
		}
		if name != "quiet" && r.MessageCount == 0 {
			t.Errorf("%s: nobody would have been told", name)
		}
		if name == "expr" && (len(r.Thresholds) != 1 || r.Thresholds[0].Max != 30) {
			t.Errorf("thresholds %+v", r.Thresholds)
		}
	}
}

// hours are open from one time to another.
type hours struct{ from, to time.Time }

func (h hours) State(now time.Time) (bool, time.Time) {
	if now.Before(h.from) {
		return false, h.from
	}
	return now.Before(h.to), time.Time{}
}

// A replay says who would have been told what: calendars, silences and what
// other policies found count.
func TestReplayOfMessages(t *testing.T) {
	s := newScene(t)
	inv := s.fileInventory()
	s.engine.opts.Archive, s.engine.opts.Inventory, s.engine.opts.ScratchDir = inv, inv, t.TempDir()
	s.object("pod", []string{"cart-1", "age=1h"})
	s.object("node", []string{"n-1"})
	s.report(inv, 0)
	for _, name := range []string{"team", "office", "night", "late"} {
		s.resource(meta.KindTarget, name, "")
	}
	s.resource(meta.KindPolicy, "down", `  level: node
  conditions: [{metric: k8s_node_status_ready, statistic: last, period: 30s, op: "==", thresholds: {critical: 0}}]
  recoverAfter: 1
  notify: {targets: [team]}`)
	s.resource(meta.KindPolicy, "p", `  level: pod
  conditions: [{metric: k8s_pod_rate_cpu_core_used_limit, statistic: last, period: 30s, op: ">", thresholds: {warning: 80, critical: 95}}]
  recoverAfter: 1
  notify: {targets: [{name: team, severities: [critical]}, office, late], repeat: {every: 5m}, escalate: [{after: 3m, targets: [night]}]}`)
	start := s.now
	s.engine.opts.Hours = func(r meta.Resource) (Hours, string) {
		switch r.Name {
		case "office":
			return hours{start.Add(time.Hour), start.Add(2 * time.Hour)}, "night"
		case "late":
			return hours{start.Add(4 * time.Minute), start.Add(time.Hour)}, ""
		}
		return nil, ""
	}
	both := func(cpu, ready string, n int) {
		s.play("all", [][]string{append([]string{"cpu", "cart-1"}, slices.Repeat([]string{cpu}, n)...), append([]string{"ready", "n-1"}, slices.Repeat([]string{ready}, n)...)}, 0)
	}
	both("10", "1", 4)
	both("90", "1", 14) // 7 minutes: firing, an escalation, a reminder
	both("10", "1", 40)
	both("10", "0", 4)
	both("99", "0", 6) // muted by the node
	both("10", "0", 4)
	both("10", "1", 4)
	r, err := s.engine.Backtest(context.Background(), s.policyRow("p"), Range{From: start, To: s.now})
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, m := range slices.Backward(r.Told) {
		text := m.At.Sub(start).Truncate(30*time.Second).String() + " " + m.Target + " " + strings.TrimPrefix(m.Type, "incident.")
		if m.For != "" {
			text += " for " + m.For
		}
		told = append(told, text)
	}
	slices.Sort(told)
	want := []string{
		"2m30s night firing for office", "36m30s late summary", "36m30s night summary for office", "36m30s team summary", "4m0s late firing", "5m30s night escalated",
		"7m30s late reminder", "9m30s late resolved", "9m30s night resolved", "9m30s night resolved for office",
	}
	if !slices.Equal(told, want) {
		t.Errorf("told\n%s", strings.Join(told, "\n"))
	}
	if len(r.Incidents) != 2 || r.Incidents[1].Messages == 0 || !slices.Contains(r.Incidents[0].MutedBy, "Inhibition node-down") {
		t.Errorf("incidents %+v", r.Incidents)
	}
	row := s.policyRow("p")
	row.ID, row.Spec = "pol_draft", []byte(`{"level":"pod","conditions":[{"metric":"k8s_pod_rate_cpu_core_used_limit","statistic":"last","period":"30s","op":">","thresholds":{"critical":95},"need":2,"of":2}],"notify":{"targets":["team"]}}`)
	draft, err := s.engine.Backtest(context.Background(), row, Range{From: start, To: s.now})
	if err != nil {
		t.Fatal(err)
	}
	c := Compare(r, draft)
	if c.Both != 1 || c.OnlyFirst != 1 || c.OnlySecond != 0 || c.SoonerBy != -30 || len(c.Firsts) != 1 || len(c.Messages) == 0 {
		t.Errorf("comparison %+v", c)
	}
}

// A replay mutes and routes as it was then: by a silence that was taken away
// since, and by a route that another has taken the place of.
func TestReplayAsRoutesAndMutesWere(t *testing.T) {
	s := newScene(t)
	inv := s.fileInventory()
	s.engine.opts.Archive, s.engine.opts.Inventory, s.engine.opts.ScratchDir = inv, inv, t.TempDir()
	s.object("pod", []string{"cart-1", "age=1h"})
	s.report(inv, 0)
	s.resource(meta.KindTarget, "old", "")
	s.resource(meta.KindTarget, "new", "")
	remove := func(kind, name string) {
		s.update(func(tx *meta.Tx) error {
			row, err := tx.Resource(kind, "default", name)
			if err != nil {
				return err
			}
			return tx.RemoveResource(row, s.now, "eve")
		})
		s.engine.reload(context.Background(), s.now)
	}
	cpu := func(v string, n int) {
		s.play("all", [][]string{append([]string{"cpu", "cart-1"}, slices.Repeat([]string{v}, n)...)}, 0)
	}
	s.resource(meta.KindRoute, "rest", "  default: true\n  targets: [old]")
	s.resource(meta.KindPolicy, "p", `  level: pod
  conditions: [{metric: k8s_pod_rate_cpu_core_used_limit, statistic: last, period: 30s, op: ">", thresholds: {warning: 80}}]
  recoverAfter: 1`)
	start := s.now
	cpu("10", 4)
	s.resource(meta.KindSilence, "deploy", "  matchers: ['team=\"shop\"']\n  until: "+s.now.Add(10*time.Hour).Format(time.RFC3339))
	cpu("90", 4)
	cpu("10", 2)
	remove(meta.KindSilence, "deploy")
	cpu("90", 4)
	cpu("10", 130) // it is no flapping
	remove(meta.KindRoute, "rest")
	s.resource(meta.KindRoute, "rest2", "  default: true\n  targets: [new]")
	cpu("90", 4)
	cpu("10", 4)
	live := map[string]int{}
	_ = s.meta.View(context.Background(), func(tx *meta.Tx) error {
		rows, err := tx.Notifications(meta.NotificationFilter{Limit: 1000})
		for _, n := range rows {
			live[strings.TrimPrefix(n.TargetID, "target_")+" "+n.Type]++
		}
		return err
	})
	want := map[string]int{"old incident.firing": 1, "old incident.resolved": 1, "old summary": 1, "new incident.firing": 1, "new incident.resolved": 1}
	r, err := s.engine.Backtest(context.Background(), s.policyRow("p"), Range{From: start, To: s.now})
	if err != nil {
		t.Fatal(err)
	}
	replayed := map[string]int{}
	for _, m := range r.Messages {
		replayed[m.Target+" "+m.Type] += m.Count
	}
	if !maps.Equal(live, want) || !maps.Equal(replayed, want) {
		t.Errorf("live %v, replayed %v, want %v", live, replayed, want)
	}
}
