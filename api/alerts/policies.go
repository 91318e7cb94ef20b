package alerts

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/alerting/preset"
	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/api/problem"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

func (h *handlers) showPolicy(r meta.Resource, clusters []meta.ClusterRow) (policy.Policy, error) {
	p, err := policy.FromRow(r)
	if err != nil {
		return policy.Policy{}, err
	}
	st, err := h.Engine.Status(r, clusters)
	if err != nil { // written by a newer version, perhaps: shown, but not evaluated
		st = policy.Status{State: policy.StateIdle, Reasons: []string{err.Error()}, Clusters: []policy.ClusterStatus{}}
	}
	p.Status = &st
	return *p, nil
}

func (h *handlers) listPolicies(ctx context.Context, in *resourceQuery) (*body[list[policy.Policy]], error) {
	if err := access.Authorize(ctx, access.Read, "", ""); err != nil {
		return nil, problem.Error(err)
	}
	var rows []meta.Resource
	var clusters []meta.ClusterRow
	err := h.Store.View(ctx, func(tx *meta.Tx) (err error) {
		if rows, err = tx.Resources(meta.KindPolicy); err != nil {
			return err
		}
		clusters, err = tx.ListClusters()
		return err
	})
	if err != nil {
		return nil, problem.Error(err)
	}
	out := &body[list[policy.Policy]]{}
	if rows, out.Body.Next, err = in.page(rows); err != nil {
		return nil, problem.Error(err)
	}
	out.Body.Items = make([]policy.Policy, len(rows))
	for i, r := range rows {
		if out.Body.Items[i], err = h.showPolicy(r, clusters); err != nil {
			return nil, problem.Error(err)
		}
	}
	return out, nil
}

func (h *handlers) getPolicy(ctx context.Context, in *ByName) (*body[policy.Policy], error) {
	if err := access.Authorize(ctx, access.Read, "", ""); err != nil {
		return nil, problem.Error(err)
	}
	var row meta.Resource
	var clusters []meta.ClusterRow
	err := h.Store.View(ctx, func(tx *meta.Tx) (err error) {
		if row, err = tx.Resource(meta.KindPolicy, in.Project, in.Name); err != nil {
			return err
		}
		clusters, err = tx.ListClusters()
		return err
	})
	if err != nil {
		return nil, problem.Error(err)
	}
	p, err := h.showPolicy(row, clusters)
	return &body[policy.Policy]{p}, problem.Error(err)
}

// parsePolicy validates against what the server knows at the moment.
func (h *handlers) parsePolicy(tx *meta.Tx, doc *Document) (*policy.Policy, []meta.ClusterRow, error) {
	targets, err := tx.Resources(meta.KindTarget)
	if err != nil {
		return nil, nil, err
	}
	clusters, err := tx.ListClusters()
	if err != nil {
		return nil, nil, err
	}
	known := policy.Known{Targets: []string{}, Intervals: h.Engine.Intervals(), ClusterLabels: map[string]map[string]string{}, CheckFilter: h.CheckFilter}
	for _, t := range targets {
		known.Targets = append(known.Targets, t.Name)
	}
	known.Targets = doc.assumed(known.Targets)
	for _, c := range clusters {
		known.ClusterLabels[c.ID] = c.Labels
	}
	p, err := policy.Parse(doc.RawBody, known)
	return p, clusters, err
}

