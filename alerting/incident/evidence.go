package incident

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// lateGap is how long an update that only brings late evidence waits for that of
// the other alerts.
const lateGap = 10 * time.Second

// Around is what was collected around an alert when it began, and is kept with
// it.
type Around struct {
	At      time.Time  `json:"at"`
	Logs    []Line     `json:"logs,omitempty"`   // at warning and above, the oldest first
	Events  []Event    `json:"events,omitempty"` // the oldest first
	Rollout *Rollout   `json:"rollout,omitempty"`
	Node    *NodeState `json:"node,omitempty"`
	Missing []string   `json:"missing,omitempty"` // what could not be collected, and why
}

// Line is a log line.
type Line struct {
	Time      Time   `json:"time"`
	Line      string `json:"line"`
	Level     string `json:"level,omitempty"`
	Pod       string `json:"pod,omitempty"`
	Container string `json:"container,omitempty"`
}

// Event is a Kubernetes event.
type Event struct {
	Time    Time   `json:"time"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
	Type    string `json:"type,omitempty"`
	Kind    string `json:"kind,omitempty"`
	Name    string `json:"name,omitempty"`
	Count   int    `json:"count,omitempty"`
}

// Rollout is the last change of a workload's template within a day.
type Rollout struct {
	At         Time     `json:"at"`
	From       string   `json:"from"` // revision of the template
	To         string   `json:"to"`
	FromImages []string `json:"from_images,omitempty"`
	ToImages   []string `json:"to_images,omitempty"`
}

// NodeState is how the node stands on which the object lies.
type NodeState struct {
	Name          string          `json:"name"`
	Ready         bool            `json:"ready"`
	Unschedulable bool            `json:"unschedulable"`
	Conditions    []NodeCondition `json:"conditions,omitempty"` // that are not as they should be
}

// NodeCondition is a condition of a node.
type NodeCondition struct {
	Type   string `json:"type"`
	Status string `json:"status"`
	Reason string `json:"reason,omitempty"`
	Since  Time   `json:"since"`
}

// nothing tells whether there is nothing to show.
func (a *Around) nothing() bool {
	return len(a.Logs) == 0 && len(a.Events) == 0 && a.Rollout == nil && a.Node == nil
}

// Evidence kinds that a target may ask for.
const (
	EvidenceSeries = "series"
	EvidenceEvents = "events"
	EvidenceLogs   = "logs"
)

// carries tells whether a target's messages carry a kind of evidence. Log lines
// may hold what only those inside should read: by default they go to webhooks
// only.
func (t Target) carries(kind string) bool {
	if len(t.Evidence) > 0 {
		return slices.Contains(t.Evidence, kind)
	}
	return kind != EvidenceLogs || t.Webhook
}

// keepEvidence stores what was found, in the transaction of its alert.
func keepEvidence(tx *meta.Tx, alertID string, found *Around) error {
	data, err := json.Marshal(found)
	if err != nil {
		return fmt.Errorf("save evidence of %s: %w", alertID, err)
	}
	return tx.PutEvidence(alertID, found.At, data)
}

// AroundOf reads what is kept of an alert; nil: nothing is.
func AroundOf(tx *meta.Tx, alertID string) (*Around, error) {
	data, err := tx.Evidence(alertID)
	if err != nil || data == nil {
		return nil, err
	}
	var out Around
	if err := json.Unmarshal(data, &out); err != nil {
		return nil, fmt.Errorf("read evidence of %s: %w", alertID, err)
	}
	return &out, nil
}

// Evidence keeps what was found late, and has those told who were told without.
func (b *Book) Evidence(tx *meta.Tx, now time.Time, incidentID, alertID string, found *Around) (told bool, err error) {
	if err := keepEvidence(tx, alertID, found); err != nil {
		return false, err
	}
	if found.nothing() {
		return false, nil
	}
	return b.settle(tx, now, incidentID)
}

// show puts what is kept of an alert into its view, as far as the target's
// messages carry it. false: it is still being collected.
func (t Target) show(tx *meta.Tx, a *Alert, v *MessageAlert) (complete bool, err error) {
	if !t.carries(EvidenceSeries) {
		v.Evidence.Series = []Point{}
	}
	found, err := AroundOf(tx, a.ID)
	if err != nil || found == nil {
		return !a.Collecting, err
	}
	if t.carries(EvidenceLogs) {
		v.Evidence.Logs = append(v.Evidence.Logs, found.Logs...)
	}
	if t.carries(EvidenceEvents) {
		v.Evidence.Events = append(v.Evidence.Events, found.Events...)
		v.Evidence.Rollout, v.Evidence.Node = found.Rollout, found.Node
	}
	return true, nil
}
