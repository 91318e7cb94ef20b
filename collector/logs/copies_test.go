package logs

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// copyTruncate rotates as logrotate does where it is told to copy.
func (tr *tree) copyTruncate(name string) {
	tr.t.Helper()
	from := filepath.Join(tr.dir, "0.log")
	text, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(filepath.Join(tr.dir, name), text, 0o644)
	}
	if err := errors.Join(err, os.Truncate(from, 0)); err != nil {
		tr.t.Fatal(err)
	}
}

// While a collector was held up a file was cut twice, and a copy of what was in it last was
// made: the copies are read in their order, and what is in the file still is not read twice.
func TestFilesCopiesOfSeveralCuts(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	o := tr.options()
	h := &holding{State: o.State}
	o.State = h
	tr.write("0.log", 1)
	_, stop := tr.runWith(o, s)
	s.await(key, 1)
	h.while(tr, "other", func() {
		tr.write("0.log", 30)
		tr.copyTruncate("0.log.20261123-100001")
		tr.write("0.log", 40)
		tr.copyTruncate("0.log.20261123-100002")
		tr.write("0.log", 50)
		text, err := os.ReadFile(filepath.Join(tr.dir, "0.log"))
		if err == nil { // not cut yet
			err = os.WriteFile(filepath.Join(tr.dir, "0.log.20261123-100003"), text, 0o644)
		}
		if err != nil {
			t.Error(err)
		}
	})
	s.await(key, tr.next)
	if err := os.Truncate(filepath.Join(tr.dir, "0.log"), 0); err != nil {
		t.Fatal(err)
	}
	tr.write("0.log", 1)
	s.await(key, tr.next)
	stop()
	once(t, s.got(key), tr.next)
	if gaps := s.gaps(); len(gaps) > 0 {
		t.Errorf("told as lost: %v", gaps)
	}
}

// A copy that had nothing that was not read before is not read again by a start that comes
// after the file that it was made of has gone on.
func TestFilesCopyThatWasRead(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	o := tr.options()
	o.Rescan, o.Grace = 50*time.Millisecond, 20*time.Millisecond
	tr.write("0.log", 30)
	_, stop := tr.runWith(o, s)
	s.await(key, 30)
	for _, name := range []string{"0.log.20261123-100001", "0.log.20261123-100002"} {
		tr.copyTruncate(name)
		sleep(t.Context(), 200*time.Millisecond) // positions of what is gone are forgotten
		tr.write("0.log", 20)
		s.await(key, tr.next)
	}
	sleep(t.Context(), 300*time.Millisecond)
	stop()
	_, stop = tr.runWith(o, s)
	tr.write("0.log", 1)
	s.await(key, tr.next)
	stop()
	once(t, s.got(key), tr.next)
}

// A file that was cut without a copy that anybody could see, and one whose copies went
// before they were seen: what may have been written meanwhile is told.
func TestFilesCutWithoutCopyIsTold(t *testing.T) {
	for _, copies := range []int{0, 3} {
		tr, s := newTree(t), newServer(t)
		o := tr.options()
		h := &holding{State: o.State}
		o.State = h
		tr.write("0.log", 30)
		_, stop := tr.runWith(o, s)
		s.await(key, 30)
		if copies > 0 {
			tr.copyTruncate("0.log.20261123-100000")
			tr.write("0.log", 1)
			s.await(key, tr.next)
		}
		h.while(tr, "other", func() {
			tr.write("0.log", 10)
			for n := range copies {
				name := "0.log.20261123-10000" + string(rune('1'+n))
				tr.copyTruncate(name)
				if err := os.Remove(filepath.Join(tr.dir, name)); err != nil {
					t.Error(err)
				}
				tr.write("0.log", 10)
			}
			if err := os.Truncate(filepath.Join(tr.dir, "0.log"), 0); err != nil {
				t.Error(err)
			}
		})
		tr.write("0.log", 5)
		waitFor(t, func() bool { return len(s.gaps()) == 1 })
		stop()
	}
}

// A file that is kept gets the inode of one that was read and is gone: what the batch on its
// way had of that one is still known.
func TestJournalRenamesApart(t *testing.T) {
	j := openMemory[filePos]()
	j.apart = apart
	gone := filePos{Path: "/pods/p/c/0.log.1", First: 1, Last: 2, Offset: 100}
	kept := filePos{Path: "/pods/p/c/0.log.2", First: 3, Last: 4, Offset: 200}
	b := newBatch[filePos]("node/n1")
	b.from["1:7"] = filePos{Path: gone.Path, First: 1, Last: 1, Offset: 50}
	b.to["1:7"], b.to["1:8"] = gone, kept
	j.begin(b)
	j.rename("1:8", "1:7")
	from, to := j.onItsWay()
	if to["1:7"] != kept || to[besides("1:7", 1)] != gone || from[besides("1:7", 1)].Offset != 50 || len(to) != 2 || len(from) != 1 {
		t.Errorf("the batch is from %v to %v", from, to)
	}
}
