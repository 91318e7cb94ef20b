package meta

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"time"
)

// States of an incident and of an alert.
const (
	IncidentOpen     = "open"
	IncidentResolved = "resolved"
	AlertFiring      = "firing"
	AlertEnded       = "ended"
)

// Incident is a group of alerts. Data is alerting/incident's own.
type Incident struct {
	ID        string
	GroupKey  string
	Cluster   string
	State     string // open | resolved
	Severity  string
	StartedAt time.Time
	EndedAt   time.Time // zero while open
	Data      json.RawMessage
	// AcknowledgedAt is when somebody acknowledged it for the first time; zero:
	// nobody did.
	AcknowledgedAt time.Time
	Assignee       string
}

// Alert is one firing of one policy on one object and its dimensions. Data is
// alerting/incident's own; while the alert fires it holds the latches.
type Alert struct {
	ID         string
	PolicyID   string
	IncidentID string
	Cluster    string
	Key        string
	State      string // firing | ended
	Severity   string
	StartedAt  time.Time
	EndedAt    time.Time // zero while firing
	Cause      string    // of the end
	Data       json.RawMessage
}

// Thread is what one target was told about one incident.
type Thread struct {
	IncidentID string
	TargetID   string
	Sequence   int64     // of the newest notification
	FlushAt    time.Time // when something is due to be told; zero: nothing is
	Data       json.RawMessage
}

const (
	incidentColumns = "id, group_key, cluster, state, severity, started_at, ended_at, data, acknowledged_at, assignee"
	alertColumns    = "id, policy_id, incident_id, cluster, key, state, severity, started_at, ended_at, cause, data"
	threadColumns   = "incident_id, target_id, sequence, flush_at, data"
)

func scanIncident(s scanner) (Incident, error) {
	var i Incident
	var started, ended, acknowledged sql.NullInt64
	var data string
	err := s.Scan(&i.ID, &i.GroupKey, &i.Cluster, &i.State, &i.Severity, &started, &ended, &data, &acknowledged, &i.Assignee)
	i.AcknowledgedAt = fromMillis(acknowledged)
	i.StartedAt, i.EndedAt, i.Data = fromMillis(started), fromMillis(ended), json.RawMessage(data)
	return i, err
}

func scanAlert(s scanner) (Alert, error) {
	var a Alert
	var started, ended sql.NullInt64
	var data string
	err := s.Scan(&a.ID, &a.PolicyID, &a.IncidentID, &a.Cluster, &a.Key, &a.State, &a.Severity, &started, &ended, &a.Cause, &data)
	a.StartedAt, a.EndedAt, a.Data = fromMillis(started), fromMillis(ended), json.RawMessage(data)
	return a, err
}

func scanThread(s scanner) (Thread, error) {
	var t Thread
	var flush sql.NullInt64
	var data string
	err := s.Scan(&t.IncidentID, &t.TargetID, &t.Sequence, &flush, &data)
	t.FlushAt, t.Data = fromMillis(flush), json.RawMessage(data)
	return t, err
}

