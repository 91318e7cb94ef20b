package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
)

// leases is an API server that keeps one Lease, and refuses writes that did not
// read the newest.
type leases struct {
	mu      sync.Mutex
	lease   *coordinationv1.Lease
	version int
	down    bool
}

func (l *leases) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	refuse := func(code int, reason string) {
		w.WriteHeader(code)
		fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":%q,"code":%d}`, reason, code)
	}
	if l.down {
		refuse(http.StatusServiceUnavailable, "ServiceUnavailable")
		return
	}
	if r.Method != http.MethodGet {
		raw, _ := io.ReadAll(r.Body)
		o, _, err := codecs.UniversalDeserializer().Decode(raw, nil, nil)
		lease, ok := o.(*coordinationv1.Lease)
		switch {
		case err != nil || !ok:
			refuse(http.StatusBadRequest, "BadRequest")
			return
		case r.Method == http.MethodPost && l.lease != nil:
			refuse(http.StatusConflict, "AlreadyExists")
			return
		case r.Method == http.MethodPut && lease.ResourceVersion != l.lease.ResourceVersion:
			refuse(http.StatusConflict, "Conflict")
			return
		}
		l.version++
		lease.ResourceVersion = strconv.Itoa(l.version)
		l.lease = lease
	}
	if l.lease == nil {
		refuse(http.StatusNotFound, "NotFound")
		return
	}
	out := l.lease.DeepCopy()
	out.Kind, out.APIVersion = "Lease", "coordination.k8s.io/v1"
	_ = json.NewEncoder(w).Encode(out)
}

func (l *leases) holder() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lease == nil {
		return ""
	}
	return value(l.lease.Spec.HolderIdentity, "")
}

func candidate(t *testing.T, url, identity string, now *time.Time) *election {
	t.Helper()
	c, err := NewClient(&rest.Config{Host: url}, "test", "default", "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.http.CloseIdleConnections)
	return &election{identity: identity, LeadOptions: LeadOptions{Client: c, Name: "x", Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return *now }}}
}

func TestOnlyOneLeads(t *testing.T) {
	l := &leases{}
	srv := httptest.NewServer(l)
	defer srv.Close()
	clock := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	a, b := candidate(t, srv.URL, "a", &clock), candidate(t, srv.URL, "b", &clock)
	try := func(e *election, want bool, why string) {
		t.Helper()
		if held, err := e.try(t.Context()); held != want {
			t.Errorf("%s: %s holds it: %v (%v)", why, e.identity, held, err)
		}
	}
	try(a, true, "a free lease")
	try(b, false, "one that is held")
	clock = clock.Add(10 * time.Second)
	try(a, true, "renewed")
	clock = clock.Add(14 * time.Second)
	try(b, false, "renewed since b first saw it")
	clock = clock.Add(14 * time.Second)
	try(b, false, "b saw the renewal just 14 s ago")
	clock = clock.Add(2 * time.Second)
	try(b, true, "its holder is silent")
	try(a, false, "taken by b")
	b.release(t.Context())
	if l.holder() != "" {
		t.Errorf("after b gave it back %q holds it", l.holder())
	}
	try(a, true, "given back")
	// Two read the same version; only one write wins.
	l.mu.Lock()
	l.lease.Spec.HolderIdentity = nil
	l.mu.Unlock()
	stale := candidate(t, srv.URL, "c", &clock)
	try(b, true, "free again")
	try(stale, false, "too late")
}

func TestLeadWorksAndGivesBack(t *testing.T) {
	l := &leases{}
	srv := httptest.NewServer(l)
	defer srv.Close()
	clock := time.Now()
	e := candidate(t, srv.URL, "", &clock)
	ctx, cancel := context.WithCancel(t.Context())
	err := Lead(ctx, LeadOptions{Client: e.Client, Name: "x", Logger: e.Logger, Run: func(ctx context.Context) error {
		if l.holder() == "" {
			t.Error("it works without the lead")
		}
		cancel()
		<-ctx.Done()
		return nil
	}})
	if err != nil || l.holder() != "" {
		t.Errorf("Lead gave %v, %q holds the lease", err, l.holder())
	}
}

func TestAPodLogCanBeOpened(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.URL.String()) }))
	defer srv.Close()
	clock := time.Now()
	c := candidate(t, srv.URL, "", &clock).Client
	body, err := c.PodLogs(t.Context(), "ns", "p", &corev1.PodLogOptions{Container: "c", Follow: true, Timestamps: true})
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	raw, _ := io.ReadAll(body)
	if want := "/api/v1/namespaces/ns/pods/p/log?container=c&follow=true&timestamps=true"; string(raw) != want {
		t.Errorf("asked %s, want %s", raw, want)
	}
}
