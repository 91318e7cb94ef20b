package alerts

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/alerting/routing"
	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/api/problem"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// kind is one of the objects that route or mute, all of the same manner.
type kind[O any] struct {
	kind, path, prefix, one string
	parse                   func(document []byte, known routing.Known) (*O, error)
	show                    func(meta.Resource) (*O, error)
	status                  func(o *O, now time.Time, set *routing.Set, firing []routing.Facts)
	parts                   func(o *O) (*policy.Metadata, any)
}

type writer = func(id, method, path, tag, summary string, status int, body any) huma.Operation

func registerKind[O any](api huma.API, h *handlers, write writer, k kind[O]) {
	var zero O
	at, many := k.path+"/{name}", k.path[1:]
	id := many[:len(many)-1]
	huma.Register(api, huma.Operation{OperationID: "list-" + many, Method: http.MethodGet, Path: k.path, Tags: []string{"alerting"}, Summary: "List " + k.one + "s"},
		func(ctx context.Context, in *resourceQuery) (*body[list[O]], error) { return listKind(ctx, h, k, in) })
	huma.Register(api, write("create-"+id, http.MethodPost, k.path, "alerting", "Make a "+k.one, http.StatusCreated, zero),
		func(ctx context.Context, in *Document) (*written[O], error) { return createKind(ctx, h, k, in) })
	huma.Register(api, huma.Operation{OperationID: "get-" + id, Method: http.MethodGet, Path: at, Tags: []string{"alerting"}, Summary: "A " + k.one},
		func(ctx context.Context, in *ByName) (*body[O], error) { return getKind(ctx, h, k, in) })
	huma.Register(api, write("replace-"+id, http.MethodPut, at, "alerting", "Change a "+k.one, http.StatusOK, zero),
		func(ctx context.Context, in *documentAt) (*written[O], error) { return replaceKind(ctx, h, k, in) })
	huma.Register(api, write("delete-"+id, http.MethodDelete, at, "alerting", "Delete a "+k.one, http.StatusNoContent, nil),
		func(ctx context.Context, in *ByName) (*struct{}, error) { return deleteKind(ctx, h, k, in) })
}

// routingNow asks the engine; one that does not answer soon is not waited for,
// since what it would add is only how many alerts are concerned.
func (h *handlers) routingNow(ctx context.Context) (*routing.Set, []routing.Facts) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	set, firing, err := h.Engine.Routing(ctx)
	if err != nil || set == nil {
		return &routing.Set{}, nil
	}
	return set, firing
}

func showKind[O any](ctx context.Context, h *handlers, k kind[O], rows ...meta.Resource) ([]O, error) {
	set, firing := h.routingNow(ctx)
	out := make([]O, len(rows))
	for i, r := range rows {
		o, err := k.show(r)
		if err != nil {
			return nil, err
		}
		k.status(o, h.now(), set, firing)
		out[i] = *o
	}
	return out, nil
}

// written is an object as it was, or would be, stored.
type written[O any] struct {
	Status int
	Body   O
}

func answerWritten[O any](ctx context.Context, h *handlers, k kind[O], row meta.Resource, in *Document, status int) (*written[O], error) {
	if !in.DryRun {
		h.changed(k.kind)
	}
	shown, err := answerKind(ctx, h, k, row)
	if err != nil {
		return nil, err
	}
	return &written[O]{in.status(status), shown.Body}, nil
}

func answerKind[O any](ctx context.Context, h *handlers, k kind[O], row meta.Resource) (*body[O], error) {
	shown, err := showKind(ctx, h, k, row)
	if err != nil {
		return nil, problem.Error(err)
	}
	return &body[O]{shown[0]}, nil
}

func listKind[O any](ctx context.Context, h *handlers, k kind[O], in *resourceQuery) (*body[list[O]], error) {
	if err := access.Authorize(ctx, access.Read, "", ""); err != nil {
		return nil, problem.Error(err)
	}
	var rows []meta.Resource
	err := h.Store.View(ctx, func(tx *meta.Tx) (err error) { rows, err = tx.Resources(k.kind); return err })
	if err != nil {
		return nil, problem.Error(err)
	}
	out := &body[list[O]]{}
	if rows, out.Body.Next, err = in.page(rows); err != nil {
		return nil, problem.Error(err)
	}
	out.Body.Items, err = showKind(ctx, h, k, rows...)
	return out, problem.Error(err)
}

func getKind[O any](ctx context.Context, h *handlers, k kind[O], in *ByName) (*body[O], error) {
	if err := access.Authorize(ctx, access.Read, "", ""); err != nil {
		return nil, problem.Error(err)
	}
	var row meta.Resource
	err := h.Store.View(ctx, func(tx *meta.Tx) (err error) { row, err = tx.Resource(k.kind, in.Project, in.Name); return err })
	if err != nil {
		return nil, problem.Error(err)
	}
	return answerKind(ctx, h, k, row)
}

