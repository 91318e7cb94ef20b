package logs

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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
	// maxUnpacked bounds what is read of one compressed file.
	maxUnpacked = 1 << 30
	// knownHead is the least that tells a file by its beginning: a line has more.
	knownHead = 32
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

// identifyPacked takes the identity of the compressed file and the fingerprint of what is in it.
func (f *file) identifyPacked() error {
	st, err := stat(f.fd)
	if err != nil {
		return fmt.Errorf("stat %s: %w", f.path, err)
	}
	f.dev, f.ino = uint64(st.Dev), st.Ino //nolint:unconvert // Dev is narrower on some systems
	f.id = packedIDOf(&st)
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

// lastUnpacked gives the last of what is in a compressed file, as far as that can be read.
func (f *file) lastUnpacked() (tail []byte) {
	z, err := gzip.NewReader(bufio.NewReaderSize(io.NewSectionReader(f.fd, 0, 1<<62), 32<<10))
	if err != nil {
		return nil
	}
	text, buf := io.LimitReader(z, maxUnpacked), make([]byte, readBytes)
	for err == nil {
		var n int
		n, err = io.ReadFull(text, buf)
		tail = append(tail[max(0, len(tail)-readBytes+n):], buf[:n]...)
	}
	return tail
}

// whole reads a file from its beginning, unpacked.
func (f *file) whole() (io.Reader, error) {
	text := io.NewSectionReader(f.fd, 0, 1<<62)
	if !f.packed {
		return text, nil
	}
	z, err := gzip.NewReader(bufio.NewReaderSize(text, 32<<10))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.path, err)
	}
	return io.LimitReader(z, maxUnpacked), nil
}

// wholeSize is the size of a file, unpacked.
func (f *file) wholeSize() (size int64, ok bool) {
	if f.packed {
		return f.packedSize()
	}
	size, _, err := f.identify()
	return size, err == nil
}

// packedID tells compressed files apart, whatever their names.
type packedID struct {
	dev, ino, size uint64
	written        int64
}

func packedIDOf(st *syscall.Stat_t) packedID {
	return packedID{uint64(st.Dev), st.Ino, uint64(st.Size), syscall.TimespecToNsec(st.Mtim)} //nolint:unconvert // Dev is narrower on some systems
}

// packedIn gives the compressed log files among a folder's entries, each by one look at it. One
// whose original is there still is about to be made.
func (c *container) packedIn(entries []fs.DirEntry) (out []*file) {
	for _, e := range entries {
		instance, suffix, ok := packedNameOf(e.Name())
		if !ok || hasName(entries, strings.TrimSuffix(e.Name(), packedSuffix)) {
			continue
		}
		f := &file{path: filepath.Join(c.dir, e.Name()), instance: instance, suffix: suffix, packed: true}
		var st syscall.Stat_t
		if err := syscall.Stat(f.path, &st); err != nil || st.Mode&syscall.S_IFMT != syscall.S_IFREG {
			continue // gone again, or a link to a file that is
		}
		f.dev, f.ino, f.id = uint64(st.Dev), st.Ino, packedIDOf(&st) //nolint:unconvert // Dev is narrower on some systems
		out = append(out, f)
	}
	return out
}

// hadPacked says whether a compressed file that is found is one of those that are known, by
// whatever name: rotation that counts gives each to the next one.
func (c *container) hadPacked(f *file) bool {
	return slices.ContainsFunc(c.files, func(o *file) bool { return o.isPacked(f) })
}

// isPacked says whether a known file is the compressed one that was found now.
func (f *file) isPacked(now *file) bool { return !f.beside && f.id == now.id }

