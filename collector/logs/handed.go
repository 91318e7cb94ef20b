package logs

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// A node's collector may find at a start containers that were followed until now, through the
// API server or by a collector whose folder is gone. How far that went lies with the
// lines, and their files are read from there on.
//
// And each batch of a node's collector says how far it took its containers, for who
// follows them through the API server after it.

// handOn is how far a node's collector took a container: where it is in the newest of
// its files.
type handOn struct {
	instance int
	mark     *reached
}

// position says it to the server. From Taken, which is the time of the newest line
// nearly always, the time follows: so most states are alike.
func (h handOn) position(c Container) wire.LogPosition {
	mark := *h.mark
	taken := mark.At + mark.Lag
	mark.At = 0
	state, err := json.Marshal(apiPos{Restarts: h.instance, File: &mark})
	if err != nil {
		panic("BUG: a position cannot be written as JSON: " + err.Error())
	}
	return wire.LogPosition{LogSource: wire.LogSource{Key: c.key(), Namespace: c.Namespace, Pod: c.Pod, Container: c.Container}, From: taken, Taken: taken, State: string(state)}
}

// taken is what the server calls so.
func (p filePos) taken() int64 {
	if p.Mark == nil {
		return 0
	}
	return p.Mark.At + p.Mark.Lag
}

// positionsBy gives the positions of a batch, in the order of their keys.
func positionsBy(reached map[Container]handOn) []wire.LogPosition {
	var out []wire.LogPosition
	for c, h := range reached {
		if h.mark.At > 0 {
			out = append(out, h.position(c))
		}
	}
	slices.SortFunc(out, func(a, b wire.LogPosition) int { return strings.Compare(a.Key, b.Key) })
	return out
}

// handedOn gives how far a batch brought its containers, by the positions of its files.
func (r *Files) handedOn(to map[string]filePos) map[Container]handOn {
	out := map[Container]handOn{}
	newest := map[Container]int64{}
	for _, p := range to {
		c, ok := r.containerOf(p)
		name := strings.TrimSuffix(filepath.Base(p.Path), packedSuffix)
		if instance, _, named := nameOf(name); ok && named && p.Mark != nil && p.taken() > newest[c] {
			newest[c], out[c] = p.taken(), handOn{instance, p.Mark}
		}
	}
	return out
}

// handed is how far another reader took a container: to a line that is known by its
// time and its content, or by its place among those of its time.
type handed struct {
	to      apiPos
	taken   int64 // what the server calls so
	passed  bool  // that line has gone by
	matches int   // lines like it so far
	begun   bool  // a line of its instance was seen in a file
	gap     drop  // what lies between that line and the first that there is
	left    bool  // of the file that was looked at, lines that the other reader missed
}

// missed says whether the other reader could not have a line.
func (h *handed) missed(s spot, at int64) bool {
	return slices.ContainsFunc(h.to.Missed, func(m missed) bool { return m.has(s, at) })
}

// begins notes the first line of the instance of the other's last line.
func (h *handed) begins(at int64) {
	if !h.begun && at > h.to.Time {
		h.gap = drop{from: h.to.Time, until: at}
	}
	h.begun = true
}

// has says whether the other reader took a record. forms are the texts as which the
// API may have given it.
func (h *handed) has(at int64, forms ...string) bool {
	if h.passed {
		return false
	}
	like := func(hash uint64) bool {
		return slices.ContainsFunc(forms, func(s string) bool { return xxhash.Sum64String(s) == hash })
	}
	if at == h.to.Time && like(h.to.Hash) {
		h.matches++
		h.passed = h.matches >= h.to.Seen
		return true
	}
	if at <= h.to.Time || slices.ContainsFunc(h.to.Recent[:], like) {
		return true
	}
	h.passed = true
	return false
}

