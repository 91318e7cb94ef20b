package remote

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	remoteapi "github.com/prometheus/client_golang/exp/api/remote"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/config"
	"github.com/prometheus/common/route"
	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/storage"
	promremote "github.com/prometheus/prometheus/storage/remote"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/util/features"
	"github.com/prometheus/prometheus/util/notifications"
	v1 "github.com/prometheus/prometheus/web/api/v1"
	"go.uber.org/goleak"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// peer is a Prometheus in this process: its own store, receiver and API.
type peer struct {
	*httptest.Server
	asked  atomic.Pointer[http.Request] // the last question
	answer atomic.Pointer[answer]       // instead of its own
	hidden atomic.Bool                  // questions find nothing
}

type answer struct {
	status int
	body   string
}

func newPeer(t *testing.T) *peer {
	t.Helper()
	opts := tsdb.DefaultOptions()
	opts.OutOfOrderTimeWindow = time.Hour.Milliseconds()
	opts.EnableExemplarStorage, opts.MaxExemplars = true, 100
	log := slog.New(slog.DiscardHandler)
	db, err := tsdb.Open(t.TempDir(), log, nil, opts, nil)
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	pql := parser.NewParser(parser.Options{})
	api := v1.NewAPI(
		promql.NewEngine(promql.EngineOpts{MaxSamples: 10_000_000, Timeout: time.Minute, EnableAtModifier: true, EnableNegativeOffset: true, Parser: pql}),
		db, nil, nil, db,
		func(context.Context) v1.ScrapePoolsRetriever { return nothing{} },
		func(context.Context) v1.TargetRetriever { return nothing{} },
		func(context.Context) v1.AlertmanagerRetriever { return nil },
		func() promconfig.Config { return promconfig.DefaultConfig }, nil, v1.GlobalURLOptions{Scheme: "http"},
		func(f http.HandlerFunc) http.HandlerFunc { return f }, nil, "", false, false, 0, log,
		func(context.Context) v1.RulesRetriever { return nothing{} },
		1e6, 10, 1<<20, false, nil,
		func() (v1.RuntimeInfo, error) { return v1.RuntimeInfo{}, nil }, &v1.PrometheusVersion{},
		func() []notifications.Notification { return nil },
		func() (<-chan notifications.Notification, func(), bool) { return nil, nil, false },
		reg, reg, nil, false, nil, false, false, false, false, 5*time.Minute, false, false, nil,
		features.NewRegistry(), v1.OpenAPIOptions{}, pql,
	)
	router := route.New().WithPrefix("/api/v1")
	api.Register(router)
	receiver := promremote.NewWriteHandler(log, reg, db, remoteapi.MessageTypes{remoteapi.WriteV1MessageType}, false, false, false)
	p := &peer{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a := p.answer.Load(); a != nil {
			w.WriteHeader(a.status)
			_, _ = w.Write([]byte(a.body))
			return
		}
		if r.URL.Path == "/api/v1/write" {
			receiver.ServeHTTP(w, r)
			return
		}
		p.asked.Store(r)
		if p.hidden.Load() {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"status":"success","data":{"resultType":"matrix","result":[]}}`))
			return
		}
		router.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		p.Close()
		_ = db.Close()
	})
	return p
}

// nothing is scraped, and no rules run.
type nothing struct{ v1.RulesRetriever }

func (nothing) TargetsActive() map[string][]*scrape.Target  { return nil }
func (nothing) TargetsDropped() map[string][]*scrape.Target { return nil }
func (nothing) TargetsDroppedCounts() map[string]int        { return nil }
func (nothing) ScrapePoolConfig(string) (*promconfig.ScrapeConfig, error) {
	return nil, errors.New("none")
}
func (nothing) ScrapePools() []string                { return nil }
func (nothing) RuleGroups() []*rules.Group           { return nil }
func (nothing) AlertingRules() []*rules.AlertingRule { return nil }

func newStore(t *testing.T, p *peer, o Options) *Store {
	t.Helper()
	o.WriteURL, o.QueryURL = p.URL+"/api/v1/write", p.URL
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestItIsAStore(t *testing.T) {
	s := newStore(t, newPeer(t), Options{})
	storetest.Run(t, storetest.Store{Storage: s, Engine: s.Engine(storetest.PromQL())}, "suite")
}

func put(s *Store, at int64, v float64) error {
	app := s.Appender(context.Background())
	if _, err := app.Append(0, labels.FromStrings(labels.MetricName, "up", "cluster", "c"), at, v); err != nil {
		return err
	}
	return app.Commit()
}

func count(t *testing.T, s *Store, from, to int64) (n int, err error) {
	t.Helper()
	q, err := s.Querier(from, to)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = q.Close() }()
	set := q.Select(t.Context(), false, nil, labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, "up"))
	for set.Next() {
		it := set.At().Iterator(nil)
		for it.Next() != 0 {
			n++
		}
	}
	return n, set.Err()
}

// Prometheus' API asks for series of all times where it is given none; the bounds of such a querier
// are no times that an engine understands.
func TestSeriesOfAllTimesAreListed(t *testing.T) {
	p := newPeer(t)
	s := newStore(t, p, Options{})
	if err := put(s, time.Now().UnixMilli(), 1); err != nil {
		t.Fatal(err)
	}
	s.recent.drop("c")
	for path, hints := range map[string]*storage.SelectHints{
		"/api/v1/query": nil, "/api/v1/series": {Start: math.MinInt64, End: math.MaxInt64, Func: "series"},
	} {
		q, err := s.Querier(math.MinInt64, math.MaxInt64)
		if err != nil {
			t.Fatal(err)
		}
		set := q.Select(t.Context(), true, hints, labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, "up"))
		if !set.Next() || set.At().Labels().Get("cluster") != "c" || set.Next() || set.Err() != nil || p.asked.Load().URL.Path != path {
			t.Errorf("of %s, asked by %s: not one series, %v", path, p.asked.Load().URL.Path, set.Err())
		}
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	}
}

// What an engine answers decides whether a sender keeps its samples.
func TestWhatAnEngineAnswersToAWrite(t *testing.T) {
	for name, tc := range map[string]struct {
		status      int
		unavailable bool
		result      string
	}{
		"taken":                {http.StatusNoContent, false, resultOK},
		"duplicates":           {http.StatusConflict, false, resultRefused},
		"too old":              {http.StatusBadRequest, false, resultRefused},
		"overloaded":           {http.StatusTooManyRequests, true, resultUnavailable},
		"broken":               {http.StatusInternalServerError, true, resultUnavailable},
		"away behind a proxy":  {http.StatusBadGateway, true, resultUnavailable},
		"credentials wrong":    {http.StatusUnauthorized, true, resultUnavailable},
		"another address":      {http.StatusNotFound, true, resultUnavailable},
		"a redirect elsewhere": {http.StatusFound, true, resultUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPeer(t)
			p.answer.Store(&answer{tc.status, "because"})
			reg := prometheus.NewRegistry()
			s := newStore(t, p, Options{Registerer: reg})
			err := put(s, time.Now().UnixMilli(), 1)
			if errors.Is(err, fault.ErrUnavailable) != tc.unavailable || (err == nil) == tc.unavailable {
				t.Errorf("commit: %v", err)
			}
			if got := testutil.ToFloat64(s.metrics.samples.WithLabelValues(tc.result)); got != 1 {
				t.Errorf("%v samples are counted as %s", got, tc.result)
			}
			if ro := s.ReadOnly(); (ro != nil) != tc.unavailable {
				t.Errorf("read-only: %v", ro)
			}
		})
	}
}

func TestWritesAreTriedAgainAfterAWhile(t *testing.T) {
	p := newPeer(t)
	p.answer.Store(&answer{http.StatusServiceUnavailable, ""})
	now := time.Now()
	s := newStore(t, p, Options{Now: func() time.Time { return now }})
	if err := put(s, now.UnixMilli(), 1); err == nil {
		t.Fatal("taken")
	}
	if s.ReadOnly() == nil {
		t.Error("writes are tried at once")
	}
	now = now.Add(holdOff + time.Millisecond)
	if err := s.ReadOnly(); err != nil {
		t.Errorf("not tried again: %v", err)
	}
	p.answer.Store(nil)
	if err := put(s, now.UnixMilli(), 1); err != nil || s.ReadOnly() != nil {
		t.Errorf("the engine is back: %v, %v", err, s.ReadOnly())
	}
}

// Engines show what they took some seconds later.
func TestAFreshSampleIsReadThoughTheEngineHidesIt(t *testing.T) {
	p := newPeer(t)
	now := time.Now()
	s := newStore(t, p, Options{Settle: time.Minute, Now: func() time.Time { return now }})
	if err := put(s, now.UnixMilli(), 1); err != nil {
		t.Fatal(err)
	}
	p.hidden.Store(true)
	if n, err := count(t, s, now.UnixMilli()-1000, now.UnixMilli()); n != 1 || err != nil {
		t.Errorf("%d samples, %v", n, err)
	}
	p.hidden.Store(false)
	if n, err := count(t, s, now.UnixMilli()-1000, now.UnixMilli()); n != 1 || err != nil {
		t.Errorf("shown by both: %d samples, %v", n, err)
	}
	later := now.Add(time.Minute + time.Second)
	now = later
	if err := put(s, later.UnixMilli(), 2); err != nil {
		t.Fatal(err)
	}
	if got := s.recent.size(); got != 1 {
		t.Errorf("%d samples are held, want the newest alone", got)
	}
	if err := s.DeleteCluster(t.Context(), "c"); err != nil || s.recent.size() != 0 {
		t.Errorf("of a deleted cluster %d are held, %v", s.recent.size(), err)
	}
}

func TestWhatIsHeldIsBounded(t *testing.T) {
	s := newStore(t, newPeer(t), Options{MaxSettling: 10})
	base := time.Now().Add(-time.Minute).UnixMilli()
	for i := range 25 {
		if err := put(s, base+int64(i), 1); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.recent.size(); got != 10 {
		t.Errorf("%d samples are held, want 10", got)
	}
	if n, err := count(t, s, base, base+100); n != 25 || err != nil {
		t.Errorf("%d samples are read, %v", n, err)
	}
}

func TestAnAnswerIsBoundedAndNeverPartial(t *testing.T) {
	p := newPeer(t)
	s := newStore(t, p, Options{MaxBytes: 100, Settle: time.Nanosecond})
	if _, err := count(t, s, 0, 1000); err != nil {
		t.Fatal(err)
	}
	if got := p.asked.Load().FormValue("partial_response"); got != "false" {
		t.Errorf("partial_response = %q", got)
	}
	p.answer.Store(&answer{200, `{"status":"success","data":{"resultType":"matrix","result":[` + strings.Repeat(" ", 200) + `]}}`})
	if _, err := count(t, s, 0, 1000); !errors.Is(err, fault.ErrLimited) && !errors.Is(err, fault.ErrUnavailable) {
		t.Errorf("a long answer: %v", err)
	}
	p.answer.Store(&answer{200, `{"status":"success","data":{"resultType":"vector","result":[]}}`})
	if _, err := count(t, s, 0, 1000); !errors.Is(err, fault.ErrUnavailable) {
		t.Errorf("an answer of another kind: %v", err)
	}
	p.answer.Store(&answer{503, ``})
	if _, err := count(t, s, 0, 1000); !errors.Is(err, fault.ErrUnavailable) {
		t.Errorf("no answer: %v", err)
	}
}

func TestHeadersAndCredentialsGoAlong(t *testing.T) {
	var seen []string
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.URL.Path+" "+r.Header.Get("Authorization")+" "+r.Header.Get("X-Scope-OrgID"))
	}))
	defer srv.Close()
	s, err := New(Options{WriteURL: srv.URL + "/push", QueryURL: srv.URL + "/select/0/prometheus", HTTP: config.HTTPClientConfig{
		Authorization: &config.Authorization{Type: "Bearer", Credentials: "secret"},
		HTTPHeaders:   &config.Headers{Headers: map[string]config.Header{"X-Scope-OrgID": {Values: []string{"team"}}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if err := put(s, 1, 1); err != nil {
		t.Fatal(err)
	}
	_, _ = count(t, s, 0, 1) // the answer is empty
	want := []string{"/push Bearer secret team", "/select/0/prometheus/api/v1/query Bearer secret team"}
	if len(seen) < 2 || seen[0] != want[0] || seen[1] != want[1] {
		t.Errorf("asked %q, want %q", seen, want)
	}
}

func TestWrongOptionsAreRefusedAtOnce(t *testing.T) {
	_, err := New(Options{WriteURL: "victoria:8428", QueryURL: "", Timeout: -1})
	for _, part := range []string{"WriteURL", "QueryURL", "Timeout"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s is not named: %v", part, err)
		}
	}
}

func TestMetricsAreWellNamed(t *testing.T) {
	reg := prometheus.NewRegistry()
	newMetrics(reg)
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}
