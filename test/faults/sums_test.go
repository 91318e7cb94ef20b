package faults

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/storage/aggregate"
	"github.com/crowsnest-dev/crowsnest/storage/metrics"
	"github.com/crowsnest-dev/crowsnest/storage/rollup"
)

// rollupsPath of the server gives how many intervals were summed.
const rollupsPath = "/rollups"

type fourNodes struct{}

var _ rollup.Expected = fourNodes{}

func (fourNodes) Nodes(string) []string { return []string{"n0", "n1", "n2", "n3"} }

// openAggregates makes each day as soon as it may.
func openAggregates(dir string, db *metrics.DB, now func() time.Time) (*aggregate.Store, error) {
	return aggregate.Open(aggregate.Options{Dir: dir, Raw: db, Quiet: time.Nanosecond, Every: time.Millisecond, Now: now})
}

// samplesOf calls do for every sample of a metric.
func samplesOf(db *metrics.DB, metric string, do func(lset labels.Labels, at time.Time, v float64)) error {
	q, err := db.Querier(math.MinInt64, math.MaxInt64)
	if err != nil {
		return err
	}
	defer func() { _ = q.Close() }()
	set := q.Select(context.Background(), false, nil, labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, metric))
	var it chunkenc.Iterator
	for set.Next() {
		s := set.At()
		for it = s.Iterator(it); it.Next() != chunkenc.ValNone; {
			at, v := it.At()
			do(s.Labels(), time.UnixMilli(at).UTC(), v)
		}
		if it.Err() != nil {
			return it.Err()
		}
	}
	return set.Err()
}

func countRollups(db *metrics.DB) (n int, err error) {
	err = samplesOf(db, rollup.CoverageRatio, func(labels.Labels, time.Time, float64) { n++ })
	return n, err
}

// killed is a server that makes sums and is killed and started again.
type killed struct {
	t     *testing.T
	dir   string
	block time.Duration // BlockRange of the server
	*server
}

func (k *killed) start(clock time.Time) {
	k.t.Helper()
	k.server = start(k.t, filepath.Join(k.dir, "metrics"), envSums+"="+filepath.Join(k.dir, "aggregates"),
		envBlock+"="+k.block.String(), envClock+"="+strconv.FormatInt(clock.UnixMilli(), 10))
}

// kill fails the test when the server had come to an end of its own.
func (k *killed) kill() {
	k.t.Helper()
	k.server.kill()
	if text := k.log.String(); strings.Contains(text, "panic") {
		k.t.Fatal(text)
	}
}

