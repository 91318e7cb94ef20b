package policy

import "time"

// Question asks why a policy did or did not fire.
type Question struct {
	Cluster    string
	Object     string // as shop/cart-1, shop/deployment/cart, n-1; empty for a cluster
	Dimensions map[string]string
	At         time.Time
}

// Why says how a policy judged, or would have judged, one object at one time.
type Why struct {
	Policy      string            `json:"policy"`
	Revision    int64             `json:"revision" doc:"Of the policy at that time."`
	Cluster     string            `json:"cluster"`
	Object      map[string]string `json:"object" doc:"level, cluster, and what names it, as the inventory had it then."`
	Dimensions  map[string]string `json:"dimensions,omitempty"`
	At          time.Time         `json:"at" doc:"Point of the interval's grid that was judged."`
	Interval    Duration          `json:"interval"`
	Judged      bool              `json:"judged"`
	Reason      string            `json:"reason,omitempty" doc:"Why it was not judged."`
	Words       string            `json:"words" doc:"All of it in words."`
	Conditions  []WhyCondition    `json:"conditions" nullable:"false"`
	Before      WhyState          `json:"before"`
	After       WhyState          `json:"after"`
	Cause       string            `json:"cause,omitempty" doc:"Of an end."`
	Outcome     string            `json:"outcome" enum:"begins,goes on,severity,ends,ok,not judged"`
	Recorded    []WhyAlert        `json:"recorded" nullable:"false" doc:"Alerts of this object around that time, as live evaluation recorded them."`
	ReplayFrom  time.Time         `json:"replayFrom" doc:"From where it was stepped through to know the state before."`
	Explanation string            `json:"explanation,omitempty" doc:"What the alert says."`
}

// WhyCondition is one condition with its input and its comparison.
type WhyCondition struct {
	Metric     string      `json:"metric,omitempty"`
	Expr       string      `json:"expr,omitempty"`
	Query      string      `json:"query,omitempty"`
	Statistic  string      `json:"statistic,omitempty"`
	Period     Duration    `json:"period"`
	Op         string      `json:"op"`
	Unit       string      `json:"unit"`
	Thresholds Thresholds  `json:"thresholds"`
	Recovery   *Thresholds `json:"recovery,omitempty"`
	Need       int         `json:"need"`
	Of         int         `json:"of"`
	Windows    []WhyWindow `json:"windows" nullable:"false" doc:"The newest first; all that can matter."`
	Holds      []string    `json:"holds" nullable:"false" doc:"Severities at which it holds."`
	Lacking    bool        `json:"lacking,omitempty" doc:"The object does not have this metric then."`
	Words      string      `json:"words"`
}

// WhyWindow is the value of one period.
type WhyWindow struct {
	End   time.Time `json:"end"`
	Value *float64  `json:"value" doc:"Null when the period has none: it is skipped."`
	Bad   string    `json:"bad,omitempty" doc:"The most severe severity at which the value is bad."`
}

// WhyState is the state of an alert.
type WhyState struct {
	Severity string     `json:"severity,omitempty" doc:"Left out: it does not fire."`
	Latches  []WhyLatch `json:"latches" nullable:"false"`
	Flapping bool       `json:"flapping,omitempty"`
}

// WhyLatch is closed while its severity is bad.
type WhyLatch struct {
	Severity string     `json:"severity"`
	Closed   bool       `json:"closed"`
	Since    *time.Time `json:"since,omitempty"`
}

// WhyAlert is an alert that live evaluation recorded.
type WhyAlert struct {
	ID        string     `json:"id"`
	Incident  string     `json:"incident"`
	Severity  string     `json:"severity"`
	StartedAt time.Time  `json:"startedAt"`
	EndedAt   *time.Time `json:"endedAt,omitempty"`
	Cause     string     `json:"cause,omitempty"`
}
