package faults

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/api/problem"
	"github.com/crowsnest-dev/crowsnest/collector/logs"
	"github.com/crowsnest-dev/crowsnest/collector/push"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
	store "github.com/crowsnest-dev/crowsnest/storage/logs"
	"github.com/crowsnest-dev/crowsnest/test/testbed"
	"github.com/klauspost/compress/zstd"
)

const (
	envLogServe   = "CROWSNEST_FAULTS_LOG_SERVE"   // the store's folder
	envLogFollow  = "CROWSNEST_FAULTS_LOG_FOLLOW"  // a folder with pods
	envLogData    = "CROWSNEST_FAULTS_LOG_DATA"    // the folder of its positions
	envLogAddress = "CROWSNEST_FAULTS_LOG_ADDRESS" // of the server, for both
	envLogFor     = "CROWSNEST_FAULTS_LOG_FOR"     // how long lines are written; default 6s
	envLogPods    = "CROWSNEST_FAULTS_LOG_PODS"    // default 10
	envLogKeep    = "CROWSNEST_FAULTS_LOG_KEEP"    // bytes that are kept of rotated files; default none
	envLogAway    = "CROWSNEST_FAULTS_LOG_AWAY"    // how long the server is away once; default 1s
	envLogAim     = "CROWSNEST_FAULTS_LOG_AIM"     // after how long at most the collector is killed once the server is there again that was away, at least a third of that; default: it is not
	envLogRotate  = "CROWSNEST_FAULTS_LOG_ROTATE"  // between two rotations of a file; default 1s
	envLogStall   = "CROWSNEST_FAULTS_LOG_STALL"   // for how long the collector is stopped at most before a kill, as a busy machine does; default 2s
)

// pathComplete is where the server says up to when it has all lines.
const pathComplete = "/complete"

// dumped is a row as the server dumps it: the pod, the message and, of lines that are told as
// lost, how many they are, from when until when, and why.
type dumped [6]string

// serveLogs is a server that takes batches, and dumps what it has.
func serveLogs(dir, address string) error {
	if err := store.Prepare(64 << 20); err != nil {
		return err
	}
	s, err := store.Open(store.Options{Dir: dir, MinFreeBytes: 1 << 20})
	if err != nil {
		return err
	}
	unpack, err := zstd.NewReader(nil)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == pathComplete {
			_ = json.NewEncoder(w).Encode(s.Watermarks("prod"))
			return
		}
		if r.Method == http.MethodGet {
			out := json.NewEncoder(w)
			err := s.Query(r.Context(), store.Query{Text: "* | fields pod, _msg, crowsnest_dropped_lines, crowsnest_dropped_from, crowsnest_dropped_until, crowsnest_dropped_reason"}, func(row store.Row) error {
				return out.Encode(dumped{row.Get("pod"), row.Get("_msg"), row.Get("crowsnest_dropped_lines"), row.Get("crowsnest_dropped_from"), row.Get("crowsnest_dropped_until"), row.Get("crowsnest_dropped_reason")})
			})
			if err != nil {
				panic(http.ErrAbortHandler) // an answer that is cut off must not look whole
			}
			return
		}
		raw, err := io.ReadAll(r.Body)
		if r.URL.Path == wire.PathLogPositions {
			var q wire.LogPositionsRequest
			var answer wire.LogPositionsResponse
			if err == nil {
				err = json.Unmarshal(raw, &q)
			}
			if err == nil {
				answer.Positions, err = s.Positions(r.Context(), "prod", q.Sources)
			}
			if err != nil {
				problem.Write(w, r, err)
				return
			}
			_ = json.NewEncoder(w).Encode(answer)
			return
		}
		if err == nil {
			raw, err = unpack.DecodeAll(raw, nil)
		}
		var b *wire.LogBatch
		if err == nil {
			b, err = wire.UnmarshalLogBatch(raw)
		}
		if err == nil {
			came := time.Now()
			err = s.Append(r.Context(), "prod", b)
			noteBatch(dir, came, b, err)
		}
		if err != nil {
			problem.Write(w, r, err)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}))
}

// noted is a batch as the server got it: by pod, the first line and the last one.
type noted struct {
	Came, Done  time.Time
	ID          string
	Lines       int
	First, Last map[string]string
	Err         string
}

// notedIn is the file of the batches that a server got; those of the one before go on in it.
func notedIn(store string) string { return store + ".batches" }

