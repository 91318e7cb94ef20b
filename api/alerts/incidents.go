package alerts

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/api/inventory"
	"github.com/crowsnest-dev/crowsnest/api/problem"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// maxShownEvidence alerts of an incident are shown with what was around them.
const maxShownEvidence = 100

// Incident is an incident as the API gives it.
type Incident struct {
	ID             string            `json:"id"`
	URL            string            `json:"url"`
	Title          string            `json:"title"`
	State          string            `json:"state" enum:"open,acknowledged,resolved"`
	Severity       string            `json:"severity" enum:"info,warning,critical"`
	Cluster        ClusterRef        `json:"cluster"`
	Object         ObjectRef         `json:"object" doc:"Of its worst alert."`
	StartedAt      time.Time         `json:"started_at"`
	EndedAt        *time.Time        `json:"ended_at"`
	Cause          *string           `json:"cause" doc:"Why the last alert ended."`
	AcknowledgedBy *string           `json:"acknowledged_by"`
	Assignee       *string           `json:"assignee"`
	Muted          []string          `json:"muted" nullable:"false" doc:"What mutes all of it now, as Silence deploy."`
	MutedBy        []Muting          `json:"muted_by" nullable:"false" doc:"The same with until when; empty while any of its alerts is told."`
	Reopened       int               `json:"reopened" doc:"How often it was opened again within 15 min of its end."`
	Labels         map[string]string `json:"labels" nullable:"false"`
}

// Muting is what keeps an incident from being told.
type Muting struct {
	Kind  string     `json:"kind" enum:"Silence,Maintenance,Inhibition"`
	Name  string     `json:"name"`
	Until *time.Time `json:"until" doc:"null: while what inhibits it fires."`
}

// ClusterRef names a cluster.
type ClusterRef struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Alert is an alert as the API and notifications give it.
type Alert struct {
	ID          string            `json:"id"`
	Incident    string            `json:"incident"`
	State       string            `json:"state" enum:"firing,ended"`
	Severity    string            `json:"severity" enum:"info,warning,critical"`
	StartedAt   time.Time         `json:"started_at"`
	EndedAt     *time.Time        `json:"ended_at"`
	Cause       *string           `json:"cause"`
	Stale       bool              `json:"stale" doc:"The source of its values is silent."`
	Policy      AlertPolicy       `json:"policy"`
	Object      ObjectRef         `json:"object"`
	Dimensions  map[string]string `json:"dimensions" nullable:"false"`
	Conditions  []AlertCondition  `json:"conditions" nullable:"false"`
	Expr        string            `json:"expr,omitempty" doc:"Of a Prometheus rule, which has no conditions: its expression."`
	Drawn       *Drawn            `json:"drawn,omitempty" doc:"Of expr: what a chart of it draws."`
	Explanation string            `json:"explanation"`
	Annotations map[string]string `json:"annotations" nullable:"false"`
	Evidence    Evidence          `json:"evidence"`
}

// ObjectRef names what an alert is about; what it does not have is left out.
type ObjectRef incident.Object

// AlertCondition is one condition of the policy with its newest value.
type AlertCondition struct {
	incident.Condition
	Drawn *Drawn `json:"drawn,omitempty" doc:"Of expr: what a chart of it draws."`
}

// AlertPolicy names the policy of an alert.
type AlertPolicy struct {
	Name     string `json:"name"`
	Project  string `json:"project"`
	Revision int64  `json:"revision"`
	URL      string `json:"url"`
}

// Evidence is what an alert was found by, and what was around it when it began.
type Evidence struct {
	Series      [][]any          `json:"series" nullable:"false" doc:"Of the first condition's metric: [time, value], the newest first."`
	Logs        []EvidenceLine   `json:"logs,omitempty" doc:"Last lines of the object at warning and above, or those that the policy counts; the oldest first."`
	Events      []EvidenceEvent  `json:"events,omitempty" doc:"Kubernetes events about the object within the hour before; the oldest first."`
	Rollout     *EvidenceRollout `json:"rollout,omitempty" doc:"The last change of the workload's template within the day before."`
	Node        *EvidenceNode    `json:"node,omitempty" doc:"How the object's node stood."`
	CollectedAt *time.Time       `json:"collected_at,omitempty" doc:"When lines, events, rollout and node were collected; left out when they were not."`
	Collecting  bool             `json:"collecting,omitempty" doc:"They are being collected."`
	Missing     []string         `json:"missing,omitempty" doc:"What could not be collected, and why."`
}

