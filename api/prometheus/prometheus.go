// Package prometheus owns Prometheus' HTTP API on our store: its own
// implementation, web/api/v1, mounted whole but for what writes or
// administrates, with a querier that asks whether the principal may read. It
// must not know policies, logs or where samples come from.
package prometheus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	client "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/route"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/features"
	"github.com/prometheus/prometheus/util/notifications"
	v1 "github.com/prometheus/prometheus/web/api/v1"

	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// Prefix is where the API is mounted.
const Prefix = "/api/v1"

// Bounds of a query; Prometheus' own defaults, spelled out.
const (
	defaultTimeout    = 2 * time.Minute
	defaultMaxSamples = 50_000_000
	lookback          = 5 * time.Minute

	readSampleLimit  = 50_000_000
	readConcurrency  = 10
	readFrameBytes   = 1 << 20
	maxBodyBytes     = 4 << 20 // of a query or a remote read, which are small
	subqueryInterval = time.Minute
)

// Store is what is queried. *classes.Store is one.
type Store interface {
	storage.SampleAndChunkQueryable
	storage.ExemplarQueryable
	v1.TSDBAdminStats
	RetentionText() string
}

// Rules runs rule groups. *rules.Manager of alerting is one.
type Rules interface {
	v1.RulesRetriever
	v1.AlertmanagerRetriever
}

// Options of the API.
type Options struct {
	Store Store // required
	// PromQL gives what queries are evaluated by, of what evaluates them here;
	// default the latter. A remote engine takes whole queries.
	PromQL      func(promql.QueryEngine) promql.QueryEngine
	Timeout     time.Duration // of one query; default 2 min
	MaxSamples  int           // of one query in memory; default 50 million
	Concurrency int           // queries evaluated at once, more wait; default 2 × GOMAXPROCS, at least 8
	Flags       map[string]string
	Version     string // of the product
	Revision    string
	// Ready says whether the store answers; default always.
	Ready func() bool
	// Rules are the rule groups that run, and the Alertmanagers that they tell;
	// default none.
	Rules      Rules
	Logger     *slog.Logger
	Registerer client.Registerer // default none
	Gatherer   client.Gatherer   // for /status/self_metrics; default an empty one
	Now        func() time.Time  // default time.Now
}

