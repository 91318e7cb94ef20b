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
	"slices"
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
	envStale  = "CROWSNEST_FAULTS_STALE"   // StaleSeries of the server, whose store goes by its clock then; default the store's own
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
	o := metrics.Options{
		Dir: dir, BlockRange: block, OutOfOrderLogBytes: 256 << 10, CheckEvery: check, MinFreeBytes: max(minFree, 1),
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}
	if stale := number(envStale, 0); stale > 0 {
		o.StaleSeries, o.Now = uint64(stale), now // by the system's clock a backlog goes on for as long as the server lives
	}
	db, err := metrics.Open(o)
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
			since, _ := strconv.ParseInt(r.URL.Query().Get(sinceParam), 10, 64) // 0 is all
			n, err := count(db, since)
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
	log *said
}

func start(t *testing.T, dir string, env ...string) *server {
	t.Helper()
	s, err := begin(t, dir, env...)
	if err != nil {
		t.Fatalf("the server did not start: %v\n%s", err, s.log)
	}
	return s
}

// begin gives one that has ended where it does not start.
func begin(t *testing.T, dir string, env ...string) (*server, error) {
	t.Helper()
	s := &server{cmd: exec.Command(os.Args[0]), log: &said{}}
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
		return s, err
	}
	s.url = "http://" + addr
	return s, nil
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

// sample gives the value that a series has at a time, if it has one.
type sample func(series int, at time.Time) (v float64, there bool)

func always(series int, at time.Time) (float64, bool) { return value(series, at), true }

func (b batch) body(what sample) []byte {
	st := writev2.NewSymbolTable()
	req := &writev2.Request{}
	for n := range perBatch {
		v, there := what(b.series+n, b.at)
		if !there {
			continue
		}
		lset := labels.FromStrings(labels.MetricName, catalogue.PodCPU, "namespace", "shop", "workload_type", "deployment", "workload",
			workload(b.series+n), "pod", fmt.Sprint("pod-", b.series+n), "node", fmt.Sprint("n", b.sender), "n", fmt.Sprint(b.series+n))
		req.Timeseries = append(req.Timeseries, writev2.TimeSeries{
			LabelsRefs: st.SymbolizeLabels(lset, nil), Samples: []writev2.Sample{{Value: v, Timestamp: b.at.UnixMilli()}},
		})
	}
	req.Symbols = st.Symbols()
	raw, err := proto.Marshal(req)
	if err != nil {
		panic(err)
	}
	return snappy.Encode(nil, raw)
}

// send sends all series of a batch. It gives the status, or an error when there was no answer.
func send(ctx context.Context, url string, b batch, clock time.Time, word bool) (int, error) {
	return sendSome(ctx, url, b, always, clock, word)
}

