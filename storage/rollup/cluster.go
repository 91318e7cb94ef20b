package rollup

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// maxOpenIntervals of one cluster; the oldest is dropped beyond it. 48 h of
// 10 s intervals fit.
const maxOpenIntervals = 20_000

// spareSums is how many intervals' sums are kept for the next ones: while one is written,
// another one may be waited for.
const spareSums = 2

// sparseRoom is by how many times more than what is there may be taken before it is given back.
const sparseRoom = 4

// cluster is the state of one cluster.
type cluster struct {
	id string

	writing sync.Mutex // held while intervals are written, before mu

	mu          sync.Mutex
	interval    int64 // of the slowest active sender, milliseconds; 0 while unknown
	senders     map[string]*sender
	nodes       map[string]time.Time // expected by the inventory, since when they are known
	heard       time.Time            // when anybody reported last
	back        time.Time            // when somebody reported again after all had been silent
	groups      []map[string]*group  // by tally and key
	numbered    []*group             // by their numbers, the first of which none has; nil: given back
	freeNumbers []uint32             // given back by groups that are gone, the lowest last
	spare       [][]sum              // that others may use, at most spareSums
	open        map[int64]*span
	closed      map[int64]struct{} // written or given up, within the lookback
	coverageRef storage.SeriesRef  // touched by the writer only
	newest      int64              // newest point that was opened
	written     int64              // newest point that was written
	passed      int64              // newest point of a sample that passed, on the grid or not
	unseen      int64              // up to here samples may have passed without being summed
	forgot      time.Time          // when what is past the lookback was dropped last
	swept       time.Time          // when groups that are gone were

	newestSeries newestSeries // with a lock of its own, under which no other is taken

	// Of intervals of the past, see backlog.go.
	owned      int               // open intervals of the past that are summed as they pass
	windows    map[int64]*window // by their begin
	lateNewest int64             // newest point that was
	lateUnseen int64             // up to here what series have added is not known
	lateBegan  time.Time         // the first of those that followed each other was opened
	lateOpened time.Time         // the newest was
	askAfter   time.Time         // the store failed to say what it has
}

type sender struct {
	interval int64     // milliseconds
	first    int64     // oldest point that it reported
	through  int64     // newest point that it reported
	heard    time.Time // when it reported anything last, by the server's clock
}

// span is one open interval, (at − interval, at].
type span struct {
	at       int64
	opened   time.Time
	progress time.Time // when a sender reported it last, or opened
	reported map[string]struct{}
	need     int   // senders that must have reported before it is worth a look
	sums     []sum // by the groups' numbers; nil: the store is read
	past     bool  // it is of the past, and has sums

	look     time.Time // not worth a look before, unless enough senders report
	ready    time.Time // since when it waits for others that are read from the store with it
	coverage float64
	complete bool
	outcome  string
}

// group is one sum: a workload's CPU. Open intervals have its value, by its number.
type group struct {
	tally  int
	key    string
	number uint32
	feeds  int32    // series that add to it
	series []series // one for each output of the tally, once written
	last   int64    // newest point that was written of it while it was newer than all others
}

// series is a rollup as it is stored.
type series struct {
	lset  labels.Labels
	ref   storage.SeriesRef
	live  bool // has a sample that no stale marker followed
	wrote bool // has one of the interval that is being written, and is newer than all others
}

func newCluster(id string, tallies int) *cluster {
	c := &cluster{
		id: id, senders: map[string]*sender{}, nodes: map[string]time.Time{},
		groups: make([]map[string]*group, tallies), numbered: make([]*group, 1), open: map[int64]*span{}, closed: map[int64]struct{}{}, windows: map[int64]*window{},
		newestSeries: newestSeries{of: map[string]*newestOf{}},
	}
	for i := range c.groups {
		c.groups[i] = map[string]*group{}
	}
	return c
}

