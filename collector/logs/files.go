package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// DefaultRoot is where the kubelet keeps the logs of its pods.
const DefaultRoot = "/var/log/pods"

// FilesOptions configure Files.
type FilesOptions struct {
	Root   string // default DefaultRoot
	Dir    string // holds the positions; required. Made when missing
	Sender string // of the batches, wire.Sender(role, node); required
	Rules  Rules
	Keep   Keep   // what rotation takes while the server is away
	Node   string // label of the lines of pods that State does not know
	State  State  // pods by the UID in the path; required for workloads, nil leaves them out
	// Services is required where rules select by Service.
	Services Services

	// Positions asks the server how far others took containers, some hundred at a time;
	// push.Client has it. It is asked at a start. Nil takes what this collector knows.
	Positions func(ctx context.Context, sources []wire.LogSource) ([]wire.LogPosition, error)
	// HandOver is how long who followed containers so far may take to hear of this
	// collector and let go; default 20 s.
	HandOver time.Duration
	// Unheard is after how long without an answer to a batch Positions are asked again:
	// less than until others follow the containers of a collector that the server does
	// not hear. Default 45 s.
	Unheard time.Duration
	// Try is how long the sink may try a batch by itself before that is looked at again;
	// default 20 s, more than one attempt takes.
	Try time.Duration

	// Rescan is how often everything is looked at whatever inotify said; default 10 s.
	Rescan time.Duration
	// Linger is the least between two batches, and between two looks at what is written
	// to all the time: what comes meanwhile shares them. Default 400 ms.
	Linger time.Duration
	// Grace is how long a rotated file is still read after its successor appeared;
	// default 1 s.
	Grace time.Duration
	// Nameless is how long a file that has no name any more may lie unchanged until nobody is
	// taken to write to it, while there is none after it: the kubelet looks only every 10 s, by
	// default, whether a log is there, and has the runtime open another one then. Default 1 min.
	Nameless time.Duration
	// StateWait is how long a new pod's lines wait for State to know it; default 5 s.
	StateWait time.Duration

	Logger     *slog.Logger // default: discarded
	Registerer prometheus.Registerer
	Now        func() time.Time // default time.Now
	// Monotonic is a clock that is never set; default: the one that Now's readings have, as
	// time.Now's do.
	Monotonic func() time.Duration
}

func (o *FilesOptions) complete() error {
	if o.Root == "" {
		o.Root = DefaultRoot
	}
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{{&o.Rescan, 10 * time.Second}, {&o.Linger, 400 * time.Millisecond}, {&o.Grace, time.Second}, {&o.Nameless, time.Minute}, {&o.StateWait, 5 * time.Second}, {&o.HandOver, 20 * time.Second}, {&o.Unheard, 45 * time.Second}, {&o.Try, 20 * time.Second}} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	var errs []error
	if o.Dir == "" {
		errs = append(errs, errors.New("a folder for the positions is required"))
	}
	if o.Sender == "" {
		errs = append(errs, errors.New("a sender is required"))
	}
	errs = append(errs, o.Rules.complete(), o.Rules.answerable(o.Services), o.Keep.complete())
	return errors.Join(errs...)
}

// Files follows the log files of a node's containers. It is a collector.Logs.
type Files struct {
	opts FilesOptions
	clocks
	log     *slog.Logger
	grace   time.Duration
	journal *journal[filePos]
	counts  *counters
	metrics *metrics
	pods    pods
	shaper  shaper
	selects selection
	joins   joining
	next    next // rules of the next Run

	// What follows belongs to the goroutine of Run.
	containers map[string]*container // by folder
	order      []*container
	filling    *batch[filePos] // of the loop
	turn       int             // index in order of the container that is next
	touched    map[*file]bool
	// touchedLast is in touched, and the only file of the record that was last.
	touchedLast *file
	memories    memories
	buf         []byte
	replayed    map[*file]*[2]int64 // while the last batch is made anew: through where each stream was in it
	watch       *watch
	busy        int                // containers that are looked at in one's own time
	complete    int64              // what was written before is in this batch or one before it
	said        int64              // what of that the batches say that were handed on
	marked      time.Time          // when the last of these was
	noted       moment             // when it was seen last that what is complete is not of a clock that was set back
	atStart     map[string]filePos // positions as they were: those of new files go by the same inodes
	taken       time.Time          // when the shipper took a batch last
	heard       time.Time          // what was written before is read, or told of to be
	keptLast    int64              // orders the kept files
	freed       int                // kept files that are gone again
	keepFailed  string             // why the last file was not kept
	keepAgain   time.Time          // before which nothing is kept, as that failed
	keepTurn    int                // index in order of the container of which a file was kept last
	givenUp     []string           // paths of kept files that are to be removed
	firstStart  bool               // no position is known: leftovers of rotations are not ours
	handed      map[string]*handed // how far others took containers that were there at a start
	started     bool
	amended     bool // positions that no batch brings, and that are to be on the disk
	bounds      bounds
	countRoom   int64 // what is left of this turn's
	tooOld      bool  // kept files are to be given up that are not counted yet
	// stamps gives when by now it was what a file system stamped; nil: it stamps by the same clock.
	stamps func(time.Time) time.Time
}

// bounds are those of the files of one container that are kept open for being read: of
// all, and of those whose space a deletion would free. The oldest are given up,
// and counted.
type bounds struct {
	held, deleted int
	turn          int   // of those that are kept in one turn
	counted       int64 // bytes of those that are given up, as unpacked, that are read in one turn to count their lines
}

const (
	maxHeld    = 64
	maxDeleted = 12
	// countAtOnce is unpacked in less than half a second, in which nothing is read.
	countAtOnce = 32 << 20
)

// visitBytes is what is read of a container before others have their turn: small,
// so that the first line of a new one does not wait behind the backlog of all.
const visitBytes = readBytes

