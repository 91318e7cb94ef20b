package ingest

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
)

// otlp makes a request with one resource; add fills its metrics.
func otlp(add func(pmetric.MetricSlice)) pmetricotlp.ExportRequest {
	md := pmetric.NewMetrics()
	r := md.ResourceMetrics().AppendEmpty()
	r.Resource().Attributes().PutStr("service.name", "cart")
	r.Resource().Attributes().PutStr("k8s.namespace.name", "shop")
	add(r.ScopeMetrics().AppendEmpty().Metrics())
	return pmetricotlp.NewExportRequestFromMetrics(md)
}

func gauge(ms pmetric.MetricSlice, name string, at time.Time, v float64, attrs ...string) {
	m := ms.AppendEmpty()
	m.SetName(name)
	p := m.SetEmptyGauge().DataPoints().AppendEmpty()
	p.SetTimestamp(pcommon.NewTimestampFromTime(at))
	p.SetDoubleValue(v)
	for n := 0; n < len(attrs); n += 2 {
		p.Attributes().PutStr(attrs[n], attrs[n+1])
	}
}

func (g *rig) otlp(kind string, body []byte, headers ...string) (status int, text string, header http.Header) {
	r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
	r.Header.Set("Content-Type", kind)
	for n := 0; n < len(headers); n += 2 {
		r.Header.Set(headers[n], headers[n+1])
	}
	w := httptest.NewRecorder()
	g.i.ServeOTLP(w, r, "prod")
	return w.Code, w.Body.String(), w.Header()
}

func protobuf(t testing.TB, r pmetricotlp.ExportRequest) []byte {
	raw, err := r.MarshalProto()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestOTLPIsStoredUnderTheClusterOfTheCredential(t *testing.T) {
	req := otlp(func(ms pmetric.MetricSlice) { gauge(ms, "queue.length", t0, 3, "cluster", "of another one", "n", "1") })
	asJSON, err := req.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	if _, err := z.Write(protobuf(t, req)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		kind    string
		body    []byte
		headers []string
	}{
		"protobuf": {"application/x-protobuf", protobuf(t, req), nil},
		"JSON":     {"application/json; charset=utf-8", asJSON, nil},
		"gzip":     {"application/x-protobuf", zipped.Bytes(), []string{"Content-Encoding", "gzip"}},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, Limits{})
			if status, text, _ := g.otlp(tc.kind, tc.body, tc.headers...); status != http.StatusOK {
				t.Fatalf("%d %s", status, text)
			}
			want := `{__name__="queue_length", cluster="prod", job="cart", k8s_namespace_name="shop", n="1"} 3`
			if got := g.query("queue_length", t0); got != want {
				t.Errorf("got %s", got)
			}
			if len(g.arrivals) != 1 {
				t.Errorf("arrivals %+v", g.arrivals)
			}
		})
	}
}

func TestOTLPTellsWhatItRefusesAndStoresTheRest(t *testing.T) {
	g := newRig(t, Limits{LabelValueBytes: 40})
	status, text, _ := g.otlp("application/x-protobuf", protobuf(t, otlp(func(ms pmetric.MetricSlice) {
		gauge(ms, "good", t0, 1)
		gauge(ms, "long", t0, 1, "a", strings.Repeat("v", 41))
		gauge(ms, "future", t0.Add(3*time.Minute), 1)
		delta := ms.AppendEmpty() // has no meaning here
		delta.SetName("delta")
		sum := delta.SetEmptySum()
		sum.SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
		p := sum.DataPoints().AppendEmpty()
		p.SetTimestamp(pcommon.NewTimestampFromTime(t0))
		p.SetDoubleValue(1)
	})))
	if status != http.StatusOK || g.query("good", t0) == "" {
		t.Fatalf("%d %s", status, text)
	}
	out := pmetricotlp.NewExportResponse()
	if err := out.UnmarshalProto([]byte(text)); err != nil {
		t.Fatal(err)
	}
	said := out.PartialSuccess().ErrorMessage()
	for _, want := range []string{"refused (labels)", "refused (future)", "refused (invalid)", "temporality", "the limit is 40"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q lacks %q", said, want)
		}
	}
	// target_info of the future is among them.
	if n := out.PartialSuccess().RejectedDataPoints(); n != int64(g.refused(reasonFuture))+2 || g.refused(reasonFuture) < 1 || g.refused(reasonLabels) != 1 {
		t.Errorf("%d rejected: %s", n, said)
	}
}

