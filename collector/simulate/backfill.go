package simulate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"golang.org/x/sync/errgroup"

	"github.com/crowsnest-dev/crowsnest/collector/compute"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// MaxBackfill is how far back Backfill goes at most.
const MaxBackfill = 90 * 24 * time.Hour

// tiers say how dense the past is: nobody looks closer at what is long gone, and
// 90 days cost a tenth. No interval is above 5 min, PromQL's look-back.
var tiers = []struct{ age, interval time.Duration }{
	{24 * time.Hour, 5 * time.Minute}, // older than this
	{6 * time.Hour, 2 * time.Minute},
	{0, 0}, // Options.Interval
}

// Backfill writes the samples that a fleet of these options would have given in
// [from, to) as TSDB blocks into dir, which is made when it is missing. They come
// from the real compute code; the rollups, which a server writes for live data,
// are summed here as the catalogue declares them. Blocks lie on the ranges that
// the TSDB itself compacts to and do not overlap. Options.Interval is the step
// within the last 6 h before to, then 2 min up to 24 h and 5 min beyond (or
// Interval, if longer). On an error dir may hold some of the blocks.
func Backfill(ctx context.Context, o Options, dir string, from, to time.Time) error {
	if err := o.complete(); err != nil {
		return fmt.Errorf("simulate: %w", err)
	}
	from, to = from.Truncate(o.Interval), to.Truncate(o.Interval)
	if d := to.Sub(from); d <= 0 || d > MaxBackfill {
		return fmt.Errorf("simulate: backfill must be above 0 and at most %s, not %s", MaxBackfill, d)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("simulate: backfill into %s: %w", dir, err)
	}
	blocks := cut(from, to, o.Interval)
	// Each worker takes neighbouring blocks, so that a restart counter begins
	// anew only where one worker's part ends.
	workers := min(runtime.GOMAXPROCS(0), len(blocks))
	total := 0
	for _, b := range blocks {
		total += b.steps()
	}
	g, ctx := errgroup.WithContext(ctx)
	for i, next := 0, 0; i < workers; i++ {
		var mine []block
		steps := 0
		for next < len(blocks) && (i == workers-1 || steps < total/workers) {
			mine = append(mine, blocks[next])
			steps += blocks[next].steps()
			next++
		}
		if len(mine) == 0 {
			continue
		}
		g.Go(func() error { return backfill(ctx, o, dir, mine) })
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("simulate: backfill: %w", err)
	}
	return nil
}

// block is one TSDB block to write, [from, to).
type block struct {
	from, to time.Time
	step     time.Duration
}

func (b block) steps() int { return int(b.to.Sub(b.from) / b.step) }

// cut divides a time into blocks that lie on the TSDB's own ranges.
func cut(from, to time.Time, interval time.Duration) []block {
	var out []block
	at := from
	for _, tier := range tiers {
		end := to
		if tier.age > 0 {
			end = floor(to.Add(-tier.age), 2*time.Hour)
		}
		for at.Before(end) {
			next := floor(at, 2*time.Hour).Add(2 * time.Hour)
			for _, r := range []time.Duration{54 * time.Hour, 18 * time.Hour, 6 * time.Hour} {
				if floor(at, r).Equal(at) && !at.Add(r).After(end) {
					next = at.Add(r)
					break
				}
			}
			if next.After(end) {
				next = end
			}
			out = append(out, block{from: at, to: next, step: max(interval, tier.interval)})
			at = next
		}
	}
	return out
}

// floor rounds down on the TSDB's grid, which counts from 1970 and not, as
// Truncate does, from the year 1.
func floor(t time.Time, d time.Duration) time.Time {
	ms := t.UnixMilli()
	return time.UnixMilli(ms - ms%d.Milliseconds()).UTC()
}

func backfill(ctx context.Context, o Options, dir string, blocks []block) error {
	f := newFleet(o)
	read := (*readings)(f)
	comp := compute.New(compute.Options{
		// History is for the charts that open first; the rest would take as long again.
		Role: wire.RoleAll, Sender: o.Sender, Interval: blocks[0].step, Families: []catalogue.Family{catalogue.CoreFamily},
	})
	step := func(at time.Time) []compute.Sample {
		f.Advance(at)
		snapshot := f.Snapshot()
		return comp.Interval(at, read.Read(ctx, at, snapshot), snapshot)
	}
	step(floor(blocks[0].from, blocks[0].step).Add(-blocks[0].step)) // a first reading gives no rate
	for _, b := range blocks {
		comp.SetInterval(b.step)
		if err := writeBlock(ctx, o, dir, b, step); err != nil {
			return fmt.Errorf("block from %s: %w", b.from.Format(time.RFC3339), err)
		}
	}
	return nil
}

