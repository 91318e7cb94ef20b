package logs

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A copy may be compressed as soon as it is made. What was not read before the cut is in
// nothing else then.
func TestFilesCopyThatIsCompressedAtOnce(t *testing.T) {
	for _, again := range []bool{false, true} {
		t.Run(fmt.Sprintf("started anew %v", again), func(t *testing.T) {
			tr, s := newTree(t), newServer(t)
			tr.write("0.log", 20)
			o, h := tr.heldUp()
			_, stop := tr.runWith(o, s)
			s.await(key, 20)
			h.while(tr, "other", func() {
				tr.write("0.log", 30) // not read before the cut
				tr.copyTruncate("0.log.20261123-100001")
				tr.pack("0.log.20261123-100001")
				tr.write("0.log", 5)
			})
			s.await(key, tr.next)
			if again {
				stop()
				_, stop = tr.run(s)
				tr.write("0.log", 1)
				s.await(key, tr.next)
			}
			stop()
			once(t, s.got(key), tr.next)
		})
	}
}

// So it is while a batch is made anew.
func TestFilesCopyThatIsCompressedWhileABatchIsMadeAnew(t *testing.T) {
	for _, stored := range []bool{true, false} {
		t.Run(fmt.Sprintf("stored %v", stored), func(t *testing.T) {
			tr, s := newTree(t), newServer(t)
			tr.write("0.log", 10)
			_, stop := tr.run(s)
			s.await(key, 10)
			waitFor(t, func() bool { return !hasInFlight(tr) })
			s.set(func() { s.lost, s.away = s.batches, !stored })
			tr.write("0.log", 50)
			waitFor(t, func() bool { return hasInFlight(tr) && (!stored || len(s.got(key)) > 10) })
			kill(t, s, tr.positions(), stop)
			s.set(func() { s.lost, s.away = -1, false })
			o := tr.options()
			o.State = &asked{State: o.State, then: func() {
				tr.write("0.log", 30)
				tr.copyTruncate("0.log.20261123-100001")
				tr.pack("0.log.20261123-100001")
				tr.write("0.log", 5)
			}}
			_, stop = tr.runWith(o, s)
			s.await(key, 95)
			stop()
			once(t, s.got(key), tr.next)
			if gaps := s.gaps(); len(gaps) > 0 {
				t.Errorf("told as lost, though all came: %v", gaps)
			}
		})
	}
}

// A node is not complete past lines of a copy that nobody has looked at. A file that was empty
// when it was looked at last, as each is after a cut, may have been cut again, and nothing tells:
// what came after would be read first.
func TestFilesCutBetweenLookAndRead(t *testing.T) {
	for name, empty := range map[string]bool{"of a file that was read": false, "of one that was empty": true} {
		t.Run(name, func(t *testing.T) {
			tr := newTree(t)
			h := tr.byHand(t)
			tr.write("0.log", 20)
			h.settled()
			if empty {
				tr.copyTruncate("0.log.20261123-100001")
				h.settled()
			}
			h.at = h.at.Add(time.Minute)
			at := h.line("0.log", "that was not read before the cut")
			h.at = h.at.Add(3 * time.Second)
			h.look(h.at)
			tr.copyTruncate("0.log.20261123-110000")
			h.line("0.log", "after the cut")
			for h.fill(h.b) {
				h.b = newBatch[filePos](h.opts.Sender)
			}
			h.noteComplete(h.at)
			if got := time.Unix(0, h.complete).UTC(); !got.Before(at) && h.Health().Read != 22 {
				t.Errorf("complete through %s, %s past a line that is in a copy and was not read (%d of 22 lines are)", got, got.Sub(at), h.Health().Read)
			}
		})
	}
}

