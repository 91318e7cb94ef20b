package incident

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/evaluate"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
)

// Version of the message's shape. It changes by addition only.
const Version = "crowsnest/v1"

// Type of a notification.
type Type string

// The types that are sent.
const (
	Firing       Type = "incident.firing"
	Updated      Type = "incident.updated"      // an alert joined or left
	Severity     Type = "incident.severity"     // it rose or fell
	Resolved     Type = "incident.resolved"     // the thread's last alert ended
	Reminder     Type = "incident.reminder"     // it is still open
	Escalated    Type = "incident.escalated"    // nobody acknowledged it in time
	Acknowledged Type = "incident.acknowledged" // somebody takes care of it
	Summary      Type = "summary"               // of what began and ended while muted
	Test         Type = "test"
	Heartbeat    Type = "heartbeat" // the server works; its absence means trouble
)

// DefaultMaxBytes of a message.
const DefaultMaxBytes = 64 << 10

// Message is the body of a notification, format crowsnest/v1.
type Message struct {
	Version   string          `json:"version"`
	ID        string          `json:"id"`
	Type      Type            `json:"type"`
	Timestamp Time            `json:"timestamp"`
	Sequence  int64           `json:"sequence"`
	Incident  MessageIncident `json:"incident"`
	Alerts    []MessageAlert  `json:"alerts"`
	Truncated Truncated       `json:"truncated"`
}

// Time is written in UTC with milliseconds.
type Time time.Time

// MarshalJSON writes RFC 3339.
func (t Time) MarshalJSON() ([]byte, error) {
	return []byte(`"` + time.Time(t).UTC().Format("2006-01-02T15:04:05.000Z") + `"`), nil
}

// MarshalText is MarshalJSON without the quotes.
func (t Time) MarshalText() ([]byte, error) {
	return []byte(time.Time(t).UTC().Format("2006-01-02T15:04:05.000Z")), nil
}

// UnmarshalText reads RFC 3339.
func (t *Time) UnmarshalText(b []byte) error { return (*time.Time)(t).UnmarshalText(b) }

// UnmarshalJSON reads RFC 3339.
func (t *Time) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, (*time.Time)(t)) }

// timeOrNull is nil for what has not happened.
func timeOrNull(t time.Time) *Time {
	if t.IsZero() {
		return nil
	}
	return (*Time)(&t)
}

// MessageIncident is the incident as the thread's target sees it.
type MessageIncident struct {
	ID               string            `json:"id"`
	URL              string            `json:"url"`
	AcknowledgeURL   string            `json:"acknowledge_url,omitempty"` // a page that asks before it acts, once
	SilenceURL       string            `json:"silence_url,omitempty"`
	Title            string            `json:"title"`
	State            string            `json:"state"` // open | acknowledged | resolved
	Severity         string            `json:"severity"`
	PreviousSeverity *string           `json:"previous_severity"`
	Cluster          MessageCluster    `json:"cluster"`
	StartedAt        Time              `json:"started_at"`
	EndedAt          *Time             `json:"ended_at"`
	Cause            *string           `json:"cause"`
	AcknowledgedBy   *string           `json:"acknowledged_by"`
	Reopened         int               `json:"reopened"`
	Labels           map[string]string `json:"labels"`
}

// MessageCluster names a cluster.
type MessageCluster struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// MessageAlert is one alert.
type MessageAlert struct {
	ID          string            `json:"id"`
	State       string            `json:"state"` // firing | ended
	Severity    string            `json:"severity"`
	StartedAt   Time              `json:"started_at"`
	EndedAt     *Time             `json:"ended_at"`
	Cause       *string           `json:"cause"`
	Stale       bool              `json:"stale"`
	Flapping    bool              `json:"flapping,omitempty"`
	Policy      MessagePolicy     `json:"policy"`
	Object      Object            `json:"object"`
	Dimensions  map[string]string `json:"dimensions"`
	Conditions  []Condition       `json:"conditions"`
	Explanation string            `json:"explanation"`
	Annotations map[string]string `json:"annotations"`
	Evidence    Evidence          `json:"evidence"`
}

// MessagePolicy names a policy.
type MessagePolicy struct {
	Name     string `json:"name"`
	Project  string `json:"project"`
	Revision int64  `json:"revision"`
	URL      string `json:"url"`
}

// Evidence is what the alert was found by, and what was around it.
type Evidence struct {
	Series  []Point    `json:"series"`
	Logs    []Line     `json:"logs"`
	Events  []Event    `json:"events"`
	Rollout *Rollout   `json:"rollout"`
	Node    *NodeState `json:"node,omitempty"`
}

// Truncated counts what was cut to stay under maxBytes.
type Truncated struct {
	Alerts int `json:"alerts"`
	Logs   int `json:"logs"`
	Events int `json:"events"`
}

// Links makes the console's addresses.
type Links struct{ Base string } // without a slash at the end; empty: paths only

// Incident is the address of an incident's page.
func (l Links) Incident(id string) string { return l.Base + "/incidents/" + url.PathEscape(id) }

