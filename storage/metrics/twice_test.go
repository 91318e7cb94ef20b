package metrics

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/wlog"
)

// counted says how many of the head's chunks on the disk are in order, and late.
func counted(t *testing.T, dir string) (inOrder, late int) {
	t.Helper()
	files, err := openHeadChunks(filepath.Join(dir, headChunksDir))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := eachHeadChunk(files, func(_ headChunk, isLate bool) error {
		if isLate {
			late++
		} else {
			inOrder++
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := files.Close(); err != nil {
		t.Fatal(err)
	}
	return inOrder, late
}

// A start has late samples once, of the log, whatever else it finds of them; and all
// others, too, where the chunk files are whole and where a kill cut them off.
func TestAStartHasLateSamplesOnce(t *testing.T) {
	dir := t.TempDir()
	db := still(t, dir)
	x, y := labels.FromStrings(labels.MetricName, "x"), labels.FromStrings(labels.MetricName, "y")
	const inOrder, late = 400, 100 // chunks of 120, and of 32
	for n := range inOrder {
		put(t, db, x, t0.Add(time.Duration(n)*time.Second), float64(n))
		put(t, db, y, t0.Add(time.Duration(n)*time.Second), float64(n))
	}
	for n := range late {
		put(t, db, x, t0.Add(-20*time.Hour+time.Duration(n)*time.Second), float64(n))
	}
	db.tsdb.ForceHeadMMap()
	if err := db.Close(); err != nil { // so that the files have what they are told
		t.Fatal(err)
	}
	chunksBefore, lateBefore := counted(t, dir)
	if chunksBefore == 0 || lateBefore == 0 {
		t.Fatalf("%d chunks in order and %d late: they show nothing", chunksBefore, lateBefore)
	}
	cut := func(t *testing.T, dir string) {
		last := lastSegment(t, filepath.Join(dir, headChunksDir))
		raw, err := os.ReadFile(last)
		if err != nil {
			t.Fatal(err)
		}
		raw = bytes.TrimRight(raw, "\x00") // the rest of what was laid out
		if err := os.WriteFile(last, raw[:len(raw)-5], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	snapshot := func(t *testing.T, dir string) {
		if err := os.Mkdir(filepath.Join(dir, "chunk_snapshot.000000.0000000000"), 0o750); err != nil {
			t.Fatal(err)
		}
	}
	broken := func(t *testing.T, dir string) { // a kill after the old files went
		if err := os.Rename(filepath.Join(dir, headChunksDir), filepath.Join(dir, inOrderDir)); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		before []func(*testing.T, string)
		least  int64
		late   int // that the files have still
	}{
		"whole":            {nil, 1, 0},
		"cut off":          {[]func(*testing.T, string){cut}, 1, 0},
		"whole, snapshot":  {[]func(*testing.T, string){snapshot}, 1, 0},
		"cut, snapshot":    {[]func(*testing.T, string){cut, snapshot}, 1, lateBefore},
		"not worth it":     {nil, 1 << 30, lateBefore},
		"killed meanwhile": {[]func(*testing.T, string){broken}, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			dir := killed(t, dir)
			for _, do := range c.before {
				do(t, dir)
			}
			if err := forgetLateChunks(dir, c.least); err != nil {
				t.Fatal(err)
			}
			if name != "killed meanwhile" {
				if got, late := counted(t, dir); late != c.late || (name == "whole" && got != chunksBefore) {
					t.Errorf("the files have %d chunks in order and %d late, want %d late", got, late, c.late)
				}
			}
			if _, err := os.Stat(filepath.Join(dir, inOrderDir)); !os.IsNotExist(err) {
				t.Errorf("what was written is left: %v", err)
			}
			db := still(t, dir)
			for when, do := range map[string]func() error{
				"at the start": func() error { return nil },
				"in blocks":    func() error { return db.compactLate(context.Background()) },
			} {
				if err := do(); err != nil {
					t.Fatal(err)
				}
				if gotX, gotY := values(t, db, "x"), values(t, db, "y"); len(gotX) != inOrder+late || len(gotY) != inOrder {
					t.Errorf("%s: %d and %d samples", when, len(gotX), len(gotY))
				}
			}
		})
	}
}

// Where nothing is late, no chunk file is touched.
func TestChunkFilesStayWhereNothingIsLate(t *testing.T) {
	dir := t.TempDir()
	db := still(t, dir)
	for n := range 400 {
		put(t, db, labels.FromStrings(labels.MetricName, "x"), t0.Add(time.Duration(n)*time.Second), 1)
	}
	db.tsdb.ForceHeadMMap()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	file := lastSegment(t, filepath.Join(dir, headChunksDir))
	before, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(dir, wlog.WblDirName, "00000000")
	if err := os.WriteFile(log, make([]byte, 32<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := forgetLateChunks(dir, 1); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(file); err != nil || !os.SameFile(before, after) {
		t.Errorf("the file is another one: %v", err)
	}
}