func TestOTLPBoundsAreThoseOfRemoteWrite(t *testing.T) {
	g := newRig(t, Limits{DecompressedBytes: 64 << 10, SamplesPerSecond: 1, SeriesPerRequest: 100})
	bomb := func(n int) []byte {
		var out bytes.Buffer
		z := gzip.NewWriter(&out)
		_, _ = z.Write(make([]byte, n))
		_ = z.Close()
		return out.Bytes()
	}
	many := func(n int) []byte {
		return protobuf(t, otlp(func(ms pmetric.MetricSlice) {
			for range n {
				gauge(ms, "x", t0, 1, "n", strings.Repeat("n", 1+ms.Len()))
			}
		}))
	}
	for name, tc := range map[string]struct {
		kind    string
		body    []byte
		headers []string
		status  int
	}{
		"another type": {"text/plain", nil, nil, 415},
		"another zip":  {"application/json", nil, []string{"Content-Encoding", "br"}, 415},
		"no gzip":      {"application/json", []byte("{}"), []string{"Content-Encoding", "gzip"}, 400},
		"a zip bomb":   {"application/x-protobuf", bomb(10 << 20), []string{"Content-Encoding", "gzip"}, 413},
		"no protobuf":  {"application/x-protobuf", []byte("hello, this is text"), nil, 400},
		"no JSON":      {"application/json", []byte("{"), nil, 400},
		"too many":     {"application/x-protobuf", many(101), nil, 413},
	} {
		if status, text, _ := g.otlp(tc.kind, tc.body, tc.headers...); status != tc.status {
			t.Errorf("%s: %d %s, want %d", name, status, text, tc.status)
		}
	}
	if g.everything() != 0 {
		t.Errorf("%d samples stored", g.everything())
	}
	if status, text, _ := g.otlp("application/x-protobuf", many(40)); status != http.StatusOK {
		t.Fatalf("%d %s", status, text)
	}
	before := g.everything()
	if status, text, header := g.otlp("application/x-protobuf", many(1)); status != http.StatusTooManyRequests || header.Get("Retry-After") == "" || g.everything() != before {
		t.Errorf("%d %s, %d stored", status, text, g.everything()-before)
	}
}

// otlpOfEveryKind is a request with something of all that OTLP has.
func otlpOfEveryKind() pmetricotlp.ExportRequest {
	at := pcommon.NewTimestampFromTime(t0)
	fill := func(attributes pcommon.Map, exemplars pmetric.ExemplarSlice) {
		attributes.PutStr("n", "1")
		attributes.PutInt("i", 1)
		attributes.PutEmptySlice("list").AppendEmpty().SetEmptyMap().PutDouble("d", 1)
		e := exemplars.AppendEmpty()
		e.SetTimestamp(at)
		e.SetDoubleValue(1)
		e.FilteredAttributes().PutStr("trace", "a")
	}
	return otlp(func(ms pmetric.MetricSlice) {
		gauge(ms, "queue.length", t0, 3, "n", "1")
		add := func(name string) pmetric.Metric {
			m := ms.AppendEmpty()
			m.SetName(name)
			m.SetUnit("s")
			m.Metadata().PutStr("a", "b")
			return m
		}
		exponential := add("latency").SetEmptyExponentialHistogram()
		exponential.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		e := exponential.DataPoints().AppendEmpty()
		e.SetTimestamp(at)
		e.SetScale(30) // finer than the store knows
		e.SetCount(4)
		e.Positive().SetOffset(-1 << 30)
		e.Positive().BucketCounts().FromRaw([]uint64{1, 1})
		e.Negative().BucketCounts().FromRaw([]uint64{2})
		fill(e.Attributes(), e.Exemplars())
		explicit := add("size").SetEmptyHistogram()
		explicit.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		h := explicit.DataPoints().AppendEmpty()
		h.SetTimestamp(at)
		h.SetCount(3)
		h.SetSum(5)
		h.ExplicitBounds().FromRaw([]float64{1, 2})
		h.BucketCounts().FromRaw([]uint64{1, 1, 1})
		fill(h.Attributes(), h.Exemplars())
		sum := add("requests").SetEmptySum()
		sum.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		sum.SetIsMonotonic(true)
		n := sum.DataPoints().AppendEmpty()
		n.SetTimestamp(at)
		n.SetIntValue(7)
		fill(n.Attributes(), n.Exemplars())
		s := add("age").SetEmptySummary().DataPoints().AppendEmpty()
		s.SetTimestamp(at)
		s.SetCount(1)
		q := s.QuantileValues().AppendEmpty()
		q.SetQuantile(0.5)
		q.SetValue(1)
		s.Attributes().PutStr("n", "1")
	})
}

