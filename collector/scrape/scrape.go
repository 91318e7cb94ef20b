// Package scrape owns the reading of targets that expose Prometheus' text,
// OpenMetrics or protobuf: Prometheus' own scrape manager, bounded, with each
// sample led into a sink. It must not know where jobs come from (package
// targets and package raw do) nor how samples reach the server.
package scrape

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/alecthomas/units"
	"github.com/prometheus/client_golang/prometheus"
	config_util "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	promscrape "github.com/prometheus/prometheus/scrape"

	"github.com/crowsnest-dev/crowsnest/collector/compute"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

const (
	// look is how often sources are asked for their jobs.
	look = 5 * time.Second
	// flushEvery and flushAt gather the samples of targets, so that a request
	// holds many targets.
	flushEvery  = time.Second
	flushAt     = 5_000
	familyLabel = "__crowsnest_family__"
)

// Limits bound each target, and all of them. A job may have lower ones of its
// own, never higher ones. Zero values take the defaults.
type Limits struct {
	BodyBytes       int64         // uncompressed; default 4 MiB
	Samples         int           // of one target; default 10,000
	Labels          int           // of one series; default 38, two below the server's limit
	LabelNameBytes  int           // default 256
	LabelValueBytes int           // default 2048
	Timeout         time.Duration // default 10 s, and never longer than the interval
	TargetsPerJob   int           // default 1,000; a job with more fails as a whole
	Targets         int           // of all jobs; default 5,000; jobs that come later are refused
}

func (l Limits) complete() Limits {
	return Limits{
		BodyBytes: orElse(l.BodyBytes, 4<<20), Samples: orElse(l.Samples, 10_000), Labels: orElse(l.Labels, 38),
		LabelNameBytes: orElse(l.LabelNameBytes, 256), LabelValueBytes: orElse(l.LabelValueBytes, 2048),
		Timeout: orElse(l.Timeout, 10*time.Second), TargetsPerJob: orElse(l.TargetsPerJob, 1_000), Targets: orElse(l.Targets, 5_000),
	}
}

func orElse[T int | int64 | time.Duration](v, other T) T {
	if v == 0 {
		return other
	}
	return v
}

// Job is targets that are read in the same way.
type Job struct {
	Family string // of Options.Families; what it is counted under
	Config *config.ScrapeConfig
	Groups []*targetgroup.Group
	Limits *Limits // instead of Options.Limits, for what we read ourselves
	// Fetch writes what a target answers, in Prometheus' text; nil reads it over
	// HTTP as Config says. It is called concurrently and ends with ctx or when
	// into has enough.
	Fetch func(ctx context.Context, address string, into io.Writer) error
}

// Source gives jobs. Jobs is called every few seconds and is cheap where nothing
// changed; what it gives is not changed by either side afterwards.
type Source interface {
	Jobs() []Job
	// Refused counts what was asked for and cannot be read, by reason in words
	// for people, for Health.
	Refused() map[string]int
}

// Share divides targets among several processes.
type Share interface {
	// Owns says whether a target is this process's now, by its job's family and a
	// key that stays the same as long as the target does.
	Owns(family, key string) bool
	// State changes whenever what Owns says may.
	State() string
}

// Sink takes samples. It does not wait for the server and does not keep the
// slice.
type Sink = func([]compute.Sample) error

// Options of a Scraper.
type Options struct {
	Sources  []Source      // required
	Families []string      // that jobs may have; required
	Interval time.Duration // of jobs that say none; default 30 s
	// MinInterval: a target that asks to be read more often is read this often;
	// default 10 s.
	MinInterval time.Duration
	Limits      Limits
	// Series bounds the series of all targets together; what is beyond it is
	// dropped and counted. Default 200,000.
	Series int
	// Share says which targets are this process's, where several share them; nil:
	// all are.
	Share Share
	// Dial opens connections to targets; default the system's dialer.
	Dial       config_util.DialContextFunc
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	Now        func() time.Time // default time.Now
}