// EvidenceLine is a log line.
type EvidenceLine struct {
	Time      time.Time `json:"time"`
	Line      string    `json:"line"`
	Level     string    `json:"level,omitempty"`
	Pod       string    `json:"pod,omitempty"`
	Container string    `json:"container,omitempty"`
}

// EvidenceEvent is a Kubernetes event.
type EvidenceEvent struct {
	Time    time.Time `json:"time"`
	Reason  string    `json:"reason"`
	Message string    `json:"message"`
	Type    string    `json:"type,omitempty" doc:"Normal or Warning."`
	Kind    string    `json:"kind,omitempty"`
	Name    string    `json:"name,omitempty"`
	Count   int       `json:"count,omitempty"`
}

// EvidenceRollout is a change of a workload's template.
type EvidenceRollout struct {
	At         time.Time `json:"at"`
	From       string    `json:"from" doc:"Revision of the template."`
	To         string    `json:"to"`
	FromImages []string  `json:"from_images,omitempty"`
	ToImages   []string  `json:"to_images,omitempty"`
}

// EvidenceNode is how a node stands.
type EvidenceNode struct {
	Name          string              `json:"name"`
	Ready         bool                `json:"ready"`
	Unschedulable bool                `json:"unschedulable"`
	Conditions    []EvidenceCondition `json:"conditions,omitempty" doc:"That are not as they should be."`
}

// EvidenceCondition is a condition of a node.
type EvidenceCondition struct {
	Type   string    `json:"type"`
	Status string    `json:"status"`
	Reason string    `json:"reason,omitempty"`
	Since  time.Time `json:"since"`
}

// Delivery is a notification with its attempts.
type Delivery struct {
	ID          string     `json:"id"`
	Incident    string     `json:"incident" doc:"Its id; one of its own for what belongs to none, as a test."`
	Title       string     `json:"title" doc:"What it is about, as the incident was called then."`
	Target      string     `json:"target"`
	Type        string     `json:"type"`
	Sequence    int64      `json:"sequence"`
	State       string     `json:"state" enum:"pending,delivered,dead,superseded,skipped"`
	CreatedAt   time.Time  `json:"created_at"`
	Attempts    int        `json:"attempts"`
	NextAt      *time.Time `json:"next_at" doc:"Of the next attempt; null when there will be none."`
	LastError   string     `json:"last_error"`
	DeliveredAt *time.Time `json:"delivered_at"`
	CopyOf      *string    `json:"copy_of" doc:"Id of the notification that another target was to get, or that was sent as new; null: it is its own."`
	Log         []Attempt  `json:"log" nullable:"false" doc:"Every attempt, the oldest first."`
}

// Attempt is one try to send a notification.
type Attempt struct {
	At          time.Time `json:"at"`
	TookSeconds float64   `json:"took_seconds"`
	Result      string    `json:"result" enum:"delivered,retry,final"`
	Status      int       `json:"status" doc:"Of HTTP; 0 when there was no answer."`
	Error       string    `json:"error"`
	Request     string    `json:"request" doc:"What was sent, without the body; secrets are shown as ***."`
	Response    string    `json:"response" doc:"The answer's first KiB; secrets are shown as ***."`
}

// IncidentDetail is an incident with all that belongs to it.
type IncidentDetail struct {
	Incident   Incident   `json:"incident"`
	Alerts     []Alert    `json:"alerts" nullable:"false"`
	Deliveries []Delivery `json:"deliveries" nullable:"false"`
}