// What is told to come again leaves nothing behind: no series in the store's head, none
// that is active.
func TestOTLPRateIsDecidedBeforeAnythingIsStored(t *testing.T) {
	g := newRig(t, Limits{SamplesPerSecond: 1})
	histogram := func(name string) []byte { // 40 samples of one data point
		return protobuf(t, otlp(func(ms pmetric.MetricSlice) {
			m := ms.AppendEmpty()
			m.SetName(name)
			h := m.SetEmptyHistogram()
			h.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
			p := h.DataPoints().AppendEmpty()
			p.SetTimestamp(pcommon.NewTimestampFromTime(t0))
			for n := range 37 {
				p.ExplicitBounds().Append(float64(n))
				p.BucketCounts().Append(0)
			}
			p.BucketCounts().Append(0)
			p.SetSum(0)
		}))
	}
	if status, text, _ := g.otlp("application/x-protobuf", histogram("first")); status != http.StatusOK {
		t.Fatalf("%d %s", status, text)
	}
	inHead, active := g.db.Series(), g.i.cluster("prod").active.Load()
	status, text, header := g.otlp("application/x-protobuf", histogram("second"))
	if status != http.StatusTooManyRequests || header.Get("Retry-After") != "10" || !strings.Contains(text, `cluster "prod" has the limit of 1 samples a second`) {
		t.Errorf("%d %s, again after %s", status, text, header.Get("Retry-After"))
	}
	if n, m := g.db.Series(), g.i.cluster("prod").active.Load(); n != inHead || m != active || testutil.ToFloat64(g.i.metrics.throttled.WithLabelValues("prod", throttledRate)) != 1 {
		t.Errorf("%d series in the head and %d active, were %d and %d", n, m, inHead, active)
	}
	g.now = g.now.Add(11 * time.Second)
	if status, text, _ := g.otlp("application/x-protobuf", histogram("second")); status != http.StatusOK {
		t.Errorf("%d %s", status, text)
	}
}

