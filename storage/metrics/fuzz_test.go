package metrics

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
)

// records are some as the logs have them.
func records() [][]byte {
	var enc record.Encoder
	h := tsdbutil.GenerateTestHistogram(1)
	ints, custom := enc.HistogramSamples([]record.RefHistogramSample{{Ref: 2, T: 5, H: h}, {Ref: 3, T: 6, H: tsdbutil.GenerateTestCustomBucketsHistogram(1)}}, nil)
	floats, _ := enc.FloatHistogramSamples([]record.RefFloatHistogramSample{{Ref: 2, T: 7, FH: tsdbutil.GenerateTestFloatHistogram(1)}}, nil)
	return [][]byte{
		enc.Series([]record.RefSeries{{Ref: 1, Labels: labels.FromStrings("__name__", "x", "cluster", "prod")}}, nil),
		enc.Samples([]record.RefSample{{Ref: 1, T: 1, V: 2}, {Ref: 1, T: 2, V: 3}}, nil),
		ints, enc.CustomBucketsHistogramSamples(custom, nil), floats,
		enc.MmapMarkers([]record.RefMmapMarker{{Ref: 1, MmapRef: 3}}, nil),
	}
}

// FuzzSegment reads a segment of a log that is anything, as a damaged disk has it: nothing
// panics, what is mended is whole and stays so, and no record that could be read before is
// lost by it.
func FuzzSegment(f *testing.F) {
	all := slices.Concat(records()...)
	var log []byte
	for _, rec := range records() {
		log = append(log, pagesOf(rec)...)
	}
	f.Add(log)
	f.Add(pagesOf(bytes.Repeat(all, 300)))
	f.Add(slices.Concat(pagesOf(bytes.Repeat(all, 300))[:logPage], log))
	f.Add(slices.Concat(pagesOf(bytes.Repeat(all, 300))[:2*logPage], log[:logPage], []byte{firstPart, 0, 1}))
	f.Add([]byte{wholeRecord, 0xff, 0xff, 0, 0, 0, 0})
	read := func(t *testing.T, path string) (out [][]byte) {
		if _, _, err := readSegment(path, func(rec []byte) error { out = append(out, rec); return nil }); err != nil {
			t.Fatal(err)
		}
		return out
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		path := filepath.Join(t.TempDir(), "00000000")
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		holdsRecord(raw)
		for at := 0; at < len(raw); at += logPage {
			_ = wholePage(raw[at:min(at+logPage, len(raw))], pageEnd{disk: -1})
		}
		if _, _, err := cutOff(path); err != nil {
			t.Fatal(err)
		}
		before := read(t, path)
		for _, grows := range []bool{true, false} {
			if _, _, err := mendSegment(path, grows); err != nil {
				t.Fatal(err)
			}
			if _, torn, err := mendSegment(path, grows); err != nil || torn != 0 {
				t.Errorf("%d records are torn behind a mend, %v", torn, err)
			}
		}
		if after := read(t, path); len(after) < len(before) || !slices.EqualFunc(before, after[:len(before)], bytes.Equal) {
			t.Errorf("%d records could be read, and %d behind a mend", len(before), len(after))
		}
	})
}

// FuzzVerify looks over a block's files that are anything: what is damaged is told, and the
// server stays.
func FuzzVerify(f *testing.F) {
	dir := f.TempDir()
	writeBlock(f, dir, 3, t0, t0.Add(time.Minute), 15*time.Second, 1)
	blocks, err := filepath.Glob(filepath.Join(dir, "*", "index"))
	if err != nil || len(blocks) != 1 {
		f.Fatal(blocks, err)
	}
	raw, err := os.ReadFile(blocks[0])
	if err != nil {
		f.Fatal(err)
	}
	segment, err := os.ReadFile(filepath.Join(filepath.Dir(blocks[0]), "chunks", "000001"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw, segment)
	f.Add(raw[:len(raw)-9], segment[:9])
	f.Fuzz(func(t *testing.T, raw, segment []byte) {
		block := t.TempDir()
		if err := os.Mkdir(filepath.Join(block, "chunks"), 0o750); err != nil {
			t.Fatal(err)
		}
		for name, b := range map[string][]byte{"index": raw, "chunks/000001": segment} {
			if err := os.WriteFile(filepath.Join(block, filepath.FromSlash(name)), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		pace := func(context.Context, int) error { return nil }
		sizes, err := verifyChunks(t.Context(), filepath.Join(block, "chunks"), pace)
		if err != nil {
			sizes = []int64{int64(chunks.SegmentHeaderSize)}
		}
		_ = verifyIndex(t.Context(), filepath.Join(block, "index"), sizes, pace)
	})
}

// FuzzDeletions reads notes of deletions that are anything.
func FuzzDeletions(f *testing.F) {
	f.Add([]byte(`[{"cluster":"prod","until":1}]`))
	f.Add([]byte(`{`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, deletionsFile), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		all, err := readDeletions(dir)
		if err != nil || len(all) == 0 {
			return
		}
		if err := writeDeletions(dir, all); err != nil {
			t.Fatal(err)
		}
		if again, err := readDeletions(dir); err != nil || !slices.Equal(again, all) {
			t.Errorf("%+v are read as %+v, %v", all, again, err)
		}
	})
}
