package logs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"go.uber.org/goleak"

	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

func TestMain(m *testing.M) {
	if root := os.Getenv(writerEnv); root != "" {
		writeSteadily(root)
	}
	goleak.VerifyTestMain(m)
}

// server is a sink that stores each batch once, as the real one does.
type server struct {
	t       testing.TB
	mu      sync.Mutex
	seen    map[string]bool
	lines   map[string][]string // by pod/container/stream
	groups  map[string]wire.LogStream
	fields  []map[string]string
	of      []wire.LogStream // of these
	marks   map[string]int64 // by node, the newest
	batches int
	again   int // batches that it had already
	away    bool
	frozen  bool // nothing arrives any more
	// lost makes the answers after that many batches get lost: stored, but the
	// sender does not learn of it.
	lost    int
	changed chan struct{}
	// positions of containers, which batches may bring.
	positions map[string]wire.LogPosition
	conflicts int
}

var _ Sink = (*server)(nil)

func newServer(t testing.TB) *server {
	return &server{t: t, seen: map[string]bool{}, lines: map[string][]string{}, groups: map[string]wire.LogStream{}, lost: -1, changed: make(chan struct{}, 1), positions: map[string]wire.LogPosition{}}
}

func (s *server) Send(ctx context.Context, b *wire.LogBatch) error {
	body, err := b.Encode() // as one who sends it: after that its lines are gone
	if err != nil || len(body) > wire.MaxLogBatchBytes {
		s.t.Errorf("batch of %d bytes, %v", len(body), err)
	}
	if b, err = wire.UnmarshalLogBatch(body); err != nil { // or it is not valid
		s.t.Errorf("batch of %d bytes cannot be read: %v", len(body), err)
		return err
	}
	if err := b.Validate(); err != nil {
		s.t.Errorf("invalid batch: %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.frozen {
		s.mu.Unlock()
		<-ctx.Done()
		s.mu.Lock()
		return ctx.Err()
	}
	if s.away {
		return errors.New("server is away")
	}
	for _, m := range b.Complete {
		if s.marks == nil {
			s.marks = map[string]int64{}
		}
		s.marks[m.Node] = max(s.marks[m.Node], m.Through)
	}
	if b.Lines() == 0 {
		return nil
	}
	if s.seen[b.ID] {
		s.again++
	} else {
		for _, p := range b.Positions {
			if p.Claims() && p.From < s.positions[p.Key].Taken {
				s.conflicts++
				return fmt.Errorf("line %d of %s: %w", s.positions[p.Key].Taken, p.Key, fault.ErrConflict)
			}
		}
		for _, p := range b.Positions {
			if p.Taken >= s.positions[p.Key].Taken {
				s.positions[p.Key] = p
			}
		}
		s.batches++
		s.seen[b.ID] = true
		for _, g := range b.Groups {
			k := g.Stream.Pod + "/" + g.Stream.Container + "/" + g.Stream.Stream
			s.groups[k] = g.Stream
			for _, l := range g.Lines {
				s.lines[k] = append(s.lines[k], l.Message)
				s.fields, s.of = append(s.fields, l.Fields.Map()), append(s.of, g.Stream)
			}
		}
	}
	select {
	case s.changed <- struct{}{}:
	default:
	}
	if s.lost >= 0 && s.batches > s.lost {
		s.mu.Unlock()
		<-ctx.Done()
		s.mu.Lock()
		return ctx.Err()
	}
	return nil
}

// ask is APIOptions.Positions.
func (s *server) ask(_ context.Context, sources []wire.LogSource) (out []wire.LogPosition, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away || s.frozen {
		return nil, errors.New("server is away")
	}
	for _, source := range sources {
		if p, ok := s.positions[source.Key]; ok {
			out = append(out, p)
		}
	}
	return out, nil
}

func (s *server) got(k string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.lines[k]...)
}

func (s *server) set(fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn()
}

