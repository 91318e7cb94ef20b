package ingest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/crowsnest-dev/crowsnest/storage/rollup"
)

const clusterLabel = "cluster"

// clockOffset{cluster, sender} tells by how much a sender's clock was ahead at a
// time: the collector says so itself once it knows, and ingest of samples that
// were stamped before.
const clockOffset = "crowsnest_collector_clock_offset_seconds"

// request is the state of one write.
type request struct {
	about
	i       *Ingester
	number  uint32
	c       *cluster
	now     time.Time
	minTime int64 // Unix milliseconds; older is refused
	maxTime int64 // Unix milliseconds; newer is refused
	store   Store
	behind  time.Duration // how old samples may be
	history bool          // by the import way
	large   bool          // it has one of the places of those that take much memory

	committed bool
	abort     error // the whole request is refused
	failed    error // the store did not take it

	// All but stored are what a sender of remote write 2.0 is told to be written. Duplicates that
	// conflict are in them: a success with nothing written counts as a failure with Prometheus.
	stored, floats, histograms, exemplars int
	feed                                  []rollup.Sample
	passed                                []rollup.Sample // of which no sum is made
	bypassed                              int64           // Unix milliseconds of the newest sample that rollups are not told of; 0: none
	named                                 []labels.Labels // series that were written to between two grid points; see Arrival
	unnamed                               bool            // they are too many to name them
	newest                                int64           // Unix milliseconds of the newest of their samples
	between                               bool            // some of their samples lie off the grid
	watching                              *Watch          // nil: nobody hears of what is odd
	noted                                 []noted         // what may be odd
	unnoted                               bool            // it is too much to note it
	oddest                                int64           // Unix milliseconds of the newest of these
	turn                                  uint64          // by which its moves are known; 0: it has none yet
	refused                               []refusal
	ended                                 []*series // that began in this request, too, and keep their places until it is done
}

// refusal counts what was refused for one reason.
type refusal struct {
	reason string
	n      int
	first  string // the first offender, and the limit
}

func (q *request) refuse(n int, reason string, what func() string) {
	q.c.refused[reason].add(n)
	for i := range q.refused {
		if q.refused[i].reason == reason {
			q.refused[i].n += n
			return
		}
	}
	q.refused = append(q.refused, refusal{reason, n, what()})
}

// explain tells a sender what was refused.
func (q *request) explain() string {
	parts := make([]string, len(q.refused))
	for n, r := range q.refused {
		parts[n] = fmt.Sprintf("%d refused (%s): %s", r.n, r.reason, r.first)
	}
	slices.Sort(parts)
	return fmt.Sprintf("%d samples stored; %s", q.stored, strings.Join(parts, "; "))
}

// appender sets the cluster, enforces limits and taps the samples for rollups.
// What it refuses for good it notes on the request, so that the rest is stored;
// any error that it returns takes the whole request back.
type appender struct {
	q     *request
	store storage.Appender
	newer func(ref storage.SeriesRef, l labels.Labels, t int64, v float64) (storage.SeriesRef, error)
	n     int // series seen

	last    *series        // that was looked for
	pairs   []labels.Label // of the series that is looked for; kept for its memory
	buf     []byte
	builder labels.ScratchBuilder
}

func (i *Ingester) newAppender(ctx context.Context, q *request) *appender {
	a := &appender{q: q, store: q.store.Appender(ctx), builder: labels.NewScratchBuilder(16)}
	a.newer = rollup.AppendNewest(a.store)
	return a
}

// verdict says why a series is refused; empty when it is not.
type verdict struct {
	reason string
	text   func() string
}

