// Package routing owns who is told of an alert and what mutes it: routes,
// silences, maintenance windows and inhibitions, how they are read and checked,
// and what they decide. It must not know how an alert came to be, nor how
// anybody is told.
package routing

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	amlabels "github.com/prometheus/alertmanager/pkg/labels"

	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// Bounds of the objects.
const (
	maxMatchers = 32
	maxText     = 1024
	maxTargets  = 64
	maxSilence  = 366 * 24 * time.Hour
	maxDuration = 31 * 24 * time.Hour
)

// Route says who is told of the alerts that match.
type Route struct {
	APIVersion string          `json:"apiVersion" enum:"crowsnest.dev/v1"`
	Kind       string          `json:"kind" enum:"Route"`
	Metadata   policy.Metadata `json:"metadata"`
	Spec       RouteSpec       `json:"spec"`
	Status     *RouteStatus    `json:"status,omitempty" write:"ignored" doc:"Set by the server; ignored on write."`
}

// RouteSpec of a route; every given part must match.
type RouteSpec struct {
	Order      int                `json:"order,omitempty" doc:"Routes are asked from the lowest to the highest, then by name."`
	Default    bool               `json:"default,omitempty" doc:"Is asked when no other matched; only one route can be. It has no matching part."`
	Matchers   []string           `json:"matchers,omitempty" doc:"On the alert's labels, as Alertmanager has them: team=\"shop\", pod=~\"cart-.*\"."`
	Severities []string           `json:"severities,omitempty"`
	Clusters   []string           `json:"clusters,omitempty" doc:"Globs."`
	Namespaces []string           `json:"namespaces,omitempty" doc:"Globs."`
	Policies   []string           `json:"policies,omitempty" doc:"Globs on the policy's name."`
	Targets    []policy.TargetRef `json:"targets,omitempty" doc:"At least one, unless nobody is told."`
	Nobody     bool               `json:"nobody,omitempty" doc:"Nobody is told of what comes this way; targets are left out."`
	Continue   bool               `json:"continue,omitempty" doc:"Ask the routes after this one too."`
}

// TakesAll tells whether whatever no route before it takes comes this way: it is the
// default, or asks for nothing.
func (s RouteSpec) TakesAll() bool {
	return s.Default || len(s.Matchers)+len(s.Severities)+len(s.Clusters)+len(s.Namespaces)+len(s.Policies) == 0
}

// RouteStatus is how a route stands.
type RouteStatus struct {
	Firing int `json:"firing" doc:"Alerts that fire and come this way now."`
}

// Silence mutes what matches for a time.
type Silence struct {
	APIVersion string          `json:"apiVersion" enum:"crowsnest.dev/v1"`
	Kind       string          `json:"kind" enum:"Silence"`
	Metadata   policy.Metadata `json:"metadata"`
	Spec       SilenceSpec     `json:"spec"`
	Status     *MuteStatus     `json:"status,omitempty" write:"ignored" doc:"Set by the server; ignored on write."`
}

// SilenceSpec of a silence.
type SilenceSpec struct {
	Matchers []string   `json:"matchers" doc:"On the alert's labels; all must match."`
	From     *time.Time `json:"from,omitempty" doc:"Left out: when it is written."`
	Until    *time.Time `json:"until" doc:"At most 366 days after from."`
	Comment  string     `json:"comment,omitempty"`
}

// MuteStatus is how a silence, a maintenance or an inhibition stands.
type MuteStatus struct {
	State  string      `json:"state" enum:"pending,active,expired,disabled"`
	Until  *time.Time  `json:"until,omitempty" doc:"While active: when it ends."`
	Next   []time.Time `json:"next,omitempty" doc:"Of a maintenance: when the next five begin."`
	Firing int         `json:"firing" doc:"Alerts that fire and are muted by it now."`
}

// States of what mutes.
const (
	StatePending  = "pending"
	StateActive   = "active"
	StateExpired  = "expired"
	StateDisabled = "disabled"
)

// Maintenance mutes what matches again and again.
type Maintenance struct {
	APIVersion string          `json:"apiVersion" enum:"crowsnest.dev/v1"`
	Kind       string          `json:"kind" enum:"Maintenance"`
	Metadata   policy.Metadata `json:"metadata"`
	Spec       MaintenanceSpec `json:"spec"`
	Status     *MuteStatus     `json:"status,omitempty" write:"ignored" doc:"Set by the server; ignored on write."`
}

// MaintenanceSpec of a maintenance.
type MaintenanceSpec struct {
	Matchers []string        `json:"matchers" doc:"On the alert's labels; all must match."`
	RRule    string          `json:"rrule" doc:"Of RFC 5545, as FREQ=WEEKLY;BYDAY=SU;BYHOUR=2;BYMINUTE=0. Hourly at most."`
	Timezone string          `json:"timezone,omitempty" doc:"IANA name, as Europe/Berlin. Left out: UTC."`
	Starts   *time.Time      `json:"starts,omitempty" doc:"The rule's DTSTART. Left out: when it is written."`
	Duration policy.Duration `json:"duration" doc:"Of each, from 1m to 31d."`
	Comment  string          `json:"comment,omitempty"`
}

