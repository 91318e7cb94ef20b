package logs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// newest gives the newest mark of a node that the server was told.
func (s *server) newest(node string) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Unix(0, s.marks[node])
}

// A node is complete once its files were read to their ends, also when nobody
// writes; not past a record that waits for its end, nor while the server is away.
func TestFilesSayWhatIsComplete(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	began := time.Now()
	tr.write("0.log", 10)
	o := tr.options()
	o.Rescan = time.Hour // nothing but events tells of lines
	f, stop := tr.runWith(o, s)
	defer stop()
	s.await(key, 10)
	waitFor(t, func() bool { return s.newest("n1").After(began) })
	// The first part of a line, of just now.
	at := time.Now().UTC()
	tr.raw("0.log", at.Format("2006-01-02T15:04:05.000000000Z07:00")+" stdout P begin\n")
	waitFor(t, func() bool { return f.Health().Read >= 10 && s.newest("n1").Add(2*completeAfter).After(at) })
	idle := s.newest("n1")
	waitFor(t, func() bool { return time.Since(at) > 3*completeAfter })
	if got := s.newest("n1"); !got.Before(at) {
		t.Errorf("complete through %s (%s before), though a line of %s has no end yet", got, idle, at)
	}
	tr.raw("0.log", at.Format("2006-01-02T15:04:05.000000000Z07:00")+" stdout F end\n")
	waitFor(t, func() bool { return s.newest("n1").After(at) })
}

// byHand is a collector of a tree that looks when it is told to, at a time of its own.
type byHand struct {
	*Files
	tr *tree
	at time.Time // by its clock
	// back is by how much that was set back.
	back time.Duration
	b    *batch[filePos]
}

func (tr *tree) byHand(t *testing.T) *byHand {
	t.Helper()
	h := &byHand{tr: tr, at: clock.Add(time.Hour)}
	o := tr.options()
	o.Now, o.Grace = func() time.Time { return h.at }, 10*completeAfter
	o.Monotonic = func() time.Duration { return h.at.Sub(clock) + h.back }
	var err error
	if h.Files, err = NewFiles(o); err != nil {
		t.Fatal(err)
	}
	h.watch, h.b = startWatch(t), newBatch[filePos](o.Sender)
	h.scanRoot()
	h.started = true
	t.Cleanup(func() {
		for _, c := range h.order {
			c.release()
		}
	})
	return h
}

// lookAfter looks after a while, and says up to when it is complete then.
func (h *byHand) lookAfter(d time.Duration) time.Time {
	h.tr.t.Helper()
	h.at = h.at.Add(d)
	h.noteClock()
	if h.look(h.at) {
		h.tr.t.Fatal("events were missed")
	}
	for _, c := range h.order {
		if !c.wake.IsZero() && !h.at.Before(c.wake) {
			c.wake, c.dirty = time.Time{}, true
		}
	}
	for h.fill(h.b) { // it was sent
		h.b = newBatch[filePos](h.opts.Sender)
	}
	h.noteComplete(h.at)
	return time.Unix(0, h.complete).UTC()
}

// settled is up to when it is complete once whatever waits had its turn.
func (h *byHand) settled() time.Time {
	h.tr.t.Helper()
	for range 10 {
		h.lookAfter(h.grace + h.opts.Rules.Join.Hold)
	}
	got := h.lookAfter(0)
	if want := h.at.Add(-completeAfter); !got.Equal(want) {
		h.tr.t.Fatalf("complete through %s once all was read, want %s", got, want)
	}
	return got
}

// line appends a line of that moment to a file, and gives its time.
func (h *byHand) line(name, text string) time.Time {
	h.tr.t.Helper()
	return h.piece(name, "F", text)
}

func (h *byHand) piece(name, tag, text string) time.Time {
	h.tr.t.Helper()
	h.tr.raw(name, h.at.Format("2006-01-02T15:04:05.000000000Z07:00")+" stdout "+tag+" "+text+"\n")
	return h.at
}

