package incident

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// ReopenWithin is how long after its end an incident is opened again instead
// of a new one.
const ReopenWithin = 15 * time.Minute

// GiveUpAfter is how long a notification is tried.
const GiveUpAfter = 24 * time.Hour

// maxMessageAlerts bounds how many alerts are put into a message at all.
const maxMessageAlerts = 500

// Target is what the book needs of a target.
type Target struct {
	ID       string
	Name     string
	MaxBytes int
}

// Book writes incidents, threads and outbox rows.
type Book struct {
	Links Links
	// Targets are those that exist now, asked once a settlement.
	Targets func() []Target
	// ClusterName gives a cluster's display name.
	ClusterName func(id string) string
}

// State is what of an incident is stored as JSON.
type State struct {
	Title    string            `json:"title"`
	Labels   map[string]string `json:"labels,omitempty"`
	Reopened int               `json:"reopened,omitempty"`
	Cause    string            `json:"cause,omitempty"`
	Object   Object            `json:"object"` // of the worst alert
	Subject  string            `json:"subject"`
}

// thread is what of a meta.Thread is stored as JSON.
type thread struct {
	Open      bool           `json:"open"`
	Told      map[string]int `json:"told"`             // firing alerts of the newest message → rank of their severity
	Since     time.Time      `json:"since,omitzero"`   // when the present episode began
	SentAt    time.Time      `json:"sent_at,omitzero"` // of the newest message
	WaitSince time.Time      `json:"wait_since,omitzero"`
}

// NewID makes a ULID with a kind's prefix: inc_, alt_, ntf_, pol_, tgt_.
func NewID(prefix string, now time.Time) string {
	return prefix + ulid.MustNew(ulid.Timestamp(now), rand.Reader).String()
}

// Apply stores alerts that began, changed or ended at now, and everything that
// follows: their incidents, their threads, and what is due to be told. An alert
// without an incident gets one. It reports whether the outbox has new rows.
func (b *Book) Apply(tx *meta.Tx, now time.Time, alerts []*Alert) (told bool, err error) {
	var touched []string
	for _, a := range alerts {
		if a.IncidentID == "" {
			if a.IncidentID, err = b.incidentFor(tx, now, a); err != nil {
				return false, err
			}
		}
		row, err := a.Row()
		if err != nil {
			return false, err
		}
		if err := tx.PutAlert(row); err != nil {
			return false, err
		}
		if !slices.Contains(touched, a.IncidentID) {
			touched = append(touched, a.IncidentID)
		}
	}
	for _, id := range touched {
		t, err := b.settle(tx, now, id)
		if err != nil {
			return false, err
		}
		told = told || t
	}
	return told, nil
}

// Flush tells what is due by time: first messages whose wait is over, and
// updates that were held back.
func (b *Book) Flush(tx *meta.Tx, now time.Time) (told bool, err error) {
	ids, err := tx.ThreadsDue(now)
	if err != nil {
		return false, err
	}
	for _, id := range ids {
		t, err := b.settle(tx, now, id)
		if err != nil {
			return false, err
		}
		told = told || t
	}
	return told, nil
}

// incidentFor finds the incident of a new alert, or makes one.
func (b *Book) incidentFor(tx *meta.Tx, now time.Time, a *Alert) (string, error) {
	key := a.GroupKey()
	found, err := tx.IncidentOfGroup(key, now.Add(-ReopenWithin))
	switch {
	case err == nil && found.State == meta.IncidentOpen:
		return found.ID, nil
	case err == nil:
		var st State
		if err := json.Unmarshal(found.Data, &st); err != nil {
			return "", fmt.Errorf("read incident %s: %w", found.ID, err)
		}
		st.Reopened++
		st.Cause = ""
		found.State, found.EndedAt = meta.IncidentOpen, time.Time{}
		return found.ID, putIncident(tx, found, st)
	case !errors.Is(err, fault.ErrNotFound):
		return "", err
	}
	inc := meta.Incident{
		ID: NewID("inc_", now), GroupKey: key, Cluster: a.Object.Cluster, State: meta.IncidentOpen, Severity: string(a.Severity), StartedAt: a.StartedAt,
	}
	return inc.ID, putIncident(tx, inc, State{Title: a.title(), Subject: a.subject(), Object: a.Object, Labels: a.Labels})
}

func putIncident(tx *meta.Tx, i meta.Incident, st State) error {
	data, err := json.Marshal(st)
	if err != nil {
		return fmt.Errorf("save incident %s: %w", i.ID, err)
	}
	i.Data = data
	return tx.PutIncident(i)
}

