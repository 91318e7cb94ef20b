package scrape

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	promscrape "github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/storage"

	"github.com/crowsnest-dev/crowsnest/collector/compute"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
)

// forgetAfter is how long a series counts after its last sample, if it did not
// end with a stale marker.
const forgetAfter = 15 * time.Minute

// upMetric says whether a scrape succeeded.
const upMetric = "up"

// series is one that targets expose.
type series struct {
	ref    storage.SeriesRef
	hash   uint64 // of all labels as scraped
	full   labels.Labels
	name   string
	labels labels.Labels // without the name
	family string
	last   atomic.Int64 // Unix milliseconds of the newest sample
}

// registry knows the series, so that each sample costs a look-up and the budget
// is held.
type registry struct {
	metrics *metrics
	next    atomic.Uint64

	mu     sync.RWMutex
	most   int
	byRef  map[storage.SeriesRef]*series
	byHash map[uint64]*series // of two with one hash the later is counted anew each time; both are sent
	counts map[string]int
}

func newRegistry(most int, m *metrics) *registry {
	return &registry{most: most, metrics: m, byRef: map[storage.SeriesRef]*series{}, byHash: map[uint64]*series{}, counts: map[string]int{}}
}

// find gives a series by reference or labels; nil when it is new.
func (r *registry) find(ref storage.SeriesRef, ls labels.Labels) *series {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if s := r.byRef[ref]; s != nil {
		return s
	}
	if s := r.byHash[ls.Hash()]; s != nil && labels.Equal(s.full, ls) {
		return s
	}
	return nil
}

// room says whether more series fit.
func (r *registry) room(more int) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.byRef)+more <= r.most
}

func (r *registry) add(all []*series) {
	if len(all) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range all {
		r.byRef[s.ref], r.byHash[s.hash] = s, s
		r.counts[s.family]++
		r.metrics.series.WithLabelValues(s.family).Set(float64(r.counts[s.family]))
	}
}

func (r *registry) remove(s *series) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.removeLocked(s)
}

func (r *registry) removeLocked(s *series) {
	if r.byRef[s.ref] != s {
		return
	}
	delete(r.byRef, s.ref)
	if r.byHash[s.hash] == s {
		delete(r.byHash, s.hash)
	}
	r.counts[s.family]--
	r.metrics.series.WithLabelValues(s.family).Set(float64(r.counts[s.family]))
}

// limit changes how many series there may be. Those that are there stay.
func (r *registry) limit(most int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.most = most
}

func (r *registry) limited() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.most
}

// sweep forgets series that have no more samples.
func (r *registry) sweep(now time.Time) {
	before := now.Add(-forgetAfter).UnixMilli()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.byRef {
		if s.last.Load() < before {
			r.removeLocked(s)
		}
	}
}

func (r *registry) byFamily() map[string]int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	out := map[string]int{}
	for f, n := range r.counts {
		if n > 0 {
			out[f] = n
		}
	}
	return out
}

// buffer gathers samples of several targets.
type buffer struct {
	mu      sync.Mutex
	samples []compute.Sample
	out     func([]compute.Sample)
}

func (b *buffer) open(out func([]compute.Sample)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.out = out
}

// add hands on what is enough for a request. Sealing does not wait for the
// server, so it may happen under the lock.
func (b *buffer) add(samples []compute.Sample) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.samples = append(b.samples, samples...)
	if len(b.samples) >= flushAt {
		b.flushLocked()
	}
}

func (b *buffer) flush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.flushLocked()
}

func (b *buffer) flushLocked() {
	if len(b.samples) > 0 && b.out != nil {
		b.out(b.samples)
	}
	b.samples = b.samples[:0]
	if cap(b.samples) > 4*flushAt { // one large target does not make the buffer large for good
		b.samples = nil
	}
}

type appendable struct{ s *Scraper }

var _ storage.AppendableV2 = appendable{}

// AppenderV2 gives the appender of one scrape.
func (a appendable) AppenderV2(ctx context.Context) storage.AppenderV2 {
	out := &appender{s: a.s}
	if t, ok := promscrape.TargetFromContext(ctx); ok {
		out.target, out.family = t, t.GetValue(familyLabel)
	}
	return out
}

// appender takes the samples of one scrape. Nothing of it is seen before Commit,
// so that a target that broke a limit leaves no trace but its up.
type appender struct {
	s       *Scraper
	target  *promscrape.Target
	family  string
	samples []compute.Sample
	fresh   []*series
	ended   []*series
	dropped map[string]int
	failed  string // reason for which the scrape failed
}

var _ storage.AppenderV2 = (*appender)(nil)

