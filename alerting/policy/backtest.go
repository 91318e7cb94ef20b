package policy

import "time"

// Replay is what a policy would have done over kept data.
type Replay struct {
	Name          string            `json:"name"`
	Draft         bool              `json:"draft"`
	Reason        string            `json:"reason,omitempty" doc:"Why it could not be replayed, where several were asked for at once."`
	Clusters      []ReplayCluster   `json:"clusters" nullable:"false"`
	Objects       int               `json:"objects" doc:"Objects, and values of their dimensions, that had values."`
	Steps         int64             `json:"steps" doc:"Evaluations that live evaluation would have made of them."`
	Judged        int64             `json:"judged" doc:"Of these those that could matter; the others had nothing bad and nothing firing."`
	Masked        int               `json:"masked" doc:"Arrivals that live evaluation left out, and that are left out here."`
	Incidents     []ReplayIncident  `json:"incidents" nullable:"false" doc:"The newest first, at most 500."`
	IncidentCount int               `json:"incidentCount"`
	AlertCount    int               `json:"alertCount"`
	BySeverity    map[string]int    `json:"bySeverity" nullable:"false" doc:"Alerts by the severity that they ended with."`
	FiringSeconds float64           `json:"firingSeconds" doc:"Of all alerts together."`
	Messages      []ReplayMessages  `json:"messages" nullable:"false" doc:"Through grouping, silences, maintenance windows, calendars, repeat and escalation, with routes and mutes as they were, targets and their calendars as they are, and inhibitions by what fired then."`
	MessageCount  int               `json:"messageCount"`
	Told          []ReplayTold      `json:"told" nullable:"false" doc:"The messages one by one, the newest first, at most 1000."`
	Thresholds    []ReplayThreshold `json:"thresholds" nullable:"false"`
	// Spans are all alerts, for comparisons.
	Spans []ReplaySpan `json:"-"`
}

// ReplaySpan is when one alert would have fired.
type ReplaySpan struct {
	Subject  string // cluster, object and dimensions
	Object   map[string]string
	Severity string
	From, To time.Time // To zero: it fired at the end
}

// ReplayCluster says how far a cluster could be replayed.
type ReplayCluster struct {
	Cluster  string   `json:"cluster"`
	Interval Duration `json:"interval"`
	Reason   string   `json:"reason,omitempty" doc:"Why it was not."`
}

// ReplayIncident is an incident that there would have been.
type ReplayIncident struct {
	ID        string        `json:"id" doc:"Within this replay."`
	Title     string        `json:"title"`
	Cluster   string        `json:"cluster"`
	Severity  string        `json:"severity"`
	StartedAt time.Time     `json:"startedAt"`
	EndedAt   *time.Time    `json:"endedAt" doc:"Null: it was open at the end."`
	Cause     string        `json:"cause,omitempty"`
	Reopened  int           `json:"reopened"`
	Messages  int           `json:"messages" doc:"That would have been sent about it."`
	MutedBy   []string      `json:"mutedBy,omitempty" doc:"What would have muted all of it at some time, as Silence deploy."`
	Alerts    []ReplayAlert `json:"alerts" nullable:"false" doc:"At most 100."`
}

// ReplayAlert is an alert that there would have been.
type ReplayAlert struct {
	Object      map[string]string `json:"object"`
	Dimensions  map[string]string `json:"dimensions,omitempty"`
	Severity    string            `json:"severity"`
	StartedAt   time.Time         `json:"startedAt"`
	EndedAt     *time.Time        `json:"endedAt"`
	Cause       string            `json:"cause,omitempty"`
	Peak        *float64          `json:"peak" doc:"Worst value of the first condition."`
	Unit        string            `json:"unit"`
	Explanation string            `json:"explanation"`
}

// ReplayMessages counts what a target would have got.
type ReplayMessages struct {
	Target string `json:"target"`
	Type   string `json:"type"`
	Count  int    `json:"count"`
}

// ReplayTold is a message that would have been sent.
type ReplayTold struct {
	At       time.Time `json:"at"`
	Target   string    `json:"target"`
	Type     string    `json:"type" doc:"As incident.firing."`
	Incident string    `json:"incident,omitempty" doc:"Id within this replay; empty for a summary."`
	Title    string    `json:"title"`
	Severity string    `json:"severity"`
	Alerts   int       `json:"alerts" doc:"That it would have shown."`
	For      string    `json:"for,omitempty" doc:"The target whose calendar was closed, in place of which this one would have been told."`
}

