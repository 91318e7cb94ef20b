package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/api/alertmanager"
	"github.com/crowsnest-dev/crowsnest/api/ingest"
	"github.com/crowsnest-dev/crowsnest/api/logpush"
	apilogs "github.com/crowsnest-dev/crowsnest/api/logs"
	apiprometheus "github.com/crowsnest-dev/crowsnest/api/prometheus"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
	"github.com/crowsnest-dev/crowsnest/storage/logs"
	tsdb "github.com/crowsnest-dev/crowsnest/storage/metrics"
)

// complete makes a server whose routes all lead to their real handlers.
func complete(t *testing.T) *Server {
	t.Helper()
	db, err := tsdb.Open(tsdb.Options{Dir: t.TempDir(), MinFreeBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := logs.Prepare(64 << 20); err != nil {
		t.Fatal(err)
	}
	store, err := logs.Open(logs.Options{Dir: t.TempDir(), MinFreeBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(db.Close(), store.Close()); err != nil {
			t.Error(err)
		}
	})
	prom, err := apiprometheus.New(apiprometheus.Options{Store: db})
	if err != nil {
		t.Fatal(err)
	}
	logsql, err := apilogs.New(apilogs.Options{Store: store})
	if err != nil {
		t.Fatal(err)
	}
	pushed, err := logpush.New(logpush.Options{Store: store})
	if err != nil {
		t.Fatal(err)
	}
	gate, err := ingest.New(ingest.Options{}) // it refuses before it needs a store
	if err != nil {
		t.Fatal(err)
	}
	am, err := alertmanager.New(alertmanager.Options{Store: nobody{}, Receiver: nobody{}}) // as does this
	if err != nil {
		t.Fatal(err)
	}
	return opened(t, func(o *Options) {
		o.Prometheus, o.Logs, o.LogLines, o.LogPush, o.Ingest, o.Alertmanager = prom, logsql, logsql, pushed, gate, am
	})
}

// nobody is asked for anything when access is refused.
type nobody struct{ alertmanager.Store }

func (nobody) Received(context.Context, []incident.External) error { return nil }

// asksNobody are the routes that need no principal, each with the reason.
var asksNobody = map[string]string{
	"GET /healthz":                        "a kubelet asks it, and it says only that the process lives",
	"GET /health":                         "Grafana's VictoriaLogs data source asks it; as /healthz",
	"GET " + Prefix + "/tickets/:ticket":  "the ticket is the credential; a wrong one is refused",
	"POST " + Prefix + "/tickets/:ticket": "as to look at it",
	"GET /readyz":                         "a kubelet or a load balancer asks it; it names parts, no data",
}

// bodies are what routes need to come as far as their handler: their input is
// checked by its declared shape before.
var bodies = map[string]string{
	"POST " + Prefix + "/tokens":   `{"kind":"api","name":"x"}`,
	"POST " + Prefix + "/policies": `{}`,

	"PUT " + Prefix + "/clusters/:cluster/settings": `{"settings":{}}`,

	"PUT " + Prefix + "/policies/:name": `{}`,
	"POST " + Prefix + "/metrics":       `{}`,
	"PUT " + Prefix + "/metrics/:name":  `{}`,
	"POST " + Prefix + "/targets":       `{}`,
	"PUT " + Prefix + "/targets/:name":  `{}`,

	"POST " + Prefix + "/incidents/:id/assign":   `{"assignee":"x"}`,
	"POST " + Prefix + "/incidents/:id/comments": `{"text":"x"}`,
	"POST " + Prefix + "/routes":                 `{}`,
	"PUT " + Prefix + "/routes/:name":            `{}`,
	"POST " + Prefix + "/silences":               `{}`,
	"PUT " + Prefix + "/silences/:name":          `{}`,
	"POST " + Prefix + "/maintenances":           `{}`,
	"PUT " + Prefix + "/maintenances/:name":      `{}`,
	"POST " + Prefix + "/maintenances/preview":   `{}`,
	"POST " + Prefix + "/targets/preview":        `{}`,
	"POST " + Prefix + "/backtests":              `{}`,
	"POST " + Prefix + "/presets/lookback":       `{}`,
	"POST " + Prefix + "/inhibitions":            `{}`,
	"POST " + Prefix + "/rulegroups":             `{}`,
	"PUT " + Prefix + "/rulegroups/:name":        `{}`,
	"PUT " + Prefix + "/inhibitions/:name":       `{}`,
	"POST " + Prefix + "/boards":                 `{}`,
	"PUT " + Prefix + "/boards/:name":            `{}`,
}

// paths stand for a route that serves many.
var paths = map[string][]string{
	Prefix + "/grafana/dashboards/:dashboard": {Prefix + "/grafana/dashboards/pod"},
	Prefix + "/logs/context":                  {Prefix + "/logs/context?stream_id=x&time=2026-11-23T10:00:00Z"},
	Prefix + "/logs/download":                 {Prefix + "/logs/download?start=now-1h"},
	"/select/logsql/*path":                    {"/select/logsql/query?query=*", "/select/logsql/tail?query=*", "/select/logsql/facets?query=*", "/select/logsql/stream_ids?query=*"},
	alertmanager.Prefix + "/*path":            {"/api/v2/alerts", "/api/v2/silence/x", "/api/v2/silences", "/api/v2/nothing"},
	"/api/v1/*path": {
		wire.PathMetrics, ingest.PathOTLP, logpush.PathOTLP, "/api/v1/query?query=up", "/api/v1/query_range?query=up&start=0&end=1&step=1", "/api/v1/series?match[]=up",
		"/api/v1/labels", "/api/v1/label/x/values", "/api/v1/read", "/api/v1/metadata", "/api/v1/rules", "/api/v1/alerts", "/api/v1/targets",
		"/api/v1/status/config", "/api/v1/status/tsdb", "/api/v1/admin/tsdb/snapshot", "/api/v1/nothing", "/api/v1/label/x/values/",
	},
}

// Every handler asks access.Authorize, or it stands in the list above.
func TestEveryRouteAsksWhoMayDoIt(t *testing.T) {
	s := complete(t)
	seen := 0
	for _, route := range s.Routes() {
		if _, ok := asksNobody[route.Method+" "+route.Path]; ok {
			continue
		}
		targets, ok := paths[route.Path]
		if !ok {
			targets = []string{concrete(route.Path)}
		}
		for _, target := range targets {
			seen++
			if strings.HasPrefix(target, wire.PathMetrics) && route.Method != http.MethodPost {
				continue // 405 before anything else
			}
			var body io.Reader
			if b, ok := bodies[route.Method+" "+route.Path]; ok {
				body = strings.NewReader(b)
			}
			r := httptest.NewRequest(route.Method, "http://localhost"+target, body)
			r.Header.Set("Content-Type", "application/json")
			ctx, asked := access.Track(r.Context())
			rec := httptest.NewRecorder()
			// Nobody is known: the handler must ask and refuse, before it touches
			// any store.
			s.engine.ServeHTTP(rec, r.WithContext(ctx))
			if !asked() {
				t.Errorf("%s %s did not ask access.Authorize: it answered %d %.200s", route.Method, target, rec.Code, rec.Body)
				continue
			}
			if rec.Code < 400 {
				t.Errorf("%s %s answered nobody with %d", route.Method, target, rec.Code)
			}
		}
	}
	if seen < 20 {
		t.Errorf("only %d routes were walked", seen)
	}
	for route := range asksNobody {
		method, path, _ := strings.Cut(route, " ")
		if !slices.ContainsFunc(s.Routes(), func(r gin.RouteInfo) bool { return r.Method == method && r.Path == path }) {
			t.Errorf("the exception %s is no route", route)
		}
	}
}

// Who may not do something learns nothing else: not which fields a body lacks,
// nor whether a thing is there.
func TestWhoMayNotIsToldOnlyThat(t *testing.T) {
	ingest := access.NewToken(access.IngestToken)
	auth, err := access.NewAuthenticator(access.Options{Given: []access.Token{
		{Principal: access.Principal{Kind: access.APIToken, Name: "api"}, Hash: access.Hash(access.NewToken(access.APIToken))},
		{Principal: access.Principal{Kind: access.IngestToken, Name: "ingest", Cluster: "c"}, Hash: access.Hash(ingest)},
	}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := complete(t)
	s.opts.Access = auth
	for _, route := range s.Routes() {
		if _, ok := asksNobody[route.Method+" "+route.Path]; ok {
			continue
		}
		targets, ok := paths[route.Path]
		if !ok {
			targets = []string{concrete(route.Path)}
		}
		for _, target := range targets {
			if rec := ask(s, route.Method, target); rec.Code != 401 {
				t.Errorf("%s %s without a credential: %d %.200s", route.Method, target, rec.Code, rec.Body)
			}
			if path, _, _ := strings.Cut(target, "?"); isIngest(path) {
				continue
			}
			if rec := ask(s, route.Method, target, "Authorization", "Bearer "+ingest); rec.Code != 403 {
				t.Errorf("%s %s by an ingest token: %d %.200s", route.Method, target, rec.Code, rec.Body)
			}
		}
	}
}

// concrete puts something into the parameters of a route.
func concrete(path string) string {
	parts := strings.Split(path, "/")
	for i, p := range parts {
		if strings.HasPrefix(p, ":") || strings.HasPrefix(p, "*") {
			parts[i] = "x"
		}
	}
	return strings.Join(parts, "/")
}

func TestIngestTokensOnlySend(t *testing.T) {
	s := complete(t)
	as := func(method, path string) int {
		r := httptest.NewRequest(method, "http://localhost"+path, nil)
		rec := httptest.NewRecorder()
		s.ingestOnly(rec, r.WithContext(access.With(r.Context(), access.Principal{Kind: access.IngestToken, Name: "t", Cluster: "c"})))
		return rec.Code
	}
	for _, path := range []string{"/api/v1/query?query=1", "/select/logsql/query?query=*", Prefix + "/status", Prefix + "/catalogue", "/metrics"} {
		if code := as("GET", path); code != 403 {
			t.Errorf("%s: got %d", path, code)
		}
	}
	if code := as("POST", wire.PathLogs); code != 400 {
		t.Errorf("sending nothing: got %d, want 400, which is its handler's", code)
	}
}
