package ingest

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
)

// in is a message in fields of others, the outermost first.
func in(message []byte, fields ...protowire.Number) []byte {
	for n := len(fields) - 1; n >= 0; n-- {
		message = protowire.AppendBytes(protowire.AppendTag(make([]byte, 0, len(message)+16), fields[n], protowire.BytesType), message)
	}
	return message
}

// empties are as many empty messages in a field as there is room for.
func empties(size int, field protowire.Number) []byte {
	one := in(nil, field)
	return bytes.Repeat(one, size/len(one))
}

func gzipped(t testing.TB, raw []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// allocated is what a request makes a server allocate, in bytes, and the answer.
func (g *rig) allocated(contentType, encoding string, body []byte) (answer, uint64) {
	r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("Content-Encoding", encoding)
	w := httptest.NewRecorder()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if encoding == "gzip" {
		g.i.ServeOTLP(w, r, "prod")
	} else {
		g.i.ServeWrite(w, r, "prod")
	}
	runtime.ReadMemStats(&after)
	return answer{w.Code, w.Body.String(), w.Header()}, after.TotalAlloc - before.TotalAlloc
}

// A few kilobytes become millions of things: none of them may take more memory than
// a request of ordinary samples of the greatest size does.
func TestBombsTakeNoMemory(t *testing.T) {
	const size = 2 << 20
	limits := Limits{DecompressedBytes: size + 1<<10, DecodedBytes: 4 * size}
	const most = 80 << 20 // with what growing slices leave behind; none of these takes less where nothing bounds it
	points := func(metric, field protowire.Number, of []byte) []byte { return in(of, 1, 2, 2, metric, field) }
	nested := func(n int) []byte {
		b := []byte(nil)
		for range n {
			b = in(b, 5, 1)
		}
		return b
	}
	list := func(before, one, after string) []byte {
		return []byte(before + strings.Repeat(one+",", size/(len(one)+1)-32) + one + after)
	}
	const metric = `{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"x",`
	for name, tc := range map[string]struct {
		kind string
		raw  []byte
		want string
	}{
		"1.0, series":                {v1, empties(size, 1), "series"},
		"1.0, labels":                {v1, in(empties(size, 1), 1), "its labels"},
		"1.0, samples":               {v1, in(empties(size, 2), 1), "its samples"},
		"1.0, exemplars":             {v1, in(empties(size, 3), 1), "its exemplars"},
		"1.0, labels of an exemplar": {v1, in(empties(size, 1), 1, 3), "its exemplars"},
		"1.0, histograms":            {v1, in(empties(size, 4), 1), "its histograms"},
		"1.0, spans":                 {v1, in(empties(size, 8), 1, 4), "its histograms"},
		"1.0, deltas":                {v1, in(make([]byte, size), 1, 4, 12), "its histograms"},
		"2.0, symbols":               {v2, empties(size, 4), "its symbols"},
		"2.0, series":                {v2, empties(size, 5), "series"},
		"2.0, samples":               {v2, in(empties(size, 2), 5), "its samples"},
		"2.0, histograms":            {v2, in(empties(size, 3), 5), "its histograms"},
		"2.0, spans":                 {v2, in(empties(size, 11), 5, 3), "its histograms"},
		"2.0, deltas":                {v2, in(make([]byte, size), 5, 3, 9), "its histograms"},
		"2.0, exemplars":             {v2, in(empties(size, 4), 5), "its exemplars"},

		"OTLP, resources":              {"application/x-protobuf", empties(size, 1), "its resources"},
		"OTLP, attributes of resource": {"application/x-protobuf", in(empties(size, 1), 1, 1), "its attributes of resources"},
		"OTLP, scopes":                 {"application/x-protobuf", in(empties(size, 2), 1), "its scopes"},
		"OTLP, scopes of old":          {"application/x-protobuf", in(empties(size, 1000), 1), "its scopes"},
		"OTLP, metrics":                {"application/x-protobuf", in(empties(size, 2), 1, 2), "its metrics"},
		"OTLP, points":                 {"application/x-protobuf", in(empties(size, 1), 1, 2, 2, 5), "its data points"},
		"OTLP, points of sums":         {"application/x-protobuf", in(empties(size, 1), 1, 2, 2, 7), "its data points"},
		"OTLP, histograms":             {"application/x-protobuf", in(empties(size, 1), 1, 2, 2, 9), "its data points"},
		"OTLP, exponential histograms": {"application/x-protobuf", in(empties(size, 1), 1, 2, 2, 10), "its data points"},
		"OTLP, summaries":              {"application/x-protobuf", in(empties(size, 1), 1, 2, 2, 11), "its data points"},
		"OTLP, attributes":             {"application/x-protobuf", points(5, 1, empties(size, 7)), "its data points"},
		"OTLP, exemplars":              {"application/x-protobuf", points(7, 1, empties(size, 5)), "its exemplars"},
		"OTLP, buckets":                {"application/x-protobuf", points(10, 1, in(make([]byte, size), 8, 2)), "its data points"},
		"OTLP, quantiles":              {"application/x-protobuf", points(11, 1, empties(size, 6)), "its data points"},
		"OTLP, values":                 {"application/x-protobuf", points(5, 1, in(empties(size, 1), 7, 2, 5)), "its data points"},
		"OTLP, a deep value":           {"application/x-protobuf", points(5, 1, in(nested(2000), 7, 2)), "more than 100 deep"},

		"JSON, resources":              {"application/json", list(`{"resourceMetrics":[`, `{}`, `]}`), "its resources"},
		"JSON, points":                 {"application/json", list(metric+`"gauge":{"dataPoints":[`, `{}`, `]}}]}]}]}`), "its data points"},
		"JSON, points of null":         {"application/json", list(metric+`"gauge":{"dataPoints":[`, `null`, `]}}]}]}]}`), "its data points"},
		"JSON, points of numbers":      {"application/json", list(metric+`"gauge":{"dataPoints":[`, ` 0`, `]}}]}]}]}`), "its data points"},
		"JSON, points in a text":       {"application/json", list(metric+`"exponentialHistogram":{"dataPoints":[",`, `0`, `"]}}]}]}]}`), "its data points"},
		"JSON, points in a name":       {"application/json", list(metric+`"exponentialHistogram":{"dataPoints":[{"timeUnixNano":{},",`, `0`, `":1}]}}]}]}]}`), "its data points"},
		"JSON, points for a bound":     {"application/json", list(metric+`"exponentialHistogram":{"dataPoints":[{"positive":{"bucketCounts":[{},`, `0`, `]}}]}}]}]}]}`), "its data points"},
		"JSON, points for a time":      {"application/json", list(metric+`"exponentialHistogram":{"dataPoints":[{"timeUnixNano":[[`, `0`, `]]}]}}]}]}]}`), "its data points"},
		"JSON, points for a number":    {"application/json", list(metric+`"exponentialHistogram":{"aggregationTemporality":{"dataPoints":[`, `{}`, `]}}}]}]}]}`), "its metrics"},
		"JSON, points for names":       {"application/json", list(metric+`"exponentialHistogram":{"dataPoints":[{"timeUnixNano":{}`, `,{}`, `}]}}]}]}]}`), "is no name of a field"},
		"JSON, spaced":                 {"application/json", list(metric+`"gauge" : {"data_points"`+"\n"+`:[`, `{}`, `]}}]}]}]}`), "its data points"},
		"JSON, escaped":                {"application/json", list(strings.Replace(metric, "scopeM", `scope\u004d`, 1)+`"gauge":{"dataPoints":[`, `{}`, `]}}]}]}]}`), "its resources"},
		"JSON, exponential histograms": {"application/json", list(metric+`"exponentialHistogram":{"dataPoints":[`, `{}`, `]}}]}]}]}`), "its data points"},
		"JSON, attributes":             {"application/json", list(metric+`"sum":{"dataPoints":[{"attributes":[`, `{}`, `]}]}}]}]}]}`), "its data points"},
		"JSON, exemplars":              {"application/json", list(metric+`"sum":{"dataPoints":[{"exemplars":[`, `{}`, `]}]}}]}]}]}`), "its exemplars"},
		"JSON, buckets":                {"application/json", list(metric+`"histogram":{"dataPoints":[{"bucketCounts":[`, `0`, `]}]}}]}]}]}`), "its data points"},
		"JSON, values":                 {"application/json", list(metric+`"gauge":{"dataPoints":[{"attributes":[{"value":{"arrayValue":{"values":[`, `{}`, `]}}}]}]}}]}]}]}`), "its data points"},
		"JSON, a deep value":           {"application/json", []byte(metric + `"gauge":{"dataPoints":[{"attributes":[{"value":` + strings.Repeat(`{"arrayValue":{"values":[`, 3000)), "more than 100 deep"},
		"JSON, deep nonsense":          {"application/json", []byte(`{"x":` + strings.Repeat(`[`, size-100)), "more than 100 deep"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, limits)
			zip, body := "zstd", packed(t, tc.raw)
			if strings.HasPrefix(name, "OTLP") || strings.HasPrefix(name, "JSON") {
				zip, body = "gzip", gzipped(t, tc.raw)
			}
			a, bytes := g.allocated(tc.kind, zip, body)
			if bytes > most {
				t.Errorf("%d MiB allocated for %d bytes", bytes>>20, len(body))
			}
			want := http.StatusRequestEntityTooLarge
			if strings.Contains(tc.want, "deep") || strings.Contains(tc.want, "no name") {
				want = http.StatusBadRequest
			}
			if a.status != want || !strings.Contains(a.text, tc.want) || want == 413 && !strings.Contains(a.text, "limit of ") {
				t.Errorf("got %d %s", a.status, clip(a.text, 512))
			}
			if g.everything() != 0 {
				t.Errorf("%d samples are stored", g.everything())
			}
		})
	}
}

