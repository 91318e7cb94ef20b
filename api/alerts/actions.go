package alerts

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/api/problem"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// maxTimeline entries are shown, the newest.
const maxTimeline = 1000

// AckRequest acknowledges.
type AckRequest struct {
	Comment string     `json:"comment,omitempty" maxLength:"4096"`
	Until   *time.Time `json:"until,omitempty" doc:"Left out: for 24 h, which is the longest."`
}

// CommentRequest comments.
type CommentRequest struct {
	Text string `json:"text" minLength:"1" maxLength:"4096"`
}

// AssignRequest assigns.
type AssignRequest struct {
	Assignee string `json:"assignee" maxLength:"253" doc:"Empty: nobody."`
}

type ackInput struct {
	ID   string      `path:"id"`
	Body *AckRequest `required:"false"`
}

type commentInput struct {
	ID   string `path:"id"`
	Body CommentRequest
}

type assignInput struct {
	ID   string `path:"id"`
	Body AssignRequest
}

// authorizeIncident asks whether the caller may change an incident.
func (h *handlers) authorizeIncident(ctx context.Context, id string) error {
	if err := access.Authorize(ctx, access.Write, "", ""); err != nil {
		return err
	}
	return h.Store.View(ctx, func(tx *meta.Tx) error { _, err := tx.Incident(id); return err })
}

// acted makes a change of an incident and shows what it is then.
func (h *handlers) acted(ctx context.Context, id string, change func() error) (*body[IncidentDetail], error) {
	if err := h.authorizeIncident(ctx, id); err != nil {
		return nil, problem.Error(err)
	}
	if err := change(); err != nil {
		return nil, problem.Error(err)
	}
	return h.getIncident(ctx, &byID{ID: id})
}

func (h *handlers) acknowledge(ctx context.Context, in *ackInput) (*body[IncidentDetail], error) {
	var until time.Time
	comment := ""
	if in.Body != nil {
		comment = in.Body.Comment
		if in.Body.Until != nil {
			until = *in.Body.Until
		}
	}
	return h.acted(ctx, in.ID, func() error { return h.Engine.Acknowledge(ctx, in.ID, access.Who(ctx), comment, until) })
}

func (h *handlers) unacknowledge(ctx context.Context, in *byID) (*body[IncidentDetail], error) {
	return h.acted(ctx, in.ID, func() error { return h.Engine.Unacknowledge(ctx, in.ID, access.Who(ctx)) })
}

func (h *handlers) comment(ctx context.Context, in *commentInput) (*body[IncidentDetail], error) {
	return h.acted(ctx, in.ID, func() error { return h.Engine.Comment(ctx, in.ID, access.Who(ctx), in.Body.Text) })
}

func (h *handlers) assign(ctx context.Context, in *assignInput) (*body[IncidentDetail], error) {
	return h.acted(ctx, in.ID, func() error { return h.Engine.Assign(ctx, in.ID, access.Who(ctx), in.Body.Assignee) })
}

func (h *handlers) resolve(ctx context.Context, in *ackInput) (*body[IncidentDetail], error) {
	comment := ""
	if in.Body != nil {
		comment = in.Body.Comment
	}
	return h.acted(ctx, in.ID, func() error { return h.Engine.Resolve(ctx, in.ID, access.Who(ctx), comment) })
}

// TimelineEntry is one thing that happened to an incident.
type TimelineEntry struct {
	At   time.Time `json:"at"`
	Type string    `json:"type" doc:"opened, reopened, resolved, alert.began, alert.ended, severity, acknowledged, unacknowledged, escalated, muted, unmuted, comment, assigned; or notification, with its type and state in text."`
	Who  string    `json:"who" doc:"Empty: the engine."`
	Text string    `json:"text"`
}

func (h *handlers) timeline(ctx context.Context, in *byID) (*body[list[TimelineEntry]], error) {
	if err := access.Authorize(ctx, access.Read, "", ""); err != nil {
		return nil, problem.Error(err)
	}
	out := &body[list[TimelineEntry]]{}
	out.Body.Items = []TimelineEntry{}
	err := h.Store.View(ctx, func(tx *meta.Tx) error {
		if _, err := tx.Incident(in.ID); err != nil {
			return err
		}
		events, err := tx.IncidentEvents(in.ID, maxTimeline)
		if err != nil {
			return err
		}
		for _, e := range events {
			out.Body.Items = append(out.Body.Items, TimelineEntry{At: e.At, Type: e.Type, Who: e.Who, Text: e.Text})
		}
		sent, _, err := deliveries(tx, meta.NotificationFilter{IncidentID: in.ID, Limit: maxTimeline})
		if err != nil {
			return err
		}
		for _, d := range sent {
			at := d.CreatedAt
			if d.DeliveredAt != nil {
				at = *d.DeliveredAt
			}
			out.Body.Items = append(out.Body.Items, TimelineEntry{At: at, Type: "notification", Text: fmt.Sprintf("%s to %s: %s", d.Type, d.Target, d.State)})
		}
		slices.SortStableFunc(out.Body.Items, func(a, b TimelineEntry) int { return a.At.Compare(b.At) })
		return nil
	})
	return out, problem.Error(err)
}