// askHanded asks, at a start, how far others took the node's containers since they were
// followed here. Where somebody who reads through the API server did, they are given the
// time to let go, and asked again. It is false where the server left a question open.
func (r *Files) askHanded(ctx context.Context) (answered bool) {
	r.handed = nil
	if r.opts.Positions == nil {
		return true
	}
	own := r.owned(r.atStart)
	said, answered := r.positions(ctx, r.sources())
	known := r.readOn(said, own)
	if len(known) == 0 {
		return answered
	}
	// Who read the files is not there any more. Where it was before this collector's
	// folder was made, others may have taken its containers, and have had no line yet.
	var wait time.Duration
	for _, h := range known {
		if r.firstStart || !h.to.byFile() {
			wait = r.opts.HandOver
		}
	}
	r.log.Info("containers were followed by another collector until now; their files are read from there on", "containers", len(known), "wait_seconds", wait.Seconds())
	if wait > 0 && sleep(ctx, wait) {
		said, answered = r.positions(ctx, r.sources())
		maps.Copy(known, r.readOn(said, own)) // of pods that came meanwhile, too
	}
	r.handed = known
	r.disown()
	return answered
}

// owned is how far this collector took a container, by what it knows itself.
type owned struct {
	taken int64 // of the newest position that the server has acknowledged
	sent  int64 // of the one that was on its way
	last  int64 // the time of the newest line
}

// owned gives it for each container that was followed here, by the positions that the
// server has acknowledged and those that are on their way.
func (r *Files) owned(acknowledged map[string]filePos) map[string]owned {
	out := map[string]owned{}
	note := func(of map[string]filePos, taken func(*owned) *int64) {
		for _, p := range of {
			if id, ok := r.containerOf(p); ok {
				o := out[id.key()]
				*taken(&o) = max(*taken(&o), p.taken())
				o.last = max(o.last, p.Last)
				out[id.key()] = o
			}
		}
	}
	from, to := r.journal.onItsWay()
	note(acknowledged, func(o *owned) *int64 { return &o.taken })
	note(from, func(o *owned) *int64 { return &o.taken })
	note(to, func(o *owned) *int64 { return &o.sent })
	return out
}

// readOn leaves those of what the server knows that somebody else took further than
// this collector did.
func (r *Files) readOn(known map[string]*handed, own map[string]owned) map[string]*handed {
	maps.DeleteFunc(known, func(key string, h *handed) bool {
		o, ok := own[key]
		switch {
		case !ok:
			return false
		case o.taken == 0 && o.sent == 0: // an earlier version did not note it
			return h.to.Time <= o.last
		}
		return h.taken <= o.taken || h.taken == o.sent && h.to.byFile()
	})
	return known
}

// disown forgets what was known here of containers that others took further. Of the
// batch that was on its way, the server has their lines already, or those who went on
// have taken them.
func (r *Files) disown() {
	others := func(_ string, p filePos) bool {
		id, ok := r.containerOf(p)
		return ok && r.handed[id.key()] != nil
	}
	for k, p := range r.atStart {
		if others(k, p) {
			r.journal.forget(k)
		}
	}
	maps.DeleteFunc(r.atStart, others)
	// Nor is lost what an earlier start did not find: they may have sent it.
	taken := map[string]bool{}
	for as, l := range r.journal.notes() {
		if (strings.HasPrefix(as, behindGone) || strings.HasPrefix(as, openInGone)) && others("", l.At) {
			taken[as] = true
			r.journal.found(as)
		}
	}
	if was := r.journal.inFlight; was != nil {
		left := *was
		left.From, left.To = maps.Clone(was.From), maps.Clone(was.To)
		maps.DeleteFunc(left.From, others)
		maps.DeleteFunc(left.To, others)
		left.Told = slices.DeleteFunc(slices.Clone(was.Told), func(t tell) bool { return taken[t.Noted] })
		r.journal.replaceInFlight(&left)
	}
}

