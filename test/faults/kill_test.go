package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gogo/protobuf/proto"
	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/labels"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
	"github.com/crowsnest-dev/crowsnest/storage/ingest"
	"github.com/crowsnest-dev/crowsnest/storage/metrics"
	"github.com/crowsnest-dev/crowsnest/storage/rollup"
)

// The test's own program is the server too, when it is told so.
const (
	envServe  = "CROWSNEST_FAULTS_SERVE"   // the store's folder
	envRounds = "CROWSNEST_FAULTS_ROUNDS"  // kills; default 3
	envSeries = "CROWSNEST_FAULTS_SERIES"  // default 2,000
	envTmpfs  = "CROWSNEST_FAULTS_MINFREE" // MinFreeBytes of the server
	envCheck  = "CROWSNEST_FAULTS_CHECK"   // CheckEvery of the server; default 100ms
	envBlock  = "CROWSNEST_FAULTS_BLOCK"   // BlockRange of the server; default the store's own
	envSums   = "CROWSNEST_FAULTS_SUMS"    // folder of aggregates: the server makes them, and knows its nodes
	envClock  = "CROWSNEST_FAULTS_CLOCK"   // what the server's clock begins with, Unix milliseconds; default base

	// clockHeader carries the server's clock, so that hours pass in seconds.
	clockHeader = "X-Test-Clock"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(envServe); dir != "" {
		if err := serve(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	for env, run := range map[string]func(dir, address string) error{envLogServe: serveLogs, envLogFollow: followLogs, envReplica: followPods} {
		if dir := os.Getenv(env); dir != "" {
			if err := run(dir, os.Getenv(envLogAddress)); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			return
		}
	}
	os.Exit(m.Run())
}

// serve runs store, ingest and rollups as the server does, and prints its
// address once it takes writes.
func serve(dir string) error {
	var clock atomic.Int64
	clock.Store(int64(number(envClock, int(base.UnixMilli()))))
	now := func() time.Time { return time.UnixMilli(clock.Load()) }
	minFree, _ := strconv.ParseUint(os.Getenv(envTmpfs), 10, 64)
	check, err := time.ParseDuration(os.Getenv(envCheck))
	if err != nil {
		check = 100 * time.Millisecond
	}
	block, _ := time.ParseDuration(os.Getenv(envBlock)) // 0 is the default
	db, err := metrics.Open(metrics.Options{
		Dir: dir, BlockRange: block, OutOfOrderLogBytes: 256 << 10, CheckEvery: check, MinFreeBytes: max(minFree, 1),
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		return err
	}
	var expected rollup.Expected
	if sums := os.Getenv(envSums); sums != "" {
		expected = fourNodes{}
		agg, err := openAggregates(sums, db, now)
		if err != nil {
			return err
		}
		defer func() { _ = agg.Close() }()
	}
	rollups, err := rollup.New(rollup.Options{Store: db, Expected: expected, Now: now})
	if err != nil {
		return err
	}
	in, err := ingest.New(ingest.Options{Store: db, Rollups: rollups, Now: now})
	if err != nil {
		return err
	}
	ctx := context.Background()
	go func() { _ = rollups.Run(ctx) }()
	go func() { _ = in.Run(ctx) }()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			n, err := count(db)
			if r.URL.Path == rollupsPath {
				n, err = countRollups(db)
			}
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			fmt.Fprintln(w, n)
			return
		}
		if ms, err := strconv.ParseInt(r.Header.Get(clockHeader), 10, 64); err == nil && ms > clock.Load() {
			clock.Store(ms)
		}
		in.ServeWrite(w, r, "prod")
	}))
}

var base = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

// server is a process of its own.
type server struct {
	url string
	cmd *exec.Cmd
	log *bytes.Buffer
}

