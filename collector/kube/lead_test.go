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
	"strings"
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// leases is an API server that keeps Leases, and refuses writes that did not
// read the newest.
type leases struct {
	mu        sync.Mutex
	all       map[string]*coordinationv1.Lease
	version   int
	down      bool
	forbidden bool
}

func (l *leases) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	refuse := func(code int, reason string) {
		w.WriteHeader(code)
		fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":%q,"code":%d}`, reason, code)
	}
	switch {
	case l.down:
		refuse(http.StatusServiceUnavailable, "ServiceUnavailable")
		return
	case l.forbidden:
		refuse(http.StatusForbidden, "Forbidden")
		return
	}
	_, name, _ := strings.Cut(r.URL.Path, "/leases")
	name = strings.Trim(name, "/")
	if r.Method == http.MethodGet && name == "" {
		out := coordinationv1.LeaseList{TypeMeta: metav1.TypeMeta{Kind: "LeaseList", APIVersion: "coordination.k8s.io/v1"}}
		for _, lease := range l.all {
			out.Items = append(out.Items, *lease)
		}
		_ = json.NewEncoder(w).Encode(out)
		return
	}
	if r.Method != http.MethodGet {
		raw, _ := io.ReadAll(r.Body)
		o, _, err := codecs.UniversalDeserializer().Decode(raw, nil, nil)
		lease, ok := o.(*coordinationv1.Lease)
		if err != nil || !ok {
			refuse(http.StatusBadRequest, "BadRequest")
			return
		}
		name = lease.Name
		old := l.all[name]
		switch {
		case r.Method == http.MethodPost && old != nil:
			refuse(http.StatusConflict, "AlreadyExists")
			return
		case r.Method == http.MethodPut && (old == nil || lease.ResourceVersion != old.ResourceVersion):
			refuse(http.StatusConflict, "Conflict")
			return
		}
		l.version++
		lease.ResourceVersion = strconv.Itoa(l.version)
		if l.all == nil {
			l.all = map[string]*coordinationv1.Lease{}
		}
		l.all[name] = lease
	}
	if l.all[name] == nil {
		refuse(http.StatusNotFound, "NotFound")
		return
	}
	out := l.all[name].DeepCopy()
	out.Kind, out.APIVersion = "Lease", "coordination.k8s.io/v1"
	_ = json.NewEncoder(w).Encode(out)
}

func (l *leases) holder(name string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all[name] == nil {
		return ""
	}
	return value(l.all[name].Spec.HolderIdentity, "")
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
	if l.holder("x") != "" {
		t.Errorf("after b gave it back %q holds it", l.holder("x"))
	}
	try(a, true, "given back")
	// Two read the same version; only one write wins.
	l.mu.Lock()
	l.all["x"].Spec.HolderIdentity = nil
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
		if l.holder("x") == "" {
			t.Error("it works without the lead")
		}
		cancel()
		<-ctx.Done()
		return nil
	}})
	if err != nil || l.holder("x") != "" {
		t.Errorf("Lead gave %v, %q holds the lease", err, l.holder("x"))
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
