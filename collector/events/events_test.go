package events

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/crowsnest-dev/crowsnest/collector/kube"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

var t0 = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

func event(uid string, count int32, at time.Time) *corev1.Event {
	return &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{UID: types.UID(uid), Namespace: "shop"},
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: "shop", Name: "cart-1", UID: "pod-uid"},
		Reason:         "BackOff", Type: corev1.EventTypeWarning, Message: "Back-off restarting " + uid + "\n", Count: count,
		LastTimestamp: metav1.NewTime(at), Source: corev1.EventSource{Component: "kubelet", Host: "n1"},
	}
}

// sink notes batches; fail decides what Send says.
type sink struct {
	mu   sync.Mutex
	got  []*wire.LogBatch
	fail func(n int) error
	came chan struct{}
}

func (s *sink) Send(_ context.Context, b *wire.LogBatch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := b.Validate(); err != nil {
		return err
	}
	s.got = append(s.got, b)
	var err error
	if s.fail != nil {
		err = s.fail(len(s.got))
	}
	s.came <- struct{}{}
	return err
}

func (s *sink) lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, b := range s.got {
		for _, g := range b.Groups {
			for _, l := range g.Lines {
				out = append(out, l.Fields.Get("uid")+"/"+l.Fields.Get("count"))
			}
		}
	}
	return out
}

