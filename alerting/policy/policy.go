// Package policy owns what a user may ask to be alerted of: the shape of a
// policy, how it is read (JSON or YAML, strictly), its defaults, its validation
// against the catalogue, and which objects it selects. It must not know how a
// policy is evaluated or who is told.
package policy

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/prometheus/common/model"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// Identity of the objects of this package.
const (
	APIVersion     = "crowsnest.dev/v1"
	Kind           = "Policy"
	DefaultProject = "default"
	// LevelPromQL is the level of policies whose conditions are PromQL.
	LevelPromQL = "promql"
	// LevelLog and LevelEvent are those of policies that count log lines and
	// Kubernetes events.
	LevelLog   = "log"
	LevelEvent = "event"
)

// Policy is one policy with its envelope.
type Policy struct {
	APIVersion string   `json:"apiVersion" enum:"crowsnest.dev/v1"`
	Kind       string   `json:"kind" enum:"Policy"`
	Metadata   Metadata `json:"metadata"`
	Spec       Spec     `json:"spec"`
	Status     *Status  `json:"status,omitempty" write:"ignored" doc:"Set by the server; ignored on write."`
}

// Metadata is what every object that a user writes has. From ID on, the server
// sets it; on write those are ignored, except that a Revision that is given must
// be the current one.
type Metadata struct {
	Name      string            `json:"name" doc:"[a-z0-9-], 1 to 63 characters; unique per kind and project." pattern:"^[a-z0-9-]{1,63}$"`
	Project   string            `json:"project,omitempty" doc:"Left out: default."`
	Labels    map[string]string `json:"labels,omitempty"`
	ID        string            `json:"id,omitempty"`
	Revision  int64             `json:"revision,omitempty"`
	CreatedAt *time.Time        `json:"createdAt,omitempty"`
	UpdatedAt *time.Time        `json:"updatedAt,omitempty"`
	UpdatedBy string            `json:"updatedBy,omitempty"`
	ManagedBy string            `json:"managedBy,omitempty" doc:"Who wrote it first: console, file, crd or preset."`
}

// Spec says what is bad about which objects, and who is told.
type Spec struct {
	Enabled      *bool             `json:"enabled,omitempty" doc:"Left out: true."`
	Level        string            `json:"level" doc:"What the policy is about: a level of the catalogue (cluster, node, namespace, workload, service, pod, container, volume, component), or log, event, promql."`
	Clusters     *Clusters         `json:"clusters,omitempty" doc:"Left out: all."`
	Objects      *Objects          `json:"objects,omitempty" doc:"Left out: all of the level; every given part must match."`
	Conditions   []Condition       `json:"conditions"`
	Combine      string            `json:"combine,omitempty" enum:"all,any" doc:"Left out: all."`
	RecoverAfter int               `json:"recoverAfter,omitempty" doc:"Good periods in a row that end an alert. Left out: 2."`
	NoData       *NoData           `json:"noData,omitempty"`
	MinAge       Duration          `json:"minAge,omitempty" doc:"Younger objects are not judged. Left out: 0s."`
	Annotations  map[string]string `json:"annotations,omitempty" doc:"Go templates, as {{ .Object.Pod }} uses {{ .Value }}."`
	Group        *Group            `json:"group,omitempty"`
	Notify       *Notify           `json:"notify,omitempty"`
}

// Clusters selects clusters; every given part must match.
type Clusters struct {
	Names  []string          `json:"names,omitempty" doc:"Globs on the id."`
	Labels map[string]string `json:"labels,omitempty"`
}

// Objects selects objects; every given part must match.
type Objects struct {
	Namespaces []string `json:"namespaces,omitempty" doc:"Globs."`
	Workloads  []string `json:"workloads,omitempty" doc:"Globs of type/name, as deployment/cart or statefulset/*."`
	Names      []string `json:"names,omitempty" doc:"Globs on the name of the object itself."`
	Selector   string   `json:"selector,omitempty" doc:"A Kubernetes label selector; a container has the labels of its pod."`
	Exclude    *Exclude `json:"exclude,omitempty" doc:"What matches any of these is left out."`
	AtLeast    *int     `json:"atLeast,omitempty" doc:"An alert of its own, of noData's severity, when fewer objects than this match in a cluster for as long as noData.after."`
}

// Exclude leaves objects out; one matching part is enough.
type Exclude struct {
	Namespaces []string `json:"namespaces,omitempty"`
	Workloads  []string `json:"workloads,omitempty"`
	Names      []string `json:"names,omitempty"`
	Selector   string   `json:"selector,omitempty"`
}

