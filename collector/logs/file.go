package logs

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

const (
	fingerprintBytes = 512
	// maxRawLine bounds a line of a file; the runtimes cut far below. A longer one
	// is taken in parts of this size.
	maxRawLine = 1 << 20
	readBytes  = 64 << 10
	// stampTick is more than lies between two times that a file system can stamp with.
	stampTick = 20 * time.Millisecond
)

// filePos is how far a file was read.
type filePos struct {
	Path   string `json:"path"`
	Dev    uint64 `json:"dev"`
	Ino    uint64 `json:"ino"`
	Gen    int    `json:"gen,omitempty"` // truncations seen
	Print  string `json:"print"`         // hash of the first PrintLen bytes
	Len    int    `json:"len"`
	Offset int64  `json:"offset"`
	// Scan is where to begin reading when a record that began before Offset may
	// still go on, or when lines of one stream were sent beyond it; 0 when there is
	// none, -1 for the beginning of the file. Done says then, for stdout and stderr,
	// through where lines were sent.
	Scan int64     `json:"scan,omitempty"`
	Done *[2]int64 `json:"done,omitempty"`
	// First and Last are the times of the file's first line and of the last one that
	// was read.
	First int64 `json:"first,omitempty"`
	Last  int64 `json:"last,omitempty"`
	// Open is the time of the first line of a record that may still go on, 0 when
	// there is none.
	Open int64 `json:"open,omitempty"`
	// Lines is how many lines of the file were sent.
	Lines int64 `json:"lines,omitempty"`
	// Lost is how many bytes before Offset were given up, and not sent.
	Lost int64 `json:"lost,omitempty"`
	// End says that the file was read to its end, Next when the file after it begins,
	// 0 if that was not known then.
	End  bool  `json:"end,omitempty"`
	Next int64 `json:"next,omitempty"`
	// After is which file comes after this one, where that has no line yet.
	After string `json:"after,omitempty"`
	// Behind says that what was written right before the file is lost.
	Behind bool `json:"behind,omitempty"`
	// Mark is the position for who reads through the API server; nil where an earlier
	// version left it.
	Mark *reached `json:"mark,omitempty"`
}

// through is the time before which nothing of the file is left to be sent.
func (p filePos) through() int64 {
	if p.Open != 0 {
		return min(p.Open, p.Last)
	}
	return p.Last
}

// begun says whether anything of the file was read: then all that was written before
// it was, too.
func (p filePos) begun() bool { return (p.Offset > 0 || p.End) && p.Last > 0 }

// apart names the position of a file that is gone and whose inode another file has, of
// this container or of another one: a start needs it to know what was compressed of it,
// or is missing, until one of a younger file of its container is known.
func apart(key string, was, now filePos) string {
	same := filepath.Dir(was.Path) == filepath.Dir(now.Path) && (was.First == now.First || was.First == 0)
	if same || was.Offset == 0 && !was.begun() {
		return ""
	}
	return besides(key, was.First)
}

// besides names the position of a file by its inode and its first line, where the inode
// alone names that of another one.
func besides(key string, first int64) string { return key + "@" + strconv.FormatInt(first, 10) }

// of gives the position of a file, by whichever name it has.
func of(f *file, first int64, position func(name string) (filePos, bool)) (filePos, bool) {
	p, ok := position(f.key())
	if other := first != 0 && p.First != first; !ok || other {
		if own, found := position(besides(f.key(), first)); found {
			return own, true
		}
	}
	return p, ok
}

// read is through where the file was read: what lies between that and Offset was given up.
func (p filePos) read() int64 {
	if p.Last == 0 {
		return 0 // not a line of it; an earlier version did not note what it gave up
	}
	return p.Offset - p.Lost
}

// lost says whether a line that begins there was given up.
func (p filePos) lost(start int64) bool { return p.Lost > 0 && start >= p.read() && start < p.Offset }

// done says through where the lines of a stream were sent.
func (p filePos) done(stream int) int64 {
	if p.Scan != 0 && p.Done != nil {
		return p.Done[stream]
	}
	return p.Offset
}

// file is one log file that is known, in the order of its container.
type file struct {
	path     string
	instance int // of the container: the number in its name
	suffix   string
	fd       *os.File // nil once done
	dev, ino uint64
	gen      int
	print    uint64
	printLen int

	written syscall.Timespec // when it was last, as of identify

	offset  int64     // the next byte to read
	began   int64     // the first that was to be read
	skip    [2]int64  // lines of stdout and stderr that begin before were sent before a restart
	first   int64     // time of the first line
	last    int64     // time of the last line, for lines that have none
	sent    int64     // lines of it that are in batches
	lost    int64     // bytes at its end that were given up, until it is known to go on
	counted *counting // of what is left, where that is to be given up
	gaveUp  filePos   // where an earlier run gave up a part of it
	resumed filePos   // where an earlier run left it
	spots   spots     // of what was read
	next    int64     // time of the first line of the file after it, once it was read to its end
	after   string    // which file that is, as long as it has no line
	noted   behind    // of a kept one: next and after as the journal has them
	marked  filePos
	hasMark bool
	inBatch *batch[filePos] // that has its position last, as what it was in inGen
	inGen   int
	blank   bool // it was empty when its folder was looked at last

	packed    bool       // compressed, and not unpacked yet
	unpacked  *unpacking // what is in a compressed file that is being read
	head      []byte     // of a compressed file: its first bytes, unpacked
	id        packedID   // of a compressed file, as it was found
	keptPath  string
	kept      bool      // a copy of ours of a file that rotation took
	opens     bool      // of a kept one, or one that is about to be: a record goes on in the next file
	openIn    [2]bool   // of such a one: of stdout, of stderr; neither: nobody asked yet
	keptAt    time.Time // when it was made
	keptBytes int64
	noRoom    int       // one more than Files.freed when there was no room for it
	unlinked  bool      // no longer in its folder
	beside    bool      // another file has its inode by now
	done      bool      // read to its end, and nobody writes to it any more
	behindGap bool      // what was written right before it is gone: it goes on with nothing
	ended     time.Time // since when it is known that nobody should
	copyOf    *file     // a copy that was made before a truncation; read only after that
	alike     *filePos  // of a file, at a start, that begins as one of this position: it is that one, or a copy
	unclear   bool      // it may be a copy, and has too little to tell, or what it may be one of was not looked at
	before    []former  // what it was before its last truncations, the newest last
}

// behind is what is known of the file after a kept one.
type behind struct {
	next  int64
	after string
}

// former is what a file was before a truncation, and how far it was read.
type former struct {
	print    uint64
	printLen int
	offset   int64
	skip     [2]int64
	first    int64
}

