package api

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/api/problem"
)

// opened makes a server without stores, open to its own machine.
func opened(t *testing.T, change func(*Options)) *Server {
	t.Helper()
	auth, err := access.NewAuthenticator(access.Options{Loopback: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	opts := Options{
		Access: auth, Version: "test",
		Prometheus: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "prometheus "+r.URL.Path) }),
		Logs:       http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "logs "+r.URL.Path) }),
	}
	if change != nil {
		change(&opts)
	}
	s, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func ask(s *Server, method, path string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://localhost"+path, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	rec := httptest.NewRecorder()
	s.Handler().ServeHTTP(rec, r)
	return rec
}

func TestConsoleShortensItsScripts(t *testing.T) {
	script := strings.Repeat("console.log(1);", 500)
	s := opened(t, func(o *Options) {
		o.Console = fstest.MapFS{"index.html": {Data: []byte("<html>")}, "assets/main-a1b2.js": {Data: []byte(script)}}
	})
	for name, tc := range map[string]struct {
		path, accept, coding string
	}{
		"a script":                        {"/assets/main-a1b2.js", "gzip, deflate, br", "gzip"},
		"a script again":                  {"/assets/main-a1b2.js", "br,gzip", "gzip"},
		"a script, for who weighs":        {"/assets/main-a1b2.js", "gzip;q=0", ""},
		"a script, for who takes no gzip": {"/assets/main-a1b2.js", "identity", ""},
	} {
		t.Run(name, func(t *testing.T) {
			rec := ask(s, "GET", tc.path, "Accept-Encoding", tc.accept)
			if rec.Code != 200 || rec.Header().Get("Content-Encoding") != tc.coding || !strings.Contains(rec.Header().Get("Cache-Control"), "immutable") {
				t.Fatalf("got %d %v", rec.Code, rec.Header())
			}
			body := io.Reader(rec.Body)
			if tc.coding == "gzip" {
				if rec.Header().Get("Vary") != "Accept-Encoding" {
					t.Errorf("Vary is %q", rec.Header().Values("Vary"))
				}
				z, err := gzip.NewReader(rec.Body)
				if err != nil {
					t.Fatal(err)
				}
				body = z
			}
			if got, err := io.ReadAll(body); err != nil || string(got) != script {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
		})
	}
}

func TestConsoleAndItsFallback(t *testing.T) {
	built := fstest.MapFS{
		"index.html":           {Data: []byte("<html>console</html>")},
		"assets/main-a1b2.js":  {Data: []byte("js")},
		"favicon.svg":          {Data: []byte("<svg/>")},
		"assets/main-a1b2.css": {Data: []byte("css")},
	}
	for name, tc := range map[string]struct {
		built                bool
		method, path, accept string
		code                 int
		body, cache, typ     string
	}{
		"the page":                      {true, "GET", "/", "text/html", 200, "console", "no-cache", "text/html"},
		"the page, for curl":            {true, "GET", "/", "*/*", 200, "console", "no-cache", "text/html"},
		"a view's URL":                  {true, "GET", "/clusters/prod-1/nodes/n1?from=now-1h", "text/html,*/*", 200, "console", "no-cache", "text/html"},
		"a view whose object has a dot": {true, "GET", "/clusters/prod-1/nodes/n1.example.com", "text/html", 200, "console", "no-cache", "text/html"},
		"a hashed file":                 {true, "GET", "/assets/main-a1b2.js", "*/*", 200, "js", "public, max-age=31536000, immutable", "javascript"},
		"another file":                  {true, "GET", "/favicon.svg", "*/*", 200, "<svg/>", "no-cache", "svg"},
		"a hashed file that is gone":    {true, "GET", "/assets/main-0000.js", "*/*", 404, "not_found", "", "problem"},
		"the page, not for a program":   {true, "GET", "/clusters", "application/json", 404, "not_found", "", "problem"},
		"the page is not posted to":     {true, "POST", "/clusters", "text/html", 404, "not_found", "", "problem"},
		"no page under /apis":           {true, "GET", "/apis/nothing", "text/html", 404, "not_found", "", "problem"},
		"no page under /select":         {true, "GET", "/select/nothing", "text/html", 404, "not_found", "", "problem"},
		"no page under /loki":           {true, "GET", "/loki/api", "text/html", 404, "not_found", "", "problem"},
		"no page under /api":            {true, "GET", "/api/v3/x", "text/html", 404, "not_found", "", "problem"},
		"upwards":                       {true, "GET", "/assets/../../etc/passwd", "*/*", 404, "not_found", "", "problem"},
		"not built":                     {false, "GET", "/", "text/html", 200, "make build", "no-cache", "text/html"},
	} {
		t.Run(name, func(t *testing.T) {
			s := opened(t, func(o *Options) {
				if tc.built {
					o.Console = built
				}
			})
			rec := ask(s, tc.method, tc.path, "Accept", tc.accept)
			if rec.Code != tc.code || !strings.Contains(rec.Body.String(), tc.body) || !strings.Contains(rec.Header().Get("Content-Type"), tc.typ) {
				t.Errorf("got %d %q %s", rec.Code, rec.Header().Get("Content-Type"), rec.Body)
			}
			if got := rec.Header().Get("Cache-Control"); got != tc.cache {
				t.Errorf("Cache-Control %q, want %q", got, tc.cache)
			}
			if rec.Header().Get("X-Content-Type-Options") != "nosniff" {
				t.Error("no nosniff")
			}
			if rec.Code == 200 && !strings.Contains(rec.Header().Get("Content-Security-Policy"), "default-src 'self'") {
				t.Error("no policy of content")
			}
		})
	}
}

func TestReadiness(t *testing.T) {
	r := NewReadiness("metrics", "logs")
	s := opened(t, func(o *Options) { o.Readiness = r })
	r.Waiting("metrics", "replaying 12 MiB of log")
	r.Ready("logs", nil)
	rec := ask(s, "GET", "/readyz")
	if rec.Code != 503 || !strings.Contains(rec.Body.String(), "replaying 12 MiB of log") {
		t.Errorf("got %d %s", rec.Code, rec.Body)
	}
	full := false
	r.Ready("metrics", func() error {
		if full {
			return problem.Fail(io.ErrShortWrite, "the disk is full")
		}
		return nil
	})
	if rec := ask(s, "GET", "/readyz"); rec.Code != 200 {
		t.Errorf("got %d %s", rec.Code, rec.Body)
	}
	full = true
	if rec := ask(s, "GET", "/readyz"); rec.Code != 503 {
		t.Errorf("a store that turned read-only: got %d %s", rec.Code, rec.Body)
	}
	if rec := ask(s, "GET", "/healthz"); rec.Code != 200 {
		t.Errorf("alive all the same: got %d", rec.Code)
	}
}

func TestStartingServerAnswersProbesOnly(t *testing.T) {
	h := Starting(NewReadiness("metrics"))
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 503, "/": 503, "/api/v1/write": 503} {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest("GET", path, nil))
		if rec.Code != want {
			t.Errorf("%s: got %d, want %d", path, rec.Code, want)
		}
	}
	// A person gets a page that comes again by itself; a program, and a script that asks for what a page needs, a problem.
	for path, html := range map[string]bool{"/": true, "/clusters/prod-1?tab=nodes": true, "/apis/crowsnest.dev/v1/status": false} {
		r := httptest.NewRequest("GET", path, nil)
		r.Header.Set("Accept", "text/html,*/*;q=0.8")
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		if got := strings.HasPrefix(rec.Header().Get("Content-Type"), "text/html") && rec.Header().Get("Refresh") != ""; rec.Code != 503 || got != html {
			t.Errorf("%s in a browser: got %d %v, want a page: %t", path, rec.Code, rec.Header(), html)
		}
	}
}

