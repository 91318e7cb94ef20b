package component

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/crowsnest-dev/crowsnest/collector/compute"
	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// samples reads the control plane twice, a minute apart, and gives what the
// second interval has, as metric{values of labels}.
func samples(t *testing.T, api *httptest.Server, targets map[string]string, now *state.Snapshot, between func()) map[string]float64 {
	t.Helper()
	u, _ := url.Parse(api.URL)
	clock := at
	direct, err := Direct(DirectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(direct.CloseIdleConnections)
	s, err := New(Options{API: u, Client: api.Client(), Direct: direct, Targets: targets, Now: func() time.Time { return clock }})
	if err != nil {
		t.Fatal(err)
	}
	c := compute.New(compute.Options{Role: wire.RoleCluster, Sender: "cluster", Interval: 30 * time.Second})
	c.Interval(clock, s.Read(t.Context(), clock, now), now)
	between()
	clock = clock.Add(time.Minute)
	out := map[string]float64{}
	for _, sample := range c.Interval(clock, s.Read(t.Context(), clock, now), now) {
		var values []string
		sample.Labels.Range(func(l labels.Label) { values = append(values, l.Value) })
		out[strings.TrimPrefix(sample.Metric, "k8s_component_")+"{"+strings.Join(values, ",")+"}"] = sample.V
	}
	return out
}

func want(t *testing.T, got map[string]float64, name string, v float64) {
	t.Helper()
	if g, ok := got[name]; !ok || math.Abs(g-v) > math.Abs(v)/500 {
		t.Errorf("%s is %v (%v), want %v", name, g, ok, v)
	}
}

// The predecessor found components by insecure ports that are gone since
// Kubernetes 1.24, and hid the alarm when the master's kubelet was down.
func TestF24ComponentsByTheirOwnWord(t *testing.T) {
	healthy := true
	api := server(t, map[string]func(http.ResponseWriter){"/readyz": say(200, "ok"), "/readyz/etcd": say(200, "ok"), "/metrics": say(200, apiMetrics)})
	sched := server(t, map[string]func(http.ResponseWriter){"/healthz": func(w http.ResponseWriter) {
		if healthy {
			say(200, "ok")(w)
		} else {
			say(500, "no")(w)
		}
	}, "/metrics": say(403, "")})
	// No node and no kubelet is known; the manager shows only as a static pod.
	now := &state.Snapshot{Synced: true, Pods: map[string]*object.Pod{"cm": {
		Meta:  object.Meta{UID: "cm", Namespace: "kube-system", Name: "kube-controller-manager-m", Labels: map[string]string{"component": "kube-controller-manager"}},
		Phase: object.PhaseRunning, Ready: true,
	}}}
	got := samples(t, api, map[string]string{Scheduler: sched.URL}, now, func() { healthy = false })
	want(t, got, "ready{apiserver}", 1)
	want(t, got, "ready{etcd}", 1)
	want(t, got, "ready{scheduler}", 0)
	want(t, got, "ready{controller_manager}", 1)
	if got["certificate_days{apiserver}"] <= 0 {
		t.Errorf("the API server's certificate has %v days left", got["certificate_days{apiserver}"])
	}

	// A real control plane: all is well, then its etcd hangs. The scheduler says that it
	// is healthy all the same, until it is killed.
	when := "well"
	api, sched = health(t, "apiserver", &when), health(t, "scheduler", &when)
	manager := health(t, "controller_manager", &when)
	targets := map[string]string{Scheduler: sched.URL, ControllerManager: manager.URL}
	ready := func(of map[string]float64, between func()) {
		t.Helper()
		got := samples(t, api, targets, &state.Snapshot{Synced: true}, between)
		for name, v := range of {
			want(t, got, "ready{"+name+"}", v)
		}
	}
	ready(map[string]float64{"apiserver": 1, "etcd": 1, "scheduler": 1, "controller_manager": 1}, func() {})
	ready(map[string]float64{"apiserver": 0, "etcd": 0, "scheduler": 1}, func() { when = "etcd stopped" })
	when = "well"
	ready(map[string]float64{"apiserver": 1, "etcd": 1, "scheduler": 0, "controller_manager": 1}, sched.Close)
}

// health answers as a real component did at a time (testdata/health.json), and forbids
// what it was not asked for then.
func health(t *testing.T, of string, when *string) *httptest.Server {
	t.Helper()
	raw, err := os.ReadFile("testdata/health.json")
	if err != nil {
		t.Fatal(err)
	}
	var recording struct {
		Answers []struct {
			When, Of, Path, Type, Body string
			Status                     int
		}
	}
	if err := json.Unmarshal(raw, &recording); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, a := range recording.Answers {
			if a.Of == of && a.Path == r.URL.Path && a.When == *when {
				w.Header().Set("Content-Type", a.Type)
				say(a.Status, a.Body)(w)
				return
			}
		}
		w.WriteHeader(http.StatusForbidden)
	}))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv
}