type searchQuery struct {
	State    string    `query:"state" enum:"open,acknowledged,active,resolved,all" default:"all" doc:"active: open or acknowledged."`
	Cluster  string    `query:"cluster"`
	Severity string    `query:"severity" enum:"info,warning,critical,all" default:"all"`
	Assignee string    `query:"assignee"`
	Policy   string    `query:"policy" doc:"Name of a policy of one of its alerts."`
	Text     string    `query:"text" maxLength:"253" doc:"In the title, the labels or the object's names."`
	From     time.Time `query:"from" doc:"It was open after."`
	To       time.Time `query:"to" doc:"It began before."`
	ByStart
}

func (h *handlers) searchIncidents(ctx context.Context, in *searchQuery) (*body[list[Incident]], error) {
	if err := access.Authorize(ctx, access.Read, in.Cluster, ""); err != nil {
		return nil, problem.Error(err)
	}
	f := meta.IncidentFilter{
		Cluster: in.Cluster, Severity: in.Severity, Assignee: in.Assignee, Policy: in.Policy, Text: in.Text, From: in.From, To: in.To,
		Words: strings.Fields(in.Filter), Oldest: in.oldest(), After: in.Cursor, Limit: in.Limit,
	}
	f.State, f.Acked = stored(in.State)
	if f.Severity == "all" {
		f.Severity = ""
	}
	out := &body[list[Incident]]{}
	err := h.Store.View(ctx, func(tx *meta.Tx) error {
		rows, err := tx.Incidents(f)
		if err != nil {
			return err
		}
		names, err := clusterNames(tx)
		if err != nil {
			return err
		}
		if out.Body.Items, err = h.showIncidents(tx, rows, names); err != nil {
			return err
		}
		out.Body.Next = in.next(len(rows), func() string { return rows[len(rows)-1].ID })
		return nil
	})
	return out, problem.Error(err)
}

// Statistics of incidents that began within a range.
type Statistics struct {
	From                     time.Time      `json:"from"`
	To                       time.Time      `json:"to"`
	Incidents                int            `json:"incidents"`
	Open                     int            `json:"open"`
	Acknowledged             int            `json:"acknowledged"`
	Resolved                 int            `json:"resolved"`
	MeanSecondsToAcknowledge float64        `json:"mean_seconds_to_acknowledge" doc:"MTTA, of those that were."`
	MeanSecondsToResolve     float64        `json:"mean_seconds_to_resolve" doc:"MTTR, of those that were."`
	BySeverity               map[string]int `json:"by_severity" nullable:"false"`
	Noisiest                 []NoisyPolicy  `json:"noisiest" nullable:"false" doc:"Policies by alerts, at most 20."`
}

// NoisyPolicy is how often a policy fired.
type NoisyPolicy struct {
	Policy    string `json:"policy"`
	Alerts    int    `json:"alerts"`
	Incidents int    `json:"incidents"`
}

type statisticsQuery struct {
	From    time.Time `query:"from" doc:"Left out: 30 days before to."`
	To      time.Time `query:"to" doc:"Left out: now."`
	Cluster string    `query:"cluster"`
}

func (h *handlers) statistics(ctx context.Context, in *statisticsQuery) (*body[Statistics], error) {
	if err := access.Authorize(ctx, access.Read, in.Cluster, ""); err != nil {
		return nil, problem.Error(err)
	}
	if in.To.IsZero() {
		in.To = h.now()
	}
	if in.From.IsZero() {
		in.From = in.To.Add(-30 * 24 * time.Hour)
	}
	if !in.From.Before(in.To) {
		return nil, problem.Error(fault.Wrong("from", fault.Say(fault.FromBefore), in.From))
	}
	out := &body[Statistics]{}
	err := h.Store.View(ctx, func(tx *meta.Tx) error {
		s, err := tx.Statistics(in.From, in.To, in.Cluster)
		out.Body = Statistics{
			From: in.From, To: in.To, Incidents: s.Incidents, Open: s.Open, Acknowledged: s.Acknowledged, Resolved: s.Resolved,
			MeanSecondsToAcknowledge: s.MeanToAcknowledge.Seconds(), MeanSecondsToResolve: s.MeanToResolve.Seconds(), BySeverity: s.BySeverity, Noisiest: []NoisyPolicy{},
		}
		for _, n := range s.Noisiest {
			out.Body.Noisiest = append(out.Body.Noisiest, NoisyPolicy{n.Policy, n.Alerts, n.Incidents})
		}
		return err
	})
	return out, problem.Error(err)
}

// ackOf shows an acknowledgement that holds.
func ackOf(st incident.State) *string {
	if st.Ack == nil {
		return nil
	}
	by := st.Ack.By
	return &by
}
