package engine

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/crowsnest-dev/crowsnest/alerting/evaluate"
	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
)

// A policy that is bad of more objects than anybody could read has a limit, says
// so in words that help, and what is left out is counted.
func TestTooManyAlertsOfOnePolicy(t *testing.T) {
	const bad, room = 30, 10
	now := epoch.Add(24 * time.Hour)
	e := engineOf(t, &fleet{pods: bad, nodes: 10, value: func(int) float64 { return 90 }}, func() time.Time { return now }, []string{
		`{"level":"pod","conditions":[{"metric":"k8s_pod_rate_cpu_core_used_limit","statistic":"last","period":"30s","op":">","thresholds":{"warning":80},"need":1,"of":1}],"recoverAfter":1,"noData":{"action":"keep","after":"5m","severity":"warning"},"group":{"by":["policy"],"interval":"5m"}}`,
	})
	c := e.policies[0]
	now = now.Add(interval)
	for i := range maxFiring - room { // of others that fire already
		sub := subject{level: catalogue.Pod, object: "shop/cart-" + strconv.Itoa(100_000+i)}
		a := &incident.Alert{ID: "alt_" + strconv.Itoa(i), IncidentID: "inc_1", Key: sub.key(), Firing: true, Severity: catalogue.Warning, StartedAt: now.Add(-time.Hour)}
		a.Policy, a.Object = c.ref, incident.Object{Level: catalogue.Pod, Cluster: "prod-1", Namespace: "shop", Pod: "cart-" + strconv.Itoa(100_000+i)}
		a.State = evaluate.State{Newest: now.Add(-interval)}
		a.State.Latches[1] = evaluate.Latch{Closed: true, Since: a.StartedAt}
		e.alerts[keyOf(a)], e.savedAt[a.ID] = a, now
	}
	e.evaluate(context.Background(), round{source: sourceKey{"prod-1", "all"}, trigger: triggerInterval, at: now.Truncate(interval), interval: interval, received: now})
	if len(e.alerts) != maxFiring {
		t.Errorf("%d alerts fire", len(e.alerts))
	}
	if n := testutil.ToFloat64(e.metrics.left); n != bad-room {
		t.Errorf("%v are counted as left out", n)
	}
	const want = "10000 of its alerts fire there, and it is bad of more objects: those are left out; select fewer objects, or judge them at a higher level"
	if err := e.view.done[[2]string{"p0", "prod-1"}].err; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("the policy says %v", err)
	}
}