func watcher(t *testing.T, file string) *Watcher {
	t.Helper()
	w, err := New(Options{Client: &kube.Client{}, Sender: "all", File: file, Now: func() time.Time { return t0 }})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// deliverAll sends what waits, as Run does.
func deliverAll(t *testing.T, w *Watcher, s *sink) {
	t.Helper()
	for b := w.nextBatch(); b != nil; b = w.nextBatch() {
		if err := w.deliver(t.Context(), s, b); err != nil {
			t.Fatal(err)
		}
	}
}

func newSink() *sink { return &sink{came: make(chan struct{}, 100)} }

// A hook that failed is told with its whole command.
func TestMessagesAreMasked(t *testing.T) {
	w, s := watcher(t, ""), newSink()
	for i, mask := range []func(string) string{nil, strings.ToUpper, nil} {
		w.SetMask(mask)
		w.take(event(fmt.Sprint("e", i), 1, t0))
	}
	deliverAll(t, w, s)
	var got []string
	for _, l := range s.got[0].Groups[0].Lines {
		got = append(got, l.Message)
	}
	if want := []string{"Back-off restarting e0", "BACK-OFF RESTARTING E1", "Back-off restarting e2"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRecord(t *testing.T) {
	w, s := watcher(t, ""), newSink()
	w.take(event("e1", 3, t0))
	deliverAll(t, w, s)
	if len(s.got) != 1 {
		t.Fatalf("%d batches", len(s.got))
	}
	b := s.got[0]
	if b.Sender != "all" || b.Groups[0].Stream != (wire.LogStream{Namespace: "shop", Stream: "events"}) {
		t.Errorf("batch of %s, stream %+v", b.Sender, b.Groups[0].Stream)
	}
	l := b.Groups[0].Lines[0]
	if l.Time != t0.UnixNano() || l.Message != "Back-off restarting e1" {
		t.Errorf("line %+v", l)
	}
	for k, want := range map[string]string{"kind": "Pod", "name": "cart-1", "reason": "BackOff", "type": "Warning", "count": "3", "uid": "e1", "object_uid": "pod-uid", "level": "warning", "source": "kubelet"} {
		if l.Fields.Get(k) != want {
			t.Errorf("field %s is %q, want %q", k, l.Fields.Get(k), want)
		}
	}
}

func TestEachEventAndCountOnce(t *testing.T) {
	w, s := watcher(t, ""), newSink()
	w.take(event("a", 1, t0))
	w.take(event("a", 1, t0)) // listed again
	w.take(event("b", 1, t0.Add(time.Second)))
	deliverAll(t, w, s)
	w.take(event("a", 1, t0))
	w.take(event("a", 4, t0.Add(time.Minute)))
	w.take(event("a", 5, t0.Add(2*time.Minute))) // before the one before was sent
	w.take(event("a", 2, t0))                    // out of order
	deliverAll(t, w, s)
	if got := s.lines(); !slices.Equal(got, []string{"a/1", "b/1", "a/5"}) {
		t.Errorf("got %v", got)
	}
	if h := w.Health(); h.Sent != 3 {
		t.Errorf("health %+v", h)
	}
}

// A line stands for all that came since the one before: how often, and since when.
func TestASeriesIsUnfolded(t *testing.T) {
	file := filepath.Join(t.TempDir(), "events.json")
	w, s := watcher(t, file), newSink()
	at := func(count int32, after time.Duration) {
		e := event("a", count, t0.Add(after))
		e.FirstTimestamp = metav1.NewTime(t0)
		w.take(e)
	}
	at(3, time.Minute) // of which nobody heard before
	deliverAll(t, w, s)
	at(4, 2*time.Minute)
	deliverAll(t, w, s)
	at(6, 3*time.Minute)
	at(11, 4*time.Minute) // before the one before was sent
	deliverAll(t, w, s)
	w = watcher(t, file) // a restart knows what was told
	at(20, 5*time.Minute)
	onItsWay := w.nextBatch()
	at(22, 6*time.Minute)
	if err := w.deliver(t.Context(), s, onItsWay); err != nil {
		t.Fatal(err)
	}
	deliverAll(t, w, s)
	var got []string
	for _, b := range s.got {
		for _, g := range b.Groups {
			for _, l := range g.Lines {
				got = append(got, l.Fields.Get("count")+": "+l.Fields.Get("occurrences")+" since "+l.Fields.Get("since"))
			}
		}
	}
	if want := []string{"3: 3 since 2026-11-23T10:00:00Z", "4:  since ", "11: 7 since 2026-11-23T10:02:00Z", "20: 9 since 2026-11-23T10:04:00Z", "22: 2 since 2026-11-23T10:05:00Z"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Of a series that began before anybody here listened, it is not known what is new.
func TestASeriesOfBeforeIsOneUntilItGoesOn(t *testing.T) {
	w, s := watcher(t, ""), newSink()
	w.began = t0.UnixNano()
	for i, count := range []int32{4_000, 4_017} {
		e := event("a", count, t0.Add(time.Duration(i+1)*time.Minute))
		e.FirstTimestamp, e.CreationTimestamp = metav1.NewTime(t0.Add(-72*time.Hour)), metav1.NewTime(t0.Add(-72*time.Hour))
		w.take(e)
		deliverAll(t, w, s)
	}
	var got []string
	for _, b := range s.got {
		for _, g := range b.Groups {
			for _, l := range g.Lines {
				got = append(got, l.Fields.Get("count")+": "+l.Fields.Get(wire.FieldOccurrences))
			}
		}
	}
	if want := []string{"4000: ", "4017: 17"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestBatchesLieInOneDay(t *testing.T) {
	w, s := watcher(t, ""), newSink()
	midnight := t0.Truncate(24 * time.Hour)
	w.take(event("late", 1, midnight.Add(time.Second)))
	w.take(event("early", 1, midnight.Add(-time.Second)))
	deliverAll(t, w, s)
	if len(s.got) != 2 || s.lines()[0] != "early/1" {
		t.Errorf("%d batches: %v", len(s.got), s.lines())
	}
}

func TestARestartRepeatsAndMissesNothing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "events.json")
	w, s := watcher(t, file), newSink()
	w.take(event("a", 1, t0))
	deliverAll(t, w, s)
	w.take(event("b", 1, t0))
	sentNot := w.nextBatch() // and here the process is killed, maybe after it was sent

	w = watcher(t, file)
	w.take(event("a", 1, t0))
	w.take(event("b", 1, t0))
	w.take(event("c", 1, t0))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.send(ctx, s) }()
	<-s.came // a
	<-s.came // the pending one
	<-s.came // c
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := s.lines(); !slices.Equal(got, []string{"a/1", "b/1", "c/1"}) {
		t.Errorf("got %v", got)
	}
	if s.got[1].ID != sentNot.ID {
		t.Errorf("the batch under way is sent as %s, it was %s", s.got[1].ID, sentNot.ID)
	}
}

// What the API server has no more cannot come again.
func TestEventsThatAreGoneAreForgotten(t *testing.T) {
	w, s := watcher(t, ""), newSink()
	a, b, c := event("a", 1, t0), event("b", 1, t0), event("c", 1, t0)
	k := (*store)(w)
	if err := k.Replace([]any{a, b, c}, "1"); err != nil {
		t.Fatal(err)
	}
	deliverAll(t, w, s)
	for _, step := range []struct {
		do   func() error
		left []types.UID
	}{
		{func() error { return nil }, []types.UID{"a", "b", "c"}},
		{func() error { return k.Delete(b) }, []types.UID{"a", "c"}},
		{func() error { return k.Replace([]any{c}, "2") }, []types.UID{"c"}},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		if got := slices.Sorted(maps.Keys(w.memory.Sent)); !slices.Equal(got, step.left) {
			t.Errorf("remembers %v, want %v", got, step.left)
		}
	}
	deliverAll(t, w, s)
	if got := s.lines(); !slices.Equal(got, []string{"a/1", "b/1", "c/1"}) {
		t.Errorf("told %v", got)
	}
}

func TestRefusedEventsAreCounted(t *testing.T) {
	w, s := watcher(t, ""), newSink()
	s.fail = func(n int) error {
		if n == 1 {
			return fmt.Errorf("no: %w", fault.ErrInvalid)
		}
		return nil
	}
	w.take(event("a", 1, t0))
	deliverAll(t, w, s)
	w.take(event("b", 1, t0))
	deliverAll(t, w, s)
	if h := w.Health(); h.Dropped[DropRefused] != 1 || h.Sent != 1 {
		t.Errorf("health %+v", h)
	}
}

func TestTimesOfNewAndOldEvents(t *testing.T) {
	series := event("a", 0, time.Time{})
	series.LastTimestamp = metav1.Time{}
	series.EventTime = metav1.NewMicroTime(t0)
	series.Series = &corev1.EventSeries{Count: 7, LastObservedTime: metav1.NewMicroTime(t0.Add(time.Minute))}
	r, _ := convert(series)
	if r.line.Time != t0.Add(time.Minute).UnixNano() || r.line.Fields.Get("count") != "7" {
		t.Errorf("a series: %+v", r.line)
	}
	single := event("a", 0, time.Time{})
	single.LastTimestamp = metav1.Time{}
	single.EventTime = metav1.NewMicroTime(t0)
	if r, _ := convert(single); r.line.Time != t0.UnixNano() || r.line.Fields.Get("count") != "1" {
		t.Errorf("a single one: %+v", r.line)
	}
	long := event("a", 1, t0)
	long.Message = strings.Repeat("x", 2*maxMessage)
	if r, _ := convert(long); len(r.line.Message) != maxMessage {
		t.Errorf("a message of %d bytes", len(r.line.Message))
	}
	node := event("a", 1, t0)
	node.InvolvedObject = corev1.ObjectReference{Kind: "Node", Name: "n1"}
	if r, _ := convert(node); r.stream.Node != "n1" || r.stream.Namespace != "" {
		t.Errorf("a node's: %+v", r.stream)
	}
}

func TestADamagedMemoryBeginsAnew(t *testing.T) {
	file := filepath.Join(t.TempDir(), "events.json")
	if err := save(file, memory{}); err != nil {
		t.Fatal(err)
	}
	w := watcher(t, file)
	w.take(event("a", 1, t0))
	if w.nextBatch() == nil {
		t.Error("nothing to send")
	}
	if _, err := New(Options{Client: &kube.Client{}, Sender: "all", File: t.TempDir()}); err == nil || errors.Is(err, fault.ErrInvalid) {
		t.Errorf("a folder in place of the file gave %v", err)
	}
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
