// Package catalogue serves the metric catalogue to forms and charts. It must not
// know which metrics there are: that is internal/catalogue's.
package catalogue

import (
	"context"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/api/problem"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
)

// Metric is an entry of the catalogue as the API gives it.
type Metric struct {
	Name           string                           `json:"name" doc:"The series' name." example:"k8s_pod_cpu_core_used"`
	Title          string                           `json:"title" doc:"The metric in the user's words."`
	Help           string                           `json:"help"`
	Level          catalogue.Level                  `json:"level" enum:"cluster,node,namespace,workload,service,pod,container,volume,component" doc:"What the metric is about."`
	Unit           catalogue.Unit                   `json:"unit" enum:"%,cores,B,B/s,1/s,s,d,count,0/1"`
	Kind           catalogue.Kind                   `json:"kind" enum:"gauge,counter,state" doc:"How values behave over time. Counters rise; their statistic is increase."`
	Core           bool                             `json:"core" doc:"One of the 32 that every cluster is judged by."`
	Labels         []string                         `json:"labels" nullable:"false" doc:"All labels of the metric's series, in order."`
	Dimensions     []string                         `json:"dimensions" nullable:"false" doc:"Labels beyond those of the level: one object has a series for each value."`
	Place          catalogue.Place                  `json:"place" enum:"node,cluster,server" doc:"Who computes it."`
	From           []catalogue.Source               `json:"from" nullable:"false" doc:"Sources of readings, the best first."`
	Sum            *catalogue.Summed                `json:"sum,omitempty" doc:"The metrics that it is summed from."`
	Expr           string                           `json:"expr,omitempty" doc:"PromQL that the server evaluates for each cluster; metrics that users add have one."`
	Absent         string                           `json:"absent,omitempty" doc:"When a living object has no series; empty means never."`
	Lacking        map[catalogue.ClusterKind]string `json:"lacking,omitempty" doc:"Kinds of clusters that do not have it, with the reason."`
	LackingOutside string                           `json:"lacking_outside,omitempty" doc:"Why a collector outside the cluster's nodes cannot have it."`
	Statistic      catalogue.Statistic              `json:"statistic" enum:"avg,max,min,sum,last,p50,p95,p99,increase" doc:"What a form offers first."`
	Alert          *DefaultCondition                `json:"alert,omitempty" doc:"The condition that a form starts from."`
	Chart          Chart                            `json:"chart"`
}

// DefaultCondition is what a form starts from.
type DefaultCondition struct {
	Statistic     catalogue.Statistic `json:"statistic" enum:"avg,max,min,sum,last,p50,p95,p99,increase"`
	Op            string              `json:"op" enum:">,>=,<,<=,==,!="`
	Threshold     float64             `json:"threshold"`
	PeriodSeconds float64             `json:"period_seconds"`
	Need          int                 `json:"need" doc:"Bad periods needed."`
	Of            int                 `json:"of" doc:"Among the newest so many."`
	Severity      catalogue.Severity  `json:"severity" enum:"info,warning,critical"`
}

// Chart says how a metric is drawn.
type Chart struct {
	Group string  `json:"group" doc:"Metrics of one group share a chart."`
	Max   float64 `json:"max,omitempty" doc:"Top of the axis unless data goes beyond; left out: by the data."`
}

type metricList struct {
	Items []Metric `json:"items" nullable:"false"`
	Next  *string  `json:"next" doc:"Always null: the catalogue is given whole."`
}

// Register adds GET /catalogue and the dashboards that are made of it.
func Register(api huma.API) {
	registerGrafana(api)
	all := make([]Metric, 0, len(catalogue.All()))
	for _, m := range catalogue.All() {
		all = append(all, from(m))
	}
	huma.Register(api, huma.Operation{
		OperationID: "list-catalogue", Method: http.MethodGet, Path: "/catalogue", Tags: []string{"catalogue"},
		Summary: "List all metrics", Description: "Every metric of the product, by level, then those that users added. A metric that is not listed does not exist.",
	}, func(ctx context.Context, _ *struct{}) (*struct{ Body metricList }, error) {
		if err := access.Authorize(ctx, access.Read, "", ""); err != nil {
			return nil, problem.Error(err)
		}
		items := all
		if own := catalogue.Custom(); len(own) > 0 {
			items = slices.Clone(all)
			for _, m := range own {
				items = append(items, from(m))
			}
		}
		return &struct{ Body metricList }{metricList{Items: items}}, nil
	})
}

func from(m catalogue.Metric) Metric {
	out := Metric{
		Name: m.Name, Title: m.Title, Help: m.Help, Level: m.Level, Unit: m.Unit, Kind: m.Kind, Core: m.Core,
		Labels: m.Labels(), Dimensions: append([]string{}, m.Dimensions...), Place: m.Place, From: m.From, Sum: m.Sum, Expr: m.Expr,
		Absent: m.Absent, Lacking: m.Lacking, LackingOutside: m.LackingOutside, Statistic: m.Statistic,
		Chart: Chart{Group: m.Chart.Group, Max: m.Chart.Max},
	}
	if a := m.Alert; a != nil {
		out.Alert = &DefaultCondition{
			Statistic: a.Statistic, Op: a.Op, Threshold: a.Threshold, PeriodSeconds: a.Period.Seconds(),
			Need: a.Need, Of: a.Of, Severity: a.Severity,
		}
	}
	return out
}
