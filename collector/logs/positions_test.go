package logs

import (
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
