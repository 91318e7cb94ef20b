package metrics

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/fileutil"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/wlog"
)

// quarantineDir, in the store's folder, holds what is damaged. Nothing reads it,
// and nothing but people removes blocks from it; of logs the newest stay. A block's
// folder has a file that says why.
const (
	quarantineDir = "quarantine"
	reasonFile    = "REASON"
	logsPrefix    = "logs."
	cutSuffix     = ".cut" // the end of a log that a kill cut off, which is no damage
	// Log segments as they were: before the TSDB has opened them, and from then on until what it
	// changed has its place.
	unopenedLogs = logsPrefix + "unopened"
	openingLogs  = logsPrefix + "opening"

	// Logs that stay in the quarantine: a server that is killed every minute, or a
	// disk that goes bad slowly, must not fill it.
	maxKeptLogs     = 20
	maxKeptLogBytes = 1 << 30 // the newest stays, however large
)

// Quarantined lists what was found damaged and taken out, now or before: blocks
// by their id, log segments as logs.TIME, and the ends of logs that a kill cut off
// as logs.TIME.cut.
func (db *DB) Quarantined() []string {
	entries, err := os.ReadDir(filepath.Join(db.opts.Dir, quarantineDir))
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		if e.Name() != unopenedLogs && e.Name() != openingLogs {
			out = append(out, e.Name())
		}
	}
	return out
}

// countQuarantined leaves out what was cut off: nothing is missing for it.
func (db *DB) countQuarantined() {
	n := 0
	for _, name := range db.Quarantined() {
		if !strings.HasSuffix(name, cutSuffix) {
			n++
		}
	}
	db.metrics.quarantined.Set(float64(n))
}

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
		if err := forgetBegin(o.Dir); err != nil {
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
	if err := errors.Join(db.voidBegin(), linkTree(from, to)); err != nil {
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
		if db.opts.Newest != nil {
			border := db.opts.Newest() - db.opts.Retention.Milliseconds()
			for _, b := range blocks {
				if b.MaxTime() <= border {
					out[b.Meta().ULID] = struct{}{}
				}
			}
		}
	}
	db.damagedMu.Lock()
	defer db.damagedMu.Unlock()
	maps.Copy(out, db.damaged)
	return out
}

// linkTree gives files a second name; a folder on another file system is
// refused by the system.
func linkTree(from, to string) error {
	return mirror(from, to, func(file, as string) error {
		if err := os.Link(file, as); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		return nil
	})
}

// mirror makes a folder's folders elsewhere, and calls put for each file with
// where it belongs there.
func mirror(from, to string, put func(file, as string) error) error {
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
		return put(path, filepath.Join(to, rel))
	})
}