// Each data point stands for itself: what is wrong with one is said, and the others are
// stored, those of the same metric and resource, too.
func TestOTLPDataPointsThatMeanNothing(t *testing.T) {
	points := func(add func(ms pmetric.MetricSlice)) []byte {
		return protobuf(t, otlp(func(ms pmetric.MetricSlice) {
			add(ms)
			gauge(ms, "good", t0, 1)
		}))
	}
	at := func(ts pcommon.Timestamp) func(pmetric.MetricSlice) {
		return func(ms pmetric.MetricSlice) {
			gauge(ms, "bad", t0, 1)
			p := ms.At(ms.Len() - 1).Gauge().DataPoints().AppendEmpty()
			p.SetTimestamp(ts)
			p.SetDoubleValue(2)
		}
	}
	exponential := func(change func(pmetric.ExponentialHistogramDataPoint)) func(pmetric.MetricSlice) {
		return func(ms pmetric.MetricSlice) {
			m := ms.AppendEmpty()
			m.SetName("bad")
			h := m.SetEmptyExponentialHistogram()
			h.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
			for n := range 2 {
				p := h.DataPoints().AppendEmpty()
				p.SetTimestamp(pcommon.NewTimestampFromTime(t0))
				p.SetCount(2)
				p.Positive().BucketCounts().FromRaw([]uint64{1, 1})
				p.Attributes().PutInt("n", int64(n))
				if n == 0 {
					change(p)
				}
			}
		}
	}
	for name, tc := range map[string]struct {
		body []byte
		want string // empty: all of it is stored
		more int    // samples besides the good one, and what tells of the resource
	}{
		"no time":               {points(at(0)), "1 refused (too_old): 1970-01-01T00:00:00Z", 1},
		"the end of time":       {points(at(math.MaxUint64)), "1 refused (future): 2554-07-21T23:34:33.709Z", 1},
		"as far as signed goes": {points(at(math.MaxInt64)), "1 refused (future): 2262-04-11T23:47:16.854Z", 1},
		"two days ago":          {points(at(pcommon.NewTimestampFromTime(t0.Add(-49 * time.Hour)))), "1 refused (too_old)", 1},
		"ten thousand attributes": {points(func(ms pmetric.MetricSlice) {
			gauge(ms, "bad", t0, 1)
			for n := range 10_000 {
				ms.At(0).Gauge().DataPoints().At(0).Attributes().PutStr(fmt.Sprint("a", n), "v")
			}
		}), "1 refused (labels): 10000 attributes, the limit is 40: bad", 0},
		"a long attribute": {points(func(ms pmetric.MetricSlice) { gauge(ms, "bad", t0, 1, "a", strings.Repeat("v", 3000)) }), "1 refused (labels): attribute a of bad has 3000 bytes, the limit is 2048", 0},
		"a long name":      {points(func(ms pmetric.MetricSlice) { gauge(ms, strings.Repeat("n", 3000), t0, 1) }), "1 refused (labels): a metric whose name and unit have 3000 bytes", 0},
		"NaN":              {points(func(ms pmetric.MetricSlice) { gauge(ms, "bad", t0, math.NaN()) }), "", 1},
		"a scale below all": {points(exponential(func(p pmetric.ExponentialHistogramDataPoint) { p.SetScale(-5) })),
			"1 refused (invalid): an exponential histogram of scale -5, the least is -4: bad", 1},
		"fewer than in the buckets": {points(exponential(func(p pmetric.ExponentialHistogramDataPoint) { p.SetCount(1) })), "1 refused (invalid)", 1},
		"more than 63 bits in a bucket": {points(exponential(func(p pmetric.ExponentialHistogramDataPoint) {
			p.Positive().BucketCounts().FromRaw([]uint64{math.MaxUint64, 3})
		})), "1 refused (invalid)", 1},
		"an exemplar without value": {points(exponential(func(p pmetric.ExponentialHistogramDataPoint) { p.Exemplars().AppendEmpty() })), "", 2},
		"a delta": {points(func(ms pmetric.MetricSlice) {
			exponential(func(pmetric.ExponentialHistogramDataPoint) {})(ms)
			ms.At(0).ExponentialHistogram().SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
		}), "1 refused (invalid): invalid temporality", 0},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, Limits{})
			status, text, _ := g.otlp("application/x-protobuf", tc.body)
			out := pmetricotlp.NewExportResponse()
			if err := out.UnmarshalProto([]byte(text)); err != nil || status != http.StatusOK {
				t.Fatalf("%d %s, %v", status, text, err)
			}
			said := out.PartialSuccess().ErrorMessage()
			if !strings.Contains(said, tc.want) || tc.want == "" && said != "" || strings.Contains(said, ";") != (tc.want != "") || strings.Count(said, ";") > 1 {
				t.Errorf("said %q", said)
			}
			// target_info is the third.
			if n := g.everything(); n != 2+tc.more || g.query("good", t0) == "" {
				t.Errorf("%d samples are stored, want %d", n, 2+tc.more)
			}
		})
	}
}

