// Package preset owns the policies that come with the product: what each is for,
// which more general ones it explains, and how they get among the policies. It
// must not know how a policy is evaluated.
package preset

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/alerting/routing"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// Manager is who manages the rows of presets, until somebody else takes one
// over.
const Manager = "preset"

// by is who wrote them, as shown.
const by = "crowsnest"

//go:embed presets.yaml
var document []byte

// Preset is one policy that comes with the product.
type Preset struct {
	Name     string            `json:"name"`
	Title    string            `json:"title"`
	Symptom  string            `json:"symptom"`
	Labels   map[string]string `json:"labels"`
	Explains []string          `json:"explains"`
	Equal    []string          `json:"equal"`
	Spec     json.RawMessage   `json:"spec"`

	// Fixtures: values by series, in Prometheus' notation, one every 30 s.
	Fires []map[string]string `json:"fires"`
	Quiet []map[string]string `json:"quiet"`
}

// All gives the presets.
func All() ([]Preset, error) {
	var out []Preset
	for i, part := range bytes.Split(document, []byte("\n---\n")) {
		var p Preset
		if err := yaml.UnmarshalStrict(part, &p); err != nil {
			return nil, fmt.Errorf("read preset %d: %w", i, err)
		}
		if len(p.Equal) == 0 {
			p.Equal = []string{"cluster", "namespace", "workload_type", "workload"}
		}
		out = append(out, p)
	}
	return out, nil
}

// Policy gives the policy of a preset.
func (p Preset) Policy() (*policy.Policy, error) {
	var spec map[string]any
	if err := json.Unmarshal(p.Spec, &spec); err != nil {
		return nil, fmt.Errorf("read preset %s: %w", p.Name, err)
	}
	spec["annotations"] = map[string]string{"summary": p.Title, "description": p.Symptom}
	doc, err := json.Marshal(map[string]any{"apiVersion": policy.APIVersion, "kind": policy.Kind, "metadata": map[string]any{"name": p.Name, "labels": p.Labels}, "spec": spec})
	if err != nil {
		return nil, err
	}
	out, err := policy.Parse(doc, policy.Known{})
	if err != nil {
		return nil, fmt.Errorf("read preset %s: %w", p.Name, err)
	}
	return out, nil
}

// Inhibition gives what mutes the presets that this one explains, and whether
// there are any.
func (p Preset) Inhibition() (name string, spec routing.InhibitionSpec, ok bool) {
	return p.Name + "-explains", routing.InhibitionSpec{
		Source: []string{fmt.Sprintf("policy=%q", p.Name)}, Target: []string{fmt.Sprintf("policy=~%q", strings.Join(p.Explains, "|"))}, Equal: p.Equal,
		Comment: p.Title + ": " + p.Symptom,
	}, len(p.Explains) > 0
}

// Row gives a preset's policy as a row that is stored nowhere.
func (p Preset) Row() (meta.Resource, error) {
	rows, err := p.rows()
	if err != nil {
		return meta.Resource{}, err
	}
	row := rows[0]
	row.ID, row.Project, row.Revision, row.ManagedBy = "pol_preset_"+p.Name, policy.DefaultProject, 1, Manager
	return row, nil
}

// rows of a preset as they are stored.
func (p Preset) rows() ([]meta.Resource, error) {
	pol, err := p.Policy()
	if err != nil {
		return nil, err
	}
	spec, err := json.Marshal(pol.Spec)
	if err != nil {
		return nil, err
	}
	out := []meta.Resource{{Kind: meta.KindPolicy, Name: p.Name, Labels: p.Labels, Spec: spec}}
	if name, inhibition, ok := p.Inhibition(); ok {
		spec, err := json.Marshal(inhibition)
		if err != nil {
			return nil, err
		}
		out = append(out, meta.Resource{Kind: meta.KindInhibition, Name: name, Spec: spec})
	}
	return out, nil
}

// Store is where policies are kept; *meta.DB is one.
type Store interface {
	Update(ctx context.Context, fn func(tx *meta.Tx) error) error
}

// Install makes the presets that are not there yet and brings those up to date
// that nobody took over. What was deleted stays deleted; whether a policy is
// switched on stays as it is.
func Install(ctx context.Context, store Store, now time.Time) error {
	all, err := All()
	if err != nil {
		return err
	}
	return store.Update(ctx, func(tx *meta.Tx) error {
		for _, p := range all {
			rows, err := p.rows()
			if err != nil {
				return err
			}
			for _, row := range rows {
				if err := install(tx, row, now); err != nil {
					return fmt.Errorf("install preset %s: %w", row.Name, err)
				}
			}
		}
		return nil
	})
}

func install(tx *meta.Tx, row meta.Resource, now time.Time) error {
	row.Project, row.ManagedBy, row.UpdatedAt, row.UpdatedBy = policy.DefaultProject, Manager, now, by
	there, err := tx.Resource(row.Kind, row.Project, row.Name)
	switch {
	case errors.Is(err, fault.ErrNotFound):
		before, err := tx.Versions(row.Kind, row.Project, row.Name, 1)
		if err != nil || len(before) > 0 { // somebody deleted it
			return err
		}
		row.ID, row.Revision, row.CreatedAt = incident.NewID(map[string]string{meta.KindPolicy: "pol_", meta.KindInhibition: "inh_"}[row.Kind], now), 1, now
		return tx.CreateResource(row)
	case err != nil || there.ManagedBy != Manager:
		return err
	}
	spec, same, err := keepEnabled(there.Spec, row.Spec)
	if err != nil || same && maps.Equal(there.Labels, row.Labels) {
		return err
	}
	there.Labels, there.Spec, there.UpdatedAt, there.UpdatedBy = row.Labels, spec, now, by
	_, err = tx.UpdateResource(there)
	return err
}

// keepEnabled gives the new spec, switched on or off as the old one, and whether
// they say the same.
func keepEnabled(before, after json.RawMessage) (json.RawMessage, bool, error) {
	var a, b map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(before, &a), json.Unmarshal(after, &b)); err != nil {
		return nil, false, err
	}
	if enabled, ok := a["enabled"]; ok {
		b["enabled"] = enabled
	} else {
		delete(b, "enabled")
	}
	spec, err := json.Marshal(b)
	return spec, maps.EqualFunc(a, b, func(x, y json.RawMessage) bool { return slices.Equal(compact(x), compact(y)) }), err
}

func compact(raw json.RawMessage) []byte {
	var out bytes.Buffer
	if json.Compact(&out, raw) != nil {
		return raw
	}
	return out.Bytes()
}