func (h *handlers) createPolicy(ctx context.Context, in *Document) (*policyAnswer, error) {
	if err := access.Authorize(ctx, access.Write, "", ""); err != nil {
		return nil, problem.Error(err)
	}
	var row meta.Resource
	var clusters []meta.ClusterRow
	var current any
	err := h.Store.Update(ctx, func(tx *meta.Tx) error {
		p, cs, err := h.parsePolicy(tx, in)
		if err != nil {
			return err
		}
		clusters = cs
		if there, err := tx.Resource(meta.KindPolicy, p.Metadata.Project, p.Metadata.Name); err == nil {
			if current, err = h.showPolicy(there, clusters); err != nil {
				return err
			}
			return fault.Because(fault.ErrConflict, fault.Exists, "policy", p.Metadata.Name)
		} else if !errors.Is(err, fault.ErrNotFound) {
			return err
		}
		now := h.now()
		row = meta.Resource{
			ID: incident.NewID("pol_", now), Kind: meta.KindPolicy, Project: p.Metadata.Project, Name: p.Metadata.Name, Revision: 1, Labels: p.Metadata.Labels,
			ManagedBy: in.Manager, CreatedAt: now, UpdatedAt: now, UpdatedBy: access.Who(ctx),
		}
		if row.Spec, err = marshalSpec(p.Spec); err != nil {
			return err
		}
		if in.DryRun {
			return nil
		}
		return tx.CreateResource(row)
	})
	if err != nil {
		return nil, answerConflict(err, current)
	}
	return h.answerPolicy(ctx, row, clusters, in.DryRun, http.StatusCreated)
}

// answerPolicy shows what was written, or would be.
func (h *handlers) answerPolicy(ctx context.Context, row meta.Resource, clusters []meta.ClusterRow, dryRun bool, status int) (*policyAnswer, error) {
	if !dryRun {
		h.Engine.PoliciesChanged()
		p, err := h.showPolicy(row, clusters)
		return &policyAnswer{status, p}, problem.Error(err)
	}
	p, err := h.showPolicy(row, clusters)
	if err != nil {
		return nil, problem.Error(err)
	}
	if p.Status.Trial, err = h.Engine.Try(ctx, row, clusters); err != nil {
		return nil, problem.Error(err)
	}
	return &policyAnswer{http.StatusOK, p}, nil
}

type policyAnswer struct {
	Status int
	Body   policy.Policy
}

func (h *handlers) replacePolicy(ctx context.Context, in *documentAt) (*policyAnswer, error) {
	if err := access.Authorize(ctx, access.Write, "", ""); err != nil {
		return nil, problem.Error(err)
	}
	var row meta.Resource
	var clusters []meta.ClusterRow
	var current any
	err := h.Store.Update(ctx, func(tx *meta.Tx) (err error) {
		if row, err = tx.Resource(meta.KindPolicy, in.Project, in.Name); err != nil {
			return err
		}
		p, cs, err := h.parsePolicy(tx, &in.Document)
		if err != nil {
			return err
		}
		clusters = cs
		if err := sameName(in.Name, p.Metadata.Name); err != nil {
			return err
		}
		before := row
		row.Labels, row.ManagedBy, row.UpdatedAt, row.UpdatedBy = p.Metadata.Labels, in.Manager, h.now(), access.Who(ctx)
		if row.Spec, err = marshalSpec(p.Spec); err != nil {
			return err
		}
		if kept(before, row, p.Metadata.Revision, in.Force) {
			row = before
			return nil
		}
		if err := checkWrite(before, p.Metadata.Revision, in.Manager, in.Force); err != nil {
			shown, showErr := h.showPolicy(before, clusters)
			current = shown
			return errors.Join(err, showErr)
		}
		if in.DryRun {
			row.Revision++
			return nil
		}
		row.Revision, err = tx.UpdateResource(row)
		return err
	})
	if err != nil {
		return nil, answerConflict(err, current)
	}
	return h.answerPolicy(ctx, row, clusters, in.DryRun, http.StatusOK)
}

func (h *handlers) deletePolicy(ctx context.Context, in *ByName) (*struct{}, error) {
	if err := access.Authorize(ctx, access.Write, "", ""); err != nil {
		return nil, problem.Error(err)
	}
	err := h.Store.Update(ctx, func(tx *meta.Tx) error {
		row, err := tx.Resource(meta.KindPolicy, in.Project, in.Name)
		if err != nil {
			return err
		}
		return tx.RemoveResource(row, h.now(), access.Who(ctx))
	})
	if err != nil {
		return nil, problem.Error(err)
	}
	h.Engine.PoliciesChanged() // which ends the policy's alerts
	return nil, nil
}

