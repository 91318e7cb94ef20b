package kubelet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/collector/reading"
	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/object"
)

// elasticState is the recorded pods on a virtual node.
func elasticState(t *testing.T) *state.Snapshot {
	now := running(t)
	now.Nodes["n"].Virtual = true
	for _, p := range now.Pods {
		p.IP, p.HostNetwork = "10.0.0.1", false
	}
	return now
}

// usageOf is metrics.k8s.io's answer for the recorded pods.
func usageOf(now *state.Snapshot) string {
	var items []string
	for _, p := range now.Pods {
		var containers []string
		for _, c := range p.Containers {
			containers = append(containers, fmt.Sprintf(`{"name":%q,"usage":{"cpu":"99871234n","memory":"17344Ki"}}`, c.Name))
		}
		items = append(items, fmt.Sprintf(`{"metadata":{"name":%q,"namespace":%q,"creationTimestamp":"2026-11-23T10:00:00Z"},"timestamp":%q,"window":"15.012s","containers":[%s]}`,
			p.Name, p.Namespace, at.Add(-8*time.Second).UTC().Format(time.RFC3339), strings.Join(containers, ",")))
	}
	return `{"kind":"PodMetricsList","apiVersion":"metrics.k8s.io/v1beta1","metadata":{},"items":[` + strings.Join(items, ",") + `]}`
}

// Pods without a node of their own are read from the virtual node's summary, else
// from metrics.k8s.io, else from themselves; each is told with its trouble.
func TestElasticPodsAreReadFromWhatAnswers(t *testing.T) {
	now := elasticState(t)
	away := errors.New("connection refused")
	usage := usageOf(now)
	metrics := func(body string, err error) func(context.Context, io.Writer) error {
		return func(_ context.Context, into io.Writer) error {
			_, _ = io.WriteString(into, body)
			return err
		}
	}
	recording := recorded(t, "cadvisor_v1_cgroupfs.txt")
	endpoint := func(_ context.Context, _ *object.Pod, into io.Writer) error {
		_, err := into.Write(recording) // each pod claims to be all of them
		return err
	}
	refused := func(context.Context, *object.Pod, io.Writer) error { return away }
	for name, tc := range map[string]struct {
		summary  error
		metrics  func(context.Context, io.Writer) error
		endpoint func(context.Context, *object.Pod, io.Writer) error
		want     string
	}{
		"the summary answers":        {nil, metrics(usage, nil), endpoint, "stats_summary"},
		"metrics.k8s.io":             {away, metrics(usage, nil), endpoint, "stats_summary! metrics_api"},
		"the pods themselves":        {away, metrics("", fault.ErrNotFound), endpoint, "stats_summary! metrics_api! pod_endpoint"},
		"an API that makes no sense": {away, metrics(`{"items":7}`, nil), endpoint, "stats_summary! metrics_api! pod_endpoint"},
		"an API that knows nothing":  {away, metrics(`{"items":[]}`, nil), endpoint, "stats_summary! metrics_api! pod_endpoint"},
		"nothing answers":            {away, metrics("", away), refused, "stats_summary! metrics_api! pod_endpoint!"},
		"nothing else may be asked":  {away, nil, nil, "stats_summary!"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, nil)
			if tc.summary != nil {
				f.errs[pathSummary] = tc.summary
			}
			s, err := New(Options{Fetcher: f, PodMetrics: tc.metrics, PodEndpoint: tc.endpoint, Now: func() time.Time { return at }})
			if err != nil {
				t.Fatal(err)
			}
			sets := s.Read(t.Context(), at, now)
			if got := sources(sets); got != tc.want {
				t.Fatalf("%s, want %s", got, tc.want)
			}
			seen := map[string]bool{}
			for _, set := range sets {
				nothing := name == "nothing answers" || name == "nothing else may be asked"
				if why := set.Lacking[catalogue.PodNetworkReceive]; (why != "") != (set.Source == catalogue.MetricsAPI && (set.Err == nil || name == "an API that knows nothing") || set.Source == catalogue.StatsSummary && nothing) {
					t.Errorf("%s lacks traffic because %q", set.Source, why)
				}
				for _, c := range set.Containers {
					p := now.Pods[c.PodUID]
					if p == nil || c.Pod != p.Name || c.Namespace != p.Namespace {
						t.Errorf("a container of nobody: %+v", c)
					}
					key := string(set.Source) + c.PodUID + c.Name
					if seen[key] {
						t.Errorf("%s %s/%s is told twice", set.Source, c.Pod, c.Name)
					}
					seen[key] = true
					if set.Source == catalogue.MetricsAPI && (c.CPUCores.V != 0.099871234 || c.WorkingSetBytes.V != 17344*1024 || !c.CPUCores.At.Equal(at.Add(-8*time.Second))) {
						t.Errorf("metrics.k8s.io: %+v", c)
					}
				}
			}
		})
	}
}