// A node is not complete while a file waits until the writer of the one before it has let
// go: at a start, up to where those begin that wait, and later up to when all was read.
func TestFilesAreNotCompleteWhileOneWaits(t *testing.T) {
	const old = "0.log.20261123-100000"
	tr := newTree(t)
	tr.write(old, 1)
	tr.raw("0.log", cri(int(10*time.Minute/time.Millisecond), "stdout", "F", "one that waits"))
	h := tr.byHand(t)
	h.lookAfter(0)
	h.lookAfter(h.grace / 2) // the record before has waited
	if got, waits := h.lookAfter(0), clock.Add(10*time.Minute); !got.Equal(waits.Add(-completeAfter)) {
		t.Errorf("at a start complete through %s, though a line of %s waits", got, waits)
	}
	h.settled()

	h.at = h.at.Add(10 * time.Minute)
	was := h.lookAfter(0)
	tr.rename("0.log", "0.log.20261123-110000")
	at := h.line("0.log", "behind a rotation")
	if got := h.lookAfter(h.grace / 2); got.Before(was) || !got.Before(at) {
		t.Errorf("after a rotation complete through %s, want from %s to %s", got, was, at)
	}
	h.settled()

	// One that was read to its end is written to after all, and the next one has to wait.
	h.at = h.at.Add(10 * time.Minute)
	was = h.lookAfter(0)
	h.line("0.log.20261123-110000", "late")
	h.scanRoot()
	h.lookAfter(0)
	at = h.line("0.log", "behind one that is open again")
	if got := h.lookAfter(h.grace / 2); got.Before(was) || !got.Before(at) {
		t.Errorf("behind a file that is open again complete through %s, want from %s to %s", got, was, at)
	}
	h.settled()
}

// Nor is it, where its process stood still, beyond the time at which it took events last.
func TestFilesAreNotCompleteBeyondWhatWasTold(t *testing.T) {
	tr := newTree(t)
	h := tr.byHand(t)
	h.line("0.log", "one")
	h.settled()
	h.at = h.at.Add(10 * time.Second)
	at := h.line("0.log", "while it stands still")
	h.at = h.at.Add(10 * time.Second)
	h.noteComplete(h.at)
	if got := time.Unix(0, h.complete).UTC(); !got.Before(at) {
		t.Errorf("complete through %s, though nobody has told of a line of %s", got, at)
	}
	h.settled()
}

// What is a copy of another file, or has no line yet and may become one, is not waited for.
func TestFilesAreCompleteBesideACopy(t *testing.T) {
	tr := newTree(t)
	h := tr.byHand(t)
	var text strings.Builder
	for i := range 20 {
		text.WriteString(cri(i, "stdout", "F", fmt.Sprintf("a line that is told by its beginning, %d", i)))
	}
	tr.raw("0.log", text.String())
	h.settled()
	for _, part := range []string{text.String()[:knownHead-1], text.String()[knownHead-1:]} {
		tr.raw("0.log.1", part)
		got := h.lookAfter(h.grace / 2)
		if want := h.at.Add(-completeAfter); !got.Equal(want) {
			t.Errorf("complete through %s beside a copy, want %s", got, want)
		}
	}
}

// A file that is cut while it waits is read from its beginning: that it is looked at does
// not hide it.
func TestFilesThatAreCutWhileTheyWait(t *testing.T) {
	const old = "0.log.20261123-100000"
	tr := newTree(t)
	tr.write(old, 1)
	h := tr.byHand(t)
	tr.write("0.log", 20)
	h.settled()
	h.line(old, "late")
	h.scanRoot()
	for range 2 {
		h.lookAfter(h.grace / 8)
	}
	if err := os.Truncate(filepath.Join(tr.dir, "0.log"), 0); err != nil {
		t.Fatal(err)
	}
	before := h.Health().Read
	tr.write("0.log", 40)
	for range 2 {
		h.lookAfter(h.grace / 8)
	}
	h.settled()
	if got := h.Health().Read - before; got != 40 {
		t.Errorf("%d lines were read of a file that was cut, want 40", got)
	}
}

