package main

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

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
