package custom

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/storage/rollup"
)

// Intervals of the past come in thousands when a site is back. An expression is
// evaluated over a range of them: it finds and reads its series once then, and not
// once for each interval, which took a third of the server's time.

const (
	// maxAtOnce intervals of the past are evaluated together at most; fewer when
	// these took too long or too much.
	maxAtOnce = 120
	// pastEvery is how long those of the past gather when they are not as many: what
	// it takes to find and read the series is the same for five as for fifty, of which
	// a site of 100 nodes brings a hundred in that time.
	pastEvery = 30 * time.Second
	// crowded is how many wait, of whatever clusters, that none gathers any longer.
	crowded = 256
	// maxStep is the longest interval of a collector.
	maxStep = time.Minute
	// samplesAtOnce are committed together.
	samplesAtOnce = 20_000
)

// following takes the first interval and those that follow it at equal distances in
// its cluster, at most n.
func following(waiting []rollup.Written, n int) (next, rest []rollup.Written) {
	next = append(next, waiting[0])
	for _, w := range waiting[1:] {
		last := next[len(next)-1]
		step := w.At.Sub(last.At)
		if len(next) < n && w.Cluster == last.Cluster && step > 0 && step <= maxStep && (len(next) == 1 || step == stepOf(next)) {
			next = append(next, w)
		} else {
			rest = append(rest, w)
		}
	}
	return next, rest
}

func stepOf(next []rollup.Written) time.Duration { return next[1].At.Sub(next[0].At) }

// run evaluates all metrics of a cluster at times that follow one another. What takes
// more than the budget waits again, to be evaluated in smaller parts, so that live
// intervals are not held up.
func (m *Metrics) run(ctx context.Context, next []rollup.Written, all []evaluated) {
	began := m.opts.Now()
	if !m.within(ctx, next, all) {
		m.atOnce = len(next) / 2
		m.mu.Lock()
		m.waiting = append(next, m.waiting...)
		m.mu.Unlock()
		return
	}
	// Twice as many take less than twice as long: most of it is to find the series.
	more := 1
	if m.opts.Now().Sub(began) < m.opts.budget/2 {
		more = len(next)
	}
	m.atOnce = min(maxAtOnce, max(m.atOnce, len(next)+more))
	for _, w := range next {
		m.opts.Next(w)
	}
}

// alone evaluates all metrics of a cluster at a time that none follows, or where two
// were too much for a while: those of the past are tried together again, or a busy
// start would have each of a day's find its series by itself. Not while one takes so
// much of the budget that two will not do.
func (m *Metrics) alone(ctx context.Context, w rollup.Written, all []evaluated) {
	began := m.opts.Now()
	m.interval(ctx, w, all)
	if !m.live(w) && m.opts.Now().Sub(began) < m.opts.budget/2 {
		m.atOnce = max(m.atOnce, 2)
	}
	m.opts.Next(w)
}

// within says whether everything was evaluated in the budget.
func (m *Metrics) within(ctx context.Context, next []rollup.Written, all []evaluated) bool {
	ctx, cancel := context.WithTimeout(ctx, m.opts.budget)
	defer cancel()
	known := map[string]*overtime{}
	for _, o := range all {
		if !o.in(next[0].Cluster) {
			continue
		}
		err := m.evaluateRange(ctx, o.entry, next, known)
		var samples promql.ErrTooManySamples
		if errors.As(err, &samples) {
			return false
		}
		for _, w := range next {
			if ctx.Err() != nil {
				return false
			}
			if err != nil { // which of the intervals it is, and why, is found out one by one
				m.one(ctx, o.entry, w, memberships{})
			}
		}
	}
	return ctx.Err() == nil
}

// object is what a metric has for one object over a range.
type object struct {
	labels labels.Labels
	points []promql.FPoint // by time
}