// series gives the stored series of the labels in a.pairs, which it reorders: of so many
// that were sent, which are refused when they are more than the limit, as many as that.
// Labels are built, and looked at closely, for a series that is not known yet only.
func (a *appender) series(sent int, revive bool) (*series, verdict, error) {
	if a.n++; a.n > a.q.i.limits.SeriesPerRequest {
		a.q.abort = tooManySeries(a.q.i.limits.SeriesPerRequest)
		return nil, verdict{}, a.q.abort
	}
	// References say a long text in a few bytes as often as they like: what is too long is
	// neither compared nor copied.
	l := &a.q.i.limits
	if sent > l.LabelsPerSeries {
		return nil, verdict{reasonLabels, func() string {
			return fmt.Sprintf("%d labels, the limit is %d: %s", sent, l.LabelsPerSeries, a.shown())
		}}, nil
	}
	for _, p := range a.pairs {
		if len(p.Name) > l.LabelNameBytes || len(p.Value) > l.LabelValueBytes {
			return nil, a.check(), nil
		}
	}
	if v := a.canonical(); v.reason != "" {
		return nil, v, nil
	}
	a.buf = a.buf[:0]
	for _, p := range a.pairs {
		a.buf = appendPair(a.buf, p.Name, p.Value)
	}
	k := a.q.i.hash.key(a.buf)
	if s := a.known(k); s != nil {
		if revive && s.is(isStale) {
			return s, a.revive(s), nil
		}
		return s, verdict{}, nil
	}
	if v := a.check(); v.reason != "" {
		return nil, v, nil
	}
	s := a.q.i.newSeries(a.q.c, a.q.now, k, a.labels())
	if why, owner := a.q.c.reserve(s, &a.q.i.limits); why != "" {
		a.q.c.origins.unused(a.q.now, s)
		return nil, a.full(why, owner, s), nil
	}
	s.placed(a.q.number)
	// The head's own copy of the labels is shared where it has the series.
	if g, ok := a.store.(storage.GetRef); ok {
		if ref, lset := g.GetRef(s.lset, s.lset.Hash()); ref != 0 {
			s.lset = lset
			s.ref.Store(uint64(ref))
		}
	}
	s, added := a.q.i.keep(a.q.c, k, s)
	if added {
		a.q.c.created.add(1)
		a.q.c.origins.created(a.q.now, s)
	}
	return s, verdict{}, nil
}

// known gives the series of a key, nil when there is none.
func (a *appender) known(k seriesKey) *series {
	if a.last != nil {
		if s := a.last.follower.Load(); s != nil && s.key == k && !s.is(isGone) {
			a.last = s
			return s
		}
	}
	s := a.q.c.find(k)
	if s != nil {
		if a.last != nil {
			a.last.follower.Store(s)
		}
		a.last = s
	}
	return s
}

// again gives the series that a row means, where the request before had it in the same
// place under the same references to the same symbols: nearly all of nearly all
// requests, for which nothing of the labels is looked at. nil otherwise.
func (a *appender) again(row uint64) *series {
	if a.last == nil {
		return nil
	}
	s := a.last.follower.Load()
	if s == nil || s.row.Load() != row || s.is(isGone) {
		return nil
	}
	a.last = s
	return s
}

// newSeries makes a series that is not kept yet.
func (i *Ingester) newSeries(c *cluster, now time.Time, k seriesKey, lset labels.Labels) *series {
	s := &series{key: k, lset: lset}
	s.seen.Store(uint32(now.Unix()))
	s.metric, s.owner = c.origins.of(now, lset.Get(labels.MetricName), lset.Get("namespace"), lset.Get("workload_type"), lset.Get("workload"))
	return s
}

// keep keeps a series that has a place, or gives the place back when somebody
// else added it first.
func (i *Ingester) keep(c *cluster, k seriesKey, s *series) (kept *series, added bool) {
	if r := i.opts.Rollups; r != nil {
		s.feed = r.Feed(c.id, s.lset)
	}
	kept, added = c.add(k, s)
	if !added {
		c.release(s)
		if s.feed != nil {
			i.opts.Rollups.Release(c.id, s.feed)
		}
	}
	return kept, added
}

