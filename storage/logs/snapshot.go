package logs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Snapshot writes all that was acknowledged before the call into a new folder on
// the store's own file system, which a store can be opened on: second names of
// files that do not change, and copies of those that do. Additions wait while a
// day is taken, for milliseconds each.
func (s *Store) Snapshot(ctx context.Context, dir string) error {
	release, err := s.use()
	if err != nil {
		return err
	}
	defer release()
	if err := s.ReadOnly(); err != nil && s.far == nil {
		return err // the library would end the process
	}
	if err := os.MkdirAll(filepath.Join(dir, partitionsDir), 0o750); err != nil {
		return fmt.Errorf("snapshot of logs: %w", err)
	}
	// Before the lines: a deletion that is done twice does nothing the second
	// time, and watermarks must not be ahead.
	if err := s.marks.save(s.opts.Dir); err != nil {
		return fmt.Errorf("snapshot of logs: %w", err)
	}
	for _, name := range []string{watermarksFile, deletionsFile} {
		if err := copySmall(filepath.Join(s.opts.Dir, name), filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("snapshot of logs: %w", err)
		}
	}
	if s.far != nil {
		return nil // backups of the rows are the engine's
	}
	for _, name := range s.lib.PartitionList() {
		if err := s.snapshotDay(ctx, name, filepath.Join(dir, partitionsDir, name)); err != nil {
			return fmt.Errorf("snapshot of logs of %s: %w", name, err)
		}
	}
	return nil
}

func (s *Store) snapshotDay(ctx context.Context, name, to string) error {
	// The library takes the index first, then the rows: a stream that came in
	// between would lack its entry.
	if err := s.gate.Acquire(ctx, adders); err != nil {
		return err
	}
	defer s.gate.Release(adders)
	var paths []string // one, or none when the day was removed meanwhile
	if err := guard("snapshot", func() error { paths = s.lib.PartitionSnapshotMustCreate(name); return nil }); err != nil {
		return err
	}
	for _, path := range paths {
		if err := os.Rename(path, to); err != nil {
			s.removeAll(path)
			return err
		}
	}
	return nil
}

// copySmall copies a file that is only ever replaced as a whole.
func copySmall(from, to string) error {
	raw, err := os.ReadFile(filepath.Clean(from))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.WriteFile(to, raw, 0o640)
}