// evaluateRange evaluates a metric at times that follow one another, and stores what
// it gives. It may have stored a part when it fails; the same again does no harm.
// Memberships may be known of another metric at the same times.
func (m *Metrics) evaluateRange(ctx context.Context, entry catalogue.Metric, next []rollup.Written, known map[string]*overtime) error {
	first, last, step := next[0], next[len(next)-1], stepOf(next)
	expr, err := selective(entry.Expr, first.Cluster)
	if err != nil {
		return err
	}
	// The time before the first tells which series end with it.
	from := first.At.Add(-step)
	matrix, summed, err := m.sumBehindOver(ctx, expr, times{from.UnixMilli(), step.Milliseconds(), len(next) + 1}, known)
	if err != nil {
		return err
	}
	if !summed {
		if nothing, err := m.hollow(ctx, expr, from, last.At); nothing || err != nil {
			return err
		}
		q, err := m.engine.NewRangeQuery(ctx, m.opts.Store, nil, expr.String(), from, last.At, step)
		if err != nil {
			return err
		}
		defer q.Close() // and with it the matrix
		res := q.Exec(ctx)
		if res.Err != nil {
			return res.Err
		}
		if matrix, err = res.Matrix(); err != nil {
			return err
		}
	} else if len(matrix) == 0 {
		return nil
	}
	objects, err := objectsOf(entry, first.Cluster, matrix)
	if err != nil {
		return err
	}
	in := make([]int, len(next)+1) // series at each time
	for _, o := range objects {
		for _, p := range o.points {
			in[(p.T-from.UnixMilli())/step.Milliseconds()]++
		}
	}
	if err := tooMany(entry, slices.Max(in)); err != nil {
		return err
	}
	if err := m.writeRange(ctx, objects, first.At, last.At, step); err != nil {
		return err
	}
	if !last.At.Before(m.last[entry.Name][last.Cluster].at) {
		now := make(map[uint64]labels.Labels, in[len(next)])
		for _, o := range objects {
			if o.points[len(o.points)-1].T == last.At.UnixMilli() {
				now[o.labels.Hash()] = o.labels
			}
		}
		m.remember(entry.Name, last, now)
	}
	m.note(entry.Name, MetricClusterStatus{Cluster: last.Cluster, At: last.At.UTC(), Series: in[len(next)]})
	return nil
}

// objectsOf gives what a result has for each object. Two series of it may be the same
// object at different times.
func objectsOf(entry catalogue.Metric, cluster string, matrix promql.Matrix) ([]object, error) {
	objects, known := make([]object, 0, len(matrix)), make(map[uint64]int, len(matrix))
	naming := namingOf(entry, cluster)
	for _, s := range matrix {
		if len(s.Histograms) > 0 {
			return nil, errHistogram
		}
		if len(s.Floats) == 0 {
			continue
		}
		ls, err := naming.named(s.Metric)
		if err != nil {
			return nil, err
		}
		h := ls.Hash()
		i, has := known[h]
		if !has {
			known[h] = len(objects)
			objects = append(objects, object{ls, s.Floats})
			continue
		}
		both := slices.Concat(objects[i].points, s.Floats)
		slices.SortFunc(both, func(a, b promql.FPoint) int { return cmp.Compare(a.T, b.T) })
		for n := range both[1:] {
			if both[n].T == both[n+1].T {
				return nil, twice(ls)
			}
		}
		objects[i].points = both
	}
	return objects, nil
}

// writeRange stores the points from the first time on, and that a series ends where it
// has no more of them.
func (m *Metrics) writeRange(ctx context.Context, objects []object, first, last time.Time, step time.Duration) error {
	app, n := m.opts.Store.Appender(ctx), 0
	var ref storage.SeriesRef
	put := func(ls labels.Labels, at int64, v float64) (err error) {
		if n++; n%samplesAtOnce == 0 {
			if err := app.Commit(); err != nil {
				return err
			}
			app, ref = m.opts.Store.Appender(ctx), 0
		}
		made, err := app.Append(ref, ls, at, v)
		if err == nil {
			ref = made
		} else if again(err) {
			err = nil
		}
		return err
	}
	for _, o := range objects {
		ref = 0
		for i, p := range o.points {
			if p.T >= first.UnixMilli() {
				if err := put(o.labels, p.T, p.F); err != nil {
					return errors.Join(err, app.Rollback())
				}
			}
			end := p.T + step.Milliseconds()
			if goesOn := i+1 < len(o.points) && o.points[i+1].T == end; !goesOn && end <= last.UnixMilli() {
				if err := put(o.labels, end, math.Float64frombits(value.StaleNaN)); err != nil {
					return errors.Join(err, app.Rollback())
				}
			}
		}
	}
	return app.Commit()
}