// Condition is one comparison.
type Condition struct {
	Metric     string              `json:"metric,omitempty"`
	Where      map[string][]string `json:"where,omitempty" doc:"Globs on the metric's dimensions, as mountpoint."`
	Statistic  string              `json:"statistic,omitempty" enum:"avg,max,min,sum,last,p50,p95,p99,increase" doc:"How the samples of a period become one value. Left out: the metric's own."`
	Period     Duration            `json:"period" doc:"A multiple of the cluster's interval, at most 24h."`
	Op         string              `json:"op" enum:">,>=,<,<=,==,!=" doc:"Empty only with expr: an object is bad then while its series exists."`
	Thresholds Thresholds          `json:"thresholds" doc:"By severity, growing worse."`
	Severity   string              `json:"severity,omitempty" enum:"info,warning,critical" doc:"Of an expr without op. Left out there: warning."`
	Recovery   *Thresholds         `json:"recovery,omitempty" doc:"An alert ends on the good side of these. Left out: the thresholds."`
	Need       int                 `json:"need,omitempty" doc:"Bad periods needed. Left out: of, or 1."`
	Of         int                 `json:"of,omitempty" doc:"Among the newest so many. Left out: need."`
	Change     *Change             `json:"change,omitempty" doc:"Compare the difference to the same time earlier, not the value itself."`
	Forecast   *Forecast           `json:"forecast,omitempty" doc:"Compare the linear forecast, not the value itself."`
	Query      string              `json:"query,omitempty" doc:"At levels log and event: a LogsQL filter, without pipes. Its matching lines or events are counted for each period; none is 0. Events have the fields type, reason, kind, name, count."`
	Count      *struct{}           `json:"count,omitempty" doc:"Says that lines are counted, which is so without it too: {}."`
	GroupBy    string              `json:"groupBy,omitempty" enum:"cluster,namespace,workload,pod,container,node" doc:"By which objects lines are counted; the same in all conditions. Left out: workload, of events namespace, which have cluster, namespace and node only."`
	Expr       string              `json:"expr,omitempty" doc:"At level promql: evaluated for each selected cluster on that cluster's series alone. Labels of the result as cluster, namespace, pod name the object, the others are dimensions."`
}

// Change compares with the past.
type Change struct {
	Against Duration `json:"against" doc:"1h, 1d or 1w."`
	As      string   `json:"as,omitempty" enum:"absolute,percent" doc:"Left out: absolute. As percent of the earlier value; there is no value while that is 0."`
}

// How a change is told.
const (
	ChangeAbsolute = "absolute"
	ChangePercent  = "percent"
)

// Forecast compares what the value will be.
type Forecast struct {
	Within Duration `json:"within" doc:"How far ahead, at most 30d."`
	From   Duration `json:"from,omitempty" doc:"How far back the straight line is fitted, from 5m to 7d. Left out: a quarter of within."`
}

// Lines tells whether the policy counts log lines or events.
func (s *Spec) Lines() bool { return s.Level == LevelLog || s.Level == LevelEvent }

// ObjectLevel is the level of the objects that are judged.
func (s *Spec) ObjectLevel() catalogue.Level {
	if s.Lines() && len(s.Conditions) > 0 {
		return catalogue.Level(s.Conditions[0].GroupBy)
	}
	return catalogue.Level(s.Level)
}

// Thresholds are values by severity.
type Thresholds struct {
	Info     *float64 `json:"info,omitempty"`
	Warning  *float64 `json:"warning,omitempty"`
	Critical *float64 `json:"critical,omitempty"`
}

// Of gives the value of a severity, and whether there is one.
func (t Thresholds) Of(s catalogue.Severity) (float64, bool) {
	var v *float64
	switch s {
	case catalogue.Info:
		v = t.Info
	case catalogue.Warning:
		v = t.Warning
	case catalogue.Critical:
		v = t.Critical
	}
	if v == nil {
		return 0, false
	}
	return *v, true
}

// NoData says what missing samples mean.
type NoData struct {
	Action   string   `json:"action,omitempty" enum:"keep,resolve,alert" doc:"Left out: keep."`
	Severity string   `json:"severity,omitempty" enum:"info,warning,critical" doc:"Of the alert. Left out: warning."`
	After    Duration `json:"after,omitempty" doc:"Left out: 5m."`
}

// What missing samples do.
const (
	NoDataKeep    = "keep"
	NoDataResolve = "resolve"
	NoDataAlert   = "alert"
)

// Group says which alerts make one incident.
type Group struct {
	By       []string `json:"by,omitempty" doc:"Of cluster, namespace, node, workload, service, pod, container, volume, component, policy. Left out: cluster and the nearest of workload, node, volume, service and namespace."`
	Wait     Duration `json:"wait,omitempty" doc:"How long the first message waits for more alerts. Left out: 0s."`
	Interval Duration `json:"interval,omitempty" doc:"Least time between messages that alerts joined or left. Left out: 5m."`
}

// Notify says who is told.
type Notify struct {
	Targets  []TargetRef `json:"targets,omitempty" doc:"Left out: the routes decide."`
	Repeat   *Repeat     `json:"repeat,omitempty" doc:"Left out: no reminders."`
	Escalate []Escalate  `json:"escalate,omitempty" doc:"In order of time; stopped by an acknowledgement."`
}

// TargetRef names a target; written as its name or as an object.
type TargetRef struct {
	Name       string   `json:"name"`
	Severities []string `json:"severities,omitempty" doc:"Only alerts of these. Left out: all."`
}