// The largest that the defaults let through once it is decompressed.
func TestABombOfTheGreatestSize(t *testing.T) {
	g := newRig(t, Limits{})
	body := packed(t, in(empties(maxDecompressed-1<<10, 4), 1))
	a, bytes := g.allocated(v1, "zstd", body)
	if a.status != http.StatusRequestEntityTooLarge || !strings.Contains(a.text, "limit of 134217728 bytes of memory when decoded, which its histograms exceed") {
		t.Errorf("got %d %s", a.status, a.text)
	}
	if len(body) > 64<<10 || bytes > 768<<20 {
		t.Errorf("%d MiB allocated for %d bytes", bytes>>20, len(body))
	}
	for range 100 { // some of what is pooled is dropped when races are looked for
		if m, ok := g.i.messages1.Get().(*message1); ok && cap(m.histograms) > 0 {
			t.Errorf("memory for %d histograms is kept", cap(m.histograms))
		}
		if b, ok := g.i.buffers.Get().(*[]byte); ok && cap(*b) > keptBytes {
			t.Errorf("a buffer of %d bytes is kept", cap(*b))
		}
	}
}

// All places full of requests of the greatest size would be gigabytes: those that take much have few.
func TestLargeRequestsHaveFewPlaces(t *testing.T) {
	g := newRig(t, Limits{LargeRequests: 1, LargeWait: time.Millisecond})
	long := in(make([]byte, smallBytes+1<<20), 100) // a field that nobody knows
	req := otlp(func(ms pmetric.MetricSlice) { gauge(ms, "x", t0, 1) })
	asJSON, err := req.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	type body struct {
		kind, encoding string
		body           []byte
	}
	for name, b := range map[string]body{
		"snappy":              {v1, "snappy", snappy.Encode(nil, long)},
		"zstd":                {v2, "zstd", packed(t, long)},
		"zstd, size not told": {v1, "zstd", streamed(t, long)},
		"1.0, decoded":        {v1, "snappy", snappy.Encode(nil, in(empties(1<<20, 2), 1))},
		"2.0, decoded":        {v2, "zstd", packed(t, empties(3<<20, 4))},
		"OTLP":                {"application/x-protobuf", "gzip", gzipped(t, append(protobuf(t, req), long...))},
		"OTLP, decoded":       {"application/x-protobuf", "gzip", gzipped(t, in(empties(512<<10, 1), 1, 2, 2, 5))},
		"JSON":                {"application/json", "gzip", gzipped(t, append(bytes.Repeat([]byte{' '}, smallBytes), asJSON...))},
	} {
		t.Run(name, func(t *testing.T) {
			g.i.large <- struct{}{}
			a, _ := g.allocated(b.kind, b.encoding, b.body)
			<-g.i.large
			if a.status != http.StatusTooManyRequests || a.header.Get("Retry-After") == "" || !strings.Contains(a.text, "1 writes that take more than 16 MiB") {
				t.Errorf("where all places are taken: %d %s", a.status, clip(a.text, 512))
			}
			if a, _ := g.allocated(b.kind, b.encoding, b.body); a.status == http.StatusTooManyRequests || len(g.i.large) != 0 {
				t.Errorf("where one is free: %d %s; %d are taken afterwards", a.status, clip(a.text, 512), len(g.i.large))
			}
		})
	}
	g.i.large <- struct{}{}
	if a := g.post(v2, bodyV2(t, smp(1, t0, "__name__", "x"))); a.status != http.StatusNoContent {
		t.Errorf("a small one beside: %+v", a)
	}
	if n := testutil.ToFloat64(g.i.metrics.throttled.WithLabelValues("prod", throttledLarge)); n != 8 {
		t.Errorf("%v are counted", n)
	}
}

