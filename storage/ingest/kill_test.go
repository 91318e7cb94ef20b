package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
	"github.com/crowsnest-dev/crowsnest/storage/metrics"
	"github.com/crowsnest-dev/crowsnest/storage/rollup"
)

// killable is a store with ingest and running rollups that can be killed.
type killable struct {
	t       *testing.T
	dir     string
	now     atomic.Int64
	db      *metrics.DB
	i       *Ingester
	stop    context.CancelFunc
	stopped chan struct{}
}

type fourNodes struct{}

func (fourNodes) Nodes(string) []string { return []string{"n0", "n1", "n2", "n3"} }

func (k *killable) start() {
	k.t.Helper()
	now := func() time.Time { return time.UnixMilli(k.now.Load()) }
	var err error
	if k.db, err = metrics.Open(metrics.Options{Dir: k.dir}); err != nil {
		k.t.Fatal(err)
	}
	rollups, err := rollup.New(rollup.Options{Store: k.db, Expected: fourNodes{}, Now: now})
	if err != nil {
		k.t.Fatal(err)
	}
	if k.i, err = New(Options{Store: k.db, Rollups: rollups, Now: now}); err != nil {
		k.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	k.stop, k.stopped = stop, make(chan struct{})
	go func() {
		defer close(k.stopped)
		if err := rollups.Run(ctx); err != nil {
			k.t.Error(err)
		}
	}()
}

// end closes everything in order.
func (k *killable) end() {
	k.stop()
	<-k.stopped
	if err := k.db.Close(); err != nil {
		k.t.Error(err)
	}
}

// kill goes on from the files as they are at this moment, which is what a
// kill -9 leaves; what the old process does while it ends does not reach them.
func (k *killable) kill() {
	k.t.Helper()
	left := k.t.TempDir()
	// What the store removes while it is copied is no state that a kill leaves.
	for err := os.CopyFS(left, os.DirFS(k.dir)); err != nil; err = os.CopyFS(left, os.DirFS(k.dir)) {
		if !errors.Is(err, fs.ErrNotExist) {
			k.t.Fatal(err)
		}
		left = k.t.TempDir()
	}
	k.end()
	k.dir = left
	k.start()
}

type batch struct {
	sender  string
	at      time.Time
	earlier []time.Time // of a backlog that comes several intervals at a time
	body    []byte
}

func (k *killable) send(b batch) {
	k.t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(b.body))
	r.Header.Set("Content-Type", v2)
	r.Header.Set(wire.HeaderSender, b.sender)
	r.Header.Set(wire.HeaderInterval, "30")
	r.Header.Set(wire.HeaderComplete, wire.FormatMillis(b.at))
	if b.earlier != nil {
		r.Header.Set(wire.HeaderBacklog, "true")
		r.Header.Set(wire.HeaderEarlier, wire.FormatEarlier(b.earlier))
	}
	w := httptest.NewRecorder()
	k.i.ServeWrite(w, r, "prod")
	if w.Code != http.StatusNoContent {
		k.t.Fatalf("%s at %v: %d %s", b.sender, b.at, w.Code, w.Body)
	}
}

// rollups gives all values that the server wrote, by series and time, bit by bit.
func (k *killable) rollups() map[string]uint64 {
	k.t.Helper()
	q, err := k.db.Querier(0, math.MaxInt64)
	if err != nil {
		k.t.Fatal(err)
	}
	defer func() { _ = q.Close() }()
	out := map[string]uint64{}
	for _, name := range []string{catalogue.WorkloadCPU, catalogue.ClusterCPUUsedPercent, rollup.CoverageRatio} {
		set := q.Select(context.Background(), false, nil, labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, name))
		for set.Next() {
			s := set.At()
			for it := s.Iterator(nil); it.Next() != 0; {
				if at, v := it.At(); !value.IsStaleNaN(v) {
					out[fmt.Sprint(s.Labels(), time.UnixMilli(at).Sub(t0))] = math.Float64bits(v)
				}
			}
		}
		if set.Err() != nil {
			k.t.Fatal(set.Err())
		}
	}
	return out
}

// await gives the rollups once there are n values.
func (k *killable) await(n int) map[string]uint64 {
	k.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		got := k.rollups()
		if len(got) == n {
			return got
		}
		if time.Now().After(deadline) {
			k.t.Fatalf("%d values after a minute, want %d", len(got), n)
		}
		k.now.Add(100) // what is read from the store waits for others a while
	}
}

// sameDisturbed holds what runs that are disturbed give against what one gives that is
// not, and is called so.
func sameDisturbed(t *testing.T, called string, run func(t *testing.T, disturb *rand.Rand) map[string]uint64) {
	t.Helper()
	want := run(t, nil)
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			got := run(t, rand.New(rand.NewPCG(seed, 7)))
			for key, v := range want {
				if got[key] != v {
					t.Errorf("%s: %v, %s %v", key, math.Float64frombits(got[key]), called, math.Float64frombits(v))
				}
			}
		})
	}
}

