package alerts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/alerting/notify"
	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/api/problem"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

func (h *handlers) showTarget(r meta.Resource, queues []meta.TargetQueue) (notify.Target, error) {
	t, err := notify.FromRow(r)
	if err != nil {
		return notify.Target{}, err
	}
	t.Status = &notify.TargetStatus{Circuit: "closed"}
	for _, q := range queues {
		if q.TargetID == r.ID {
			t.Status.Pending, t.Status.Dead, t.Status.LastError = q.Pending, q.Dead, q.LastError
		}
	}
	if c, ok := h.Outbox.Circuit(r.ID); ok {
		t.Status.Circuit, t.Status.CircuitTry = c.State, orNull(c.TryAt)
	}
	// Secrets that the key file does not open have no rotation to be shown.
	if s, err := notify.Unseal(h.Keyring, r); err == nil && s.Previous != "" && h.now().Before(s.PreviousUntil) {
		t.Status.SecretUntil = orNull(s.PreviousUntil)
	}
	return *t, nil
}

func (h *handlers) listTargets(ctx context.Context, in *resourceQuery) (*body[list[notify.Target]], error) {
	if err := access.Authorize(ctx, access.Read, "", ""); err != nil {
		return nil, problem.Error(err)
	}
	out := &body[list[notify.Target]]{}
	err := h.Store.View(ctx, func(tx *meta.Tx) error {
		rows, err := tx.Resources(meta.KindTarget)
		if err != nil {
			return err
		}
		queues, err := tx.TargetQueues()
		if err != nil {
			return err
		}
		if rows, out.Body.Next, err = in.page(rows); err != nil {
			return err
		}
		out.Body.Items = make([]notify.Target, len(rows))
		for i, r := range rows {
			if out.Body.Items[i], err = h.showTarget(r, queues); err != nil {
				return err
			}
		}
		return nil
	})
	return out, problem.Error(err)
}

func (h *handlers) getTarget(ctx context.Context, in *ByName) (*body[notify.Target], error) {
	if err := access.Authorize(ctx, access.Read, "", ""); err != nil {
		return nil, problem.Error(err)
	}
	out := &body[notify.Target]{}
	err := h.Store.View(ctx, func(tx *meta.Tx) error {
		row, err := tx.Resource(meta.KindTarget, in.Project, in.Name)
		if err != nil {
			return err
		}
		queues, err := tx.TargetQueues()
		if err != nil {
			return err
		}
		out.Body, err = h.showTarget(row, queues)
		return err
	})
	return out, problem.Error(err)
}

func (h *handlers) createTarget(ctx context.Context, in *Document) (*written[notify.Target], error) {
	if err := access.Authorize(ctx, access.Write, "", ""); err != nil {
		return nil, problem.Error(err)
	}
	t, err := notify.ParseTarget(in.RawBody, nil, h.Outbox.Guard())
	if err != nil {
		return nil, problem.Error(err)
	}
	now := h.now()
	row := meta.Resource{
		ID: incident.NewID("tgt_", now), Kind: meta.KindTarget, Project: t.Metadata.Project, Name: t.Metadata.Name, Revision: 1, Labels: t.Metadata.Labels,
		ManagedBy: in.Manager, CreatedAt: now, UpdatedAt: now, UpdatedBy: access.Who(ctx),
	}
	var secret notify.Secret
	if t.Spec.Signs() {
		secret = notify.NewSecret()
	}
	if row.Spec, row.Sealed, err = notify.Seal(h.Keyring, row.ID, t, notify.Sealed{Secret: secret}); err != nil {
		return nil, problem.Error(err)
	}
	var current any
	err = h.Store.Update(ctx, func(tx *meta.Tx) error {
		there, err := tx.Resource(meta.KindTarget, row.Project, row.Name)
		if errors.Is(err, fault.ErrNotFound) {
			if in.DryRun {
				return nil
			}
			return tx.CreateResource(row)
		}
		if err != nil {
			return err
		}
		if current, err = h.showTarget(there, nil); err != nil {
			return err
		}
		return fault.Because(fault.ErrConflict, fault.Exists, "target", row.Name)
	})
	if err != nil {
		return nil, answerConflict(err, current)
	}
	shown, err := h.showTarget(row, nil)
	if err != nil {
		return nil, problem.Error(err)
	}
	if !in.DryRun {
		h.Engine.PoliciesChanged()
		shown.Status.Secret = secret.Reveal()
	}
	return &written[notify.Target]{in.status(http.StatusCreated), shown}, nil
}

