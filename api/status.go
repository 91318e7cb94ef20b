package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/api/problem"
)

// StatusOptions say what the status is made from.
type StatusOptions struct {
	// Clusters lists the ids of all known clusters.
	Clusters func() []string
	// Stores describes the state of each store in words and figures; may be nil.
	Stores func() []Store
	// Simulated says that what is shown is no real cluster.
	Simulated bool
}

// Store is the state of one store.
type Store struct {
	Name     string `json:"name" enum:"metrics,logs,meta,inventory"`
	Series   uint64 `json:"series,omitempty" doc:"Of the metrics store: series with samples in the last hours."`
	Rows     uint64 `json:"rows,omitempty" doc:"Of the log store."`
	Bytes    uint64 `json:"bytes,omitempty" doc:"On disk."`
	ReadOnly string `json:"read_only,omitempty" doc:"Why writes are refused; left out when they are taken."`

	Since       *time.Time `json:"since,omitempty" doc:"Of the metrics store: the time of its oldest sample; left out while it has none."`
	FullSeconds *int64     `json:"full_seconds,omitempty" doc:"Until the disk is full, if samples go on arriving as in the last day; left out when it will not be, or is not known yet."`
	Rewriting   int        `json:"rewriting,omitempty" doc:"Blocks that still hold samples of deleted clusters, which are hidden; their space is freed block by block."`
}

// Status says what this server is and how it does.
type Status struct {
	Version   string    `json:"version"`
	StartedAt time.Time `json:"started_at"`
	Now       time.Time `json:"now" doc:"The server's clock."`
	Ready     bool      `json:"ready"`
	Parts     []Part    `json:"parts" nullable:"false"`
	Principal Principal `json:"principal" doc:"Who asks."`
	Open      bool      `json:"open" doc:"There is no API token yet: whoever reaches the server from its own machine is its admin."`
	Simulated bool      `json:"simulated" doc:"What is shown is a simulated cluster."`
	Clusters  []string  `json:"clusters" nullable:"false"`
	Stores    []Store   `json:"stores" nullable:"false"`
}

// Principal is who asks.
type Principal struct {
	Kind access.Kind `json:"kind" enum:"local_admin,api_token,ingest_token"`
	Name string      `json:"name"`
}

func (s *Server) registerStatus(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "get-status", Method: http.MethodGet, Path: "/status", Tags: []string{"server"}, Summary: "Show what the server is and how it does",
	}, func(ctx context.Context, _ *struct{}) (*struct{ Body Status }, error) {
		if err := access.Authorize(ctx, access.Read, "", ""); err != nil {
			return nil, problem.Error(err)
		}
		out := Status{
			Version: s.opts.Version, StartedAt: s.opts.StartedAt, Now: s.opts.Now().UTC(), Open: s.opts.Access.Open(),
			Simulated: s.opts.Status.Simulated, Clusters: []string{}, Stores: []Store{},
		}
		out.Parts, out.Ready = s.opts.Readiness.Parts()
		if out.Parts == nil {
			out.Parts = []Part{}
		}
		p, _ := access.From(ctx)
		out.Principal.Kind, out.Principal.Name = p.Kind, p.Name
		if f := s.opts.Status.Clusters; f != nil {
			out.Clusters = append(out.Clusters, f()...)
		}
		if f := s.opts.Status.Stores; f != nil {
			out.Stores = append(out.Stores, f()...)
		}
		return &struct{ Body Status }{out}, nil
	})
}
