package logs

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// The durability test kills a real process, this test binary started again with
// writerEnv set, while several senders append, and then looks for every line
// that was acknowledged. The senders here play collectors: a batch that was not
// acknowledged is sent again, with the same id, to the next process.
const writerEnv = "CROWSNEST_LOGS_WRITER_DIR"

// load is how hard a writer works.
type load struct {
	senders, lines int // lines per batch
	padding        int // bytes added to each line
	interval       time.Duration
	rounds         int
	untimed        bool          // the lines have the time of their coming
	from           time.Duration // after the day's start that the lines begin; noon of yesterday when 0
}

var loads = map[string]load{
	"many commits": {senders: 4, lines: 300, interval: 100 * time.Millisecond, rounds: 5},
	// Batches of two days come by turns, and those that a kill cut are on both sides of
	// midnight; some senders are a day further behind.
	"backlog over midnight": {senders: 4, lines: 90, interval: 100 * time.Millisecond, rounds: 3, from: -2*day - 4*time.Second},
	"without times":         {senders: 4, lines: 90, interval: 100 * time.Millisecond, rounds: 3, untimed: true},
	"large batches":         {senders: 6, lines: 3000, padding: 100, interval: 500 * time.Millisecond, rounds: 2},
}

// writerBatch makes batch n of a sender. Its lines are numbered throughout. The
// lines of two senders lie in another day, so that two days are active.
func writerBatch(l load, sender, n int, start time.Time) *wire.LogBatch {
	padding := strings.Repeat("x", l.padding)
	b := &wire.LogBatch{Sender: "node/" + strconv.Itoa(sender), ID: fmt.Sprintf("%08d", n)}
	at, step := start.Add(time.Duration(n)*time.Second), time.Millisecond
	if sender%2 == 1 {
		at = at.Add(-day)
	}
	if b.Untimed = l.untimed; b.Untimed {
		at, step = time.Now(), 0 // midnight may be near
	}
	for g := range 3 {
		lg := wire.LogGroup{Stream: wire.LogStream{Namespace: "load", Pod: fmt.Sprintf("pod-%d-%d-%d", sender, g, n/10), Container: "app", Stream: "stdout"}}
		for i := range l.lines / 3 {
			seq := n*l.lines + g*l.lines/3 + i
			lg.Lines = append(lg.Lines, wire.LogLine{
				Time:    at.Add(time.Duration(i) * step).UnixNano(),
				Message: fmt.Sprintf("line %d of sender %d %x %s", seq, sender, rand.Uint64(), padding),
				Fields:  wire.FieldsOf(map[string]string{"seq": strconv.Itoa(seq), "sender": strconv.Itoa(sender)}),
			})
		}
		b.Groups = append(b.Groups, lg)
	}
	return b
}

// writerMain is the process that gets killed. It reads "SENDER NEXT" lines, one
// per sender, and prints "ack SENDER N" after each acknowledged batch.
func writerMain() int {
	l := loads[os.Getenv(writerEnv+"_LOAD")]
	s, err := Open(Options{Dir: os.Getenv(writerEnv), CommitInterval: l.interval, MinFreeBytes: 1 << 20})
	if err != nil {
		fmt.Println("error", err)
		return 1
	}
	startNanos, _ := strconv.ParseInt(os.Getenv(writerEnv+"_START"), 10, 64)
	start := time.Unix(0, startNanos).UTC()
	var out sync.Mutex
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var sender, next int
		if _, err := fmt.Sscan(in.Text(), &sender, &next); err != nil {
			return 1
		}
		go func() {
			for n := next; ; n++ {
				if err := s.Append(context.Background(), "load", writerBatch(l, sender, n, start)); err != nil {
					fmt.Println("error", err)
					os.Exit(1)
				}
				out.Lock()
				fmt.Println("ack", sender, n)
				out.Unlock()
			}
		}()
	}
	select {} // until the kill
}