// containerOf gives the container of a position's file.
func (r *Files) containerOf(p filePos) (Container, bool) {
	dir := filepath.Dir(p.Path)
	id, ok := podOfPath(filepath.Base(filepath.Dir(dir)))
	id.Container = filepath.Base(dir)
	return id, ok && filepath.Dir(filepath.Dir(dir)) == filepath.Clean(r.opts.Root)
}

// overtaken is a conflict when somebody else read on since.
func (r *Files) overtaken(ctx context.Context) error {
	own := r.owned(r.journal.sources())
	for some := range slices.Chunk(r.sources(), askAtOnce) {
		known, err := r.ask(ctx, some)
		if err != nil {
			return err
		}
		if n := len(r.readOn(known, own)); n > 0 {
			return fmt.Errorf("%d containers were followed by another collector while the server did not hear this one: %w", n, fault.ErrConflict)
		}
	}
	return nil
}

// sources are the containers that have a folder.
func (r *Files) sources() (out []wire.LogSource) {
	dirs, _ := filepath.Glob(filepath.Join(r.opts.Root, "*", "*")) // the pattern is good
	for _, dir := range dirs {
		if id, ok := podOfPath(filepath.Base(filepath.Dir(dir))); ok {
			id.Container = filepath.Base(dir)
			out = append(out, wire.LogSource{Key: id.key(), Namespace: id.Namespace, Pod: id.Pod, Container: id.Container})
		}
	}
	return out
}

// positions asks the server; what it does not say after some attempts is taken as
// nothing, and asked again before the first batch goes. Who has positions of its own does
// not wait for long: rotation goes on.
func (r *Files) positions(ctx context.Context, sources []wire.LogSource) (out map[string]*handed, answered bool) {
	answered = true
	out, patience, instead := map[string]*handed{}, 5*time.Second, "from their beginnings"
	if !r.firstStart {
		patience, instead = time.Second, "from where this collector was"
	}
	for some := range slices.Chunk(sources, askAtOnce) {
		var known map[string]*handed
		var err error
		for wait := 200 * time.Millisecond; ; wait *= 2 {
			known, err = r.ask(ctx, some)
			if err == nil || wait > patience || !sleep(ctx, wait) {
				break
			}
		}
		if err != nil {
			r.log.Warn("ask the server how far logs were taken; the files are read "+instead, "err", err)
			answered = false
			if !r.firstStart {
				return out, false
			}
			continue
		}
		maps.Copy(out, known)
	}
	return out, answered
}

// ask asks the server once.
func (r *Files) ask(ctx context.Context, some []wire.LogSource) (map[string]*handed, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	answer, err := r.opts.Positions(ctx, some)
	out := map[string]*handed{}
	for _, p := range answer {
		if to, err := readPosition(p); err == nil && to.Time > 0 {
			out[p.Key] = &handed{to: to, taken: p.Taken}
		}
	}
	return out, err
}

// takeOver has a file that nobody has read here begin after what another reader took, or
// with what that one missed, if it took nothing of the file after that. Files come in the
// order in which they were written. What the oldest lacks is told.
func (r *Files) takeOver(c *container, f *file, h *handed) {
	c.taken = max(c.taken, h.taken)
	h.left = false
	if at := f.firstTime(); f.instance > h.to.Restarts && at > 0 {
		h.begins(at)
		h.passed = true
	} else if f.instance < h.to.Restarts && len(h.to.Missed) == 0 {
		if size, ok := f.wholeSize(); ok {
			f.offset = size // an instance before the one that the other reader was at
		}
	}
	f.skip = [2]int64{f.offset, f.offset}
	if f.offset == 0 && !h.passed {
		text, err := f.whole()
		if err == nil {
			f.skip, f.spots, err = h.after(text, latestBy(r.now()))
		}
		if err != nil {
			r.log.Warn("look how far a log file was taken; it is read from there", "path", f.path, "offset", f.skip, "err", err)
		}
		f.offset = min(f.skip[0], f.skip[1])
	}
	if f.instance < h.to.Restarts { // of where its instance begins this says nothing
		h.begun, h.gap = false, drop{}
	}
	f.began, f.first = f.offset, f.firstTime()
	f.marked, f.hasMark = c.pos(f), true
	if max(f.skip[0], f.skip[1]) > 0 || h.left {
		r.journal.set(f.key(), f.marked) // a start before the first batch goes on there, too
	}
	if d := h.gap; d.until > 0 {
		h.gap = drop{}
		r.counts.dropped(c.id, DropAway, 0)
		r.log.Warn("log files are gone that nobody had read", "path", f.path, "from", time.Unix(0, d.from).UTC(), "until", time.Unix(0, d.until).UTC())
		c.lost = append(c.lost, loss{file: f, reason: DropAway, drop: d})
	}
}

