package logs

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// steps is a storm in which nothing runs by itself: the collector, who sends for it, the
// rotation of its files and the server take their steps one at a time, in an order that
// follows from the seed alone. The collector may be killed between any two, and in the midst
// of its own; so may rotation go on. Hundreds of storms take a second, and one that found
// something finds it again.
type steps struct {
	*storm
	now    time.Time
	kind   rotationKind
	todo   []step // of rotation, in their order
	n      int    // rotations so far
	calm   bool   // nothing happens meanwhile
	stays  bool   // nothing that was rotated is removed, and nothing may be told as lost
	shows  bool   // it is said what is known after each step
	loses  bool   // the server's answers are lost
	inside int    // times that the collector asks for the time until something happens meanwhile
	within bool   // it does

	r       *Files // nil while none runs
	ship    *shipper[filePos]
	sending *batch[filePos]
	written bool // the journal knows that it is being sent
	stored  bool // the server has it, and the collector has heard of that
	unsaid  bool // the journal on disk is older than the one in memory

	of      *steps  // who has the collector and the server: itself, but for the container beside it
	beside  *steps  // another container, of which only rotation is its own; nil for none
	timely  bool    // lines have the times at which they are written
	stamps  *stamps // nil: the kernel's clock goes on by itself
	bounds  *bounds
	maxLost int
	died    int    // the line that was written last when the collector ended
	between func() // happens once a start has looked at the files, before it finds out what is lost
}

// step is one of rotation.
type step struct {
	what  string
	do    func()
	alone bool // not while the collector is in the midst of something
}

// rotationKind is how files are rotated.
type rotationKind struct {
	copies   bool // copied and cut, or renamed
	numbered bool // the newest is the first one, or each has its time
	packs    bool // compressed after that
	deletes  bool // it is removed, while who writes to it has it open, and another one begun
}

// errKilled is what a step of the collector ends with that is killed in its midst.
var errKilled = errors.New("killed")

func newSteps(t testing.TB, seed uint64, kind rotationKind, keep Keep) *steps {
	tr, s := newTree(t), newServer(t)
	w := &steps{storm: &storm{tree: tr, t: t, s: s, rng: rand.New(rand.NewPCG(seed, 5))}, now: clock.Add(time.Hour), kind: kind}
	w.of = w
	w.o = tr.options()
	w.o.Keep = keep
	w.o.Keep.After = time.Nanosecond
	w.o.Now = w.asked
	w.o.Monotonic = func() time.Duration { return w.now.Sub(clock) }
	w.o.State = meanwhile{w.o.State, w}
	w.o.HandOver = time.Nanosecond
	w.o.Positions = func(_ context.Context, sources []wire.LogSource) (out []wire.LogPosition, _ error) {
		for _, source := range sources {
			if p, ok := s.positions[source.Key]; ok {
				out = append(out, p)
			}
		}
		return out, nil
	}
	return w
}

// stamps tell by the clock of steps when files were changed, and made. By what the kernel stamps
// them with, all would be of a time to come.
type stamps struct {
	t       testing.TB
	changed time.Time // through when files may have been stamped
	from    []stamp   // in their order
}

// stamp is what the kernel stamps files with from a moment of the steps' clock on.
type stamp struct{ kernel, now time.Time }

// next begins another moment, once the kernel's clock, which goes by ticks, is past what files were
// stamped with before.
func (s *stamps) next(now time.Time) {
	for {
		var at unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &at); err != nil {
			s.t.Fatal(err)
		}
		if kernel := time.Unix(at.Unix()); kernel.After(s.changed) {
			if n := len(s.from); n > 0 && s.from[n-1].kernel.Equal(kernel) { // nothing was stamped at that moment
				s.from = s.from[:n-1]
			}
			s.from = append(s.from, stamp{kernel, now})
			return
		}
		time.Sleep(time.Millisecond / 2)
	}
}

func (s *stamps) time(at time.Time) time.Time {
	i, found := slices.BinarySearchFunc(s.from, at, func(s stamp, at time.Time) int { return s.kernel.Compare(at) })
	if !found {
		i--
	}
	return s.from[max(0, i)].now
}

