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
	Messages      []ReplayMessages  `json:"messages" nullable:"false" doc:"Through grouping, silences, maintenance windows, repeat and escalation, as these are now."`
	MessageCount  int               `json:"messageCount"`
	Thresholds    []ReplayThreshold `json:"thresholds" nullable:"false"`
}

// ReplayCluster says how far a cluster could be replayed.
type ReplayCluster struct {
	Cluster  string   `json:"cluster"`
	Interval Duration `json:"interval"`
	Reason   string   `json:"reason,omitempty" doc:"Why it was not."`
}

// ReplayIncident is an incident that there would have been.
type ReplayIncident struct {
	Title     string        `json:"title"`
	Cluster   string        `json:"cluster"`
	Severity  string        `json:"severity"`
	StartedAt time.Time     `json:"startedAt"`
	EndedAt   *time.Time    `json:"endedAt" doc:"Null: it was open at the end."`
	Cause     string        `json:"cause,omitempty"`
	Reopened  int           `json:"reopened"`
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