// The predecessor averaged microseconds over everything, CONNECT and WATCH too.
func TestF25LatencyIsAPercentileInSecondsWithoutWhatLasts(t *testing.T) {
	second := false
	text := func() string {
		n := 0
		if second {
			n = 100
		}
		var b strings.Builder
		for _, verb := range []string{"LIST", "WATCH", "CONNECT"} {
			slow := n
			if verb == "LIST" {
				slow = 0
			}
			// Lists take at most 0.1 s; the others last for minutes.
			for bound, count := range map[string]int{"0.05": n - slow - n/10, "0.1": n - slow, "60": n - slow, "+Inf": n} {
				fmt.Fprintf(&b, "apiserver_request_duration_seconds_bucket{verb=%q,le=%q} %d\n", verb, bound, 1000+max(0, count))
			}
			fmt.Fprintf(&b, "apiserver_request_total{verb=%q,code=\"200\"} %d\n", verb, 1000+n)
		}
		return b.String()
	}
	api := server(t, map[string]func(http.ResponseWriter){"/readyz": say(200, "ok"), "/metrics": func(w http.ResponseWriter) { say(200, text())(w) }})
	got := samples(t, api, nil, &state.Snapshot{Synced: true}, func() { second = true })
	want(t, got, "request_p99{apiserver,list}", 0.095)
	want(t, got, "request_rate{apiserver,list}", 100.0/60)
	for name := range got {
		if strings.Contains(name, "watch") || strings.Contains(name, "connect") {
			t.Errorf("%s is about requests that last", name)
		}
	}
	// A real API server, of which a WATCH took 20 s between the two readings. The figures
	// are those of the recordings' buckets, computed apart.
	first := true
	api = server(t, map[string]func(http.ResponseWriter){"/readyz": say(200, "ok"), "/readyz/etcd": say(200, "ok"), "/metrics": func(w http.ResponseWriter) { say(200, recorded(t, "apiserver", first))(w) }})
	got = samples(t, api, nil, &state.Snapshot{Synced: true}, func() { first = false })
	for group, of := range map[string]struct{ requests, p99 float64 }{"list": {26, 0.0241333}, "read": {61, 0.03475}, "write": {77, 0.0615}} {
		want(t, got, "request_p99{apiserver,"+group+"}", of.p99)
		want(t, got, "request_rate{apiserver,"+group+"}", of.requests/60)
	}
	want(t, got, "database_bytes{etcd}", 1175552)
}

// recorded is the first or the second of two answers of a real component, 40 s apart.
func recorded(t *testing.T, name string, first bool) string {
	t.Helper()
	number := map[bool]string{true: "1", false: "2"}[first]
	raw, err := os.ReadFile(filepath.Join("testdata", name+"_"+number+".txt"))
	if err != nil {
		t.Error(err)
	}
	return string(raw)
}

// The predecessor took the average over the scheduler's whole life, of a metric
// that is gone.
func TestF26SchedulingIsThatOfTheInterval(t *testing.T) {
	second := false
	text := func() string {
		// A million quick attempts long ago; a hundred slow ones now.
		n := 0
		if second {
			n = 100
		}
		return fmt.Sprintf("scheduler_scheduling_attempt_duration_seconds_bucket{result=\"scheduled\",le=\"0.01\"} 1000000\n"+
			"scheduler_scheduling_attempt_duration_seconds_bucket{result=\"scheduled\",le=\"2\"} %d\nscheduler_scheduling_attempt_duration_seconds_bucket{result=\"scheduled\",le=\"+Inf\"} %d\n", 1000000+n, 1000000+n)
	}
	api := server(t, map[string]func(http.ResponseWriter){"/readyz": say(200, "ok")})
	sched := server(t, map[string]func(http.ResponseWriter){"/healthz": say(200, "ok"), "/metrics": func(w http.ResponseWriter) { say(200, text())(w) }})
	got := samples(t, api, map[string]string{Scheduler: sched.URL}, &state.Snapshot{Synced: true}, func() { second = true })
	want(t, got, "scheduling_p99{scheduler}", 0.01+1.99*0.99)

	// A real scheduler, which placed eight pods between the two readings: 63.15 ms, and
	// 62.83 over its whole life.
	first := true
	sched = server(t, map[string]func(http.ResponseWriter){"/healthz": say(200, "ok"), "/metrics": func(w http.ResponseWriter) { say(200, recorded(t, "scheduler", first))(w) }})
	got = samples(t, api, map[string]string{Scheduler: sched.URL}, &state.Snapshot{Synced: true}, func() { first = false })
	want(t, got, "scheduling_p99{scheduler}", 0.0631467)
	want(t, got, "ready{scheduler}", 1)
}
