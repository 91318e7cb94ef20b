package engine

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/evidence"
	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
	"github.com/crowsnest-dev/crowsnest/storage/logs/logstest"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

const lastCPUPolicy = `  level: pod
  conditions: [{metric: k8s_pod_rate_cpu_core_used_limit, statistic: last, period: 30s, op: ">", thresholds: {warning: 80}}]
  recoverAfter: 1
  notify: {targets: [hook, chat]}`

// bodies gives what a target was sent, the oldest first.
func (s *scene) bodies(target string) (out []incident.Message) {
	_ = s.meta.View(context.Background(), func(tx *meta.Tx) error {
		rows, err := tx.Notifications(meta.NotificationFilter{TargetID: "target_" + target})
		for i := len(rows) - 1; i >= 0; i-- {
			var m incident.Message
			if err := json.Unmarshal(rows[i].Body, &m); err != nil {
				s.fail("%v", err)
			}
			out = append(out, m)
		}
		return err
	})
	return out
}

// The message says what was around the alert when it began: lines only to
// webhooks, and not those of others.
func TestEvidence(t *testing.T) {
	s := newScene(t)
	inv, store := s.fileInventory(), logstest.Open(t)
	s.engine.opts.Archive, s.engine.opts.Inventory = inv, inv
	s.engine.opts.Evidence = &evidence.Collector{Lines: store, Objects: inv}
	s.object("workload", []string{"cart", "desired=1", "revision=1"})
	s.object("pod", []string{"cart-1"})
	s.inv.put(&object.Node{Meta: object.Meta{UID: "n", Name: "n-1", CreatedAt: s.now}, Ready: true, Conditions: []object.Condition{
		{Type: "Ready", Status: "True"}, {Type: "MemoryPressure", Status: "True", Reason: "KubeletHasInsufficientMemory", Since: s.now},
	}})
	s.report(inv, 0)
	s.now = s.now.Add(time.Minute)
	s.object("workload", []string{"cart", "desired=1", "revision=2"})
	s.report(inv, 1)
	s.resource(meta.KindTarget, "hook", "")
	s.update(func(tx *meta.Tx) error {
		return tx.CreateResource(meta.Resource{ID: "target_chat", Kind: meta.KindTarget, Project: "default", Name: "chat", Revision: 1, Spec: []byte(`{"type":"slack"}`), ManagedBy: "console", CreatedAt: s.now, UpdatedAt: s.now})
	})
	s.resource(meta.KindPolicy, "p", lastCPUPolicy)
	line := func(text, level string, fields ...string) wire.LogLine {
		f := map[string]string{"level": level}
		for i := 0; i+1 < len(fields); i += 2 {
			f[fields[i]] = fields[i+1]
		}
		return wire.LogLine{Time: s.now.UnixNano(), Message: text, Fields: wire.FieldsOf(f)}
	}
	of := func(pod string) wire.LogStream {
		return wire.LogStream{Namespace: "shop", Pod: pod, Container: "app", WorkloadType: "deployment", Workload: "cart", Node: "n-1", Stream: "stderr"}
	}
	if err := store.Append(context.Background(), "prod-1", &wire.LogBatch{Sender: "node/n-1", ID: "b1", Groups: []wire.LogGroup{
		{Stream: of("cart-1"), Lines: []wire.LogLine{line("too slow", "warn"), line("all is well", "info"), line(strings.Repeat("x", 3000), "error")}},
		{Stream: of("cart-2"), Lines: []wire.LogLine{line("of another pod", "error")}},
		{Stream: wire.LogStream{Namespace: "shop", Stream: wire.StreamEvents}, Lines: []wire.LogLine{
			line("Back-off restarting", "warn", "kind", "Pod", "name", "cart-1", "reason", "BackOff", "type", "Warning", "count", "3", "uid", "u1"),
			line("of another", "info", "kind", "Pod", "name", "cart-2", "reason", "Pulled", "type", "Normal", "count", "1", "uid", "u2"),
		}},
	}}); err != nil {
		t.Fatal(err)
	}
	s.play("node/n-1", [][]string{{"cpu", "cart-1", "90"}}, 0)
	s.engine.workers.Wait()
	for len(s.engine.evidence.done) > 0 {
		s.engine.foundLate(context.Background(), <-s.engine.evidence.done)
	}
	s.wait(30 * time.Second)
	sent := s.bodies("hook")
	got := sent[len(sent)-1].Alerts[0].Evidence
	if len(got.Logs) != 2 || len(got.Events) != 1 || got.Events[0].Reason != "BackOff" || got.Events[0].Count != 3 || len(got.Series) == 0 {
		t.Errorf("evidence %+v", got)
	}
	for _, l := range got.Logs {
		if l.Line != "too slow" && len(l.Line) != 2<<10+len("…") {
			t.Errorf("line %q", l.Line)
		}
	}
	if r := got.Rollout; r == nil || r.From != "1" || r.To != "2" {
		t.Errorf("rollout %+v", got.Rollout)
	}
	if n := got.Node; n == nil || !n.Ready || len(n.Conditions) != 1 || n.Conditions[0].Type != "MemoryPressure" {
		t.Errorf("node %+v", got.Node)
	}
	chats := s.bodies("chat")
	if chat := chats[len(chats)-1].Alerts[0].Evidence; len(chat.Logs) != 0 || len(chat.Events) != 1 {
		t.Errorf("the chat was told %+v", chat)
	}
}

type slowEvidence struct{ let chan struct{} }

func (f slowEvidence) Collect(ctx context.Context, _ *incident.Alert, now time.Time) *incident.Around {
	select {
	case <-f.let:
	case <-ctx.Done():
	}
	return &incident.Around{At: now, Logs: []incident.Line{{Line: "why"}}}
}

// Evidence that takes longer than its time does not keep the message; it follows
// as an update.
func TestEvidenceThatIsLate(t *testing.T) {
	s := newScene(t)
	slow := slowEvidence{make(chan struct{})}
	s.engine.opts.Evidence = slow
	s.object("pod", []string{"cart-1"})
	s.resource(meta.KindTarget, "hook", "")
	s.resource(meta.KindTarget, "chat", "")
	s.resource(meta.KindPolicy, "p", lastCPUPolicy)
	began := time.Now()
	s.play("node/n-1", [][]string{{"cpu", "cart-1", "90"}}, 0)
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("the engine waited %s", took)
	}
	s.expect("sent", "hook firing, chat firing")
	close(slow.let)
	s.engine.workers.Wait()
	s.engine.foundLate(context.Background(), <-s.engine.evidence.done)
	s.wait(30 * time.Second)
	s.expect("sent", "hook updated, chat updated")
	if m := s.bodies("hook"); len(m[0].Alerts[0].Evidence.Logs) != 0 || len(m[1].Alerts[0].Evidence.Logs) != 1 {
		t.Errorf("sent %+v", m)
	}
	s.wait(10 * time.Minute)
	s.expect("sent", "none")
}
