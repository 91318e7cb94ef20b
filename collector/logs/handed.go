package logs

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// A node's first collector may find containers that were followed until now, through the
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
		dir := filepath.Dir(p.Path)
		c, ok := podOfPath(filepath.Base(filepath.Dir(dir)))
		c.Container = filepath.Base(dir)
		name := strings.TrimSuffix(filepath.Base(p.Path), packedSuffix)
		if instance, _, named := nameOf(name); ok && named && p.Mark != nil && p.taken() > newest[c] && filepath.Dir(filepath.Dir(dir)) == filepath.Clean(r.opts.Root) {
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

// askHanded asks, at a node's first start, how far others took its containers. Where
// somebody did, they are given the time to let go, and asked again.
func (r *Files) askHanded(ctx context.Context) {
	r.handed = nil
	if r.opts.Positions == nil || !r.firstStart {
		return
	}
	known := r.positions(ctx, r.sources())
	if len(known) == 0 {
		return
	}
	r.handed = known
	var wait time.Duration // who read the files is not there any more
	for _, h := range known {
		if f := h.to.File; f == nil || f.Since != nil {
			wait = r.opts.HandOver
		}
	}
	r.log.Info("containers were followed by another collector until now; their files are read from there on", "containers", len(known), "wait_seconds", wait.Seconds())
	if wait > 0 && sleep(ctx, wait) {
		maps.Copy(known, r.positions(ctx, r.sources())) // of pods that came meanwhile, too
	}
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
// nothing.
func (r *Files) positions(ctx context.Context, sources []wire.LogSource) map[string]*handed {
	out := map[string]*handed{}
	for some := range slices.Chunk(sources, askAtOnce) {
		var answer []wire.LogPosition
		var err error
		for wait := 200 * time.Millisecond; ; wait *= 2 {
			askCtx, cancel := context.WithTimeout(ctx, 10*time.Second)
			answer, err = r.opts.Positions(askCtx, some)
			cancel()
			if err == nil || wait > 5*time.Second || !sleep(ctx, wait) {
				break
			}
		}
		if err != nil {
			r.log.Warn("ask the server how far logs were taken; the files are read from their beginnings", "err", err)
			continue
		}
		for _, p := range answer {
			if to, err := readPosition(p); err == nil && to.Time > 0 {
				out[p.Key] = &handed{to: to, taken: p.Taken}
			}
		}
	}
	return out
}

// takeOver has a file that nobody has read here begin after what another reader took.
// Files come in the order in which they were written.
func (r *Files) takeOver(f *file, h *handed) {
	if f.instance < h.to.Restarts {
		if size, _, err := f.identify(); err == nil {
			f.offset = size // an instance before the one that the other reader was at
		}
	} else if f.instance > h.to.Restarts {
		h.passed = true
	}
	f.skip = [2]int64{f.offset, f.offset}
	if f.offset == 0 && !h.passed {
		var err error
		if f.skip, f.spots, err = h.after(f.fd); err != nil {
			r.log.Warn("look how far a log file was taken; it is read from there", "path", f.path, "offset", f.skip, "err", err)
		}
		f.offset = min(f.skip[0], f.skip[1])
	}
	f.began = f.offset
}

// after gives where in a file the first records of stdout and stderr begin that the
// other reader has not, and where the file is before the first of these.
func (h *handed) after(from *os.File) (skip [2]int64, before spots, err error) {
	in := bufio.NewReaderSize(io.NewSectionReader(from, 0, 1<<62), readBytes)
	var begun [2]struct { // records of stdout and stderr that came in parts
		open  bool
		at    int64
		stamp string
		text  strings.Builder
	}
	var found [2]bool // the first record that was left open
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
	}
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
			return skip, before, fmt.Errorf("read %s: %w", from.Name(), err)
		}
		p, ok := parsePiece(strings.TrimSuffix(line, "\n"))
		if !ok || !whole {
			continue // it goes with the line before it
		}
		stream := streamNumber(p.stream)
		here, there = here.after(p, true), here
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
		b := &begun[stream]
		if !b.open {
			stamp, _, _ := strings.Cut(line, " ")
			b.open, b.at, b.stamp = true, p.at, stamp
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
		b.open = false
		b.text.Reset()
		if through(next, here); h.passed {
			return skip, before, nil
		}
	}
}