func TestForeignRequestsAreRefusedEverywhere(t *testing.T) {
	s := opened(t, nil)
	for _, path := range []string{"/", "/metrics", "/api/v1/query", "/select/logsql/query", Prefix + "/status", Prefix + "/tokens"} {
		r := httptest.NewRequest("GET", "http://evil.example"+path, nil)
		rec := httptest.NewRecorder()
		s.Handler().ServeHTTP(rec, r)
		var p problem.Problem
		if rec.Code != 403 || json.Unmarshal(rec.Body.Bytes(), &p) != nil || !strings.Contains(p.Detail, "evil.example") {
			t.Errorf("%s by a foreign name: got %d %s", path, rec.Code, rec.Body)
		}
		if rec := ask(s, "GET", path, "Origin", "https://evil.example"); rec.Code != 403 {
			t.Errorf("%s from a foreign page: got %d %s", path, rec.Code, rec.Body)
		}
	}
}

func TestAGuardedServerTellsNothingWithoutAToken(t *testing.T) {
	token := access.NewToken(access.APIToken)
	auth, err := access.NewAuthenticator(access.Options{Given: []access.Token{{Principal: access.Principal{Kind: access.APIToken, Name: "ci"}, Hash: access.Hash(token)}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := opened(t, func(o *Options) { o.Access = auth })
	for _, path := range []string{"/metrics", "/api/v1/query", "/api/v1/write", "/select/logsql/query", "/apis/nothing", Prefix + "/status", Prefix + "/openapi.json", Prefix + "/ingest/logs"} {
		rec := ask(s, "GET", path)
		if rec.Code != 401 || !strings.Contains(rec.Body.String(), "unauthenticated") {
			t.Errorf("%s: got %d %s", path, rec.Code, rec.Body)
		}
	}
	for _, path := range []string{"/healthz", "/readyz", "/"} {
		if rec := ask(s, "GET", path, "Accept", "text/html"); rec.Code != 200 {
			t.Errorf("%s: got %d %s", path, rec.Code, rec.Body)
		}
	}
	rec := ask(s, "GET", Prefix+"/status", "Authorization", "Bearer "+token)
	var st Status
	if err := json.Unmarshal(rec.Body.Bytes(), &st); err != nil || st.Principal != (Principal{access.APIToken, "ci"}) || st.Open {
		t.Errorf("got %d %s", rec.Code, rec.Body)
	}
}

func TestPanicsAndInternalErrors(t *testing.T) {
	var log strings.Builder
	s := opened(t, func(o *Options) {
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
		o.Prometheus = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("secret state") })
	})
	rec := ask(s, "GET", "/api/v1/query")
	if rec.Code != 500 || strings.Contains(rec.Body.String(), "secret") || !strings.Contains(log.String(), "secret state") {
		t.Errorf("got %d %s, logged %s", rec.Code, rec.Body, log.String())
	}
}

// A handler that meant to compress, and panicked, leaves its headers behind.
func TestTheAnswerToAPanicIsPlain(t *testing.T) {
	s := opened(t, func(o *Options) {
		o.Prometheus = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Header().Set("Content-Length", "5")
			panic("broken")
		})
	})
	for _, path := range []string{"/api/v1/query", "/apis/crowsnest.dev/v1/panics"} {
		if strings.HasPrefix(path, Prefix) {
			s.engine.GET(path, func(c *gin.Context) { panic("broken") })
		}
		rec := ask(s, "GET", path, "Accept-Encoding", "gzip")
		var p problem.Problem
		if err := json.Unmarshal(rec.Body.Bytes(), &p); rec.Code != 500 || err != nil || rec.Header().Get("Content-Encoding") != "" || rec.Header().Get("Content-Length") == "5" {
			t.Errorf("%s: got %d %v %q, %v", path, rec.Code, rec.Header(), rec.Body, err)
		}
	}
}

