package main

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/api"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
	"github.com/crowsnest-dev/crowsnest/storage/logs/logstest"
)

func TestLinesWithARemoteEngine(t *testing.T) {
	far := logstest.StartFar(t)
	r := startServer(t, t.TempDir(), func(s *settings) {
		s.logsEngine, s.logsWriteURL = engineRemote, far.URL
		if err := s.check(); err != nil {
			t.Fatal(err)
		}
	})
	batch := wire.LogBatch{Sender: "all", ID: "b1", Groups: []wire.LogGroup{{
		Stream: wire.LogStream{Namespace: "shop", Pod: "cart-1", Container: "app", Stream: "stdout"},
		Lines:  []wire.LogLine{{Time: time.Now().UnixNano(), Message: "out of stock: socks"}, {Time: time.Now().UnixNano() + 1, Message: "out of stock: hats"}},
	}}}
	for range 2 { // the second is a resend
		if code, body := r.send("POST", wire.PathLogs, r.ingest, "application/json", compressed(t, batch), "Content-Encoding", "zstd"); code != 204 {
			t.Fatalf("logs: %d %s", code, body)
		}
	}
	push := fmt.Sprintf(`{"streams":[{"stream":{"namespace":"shop","pod":"by-loki"},"values":[["%d","from elsewhere"]]}]}`, time.Now().UnixNano())
	if code, body := r.send("POST", "/loki/api/v1/push", r.ingest, "application/json", []byte(push)); code != 204 {
		t.Fatalf("loki: %d %s", code, body)
	}
	if got := r.get("/select/logsql/query?query=" + url.QueryEscape("* | stats by (pod) count() n | sort by (pod)")); got != `{"pod":"by-loki","n":"1"}`+"\n"+`{"pod":"cart-1","n":"2"}`+"\n" {
		t.Errorf("got %s", got)
	}
	if got := r.get("/select/logsql/query?limit=1&query=" + url.QueryEscape("socks or hats")); !strings.Contains(got, "hats") {
		t.Errorf("the newest: %s", got)
	}
	for path, want := range map[string]string{
		"/select/logsql/hits?step=1h&query=*":               `"total":3`,
		"/select/logsql/field_values?field=pod&query=*":     `"cart-1"`,
		"/select/logsql/streams?query=*":                    `by-loki`,
		"/select/logsql/facets?query=*&keep_const_fields=1": `"out of stock: hats"`,
		"/readyz":  `"ready":true`,
		"/metrics": `crowsnest_logs_remote_writes_total{result="ok"}`,
	} {
		if got := r.get(path); !strings.Contains(got, want) {
			t.Errorf("%s: %s", path, got)
		}
	}
}

func TestEnginesAreChecked(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*settings)
		want   string
	}{
		"remote samples without URLs": {func(s *settings) { s.metricsEngine = engineRemote }, "metrics-write-url"},
		"remote lines without a URL":  {func(s *settings) { s.logsEngine = engineRemote }, "logs-write-url"},
		"no URL":                      {func(s *settings) { s.logsEngine, s.logsWriteURL = engineRemote, "victoria:9428" }, "logs-write-url"},
		"a URL for nothing":           {func(s *settings) { s.logsQueryURL = "http://victoria:9428" }, "logs-query-url"},
		"a file for nothing":          {func(s *settings) { s.logsHTTPFile = "x.yaml" }, "logs-http-config"},
		"another engine":              {func(s *settings) { s.logsEngine = "loki" }, "logs-engine"},
		"a bound of what is elsewhere": {func(s *settings) {
			s.logsEngine, s.logsWriteURL = engineRemote, "http://victoria:9428"
			s.logsMax.bytes = 1 << 30
		}, "logs-max-bytes"},
		"one URL for both": {func(s *settings) { s.logsEngine, s.logsWriteURL = engineRemote, "http://victoria:9428" }, ""},
	} {
		s := newSettings()
		s.data, s.listen = "data", "127.0.0.1:0"
		tc.change(s)
		if err := s.check(); (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
	}
}

