package logs

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What storms by steps found: TestFilesThroughSteps searches, these hold it.

// byStep is a collector and a server that take the steps that they are told to, and no other.
func byStep(t *testing.T, keep Keep) *steps {
	w := newSteps(t, 1, rotationKind{}, keep)
	w.calm = true
	return w
}

// record writes a record of so many pieces of stdout, or the first of them.
func (w *steps) record(pieces, written int) {
	r := &record{left: pieces}
	w.open[0], w.records = r, append(w.records, r)
	for range written {
		w.piece(0)
	}
}

// lines writes records of one line.
func (w *steps) lines(n int) {
	for range n {
		w.record(1, 1)
	}
}

// lineOfStderr writes a record of one line of the other stream.
func (w *steps) lineOfStderr() {
	r := &record{left: 1}
	w.open[1], w.records = r, append(w.records, r)
	w.piece(1)
}

// inTime has lines have the time that it is, and one rotated file stay.
func (w *steps) inTime() { w.keeps, w.timely, w.now = 1, true, clock }

// adds writes lines as the container does, at the time that it is.
func (w *steps) adds(n int) { w.writes(func() { w.lines(n) }) }

// another takes the log file away, and has an empty one in its place.
func (w *steps) another() {
	w.remove("0.log")
	w.raw("0.log", "")
}

// rotates renames the log file, as the kubelet does for the n-th time, and has an empty one in its place.
func (w *steps) rotates(n int) (name string) {
	name = fmt.Sprintf("0.log.20261123-10000%d", n)
	w.rename("0.log", name)
	w.raw("0.log", "")
	return name
}

// looks lets time pass, and the collector look, until it has read what is there.
func (w *steps) looks() {
	for range 5 {
		w.now = w.now.Add(30 * time.Millisecond)
		w.look()
	}
}

// sends has all that was read be sent, and that be written down.
func (w *steps) sends() {
	w.give()
	for w.sending != nil || w.unsaid {
		w.send()
	}
}

// offers has what was read be on its way, and no more than that.
func (w *steps) offers() {
	w.give()
	w.send()
}

// arrives has what is on its way arrive.
func (w *steps) arrives() {
	for w.sending != nil {
		w.send()
	}
}

// hasKept looks that so many files are kept.
func (w *steps) hasKept(files int) {
	w.t.Helper()
	if len(w.kept()) != files {
		w.t.Fatalf("kept are %v", w.kept())
	}
}

// keepsAFile is a collector that keeps a file that is gone, which ends with what is written while a
// batch of what was before is on its way; an empty one is in its place.
func keepsAFile(t *testing.T, written func(*steps)) *steps {
	t.Helper()
	w := byStep(t, Keep{Bytes: 1 << 30})
	w.inTime()
	w.adds(10)
	w.start()
	w.looks()
	w.offers()
	w.writes(func() { written(w) })
	w.looks()
	w.another()
	w.looks()
	w.hasKept(1)
	return w
}

// ends settles, and has everything be there once.
func (w *steps) ends() {
	w.settle()
	w.dead()
}

// What is on its way of a file when that is kept is not taken for what the server has: one who is
// killed then makes it anew again.
func TestKeptFileOfABatchThatIsMadeAnewTwice(t *testing.T) {
	w := byStep(t, Keep{Bytes: 1 << 30})
	w.start()
	w.lines(30)
	w.looks()
	w.offers()
	w.dead()
	w.start()
	w.rename("0.log", "0.log.20261123-100001")
	w.lines(5)
	w.look()
	w.remove("0.log.20261123-100001")
	w.looks()
	w.hasKept(1)
	w.dead()
	w.start()
	w.ends()
}

