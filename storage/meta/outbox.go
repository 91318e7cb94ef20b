package meta

import (
	"database/sql"
	"fmt"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// States of a notification.
const (
	NotificationPending    = "pending"
	NotificationDelivered  = "delivered"
	NotificationDead       = "dead"       // given up; resend by hand is possible
	NotificationSuperseded = "superseded" // a newer one says all that it said
	NotificationSkipped    = "skipped"    // a resolve of what was never told
)

// Notification is one message to one target.
type Notification struct {
	Position   int64 // order of creation
	ID         string
	IncidentID string
	TargetID   string
	Type       string
	Sequence   int64
	Body       []byte
	State      string
	CreatedAt  time.Time
	NextAt     time.Time // no attempt before
	GiveUpAt   time.Time
	Attempts   int
	Maybe      bool // some attempt may have been received
	DoneAt     time.Time
	Error      string // of the newest attempt
}

// Attempt is one try to send a notification.
type Attempt struct {
	NotificationID string
	At             time.Time
	Took           time.Duration // in whole milliseconds
	Result         string        // delivered | retry | final
	Status         int           // of HTTP; 0 when there was no answer
	Error          string
}

const (
	notificationColumns = "position, id, incident_id, target_id, type, sequence, body, state, created_at, next_at, give_up_at, attempts, maybe, done_at, error"
	attemptColumns      = "outbox_id, at, took_millis, result, status, error"
)

func scanNotification(s scanner) (Notification, error) {
	var n Notification
	var created, next, giveUp, done sql.NullInt64
	err := s.Scan(&n.Position, &n.ID, &n.IncidentID, &n.TargetID, &n.Type, &n.Sequence, &n.Body, &n.State, &created, &next, &giveUp, &n.Attempts, &n.Maybe, &done, &n.Error)
	n.CreatedAt, n.NextAt, n.GiveUpAt, n.DoneAt = fromMillis(created), fromMillis(next), fromMillis(giveUp), fromMillis(done)
	return n, err
}

func scanAttempt(s scanner) (Attempt, error) {
	var a Attempt
	var at, took sql.NullInt64
	err := s.Scan(&a.NotificationID, &at, &took, &a.Result, &a.Status, &a.Error)
	a.At, a.Took = fromMillis(at), time.Duration(took.Int64)*time.Millisecond
	return a, err
}

// Enqueue adds a pending notification.
func (tx *Tx) Enqueue(n Notification) error {
	_, err := tx.exec("enqueue notification", `INSERT INTO outbox (id, incident_id, target_id, type, sequence, body, state, created_at, next_at, give_up_at)
		VALUES (?, ?, ?, ?, ?, ?, 'pending', ?, ?, ?)`,
		n.ID, n.IncidentID, n.TargetID, n.Type, n.Sequence, n.Body, millis(n.CreatedAt), millis(n.NextAt), millis(n.GiveUpAt))
	return err
}

// Supersede closes the pending notifications of a thread that have one of the
// types.
func (tx *Tx) Supersede(incidentID, targetID, typ string, at time.Time) error {
	_, err := tx.exec("supersede notifications", `UPDATE outbox SET state = 'superseded', done_at = ?
		WHERE incident_id = ? AND target_id = ? AND type = ? AND state = 'pending'`, millis(at), incidentID, targetID, typ)
	return err
}

// Heads gives, for every incident and target, the oldest pending notification:
// what comes after it waits for it. Those due soonest come first.
func (tx *Tx) Heads(limit int) ([]Notification, error) {
	return all(tx, "list pending notifications", scanNotification, `SELECT `+notificationColumns+` FROM outbox
		WHERE position IN (SELECT min(position) FROM outbox WHERE state = 'pending' GROUP BY target_id, incident_id)
		ORDER BY next_at, position LIMIT ?`, limit)
}

// Notification gives one by its id; fault.ErrNotFound when there is none.
func (tx *Tx) Notification(id string) (Notification, error) {
	return one(tx, fmt.Sprintf("notification %q", id), scanNotification, "SELECT "+notificationColumns+" FROM outbox WHERE id = ?", id)
}

// NotificationFilter picks notifications; empty fields pick all.
type NotificationFilter struct {
	IncidentID string
	TargetID   string
	State      string
	Before     int64 // position: older than this one, for paging; 0: all
	Limit      int   // at most; 0 means 1000
}

// Notifications gives notifications, the newest first.
func (tx *Tx) Notifications(f NotificationFilter) ([]Notification, error) {
	if f.Limit <= 0 {
		f.Limit = 1000
	}
	return all(tx, "list notifications", scanNotification, `SELECT `+notificationColumns+` FROM outbox
		WHERE (?1 = '' OR incident_id = ?1) AND (?2 = '' OR target_id = ?2) AND (?3 = '' OR state = ?3) AND (?4 = 0 OR position < ?4)
		ORDER BY position DESC LIMIT ?5`, f.IncidentID, f.TargetID, f.State, f.Before, f.Limit)
}

// MaybeTold says whether some earlier notification of the thread was delivered
// or may have been.
func (tx *Tx) MaybeTold(n Notification) (bool, error) {
	return one(tx, "read thread", func(s scanner) (told bool, err error) {
		err = s.Scan(&told)
		return told, err
	}, `SELECT EXISTS (SELECT 1 FROM outbox WHERE incident_id = ? AND target_id = ? AND position < ? AND (state = 'delivered' OR maybe <> 0))`,
		n.IncidentID, n.TargetID, n.Position)
}

// SaveAttempt stores an attempt together with what it made of the notification:
// State, NextAt, Attempts, Maybe, DoneAt and Error are taken from n. A
// notification that was superseded meanwhile stays so, unless it was delivered.
func (tx *Tx) SaveAttempt(n Notification, a Attempt) error {
	if err := tx.saveNotification(n); err != nil {
		return err
	}
	_, err := tx.exec("save attempt", "INSERT INTO attempts ("+attemptColumns+") VALUES (?, ?, ?, ?, ?, ?)",
		a.NotificationID, millis(a.At), a.Took.Milliseconds(), a.Result, a.Status, a.Error)
	return err
}

// CloseNotification stores the state of a notification without an attempt.
func (tx *Tx) CloseNotification(n Notification) error { return tx.saveNotification(n) }

func (tx *Tx) saveNotification(n Notification) error {
	_, err := tx.exec("save notification", `UPDATE outbox SET
		state = CASE WHEN state = 'superseded' AND ?1 <> 'delivered' THEN state ELSE ?1 END,
		next_at = ?2, attempts = ?3, maybe = ?4, done_at = ?5, error = ?6 WHERE id = ?7`,
		n.State, millis(n.NextAt), n.Attempts, n.Maybe, millis(n.DoneAt), n.Error, n.ID)
	return err
}

// Resend makes a notification pending again, with the same id and body;
// fault.ErrNotFound when there is none.
func (tx *Tx) Resend(id string, now, giveUp time.Time) error {
	n, err := tx.exec("resend", `UPDATE outbox SET state = 'pending', next_at = ?, give_up_at = ?, done_at = NULL WHERE id = ?`,
		millis(now), millis(giveUp), id)
	if err == nil && n == 0 {
		err = fmt.Errorf("notification %q: %w", id, fault.ErrNotFound)
	}
	return err
}

// Attempts gives the attempts of a notification, the oldest first.
func (tx *Tx) Attempts(notificationID string) ([]Attempt, error) {
	return all(tx, "list attempts", scanAttempt, "SELECT "+attemptColumns+" FROM attempts WHERE outbox_id = ? ORDER BY position", notificationID)
}

// TargetQueue says how a target's notifications stand.
type TargetQueue struct {
	TargetID  string
	Pending   int
	LastError string // of the newest notification that was attempted; empty when it was delivered
}

// TargetQueues gives the queues of all targets that were ever told anything.
func (tx *Tx) TargetQueues() ([]TargetQueue, error) {
	return all(tx, "list target queues", func(s scanner) (TargetQueue, error) {
		var q TargetQueue
		err := s.Scan(&q.TargetID, &q.Pending, &q.LastError)
		return q, err
	}, `SELECT target_id, sum(state = 'pending'), coalesce((
			SELECT error FROM outbox n WHERE n.target_id = o.target_id AND n.attempts > 0 ORDER BY position DESC LIMIT 1), '')
		FROM outbox o GROUP BY target_id ORDER BY target_id`)
}
