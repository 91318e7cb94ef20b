package ingest

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

func TestTenThousandLabelsAreRefusedTheRestIsStored(t *testing.T) {
	ls := []string{"__name__", "x"}
	for n := range 10_000 {
		ls = append(ls, fmt.Sprintf("label_%05d", n), fmt.Sprint(n))
	}
	for ct, body := range map[string]func(testing.TB, ...[]string) []byte{v1: raw1, v2: raw2} {
		g := newRig(t, Limits{})
		a := g.post(ct, body(t, ls, []string{"__name__", "good"}))
		if a.status != http.StatusBadRequest || !strings.Contains(a.text, "2 samples stored; 2 refused (labels): 10001 labels, the limit is 40: ") || !strings.Contains(a.text, `label_00000="0"`) || len(a.text) > 1024 {
			t.Errorf("%s: got %d %s", ct, a.status, a.text)
		}
		if g.everything() != 2 || g.db.Series() != 1 {
			t.Errorf("%s: %d samples of %d series are stored", ct, g.everything(), g.db.Series())
		}
	}
}

func TestTimesThatMeanNothingAreRefusedTheRestIsStored(t *testing.T) {
	versions(t, func(t *testing.T, ct string, body func(testing.TB, ...sample) []byte) {
		for ms, want := range map[int64]string{
			math.MinInt64:     "1 refused (too_old): -292275055-05-16T16:47:04.192Z is older than",
			math.MinInt64 + 1: "1 refused (too_old)",
			-1:                "1 refused (too_old): 1969-12-31T23:59:59.999Z is older than the 48h0m0s that are taken: ",
			0:                 "1 refused (too_old): 1970-01-01T00:00:00Z is older than",
			math.MaxInt64:     "1 refused (future): 292278994-08-17T07:12:55.807Z is more than 2m0s ahead of the server's clock: ",
		} {
			g := newRig(t, Limits{})
			a := g.post(ct, body(t, smp(1, time.UnixMilli(ms), "__name__", "x"), smp(1, t0, "__name__", "good")))
			if a.status != http.StatusBadRequest || !strings.Contains(a.text, "1 samples stored; "+want) || g.everything() != 1 {
				t.Errorf("%d: got %d %s, %d samples are stored", ms, a.status, a.text, g.everything())
			}
			// The next one is taken: no time of nonsense became the store's newest.
			if a := g.post(ct, body(t, smp(2, t0.Add(-time.Hour), "__name__", "good"))); a.status != http.StatusNoContent {
				t.Errorf("%d: afterwards %+v", ms, a)
			}
		}
	})
}

// Any NaN but the one that ends a series is a value, to the bit.
func TestOrdinaryNaNIsAValue(t *testing.T) {
	versions(t, func(t *testing.T, ct string, body func(testing.TB, ...sample) []byte) {
		g := newRig(t, Limits{})
		sent := []uint64{value.NormalNaN, math.Float64bits(math.NaN()), value.StaleNaN + 1, 1<<63 | value.NormalNaN, math.Float64bits(math.Inf(-1))}
		for n, bits := range sent {
			if a := g.post(ct, body(t, smp(math.Float64frombits(bits), t0.Add(time.Duration(n)*time.Second), "__name__", "x"))); a.status != http.StatusNoContent {
				t.Fatalf("%x: %+v", bits, a)
			}
		}
		var got []uint64
		g.each(func(it chunkenc.Iterator, _ chunkenc.ValueType) {
			_, v := it.At()
			got = append(got, math.Float64bits(v))
		})
		if !slices.Equal(got, sent) {
			t.Errorf("got %x, want %x", got, sent)
		}
		if got := g.query("x", t0); got != `{__name__="x", cluster="prod"} NaN` {
			t.Errorf("got %s", got)
		}
		if n := g.i.cluster("prod").active.Load(); n != 1 {
			t.Errorf("%d active series", n)
		}
	})
}