// A copy of which there were some bytes when it was looked at, and what was compressed of it since, are
// both copies of the file, and not of each other.
func TestFilesCopyAndWhatWasCompressedOfItAtOnce(t *testing.T) {
	const name = "0.log.20261123-100001"
	w := byStep(t, Keep{})
	w.start()
	w.lines(5)
	w.looks()
	w.sends()
	w.lines(30) // that are not read before the cut
	text, err := os.ReadFile(filepath.Join(w.dir, "0.log"))
	if err != nil {
		t.Fatal(err)
	}
	w.raw(name, string(text[:knownHead/2]))
	w.r.scanRoot()
	w.raw(name, string(text[knownHead/2:]))
	w.cut()
	w.lines(2)
	w.pack(name)
	w.ends()
}

// A record that goes on in the next file leaves alone the copy of that which lies between them:
// by a position of its own, that of the file could not become its one once the file is cut.
func TestFilesCopyBetweenTwoFilesOfARecord(t *testing.T) {
	w := byStep(t, Keep{})
	w.start()
	w.lines(10)
	w.record(2, 1)
	w.looks()
	w.sends()
	w.rename("0.log", "0.log.20261123-100001")
	w.piece(0)
	w.lines(10)
	w.record(2, 1)
	w.copy("0.log.20261123-100002")
	w.looks()
	if _, ok := w.r.filling.to[keyOf(t, filepath.Join(w.dir, "0.log.20261123-100002"))]; ok {
		t.Error("the copy has a position")
	}
	w.cut()
	w.piece(0)
	w.looks()
	w.sends()
	w.ends()
}

// A position of a file by a name that it has no more, of when a record was open in it, says nothing
// once another one of the same file is further: both are gone, and nothing with them.
func TestPositionsOfAFileByTwoNames(t *testing.T) {
	tr := newTree(t)
	at := func(ms int) int64 { return clock.Add(time.Duration(ms) * time.Millisecond).UnixNano() }
	tr.raw("0.log", cri(10, "stdout", "F", "what follows"))
	r, err := NewFiles(tr.options())
	if err != nil {
		t.Fatal(err)
	}
	copied := filePos{Path: filepath.Join(tr.dir, "0.log"), Dev: 1, Ino: 2, Print: "1", Len: 512, Offset: 600, Scan: 550, Done: &[2]int64{550, 600}, First: at(1), Last: at(9), Open: at(8), Lines: 8}
	packed := filePos{Path: filepath.Join(tr.dir, "0.log.20261123-100001.gz"), Dev: 1, Ino: 3, Print: "1", Len: 512, Offset: 600, First: at(1), Last: at(9), Lines: 9, End: true, Next: at(10)}
	r.journal.set("1:2", copied)
	r.journal.set("1:3", packed)
	r.begin(startWatch(t))
	r.scanRoot()
	r.findGaps()
	for _, c := range r.order {
		if len(c.lost) > 0 {
			t.Errorf("told as lost: %+v", c.lost[0].drop)
		}
		c.release()
	}
}

// A file that was read to its end may be removed before the next one has a line, or before the
// server has that: nothing lies between them.
func TestFilesRemovedBeforeTheNextLine(t *testing.T) {
	for name, copied := range map[string]bool{"renamed": false, "copied and cut": true} {
		t.Run(name, func(t *testing.T) {
			const rotated = "0.log.20261123-100001"
			w := byStep(t, Keep{})
			w.start()
			w.lines(10)
			w.looks()
			w.sends()
			if copied {
				w.copyTruncate(rotated)
			} else {
				w.rename("0.log", rotated)
				w.raw("0.log", "")
			}
			w.looks()
			w.remove(rotated)
			w.looks()
			w.lines(3)
			w.looks()
			w.dead()
			w.start()
			w.settle()
			w.s.toldNothing()
			w.dead()
		})
	}
}