// formerAt is what a file was as of a position.
func formerAt(p filePos) former {
	was := wasAt(p)
	f := former{print: was.print, printLen: was.printLen, offset: p.Offset, skip: [2]int64{p.done(0), p.done(1)}, first: p.First}
	if p.Scan != 0 {
		f.offset = max(0, p.Scan)
	}
	return f
}

// readable says whether the file has its turn: it is neither read, nor a copy of
// one that is.
func (f *file) readable() bool { return !f.done && f.copyOf == nil && !f.unclear }

func (f *file) key() string {
	k := strconv.FormatUint(f.dev, 10) + ":" + strconv.FormatUint(f.ino, 10)
	if f.beside {
		return besides(k, f.first)
	}
	return k
}

// pending is a record that may go on.
type pending struct {
	file    *file
	start   int64     // of its first piece, in file
	in      *file     // that has its last piece so far
	end     int64     // of that piece
	at      int64     // time of its first line
	last    int64     // time of its last
	since   time.Time // when its first piece was read
	seen    time.Time // when its last one was
	partial bool      // the last line is not complete
	let     bool      // its end is not waited for before the node is said to be complete
	cut     bool      // what follows it is lost
	join    join
	lines   []stretch // its lines, as the API server knows them
	number  int64     // of the last of them, in its file
	text    string    // of the first piece
	more    []byte    // of all pieces, once there are several
	owned   bool      // text is not part of what was read with it
}

func (w *pending) size() int { return max(len(w.text), len(w.more)) }

func (w *pending) whole() string {
	if w.more != nil {
		return string(w.more)
	}
	return w.text
}

func (w *pending) append(text, between string) {
	if w.more == nil {
		w.more = make([]byte, 0, 2*(len(w.text)+len(text))+64)
		w.more = append(w.more, w.text...)
	}
	w.more = append(append(w.more, between...), text...)
}

// has notes that the record has a piece of the line that a file is at.
func (w *pending) has(f *file, at spots) {
	if n := len(w.lines); n > 0 && w.in == f && at.number <= w.number+1 {
		w.lines[n-1].to = at.at
	} else {
		w.lines = append(w.lines, stretch{at.at, at.at})
	}
	w.number = at.number
}

// streams are the names of stdout and stderr, in the order of their numbers.
var streams = [2]string{"stdout", "stderr"}

func streamNumber(name string) int {
	if name == streams[1] {
		return 1
	}
	return 0
}

// begins says where in the file the lines of a stream begin that are not sent: those
// that are pending or, when there are none, those from the file's offset on, of which
// the first may have been sent before a restart.
func (c *container) begins(f *file, stream int) int64 {
	unread := max(f.offset, f.skip[stream])
	w := c.pending[stream]
	if w == nil {
		return unread
	}
	if w.file == f {
		return w.start
	}
	// What lies between the file in which it began, which may be gone by now, and
	// the one that has its last line holds nothing else of this stream.
	if i := slices.Index(c.files, f); i > slices.Index(c.files, w.file) && i <= slices.Index(c.files, w.in) {
		return 0
	}
	return unread
}

// pos is where the file stands, given what is pending of it.
func (c *container) pos(f *file) filePos {
	p := filePos{Path: f.path, Dev: f.dev, Ino: f.ino, Gen: f.gen, Print: strconv.FormatUint(f.print, 16), Len: f.printLen, Offset: f.offset, First: f.first, Last: f.last, Lines: f.sent, Lost: f.lost, End: f.done, Next: f.next, After: f.after, Behind: f.behindGap}
	done := [2]int64{c.begins(f, 0), c.begins(f, 1)}
	if scan := min(done[0], done[1]); scan < max(done[0], done[1], f.offset) {
		p.Scan, p.Done = scan, &done
		if scan == 0 {
			p.Scan = -1
		}
	}
	for _, w := range c.pending {
		if w != nil && (p.Open == 0 || w.at < p.Open) && (w.file == f || w.in == f || w.file != w.in && slices.Contains(c.spanned(w), f)) {
			p.Open = w.at
		}
	}
	if open := f.resumed.Open; open != 0 && f.offset < f.resumed.Offset && (p.Open == 0 || open < p.Open) {
		p.Open = open // it is not read again yet
	}
	if f.spots.at.Time == 0 {
		return p
	}
	last := c.newest()
	newest := f == last || last == nil // of one that is gone, and nothing was read of those that are there
	var open []stretch
	for _, w := range c.pending {
		if w != nil && (newest || w.file == f || w.in == f) {
			open = append(open, w.lines...)
		}
	}
	p.Mark = reachedAt(f.spots.at, open)
	if newest {
		p.Mark.Lag = max(0, c.taken-p.Mark.At)
	}
	return p
}

// newest is the last file of which anything was read, nil if there is none.
func (c *container) newest() *file {
	for _, f := range slices.Backward(c.files) {
		if f.spots.at.Time != 0 {
			return f
		}
	}
	return nil
}

// resume sets the file to where a position left it.
func (f *file) resume(p filePos) {
	f.gen, f.offset, f.first, f.last, f.sent, f.next, f.after, f.noted, f.behindGap, f.resumed = p.Gen, p.Offset, p.First, p.Last, p.Lines, p.Next, p.After, behind{p.Next, p.After}, p.Behind, p
	if f.lost = 0; p.Lost > 0 { // should it go on, after that
		f.gaveUp = p
	}
	f.skip = [2]int64{p.done(0), p.done(1)}
	if p.Scan != 0 {
		f.offset = max(0, p.Scan)
	}
	f.asCopy()
	f.began = f.offset
	f.marked, f.hasMark = p, true
	f.spots = spots{}
	if p.Mark != nil && f.offset > 0 {
		f.spots.at = p.Mark.spot()
		if first, ok := p.Mark.first(); ok && p.Scan != 0 {
			f.spots.at = first.before()
		}
	}
}

