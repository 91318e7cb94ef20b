// Package boards keeps what users pinned under one name and address: charts,
// queries, tables and log searches. It must not know how a panel is drawn or
// answered: a board holds questions and no data, so that whoever opens it sees
// what they may see and nothing else.
package boards

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/api/problem"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// Store keeps boards; *meta.DB is one.
type Store interface {
	Update(ctx context.Context, fn func(tx *meta.Tx) error) error
	View(ctx context.Context, fn func(tx *meta.Tx) error) error
}

// Options of the handlers. Without a Store the OpenAPI document can still be
// made.
type Options struct {
	Store Store
	Now   func() time.Time // default time.Now
}

type handlers struct{ Options }

// Register adds the routes.
func Register(api huma.API, o Options) {
	if o.Now == nil {
		o.Now = time.Now
	}
	h := &handlers{o}
	op := func(id, method, path, summary string, status int) huma.Operation {
		return huma.Operation{OperationID: id, Method: method, Path: path, Tags: []string{"boards"}, Summary: summary, DefaultStatus: status}
	}
	document := func(o huma.Operation) huma.Operation {
		// The body is read by ourselves: every wrong field is told at once, and
		// YAML is taken too.
		schema := api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[Board](), true, "Board")
		o.SkipValidateBody, o.MaxBodyBytes = true, policy.MaxBytes+1
		o.RequestBody = &huma.RequestBody{Content: map[string]*huma.MediaType{"application/json": {Schema: schema}, "application/yaml": {Schema: schema}}}
		return o
	}
	const at = "/boards/{name}"
	huma.Register(api, op("list-boards", http.MethodGet, "/boards", "List boards", http.StatusOK), h.list)
	huma.Register(api, document(op("create-board", http.MethodPost, "/boards", "Make a board", http.StatusCreated)), h.create)
	huma.Register(api, op("get-board", http.MethodGet, at, "A board", http.StatusOK), h.get)
	huma.Register(api, document(op("replace-board", http.MethodPut, at, "Change a board", http.StatusOK)), h.replace)
	huma.Register(api, op("delete-board", http.MethodDelete, at, "Delete a board", http.StatusNoContent), h.delete)
}

type answer struct{ Body Board }

type boardList struct {
	Body struct {
		Items []Board `json:"items" nullable:"false"`
		Next  *string `json:"next" doc:"Cursor of the next page; null at the end."`
	}
}

// BoardRef names a board in an address.
type BoardRef struct {
	Name    string `path:"name"`
	Project string `query:"project" default:"default"`
}

// BoardDocument is a board as it is sent.
type BoardDocument struct {
	Manager string `query:"manager" enum:"console,file" default:"console" doc:"Who writes. What another one made is changed with force only."`
	Force   bool   `query:"force"`
	RawBody []byte
}

type documentAt struct {
	BoardRef
	BoardDocument
}

// conflict is a 409 that carries the current board.
type conflict struct {
	*problem.Problem
	Current Board `json:"current" doc:"The board as it is now."`
}

func (c *conflict) Error() string { return c.Problem.Error() }

// conflicting adds the board that is there to a conflict.
func conflicting(err error, there *meta.Resource) error {
	if there == nil || !errors.Is(err, fault.ErrConflict) {
		return problem.Error(err)
	}
	current, readErr := fromRow(*there)
	if readErr != nil {
		return problem.Error(errors.Join(err, readErr))
	}
	return &conflict{Problem: problem.Of(err), Current: current}
}

func (h *handlers) now() time.Time { return h.Now().UTC().Truncate(time.Millisecond) }

func (h *handlers) list(ctx context.Context, _ *struct{}) (*boardList, error) {
	if err := access.Authorize(ctx, access.Read, "", ""); err != nil {
		return nil, problem.Error(err)
	}
	var rows []meta.Resource
	err := h.Store.View(ctx, func(tx *meta.Tx) (err error) { rows, err = tx.Resources(meta.KindBoard); return err })
	if err != nil {
		return nil, problem.Error(err)
	}
	out := &boardList{}
	out.Body.Items = make([]Board, len(rows))
	for i, r := range rows {
		if out.Body.Items[i], err = fromRow(r); err != nil {
			return nil, problem.Error(err)
		}
	}
	return out, nil
}

