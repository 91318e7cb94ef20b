package simulate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/crowsnest-dev/crowsnest/collector"
	"github.com/crowsnest-dev/crowsnest/collector/logs"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

const (
	liveWindow = 2 * time.Second  // lines go out so often
	pastWindow = 30 * time.Second // a batch of history
	// maxHistoryLines bounds what a start sends: a large fleet's history is shorter.
	maxHistoryLines = 150_000
)

// source is the fleet's lines and events as collector.Logs. It has a fleet of its
// own, which it moves from window to window, so that what it sends is a function
// of the window alone.
type source struct {
	opts Options
	only bool // history only

	mu     sync.Mutex
	health wire.LogHealth
}

var _ collector.Logs = (*source)(nil)

func (f *Fleet) newLogs(historyOnly bool) *source {
	return &source{opts: f.opts, only: historyOnly, health: wire.LogHealth{Dropped: map[string]int64{}}}
}

// Health counts lines and events.
func (s *source) Health() wire.LogHealth {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.health
	h.Dropped = map[string]int64{"refused": s.health.Dropped["refused"]}
	return h
}

// Run sends what of the history was not sent before, then goes on live.
func (s *source) Run(ctx context.Context, sink collector.LogSink) error {
	now := s.opts.Now()
	from := now.Truncate(pastWindow)
	if s.opts.History > 0 {
		depth := s.opts.History
		if lines := s.opts.LogLines * depth.Seconds(); lines > maxHistoryLines {
			depth = time.Duration(maxHistoryLines / s.opts.LogLines * float64(time.Second))
		}
		from = now.Add(-depth).Truncate(pastWindow)
	}
	if t, ok := s.position(); ok && t.After(from) && t.Before(now.Add(time.Minute)) {
		from = t
	}
	f := newFleet(s.opts)
	f.quiet = false
	f.Advance(from)
	end := now.Truncate(liveWindow)
	for at := from; at.Before(end) && ctx.Err() == nil; {
		next := at.Truncate(pastWindow).Add(pastWindow)
		if next.After(end) {
			next = end
		}
		if !s.window(ctx, sink, f, at, next) {
			return nil
		}
		at = next
	}
	if s.only {
		return nil
	}
	tick := time.NewTicker(liveWindow)
	defer tick.Stop()
	for at := end; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for next := at.Add(liveWindow); !next.After(s.opts.Now()); next = at.Add(liveWindow) {
			if !s.window(ctx, sink, f, at, next) {
				return nil
			}
			at = next
		}
	}
}

// window sends the lines and events of [from, to). It is false when ctx ended.
func (s *source) window(ctx context.Context, sink collector.LogSink, f *Fleet, from, to time.Time) bool {
	for i, b := range f.batches(from, to, s.opts.Sender) {
		n := int64(b.Lines())
		b.ID = fmt.Sprintf("sim-%x-%d-%d-%d", hash(s.opts.Seed, uint64(s.opts.Nodes), uint64(s.opts.PodsPerNode))>>32, from.UnixMilli(), to.UnixMilli(), i)
		s.count(func(h *wire.LogHealth) { h.Read += n; h.Containers = len(f.state.Pods) })
		for wait := 500 * time.Millisecond; ; wait = min(2*wait, 30*time.Second) {
			err := sink.Send(ctx, b)
			if err == nil {
				s.count(func(h *wire.LogHealth) { h.Sent += n })
				break
			}
			if ctx.Err() != nil {
				return false
			}
			if errors.Is(err, fault.ErrInvalid) || errors.Is(err, fault.ErrTooLarge) || errors.Is(err, fault.ErrMalformed) {
				s.opts.Logger.Error("simulated log batch refused", "batch", b.ID, "err", err)
				s.count(func(h *wire.LogHealth) { h.Dropped["refused"] += n })
				break
			}
			s.opts.Logger.Warn("send simulated logs", "retry_seconds", wait.Seconds(), "err", err)
			t := time.NewTimer(wait)
			select {
			case <-ctx.Done():
				t.Stop()
				return false
			case <-t.C:
			}
		}
	}
	s.keep(to)
	return true
}

func (s *source) count(fn func(*wire.LogHealth)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn(&s.health)
}

type position struct {
	Through time.Time `json:"through"`
}

func (s *source) path() string { return filepath.Join(s.opts.Dir, "simulated-logs.json") }

func (s *source) position() (time.Time, bool) {
	if s.opts.Dir == "" {
		return time.Time{}, false
	}
	raw, err := os.ReadFile(s.path())
	var p position
	if err == nil {
		err = json.Unmarshal(raw, &p)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.opts.Logger.Warn("read position of simulated logs", "err", err)
	}
	return p.Through, err == nil
}

// keep notes how far logs were sent. It is not synced: after a crash of the
// machine some simulated lines come twice.
func (s *source) keep(through time.Time) {
	if s.opts.Dir == "" {
		return
	}
	raw, err := json.Marshal(position{through})
	if err == nil {
		err = os.MkdirAll(s.opts.Dir, 0o755)
	}
	if err == nil {
		err = os.WriteFile(s.path()+".tmp", raw, 0o600)
	}
	if err == nil {
		err = os.Rename(s.path()+".tmp", s.path())
	}
	if err != nil {
		s.opts.Logger.Warn("keep position of simulated logs", "err", err)
	}
}