const (
	// busyWrites is how many writes between two looks make a container busy: then it is
	// looked at in one's own time, and inotify tells only what comes, goes and is renamed.
	busyWrites = 3
	// quietFor is after how long without a line it is not any more.
	quietFor = 2 * time.Second
	// hurryBy is by how much more often events are taken for hurryFor after more waited
	// than the kernel has room for, which is 16,384 by default.
	hurryBy  = 8
	hurryFor = time.Minute
)

// NewFiles reads the positions; it starts nothing.
func NewFiles(o FilesOptions) (*Files, error) {
	if err := o.complete(); err != nil {
		return nil, fmt.Errorf("log files: %w", err)
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("log files: %w", err)
	}
	j, err := openJournal[filePos](filepath.Join(o.Dir, "file-positions.json"))
	if err != nil {
		return nil, fmt.Errorf("log files: %w", err)
	}
	j.apart, j.beside = apart, func(key string, p filePos) string { return besides(key, p.First) }
	m := newMetrics(o.Registerer)
	shaper, err := newShaper(o.Rules, m)
	if err != nil {
		return nil, fmt.Errorf("log files: %w", err)
	}
	selects, err := newSelection(o.Rules.Select)
	if err != nil {
		return nil, fmt.Errorf("log files: %w", err)
	}
	joins, err := newJoining(o.Rules.Join)
	if err != nil {
		return nil, fmt.Errorf("log files: %w", err)
	}
	return &Files{opts: o, clocks: clocks{o.Now, o.Monotonic}, log: o.Logger, grace: o.Grace, journal: j, counts: newCounters(m), metrics: m, pods: pods{state: o.State}, shaper: shaper, selects: selects, joins: joins,
		containers: map[string]*container{}, touched: map[*file]bool{}, buf: make([]byte, readBytes), bounds: bounds{maxHeld, maxDeleted, keepAtOnce, countAtOnce}, countRoom: countAtOnce}, nil
}

// Health counts the lines of all containers.
func (r *Files) Health() wire.LogHealth { return r.counts.health() }

// SetRules has the next Run go by other rules; it may be called during one. An
// error leaves them as they were.
func (r *Files) SetRules(rules Rules) error { return r.next.set(rules, r.opts.Services, r.metrics) }

// Counts gives the lines of each container that is followed.
func (r *Files) Counts() map[Container]Count { return r.counts.all() }

// betweenLives is the wait after a conflict.
const betweenLives = time.Second

// Run follows until ctx ends; it may be called again after that. Lines that were not
// acknowledged by then are read again by the next Run of a Files with the same folder.
// An error means that the files cannot be watched at all.
func (r *Files) Run(ctx context.Context, sink Sink) error {
	for {
		lifeCtx, end := context.WithCancelCause(ctx)
		err := r.live(lifeCtx, end, sink)
		over := errors.Is(context.Cause(lifeCtx), fault.ErrConflict)
		end(nil)
		if err != nil || !over || !sleep(ctx, betweenLives) {
			return err
		}
	}
}

// live follows until ctx ends, which end does when somebody else read on.
func (r *Files) live(ctx context.Context, end context.CancelCauseFunc, sink Sink) error {
	if u := r.next.take(); u != nil {
		r.opts.Rules, r.shaper, r.selects, r.joins = u.Rules, u.shaper, u.selects, u.joins
	}
	w, err := newWatch()
	if err != nil {
		return fmt.Errorf("log files: %w", err)
	}
	ship := r.begin(w)
	if r.opts.Positions != nil {
		ship.conflict = func(err error) {
			r.log.Warn("follows containers anew", "err", err)
			end(err)
		}
	}
	shipCtx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(w.run)
	defer func() {
		stop()
		w.close()
		wg.Wait()
		for _, c := range r.containers {
			for _, f := range c.files {
				f.close()
			}
		}
	}()
	r.findOut(ctx, ship)
	r.findLost()
	wg.Go(func() { ship.run(shipCtx, sink) })
	if !r.resend(ctx, ship) {
		return nil
	}
	r.giveUpAgain()
	r.loop(ctx, ship)
	return nil
}

// begin begins where the journal is: a second Run does, like the first one of a process.
func (r *Files) begin(w *watch) *shipper[filePos] {
	r.watch = w
	r.containers, r.order, r.started, r.complete, r.said, r.busy = map[string]*container{}, nil, false, 0, 0, 0
	r.touchNone()
	r.atStart = r.journal.sources()
	r.firstStart = r.journal.made && len(r.atStart) == 0 && r.journal.settled()
	ship := newShipper(r.journal, r.counts, r.metrics, r.log, r.clocks)
	if r.opts.Positions != nil {
		ship.overtaken, ship.unheard, ship.try = r.overtaken, r.opts.Unheard, r.opts.Try
	}
	return ship
}

// findOut finds out what became of the files since the last run.
func (r *Files) findOut(ctx context.Context, ship *shipper[filePos]) {
	r.waitForState(ctx)
	if r.askHanded(ctx) {
		ship.hears()
	}
	r.heard = r.now()
	r.scanRoot()
}

// findLost finds out what is lost since the last run.
func (r *Files) findLost() {
	r.findUntold()
	r.findGaps()
	r.noteTaken()
	r.started, r.handed = true, nil
	r.journal.remembers()
	if r.firstStart {
		// Should it be killed before the server has anything, the next start is no
		// first one: what was rotated by then is to be read.
		r.writeJournal()
		r.journal.made = false
	}
}

// waitForState lets the first lists arrive, so that lines get their workloads.
func (r *Files) waitForState(ctx context.Context) {
	for end := r.now().Add(2 * r.opts.StateWait); r.opts.State != nil && r.now().Before(end); {
		if s := r.opts.State.Snapshot(); s != nil && s.Synced {
			return
		}
		if !sleep(ctx, 50*time.Millisecond) {
			return
		}
	}
}