// settle brings an incident and its threads up to its alerts.
func (b *Book) settle(tx *meta.Tx, now time.Time, id string) (told bool, err error) {
	inc, err := tx.Incident(id)
	if err != nil {
		return false, err
	}
	var st State
	if err := json.Unmarshal(inc.Data, &st); err != nil {
		return false, fmt.Errorf("read incident %s: %w", id, err)
	}
	rows, err := tx.AlertsOf(id)
	if err != nil {
		return false, err
	}
	alerts := make([]*Alert, len(rows))
	for i, r := range rows {
		if alerts[i], err = FromRow(r); err != nil {
			return false, err
		}
	}
	b.summarize(&inc, &st, alerts, now)
	if err := putIncident(tx, inc, st); err != nil {
		return false, err
	}
	return b.threads(tx, now, inc, st, alerts)
}

// summarize derives the incident from its alerts.
func (b *Book) summarize(inc *meta.Incident, st *State, alerts []*Alert, now time.Time) {
	var worst, last *Alert
	for _, a := range alerts {
		if a.Firing && (worst == nil || a.Severity.Rank() > worst.Severity.Rank()) {
			worst = a
		}
		if !a.Firing && (last == nil || !a.EndedAt.Before(last.EndedAt)) {
			last = a
		}
	}
	if worst == nil {
		if inc.State == meta.IncidentOpen && last != nil {
			inc.State, inc.EndedAt, st.Cause = meta.IncidentResolved, now, string(last.Cause)
		}
		return
	}
	inc.State, inc.EndedAt, inc.Severity, st.Cause = meta.IncidentOpen, time.Time{}, string(worst.Severity), ""
	st.Title, st.Object, st.Subject = worst.title(), worst.Object, worst.subject()
	st.Labels = map[string]string{}
	for _, a := range alerts {
		if a.Firing {
			maps.Copy(st.Labels, a.Labels)
		}
	}
	maps.Copy(st.Labels, worst.Labels) // the worst one has the last word
}

// threads finds out what each target is due to be told.
func (b *Book) threads(tx *meta.Tx, now time.Time, inc meta.Incident, st State, alerts []*Alert) (told bool, err error) {
	rows, err := tx.ThreadsOf(inc.ID)
	if err != nil {
		return false, err
	}
	byTarget := map[string]meta.Thread{}
	for _, r := range rows {
		byTarget[r.TargetID] = r
	}
	targets := map[string]Target{}
	for _, t := range b.Targets() {
		_, told := byTarget[t.ID] // who was told of the beginning is told of the end, whatever the policy says now
		named := func(a *Alert) bool {
			return slices.ContainsFunc(a.Targets, func(r policy.TargetRef) bool { return r.Name == t.Name })
		}
		if told || slices.ContainsFunc(alerts, named) {
			targets[t.ID] = t
		}
	}
	for _, targetID := range slices.Sorted(maps.Keys(targets)) {
		target := targets[targetID]
		row, ok := byTarget[targetID]
		if !ok {
			row = meta.Thread{IncidentID: inc.ID, TargetID: targetID}
		}
		t, err := b.thread(tx, now, inc, st, alerts, target, row)
		if err != nil {
			return false, err
		}
		told = told || t
	}
	// What a deleted target had due cannot be told.
	for _, r := range rows {
		if _, ok := targets[r.TargetID]; !ok && !r.FlushAt.IsZero() {
			r.FlushAt = time.Time{}
			if err := tx.PutThread(r); err != nil {
				return false, err
			}
		}
	}
	return told, nil
}

func (b *Book) thread(tx *meta.Tx, now time.Time, inc meta.Incident, st State, alerts []*Alert, target Target, row meta.Thread) (told bool, err error) {
	var th thread
	if row.Data != nil {
		if err := json.Unmarshal(row.Data, &th); err != nil {
			return false, fmt.Errorf("read thread of %s: %w", inc.ID, err)
		}
	}
	members := membersOf(alerts, target.Name, th.Told)
	typ, due := th.next(members, now)
	if due.IsZero() && row.FlushAt.IsZero() && row.Sequence == 0 && row.Data == nil {
		return false, nil // nothing was ever to be told here
	}
	row.FlushAt = time.Time{}
	if !due.IsZero() && due.After(now) {
		row.FlushAt = due
	}
	if !due.IsZero() && !due.After(now) {
		if err := b.tell(tx, now, inc, st, target, &row, &th, typ, members); err != nil {
			return false, err
		}
		told = true
	}
	if row.Data, err = json.Marshal(th); err != nil {
		return false, fmt.Errorf("save thread of %s: %w", inc.ID, err)
	}
	return told, tx.PutThread(row)
}

// membersOf gives the alerts that go to a target: those whose severity it asks
// for, and those that it was told of, which it must see end.
func membersOf(alerts []*Alert, target string, told map[string]int) []*Alert {
	var out []*Alert
	for _, a := range alerts {
		i := slices.IndexFunc(a.Targets, func(r policy.TargetRef) bool { return r.Name == target })
		_, wasTold := told[a.ID]
		if wasTold || (i >= 0 && (len(a.Targets[i].Severities) == 0 || slices.Contains(a.Targets[i].Severities, string(a.Severity)))) {
			out = append(out, a)
		}
	}
	return out
}

