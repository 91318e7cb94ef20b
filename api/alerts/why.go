package alerts

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/api/problem"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// keptFor is how far back it can be explained.
const keptFor = 90 * 24 * time.Hour

type whyQuery struct {
	ByName
	Cluster    string    `query:"cluster" doc:"Required."`
	Object     string    `query:"object" doc:"As shop/cart-1 (pod), shop/cart-1/app (container), shop/deployment/cart (workload), n-1 (node); left out for a cluster. Of a policy of level promql with the level before it: pod shop/cart-1."`
	Dimensions string    `query:"dimensions" doc:"Values of the metric's dimensions: mountpoint=/data, several with a comma between."`
	At         time.Time `query:"at" doc:"Left out: now."`
}

func (h *handlers) why(ctx context.Context, in *whyQuery) (*body[policy.Why], error) {
	if err := access.Authorize(ctx, access.Read, in.Cluster, ""); err != nil {
		return nil, problem.Error(err)
	}
	if in.Cluster == "" {
		return nil, problem.Error(fault.Wrong("query.cluster", fault.Say(fault.Required), nil))
	}
	now := h.now()
	q := policy.Question{Cluster: in.Cluster, Object: in.Object, At: in.At}
	if q.At.IsZero() {
		q.At = now
	}
	if q.At.After(now) || now.Sub(q.At) > keptFor {
		return nil, problem.Error(fault.Wrong("query.at", fault.Say(fault.LookBackFrom, 90), in.At))
	}
	if in.Dimensions != "" {
		q.Dimensions = map[string]string{}
		for _, part := range strings.Split(in.Dimensions, ",") {
			k, v, ok := strings.Cut(part, "=")
			if !ok {
				return nil, problem.Error(fault.Wrong("query.dimensions", fault.Say(fault.WhyDimension), part))
			}
			q.Dimensions[k] = v
		}
	}
	row, note, err := h.policyAt(ctx, in.Project, in.Name, q.At)
	if err != nil {
		return nil, problem.Error(err)
	}
	out, err := h.Engine.Why(ctx, row, q)
	if note != "" && err == nil {
		out.Words = note + out.Words
	}
	return &body[policy.Why]{out}, problem.Error(err)
}

// policyAt gives a policy as it was at a time. One that was not there then is
// taken as it is now, and the note says so.
func (h *handlers) policyAt(ctx context.Context, project, name string, at time.Time) (row meta.Resource, note string, err error) {
	err = h.Store.View(ctx, func(tx *meta.Tx) error {
		versions, err := tx.Versions(meta.KindPolicy, project, name, 1000)
		if err != nil {
			return err
		}
		if len(versions) == 0 {
			return fault.Because(fault.ErrNotFound, fault.Missing, "policy", name)
		}
		row = versions[0].Resource
		for _, v := range versions {
			if v.UpdatedAt.After(at) {
				continue
			}
			if v.Deleted {
				note = "It was deleted by then; as it was before: "
			}
			row = v.Resource
			return nil
		}
		note = fmt.Sprintf("It did not exist then; as it is in revision %d: ", row.Revision)
		return nil
	})
	return row, note, err
}
