package metrics

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// floodedStore is a folder as a kill leaves it in a backlog: what came late is in a block,
// or in the out-of-order log alone, and the log of all has both.
func floodedStore(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	db := still(t, dir)
	db.opts.OutOfOrderLogBytes = 1
	put(t, db, labels.FromStrings(labels.MetricName, "live"), t0, 1)
	put(t, db, labels.FromStrings(labels.MetricName, "stored"), t0.Add(-20*time.Hour), 1)
	if err := db.compactOutOfOrder(t.Context()); err != nil {
		t.Fatal(err)
	}
	if db.compaction.trimmed == 0 {
		t.Fatal("the log was not trimmed")
	}
	for _, name := range []string{"logged", "too", "last"} {
		put(t, db, labels.FromStrings(labels.MetricName, name), t0.Add(-19*time.Hour), 1)
	}
	return killed(t, dir)
}

// holds fails unless each of these has its one sample.
func holds(t *testing.T, db *DB, names ...string) {
	t.Helper()
	for _, name := range names {
		if got := len(values(t, db, name)); got != 1 {
			t.Errorf("%d samples of %s, want 1", got, name)
		}
	}
}

// After a kill in the middle of a backlog the head of a new store holds what is in order,
// whatever else the log has.
func TestAKillInABacklogMakesNoLongHead(t *testing.T) {
	dir := floodedStore(t)
	names := []string{"live", "stored", "logged", "too", "last"}
	for round := range 3 {
		db := still(t, dir)
		if head := db.tsdb.Head(); db.due() || head.MinTime() < db.compaction.begin || db.compaction.begin == 0 {
			t.Errorf("start %d: the head begins at %s", round+1, time.UnixMilli(head.MinTime()).Sub(t0))
		}
		holds(t, db, names...)
		for name, at := range map[string]time.Time{"live": t0.Add(time.Minute), "logged": t0.Add(-18 * time.Hour)} {
			name += strconv.Itoa(round)
			put(t, db, labels.FromStrings(labels.MetricName, name), at, 1)
			names = append(names, name)
		}
		dir = killed(t, dir)
	}
}

// The log goes on being trimmed after such a start.
func TestTheLogIsTrimmedAfterAKill(t *testing.T) {
	db := still(t, floodedStore(t))
	was := db.compaction.trimmed
	if was == 0 {
		t.Fatal("it is forgotten up to when the log was trimmed")
	}
	db.opts.OutOfOrderLogBytes = 1
	put(t, db, labels.FromStrings(labels.MetricName, "x"), t0.Add(-18*time.Hour), 1)
	if err := db.compactOutOfOrder(t.Context()); err != nil {
		t.Fatal(err)
	}
	if now := db.compaction.trimmed; now <= was {
		t.Errorf("trimmed up to %s, as before", time.UnixMilli(now).Sub(t0))
	}
}

// What is older than the note says is taken as late by who relies on it, also where nothing
// newer is left; else the next start would drop it.
func TestNothingOlderIsTakenAsInOrder(t *testing.T) {
	dir := floodedStore(t)
	for _, log := range []string{"wal", "wbl", "chunks_head"} {
		if err := os.RemoveAll(filepath.Join(dir, log)); err != nil {
			t.Fatal(err)
		}
	}
	db := still(t, dir)
	put(t, db, labels.FromStrings(labels.MetricName, "old"), t0.Add(-10*time.Hour), 1)
	for range 2 {
		dir = killed(t, dir)
		db = still(t, dir)
		holds(t, db, "stored", "old")
		put(t, db, labels.FromStrings(labels.MetricName, "new"), t0, 1)
	}
}

// The log is believed where what has the late samples besides may have lost some.
func TestTheLogIsBelievedAfterDamage(t *testing.T) {
	damageFile := func(path string) error {
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for n := range min(len(raw), 16) {
			raw[n] ^= 0x55
		}
		return os.WriteFile(path, raw, 0o600)
	}
	for name, damage := range map[string]func(dir string) error{
		"the machine was started anew": func(dir string) error {
			return errors.Join(os.RemoveAll(filepath.Join(dir, "wbl")), os.WriteFile(filepath.Join(dir, openedFile), []byte(`{"boot":"another"}`), 0o600))
		},
		"the other log is damaged": func(dir string) error {
			return damageFile(lastSegment(t, filepath.Join(dir, "wbl")))
		},
		"a block is damaged": func(dir string) error {
			blocks, err := filepath.Glob(filepath.Join(dir, "01*"))
			if err != nil || len(blocks) != 1 {
				return errors.Join(err, errors.New("there is not one block"))
			}
			return damageFile(filepath.Join(blocks[0], "index"))
		},
		"the note is damaged": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, beginFile), []byte("{"), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := floodedStore(t)
			if err := damage(dir); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				holds(t, still(t, dir), "live", "stored", "logged", "too", "last")
				if _, err := os.Stat(filepath.Join(dir, beginFile)); err == nil {
					t.Error("the note is still there")
				}
				dir = killed(t, dir)
			}
		})
	}
}
