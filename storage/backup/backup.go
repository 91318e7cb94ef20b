// Package backup owns copies of the data folder: how one is made of a running
// server, what it consists of, and how a data folder is made of it again. It
// must not know who asks for one.
//
// A folder or a bucket holds any number of backups. What is large and never changes,
// the index and chunks of metrics blocks and the parts of log lines, lies in it
// once, however many backups hold it; so that a backup copies what is new.
//
//	blocks/ULID/{index,chunks/000001,…}
//	lines/XX/CHECKSUM                        files of log lines
//	backups/ID/MANIFEST.json                  last: it makes the backup whole
//	backups/ID/files/{FORMAT,meta.db,…}
//	backups/ID/blocks/ULID/{meta.json,tombstones}
package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/tsdb/fileutil"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// format of backup folders.
const format = 1

const (
	manifestFile = "MANIFEST.json"
	blocksDir    = "blocks"
	linesDir     = "lines"
	backupsDir   = "backups"
	filesDir     = "files"
	lockFile     = "lock"
	partial      = ".part"
)

// Metrics gives what it has. *metrics.DB is one.
type Metrics interface {
	// SnapshotBlocks writes all blocks, the newest samples as one more, into a new
	// folder on the store's own file system.
	SnapshotBlocks(ctx context.Context, dir string) error
}

// Lines gives what it has. *logs.Store is one.
type Lines interface {
	// Snapshot writes all lines that were acknowledged into a new folder on the
	// store's own file system.
	Snapshot(ctx context.Context, dir string) error
}

// Past gives samples that wait to become blocks. *history.Store is one.
type Past interface {
	// Snapshot writes all of them into a new folder on the store's own file system.
	Snapshot(ctx context.Context, dir string) error
}

// The parts of a data folder that are stores of their own.
const (
	metricsPart = "metrics/"
	classesPart = "metrics-classes/" // with a folder for each class
	logsPart    = "logs/"
	historyPart = "history/"
	// snapshotDir, in a store's folder, is there while a backup is made.
	snapshotDir = "snapshot.tmp"
	// stagingDir, in the data folder, holds copies of databases meanwhile.
	stagingDir = "backup.tmp"
)

// Manifest says what a backup consists of.
type Manifest struct {
	Format    int       `json:"format"`
	ID        string    `json:"id"`
	CreatedAt time.Time `json:"created_at"`
	Version   string    `json:"version"` // of the product that made it
	Files     []File    `json:"files"`
}

// File is one file of a backup.
type File struct {
	Path   string `json:"path"`   // in the data folder, with slashes
	Bytes  int64  `json:"bytes"`  //
	SHA256 string `json:"sha256"` // hex
}

// Bytes of all files.
func (m *Manifest) Bytes() (n int64) {
	for _, f := range m.Files {
		n += f.Bytes
	}
	return n
}

// Progress of a backup or a restore.
type Progress struct {
	Step   string // what is done now
	Done   int64  // bytes, of Total
	Total  int64  // bytes; 0 while it is not known
	Copied int64  // bytes that were new
}

// Options of Create.
type Options struct {
	To      Place  // required
	Data    string // the data folder, required
	Metrics Metrics
	// Classes gives the stores of further classes of samples, by class; default none.
	Classes func() map[string]Metrics
	Lines   Lines // nil leaves them out
	Past    Past  // nil leaves it out
	// Databases are the SQLite files in the data folder, which may be open.
	Databases []string
	// Files are further ones in the data folder, which do not change.
	Files   []string
	Version string
	// Keep is how many backups stay, this one included; older ones are removed
	// with the blocks that no other has. 0 keeps all.
	Keep int
	Now  func() time.Time // default time.Now
	// Progress is called often, by one goroutine, and must be quick.
	Progress func(Progress)
}

