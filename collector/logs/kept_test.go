package logs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// kept gives the files that are kept of the tree's container.
func (tr *tree) kept() []string {
	found, err := filepath.Glob(filepath.Join(tr.pos, keptDir, "*", "*", "*"+packedSuffix))
	if err != nil {
		tr.t.Fatal(err)
	}
	return found
}

// keeping are options with which files are kept at once.
func (tr *tree) keeping(k Keep) FilesOptions {
	o := tr.options()
	o.Rescan = 50 * time.Millisecond
	o.Keep = k
	o.Keep.After = time.Nanosecond
	return o
}

// rotateAway writes lines, rotates them, waits until the collector has them open,
// and removes them as rotation does.
func (tr *tree) rotateAway(i, lines int) {
	tr.t.Helper()
	name := fmt.Sprintf("0.log.20261123-1000%02d", i)
	tr.write("0.log", lines)
	tr.rename("0.log", name)
	tr.raw("0.log", "")
	open := 0 // looks in a row: a scan also opens files that it lets go at once
	waitFor(tr.t, func() bool {
		if open++; !isOpen(tr.t, filepath.Join(tr.dir, name)) {
			open = 0
		}
		return open > 20
	})
	if err := os.Remove(filepath.Join(tr.dir, name)); err != nil {
		tr.t.Fatal(err)
	}
}

// While the server is away, rotation takes file after file and the collector is
// restarted: every line arrives once, in its order, and nothing is kept after that.
func TestWhatRotationTakesWhileTheServerIsAway(t *testing.T) {
	for name, first := range map[string]string{"oldest first": OldestFirst, "newest first": NewestFirst} {
		t.Run(name, func(t *testing.T) {
			tr, s := newTree(t), newServer(t)
			tr.write("0.log", 50)
			o := tr.keeping(Keep{First: first, Bytes: 1 << 30})
			o.Positions = s.ask
			_, stop := tr.runWith(o, s)
			s.await(key, 50)
			s.set(func() { s.away = true })
			tr.write("0.log", 1) // for a batch that is on its way
			waitFor(t, func() bool { return hasInFlight(tr) })
			for i := range 3 {
				tr.rotateAway(i, 30)
			}
			waitFor(t, func() bool { return len(tr.kept()) == 3 })
			stop()
			_, stop = tr.runWith(o, s)
			for i := range 2 {
				tr.rotateAway(10+i, 30)
			}
			waitFor(t, func() bool { return len(tr.kept()) == 5 })
			if err := os.RemoveAll(filepath.Dir(tr.dir)); err != nil { // the pod, too
				t.Fatal(err)
			}
			stop()
			s.set(func() { s.away = false })
			_, stop = tr.runWith(o, s)
			defer stop()
			numbered(t, s.await(key, 201), 201)
			waitFor(t, func() bool { return len(tr.kept()) == 0 })
			stop()
			numbered(t, s.got(key), 201)
			if left, _ := os.ReadDir(filepath.Join(tr.pos, keptDir)); len(left) != 0 {
				t.Errorf("folders are left: %v", left)
			}
		})
	}
}

// A collector that is stopped while it sends what was kept, with the newest first, goes on
// there: what the server says of its container's newest lines is its own.
func TestKeptFilesAreSentOverRestarts(t *testing.T) {
	const files, lines = 40, 2000
	tr, s := newTree(t), newServer(t)
	tr.write("0.log", 10)
	o := tr.keeping(Keep{First: NewestFirst, Bytes: 1 << 30})
	o.Positions = s.ask
	_, stop := tr.runWith(o, s)
	s.await(key, 10)
	s.set(func() { s.away = true })
	tr.write("0.log", 1)
	waitFor(t, func() bool { return hasInFlight(tr) })
	for i := range files {
		tr.rotateAway(i, lines)
		waitFor(t, func() bool { return len(tr.kept()) > i-8 }) // of more than twelve that wait the oldest are given up
	}
	waitFor(t, func() bool { return len(tr.kept()) == files })
	tr.write("0.log", 10)
	stop()
	s.set(func() { s.away = false })
	way := &few{server: s}
	way.left.Store(4) // the one on its way, what is in the folder, and two for what is kept
	_, stop = tr.runWith(o, way)
	waitFor(t, func() bool { return way.left.Load() < 0 })
	stop()
	if got := len(s.got(key)); got >= tr.next {
		t.Fatalf("%d lines came before it was stopped, want a part of %d", got, tr.next)
	}
	_, stop = tr.runWith(o, s)
	s.await(key, tr.next)
	stop()
	once(t, s.got(key), tr.next)
}

