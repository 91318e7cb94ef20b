package logs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
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
			o := tr.options()
			h := &holding{State: o.State}
			o.State = h
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

// A node is not complete past lines of a copy that nobody has looked at.
func TestFilesCutBetweenLookAndRead(t *testing.T) {
	tr := newTree(t)
	h := tr.byHand(t)
	tr.write("0.log", 20)
	h.settled()
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
		t.Errorf("complete through %s, %s past a line that is in a copy and was not read", got, got.Sub(at))
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
	o := tr.options()
	h := &holding{State: o.State}
	o.State = h
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
	text, err := os.ReadFile(filepath.Join(tr.dir, "0.log"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxHeld + 3 {
		tr.raw(fmt.Sprintf("0.log.20261123-1000%02d", i), string(text))
	}
	tr.write("0.log", 5)
	s.await(key, tr.next)
	stop()
	once(t, s.got(key), tr.next)
	if gaps := s.gaps(); len(gaps) > 0 {
		t.Errorf("told as lost: %v", gaps)
	}
}
