package metrics

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/prometheus/prometheus/tsdb/wlog"
)

// syncer has the system write the logs to the disk. Commits that wait for it at
// the same time share one go.
type syncer struct {
	dir     string
	open    func(path string) (segmentFile, error)
	tickets atomic.Int64
	failed  atomic.Int64 // times that the disk did not take all

	mu      sync.Mutex
	covered int64 // tickets up to here are on the disk, or err says why not
	err     error
	logs    map[string]*syncedLog
	closed  bool
}

// segmentFile is that of a log.
type segmentFile interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Stat() (os.FileInfo, error)
	Sync() error
}

// syncedLog is what the syncer knows of a log.
type syncedLog struct {
	named int // the newest segment when its folder was synced; -1 for none
	disk  mark
	// hole says that a sync failed: a later one that goes through says nothing of what that one
	// left out, so that disk stays until writeAgain.
	hole bool
	// files are the segments that are synced. The system says of a write behind that failed
	// once to each file that was open then, and maybe to none that is opened later: the TSDB
	// syncs segments, too.
	files map[int]segmentFile
}

func newSyncer(dir string) *syncer {
	return &syncer{dir: dir, logs: map[string]*syncedLog{}, open: func(path string) (segmentFile, error) {
		return os.OpenFile(filepath.Clean(path), os.O_RDWR, 0)
	}}
}

// begin notes what the logs have: nothing of it was acknowledged by this process.
func (s *syncer) begin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, log := range []string{"wal", wlog.WblDirName} {
		_, last, err := segments(filepath.Join(s.dir, log))
		if err != nil {
			return err
		}
		s.log(log).disk.segment = max(0, last)
	}
	return nil
}

func (s *syncer) log(name string) *syncedLog {
	l := s.logs[name]
	if l == nil {
		l = &syncedLog{named: -1, files: map[int]segmentFile{}}
		s.logs[name] = l
	}
	return l
}

// segments is wlog.Segments; -1 also where there is no log.
func segments(dir string) (first, last int, err error) {
	first, last, err = wlog.Segments(dir)
	if errors.Is(err, fs.ErrNotExist) { // nothing was out of order yet
		return -1, -1, nil
	}
	return first, last, err
}

// close closes the segments.
func (s *syncer) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	var errs []error
	for _, l := range s.logs {
		for n, f := range l.files {
			errs = append(errs, f.Close())
			delete(l.files, n)
		}
	}
	return errors.Join(errs...)
}

// sync returns once all that was written to the logs before the call is on the
// disk. A failure is final for whoever waited for it: the system forgets what it
// could not write, so that trying again would say nothing; writeAgain has it try.
func (s *syncer) sync() error {
	ticket := s.tickets.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.covered >= ticket {
		return s.err
	}
	if s.closed {
		return errors.New("the store is closed")
	}
	through := s.tickets.Load() // these were written before what follows
	var errs []error
	for _, log := range []string{"wal", wlog.WblDirName} {
		err := s.syncLog(log)
		s.log(log).hole = s.log(log).hole || err != nil
		errs = append(errs, err)
	}
	if s.covered, s.err = through, errors.Join(errs...); s.err != nil {
		s.failed.Add(1)
	}
	return s.err
}