// resend makes the batch anew that was on its way when the last run ended. It is
// false when ctx ended.
func (r *Files) resend(ctx context.Context, ship *shipper[filePos]) bool {
	was := r.journal.inFlight
	if was == nil {
		return true
	}
	b := r.memories.lend(newBatch[filePos](r.opts.Sender))
	b.day, b.wire.Positions = was.Day, positionsBy(r.handedOn(was.To))
	sent := map[*file]filePos{}
	begun := map[filePos]filePos{}
	for _, c := range r.order {
		r.replay(c, b, was.To, sent, begun)
	}
	r.tellGone(b, was, sent, begun)
	for f, p := range sent { // a copy is another file by now, and so is a compressed one
		for old, to := range was.To {
			if to == p && old != f.key() {
				r.rename(nil, old, f)
			}
		}
	}
	b.tellDrops()
	b.from, b.to, b.wire.ID, b.resent = maps.Clone(was.From), maps.Clone(was.To), was.ID, true
	b.day, b.told = was.Day, was.Told
	for f, p := range sent { // by a name that may have been that of a file that is gone
		r.journal.makeWay(b.from, b.to, f.key(), func(had filePos) bool { return had == p })
		b.to[f.key()] = p
	}
	if b.lines == 0 {
		wanted := maps.Clone(was.To)
		maps.DeleteFunc(wanted, func(_ string, p filePos) bool { return r.leftOut(filepath.Dir(p.Path)) })
		if len(wanted) == 0 {
			r.journal.acknowledged(b)
			return true
		}
		// Of an earlier version, which did not note what it had.
		r.log.Warn("files of the last batch are gone; if the server did not get it, its lines are lost", "batch", was.ID, "files", len(wanted))
		r.journal.acknowledged(b)
		return true
	}
	return r.hand(ctx, ship, b)
}

// hand gives a batch to the shipper; it is false when ctx ended.
func (r *Files) hand(ctx context.Context, ship *shipper[filePos], b *batch[filePos]) bool {
	select {
	case <-ctx.Done():
		return false
	case <-ship.want:
		return ship.give(ctx, b)
	}
}

func (r *Files) loop(ctx context.Context, ship *shipper[filePos]) {
	b := r.memories.lend(newBatch[filePos](r.opts.Sender))
	r.filling = b
	defer func() { r.filling = nil }()
	r.taken = r.now()
	var looked time.Time     // when events were taken last, and busy containers looked at
	var overflowed time.Time // when more events waited in the kernel than it has room for
	timer := time.NewTimer(0)
	defer timer.Stop()
	nextRescan := r.now().Add(r.opts.Rescan)
	for {
		began := r.noteClock()
		linger := r.opts.Linger
		if began.Sub(overflowed) < hurryFor {
			linger /= hurryBy
		}
		nextLook := looked.Add(linger)
		// Before anything is said to be complete.
		if r.busy > 0 && !began.Before(nextLook) {
			if r.look(began) {
				nextRescan, overflowed = began, began
			}
			looked, nextLook = began, began.Add(linger)
		} else if began.Sub(r.heard) > hearAfter && r.look(began) { // this process may have stood still
			nextRescan, overflowed = began, began
		}
		blocked := r.fill(b)
		if !blocked {
			r.noteComplete(began)
		}
		keeps := r.keepAll(b)
		now := r.now()
		wake := nextRescan
		if keeps || r.tooOld || slices.ContainsFunc(r.order, func(c *container) bool { return c.tooMany }) {
			wake = now
		}
		var want chan struct{}
		if !b.empty() {
			// The first line after a pause goes at once; those after it have waited for
			// their look already.
			if due := r.taken.Add(r.opts.Linger); blocked || !now.Before(due) {
				want = ship.want
			} else if due.Before(wake) {
				wake = due
			}
		}
		for _, c := range r.order {
			if !c.wake.IsZero() && c.wake.Before(wake) {
				wake = c.wake
			}
		}
		if due := r.marked.Add(marksEvery); want == nil && r.complete > 0 && b.empty() {
			if !now.Before(due) {
				want = ship.want
			} else if due.Before(wake) {
				wake = due
			}
		}
		// What is written all the time is read in few looks, each of which costs several
		// system calls: until the next one events wait where they are.
		told := r.watch.told
		if r.busy > 0 || now.Before(nextLook) {
			told = nil
			if nextLook.Before(wake) {
				wake = nextLook
			}
		}
		timer.Reset(max(0, wake.Sub(now)))
		select {
		case <-ctx.Done():
			return
		case <-want:
			b.wire.Positions = positionsBy(b.reached)
			r.noteClock() // it waited for the shipper
			b.seal(r.marks(), r.noted)
			r.taken, r.marked = now, now
			if !ship.give(ctx, b) {
				return
			}
			b = r.memories.lend(newBatch[filePos](r.opts.Sender))
			r.filling = b
		case <-told:
			looked = r.now()
			if r.look(looked) {
				nextRescan, overflowed = looked, looked
			}
		case <-timer.C:
		}
		if now = r.now(); !now.Before(nextRescan) {
			r.scanRoot()
			r.heard = now
			r.rejudge()
			r.tidy()
			r.prune()
			nextRescan = now.Add(r.opts.Rescan)
		} else if r.tooOld {
			r.tidy()
		}
		for _, c := range r.order {
			if !c.wake.IsZero() && !now.Before(c.wake) {
				c.wake, c.dirty = time.Time{}, true
			}
		}
	}
}

const (
	// marksEvery is how often it is said what is complete when there are no lines.
	marksEvery = 5 * time.Second
	// openFor is how long the end of a line is waited for of which there is a piece: it may
	// never come, as of what a program writes last without a newline.
	openFor = 15 * time.Second
	// completeAfter is how long a line may be on its way into its file, with room.
	completeAfter = time.Second
	// hearAfter is for how long the next events are left where they are at most before it
	// is said what is complete.
	hearAfter = completeAfter / 2
)

