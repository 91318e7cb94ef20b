package alerts

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/alerting/routing"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// CoreEngine is what policies are tried and explained by.
type CoreEngine interface {
	Try(ctx context.Context, r meta.Resource, clusters []meta.ClusterRow) ([]policy.Trial, error)

	// Why judges one object as of a time again; r is the version of that time.
	Why(ctx context.Context, r meta.Resource, q policy.Question) (policy.Why, error)

	Acknowledge(ctx context.Context, id, who, comment string, until time.Time) error
	Unacknowledge(ctx context.Context, id, who string) error
	Comment(ctx context.Context, id, who, text string) error
	Assign(ctx context.Context, id, who, assignee string) error
	Resolve(ctx context.Context, id, who, comment string) error
	// Routing gives what routes and mutes now, and the facts of all that fires.
	Routing(ctx context.Context) (*routing.Set, []routing.Facts, error)
}

// registerCore adds what can be done with policies and incidents beyond reading
// and writing them.
func (h *handlers) registerCore(api huma.API, read func(id, path, tag, summary string) huma.Operation, write func(id, method, path, tag, summary string, status int, body any) huma.Operation) {
	huma.Register(api, read("policy-history", "/policies/{name}/history", "alerting", "Every version of a policy, the newest first"), h.policyHistory)
	huma.Register(api, write("enable-policy", http.MethodPost, "/policies/{name}/enable", "alerting", "Switch a policy on", http.StatusOK, nil), h.enablePolicy)
	huma.Register(api, write("disable-policy", http.MethodPost, "/policies/{name}/disable", "alerting", "Switch a policy off; its alerts end", http.StatusOK, nil), h.disablePolicy)

	huma.Register(api, read("explain-policy", "/policies/{name}/why", "alerting", "Why a policy did or did not fire for an object at a time: inputs, comparison, state before and after"), h.why)

	huma.Register(api, write("start-backtest", http.MethodPost, "/backtests", "alerting", "Replay a saved policy or a draft over kept data, or compare two; the answer comes at once, the result when it is done", http.StatusAccepted, policy.BacktestRequest{}), h.startBacktest)
	huma.Register(api, read("list-backtests", "/backtests", "alerting", "Backtests of the last hour, without their results"), h.listBacktests)
	huma.Register(api, read("get-backtest", "/backtests/{id}", "alerting", "A backtest with its progress and, once it is done, its results"), h.getBacktest)
	huma.Register(api, write("delete-backtest", http.MethodDelete, "/backtests/{id}", "alerting", "Cancel a backtest and forget it", http.StatusNoContent, nil), h.deleteBacktest)

	post := func(id, path, summary string) huma.Operation {
		return huma.Operation{OperationID: id, Method: http.MethodPost, Path: path, Tags: []string{"incidents"}, Summary: summary, DefaultStatus: http.StatusOK}
	}
	huma.Register(api, post("acknowledge-incident", "/incidents/{id}/acknowledge", "Take care of an incident: reminders and escalation stop until its severity rises, an alert joins, or 24 h have passed"), h.acknowledge)
	huma.Register(api, post("unacknowledge-incident", "/incidents/{id}/unacknowledge", "Take an acknowledgement back"), h.unacknowledge)
	huma.Register(api, post("comment-incident", "/incidents/{id}/comments", "Add a comment to an incident's timeline"), h.comment)
	huma.Register(api, post("assign-incident", "/incidents/{id}/assign", "Say who takes care of an incident"), h.assign)
	huma.Register(api, post("resolve-incident", "/incidents/{id}/resolve", "End all alerts of an incident by hand; what is still bad fires again after it was good once"), h.resolve)
	huma.Register(api, read("incident-timeline", "/incidents/{id}/timeline", "incidents", "What happened to an incident, the oldest first"), h.timeline)
	huma.Register(api, read("search-incidents", "/incident-search", "incidents", "Search incidents, the newest first"), h.searchIncidents)
	huma.Register(api, read("incident-statistics", "/incident-statistics", "incidents", "Mean times to acknowledge and to resolve, and the noisiest policies"), h.statistics)

	registerKind(api, h, write, kind[routing.Route]{
		kind: meta.KindRoute, path: "/routes", prefix: "rou_", one: "route", parse: routing.ParseRoute, show: routing.RouteOf, status: routeStatus,
		parts: func(o *routing.Route) (*policy.Metadata, any) { return &o.Metadata, o.Spec },
	})
	registerKind(api, h, write, silences())
	h.registerTickets(api)
	registerKind(api, h, write, kind[routing.Maintenance]{
		kind: meta.KindMaintenance, path: "/maintenances", prefix: "mnt_", one: "maintenance window", parse: routing.ParseMaintenance, show: routing.MaintenanceOf, status: maintenanceStatus,
		parts: func(o *routing.Maintenance) (*policy.Metadata, any) { return &o.Metadata, o.Spec },
	})
	registerKind(api, h, write, kind[routing.Inhibition]{
		kind: meta.KindInhibition, path: "/inhibitions", prefix: "inh_", one: "inhibition", parse: routing.ParseInhibition, show: routing.InhibitionOf, status: inhibitionStatus,
		parts: func(o *routing.Inhibition) (*policy.Metadata, any) { return &o.Metadata, o.Spec },
	})
	h.registerRules(api, write)
	h.registerMetrics(api, write)
	h.registerPresets(api, read, write)
	huma.Register(api, write("preview-maintenance", http.MethodPost, "/maintenances/preview", "alerting", "When the next five windows of a maintenance would begin; nothing is kept", http.StatusOK, routing.Maintenance{}), h.previewMaintenance)
}

func silences() kind[routing.Silence] {
	return kind[routing.Silence]{
		kind: meta.KindSilence, path: "/silences", prefix: "sil_", one: "silence", parse: routing.ParseSilence, show: routing.SilenceOf, status: silenceStatus,
		parts: func(o *routing.Silence) (*policy.Metadata, any) { return &o.Metadata, o.Spec },
	}
}