// await waits until the server has so many lines of a stream.
func (s *server) await(k string, n int) []string {
	s.t.Helper()
	deadline := time.After(60 * time.Second)
	for {
		if got := s.got(k); len(got) >= n {
			return got
		}
		select {
		case <-s.changed:
		case <-deadline:
			s.t.Fatalf("%s: the server has %d lines, want %d", k, len(s.got(k)), n)
		}
	}
}

// numbered checks that lines are "line 0", "line 1" … complete and in order.
func numbered(t testing.TB, got []string, n int) {
	t.Helper()
	for i, l := range got {
		if want := fmt.Sprintf("line %d", i); l != want {
			t.Fatalf("line %d is %q; %d lines in all, want %d", i, l, len(got), n)
		}
	}
	if len(got) != n {
		t.Fatalf("%d lines, want %d", len(got), n)
	}
}

type fixedState struct{ s *state.Snapshot }

func (f fixedState) Snapshot() *state.Snapshot { return f.s }

func podState(ps ...*object.Pod) fixedState {
	s := &state.Snapshot{Synced: true, Pods: map[string]*object.Pod{}}
	for _, p := range ps {
		s.Pods[p.UID] = p
	}
	return fixedState{s}
}

// tree is a folder of pod logs with one container.
type tree struct {
	t    testing.TB
	root string
	dir  string // of the container
	pos  string
	next int
}

const key = "cart-1/app/stdout"

func newTree(t testing.TB) *tree {
	root := t.TempDir()
	tr := &tree{t: t, root: root, dir: filepath.Join(root, "shop_cart-1_uid-1", "app"), pos: t.TempDir()}
	if err := os.MkdirAll(tr.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return tr
}

var clock = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

func cri(n int, stream, tag, text string) string {
	return fmt.Sprintf("%s %s %s %s\n", clock.Add(time.Duration(n)*time.Millisecond).Format("2006-01-02T15:04:05.000000000Z07:00"), stream, tag, text)
}

// write appends n numbered lines to a file of the container.
func (tr *tree) write(name string, n int) {
	tr.t.Helper()
	var b strings.Builder
	for range n {
		b.WriteString(cri(tr.next, "stdout", "F", fmt.Sprintf("line %d", tr.next)))
		tr.next++
	}
	tr.raw(name, b.String())
}

func (tr *tree) raw(name, text string) {
	tr.t.Helper()
	f, err := os.OpenFile(filepath.Join(tr.dir, name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		tr.t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		tr.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		tr.t.Fatal(err)
	}
}

// beside is another container of the same pod.
func (tr *tree) beside() *tree {
	tr.t.Helper()
	other := *tr
	other.dir = filepath.Join(tr.root, "shop_cart-1_uid-1", "side")
	if err := os.MkdirAll(other.dir, 0o755); err != nil {
		tr.t.Fatal(err)
	}
	return &other
}

func (tr *tree) rename(from, to string) {
	tr.t.Helper()
	if err := os.Rename(filepath.Join(tr.dir, from), filepath.Join(tr.dir, to)); err != nil {
		tr.t.Fatal(err)
	}
}

func (tr *tree) positions() string { return filepath.Join(tr.pos, "file-positions.json") }

func (tr *tree) options() FilesOptions {
	return FilesOptions{Root: tr.root, Dir: tr.pos, Sender: "node/n1", Node: "n1", Linger: 5 * time.Millisecond, Grace: 20 * time.Millisecond, Nameless: 20 * time.Millisecond, Rescan: 300 * time.Millisecond, Rules: Rules{Join: JoinOptions{Hold: 20 * time.Millisecond}},
		State: podState(&object.Pod{Meta: object.Meta{UID: "uid-1", Name: "cart-1", Namespace: "shop"}, Node: "n1", Workload: object.WorkloadRef{Type: "deployment", Name: "cart"}})}
}

// wiped writes over all that a batch lay in: who holds on to a part of it is found out by
// what arrives, or by the race detector.
func wiped(m *memory) {
	for _, block := range m.text.used {
		for i := range block {
			block[i] = '#'
		}
	}
	for _, block := range m.fields.used {
		block = block[:cap(block)]
		for i := range block {
			block[i] = wire.LogField{Name: "wiped", Value: "wiped"}
		}
	}
}

// run starts a collector of the tree and gives what ends it.
func (tr *tree) run(s *server) (f *Files, stop func()) {
	tr.t.Helper()
	return tr.runWith(tr.options(), s)
}

func (tr *tree) runWith(o FilesOptions, s Sink) (f *Files, stop func()) {
	tr.t.Helper()
	f, err := NewFiles(o)
	if err != nil {
		tr.t.Fatal(err)
	}
	f.memories.wipe = wiped
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx, s) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				tr.t.Errorf("Run: %v", err)
			}
		})
	}
	tr.t.Cleanup(stop)
	return f, stop
}

