package metrics

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
)

// A block has late samples in chunks as long as others, whatever came first, and with
// histograms among them.
func TestBlocksHaveLateSamplesInWholeChunks(t *testing.T) {
	dir := t.TempDir()
	db := still(t, dir)
	x, y, h := labels.FromStrings(labels.MetricName, "x"), labels.FromStrings(labels.MetricName, "y"), labels.FromStrings(labels.MetricName, "h")
	begin := t0.Add(-20 * time.Hour).Truncate(2 * time.Hour)
	const n = 6*lateChunk + 3
	put(t, db, x, t0, 1)
	put(t, db, y, t0, 1)
	for i := range n {
		put(t, db, y, begin.Add(time.Duration(i)*30*time.Second), float64(i))
	}
	for half := range 2 { // each has gaps that the other fills
		for i := half; i < n; i += 2 {
			put(t, db, x, begin.Add(time.Duration(i)*30*time.Second), float64(i))
		}
	}
	app := db.Appender(t.Context())
	for i, hist := range tsdbutil.GenerateTestHistograms(3*lateChunk + 1) {
		at := begin.Add(time.Duration(i) * 30 * time.Second).UnixMilli()
		var err error
		if i%(lateChunk+1) == 0 {
			_, err = app.Append(0, h, at, float64(i))
		} else {
			_, err = app.AppendHistogram(0, h, at, hist, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := app.Append(0, h, t0.UnixMilli(), 1); err != nil {
		t.Fatal(err)
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	before := values(t, db, "x")
	if err := db.compactLate(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := values(t, db, "x")
	if len(after) != n+1 || len(before) != len(after) {
		t.Fatalf("%d samples, %d before, want %d", len(after), len(before), n+1)
	}
	for at, v := range before {
		if after[at] != v {
			t.Fatalf("%v at %d s, %v before", after[at], at, v)
		}
	}
	blocks, err := filepath.Glob(filepath.Join(dir, "01*"))
	if err != nil || len(blocks) != 1 {
		t.Fatalf("blocks %v, %v", blocks, err)
	}
	b, err := tsdb.OpenBlock(nil, blocks[0], nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	if stats := b.Meta().Stats; stats.NumSamples == 0 || stats.NumHistogramSamples == 0 {
		t.Fatalf("%+v", stats)
	}
	q, err := tsdb.NewBlockChunkQuerier(b, begin.UnixMilli(), t0.UnixMilli())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = q.Close() }()
	for _, name := range []string{"x", "y"} {
		set := q.Select(t.Context(), true, nil, labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, name))
		chunks, samples := 0, 0
		for set.Next() {
			for it := set.At().Iterator(nil); it.Next(); chunks++ {
				if c := it.At().Chunk; c.Encoding() == chunkenc.EncXOR {
					samples += c.NumSamples()
				}
			}
		}
		if set.Err() != nil || chunks != 1 || samples != n {
			t.Errorf("%s has %d samples in %d chunks, want %d in one: %v", name, samples, chunks, n, set.Err())
		}
	}
}
