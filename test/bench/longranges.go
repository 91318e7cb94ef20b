package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"golang.org/x/sys/unix"

	"github.com/crowsnest-dev/crowsnest/collector/simulate"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/storage/metrics"
)

const (
	longDays = 90
	longPods = 30 // of a node, each with two containers
)

// longEnd is fixed, so that what was built once is of use later.
var longEnd = time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)

// longRanges measures charts over 90 days of a cluster at 60 s, cold and warm. At
// 20 nodes the data are about 1.3 G samples, built once and kept in the user's
// cache folder.
func longRanges(ctx context.Context, b *bench) ([]Result, error) {
	dir, err := b.longData(ctx)
	if err != nil {
		return nil, err
	}
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 50_000_000, Timeout: 2 * time.Minute, LookbackDelta: 5 * time.Minute})
	defer engine.Close()
	pod, err := firstPod(ctx, dir)
	if err != nil {
		return nil, err
	}
	scopes := []struct{ name, query string }{
		{"pod", fmt.Sprintf("%s{pod=%q}", catalogue.PodCPU, pod)},
		{"node", fmt.Sprintf(`sum(%s{node="worker-01"})`, catalogue.PodCPU)},
		{"top_ten", fmt.Sprintf("topk(10, %s)", catalogue.PodCPU)},
		{"cluster", fmt.Sprintf("sum(%s)", catalogue.PodCPU)},
	}
	var results []Result
	for _, r := range []struct {
		name string
		of   time.Duration
	}{{"hour", time.Hour}, {"day", 24 * time.Hour}, {"week", 7 * 24 * time.Hour}, {"90_days", longDays * 24 * time.Hour}} {
		var warm, cold []float64
		for _, scope := range scopes {
			step := max(r.of/360, time.Minute)
			once := func(db *metrics.DB) (float64, error) {
				began := time.Now()
				q, err := engine.NewRangeQuery(ctx, db, nil, scope.query, longEnd.Add(-r.of), longEnd.Add(-time.Minute), step)
				if err != nil {
					return 0, err
				}
				defer q.Close()
				res := q.Exec(ctx)
				if res.Err != nil {
					return 0, fmt.Errorf("%s over %s: %w", scope.query, r.name, res.Err)
				}
				if m, err := res.Matrix(); err != nil || len(m) == 0 {
					return 0, fmt.Errorf("%s over %s gives nothing: %v", scope.query, r.name, err)
				}
				return float64(time.Since(began).Microseconds()) / 1000, nil
			}
			if err := forget(dir); err != nil {
				return nil, err
			}
			db, err := metrics.Open(metrics.Options{Dir: dir, Retention: 3650 * 24 * time.Hour})
			if err != nil {
				return nil, err
			}
			took, err := once(db)
			cold = append(cold, took)
			for n := 0; err == nil && n < b.rounds*3; n++ {
				if took, err = once(db); err == nil {
					warm = append(warm, took)
				}
			}
			if err = errors.Join(err, db.Close()); err != nil {
				return nil, err
			}
			b.say("%s over %s: cold %.0f ms, warm %.0f ms", scope.name, r.name, cold[len(cold)-1], warm[len(warm)-1])
		}
		slices.Sort(warm)
		note := fmt.Sprintf("One pod, one node, the top ten and the whole cluster, 360 points each, at full resolution: %d days of %d nodes, %d pods and %d containers at 60 s. %s.",
			longDays, b.nodes, b.nodes*longPods, 2*b.nodes*longPods, machine())
		command := fmt.Sprintf("make bench BENCH=\"--only longrange --nodes %d\"", b.nodes)
		results = append(results,
			Result{Name: "longrange_" + r.name + "_warm_p95", Unit: "ms", Ours: warm[int(float64(len(warm)-1)*0.95)], Bar: "<= 300", Command: command, Note: note},
			Result{Name: "longrange_" + r.name + "_cold", Unit: "ms", Ours: slices.Max(cold), Command: command, Note: "The slowest, with nothing in the page cache. " + note},
		)
	}
	return results, nil
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
	}, at, at.Add(3*time.Minute))
	if err != nil {
		return "", err
	}
	known := map[string]labels.Labels{}
	builder := labels.NewScratchBuilder(16)
	err = s.replay(func(body []byte) error {
		raw, err := snappy.Decode(nil, body)
		if err != nil {
			return err
		}
		var req prompb.WriteRequest
		if err := req.Unmarshal(raw); err != nil {
			return err
		}
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

// firstPod names a pod of the data.
func firstPod(ctx context.Context, dir string) (_ string, err error) {
	db, err := metrics.Open(metrics.Options{Dir: dir, Retention: 3650 * 24 * time.Hour})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	q, err := db.Querier(longEnd.Add(-time.Hour).UnixMilli(), longEnd.UnixMilli())
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	pods, _, err := q.LabelValues(ctx, "pod", nil, labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, catalogue.PodCPU))
	if err != nil || len(pods) == 0 {
		return "", fmt.Errorf("no pod in %s: %w", dir, err)
	}
	return strings.Clone(pods[0]), nil // it points into the store's files
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