// next says what is due to be told, and when; zero: nothing. It notes since
// when a first message waits.
func (th *thread) next(members []*Alert, now time.Time) (Type, time.Time) {
	firing := map[string]int{}
	wait, interval := time.Duration(-1), time.Duration(-1)
	for _, a := range members {
		if !a.Firing {
			continue
		}
		firing[a.ID] = a.Severity.Rank()
		wait, interval = shorter(wait, a.Group.Wait), shorter(interval, a.Group.Interval)
	}
	switch {
	case !th.Open && len(firing) == 0:
		th.WaitSince = time.Time{}
		return "", time.Time{}
	case !th.Open:
		if th.WaitSince.IsZero() {
			th.WaitSince = now
		}
		return Firing, th.WaitSince.Add(wait)
	case len(firing) == 0:
		return Resolved, now
	case worstOf(firing) != worstOf(th.Told):
		return Severity, now
	case !maps.Equal(keysOf(firing), keysOf(th.Told)):
		return Updated, th.SentAt.Add(interval)
	}
	return "", time.Time{}
}

func shorter(a, b time.Duration) time.Duration {
	if a < 0 || b < a {
		return b
	}
	return a
}

func worstOf(ranks map[string]int) int {
	worst := 0
	for _, r := range ranks {
		worst = max(worst, r)
	}
	return worst
}

func keysOf(m map[string]int) map[string]struct{} {
	out := make(map[string]struct{}, len(m))
	for k := range m {
		out[k] = struct{}{}
	}
	return out
}

// tell writes the message into the outbox and what it said into the thread.
func (b *Book) tell(tx *meta.Tx, now time.Time, inc meta.Incident, st State, target Target, row *meta.Thread, th *thread, typ Type, members []*Alert) error {
	if typ == Firing {
		th.Since = th.WaitSince
		for _, a := range members { // the episode begins with its first alert
			if a.Firing && a.StartedAt.Before(th.Since) {
				th.Since = a.StartedAt
			}
		}
	}
	before := worstOf(th.Told)
	th.Told = map[string]int{}
	m := Message{Version: Version, ID: NewID("ntf_", now), Type: typ, Timestamp: Time(now), Sequence: row.Sequence + 1, Alerts: []MessageAlert{}}
	worst, worstEver := 0, before
	var last *Alert
	for _, a := range members {
		if a.Firing {
			th.Told[a.ID] = a.Severity.Rank()
			worst = max(worst, a.Severity.Rank())
		} else {
			if a.EndedAt.Before(th.Since) {
				continue // of an earlier episode
			}
			if last == nil || !a.EndedAt.Before(last.EndedAt) {
				last = a
			}
		}
		worstEver = max(worstEver, a.Severity.Rank())
		if len(m.Alerts) < maxMessageAlerts {
			m.Alerts = append(m.Alerts, a.View(b.Links))
		} else {
			m.Truncated.Alerts++
		}
	}
	m.Incident = MessageIncident{
		ID: inc.ID, URL: b.Links.Incident(inc.ID), Title: st.Title, State: "open", Cluster: MessageCluster{ID: inc.Cluster, Name: b.ClusterName(inc.Cluster)},
		StartedAt: Time(inc.StartedAt), Reopened: st.Reopened, Labels: orEmpty(st.Labels), Severity: severityOf(worst),
	}
	th.Open, th.SentAt, th.WaitSince = typ != Resolved, now, time.Time{}
	switch typ {
	case Resolved:
		m.Incident.State, m.Incident.Severity, m.Incident.EndedAt = "resolved", severityOf(worstEver), timeOrNull(now)
		if last != nil {
			cause := string(last.Cause)
			m.Incident.Cause, m.Incident.EndedAt = &cause, timeOrNull(last.EndedAt)
		}
	case Severity:
		previous := severityOf(before)
		m.Incident.PreviousSeverity = &previous
	}
	body, err := m.Encode(target.MaxBytes)
	if err != nil {
		return fmt.Errorf("write message for %s: %w", inc.ID, err)
	}
	// Updates that wait say less than this one.
	if err := tx.Supersede(inc.ID, target.ID, string(Updated), now); err != nil {
		return err
	}
	row.Sequence++
	return tx.Enqueue(meta.Notification{
		ID: m.ID, IncidentID: inc.ID, TargetID: target.ID, Type: string(typ), Sequence: row.Sequence, Body: body,
		CreatedAt: now, NextAt: now, GiveUpAt: now.Add(GiveUpAfter),
	})
}

func severityOf(rank int) string {
	if rank < 1 {
		return string(catalogue.Info)
	}
	return string(catalogue.Severities[rank-1])
}