// noteComplete notes that all files were read to their ends by a look that began
// at a time. What waits for further lines, for its pod to be known, or for the writer of
// the file before it, is not complete yet.
func (r *Files) noteComplete(began time.Time) {
	if heard := r.heard.Add(hearAfter); heard.Before(began) {
		began = heard // of what was written since then nobody has told
	}
	through := began.Add(-completeAfter).UnixNano()
	for _, c := range r.order {
		if c.dirty && c.known {
			return
		}
		through = min(through, c.completeBy(began))
	}
	r.complete = max(r.complete, through)
	r.noteOpen()
}

// noteClock takes back what is said to be complete by a clock that was ahead, and was set
// right since: lines of times before that are still to come. It gives the time.
func (r *Files) noteClock() (now time.Time) {
	before := r.noted
	r.noted = r.moment()
	if r.noted.setBackFrom(before) {
		r.complete, r.said = 0, 0
		r.heard = time.Unix(0, 0) // by this clock nobody was heard yet
		for _, c := range r.order {
			c.complete = 0
		}
	}
	return r.noted.wall
}

// noteOpen counts the lines without an end that are not waited for.
func (r *Files) noteOpen() {
	open := 0
	for _, c := range r.order {
		here := 0
		for _, w := range c.pending {
			if w != nil && w.let {
				here++
			}
		}
		if here > 0 && !c.letGo {
			r.log.Info("a line has no end; the node is said to be complete without it", "namespace", c.id.Namespace, "pod", c.id.Pod, "container", c.id.Container)
		}
		c.letGo = c.letGo || here > 0
		open += here
	}
	r.metrics.open.Set(float64(open))
}

// completeBy gives up to when the container's lines are in this batch or one before it,
// by a look that began at a time and found nothing more to be read at once.
func (c *container) completeBy(began time.Time) int64 {
	through := began.Add(-completeAfter).UnixNano()
	if !c.known {
		c.unread, c.waits = c.earliestUnread(latestBy(began))
		through = min(through, c.seen.Add(-completeAfter).UnixNano())
	}
	if c.waits { // what was there when it waited for nothing was read
		through = min(through, max(c.unread, c.complete))
	}
	for _, w := range c.pending {
		if w == nil {
			continue
		}
		// Its end may be in what waits.
		w.let = w.let || w.partial && !c.waits && began.Sub(w.since) >= openFor
		if !w.let {
			through = min(through, w.at-1)
		}
	}
	c.complete = max(c.complete, through)
	return through
}

func (r *Files) marks() []wire.LogMark {
	if r.complete <= 0 {
		return nil
	}
	r.said = r.complete
	return []wire.LogMark{{Node: r.opts.Node, Through: r.complete}}
}

// look takes the events that wait, so that a burst is one look, and has the busy
// containers read. It is true when events were missed.
func (r *Files) look(now time.Time) (missed bool) {
	if missed = r.watch.take(r.event); missed {
		r.log.Warn("more happened to log files than inotify has room for; all are looked at")
	} else {
		r.heard = now
	}
	r.busy = 0
	for _, c := range r.order {
		switch {
		case c.off || c.writes >= busyWrites:
			r.hush(c, true, now)
		case c.hushed && !c.dirty && now.Sub(c.grew) > quietFor:
			r.hush(c, false, now)
			c.dirty = true // what came before inotify tells of it again
		}
		c.writes = 0
		if c.hushed && !c.off {
			r.busy++
			c.dirty = true
		}
	}
	return missed
}

// hush has inotify tell of a container's writes or not.
func (r *Files) hush(c *container, hushed bool, now time.Time) {
	if c.hushed == hushed {
		return
	}
	if err := r.watch.add(c.dir, hushed); err != nil {
		r.log.Debug("watch container folder", "path", c.dir, "err", err) // gone: it stays as it was
		return
	}
	c.hushed, c.grew = hushed, now
}

// fill reads what is new into b. blocked says that b has to go before more can
// be read. What it found out of files whose lines were sent is on the disk then, written once
// for all: where rotation takes those of a node at the same time, the others wait for that.
func (r *Files) fill(b *batch[filePos]) (blocked bool) {
	r.countRoom = r.bounds.counted
	blocked = r.readAll(b)
	if r.amended {
		r.amended = false
		r.writeJournal()
	}
	return blocked
}

func (r *Files) readAll(b *batch[filePos]) (blocked bool) {
	for _, c := range r.order { // though b is full: what rotation takes next has to be open
		if c.rescan || c.tooMany && r.countRoom > 0 {
			r.scanContainer(c)
		}
	}
	for {
		progress, left := false, false
		for i, n := 0, len(r.order); i < n; i++ {
			at := (r.turn + i) % n
			c := r.order[at]
			if c.rescan {
				r.scanContainer(c)
			}
			if !c.dirty {
				continue
			}
			if !r.nameStream(c, false) {
				continue
			}
			if c.off {
				c.dirty = false
				continue
			}
			if b.full() {
				r.turn = at // with the next batch, those come that had none of this one
				return true
			}
			before := c.progress()
			more := r.read(c, b, visitBytes)
			grew := c.progress() != before
			if grew && c.hushed {
				c.grew = r.now()
			}
			if more {
				left = true
				progress = progress || grew
				continue
			}
			c.dirty = false
			c.unread, c.waits = c.earliestUnread(latestBy(r.now()))
			if c.polled {
				c.wakeAt(r.now().Add(500 * time.Millisecond))
			}
			c.forget()
		}
		r.drop()
		if !left {
			return b.full()
		}
		if !progress {
			return !b.empty()
		}
	}
}

// progress is a number that changes when anything of the container was read.
func (c *container) progress() (n int64) {
	n = int64(c.looks) << 35
	for i, f := range c.files {
		n += f.offset + int64(f.gen)<<40
		if f.done {
			n += int64(i+1) << 50
		}
	}
	return n
}