// few takes as many batches as are left, and is away then.
type few struct {
	*server
	left atomic.Int64
}

func (f *few) Send(ctx context.Context, b *wire.LogBatch) error {
	if b.Lines() > 0 && f.left.Add(-1) < 0 {
		return errors.New("server is away")
	}
	return f.server.Send(ctx, b)
}

func hasInFlight(tr *tree) bool {
	j, err := openJournal[filePos](tr.positions())
	return err == nil && j.inFlight != nil
}

// What was written behind a kept file is told where that went while a collector was dead that
// had seen it begin, and only there.
func TestWhatIsGoneBehindAKeptFileAfterAKill(t *testing.T) {
	for name, gone := range map[string]int{"gone": 20, "there": 0} {
		t.Run(name, func(t *testing.T) {
			tr, s := newTree(t), newServer(t)
			tr.write("0.log", 50)
			o := tr.keeping(Keep{Bytes: 1 << 30})
			_, stop := tr.runWith(o, s)
			s.await(key, 50)
			s.set(func() { s.away = true })
			tr.write("0.log", 1)
			waitFor(t, func() bool { return hasInFlight(tr) })
			tr.write("0.log", 30)
			tr.remove("0.log")
			waitFor(t, func() bool { return len(tr.kept()) == 1 }) // of one behind it nobody knows
			next := clock.Add(time.Duration(tr.next) * time.Millisecond).UnixNano()
			tr.write("0.log", 20)
			waitFor(t, func() bool {
				j, err := openJournal[filePos](tr.positions())
				return err == nil && j.inFlight != nil && slices.ContainsFunc(slices.Collect(maps.Values(j.inFlight.To)), func(p filePos) bool { return p.Next == next })
			})
			kill(t, s, tr.positions(), stop)
			if gone > 0 {
				tr.remove("0.log")
			}
			tr.write("0.log", 10)
			s.set(func() { s.away = false })
			f, stop := tr.runWith(o, s)
			defer stop()
			waitFor(t, func() bool { return len(s.missing(tr.next)) == gone && f.journal.settled() })
			for _, n := range s.missing(tr.next) {
				if !slices.ContainsFunc(s.gaps(), func(g toldGap) bool { return g.has(n) }) {
					t.Errorf("line %d is missing and not told: %v", n, s.gaps())
				}
			}
			if gaps := s.gaps(); gone == 0 && len(gaps) > 0 {
				t.Errorf("told as lost, though all lines are there: %v", gaps)
			}
		})
	}
}

// What has no room is counted, and told with its range in the container's stream:
// the oldest with the newest first, else what came last.
func TestKeptFilesAreBounded(t *testing.T) {
	const files, lines = 20, 2000
	for name, first := range map[string]string{"oldest first": OldestFirst, "newest first": NewestFirst} {
		t.Run(name, func(t *testing.T) {
			tr, s := newTree(t), newServer(t)
			tr.write("0.log", 10)
			o := tr.keeping(Keep{First: first, Bytes: 3 * 13 << 10})
			f, stop := tr.runWith(o, s)
			s.await(key, 10)
			s.set(func() { s.away = true })
			tr.write("0.log", 1)
			waitFor(t, func() bool { return hasInFlight(tr) })
			// More than a batch holds, so that what follows is not read.
			tr.write("0.log", 2*batchLines)
			waitFor(t, func() bool { return f.Health().Read >= batchLines })
			for i := range files {
				tr.rotateAway(i, lines)
			}
			s.set(func() { s.away = false })
			total := tr.next
			waitFor(t, func() bool {
				h := f.Health()
				dropped := int64(0)
				for _, n := range h.Dropped {
					dropped += n
				}
				return h.Sent+dropped == int64(total)
			})
			stop()
			told := int64(0)
			s.mu.Lock()
			for _, fields := range s.fields {
				if n, err := strconv.ParseInt(fields["crowsnest_dropped_lines"], 10, 64); err == nil {
					told += n
				}
			}
			s.mu.Unlock()
			if h := f.Health(); told == 0 || told != h.Dropped[DropFull]+h.Dropped[DropRotated] {
				t.Errorf("told %d dropped lines, counted %v", told, h.Dropped)
			}
		})
	}
}

