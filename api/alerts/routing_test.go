package alerts_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/alerting/routing"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

func (e *fakeEngine) Routing(context.Context) (*routing.Set, []routing.Facts, error) {
	return &routing.Set{}, nil, nil
}

func (e *fakeEngine) Comment(_ context.Context, id, who, text string) error {
	e.said = append(e.said, id+" "+who+" "+text)
	return nil
}

func (e *fakeEngine) Acknowledge(_ context.Context, id, who, comment string, _ time.Time) error {
	e.said = append(e.said, id+" "+who+" acknowledged "+comment)
	return nil
}

func TestSilencesAreObjectsOfTheSameManner(t *testing.T) {
	s := newServer(t)
	const doc = `{"apiVersion":"crowsnest.dev/v1","kind":"Silence","metadata":{"name":"deploy"},"spec":{"matchers":["team=\"shop\""],"until":"2026-11-23T10:00:00Z"}}`
	says(t, s.do("POST", "/silences", doc, 201), `"id":"sil_`, `"state":"active"`, `"from":"2026-11-23T09:00:00Z"`, `"until":"2026-11-23T10:00:00Z"`)
	says(t, s.do("POST", "/silences", doc, 409), "is there already", `"current":{`)
	says(t, s.do("GET", "/silences", "", 200), `"name":"deploy"`)
	says(t, s.do("PUT", "/silences/deploy?manager=file", doc, 200), `"revision":1`, `"managedBy":"console"`) // it changes nothing
	says(t, s.do("PUT", "/silences/deploy?manager=file", strings.Replace(doc, "T10:", "T11:", 1), 409), "is managed by console")
	says(t, s.do("PUT", "/silences/deploy", `{"apiVersion":"crowsnest.dev/v1","kind":"Silence","metadata":{"name":"deploy","revision":1},"spec":{"matchers":["team=\"shop\""],"from":"2026-11-23T08:00:00Z","until":"2026-11-23T08:30:00Z"}}`, 200), `"revision":2`, `"state":"expired"`)
	s.do("DELETE", "/silences/deploy", "", 204)
	s.do("GET", "/silences/deploy", "", 404)
}

func TestRoutesMaintenancesInhibitions(t *testing.T) {
	s := newServer(t)
	s.do("POST", "/targets", target, 201)
	const head = "apiVersion: crowsnest.dev/v1\nkind: "
	says(t, s.do("POST", "/routes", head+"Route\nmetadata: {name: rest}\nspec: {default: true, targets: [nobody]}", 422), "there is no such target")
	says(t, s.do("POST", "/routes", head+"Route\nmetadata: {name: rest}\nspec: {default: true, targets: [hook]}", 201), `"firing":0`)
	says(t, s.do("POST", "/routes", head+"Route\nmetadata: {name: rest2}\nspec: {default: true, targets: [hook]}", 422), `route \"rest\" is the default already`)
	const weekly = head + "Maintenance\nmetadata: {name: m}\nspec: {matchers: ['cluster=\"prod-1\"'], rrule: 'FREQ=WEEKLY;BYDAY=SU;BYHOUR=2;BYMINUTE=0;BYSECOND=0', timezone: Europe/Berlin, duration: 2h}"
	says(t, s.do("POST", "/maintenances/preview", weekly, 200), `"from":"2026-11-29T01:00:00Z"`, `"local":"Sun 2026-11-29 02:00 CET"`)
	once := func(starts string) string {
		return s.do("POST", "/maintenances/preview", head+"Maintenance\nmetadata: {name: m}\nspec: {matchers: ['cluster=\"prod-1\"'], rrule: 'FREQ=DAILY;COUNT=1', starts: '"+starts+"', duration: 2h}", 200)
	}
	says(t, once("2026-11-20T02:00:00Z"), `"windows":[]`, `"last":{"from":"2026-11-20T02:00:00Z","until":"2026-11-20T04:00:00Z"`)
	if got := once("2030-11-20T02:00:00Z"); strings.Contains(got, "last") || !strings.Contains(got, `"from":"2030-11-20T02:00:00Z"`) {
		t.Errorf("one that is still to come: %s", got)
	}
	says(t, s.do("POST", "/maintenances", weekly, 201), `"id":"mnt_`, `"state":"pending"`, `"next":["2026-11-29T01:00:00Z"`)
	says(t, s.do("POST", "/inhibitions", head+"Inhibition\nmetadata: {name: i}\nspec: {source: ['a=\"b\"'], target: ['c=\"d\"'], equal: [cluster]}", 201), `"id":"inh_`)
}

