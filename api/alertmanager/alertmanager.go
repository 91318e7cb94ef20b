// Package alertmanager serves Alertmanager's API (/api/v2) on our alerts,
// silences and targets, so that Prometheus, amtool, karma and Grafana work
// against us. It must not know how an alert is judged or told.
package alertmanager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/go-openapi/strfmt"
	"github.com/prometheus/alertmanager/api/v2/models"
	"github.com/prometheus/alertmanager/pkg/labels"
	"github.com/prometheus/common/model"
	"sigs.k8s.io/yaml"

	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/alerting/routing"
	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// Prefix of the API.
const Prefix = "/api/v2"

// PathAlerts is where Prometheus posts to. Ingest tokens may post there too.
const PathAlerts = Prefix + "/alerts"

const (
	// speaks is the version of Alertmanager whose API this is; programs choose
	// by it how they read the answers.
	speaks = "0.34.2"
	// resolveTimeout is after which an alert ends that came without an end and
	// does not come again.
	resolveTimeout = 5 * time.Minute
	maxBody        = 16 << 20
	maxAlerts      = 10_000 // in one request
	maxPattern     = 1 << 10
)

// Store keeps everything; *meta.DB is one.
type Store interface {
	Update(ctx context.Context, fn func(tx *meta.Tx) error) error
	View(ctx context.Context, fn func(tx *meta.Tx) error) error
}

// Receiver takes alerts that others judged; *engine.Engine is one.
type Receiver interface {
	// Received returns when they are stored. fault.ErrLimited: too many fire.
	Received(ctx context.Context, alerts []incident.External) error
}

// Options of a Handler.
type Options struct {
	Store     Store            // required
	Receiver  Receiver         // required
	Changed   func()           // called after a silence changed; default: nothing
	Version   string           // of ours
	StartedAt time.Time        // of the server
	Now       func() time.Time // default time.Now
}

// Handler serves the API.
type Handler struct {
	opts Options
	mux  *http.ServeMux
}

