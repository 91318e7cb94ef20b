package incident

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// AcknowledgedFor is how long an acknowledgement holds.
const AcknowledgedFor = 24 * time.Hour

// maxComment bounds what somebody writes into a timeline.
const maxComment = 4 << 10

// Ack is an acknowledgement. It stops reminders and escalation until the
// severity rises, an alert joins, or it expires.
type Ack struct {
	By     string          `json:"by"`
	At     time.Time       `json:"at"`
	Until  time.Time       `json:"until"`
	Rank   int             `json:"rank"`   // of the severity then
	Alerts map[string]bool `json:"alerts"` // that fired then
}

// What a timeline tells of.
const (
	EventOpened         = "opened"
	EventReopened       = "reopened"
	EventResolved       = "resolved"
	EventBegan          = "alert.began"
	EventEnded          = "alert.ended"
	EventSeverity       = "severity"
	EventAcknowledged   = "acknowledged"
	EventUnacknowledged = "unacknowledged"
	EventEscalated      = "escalated"
	EventMuted          = "muted"
	EventUnmuted        = "unmuted"
	EventComment        = "comment"
	EventAssigned       = "assigned"
)

func note(tx *meta.Tx, now time.Time, incidentID, typ, who, text string) error {
	return tx.AddIncidentEvent(meta.IncidentEvent{IncidentID: incidentID, At: now, Type: typ, Who: who, Text: text})
}

func stateOf(inc meta.Incident) (State, error) {
	var st State
	if err := json.Unmarshal(inc.Data, &st); err != nil {
		return st, fmt.Errorf("read incident %s: %w", inc.ID, err)
	}
	return st, nil
}

// open gives an incident that is not resolved; fault.ErrConflict when it is.
func openIncident(tx *meta.Tx, id string) (meta.Incident, State, error) {
	inc, err := tx.Incident(id)
	if err != nil {
		return inc, State{}, err
	}
	if inc.State != meta.IncidentOpen {
		return inc, State{}, fault.Because(fault.ErrConflict, fault.IncidentResolved, id)
	}
	st, err := stateOf(inc)
	return inc, st, err
}

// Acknowledge notes that somebody takes care of an open incident, and tells
// those who were told of it. until zero: AcknowledgedFor from now.
func (b *Book) Acknowledge(tx *meta.Tx, now time.Time, id, who, comment string, until time.Time) (told bool, err error) {
	inc, st, err := openIncident(tx, id)
	if err != nil {
		return false, err
	}
	if until.IsZero() || until.After(now.Add(AcknowledgedFor)) {
		until = now.Add(AcknowledgedFor)
	}
	if !until.After(now) {
		return false, fault.Wrong("until", fault.Say(fault.Future), until)
	}
	rows, err := tx.AlertsOf(id)
	if err != nil {
		return false, err
	}
	ack := &Ack{By: who, At: now, Until: until, Alerts: map[string]bool{}}
	for _, r := range rows {
		if r.State == meta.AlertFiring {
			ack.Alerts[r.ID] = true
			ack.Rank = max(ack.Rank, rankOf(r.Severity))
		}
	}
	st.Ack = ack
	if inc.AcknowledgedAt.IsZero() {
		inc.AcknowledgedAt = now
	}
	if err := putIncident(tx, inc, st); err != nil {
		return false, err
	}
	if err := note(tx, now, id, EventAcknowledged, who, comment); err != nil {
		return false, err
	}
	return b.settle(tx, now, id)
}

// Unacknowledge takes an acknowledgement back.
func (b *Book) Unacknowledge(tx *meta.Tx, now time.Time, id, who string) (told bool, err error) {
	inc, st, err := openIncident(tx, id)
	if err != nil {
		return false, err
	}
	if st.Ack == nil {
		return false, nil
	}
	st.Ack = nil
	if err := putIncident(tx, inc, st); err != nil {
		return false, err
	}
	if err := note(tx, now, id, EventUnacknowledged, who, ""); err != nil {
		return false, err
	}
	return b.settle(tx, now, id)
}

// Comment adds to the timeline of an incident, open or not.
func (b *Book) Comment(tx *meta.Tx, now time.Time, id, who, text string) error {
	if text = strings.TrimSpace(text); text == "" || len(text) > maxComment {
		return fault.Wrong("text", fault.Say(fault.CharactersBetween, 1, maxComment), len(text))
	}
	if _, err := tx.Incident(id); err != nil {
		return err
	}
	return note(tx, now, id, EventComment, who, text)
}

// Assign says who takes care of an incident; empty: nobody does.
func (b *Book) Assign(tx *meta.Tx, now time.Time, id, who, assignee string) error {
	if assignee = strings.TrimSpace(assignee); len(assignee) > 253 {
		return fault.Wrong("assignee", fault.Say(fault.CharactersAtMost, 253), len(assignee))
	}
	inc, err := tx.Incident(id)
	if err != nil || inc.Assignee == assignee {
		return err
	}
	inc.Assignee = assignee
	if err := tx.PutIncident(inc); err != nil {
		return err
	}
	return note(tx, now, id, EventAssigned, who, assignee)
}

// lapse ends an acknowledgement that does not hold any more.
func (b *Book) lapse(tx *meta.Tx, now time.Time, id string, st *State, alerts []*Alert) error {
	if st.Ack == nil {
		return nil
	}
	why := ""
	if !now.Before(st.Ack.Until) {
		why = "it expired"
	}
	for _, a := range alerts {
		switch {
		case !a.Firing:
		case a.Severity.Rank() > st.Ack.Rank:
			why = "the severity rose"
		case !st.Ack.Alerts[a.ID]:
			why = "an alert joined"
		}
	}
	if why == "" {
		return nil
	}
	st.Ack = nil
	return note(tx, now, id, EventUnacknowledged, "", why)
}