// Append implements storage.AppenderV2.
func (a *appender) Append(ref storage.SeriesRef, ls labels.Labels, _, t int64, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, _ storage.AOptions) (storage.SeriesRef, error) {
	if h != nil || fh != nil {
		a.drop(droppedHistogram)
		return 0, nil
	}
	stale := value.IsStaleNaN(v)
	s := a.s.series.find(ref, ls)
	if s == nil {
		if stale {
			return 0, nil // nothing of it was ever sent
		}
		name := ls.Get(model.MetricNameLabel)
		if reserved(name) {
			a.drop(droppedReserved)
			return 0, nil
		}
		if !a.report(name, ls) && !a.s.series.room(len(a.fresh)+1) {
			a.drop(droppedBudget)
			return 0, nil
		}
		s = a.make(name, ls)
		a.fresh = append(a.fresh, s)
	}
	if s.name == upMetric && v == 0 && a.target != nil {
		a.failed = reasonOf(a.target.LastError())
	}
	if stale {
		a.ended = append(a.ended, s)
	}
	s.last.Store(t)
	a.samples = append(a.samples, compute.Sample{Metric: s.name, Labels: s.labels, At: time.UnixMilli(t).UTC(), V: v})
	return s.ref, nil
}

// report says whether a series is of the scrape itself and not of what the target
// exposes. Those have room always, or nobody would see that a target is down that came
// after the budget was used up: they are as many as Limits.Targets, five times.
func (a *appender) report(name string, ls labels.Labels) bool {
	switch name {
	case upMetric, "scrape_duration_seconds", "scrape_samples_scraped", "scrape_samples_post_metric_relabeling", "scrape_series_added":
	default:
		return false
	}
	if a.target == nil {
		return false
	}
	n, same := 1, true // the name
	a.target.LabelsRange(func(l labels.Label) {
		n++
		same = same && ls.Get(l.Name) == l.Value
	})
	return same && ls.Len() == n
}

// reserved: what the catalogue declares is ours alone; a target that exposes
// such a name would be summed up and alerted on as if we had measured it.
func reserved(name string) bool {
	if _, ok := catalogue.Get(name); ok {
		return true
	}
	switch name {
	case compute.SourceUp, compute.SourceExpected, compute.SourceMeasured, compute.SourceOldest, compute.CollectionInterval, compute.ClockOffset,
		"crowsnest_rollup_coverage_ratio", "crowsnest_sender_interval_seconds": // the server writes these two (storage/rollup)
		return true
	}
	return false
}

func (a *appender) make(name string, ls labels.Labels) *series {
	b := labels.NewBuilder(ls).Del(model.MetricNameLabel)
	if c := ls.Get("cluster"); c != "" { // the server sets it
		b.Del("cluster").Set("exported_cluster", c)
	}
	family := a.family
	if _, ok := a.s.metrics.families[family]; !ok {
		family = familyOther
	}
	return &series{
		ref: storage.SeriesRef(a.s.series.next.Add(1)), hash: ls.Hash(), full: ls.Copy(), name: strings.Clone(name), labels: b.Labels(), family: family,
	}
}

func (a *appender) drop(reason string) {
	if a.dropped == nil {
		a.dropped = map[string]int{}
	}
	a.dropped[reason]++
}

// Commit implements storage.AppenderV2.
func (a *appender) Commit() error {
	a.s.series.add(a.fresh)
	for _, s := range a.ended {
		a.s.series.remove(s)
	}
	a.s.buffer.add(a.samples)
	a.s.drop(a.dropped)
	family := a.family
	if _, ok := a.s.metrics.families[family]; !ok {
		family = familyOther
	}
	a.s.metrics.samples.WithLabelValues(family).Add(float64(len(a.samples)))
	if a.failed != "" {
		a.s.metrics.failures.WithLabelValues(family, a.failed).Inc()
	}
	return nil
}

// Rollback implements storage.AppenderV2.
func (a *appender) Rollback() error {
	*a = appender{s: a.s, target: a.target, family: a.family}
	return nil
}

func labelsOf(t *promscrape.Target) map[string]string {
	out := map[string]string{}
	t.LabelsRange(func(l labels.Label) { out[l.Name] = l.Value })
	return out
}

// quiet lets warnings of the scrape manager through: each failed scrape is in
// up, and in the counters by reason.
func quiet(l *slog.Logger) *slog.Logger { return slog.New(warnings{l.Handler()}) }

type warnings struct{ slog.Handler }

func (w warnings) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelError && w.Handler.Enabled(ctx, l)
}
func (w warnings) WithAttrs(a []slog.Attr) slog.Handler { return warnings{w.Handler.WithAttrs(a)} }
func (w warnings) WithGroup(n string) slog.Handler      { return warnings{w.Handler.WithGroup(n)} }