func start(t *testing.T, dir string, env ...string) *server {
	t.Helper()
	s := &server{cmd: exec.Command(os.Args[0]), log: &bytes.Buffer{}}
	s.cmd.Env = append(append(os.Environ(), envServe+"="+dir), env...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	s.cmd.Stderr = s.log
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var addr string
	if _, err := fmt.Fscanln(out, &addr); err != nil {
		s.kill()
		t.Fatalf("the server did not start: %v\n%s", err, s.log)
	}
	s.url = "http://" + addr
	return s
}

func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// batch is 500 series at one time. Their values follow from series and time.
type batch struct {
	sender, series int // the sender's number, the first series
	at             time.Time
}

const perBatch = 500

func value(series int, at time.Time) float64 {
	return float64(series) + float64(at.UnixMilli()/1000%100_000)/1024
}

// workload of a series; each has pods on all nodes.
func workload(series int) string { return fmt.Sprint("w", series%7) }

func (b batch) body() []byte {
	st := writev2.NewSymbolTable()
	req := &writev2.Request{}
	for n := range perBatch {
		lset := labels.FromStrings(labels.MetricName, catalogue.PodCPU, "namespace", "shop", "workload_type", "deployment", "workload",
			workload(b.series+n), "pod", fmt.Sprint("pod-", b.series+n), "node", fmt.Sprint("n", b.sender), "n", fmt.Sprint(b.series+n))
		req.Timeseries = append(req.Timeseries, writev2.TimeSeries{
			LabelsRefs: st.SymbolizeLabels(lset, nil), Samples: []writev2.Sample{{Value: value(b.series+n, b.at), Timestamp: b.at.UnixMilli()}},
		})
	}
	req.Symbols = st.Symbols()
	raw, err := proto.Marshal(req)
	if err != nil {
		panic(err)
	}
	return snappy.Encode(nil, raw)
}

// send gives the status, or an error when there was no answer.
func send(ctx context.Context, url string, b batch, clock time.Time, word bool) (int, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(b.body()))
	if err != nil {
		return 0, err
	}
	r.Header.Set("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request")
	r.Header.Set(clockHeader, strconv.FormatInt(clock.UnixMilli(), 10))
	if word {
		r.Header.Set(wire.HeaderSender, fmt.Sprint("node/n", b.sender))
		r.Header.Set(wire.HeaderInterval, "60")
		r.Header.Set(wire.HeaderComplete, wire.FormatMillis(b.at))
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	if resp.StatusCode/100 != 2 {
		return resp.StatusCode, errors.New(string(text))
	}
	return resp.StatusCode, nil
}

func number(name string, def int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
		return n
	}
	return def
}

