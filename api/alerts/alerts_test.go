package alerts_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humagin"
	"github.com/gin-gonic/gin"

	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/alerting/notify"
	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/alerting/replay"
	"github.com/crowsnest-dev/crowsnest/api"
	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/api/alerts"
	"github.com/crowsnest-dev/crowsnest/api/problem"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

type fakeEngine struct {
	alerts.CoreEngine
	changed int
	said    []string
}

var _ alerts.Engine = (*fakeEngine)(nil)

func (e *fakeEngine) PoliciesChanged() { e.changed++ }
func (e *fakeEngine) Status(meta.Resource, []meta.ClusterRow) (policy.Status, error) {
	return policy.Status{State: policy.StateIdle, Reasons: []string{"selects nothing"}, Clusters: []policy.ClusterStatus{}}, nil
}
func (e *fakeEngine) Intervals() map[string]time.Duration { return nil }

type server struct {
	objects objects
	t       *testing.T
	handler http.Handler
	engine  *fakeEngine
	meta    *meta.DB
}

func newServer(t *testing.T) *server {
	t.Helper()
	db, err := meta.Open(filepath.Join(t.TempDir(), "meta.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	keyring, err := notify.NewKeyring(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	outbox, err := notify.New(notify.Options{Store: db, Keyring: keyring, Allowed: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}})
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, engine: &fakeEngine{}, meta: db}
	problem.Use()
	gin.SetMode(gin.ReleaseMode)
	g := gin.New()
	config := huma.DefaultConfig("test", "v1")
	config.DocsPath, config.SchemasPath, config.OpenAPIPath, config.CreateHooks = "", "", "", nil
	config.RejectUnknownQueryParameters = true
	alerts.Register(humagin.New(g, config), alerts.Options{
		Store: db, Engine: s.engine, Outbox: outbox, Keyring: keyring, Backtests: replay.New(nil, time.Now), PublicURL: "https://c.example", Objects: s, Now: func() time.Time { return time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC) },
	})
	s.handler = g
	return s
}

func (s *server) as(kind access.Kind, method, path, body string) (int, string) {
	s.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	if !strings.HasPrefix(body, "{") {
		r.Header.Set("Content-Type", "application/yaml")
	}
	ctx, asked := access.Track(r.Context())
	if kind != "" {
		ctx = access.With(ctx, access.Principal{Kind: kind, Name: "me", Cluster: "prod-1"})
	}
	rec := httptest.NewRecorder()
	s.handler.ServeHTTP(rec, r.WithContext(ctx))
	// What has no body, or too much of one, is refused before the handler.
	if !asked() && rec.Code != 413 && !strings.Contains(rec.Body.String(), "request body is required") {
		s.t.Errorf("%s %s did not ask access.Authorize: %d %s", method, path, rec.Code, rec.Body)
	}
	return rec.Code, rec.Body.String()
}

// do expects a status and gives the body.
func (s *server) do(method, path, body string, want int) string {
	s.t.Helper()
	status, got := s.as(access.LocalAdmin, method, path, body)
	if status != want {
		s.t.Fatalf("%s %s: got %d, want %d: %s", method, path, status, want, got)
	}
	return got
}

func says(t *testing.T, text string, wants ...string) {
	t.Helper()
	for _, w := range wants {
		if !strings.Contains(text, w) {
			t.Errorf("%s\ndoes not say %s", text, w)
		}
	}
}

const (
	target = `{"apiVersion":"crowsnest.dev/v1","kind":"Target","metadata":{"name":"hook"},"spec":{"type":"webhook","url":"https://hooks.example.com/T0/secret"}}`
	pol    = `apiVersion: crowsnest.dev/v1
kind: Policy
metadata: {name: cart-cpu, labels: {team: shop}}
spec:
  level: pod
  conditions: [{metric: k8s_pod_rate_cpu_core_used_limit, period: 1m, op: ">", thresholds: {critical: 95}}]
  notify: {targets: [hook]}
`
)