func sendSome(ctx context.Context, url string, b batch, what sample, clock time.Time, word bool) (int, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(b.body(what)))
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
// each other, so that whoever is behind is out of order altogether. More than half of
// the series come and go, and leave the head once they have ended; in every third round
// the kill awaits that. Readers find all the while what was acknowledged before, and
// in the end all of it is there, with its value.
func TestKilledServerKeepsWhatItAcknowledged(t *testing.T) {
	rounds, series := number(envRounds, 3), number(envSeries, 2_000)
	dir := filepath.Join(t.TempDir(), "metrics")
	var (
		acked = &acknowledged{batches: map[batch]int{}}
		r     = rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
		left  leaving
		held  memory
	)
	const senders = 4
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
		s := start(t, dir, envBlock+"="+blockRange.String(), envStale+"="+strconv.Itoa(series/20))
		slowest = max(slowest, time.Since(began))
		held.started(t, s)
		if round%10 == 9 { // what is late would only grow with servers that live for seconds
			awaitBlocks(t, s, dir)
			held.killed(t, s)
			t.Logf("%d kills, %d samples acknowledged, %v, slowest start %v", round+1, acked.samples(), left, slowest)
			continue
		}
		ctx, cancel := context.WithCancel(context.Background())
		ahead, pace := int64(5), time.Duration(0) // steps: who is further behind has samples out of order
		awaited := round%3 == 0
		switch {
		case awaited:
			pace = 500 * time.Millisecond // or the head is due all the time
		case round%2 == 1:
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
						case 4: // from the queue
							old = []time.Duration{-20*time.Hour + 30*time.Second}
						case 9, 14, 19: // where the store has few empty blocks to write between these and the newest
							old = []time.Duration{-3*time.Hour + 30*time.Second}
						case 24: // a backlog, of which the store makes a chunk for each series
							old = old[:0]
							for k := range 40 {
								old = append(old, -5*time.Hour+time.Duration(7*k+1)*time.Second)
							}
						}
						for _, d := range old {
							b.at = at.Add(d)
							if acked.has(b) { // a step may take longer than a server lives
								continue
							}
							// One that was not acknowledged is sent again after the kill, as queues do.
							if _, err := sendSome(ctx, s.url, b, comesAndGoes, at, p == mine-1 && d == 0); err != nil {
								return
							}
							acked.add(b)
						}
					}
					step[n].Add(1)
					pause(ctx, pace)
				}
			})
		}
		for range 2 {
			wg.Go(func() {
				for ctx.Err() == nil {
					began := time.Now()
					if err := acked.findAll(ctx, s.url, base.Add(time.Duration(slow())*every-time.Hour)); err != nil {
						t.Errorf("round %d: %v", round, err)
						return
					}
					pause(ctx, 2*time.Since(began)) // there are moments at which nobody reads
				}
			})
		}
		size := time.Duration(max(1, series/10_000))
		pause(t.Context(), time.Duration(300+r.IntN(900))*time.Millisecond*size)
		if awaited && left.await(t.Context(), s, max(r.IntN(3), 1-round), max(time.Minute, 2*time.Second*size)) {
			pause(t.Context(), time.Duration(r.IntN(100))*time.Millisecond*size)
		}
		for deadline := time.Now().Add(30 * time.Second); acked.samples() == 0 && time.Now().Before(deadline); { // a busy machine
			time.Sleep(10 * time.Millisecond)
		}
		held.killed(t, s)
		cancel()
		wg.Wait()
		left.count(s)
		if acked.samples() == 0 {
			t.Fatalf("nothing was acknowledged\n%s", s.log)
		}
		if text := s.log.String(); strings.Contains(text, "panic") {
			t.Fatalf("round %d: %s", round, text)
		}
	}
	db, err := metrics.Open(metrics.Options{Dir: dir, BlockRange: blockRange})
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
	kept, wrong, missing, blocks, ends := map[batch]int{}, 0, 0, 0, 0
	err = all(db, math.MinInt64, func(series int, at time.Time, v float64) {
		first := series - series%perBatch
		b := batch{first / perBatch / mine, first, at}
		kept[b]++
		if want, there := comesAndGoes(series, at); !there || math.Float64bits(v) != math.Float64bits(want) {
			wrong++
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for b, n := range acked.batches {
		missing += max(0, n-kept[b])
		_, ended := b.count()
		ends += ended
	}
	if metas, err := db.BlockMetas(); err == nil {
		blocks = len(metas)
	}
	t.Logf("%d kills, %d torn logs, %d samples acknowledged, %d of them staleness markers, %d missing, %d blocks, up to %v of data time, %v, slowest start %v, %v", rounds, torn, acked.samples(), ends, missing, blocks,
		time.Duration(step[0].Load())*every, left, slowest.Round(time.Millisecond), held)
	if missing+wrong > 0 {
		t.Errorf("%d acknowledged samples are missing, %d have another value", missing, wrong)
	}
	if left.times == 0 {
		t.Error("no series left the head before it was due")
	}
}

// awaitBlocks waits until a server that is sent nothing has made blocks of what came late.
func awaitBlocks(t *testing.T, s *server, dir string) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		segments, err := os.ReadDir(filepath.Join(dir, "wbl"))
		if err == nil && !slices.ContainsFunc(segments, func(e os.DirEntry) bool {
			info, err := e.Info() // one that is gone has nothing
			return err == nil && info.Size() > 0
		}) {
			return
		}
		if time.Now().After(deadline) {
			s.kill()
			t.Fatalf("%d segments of what came late after 15 minutes of rest: %v\n%s", len(segments), err, s.log)
		}
	}
}

// all calls do for every sample that the store has since then, Unix milliseconds.
func all(db *metrics.DB, since int64, do func(series int, at time.Time, v float64)) error {
	q, err := db.Querier(since, math.MaxInt64)
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

func count(db *metrics.DB, since int64) (n int, err error) {
	err = all(db, since, func(int, time.Time, float64) { n++ })
	return n, err
}