func TestFilesFollowFromTheFirstByte(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	tr.write("0.log", 100)
	f, stop := tr.run(s)
	s.await(key, 100)
	tr.write("0.log", 50)
	s.await(key, 150)
	// A container that appears later.
	tr.dir = filepath.Join(tr.root, "shop_cart-2_uid-2", "app")
	if err := os.MkdirAll(tr.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	tr.next = 0
	tr.write("0.log", 20)
	numbered(t, s.await("cart-2/app/stdout", 20), 20)
	stop()
	numbered(t, s.got(key), 150)
	if g := s.groups[key]; g.Workload != "cart" || g.WorkloadType != "deployment" || g.Namespace != "shop" || g.Node != "n1" {
		t.Errorf("stream is %+v", g)
	}
	if h := f.Health(); h.Read != 170 || h.Sent != 170 || h.Containers != 2 || len(f.Counts()) != 2 {
		t.Errorf("health is %+v", h)
	}
}

func TestFilesRotationByRename(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	_, stop := tr.run(s)
	tr.write("0.log", 1)
	s.await(key, 1)
	total := 1
	for i := range 8 {
		tr.write("0.log", 200)
		tr.rename("0.log", fmt.Sprintf("0.log.20261123-1000%02d", i))
		tr.write(fmt.Sprintf("0.log.20261123-1000%02d", i), 10) // the writer lets go of it a little later
		total += 210
	}
	tr.write("0.log", 5)
	tr.write("1.log", 30) // the container was restarted
	total += 35
	s.await(key, total)
	stop()
	numbered(t, s.got(key), total)
}

func TestFilesDeletedWhileTheServerIsAway(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	s.away = true
	f, stop := tr.run(s)
	// One batch is on its way, one is full: the rest waits in the files.
	tr.write("0.log", 3*batchLines)
	waitFor(t, func() bool { return f.Health().Read == 2*batchLines })
	tr.rename("0.log", "0.log.20261123-100000")
	tr.write("0.log", 100)
	waitFor(t, func() bool { return isOpen(t, filepath.Join(tr.dir, "0.log")) })
	if n := f.Health().Read; n != 2*batchLines {
		t.Errorf("%d lines are in memory, want no more than two batches", n)
	}
	if err := os.RemoveAll(filepath.Dir(tr.dir)); err != nil {
		t.Fatal(err)
	}
	s.set(func() { s.away = false })
	s.await(key, tr.next)
	waitFor(t, func() bool { return f.Health().Containers == 0 && f.Health().Sent == int64(tr.next) })
	stop()
	numbered(t, s.got(key), tr.next)
	if h := f.Health(); h.Containers != 0 || h.Sent != int64(tr.next) || len(h.Dropped) != 0 {
		t.Errorf("health is %+v", h)
	}
}

// A log that is removed is written to until the runtime opens another one, which may be long
// after its writer could have let go of a file that was renamed.
func TestFilesRemovedAreReadUntilAnotherFollows(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	o := tr.options()
	o.Nameless = time.Hour
	_, stop := tr.runWith(o, s)
	tr.write("0.log", 1)
	s.await(key, 1)
	f, err := os.OpenFile(filepath.Join(tr.dir, "0.log"), os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		err = os.Remove(f.Name())
	}
	for ; err == nil && tr.next < 4; tr.next++ {
		_, err = f.WriteString(cri(tr.next, "stdout", "F", fmt.Sprintf("line %d", tr.next)))
		s.await(key, tr.next+1)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	tr.write("0.log", 1)
	s.await(key, tr.next)
	stop()
	numbered(t, s.got(key), tr.next)
}

// Of files that were rotated long ago each writer has let go: a start reads one after the
// other without a wait for each.
func TestFilesRotatedLongAgoAreReadAtOnce(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	tr.write("0.log", 1)
	_, stop := tr.run(s)
	s.await(key, 1)
	stop()
	for i := range 5 {
		tr.rename("0.log", fmt.Sprintf("0.log.20261123-1000%02d", i))
		tr.write("0.log", 1)
	}
	current, err := os.Open(filepath.Join(tr.dir, "0.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = current.Close() }()
	if _, ok := (&file{fd: current}).birth(); !ok {
		t.Skip("this file system does not say when a file was made")
	}
	o := tr.options()
	o.Grace, o.Now = time.Hour, func() time.Time { return time.Now().Add(2 * time.Hour) }
	_, stop = tr.runWith(o, s)
	s.await(key, tr.next)
	stop()
	numbered(t, s.got(key), tr.next)
}

// isOpen says whether this process has a file open.
func isOpen(t testing.TB, path string) bool {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc to look at")
	}
	for _, e := range entries {
		if l, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && l == path {
			return true
		}
	}
	return false
}

func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain")
		}
	}
}

