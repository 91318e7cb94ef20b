// Package alerts serves policies, targets, incidents, alerts and deliveries. It
// must not know how an object is judged or how a message is sent: it reads and
// writes what users write, and shows what came of it.
package alerts

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/alerting/notify"
	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/api/problem"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// Store keeps everything; *meta.DB is one.
type Store interface {
	Update(ctx context.Context, fn func(tx *meta.Tx) error) error
	View(ctx context.Context, fn func(tx *meta.Tx) error) error
}

// Engine is who evaluates; *engine.Engine is one.
type Engine interface {
	// PoliciesChanged must not block.
	PoliciesChanged()
	Status(r meta.Resource, clusters []meta.ClusterRow) (policy.Status, error)
	Intervals() map[string]time.Duration
	CoreEngine
}

// Outbox is who sends; *notify.Outbox is one.
type Outbox interface {
	Wake()
	Guard() *notify.Guard
	Circuit(targetID string) (notify.Circuit, bool)
	Again(tx *meta.Tx, id string, asNew bool, now time.Time) (meta.Notification, error)
}

// Options of the handlers. Everything is required to serve; without, the
// OpenAPI document can still be made.
type Options struct {
	Store     Store
	Engine    Engine
	Outbox    Outbox
	Keyring   *notify.Keyring
	Rules     Rules
	Custom    Custom
	Backtests Backtests
	Objects   Objects // what is there now
	// PublicURL is where people reach the console, without a slash at the end.
	PublicURL string
	// CheckFilter says what is wrong with a LogsQL filter; nil: it is not asked.
	CheckFilter func(filter string) error
	Now         func() time.Time // default time.Now
}

type handlers struct {
	Options
	links incident.Links
}

// Register adds the routes.
func Register(api huma.API, o Options) {
	if o.Now == nil {
		o.Now = time.Now
	}
	h := &handlers{Options: o, links: incident.Links{Base: o.PublicURL}}

	read := func(id, path, tag, summary string) huma.Operation {
		return huma.Operation{OperationID: id, Method: http.MethodGet, Path: path, Tags: []string{tag}, Summary: summary}
	}
	write := func(id, method, path, tag, summary string, status int, body any) huma.Operation {
		op := huma.Operation{OperationID: id, Method: method, Path: path, Tags: []string{tag}, Summary: summary, DefaultStatus: status}
		if body != nil {
			// The body is read by ourselves: every wrong field is told at once, and
			// YAML is taken too.
			t := reflect.TypeOf(body)
			schema := api.OpenAPI().Components.Schemas.Schema(t, true, t.Name())
			op.SkipValidateBody = true
			op.MaxBodyBytes = policy.MaxBytes + 1
			op.RequestBody = &huma.RequestBody{Content: map[string]*huma.MediaType{
				"application/json": {Schema: schema}, "application/yaml": {Schema: schema},
			}}
		}
		return op
	}
	huma.Register(api, read("list-policies", "/policies", "alerting", "List policies with their status"), h.listPolicies)
	huma.Register(api, write("create-policy", http.MethodPost, "/policies", "alerting", "Make a policy", http.StatusCreated, policy.Policy{}), h.createPolicy)
	huma.Register(api, read("get-policy", "/policies/{name}", "alerting", "A policy with its status"), h.getPolicy)
	huma.Register(api, write("replace-policy", http.MethodPut, "/policies/{name}", "alerting", "Change a policy", http.StatusOK, policy.Policy{}), h.replacePolicy)
	huma.Register(api, write("delete-policy", http.MethodDelete, "/policies/{name}", "alerting", "Delete a policy; its alerts end", http.StatusNoContent, nil), h.deletePolicy)
	huma.Register(api, read("list-watching-policies", "/watching-policies", "alerting", "List the enabled policies that look at an object, or at some inside it"), h.watching)
	h.registerCore(api, read, write)

	huma.Register(api, read("list-targets", "/targets", "alerting", "List targets"), h.listTargets)
	huma.Register(api, write("create-target", http.MethodPost, "/targets", "alerting", "Make a target; its signing key is shown this once", http.StatusCreated, notify.Target{}), h.createTarget)
	huma.Register(api, read("get-target", "/targets/{name}", "alerting", "A target"), h.getTarget)
	huma.Register(api, write("replace-target", http.MethodPut, "/targets/{name}", "alerting", "Change a target; its signing key stays", http.StatusOK, notify.Target{}), h.replaceTarget)
	huma.Register(api, write("delete-target", http.MethodDelete, "/targets/{name}", "alerting", "Delete a target that no policy names", http.StatusNoContent, nil), h.deleteTarget)
	huma.Register(api, write("test-target", http.MethodPost, "/targets/{name}/test", "alerting", "Send a test message", http.StatusAccepted, nil), h.testTarget)
	huma.Register(api, write("preview-target", http.MethodPost, "/targets/preview", "alerting", "What a webhook would get of an example of an incident; nothing is sent or kept", http.StatusOK, nil), h.previewTarget)
	huma.Register(api, write("rotate-target", http.MethodPost, "/targets/{name}/rotate", "alerting", "Make a new signing key, shown this once; the one before signs too for a while", http.StatusOK, nil), h.rotateTarget)
	huma.Register(api, read("get-message-schema", "/schemas/notification", "alerting", "JSON Schema of the notification that webhooks get, format crowsnest/v1"), h.messageSchema)

	huma.Register(api, read("list-incidents", "/incidents", "incidents", "List incidents, the newest first"), h.listIncidents)
	huma.Register(api, read("get-incident", "/incidents/{id}", "incidents", "An incident with its alerts and deliveries"), h.getIncident)
	huma.Register(api, read("list-alerts", "/alerts", "incidents", "List alerts, the newest first"), h.listAlerts)
	huma.Register(api, read("list-deliveries", "/deliveries", "incidents", "List notifications with their attempts, the newest first"), h.listDeliveries)
	huma.Register(api, write("resend-delivery", http.MethodPost, "/deliveries/{id}/resend", "incidents", "Send a notification again, with the same id and body or as new", http.StatusAccepted, nil), h.resend)
}