// missed opens those of the compressed files of the folder that came since the last look and that
// nobody has had open before. At a start it only notes which of them are open: adoptPacked has
// those. Another one may have come by a name that was there.
func (r *Files) missed(c *container, packed, fresh []*file) (out []*file) {
	if len(packed) == 0 {
		c.packed = nil
		return nil
	}
	present := map[packedID]*file{}
	var known map[string]filePos
	// Rotation takes the oldest first: from the newest on, none is gone before one that is
	// older is, and no gap lies behind one that is there.
	for _, f := range slices.Backward(packed) {
		id := f.id
		of, looked := c.packed[id]
		if !r.started && !looked && !slices.ContainsFunc(fresh, func(f *file) bool { return f.id == id }) {
			continue
		}
		present[id] = of
		if looked || !r.started {
			continue
		}
		f := &file{path: f.path, instance: f.instance, suffix: f.suffix, packed: true}
		if !f.open() {
			delete(present, id)
			continue
		}
		err := f.identifyPacked()
		if err == nil && f.id != id { // it has another name by now, of which the next look hears
			delete(present, id)
			f.close()
			continue
		}
		if err != nil || len(f.head) == 0 {
			if err != nil {
				r.log.Warn("look at compressed log file", "path", f.path, "err", err)
			} else {
				present[id] = c.emptyOf(f)
			}
			f.close()
			continue
		}
		of, cut := c.madeOf(f)
		if of != nil {
			present[id] = of
			f.close()
			continue
		}
		if known == nil {
			known = r.journal.only(inFolder(c.dir))
		}
		if at, ok := positionOf(f, known); ok && !cut {
			ends := !f.goOn(r, c, at)
			known[f.key()] = f.marked
			if ends {
				f.done = true
				f.close()
				r.insert(c, f)
				continue
			}
		}
		r.log.Info("log file was rotated and compressed before anybody looked", "path", f.path)
		f.ended = r.now().Add(-r.grace) // nobody writes to it
		out = append(out, f)
	}
	c.packed = present
	slices.SortFunc(out, older)
	return out
}

// madeOf gives the file that a compressed one was made of, if it is known. What was compressed
// of one that was cut is a copy, which nobody has read.
func (c *container) madeOf(f *file) (of *file, cut bool) {
	size, sized := f.packedSize()
	for _, o := range c.files {
		o.printMore()
		if h, ok := f.headHash(o.printLen); o == f || !ok || h != o.print {
			cut = cut || o != f && f.shortOf(o.printLen, o.first) && o.wasCut()
			continue
		}
		if o.copyOf != nil {
			if n, ok := o.wholeSize(); ok && sized && n&(1<<32-1) == size && o.unlinked {
				return o, false // it is of the copy itself
			}
			continue
		}
		if cut = cut || o.wasCut(); of == nil || o.offset > of.offset {
			of = o
		}
	}
	if cut {
		return nil, true
	}
	return of, false
}

// emptyOf gives the file without a byte of which a compressed one was made. Only the name tells that it
// had last: it went after that one came, whose name this is, or one of an older file: rotation takes the
// oldest first.
func (c *container) emptyOf(f *file) *file {
	born, ok := f.birth()
	if !ok {
		return nil
	}
	for _, o := range c.files {
		if !o.unlinked || o.fd == nil || o.compressed() {
			continue
		}
		st, err := stat(o.fd)
		path, unknown := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", o.fd.Fd()))
		if errors.Join(err, unknown) != nil || st.Size > 0 || born.After(time.Unix(st.Ctim.Unix())) {
			continue
		}
		was := &file{}
		was.instance, was.suffix, ok = nameOf(strings.TrimSuffix(filepath.Base(path), " (deleted)")) // as the kernel says
		if ok && was.instance == f.instance && was.suffix != "" && older(was, f) >= 0 {
			return o
		}
	}
	return nil
}

// notePacked notes of what file a compressed one was made. That one stays known for as long
// as it is there: a start knows by its position how far it was read.
func (c *container) notePacked(f, of *file) {
	if c.packed == nil {
		c.packed = map[packedID]*file{}
	}
	c.packed[f.id] = of
}

// hasPacked says whether something is there that was compressed of a file.
func (c *container) hasPacked(f *file) bool {
	for _, of := range c.packed {
		if of == f {
			return true
		}
	}
	return false
}

