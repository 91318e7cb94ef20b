package custom

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
	"github.com/crowsnest-dev/crowsnest/storage/rollup"
)

const clusterLabel = "cluster"

const (
	// Limits of all custom metrics: how many there are, how many series one has
	// in a cluster, how many samples one evaluation may read, and how long all of
	// a cluster's may take, as alerts on sums wait for them.
	MaxMetrics  = 200
	MaxSeries   = 20_000
	maxSamples  = 5_000_000
	usualBudget = 5 * time.Second
	// maxWaiting intervals wait for an evaluation, five days of a site at 30 s; of
	// more, the oldest are passed on without one.
	maxWaiting = 16_384
	// retryLoad is how often objects are read anew that could not be read.
	retryLoad = 10 * time.Second
	// liveFor is how old an interval is at most that alerts are waited for.
	liveFor = 2 * time.Minute
)

// Reasons for which an evaluation gave nothing.
const (
	failedQuery    = "query"    // the engine refused it, or it took too long
	failedLabels   = "labels"   // the result lacks a label of the level, or has two values for an object
	failedSeries   = "series"   // over MaxSeries
	failedStore    = "store"    // samples could not be written
	failedOverrun  = "overrun"  // no time was left
	failedOvertake = "overtake" // the interval was passed on without
)

// Store is where samples are read and written.
type Store interface {
	storage.Queryable
	storage.Appendable
}

// Rows is where the objects are kept; *meta.DB is one.
type Rows interface {
	View(ctx context.Context, fn func(tx *meta.Tx) error) error
}

// evaluated is an entry of the catalogue that has an expression.
type evaluated struct {
	entry    catalogue.Metric
	clusters []string // those that have it; empty for all
}

func (e evaluated) in(cluster string) bool {
	return len(e.clusters) == 0 || slices.Contains(e.clusters, cluster)
}

// Options of Metrics.
type Options struct {
	Store Store // required
	Rows  Rows  // required
	// PromQL wraps the engine where queries are answered elsewhere; may be nil.
	PromQL func(promql.QueryEngine) promql.QueryEngine
	// Newest gives what each series of a metric has at a time, as Rollups.Newest does, for
	// some of Joined; may be nil.
	Newest func(cluster, metric string, since, at int64, into []rollup.Value) ([]rollup.Value, bool)
	// Next is told of an interval once its custom metrics are written; required.
	Next func(rollup.Written)
	// OnlyCustom leaves out the catalogue's own expressions.
	OnlyCustom bool
	Logger     *slog.Logger // default: discards
	Registerer prometheus.Registerer
	Now        func() time.Time // default time.Now
	budget     time.Duration    // default usualBudget
}

// Metrics evaluates the users' metrics. All methods may be called concurrently;
// Run once.
type Metrics struct {
	opts   Options
	log    *slog.Logger
	engine promql.QueryEngine
	// elsewhere: queries are answered by another engine, whose raw reads lack the ends
	// of series.
	elsewhere bool
	failed    *prometheus.CounterVec

	wake    chan struct{}
	builtin []evaluated

	mu      sync.Mutex
	waiting []rollup.Written
	stale   bool // rows were written and could not be read
	all     []evaluated
	state   map[string]map[string]MetricClusterStatus // by series name, cluster

	// Run's alone.
	last   map[string]map[string]newest // by name and cluster
	atOnce int                          // intervals of the past that are evaluated together
	values []rollup.Value               // kept for its memory
	many   map[string]int               // how many members there were, by what was asked
}

// newest are the series of a metric's newest evaluation in a cluster.
type newest struct {
	at     time.Time
	series map[uint64]labels.Labels
}

// New reads the objects; nothing is evaluated before Run.
func New(ctx context.Context, o Options) (*Metrics, error) {
	if o.Store == nil || o.Rows == nil || o.Next == nil {
		return nil, errors.New("custom: Store, Rows and Next are required")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.budget == 0 {
		o.budget = usualBudget
	}
	m := &Metrics{opts: o, log: o.Logger, wake: make(chan struct{}, 1), state: map[string]map[string]MetricClusterStatus{}, last: map[string]map[string]newest{}, atOnce: maxAtOnce}
	if !o.OnlyCustom {
		for _, entry := range catalogue.All() {
			if entry.Expr != "" {
				m.builtin = append(m.builtin, evaluated{entry: entry})
			}
		}
	}
	m.failed = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "crowsnest_custom_failed_evaluations_total", Help: "Evaluations of custom metrics that gave no sample, by reason.",
	}, []string{"reason"})
	for _, r := range []string{failedQuery, failedLabels, failedSeries, failedStore, failedOverrun, failedOvertake} {
		m.failed.WithLabelValues(r)
	}
	if o.Registerer != nil {
		o.Registerer.MustRegister(m.failed)
	}
	m.engine = promql.NewEngine(promql.EngineOpts{Logger: o.Logger, MaxSamples: maxSamples, Timeout: o.budget, EnableAtModifier: true, EnableNegativeOffset: true, Parser: parser.NewParser(parser.Options{})})
	if o.PromQL != nil {
		here := m.engine
		m.engine = o.PromQL(here)
		m.elsewhere = m.engine != here
	}
	return m, m.load(ctx)
}