// noteBatch writes down which lines a batch has: of those that are there twice it is to be told
// who brought them.
func noteBatch(store string, came time.Time, b *wire.LogBatch, err error) {
	n := noted{Came: came, Done: time.Now(), ID: b.ID, Lines: b.Lines(), First: map[string]string{}, Last: map[string]string{}}
	if err != nil {
		n.Err = err.Error()
	}
	for _, g := range b.Groups {
		for _, l := range g.Lines {
			if strings.HasPrefix(l.Message, "line ") {
				text, _, _ := strings.Cut(l.Message[:min(len(l.Message), 40)], " of ")
				if n.Last[g.Stream.Pod] = text; n.First[g.Stream.Pod] == "" {
					n.First[g.Stream.Pod] = text
				}
			}
		}
	}
	raw, err := json.Marshal(n)
	if err != nil {
		panic("BUG: what came cannot be written as JSON: " + err.Error())
	}
	f, err := os.OpenFile(notedIn(store), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.Write(append(raw, '\n'))
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "note batch:", err)
	}
}

// brought says which batches had lines of a pod, among some.
func brought(store, pod string, from, to int) string {
	raw, _ := os.ReadFile(notedIn(store)) // without it nothing is told
	var out strings.Builder
	for line := range bytes.Lines(raw) {
		var n noted
		var first, last int
		if json.Unmarshal(line, &n) != nil || n.First[pod] == "" {
			continue
		}
		_, err := fmt.Sscanf(n.First[pod]+" "+n.Last[pod], "line %d line %d", &first, &last)
		if err == nil && first <= to && last >= from {
			fmt.Fprintf(&out, "\n  batch %s of %d lines, here from %d to %d, came at %s, done at %s %s", n.ID, n.Lines, first, last, n.Came.Format(time.StampMicro), n.Done.Format(time.StampMicro), n.Err)
		}
	}
	return out.String()
}

// followLogs is a collector of log files.
func followLogs(dir, address string) error {
	client, err := push.NewClient(push.ClientOptions{Server: "http://" + address, Sender: "node/n1"})
	if err != nil {
		return err
	}
	level := slog.LevelWarn
	if os.Getenv(envLogAim) != "" {
		level = slog.LevelInfo // which files it kept, and when
	}
	f, err := logs.NewFiles(logs.FilesOptions{
		Root: filepath.Join(dir, "pods"), Dir: os.Getenv(envLogData), Sender: "node/n1", Node: "n1", Rescan: time.Second,
		Rules: logs.Rules{Mask: logs.MaskOptions{Off: true}}, Keep: logs.Keep{After: 500 * time.Millisecond, Bytes: int64(number(envLogKeep, 0))},
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})),
	})
	if err != nil {
		return err
	}
	return f.Run(context.Background(), client)
}

// child is this program in another role.
type child struct {
	env []string
	cmd *exec.Cmd
	log bytes.Buffer
}

func (c *child) start(t *testing.T) {
	t.Helper()
	c.cmd = exec.Command(os.Args[0])
	c.cmd.Env = append(os.Environ(), c.env...)
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	c.cmd.Stderr = &c.log
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

func (c *child) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := c.cmd.Process.Signal(s); err != nil {
		t.Error(err)
	}
}

func (c *child) kill() {
	if c.cmd != nil {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
	}
}

// writer writes numbered lines as one container does, and rotates them.
type writer struct {
	dir     string
	pod     string
	kind    int
	next    int // number of the next line
	rotated int
	file    *os.File
	old     *os.File               // still written to, though its name is gone
	let     time.Time              // when its name went
	every   time.Duration          // between two writes
	times   []time.Time            // of the lines
	stored  atomic.Bool            // the server has some of its lines
	begun   *atomic.Bool           // it has some of each writer's: rotation takes nothing before
	first   int                    // how often it had rotated by then
	slow    int                    // writes that took as long as a record waits for its next line
	stays   bool                   // nothing that was rotated is removed
	seen    func(path string) bool // says whether the collector has a file open, or none runs
}

// Kinds of writers.
const (
	renames    = iota // as the kubelet rotates: renamed, compressed, removed
	truncates         // copied, then cut to nothing
	longLines         // of 1 MB, in parts as the runtime cuts them
	garbage           // between them bytes that no format knows, and empty files
	traces            // each with frames of Java below it
	longTraces        // each with as many frames as no record takes
	deletes           // the file is removed, and written to for a moment yet
)

// kindNames are those of the kinds.
var kindNames = [...]string{"renamed", "truncated", "long lines", "garbage", "traces", "long traces", "deleted"}

// Kinds whose lines can be read after a kill, and all.
var (
	rotating = []int{renames, truncates, longLines, garbage, traces, longTraces}
	kinds    = append(slices.Clone(rotating), deletes)
)

const (
	keepRotated = 40 // more than go while a collector is away
	longBytes   = 1 << 20
	// lateWrite is after how long at most a file is written to whose name is gone: less
	// than a collector waits for, as a writer on a busy machine may be held up itself.
	lateWrite  = 500 * time.Millisecond
	frames     = 400
	longFrames = 64 << 10
	// recordLines are those of a record at most, recordHold is how long it waits for its next one.
	recordLines = 1000
	recordHold  = 500 * time.Millisecond
)