// A record in parts goes on over two cuts, also where the second copy has parts of it that
// were not read.
func TestFilesRecordOverTwoCuts(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	at := 0
	line := func(tag, text string) { at++; tr.raw("0.log", cri(at, "stdout", tag, text)) }
	for i := range 10 {
		line("F", fmt.Sprintf("before %d, long enough to be known by", i))
	}
	o, h := tr.heldUp()
	_, stop := tr.runWith(o, s)
	s.await(key, 10)
	line("P", "a1 ")
	sleep(t.Context(), o.Rescan) // it is read, though nothing tells of that
	tr.copyTruncate("0.log.20261123-100001")
	line("P", "b1 ")
	sleep(t.Context(), 2*o.Rescan)
	h.while(tr, "other", func() {
		line("P", "b2 ")
		tr.copyTruncate("0.log.20261123-100002")
		line("P", "c1 ")
		line("F", "c2")
		line("F", "after")
	})
	s.await(key, 12)
	stop()
	if out, want := strings.Join(s.got(key)[10:], "|"), "a1 b1 b2 c1 c2|after"; out != want {
		t.Errorf("got  %s\nwant %s", out, want)
	}
}

// A file is read again after a start from where one stream has an open record; the other
// stream was sent beyond that, also in the copy of a file that is cut before it is read.
func TestFilesCutBehindAnOpenRecord(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	at := 0
	line := func(stream, tag, text string) { at++; tr.raw("0.log", cri(at, stream, tag, text)) }
	for i := range 10 {
		line("stdout", "F", fmt.Sprintf("before %d, long enough to be known by", i))
	}
	line("stdout", "P", "open ")
	for i := range 10 {
		line("stderr", "F", fmt.Sprintf("err %d", i))
	}
	_, stop := tr.run(s)
	s.await("cart-1/app/stderr", 10)
	waitFor(t, func() bool { return !hasInFlight(tr) })
	stop()
	o := tr.options()
	o.State = &asked{State: o.State, then: func() {
		tr.copyTruncate("0.log.20261123-100001")
		line("stdout", "F", "end")
	}}
	_, stop = tr.runWith(o, s)
	s.await(key, 11)
	line("stdout", "F", "second")
	line("stderr", "F", "err 10")
	s.await(key, 12)
	s.await("cart-1/app/stderr", 11)
	stop()
	if out, want := strings.Join(s.got(key)[10:], "|"), "open end|second"; out != want {
		t.Errorf("got %s, want %s", out, want)
	}
	if got := s.got("cart-1/app/stderr"); len(got) != 11 {
		t.Errorf("%d lines of stderr, want 11: %q", len(got), got)
	}
}

// A copy of which there are some bytes is one, however long the rest takes.
func TestFilesCopyThatStalls(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	tr.write("0.log", 30)
	o := tr.options()
	_, stop := tr.runWith(o, s)
	s.await(key, 30)
	text, err := os.ReadFile(filepath.Join(tr.dir, "0.log"))
	if err != nil {
		t.Fatal(err)
	}
	tr.raw("part", string(text[:200]))
	tr.rename("part", "0.log.20261123-100001")
	sleep(t.Context(), 5*o.Grace)
	tr.raw("0.log.20261123-100001", string(text[200:]))
	if err := os.Truncate(filepath.Join(tr.dir, "0.log"), 0); err != nil {
		t.Fatal(err)
	}
	tr.write("0.log", 5)
	s.await(key, tr.next)
	sleep(t.Context(), 2*o.Rescan)
	stop()
	once(t, s.got(key), tr.next)
}

// Copies of a file that is never cut are read by nobody, and not told as lost.
func TestFilesManyCopies(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	tr.write("0.log", 30)
	_, stop := tr.run(s)
	s.await(key, 30)
	for i := range maxHeld + 3 {
		tr.copy(fmt.Sprintf("0.log.20261123-1000%02d", i))
	}
	tr.write("0.log", 5)
	s.await(key, tr.next)
	stop()
	once(t, s.got(key), tr.next)
	s.toldNothing()
}

