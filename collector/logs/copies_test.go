package logs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/collector/state"
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

// asked is a State that does something when it is asked for the second time: at a start
// that is for the first container of which a batch is made anew, after the look at its files.
type asked struct {
	State
	times atomic.Int32
	then  func()
}

func (a *asked) Snapshot() *state.Snapshot {
	if a.times.Add(1) == 2 {
		a.then()
	}
	return a.State.Snapshot()
}

// A file that is copied and cut while a batch is made anew of what was in it: the copy has
// that, and what it is by now is not taken for it, though it is as long again.
func TestFilesCutWhileABatchIsMadeAnew(t *testing.T) {
	const first, batch = 10, 4000 // of several reads
	for when, cuts := range map[string]int{"before it is read": 1, "while it is read": 1, "again and again": 4} {
		for _, stored := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, stored %v", when, stored), func(t *testing.T) {
				tr, s := newTree(t), newServer(t)
				tr.write("0.log", first)
				_, stop := tr.run(s)
				s.await(key, first)
				waitFor(t, func() bool { return !hasInFlight(tr) })
				s.set(func() { s.lost, s.away = s.batches, !stored })
				tr.write("0.log", batch)
				waitFor(t, func() bool { return hasInFlight(tr) && (!stored || len(s.got(key)) > first) })
				kill(t, s, tr.positions(), stop)
				s.set(func() { s.lost, s.away = -1, false })

				done, left := make(chan struct{}), cuts
				rotate := func() {
					tr.copyTruncate(fmt.Sprintf("0.log.20261123-10000%d", cuts-left))
					tr.write("0.log", batch+batch/2)
					if left--; left == 0 {
						close(done)
					}
				}
				o := tr.options()
				begun := false // belongs to the collector, as all of this until it is done
				o.Now = func() time.Time {
					if begun && left > 0 { // it is between two reads
						rotate()
					}
					return time.Now()
				}
				o.State = &asked{State: o.State, then: func() {
					begun = true
					if when == "while it is read" {
						return
					}
					for range (cuts + 1) / 2 {
						rotate()
					}
				}}
				_, stop = tr.runWith(o, s)
				select {
				case <-done:
				case <-time.After(time.Minute):
					t.Fatal("nothing looks at the clock")
				}
				tr.write("0.log", 1)
				s.await(key, tr.next)
				stop()
				once(t, s.got(key), tr.next)
				s.toldNothing()
			})
		}
	}
}

// What was read of a file after it was copied is not in the copy: no more of that is read
// than was not before, and what a batch on its way had of it is told by number.
func TestFilesReadBeyondTheirCopy(t *testing.T) {
	for _, killed := range []bool{false, true} {
		t.Run(fmt.Sprintf("killed %v", killed), func(t *testing.T) {
			tr, s := newTree(t), newServer(t)
			tr.write("0.log", 20)
			o := tr.options()
			o.Rules.Join.Hold, o.Rules.Join.Off = 300*time.Millisecond, killed
			_, stop := tr.runWith(o, s)
			s.await(key, 20)
			waitFor(t, func() bool { return !hasInFlight(tr) })
			text, err := os.ReadFile(filepath.Join(tr.dir, "0.log"))
			if err != nil {
				t.Fatal(err)
			}
			if killed {
				s.set(func() { s.away = true })
			}
			tr.raw("0.log.20261123-100001", string(text))
			tr.write("0.log", 7)
			if killed {
				waitFor(t, func() bool { return hasInFlight(tr) })
				kill(t, s, tr.positions(), stop)
				s.set(func() { s.away = false })
			} else {
				s.await(key, 26) // the last may go on
			}
			if err := os.Truncate(filepath.Join(tr.dir, "0.log"), 0); err != nil {
				t.Fatal(err)
			}
			if killed {
				_, stop = tr.runWith(o, s)
			}
			tr.write("0.log", 5)
			// What is told as lost may come before it or after.
			waitFor(t, func() bool {
				return slices.Contains(s.got(key), fmt.Sprintf("line %d", tr.next-1)) && (!killed || len(s.gaps()) > 0)
			})
			sleep(t.Context(), 100*time.Millisecond) // what came twice would be there
			stop()
			gaps := s.gaps()
			if !killed {
				once(t, s.got(key), tr.next)
				if len(gaps) > 0 {
					t.Errorf("told as lost: %v", gaps)
				}
				return
			}
			if missing := s.missing(tr.next); len(missing) != 7 || missing[0] != 20 || len(gaps) != 1 || gaps[0].lines != 7 || !gaps[0].has(20) || !gaps[0].has(26) {
				t.Errorf("missing are %v, told %v", missing, gaps)
			}
		})
	}
}

// A copy that had nothing that was not read before is not read again by a start that comes
// after the file that it was made of has gone on.
func TestFilesCopyThatWasRead(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	o := tr.options()
	o.Rescan = 50 * time.Millisecond
	tr.write("0.log", 30)
	_, stop := tr.runWith(o, s)
	s.await(key, 30)
	for _, name := range []string{"0.log.20261123-100001", "0.log.20261123-100002"} {
		tr.copyTruncate(name)
		sleep(t.Context(), 200*time.Millisecond) // positions of what is gone are forgotten
		tr.write("0.log", 20)
		s.await(key, tr.next)
	}
	for range 3 { // a start has no more of it than the one before
		sleep(t.Context(), 200*time.Millisecond)
		stop()
		_, stop = tr.runWith(o, s)
		tr.write("0.log", 1)
		s.await(key, tr.next)
	}
	stop()
	once(t, s.got(key), tr.next)
}

// A record that was open when its file was cut goes on in the copy, and a start does not
// tell that it is gone with the file.
func TestFilesCutWithARecordOpen(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	o := tr.options()
	o.Rules.Join.Hold = 150 * time.Millisecond
	o.Rescan = time.Hour
	_, stop := tr.runWith(o, s)
	for n := range 4 {
		tr.write("0.log", 20)
		s.await(key, tr.next-1) // the last may go on
		tr.copyTruncate(fmt.Sprintf("0.log.20261123-10000%d", n))
		tr.write("0.log", 1)
		s.await(key, tr.next)
		stop()
		_, stop = tr.runWith(o, s)
	}
	stop()
	once(t, s.got(key), tr.next)
	s.toldNothing()
}

// A copy may be there for a while before anything is in it.
func TestFilesCopyThatIsEmptyAtFirst(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	o := tr.options()
	_, stop := tr.runWith(o, s)
	tr.write("0.log", 30)
	s.await(key, 30)
	name := "0.log.20261123-100001"
	tr.raw(name, "")
	sleep(t.Context(), 5*o.Grace)
	tr.write("0.log", 1) // has the collector look again
	s.await(key, tr.next)
	tr.copyTruncate(name)
	tr.write("0.log", 20)
	s.await(key, tr.next)
	sleep(t.Context(), 2*o.Rescan)
	stop()
	once(t, s.got(key), tr.next)
}