// Every batch sent twice, in any order, with kills in mid-interval, gives the
// sums of an undisturbed run, to the last bit.
func TestRollupsOfAKilledServerAreThoseOfAnUndisturbedOne(t *testing.T) {
	const intervals, pods = 12, 6
	batches := func() (out []batch) {
		r := rand.New(rand.NewPCG(1, 2))
		for n := range intervals {
			at := t0.Add(time.Duration(n) * step)
			for node := range 4 {
				var ss []sample
				if node == 0 {
					ss = append(ss, smp(16, at, "__name__", catalogue.ClusterCPUTotal))
				}
				for p := range pods {
					ss = append(ss, podSeries(at, fmt.Sprint("w", p%2), fmt.Sprint("n", node, "-", p), r.Float64())...)
				}
				out = append(out, batch{sender: fmt.Sprint("node/n", node), at: at, body: bodyV2(t, ss...)})
			}
		}
		return out
	}()
	run := func(t *testing.T, disturb *rand.Rand) map[string]uint64 {
		k := &killable{t: t, dir: t.TempDir()}
		// Until the first kill it sums as samples pass, since it was there before them.
		k.now.Store(t0.Add(-10 * time.Minute).UnixMilli())
		k.start()
		// History: an interval waits for all four.
		k.now.Store(t0.Add(time.Hour).UnixMilli())
		defer func() { k.end() }()
		for _, b := range batches[:4] { // all are known
			k.send(b)
		}
		rest := append([]batch{}, batches[4:]...)
		if disturb != nil {
			rest = append(rest, rest...)
			disturb.Shuffle(len(rest), func(a, b int) { rest[a], rest[b] = rest[b], rest[a] })
		}
		for n, b := range rest {
			k.send(b)
			if disturb != nil && (n == len(rest)/2 || disturb.IntN(25) == 0) {
				k.kill()
			}
		}
		return k.await(intervals * (2 + 1 + 1))
	}
	sameDisturbed(t, "undisturbed", run)
}

// A backlog of which each request has several intervals, not the same of each node, gives
// the sums of one interval after the other, whatever of it the server was killed after.
func TestRollupsOfIntervalsThatComeTogetherOutliveKills(t *testing.T) {
	const intervals, pods = 30, 6
	samples := func(node, n int) (ss []sample) {
		r, at := rand.New(rand.NewPCG(uint64(node), uint64(n))), t0.Add(time.Duration(n)*step)
		if node == 0 {
			ss = append(ss, smp(16, at, "__name__", catalogue.ClusterCPUTotal))
		}
		for p := range pods {
			ss = append(ss, podSeries(at, fmt.Sprint("w", p%2), fmt.Sprint("n", node, "-", p), r.Float64())...)
		}
		return ss
	}
	request := func(node, from, to int) batch {
		b := batch{sender: fmt.Sprint("node/n", node), at: t0.Add(time.Duration(to-1) * step), earlier: []time.Time{}}
		var ss []sample
		for n := from; n < to; n++ {
			ss = append(ss, samples(node, n)...)
			if n < to-1 {
				b.earlier = append(b.earlier, t0.Add(time.Duration(n)*step))
			}
		}
		b.body = bodyV2(t, ss...)
		return b
	}
	run := func(t *testing.T, disturb *rand.Rand) map[string]uint64 {
		k := &killable{t: t, dir: t.TempDir()}
		k.now.Store(t0.Add(-10 * time.Minute).UnixMilli())
		k.start()
		defer func() { k.end() }()
		k.now.Store(t0.UnixMilli())
		for node := range 4 { // all are known
			k.send(request(node, 0, 1))
		}
		k.now.Store(t0.Add(time.Hour).UnixMilli())
		next := [4]int{1, 1, 1, 1}
		for next != [4]int{intervals, intervals, intervals, intervals} {
			node := slices.Index(next[:], slices.Min(next[:]))
			to := next[node] + 1
			if disturb != nil {
				if node = disturb.IntN(4); next[node] == intervals {
					continue
				}
				to = min(intervals, next[node]+1+disturb.IntN(8))
			}
			one := request(node, next[node], to)
			k.send(one)
			if disturb != nil && disturb.IntN(6) == 0 {
				k.kill()
				if disturb.IntN(2) == 0 { // the answer was lost
					k.send(one)
				}
			}
			next[node] = to
		}
		return k.await(intervals * (2 + 1 + 1))
	}
	sameDisturbed(t, "one by one", run)
}