// Where rotation takes the files of many containers at once, what is known of them then goes to
// the disk in one write, with its syncs: nothing is read meanwhile.
func TestFilesThatAreRotatedAtOnceAreNotedAtOnce(t *testing.T) {
	const containers = 10
	tr := newTree(t)
	var dirs []string
	for n := range containers {
		dirs = append(dirs, filepath.Join(tr.root, fmt.Sprintf("shop_many-%d_uid-%d", n, n), "app"))
		if err := os.MkdirAll(dirs[n], 0o755); err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(dirs[n], "0.log"), cri(n, "stdout", "F", "before"))
	}
	h := tr.byHand(t)
	folder := startWatch(t)
	if err := folder.add(tr.pos, true); err != nil {
		t.Fatal(err)
	}
	written := func() (times int) {
		folder.take(func(path string, mask uint32) {
			if path == tr.positions() && mask&unix.IN_MOVED_TO != 0 {
				times++
			}
		})
		return times
	}
	h.settled()
	h.b.seal(nil, h.noted)
	h.journal.begin(h.b)
	h.journal.acknowledged(h.b)
	h.b = newBatch[filePos](h.opts.Sender)
	written()

	for _, dir := range dirs {
		if err := os.Rename(filepath.Join(dir, "0.log"), filepath.Join(dir, "0.log.20261123-100001")); err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(dir, "0.log"), "")
	}
	h.settled()
	if n := written(); n == 0 || n > 2 {
		t.Errorf("the journal was written %d times for %d files that were read to their ends", n, containers)
	}
	for n, dir := range dirs {
		put(t, filepath.Join(dir, "0.log"), cri(1000+n, "stdout", "F", "after"))
	}
	h.lookAfter(0)
	if n := written(); n != 1 {
		t.Errorf("the journal was written %d times for %d files that begin behind these", n, containers)
	}
}

// What is read of an older file, late or as it was kept, is not what comes behind the one that
// was read to its end last.
func TestAnOlderFileIsNotBehind(t *testing.T) {
	tr := newTree(t)
	at := func(line int) int64 { return clock.Add(time.Duration(line) * time.Millisecond).UnixNano() }
	r, err := NewFiles(tr.options())
	if err != nil {
		t.Fatal(err)
	}
	r.journal.set("1:2", filePos{Path: filepath.Join(tr.dir, "0.log.20261123-100002"), Dev: 1, Ino: 2, Print: "1", Len: 512, Offset: 600,
		First: at(100), Last: at(109), Lines: 9, End: true})
	ended := &file{dev: 1, ino: 2, first: at(100), last: at(109), offset: 600, done: true, unlinked: true}
	older := &file{dev: 1, ino: 3, first: at(1), kept: true, unlinked: true}
	next := &file{dev: 1, ino: 4, blank: true}
	c := &container{dir: tr.dir, files: []*file{older, next}, ended: ended} // whose own place was let go of
	r.noteBehind(c, older, newBatch[filePos](""))
	if p, _ := r.journal.position("1:2"); p.Next != 0 {
		t.Errorf("what is behind a file through %d begins at %d", p.Last, p.Next)
	}
	next.first = at(110)
	r.noteBehind(c, next, newBatch[filePos](""))
	if p, _ := r.journal.position("1:2"); p.Next != at(110) {
		t.Errorf("what is behind it begins at %d, want %d", p.Next, at(110))
	}
}

// A file that had no line yet when the one before it was read to its end is written to and removed
// before anybody reads it, and the one there now has no line either: what is gone is told.
func TestFilesRemovedBehindOneThatWasReadToItsEnd(t *testing.T) {
	// What comes after a file that is gone is known from when it was read to its end, and from when
	// it was told that something is gone behind it.
	for name, told := range map[string]bool{"read": false, "told": true} {
		t.Run(name, func(t *testing.T) {
			w := byStep(t, Keep{})
			w.inTime()
			w.adds(10)
			w.start()
			w.looks()
			w.sends()
			if told {
				w.adds(3)
				w.dead()
				w.another()
				w.start()
			} else {
				w.another()
				w.looks()
				w.sends()
			}
			w.dead()
			w.now = w.now.Add(time.Second)
			w.adds(5)
			w.another()
			w.now = w.now.Add(time.Second)
			w.start()
			w.adds(3)
			w.ends() // what is neither there nor told it says
		})
	}
}

