package metrics

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/fileutil"
	"github.com/prometheus/prometheus/tsdb/wlog"
)

// quarantineDir, in the store's folder, holds what is damaged. Nothing reads it,
// and nothing but people removes it. A block's folder has a file that says why.
const (
	quarantineDir = "quarantine"
	reasonFile    = "REASON"
	openingLogs   = "logs.opening" // log segments as they were before an open that has not ended
)

// Quarantined lists what was found damaged and taken out, now or before: blocks
// by their id, log segments as log.TIME/NUMBER.
func (db *DB) Quarantined() []string {
	entries, err := os.ReadDir(filepath.Join(db.opts.Dir, quarantineDir))
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		if e.Name() != openingLogs {
			out = append(out, e.Name())
		}
	}
	return out
}

func (db *DB) countQuarantined() { db.metrics.quarantined.Set(float64(len(db.Quarantined()))) }

// quarantineClosed moves blocks away that cannot be opened at all, for which the
// TSDB would refuse to open. One without meta.json goes too: the TSDB would skip
// it, and never say so again.
func quarantineClosed(o Options) error {
	entries, err := os.ReadDir(o.Dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, err := ulid.ParseStrict(e.Name()); err != nil || !e.IsDir() {
			continue
		}
		dir := filepath.Join(o.Dir, e.Name())
		b, why := tsdb.OpenBlock(nil, dir, nil, nil)
		if why == nil {
			if err := b.Close(); err != nil {
				return err
			}
			continue
		}
		to := filepath.Join(o.Dir, quarantineDir, e.Name())
		if err := os.MkdirAll(filepath.Dir(to), 0o750); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, reasonFile), []byte(why.Error()+"\n"), 0o640); err != nil {
			return err
		}
		if err := fileutil.Replace(dir, to); err != nil {
			return err
		}
		o.Logger.Error("block is damaged and was taken out; the rest is served", "block", e.Name(), "quarantine", to, "err", why)
	}
	return nil
}

// quarantineLive takes a block out that the TSDB has open: its files get a
// second name in the quarantine, and the TSDB is told that it may delete it.
func (db *DB) quarantineLive(ctx context.Context, id ulid.ULID, why error) error {
	from, to := filepath.Join(db.opts.Dir, id.String()), filepath.Join(db.opts.Dir, quarantineDir, id.String())
	db.opts.Logger.Error("block is damaged and is taken out; the rest is served", "block", id.String(), "quarantine", to, "err", why)
	if err := linkTree(from, to); err != nil {
		return fmt.Errorf("quarantine block %s: %w", id, err)
	}
	if err := os.WriteFile(filepath.Join(to, reasonFile), []byte(why.Error()+"\n"), 0o640); err != nil {
		return fmt.Errorf("quarantine block %s: %w", id, err)
	}
	db.damagedMu.Lock()
	db.damaged[id] = struct{}{}
	db.damagedMu.Unlock()
	db.countQuarantined()
	// It always reads the folder anew, and asks which blocks may go.
	if err := db.compactLate(ctx); err != nil {
		return fmt.Errorf("quarantine block %s: %w", id, err)
	}
	return nil
}

// blocksToDelete adds damaged blocks to those past the retention.
func (db *DB) blocksToDelete(blocks []*tsdb.Block) map[ulid.ULID]struct{} {
	out := map[ulid.ULID]struct{}{}
	if inner := db.inner.Load(); inner != nil { // nil while the TSDB is being opened
		maps.Copy(out, tsdb.DefaultBlocksToDelete(inner)(blocks))
	}
	db.damagedMu.Lock()
	defer db.damagedMu.Unlock()
	maps.Copy(out, db.damaged)
	return out
}

// linkTree gives files a second name; a folder on another file system is
// refused by the system.
func linkTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if e.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o750)
		}
		if err := os.Link(path, filepath.Join(to, rel)); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		return nil
	})
}

// keepLogs gives the segments of both logs second names before the TSDB opens
// them: it repairs a damaged log by dropping what it cannot read, and all
// segments behind that.
func keepLogs(dir string) error {
	keep := filepath.Join(dir, quarantineDir, openingLogs)
	if err := os.RemoveAll(keep); err != nil { // of an open that was interrupted
		return err
	}
	for _, log := range []string{"wal", wlog.WblDirName} {
		entries, err := os.ReadDir(filepath.Join(dir, log))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.IsDir() { // checkpoints, which are written whole
				continue
			}
			if err := os.MkdirAll(filepath.Join(keep, log), 0o750); err != nil {
				return err
			}
			if err := os.Link(filepath.Join(dir, log, e.Name()), filepath.Join(keep, log, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// keptLogs drops the second names of what the TSDB left alone, and gives the
// segments that it rewrote or dropped their place in the quarantine. damaged says
// that there were such.
func keptLogs(o Options) (damaged bool, err error) {
	keep := filepath.Join(o.Dir, quarantineDir, openingLogs)
	var repaired []string
	err = filepath.WalkDir(keep, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(keep, path)
		if err != nil {
			return err
		}
		before, err := os.Stat(path)
		if err != nil {
			return err
		}
		if now, err := os.Stat(filepath.Join(o.Dir, rel)); err == nil && os.SameFile(before, now) {
			return os.Remove(path)
		}
		repaired = append(repaired, rel)
		return nil
	})
	switch {
	case errors.Is(err, os.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case len(repaired) == 0:
		// The quarantine itself goes when it holds nothing else.
		err := os.RemoveAll(keep)
		_ = os.Remove(filepath.Dir(keep))
		return false, err
	}
	slices.Sort(repaired)
	to := filepath.Join(filepath.Dir(keep), "logs."+o.Now().UTC().Format("20060102T150405.000Z"))
	o.Logger.Error("log was damaged: what could be read of it is kept, the segments as they were are in the quarantine",
		"segments", strings.Join(repaired, " "), "quarantine", to)
	return true, os.Rename(keep, to)
}