// passes has time pass, if it is to come.
func (w *steps) passes(to time.Time) {
	if !to.After(w.now) {
		return
	}
	if w.now = to; w.stamps != nil {
		w.stamps.next(to)
	}
}

// stamped has files be stamped by the clock of the steps.
func (w *steps) stamped() {
	w.stamps = &stamps{t: w.t}
	w.stamps.next(w.now)
}

// didChange notes that files may have been stamped.
func (w *steps) didChange() {
	if w.stamps != nil {
		w.stamps.changed = time.Now()
	}
}

// meanwhile is a State that lets things happen when it is asked.
type meanwhile struct {
	State
	w *steps
}

func (m meanwhile) Snapshot() *state.Snapshot {
	m.w.asked()
	return m.State.Snapshot()
}

// addBeside adds another container.
func (w *steps) addBeside(kind rotationKind) {
	w.beside = &steps{storm: &storm{tree: w.tree.beside(), t: w.t, s: w.s, rng: w.rng, keeps: w.keeps}, kind: kind, of: w, timely: w.timely}
}

// all are the containers.
func (w *steps) all() []*steps {
	if w.beside == nil {
		return []*steps{w}
	}
	return []*steps{w, w.beside}
}

func (w *steps) say(f string, a ...any) {
	if w != w.of {
		w.of.say("                "+f, a...)
		return
	}
	w.said = append(w.said, fmt.Sprintf(f, a...))
	if w.o.Logger != nil {
		w.o.Logger.Info("## " + w.said[len(w.said)-1])
	}
}

// asked is the collector's clock. When it is asked, something may happen.
func (w *steps) asked() time.Time {
	if w.inside > 0 && !w.within {
		if w.inside--; w.inside == 0 {
			w.within = true
			defer func() { w.within = false }()
			if w.rng.IntN(3) == 0 {
				w.say("killed within")
				panic(errKilled)
			}
			for range 1 + w.rng.IntN(5) {
				if w.keeps > 0 && w.rng.IntN(3) == 0 {
					w.send() // who does it waits for nobody
				} else {
					w.rotation()
				}
			}
		}
	}
	return w.now
}

// does has the collector take a step, in which things may happen.
func (w *steps) does(what string, do func()) {
	w.say("%s", what)
	if w.inside = 0; !w.calm && w.rng.IntN(3) == 0 {
		w.inside = 1 + w.rng.IntN(20)
	}
	defer func() {
		if w.inside = 0; w.o.Keep.Bytes > 0 {
			w.didChange() // of what is kept
		}
		if p := recover(); p != nil {
			if p != errKilled { //nolint:errorlint // it is the very one
				panic(p)
			}
			w.dead()
		}
	}()
	do()
}

// dead lets go of what a process had.
func (w *steps) dead() {
	for _, x := range w.all() {
		x.died = x.at
		if x.into != nil && x.reads(x.into) == nil {
			x.letsGo() // it was read to its end, or kept, once its writer had surely let go
		}
	}
	for _, c := range w.r.containers {
		c.release()
	}
	w.r.watch.close()
	w.r, w.sending = nil, nil
}

func (w *steps) start() {
	r, err := NewFiles(w.o)
	if err != nil {
		w.t.Fatal(err)
	}
	if w.stamps != nil {
		r.stamps = w.stamps.time
	}
	r.memories.wipe = wiped
	if w.bounds != nil {
		r.bounds = *w.bounds
		r.journal.maxLost = w.maxLost
	}
	watch, err := newWatch()
	if err != nil {
		w.t.Fatal(err)
	}
	w.r, w.ship, w.sending, w.unsaid = r, r.begin(watch), nil, false
	w.ship.want, w.ship.in = make(chan struct{}, 1), make(chan *batch[filePos], 1)
	w.ship.want <- struct{}{}
	for _, x := range w.all() {
		x.letsGo() // what is written to what is gone after that, this one cannot know of
	}
	w.show()
	w.does("start", func() {
		r.findOut(w.t.Context(), w.ship)
		if w.between != nil {
			w.between()
		}
		w.asked()
		r.findLost()
		r.resend(w.t.Context(), w.ship)
		w.given()
		r.giveUpAgain()
		r.filling = r.memories.lend(newBatch[filePos](r.opts.Sender))
		r.taken = r.now()
	})
}

