package engine

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
	"github.com/crowsnest-dev/crowsnest/storage/rollup"
)

// rolled lets an interval pass at whose end the rollups are written.
func (w *world) rolled(series map[string]labels.Labels, values map[string]float64) time.Time {
	w.t.Helper()
	w.mu.Lock()
	w.grid = w.grid.Add(interval)
	w.now = w.grid.Add(300 * time.Millisecond)
	at := w.grid
	w.mu.Unlock()
	w.append(labels.FromStrings("__name__", rollup.CoverageRatio, "cluster", "prod-1"), at, 1)
	for k, v := range values {
		w.append(series[k], at, v)
	}
	before := w.rounds()
	w.engine.RolledUp(rollup.Written{Cluster: "prod-1", At: at})
	w.judged(before)
	return at
}

func (w *world) ended() []meta.Alert {
	w.t.Helper()
	var out []meta.Alert
	if err := w.meta.View(context.Background(), func(tx *meta.Tx) (err error) {
		out, err = tx.Alerts(meta.AlertFilter{State: meta.AlertEnded})
		return err
	}); err != nil {
		w.t.Fatal(err)
	}
	return out
}

// With op an absent value is missing; labels of the result name the object, the
// others are dimensions; another cluster's series are not seen.
func TestPromQLWithOp(t *testing.T) {
	w := newWorld(t)
	w.inventory.put(cartPod(w.now.Add(-time.Hour)))
	w.policy(`
level: promql
conditions:
- {expr: "max by (namespace, pod, queue) (queue_length)", period: 30s, op: ">", thresholds: {warning: 10}, need: 2, of: 2}
recoverAfter: 1
`)
	own := labels.FromStrings("__name__", "queue_length", "cluster", "prod-1", "namespace", "shop", "pod", "cart-1", "queue", "mail")
	other := labels.FromStrings("__name__", "queue_length", "cluster", "prod-2", "namespace", "shop", "pod", "cart-2", "queue", "mail")
	series := map[string]labels.Labels{"own": own, "other": other}
	for range 3 {
		w.rolled(series, map[string]float64{"own": 20, "other": 20})
	}
	w.untilFiring(1)
	a := w.firing()[0]
	if a.Key != "pod shop/cart-1|queue=mail" || !strings.Contains(string(a.Data), `"workload":"cart"`) || !strings.Contains(string(a.Data), "the expression was 20, 20 in the last 2 periods") {
		t.Errorf("got %s %s", a.Key, a.Data)
	}
	for range 3 {
		w.rolled(series, nil) // the lookback still gives the value, and then it is missing
	}
	w.untilFiring(1)
	w.rolled(series, map[string]float64{"own": 1})
	w.untilFiring(0)
	if got := w.ended(); len(got) != 1 || got[0].Cause != "value_normal" {
		t.Errorf("got %+v", got)
	}
}

// A range still reaches the samples of a pod that is gone: it does not fire
// again.
func TestPromQLOnAPodThatIsGone(t *testing.T) {
	w := newWorld(t)
	w.inventory.put(cartPod(w.now.Add(-time.Hour)))
	w.policy(`
level: promql
conditions:
- {expr: "max by (namespace, pod) (max_over_time(pod_waits[5m])) == 1", period: 30s, severity: warning, need: 2, of: 2}
`)
	waits := labels.FromStrings("__name__", "pod_waits", "cluster", "prod-1", "namespace", "shop", "pod", "cart-1")
	series := map[string]labels.Labels{"waits": waits}
	for range 3 {
		w.rolled(series, map[string]float64{"waits": 1})
	}
	w.untilFiring(1)
	w.inventory.remove(cartPod(w.now.Add(-time.Hour)))
	w.rolled(series, nil)
	w.untilFiring(0)
	for range 4 {
		w.rolled(series, nil)
	}
	if got := w.firing(); len(got) != 0 {
		t.Errorf("it fires again: %+v", got)
	}
	if got := w.ended(); len(got) != 1 || got[0].Cause != "object_deleted" {
		t.Errorf("got %+v", got)
	}
}

// Without op an object is bad while its series exists and good when it is
// absent, unless the cluster's data were not complete.
func TestPromQLWithoutOp(t *testing.T) {
	w := newWorld(t)
	w.policy(`
level: promql
conditions:
- {expr: "job_failed == 1", period: 30s, severity: critical}
recoverAfter: 1
annotations: {summary: "A job failed"}
`)
	failed := labels.FromStrings("__name__", "job_failed", "cluster", "prod-1", "job_name", "backup")
	series := map[string]labels.Labels{"job": failed}
	w.rolled(series, map[string]float64{"job": 0})
	w.rolled(series, map[string]float64{"job": 1})
	w.untilFiring(1)
	// It is called what its author calls it, not by the expression.
	if a := w.firing()[0]; a.Severity != "critical" || a.Key != "cluster |job_name=backup" || !strings.Contains(string(a.Data), `"title":"A job failed"`) {
		t.Errorf("got %+v", a)
	}
	w.rolled(series, map[string]float64{"job": 0})
	w.untilFiring(0)
	// An expression that fails is said, and stops nobody else.
	w.policy(`
level: promql
conditions: [{expr: "up * on() group_left() up", period: 30s, op: ">", thresholds: {warning: 1}}]
`)
	a, b := labels.FromStrings("__name__", "up", "cluster", "prod-1", "i", "a"), labels.FromStrings("__name__", "up", "cluster", "prod-1", "i", "b")
	w.rolled(map[string]labels.Labels{"a": a, "b": b}, map[string]float64{"a": 1, "b": 1})
	var row meta.Resource
	_ = w.meta.View(context.Background(), func(tx *meta.Tx) (err error) { row, err = tx.Resource(meta.KindPolicy, "default", "p"); return err })
	w.until("the status tells", func() bool {
		st, err := w.engine.Status(row, nil)
		return err == nil && strings.Contains(strings.Join(st.Reasons, " "), "cannot be evaluated on prod-1: expression up *")
	})
}

