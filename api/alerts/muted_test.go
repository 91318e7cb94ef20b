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

// A silence is seen on the incidents that it mutes with the next look, and no
// longer once it is gone: nobody waits until the engine comes to them again.
func TestAnIncidentSaysWhatMutesItNow(t *testing.T) {
	s := newServer(t)
	at := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	put := func(st incident.State, alerts ...*incident.Alert) {
		t.Helper()
		data, err := json.Marshal(st)
		if err != nil {
			t.Fatal(err)
		}
		err = s.meta.Update(context.Background(), func(tx *meta.Tx) error {
			if err := tx.PutIncident(meta.Incident{ID: "inc_1", GroupKey: "g", Cluster: "prod-1", State: meta.IncidentOpen, Severity: "critical", StartedAt: at, Data: data}); err != nil {
				return err
			}
			for _, a := range alerts {
				row, err := a.Row()
				if err != nil {
					return err
				}
				if err := tx.PutAlert(row); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	alert := func(id, namespace string, firing bool) *incident.Alert {
		a := &incident.Alert{ID: id, IncidentID: "inc_1", Key: id, Firing: firing, Severity: "critical", StartedAt: at, Data: incident.Data{
			Policy: incident.PolicyRef{ID: "pol_1", Name: "p"}, Object: incident.Object{Level: "pod", Cluster: "prod-1", Namespace: namespace, Pod: id},
		}}
		if !firing {
			a.EndedAt = at.Add(time.Minute)
		}
		return a
	}
	// shown holds all three lists and the incident itself against what is wanted.
	shown := func(why, want string) {
		t.Helper()
		for _, path := range []string{"/incidents", "/incident-search", "/incidents/inc_1"} {
			if got := s.do("GET", path, "", 200); !strings.Contains(got, `"muted_by":`+want) {
				t.Errorf("%s: %s gives %s, want muted_by %s", why, path, got, want)
			}
		}
	}
	silence := func(name, matcher string) string {
		return `{"apiVersion":"crowsnest.dev/v1","kind":"Silence","metadata":{"name":"` + name + `"},"spec":{"matchers":["` + strings.ReplaceAll(matcher, `"`, `\"`) + `"],"until":"2026-11-23T10:00:00Z"}}`
	}
	const deploy = `[{"kind":"Silence","name":"deploy","until":"2026-11-23T10:00:00Z"}]`

	put(incident.State{}, alert("cart-1", "shop", true), alert("web-1", "web", false))
	shown("nothing mutes", "[]")
	s.do("POST", "/silences", silence("deploy", `namespace="shop"`), 201)
	shown("just silenced", deploy)
	put(incident.State{}, alert("web-1", "web", true))
	shown("one of its alerts is told", "[]")
	// The engine's note: what inhibits the other alert.
	inhibition := routing.Muting{Kind: meta.KindInhibition, Name: "node-down"}
	noted := incident.State{Muted: []routing.Muting{{Kind: meta.KindSilence, Name: "deploy", Until: at.Add(2 * time.Hour)}, inhibition}}
	put(noted)
	shown("one is silenced, one inhibited", strings.TrimSuffix(deploy, "]")+`,{"kind":"Inhibition","name":"node-down","until":null}]`)
	s.do("DELETE", "/silences/deploy", "", 204)
	shown("the silence was taken back, the other alert is inhibited still", "[]")
	put(incident.State{Muted: []routing.Muting{inhibition}})
	shown("inhibited", `[{"kind":"Inhibition","name":"node-down","until":null}]`)
	put(incident.State{Muted: noted.Muted[:1]}, alert("web-1", "web", false))
	shown("a note of a silence that is gone", "[]")

	const window = "apiVersion: crowsnest.dev/v1\nkind: Maintenance\nmetadata: {name: monday}\nspec: {matchers: ['cluster=\"prod-1\"'], starts: '2026-11-01T00:00:00Z', rrule: 'FREQ=DAILY;BYHOUR=8;BYMINUTE=0;BYSECOND=0', timezone: UTC, duration: 3h}"
	s.do("POST", "/maintenances", window, 201)
	shown("within a maintenance window", `[{"kind":"Maintenance","name":"monday","until":"2026-11-23T11:00:00Z"}]`)
}
