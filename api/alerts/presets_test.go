package alerts_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/preset"
)

func TestPresetsSayHowTheyStandAndLookBack(t *testing.T) {
	s := newServer(t)
	at := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	says(t, s.do("GET", "/presets", "", 200), `"state":"deleted"`, "--presets=false")
	if err := preset.Install(context.Background(), s.meta, at); err != nil {
		t.Fatal(err)
	}
	s.do("POST", "/policies/node-cpu/disable", "", 200)
	s.do("DELETE", "/policies/node-memory", "", 204)
	got := s.do("GET", "/presets", "", 200)
	says(t, got, `"name":"pod-crash-loop"`, `"symptom":"A container ends again`, `"explains":["pod-restarts"`, `"explainedBy":["pod-crash-loop"`, `"state":"idle"`, `"reasons":["selects nothing"]`)
	for name, state := range map[string]string{"node-memory": `"state":"deleted"`} {
		_, of, _ := strings.Cut(got, `"name":"`+name+`"`)
		if of, _, _ = strings.Cut(of, "}"); !strings.Contains(of, state) {
			t.Errorf("%s is not %s: %s", name, state, of)
		}
	}

	job := s.do("POST", "/presets/lookback", `{}`, 202)
	says(t, job, `"state":"queued"`, `"from":"2026-11-16T09:00:00Z"`, `"to":"2026-11-23T09:00:00Z"`)
	says(t, s.do("POST", "/presets/lookback", `{"presets":["node-memory","nonsense"]}`, 422), `body.presets[1]`, "there is no such preset")
	says(t, s.do("POST", "/presets/lookback", `{"from":"2020-01-01T00:00:00Z"}`, 422), "within the last 90 days")
	says(t, s.do("POST", "/presets/lookback", `{"preset":"node-memory"}`, 400), "unknown field")
}

func TestFirstUseAsksForTheDefaultRoute(t *testing.T) {
	s := newServer(t)
	says(t, s.do("GET", "/first-use", "", 200), `"done":true`, `"defaultRoute":null`) // nothing would be told
	if err := preset.Install(context.Background(), s.meta, time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)); err != nil {
		t.Fatal(err)
	}
	says(t, s.do("GET", "/first-use", "", 200), `"done":false`, "make a target")
	s.do("POST", "/targets", target, 201)
	says(t, s.do("GET", "/first-use", "", 200), `"done":false`, `"targets":1`, "Which target shall be told")
	route := func(name, spec string) {
		s.do("POST", "/routes", `{"apiVersion":"crowsnest.dev/v1","kind":"Route","metadata":{"name":"`+name+`"},"spec":{`+spec+`"targets":["hook"]}}`, 201)
	}
	route("some", `"severities":["critical"],`)
	says(t, s.do("GET", "/first-use", "", 200), `"done":false`, `"routes":1`)
	route("all", "") // asks for nothing: that is all
	says(t, s.do("GET", "/first-use", "", 200), `"done":true`, `"defaultRoute":"all"`)
	route("rest", `"default":true,`)
	got := s.do("GET", "/first-use", "", 200)
	says(t, got, `"done":true`, `"defaultRoute":"rest"`)
	if strings.Contains(got, "question") {
		t.Errorf("it still asks: %s", got)
	}
}
