package alerts_test

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/alerting/notify"
	"github.com/crowsnest-dev/crowsnest/alerting/ticket"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// A link shows what it would do as often as it is opened, does it once, and
// needs nobody who is known.
func TestTickets(t *testing.T) {
	s := newServer(t)
	now := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	state, err := json.Marshal(incident.State{Title: "cart in shop: CPU", Object: incident.Object{Level: "pod", Cluster: "prod-1", Namespace: "shop", WorkloadType: "deployment", Workload: "cart", Pod: "cart-1"}})
	if err != nil {
		t.Fatal(err)
	}
	err = s.meta.Update(context.Background(), func(tx *meta.Tx) error {
		return tx.PutIncident(meta.Incident{ID: "inc_1", GroupKey: "g", Cluster: "prod-1", State: meta.IncidentOpen, Severity: "critical", StartedAt: now.Add(-time.Hour), Data: state})
	})
	if err != nil {
		t.Fatal(err)
	}
	keyring, err := notify.NewKeyring(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	path := func(action ticket.Action, at time.Time) string {
		return "/tickets/" + ticket.New(action, "inc_1", "ntf_1", "shop-chat", at).Seal(keyring)
	}
	// Nobody is known, as when a mail program or its reader opens the link.
	use := func(method, path, body string, want int) string {
		t.Helper()
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		rec := httptest.NewRecorder()
		s.handler.ServeHTTP(rec, r)
		if rec.Code != want {
			t.Fatalf("%s %s: got %d %s, want %d", method, path, rec.Code, rec.Body, want)
		}
		return rec.Body.String()
	}
	ack := path(ticket.Acknowledge, now)
	for range 3 { // as a mail program does, which looks at links
		says(t, use("GET", ack, "", 200), `"action":"acknowledge"`, `"used":false`, `"target":"shop-chat"`, `"title":"cart in shop: CPU"`)
	}
	if len(s.engine.said) != 0 {
		t.Fatalf("looking at a link acted: %v", s.engine.said)
	}
	says(t, use("POST", ack, `{"comment":"on it"}`, 200), `"used":true`)
	if want := []string{"inc_1 link to shop-chat acknowledged on it"}; !slices.Equal(s.engine.said, want) {
		t.Errorf("got %q, want %q", s.engine.said, want)
	}
	says(t, use("POST", ack, `{}`, 409), "used already")

	silence := path(ticket.Silence, now)
	says(t, use("GET", silence, "", 200), `"matchers":["cluster=\"prod-1\"","namespace=\"shop\"","workload_type=\"deployment\"","workload=\"cart\""]`)
	says(t, use("POST", silence, `{"hours":999}`, 422), "hours")
	says(t, use("POST", silence, `{"hours":2}`, 200), `"used":true`)
	says(t, s.do("GET", "/silences", "", 200), `"until":"2026-11-23T11:00:00Z"`, `"comment":"cart in shop: CPU"`, `"updatedBy":"link to shop-chat"`)
	use("POST", silence, `{"hours":2}`, 409)

	// It opens nothing else, and a wrong one opens nothing.
	use("GET", "/incidents/inc_1", "", 401)
	for _, bad := range []string{"/tickets/x", "/tickets/AAAA", ack + "A"} {
		use("GET", bad, "", 404)
		use("POST", bad, "{}", 404)
	}
	says(t, use("GET", path(ticket.Acknowledge, now.Add(-ticket.ValidFor)), "", 403), "could be used until")
}
