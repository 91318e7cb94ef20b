package backup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/thanos-io/objstore"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// staleLock is when the mark of a backup that nobody took away says nothing any
// more: object stores have no locks that end with their holder.
const staleLock = 24 * time.Hour

// Bucket is an object store. owner tells who works on it from others that might, as
// a host and its data folder do: after a kill the same one goes on.
//
// An object is there as a whole or not at all, so a backup is whole once its
// manifest is there. What a whole backup names was read back when it was written,
// and is not read again for each further one: its size is compared.
func Bucket(to objstore.Bucket, owner string, now func() time.Time) Place {
	return &objects{to: to, owner: owner, now: now}
}

type objects struct {
	to    objstore.Bucket
	owner string
	now   func() time.Time

	known map[string]File // by key: what whole backups share; of the backup that holds the lock
}

var _ Place = (*objects)(nil)

func (b *objects) String() string { return "bucket " + b.to.Name() }

// lockMark is the content of the lock's object.
type lockMark struct {
	Owner string    `json:"owner"`
	At    time.Time `json:"at"`
}

func (b *objects) lock(ctx context.Context) (unlock func() error, err error) {
	raw, err := b.read(ctx, lockFile)
	var was lockMark
	switch {
	case err != nil && !b.to.IsObjNotFoundErr(err):
		return nil, fmt.Errorf("read %s of %s: %w: %w", lockFile, b, fault.ErrUnavailable, err)
	case err == nil && json.Unmarshal(raw, &was) == nil && was.Owner != b.owner && b.now().Sub(was.At) < staleLock:
		return nil, fmt.Errorf("%s works on %s since %s; give each server a prefix of its own, or remove the object %s if it is gone: %w",
			was.Owner, b, was.At.Format(time.RFC3339), lockFile, fault.ErrConflict)
	}
	if raw, err = json.Marshal(lockMark{b.owner, b.now().UTC()}); err != nil {
		return nil, err
	}
	if err := b.to.Upload(ctx, lockFile, bytes.NewReader(raw)); err != nil {
		return nil, fmt.Errorf("write %s into %s: %w: %w", lockFile, b, fault.ErrUnavailable, err)
	}
	return func() error { return b.to.Delete(context.WithoutCancel(ctx), lockFile) }, nil
}

func (b *objects) begin(ctx context.Context, _ string) error {
	all, err := b.list(ctx)
	if err != nil {
		return err
	}
	whole := map[string]bool{}
	b.known = map[string]File{}
	for _, m := range all {
		whole[m.ID] = true
		for _, f := range m.Files {
			b.known[keyOf(ownDir(m.ID), f)] = f
		}
	}
	return b.each(ctx, backupsDir, func(name string) error {
		if id := path.Base(name); !whole[id] {
			return b.remove(ctx, ownDir(id))
		}
		return nil
	})
}

func (b *objects) put(c *copier, id, from string, f File) error {
	defer func() { c.done(f.Bytes) }()
	key := keyOf(ownDir(id), f)
	same := func() (bool, error) {
		at, err := b.to.Attributes(c.ctx, key)
		if err != nil || at.Size != f.Bytes {
			return false, err
		}
		if known, ok := b.known[key]; ok && known.SHA256 == f.SHA256 {
			return true, nil
		}
		in, err := b.to.Get(c.ctx, key)
		if err != nil {
			return false, err
		}
		defer func() { _ = in.Close() }() // read only
		have, err := c.sumOf(in)
		return have.Bytes == f.Bytes && have.SHA256 == f.SHA256, err
	}
	switch yes, err := same(); {
	case err != nil && !b.to.IsObjNotFoundErr(err):
		return b.failed(c.ctx, key, err)
	case yes:
		return nil
	}
	delete(b.known, key)
	in, err := os.Open(filepath.Clean(from))
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // read only
	if err := b.to.Upload(c.ctx, key, in); err != nil {
		return b.failed(c.ctx, key, err)
	}
	if yes, err := same(); err != nil || !yes {
		if err == nil {
			err = fmt.Errorf("what was written is not what is read: %w", fault.ErrInvalid)
		}
		return b.failed(c.ctx, key, err)
	}
	c.at.Copied += f.Bytes
	return nil
}

// failed is an error of the store; one of who gave up stays what it is.
func (b *objects) failed(ctx context.Context, key string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%s of %s: %w: %w", key, b, fault.ErrUnavailable, err)
}

func (b *objects) seal(ctx context.Context, id string, manifest []byte) error {
	key := path.Join(ownDir(id), manifestFile)
	if err := b.to.Upload(ctx, key, bytes.NewReader(manifest)); err != nil {
		return b.failed(ctx, key, err)
	}
	return nil
}

func (b *objects) open(ctx context.Context, id string, f File) (io.ReadCloser, error) {
	key := keyOf(ownDir(id), f)
	in, err := b.to.Get(ctx, key)
	if err != nil {
		return nil, b.failed(ctx, key, err)
	}
	return in, nil
}

func (b *objects) list(ctx context.Context) (all []*Manifest, err error) {
	err = b.each(ctx, backupsDir, func(name string) error {
		key := path.Join(ownDir(path.Base(name)), manifestFile)
		raw, err := b.read(ctx, key)
		if b.to.IsObjNotFoundErr(err) {
			return nil // it is being made, or was interrupted
		}
		if err != nil {
			return b.failed(ctx, key, err)
		}
		m, err := parseManifest(raw, key, path.Base(name))
		if err == nil {
			all = append(all, m)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list backups: %w", err)
	}
	return byID(all), nil
}

func (b *objects) prune(ctx context.Context, keep int) error {
	all, err := b.list(ctx)
	if err != nil {
		return err
	}
	gone, used := divide(all, keep)
	for _, m := range gone {
		// Its manifest first: without it nobody takes it for whole.
		err := b.to.Delete(ctx, path.Join(ownDir(m.ID), manifestFile))
		if err = errors.Join(err, b.remove(ctx, ownDir(m.ID))); err != nil {
			return err
		}
	}
	unused := func(name string) error {
		if used[path.Base(name)] {
			return nil
		}
		return b.remove(ctx, strings.TrimSuffix(name, objstore.DirDelim))
	}
	err = b.each(ctx, blocksDir, unused)
	return errors.Join(err, b.each(ctx, linesDir, func(name string) error { return b.each(ctx, name, unused) }))
}

// each calls do for what lies directly in a folder.
func (b *objects) each(ctx context.Context, dir string, do func(name string) error) error {
	var names []string // not while it is listed: do removes some
	err := b.to.Iter(ctx, dir, func(name string) error {
		names = append(names, name)
		return nil
	})
	if err != nil {
		return b.failed(ctx, dir, err)
	}
	for _, name := range names {
		if err := do(name); err != nil {
			return err
		}
	}
	return nil
}

// remove removes an object, or all below a folder.
func (b *objects) remove(ctx context.Context, key string) error {
	var names []string
	err := b.to.Iter(ctx, key, func(name string) error {
		names = append(names, name)
		return nil
	}, objstore.WithRecursiveIter())
	if err != nil {
		return b.failed(ctx, key, err)
	}
	if len(names) == 0 {
		names = []string{key}
	}
	for _, name := range names {
		if err := b.to.Delete(ctx, name); err != nil && !b.to.IsObjNotFoundErr(err) {
			return b.failed(ctx, name, err)
		}
	}
	return nil
}

func (b *objects) read(ctx context.Context, key string) (_ []byte, err error) {
	in, err := b.to.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Close() }() // read only
	return io.ReadAll(in)
}
