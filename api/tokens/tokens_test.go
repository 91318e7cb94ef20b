package tokens

import (
	"context"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/humatest"

	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/api/problem"
	"github.com/crowsnest-dev/crowsnest/internal/bubbletest"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

func TestCreateListDelete(t *testing.T) {
	problem.Use()
	db, err := meta.Open(filepath.Join(t.TempDir(), "meta.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	var changed []meta.Token
	_, api := humatest.New(t)
	api.UseMiddleware(func(ctx huma.Context, next func(huma.Context)) {
		next(huma.WithContext(ctx, access.With(ctx.Context(), access.Principal{Kind: access.LocalAdmin})))
	})
	Register(api, Options{Store: db, Changed: func(all []meta.Token) { changed = all }})

	for body, want := range map[string]string{
		`{"kind":"ingest","name":"x"}`:                            "body.cluster",
		`{"kind":"ingest","name":"x","cluster":"Prod 1"}`:         "body.cluster",
		`{"kind":"api","name":"x","cluster":"prod-1"}`:            "ingest tokens only",
		`{"kind":"root","name":"x"}`:                              "body.kind",
		`{"kind":"api","name":"   "}`:                             "body.name",
		`{"kind":"api","name":"x","admin":true}`:                  "body.admin",
		`{"kind":"api","name":"` + strings.Repeat("x", 64) + `"}`: "body.name",
	} {
		res := api.Post("/tokens", strings.NewReader(body))
		if res.Code != 422 || !strings.Contains(res.Body.String(), want) {
			t.Errorf("%s: got %d %s, want 422 that says %q", body, res.Code, res.Body, want)
		}
	}
	if changed != nil {
		t.Errorf("a refused token changed something: %v", changed)
	}

	res := api.Post("/tokens", strings.NewReader(`{"kind":"ingest","name":"collectors","cluster":"prod-1"}`))
	var made CreatedToken
	if err := json.Unmarshal(res.Body.Bytes(), &made); err != nil || res.Code != 201 || !strings.HasPrefix(made.Secret, "cni_") {
		t.Fatalf("got %d %s", res.Code, res.Body)
	}
	known := Stored(changed)
	if len(known) != 1 || known[0].Hash != access.Hash(made.Secret) || known[0].Principal != (access.Principal{Kind: access.IngestToken, Name: "collectors", Cluster: "prod-1"}) {
		t.Errorf("got %+v", known)
	}
	if list := api.Get("/tokens").Body.String(); !strings.Contains(list, made.ID) || strings.Contains(list, made.Secret) || strings.Contains(list, `"hash"`) {
		t.Errorf("the list shows too little or too much: %s", list)
	}
	if res := api.Delete("/tokens/" + made.ID); res.Code != 204 || len(changed) != 0 {
		t.Errorf("got %d %s, left %v", res.Code, res.Body, changed)
	}
	if res := api.Delete("/tokens/" + made.ID); res.Code != 404 {
		t.Errorf("a second time: %d %s", res.Code, res.Body)
	}
}

// touched is a Store that keeps what was touched.
type touched struct {
	Store
	mu  sync.Mutex
	ids []string
	err error
}

func (s *touched) TouchToken(_ context.Context, id string, _ time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ids = append(s.ids, id)
	return s.err
}

func (s *touched) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *touched) is(ids ...string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Equal(s.ids, ids)
}

func TestUsageIsWrittenOnceAMinute(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		s := &touched{}
		u := NewUsage(s, slog.New(slog.DiscardHandler), time.Now)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- u.Run(ctx) }()
		for range 1000 {
			u.Used("a")
		}
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if !s.is() {
			t.Errorf("written early: %v", s.ids)
		}
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if !s.is("a") {
			t.Errorf("got %v", s.ids)
		}
		u.Used("b")
		s.fail(fault.ErrUnavailable)
		cancel()
		if err := <-done; err != nil || !s.is("a", "b") {
			t.Errorf("at the end: %v, %v", s.ids, err)
		}
	})
}
