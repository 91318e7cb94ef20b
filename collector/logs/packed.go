package logs

import (
	"cmp"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cespare/xxhash/v2"
)

// A file that was rotated and compressed while no collector ran, or while it was
// held up for longer than two rotations, may hold lines that nobody has read. One
// that a running collector has open is read from its descriptor.

const (
	packedSuffix = ".gz"
	// maxUnpacked bounds what one compressed file may become on the collector's disk.
	maxUnpacked = 1 << 30
	// unpackAgain is how long one waits that could not be unpacked: the disk is full.
	unpackAgain = time.Second
	// knownHead is the least that tells a file by its beginning: a line has more.
	knownHead = 32
	// unpackedName is of the temporary files, for what a kill leaves of them.
	unpackedName = "unpacked-"
)

// packedNameOf takes the name of a compressed log file apart.
func packedNameOf(name string) (instance int, suffix string, ok bool) {
	plain, ok := strings.CutSuffix(name, packedSuffix)
	if !ok {
		return 0, "", false
	}
	instance, suffix, ok = nameOf(plain)
	return instance, suffix, ok && suffix != ""
}

// identifyPacked takes the identity of the compressed file and, if asked to, the
// fingerprint of what is in it.
func (f *file) identifyPacked(print bool) error {
	st, err := stat(f.fd)
	if err != nil {
		return fmt.Errorf("stat %s: %w", f.path, err)
	}
	f.dev, f.ino = uint64(st.Dev), st.Ino //nolint:unconvert // Dev is narrower on some systems
	if !print {
		return nil
	}
	z, err := gzip.NewReader(io.NewSectionReader(f.fd, 0, st.Size))
	if err != nil {
		return fmt.Errorf("read %s: %w", f.path, err)
	}
	head := make([]byte, fingerprintBytes)
	n, err := io.ReadFull(z, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("read %s: %w", f.path, err)
	}
	f.head = head[:n]
	f.print, f.printLen = xxhash.Sum64(f.head), n
	return nil
}

// packedSize is what the file says to be its size when unpacked, modulo 4 GiB.
func (f *file) packedSize() (size int64, ok bool) {
	st, err := stat(f.fd)
	if err != nil || st.Size < 18 {
		return 0, false
	}
	var tail [4]byte
	if _, err := f.fd.ReadAt(tail[:], st.Size-4); err != nil {
		return 0, false
	}
	return int64(binary.LittleEndian.Uint32(tail[:])), true
}

// packedID tells compressed files apart, whatever their names.
type packedID struct {
	ino, size uint64
	written   int64
}

// missed opens the compressed files that came since the last look and that nobody
// has had open before. At a start it only notes which there are: adoptPacked has
// those.
func (r *Files) missed(c *container, entries []fs.DirEntry) (out []*file) {
	if len(entries) == 0 {
		return nil
	}
	present := map[packedID]bool{}
	for _, e := range entries {
		instance, suffix, ok := packedNameOf(e.Name())
		if !ok || hasName(entries, strings.TrimSuffix(e.Name(), packedSuffix)) {
			continue
		}
		st, err := e.Info()
		if err != nil {
			continue // gone again
		}
		sys, ok := st.Sys().(*syscall.Stat_t)
		if !ok {
			continue
		}
		id := packedID{sys.Ino, uint64(sys.Size), st.ModTime().UnixNano()}
		present[id] = true
		path := filepath.Join(c.dir, e.Name())
		if c.packed[id] || !r.started || c.has(path) {
			continue
		}
		f := &file{path: path, instance: instance, suffix: suffix, packed: true}
		if f.fd, err = os.Open(path); err == nil {
			err = f.identifyPacked(true)
		}
		of, at := r.hadOpen(c, f)
		if of != nil {
			of.twin = true
		}
		if err != nil || len(f.head) == 0 || of != nil || at != nil && !f.goOn(r, c, *at) {
			if err != nil {
				r.log.Warn("look at compressed log file", "path", path, "err", err)
			}
			f.close()
			continue
		}
		r.log.Info("log file was rotated and compressed before anybody looked", "path", path)
		f.ended = r.now().Add(-r.grace) // nobody writes to it
		out = append(out, f)
	}
	c.packed = present
	slices.SortFunc(out, older)
	return out
}

