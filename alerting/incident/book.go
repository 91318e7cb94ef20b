package incident

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/alerting/routing"
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
	Webhook  bool     // it is one, not a chat or a mailbox
	Evidence []string // kinds of evidence that its messages carry; empty: by its type
}

// Book writes incidents, threads and outbox rows.
type Book struct {
	Links Links
	// Targets are those that exist now, asked once a settlement.
	Targets func() []Target
	// ClusterName gives a cluster's display name.
	ClusterName func(id string) string
	// Routing says what mutes; nil: nothing does.
	Routing func() *routing.Set
	// Firing are all alerts that fire, those that are applied now included.
	Firing func() []routing.Facts
	// Tickets gives the paths by which a target may acknowledge and silence an
	// incident without more; nil: messages carry none.
	Tickets func(incident, notification, target string, now time.Time) (acknowledge, silence string)

	among struct { // what fires, prepared
		set     *routing.Set
		of      []routing.Facts
		sources routing.Sources
	}
	summaries map[string][]*Alert // of one call: what began and ended muted, by target id
}

// State is what of an incident is stored as JSON.
type State struct {
	Title    string            `json:"title"`
	Labels   map[string]string `json:"labels,omitempty"`
	Reopened int               `json:"reopened,omitempty"`
	Cause    string            `json:"cause,omitempty"`
	Object   Object            `json:"object"` // of the worst alert
	Subject  string            `json:"subject"`
	Ack      *Ack              `json:"ack,omitempty"`
	// Climbs are how far the escalations of the alerts that fire have come.
	Climbs map[string]*climb `json:"climbs,omitempty"`
	// Escalated are the targets that were told by escalation.
	Escalated []policy.TargetRef `json:"escalated,omitempty"`
	Muted     []routing.Muting   `json:"muted,omitempty"` // what mutes all that fires
}

// climb is the escalation of one alert.
type climb struct {
	Since  time.Time     `json:"since"`            // when it was first told
	Seen   time.Time     `json:"seen"`             // when it was last looked at
	Paused time.Duration `json:"paused,omitempty"` // while muted or stale
	// Pausing: it was so when last looked at, and counts until the next look.
	Pausing bool `json:"pausing,omitempty"`
	Step    int  `json:"step"` // of the next
}

// thread is what of a meta.Thread is stored as JSON.
type thread struct {
	Open      bool           `json:"open"`
	Told      map[string]int `json:"told"`             // firing alerts of the newest message → rank of their severity
	Since     time.Time      `json:"since,omitzero"`   // when the present episode began
	SentAt    time.Time      `json:"sent_at,omitzero"` // of the newest message
	WaitSince time.Time      `json:"wait_since,omitzero"`
	// Over are alerts of the present episode that ended, and that the target knows
	// of by escalation or by a severity that they had only for a while.
	Over map[string]bool `json:"over,omitempty"`
	// Held are alerts that were never told because they were muted.
	Held      map[string]bool `json:"held,omitempty"`
	Reminders int             `json:"reminders,omitempty"` // since the newest message that was none
	Acked     time.Time       `json:"acked,omitzero"`      // the acknowledgement that was told
	Bare      map[string]bool `json:"bare,omitempty"`      // alerts told before their evidence was there
}