// goOn has a compressed file go on where the one was of which it was made. It is
// false when that was its end.
func (f *file) goOn(r *Files, c *container, p filePos) bool {
	f.resume(p)
	f.gen = 0
	// The file that it was made of is gone, and will be forgotten. As it has not been read
	// again, all that was known of that holds: what is open, and what the server knows.
	p = p.on(c.pos(f))
	r.journal.set(f.key(), p)
	f.marked = p // where its lines in the next batch begin
	size, ok := f.packedSize()
	return !ok || p.Scan != 0 || size != p.Offset
}

// on is a position on another file of the same text, by a position of that.
func (p filePos) on(o filePos) filePos {
	p.Path, p.Dev, p.Ino, p.Gen, p.Print, p.Len = o.Path, o.Dev, o.Ino, o.Gen, o.Print, o.Len
	return p
}

// beginsAs says whether the file begins as the one of a position did, as far as that tells
// it from others.
func (f *file) beginsAs(p filePos) bool {
	return p.Len >= knownHead && (f.hasHeadOf(p) || filepath.Dir(f.path) == filepath.Dir(p.Path) && f.shortOf(p.Len, p.First))
}

// adoptPacked takes in, at a start, the compressed ones among the new files of a
// container, which are in their order; it gives the others. A compressed file
// that begins as one whose position is known goes on there. The others were written
// while nobody looked, whatever the clock was then. Only where an earlier version forgot
// those that it had read, the ones that began before the newest that is known did are taken
// for that: where somebody's copy of that one is in their order says nothing.
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
	at, onWay := make([]*filePos, len(fresh)), make([]bool, len(fresh))
	begins := int64(0) // the latest first line of a known one, that may be gone
	for _, p := range known {
		if p.begun() {
			begins = max(begins, p.First)
		}
	}
	for i, f := range fresh {
		p, ok := known[f.key()]
		ok = ok && f.beginsAs(p)
		// A copy that had less than was read of its file was kept under a position of its own.
		if most, found := positionOf(f, known); found && (!ok || most.begun() && most.further(p)) {
			if ok {
				most.Next, most.After, most.Behind = p.Next, p.After, p.Behind
			}
			p, ok = most, true
		}
		if ok {
			at[i] = &p
		}
		var to filePos
		to, onWay[i] = positionOf(f, sent)
		// A file that was only kept, or told of, says nothing of those before it.
		if to.Offset > 0 || ok && p.Offset > 0 {
			begins = max(begins, f.firstTime())
		}
	}
	for i, f := range fresh {
		switch {
		case !f.packed:
			plain = append(plain, f)
			continue
		case at[i] != nil:
			f.alike = at[i]
		case r.handed[c.id.key()] != nil:
			r.takeOver(c, f, r.handed[c.id.key()])
			size, ok := f.packedSize()
			f.done = ok && size == min(f.skip[0], f.skip[1])
		case onWay[i]: // all that the server may have of it is in the batch that is made anew
		case r.firstStart, r.journal.forgot && f.firstTime() > 0 && f.firstTime() < begins:
			r.skip(c, f)
		}
		if f.done {
			f.close()
		} else {
			f.ended = r.now().Add(-r.grace) // nobody writes to it
		}
		r.insert(c, f)
	}
	return plain
}

// toPacked goes over from an open file that is gone from its folder to what the
// kubelet compressed of it, if that is there: it takes less of the disk, and a kill
// does not lose it.
func (r *Files) toPacked(c *container, f *file, packed []*file) bool {
	if f.packed || f.unpacked != nil || f.copyOf != nil || f.unclear {
		return false
	}
	size, same, err := f.identify()
	if err != nil || !same || f.printLen < knownHead {
		return false
	}
	for _, there := range packed {
		of := c.packed[there.id]
		other := of != nil && of.printLen == f.printLen && of.print != f.print // of which it was made
		if there.instance != f.instance || other || c.has(there.path) {
			continue
		}
		p := &file{path: there.path}
		if !p.open() {
			continue
		}
		if err := p.identifyPacked(); err == nil && p.print == f.print && p.printLen == f.printLen {
			if n, ok := p.packedSize(); ok && n == size&(1<<32-1) {
				f.path, f.suffix, f.unlinked = there.path, there.suffix, false
				r.becomes(c, f, r.filling, p, nil)
				r.writeJournal()
				return true
			}
		}
		p.close()
	}
	return false
}

