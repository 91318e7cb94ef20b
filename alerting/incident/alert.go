// Package incident owns what people are told: alerts grouped into incidents,
// the thread that each target gets of one, and the message's exact shape. It
// must not know how an object was judged, nor how a message is sent; it writes
// rows in the transaction that it is given.
package incident

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/evaluate"
	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/alerting/routing"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// Object names what an alert is about; what it does not have is empty.
type Object struct {
	Level        catalogue.Level `json:"level"`
	Cluster      string          `json:"cluster"`
	Namespace    string          `json:"namespace,omitempty"`
	WorkloadType string          `json:"workload_type,omitempty"`
	Workload     string          `json:"workload,omitempty"`
	Pod          string          `json:"pod,omitempty"`
	Container    string          `json:"container,omitempty"`
	Node         string          `json:"node,omitempty"`
	Service      string          `json:"service,omitempty"`
	Volume       string          `json:"volume,omitempty" doc:"Name of the claim."`
	Component    string          `json:"component,omitempty"`
}

// Condition is one condition of the policy with its newest value.
type Condition struct {
	Metric    string   `json:"metric"`
	Statistic string   `json:"statistic"`
	Period    string   `json:"period"`
	Op        string   `json:"op"`
	Threshold float64  `json:"threshold" doc:"At the alert's severity."`
	Need      int      `json:"need"`
	Of        int      `json:"of"`
	Value     *float64 `json:"value" doc:"Of the newest period that has one; null when none has."`
	Unit      string   `json:"unit"`
	Holds     bool     `json:"holds"`
	Expr      string   `json:"expr,omitempty" doc:"In place of metric and statistic."`
	Query     string   `json:"query,omitempty" doc:"In place of metric and statistic: whose matching lines or events are counted."`

	Change   *policy.Change   `json:"change,omitempty" doc:"Value and threshold are of the difference to the same time earlier, not of the metric itself."`
	Forecast *policy.Forecast `json:"forecast,omitempty" doc:"Value and threshold are of the linear forecast, not of the metric itself."`
}

// Point is one value of a series: its time and value.
type Point struct {
	T time.Time
	V float64
}

// MarshalJSON writes ["2026-11-23T09:04:30Z", 98.9].
func (p Point) MarshalJSON() ([]byte, error) {
	return json.Marshal([2]any{p.T.UTC().Format(time.RFC3339), p.V})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (p *Point) UnmarshalJSON(b []byte) error {
	var raw [2]json.RawMessage
	if err := json.Unmarshal(b, &raw); err != nil {
		return err
	}
	if err := json.Unmarshal(raw[0], &p.T); err != nil {
		return err
	}
	return json.Unmarshal(raw[1], &p.V)
}

// PolicyRef is the policy of an alert, as it was when the alert last changed.
type PolicyRef struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Project  string `json:"project"`
	Revision int64  `json:"revision"`
}

// Grouping is what the policy says of its incidents.
type Grouping struct {
	By       []string      `json:"by,omitempty"`
	Wait     time.Duration `json:"wait,omitempty"`
	Interval time.Duration `json:"interval,omitempty"`
}

// Alert is one policy on one object and its dimensions, while it fires and
// after.
type Alert struct {
	ID         string
	IncidentID string // empty until Apply gave it one
	Key        string
	Firing     bool
	Severity   catalogue.Severity
	StartedAt  time.Time
	EndedAt    time.Time      // zero while it fires
	Cause      evaluate.Cause // of the end
	// Found is what was collected before the alert is stored for the first time;
	// Apply keeps it apart. Nil: nothing, or not yet.
	Found *Around
	Data
}

