package logs

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// Who follows containers through the API server has no file to remember an offset
// of, and may be another process tomorrow. So how far a container was taken lies
// with its lines: the last row that a batch has of it carries the position after it
// in hidden fields. Lines and position are durable together or not at all.
//
// A batch says where it begins, and one that begins before what is stored, or on its
// way to be, is refused as a whole: it is of a replica that was silent for so long
// that another took over, and knows nothing of it.
//
// All rows of a batch that says positions have the field, those without one noPosition:
// the library puts rows into columns far cheaper where all of a block have the same fields.
//
// A node's collector has its files, and shares with nobody: what it says of a position
// (wire.LogPosition.Claims) is kept for who comes after it, and is never refused; what
// begins before it is, of a reader of the API that did not hear of the collector. As it
// says so with nearly each row where little is written, its positions are counted from
// the time of the row, which makes nearly all of them alike.

const (
	// fieldPosition has a kind, a number, a source and a state with spaces between them, or
	// noPosition.
	fieldPosition = hiddenPrefix + "position"
	noPosition    = "-"

	// kinds of positions
	kindTaken = "taken" // the number is wire.LogPosition.Taken
	kindAhead = "ahead" // it is that less the row's time

	// what a query calls the parts
	partKind   = hiddenPrefix + "kind"
	partNumber = hiddenPrefix + "number"
	partSource = hiddenPrefix + "source"
	partState  = hiddenPrefix + "state"

	// maxPositions bounds the memory of all; what is forgotten is asked for again.
	maxPositions = 100_000
	// positionsAtOnce is how many containers one question is about.
	positionsAtOnce = 100
	// positionSlack is by how much a container's later lines may have earlier times.
	positionSlack = 10 * time.Minute
	// positionRowsOf is among how many of the newest rows that bear positions of a
	// container the newest position is: it may be that of an older row, by as long as a
	// record may be open while another of the container is written.
	positionRowsOf = 256
)

// positionSpans are how far back it is looked for a container's last position, one
// after the other: what writes is found in the first, and only what is silent, or
// was never heard, in more than a few minutes' rows.
var positionSpans = []time.Duration{10 * time.Minute, 3 * time.Hour, day, 8 * day}

type positionKey struct{ cluster, source string }

// positions are those of containers that were asked for or written.
type positions struct {
	mu  sync.Mutex
	byK map[positionKey]*position
}

type position struct {
	taken   int64
	state   string
	known   bool   // the two are what is durable; taken is 0 where nothing is
	pending *group // that makes the newest durable
	next    wire.LogPosition
	failed  time.Time // when a group was lost; an engine elsewhere may still show it
	used    time.Time
}

// ofLocked gives the state of a container, making room for it.
func (p *positions) ofLocked(k positionKey, now time.Time) *position {
	e := p.byK[k]
	if e == nil {
		if p.byK == nil {
			p.byK = map[positionKey]*position{}
		}
		if len(p.byK) >= maxPositions {
			for _, old := range []time.Duration{time.Hour, time.Minute, 0} {
				maps.DeleteFunc(p.byK, func(_ positionKey, o *position) bool { return o.pending == nil && now.Sub(o.used) >= old })
				if len(p.byK) < maxPositions {
					break
				}
			}
		}
		e = &position{}
		p.byK[k] = e
	}
	e.used = now
	return e
}

// forget drops those of a cluster whose rows are deleted.
func (p *positions) forget(cluster string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.byK, func(k positionKey, e *position) bool { return k.cluster == cluster && e.pending == nil })
}

// check refuses a batch that begins before what is stored or on its way. All are known.
func (p *positions) check(cluster string, ps []wire.LogPosition, now time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range ps {
		e := p.ofLocked(positionKey{cluster, ps[i].Key}, now)
		have := e.taken
		if e.pending != nil {
			have = max(have, e.next.Taken)
		}
		if ps[i].Claims() && ps[i].From < have {
			return fmt.Errorf("lines of %s/%s, container %s, were taken up to line %d by somebody else, and the batch begins after line %d: %w",
				ps[i].Namespace, ps[i].Pod, ps[i].Container, have, ps[i].From, fault.ErrConflict)
		}
	}
	return nil
}

// begin notes where containers are once the group is durable.
func (p *positions) begin(cluster string, ps []wire.LogPosition, g *group, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range ps {
		e := p.ofLocked(positionKey{cluster, strings.Clone(ps[i].Key)}, now)
		if e.pending == nil || ps[i].Taken >= e.next.Taken {
			e.pending, e.next = g, ps[i]
		}
	}
}

