package logs

import (
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"
)

// What storms found: TestFilesThroughStorms searches, these hold it.

// kills starts a collector and kills it once it has looked at its files, without an answer.
func (tr *tree) kills(o FilesOptions, s *server, until func() bool) {
	tr.t.Helper()
	_, stop := tr.runWith(o, s)
	waitFor(tr.t, until)
	kill(tr.t, s, tr.positions(), stop)
}

// A collector that told of a file that is gone, in which a record was open, is the same one
// at the next start: what the server knows of that file is not another collector's.
func TestFilesGoneAreTheSameCollectors(t *testing.T) {
	for name, before := range map[string]bool{"with a file before it": true, "and all that there was": false} {
		t.Run(name, func(t *testing.T) {
			tr, s := newTree(t), newServer(t)
			o := tr.options()
			o.Positions, o.HandOver = s.ask, time.Millisecond
			if before {
				tr.raw("0.log.20261123-100000", cri(0, "stdout", "F", "the file before it"))
			}
			tr.raw("0.log", cri(1, "stdout", "F", "whole")+cri(2, "stdout", "P", "open ")+cri(3, "stderr", "F", "beside it"))
			f, stop := tr.runWith(o, s)
			s.await("cart-1/app/stderr", 1)
			waitFor(t, func() bool { return f.journal.settled() && len(f.journal.sources()) > 0 })
			stop()
			tr.remove("0.log")
			f, stop = tr.runWith(o, s)
			waitFor(t, func() bool { return len(s.gaps()) > 0 && f.journal.settled() })
			stop()
			f, err := NewFiles(o)
			if err != nil {
				t.Fatal(err)
			}
			f.atStart = f.journal.sources()
			f.askHanded(t.Context())
			if len(f.handed) > 0 {
				t.Errorf("its own lines are taken for another collector's: %v", f.handed)
			}
		})
	}
}

// So it is after a start that goes on in what was compressed of a file, before it has read
// that again; and a record that is open in it is known to be, then.
func TestFilesThatWereCompressedAreTheSameCollectors(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	o := tr.options()
	o.Positions, o.HandOver = s.ask, time.Millisecond
	tr.raw("0.log", cri(1, "stdout", "F", "whole")+cri(2, "stdout", "P", "open ")+cri(3, "stderr", "F", "beside it"))
	f, stop := tr.runWith(o, s)
	s.await("cart-1/app/stderr", 1)
	waitFor(t, func() bool { return f.journal.settled() && len(f.journal.sources()) > 0 })
	stop()
	tr.rename("0.log", "0.log.20261123-100000")
	tr.pack("0.log.20261123-100000")
	r := tr.started(t)
	open := 0
	for _, p := range r.journal.sources() {
		if p.Open != 0 && filepath.Ext(p.Path) == packedSuffix {
			open++
		}
	}
	if open != 1 {
		t.Errorf("the record is known to be open in %d compressed files, want 1", open)
	}
	for k, p := range r.journal.sources() { // that of the file is forgotten
		if filepath.Ext(p.Path) != packedSuffix {
			r.journal.forget(k)
		}
	}
	r.opts.Positions, r.atStart = s.ask, r.journal.sources()
	r.askHanded(t.Context())
	if len(r.handed) > 0 {
		t.Errorf("its own lines are taken for another collector's: %v", r.handed)
	}
}

// What lay between a kept file and the next one is told, though the collector that found
// that out is killed before the server takes anything; and so is what a further one finds.
func TestFilesGoneBehindKeptOnesOverKills(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	o := tr.keeping(Keep{Bytes: 1 << 30})
	tr.write("0.log", 10)
	_, stop := tr.runWith(o, s)
	s.await(key, 10)
	waitFor(t, func() bool { return !hasInFlight(tr) })
	s.set(func() { s.away = true })
	tr.write("0.log", 1) // for a batch that is on its way
	waitFor(t, func() bool { return hasInFlight(tr) })
	tr.rotateAway(1, 5)
	waitFor(t, func() bool { return len(tr.kept()) == 1 })
	tr.write("0.log", 5) // which the kill takes
	waitFor(t, func() bool {
		j, err := openJournal[filePos](tr.positions())
		return err == nil && slices.ContainsFunc(positionsIn(j), func(p filePos) bool { return p.Next != 0 })
	})
	kill(t, s, tr.positions(), stop)
	for range 2 {
		tr.remove("0.log")
		tr.next += 5
		tr.write("0.log", 5)
		first := clock.Add(time.Duration(tr.next-5) * time.Millisecond).UnixNano()
		tr.kills(o, s, func() bool { // that is on disk
			j, err := openJournal[filePos](tr.positions())
			return err == nil && slices.ContainsFunc(positionsIn(j), func(p filePos) bool { return p.Next == first })
		})
	}
	s.set(func() { s.away = false })
	_, stop = tr.runWith(o, s)
	waitFor(t, func() bool { return slices.Contains(s.got(key), "line "+strconv.Itoa(tr.next-1)) })
	stop()
	gaps := s.gaps()
	for _, n := range s.missing(tr.next) {
		if !slices.ContainsFunc(gaps, func(g toldGap) bool { return g.has(n) }) {
			t.Errorf("line %d is missing and in no range that was told: %v", n, gaps)
		}
	}
}

