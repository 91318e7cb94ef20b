package world

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/crowsnest-dev/crowsnest/collector/logs"
	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// beside is a node with one container, whose log is a file and what the API server has, and
// a server that takes lines of both its readers.
type beside struct {
	t       *testing.T
	dir     string       // of the container
	ahead   atomic.Int64 // of the clock, as time is made to pass
	looks   atomic.Int64 // at the pods
	answers sync.WaitGroup

	mu        sync.Mutex
	wrote     chan struct{} // closed at each write
	lines     []string      // as the API server gives them
	part      string        // of one whose end is not written
	written   int
	asked     int // for logs, through the API server
	open      int // answers that go on
	heard     []string
	dead      bool // nothing of the node's collector arrives any more
	seen      map[string]bool
	positions map[string]wire.LogPosition
	got       []string
	by        []string // the sender of each
}

var _ logs.Pods = (*beside)(nil)

func (w *beside) now() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }

func (w *beside) set(fn func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fn()
}

// looked counts how often role all looks at the pods.
type looked struct{ *beside }

func (w looked) Snapshot() *state.Snapshot {
	w.looks.Add(1)
	return w.beside.Snapshot()
}

// Snapshot is the node as State.
func (w *beside) Snapshot() *state.Snapshot {
	return &state.Snapshot{
		Synced: true, Nodes: map[string]*object.Node{"n1": {Meta: object.Meta{Name: "n1"}}},
		Pods: map[string]*object.Pod{"uid-1": {
			Meta: object.Meta{UID: "uid-1", Namespace: "shop", Name: "cart-1"}, Phase: object.PhaseRunning, Node: "n1",
			Containers: []object.Container{{Name: "app", State: "running", ID: "1"}},
		}},
	}
}

// raw writes a piece of a line, or all of it.
func (w *beside) raw(stream, tag, text string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	stamp := w.now().UTC().Format("2006-01-02T15:04:05.000000000Z07:00")
	f, err := os.OpenFile(filepath.Join(w.dir, "0.log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err == nil {
		_, err = fmt.Fprintf(f, "%s %s %s %s\n", stamp, stream, tag, text)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		w.t.Fatal(err)
	}
	if w.part == "" {
		w.part = stamp + " "
	}
	if w.part += text; tag == "P" {
		return
	}
	w.lines, w.part = append(w.lines, w.part+"\n"), ""
	close(w.wrote)
	w.wrote = make(chan struct{})
}

func (w *beside) write(n int) {
	w.t.Helper()
	for range n {
		w.raw([]string{"stdout", "stderr"}[w.written%3/2], "F", fmt.Sprintf("line %d", w.written))
		w.written++
	}
}

// GetPod implements logs.Pods.
func (w *beside) GetPod(_ context.Context, namespace, name string) (*corev1.Pod, error) {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID("uid-1")}, Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "app"}}}}, nil
}

// PodLogs implements logs.Pods.
func (w *beside) PodLogs(ctx context.Context, _, _ string, o *corev1.PodLogOptions) (io.ReadCloser, error) {
	w.set(func() { w.asked++; w.open++ })
	r, out := io.Pipe()
	w.answers.Go(func() {
		defer w.set(func() { w.open-- })
		for i := 0; ; {
			w.mu.Lock()
			lines, wrote := w.lines[i:], w.wrote
			w.mu.Unlock()
			i += len(lines)
			for _, l := range lines {
				at, err := time.Parse(time.RFC3339Nano, l[:30])
				if err != nil {
					w.t.Error(err)
				}
				if o.SinceTime != nil && at.Before(o.SinceTime.Time) {
					continue
				}
				if _, err := io.WriteString(out, l); err != nil {
					return
				}
			}
			if !o.Follow {
				_ = out.Close() // it never fails
				return
			}
			select {
			case <-wrote:
			case <-ctx.Done():
				_ = out.CloseWithError(ctx.Err()) // nor does this
				return
			}
		}
	})
	return r, nil
}

// to is the server as one of the readers has it.
type to struct{ *beside }

// Send implements logs.Sink.
func (w to) Send(ctx context.Context, b *wire.LogBatch) error {
	body, err := b.Encode() // as one who sends it: after that its lines are gone
	if err != nil {
		return err
	}
	if b, err = wire.UnmarshalLogBatch(body); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead && b.Sender != "all" {
		w.mu.Unlock()
		<-ctx.Done()
		w.mu.Lock()
		return ctx.Err()
	}
	if b.Lines() == 0 || w.seen[b.ID] {
		return nil
	}
	for _, p := range b.Positions {
		if p.Claims() && p.From < w.positions[p.Key].Taken {
			return fmt.Errorf("line %d of %s: %w", w.positions[p.Key].Taken, p.Key, fault.ErrConflict)
		}
	}
	for _, p := range b.Positions {
		if p.Taken >= w.positions[p.Key].Taken {
			w.positions[p.Key] = p
		}
	}
	w.seen[b.ID] = true
	var lines []wire.LogLine
	for _, g := range b.Groups {
		lines = append(lines, g.Lines...)
	}
	slices.SortStableFunc(lines, func(a, b wire.LogLine) int { return cmp.Compare(a.Time, b.Time) })
	for _, l := range lines {
		w.got, w.by = append(w.got, l.Message), append(w.by, b.Sender)
	}
	return nil
}

func (w *beside) ask(_ context.Context, sources []wire.LogSource) (out []wire.LogPosition, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range sources {
		if p, ok := w.positions[s.Key]; ok {
			out = append(out, p)
		}
	}
	return out, nil
}

