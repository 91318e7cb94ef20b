package backups

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2/humatest"

	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/api/problem"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/backup"
)

type maker struct{ running bool }

func (m *maker) Begin() error {
	if m.running {
		return fmt.Errorf("one is made: %w", fault.ErrConflict)
	}
	m.running = true
	return nil
}

func (m *maker) Status() backup.Status {
	if !m.running {
		return backup.Status{}
	}
	return backup.Status{Running: true, StartedAt: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC), Progress: backup.Progress{Step: "metrics", Done: 1, Total: 3}}
}

func (m *maker) List(context.Context) ([]*backup.Manifest, error) {
	return []*backup.Manifest{{ID: "b1", Files: []backup.File{{Bytes: 5}, {Bytes: 6}}}}, nil
}

func TestBackupsAreListedAndBegun(t *testing.T) {
	problem.Use()
	_, api := humatest.New(t)
	Register(api, &maker{})
	admin := access.With(context.Background(), access.Principal{Kind: access.LocalAdmin})
	sender := access.With(context.Background(), access.Principal{Kind: access.IngestToken, Cluster: "prod"})
	for _, tc := range []struct {
		ctx    context.Context
		begin  bool
		status int
		want   string
	}{
		{sender, true, http.StatusForbidden, ""},
		{sender, false, http.StatusForbidden, ""},
		{admin, false, http.StatusOK, `"state":{"running":false,"started_at":null`},
		{admin, true, http.StatusAccepted, `"running":true`},
		{admin, true, http.StatusConflict, "one is made"},
		{admin, false, http.StatusOK, `"step":"metrics","done_bytes":1,"total_bytes":3`},
		{admin, false, http.StatusOK, `"items":[{"id":"b1"`},
		{admin, false, http.StatusOK, `"bytes":11,"files":2`},
	} {
		do := api.GetCtx
		if tc.begin {
			do = api.PostCtx
		}
		if a := do(tc.ctx, "/backups"); a.Code != tc.status || !strings.Contains(a.Body.String(), tc.want) {
			t.Errorf("begin %v: %d %s, want %d %s", tc.begin, a.Code, a.Body, tc.status, tc.want)
		}
	}
}
