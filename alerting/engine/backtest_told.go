package engine

import (
	"cmp"
	"container/heap"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/alerting/routing"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

const (
	// maxTold messages of a backtest are shown one by one.
	maxTold = 1000
	// takenAtOnce rows of a backtest's outbox are looked at in one go.
	takenAtOnce = 500
	// maxOthers alerts of other policies are looked at for inhibitions.
	maxOthers = 50_000
	// maxOnly alerts that only one of two policies would have had are shown.
	maxOnly = 200
)

// Hours say when a target may be told of something new.
type Hours interface {
	State(now time.Time) (open bool, opens time.Time)
}

// desk is a target of a backtest.
type desk struct {
	name    string
	hours   Hours // nil: always open
	outside string
}

// others are the alerts of other policies as live evaluation recorded them, for
// inhibitions.
type others struct {
	coming []other // in order of their beginnings
	active endings
	facts  []routing.Facts
}

// other is an alert as far as it can mute.
type other struct {
	began, ended  time.Time
	policyID      string
	name, project string // of the policy
	facts         routing.Facts
}

// recorded are all policies' alerts on a cluster within a range. Of late data there is a
// replay for each policy, and what a thousand of them read would be the same.
type recorded struct {
	cluster    string
	begin, end time.Time
	alerts     []other // in order of their beginnings
}

// endings is a heap of alerts by their ends.
type endings []other

func (h endings) Len() int           { return len(h) }
func (h endings) Less(i, j int) bool { return h[i].ended.Before(h[j].ended) }
func (h endings) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push and Pop are heap.Interface's.
func (h *endings) Push(x any) { *h = append(*h, x.(other)) }

// Pop takes the last.
func (h *endings) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

// at gives the facts of what fires at a time, which never goes back.
func (o *others) at(t time.Time) []routing.Facts {
	changed := false
	for len(o.coming) > 0 && !o.coming[0].began.After(t) {
		heap.Push(&o.active, o.coming[0])
		o.coming, changed = o.coming[1:], true
	}
	for len(o.active) > 0 && !o.active[0].ended.After(t) {
		heap.Pop(&o.active)
		changed = true
	}
	if changed {
		o.facts = o.facts[:0:0]
		for _, a := range o.active {
			o.facts = append(o.facts, a.facts)
		}
	}
	return o.facts
}

// loadOthers takes what other policies' alerts were on the cluster.
func (b *replay) loadOthers(ctx context.Context) error {
	r := b.recorded
	if r == nil {
		r = &recorded{}
	}
	if r.cluster != b.cluster.ID || !r.begin.Equal(b.begin) || !r.end.Equal(b.to) {
		if err := b.read(ctx, r); err != nil {
			return err
		}
	}
	for _, a := range r.alerts {
		// Its own fire as this replay finds, and a draft takes its policy's place.
		if a.policyID != b.row.ID && (a.name != b.row.Name || a.project != b.row.Project) {
			b.others.coming = append(b.others.coming, a)
		}
	}
	return nil
}

// read reads what all policies' alerts were on the cluster.
func (b *replay) read(ctx context.Context, r *recorded) error {
	*r = recorded{}
	var rows []meta.Alert
	err := b.live.opts.Meta.View(ctx, func(tx *meta.Tx) (err error) {
		rows, err = tx.AlertsWithin(b.cluster.ID, b.begin, b.to, maxOthers)
		return err
	})
	if err != nil {
		return err
	}
	alerts := make([]other, 0, len(rows))
	for _, row := range rows {
		a, err := incident.FromRow(row)
		if err != nil {
			return err
		}
		if a.EndedAt.IsZero() {
			a.EndedAt = b.to.Add(time.Hour)
		}
		alerts = append(alerts, other{a.StartedAt, a.EndedAt, row.PolicyID, a.Policy.Name, a.Policy.Project, a.Facts()})
	}
	slices.SortFunc(alerts, func(x, y other) int { return x.began.Compare(y.began) })
	*r = recorded{b.cluster.ID, b.begin, b.to, alerts}
	return nil
}

// readDesk reads a target.
func (b *replay) readDesk(r meta.Resource) {
	d := &desk{name: r.Name}
	if b.live.opts.Hours != nil {
		d.hours, d.outside = b.live.opts.Hours(r)
	}
	b.desks[r.ID] = d
}

// deliver takes what was put into the outbox for delivered, or has it wait for
// its target's calendar; it notes when there is more to tell.
func (b *replay) deliver(ctx context.Context, db *meta.DB) error {
	return db.Update(ctx, func(tx *meta.Tx) error {
		for {
			rows, err := tx.PendingNotifications(b.clock, takenAtOnce)
			if err != nil {
				return err
			}
			for _, n := range rows {
				if err := b.deliverOne(tx, n); err != nil {
					return err
				}
			}
			if len(rows) < takenAtOnce {
				break
			}
		}
		next, err := tx.NextThread()
		b.due = next
		for thread, opens := range b.waiting {
			if !opens.After(b.clock) {
				delete(b.waiting, thread)
			} else if b.due.IsZero() || opens.Before(b.due) {
				b.due = opens
			}
		}
		return err
	})
}

// deliverOne takes one row for delivered, or has it wait.
func (b *replay) deliverOne(tx *meta.Tx, n meta.Notification) error {
	to, thread := b.desks[n.TargetID], [2]string{n.IncidentID, n.TargetID}
	if to == nil {
		to = &desk{}
	}
	instead, until := "", b.waiting[thread] // what follows in a thread waits too
	if to.hours != nil && n.Type != string(incident.Resolved) && !until.After(b.clock) {
		if open, at := to.hours.State(b.clock); !open {
			if instead = to.outside; instead == "" {
				if until = at; !until.After(b.clock) { // it never opens
					until = b.clock.Add(time.Hour)
				}
				b.waiting[thread] = until
			}
		}
	}
	if until.After(b.clock) {
		n.NextAt = until
		return tx.CloseNotification(n)
	}
	if err := b.told(tx, n, to.name, instead); err != nil {
		return err
	}
	n.State, n.DoneAt = meta.NotificationDelivered, b.clock
	return tx.CloseNotification(n)
}

// told counts a message. Who is told in place of a closed target, and has been
// told by itself, is not told twice.
func (b *replay) told(tx *meta.Tx, n meta.Notification, target, instead string) error {
	if instead != "" {
		for id, d := range b.desks {
			if d.name != instead {
				continue
			}
			if own, err := tx.HasOwnThread(n.IncidentID, id); err != nil || own {
				return err
			}
		}
	}
	if n.Type == string(incident.Resolved) && instead == "" {
		if d := b.desks[n.TargetID]; d != nil && d.outside != "" && b.stoodIn[[2]string{n.IncidentID, n.TargetID}] {
			// Who was told of the beginning is told of the end.
			if err := b.note(n, d.outside, target); err != nil {
				return err
			}
			if !b.toldSelf[[2]string{n.IncidentID, n.TargetID}] {
				return nil
			}
		}
	}
	thread := [2]string{n.IncidentID, n.TargetID}
	if instead != "" {
		b.stoodIn[thread] = true
		return b.note(n, instead, target)
	}
	b.toldSelf[thread] = true
	return b.note(n, target, "")
}

func (b *replay) note(n meta.Notification, target, inPlaceOf string) error {
	if b.clock.Before(b.from) {
		return nil // of the warm-up
	}
	b.messages[[2]string{target, n.Type}]++
	b.ofIncident[n.IncidentID]++
	var m struct {
		Incident struct {
			Title    string `json:"title"`
			Severity string `json:"severity"`
		} `json:"incident"`
		Alerts    []struct{} `json:"alerts"`
		Truncated struct {
			Alerts int `json:"alerts"`
		} `json:"truncated"`
	}
	if err := json.Unmarshal(n.Body, &m); err != nil {
		return err
	}
	told := append(b.out.Told, policy.ReplayTold{
		At: b.clock, Target: target, Type: n.Type, Incident: n.IncidentID, Title: m.Incident.Title, Severity: m.Incident.Severity,
		Alerts: len(m.Alerts) + m.Truncated.Alerts, For: inPlaceOf,
	})
	if len(told) >= 2*maxTold { // the newest matter
		told = slices.Clone(told[len(told)-maxTold:])
	}
	b.out.Told = told
	return nil
}

func comparisonWords(c *policy.ReplayComparison, first, second policy.Replay) string {
	text := fmt.Sprintf("%d alerts are in both", c.Both)
	switch {
	case c.SoonerBy >= 1:
		text += fmt.Sprintf(", where the second begins %s sooner on average", time.Duration(c.SoonerBy)*time.Second)
	case c.SoonerBy <= -1:
		text += fmt.Sprintf(", where the second begins %s later on average", time.Duration(-c.SoonerBy)*time.Second)
	}
	return text + fmt.Sprintf("; %d would be only in the first, %d only in the second. Messages: %d and %d.", c.OnlyFirst, c.OnlySecond, first.MessageCount, second.MessageCount)
}

// Compare says what two replays would have done differently.
func Compare(first, second policy.Replay) *policy.ReplayComparison {
	out := &policy.ReplayComparison{
		Firsts: []policy.ReplayOnly{}, Seconds: []policy.ReplayOnly{}, Messages: []policy.ReplayAgainst{}, FiringFirst: first.FiringSeconds, FiringOther: second.FiringSeconds,
	}
	by := func(r policy.Replay) map[string][]policy.ReplaySpan {
		m := map[string][]policy.ReplaySpan{}
		for _, s := range r.Spans {
			m[s.Subject] = append(m[s.Subject], s)
		}
		return m
	}
	inFirst, inSecond := by(first), by(second)
	sooner := 0.0
	alone := func(of policy.Replay, against map[string][]policy.ReplaySpan, count *int, list *[]policy.ReplayOnly, met func(a, b policy.ReplaySpan)) {
		for _, a := range of.Spans {
			i := slices.IndexFunc(against[a.Subject], func(b policy.ReplaySpan) bool {
				return (b.To.IsZero() || b.To.After(a.From)) && (a.To.IsZero() || a.To.After(b.From))
			})
			if i >= 0 {
				met(a, against[a.Subject][i])
				continue
			}
			*count++
			*list = append(*list, policy.ReplayOnly{Object: a.Object, Severity: a.Severity, StartedAt: a.From, EndedAt: endOf(a.To)})
		}
		slices.SortStableFunc(*list, func(a, b policy.ReplayOnly) int { return b.StartedAt.Compare(a.StartedAt) })
		*list = (*list)[:min(len(*list), maxOnly)]
	}
	alone(first, inSecond, &out.OnlyFirst, &out.Firsts, func(a, b policy.ReplaySpan) {
		out.Both++
		sooner += a.From.Sub(b.From).Seconds()
	})
	alone(second, inFirst, &out.OnlySecond, &out.Seconds, func(policy.ReplaySpan, policy.ReplaySpan) {})
	if out.Both > 0 {
		out.SoonerBy = math.Round(sooner / float64(out.Both))
	}
	counts := map[string]*policy.ReplayAgainst{}
	of := func(target string) *policy.ReplayAgainst {
		if counts[target] == nil {
			counts[target] = &policy.ReplayAgainst{Target: target}
		}
		return counts[target]
	}
	for _, m := range first.Messages {
		of(m.Target).First += m.Count
	}
	for _, m := range second.Messages {
		of(m.Target).Second += m.Count
	}
	for _, m := range counts {
		out.Messages = append(out.Messages, *m)
	}
	slices.SortFunc(out.Messages, func(a, b policy.ReplayAgainst) int { return cmp.Compare(a.Target, b.Target) })
	out.Words = comparisonWords(out, first, second)
	return out
}
