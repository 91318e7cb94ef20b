package metrics

import (
	"bytes"
	"context"
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

func TestTornLogKeepsWhatCanBeReadAndSaysSo(t *testing.T) {
	for name, tc := range map[string]struct {
		log    string
		before time.Duration
	}{"log": {"wal", 0}, "out-of-order log": {"wbl", -20 * time.Hour}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			x := labels.FromStrings(labels.MetricName, "x")
			db := open(t, Options{Dir: dir})
			put(t, db, x, t0.Add(-time.Hour), 0)
			put(t, db, x, t0, 0)
			for n := range 100 {
				put(t, db, x, t0.Add(tc.before+time.Duration(n+1)*time.Second), float64(n))
			}
			torn := filepath.Join(t.TempDir(), "copy")
			if err := copyTree(dir, torn); err != nil {
				t.Fatal(err)
			}
			last := lastSegment(t, filepath.Join(torn, tc.log))
			raw, err := os.ReadFile(last)
			if err != nil {
				t.Fatal(err)
			}
			// The rest of the page is zeros; the end of the last record goes.
			raw = bytes.TrimRight(raw, "\x00")
			raw = raw[:len(raw)-5]
			if err := os.WriteFile(last, raw, 0o600); err != nil {
				t.Fatal(err)
			}
			var said heard
			again := open(t, Options{Dir: torn, Logger: slog.New(slog.NewTextHandler(&said, nil))})
			if got := len(values(t, again, "x")); got != 101 {
				t.Errorf("%d samples, want all but the last", got)
			}
			q := again.Quarantined()
			if len(q) != 1 || !strings.HasPrefix(q[0], "logs.") || !strings.Contains(said.String(), "log was damaged") {
				t.Fatalf("quarantined %v, said %s", q, said.String())
			}
			kept, err := os.Stat(filepath.Join(torn, quarantineDir, q[0], tc.log, filepath.Base(last)))
			if err != nil || kept.Size() != int64(len(raw)) {
				t.Errorf("kept %v, %v", kept, err)
			}
			put(t, again, x, t0.Add(time.Hour), 1)
		})
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