// Of what was lost with many files all is noted, and bounded.
func TestTheJournalBoundsWhatWasLost(t *testing.T) {
	j, err := openJournal[filePos](filepath.Join(t.TempDir(), "positions.json"))
	if err != nil {
		t.Fatal(err)
	}
	const files = 1000
	for n := range files {
		pod := n % 2
		at := filePos{Path: fmt.Sprintf("/pods/%d/app/0.log", pod)}
		j.lose(besides("1:2", int64(n+1)), lostFile[filePos]{At: at, Reason: DropFull, Lines: 1, From: int64(n), Until: int64(n + 1)}, func(_ string, o lostFile[filePos]) (string, bool) { return "", o.At.Path == at.Path }, nil)
	}
	lines, from, until := 0, int64(files), int64(0)
	for _, l := range j.untold() {
		lines, from, until = lines+l.Lines, min(from, l.From), max(until, l.Until)
	}
	if lines != files || from != 0 || until != files {
		t.Errorf("%d lines from %d to %d are noted, of %d", lines, from, until, files)
	}
	if n := len(j.untold()); n > maxLost {
		t.Errorf("%d notes", n)
	}
}

// A copy that took the place of a file which was cut is kept as what that was: a start knows
// how far the server has it, and what was on its way of it.
func TestKeptCopyOfAFileThatWasCut(t *testing.T) {
	for _, stored := range []bool{true, false} {
		t.Run(fmt.Sprintf("stored %v", stored), func(t *testing.T) {
			tr, s := newTree(t), newServer(t)
			tr.write("0.log", 50)
			o := tr.keeping(Keep{Bytes: 1 << 30})
			_, stop := tr.runWith(o, s)
			s.await(key, 50)
			waitFor(t, func() bool { return !hasInFlight(tr) })
			s.set(func() { s.lost, s.away = s.batches, !stored })
			tr.write("0.log", 20)
			waitFor(t, func() bool { return hasInFlight(tr) && (!stored || len(s.got(key)) > 50) })
			name := "0.log.20261123-100001"
			tr.copyTruncate(name)
			tr.write("0.log", 5)
			open := 0
			waitFor(t, func() bool {
				if open++; !isOpen(t, filepath.Join(tr.dir, name)) {
					open = 0
				}
				return open > 20
			})
			tr.remove(name)
			waitFor(t, func() bool { return len(tr.kept()) == 1 })
			kill(t, s, tr.positions(), stop)
			s.set(func() { s.lost, s.away = -1, false })
			_, stop = tr.runWith(o, s)
			tr.write("0.log", 1)
			s.await(key, tr.next)
			stop()
			numbered(t, s.got(key), tr.next)
			s.toldNothing()
		})
	}
}

