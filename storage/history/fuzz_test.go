package history

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/prometheus/prometheus/util/compression"
)

// FuzzLog reads a log that is anything, as a damaged disk has it, and records that are
// anything: what is in front of damage is given, nothing else, and nothing panics.
func FuzzLog(f *testing.F) {
	var enc record.Encoder
	series := enc.Series([]record.RefSeries{{Ref: 1, Labels: pod("a")}}, nil)
	samples := enc.Samples([]record.RefSample{{Ref: 1, T: 1, V: 2}, {Ref: 9, T: 2, V: 3}}, nil)
	write := func(t testing.TB, records ...[]byte) string {
		t.Helper()
		dir := t.TempDir()
		w, err := wlog.NewSize(nil, nil, dir, segmentBytes, compression.Snappy)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Log(records...); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	whole, err := os.ReadFile(filepath.Join(write(f, series, samples), "00000000"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole, false)
	f.Add(bytes.Clone(whole[:len(whole)/2]), false)
	f.Add(series, true)
	f.Add(samples, true)
	f.Add(samples[:len(samples)-1], true)
	s := &Store{log: slog.New(slog.DiscardHandler), metrics: newMetrics(prometheus.NewRegistry(), func() int64 { return 0 })}
	f.Fuzz(func(t *testing.T, raw []byte, inRecord bool) {
		var dir string
		if inRecord {
			dir = write(t, series, raw, samples)
		} else {
			dir = t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "00000000"), raw, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		known, points := 0, 0
		err := s.read(t.Context(), dir, func(some []record.RefSeries) { known += len(some) }, func(some []record.RefSample) error {
			points += len(some)
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		if inRecord && known == 0 {
			t.Error("what is in front of the record is not given")
		}
		if known+points > 4+len(raw) {
			t.Errorf("%d series and %d samples of %d bytes", known, points, len(raw))
		}
	})
}