// madeOf gives the file that a compressed one was made of, if it is known.
func (c *container) madeOf(f *file) *file {
	for _, o := range c.files {
		o.printMore()
		if h, ok := f.headHash(o.printLen); o != f && ok && h == o.print {
			return o
		}
	}
	return nil
}

// hadOpen gives the file that a compressed one was made of or, if it is not known in
// this run, its position.
func (r *Files) hadOpen(c *container, f *file) (of *file, at *filePos) {
	if of = c.madeOf(f); of != nil {
		return of, nil
	}
	known := r.journal.sources()
	maps.DeleteFunc(known, func(_ string, p filePos) bool { return filepath.Dir(p.Path) != c.dir })
	if p, ok := positionOf(f, known); ok {
		return nil, &p
	}
	return nil, nil
}

// goOn has a compressed file go on where the one was of which it was made. It is
// false when that was its end.
func (f *file) goOn(r *Files, c *container, p filePos) bool {
	f.resume(p)
	f.gen, f.hasMark = 0, false
	r.journal.set(f.key(), c.pos(f)) // the file that it was made of is gone, and will be forgotten
	size, ok := f.packedSize()
	return !ok || p.Scan != 0 || size != p.Offset
}

// beginsAs says whether the file begins as the one of a position did.
func (f *file) beginsAs(p filePos) bool {
	if p.Len < knownHead {
		return false
	}
	h, ok := f.headHash(p.Len)
	return ok && strconv.FormatUint(h, 16) == p.Print
}

// adoptPacked takes in, at a start, the compressed ones among the new files of a
// container, which are in their order; it gives the others. A compressed file
// that begins as one whose position is known goes on there. Of those that are not
// known, the ones before the newest that is were read and forgotten, and the ones
// after it were written while nobody looked.
func (r *Files) adoptPacked(c *container, fresh []*file) (plain []*file) {
	if !slices.ContainsFunc(fresh, func(f *file) bool { return f.packed }) {
		return fresh
	}
	known := map[string]filePos{}
	for k, p := range r.atStart {
		if filepath.Dir(p.Path) == c.dir {
			known[k] = p
		}
	}
	var sent map[string]filePos
	if was := r.journal.inFlight; was != nil {
		sent = was.To
	}
	newest, at, onWay := -1, make([]*filePos, len(fresh)), make([]bool, len(fresh))
	begins := int64(0) // the latest first line of a known one
	for i, f := range fresh {
		p, ok := known[f.key()]
		if !ok || !f.beginsAs(p) {
			p, ok = positionOf(f, known)
		}
		if ok {
			at[i] = &p
		}
		_, onWay[i] = positionOf(f, sent)
		if onWay[i] || ok && p.Offset > 0 { // a file that was only kept says nothing of those before it
			newest, begins = i, max(begins, f.firstTime())
		}
	}
	for i, f := range fresh {
		switch {
		case !f.packed:
			plain = append(plain, f)
			continue
		case at[i] != nil:
			f.done = !f.goOn(r, c, *at[i])
		case onWay[i]: // all that the server may have of it is in the batch that is made anew
		case r.firstStart:
			if size, ok := f.packedSize(); ok {
				f.offset, f.skip = size, [2]int64{size, size}
				r.journal.set(f.key(), c.pos(f)) // the next start must not take it for a new one
			}
			f.done = true
		case i < newest || f.firstTime() > 0 && f.firstTime() < begins:
			f.done = true
		}
		if f.done {
			f.close()
		} else {
			f.ended = r.now().Add(-r.grace) // nobody writes to it
		}
		c.insert(f)
	}
	return plain
}

