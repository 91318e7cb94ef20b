package logs

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// Kept files beyond those that a container may have are given up, and the batch that tells that
// is on its way when the collector is killed: it is made anew as it was, without their lines.
func TestGivenUpFilesAreThereAfterAKill(t *testing.T) {
	for name, tc := range map[string]struct {
		lines  int
		stored bool
	}{"few lines": {20, false}, "few lines, stored": {20, true}, "many lines": {30_000, false}} {
		t.Run(name, func(t *testing.T) {
			const more = 4
			tr, s := newTree(t), newServer(t)
			other := tr.beside()
			tr.write("0.log", 10)
			o := tr.keeping(Keep{Bytes: 1 << 30})
			_, stop := tr.runWith(o, s)
			s.await(key, 10)
			waitFor(t, func() bool { return !hasInFlight(tr) })
			stop()
			way := &few{server: s}
			f, stop := tr.runWith(o, way)
			tr.write("0.log", 1)
			waitFor(t, func() bool { return hasInFlight(tr) })
			other.next = 1_000_000
			other.write("0.log", 2*batchLines)
			waitFor(t, func() bool { return f.Health().Read >= batchLines })
			for i := range maxHeld + more {
				n := 20
				if i < 3 {
					n = tc.lines
				}
				tr.rotateAway(i, n)
			}
			waitFor(t, func() bool { return f.Health().Dropped[DropRotated] > 0 })
			n := int64(2)
			if tc.stored {
				s.set(func() { s.lost = s.batches + 2 })
				n++
			}
			way.left.Store(n)
			waitFor(t, func() bool {
				j, err := openJournal[filePos](tr.positions())
				return err == nil && j.inFlight != nil && len(j.inFlight.Told) > 0
			})
			if tc.stored {
				waitFor(t, func() bool { return len(s.gaps()) > 0 })
			}
			kill(t, s, tr.positions(), stop)
			s.set(func() { s.lost = -1 })
			tr.write("0.log", 5)
			soon := time.Now().Add(30 * time.Second)
			f, stop = tr.runWith(o, s)
			waitFor(t, func() bool {
				return time.Now().After(soon) || slices.Contains(s.got(key), "line "+strconv.Itoa(tr.next-1)) && f.journal.settled()
			})
			stop()
			s.toldMissing(tr.next)
			if got := len(s.got("cart-1/side/stdout")); got != 2*batchLines {
				t.Errorf("%d lines of the other container are there, want %d", got, 2*batchLines)
			}
		})
	}
}

// A batch that tells of a kept file which was given up before anything was read of it is
// on its way when the collector is killed: it is made anew as it was, and told once.
func TestGivenUpUnreadAndAKill(t *testing.T) {
	for _, stored := range []bool{true, false} {
		t.Run(strconv.FormatBool(stored), func(t *testing.T) {
			const files, lines = 3, 200
			tr, s := newTree(t), newServer(t)
			other := tr.beside()
			tr.write("0.log", 10)
			o := tr.keeping(Keep{Bytes: 1 << 30, Age: 500 * time.Millisecond})
			_, stop := tr.runWith(o, s)
			s.await(key, 10)
			waitFor(t, func() bool { return !hasInFlight(tr) })
			stop()
			way := &few{server: s}
			f, stop := tr.runWith(o, way)
			tr.write("0.log", 1)
			waitFor(t, func() bool { return hasInFlight(tr) })
			tr.rename("0.log", "0.log.20261123-090000")
			tr.raw("0.log", "")
			waitFor(t, func() bool { return f.Health().Read == 1 })
			other.next = 1_000_000
			other.write("0.log", 2*batchLines)
			waitFor(t, func() bool { return f.Health().Read >= batchLines })
			for i := range files {
				tr.rotateAway(i, lines)
			}
			waitFor(t, func() bool {
				j, err := openJournal[filePos](tr.positions())
				return err == nil && len(j.lost) >= files && len(tr.kept()) == 0
			})
			tr.write("0.log", 5)
			if stored {
				s.set(func() { s.lost = s.batches + 2 })
			}
			n := int64(2)
			if stored {
				n = 3
			}
			way.left.Store(n)
			waitFor(t, func() bool {
				j, err := openJournal[filePos](tr.positions())
				return err == nil && j.inFlight != nil && len(j.inFlight.Told) > 0
			})
			if stored {
				waitFor(t, func() bool { return len(s.gaps()) > 0 })
			}
			kill(t, s, tr.positions(), stop)
			s.set(func() { s.lost = -1 })
			f, stop = tr.runWith(o, s)
			waitFor(t, func() bool {
				return slices.Contains(s.got(key), "line "+strconv.Itoa(tr.next-1)) && f.journal.settled()
			})
			stop()
			s.toldMissing(tr.next)
			if got := len(s.got("cart-1/side/stdout")); got != 2*batchLines {
				t.Errorf("%d lines of the other container are there, want %d", got, 2*batchLines)
			}
		})
	}
}