// Files are given up, and one without a line among them: what comes behind them, and goes while
// none runs, is told as any other that is gone behind a kept file.
func TestFilesGoneBehindAnEmptyOneThatWasGivenUp(t *testing.T) {
	w := byStep(t, Keep{Bytes: 1 << 30})
	w.inTime()
	rotated := 0
	next := func(lines int) (name string) {
		w.adds(lines)
		rotated++
		name = fmt.Sprintf("0.log.20261123-%06d", rotated)
		w.rename("0.log", name)
		w.raw("0.log", "")
		w.looks()
		return name
	}
	w.adds(5)
	w.start()
	w.looks()
	w.offers()
	w.r.filling.lines = batchLines // it is full: nothing is read any more
	w.remove(next(5))
	w.looks()
	w.hasKept(1)
	gives := func(held int) {
		w.r.bounds.held = held
		w.r.scanRoot()
		w.r.bounds.held = maxHeld
		w.looks()
	}
	names := []string{next(5)}
	gives(2) // what is kept
	names = append(names, next(0), next(5))
	gives(2) // the one without a line, and the one before it
	w.write()
	w.dead()
	for _, name := range names {
		w.remove(name)
	}
	w.adds(5)
	w.now = w.now.Add(time.Second)
	w.start()
	w.ends()
}

// What is told of a file that is gone leaves alone the position of the one that has its inode now,
// of another container. Else that one would be read from its beginning again once it was kept and its
// collector killed.
func TestFilesGoneWhoseInodeAnotherHasThatWasRead(t *testing.T) {
	w := byStep(t, Keep{Bytes: 1 << 30})
	w.inTime()
	w.addBeside(rotationKind{deletes: true})
	w.beside.writes(func() { w.beside.lines(10) })
	w.start()
	w.looks()
	w.sends()
	w.dead()
	gone := keyOf(t, filepath.Join(w.beside.dir, "0.log"))
	w.adds(10)
	st, err := os.Stat(filepath.Join(w.dir, "0.log"))
	if err != nil {
		t.Fatal(err)
	}
	j, err := openJournal[filePos](w.positions())
	if err != nil {
		t.Fatal(err)
	}
	was, ok := j.position(gone)
	if !ok {
		t.Fatalf("nothing is known of %s", gone)
	}
	was.Ino = st.Sys().(*syscall.Stat_t).Ino // which many file systems give it at once
	own := keyOf(t, filepath.Join(w.dir, "0.log"))
	j.forget(gone)
	j.set(own, was)
	if err := j.write(); err != nil {
		t.Fatal(err)
	}
	w.beside.remove("0.log")
	w.now = w.now.Add(time.Second)
	w.start()
	for range 2 { // what was read, and what is told
		w.looks()
		w.sends()
	}
	if gaps := w.s.gaps(); len(gaps) != 1 {
		t.Errorf("told as lost: %v", gaps)
	}
	if p, _ := w.r.journal.position(own); filepath.Dir(p.Path) != w.dir || p.Offset != st.Size() {
		t.Errorf("the file that is there stands at %+v", p)
	}
	w.beside.writes(func() { w.beside.lines(3) })
	w.looks()
	w.offers()
	w.remove("0.log")
	w.raw("0.log", "")
	w.looks()
	if len(w.kept()) != 1 {
		t.Error("it is not kept")
	}
	w.dead()
	w.ends()
}

// A copy that has less than was read of its file before that was cut is kept while the server is
// away: the server has all of it, so that none of it is sent again after a kill, and it is removed.
func TestKeptCopyOfWhichMoreWasReadThanItHas(t *testing.T) {
	for name, tc := range map[string]struct {
		lines         int // more than a fingerprint is of, or fewer
		heard, killed bool
	}{"killed": {30, true, true}, "heard of since, and killed": {30, false, true}, "not killed": {30, true, false}, "short, killed": {3, true, true}, "short, heard of since, and killed": {3, false, true}, "short, not killed": {3, true, false}} {
		t.Run(name, func(t *testing.T) {
			const rotated = "0.log.20261123-100001"
			w := byStep(t, Keep{Bytes: 1 << 30})
			w.addBeside(rotationKind{})
			w.start()
			w.lines(tc.lines)
			w.looks()
			w.sends()
			w.copy(rotated)
			w.lines(3)
			w.looks()
			if tc.heard {
				w.sends()
				w.beside.lines(3)
				w.looks()
			}
			w.offers()
			w.cut()
			w.looks()
			w.remove(rotated)
			w.looks()
			w.hasKept(1)
			w.sends()
			if tc.killed {
				w.dead()
				w.start()
			}
			w.lines(3)
			w.settle()
			w.rescan()
			if kept := w.kept(); len(kept) > 0 {
				t.Errorf("still there: %v", kept)
			}
			w.dead()
		})
	}
}

