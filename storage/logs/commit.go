package logs

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// The library has no write-ahead log: rows stay in memory for seconds, and
// nothing tells when a row has reached a file. So batches are committed in
// groups: while nothing is added, everything in memory is flushed to files until
// the library's own figures say that nothing is left there; then all batches of
// the group are acknowledged at once.
//
// The public way to flush is to make a snapshot of a day, which is removed at
// once. A flush skips parts that take part in a merge in memory at that moment
// (acknowledging after it without a look loses rows; this was measured), which
// is why it is repeated until the figures are zero.

// group is what one commit makes durable.
type group struct {
	done    chan struct{} // closed when err and failed are final
	err     error         // of all entries
	failed  map[entryKey]error
	entries []entry
	bytes   int64               // estimated
	days    map[string]struct{} // partitions that got rows
	first   time.Time           // when the first entry came
}

// entryKey tells a batch from the others of a group.
type entryKey struct {
	sender *sender
	id     batchID
}

// outcome is what becomes of one batch of a group.
type outcome struct {
	*group
	key entryKey
}

// wait gives the batch's result, or ctx's error when that ends first.
func (o *outcome) wait(ctx context.Context) error {
	select {
	case <-o.done:
		if o.err != nil {
			return o.err
		}
		return o.failed[o.key]
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

type entry struct {
	sender  *sender
	id      batchID
	arrival arrival
	rows    int
	size    int64 // bytes, estimated
	day     string
	far     []byte // the rows, where they are kept elsewhere

	positions []wire.LogPosition // that the batch brings
}

func newGroup() *group { return &group{done: make(chan struct{}), days: map[string]struct{}{}} }

// join adds an entry to the next commit. The caller holds a slot of the gate, so
// that the commit cannot run between the addition of the rows and this.
func (s *Store) join(e entry) *group {
	s.groupMu.Lock()
	defer s.groupMu.Unlock()
	g := s.group
	if len(g.entries) == 0 {
		g.first = s.opts.Now()
	}
	g.entries = append(g.entries, e)
	g.days[e.day] = struct{}{}
	if g.bytes += e.size; g.bytes >= commitBytes || e.rows >= commitRows {
		select {
		case s.hurry <- struct{}{}:
		default:
		}
	}
	select {
	case s.wake <- struct{}{}:
	default: // the committer knows
	}
	return g
}

// Committed at once are commitBytes that wait, as they came, since the file that they
// make is large enough, and a batch of commitRows: its sender catches up, and waits for
// nothing else.
const (
	commitBytes = 4 << 20
	commitRows  = 10_000
)

// commitLoop commits when something waits, at most once an interval unless it is
// much. It ends with a last commit when the store closes, and once rest returns.
func (s *Store) commitLoop(commit, rest func()) {
	defer close(s.done)
	defer rest()
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-s.closing.Done():
			commit()
			return
		case <-s.wake:
		}
		select { // let an interval pass since the last commit
		case <-s.closing.Done():
			commit()
			return
		case <-next.C:
		case <-s.hurry:
		}
		commit()
		next.Reset(s.opts.CommitInterval)
	}
}

// takeGroup begins a new group and gives the one before, if it has entries. Nothing
// is added until the returned function is called.
func (s *Store) takeGroup() (g *group, release func()) {
	// Additions do not wait on each other or on anything but the disk, so this
	// needs no context that ends.
	if err := s.gate.Acquire(context.Background(), adders); err != nil {
		panic("BUG: a context without an end has ended")
	}
	s.groupMu.Lock()
	g = s.group
	s.group = newGroup()
	select {
	case <-s.hurry: // it was about the group that is committed now
	default:
	}
	s.groupMu.Unlock()
	return g, func() { s.gate.Release(adders) }
}

// commit makes the current group durable and wakes who waits for it.
func (s *Store) commit() {
	g, release := s.takeGroup()
	if len(g.entries) == 0 {
		release()
		return
	}
	s.keepReserve(true) // before the flush needs the room
	began := time.Now()
	passes := 0
	g.err = guard("commit logs", func() error {
		s.lib.DebugFlush()
		for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
			passes++
			s.flushToFiles(g.days)
			if s.nothingInMemory() {
				return nil
			}
			if passes == 100 {
				s.log.Warn("log commit takes long", "took_seconds", time.Since(began).Seconds())
			}
			time.Sleep(wait) // a merge in memory has to end first; nothing tells when
		}
	})
	missing := s.missingDays(g.days)
	release()
	if g.err == nil && len(missing) > 0 {
		s.log.Warn("log lines came for days that were removed meanwhile, for their age or for the bound of disk space", "days", missing)
	}

	s.metrics.commitSeconds.Observe(time.Since(began).Seconds())
	s.metrics.commitPasses.Add(float64(passes))
	if g.err != nil {
		// The library gave up half-way, with its locks in an unknown state: what is
		// in files is safe, but only a new process can go on writing.
		g.err = fmt.Errorf("%w (%w)", g.err, fault.ErrUnavailable)
		s.broken.Store(&g.err)
		s.log.Error("commit logs; restart to go on writing", "err", g.err)
	}
	s.settle(g, func(_ int, e *entry) (rows int, reason string, err error) {
		if g.err == nil && slices.Contains(missing, e.day) {
			return 0, droppedDayGone, nil
		}
		return e.rows, "", g.err
	})
}

