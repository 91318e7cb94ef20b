package alerts

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/alerting/routing"
	"github.com/crowsnest-dev/crowsnest/alerting/ticket"
	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/api/problem"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// PathTickets is where links of notifications are looked at and used. Whoever
// has one needs nothing else: it says what may be done, to what, until when.
const PathTickets = "/tickets/"

// TicketView is what a link of a notification would do.
type TicketView struct {
	Action    string    `json:"action" enum:"acknowledge,silence"`
	Used      bool      `json:"used" doc:"It acted already, and does so once."`
	ExpiresAt time.Time `json:"expires_at"`
	Target    string    `json:"target" doc:"Who was told, in whose name it acts."`
	Incident  Incident  `json:"incident"`
	Matchers  []string  `json:"matchers" nullable:"false" doc:"What a silence would mute."`
}

// TicketUse is what whoever confirms adds.
type TicketUse struct {
	Comment string  `json:"comment,omitempty" maxLength:"4096"`
	Hours   float64 `json:"hours,omitempty" minimum:"0.25" maximum:"168" doc:"Of a silence. Left out: 4."`
}

type byTicket struct {
	Ticket string `path:"ticket"`
}

type useTicket struct {
	Ticket string     `path:"ticket"`
	Body   *TicketUse `required:"false"`
}

func (h *handlers) registerTickets(api huma.API) {
	open := []map[string][]string{{}}
	huma.Register(api, huma.Operation{OperationID: "get-ticket", Method: http.MethodGet, Path: PathTickets + "{ticket}", Tags: []string{"incidents"}, Security: open,
		Summary: "What a link of a notification would do; it does nothing yet, so that previews of links act on nothing"}, h.getTicket)
	huma.Register(api, huma.Operation{OperationID: "use-ticket", Method: http.MethodPost, Path: PathTickets + "{ticket}", Tags: []string{"incidents"}, Security: open,
		Summary: "Do once what a link of a notification is for", DefaultStatus: http.StatusOK}, h.useTicket)
}

// bearer gives the context of whoever has a ticket: their own name where they
// are known, else that of the target that was told.
func bearer(ctx context.Context, t ticket.Ticket) context.Context {
	if p, ok := access.From(ctx); ok && p.Kind != access.IngestToken {
		return ctx
	}
	return access.With(ctx, access.Principal{Kind: access.Ticket, Name: "link to " + t.Target})
}

func (h *handlers) openTicket(text string) (ticket.Ticket, error) {
	return ticket.Open(text, h.Keyring, h.now())
}

func (h *handlers) getTicket(ctx context.Context, in *byTicket) (*body[TicketView], error) {
	t, err := h.openTicket(in.Ticket)
	if err != nil {
		return nil, problem.Error(err)
	}
	return h.showTicket(bearer(ctx, t), t)
}

func (h *handlers) showTicket(ctx context.Context, t ticket.Ticket) (*body[TicketView], error) {
	detail, err := h.getIncident(ctx, &byID{ID: t.Incident})
	if err != nil {
		return nil, err
	}
	out := &body[TicketView]{TicketView{Action: string(t.Action), ExpiresAt: t.Expires, Target: t.Target, Incident: detail.Body.Incident, Matchers: mutes(detail.Body.Incident)}}
	err = h.Store.View(ctx, func(tx *meta.Tx) (err error) { out.Body.Used, err = tx.TicketSpent(t.ID); return err })
	return out, problem.Error(err)
}

// mutes gives the matchers of what an incident is about, and no more.
func mutes(i Incident) []string {
	out := []string{}
	add := func(name, value string) {
		if value != "" {
			out = append(out, fmt.Sprintf("%s=%q", name, value))
		}
	}
	add("cluster", i.Cluster.ID)
	add("namespace", i.Object.Namespace)
	add("workload_type", i.Object.WorkloadType)
	add("workload", i.Object.Workload)
	if i.Object.Workload == "" {
		add("pod", i.Object.Pod)
		add("node", i.Object.Node)
	}
	return out
}

func (h *handlers) useTicket(ctx context.Context, in *useTicket) (*body[TicketView], error) {
	t, err := h.openTicket(in.Ticket)
	if err != nil {
		return nil, problem.Error(err)
	}
	ctx = bearer(ctx, t)
	use := TicketUse{}
	if in.Body != nil {
		use = *in.Body
	}
	detail, err := h.getIncident(ctx, &byID{ID: t.Incident})
	if err != nil {
		return nil, err
	}
	// Spent before it acts: of two that come at once only one does.
	if err := h.Store.Update(ctx, func(tx *meta.Tx) error { return tx.SpendTicket(t.ID, t.Expires, h.now()) }); err != nil {
		return nil, problem.Error(err)
	}
	switch t.Action {
	case ticket.Acknowledge:
		err = h.Engine.Acknowledge(ctx, t.Incident, access.Who(ctx), use.Comment, time.Time{})
	case ticket.Silence:
		err = h.silenceBy(ctx, t, detail.Body.Incident, use)
	}
	if err != nil {
		back := h.Store.Update(context.WithoutCancel(ctx), func(tx *meta.Tx) error { return tx.ReturnTicket(t.ID) })
		if back != nil {
			return nil, problem.Error(back)
		}
		return nil, problem.Error(err)
	}
	return h.showTicket(ctx, t)
}

// silenceBy makes the silence that a ticket is for.
func (h *handlers) silenceBy(ctx context.Context, t ticket.Ticket, i Incident, use TicketUse) error {
	hours := use.Hours
	if hours == 0 {
		hours = 4
	}
	until := h.now().Add(time.Duration(hours * float64(time.Hour))).UTC().Truncate(time.Second)
	comment := i.Title
	if use.Comment != "" {
		comment = use.Comment
	}
	name := "link-" + strings.ToLower(incident.NewID("", h.now()))
	raw, err := json.Marshal(routing.Silence{
		APIVersion: policy.APIVersion, Kind: meta.KindSilence, Metadata: policy.Metadata{Name: name},
		Spec: routing.SilenceSpec{Matchers: mutes(i), Until: &until, Comment: comment},
	})
	if err != nil {
		return fmt.Errorf("write silence: %w", err)
	}
	_, err = createKind(ctx, h, silences(), &Document{Manager: "console", RawBody: raw})
	return err
}
