package logs

import (
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// A file that was rotated and compressed while no collector ran may hold lines
// that nobody has read. While a collector runs, a file is read before it is
// compressed, or from its open descriptor after that; so compressed files are
// looked at by the first scan only.

const (
	packedSuffix = ".gz"
	// maxUnpacked bounds what one compressed file may become on the collector's disk.
	maxUnpacked = 1 << 30
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
	newest, at := -1, make([]*filePos, len(fresh))
	begins := int64(0) // the latest first line of a known one: kept files stand before others, whatever their age
	for i, f := range fresh {
		p, ok := known[f.key()]
		if !ok || !f.beginsAs(p) {
			p, ok = positionOf(f, known)
		}
		if ok {
			at[i] = &p
		} else {
			_, ok = positionOf(f, sent)
		}
		if ok {
			newest, begins = i, max(begins, f.firstTime())
		}
	}
	for i, f := range fresh {
		switch {
		case !f.packed:
			plain = append(plain, f)
			continue
		case at[i] != nil:
			f.resume(*at[i])
			f.gen, f.hasMark = 0, false
			r.journal.set(f.key(), c.pos(f)) // the file that it was made of is gone, and will be forgotten
			if size, ok := f.packedSize(); ok && at[i].Scan == 0 && size == at[i].Offset {
				f.done = true
			}
		case r.firstStart || i < newest || f.firstTime() > 0 && f.firstTime() < begins:
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

// positionOf finds the position of a file by its beginning. Of several (a file
// and what was made of it) the furthest counts.
func positionOf(f *file, among map[string]filePos) (found filePos, ok bool) {
	for _, p := range among {
		if f.beginsAs(p) && (!ok || p.Offset > found.Offset) {
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