// given takes over a batch that the collector gave to who sends.
func (w *steps) given() {
	select {
	case b := <-w.ship.in:
		w.sending, w.written, w.stored = b, false, false
		w.ship.unsays(b)
		b.wire.Dispose(b.disposed)
		b.wire.EncodeInto(nil)
	default:
	}
}

// look is what the collector's loop does each time.
func (w *steps) look() {
	defer w.notEarly()()
	w.does("look", func() {
		r := w.r
		began := r.noteClock()
		r.look(began)
		for _, c := range r.order {
			if !c.wake.IsZero() && !began.Before(c.wake) {
				c.wake, c.dirty = time.Time{}, true
			}
			if c.rescan && w.rng.IntN(3) == 0 { // and what comes between that and the read
				r.scanContainer(c)
				w.asked()
			}
		}
		if !r.fill(r.filling) {
			r.noteComplete(began)
		}
		r.keepAll(r.filling)
	})
	w.show()
}

// notEarly gives what looks that no file is taken for read, or kept, whose writer may not have let go
// of it yet. It is never among those that are given up: these are the oldest.
func (w *steps) notEarly() (looks func()) {
	open := map[*file]time.Time{}
	for _, x := range w.all() {
		if x.into != nil && w.stamps != nil {
			if f := x.reads(x.into); f != nil {
				open[f] = x.removed
			}
		}
	}
	return func() {
		for f, removed := range open {
			if w.r != nil && (f.done && f.lost == 0 || f.kept) && w.now.Sub(removed) < w.o.Grace {
				w.t.Errorf("%s was left %s after it was removed", f.path, w.now.Sub(removed))
			}
		}
	}
}

// give has the collector give its batch away.
func (w *steps) give() {
	if w.sending != nil || w.r.filling.empty() {
		return
	}
	w.does("give", func() {
		r, b := w.r, w.r.filling
		b.wire.Positions = positionsBy(b.reached)
		r.noteClock()
		b.seal(r.marks(), r.noted)
		r.taken, r.marked = r.now(), r.now()
		<-w.ship.want
		w.ship.give(w.t.Context(), b)
		w.given()
		r.filling = r.memories.lend(newBatch[filePos](r.opts.Sender))
	})
}

// rescan is what it does now and then.
func (w *steps) rescan() {
	w.does("rescan", func() {
		w.r.scanRoot()
		w.r.heard = w.r.now()
		w.r.rejudge()
		w.r.tidy()
		w.r.prune()
	})
}

// write puts the journal on disk.
func (w *steps) write() {
	if err := w.r.journal.write(); err != nil {
		w.t.Fatal(err)
	}
	w.unsaid = false
}

// send takes a step of who sends.
func (w *steps) send() {
	switch b := w.sending; {
	case b == nil && w.unsaid:
		w.say("writes")
		w.write()
	case b == nil:
	case !w.written:
		w.say("begins")
		w.write()
		w.written = true
	case !w.stored:
		if err := w.s.Send(w.t.Context(), &b.wire); err != nil {
			w.say("sends in vain")
			return
		}
		w.say("sends %s, the answer is lost: %v", b.wire.ID[:6], w.loses)
		w.stored = !w.loses
	default:
		w.say("hears")
		w.r.journal.acknowledged(b)
		w.sending, w.unsaid = nil, true
		w.ship.want <- struct{}{}
	}
}

// end stops the collector, or kills it.
func (w *steps) end() {
	if w.rng.IntN(3) > 0 {
		w.say("killed")
	} else if w.say("stopped"); w.unsaid && w.sending == nil {
		w.write()
	}
	w.dead()
}

// rotation takes the next of its steps.
func (w *steps) rotation() {
	if w.beside != nil && w.rng.IntN(3) == 0 {
		w.beside.rotation()
		return
	}
	if len(w.todo) == 0 {
		w.plan()
	}
	if w.of.within && w.todo[0].alone {
		return
	}
	next := w.todo[0]
	w.todo = w.todo[1:]
	w.say("  %s at %d", next.what, w.at)
	defer w.of.didChange()
	next.do()
}