// A line without an end holds a node up for a while, not for as long as its pod is there,
// and is whole when its end comes after all; that it was late is counted. Where its end may
// be in a file that waits, that is waited for.
func TestFilesAreCompleteWithoutALineThatHasNoEnd(t *testing.T) {
	const old = "0.log.20261123-100000"
	tr := newTree(t)
	h := tr.byHand(t)
	counted := func(open, late float64) {
		t.Helper()
		if got, were := testutil.ToFloat64(h.metrics.open), testutil.ToFloat64(h.metrics.late); got != open || were != late {
			t.Errorf("%v lines are without an end and %v were late, want %v and %v", got, were, open, late)
		}
	}
	h.line("0.log", "before")
	h.settled()
	at := h.piece("0.log", "P", "begun, ")
	h.lookAfter(0)
	h.piece("0.log", "P", "goes on, ")
	if got := h.lookAfter(openFor - 1); !got.Before(at) {
		t.Errorf("complete through %s, though a line of %s has no end yet", got, at)
	}
	counted(0, 0)
	got := h.lookAfter(1)
	if want := h.at.Add(-completeAfter); !got.Equal(want) {
		t.Errorf("complete through %s, want %s: a line of %s has no end", got, want, at)
	}
	h.marks()
	counted(1, 0)
	h.piece("0.log", "F", "ended")
	was := h.lookAfter(0)
	for range 2 {
		h.lookAfter(h.opts.Rules.Join.Hold)
	}
	counted(0, 1)
	lines := h.b.wire.Groups[0].Lines
	if l := lines[len(lines)-1]; l.Message != "begun, goes on, ended" || l.Time != at.UnixNano() {
		t.Errorf("it is %+v, want it whole and of %s", l, at)
	}
	h.settled()

	at = h.piece("0.log", "P", "begun before ")
	h.lookAfter(0)
	tr.rename("0.log", old)
	h.at = h.at.Add(5 * time.Second)
	h.piece("0.log", "F", "a rotation")
	h.grace = 2 * openFor
	h.lookAfter(0)
	if got := h.lookAfter(openFor + time.Second); got.Before(was) || !got.Before(at) {
		t.Errorf("complete through %s, though the end of a line of %s waits", got, at)
	}
	h.settled()
	counted(0, 1)
}

// What was said to be complete by a clock that was ahead does not hold once it is set right:
// the server takes a time to come for now, and would take lines that are not there for none.
func TestFilesTakeBackWhatAClockThatWasAheadSaid(t *testing.T) {
	const old = "0.log.20261123-100000"
	tr := newTree(t)
	h := tr.byHand(t)
	tr.write("0.log", 3)
	h.settled()
	right := h.at
	ahead := h.lookAfter(time.Hour)
	if len(h.marks()) != 1 || !ahead.After(right) {
		t.Fatalf("complete through %s", ahead)
	}
	// Set right, and what was written since then waits: in a batch that is full, behind a
	// record that is open, and behind the writer of another file.
	h.at = right.Add(time.Second)
	h.noteClock()
	if got := h.marks(); len(got) != 0 {
		t.Errorf("says %v before it has looked", got)
	}
	at := h.piece("0.log", "P", "an open record, ")
	if got := h.lookAfter(5 * time.Second); !got.Before(at) {
		t.Errorf("complete through %s, though a line of %s has no end yet", got, at)
	}
	h.piece("0.log", "F", "ended")
	h.settled()

	right = h.at
	h.lookAfter(time.Hour)
	h.at = right.Add(time.Second)
	tr.rename("0.log", old)
	h.lookAfter(0)
	h.at = h.at.Add(time.Second)
	at = h.line("0.log", "that waits")
	h.at = h.at.Add(3 * time.Second)
	if got := h.lookAfter(0); !got.Before(at) {
		t.Errorf("complete through %s, though a line of %s waits for its turn", got, at)
	}
	h.settled()
	if n := h.Health().Read; n != 5 {
		t.Errorf("%d lines were read, want 5", n)
	}

	// Also where it stood still until that was right again.
	right = h.at
	h.back -= 15 * time.Second
	h.lookAfter(15 * time.Second)
	if len(h.marks()) != 1 {
		t.Fatal("says nothing")
	}
	at = right.Add(10 * time.Second)
	h.at, h.back = right.Add(20*time.Second), h.back+15*time.Second
	h.noteClock()
	if got := h.marks(); len(got) != 0 {
		t.Errorf("says %v, and has not looked since what was written at %s", got, at)
	}
	// Nor did it take events since.
	h.noteComplete(h.at)
	if got := h.marks(); len(got) != 0 {
		t.Errorf("says %v, and has not looked since what was written at %s", got, at)
	}
	h.settled()
}