// load reads the objects and makes them part of the catalogue.
func (m *Metrics) load(ctx context.Context) error {
	var rows []meta.Resource
	if err := m.opts.Rows.View(ctx, func(tx *meta.Tx) (err error) { rows, err = tx.Resources(meta.KindMetric); return err }); err != nil {
		return fmt.Errorf("read custom metrics: %w", err)
	}
	all := slices.Clone(m.builtin)
	var entries []catalogue.Metric
	for _, r := range rows {
		o, err := Of(r)
		if err != nil { // of another version
			m.log.Error("custom metric cannot be used", "metric", r.Name, "err", err)
			continue
		}
		if _, taken := catalogue.Declared(SeriesName(r.Name)); taken || len(entries) == MaxMetrics {
			m.log.Error("custom metric cannot be used", "metric", r.Name, "reason", "its name became the catalogue's own, or there are too many")
			continue
		}
		all, entries = append(all, evaluated{o.entry(), o.Spec.Clusters}), append(entries, o.entry())
	}
	catalogue.SetCustom(entries)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all = all
	for name := range m.state {
		if !slices.ContainsFunc(entries, func(e catalogue.Metric) bool { return e.Name == name }) {
			delete(m.state, name)
		}
	}
	return nil
}

// Changed reads the objects anew; they are part of the catalogue when it returns.
func (m *Metrics) Changed() {
	if err := m.load(context.Background()); err != nil {
		m.log.Error("read custom metrics", "err", err)
		m.mu.Lock()
		m.stale = true
		m.mu.Unlock()
	}
	m.poke()
}

func (m *Metrics) poke() {
	select {
	case m.wake <- struct{}{}:
	default: // it is awake already
	}
}

// RolledUp tells that a cluster's sums of an interval are written. It never
// blocks; Next follows once the custom metrics are.
func (m *Metrics) RolledUp(w rollup.Written) {
	m.mu.Lock()
	var overtaken *rollup.Written
	if m.waiting = append(m.waiting, w); len(m.waiting) > maxWaiting {
		first := m.waiting[0]
		overtaken, m.waiting = &first, m.waiting[1:]
	}
	m.mu.Unlock()
	if overtaken != nil {
		m.failed.WithLabelValues(failedOvertake).Inc()
		m.opts.Next(*overtaken)
	}
	m.poke()
}

// Run evaluates until ctx ends.
func (m *Metrics) Run(ctx context.Context) error {
	retry, gathered := time.NewTicker(retryLoad), time.NewTicker(pastEvery)
	defer retry.Stop()
	defer gathered.Stop()
	due := true // those of the past have gathered long enough
	for ctx.Err() == nil {
		m.mu.Lock()
		next, all := m.nextLocked(due), m.all
		m.mu.Unlock()
		switch {
		case len(next) == 1:
			m.alone(ctx, next[0], all)
		case len(next) > 1:
			m.run(ctx, next, all)
		default:
			due = false
			select {
			case <-ctx.Done():
			case <-m.wake:
			case <-gathered.C:
				due = true
			case <-retry.C:
				m.mu.Lock()
				stale := m.stale
				m.stale = false
				m.mu.Unlock()
				if stale {
					m.Changed()
				}
			}
		}
	}
	return nil
}

// nextLocked takes what is to be evaluated next: a live interval before those of the
// past, which come in numbers when a site is back and whose alerts nobody waits for.
// These are taken when they are due or many, as many as follow one another.
func (m *Metrics) nextLocked(due bool) []rollup.Written {
	if len(m.waiting) == 0 {
		return nil
	}
	if i := slices.IndexFunc(m.waiting, m.live); i >= 0 {
		first := m.waiting[i]
		m.waiting = slices.Delete(m.waiting, i, i+1)
		return []rollup.Written{first}
	}
	next, rest := following(m.waiting, m.atOnce)
	if !due && len(next) < m.atOnce && len(m.waiting) <= crowded {
		return nil
	}
	m.waiting = rest
	return next
}

