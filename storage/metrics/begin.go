package metrics

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
)

// beginFile says where the samples in order begin that the log has, until a block of the
// head says so.
const beginFile = "begin.json"

// begin is what the beginFile says.
//
// The log has late samples, too, and nothing in it tells them from others. A start takes the
// oldest of a series for samples in order; what a block of the head has it leaves alone, but
// a new store has no such block for an hour or two. After a kill in the middle of a backlog
// its head would be as long as the backlog, and be written block by block for minutes: of
// samples that blocks of late ones and the out-of-order log have. So who trims the log of late
// samples notes up to which time all in it are late, and a start drops those.
//
// The note holds as long as nothing older is taken as a sample in order. So a start that
// relies on it has the TSDB take none, and one that does not removes it before it takes any:
// where something is damaged, or the machine itself was started anew, the log may have what
// blocks and the other log have lost. It goes as soon as that is seen, before anything is
// changed by which it was: a kill right after must not let the next start believe it.
type begin struct {
	At int64 `json:"at"` // Unix milliseconds; all that is older is late
}

// beginNote is whether the note may stand while the server runs.
type beginNote struct {
	mu   sync.Mutex  // one change of the file at a time
	void atomic.Bool // it may not, up to the end of this process
	gone atomic.Bool // it was removed since
}

// noteBegin notes where the samples in order begin, unless a block of the head tells.
func (db *DB) noteBegin(at int64) error {
	db.beginNote.mu.Lock()
	defer db.beginNote.mu.Unlock()
	if db.beginNote.void.Load() || db.storedInOrder() != math.MinInt64 {
		return nil
	}
	raw, err := json.Marshal(begin{at})
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(db.opts.Dir, beginFile), raw)
}

// readBegin takes the word of the process before for where the samples in order begin; nobody
// appends yet.
func (db *DB) readBegin() error {
	raw, err := os.ReadFile(filepath.Join(db.opts.Dir, beginFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var b begin
	if err == nil {
		err = json.Unmarshal(raw, &b)
	}
	if err != nil || b.At <= db.storedInOrder() {
		return forgetBegin(db.opts.Dir)
	}
	db.tsdb.Head().SetMinValidTime(b.At)
	db.compaction.begin = b.At
	return nil
}

// voidBegin removes the note while the server runs, and has none written any more: the
// log may have what blocks and the other log lack from now on.
func (db *DB) voidBegin() error {
	n := &db.beginNote
	n.mu.Lock()
	defer n.mu.Unlock()
	n.void.Store(true)
	if n.gone.Load() {
		return nil
	}
	if err := forgetBegin(db.opts.Dir); err != nil {
		return err
	}
	n.gone.Store(true)
	return nil
}

// mustGo says that the note stands though it may not.
func (n *beginNote) mustGo() bool { return n.void.Load() && !n.gone.Load() }

// forgetBegin removes the note, for good.
func forgetBegin(dir string) error {
	err := os.Remove(filepath.Join(dir, beginFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err = errors.Join(err, syncFile(dir)); err != nil {
		return fmt.Errorf("remove what does not hold any more: %w", err)
	}
	return nil
}

// dropLate drops from the head what the start took for samples in order though it is late.
// It may be called only once all that the start found in the out-of-order log is in blocks:
// the log forgets numbers then by which that one has samples.
func (db *DB) dropLate() error {
	c := &db.compaction
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.begin == 0 || db.beginNote.void.Load() {
		return nil
	}
	c.trimmed = c.begin
	if db.tsdb.Head().MinTime() >= c.begin {
		return nil
	}
	return db.truncated(db.tsdb.Head().Truncate(c.begin))
}

// storedInOrder is up to when the head is in blocks; math.MinInt64 when it is in none.
func (db *DB) storedInOrder() int64 {
	stored := int64(math.MinInt64)
	for _, m := range db.tsdb.BlockMetas() {
		if !m.Compaction.FromOutOfOrder() {
			stored = max(stored, m.MaxTime)
		}
	}
	return stored
}