func positionsIn(j *journal[filePos]) []filePos { return slices.Collect(maps.Values(j.known)) }

// A record that goes on in three files of which the second is gone is not joined over that.
func TestRecordsWhoseMiddleIsGone(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	const first, second = "0.log.20261123-100000", "0.log.20261123-100001"
	tr.raw("0.log", cri(0, "stdout", "P", "one ")+cri(1, "stderr", "F", "a"))
	f, stop := tr.run(s)
	s.await("cart-1/app/stderr", 1)
	tr.rename("0.log", first)
	tr.raw("0.log", cri(2, "stdout", "P", "two ")+cri(3, "stderr", "F", "b"))
	s.await("cart-1/app/stderr", 2)
	tr.rename("0.log", second)
	tr.raw("0.log", cri(4, "stdout", "P", "three ")+cri(5, "stderr", "F", "c"))
	s.await("cart-1/app/stderr", 3)
	waitFor(t, func() bool { return f.journal.settled() && !hasInFlight(tr) })
	stop()
	tr.remove(second)
	tr.raw("0.log", cri(6, "stdout", "F", "four")+cri(7, "stdout", "F", "last"))
	_, stop = tr.run(s)
	waitFor(t, func() bool { return slices.Contains(s.got(key), "last") })
	stop()
	if slices.Contains(s.got(key), "one three four") {
		t.Errorf("joined over what is missing: %q", s.got(key))
	}
	if gaps := s.gaps(); len(gaps) != 1 || !gaps[0].has(2) {
		t.Errorf("told %v, want that what was written at 2 is lost", gaps)
	}
}

// A file that is kept goes by another name from then on. What the server has of it does,
// too, though it says so at that moment.
func TestJournalKnowsWhatWasAcknowledgedMeanwhile(t *testing.T) {
	j := openMemory[int]()
	b := newBatch[int]("node/n1")
	b.to["old"] = 7
	j.set("old", 3) // of what had its name before
	j.begin(b)
	asked := 0
	j.become("old", "", "new", 0, func(at int) bool {
		if asked++; asked == 1 && j.mu.TryLock() { // else it has to wait
			j.mu.Unlock()
			j.acknowledged(b)
		}
		return at == 7 || at == 0
	})
	if j.inFlight != nil {
		j.acknowledged(b)
	}
	if at, ok := j.position("new"); !ok || at != 7 {
		t.Errorf("the position is %d (%v), want that of the batch, 7", at, ok)
	}
}