func writeBlock(ctx context.Context, o Options, dir string, b block, step func(time.Time) []compute.Sample) (err error) {
	// The range is the head's whole one, so that no sample is outside it.
	w, err := tsdb.NewBlockWriter(slog.New(slog.DiscardHandler), dir, (108 * time.Hour).Milliseconds())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	out := newAppend(o.Cluster)
	at := floor(b.from, b.step)
	if at.Before(b.from) {
		at = at.Add(b.step)
	}
	app := w.Appender(ctx)
	pending := 0
	for ; at.Before(b.to); at = at.Add(b.step) {
		if err := ctx.Err(); err != nil {
			return errors.Join(err, app.Rollback())
		}
		n, err := out.interval(app, at.UnixMilli(), step(at))
		if err != nil {
			return errors.Join(err, app.Rollback())
		}
		if pending += n; pending >= 50_000 {
			if err := app.Commit(); err != nil {
				return err
			}
			app, pending = w.Appender(ctx), 0
		}
	}
	if err := app.Commit(); err != nil {
		return err
	}
	id, err := w.Flush(ctx)
	if err != nil && !errors.Is(err, tsdb.ErrNoSeriesAppended) {
		return err
	}
	if id == (ulid.ULID{}) {
		return nil
	}
	_, err = os.Stat(filepath.Join(dir, id.String(), "meta.json"))
	return err
}

// appending writes the samples of one block and the rollups of them.
type appending struct {
	cluster string
	series  map[seriesKey]*series
	before  []*series // by place in the last interval: the order hardly changes
	sums    []*rollup
	byGroup map[seriesKey]*rollup
	rollups map[string][]catalogue.Metric // by the metric that is summed
}

type seriesKey struct {
	metric string
	labels uint64
}

type series struct {
	metric string
	labels labels.Labels // as compute gives them
	whole  labels.Labels
	ref    storage.SeriesRef
	sums   []*rollup // that it goes into
	last   float64   // for Per
	at     int64
}

type rollup struct {
	whole labels.Labels
	ref   storage.SeriesRef
	per   string // metric of the same group that it is divided by
	group labels.Labels
	sum   float64
	at    int64 // of the interval that sum is about
}

func newAppend(cluster string) *appending {
	a := &appending{cluster: cluster, series: map[seriesKey]*series{}, byGroup: map[seriesKey]*rollup{}, rollups: map[string][]catalogue.Metric{}}
	for _, m := range catalogue.All() {
		if m.Sum != nil {
			a.rollups[m.Sum.Of] = append(a.rollups[m.Sum.Of], m)
		}
	}
	return a
}

// interval appends all samples of one grid point and says how many.
func (a *appending) interval(app storage.Appender, at int64, samples []compute.Sample) (int, error) {
	n := 0
	for i, s := range samples {
		sr := a.find(i, s)
		ref, err := app.Append(sr.ref, sr.whole, at, s.V)
		if err != nil {
			return n, fmt.Errorf("append %s: %w", sr.whole, err)
		}
		sr.ref = ref
		n++
		if s.Stale() {
			continue
		}
		sr.last, sr.at = s.V, at
		for _, r := range sr.sums {
			if r.at != at {
				r.at, r.sum = at, 0
			}
			r.sum += s.V
		}
	}
	a.before = a.before[:min(len(a.before), len(samples))]
	for _, r := range a.sums {
		if r.at != at {
			continue
		}
		v := r.sum
		if r.per != "" {
			d := a.series[seriesKey{r.per, r.group.Hash()}]
			if d == nil || d.at != at || d.last == 0 {
				continue
			}
			v = 100 * v / d.last
		}
		ref, err := app.Append(r.ref, r.whole, at, v)
		if err != nil {
			return n, fmt.Errorf("append %s: %w", r.whole, err)
		}
		r.ref = ref
		n++
	}
	return n, nil
}

func (a *appending) find(place int, s compute.Sample) *series {
	if place < len(a.before) {
		if sr := a.before[place]; sr.metric == s.Metric && labels.Equal(sr.labels, s.Labels) {
			return sr
		}
	}
	k := seriesKey{s.Metric, s.Labels.Hash()}
	sr := a.series[k]
	if sr == nil {
		sr = a.add(k, s)
	}
	if place < len(a.before) {
		a.before[place] = sr
	} else {
		a.before = append(a.before, sr)
	}
	return sr
}

func (a *appending) add(k seriesKey, s compute.Sample) *series {
	b := labels.NewBuilder(s.Labels)
	b.Set(labels.MetricName, s.Metric).Set(wire.FieldCluster, a.cluster)
	sr := &series{metric: s.Metric, labels: s.Labels, whole: b.Labels()}
	a.series[k] = sr
	for _, m := range a.rollups[s.Metric] {
		g := labels.NewScratchBuilder(4)
		for _, name := range m.Level.ObjectLabels() {
			if v := s.Labels.Get(name); v != "" {
				g.Add(name, v)
			}
		}
		g.Sort()
		group := g.Labels()
		gk := seriesKey{m.Name, group.Hash()}
		r := a.byGroup[gk]
		if r == nil {
			b := labels.NewBuilder(group)
			b.Set(labels.MetricName, m.Name).Set(wire.FieldCluster, a.cluster)
			r = &rollup{whole: b.Labels(), group: group, per: m.Sum.Per, at: -1}
			a.byGroup[gk] = r
			a.sums = append(a.sums, r)
		}
		sr.sums = append(sr.sums, r)
	}
	return sr
}