func TestPoliciesAndTargets(t *testing.T) {
	s := newServer(t)
	says(t, s.do("POST", "/policies", pol, 422), `"location":"body.spec.notify.targets[0]"`, "there is no such target", `"code":"invalid"`)
	made := s.do("POST", "/targets", target, 201)
	says(t, made, `"secret":"whsec_`, `"url":"https://hooks.example.com/***"`)
	if strings.Contains(made, "T0/secret") {
		t.Errorf("the URL is given away: %s", made)
	}
	got := s.do("POST", "/policies", pol, 201)
	says(t, got, `"revision":1`, `"id":"pol_`, `"reasons":["selects nothing"]`, `"updatedBy":"me"`, `"period":"1m"`, `"managedBy":"console"`)
	if s.engine.changed != 2 {
		t.Errorf("the engine was told %d times", s.engine.changed)
	}
	says(t, s.do("POST", "/policies", pol, 409), "is there already", `"current":{`, `"name":"cart-cpu"`)

	// What was given can be given back, changed.
	changed := strings.Replace(s.do("GET", "/policies/cart-cpu", "", 200), `"critical":95`, `"critical":90`, 1)
	says(t, s.do("PUT", "/policies/cart-cpu", changed, 200), `"revision":2`, `"critical":90`)
	says(t, s.do("PUT", "/policies/cart-cpu?manager=file", strings.Replace(changed, `"revision":1`, `"revision":2`, 1), 200), `"revision":2`, `"managedBy":"console"`)
	says(t, s.do("PUT", "/policies/cart-cpu", changed, 409), "revision 1 is not the current one, which is 2", `"current":{`, `"critical":90`)
	says(t, s.do("PUT", "/policies/cart-cpu?manager=file", pol, 409), "managed by console")
	says(t, s.do("PUT", "/policies/cart-cpu?manager=file&force=true", pol, 200), `"managedBy":"file"`)
	says(t, s.do("PUT", "/policies/other", pol, 404), `"code":"not_found"`)
	says(t, s.do("PUT", "/policies/cart-cpu?manager=file", strings.Replace(pol, "cart-cpu", "else", 1), 422), "a name cannot be changed")
	says(t, s.do("GET", "/policies", "", 200), `"next":null`, `"name":"cart-cpu"`)
	says(t, s.do("GET", "/policies?filter=nothing&sort=-updatedAt&limit=1", "", 200), `"items":[]`)
	says(t, s.do("GET", "/targets?filter=hook&limit=1", "", 200), `"next":null`, `"name":"hook"`)
	says(t, s.do("GET", "/silences?cursor=x", "", 422), "must be next of an answer before")

	// The masked URL stays what it was; the secret is not shown again.
	shown := s.do("GET", "/targets/hook", "", 200)
	if strings.Contains(shown, "whsec_") || strings.Contains(shown, "T0/secret") {
		t.Errorf("secrets are given away: %s", shown)
	}
	says(t, s.do("PUT", "/targets/hook", shown, 200), `"revision":1`)
	says(t, s.do("PUT", "/targets/hook?manager=file", shown, 200), `"revision":1`, `"managedBy":"console"`)
	says(t, s.do("PUT", "/targets/hook?manager=file", strings.Replace(shown, `"maxBytes":65536`, `"maxBytes":32768`, 1), 409), "managed by console")
	says(t, s.do("PUT", "/targets/hook?manager=file", strings.Replace(shown, "https://hooks.example.com/***", "https://hooks.example.com/T1/other", 1), 409), "managed by console")
	labelled := strings.Replace(shown, `"name":"hook"`, `"name":"hook","labels":{"of":"shop"}`, 1)
	says(t, s.do("PUT", "/targets/hook", labelled, 200), `"revision":2`, `"url":"https://hooks.example.com/***"`)
	says(t, s.do("PUT", "/targets/hook", shown, 409), `"current":{`)
	says(t, s.do("DELETE", "/targets/hook", "", 409), `policy \"cart-cpu\" names it`)
	says(t, s.do("POST", "/targets/hook/test", "", 202), `"type":"test"`, `"state":"pending"`)
	s.do("DELETE", "/policies/cart-cpu", "", 204)
	s.do("DELETE", "/policies/cart-cpu", "", 404)
	s.do("DELETE", "/targets/hook", "", 204)
}

