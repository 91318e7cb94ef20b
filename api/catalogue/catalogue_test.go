package catalogue

import (
	"encoding/json"
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