// streamed is packed without its size.
func streamed(t testing.TB, raw []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// By references a text of some length is said thousands of times in a few bytes each.
func TestReferencesToALongTextTakeNoMemory(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	var many []uint32
	symbols := []string{"", "__name__", "x", long}
	for n := range 5000 {
		symbols = append(symbols, fmt.Sprint("l", n))
		many = append(many, uint32(len(symbols)-1), 3)
	}
	at := []writev2.Sample{{Value: 1, Timestamp: t0.UnixMilli()}}
	exemplars := []writev2.Exemplar{{LabelsRefs: many, Value: 1, Timestamp: t0.UnixMilli()}}
	raw, err := (&writev2.Request{Symbols: symbols, Timeseries: []writev2.TimeSeries{
		{LabelsRefs: append([]uint32{1, 2}, many...), Samples: at},
		{LabelsRefs: append([]uint32{1, 2}, many[:60]...), Samples: at},
		{LabelsRefs: []uint32{1, 2}, Samples: at, Exemplars: exemplars},
	}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	g := newRig(t, Limits{})
	a, bytes := g.allocated(v2, "snappy", snappy.Encode(nil, raw))
	if bytes > 32<<20 {
		t.Errorf("%d MiB allocated", bytes>>20)
	}
	if a.status != http.StatusBadRequest || !strings.Contains(a.text, "1 samples stored; 2 refused (labels): 5001 labels, the limit is 40") || g.refused(reasonExemplar) != 1 {
		t.Errorf("%v exemplars refused, got %d %s", g.refused(reasonExemplar), a.status, clip(a.text, 512))
	}
}

// What is large but ordinary is taken: as many series with as long labels as go into a
// body, and as many histograms as a busy exporter has.
func TestLargeOrdinaryRequestsAreNoBombs(t *testing.T) {
	var m1 message1
	var m2 message2
	l := Limits{}
	if err := l.complete(); err != nil {
		t.Fatal(err)
	}
	one := &prompb.WriteRequest{}
	st := writev2.NewSymbolTable()
	two := &writev2.Request{}
	h := tsdbutil.GenerateTestHistogram(7)
	for n := range 20_000 {
		ls := []string{"__name__", "k8s_pod_cpu", "pod", fmt.Sprint("cart-7c9f6b4d5-", n), "namespace", "shop", "node", fmt.Sprint("n", n%100), "a", "1", "b", "2", "c", "3", "d", "4"}
		ts := prompb.TimeSeries{Samples: []prompb.Sample{{Value: float64(n), Timestamp: t0.UnixMilli()}}}
		tw := writev2.TimeSeries{Samples: []writev2.Sample{{Value: float64(n), Timestamp: t0.UnixMilli()}}}
		for i := 0; i < len(ls); i += 2 {
			ts.Labels = append(ts.Labels, prompb.Label{Name: ls[i], Value: ls[i+1]})
			tw.LabelsRefs = append(tw.LabelsRefs, st.Symbolize(ls[i]), st.Symbolize(ls[i+1]))
		}
		if n%4 == 0 {
			ts.Samples, ts.Histograms = nil, []prompb.Histogram{prompb.FromIntHistogram(t0.UnixMilli(), h)}
			tw.Samples, tw.Histograms = nil, []writev2.Histogram{writev2.FromIntHistogram(0, t0.UnixMilli(), h)}
		}
		one.Timeseries, two.Timeseries = append(one.Timeseries, ts), append(two.Timeseries, tw)
	}
	two.Symbols = st.Symbols()
	raw1, err1 := one.Marshal()
	raw2, err2 := two.Marshal()
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	// As much as that in a body of the greatest size.
	share := func(raw []byte) int64 {
		return int64(float64(l.DecodedBytes) * math.Min(1, float64(len(raw))/float64(l.DecompressedBytes)))
	}
	if err := m1.decode(raw1, l.SeriesPerRequest, memoryOf(share(raw1))); err != nil {
		t.Errorf("1.0, %d bytes: %v", len(raw1), err)
	}
	if err := m2.decode(raw2, l.SeriesPerRequest, memoryOf(l.DecodedBytes)); err != nil || m2.used() > l.DecodedBytes/8 {
		t.Errorf("2.0, %d bytes take %d: %v", len(raw2), m2.used(), err)
	}
}

// Both forms of a request are weighed by one list of what there is in it.
func TestOTLPIsWeighedAlikeInBothForms(t *testing.T) {
	req := otlpOfEveryKind()
	asJSON, err := req.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	raw := protobuf(t, req)
	a, b := memoryOf(1<<30), memoryOf(1<<30)
	if err := a.weigh(raw, otlpRequest, "", 0); err != nil {
		t.Error(err)
	}
	if err := b.weighJSON(asJSON, otlpRequest); err != nil {
		t.Error(err)
	}
	if a.used() > b.used() || b.used() > 2*a.used() {
		t.Errorf("protobuf %d bytes take %d, JSON %d bytes take %d", len(raw), a.used(), len(asJSON), b.used())
	}
	for cut := range asJSON { // what ends anywhere is no more, but for a name that is taken for a text
		m := memoryOf(1 << 30)
		if err := m.weighJSON(asJSON[:cut], otlpRequest); err != nil || m.used() > b.used()+100 {
			t.Fatalf("up to %d: %d, %v", cut, m.used(), err)
		}
	}
}