func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func stringOrNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func orEmpty(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

func (h *handlers) showIncident(tx *meta.Tx, r meta.Incident, names map[string]string, mutes *activeMutes) (Incident, error) {
	var st incident.State
	if err := json.Unmarshal(r.Data, &st); err != nil {
		return Incident{}, fmt.Errorf("read incident %s: %w", r.ID, err)
	}
	name := names[r.Cluster]
	if name == "" {
		name = r.Cluster
	}
	state := r.State
	if st.Ack != nil && state == meta.IncidentOpen {
		state = "acknowledged"
	}
	by, err := mutes.of(tx, r, st)
	if err != nil {
		return Incident{}, err
	}
	muted, mutedBy := make([]string, len(by)), make([]Muting, len(by))
	for i, m := range by {
		muted[i], mutedBy[i] = m.Kind+" "+m.Name, Muting{m.Kind, m.Name, orNull(m.Until)}
	}
	return Incident{
		AcknowledgedBy: ackOf(st), Assignee: stringOrNull(r.Assignee), Muted: muted, MutedBy: mutedBy,
		ID: r.ID, URL: h.links.Incident(r.ID), Title: st.Title, State: state, Severity: r.Severity, Cluster: ClusterRef{r.Cluster, name}, Object: ObjectRef(st.Object),
		StartedAt: r.StartedAt, EndedAt: orNull(r.EndedAt), Cause: stringOrNull(st.Cause), Reopened: st.Reopened, Labels: orEmpty(st.Labels),
	}, nil
}

func (h *handlers) showIncidents(tx *meta.Tx, rows []meta.Incident, names map[string]string) ([]Incident, error) {
	mutes, err := mutesAt(tx, h.now())
	if err != nil {
		return nil, err
	}
	out := make([]Incident, len(rows))
	for i, r := range rows {
		if out[i], err = h.showIncident(tx, r, names, mutes); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (h *handlers) showAlert(r meta.Alert) (Alert, error) {
	a, err := incident.FromRow(r)
	if err != nil {
		return Alert{}, err
	}
	v := a.View(h.links)
	out := Alert{
		ID: a.ID, Incident: a.IncidentID, State: v.State, Severity: v.Severity, StartedAt: a.StartedAt, EndedAt: orNull(a.EndedAt), Cause: v.Cause, Stale: v.Stale,
		Policy: AlertPolicy(v.Policy), Object: ObjectRef(v.Object), Dimensions: v.Dimensions, Conditions: make([]AlertCondition, len(v.Conditions)),
		Explanation: v.Explanation, Annotations: v.Annotations, Evidence: Evidence{Series: [][]any{}},
	}
	for i, c := range v.Conditions {
		out.Conditions[i] = AlertCondition{c, drawnOf(c, v.Object.Cluster)}
	}
	if a.External != nil {
		out.Expr, out.Drawn = a.External.Expr, drawnOf(incident.Condition{Expr: a.External.Expr}, v.Object.Cluster)
	}
	for _, p := range a.Series {
		out.Evidence.Series = append(out.Evidence.Series, []any{p.T, p.V})
	}
	out.Evidence.Collecting = a.Collecting
	return out, nil
}

// fill adds what is kept of what was around an alert.
func (e *Evidence) fill(tx *meta.Tx, alertID string) error {
	found, err := incident.AroundOf(tx, alertID)
	if err != nil || found == nil {
		return err
	}
	e.CollectedAt, e.Missing, e.Collecting = &found.At, found.Missing, false
	for _, l := range found.Logs {
		e.Logs = append(e.Logs, EvidenceLine{time.Time(l.Time), l.Line, l.Level, l.Pod, l.Container})
	}
	for _, x := range found.Events {
		e.Events = append(e.Events, EvidenceEvent{time.Time(x.Time), x.Reason, x.Message, x.Type, x.Kind, x.Name, x.Count})
	}
	if r := found.Rollout; r != nil {
		e.Rollout = &EvidenceRollout{time.Time(r.At), r.From, r.To, r.FromImages, r.ToImages}
	}
	if n := found.Node; n != nil {
		e.Node = &EvidenceNode{Name: n.Name, Ready: n.Ready, Unschedulable: n.Unschedulable}
		for _, c := range n.Conditions {
			e.Node.Conditions = append(e.Node.Conditions, EvidenceCondition{c.Type, c.Status, c.Reason, time.Time(c.Since)})
		}
	}
	return nil
}

func showDelivery(n meta.Notification, attempts []meta.Attempt, targets map[string]string) Delivery {
	name := targets[n.TargetID]
	if name == "" {
		name = n.TargetID // it was deleted
	}
	var said struct {
		Incident struct{ Title string }
	}
	_ = json.Unmarshal(n.Body, &said) // a message that cannot be read has no title to show
	d := Delivery{
		ID: n.ID, Incident: n.IncidentID, Title: said.Incident.Title, Target: name, Type: n.Type, Sequence: n.Sequence, State: n.State,
		CreatedAt: n.CreatedAt, Attempts: n.Attempts, LastError: n.Error, CopyOf: stringOrNull(n.CopyOf), Log: make([]Attempt, len(attempts)),
	}
	switch n.State {
	case meta.NotificationPending:
		d.NextAt = orNull(n.NextAt)
	case meta.NotificationDelivered:
		d.DeliveredAt = orNull(n.DoneAt)
	}
	for i, a := range attempts {
		d.Log[i] = Attempt{At: a.At, TookSeconds: a.Took.Seconds(), Result: a.Result, Status: a.Status, Error: a.Error, Request: a.Request, Response: a.Response}
	}
	return d
}

func clusterNames(tx *meta.Tx) (map[string]string, error) {
	clusters, err := tx.ListClusters()
	out := map[string]string{}
	for _, c := range clusters {
		out[c.ID] = c.Name
	}
	return out, err
}

func deliveries(tx *meta.Tx, f meta.NotificationFilter) ([]Delivery, []meta.Notification, error) {
	targets, err := tx.Resources(meta.KindTarget)
	if err != nil {
		return nil, nil, err
	}
	names := map[string]string{}
	for _, t := range targets {
		names[t.ID] = t.Name
	}
	rows, err := tx.Notifications(f)
	if err != nil {
		return nil, nil, err
	}
	out := make([]Delivery, len(rows))
	for i, n := range rows {
		attempts, err := tx.Attempts(n.ID)
		if err != nil {
			return nil, nil, err
		}
		out[i] = showDelivery(n, attempts, names)
	}
	return out, rows, nil
}

// Page is the part of a list by time that is asked for. It and ByStart are exported,
// since huma passes over fields that are not.
type Page struct {
	Limit  int    `query:"limit" default:"200" minimum:"1" maximum:"1000"`
	Cursor string `query:"cursor" doc:"As next of the page before has it, of the same sort and filter."`
}

// ByStart says which of what has a beginning is listed, and how.
type ByStart struct {
	Page
	Sort   string `query:"sort" enum:"started_at,-started_at" default:"-started_at" doc:"- is downwards: the newest first."`
	Filter string `query:"filter" maxLength:"500" doc:"Words that all must occur in the title, the labels or the object; of alerts also in the policy's name. Case does not matter."`
}

func (p ByStart) oldest() bool { return p.Sort == "started_at" }

// next is the cursor after a full page.
func (p Page) next(n int, last func() string) *string {
	if n < p.Limit {
		return nil
	}
	s := last()
	return &s
}

type incidentQuery struct {
	State   string `query:"state" enum:"open,acknowledged,active,resolved,all" default:"all" doc:"active: open or acknowledged."`
	Cluster string `query:"cluster"`
	ByStart
}

// stored says how an incident in a state of the API's is kept; nil: acknowledged
// or not.
func stored(state string) (kept string, acknowledged *bool) {
	switch state {
	case "active":
		return meta.IncidentOpen, nil
	case "open", "acknowledged":
		acked := state == "acknowledged"
		return meta.IncidentOpen, &acked
	case "resolved":
		return meta.IncidentResolved, nil
	}
	return "", nil
}

func (h *handlers) listIncidents(ctx context.Context, in *incidentQuery) (*body[list[Incident]], error) {
	if err := access.Authorize(ctx, access.Read, in.Cluster, ""); err != nil {
		return nil, problem.Error(err)
	}
	state, acknowledged := stored(in.State)
	out := &body[list[Incident]]{}
	err := h.Store.View(ctx, func(tx *meta.Tx) error {
		rows, err := tx.Incidents(meta.IncidentFilter{State: state, Acked: acknowledged, Cluster: in.Cluster, Words: strings.Fields(in.Filter), Oldest: in.oldest(), After: in.Cursor, Limit: in.Limit})
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

type byID struct {
	ID string `path:"id"`
}

func (h *handlers) getIncident(ctx context.Context, in *byID) (*body[IncidentDetail], error) {
	if err := access.Authorize(ctx, access.Read, "", ""); err != nil {
		return nil, problem.Error(err)
	}
	out := &body[IncidentDetail]{}
	err := h.Store.View(ctx, func(tx *meta.Tx) error {
		row, err := tx.Incident(in.ID)
		if err != nil {
			return err
		}
		names, err := clusterNames(tx)
		if err != nil {
			return err
		}
		shown, err := h.showIncidents(tx, []meta.Incident{row}, names)
		if err != nil {
			return err
		}
		out.Body.Incident = shown[0]
		alerts, err := tx.AlertsOf(in.ID)
		if err != nil {
			return err
		}
		out.Body.Alerts = make([]Alert, len(alerts))
		for i, a := range alerts {
			if out.Body.Alerts[i], err = h.showAlert(a); err != nil {
				return err
			}
			if i < maxShownEvidence {
				if err := out.Body.Alerts[i].Evidence.fill(tx, a.ID); err != nil {
					return err
				}
			}
		}
		out.Body.Deliveries, _, err = deliveries(tx, meta.NotificationFilter{IncidentID: in.ID})
		return err
	})
	return out, problem.Error(err)
}

type alertQuery struct {
	State   string `query:"state" enum:"firing,ended,all" default:"firing"`
	Cluster string `query:"cluster"`
	Policy  string `query:"policy" doc:"Name of a policy."`
	ByStart
}

func (h *handlers) listAlerts(ctx context.Context, in *alertQuery) (*body[list[Alert]], error) {
	if err := access.Authorize(ctx, access.Read, in.Cluster, ""); err != nil {
		return nil, problem.Error(err)
	}
	f := meta.AlertFilter{State: in.State, Cluster: in.Cluster, Words: strings.Fields(in.Filter), Oldest: in.oldest(), After: in.Cursor, Limit: in.Limit}
	if in.State == "all" {
		f.State = ""
	}
	out := &body[list[Alert]]{}
	err := h.Store.View(ctx, func(tx *meta.Tx) error {
		if in.Policy != "" {
			p, err := tx.Resource(meta.KindPolicy, "default", in.Policy)
			if err != nil {
				return err
			}
			f.PolicyID = p.ID
		}
		rows, err := tx.Alerts(f)
		if err != nil {
			return err
		}
		out.Body.Items = make([]Alert, len(rows))
		for i, r := range rows {
			if out.Body.Items[i], err = h.showAlert(r); err != nil {
				return err
			}
		}
		out.Body.Next = in.next(len(rows), func() string { return rows[len(rows)-1].ID })
		return nil
	})
	return out, problem.Error(err)
}

type deliveryQuery struct {
	Incident string `query:"incident"`
	State    string `query:"state" enum:"pending,delivered,dead,superseded,skipped,all" default:"all"`
	Page
	Sort   string `query:"sort" enum:"created_at,-created_at" default:"-created_at" doc:"- is downwards: the newest first."`
	Filter string `query:"filter" maxLength:"500" doc:"Words that all must occur in the id, the type, the newest error, the target's name or the incident's title; case does not matter."`
}

func (h *handlers) listDeliveries(ctx context.Context, in *deliveryQuery) (*body[list[Delivery]], error) {
	if err := access.Authorize(ctx, access.Read, "", ""); err != nil {
		return nil, problem.Error(err)
	}
	f := meta.NotificationFilter{IncidentID: in.Incident, State: in.State, Words: strings.Fields(in.Filter), Oldest: in.Sort == "created_at", Limit: in.Limit}
	if in.State == "all" {
		f.State = ""
	}
	if in.Cursor != "" {
		n, err := strconv.ParseInt(in.Cursor, 10, 64)
		if err != nil {
			return nil, problem.Error(fault.Wrong("cursor", fault.Say(fault.Cursor), in.Cursor))
		}
		f.After = n
	}
	out := &body[list[Delivery]]{}
	err := h.Store.View(ctx, func(tx *meta.Tx) error {
		items, rows, err := deliveries(tx, f)
		if err != nil {
			return err
		}
		out.Body.Items = items
		out.Body.Next = in.next(len(rows), func() string { return strconv.FormatInt(rows[len(rows)-1].Position, 10) })
		return nil
	})
	return out, problem.Error(err)
}

type resendOf struct {
	ID    string `path:"id"`
	AsNew bool   `query:"asNew" doc:"Under a new id, so that a receiver that has the old one takes it."`
}

func (h *handlers) resend(ctx context.Context, in *resendOf) (*body[Delivery], error) {
	if err := access.Authorize(ctx, access.Write, "", ""); err != nil {
		return nil, problem.Error(err)
	}
	out := &body[Delivery]{}
	err := h.Store.Update(ctx, func(tx *meta.Tx) error {
		n, err := h.Outbox.Again(tx, in.ID, in.AsNew, h.now())
		if err != nil {
			return err
		}
		attempts, err := tx.Attempts(n.ID)
		if err != nil {
			return err
		}
		names := map[string]string{}
		if t, err := tx.ResourceByID(n.TargetID); err == nil {
			names[t.ID] = t.Name
		}
		out.Body = showDelivery(n, attempts, names)
		return nil
	})
	if err != nil {
		return nil, problem.Error(err)
	}
	h.Outbox.Wake()
	return out, nil
}

// Counts gives the active incidents of each cluster by severity.
func Counts(ctx context.Context, s Store) (map[string]inventory.IncidentCount, error) {
	out := map[string]inventory.IncidentCount{}
	err := s.View(ctx, func(tx *meta.Tx) error {
		rows, err := tx.Incidents(meta.IncidentFilter{State: meta.IncidentOpen, Limit: 100_000})
		for _, r := range rows {
			c := out[r.Cluster]
			switch r.Severity {
			case "critical":
				c.Critical++
			case "warning":
				c.Warning++
			default:
				c.Info++
			}
			out[r.Cluster] = c
		}
		return err
	})
	return out, err
}
