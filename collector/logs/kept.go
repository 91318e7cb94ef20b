package logs

import (
	"cmp"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// While the server takes no lines, they stay in their files. A rotated file whose
// name is gone has no other place than its open descriptor, which ends with the
// process, and its blocks are held on the node's disk. Such files go, compressed,
// into a folder of the collector's own, up to a bound, and are read from there
// like those that the kubelet compressed: with their beginning as identity, and
// from the position at which the server was.

// Orders of a backlog.
const (
	OldestFirst = "oldest" // as the lines were written; what comes when there is no room is dropped
	NewestFirst = "newest" // what is in the pods' folders first, then what was kept; the oldest make room
)

// Keep bounds what is kept of files that rotation took before they were read.
type Keep struct {
	Bytes int64         // on disk, compressed; default nothing
	Age   time.Duration // default 24 h
	First string        // OldestFirst, the default, or NewestFirst
	After time.Duration // how long the server took nothing before; default 10 s
}

func (k *Keep) complete() error {
	k.Age = cmp.Or(k.Age, 24*time.Hour)
	k.First = cmp.Or(k.First, OldestFirst)
	k.After = cmp.Or(k.After, 10*time.Second)
	if k.First != OldestFirst && k.First != NewestFirst {
		return fmt.Errorf("order of a backlog of logs is %q, must be %s or %s", k.First, OldestFirst, NewestFirst)
	}
	if k.Bytes < 0 || k.Age < 0 || k.After < 0 {
		return errors.New("bounds of kept logs must not be negative")
	}
	return nil
}

// keptDir is the folder of kept files, by pod and container as under Root.
const keptDir = "kept"

// keepingName is of a file that is being made.
const keepingName = "keeping-"

// keptSuffix orders kept files among themselves. It says, too, whether a record of the
// file goes on in the next one.
func keptSuffix(n int64, opens bool) string {
	s := fmt.Sprintf("00000000-%020d", n)
	if opens {
		s += opensSuffix
	}
	return s
}

const opensSuffix = "-open"

func (r *Files) newestFirst() bool { return r.opts.Keep.First == NewestFirst }

func (r *Files) keptOf(c *container) string {
	return filepath.Join(r.opts.Dir, keptDir, filepath.Base(filepath.Dir(c.dir)), filepath.Base(c.dir))
}

// away says that the server takes nothing, and a batch is on its way to it.
func (r *Files) away() bool {
	return r.opts.Keep.Bytes > 0 && r.now().Sub(r.taken) >= r.opts.Keep.After && !r.journal.settled()
}

// A turn of keeping: so many files, for so long at most, as nothing is read and nothing is
// sent meanwhile. What a turn keeps is in one write of the journal.
const (
	keepAtOnce = 32
	keepFor    = 300 * time.Millisecond
	// keepRetry is how long nothing is kept after that failed: the disk may be full.
	keepRetry = 5 * time.Second
)

// keeping is a copy of a file that has no name yet.
type keeping struct {
	c        *container
	f        *file
	out      *os.File
	dev, ino uint64
	path     string // that it gets
	size     int64
	opens    bool
	head     []byte // of the text
}

// discard gives it up; the file is read from its descriptor.
func (k keeping) discard(err error) error {
	return errors.Join(fmt.Errorf("keep log file: %w", err), k.out.Close(), os.Remove(k.out.Name()))
}

// crowded says that of those files of a container that only their open descriptors have, but for
// some, there are soon so many that they are given up: the server is there, and slow.
func (r *Files) crowded(c *container, but map[*file]bool) bool {
	n := 0
	for _, f := range c.files {
		if f.onlyOpen() && !but[f] {
			n++
		}
	}
	return n > r.bounds.deleted/2
}

// onlyOpen says of a file that is to be read that it is gone from its folder, and not kept.
func (f *file) onlyOpen() bool {
	return f.unlinked && !f.done && !f.kept && f.copyOf == nil && !f.unclear
}

// keepAll keeps files that rotation took, the oldest of each container first, while the
// server takes nothing, or too little: as many as a turn has, of which the next one goes on with
// another container. more says that it has something to do. b is being filled.
func (r *Files) keepAll(b *batch[filePos]) (more bool) {
	away := r.away()
	if r.opts.Keep.Bytes == 0 || !away && !slices.ContainsFunc(r.order, func(c *container) bool { return r.crowded(c, nil) }) {
		return false
	}
	noted := r.noteBehindKept(b)
	var made []keeping
	if began := r.now(); !began.Before(r.keepAgain) {
		made, more = r.copyAll(began, away)
	}
	if !r.name(made, b) && noted {
		r.writeJournal()
	}
	return more
}

// noteBehindKept has the journal know what lies behind kept files, as far as that came to be
// known: a kill would leave nothing by which to find that it is gone. It is true when the
// journal is to be written.
func (r *Files) noteBehindKept(b *batch[filePos]) (noted bool) {
	for _, c := range r.order {
		for i, f := range c.files {
			if !f.kept {
				continue
			}
			if f.next == 0 {
				f.noteNext(c.uncut(r.following(c, i)))
			}
			if f.noted != (behind{f.next, f.after}) {
				r.noteNeighbours(f, b)
				noted = true
			}
		}
	}
	return noted
}

// copyAll makes the copies of a turn that began at a time: of all containers while the server is
// away, else of those that are crowded. more says that there are further files.
func (r *Files) copyAll(began time.Time, away bool) (made []keeping, more bool) {
	tried := map[*file]bool{}
	for found := true; found; {
		found = false
		for range r.order {
			if len(made) >= r.bounds.turn || len(tried) > 0 && r.now().Sub(began) >= keepFor {
				return made, true
			}
			r.keepTurn = (r.keepTurn + 1) % len(r.order)
			c := r.order[r.keepTurn]
			if !away && !r.crowded(c, tried) {
				continue
			}
			i := slices.IndexFunc(c.files, func(f *file) bool { return f.onlyOpen() && f.noRoom != r.freed+1 && !tried[f] })
			if i < 0 {
				continue
			}
			found = true
			f := c.files[i]
			tried[f] = true
			k, ok, err := r.copy(c, f, made)
			switch {
			case errors.Is(err, errNoRoom) && r.newestFirst() && len(made) > 0 && k.size <= r.opts.Keep.Bytes:
				return made, true // these can make room once they have their names
			case errors.Is(err, errNoRoom):
				f.noRoom = r.freed + 1 // until something goes
				r.keepingFailed(f, err)
			case err != nil:
				r.keepAgain = r.now().Add(keepRetry)
				r.keepingFailed(f, err) // its descriptor has it for now
				return made, false
			case ok:
				made = append(made, k)
			}
		}
	}
	return made, false
}

// name gives copies their names, once the journal knows whose they are and what lies behind
// each: a start that finds one must. What made room for them goes then. It is true when the
// journal was written.
func (r *Files) name(made []keeping, b *batch[filePos]) (written bool) {
	made = slices.DeleteFunc(made, func(k keeping) bool {
		err := k.out.Sync()
		if err != nil {
			r.keepAgain = r.now().Add(keepRetry)
			r.keepingFailed(k.f, k.discard(err))
		}
		return err != nil
	})
	for _, k := range made {
		r.becomes(k.c, k.f, b, &file{fd: k.out, dev: k.dev, ino: k.ino, head: k.head}, k.c.uncut(r.following(k.c, slices.Index(k.c.files, k.f))))
		k.f.kept, k.f.keptPath, k.f.keptBytes, k.f.keptAt, k.f.opens = true, k.path, k.size, r.now(), k.opens
	}
	if len(made) > 0 {
		r.writeJournal()
	}
	written = r.removeGivenUp(len(made) > 0) || len(made) > 0
	dirs := map[string]bool{}
	for _, k := range made {
		if err := os.Rename(k.out.Name(), k.path); err != nil {
			k.f.kept = false // it is read from what is open
			r.keepAgain = r.now().Add(keepRetry)
			r.keepingFailed(k.f, errors.Join(fmt.Errorf("keep log file: %w", err), os.Remove(k.out.Name())))
			continue
		}
		dirs[filepath.Dir(k.path)] = true
		r.keepFailed = ""
		r.metrics.kept.Inc()
		r.log.Info("kept log file that rotation took", "path", k.path, "bytes", k.size)
	}
	for dir := range dirs {
		if err := syncDir(dir); err != nil {
			r.log.Warn("sync folder of kept log files", "path", dir, "err", err)
		}
	}
	return written
}

func (r *Files) keepingFailed(f *file, err error) {
	if err.Error() != r.keepFailed {
		r.log.Warn("keep log file that rotation took", "path", f.path, "err", err)
	}
	r.keepFailed = err.Error()
}

// noteNext notes when the file after a kept one begins, or which it is where it has no line
// yet: a start finds out by it that files between it and what is there are gone, which were
// only open here.
func (f *file) noteNext(next *file) {
	if next == nil {
		return
	}
	if at := next.begins(); at != 0 {
		f.next, f.after = at, ""
	} else if f.next == 0 && next.fd != nil {
		f.after = next.born()
	}
}

// born tells a file from those that had its inode before, where the file system says when it
// was made.
func (f *file) born() string {
	st, err := f.extended()
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%d:%d.%09d", st.Ino, st.Btime.Sec, st.Btime.Nsec)
}

// birth is when the file was made, where the file system says so.
func (f *file) birth() (at time.Time, ok bool) {
	st, err := f.extended()
	return time.Unix(st.Btime.Sec, int64(st.Btime.Nsec)), err == nil && st.Mask&unix.STATX_BTIME != 0
}

func (f *file) extended() (st unix.Statx_t, err error) {
	err = unix.Statx(int(f.fd.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_INO|unix.STATX_BTIME, &st)
	return st, err
}

// noteNeighbours has the journal know what lies before and after a kept file.
func (r *Files) noteNeighbours(f *file, b *batch[filePos]) {
	r.journal.amend(f.key(), f.noteIn(b))
}

// noteIn has the batch that is being filled, nil for none, know what lies before and after
// the file, and gives how a position is amended by it.
func (f *file) noteIn(b *batch[filePos]) func(filePos) filePos {
	f.noted = behind{f.next, f.after}
	note := func(p filePos) filePos {
		p.Next, p.After, p.Behind = f.next, f.after, f.behindGap
		return p
	}
	if b != nil {
		if p, ok := b.to[f.key()]; ok {
			b.to[f.key()] = note(p)
		}
	}
	return note
}

// copy makes a copy of a whole file, so that its beginning tells what it is; ok is false when
// it is not the time for that. made are the others of this turn.
func (r *Files) copy(c *container, f *file, made []keeping) (k keeping, ok bool, err error) {
	was, err := stat(f.fd)
	if err != nil || was.Nlink > 0 {
		return k, false, err // it was only renamed while we looked
	}
	size, same := was.Size, true
	if !f.compressed() {
		// Its writer may not have let go yet: it was written to, or removed, not long ago.
		grace := r.grace
		if !c.gone && r.following(c, slices.Index(c.files, f)) == nil {
			grace = r.opts.Nameless
		}
		if r.changedWithin(was, grace, r.now()) {
			c.wakeAt(r.changed(was).Add(grace))
			return k, false, nil
		}
		size, same, err = f.identify()
	}
	if err != nil || !same || f.printLen < knownHead {
		return k, false, err // too short to be known again; it stays open
	}
	dir := r.keptOf(c)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return k, false, fmt.Errorf("keep log file: %w", err)
	}
	out, err := os.CreateTemp(dir, keepingName)
	if err != nil {
		return k, false, fmt.Errorf("keep log file: %w", err)
	}
	f.opens = c.endsOpen(f, size)
	k = keeping{c: c, f: f, out: out, opens: f.opens, head: f.head}
	if err := f.compressTo(out, size); err != nil {
		return k, false, k.discard(err)
	}
	st, err := stat(out)
	if err != nil {
		return k, false, k.discard(err)
	}
	k.dev, k.ino, k.size = uint64(st.Dev), st.Ino, st.Size //nolint:unconvert // Dev is narrower on some systems
	if !f.compressed() {
		k.head = make([]byte, f.printLen)
		if _, err := f.fd.ReadAt(k.head, 0); err != nil {
			return k, false, k.discard(err)
		}
	}
	if !r.makeRoom(k.size, made) {
		return k, false, k.discard(errNoRoom)
	}
	r.keptLast = max(r.keptLast+1, r.now().UnixNano())
	k.path = filepath.Join(dir, fmt.Sprintf("%d.log.%s%s", f.instance, keptSuffix(r.keptLast, k.opens), packedSuffix))
	f.ended = r.now().Add(-r.grace) // what is written to it now is not in the copy
	return k, true, nil
}

// compressTo writes so many bytes of a file, compressed; one that is already as it is.
func (f *file) compressTo(out io.Writer, size int64) error {
	text := io.NewSectionReader(f.fd, 0, size)
	if f.compressed() {
		_, err := io.Copy(out, text)
		return err
	}
	z, err := gzip.NewWriterLevel(out, gzip.BestSpeed)
	if err != nil {
		return err
	}
	_, err = io.Copy(z, text)
	return errors.Join(err, z.Close())
}

// endsOpen says whether a record goes on behind a file that is about to be kept.
func (c *container) endsOpen(f *file, size int64) bool {
	f.openIn = [2]bool{} // it may have grown since
	open := c.openAfter(f, size)
	return open[0] || open[1]
}

// openAfter says of each stream whether its last piece in a file is partial or, where the file
// has none of it, whether it is in what was kept before that, or is about to be.
func (c *container) openAfter(f *file, size int64) (open [2]bool) {
	if f.openIn != open {
		return f.openIn
	}
	i := slices.Index(c.files, f)
	if f.done { // what is pending tells
		for stream, w := range c.pending {
			open[stream] = w != nil && w.partial && slices.Index(c.files, w.in) <= i
		}
		return open
	}
	open, has := f.lastPieces(size)
	for i--; i >= 0 && (c.files[i].copyOf != nil || c.files[i].unclear || c.files[i].hasNoLine()); i-- {
	}
	if i >= 0 && c.files[i].opens && !(has[0] && has[1]) {
		before := c.openAfter(c.files[i], 0)
		for stream := range open {
			open[stream] = open[stream] || before[stream] && !has[stream]
		}
	}
	f.openIn = open
	return open
}

// lastPieces says of which streams there are pieces among the last of the file, and of which the
// last one is partial. The size of a compressed one is not asked for.
func (f *file) lastPieces(size int64) (partial, has [2]bool) {
	tail := make([]byte, min(size, readBytes))
	if f.compressed() {
		tail = f.lastUnpacked()
	} else {
		n, _ := f.fd.ReadAt(tail, size-int64(len(tail)))
		tail = tail[:n]
	}
	for line := range strings.Lines(string(tail)) { // the first may be a part of one, and is no piece then
		if p, ok := parsePiece(strings.TrimSuffix(line, "\n")); ok {
			stream := streamNumber(p.stream)
			partial[stream], has[stream] = p.partial, true
		}
	}
	return partial, has
}

// becomes goes over from a file to what was compressed of it. From here on it is the
// same file by another name: the positions of the batch that is on its way and of
// the one that is being filled, b if there is one, go with it. The journal is to be written
// after that.
func (r *Files) becomes(c *container, f *file, b *batch[filePos], packed, next *file) {
	old := f.key()
	f.close()
	f.fd, f.head, f.packed, f.dev, f.ino, f.id = packed.fd, packed.head, true, packed.dev, packed.ino, packed.id
	first := c.pos(f)
	// If the server has nothing of it:
	first.Offset, first.Scan, first.Done, first.Last, first.Open, first.Lines = f.began, 0, nil, f.resumed.Last, 0, f.resumed.Lines
	if p, ok := positionOf(f, r.journal.only(inFolder(c.dir))); ok && p.begun() && p.further(first) {
		first = p.on(first) // of the file that it is a copy of, of which more was read than it has
	}
	r.letGo(f)
	r.journal.become(old, besides(old, f.first), f.key(), first, f.beginsAs)
	if b == nil || !r.journal.renameIn(b.from, b.to, old, f.key(), f.beginsAs) {
		f.inBatch = nil
	}
	f.noteNext(next)
	r.noteNeighbours(f, b)
	if i := slices.Index(c.files, f); i > 0 && c.files[i-1].kept && c.files[i-1].next == 0 {
		c.files[i-1].noteNext(f) // it is another file by now than the one that has no line
		r.noteNeighbours(c.files[i-1], b)
	}
}

// rename has what is known of a file, and what batches have of it, go by the name that it has
// now. b is the one that is being filled, if there is one; it says whether that has it.
func (r *Files) rename(b *batch[filePos], old string, f *file) bool {
	r.letGo(f)
	r.journal.rename(old, f.key(), f.beginsAs)
	return b != nil && r.journal.renameIn(b.from, b.to, old, f.key(), f.beginsAs)
}

// letGo has those that had the inode of a file before it, in whatever container, go by names
// of their own: batches are about to have its positions by that.
func (r *Files) letGo(f *file) {
	for _, c := range r.order {
		r.takesInode(c, f)
	}
}

var errNoRoom = errors.New("no room for kept log files")

// makeRoom says whether a file of that size may be kept beside those that are about to be; with
// the newest first, older ones make room.
func (r *Files) makeRoom(size int64, made []keeping) bool {
	if size > r.opts.Keep.Bytes {
		return false
	}
	used := int64(0)
	for _, k := range made {
		used += k.size
	}
	type of struct {
		c *container
		f *file
	}
	var all []of
	for _, o := range r.order {
		for _, k := range o.files {
			if k.kept {
				used += k.keptBytes
				if !k.done && k.unpacked == nil {
					all = append(all, of{o, k})
				}
			}
		}
	}
	slices.SortFunc(all, func(a, b of) int { return a.f.keptAt.Compare(b.f.keptAt) })
	for used+size > r.opts.Keep.Bytes {
		if !r.newestFirst() || len(all) == 0 {
			return false
		}
		used -= all[0].f.keptBytes
		r.giveUp(all[0].c, all[0].f, DropFull)
		all = all[1:]
	}
	return true
}

// giveUp abandons a kept file, which removeGivenUp removes; its lines are counted and told.
func (r *Files) giveUp(c *container, f *file, reason string) {
	r.abandon(c, f, reason)
	f.kept = false
	r.freed++
	r.givenUp = append(r.givenUp, f.keptPath)
}

// removeGivenUp removes the kept files that were given up. A start could not find that out any
// more, so it is noted before they go; written says that it is. It is true when it wrote that.
func (r *Files) removeGivenUp(written bool) (wrote bool) {
	if len(r.givenUp) == 0 {
		return false
	}
	if !written {
		r.writeJournal()
	}
	for _, path := range r.givenUp {
		if err := os.Remove(path); err != nil {
			r.log.Warn("remove kept log file", "err", err)
		}
	}
	r.givenUp = nil
	return !written
}

// tidy removes kept files that the server has, and gives up those that are too old, which may take
// further turns.
func (r *Files) tidy() {
	r.tooOld = false
	for _, c := range r.order {
		for i, f := range c.files {
			if !f.kept {
				continue
			}
			if !f.done && f.unpacked == nil && r.now().Sub(f.keptAt) > r.opts.Keep.Age {
				if _, counted, _ := f.count(&r.countRoom); counted {
					r.giveUp(c, f, DropOld)
				} else {
					r.tooOld = true
				}
				continue
			}
			p, ok := of(f, f.first, r.journal.position)
			if !f.done || !ok || p.Offset < f.offset || p.Scan != 0 || !c.gone && !r.hasLater(c, i) {
				continue
			}
			if err := os.Remove(f.keptPath); err != nil && !errors.Is(err, os.ErrNotExist) {
				r.log.Warn("remove kept log file", "err", err)
				continue
			}
			f.kept = false
			r.freed++
			_ = os.Remove(r.keptOf(c)) // where others are left, this fails
			_ = os.Remove(filepath.Dir(r.keptOf(c)))
		}
	}
	r.removeGivenUp(false)
}

// hasLater says whether the server has lines of a file after the i-th. Only then
// does a start know that what the kubelet compressed of the i-th was read.
func (r *Files) hasLater(c *container, i int) bool {
	return slices.ContainsFunc(c.files[i+1:], func(f *file) bool {
		p, ok := of(f, f.first, r.journal.position)
		return ok && p.Offset > 0
	})
}

// keptFiles opens what an earlier run kept of a container.
func (r *Files) keptFiles(c *container) (out []*file) {
	dir := r.keptOf(c)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // mostly there is none
	}
	for _, e := range entries {
		instance, suffix, ok := packedNameOf(e.Name())
		if !ok {
			_ = os.Remove(filepath.Join(dir, e.Name())) // not finished by a kill
			continue
		}
		// Its path is what it was to the positions: one in the container's folder.
		f := &file{path: filepath.Join(c.dir, e.Name()), instance: instance, suffix: suffix, packed: true, kept: true, opens: strings.HasSuffix(suffix, opensSuffix), keptPath: filepath.Join(dir, e.Name()), unlinked: true}
		if f.fd, err = os.Open(f.keptPath); err == nil {
			err = f.identifyPacked()
		}
		if err != nil {
			r.log.Warn("open kept log file", "path", f.keptPath, "err", err)
			f.close()
			continue
		}
		if st, err := f.fd.Stat(); err == nil {
			f.keptBytes, f.keptAt = st.Size(), st.ModTime()
		}
		out = append(out, f)
	}
	return out
}

// keptContainers gives the folders of containers of which something is kept.
func (r *Files) keptContainers() []string {
	found, _ := filepath.Glob(filepath.Join(r.opts.Dir, keptDir, "*", "*")) // the pattern is good
	for i, p := range found {
		found[i] = filepath.Join(r.opts.Root, filepath.Base(filepath.Dir(p)), filepath.Base(p))
	}
	return found
}

// withKept adds what was kept to the new files of a container, at its first look
// of a start. What the kubelet compressed of the same file is left out.
func (r *Files) withKept(c *container, fresh []*file) []*file {
	var kept, added []*file
	if !c.scanned {
		c.scanned = true
		added = r.keptFiles(c)
	}
	kept = append(kept, added...)
	for _, f := range c.files {
		if f.kept {
			kept = append(kept, f)
		}
	}
	fresh = slices.DeleteFunc(fresh, func(f *file) bool {
		i := -1
		if f.packed {
			i = slices.IndexFunc(kept, func(k *file) bool { return k.print == f.print && k.printLen == f.printLen })
		}
		if i >= 0 {
			c.notePacked(f, kept[i])
			f.close()
		}
		return i >= 0
	})
	return append(fresh, added...)
}
