// Package api assembles the server's HTTP side: routes, identity, the OpenAPI
// document, probes and the console. What a route does is its own package's; this
// one must not know how anything is stored or evaluated.
package api

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humagin"
	"github.com/gin-gonic/gin"
	"github.com/klauspost/compress/gzhttp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/api/alertmanager"
	"github.com/crowsnest-dev/crowsnest/api/alerts"
	"github.com/crowsnest-dev/crowsnest/api/backups"
	"github.com/crowsnest-dev/crowsnest/api/boards"
	"github.com/crowsnest-dev/crowsnest/api/catalogue"
	"github.com/crowsnest-dev/crowsnest/api/charts"
	"github.com/crowsnest-dev/crowsnest/api/ingest"
	"github.com/crowsnest-dev/crowsnest/api/inventory"
	"github.com/crowsnest-dev/crowsnest/api/logpush"
	"github.com/crowsnest-dev/crowsnest/api/logs"
	"github.com/crowsnest-dev/crowsnest/api/peers"
	"github.com/crowsnest-dev/crowsnest/api/problem"
	"github.com/crowsnest-dev/crowsnest/api/settings"
	"github.com/crowsnest-dev/crowsnest/api/tokens"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// Prefix of our own API.
const Prefix = "/apis/crowsnest.dev/v1"

// maxBody bounds the bodies of all requests but those of collectors, which have
// bounds of their own.
const maxBody = 4 << 20

// Options of a Server. Without its parts a Server can still give its OpenAPI
// document.
type Options struct {
	Version   string
	StartedAt time.Time

	Access     *access.Authenticator
	Readiness  *Readiness
	Ingest     *ingest.Handler
	Prometheus http.Handler     // Prometheus' API under /api/v1/
	Logs       http.Handler     // VictoriaLogs' API under /select/logsql/
	LogLines   *logs.Handler    // context of a line, downloads
	LogPush    *logpush.Handler // Loki's push and OTLP
	Tokens     tokens.Options
	Inventory  inventory.Options
	Writes     ingest.Writes // how the metrics writes of clusters do
	Alerts     alerts.Options
	Charts     charts.Source
	Boards     boards.Options
	Backups    backups.Maker
	Settings   *settings.Service // what collectors are told
	Peers      *peers.Service    // what nodes say of each other
	// Alertmanager serves Alertmanager's API under /api/v2/.
	Alertmanager http.Handler
	Status       StatusOptions
	// Register adds the routes of further parts. Each gets an API whose paths
	// are relative to Prefix.
	Register []func(huma.API)
	// Console holds the built console, index.html at the root; nil when the
	// binary was built without it.
	Console fs.FS

	Registry *prometheus.Registry // of the server's own metrics
	Logger   *slog.Logger         // default: none
	Now      func() time.Time     // default time.Now
}

// Server is the assembled routes.
type Server struct {
	opts     Options
	engine   *gin.Engine
	huma     huma.API
	document []byte
	metrics  *metrics
	console  *consoleFiles
	stopping chan struct{}
}

// New assembles the routes.
func New(opts Options) (*Server, error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Registry == nil {
		opts.Registry = prometheus.NewRegistry()
	}
	if opts.Readiness == nil {
		opts.Readiness = NewReadiness()
	}
	problem.Use()
	gin.SetMode(gin.ReleaseMode) // the debug mode prints routes and warnings to the terminal
	s := &Server{opts: opts, engine: gin.New(), stopping: make(chan struct{})}
	var err error
	if s.metrics, err = newMetrics(opts.Registry); err != nil {
		return nil, err
	}
	if s.console, err = newConsole(opts.Console); err != nil {
		return nil, err
	}
	s.engine.HandleMethodNotAllowed = true
	s.engine.Use(s.measure)
	s.routes()
	if s.document, err = s.describe(); err != nil {
		return nil, err
	}
	return s, nil
}

// OpenAPI gives the document of our own API, as indented JSON that ends with a
// line feed.
func (s *Server) OpenAPI() []byte { return s.document }

// Routes lists what the engine serves, for the test that walks them.
func (s *Server) Routes() gin.RoutesInfo { return s.engine.Routes() }