// after gives where in a file the first records of stdout and stderr begin that the
// other reader has not, and where the file is before the first of these. No time after latest is
// right.
func (h *handed) after(from io.Reader, latest int64) (skip [2]int64, before spots, err error) {
	in := bufio.NewReaderSize(from, readBytes)
	var begun [2]struct { // records of stdout and stderr that came in parts
		open   bool
		start  int64
		missed bool
		at     int64
		stamp  string
		text   strings.Builder
	}
	var found [2]bool                             // the first record that was left open
	left, beforeLeft := [2]int64{-1, -1}, spots{} // where those begin that the other missed
	var here, there spots
	// All up to an offset are the other's, but for those.
	through := func(offset int64, at spots) {
		for i := range skip {
			if !found[i] {
				skip[i] = offset
			}
		}
		if !found[0] && !found[1] {
			before = at
		}
		left = [2]int64{-1, -1} // between the other's, they cannot be sent alone
	}
	defer func() {
		for i, at := range left {
			if at >= 0 {
				skip[i], h.left = at, true
			}
		}
		if h.left {
			before = beforeLeft
		}
	}()
	for next := int64(0); ; {
		start := next
		slice, err := in.ReadSlice('\n')
		line := string(slice)
		next += int64(len(line))
		whole := err == nil
		for errors.Is(err, bufio.ErrBufferFull) { // longer than any runtime's: no line of one
			slice, err = in.ReadSlice('\n')
			next += int64(len(slice))
		}
		if errors.Is(err, io.EOF) {
			return skip, before, nil // a line that is not complete is nobody's yet
		}
		if err != nil {
			return skip, before, err
		}
		p, ok := parsePiece(strings.TrimSuffix(line, "\n"))
		if !ok || !whole || p.at > latest {
			continue // it goes with the line before it
		}
		stream := streamNumber(p.stream)
		here, there = here.after(p, true), here
		h.begins(p.at)
		b := &begun[stream]
		if !b.open {
			stamp, _, _ := strings.Cut(line, " ")
			b.open, b.start, b.at, b.stamp, b.missed = true, start, p.at, stamp, h.missed(here.at, p.at)
			b.text.Reset()
		}
		b.open = p.partial
		if b.missed {
			if left[stream] < 0 {
				left[stream] = b.start
				if left[1-stream] < 0 {
					beforeLeft = there
				}
			}
			continue
		}
		if file := h.to.File; file != nil {
			if h.passed = file.passed(here.at); h.passed {
				return skip, before, nil
			}
			if file.taken(here.at) {
				through(next, here)
			} else if !found[stream] {
				found[stream], skip[stream] = true, start
				if !found[1-stream] {
					before = there
				}
			}
			continue
		}
		if b.text.Len() < maxAPILine {
			b.text.WriteString(p.text)
		}
		if p.partial {
			continue
		}
		text := b.text.String()
		// The kubelet writes all nine digits of a time, runtimes not always.
		if !h.has(b.at, b.stamp+" "+text, time.Unix(0, b.at).UTC().Format("2006-01-02T15:04:05.000000000Z07:00")+" "+text) {
			return skip, before, nil
		}
		if through(next, here); h.passed {
			return skip, before, nil
		}
	}
}
