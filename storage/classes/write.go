package classes

import (
	"context"
	"errors"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"
)

// A reference is the store's own with the class in its lowest bits.
const (
	classBits = 3
	classMask = 1<<classBits - 1
)

// Appender begins a write, which may be of several classes. Their commits follow
// each other: when one fails, those before it are kept, and the sender sends all
// again, of which nothing is stored twice.
func (s *Store) Appender(ctx context.Context) storage.Appender {
	return &appender{s: s, ctx: ctx}
}

type appender struct {
	s    *Store
	ctx  context.Context // of this write only
	opts *storage.AppendOptions
	in   [2 + MaxNamed]storage.Appender // by class; nil while nothing is of it
}

var (
	_ storage.Appender = (*appender)(nil)
	_ storage.GetRef   = (*appender)(nil)
)

// to gives the class's appender and its own reference.
func (a *appender) to(ref storage.SeriesRef, lset labels.Labels) (app storage.Appender, own storage.SeriesRef, class int, err error) {
	if ref != 0 {
		class = int(ref & classMask)
	} else {
		class = a.s.of(lset)
	}
	if app := a.in[class]; app != nil {
		return app, ref >> classBits, class, nil
	}
	db, err := a.s.classes[class].open()
	if err != nil {
		return nil, 0, class, err
	}
	app = db.Appender(a.ctx)
	if a.opts != nil {
		app.SetOptions(a.opts)
	}
	a.in[class] = app
	return app, ref >> classBits, class, nil
}

// joint gives a store's reference its class; none stays none.
func joint(ref storage.SeriesRef, class int) storage.SeriesRef {
	if ref == 0 {
		return 0
	}
	return ref<<classBits | storage.SeriesRef(class)
}

func (a *appender) Append(ref storage.SeriesRef, l labels.Labels, t int64, v float64) (storage.SeriesRef, error) {
	app, own, class, err := a.to(ref, l)
	if err != nil {
		return 0, err
	}
	own, err = app.Append(own, l, t, v)
	return joint(own, class), err
}

// AppendNewest is Append of a sample of which the caller believes that its series has none as
// new.
func (a *appender) AppendNewest(ref storage.SeriesRef, l labels.Labels, t int64, v float64) (storage.SeriesRef, error) {
	app, own, class, err := a.to(ref, l)
	if err != nil {
		return 0, err
	}
	if to, ok := app.(newestAppender); ok {
		own, err = to.AppendNewest(own, l, t, v)
	} else {
		own, err = app.Append(own, l, t, v)
	}
	return joint(own, class), err
}

type newestAppender interface {
	AppendNewest(ref storage.SeriesRef, l labels.Labels, t int64, v float64) (storage.SeriesRef, error)
}

func (a *appender) AppendExemplar(ref storage.SeriesRef, l labels.Labels, e exemplar.Exemplar) (storage.SeriesRef, error) {
	app, own, class, err := a.to(ref, l)
	if err != nil {
		return 0, err
	}
	own, err = app.AppendExemplar(own, l, e)
	return joint(own, class), err
}

func (a *appender) AppendHistogram(ref storage.SeriesRef, l labels.Labels, t int64, h *histogram.Histogram, fh *histogram.FloatHistogram) (storage.SeriesRef, error) {
	app, own, class, err := a.to(ref, l)
	if err != nil {
		return 0, err
	}
	own, err = app.AppendHistogram(own, l, t, h, fh)
	return joint(own, class), err
}

func (a *appender) AppendHistogramSTZeroSample(ref storage.SeriesRef, l labels.Labels, t, st int64, h *histogram.Histogram, fh *histogram.FloatHistogram) (storage.SeriesRef, error) {
	app, own, class, err := a.to(ref, l)
	if err != nil {
		return 0, err
	}
	own, err = app.AppendHistogramSTZeroSample(own, l, t, st, h, fh)
	return joint(own, class), err
}

func (a *appender) AppendSTZeroSample(ref storage.SeriesRef, l labels.Labels, t, st int64) (storage.SeriesRef, error) {
	app, own, class, err := a.to(ref, l)
	if err != nil {
		return 0, err
	}
	own, err = app.AppendSTZeroSample(own, l, t, st)
	return joint(own, class), err
}

func (a *appender) UpdateMetadata(ref storage.SeriesRef, l labels.Labels, m metadata.Metadata) (storage.SeriesRef, error) {
	app, own, class, err := a.to(ref, l)
	if err != nil {
		return 0, err
	}
	own, err = app.UpdateMetadata(own, l, m)
	return joint(own, class), err
}

func (a *appender) SetOptions(o *storage.AppendOptions) {
	a.opts = o
	for _, app := range a.in {
		if app != nil {
			app.SetOptions(o)
		}
	}
}

// GetRef opens no store: what is not open has no series.
func (a *appender) GetRef(lset labels.Labels, hash uint64) (storage.SeriesRef, labels.Labels) {
	class := a.s.of(lset)
	if a.in[class] == nil && a.s.classes[class].db.Load() == nil {
		return 0, labels.EmptyLabels()
	}
	app, _, _, err := a.to(0, lset)
	if err != nil {
		return 0, labels.EmptyLabels()
	}
	own, found := app.(storage.GetRef).GetRef(lset, hash)
	return joint(own, class), found
}

func (a *appender) Commit() error   { return commit(a.all()) }
func (a *appender) Rollback() error { return rollback(a.all()) }

// all gives the appenders, which are then done with.
func (a *appender) all() (out []storage.AppenderTransaction) {
	for class, app := range a.in {
		if app != nil {
			out = append(out, app)
			a.in[class] = nil
		}
	}
	return out
}

// commit takes back what follows one that fails.
func commit(all []storage.AppenderTransaction) error {
	for n, app := range all {
		if err := app.Commit(); err != nil {
			return errors.Join(err, rollback(all[n+1:]))
		}
	}
	return nil
}

func rollback(all []storage.AppenderTransaction) error {
	var errs []error
	for _, app := range all {
		errs = append(errs, app.Rollback())
	}
	return errors.Join(errs...)
}

// AppenderV2 is Appender by Prometheus' newer interface.
func (s *Store) AppenderV2(ctx context.Context) storage.AppenderV2 {
	return &appenderV2{s: s, ctx: ctx}
}

type appenderV2 struct {
	s   *Store
	ctx context.Context // of this write only
	in  [2 + MaxNamed]storage.AppenderV2
}

func (a *appenderV2) Append(ref storage.SeriesRef, l labels.Labels, st, t int64, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, o storage.AppendV2Options) (storage.SeriesRef, error) {
	class := int(ref & classMask)
	if ref == 0 {
		class = a.s.of(l)
	}
	if a.in[class] == nil {
		db, err := a.s.classes[class].open()
		if err != nil {
			return 0, err
		}
		a.in[class] = db.AppenderV2(a.ctx)
	}
	own, err := a.in[class].Append(ref>>classBits, l, st, t, v, h, fh, o)
	return joint(own, class), err
}

func (a *appenderV2) Commit() error   { return commit(a.all()) }
func (a *appenderV2) Rollback() error { return rollback(a.all()) }

// all gives the appenders, which are then done with.
func (a *appenderV2) all() (out []storage.AppenderTransaction) {
	for class, app := range a.in {
		if app != nil {
			out = append(out, app)
			a.in[class] = nil
		}
	}
	return out
}
