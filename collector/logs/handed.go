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

// A node's first collector may find containers that were followed through the API
// server until now. How far that went lies with the lines, and their files are read
// from there on.

// handed is how far another reader took a container: to a line that is known by its
// time and its content.
type handed struct {
	to      apiPos
	passed  bool // that line has gone by
	matches int  // lines like it so far
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
	r.log.Info("containers were followed through the API server until now; their files are read from there on", "containers", len(known), "wait_seconds", r.opts.HandOver.Seconds())
	if sleep(ctx, r.opts.HandOver) {
		maps.Copy(known, r.positions(ctx, r.sources())) // of pods that came meanwhile, too
	}
	r.handed = known
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
			h := &handed{}
			if err := json.Unmarshal([]byte(p.State), &h.to); err == nil && h.to.Time > 0 {
				out[p.Key] = h
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
	if f.offset == 0 && !h.passed {
		var err error
		if f.offset, err = h.after(f.fd); err != nil {
			r.log.Warn("look how far a log file was taken; it is read from there", "path", f.path, "offset", f.offset, "err", err)
		}
	}
	f.began, f.skip = f.offset, [2]int64{f.offset, f.offset}
}

// after gives where in a file the first record begins that the other reader has not.
func (h *handed) after(from *os.File) (offset int64, err error) {
	in := bufio.NewReaderSize(io.NewSectionReader(from, 0, 1<<62), readBytes)
	var begun [2]struct { // records of stdout and stderr that came in parts
		open  bool
		at    int64
		stamp string
		text  strings.Builder
	}
	for next := int64(0); ; {
		slice, err := in.ReadSlice('\n')
		line := string(slice)
		next += int64(len(line))
		whole := err == nil
		for errors.Is(err, bufio.ErrBufferFull) { // longer than any runtime's: no line of one
			slice, err = in.ReadSlice('\n')
			next += int64(len(slice))
		}
		if errors.Is(err, io.EOF) {
			return offset, nil // a line that is not complete is nobody's yet
		}
		if err != nil {
			return offset, fmt.Errorf("read %s: %w", from.Name(), err)
		}
		p, ok := parsePiece(strings.TrimSuffix(line, "\n"))
		if !ok || !whole {
			continue // it goes with the line before it
		}
		b := &begun[streamNumber(p.stream)]
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
			return offset, nil
		}
		b.open = false
		b.text.Reset()
		if offset = next; h.passed {
			return offset, nil
		}
	}
}
