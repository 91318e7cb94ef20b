package logs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	// changes are what makes a folder's files be listed anew, writes what makes them be
	// read.
	changes = unix.IN_CREATE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_DELETE | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF
	writes  = unix.IN_MODIFY | unix.IN_ATTRIB

	// lookBytes is what is read of events at once.
	lookBytes = 64 << 10
	// maxLooks bounds how much of them is read before files are: more than the kernel
	// has room for by default.
	maxLooks = 64
)

// watch tells by inotify what happens in folders. Of a folder whose files are written
// to all the time it can be had to tell only what comes, goes and is renamed: an event
// costs more than the line that it is about. That, and that events are read in one's
// own time, is why this is no library.
//
// All but run belongs to one goroutine.
type watch struct {
	file  *os.File
	fd    int
	told  chan struct{} // some wait, which are had by take
	taken chan struct{} // take was called since
	ended chan struct{}
	dirs  map[int32]string // by the kernel's number
	buf   []byte
}

func newWatch() (*watch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	return &watch{file: os.NewFile(uintptr(fd), "inotify"), fd: fd, told: make(chan struct{}), taken: make(chan struct{}, 1), ended: make(chan struct{}), dirs: map[int32]string{}, buf: make([]byte, lookBytes)}, nil
}

// run waits for events until close. It leaves them where they are: what take does not find
// did not happen yet.
func (w *watch) run() {
	raw, err := w.file.SyscallConn()
	if err != nil {
		return // closed
	}
	for {
		if err := raw.Read(waiting); err != nil {
			return
		}
		select {
		case <-w.taken: // what was told of before
		default:
		}
		select {
		case w.told <- struct{}{}:
		case <-w.ended:
			return
		}
		select {
		case <-w.taken:
		case <-w.ended:
			return
		}
	}
}

// waiting says whether there is anything to be read, or that may be.
func waiting(fd uintptr) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return err != nil || n > 0
}

// close ends run.
func (w *watch) close() {
	close(w.ended)
	_ = w.file.Close() // it was only read
}

// add watches a folder, or changes what is told of it.
func (w *watch) add(dir string, quiet bool) error {
	mask := uint32(changes | unix.IN_ONLYDIR)
	if !quiet {
		mask |= writes
	}
	wd, err := unix.InotifyAddWatch(w.fd, dir, mask)
	if err != nil {
		return fmt.Errorf("inotify: watch %s: %w", dir, err)
	}
	w.dirs[int32(wd)] = dir
	return nil
}

// take gives what waits. It is true when something was missed, as more came than the
// kernel has room for.
func (w *watch) take(each func(path string, mask uint32)) (missed bool) {
	select {
	case <-w.told: // of what is taken now
	default:
	}
	defer func() {
		select {
		case w.taken <- struct{}{}:
		default:
		}
	}()
	for range maxLooks {
		n, err := unix.Read(w.fd, w.buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n <= 0 {
			break // nothing is left
		}
		missed = w.events(w.buf[:n], each) || missed
	}
	return missed
}

// events takes apart what the kernel wrote: a folder's number, what happened, a number
// that ties renames together, the length of the name, and the name, filled up with
// zeros.
func (w *watch) events(raw []byte, each func(path string, mask uint32)) (missed bool) {
	for len(raw) >= unix.SizeofInotifyEvent {
		wd, mask := int32(binary.NativeEndian.Uint32(raw)), binary.NativeEndian.Uint32(raw[4:])
		name := raw[unix.SizeofInotifyEvent:]
		n := min(int(binary.NativeEndian.Uint32(raw[12:])), len(name))
		raw, name = name[n:], name[:n]
		if mask&unix.IN_Q_OVERFLOW != 0 {
			missed = true
			continue
		}
		dir, ok := w.dirs[wd]
		if !ok {
			continue // told before it was let go of
		}
		if mask&unix.IN_IGNORED != 0 {
			delete(w.dirs, wd)
			continue
		}
		if mask&changes == 0 { // whose file it is matters, not which
			each(dir, mask)
			continue
		}
		if name, _, _ = bytes.Cut(name, []byte{0}); len(name) > 0 {
			dir = filepath.Join(dir, string(name))
		}
		each(dir, mask)
	}
	return missed
}
