package remote

import (
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/config"
	"go.yaml.in/yaml/v2"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

func TestOptionsAreChecked(t *testing.T) {
	for name, o := range map[string]Options{
		"nothing":       {},
		"no scheme":     {WriteURL: "victoria:9428", QueryURL: "http://victoria:9428"},
		"with a query":  {WriteURL: "http://victoria:9428?x=1", QueryURL: "http://victoria:9428"},
		"negative time": {WriteURL: "http://victoria:9428", QueryURL: "http://victoria:9428", Timeout: -1},
	} {
		if _, err := New(o); !errors.Is(err, fault.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Headers, credentials and TLS are those of Prometheus' http_config.
func TestTheWayToTheEngine(t *testing.T) {
	var seen []string
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.URL.Path+" "+r.Header.Get("X-Scope")+" "+r.Header.Get("Authorization"))
		if r.URL.Path == "/logs/internal/select/tenant_ids" {
			_, _ = w.Write([]byte(`[{"account_id":1,"project_id":2}]`))
		}
	}))
	defer server.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	o := Options{WriteURL: server.URL + "/logs/", QueryURL: server.URL + "/logs", HTTP: config.DefaultHTTPClientConfig, Registerer: prometheus.NewRegistry()}
	if err := yaml.UnmarshalStrict([]byte("authorization: {credentials: s3cret}\nhttp_headers: {X-Scope: {values: [crowsnest]}}\ntls_config: {ca_file: "+ca+"}\n"), &o.HTTP); err != nil {
		t.Fatal(err)
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Insert(t.Context(), []byte("x")); err != nil {
		t.Error(err)
	}
	ids, err := c.GetTenantIDs(t.Context(), 0, 1)
	if err != nil || len(ids) != 1 || ids[0] != (logstorage.TenantID{AccountID: 1, ProjectID: 2}) {
		t.Errorf("tenants: %v, %v", ids, err)
	}
	if err := c.Alive(t.Context()); err != nil {
		t.Error(err)
	}
	want := "/logs/internal/insert crowsnest Bearer s3cret\n/logs/internal/select/tenant_ids crowsnest Bearer s3cret\n/logs/health crowsnest Bearer s3cret"
	if got := strings.Join(seen, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if problems, err := testutil.GatherAndLint(o.Registerer.(prometheus.Gatherer)); err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v %v", problems, err)
	}
	o.HTTP.TLSConfig = config.TLSConfig{}
	o.Registerer = nil
	other, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := other.Insert(t.Context(), []byte("x")); !errors.Is(err, fault.ErrUnavailable) || strings.Contains(err.Error(), server.URL) {
		t.Errorf("a certificate that nobody knows: %v", err)
	}
}

func TestAnAnswerThatStalls(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush()
		<-release
	}))
	defer server.Close()
	defer close(release)
	c, err := New(Options{WriteURL: server.URL, QueryURL: server.URL, Stall: 50 * time.Millisecond, Timeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	q, err := logstorage.ParseQueryAtTimestamp("*", 1)
	if err != nil {
		t.Fatal(err)
	}
	qctx := logstorage.NewQueryContext(t.Context(), &logstorage.QueryStats{}, []logstorage.TenantID{{}}, q, false, nil)
	if err := c.RunQuery(qctx, func(uint, *logstorage.DataBlock) {}); !errors.Is(err, fault.ErrUnavailable) || !strings.Contains(err.Error(), "no progress") {
		t.Errorf("query: %v", err)
	}
	if _, err := c.GetFieldNames(qctx, ""); !errors.Is(err, fault.ErrUnavailable) {
		t.Errorf("names: %v", err)
	}
	if err := c.Insert(t.Context(), []byte("x")); err != nil && !errors.Is(err, fault.ErrUnavailable) {
		t.Errorf("insert: %v", err)
	}
}

// What waits for a request may end as one is on its way. A question is asked again then, and
// nothing is written or deleted twice.
func TestAConnectionThatEndsAsARequestComes(t *testing.T) {
	all, err := logstorage.ParseFilter("*")
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		do       func(*Client) error
		requests int32
		want     error
	}{
		"question": {func(c *Client) error { _, err := c.GetTenantIDs(t.Context(), 0, 1); return err }, 3, nil},
		"write":    {func(c *Client) error { return c.Insert(t.Context(), []byte("x")) }, 2, fault.ErrUnavailable},
		"deletion": {func(c *Client) error { return c.DeleteRunTask(t.Context(), "1", 1, nil, all) }, 2, fault.ErrUnavailable},
	} {
		var requests atomic.Int32
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if requests.Add(1) == 2 {
				panic(http.ErrAbortHandler) // ends the connection without an answer
			}
			_, _ = w.Write([]byte("[]"))
		}))
		c, err := New(Options{WriteURL: server.URL, QueryURL: server.URL})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Alive(t.Context()); err != nil { // the connection is there, and waits
			t.Error(err)
		}
		if err := tc.do(c); !errors.Is(err, tc.want) || requests.Load() != tc.requests {
			t.Errorf("%s: %d requests, %v; want %d, %v", name, requests.Load(), err, tc.requests, tc.want)
		}
		c.Close()
		server.Close()
	}
}

// An answer without one of the engine's nodes is an error, whatever a query allows.
func TestNoPartOfAnAnswerIsAskedFor(t *testing.T) {
	for text, want := range map[string]string{
		`options(concurrency=2, allow_partial_response=true) "allow_partial_response=true"`: `options(concurrency=2, allow_partial_response=false) "allow_partial_response=true"`,
		`options(concurrency=2) "options(allow_partial_response=true)"`:                     `options(concurrency=2) "options(allow_partial_response=true)"`,
	} {
		q, err := logstorage.ParseQueryAtTimestamp(text, 1)
		if err != nil {
			t.Fatal(err)
		}
		args := arguments(logstorage.NewQueryContext(t.Context(), &logstorage.QueryStats{}, []logstorage.TenantID{{}}, q, false, nil))
		if got := args.Get("query"); got != want || args.Get("allow_partial_response") != "false" {
			t.Errorf("%s is asked as %s, partial %s; want %s", text, got, args.Get("allow_partial_response"), want)
		}
	}
}