// nameStream finds the pod's workload. It is false while State may still learn of it.
func (r *Files) nameStream(c *container, must bool) bool {
	if c.known {
		return true
	}
	pod := r.pods.find(c.id.UID)
	if pod == nil && r.opts.State != nil && !must {
		if wait := c.seen.Add(r.opts.StateWait).Sub(r.now()); wait > 0 {
			c.wakeAt(r.now().Add(min(wait, 200*time.Millisecond)))
			return false
		}
	}
	v := r.selects.judge(c.id, pod, r.opts.Services)
	if v == undecided && !must {
		c.wakeAt(r.now().Add(200 * time.Millisecond))
		return false
	}
	c.stream = streamOf(c.id, pod, r.opts.Node)
	c.joiner, c.limiter = r.joinerOf(c.id, pod), newLimiter(r.opts.Rules.Limit, pod)
	if c.off, c.elsewhere = v == refused || v == elsewhere, v == elsewhere; c.off {
		for _, l := range c.lost {
			r.journal.found(l.noted)
		}
		c.release()
	}
	c.known = v != undecided && (!must || pod != nil)
	return true
}

// rejudge takes in what has come to be of a Service that is meant.
func (r *Files) rejudge() {
	for _, c := range r.order {
		if c.elsewhere && r.selects.judge(c.id, r.pods.find(c.id.UID), r.opts.Services) == taken {
			c.off, c.elsewhere, c.rescan, c.dirty = false, false, true, true
			r.hush(c, false, r.now())
		}
	}
}

// joinerOf says how a container's lines are joined, by its pod's annotation or a rule.
func (r *Files) joinerOf(id Container, pod *object.Pod) joiner {
	j, err := r.joins.of(id, pod)
	if err != nil {
		r.log.Warn("pod's annotation on multi-line records", "namespace", id.Namespace, "pod", id.Pod, "container", id.Container, "err", err)
	}
	return j
}

// event notes what inotify said: of a folder whose files are written to, or of what
// came, went or was renamed.
func (r *Files) event(path string, mask uint32) {
	if mask&changes == 0 {
		if c := r.containers[path]; c != nil {
			c.writes++
			c.dirty = true
		}
		return
	}
	if c := r.containers[path[:max(0, strings.LastIndexByte(path, '/'))]]; c != nil { // a log file
		c.rescan, c.dirty = true, true
		return
	}
	if c := r.containers[path]; c != nil { // its folder
		c.rescan, c.dirty = true, true
		return
	}
	if mask&(unix.IN_CREATE|unix.IN_MOVED_TO) == 0 {
		return
	}
	switch {
	case filepath.Dir(path) == r.opts.Root:
		r.scanPod(path)
	case filepath.Dir(filepath.Dir(path)) == r.opts.Root:
		r.addContainer(path)
	}
}

// scanRoot looks at everything.
func (r *Files) scanRoot() {
	if err := r.watch.add(r.opts.Root, false); err != nil {
		r.log.Warn("watch log folder", "path", r.opts.Root, "err", err)
	}
	entries, err := os.ReadDir(r.opts.Root)
	if err != nil {
		r.log.Warn("list log folder", "path", r.opts.Root, "err", err)
		return
	}
	for _, e := range entries {
		if e.IsDir() {
			r.scanPod(filepath.Join(r.opts.Root, e.Name()))
		}
	}
	if !r.started {
		for _, dir := range r.keptContainers() {
			r.addContainer(dir)
		}
	}
	for _, c := range r.order {
		r.scanContainer(c)
		c.dirty = true
	}
}

// podOfPath takes namespace_pod_uid apart.
func podOfPath(name string) (c Container, ok bool) {
	namespace, rest, ok := strings.Cut(name, "_")
	pod, uid, ok2 := strings.Cut(rest, "_")
	return Container{Namespace: namespace, Pod: pod, UID: uid}, ok && ok2 && namespace != "" && pod != "" && uid != ""
}

func (r *Files) scanPod(dir string) {
	if _, ok := podOfPath(filepath.Base(dir)); !ok {
		return
	}
	// Watched before it is listed: what comes after the list is told.
	if err := r.watch.add(dir, false); err != nil {
		r.log.Debug("watch pod folder", "path", dir, "err", err) // gone again
		return
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if e.IsDir() {
			r.addContainer(filepath.Join(dir, e.Name()))
		}
	}
}

func (r *Files) addContainer(dir string) {
	if r.containers[dir] != nil {
		return
	}
	id, ok := podOfPath(filepath.Base(filepath.Dir(dir)))
	if !ok {
		return
	}
	id.Container = filepath.Base(dir)
	c := &container{id: id, dir: dir, seen: r.now(), joiner: joiner{off: r.opts.Rules.Join.Off}, dirty: true}
	st, err := os.Stat(dir)
	if _, kerr := os.Stat(r.keptOf(c)); (err != nil || !st.IsDir()) && kerr != nil {
		return
	}
	if err := r.watch.add(dir, false); err != nil {
		r.log.Warn("watch container folder", "path", dir, "err", err) // looked at on rescans only
	}
	r.containers[dir] = c
	r.order = append(r.order, c)
	r.counts.read(id, 0, 0)
	r.scanContainer(c)
}