// live says whether somebody waits for an interval.
func (m *Metrics) live(w rollup.Written) bool { return w.At.After(m.opts.Now().Add(-liveFor)) }

// interval evaluates all metrics of a cluster at one time.
func (m *Metrics) interval(ctx context.Context, w rollup.Written, all []evaluated) {
	ctx, cancel := context.WithTimeout(ctx, m.opts.budget)
	defer cancel()
	known := memberships{}
	for _, o := range all {
		if o.in(w.Cluster) {
			m.one(ctx, o.entry, w, known)
		}
	}
}

// one evaluates a metric at one time, of which memberships may be known.
func (m *Metrics) one(ctx context.Context, entry catalogue.Metric, w rollup.Written, known memberships) {
	found, reason, err := m.evaluate(ctx, entry, w, known)
	switch {
	case ctx.Err() != nil:
		found, reason, err = nil, failedOverrun, fmt.Errorf("the custom metrics of the cluster took longer than %s altogether", m.opts.budget)
	case err == nil:
		if err = m.write(ctx, entry.Name, w, found); err != nil {
			reason = failedStore
		}
	}
	s := MetricClusterStatus{Cluster: w.Cluster, At: w.At.UTC(), Series: len(found)}
	if err != nil {
		s.Problem, s.Series = err.Error(), 0
		m.failed.WithLabelValues(reason).Inc()
	}
	m.note(entry.Name, s)
}

func (m *Metrics) note(name string, s MetricClusterStatus) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state[name] == nil {
		m.state[name] = map[string]MetricClusterStatus{}
	}
	if before := m.state[name][s.Cluster]; before.Problem != s.Problem && s.Problem != "" {
		m.log.Warn("custom metric has no value", "metric", name, "cluster", s.Cluster, "err", s.Problem)
	}
	m.state[name][s.Cluster] = s
}

// evaluate gives the metric's samples by their labels.
func (m *Metrics) evaluate(ctx context.Context, entry catalogue.Metric, w rollup.Written, known memberships) (found []promql.Sample, reason string, err error) {
	expr, err := selective(entry.Expr, w.Cluster)
	if err != nil {
		return nil, failedQuery, err
	}
	vector, summed, err := m.sumBehind(ctx, expr, w.At, known)
	if err != nil {
		return nil, failedQuery, err
	}
	if !summed {
		if nothing, err := m.hollow(ctx, expr, w.At, w.At); nothing || err != nil {
			return nil, failedQuery, err
		}
		if vector, err = m.ask(ctx, expr, w.At); err != nil {
			return nil, failedQuery, err
		}
	}
	if err := tooMany(entry, len(vector)); err != nil {
		return nil, failedSeries, err
	}
	seen := make(map[uint64]bool, len(vector))
	found = make([]promql.Sample, 0, len(vector))
	naming := namingOf(entry, w.Cluster)
	for _, s := range vector {
		if s.H != nil {
			return nil, failedLabels, errHistogram
		}
		if s.Metric, err = naming.named(s.Metric); err != nil {
			return nil, failedLabels, err
		}
		if h := s.Metric.Hash(); seen[h] {
			return nil, failedLabels, twice(s.Metric)
		} else {
			seen[h] = true
		}
		found = append(found, s)
	}
	return found, "", nil
}

// ask has PromQL evaluate an expression at a time.
func (m *Metrics) ask(ctx context.Context, expr parser.Expr, at time.Time) (promql.Vector, error) {
	q, err := m.engine.NewInstantQuery(ctx, m.opts.Store, nil, expr.String(), at)
	if err != nil {
		return nil, err
	}
	defer q.Close()
	res := q.Exec(ctx)
	if res.Err != nil {
		return nil, res.Err
	}
	switch v := res.Value.(type) {
	case promql.Vector:
		return slices.Clone(v), nil // the query's own ends with it
	case promql.Scalar:
		return promql.Vector{{T: v.T, F: v.V}}, nil
	}
	return nil, nil
}

var errHistogram = errors.New("it gives a histogram; histogram_quantile makes a value of one")

// tooMany refuses more series than a user's metric may have.
func tooMany(entry catalogue.Metric, series int) error {
	if _, own := catalogue.Declared(entry.Name); series > MaxSeries && !own {
		return fmt.Errorf("it has %d series, at most %d are allowed", series, MaxSeries)
	}
	return nil
}

