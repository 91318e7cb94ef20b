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
	CopyOf     string // id of the notification that another target was to get; empty: its own
	Copied     bool   // another target was told too
}

// Attempt is one try to send a notification.
type Attempt struct {
	NotificationID string
	At             time.Time
	Took           time.Duration // in whole milliseconds
	Result         string        // delivered | retry | final
	Status         int           // of HTTP; 0 when there was no answer
	Error          string
	Request        string // what was sent, without secrets
	Response       string // the answer's first KiB, without secrets
}

const (
	headColumns         = "position, id, incident_id, target_id, type, sequence, x'', state, created_at, next_at, give_up_at, attempts, maybe, done_at, error, copy_of, copied"
	notificationColumns = "position, id, incident_id, target_id, type, sequence, body, state, created_at, next_at, give_up_at, attempts, maybe, done_at, error, copy_of, copied"
	attemptColumns      = "outbox_id, at, took_millis, result, status, error, request, response"
)

func scanNotification(s scanner) (Notification, error) {
	var n Notification
	var created, next, giveUp, done sql.NullInt64
	err := s.Scan(&n.Position, &n.ID, &n.IncidentID, &n.TargetID, &n.Type, &n.Sequence, &n.Body, &n.State, &created, &next, &giveUp, &n.Attempts, &n.Maybe, &done, &n.Error, &n.CopyOf, &n.Copied)
	n.CreatedAt, n.NextAt, n.GiveUpAt, n.DoneAt = fromMillis(created), fromMillis(next), fromMillis(giveUp), fromMillis(done)
	return n, err
}

func scanAttempt(s scanner) (Attempt, error) {
	var a Attempt
	var at, took sql.NullInt64
	err := s.Scan(&a.NotificationID, &at, &took, &a.Result, &a.Status, &a.Error, &a.Request, &a.Response)
	a.At, a.Took = fromMillis(at), time.Duration(took.Int64)*time.Millisecond
	return a, err
}

// Enqueue adds a pending notification. Since each says all of its thread's
// state, updates and reminders of the thread that still wait are superseded.
func (tx *Tx) Enqueue(n Notification) error {
	if _, err := tx.exec("supersede notifications", `UPDATE outbox SET state = 'superseded', done_at = ?
		WHERE target_id = ? AND incident_id = ? AND state = 'pending' AND type IN ('incident.updated', 'incident.reminder', 'heartbeat')`,
		millis(n.CreatedAt), n.TargetID, n.IncidentID); err != nil {
		return err
	}
	_, err := tx.exec("enqueue notification", `INSERT INTO outbox (id, incident_id, target_id, type, sequence, body, state, created_at, next_at, give_up_at, copy_of)
		VALUES (?, ?, ?, ?, ?, ?, 'pending', ?, ?, ?, ?)`,
		n.ID, n.IncidentID, n.TargetID, n.Type, n.Sequence, n.Body, millis(n.CreatedAt), millis(n.NextAt), millis(n.GiveUpAt), n.CopyOf)
	return err
}

// Supersede closes the pending notifications of a thread that have one of the
// types.
func (tx *Tx) Supersede(incidentID, targetID, typ string, at time.Time) error {
	_, err := tx.exec("supersede notifications", `UPDATE outbox SET state = 'superseded', done_at = ?
		WHERE incident_id = ? AND target_id = ? AND type = ? AND state = 'pending'`, millis(at), incidentID, targetID, typ)
	return err
}

// PendingTargets gives the targets for which something waits. It steps through
// the index from target to target, however much waits.
func (tx *Tx) PendingTargets() ([]string, error) {
	return all(tx, "list waiting targets", func(s scanner) (string, error) {
		var id string
		err := s.Scan(&id)
		return id, err
	}, `WITH RECURSIVE t (id) AS (
			SELECT min(target_id) FROM outbox WHERE state = 'pending'
			UNION ALL
			SELECT (SELECT min(target_id) FROM outbox WHERE state = 'pending' AND target_id > t.id) FROM t WHERE t.id IS NOT NULL)
		SELECT id FROM t WHERE id IS NOT NULL`)
}

// Heads gives a target's oldest pending notification of each incident: what
// comes after it waits for it. They come by incident, from after the given one
// on (empty: all), without their bodies. Summaries belong to no incident; their
// thread is the empty one.
func (tx *Tx) Heads(targetID, after string, limit int) ([]Notification, error) {
	op := ">"
	if after == "" {
		op = ">="
	}
	return all(tx, "list pending notifications", scanNotification, `SELECT `+headColumns+` FROM outbox
		WHERE position IN (SELECT min(position) FROM outbox WHERE state = 'pending' AND target_id = ? AND incident_id `+op+` ?
			GROUP BY incident_id ORDER BY incident_id LIMIT ?)
		ORDER BY incident_id`, targetID, after, limit)
}

// PendingOf gives what waits for a target and was not copied yet, of one
// incident or, when that is empty, of all; the oldest first.
func (tx *Tx) PendingOf(targetID, incidentID string, limit int) ([]Notification, error) {
	return all(tx, "list pending notifications", scanNotification, `SELECT `+notificationColumns+` FROM outbox
		WHERE state = 'pending' AND target_id = ?1 AND (?2 = '' OR incident_id = ?2) AND copied = 0 AND copy_of = ''
		ORDER BY position LIMIT ?3`, targetID, incidentID, limit)
}

// MarkCopied notes that another target was told too.
func (tx *Tx) MarkCopied(id string) error {
	_, err := tx.exec("mark notification", "UPDATE outbox SET copied = 1 WHERE id = ?", id)
	return err
}