// scanContainer finds new files, renamed and deleted ones.
func (r *Files) scanContainer(c *container) {
	c.rescan, c.tooMany = false, false
	entries, err := os.ReadDir(c.dir)
	c.gone = errors.Is(err, fs.ErrNotExist)
	if err != nil && !c.gone {
		r.log.Warn("list container folder", "path", c.dir, "err", err)
		return
	}
	if c.off {
		return
	}
	present, packed := r.openAll(c, entries)
	for range 20 {
		// What was renamed between the list and the look would be missed, and its
		// successor taken for it.
		again, err := os.ReadDir(c.dir)
		if err != nil || slices.EqualFunc(entries, again, func(a, b fs.DirEntry) bool { return a.Name() == b.Name() }) {
			break
		}
		for _, f := range present {
			f.close()
		}
		entries = again
		present, packed = r.openAll(c, entries)
	}
	fresh := slices.Collect(maps.Values(present))
	var vanished *file
	for _, f := range c.files {
		now := present[[2]uint64{f.dev, f.ino}]
		if f.beside {
			f.unlinked = true
			continue
		}
		if !f.unlinked && f.suffix == "" && now == nil {
			vanished = f
		}
		if f.unlinked = now == nil || now.packed && !f.isPacked(now); f.unlinked {
			continue // or renamed between the list and the look: then the next one finds it
		}
		if now.packed {
			f.path, f.suffix = now.path, now.suffix
			now.close()
			fresh = slices.DeleteFunc(fresh, func(o *file) bool { return o == now })
			continue
		}
		if f.done && r.reused(f, now) { // the inode belongs to another file by now
			f.unlinked = true
			continue
		}
		f.path, f.suffix = now.path, now.suffix
		if f.done {
			if size, _, err := now.identify(); err == nil && size > f.offset { // somebody wrote on after all
				if f.lost > 0 && r.tells(c, f) {
					c.rescan = true // once that it was given up is in a batch of its own
				} else {
					f.fd, now.fd = now.fd, nil
					f.done, f.ended, f.lost = false, time.Time{}, 0
					c.dirty = true
				}
			}
		}
		now.close()
		fresh = slices.DeleteFunc(fresh, func(o *file) bool { return o == now })
	}
	if !r.started {
		fresh = slices.DeleteFunc(fresh, func(f *file) bool { // compressed since the look before
			if !f.packed {
				return false
			}
			of, _ := c.madeOf(f)
			if of != nil {
				c.notePacked(f, of)
				f.close()
			}
			return of != nil
		})
		fresh = r.withKept(c, fresh)
	}
	sortFiles(fresh)
	missed := r.missed(c, packed, fresh)
	if vanished != nil && !c.hasPacked(vanished) {
		came := append(slices.Clone(missed), fresh...)
		slices.SortStableFunc(came, older)
		r.findGapNow(c, vanished, came)
	}
	for _, f := range copiesLast(r.adoptPacked(c, fresh)) {
		r.adopt(c, f)
	}
	for _, f := range c.files {
		if f.alike != nil {
			r.goOnAlike(c, f)
		}
	}
	for _, f := range missed {
		f.unclear, c.dirty = true, true
		r.insert(c, f)
	}
	r.settle(c)
	// Those that are read and gone are forgotten.
	c.forget()
	held, deleted, copies, gone := 0, 0, 0, 0
	var tooMany []*file
	for _, f := range slices.Backward(c.files) {
		if f.done {
			continue
		}
		if f.copyOf != nil { // nothing is lost with it as long as its file is not cut
			if copies++; f.unlinked {
				gone++
			}
			switch {
			case f.unlinked && gone > r.bounds.deleted: // of so many files
				f.done = true
				f.close()
			case copies > r.bounds.held:
				f.copyOf = nil
				r.skip(c, f)
			}
			continue
		}
		if held++; f.unlinked && !f.kept {
			deleted++
		}
		if held > r.bounds.held || f.unlinked && !f.kept && deleted > r.bounds.deleted && !r.toPacked(c, f, packed) {
			if r.filling == nil { // until the batch that was on its way is made anew, which may have lines of it
				c.rescan = true
				continue
			}
			tooMany = append(tooMany, f)
		}
	}
	c.tooMany = !r.abandonAll(c, tooMany)
	c.forget() // those given up: another file may get their inode
	if len(fresh) > 0 {
		c.dirty = true
	}
}

// tells says whether what was given up of a file is still to be told, or is in the batch that
// is being filled.
func (r *Files) tells(c *container, f *file) bool {
	return slices.ContainsFunc(c.lost, func(l loss) bool { return l.file == f }) || r.filling != nil && f.inBatch == r.filling
}

// openAll opens the log files among a folder's entries, by device and inode. Compressed ones that
// are known it only looks at; missed has those that came since a start, and packed is all of them.
func (r *Files) openAll(c *container, entries []fs.DirEntry) (present map[[2]uint64]*file, packed []*file) {
	present = map[[2]uint64]*file{}
	found := func(f *file) {
		if twice := present[[2]uint64{f.dev, f.ino}]; twice != nil {
			twice.close()
		}
		present[[2]uint64{f.dev, f.ino}] = f
	}
	for _, f := range c.packedIn(entries) {
		known := c.hadPacked(f)
		if !known && !r.started {
			if !f.open() {
				continue
			}
			if err := f.identifyPacked(); err != nil {
				r.log.Warn("open log file", "path", f.path, "err", err)
				f.close()
				continue
			}
		}
		packed = append(packed, f)
		if known || !r.started {
			found(f)
		}
	}
	for _, e := range entries {
		instance, suffix, ok := nameOf(e.Name())
		if !ok {
			continue
		}
		f := &file{path: filepath.Join(c.dir, e.Name()), instance: instance, suffix: suffix}
		if e.Type()&fs.ModeSymlink != 0 {
			c.polled = true
		}
		if !f.open() {
			continue
		}
		if _, _, err := f.identify(); err != nil {
			r.log.Warn("open log file", "path", f.path, "err", err)
			f.close()
			continue
		}
		found(f)
	}
	return present, packed
}

// open opens the file of its path; false where that is gone again, a link to a file that is, or
// no file.
func (f *file) open() bool {
	var err error
	if f.fd, err = os.Open(f.path); err != nil {
		return false
	}
	if st, err := f.fd.Stat(); err != nil || !st.Mode().IsRegular() {
		f.close()
		return false
	}
	return true
}

// has says whether a file of that path is known.
func (c *container) has(path string) bool {
	return slices.ContainsFunc(c.files, func(f *file) bool { return f.path == path })
}

// hasName says whether a folder's entries, in the order of their names, have one of that name.
func hasName(entries []fs.DirEntry, name string) bool {
	_, ok := slices.BinarySearchFunc(entries, name, func(e fs.DirEntry, name string) int { return strings.Compare(e.Name(), name) })
	return ok
}

// reused says whether an inode that was read to its end is another file now.
func (r *Files) reused(f, now *file) bool {
	if f.printLen == 0 {
		return f.offset > 0 // given up before its beginning was known
	}
	h, ok := now.headHash(f.printLen)
	return !ok || h != f.print
}

