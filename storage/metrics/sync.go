package metrics

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/prometheus/prometheus/tsdb/wlog"
)

// syncer has the system write the logs to the disk. Commits that wait for it at
// the same time share one go.
type syncer struct {
	dir     string
	tickets atomic.Int64
	failed  atomic.Int64 // times that the disk did not take all

	mu      sync.Mutex
	covered int64 // tickets up to here are on the disk, or err says why not
	err     error
	newest  map[string]string // of each log, when its folder was synced
}

func newSyncer(dir string) *syncer { return &syncer{dir: dir, newest: map[string]string{}} }

// sync returns once all that was written to the logs before the call is on the
// disk. A failure is final for whoever waited for it: the system forgets what it
// could not write, so that trying again would say nothing.
func (s *syncer) sync() error {
	ticket := s.tickets.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.covered >= ticket {
		return s.err
	}
	through := s.tickets.Load() // these were written before what follows
	var errs []error
	for _, log := range []string{"wal", wlog.WblDirName} {
		errs = append(errs, s.log(filepath.Join(s.dir, log)))
	}
	if s.covered, s.err = through, errors.Join(errs...); s.err != nil {
		s.failed.Add(1)
	}
	return s.err
}

// log syncs the newest two segments: a commit may end in the second one. The
// TSDB itself syncs a segment some time after it began the next.
func (s *syncer) log(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nothing was out of order yet
	}
	if err != nil {
		return err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err == nil && !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names) // of equal length
	if len(names) == 0 {
		return nil
	}
	for _, name := range names[max(0, len(names)-2):] {
		if err := syncFile(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if last := names[len(names)-1]; s.newest[dir] != last {
		if err := syncFile(dir); err != nil { // the segment's name
			return err
		}
		s.newest[dir] = last
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