func (o *Options) complete() error {
	if o.Store == nil {
		return errors.New("api/prometheus: Store is required")
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	if o.MaxSamples == 0 {
		o.MaxSamples = defaultMaxSamples
	}
	if o.Concurrency == 0 {
		o.Concurrency = max(8, 2*runtime.GOMAXPROCS(0))
	}
	if o.Timeout < 0 || o.MaxSamples < 0 || o.Concurrency < 0 {
		return fmt.Errorf("api/prometheus: Timeout %v, MaxSamples %d and Concurrency %d must be positive", o.Timeout, o.MaxSamples, o.Concurrency)
	}
	if o.PromQL == nil {
		o.PromQL = func(here promql.QueryEngine) promql.QueryEngine { return here }
	}
	if o.Flags == nil {
		o.Flags = map[string]string{}
	}
	if o.Ready == nil {
		o.Ready = func() bool { return true }
	}
	if o.Rules == nil {
		o.Rules = nothing{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Registerer == nil {
		o.Registerer = client.NewRegistry()
	}
	if o.Gatherer == nil {
		o.Gatherer = client.NewRegistry()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}

// API serves everything under Prefix. The principal is expected in the
// request's context.
type API struct {
	opts   Options
	engine promql.QueryEngine
	store  *authorized
	router http.Handler
}

// New makes the API.
func New(o Options) (*API, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	pql := parser.NewParser(parser.Options{})
	a := &API{opts: o, store: &authorized{o.Store}}
	a.engine = o.PromQL(promql.NewEngine(promql.EngineOpts{
		Logger: o.Logger, Reg: o.Registerer, MaxSamples: o.MaxSamples, Timeout: o.Timeout,
		ActiveQueryTracker: newGate(o.Concurrency), LookbackDelta: lookback,
		NoStepSubqueryIntervalFn: func(int64) int64 { return subqueryInterval.Milliseconds() },
		EnableAtModifier:         true, EnableNegativeOffset: true, EnablePerStepStats: true, Parser: pql,
	}))
	started := o.Now()
	api := v1.NewAPI(
		a.engine, a.store, nil, nil, a.store,
		func(context.Context) v1.ScrapePoolsRetriever { return nothing{} },
		func(context.Context) v1.TargetRetriever { return nothing{} },
		func(context.Context) v1.AlertmanagerRetriever { return o.Rules },
		func() config.Config { return config.DefaultConfig },
		o.Flags, v1.GlobalURLOptions{Scheme: "http"},
		a.whenReady, o.Store, "",
		false,    // the admin endpoints
		false, 0, // search
		o.Logger,
		func(context.Context) v1.RulesRetriever { return o.Rules },
		readSampleLimit, readConcurrency, readFrameBytes,
		false, // not an agent
		nil,   // no origin may read from a browser
		func() (v1.RuntimeInfo, error) { return a.runtimeInfo(started), nil },
		&v1.PrometheusVersion{Version: o.Version, Revision: o.Revision, GoVersion: runtime.Version()},
		func() []notifications.Notification { return nil },
		func() (<-chan notifications.Notification, func(), bool) { return nil, nil, false },
		o.Gatherer, o.Registerer, nil,
		false, nil, // writes come in by storage/ingest
		false, false, false,
		false, lookback, false, false,
		status,
		features.NewRegistry(),
		v1.OpenAPIOptions{Version: o.Version},
		pql,
	)
	router := route.New().WithPrefix(Prefix)
	api.Register(router)
	a.router = router
	return a, nil
}

// Engine evaluates PromQL within the bounds of the API.
func (a *API) Engine() promql.QueryEngine { return a.engine }

// Queryable reads the store, and asks for each selection whether the principal
// of its context may.
func (a *API) Queryable() storage.SampleAndChunkQueryable { return a.store }

// unserved are the parts of Prometheus' API that this server does not have:
// writes are mounted by others, the rest changes or copies the store.
var unserved = []string{"/write", "/otlp/", "/admin/", "/notifications/", "/search/", "/scrape_pools/config", "/targets/relabel_steps"}

// ServeHTTP answers in Prometheus' own shapes.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, ok := strings.CutPrefix(r.URL.Path, Prefix)
	if !ok {
		fail(w, http.StatusNotFound, "not_found", fmt.Sprintf("%s is not part of this API", r.URL.Path))
		return
	}
	// Each selection asks for its own cluster; this asks for what selects
	// nothing, like the build's version.
	if err := access.Authorize(r.Context(), access.Read, "", ""); err != nil {
		code, _ := status(0, err)
		fail(w, code, "forbidden", err.Error())
		return
	}
	for _, u := range unserved {
		if strings.HasPrefix(path, u) {
			fail(w, http.StatusNotFound, "not_found", fmt.Sprintf("%s is not served here", r.URL.Path))
			return
		}
	}
	if r.Body != nil {
		r.Body = http.MaxBytesReader(w, r.Body, maxBodyBytes)
	}
	if path == "/metadata" && r.Method == http.MethodGet {
		a.metadata(w, r)
		return
	}
	if r.Header.Get("Origin") != "" {
		// No other origin may read, so none is announced. Prometheus' handler
		// would look the origin up in a pattern that it is not given.
		r = r.Clone(r.Context())
		r.Header.Del("Origin")
	}
	a.router.ServeHTTP(w, r)
}

func (a *API) whenReady(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !a.opts.Ready() {
			fail(w, http.StatusServiceUnavailable, "unavailable", "the store is not ready yet")
			return
		}
		next(w, r)
	}
}

// metadata tells what the catalogue says, since there are no scrape targets
// that would.
func (a *API) metadata(w http.ResponseWriter, r *http.Request) {
	limit := -1
	if s := r.FormValue("limit"); s != "" {
		var err error
		if limit, err = strconv.Atoi(s); err != nil {
			fail(w, http.StatusBadRequest, "bad_data", "limit must be a number")
			return
		}
	}
	type entry struct {
		Type model.MetricType `json:"type"`
		Help string           `json:"help"`
		Unit string           `json:"unit"`
	}
	data := map[string][]entry{}
	for _, m := range append(catalogue.All(), catalogue.Custom()...) {
		if limit >= 0 && len(data) >= limit {
			break
		}
		if want := r.FormValue("metric"); want != "" && want != m.Name {
			continue
		}
		typ := model.MetricTypeGauge
		if m.Kind == catalogue.Counter {
			typ = model.MetricTypeCounter
		}
		data[m.Name] = []entry{{typ, m.Help, string(m.Unit)}}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"status": "success", "data": data}) // the client is gone when it fails
}

func (a *API) runtimeInfo(started time.Time) v1.RuntimeInfo {
	host, _ := os.Hostname()
	gc := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(gc)
	return v1.RuntimeInfo{
		StartTime: started.UTC(), ServerTime: a.opts.Now().UTC(), Hostname: host,
		ReloadConfigSuccess: true, LastConfigTime: started.UTC(),
		GoroutineCount: runtime.NumGoroutine(), GOMAXPROCS: runtime.GOMAXPROCS(0),
		GOMEMLIMIT: debug.SetMemoryLimit(-1), GOGC: strconv.FormatUint(gc[0].Value.Uint64(), 10), GODEBUG: os.Getenv("GODEBUG"),
		StorageRetention: a.opts.Store.RetentionText(),
	}
}

// status gives the code of errors of ours that come out of a querier, whatever
// Prometheus made of them. Its first parameter is a type that has no name
// outside of Prometheus.
func status[T any](_ T, err error) (code int, override bool) {
	switch {
	case is(err, fault.ErrUnauthenticated):
		return http.StatusUnauthorized, true
	case is(err, fault.ErrForbidden):
		return http.StatusForbidden, true
	case is(err, fault.ErrUnavailable):
		return http.StatusServiceUnavailable, true
	}
	return http.StatusInternalServerError, false
}

// is looks into Prometheus' storage error, too, which does not unwrap.
func is(err, target error) bool {
	var es promql.ErrStorage
	return errors.Is(err, target) || errors.As(err, &es) && errors.Is(es.Err, target)
}

// fail answers an error in Prometheus' shape.
func fail(w http.ResponseWriter, code int, typ, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]string{"status": "error", "errorType": typ, "error": text})
}