func criAt(at time.Time, tag, text string) string {
	return at.UTC().Format("2006-01-02T15:04:05.000000000Z07:00") + " stdout " + tag + " " + text + "\n"
}

// framesOf says how many frames each line of a kind has.
func framesOf(kind int) int {
	switch kind {
	case traces:
		return frames
	case longTraces:
		return longFrames
	}
	return 0
}

func (w *writer) write(r *rand.Rand) error {
	var b strings.Builder
	for range 1 + r.IntN(20) {
		at := time.Now()
		w.times = append(w.times, at)
		text := fmt.Sprintf("line %d of %s", w.next, w.pod)
		switch w.kind {
		case longLines:
			text += " " + strings.Repeat("x", longBytes)
			for len(text) > 16<<10 {
				b.WriteString(criAt(at, "P", text[:16<<10]))
				text = text[16<<10:]
			}
			b.WriteString(criAt(at, "F", text))
			w.next++
			_, err := w.file.WriteString(b.String())
			return err
		case garbage:
			b.WriteString(criAt(at, "F", text))
			b.WriteString("\x00\x01\xff\xfe not a line of any format \x80\n\n")
		case traces, longTraces:
			b.WriteString(criAt(at, "F", text+": java.lang.IllegalStateException"))
			for n := range framesOf(w.kind) {
				b.WriteString(criAt(at, "F", fmt.Sprintf("\tat com.shop.Frame%d.call(Frame.java:%d)", n, n)))
			}
		default:
			b.WriteString(criAt(at, "F", text))
		}
		w.next++
		if w.kind == longTraces {
			break
		}
	}
	began := time.Now()
	defer func() {
		if time.Since(began) >= recordHold {
			w.slow++
		}
	}()
	if w.old == nil {
		_, err := w.file.WriteString(b.String())
		return err
	}
	into := w.old // the last that goes into it
	if time.Since(w.let) > lateWrite {
		into = w.file
	}
	_, err := into.WriteString(b.String())
	err = errors.Join(err, w.old.Close())
	w.old = nil
	return err
}

func (w *writer) path(name string) string { return filepath.Join(w.dir, name) }