// settle notes what became of a group's batch.
func (p *positions) settle(cluster string, ps []wire.LogPosition, g *group, err error, now time.Time) {
	if len(ps) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range ps {
		k := positionKey{cluster, ps[i].Key}
		e := p.byK[k]
		if e == nil {
			continue
		}
		if err != nil {
			e.known, e.failed = false, now
		} else if ps[i].Taken >= e.taken {
			e.taken, e.state = ps[i].Taken, ps[i].State
		}
		if e.pending == g && e.next.Taken == ps[i].Taken {
			e.pending = nil
		}
		if !ps[i].Claims() && !e.known && e.pending == nil && e.failed.IsZero() {
			delete(p.byK, k) // nobody asks for it, mostly: then the rows say it
		}
	}
}

// checkPositions refuses a batch that begins before what is stored. Those who claim a
// container are one sender, whose lock the caller holds until begin; a batch of the
// node's collector, which claims nothing, can begin in between.
func (s *Store) checkPositions(ctx context.Context, cluster string, b *wire.LogBatch) error {
	var sources []wire.LogSource
	for i := range b.Positions {
		if b.Positions[i].Claims() {
			sources = append(sources, b.Positions[i].LogSource)
		}
	}
	if len(sources) == 0 {
		return nil
	}
	if err := s.findPositions(ctx, cluster, sources); err != nil {
		return err
	}
	if err := s.positions.check(cluster, b.Positions, s.opts.Now()); err != nil {
		s.metrics.conflicts.Inc()
		return err
	}
	return nil
}

// Positions says how far containers were taken: what is durable, once all that was
// on its way when it was asked is settled. Those of which nothing is stored are left
// out.
func (s *Store) Positions(ctx context.Context, cluster string, sources []wire.LogSource) ([]wire.LogPosition, error) {
	release, err := s.use()
	if err != nil {
		return nil, fmt.Errorf("positions of logs: %w", err)
	}
	var waiting []*group
	s.positions.mu.Lock()
	for i := range sources {
		if e := s.positions.byK[positionKey{cluster, sources[i].Key}]; e != nil && e.pending != nil && !slices.Contains(waiting, e.pending) {
			waiting = append(waiting, e.pending)
		}
	}
	s.positions.mu.Unlock()
	release() // waiting needs the committer, and must not hold up Close
	for _, g := range waiting {
		select {
		case <-g.done:
		case <-ctx.Done():
			return nil, fmt.Errorf("positions of logs: %w", context.Cause(ctx))
		}
	}
	if release, err = s.use(); err != nil {
		return nil, fmt.Errorf("positions of logs: %w", err)
	}
	defer release()
	if err := s.findPositions(ctx, cluster, sources); err != nil {
		return nil, fmt.Errorf("positions of logs: %w", err)
	}
	s.positions.mu.Lock()
	defer s.positions.mu.Unlock()
	out := []wire.LogPosition{}
	for i := range sources {
		if e := s.positions.byK[positionKey{cluster, sources[i].Key}]; e != nil && e.taken > 0 {
			out = append(out, wire.LogPosition{LogSource: sources[i], Taken: e.taken, State: e.state})
		}
	}
	return out, nil
}

// findPositions makes those known that are not: it reads the rows back.
func (s *Store) findPositions(ctx context.Context, cluster string, sources []wire.LogSource) error {
	now := s.opts.Now()
	var missing []wire.LogSource
	var failed time.Time
	s.positions.mu.Lock()
	for i := range sources {
		if e := s.positions.ofLocked(positionKey{cluster, sources[i].Key}, now); !e.known {
			missing = append(missing, sources[i])
			if e.failed.After(failed) {
				failed = e.failed
			}
		}
	}
	s.positions.mu.Unlock()
	if len(missing) == 0 {
		return nil
	}
	if s.far != nil {
		// What an engine took shows later.
		if failed.Before(s.far.opened) {
			failed = s.far.opened
		}
		if err := s.untilSettled(ctx, failed); err != nil {
			return err
		}
	}
	for from := 0; from < len(missing); from += positionsAtOnce {
		some := missing[from:min(from+positionsAtOnce, len(missing))]
		found, err := s.readPositions(ctx, cluster, some, now)
		if err != nil {
			return fmt.Errorf("read back positions of %d containers: %w", len(some), err)
		}
		s.positions.mu.Lock()
		for i := range some {
			e := s.positions.ofLocked(positionKey{cluster, some[i].Key}, now)
			if !e.known {
				if p := found[some[i].Key]; p.Taken >= e.taken {
					e.taken, e.state = p.Taken, p.State
				}
				e.known = true
			}
		}
		s.positions.mu.Unlock()
	}
	return nil
}