// nothing stands for what a server without scrapes, rules and Alertmanagers
// lists.
type nothing struct{}

func (nothing) ScrapePools() []string                      { return []string{} }
func (nothing) TargetsActive() map[string][]*scrape.Target { return nil }
func (nothing) TargetsDropped() map[string][]*scrape.Target {
	return nil
}
func (nothing) TargetsDroppedCounts() map[string]int { return map[string]int{} }
func (nothing) ScrapePoolConfig(name string) (*config.ScrapeConfig, error) {
	return nil, fmt.Errorf("scrape pool %q: %w", name, fault.ErrNotFound)
}
func (nothing) Alertmanagers() []*url.URL            { return nil }
func (nothing) DroppedAlertmanagers() []*url.URL     { return nil }
func (nothing) RuleGroups() []*rules.Group           { return nil }
func (nothing) AlertingRules() []*rules.AlertingRule { return nil }

// gate bounds the queries that are evaluated at once; more wait until their
// context ends.
type gate struct {
	places chan struct{}
	n      atomic.Int64
}

var _ promql.QueryTracker = (*gate)(nil)

func newGate(n int) *gate { return &gate{places: make(chan struct{}, n)} }

func (g *gate) GetMaxConcurrent() int { return cap(g.places) }

func (g *gate) Insert(ctx context.Context, _ string) (int, error) {
	select {
	case g.places <- struct{}{}:
		return int(g.n.Add(1)), nil
	case <-ctx.Done():
		// As the engine names these when they end a query that was begun.
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return 0, promql.ErrQueryTimeout("query queue")
		}
		return 0, promql.ErrQueryCanceled("query queue")
	}
}

func (g *gate) Delete(int) { <-g.places }

func (g *gate) Close() error { return nil }