// What a batch that is made anew tells of a file that is gone is of the batch's day: else the
// server refuses it, whole.
func TestWhatIsGoneIsToldOnTheDayOfItsBatch(t *testing.T) {
	tr := newTree(t)
	path := filepath.Join(tr.dir, "0.log")
	yesterday := clock.Add(-24 * time.Hour).UnixNano()
	for name, c := range map[string]struct{ from, to filePos }{
		"given up before anything was read of it": {to: filePos{Path: path, Offset: 100, End: true}},
		"given up in the middle, a day after it was read": {
			filePos{Path: path, Offset: 40, First: yesterday, Last: yesterday + 5, Lines: 2},
			filePos{Path: path, Offset: 100, First: yesterday, Last: yesterday + 5, Lines: 2, End: true}},
	} {
		r := tr.started(t)
		b := newBatch[filePos]("node/n1")
		was := &inFlight[filePos]{ID: "1", From: map[string]filePos{}, To: map[string]filePos{"1:1": c.to}, Day: dayOf(clock.UnixNano())}
		if c.from.Path != "" {
			was.From["1:1"] = c.from
		}
		r.tellGone(b, was, nil, nil)
		for k, d := range b.drops {
			if at := d.line(k).Time; dayOf(at) != was.Day {
				t.Errorf("%s: told as of %s, in a batch of %s", name, time.Unix(0, at).UTC(), time.Unix(0, was.Day*int64(24*time.Hour)).UTC())
			}
		}
	}
}

// A kill right after it was noted that a kept file is given up, and before that is removed.
func TestKillBeforeAGivenUpFileIsRemoved(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	aside := t.TempDir()
	other := tr.beside()
	tr.write("0.log", 10)
	o := tr.keeping(Keep{Bytes: 1 << 30, Age: 4 * time.Second})
	f, stop := tr.runWith(o, s)
	s.await(key, 10)
	waitFor(t, func() bool { return !hasInFlight(tr) })
	s.set(func() { s.away = true })
	tr.write("0.log", 1)
	waitFor(t, func() bool { return hasInFlight(tr) })
	other.next = 1_000_000
	other.write("0.log", 2*batchLines)
	waitFor(t, func() bool { return f.Health().Read >= batchLines })
	for i := range 3 {
		tr.rotateAway(i, 20)
	}
	waitFor(t, func() bool { return len(tr.kept()) == 3 })
	kept := tr.kept()
	for _, k := range kept {
		if err := os.Link(k, filepath.Join(aside, filepath.Base(k))); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, func() bool {
		j, err := openJournal[filePos](tr.positions())
		return err == nil && len(j.lost) > 0 && len(tr.kept()) == 0
	})
	kill(t, s, tr.positions(), stop)
	if err := os.MkdirAll(filepath.Dir(kept[0]), 0o755); err != nil {
		t.Fatal(err)
	}
	k := kept[len(kept)-1] // only the last one is still to be removed
	if err := os.Link(filepath.Join(aside, filepath.Base(k)), k); err != nil {
		t.Fatal(err)
	}
	tr.write("0.log", 5)
	s.set(func() { s.away = false })
	o.Keep.Age = time.Hour
	f, stop = tr.runWith(o, s)
	waitFor(t, func() bool {
		return slices.Contains(s.got(key), "line "+strconv.Itoa(tr.next-1)) && f.journal.settled()
	})
	stop()
	s.toldMissing(tr.next)
}

