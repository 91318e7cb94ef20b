package alerts

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/alerting/preset"
	"github.com/crowsnest-dev/crowsnest/alerting/replay"
	"github.com/crowsnest-dev/crowsnest/alerting/routing"
	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/api/problem"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// lookBack is how far back presets say what they would have said.
const lookBack = 7 * 24 * time.Hour

func (h *handlers) registerPresets(api huma.API, read func(id, path, tag, summary string) huma.Operation, write writer) {
	huma.Register(api, read("list-presets", "/presets", "alerting", "The policies that come with the server: what each is for, whether it is on, and why it is idle where it is"), h.listPresets)
	huma.Register(api, write("look-back-presets", http.MethodPost, "/presets/lookback", "alerting",
		"What presets would have said in the last 7 days, on or not: a backtest with one result for each; the answer comes at once, the results when they are done, at /backtests/{id}", http.StatusAccepted, LookBack{}), h.lookBackPresets)
	huma.Register(api, read("first-use", "/first-use", "alerting", "What is still to be said before anybody is told of anything: is there a target, and a default route"), h.firstUse)
}

// PresetState says how a preset stands.
type PresetState string

// States of a preset.
const (
	PresetOn      PresetState = "on"
	PresetIdle    PresetState = "idle"
	PresetOff     PresetState = "off"
	PresetDeleted PresetState = "deleted"
)

// Preset is one policy that comes with the server.
type Preset struct {
	Name      string      `json:"name" doc:"Of its policy: /policies/{name} shows and /policies/{name}/enable switches it."`
	Title     string      `json:"title"`
	Symptom   string      `json:"symptom" doc:"What people see, in words."`
	Level     string      `json:"level"`
	Explains  []string    `json:"explains" nullable:"false" doc:"More general presets that are muted on the same object while this one fires, by the inhibition NAME-explains."`
	Explained []string    `json:"explainedBy" nullable:"false" doc:"More specific ones that mute this one."`
	State     PresetState `json:"state" enum:"on,idle,off,deleted" doc:"idle: it is on, and no cluster shows what it needs; off: somebody switched it off; deleted: somebody deleted it."`
	ManagedBy string      `json:"managedBy,omitempty" doc:"preset, until somebody takes it over."`
	Selected  int         `json:"selected" doc:"Objects that it looks at now."`
	Firing    int         `json:"firing" doc:"Alerts that fire now."`
	Reasons   []string    `json:"reasons" nullable:"false" doc:"In words: what it does not do, and why."`
}

// LookBack asks what presets would have said.
type LookBack struct {
	Presets  []string  `json:"presets,omitempty" doc:"Names. Left out: all."`
	Clusters []string  `json:"clusters,omitempty" doc:"Left out: all that each selects."`
	From     time.Time `json:"from,omitzero" doc:"Left out: 7 days ago."`
}

// FirstUse says what is still to be said.
type FirstUse struct {
	Targets      int     `json:"targets" doc:"Targets that there are."`
	Routes       int     `json:"routes"`
	DefaultRoute *string `json:"defaultRoute" doc:"Name of the route for all that no other takes: the default, or one that asks for nothing; null: it is to be asked for."`
	Presets      int     `json:"presets" doc:"Presets that are switched on."`
	Untold       int     `json:"untold" doc:"Policies that are on and name nobody, so that without a default route only other routes tell of them."`
	Done         bool    `json:"done" doc:"There is a default route, or every policy names its own targets."`
	Question     string  `json:"question,omitempty" doc:"What to ask, in words; left out once it is done."`
}

func (h *handlers) listPresets(ctx context.Context, _ *struct{}) (*body[list[Preset]], error) {
	if err := access.Authorize(ctx, access.Read, "", ""); err != nil {
		return nil, problem.Error(err)
	}
	all, err := preset.All()
	if err != nil {
		return nil, problem.Error(err)
	}
	var rows []meta.Resource
	var clusters []meta.ClusterRow
	if err := h.Store.View(ctx, func(tx *meta.Tx) (err error) {
		if rows, err = tx.Resources(meta.KindPolicy); err != nil {
			return err
		}
		clusters, err = tx.ListClusters()
		return err
	}); err != nil {
		return nil, problem.Error(err)
	}
	explained := map[string][]string{}
	for _, p := range all {
		for _, general := range p.Explains {
			explained[general] = append(explained[general], p.Name)
		}
	}
	out := &body[list[Preset]]{}
	out.Body.Items = []Preset{}
	for _, p := range all {
		shown := Preset{
			Name: p.Name, Title: p.Title, Symptom: p.Symptom, Explains: orNone(p.Explains), Explained: orNone(explained[p.Name]), State: PresetDeleted,
			Reasons: []string{},
		}
		pol, err := p.Policy()
		if err != nil {
			return nil, problem.Error(err)
		}
		shown.Level = pol.Spec.Level
		i := slices.IndexFunc(rows, func(r meta.Resource) bool { return r.Project == policy.DefaultProject && r.Name == p.Name })
		if i < 0 {
			shown.Reasons = append(shown.Reasons, "its policy is not there: somebody deleted it, or the server was started with --presets=false")
			out.Body.Items = append(out.Body.Items, shown)
			continue
		}
		now, err := h.showPolicy(rows[i], clusters)
		if err != nil {
			return nil, problem.Error(err)
		}
		shown.Level, shown.ManagedBy, shown.Selected, shown.Firing = now.Spec.Level, now.Metadata.ManagedBy, now.Status.Selected, now.Status.Firing
		shown.Reasons = append(shown.Reasons, now.Status.Reasons...)
		for _, c := range now.Status.Clusters {
			told := func(reason string) bool { return strings.HasSuffix(reason, c.Reason) }
			if c.Reason != "" && !slices.ContainsFunc(shown.Reasons, told) {
				shown.Reasons = append(shown.Reasons, c.Cluster+": "+c.Reason)
			}
		}
		switch now.Status.State {
		case policy.StateDisabled:
			shown.State = PresetOff
		case policy.StateIdle:
			shown.State = PresetIdle
		default:
			shown.State = PresetOn
		}
		out.Body.Items = append(out.Body.Items, shown)
	}
	return out, nil
}