func TestFilesRestartGoesOnWhereItWas(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	tr.write("0.log", 100)
	_, stop := tr.run(s)
	s.await(key, 100)
	stop()
	tr.write("0.log", 50)
	tr.rename("0.log", "0.log.20261123-100000")
	tr.write("0.log", 60)
	tr.rename("0.log", "0.log.20261123-100100")
	tr.write("0.log", 70)
	_, stop = tr.run(s)
	s.await(key, 280)
	stop()
	numbered(t, s.got(key), 280)
}

// The answer to a batch is lost and the collector is killed: the batch comes
// again under the same id, whatever was written meanwhile.
func TestFilesKilledBetweenSendAndAnswer(t *testing.T) {
	for name, meanwhile := range map[string]func(tr *tree){
		"more lines": func(tr *tree) { tr.write("0.log", 500) },
		"rotated": func(tr *tree) {
			tr.write("0.log", 500)
			tr.rename("0.log", "0.log.20261123-100000")
			tr.write("0.log", 100)
		},
		"nothing": func(*tree) {},
	} {
		t.Run(name, func(t *testing.T) {
			tr, s := newTree(t), newServer(t)
			tr.write("0.log", 300)
			s.lost = 0 // not one answer arrives
			_, stop := tr.run(s)
			s.await(key, 1)
			kill(t, s, tr.positions(), stop)
			meanwhile(tr)
			s.set(func() { s.lost = -1 })
			_, stop = tr.run(s)
			s.await(key, tr.next)
			waitFor(t, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.again > 0 })
			stop()
			numbered(t, s.got(key), tr.next)
			if s.again != 1 {
				t.Errorf("%d batches came twice, want the one", s.again)
			}
		})
	}
}

// kill ends a collector as a kill would: at one moment nothing arrives at the
// server any more, and the positions stay as they are then.
func kill(t testing.TB, s *server, path string, stop func()) {
	t.Helper()
	s.set(func() { s.frozen = true })
	was, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	stop()
	if was == nil {
		_ = os.Remove(path)
	} else if err := os.WriteFile(path, was, 0o600); err != nil {
		t.Fatal(err)
	}
	s.set(func() { s.frozen = false })
}

