package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/metrics"
)

// restoringFile lies in a data folder that is not whole yet. It names the
// backup that it is made of.
const restoringFile = "RESTORING"

// Restore makes a data folder of a backup; an empty id is the newest. The folder
// must be empty, not there, or one whose restore of the same backup was
// interrupted: that goes on. Every file is compared with what the backup says,
// and every block read through.
func Restore(ctx context.Context, from Place, id, data string, progress func(Progress)) (*Manifest, error) {
	if progress == nil {
		progress = func(Progress) {}
	}
	m, err := find(ctx, from, id)
	if err != nil {
		return nil, err
	}
	if err := begin(data, m.ID); err != nil {
		return nil, err
	}
	c := &copier{ctx: ctx, report: progress, at: Progress{Total: m.Bytes()}}
	c.step("copying")
	blocks := map[string]bool{}
	for _, f := range m.Files {
		to := filepath.Join(data, filepath.FromSlash(f.Path))
		open := func() (io.ReadCloser, error) { return from.open(ctx, m.ID, f) }
		if err := c.copy(open, f.Path, to, f); err != nil {
			if errors.Is(err, fault.ErrInvalid) {
				err = fmt.Errorf("take an older backup: %w", err)
			}
			return nil, fmt.Errorf("restore %s: %w", f.Path, err)
		}
		if rel, ok := inBlock(f.Path); ok {
			if block, _, ok := strings.Cut(rel, "/"); ok {
				blocks[filepath.Join(data, strings.TrimSuffix(f.Path, rel), block)] = true
			}
		}
	}
	c.step("verifying")
	for _, dir := range sorted(blocks) {
		if err := metrics.VerifyBlock(ctx, dir, nil); err != nil {
			return nil, fmt.Errorf("restore: block %s: %w", filepath.Base(dir), err)
		}
	}
	if err := os.Remove(filepath.Join(data, restoringFile)); err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	c.step("done")
	return m, nil
}

func find(ctx context.Context, from Place, id string) (*Manifest, error) {
	all, err := List(ctx, from)
	if err != nil {
		return nil, err
	}
	if id == "" && len(all) > 0 {
		return all[len(all)-1], nil
	}
	var have []string
	for _, m := range all {
		if m.ID == id {
			return m, nil
		}
		have = append(have, m.ID)
	}
	if len(have) == 0 {
		return nil, fmt.Errorf("%s holds no whole backup: %w", from, fault.ErrNotFound)
	}
	return nil, fmt.Errorf("%s holds no backup %q, but %s: %w", from, id, strings.Join(have, ", "), fault.ErrNotFound)
}

// begin takes the folder for the backup.
func begin(data, id string) error {
	entries, err := os.ReadDir(data)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("restore: %w", err)
	}
	mark := filepath.Join(data, restoringFile)
	switch was, err := os.ReadFile(mark); {
	case err == nil && string(was) == id:
		return nil
	case err == nil:
		return fmt.Errorf("restore: %s holds a part of backup %s; empty it first, or restore that one: %w", data, was, fault.ErrConflict)
	case len(entries) > 0:
		return fmt.Errorf("restore: %s is not empty; give another folder by --data: %w", data, fault.ErrConflict)
	}
	if err := os.MkdirAll(data, 0o750); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return writeSynced(mark, []byte(id))
}

// Unfinished says whether a data folder's restore was interrupted, and of which
// backup. A server must not open it.
func Unfinished(data string) (id string, yes bool) {
	raw, err := os.ReadFile(filepath.Join(data, restoringFile))
	return string(raw), err == nil
}

func sorted(m map[string]bool) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