func (w *writer) create() (err error) {
	w.file, err = os.OpenFile(w.path("0.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	return err
}

func (w *writer) rotatedName(n int) string {
	return fmt.Sprintf("0.log.%s-%06d", "20261128", n)
}

func (w *writer) rotate() error {
	if w.kind == deletes {
		// What a collector that runs has not opened yet is lost with its name, and nobody
		// can tell that it was there; nor that there was one before it knew the container.
		if !w.stored.Load() || !w.seen(w.path("0.log")) {
			return nil
		}
		w.old, w.let = w.file, time.Now()
		return errors.Join(os.Remove(w.path("0.log")), w.create())
	}
	w.rotated++
	name := w.path(w.rotatedName(w.rotated))
	if w.kind == truncates {
		raw, err := os.ReadFile(w.path("0.log"))
		if err == nil {
			err = os.WriteFile(name, raw, 0o644)
		}
		if err == nil {
			err = w.file.Truncate(0)
		}
		return errors.Join(err, w.remove())
	}
	if err := errors.Join(w.file.Close(), os.Rename(w.path("0.log"), name), w.create()); err != nil {
		return err
	}
	if w.kind == garbage {
		if err := os.WriteFile(w.path(fmt.Sprintf("0.log.%s-%06d", "20261127", w.rotated)), nil, 0o644); err != nil {
			return err
		}
	}
	if before := w.path(w.rotatedName(w.rotated - 2)); w.rotated > 2 {
		raw, err := os.ReadFile(before)
		if errors.Is(err, fs.ErrNotExist) {
			return w.remove()
		}
		if err != nil {
			return err
		}
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, err = z.Write(raw)
		if err := errors.Join(err, z.Close(), os.WriteFile(before+".tmp", b.Bytes(), 0o644), os.Rename(before+".tmp", before+".gz"), os.Remove(before)); err != nil {
			return err
		}
	}
	return w.remove()
}

// remove takes the oldest file, when there are more than a collector that is away
// misses and than there were for it to begin with: a machine that is busy may not come
// to those at once, and of a copy that it never saw it can tell nothing.
func (w *writer) remove() error {
	if w.stays {
		return nil
	}
	if !w.begun.Load() {
		w.first = w.rotated
		return nil
	}
	oldest := w.rotated - keepRotated - w.first
	if oldest <= 0 {
		return nil
	}
	old := w.path(w.rotatedName(oldest))
	for _, p := range []string{old, old + ".gz"} {
		if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// run writes until ctx ends, and rotates every so often.
func (w *writer) run(ctx context.Context, every time.Duration, seed uint64) error {
	if err := os.MkdirAll(w.dir, 0o755); err != nil {
		return err
	}
	if err := w.create(); err != nil {
		return err
	}
	defer func() {
		_ = w.file.Close()
		if w.old != nil {
			_ = w.old.Close()
		}
	}()
	r := rand.New(rand.NewPCG(seed, 1))
	switch w.kind {
	case longLines, traces:
		w.every = max(w.every, 150*time.Millisecond)
	case longTraces:
		w.every = 3 * time.Second
		if err := w.write(r); err != nil {
			return err
		}
	}
	tick, turn := time.NewTicker(w.every), time.NewTicker(every)
	defer tick.Stop()
	defer turn.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-turn.C:
			if err := w.rotate(); err != nil {
				return err
			}
		case <-tick.C:
			if err := w.write(r); err != nil {
				return err
			}
		}
	}
}

func duration(name string, def time.Duration) time.Duration {
	if d, err := time.ParseDuration(os.Getenv(name)); err == nil {
		return d
	}
	return def
}

// Containers number their lines while their files are rotated every second, the
// collector, the server or both are killed, the collector is stopped for a while, as
// on a busy machine, and the server is away. In the end each line is there once, and
// whole, but for those of files that were removed while the collector was killed: these
// are told as a range of time, and those that were on their way then by number.
//
// A full run: CROWSNEST_FAULTS_LOG_FOR=10m CROWSNEST_FAULTS_LOG_PODS=100
// CROWSNEST_FAULTS_LOG_AWAY=3m go test -timeout 60m -v -run LinesArriveOnce ./test/faults
// While the server is away for that long, rotation takes files: what is in them is told,
// or, with CROWSNEST_FAULTS_LOG_KEEP=1000000000, kept.
func TestLinesArriveOnceThroughKills(t *testing.T) {
	run := newCounting(t, t.TempDir(), t.TempDir(), t.TempDir())
	whole := duration(envLogFor, 6*time.Second)
	ctx, end := run.write(number(envLogPods, 10), kinds, whole)
	defer end()
	run.count(2*time.Minute+4*whole, run.killAll(ctx, whole))
}

// Nothing that was rotated is removed, whatever is killed or away: each line is there once,
// and none is told as lost.
//
// A full run: CROWSNEST_FAULTS_LOG_FOR=5m CROWSNEST_FAULTS_LOG_PODS=100
// CROWSNEST_FAULTS_LOG_AWAY=2m CROWSNEST_FAULTS_LOG_ROTATE=4s go test -timeout 60m -v
// -run LinesArriveOnceOfFilesThatStay ./test/faults
// Of each container the newest 64 files are held that are not sent: were they rotated each
// second for so long, the oldest would be told.
func TestLinesArriveOnceOfFilesThatStay(t *testing.T) {
	run := newCounting(t, t.TempDir(), t.TempDir(), t.TempDir())
	run.stays = true
	whole := duration(envLogFor, 6*time.Second)
	ctx, end := run.write(number(envLogPods, 10), rotating, whole)
	defer end()
	run.countAll(2*time.Minute+4*whole, run.killAll(ctx, whole))
}

// killAll kills the collector, the server or both again and again, and has the server be away
// once, until ctx ends. It gives what was done.
func (c *counting) killAll(ctx context.Context, whole time.Duration) string {
	t := c.t
	t.Helper()
	away, stall := duration(envLogAway, time.Second), duration(envLogStall, 2*time.Second)
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	kills := [3]int{}
	for gone := false; ctx.Err() == nil; {
		pause(ctx, time.Duration(500+r.IntN(1500))*time.Millisecond)
		if half, _ := ctx.Deadline(); !gone && time.Until(half) < whole/2 {
			gone = true
			c.server.kill()
			pause(ctx, away)
			c.server.start(t)
			if aim := duration(envLogAim, 0); aim > 0 {
				c.answers(ctx)
				pause(ctx, aim/3+time.Duration(r.Int64N(int64(2*aim/3))))
				c.killCollector()
				t.Logf("collector killed at %s", time.Now().Format(time.StampMicro))
				pause(ctx, time.Duration(r.IntN(700))*time.Millisecond)
				c.startCollector()
			}
			continue
		}
		if stall > 0 {
			c.stop(ctx, time.Duration(r.Int64N(int64(stall))))
			pause(ctx, time.Duration(r.IntN(1000))*time.Millisecond)
		}
		what := r.IntN(3)
		kills[what]++
		if what != 1 {
			c.killCollector()
		}
		if what != 0 {
			c.server.kill()
		}
		pause(ctx, time.Duration(r.IntN(700))*time.Millisecond)
		if what != 0 {
			c.server.start(t)
		}
		if what != 1 {
			c.startCollector()
		}
	}
	return fmt.Sprintf("collector killed %d times, server %d, both %d, server away for %s", kills[0], kills[1], kills[2], away)
}

// Files are removed while the collector has them open, and the server is killed and
// away: each line is there once, and none is told as lost.
func TestLinesArriveOnceOfDeletedFiles(t *testing.T) {
	run := newCounting(t, t.TempDir(), t.TempDir(), t.TempDir())
	whole := duration(envLogFor, 6*time.Second)
	ctx, end := run.write(number(envLogPods, 3), []int{deletes}, whole)
	defer end()
	for ctx.Err() == nil {
		pause(ctx, whole/5)
		run.server.kill()
		pause(ctx, duration(envLogAway, time.Second))
		run.server.start(t)
	}
	run.countAll(2*time.Minute+whole, "server killed again and again")
}

// The disk of the collector's positions is full, and that of the server, while
// both are killed: each line is there once, and none is told as lost.
func TestLinesArriveOnceWithFullDisks(t *testing.T) {
	// The first has room for any one file unpacked, which a file of long traces needs.
	data, store := smallDisk(t, 64<<20), smallDisk(t, 256<<20)
	run := newCounting(t, t.TempDir(), data.Dir, store.Dir)
	run.stays = true
	whole := duration(envLogFor, 6*time.Second)
	ctx, end := run.write(number(envLogPods, 10), rotating, whole)
	defer end()
	pause(ctx, whole/6)
	fill(t, data, 0)
	for ctx.Err() == nil {
		pause(ctx, whole/12)
		run.killCollector()
		run.startCollector()
		if deadline, _ := ctx.Deadline(); time.Until(deadline) < whole/2 {
			break
		}
	}
	if err := data.Free(); err != nil {
		t.Fatal(err)
	}
	fill(t, store, 512<<10)
	pause(ctx, whole/6)
	run.killCollector()
	pause(ctx, whole/12)
	run.startCollector()
	pause(ctx, whole/6)
	if err := store.Free(); err != nil {
		t.Fatal(err)
	}
	run.server.kill() // it may have ended by itself: the library does when it cannot write
	run.server.start(t)
	run.countAll(2*time.Minute+whole, "collector killed with its disk full, and the server's")
}

// smallDisk is a file system of its own.
func smallDisk(t *testing.T, size int64) testbed.Disk {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	disk, err := testbed.MountDisk(t.TempDir(), size)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		if err := disk.Unmount(); err != nil {
			t.Error(err)
		}
	})
	return disk
}