// "No line for a minute", from a writer that stops to the alert of its pod, on a whole
// server; a pod that goes on, and one whose node does not say how far it is, are left
// alone.
func TestAWriterThatStops(t *testing.T) {
	r := startServer(t, t.TempDir(), nil)
	pod := func(uid, name, node string) *object.Pod {
		return &object.Pod{Meta: object.Meta{UID: uid, Namespace: "shop", Name: name, CreatedAt: time.Now().Add(-time.Hour)}, Node: node,
			Phase: object.PhaseRunning, Ready: true, Workload: object.WorkloadRef{Type: "deployment", Name: "cart"},
			Containers: []object.Container{{Name: "app", State: "running", StartedAt: time.Now().Add(-time.Hour)}}}
	}
	inv := wire.InventoryBatch{Session: "s", Sequence: 1, Time: time.Now(), Snapshot: true, Last: true,
		Nodes: []*object.Node{{Meta: object.Meta{UID: "n1", Name: "n-1", CreatedAt: time.Now().Add(-time.Hour)}, Ready: true}, {Meta: object.Meta{UID: "n2", Name: "n-2", CreatedAt: time.Now().Add(-time.Hour)}, Ready: true}},
		Pods:  []*object.Pod{pod("p1", "stops", "n-1"), pod("p2", "goes-on", "n-1"), pod("p3", "not-known", "n-2")},
	}
	if code, body := r.send("POST", wire.PathInventory, r.ingest, "application/json", compressed(t, inv), "Content-Encoding", "zstd"); code != 204 {
		t.Fatalf("inventory: %d %s", code, body)
	}
	sent := 0
	write := func(through time.Time, pods ...string) {
		t.Helper()
		sent++
		b := wire.LogBatch{Sender: "node/n-1", ID: fmt.Sprint(sent), Complete: []wire.LogMark{{Node: "n-1", Through: through.UnixNano()}}}
		for _, name := range pods {
			b.Groups = append(b.Groups, wire.LogGroup{
				Stream: wire.LogStream{Namespace: "shop", Pod: name, Container: "app", Stream: "stdout", WorkloadType: "deployment", Workload: "cart", Node: "n-1"},
				Lines:  []wire.LogLine{{Time: through.Add(-time.Millisecond).UnixNano(), Message: "at work"}},
			})
		}
		if code, body := r.send("POST", wire.PathLogs, r.ingest, "application/json", compressed(t, b), "Content-Encoding", "zstd"); code != 204 {
			t.Fatalf("logs: %d %s", code, body)
		}
	}
	begin := time.Now().Add(-4 * time.Minute)
	if begin.UTC().Truncate(day) != time.Now().UTC().Truncate(day) {
		t.Skip("the UTC day is minutes old, and what is written here is of one")
	}
	write(begin, "stops", "goes-on")
	policy := "apiVersion: crowsnest.dev/v1\nkind: Policy\nmetadata: {name: silence}\nspec:\n  level: log\n  objects: {namespaces: [shop]}\n" +
		"  conditions: [{query: \"*\", period: 1m, op: \"<\", thresholds: {critical: 1}, groupBy: pod}]\n  recoverAfter: 1\n"
	if code, body := r.send("POST", api.Prefix+"/policies", "", "application/yaml", []byte(policy)); code != 201 {
		t.Fatalf("policy: %d %s", code, body)
	}
	firing := func() string { return r.get(api.Prefix + "/alerts?policy=silence&state=firing") }
	write(begin.Add(30*time.Second), "goes-on")
	write(begin.Add(60*time.Second), "goes-on")
	write(begin.Add(100*time.Second), "goes-on")
	eventually(t, "the alert of the pod that stopped", func() bool { return strings.Contains(firing(), `"stops"`) })
	if got := firing(); strings.Contains(got, "goes-on") || strings.Contains(got, "not-known") {
		t.Errorf("others fire, too: %s", got)
	}
	write(begin.Add(130*time.Second), "stops", "goes-on")
	write(begin.Add(160*time.Second), "stops", "goes-on")
	write(begin.Add(190*time.Second), "stops", "goes-on")
	eventually(t, "its end", func() bool {
		return !strings.Contains(firing(), `"stops"`)
	})
}