func (o *Options) complete() error {
	var errs []error
	if o.To == nil || o.Data == "" || o.Metrics == nil {
		errs = append(errs, errors.New("backup: To, Data and Metrics are required"))
	}
	if o.Keep < 0 {
		errs = append(errs, fmt.Errorf("backup: Keep must not be negative, but is %d", o.Keep))
	}
	if o.Classes == nil {
		o.Classes = func() map[string]Metrics { return nil }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	return errors.Join(errs...)
}

// Create makes a backup of a running server's data folder: everything that was
// acknowledged before the call is in it, but not the key of the secrets in its databases. It reads what it wrote once more, and
// compares. When it is interrupted, the next one goes on from the blocks that
// are there. fault.ErrConflict while another one works on the folder.
func Create(ctx context.Context, o Options) (_ *Manifest, err error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	unlock, err := o.To.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	now := o.Now().UTC()
	m := &Manifest{Format: format, ID: now.Format("20060102T150405.000Z"), CreatedAt: now, Version: o.Version}
	if err := o.To.begin(ctx, m.ID); err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	c := &copier{ctx: ctx, report: o.Progress}
	staging := filepath.Join(o.Data, stagingDir)
	if err := errors.Join(os.RemoveAll(staging), os.MkdirAll(staging, 0o700)); err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(staging)) }()

	c.step("databases")
	for _, name := range o.Databases {
		copied := filepath.Join(staging, name)
		err := copyDatabase(ctx, filepath.Join(o.Data, name), copied)
		if err == nil {
			err = c.add(o.To, m, copied, name)
		}
		if err = errors.Join(err, os.RemoveAll(copied)); err != nil {
			return nil, fmt.Errorf("backup %s: %w", name, err)
		}
	}
	for _, name := range o.Files {
		if err := c.add(o.To, m, filepath.Join(o.Data, name), name); err != nil {
			return nil, fmt.Errorf("backup %s: %w", name, err)
		}
	}

	if o.Past != nil { // first: what becomes a block by then is in the metrics
		if err := c.store(o, m, historyPart, "samples of the past", o.Past.Snapshot); err != nil {
			return nil, fmt.Errorf("backup history: %w", err)
		}
	}
	if err := c.store(o, m, metricsPart, "samples", o.Metrics.SnapshotBlocks); err != nil {
		return nil, fmt.Errorf("backup metrics: %w", err)
	}
	further := o.Classes()
	for _, name := range slices.Sorted(maps.Keys(further)) {
		if err := c.store(o, m, classesPart+name+"/", "samples of class "+name, further[name].SnapshotBlocks); err != nil {
			return nil, fmt.Errorf("backup metrics of class %s: %w", name, err)
		}
	}
	if o.Lines != nil {
		if err := c.store(o, m, logsPart, "log lines", o.Lines.Snapshot); err != nil {
			return nil, fmt.Errorf("backup logs: %w", err)
		}
	}

	raw, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return nil, err
	}
	if err := o.To.seal(ctx, m.ID, raw); err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	if o.Keep > 0 {
		c.step("removing old ones")
		if err := o.To.prune(ctx, o.Keep); err != nil {
			return m, fmt.Errorf("the backup is made; removing old ones: %w", err)
		}
	}
	c.step("done")
	return m, nil
}

// add has a file be part of the backup.
func (c *copier) add(to Place, m *Manifest, from, path string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	c.at.Total += info.Size()
	f, err := c.sum(from)
	if err != nil {
		return err
	}
	f.Path = path
	if err := to.put(c, m.ID, from, f); err != nil {
		return err
	}
	m.Files = append(m.Files, f)
	return nil
}