func TestIncidentActionsSearchAndStatistics(t *testing.T) {
	s := newServer(t)
	at := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	err := s.meta.Update(context.Background(), func(tx *meta.Tx) error {
		for _, i := range []meta.Incident{
			{ID: "inc_1", GroupKey: "a", Cluster: "prod-1", State: meta.IncidentResolved, Severity: "critical", StartedAt: at, EndedAt: at.Add(30 * time.Minute), AcknowledgedAt: at.Add(5 * time.Minute), Assignee: "eve", Data: []byte(`{"title":"cart: CPU above 95 %","object":{"pod":"cart-1"}}`)},
			{ID: "inc_2", GroupKey: "b", Cluster: "prod-2", State: meta.IncidentOpen, Severity: "warning", StartedAt: at.Add(time.Minute), Data: []byte(`{"title":"web not ready","labels":{"team":"shop"},"object":{"pod":"web-1"},"ack":{"by":"eve"},"muted":[{"kind":"Inhibition","name":"node-down"}]}`)},
			{ID: "inc_3", GroupKey: "c", Cluster: "prod-3", State: meta.IncidentOpen, Severity: "info", StartedAt: at.Add(20 * time.Minute), Data: []byte(`{"title":"a queue grows","object":{"node":"n-1"}}`)},
		} {
			if err := tx.PutIncident(i); err != nil {
				return err
			}
		}
		if err := tx.AddIncidentEvent(meta.IncidentEvent{IncidentID: "inc_2", At: at, Type: incident.EventOpened, Text: "web not ready"}); err != nil {
			return err
		}
		return tx.PutAlert(meta.Alert{ID: "alt_1", PolicyID: "pol_1", IncidentID: "inc_1", Cluster: "prod-1", Key: "pod shop/cart-1|", State: "ended", Severity: "critical", StartedAt: at, EndedAt: at, Data: []byte(`{"policy":{"name":"cart-cpu"}}`)})
	})
	if err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string]string{
		"text=CPU": "inc_1", "text=shop": "inc_2", "policy=cart-cpu": "inc_1", "assignee=eve": "inc_1", "state=acknowledged": "inc_2", "state=active": "inc_2", "state=resolved": "inc_1",
		"severity=warning": "inc_2", "to=2026-11-23T08:00:30Z": "inc_1", "from=2026-11-23T08:45:00Z": "inc_2",
	} {
		got := s.do("GET", "/incident-search?"+query, "", 200)
		says(t, got, `"id":"`+want+`"`)
		if other := map[string]string{"inc_1": "inc_2", "inc_2": "inc_1"}[want]; strings.Contains(got, `"id":"`+other+`"`) {
			t.Errorf("%s also finds %s", query, other)
		}
	}
	for _, list := range []string{"/incidents", "/incident-search"} {
		for state, want := range map[string]string{"open": "inc_3", "acknowledged": "inc_2", "active": "inc_3 inc_2", "resolved": "inc_1", "all": "inc_3 inc_2 inc_1"} {
			var got struct{ Items []struct{ ID, State string } }
			if err := json.Unmarshal([]byte(s.do("GET", list+"?state="+state, "", 200)), &got); err != nil {
				t.Fatal(err)
			}
			var ids []string
			for _, i := range got.Items {
				ids = append(ids, i.ID)
				if state != "active" && state != "all" && i.State != state {
					t.Errorf("%s of state %s has one that is %s", list, state, i.State)
				}
			}
			if strings.Join(ids, " ") != want {
				t.Errorf("%s of state %s: %q, want %s", list, state, ids, want)
			}
		}
		// Those of another state take no place on a page.
		says(t, s.do("GET", list+"?state=acknowledged&limit=1", "", 200), `"id":"inc_2"`)
	}
	says(t, s.do("GET", "/incident-statistics", "", 200), `"incidents":3`, `"mean_seconds_to_acknowledge":300`, `"mean_seconds_to_resolve":1800`, `"critical":1`, `"policy":"cart-cpu"`)
	says(t, s.do("GET", "/incidents/inc_2/timeline", "", 200), `"type":"opened"`)
	says(t, s.do("POST", "/incidents/inc_2/comments", `{"text":"looking"}`, 200), `"state":"acknowledged"`, `"acknowledged_by":"eve"`, `"muted":["Inhibition node-down"]`, `"muted_by":[{"kind":"Inhibition","name":"node-down","until":null}]`)
	s.do("POST", "/incidents/inc_2/acknowledge", "{}", 200)
	s.do("POST", "/incidents/none/acknowledge", "{}", 404)
	if len(s.engine.said) != 2 || s.engine.said[0] != "inc_2 me looking" {
		t.Errorf("got %q", s.engine.said)
	}
}