// canonical brings a.pairs into the form that the series is known by: sorted,
// without the cluster's label and without empty ones.
func (a *appender) canonical() verdict {
	sorted, cluster := true, -1
	for n := range a.pairs {
		p := &a.pairs[n]
		if p.Value == "" || (n > 0 && a.pairs[n-1].Name >= p.Name) {
			sorted = false
			break
		}
		if p.Name == clusterLabel {
			cluster = n
		}
	}
	if sorted {
		if cluster >= 0 {
			a.pairs = slices.Delete(a.pairs, cluster, cluster+1)
		}
		return verdict{}
	}
	slices.SortStableFunc(a.pairs, func(x, y labels.Label) int { return strings.Compare(x.Name, y.Name) })
	for n := 1; n < len(a.pairs); n++ {
		if name := a.pairs[n].Name; name == a.pairs[n-1].Name {
			return verdict{reasonInvalid, func() string { return fmt.Sprintf("label %q is given twice: %s", clip(name, 64), a.shown()) }}
		}
	}
	a.pairs = slices.DeleteFunc(a.pairs, func(l labels.Label) bool { return l.Name == clusterLabel || l.Value == "" })
	return verdict{}
}

// labels builds what is in a.pairs, with the cluster's label.
func (a *appender) labels() labels.Labels {
	a.builder.Reset()
	for _, p := range a.pairs {
		a.builder.Add(p.Name, p.Value)
	}
	a.builder.Add(clusterLabel, a.q.c.id)
	a.builder.Sort()
	return a.builder.Labels()
}

// shown is a.pairs for people.
func (a *appender) shown() string {
	a.builder.Reset()
	for _, p := range a.pairs {
		a.builder.Add(clip(p.Name, 512), clip(p.Value, 512))
	}
	return clip(strings.ToValidUTF8(a.builder.Labels().String(), "�"), 512)
}

// revive counts a series as active again.
func (a *appender) revive(s *series) verdict {
	if why, owner := a.q.c.reserve(s, &a.q.i.limits); why != "" {
		return a.full(why, owner, s)
	}
	if !s.unmark(isStale) || s.is(isGone) && s.mark(isStale) {
		a.q.c.release(s) // somebody else did, or it was forgotten at this moment
		return verdict{}
	}
	s.placed(a.q.number)
	return verdict{}
}

// full tells which limit a new series has met.
func (a *appender) full(reason string, owner *origin, s *series) verdict {
	l := &a.q.i.limits
	return verdict{reason, func() string {
		who, limit := fmt.Sprintf("cluster %q", a.q.c.id), l.SeriesPerCluster
		if owner != nil {
			who, limit = fmt.Sprintf("%s %q of cluster %q", owner.kind, owner.name, a.q.c.id), l.SeriesPerNamespace
			if owner.kind == originWorkload {
				limit = l.SeriesPerWorkload
			}
		}
		return fmt.Sprintf("%s has the limit of %d active series already; new is %s", who, limit, clip(s.lset.String(), 512))
	}}
}

// check says whether the labels of a new series mean something and are within
// the limits.
func (a *appender) check() verdict {
	l := &a.q.i.limits
	if r := a.q.i.opts.Rollups; r != nil {
		for _, p := range a.pairs {
			if p.Name == labels.MetricName && r.Reserved(p.Value) {
				return verdict{reasonReserved, func() string { return fmt.Sprintf("%s is written by the server only", p.Value) }}
			}
		}
	}
	// The cluster's label is added to those sent.
	if n := len(a.pairs) + 1; n > l.LabelsPerSeries {
		return verdict{reasonLabels, func() string { return fmt.Sprintf("%d labels, the limit is %d: %s", n, l.LabelsPerSeries, a.shown()) }}
	}
	named := false
	for _, p := range a.pairs {
		name, v := p.Name, p.Value
		switch {
		case len(name) > l.LabelNameBytes:
			return verdict{reasonLabels, func() string {
				return fmt.Sprintf("a label name of %d bytes, the limit is %d: %s", len(name), l.LabelNameBytes, a.shown())
			}}
		case len(v) > l.LabelValueBytes:
			return verdict{reasonLabels, func() string {
				return fmt.Sprintf("label %s has %d bytes, the limit is %d: %s", clip(name, 64), len(v), l.LabelValueBytes, a.shown())
			}}
		case !model.UTF8Validation.IsValidLabelName(name), !model.LabelValue(v).IsValid():
			return verdict{reasonInvalid, func() string { return fmt.Sprintf("label %q is empty or not UTF-8: %s", clip(name, 64), a.shown()) }}
		case name == labels.MetricName:
			named = true
		}
	}
	if !named {
		return verdict{reasonInvalid, func() string { return fmt.Sprintf("no %s label: %s", labels.MetricName, a.shown()) }}
	}
	return verdict{}
}

