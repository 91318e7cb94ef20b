package history

import (
	"context"
	"fmt"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
)

type sample struct {
	lset labels.Labels
	at   int64
	v    float64
}

func (s sample) start() int64 { return s.at - s.at%blockRange.Milliseconds() }

// appender gathers the samples of one request, all of one cluster.
type appender struct {
	s       *Store
	samples []sample
}

// Appender begins a write. All samples of it must be of one cluster. The
// references that it gives are those that it was given.
func (s *Store) Appender(context.Context) storage.Appender { return &appender{s: s} }

func (a *appender) Append(ref storage.SeriesRef, lset labels.Labels, t int64, v float64) (storage.SeriesRef, error) {
	a.samples = append(a.samples, sample{lset, t, v})
	return ref, nil
}

func (a *appender) Commit() error {
	if len(a.samples) == 0 {
		return nil
	}
	id := a.samples[0].lset.Get(clusterLabel)
	n := len(a.samples)
	if err := a.s.write(id, a.samples); err != nil {
		return fmt.Errorf("log history of cluster %s: %w", id, err)
	}
	a.s.metrics.samples.Add(float64(n))
	return nil
}

func (a *appender) Rollback() error { a.samples = nil; return nil }

// Collectors send native histograms as their classic buckets.
func (a *appender) AppendHistogram(storage.SeriesRef, labels.Labels, int64, *histogram.Histogram, *histogram.FloatHistogram) (storage.SeriesRef, error) {
	return 0, fmt.Errorf("native histograms are not taken by the import way: %w", tsdb.ErrInvalidSample)
}

func (a *appender) AppendExemplar(storage.SeriesRef, labels.Labels, exemplar.Exemplar) (storage.SeriesRef, error) {
	return 0, storage.ErrOutOfOrderExemplar
}

func (a *appender) AppendSTZeroSample(storage.SeriesRef, labels.Labels, int64, int64) (storage.SeriesRef, error) {
	return 0, storage.ErrOutOfOrderST
}

func (a *appender) AppendHistogramSTZeroSample(storage.SeriesRef, labels.Labels, int64, int64, *histogram.Histogram, *histogram.FloatHistogram) (storage.SeriesRef, error) {
	return 0, storage.ErrOutOfOrderST
}

func (a *appender) UpdateMetadata(ref storage.SeriesRef, _ labels.Labels, _ metadata.Metadata) (storage.SeriesRef, error) {
	return ref, nil
}

func (a *appender) SetOptions(*storage.AppendOptions) {}

var _ storage.Appender = (*appender)(nil)