// Only what goes to a webhook is signed, so that only a webhook has a key.
func TestOnlyWebhooksHaveASigningKey(t *testing.T) {
	s := newServer(t)
	const slack = `{"apiVersion":"crowsnest.dev/v1","kind":"Target","metadata":{"name":"x"},"spec":{"type":"slack","url":"https://hooks.example.com/T0/secret"}}`
	hook := strings.Replace(slack, `"slack"`, `"webhook"`, 1)
	keyless := func(answer string) {
		t.Helper()
		if strings.Contains(answer, "whsec_") {
			t.Errorf("a key is made that nothing uses: %s", answer)
		}
	}
	keyless(s.do("POST", "/targets", slack, 201))
	says(t, s.do("POST", "/targets/x/rotate", "", 422), "is not for type slack")
	keyless(s.do("PUT", "/targets/x?dryRun=true", hook, 200))
	says(t, s.do("PUT", "/targets/x", hook, 200), `"secret":"whsec_`)
	keyless(s.do("PUT", "/targets/x", hook, 200)) // nothing changed
	says(t, s.do("POST", "/targets/x/rotate", "", 200), `"secret":"whsec_`, "previousSecretUntil")
	back := s.do("PUT", "/targets/x", slack, 200)
	keyless(back)
	if strings.Contains(back, "previousSecretUntil") {
		t.Errorf("the key before still counts: %s", back)
	}
	says(t, s.do("PUT", "/targets/x", hook, 200), `"secret":"whsec_`)
}

func TestBadInputIsToldInFull(t *testing.T) {
	s := newServer(t)
	got := s.do("POST", "/policies", `{"apiVersion":"crowsnest.dev/v1","kind":"Policy","metadata":{"name":"a"},"spec":{"level":"pod",
		"conditions":[{"metric":"k8s_pod_cpu_used","period":"-5m","op":">","thresholds":{"warning":"high"}}],"notify":{"targets":[""]}}}`, 422)
	says(t, got, "body.spec.conditions[0].metric", "body.spec.conditions[0].period", `"value":"-5m"`, "body.spec.conditions[0].thresholds.warning", "must be a number", `"value":"high"`, "body.spec.notify.targets[0]")
	says(t, s.do("POST", "/policies", `{"spec":`, 400), `"code":"malformed"`)
	for _, kind := range []string{"policies", "targets", "routes", "silences", "maintenances", "inhibitions"} {
		says(t, s.do("POST", "/"+kind, "[]", 422), `"location":"body"`, "body: must be an object, not a list\"")
	}
	says(t, s.do("POST", "/policies", "spec: 5", 422), `"location":"body.spec"`, "must be an object, not a number")
	s.do("POST", "/policies", "", 400)
	says(t, s.do("POST", "/policies", "a: "+strings.Repeat("x", policy.MaxBytes), 413), `"code":"too_large"`)
	for url, want := range map[string]string{
		"":                              "is required",
		"hooks.example.com":             "must be an address",
		"ftp://example.com/x":           "must begin with https://",
		"http://127.0.0.1:7420/":        "loopback",
		"http://[::1]/":                 "loopback",
		"http://169.254.169.254/latest": "link-local",
		"http://10.2.0.1/":              "private",
		"https://u:p@example.com/":      "must not carry",
		"https://example.com/***":       "is masked",
	} {
		doc := fmt.Sprintf(`{"apiVersion":"crowsnest.dev/v1","kind":"Target","metadata":{"name":"x"},"spec":{"type":"webhook","url":%q}}`, url)
		says(t, s.do("POST", "/targets", doc, 422), "body.spec.url", want)
	}
	s.do("POST", "/targets", strings.Replace(target, "https://hooks.example.com/T0/secret", "http://10.1.2.3/", 1), 201) // allowed by its range
	says(t, s.do("POST", "/targets", `{"apiVersion":"x","kind":"Policy","metadata":{},"spec":{"type":"email","format":"template","maxBytes":-1,"fallback":"y","to":"me"}}`, 422),
		"body.apiVersion", "body.kind", "body.metadata.name", "body.spec.email", "body.spec.format", "body.spec.maxBytes", "body.spec.to")
	says(t, s.do("POST", "/targets/a/rotate?overlap=99d", "", 422), "query.overlap", "from 0s to 30d")
}