// Copies that were removed are not held open, except the longest of each file: what is to be
// read of that is in it once it is cut.
func TestFilesRemovedCopies(t *testing.T) {
	tr := newTree(t)
	h := tr.byHand(t)
	looks := func() {
		h.scanRoot()
		h.lookAfter(time.Second)
	}
	held := func() (names []string) {
		for i := range 10 {
			if name := fmt.Sprintf("0.log.bak%d", i); isOpen(t, filepath.Join(tr.dir, name+" (deleted)")) {
				names = append(names, name)
			}
		}
		return names
	}
	copied := func() {
		for i := range 10 {
			name := fmt.Sprintf("0.log.bak%d", i)
			tr.copy(name)
			looks()
			tr.remove(name)
			looks()
		}
	}
	tr.write("0.log", 30)
	h.settled()
	copied()
	if got := held(); len(got) != 1 {
		t.Errorf("holds %v, want one of them", got)
	}
	// What waits to be read is in none but the one that was made last.
	tr.write("0.log", 20)
	tr.copy("0.log.bak7")
	h.scanRoot()
	tr.remove("0.log.bak7")
	h.scanRoot()
	if got := held(); !slices.Equal(got, []string{"0.log.bak7"}) {
		t.Errorf("holds %v, want the longest", got)
	}
	if err := os.Truncate(filepath.Join(tr.dir, "0.log"), 0); err != nil {
		t.Fatal(err)
	}
	tr.write("0.log", 5)
	h.settled()
	if n := h.Health().Read; n != int64(tr.next) {
		t.Errorf("%d lines were read, want %d", n, tr.next)
	}
	copied()
	tr.rename("0.log", "0.log.20261123-100000")
	tr.write("0.log", 1)
	h.settled()
	if got := held(); len(got) > 0 {
		t.Errorf("holds %v, though the file was read", got)
	}
	if n := h.Health().Read; n != int64(tr.next) {
		t.Errorf("%d lines were read, want %d", n, tr.next)
	}
}

// A file may be copied and cut several times before anybody looks: the oldest copy is what the
// file was, and the others come after it. What the server has of them it has in their order,
// so that what the collector says to have is not less than that.
func TestFilesCutsBetweenTwoLooks(t *testing.T) {
	for _, cuts := range []int{2, 3} {
		for _, killed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d cuts, killed %v", cuts, killed), func(t *testing.T) {
				tr, s := newTree(t), newServer(t)
				tr.write("0.log", 20)
				o := tr.options()
				h := &holding{State: o.State}
				o.State, o.Positions, o.HandOver, o.Try = h, s.ask, time.Millisecond, 50*time.Millisecond
				_, stop := tr.runWith(o, s)
				s.await(key, 20)
				waitFor(t, func() bool { return !hasInFlight(tr) })
				if killed {
					s.set(func() { s.lost = s.batches })
				}
				h.while(tr, "other", func() {
					for i := range cuts {
						tr.write("0.log", 30)
						tr.copyTruncate(fmt.Sprintf("0.log.20261123-10000%d", i))
					}
					tr.write("0.log", 5)
				})
				if killed {
					waitFor(t, func() bool { return len(s.got(key)) > 20 && hasInFlight(tr) })
					kill(t, s, tr.positions(), stop)
					s.set(func() { s.lost = -1 })
					_, stop = tr.runWith(o, s)
					tr.write("0.log", 1)
				}
				s.await(key, tr.next)
				stop()
				numbered(t, s.got(key), tr.next)
				s.toldNothing()
			})
		}
	}
}

// A record in parts goes on over all of them.
func TestFilesRecordOverCutsBetweenTwoLooks(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	at := 0
	line := func(tag, text string) { at++; tr.raw("0.log", cri(at, "stdout", tag, text)) }
	for i := range 10 {
		line("F", fmt.Sprintf("before %d, long enough to be known by", i))
	}
	o, h := tr.heldUp()
	_, stop := tr.runWith(o, s)
	s.await(key, 10)
	h.while(tr, "other", func() {
		line("P", "a ")
		tr.copyTruncate("0.log.20261123-100001")
		line("P", "b ")
		tr.copyTruncate("0.log.20261123-100002")
		line("P", "c ")
		tr.copyTruncate("0.log.20261123-100003")
		line("F", "d")
		line("F", "after")
	})
	s.await(key, 12)
	stop()
	if out, want := strings.Join(s.got(key)[10:], "|"), "a b c d|after"; out != want {
		t.Errorf("got  %s\nwant %s", out, want)
	}
}