// outside refuses a time that the server does not take.
func (q *request) outside(t int64, of func() string) verdict {
	show := func() string { return time.UnixMilli(t).UTC().Format(time.RFC3339Nano) }
	switch {
	case t > q.maxTime:
		return verdict{reasonFuture, func() string {
			return fmt.Sprintf("%s is more than %v ahead of the server's clock: %s", show(), q.i.limits.Ahead, of())
		}}
	case t < q.minTime:
		return verdict{reasonTooOld, func() string {
			return fmt.Sprintf("%s is older than the %v that are taken: %s", show(), q.behind, of())
		}}
	}
	return verdict{}
}

// outside says whether a time is one that the server does not take.
func (a *appender) outside(s *series, t int64) bool {
	if t <= a.q.maxTime && t >= a.q.minTime {
		return false
	}
	no := a.q.outside(t, func() string { return clip(s.lset.String(), 512) })
	a.q.refuse(1, no.reason, no.text)
	return true
}

// tooMany says whether the series' workload or namespace has used up its rate.
func (a *appender) tooMany(s *series) bool {
	if s.owner == nil || a.q.later() {
		return false
	}
	l := &a.q.i.limits
	why, over := rateOf(s.owner, a.q.now, l)
	if why == "" {
		return false
	}
	a.q.refuse(1, why, func() string {
		limit := l.SamplesPerNamespace
		if over.kind == originWorkload {
			limit = l.SamplesPerWorkload
		}
		return fmt.Sprintf("%s %q of cluster %q has the limit of %d samples a second, and has used it up: %s", over.kind, over.name, a.q.c.id, limit, clip(s.lset.String(), 512))
	})
	return true
}

// float takes one sample of a series that a.series gave.
func (a *appender) float(s *series, t int64, v float64) error {
	stale := value.IsStaleNaN(v)
	if !stale && s.is(isStale) {
		if no := a.revive(s); no.reason != "" {
			a.q.refuse(1, no.reason, no.text)
			return nil
		}
	}
	if a.outside(s, t) || !stale && a.tooMany(s) {
		return nil
	}
	var ref storage.SeriesRef
	var err error
	newest := s.newest.Load()
	// Of a series that begins now there is none; its backlog is late all the same.
	begins := newest == 0 && s.storeRef() == 0 && t >= a.q.now.Add(-cameLive).UnixMilli()
	if newest > 0 && t > newest || begins {
		ref, err = a.newer(s.storeRef(), s.lset, t, v)
	} else {
		ref, err = a.store.Append(s.storeRef(), s.lset, t, v)
	}
	if ok, err := a.took(s, ref, t, err, &a.q.floats); !ok {
		return err
	}
	if t > newest { // of two at once either may stay: it is no more than a hint
		s.newest.Store(t)
	}
	a.q.name(s, t)
	a.q.watch(s, t, v)
	if stale && s.mark(isStale) {
		a.q.end(s)
	}
	if s.feed == nil {
		return nil
	}
	if a.q.history {
		a.q.bypassed = max(a.q.bypassed, t)
	}
	switch sample := (rollup.Sample{Feed: s.feed, At: t, V: v}); {
	case stale || !s.feed.Sums():
		a.q.passed = append(a.q.passed, sample)
	default:
		a.q.feed = append(a.q.feed, sample)
	}
	return nil
}

// end gives the place of a series back: of one that began in the request when that is done, or
// no limit would hold a request of series that begin and end.
func (q *request) end(s *series) {
	if s.placedBy(q.number) {
		q.ended = append(q.ended, s)
		return
	}
	q.c.release(s)
}

// leave gives the places back that were kept until the request was done.
func (q *request) leave() {
	for _, s := range q.ended {
		q.c.release(s)
	}
	q.ended = nil
}