// Texts of a resource are on each of its series; one that is too long is said once of each
// data point, not written for it.
func TestOTLPLongAttributesOfAResource(t *testing.T) {
	g := newRig(t, Limits{})
	md := pmetric.NewMetrics()
	for n := range 2 {
		r := md.ResourceMetrics().AppendEmpty()
		r.Resource().Attributes().PutStr("service.name", strings.Repeat("n", 1+n*(4<<20)))
		for m := range 1000 {
			gauge(r.ScopeMetrics().AppendEmpty().Metrics(), "x", t0, 1, "m", fmt.Sprint(m))
		}
	}
	a, bytes := g.allocated("application/x-protobuf", "gzip", gzipped(t, protobuf(t, pmetricotlp.NewExportRequestFromMetrics(md))))
	if a.status != http.StatusOK || !strings.Contains(a.text, "1000 refused (labels): attribute service.name of a resource has 4194305 bytes, the limit is 2048") || bytes > 256<<20 {
		t.Errorf("%d MiB allocated, %d %s", bytes>>20, a.status, a.text)
	}
}

// Metrics that mean nothing are counted, and the answer does not take the square of their
// number to write.
func TestOTLPManyMetricsThatMeanNothing(t *testing.T) {
	g := newRig(t, Limits{})
	body := protobuf(t, otlp(func(ms pmetric.MetricSlice) {
		gauge(ms, "good", t0, 1)
		for range 20_000 {
			m := ms.AppendEmpty()
			m.SetName("delta")
			m.SetEmptySum().SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
		}
	}))
	a, bytes := g.allocated("application/x-protobuf", "gzip", gzipped(t, body))
	if a.status != http.StatusOK || !strings.Contains(a.text, `20000 refused (invalid): invalid temporality and type combination for metric "delta"`) || bytes > 128<<20 {
		t.Errorf("%d MiB allocated, %d %s", bytes>>20, a.status, clip(a.text, 512))
	}
}

// FuzzServeOTLP sends bodies that are anything, as protobuf and as JSON: nothing
// may panic, and only what was understood is stored.
func FuzzServeOTLP(f *testing.F) {
	g := newRig(f, Limits{CompressedBytes: 64 << 10, DecompressedBytes: 256 << 10, SeriesPerCluster: 1000})
	req := otlpOfEveryKind()
	asJSON, err := req.MarshalJSON()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(protobuf(f, req), false)
	f.Add(asJSON, true)
	f.Add([]byte("neither"), false)
	f.Fuzz(func(t *testing.T, body []byte, json bool) {
		kind := "application/x-protobuf"
		if json {
			kind = "application/json"
		}
		switch status, text, _ := g.otlp(kind, body); status {
		case 200, 400, 413:
		default:
			t.Errorf("answered %d: %s", status, text)
		}
	})
}

// An attribute of whose name nothing becomes a label's costs its own data point, not those behind it.
func TestOTLPAttributesWithoutALabelsNameCostOnePoint(t *testing.T) {
	for name, fit := range map[string]bool{
		"": false, "_": true, "__": false, "é": true, "命令": false, "...": false, "\xff\xff": false, "_._": false, "_a": true, "__a": true, "1": true, "命a": true,
	} {
		g := newRig(t, Limits{})
		status, text, _ := g.otlp("application/x-protobuf", protobuf(t, otlp(func(ms pmetric.MetricSlice) {
			points := ms.AppendEmpty()
			points.SetName("x")
			points.SetEmptyGauge()
			for n := range 3 {
				p := points.Gauge().DataPoints().AppendEmpty()
				p.SetTimestamp(pcommon.NewTimestampFromTime(t0))
				p.Attributes().PutInt("n", int64(n))
				if n == 0 {
					p.Attributes().PutStr(name, "v")
				}
			}
		})))
		want := 4 // with target_info
		if !fit {
			want--
		}
		if told := strings.Contains(text, "1 refused (invalid): the attribute name "); status != http.StatusOK || told == fit || g.everything() != want {
			t.Errorf("%q: %d %q, %d samples are stored, want %d", name, status, text, g.everything(), want)
		}
	}
}
