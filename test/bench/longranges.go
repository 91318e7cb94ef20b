package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"golang.org/x/sys/unix"

	"github.com/crowsnest-dev/crowsnest/collector/simulate"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/storage/aggregate"
	"github.com/crowsnest-dev/crowsnest/storage/classes"
	"github.com/crowsnest-dev/crowsnest/storage/metrics"
	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

const (
	longDays = 90
	longPods = 30 // of a node, each with two containers
)

// longEnd is fixed, so that what was built once is of use later.
var longEnd = time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)

// longRanges measures charts over 90 days of a cluster at 60 s, cold and warm, as
// the console asks for them. At 20 nodes the data are about 1.3 G samples, built
// once and kept in the user's cache folder, with their aggregates.
func longRanges(ctx context.Context, b *bench) (results []Result, err error) {
	dir, err := b.longData(ctx)
	if err != nil {
		return nil, err
	}
	pod, _, err := firstPod(ctx, dir)
	if err != nil {
		return nil, err
	}
	note := fmt.Sprintf("%d days of %d nodes, %d pods and %d containers at 60 s. %s.", longDays, b.nodes, b.nodes*longPods, 2*b.nodes*longPods, machine())
	command := fmt.Sprintf("make bench BENCH=\"--only longrange --nodes %d\"", b.nodes)
	made, err := b.longAggregates(ctx, dir)
	if err != nil {
		return nil, err
	}
	if made.seconds > 0 {
		results = append(results, Result{Name: "longrange_aggregates_work", Unit: "s/G samples", Ours: made.seconds / made.samples * 1e9, Command: command, Note: "Elapsed time to make aggregates of 5 min and 1 h, one day after the other, each once. " + note})
	}
	results = append(results, Result{Name: "longrange_aggregates_disk", Unit: "bytes per byte of samples", Ours: made.bytes, Command: command,
		Note: "What aggregates add to the disk: those of 1 h as long as the samples, those of 5 min for 14 days. " + note})
	selection := func(more ...*labels.Matcher) []*labels.Matcher {
		return append(more, labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, catalogue.PodCPU))
	}
	scopes := []struct {
		name string
		spec aggregate.Spec
	}{
		{"pod", aggregate.Spec{Matchers: selection(labels.MustNewMatcher(labels.MatchEqual, "pod", pod)), By: []string{"pod"}}},
		{"node", aggregate.Spec{Matchers: selection(labels.MustNewMatcher(labels.MatchEqual, "node", "worker-01")), Across: aggregate.Sum}},
		{"top_ten", aggregate.Spec{Matchers: selection(), By: []string{"pod"}, Limit: 10}},
		{"cluster", aggregate.Spec{Matchers: selection(), Across: aggregate.Sum}},
	}
	for _, r := range []struct {
		name       string
		of, step   time.Duration
		resolution int64
	}{
		{"hour", time.Hour, time.Minute, math.MaxInt64},
		{"day", 24 * time.Hour, 10 * time.Minute, math.MaxInt64},
		{"week", 7 * 24 * time.Hour, time.Hour, math.MaxInt64},
		{"90_days", longDays * 24 * time.Hour, 12 * time.Hour, math.MaxInt64},
		{"90_days_of_samples", longDays * 24 * time.Hour, 12 * time.Hour, 0},
	} {
		var warm, cold []float64
		for _, scope := range scopes {
			spec := scope.spec
			spec.Statistic, spec.Step, spec.Resolution = aggregate.Avg, r.step.Milliseconds(), r.resolution
			spec.Start, spec.End = longEnd.Add(r.step-r.of).UnixMilli(), longEnd.UnixMilli()
			if err := errors.Join(forget(dir), forget(dir+"-aggregates")); err != nil {
				return nil, err
			}
			store, err := openLong(dir, dir+"-aggregates", nil)
			if err != nil {
				return nil, err
			}
			once := func() (float64, error) {
				began := time.Now()
				answer, err := store.Chart(ctx, spec)
				if err == nil && len(answer.Lines) == 0 {
					err = fmt.Errorf("%s over %s gives nothing", scope.name, r.name)
				}
				return float64(time.Since(began).Microseconds()) / 1000, err
			}
			took, err := once()
			cold = append(cold, took)
			rounds := b.rounds * 3
			if r.resolution == 0 {
				rounds = 1 // it is there to be compared with
			}
			for n := 0; err == nil && n < rounds; n++ {
				if took, err = once(); err == nil {
					warm = append(warm, took)
				}
			}
			if err = errors.Join(err, store.Close()); err != nil {
				return nil, err
			}
			b.say("%s over %s: cold %.0f ms, warm %.0f ms", scope.name, r.name, cold[len(cold)-1], warm[len(warm)-1])
		}
		slices.Sort(warm)
		about := "One pod, one node, the top ten and the whole cluster by its pods, each as the console asks for it: " + note
		one := Result{Name: "longrange_" + r.name + "_warm_p95", Unit: "ms", Ours: warm[int(float64(len(warm)-1)*0.95)], Bar: "<= 300", Command: command, Note: about}
		if r.resolution == 0 {
			one.Bar, one.Note = "", "The same read of samples only. "+about
		}
		results = append(results, one,
			Result{Name: "longrange_" + r.name + "_cold", Unit: "ms", Ours: slices.Max(cold), Command: command, Note: "The slowest, with nothing in the page cache. " + one.Note},
		)
	}
	return results, nil
}

