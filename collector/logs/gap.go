package logs

import (
	"bytes"
	"cmp"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// What is lost, and how that is found out. A file that went while it was open in a
// collector that was killed, or while none ran, cannot be read any more. Of lines
// that were in the batch on its way, the journal has the number; of what was written
// after that, only the time is known: from the last line of which the server has
// heard to the first of what is there now.

// tell is a drop that a batch tells and that cannot be found out again.
type tell struct {
	Stream wire.LogStream `json:"stream"`
	Reason string         `json:"reason"`
	Lines  int            `json:"lines,omitempty"`
	Bytes  int64          `json:"bytes,omitempty"`
	From   int64          `json:"from,omitempty"`
	Until  int64          `json:"until"`
	// Noted is the source under which the journal has it.
	Noted string `json:"noted,omitempty"`
}

// loss is what a file had when it was given up.
type loss struct {
	file   *file
	reason string
	drop   drop
	next   *file   // the one after it, if it is known
	noted  string  // as what the journal has it
	at     filePos // of one that was given up in an earlier run, and is there
}

// tellLost puts into the batch what was lost, after what is left of the records that it
// cut. It is false when the batch must be sent first.
func (r *Files) tellLost(c *container, b *batch[filePos]) bool {
	defer r.mark(c, b)
	if !r.end(c, b, func(w *pending) bool { return w.cut }) {
		return false
	}
	for len(c.lost) > 0 {
		l := c.lost[0]
		r.giveWay(c, l.file)
		from, until := l.drop.from, l.drop.until
		if now := r.now(); until > latestBy(now) { // a line says it whose time cannot be right
			until = now.UnixNano()
			from = min(from, until)
		}
		if b.full() || !b.takes(until) || l.file.barredFrom(b) || l.next != nil && l.next.barredFrom(b) {
			return false
		}
		s := c.stream
		s.Stream = streams[0]
		b.tell(tell{s, l.reason, l.drop.lines, l.drop.bytes, from, until, l.noted})
		if r.touched[l.file] = true; l.next != nil && l.next.readable() { // a copy has no position while it is one
			r.touched[l.next] = true // that it is behind a gap
		}
		c.lost = c.lost[1:]
	}
	return true
}

// giveWay has a file that is gone go by a name of its own where another one has its inode, in
// whatever container: a batch has one position by each name, and that of the gone one would be
// taken for the other's, or be lost.
func (r *Files) giveWay(c *container, gone *file) {
	if !gone.done || gone.beside {
		return
	}
	for _, o := range r.order {
		for _, f := range o.files {
			if f != gone && !f.beside && f.dev == gone.dev && f.ino == gone.ino {
				r.takesInode(c, f)
			}
		}
	}
}

// findGaps finds out at a start what went since the last run. Files are read one after
// the other, so that of those whose positions are known only the last one can have had
// lines that were never read; those, and the ones of files that came and went since, are
// lost. They are told before the first line of what is there. What the batch on its way
// lacks, tellGone says.
func (r *Files) findGaps() {
	known := maps.Clone(r.atStart)
	if was := r.journal.inFlight; was != nil {
		for source, p := range was.To {
			putApart(known, source, p, apart)
		}
	}
	// What an earlier start found, and the server has not heard of, is in its place told: by
	// what came since, this one might find it again, or only with what is not lost.
	noted := r.journal.untold()
	for as, p := range gonesIn(noted) {
		maps.DeleteFunc(known, func(_ string, o filePos) bool { return o.isOf(p) })
		known[as] = p
	}
	folders := map[string]map[string]filePos{}
	for k, p := range known {
		dir := filepath.Dir(p.Path)
		if filepath.Dir(filepath.Dir(dir)) != filepath.Clean(r.opts.Root) || p.Len < knownHead || !p.begun() {
			continue
		}
		if folders[dir] == nil {
			folders[dir] = map[string]filePos{}
		}
		folders[dir][k] = p
	}
	for dir, positions := range folders {
		r.findGap(dir, furthest(positions), noted)
	}
	for _, c := range r.order {
		if slices.ContainsFunc(c.files, (*file).wasCut) {
			r.scanContainer(c) // as it was before that it is behind one that was kept
		}
		r.findGapsBehindKept(c)
	}
	if slices.ContainsFunc(r.order, func(c *container) bool { return len(c.lost) > 0 }) {
		r.writeJournal() // once for all: a kill before that leaves what they are found by
	}
}

// As what the journal has losses that findGap found, followed by what file is gone: what was
// behind it, until when, and a record that was open in it.
const (
	behindGone = "behind "
	openInGone = "open in "
)

func (p filePos) openIn() string { return openInGone + besides(wasAt(p).key(), p.First) }

func (p filePos) behind(until int64) string {
	return behindGone + besides(wasAt(p).key(), p.First) + " until " + strconv.FormatInt(until, 10)
}

// gonesIn gives the files behind which something is lost, as they are once that is told.
func gonesIn(lost map[string]lostFile[filePos]) map[string]filePos {
	out := map[string]filePos{}
	for as, l := range lost {
		of, _, _ := strings.Cut(strings.TrimPrefix(as, behindGone), " until ")
		if strings.HasPrefix(as, behindGone) && l.At.Last >= out[of].Last {
			out[of] = l.At
		}
	}
	return out
}

// isOf says whether two positions are of the same file, as far as its inode and its first line
// tell.
func (p filePos) isOf(o filePos) bool {
	return p.Dev == o.Dev && p.Ino == o.Ino && p.First == o.First && filepath.Dir(p.Path) == filepath.Dir(o.Path)
}

// furthest gives those of the positions of a folder that no other one of the same file is
// further than: what was made of a file, or it by another name, goes on.
func furthest(positions map[string]filePos) map[string]filePos {
	out := maps.Clone(positions)
	maps.DeleteFunc(out, func(_ string, p filePos) bool {
		for _, o := range positions {
			if p.First != 0 && o.First == p.First && o.further(p) {
				return true
			}
		}
		return false
	})
	return out
}

// findGapsBehindKept finds out what is gone between a kept file and the next one that is
// there: it was open in the last run, and not kept.
func (r *Files) findGapsBehindKept(c *container) {
	for i, f := range c.files {
		if !f.kept || f.next == 0 && f.after == "" {
			continue
		}
		n := r.following(c, i)
		from, until := f.next, r.now().UnixNano()
		if from == 0 {
			if n == nil {
				continue // nobody knows of a line there, as of a pod that was deleted
			}
			if n.fd != nil && n.born() == f.after {
				f.noteNext(n)
				continue
			}
			from = max(f.ends(), r.toldBehind(f))
		}
		begins := int64(0)
		if n != nil {
			begins = n.firstTime()
		}
		if begins > 0 {
			until = begins
		}
		if until <= from { // what lies between was given up, and is there: that is told by itself
			continue
		}
		f.next, f.after = begins, ""
		if n != nil {
			n.behindGap = true
			if begins == 0 && n.fd != nil {
				f.after = n.born()
			}
		}
		r.counts.dropped(c.id, DropAway, 0)
		r.log.Warn("log files are gone that were not kept", "after", f.path, "from", time.Unix(0, from).UTC(), "until", time.Unix(0, until).UTC())
		c.lost = append(c.lost, loss{file: f, reason: DropAway, drop: drop{from: from, until: until}, next: n})
		// By what is noted of it, another start cannot find it out any more.
		r.noteLost(c, "after "+besides(f.key(), from), nil, f)
	}
}

// toldBehind gives through when it is noted that something is gone behind a kept file: what is
// gone since then comes after that.
func (r *Files) toldBehind(f *file) (through int64) {
	for as, l := range r.journal.notes() {
		if strings.HasPrefix(as, "after "+f.key()+"@") && f.beginsAs(l.At) {
			through = max(through, l.Until)
		}
	}
	return through
}

// findGap finds out what went of a folder's files, of whose positions it leaves those of files that
// are gone.
func (r *Files) findGap(dir string, positions map[string]filePos, noted map[string]lostFile[filePos]) {
	c := r.containers[dir]
	var gone filePos
	var open []filePos // of those that are gone, where a record was open
	var next *file     // the first that is there and of which nothing was read
	here := int64(0)
	there := func(k string, p filePos) bool {
		f := c.fileOf(k, p)
		if f != nil {
			here = max(here, p.Last, f.firstTime())
		}
		return f != nil
	}
	if maps.DeleteFunc(positions, there); len(positions) > 0 && c != nil {
		r.scanContainer(c) // one that was cut since the look is in a copy that came since, too
		maps.DeleteFunc(positions, there)
	}
	for _, p := range positions {
		if p.Last >= gone.Last {
			gone = p
		}
		if _, known := noted[p.openIn()]; p.Open != 0 && p.Scan != 0 && !known {
			open = append(open, p)
		}
	}
	from, until := gone.through(), r.now().UnixNano()
	if c != nil {
		for _, f := range c.files {
			if at := f.firstTime(); at >= gone.Last && f.copyOf == nil {
				next, until = f, at
				break
			}
		}
	}
	between := gone.Last > 0 && here < gone.Last // else it is read on from what is here
	if gone.followedBy(c, next) || until <= from {
		between = false // nothing was written between them, nor after it
	}
	if !between && len(open) == 0 {
		return
	}
	if c = r.containerAt(dir); c == nil {
		return
	}
	for _, p := range open {
		if between && p == gone {
			continue
		}
		// Its beginning cannot be read any more, and what follows it is no whole record, nor
		// does one that began before it go on there.
		c.away(p, p.Open, max(p.Open, p.Last))
		i := slices.IndexFunc(c.files, func(f *file) bool { return f.copyOf == nil && f.firstTime() >= max(p.First, p.Last) })
		if i >= 0 {
			c.files[i].behindGap = true
			c.lost[len(c.lost)-1].next = c.files[i]
		}
		r.noteLost(c, p.openIn(), nil)
	}
	r.counts.dropped(c.id, DropAway, 0)
	if !between {
		r.log.Warn("log files are gone in which records were open", "path", open[0].Path, "files", len(open))
		return
	}
	r.log.Warn("log files are gone that were not read to their ends", "path", gone.Path, "from", time.Unix(0, from).UTC(), "until", time.Unix(0, until).UTC())
	// With this the server knows all that there is to know of it.
	f := c.away(gone, from, until)
	f.last, f.next, f.after = until, 0, ""
	if next != nil {
		f.next, next.behindGap = until, true
		c.lost[len(c.lost)-1].next = next
	} else if empty := c.withoutLine(); empty != nil {
		f.after = empty.born() // what comes after that
	}
	r.noteLost(c, gone.behind(until), nil)
}

// followedBy says of a file that was read to its end and is gone that nothing was written between
// it and the next one that is there, nil if none of these has a line; c is nil where all are gone.
func (p filePos) followedBy(c *container, next *file) bool {
	switch {
	case !p.End:
		return false
	case p.Next != 0:
		return next != nil && next.firstTime() == p.Next
	case next != nil: // it may have been cut before that line
		return false
	}
	return p.After == "" || c != nil && slices.ContainsFunc(c.files, func(f *file) bool { return f.fd != nil && f.born() == p.After })
}

// away has it told that lines went with the file of a position. It gives the file as it is
// then.
func (c *container) away(p filePos, from, until int64) *file {
	f := wasAt(p)
	c.lost = append(c.lost, loss{file: f, reason: DropAway, drop: drop{from: from, until: until}})
	return f
}

// wasAt is a file that is gone, read up to a position.
func wasAt(p filePos) *file {
	f := &file{path: p.Path, dev: p.Dev, ino: p.Ino, printLen: p.Len}
	f.print, _ = strconv.ParseUint(p.Print, 16, 64) // what is not one was none before
	f.resume(p)
	f.offset, f.skip, f.done = p.Offset, [2]int64{p.Offset, p.Offset}, true
	if p.Mark != nil { // the server goes on knowing it
		f.spots.at = p.Mark.spot()
	}
	return f
}

// containerAt gives the container of a folder, which may be gone by now; nil if it is none.
func (r *Files) containerAt(dir string) *container {
	if c := r.containers[dir]; c != nil {
		return c
	}
	id, ok := podOfPath(filepath.Base(filepath.Dir(dir)))
	if !ok {
		return nil
	}
	id.Container = filepath.Base(dir)
	c := &container{id: id, dir: dir, seen: r.now(), gone: true, dirty: true}
	r.containers[dir], r.order = c, append(r.order, c)
	return c
}

// noteLost has the journal know of what c lost last, where a start could not find that out
// once it is written, and of what lies beside that now: kept files, which the batch that is
// being filled may have.
func (r *Files) noteLost(c *container, as string, b *batch[filePos], beside ...*file) {
	l := &c.lost[len(c.lost)-1]
	at := c.pos(l.file)
	note := lostFile[filePos]{at, l.reason, l.drop.lines, l.drop.bytes, l.drop.from, l.drop.until}
	var told []tell
	if r.filling != nil {
		told = r.filling.told
	}
	as = r.journal.unnoted(as, note, told)
	l.noted = as
	amends := map[string]func(filePos) filePos{}
	for _, f := range beside {
		amends[f.key()] = f.noteIn(b)
	}
	kind, _, _ := strings.Cut(as, " ") // a start looks for what was behind a file by that
	r.journal.lose(as, note, func(other string, o lostFile[filePos]) (name string, ok bool) {
		of, _, found := strings.Cut(other, " ")
		ok = filepath.Dir(o.At.Path) == filepath.Dir(at.Path) && o.Reason == l.reason && dayOf(o.Until) == dayOf(l.drop.until) && (kind == of || kind == as && !found)
		if !ok || found {
			return "", ok
		}
		return r.knownAs(o.At)
	}, amends)
}

// knownAs gives the name by which the position of a file that was given up is known once no note has
// it: a start would read the file, or tell of it again. It is false as long as lines of it are on
// their way, which a batch that is made anew begins with. The journal is locked.
func (r *Files) knownAs(at filePos) (name string, ok bool) {
	name = wasAt(at).key()
	beside := besides(name, at.First)
	var ways []map[string]filePos
	if was := r.journal.inFlight; was != nil {
		ways = append(ways, was.To)
	}
	if r.filling != nil {
		ways = append(ways, r.filling.to)
	}
	for _, to := range ways {
		_, apart := to[beside]
		if p, ok := to[name]; apart || ok && p.isOf(at) {
			return "", false
		}
	}
	if p, ok := r.journal.known[name]; ok && !p.isOf(at) {
		name = beside
	}
	return name, true
}

// writeJournal has what was noted be on the disk.
func (r *Files) writeJournal() {
	if err := r.journal.write(); err != nil {
		r.log.Error("write log positions", "err", err)
	}
}

// findUntold has it told at a start what was lost before, and is in no batch.
func (r *Files) findUntold() {
	for as, l := range r.journal.untold() {
		c := r.containerAt(filepath.Dir(l.At.Path))
		if c == nil {
			continue
		}
		if strings.HasPrefix(as, behindGone) || strings.HasPrefix(as, openInGone) {
			if c.fileOf("", l.At) != nil { // it has come back
				r.journal.found(as)
				continue
			}
		}
		out := loss{reason: l.Reason, drop: drop{lines: l.Lines, bytes: l.Bytes, from: l.From, until: l.Until}, noted: as}
		for _, f := range c.files {
			if f.beginsAs(l.At) {
				out.file = f                    // which is the next one
				if !strings.Contains(as, " ") { // or itself
					out.at = l.At
				}
			}
			if at := f.firstTime(); out.next == nil && f.copyOf == nil && at >= l.Until {
				out.next, f.behindGap = f, true
			}
		}
		if out.next == nil {
			if out.next = c.withoutLine(); out.next != nil {
				out.next.behindGap = true // what is written to it comes after that
			}
		}
		if out.file == nil {
			out.file = wasAt(l.At)
		}
		c.lost = append(c.lost, out)
	}
}

// hasNoLine says of a file that it is there, and that nothing was written to it yet.
func (f *file) hasNoLine() bool { return f.fd != nil && f.firstTime() == 0 }

// withoutLine gives the first file to which nothing was written yet; nil where there is none.
func (c *container) withoutLine() *file {
	if i := slices.IndexFunc(c.files, (*file).hasNoLine); i >= 0 {
		return c.files[i]
	}
	return nil
}

// giveUpAgain has files that are still there be read only as far as they were when they were
// given up: what is behind that is told, or is about to be.
func (r *Files) giveUpAgain() {
	for _, c := range r.order {
		for _, l := range c.lost {
			f := l.file
			if f.done || l.at.read() == l.at.Offset {
				continue
			}
			if f.gaveUp = l.at; f.offset < l.at.read() { // that was in a batch which was not sent
				continue
			}
			f.resume(l.at)
			f.lost, f.done = l.at.Lost, true
			f.close()
		}
	}
}

// fileOf gives the file of a position, as it is now or compressed, or nil.
func (c *container) fileOf(key string, p filePos) *file {
	if c == nil {
		return nil
	}
	for _, f := range c.files {
		if f.beginsAs(p) || f.fd == nil && (f.key() == key && f.printLen >= p.Len || f.goesOnAt(p)) {
			return f
		}
	}
	return nil
}

// tellGone says in a batch that is made anew what it had of files that are gone. Did
// the server get it, this is not stored, and nothing is lost of it. sent are the files
// that are there, and begun says how far those are that are so for a part.
func (r *Files) tellGone(b *batch[filePos], was *inFlight[filePos], sent map[*file]filePos, begun map[filePos]filePos) {
	for _, t := range was.Told {
		b.drop(t.Stream, t.Reason, t.Lines, int(t.Bytes), t.From, t.Until)
	}
	there := func(to filePos) bool {
		for f, p := range sent { // a copy that was read further has it, too
			if p == to || p.Offset >= to.Offset && f.beginsAs(to) {
				return true
			}
		}
		return false
	}
	names := map[filePos]string{} // that of what was made of a file has no beginning
	for k, to := range was.To {
		if _, ok := was.From[k]; ok || names[to.moved()] == "" {
			names[to.moved()] = k
		}
	}
	for k, to := range was.To {
		from, ok := begun[to]
		if !ok {
			if there(to) || names[to.moved()] != k {
				continue
			}
			from, ok = was.From[k]
		}
		if !ok || from.Gen != to.Gen {
			from = filePos{Last: to.First}
		}
		if to.Last == 0 {
			continue // nothing was read of it: it was given up, and what was lost with it is told
		}
		lines, bytes := to.Lines-from.Lines, to.read()-min(from.done(0), from.done(1))
		// A record that began in a file before it counts there.
		if lines <= 0 && (bytes <= 0 || to.Lines > 0 && min(to.done(0), to.read()) <= from.done(0) && min(to.done(1), to.read()) <= from.done(1)) {
			continue
		}
		dir := filepath.Dir(to.Path)
		id, ok := podOfPath(filepath.Base(filepath.Dir(dir)))
		if !ok || r.leftOut(dir) {
			continue
		}
		id.Container = filepath.Base(dir)
		s := streamOf(id, r.pods.find(id.UID), r.opts.Node)
		s.Stream = streams[0]
		until := to.Last
		if was.Day > 0 { // a batch holds one day; a record that is open may be of the next, the last one read of the one before
			until = min(max(until, was.Day*int64(24*time.Hour)), (was.Day+1)*int64(24*time.Hour)-1)
		}
		r.log.Warn("file of the last batch is gone; if the server did not get it, its lines are lost", "path", to.Path, "batch", was.ID, "lines", lines)
		b.drop(s, DropAway, int(max(0, lines)), int(bytes), cmp.Or(from.through(), min(to.First, until)), until)
	}
}

// moved is what a batch that was made anew has of a file by each of its names: that of what
// was made of it, too.
func (p filePos) moved() filePos {
	return filePos{Path: p.Path, Dev: p.Dev, Ino: p.Ino, Gen: p.Gen, Print: p.Print, Len: p.Len, Offset: p.Offset, First: p.First, Last: p.Last, Lines: p.Lines}
}

// leftOut says that the lines of a container, by its folder, are not wanted any more:
// the batch before was made by other rules.
func (r *Files) leftOut(dir string) bool {
	c := r.containers[dir]
	return c != nil && c.off
}

// findGapNow notices in a running collector what findGap does at a start: what was
// the current file is gone from the folder, compressed and all, and others were
// rotated since then that nobody saw being written. fresh are those, in their order.
func (r *Files) findGapNow(c *container, vanished *file, fresh []*file) {
	i := slices.IndexFunc(fresh, func(f *file) bool {
		return f.instance == vanished.instance && f.suffix != "" && f.firstTime() > 0
	})
	if i < 0 || vanished.fd == nil {
		return
	}
	from, until := vanished.lastTime(), fresh[i].firstTime()
	if from == 0 { // it was empty: after all that is known
		for _, f := range c.files {
			from = max(from, f.last)
		}
	}
	if until <= from {
		return
	}
	r.counts.dropped(c.id, DropRotated, 0)
	r.log.Warn("log files were rotated away before anybody looked", "path", vanished.path, "from", time.Unix(0, from).UTC(), "until", time.Unix(0, until).UTC())
	fresh[i].behindGap = true
	c.lost = append(c.lost, loss{file: fresh[i], reason: DropRotated, drop: drop{from: from, until: until}})
	r.noteLost(c, "before "+besides(fresh[i].key(), until), nil)
	r.writeJournal()
}

// firstTime is the time of the file's first line that has one, 0 if there is none.
func (f *file) firstTime() int64 {
	if !f.compressed() && f.fd == nil {
		return f.first
	}
	head := f.head
	if !f.compressed() {
		head = make([]byte, fingerprintBytes)
		n, _ := f.fd.ReadAt(head, 0)
		if n == len(head) && head[0] == '{' && bytes.IndexByte(head, '\n') < 0 { // Docker's time is at the end of the line
			head = make([]byte, readBytes)
			n, _ = f.fd.ReadAt(head, 0)
		}
		head = head[:n]
	}
	for line := range strings.SplitSeq(string(head), "\n") {
		if p, _ := parsePiece(line); p.at > 0 {
			return p.at
		}
	}
	return 0
}

// ends is the time of the last line of a kept file.
func (f *file) ends() int64 {
	if f.done || f.fd == nil {
		return f.last
	}
	return lastTimeIn(f.lastUnpacked())
}

// lastTime is the time of the last whole line of an open file, 0 if none is found.
func (f *file) lastTime() int64 {
	st, err := stat(f.fd)
	if err != nil {
		return 0
	}
	tail := make([]byte, min(st.Size, readBytes))
	n, _ := f.fd.ReadAt(tail, st.Size-int64(len(tail)))
	return lastTimeIn(tail[:n])
}

func lastTimeIn(tail []byte) int64 {
	text := strings.TrimRight(string(tail), "\n")
	p, _ := parsePiece(text[strings.LastIndexByte(text, '\n')+1:])
	return p.at
}