// Scraper reads targets.
type Scraper struct {
	o       Options
	log     *slog.Logger
	metrics *metrics
	manager *promscrape.Manager
	base    *config.Config
	series  *registry
	buffer  *buffer
	gateway *gateway

	// What follows is Run's alone.
	applied  []Job
	wrong    map[string]int     // jobs that could not be applied, in words
	retiring map[string]retired // by name
	shared   map[*config.ScrapeConfig]sharedJob

	mu      sync.Mutex
	refused map[string]int   // those in wrong, and what the sources refused
	dropped map[string]int64 // samples, by reason
	told    map[string]bool  // refusals that were logged
}

// New checks the options; it starts nothing and opens no connection.
func New(o Options) (*Scraper, error) {
	if len(o.Sources) == 0 || len(o.Families) == 0 {
		return nil, errors.New("scrape: Sources and Families are required")
	}
	o.Limits = o.Limits.complete()
	o.Interval = orElse(o.Interval, 30*time.Second)
	o.MinInterval = orElse(o.MinInterval, 10*time.Second)
	o.Series = orElse(o.Series, 200_000)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Scraper{o: o, log: o.Logger, metrics: newMetrics(o.Registerer, o.Families), told: map[string]bool{}, dropped: map[string]int64{}, retiring: map[string]retired{}}
	s.series = newRegistry(o.Series, s.metrics)
	s.buffer, s.gateway = &buffer{}, newGateway(o.Dial)
	base, err := config.Load("", s.log)
	if err != nil {
		return nil, fmt.Errorf("scrape: %w", err)
	}
	base.GlobalConfig.ScrapeInterval = model.Duration(o.Interval)
	base.GlobalConfig.ScrapeTimeout = model.Duration(min(o.Limits.Timeout, o.Interval))
	s.base = base
	// The manager's own metrics are Prometheus' and would look like a server's.
	s.manager, err = promscrape.NewManager(&promscrape.Options{
		PassMetadataInContext: true, DiscoveryReloadInterval: model.Duration(time.Second),
		HTTPClientOptions: []config_util.HTTPClientOption{config_util.WithDialContextFunc(s.gateway.connect)},
	}, quiet(s.log), nil, nil, appendable{s}, prometheus.NewRegistry())
	if err != nil {
		return nil, fmt.Errorf("scrape: %w", err)
	}
	return s, nil
}

// Run reads targets until ctx ends; samples go to sink. A target that goes ends
// its series with stale markers; at the end of Run none are written, as the next
// collector goes on with the same series.
func (s *Scraper) Run(ctx context.Context, sink Sink) error {
	s.buffer.open(func(samples []compute.Sample) {
		if err := sink(samples); err != nil {
			s.drop(map[string]int{droppedSink: len(samples)})
			s.log.Error("seal scraped samples", "err", err)
		}
	})
	sets := make(chan map[string][]*targetgroup.Group)
	done, served := make(chan error, 1), make(chan struct{})
	go func() { done <- s.manager.Run(sets) }()
	server := &http.Server{Handler: s.gateway, ErrorLog: log.New(io.Discard, "", 0)}
	go func() {
		defer close(served)
		_ = server.Serve(s.gateway)
	}()
	looks, flushes := time.NewTicker(look), time.NewTicker(flushEvery)
	defer looks.Stop()
	defer flushes.Stop()
	s.update(ctx, sets)
	for {
		select {
		case <-looks.C:
			s.update(ctx, sets)
			s.series.sweep(s.o.Now())
		case <-flushes.C:
			s.buffer.flush()
		case <-ctx.Done():
			s.manager.Stop() // waits for all loops; what they read is in the buffer then
			err := <-done
			_ = server.Close()
			<-served
			s.gateway.only(func(string) bool { return false })
			s.buffer.flush()
			return err
		}
	}
}