// A summary that never tells, and pods that never answer, are tried now and then.
func TestWhatNeverAnswersIsLeftAlone(t *testing.T) {
	now := elasticState(t)
	f := newFake(t, nil)
	f.errs[pathSummary] = errors.New("not implemented")
	asked := 0
	s, err := New(Options{Fetcher: f, Concurrency: 1, Now: func() time.Time { return at }, PodEndpoint: func(context.Context, *object.Pod, io.Writer) error {
		asked++
		return errors.New("refused")
	}})
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		s.Read(t.Context(), at, now)
	}
	if f.asked[pathSummary] > 2 || asked != endpointTries {
		t.Errorf("in ten intervals the summary was asked %d times, pods %d times", f.asked[pathSummary], asked)
	}
	for range 4 {
		s.Read(t.Context(), at, now)
	}
	if f.asked[pathSummary] != 3 || asked != 2*endpointTries {
		t.Errorf("in fourteen intervals the summary was asked %d times, pods %d times", f.asked[pathSummary], asked)
	}
}

func TestQuantitiesThatMakeNoSense(t *testing.T) {
	for text, want := range map[string]reading.Value{
		"250m": {V: 0.25, At: at}, "1": {V: 1, At: at}, "17344Ki": {V: 17344 * 1024, At: at}, "": {}, "-1": {}, "many": {}, "1e400": {},
	} {
		if got := quantity(text, at); got != want {
			t.Errorf("%q is %+v, want %+v", text, got, want)
		}
	}
	l := &limited{most: 3}
	if _, err := l.Write([]byte("abcd")); !errors.Is(err, fault.ErrTooLarge) {
		t.Errorf("beyond its bound: %v", err)
	}
}

func TestAPodIsAskedWithoutACredential(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:"+endpointPort)
	if err != nil {
		t.Skipf("port %s is in use: %v", endpointPort, err)
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/metrics" || r.Header.Get("Authorization") != "" {
			t.Errorf("asked for %s with %q", r.URL.Path, r.Header.Get("Authorization"))
		}
		_, _ = io.WriteString(w, "up 1\n")
	}))
	srv.Listener = l
	srv.Start()
	defer srv.Close()
	var got strings.Builder
	if err := NewEndpoints().Ask(t.Context(), &object.Pod{IP: "127.0.0.1"}, &got); err != nil || got.String() != "up 1\n" {
		t.Errorf("%q, %v", got.String(), err)
	}
}

// What a real metrics-server says of the pods of a node.
func TestPodMetricsOfARealServer(t *testing.T) {
	now := &state.Snapshot{Synced: true, Nodes: map[string]*object.Node{"v": {Meta: object.Meta{Name: "v"}, Virtual: true}}, Pods: map[string]*object.Pod{}}
	for i := range 2 {
		p := &object.Pod{Meta: object.Meta{UID: fmt.Sprint("u", i), Namespace: "default", Name: []string{"probed-56b8845b45-9xfkf", "probed-56b8845b45-lkwk8"}[i]}, Node: "v", Phase: object.PhaseRunning}
		for _, c := range []string{"app", "side"} {
			p.Containers = append(p.Containers, object.Container{Name: c, ID: p.UID + c, State: "running"})
		}
		now.Pods[p.UID] = p
	}
	f := newFake(t, nil)
	f.errs[pathSummary] = errors.New("not implemented")
	s, err := New(Options{Fetcher: f, Now: func() time.Time { return at }, PodMetrics: func(_ context.Context, into io.Writer) error {
		_, err := into.Write(recorded(t, "podmetrics.json"))
		return err
	}})
	if err != nil {
		t.Fatal(err)
	}
	sets := s.Read(t.Context(), at, now)
	if got := sources(sets); got != "stats_summary! metrics_api" {
		t.Fatal(got)
	}
	for _, c := range sets[1].Containers {
		if now.Pods[c.PodUID] == nil || c.WorkingSetBytes.V < 100<<10 || c.WorkingSetBytes.V > 64<<20 || c.CPUCores.V < 0 || c.CPUCores.V > 1 || c.CPUCores.At.IsZero() {
			t.Errorf("%+v", c)
		}
	}
	if len(sets[1].Containers) < 2 {
		t.Errorf("%d containers", len(sets[1].Containers))
	}
}

func FuzzPodMetrics(f *testing.F) {
	f.Add(recorded(f, "podmetrics.json"))
	f.Add([]byte(`{"items":[{"metadata":{"namespace":"ns","name":"p"},"timestamp":"2026-11-28T07:16:34Z","containers":[{"name":"c","usage":{"cpu":"1e999","memory":"-3Ki"}}]}]}`))
	now := &state.Snapshot{Synced: true, Nodes: map[string]*object.Node{"v": {Meta: object.Meta{Name: "v"}, Virtual: true}}, Pods: map[string]*object.Pod{
		"u": {Meta: object.Meta{UID: "u", Namespace: "ns", Name: "p"}, Node: "v", Phase: object.PhaseRunning, Containers: []object.Container{{Name: "c", ID: "c", State: "running"}}},
	}}
	f.Fuzz(func(t *testing.T, body []byte) {
		s, err := New(Options{Fetcher: &fake{}, PodMetrics: func(_ context.Context, into io.Writer) error { _, err := into.Write(body); return err }})
		if err != nil {
			t.Fatal(err)
		}
		for _, set := range s.readPodMetrics(t.Context(), expectations(now), now) {
			for _, c := range set.Containers {
				if c.PodUID != "u" || !(c.CPUCores.V >= 0) || c.CPUCores.V > 1e300 || !(c.WorkingSetBytes.V >= 0) || c.WorkingSetBytes.V > 1e300 {
					t.Errorf("%+v", c)
				}
			}
		}
	})
}