func (h *handlers) get(ctx context.Context, in *BoardRef) (*answer, error) {
	if err := access.Authorize(ctx, access.Read, "", ""); err != nil {
		return nil, problem.Error(err)
	}
	var row meta.Resource
	err := h.Store.View(ctx, func(tx *meta.Tx) (err error) { row, err = tx.Resource(meta.KindBoard, in.Project, in.Name); return err })
	if err != nil {
		return nil, problem.Error(err)
	}
	b, err := fromRow(row)
	return &answer{b}, problem.Error(err)
}

func (h *handlers) create(ctx context.Context, in *BoardDocument) (*answer, error) {
	if err := access.Authorize(ctx, access.Write, "", ""); err != nil {
		return nil, problem.Error(err)
	}
	b, err := Parse(in.RawBody)
	if err != nil {
		return nil, problem.Error(err)
	}
	now := h.now()
	row := meta.Resource{
		ID: incident.NewID("brd_", now), Kind: meta.KindBoard, Project: b.Metadata.Project, Name: b.Metadata.Name, Revision: 1, Labels: b.Metadata.Labels,
		ManagedBy: in.Manager, CreatedAt: now, UpdatedAt: now, UpdatedBy: access.Who(ctx),
	}
	if row.Spec, err = json.Marshal(b.Spec); err != nil {
		return nil, problem.Error(fmt.Errorf("save board %q: %w", b.Metadata.Name, err))
	}
	var there *meta.Resource
	err = h.Store.Update(ctx, func(tx *meta.Tx) error {
		switch r, err := tx.Resource(row.Kind, row.Project, row.Name); {
		case err == nil:
			there = &r
			return fault.Because(fault.ErrConflict, fault.Exists, "board", row.Name)
		case !errors.Is(err, fault.ErrNotFound):
			return err
		}
		return tx.CreateResource(row)
	})
	if err != nil {
		return nil, conflicting(err, there)
	}
	made, err := fromRow(row)
	return &answer{made}, problem.Error(err)
}

func (h *handlers) replace(ctx context.Context, in *documentAt) (*answer, error) {
	if err := access.Authorize(ctx, access.Write, "", ""); err != nil {
		return nil, problem.Error(err)
	}
	b, err := Parse(in.RawBody)
	if err != nil {
		return nil, problem.Error(err)
	}
	if b.Metadata.Name != in.Name {
		return nil, problem.Error(fault.Fields{fault.Wrong("metadata.name", fault.Say(fault.NameFixed, in.Name), b.Metadata.Name)})
	}
	spec, err := json.Marshal(b.Spec)
	if err != nil {
		return nil, problem.Error(fmt.Errorf("save board %q: %w", in.Name, err))
	}
	var row meta.Resource
	var there *meta.Resource
	err = h.Store.Update(ctx, func(tx *meta.Tx) (err error) {
		if row, err = tx.Resource(meta.KindBoard, in.Project, in.Name); err != nil {
			return err
		}
		before := row
		there = &before
		if given := b.Metadata.Revision; given != 0 && given != row.Revision {
			return fault.Because(fault.ErrConflict, fault.Stale, "board", in.Name, given, row.Revision)
		}
		if in.Manager != row.ManagedBy && !in.Force {
			return fault.Because(fault.ErrConflict, fault.Managed, "board", in.Name, row.ManagedBy)
		}
		row.Labels, row.ManagedBy, row.UpdatedAt, row.UpdatedBy, row.Spec = b.Metadata.Labels, in.Manager, h.now(), access.Who(ctx), spec
		row.Revision, err = tx.UpdateResource(row)
		return err
	})
	if err != nil {
		return nil, conflicting(err, there)
	}
	changed, err := fromRow(row)
	return &answer{changed}, problem.Error(err)
}

func (h *handlers) delete(ctx context.Context, in *BoardRef) (*struct{}, error) {
	if err := access.Authorize(ctx, access.Write, "", ""); err != nil {
		return nil, problem.Error(err)
	}
	return nil, problem.Error(h.Store.Update(ctx, func(tx *meta.Tx) error {
		row, err := tx.Resource(meta.KindBoard, in.Project, in.Name)
		if err != nil {
			return err
		}
		return tx.RemoveResource(row, h.now(), access.Who(ctx))
	}))
}