// A kill may come as soon as a kept file has its name, or right before: a start that finds it
// knows what was behind it, and tells that where it is gone, and so does one that does not.
func TestWhatIsGoneBehindAFileThatWasJustKept(t *testing.T) {
	for name, named := range map[string]bool{"it has its name": true, "it is about to get it": false} {
		t.Run(name, func(t *testing.T) {
			tr, s := newTree(t), newServer(t)
			tr.write("0.log", 50)
			o := tr.keeping(Keep{Bytes: 1 << 30})
			var then atomic.Pointer[[]byte] // the positions as they were at that moment
			o.Now = func() time.Time {
				if then.Load() == nil && len(tr.kept()) > 0 {
					was, err := os.ReadFile(tr.positions())
					if err != nil {
						t.Error(err)
					}
					then.Store(&was)
				}
				return time.Now()
			}
			_, stop := tr.runWith(o, s)
			s.await(key, 50)
			waitFor(t, func() bool { return !hasInFlight(tr) })
			s.set(func() { s.away = true })
			tr.write("0.log", 1)
			waitFor(t, func() bool { return hasInFlight(tr) })
			tr.write("0.log", 30)
			const rotated = "0.log.20261123-100001"
			tr.rename("0.log", rotated)
			tr.write("0.log", 20)
			open := 0 // looks in a row
			waitFor(t, func() bool {
				if open++; !isOpen(t, filepath.Join(tr.dir, rotated)) || !isOpen(t, filepath.Join(tr.dir, "0.log")) {
					open = 0
				}
				return open > 20
			})
			tr.remove(rotated)
			waitFor(t, func() bool { return then.Load() != nil })
			stop()
			if err := os.WriteFile(tr.positions(), *then.Load(), 0o600); err != nil {
				t.Fatal(err)
			}
			want := 20
			if !named {
				want += 31 // and the one that was on its way
				if err := os.Remove(tr.kept()[0]); err != nil {
					t.Fatal(err)
				}
			}
			tr.remove("0.log")
			tr.write("0.log", 10)
			s.set(func() { s.away = false })
			o.Now = nil
			_, stop = tr.runWith(o, s)
			waitFor(t, func() bool { return slices.Contains(s.got(key), "line "+strconv.Itoa(tr.next-1)) })
			stop()
			gaps, missing := s.gaps(), s.missing(tr.next)
			if len(missing) != want {
				t.Errorf("%d lines are missing, want the %d that are gone", len(missing), want)
			}
			for _, n := range missing {
				if !slices.ContainsFunc(gaps, func(g toldGap) bool { return g.has(n) }) {
					t.Errorf("line %d is missing and not told: %v", n, gaps)
				}
			}
		})
	}
}

// Of files of which there are too many at a start, and of which the batch on its way has lines,
// those are told once, and only if the server has not got them.
func TestFilesGivenUpAtAStartThatAreOnTheirWay(t *testing.T) {
	for _, stored := range []bool{true, false} {
		t.Run(fmt.Sprintf("stored %v", stored), func(t *testing.T) {
			tr, s := newTree(t), newServer(t)
			o := tr.options()
			tr.write("0.log", 50)
			_, stop := tr.runWith(o, s)
			s.await(key, 50)
			waitFor(t, func() bool {
				j, err := openJournal[filePos](tr.positions())
				return err == nil && j.inFlight == nil && len(j.known) == 1 && positionsIn(j)[0].Lines == 50
			})
			s.set(func() { s.lost, s.away = s.batches, !stored })
			tr.write("0.log", 20)
			waitFor(t, func() bool { return hasInFlight(tr) && (!stored || len(s.got(key)) > 50) })
			kill(t, s, tr.positions(), stop)
			for i := range maxHeld + 1 {
				tr.rename("0.log", fmt.Sprintf("0.log.20261123-1%05d", i))
				tr.write("0.log", 5)
			}
			s.set(func() { s.lost, s.away = -1, false })
			f, stop := tr.runWith(o, s)
			waitFor(t, func() bool {
				return slices.Contains(s.got(key), "line "+strconv.Itoa(tr.next-1)) && f.journal.settled()
			})
			stop()
			s.toldMissing(tr.next)
		})
	}
}