// copy copies the file and leaves it as it is.
func (tr *tree) copy(name string) {
	tr.t.Helper()
	text, err := os.ReadFile(filepath.Join(tr.dir, "0.log"))
	if err != nil {
		tr.t.Fatal(err)
	}
	tr.raw(name, string(text))
}

// A file that was cut, unseen so far, may be copied again when the collector looks: that is
// no file of its own.
func TestFilesCopiedAgainAfterACut(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	tr.write("0.log", 20)
	o, h := tr.heldUp()
	_, stop := tr.runWith(o, s)
	s.await(key, 20)
	h.while(tr, "other", func() {
		tr.write("0.log", 30)
		tr.copyTruncate("0.log.20261123-100001")
		tr.write("0.log", 30)
		tr.copy("0.log.20261123-100002") // and is cut later
	})
	s.await(key, tr.next)
	h.while(tr, "another", func() {
		if err := os.Truncate(filepath.Join(tr.dir, "0.log"), 0); err != nil {
			t.Fatal(err)
		}
		tr.write("0.log", 5)
	})
	s.await(key, tr.next)
	stop()
	numbered(t, s.got(key), tr.next)
}

// Of a file that is cut there may be other copies, which somebody made before: the one that
// rotation made has the most of it, and none is one of what the file is after that.
func TestFilesCutWithAnOlderCopy(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	tr.write("0.log", 20)
	o, h := tr.heldUp()
	_, stop := tr.runWith(o, s)
	s.await(key, 20)
	h.while(tr, "other", func() {
		tr.copy("0.log.20261123-100001")
		tr.write("0.log", 30)
		tr.copyTruncate("0.log.20261123-100002")
		tr.write("0.log", 5)
	})
	s.await(key, tr.next)
	h.while(tr, "another", func() {
		tr.write("0.log", 30)
		tr.copyTruncate("0.log.20261123-100003")
		tr.write("0.log", 5)
	})
	s.await(key, tr.next)
	stop()
	numbered(t, s.got(key), tr.next)
}

// A copy that is being made when a collector starts is none of what nobody has read, however
// little there is of it and however long the rest takes.
func TestFilesCopyThatIsBegunAtAStart(t *testing.T) {
	for _, first := range []bool{false, true} {
		for _, size := range []int{0, 20, 200, 512} {
			t.Run(fmt.Sprintf("first start %v, %d bytes", first, size), func(t *testing.T) {
				tr, s := newTree(t), newServer(t)
				tr.write("0.log", 30)
				if !first {
					_, stop := tr.run(s)
					s.await(key, 30)
					waitFor(t, func() bool { return !hasInFlight(tr) })
					stop()
				}
				text, err := os.ReadFile(filepath.Join(tr.dir, "0.log"))
				if err != nil {
					t.Fatal(err)
				}
				tr.raw("0.log.20261123-100001", string(text[:size]))
				o := tr.options()
				_, stop := tr.runWith(o, s)
				tr.write("0.log", 1)
				s.await(key, tr.next)
				sleep(t.Context(), 5*o.Grace)
				if text, err = os.ReadFile(filepath.Join(tr.dir, "0.log")); err != nil {
					t.Fatal(err)
				}
				tr.raw("0.log.20261123-100001", string(text[size:]))
				sleep(t.Context(), 5*o.Grace)
				if err := os.Truncate(filepath.Join(tr.dir, "0.log"), 0); err != nil {
					t.Fatal(err)
				}
				tr.write("0.log", 5)
				s.await(key, tr.next)
				sleep(t.Context(), 2*o.Rescan)
				stop()
				numbered(t, s.got(key), tr.next)
			})
		}
	}
}