func (w *beside) waitFor(what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Millisecond) {
		w.mu.Lock()
		is := ok()
		got, asked, open := len(w.got), w.asked, w.open
		w.mu.Unlock()
		if is {
			return
		}
		if time.Now().After(end) {
			w.t.Fatalf("%s: the server has %d of %d lines; the API server was asked %d times, and gives %d answers", what, got, w.written, asked, open)
		}
	}
}

// arrived waits until the server has all lines, of which some last ones are of a sender.
func (w *beside) arrived(n int, sender string) {
	w.t.Helper()
	w.waitFor("lines of "+sender, func() bool { return len(w.got) >= w.written })
	w.set(func() {
		for i, by := range w.by[max(0, len(w.by)-n):] {
			if by != sender {
				w.t.Errorf("line %d is of %s, want %s", w.written-n+i, by, sender)
			}
		}
	})
}

// run runs what follows lines until stop.
func (w *beside) run(l interface {
	Run(ctx context.Context, sink logs.Sink) error
}) (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx, to{w}) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("Run: %v", err)
		}
	}
}

// Role all leaves the log of a container to the collector of its node for as long as the
// server hears that one, goes on with it once that one was silent for long, and gives it back
// when it is heard again. No line is lost or comes twice, nor is the one torn that was open
// when the node's collector was killed.
func TestLogsAreFollowedBesideANodesCollector(t *testing.T) {
	root := t.TempDir()
	w := &beside{t: t, dir: filepath.Join(root, "shop_cart-1_uid-1", "app"), wrote: make(chan struct{}), seen: map[string]bool{}, positions: map[string]wire.LogPosition{}}
	if err := os.MkdirAll(w.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	nodes := newLogNodes(Options{LogReaders: func(context.Context, []string) ([]string, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.heard, nil
	}, Logger: slog.New(slog.DiscardHandler), Now: w.now}, w)
	after := func(d time.Duration) {
		w.ahead.Add(int64(d))
		nodes.refresh(t.Context())
	}
	all, err := logs.NewAPI(logs.APIOptions{
		Pods: w, State: looked{w}, Positions: w.ask, Reads: nodes.Reads, Quiet: nodes.Quiet, Sender: "all", Now: w.now,
		Linger: 5 * time.Millisecond, Backoff: 5 * time.Millisecond, Poll: 5 * time.Millisecond, Rules: logs.Rules{Join: logs.JoinOptions{Hold: 20 * time.Millisecond}},
	})
	if err != nil {
		t.Fatal(err)
	}
	gives := make(chan struct{}) // closed when the node's collector asks again how far others were
	var asks atomic.Int64
	asks.Store(math.MinInt32)
	node := func() *logs.Files {
		f, err := logs.NewFiles(logs.FilesOptions{
			Root: root, Dir: filepath.Join(root, "positions"), Sender: "node/n1", Node: "n1", State: w, HandOver: time.Millisecond, Now: w.now,
			Positions: func(ctx context.Context, sources []wire.LogSource) ([]wire.LogPosition, error) {
				if asks.Add(1) == 2 {
					select {
					case <-gives: // as it does in the time that it is given
					case <-ctx.Done():
						return nil, ctx.Err()
					}
				}
				return w.ask(ctx, sources)
			},
			Linger: 5 * time.Millisecond, Grace: 20 * time.Millisecond, Rescan: 100 * time.Millisecond, Rules: logs.Rules{Join: logs.JoinOptions{Hold: 20 * time.Millisecond}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	// left says that the API server is not asked for lines, however often role all looks.
	left := func(when string) {
		t.Helper()
		asked := 0
		w.set(func() { asked = w.asked })
		until := w.looks.Load() + 20
		w.waitFor("looks", func() bool { return w.looks.Load() >= until })
		w.set(func() {
			if w.asked != asked || w.open != 0 {
				t.Errorf("%s: the API server was asked for lines", when)
			}
		})
	}

	w.heard = []string{"n1"}
	after(0)
	stopAll := w.run(all)
	stopNode := w.run(node())
	w.write(50)
	w.arrived(50, "node/n1")
	after(silentFor) // for which the server has answered
	left("while the node's collector is heard")
	w.write(50)
	w.arrived(50, "node/n1")

	w.raw("stdout", "P", fmt.Sprintf("line %d", w.written))
	w.set(func() { w.dead, w.heard = true, nil })
	stopNode()
	w.raw("stdout", "F", "") // its end
	w.written++
	w.write(30)
	after(time.Second)
	left("silent for a moment")
	after(silentFor - readersEvery) // some of which passes by itself
	left("before it is silent for long")
	after(readersEvery)
	w.arrived(31, "all")
	w.write(50)
	w.arrived(50, "all")

	w.set(func() { w.dead, w.heard = false, []string{"n1"} })
	asks.Store(0)
	stopNode = w.run(node())
	w.write(10) // by whom they are followed is not known
	after(time.Second)
	w.waitFor("gives back", func() bool { h := all.Health(); return w.open == 0 && h.Read == h.Sent })
	w.write(10)
	close(gives)
	w.arrived(10, "node/n1")
	left("heard again")
	w.write(50)
	w.arrived(50, "node/n1")
	stopNode()
	stopAll()
	w.answers.Wait()
	came := map[string]int{}
	for _, l := range w.got {
		came[l]++
	}
	for i := range w.written {
		if times := came[fmt.Sprintf("line %d", i)]; times != 1 {
			t.Errorf("line %d came %d times", i, times)
		}
	}
	if len(w.got) != w.written {
		t.Errorf("%d lines, want %d", len(w.got), w.written)
	}
}