// CopiedTo gives the targets that got copies of what one target was to be told
// before n in the same episode: an incident that fires again is told anew.
func (tx *Tx) CopiedTo(n Notification) ([]string, error) {
	return all(tx, "list copies", func(s scanner) (string, error) {
		var id string
		err := s.Scan(&id)
		return id, err
	}, `SELECT DISTINCT c.target_id FROM outbox o JOIN outbox c ON c.copy_of = o.id
		WHERE o.incident_id = ?1 AND o.target_id = ?2 AND c.copy_of <> '' AND o.position < ?3 AND o.position > coalesce((
			SELECT max(position) FROM outbox WHERE incident_id = ?1 AND target_id = ?2 AND position < ?3 AND type = 'incident.resolved'), 0)
		ORDER BY c.target_id`, n.IncidentID, n.TargetID, n.Position)
}

// HasOwnThread says whether a target is told of an incident by itself, not only
// in place of another.
func (tx *Tx) HasOwnThread(incidentID, targetID string) (bool, error) {
	return one(tx, "read thread", func(s scanner) (own bool, err error) {
		err = s.Scan(&own)
		return own, err
	}, "SELECT EXISTS (SELECT 1 FROM outbox WHERE incident_id = ? AND target_id = ? AND copy_of = '')", incidentID, targetID)
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
	Words      []string // each in the id, the type, the newest error, the target's name or the incident's title, whatever the case
	Oldest     bool     // the oldest first
	After      int64    // position: what follows this one, for paging; 0: all
	Limit      int      // at most; 0 means 1000
}

const notificationText = `outbox.id || ' ' || outbox.type || ' ' || outbox.error || ' ' || coalesce((SELECT name FROM resources WHERE resources.id = target_id), '') || ' ' || coalesce((SELECT json_extract(data, '$.title') FROM incidents WHERE incidents.id = incident_id), '')`

// Notifications gives notifications, the newest first or the oldest.
func (tx *Tx) Notifications(f NotificationFilter) ([]Notification, error) {
	if f.Limit <= 0 {
		f.Limit = 1000
	}
	follows, direction := newestFirst(f.Oldest)
	return all(tx, "list notifications", scanNotification, `SELECT `+notificationColumns+` FROM outbox
		WHERE (?1 = '' OR incident_id = ?1) AND (?2 = '' OR target_id = ?2) AND (?3 = '' OR state = ?3) AND (?4 = 0 OR position `+follows+` ?4)
			AND `+allWords("?6", notificationText)+`
		ORDER BY position `+direction+` LIMIT ?5`, f.IncidentID, f.TargetID, f.State, f.After, f.Limit, wordsOf(f.Words))
}

// MaybeTold says whether some earlier notification of the thread was delivered
// or may have been, since the newest end that was delivered.
func (tx *Tx) MaybeTold(n Notification) (bool, error) {
	return one(tx, "read thread", func(s scanner) (told bool, err error) {
		err = s.Scan(&told)
		return told, err
	}, `SELECT EXISTS (SELECT 1 FROM outbox WHERE incident_id = ?1 AND target_id = ?2 AND position < ?3 AND (state = 'delivered' OR maybe <> 0) AND position > coalesce((
			SELECT max(position) FROM outbox WHERE incident_id = ?1 AND target_id = ?2 AND position < ?3 AND type = 'incident.resolved' AND state = 'delivered'), 0))`,
		n.IncidentID, n.TargetID, n.Position)
}

// SaveAttempt stores an attempt together with what it made of the notification:
// State, NextAt, Attempts, Maybe, DoneAt and Error are taken from n. A
// notification that was superseded meanwhile stays so, unless it was delivered.
func (tx *Tx) SaveAttempt(n Notification, a Attempt) error {
	if err := tx.saveNotification(n); err != nil {
		return err
	}
	_, err := tx.exec("save attempt", "INSERT INTO attempts ("+attemptColumns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
		a.NotificationID, millis(a.At), a.Took.Milliseconds(), a.Result, a.Status, a.Error, a.Request, a.Response)
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
		err = fault.Because(fault.ErrNotFound, fault.Missing, "notification", id)
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
	Dead      int
	LastError string // of the newest notification that was attempted; empty when it was delivered
}

// PendingNotifications gives what is pending and due, the oldest first, at most
// so many.
func (tx *Tx) PendingNotifications(due time.Time, limit int) ([]Notification, error) {
	return all(tx, "list pending notifications", scanNotification,
		"SELECT "+notificationColumns+" FROM outbox WHERE state = 'pending' AND next_at <= ? ORDER BY position LIMIT ?", millis(due), limit)
}

// TargetQueues gives the queues of all targets that exist.
func (tx *Tx) TargetQueues() ([]TargetQueue, error) {
	return all(tx, "list target queues", func(s scanner) (TargetQueue, error) {
		var q TargetQueue
		err := s.Scan(&q.TargetID, &q.Pending, &q.Dead, &q.LastError)
		return q, err
	}, `SELECT r.id,
			(SELECT count(*) FROM outbox n WHERE n.state = 'pending' AND n.target_id = r.id),
			(SELECT count(*) FROM outbox n WHERE n.state = 'dead' AND n.target_id = r.id),
			coalesce((SELECT error FROM outbox n WHERE n.target_id = r.id AND n.attempts > 0 ORDER BY position DESC LIMIT 1), '')
		FROM resources r WHERE r.kind = 'Target' ORDER BY r.id`)
}

// QueueAge gives when the oldest notification that is due and not tried yet was
// made; zero when there is none.
func (tx *Tx) QueueAge(now time.Time) (time.Time, error) {
	return one(tx, "read the queue's age", func(s scanner) (time.Time, error) {
		var at sql.NullInt64
		err := s.Scan(&at)
		return fromMillis(at), err
	}, "SELECT min(created_at) FROM outbox WHERE state = 'pending' AND attempts = 0 AND next_at <= ?", millis(now))
}
