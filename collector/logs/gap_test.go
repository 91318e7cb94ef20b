package logs

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// toldGap is a range of lost lines that the server has heard of.
type toldGap struct {
	container   string
	reason      string
	lines       int
	from, until time.Time
}

func (g toldGap) has(line int) bool {
	at := clock.Add(time.Duration(line) * time.Millisecond)
	return !at.Before(g.from) && !at.After(g.until)
}

// toldNothing fails if anything was told as lost.
func (s *server) toldNothing() {
	s.t.Helper()
	if gaps := s.gaps(); len(gaps) > 0 {
		s.t.Errorf("told as lost: %v", gaps)
	}
}

// toldMissing fails unless as many lines are told as lost as are missing of so many.
func (s *server) toldMissing(lines int) {
	s.t.Helper()
	gaps, missing, told := s.gaps(), s.missing(lines), 0
	for _, g := range gaps {
		told += g.lines
	}
	if told != len(missing) {
		s.t.Errorf("%d lines are told as lost, %d are missing: %v", told, len(missing), gaps)
	}
}

func (s *server) gaps() (out []toldGap) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, f := range s.fields {
		if f["crowsnest_dropped_reason"] == "" {
			continue
		}
		lines, err := strconv.Atoi(f["crowsnest_dropped_lines"])
		from, err2 := time.Parse(time.RFC3339Nano, f["crowsnest_dropped_from"])
		until, err3 := time.Parse(time.RFC3339Nano, f["crowsnest_dropped_until"])
		if err != nil || err2 != nil || err3 != nil {
			s.t.Errorf("a drop without its number or range: %v", f)
		}
		out = append(out, toldGap{s.of[i].Container, f["crowsnest_dropped_reason"], lines, from, until})
	}
	return out
}

// missing gives the lines, of so many, that did not come, and checks that none came twice.
func (s *server) missing(lines int) (out []int) {
	s.t.Helper()
	seen := map[string]int{}
	for _, l := range s.got(key) {
		seen[l]++
	}
	for n := range lines {
		switch times := seen[fmt.Sprintf("line %d", n)]; times {
		case 0:
			out = append(out, n)
		case 1:
		default:
			s.t.Errorf("line %d is there %d times", n, times)
		}
	}
	return out
}

func (tr *tree) remove(name string) {
	tr.t.Helper()
	if err := os.Remove(filepath.Join(tr.dir, name)); err != nil {
		tr.t.Fatal(err)
	}
}