// keepLogs gives the segments of both logs second names before the TSDB opens
// them: it repairs a damaged log by dropping what it cannot read, and all
// segments behind that. Where a kill or a full disk met it amidst that the time before,
// the segments are put back first, or what it had not written again yet were lost.
func keepLogs(dir string) error {
	keep, opening := filepath.Join(dir, quarantineDir, unopenedLogs), filepath.Join(dir, quarantineDir, openingLogs)
	for _, of := range []string{keep, opening} {
		if err := forgetAfterRepair(dir, of); err != nil {
			return err
		}
	}
	if err := putBack(dir, keep); err != nil {
		return err
	}
	for _, of := range []string{keep, opening} {
		if err := os.RemoveAll(of); err != nil {
			return err
		}
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

// putBack gives segments the first names again that they have no more.
func putBack(dir, keep string) error {
	return eachKept(dir, keep, func(path, rel string, _ int64, same bool) error {
		if same {
			return nil
		}
		to := filepath.Join(dir, rel)
		tmp := to + ".tmp"
		if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := os.Link(path, tmp); err != nil {
			return err
		}
		if err := fileutil.Replace(tmp, to); err != nil {
			return err
		}
		if err := os.Remove(to + ".repair"); err != nil && !errors.Is(err, os.ErrNotExist) { // the TSDB's name for it
			return err
		}
		return nil
	})
}

// forgetAfterRepair removes the beginFile where an open that was interrupted had rewritten
// or dropped segments of a log: they look whole now.
func forgetAfterRepair(dir, keep string) error {
	return eachKept(dir, keep, func(_, _ string, _ int64, same bool) error {
		if same {
			return nil
		}
		if err := forgetBegin(dir); err != nil {
			return err
		}
		return filepath.SkipAll
	})
}

// eachKept calls fn for each segment of which keep has a second name, in their order: that
// name, the segment below dir, its size, and whether dir still has it as it was. Where there
// is no keep, there are none.
func eachKept(dir, keep string, fn func(path, rel string, size int64, same bool) error) error {
	return filepath.WalkDir(keep, func(path string, e os.DirEntry, err error) error {
		if path == keep && errors.Is(err, os.ErrNotExist) {
			return nil
		}
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
		now, err := os.Stat(filepath.Join(dir, rel))
		return fn(path, rel, before.Size(), err == nil && os.SameFile(before, now))
	})
}

// keptLogs drops the second names of what the TSDB left alone, and gives the
// segments that it rewrote or dropped their place in the quarantine: of a log that
// ends within a record no more than that end. repaired says that there were such.
func (db *DB) keptLogs() (repaired bool, err error) {
	o := db.opts
	keep := filepath.Join(o.Dir, quarantineDir, openingLogs)
	// From here on they are no more what is to be put back.
	if err := os.Rename(filepath.Join(o.Dir, quarantineDir, unopenedLogs), keep); errors.Is(err, os.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	var changed []string
	last := map[string]string{} // the last segment of each log that is not empty
	err = eachKept(o.Dir, keep, func(path, rel string, size int64, same bool) error {
		if size > 0 {
			last[filepath.Dir(rel)] = rel
		}
		if same || size == 0 {
			return os.Remove(path)
		}
		changed = append(changed, rel)
		return nil
	})
	switch {
	case err != nil:
		return false, err
	case len(changed) == 0:
		// The quarantine itself goes when it holds nothing else.
		err := os.RemoveAll(keep)
		_ = os.Remove(filepath.Dir(keep))
		return false, err
	}
	slices.Sort(changed)
	cut := int64(0) // bytes, while nothing else is wrong
	for _, rel := range changed {
		n := int64(0)
		if rel == last[filepath.Dir(rel)] {
			n, err = keepCutOff(filepath.Join(keep, rel), filepath.Join(o.Dir, rel))
		}
		if err != nil {
			return false, err
		}
		if n == 0 {
			cut = 0
			break
		}
		cut += n
	}
	to := filepath.Join(filepath.Dir(keep), logsPrefix+o.Now().UTC().Format("20060102T150405.000Z"))
	if cut > 0 {
		to += cutSuffix
		db.metrics.cutOff.Inc()
		if db.opened.killedOnly() {
			o.Logger.Warn("the last write was cut off by a kill; nothing acknowledged was in it", "kept_bytes", cut, "quarantine", to)
		} else {
			o.Logger.Warn("the last write was cut off, and the machine was started anew since: what was acknowledged in the last seconds before may be missing, as it was not written through to the disk (--metrics-sync)", "kept_bytes", cut, "quarantine", to)
		}
	} else {
		if err := forgetBegin(o.Dir); err != nil {
			return false, err
		}
		o.Logger.Error("log was damaged: what could be read of it is kept, the segments as they were are in the quarantine",
			"segments", strings.Join(changed, " "), "quarantine", to)
	}
	if err := os.Rename(keep, to); err != nil {
		return false, err
	}
	return true, db.boundLogs()
}

// keepCutOff looks whether a log's last segment has an end that was cut off, and nothing
// else of it is missing from the one that took its place. It keeps no more than that
// record then. It gives the bytes kept, 0 where anything else is wrong.
func keepCutOff(path, now string) (kept int64, err error) {
	rest, missing, err := cutOff(path)
	if err != nil || len(rest) == 0 {
		return 0, err
	}
	_, damaged, err := readSegment(now, func([]byte) error { missing--; return nil })
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil || damaged || missing > 0 {
		return 0, err
	}
	// Not into the file itself: it may have further names.
	if err := os.WriteFile(path+".tmp", rest, 0o640); err != nil {
		return 0, err
	}
	return int64(len(rest)), fileutil.Replace(path+".tmp", path)
}

// cutOff gives the end of a segment that is whole up to a record that ends with the file,
// as only a write leaves it that was cut off, and how many records it has before that are
// no markers; none where anything else is wrong.
func cutOff(path string) (rest []byte, records int, err error) {
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	in := &ending{r: bufio.NewReaderSize(f, 1<<20)}
	r, dec := wlog.NewReader(in), record.NewDecoder(labels.NewSymbolTable(), nil)
	end := int64(0)
	for r.Next() {
		end = r.Offset()
		if dec.Type(r.Record()) != record.MmapMarkers { // those are taken out
			records++
		}
	}
	if !in.reached {
		return nil, 0, nil
	}
	if _, err := f.Seek(end, io.SeekStart); err != nil {
		return nil, 0, err
	}
	rest, err = io.ReadAll(f) // of one commit at most
	if err != nil || len(bytes.Trim(rest, "\x00")) == 0 || holdsRecord(rest[min(int64(len(rest)), r.Offset()-end):]) {
		return nil, 0, err
	}
	return rest, records, nil
}

// holdsRecord says that there is a whole part of a record somewhere: what seems cut
// off then only says of itself that it is longer than it is.
func holdsRecord(raw []byte) bool {
	for n := 0; n+partHeader < len(raw); n++ {
		length := int(binary.BigEndian.Uint16(raw[n+1:]))
		if kind := raw[n] & 7; kind < 1 || kind > 4 || length == 0 || n+partHeader+length > len(raw) {
			continue
		}
		if crc32.Checksum(raw[n+partHeader:n+partHeader+length], castagnoli) == binary.BigEndian.Uint32(raw[n+3:]) {
			return true
		}
	}
	return false
}

// ending notes that more was asked of a reader than it has.
type ending struct {
	r       io.Reader
	reached bool
}

func (e *ending) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	e.reached = e.reached || errors.Is(err, io.EOF)
	return n, err
}

// boundLogs removes the oldest logs from the quarantine that are too many.
func (db *DB) boundLogs() error {
	dir := filepath.Join(db.opts.Dir, quarantineDir)
	kept, sum := 0, int64(0)
	for _, name := range slices.Backward(db.Quarantined()) { // by name, which is by time
		if !strings.HasPrefix(name, logsPrefix) {
			continue
		}
		n, err := treeBytes(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		kept, sum = kept+1, sum+n
		if kept == 1 || (kept <= maxKeptLogs && sum <= maxKeptLogBytes) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return err
		}
		db.metrics.quarantineDropped.Inc()
		db.opts.Logger.Warn("removed an old log from the quarantine, which holds too many", "name", name, "bytes", n)
	}
	return nil
}

func treeBytes(dir string) (sum int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	return sum, err
}

// openedFile says of the process that had the store open last on which start of the
// machine it ran, and whether commits waited for the disk.
const openedFile = "opened.json"

// opened is what the openedFile says.
type opened struct {
	Boot string `json:"boot"` // empty where the system does not tell
	Sync bool   `json:"sync"`
	now  string // this start of the machine
}

// noteOpened gives what the process before left, and leaves the same of this one. Where
// more than a kill may have been between them, the beginFile goes before that is forgotten.
func noteOpened(o Options) (was opened, err error) {
	path := filepath.Join(o.Dir, openedFile)
	if raw, err := os.ReadFile(path); err == nil {
		_ = json.Unmarshal(raw, &was) // without it nothing is promised
	}
	if raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		was.now = strings.TrimSpace(string(raw))
	}
	if !was.killedOnly() {
		if err := forgetBegin(o.Dir); err != nil {
			return was, err
		}
	}
	if was.Boot == was.now && was.Sync == o.Sync && was.Boot != "" {
		return was, nil
	}
	raw, err := json.Marshal(opened{Boot: was.now, Sync: o.Sync})
	if err == nil {
		err = errors.Join(os.WriteFile(path+".tmp", raw, 0o640), fileutil.Replace(path+".tmp", path))
	}
	if err != nil { // a full disk keeps nobody from opening, but the old word does not hold any more
		o.Logger.Warn("note which start of the machine this is", "err", errors.Join(err, os.Remove(path)))
	}
	return was, nil
}

// killedOnly says that whatever was acknowledged was in the log's files: the
// system holds them over the end of a process, but not over its own.
func (w opened) killedOnly() bool { return w.Sync || (w.Boot != "" && w.Boot == w.now) }