// insert puts a file before those that are newer, though they may be read already.
// One that is gone from the folder is older than what is found there now, whatever
// its last name was.
func (r *Files) insert(c *container, f *file) {
	r.takesInode(c, f)
	i := len(c.files)
	for i > 0 && (!c.files[i-1].unlinked || c.files[i-1].kept) && older(f, c.files[i-1]) < 0 {
		i--
	}
	c.files = slices.Insert(c.files, i, f)
}

// takesInode has a file that was read, and in which a record is still open, go by another name
// once its inode is that of a new one: the record may end there, and a batch has the positions
// of both.
func (r *Files) takesInode(c *container, f *file) {
	known := slices.Clone(c.files)
	for _, l := range c.lost {
		known = append(known, l.file)
	}
	for _, o := range known {
		if o == f || !o.done || o.beside || o.first == 0 || o.dev != f.dev || o.ino != f.ino {
			continue
		}
		old := o.key()
		o.beside = true
		is := func(p filePos) bool { return p.First == o.first && filepath.Dir(p.Path) == c.dir }
		r.journal.rename(old, o.key(), is)
		if r.filling != nil {
			r.journal.renameIn(r.filling.from, r.filling.to, old, o.key(), is)
		}
	}
}

// note has the container be taken at least as far as by a position, if it is of a file
// of its own: an inode may have been another container's.
func (c *container) note(p filePos) {
	if filepath.Dir(p.Path) == c.dir {
		c.taken = max(c.taken, p.taken())
	}
}

// noteTaken has containers be taken at a start as far as any of their positions says, those of
// files that are gone, too: once these are told of, the server's would be further than all that
// is known here, and the next start would take that for another collector's.
func (r *Files) noteTaken() {
	from, to := r.journal.onItsWay()
	for _, positions := range []map[string]filePos{r.atStart, from, to} {
		for _, p := range positions {
			if c := r.containers[filepath.Dir(p.Path)]; c != nil {
				c.note(p)
			}
		}
	}
}

// adopt takes a file in that was not known in this run.
func (r *Files) adopt(c *container, f *file) {
	f.blank = f.printLen == 0
	r.insert(c, f)
	// The same file as before a restart?
	position := r.journal.position
	if !r.started {
		position = func(name string) (filePos, bool) { p, ok := r.atStart[name]; return p, ok }
	}
	p, ok := of(f, f.firstTime(), position)
	if ok {
		c.note(p)
		if f.hasHeadOf(p) {
			f.resume(p)
			if size, _, err := f.identify(); err == nil && f.suffix != "" && p.Scan == 0 && size <= p.Offset {
				f.done = true // read to its end; should anybody write to it after all, that is seen
				f.close()
			}
			return
		}
		f.gen, f.marked, f.hasMark = p.Gen+1, p, true // truncated, or the inode is another file's now
		if f.suffix == "" && !f.packed && filepath.Dir(p.Path) == c.dir {
			f.before = []former{formerAt(p)} // whose copy may not be found yet
			if f.wasCut() {                  // since it was opened
				f.print, f.printLen = 0, 0
				_, _, _ = f.identify() // else the next look does
			}
		}
	}
	if f.suffix != "" && c.current(f) != nil {
		f.unclear = true
		if !r.place(c, f) {
			return
		}
	}
	if r.started {
		return
	}
	// A copy of one that was truncated while nobody looked?
	if p, ok := positionOf(f, r.atStart); ok {
		f.alike = &p
		return
	}
	if h := r.handed[c.id.key()]; h != nil {
		r.takeOver(c, f, h)
		return
	}
	if r.firstStart && f.suffix != "" {
		r.skip(c, f) // rotated before anybody collected here
	}
}

// goOnAlike has a file go on at the position of which it begins alike, unless another one
// does: that is what it is a copy of then, which counts if that one is cut before it is read.
func (r *Files) goOnAlike(c *container, f *file) {
	p := *f.alike
	f.alike = nil
	switch o := c.longestAt(p); {
	case o == f && f.packed:
		if f.done = !f.goOn(r, c, p); f.done {
			f.close()
		}
	case o == f:
		f.resume(p)
		f.gen, f.marked.Gen = 0, 0
	case o.fd == nil: // all of it was read
		r.skip(c, f)
	default:
		f.copyOf, f.first = o, f.firstTime()
	}
}

// longestAt gives what has the most of the file of a position: the file itself, where it is
// there and was not cut. What else has its inode by now may be one of its copies.
func (c *container) longestAt(p filePos) (of *file) {
	longest := int64(-1)
	for _, o := range c.files {
		size, ok := o.offset, o.resumed.Print == p.Print && o.resumed.Len == p.Len
		if o.fd != nil {
			if ok = o.beginsAs(p); ok {
				size, ok = o.wholeSize()
			}
		}
		if ok && (size > longest || size == longest && o.dev == p.Dev && o.ino == p.Ino) {
			of, longest = o, size
		}
	}
	return of
}

// current gives the file that a rotated one would have to be a copy of, were it
// one: the current file of the same instance is still the one that it was.
func (c *container) current(f *file) *file {
	for _, o := range c.files {
		if o != f && o.instance == f.instance && o.suffix == "" && !o.unlinked {
			return o
		}
	}
	return nil
}