// The positions that a kill leaves may be of any moment before; nothing is lost
// or doubled whenever it comes.
func TestFilesKilledAgainAndAgain(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	total := 0
	for i := range 12 {
		_, stop := tr.run(s)
		for range 5 {
			tr.write("0.log", 97)
			total += 97
			if i%3 == 0 {
				s.await(key, total-97*2)
			}
		}
		if i%4 == 3 {
			tr.rename("0.log", fmt.Sprintf("0.log.20261123-1000%02d", i))
		}
		kill(t, s, tr.positions(), stop)
	}
	_, stop := tr.run(s)
	s.await(key, total)
	stop()
	numbered(t, s.got(key), total)
}

// A file that was cut and written again is another one, though its time stamp and perhaps
// its size are what they were, as within one of the kernel's ticks, and however often it is
// asked for: who asks first may not be who begins it anew.
func TestFilesCutAndWrittenAgainIsAnother(t *testing.T) {
	for name, stamps := range map[string][2]time.Time{
		"within a tick": {time.Now().Add(time.Hour), time.Now().Add(time.Hour)}, // later than the machine can be held up here
		"long after":    {time.Now().Add(-2 * time.Hour), time.Now().Add(-time.Hour)},
	} {
		t.Run(name, func(t *testing.T) {
			tr := newTree(t)
			f := &file{path: filepath.Join(tr.dir, "0.log")}
			for i, stamp := range stamps {
				tr.next = 10 + 40*i // as wide as what is written over
				tr.write("0.log", 20)
				if err := os.Chtimes(f.path, stamp, stamp); err != nil {
					t.Fatal(err)
				}
				if i == 0 {
					var err error
					if f.fd, err = os.Open(f.path); err != nil {
						t.Fatal(err)
					}
					defer f.close()
				}
				for n := range 2 {
					if size, same, err := f.identify(); err != nil || same != (i == 0) {
						t.Errorf("of %d bytes, written %d times, asked %d times: the same %v, %v", size, i+1, n+1, same, err)
					}
				}
				if err := os.Truncate(f.path, 0); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestFilesCopyTruncate(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	_, stop := tr.run(s)
	total := 0
	for i := range 5 {
		tr.write("0.log", 150)
		total += 150
		if i%2 == 0 {
			s.await(key, total)
		}
		tr.copyTruncate(fmt.Sprintf("0.log.2026112310000%d", i))
	}
	tr.write("0.log", 20)
	total += 20
	got := s.await(key, total)
	stop()
	seen := map[string]int{}
	for _, l := range got {
		seen[l]++
	}
	for i := range total {
		if n := seen[fmt.Sprintf("line %d", i)]; n != 1 {
			t.Errorf("line %d was seen %d times", i, n)
		}
	}
}

func TestFilesPartialLines(t *testing.T) {
	long := strings.Repeat("x", 16<<10)
	tr, s := newTree(t), newServer(t)
	tr.raw("0.log", cri(1, "stdout", "P", "a")+cri(2, "stderr", "F", "err 1")+cri(3, "stdout", "P", "b")+cri(4, "stderr", "P", "err"))
	_, stop := tr.run(s)
	s.await("cart-1/app/stderr", 1)
	kill(t, s, tr.positions(), stop)
	_, stop = tr.run(s)
	tr.raw("0.log", cri(5, "stdout", "F", "c")+cri(6, "stdout", "F", ""))
	s.await(key, 2)
	tr.raw("0.log", cri(7, "stdout", "P", "over "))
	tr.rename("0.log", "0.log.20261123-100000")
	tr.raw("0.log", cri(8, "stdout", "F", "a rotation")+cri(9, "stderr", "F", " 2"))
	s.await(key, 3)
	for range 40 {
		tr.raw("0.log", cri(10, "stdout", "P", long))
	}
	tr.raw("0.log", cri(10, "stdout", "F", "end")+cri(11, "stdout", "P", "the container died"))
	tr.raw("1.log", cri(12, "stdout", "F", "new"))
	got := s.await(key, 8)
	stop()
	want := []string{"abc", "", "over a rotation", strings.Repeat(long, 16), strings.Repeat(long, 16), strings.Repeat(long, 8) + "end", "the container died", "new"}
	for i := range want {
		if i >= len(got) || got[i] != want[i] {
			t.Fatalf("line %d is %.40q (%d bytes), want %.40q (%d)", i, got[i], len(got[i]), want[i], len(want[i]))
		}
	}
	if got := s.got("cart-1/app/stderr"); len(got) != 2 || got[0] != "err 1" || got[1] != "err 2" {
		t.Errorf("stderr is %q", got)
	}
}

func TestFilesOddLines(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	tr.raw("0.log", cri(1, "stdout", "F", "good")+"no format at all\n\x00\x00\x00"+cri(2, "stdout", "F", "after zeros")+"\n"+
		"1969-01-01T00:00:00Z stdout F too old\n"+"{\"log\":\"docker\\n\",\"stream\":\"stdout\",\"time\":\"2026-11-23T10:00:01.5Z\"}\n"+cri(3, "stdout", "F", "bad \xff utf-8"))
	tr.raw("0.log", strings.Repeat("y", 3<<20)+"\n")
	f, stop := tr.run(s)
	got := s.await(key, 5+12)
	stop()
	want := []string{"good", "no format at all", "after zeros", "1969-01-01T00:00:00Z stdout F too old", "docker", "bad \uFFFD utf-8"}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("line %d is %q, want %q", i, got[i], want[i])
		}
	}
	if n := len(strings.Join(got[6:], "")); n != 3<<20 {
		t.Errorf("the endless line has %d bytes, want %d", n, 3<<20)
	}
	for _, c := range f.Counts() {
		if c.Malformed == 0 {
			t.Error("malformed lines are not counted")
		}
	}
}

func TestFilesMidnight(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	var b strings.Builder
	for i := range 400 {
		at := time.Date(2026, 11, 23, 23, 59, 59, 0, time.UTC).Add(time.Duration(i) * 5 * time.Millisecond)
		fmt.Fprintf(&b, "%s stdout F line %d\n", at.Format(time.RFC3339Nano), i)
	}
	tr.raw("0.log", b.String())
	_, stop := tr.run(s)
	numbered(t, s.await(key, 400), 400)
	stop()
	if s.batches < 2 {
		t.Errorf("%d batches, want at least one a day", s.batches)
	}
}

func TestFilesAsFastAsPossible(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	tr.write("0.log", 1)
	_, stop := tr.run(s)
	s.await(key, 1)
	for i := range 20 {
		tr.write("0.log", 1000)
		if i%5 == 4 {
			tr.rename("0.log", fmt.Sprintf("0.log.20261123-1000%02d", i))
		}
	}
	s.await(key, 20_001)
	stop()
	numbered(t, s.got(key), 20_001)
}

func TestFilesRefusedBatchIsCounted(t *testing.T) {
	tr := newTree(t)
	tr.write("0.log", 10)
	f, err := NewFiles(tr.options())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx, refusing{}) }()
	waitFor(t, func() bool { return f.Health().Dropped[DropRefused] == 10 })
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestFilesRunAgain(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	f, err := NewFiles(tr.options())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		tr.write("0.log", 100)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- f.Run(ctx, s) }()
		s.await(key, 100*(i+1))
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	numbered(t, s.got(key), 300)
}

func TestOptionsAreChecked(t *testing.T) {
	if _, err := NewFiles(FilesOptions{}); err == nil || !strings.Contains(err.Error(), "positions") || !strings.Contains(err.Error(), "sender") {
		t.Errorf("got %v, want both that are missing named", err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file-positions.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NewFiles(FilesOptions{Dir: dir, Sender: "x"}); err == nil {
		t.Error("positions that cannot be read are taken for none")
	}
}

// arrivals notes in which batch each pod's first line came.
type arrivals struct {
	mu      sync.Mutex
	batches int
	first   map[string]int
}

func (a *arrivals) Send(_ context.Context, b *wire.LogBatch) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.batches++
	for _, g := range b.Groups {
		if _, ok := a.first[g.Stream.Pod]; !ok {
			a.first[g.Stream.Pod] = a.batches
		}
	}
	return nil
}

// A container with one line does not wait until the backlog of others is read.
func TestFilesTakeTurns(t *testing.T) {
	tr := newTree(t)
	const pods, lines = 30, 10_000
	for i := range pods {
		other := *tr
		other.dir = filepath.Join(tr.root, fmt.Sprintf("shop_busy-%02d_uid-b%d", i, i), "app")
		if err := os.MkdirAll(other.dir, 0o755); err != nil {
			t.Fatal(err)
		}
		other.write("0.log", lines)
	}
	quiet := *tr
	quiet.dir = filepath.Join(tr.root, "shop_zz-quiet_uid-q", "app")
	if err := os.MkdirAll(quiet.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	quiet.raw("0.log", cri(1, "stdout", "F", "first")+cri(2, "stdout", "F", "second"))
	o := tr.options()
	o.State = nil
	f, err := NewFiles(o)
	if err != nil {
		t.Fatal(err)
	}
	sink := &arrivals{first: map[string]int{}}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx, sink) }()
	waitFor(t, func() bool { return f.Health().Sent == pods*lines+2 })
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if sink.batches < pods*lines/batchLines {
		t.Fatalf("%d batches are no backlog", sink.batches)
	}
	if n := sink.first["zz-quiet"]; n > sink.batches/3 { // it was the last one, in the order of the backlog
		t.Errorf("the quiet pod's first line came in batch %d of %d", n, sink.batches)
	}
}

// Docker's files lie elsewhere, with links to them where the kubelet looks; it cuts long
// lines without saying so but by the newline that is missing, and rotates by a number.
func TestFilesOfDocker(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	elsewhere := t.TempDir()
	target := filepath.Join(elsewhere, "c1-json.log")
	write := func(stream, text string) {
		t.Helper()
		line := fmt.Sprintf("{\"log\":%q,\"stream\":%q,\"time\":%q}\n", text, stream, clock.Add(time.Duration(tr.next)*time.Millisecond).Format(time.RFC3339Nano))
		f, err := os.OpenFile(target, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err == nil {
			_, err = f.WriteString(line)
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	lines := func(n int) {
		for range n {
			write("stdout", fmt.Sprintf("line %d\n", tr.next))
			tr.next++
		}
	}
	lines(50)
	if err := os.Symlink(target, filepath.Join(tr.dir, "0.log")); err != nil {
		t.Fatal(err)
	}
	_, stop := tr.run(s)
	s.await(key, 50)
	write("stdout", "line ") // a line of two parts
	write("stderr", "{\"level\":\"ERROR\",\"msg\":\"no stock\",\"took_ms\":12}\n")
	write("stdout", fmt.Sprintf("%d\n", tr.next))
	tr.next++
	s.await(key, 51)
	for n := range 3 {
		lines(50)
		if err := os.Rename(target, fmt.Sprintf("%s.%d", target, n)); err != nil {
			t.Fatal(err)
		}
		lines(20)
		s.await(key, tr.next) // the collector has it open before the link leads to another one
	}
	stop()
	lines(10)
	_, stop = tr.run(s)
	numbered(t, s.await(key, tr.next), tr.next)
	stop()
	if got := s.await("cart-1/app/stderr", 1); got[0] != "no stock" {
		t.Errorf("stderr has %q", got)
	}
}

// What no runtime writes is sent as far as it can be read, is bounded, and is counted;
// lines around it are whole.
func TestFilesHostileLines(t *testing.T) {
	deep := strings.Repeat(`{"a":`, 50_000) + "1" + strings.Repeat("}", 50_000)
	wide := "{" + strings.TrimSuffix(strings.Repeat(`"kkkkkkkkkkkkkkkkkk":1,`, 20_000), ",") + "}"
	for name, tc := range map[string]struct {
		raw       string
		malformed bool
		records   int // that it becomes at most
	}{
		"1970":                        {"1970-01-01T00:00:00Z stdout F old\n", true, 1},
		"2099":                        {"2099-12-31T23:59:59.999999999Z stdout F far ahead\n", true, 1},
		"10000":                       {"10000-01-01T00:00:00Z stdout F x\n", true, 1},
		"no time":                     {" stdout F x\n", true, 1},
		"no stream":                   {"2026-11-23T10:00:00Z F x\n", true, 1},
		"no tag":                      {"2026-11-23T10:00:00Z stdout Q x\n", true, 1},
		"half of a stamp":             {"2026-11-23T10:00:0\n", true, 1},
		"half of Docker's JSON":       {"{\"log\":\"a\\n\",\"stream\":\"std\n", true, 1},
		"Docker's JSON without a log": {"{\"stream\":\"stdout\",\"time\":\"2026-11-23T10:00:00Z\"}\n", true, 1},
		"not UTF-8":                   {cri(1, "stdout", "F", "\xff\xfe\xc0\x80 x"), false, 1},
		"NUL within":                  {cri(1, "stdout", "F", "a\x00b"), false, 1},
		"NUL alone":                   {strings.Repeat("\x00", 1<<20) + "\n", false, 0},
		"deep JSON":                   {cri(1, "stdout", "F", deep), false, 2},
		"wide JSON":                   {cri(1, "stdout", "F", wide), false, 2},
		"parts without an end":        {strings.Repeat(cri(1, "stdout", "P", strings.Repeat("p", 16<<10)), 100), false, 7},
	} {
		t.Run(name, func(t *testing.T) {
			tr, s := newTree(t), newServer(t)
			tr.raw("0.log", cri(0, "stdout", "F", "before")+tc.raw+cri(2, "stdout", "F", "after"))
			f, stop := tr.run(s)
			waitFor(t, func() bool {
				got := s.got(key)
				return len(got) > 1 && strings.HasSuffix(got[len(got)-1], "after")
			})
			stop()
			got := s.got(key)
			if got[0] != "before" || len(got) > tc.records+2 {
				t.Errorf("%d records, the first is %.60q", len(got), got[0])
			}
			for _, c := range f.Counts() {
				if (c.Malformed > 0) != tc.malformed {
					t.Errorf("%d lines are counted as malformed", c.Malformed)
				}
			}
			for _, l := range got {
				if !utf8.ValidString(l) || len(l) > wire.MaxLogLineBytes {
					t.Errorf("a record of %d bytes: %.60q", len(l), l)
				}
			}
			for _, fields := range s.fields {
				checkBounds(t, fields)
			}
		})
	}
}

// A line of a time that is further ahead than the server stores stands at the time of the one
// before it, whole, as one without a time does. What a clock may be wrong by stays.
func TestFilesTimesFarAhead(t *testing.T) {
	tr := newTree(t)
	day := int(24 * time.Hour / time.Millisecond)
	soon, far := cri(day/2, "stderr", "F", "soon"), cri(3*day, "stderr", "F", "far ahead")
	tr.raw("0.log", cri(1, "stdout", "F", "before")+far+cri(2, "stdout", "F", "after")+soon)
	h := tr.byHand(t)
	h.settled()
	got := map[string]time.Time{}
	for _, g := range h.b.wire.Groups {
		for _, l := range g.Lines {
			got[l.Message] = time.Unix(0, l.Time).UTC()
		}
	}
	at := func(ms int) time.Time { return clock.Add(time.Duration(ms) * time.Millisecond) }
	if want := map[string]time.Time{"before": at(1), strings.TrimSuffix(far, "\n"): at(1), "after": at(2), "soon": at(day / 2)}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Events alone are enough to have lines read, however often everything is looked at.
func TestFilesAreReadAtEvents(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	tr.write("0.log", 10)
	o := tr.options()
	o.Rescan = time.Hour
	_, stop := tr.runWith(o, s)
	defer stop()
	s.await(key, 10)
	for range 20 {
		tr.write("0.log", 10)
		s.await(key, tr.next)
	}
	stop()
	numbered(t, s.got(key), tr.next)
}