// Inhibition mutes targets while a source fires.
type Inhibition struct {
	APIVersion string          `json:"apiVersion" enum:"crowsnest.dev/v1"`
	Kind       string          `json:"kind" enum:"Inhibition"`
	Metadata   policy.Metadata `json:"metadata"`
	Spec       InhibitionSpec  `json:"spec"`
	Status     *MuteStatus     `json:"status,omitempty" write:"ignored" doc:"Set by the server; ignored on write."`
}

// InhibitionSpec of an inhibition.
type InhibitionSpec struct {
	Source  []string `json:"source" doc:"Matchers of the alert that mutes."`
	Target  []string `json:"target" doc:"Matchers of the alerts that are muted."`
	Equal   []string `json:"equal,omitempty" doc:"Labels that both must have alike."`
	Enabled *bool    `json:"enabled,omitempty" doc:"Left out: true."`
	Comment string   `json:"comment,omitempty"`
}

func (s InhibitionSpec) enabled() bool { return s.Enabled == nil || *s.Enabled }

// check validates one kind of object. What is wrong is told all at once.
type check struct{ fields fault.Fields }

func (c *check) add(path string, reason fault.Reason, value any) {
	if !slices.ContainsFunc(c.fields, func(f fault.Field) bool { return f.Path == path }) {
		c.fields.Say(path, reason, value)
	}
}

func (c *check) envelope(apiVersion, kind, want string, m *policy.Metadata) {
	if apiVersion != policy.APIVersion {
		c.add("apiVersion", fault.Say(fault.MustBe, policy.APIVersion), apiVersion)
	}
	if kind != want {
		c.add("kind", fault.Say(fault.MustBe, want), kind)
	}
	policy.ValidateMetadata(&c.fields, m)
	if m.Project == "" {
		m.Project = policy.DefaultProject
	}
}

func (c *check) matchers(path string, list []string, required bool) {
	if required && len(list) == 0 {
		c.add(path, fault.Say(fault.MatcherNeeded), nil)
	}
	if len(list) > maxMatchers {
		c.add(path, fault.Say(fault.CountAtMost, maxMatchers), len(list))
		return
	}
	nothing := required
	for i, text := range list {
		at := fmt.Sprintf("%s[%d]", path, i)
		if len(text) > maxText {
			c.add(at, fault.Say(fault.CharactersAtMost, maxText), len(text))
			continue
		}
		m, err := amlabels.ParseMatcher(text)
		if err != nil {
			c.add(at, fault.Say(fault.Matcher, err.Error()), text)
			nothing = false // what it would match is not known
			continue
		}
		nothing = nothing && m.Matches("")
	}
	if nothing && len(list) > 0 {
		c.add(path, fault.Say(fault.MatchersAll), list)
	}
}

func (c *check) text(path, s string) {
	if len(s) > maxText {
		c.add(path, fault.Say(fault.CharactersAtMost, maxText), len(s))
	}
}

func (c *check) err(kind, name string) error {
	if err := c.fields.Err(); err != nil {
		return fmt.Errorf("%s %q: %w", kind, name, err)
	}
	return nil
}

// Known is what a validation may ask about the server.
type Known struct {
	Targets []string // names of those that exist; nil: not asked
	Now     time.Time
	Began   *time.Time // of the one that is replaced, for a document that does not say when it begins
}

// began is when something begins whose document does not say so.
func (k Known) began(now time.Time) *time.Time {
	if k.Began != nil {
		return k.Began
	}
	return &now
}

// ParseRoute reads and validates a route.
func ParseRoute(document []byte, known Known) (*Route, error) {
	var o Route
	fields, err := policy.Decode(document, &o)
	if err != nil {
		return nil, fmt.Errorf("read route: %w", err)
	}
	c := check{fields}
	c.envelope(o.APIVersion, o.Kind, meta.KindRoute, &o.Metadata)
	s := &o.Spec
	c.matchers("spec.matchers", s.Matchers, false)
	if s.Default && (s.Matchers != nil || s.Severities != nil || s.Clusters != nil || s.Namespaces != nil || s.Policies != nil) {
		c.add("spec.default", fault.Say(fault.RouteDefault), true)
	}
	for i, sev := range s.Severities {
		if catalogue.Severity(sev).Rank() == 0 {
			c.add(fmt.Sprintf("spec.severities[%d]", i), fault.Say(fault.OneOf, "info, warning, critical"), sev)
		}
	}
	switch {
	case len(s.Targets) == 0 && !s.Nobody:
		c.add("spec.targets", fault.Say(fault.RouteTargets), nil)
	case len(s.Targets) > 0 && s.Nobody:
		c.add("spec.nobody", fault.Say(fault.RouteNobody), true)
	}
	if len(s.Targets) > maxTargets {
		c.add("spec.targets", fault.Say(fault.CountAtMost, maxTargets), len(s.Targets))
	}
	for i, t := range s.Targets {
		at := fmt.Sprintf("spec.targets[%d]", i)
		if t.Name == "" || (known.Targets != nil && !slices.Contains(known.Targets, t.Name)) {
			c.add(at, fault.Say(fault.TargetUnknown), t.Name)
		}
		for j, sev := range t.Severities {
			if catalogue.Severity(sev).Rank() == 0 {
				c.add(fmt.Sprintf("%s.severities[%d]", at, j), fault.Say(fault.OneOf, "info, warning, critical"), sev)
			}
		}
	}
	return &o, c.err("route", o.Metadata.Name)
}

