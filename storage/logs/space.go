package logs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/reserve"
)

// The library ends the process when it cannot write: in its own goroutines,
// where nothing can catch it. What is done about it:
//
//   - lines are refused while less than MinFreeBytes are free (checkWritable), so
//     that what is in memory can still be written, and the library's merges stop
//     by themselves at the same bound;
//   - another program can fill the disk all the same. A file is kept as a reserve
//     and given back when that happens, so that what was accepted finds room;
//   - every few seconds a small file is written and synced. A disk that fails is
//     found by it, and lines are refused before the library meets the failure.
//
// What remains is a disk that fails within these seconds, and one that another
// program fills faster than the reserve lasts while the library merges: a merge
// looks for room only when it begins. The process ends then; nothing that was
// acknowledged is lost, and a new process goes on.

const (
	reserveFile = "reserve"
	// maxReserve holds one commit of maxWaitingBytes, which is compressed on disk.
	maxReserve = 64 << 20
	watchEvery = 100 * time.Millisecond // one statfs, a microsecond
	probeEvery = 5 * time.Second
)

// space is what is known of the disk.
type space struct {
	unwritable atomic.Pointer[error] // what the newest probe met; nil when it was fine
	reserved   atomic.Bool
}

// watch keeps the reserve and probes the disk until the store closes. It also lets go of
// room that no batch needs.
func (s *Store) watch() {
	defer close(s.watched)
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	var probed time.Time
	for {
		s.keepReserve(false)
		if now := time.Now(); now.Sub(probed) >= probeEvery {
			probed = now
			s.probe()
			s.spare.expire()
		}
		select {
		case <-s.closing.Done():
			s.giveBack()
			return
		case <-tick.C:
		}
	}
}

func (s *Store) reserveBytes() int64 { return min(maxReserve, s.opts.MinFreeBytes/4) }

// keepReserve gives the reserve back when the disk is nearly full, and takes it
// again when there is room for it above the bound. While batches wait only their
// commit gives it back, at the moment when it needs the room: whoever fills the
// disk would take it before.
func (s *Store) keepReserve(committing bool) {
	size := s.reserveBytes()
	free, err := freeBytes(s.opts.Dir)
	if err != nil || size == 0 || s.closing.Err() != nil {
		return // probe says what is wrong
	}
	switch {
	case s.space.reserved.Load() && int64(free) < size && !committing && s.waiting.Load() > 0:
	case s.space.reserved.Load() && int64(free) < size:
		s.giveBack()
		s.log.Warn("disk is nearly full: the log store's reserve was given back", "free_bytes", free, "reserve_bytes", size)
	case !s.space.reserved.Load() && int64(free) > s.opts.MinFreeBytes+2*size:
		if err := s.reserve(size); err != nil {
			// A file system that cannot reserve has no reserve.
			s.log.Debug("reserve disk space", "err", err)
		}
	}
}

func (s *Store) reserve(size int64) error {
	if err := reserve.Take(filepath.Join(s.opts.Dir, reserveFile), size); err != nil {
		return err
	}
	s.space.reserved.Store(true)
	return nil
}

func (s *Store) giveBack() {
	if err := reserve.LetGo(filepath.Join(s.opts.Dir, reserveFile)); err != nil {
		s.log.Warn("give back the reserve of disk space", "err", err)
	}
	s.space.reserved.Store(false)
}

// probe writes and syncs a small file.
func (s *Store) probe() {
	err := writeProbe(s.opts.Dir)
	before := s.space.unwritable.Load()
	if err == nil {
		s.space.unwritable.Store(nil)
		if before != nil {
			s.log.Info("log store is writable again")
		}
		return
	}
	err = fmt.Errorf("log store is read-only: a probe could not be written (%v): %w", err, fault.ErrUnavailable)
	s.space.unwritable.Store(&err)
	if before == nil {
		s.log.Error("log store cannot be written", "err", err)
	}
}

// writeProbe finds out whether the folder takes data; a full disk lets one make
// files, but not fill them.
func writeProbe(dir string) error {
	f, err := os.CreateTemp(dir, ".writable-*")
	if err != nil {
		return err
	}
	_, werr := f.Write(make([]byte, 4096))
	return errors.Join(werr, f.Sync(), f.Close(), os.Remove(f.Name()))
}

func freeBytes(dir string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return st.Bavail * uint64(st.Bsize), nil
}