// The file of a restarted container had no line when the one before it was read to its end. Once it
// was written to and the pod is deleted while none runs, what is gone is told.
func TestPodRemovedBehindAFileThatWasReadToItsEnd(t *testing.T) {
	w := byStep(t, Keep{})
	w.inTime()
	w.adds(10)
	w.start()
	w.looks()
	w.sends()
	w.raw("1.log", "")
	w.looks()
	w.sends()
	w.dead()
	var err error
	if w.into, err = os.OpenFile(filepath.Join(w.dir, "1.log"), os.O_APPEND|os.O_WRONLY, 0); err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(time.Second)
	w.adds(5)
	w.letsGo()
	if err := os.RemoveAll(filepath.Dir(w.dir)); err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(time.Second)
	w.start()
	w.ends()
}

// What is gone behind a kept file is found anew with each start, and comes to be more, while a batch
// that tells what was gone before is on its way: what came since is told, too, once that arrives,
// and so is all of it where there are too many notes for each.
func TestFilesGoneBehindAKeptOneOverAndOver(t *testing.T) {
	for name, most := range map[string]int{"noted each": maxLost, "noted together": 1} {
		t.Run(name, func(t *testing.T) {
			w := byStep(t, Keep{Bytes: 1 << 30})
			w.inTime()
			w.bounds, w.maxLost = &bounds{maxHeld, maxDeleted, keepAtOnce, countAtOnce}, most
			w.adds(5)
			w.start()
			w.looks()
			w.offers()
			w.another()
			w.looks()
			w.hasKept(1)
			for range 3 {
				w.dead()
				w.adds(5)
				w.another()
				w.now = w.now.Add(time.Second)
				w.start()
				w.looks()
			}
			w.send() // what is on its way arrives
			w.send()
			w.send()
			w.write()
			w.dead()
			w.adds(5)
			w.another()
			w.now = w.now.Add(time.Second)
			w.start()
			w.looks()
			w.arrives()
			w.offers() // what tells of it
			w.write()
			w.dead()
			w.adds(5)
			w.another()
			w.now = w.now.Add(time.Second)
			w.start()
			w.send()
			w.send()
			w.send()
			w.write()
			w.dead()
			w.start()
			w.adds(3)
			w.ends()
		})
	}
}

// A record goes on behind a kept file that has nothing of its stream. With the newest first, the
// file in which it began comes before the one in which it ends, and so does that one.
func TestKeptFilesOfARecordWithAnotherStreamBetween(t *testing.T) {
	w := byStep(t, Keep{Bytes: 1 << 30, First: NewestFirst})
	w.lines(5)
	w.start()
	w.looks()
	w.offers()
	w.r.filling.lines = batchLines // it is full: nothing is read any more
	rotated := []string{"0.log.20261123-100001", "0.log.20261123-100002"}
	w.record(2, 1)
	w.rename("0.log", rotated[0])
	w.lineOfStderr()
	w.rename("0.log", rotated[1])
	w.piece(0)
	w.looks()
	for _, name := range rotated {
		w.remove(name)
	}
	w.looks()
	w.hasKept(len(rotated))
	w.dead()
	w.start()
	w.ends()
}