// inFolder says of positions whether they are of files of a folder.
func inFolder(dir string) func(filePos) bool {
	return func(p filePos) bool { return strings.HasPrefix(p.Path, dir) && filepath.Dir(p.Path) == dir }
}

// positionOf finds the position of a file by its beginning, among those of its folder. Of
// several (a file and what was made of it) the furthest counts.
func positionOf(f *file, among map[string]filePos) (found filePos, ok bool) {
	for _, p := range among {
		if filepath.Dir(p.Path) == filepath.Dir(f.path) && f.beginsAs(p) && (!ok || p.further(found)) {
			found, ok = p, true
		}
	}
	return found, ok
}

// further says whether more lines were sent by a position than by another one of what
// begins alike. By that of a copy that was left out, none were.
func (p filePos) further(o filePos) bool {
	if p.begun() != o.begun() {
		return p.begun()
	}
	return p.done(0)+p.done(1) > o.done(0)+o.done(1)
}

// unpack makes a compressed file readable when its turn has come. What cannot be
// read of a damaged one is left out, and said.
func (r *Files) unpack(f *file) {
	u := &unpacking{from: f.fd}
	head := &beginning{room: fingerprintBytes}
	err := u.begin()
	if err == nil {
		u.size, err = io.Copy(head, io.LimitReader(u.z, maxUnpacked))
	}
	if err != nil || u.size == maxUnpacked {
		r.log.Warn("compressed log file is damaged or too large, its rest is not read", "path", f.path, "bytes", u.size, "err", err)
	}
	u.z = nil
	f.packed, f.unpacked, f.head = false, u, head.b
	f.offset = min(f.offset, u.size)
}

// repack goes back to the file before it was begun, for which others may have to wait.
func (f *file) repack() {
	if f.unpacked != nil {
		f.packed, f.unpacked = true, nil
	}
}

// unpacking reads a compressed file as if it were another one. It takes no room on a
// disk, which may be full, and little memory: what is read lies behind what was read
// before, or is part of it; else it begins anew.
type unpacking struct {
	from io.ReaderAt
	size int64 // of what can be read of it
	z    *gzip.Reader
	at   int64  // of the next byte that z gives
	last []byte // what was read last, before at
}

var _ io.ReaderAt = (*unpacking)(nil)

func (u *unpacking) begin() (err error) {
	u.at, u.last = 0, u.last[:0]
	u.z, err = gzip.NewReader(bufio.NewReaderSize(io.NewSectionReader(u.from, 0, 1<<62), 32<<10))
	return err
}

// ReadAt implements io.ReaderAt; it is not for concurrent use.
func (u *unpacking) ReadAt(p []byte, off int64) (n int, err error) {
	if off >= u.size {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), u.size-off)]
	behind := u.at - off // bytes of last that are asked for
	if u.z == nil || behind > int64(len(u.last)) {
		if err := u.begin(); err != nil {
			return 0, err
		}
		behind = -off
	}
	if behind < 0 {
		if _, err := io.CopyN(io.Discard, u.z, -behind); err != nil {
			u.z = nil
			return 0, err
		}
		u.at, behind = off, 0
	}
	n = copy(p, u.last[int64(len(u.last))-behind:])
	more, err := io.ReadFull(u.z, p[n:])
	n, u.at = n+more, u.at+int64(more)
	if more > 0 || behind == 0 {
		u.last = append(u.last[:0], p[:n]...)
	}
	if err != nil {
		u.z = nil
	}
	return n, err
}

// beginning keeps the first bytes of what is written to it.
type beginning struct {
	b    []byte
	room int
}

func (w *beginning) Write(p []byte) (int, error) {
	w.b = append(w.b, p[:min(len(p), w.room-len(w.b))]...)
	return len(p), nil
}
