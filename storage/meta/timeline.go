package meta

import (
	"database/sql"
	"time"
)

// IncidentEvent is one entry of an incident's timeline.
type IncidentEvent struct {
	Position   int64
	IncidentID string
	At         time.Time
	Type       string
	Who        string // empty: the engine
	Text       string
}

// AddIncidentEvent adds to a timeline.
func (tx *Tx) AddIncidentEvent(e IncidentEvent) error {
	_, err := tx.exec("save incident event", "INSERT INTO incident_events (incident_id, at, type, who, text) VALUES (?, ?, ?, ?, ?)",
		e.IncidentID, millis(e.At), e.Type, e.Who, e.Text)
	return err
}

// IncidentEvents gives the timeline of an incident, the oldest first.
func (tx *Tx) IncidentEvents(incidentID string, limit int) ([]IncidentEvent, error) {
	return all(tx, "list incident events", func(s scanner) (IncidentEvent, error) {
		var e IncidentEvent
		var at sql.NullInt64
		err := s.Scan(&e.Position, &e.IncidentID, &at, &e.Type, &e.Who, &e.Text)
		e.At = fromMillis(at)
		return e, err
	}, `SELECT position, incident_id, at, type, who, text FROM (
		SELECT * FROM incident_events WHERE incident_id = ? ORDER BY position DESC LIMIT ?) ORDER BY position`, incidentID, limit)
}

// IncidentStatistics sum up incidents that began within a range.
type IncidentStatistics struct {
	Incidents, Open, Acknowledged, Resolved int
	MeanToAcknowledge, MeanToResolve        time.Duration // of those that were
	BySeverity                              map[string]int
	Noisiest                                []PolicyNoise // at most 20
}

// PolicyNoise is how often a policy fired.
type PolicyNoise struct {
	PolicyID, Policy  string
	Alerts, Incidents int
}

// Statistics sums up incidents that began within [from, to), of one cluster or,
// with an empty one, of all.
func (tx *Tx) Statistics(from, to time.Time, cluster string) (IncidentStatistics, error) {
	var toAck, toResolve sql.NullFloat64
	out, err := one(tx, "incident statistics", func(s scanner) (IncidentStatistics, error) {
		var o IncidentStatistics
		err := s.Scan(&o.Incidents, &o.Open, &o.Acknowledged, &o.Resolved, &toAck, &toResolve)
		return o, err
	}, `SELECT count(*), coalesce(sum(state = 'open'), 0), coalesce(sum(acknowledged_at IS NOT NULL), 0), coalesce(sum(state = 'resolved'), 0),
			avg(acknowledged_at - started_at), avg(CASE WHEN state = 'resolved' THEN ended_at - started_at END)
		FROM incidents WHERE started_at >= ?1 AND started_at < ?2 AND (?3 = '' OR cluster = ?3)`, millis(from), millis(to), cluster)
	if err != nil {
		return out, err
	}
	out.MeanToAcknowledge, out.MeanToResolve = time.Duration(toAck.Float64)*time.Millisecond, time.Duration(toResolve.Float64)*time.Millisecond
	out.BySeverity = map[string]int{}
	type count struct {
		word string
		n    int
	}
	severities, err := all(tx, "incident statistics", func(s scanner) (c count, err error) { err = s.Scan(&c.word, &c.n); return c, err },
		`SELECT severity, count(*) FROM incidents WHERE started_at >= ?1 AND started_at < ?2 AND (?3 = '' OR cluster = ?3) GROUP BY severity`, millis(from), millis(to), cluster)
	if err != nil {
		return out, err
	}
	for _, c := range severities {
		out.BySeverity[c.word] = c.n
	}
	out.Noisiest, err = all(tx, "noisiest policies", func(s scanner) (n PolicyNoise, err error) {
		err = s.Scan(&n.PolicyID, &n.Policy, &n.Alerts, &n.Incidents)
		return n, err
	}, `SELECT policy_id, coalesce(json_extract(max(data), '$.policy.name'), ''), count(*), count(DISTINCT incident_id) FROM alerts
		WHERE started_at >= ?1 AND started_at < ?2 AND (?3 = '' OR cluster = ?3) GROUP BY policy_id ORDER BY count(*) DESC, policy_id LIMIT 20`, millis(from), millis(to), cluster)
	return out, err
}