func twice(object labels.Labels) error {
	return fmt.Errorf("its result has two values for %s: sum them up, or name what tells them apart as dimension", object)
}

// naming is how a metric's series are named.
type naming struct {
	entry          catalogue.Metric
	cluster        string
	labels, object []string // of its series, and those that name an object; without the cluster's
}

func namingOf(entry catalogue.Metric, cluster string) naming {
	others := func(names []string) []string {
		return slices.DeleteFunc(names, func(l string) bool { return l == clusterLabel })
	}
	return naming{entry, cluster, others(entry.Labels()), others(entry.Level.ObjectLabels())}
}

// named gives the labels of the metric's series for those of a result.
func (n naming) named(result labels.Labels) (labels.Labels, error) {
	for _, l := range n.object {
		if !result.Has(l) {
			return labels.EmptyLabels(), fmt.Errorf("its result has no label %s, which names a %s: %s", l, n.entry.Level, result)
		}
	}
	b := labels.NewScratchBuilder(len(n.labels) + 2)
	b.Add(labels.MetricName, n.entry.Name)
	b.Add(clusterLabel, n.cluster)
	for _, l := range n.labels {
		if v := result.Get(l); v != "" {
			b.Add(l, v)
		}
	}
	b.Sort()
	return b.Labels(), nil
}

// write stores the samples, and ends the series that are no more. What was evaluated
// of a later time says nothing about which these are.
func (m *Metrics) write(ctx context.Context, name string, w rollup.Written, found []promql.Sample) error {
	app := m.opts.Store.Appender(ctx)
	last := m.last[name][w.Cluster]
	appendTo := app.Append
	if w.At.After(last.at) {
		appendTo = rollup.AppendNewest(app)
	}
	at := w.At.UnixMilli()
	now := make(map[uint64]labels.Labels, len(found))
	for _, s := range found {
		now[s.Metric.Hash()] = s.Metric
		if _, err := appendTo(0, s.Metric, at, s.F); err != nil && !again(err) {
			return errors.Join(err, app.Rollback())
		}
	}
	for h, ls := range last.series {
		if _, still := now[h]; !still && w.At.After(last.at) {
			if _, err := appendTo(0, ls, at, math.Float64frombits(value.StaleNaN)); err != nil && !again(err) {
				return errors.Join(err, app.Rollback())
			}
		}
	}
	if err := app.Commit(); err != nil {
		return err
	}
	m.remember(name, w, now)
	return nil
}

// remember keeps which series there were, unless later ones are known.
func (m *Metrics) remember(name string, w rollup.Written, series map[uint64]labels.Labels) {
	if m.last[name] == nil {
		m.last[name] = map[string]newest{}
	}
	if !w.At.Before(m.last[name][w.Cluster].at) {
		m.last[name][w.Cluster] = newest{w.At, series}
	}
}

// again says whether the store has the sample, or one of a later time, already:
// the interval was evaluated before.
func again(err error) bool {
	return errors.Is(err, storage.ErrDuplicateSampleForTimestamp) || errors.Is(err, storage.ErrOutOfOrderSample) || errors.Is(err, storage.ErrTooOldSample)
}

// Sent says whether somebody sends series of a name that is no custom metric: its
// samples would meet with ours.
func (m *Metrics) Sent(name string) (bool, error) {
	if slices.ContainsFunc(catalogue.Custom(), func(c catalogue.Metric) bool { return c.Name == name }) {
		return false, nil
	}
	now := m.opts.Now()
	from, to := now.Add(-10*time.Minute).UnixMilli(), now.UnixMilli()
	q, err := m.opts.Store.Querier(from, to)
	if err != nil {
		return false, fmt.Errorf("look for series %q: %w", name, err)
	}
	defer q.Close()
	set := q.Select(context.Background(), false, &storage.SelectHints{Start: from, End: to, Limit: 1}, labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, name))
	found := set.Next()
	return found, set.Err()
}

// Show fills the status of an object.
func (m *Metrics) Show(o *CustomMetric) {
	o.Status = &MetricStatus{Name: SeriesName(o.Metadata.Name), Clusters: []MetricClusterStatus{}}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, cluster := range slices.Sorted(maps.Keys(m.state[o.Status.Name])) {
		o.Status.Clusters = append(o.Status.Clusters, m.state[o.Status.Name][cluster])
	}
}