// The difference to an hour ago is compared, and a forecast.
func TestChangeAndForecast(t *testing.T) {
	w := newWorld(t)
	w.inventory.put(cartPod(w.now.Add(-48 * time.Hour)))
	at := w.grid.Add(interval)
	for i := range 10 {
		w.append(podLabels(catalogue.PodCPULimitPercent, "cart-1"), at.Add(-time.Hour-time.Duration(9-i)*interval), 20)
	}
	w.policy(`
level: pod
conditions:
- {metric: k8s_pod_rate_cpu_core_used_limit, statistic: avg, period: 1m, op: ">", thresholds: {warning: 100}, change: {against: 1h, as: percent}}
`)
	w.step("node/n-1", cpu(45))
	w.untilFiring(1)
	if a := w.firing()[0]; !strings.Contains(string(a.Data), "the change of the avg over 1m against 1h ago was 125 %") || !strings.Contains(string(a.Data), `"change":{"against":"1h","as":"percent"}`) {
		t.Errorf("got %s", a.Data)
	}
	w.policy(`
level: pod
conditions:
- {metric: k8s_pod_rate_mem_no_cache_limit, statistic: avg, period: 30s, op: ">", thresholds: {critical: 100}, forecast: {within: 1h, from: 5m}}
`)
	w.inventory.put(func() *object.Pod { p := cartPod(w.now.Add(-48 * time.Hour)); p.Limits.HasMemory = true; return p }())
	for i := range 9 {
		w.step("node/n-1", map[string]float64{catalogue.PodMemLimitPercent: 50 + float64(i)})
	}
	w.untilFiring(1)
	if a := w.firing()[0]; a.Severity != "critical" || !strings.Contains(string(a.Data), "the forecast for 1h later was") || !strings.Contains(string(a.Data), `"forecast":{"within":"1h","from":"5m"}`) {
		t.Errorf("got %+v %s", a, a.Data)
	}
}

// atLeast: an alert of its own when too few objects match for noData's time.
func TestAtLeast(t *testing.T) {
	w := newWorld(t)
	pod := cartPod(w.now.Add(-time.Hour))
	w.inventory.put(pod)
	w.policy(`
level: pod
objects: {namespaces: [shop], atLeast: 1}
conditions: [{metric: k8s_pod_rate_cpu_core_used_limit, period: 1m, op: ">", thresholds: {warning: 80}}]
noData: {severity: critical, after: 1m}
`)
	w.step("cluster", nil)
	w.inventory.remove(pod)
	w.step("cluster", nil)
	w.step("cluster", nil)
	if n := len(w.firing()); n != 0 {
		t.Fatalf("%d fire at once", n)
	}
	w.step("cluster", nil)
	w.untilFiring(1)
	if a := w.firing()[0]; a.Severity != "critical" || !strings.Contains(string(a.Data), "0 match since") {
		t.Errorf("got %+v %s", a, a.Data)
	}
	w.inventory.put(pod)
	w.step("cluster", nil)
	w.untilFiring(0)
}

// A volume is in no inventory: it exists as long as it has values.
func TestObjectsBeyondTheInventory(t *testing.T) {
	var metric string
	for _, m := range catalogue.All() {
		if m.Level == catalogue.Volume && m.Place == catalogue.ByNode {
			metric = m.Name
			break
		}
	}
	if metric == "" {
		t.Skip("the catalogue has no metric of volumes")
	}
	w := newWorld(t)
	w.policy(`
level: volume
objects: {namespaces: [shop], names: ["data-*"]}
conditions: [{metric: ` + metric + `, statistic: last, period: 30s, op: ">", thresholds: {warning: 90}}]
`)
	volume := func(name string, v float64) {
		w.append(labels.FromStrings("__name__", metric, "cluster", "prod-1", "namespace", "shop", "persistentvolumeclaim", name), w.grid.Add(interval), v)
	}
	volume("data-1", 95)
	volume("tmp-1", 95)
	w.step("node/n-1", nil)
	w.untilFiring(1)
	if a := w.firing()[0]; a.Key != "volume shop/data-1|" || !strings.Contains(string(a.Data), `"volume":"data-1"`) {
		t.Errorf("got %+v %s", a, a.Data)
	}
}
