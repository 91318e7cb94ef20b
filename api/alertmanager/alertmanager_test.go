package alertmanager

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-openapi/runtime"
	httptransport "github.com/go-openapi/runtime/client"
	"github.com/go-openapi/strfmt"
	"github.com/prometheus/alertmanager/api/v2/client"
	amalert "github.com/prometheus/alertmanager/api/v2/client/alert"
	"github.com/prometheus/alertmanager/api/v2/client/alertgroup"
	"github.com/prometheus/alertmanager/api/v2/client/general"
	"github.com/prometheus/alertmanager/api/v2/client/receiver"
	amsilence "github.com/prometheus/alertmanager/api/v2/client/silence"
	"github.com/prometheus/alertmanager/api/v2/models"
	amconfig "github.com/prometheus/alertmanager/config"

	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// received keeps what was posted.
type received struct{ alerts []incident.External }

func (r *received) Received(_ context.Context, alerts []incident.External) error {
	r.alerts = append(r.alerts, alerts...)
	return nil
}

type world struct {
	t         *testing.T
	db        *meta.DB
	got       received
	principal access.Principal
	url       string
	client    *client.AlertmanagerAPI // Alertmanager's own, as amtool uses it
	now       time.Time
	changed   int
}

func newWorld(t *testing.T) *world {
	t.Helper()
	db, err := meta.Open(filepath.Join(t.TempDir(), "meta.db"))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, db: db, principal: access.Principal{Kind: access.APIToken, Name: "ops"}, now: time.Now().UTC().Truncate(time.Millisecond)}
	h, err := New(Options{Store: db, Receiver: &w.got, Changed: func() { w.changed++ }, Version: "test", StartedAt: w.now, Now: func() time.Time { return w.now }})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(rw, r.WithContext(access.With(r.Context(), w.principal)))
	}))
	t.Cleanup(func() {
		srv.Close()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	w.url = srv.URL
	transport := httptransport.New(strings.TrimPrefix(srv.URL, "http://"), Prefix, []string{"http"})
	w.client = client.New(runtime.ClientTransport(transport), strfmt.Default)
	return w
}

// resource stores an object as the API does.
func (w *world) resource(kind, name, spec string) {
	w.t.Helper()
	r := meta.Resource{ID: incident.NewID("x_", w.now), Kind: kind, Project: "default", Name: name, Spec: json.RawMessage(spec), ManagedBy: "console", CreatedAt: w.now, UpdatedAt: w.now}
	if err := w.db.Update(context.Background(), func(tx *meta.Tx) error { return tx.CreateResource(r) }); err != nil {
		w.t.Fatal(err)
	}
}

// firing stores an alert that fires.
func (w *world) firing(id, policy, pod string) {
	w.t.Helper()
	a := incident.Alert{ID: "alt_" + id, IncidentID: "inc_" + id, Key: pod, Firing: true, Severity: catalogue.Warning, StartedAt: w.now.Add(-time.Minute)}
	a.Policy = incident.PolicyRef{ID: "pol_" + policy, Name: policy, Project: "default"}
	a.Object = incident.Object{Level: catalogue.Pod, Cluster: "prod-1", Namespace: "shop", Pod: pod}
	a.Labels, a.Annotations = map[string]string{"team": "shop"}, map[string]string{"runbook_url": "https://wiki.example/x"}
	a.Title = "it is bad"
	row, err := a.Row()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.db.Update(context.Background(), func(tx *meta.Tx) error {
		if err := tx.PutIncident(meta.Incident{ID: a.IncidentID, GroupKey: id, Cluster: "prod-1", State: meta.IncidentOpen, Severity: "warning", StartedAt: w.now, Data: json.RawMessage(`{}`)}); err != nil {
			return err
		}
		return tx.PutAlert(row)
	}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) labelsSeen(p *amalert.GetAlertsParams) string {
	w.t.Helper()
	got, err := w.client.Alert.GetAlerts(p)
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, a := range got.Payload {
		if err := a.Validate(strfmt.Default); err != nil {
			w.t.Errorf("not as Alertmanager has it: %v", err)
		}
		out = append(out, a.Labels["pod"]+":"+*a.Status.State)
	}
	return strings.Join(out, " ")
}

func TestAlertsAsAlertmanagerGivesThem(t *testing.T) {
	w := newWorld(t)
	w.resource(meta.KindTarget, "ops", `{"type":"webhook"}`)
	w.resource(meta.KindTarget, "shop", `{"type":"slack"}`)
	w.resource(meta.KindRoute, "shop", `{"matchers":["team=\"shop\""],"targets":[{"name":"shop"}]}`)
	w.resource(meta.KindRoute, "rest", `{"default":true,"targets":[{"name":"ops"}]}`)
	w.firing("1", "cart-cpu", "cart-1")
	w.firing("2", "cart-mem", "cart-2")
	if got := w.labelsSeen(amalert.NewGetAlertsParams()); got != "cart-1:active cart-2:active" && got != "cart-2:active cart-1:active" {
		t.Errorf("got %s", got)
	}
	for filter, want := range map[string]string{
		`pod="cart-2"`: "cart-2:active", `pod=~"cart-.",alertname!="cart-mem"`: "cart-1:active", `team="x"`: "",
	} {
		if got := w.labelsSeen(amalert.NewGetAlertsParams().WithFilter([]string{filter})); got != want {
			t.Errorf("%s: got %q", filter, got)
		}
	}
	if got := w.labelsSeen(amalert.NewGetAlertsParams().WithReceiver(ptr("ops"))); got != "" {
		t.Errorf("of another receiver: %s", got)
	}
	if _, err := w.client.Alert.GetAlerts(amalert.NewGetAlertsParams().WithFilter([]string{"nonsense"})); err == nil {
		t.Error("a filter that is none is taken")
	}
	groups, err := w.client.Alertgroup.GetAlertGroups(alertgroup.NewGetAlertGroupsParams())
	if err != nil || len(groups.Payload) != 2 || *groups.Payload[0].Receiver.Name != "shop" || len(groups.Payload[0].Alerts) != 1 {
		t.Errorf("groups %+v, %v", groups, err)
	}
	w.resource(meta.KindMaintenance, "now", `{"matchers":["pod=\"cart-2\""],"rrule":"FREQ=HOURLY","starts":"`+w.now.Add(-time.Minute).Format(time.RFC3339)+`","duration":"5m"}`)
	if got := w.labelsSeen(amalert.NewGetAlertsParams().WithActive(ptr(false))); got != "cart-2:suppressed" {
		t.Errorf("in a maintenance window: %s", got)
	}
	quiet, err := w.client.Alertgroup.GetAlertGroups(alertgroup.NewGetAlertGroupsParams().WithMuted(ptr(false)))
	if err != nil || len(quiet.Payload) != 1 || quiet.Payload[0].Alerts[0].Labels["pod"] != "cart-1" {
		t.Errorf("without muted ones %+v, %v", quiet, err)
	}
	status, err := w.client.General.GetStatus(general.NewGetStatusParams())
	if err != nil {
		t.Fatal(err)
	}
	if err := status.Payload.Validate(strfmt.Default); err != nil {
		t.Error(err)
	}
	if c, err := amconfig.Load(*status.Payload.Config.Original); err != nil || c.Route.Receiver != "ops" || len(c.Route.Routes) != 1 {
		t.Errorf("the configuration is none: %v\n%s", err, *status.Payload.Config.Original)
	}
	targets, err := w.client.Receiver.GetReceivers(receiver.NewGetReceiversParams())
	if err != nil || len(targets.Payload) != 2 {
		t.Errorf("got %v, %v", targets, err)
	}
}

func TestSilences(t *testing.T) {
	w := newWorld(t)
	w.firing("1", "cart-cpu", "cart-1")
	w.firing("2", "cart-mem", "cart-2")
	silence := &models.PostableSilence{Silence: models.Silence{
		Matchers: models.Matchers{{Name: ptr("pod"), Value: ptr(`cart-1|x"y`), IsRegex: ptr(true), IsEqual: ptr(true)}}, Comment: ptr("moving it"), CreatedBy: ptr("ann"),
		StartsAt: ptr(strfmt.DateTime(w.now.Add(-time.Minute))), EndsAt: ptr(strfmt.DateTime(w.now.Add(time.Hour))),
	}}
	made, err := w.client.Silence.PostSilences(amsilence.NewPostSilencesParams().WithSilence(silence))
	if err != nil {
		t.Fatal(err)
	}
	id := made.Payload.SilenceID
	if !strfmt.IsUUID(id) || w.changed != 1 {
		t.Errorf("the id %q is no UUID, or nobody was told", id)
	}
	got, err := w.client.Silence.GetSilence(amsilence.NewGetSilenceParams().WithSilenceID(strfmt.UUID(id)))
	if err != nil {
		t.Fatal(err)
	}
	p := got.Payload
	if err := p.Validate(strfmt.Default); err != nil || *p.Status.State != "active" || *p.CreatedBy != "ann" || *p.Comment != "moving it" || *p.Matchers[0].Value != `cart-1|x"y` || !*p.Matchers[0].IsRegex {
		t.Errorf("got %+v %+v, %v", p, p.Matchers[0], err)
	}
	if got := w.labelsSeen(amalert.NewGetAlertsParams().WithFilter([]string{`pod="cart-1"`})); got != "cart-1:suppressed" {
		t.Errorf("got %s", got)
	}
	if got := w.labelsSeen(amalert.NewGetAlertsParams().WithSilenced(ptr(false))); got != "cart-2:active" {
		t.Errorf("without silenced ones: %s", got)
	}
	// Longer, under the same id.
	silence.ID, silence.EndsAt = id, ptr(strfmt.DateTime(w.now.Add(2*time.Hour)))
	if again, err := w.client.Silence.PostSilences(amsilence.NewPostSilencesParams().WithSilence(silence)); err != nil || again.Payload.SilenceID != id {
		t.Errorf("got %+v, %v", again, err)
	}
	if _, err := w.client.Silence.DeleteSilence(amsilence.NewDeleteSilenceParams().WithSilenceID(strfmt.UUID(id))); err != nil {
		t.Fatal(err)
	}
	all, err := w.client.Silence.GetSilences(amsilence.NewGetSilencesParams().WithFilter([]string{`pod="cart-1|x\"y"`}))
	if err != nil || len(all.Payload) != 1 || *all.Payload[0].Status.State != "expired" {
		t.Errorf("got %+v, %v", all, err)
	}
	if got := w.labelsSeen(amalert.NewGetAlertsParams().WithFilter([]string{`pod="cart-1"`})); got != "cart-1:active" {
		t.Errorf("after its end: %s", got)
	}
	for name, change := range map[string]func(*models.PostableSilence){
		"over":       func(s *models.PostableSilence) { s.EndsAt = ptr(strfmt.DateTime(w.now.Add(-time.Second))) },
		"unknown id": func(s *models.PostableSilence) { s.ID = "00000000-0000-0000-0000-000000000000" },
		"bad regexp": func(s *models.PostableSilence) { s.Matchers[0].Value = ptr("(") },
		"all empty":  func(s *models.PostableSilence) { s.Matchers[0].Value, s.Matchers[0].IsRegex = ptr(".*"), ptr(true) },
	} {
		bad := *silence
		m := *silence.Matchers[0]
		bad.ID, bad.Matchers = "", models.Matchers{&m}
		change(&bad)
		if _, err := w.client.Silence.PostSilences(amsilence.NewPostSilencesParams().WithSilence(&bad)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestPostedAlerts(t *testing.T) {
	w := newWorld(t)
	post := func(body string) (int, string) {
		t.Helper()
		resp, err := http.Post(w.url+PathAlerts, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var said any
		_ = json.NewDecoder(resp.Body).Decode(&said)
		return resp.StatusCode, fmt.Sprint(said)
	}
	ended := w.now.Add(-time.Minute).Format(time.RFC3339Nano)
	status, said := post(`[{"labels":{"alertname":"Down","instance":"a","empty":""},"annotations":{"summary":"s"},"generatorURL":"http://prom.example/g"},
		{"labels":{"alertname":"Up"},"startsAt":"0001-01-01T00:00:00Z","endsAt":"` + ended + `"},
		{"labels":{}}, {"labels":{"alertname":"Odd"},"startsAt":"` + w.now.Format(time.RFC3339) + `","endsAt":"` + w.now.Add(-time.Hour).Format(time.RFC3339) + `"}]`)
	if status != 400 || !strings.Contains(said, "alert 2: has no label") || !strings.Contains(said, "alert 3: start time") {
		t.Errorf("got %d %s", status, said)
	}
	if len(w.got.alerts) != 2 {
		t.Fatalf("kept %+v", w.got.alerts)
	}
	first, second := w.got.alerts[0], w.got.alerts[1]
	if first.Labels["cluster"] != "" || len(first.Labels) != 2 || !first.StartsAt.Equal(w.now) || !first.EndsAt.Equal(w.now.Add(resolveTimeout)) || first.GeneratorURL == "" {
		t.Errorf("got %+v", first)
	}
	if !second.EndsAt.Before(w.now) || !second.StartsAt.Equal(second.EndsAt) {
		t.Errorf("got %+v", second)
	}
	for body, want := range map[string]int{`{`: 400, `{"a":1}`: 400, `[null]`: 400, `[]`: 200} {
		if status, said := post(body); status != want {
			t.Errorf("%s: %d %s", body, status, said)
		}
	}
	// With an ingest token the cluster is the token's, whatever the sender says.
	w.principal = access.Principal{Kind: access.IngestToken, Cluster: "edge-3"}
	if status, said := post(`[{"labels":{"alertname":"Down","cluster":"prod-1"}}]`); status != 200 || w.got.alerts[2].Labels["cluster"] != "edge-3" {
		t.Errorf("got %d %s", status, said)
	}
	if resp, err := http.Get(w.url + PathAlerts); err != nil || resp.StatusCode != 403 {
		t.Errorf("an ingest token reads: %v %v", resp, err)
	} else {
		resp.Body.Close()
	}
}

func FuzzPostedAlerts(f *testing.F) {
	f.Add(`[{"labels":{"alertname":"a"},"startsAt":"2026-11-23T09:00:00Z"}]`)
	f.Add(`[null]`)
	f.Fuzz(func(t *testing.T, body string) {
		var posted models.PostableAlerts
		if json.Unmarshal([]byte(body), &posted) != nil {
			return
		}
		now := time.Now()
		for _, p := range posted {
			e, err := external(p, now)
			if err == nil && (len(e.Labels) == 0 || e.EndsAt.Before(e.StartsAt) || e.StartsAt.IsZero()) {
				t.Errorf("taken: %+v", e)
			}
		}
	})
}