// fill leaves no more than so many bytes free.
func fill(t *testing.T, disk testbed.Disk, left uint64) {
	t.Helper()
	if err := disk.Fill(left); err != nil {
		t.Fatal(err)
	}
}

// counting is a run of writers, a collector and a server, and what is counted then.
type counting struct {
	t       *testing.T
	dir     string
	address string
	store   string // the server's folder
	server  *child
	agent   *child
	pid     atomic.Int64 // of the collector; 0 while there is none
	writers []*writer
	stays   bool        // theirs that were rotated are not removed
	begun   atomic.Bool // the server has something of each
	done    sync.WaitGroup
	failed  atomic.Pointer[error]
}

// newCounting starts a server and a collector.
func newCounting(t *testing.T, dir, data, store string) *counting {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	run := &counting{t: t, dir: dir, address: l.Addr().String()}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	run.store = filepath.Join(store, "store")
	run.server = &child{env: []string{envLogServe + "=" + run.store, envLogAddress + "=" + run.address}}
	run.agent = &child{env: []string{envLogFollow + "=" + dir, envLogData + "=" + filepath.Join(data, "data"), envLogAddress + "=" + run.address}}
	run.server.start(t)
	t.Cleanup(run.server.kill)
	run.startCollector()
	t.Cleanup(run.agent.kill)
	return run
}

func (c *counting) startCollector() {
	c.t.Helper()
	c.agent.start(c.t)
	c.pid.Store(int64(c.agent.cmd.Process.Pid))
}

func (c *counting) killCollector() {
	c.pid.Store(0)
	c.agent.kill()
}

// seen says whether the collector has a file open, or none runs.
func (c *counting) seen(path string) bool {
	pid := int(c.pid.Load())
	return pid == 0 || testbed.HasOpen(pid, path)
}

// stop holds the collector up.
func (c *counting) stop(ctx context.Context, d time.Duration) {
	c.t.Helper()
	c.agent.signal(c.t, syscall.SIGSTOP)
	pause(ctx, d)
	c.agent.signal(c.t, syscall.SIGCONT)
}