// What a file was kept as may get the inode of one that is gone, and which batches have. They
// bring the position of each then, and a start goes on where the kept one is.
func TestKeptFilesWithAnInodeThatBatchesHave(t *testing.T) {
	for _, name := range []string{"on its way", "on its way without the kept one", "being filled", "of a file that is still known"} {
		t.Run(name, func(t *testing.T) {
			const lines = 30
			tr, s := newTree(t), newServer(t)
			h := tr.byHand(t)
			h.filling = h.b
			tr.write("0.log", lines)
			h.settled()
			c := h.containers[tr.dir]
			f, sent := c.files[0], h.b
			dir := h.keptOf(c)
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			tr.copied("0.log", "copy")
			tr.pack("copy")
			kept := filepath.Join(dir, "0.log."+keptSuffix(1, false)+packedSuffix)
			if err := os.Rename(filepath.Join(tr.dir, "copy"+packedSuffix), kept); err != nil {
				t.Fatal(err)
			}
			packed := &file{path: kept}
			var err error
			if packed.fd, err = os.Open(kept); err == nil {
				err = packed.identifyPacked()
			}
			if err != nil {
				t.Fatal(err)
			}
			gone := filePos{Path: filepath.Join(tr.root, "shop_cart-2_uid-2", "app", "0.log"), Dev: packed.dev, Ino: packed.ino, Print: "1", Len: knownHead, Offset: 700, First: 1, Last: 2, Lines: 7, End: true}
			before := gone
			before.Offset, before.Lines = 70, 1
			sent.from[packed.key()], sent.to[packed.key()] = before, gone
			if name == "on its way without the kept one" {
				delete(sent.to, f.key())
			}
			if strings.HasPrefix(name, "on its way") {
				h.journal.begin(sent)
				h.b = newBatch[filePos](h.opts.Sender)
				h.filling = h.b
			}
			other := &file{path: gone.Path, dev: gone.Dev, ino: gone.Ino, printLen: gone.Len, print: 1, offset: gone.Offset, first: gone.First, last: gone.Last, sent: gone.Lines, done: true, unlinked: true, inBatch: sent}
			if name == "of a file that is still known" { // a record may be open in it
				o := &container{dir: filepath.Dir(gone.Path), files: []*file{other}}
				h.containers[o.dir], h.order = o, append(h.order, o)
			}
			tr.remove("0.log")
			f.next = 5
			h.becomes(c, f, h.filling, packed, nil)
			f.kept = true
			if name == "of a file that is still known" {
				h.touched[other] = true
				h.mark(h.containers[filepath.Dir(gone.Path)], h.filling)
			}
			h.journal.acknowledged(sent)
			h.prune()
			if p, ok := of(f, f.first, h.journal.position); !ok || !f.beginsAs(p) || name != "on its way without the kept one" && p.Offset != f.offset || p.Next != 5 {
				t.Errorf("the kept file stands at %+v (%v), want %d", p, ok, f.offset)
			}
			if from := sent.from[besides(packed.key(), gone.First)]; from.Offset != before.Offset {
				t.Errorf("the other one begins at %+v in the batch, want %+v", from, before)
			}
			if to := sent.to[besides(packed.key(), gone.First)]; to.Offset != gone.Offset || to.Next != 0 {
				t.Errorf("the other one is at %+v in the batch, want %+v", to, gone)
			}
			if name == "on its way without the kept one" {
				return
			}
			if err := h.journal.write(); err != nil {
				t.Fatal(err)
			}
			tr.write("0.log", 10)
			_, stop := tr.runWith(tr.keeping(Keep{Bytes: 1 << 30}), s)
			waitFor(t, func() bool { return slices.Contains(s.got(key), "line "+strconv.Itoa(tr.next-1)) })
			stop()
			if got := s.got(key); slices.Contains(got, "line 0") {
				t.Errorf("%d lines came, of which the server had %d", len(got), lines)
			}
		})
	}
}