func TestIncidentsAndDeliveries(t *testing.T) {
	s := newServer(t)
	at := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	a := &incident.Alert{ID: "alt_1", IncidentID: "inc_1", Key: "k", Firing: true, Severity: "critical", StartedAt: at, Data: incident.Data{
		Policy: incident.PolicyRef{ID: "pol_1", Name: "cart-cpu", Project: "default", Revision: 3}, Object: incident.Object{Level: "pod", Cluster: "prod-1", Namespace: "shop", Pod: "cart-1"},
		Series: []incident.Point{{T: at, V: 98.5}},
	}}
	row, err := a.Row()
	if err != nil {
		t.Fatal(err)
	}
	state, err := json.Marshal(incident.State{Title: "cart in shop: CPU", Reopened: 1})
	if err != nil {
		t.Fatal(err)
	}
	err = s.meta.Update(context.Background(), func(tx *meta.Tx) error {
		for i, st := range []string{meta.IncidentOpen, meta.IncidentResolved} {
			inc := meta.Incident{ID: fmt.Sprintf("inc_%d", i+1), GroupKey: "g", Cluster: "prod-1", State: st, Severity: "critical", StartedAt: at, Data: state}
			if err := tx.PutIncident(inc); err != nil {
				return err
			}
		}
		if err := tx.PutAlert(row); err != nil {
			return err
		}
		n := meta.Notification{ID: "ntf_1", IncidentID: "inc_1", TargetID: "tgt_gone", Type: "incident.firing", Sequence: 1, Body: []byte("{}"), CreatedAt: at, NextAt: at, GiveUpAt: at.Add(time.Hour)}
		if err := tx.Enqueue(n); err != nil {
			return err
		}
		n.State, n.Attempts, n.DoneAt, n.Error, n.NextAt = meta.NotificationDead, 1, at, "answered 400 Bad Request", at
		return tx.SaveAttempt(n, meta.Attempt{NotificationID: "ntf_1", At: at, Took: 20 * time.Millisecond, Result: "final", Status: 400, Error: "answered 400 Bad Request"})
	})
	if err != nil {
		t.Fatal(err)
	}
	active := s.do("GET", "/incidents?state=active", "", 200)
	says(t, active, `"id":"inc_1"`, `"title":"cart in shop: CPU"`, `"cluster":{"id":"prod-1","name":"prod-1"}`, `"ended_at":null`, `"reopened":1`, `"url":"https://c.example/incidents/inc_1"`)
	if strings.Contains(active, "inc_2") {
		t.Error("a resolved incident is active")
	}
	says(t, s.do("GET", "/incidents?limit=1", "", 200), `"id":"inc_2"`, `"next":"inc_2"`)
	says(t, s.do("GET", "/incidents?limit=1&cursor=inc_2", "", 200), `"id":"inc_1"`)
	says(t, s.do("GET", "/incidents/inc_1", "", 200), `"alerts":[{"id":"alt_1"`, `"series":[["2026-11-23T08:00:00Z",98.5]]`, `"deliveries":[{"id":"ntf_1"`, `"last_error":"answered 400 Bad Request"`, `"log":[{`, `"took_seconds":0.02`)
	s.do("GET", "/incidents/inc_9", "", 404)
	says(t, s.do("GET", "/alerts", "", 200), `"id":"alt_1"`, `"incident":"inc_1"`)
	says(t, s.do("GET", "/deliveries?state=dead", "", 200), `"state":"dead"`)
	says(t, s.do("POST", "/deliveries/ntf_1/resend", "", 202), `"id":"ntf_1"`, `"state":"pending"`, `"attempts":1`)
	says(t, s.do("POST", "/deliveries/ntf_1/resend?asNew=true", "", 202), `"copy_of":"ntf_1"`, `"state":"pending"`, `"attempts":0`)
	s.do("POST", "/deliveries/ntf_9/resend", "", 404)
	says(t, s.do("GET", "/schemas/notification", "", 200), `"const":"crowsnest/v1"`)
	if counts, err := alerts.Counts(context.Background(), s.meta); err != nil || counts["prod-1"].Critical != 1 {
		t.Errorf("got %v, %v", counts, err)
	}
}