// update applies the sources' jobs where they changed. A job that is wrong is
// left out and told; it does not hold up the others.
func (s *Scraper) update(ctx context.Context, sets chan<- map[string][]*targetgroup.Group) {
	refused := map[string]int{}
	var jobs []Job
	targets := 0
	for _, source := range s.o.Sources {
		for why, n := range source.Refused() {
			refused[why] += n
		}
		for _, j := range s.share(source.Jobs()) {
			n := 0
			for _, g := range j.Groups {
				n += len(g.Targets)
			}
			if n > 0 && targets+n > s.o.Limits.Targets {
				refused[fmt.Sprintf("there are more than %d targets", s.o.Limits.Targets)]++
				continue
			}
			targets += n
			jobs = append(jobs, j)
		}
	}
	jobs = append(jobs, s.retire(jobs)...)
	if !slices.EqualFunc(jobs, s.applied, sameJob) || s.wrong == nil { // sources give the same pointers while nothing changed, so this is cheap
		s.wrong = map[string]int{}
		groups := map[string][]*targetgroup.Group{}
		cfg := *s.base
		cfg.ScrapeConfigs = nil
		for _, j := range jobs {
			c, err := s.prepare(j)
			if _, twice := groups[c.JobName]; err == nil && twice {
				err = errors.New("two jobs have this name")
			}
			if err != nil {
				s.wrong[fmt.Sprintf("job %s: %v", c.JobName, err)]++
				continue
			}
			cfg.ScrapeConfigs = append(cfg.ScrapeConfigs, c)
			groups[c.JobName] = labelled(j)
		}
		s.handOver(jobs)
		s.gateway.only(func(job string) bool { _, is := groups[job]; return is })
		if err := s.manager.ApplyConfig(&cfg); err != nil {
			s.log.Warn("apply scrape jobs", "err", err)
		}
		select {
		case sets <- groups:
		case <-ctx.Done():
			return
		}
		s.applied = jobs
	}
	for why, n := range s.wrong {
		refused[why] += n
	}
	s.tell(refused)
	s.count()
}

func sameJob(a, b Job) bool { // functions cannot be compared; a new one comes with a new configuration
	return a.Family == b.Family && a.Config == b.Config && reflect.DeepEqual(a.Groups, b.Groups)
}

// retired is a job that nobody asks for any longer.
type retired struct {
	job   Job
	until time.Time
}

// retire gives the jobs that went a little while ago, without targets: a pool
// that is taken down at once would not end its series with stale markers.
func (s *Scraper) retire(jobs []Job) []Job {
	now := s.o.Now()
	asked := map[string]bool{}
	for _, j := range jobs {
		asked[j.Config.JobName] = true
		delete(s.retiring, j.Config.JobName)
	}
	for _, j := range s.applied {
		name := j.Config.JobName
		if _, is := s.retiring[name]; asked[name] || is {
			continue
		}
		j.Groups = nil
		interval := max(time.Duration(j.Config.ScrapeInterval), s.o.Interval)
		s.retiring[name] = retired{j, now.Add(4 * interval)} // Prometheus waits for two intervals and a bit
	}
	var out []Job
	for _, name := range slices.Sorted(maps.Keys(s.retiring)) {
		if r := s.retiring[name]; now.Before(r.until) {
			out = append(out, r.job)
		} else {
			delete(s.retiring, name)
		}
	}
	return out
}

// tell keeps the refusals, and logs each once.
func (s *Scraper) tell(refused map[string]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	total := 0
	for why, n := range refused {
		total += n
		if !s.told[why] {
			s.log.Warn("target is not scraped", "reason", why, "count", n)
		}
	}
	clear(s.told)
	for why := range refused {
		s.told[why] = true
	}
	s.refused = refused
	s.metrics.refused.Set(float64(total))
}

func (s *Scraper) drop(by map[string]int) {
	if len(by) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for reason, n := range by {
		s.dropped[reason] += int64(n)
		s.metrics.dropped.WithLabelValues(reason).Add(float64(n))
	}
}

// SetSeries changes Options.Series; 0 takes the one of the options.
func (s *Scraper) SetSeries(most int) { s.series.limit(orElse(most, s.o.Series)) }