// refusal is a server that is away at first.
type refusal struct {
	away  func()
	batch *wire.LogBatch // that it took then
	// invalid, if set, is told that nothing can be sent of the batch.
	invalid func()
}

func (s *refusal) refuse(away func())   { s.away = away }
func (s *refusal) took() *wire.LogBatch { return s.batch }

func (s *refusal) Send(_ context.Context, b *wire.LogBatch) error {
	body, err := b.Encode()
	if err != nil {
		if s.invalid != nil {
			s.invalid()
		}
		return err
	}
	if s.away != nil {
		s.away()
		s.away = nil
		return errors.New("server is away")
	}
	s.batch, err = wire.UnmarshalLogBatch(body)
	return err
}

// patient tries again until it may not any more, as push.Client does.
type patient struct{ refusal }

func (s *patient) Send(ctx context.Context, b *wire.LogBatch) error {
	for {
		if err := s.refusal.Send(ctx, b); err == nil || ctx.Err() != nil {
			return err
		}
	}
}

// A batch that waits for the server while the clock is set right says nothing of what is
// complete any more.
func TestBatchesThatWaitWhileTheClockIsSetRight(t *testing.T) {
	for name, c := range map[string]struct {
		ahead time.Duration
		waits time.Duration // by which time the clock is right
		after bool          // it is set right while the batch waits for its turn
	}{
		"it was ahead":                         {ahead: time.Hour, waits: time.Minute},
		"it was ahead by less than an attempt": {ahead: 15 * time.Second, waits: 20 * time.Second},
		"it was ahead, and no attempt failed":  {ahead: 15 * time.Second, waits: 20 * time.Second, after: true},
		"it was right":                         {waits: time.Minute},
	} {
		for _, sink := range []interface {
			Sink
			refuse(away func())
			took() *wire.LogBatch
		}{&refusal{}, &patient{}} {
			at := moment{wall: clock.Add(c.ahead), monotonic: time.Hour}
			by := clocks{func() time.Time { return at.wall }, func() time.Duration { return at.monotonic }}
			goesOn := func() { at = moment{clock.Add(c.waits), at.monotonic + c.waits} }
			m := newMetrics(nil)
			ship := newShipper(openMemory[filePos](), newCounters(m), m, slog.New(slog.DiscardHandler), by)
			b := newBatch[filePos]("node/n1")
			b.add(wire.LogStream{Namespace: "shop", Pod: "cart-1", Container: "app", Stream: "stdout"}, wire.LogLine{Time: clock.UnixNano(), Message: "a line"})
			b.seal([]wire.LogMark{{Node: "n1", Through: clock.Add(c.ahead - completeAfter).UnixNano()}}, at)
			if c.after {
				goesOn()
			} else {
				sink.refuse(goesOn)
			}
			if !ship.send(t.Context(), sink, b) || sink.took() == nil || sink.took().Lines() != 1 {
				t.Fatalf("%s: %+v arrived", name, sink.took())
			}
			if says := len(sink.took().Complete) > 0; says != (c.ahead == 0) {
				t.Errorf("%s, %T: it says %v to be complete", name, sink, sink.took().Complete)
			}
		}
	}
}

// Nor does one that says nothing else go out after that.
func TestMarksThatWaitWhileTheClockIsSetRight(t *testing.T) {
	for _, ahead := range []time.Duration{0, time.Minute} {
		at := moment{wall: clock.Add(ahead), monotonic: time.Hour}
		m := newMetrics(nil)
		ship := newShipper(openMemory[filePos](), newCounters(m), m, slog.New(slog.DiscardHandler), clocks{func() time.Time { return at.wall }, func() time.Duration { return at.monotonic }})
		s := &patient{refusal{away: func() { at = moment{clock.Add(2 * time.Second), at.monotonic + 2*time.Second} }}}
		b := newBatch[filePos]("node/n1")
		b.seal([]wire.LogMark{{Node: "n1", Through: at.wall.UnixNano()}}, at)
		ctx, stop := context.WithCancel(t.Context())
		s.invalid = stop
		ship.tell(ctx, s, b)
		stop()
		if got := s.batch != nil; got != (ahead == 0) {
			t.Errorf("%s ahead: %+v arrived", ahead, s.batch)
		}
	}
}