func orNone(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

type lookBackDocument struct{ RawBody []byte }

func (h *handlers) lookBackPresets(ctx context.Context, in *lookBackDocument) (*body[policy.Backtest], error) {
	// It reads everything and keeps nothing.
	if err := access.Authorize(ctx, access.Read, "", ""); err != nil {
		return nil, problem.Error(err)
	}
	var asked LookBack
	dec := json.NewDecoder(bytes.NewReader(in.RawBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&asked); err != nil && !errors.Is(err, io.EOF) {
		return nil, problem.Error(fmt.Errorf("read the body as JSON: %w: %w", fault.ErrMalformed, err))
	}
	all, err := preset.All()
	if err != nil {
		return nil, problem.Error(err)
	}
	now := h.now()
	var fields fault.Fields
	if asked.From.IsZero() {
		asked.From = now.Add(-lookBack)
	}
	if !asked.From.Before(now) || now.Sub(asked.From) > keptFor+time.Hour {
		fields.Say("from", fault.Say(fault.LookBackFrom, 90), asked.From)
	}
	for i, name := range asked.Presets {
		if !slices.ContainsFunc(all, func(p preset.Preset) bool { return p.Name == name }) {
			fields.Say(fmt.Sprintf("presets[%d]", i), fault.Say(fault.PresetUnknown), name)
		}
	}
	if err := fields.Err(); err != nil {
		return nil, problem.Error(err)
	}
	var policies []replay.Policy
	err = h.Store.View(ctx, func(tx *meta.Tx) error {
		for _, p := range all {
			if len(asked.Presets) > 0 && !slices.Contains(asked.Presets, p.Name) {
				continue
			}
			row, err := tx.Resource(meta.KindPolicy, policy.DefaultProject, p.Name)
			if errors.Is(err, fault.ErrNotFound) { // it was deleted, or never installed
				row, err = p.Row()
			}
			if err != nil {
				return err
			}
			policies = append(policies, replay.Policy{Row: row, MayFail: true})
		}
		return nil
	})
	if err != nil {
		return nil, problem.Error(err)
	}
	out, err := h.Backtests.Start(policies, asked.From.UTC(), now, asked.Clusters)
	return &body[policy.Backtest]{out}, problem.Error(err)
}

func (h *handlers) firstUse(ctx context.Context, _ *struct{}) (*body[FirstUse], error) {
	if err := access.Authorize(ctx, access.Read, "", ""); err != nil {
		return nil, problem.Error(err)
	}
	out := &body[FirstUse]{}
	err := h.Store.View(ctx, func(tx *meta.Tx) error {
		policies, err := tx.Resources(meta.KindPolicy)
		if err != nil {
			return err
		}
		targets, err := tx.Resources(meta.KindTarget)
		if err != nil {
			return err
		}
		routes, err := tx.Resources(meta.KindRoute)
		if err != nil {
			return err
		}
		out.Body.Targets, out.Body.Routes = len(targets), len(routes)
		for _, r := range policies {
			p, err := policy.FromRow(r)
			if err != nil || !p.IsEnabled() {
				continue // one that cannot be read tells nobody, and says so itself
			}
			if r.ManagedBy == preset.Manager {
				out.Body.Presets++
			}
			if p.Spec.Notify == nil || len(p.Spec.Notify.Targets) == 0 {
				out.Body.Untold++
			}
		}
		for _, r := range routes {
			route, err := routing.RouteOf(r)
			if err == nil && route.Spec.TakesAll() && (route.Spec.Default || out.Body.DefaultRoute == nil) {
				out.Body.DefaultRoute = &route.Metadata.Name
			}
		}
		return nil
	})
	if err != nil {
		return nil, problem.Error(err)
	}
	f := &out.Body
	f.Done = f.DefaultRoute != nil || f.Untold == 0
	switch {
	case f.Done:
	case f.Targets == 0:
		f.Question = fmt.Sprintf("Whom shall the server tell when something is wrong? %d policies name nobody: make a target, then the default route that leads to it.", f.Untold)
	default:
		f.Question = fmt.Sprintf("Which target shall be told of what no route takes? %d policies name nobody.", f.Untold)
	}
	return out, nil
}
