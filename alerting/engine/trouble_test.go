package engine

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/storage"

	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// A policy on a metric that was deleted stops nobody: it says why it is idle, and
// what it had fire is stale, and over after a day.
func TestAPolicyOnAMetricThatIsGone(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.object("pod", []string{"cart-1"})
	s.object("pod", []string{"web-1", "workload=deployment/web"})
	s.resource(meta.KindTarget, "hook", "")
	const spec = `  level: pod
  objects: {names: ["cart-*"]}
  conditions: [{metric: k8s_pod_rate_cpu_core_used_limit, statistic: last, period: 30s, op: ">", thresholds: {warning: 80}}]
  notify: {targets: [hook]}`
	s.resource(meta.KindPolicy, "p", spec)
	s.resource(meta.KindPolicy, "q", strings.ReplaceAll(spec, "cart-*", "web-*"))
	rows := [][]string{{"cpu", "cart-1", "90"}, {"cpu", "web-1", "10"}}
	s.play("node/n-1", rows, 0)
	s.expect("sent", "hook firing")
	s.update(func(tx *meta.Tx) error {
		row, err := tx.Resource(meta.KindPolicy, "default", "p")
		if err != nil {
			return err
		}
		row.Spec = []byte(strings.ReplaceAll(string(row.Spec), "k8s_pod_rate_cpu_core_used_limit", "shop_orders"))
		_, err = tx.UpdateResource(row)
		return err
	})
	s.engine.reload(context.Background(), s.now)
	s.play("node/n-1", [][]string{{"cpu", "cart-1", "10"}, {"cpu", "web-1", "90"}}, 0)
	s.expect("firing", "cart-1 warning stale, web-1 warning")
	s.expect("sent", "hook firing")
	if _, err := s.engine.Status(s.policyRow("p"), nil); err == nil || !strings.Contains(err.Error(), `metric "shop_orders" is not in the catalogue`) {
		t.Errorf("status: %v", err)
	}
	for range 25 {
		s.now = s.now.Add(time.Hour)
		s.tick()
		s.play("node/n-1", [][]string{{"cpu", "web-1", "90"}}, 0)
	}
	s.expect("firing", "web-1 warning")
	s.expect("ended", "cart-1 no_data")
	s.expect("sent", "hook resolved")
}

// brokenStore cannot be read while err is set.
type brokenStore struct {
	storage.Queryable
	err error
}

func (b *brokenStore) Querier(mint, maxt int64) (storage.Querier, error) {
	if b.err != nil {
		return nil, b.err
	}
	return b.Queryable.Querier(mint, maxt)
}

// While samples cannot be read it is known how far evaluation is behind.
func TestLag(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	broken := &brokenStore{Queryable: s.store}
	s.engine.opts.Queryable = broken
	s.object("pod", []string{"cart-1"})
	s.resource(meta.KindPolicy, "p", `  level: pod
  conditions: [{metric: k8s_pod_rate_cpu_core_used_limit, statistic: last, period: 30s, op: ">", thresholds: {warning: 80}}]`)
	rows := [][]string{{"cpu", "cart-1", "10", "10", "10", "10"}}
	s.play("node/n-1", rows, 0)
	if _, by := s.engine.Lag(); by != 0 {
		t.Errorf("behind by %s though all is well", by)
	}
	broken.err = errors.New("a disk error")
	s.play("node/n-1", rows, 0)
	if cluster, by := s.engine.Lag(); cluster != "prod-1" || by != 2*time.Minute {
		t.Errorf("%s is behind by %s", cluster, by)
	}
	broken.err = nil
	s.play("node/n-1", rows, 0)
	if _, by := s.engine.Lag(); by != 0 {
		t.Errorf("behind by %s after it", by)
	}
}

// An annotation that only fails with the values of the moment keeps nobody from
// being told: it says what is wrong with it, and the others are as ever.
func TestAnAnnotationThatFails(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.object("pod", []string{"cart-1"})
	s.resource(meta.KindTarget, "hook", "")
	s.resource(meta.KindPolicy, "p", `  level: pod
  conditions: [{metric: k8s_pod_rate_cpu_core_used_limit, statistic: last, period: 30s, op: ">", thresholds: {warning: 80}}]
  annotations: {summary: "{{ if .Object.Pod }}{{ index .Dimensions 7 }}{{ end }}", description: "{{ .Object.Pod }} is slow"}
  notify: {targets: [hook]}`)
	s.play("node/n-1", [][]string{{"cpu", "cart-1", "90"}}, 0)
	s.expect("sent", "hook firing")
	got := s.bodies("hook")[0].Alerts[0].Annotations
	if !strings.HasPrefix(got["summary"], "(this annotation cannot be shown: ") || !strings.Contains(got["summary"], "index") || got["description"] != "cart-1 is slow" {
		t.Errorf("told %q", got)
	}
}

// Who does not wait any longer for what routes leaves the engine at it.
func TestRoutingThatIsNotWaitedFor(t *testing.T) {
	e := &Engine{calls: make(chan call), opts: Options{Now: time.Now}}
	for range 100 {
		ctx, cancel := context.WithCancel(t.Context())
		var engine sync.WaitGroup
		engine.Go(func() {
			c := <-e.calls
			cancel()
			_ = e.act(ctx, c)
		})
		if _, _, err := e.Routing(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		engine.Wait()
	}
}
