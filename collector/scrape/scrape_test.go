package scrape

import (
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"go.uber.org/goleak"

	"github.com/crowsnest-dev/crowsnest/collector/compute"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

type fixed struct {
	mu   sync.Mutex
	jobs []Job
}

func (f *fixed) Jobs() []Job {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.jobs
}
func (f *fixed) Refused() map[string]int { return nil }

var _ Source = (*fixed)(nil)

// job reads one address every second.
func job(name, addr string, change func(*config.ScrapeConfig)) Job {
	c := config.DefaultScrapeConfig
	c.JobName = name
	c.ScrapeInterval = model.Duration(time.Second)
	if change != nil {
		change(&c)
	}
	return Job{Family: "static", Config: &c, Groups: []*targetgroup.Group{{
		Source: name, Targets: []model.LabelSet{{model.AddressLabel: model.LabelValue(addr)}},
	}}}
}

// got keeps the samples that came out.
type got struct {
	mu      sync.Mutex
	samples []compute.Sample
}

func (g *got) sink(s []compute.Sample) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.samples = append(g.samples, s...)
	return nil
}

func (g *got) count(metric, job string) (n int, last float64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.samples {
		if s.Metric == metric && s.Labels.Get("job") == job {
			n, last = n+1, s.V
		}
	}
	return n, last
}

func run(t *testing.T, o Options, jobs ...Job) (*Scraper, *got, func()) {
	t.Helper()
	if o.Families = []string{"static"}; o.Sources == nil {
		o.Sources = []Source{&fixed{jobs: jobs}}
	}
	if o.MinInterval == 0 {
		o.MinInterval = time.Second
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	g := &got{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, g.sink) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return s, g, stop
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func serve(t *testing.T, h http.HandlerFunc) string {
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	u, _ := url.Parse(srv.URL)
	return u.Host
}

func text(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		_, _ = io.WriteString(w, body)
	}
}

// Each bad target costs what its limits say, is counted under its reason, has
// up 0 and no other trace; the good one beside them is read every second.
func TestBadTargetsAreBoundedAndHurtNobody(t *testing.T) {
	good := serve(t, text("requests_total 5\n"))
	values := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "busy{id=\"%d\"} 1\n", i)
		}
		return b.String()
	}
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := dead.Addr().String()
	dead.Close()
	tls := httptest.NewTLSServer(text("a 1\n"))
	t.Cleanup(tls.Close)
	var endless atomic.Int64
	bad := map[string]struct {
		addr   string
		change func(*config.ScrapeConfig)
		reason string
	}{
		"silent": {serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }), nil, failedTimeout},
		"drips": {serve(t, func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				_, _ = io.WriteString(w, "a 1\n")
				w.(http.Flusher).Flush()
				select {
				case <-r.Context().Done():
				case <-time.After(50 * time.Millisecond):
				}
			}
		}), nil, failedTimeout},
		"endless": {serve(t, func(w http.ResponseWriter, r *http.Request) {
			line := []byte(strings.Repeat("x", 4000) + " 1\n")
			for r.Context().Err() == nil {
				n, err := w.Write(line)
				if endless.Add(int64(n)); err != nil {
					return
				}
			}
		}), nil, failedBody},
		"values":  {serve(t, text(values(10_001))), nil, failedSamples},
		"garbage": {serve(t, text("\xff{{{ not = metrics\n")), nil, failedParse},
		"html":    {serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html><body>hello") }), nil, failedParse},
		"status":  {serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }), nil, failedStatus},
		"nobody":  {nobody, nil, failedConnect},
		"labels":  {serve(t, text("a{"+strings.Repeat(`l`, 300)+`="1"} 1`+"\n")), nil, failedLabels},
		"many":    {serve(t, text("a{"+manyLabels(60)+"} 1\n")), nil, failedLabels},
		"value":   {serve(t, text(`a{l="`+strings.Repeat("v", 3000)+`"} 1`+"\n")), nil, failedLabels},
		"tls":     {tls.Listener.Addr().String(), func(c *config.ScrapeConfig) { c.Scheme = "https" }, failedTLS},
		"protobuf": {serve(t, func(w http.ResponseWriter, _ *http.Request) { // ends a process that parses it: see gateway
			w.Header().Set("Content-Type", "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited")
			_, _ = w.Write(make([]byte, 4_000_000))
		}), nil, failedParse},
		"truncated": {serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, "a 1\n")
		}), nil, failedConnect},
	}
	jobs := []Job{job("good", good, nil)}
	for name, b := range bad {
		jobs = append(jobs, job(name, b.addr, b.change))
	}
	reg := prometheus.NewRegistry()
	s, g, stop := run(t, Options{Registerer: reg}, jobs...)
	want := map[string]bool{}
	for _, b := range bad {
		want[b.reason] = true
	}
	until(t, "three good scrapes and every failure", func() bool {
		n, _ := g.count("requests_total", "good")
		for reason := range want {
			if testutil.ToFloat64(s.metrics.failures.WithLabelValues("static", reason)) < 1 {
				return false
			}
		}
		for name := range bad {
			if n, _ := g.count("up", name); n == 0 {
				return false
			}
		}
		return n >= 3
	})
	targets := map[string]Target{}
	for _, o := range s.Overview().Targets {
		targets[o.Job] = o
	}
	stop()
	for name, b := range bad {
		if _, up := g.count("up", name); up != 0 {
			t.Errorf("%s: up is %v", name, up)
		}
		if targets[name].State != "down" || targets[name].Error == "" {
			t.Errorf("%s: %+v", name, targets[name])
		}
		if got := reasonText(targets[name].Error); got != "" && got != b.reason {
			t.Errorf("%s: %q counts as %s, want %s", name, targets[name].Error, got, b.reason)
		}
	}
	for _, m := range []string{"a", "busy", strings.Repeat("x", 4000)} {
		for name := range bad {
			if n, _ := g.count(m, name); n > 0 {
				t.Errorf("%s: %d samples of a scrape that failed", name, n)
			}
		}
	}
	if n := endless.Load(); n > 200<<20 { // some scrapes of 4 MiB, and what the sockets hold
		t.Errorf("the endless body was read to %d bytes", n)
	}
	if n, err := testutil.GatherAndLint(reg); err != nil || len(n) > 0 {
		t.Errorf("lint: %v %v", n, err)
	}
}