func (h *handlers) replaceTarget(ctx context.Context, in *documentAt) (*body[notify.Target], error) {
	if err := access.Authorize(ctx, access.Write, "", ""); err != nil {
		return nil, problem.Error(err)
	}
	out := &body[notify.Target]{}
	var current any
	var secret notify.Secret // a new one
	err := h.Store.Update(ctx, func(tx *meta.Tx) error {
		row, err := tx.Resource(meta.KindTarget, in.Project, in.Name)
		if err != nil {
			return err
		}
		// Secrets that this key file cannot open can be replaced all the same, by
		// a new target; here they would be lost without a word.
		stored, err := notify.Unseal(h.Keyring, row)
		if err != nil {
			return fmt.Errorf("%w: %w", fault.ErrUnavailable, err)
		}
		t, err := notify.ParseTarget(in.RawBody, stored.Spec, h.Outbox.Guard())
		if err != nil {
			return err
		}
		if err := sameName(in.Name, t.Metadata.Name); err != nil {
			return err
		}
		if signs := t.Spec.Signs(); signs && (stored.Secret == "" || !stored.Spec.Signs()) { // it has become a webhook
			secret = notify.NewSecret()
			stored.Secret = secret
		} else if !signs {
			stored.Secret, stored.Previous, stored.PreviousUntil = "", "", time.Time{}
		}
		before := row
		row.Labels, row.ManagedBy, row.UpdatedAt, row.UpdatedBy = t.Metadata.Labels, in.Manager, h.now(), access.Who(ctx)
		if row.Spec, row.Sealed, err = notify.Seal(h.Keyring, row.ID, t, stored); err != nil {
			return err
		}
		after, err := notify.Unseal(h.Keyring, row)
		if err != nil {
			return err
		}
		if kept(before, row, t.Metadata.Revision, in.Force) && reflect.DeepEqual(stored, after) { // what is sealed differs each time
			row, secret = before, ""
		} else if err := checkWrite(before, t.Metadata.Revision, in.Manager, in.Force); err != nil {
			shown, showErr := h.showTarget(before, nil)
			current = shown
			return errors.Join(err, showErr)
		} else if in.DryRun {
			row.Revision++
		} else if row.Revision, err = tx.UpdateResource(row); err != nil {
			return err
		}
		queues, err := tx.TargetQueues()
		if err != nil {
			return err
		}
		out.Body, err = h.showTarget(row, queues)
		return err
	})
	if err != nil {
		return nil, answerConflict(err, current)
	}
	if !in.DryRun {
		h.Engine.PoliciesChanged()
		h.Outbox.Wake()
		if secret != "" {
			out.Body.Status.Secret = secret.Reveal()
		}
	}
	return out, nil
}

func (h *handlers) deleteTarget(ctx context.Context, in *ByName) (*struct{}, error) {
	if err := access.Authorize(ctx, access.Write, "", ""); err != nil {
		return nil, problem.Error(err)
	}
	err := h.Store.Update(ctx, func(tx *meta.Tx) error {
		policies, err := tx.Resources(meta.KindPolicy)
		if err != nil {
			return err
		}
		for _, r := range policies {
			p, err := policy.FromRow(r)
			if err != nil {
				return err
			}
			if p.Spec.Notify != nil && slices.ContainsFunc(p.Spec.Notify.Targets, func(t policy.TargetRef) bool { return t.Name == in.Name }) {
				return fault.Because(fault.ErrConflict, fault.TargetUsed, in.Name, r.Name)
			}
		}
		return tx.DeleteResource(meta.KindTarget, in.Project, in.Name)
	})
	if err != nil {
		return nil, problem.Error(err)
	}
	h.Engine.PoliciesChanged()
	h.Outbox.Wake() // what waited for it is given up
	return nil, nil
}

type targetShape struct {
	Body notify.Shape
}

