package catalogue

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/humatest"

	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
)

func TestTheWholeCatalogueIsServedAsDeclared(t *testing.T) {
	_, api := humatest.New(t)
	api.UseMiddleware(func(ctx huma.Context, next func(huma.Context)) {
		next(huma.WithContext(ctx, access.With(ctx.Context(), access.Principal{Kind: access.APIToken})))
	})
	Register(api)
	var got struct{ Items []Metric }
	res := api.Get("/catalogue")
	if err := json.Unmarshal(res.Body.Bytes(), &got); err != nil || len(got.Items) != len(catalogue.All()) {
		t.Fatalf("got %d of %d metrics, %v", len(got.Items), len(catalogue.All()), err)
	}
	for i, m := range catalogue.All() {
		g := got.Items[i]
		if g.Name != m.Name || g.Unit != m.Unit || len(g.Labels) != len(m.Labels()) || (g.Alert == nil) != (m.Alert == nil) {
			t.Errorf("%s came as %+v", m.Name, g)
		}
		if m.Alert != nil && (g.Alert.PeriodSeconds != m.Alert.Period.Seconds() || g.Alert.Threshold != m.Alert.Threshold) {
			t.Errorf("%s: alert came as %+v", m.Name, *g.Alert)
		}
	}
}

// Those that users added come after the product's, with all that forms need of them.
func TestMetricsOfUsersAreServed(t *testing.T) {
	t.Cleanup(func() { catalogue.SetCustom(nil) })
	_, api := humatest.New(t)
	api.UseMiddleware(func(ctx huma.Context, next func(huma.Context)) {
		next(huma.WithContext(ctx, access.With(ctx.Context(), access.Principal{Kind: access.APIToken})))
	})
	Register(api)
	items := func() (got struct{ Items []Metric }) {
		if err := json.Unmarshal(api.Get("/catalogue").Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		return got
	}
	catalogue.SetCustom([]catalogue.Metric{{Name: "shop_orders", Title: "Orders", Level: catalogue.Workload, Unit: catalogue.Count, Dimensions: []string{"code"}, Expr: "orders", Statistic: catalogue.Avg}})
	got := items().Items
	if len(got) != len(catalogue.All())+1 {
		t.Fatalf("%d metrics, want one more than %d", len(got), len(catalogue.All()))
	}
	if m := got[len(got)-1]; m.Name != "shop_orders" || m.Title != "Orders" || m.Level != catalogue.Workload || m.Expr != "orders" || len(m.Dimensions) != 1 || len(m.Labels) != 5 {
		t.Errorf("it came as %+v", m)
	}
	drawn := func() bool {
		res := api.Get("/grafana/dashboards/workload")
		var d struct{ UID string }
		if err := json.Unmarshal(res.Body.Bytes(), &d); err != nil || d.UID != "crowsnest-workload" {
			t.Errorf("the dashboard is %d %.200s (%v)", res.Code, res.Body, err)
		}
		return strings.Contains(res.Body.String(), "shop_orders{")
	}
	if !drawn() {
		t.Error("Grafana's dashboard does not draw it")
	}
	if res := api.Get("/grafana/dashboards/nothing"); res.Code != http.StatusUnprocessableEntity {
		t.Errorf("a dashboard that there is not: %d", res.Code)
	}
	catalogue.SetCustom(nil)
	if drawn() {
		t.Error("Grafana's dashboard draws it after it was deleted")
	}
	if n := len(items().Items); n != len(catalogue.All()) {
		t.Errorf("after it was deleted %d metrics", n)
	}
}