// openLong opens the data as the server does.
func openLong(dir, aggregates string, reg prometheus.Registerer) (*classes.Store, error) {
	return classes.Open(classes.Options{
		Metrics: metrics.Options{Dir: dir, Retention: 3650 * 24 * time.Hour, Registerer: reg}, Dir: dir + "-classes", Aggregates: aggregates,
		Declared: func(string) bool { return true },
	})
}

// madeAggregates says what they cost: seconds is 0 when they were there.
type madeAggregates struct{ seconds, samples, bytes float64 }

// longAggregates waits until those of the data are made.
func (b *bench) longAggregates(ctx context.Context, dir string) (made madeAggregates, err error) {
	db, err := metrics.Open(metrics.Options{Dir: dir, Retention: 3650 * 24 * time.Hour})
	if err != nil {
		return made, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	reg := prometheus.NewRegistry()
	agg, err := aggregate.Open(aggregate.Options{
		Dir: filepath.Join(dir+"-aggregates", classes.Catalogue), Raw: db, Quiet: time.Nanosecond, Every: time.Millisecond, Registerer: reg,
	})
	if err != nil {
		return made, err
	}
	defer func() { err = errors.Join(err, agg.Close()) }()
	metas, err := db.BlockMetas()
	if err != nil {
		return made, err
	}
	for _, m := range metas {
		made.samples += float64(m.Stats.NumSamples)
	}
	b.say("waiting for the aggregates of %.0f M samples", made.samples/1e6)
	worked := -1.0
	err = testbed.Await(ctx, 2*time.Hour, 5*time.Second, func(context.Context) error {
		before := worked
		if worked = gathered(reg, "crowsnest_aggregates_work_seconds_total", ""); worked != before {
			return errors.New("days are being merged")
		}
		if days := gathered(reg, "crowsnest_aggregates_covered_seconds", "1h") / (24 * time.Hour).Seconds(); days < longDays-1 {
			return fmt.Errorf("%.0f of %d days", days, longDays)
		}
		return nil
	})
	made.seconds = gathered(reg, "crowsnest_aggregates_work_seconds_total", "")
	made.bytes = float64(agg.Bytes()) / float64(db.Size())
	if gathered(reg, "crowsnest_aggregates_made_total", "") < longDays-1 {
		made.seconds = 0
	}
	return made, err
}

// gathered gives a value of a registry, of one resolution where it has several.
func gathered(reg prometheus.Gatherer, name, resolution string) (sum float64) {
	all, err := reg.Gather()
	if err != nil {
		return 0
	}
	for _, family := range all {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			if len(m.GetLabel()) == 0 || m.GetLabel()[0].GetValue() == resolution {
				sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// longData gives the folder of the store, which it builds where it is not there.
func (b *bench) longData(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "crowsnest", fmt.Sprintf("bench-longrange-v1-%d", b.nodes))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	tmp := dir + ".tmp"
	if err := errors.Join(os.RemoveAll(tmp), os.MkdirAll(tmp, 0o750)); err != nil {
		return "", err
	}
	at := longEnd.Add(-longDays * 24 * time.Hour)
	s, err := writeStream(ctx, filepath.Join(b.dir, "longrange"), simulate.Options{
		Nodes: b.nodes, PodsPerNode: longPods, ContainersPerPod: 2, Seed: 1, Interval: time.Minute,
	}, at, at.Add(3*time.Minute), nil)
	if err != nil {
		return "", err
	}
	known := map[string]labels.Labels{}
	builder := labels.NewScratchBuilder(16)
	err = s.decoded(func(req *prompb.WriteRequest) error {
		for _, ts := range req.Timeseries {
			lset := ts.ToLabels(&builder, nil)
			known[lset.String()] = lset
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	// 1.3 G samples at 20 nodes: all of what is asked for, and of the rest as much.
	var series, rest []labels.Labels
	for _, key := range slices.Sorted(maps.Keys(known)) {
		if lset := known[key]; lset.Get(labels.MetricName) == catalogue.PodCPU {
			series = append(series, lset)
		} else {
			rest = append(rest, lset)
		}
	}
	r := rand.New(rand.NewPCG(1, 1))
	r.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
	series = append(series, rest[:max(0, min(len(rest), 500*b.nodes-len(series)))]...)
	b.say("building %d days of %d series, once", longDays, len(series))
	values := make([]float64, len(series))
	for range longDays {
		if err := writeDay(ctx, tmp, at, series, values, r); err != nil {
			return "", err
		}
		at = at.Add(24 * time.Hour)
	}
	return dir, os.Rename(tmp, dir)
}

func writeDay(ctx context.Context, dir string, day time.Time, series []labels.Labels, values []float64, r *rand.Rand) (err error) {
	w, err := tsdb.NewBlockWriter(slog.New(slog.DiscardHandler), dir, 2*(24*time.Hour).Milliseconds())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	refs := make([]storage.SeriesRef, len(series))
	round := bits(11)
	for at := day; at.Before(day.Add(24 * time.Hour)); at = at.Add(time.Minute) {
		app := w.Appender(ctx)
		for n := range series {
			if r.IntN(2) == 0 { // half of the gauges stand still at a time
				values[n] = round(max(0, values[n]+r.NormFloat64()))
			}
			if refs[n], err = app.Append(refs[n], series[n], at.UnixMilli(), values[n]); err != nil {
				return errors.Join(err, app.Rollback())
			}
		}
		if err := app.Commit(); err != nil {
			return err
		}
	}
	_, err = w.Flush(ctx)
	return err
}

// firstPod names a pod of the data, and its workload.
func firstPod(ctx context.Context, dir string) (pod, workload string, err error) {
	db, err := metrics.Open(metrics.Options{Dir: dir, Retention: 3650 * 24 * time.Hour})
	if err != nil {
		return "", "", err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	q, err := db.Querier(longEnd.Add(-time.Hour).UnixMilli(), longEnd.UnixMilli())
	if err != nil {
		return "", "", err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	set := q.Select(ctx, true, nil, labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, catalogue.PodCPU))
	if !set.Next() {
		return "", "", fmt.Errorf("no pod in %s: %w", dir, set.Err())
	}
	lset := set.At().Labels() // they point into the store's files
	return strings.Clone(lset.Get("pod")), strings.Clone(lset.Get("workload")), nil
}

// forget has the system drop a folder's files from its memory.
func forget(dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED), f.Close())
	})
}