// A server is killed again and again while four senders write, fast enough that
// hours pass and blocks are cut, compacted and swapped. Every fifth batch comes late,
// some at once with many others, and in every other round senders run away from
// each other, so that whoever is behind is out of order altogether. Whatever was
// acknowledged is there in the end, with its value.
func TestKilledServerKeepsWhatItAcknowledged(t *testing.T) {
	rounds, series := number(envRounds, 3), number(envSeries, 2_000)
	dir := filepath.Join(t.TempDir(), "metrics")
	var (
		mu    sync.Mutex
		acked = map[batch]struct{}{}
		r     = rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	)
	const senders = 4
	const every = 6 * time.Minute
	mine := max(1, series/senders/perBatch) // batches of a sender, each of its own series
	var step [senders]atomic.Int64          // of each sender's time, by every
	slow := func() int64 {
		least := step[0].Load()
		for n := range step {
			least = min(least, step[n].Load())
		}
		return least
	}
	var slowest time.Duration
	for round := range rounds {
		began := time.Now()
		s := start(t, dir)
		slowest = max(slowest, time.Since(began))
		if round%10 == 9 { // what is late would only grow with servers that live for seconds
			awaitBlocks(t, s, dir)
			s.kill()
			t.Logf("%d kills, %d batches acknowledged, slowest start %v", round+1, len(acked), slowest)
			continue
		}
		ctx, cancel := context.WithCancel(context.Background())
		ahead := int64(5) // steps: who is further behind has samples out of order
		if round%2 == 1 {
			ahead = 60
		}
		var wg sync.WaitGroup
		for n := range senders {
			wg.Go(func() {
				for ctx.Err() == nil {
					now := step[n].Load()
					if now >= slow()+ahead {
						runtime.Gosched()
						continue
					}
					at := base.Add(time.Duration(now) * every)
					for p := range mine {
						b := batch{n, (n*mine + p) * perBatch, at}
						old := []time.Duration{0}
						switch now % 25 {
						case 4, 9, 14, 19: // from the queue
							old = []time.Duration{-20*time.Hour + 30*time.Second}
						case 24: // a backlog, of which the store makes a chunk for each series
							old = old[:0]
							for k := range 40 {
								old = append(old, -30*time.Hour+time.Duration(7*k+1)*time.Second)
							}
						}
						for _, d := range old {
							b.at = at.Add(d)
							mu.Lock()
							_, has := acked[b]
							mu.Unlock()
							if has { // a step may take longer than a server lives
								continue
							}
							// One that was not acknowledged is sent again after the kill, as queues do.
							if _, err := send(ctx, s.url, b, at, p == mine-1 && d == 0); err != nil {
								return
							}
							mu.Lock()
							acked[b] = struct{}{}
							mu.Unlock()
						}
					}
					step[n].Add(1)
				}
			})
		}
		wait := time.Duration(300+r.IntN(900)) * time.Millisecond * time.Duration(max(1, series/10_000))
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-t.Context().Done():
		}
		some := func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(acked) > 0
		}
		for deadline := time.Now().Add(30 * time.Second); !some() && time.Now().Before(deadline); { // a busy machine
			time.Sleep(10 * time.Millisecond)
		}
		s.kill()
		cancel()
		wg.Wait()
		if len(acked) == 0 {
			t.Fatalf("nothing was acknowledged\n%s", s.log)
		}
		if text := s.log.String(); strings.Contains(text, "panic") {
			t.Fatalf("round %d: %s", round, text)
		}
	}
	db, err := metrics.Open(metrics.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	// A kill in the middle of a write leaves a torn end of the log, which is kept
	// and told; what was acknowledged lies before it, as the counting shows. A
	// block is never torn: it has its name only once it is whole.
	torn, blocked := 0, []string(nil)
	for _, name := range db.Quarantined() {
		if strings.HasPrefix(name, "logs.") {
			torn++
		} else {
			blocked = append(blocked, name)
		}
	}
	if err := db.Verify(context.Background()); err != nil || len(blocked) != 0 || torn > rounds {
		t.Errorf("after %d kills: %v, damaged blocks %v, %d torn logs", rounds, err, blocked, torn)
	}
	kept, wrong, missing, blocks := map[batch]int{}, 0, 0, 0
	err = all(db, func(series int, at time.Time, v float64) {
		first := series - series%perBatch
		b := batch{first / perBatch / mine, first, at}
		if kept[b]++; v != value(series, at) {
			wrong++
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for b := range acked {
		missing += perBatch - kept[b]
	}
	if metas, err := db.BlockMetas(); err == nil {
		blocks = len(metas)
	}
	t.Logf("%d kills, %d torn logs, %d samples acknowledged, %d missing, %d blocks, up to %v of data time, slowest start %v", rounds, torn, len(acked)*perBatch, missing, blocks,
		time.Duration(step[0].Load())*every, slowest.Round(time.Millisecond))
	if missing+wrong > 0 {
		t.Errorf("%d acknowledged samples are missing, %d have another value", missing, wrong)
	}
}

// awaitBlocks waits until a server that is sent nothing has made blocks of what came late.
func awaitBlocks(t *testing.T, s *server, dir string) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		segments, err := os.ReadDir(filepath.Join(dir, "wbl"))
		if err == nil && len(segments) <= 1 {
			return
		}
		if time.Now().After(deadline) {
			s.kill()
			t.Fatalf("%d segments of what came late after 15 minutes of rest: %v\n%s", len(segments), err, s.log)
		}
	}
}

// all calls do for every sample that the store has.
func all(db *metrics.DB, do func(series int, at time.Time, v float64)) error {
	q, err := db.Querier(math.MinInt64, math.MaxInt64)
	if err != nil {
		return err
	}
	defer func() { _ = q.Close() }()
	set := q.Select(context.Background(), false, nil, labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, catalogue.PodCPU))
	var it chunkenc.Iterator
	for set.Next() {
		s := set.At()
		n, err := strconv.Atoi(s.Labels().Get("n"))
		if err != nil {
			return err
		}
		for it = s.Iterator(it); it.Next() != chunkenc.ValNone; {
			at, v := it.At()
			do(n, time.UnixMilli(at).UTC(), v)
		}
		if it.Err() != nil {
			return it.Err()
		}
	}
	return set.Err()
}

func count(db *metrics.DB) (n int, err error) {
	err = all(db, func(int, time.Time, float64) { n++ })
	return n, err
}