// ReplayComparison says what two policies would have done differently.
type ReplayComparison struct {
	Both        int             `json:"both" doc:"Alerts of the first during which the second had one on the same object."`
	OnlyFirst   int             `json:"onlyFirst" doc:"Alerts that only the first would have had."`
	OnlySecond  int             `json:"onlySecond"`
	Firsts      []ReplayOnly    `json:"firsts" nullable:"false" doc:"Those that only the first would have had, the newest first, at most 200."`
	Seconds     []ReplayOnly    `json:"seconds" nullable:"false"`
	SoonerBy    float64         `json:"soonerBy" doc:"Mean seconds by which the second would have begun sooner, of those that both have; negative: later."`
	Messages    []ReplayAgainst `json:"messages" nullable:"false" doc:"By target."`
	FiringFirst float64         `json:"firingFirst" doc:"Seconds that alerts of the first would have fired, together."`
	FiringOther float64         `json:"firingSecond"`
	Words       string          `json:"words"`
}

// ReplayOnly is an alert that one of two policies would have had.
type ReplayOnly struct {
	Object    map[string]string `json:"object"`
	Severity  string            `json:"severity"`
	StartedAt time.Time         `json:"startedAt"`
	EndedAt   *time.Time        `json:"endedAt"`
}

// ReplayAgainst counts what a target would have got of two policies.
type ReplayAgainst struct {
	Target string `json:"target"`
	First  int    `json:"first"`
	Second int    `json:"second"`
}

// ReplayThreshold is how the values of a condition lie, and what thresholds
// would follow from it.
type ReplayThreshold struct {
	Cluster   string     `json:"cluster"`
	Condition int        `json:"condition"`
	Metric    string     `json:"metric"`
	Statistic string     `json:"statistic"`
	Period    Duration   `json:"period"`
	Unit      string     `json:"unit"`
	Op        string     `json:"op"`
	Values    int        `json:"values" doc:"Periods that were looked at, spread evenly over time and objects."`
	Min       float64    `json:"min"`
	P50       float64    `json:"p50"`
	P90       float64    `json:"p90"`
	P99       float64    `json:"p99"`
	P999      float64    `json:"p999"`
	Max       float64    `json:"max"`
	Suggested Thresholds `json:"suggested"`
	Words     string     `json:"words"`
}

// States of a backtest.
const (
	BacktestQueued    = "queued"
	BacktestRunning   = "running"
	BacktestDone      = "done"
	BacktestCancelled = "cancelled"
	BacktestFailed    = "failed"
)

// Backtest is a job that replays a policy, or two that are compared.
type Backtest struct {
	ID        string     `json:"id"`
	State     string     `json:"state" enum:"queued,running,done,cancelled,failed"`
	Progress  float64    `json:"progress" doc:"From 0 to 1."`
	Error     string     `json:"error,omitempty"`
	From      time.Time  `json:"from"`
	To        time.Time  `json:"to"`
	CreatedAt time.Time  `json:"createdAt"`
	StartedAt *time.Time `json:"startedAt,omitempty"`
	EndedAt   *time.Time `json:"endedAt,omitempty"`
	Results   []Replay   `json:"results" nullable:"false" doc:"Once it is done: of the policy or draft, then of against."`
	// Comparison is made of two results.
	Comparison *ReplayComparison `json:"comparison,omitempty" doc:"Once it is done, when against was given."`
}

// BacktestRequest asks for a backtest.
type BacktestRequest struct {
	Policy   string    `json:"policy,omitempty" doc:"Name of a saved policy; it or draft is required."`
	Draft    *Policy   `json:"draft,omitempty" doc:"A policy as it would be written."`
	Against  *Policy   `json:"against,omitempty" doc:"Another draft, to be compared."`
	Clusters []string  `json:"clusters,omitempty" doc:"Left out: all that the policy selects."`
	From     time.Time `json:"from"`
	To       time.Time `json:"to,omitempty" doc:"Left out: now."`
}