// Cost is how many series each family has, how many there may be, and what was
// dropped.
func (s *Scraper) Cost() *wire.ScrapeHealth {
	out := &wire.ScrapeHealth{Series: s.series.byFamily(), Most: s.series.limited()}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.dropped) > 0 {
		out.Dropped = maps.Clone(s.dropped)
	}
	return out
}

// prepare gives a job's configuration with the limits in force.
func (s *Scraper) prepare(j Job) (*config.ScrapeConfig, error) {
	c := *j.Config
	l := s.o.Limits
	if j.Limits != nil {
		l = j.Limits.complete()
	}
	if !slices.Contains(s.o.Families, j.Family) {
		return &c, fmt.Errorf("BUG: unknown family %q", j.Family)
	}
	if c.ScrapeInterval != 0 && time.Duration(c.ScrapeInterval) < s.o.MinInterval {
		c.ScrapeInterval = model.Duration(s.o.MinInterval)
	}
	interval := time.Duration(c.ScrapeInterval)
	if interval == 0 {
		interval = s.o.Interval
	}
	timeout := min(l.Timeout, interval)
	if t := time.Duration(c.ScrapeTimeout); t > 0 {
		timeout = min(t, timeout)
	}
	c.ScrapeInterval, c.ScrapeTimeout = model.Duration(interval), model.Duration(timeout)
	c.BodySizeLimit = units.Base2Bytes(lower(int64(c.BodySizeLimit), l.BodyBytes))
	c.SampleLimit = lower(c.SampleLimit, uint(l.Samples))
	c.TargetLimit = lower(c.TargetLimit, uint(l.TargetsPerJob))
	c.LabelLimit = lower(c.LabelLimit, uint(l.Labels))
	c.LabelNameLengthLimit = lower(c.LabelNameLengthLimit, uint(l.LabelNameBytes))
	c.LabelValueLengthLimit = lower(c.LabelValueLengthLimit, uint(l.LabelValueBytes))
	c.KeepDroppedTargets = 1 // 0 would keep all
	// Remote write carries floats here: histograms come by their buckets.
	no := false
	c.ScrapeNativeHistograms, c.AlwaysScrapeClassicHistograms = &no, nil
	c.ServiceDiscoveryConfigs = nil
	if c.ScrapeFallbackProtocol == "" {
		c.ScrapeFallbackProtocol = config.PrometheusText0_0_4 // many small exporters send no content type
	}
	if err := c.Validate(s.base.GlobalConfig); err != nil {
		return &c, err
	}
	return &c, s.gateway.route(&c, j.Fetch)
}

func lower[T uint | int64](own, most T) T {
	if own == 0 {
		return most
	}
	return min(own, most)
}

// labelled gives the job's groups with its family on each target.
func labelled(j Job) []*targetgroup.Group {
	out := make([]*targetgroup.Group, 0, len(j.Groups))
	for _, g := range j.Groups {
		c := *g
		c.Labels = maps.Clone(g.Labels)
		if c.Labels == nil {
			c.Labels = model.LabelSet{}
		}
		c.Labels[familyLabel] = model.LabelValue(j.Family)
		out = append(out, &c)
	}
	return out
}

// count sets the gauges of targets.
func (s *Scraper) count() {
	for family, c := range s.targets() {
		s.metrics.targets.WithLabelValues(family, "up").Set(float64(c.up))
		s.metrics.targets.WithLabelValues(family, "down").Set(float64(c.down))
		s.metrics.targets.WithLabelValues(family, "unknown").Set(float64(c.unknown))
	}
}

type counts struct {
	up, down, unknown int
	took              time.Duration
	last              time.Time
	why               string // one of the failures
}

