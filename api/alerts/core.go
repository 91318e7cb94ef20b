package alerts

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// CoreEngine is what policies are tried and explained by.
type CoreEngine interface {
	Try(ctx context.Context, r meta.Resource, clusters []meta.ClusterRow) ([]policy.Trial, error)
}

// registerCore adds what can be done with policies and incidents beyond reading
// and writing them.
func (h *handlers) registerCore(api huma.API, read func(id, path, tag, summary string) huma.Operation, write func(id, method, path, tag, summary string, status int, body any) huma.Operation) {
	huma.Register(api, read("policy-history", "/policies/{name}/history", "alerting", "Every version of a policy, the newest first"), h.policyHistory)
	huma.Register(api, write("enable-policy", http.MethodPost, "/policies/{name}/enable", "alerting", "Switch a policy on", http.StatusOK, nil), h.enablePolicy)
	huma.Register(api, write("disable-policy", http.MethodPost, "/policies/{name}/disable", "alerting", "Switch a policy off; its alerts end", http.StatusOK, nil), h.disablePolicy)
}
