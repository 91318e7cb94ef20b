package logs

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// again gives a file another inode, as it has on another disk.
func (tr *tree) again(name string) {
	tr.t.Helper()
	text, err := os.ReadFile(filepath.Join(tr.dir, name))
	if err != nil {
		tr.t.Fatal(err)
	}
	tr.raw("again", string(text))
	tr.rename("again", name)
}

// started gives a collector of the tree that has looked at its files, and reads nothing.
func (tr *tree) started(t *testing.T) *Files {
	t.Helper()
	r, err := NewFiles(tr.options())
	if err != nil {
		t.Fatal(err)
	}
	r.watch, r.atStart = startWatch(t), r.journal.sources()
	r.scanRoot()
	t.Cleanup(func() {
		for _, c := range r.order {
			c.release()
		}
	})
	return r
}

// A file that was copied and cut, and its copy, begin alike, and the copy was read further.
// Where both are gone, what was made of the copy goes on where that was.
func TestFilesGoOnAtTheFurthestPosition(t *testing.T) {
	const name = "0.log.20261123-100001"
	tr, s := newTree(t), newServer(t)
	tr.write("0.log", 20)
	o := tr.options()
	h := &holding{State: o.State}
	o.State, o.Rescan = h, time.Hour // until when positions are kept
	before := filePos{}
	f, stop := tr.runWith(o, s)
	s.await(key, 20)
	waitFor(t, func() bool { return !hasInFlight(tr) })
	for _, p := range f.journal.sources() {
		before = p
	}
	h.while(tr, "other", func() {
		tr.write("0.log", 30) // not read before the cut
		tr.copyTruncate(name)
		tr.write("0.log", 5)
	})
	s.await(key, tr.next)
	stop()
	// An earlier version kept what the file was beside what the copy is.
	f.journal.set(besides("0:1", before.First), before)
	if err := f.journal.write(); err != nil {
		t.Fatal(err)
	}
	if n := len(f.journal.sources()); n < 3 {
		t.Fatalf("%d positions are known, want the file's before and after the cut, and the copy's", n)
	}
	tr.again(name)
	size, err := os.Stat(filepath.Join(tr.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	for range 20 { // positions come in any order
		r := tr.started(t)
		for _, f := range r.containers[tr.dir].files {
			if f.suffix != "" && f.offset != size.Size() {
				t.Fatalf("the copy, of %d bytes, goes on at %d", size.Size(), f.offset)
			}
		}
	}
	_, stop = tr.run(s)
	tr.write("0.log", 1)
	s.await(key, tr.next)
	stop()
	numbered(t, s.got(key), tr.next)
}

// at writes numbered lines of a time, in milliseconds.
func (tr *tree) at(name string, at, n int) {
	tr.t.Helper()
	for range n {
		tr.raw(name, cri(at, "stdout", "F", fmt.Sprintf("line %d", tr.next)))
		tr.next++
		at++
	}
}

// What was rotated and compressed while no collector ran is read, though the clock was set
// back, so that it says to be older than what was read.
func TestFilesCompressedAfterTheClockWasSetBack(t *testing.T) {
	const minute = 60_000
	tr, s := newTree(t), newServer(t)
	tr.at("0.log", 0, 30)
	_, stop := tr.run(s)
	s.await(key, 30)
	for i := range 3 { // what is compressed while it runs was read
		tr.rotate(i)
		tr.at("0.log", (i+1)*minute, 20)
		s.await(key, tr.next)
	}
	stop()
	for i := range 4 {
		tr.at("0.log", (i-60)*minute, 20)
		tr.rename("0.log", fmt.Sprintf("0.log.20261123-090%d00", i))
		tr.pack(fmt.Sprintf("0.log.20261123-090%d00", i))
	}
	tr.at("0.log", -50*minute, 5)
	for range 3 {
		_, stop = tr.run(s)
		s.await(key, tr.next)
		tr.at("0.log", -49*minute, 1)
		s.await(key, tr.next)
		stop()
	}
	once(t, s.got(key), tr.next)
}

// positioned gives the names of those compressed files that a start would find a position of.
func (tr *tree) positioned(f *Files) (names []string) {
	tr.t.Helper()
	paths, _ := filepath.Glob(filepath.Join(tr.dir, "*"+packedSuffix)) // the pattern is good
	for _, path := range paths {
		p := &file{path: path, packed: true}
		var err error
		if p.fd, err = os.Open(path); err == nil {
			err = p.identifyPacked()
		}
		if err != nil {
			tr.t.Fatal(err)
		}
		if at, ok := positionOf(p, f.journal.sources()); ok && at.begun() {
			names = append(names, filepath.Base(path))
		}
		p.close()
	}
	return names
}

// How far a file was read stays known for as long as what was compressed of it is there,
// whatever has its inode, and no longer.
func TestFilesCompressedAreKnownWhileTheyAreThere(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	o := tr.options()
	o.Rescan = 20 * time.Millisecond
	f, stop := tr.runWith(o, s)
	for i := range 5 {
		tr.write("0.log", 20)
		s.await(key, tr.next)
		tr.rotate(i)
		tr.write("0.log", 1)
		s.await(key, tr.next)
		tr.pruned(f)
		if got := tr.positioned(f); len(got) != i {
			t.Fatalf("%q are known, want %d", got, i)
		}
	}
	tr.remove("0.log.20261123-100001" + packedSuffix)
	waitFor(t, func() bool { tr.pruned(f); return len(f.journal.sources()) <= 5 })
	if got := tr.positioned(f); len(got) != 3 {
		t.Errorf("%q are known, want 3", got)
	}
	for range 3 {
		stop()
		f, stop = tr.runWith(o, s)
		tr.write("0.log", 1)
		s.await(key, tr.next)
		tr.pruned(f)
	}
	stop()
	numbered(t, s.got(key), tr.next)
}

// An earlier version forgot what it had read once it was compressed. That is told by its
// age, at the first start after it.
func TestFilesCompressedThatWereForgotten(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	f, stop := tr.run(s)
	for i := range 4 {
		tr.write("0.log", 20)
		s.await(key, tr.next)
		tr.rotate(i)
	}
	tr.write("0.log", 5)
	s.await(key, tr.next)
	stop()
	newest := int64(0)
	for _, p := range f.journal.sources() {
		newest = max(newest, p.Last)
	}
	for k, p := range f.journal.sources() {
		if p.Last < newest {
			f.journal.forget(k)
		}
	}
	f.journal.forgot = true
	if err := f.journal.write(); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		tr.rotate(4 + i)
		tr.write("0.log", 5)
		_, stop = tr.run(s)
		s.await(key, tr.next)
		stop()
	}
	numbered(t, s.got(key), tr.next)
}

// Somebody's copy of the file that was read last comes after those that were compressed since,
// by its name. At the first start after an earlier version, too, that says nothing of them.
func TestFilesCompressedBesideACopyWithALaterName(t *testing.T) {
	for _, forgot := range []bool{false, true} {
		t.Run(fmt.Sprintf("after an earlier version %v", forgot), func(t *testing.T) {
			tr, s := newTree(t), newServer(t)
			tr.write("0.log", 30)
			f, stop := tr.run(s)
			s.await(key, 30)
			waitFor(t, func() bool { return !hasInFlight(tr) })
			stop()
			tr.copied("0.log", "0.log.bak")
			f.journal.forgot = forgot
			if err := f.journal.write(); err != nil {
				t.Fatal(err)
			}
			for i := range 3 {
				name := fmt.Sprintf("0.log.20261123-10000%d", i)
				tr.write("0.log", 10)
				tr.rename("0.log", name)
				tr.pack(name)
			}
			tr.write("0.log", 5)
			for range 2 {
				_, stop = tr.run(s)
				s.await(key, tr.next)
				tr.write("0.log", 1)
				s.await(key, tr.next)
				stop()
			}
			numbered(t, s.got(key), tr.next)
		})
	}
}

// copied is what somebody's cp makes beside a log file.
func (tr *tree) copied(from, to string) {
	tr.t.Helper()
	text, err := os.ReadFile(filepath.Join(tr.dir, from))
	if err != nil {
		tr.t.Fatal(err)
	}
	tr.raw(to, string(text))
}

// pruned waits until positions of what is gone were forgotten, twice at least.
func (tr *tree) pruned(f *Files) {
	tr.t.Helper()
	for range 2 {
		f.journal.set("gone", filePos{Path: filepath.Join(tr.dir, "gone")})
		waitFor(tr.t, func() bool { _, there := f.journal.position("gone"); return !there })
	}
}

// Somebody's copy of a log file is known as such once that was rotated and removed, too.
func TestFilesCopyThatOutlivesItsFile(t *testing.T) {
	const old = "0.log.20261123-100001"
	for _, cut := range []bool{false, true} {
		t.Run(fmt.Sprintf("copied and cut %v", cut), func(t *testing.T) {
			tr, s := newTree(t), newServer(t)
			o := tr.options()
			o.Rescan = 20 * time.Millisecond
			tr.write("0.log", 30)
			f, stop := tr.runWith(o, s)
			s.await(key, 30)
			tr.copied("0.log", "0.log.bak")
			tr.pruned(f) // and it was looked at
			if cut {
				tr.copyTruncate(old)
			} else {
				tr.rename("0.log", old)
			}
			tr.write("0.log", 10)
			s.await(key, tr.next)
			waitFor(t, func() bool { return !isOpen(t, filepath.Join(tr.dir, old)) })
			tr.remove(old)
			for range 3 {
				tr.pruned(f)
				tr.write("0.log", 1)
				s.await(key, tr.next)
				stop()
				f, stop = tr.runWith(o, s)
			}
			tr.write("0.log", 1)
			s.await(key, tr.next)
			stop()
			numbered(t, s.got(key), tr.next)
		})
	}
}

// Rotation that counts gives the name of each compressed file to the next one, also of those
// that were there at a start: what has the name by now is another file, and what had it stays
// known for as long as it is there.
func TestFilesCompressedThatAreCounted(t *testing.T) {
	for _, cut := range []bool{false, true} {
		t.Run(fmt.Sprintf("copied and cut %v", cut), func(t *testing.T) {
			tr, s := newTree(t), newServer(t)
			o, h := tr.heldUp()
			o.Rescan = 20 * time.Millisecond
			rotate := func() {
				for i := 3; i > 0; i-- { // of the last, the file before it is removed
					if was := fmt.Sprintf("0.log.%d.gz", i); hasFile(tr, was) {
						tr.rename(was, fmt.Sprintf("0.log.%d.gz", i+1))
					}
				}
				if cut {
					tr.copyTruncate("0.log.1")
				} else {
					tr.rename("0.log", "0.log.1")
				}
				tr.pack("0.log.1")
				tr.write("0.log", 5)
			}
			tr.write("0.log", 30)
			f, stop := tr.runWith(o, s)
			s.await(key, 30)
			for i := range 6 {
				h.while(tr, fmt.Sprintf("other-%d", i), rotate) // between two looks
				s.await(key, tr.next)
				tr.pruned(f)
				stop()
				if i%2 == 1 {
					tr.write("0.log", 5)
					rotate()
				}
				f, stop = tr.runWith(o, s)
				tr.write("0.log", 5)
				s.await(key, tr.next)
				waitFor(t, func() bool { return !hasInFlight(tr) })
			}
			stop()
			once(t, s.got(key), tr.next)
			s.toldNothing()
		})
	}
}

// At a start, too, rotation can give the name of a compressed file to another one: after that
// was opened, and before it is noted which there are. The next look has the other one.
func TestFilesCompressedUnderANameThatWasThereAtAStart(t *testing.T) {
	tr := newTree(t)
	const name, second = "0.log.1", "0.log.2"
	tr.write(name, 10)
	tr.pack(name)
	tr.write(second, 10)
	tr.pack(second)
	r, err := NewFiles(tr.options())
	if err != nil {
		t.Fatal(err)
	}
	c := &container{dir: tr.dir}
	entries, err := os.ReadDir(tr.dir)
	if err != nil {
		t.Fatal(err)
	}
	present, packed := r.openAll(c, entries)
	for _, f := range present {
		c.files = append(c.files, f)
	}
	t.Cleanup(c.release)
	tr.rename(name+packedSuffix, second+packedSuffix)
	tr.write(name, 10)
	tr.pack(name)
	r.missed(c, packed, c.files)
	r.started = true
	missed := r.missed(c, c.packedIn(entries), nil)
	for _, f := range missed {
		defer f.close()
	}
	if len(missed) != 1 || missed[0].suffix != "1" {
		t.Errorf("%d files are read, want the one that came", len(missed))
	}
}

// Somebody's copy of a log file beside it is none that rotation made: what is in both is read
// once, whatever became of the file while no collector ran, and of the copy.
func TestFilesCopyOfAFileThatWasRotatedWhileAway(t *testing.T) {
	const old, copied = "0.log.20261123-100001", "0.log.bak"
	for name, tc := range map[string]struct {
		before        bool // it was copied while the collector ran
		packed, packs bool // what was rotated is compressed, and so is the copy
	}{
		"copied before": {before: true}, "copied": {}, "rotated and compressed": {packed: true}, "a compressed copy": {packs: true}, "both compressed": {packed: true, packs: true},
	} {
		t.Run(name, func(t *testing.T) {
			tr, s := newTree(t), newServer(t)
			o := tr.options()
			o.Rescan = 20 * time.Millisecond
			tr.write("0.log", 30)
			_, stop := tr.runWith(o, s)
			s.await(key, 30)
			if tc.before {
				tr.copied("0.log", copied)
				tr.write("0.log", 10)
				s.await(key, 40)
			}
			stop()
			tr.write("0.log", 10)
			if !tc.before {
				tr.copied("0.log", copied)
			}
			tr.write("0.log", 10)
			tr.rename("0.log", old)
			if tc.packed {
				tr.pack(old)
			}
			if tc.packs {
				tr.pack(copied)
			}
			for i := range 4 {
				tr.write("0.log", 10)
				f, stop := tr.runWith(o, s)
				s.await(key, tr.next)
				if i == 1 {
					tr.remove(filepath.Base(globbed(t, tr, old+"*")))
				}
				tr.pruned(f)
				stop()
			}
			once(t, s.got(key), tr.next)
			s.toldNothing()
		})
	}
}

func globbed(t *testing.T, tr *tree, pattern string) string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(tr.dir, pattern))
	if err != nil || len(paths) != 1 {
		t.Fatalf("%s: %q, %v", pattern, paths, err)
	}
	return paths[0]
}