func (c *cluster) groupLocked(tally int, key []byte) *group {
	g := c.groups[tally][string(key)]
	if g == nil {
		g = &group{tally: tally, key: string(key)}
		if n := len(c.freeNumbers); n > 0 {
			g.number, c.freeNumbers = c.freeNumbers[n-1], c.freeNumbers[:n-1]
			c.numbered[g.number] = g
		} else {
			g.number = uint32(len(c.numbered))
			c.numbered = append(c.numbered, g)
		}
		c.groups[tally][g.key] = g
	}
	return g
}

// sumsLocked gives room for the sums of an interval.
func (c *cluster) sumsLocked() []sum {
	need := len(c.numbered)
	if n := len(c.spare); n > 0 {
		s := c.spare[n-1]
		c.spare = c.spare[:n-1]
		if cap(s) >= need && cap(s) <= sparseRoom*need {
			s = s[:need]
			clear(s)
			return s
		}
	}
	return make([]sum, need)
}

// giveBackLocked ends with the sums of an interval.
func (c *cluster) giveBackLocked(iv *span) {
	if iv.sums != nil && len(c.spare) < spareSums {
		c.spare = append(c.spare, iv.sums)
	}
	iv.sums = nil
}

// add adds a value to the groups of a feed; false when it is none that can be summed.
func (iv *span) add(f *Feed, v float64) (ok bool) {
	for _, number := range f.near {
		if number == 0 {
			return ok
		}
		ok = iv.addTo(number, v)
	}
	if f.rare != nil {
		for _, number := range f.rare.far {
			ok = iv.addTo(number, v)
		}
	}
	return ok
}

func (iv *span) addTo(number uint32, v float64) bool {
	iv.sums = upTo(iv.sums, number)
	return iv.sums[number].add(v)
}

// upTo has sums reach up to a group's number.
func upTo(sums []sum, number uint32) []sum {
	if n := int(number) + 1 - len(sums); n > 0 {
		sums = append(sums, make([]sum, n)...)
	}
	return sums
}

// openLocked gives the interval of a point, opened if need be; nil when it is
// closed already.
func (c *cluster) openLocked(r *Rollups, at int64, now time.Time) *span {
	if iv := c.open[at]; iv != nil {
		return iv
	}
	if _, closed := c.closed[at]; closed {
		return nil
	}
	if at <= now.Add(-r.opts.Lookback).UnixMilli() {
		return nil // the store takes no rollup that old
	}
	iv := &span{at: at, opened: now, progress: now, reported: map[string]struct{}{}}
	// Its samples all pass here if it is newer than anything that may have
	// passed before this process began.
	if r.late(at, now) {
		if now.Sub(c.lateOpened) > graceLate {
			c.lateBegan = now
		}
		c.lateOpened = now
		c.tapLateLocked(r, iv)
	} else if c.sinceBornLocked(r, at) && at > c.newest-tapped*c.interval {
		iv.sums = c.sumsLocked()
	}
	c.open[at] = iv
	if at > c.newest {
		c.newest = at
		c.untapLocked(at - tapped*c.interval)
	}
	if len(c.open) > maxOpenIntervals {
		oldest := slices.Min(mapKeys(c.open))
		c.closeLocked(oldest)
		r.metrics.dropped.WithLabelValues(reasonTooMany).Inc()
	}
	return c.open[at]
}

// untapLocked leaves open live intervals up to a point to the store.
func (c *cluster) untapLocked(through int64) {
	for at, iv := range c.open {
		if at <= through && !iv.past {
			c.leaveLocked(iv)
		}
	}
}

func (c *cluster) closeLocked(at int64) {
	if iv := c.open[at]; iv != nil {
		c.leaveLocked(iv)
	}
	delete(c.open, at)
	c.closed[at] = struct{}{}
}

