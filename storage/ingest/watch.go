package ingest

import (
	"math"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
)

// Watch says which samples somebody wants to hear of by name. It is never changed: who
// wants to hear of others makes another one, by which all is new again.
type Watch struct {
	of map[string]*Odd // by metric
}

// NewWatch makes one of the metrics that have odd samples.
func NewWatch(of map[string]*Odd) *Watch { return &Watch{of: of} }

// Of tells which samples of a metric are odd; nil: none is.
func (w *Watch) Of(metric string) *Odd { return w.of[metric] }

// Odd says which samples of a metric are odd. What is no number always is, unless it is a
// stale marker, which never is.
type Odd struct {
	From  float64   // this and more; +Inf: none for being much
	To    float64   // this and less; -Inf: none for being little
	Equal []float64 // these
	Other []float64 // everything but one of these
	Moves bool      // what is neither 0 nor what the series was told with last and has had ever since
}

// NewOdd gives one by which no number is odd.
func NewOdd() *Odd { return &Odd{From: math.Inf(1), To: math.Inf(-1)} }

// Is tells whether a value is odd by itself.
func (o *Odd) Is(v float64) bool {
	if v < o.From && v > o.To && len(o.Equal)+len(o.Other) == 0 {
		return false // nearly all
	}
	if math.IsNaN(v) {
		return !value.IsStaleNaN(v)
	}
	return v >= o.From || v <= o.To || slices.Contains(o.Equal, v) || slices.ContainsFunc(o.Other, func(x float64) bool { return x != v })
}

// IfMoved tells whether a value is odd unless the series has it and was told with it.
func (o *Odd) IfMoved(v float64) bool { return o.Moves && v != 0 && !value.IsStaleNaN(v) }

// had is what a series moved to last and has had ever since, by what was watched then.
type had struct {
	v  float64
	by *Watch
	of uint64 // the turn of the request that brought it and is not committed yet, or never will be; 0: it was told
}

// noted is a sample that may be odd, of a request that is not committed yet.
type noted struct {
	of    *series
	moved bool // it is odd by having moved
}

// watched tells which samples of an origin's series are odd. It looks them up once for
// what is watched.
func (g *origin) watched(by *Watch) *Odd {
	have := g.odd.Load()
	if have == nil || have.by != by {
		have = &watchedOrigin{by, by.Of(g.name)}
		g.odd.Store(have)
	}
	return have.odd
}

type watchedOrigin struct {
	by  *Watch
	odd *Odd
}

// watch notes a sample that was stored if it is odd.
func (q *request) watch(s *series, t int64, v float64) {
	if q.watching == nil {
		return
	}
	odd := s.metric.watched(q.watching)
	if odd == nil {
		return
	}
	moved := false
	switch {
	case !odd.Moves:
	case !odd.IfMoved(v):
		moved = q.c.fell(s) && t < s.newest.Load() // then it is what comes after it that rises
	case t < s.newest.Load(): // what the series has now is another one
		q.c.fell(s)
		moved = true
	default:
		moved = q.moves(s, v)
	}
	if moved || odd.Is(v) {
		q.note(noted{s, moved}, t)
	}
}

// conflict notes a sample in whose place the store has another one: that may be of a
// commit that failed, so that nobody heard of it.
func (q *request) conflict(s *series, t int64) {
	if q.watching != nil && s.metric.watched(q.watching) != nil {
		q.note(noted{of: s}, t)
	}
}

// note keeps what may be odd until it is committed.
func (q *request) note(n noted, t int64) {
	q.oddest = max(q.oddest, t)
	if len(q.noted) >= maxNamed {
		q.unnoted = true
		return
	}
	q.noted = append(q.noted, n)
}

// moves tells whether a series did not have a value already that was told, or is by this
// request, and remembers it.
func (q *request) moves(s *series, v float64) bool {
	m := &q.c.moves
	m.Lock()
	defer m.Unlock()
	if have := m.last[s]; have.by == q.watching && have.v == v && (have.of == 0 || have.of == q.turn) {
		return false
	}
	if s.is(isGone) {
		return true
	}
	if q.turn == 0 {
		m.turns++
		q.turn = m.turns
	}
	m.last[s] = had{v, q.watching, q.turn}
	s.mark(hasRisen)
	return true
}

// fell forgets what a series moved to, if it did: when it is there again, it has moved.
func (c *cluster) fell(s *series) bool {
	if !s.is(hasRisen) {
		return false // nearly all
	}
	c.moves.Lock()
	defer c.moves.Unlock()
	delete(c.moves.last, s)
	return s.unmark(hasRisen)
}

// told tells what is odd of a request that was committed, and of which series; false: it
// is not known, or too much.
func (q *request) told() (odd []labels.Labels, newest time.Time, ok bool) {
	if q.watching == nil || q.unnoted {
		return nil, time.Time{}, false
	}
	if len(q.noted) == 0 {
		return nil, time.Time{}, true
	}
	odd = make([]labels.Labels, 0, len(q.noted))
	q.c.moves.Lock()
	defer q.c.moves.Unlock()
	for _, n := range q.noted {
		odd = append(odd, n.of.lset)
		if have := q.c.moves.last[n.of]; n.moved && have.of == q.turn && q.turn != 0 {
			have.of = 0
			q.c.moves.last[n.of] = have
		}
	}
	return odd, time.UnixMilli(q.oddest).UTC(), true
}
