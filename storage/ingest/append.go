package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/rollup"
)

const clusterLabel = "cluster"

type requestKey struct{}

// request is the state of one write while Prometheus' handler works on it.
type request struct {
	about
	i       *Ingester
	c       *cluster
	now     time.Time
	maxTime int64 // Unix milliseconds

	committed bool
	abort     error // the whole request is refused
	failed    error // the store did not take it

	stored, floats, histograms, exemplars int
	feed                                  []rollup.Sample
	refused                               []refusal
}

// refusal counts what was refused for one reason.
type refusal struct {
	reason string
	n      int
	first  string // the first offender, and the limit
}

func (q *request) refuse(reason string, what func() string) {
	q.c.refused[reason].Add(1)
	for n := range q.refused {
		if q.refused[n].reason == reason {
			q.refused[n].n++
			return
		}
	}
	q.refused = append(q.refused, refusal{reason, 1, what()})
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

// Appender is for Prometheus' write handler: each request brings its state in
// the context.
func (i *Ingester) Appender(ctx context.Context) storage.Appender {
	q, ok := ctx.Value(requestKey{}).(*request)
	if !ok {
		panic("BUG: a write that did not come through ServeWrite")
	}
	return &appender{q: q, store: i.opts.Store.Appender(ctx)}
}

// appender sets the cluster, enforces limits and taps the samples for rollups.
// What it refuses for good it swallows and notes on the request, so that the
// rest is stored in both versions of the protocol; any error that it returns
// takes the whole request back.
type appender struct {
	q     *request
	store storage.Appender
	n     int // series seen

	// The series that the last call was about: the handler calls once for each
	// sample of it.
	lastIn   labels.Labels
	last     *series // nil when it was refused
	lastWhy  string  // the reason then
	lastText func() string
	buf      []byte
	builder  *labels.Builder
}

var _ storage.Appender = (*appender)(nil)

// series gives the stored series of labels as sent; nil when it is refused.
func (a *appender) series(in labels.Labels, revive bool) (*series, error) {
	if a.n > 0 && labels.Equal(in, a.lastIn) {
		if a.last != nil && revive && a.last.stale.Load() {
			return a.revive(a.last)
		}
		return a.last, nil
	}
	if a.n++; a.n > a.q.i.limits.SeriesPerRequest {
		a.q.abort = fmt.Errorf("the request has more than the limit of %d series: %w", a.q.i.limits.SeriesPerRequest, fault.ErrTooLarge)
		return nil, a.q.abort
	}
	a.lastIn, a.last, a.lastWhy, a.lastText = in, nil, "", nil
	var k seriesKey
	k, a.buf = a.q.i.hash.key(in, a.buf)
	if s := a.q.c.find(k); s != nil {
		a.last = s
		if revive && s.stale.Load() {
			return a.revive(s)
		}
		return s, nil
	}
	if why, text := a.check(in); why != "" {
		a.lastWhy, a.lastText = why, text
		return nil, nil
	}
	if !a.q.c.reserve(int64(a.q.i.limits.SeriesPerCluster)) {
		a.full(in)
		return nil, nil
	}
	if a.builder == nil {
		a.builder = labels.NewBuilder(labels.EmptyLabels())
	}
	a.builder.Reset(in)
	a.builder.Set(clusterLabel, a.q.c.id)
	s := &series{lset: a.builder.Labels()}
	s.seen.Store(a.q.now.Unix())
	// The head's own copy of the labels is shared where it has the series.
	if g, ok := a.store.(storage.GetRef); ok {
		if ref, lset := g.GetRef(s.lset, s.lset.Hash()); ref != 0 {
			s.lset = lset
			s.ref.Store(uint64(ref))
		}
	}
	if r := a.q.i.opts.Rollups; r != nil {
		s.feed = r.Feed(a.q.c.id, s.lset)
	}
	kept, added := a.q.c.add(k, s)
	if !added {
		a.q.c.active.Add(-1)
		if s.feed != nil {
			a.q.i.opts.Rollups.Release(a.q.c.id, s.feed)
		}
	}
	a.last = kept
	return kept, nil
}

// revive counts a series as active again.
func (a *appender) revive(s *series) (*series, error) {
	if !a.q.c.reserve(int64(a.q.i.limits.SeriesPerCluster)) {
		a.last = nil
		a.full(s.lset)
		return nil, nil
	}
	if !s.stale.CompareAndSwap(true, false) {
		a.q.c.active.Add(-1) // somebody else did
	}
	return s, nil
}

func (a *appender) full(in labels.Labels) {
	a.lastWhy, a.lastText = reasonSeriesLimit, func() string {
		return fmt.Sprintf("cluster %q has the limit of %d active series already; new is %s", a.q.c.id, a.q.i.limits.SeriesPerCluster, clip(in.String(), 512))
	}
}

// check says whether labels are within the limits.
func (a *appender) check(in labels.Labels) (reason string, text func() string) {
	l := &a.q.i.limits
	if r := a.q.i.opts.Rollups; r != nil && r.Reserved(in.Get(labels.MetricName)) {
		return reasonReserved, func() string {
			return fmt.Sprintf("%s is written by the server only", in.Get(labels.MetricName))
		}
	}
	if n := in.Len(); n > l.LabelsPerSeries {
		return reasonLabels, func() string {
			return fmt.Sprintf("%d labels, the limit is %d: %s", n, l.LabelsPerSeries, clip(in.String(), 512))
		}
	}
	in.Range(func(lb labels.Label) {
		if reason != "" {
			return
		}
		if len(lb.Name) > l.LabelNameBytes {
			reason, text = reasonLabels, func() string {
				return fmt.Sprintf("a label name of %d bytes, the limit is %d: %s", len(lb.Name), l.LabelNameBytes, clip(lb.Name, 512))
			}
		} else if len(lb.Value) > l.LabelValueBytes {
			reason, text = reasonLabels, func() string {
				return fmt.Sprintf("label %s has %d bytes, the limit is %d: %s", lb.Name, len(lb.Value), l.LabelValueBytes, clip(lb.Value, 512))
			}
		}
	})
	return reason, text
}

// refusedSeries notes a sample of a series that is refused.
func (a *appender) refusedSeries() { a.q.refuse(a.lastWhy, a.lastText) }

func (a *appender) future(s *series, t int64) {
	a.q.refuse(reasonFuture, func() string {
		return fmt.Sprintf("%s is more than %v ahead of the server's clock: %s", time.UnixMilli(t).UTC().Format(time.RFC3339Nano), a.q.i.limits.Ahead, clip(s.lset.String(), 512))
	})
}

// Append takes one sample.
func (a *appender) Append(_ storage.SeriesRef, in labels.Labels, t int64, v float64) (storage.SeriesRef, error) {
	stale := value.IsStaleNaN(v)
	s, err := a.series(in, !stale)
	if err != nil {
		return 0, err
	}
	if s == nil {
		a.refusedSeries()
		return 0, nil
	}
	if t > a.q.maxTime {
		a.future(s, t)
		return 0, nil
	}
	ref, err := a.store.Append(s.storeRef(), s.lset, t, v)
	if ok, err := a.took(s, ref, t, err); !ok {
		return 0, err
	}
	a.q.floats++
	a.q.stored++
	switch {
	case stale:
		if s.stale.CompareAndSwap(false, true) {
			a.q.c.active.Add(-1)
		}
	case s.feed != nil && a.q.interval > 0:
		a.q.feed = append(a.q.feed, rollup.Sample{Feed: s.feed, At: t, V: v})
	}
	return ref, nil
}

// took notes what the store said: ok when the sample is in, an error when the
// request cannot go on.
func (a *appender) took(s *series, ref storage.SeriesRef, t int64, err error) (ok bool, _ error) {
	switch {
	case err == nil:
		s.ref.Store(uint64(ref))
		s.seen.Store(a.q.now.Unix())
		return true, nil
	case errors.Is(err, storage.ErrDuplicateSampleForTimestamp):
		// The first one stays. To refuse it would make the sender send it for ever.
		a.q.c.refused[reasonConflict].Add(1)
		return false, nil
	case errors.Is(err, storage.ErrTooOldSample), errors.Is(err, storage.ErrOutOfBounds), errors.Is(err, storage.ErrOutOfOrderSample):
		a.q.refuse(reasonTooOld, func() string {
			return fmt.Sprintf("%s is older than the store takes: %s", time.UnixMilli(t).UTC().Format(time.RFC3339Nano), clip(s.lset.String(), 512))
		})
		return false, nil
	case errors.Is(err, tsdb.ErrInvalidSample), isHistogramError(err):
		a.q.refuse(reasonInvalid, func() string { return clip(err.Error(), 512) + ": " + clip(s.lset.String(), 512) })
		return false, nil
	}
	a.q.failed = fmt.Errorf("append samples: %w", err)
	return false, a.q.failed
}

func isHistogramError(err error) bool {
	var h histogram.Error
	return errors.As(err, &h)
}

// AppendHistogram takes one native histogram.
func (a *appender) AppendHistogram(_ storage.SeriesRef, in labels.Labels, t int64, h *histogram.Histogram, fh *histogram.FloatHistogram) (storage.SeriesRef, error) {
	s, err := a.series(in, true)
	if err != nil {
		return 0, err
	}
	if s == nil {
		a.refusedSeries()
		return 0, nil
	}
	if t > a.q.maxTime {
		a.future(s, t)
		return 0, nil
	}
	ref, err := a.store.AppendHistogram(s.storeRef(), s.lset, t, h, fh)
	if ok, err := a.took(s, ref, t, err); !ok {
		return 0, err
	}
	a.q.histograms++
	a.q.stored++
	return ref, nil
}

// AppendExemplar takes an exemplar of a series. One that is refused is counted,
// and the sender is not bothered.
func (a *appender) AppendExemplar(_ storage.SeriesRef, in labels.Labels, e exemplar.Exemplar) (storage.SeriesRef, error) {
	s, err := a.series(in, false)
	if err != nil {
		return 0, err
	}
	if s == nil || e.Ts > a.q.maxTime {
		a.q.c.refused[reasonExemplar].Add(1)
		return 0, nil
	}
	ref, err := a.store.AppendExemplar(s.storeRef(), s.lset, e)
	if err != nil {
		a.q.c.refused[reasonExemplar].Add(1)
		return 0, nil
	}
	a.q.exemplars++
	return ref, nil
}

// Commit writes the request to the log, the sender's word that it is complete
// included.
func (a *appender) Commit() error {
	if !a.q.through.IsZero() {
		word := labels.FromStrings(labels.MetricName, rollup.SenderInterval, clusterLabel, a.q.c.id, rollup.SenderLabel, a.q.sender)
		_, err := a.store.Append(0, word, a.q.through.UnixMilli(), a.q.interval.Seconds())
		switch {
		case err == nil, errors.Is(err, storage.ErrDuplicateSampleForTimestamp):
		case errors.Is(err, storage.ErrTooOldSample), errors.Is(err, storage.ErrOutOfBounds):
			a.q.through = time.Time{} // so is all that it speaks of
		default:
			a.q.failed = fmt.Errorf("append samples: %w", err)
			return errors.Join(a.q.failed, a.store.Rollback())
		}
	}
	if err := a.store.Commit(); err != nil {
		a.q.failed = err
		return err
	}
	a.q.committed = true
	return nil
}

// Rollback takes everything back.
func (a *appender) Rollback() error { return a.store.Rollback() }

// SetOptions is passed on.
func (a *appender) SetOptions(opts *storage.AppendOptions) { a.store.SetOptions(opts) }

// The handler is told not to use what follows.

// AppendSTZeroSample does nothing.
func (a *appender) AppendSTZeroSample(ref storage.SeriesRef, _ labels.Labels, _, _ int64) (storage.SeriesRef, error) {
	return ref, nil
}

// AppendHistogramSTZeroSample does nothing.
func (a *appender) AppendHistogramSTZeroSample(ref storage.SeriesRef, _ labels.Labels, _, _ int64, _ *histogram.Histogram, _ *histogram.FloatHistogram) (storage.SeriesRef, error) {
	return ref, nil
}

// UpdateMetadata does nothing.
func (a *appender) UpdateMetadata(ref storage.SeriesRef, _ labels.Labels, _ metadata.Metadata) (storage.SeriesRef, error) {
	return ref, nil
}