// reportLocked notes a report and says whether an interval may be due.
func (c *cluster) reportLocked(r *Rollups, rep Report, now time.Time) (due bool) {
	through := rep.Through.UnixMilli()
	if now.Sub(c.heard) > max(missedIntervals*rep.Interval, time.Minute) {
		c.back = now
	}
	c.heard = now
	s := c.senders[rep.Sender]
	if s == nil {
		s = &sender{first: through}
		c.senders[rep.Sender] = s
	}
	s.interval, s.heard = rep.Interval.Milliseconds(), now
	s.first, s.through = min(s.first, through), max(s.through, through)
	if s.interval != c.interval {
		c.paceLocked()
	}

	note := func(iv *span) {
		if _, twice := iv.reported[rep.Sender]; !twice {
			iv.reported[rep.Sender] = struct{}{}
			iv.progress = now
			if len(iv.reported) >= iv.need {
				iv.look, due = time.Time{}, true
			}
		}
	}
	if through%c.interval == 0 {
		if iv := c.openLocked(r, through, now); iv != nil {
			note(iv)
		}
	}
	if rep.Backlog {
		for at, iv := range c.open {
			if at < through {
				note(iv)
			}
		}
	}
	return due
}

// paceLocked sets the cluster's interval to the slowest one among the senders
// that still report: a point that only some of them have would be a partial sum.
func (c *cluster) paceLocked() {
	var newest, slowest int64
	for _, s := range c.senders {
		newest = max(newest, s.through)
	}
	for _, s := range c.senders {
		if s.through >= newest-missedIntervals*s.interval-maxAhead.Milliseconds() {
			slowest = max(slowest, s.interval)
		}
	}
	if slowest == 0 || slowest == c.interval {
		return
	}
	if c.interval != 0 {
		// What series remember of the points that they have added to is of that grid.
		c.untapLocked(c.newest)
		c.leaveLateLocked()
		for at := range c.open {
			if at%slowest != 0 {
				c.closeLocked(at) // no point of the new grid
			}
		}
	}
	c.interval = slowest
	c.unseen = c.passed // what was off the old grid may be on the new one
}

// dueLocked picks the intervals to write now, and says when the next decision is
// due. Those of the past that gathered to be read together come last; before and
// among them the oldest is first.
func (c *cluster) dueLocked(r *Rollups, now time.Time, nodes []string) (due []*span, next time.Time) {
	next = now.Add(time.Hour)
	if c.interval == 0 {
		return nil, next
	}
	c.knowNodesLocked(nodes, now)
	if now.Sub(c.forgot) >= 10*time.Second {
		c.forgot = now
		c.forgetLocked(r, now)
		c.paceLocked()
	}
	grace := min(time.Duration(c.interval)*time.Millisecond/3, 10*time.Second)
	// What is not decided is looked at again, because nodes come, go and fall
	// silent; seldom when it is a long backlog.
	again := time.Second
	if len(c.open) > 100 {
		again = 30 * time.Second
	}
	var reads []*span
	for _, iv := range c.open {
		if iv.past && now.Sub(iv.opened) > backlogAge {
			c.leaveLocked(iv)
		}
		if now.Before(iv.look) {
			next = earlier(next, iv.look)
			continue
		}
		wait, deadline := r.opts.MaxOpen, later(time.UnixMilli(iv.at), iv.opened).Add(grace)
		if iv.opened.Sub(time.UnixMilli(iv.at)) > r.opts.MaxOpen {
			// Senders of a site that is back are minutes apart, and nobody waits for its sums.
			wait, deadline = r.opts.MaxLate, iv.progress.Add(graceLate)
			// Who else brings a backlog nobody has said: of a server that knows the senders
			// by their live data only, the first of them would be all that there are.
			if all := c.lateBegan.Add(heardFor); now.Before(all) {
				iv.look = all
				next = earlier(next, all)
				continue
			}
		}
		e := c.expectedLocked(iv, now, wait)
		iv.coverage = 0
		if e.expected > 0 {
			iv.coverage = float64(e.have) / float64(e.expected)
		}
		iv.complete = e.have > 0 && e.have == e.expected
		iv.need = len(iv.reported) + e.missing
		enough := iv.coverage >= r.opts.Coverage
		aged := iv.progress.Add(wait)
		switch {
		case iv.complete:
			iv.outcome = outcomeComplete
		case e.have > 0 && e.missing == 0 && enough:
			iv.outcome = outcomeDeadline // nobody is left to wait for
		case e.have > 0 && e.missing == 0 && e.silent:
			iv.outcome = outcomeAged // those missing have been silent for as long as an interval waits
		case enough && !now.Before(deadline) && (now.Sub(iv.progress) >= lull || !now.Before(deadline.Add(grace))):
			iv.outcome = outcomeDeadline
		case !now.Before(aged):
			iv.outcome = outcomeAged
		default:
			iv.look = earlier(aged, now.Add(again))
			for _, due := range []time.Time{deadline, deadline.Add(grace)} {
				if now.Before(due) {
					iv.look = earlier(iv.look, due)
				}
			}
			next = earlier(next, iv.look)
			continue
		}
		if c.gathersLocked(r, iv, now) {
			reads = append(reads, iv)
		} else {
			due = append(due, iv)
		}
	}
	byTime := func(a, b *span) int { return cmp.Compare(a.at, b.at) }
	slices.SortFunc(due, byTime)
	slices.SortFunc(reads, byTime)
	gathered, more := c.gatheredLocked(r, reads, now)
	return append(due, gathered...), earlier(next, more)
}