// each goes over all samples in the store.
func (g *rig) each(see func(chunkenc.Iterator, chunkenc.ValueType)) {
	g.t.Helper()
	q, err := g.db.Querier(math.MinInt64, math.MaxInt64)
	if err != nil {
		g.t.Fatal(err)
	}
	defer func() { _ = q.Close() }()
	set := q.Select(context.Background(), true, nil, labels.MustNewMatcher(labels.MatchRegexp, labels.MetricName, ".+"))
	for set.Next() {
		it := set.At().Iterator(nil)
		for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
			see(it, typ)
		}
		if it.Err() != nil {
			g.t.Fatal(it.Err())
		}
	}
	if set.Err() != nil {
		g.t.Fatal(set.Err())
	}
}

// Each kind of histogram that cannot be is refused by what is wrong with it; what is odd
// but means something is stored, and can be read, after a restart, too.
func TestHistogramsThatCannotBe(t *testing.T) {
	ints := func(change func(*histogram.Histogram)) func() (*histogram.Histogram, *histogram.FloatHistogram) {
		return func() (*histogram.Histogram, *histogram.FloatHistogram) {
			h := &histogram.Histogram{Schema: 1, Count: 8, ZeroCount: 1, ZeroThreshold: 0.001, Sum: 9,
				PositiveSpans: []histogram.Span{{Offset: 0, Length: 2}, {Offset: 1, Length: 1}}, PositiveBuckets: []int64{1, 1, -1},
				NegativeSpans: []histogram.Span{{Offset: 0, Length: 1}}, NegativeBuckets: []int64{3}}
			change(h)
			return h, nil
		}
	}
	floats := func(change func(*histogram.FloatHistogram)) func() (*histogram.Histogram, *histogram.FloatHistogram) {
		return func() (*histogram.Histogram, *histogram.FloatHistogram) {
			h := &histogram.FloatHistogram{Schema: 1, Count: 8, ZeroCount: 1, ZeroThreshold: 0.001, Sum: 9,
				PositiveSpans: []histogram.Span{{Offset: 0, Length: 2}, {Offset: 1, Length: 1}}, PositiveBuckets: []float64{1, 2, 1},
				NegativeSpans: []histogram.Span{{Offset: 0, Length: 1}}, NegativeBuckets: []float64{3}}
			change(h)
			return nil, h
		}
	}
	custom := func(change func(*histogram.Histogram)) func() (*histogram.Histogram, *histogram.FloatHistogram) {
		return func() (*histogram.Histogram, *histogram.FloatHistogram) {
			h := &histogram.Histogram{Schema: histogram.CustomBucketsSchema, Count: 4, Sum: 9,
				PositiveSpans: []histogram.Span{{Offset: 0, Length: 3}}, PositiveBuckets: []int64{1, 1, -1}, CustomValues: []float64{1, 2}}
			change(h)
			return h, nil
		}
	}
	for name, tc := range map[string]struct {
		make func() (*histogram.Histogram, *histogram.FloatHistogram)
		want string // empty: it is stored
	}{
		"good":                      {ints(func(*histogram.Histogram) {}), ""},
		"a negative count":          {ints(func(h *histogram.Histogram) { h.PositiveBuckets[1] = -2 }), "bucket number 2 has observation count of -1"},
		"a negative negative count": {ints(func(h *histogram.Histogram) { h.NegativeBuckets[0] = -2 }), "negative side: bucket number 1 has observation count of -2"},
		"counts that overflow":      {ints(func(h *histogram.Histogram) { h.PositiveBuckets = []int64{math.MaxInt64, math.MaxInt64, 0} }), "bucket number 2"},
		"a count of fewer":          {ints(func(h *histogram.Histogram) { h.Count = 7 }), "8 observations found in buckets, but the Count field is 7"},
		"a count of more":           {ints(func(h *histogram.Histogram) { h.Count = 9 }), "8 observations found in buckets, but the Count field is 9"},
		"NaN as sum":                {ints(func(h *histogram.Histogram) { h.Sum = math.NaN(); h.Count = 9 }), ""},
		"NaN as sum, fewer":         {ints(func(h *histogram.Histogram) { h.Sum = math.NaN(); h.Count = 7 }), "8 observations found in buckets, but the Count field is 7"},
		"infinity as sum":           {ints(func(h *histogram.Histogram) { h.Sum = math.Inf(-1) }), ""},
		"the end of the series":     {ints(func(h *histogram.Histogram) { h.Sum = math.Float64frombits(value.StaleNaN) }), ""},
		"spans of more buckets":     {ints(func(h *histogram.Histogram) { h.PositiveSpans[1].Length = 2 }), "spans need 4 buckets, have 3 buckets"},
		"spans of fewer buckets":    {ints(func(h *histogram.Histogram) { h.PositiveSpans = h.PositiveSpans[:1] }), "spans need 2 buckets, have 3 buckets"},
		"buckets without spans":     {ints(func(h *histogram.Histogram) { h.NegativeSpans = nil }), "negative side: spans need 0 buckets, have 1 buckets"},
		"spans without buckets":     {ints(func(h *histogram.Histogram) { h.NegativeBuckets = nil }), "negative side: spans need 1 buckets, have 0 buckets"},
		"an endless span":           {ints(func(h *histogram.Histogram) { h.PositiveSpans[0].Length = math.MaxUint32 }), "spans reach to bucket 4294967295, the last one is 2147483647"},
		"a span that goes back":     {ints(func(h *histogram.Histogram) { h.PositiveSpans[1].Offset = -1 }), "span number 2 with offset -1"},
		"spans beyond all indexes": {ints(func(h *histogram.Histogram) {
			h.PositiveSpans[0].Offset = math.MaxInt32
			h.PositiveSpans[1].Offset = math.MaxInt32
		}), "spans reach to bucket 2147483649, the last one is 2147483647"},
		"spans up to the last index": {ints(func(h *histogram.Histogram) { h.PositiveSpans[0].Offset = math.MaxInt32 - 4 }), ""},
		"more detail, beyond": {ints(func(h *histogram.Histogram) {
			h.Schema = 20
			h.PositiveSpans[0].Offset = math.MaxInt32
		}), "spans reach to bucket 2147483649"},
		"spans before all indexes": {ints(func(h *histogram.Histogram) { h.NegativeSpans[0].Offset = math.MinInt32 }), ""},
		"empty spans": {ints(func(h *histogram.Histogram) {
			h.PositiveSpans = append(h.PositiveSpans, histogram.Span{Offset: 5}, histogram.Span{})
		}), ""},
		"a schema of more detail":     {ints(func(h *histogram.Histogram) { h.Schema = 20 }), ""},
		"more detail, fewer buckets":  {ints(func(h *histogram.Histogram) { h.Schema = 20; h.PositiveBuckets = h.PositiveBuckets[:2] }), "have 2 buckets but spans need more"},
		"more detail, more buckets":   {ints(func(h *histogram.Histogram) { h.Schema = 20; h.PositiveSpans = h.PositiveSpans[:1] }), "spans need 2 buckets, have 3 buckets"},
		"more detail, going back":     {ints(func(h *histogram.Histogram) { h.Schema = 20; h.PositiveSpans[1].Offset = -1 }), "span number 2 with offset -1"},
		"a reserved schema":           {ints(func(h *histogram.Histogram) { h.Schema = -9 }), "invalid schema, which must be between -4 and 8 for exponential buckets, or -53 for custom buckets, got schema -9"},
		"a schema beyond":             {ints(func(h *histogram.Histogram) { h.Schema = 53 }), "got schema 53"},
		"the last schema":             {ints(func(h *histogram.Histogram) { h.Schema = math.MinInt32 }), "got schema -2147483648"},
		"bounds of an exponential":    {ints(func(h *histogram.Histogram) { h.CustomValues = []float64{1} }), "exponential schema must not have custom bounds"},
		"a threshold of NaN":          {ints(func(h *histogram.Histogram) { h.ZeroThreshold = math.NaN() }), "the zero bucket is NaN wide, it must be a number from 0 on"},
		"a threshold below 0":         {ints(func(h *histogram.Histogram) { h.ZeroThreshold = -1 }), "the zero bucket is -1 wide"},
		"floats, endless zeros":       {floats(func(h *histogram.FloatHistogram) { h.ZeroThreshold = math.Inf(1) }), "the zero bucket is +Inf wide"},
		"nothing at all":              {ints(func(h *histogram.Histogram) { *h = histogram.Histogram{} }), ""},
		"a hint of tomorrow":          {ints(func(h *histogram.Histogram) { h.CounterResetHint = 99 }), ""},
		"custom":                      {custom(func(*histogram.Histogram) {}), ""},
		"custom, not sorted":          {custom(func(h *histogram.Histogram) { h.CustomValues = []float64{2, 1} }), "previous bound is 2.000000 and current is 1.000000"},
		"custom, twice the same":      {custom(func(h *histogram.Histogram) { h.CustomValues = []float64{2, 2} }), "strictly increasing"},
		"custom, NaN":                 {custom(func(h *histogram.Histogram) { h.CustomValues = []float64{1, math.NaN()} }), "custom bounds must not be NaN"},
		"custom, infinite":            {custom(func(h *histogram.Histogram) { h.CustomValues = []float64{1, math.Inf(1)} }), "last +Inf bound must not be explicitly defined"},
		"custom, too few":             {custom(func(h *histogram.Histogram) { h.CustomValues = []float64{1} }), "only 1 custom bounds defined"},
		"custom, an index before all": {custom(func(h *histogram.Histogram) { h.PositiveSpans[0].Offset = -1 }), "span number 1 with offset -1"},
		"custom, with zeros":          {custom(func(h *histogram.Histogram) { h.ZeroCount = 1 }), "must have zero count of 0"},
		"custom, with a threshold":    {custom(func(h *histogram.Histogram) { h.ZeroThreshold = 1 }), "must have zero threshold of 0"},
		"custom, negative spans":      {custom(func(h *histogram.Histogram) { h.NegativeSpans = []histogram.Span{{}} }), "must not have negative spans"},
		"custom, negative buckets":    {custom(func(h *histogram.Histogram) { h.NegativeBuckets = []int64{1} }), "must not have negative buckets"},
		"custom, a count of fewer":    {custom(func(h *histogram.Histogram) { h.Count = 1 }), "4 observations found in buckets, but the Count field is 1"},
		"floats":                      {floats(func(*histogram.FloatHistogram) {}), ""},
		"floats, negative":            {floats(func(h *histogram.FloatHistogram) { h.PositiveBuckets[1] = -1 }), "bucket number 2 has observation count of -1"},
		"floats, negative zeros":      {floats(func(h *histogram.FloatHistogram) { h.ZeroCount = -1 }), "zero bucket has observation count of -1"},
		"floats, a negative count":    {floats(func(h *histogram.FloatHistogram) { h.Count = -1 }), "observation count is  -1"},
		"floats, going back":          {floats(func(h *histogram.FloatHistogram) { h.PositiveSpans[1].Offset = -1 }), "span number 2 with offset -1"},
		"floats, spans of more":       {floats(func(h *histogram.FloatHistogram) { h.PositiveSpans[1].Length = 2 }), "spans need 4 buckets, have 3 buckets"},
		"floats, not numbers": {floats(func(h *histogram.FloatHistogram) {
			h.PositiveBuckets[0], h.Count, h.Sum = math.NaN(), math.NaN(), math.NaN()
		}), ""},
		"floats, infinite":          {floats(func(h *histogram.FloatHistogram) { h.PositiveBuckets[0], h.Count = math.Inf(1), math.Inf(1) }), ""},
		"floats of more detail":     {floats(func(h *histogram.FloatHistogram) { h.Schema = 52 }), ""},
		"floats, detail, fewer":     {floats(func(h *histogram.FloatHistogram) { h.Schema = 52; h.PositiveBuckets = nil }), "have 0 buckets but spans need more"},
		"floats, a reserved schema": {floats(func(h *histogram.FloatHistogram) { h.Schema = -5 }), "got schema -5"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newRig(t, Limits{})
			for n, ct := range []string{v1, v2} {
				at := t0.Add(time.Duration(n) * time.Second)
				name := []string{"one", "two"}[n]
				h, fh := tc.make()
				a := g.post(ct, histogramBody(t, ct, name, at, h, fh))
				switch {
				case tc.want == "":
					if a.status != http.StatusNoContent {
						t.Errorf("%s: got %d %s", name, a.status, a.text)
					}
				case a.status != http.StatusBadRequest, !strings.Contains(a.text, "2 samples stored; 1 refused (invalid): "), !strings.Contains(a.text, tc.want),
					!strings.Contains(a.text, `__name__="`+name+`"`):
					t.Errorf("%s: got %d %s, want %q", name, a.status, a.text, tc.want)
				}
			}
			want := 4
			if tc.want == "" {
				want = 6
			}
			read := func() {
				t.Helper()
				n := 0
				g.each(func(it chunkenc.Iterator, typ chunkenc.ValueType) {
					n++
					switch typ {
					case chunkenc.ValHistogram:
						_, _ = it.AtHistogram(nil)
					case chunkenc.ValFloatHistogram:
						_, _ = it.AtFloatHistogram(nil)
					}
				})
				if n != want {
					t.Errorf("%d samples are stored, want %d", n, want)
				}
				for _, q := range []string{"histogram_quantile(0.9, one)", "histogram_quantile(0.9, two)", "histogram_fraction(0, 1, two)", `sum({__name__=~"one|two"})`} {
					g.query(q, t0.Add(time.Second))
				}
			}
			read()
			g.stop()
			g.start(Limits{})
			read()
			if n := testutil.ToFloat64(g.i.metrics.requests.WithLabelValues(resultUnavailable)); n != 0 {
				t.Errorf("%v requests failed", n)
			}
		})
	}
}