// store takes a snapshot of a store and copies what is not there of it.
func (c *copier) store(o Options, m *Manifest, part, what string, take func(context.Context, string) error) (err error) {
	c.step("snapshot of " + what)
	snapshot := filepath.Join(o.Data, part, snapshotDir) // the same file system, as second names need
	if err := os.RemoveAll(snapshot); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(snapshot)) }()
	if err := take(c.ctx, snapshot); err != nil {
		return err
	}
	c.step(what)
	var sources []string
	err = filepath.WalkDir(snapshot, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		c.at.Total += info.Size()
		sources = append(sources, path)
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, from := range sources {
		rel, err := filepath.Rel(snapshot, from)
		if err != nil {
			return err
		}
		f, err := c.sum(from)
		if err != nil {
			return err
		}
		f.Path = part + filepath.ToSlash(rel)
		if err := o.To.put(c, m.ID, from, f); err != nil {
			return err
		}
		m.Files = append(m.Files, f)
	}
	return nil
}

// clean removes snapshots that a kill left behind: they hold disk space.
func clean(data string) error {
	dirs, err := filepath.Glob(filepath.Join(data, classesPart, "*"))
	err = errors.Join(err, os.RemoveAll(filepath.Join(data, stagingDir)))
	for _, dir := range append(dirs, filepath.Join(data, metricsPart), filepath.Join(data, logsPart), filepath.Join(data, historyPart)) {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, snapshotDir)))
	}
	return err
}

// inBlock gives what a path is behind its store's folder, beginning with the
// block's id; ok for a file of samples.
func inBlock(path string) (rel string, ok bool) {
	if rel, ok := strings.CutPrefix(path, metricsPart); ok {
		return rel, true
	}
	if rel, ok := strings.CutPrefix(path, classesPart); ok {
		_, rel, ok := strings.Cut(rel, "/")
		return rel, ok
	}
	return "", false
}

// immutable tells the files of a block that never change; meta.json and
// tombstones may.
func immutable(rel string) bool {
	parts := strings.Split(filepath.ToSlash(rel), "/")
	return len(parts) > 1 && (parts[1] == "index" || parts[1] == "chunks")
}

// copier copies files and tells how far it is.
type copier struct {
	ctx    context.Context
	at     Progress
	report func(Progress)
}

func (c *copier) step(name string) {
	c.at.Step = name
	c.report(c.at)
}

func (c *copier) done(n int64) {
	c.at.Done += n
	c.report(c.at)
}

// copy copies what is read to a file, of which the size and checksum are known,
// unless the same is there already, and reads what it wrote.
func (c *copier) copy(open func() (io.ReadCloser, error), name, to string, want File) error {
	defer func() { c.done(want.Bytes) }()
	same := func(path string) (bool, error) {
		have, err := c.sum(path)
		return err == nil && have.Bytes == want.Bytes && have.SHA256 == want.SHA256, err
	}
	if yes, _ := same(to); yes {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	if err := c.write(open, to+partial); err != nil {
		return errors.Join(err, os.RemoveAll(to+partial))
	}
	if yes, err := same(to + partial); !yes {
		return errors.Join(fmt.Errorf("%s is damaged: its checksum is not %s: %w", name, want.SHA256, fault.ErrInvalid), err, os.Remove(to+partial))
	}
	c.at.Copied += want.Bytes
	return fileutil.Replace(to+partial, to)
}

func (c *copier) write(open func() (io.ReadCloser, error), to string) (err error) {
	in, err := open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := os.OpenFile(filepath.Clean(to), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if _, err := io.Copy(out, reader{c.ctx, in}); err != nil {
		return err
	}
	return out.Sync()
}

// sum reads a file. The path of what it gives is empty.
func (c *copier) sum(path string) (f File, err error) {
	in, err := os.Open(filepath.Clean(path))
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	return c.sumOf(in)
}

func (c *copier) sumOf(in io.Reader) (File, error) {
	h := sha256.New()
	n, err := io.Copy(h, reader{c.ctx, in})
	return File{Bytes: n, SHA256: hex.EncodeToString(h.Sum(nil))}, err
}

// reader ends with its context.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

func writeSynced(path string, raw []byte) (err error) {
	f, err := os.OpenFile(filepath.Clean(path), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(raw); err != nil {
		return err
	}
	return f.Sync()
}
