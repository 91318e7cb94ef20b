package metrics

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/prometheus/prometheus/tsdb/wlog"
)

// twoBlocks makes a store with two blocks of series x, a day and half a day
// before t0, and a sample in the head; it gives the path of the older block.
func twoBlocks(t *testing.T) (dir, block string) {
	t.Helper()
	dir, in := t.TempDir(), t.TempDir()
	writeBlock(t, in, 50, t0.Add(-24*time.Hour), t0.Add(-23*time.Hour), time.Minute, 1)
	writeBlock(t, in, 50, t0.Add(-12*time.Hour), t0.Add(-11*time.Hour), time.Minute, 2)
	db := open(t, Options{Dir: dir, Now: func() time.Time { return t0 }})
	if err := db.ImportBlocks(context.Background(), in); err != nil {
		t.Fatal(err)
	}
	put(t, db, labels.FromStrings(labels.MetricName, "x", "n", "0"), t0, 3)
	metas, err := db.BlockMetas()
	if err != nil || len(metas) != 2 {
		t.Fatalf("%d blocks, %v", len(metas), err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, filepath.Join(dir, metas[0].ULID.String())
}

func flip(t *testing.T, path string, at int64) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	raw[at] ^= 0x10
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDamagedBlockIsTakenOutAndTheRestServed(t *testing.T) {
	toc := func(t *testing.T, block string) *index.TOC {
		raw, err := os.ReadFile(filepath.Join(block, "index"))
		if err != nil {
			t.Fatal(err)
		}
		out, err := index.NewTOCFromByteSlice(bytesOf(raw))
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	for name, tc := range map[string]struct {
		damage func(t *testing.T, block string)
		atOpen bool // found before anything is served, else by verifying
		reason string
	}{
		"bit in a chunk": {func(t *testing.T, b string) { flip(t, filepath.Join(b, "chunks", "000001"), 100) }, false, "checksum of a chunk"},
		"chunks cut": {func(t *testing.T, b string) {
			if err := os.Truncate(filepath.Join(b, "chunks", "000001"), 1000); err != nil {
				t.Fatal(err)
			}
		}, false, "chunks/000001"},
		"bit in a series":         {func(t *testing.T, b string) { flip(t, filepath.Join(b, "index"), int64(toc(t, b).Series)+20) }, false, "series"},
		"bit in a list of series": {func(t *testing.T, b string) { flip(t, filepath.Join(b, "index"), int64(toc(t, b).Postings+3)&^3+9) }, false, "list of series"},
		"bit in the symbols":      {func(t *testing.T, b string) { flip(t, filepath.Join(b, "index"), 12) }, true, "checksum"},
		"index cut": {func(t *testing.T, b string) {
			if err := os.Truncate(filepath.Join(b, "index"), 500); err != nil {
				t.Fatal(err)
			}
		}, true, ""},
		"meta.json cut": {func(t *testing.T, b string) {
			if err := os.Truncate(filepath.Join(b, "meta.json"), 10); err != nil {
				t.Fatal(err)
			}
		}, true, "JSON"},
		"chunks gone": {func(t *testing.T, b string) {
			if err := os.RemoveAll(filepath.Join(b, "chunks")); err != nil {
				t.Fatal(err)
			}
		}, true, "chunks"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, block := twoBlocks(t)
			tc.damage(t, block)
			var said heard
			db := open(t, Options{Dir: dir, Now: func() time.Time { return t0 }, Logger: slog.New(slog.NewTextHandler(&said, nil))})
			if found := len(db.Quarantined()) == 1; found != tc.atOpen {
				t.Fatalf("found at open: %v", found)
			}
			if err := db.Verify(context.Background()); err != nil {
				t.Fatal(err)
			}
			id := filepath.Base(block)
			if got := db.Quarantined(); len(got) != 1 || got[0] != id || testutil.ToFloat64(db.metrics.quarantined) != 1 {
				t.Errorf("quarantined %v", got)
			}
			why, err := os.ReadFile(filepath.Join(dir, quarantineDir, id, reasonFile))
			if err != nil || !strings.Contains(string(why), tc.reason) {
				t.Errorf("reason %q, %v", why, err)
			}
			if !strings.Contains(said.String(), id) {
				t.Errorf("said %s", said.String())
			}
			if _, err := os.Stat(block); !os.IsNotExist(err) {
				t.Errorf("the block is still there: %v", err)
			}
			if got := values(t, db, "x"); len(got) != 61 || got[0] != 3 || got[-12*3600] != 2 {
				t.Errorf("%d values are served", len(got))
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			db = open(t, Options{Dir: dir})
			if got := values(t, db, "x"); len(got) != 61 || len(db.Quarantined()) != 1 {
				t.Errorf("later %d values, quarantined %v", len(got), db.Quarantined())
			}
		})
	}
}

func TestWholeBlocksAreVerifiedAndStay(t *testing.T) {
	dir, block := twoBlocks(t)
	if err := VerifyBlock(context.Background(), block, nil); err != nil {
		t.Error(err)
	}
	db := open(t, Options{Dir: dir})
	if err := db.Verify(context.Background()); err != nil {
		t.Fatal(err)
	}
	if len(db.Quarantined()) != 0 || len(db.verified) != 2 {
		t.Errorf("quarantined %v, %d verified", db.Quarantined(), len(db.verified))
	}
	if _, err := os.Stat(filepath.Join(dir, quarantineDir)); !os.IsNotExist(err) {
		t.Errorf("an empty quarantine: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := db.verify(ctx, nil); err != nil {
		t.Errorf("all are verified already: %v", err)
	}
	db.verified = map[ulid.ULID]struct{}{}
	if err := db.verify(ctx, nil); err == nil || len(db.Quarantined()) != 0 {
		t.Errorf("an end in the middle is no damage: %v, %v", err, db.Quarantined())
	}
}

// lastSegment is the newest segment of a log that has something in it.
func lastSegment(t *testing.T, log string) string {
	t.Helper()
	entries, err := os.ReadDir(log)
	if err != nil {
		t.Fatal(err)
	}
	out := ""
	for _, e := range entries {
		if info, err := e.Info(); err == nil && !e.IsDir() && info.Size() > 0 {
			out = filepath.Join(log, e.Name())
		}
	}
	return out
}

// brokenLog makes a store with 102 samples of x, whose log is changed as break says,
// and opens it again. before is how late its last hundred samples came.
func brokenLog(t *testing.T, log string, before time.Duration, damage func(raw []byte) []byte) (db *DB, dir, said string) {
	t.Helper()
	from := t.TempDir()
	x := labels.FromStrings(labels.MetricName, "x")
	db = open(t, Options{Dir: from})
	<-db.settled // else what comes late is in blocks
	put(t, db, x, t0.Add(-time.Hour), 0)
	put(t, db, x, t0, 0)
	for n := range 100 {
		put(t, db, x, t0.Add(before+time.Duration(n+1)*time.Second), float64(n))
	}
	dir = filepath.Join(t.TempDir(), "copy")
	if err := copyTree(from, dir); err != nil {
		t.Fatal(err)
	}
	last := lastSegment(t, filepath.Join(dir, log))
	raw, err := os.ReadFile(last)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(last, damage(raw), 0o600); err != nil {
		t.Fatal(err)
	}
	var heard heard
	db = open(t, Options{Dir: dir, Logger: slog.New(slog.NewTextHandler(&heard, nil))})
	return db, dir, heard.String()
}

// The logs that can be broken, and how late samples are that are in them.
var logs = map[string]time.Duration{"wal": 0, "wbl": -20 * time.Hour}

// A kill, or a full disk, while the TSDB writes a log anew without what it cannot read, loses
// nothing of what it can.
func TestARepairThatWasInterruptedLosesNothing(t *testing.T) {
	for log, before := range logs {
		t.Run(log, func(t *testing.T) {
			dir := t.TempDir()
			db := open(t, Options{Dir: dir})
			x := labels.FromStrings(labels.MetricName, "x")
			put(t, db, x, t0, 1)
			for n := range 10 {
				put(t, db, x, t0.Add(before+time.Duration(n+1)*time.Second), 1)
			}
			dir = killed(t, dir)
			path := lastSegment(t, filepath.Join(dir, log))
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			raw = bytes.TrimRight(raw, "\x00")
			if err := os.WriteFile(path, raw[:len(raw)-1], 0o600); err != nil {
				t.Fatal(err)
			}
			if err := keepLogs(dir); err != nil {
				t.Fatal(err)
			}
			// As wlog.Repair begins.
			if err := errors.Join(os.Rename(path, path+".repair"), os.WriteFile(path, nil, 0o600)); err != nil {
				t.Fatal(err)
			}
			if got := len(values(t, open(t, Options{Dir: dir}), "x")); got != 10 {
				t.Errorf("%d samples, want all but the last of 11", got)
			}
			if _, err := os.Stat(path + ".repair"); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the segment as it was is still there (%v)", err)
			}
		})
	}
}

// A kill in the middle of a write leaves the beginning of a record: that is no
// damage, and no more of it is kept than what could not be read.
func TestWriteThatWasCutOffIsToldAndKept(t *testing.T) {
	for log, before := range logs {
		for _, cut := range []int{1, 5, 20} {
			t.Run(fmt.Sprint(log, " without its last ", cut, " bytes"), func(t *testing.T) {
				var whole []byte
				db, dir, said := brokenLog(t, log, before, func(raw []byte) []byte {
					whole = bytes.TrimRight(raw, "\x00") // zeros are what is read where nothing is
					return whole[:len(whole)-cut]
				})
				if got := len(values(t, db, "x")); got != 101 {
					t.Errorf("%d samples, want all but the last", got)
				}
				q := db.Quarantined()
				if len(q) != 1 || !strings.HasPrefix(q[0], logsPrefix) || !strings.HasSuffix(q[0], cutSuffix) ||
					!strings.Contains(said, "cut off by a kill; nothing acknowledged was in it") || strings.Contains(said, "level=ERROR") {
					t.Fatalf("quarantined %v, said %s", q, said)
				}
				if testutil.ToFloat64(db.metrics.quarantined) != 0 || testutil.ToFloat64(db.metrics.cutOff) != 1 {
					t.Errorf("%v are said to be missing, %v cut off", testutil.ToFloat64(db.metrics.quarantined), testutil.ToFloat64(db.metrics.cutOff))
				}
				entries, err := os.ReadDir(filepath.Join(dir, quarantineDir, q[0], log))
				if err != nil || len(entries) != 1 {
					t.Fatalf("kept %v, %v", entries, err)
				}
				kept, err := os.ReadFile(filepath.Join(dir, quarantineDir, q[0], log, entries[0].Name()))
				if err != nil || len(kept) == 0 || len(kept) > 100 || !bytes.HasSuffix(whole[:len(whole)-cut], kept) {
					t.Errorf("kept %d bytes, %v", len(kept), err)
				}
				put(t, db, labels.FromStrings(labels.MetricName, "x"), t0.Add(time.Hour), 1)
			})
		}
	}
}

// What a system leaves that ended itself was perhaps acknowledged.
func TestWriteThatAPowerCutEndedIsNoKill(t *testing.T) {
	for name, tc := range map[string]struct {
		sync bool
		boot string
		want string
	}{
		"the machine was started anew": {false, "another", "acknowledged in the last seconds"},
		"but commits had waited":       {true, "another", "nothing acknowledged"},
		"nobody knows":                 {false, "", "acknowledged in the last seconds"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			db := open(t, Options{Dir: dir, Sync: tc.sync})
			put(t, db, labels.FromStrings(labels.MetricName, "x"), t0, 1)
			torn := filepath.Join(t.TempDir(), "copy")
			if err := copyTree(dir, torn); err != nil {
				t.Fatal(err)
			}
			last := lastSegment(t, filepath.Join(torn, "wal"))
			raw, err := os.ReadFile(last)
			if err != nil {
				t.Fatal(err)
			}
			raw = bytes.TrimRight(raw, "\x00")
			err = errors.Join(os.WriteFile(last, raw[:len(raw)-2], 0o600),
				os.WriteFile(filepath.Join(torn, openedFile), fmt.Appendf(nil, `{"boot":%q,"sync":%v}`, tc.boot, tc.sync), 0o600))
			if err != nil {
				t.Fatal(err)
			}
			var said heard
			open(t, Options{Dir: torn, Sync: tc.sync, Logger: slog.New(slog.NewTextHandler(&said, nil))})
			if !strings.Contains(said.String(), tc.want) {
				t.Errorf("said %s", said.String())
			}
		})
	}
}

func TestDamagedLogKeepsWhatCanBeReadAndSaysSo(t *testing.T) {
	inTheMiddle := func(raw []byte) []byte {
		for n := range 16 { // more than a record's head, in which a bit may mean nothing
			raw[len(raw)/2+n] ^= 0x10
		}
		return raw
	}
	for log, before := range logs {
		for name, damage := range map[string]func(raw []byte) []byte{
			"a length in the middle": func(raw []byte) []byte {
				r := wlog.NewReader(bytes.NewReader(raw))
				for r.Offset() < int64(len(raw)/2) && r.Next() {
				}
				raw[r.Offset()+1] ^= 0x10 // longer than what is left
				return raw
			},
			"bits in the middle":           inTheMiddle,
			"a bit in the last record":     func(raw []byte) []byte { raw[len(raw)-3] ^= 0x10; return raw },
			"bits, and its end was cut":    func(raw []byte) []byte { return inTheMiddle(raw)[:len(raw)-10] },
			"what follows is no record":    func(raw []byte) []byte { return append(raw, bytes.Repeat([]byte{0xff}, 50)...) },
			"a cut end, and zeros instead": func(raw []byte) []byte { return append(raw[:len(raw)-15], make([]byte, 200)...) },
		} {
			t.Run(log+" with "+name, func(t *testing.T) {
				var whole int
				db, dir, said := brokenLog(t, log, before, func(raw []byte) []byte { raw = damage(raw); whole = len(raw); return raw })
				if got := len(values(t, db, "x")); got < 2 || got > 102 {
					t.Errorf("%d samples", got)
				}
				q := db.Quarantined()
				if len(q) != 1 || strings.HasSuffix(q[0], cutSuffix) || !strings.Contains(said, "log was damaged") || testutil.ToFloat64(db.metrics.quarantined) != 1 {
					t.Fatalf("quarantined %v, said %s", q, said)
				}
				if n, err := treeBytes(filepath.Join(dir, quarantineDir, q[0])); err != nil || n < int64(whole) {
					t.Errorf("%d bytes of %d are kept, %v", n, whole, err)
				}
				put(t, db, labels.FromStrings(labels.MetricName, "x"), t0.Add(time.Hour), 1)
			})
		}
	}
}

func TestQuarantineKeepsTheNewestLogs(t *testing.T) {
	dir := t.TempDir()
	db := open(t, Options{Dir: dir})
	block := ulid.MustNew(1, nil).String()
	for n := range maxKeptLogs + 5 {
		name := fmt.Sprintf("%s20261101T0000%02d.000Z", logsPrefix, n)
		if n%2 == 0 {
			name += cutSuffix
		}
		if err := os.MkdirAll(filepath.Join(dir, quarantineDir, name, "wal"), 0o750); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, quarantineDir, block), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := db.boundLogs(); err != nil {
		t.Fatal(err)
	}
	got := db.Quarantined()
	if len(got) != maxKeptLogs+1 || got[0] != block || !strings.Contains(got[1], "000005") || testutil.ToFloat64(db.metrics.quarantineDropped) != 5 {
		t.Errorf("%d stay, %v", len(got), got)
	}
	// One that is larger than all may be stays alone.
	last := filepath.Join(dir, quarantineDir, got[len(got)-1], "wal", "00000000")
	if err := errors.Join(os.WriteFile(last, nil, 0o600), os.Truncate(last, maxKeptLogBytes+1)); err != nil {
		t.Fatal(err)
	}
	if err := db.boundLogs(); err != nil {
		t.Fatal(err)
	}
	if again := db.Quarantined(); len(again) != 2 || again[1] != got[len(got)-1] {
		t.Errorf("stay %v", again)
	}
}

// heard keeps what is logged, also while a store goes on logging.
type heard struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (h *heard) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.Write(p)
}

func (h *heard) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.String()
}

var _ tsdb.BlocksToDeleteFunc = (*DB)(nil).blocksToDelete