type switchQuery struct {
	ByName
	Manager string `query:"manager" enum:"console,file" default:"console" doc:"Who writes. What another one made is changed with force only."`
	Force   bool   `query:"force"`
}

func (h *handlers) enablePolicy(ctx context.Context, in *switchQuery) (*policyAnswer, error) {
	return h.switchPolicy(ctx, in, true)
}

func (h *handlers) disablePolicy(ctx context.Context, in *switchQuery) (*policyAnswer, error) {
	return h.switchPolicy(ctx, in, false)
}

func (h *handlers) switchPolicy(ctx context.Context, in *switchQuery, on bool) (*policyAnswer, error) {
	if err := access.Authorize(ctx, access.Write, "", ""); err != nil {
		return nil, problem.Error(err)
	}
	var row meta.Resource
	var clusters []meta.ClusterRow
	err := h.Store.Update(ctx, func(tx *meta.Tx) (err error) {
		if row, err = tx.Resource(meta.KindPolicy, in.Project, in.Name); err != nil {
			return err
		}
		if clusters, err = tx.ListClusters(); err != nil {
			return err
		}
		p, err := policy.FromRow(row)
		if err != nil {
			return err
		}
		if p.IsEnabled() == on {
			return nil // it is so already: no version of its own
		}
		if row.ManagedBy != preset.Manager { // presets are there to be switched by anybody, and stay presets
			if err := checkWrite(row, 0, in.Manager, in.Force); err != nil {
				return err
			}
		}
		p.Spec.Enabled = &on
		row.UpdatedAt, row.UpdatedBy = h.now(), access.Who(ctx)
		if row.Spec, err = marshalSpec(p.Spec); err != nil {
			return err
		}
		row.Revision, err = tx.UpdateResource(row)
		return err
	})
	if err != nil {
		return nil, problem.Error(err)
	}
	return h.answerPolicy(ctx, row, clusters, false, http.StatusOK)
}

// Version is a policy as it once was.
type Version struct {
	Revision  int64             `json:"revision"`
	At        time.Time         `json:"at"`
	By        string            `json:"by"`
	ManagedBy string            `json:"managedBy"`
	Deleted   bool              `json:"deleted" doc:"This is its end; spec is that of the version before."`
	Labels    map[string]string `json:"labels" nullable:"false"`
	Spec      policy.Spec       `json:"spec"`
}

type historyQuery struct {
	ByName
	Limit int `query:"limit" default:"100" minimum:"1" maximum:"1000"`
}

func (h *handlers) policyHistory(ctx context.Context, in *historyQuery) (*body[list[Version]], error) {
	if err := access.Authorize(ctx, access.Read, "", ""); err != nil {
		return nil, problem.Error(err)
	}
	out := &body[list[Version]]{}
	err := h.Store.View(ctx, func(tx *meta.Tx) error {
		versions, err := tx.Versions(meta.KindPolicy, in.Project, in.Name, in.Limit)
		if err != nil {
			return err
		}
		if len(versions) == 0 {
			return fault.Because(fault.ErrNotFound, fault.Missing, "policy", in.Name)
		}
		out.Body.Items = make([]Version, len(versions))
		for i, v := range versions {
			p, err := policy.FromRow(v.Resource)
			if err != nil {
				return err
			}
			out.Body.Items[i] = Version{
				Revision: v.Revision, At: v.UpdatedAt, By: v.UpdatedBy, ManagedBy: v.ManagedBy, Deleted: v.Deleted, Labels: orEmpty(v.Labels), Spec: p.Spec,
			}
		}
		return nil
	})
	return out, problem.Error(err)
}
