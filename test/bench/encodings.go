package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/crowsnest-dev/crowsnest/collector/simulate"
)

// history of a series in time order.
type history struct {
	at []int64
	v  []float64
}

// encodings measures bytes per sample against error: for ways to round a gauge
// and encodings of the TSDB, on what the collector computes of a simulated fleet, and on
// the pods of a real cluster where a server's data are given.
func encodings(ctx context.Context, b *bench) ([]Result, error) {
	simulated, err := b.simulatedHistories(ctx)
	if err != nil {
		return nil, err
	}
	results, err := encodingsOf("encoding_", simulated, "6 h at 60 s, as the collector computes them of a simulated fleet", "")
	if err != nil || b.encodingData == "" {
		return results, err
	}
	real, of, err := b.realHistories(ctx)
	if err != nil {
		return nil, err
	}
	further, err := encodingsOf("encoding_real_", real, of, `make bench BENCH="--only encoding --encoding-data DATA/metrics"`)
	return append(results, further...), err
}

func (b *bench) simulatedHistories(ctx context.Context) (map[string]*history, error) {
	to := time.Now().UTC().Truncate(time.Hour)
	s, err := writeStream(ctx, filepath.Join(b.dir, "encodings"), simulate.Options{Nodes: 5, PodsPerNode: 30, Seed: 1, Interval: time.Minute}, to.Add(-6*time.Hour), to, nil)
	if err != nil {
		return nil, err
	}
	all := map[string]*history{}
	builder := labels.NewScratchBuilder(16)
	return all, s.decoded(func(req *prompb.WriteRequest) error {
		for _, ts := range req.Timeseries {
			key := ts.ToLabels(&builder, nil).String()
			h := all[key]
			if h == nil {
				h = &history{}
				all[key] = h
			}
			for _, p := range ts.Samples {
				h.at, h.v = append(h.at, p.Timestamp), append(h.v, p.Value)
			}
		}
		return nil
	})
}

// realHistories reads the series of pods and their containers from a server's folder.
func (b *bench) realHistories(ctx context.Context) (_ map[string]*history, of string, err error) {
	db, err := tsdb.OpenDBReadOnly(b.encodingData, b.dir, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, "", err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	q, err := db.Querier(math.MinInt64, math.MaxInt64)
	if err != nil {
		return nil, "", err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	all, first, last := map[string]*history{}, int64(math.MaxInt64), int64(math.MinInt64)
	set := q.Select(ctx, false, nil, labels.MustNewMatcher(labels.MatchNotEqual, "pod", ""))
	for set.Next() {
		h := &history{}
		it := set.At().Iterator(nil)
		for it.Next() == chunkenc.ValFloat {
			at, v := it.At()
			h.at, h.v = append(h.at, at), append(h.v, v)
		}
		if err := it.Err(); err != nil {
			return nil, "", err
		}
		if len(h.at) > 0 {
			first, last = min(first, h.at[0]), max(last, h.at[len(h.at)-1])
			all[set.At().Labels().String()] = h
		}
	}
	if len(all) == 0 {
		return nil, "", errors.Join(set.Err(), fmt.Errorf("%s has no series of a pod: it must be the folder metrics of a server's data", b.encodingData))
	}
	return all, fmt.Sprintf("%v, as the collector computes them of real pods", time.Duration(last-first)*time.Millisecond), set.Err()
}

// encodingsOf is the table of histories.
func encodingsOf(prefix string, all map[string]*history, of, command string) ([]Result, error) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, h := range all {
		unround(r, h.v)
	}
	var results []Result
	for _, way := range []struct {
		name string
		f    func(float64) float64
	}{
		{"none", func(v float64) float64 { return v }},
		{"14_bits", bits(14)}, {"11_bits", bits(11)}, {"8_bits", bits(8)},
		{"4_digits", digits(4)}, {"3_digits", digits(3)},
	} {
		for _, enc := range []struct {
			name    string
			as      chunkenc.Encoding
			samples int // of a chunk
		}{{"xor", chunkenc.EncXOR, 120}, {"xor2", chunkenc.EncXOR2, 120}, {"xor_60", chunkenc.EncXOR, 60}} {
			bytes, samples, worst := 0, 0, 0.0
			for _, h := range all {
				for from := 0; from < len(h.v); from += enc.samples {
					c, err := chunkenc.NewEmptyChunk(enc.as)
					if err != nil {
						return nil, err
					}
					app, err := c.Appender()
					if err != nil {
						return nil, err
					}
					for n := from; n < min(from+enc.samples, len(h.v)); n++ {
						v := way.f(h.v[n])
						if h.v[n] != 0 && !math.IsNaN(v) {
							worst = max(worst, math.Abs(v/h.v[n]-1))
						}
						app.Append(0, h.at[n], v)
						samples++
					}
					bytes += len(c.Bytes()) + 10 // its length, checksum and place in the index
				}
			}
			results = append(results, Result{
				Name: prefix + way.name + "_" + enc.name, Unit: "B/sample", Ours: float64(bytes) / float64(samples), Command: command,
				Note: fmt.Sprintf("Rounding %s, largest error %.3f %%; encoding %s with %d samples a chunk, labels not counted. %d series and %d samples of %s; its own rounding was undone by noise within it, whole numbers and what stands still left alone.",
					way.name, 100*worst, enc.as, enc.samples, len(all), samples, of),
			})
		}
	}
	return results, nil
}

// unround gives measured values the bits that the collector has cut off.
func unround(r *rand.Rand, vs []float64) {
	last, was := math.NaN(), math.NaN()
	for n, v := range vs {
		switch {
		case v == last:
			vs[n] = was
		case v != math.Trunc(v):
			vs[n] = v * (1 + (r.Float64()-0.5)/2048)
		}
		last, was = v, vs[n]
	}
}

// bits keeps n significant bits, as the collector does.
func bits(n int) func(float64) float64 {
	keep := 53 - n
	return func(v float64) float64 {
		if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) || v == math.Trunc(v) {
			return v
		}
		b := math.Float64bits(v) + 1<<(keep-1)
		return math.Float64frombits(b &^ (1<<keep - 1))
	}
}

// digits keeps n significant decimal digits.
func digits(n int) func(float64) float64 {
	return func(v float64) float64 {
		if v == math.Trunc(v) || math.IsNaN(v) { // the end of a series is one of the NaNs
			return v
		}
		out, err := strconv.ParseFloat(strconv.FormatFloat(v, 'e', n-1, 64), 64)
		if err != nil {
			return v
		}
		return out
	}
}
