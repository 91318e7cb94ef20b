package ingest

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

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

// FuzzServeOTLP sends bodies that are anything, as protobuf and as JSON: nothing
// may panic, and only what was understood is stored.
func FuzzServeOTLP(f *testing.F) {
	g := newRig(f, Limits{CompressedBytes: 64 << 10, DecompressedBytes: 256 << 10, SeriesPerCluster: 1000})
	req := otlp(func(ms pmetric.MetricSlice) {
		gauge(ms, "queue.length", t0, 3, "n", "1")
		m := ms.AppendEmpty()
		m.SetName("latency")
		h := m.SetEmptyExponentialHistogram()
		h.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		p := h.DataPoints().AppendEmpty()
		p.SetTimestamp(pcommon.NewTimestampFromTime(t0))
		p.SetScale(30) // finer than the store knows
		p.SetCount(2)
		p.Positive().SetOffset(-1 << 30)
		p.Positive().BucketCounts().FromRaw([]uint64{1, 1})
	})
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