// Repeat reminds while an incident is open.
type Repeat struct {
	Every   Duration `json:"every" doc:"From 1m to 7d."`
	Backoff float64  `json:"backoff,omitempty" doc:"Each wait is so many times the one before, from 1 to 10. Left out: 1."`
	Max     Duration `json:"max,omitempty" doc:"The longest wait. Left out: 24h, or every when that is longer."`
}

// Escalate tells more people when an incident stays open.
type Escalate struct {
	After   Duration    `json:"after" doc:"Counted from the first message, without the time while muted."`
	Targets []TargetRef `json:"targets"`
}

// Status is how a policy stands. The server sets it.
type Status struct {
	State    string          `json:"state" enum:"active,idle,disabled" doc:"idle: it is evaluated nowhere; reasons say why."`
	Selected int             `json:"selected" doc:"Objects that it selects now."`
	Firing   int             `json:"firing" doc:"Alerts that fire now."`
	Reasons  []string        `json:"reasons" doc:"In words: what it does not do, and why."`
	Clusters []ClusterStatus `json:"clusters"`
	Trial    []Trial         `json:"trial,omitempty" doc:"Of a dry run: what it would select and say now."`
}

// Trial is what a policy would select and say on a cluster.
type Trial struct {
	Cluster  string        `json:"cluster"`
	At       time.Time     `json:"at" doc:"For which it was tried."`
	Matching int           `json:"matching" doc:"Objects (and values of their dimensions) that match."`
	Objects  []TrialObject `json:"objects" nullable:"false" doc:"The worst first, at most 200."`
	Reason   string        `json:"reason,omitempty" doc:"Why it could not be tried there."`
}

// TrialObject is one object with its present values.
type TrialObject struct {
	Object      map[string]string `json:"object" doc:"level, cluster, and what names it."`
	Dimensions  map[string]string `json:"dimensions,omitempty"`
	Severity    string            `json:"severity,omitempty" enum:"info,warning,critical" doc:"Of the alert that it would be now; left out when it would be none."`
	Conditions  []TrialValue      `json:"conditions" nullable:"false"`
	Explanation string            `json:"explanation,omitempty"`
}

// TrialValue is the newest value of one condition.
type TrialValue struct {
	Metric string   `json:"metric,omitempty"`
	Expr   string   `json:"expr,omitempty"`
	Query  string   `json:"query,omitempty"`
	Value  *float64 `json:"value" doc:"Null when the newest periods have none."`
	Unit   string   `json:"unit"`
}

// States of a policy.
const (
	StateActive   = "active"
	StateIdle     = "idle"
	StateDisabled = "disabled"
)

// ClusterStatus is how a policy stands on one cluster that it selects.
type ClusterStatus struct {
	Cluster     string     `json:"cluster"`
	Selected    int        `json:"selected"`
	EvaluatedAt *time.Time `json:"evaluatedAt,omitempty" doc:"Newest time for which it was evaluated."`
	Reason      string     `json:"reason,omitempty" doc:"Why it is not evaluated there."`
}

// IsEnabled tells whether the policy is evaluated at all.
func (p *Policy) IsEnabled() bool { return p.Spec.Enabled == nil || *p.Spec.Enabled }

// Duration is written as Prometheus does: 30s, 5m, 1h30m.
type Duration time.Duration

func (d Duration) String() string { return model.Duration(d).String() }

// MarshalText is the inverse of UnmarshalText.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads a duration that is not negative.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := model.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("%q is not a duration: %w", b, err)
	}
	*d = Duration(v)
	return nil
}

// D is the duration as Go has it.
func (d Duration) D() time.Duration { return time.Duration(d) }

func (d *Duration) decodeAny(in any) bool {
	s, ok := in.(string)
	return ok && d.UnmarshalText([]byte(s)) == nil
}

// UnmarshalJSON also takes a bare name.
func (r *TargetRef) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		*r = TargetRef{}
		return json.Unmarshal(b, &r.Name)
	}
	type plain TargetRef
	return json.Unmarshal(b, (*plain)(r))
}

func (r *TargetRef) decodeShort(in any) bool {
	s, ok := in.(string)
	if ok {
		*r = TargetRef{Name: s}
	}
	return ok
}

// MetadataOf gives the metadata of a stored resource.
func MetadataOf(r meta.Resource) Metadata {
	created, updated := r.CreatedAt, r.UpdatedAt
	return Metadata{
		Name: r.Name, Project: r.Project, Labels: r.Labels, ID: r.ID, Revision: r.Revision, CreatedAt: &created, UpdatedAt: &updated,
		UpdatedBy: r.UpdatedBy, ManagedBy: r.ManagedBy,
	}
}

// FromRow gives a stored policy.
func FromRow(r meta.Resource) (*Policy, error) {
	p := &Policy{APIVersion: APIVersion, Kind: Kind, Metadata: MetadataOf(r)}
	if err := json.Unmarshal(r.Spec, &p.Spec); err != nil {
		return nil, fmt.Errorf("read policy %q: %w", r.Name, err)
	}
	p.Complete() // a default that came with a newer version
	return p, nil
}
