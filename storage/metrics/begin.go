package metrics

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
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
// blocks and the other log have lost.
type begin struct {
	At int64 `json:"at"` // Unix milliseconds; all that is older is late
}

// noteBegin notes where the samples in order begin, unless a block of the head tells.
func (db *DB) noteBegin(at int64) error {
	if db.storedInOrder() != math.MinInt64 {
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
	if err != nil || !db.opened.killedOnly() || b.At <= db.storedInOrder() {
		return forgetBegin(db.opts.Dir)
	}
	db.tsdb.Head().SetMinValidTime(b.At)
	db.compaction.begin = b.At
	return nil
}

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
func (db *DB) dropLate() error {
	c := &db.compaction
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.begin == 0 {
		return nil
	}
	c.trimmed = c.begin
	if db.tsdb.Head().MinTime() >= c.begin {
		return nil
	}
	return db.tsdb.Head().Truncate(c.begin)
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