// mutedLook is how often it is looked whether what mutes without an end still
// does, and whether an escalation has come to pause.
const mutedLook = 30 * time.Second

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
		typ := ""
		if !a.Firing {
			typ = EventEnded
		}
		if a.IncidentID == "" {
			if a.IncidentID, err = b.incidentFor(tx, now, a); err != nil {
				return false, err
			}
			typ = EventBegan
		}
		if typ != "" {
			if err := note(tx, now, a.IncidentID, typ, "", a.line()); err != nil {
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
		if a.Found != nil {
			if err := keepEvidence(tx, a.ID, a.Found); err != nil {
				return false, err
			}
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
	t, err := b.unmuted(tx, now)
	return told || t, err
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
	t, err := b.unmuted(tx, now)
	return told || t, err
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
		if err := putIncident(tx, found, st); err != nil {
			return "", err
		}
		return found.ID, note(tx, now, found.ID, EventReopened, "", "")
	case !errors.Is(err, fault.ErrNotFound):
		return "", err
	}
	inc := meta.Incident{
		ID: NewID("inc_", now), GroupKey: key, Cluster: a.Object.Cluster, State: meta.IncidentOpen, Severity: string(a.Severity), StartedAt: a.StartedAt,
	}
	if err := putIncident(tx, inc, State{Title: a.title(), Subject: a.subject(), Object: a.Object, Labels: a.Labels}); err != nil {
		return "", err
	}
	return inc.ID, note(tx, now, inc.ID, EventOpened, "", a.title())
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
	before := inc
	b.summarize(&inc, &st, alerts, now)
	switch {
	case before.State != inc.State && inc.State == meta.IncidentResolved:
		err = note(tx, now, id, EventResolved, "", st.Cause)
	case before.Severity != inc.Severity && before.State == meta.IncidentOpen:
		err = note(tx, now, id, EventSeverity, "", before.Severity+" → "+inc.Severity)
	}
	if err != nil {
		return false, err
	}
	if err := b.lapse(tx, now, id, &st, alerts); err != nil {
		return false, err
	}
	muted := b.muted(alerts, now)
	if err := b.muting(tx, now, id, &st, alerts, muted); err != nil {
		return false, err
	}
	due, err := b.escalate(tx, now, id, &st, alerts, muted)
	if err != nil {
		return false, err
	}
	if err := putIncident(tx, inc, st); err != nil {
		return false, err
	}
	return b.threads(tx, now, inc, st, alerts, muted, due)
}

// muted gives what mutes each alert.
func (b *Book) muted(alerts []*Alert, now time.Time) map[string][]routing.Muting {
	if b.Routing == nil {
		return nil
	}
	set := b.Routing()
	if set == nil {
		return nil
	}
	var firing []routing.Facts
	if b.Firing != nil {
		firing = b.Firing()
	}
	// Within one transaction it is the same list again and again.
	if b.among.set != set || len(firing) == 0 || len(b.among.of) != len(firing) || &b.among.of[0] != &firing[0] {
		b.among.set, b.among.of, b.among.sources = set, firing, set.Sources(firing)
	}
	out := map[string][]routing.Muting{}
	for _, a := range alerts {
		if m := set.MutedAmong(a.Facts(), b.among.sources, now); len(m) > 0 {
			out[a.ID] = m
		}
	}
	return out
}

// muting notes whether all that fires is muted, and by what.
func (b *Book) muting(tx *meta.Tx, now time.Time, id string, st *State, alerts []*Alert, muted map[string][]routing.Muting) error {
	var by []routing.Muting
	for _, a := range alerts {
		if !a.Firing {
			continue
		}
		if len(muted[a.ID]) == 0 {
			by = nil
			break
		}
		for _, m := range muted[a.ID] {
			if !slices.Contains(by, m) {
				by = append(by, m)
			}
		}
	}
	was := len(st.Muted) > 0
	st.Muted = by
	switch {
	case !was && len(by) > 0:
		return note(tx, now, id, EventMuted, "", by[0].Kind+" "+by[0].Name)
	case was && len(by) == 0:
		return note(tx, now, id, EventUnmuted, "", "")
	}
	return nil
}

// escalate takes the steps that are due, and says when the next is.
func (b *Book) escalate(tx *meta.Tx, now time.Time, id string, st *State, alerts []*Alert, muted map[string][]routing.Muting) (due time.Time, err error) {
	if st.Climbs == nil {
		st.Climbs = map[string]*climb{}
	}
	firing := map[string]bool{}
	for _, a := range alerts {
		if !a.Firing || len(a.Escalate) == 0 {
			continue
		}
		firing[a.ID] = true
		c := st.Climbs[a.ID]
		paused := len(muted[a.ID]) > 0 || a.Stale
		if c == nil {
			if paused {
				continue // it counts from firing, and that was not told
			}
			c = &climb{Since: now, Seen: now}
			st.Climbs[a.ID] = c
		}
		if c.Pausing {
			c.Paused += now.Sub(c.Seen)
		}
		c.Seen, c.Pausing = now, paused
		if paused || st.Ack != nil {
			continue
		}
		for c.Step < len(a.Escalate) {
			at := c.Since.Add(a.Escalate[c.Step].After.D() + c.Paused)
			if at.After(now) { // meanwhile it may be muted, or its source fall silent
				due = sooner(sooner(due, at), now.Add(mutedLook))
				break
			}
			for _, t := range a.Escalate[c.Step].Targets {
				if !slices.ContainsFunc(st.Escalated, func(o policy.TargetRef) bool { return o.Name == t.Name }) {
					st.Escalated = append(st.Escalated, t)
				}
				if err := note(tx, now, id, EventEscalated, "", t.Name); err != nil {
					return due, err
				}
			}
			c.Step++
		}
	}
	for id := range st.Climbs {
		if !firing[id] {
			delete(st.Climbs, id)
		}
	}
	if len(firing) == 0 && len(st.Escalated) > 0 && !slices.ContainsFunc(alerts, func(a *Alert) bool { return a.Firing }) {
		st.Escalated = nil // threads that are open still end
	}
	return due, nil
}

// sooner of two times, of which zero is none.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
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
		if inc.State == meta.IncidentOpen && last != nil && !held(alerts).After(now) {
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

// held is until when ended alerts keep their incident open: what replaced their
// objects was not judged yet.
func held(alerts []*Alert) (until time.Time) {
	for _, a := range alerts {
		if !a.Firing && a.HoldUntil.After(until) {
			until = a.HoldUntil
		}
	}
	return until
}

// threads finds out what each target is due to be told.
func (b *Book) threads(tx *meta.Tx, now time.Time, inc meta.Incident, st State, alerts []*Alert, muted map[string][]routing.Muting, escalation time.Time) (told bool, err error) {
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
		is := func(r policy.TargetRef) bool { return r.Name == t.Name }
		named := func(a *Alert) bool { return slices.ContainsFunc(a.Targets, is) }
		if told || slices.ContainsFunc(alerts, named) || slices.ContainsFunc(st.Escalated, is) {
			targets[t.ID] = t
		}
	}
	for _, targetID := range slices.Sorted(maps.Keys(targets)) {
		row, ok := byTarget[targetID]
		if !ok {
			row = meta.Thread{IncidentID: inc.ID, TargetID: targetID}
		}
		t, err := b.thread(tx, now, inc, st, alerts, muted, targets[targetID], row, escalation)
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

func (b *Book) thread(tx *meta.Tx, now time.Time, inc meta.Incident, st State, alerts []*Alert, muted map[string][]routing.Muting, target Target, row meta.Thread, escalation time.Time) (told bool, err error) {
	var th thread
	if row.Data != nil {
		if err := json.Unmarshal(row.Data, &th); err != nil {
			return false, fmt.Errorf("read thread of %s: %w", inc.ID, err)
		}
	}
	members := membersOf(alerts, target.Name, th, st.Escalated)
	view := th.look(members, muted, now)
	view.hold = held(alerts)
	for _, a := range view.loud {
		if !th.Bare[a.ID] {
			continue
		}
		found, err := AroundOf(tx, a.ID)
		if err != nil {
			return false, err
		}
		view.late = view.late || (found != nil && !found.nothing())
	}
	for _, a := range view.missed {
		if b.summaries == nil {
			b.summaries = map[string][]*Alert{}
		}
		b.summaries[target.ID] = append(b.summaries[target.ID], a)
	}
	typ, due := th.next(view, st, now)
	if typ == Firing && !slices.ContainsFunc(view.told, func(a *Alert) bool { return a.names(target.Name) }) {
		typ, due = Escalated, now
	}
	wake := view.wake
	if th.Open || typ != "" {
		wake = sooner(wake, escalation)
		if st.Ack != nil {
			wake = sooner(wake, st.Ack.Until)
		}
	}
	if due.IsZero() && wake.IsZero() && row.FlushAt.IsZero() && row.Sequence == 0 && row.Data == nil {
		return false, nil // nothing was ever to be told here
	}
	row.FlushAt = wake
	if !due.IsZero() && due.After(now) {
		row.FlushAt = sooner(wake, due)
	}
	if !due.IsZero() && !due.After(now) {
		if err := b.tell(tx, now, inc, st, target, &row, &th, typ, view); err != nil {
			return false, err
		}
		told = true
		// What is due after this message, as a reminder, counts from it.
		if _, next := th.next(th.look(members, muted, now), st, now); next.After(now) {
			row.FlushAt = sooner(row.FlushAt, next)
		}
	}
	if row.Data, err = json.Marshal(th); err != nil {
		return false, fmt.Errorf("save thread of %s: %w", inc.ID, err)
	}
	return told, tx.PutThread(row)
}

// names tells whether the alert's own targets have the name.
func (a *Alert) names(target string) bool {
	return slices.ContainsFunc(a.Targets, func(r policy.TargetRef) bool { return r.Name == target })
}

// membersOf gives the alerts that go to a target: those whose severity it asks
// for, and those that it was told of, which it must see end.
func membersOf(alerts []*Alert, target string, th thread, escalated []policy.TargetRef) []*Alert {
	var out []*Alert
	for _, a := range alerts {
		_, wasTold := th.Told[a.ID]
		if wasTold || th.Over[a.ID] || th.Held[a.ID] || asks(a.Targets, target, a) || (a.Firing && asks(escalated, target, a)) {
			out = append(out, a)
		}
	}
	return out
}

// view is a thread's members as its target may see them now.
type view struct {
	told   []*Alert       // what a message shows
	firing map[string]int // of these, what fires → rank; of what is muted the one that was told
	loud   []*Alert       // of these, what fires and is not muted
	missed []*Alert       // began and ended muted, which is over now
	wake   time.Time      // when muting may be over
	hold   time.Time      // until when its end waits
	late   bool           // evidence is there that was not when it was told
}

// look sorts the members by whether they are muted.
func (th *thread) look(members []*Alert, muted map[string][]routing.Muting, now time.Time) view {
	v := view{firing: map[string]int{}}
	for _, a := range members {
		rank, wasTold := th.Told[a.ID]
		by := muted[a.ID]
		if len(by) > 0 && (a.Firing || th.Held[a.ID]) {
			until := now.Add(mutedLook)
			for _, m := range by {
				if !m.Until.IsZero() && m.Until.After(now) {
					until = sooner(until, m.Until)
				}
			}
			v.wake = sooner(v.wake, until)
		}
		switch {
		case a.Firing && len(by) > 0 && wasTold:
			v.told = append(v.told, a)
			v.firing[a.ID] = rank
		case a.Firing && len(by) > 0:
			if th.Held == nil {
				th.Held = map[string]bool{}
			}
			th.Held[a.ID] = true
		case a.Firing:
			delete(th.Held, a.ID)
			v.told, v.loud = append(v.told, a), append(v.loud, a)
			v.firing[a.ID] = a.Severity.Rank()
		case th.Held[a.ID] && len(by) > 0:
		case th.Held[a.ID]:
			delete(th.Held, a.ID)
			v.missed = append(v.missed, a)
		default:
			v.told = append(v.told, a)
		}
	}
	return v
}

// next says what is due to be told, and when; zero: nothing. It notes since
// when a first message waits.
func (th *thread) next(v view, st State, now time.Time) (Type, time.Time) {
	wait, interval := time.Duration(-1), time.Duration(-1)
	for _, a := range v.loud {
		wait, interval = shorter(wait, a.Group.Wait), shorter(interval, a.Group.Interval)
	}
	switch {
	case !th.Open && len(v.loud) == 0:
		th.WaitSince = time.Time{}
		return "", time.Time{}
	case !th.Open:
		if th.WaitSince.IsZero() {
			th.WaitSince = now
		}
		return Firing, th.WaitSince.Add(wait)
	case len(v.firing) == 0 && v.hold.After(now):
		return Resolved, v.hold
	case len(v.firing) == 0:
		return Resolved, now
	case len(v.loud) == 0:
		return "", time.Time{} // all that still fires is muted
	case worstOf(v.firing) != worstOf(th.Told):
		return Severity, now
	case st.Ack != nil && !th.Acked.Equal(st.Ack.At):
		return Acknowledged, now
	case !maps.Equal(keysOf(v.firing), keysOf(th.Told)):
		return Updated, th.SentAt.Add(interval)
	case v.late:
		return Updated, th.SentAt.Add(min(lateGap, interval))
	}
	return th.reminder(v, st)
}

// reminder says when the next one is due.
func (th *thread) reminder(v view, st State) (Type, time.Time) {
	var due time.Time
	for _, a := range v.loud {
		if a.Repeat == nil || a.Stale || st.Ack != nil {
			continue
		}
		every := float64(a.Repeat.Every.D()) * math.Pow(max(1, a.Repeat.Backoff), float64(th.Reminders))
		due = sooner(due, th.SentAt.Add(time.Duration(min(every, float64(a.Repeat.Max.D())))))
	}
	if due.IsZero() {
		return "", due
	}
	return Reminder, due
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
func (b *Book) tell(tx *meta.Tx, now time.Time, inc meta.Incident, st State, target Target, row *meta.Thread, th *thread, typ Type, v view) error {
	if typ == Firing || typ == Escalated {
		th.Over = nil
		if th.Since = th.WaitSince; th.Since.IsZero() {
			th.Since = now
		}
		for _, a := range v.told { // the episode begins with its first alert
			if a.Firing && a.StartedAt.Before(th.Since) {
				th.Since = a.StartedAt
			}
		}
	}
	before := worstOf(th.Told)
	th.Told, th.Bare = map[string]int{}, nil
	m := Message{Version: Version, ID: NewID("ntf_", now), Type: typ, Timestamp: Time(now), Sequence: row.Sequence + 1, Alerts: []MessageAlert{}}
	worst, worstEver := 0, before
	var last *Alert
	for _, a := range v.told {
		if rank, fires := v.firing[a.ID]; fires {
			th.Told[a.ID] = rank
			worst = max(worst, rank)
		} else {
			if a.EndedAt.Before(th.Since) {
				continue // of an earlier episode
			}
			if !asks(a.Targets, target.Name, a) {
				if th.Over == nil {
					th.Over = map[string]bool{}
				}
				th.Over[a.ID] = true
			}
			if last == nil || !a.EndedAt.Before(last.EndedAt) {
				last = a
			}
		}
		worstEver = max(worstEver, a.Severity.Rank())
		if len(m.Alerts) == maxMessageAlerts {
			m.Truncated.Alerts++
			continue
		}
		shown := a.View(b.Links)
		complete, err := target.show(tx, a, &shown)
		if err != nil {
			return err
		}
		if !complete && a.Firing {
			if th.Bare == nil {
				th.Bare = map[string]bool{}
			}
			th.Bare[a.ID] = true
		}
		m.Alerts = append(m.Alerts, shown)
	}
	m.Incident = MessageIncident{
		ID: inc.ID, URL: b.Links.Incident(inc.ID), Title: st.Title, State: "open", Cluster: MessageCluster{ID: inc.Cluster, Name: b.ClusterName(inc.Cluster)},
		StartedAt: Time(inc.StartedAt), Reopened: st.Reopened, Labels: orEmpty(st.Labels), Severity: severityOf(worst),
	}
	if b.Tickets != nil && typ != Resolved {
		acknowledge, silence := b.Tickets(inc.ID, m.ID, target.Name, now)
		m.Incident.AcknowledgeURL, m.Incident.SilenceURL = b.Links.Base+acknowledge, b.Links.Base+silence
	}
	th.Open, th.SentAt, th.WaitSince = typ != Resolved, now, time.Time{}
	if st.Ack != nil {
		by := st.Ack.By
		m.Incident.AcknowledgedBy, m.Incident.State, th.Acked = &by, "acknowledged", st.Ack.At
	}
	if th.Reminders++; typ != Reminder {
		th.Reminders = 0
	}
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
	// Updates and reminders that wait say less than this one.
	for _, old := range []Type{Updated, Reminder} {
		if err := tx.Supersede(inc.ID, target.ID, string(old), now); err != nil {
			return err
		}
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

// unmuted tells each target once of what began and ended while it was muted.
func (b *Book) unmuted(tx *meta.Tx, now time.Time) (told bool, err error) {
	summaries := b.summaries
	b.summaries = nil
	return b.summarise(tx, now, summaries, "While muted", 0)
}

// summarise tells each target once of what began and ended; left more alerts are
// only counted.
func (b *Book) summarise(tx *meta.Tx, now time.Time, summaries map[string][]*Alert, while string, left int) (told bool, err error) {
	for _, t := range b.Targets() {
		alerts := summaries[t.ID]
		if len(alerts) == 0 {
			continue
		}
		m := Message{Version: Version, ID: NewID("ntf_", now), Type: Summary, Timestamp: Time(now), Sequence: 1, Alerts: []MessageAlert{}, Truncated: Truncated{Alerts: left}}
		first, last, worst := alerts[0].StartedAt, alerts[0].EndedAt, 0
		for _, a := range alerts {
			if a.StartedAt.Before(first) {
				first = a.StartedAt
			}
			if a.EndedAt.After(last) {
				last = a.EndedAt
			}
			worst = max(worst, a.Severity.Rank())
			if len(m.Alerts) < maxMessageAlerts {
				m.Alerts = append(m.Alerts, a.View(b.Links))
			} else {
				m.Truncated.Alerts++
			}
		}
		cluster := alerts[0].Object.Cluster
		m.Incident = MessageIncident{
			URL: b.Links.Base + "/incidents", Title: fmt.Sprintf("%s: %d alerts began and ended", while, len(alerts)+left), State: "resolved", Severity: severityOf(worst),
			Cluster: MessageCluster{ID: cluster, Name: b.ClusterName(cluster)}, StartedAt: Time(first), EndedAt: timeOrNull(last), Labels: map[string]string{},
		}
		body, err := m.Encode(t.MaxBytes)
		if err != nil {
			return told, fmt.Errorf("write summary: %w", err)
		}
		if err := tx.Enqueue(meta.Notification{
			ID: m.ID, TargetID: t.ID, Type: string(Summary), Sequence: 1, Body: body, CreatedAt: now, NextAt: now, GiveUpAt: now.Add(GiveUpAfter),
		}); err != nil {
			return told, err
		}
		told = true
	}
	return told, nil
}

func rankOf(severity string) int { return catalogue.Severity(severity).Rank() }

// Shift moves all deadlines, when the wall clock was set by so much: they count
// what passed, not what the clock shows.
func (b *Book) Shift(tx *meta.Tx, by time.Duration) error {
	open, err := tx.Incidents(meta.IncidentFilter{State: meta.IncidentOpen, Limit: math.MaxInt32})
	if err != nil {
		return err
	}
	move := func(t *time.Time) {
		if !t.IsZero() {
			*t = t.Add(by)
		}
	}
	for _, inc := range open {
		st, err := stateOf(inc)
		if err != nil {
			return err
		}
		for _, c := range st.Climbs {
			move(&c.Since)
			move(&c.Seen)
		}
		if st.Ack != nil {
			move(&st.Ack.Until)
		}
		if err := putIncident(tx, inc, st); err != nil {
			return err
		}
		rows, err := tx.ThreadsOf(inc.ID)
		if err != nil {
			return err
		}
		for _, row := range rows {
			var th thread
			if err := json.Unmarshal(row.Data, &th); err != nil {
				return fmt.Errorf("read thread of %s: %w", inc.ID, err)
			}
			move(&th.SentAt)
			move(&th.WaitSince)
			move(&row.FlushAt)
			if row.Data, err = json.Marshal(th); err != nil {
				return fmt.Errorf("save thread of %s: %w", inc.ID, err)
			}
			if err := tx.PutThread(row); err != nil {
				return err
			}
		}
	}
	return nil
}

// line tells of an alert in a timeline.
func (a *Alert) line() string {
	text := fmt.Sprintf("%s: %s (%s)", a.Policy.Name, a.title(), a.Severity)
	if name := a.own(); name != "" {
		text = fmt.Sprintf("%s: %s: %s (%s)", a.Policy.Name, name, a.Title, a.Severity)
	}
	if a.Cause != "" {
		text += ": " + CauseWords(a.Cause)
	}
	return text
}

// own is what tells an alert from others of its incident, which is named for
// what they have in common: the pod, the container, the dimensions.
func (a *Alert) own() string {
	parts := []string{}
	switch o := a.Object; {
	case o.Container != "":
		parts = append(parts, o.Pod+"/"+o.Container)
	case o.Pod != "":
		parts = append(parts, o.Pod)
	}
	for _, k := range slices.Sorted(maps.Keys(a.Dimensions)) {
		parts = append(parts, k+" "+a.Dimensions[k])
	}
	return strings.Join(parts, ", ")
}