// readPositions gives the newest positions that the rows say.
func (s *Store) readPositions(ctx context.Context, cluster string, sources []wire.LogSource, now time.Time) (found map[string]wire.LogPosition, err error) {
	found = map[string]wire.LogPosition{}
	left := slices.Clone(sources)
	spans := append(slices.Clone(positionSpans), s.retentionOf(cluster))
	for i, span := range spans {
		last := i == len(spans)-1
		begin := now.Add(-span)
		var streams, keys strings.Builder
		for k := range left {
			if k > 0 {
				streams.WriteString(" or ")
				keys.WriteByte(',')
			}
			fmt.Fprintf(&streams, "%s=%q,%s=%q,%s=%q", wire.FieldNamespace, left[k].Namespace, wire.FieldPod, left[k].Pod, wire.FieldContainer, left[k].Container)
			keys.WriteString(strconv.Quote(left[k].Key))
		}
		var bad error
		before := map[string]bool{} // whose newest row may not be the newest of all
		take := func(kind, source string, row func(name string) string) {
			at, _ := time.Parse(time.RFC3339Nano, row("_time"))
			taken, err := strconv.ParseInt(row(partNumber), 10, 64)
			if err != nil {
				return
			}
			if kind == kindAhead {
				taken += at.UnixNano()
			}
			source, p := strings.Clone(source), wire.LogPosition{Taken: taken, State: strings.Clone(row(partState))}
			if p.Taken >= found[source].Taken {
				found[source], before[source] = p, !last && at.Before(begin)
			}
		}
		from, until := begin.Add(-positionSlack).UnixNano(), now.Add(aheadLimit).UnixNano()
		of := func(kind string) string {
			return fmt.Sprintf(`{%s} %s:contains_any(%s) | fields _time, %s | extract "<%s> <%s> <%s> <plain:%s>" from %s | filter %s:=%s %s:in(%s)`, streams.String(), fieldPosition, keys.String(),
				fieldPosition, partKind, partNumber, partSource, partState, fieldPosition, partKind, kind, partSource, keys.String())
		}
		err = s.ask(ctx, cluster, fmt.Sprintf("%s | stats by (%s) row_max(%s, _time, %s, %s) p", of(kindTaken), partSource, partNumber, partNumber, partState), from, until, func(r Row) {
			var row map[string]string
			if err := json.Unmarshal([]byte(r.Get("p")), &row); err != nil {
				bad = fmt.Errorf("position of %s: %w", r.Get(partSource), err)
				return
			}
			take(kindTaken, r.Get(partSource), func(name string) string { return row[name] })
		})
		if err == nil {
			err = bad
		}
		if err == nil {
			err = s.ask(ctx, cluster, fmt.Sprintf("%s | fields _time, %s, %s, %s | last %d by (_time) partition by (%s)", of(kindAhead), partSource, partNumber, partState, positionRowsOf, partSource), from, until, func(r Row) {
				take(kindAhead, r.Get(partSource), r.Get)
			})
		}
		if err != nil {
			return nil, err
		}
		maps.DeleteFunc(found, func(source string, _ wire.LogPosition) bool { return before[source] })
		left = slices.DeleteFunc(left, func(l wire.LogSource) bool { _, ok := found[l.Key]; return ok })
		if len(left) == 0 {
			break
		}
	}
	return found, nil
}

// positionValue gives a position as a row of a time, in Unix nanoseconds, carries it.
func positionValue(p *wire.LogPosition, at int64) string {
	kind, number := kindTaken, p.Taken
	if !p.Claims() {
		kind, number = kindAhead, p.Taken-at
	}
	return kind + " " + strconv.FormatInt(number, 10) + " " + p.Key + " " + p.State
}

// positionRows says which groups' last rows carry positions: of each container the
// last group that it has.
func positionRows(b *wire.LogBatch) map[int]*wire.LogPosition {
	if len(b.Positions) == 0 {
		return nil
	}
	type container struct{ namespace, pod, name string }
	last := make(map[container]int, len(b.Groups))
	for i := range b.Groups {
		if st := &b.Groups[i].Stream; len(b.Groups[i].Lines) > 0 {
			last[container{st.Namespace, st.Pod, st.Container}] = i
		}
	}
	out := make(map[int]*wire.LogPosition, len(b.Positions))
	for i := range b.Positions {
		p := &b.Positions[i]
		if g, ok := last[container{p.Namespace, p.Pod, p.Container}]; ok {
			out[g] = p
		}
	}
	return out
}