// ParseSilence reads and validates a silence. from is filled in.
func ParseSilence(document []byte, known Known) (*Silence, error) {
	var o Silence
	fields, err := policy.Decode(document, &o)
	if err != nil {
		return nil, fmt.Errorf("read silence: %w", err)
	}
	c := check{fields}
	c.envelope(o.APIVersion, o.Kind, meta.KindSilence, &o.Metadata)
	s := &o.Spec
	c.matchers("spec.matchers", s.Matchers, true)
	c.text("spec.comment", s.Comment)
	if s.From == nil {
		s.From = known.began(known.Now.UTC())
	}
	switch {
	case s.Until == nil:
		c.add("spec.until", fault.Say(fault.UntilNeeded), nil)
	case !s.Until.After(*s.From):
		c.add("spec.until", fault.Say(fault.UntilBefore), s.Until)
	case s.Until.Sub(*s.From) > maxSilence:
		c.add("spec.until", fault.Say(fault.UntilFar, 366), s.Until)
	}
	return &o, c.err("silence", o.Metadata.Name)
}

// ParseMaintenance reads and validates a maintenance. starts is filled in.
func ParseMaintenance(document []byte, known Known) (*Maintenance, error) {
	var o Maintenance
	fields, err := policy.Decode(document, &o)
	if err != nil {
		return nil, fmt.Errorf("read maintenance: %w", err)
	}
	c := check{fields}
	c.envelope(o.APIVersion, o.Kind, meta.KindMaintenance, &o.Metadata)
	s := &o.Spec
	c.matchers("spec.matchers", s.Matchers, true)
	c.text("spec.comment", s.Comment)
	if s.Starts == nil {
		s.Starts = known.began(known.Now.UTC().Truncate(time.Minute))
	}
	if s.Duration.D() < time.Minute || s.Duration.D() > maxDuration {
		c.add("spec.duration", fault.Say(fault.Between, "1m", "31d"), s.Duration.String())
	}
	if s.Starts.Before(known.Now.AddDate(-maxStartYears, 0, 0)) {
		c.add("spec.starts", fault.Say(fault.StartsOld, maxStartYears), s.Starts)
	}
	c.recurrence(s)
	return &o, c.err("maintenance", o.Metadata.Name)
}

// ParseInhibition reads and validates an inhibition.
func ParseInhibition(document []byte, _ Known) (*Inhibition, error) {
	var o Inhibition
	fields, err := policy.Decode(document, &o)
	if err != nil {
		return nil, fmt.Errorf("read inhibition: %w", err)
	}
	c := check{fields}
	c.envelope(o.APIVersion, o.Kind, meta.KindInhibition, &o.Metadata)
	s := &o.Spec
	c.matchers("spec.source", s.Source, s.enabled())
	c.matchers("spec.target", s.Target, s.enabled())
	c.text("spec.comment", s.Comment)
	if len(s.Equal) > maxMatchers {
		c.add("spec.equal", fault.Say(fault.CountAtMost, maxMatchers), len(s.Equal))
	}
	return &o, c.err("inhibition", o.Metadata.Name)
}

// specOf reads a stored spec.
func specOf[S any](r meta.Resource) (s S, err error) {
	if err = json.Unmarshal(r.Spec, &s); err != nil {
		err = fmt.Errorf("read %s %q: %w", r.Kind, r.Name, err)
	}
	return s, err
}

// RouteOf, SilenceOf, MaintenanceOf and InhibitionOf give stored objects.
func RouteOf(r meta.Resource) (*Route, error) {
	s, err := specOf[RouteSpec](r)
	return &Route{APIVersion: policy.APIVersion, Kind: r.Kind, Metadata: policy.MetadataOf(r), Spec: s}, err
}

// SilenceOf gives a stored silence.
func SilenceOf(r meta.Resource) (*Silence, error) {
	s, err := specOf[SilenceSpec](r)
	return &Silence{APIVersion: policy.APIVersion, Kind: r.Kind, Metadata: policy.MetadataOf(r), Spec: s}, err
}

// MaintenanceOf gives a stored maintenance.
func MaintenanceOf(r meta.Resource) (*Maintenance, error) {
	s, err := specOf[MaintenanceSpec](r)
	return &Maintenance{APIVersion: policy.APIVersion, Kind: r.Kind, Metadata: policy.MetadataOf(r), Spec: s}, err
}

// InhibitionOf gives a stored inhibition.
func InhibitionOf(r meta.Resource) (*Inhibition, error) {
	s, err := specOf[InhibitionSpec](r)
	return &Inhibition{APIVersion: policy.APIVersion, Kind: r.Kind, Metadata: policy.MetadataOf(r), Spec: s}, err
}