// name notes a series that was written to, for whoever looks at what changed between
// two grid points.
func (q *request) name(s *series, t int64) {
	if q.sender == "" || !q.through.IsZero() || q.history {
		return
	}
	q.newest = max(q.newest, t)
	q.between = q.between || q.interval > 0 && t%q.interval.Milliseconds() != 0
	if len(q.named) >= maxNamed || !q.between && len(q.named) >= maxOnGrid {
		q.unnamed = true
		return
	}
	q.named = append(q.named, s.lset)
}

// histogram takes one native histogram, of one of both kinds.
func (a *appender) histogram(s *series, t int64, h *histogram.Histogram, fh *histogram.FloatHistogram) error {
	if a.outside(s, t) || a.tooMany(s) {
		return nil
	}
	err := errors.Join(checkHistogram(h, fh), reduce(h, fh))
	var ref storage.SeriesRef
	if err == nil {
		ref, err = a.store.AppendHistogram(s.storeRef(), s.lset, t, h, fh)
	}
	if ok, err := a.took(s, ref, t, err, &a.q.histograms); !ok {
		return err
	}
	if s.feed != nil { // which has numbers only
		a.q.bypassed = max(a.q.bypassed, t)
	}
	return nil
}

// checkHistogram refuses what the store takes, and queries cannot bear: to add two
// histograms takes for ever where a zero bucket is NaN wide, and buckets whose indexes
// overflow have no bounds.
func checkHistogram(h *histogram.Histogram, fh *histogram.FloatHistogram) error {
	var width float64
	var sides [2][]histogram.Span
	if h != nil {
		width, sides = h.ZeroThreshold, [2][]histogram.Span{h.PositiveSpans, h.NegativeSpans}
	} else {
		width, sides = fh.ZeroThreshold, [2][]histogram.Span{fh.PositiveSpans, fh.NegativeSpans}
	}
	if !(width >= 0) || math.IsInf(width, 1) {
		return fmt.Errorf("the zero bucket is %v wide, it must be a number from 0 on: %w", width, tsdb.ErrInvalidSample)
	}
	for _, spans := range sides {
		index := int64(0)
		for _, s := range spans {
			if index += int64(s.Offset) + int64(s.Length); index > math.MaxInt32 {
				return fmt.Errorf("spans reach to bucket %d, the last one is %d: %w", index, math.MaxInt32, tsdb.ErrInvalidSample)
			}
		}
	}
	return nil
}

// reduce brings a histogram of a finer resolution than the store knows down to
// what it knows.
func reduce(h *histogram.Histogram, fh *histogram.FloatHistogram) error {
	if h != nil && histogram.IsExponentialSchemaReserved(h.Schema) && h.Schema > histogram.ExponentialSchemaMax {
		return h.ReduceResolution(histogram.ExponentialSchemaMax)
	}
	if fh != nil && histogram.IsExponentialSchemaReserved(fh.Schema) && fh.Schema > histogram.ExponentialSchemaMax {
		return fh.ReduceResolution(histogram.ExponentialSchemaMax)
	}
	return nil
}

// exemplar takes an exemplar. One that is refused is counted, and the sender is
// not bothered.
func (a *appender) exemplar(s *series, e exemplar.Exemplar) {
	if e.Ts > a.q.maxTime {
		a.q.c.refused[reasonExemplar].add(1)
		return
	}
	if _, err := a.store.AppendExemplar(s.storeRef(), s.lset, e); err != nil {
		a.q.c.refused[reasonExemplar].add(1)
		return
	}
	a.q.exemplars++
}

