package alerts

import (
	"context"
	"errors"
	"fmt"

	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/alerting/policy"
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

func (h *handlers) listPolicies(ctx context.Context, _ *struct{}) (*body[list[policy.Policy]], error) {
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
func (h *handlers) parsePolicy(tx *meta.Tx, raw []byte) (*policy.Policy, []meta.ClusterRow, error) {
	targets, err := tx.Resources(meta.KindTarget)
	if err != nil {
		return nil, nil, err
	}
	clusters, err := tx.ListClusters()
	if err != nil {
		return nil, nil, err
	}
	known := policy.Known{Targets: []string{}, Intervals: h.Engine.Intervals(), ClusterLabels: map[string]map[string]string{}}
	for _, t := range targets {
		known.Targets = append(known.Targets, t.Name)
	}
	for _, c := range clusters {
		known.ClusterLabels[c.ID] = c.Labels
	}
	p, err := policy.Parse(raw, known)
	return p, clusters, err
}

func (h *handlers) createPolicy(ctx context.Context, in *Document) (*body[policy.Policy], error) {
	if err := access.Authorize(ctx, access.Write, "", ""); err != nil {
		return nil, problem.Error(err)
	}
	var row meta.Resource
	var clusters []meta.ClusterRow
	var current any
	err := h.Store.Update(ctx, func(tx *meta.Tx) error {
		p, cs, err := h.parsePolicy(tx, in.RawBody)
		if err != nil {
			return err
		}
		clusters = cs
		if there, err := tx.Resource(meta.KindPolicy, p.Metadata.Project, p.Metadata.Name); err == nil {
			if current, err = h.showPolicy(there, clusters); err != nil {
				return err
			}
			return fmt.Errorf("policy %q is there already: %w", p.Metadata.Name, fault.ErrConflict)
		} else if !errors.Is(err, fault.ErrNotFound) {
			return err
		}
		now := h.now()
		row = meta.Resource{
			ID: incident.NewID("pol_", now), Kind: meta.KindPolicy, Project: p.Metadata.Project, Name: p.Metadata.Name, Revision: 1, Labels: p.Metadata.Labels,
			ManagedBy: in.Manager, CreatedAt: now, UpdatedAt: now, UpdatedBy: who(ctx),
		}
		if row.Spec, err = marshalSpec(p.Spec); err != nil {
			return err
		}
		return tx.CreateResource(row)
	})
	if err != nil {
		return nil, answerConflict(err, current)
	}
	h.Engine.PoliciesChanged()
	p, err := h.showPolicy(row, clusters)
	return &body[policy.Policy]{p}, problem.Error(err)
}

func (h *handlers) replacePolicy(ctx context.Context, in *documentAt) (*body[policy.Policy], error) {
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
		p, cs, err := h.parsePolicy(tx, in.RawBody)
		if err != nil {
			return err
		}
		clusters = cs
		if err := sameName(in.Name, p.Metadata.Name); err != nil {
			return err
		}
		if err := checkWrite(row, p.Metadata.Revision, in.Manager, in.Force); err != nil {
			shown, showErr := h.showPolicy(row, clusters)
			current = shown
			return errors.Join(err, showErr)
		}
		row.Labels, row.ManagedBy, row.UpdatedAt, row.UpdatedBy = p.Metadata.Labels, in.Manager, h.now(), who(ctx)
		if row.Spec, err = marshalSpec(p.Spec); err != nil {
			return err
		}
		row.Revision, err = tx.UpdateResource(row)
		return err
	})
	if err != nil {
		return nil, answerConflict(err, current)
	}
	h.Engine.PoliciesChanged()
	p, err := h.showPolicy(row, clusters)
	return &body[policy.Policy]{p}, problem.Error(err)
}

func (h *handlers) deletePolicy(ctx context.Context, in *ByName) (*struct{}, error) {
	if err := access.Authorize(ctx, access.Write, "", ""); err != nil {
		return nil, problem.Error(err)
	}
	err := h.Store.Update(ctx, func(tx *meta.Tx) error { return tx.DeleteResource(meta.KindPolicy, in.Project, in.Name) })
	if err != nil {
		return nil, problem.Error(err)
	}
	h.Engine.PoliciesChanged() // which ends the policy's alerts
	return nil, nil
}