// expectation is what an interval waits for, in senders.
type expectation struct {
	expected int  // its coverage is measured by
	have     int  // of these, that reported
	missing  int  // of these, that have not, and were there up to two intervals before
	silent   bool // the others have been silent for as long as an interval waits
}

func (c *cluster) expectedLocked(iv *span, now time.Time, wait time.Duration) expectation {
	e := expectation{silent: true}
	// A cluster whose nodes have collectors of their own lacks them also when all
	// of them are silent: a site that is back tells of its objects first. One
	// collector for everything stands for the nodes.
	byNode, all := false, false
	for name, s := range c.senders {
		_, reported := iv.reported[name]
		all = all || (reported && name == wire.RoleAll)
		byNode = byNode || isNodeSender(name) && s.first <= iv.at
		switch {
		case reported:
			e.have++
		case s.first > iv.at || s.through < iv.at-missedIntervals*c.interval:
			continue // it began later, or is waited for no more
		default:
			e.missing++
		}
		e.expected++
	}
	if !byNode || all {
		return e
	}
	// Nodes are expected even when their sender is not waited for.
	for node, since := range c.nodes {
		if s := c.senders[nodeSender(node)]; s != nil {
			if s.first > iv.at || s.through >= iv.at-missedIntervals*c.interval {
				continue // counted above, or it began later
			}
			if _, reported := iv.reported[nodeSender(node)]; reported {
				continue
			}
			since = s.heard
		}
		e.expected++
		// While all were silent, the way to them was cut: no sign of a dead node.
		e.silent = e.silent && now.Sub(later(since, c.back)) >= wait
	}
	return e
}

// knowNodesLocked takes the inventory's nodes.
func (c *cluster) knowNodesLocked(nodes []string, now time.Time) {
	for _, n := range nodes {
		if _, ok := c.nodes[n]; !ok {
			c.nodes[n] = now
		}
	}
	if len(c.nodes) == len(nodes) {
		return
	}
	seen := make(map[string]struct{}, len(nodes))
	for _, n := range nodes {
		seen[n] = struct{}{}
	}
	for n := range c.nodes {
		if _, ok := seen[n]; !ok {
			delete(c.nodes, n)
		}
	}
}

// forgetLocked drops what is past the lookback.
func (c *cluster) forgetLocked(r *Rollups, now time.Time) {
	border := now.Add(-r.opts.Lookback).UnixMilli()
	for at := range c.closed {
		if at <= border {
			delete(c.closed, at)
		}
	}
	for name, s := range c.senders {
		// A node that the inventory has is remembered: when its site is back after
		// longer than this, intervals must wait for it.
		node, is := strings.CutPrefix(name, nodeSender(""))
		if _, there := c.nodes[node]; s.through <= border && !(is && there) {
			delete(c.senders, name)
		}
	}
	for from := range c.windows {
		if from+windowSpan <= border {
			delete(c.windows, from)
		}
	}
	for at, iv := range c.open {
		if at <= border {
			c.leaveLocked(iv)
			delete(c.open, at)
			r.metrics.dropped.WithLabelValues(reasonTooOld).Inc()
		}
	}
}

func mapKeys[K comparable, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	return keys
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