// What is missing of a container is told, though the inode of its last file has become
// that of another container's, which the batch on its way is of.
func TestFilesGoneWhoseInodeIsAnothers(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	other := tr.beside()
	tr.write("0.log", 100)
	_, stop := tr.run(s)
	s.await(key, 100)
	stop()
	lastRead := clock.Add(99 * time.Millisecond)
	tr.remove("0.log")
	tr.next += 50 // in files that came and went
	tr.write("0.log", 10)
	other.write("0.log", 10)
	j, err := openJournal[filePos](tr.positions())
	if err != nil {
		t.Fatal(err)
	}
	if len(j.known) != 1 {
		t.Fatalf("%d positions are known, want that of one file", len(j.known))
	}
	f := &file{path: filepath.Join(other.dir, "0.log")}
	if f.fd, err = os.Open(f.path); err == nil {
		_, _, err = f.identify()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	size, _ := f.wholeSize()
	for inode, p := range j.known {
		to := filePos{Path: f.path, Dev: p.Dev, Ino: p.Ino, Print: strconv.FormatUint(f.print, 16), Len: f.printLen, Offset: size, First: clock.UnixNano(), Last: clock.UnixNano(), Lines: 10}
		j.inFlight = &inFlight[filePos]{ID: "1", From: map[string]filePos{}, To: map[string]filePos{inode: to}, Day: dayOf(clock.UnixNano())}
	}
	if err := j.write(); err != nil {
		t.Fatal(err)
	}
	_, stop = tr.run(s)
	s.await(key, 100+1+10)
	s.await("cart-1/side/stdout", 10)
	stop()
	first := clock.Add(150 * time.Millisecond)
	if gaps := s.gaps(); len(gaps) != 1 || !gaps[0].from.Equal(lastRead) || !gaps[0].until.Equal(first) {
		t.Errorf("told %v, want once the range from %s to %s", gaps, lastRead, first)
	}
}

// A file that was removed ends with a collector that is killed while it has it open.
// What the server has not got of it is told: the lines of the batch on its way by their
// number, if the server has not stored that, what came after it by its range of time.
func TestFilesRemovedAndTheCollectorKilled(t *testing.T) {
	for name, tc := range map[string]struct {
		stored    bool // the batch on its way: only its answer was lost
		successor bool // there is another file by then
		folder    bool // the pod's logs are gone altogether
		again     bool // killed once more before what is lost was acknowledged
	}{
		"the server has not got the last batch":       {successor: true},
		"the server has got the last batch":           {stored: true, successor: true},
		"killed again":                                {successor: true, again: true},
		"nothing is written after it":                 {},
		"the pod was deleted":                         {folder: true},
		"the pod was deleted, and the batch is there": {folder: true, stored: true},
	} {
		t.Run(name, func(t *testing.T) {
			tr, s := newTree(t), newServer(t)
			tr.write("0.log", 100)
			_, stop := tr.run(s)
			s.await(key, 100)
			waitFor(t, func() bool { // the server's answer is on disk
				j, err := openJournal[filePos](tr.positions())
				return err == nil && j.inFlight == nil && len(j.known) == 1
			})
			s.set(func() {
				if s.lost = s.batches; !tc.stored {
					s.away = true
				}
			})
			tr.write("0.log", 50)
			waitFor(t, func() bool { return hasInFlight(tr) && (!tc.stored || len(s.got(key)) > 100) })
			tr.write("0.log", 20) // they wait for that batch
			tr.remove("0.log")
			if tc.successor {
				tr.write("0.log", 10)
			}
			kill(t, s, tr.positions(), stop)
			if tc.folder {
				if err := os.RemoveAll(filepath.Dir(tr.dir)); err != nil {
					t.Fatal(err)
				}
			}
			if tc.again {
				_, stop = tr.run(s)
				waitFor(t, func() bool { return hasInFlight(tr) })
				kill(t, s, tr.positions(), stop)
			}
			s.set(func() { s.away, s.lost = false, -1 })
			want := map[bool]int{false: 2, true: 1}[tc.stored] // of what comes by number only if it is lost
			for range 2 {                                      // the second start tells nothing of it again
				f, stop := tr.run(s)
				waitFor(t, func() bool { return len(s.gaps()) >= want && f.journal.settled() })
				if tc.successor {
					waitFor(t, func() bool { return !slices.Contains(s.missing(tr.next), tr.next-1) })
				}
				stop()
			}
			gaps, missing := s.gaps(), s.missing(tr.next)
			if len(gaps) != want {
				t.Errorf("told %v, want %d ranges", gaps, want)
			}
			if len(missing) == 0 || tc.stored && missing[0] < 149 { // the last line of a batch may have waited for others
				t.Errorf("lines %v are missing", missing)
			}
			for _, n := range missing {
				in := 0
				for _, g := range gaps {
					if g.has(n) && g.reason == DropAway {
						in++
					}
				}
				if in == 0 {
					t.Errorf("line %d is missing and in no range that was told: %v", n, gaps)
				}
			}
			numbered := 0
			for _, g := range gaps {
				numbered += g.lines
				if lost := 0; g.lines > 0 {
					for _, n := range missing {
						if g.has(n) {
							lost++
						}
					}
					if lost < g.lines {
						t.Errorf("%d lines are told from %s to %s, %d are missing", g.lines, g.from, g.until, lost)
					}
				}
			}
			if tc.stored != (numbered == 0) || !tc.stored && numbered < 49 {
				t.Errorf("%d lines are told by number: %v", numbered, gaps)
			}
		})
	}
}

// Of a file that was read to its end, acknowledged and then removed, nothing is lost,
// and nothing is told to be.
func TestFilesRemovedAfterTheyWereRead(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	tr.write("0.log", 100)
	f, stop := tr.run(s)
	s.await(key, 100)
	tr.remove("0.log")
	tr.write("0.log", 10)
	s.await(key, 110)
	waitFor(t, f.journal.settled)
	stop()
	tr.remove("0.log")
	tr.write("0.log", 10) // while none runs: one range
	_, stop = tr.run(s)
	s.await(key, 121)
	stop()
	_, stop = tr.run(s)
	tr.write("0.log", 1)
	s.await(key, 122)
	stop()
	if gaps := s.gaps(); len(gaps) != 1 || !gaps[0].has(109) || gaps[0].has(111) || !gaps[0].has(110) {
		t.Errorf("told %v, want once what may lie between lines 109 and 110", gaps)
	}
	if missing := s.missing(tr.next); len(missing) > 0 {
		t.Errorf("lines %v are missing", missing)
	}
}

// A record whose file is given up within it, as rotation took too many while the server was
// away, ends with what was read of it: it does not go on with the first line of what is
// left. Its rest is told.
func TestRecordsWhoseFilesAreGivenUp(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	tr.write("0.log", 10)
	o := tr.options()
	o.Rescan = 50 * time.Millisecond
	f, stop := tr.runWith(o, s)
	s.await(key, 10)
	waitFor(t, func() bool { return !hasInFlight(tr) })
	s.set(func() { s.away = true })
	tr.write("0.log", 1) // for a batch that is on its way
	waitFor(t, func() bool { return hasInFlight(tr) })
	const part = 16 << 10
	for range 12 { // more than a batch holds
		var b strings.Builder
		fmt.Fprintf(&b, "%s", cri(tr.next, "stdout", "P", fmt.Sprintf("line %d ", tr.next)))
		for range 63 {
			b.WriteString(cri(tr.next, "stdout", "P", strings.Repeat("x", part)))
		}
		b.WriteString(cri(tr.next, "stdout", "F", "end"))
		tr.raw("0.log", b.String())
		tr.next++
	}
	read, same := int64(0), 0
	waitFor(t, func() bool { // until it is full
		if now := f.Health().Read; now != read || now <= 11 {
			read, same = now, 0
		}
		same++
		return same > 100
	})
	for i := range maxDeleted + 1 {
		tr.rotateAway(i, 1)
	}
	waitFor(t, func() bool { return f.Health().Dropped[DropRotated] > 0 })
	s.set(func() { s.away = false })
	tr.write("0.log", 1)
	waitFor(t, func() bool { return slices.Contains(s.got(key), fmt.Sprintf("line %d", tr.next-1)) })
	stop()
	came := map[int]bool{}
	for _, l := range s.got(key) {
		var n int
		switch _, err := fmt.Sscanf(l, "line %d", &n); {
		case err == nil:
			came[n] = true
		case strings.Trim(strings.TrimSuffix(l, "end"), "x") != "" && !strings.Contains(l, "dropped here"):
			t.Errorf("a record of %d bytes goes on with another: %.20q … %q", len(l), l, l[max(0, len(l)-20):])
		}
	}
	gaps := s.gaps()
	for n := range tr.next {
		if !came[n] && !slices.ContainsFunc(gaps, func(g toldGap) bool { return g.has(n) }) {
			t.Errorf("line %d is missing and in no range that was told: %v", n, gaps)
		}
	}
}

// A record was open over the border of two files, of which the first is gone at the next
// start: its beginning is told, though lines of the other stream were sent beyond it.
func TestRecordsWhoseBeginningIsGone(t *testing.T) {
	for name, successor := range map[string]bool{"with its rest in the next file": true, "at the end of all": false} {
		t.Run(name, func(t *testing.T) {
			tr, s := newTree(t), newServer(t)
			tr.write("0.log", 10)
			f, stop := tr.run(s)
			s.await(key, 10)
			tr.raw("0.log", cri(tr.next, "stdout", "P", "the beginning"))
			tr.next++
			tr.raw("0.log", cri(tr.next, "stderr", "F", "beside it"))
			tr.rename("0.log", "0.log.20261123-100000")
			tr.raw("0.log", "")
			s.await("cart-1/app/stderr", 1)
			if successor {
				tr.raw("0.log", cri(tr.next+1, "stderr", "F", "after it"))
				s.await("cart-1/app/stderr", 2)
			}
			waitFor(t, func() bool { // that is on disk
				j, err := openJournal[filePos](tr.positions())
				open := 0
				for _, p := range j.known {
					if p.Open != 0 {
						open++
					}
				}
				return err == nil && f.journal.settled() && j.inFlight == nil && open > 0
			})
			kill(t, s, tr.positions(), stop)
			tr.remove("0.log.20261123-100000")
			tr.raw("0.log", cri(tr.next+2, "stdout", "F", "and its rest")+cri(tr.next+3, "stdout", "F", "last"))
			_, stop = tr.run(s)
			waitFor(t, func() bool { return slices.Contains(s.got(key), "last") })
			stop()
			if gaps := s.gaps(); len(gaps) == 0 || !gaps[0].has(10) {
				t.Errorf("told %v, want that what was written at %d is lost", gaps, 10)
			}
			for range 2 { // once
				_, stop = tr.run(s)
				tr.next += 10
				tr.write("0.log", 1)
				s.await(key, len(s.got(key))+1)
				stop()
			}
			if gaps := s.gaps(); len(gaps) != 1 {
				t.Errorf("told %v, want one range", gaps)
			}
		})
	}
}

// What was on its way of a file that was compressed or copied meanwhile, and is gone, is told by the
// number of those lines, not of all that were sent of the file before; nor by each of the two
// names that the batch knows it by.
func TestLinesOnTheirWayOfACompressedFileThatIsGone(t *testing.T) {
	for name, tc := range map[string]struct{ onItsWay, copied bool }{
		"read before the start":          {},
		"copied before the start":        {copied: true},
		"in the batch that is made anew": {onItsWay: true},
	} {
		t.Run(name, func(t *testing.T) {
			tr, s := newTree(t), newServer(t)
			o := tr.options()
			tr.write("0.log", 100)
			_, stop := tr.runWith(o, s)
			s.await(key, 100)
			waitFor(t, func() bool { // the server's answer is on disk
				j, err := openJournal[filePos](tr.positions())
				return err == nil && j.inFlight == nil && len(j.known) == 1 && positionsIn(j)[0].Lines == 100
			})
			s.set(func() { s.away = true })
			if !tc.onItsWay {
				stop()
			}
			tr.write("0.log", 5)
			if tc.onItsWay {
				waitFor(t, func() bool { return hasInFlight(tr) })
				kill(t, s, tr.positions(), stop)
			}
			was := keyOf(t, filepath.Join(tr.dir, "0.log"))
			gone := "0.log.20261123-100000"
			if tc.copied {
				tr.copyTruncate(gone)
			} else {
				tr.rename("0.log", gone)
				tr.pack(gone)
				gone += packedSuffix
			}
			tr.write("0.log", 10)
			tr.kills(o, s, func() bool { // that is on disk
				j, err := openJournal[filePos](tr.positions())
				if err != nil || j.inFlight == nil {
					return false
				}
				if tc.onItsWay {
					return !slices.Contains(slices.Collect(maps.Keys(j.inFlight.To)), was) // it has the name of what was compressed then
				}
				return slices.ContainsFunc(slices.Collect(maps.Values(j.inFlight.To)), func(p filePos) bool { return filepath.Base(p.Path) == gone })
			})
			tr.remove(gone)
			s.set(func() { s.away = false })
			_, stop = tr.runWith(o, s)
			waitFor(t, func() bool { return slices.Contains(s.got(key), "line "+strconv.Itoa(tr.next-1)) && len(s.gaps()) > 0 })
			stop()
			gaps, missing := s.gaps(), s.missing(tr.next)
			numbered := 0
			for _, g := range gaps {
				numbered += g.lines
			}
			if len(missing) == 0 || numbered > len(missing) {
				t.Errorf("%d lines are told as lost, %d are: %v", numbered, len(missing), gaps)
			}
			for _, n := range missing {
				if !slices.ContainsFunc(gaps, func(g toldGap) bool { return g.has(n) }) {
					t.Errorf("line %d is missing and in no range that was told: %v", n, gaps)
				}
			}
		})
	}
}

// What a start finds to be lost is told though it is killed before the server hears of that,
// and though nothing is left by then by which it was found: once, and what was lost since then.
func TestWhatAStartFindsToBeLostAndAKill(t *testing.T) {
	at := func(line int) int64 { return clock.Add(time.Duration(line) * time.Millisecond).UnixNano() }
	tr := newTree(t)
	path := filepath.Join(tr.dir, "0.log")
	open := filePos{Path: path + ".20261123-100000", Dev: 1, Ino: 1, Print: "1", Len: knownHead, Offset: 100, Scan: -1, Done: &[2]int64{}, First: at(0), Last: at(5), Open: at(3)}
	gone := filePos{Path: path, Dev: 1, Ino: 2, Print: "2", Len: knownHead, Offset: 100, First: at(6), Last: at(9)}
	start := func() []loss {
		r := tr.started(t)
		r.findUntold()
		r.findGaps()
		lost := slices.Clone(r.containerAt(tr.dir).lost)
		slices.SortFunc(lost, func(a, b loss) int { return int(a.drop.from - b.drop.from) })
		return lost
	}
	check := func(when string, want ...drop) {
		t.Helper()
		lost := start()
		if !slices.EqualFunc(lost, want, func(l loss, d drop) bool { return l.drop == d && l.reason == DropAway }) {
			t.Errorf("%s: %v are lost, want %v", when, lost, want)
		}
	}
	change := func(fn func(j *journal[filePos])) {
		t.Helper()
		j, err := openJournal[filePos](tr.positions())
		if err != nil {
			t.Fatal(err)
		}
		if fn(j); j.write() != nil {
			t.Fatal("the positions cannot be written")
		}
	}
	change(func(j *journal[filePos]) { j.known["1:1"], j.known["1:2"] = open, gone })
	tr.next = 20
	tr.write("0.log", 5)
	inOpen, behind := drop{from: at(3), until: at(5)}, drop{from: at(9), until: at(20)}
	check("at the first start", inOpen, behind)
	check("at the next one", inOpen, behind)
	change(func(j *journal[filePos]) { delete(j.known, "1:1") }) // as it is gone
	check("after one is forgotten", inOpen, behind)
	tr.remove("0.log")
	tr.next = 30
	tr.write("0.log", 5)
	since := drop{from: at(20), until: at(30)}
	check("after another one went", inOpen, behind, since)
	told := tr.next
	tr.remove("0.log")
	tr.raw("0.log", "") // and what came after that has no line yet
	if lost := start(); len(lost) != 4 || lost[3].drop.from != at(30) || lost[3].drop.until < at(told) {
		t.Errorf("after the last went: %v are lost, want what was behind line 30, too", lost)
	}
	change(func(j *journal[filePos]) {
		maps.DeleteFunc(j.lost, func(_ string, l lostFile[filePos]) bool { return l.From == at(30) })
	})
	tr.next = 30
	tr.write("0.log", 5)
	change(func(j *journal[filePos]) { // the first two are in a batch that is on its way
		told := gone
		told.Last, told.End, told.Next = at(20), true, at(20)
		j.inFlight = &inFlight[filePos]{ID: "1", To: map[string]filePos{"1:2": told}}
		for as, l := range j.lost {
			if l.Until != at(30) {
				j.inFlight.Told = append(j.inFlight.Told, tell{From: l.From, Until: l.Until, Noted: as})
			}
		}
	})
	check("with those on their way", since)
	tr.raw("0.log.20261123-100000", "a line of the file that has come back, which was there before it went\n")
	f := &file{path: path + ".20261123-100000"}
	var err error
	if f.fd, err = os.Open(f.path); err == nil {
		_, _, err = f.identify()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	change(func(j *journal[filePos]) {
		j.inFlight = nil
		for as, l := range j.lost {
			l.At.Print, l.At.Len = strconv.FormatUint(f.print, 16), f.printLen
			j.lost[as] = l
		}
	})
	r := tr.started(t)
	if r.findUntold(); len(r.containers[tr.dir].lost) > 0 || len(r.journal.untold()) > 0 {
		t.Errorf("%v are lost of what has come back", r.containers[tr.dir].lost)
	}
}

// keyOf is the name by which positions know a file.
func keyOf(t *testing.T, path string) string {
	t.Helper()
	f := &file{path: path}
	var err error
	if f.fd, err = os.Open(path); err == nil {
		_, _, err = f.identify()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	return f.key()
}

// What is lost with a file that is given up is known to a start though the one before it is, on
// the disk, followed by the one after it by then; and told as what it is where that batch is
// made anew.
func TestFilesThatWereGivenUpAndAKill(t *testing.T) {
	tr := newTree(t)
	h := tr.byHand(t)
	h.filling = h.b
	tr.write("0.log", 10)
	h.settled()
	tr.rename("0.log", "0.log.20261123-100000")
	tr.write("0.log", 5)
	h.lookAfter(0)
	tr.rename("0.log", "0.log.20261123-100001")
	tr.write("0.log", 5)
	h.scanRoot()
	c := h.containers[tr.dir]
	if len(c.files) != 3 {
		t.Fatalf("%d files are known, want 3", len(c.files))
	}
	before, gone, next := c.files[0], c.files[1], c.files[2]
	for stream := range c.pending {
		c.pending[stream] = nil
	}
	h.journal.set(before.key(), c.pos(before))
	gone.offset, gone.sent, gone.last, gone.hasMark, gone.inBatch = 0, 0, 0, false, nil // nothing was read of it
	tr.remove("0.log.20261123-100001")
	h.abandon(c, gone, DropRotated)
	before.done, before.next = true, next.firstTime()
	h.journal.set(before.key(), c.pos(before))
	if err := h.journal.write(); err != nil {
		t.Fatal(err)
	}
	at := func(line int) int64 { return clock.Add(time.Duration(line) * time.Millisecond).UnixNano() }
	r := tr.started(t)
	r.findUntold()
	r.findGaps()
	lost := r.containers[tr.dir].lost
	if len(lost) != 1 || lost[0].drop.lines != 5 || lost[0].drop.from != at(10) || lost[0].drop.until != at(14) || lost[0].reason != DropRotated {
		t.Errorf("%v are lost, want the 5 lines from 10 on", lost)
	}
	b := newBatch[filePos]("node/n1")
	if !h.tellLost(c, b) || len(b.told) != 1 {
		t.Fatalf("told %v", b.told)
	}
	h.journal.begin(b)
	b = newBatch[filePos]("node/n1")
	r.tellGone(b, h.journal.inFlight, nil, nil)
	for k, d := range b.drops {
		if k.reason != DropRotated || d.lines != 5 || d.until != at(14) {
			t.Errorf("told %d lines until %s as %s", d.lines, time.Unix(0, d.until).UTC(), k.reason)
		}
	}
	if len(b.drops) != 1 {
		t.Errorf("told %d times, want once", len(b.drops))
	}
}

// What is gone behind a kept file is what comes after the ones behind it that were given up:
// those are told by themselves, and what is open behind them is found to be gone after a kill.
func TestFilesThatWereGivenUpBehindAKeptOne(t *testing.T) {
	tr := newTree(t)
	tr.next = 1
	names := []string{"0.log.20261123-100000", "0.log.20261123-100001", "0.log.20261123-100002", "0.log"}
	for _, name := range names {
		tr.write(name, 5)
	}
	r := tr.started(t)
	r.started = true
	c := r.containers[tr.dir]
	if len(c.files) != 4 {
		t.Fatalf("%d files are known, want 4", len(c.files))
	}
	kept := c.files[0]
	kept.kept, kept.next = true, c.files[1].firstTime()
	want := c.files[3].firstTime()
	r.journal.set(kept.key(), c.pos(kept))
	r.abandon(c, c.files[2], DropRotated) // as a look does that finds too many
	r.abandon(c, c.files[1], DropRotated)
	if p, _ := r.journal.position(kept.key()); p.Next != want {
		t.Errorf("after the kept file comes what begins at %s, want %s", time.Unix(0, p.Next).UTC(), time.Unix(0, want).UTC())
	}
	if n := len(r.journal.untold()); n != 2 {
		t.Errorf("%d are noted as lost, want both", n)
	}
}

// What was noted to come after a kept file stays so where what is there is older, as it was given up:
// else a further start would tell of that again.
func TestWhatComesAfterGivenUpFiles(t *testing.T) {
	tr := newTree(t)
	tr.write("0.log", 1)
	r := tr.started(t)
	at := clock.Add(time.Hour).UnixNano()
	f := &file{path: filepath.Join(tr.dir, "0.log.1"), kept: true, done: true, next: at}
	c := r.containers[tr.dir]
	c.files = slices.Insert(c.files, 0, f)
	r.findGapsBehindKept(c)
	if len(c.lost) > 0 || f.next != at {
		t.Errorf("told as lost: %v; what comes after it begins at %d, want %d", c.lost, f.next, at)
	}
}