// write has so many containers write until the context ends that it gives: that begins
// once the server has something of each, so that there are positions.
func (c *counting) write(pods int, kinds []int, whole time.Duration) (context.Context, context.CancelFunc) {
	c.t.Helper()
	ctx, stop := context.WithCancel(c.t.Context())
	for n := range pods {
		pod := "pod-" + strconv.Itoa(n)
		w := &writer{dir: filepath.Join(c.dir, "pods", "shop_"+pod+"_uid-"+strconv.Itoa(n), "app"), pod: pod, seen: c.seen, begun: &c.begun, stays: c.stays}
		// One of each kind, and as many of the long ones; all together write some 10,000
		// lines a second, which the machine can also read and store.
		w.every = time.Duration(max(10, pods)) * time.Millisecond
		if n < len(kinds) {
			w.kind = kinds[n]
		} else {
			w.kind = kinds[n%len(kinds)]
			switch w.kind {
			case longLines, traces, longTraces:
				w.kind = renames
			}
		}
		c.writers = append(c.writers, w)
		c.done.Go(func() {
			if err := w.run(ctx, duration(envLogRotate, time.Second), uint64(n)); err != nil {
				c.failed.Store(&err)
			}
		})
	}
	c.stored()
	timed, end := context.WithTimeout(ctx, whole)
	context.AfterFunc(timed, stop)
	return timed, end
}

// stored waits until the server has something of each container.
func (c *counting) stored() {
	t := c.t
	t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		pods := map[string]bool{}
		err := rows(c.address, func(row dumped) error {
			pods[row[0]] = true
			return nil
		})
		missing := 0
		for _, w := range c.writers {
			if w.stored.Store(pods[w.pod]); !pods[w.pod] {
				missing++
			}
		}
		if missing == 0 {
			c.begun.Store(true)
			return
		}
		if time.Now().After(deadline) {
			c.server.kill()
			c.killCollector()
			t.Fatalf("of %d containers nothing arrives: %v\n%s\n%s", missing, err, c.agent.log.String(), c.server.log.String())
		}
	}
}

// count waits for the writers, and until the server has been told that nothing more comes
// of what they wrote, and says what is wrong with it. What had not come by then is lost, by
// the collector's own word; what has not come while it says that there is more, is not.
func (c *counting) count(patience time.Duration, what string) *counted {
	t := c.t
	t.Helper()
	c.done.Wait()
	if err := c.failed.Load(); err != nil {
		t.Fatal(*err)
	}
	total := 0
	for _, w := range c.writers {
		total += w.next
	}
	ended := time.Now()
	through, err := c.complete(ended, patience)
	if err == nil && !through.After(ended) {
		err = fmt.Errorf("%s after the last line the server has all that was written up to %s before it, which is too slow to be counted", patience, ended.Sub(through).Round(time.Millisecond))
	}
	took := time.Since(ended).Round(time.Millisecond)
	found, looked := lookAt(c.address, c.writers)
	for _, a := range found.twiceOf() {
		t.Logf("lines %d to %d of %s are there %d times:%s", a.from, a.to, a.pod, a.times, brought(c.store, a.pod, a.from, a.to))
	}
	c.server.kill() // what they said is whole then
	c.killCollector()
	if looked != nil {
		t.Fatalf("%v\n%s\n%s", errors.Join(err, looked), c.server.log.String(), c.agent.log.String())
	}
	there := "all there"
	if err != nil {
		there = "not all there" // but how much of it belongs to what is told of a run that failed
	}
	t.Logf("%d lines of %d containers, %d frames, %d bytes of long lines; %s, %s %s after the last: %s", total, len(c.writers), found.wantFrames, found.wantBytes, what, there, took, found)
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, c.server.log.String(), c.agent.log.String())
	}
	if found.lost+found.twice+found.torn+found.split+found.wrong+found.short > 0 {
		t.Errorf("lines are lost, doubled or torn, or records: %s; %d of %d frames, %d of %d bytes\n%s", found, found.frames, found.wantFrames, found.bytes, found.wantBytes, c.agent.log.String())
	}
	for _, p := range []*child{c.server, c.agent} {
		// A merge that meets a full disk ends the store's process; what it acknowledged is kept.
		if said := p.log.String(); strings.Contains(said, "panic") && (p != c.server || !strings.Contains(said, "no space left on device")) {
			t.Error(said)
		}
	}
	return found
}

// countAll counts where nothing may be told as lost.
func (c *counting) countAll(patience time.Duration, what string) {
	c.t.Helper()
	if found := c.count(patience, what); found.told > 0 || found.gaps > 0 {
		c.t.Errorf("lines are told as lost that the collector could read: %s", found)
	}
}

// answers waits until the server is there again.
func (c *counting) answers(ctx context.Context) {
	for ctx.Err() == nil {
		resp, err := http.Get("http://" + c.address + pathComplete)
		if err == nil {
			_ = resp.Body.Close()
			return
		}
		pause(ctx, 10*time.Millisecond)
	}
}