// A clock is found to have been set back by what passed meanwhile.
func TestClocksThatAreSet(t *testing.T) {
	for _, c := range []struct {
		wall, passed time.Duration
		back         bool
	}{{time.Minute, time.Minute, false}, {time.Hour, time.Minute, false}, {-time.Second, 0, true}, {time.Second, 2 * time.Second, true}, {time.Minute, time.Minute + setBackLeast, false}, {time.Minute, time.Minute + setBackLeast + 1, true}} {
		before := moment{clock, time.Hour}
		at := moment{clock.Add(c.wall), time.Hour + c.passed}
		by := clocks{func() time.Time { return at.wall }, func() time.Duration { return at.monotonic }}
		if got := by.setBackSince(before); got != c.back {
			t.Errorf("%s later by the wall clock, and %s by the other: set back %v, want %v", c.wall, c.passed, got, c.back)
		}
	}
	if by := (clocks{now: time.Now}); by.setBackSince(by.moment()) {
		t.Error("the machine's clock was set back within a moment")
	}
}

// Through the API a node is as complete as the container that was heard least.
func TestAPISaysWhatIsComplete(t *testing.T) {
	now, passed := time.Date(2026, 11, 28, 10, 0, 0, 0, time.UTC), time.Hour
	snapshot := &state.Snapshot{Synced: true, Nodes: map[string]*object.Node{"n1": {}, "n2": {}, "n3": {}, "n4": {}}}
	a := &API{opts: APIOptions{State: fixedState{snapshot}}, clocks: clocks{func() time.Time { return now }, func() time.Duration { return passed }}, started: now.Add(-time.Hour), followers: sync.Map{}}
	a.heard.Store(&hearing{own: 1, parts: 3, deaf: map[string]bool{"n4": true}})
	for k, v := range map[string]struct {
		node   string
		caught time.Time
	}{"a": {"n1", now.Add(-time.Second)}, "b": {"n1", now.Add(-time.Minute)}, "c": {"n2", time.Time{}}} {
		f := &follower{key: k, node: v.node}
		if !v.caught.IsZero() {
			f.catches(moment{v.caught, passed + v.caught.Sub(now)})
		}
		a.followers.Store(k, f)
	}
	got := a.marks()
	want := []wire.LogMark{{Node: "n1", Through: now.Add(-time.Minute).UnixNano(), Part: 1, Parts: 3}, {Node: "n3", Through: now.Add(-apiDelay).UnixNano(), Part: 1, Parts: 3}}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got %v, want %v: of n2 a container was never heard, of n4 one is not followed", got, want)
	}
	// The clock was ahead when a was heard last, and is set right; that it passes the time by
	// which a was heard then says nothing.
	now = now.Add(-2 * time.Minute)
	for range 2 {
		a.started = now.Add(-time.Hour)
		if got := a.marks(); len(got) != 1 || got[0].Node != "n3" {
			t.Errorf("got %v, want n3 alone: a was not heard since the clock was set", got)
		}
		now, passed = now.Add(time.Hour), passed+time.Hour
	}
	// So it is where nobody asked between.
	now, passed = now.Add(time.Hour), passed+time.Hour
	for _, k := range []string{"a", "b"} {
		f, _ := a.followers.Load(k)
		f.(*follower).catches(a.moment()) //nolint:forcetypeassert // nothing else is stored
	}
	if got := a.marks(); len(got) != 2 || got[0].Node != "n1" {
		t.Errorf("got %v, want n1 and n3", got)
	}
	now, passed = now.Add(5*time.Second), passed+20*time.Second
	if got := a.marks(); len(got) != 1 || got[0].Node != "n3" {
		t.Errorf("got %v, want n3 alone: it was heard by a clock that was ahead by 15 s", got)
	}
	snapshot.Synced = false
	if got := a.marks(); got != nil {
		t.Errorf("got %v before the first lists", got)
	}
}
