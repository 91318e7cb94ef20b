package catalogue

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/api/problem"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/grafana"
)

type dashboardInput struct {
	Dashboard string `path:"dashboard" enum:"cluster,node,workload,pod,logs,alerts" doc:"What it is about."`
}

// registerGrafana adds GET /grafana/dashboards/{dashboard}.
func registerGrafana(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "get-grafana-dashboard", Method: http.MethodGet, Path: "/grafana/dashboards/{dashboard}", Tags: []string{"catalogue"},
		Summary: "Get a dashboard for Grafana",
		Description: "A dashboard of the catalogue as Grafana imports it, with the metrics that users added at this moment on the dashboard of their level. " +
			"The files in dashboards/grafana are the same without those.",
	}, func(ctx context.Context, in *dashboardInput) (*struct{ Body any }, error) {
		if err := access.Authorize(ctx, access.Read, "", ""); err != nil {
			return nil, problem.Error(err)
		}
		return &struct{ Body any }{json.RawMessage(grafana.Dashboard(in.Dashboard, catalogue.Custom()))}, nil
	})
}