func (h *handlers) knownForRouting(tx *meta.Tx, doc *Document) (routing.Known, error) {
	targets, err := tx.Resources(meta.KindTarget)
	known := routing.Known{Targets: []string{}, Now: h.now()}
	for _, t := range targets {
		known.Targets = append(known.Targets, t.Name)
	}
	known.Targets = doc.assumed(known.Targets)
	return known, err
}

// oneDefault refuses a second default route.
func oneDefault(tx *meta.Tx, o any) error {
	r, ok := o.(*routing.Route)
	if !ok || !r.Spec.Default {
		return nil
	}
	rows, err := tx.Resources(meta.KindRoute)
	if err != nil {
		return err
	}
	for _, row := range rows {
		other, err := routing.RouteOf(row)
		if err == nil && other.Spec.Default && other.Metadata.Name != r.Metadata.Name {
			return fault.Fields{fault.Wrong("spec.default", fault.Say(fault.RouteDefaultTaken, other.Metadata.Name), true)}
		}
	}
	return nil
}

func createKind[O any](ctx context.Context, h *handlers, k kind[O], in *Document) (*written[O], error) {
	if err := access.Authorize(ctx, access.Write, "", ""); err != nil {
		return nil, problem.Error(err)
	}
	var row meta.Resource
	var current any
	err := h.Store.Update(ctx, func(tx *meta.Tx) error {
		known, err := h.knownForRouting(tx, in)
		if err != nil {
			return err
		}
		o, err := k.parse(in.RawBody, known)
		if err != nil {
			return err
		}
		if err := oneDefault(tx, o); err != nil {
			return err
		}
		m, spec := k.parts(o)
		if there, err := tx.Resource(k.kind, m.Project, m.Name); err == nil {
			if current, err = k.show(there); err != nil {
				return err
			}
			return fault.Because(fault.ErrConflict, fault.Exists, k.one, m.Name)
		} else if !errors.Is(err, fault.ErrNotFound) {
			return err
		}
		if err := h.roomForMetric(tx, o); err != nil {
			return err
		}
		now := h.now()
		row = meta.Resource{
			ID: incident.NewID(k.prefix, now), Kind: k.kind, Project: m.Project, Name: m.Name, Revision: 1, Labels: m.Labels,
			ManagedBy: in.Manager, CreatedAt: now, UpdatedAt: now, UpdatedBy: access.Who(ctx),
		}
		if row.Spec, err = marshalSpec(spec); err != nil {
			return err
		}
		if in.DryRun {
			return nil
		}
		return tx.CreateResource(row)
	})
	if err != nil {
		return nil, answerConflict(err, current)
	}
	return answerWritten(ctx, h, k, row, in, http.StatusCreated)
}

func replaceKind[O any](ctx context.Context, h *handlers, k kind[O], in *documentAt) (*written[O], error) {
	if err := access.Authorize(ctx, access.Write, "", ""); err != nil {
		return nil, problem.Error(err)
	}
	var row meta.Resource
	var current any
	err := h.Store.Update(ctx, func(tx *meta.Tx) (err error) {
		if row, err = tx.Resource(k.kind, in.Project, in.Name); err != nil {
			return err
		}
		known, err := h.knownForRouting(tx, &in.Document)
		if err != nil {
			return err
		}
		if there, err := k.show(row); err == nil {
			known.Began = began(there)
		}
		o, err := k.parse(in.RawBody, known)
		if err != nil {
			return err
		}
		if err := oneDefault(tx, o); err != nil {
			return err
		}
		m, spec := k.parts(o)
		if err := sameName(in.Name, m.Name); err != nil {
			return err
		}
		before := row
		row.Labels, row.ManagedBy, row.UpdatedAt, row.UpdatedBy = m.Labels, in.Manager, h.now(), access.Who(ctx)
		if row.Spec, err = marshalSpec(spec); err != nil {
			return err
		}
		if kept(before, row, m.Revision, in.Force) {
			row = before
			return nil
		}
		if err := checkWrite(before, m.Revision, in.Manager, in.Force); err != nil {
			shown, showErr := k.show(before)
			current = shown
			return errors.Join(err, showErr)
		}
		if in.DryRun {
			row.Revision++
			return nil
		}
		row.Revision, err = tx.UpdateResource(row)
		return err
	})
	if err != nil {
		return nil, answerConflict(err, current)
	}
	return answerWritten(ctx, h, k, row, &in.Document, http.StatusOK)
}

// began is when what mutes begins; nil for what does not.
func began(o any) *time.Time {
	switch o := o.(type) {
	case *routing.Silence:
		return o.Spec.From
	case *routing.Maintenance:
		return o.Spec.Starts
	}
	return nil
}

