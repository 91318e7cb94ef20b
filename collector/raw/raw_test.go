package raw

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/crowsnest-dev/crowsnest/collector/compute"
	"github.com/crowsnest-dev/crowsnest/collector/scrape"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/object"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func node(name string) *object.Node { return &object.Node{Meta: object.Meta{Name: name}} }

// What kubelets and the API server say comes out under its own names, with its
// own labels, whole; a node that fails is a series up with 0 and nothing else.
func TestFamiliesPassThroughUnchanged(t *testing.T) {
	tier, err := New(Options{
		Families: []string{Cadvisor, APIServer},
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
	s, err := scrape.New(scrape.Options{Sources: []scrape.Source{tier}, Families: Families, Interval: time.Second, MinInterval: time.Second})
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
				if !strings.HasPrefix(s.Metric, "scrape_") {
					got[s.Metric+s.Labels.String()] = s.V
				}
			}
			return nil
		})
	}()
	want := map[string]float64{
		`container_cpu_usage_seconds_total{instance="n1", job="x", metrics_path="/metrics/cadvisor", namespace="shop", node="n1", path="/metrics/cadvisor", pod="cart"}`: 5,
		`up{instance="n1", job="kubelet", metrics_path="/metrics/cadvisor", node="n1"}`:                                                                                  1,
		`up{instance="n2", job="kubelet", metrics_path="/metrics/cadvisor", node="n2"}`:                                                                                  0,
		`up{instance="apiserver", job="apiserver"}`:                                                                                                                      1,
		`apiserver_request_total{instance="apiserver", job="apiserver", verb="GET"}`:                                                                                     7,
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		mu.Lock()
		n := len(got)
		mu.Unlock()
		if n >= len(want) || time.Now().After(deadline) {
			break
		}
	}
	why := ""
	for _, o := range s.Overview().Targets {
		why += o.Error
	}
	series := s.Overview().Series
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	for name, v := range want {
		if g, ok := got[name]; !ok || g != v {
			t.Errorf("%s is %v, %v", name, g, ok)
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %v", got)
	}
	if !strings.Contains(why, "needs get on nodes/metrics") {
		t.Errorf("the reason is not told: %q", why)
	}
	if series[Cadvisor] != 11 || series[APIServer] != 6 {
		t.Errorf("what the families cost: %v", series)
	}
}

func TestFamiliesThatCannotBe(t *testing.T) {
	for name, o := range map[string]Options{
		"none": {}, "unknown": {Families: []string{"nonsense"}}, "no kubelet": {Families: []string{Cadvisor}}, "no API server": {Families: []string{APIServer}},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	tier, err := New(Options{Families: []string{APIServer}, APIServer: func(context.Context, io.Writer) error { return errors.New("x") }})
	if err != nil {
		t.Fatal(err)
	}
	if a, b := tier.Jobs(), tier.Jobs(); len(a) != 1 || a[0].Config != b[0].Config {
		t.Error("jobs are made anew where nothing changed")
	}
}