// settle ends a group: verdict says how many rows of an entry are kept, and why not
// all are; it is called with the sender's lock held. An error means that the batch
// is to come again.
func (s *Store) settle(g *group, verdict func(i int, e *entry) (rows int, reason string, err error)) {
	var came []arrival
	for i := range g.entries {
		e := &g.entries[i]
		e.sender.mu.Lock()
		rows, reason, err := verdict(i, e)
		if err == nil {
			e.sender.storedLocked(e.id, e.arrival.newest)
		} else {
			delete(e.sender.pending, e.id)
			if g.failed == nil {
				g.failed = map[entryKey]error{}
			}
			g.failed[entryKey{e.sender, e.id}] = err
		}
		s.positions.settle(e.arrival.cluster, e.positions, g, err, s.opts.Now())
		e.sender.mu.Unlock()
		s.waiting.Add(-e.size)
		if err != nil {
			continue
		}
		if lost := e.rows - rows; lost > 0 {
			s.metrics.dropped.WithLabelValues(reason).Add(float64(lost))
		}
		if rows > 0 {
			s.metrics.stored.Add(float64(rows))
			s.metrics.batches.Inc()
			came = append(came, e.arrival)
		}
	}
	close(g.done)
	s.arrived.add(came)
}

// flushToFiles makes the library write the days' rows and streams to files.
func (s *Store) flushToFiles(days map[string]struct{}) {
	for d := range days {
		for _, path := range s.lib.PartitionSnapshotMustCreate(d) { // none if the day was removed meanwhile; missingDays finds it
			s.removeAll(path)
		}
	}
}

// missingDays gives those that the library has removed.
func (s *Store) missingDays(days map[string]struct{}) (missing []string) {
	there := s.lib.PartitionList()
	for d := range days {
		if !slices.Contains(there, d) {
			missing = append(missing, d)
		}
	}
	return missing
}

// nothingInMemory says that all rows, and all streams of the index, are in
// files. It is called while nothing is added, after DebugFlush.
func (s *Store) nothingInMemory() bool {
	var st logstorage.StorageStats
	s.lib.UpdateStats(&st)
	// InmemoryRowsCount is summed over the days. PendingRows holds the last
	// day's only, but after DebugFlush nothing is pending on any of them.
	if st.InmemoryRowsCount != 0 || st.PendingRows != 0 {
		return false
	}
	if st.StreamsCreatedTotal == s.durableStreams {
		return true // no new stream, so nothing new in the index
	}
	if !s.indexInFiles() {
		return false
	}
	s.durableStreams = st.StreamsCreatedTotal
	return true
}

// indexInFiles says that no part of the streams' index is in memory only. The
// library gives no figure for that, but the number of all parts, and a list of
// those in files: when they are as many, and the list did not change meanwhile,
// none is in memory.
func (s *Store) indexInFiles() bool {
	before, ok := s.indexParts()
	if !ok {
		return false
	}
	var st logstorage.StorageStats
	s.lib.UpdateStats(&st)
	after, ok := s.indexParts()
	return ok && st.IndexdbPendingItems == 0 && st.IndexdbPartsCount == uint64(len(before)) && slices.Equal(before, after)
}

// indexParts lists the index's file parts of all days.
func (s *Store) indexParts() (parts []string, ok bool) {
	for _, name := range s.lib.PartitionList() {
		names, err := readParts(s.partitionDir(name) + "/" + indexdbDir)
		if err != nil {
			return nil, false // being replaced or removed: look again
		}
		slices.Sort(names)
		for _, n := range names {
			parts = append(parts, name+"/"+n)
		}
	}
	return parts, true
}

// arrival says that a batch is durable and visible.
type arrival struct {
	seq            uint64
	cluster, batch string
	oldest, newest int64 // times of its lines
	at             time.Time
}

// arrivals keeps the newest batches in the order of their commit, for those who
// follow them.
type arrivals struct {
	mu     sync.Mutex
	recent []arrival // seq rises by one
	next   uint64    // seq of the next one
	change chan struct{}
}

// maxArrivals bounds what is kept; who falls further behind misses lines.
const maxArrivals = 16_384

func (a *arrivals) add(came []arrival) {
	if len(came) == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range came {
		c.seq = a.next
		a.next++
		a.recent = append(a.recent, c)
	}
	if n := len(a.recent) - maxArrivals; n > 0 {
		a.recent = slices.Delete(a.recent, 0, n)
	}
	if a.change != nil {
		close(a.change)
		a.change = nil
	}
}

// since gives the arrivals from seq on, the next seq, and a channel that is
// closed when there are more. A fallen-behind reader gets what is left.
func (a *arrivals) since(seq uint64) (came []arrival, next uint64, more <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.change == nil {
		a.change = make(chan struct{})
	}
	if n := len(a.recent); n > 0 && seq < a.next {
		from := max(0, n-int(min(uint64(n), a.next-seq)))
		came = slices.Clone(a.recent[from:])
	}
	return came, a.next, a.change
}

// firstSince gives the seq of the first arrival at or after t.
func (a *arrivals) firstSince(t time.Time) uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.recent {
		if !r.at.Before(t) {
			return r.seq
		}
	}
	return a.next
}
