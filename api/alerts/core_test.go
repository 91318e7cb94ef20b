package alerts_test

import (
	"context"
	"strings"
	"testing"

	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

func (e *fakeEngine) Try(context.Context, meta.Resource, []meta.ClusterRow) ([]policy.Trial, error) {
	return []policy.Trial{{Cluster: "prod-1", Matching: 3, Objects: []policy.TrialObject{}}}, nil
}

func TestPolicyHistorySwitchAndDryRun(t *testing.T) {
	s := newServer(t)
	s.do("POST", "/targets", target, 201)
	changed := s.engine.changed
	says(t, s.do("POST", "/policies?dryRun=true", pol, 200), `"trial":[{"cluster":"prod-1"`, `"matching":3`)
	says(t, s.do("POST", "/policies?dryRun=true", strings.Replace(pol, "1m", "1s", 1), 422), "spec.conditions[0].period")
	if s.do("GET", "/policies/cart-cpu", "", 404); s.engine.changed != changed {
		t.Error("a dry run was kept")
	}
	s.do("POST", "/policies", pol, 201)
	says(t, s.do("PUT", "/policies/cart-cpu?dryRun=true", strings.Replace(pol, "95", "97", 1), 200), `"trial":[{`, `"critical":97`)
	s.do("PUT", "/policies/cart-cpu", strings.Replace(pol, "95", "96", 1), 200)
	says(t, s.do("POST", "/policies/cart-cpu/disable", "", 200), `"enabled":false`, `"revision":3`)
	says(t, s.do("POST", "/policies/cart-cpu/disable", "", 200), `"revision":3`)
	s.do("POST", "/policies/cart-cpu/disable?manager=file", "", 200) // nothing to change
	says(t, s.do("POST", "/policies/cart-cpu/enable?manager=file", "", 409), "is managed by console")
	says(t, s.do("POST", "/policies/cart-cpu/enable", "", 200), `"enabled":true`, `"revision":4`)
	s.do("DELETE", "/policies/cart-cpu", "", 204)
	got := s.do("GET", "/policies/cart-cpu/history", "", 200)
	says(t, got, `"revision":5`, `"deleted":true`, `"by":"me"`, `"critical":95`, `"critical":96`)
	if strings.Count(got, `"revision":`) != 5 || strings.Index(got, `"revision":5`) > strings.Index(got, `"revision":1`) {
		t.Errorf("not five versions, the newest first: %s", got)
	}
	s.do("GET", "/policies/nothing/history", "", 404)
}