// What was compressed before a start, while the server was away already, is kept like the rest
// once rotation takes it, as it is: also one that is being read.
func TestCompressedFilesThatRotationTakesAreKept(t *testing.T) {
	for name, first := range map[string]string{"oldest first": OldestFirst, "newest first": NewestFirst} {
		t.Run(name, func(t *testing.T) {
			const files, lines = 4, 30
			tr, s := newTree(t), newServer(t)
			tr.write("0.log", 50)
			o := tr.keeping(Keep{First: first, Bytes: 1 << 30})
			_, stop := tr.runWith(o, s)
			s.await(key, 50)
			waitFor(t, func() bool { return !hasInFlight(tr) })
			s.set(func() { s.away = true })
			tr.write("0.log", 1)
			waitFor(t, func() bool { return hasInFlight(tr) })
			stop()
			for i := range files {
				tr.write("0.log", lines)
				tr.rotate(i)
			}
			tr.raw("0.log", "")
			_, stop = tr.runWith(o, s)
			for i := range files - 1 { // the last one is not compressed yet
				name := filepath.Join(tr.dir, fmt.Sprintf("0.log.20261123-1000%02d", i)+packedSuffix)
				open := 0 // looks in a row: a scan also opens files that it lets go at once
				waitFor(t, func() bool {
					if open++; !isOpen(t, name) {
						open = 0
					}
					return open > 20
				})
				if err := os.Remove(name); err != nil {
					t.Fatal(err)
				}
			}
			waitFor(t, func() bool { return len(tr.kept()) == files-1 })
			kill(t, s, tr.positions(), stop)
			s.set(func() { s.away = false })
			_, stop = tr.runWith(o, s)
			tr.write("0.log", 1)
			s.await(key, tr.next)
			waitFor(t, func() bool { return len(tr.kept()) == 0 })
			stop()
			once(t, s.got(key), tr.next)
			s.toldNothing()
		})
	}
}

// Which file comes after a kept one is known while that has no line yet, too: where it is gone
// at a start, whatever has its inode then, what was in it is told, and where it is there nothing
// is.
func TestWhatIsGoneBehindAKeptFileThatHadNoLineYet(t *testing.T) {
	for name, gone := range map[string]int{"gone": 20, "there": 0, "there without a line": 0} {
		t.Run(name, func(t *testing.T) {
			tr, s := newTree(t), newServer(t)
			tr.write("0.log", 50)
			o := tr.keeping(Keep{Bytes: 1 << 30})
			_, stop := tr.runWith(o, s)
			s.await(key, 50)
			waitFor(t, func() bool { return !hasInFlight(tr) })
			s.set(func() { s.away = true })
			tr.write("0.log", 1)
			waitFor(t, func() bool { return hasInFlight(tr) })
			tr.rotateAway(1, 30)
			waitFor(t, func() bool { return len(tr.kept()) == 1 })
			kill(t, s, tr.positions(), stop)
			if name != "there without a line" {
				tr.write("0.log", 20)
			}
			if gone > 0 {
				tr.remove("0.log")
				tr.write("0.log", 10)
			}
			s.set(func() { s.away = false })
			f, stop := tr.runWith(o, s)
			defer stop()
			if name == "there without a line" {
				waitFor(t, f.journal.settled)
				tr.write("0.log", 1)
			}
			waitFor(t, func() bool {
				return slices.Contains(s.got(key), "line "+strconv.Itoa(tr.next-1)) && f.journal.settled()
			})
			missing := s.missing(tr.next)
			if len(missing) != gone {
				t.Errorf("lines %v are missing, want the %d that are gone", missing, gone)
			}
			for _, n := range missing {
				if !slices.ContainsFunc(s.gaps(), func(g toldGap) bool { return g.has(n) }) {
					t.Errorf("line %d is missing and not told: %v", n, s.gaps())
				}
			}
			if gaps := s.gaps(); gone == 0 && len(gaps) > 0 {
				t.Errorf("told as lost, though all lines are there: %v", gaps)
			}
		})
	}
}

