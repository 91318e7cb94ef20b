package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/prometheus/prometheus/tsdb/fileutil"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// Folder is a folder of backups; it is made when it is not there. A backup that is
// not whole yet has a name of its own.
func Folder(dir string) Place { return folder(dir) }

type folder string

var _ Place = folder("")

func (d folder) String() string { return string(d) }

func (d folder) path(key string) string { return filepath.Join(string(d), filepath.FromSlash(key)) }

func (d folder) lock(context.Context) (unlock func() error, err error) {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return nil, fmt.Errorf("the backup folder %s cannot be made: %w: %w", d, fault.ErrUnavailable, err)
	}
	l, _, err := fileutil.Flock(d.path(lockFile))
	if err != nil {
		return nil, fmt.Errorf("another backup works on %s: %w: %w", d, fault.ErrConflict, err)
	}
	return l.Release, nil
}

func (d folder) begin(_ context.Context, id string) error {
	parts, err := filepath.Glob(d.path(ownDir("*" + partial)))
	if err != nil {
		return err
	}
	for _, p := range parts {
		if err := os.RemoveAll(p); err != nil {
			return err
		}
	}
	return os.MkdirAll(d.path(ownDir(id+partial)), 0o700)
}

func (d folder) put(c *copier, id, from string, f File) error {
	return c.copy(func() (io.ReadCloser, error) { return os.Open(filepath.Clean(from)) }, from, d.path(keyOf(ownDir(id+partial), f)), f)
}

func (d folder) seal(_ context.Context, id string, manifest []byte) error {
	part := d.path(ownDir(id + partial))
	if err := writeSynced(filepath.Join(part, manifestFile), manifest); err != nil {
		return err
	}
	return fileutil.Replace(part, d.path(ownDir(id)))
}

func (d folder) open(_ context.Context, id string, f File) (io.ReadCloser, error) {
	return os.Open(d.path(keyOf(ownDir(id), f)))
}

func (d folder) list(context.Context) ([]*Manifest, error) {
	entries, err := os.ReadDir(d.path(backupsDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list backups: %w", err)
	}
	var out []*Manifest
	for _, e := range entries {
		if !e.IsDir() || strings.HasSuffix(e.Name(), partial) {
			continue
		}
		dir := d.path(ownDir(e.Name()))
		raw, err := os.ReadFile(filepath.Join(dir, manifestFile))
		if err != nil {
			return nil, fmt.Errorf("read backup: %w", err)
		}
		m, err := parseManifest(raw, dir, e.Name())
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return byID(out), nil
}

func (d folder) prune(ctx context.Context, keep int) error {
	all, err := d.list(ctx)
	if err != nil {
		return err
	}
	gone, used := divide(all, keep)
	for _, m := range gone {
		if err := os.RemoveAll(d.path(ownDir(m.ID))); err != nil {
			return err
		}
	}
	for _, pattern := range []string{blocksDir + "/*", linesDir + "/*/*"} {
		paths, err := filepath.Glob(d.path(pattern))
		if err != nil {
			return err
		}
		for _, path := range paths {
			if !used[filepath.Base(path)] {
				if err := os.RemoveAll(path); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