// PutIncident makes or replaces an incident.
func (tx *Tx) PutIncident(i Incident) error {
	_, err := tx.exec("save incident", `INSERT INTO incidents (`+incidentColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET state = excluded.state, severity = excluded.severity, ended_at = excluded.ended_at, data = excluded.data,
			acknowledged_at = excluded.acknowledged_at, assignee = excluded.assignee`,
		i.ID, i.GroupKey, i.Cluster, i.State, i.Severity, millis(i.StartedAt), millis(i.EndedAt), string(i.Data), millis(i.AcknowledgedAt), i.Assignee)
	return err
}

// Incident gives one; fault.ErrNotFound when there is none.
func (tx *Tx) Incident(id string) (Incident, error) {
	return one(tx, fmt.Sprintf("incident %q", id), scanIncident, "SELECT "+incidentColumns+" FROM incidents WHERE id = ?", id)
}

// IncidentOfGroup gives the newest incident of a group that is open or ended
// at or after since; fault.ErrNotFound when there is none.
func (tx *Tx) IncidentOfGroup(groupKey string, since time.Time) (Incident, error) {
	return one(tx, "incident of the group", scanIncident, `SELECT `+incidentColumns+` FROM incidents
		WHERE group_key = ? AND (state = 'open' OR ended_at >= ?) ORDER BY started_at DESC, id DESC LIMIT 1`, groupKey, millis(since))
}

// IncidentFilter picks incidents; empty fields pick all.
type IncidentFilter struct {
	State    string
	Acked    *bool // whether it is acknowledged now; nil: either
	Cluster  string
	Severity string
	Assignee string
	Policy   string    // name of a policy of one of its alerts
	Text     string    // in the title, the labels or the object, whatever the case
	Words    []string  // each of them anywhere there
	From, To time.Time // it was open within; zero: without end
	Oldest   bool      // the oldest first
	After    string    // id: what follows this one, for paging
	Limit    int       // at most; 0 means 1000
}

// newestFirst is the order of a list by a column that grows with time: how what
// follows a row compares with it, and the direction.
func newestFirst(oldest bool) (follows, direction string) {
	if oldest {
		return ">", "ASC"
	}
	return "<", "DESC"
}

// wordsOf is what SQL's json_each gives the words of; nil when there are none.
func wordsOf(words []string) any {
	if len(words) == 0 {
		return nil
	}
	out, err := json.Marshal(words)
	if err != nil { // never of strings
		return nil
	}
	return string(out)
}

// allWords is SQL that says whether each of the words that a parameter has is in a
// text, whatever the case.
func allWords(parameter, text string) string {
	return "NOT EXISTS (SELECT 1 FROM json_each(" + parameter + ") WHERE instr(lower(" + text + "), lower(value)) = 0)"
}

const incidentText = `json_extract(data, '$.title') || ' ' || coalesce(json_extract(data, '$.labels'), '') || ' ' || json_extract(data, '$.object')`

// Incidents gives incidents, the newest first or the oldest.
func (tx *Tx) Incidents(f IncidentFilter) ([]Incident, error) {
	if f.Limit <= 0 {
		f.Limit = 1000
	}
	follows, direction := newestFirst(f.Oldest)
	return all(tx, "list incidents", scanIncident, `SELECT `+incidentColumns+` FROM incidents
		WHERE (?1 = '' OR state = ?1) AND (?2 = '' OR cluster = ?2) AND (?3 = '' OR id `+follows+` ?3)
			AND (?5 = '' OR severity = ?5) AND (?6 = '' OR assignee = ?6)
			AND (?7 = '' OR EXISTS (SELECT 1 FROM alerts WHERE incident_id = incidents.id AND json_extract(alerts.data, '$.policy.name') = ?7))
			AND (?8 = '' OR instr(lower(`+incidentText+`), lower(?8)) > 0) AND `+allWords("?11", incidentText)+`
			AND (?9 IS NULL OR ended_at IS NULL OR ended_at >= ?9) AND (?10 IS NULL OR started_at < ?10)
			AND (?12 IS NULL OR (json_extract(data, '$.ack') IS NOT NULL) = ?12)
		ORDER BY id `+direction+` LIMIT ?4`, f.State, f.Cluster, f.After, f.Limit, f.Severity, f.Assignee, f.Policy, f.Text, millis(f.From), millis(f.To), wordsOf(f.Words), f.Acked)
}

// PutAlert makes or replaces an alert. A second firing one for the same policy,
// cluster and key is fault.ErrConflict.
func (tx *Tx) PutAlert(a Alert) error {
	_, err := tx.exec("save alert", `INSERT INTO alerts (`+alertColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET state = excluded.state, severity = excluded.severity, ended_at = excluded.ended_at, cause = excluded.cause, data = excluded.data`,
		a.ID, a.PolicyID, a.IncidentID, a.Cluster, a.Key, a.State, a.Severity, millis(a.StartedAt), millis(a.EndedAt), a.Cause, string(a.Data))
	return err
}

// AlertsOf gives the alerts of an incident, the oldest first.
func (tx *Tx) AlertsOf(incidentID string) ([]Alert, error) {
	return all(tx, "list alerts", scanAlert, "SELECT "+alertColumns+" FROM alerts WHERE incident_id = ? ORDER BY started_at, id", incidentID)
}

// FiringAlerts gives every alert that fires.
func (tx *Tx) FiringAlerts() ([]Alert, error) {
	return all(tx, "list firing alerts", scanAlert, "SELECT "+alertColumns+" FROM alerts WHERE state = 'firing' ORDER BY id")
}

// AlertFilter picks alerts; empty fields pick all.
type AlertFilter struct {
	State    string
	Cluster  string
	PolicyID string
	Words    []string // each in the title, the policy's name, the labels, the object or its dimensions, whatever the case
	Oldest   bool     // the oldest first
	After    string   // id: what follows this one, for paging
	Limit    int      // at most; 0 means 1000
}

const alertText = `json_extract(data, '$.title') || ' ' || coalesce(json_extract(data, '$.policy.name'), '') || ' ' || coalesce(json_extract(data, '$.labels'), '') || ' ' || json_extract(data, '$.object') || ' ' || coalesce(json_extract(data, '$.dimensions'), '')`

// Alerts gives alerts, the newest first or the oldest.
func (tx *Tx) Alerts(f AlertFilter) ([]Alert, error) {
	if f.Limit <= 0 {
		f.Limit = 1000
	}
	follows, direction := newestFirst(f.Oldest)
	return all(tx, "list alerts", scanAlert, `SELECT `+alertColumns+` FROM alerts
		WHERE (?1 = '' OR state = ?1) AND (?2 = '' OR cluster = ?2) AND (?3 = '' OR policy_id = ?3) AND (?4 = '' OR id `+follows+` ?4)
			AND `+allWords("?6", alertText)+`
		ORDER BY id `+direction+` LIMIT ?5`, f.State, f.Cluster, f.PolicyID, f.After, f.Limit, wordsOf(f.Words))
}

// AlertsAround gives the alerts of one key that fired within a time range, the
// oldest first, at most 1000.
func (tx *Tx) AlertsAround(policyID, cluster, key string, from, to time.Time) ([]Alert, error) {
	return all(tx, "list alerts of an object", scanAlert, "SELECT "+alertColumns+` FROM alerts
		WHERE policy_id = ? AND cluster = ? AND key = ? AND started_at <= ? AND (ended_at IS NULL OR ended_at >= ?) ORDER BY started_at LIMIT 1000`,
		policyID, cluster, key, millis(to), millis(from))
}

// AlertsWithin gives the alerts of a cluster that fired within a time range, the
// newest so many.
func (tx *Tx) AlertsWithin(cluster string, from, to time.Time, limit int) ([]Alert, error) {
	return all(tx, "list alerts of a time", scanAlert, "SELECT "+alertColumns+` FROM alerts
		WHERE cluster = ? AND started_at <= ? AND (ended_at IS NULL OR ended_at >= ?) ORDER BY id DESC LIMIT ?`, cluster, millis(to), millis(from), limit)
}

// EndedAlertsSince gives the alerts that ended at or after a time.
func (tx *Tx) EndedAlertsSince(t time.Time) ([]Alert, error) {
	return all(tx, "list ended alerts", scanAlert, "SELECT "+alertColumns+" FROM alerts WHERE ended_at >= ? ORDER BY ended_at", millis(t))
}

// PutThread makes or replaces a thread.
func (tx *Tx) PutThread(t Thread) error {
	_, err := tx.exec("save thread", `INSERT INTO threads (`+threadColumns+`) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (incident_id, target_id) DO UPDATE SET sequence = excluded.sequence, flush_at = excluded.flush_at, data = excluded.data`,
		t.IncidentID, t.TargetID, t.Sequence, millis(t.FlushAt), string(t.Data))
	return err
}

// ThreadsOf gives the threads of an incident.
func (tx *Tx) ThreadsOf(incidentID string) ([]Thread, error) {
	return all(tx, "list threads", scanThread, "SELECT "+threadColumns+" FROM threads WHERE incident_id = ? ORDER BY target_id", incidentID)
}

// ThreadsDue gives the incidents that have a thread with something due at or
// before now.
func (tx *Tx) ThreadsDue(now time.Time) ([]string, error) {
	return all(tx, "list due threads", func(s scanner) (string, error) {
		var id string
		err := s.Scan(&id)
		return id, err
	}, "SELECT DISTINCT incident_id FROM threads WHERE flush_at IS NOT NULL AND flush_at <= ? ORDER BY incident_id", millis(now))
}

// NextThread gives the earliest time at which a thread has something due; zero
// when none has.
func (tx *Tx) NextThread() (time.Time, error) {
	return one(tx, "next thread", func(s scanner) (time.Time, error) {
		var t sql.NullInt64
		err := s.Scan(&t)
		return fromMillis(t), err
	}, "SELECT min(flush_at) FROM threads WHERE flush_at IS NOT NULL")
}

// Prune deletes incidents that ended before a time, with their alerts, threads
// and notifications.
func (tx *Tx) Prune(before time.Time) error {
	for _, q := range []string{
		"DELETE FROM outbox WHERE state <> 'pending' AND created_at < ?",
		"DELETE FROM incidents WHERE state = 'resolved' AND ended_at < ?",
		"DELETE FROM skipped_rounds WHERE at < ?",
	} {
		if _, err := tx.exec("prune", q, millis(before)); err != nil {
			return err
		}
	}
	return nil
}