// Of a file that is given up after a start, the lines that were sent are not counted as lost.
func TestWhatIsLeftOfAFileWasNotSent(t *testing.T) {
	tr := newTree(t)
	a, b, c := cri(0, "stdout", "P", "open"), cri(1, "stderr", "F", "a"), cri(2, "stderr", "F", "b")
	tr.raw("0.log", a+b+c+cri(3, "stdout", "F", "end"))
	f := &file{path: filepath.Join(tr.dir, "0.log")}
	var err error
	if f.fd, err = os.Open(f.path); err != nil {
		t.Fatal(err)
	}
	defer f.close()
	through := int64(len(a + b + c))
	f.resume(filePos{Path: f.path, Offset: through, Scan: -1, Done: &[2]int64{0, through}, First: 1, Last: 2, Open: 1, Lines: 2})
	if d, err := f.rest(); err != nil || d.lines != 1 {
		t.Errorf("%d lines are left, want the one that was not sent (%v)", d.lines, err)
	}
}

// A batch that is made anew takes no more than the server does, whatever its files have by now:
// what does not go in is told.
func TestBatchMadeAnewIsNotTooLarge(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	_, stop := tr.run(s)
	tr.write("0.log", 10)
	s.await(key, 10)
	waitFor(t, func() bool { return !hasInFlight(tr) })
	s.set(func() { s.away = true })
	tr.write("0.log", 10)
	waitFor(t, func() bool { return hasInFlight(tr) })
	stop()
	tr.write("0.log", wire.MaxLogBatchLines+5_000)
	j, err := openJournal[filePos](tr.positions())
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(filepath.Join(tr.dir, "0.log"))
	if err != nil {
		t.Fatal(err)
	}
	for k, p := range j.inFlight.To {
		p.Offset, p.Lines, p.Scan, p.Done = st.Size(), int64(tr.next), 0, nil
		j.inFlight.To[k] = p
	}
	if err := j.write(); err != nil {
		t.Fatal(err)
	}
	s.set(func() { s.away = false })
	f, stop := tr.run(s)
	tr.write("0.log", 5)
	waitFor(t, func() bool {
		return slices.Contains(s.got(key), "line "+strconv.Itoa(tr.next-1)) && f.journal.settled()
	})
	stop()
	missing, told := s.missing(tr.next), 0
	for _, g := range s.gaps() {
		told += g.lines
	}
	if len(missing) == 0 || told != len(missing) {
		t.Errorf("%d lines are told as lost, %d are missing", told, len(missing))
	}
}

// What is given up of too many files is counted in turns, each of which reads no more than its bound,
// and told by the number of its lines once all of it is.
func TestGivenUpFilesAreCountedInTurns(t *testing.T) {
	const files, lines, held, turn = 6, 40, 2, 500
	w := byStep(t, Keep{})
	w.inTime()
	w.adds(5)
	w.start()
	w.looks()
	w.offers()
	w.r.filling.lines = batchLines // it is full: nothing is read any more
	w.r.bounds.held, w.r.bounds.counted, w.r.countRoom = held, turn, 0
	size := int64(0)
	for n := range files {
		name := fmt.Sprintf("0.log.20261123-10000%d", n)
		w.adds(lines)
		w.rename("0.log", name)
		st, err := os.Stat(filepath.Join(w.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if n > 0 && n <= files-held {
			size += st.Size()
		}
		w.raw("0.log", "")
		w.pack(name)
		w.r.scanRoot()
	}
	c := w.r.containers[w.dir]
	for turns := int64(1); c.tooMany; turns++ {
		if len(c.lost) > 0 {
			t.Fatalf("%d files are given up before all are counted", len(c.lost))
		}
		if turns > 2*size/turn {
			t.Fatalf("%d bytes are not counted in %d turns of %d", size, turns, turn)
		}
		w.look()
		if !c.tooMany && turns < size/(turn+100) {
			t.Errorf("%d bytes were counted in %d turns, which are of %d", size, turns, turn)
		}
	}
	if len(c.lost) == 0 {
		t.Error("nothing is given up")
	}
	w.ends()
}
