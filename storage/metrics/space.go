package metrics

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// How often the file system is asked. Between two answers of "writable" at most
// a few seconds of samples can arrive, which MinFreeBytes has room for.
const (
	askWritable = 5 * time.Second
	askReadOnly = time.Second
)

// space keeps whether samples may be written: enough free space, a folder that
// takes files, and no write that failed since.
type space struct {
	dir     string
	minFree uint64
	free    func(string) (uint64, error)
	probe   func(string) error
	doubt   func() error // why nothing is to be taken though there is room; nil when it may
	mend    func()       // called when there is room again, and doubt
	now     func() time.Time
	log     *slog.Logger
	metrics *ownMetrics

	current atomic.Pointer[spaceState]
	mu      sync.Mutex // one check at a time
}

type spaceState struct {
	at   time.Time
	err  error // nil when writable
	room bool  // the file system can be written, whatever else there is
}

func newSpace(o Options, m *ownMetrics, doubt func() error, mend func()) *space {
	return &space{dir: o.Dir, minFree: o.MinFreeBytes, free: o.FreeBytes, probe: o.Probe, doubt: doubt, mend: mend, now: o.Now, log: o.Logger, metrics: m}
}

// state gives the last answer, and asks again when it is old.
func (s *space) state() error {
	st := s.current.Load()
	if st == nil {
		return s.check()
	}
	age, bound := s.now().Sub(st.at), askWritable
	if st.err != nil {
		bound = askReadOnly
	}
	if age >= 0 && age < bound {
		return st.err
	}
	return s.check()
}

func (s *space) check() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.writable()
	room := err == nil
	if doubt := s.doubt(); room && doubt != nil {
		err = fmt.Errorf("metrics store in %s: %w: %w", s.dir, fault.ErrUnavailable, doubt)
	}
	before := s.current.Swap(&spaceState{at: s.now(), err: err, room: room})
	s.changed(before, err)
	if room && err != nil && (before == nil || !before.room) {
		s.mend()
	}
	return err
}

// writable asks the file system alone.
func (s *space) writable() error {
	free, err := s.free(s.dir)
	if err != nil {
		return fmt.Errorf("metrics store: ask for the free space of %s: %w: %w", s.dir, fault.ErrUnavailable, err)
	}
	s.metrics.free.Set(float64(free))
	if free < s.minFree {
		return fmt.Errorf("metrics store: %s has %d MiB free, and at least %d MiB are needed; free some space or lower the retention: %w",
			s.dir, free>>20, s.minFree>>20, fault.ErrUnavailable)
	}
	if err := s.probe(s.dir); err != nil {
		return fmt.Errorf("metrics store: %s cannot be written: %w: %w", s.dir, fault.ErrUnavailable, err)
	}
	return nil
}

// fail notes a write that failed: nothing more is taken until a check succeeds.
func (s *space) fail(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := fmt.Errorf("metrics store: the last write to %s failed: %w: %w", s.dir, fault.ErrUnavailable, cause)
	before := s.current.Swap(&spaceState{at: s.now(), err: err})
	s.changed(before, err)
}

func (s *space) changed(before *spaceState, err error) {
	was := before != nil && before.err != nil
	switch {
	case err != nil && !was:
		s.metrics.readOnly.Set(1)
		if before != nil { // the first answer is told by Open
			s.log.Error("metrics store turned read-only", "err", err)
		}
	case err == nil && was:
		s.metrics.readOnly.Set(0)
		s.log.Info("metrics store is writable again", "dir", s.dir)
	}
}

// freeBytes is what an unprivileged process may still write.
func freeBytes(dir string) (uint64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return uint64(st.Bavail) * uint64(st.Bsize), nil //nolint:unconvert // the types differ by system
}

const probeFiles = "probe-*.writable"

// clearProbes removes those that a kill left behind.
func clearProbes(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, probeFiles))
	for _, path := range left {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// probe writes a file, syncs and removes it.
func probe(dir string) (err error) {
	f, err := os.CreateTemp(dir, probeFiles)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(filepath.Clean(f.Name()))) }()
	if _, err := f.Write(make([]byte, 4096)); err != nil {
		return err
	}
	return f.Sync()
}
