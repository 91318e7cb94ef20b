package remote

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/gogo/protobuf/proto"
	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/storage"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// seriesPerWrite bounds one request; engines refuse those that are very long.
const seriesPerWrite = 10_000

// Appender begins a write. Nothing is sent before Commit, so duplicates and what
// is too old are found out by the engine then, and cannot be told one by one.
func (s *Store) Appender(ctx context.Context) storage.Appender {
	return &appender{batch: batch{s: s, ctx: ctx}}
}

// AppenderV2 is Appender by Prometheus' newer interface.
func (s *Store) AppenderV2(ctx context.Context) storage.AppenderV2 {
	return &appenderV2{batch: batch{s: s, ctx: ctx}}
}

// batch is what an appender has collected.
type batch struct {
	s    *Store
	ctx  context.Context // of the request that the appender lives for
	list []prompb.TimeSeries
	sets []labels.Labels // of each of list
	n    int             // samples and histograms
	past bool            // nobody waits for it: it is not held until the engine shows it

	refused Refused // of all that was committed
}

// series gives the last series, or a new one where the labels are others.
func (b *batch) series(l labels.Labels) *prompb.TimeSeries {
	if n := len(b.sets); n > 0 && labels.Equal(b.sets[n-1], l) {
		return &b.list[n-1]
	}
	b.sets = append(b.sets, l)
	b.list = append(b.list, prompb.TimeSeries{Labels: prompb.FromLabels(l, nil)})
	return &b.list[len(b.list)-1]
}

func (b *batch) float(l labels.Labels, t int64, v float64) {
	ts := b.series(l)
	ts.Samples = append(ts.Samples, prompb.Sample{Timestamp: t, Value: v})
	b.n++
}

func (b *batch) histogram(l labels.Labels, t int64, h *histogram.Histogram, fh *histogram.FloatHistogram) {
	ts := b.series(l)
	if h != nil {
		ts.Histograms = append(ts.Histograms, prompb.FromIntHistogram(t, h))
	} else {
		ts.Histograms = append(ts.Histograms, prompb.FromFloatHistogram(t, fh))
	}
	b.n++
}

func (b *batch) exemplar(l labels.Labels, e exemplar.Exemplar) {
	ts := b.series(l)
	ts.Exemplars = append(ts.Exemplars, prompb.Exemplar{Labels: prompb.FromLabels(e.Labels, nil), Value: e.Value, Timestamp: e.Ts})
}

// Commit sends what was collected. It gives a fault.ErrUnavailable when the
// engine did not take it and may later: the whole is to be sent again then, which
// an engine takes as what it has already. What the engine refuses for good is
// counted and logged.
func (b *batch) Commit() error {
	for from := 0; from < len(b.list); from += seriesPerWrite {
		to := min(from+seriesPerWrite, len(b.list))
		refused, err := b.s.write(b.ctx, b.list[from:to])
		if err != nil {
			return err
		}
		b.refused.OfTotal++
		if refused != nil {
			b.refused.Requests++
			b.refused.Why = cmp.Or(b.refused.Why, refused)
		}
	}
	if !b.past {
		b.s.recent.add(b.s.opts.Now(), b.sets, b.list)
		b.s.metrics.settling.Set(float64(b.s.recent.size()))
	}
	return b.Rollback()
}

// Rollback forgets what was collected.
func (b *batch) Rollback() error {
	b.list, b.sets, b.n = nil, nil, 0
	return nil
}

// write sends one request. refused is why the engine took a part of it, or all, for good not.
func (s *Store) write(ctx context.Context, list []prompb.TimeSeries) (refused, err error) {
	samples := 0
	for i := range list {
		samples += len(list[i].Samples) + len(list[i].Histograms)
	}
	raw, err := proto.Marshal(&prompb.WriteRequest{Timeseries: list})
	if err != nil {
		return nil, fmt.Errorf("write to the remote engine: %w", err)
	}
	began := s.opts.Now()
	refused, err = s.post(ctx, snappy.Encode(nil, raw))
	s.metrics.writeSeconds.Observe(s.opts.Now().Sub(began).Seconds())
	result := resultOK
	switch {
	case err != nil:
		result = resultUnavailable
	case refused != nil:
		result = resultRefused
		s.opts.Logger.Warn("the remote engine refused samples; the rest of the request is kept", "samples_in_request", samples, "err", refused)
	}
	s.metrics.writes.WithLabelValues(result).Inc()
	s.metrics.samples.WithLabelValues(result).Add(float64(samples))
	if ctx.Err() == nil {
		s.wrote(err)
	}
	return refused, err
}

// post tells what the engine refused for good apart from what may succeed later.
func (s *Store) post(ctx context.Context, body []byte) (refused, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.opts.WriteURL, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("write to the remote engine: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	req.Header.Set("User-Agent", "crowsnest")
	res, err := s.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("write to the remote engine: %w: %w", fault.ErrUnavailable, err)
	}
	text, rerr := io.ReadAll(io.LimitReader(res.Body, 1024))
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<20)) // so that the connection can be used again
	_ = res.Body.Close()
	if res.StatusCode/100 == 2 {
		return nil, nil
	}
	err = errors.Join(fmt.Errorf("%s: %s", res.Status, bytes.TrimSpace(text)), rerr)
	switch res.StatusCode {
	case http.StatusBadRequest, http.StatusConflict, http.StatusUnprocessableEntity:
		// Duplicates, too old, too new, invalid: Prometheus and Thanos keep the rest.
		return err, nil
	}
	return nil, fmt.Errorf("write to the remote engine: %w: %w", fault.ErrUnavailable, err)
}

// appender is a batch by Prometheus' older interface.
type appender struct{ batch }

var _ storage.Appender = (*appender)(nil)

func (a *appender) SetOptions(*storage.AppendOptions) {}

func (a *appender) Append(ref storage.SeriesRef, l labels.Labels, t int64, v float64) (storage.SeriesRef, error) {
	a.float(l, t, v)
	return ref, nil
}

func (a *appender) AppendHistogram(ref storage.SeriesRef, l labels.Labels, t int64, h *histogram.Histogram, fh *histogram.FloatHistogram) (storage.SeriesRef, error) {
	a.histogram(l, t, h, fh)
	return ref, nil
}

func (a *appender) AppendExemplar(ref storage.SeriesRef, l labels.Labels, e exemplar.Exemplar) (storage.SeriesRef, error) {
	a.exemplar(l, e)
	return ref, nil
}

// Remote write 1.0 has no place for the rest.

func (a *appender) AppendHistogramSTZeroSample(ref storage.SeriesRef, _ labels.Labels, _, _ int64, _ *histogram.Histogram, _ *histogram.FloatHistogram) (storage.SeriesRef, error) {
	return ref, nil
}

func (a *appender) UpdateMetadata(ref storage.SeriesRef, _ labels.Labels, _ metadata.Metadata) (storage.SeriesRef, error) {
	return ref, nil
}

func (a *appender) AppendSTZeroSample(ref storage.SeriesRef, _ labels.Labels, _, _ int64) (storage.SeriesRef, error) {
	return ref, nil
}

// appenderV2 is a batch by the newer interface.
type appenderV2 struct{ batch }

var _ storage.AppenderV2 = (*appenderV2)(nil)

func (a *appenderV2) Append(ref storage.SeriesRef, l labels.Labels, _, t int64, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, o storage.AOptions) (storage.SeriesRef, error) {
	if h != nil || fh != nil {
		a.histogram(l, t, h, fh)
	} else {
		a.float(l, t, v)
	}
	for _, e := range o.Exemplars {
		a.exemplar(l, e)
	}
	return ref, nil
}