func (w *steps) then(what string, do func()) { w.todo = append(w.todo, step{what: what, do: do}) }

func (w *steps) thenWrite() {
	n := []int{0, 1, 1, 2, 5, 9, 12, 30, 200}[w.rng.IntN(9)]
	w.then(fmt.Sprintf("writes %d", n), func() { w.writes(func() { w.pieces(n) }) })
}

// writes has lines have the times at which they are written, if they should, and their writer let
// go of a file whose name is gone once nobody reads it: one who does waits for that.
func (w *steps) writes(do func()) {
	if w.into != nil && (w.of.within || w.of.r != nil && w.reads(w.into) == nil) {
		w.letsGo()
	}
	if w.timely {
		w.at = max(w.at, int(w.of.now.Sub(clock)/time.Millisecond))
	}
	do()
	w.of.didChange()
	if w.timely {
		w.of.passes(w.storm.time(w.at))
	}
}

// letsGo has the writer let go of a file whose name is gone.
func (w *steps) letsGo() {
	if w.into != nil {
		if err := w.into.Close(); err != nil {
			w.t.Fatal(err)
		}
		w.into = nil
	}
}

// reads gives the file that the collector reads, nil if it does not.
func (w *steps) reads(f *os.File) *file {
	c := w.of.r.containers[w.dir]
	if c == nil {
		return nil
	}
	st, err := stat(f)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, o := range c.files {
		if o.fd != nil && !o.done && o.ino == st.Ino && !o.compressed() {
			return o
		}
	}
	return nil
}