// Data is what of an alert is stored as JSON.
type Data struct {
	Policy     PolicyRef          `json:"policy"`
	Object     Object             `json:"object"`
	Dimensions map[string]string  `json:"dimensions,omitempty"`
	Labels     map[string]string  `json:"labels,omitempty"` // of the policy
	Targets    []policy.TargetRef `json:"targets,omitempty"`
	Group      Grouping           `json:"group"`
	Repeat     *policy.Repeat     `json:"repeat,omitempty"`
	Escalate   []policy.Escalate  `json:"escalate,omitempty"`
	Stale      bool               `json:"stale,omitempty"` // the source of its values is silent
	Title      string             `json:"title"`           // what is wrong, without the object
	// Collecting: what is around it had not been found when it was stored.
	Collecting bool      `json:"collecting,omitempty"`
	External   *External `json:"external,omitempty"` // somebody else judged it

	// What follows from the newest judgement.
	Conditions  []Condition       `json:"conditions"`
	Explanation string            `json:"explanation"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Series      []Point           `json:"series,omitempty"` // of the first condition, the newest first

	// What the engine needs to go on after a restart.
	State   evaluate.State `json:"state"`
	UID     string         `json:"uid,omitempty"` // of the object
	Sender  string         `json:"sender,omitempty"`
	Desired int            `json:"desired,omitempty"` // replicas of the workload
	Rollout string         `json:"rollout,omitempty"` // of the workload: its template's revision
	// HoldUntil keeps the incident open: until what replaced the object was judged.
	HoldUntil time.Time `json:"hold_until,omitzero"`
	// FoundAt is when an alert that had begun and ended before its data came was
	// found; zero: it was found live.
	FoundAt time.Time `json:"found_at,omitzero"`
}

// factsOfObject are as many as an alert of a pod has beside labels.
const factsOfObject = 11

// Facts are what routes and mutes are asked by.
func (a *Alert) Facts() routing.Facts {
	o := a.Object
	l := make(map[string]string, len(a.Labels)+len(a.Dimensions)+factsOfObject)
	maps.Copy(l, a.Labels)
	maps.Copy(l, a.Dimensions)
	for _, fact := range [...]struct{ k, v string }{
		{"alertname", a.Policy.Name}, {"policy", a.Policy.Name}, {"severity", string(a.Severity)}, {"cluster", o.Cluster}, {"level", string(o.Level)},
		{"namespace", o.Namespace}, {"workload_type", o.WorkloadType}, {"workload", o.Workload}, {"pod", o.Pod}, {"container", o.Container},
		{"node", o.Node}, {"service", o.Service}, {"volume", o.Volume}, {"component", o.Component},
	} {
		if fact.v != "" {
			l[fact.k] = fact.v
		}
	}
	if len(a.Conditions) > 0 && a.Conditions[0].Metric != "" {
		l["metric"] = a.Conditions[0].Metric
	}
	return routing.Facts{ID: a.ID, Labels: l, Dimensions: a.Dimensions}
}

// Row is the alert as it is stored.
func (a *Alert) Row() (meta.Alert, error) {
	data, err := json.Marshal(a.Data)
	if err != nil {
		return meta.Alert{}, fmt.Errorf("save alert %s: %w", a.ID, err)
	}
	state := meta.AlertEnded
	if a.Firing {
		state = meta.AlertFiring
	}
	return meta.Alert{
		ID: a.ID, PolicyID: a.Policy.ID, IncidentID: a.IncidentID, Cluster: a.Object.Cluster, Key: a.Key, State: state,
		Severity: string(a.Severity), StartedAt: a.StartedAt, EndedAt: a.EndedAt, Cause: string(a.Cause), Data: data,
	}, nil
}

// FromRow is the inverse of Row.
func FromRow(r meta.Alert) (*Alert, error) {
	a := &Alert{
		ID: r.ID, IncidentID: r.IncidentID, Key: r.Key, Firing: r.State == meta.AlertFiring, Severity: catalogue.Severity(r.Severity),
		StartedAt: r.StartedAt, EndedAt: r.EndedAt, Cause: evaluate.Cause(r.Cause),
	}
	if err := json.Unmarshal(r.Data, &a.Data); err != nil {
		return nil, fmt.Errorf("read alert %s: %w", r.ID, err)
	}
	return a, nil
}

// defaultGroup is the cluster and the nearest of workload, node, volume,
// service and namespace.
func (o Object) defaultGroup() []string {
	switch {
	case o.Workload != "":
		return []string{"cluster", "workload"}
	case o.Node != "":
		return []string{"cluster", "node"}
	case o.Volume != "":
		return []string{"cluster", "volume"}
	case o.Service != "":
		return []string{"cluster", "service"}
	case o.Namespace != "":
		return []string{"cluster", "namespace"}
	case o.Component != "":
		return []string{"cluster", "component"}
	}
	return []string{"cluster"}
}

// GroupKey is the same for alerts of one incident.
func (a *Alert) GroupKey() string {
	by := a.Group.By
	if len(by) == 0 {
		by = a.Object.defaultGroup()
	}
	by = slices.Clone(by)
	slices.Sort(by)
	parts := make([]string, 0, len(by))
	for _, word := range slices.Compact(by) {
		var v string
		switch word {
		case "cluster":
			v = a.Object.Cluster
		case "namespace":
			v = a.Object.Namespace
		case "node":
			v = a.Object.Node
		case "workload": // its name alone would join strangers
			v = a.Object.Namespace + "/" + a.Object.WorkloadType + "/" + a.Object.Workload
		case "pod":
			v = a.Object.Namespace + "/" + a.Object.Pod
		case "container":
			v = a.Object.Namespace + "/" + a.Object.Pod + "/" + a.Object.Container
		case "service":
			v = a.Object.Namespace + "/" + a.Object.Service
		case "volume":
			v = a.Object.Namespace + "/" + a.Object.Volume
		case "component":
			v = a.Object.Component
		case "policy":
			v = a.Policy.Project + "/" + a.Policy.Name
		}
		parts = append(parts, word+"="+v)
	}
	return strings.Join(parts, ",")
}

// subject names for people what an incident of the group is about.
func (a *Alert) subject() string {
	o, by := a.Object, a.Group.By
	if len(by) == 0 {
		by = o.defaultGroup()
	}
	in := ""
	if o.Namespace != "" {
		in = " in " + o.Namespace
	}
	switch {
	case slices.Contains(by, "container") && o.Container != "":
		return o.Pod + "/" + o.Container + in
	case slices.Contains(by, "pod") && o.Pod != "":
		return o.Pod + in
	case slices.Contains(by, "workload") && o.Workload != "":
		return o.Workload + in
	case slices.Contains(by, "node") && o.Node != "":
		return "node " + o.Node
	case slices.Contains(by, "volume") && o.Volume != "":
		return "volume " + o.Volume + in
	case slices.Contains(by, "service") && o.Service != "":
		return "service " + o.Service + in
	case slices.Contains(by, "component") && o.Component != "":
		return o.Component + " of cluster " + o.Cluster
	case slices.Contains(by, "namespace") && o.Namespace != "":
		return "namespace " + o.Namespace
	case slices.Contains(by, "policy") && !slices.Contains(by, "cluster"):
		return a.Policy.Name
	}
	return "cluster " + o.Cluster
}

// title of an incident whose worst alert this is.
func (a *Alert) title() string { return a.subject() + ": " + a.Title }