func (s *Scraper) targets() map[string]counts {
	out := map[string]counts{}
	for _, f := range s.o.Families {
		out[f] = counts{}
	}
	for _, targets := range s.manager.TargetsActive() {
		for _, t := range targets {
			family := t.GetValue(familyLabel)
			c, known := out[family]
			if !known {
				continue // a relabeling took the label away
			}
			switch t.Health() {
			case promscrape.HealthGood:
				c.up++
				c.took = max(c.took, t.LastScrapeDuration())
				if t.LastScrape().After(c.last) {
					c.last = t.LastScrape()
				}
			case promscrape.HealthBad:
				c.down++
				if err := t.LastError(); err != nil && c.why == "" {
					_, text, _ := told(err)
					c.why = where(t) + ": " + text
				}
			default:
				c.unknown++
			}
			out[family] = c
		}
	}
	return out
}

// where names a target without its query, which may hold secrets.
func where(t *promscrape.Target) string {
	u := *t.URL()
	u.RawQuery, u.User = "", nil
	if scheme := t.GetValue(schemeLabel); scheme != "" {
		u.Scheme = scheme
	}
	return u.String()
}

// Health says for each family how many targets there are and how many answer,
// and what was refused.
func (s *Scraper) Health() []wire.SourceHealth {
	all := s.targets()
	var out []wire.SourceHealth
	for _, family := range slices.Sorted(maps.Keys(all)) {
		c := all[family]
		if c.up+c.down+c.unknown == 0 {
			continue
		}
		h := wire.SourceHealth{
			Name: "scrape/" + family, Up: c.up > 0 || c.down == 0, LastSuccess: c.last.UTC(), TookSeconds: c.took.Seconds(),
			Expected: c.up + c.down + c.unknown, Measured: c.up,
		}
		if c.down > 0 {
			h.Error = fmt.Sprintf("%d of %d targets do not answer as they should, for one %s", c.down, h.Expected, c.why)
		}
		out = append(out, h)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.refused) > 0 {
		why := slices.Sorted(maps.Keys(s.refused))[0]
		n := 0
		for _, c := range s.refused {
			n += c
		}
		out = append(out, wire.SourceHealth{Name: "scrape/refused", Error: fmt.Sprintf("%d cannot be scraped, for one: %s", n, why), Expected: n})
	}
	return out
}

// Target is one target as people look at it.
type Target struct {
	Family      string            `json:"family"`
	Job         string            `json:"job"`
	URL         string            `json:"url"`
	Labels      map[string]string `json:"labels"`
	State       string            `json:"state"` // up, down, unknown
	Error       string            `json:"error,omitempty"`
	LastScrape  time.Time         `json:"last_scrape,omitzero"`
	TookSeconds float64           `json:"took_seconds"`
}

// Overview is all targets, and what is not scraped.
type Overview struct {
	Targets []Target       `json:"targets"`
	Refused map[string]int `json:"refused"` // by reason
	Series  map[string]int `json:"series"`  // active, by family
}

// Overview lists the targets by job and URL.
func (s *Scraper) Overview() Overview {
	out := Overview{Targets: []Target{}, Refused: map[string]int{}, Series: s.series.byFamily()}
	s.mu.Lock()
	maps.Copy(out.Refused, s.refused)
	s.mu.Unlock()
	for job, targets := range s.manager.TargetsActive() {
		for _, t := range targets {
			o := Target{
				Family: t.GetValue(familyLabel), Job: job, URL: where(t), Labels: map[string]string{}, State: string(t.Health()),
				LastScrape: t.LastScrape().UTC(), TookSeconds: t.LastScrapeDuration().Seconds(),
			}
			if err := t.LastError(); err != nil {
				_, o.Error, _ = told(err)
			}
			for n, v := range labelsOf(t) {
				o.Labels[n] = v
			}
			out.Targets = append(out.Targets, o)
		}
	}
	slices.SortFunc(out.Targets, func(a, b Target) int {
		if a.Job+a.URL < b.Job+b.URL {
			return -1
		}
		return 1
	})
	return out
}

// ServeHTTP shows the overview as JSON.
func (s *Scraper) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(s.Overview()) // whoever asked is gone
}