func TestUnknownMethodsAndParametersAreRefused(t *testing.T) {
	s := opened(t, nil)
	if rec := ask(s, "DELETE", Prefix+"/status"); rec.Code != 405 {
		t.Errorf("got %d %s", rec.Code, rec.Body)
	}
	if rec := ask(s, "GET", Prefix+"/catalogue?colour=red"); rec.Code != 422 || !strings.Contains(rec.Body.String(), "colour") {
		t.Errorf("got %d %s", rec.Code, rec.Body)
	}
	if rec := ask(s, "GET", Prefix+"/catalogue"); rec.Code != 200 || strings.Contains(rec.Body.String(), "$schema") {
		t.Errorf("got %d %.200s", rec.Code, rec.Body)
	}
}

func TestStopEndsTails(t *testing.T) {
	var once sync.Once
	started := make(chan struct{})
	s := opened(t, func(o *Options) {
		o.Logs = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			once.Do(func() { close(started) })
			<-r.Context().Done()
		})
	})
	done := make(chan struct{})
	go func() { defer close(done); ask(s, "GET", "/select/logsql/tail?query=*") }()
	<-started
	s.Stop()
	select {
	case <-done:
	case <-time.After(60 * time.Second):
		t.Fatal("the tail goes on")
	}
}

func TestListsAreCompressedStreamsAreNot(t *testing.T) {
	s := opened(t, func(o *Options) {
		o.Logs = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, strings.Repeat("x", 1<<16)) })
	})
	if got := ask(s, "GET", Prefix+"/catalogue", "Accept-Encoding", "gzip").Header().Get("Content-Encoding"); got != "gzip" {
		t.Errorf("the catalogue came as %q", got)
	}
	if got := ask(s, "GET", "/select/logsql/query", "Accept-Encoding", "gzip").Header().Get("Content-Encoding"); got != "" {
		t.Errorf("log lines came as %q", got)
	}
}