// What is listed by time comes in both directions, page by page, and only what
// has all words of a filter.
func TestListsByTime(t *testing.T) {
	s := newServer(t)
	at := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	err := s.meta.Update(context.Background(), func(tx *meta.Tx) error {
		if err := tx.CreateResource(meta.Resource{ID: "tgt_1", Kind: meta.KindTarget, Project: "default", Name: "Ops-Slack", Spec: []byte("{}"), CreatedAt: at, UpdatedAt: at}); err != nil {
			return err
		}
		for i, title := range []string{"cart in shop: CPU", "cart in bank: memory", "web in Shop: memory"} {
			start := at.Add(time.Duration(i) * time.Minute)
			state, err := json.Marshal(incident.State{Title: title})
			if err != nil {
				return err
			}
			id := strconv.Itoa(i + 1)
			if err := tx.PutIncident(meta.Incident{ID: "inc_" + id, GroupKey: "g", Cluster: "prod-1", State: meta.IncidentOpen, Severity: "critical", StartedAt: start, Data: state}); err != nil {
				return err
			}
			a := &incident.Alert{ID: "alt_" + id, IncidentID: "inc_" + id, Key: id, Firing: true, Severity: "critical", StartedAt: start, Data: incident.Data{
				Policy: incident.PolicyRef{ID: "pol_" + id, Name: "p" + id}, Title: title, Object: incident.Object{Level: "pod", Cluster: "prod-1", Pod: "x-" + id}, Dimensions: map[string]string{"mountpoint": "/data" + id},
			}}
			row, err := a.Row()
			if err != nil {
				return err
			}
			if err := tx.PutAlert(row); err != nil {
				return err
			}
			n := meta.Notification{ID: "ntf_" + id, IncidentID: "inc_" + id, TargetID: "tgt_1", Type: "incident.firing", Sequence: 1, Body: []byte("{}"), CreatedAt: start, NextAt: start, GiveUpAt: start.Add(time.Hour)}
			if err := tx.Enqueue(n); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		path, query, want string
	}{
		{"/incidents", "", "3 2 1"},
		{"/incidents", "sort=started_at", "1 2 3"},
		{"/incidents", "filter=SHOP", "3 1"},
		{"/incidents", "filter=memory+shop", "3"},
		{"/incidents", "filter=%22", "3 2 1"}, // as in all JSON
		{"/incident-search", "sort=started_at&filter=memory", "2 3"},
		{"/incident-search", "text=cart+in&filter=cpu", "1"},
		{"/alerts", "sort=-started_at", "3 2 1"},
		{"/alerts", "sort=started_at&filter=memory", "2 3"},
		{"/alerts", "filter=p2+x-2+/DATA2", "2"},
		{"/alerts", "filter=nothing", ""},
		{"/deliveries", "sort=created_at", "1 2 3"},
		{"/deliveries", "filter=ops-slack+cart", "2 1"},
		{"/deliveries", "filter=ntf_3", "3"},
	} {
		for _, limit := range []int{1, 2, 3, 4} {
			var ids []string
			cursor := ""
			for range 5 {
				var got struct {
					Items []struct{ ID string }
					Next  *string
				}
				answer := s.do("GET", fmt.Sprintf("%s?limit=%d&cursor=%s&%s", tc.path, limit, cursor, tc.query), "", 200)
				if err := json.Unmarshal([]byte(answer), &got); err != nil {
					t.Fatal(err)
				}
				for _, item := range got.Items {
					_, n, _ := strings.Cut(item.ID, "_")
					ids = append(ids, n)
				}
				if got.Next == nil {
					break
				}
				cursor = *got.Next
			}
			if got := strings.Join(ids, " "); got != tc.want {
				t.Errorf("%s?%s in pages of %d: got %q, want %q", tc.path, tc.query, limit, got, tc.want)
			}
		}
	}
	says(t, s.do("GET", "/deliveries?cursor=x", "", 422), "cursor")
}

func TestWhoMayDoWhat(t *testing.T) {
	s := newServer(t)
	for _, route := range []string{
		"GET /policies", "POST /policies", "GET /policies/a", "PUT /policies/a", "DELETE /policies/a",
		"GET /targets", "POST /targets", "GET /targets/a", "PUT /targets/a", "DELETE /targets/a", "POST /targets/a/test", "POST /targets/a/rotate", "GET /schemas/notification",
		"GET /incidents", "GET /incidents/a", "GET /alerts", "GET /deliveries", "POST /deliveries/a/resend",
	} {
		method, path, _ := strings.Cut(route, " ")
		given := ""
		if method != "GET" && !strings.Contains(path, "/a/") {
			given = "{}"
		}
		if status, body := s.as("", method, path, given); status != 401 {
			t.Errorf("%s: nobody got %d %s", route, status, body)
		}
		if status, body := s.as(access.IngestToken, method, path, given); status != 403 {
			t.Errorf("%s: an ingest token got %d %s", route, status, body)
		}
	}
}

// The routes fit into the server's document beside all others.
func TestOpenAPI(t *testing.T) {
	s, err := api.New(api.Options{})
	if err != nil {
		t.Fatal(err)
	}
	says(t, string(s.OpenAPI()), `"/apis/crowsnest.dev/v1/policies/{name}"`, `"IncidentDetail"`, `"Policy": {`, `"application/yaml"`)
}