// Who has a removed file open may write to it for a moment yet: that is kept, too.
func TestWhatIsWrittenToAFileThatIsKept(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	tr.write("0.log", 50)
	o := tr.keeping(Keep{Bytes: 1 << 30})
	o.Nameless = 2 * time.Second
	_, stop := tr.runWith(o, s)
	s.await(key, 50)
	waitFor(t, func() bool { return !hasInFlight(tr) })
	s.set(func() { s.away = true })
	tr.write("0.log", 1)
	waitFor(t, func() bool { return hasInFlight(tr) })
	w, err := os.OpenFile(filepath.Join(tr.dir, "0.log"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	tr.remove("0.log")
	for i := range 4 { // each well within the time in which it may be, all together beyond it
		sleep(t.Context(), o.Nameless/3)
		if n := len(tr.kept()); n > 0 {
			t.Fatalf("it is kept after %d writes", i)
		}
		if _, err := w.WriteString(cri(tr.next, "stdout", "F", fmt.Sprintf("line %d", tr.next))); err != nil {
			t.Fatal(err)
		}
		tr.next++
	}
	waitFor(t, func() bool { return len(tr.kept()) == 1 })
	kill(t, s, tr.positions(), stop)
	s.set(func() { s.away = false })
	_, stop = tr.runWith(o, s)
	s.await(key, tr.next)
	stop()
	numbered(t, s.got(key), tr.next)
}

// What is kept in one turn is in one write of the journal, a turn has its bound, and the next one
// goes on with another container: one of which rotation takes many files keeps none waiting.
func TestFilesAreKeptInTurns(t *testing.T) {
	const containers, files, turn = 5, 4, 2
	w := byStep(t, Keep{Bytes: 1 << 30})
	w.lines(1)
	w.start()
	w.looks()
	w.offers()
	var dirs []string
	for n := range containers {
		dirs = append(dirs, filepath.Join(w.root, fmt.Sprintf("shop_many-%d_uid-%d", n, n), "app"))
		if err := os.MkdirAll(dirs[n], 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for k := range files {
		for n, dir := range dirs {
			put(t, filepath.Join(dir, "0.log"), cri(100*n+k, "stdout", "F", "of a file that is removed"))
		}
		w.r.scanRoot()
		for _, dir := range dirs {
			if err := os.Remove(filepath.Join(dir, "0.log")); err != nil {
				t.Fatal(err)
			}
		}
		w.r.scanRoot()
	}
	folder := startWatch(t)
	if err := folder.add(w.pos, true); err != nil {
		t.Fatal(err)
	}
	kept := func() (of map[string]int) {
		of = map[string]int{}
		for _, path := range w.kept() {
			of[filepath.Dir(path)]++
		}
		return of
	}
	w.r.bounds.turn = turn
	w.now = w.now.Add(time.Second) // in which the server took nothing
	for n := 1; ; n++ {
		more := w.r.keepAll(w.r.filling)
		written := 0
		folder.take(func(path string, mask uint32) {
			if path == w.positions() && mask&unix.IN_MOVED_TO != 0 {
				written++
			}
		})
		if got := len(w.kept()); got != min(turn*n, containers*files) {
			t.Fatalf("after %d turns %d files are kept, want %d", n, got, turn*n)
		}
		if got := len(kept()); got != min(turn*n, containers) {
			t.Fatalf("after %d turns files of %d containers are kept, want %d", n, got, turn*n)
		}
		if !more {
			break
		}
		if written != 1 {
			t.Errorf("the journal was written %d times in a turn", written)
		}
	}
	if got := len(w.kept()); got != containers*files {
		t.Errorf("%d files are kept, want %d", got, containers*files)
	}
	w.dead()
}

// The position of a file may be kept apart, as what was told of one that is gone has its name: it
// is that of what the file is kept as, or a start would read that from its beginning again.
func TestKeptFileWhosePositionIsApart(t *testing.T) {
	tr := newTree(t)
	h := tr.byHand(t)
	h.filling = h.b
	tr.write("0.log", 30)
	h.settled()
	c := h.containers[tr.dir]
	f := c.files[0]
	h.journal.begin(h.b)
	h.journal.acknowledged(h.b)
	h.b = newBatch[filePos](h.opts.Sender)
	h.filling = h.b
	want := f.offset
	gone := filePos{Path: filepath.Join(tr.root, "shop_cart-2_uid-2", "app", "0.log"), Dev: f.dev, Ino: f.ino, Print: "1", Len: knownHead, Offset: 700, First: 1, Last: 2, Lines: 7, End: true}
	h.journal.set(f.key(), gone)

	tr.copied("0.log", "copy")
	tr.pack("copy")
	packed := &file{path: filepath.Join(tr.dir, "copy"+packedSuffix)}
	var err error
	if packed.fd, err = os.Open(packed.path); err == nil {
		err = packed.identifyPacked()
	}
	if err != nil {
		t.Fatal(err)
	}
	h.becomes(c, f, h.filling, packed, nil)
	if p, ok := h.journal.position(f.key()); !ok || p.Offset != want {
		t.Errorf("what it was kept as stands at %d (%v), want %d", p.Offset, ok, want)
	}
	if p, ok := h.journal.position(besides(strconv.FormatUint(gone.Dev, 10)+":"+strconv.FormatUint(gone.Ino, 10), gone.First)); !ok || p.Offset != gone.Offset {
		t.Errorf("the one that is gone stands at %d (%v), want %d", p.Offset, ok, gone.Offset)
	}
}

// With the newest first, what is kept in a turn makes room for what comes in the same one, too.
func TestNewestFilesOfATurnAreKept(t *testing.T) {
	const files = 3
	w := byStep(t, Keep{Bytes: 300, First: NewestFirst}) // two of them
	w.lines(5)
	w.start()
	w.looks()
	w.offers()
	w.r.filling.lines = batchLines // it is full: nothing is read any more
	for n := range files {
		name := fmt.Sprintf("0.log.20261123-10000%d", n)
		w.lines(5)
		w.rename("0.log", name)
		w.raw("0.log", "")
		w.r.scanRoot()
		w.remove(name)
	}
	w.now = w.now.Add(time.Second)
	w.looks()
	for i, f := range w.r.containers[w.dir].files[:files] {
		if f.kept != (i > 0) {
			t.Errorf("kept is %v of file %d of %d", f.kept, i, files)
		}
	}
	w.dead()
}

// Once a file could not be kept, nothing is tried for a while: the disk may be full.
func TestNothingIsKeptForAWhileAfterAFailure(t *testing.T) {
	const name = "0.log.20261123-100001"
	dir := func(w *steps) string {
		return filepath.Join(w.pos, keptDir, filepath.Base(filepath.Dir(w.dir)), filepath.Base(w.dir))
	}
	for why, tc := range map[string]struct{ breaks, mends func(*steps) error }{
		"there is no folder": {
			func(w *steps) error { return os.WriteFile(filepath.Join(w.pos, keptDir), nil, 0o600) },
			func(w *steps) error { return os.Remove(filepath.Join(w.pos, keptDir)) },
		},
		"it gets no name": {
			func(w *steps) error {
				w.r.keptLast = w.now.Add(time.Minute).UnixNano()
				return os.MkdirAll(filepath.Join(dir(w), "0.log."+keptSuffix(w.r.keptLast+1, false)+packedSuffix, "full"), 0o755)
			},
			func(w *steps) error { return nil }, // the next one is another
		},
	} {
		t.Run(why, func(t *testing.T) {
			w := byStep(t, Keep{Bytes: 1 << 30})
			w.lines(5)
			w.start()
			w.looks()
			w.offers()
			w.rename("0.log", name)
			w.raw("0.log", "")
			w.looks()
			w.remove(name)
			w.now = w.now.Add(time.Second)
			if err := tc.breaks(w); err != nil {
				t.Fatal(err)
			}
			w.look()
			if err := tc.mends(w); err != nil {
				t.Fatal(err)
			}
			f := w.r.containers[w.dir].files[0]
			w.now = w.now.Add(keepRetry - time.Millisecond)
			if w.look(); f.kept {
				t.Error("it is kept too soon")
			}
			w.now = w.now.Add(time.Millisecond)
			if w.look(); !f.kept {
				t.Error("it is not kept")
			}
			w.dead()
		})
	}
}