// syncLog syncs what is not on the disk, and the newest two segments anyway: a commit may end in
// the second one. The TSDB itself syncs a segment some time after it began the next.
func (s *syncer) syncLog(name string) error {
	dir, l := filepath.Join(s.dir, name), s.log(name)
	first, last, err := segments(dir)
	if err != nil || last < 0 {
		return err
	}
	on := mark{segment: last}
	for n := max(first, min(l.disk.segment, last-1)); n <= last; n++ {
		f, err := l.file(s, dir, n)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		info, err := f.Stat()
		if err = errors.Join(err, f.Sync()); err != nil {
			return err
		}
		on.size = info.Size()
	}
	if l.named != last {
		if err := syncFile(dir); err != nil { // the segment's name
			return err
		}
		l.named = last
	}
	if !l.hole {
		l.disk = on
	}
	for n, f := range l.files {
		if n < max(first, last-1) {
			delete(l.files, n)
			if err := f.Close(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *syncedLog) file(s *syncer, dir string, n int) (segmentFile, error) {
	if f := l.files[n]; f != nil {
		return f, nil
	}
	f, err := s.open(wlog.SegmentName(dir, n))
	if err == nil {
		l.files[n] = f
	}
	return f, err
}

// replaced forgets the file of a segment that has another one now.
func (s *syncer) replaced(name string, segment int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.log(name).files[segment]
	if f == nil {
		return nil
	}
	delete(s.log(name).files, segment)
	return f.Close()
}

// writeAgain writes once more what the log of all samples got since the last time that the disk
// took all: the system takes what it could not write for written, so that a sync alone leaves it
// out. What it has of that in memory it may have dropped, so it is looked at first. So are pages
// out of which records were cut, wherever they are. What is late is in blocks by then.
func (s *syncer) writeAgain(cut map[mark]struct{}) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	dir, l := filepath.Join(s.dir, "wal"), s.log("wal")
	first, last, err := segments(dir)
	if err != nil {
		return err
	}
	begin := l.disk
	for at := range cut {
		if at.before(begin) {
			begin = at
		}
	}
	for n := max(first, begin.segment); n <= last; n++ {
		from := int64(0)
		if n == begin.segment {
			from = begin.size
		}
		f, err := l.file(s, dir, n)
		if err == nil {
			err = rewrite(f, from, func(page int64, ends bool) pageEnd {
				_, is := cut[mark{n, page}]
				e := pageEnd{cut: is, closed: ends && n < last, disk: -1}
				if n == l.disk.segment {
					e.disk = l.disk.size - page
				}
				return e
			})
		}
		if err != nil {
			return fmt.Errorf("write segment %d of the log once more: %w", n, err)
		}
	}
	for _, l := range s.logs {
		l.hole = false
	}
	return nil
}

// rewrite writes what a segment has from some place on once more, if it is all there; endings says
// how a page may end, and is told which is the last one.
func rewrite(f segmentFile, from int64, endings func(page int64, last bool) pageEnd) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	page := make([]byte, logPage)
	for at := from / logPage * logPage; at < info.Size(); at += logPage {
		size, err := f.ReadAt(page[:min(logPage, info.Size()-at)], at)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if err := wholePage(page[:size], endings(at, at+int64(size) == info.Size())); err != nil {
			return fmt.Errorf("the page at %d: %w", at, err)
		}
		if _, err := f.WriteAt(page[:size], at); err != nil {
			return err
		}
	}
	return f.Sync()
}

// errGone is for what was written and cannot be read any more.
var errGone = errors.New("the system has dropped what it could not write; a server that is started anew has what was acknowledged")

// pageEnd is why a page of a log may have zeros behind its records.
type pageEnd struct {
	cut    bool  // one was taken out
	closed bool  // it is the last one of its segment, and another segment was begun
	disk   int64 // up to where in the page the disk had taken all: another record came behind that
}

// systemPage is what a system drops of a file at least, and at such places.
const systemPage = 4 << 10

// mayBegin says whether zeros may begin there, or are a hole. Where a segment was closed with no
// record behind what the disk had taken, or with one that ends with a page of the system's, the
// two look alike, and it is held for a hole: nothing is lost by that.
func (e pageEnd) mayBegin(at int64) bool {
	return e.cut || e.closed && at != e.disk && at%systemPage != 0
}

// wholePage says whether a page of a log is as it was written: the TSDB fills it with records, of
// which the last may be one that is being written, unless it ends otherwise.
func wholePage(page []byte, e pageEnd) error {
	pos := 0
	for pos+partHeader <= len(page) && page[pos]&7 != 0 {
		end := pos + partHeader + int(binary.BigEndian.Uint16(page[pos+1:]))
		if end > len(page) {
			if len(page) < logPage {
				return nil
			}
			return errGone
		}
		if crc32.Checksum(page[pos+partHeader:end], castagnoli) != binary.BigEndian.Uint32(page[pos+3:]) {
			return errGone
		}
		pos = end
	}
	if pos+partHeader <= len(page) && !e.mayBegin(int64(pos)) {
		return errGone
	}
	for _, b := range page[pos:] {
		if b != 0 {
			return errGone
		}
	}
	return nil
}

func syncFile(path string) error {
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