// toPacked goes over from an open file that is gone from its folder to what the
// kubelet compressed of it, if that is there: it takes less of the disk, and a kill
// does not lose it.
func (r *Files) toPacked(c *container, f *file, entries []fs.DirEntry) bool {
	if f.packed || f.unpacked || f.copyOf != nil || !f.unclear.IsZero() {
		return false
	}
	size, same, err := f.identify()
	if err != nil || !same || f.printLen < knownHead {
		return false
	}
	for _, e := range entries {
		instance, suffix, ok := packedNameOf(e.Name())
		path := filepath.Join(c.dir, e.Name())
		if !ok || instance != f.instance || c.has(path) {
			continue
		}
		p := &file{path: path}
		if p.fd, err = os.Open(path); err != nil {
			continue // gone again
		}
		if err := p.identifyPacked(true); err == nil && p.print == f.print && p.printLen == f.printLen {
			if n, ok := p.packedSize(); ok && n == size&(1<<32-1) {
				f.path, f.suffix, f.unlinked = path, suffix, false
				r.becomes(c, f, r.filling, p)
				return true
			}
		}
		p.close()
	}
	return false
}

// positionOf finds the position of a file by its beginning. Of several (a file
// and what was made of it) the furthest counts.
func positionOf(f *file, among map[string]filePos) (found filePos, ok bool) {
	for _, p := range among {
		if f.beginsAs(p) && (!ok || p.Offset > found.Offset || p.Offset == found.Offset && p.Scan == 0) {
			found, ok = p, true
		}
	}
	return found, ok
}

// unpack makes a compressed file readable when its turn has come. What cannot be
// read of a damaged one is left out, and said. An error is about the collector's
// own disk.
func (r *Files) unpack(f *file) error {
	tmp, err := os.CreateTemp(r.opts.Dir, unpackedName)
	if err != nil {
		return fmt.Errorf("unpack %s: %w", f.path, err)
	}
	if err := os.Remove(tmp.Name()); err != nil { // it goes with its descriptor
		_ = tmp.Close()
		return fmt.Errorf("unpack %s: %w", f.path, err)
	}
	out := &writer{file: tmp}
	z, err := gzip.NewReader(io.NewSectionReader(f.fd, 0, 1<<62))
	n := int64(0)
	if err == nil {
		n, err = io.Copy(out, io.LimitReader(z, maxUnpacked))
	}
	if out.err != nil {
		_ = tmp.Close()
		return fmt.Errorf("unpack %s: %w", f.path, out.err)
	}
	if err != nil || n == maxUnpacked {
		r.log.Warn("compressed log file is damaged or too large, its rest is not read", "path", f.path, "bytes", n, "err", err)
	}
	f.close()
	f.fd, f.packed, f.unpacked, f.head = tmp, false, true, nil
	f.offset = min(f.offset, n)
	return nil
}

// repack goes back to the compressed file, if it is still there: what it was unpacked
// into may be needed on the disk for another one before this has its turn.
func (f *file) repack() {
	if !f.unpacked {
		return
	}
	fd, err := os.Open(cmp.Or(f.keptPath, f.path))
	if err != nil {
		return
	}
	p := &file{path: f.path, fd: fd}
	if err := p.identifyPacked(true); err != nil || p.key() != f.key() || p.print != f.print {
		p.close()
		return
	}
	f.close()
	f.fd, f.head, f.packed, f.unpacked = p.fd, p.head, true, false
}

// writer remembers the errors of writing, which io.Copy mixes with those of reading.
type writer struct {
	file *os.File
	err  error
}

func (w *writer) Write(p []byte) (int, error) {
	n, err := w.file.Write(p)
	if err != nil {
		w.err = err
	}
	return n, err
}

// clearUnpacked removes what a kill in the middle of unpack has left.
func clearUnpacked(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, unpackedName+"*"))
	for _, p := range left {
		err = errors.Join(err, os.Remove(p))
	}
	return err
}