func TestAcknowledgedLinesSurviveKill(t *testing.T) {
	if testing.Short() {
		t.Skip("starts and kills processes")
	}
	for name, l := range loads {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			start := dayStart()
			if l.from != 0 {
				start = time.Now().UTC().Truncate(day).Add(l.from)
			}
			next := make([]int, l.senders) // the first batch that was not acknowledged
			for round := range l.rounds {
				killRound(t, name, dir, start, next, time.Duration(300+rand.IntN(900))*time.Millisecond)
				s := open(t, dir)
				// Each sender sends again what it got no answer for, and what it got one
				// for: a lost reply looks the same to it.
				for sender := range l.senders {
					for n := max(0, next[sender]-2); n <= next[sender]; n++ {
						appendOK(t, s, "load", writerBatch(l, sender, n, start))
					}
					next[sender]++
				}
				for sender := range l.senders {
					checkLines(t, s, l, round, sender, next[sender])
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
			t.Logf("acknowledged batches per sender after %d kills: %v", l.rounds, next)
		})
	}
}

// killRound lets a process append for a while after its first acknowledgement
// and kills it. It advances next by what was acknowledged.
func killRound(t *testing.T, name, dir string, start time.Time, next []int, run time.Duration) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), writerEnv+"="+dir, writerEnv+"_LOAD="+name, fmt.Sprintf("%s_START=%d", writerEnv, start.UnixNano()))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for sender, n := range next {
		fmt.Fprintln(in, sender, n)
	}
	var once sync.Once
	killed := false
	scan := bufio.NewScanner(out)
	timer := time.AfterFunc(60*time.Second, func() { once.Do(func() { _ = cmd.Process.Kill() }) })
	defer timer.Stop()
	for scan.Scan() {
		var sender, n int
		if _, err := fmt.Sscanf(scan.Text(), "ack %d %d", &sender, &n); err != nil {
			t.Errorf("the writer said %q", scan.Text())
			continue
		}
		if !killed {
			killed = true
			time.AfterFunc(run, func() { once.Do(func() { _ = cmd.Process.Kill() }) }) // SIGKILL
		}
		if n != next[sender] {
			t.Errorf("sender %d: acknowledgement of %d, want %d", sender, n, next[sender])
		}
		next[sender] = n + 1
	}
	_, _ = io.Copy(io.Discard, out)
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("the writer was to be killed, but: %v", err)
	}
	if !killed {
		t.Fatal("nothing was acknowledged within a minute")
	}
}

// checkLines wants each line of the batches before next exactly once, found by
// its stream, and nothing of later ones but whole batches.
func checkLines(t *testing.T, s *Store, l load, round, sender, next int) {
	t.Helper()
	seen := map[int]int{}
	for _, r := range rows(t, s, Query{Text: fmt.Sprintf(`{namespace="load"} sender:=%d | fields seq`, sender)}) {
		seq, err := strconv.Atoi(r.Get("seq"))
		if err != nil {
			t.Fatal(err)
		}
		seen[seq]++
	}
	lost, doubled := 0, 0
	for seq := range next * l.lines {
		if seen[seq] == 0 {
			lost++
		}
	}
	for _, n := range seen {
		if n > 1 {
			doubled++
		}
	}
	if lost != 0 || doubled != 0 || len(seen)%l.lines != 0 {
		t.Errorf("round %d, sender %d: of %d acknowledged lines %d are lost and %d doubled; %d found", round, sender, next*l.lines, lost, doubled, len(seen))
	}
}

// The figures by which a commit decides are what durability rests on.
func TestWhatIsInMemoryIsSeen(t *testing.T) {
	s := open(t, t.TempDir(), func(o *Options) { o.CommitInterval = time.Hour })
	if !s.nothingInMemory() {
		t.Fatal("an empty store has something in memory")
	}
	days := map[string]struct{}{}
	for n := range 2 { // of two days, since the library sums some figures over days and overwrites others
		to := s.rows()
		b := writerBatch(load{lines: 30}, n, 0, dayStart())
		k := s.keeps("a")
		oldest, newest, _ := k.span(b)
		s.fill(to, "a", b, k, oldest, newest)
		s.lib.MustAddRows(to.lib)
		s.release(to)
		days[partitionOf(newest)] = struct{}{}
	}
	if s.nothingInMemory() {
		t.Error("pending rows are not seen")
	}
	s.lib.DebugFlush()
	if s.nothingInMemory() {
		t.Error("rows in memory parts are not seen")
	}
	if s.indexInFiles() {
		t.Error("streams in memory are not seen")
	}
	for d := range days { // one day after the other
		if s.nothingInMemory() {
			t.Errorf("day %s is not seen", d)
		}
		s.flushToFiles(map[string]struct{}{d: {}})
	}
	if !s.nothingInMemory() || !s.indexInFiles() {
		t.Error("after the flush there is still something in memory")
	}
	if left, err := filepath.Glob(filepath.Join(s.opts.Dir, partitionsDir, "*", snapshotsDir, "*")); err != nil || len(left) != 0 {
		t.Errorf("snapshots are left: %v, %v", left, err)
	}
}

