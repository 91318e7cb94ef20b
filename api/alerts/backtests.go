package alerts

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/alerting/replay"
	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/api/problem"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// Backtests are jobs that replay policies; *replay.Jobs is one.
type Backtests interface {
	Start(policies []replay.Policy, from, to time.Time, clusters []string) (policy.Backtest, error)
	Get(id string) (policy.Backtest, error)
	List() []policy.Backtest
	Delete(id string) error
}

var _ Backtests = (*replay.Jobs)(nil)

type backtestDocument struct{ RawBody []byte }

type backtestAsked struct {
	Policy   string          `json:"policy"`
	Draft    json.RawMessage `json:"draft"`
	Against  json.RawMessage `json:"against"`
	Clusters []string        `json:"clusters"`
	From     time.Time       `json:"from"`
	To       time.Time       `json:"to"`
}

func (h *handlers) startBacktest(ctx context.Context, in *backtestDocument) (*body[policy.Backtest], error) {
	// It reads everything and keeps nothing.
	if err := access.Authorize(ctx, access.Read, "", ""); err != nil {
		return nil, problem.Error(err)
	}
	var asked backtestAsked
	dec := json.NewDecoder(bytes.NewReader(in.RawBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&asked); err != nil {
		return nil, problem.Error(fmt.Errorf("read the body as JSON: %w: %w", fault.ErrMalformed, err))
	}
	now := h.now()
	if asked.To.IsZero() || asked.To.After(now) {
		asked.To = now
	}
	var fields fault.Fields
	if (asked.Policy == "") == (asked.Draft == nil) {
		fields.Say("policy", fault.Say(fault.BacktestNothing), nil)
	}
	if !asked.From.Before(asked.To) || now.Sub(asked.From) > keptFor+time.Hour {
		fields.Say("from", fault.Say(fault.BacktestFrom, 90), asked.From)
	}
	if err := fields.Err(); err != nil {
		return nil, problem.Error(err)
	}
	var policies []replay.Policy
	err := h.Store.View(ctx, func(tx *meta.Tx) error {
		if asked.Policy != "" {
			row, err := tx.Resource(meta.KindPolicy, policy.DefaultProject, asked.Policy)
			if err != nil {
				return err
			}
			policies = append(policies, replay.Policy{Row: row})
		}
		for _, raw := range []json.RawMessage{asked.Draft, asked.Against} {
			if raw == nil {
				continue
			}
			p, _, err := h.parsePolicy(tx, &Document{RawBody: raw})
			if err != nil {
				return err
			}
			row := meta.Resource{ID: fmt.Sprintf("pol_draft%d", len(policies)), Kind: meta.KindPolicy, Project: p.Metadata.Project, Name: p.Metadata.Name, Revision: 1, Labels: p.Metadata.Labels}
			if row.Spec, err = marshalSpec(p.Spec); err != nil {
				return err
			}
			policies = append(policies, replay.Policy{Row: row, Draft: true})
		}
		return nil
	})
	if err != nil {
		return nil, problem.Error(err)
	}
	out, err := h.Backtests.Start(policies, asked.From.UTC(), asked.To.UTC(), asked.Clusters)
	return &body[policy.Backtest]{out}, problem.Error(err)
}

func (h *handlers) getBacktest(ctx context.Context, in *byID) (*body[policy.Backtest], error) {
	if err := access.Authorize(ctx, access.Read, "", ""); err != nil {
		return nil, problem.Error(err)
	}
	out, err := h.Backtests.Get(in.ID)
	return &body[policy.Backtest]{out}, problem.Error(err)
}

func (h *handlers) listBacktests(ctx context.Context, _ *struct{}) (*body[list[policy.Backtest]], error) {
	if err := access.Authorize(ctx, access.Read, "", ""); err != nil {
		return nil, problem.Error(err)
	}
	out := &body[list[policy.Backtest]]{}
	out.Body.Items = h.Backtests.List()
	return out, nil
}

func (h *handlers) deleteBacktest(ctx context.Context, in *byID) (*struct{}, error) {
	if err := access.Authorize(ctx, access.Read, "", ""); err != nil {
		return nil, problem.Error(err)
	}
	return nil, problem.Error(h.Backtests.Delete(in.ID))
}
