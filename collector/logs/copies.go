package logs

import (
	"cmp"
	"errors"
	"path/filepath"
	"slices"
)

// Where rotation copies a file and then cuts it to nothing, a position is of what the
// file was, and so is what a batch on its way had of it: a start reads that in the copy,
// which is whole before the file is cut. A file may be cut at any moment, also while the
// batch is being made anew.

// errCut says of a file that is read again for a batch that it was cut meanwhile.
var errCut = errors.New("it was cut")

// goesOnAt says whether a file is a copy of the one of a position, as far as its first line
// tells.
func (f *file) goesOnAt(p filePos) bool {
	return f.suffix != "" && p.First != 0 && f.first == p.First && filepath.Dir(f.path) == filepath.Dir(p.Path)
}

// shortOf says whether a rotated file is a copy of another one that had less then than is in that
// one's fingerprint by now: it begins with the same line, of which the time tells.
func (f *file) shortOf(printLen int, first int64) bool {
	if f.suffix == "" || first == 0 {
		return false
	}
	head := f.beginning()
	return len(head) >= knownHead && len(head) < printLen && f.firstTime() == first
}

// asCopy has a rotated file go on at its end at most: it may be a copy, and what was written
// to the file itself after it was copied, and read, is not in it.
func (f *file) asCopy() {
	if size, ok := f.wholeSize(); ok && f.suffix != "" {
		f.offset = min(f.offset, size)
	}
}

// maxCuts bounds how often the files of a container may be cut while a batch is made anew.
const maxCuts = 20

// replay puts into b what the batch that is made anew had of a container's files, by their
// positions in it. Those that are there go into sent. Where the rest of one is gone, begun
// has how far it was there.
func (r *Files) replay(c *container, b *batch[filePos], had map[string]filePos, sent map[*file]filePos, begun map[filePos]filePos) {
	r.nameStream(c, true)
	if c.lacks(had) {
		r.scanContainer(c) // it may have been copied and cut since
	}
	r.replayed = map[*file]*[2]int64{}
	defer func() { r.replayed = nil }()
	looked := map[*file]bool{}
	for cuts := 0; ; {
		i := slices.IndexFunc(c.files, func(f *file) bool { return !looked[f] })
		if i < 0 {
			break
		}
		f := c.files[i]
		looked[f] = true
		if cuts < maxCuts && f.wasCut() {
			cuts++
			r.scanContainer(c)
			if o, _ := c.copyFor(f); o != nil {
				r.standIn(c, f, o)
				if to, ok := sent[f]; ok {
					sent[o] = to
					delete(sent, f)
				}
				looked[f], looked[o] = false, false
			}
			continue // without a copy nothing is left of it
		}
		to, ok := sent[f]
		if !ok {
			to, ok = r.hadOf(f, had)
		}
		if !ok {
			looked[f] = cuts >= maxCuts || !f.wasCut() // since it was asked
			continue
		}
		sent[f] = to
		f.behindGap = f.behindGap || to.Behind // else a record would go on over that
		end := to.read()
		r.replayed[f] = &[2]int64{min(to.done(0), end), min(to.done(1), end)}
		limit := int(end)
		if _, _, err := r.readFile(c, f, b, &limit, end); err != nil && !errors.Is(err, errCut) {
			r.log.Warn("read log file again", "path", f.path, "err", err)
		}
		if f.offset < end { // a last line without its newline
			r.tail(c, f, b)
		}
		if f.offset < end && f.wasCut() {
			looked[f] = false
			continue
		}
		f.repack()
	}
	for stream, w := range c.pending {
		if w == nil {
			continue
		}
		if !r.admits(b, nil, w) {
			continue
		}
		c.pending[stream] = nil
		r.counts.read(c.id, r.emit(c, b, stream, w), 0)
	}
	r.touchNone()
	r.wrote(c)
	for f := range r.replayed {
		to := sent[f]
		if at := c.pos(f); at.Offset < to.read() || at.Scan != 0 && b.brimful() {
			at.Gen = to.Gen // of which it is, by whatever name
			begun[to] = at
		}
		began := f.began // nothing of the batch is known to be taken
		f.resume(to)
		f.began = min(began, f.began)
	}
	c.pending = [2]*pending{} // what did not go in
}

// hadOf says through where a file was in the batch that is made anew, if it was.
func (r *Files) hadOf(f *file, had map[string]filePos) (to filePos, ok bool) {
	if f.fd == nil {
		return to, false
	}
	if to, ok = had[f.key()]; ok {
		ok = f.hasHeadOf(to)
	}
	if !ok && f.copyOf == nil && !f.unclear {
		// Compressed, or copied and cut to nothing, while nobody looked.
		to, ok = positionOf(f, had)
		ok = ok && (f.packed || !r.stillThere(to))
	}
	return to, ok
}