// What is lost and what a start would have found it by are in the same journal: one that is
// written between the two, by who sends, has both as they were or both as they are.
func TestJournalKnowsWhatWasLostAndBesideWhatAtOnce(t *testing.T) {
	j, err := openJournal[filePos](filepath.Join(t.TempDir(), "positions.json"))
	if err != nil {
		t.Fatal(err)
	}
	const rounds = 200
	j.set("kept", filePos{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for i := range rounds {
			j.lose("gone", lostFile[filePos]{Until: int64(i + 1)}, nil, map[string]func(filePos) filePos{"kept": func(p filePos) filePos {
				p.Next = int64(i + 1)
				return p
			}})
		}
	}()
	for going := true; going; {
		select {
		case <-ended:
			going = false
		default:
		}
		if err := j.write(); err != nil {
			t.Fatal(err)
		}
		was, err := openJournal[filePos](j.path)
		if err != nil {
			t.Fatal(err)
		}
		if next, until := was.known["kept"].Next, was.lost["gone"].Until; next != until {
			t.Fatalf("the kept file goes on at %d, and what is lost ends at %d", next, until)
		}
	}
}

// A batch that is made anew tells what it had of a file that is gone also where that was the
// rest of a record that began in the file before it, and from when on.
func TestWhatABatchHadOfAFileThatIsGone(t *testing.T) {
	tr := newTree(t)
	path := filepath.Join(tr.dir, "0.log")
	at := func(ms int) int64 { return clock.Add(time.Duration(ms) * time.Millisecond).UnixNano() }
	for name, tc := range map[string]struct {
		from, to   filePos
		since, til int
	}{
		"the rest of a record": {filePos{Path: path, Offset: 100, Scan: -1, Done: &[2]int64{100, 0}, First: at(20), Last: at(25), Open: at(17), Lines: 2},
			filePos{Path: path, Offset: 100, First: at(20), Last: at(25), Lines: 2}, 17, 25},
		"all of it": {filePos{Path: path}, filePos{Path: path, Offset: 100, First: at(20), Last: at(25), Lines: 2}, 20, 25},
	} {
		r := tr.started(t)
		b := newBatch[filePos]("node/n1")
		was := &inFlight[filePos]{ID: "1", From: map[string]filePos{"1:1": tc.from}, To: map[string]filePos{"1:1": tc.to}, Day: dayOf(at(0))}
		r.tellGone(b, was, nil, nil)
		told := 0
		for _, d := range b.drops {
			if told++; d.from != at(tc.since) || d.until != at(tc.til) {
				t.Errorf("%s: told from %s to %s", name, time.Unix(0, d.from).UTC(), time.Unix(0, d.until).UTC())
			}
		}
		if told != 1 {
			t.Errorf("%s: told %d times, want once", name, told)
		}
	}
}

// A file in which a record is still open is read to its end, and its inode becomes that of
// the file in which the record ends: a batch has the positions of both.
func TestRecordsInTwoFilesOfOneInode(t *testing.T) {
	tr := newTree(t)
	tr.write("0.log", 5)
	r := tr.started(t)
	c := r.containers[tr.dir]
	now := c.files[0]
	was := &file{path: filepath.Join(tr.dir, "0.log.20261123-100000"), suffix: "20261123-100000", dev: now.dev, ino: now.ino, first: 1, last: 2, offset: 60, done: true, unlinked: true}
	r.journal.set(was.key(), c.pos(was))
	c.files = []*file{was}
	b := newBatch[filePos]("node/n1")
	r.filling = b
	r.insert(c, now)
	w := &pending{file: was, in: now, at: 1}
	r.touch(c, w)
	r.mark(c, b)
	firsts := []int64{}
	for _, p := range b.to {
		firsts = append(firsts, p.First)
	}
	slices.Sort(firsts)
	if len(firsts) != 2 || firsts[1] != 1 {
		t.Errorf("the batch has positions of files that begin at %v, want one of each", firsts)
	}
	if known := r.journal.sources(); len(known) != 1 || known[besides(now.key(), 1)].First != 1 {
		t.Errorf("known is %v, want the position of the older file by a name of its own", known)
	}
	r.scanContainer(c)
	if len(c.files) == 0 || c.files[len(c.files)-1].path != filepath.Join(tr.dir, "0.log") || was.path == now.path {
		t.Errorf("the older file is taken for the one that has its inode: %s", was.path)
	}
}

// A file that is not read again yet keeps what is open in it, whatever is told meanwhile; and
// the container stays taken as far as it was.
func TestPositionsOfFilesThatAreNotReadAgainYet(t *testing.T) {
	c, f := &container{taken: 10}, &file{}
	f.resume(filePos{Offset: 100, Scan: 40, Done: &[2]int64{100, 40}, First: 1, Last: 5, Open: 3, Mark: &reached{At: 5, Same: 1, Open: [][6]int64{{2, 1, 0, 2, 1, 0}}}})
	if p := c.pos(f); p.Open != 3 || p.taken() != 10 {
		t.Errorf("open since %d, taken through %d, want 3 and 10", p.Open, p.taken())
	}
}

// A batch on its way when a collector was killed is made anew of the copy of its file, which
// was cut since. That is where its position goes: by the file's own name it would be of a file
// in which a record is open, and which is gone once rotation removes the copy.
func TestACutFilesPositionGoesWithItsCopyAtAStart(t *testing.T) {
	for name, stored := range map[string]bool{"stored": true, "not stored": false} {
		t.Run(name, func(t *testing.T) {
			tr, s := newTree(t), newServer(t)
			o := tr.options()
			tr.write("0.log", 20)
			_, stop := tr.runWith(o, s)
			s.await(key, 20)
			waitFor(t, func() bool { return !hasInFlight(tr) })
			s.set(func() {
				if s.away = !stored; stored {
					s.lost = s.batches
				}
			})
			tr.write("0.log", 5)
			waitFor(t, func() bool { return hasInFlight(tr) })
			kill(t, s, tr.positions(), stop)
			s.set(func() { s.away, s.lost = false, -1 })
			const copied = "0.log.20261123-100001"
			tr.copyTruncate(copied)
			tr.write("0.log", 5)
			_, stop = tr.runWith(o, s)
			s.await(key, tr.next)
			sleep(t.Context(), 5*o.Grace)
			stop()
			j, err := openJournal[filePos](tr.positions())
			if err != nil {
				t.Fatal(err)
			}
			for a, p := range j.known {
				for b, q := range j.known {
					if a < b && p.Len >= knownHead && p.Print == q.Print && p.Len == q.Len {
						t.Errorf("%s and %s are positions of the same file: %+v and %+v", a, b, p, q)
					}
				}
			}
			tr.remove(copied)
			tr.write("0.log", 1)
			_, stop = tr.runWith(o, s)
			s.await(key, tr.next)
			sleep(t.Context(), 2*o.Rescan)
			stop()
			numbered(t, s.got(key), tr.next)
			if gaps := s.gaps(); len(gaps) > 0 {
				t.Errorf("told to be lost, though all arrived: %v", gaps)
			}
		})
	}
}