func deleteKind[O any](ctx context.Context, h *handlers, k kind[O], in *ByName) (*struct{}, error) {
	if err := access.Authorize(ctx, access.Write, "", ""); err != nil {
		return nil, problem.Error(err)
	}
	err := h.Store.Update(ctx, func(tx *meta.Tx) error {
		row, err := tx.Resource(k.kind, in.Project, in.Name)
		if err != nil {
			return err
		}
		return tx.RemoveResource(row, h.now(), access.Who(ctx))
	})
	if err != nil {
		return nil, problem.Error(err)
	}
	h.changed(k.kind)
	return nil, nil
}

// muting counts the alerts that something mutes now.
func muting(kind, name string, now time.Time, set *routing.Set, firing []routing.Facts) int {
	n := 0
	for _, f := range firing {
		for _, m := range set.Muted(f, firing, now) {
			if m.Kind == kind && m.Name == name {
				n++
			}
		}
	}
	return n
}

func routeStatus(o *routing.Route, _ time.Time, set *routing.Set, firing []routing.Facts) {
	o.Status = &routing.RouteStatus{}
	for _, f := range firing {
		for _, name := range set.Routed(f) {
			if name == o.Metadata.Name {
				o.Status.Firing++
			}
		}
	}
}

func silenceStatus(o *routing.Silence, now time.Time, set *routing.Set, firing []routing.Facts) {
	o.Status = &routing.MuteStatus{State: routing.StateActive, Firing: muting(meta.KindSilence, o.Metadata.Name, now, set, firing)}
	switch {
	case o.Spec.From != nil && now.Before(*o.Spec.From):
		o.Status.State = routing.StatePending
	case o.Spec.Until != nil && !now.Before(*o.Spec.Until):
		o.Status.State = routing.StateExpired
	default:
		o.Status.Until = o.Spec.Until
	}
}

func maintenanceStatus(o *routing.Maintenance, now time.Time, set *routing.Set, firing []routing.Facts) {
	o.Status = &routing.MuteStatus{State: routing.StatePending, Firing: muting(meta.KindMaintenance, o.Metadata.Name, now, set, firing)}
	next, err := routing.Preview(o.Spec, now)
	if err != nil {
		o.Status.State = routing.StateDisabled
		return
	}
	o.Status.Next = next
	if until, active := routing.Active(o.Spec, now); active {
		o.Status.State, o.Status.Until = routing.StateActive, &until
	} else if len(next) == 0 {
		o.Status.State = routing.StateExpired
	}
}

func inhibitionStatus(o *routing.Inhibition, now time.Time, set *routing.Set, firing []routing.Facts) {
	o.Status = &routing.MuteStatus{State: routing.StatePending, Firing: muting(meta.KindInhibition, o.Metadata.Name, now, set, firing)}
	switch {
	case o.Spec.Enabled != nil && !*o.Spec.Enabled:
		o.Status.State = routing.StateDisabled
	case o.Status.Firing > 0:
		o.Status.State = routing.StateActive
	}
}

// MaintenancePreview is when the next windows of a maintenance begin.
type MaintenancePreview struct {
	Timezone string          `json:"timezone"`
	Windows  []PreviewWindow `json:"windows" nullable:"false" doc:"The next five."`
	Last     *PreviewWindow  `json:"last,omitempty" doc:"Where none comes any more: the last one there was."`
}

// PreviewWindow is one of them.
type PreviewWindow struct {
	From  time.Time `json:"from"`
	Until time.Time `json:"until"`
	Local string    `json:"local" doc:"When it begins by the clock of its time zone."`
}

func (h *handlers) previewMaintenance(ctx context.Context, in *Document) (*body[MaintenancePreview], error) {
	if err := access.Authorize(ctx, access.Read, "", ""); err != nil {
		return nil, problem.Error(err)
	}
	o, err := routing.ParseMaintenance(in.RawBody, routing.Known{Now: h.now()})
	if err != nil {
		return nil, problem.Error(err)
	}
	next, err := routing.Preview(o.Spec, h.now())
	if err != nil {
		return nil, problem.Error(err)
	}
	out := &body[MaintenancePreview]{MaintenancePreview{Timezone: "UTC", Windows: []PreviewWindow{}}}
	zone := time.UTC
	if o.Spec.Timezone != "" {
		if zone, err = time.LoadLocation(o.Spec.Timezone); err != nil {
			return nil, problem.Error(err)
		}
		out.Body.Timezone = o.Spec.Timezone
	}
	window := func(t time.Time) PreviewWindow {
		return PreviewWindow{From: t, Until: t.Add(o.Spec.Duration.D()), Local: t.In(zone).Format("Mon 2006-01-02 15:04 MST")}
	}
	for _, t := range next {
		out.Body.Windows = append(out.Body.Windows, window(t))
	}
	if t, ok := routing.Last(o.Spec, h.now()); ok && len(next) == 0 {
		last := window(t)
		out.Body.Last = &last
	}
	return out, nil
}