// lacks says whether any of the container's files of these positions is not there, for all
// that is known.
func (c *container) lacks(among map[string]filePos) bool {
	for _, p := range among {
		if filepath.Dir(p.Path) == c.dir && !slices.ContainsFunc(c.files, func(f *file) bool { return f.fd != nil && f.beginsAs(p) }) {
			return true
		}
	}
	return false
}

// settle finds out of what those files are copies of which that is not clear yet, and has
// copies take the places of the files that were cut: before anything is read of what those
// were after that, of which there may be a copy, too.
func (r *Files) settle(c *container) {
	for settled := false; !settled; {
		r.placeAll(c)
		settled = true
		if r.replayed != nil {
			return // replay has them take their places
		}
		for _, f := range c.files {
			o, copied := c.copyFor(f)
			// What is pending and in no copy has to be in a batch first.
			if o != nil && f.wasCut() && !slices.ContainsFunc(c.pending[:], func(w *pending) bool { return w.beyond(f, copied) }) {
				r.standIn(c, f, o)
				settled = false
				break
			}
		}
	}
}

// placeAll finds out what those files are that are not clear, where that can be told: the
// longest first, as of those that begin alike the others are copies of that.
func (r *Files) placeAll(c *container) {
	var unclear []*file
	for _, f := range c.files {
		if f.unclear {
			unclear = append(unclear, f)
		}
	}
	if len(unclear) == 0 {
		return
	}
	sizes := map[*file]int64{}
	for _, f := range unclear {
		sizes[f], _ = f.wholeSize()
	}
	slices.SortStableFunc(unclear, func(a, b *file) int { return cmp.Compare(sizes[b], sizes[a]) })
	for _, f := range unclear {
		r.place(c, f)
	}
}

// copyFor gives the copy of a file that takes its place once it is cut, and how much of it
// that has: of several the longest, as a file is cut right after it was copied.
func (c *container) copyFor(f *file) (o *file, copied int64) {
	for _, x := range c.files {
		if x.copyOf != f {
			continue
		}
		if size, ok := x.wholeSize(); ok && (o == nil || size > copied) {
			o, copied = x, size
		}
	}
	return o, copied
}

// uncut gives the copy of a file that was cut since it was looked at, which is about to take its
// place, or else the file itself.
func (c *container) uncut(f *file) *file {
	if f == nil {
		return nil
	}
	if o, _ := c.copyFor(f); o != nil && f.wasCut() {
		return o
	}
	return f
}

// behindToo has what is gone before a file be gone before the one that it turned out to be a copy of.
func (c *container) behindToo(f, of *file) {
	of.behindGap = of.behindGap || f.behindGap
	for i := range c.lost {
		if c.lost[i].next == f {
			c.lost[i].next = of
		}
	}
}

// letCopiesGo lets go of copies that were removed and take nobody's place any more: their file
// was read, or another copy of it has as much. They get no position: that would be as far as
// they go, and their file may be read less far.
func (c *container) letCopiesGo() {
	for _, f := range c.files {
		if f.done || f.copyOf == nil || !f.unlinked {
			continue
		}
		of := f.copyOf
		longest, _ := c.copyFor(of)
		if of.done || !slices.Contains(c.files, of) || longest != nil && longest != f {
			f.done = true
			f.close()
		}
	}
}

// beyond says whether a record is whole and ends in a file beyond what a copy has of it.
func (w *pending) beyond(f *file, copied int64) bool {
	return w != nil && !w.partial && w.in == f && w.end > copied
}

// standIn has a copy go on where the file is that it was made of, which was cut.
func (r *Files) standIn(c *container, f, o *file) {
	r.log.Info("log file truncated", "path", f.path, "offset", f.offset, "copy", o.path)
	for _, other := range c.files {
		if other.copyOf == f { // of what that was
			other.copyOf = o
		}
	}
	o.copyOf, o.unclear = nil, false
	o.gen, o.offset, o.skip, o.first, o.last, o.sent, o.lost = f.gen, f.offset, f.skip, f.first, f.last, f.sent, f.lost
	o.gaveUp = f.gaveUp
	o.resumed, o.spots, o.behindGap, o.marked, o.hasMark = f.resumed, f.spots, f.behindGap, f.marked, f.hasMark
	o.inBatch = nil
	o.asCopy()
	o.began = min(f.began, o.offset)
	if slices.Index(c.files, o) > slices.Index(c.files, f) {
		c.moveBefore(o, f)
	}
	c.moveRecords(f, o)
	for i := range c.lost {
		if c.lost[i].file == f {
			c.lost[i].file = o
		}
		if c.lost[i].next == f {
			c.lost[i].next = o
		}
	}
	if through := r.replayed[f]; through != nil {
		r.replayed[o] = through
		delete(r.replayed, f)
	}
	if o.offset == f.offset { // else what batches had beyond the copy is told by number
		if r.rename(r.filling, f.key(), o) {
			o.inBatch, o.inGen = f.inBatch, f.inGen
		}
		f.marked, f.hasMark = filePos{}, false
	}
	f.anew(f.former())
	c.dirty = true
}