// complete waits until the server has all that was written up to a time, and says up to
// when it has by then, or after patience.
func (c *counting) complete(at time.Time, patience time.Duration) (through time.Time, err error) {
	for deadline := time.Now().Add(patience); ; time.Sleep(500 * time.Millisecond) {
		var nodes []store.Watermark
		resp, asked := http.Get("http://" + c.address + pathComplete)
		if err = asked; err == nil {
			err = errors.Join(json.NewDecoder(resp.Body).Decode(&nodes), resp.Body.Close())
		}
		for _, n := range nodes {
			through = n.CompleteThrough // of the only node
		}
		if err == nil && through.After(at) || time.Now().After(deadline) {
			return through, err
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// counted is what the server has of the numbered lines.
type counted struct {
	lines, lost, twice, torn int
	short                    int                            // containers of which frames, or parts of long lines, are too few or too many
	split                    int                            // records that begin within a trace, or have a part of two, for no reason
	told                     int                            // not there, and told as lost in the containers' streams
	toldOf                   [len(kindNames)]map[string]int // by reason
	linesOf                  [len(kindNames)]int            // that were written
	gaps, numbered           int                            // ranges that were told, and the lines of those with a number
	wrong                    int                            // ranges that say a number of lines of which fewer are lost, and containers all of whose ranges have one, which are not what is lost
	frames, wantFrames       int
	bytes, wantBytes         int // of long lines, without their beginnings
	ranges, again            int // told in first, of lost lines and of doubled ones
	first                    string
	doubled                  []doubled // as many as are told in first
}

// doubled are lines of a pod that are there so many times.
type doubled struct {
	pod             string
	from, to, times int
}

// twiceOf gives them; none of what could not be looked at.
func (c *counted) twiceOf() []doubled {
	if c == nil {
		return nil
	}
	return c.doubled
}

func (c *counted) String() string {
	var of strings.Builder
	for kind, reasons := range c.toldOf {
		if len(reasons) == 0 {
			continue
		}
		told := 0
		for _, n := range reasons {
			told += n
		}
		fmt.Fprintf(&of, "; %s: %.1f %% of %d lines", kindNames[kind], 100*float64(told)/float64(c.linesOf[kind]), c.linesOf[kind])
		for _, reason := range slices.Sorted(maps.Keys(reasons)) {
			fmt.Fprintf(&of, ", %d %s", reasons[reason], reason)
		}
	}
	return fmt.Sprintf("%d lost, %d doubled, %d torn, %d split, %d told as dropped (%d ranges, %d lines by number, %d wrong%s)%s", c.lost, c.twice, c.torn, c.split, c.told, c.gaps, c.numbered, c.wrong, of.String(), c.first)
}

// rows gives what the server has.
func rows(address string, take func(row dumped) error) error {
	resp, err := http.Get("http://" + address)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	for dec := json.NewDecoder(resp.Body); ; {
		var row dumped
		if err := dec.Decode(&row); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := take(row); err != nil {
			return err
		}
	}
}

// gap is a range of lost lines as it was told.
type gap struct {
	from, until time.Time
	lines       int // 0: nobody knows
	reason      string
}

func (g gap) has(at time.Time) bool { return !at.Before(g.from) && !at.After(g.until) }

func lookAt(address string, writers []*writer) (*counted, error) {
	out := &counted{}
	seen := map[string]map[int]int{}
	kind, frames, bytes := map[string]int{}, map[string]int{}, map[string]int{}
	within := map[string]int{} // records that begin within a trace
	for _, w := range writers {
		seen[w.pod], kind[w.pod] = map[int]int{}, w.kind
		out.wantFrames += w.next * framesOf(w.kind)
		if w.kind == longLines {
			out.wantBytes += w.next * longBytes
		}
	}
	gaps := map[string][]gap{} // by pod
	err := rows(address, func(row dumped) error {
		if row[2] != "" {
			lines, err := strconv.Atoi(row[2])
			from, err2 := time.Time{}, error(nil)
			if row[3] != "" { // nothing of the container was known
				from, err2 = time.Parse(time.RFC3339Nano, row[3])
			}
			until, err3 := time.Parse(time.RFC3339Nano, row[4])
			if err := errors.Join(err, err2, err3); err != nil {
				return fmt.Errorf("dropped lines without their range: %w", err)
			}
			gaps[row[0]] = append(gaps[row[0]], gap{from, until, lines, row[5]})
			return nil
		}
		if strings.HasPrefix(row[1], "\tat ") {
			within[row[0]]++
		}
		for text := range strings.SplitSeq(row[1], "\n") {
			var n int
			var pod string
			switch _, err := fmt.Sscanf(text, "line %d of %s", &n, &pod); {
			case err == nil && strings.TrimRight(pod, ":") == row[0]:
				if seen[row[0]][n]++; framesOf(kind[row[0]]) > 0 && !strings.HasPrefix(row[1], text) {
					out.split++
					out.first += fmt.Sprintf("; %s has line %d in a record that began before", pod, n)
				}
			case kind[row[0]] == longLines && strings.Trim(text, "x") == "", kind[row[0]] == garbage, framesOf(kind[row[0]]) > 0 && strings.HasPrefix(text, "\tat "):
			default:
				out.torn++
				out.first = fmt.Sprintf("; torn, for example: %.100q", text)
			}
			frames[row[0]] += strings.Count(text, "\tat com.shop.Frame")
			if kind[row[0]] == longLines {
				bytes[row[0]] += strings.Count(text, "x")
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, w := range writers {
		out.frames += frames[w.pod]
		out.bytes += bytes[w.pod]
		wantFrames, wantBytes := w.next*framesOf(w.kind), 0
		if w.kind == longLines {
			wantBytes = w.next * longBytes
		}
		// Where lines are told as lost, parts of them may be, too.
		if frames[w.pod] > wantFrames || bytes[w.pod] > wantBytes || len(gaps[w.pod]) == 0 && (frames[w.pod] < wantFrames || bytes[w.pod] < wantBytes) {
			out.short++
			out.first += fmt.Sprintf("; of %s there are %d of %d frames, %d of %d bytes", w.pod, frames[w.pod], wantFrames, bytes[w.pod], wantBytes)
		}
		// What has a line of a trace before it may begin where what is before it is lost, its line
		// was late, or the record before it had as many as one takes.
		bound := w.next*(framesOf(w.kind)/recordLines) + len(gaps[w.pod]) + w.slow
		if n := within[w.pod]; n > bound {
			out.split += n - bound
			out.first += fmt.Sprintf("; of %s %d records begin within a trace, at most %d may", w.pod, n, bound)
		}
		known, told := len(gaps[w.pod]) > 0, 0
		for _, g := range gaps[w.pod] {
			out.gaps++
			told += g.lines
			known = known && g.lines > 0
			out.numbered += g.lines
			if w.kind != renames && w.kind != deletes {
				continue // theirs are not only those lines
			}
			if lost := w.lostIn(g, seen[w.pod]); lost < g.lines {
				out.wrong++
				out.first += fmt.Sprintf("; %d lines of %s are told as lost from %s to %s, %d are", g.lines, w.pod, g.from, g.until, lost)
			}
		}
		if missing, all := w.missing(seen[w.pod], frames[w.pod]); all && known && missing != told {
			out.wrong++
			out.first += fmt.Sprintf("; of %s %d lines are told as lost, all by number, %d are", w.pod, told, missing)
		}
		out.linesOf[w.kind] += w.next
		for n := range w.next {
			switch seen[w.pod][n] {
			case 0:
				if g := w.toldIn(n, gaps[w.pod]); g != nil {
					if out.told++; out.toldOf[w.kind] == nil {
						out.toldOf[w.kind] = map[string]int{}
					}
					out.toldOf[w.kind][g.reason]++
					seen[w.pod][n] = 1
				} else {
					out.lost++
				}
			case 1:
				out.lines++
			default:
				out.lines++
				out.twice++
			}
		}
		from := 0 // of lines of which there are as many
		for n := range w.next {
			times := seen[w.pod][n]
			if n+1 < w.next && seen[w.pod][n+1] == times {
				continue
			}
			// There are many that have not come yet when the first is seen twice.
			if times == 0 && out.ranges < maxRanges || times > 1 && out.again < maxRanges {
				if times == 0 {
					out.ranges++
				} else {
					out.again++
				}
				if times > 1 {
					out.doubled = append(out.doubled, doubled{w.pod, from, n, times})
				}
				out.first += fmt.Sprintf("; lines %d to %d of %s (of its %d) are there %d times", from, n, w.pod, w.next, times)
			}
			from = n + 1
		}
	}
	return out, nil
}

// toldIn gives the first of the gaps that were told which has a line; nil for none.
func (w *writer) toldIn(n int, gaps []gap) *gap {
	if n >= len(w.times) {
		return nil
	}
	if i := slices.IndexFunc(gaps, func(g gap) bool { return g.has(w.times[n]) }); i >= 0 {
		return &gaps[i]
	}
	return nil
}

// missing counts the lines that are not there, those of traces, too. It is false for kinds
// whose files have lines that are not counted, or only parts of which may be there.
func (w *writer) missing(seen map[int]int, frames int) (lines int, all bool) {
	for n := range w.next {
		if seen[n] == 0 {
			lines++
		}
	}
	return lines + w.next*framesOf(w.kind) - frames, w.kind != longLines && w.kind != garbage
}

// lostIn counts the lines of a gap that are not there.
func (w *writer) lostIn(g gap, seen map[int]int) (lost int) {
	for n, at := range w.times {
		if g.has(at) && seen[n] == 0 {
			lost++
		}
	}
	return lost
}

// maxRanges bounds what is told of lines that are lost or doubled.
const maxRanges = 20
