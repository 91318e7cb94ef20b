package metrics

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
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

// damageFile changes the first bytes of a file.
func damageFile(path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for n := range min(len(raw), 16) {
		raw[n] ^= 0x55
	}
	return os.WriteFile(path, raw, 0o600)
}

// The log is believed where what has the late samples besides may have lost some.
func TestTheLogIsBelievedAfterDamage(t *testing.T) {
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

// noteGone fails where the note still stands.
func noteGone(t *testing.T, dir string) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(dir, beginFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the note is still there (%v)", err)
	}
}

// What says that the note does not hold is not there any more when a start that was killed
// is followed by another, so the note goes first.
func TestTheLogIsBelievedAfterAKillWhileDamageIsLookedFor(t *testing.T) {
	for name, begun := range map[string]func(dir string) error{
		"the machine was started anew": func(dir string) error {
			err := errors.Join(os.RemoveAll(filepath.Join(dir, "wbl")), os.WriteFile(filepath.Join(dir, openedFile), []byte(`{"boot":"another"}`), 0o600))
			o := Options{Dir: dir}
			if err = errors.Join(err, o.complete()); err != nil {
				return err
			}
			_, err = noteOpened(o)
			return err
		},
		"the other log is damaged": func(dir string) error {
			return errors.Join(damageFile(lastSegment(t, filepath.Join(dir, "wbl"))), keepLogs(dir), forgetMarkers(dir))
		},
		"a log was repaired by the TSDB": func(dir string) error {
			err := keepLogs(dir)
			path := lastSegment(t, filepath.Join(dir, "wbl"))
			if err = errors.Join(err, os.Remove(path), os.WriteFile(path, nil, 0o600)); err != nil {
				return err
			}
			return keepLogs(dir) // as the next start does first
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := floodedStore(t)
			if err := begun(dir); err != nil {
				t.Fatal(err)
			}
			noteGone(t, dir)
			holds(t, still(t, killed(t, dir)), "live", "stored", "logged", "too", "last")
		})
	}
}

// An end that a kill cut off is no damage: nothing that was acknowledged is in it.
func TestTheNoteOutlivesAnEndThatWasCutOff(t *testing.T) {
	dir := floodedStore(t)
	path := lastSegment(t, filepath.Join(dir, "wbl"))
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, info.Size()-3); err != nil {
		t.Fatal(err)
	}
	db := still(t, dir)
	holds(t, db, "live", "stored", "logged", "too")
	if head := db.tsdb.Head(); db.compaction.begin == 0 || head.MinTime() < db.compaction.begin {
		t.Errorf("the head begins at %s", time.UnixMilli(head.MinTime()).Sub(t0))
	}
}

// A block that is found damaged while the server runs may be the only one that has what
// came late, but for the log.
func TestTheLogIsBelievedAfterABlockIsFoundDamaged(t *testing.T) {
	dir := t.TempDir()
	db := still(t, dir)
	db.opts.OutOfOrderLogBytes = 1
	put(t, db, labels.FromStrings(labels.MetricName, "live"), t0, 1)
	put(t, db, labels.FromStrings(labels.MetricName, "stored"), t0.Add(-20*time.Hour), 1)
	if err := db.compactOutOfOrder(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, beginFile)); err != nil {
		t.Fatal(err)
	}
	before := len(db.tsdb.BlockMetas())
	put(t, db, labels.FromStrings(labels.MetricName, "late"), t0.Add(-10*time.Hour), 1)
	if err := db.compactLate(t.Context()); err != nil {
		t.Fatal(err)
	}
	metas := db.tsdb.BlockMetas()
	if len(metas) != before+1 {
		t.Fatalf("%d blocks, want %d", len(metas), before+1)
	}
	if err := damageFile(filepath.Join(dir, metas[before].ULID.String(), "chunks", "000001")); err != nil {
		t.Fatal(err)
	}
	if err := db.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(db.Quarantined()) != 1 {
		t.Fatalf("quarantined: %v", db.Quarantined())
	}
	noteGone(t, dir)
	if err := db.noteBegin(t0.Add(-time.Hour).UnixMilli()); err != nil {
		t.Fatal(err)
	}
	noteGone(t, dir)
	holds(t, still(t, killed(t, dir)), "live", "stored", "late")
}