// inLines gives a clock that does something once when it is asked by who takes lines, which
// were read by then.
func inLines(armed *atomic.Bool, then func()) func() time.Time {
	return func() time.Time {
		if armed.Load() {
			pc := make([]uintptr, 8)
			frames := runtime.CallersFrames(pc[:runtime.Callers(2, pc)])
			if f, _ := frames.Next(); strings.HasSuffix(f.Function, "(*Files).lines") {
				then()
				armed.Store(false)
			}
		}
		return time.Now()
	}
}

// A file may be cut in the moment in which it is read.
func TestFilesCutWhileItIsRead(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	at, n := 0, 0
	line := func(tag, text string) { at++; tr.raw("0.log", cri(at, "stdout", tag, text)) }
	for i := range 10 {
		line("F", fmt.Sprintf("before %d, long enough to be known by", i))
	}
	o, h := tr.heldUp()
	var armed atomic.Bool
	o.Now = inLines(&armed, func() {
		tr.copyTruncate(fmt.Sprintf("0.log.20261123-10000%d", n))
		line("F", fmt.Sprintf("end %d", n))
	})
	_, stop := tr.runWith(o, s)
	s.await(key, 10)
	var want []string
	for ; n < 6; n++ {
		line("P", fmt.Sprintf("open %d ", n))
		sleep(t.Context(), o.Rescan+o.Rescan/2) // it is read, though nothing tells of that
		h.while(tr, fmt.Sprintf("other-%d", n), func() {
			line("P", fmt.Sprintf("middle %d ", n))
			armed.Store(true)
		})
		waitFor(t, func() bool { return !armed.Load() })
		s.await(key, 10+len(want)+1)
		line("F", fmt.Sprintf("next %d", n))
		want = append(want, fmt.Sprintf("open %d middle %d end %d", n, n, n), fmt.Sprintf("next %d", n))
		s.await(key, 10+len(want))
	}
	stop()
	if out, want := strings.Join(s.got(key)[10:], "|"), strings.Join(want, "|"); out != want {
		t.Errorf("\ngot  %s\nwant %s", out, want)
	}
}

// So it may be between two reads of what it has.
func TestFilesCutBetweenTwoReads(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	tr.write("0.log", 10)
	o, h := tr.heldUp()
	var armed atomic.Bool
	n := 0
	o.Now = inLines(&armed, func() {
		tr.copyTruncate(fmt.Sprintf("0.log.20261123-10000%d", n))
		tr.write("0.log", []int{5, 3000, 6000}[n])
		n++
	})
	_, stop := tr.runWith(o, s)
	s.await(key, 10)
	for i := range 3 {
		h.while(tr, fmt.Sprintf("other-%d", i), func() {
			tr.write("0.log", 4000)
			armed.Store(true)
		})
		waitFor(t, func() bool { return !armed.Load() })
		s.await(key, tr.next)
	}
	stop()
	numbered(t, s.got(key), tr.next)
}

// So a record in parts would be torn, and go on with what is not its own.
func TestEmptyFileCutTearsNoRecord(t *testing.T) {
	tr := newTree(t)
	h := tr.byHand(t)
	tr.write("0.log", 20)
	h.settled()
	h.piece("0.log", "P", "a ")
	h.lookAfter(0)
	tr.copyTruncate("0.log.20261123-100001")
	h.lookAfter(time.Second)
	h.lookAfter(h.grace + time.Second)
	h.piece("0.log", "P", "b ")
	h.at = h.at.Add(time.Second)
	h.look(h.at)
	tr.copyTruncate("0.log.20261123-110000")
	h.piece("0.log", "F", "c")
	var out []string
	h.b = newBatch[filePos](h.opts.Sender)
	h.fill(h.b) // as loop does after the look
	for range 6 {
		h.lookAfter(h.grace + time.Second)
	}
	for _, g := range h.b.wire.Groups {
		for _, l := range g.Lines {
			out = append(out, l.Message)
		}
	}
	if got := strings.Join(out, "|"); got != "a b c" {
		t.Errorf("got %q, want %q", got, "a b c")
	}
}
