// Package backups serves the making and listing of backups. It must not know
// what one consists of.
package backups

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/api/problem"
	"github.com/crowsnest-dev/crowsnest/storage/backup"
)

// Maker makes backups. *backup.Runner is one.
type Maker interface {
	// Begin is fault.ErrConflict while one is made, fault.ErrInvalid when the
	// server has no place for them.
	Begin() error
	Status() backup.Status
	List(ctx context.Context) ([]*backup.Manifest, error)
}

// Backup is a whole backup.
type Backup struct {
	ID        string    `json:"id"`
	CreatedAt time.Time `json:"created_at" doc:"Everything that was acknowledged before is in it."`
	Version   string    `json:"version" doc:"Of the server that made it."`
	Bytes     int64     `json:"bytes" doc:"Of all its files; blocks are shared with other backups."`
	Files     int       `json:"files"`
}

// State is how the making of backups does.
type State struct {
	Running     bool       `json:"running"`
	StartedAt   *time.Time `json:"started_at" doc:"Of the one that is made, or was made last since the server's start."`
	EndedAt     *time.Time `json:"ended_at" doc:"Of the last one."`
	Step        string     `json:"step,omitempty" doc:"What is done now."`
	DoneBytes   int64      `json:"done_bytes"`
	TotalBytes  int64      `json:"total_bytes" doc:"0 while it is not known."`
	CopiedBytes int64      `json:"copied_bytes" doc:"Of these, that were not there already."`
	Error       string     `json:"error,omitempty" doc:"Why the last one failed."`
	ID          string     `json:"id,omitempty" doc:"Of the last whole one."`
}

type list struct {
	State State    `json:"state"`
	Items []Backup `json:"items" nullable:"false" doc:"The newest last."`
	Next  *string  `json:"next" doc:"Always null."`
}

// Register adds GET and POST /backups.
func Register(api huma.API, maker Maker) {
	huma.Register(api, huma.Operation{
		OperationID: "list-backups", Method: http.MethodGet, Path: "/backups", Tags: []string{"server"},
		Summary: "List backups, and how far the one is that is being made",
	}, func(ctx context.Context, _ *struct{}) (*struct{ Body list }, error) {
		if err := access.Authorize(ctx, access.Admin, "", ""); err != nil {
			return nil, problem.Error(err)
		}
		all, err := maker.List(ctx)
		if err != nil {
			return nil, problem.Error(err)
		}
		out := list{State: state(maker), Items: []Backup{}}
		for _, m := range all {
			out.Items = append(out.Items, Backup{ID: m.ID, CreatedAt: m.CreatedAt, Version: m.Version, Bytes: m.Bytes(), Files: len(m.Files)})
		}
		return &struct{ Body list }{out}, nil
	})
	huma.Register(api, huma.Operation{
		OperationID: "create-backup", Method: http.MethodPost, Path: "/backups", Tags: []string{"server"}, DefaultStatus: http.StatusAccepted,
		Summary: "Begin a backup", Description: "Into the folder that the server was given by --backup-dir, or the bucket of --backup-bucket. Only what is new there is copied. GET says how far it is.",
	}, func(ctx context.Context, _ *struct{}) (*struct{ Body State }, error) {
		if err := access.Authorize(ctx, access.Admin, "", ""); err != nil {
			return nil, problem.Error(err)
		}
		if err := maker.Begin(); err != nil {
			return nil, problem.Error(err)
		}
		return &struct{ Body State }{state(maker)}, nil
	})
}

func state(maker Maker) State {
	st := maker.Status()
	at := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		return &t
	}
	return State{
		Running: st.Running, StartedAt: at(st.StartedAt), EndedAt: at(st.EndedAt), Step: st.Progress.Step, DoneBytes: st.Progress.Done,
		TotalBytes: st.Progress.Total, CopiedBytes: st.Progress.Copied, Error: st.Error, ID: st.ID,
	}
}
