package api

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/crowsnest-dev/crowsnest/api/problem"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// Readiness knows which parts of the server can do their work. Its methods may
// be called concurrently.
type Readiness struct {
	mu     sync.Mutex
	parts  []*part
	byName map[string]*part
}

type part struct {
	name   string
	ready  bool
	reason string
	check  func() error // of a part that is ready: whether it still is
}

// NewReadiness makes one; it is ready once each part that was named is.
func NewReadiness(parts ...string) *Readiness {
	r := &Readiness{byName: map[string]*part{}}
	for _, name := range parts {
		r.Waiting(name, "not started yet")
	}
	return r
}

func (r *Readiness) partLocked(name string) *part {
	p := r.byName[name]
	if p == nil {
		p = &part{name: name}
		r.byName[name], r.parts = p, append(r.parts, p)
	}
	return p
}

// Waiting says that a part is not ready, and why or how far it is.
func (r *Readiness) Waiting(name, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.partLocked(name)
	p.ready, p.reason = false, reason
}

// Ready says that a part is ready as long as check, which may be nil, gives no
// error. check must be quick.
func (r *Readiness) Ready(name string, check func() error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.partLocked(name)
	p.ready, p.reason, p.check = true, "", check
}

// Part is the state of one part.
type Part struct {
	Name   string `json:"name"`
	Ready  bool   `json:"ready"`
	Reason string `json:"reason,omitempty" doc:"Why it is not ready, or how far it is."`
}

// Parts gives the state of each part, in the order in which they were named.
func (r *Readiness) Parts() (parts []Part, ready bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ready = true
	for _, p := range r.parts {
		out := Part{Name: p.name, Ready: p.ready, Reason: p.reason}
		if p.ready && p.check != nil {
			if err := p.check(); err != nil {
				out.Ready, out.Reason = false, err.Error()
			}
		}
		ready = ready && out.Ready
		parts = append(parts, out)
	}
	return parts, ready
}

// ServeHTTP answers /readyz: 200 when every part is ready, else 503, with the
// parts either way.
func (r *Readiness) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	parts, ready := r.Parts()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if !ready {
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(struct {
		Ready bool   `json:"ready"`
		Parts []Part `json:"parts"`
	}{ready, parts})
}

const startingPage = `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="color-scheme" content="light dark"><title>Crowsnest</title>
<body style="font: 16px/1.5 system-ui, sans-serif; max-width: 40em; margin: 4em auto; padding: 0 1em">
<h1>The server is starting</h1>
<p>It opens its stores. This page opens as soon as they are there. <a href="/readyz">How far it is</a></p>
<p lang="zh-CN">服务器正在启动，就绪后会自动打开此页面。</p>
</body></html>
`

// Starting serves while the stores are being opened: probes answer, everything
// else is told to come again: a program by a problem, a browser by a page that
// comes again by itself.
func Starting(r *Readiness) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /readyz", r)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("/", func(w http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodGet && !isAPI(req.URL.Path) && strings.Contains(req.Header.Get("Accept"), "text/html") {
			h := w.Header()
			h.Set("Content-Security-Policy", contentSecurityPolicy)
			h.Set("Content-Type", "text/html; charset=utf-8")
			h.Set("Cache-Control", "no-store")
			h.Set("Refresh", "2") // needs no script, and asks for the same URL
			h.Set("Retry-After", "2")
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, startingPage)
			return
		}
		problem.Write(w, req, fault.Because(fault.ErrUnavailable, fault.Starting))
	})
	return mux
}
