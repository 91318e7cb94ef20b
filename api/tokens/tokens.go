// Package tokens serves the making, listing and revoking of tokens. It must not
// know how a request proves to have one: that is access's.
package tokens

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/oklog/ulid/v2"

	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/api/problem"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// Store keeps tokens. *meta.DB is one.
type Store interface {
	CreateToken(ctx context.Context, t meta.Token) error
	ListTokens(ctx context.Context) ([]meta.Token, error)
	DeleteToken(ctx context.Context, id string) error // fault.ErrNotFound
	TouchToken(ctx context.Context, id string, at time.Time) error
}

// Options of the handlers.
type Options struct {
	Store   Store                  // required to serve
	Changed func(all []meta.Token) // told of all tokens after each change
	Now     func() time.Time       // default time.Now
}

// Token is a token as the API gives it.
type Token struct {
	ID         string     `json:"id" example:"tok_01K…"`
	Kind       string     `json:"kind" enum:"api,ingest"`
	Name       string     `json:"name"`
	Cluster    string     `json:"cluster,omitempty" doc:"Of an ingest token: the only cluster that it sends for."`
	CreatedAt  time.Time  `json:"created_at"`
	LastUsedAt *time.Time `json:"last_used_at" doc:"To the minute; null when it was never used."`
}

// CreatedToken is a token just made, with its secret.
type CreatedToken struct {
	Token
	Secret string `json:"token" doc:"The token itself. It is shown this once and never again."`
}

type tokenList struct {
	Items []Token `json:"items" nullable:"false"`
	Next  *string `json:"next"`
}

// NewToken asks for a token.
type NewToken struct {
	Kind    string `json:"kind" enum:"api,ingest" doc:"api: reads and changes everything. ingest: sends data of one cluster."`
	Name    string `json:"name" doc:"For people, 1 to 63 characters." minLength:"1" maxLength:"63"`
	Cluster string `json:"cluster,omitempty" doc:"Of an ingest token, required: the cluster's id."`
}

var clusterID = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// CheckClusterID refuses what cannot be a cluster's id.
func CheckClusterID(path, id string) error {
	if !clusterID.MatchString(id) {
		return fault.Wrong(path, fault.Say(fault.ClusterID), id)
	}
	return nil
}

// Register adds GET and POST /tokens and DELETE /tokens/{id}.
func Register(api huma.API, opts Options) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	h := &handlers{Options: opts}
	huma.Register(api, huma.Operation{
		OperationID: "list-tokens", Method: http.MethodGet, Path: "/tokens", Tags: []string{"access"}, Summary: "List tokens",
	}, h.list)
	huma.Register(api, huma.Operation{
		OperationID: "create-token", Method: http.MethodPost, Path: "/tokens", Tags: []string{"access"}, Summary: "Make a token",
		Description:   "From the first API token on, the server wants a token with every request.",
		DefaultStatus: http.StatusCreated,
	}, h.create)
	huma.Register(api, huma.Operation{
		OperationID: "delete-token", Method: http.MethodDelete, Path: "/tokens/{id}", Tags: []string{"access"}, Summary: "Revoke a token",
		DefaultStatus: http.StatusNoContent,
	}, h.delete)
}

type handlers struct {
	Options
	// mu keeps what is read anew in order: a list from before a token was revoked
	// must not be told after the one from behind it.
	mu sync.Mutex
}

func (h *handlers) list(ctx context.Context, _ *struct{}) (*struct{ Body tokenList }, error) {
	if err := access.Authorize(ctx, access.Admin, "", ""); err != nil {
		return nil, problem.Error(err)
	}
	stored, err := h.Store.ListTokens(ctx)
	if err != nil {
		return nil, problem.Error(err)
	}
	out := tokenList{Items: make([]Token, len(stored))}
	for i, t := range stored {
		out.Items[i] = shown(t)
	}
	return &struct{ Body tokenList }{out}, nil
}