// body of an answer.
type body[T any] struct{ Body T }

type list[T any] struct {
	Items []T     `json:"items" nullable:"false"`
	Next  *string `json:"next" doc:"Cursor of the next page; null at the end."`
}

type ByName struct {
	Name    string `path:"name"`
	Project string `query:"project" default:"default"`
}

type Document struct {
	Manager string `query:"manager" enum:"console,file" default:"console" doc:"Who writes. What another one made is changed with force only."`
	Force   bool   `query:"force"`
	DryRun  bool   `query:"dryRun" doc:"Validate, and answer 200 with what would be there; nothing is kept. Of a policy, status.trial says what it would select and say now."`
	// Assume serves a file that is tried whole: what it makes first is not there.
	Assume  []string `query:"assumeTargets" maxItems:"1000" doc:"With dryRun: names of targets that are taken to be there."`
	RawBody []byte
}

// status of the answer to a document that was, or would be, written.
func (d *Document) status(written int) int {
	if d.DryRun {
		return http.StatusOK
	}
	return written
}

// assumed adds the targets that a dry run takes to be there.
func (d *Document) assumed(targets []string) []string {
	if d.DryRun {
		targets = append(targets, d.Assume...)
	}
	return targets
}

// kept says that a write changes nothing, which is no version of its own: files are
// applied again and again. Whoever writes what is there already takes nothing from
// its manager, so that all that was exported can be applied.
func kept(before, after meta.Resource, given int64, force bool) bool {
	return (given == 0 || given == before.Revision) && (before.ManagedBy == after.ManagedBy || !force) &&
		maps.Equal(before.Labels, after.Labels) && bytes.Equal(before.Spec, after.Spec)
}

type documentAt struct {
	ByName
	Document
}

// conflict is a 409 that carries the current object.
type conflict struct {
	*problem.Problem
	Current any `json:"current" doc:"The object as it is now."`
}

func (c *conflict) Error() string { return c.Problem.Error() }

func (h *handlers) now() time.Time { return h.Now().UTC().Truncate(time.Millisecond) }

// checkWrite refuses a change made from an old revision, and one of what
// somebody else manages.
func checkWrite(current meta.Resource, given int64, manager string, force bool) error {
	if given != 0 && given != current.Revision {
		return fault.Because(fault.ErrConflict, fault.Stale, current.Kind, current.Name, given, current.Revision)
	}
	if manager != current.ManagedBy && !force {
		return fault.Because(fault.ErrConflict, fault.Managed, current.Kind, current.Name, current.ManagedBy)
	}
	return nil
}

// answerConflict adds the current object to a conflict.
func answerConflict(err error, current any) error {
	if err == nil || !errors.Is(err, fault.ErrConflict) || current == nil {
		return problem.Error(err)
	}
	return &conflict{Problem: problem.Of(err), Current: current}
}

func sameName(path, given string) error {
	if path != given {
		return fault.Fields{fault.Wrong("metadata.name", fault.Say(fault.NameFixed, path), given)}
	}
	return nil
}

func marshalSpec(v any) (json.RawMessage, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("save: %w", err)
	}
	return b, nil
}
