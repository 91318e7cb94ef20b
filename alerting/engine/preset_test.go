package engine

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/crowsnest-dev/crowsnest/alerting/preset"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/storage/ingest"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
	"github.com/crowsnest-dev/crowsnest/storage/rollup"
)

// Each preset fires where its fixtures say so, and nowhere else.
func TestPresets(t *testing.T) {
	all, err := preset.All()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		for kind, fixtures := range map[string][]map[string]string{"fires": p.Fires, "quiet": p.Quiet} {
			for i, series := range fixtures {
				t.Run(fmt.Sprintf("%s/%s-%d", p.Name, kind, i), func(t *testing.T) {
					t.Parallel()
					if fired := playPreset(t, p, series); fired != (kind == "fires") {
						t.Errorf("fired: %t, of %v", fired, series)
					}
				})
			}
		}
	}
}

func playPreset(t *testing.T, p preset.Preset, fixture map[string]string) (fired bool) {
	s := newScene(t)
	s.object("node", []string{"n-1"})
	s.object("workload", []string{"cart", "desired=1"})
	s.object("pod", []string{"cart-1"})
	s.inv.put(
		&object.Namespace{Meta: object.Meta{UID: "uid-ns", Name: "shop", CreatedAt: s.now.Add(-24 * interval)}},
		&object.Service{Meta: object.Meta{UID: "uid-svc", Namespace: "shop", Name: "cart", CreatedAt: s.now.Add(-24 * interval)}},
	)
	pol, err := p.Policy()
	if err != nil {
		t.Fatal(err)
	}
	spec, err := json.Marshal(pol.Spec)
	if err != nil {
		t.Fatal(err)
	}
	s.update(func(tx *meta.Tx) error {
		return tx.CreateResource(meta.Resource{ID: "pol_" + p.Name, Kind: meta.KindPolicy, Project: "default", Name: p.Name, Revision: 1, Spec: spec, ManagedBy: preset.Manager, CreatedAt: s.now, UpdatedAt: s.now})
	})
	s.engine.reload(t.Context(), s.now)

	type row struct {
		labels labels.Labels
		values []parser.SequenceValue
	}
	var rows []row
	steps := 0
	for desc, values := range fixture {
		given, seq, err := parser.NewParser(parser.Options{}).ParseSeriesDesc(desc + " " + values)
		if err != nil {
			t.Fatal(err)
		}
		l := map[string]string{"cluster": "prod-1", "node": "n-1"} // of what the catalogue does not have
		if m, ok := catalogue.Get(given.Get(labels.MetricName)); ok {
			l = map[string]string{}
			for _, name := range m.Level.SeriesLabels() {
				l[name] = map[string]string{
					"cluster": "prod-1", "node": "n-1", "namespace": "shop", "workload_type": "deployment", "workload": "cart", "pod": "cart-1",
					"container": "app", "service": "cart", "persistentvolumeclaim": "data",
				}[name]
			}
		}
		given.Range(func(x labels.Label) { l[x.Name] = x.Value })
		rows = append(rows, row{labels.FromMap(l), seq})
		steps = max(steps, len(seq))
	}
	for i := range steps {
		s.now = s.now.Truncate(interval).Add(interval)
		at := s.now
		for _, r := range rows {
			if i < len(r.values) && !r.values[i].Omitted {
				s.put(r.labels, at, r.values[i].Value)
			}
		}
		s.put(labels.FromStrings("__name__", rollup.CoverageRatio, "cluster", "prod-1"), at, 1)
		s.now = s.now.Add(interval / 100)
		for _, sender := range []string{"node/n-1", "cluster"} {
			s.engine.Arrived(ingest.Arrival{Cluster: "prod-1", Sender: sender, Through: at, Interval: interval, ReceivedAt: s.now})
		}
		s.engine.RolledUp(rollup.Written{Cluster: "prod-1", At: at})
		for {
			rounds, _, _ := s.engine.next(s.now)
			if len(rounds) == 0 {
				break
			}
			for _, r := range rounds {
				s.engine.evaluate(t.Context(), r)
			}
		}
		s.tick()
		fired = fired || len(s.engine.alerts) > 0
	}
	return fired
}

// Of a cluster that nothing is heard of one alert speaks, not one for each node;
// what is wrong with its nodes once it is back is told as ever.
func TestAClusterThatFallsSilent(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	nodes := []string{"n-1", "n-2", "n-3"}
	for _, node := range nodes {
		s.object("node", []string{node})
	}
	if err := preset.Install(t.Context(), s.meta, s.now); err != nil {
		t.Fatal(err)
	}
	s.resource(meta.KindTarget, "hook", "")
	s.resource(meta.KindRoute, "rest", "  default: true\n  targets: [hook]")
	send := func(n int, from ...string) {
		for range n {
			s.now = s.now.Truncate(interval).Add(interval)
			at := s.now
			for _, node := range nodes {
				s.put(s.series("ready", node), at, 1)
			}
			for _, node := range from {
				s.put(labels.FromStrings("__name__", "crowsnest_source_up", "cluster", "prod-1", "node", node, "source", "cadvisor"), at, 1)
			}
			s.put(s.series("coverage", ""), at, 1)
			s.now = at.Add(interval / 100)
			for _, node := range from {
				s.engine.Arrived(ingest.Arrival{Cluster: "prod-1", Sender: "node/" + node, Through: at, Interval: interval, ReceivedAt: s.now})
			}
			s.engine.Arrived(ingest.Arrival{Cluster: "prod-1", Sender: "cluster", Through: at, Interval: interval, ReceivedAt: s.now})
			s.engine.RolledUp(rollup.Written{Cluster: "prod-1", At: at})
			rounds, _, _ := s.engine.next(s.now)
			for _, r := range rounds {
				s.engine.evaluate(t.Context(), r)
			}
			s.tick()
		}
	}
	send(20, nodes...)
	s.expect("firing", "none")
	s.wait(2 * time.Minute)
	s.expect("firing", "none")
	s.wait(90 * time.Second)
	s.expect("firing", "prod-1 critical stale")
	s.expect("sent", "hook firing")
	s.wait(40 * time.Minute)
	s.expect("firing", "n-1 warning stale, n-2 warning stale, n-3 warning stale, prod-1 critical stale")
	s.expect("sent", "none")
	send(12, "n-1", "n-2")
	s.expect("firing", "n-3 warning")
	s.expect("sent", "hook resolved, hook summary, hook firing")
	send(150, "n-1", "n-2") // more than an hour: it is not forgotten
	s.expect("ended", "n-1 value_normal, n-2 value_normal, prod-1 value_normal")
	s.expect("firing", "n-3 warning")
}