// reasonText is empty where the text alone does not tell.
func reasonText(text string) string {
	r := reasonOf(fmt.Errorf("%s", text))
	if r == failedParse {
		return ""
	}
	return r
}

func manyLabels(n int) string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("l%d=\"x\"", i))
	}
	return strings.Join(out, ",")
}

func TestAJobHasItsFiveSeriesAndEndsStale(t *testing.T) {
	addr := serve(t, text("requests_total{cluster=\"mine\"} 5\n"))
	jobs := &fixed{jobs: []Job{job("shop", addr, nil)}}
	_, g, _ := run(t, Options{Sources: []Source{jobs}})
	until(t, "two scrapes", func() bool { n, _ := g.count("requests_total", "shop"); return n >= 2 })
	jobs.mu.Lock()
	jobs.jobs = nil
	jobs.mu.Unlock()
	for _, m := range []string{"up", "scrape_duration_seconds", "scrape_samples_scraped", "scrape_samples_post_metric_relabeling", "scrape_series_added", "requests_total"} {
		until(t, m+" ends with a stale marker", func() bool { _, last := g.count(m, "shop"); return math.IsNaN(last) })
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.samples {
		if s.Labels.Get("instance") != addr {
			t.Fatalf("instance is %q", s.Labels.Get("instance"))
		}
		if s.Metric == "requests_total" && (s.Labels.Has("cluster") || s.Labels.Get("exported_cluster") != "mine") {
			t.Fatalf("labels are %s", s.Labels)
		}
	}
}

func TestTheSeriesBudgetAndReservedNames(t *testing.T) {
	addr := serve(t, text("a{x=\"1\"} 1\na{x=\"2\"} 1\na{x=\"3\"} 1\nk8s_pod_cpu_core_used{pod=\"p\"} 99\n"))
	s, g, stop := run(t, Options{Series: 2}, job("shop", addr, nil)) // up and scrape_* have room beside it
	until(t, "two scrapes", func() bool { n, _ := g.count("up", "shop"); return n >= 2 })
	stop()
	if n, _ := g.count("k8s_pod_cpu_core_used", "shop"); n != 0 {
		t.Error("a target may not write what the catalogue declares")
	}
	if testutil.ToFloat64(s.metrics.dropped.WithLabelValues(droppedReserved)) < 2 || testutil.ToFloat64(s.metrics.dropped.WithLabelValues(droppedBudget)) < 1 {
		t.Error("what was dropped is not counted")
	}
}

// 10,000 label values in one scrape: of a user's target one value more than the limit
// fails the scrape, of one that we read ourselves (the raw tier) what is beyond the
// budget is left out. Either is counted under its reason, costs no series beyond the
// budget, and leaves the targets beside it as they are: what was there goes on, and
// also of one that comes later it is seen whether it is up.
func Test10000LabelValuesInOneScrape(t *testing.T) {
	const values, budget = 10_000, 6_000
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "odd{id=\"%d\"} 1\n", i)
		}
		return b.String()
	}
	good, users, later := serve(t, text("requests_total 5\n")), serve(t, text(many(values+1))), serve(t, text("later_total 1\n"))
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := dead.Addr().String()
	dead.Close()
	jobs := &fixed{jobs: []Job{job("good", good, nil)}}
	s, g, stop := run(t, Options{Sources: []Source{jobs}, Series: budget})
	add := func(more ...Job) {
		jobs.mu.Lock()
		defer jobs.mu.Unlock()
		jobs.jobs = append(jobs.jobs[:len(jobs.jobs):len(jobs.jobs)], more...)
	}
	until(t, "a good scrape", func() bool { n, _ := g.count("requests_total", "good"); return n >= 1 })
	ours := job("ours", "", nil)
	ours.Groups[0].Targets[0][model.AddressLabel] = "apiserver"
	ours.Limits = &Limits{BodyBytes: 64 << 20, Samples: 300_000}
	ours.Fetch = func(_ context.Context, _ string, into io.Writer) error {
		_, err := io.WriteString(into, many(values))
		return err
	}
	add(ours, job("users", users, nil))
	until(t, "both were refused", func() bool {
		return testutil.ToFloat64(s.metrics.failures.WithLabelValues("static", failedSamples)) >= 1 && testutil.ToFloat64(s.metrics.dropped.WithLabelValues(droppedBudget)) >= values-budget
	})
	add(job("later", later, nil), job("nobody", nobody, nil))
	before, _ := g.count("requests_total", "good")
	until(t, "the others go on, and those that came later are seen", func() bool {
		n, _ := g.count("requests_total", "good")
		up, _ := g.count("up", "later")
		down, _ := g.count("up", "nobody")
		return n >= before+3 && up > 0 && down > 0
	})
	cost, down := s.Cost(), testutil.ToFloat64(s.metrics.failures.WithLabelValues("static", failedConnect))
	stop()
	if n := cost.Series["static"]; n > budget+5*5 {
		t.Errorf("%d series count, with a budget of %d", n, budget)
	}
	if n, _ := g.count("odd", "users"); n != 0 {
		t.Errorf("%d samples of a scrape that failed", n)
	}
	if _, up := g.count("up", "later"); up != 1 {
		t.Error("the target that came later is not said to be up")
	}
	if _, up := g.count("up", "nobody"); up != 0 || down == 0 {
		t.Errorf("the target that is down: up is %v, counted %v times", up, down)
	}
	if _, up := g.count("up", "ours"); up != 1 {
		t.Error("what fits of our own target is not read")
	}
}

