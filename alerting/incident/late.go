package incident

import (
	"fmt"
	"slices"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// Late stores alerts that began and ended before anybody could know, as their
// data came late: with incidents that are over, and one summary for each target
// that would have been told. left more are only counted. It reports whether the
// outbox has new rows.
func (b *Book) Late(tx *meta.Tx, now time.Time, alerts []*Alert, left int) (told bool, err error) {
	groups := map[string][]*Alert{}
	var order []string
	for _, a := range alerts {
		key := a.GroupKey()
		if groups[key] == nil {
			order = append(order, key)
		}
		groups[key] = append(groups[key], a)
	}
	for _, key := range order {
		for _, episode := range episodes(groups[key]) {
			if err := b.lateIncident(tx, now, key, episode); err != nil {
				return false, err
			}
		}
	}
	missed := map[string][]*Alert{}
	for _, t := range b.Targets() {
		for _, a := range alerts {
			if asks(a.Targets, t.Name, a) && !b.mutedNow(a, now) {
				missed[t.ID] = append(missed[t.ID], a)
			}
		}
	}
	return b.summarise(tx, now, missed, "While their data were late", left)
}

// episodes splits a group's alerts, in order of their beginning, where an
// incident would have been over for good.
func episodes(alerts []*Alert) [][]*Alert {
	var out [][]*Alert
	var end time.Time
	for _, a := range alerts {
		if len(out) == 0 || a.StartedAt.Sub(end) > ReopenWithin {
			out = append(out, nil)
		}
		out[len(out)-1] = append(out[len(out)-1], a)
		if a.EndedAt.After(end) {
			end = a.EndedAt
		}
	}
	return out
}

func (b *Book) lateIncident(tx *meta.Tx, now time.Time, key string, alerts []*Alert) error {
	first, worst, last := alerts[0], alerts[0], alerts[0]
	for _, a := range alerts {
		if a.Severity.Rank() > worst.Severity.Rank() {
			worst = a
		}
		if a.EndedAt.After(last.EndedAt) {
			last = a
		}
	}
	inc := meta.Incident{
		ID: NewID("inc_", first.StartedAt), GroupKey: key, Cluster: first.Object.Cluster, State: meta.IncidentResolved, Severity: string(worst.Severity),
		StartedAt: first.StartedAt, EndedAt: last.EndedAt,
	}
	st := State{Title: worst.title(), Subject: worst.subject(), Object: worst.Object, Labels: worst.Labels, Cause: string(last.Cause)}
	if err := putIncident(tx, inc, st); err != nil {
		return err
	}
	if err := note(tx, first.StartedAt, inc.ID, EventOpened, "", fmt.Sprintf("%s (found at %s, when its data had come)", st.Title, now.UTC().Format(time.RFC3339))); err != nil {
		return err
	}
	for _, a := range alerts {
		a.IncidentID, a.FoundAt = inc.ID, now
		a.Explanation += fmt.Sprintf(" (found at %s, when its data had come)", now.UTC().Format(time.RFC3339))
		row, err := a.Row()
		if err != nil {
			return err
		}
		if err := tx.PutAlert(row); err != nil {
			return err
		}
		line := *a
		line.Cause = ""
		if err := note(tx, a.StartedAt, inc.ID, EventBegan, "", line.line()); err != nil {
			return err
		}
		if err := note(tx, a.EndedAt, inc.ID, EventEnded, "", a.line()); err != nil {
			return err
		}
	}
	return note(tx, last.EndedAt, inc.ID, EventResolved, "", st.Cause)
}

// mutedNow tells whether nothing is to be told of an alert now.
func (b *Book) mutedNow(a *Alert, now time.Time) bool {
	if b.Routing == nil || b.Routing() == nil {
		return false
	}
	set := b.Routing()
	return len(set.MutedAmong(a.Facts(), set.Sources(nil), now)) > 0
}

// asks tells whether a target is to be told of an alert of such severity.
func asks(refs []policy.TargetRef, target string, a *Alert) bool {
	return slices.ContainsFunc(refs, func(r policy.TargetRef) bool {
		return r.Name == target && (len(r.Severities) == 0 || slices.Contains(r.Severities, string(a.Severity)))
	})
}