// place finds out whether a new file is a copy that copytruncate made, and of
// what. It is true once the file is known to be none.
func (r *Files) place(c *container, f *file) bool {
	if !f.packed && !f.unlinked && f.tooShort(c.current(f)) {
		return false // what it is it says with its first bytes, whenever they come
	}
	for _, o := range c.files {
		if o == f || o.unclear { // what is not clear itself may be a copy of this one
			continue
		}
		o.printMore()
		for _, was := range append([]former{{print: o.print, printLen: o.printLen, offset: -1, first: o.first}}, o.before...) {
			if was.printLen < knownHead {
				continue
			}
			h, ok := f.headHash(was.printLen)
			if ok && h != was.print || !ok && !f.shortOf(was.printLen, was.first) && (was.offset >= 0 || !f.beginsLike(o) || o.wasCut()) {
				continue // what has less than a file before it was cut, and another first line, is no copy of that
			}
			f.unclear = false
			if was.offset < 0 { // read only if the other is truncated before it is read
				if f.copyOf = o; o.copyOf != nil { // that is one itself
					f.copyOf = o.copyOf
				}
				f.first = f.firstTime()
				c.behindToo(f, f.copyOf)
				return false
			}
			f.offset, f.skip, f.first = was.offset, was.skip, was.first
			f.asCopy()
			f.began = f.offset
			c.moveBefore(f, o)
			return false
		}
	}
	o := c.current(f)
	if o != nil && f.beginsLike(o) {
		return false // it was cut, and this is a copy of what it is by now
	}
	f.unclear = false
	if o != nil && !f.packed { // of a compressed one the name says where it belongs
		c.moveBefore(f, o) // what was in it before anybody looked
	}
	return true
}

// copiesLast has files that may be copies of the current one be taken in after that: of one
// that is being made, nothing else tells what it is.
func copiesLast(files []*file) []*file {
	var originals, copies []*file
	for _, f := range files {
		i := slices.IndexFunc(files, func(o *file) bool { return o.instance == f.instance && o.suffix == "" })
		if i >= 0 && f.suffix != "" && (f.beginsLike(files[i]) || f.tooShort(files[i])) {
			copies = append(copies, f)
		} else {
			originals = append(originals, f)
		}
	}
	return append(originals, copies...)
}

// beginsLike says whether what there is of a file, as much as a fingerprint is of, is how
// another one begins now, whatever is known of that: a copy of it, which may be being made.
func (f *file) beginsLike(o *file) bool {
	head := f.beginning()
	return len(head) >= knownHead && bytes.HasPrefix(o.beginning(), head)
}

// tooShort says of a file that it has no line yet, and may become a copy of another one.
func (f *file) tooShort(o *file) bool {
	head := f.beginning()
	return len(head) == 0 || o != nil && len(head) < knownHead && bytes.HasPrefix(o.beginning(), head)
}

// beginning gives what a fingerprint is of.
func (f *file) beginning() []byte {
	if f.compressed() {
		return f.head
	}
	head := make([]byte, fingerprintBytes)
	n, _ := f.fd.ReadAt(head, 0) // nothing of one that is closed
	return head[:n]
}

// skip takes a file as read. The next start must not take it for a new one, whatever
// becomes of it.
func (r *Files) skip(c *container, f *file) {
	if size, ok := f.wholeSize(); ok {
		f.offset, f.skip, f.first = size, [2]int64{size, size}, f.firstTime()
		r.journal.set(f.key(), c.pos(f))
	}
	f.done = true
	f.close()
}

// stillThere says whether the file of a position is where it was, unchanged.
func (r *Files) stillThere(p filePos) bool {
	f := &file{path: p.Path}
	var err error
	if f.fd, err = os.Open(p.Path); err != nil {
		return false
	}
	defer f.close()
	_, _, err = f.identify()
	return err == nil && f.dev == p.Dev && f.ino == p.Ino && f.hasHeadOf(p)
}

// forget lets go of the files that are read and gone; of a kept one, once tidy has removed
// it. One in which a record is open is still needed: a start finds it by its position, or
// by what was compressed of it, or that it is missing. So is one of which something
// compressed is there.
func (c *container) forget() {
	var open []*file
	for _, w := range c.pending {
		if w != nil && w.in != nil {
			open = append(open, c.spanned(w)...)
		}
	}
	c.letCopiesGo()
	c.files = slices.DeleteFunc(c.files, func(f *file) bool {
		return f.done && f.unlinked && !f.kept && !c.hasPacked(f) && !slices.Contains(open, f)
	})
}

// drop forgets containers whose folders are gone and whose files are read.
func (r *Files) drop() {
	r.order = slices.DeleteFunc(r.order, func(c *container) bool {
		if !c.gone || len(c.lost) > 0 {
			return false
		}
		for _, f := range c.files {
			if !f.done && f.copyOf == nil || f.kept {
				return false
			}
		}
		for _, f := range c.files {
			f.close()
		}
		delete(r.containers, c.dir)
		r.counts.forget(c.id)
		return true
	})
}

// prune forgets positions of files that are gone, whatever name they have by now.
func (r *Files) prune() {
	live := map[string]bool{}
	for _, c := range r.containers {
		for _, f := range c.files {
			live[f.key()], live[besides(f.key(), f.first)] = true, true
		}
	}
	// A batch that is made anew begins where the server was before it.
	from, _ := r.journal.onItsWay()
	for k := range from {
		live[k] = true
	}
	for k := range r.filling.from {
		live[k] = true
	}
	known := r.journal.sources()
	newest := map[string]string{} // by folder
	for k, p := range known {
		dir := filepath.Dir(p.Path)
		if n, ok := newest[dir]; !ok || known[n].Last < p.Last {
			newest[dir] = k
		}
	}
	for k, p := range known {
		dir := filepath.Dir(p.Path)
		c := r.containers[dir]
		if live[k] || newest[dir] == k && c != nil {
			continue // by the newest of a container, a start finds out what it missed
		}
		if c != nil && slices.ContainsFunc(c.files, func(f *file) bool { return known[f.key()].First != f.first && f.goesOnAt(p) }) {
			continue // of a copy that has none of its own
		}
		for o, was := range known { // what was cut has one of before that, which is all that is left then
			if o == k || p.First == 0 || was.First != p.First || filepath.Dir(was.Path) != dir || !p.further(was) {
				continue
			}
			known[o] = p.on(was)
			r.journal.amend(o, func(at filePos) filePos {
				if at.isOf(was) && p.further(at) {
					return p.on(at)
				}
				return at
			})
		}
		r.journal.forget(k)
	}
}