// goes removes a file, unless a collector runs and has not got it open: of such a one nobody can
// tell. It gives the file, open.
func (w *steps) goes(name string) *os.File {
	f, err := os.OpenFile(filepath.Join(w.dir, name), os.O_APPEND|os.O_RDWR, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	if w.of.r != nil && w.reads(f) == nil {
		w.say("  but the collector has it not")
		_ = f.Close()
		return nil
	}
	w.remove(name)
	return f
}

// deleted plans that the file is removed.
func (w *steps) deleted() {
	w.then("deletes", func() {
		if f := w.goes("0.log"); f != nil {
			w.letsGo()
			w.into, w.removed = f, w.of.now
			w.raw("0.log", "")
		}
	})
	if w.rng.IntN(2) == 0 {
		w.thenWrite()
	}
	w.then("lets go", w.letsGo)
	w.thenWrite()
}

// cut cuts the file to nothing, and notes whether a collector could have seen what was in it.
func (w *steps) cut() {
	path := filepath.Join(w.dir, "0.log")
	text, err := os.ReadFile(path)
	if err == nil {
		err = os.Truncate(path, 0)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	if p, ok := parsePiece(first); ok && w.of.r == nil {
		if at := int(time.Unix(0, p.at).Sub(clock) / time.Millisecond); at > w.died {
			w.unseen = append(w.unseen, at)
		}
	}
}

// oldest gives the rotated file that rotation takes next, "" for none.
func (w *steps) oldest() string {
	rotated := slices.DeleteFunc(w.entries(), func(e string) bool { return e == "0.log" || strings.HasSuffix(e, packedSuffix) })
	if len(rotated) == 0 {
		return ""
	}
	if w.kind.numbered {
		return rotated[len(rotated)-1]
	}
	return rotated[0]
}

// copied copies the file in two steps.
func (w *steps) copied(name string) {
	var text []byte
	cut := 0
	w.then("copies to "+name, func() {
		var err error
		if text, err = os.ReadFile(filepath.Join(w.dir, "0.log")); err != nil && !os.IsNotExist(err) {
			w.t.Fatal(err)
		}
		if cut = w.rng.IntN(len(text) + 1); w.rng.IntN(2) == 0 {
			cut = min(cut, w.rng.IntN(600))
		}
		w.raw(name, string(text[:cut]))
	})
	w.then("copies the rest", func() { w.raw(name, string(text[cut:])) })
}

// packed compresses a file in steps.
func (w *steps) packed(name string) {
	part := 0
	var b bytes.Buffer
	exists := func() bool { return hasFile(w.tree, name) }
	w.then("compresses "+name, func() {
		raw, err := os.ReadFile(filepath.Join(w.dir, name))
		if os.IsNotExist(err) {
			return
		}
		z := gzip.NewWriter(&b)
		_, _ = z.Write(raw)
		if err := errors.Join(err, z.Close()); err != nil {
			w.t.Fatal(err)
		}
		part = w.rng.IntN(b.Len() + 1)
		w.raw(name+packedSuffix, b.String()[:part])
	})
	w.then("compresses the rest", func() {
		if exists() {
			w.raw(name+packedSuffix, b.String()[part:])
		}
	})
	w.then("removes what was compressed", func() {
		if exists() {
			w.remove(name)
		}
	})
}

// shifted gives the numbered files the next numbers.
func (w *steps) shifted() {
	for k := w.n + 1; k >= 1; k-- {
		for _, z := range []string{"", packedSuffix} {
			was := fmt.Sprintf("0.log.%d%s", k, z)
			if hasFile(w.tree, was) || k <= 2 {
				w.then("renames "+was, func() {
					if hasFile(w.tree, was) {
						w.rename(was, fmt.Sprintf("0.log.%d%s", k+1, z))
					}
				})
			}
		}
	}
}

// plan plans what is written until the next rotation, and that.
func (w *steps) plan() {
	w.n++
	w.thenWrite()
	w.thenWrite()
	if w.kind.deletes {
		w.deleted()
		return
	}
	name := fmt.Sprintf("0.log.20261123-1%05d", w.n)
	if w.kind.numbered {
		name = "0.log.1"
		w.shifted()
	}
	if w.kind.copies {
		w.copied(name)
		w.then("cuts", w.cut)
	} else {
		w.then("renames", func() { // the runtime begins the next one at once: a record that goes on waits for it
			w.rename("0.log", name)
			w.raw("0.log", "")
		})
	}
	w.thenWrite()
	if w.kind.packs {
		w.packed(name)
	}
	if w.keeps > 0 && w.rng.IntN(2) == 0 {
		w.then("removes the oldest", func() {
			if name := w.oldest(); name != "" {
				if f := w.goes(name); f != nil {
					_ = f.Close()
				}
			}
		})
	}
	if !w.stays && w.rng.IntN(3) == 0 {
		w.todo = append(w.todo, step{"removes what was read", func() {
			w.of.settle()
			entries := w.entries()
			if w.kind.numbered {
				slices.Reverse(entries)
			}
			rotated := slices.DeleteFunc(entries, func(e string) bool { return e == "0.log" })
			if n := len(rotated); n > 0 && !w.t.Failed() {
				n = []int{n, 1 + w.rng.IntN(n)}[w.rng.IntN(2)]
				for _, e := range rotated[:n] {
					w.remove(e)
				}
			}
		}, true})
	}
}

func (w *steps) entries() (names []string) {
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// settle waits until all that was written has come, and the collector has written that down.
func (w *steps) settle() {
	w.say("settles")
	for _, x := range w.all() {
		x.writes(func() {
			for stream := range streams {
				for x.open[stream] != nil {
					x.piece(stream)
				}
			}
		})
	}
	w.s.away, w.loses, w.calm = false, false, true
	defer func() { w.calm = false }()
	for i := 0; ; i++ {
		if w.r == nil {
			w.start()
			continue
		}
		w.passes(w.now.Add(30 * time.Millisecond))
		if w.look(); w.r == nil {
			continue
		}
		if w.give(); w.r == nil {
			continue
		}
		for w.sending != nil || w.unsaid {
			w.send()
		}
		if i%5 == 4 {
			w.rescan()
		}
		if i%15 != 14 {
			continue
		}
		right := true
		for _, x := range w.all() {
			right = right && len(x.wrong()) == 0
		}
		if right || i > 100 {
			for _, x := range w.all() {
				x.judge()
			}
			return
		}
	}
}

// judge says what is wrong with what has come.
func (w *steps) judge() {
	container := filepath.Base(w.dir)
	if wrong := append(w.wrong(), w.disordered()...); len(wrong) > 0 {
		w.t.Errorf("%s: %d wrong: %s", container, len(wrong), strings.Join(wrong[:min(len(wrong), 12)], ", "))
		w.t.Logf("told as lost: %v", w.s.gaps())
	}
	for _, g := range w.s.gaps() {
		if g.container == container && (w.stays || w.falsely(g)) {
			w.t.Errorf("told as lost: %v", g)
		}
	}
}

// falsely says of what was told as lost that something was written then, which is not. What
// was removed before the next line was written, and that before anybody looked, is told: as
// much as a file may have been.
func (w *steps) falsely(g toldGap) bool {
	if w.keeps > 0 { // by number, not more than there are
		came, missing := w.came(), 0
		for n, r := range w.records {
			for k, at := range r.pieces {
				if came[[2]int{n, k}] == 0 && g.has(at) {
					missing++
				}
			}
		}
		return g.lines > missing
	}
	return g.lines > 0 || slices.ContainsFunc(w.records, func(r *record) bool {
		return slices.ContainsFunc(r.pieces, func(at int) bool {
			return w.storm.time(at).After(g.from) && w.storm.time(at).Before(g.until)
		})
	})
}

// disordered says which records came before older ones of their stream.
func (w *steps) disordered() (out []string) {
	if w.of.o.Keep.First == NewestFirst {
		return nil
	}
	for stream := range streams {
		last := -1
		for _, m := range w.s.got("cart-1/" + filepath.Base(w.dir) + "/" + streams[stream]) {
			for _, name := range pieceName.FindAllStringSubmatch(m, -1) {
				n, _ := strconv.Atoi(name[1])
				if n < last {
					out = append(out, fmt.Sprintf("record %d came after %d", n, last))
				}
				last = n
			}
		}
	}
	return out
}

// show says what the folder has and what is known of it.
func (w *steps) show() {
	if !w.shows {
		return
	}
	positions := func(of map[string]filePos) (out string) {
		for _, k := range slices.Sorted(maps.Keys(of)) {
			p := of[k]
			out += fmt.Sprintf("\n    %s is %s, gen %d, begins at %s, read to %d from %d, end %v", k, filepath.Base(p.Path), p.Gen, time.Unix(0, p.First).UTC().Format("05.000"), p.Offset, p.Scan, p.End)
		}
		return out
	}
	text := ""
	for _, x := range w.all() {
		text += "  there:"
		for _, e := range x.entries() {
			var ino uint64
			if st, err := os.Stat(filepath.Join(x.dir, e)); err == nil {
				ino = st.Sys().(*syscall.Stat_t).Ino
			}
			text += fmt.Sprintf(" %s (%d)", e, ino)
		}
	}
	for _, k := range w.kept() {
		text += " " + filepath.Base(k)
	}
	if j, err := openJournal[filePos](w.positions()); err == nil {
		from, to := j.onItsWay()
		text += "\n  on disk:" + positions(j.known) + "\n  on its way from" + positions(from) + "\n  to" + positions(to)
	}
	if w.r != nil {
		for _, c := range w.r.order {
			text += "\n  files of " + c.id.Container + ":"
			for _, f := range c.files {
				text += fmt.Sprintf("\n    %s %s, gen %d, read to %d, done %v, unclear %v, gone %v, kept %v", f.key(), filepath.Base(f.path), f.gen, f.offset, f.done, f.unclear, f.unlinked, f.kept)
				if f.copyOf != nil {
					text += ", a copy of " + filepath.Base(f.copyOf.path)
				}
			}
		}
	}
	w.say("%s", text)
}

// storms has all of them take steps for a while.
func (w *steps) storms() {
	for range 150 + w.rng.IntN(150) {
		if w.t.Failed() {
			return
		}
		switch n := w.rng.IntN(100); {
		case n < 40:
			w.rotation()
		case n < 60:
			if w.r != nil {
				w.look()
			}
		case n < 63:
			if w.r != nil {
				w.rescan()
			}
		case n < 68:
			if w.r != nil {
				w.give()
			}
		case n < 80:
			if w.r != nil {
				w.send()
			}
		case n < 88:
			w.passes(w.now.Add(time.Duration(w.rng.IntN(40)) * time.Millisecond))
		case n < 90:
			w.s.away = true
		case n < 92:
			w.loses = true
		case n < 94:
			w.s.away, w.loses = false, false
		case n < 97:
			if w.r != nil {
				w.end()
			}
		default:
			if w.r == nil {
				w.start()
			}
		}
	}
	for _, x := range w.all() {
		for len(x.todo) > 0 && !w.t.Failed() {
			x.rotation()
		}
	}
	w.settle()
}

// Whatever rotation does to the files, in however small steps, and whenever the collector is
// killed or an answer is lost meanwhile: each line comes once, in its order, and nothing is told
// as lost. As many storms as one likes: CROWSNEST_STEPS=500 go test -run Steps ./collector/logs, from
// the seed CROWSNEST_STEP. Of one alone all is said.
func TestFilesThroughSteps(t *testing.T) {
	throughSteps(t, func(t *testing.T, seed uint64) *steps {
		kind := rotationKind{copies: seed%3 > 0, numbered: seed/3%3 == 0, packs: seed/9%2 == 0}
		keep := Keep{First: []string{OldestFirst, NewestFirst}[seed/18%2]}
		if seed/36%3 == 0 {
			keep.Bytes = 1 << 30
		}
		w := newSteps(t, seed, kind, keep)
		w.stays = seed/4%2 == 1
		return w
	})
}

// The same where files are removed that are not read, be it by who writes them, and where what is
// kept has bounds: what is lost is told, and what comes, comes once.
func TestFilesThroughStepsThatTakeFiles(t *testing.T) {
	throughSteps(t, func(t *testing.T, seed uint64) *steps {
		kinds := []rotationKind{{deletes: true}, {deletes: true}, {}, {copies: true}, {numbered: true, packs: true}}
		keep := Keep{First: []string{OldestFirst, NewestFirst}[seed/5%2], Bytes: []int64{1 << 30, 700, 0}[seed/10%3]}
		if seed/30%3 == 0 {
			keep.Age = 300 * time.Millisecond
		}
		w := newSteps(t, seed, kinds[seed%5], keep)
		w.inTime()
		if seed/90%2 == 0 {
			w.bounds, w.maxLost = &bounds{held: 5, deleted: 3, turn: 1, counted: countAtOnce}, []int{2, 64}[seed/180%2]
			if seed/360%4 == 1 {
				w.bounds.counted = 300
			}
		}
		if seed%5 != 0 {
			w.addBeside(rotationKind{deletes: true})
		}
		return w
	})
}

func throughSteps(t *testing.T, storm func(t *testing.T, seed uint64) *steps) {
	seeds, from, one := uint64(12), uint64(0), false
	if n, err := strconv.ParseUint(os.Getenv("CROWSNEST_STEPS"), 10, 64); err == nil {
		seeds, one = n, n == 1
	}
	if n, err := strconv.ParseUint(os.Getenv("CROWSNEST_STEP"), 10, 64); err == nil {
		from = n
	}
	for seed := from; seed < from+seeds; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := storm(t, seed)
			if seed%4 > 0 { // else files are of a time to come, as where the clock was set back
				w.stamped()
			}
			var logged bytes.Buffer
			if w.shows = one; one {
				w.o.Logger = slog.New(slog.NewTextHandler(&logged, nil))
			}
			for _, x := range w.all() {
				x.writes(func() { x.pieces(20) })
			}
			w.calm = true // who is killed before all else is a first one again, which leaves what was rotated
			w.start()
			w.calm = false
			if w.keeps > 0 { // of what is gone of a container of which the server has nothing, nobody can tell
				w.settle()
			}
			w.storms()
			for _, x := range w.all() {
				x.letsGo()
			}
			if w.r != nil {
				w.dead()
			}
			if t.Failed() {
				t.Logf("%s\n%+v, %+v, %d steps", strings.ReplaceAll(logged.String(), "\\n", "\n"), w.kind, w.o.Keep, len(w.said))
			}
		})
	}
}