// Policy is the address of a policy's page.
func (l Links) Policy(name string) string { return l.Base + "/policies/" + url.PathEscape(name) }

// View is the alert as messages and the API show it.
func (a *Alert) View(l Links) MessageAlert {
	state := "ended"
	if a.Firing {
		state = "firing"
	}
	out := MessageAlert{
		ID: a.ID, State: state, Severity: string(a.Severity), StartedAt: Time(a.StartedAt), EndedAt: timeOrNull(a.EndedAt), Stale: a.Stale, Flapping: a.State.Flapping,
		Policy: MessagePolicy{Name: a.Policy.Name, Project: a.Policy.Project, Revision: a.Policy.Revision, URL: l.Policy(a.Policy.Name)},
		Object: a.Object, Dimensions: orEmpty(a.Dimensions), Conditions: a.Conditions, Explanation: a.Explanation, Annotations: orEmpty(a.Annotations),
		Evidence: Evidence{Series: a.Series, Logs: []Line{}, Events: []Event{}},
	}
	if out.Conditions == nil {
		out.Conditions = []Condition{}
	}
	if out.Evidence.Series == nil {
		out.Evidence.Series = []Point{}
	}
	if a.Cause != "" {
		c := string(a.Cause)
		out.Cause = &c
	}
	return out
}

func orEmpty(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

// Encode gives the body in at most maxBytes: logs go first, then events, then
// series, then the least severe and oldest alerts; the incident never.
func (m Message) Encode(maxBytes int) ([]byte, error) {
	if maxBytes <= 0 {
		maxBytes = DefaultMaxBytes
	}
	m.Alerts = slices.Clone(m.Alerts)
	for _, cut := range []func(*MessageAlert){
		func(*MessageAlert) {},
		func(a *MessageAlert) { m.Truncated.Logs += len(a.Evidence.Logs); a.Evidence.Logs = []Line{} },
		func(a *MessageAlert) { m.Truncated.Events += len(a.Evidence.Events); a.Evidence.Events = []Event{} },
		func(a *MessageAlert) { a.Evidence.Series = []Point{} },
	} {
		for i := range m.Alerts {
			cut(&m.Alerts[i])
		}
		if body, err := marshal(m); err != nil || len(body) <= maxBytes {
			return body, err
		}
	}
	// The most important alerts come first; how many fit is found by halving.
	all, cutBefore := m.Alerts, m.Truncated.Alerts
	slices.SortStableFunc(all, func(a, b MessageAlert) int {
		if d := catalogue.Severity(b.Severity).Rank() - catalogue.Severity(a.Severity).Rank(); d != 0 {
			return d
		}
		return time.Time(b.StartedAt).Compare(time.Time(a.StartedAt))
	})
	var best []byte
	low, high := 0, len(all)
	for low <= high {
		keep := (low + high) / 2
		m.Alerts, m.Truncated.Alerts = all[:keep], cutBefore+len(all)-keep
		body, err := marshal(m)
		if err != nil {
			return nil, err
		}
		if len(body) <= maxBytes || keep == 0 {
			best, low = body, keep+1
		} else {
			high = keep - 1
		}
	}
	return best, nil
}

// marshal leaves < and > as they are: a person reads ">" in a log more easily
// than \u003e, and nobody puts a body into a page.
func marshal(m Message) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(m); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

// TestMessage is what a target is sent to try it out.
func TestMessage(id string, now time.Time, l Links, target string) Message {
	return Message{
		Version: Version, ID: id, Type: Test, Timestamp: Time(now), Sequence: 1,
		Incident: MessageIncident{
			ID: "inc_test", URL: l.Base + "/", Title: fmt.Sprintf("Test of target %s: nothing is wrong", target), State: "resolved", Severity: string(catalogue.Info),
			StartedAt: Time(now), EndedAt: timeOrNull(now), Labels: map[string]string{},
		},
		Alerts: []MessageAlert{},
	}
}

// CauseWords says a cause to people.
func CauseWords(c evaluate.Cause) string {
	switch c {
	case evaluate.ValueNormal:
		return "the value is normal again"
	case evaluate.ObjectDeleted:
		return "the object was deleted"
	case evaluate.ObjectFinished:
		return "the object has finished"
	case evaluate.ScaledDown:
		return "the workload was scaled down"
	case evaluate.WorkloadReplaced:
		return "a newer version of the workload replaced it"
	case evaluate.NotSelected:
		return "the policy does not select the object any more"
	case evaluate.NotApplicable:
		return "the metric does not apply to the object any more"
	case evaluate.NoData:
		return "there are no values any more"
	case evaluate.ClusterRemoved:
		return "the cluster was removed"
	case evaluate.PolicyChanged:
		return "the policy was changed"
	case evaluate.PolicyDisabled:
		return "the policy was disabled"
	case evaluate.PolicyDeleted:
		return "the policy was deleted"
	case evaluate.Manual:
		return "it was ended by hand"
	}
	return string(c)
}
