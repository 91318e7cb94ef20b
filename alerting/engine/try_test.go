package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// A trial tells what would match and the present values, and keeps nothing.
func TestTry(t *testing.T) {
	w := newWorld(t)
	w.inventory.put(cartPod(w.now.Add(-time.Hour)))
	quiet := &object.Pod{
		Meta: object.Meta{UID: "u2", Namespace: "shop", Name: "quiet-1", CreatedAt: w.now.Add(-time.Hour)}, Phase: object.PhaseRunning, Limits: object.Resources{HasCPU: true},
	}
	w.inventory.put(quiet)
	for range 6 {
		w.step("node/n-1", cpu(97))
	}
	p, err := policy.Parse([]byte("apiVersion: crowsnest.dev/v1\nkind: Policy\nmetadata: {name: t}\nspec: {level: pod, conditions: [{metric: k8s_pod_rate_cpu_core_used_limit, statistic: max, period: 1m, op: '>', thresholds: {warning: 80, critical: 95}}]}"), policy.Known{})
	if err != nil {
		t.Fatal(err)
	}
	spec, err := json.Marshal(p.Spec)
	if err != nil {
		t.Fatal(err)
	}
	trials, err := w.engine.Try(context.Background(), meta.Resource{ID: "pol_t", Kind: meta.KindPolicy, Name: "t", Spec: spec}, nil)
	if err != nil || len(trials) != 1 || len(trials[0].Objects) != 2 {
		t.Fatalf("got %+v, %v", trials, err)
	}
	first, second := trials[0].Objects[0], trials[0].Objects[1]
	if got := fmt.Sprint(first.Object["pod"], first.Severity, *first.Conditions[0].Value, first.Conditions[0].Unit, first.Explanation); got != "cart-1critical97%max over 1m was 97 % in the last period; critical above 95 %" {
		t.Errorf("got %s", got)
	}
	if second.Object["pod"] != "quiet-1" || second.Severity != "" || second.Explanation != "it has no value now" {
		t.Errorf("got %+v", second)
	}
	if len(w.firing()) != 0 {
		t.Error("a trial fired")
	}
}