// A record goes on behind a kept copy, in a file that was copied and cut since: right behind it comes
// that copy, and not what the file is by now. A start would tell what lies between them as lost.
func TestKeptFileBeforeOneThatIsCutMeanwhile(t *testing.T) {
	rotated := []string{"0.log.20261123-100001", "0.log.20261123-100002"}
	w := byStep(t, Keep{Bytes: 1 << 30})
	w.lines(30)
	w.start()
	w.looks()
	w.offers()
	w.record(2, 1)
	w.copyTruncate(rotated[0])
	w.look()
	w.piece(0)
	w.lines(30)
	w.copy(rotated[1])
	w.remove(rotated[0])
	w.look() // without that the time is one to keep anything
	w.cut()
	w.now = w.now.Add(time.Millisecond)
	w.look()
	w.hasKept(1)
	w.dead()
	w.start()
	w.settle()
	w.s.toldNothing()
	w.dead()
}

// A record that is open at the end of a kept file, behind which something is gone, does not go on in
// what comes after that: not either where the batch that has both is made anew.
func TestRecordBeforeAGapInABatchThatIsMadeAnew(t *testing.T) {
	w := keepsAFile(t, func(w *steps) { w.record(2, 1) })
	w.dead()
	w.writes(func() { w.piece(0) })
	w.another()
	w.now = w.now.Add(time.Second)
	w.adds(5)
	w.start()
	w.looks()
	w.arrives()
	w.looks()
	w.offers()
	w.dead()
	w.start()
	w.ends()
}

// Nor does it where the batch had, between the two, what is gone when it is made anew.
func TestRecordBeforeWhatABatchHadThatIsGone(t *testing.T) {
	for name, between := range map[string]bool{"right behind it": false, "behind lines of the other stream": true} {
		t.Run(name, func(t *testing.T) {
			w := keepsAFile(t, func(w *steps) { w.record(3, 1) })
			w.arrives()
			w.writes(func() { w.piece(0) })
			w.looks()
			w.another()
			if between {
				w.writes(w.lineOfStderr)
				w.looks()
				w.rename("0.log", "0.log.20261123-100001")
			}
			w.writes(func() {
				w.piece(0)
				w.lines(5)
			})
			w.looks()
			w.looks()
			w.offers()
			w.dead()
			w.start()
			w.ends()
		})
	}
}

// A file comes behind a kept one and what is gone behind that, is read to its end and goes, before the
// server has its lines: the one after it is not what comes behind the kept one. Where the collector is
// killed, the lines are told.
func TestFilesReadAndGoneBehindAKeptOne(t *testing.T) {
	w := keepsAFile(t, func(w *steps) { w.lines(3) })
	w.dead()
	w.adds(5)
	w.another()
	w.now = w.now.Add(time.Second)
	w.start()
	w.r.opts.Keep.After = time.Hour
	w.arrives()
	w.looks()
	w.offers()
	w.adds(5)
	w.looks()
	w.another()
	w.looks()
	w.adds(5)
	w.looks()
	w.r.opts.Keep.After = time.Nanosecond
	w.looks()
	w.dead()
	w.now = w.now.Add(time.Second)
	w.start()
	w.ends()
}

// Nor does it go on in a file that had no line yet when it was found that something is gone before it,
// and none at the next start, before that is told.
func TestRecordBeforeAGapAndAFileWithoutALine(t *testing.T) {
	w := keepsAFile(t, func(w *steps) { w.record(2, 1) })
	w.dead()
	w.writes(func() { w.piece(0) })
	w.another()
	w.now = w.now.Add(time.Second)
	w.start()
	w.dead()
	w.start()
	w.adds(5)
	w.ends()
}