// histogramBody has a histogram, and a sample before and one behind it.
func histogramBody(t testing.TB, ct, name string, at time.Time, h *histogram.Histogram, fh *histogram.FloatHistogram) []byte {
	ms := at.UnixMilli()
	if ct == v1 {
		var p prompb.Histogram
		if h != nil {
			p = prompb.FromIntHistogram(ms, h)
		} else {
			p = prompb.FromFloatHistogram(ms, fh)
		}
		named := func(n string) []prompb.Label { return []prompb.Label{{Name: "__name__", Value: n}} }
		one := []prompb.Sample{{Value: 1, Timestamp: ms}}
		return pack(t, &prompb.WriteRequest{Timeseries: []prompb.TimeSeries{
			{Labels: named("before"), Samples: one}, {Labels: named(name), Histograms: []prompb.Histogram{p}}, {Labels: named("behind"), Samples: one},
		}})
	}
	var p writev2.Histogram
	if h != nil {
		p = writev2.FromIntHistogram(0, ms, h)
	} else {
		p = writev2.FromFloatHistogram(0, ms, fh)
	}
	one := []writev2.Sample{{Value: 1, Timestamp: ms}}
	return pack(t, &writev2.Request{Symbols: []string{"", "__name__", "before", name, "behind"}, Timeseries: []writev2.TimeSeries{
		{LabelsRefs: []uint32{1, 2}, Samples: one}, {LabelsRefs: []uint32{1, 3}, Histograms: []writev2.Histogram{p}}, {LabelsRefs: []uint32{1, 4}, Samples: one},
	}})
}

// A histogram whose number is of one kind and whose buckets are of the other.
func TestHistogramsOfTwoKinds(t *testing.T) {
	g := newRig(t, Limits{})
	spans := []writev2.BucketSpan{{Length: 1}}
	a := g.post(v2, pack(t, &writev2.Request{Symbols: []string{"", "__name__", "x", "y"}, Timeseries: []writev2.TimeSeries{
		{LabelsRefs: []uint32{1, 2}, Histograms: []writev2.Histogram{{Count: &writev2.Histogram_CountInt{CountInt: 1}, Timestamp: t0.UnixMilli(), PositiveSpans: spans, PositiveCounts: []float64{1}}}},
		{LabelsRefs: []uint32{1, 3}, Histograms: []writev2.Histogram{{Count: &writev2.Histogram_CountFloat{CountFloat: 1}, Timestamp: t0.UnixMilli(), PositiveSpans: spans, PositiveDeltas: []int64{1}}}},
	}}))
	if a.status != http.StatusBadRequest || !strings.Contains(a.text, "0 samples stored; 2 refused (invalid): positive side: spans need 1 buckets, have 0 buckets") {
		t.Errorf("got %d %s", a.status, a.text)
	}
}