// batches makes the lines and events of [from, to), which lie in one UTC day
// because the windows do. The fleet is at from and is moved to to.
func (f *Fleet) batches(from, to time.Time, sender string) []*wire.LogBatch {
	f.mu.Lock()
	f.events = f.events[:0]
	f.mu.Unlock()
	// The lines are those of the pods that there are at the end of the window, and
	// of those that went in it.
	before := map[*life]bool{}
	var lives []*life
	for _, n := range f.nodes {
		for _, l := range f.running[n] {
			before[l] = true
			lives = append(lives, l)
		}
	}
	f.Advance(to)
	for _, n := range f.nodes {
		for _, l := range f.running[n] {
			if !before[l] {
				lives = append(lives, l)
			}
		}
	}
	var out []*wire.LogBatch
	b := &wire.LogBatch{Sender: sender}
	lines := 0
	flush := func() {
		if lines > 0 {
			out = append(out, b)
			b, lines = &wire.LogBatch{Sender: sender}, 0
		}
	}
	put := func(st wire.LogStream, ls []wire.LogLine) {
		for len(ls) > 0 {
			n := min(len(ls), 10_000-lines)
			b.Groups = append(b.Groups, wire.LogGroup{Stream: st, Lines: ls[:n:n]})
			lines += n
			if ls = ls[n:]; lines >= 10_000 {
				flush()
			}
		}
	}
	perSlot := f.opts.LogLines / float64(max(1, f.opts.Nodes*f.opts.PodsPerNode))
	a, z := float64(from.Sub(origin))/1e9, float64(to.Sub(origin))/1e9
	for _, l := range lives {
		st := wire.LogStream{Namespace: l.s.w.namespace, Pod: l.name, Container: l.s.w.name, Stream: "stdout",
			WorkloadType: l.s.w.typ, Workload: l.s.w.name, Node: l.s.n.name}
		if ls := f.linesOf(l, perSlot, a, z); len(ls) > 0 {
			put(st, ls)
		}
	}
	for _, e := range f.events {
		at := f.real(e.at)
		if at.Before(from) { // it was only found now
			at = from
		}
		if !at.Before(to) {
			at = to.Add(-time.Millisecond)
		}
		st := wire.LogStream{Namespace: e.namespace, Pod: e.podName, Stream: wire.StreamEvents, WorkloadType: e.workloadType, Workload: e.workload, Node: e.node}
		put(st, []wire.LogLine{{Time: at.UnixNano(), Message: e.text, Fields: wire.LogFields{
			{Name: "kind", Value: e.kind}, {Name: "name", Value: e.name}, {Name: "reason", Value: e.reason}, {Name: "type", Value: e.typ}, {Name: "count", Value: "1"}, {Name: "uid", Value: e.uid}}}})
	}
	// All that was written before is in these.
	for _, n := range f.nodes {
		b.Complete = append(b.Complete, wire.LogMark{Node: n.name, Through: to.UnixNano() - 1})
	}
	if lines > 0 || len(b.Complete) > 0 {
		lines = max(lines, 1)
		flush()
	}
	return out
}

// linesOf makes a container's lines between two real times, in seconds since
// origin. The n-th line has its own moment, so each belongs to one window.
func (f *Fleet) linesOf(l *life, rate, a, z float64) []wire.LogLine {
	if l.begin[0].IsZero() || rate <= 0 {
		return nil
	}
	s := l.s
	rate *= 1.7 * between(0.3, 1.7, s.key, 112) // 1.7: for what nights and idle ones leave out
	if s.w.trouble == idle {
		rate *= 0.2
	}
	begin := l.begin[0].Sub(origin).Seconds()
	sick := l.fault != noFault || l.phase == backOff
	var out []wire.LogLine
	add := func(at float64, text string) {
		nanos := origin.UnixNano() + int64(at*1e9)
		m, fields := logs.Parse(text, nanos)
		out = append(out, wire.LogLine{Time: nanos, Message: m, Fields: fields})
	}
	if s.w.trouble == crashes || l.crashes > 0 {
		if end := f.ended(l); end >= a && end < z {
			add(end, s.last(l.id))
		}
	}
	if l.phase == running && z > begin {
		daily, _ := s.w.daily.at(a * f.opts.Speed)
		for n := math.Ceil(math.Max(a, begin) * rate); n < z*rate; n++ {
			if unit(s.key, 113, math.Float64bits(n)) > 0.65*(1+daily) {
				continue // nights are quieter
			}
			if at := n / rate; at >= a && at < z {
				add(at, s.line(int64(n), sick))
			}
		}
	}
	slices.SortStableFunc(out, func(x, y wire.LogLine) int { return int(x.Time - y.Time) })
	return out
}

// ended is when the last instance ended, in real seconds since origin.
func (f *Fleet) ended(l *life) float64 {
	if l.last == nil {
		return math.Inf(-1)
	}
	return l.last.FinishedAt.Sub(origin).Seconds()
}