// A copy that has less than a fingerprint is of, and of whose file more was read before that was cut
// and anybody saw the copy, is known by its first line: none of it comes again.
func TestFilesShortCopyOfWhichMoreWasReadThanItHas(t *testing.T) {
	const name = "0.log.20261123-100001"
	for what, more := range map[string]int{"within a fingerprint": 3, "beyond a fingerprint": 30} {
		for how, tc := range map[string]struct{ sent, packed, killed, seen bool }{
			"running":              {sent: true},
			"compressed":           {sent: true, packed: true},
			"a start":              {sent: true, killed: true},
			"a start, before that": {sent: true, killed: true, seen: true},
			"a start, compressed":  {sent: true, packed: true, killed: true},
			"on its way":           {},
		} {
			t.Run(what+", "+how, func(t *testing.T) {
				w := byStep(t, Keep{})
				w.start()
				w.lines(4)
				w.looks()
				w.sends()
				w.copy(name)
				w.lines(more)
				w.now = w.now.Add(time.Second)
				w.r.containers[w.dir].dirty = true
				w.r.fill(w.r.filling) // no event was taken since
				w.now = w.now.Add(time.Second)
				w.r.containers[w.dir].dirty = true
				w.r.fill(w.r.filling) // nothing waits for further lines
				if w.offers(); tc.sent {
					w.sends()
				}
				if tc.seen {
					w.dead()
					w.start()
				}
				w.cut()
				if w.lines(2); tc.packed {
					w.pack(name)
				}
				if tc.killed {
					w.dead()
					w.start()
				}
				w.looks()
				w.ends()
			})
		}
	}
}

// Many files are given up that are still there, and what is noted of them is noted together: a start
// neither reads them nor tells them again.
func TestGivenUpFilesThatAreNotedTogetherAndAKill(t *testing.T) {
	const files, held = 6, 2
	for name, tc := range map[string]struct {
		most   int  // notes
		packed bool // or as they were
		read   bool // a part of the oldest was, and is on its way
		heard  bool // that arrived
	}{
		"noted each":                  {most: maxLost, packed: true},
		"noted together":              {most: 1, packed: true},
		"plain":                       {most: 1},
		"a part is on its way":        {most: 1, read: true},
		"a part was sent":             {most: 1, read: true, heard: true},
		"a part was sent, compressed": {most: 1, read: true, heard: true, packed: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := byStep(t, Keep{})
			w.inTime()
			w.bounds, w.maxLost = &bounds{held, maxDeleted, keepAtOnce, countAtOnce}, tc.most
			w.adds(5)
			w.start()
			w.looks()
			w.sends()
			if w.adds(5); tc.read {
				w.looks()
				w.offers()
			}
			if tc.heard {
				w.sends()
				w.adds(5)
			}
			w.r.filling.lines = batchLines // it is full: nothing is read any more
			for n := range files {
				name := fmt.Sprintf("0.log.20261123-10000%d", n)
				w.adds(10)
				w.rename("0.log", name)
				if w.raw("0.log", ""); tc.packed {
					w.pack(name)
				}
				w.r.scanRoot()
			}
			if n := len(w.r.journal.notes()); n == 0 || n > max(tc.most, files-held+1) {
				t.Fatalf("%d notes", n)
			}
			w.write()
			w.dead()
			w.start()
			w.looks()
			w.ends()
		})
	}
}

// A position that a file has from before it was cut, of when a record was open in it, says nothing
// once its copy was read to its end, be that gone and forgotten.
func TestPositionOfACutFileWhoseCopyIsForgotten(t *testing.T) {
	const first, second = "0.log.20261123-100001", "0.log.20261123-100002"
	w := byStep(t, Keep{})
	w.start()
	w.lines(10)
	w.record(2, 1)
	w.lineOfStderr()
	w.lineOfStderr()
	w.looks()
	w.sends()
	w.dead()
	w.copyTruncate(first)
	w.piece(0)
	w.lines(5)
	w.copyTruncate(second)
	w.start()
	w.looks()
	w.sends()
	w.looks()
	w.remove(first)
	w.rescan()
	w.sends()
	w.write()
	w.dead()
	w.start()
	w.ends()
}

// What is lost before a file is lost before it, and not before a copy that is being made of it: that has
// no position of its own, by which the file's could not become its one once the file is cut.
func TestFilesGoneBeforeOneThatIsCopied(t *testing.T) {
	w := byStep(t, Keep{})
	w.inTime()
	w.adds(10)
	w.start()
	w.looks()
	w.sends()
	w.dead()
	w.another()
	w.adds(12)
	w.copy("0.log.20261123-100001")
	w.start()
	w.looks()
	w.cut()
	w.looks()
	w.sends()
	w.dead()
	w.start()
	w.ends()
}

