package raw

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"go.uber.org/goleak"

	"github.com/crowsnest-dev/crowsnest/collector/compute"
	"github.com/crowsnest-dev/crowsnest/collector/scrape"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func node(name string) *object.Node { return &object.Node{Meta: object.Meta{Name: name}} }

// What kubelets and the API server say comes out under its own names, with its
// own labels, whole; a node that fails is a series up with 0 and nothing else.
func TestFamiliesPassThroughUnchanged(t *testing.T) {
	tier, err := New(Options{
		Nodes: func() []*object.Node {
			return []*object.Node{node("n1"), node("n2"), {Meta: object.Meta{Name: "v"}, Virtual: true}}
		},
		Fetch: func(_ context.Context, n *object.Node, path string, into io.Writer) (time.Time, error) {
			if n.Name == "n2" {
				return time.Time{}, fmt.Errorf("%w: needs get on nodes/metrics", fault.ErrForbidden)
			}
			_, err := fmt.Fprintf(into, "# TYPE container_cpu_usage_seconds_total counter\ncontainer_cpu_usage_seconds_total{namespace=\"shop\",pod=\"cart\",job=\"x\",path=%q} 5 1000\n", path)
			return time.Time{}, err
		},
		APIServer: func(_ context.Context, into io.Writer) error {
			_, err := io.WriteString(into, "apiserver_request_total{verb=\"GET\"} 7\n")
			return err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := tier.Set([]string{wire.RawCadvisor, wire.RawAPIServer, wire.RawNodeExporter}); err != nil {
		t.Fatal(err)
	}
	if got := tier.Families(); len(got) != 2 {
		t.Errorf("read here are %v", got)
	}
	want := map[string]float64{
		`container_cpu_usage_seconds_total{instance="n1", job="x", metrics_path="/metrics/cadvisor", namespace="shop", node="n1", path="/metrics/cadvisor", pod="cart"}`: 5,
		`up{instance="n1", job="kubelet", metrics_path="/metrics/cadvisor", node="n1"}`:                                                                                  1,
		`up{instance="n2", job="kubelet", metrics_path="/metrics/cadvisor", node="n2"}`:                                                                                  0,
		`up{instance="apiserver", job="apiserver"}`:                                                                                                                      1,
		`apiserver_request_total{instance="apiserver", job="apiserver", verb="GET"}`:                                                                                     7,
	}
	told := scraped(t, tier, want, func(s compute.Sample) bool { return !strings.HasPrefix(s.Metric, "scrape_") })
	why := ""
	for _, o := range told.Targets {
		why += o.Error
	}
	if !strings.Contains(why, "needs get on nodes/metrics") {
		t.Errorf("the reason is not told: %q", why)
	}
	if told.Series[wire.RawCadvisor] != 11 || told.Series[wire.RawAPIServer] != 6 {
		t.Errorf("what the families cost: %v", told.Series)
	}
}

// Every line of what a real kubelet and a real API server told is there under its own
// name, with its own labels and value: no more, no less.
func TestRealAnswersComeThroughWhole(t *testing.T) {
	answer := func(name string) []byte {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	cadvisor, api := answer("../kubelet/testdata/cadvisor_v1_cgroupfs.txt"), answer("../component/testdata/apiserver_1.txt")
	tier, err := New(Options{
		Nodes: func() []*object.Node { return []*object.Node{node("n1")} },
		Fetch: func(_ context.Context, _ *object.Node, _ string, into io.Writer) (time.Time, error) {
			_, err := into.Write(cadvisor)
			return time.Time{}, err
		},
		APIServer: func(_ context.Context, into io.Writer) error { _, err := into.Write(api); return err },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := tier.Set([]string{wire.RawCadvisor, wire.RawAPIServer}); err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{}
	expect := func(body []byte, more ...string) {
		for _, line := range strings.Split(string(body), "\n") {
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			// No label of the recordings ends in a brace and a space.
			name, rest, found := strings.Cut(line, "} ")
			if !found {
				t.Fatalf("%q is a line without labels", line)
			}
			ls, err := parser.NewParser(parser.Options{}).ParseMetric(name + "}")
			if err != nil {
				t.Fatalf("%v in %q", err, line)
			}
			v, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			if err != nil {
				t.Fatal(err)
			}
			b := labels.NewBuilder(ls)
			for i := 0; i < len(more); i += 2 {
				b.Set(more[i], more[i+1])
			}
			// Prometheus writes bounds of buckets as numbers with a point, as OpenMetrics has them.
			if le := ls.Get(labels.BucketLabel); le != "" && le != "+Inf" && !strings.ContainsAny(le, ".e") {
				b.Set(labels.BucketLabel, le+".0")
			}
			// A label without a value is none.
			ls.Range(func(l labels.Label) {
				if l.Value == "" {
					b.Del(l.Name)
				}
			})
			name = b.Labels().Get(labels.MetricName)
			want[name+b.Del(labels.MetricName).Labels().String()] = v
		}
	}
	expect(cadvisor, "instance", "n1", "job", "kubelet", "metrics_path", "/metrics/cadvisor", "node", "n1")
	expect(api, "instance", "apiserver", "job", "apiserver")
	if len(want) < 500 {
		t.Fatalf("the recordings have %d lines", len(want))
	}
	scraped(t, tier, want, func(s compute.Sample) bool {
		return s.Metric != "up" && !strings.HasPrefix(s.Metric, "scrape_") && !s.Stale()
	})
}

// scraped scrapes a tier until all that is wanted is there, and holds that nothing else
// is, of the samples that count.
func scraped(t *testing.T, tier *Tier, want map[string]float64, counts func(compute.Sample) bool) scrape.Overview {
	t.Helper()
	s, err := scrape.New(scrape.Options{Sources: []scrape.Source{tier}, Families: wire.RawFamilies, Interval: time.Second, MinInterval: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	got := map[string]float64{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- s.Run(ctx, func(samples []compute.Sample) error {
			mu.Lock()
			defer mu.Unlock()
			for _, s := range samples {
				if counts(s) {
					got[s.Metric+s.Labels.String()] = s.V
				}
			}
			return nil
		})
	}()
	whole := func() bool { mu.Lock(); defer mu.Unlock(); return len(got) >= len(want) }
	for deadline := time.Now().Add(60 * time.Second); !whole() && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
	}
	told := s.Overview()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	for name, v := range want {
		if g, there := got[name]; !there || g != v {
			t.Errorf("%s is %v (%v), want %v", name, g, there, v)
		}
	}
	for name := range got {
		if _, there := want[name]; !there {
			t.Errorf("nobody told %s", name)
		}
	}
	return told
}

// objects is what kube-state-metrics' families are made of.
type objects struct {
	watched []bool
	parts   int
}

func (o *objects) Watch(on bool) error { o.watched = append(o.watched, on); return nil }
func (o *objects) Parts() int          { return o.parts }
func (o *objects) Troubles() []string  { return []string{"needs list and watch on leases"} }
func (o *objects) Write(_ context.Context, part, parts int, into io.Writer) error {
	_, err := fmt.Fprintf(into, "kube_part{part=\"%d\",of=\"%d\"} 1\n", part, parts)
	return err
}

// Who runs what the community's rules expect is in the labels that they look at.
func TestExportersWithinTheProcessHaveTheLabelsThatRulesExpect(t *testing.T) {
	o := &objects{parts: 2}
	tier, err := New(Options{
		Node: "n1", PodNamespace: "crowsnest", Pod: "collector-x", Objects: o,
		Host: func(_ context.Context, into io.Writer) error {
			_, err := io.WriteString(into, "node_load1 1\n")
			return err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := tier.Set([]string{wire.RawNodeExporter, wire.RawKubeState, wire.RawNodeExporter}); err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, j := range tier.Jobs() {
		for _, g := range j.Groups {
			for _, target := range g.Targets {
				got += fmt.Sprintln(j.Family, target)
				var text strings.Builder
				if err := j.Fetch(t.Context(), string(target["__address__"])+":80", &text); err != nil {
					t.Error(err)
				}
				got += text.String()
			}
		}
	}
	want := `node-exporter {__address__="n1", instance="n1", job="node-exporter", namespace="crowsnest", pod="collector-x"}
node_load1 1
kube-state-metrics {__address__="0", instance="kube-state-metrics-0", job="kube-state-metrics"}
kube_part{part="0",of="2"} 1
kube-state-metrics {__address__="1", instance="kube-state-metrics-1", job="kube-state-metrics"}
kube_part{part="1",of="2"} 1
`
	if got != want {
		t.Errorf("got %s", got)
	}
	if refused := tier.Refused(); len(refused) != 1 || refused["kube-state-metrics: needs list and watch on leases"] != 1 {
		t.Errorf("refused %v", refused)
	}
	o.parts = 1
	if jobs := tier.Jobs(); len(jobs[1].Groups[0].Targets) != 1 || string(jobs[1].Groups[0].Targets[0]["instance"]) != "kube-state-metrics" {
		t.Error("the parts did not follow the objects")
	}
	if err := tier.Set(nil); err != nil {
		t.Fatal(err)
	}
	if jobs := tier.Jobs(); len(jobs) != 0 || len(tier.Refused()) != 0 || fmt.Sprint(o.watched) != "[true false]" {
		t.Errorf("without families: %d jobs, watched %v", len(jobs), o.watched)
	}
}

func TestFamiliesThatCannotBe(t *testing.T) {
	for name, o := range map[string]Options{
		"nodes alone": {Nodes: func() []*object.Node { return nil }}, "host without its name": {Host: func(context.Context, io.Writer) error { return nil }},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	tier, err := New(Options{APIServer: func(context.Context, io.Writer) error { return errors.New("x") }})
	if err != nil {
		t.Fatal(err)
	}
	if err := tier.Set([]string{"nonsense"}); err == nil || !strings.Contains(err.Error(), "there are cadvisor") {
		t.Errorf("an unknown family: %v", err)
	}
	if err := tier.Set([]string{wire.RawAPIServer, wire.RawCadvisor}); err != nil {
		t.Fatal(err)
	}
	if a, b := tier.Jobs(), tier.Jobs(); len(a) != 1 || a[0].Config != b[0].Config {
		t.Error("jobs are made anew where nothing changed")
	}
}