// previewTarget shows a body, of a template that is being written above all.
func (h *handlers) previewTarget(ctx context.Context, in *targetShape) (*body[notify.Preview], error) {
	if err := access.Authorize(ctx, access.Read, "", ""); err != nil {
		return nil, problem.Error(err)
	}
	p, err := notify.PreviewBody(in.Body, incident.ExampleMessage(h.now(), h.links))
	if err != nil {
		return nil, problem.Error(err)
	}
	return &body[notify.Preview]{p}, nil
}

type rotation struct {
	ByName
	Overlap string `query:"overlap" default:"24h" doc:"How long the key before signs too, from 0s to 30d."`
}

// rotateTarget makes a new signing key.
func (h *handlers) rotateTarget(ctx context.Context, in *rotation) (*body[notify.Target], error) {
	if err := access.Authorize(ctx, access.Write, "", ""); err != nil {
		return nil, problem.Error(err)
	}
	var overlap policy.Duration
	if err := overlap.UnmarshalText([]byte(in.Overlap)); err != nil || overlap.D() > 30*24*time.Hour {
		return nil, problem.Error(fault.Wrong("query.overlap", fault.Say(fault.Overlap), in.Overlap))
	}
	out := &body[notify.Target]{}
	err := h.Store.Update(ctx, func(tx *meta.Tx) error {
		row, err := tx.Resource(meta.KindTarget, in.Project, in.Name)
		if err != nil {
			return err
		}
		stored, err := notify.Unseal(h.Keyring, row)
		if err != nil {
			return fmt.Errorf("%w: %w", fault.ErrUnavailable, err)
		}
		if !stored.Spec.Signs() {
			return fault.Because(fault.ErrInvalid, fault.NotForType, "type "+stored.Spec.Type)
		}
		fresh := stored.Rotate(h.now(), overlap.D())
		t, err := notify.FromRow(row)
		if err != nil {
			return err
		}
		t.Spec = *stored.Spec
		if row.Spec, row.Sealed, err = notify.Seal(h.Keyring, row.ID, t, fresh); err != nil {
			return err
		}
		row.UpdatedAt, row.UpdatedBy = h.now(), access.Who(ctx)
		if row.Revision, err = tx.UpdateResource(row); err != nil {
			return err
		}
		if out.Body, err = h.showTarget(row, nil); err == nil {
			out.Body.Status.Secret = fresh.Secret.Reveal()
		}
		return err
	})
	if err != nil {
		return nil, problem.Error(err)
	}
	h.Outbox.Wake()
	return out, nil
}

// messageSchema gives the JSON Schema of the body that webhooks get.
func (h *handlers) messageSchema(ctx context.Context, _ *struct{}) (*body[json.RawMessage], error) {
	if err := access.Authorize(ctx, access.Read, "", ""); err != nil {
		return nil, problem.Error(err)
	}
	return &body[json.RawMessage]{notify.Schema()}, nil
}

func (h *handlers) testTarget(ctx context.Context, in *ByName) (*body[Delivery], error) {
	if err := access.Authorize(ctx, access.Write, "", ""); err != nil {
		return nil, problem.Error(err)
	}
	now := h.now()
	id := incident.NewID("ntf_", now)
	out := &body[Delivery]{}
	err := h.Store.Update(ctx, func(tx *meta.Tx) error {
		row, err := tx.Resource(meta.KindTarget, in.Project, in.Name)
		if err != nil {
			return err
		}
		message, err := incident.TestMessage(id, now, h.links, row.Name).Encode(0)
		if err != nil {
			return err
		}
		n := meta.Notification{
			// Of a thread of its own, so that it waits for nothing.
			ID: id, IncidentID: "test_" + id, TargetID: row.ID, Type: string(incident.Test), Sequence: 1, Body: message,
			State: meta.NotificationPending, CreatedAt: now, NextAt: now, GiveUpAt: now.Add(incident.GiveUpAfter),
		}
		out.Body = showDelivery(n, nil, map[string]string{row.ID: row.Name})
		return tx.Enqueue(n)
	})
	if err != nil {
		return nil, problem.Error(err)
	}
	h.Outbox.Wake()
	return out, nil
}