// rowsInFiles adds up the rows of the parts that are listed as whole: what a
// kill at this moment would leave.
func rowsInFiles(t *testing.T, dir string) (rows int64) {
	t.Helper()
again:
	rows = 0
	lists, err := filepath.Glob(filepath.Join(dir, partitionsDir, "*", datadbDir, partsFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range lists {
		names, err := readParts(filepath.Dir(list))
		if err != nil {
			goto again // it is being replaced
		}
		for _, name := range names {
			var header struct{ RowsCount int64 }
			if readJSON(filepath.Join(filepath.Dir(list), name, metadataFile), &header) != nil {
				goto again // merged into another one since the list was read
			}
			rows += header.RowsCount
		}
	}
	return rows
}

// A kill shows what is lost at one moment; this looks into the files after each
// acknowledgement, while many parts come and are merged in memory.
func TestAcknowledgedLinesAreInFiles(t *testing.T) {
	s := open(t, t.TempDir(), func(o *Options) { o.CommitInterval = 50 * time.Millisecond })
	l := load{senders: 16, lines: 3000, padding: 100}
	const batches = 4
	var acknowledged atomic.Int64
	var wg sync.WaitGroup
	flushed := make(chan struct{})
	done := make(chan struct{})
	go func() { // as many parts as under ten times the load
		defer close(flushed)
		for {
			select {
			case <-done:
				return
			default:
				s.lib.DebugFlush()
			}
		}
	}()
	for sender := range l.senders {
		wg.Go(func() {
			for n := range batches {
				appendOK(t, s, "load", writerBatch(l, sender, n, dayStart()))
				want := acknowledged.Add(int64(l.lines))
				if got := rowsInFiles(t, s.opts.Dir); got < want {
					t.Errorf("%d lines are acknowledged, %d are in files", want, got)
				}
			}
		})
	}
	wg.Wait()
	close(done)
	<-flushed
	t.Logf("%v flushes for the commits of %v batches", testutil.ToFloat64(s.metrics.commitPasses), testutil.ToFloat64(s.metrics.batches))
}

func TestLeftoversOfACrashAreCleared(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	appendOK(t, s, "a", batch("1", dayStart(), "x"))
	paths := s.lib.PartitionSnapshotMustCreate(dayStart().Format(partitionName))
	if len(paths) != 1 {
		t.Fatalf("snapshots: %v", paths)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	if _, err := os.Stat(paths[0]); !os.IsNotExist(err) {
		t.Errorf("the snapshot is still there: %v", err)
	}
	if got := count(t, s, "a"); got != 1 {
		t.Errorf("%d lines, want 1", got)
	}
}

func BenchmarkAppend(b *testing.B) {
	reg := prometheus.NewRegistry()
	s := open(b, b.TempDir(), func(o *Options) { o.CommitInterval, o.Registerer = 500*time.Millisecond, reg })
	now := time.Now()
	const lines = 1000
	b.ReportAllocs()
	var mu sync.Mutex
	n := 0
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			mu.Lock()
			n++
			id := n
			mu.Unlock()
			msgs := make([]string, lines)
			for i := range msgs {
				msgs[i] = fmt.Sprintf("GET /api/cart/%d took %d ms, user %x", rand.IntN(1e6), rand.IntN(500), rand.Uint64())
			}
			bt := batch(strconv.Itoa(id), now.Add(time.Duration(id)*time.Millisecond), msgs...)
			bt.Sender = "node/" + strconv.Itoa(id%100)
			appendOK(b, s, "load", bt)
		}
	})
	b.ReportMetric(float64(b.N*lines)/b.Elapsed().Seconds(), "lines/s")
	families, err := reg.Gather()
	if err != nil {
		b.Fatal(err)
	}
	commits := 0.0
	for _, f := range families {
		if f.GetName() == "crowsnest_logs_commit_duration_seconds" {
			h := f.GetMetric()[0].GetHistogram()
			commits = float64(h.GetSampleCount())
			b.ReportMetric(h.GetSampleSum()/commits*1000, "ms/commit")
		}
	}
	b.ReportMetric(testutil.ToFloat64(s.metrics.commitPasses)/commits, "passes/commit")
}