// New makes a handler for all paths under Prefix.
func New(o Options) (*Handler, error) {
	if o.Store == nil || o.Receiver == nil {
		return nil, errors.New("alertmanager: Store and Receiver are required")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Changed == nil {
		o.Changed = func() {}
	}
	h := &Handler{opts: o, mux: http.NewServeMux()}
	route := func(pattern string, verb access.Verb, fn func(*http.Request) (any, error)) {
		method, path, _ := strings.Cut(pattern, " ")
		h.mux.HandleFunc(method+" "+Prefix+path, func(w http.ResponseWriter, r *http.Request) {
			err := access.Authorize(r.Context(), verb, "", "")
			var answer any
			if err == nil {
				answer, err = fn(r)
			}
			write(w, answer, err)
		})
	}
	route("GET /status", access.Read, h.status)
	route("GET /receivers", access.Read, h.receivers)
	route("GET /alerts", access.Read, h.alerts)
	route("GET /alerts/groups", access.Read, h.groups)
	route("GET /silences", access.Read, h.silences)
	route("POST /silences", access.Write, h.putSilence)
	route("GET /silence/{id}", access.Read, h.silence)
	route("DELETE /silence/{id}", access.Write, h.expireSilence)
	h.mux.HandleFunc(Prefix+"/", func(w http.ResponseWriter, r *http.Request) {
		err := access.Authorize(r.Context(), access.Read, "", "")
		if err == nil {
			err = fmt.Errorf("%s %s: %w", r.Method, r.URL.Path, fault.ErrNotFound)
		}
		write(w, nil, err)
	})
	h.mux.HandleFunc("POST "+PathAlerts, func(w http.ResponseWriter, r *http.Request) {
		answer, err := h.post(r)
		write(w, answer, err)
	})
	return h, nil
}

// ServeHTTP answers as Alertmanager does.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.mux.ServeHTTP(w, r) }

// write answers in Alertmanager's shape: errors are a JSON string.
func write(w http.ResponseWriter, answer any, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	status := http.StatusOK
	if err != nil {
		status, answer = http.StatusInternalServerError, "internal error"
		for kind, code := range map[error]int{
			fault.ErrMalformed: 400, fault.ErrInvalid: 400, fault.ErrTooLarge: 413, fault.ErrUnauthenticated: 401, fault.ErrForbidden: 403, fault.ErrNotFound: 404,
			fault.ErrConflict: 409, fault.ErrLimited: 429, fault.ErrUnavailable: 503,
		} {
			if errors.Is(err, kind) {
				status, answer = code, err.Error()
			}
		}
	}
	w.WriteHeader(status)
	if answer != nil {
		_ = json.NewEncoder(w).Encode(answer)
	}
}

func ptr[T any](v T) *T { return &v }

func (h *Handler) status(r *http.Request) (any, error) {
	routes, targets, err := h.routes(r.Context())
	if err != nil {
		return nil, err
	}
	return models.AlertmanagerStatus{
		Uptime:  ptr(strfmt.DateTime(h.opts.StartedAt)),
		Cluster: &models.ClusterStatus{Status: ptr(models.ClusterStatusStatusDisabled), Peers: []*models.PeerStatus{}},
		Config:  &models.AlertmanagerConfig{Original: ptr(configOf(routes, targets))},
		VersionInfo: &models.VersionInfo{
			Version: ptr(speaks), Branch: ptr("crowsnest " + h.opts.Version), Revision: ptr(""), BuildUser: ptr(""), BuildDate: ptr(""), GoVersion: ptr(""),
		},
	}, nil
}

func (h *Handler) routes(ctx context.Context) (routes, targets []meta.Resource, err error) {
	err = h.opts.Store.View(ctx, func(tx *meta.Tx) error {
		if routes, err = tx.Resources(meta.KindRoute); err != nil {
			return err
		}
		targets, err = tx.Resources(meta.KindTarget)
		return err
	})
	return routes, targets, err
}

// configOf writes our routes as a configuration of Alertmanager's, for programs
// that want to see one. It has no secrets: receivers are names.
func configOf(routes, targets []meta.Resource) string {
	type route struct {
		Receiver string   `json:"receiver"`
		Matchers []string `json:"matchers,omitempty"`
		Continue bool     `json:"continue,omitempty"`
		Routes   []route  `json:"routes,omitempty"`
	}
	type receiver struct {
		Name string `json:"name"`
	}
	root := route{Receiver: "none"}
	receivers := []receiver{{"none"}}
	for _, t := range targets {
		receivers = append(receivers, receiver{t.Name})
	}
	specs := make([]routing.RouteSpec, 0, len(routes))
	for _, r := range routes {
		var s routing.RouteSpec
		if json.Unmarshal(r.Spec, &s) == nil && len(s.Targets) > 0 {
			specs = append(specs, s)
		}
	}
	sort.SliceStable(specs, func(i, j int) bool { return specs[i].Order < specs[j].Order })
	for _, s := range specs {
		if s.Default {
			root.Receiver = s.Targets[0].Name
			continue
		}
		for i, t := range s.Targets {
			root.Routes = append(root.Routes, route{Receiver: t.Name, Matchers: s.Matchers, Continue: s.Continue || i < len(s.Targets)-1})
		}
	}
	out, err := yaml.Marshal(map[string]any{"route": root, "receivers": receivers})
	if err != nil {
		return ""
	}
	return string(out)
}

func (h *Handler) receivers(r *http.Request) (any, error) {
	_, targets, err := h.routes(r.Context())
	out := make([]*models.Receiver, len(targets))
	for i, t := range targets {
		out[i] = &models.Receiver{Name: ptr(t.Name)}
	}
	return out, err
}

// parseFilter reads matchers as Alertmanager takes them.
func parseFilter(list []string) ([]*labels.Matcher, error) {
	var out []*labels.Matcher
	for _, text := range list {
		if len(text) > maxPattern {
			return nil, fault.Field{Path: "filter", Reason: fmt.Sprintf("must be at most %d characters", maxPattern)}
		}
		ms, err := labels.ParseMatchers(text)
		if err != nil {
			return nil, fmt.Errorf("filter %q: %w: %w", text, fault.ErrInvalid, err)
		}
		out = append(out, ms...)
	}
	return out, nil
}

func matches(ms []*labels.Matcher, set map[string]string) bool {
	for _, m := range ms {
		if !m.Matches(set[m.Name]) {
			return false
		}
	}
	return true
}

// shown is an alert with what it was asked by.
type shown struct {
	alert    *models.GettableAlert
	incident string
}

// list gives the firing alerts that a request asks for.
func (h *Handler) list(r *http.Request) ([]shown, error) {
	q := r.URL.Query()
	filter, err := parseFilter(q["filter"])
	if err != nil {
		return nil, err
	}
	var receiver *regexp.Regexp
	if text := q.Get("receiver"); text != "" {
		if receiver, err = regexp.Compile("^(?:" + text + ")$"); err != nil || len(text) > maxPattern {
			return nil, fault.Field{Path: "receiver", Reason: "must be a regular expression", Value: text}
		}
	}
	flag := func(name string) (bool, error) {
		switch q.Get(name) {
		case "", "true":
			return true, nil
		case "false":
			return false, nil
		}
		return false, fault.Field{Path: name, Reason: "must be true or false", Value: q.Get(name)}
	}
	want := map[string]bool{}
	for _, name := range []string{"active", "silenced", "inhibited", "muted", "unprocessed"} {
		if want[name], err = flag(name); err != nil {
			return nil, err
		}
	}
	var rows []meta.Alert
	var objects []meta.Resource
	err = h.opts.Store.View(r.Context(), func(tx *meta.Tx) error {
		if rows, err = tx.FiringAlerts(); err != nil {
			return err
		}
		for _, kind := range []string{meta.KindRoute, meta.KindSilence, meta.KindMaintenance, meta.KindInhibition} {
			of, err := tx.Resources(kind)
			if err != nil {
				return err
			}
			objects = append(objects, of...)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	set, err := routing.Compile(objects)
	if err != nil {
		return nil, err
	}
	alerts := make([]*incident.Alert, len(rows))
	facts := make([]routing.Facts, len(rows))
	for i, row := range rows {
		if alerts[i], err = incident.FromRow(row); err != nil {
			return nil, err
		}
		facts[i] = alerts[i].Facts()
	}
	now := h.opts.Now()
	ids := silenceIDs(objects)
	var out []shown
	for i, a := range alerts {
		if !matches(filter, facts[i].Labels) {
			continue
		}
		targets := a.Targets
		if len(targets) == 0 {
			targets = set.Targets(facts[i])
		}
		names := []string{}
		for _, t := range targets {
			names = append(names, t.Name)
		}
		if receiver != nil && !slices.ContainsFunc(names, receiver.MatchString) {
			continue
		}
		st := &models.AlertStatus{State: ptr(models.AlertStatusStateActive), SilencedBy: []string{}, InhibitedBy: []string{}, MutedBy: []string{}}
		for _, m := range set.Muted(facts[i], facts, now) {
			st.State = ptr(models.AlertStatusStateSuppressed)
			switch m.Kind {
			case meta.KindSilence:
				st.SilencedBy = append(st.SilencedBy, ids[m.Name])
			case meta.KindInhibition:
				st.InhibitedBy = append(st.InhibitedBy, m.Name)
			default:
				st.MutedBy = append(st.MutedBy, m.Name)
			}
		}
		loud := *st.State == models.AlertStatusStateActive
		if (loud && !want["active"]) || (len(st.SilencedBy) > 0 && !want["silenced"]) || (len(st.InhibitedBy) > 0 && !want["inhibited"]) || (len(st.MutedBy) > 0 && !want["muted"]) {
			continue
		}
		out = append(out, shown{show(a, facts[i], names, st, now), a.IncidentID})
	}
	sort.Slice(out, func(i, j int) bool { return *out[i].alert.Fingerprint < *out[j].alert.Fingerprint })
	return out, nil
}

// show gives an alert in Alertmanager's shape.
func show(a *incident.Alert, f routing.Facts, targets []string, st *models.AlertStatus, now time.Time) *models.GettableAlert {
	set, notes := models.LabelSet{}, models.LabelSet{}
	full := model.LabelSet{}
	for k, v := range f.Labels {
		set[k], full[model.LabelName(k)] = v, model.LabelValue(v)
	}
	for k, v := range a.Annotations {
		notes[k] = v
	}
	if notes["summary"] == "" {
		notes["summary"] = a.Title
	}
	if a.Explanation != "" {
		notes["explanation"] = a.Explanation
	}
	receivers := make([]*models.ReceiverReference, len(targets))
	for i, name := range targets {
		receivers[i] = &models.ReceiverReference{Name: ptr(name)}
	}
	out := &models.GettableAlert{
		Annotations: notes, StartsAt: ptr(strfmt.DateTime(a.StartedAt)), EndsAt: ptr(strfmt.DateTime(now.Add(resolveTimeout))), UpdatedAt: ptr(strfmt.DateTime(now)),
		Fingerprint: ptr(full.Fingerprint().String()), Receivers: receivers, Status: st,
	}
	out.Labels = set
	return out
}

func (h *Handler) alerts(r *http.Request) (any, error) {
	list, err := h.list(r)
	out := make(models.GettableAlerts, len(list))
	for i, s := range list {
		out[i] = s.alert
	}
	return out, err
}

// groups gives the alerts by incident and target.
func (h *Handler) groups(r *http.Request) (any, error) {
	list, err := h.list(r)
	if err != nil {
		return nil, err
	}
	type key struct{ incident, target string }
	byKey := map[key]*models.AlertGroup{}
	var keys []key
	for _, s := range list {
		targets := s.alert.Receivers
		if len(targets) == 0 {
			targets = []*models.ReceiverReference{{Name: ptr("none")}}
		}
		for _, t := range targets {
			k := key{s.incident, *t.Name}
			g := byKey[k]
			if g == nil {
				g = &models.AlertGroup{Labels: models.LabelSet{"incident": s.incident}, Receiver: t}
				byKey[k] = g
				keys = append(keys, k)
			}
			g.Alerts = append(g.Alerts, s.alert)
		}
	}
	sort.Slice(keys, func(i, j int) bool {
		return keys[i].incident < keys[j].incident || (keys[i].incident == keys[j].incident && keys[i].target < keys[j].target)
	})
	out := models.AlertGroups{}
	for _, k := range keys {
		out = append(out, byKey[k])
	}
	return out, nil
}

// post takes alerts. One that is wrong is refused; the others are kept, as
// Alertmanager does, or one bad alert would hold back all that come with it.
func (h *Handler) post(r *http.Request) (any, error) {
	ctx := r.Context()
	cluster := ""
	if p, ok := access.From(ctx); ok && p.Kind == access.IngestToken {
		cluster = p.Cluster
		if err := access.Authorize(ctx, access.Ingest, cluster, ""); err != nil {
			return nil, err
		}
	} else if err := access.Authorize(ctx, access.Write, "", ""); err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return nil, fmt.Errorf("read alerts: %w: %w", fault.ErrMalformed, err)
	}
	if len(raw) > maxBody {
		return nil, fmt.Errorf("alerts of over %d bytes: %w", maxBody, fault.ErrTooLarge)
	}
	var posted models.PostableAlerts
	if err := json.Unmarshal(raw, &posted); err != nil {
		return nil, fmt.Errorf("read alerts: %w: %w", fault.ErrMalformed, err)
	}
	if len(posted) > maxAlerts {
		return nil, fmt.Errorf("%d alerts in one request: %w: at most %d are allowed", len(posted), fault.ErrTooLarge, maxAlerts)
	}
	now := h.opts.Now()
	var good []incident.External
	var bad []error
	for i, p := range posted {
		e, err := external(p, now)
		if err != nil {
			bad = append(bad, fmt.Errorf("alert %d: %w", i, err))
			continue
		}
		if cluster != "" { // of the credential, never of the sender
			e.Labels["cluster"] = cluster
		}
		good = append(good, e)
	}
	if len(good) > 0 {
		if err := h.opts.Receiver.Received(ctx, good); err != nil {
			return nil, err
		}
	}
	if len(bad) > 0 {
		return nil, fmt.Errorf("%w: %w", fault.ErrInvalid, errors.Join(bad...))
	}
	return nil, nil
}

func external(p *models.PostableAlert, now time.Time) (incident.External, error) {
	e := incident.External{Labels: map[string]string{}, Annotations: map[string]string{}, UpdatedAt: now}
	if p == nil {
		return e, errors.New("is null")
	}
	for k, v := range p.Labels {
		if !model.UTF8Validation.IsValidLabelName(k) || !model.LabelValue(v).IsValid() {
			return e, fmt.Errorf("label %q is not valid", k)
		}
		if v != "" { // an empty label is none
			e.Labels[k] = v
		}
	}
	if len(e.Labels) == 0 {
		return e, errors.New("has no label")
	}
	for k, v := range p.Annotations {
		e.Annotations[k] = v
	}
	e.GeneratorURL = string(p.GeneratorURL)
	e.StartsAt, e.EndsAt = time.Time(p.StartsAt), time.Time(p.EndsAt)
	if e.StartsAt.IsZero() || e.StartsAt.Year() < 1971 {
		e.StartsAt = now
		if !e.EndsAt.IsZero() && e.EndsAt.Before(now) {
			e.StartsAt = e.EndsAt
		}
	}
	if e.EndsAt.IsZero() || e.EndsAt.Year() < 1971 {
		e.EndsAt = now.Add(resolveTimeout)
	}
	if e.EndsAt.Before(e.StartsAt) {
		return e, errors.New("start time must be before end time")
	}
	return e, nil
}