func (k *killed) get(path string) (int, error) {
	res, err := http.Get(k.url + path)
	if err != nil {
		return 0, err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// reopen opens the killed server's store in this process.
func (k *killed) reopen() *metrics.DB {
	k.t.Helper()
	db, err := metrics.Open(metrics.Options{Dir: filepath.Join(k.dir, "metrics"), BlockRange: k.block})
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { _ = db.Close() })
	return db
}

// A server is killed while it writes the sums of an interval, and in the middle of
// intervals. Each interval is summed in the end, with all that was acknowledged,
// and each sum is what it is without a kill.
func TestKilledServerSumsEachInterval(t *testing.T) {
	const intervals = 60
	k := &killed{t: t, dir: t.TempDir(), block: time.Hour}
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 2))
	at := func(n int) time.Time { return base.Add(time.Duration(n) * time.Minute) }
	k.start(base)
	kills := 0
	again := func(n int) {
		k.kill()
		kills++
		k.start(at(n))
	}
	for n := range intervals {
		// The kill of this interval: none, after some senders, or after the last, while it is summed.
		after, wait := r.IntN(12), time.Duration(r.IntN(4000))*time.Microsecond
		for i, sender := range r.Perm(4) {
			b := batch{sender, sender * perBatch, at(n)}
			if _, err := send(t.Context(), k.url, b, at(n), true); err != nil {
				t.Fatalf("interval %d: %v\n%s", n, err, k.log)
			}
			if i != after {
				continue
			}
			time.Sleep(wait) // a moment of the work is what is wanted, not its end
			again(n)
			if r.IntN(2) == 0 { // who saw no answer sends it again
				if _, err := send(t.Context(), k.url, b, at(n), true); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if kills == 0 {
		again(intervals - 1)
	}
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		written, err := k.get(rollupsPath)
		if err != nil {
			t.Fatal(err)
		}
		if written == intervals {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d intervals are summed after a minute, want %d\n%s", written, intervals, k.log)
		}
	}
	k.kill()

	db := k.reopen()
	want, got := map[string]float64{}, map[string]float64{}
	for n := range intervals {
		for series := range 4 * perBatch { // the values are such that their sums are exact in any order
			want[fmt.Sprint(workload(series), " ", n)] += value(series, at(n))
		}
	}
	err := samplesOf(db, catalogue.WorkloadCPU, func(lset labels.Labels, when time.Time, v float64) {
		got[fmt.Sprint(lset.Get("workload"), " ", int(when.Sub(base)/time.Minute))] = v
	})
	if err != nil {
		t.Fatal(err)
	}
	wrong := 0
	for key, v := range want {
		if sum, there := got[key]; !there || sum != v {
			if wrong++; wrong < 5 {
				t.Errorf("%s: %v (there: %v), want %v", key, sum, there, v)
			}
		}
	}
	if len(got) != len(want) || wrong > 0 {
		t.Errorf("%d sums, want %d; %d are wrong", len(got), len(want), wrong)
	}
	err = samplesOf(db, rollup.CoverageRatio, func(_ labels.Labels, when time.Time, v float64) {
		if v != 1 {
			t.Errorf("%s was summed with a coverage of %v", when, v)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d kills, %d intervals, %d sums", kills, intervals, len(got))
}

// A server is killed while it writes aggregates, again and again, and while what
// they are made of still comes, some of it late. In the end no acknowledged sample
// is missing, and each aggregate is what the samples say.
func TestKilledServerHasTheAggregatesOfItsSamples(t *testing.T) {
	const (
		days   = 13 // days are merged once ten are there
		every  = 30 * time.Minute
		steps  = int(days * 24 * time.Hour / every)
		made   = days - 3 // what is younger than 48 h is not made, nor what may be in memory
		lately = -20*time.Hour + time.Minute
	)
	from := time.Date(2026, 11, 3, 0, 0, 0, 0, time.UTC)        // where ten days begin that are merged
	k := &killed{t: t, dir: t.TempDir(), block: 24 * time.Hour} // days pass fast
	acked := map[batch]bool{}
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 3))
	kills, cut, most := 0, 0, number(envRounds, 12)
	for step, round := 0, 0; step < steps; round++ {
		at := func() time.Time { return from.Add(time.Duration(step) * every) }
		k.start(at())
		ctx, stop := context.WithCancel(t.Context())
		var sender sync.WaitGroup
		sender.Go(func() {
			for ; step < steps && ctx.Err() == nil; step++ {
				todo := []batch{{0, 0, at()}, {1, perBatch, at()}}
				if step%10 == 9 {
					todo = append(todo, batch{1, perBatch, at().Add(lately)})
				}
				for _, b := range todo {
					// One that was not acknowledged is sent again after the kill.
					if _, err := send(ctx, k.url, b, at(), false); err != nil {
						return
					}
					acked[b] = true
				}
			}
			stop() // all is sent
		})
		// Every other time it is killed as soon as a part is seen to be written, the other times it gets further.
		timer := time.NewTimer(time.Duration(300+r.IntN(300)) * time.Millisecond)
		writing := func() bool {
			parts, _ := filepath.Glob(filepath.Join(k.dir, "aggregates", "*", "*.making"))
			return len(parts) > 0
		}
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				waiting = false
			case <-timer.C:
				waiting = round%2 == 0 || kills >= most
			case <-time.After(200 * time.Microsecond):
				waiting = round%2 == 1 || kills >= most || !writing()
			}
		}
		k.kill()
		stop()
		sender.Wait()
		kills++
		if writing() {
			cut++
		}
	}

	db := k.reopen()
	agg, err := openAggregates(filepath.Join(k.dir, "aggregates"), db, func() time.Time { return from.AddDate(0, 0, days) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = agg.Close() }) // before its store

	kept, wrong, missing := map[batch]int{}, 0, 0
	err = all(db, math.MinInt64, func(series int, at time.Time, v float64) {
		first := series - series%perBatch
		if kept[batch{first / perBatch, first, at}]++; v != value(series, at) {
			wrong++
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for b := range acked {
		missing += perBatch - kept[b]
	}
	if missing+wrong > 0 {
		t.Errorf("%d acknowledged samples are missing, %d have another value", missing, wrong)
	}

	// The buckets, computed here: hours by what was sent in them.
	type bucket struct{ n, sum, least, greatest float64 }
	want := map[int]map[int]*bucket{} // by series and hour
	for b := range acked {
		hour := int((b.at.Sub(from) + time.Hour - 1) / time.Hour) // with its end
		if hour < 1 || hour > made*24 {
			continue
		}
		for series := b.series; series < b.series+perBatch; series++ {
			if want[series] == nil {
				want[series] = map[int]*bucket{}
			}
			v, u := value(series, b.at), want[series][hour]
			if u == nil {
				u = &bucket{least: v, greatest: v}
				want[series][hour] = u
			}
			u.n, u.sum, u.least, u.greatest = u.n+1, u.sum+v, min(u.least, v), max(u.greatest, v)
		}
	}
	for statistic, of := range map[string]func(*bucket) float64{
		aggregate.Count: func(b *bucket) float64 { return b.n },
		aggregate.Sum:   func(b *bucket) float64 { return b.sum },
		aggregate.Min:   func(b *bucket) float64 { return b.least },
		aggregate.Max:   func(b *bucket) float64 { return b.greatest },
	} {
		answer := chartOfAggregates(t, agg, aggregate.Spec{
			Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, catalogue.PodCPU)}, By: []string{"n"}, Statistic: statistic,
			Start: from.Add(time.Hour).UnixMilli(), End: from.AddDate(0, 0, made).UnixMilli(), Step: time.Hour.Milliseconds(), Resolution: math.MaxInt64,
		})
		if len(answer.Lines) != len(want) {
			t.Errorf("%s: %d lines, want %d", statistic, len(answer.Lines), len(want))
		}
		differ := 0
		for _, line := range answer.Lines {
			series, err := strconv.Atoi(line.Labels.Get("n"))
			if err != nil {
				t.Fatal(err)
			}
			for n, v := range line.Values {
				if b := want[series][n+1]; b == nil || of(b) != v {
					if differ++; differ < 5 {
						t.Errorf("%s of series %d in hour %d: %v, want %+v", statistic, series, n+1, v, b)
					}
				}
			}
		}
		if differ > 0 {
			t.Errorf("%s: %d buckets differ", statistic, differ)
		}
	}
	t.Logf("%d kills, %d while a part was written, %d batches", kills, cut, len(acked))
	if cut == 0 {
		t.Error("no kill met a part that was being written")
	}
}

// chartOfAggregates waits until a chart is read from hours alone.
func chartOfAggregates(t *testing.T, agg *aggregate.Store, spec aggregate.Spec) *aggregate.Answer {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		chart, err := aggregate.NewChart(spec)
		if err != nil {
			t.Fatal(err)
		}
		if err := agg.Read(t.Context(), chart); err != nil {
			t.Fatal(err)
		}
		answer, hours := chart.Answer(), true
		for _, read := range answer.Read {
			hours = hours && read.Resolution == time.Hour.Milliseconds()
		}
		if hours && len(answer.Read) > 0 {
			return answer
		}
		if time.Now().After(deadline) {
			t.Fatalf("after a minute it is read from %v", answer.Read)
		}
	}
}