// killAt copies a folder, as a kill leaves it, when the TSDB says a sentence for the first time.
type killAt struct {
	slog.Handler
	t    *testing.T
	dir  string
	said string
	to   *string
}

func (killAt) Enabled(context.Context, slog.Level) bool { return true }
func (k killAt) Handle(_ context.Context, r slog.Record) error {
	if r.Message == k.said && *k.to == "" {
		*k.to = killed(k.t, k.dir)
	}
	return nil
}
func (k killAt) WithAttrs([]slog.Attr) slog.Handler { return k }
func (k killAt) WithGroup(string) slog.Handler      { return k }

// renumberedStore is a folder as a kill leaves it where the out-of-order log has samples of a
// series by a number that is not the first one that the log of all has for it.
func renumberedStore(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	db := still(t, dir)
	db.opts.OutOfOrderLogBytes = 1
	put(t, db, labels.FromStrings(labels.MetricName, "live"), t0, 1)
	x := labels.FromStrings(labels.MetricName, "x")
	put(t, db, x, t0.Add(-20*time.Hour), 1)
	if err := db.compactOutOfOrder(t.Context()); err != nil {
		t.Fatal(err)
	}
	put(t, db, x, t0.Add(-19*time.Hour), 1) // the head had forgotten it
	return killed(t, dir)
}

// A kill while a start writes blocks of what it found late loses nothing: the log of all
// knows the series by all their numbers up to the end of that.
func TestASecondKillWhileAStartWritesBlocks(t *testing.T) {
	dir, second := renumberedStore(t), ""
	db := open(t, Options{Dir: dir, CheckEvery: time.Hour, Now: func() time.Time { return t0 },
		Logger: slog.New(killAt{t: t, dir: dir, said: "out-of-order compaction started", to: &second})})
	<-db.settled
	if n := len(values(t, db, "x")); n != 2 {
		t.Errorf("the start has %d samples, want 2", n)
	}
	if second == "" {
		t.Fatal("there was no compaction")
	}
	if n := len(values(t, still(t, second), "x")); n != 2 {
		t.Errorf("after a kill in that start's compaction: %d samples, want 2", n)
	}
}

// Nor does it where these blocks cannot be written: nothing is dropped until they are.
func TestNothingIsDroppedBeforeBlocksAreWritten(t *testing.T) {
	db := still(t, renumberedStore(t))
	put(t, db, labels.FromStrings(labels.MetricName, "x"), t0.Add(-18*time.Hour), 1)
	for name, fail := range map[string]func(){
		"the server ends": func() {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := db.settle(ctx, true); err == nil {
				t.Error("it went through")
			}
		},
		"the out-of-order log cannot be listed": func() {
			wbl := filepath.Join(db.opts.Dir, "wbl")
			if err := errors.Join(os.Rename(wbl, wbl+".away"), os.WriteFile(wbl, nil, 0o600)); err != nil {
				t.Fatal(err)
			}
			if err := db.settle(t.Context(), true); err == nil {
				t.Error("it went through")
			}
			if err := errors.Join(os.Remove(wbl), os.Rename(wbl+".away", wbl)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		db.compaction.trimmed = 0
		fail()
		if db.compaction.trimmed != 0 {
			t.Errorf("%s: late samples were dropped", name)
		}
	}
	if err := db.settle(t.Context(), true); err != nil || db.compaction.trimmed == 0 {
		t.Errorf("they are not dropped after that: %v", err)
	}
	if n := len(values(t, still(t, killed(t, db.opts.Dir)), "x")); n != 3 {
		t.Errorf("%d samples, want 3", n)
	}
}
