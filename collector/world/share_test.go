package world

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/crowsnest-dev/crowsnest/collector/kube"
	"github.com/crowsnest-dev/crowsnest/collector/targets"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// What is read once for a cluster is the leader's, whoever else shares users'
// targets; where places cannot be held, everything is.
func TestWhoseTargetsAre(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403}`))
	}))
	defer srv.Close()
	client, err := kube.NewClient(&rest.Config{Host: srv.URL}, "test", "default", "test")
	if err != nil {
		t.Fatal(err)
	}
	defer client.HTTP().CloseIdleConnections()
	members, err := kube.NewMembers(kube.MembersOptions{Client: client, Name: shardLease})
	if err != nil {
		t.Fatal(err)
	}
	s := share{members, new(atomic.Bool)}
	is := func(family string, want bool, why string) {
		t.Helper()
		if got := s.Owns(family, "k"); got != want {
			t.Errorf("%s: %s is ours: %v", why, family, got)
		}
	}
	is(targets.Annotations, false, "without a place")
	is(wire.RawAPIServer, false, "it does not lead")
	before := s.State()
	s.leads.Store(true)
	is(targets.Annotations, false, "a leader without a place")
	is(wire.RawAPIServer, true, "it leads")
	if s.State() == before {
		t.Error("the state does not tell that it leads")
	}
	before = s.State()
	err = members.Run(t.Context(), func(ctx context.Context) error {
		for members.Lone() == "" {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Millisecond):
			}
		}
		is(targets.Annotations, true, "the leader, without the right to places")
		if s.State() == before {
			t.Error("the state does not tell that places may not be held")
		}
		s.leads.Store(false)
		is(targets.Annotations, false, "without the right to places and without the lead")
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
