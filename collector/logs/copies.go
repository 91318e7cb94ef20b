package logs

import (
	"bytes"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// Where rotation copies a file and then cuts it to nothing, what the file was goes on in
// the copy, at the same offsets: it takes the place of the file as it was. A copy is
// whole before its file is cut, so it is there when that is seen; where none is, what was
// written after the last line that was read is lost, through the first line of what came
// after that.

// copied says whether files of the container may be copies of others, for all that is known.
func (c *container) copied() bool {
	return len(c.files) > 1
}

// cutFiles gives the files that were cut to nothing since they were looked at.
func (c *container) cutFiles() (out []*file) {
	for _, f := range c.files {
		if f.fd == nil || f.done || f.kept || f.compressed() || f.copyOf != nil {
			continue
		}
		if size, same, err := f.identify(); err == nil && (!same || size < f.offset) {
			out = append(out, f)
		}
	}
	return out
}

// beginsLike says whether a file begins as another one did when it was looked at.
func (f *file) beginsLike(o *file) bool {
	if o.printLen < knownHead {
		return false
	}
	h, ok := f.headHash(o.printLen)
	return ok && h == o.print
}

// mayBecome says whether a file, as short as it may be, may be a copy of another one that
// is being written. If not, what it is by now is compared after that.
func (f *file) mayBecome(o *file) bool {
	if f.fd == nil || o.fd == nil || f.compressed() || o.compressed() {
		return false
	}
	var head, of [fingerprintBytes]byte
	m, _ := o.fd.ReadAt(of[:], 0) // first: once that is cut, its copy is whole
	n, _ := f.fd.ReadAt(head[:], 0)
	n = min(n, m)
	return m > 0 && bytes.Equal(head[:n], of[:n])
}

// chain is what is known of a container's copies before its folder is looked at.
type chain struct {
	current *file // the one that copies are made of; nil if there is none
	blank   bool  // nothing is in it
	newest  *file // of those that were rotated
}

func (c *container) chain() (ch chain) {
	for _, f := range c.files {
		switch {
		case f.suffix != "":
			ch.newest = f
		case f.fd != nil && !f.unlinked:
			ch.current, ch.blank = f, f.printLen == 0
		}
	}
	return ch
}

// end is the time of the file's last line, as far as it is known.
func (f *file) end() int64 {
	switch {
	case f.done || f.fd == nil:
		return f.last
	case f.compressed():
		return f.endsAt()
	}
	return max(f.last, f.lastTime())
}

// settleCut has files that were cut go on in their copies, which are known or among fresh,
// and tells what is lost where there are none. It gives the others of fresh, which are in
// their order.
func (r *Files) settleCut(c *container, cut, fresh []*file, was chain) []*file {
	whole := false // a copy that is older than all others that came is there
	for _, f := range cut {
		o := c.copyThatWaits(f)
		if i := slices.IndexFunc(fresh, func(o *file) bool { return o.instance == f.instance && o.beginsLike(f) }); o == nil && i >= 0 {
			o, whole = fresh[i], true
			fresh = slices.Delete(fresh, i, i+1)
			c.insert(o)
		}
		r.log.Info("log file truncated", "path", f.path, "offset", f.offset, "copied", o != nil)
		if o != nil {
			r.goesOnIn(c, f, o)
			f.anew()
		} else {
			whole = true // or told
			r.cutUnseen(c, f, fresh)
		}
		c.dirty = true
	}
	// Others may have come and gone since the newest that was there: had these stayed, it
	// would be there, too.
	x, n := was.current, was.newest
	if whole || x == nil || x.unlinked || n == nil || !n.unlinked || n.twin || !was.blank && !slices.Contains(cut, x) {
		return fresh
	}
	i := slices.IndexFunc(fresh, func(o *file) bool {
		return o.instance == x.instance && o.suffix != "" && !o.packed && !o.kept && o.firstTime() > 0
	})
	if i < 0 {
		return fresh
	}
	from := n.end()
	if until := fresh[i].firstTime(); until > from {
		r.lostBetween(c, loss{file: fresh[i], reason: DropRotated, drop: drop{from: from, until: until}})
		fresh[i].behindGap = true
	}
	return fresh
}

// copyThatWaits gives the copy of a file that was found before the file was cut.
func (c *container) copyThatWaits(f *file) *file {
	for _, o := range c.files {
		if o != f && o.fd != nil && (o.copyOf == f || !o.unclear.IsZero()) && o.beginsLike(f) {
			return o
		}
	}
	return nil
}

// goesOnIn puts a copy in the place of the file that was cut, as it was.
func (r *Files) goesOnIn(c *container, f, o *file) {
	o.copyOf, o.maybeCopyOf, o.unclear, o.caught = nil, "", time.Time{}, false
	o.gen, o.offset, o.began, o.skip, o.first, o.last, o.sent = f.gen, f.offset, f.began, f.skip, f.first, f.last, f.sent
	o.resumed, o.spots, o.behindGap, o.marked, o.hasMark, o.unnoted = f.resumed, f.spots, f.behindGap, f.marked, f.hasMark, true
	if slices.Index(c.files, o) > slices.Index(c.files, f) {
		c.moveBefore(o, f)
	}
	r.becomesOf(c, f, o)
	if p := r.replayed[f]; p != nil {
		r.replayed[o] = p
		delete(r.replayed, f)
	}
}

// becomesOf has what refers to a file as it was refer to what that is now.
func (r *Files) becomesOf(c *container, f, now *file) {
	for _, w := range c.pending {
		if w == nil {
			continue
		}
		if w.file == f {
			w.file = now
		}
		if w.in == f {
			w.in = now
		}
	}
	for i := range c.lost {
		if c.lost[i].file == f {
			c.lost[i].file = now
		}
		if c.lost[i].next == f {
			c.lost[i].next = now
		}
	}
}

// cutUnseen has it told that a file was cut whose copy nobody saw. fresh are the files that
// came, in their order.
func (r *Files) cutUnseen(c *container, f *file, fresh []*file) {
	was := *f
	was.fd, was.done, was.unlinked = nil, true, true
	i := slices.Index(c.files, f)
	from := r.lastOf(c, f, c.files[:i])
	c.files = slices.Insert(c.files, i, &was)
	r.becomesOf(c, f, &was)
	delete(r.replayed, f)
	for _, w := range c.pending {
		if w != nil && w.in == &was {
			w.cut = true
		}
	}
	f.before = append(f.before, c.pos(&was))
	if len(f.before) > 8 {
		f.before = f.before[1:]
	}
	f.anew()
	next, until := f, r.now().UnixNano()
	for _, o := range append(slices.Clone(fresh), f) {
		if at := o.firstTime(); o.instance == f.instance && !o.kept && at > 0 {
			next, until = o, at
			break
		}
	}
	next.behindGap = true
	l := loss{file: &was, reason: DropRotated, drop: drop{from: from, until: max(from, until)}}
	if next != f { // which has the same name in a batch
		l.next = next
	}
	// With this the server knows all that there is to know of it.
	was.last, was.next = l.drop.until, l.drop.until
	r.lostBetween(c, l)
}

// lastOf is the time of the last line that is known of a file or else, where nothing of it
// was read, of those before it or, where there are none, of the container.
func (r *Files) lastOf(c *container, f *file, before []*file) (last int64) {
	if f.last > 0 {
		return f.last
	}
	for _, o := range slices.Backward(before) {
		if at := o.end(); at > 0 {
			return at
		}
	}
	_, to := r.journal.onItsWay()
	for _, known := range []map[string]filePos{r.journal.sources(), to} {
		for _, p := range known {
			if filepath.Dir(p.Path) == c.dir {
				last = max(last, p.Last)
			}
		}
	}
	return last
}

// lostBetween has it told that files of a time came and went before anybody looked.
func (r *Files) lostBetween(c *container, l loss) {
	r.counts.dropped(c.id, l.reason, 0)
	r.log.Warn("log files were rotated away before anybody looked", "path", l.file.path, "from", time.Unix(0, l.drop.from).UTC(), "until", time.Unix(0, l.drop.until).UTC())
	c.lost = append(c.lost, l)
	r.noteLost(c, "before "+besides(l.file.key(), l.drop.until))
}

// anew begins a file that was cut to nothing.
func (f *file) anew() {
	f.gen++
	f.caught, f.behindGap, f.unnoted = false, false, false
	f.offset, f.began, f.skip, f.print, f.printLen, f.first, f.last, f.next, f.sent = 0, 0, [2]int64{}, 0, 0, 0, 0, 0, 0
	f.resumed, f.written, f.spots = filePos{}, syscall.Timespec{}, spots{}
	_, _, _ = f.identify() // else the next look does
}