// took notes what the store said: ok when the sample is in, an error when the
// request cannot go on. written is where samples of its kind are counted.
func (a *appender) took(s *series, ref storage.SeriesRef, t int64, err error, written *int) (ok bool, _ error) {
	switch {
	case err == nil:
		a.q.stored++
		*written++
		s.ref.Store(uint64(ref))
		s.seen.Store(uint32(a.q.now.Unix()))
		return true, nil
	case errors.Is(err, storage.ErrDuplicateSampleForTimestamp):
		a.conflict(s, t, written)
		return false, nil
	case errors.Is(err, storage.ErrTooOldSample), errors.Is(err, storage.ErrOutOfBounds), errors.Is(err, storage.ErrOutOfOrderSample):
		a.q.refuse(1, reasonTooOld, func() string {
			return fmt.Sprintf("%s is older than the store takes: %s", time.UnixMilli(t).UTC().Format(time.RFC3339Nano), clip(s.lset.String(), 512))
		})
		return false, nil
	case errors.Is(err, tsdb.ErrInvalidSample), isHistogramError(err):
		a.q.refuse(1, reasonInvalid, func() string { return clip(err.Error(), 512) + ": " + clip(s.lset.String(), 512) })
		return false, nil
	}
	a.q.failed = fmt.Errorf("append samples: %w", err)
	return false, a.q.failed
}

// conflict takes a second value for a time of a series: the first one stays. To refuse it would
// make the sender send it for ever.
func (a *appender) conflict(s *series, t int64, written *int) {
	*written++
	a.q.c.refused[reasonConflict].add(1)
	a.q.conflict(s, t)
}

func isHistogramError(err error) bool {
	var h histogram.Error
	return errors.As(err, &h)
}

// commit writes the request to the log, the sender's word that it is complete
// included. Whatever it gives, the store's appender is done with.
func (a *appender) commit() error {
	if err := a.words(); err != nil {
		return errors.Join(err, a.store.Rollback())
	}
	if a.q.clockAhead != 0 && !a.q.through.IsZero() {
		// The collector's own series of that name has a sample wherever it knew.
		flag := labels.FromStrings(labels.MetricName, clockOffset, clusterLabel, a.q.c.id, rollup.SenderLabel, a.q.sender)
		for _, at := range append(a.q.earlier, a.q.through) {
			if _, err := a.store.Append(0, flag, at.UnixMilli(), a.q.clockAhead.Seconds()); err != nil {
				a.q.c.refused[reasonConflict].add(1) // it says so itself
			}
		}
	}
	if err := a.store.Commit(); err != nil {
		a.q.failed = err
		a.q.doubt()
		return err
	}
	a.q.committed = true
	return nil
}

// doubt leaves the request's samples to the store, which may have some of them after a commit
// that failed: that goes in parts, and waits for the disk when they can be read already.
func (q *request) doubt() {
	upTo := q.bypassed
	for _, samples := range [][]rollup.Sample{q.feed, q.passed} {
		for i := range samples {
			upTo = max(upTo, samples[i].At)
		}
	}
	if q.i.opts.Rollups != nil && upTo > 0 {
		q.i.opts.Rollups.Bypassed(q.c.id, upTo)
	}
}

// words writes the sender's word for each point that the request completes. Of what is
// too old to be stored it says nothing.
func (a *appender) words() error {
	all := a.q.earlier
	if !a.q.through.IsZero() {
		all = append(all, a.q.through)
	}
	if len(all) == 0 {
		return nil
	}
	a.q.earlier, a.q.through = nil, time.Time{}
	word := labels.FromStrings(labels.MetricName, rollup.SenderInterval, clusterLabel, a.q.c.id, rollup.SenderLabel, a.q.sender)
	var ref storage.SeriesRef
	for n, at := range all {
		// The store's newest sample is a little behind the clock, and with it what the
		// store takes: it may take the word where all that it speaks of was refused.
		if at.UnixMilli() < a.q.minTime {
			continue
		}
		given, err := a.store.Append(ref, word, at.UnixMilli(), a.q.interval.Seconds())
		switch {
		case err == nil:
			ref = given
		case errors.Is(err, storage.ErrDuplicateSampleForTimestamp):
		case errors.Is(err, storage.ErrTooOldSample), errors.Is(err, storage.ErrOutOfBounds):
			continue // so is all that it speaks of
		default:
			a.q.failed = fmt.Errorf("append samples: %w", err)
			return a.q.failed
		}
		if n == len(all)-1 {
			a.q.through = at
		} else {
			a.q.earlier = append(a.q.earlier, at)
		}
	}
	return nil
}

// rollback takes everything back.
func (a *appender) rollback() error { return a.store.Rollback() }