// Files that rotation takes while the server is slow, be it not away for long enough, are kept before
// there are so many of a container that they would be given up.
func TestFilesAreKeptOfASlowServer(t *testing.T) {
	w := byStep(t, Keep{Bytes: 1 << 30})
	w.o.Keep.After = time.Hour
	w.inTime()
	w.adds(5)
	w.start()
	w.looks()
	w.sends()
	w.r.filling.lines = batchLines // it is full: nothing is read any more
	for range 2 * maxDeleted {
		w.adds(5)
		w.looks()
		w.another()
		w.looks()
	}
	w.hasKept(2*maxDeleted - maxDeleted/2)
	w.r.filling.lines = 0
	w.ends()
	w.s.toldNothing()
}

// startsAsItIsCut starts the collector, has the file copied and cut and written to once it has looked at
// the files, and sees that nothing is told.
func (w *steps) startsAsItIsCut(write func()) {
	w.between = func() {
		w.copyTruncate("0.log.20261123-100001")
		write()
	}
	w.start()
	w.between = nil
	w.ends()
	w.s.toldNothing()
}

// A file that is copied and cut once a start has looked at the files, before it finds out what is lost,
// is not gone.
func TestFilesCutBeforeAStartFindsOutWhatIsLost(t *testing.T) {
	w := byStep(t, Keep{})
	w.start()
	w.lines(10)
	w.looks()
	w.sends()
	w.dead()
	w.lines(5)
	w.startsAsItIsCut(func() { w.lines(1) })
}

// Nor is one gone that is behind a kept file.
func TestFilesCutBehindAKeptOneBeforeAStartFindsOutWhatIsLost(t *testing.T) {
	w := keepsAFile(t, func(w *steps) { w.lines(5) })
	w.adds(5)
	w.looks()
	w.dead()
	w.startsAsItIsCut(func() { w.adds(1) })
}

// A file without a line that is rotated and compressed before anybody looks is known by what was
// compressed of it, as any other: nothing is gone before the next one.
func TestFilesEmptyOneThatIsCompressed(t *testing.T) {
	w := byStep(t, Keep{})
	w.start()
	w.lines(10)
	w.looks()
	w.rotates(1)
	w.looks()
	empty := w.rotates(2)
	w.lines(3)
	w.rotates(3)
	w.pack(empty)
	w.ends()
	w.s.toldNothing()
}

// What came and went before anybody looked is told, though the first of those that are there has no line.
func TestFilesGoneBeforeAnEmptyOne(t *testing.T) {
	w := byStep(t, Keep{})
	w.inTime()
	w.adds(10)
	w.start()
	w.looks()
	w.sends()
	w.remove(w.rotates(1))
	w.adds(3)
	w.remove(w.rotates(2))
	w.rotates(3)
	w.adds(2)
	w.rotates(4)
	w.adds(1)
	w.ends()
	if gaps := w.s.gaps(); len(gaps) != 1 || gaps[0].lines > 0 {
		t.Errorf("told as lost: %v", gaps)
	}
}

// A file that is kept after one that follows it, as what was compressed of it was there for longer, is
// read before that one by the next collector, too.
func TestKeptFileThatIsKeptAfterTheNextOne(t *testing.T) {
	w := byStep(t, Keep{Bytes: 1 << 30})
	w.inTime()
	w.adds(10)
	w.start()
	w.looks()
	w.offers()
	w.rotates(1)
	w.adds(5)
	unseen := w.rotates(2)
	w.pack(unseen)
	w.adds(5)
	w.looks()
	w.pack(w.rotates(3))
	w.looks()
	w.hasKept(1)
	w.remove(unseen + packedSuffix)
	w.looks()
	w.hasKept(2)
	w.dead()
	w.start()
	w.ends()
	w.s.toldNothing()
}