// Stop ends streamed answers (log tails), which would not end by themselves. It
// is called once, before the listener waits for the other requests.
func (s *Server) Stop() { close(s.stopping) }

// Handler gives the whole server side: identity around the routes.
func (s *Server) Handler() http.Handler {
	var h http.Handler = http.HandlerFunc(s.ingestOnly)
	h = s.opts.Access.Middleware(h, s.open, func(w http.ResponseWriter, r *http.Request, err error) {
		s.metrics.refused.WithLabelValues(problem.Of(err).Code).Inc()
		problem.Write(w, r, err)
	})
	return s.outer(compress(h))
}

// compress shortens pages and lists where the client takes it. Streams go as
// they are, and Prometheus' API and the metrics have compression of their own.
func compress(next http.Handler) http.Handler {
	short := gzhttp.GzipHandler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
		if ours := strings.HasPrefix(path, Prefix+"/") && !isIngest(path); ours || (!isAPI(path) && path != "/metrics") {
			short.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// ingestOnly keeps ingest tokens from everything else, also from what asks for
// no cluster's data, such as a query of constants.
func (s *Server) ingestOnly(w http.ResponseWriter, r *http.Request) {
	if p, ok := access.From(r.Context()); ok && p.Kind == access.IngestToken && !isIngest(r.URL.Path) && !s.open(r) {
		problem.Write(w, r, access.Authorize(r.Context(), access.Read, "", ""))
		return
	}
	s.engine.ServeHTTP(w, r)
}

// isIngest tells the paths on which collectors hand over what they have. Their
// bodies have bounds of their own.
func isIngest(path string) bool {
	return path == wire.PathMetrics || path == ingest.PathOTLP || path == logpush.PathLoki || path == logpush.PathOTLP || path == alertmanager.PathAlerts || strings.HasPrefix(path, Prefix+"/ingest/")
}

// open says which requests need no principal: the probes, and the console's own
// files, which hold no data.
func (s *Server) open(r *http.Request) bool {
	switch r.URL.Path {
	case "/healthz", "/readyz", "/health":
		return true
	}
	// A link of a notification is its own credential.
	if strings.HasPrefix(r.URL.Path, Prefix+alerts.PathTickets) {
		return true
	}
	return !isAPI(r.URL.Path) && r.URL.Path != "/metrics"
}

// isAPI tells paths of programs from those of people.
func isAPI(path string) bool {
	for _, p := range []string{"/api", "/apis", "/select", "/loki"} {
		if path == p || strings.HasPrefix(path, p+"/") {
			return true
		}
	}
	return false
}

// outer holds for every request: nothing that breaks takes the server down, an
// internal error is in the log under the id that the client got, bodies are
// bounded, and browsers are told to be strict.
func (s *Server) outer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = r.WithContext(problem.WithReporter(r.Context(), func(instance string, err error) {
			s.opts.Logger.Error("request failed", "instance", instance, "method", r.Method, "path", r.URL.Path, "error", err)
		}))
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if v == http.ErrAbortHandler {
				panic(v) // net/http's own way to break a connection off
			}
			s.metrics.panics.Inc()
			s.opts.Logger.Error("request handler panicked", "method", r.Method, "path", r.URL.Path, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			// What was to come was described by whoever panicked; this is another
			// body, and a plain one. If the answer has begun this write is ignored,
			// and the client sees a broken body.
			for _, name := range []string{"Content-Encoding", "Content-Length", "Etag", "Last-Modified", "Cache-Control"} {
				w.Header().Del(name)
			}
			problem.Write(w, r, fmt.Errorf("panic: %v", v))
		}()
		header := w.Header()
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Referrer-Policy", "same-origin")
		header.Set("X-Frame-Options", "DENY")
		if r.Body != nil && !isIngest(r.URL.Path) {
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) routes() {
	e := s.engine
	e.GET("/healthz", func(c *gin.Context) { c.String(http.StatusOK, "ok\n") })
	// Grafana's VictoriaLogs data source asks this one.
	e.GET("/health", func(c *gin.Context) { c.String(http.StatusOK, "OK") })
	e.GET("/readyz", gin.WrapH(s.opts.Readiness))
	e.GET("/metrics", s.authorized(access.Read, promhttp.HandlerFor(s.opts.Registry, promhttp.HandlerOpts{
		ErrorLog: promLogger{s.opts.Logger}, EnableOpenMetrics: true,
	})))

	// Prometheus' API is one handler of many paths; writes are ours. The router
	// cannot hold a wildcard beside a fixed path, hence one route that tells them
	// apart.
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions} {
		e.Handle(method, "/api/v1/*path", s.prometheus)
	}
	e.GET("/select/buildinfo", s.authorized(access.Read, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"status":"success","data":{"version":%q}}`, s.opts.Version)
	})))
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
		e.Handle(method, alertmanager.Prefix+"/*path", func(c *gin.Context) { s.opts.Alertmanager.ServeHTTP(c.Writer, c.Request) })
	}
	e.GET("/select/logsql/*path", s.logs)
	e.POST("/select/logsql/*path", s.logs)

	e.POST(logpush.PathLoki, s.lazy(func() http.HandlerFunc { return s.opts.LogPush.ServeLoki }))
	e.POST(wire.PathLogs, s.lazy(func() http.HandlerFunc { return s.opts.Ingest.ServeLogs }))
	e.POST(wire.PathLogPositions, s.lazy(func() http.HandlerFunc { return s.opts.Ingest.ServeLogPositions }))
	e.POST(wire.PathHistory, s.lazy(func() http.HandlerFunc { return s.opts.Ingest.ServeHistory }))
	e.POST(wire.PathInventory, s.lazy(func() http.HandlerFunc { return s.opts.Ingest.ServeInventory }))
	e.GET(wire.PathOwners, s.lazy(func() http.HandlerFunc { return s.opts.Ingest.ServeOwners }))
	e.GET(wire.PathServices, s.lazy(func() http.HandlerFunc { return s.opts.Ingest.ServeServices }))
	e.GET(wire.PathPeers, s.lazy(func() http.HandlerFunc { return s.opts.Ingest.ServePeers }))
	e.GET(wire.PathReaders, s.lazy(func() http.HandlerFunc { return s.opts.Ingest.ServeReaders }))
	e.GET(wire.PathControl, s.lazy(func() http.HandlerFunc { return s.opts.Ingest.ServeControl }))

	s.ours()
	e.GET(Prefix+"/openapi.json", s.authorized(access.Read, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/openapi+json")
		_, _ = w.Write(s.document)
	})))

	e.NoMethod(func(c *gin.Context) {
		p := problem.Fail(fault.ErrMalformed, fmt.Sprintf("%s does not take %s", c.Request.URL.Path, c.Request.Method))
		p.Status, p.Title = http.StatusMethodNotAllowed, "Method not allowed"
		problem.Write(c.Writer, c.Request, p)
	})
	e.NoRoute(func(c *gin.Context) {
		// gin has noted a 404 by now; what answers here says its own.
		c.Status(http.StatusOK)
		s.fallback(c.Writer, c.Request)
	})
}

// ours registers the routes of our own API.
func (s *Server) ours() {
	config := huma.DefaultConfig("Crowsnest", "v1")
	config.Info.Description = "Crowsnest's own API. Prometheus' API is under /api/v1, VictoriaLogs' under /select/logsql. Changes to v1 are additions only."
	config.Info.License = &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"}
	// huma's documentation page loads scripts from elsewhere, its schema links
	// add a key to every body, and its own document route asks nobody.
	config.DocsPath, config.SchemasPath, config.OpenAPIPath, config.CreateHooks = "", "", "", nil
	config.RejectUnknownQueryParameters = true
	config.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaNamer())
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token": {Type: "http", Scheme: "bearer", Description: "An API token. Without any API token, requests from the server's own machine need none."},
	}
	config.Security = []map[string][]string{{"token": {}}, {}}
	config.Transformers = append(config.Transformers, func(ctx huma.Context, _ string, v any) (any, error) {
		if p, ok := v.(*problem.Problem); ok {
			p.Report(ctx.Context())
		}
		return v, nil
	})
	s.huma = humagin.New(s.engine, config)
	v1 := huma.NewGroup(s.huma, Prefix)
	catalogue.Register(v1)
	tokens.Register(v1, s.opts.Tokens)
	s.registerStatus(v1)
	inventory.Register(v1, s.opts.Inventory)
	ingest.RegisterStatus(v1, s.opts.Writes)
	alerts.Register(v1, s.opts.Alerts)
	charts.Register(v1, s.opts.Charts)
	boards.Register(v1, s.opts.Boards)
	backups.Register(v1, s.opts.Backups)
	logs.Register(v1, s.opts.LogLines)
	settings.Register(v1, s.opts.Settings)
	peers.Register(v1, s.opts.Peers)
	for _, register := range s.opts.Register {
		register(v1)
	}
}

// authorized asks before a handler that asks nobody itself.
func (s *Server) authorized(verb access.Verb, next http.Handler) gin.HandlerFunc {
	return func(c *gin.Context) {
		if err := access.Authorize(c.Request.Context(), verb, "", ""); err != nil {
			problem.Write(c.Writer, c.Request, err)
			return
		}
		next.ServeHTTP(c.Writer, c.Request)
	}
}

// lazy finds the handler when it is asked: a Server that only describes itself
// has none.
func (s *Server) lazy(handler func() http.HandlerFunc) gin.HandlerFunc {
	return func(c *gin.Context) {
		// A body may take as long as it moves; what is behind bounds its size.
		handler()(c.Writer, c.Request)
	}
}

func (s *Server) prometheus(c *gin.Context) {
	if c.Request.URL.Path == wire.PathMetrics {
		if c.Request.Method != http.MethodPost {
			c.Header("Allow", http.MethodPost)
			c.Status(http.StatusMethodNotAllowed)
			return
		}
		s.opts.Ingest.ServeMetrics(c.Writer, c.Request)
		return
	}
	if c.Request.URL.Path == ingest.PathOTLP && c.Request.Method == http.MethodPost {
		s.opts.Ingest.ServeOTLPMetrics(c.Writer, c.Request)
		return
	}
	if c.Request.URL.Path == logpush.PathOTLP && c.Request.Method == http.MethodPost {
		s.opts.LogPush.ServeOTLP(c.Writer, c.Request)
		return
	}
	if !selects(c.Param("path")) {
		// Only what selects series asks by itself, for each selection.
		if err := access.Authorize(c.Request.Context(), access.Read, "", ""); err != nil {
			problem.Write(c.Writer, c.Request, err)
			return
		}
	}
	s.opts.Prometheus.ServeHTTP(c.Writer, c.Request)
}

// selects tells the paths of Prometheus' API whose answer comes from queriers.
func selects(path string) bool {
	switch path {
	case "/query", "/query_range", "/query_exemplars", "/series", "/labels", "/read":
		return true
	}
	return strings.HasPrefix(path, "/label/") && strings.HasSuffix(path, "/values")
}

// logs serves queries of logs. They stream: rows come as they are found, a tail
// goes on until its client leaves or the server stops.
func (s *Server) logs(c *gin.Context) {
	control := http.NewResponseController(c.Writer)
	if strings.HasSuffix(c.Param("path"), "/tail") {
		// An error means that the connection has no deadlines.
		_ = control.SetWriteDeadline(time.Time{})
		_ = control.SetReadDeadline(time.Time{})
		ctx, cancel := context.WithCancel(c.Request.Context())
		defer cancel()
		ended := make(chan struct{})
		watched := make(chan struct{})
		go func() {
			defer close(watched)
			select {
			case <-s.stopping:
				cancel()
			case <-ended:
			}
		}()
		defer func() { close(ended); <-watched }()
		c.Request = c.Request.WithContext(ctx)
	}
	s.opts.Logs.ServeHTTP(c.Writer, c.Request)
}

// promLogger gives promhttp's errors to our log.
type promLogger struct{ logger *slog.Logger }

func (l promLogger) Println(v ...any) {
	l.logger.Error("metrics not served completely", "error", fmt.Sprint(v...))
}
