package main

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/crowsnest-dev/crowsnest/collector/simulate"
)

// history of a series in time order.
type history struct {
	at []int64
	v  []float64
}

// encodings measures bytes per sample against error: for ways to round a gauge
// and encodings of the TSDB, on what the collector computes of a simulated fleet.
func encodings(ctx context.Context, b *bench) ([]Result, error) {
	to := time.Now().UTC().Truncate(time.Hour)
	s, err := writeStream(ctx, filepath.Join(b.dir, "encodings"), simulate.Options{Nodes: 5, PodsPerNode: 30, Seed: 1, Interval: time.Minute}, to.Add(-6*time.Hour), to, nil)
	if err != nil {
		return nil, err
	}
	all := map[string]*history{}
	builder := labels.NewScratchBuilder(16)
	err = s.decoded(func(req *prompb.WriteRequest) error {
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
	if err != nil {
		return nil, err
	}
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
				Name: "encoding_" + way.name + "_" + enc.name, Unit: "B/sample", Ours: float64(bytes) / float64(samples),
				Note: fmt.Sprintf("Rounding %s, largest error %.3f %%; encoding %s with %d samples a chunk, labels not counted. %d series and %d samples of 6 h at 60 s, as the collector computes them of a simulated fleet; its own rounding was undone by noise within it, whole numbers and what stands still left alone.",
					way.name, 100*worst, enc.as, enc.samples, len(all), samples),
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