func (h *handlers) create(ctx context.Context, in *struct{ Body NewToken }) (*struct{ Body CreatedToken }, error) {
	if err := access.Authorize(ctx, access.Admin, "", ""); err != nil {
		return nil, problem.Error(err)
	}
	var fs fault.Fields
	name := strings.TrimSpace(in.Body.Name)
	if name == "" {
		fs.Say("name", fault.Say(fault.CharactersBetween, 1, 63), in.Body.Name)
	}
	kind := access.APIToken
	switch in.Body.Kind {
	case meta.TokenIngest:
		kind = access.IngestToken
		if f, ok := CheckClusterID("cluster", in.Body.Cluster).(fault.Field); ok {
			fs = append(fs, f)
		}
	case meta.TokenAPI:
		if in.Body.Cluster != "" {
			fs.Say("cluster", fault.Say(fault.ClusterOfToken), in.Body.Cluster)
		}
	}
	if err := fs.Err(); err != nil {
		return nil, problem.Error(fmt.Errorf("create token: %w", err))
	}
	secret := access.NewToken(kind)
	hash := access.Hash(secret)
	t := meta.Token{
		ID: "tok_" + ulid.Make().String(), Kind: in.Body.Kind, Name: name, Cluster: in.Body.Cluster,
		Hash: hash[:], CreatedAt: h.Now().UTC().Truncate(time.Millisecond),
	}
	if err := h.Store.CreateToken(ctx, t); err != nil {
		return nil, problem.Error(err)
	}
	if err := h.changed(ctx); err != nil {
		return nil, problem.Error(err)
	}
	return &struct{ Body CreatedToken }{CreatedToken{shown(t), secret}}, nil
}

func (h *handlers) delete(ctx context.Context, in *struct {
	ID string `path:"id"`
}) (*struct{}, error) {
	if err := access.Authorize(ctx, access.Admin, "", ""); err != nil {
		return nil, problem.Error(err)
	}
	if err := h.Store.DeleteToken(ctx, in.ID); err != nil {
		return nil, problem.Error(err)
	}
	return nil, problem.Error(h.changed(ctx))
}

// changed reads all tokens anew. The change is stored by now: even when the
// client went away it has to take effect.
func (h *handlers) changed(ctx context.Context) error {
	if h.Changed == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	all, err := h.Store.ListTokens(context.WithoutCancel(ctx))
	if err != nil {
		return fmt.Errorf("read the tokens anew: %w", err)
	}
	h.Changed(all)
	return nil
}

func shown(t meta.Token) Token {
	out := Token{ID: t.ID, Kind: t.Kind, Name: t.Name, Cluster: t.Cluster, CreatedAt: t.CreatedAt}
	if !t.LastUsedAt.IsZero() {
		out.LastUsedAt = &t.LastUsedAt
	}
	return out
}

// Stored turns stored tokens into those that access checks.
func Stored(all []meta.Token) []access.Token {
	var out []access.Token
	for _, t := range all {
		if len(t.Hash) != sha256.Size {
			continue // not ours; it matches nothing
		}
		p := access.Principal{Kind: access.APIToken, Name: t.Name}
		if t.Kind == meta.TokenIngest {
			p.Kind, p.Cluster = access.IngestToken, t.Cluster
		}
		out = append(out, access.Token{ID: t.ID, Principal: p, Hash: [sha256.Size]byte(t.Hash)})
	}
	return out
}

// Usage remembers which tokens were used and writes it down now and then, since
// a commit for each request would be far too many. What was not yet written is
// lost when the process is killed.
type Usage struct {
	store  Store
	logger *slog.Logger
	now    func() time.Time

	mu   sync.Mutex
	used map[string]time.Time // by token ID; bounded by the number of tokens
}

// NewUsage makes one.
func NewUsage(store Store, logger *slog.Logger, now func() time.Time) *Usage {
	return &Usage{store: store, logger: logger, now: now, used: map[string]time.Time{}}
}

// Used notes that a token was used now. It does not block.
func (u *Usage) Used(id string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.used[id] = u.now()
}

// Run writes once a minute, and what is left when ctx ends.
func (u *Usage) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			defer cancel()
			u.flush(last)
			return nil
		case <-tick.C:
			u.flush(ctx)
		}
	}
}

func (u *Usage) flush(ctx context.Context) {
	u.mu.Lock()
	used := u.used
	u.used = map[string]time.Time{}
	u.mu.Unlock()
	for id, at := range used {
		if err := u.store.TouchToken(ctx, id, at); err != nil {
			u.logger.Warn("token use not written down", "token", id, "error", err)
			return
		}
	}
}