// identify reads the file's identity from its descriptor. It keeps what was
// fingerprinted before if that is still the beginning; same is false when it is
// not: the file was truncated and written anew.
func (f *file) identify() (size int64, same bool, err error) {
	if f.unpacked != nil {
		return f.unpacked.size, true, nil
	}
	st, err := stat(f.fd)
	if err != nil {
		return 0, false, fmt.Errorf("stat %s: %w", f.path, err)
	}
	f.dev, f.ino = uint64(st.Dev), st.Ino //nolint:unconvert // Dev is narrower on some systems
	if f.printLen == fingerprintBytes && f.written == st.Mtim {
		return st.Size, true, nil // nothing new: not worth a read
	}
	f.written = syscall.Timespec{} // until the beginning was compared
	var head [fingerprintBytes]byte
	n, err := f.fd.ReadAt(head[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, false, fmt.Errorf("read %s: %w", f.path, err)
	}
	if n < f.printLen || f.printLen > 0 && xxhash.Sum64(head[:f.printLen]) != f.print {
		return st.Size, false, nil // and is that still when it is asked again, by whomever
	}
	// The kernel stamps by its own clock, once a tick: what was written just now may be
	// written over under the same stamp.
	if time.Since(time.Unix(st.Mtim.Unix())) > stampTick {
		f.written = st.Mtim
	}
	if n > f.printLen {
		f.print, f.printLen = xxhash.Sum64(head[:n]), n
	}
	return st.Size, true, nil
}

// printMore takes more of a file's beginning into its fingerprint that was short
// when it was looked at last: it is to be compared.
func (f *file) printMore() {
	if f.fd != nil && !f.packed && f.printLen < fingerprintBytes {
		_, _, _ = f.identify() // what cannot be read keeps what it has
	}
}

// headHash is the hash of the first n bytes; ok is false when it has fewer.
func (f *file) headHash(n int) (hash uint64, ok bool) {
	var head [fingerprintBytes]byte
	if n == 0 || n > len(head) {
		return 0, false
	}
	if f.compressed() {
		return xxhash.Sum64(f.head[:min(n, len(f.head))]), n <= len(f.head)
	}
	got, _ := f.fd.ReadAt(head[:n], 0)
	return xxhash.Sum64(head[:n]), got == n
}

// hasHeadOf says whether the file begins as the one of a position did.
func (f *file) hasHeadOf(p filePos) bool {
	h, ok := f.headHash(p.Len)
	return ok && strconv.FormatUint(h, 16) == p.Print
}

func stat(fd *os.File) (st syscall.Stat_t, err error) {
	return st, syscall.Fstat(int(fd.Fd()), &st)
}

// compressed says that fd is of a compressed file.
func (f *file) compressed() bool { return f.packed || f.unpacked != nil }

// text is what the lines are read from.
func (f *file) text() io.ReaderAt {
	if f.unpacked != nil {
		return f.unpacked
	}
	return f.fd
}

func (f *file) close() {
	f.unpacked, f.counted = nil, nil
	if f.fd != nil {
		_ = f.fd.Close() // it was only read
		f.fd = nil
	}
}

// container is one container of one pod: a folder of log files.
type container struct {
	id      Container
	dir     string
	seen    time.Time
	files   []*file            // in the order in which they were written
	pending [2]*pending        // of stdout and stderr
	packed  map[packedID]*file // compressed files of its folder that were looked at, and of what known one each was made
	joiner  joiner
	limiter limiter
	wrote   int   // bytes of lines that are not counted yet
	taken   int64 // of the last position that a batch has
	off     bool  // its lines are not wanted
	// elsewhere says that they are not because of its pod's Services.
	elsewhere bool
	lost      []loss
	ended     *file // that was read to its end last, if the one after it has no line yet
	spare     *pending
	stream    wire.LogStream
	known     bool      // stream has the pod's workload, or will not get it
	polled    bool      // its files are links; inotify does not tell of writes
	wake      time.Time // when to look again without an event; zero: no need
	writes    int       // that inotify told since the last look
	hushed    bool      // inotify does not tell of writes: it is looked at in one's own time
	grew      time.Time // when something was read last; of a hushed one
	turn      *file     // that was read to its end, and whose writer may go on
	waits     bool      // others have lines that are not read: their turn comes once that writer let go
	unread    int64     // a time before all of these
	complete  int64     // before which all lines are in a batch
	letGo     bool      // one of its lines was without an end for too long
	dirty     bool
	rescan    bool
	tooMany   bool // files are to be given up that are not counted yet
	gone      bool // its folder is gone
	scanned   bool // once in this run
	looks     int  // at its folder because a file was empty before
}

// nameOf takes the name of a log file apart that is neither compressed nor on the
// way to being so.
func nameOf(name string) (instance int, suffix string, ok bool) {
	number, rest, ok := strings.Cut(name, ".log")
	if !ok || number == "" || len(number) > 9 || strings.HasSuffix(rest, ".gz") || strings.HasSuffix(rest, ".tmp") || rest != "" && rest[0] != '.' {
		return 0, "", false
	}
	instance, ok = digits(number)
	return instance, strings.TrimPrefix(rest, "."), ok
}

// older orders new files of a container: by instance, rotated ones before the
// current one, and among them by their time stamp. logrotate's short numbers
// count backwards.
func older(a, b *file) int {
	if a.instance != b.instance {
		return a.instance - b.instance
	}
	if (a.suffix == "") != (b.suffix == "") {
		if a.suffix == "" {
			return 1
		}
		return -1
	}
	if a.kept || b.kept { // their names are ours, and tell only which was kept first
		switch x, y := a.firstTime(), b.firstTime(); {
		case x > 0 && y > 0 && (x != y || a.kept != b.kept):
			return cmp.Compare(x, y)
		case !b.kept:
			return -1
		case !a.kept:
			return 1
		}
	}
	x, okX := digits(a.suffix)
	y, okY := digits(b.suffix)
	if okX && okY && len(a.suffix) <= 3 && len(b.suffix) <= 3 {
		return y - x
	}
	return strings.Compare(a.suffix, b.suffix)
}

// sortFiles puts files in the order in which they were written. Those that are
// kept are put among the others by their first lines, as an empty file has none.
func sortFiles(files []*file) {
	slices.SortFunc(files, func(a, b *file) int {
		if a.kept != b.kept {
			if a.kept {
				return 1
			}
			return -1
		}
		return older(a, b)
	})
	for i, f := range files {
		if !f.kept {
			continue
		}
		to := slices.IndexFunc(files[:i], func(o *file) bool { return o.firstTime() > 0 && older(f, o) < 0 })
		if to >= 0 {
			copy(files[to+1:i+1], files[to:i])
			files[to] = f
		}
	}
}

// read puts what the container's files have into b, until b is full, a line does
// not belong into it, or limit bytes were read. more says that something is left.
func (r *Files) read(c *container, b *batch[filePos], limit int) (more bool) {
	c.turn = nil
	if !r.tellLost(c, b) {
		return true
	}
	r.placeAll(c)
	// With the newest first, what was kept has its turn after what is in the folder.
	if r.newestFirst() && slices.ContainsFunc(c.files, func(f *file) bool { return f.kept && !f.done }) {
		if r.readFiles(c, b, &limit, c.comesFirst) || !r.flush(c, b) {
			return true
		}
		if c.pending[0] != nil || c.pending[1] != nil {
			return false // what is pending would be torn apart
		}
		for i, f := range c.files {
			if f.readable() && c.comesFirst(f) && r.following(c, i) != nil {
				return false // it waits for its writer
			}
		}
		return r.readFiles(c, b, &limit, func(f *file) bool { return f.kept })
	}
	return r.readFiles(c, b, &limit, func(*file) bool { return true })
}

// comesFirst says, with the newest first, whether a file has its turn before those that
// were kept: none of these, or one that was begun, as a record may be open in it, or whose
// last record goes on in one that comes first.
func (c *container) comesFirst(f *file) bool {
	if !f.kept || f.unpacked != nil {
		return true
	}
	i := slices.Index(c.files, f)
	for _, w := range c.pending {
		if w == nil {
			continue
		}
		in := slices.Index(c.files, w.in)
		if in == i || w.partial && in < i && !slices.ContainsFunc(c.files[max(0, in):i], (*file).readable) {
			return true
		}
	}
	return f.opens && (i+1 == len(c.files) || c.comesFirst(c.files[i+1]))
}

// readFiles reads those of a container's files that are wanted.
func (r *Files) readFiles(c *container, b *batch[filePos], limit *int, wanted func(*file) bool) (more bool) {
	for i, f := range c.files {
		if !f.readable() || !wanted(f) {
			continue
		}
		next := r.following(c, i)
		left, stopped, err := r.readFile(c, f, b, limit, -1)
		r.mark(c, b)
		if err != nil {
			r.log.Warn("read log file", "path", f.path, "err", err)
			r.abandon(c, f, DropRotated)
			if !r.tellLost(c, b) {
				return true
			}
			continue
		}
		if stopped {
			return true
		}
		if left { // it grew meanwhile
			return true
		}
		if !r.flush(c, b) {
			return true
		}
		// At its end. Others wait for it until its writer has surely let go.
		c.turn = f
		if next == nil && !f.unlinked && !c.gone {
			return false
		}
		now := r.now()
		if next == nil && !c.gone && r.mayGrow(f, now) {
			c.wakeAt(now.Add(time.Second)) // inotify does not tell of it
			return false
		}
		if f.ended.IsZero() {
			f.ended = r.rotatedBy(f, next, now)
		}
		if wait := f.ended.Add(r.grace).Sub(now); wait > 0 {
			c.wakeAt(now.Add(wait))
			return false
		}
		if !f.kept && r.away() {
			// It stays open: if rotation takes it before the server has its lines, a
			// kill of this process would need it again.
			c.wakeAt(now.Add(time.Second))
			return false
		}
		finished := r.finish(c, f, next, b)
		r.mark(c, b)
		if !finished {
			return true
		}
	}
	return false
}

// mayGrow says of a file to which none follows that its writer may not have let go of it yet.
func (r *Files) mayGrow(f *file, now time.Time) bool {
	st, err := stat(f.fd)
	return err == nil && r.changedWithin(st, r.opts.Nameless, now)
}

// changedWithin says of a file that it was written to, renamed or removed no longer ago than that.
// Of a time to come nothing can be told: the clock was set back.
func (r *Files) changedWithin(st syscall.Stat_t, within time.Duration, now time.Time) bool {
	ago := now.Sub(r.changed(st))
	return ago >= 0 && ago < within
}

// changed is when a file was written to, renamed or removed last.
func (r *Files) changed(st syscall.Stat_t) time.Time { return r.stamped(time.Unix(st.Ctim.Unix())) }

func (r *Files) stamped(at time.Time) time.Time {
	if r.stamps == nil {
		return at
	}
	return r.stamps(at)
}

// rotatedBy gives since when nobody should write to a file that was rotated: it was written to,
// renamed or removed last before that, and the one after it was there. Where files are behind
// that were rotated meanwhile, each would be waited for otherwise: were that done each second,
// for ever.
func (r *Files) rotatedBy(f, next *file, now time.Time) time.Time {
	if next == nil || next.fd == nil || f.fd == nil {
		return now
	}
	st, err := stat(f.fd)
	born, ok := next.birth()
	if err != nil || !ok {
		return now
	}
	since := r.changed(st)
	if born = r.stamped(born); born.After(since) {
		since = born
	}
	if since.After(now) {
		return now
	}
	return since
}

// earliestUnread gives a time before all lines that are in files which wait for their
// turn, or for it to be known what they are; false when there are none. A line's time is
// latest at most.
func (c *container) earliestUnread(latest int64) (before int64, some bool) {
	for _, f := range c.files {
		if f.done || f.copyOf != nil || f == c.turn || !f.holdsMore() {
			continue
		}
		at := f.firstTime() // 0 where no line has a time: before all
		if at > latest {
			at = 0 // it cannot be right, and its line will stand at another
		}
		if f.last > 0 {
			at = f.last
			if open := f.resumed.Open; open > 0 {
				at = min(at, open)
			}
		}
		if at -= int64(completeAfter); !some || at < before {
			before, some = at, true
		}
	}
	return before, some
}

// holdsMore says whether a file has more than was read of it, or may have. What identify
// knows it leaves alone: a file that was cut is found out by that.
func (f *file) holdsMore() bool {
	switch {
	case f.fd == nil:
		return false
	case f.unpacked != nil:
		return f.unpacked.size > f.offset
	case f.packed:
		size, ok := f.packedSize()
		return !ok || size > f.offset
	}
	st, err := stat(f.fd)
	return err != nil || st.Size != f.offset && (!f.unclear || st.Size >= knownHead)
}

func (c *container) wakeAt(t time.Time) {
	if c.wake.IsZero() || t.Before(c.wake) {
		c.wake = t
	}
}

// following gives the file after the i-th that is to be read. One that is done with and had no line
// says nothing of when what comes after the i-th begins.
func (r *Files) following(c *container, i int) *file {
	for _, f := range c.files[i+1:] {
		if f.copyOf == nil && !f.unclear && !(f.done && f.first == 0) {
			return f
		}
	}
	return nil
}

// readFile reads on in one file, at most up to until if that is not negative.
// left says that there is more than was read, stopped that b takes no more.
func (r *Files) readFile(c *container, f *file, b *batch[filePos], limit *int, until int64) (left, stopped bool, err error) {
	if f.packed {
		r.unpack(f)
	}
	size, same, err := f.identify()
	if err != nil {
		return false, false, err
	}
	if f.blank && size > 0 && r.replayed == nil {
		// It may have been cut again since, and nothing tells: what was in it goes before
		// what is.
		f.blank = false
		c.looks++
		r.scanContainer(c)
		return true, false, nil
	}
	if size < f.offset || !same {
		if r.replayed != nil {
			return true, false, errCut
		}
		r.scanContainer(c) // its copy takes its place, if it has one, and may not be known yet
		return true, f.wasCut() && !r.truncated(c, f, b), nil
	}
	if f.barredFrom(b) {
		return true, true, nil
	}
	end := size
	if until >= 0 {
		end = min(end, until)
	}
	for f.offset < end {
		if b.full() && (r.replayed == nil || b.brimful()) || *limit <= 0 {
			return true, true, nil
		}
		n := int(min(int64(len(r.buf)), end-f.offset))
		got, err := f.text().ReadAt(r.buf[:n], f.offset)
		if err != nil && !errors.Is(err, io.EOF) {
			return false, false, fmt.Errorf("read %s: %w", f.path, err)
		}
		if got == 0 {
			return false, false, nil
		}
		if size, same, err := f.identify(); err != nil || !same || size < f.offset+int64(got) {
			if err == nil && r.replayed != nil {
				err = errCut
			}
			return true, false, err // it was cut meanwhile: this may be of what was written after that
		}
		chunk := r.buf[:got]
		last := bytes.LastIndexByte(chunk, '\n')
		if last < 0 {
			switch {
			case got >= maxRawLine:
				last = got - 1 // no line at all: take it as it is
			case int64(got) < end-f.offset:
				r.buf = make([]byte, min(4*len(r.buf), maxRawLine))
				continue
			default:
				return false, false, nil // the line is not complete
			}
		}
		b.expect = bytes.Count(chunk[:last+1], []byte{'\n'})
		text, had := b.memory.copy(chunk[:last+1]), b.lines
		consumed, fits := r.lines(c, f, b, text)
		if b.lines == had { // what waits has been cloned
			b.memory.uncopy(text)
		}
		f.offset += int64(consumed)
		*limit -= consumed
		if !fits {
			return true, true, nil
		}
	}
	if len(r.buf) > readBytes {
		r.buf = make([]byte, readBytes)
	}
	return false, false, nil
}

// barredFrom says that a batch has the position of what was there before a
// truncation, or of a file that had the same inode. It must be sent first: a batch
// that is made anew after a kill knows one position by each inode, and what it lacks
// would come a second time in the next one.
func (f *file) barredFrom(b *batch[filePos]) bool {
	_, taken := b.to[f.key()]
	return taken && (f.inBatch != b || f.inGen != f.gen)
}

// lines takes whole lines, which may lack the last newline. It says how many
// bytes it took, and whether that was all.
func (r *Files) lines(c *container, f *file, b *batch[filePos], text string) (consumed int, fits bool) {
	read, malformed := 0, 0
	now := r.now()
	latest := latestBy(now)
	var last opening
	c.joiner.last = &last
	defer func() {
		c.joiner.last = nil
		for _, w := range c.pending {
			if w != nil && !w.owned { // it should not hold on to all of text
				w.text, w.owned = strings.Clone(w.text), true
			}
		}
		r.counts.read(c.id, read, malformed)
	}()
	until := r.replayed[f]
	for consumed < len(text) {
		if b.full() && (until == nil || b.brimful()) {
			return consumed, false
		}
		line := text[consumed:]
		length := len(line)
		if i := strings.IndexByte(line, '\n'); i >= 0 {
			line, length = line[:i], i+1
		}
		p, ok := parsePiece(line)
		if !ok && p.text == "" { // nothing but a newline or zeros
			consumed += length
			continue
		}
		first := p.at // by which the file is known, whatever the clock is then
		if p.at > latest {
			p, ok = untimed(line), false
		}
		if p.at == 0 {
			p.at = f.last
			if p.at == 0 {
				p.at = r.modified(f)
			}
		}
		if f.first == 0 {
			f.first = cmp.Or(first, p.at)
			r.noteBehind(c, f, b)
		}
		start, end, at := f.offset+int64(consumed), f.offset+int64(consumed+length), f.spots.after(p, ok)
		stream := streamNumber(p.stream)
		if start < f.skip[stream] || until != nil && start >= until[stream] || f.gaveUp.lost(start) {
			f.last, f.spots = p.at, at
			consumed += length
			continue
		}
		w := c.pending[stream]
		if w != nil && !r.goesOn(c, f, w, p, ok) {
			if !r.admits(b, f, w) {
				return consumed, false
			}
			c.pending[stream] = nil
			read += r.emit(c, b, stream, w)
			full, cut := w, w.join
			w = nil
			if !full.partial && !cut.whole && (cut.lines >= r.opts.Rules.Join.Lines || p.at-full.at > int64(joinFor) || full.size()+len(p.text)+1 > r.opts.Rules.Join.Bytes) {
				if after, ok := c.joiner.next(cut, "", p.text); ok { // a further part of a long trace
					after.lines = 1
					w = &pending{file: f, start: start, at: p.at, join: after}
				}
			}
			c.free(full)
		}
		fresh := w == nil || w.in == nil
		if fresh {
			if w == nil {
				w = c.fresh()
				w.file, w.start, w.at, w.join = f, start, p.at, c.joiner.begin(p.text, p.partial)
			}
			if !ok {
				w.join.whole = true
			}
			if !p.partial && w.join.whole && !r.admits(b, f, w) {
				return consumed, false
			}
			w.text, w.since = p.text, now
		} else {
			if w.partial {
				w.append(p.text, "")
			} else {
				w.join, _ = c.joiner.next(w.join, w.text, p.text)
				w.append(p.text, "\n")
			}
		}
		w.has(f, at)
		w.in, w.end, w.last, w.seen, w.partial = f, end, p.at, now, p.partial
		f.last, f.spots = p.at, at
		if !ok {
			malformed++
		}
		consumed += length
		c.pending[stream] = w
		if p.partial {
			continue
		}
		if w.join.lines == 1 && w.more != nil && len(w.more) > 1 && w.more[0] == '{' && w.more[len(w.more)-1] == '}' && c.joiner.start == nil {
			w.join.whole = true // an object that came in parts
		}
		if w.join.whole && r.admits(b, f, w) {
			c.pending[stream] = nil
			read += r.emit(c, b, stream, w)
			c.free(w) // most lines are whole at once
		}
	}
	return consumed, true
}

// goesOn says whether a piece belongs to the record that is pending.
func (r *Files) goesOn(c *container, f *file, w *pending, p piece, ok bool) bool {
	if !ok || w.cut || w.size()+len(p.text) > r.opts.Rules.Join.Bytes {
		return false
	}
	if w.in != f && w.in != nil {
		from, to := slices.Index(c.files, w.in), slices.Index(c.files, f)
		// An older file that was found late, or one that is read before those between them.
		gap := f.behindGap || from >= 0 && slices.ContainsFunc(c.files[from+1:max(from+1, to)], func(o *file) bool { return o.behindGap })
		if to < from || gap || r.replayed == nil && slices.ContainsFunc(c.files[max(0, from):to], (*file).readable) {
			return false
		}
	}
	if w.partial {
		return true
	}
	if w.size()+len(p.text) == r.opts.Rules.Join.Bytes || w.join.whole || w.join.lines >= r.opts.Rules.Join.Lines || p.at-w.last > int64(joinGap) || p.at-w.at > int64(joinFor) {
		return false
	}
	_, ok = c.joiner.next(w.join, w.text, p.text)
	return ok
}

// flush puts the records into the batch that have waited for further lines long
// enough. It is false when the batch must be sent first.
func (r *Files) flush(c *container, b *batch[filePos]) bool {
	defer r.mark(c, b)
	for stream, w := range c.pending {
		if w == nil || w.partial {
			continue
		}
		now := r.now()
		if due := w.seen.Add(r.opts.Rules.Join.Hold); now.Before(due) {
			c.wakeAt(due)
			continue
		}
		if !r.conclude(c, b, stream, w) {
			return false
		}
	}
	return true
}

// conclude puts a record into the batch as it is, if that takes it.
func (r *Files) conclude(c *container, b *batch[filePos], stream int, w *pending) bool {
	if b.full() || !r.admits(b, nil, w) {
		return false
	}
	c.pending[stream] = nil
	r.counts.read(c.id, r.emit(c, b, stream, w), 0)
	return true
}

// admits says whether a record may go into the batch. A batch that is made anew
// takes all that it had. reading is the file that is being read, which is known to
// be let in.
func (r *Files) admits(b *batch[filePos], reading *file, w *pending) bool {
	if r.replayed != nil {
		if b.brimful() {
			return false
		}
		if !b.takes(w.at) { // it was part of a record that began the day before
			w.at = (b.day+1)*int64(24*time.Hour) - 1
		}
		return true
	}
	for _, f := range [...]*file{w.file, w.in} {
		if f != nil && f != reading && f.barredFrom(b) {
			return false
		}
	}
	return b.takes(w.at)
}

// emit puts a record into the batch. It gives the number of its lines.
func (r *Files) emit(c *container, b *batch[filePos], stream int, w *pending) int {
	s := c.stream
	s.Stream = streams[stream]
	r.touch(c, w)
	w.file.sent += int64(w.join.lines)
	c.wrote += w.size()
	if size := w.size(); !c.limiter.takes(w.at, w.join.lines, size) {
		b.drop(s, DropRate, w.join.lines, size, w.at, w.at)
		r.counts.dropped(c.id, DropRate, w.join.lines)
		return w.join.lines
	}
	b.count(c.id, w.join.lines)
	r.counts.joined(w.join.lines)
	if w.at <= r.said {
		r.metrics.late.Add(float64(w.join.lines))
	}
	r.shaper.each(w.whole(), w.at, &b.memory.room, func(message string, fields wire.LogFields) {
		b.add(s, wire.LogLine{Time: w.at, Message: message, Fields: fields})
	})
	return w.join.lines
}

// touch notes the files that a record moves the positions of.
func (r *Files) touch(c *container, w *pending) {
	if w.file == w.in && w.in == r.touchedLast {
		return
	}
	r.touchedLast = nil
	if w.file == w.in {
		r.touchedLast = w.in
	}
	for _, f := range c.spanned(w) { // what lies between moves, too
		r.touched[f] = true
	}
	r.touched[w.file] = true
	r.touched[w.in] = true
}

// fresh gives a record to fill.
func (c *container) fresh() *pending {
	w := c.spare
	if c.spare = nil; w == nil {
		w = &pending{}
	}
	return w
}

// free keeps a record to be filled again, without the text that it was part of.
func (c *container) free(w *pending) {
	*w = pending{lines: w.lines[:0]}
	c.spare = w
}

// release lets go of the files of a container whose lines are not wanted.
func (c *container) release() {
	for _, f := range c.files {
		f.close()
	}
	c.files, c.pending, c.lost, c.ended = nil, [2]*pending{}, nil, nil
}

// mark notes in the batch how far its files have come.
func (r *Files) mark(c *container, b *batch[filePos]) {
	if newest := c.newest(); newest != nil && len(r.touched) > 0 {
		c.taken = max(c.taken+1, newest.spots.at.Time)
		b.reached[c.id] = handOn{newest.instance, c.pos(newest).Mark}
		if !newest.barredFrom(b) {
			r.touched[newest] = true // a start knows by it what the server was told
		}
		// Nor does it take files for read of which nothing was sent because a record is open.
		for _, w := range c.pending {
			if w == nil || w.in == nil || w.file == newest {
				continue
			}
			for _, f := range c.spanned(w) {
				if !f.barredFrom(b) {
					r.touched[f] = true
				}
			}
		}
	}
	for f := range r.touched {
		k := f.key()
		if _, ok := b.to[k]; !ok && f.hasMark {
			b.from[k] = f.marked
		}
		f.marked, f.hasMark = c.pos(f), true
		f.inBatch, f.inGen = b, f.gen
		b.to[k] = f.marked
	}
	r.touchNone()
	r.wrote(c)
}

// spanned gives the files in which a record that may go on lies. Copies of one that is read
// itself, and what may be some, are none of them: they have no position while they are that.
func (c *container) spanned(w *pending) (out []*file) {
	from, to := max(0, slices.Index(c.files, w.file)), slices.Index(c.files, w.in)
	for _, f := range c.files[from:max(from, to+1)] {
		if f.copyOf == nil && !f.unclear {
			out = append(out, f)
		}
	}
	return out
}

func (r *Files) touchNone() {
	clear(r.touched)
	r.touchedLast = nil
}

// wrote counts the text of a container's lines since the last time: once for many.
func (r *Files) wrote(c *container) {
	if c.wrote > 0 {
		r.counts.wrote(c.id, c.wrote)
		c.wrote = 0
	}
}

// finish ends a file to which nobody writes: a last line without newline and, if
// the container's next file is of another instance, what is pending are records.
// It is false when the batch must be sent first.
func (r *Files) finish(c *container, f, next *file, b *batch[filePos]) bool {
	if !r.tail(c, f, b) {
		return false
	}
	over := next == nil || next.instance != f.instance || next.behindGap
	early := r.newestFirst() && f.kept && next != nil && !next.kept // that one was read before
	if !r.end(c, b, func(w *pending) bool { return over || early && !w.partial }) {
		return false
	}
	f.done = true
	f.close()
	next = c.uncut(next)
	if next != nil && !next.blank { // else it is noted once anything is read of that
		f.next = cmp.Or(next.begins(), f.next)
	}
	c.ended, f.after = nil, ""
	if f.next == 0 {
		if c.ended = f; next != nil && next.fd != nil {
			f.after = next.born()
		}
	}
	r.noteEnd(f, b)
	return true
}

// begins is when a file begins; 0 where that is not known, as of one that was cut since it was
// looked at: what it was then comes first.
func (f *file) begins() int64 {
	if f.fd == nil {
		return 0
	}
	if at := f.firstTime(); !f.wasCut() {
		return at
	}
	return 0
}

// end puts those of the records that may go on into the batch that cannot, after all. It
// is false when the batch must be sent first.
func (r *Files) end(c *container, b *batch[filePos], which func(*pending) bool) bool {
	for stream, w := range c.pending {
		if w == nil || !which(w) {
			continue
		}
		if !r.conclude(c, b, stream, w) {
			return false
		}
	}
	return true
}

// noteEnd has the journal know that a file was read to its end. A batch without lines
// is not sent, so its last position is the one that a batch before it had.
func (r *Files) noteEnd(f *file, b *batch[filePos]) {
	if !b.empty() {
		r.touched[f] = true
		return
	}
	r.journal.amend(f.key(), func(p filePos) filePos {
		if p.Gen == f.gen && p.Offset == f.offset && p.Scan == 0 {
			// No batch may follow for long, and the file be removed.
			r.amended = r.amended || !p.End || p.Next != f.next || p.After != f.after
			p.End, p.Next, p.After = true, f.next, f.after
		}
		return p
	})
}

// noteBehind has the journal know when a file begins that had no line yet when the one before
// it was read to its end: once that is removed, a start would take what lies between them for
// lost.
func (r *Files) noteBehind(c *container, f *file, b *batch[filePos]) {
	r.noteRightBehindKept(c, f, b)
	before := c.ended
	if before == nil || before == f || r.replayed != nil || f.first < before.first || slices.Index(c.files, f) < slices.Index(c.files, before) {
		return // or before it: one that is read late, or was kept
	}
	c.ended = nil
	if f.behindGap {
		return
	}
	before.next, before.after = f.first, ""
	noted := false
	note := func(p filePos) filePos {
		if p.First == before.first && p.End && p.Next == 0 {
			p.Next, p.After, noted = f.first, "", true
		}
		return p
	}
	names := [...]string{before.key(), besides(before.key(), before.first)}
	for _, name := range names {
		r.journal.amend(name, note)
	}
	r.amended = r.amended || noted // what the batch that is being filled has is on no disk yet
	for _, name := range names {
		if p, ok := b.to[name]; ok {
			b.to[name] = note(p)
		}
	}
}

// noteRightBehindKept has a kept file that is right before one know when that begins, also where
// something is gone between them, which is told: once that one was read and is gone, the one after
// it would be taken for what comes behind the kept one, and a kill lose untold what it had.
func (r *Files) noteRightBehindKept(c *container, f *file, b *batch[filePos]) {
	i := slices.Index(c.files, f) - 1
	for i >= 0 && r.following(c, i) == f && !c.files[i].kept {
		i--
	}
	if i < 0 || r.following(c, i) != f || c.files[i].next != 0 || r.replayed != nil {
		return
	}
	c.files[i].next, c.files[i].after = f.first, ""
	r.noteNeighbours(c.files[i], b)
	r.amended = true
}

// tail takes what is left of a file, newline or not. It is false when the batch
// must be sent first.
func (r *Files) tail(c *container, f *file, b *batch[filePos]) bool {
	size, same, err := f.identify()
	if err != nil || !same || size <= f.offset {
		return true
	}
	rest := make([]byte, min(size-f.offset, maxRawLine))
	n, err := f.text().ReadAt(rest, f.offset)
	if n == 0 || err != nil && !errors.Is(err, io.EOF) {
		return true
	}
	if f.wasCut() { // meanwhile
		return true
	}
	consumed, fits := r.lines(c, f, b, string(rest[:n]))
	f.offset += int64(consumed)
	return fits
}

// truncated begins a file anew that was cut to nothing, copytruncate's way, and of which
// there is no copy, or one that has less than is pending of it. It is false when the batch
// must be sent first.
func (r *Files) truncated(c *container, f *file, b *batch[filePos]) bool {
	o, copied := c.copyFor(f)
	for stream, w := range c.pending {
		if o != nil && !w.beyond(f, copied) || w == nil || w.partial || w.file != f && w.in != f {
			continue
		}
		// Its position is of what was there: it goes before there is another.
		if b.full() && r.replayed == nil || !r.admits(b, nil, w) {
			return false
		}
		c.pending[stream] = nil
		r.counts.read(c.id, r.emit(c, b, stream, w), 0)
	}
	r.mark(c, b)
	if o != nil {
		r.standIn(c, f, o)
		return true
	}
	r.log.Info("log file truncated without a copy", "path", f.path, "offset", f.offset)
	was := f.former()
	for stream, w := range c.pending {
		if w != nil && w.file == f { // the copy has it, if anything has
			was.offset, was.skip[stream] = min(was.offset, w.start), w.start
			c.pending[stream] = nil
		}
	}
	f.anew(was)
	return true
}

// former is what the file is, before it is begun anew.
func (f *file) former() former {
	return former{f.print, f.printLen, f.offset, [2]int64{max(f.offset, f.skip[0]), max(f.offset, f.skip[1])}, f.first}
}

// anew begins a file that was cut to nothing. Another copy of what it was may be found later.
func (f *file) anew(was former) {
	f.before = append(f.before, was)
	if len(f.before) > 8 {
		f.before = f.before[1:]
	}
	f.gen++
	f.offset, f.skip, f.print, f.printLen, f.first, f.last, f.sent, f.lost, f.resumed, f.gaveUp, f.written, f.spots = 0, [2]int64{}, 0, 0, 0, 0, 0, 0, filePos{}, filePos{}, syscall.Timespec{}, spots{}
	f.began, f.behindGap, f.blank = 0, false, true
}

// wasCut says whether a file was cut since its beginning was looked at.
func (f *file) wasCut() bool {
	if f.fd == nil || f.compressed() {
		return false
	}
	size, same, err := f.identify()
	return err == nil && (!same || size < f.offset)
}

// moveRecords has the records that may go on lie in a copy in place of the file that it was
// made of.
func (c *container) moveRecords(f, o *file) {
	for _, w := range c.pending {
		if w == nil {
			continue
		}
		if w.file == f {
			w.file = o
		}
		if w.in == f {
			w.in = o
		}
	}
}

// moveBefore puts a copy in front of the file that it was made of.
func (c *container) moveBefore(o, f *file) {
	files := make([]*file, 0, len(c.files))
	for _, x := range c.files {
		if x == o {
			continue
		}
		if x == f {
			files = append(files, o)
		}
		files = append(files, x)
	}
	c.files = files
}

// abandon gives a file up that cannot be read. What is lost is counted, and told
// in the next batch, which also says that the file is done with. A record that was to go
// there ends with what was read of it: else it would go on with what follows the lost.
// The journal has it from then on, as what is known of those beside it may be from then on as
// if it had never been: a start would find nothing by that.
func (r *Files) abandon(c *container, f *file, reason string) {
	i, before := slices.Index(c.files, f), len(c.lost)
	f.first = cmp.Or(f.first, f.firstTime())
	as := besides(f.key(), f.first) // the next file that is kept gets its inode
	if d, err := f.rest(); d.lines > 0 || err != nil {
		if d.until == 0 { // not one has a time of its own
			d.until = r.now().UnixNano()
		}
		if d.from == 0 {
			d.from = f.last
		}
		for _, w := range c.pending {
			if w != nil && slices.Index(c.files, w.in) <= slices.Index(c.files, f) {
				w.cut = true
			}
		}
		r.counts.read(c.id, d.lines, 0)
		r.counts.dropped(c.id, reason, d.lines)
		r.log.Warn("log lines lost", "path", f.path, "lines", d.lines, "from", f.offset)
		next := r.following(c, i)
		if next != nil {
			next.behindGap = true
			f.noteNext(next)
			if slices.ContainsFunc(c.lost, func(l loss) bool { return l.file == next }) { // the oldest is given up last
				f.next, f.after = next.next, next.after
			} else if f.next == 0 && next.fd == nil {
				f.next = next.first // so was that, and it is told, or it was read
			}
		}
		c.lost = append(c.lost, loss{file: f, reason: reason, drop: d, next: next})
		c.dirty = true
		f.offset, f.lost = f.offset+d.bytes, f.lost+d.bytes
	}
	f.done = true
	f.close()
	if len(c.lost) == before {
		return
	}
	var beside []*file
	if i > 0 && c.files[i-1].kept && c.files[i-1].next > 0 {
		c.files[i-1].next, c.files[i-1].after = f.next, f.after // it is told by itself
		beside = append(beside, c.files[i-1])
	}
	if next := c.lost[before].next; next != nil && next.kept {
		beside = append(beside, next)
	}
	r.noteLost(c, as, r.filling, beside...)
}

// abandonAll gives files of a container up, the newest first, once what is left of all of them is
// counted. It is false where that takes further turns.
func (r *Files) abandonAll(c *container, files []*file) bool {
	for _, f := range files {
		if _, counted, _ := f.count(&r.countRoom); !counted {
			return false
		}
	}
	for _, f := range files {
		r.abandon(c, f, DropRotated)
	}
	return true
}

// rest counts the lines that were not read. An error means that there may be more.
func (f *file) rest() (drop, error) {
	room := int64(math.MaxInt64)
	d, _, err := f.count(&room)
	return d, err
}

// counting is how far what is left of a file is counted.
type counting struct {
	of     unread
	text   *bufio.Reader // nil before the first turn, and once it is counted
	pass   int64         // bytes of text before what is to be counted
	drop   drop
	inLine bool    // the last line is not complete
	within [2]bool // the last piece of a stream was partial
	done   bool
	err    error
}

// unread is what is left of a file: once that is something else, it is counted anew.
type unread struct {
	fd     *os.File
	gen    int
	offset int64
	skip   [2]int64
	cut    bool
}

// count goes on counting the lines of a file that were not read, several parts being one line, for
// as long as there is room for the bytes that are read, which it takes. Then done is false.
func (f *file) count(room *int64) (d drop, done bool, err error) {
	if f.fd == nil {
		return d, true, nil
	}
	k := f.counted
	if of := (unread{f.fd, f.gen, f.offset, f.skip, f.wasCut()}); k == nil || k.of != of {
		k = &counting{of: of}
		f.counted = k
	}
	if k.done && (f.compressed() || k.err != nil) {
		return k.drop, true, k.err
	}
	if *room > 0 {
		if k.err = k.goOn(f, room); k.err != nil {
			k.err = fmt.Errorf("read %s: %w", f.path, k.err)
		}
	}
	return k.drop, k.done, k.err
}

func (k *counting) goOn(f *file, room *int64) error {
	defer func() {
		if k.done {
			k.text = nil
		}
	}()
	if k.text == nil {
		if err := k.begin(f); err != nil {
			k.done = true
			return err
		}
	}
	for k.pass > 0 {
		if *room <= 0 {
			return nil
		}
		n, err := k.text.Discard(int(min(k.pass, readBytes)))
		*room -= int64(n)
		if k.pass -= int64(n); err != nil {
			k.done = true
			return err
		}
	}
	for *room > 0 {
		part, err := k.text.ReadSlice('\n')
		if !k.inLine && len(part) > 0 {
			p, _ := parsePiece(string(part[:min(len(part), 48)])) // its time, stream and tag
			stream, lines := streamNumber(p.stream), 1
			if k.within[stream] {
				lines = 0
			}
			k.within[stream] = p.partial
			if start := k.of.offset + k.drop.bytes; start >= f.skip[stream] && !f.gaveUp.lost(start) { // else it was sent, or told
				k.drop.add(lines, 0, p.at, p.at)
			}
		}
		if len(part) > 0 {
			k.inLine = err != nil
		}
		k.drop.bytes += int64(len(part))
		*room -= int64(len(part))
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			k.done = true
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return err
		}
	}
	return nil
}

// begin begins to read where the count is.
func (k *counting) begin(f *file) error {
	at := k.of.offset + k.drop.bytes
	if !f.compressed() {
		k.text = bufio.NewReaderSize(io.NewSectionReader(f.fd, at, 1<<62), readBytes)
		return nil
	}
	z, err := gzip.NewReader(bufio.NewReaderSize(io.NewSectionReader(f.fd, 0, 1<<62), 32<<10))
	if err != nil {
		return err
	}
	k.text, k.pass = bufio.NewReaderSize(io.LimitReader(z, at+maxUnpacked), readBytes), at
	return nil
}

func (r *Files) modified(f *file) int64 {
	if st, err := f.fd.Stat(); err == nil && st.ModTime().UnixNano() > 0 {
		return st.ModTime().UnixNano()
	}
	return r.now().UnixNano()
}