// A target whose labels are new each time, as a badly made exporter's, ends its
// series with stale markers; they do not use up the budget.
func TestChurnDoesNotUseUpTheBudget(t *testing.T) {
	var n atomic.Int64
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) { text(fmt.Sprintf("a{x=\"%d\"} 1\n", n.Add(1)))(w, r) })
	s, g, _ := run(t, Options{}, job("shop", addr, nil))
	until(t, "five scrapes", func() bool { n, _ := g.count("up", "shop"); return n >= 5 })
	if got := s.Overview().Series["static"]; got > 7 {
		t.Errorf("%d series count, want 5 of the scrape, the present one and at most one that is ending", got)
	}
}

func TestOneWrongJobDoesNotHoldUpTheOthers(t *testing.T) {
	addr := serve(t, text("a 1\n"))
	s, g, _ := run(t, Options{},
		job("wrong", addr, func(c *config.ScrapeConfig) { c.ScrapeProtocols = []config.ScrapeProtocol{"nonsense"} }), job("shop", addr, nil), job("shop", addr, nil))
	until(t, "a scrape", func() bool { n, _ := g.count("a", "shop"); return n >= 1 })
	if r := s.Overview().Refused; len(r) != 2 {
		t.Errorf("refused: %v", r)
	}
	h := s.Health()
	if len(h) != 2 || h[0].Name != "scrape/refused" && h[1].Name != "scrape/refused" {
		t.Errorf("health: %+v", h)
	}
}

func TestAJobsOwnLimitsOnlyLower(t *testing.T) {
	s, err := New(Options{Sources: []Source{&fixed{}}, Families: []string{"static"}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.prepare(job("a", "x:1", func(c *config.ScrapeConfig) {
		c.SampleLimit, c.LabelLimit, c.ScrapeTimeout = 5, 1000, model.Duration(time.Minute)
	}))
	if err != nil || c.SampleLimit != 5 || c.LabelLimit != 38 || time.Duration(c.ScrapeTimeout) != 10*time.Second || time.Duration(c.ScrapeInterval) != 10*time.Second {
		t.Errorf("got %+v, %v", c, err)
	}
}
