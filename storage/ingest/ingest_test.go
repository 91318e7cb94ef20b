package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gogo/protobuf/proto"
	"github.com/golang/snappy"
	"github.com/klauspost/compress/zstd"
	remoteapi "github.com/prometheus/client_golang/exp/api/remote"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
	"github.com/crowsnest-dev/crowsnest/storage/metrics"
	"github.com/crowsnest-dev/crowsnest/storage/rollup"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const step = 30 * time.Second

var t0 = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

// rig is an ingester over HTTP with a real store and rollups.
type rig struct {
	t        testing.TB
	dir      string
	db       *metrics.DB
	readOnly error
	rollups  *rollup.Rollups
	i        *Ingester
	server   *httptest.Server
	now      time.Time
	clock    sync.Mutex // of now, where something runs beside the test

	mu       sync.Mutex
	arrivals []Arrival
}

type guarded struct {
	*metrics.DB
	g *rig
}

func (s guarded) ReadOnly() error { return s.g.readOnly }

func newRig(t testing.TB, l Limits) *rig {
	t.Helper()
	g := &rig{t: t, dir: t.TempDir(), now: t0}
	g.start(l)
	t.Cleanup(g.stop)
	return g
}

func (g *rig) start(l Limits) {
	g.t.Helper()
	var err error
	now := func() time.Time {
		g.clock.Lock()
		defer g.clock.Unlock()
		return g.now
	}
	if g.db, err = metrics.Open(metrics.Options{Dir: g.dir}); err != nil {
		g.t.Fatal(err)
	}
	if g.rollups, err = rollup.New(rollup.Options{Store: g.db, Now: now}); err != nil {
		g.t.Fatal(err)
	}
	g.i, err = New(Options{
		Store: guarded{g.db, g}, Rollups: g.rollups, Limits: l, Now: now,
		Arrived: func(a Arrival) {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.arrivals = append(g.arrivals, a)
		},
	})
	if err != nil {
		g.t.Fatal(err)
	}
	g.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.i.ServeWrite(w, r, "prod")
	}))
}

func (g *rig) stop() {
	g.server.Close()
	if err := g.db.Close(); err != nil {
		g.t.Error(err)
	}
}

type answer struct {
	status int
	text   string
	header http.Header
}

const (
	v1 = "application/x-protobuf"
	v2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
)

func (g *rig) post(contentType string, body []byte, headers ...string) answer {
	g.t.Helper()
	req, err := http.NewRequest(http.MethodPost, g.server.URL, bytes.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Content-Encoding", "snappy")
	for n := 0; n < len(headers); n += 2 {
		req.Header.Set(headers[n], headers[n+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return answer{resp.StatusCode, string(text), resp.Header}
}

// sample is one sample of a series.
type sample struct {
	lset labels.Labels
	at   time.Time
	v    float64
}

func smp(v float64, at time.Time, ls ...string) sample {
	return sample{labels.FromStrings(ls...), at, v}
}

func bodyV1(t testing.TB, ss ...sample) []byte {
	t.Helper()
	req := &prompb.WriteRequest{}
	for _, s := range ss {
		req.Timeseries = append(req.Timeseries, prompb.TimeSeries{
			Labels:  prompb.FromLabels(s.lset, nil),
			Samples: []prompb.Sample{{Value: s.v, Timestamp: s.at.UnixMilli()}},
		})
	}
	return pack(t, req)
}

func bodyV2(t testing.TB, ss ...sample) []byte {
	t.Helper()
	st := writev2.NewSymbolTable()
	req := &writev2.Request{}
	for _, s := range ss {
		req.Timeseries = append(req.Timeseries, writev2.TimeSeries{
			LabelsRefs: st.SymbolizeLabels(s.lset, nil),
			Samples:    []writev2.Sample{{Value: s.v, Timestamp: s.at.UnixMilli()}},
		})
	}
	req.Symbols = st.Symbols()
	return pack(t, req)
}

func pack(t testing.TB, m proto.Message) []byte {
	t.Helper()
	raw, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return snappy.Encode(nil, raw)
}

// query evaluates PromQL and gives the vector as text, without stale series.
func (g *rig) query(q string, at time.Time) string {
	g.t.Helper()
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1e6, Timeout: time.Minute, LookbackDelta: 5 * time.Minute})
	defer func() { _ = engine.Close() }()
	query, err := engine.NewInstantQuery(context.Background(), g.db, nil, q, at)
	if err != nil {
		g.t.Fatal(err)
	}
	defer query.Close()
	res := query.Exec(context.Background())
	if res.Err != nil {
		g.t.Fatal(res.Err)
	}
	var out []string
	v, err := res.Vector()
	if err != nil {
		g.t.Fatal(err)
	}
	for _, s := range v {
		out = append(out, fmt.Sprintf("%s %v", s.Metric, s.F))
	}
	return strings.Join(out, "\n")
}

// everything counts all samples in the store.
func (g *rig) everything() int {
	g.t.Helper()
	q, err := g.db.Querier(math.MinInt64, math.MaxInt64)
	if err != nil {
		g.t.Fatal(err)
	}
	defer func() { _ = q.Close() }()
	n := 0
	set := q.Select(context.Background(), false, nil, labels.MustNewMatcher(labels.MatchRegexp, labels.MetricName, ".+"))
	for set.Next() {
		it := set.At().Iterator(nil)
		for it.Next() != 0 {
			n++
		}
	}
	if set.Err() != nil {
		g.t.Fatal(set.Err())
	}
	return n
}

func (g *rig) refused(reason string) float64 {
	return testutil.ToFloat64(g.i.metrics.refused.WithLabelValues("prod", reason))
}

// versions runs a test with both versions of the protocol.
func versions(t *testing.T, f func(t *testing.T, contentType string, body func(testing.TB, ...sample) []byte)) {
	t.Run("1.0", func(t *testing.T) { f(t, v1, bodyV1) })
	t.Run("2.0", func(t *testing.T) { f(t, v2, bodyV2) })
}

func TestRoundTripWithTheClusterOfTheCredential(t *testing.T) {
	versions(t, func(t *testing.T, ct string, body func(testing.TB, ...sample) []byte) {
		g := newRig(t, Limits{})
		a := g.post(ct, body(t,
			smp(1.5, t0, "__name__", "x", "pod", "a"),
			smp(2.5, t0, "__name__", "x", "pod", "b", "cluster", "of another one")))
		if a.status != http.StatusNoContent {
			t.Fatalf("got %+v", a)
		}
		if ct == v2 && a.header.Get(writtenSamples) != "2" {
			t.Errorf("told %q samples written", a.header.Get(writtenSamples))
		}
		want := `{__name__="x", cluster="prod", pod="a"} 1.5` + "\n" + `{__name__="x", cluster="prod", pod="b"} 2.5`
		if got := g.query("sort(x)", t0); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		if got := g.query(`sum by (cluster) (x)`, t0.Add(time.Minute)); got != `{cluster="prod"} 4` {
			t.Errorf("got %s", got)
		}
		if len(g.arrivals) != 1 || !reflect.DeepEqual(g.arrivals[0], Arrival{Cluster: "prod", ReceivedAt: t0}) {
			t.Errorf("arrivals %+v", g.arrivals)
		}
	})
}

// Between two points of the grid it is told which series were written to, unless they
// are many; at a point of the grid nobody needs to know.
func TestChangedSeriesAreNamed(t *testing.T) {
	g := newRig(t, Limits{})
	post := func(through string, samples ...sample) Arrival {
		t.Helper()
		header := []string{wire.HeaderSender, "cluster", wire.HeaderInterval, "30"}
		if through != "" {
			header = append(header, wire.HeaderComplete, through)
		}
		if a := g.post(v2, bodyV2(t, samples...), header...); a.status != http.StatusNoContent {
			t.Fatal(a)
		}
		return g.arrivals[len(g.arrivals)-1]
	}
	at := t0.Add(7 * time.Second)
	a := post("", smp(1, t0, "__name__", "x", "pod", "a"), smp(2, at, "__name__", "x", "pod", "b"))
	want := []labels.Labels{labels.FromStrings("__name__", "x", "cluster", "prod", "pod", "a"), labels.FromStrings("__name__", "x", "cluster", "prod", "pod", "b")}
	if !a.Newest.Equal(at) || !slices.EqualFunc(a.Changed, want, labels.Equal) {
		t.Errorf("%v, %v", a.Newest, a.Changed)
	}
	if a := post("", smp(3, at, "__name__", "x", "pod", "b"), smp(4, t0.Add(time.Second), "__name__", "x", "pod", "a")); len(a.Changed) != 1 || !a.Newest.Equal(t0.Add(time.Second)) {
		t.Errorf("what is not stored is named: %v, %v", a.Newest, a.Changed)
	}
	if a := post(strconv.FormatInt(t0.UnixMilli(), 10), smp(1, t0, "__name__", "x", "pod", "c")); a.Changed != nil || !a.Newest.IsZero() {
		t.Errorf("at a point of the grid: %v, %v", a.Newest, a.Changed)
	}
	if a.Part {
		t.Error("what has a sample off the grid is taken for a part of an interval")
	}
	if a := post("", smp(1, t0, "__name__", "x", "pod", "d"), smp(1, t0, "__name__", "x", "pod", "e")); !a.Part || a.Changed != nil || !a.Newest.Equal(t0) {
		t.Errorf("a part of an interval: %+v", a)
	}
	var many []sample
	for i := range maxNamed {
		many = append(many, smp(1, at, "__name__", "y", "pod", strconv.Itoa(i)))
	}
	if a := post("", many...); len(a.Changed) != maxNamed {
		t.Errorf("%d of %d are named", len(a.Changed), maxNamed)
	}
	at = at.Add(time.Second)
	many = append(many, smp(1, at, "__name__", "y", "pod", "one more"))
	for i := range many {
		many[i].at = at
	}
	if a := post("", many...); a.Changed != nil || !a.Newest.Equal(at) {
		t.Errorf("%d of %d are named, the newest of %v", len(a.Changed), len(many), a.Newest)
	}
	grid, off := t0.Add(30*time.Second), t0.Add(31*time.Second)
	many = many[:maxOnGrid+1]
	for i := range many {
		many[i].at = grid
	}
	many[maxOnGrid].at = off
	if a := post("", many[1:]...); len(a.Changed) != maxOnGrid || a.Part {
		t.Errorf("%d of %d are named behind those that lie on the grid", len(a.Changed), maxOnGrid)
	}
	grid, off = grid.Add(30*time.Second), off.Add(30*time.Second)
	for i := range many {
		many[i].at = grid
	}
	if a := post("", append(many, smp(1, off, "__name__", "y", "pod", "last"))...); a.Changed != nil || a.Part {
		t.Errorf("%d are named where some are not", len(a.Changed))
	}
}

func TestAcknowledgedSamplesSurviveARestart(t *testing.T) {
	g := newRig(t, Limits{})
	if a := g.post(v2, bodyV2(t, smp(1, t0, "__name__", "x"))); a.status != http.StatusNoContent {
		t.Fatal(a)
	}
	g.stop()
	g.start(Limits{})
	if got := g.query("x", t0); got != `{__name__="x", cluster="prod"} 1` {
		t.Errorf("got %q", got)
	}
	// The series goes on, with the reference that the new process gives it.
	if a := g.post(v2, bodyV2(t, smp(2, t0.Add(step), "__name__", "x"))); a.status != http.StatusNoContent {
		t.Fatal(a)
	}
	if got := g.query("x", t0.Add(step)); got != `{__name__="x", cluster="prod"} 2` {
		t.Errorf("got %q", got)
	}
}

func TestHistogramsAndExemplars(t *testing.T) {
	g := newRig(t, Limits{})
	h := tsdbutil.GenerateTestHistogram(2)
	st := writev2.NewSymbolTable()
	req := &writev2.Request{Timeseries: []writev2.TimeSeries{
		{
			LabelsRefs: st.SymbolizeLabels(labels.FromStrings("__name__", "h"), nil),
			Histograms: []writev2.Histogram{writev2.FromIntHistogram(0, t0.UnixMilli(), h)},
		},
		{
			LabelsRefs: st.SymbolizeLabels(labels.FromStrings("__name__", "c"), nil),
			Samples:    []writev2.Sample{{Value: 1, Timestamp: t0.UnixMilli()}},
			Exemplars:  []writev2.Exemplar{{LabelsRefs: st.SymbolizeLabels(labels.FromStrings("trace_id", "abc"), nil), Value: 1, Timestamp: t0.UnixMilli()}},
		},
		{
			LabelsRefs: st.SymbolizeLabels(labels.FromStrings("__name__", "broken"), nil),
			Histograms: []writev2.Histogram{writev2.FromIntHistogram(0, t0.UnixMilli(), &histogram.Histogram{
				Schema: 1, Count: 1, PositiveSpans: []histogram.Span{{Offset: 0, Length: 5}}, PositiveBuckets: []int64{1},
			})},
		},
	}}
	req.Symbols = st.Symbols()
	a := g.post(v2, pack(t, req))
	if a.status != http.StatusBadRequest || !strings.Contains(a.text, "invalid") || !strings.Contains(a.text, "broken") {
		t.Errorf("got %+v, want the broken histogram named", a)
	}
	for name, want := range map[string]string{writtenSamples: "1", writtenHistograms: "1", writtenExemplars: "1"} {
		if got := a.header.Get(name); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
	if got := g.query("histogram_count(h)", t0); got != fmt.Sprintf(`{cluster="prod"} %d`, h.Count) {
		t.Errorf("got %s", got)
	}
	eq, err := g.db.ExemplarQuerier(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	res, err := eq.Select(t0.UnixMilli(), t0.UnixMilli(), []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "cluster", "prod")})
	if err != nil || len(res) != 1 {
		t.Errorf("exemplars %v, %v", res, err)
	}
}

// packed compresses as zstd.
func packed(t testing.TB, raw []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	return w.EncodeAll(raw, nil)
}

// Some senders compress remote write as zstd.
func TestZstdIsTaken(t *testing.T) {
	g := newRig(t, Limits{})
	for n, tc := range []struct {
		ct   string
		body []byte
	}{{v1, bodyV1(t, smp(1, t0, "__name__", "x"))}, {v2, bodyV2(t, smp(1, t0, "__name__", "y"))}} {
		raw, err := snappy.Decode(nil, tc.body)
		if err != nil {
			t.Fatal(err)
		}
		if a := g.post(tc.ct, packed(t, raw), "Content-Encoding", "zstd"); a.status != 204 || g.everything() != n+1 {
			t.Errorf("%s: %d %s, %d samples", tc.ct, a.status, a.text, g.everything())
		}
	}
}

func TestMalformedStoresNothing(t *testing.T) {
	g := newRig(t, Limits{CompressedBytes: 4 << 10, DecompressedBytes: 64 << 10})
	good := bodyV1(t, smp(1, t0, "__name__", "x"))
	through := func(v string) []string {
		return []string{wire.HeaderSender, "all", wire.HeaderInterval, "30", wire.HeaderComplete, v}
	}
	for name, tc := range map[string]struct {
		ct      string
		body    []byte
		headers []string
		status  int
		want    string
	}{
		"not snappy":               {v1, []byte("hello, this is text"), nil, 400, "corrupt"},
		"empty":                    {v1, nil, nil, 400, "snappy"},
		"not protobuf":             {v1, snappy.Encode(nil, []byte("hello, this is text")), nil, 400, ""},
		"not protobuf, 2.0":        {v2, snappy.Encode(nil, []byte("hello, this is text")), nil, 400, ""},
		"cut":                      {v1, good[:len(good)-3], nil, 400, ""},
		"no media type of ours":    {"text/plain", good, nil, 415, ""},
		"unknown message":          {"application/x-protobuf;proto=x.y.Z", good, nil, 415, ""},
		"gzip":                     {v1, good, []string{"Content-Encoding", "gzip"}, 415, "gzip"},
		"not zstd":                 {v1, good, []string{"Content-Encoding", "zstd"}, 400, "zstd"},
		"zstd bomb":                {v1, packed(t, make([]byte, 8<<20)), []string{"Content-Encoding", "zstd"}, 413, "65536"},
		"too large as sent":        {v1, bytes.Repeat([]byte{7}, 5<<10), nil, 413, "4096"},
		"too large when unpacked":  {v1, snappy.Encode(nil, make([]byte, 65<<10)), nil, 413, "65536"},
		"says it is far too large": {v1, []byte{0xff, 0xff, 0xff, 0xff, 0x0f, 1, 2, 3}, nil, 413, ""},
		"complete without sender":  {v1, good, []string{wire.HeaderComplete, "30000"}, 400, wire.HeaderSender},
		"complete, no number":      {v1, good, through("soon"), 400, "milliseconds"},
		"complete, off the grid":   {v1, good, through("30001"), 400, "multiple"},
		"complete in the future":   {v1, good, through(wire.FormatMillis(t0.Add(5 * time.Minute))), 400, "ahead"},
		"interval of zero":         {v1, good, []string{wire.HeaderInterval, "0"}, 400, wire.HeaderInterval},
		"interval of an hour":      {v1, good, []string{wire.HeaderInterval, "3600"}, 400, wire.HeaderInterval},
		"wire version of tomorrow": {v1, good, []string{wire.HeaderVersion, strconv.Itoa(wire.Version + 2)}, 400, "version"},
		"an endless sender":        {v1, good, []string{wire.HeaderSender, strings.Repeat("x", 301)}, 400, wire.HeaderSender},
	} {
		a := g.post(tc.ct, tc.body, tc.headers...)
		if a.status != tc.status || !strings.Contains(a.text, tc.want) {
			t.Errorf("%s: got %d %q, want %d and %q", name, a.status, a.text, tc.status, tc.want)
		}
	}
	if n := g.everything(); n != 0 {
		t.Errorf("%d samples stored", n)
	}
	if m, l := testutil.ToFloat64(g.i.metrics.requests.WithLabelValues(resultMalformed)), testutil.ToFloat64(g.i.metrics.requests.WithLabelValues(resultTooLarge)); m != 17 || l != 4 {
		t.Errorf("counted %v malformed and %v too large", m, l)
	}
	if len(g.arrivals) != 0 {
		t.Errorf("arrivals %+v", g.arrivals)
	}
}

func TestFutureAndTooOldAreRefusedTheRestIsStored(t *testing.T) {
	versions(t, func(t *testing.T, ct string, body func(testing.TB, ...sample) []byte) {
		g := newRig(t, Limits{})
		a := g.post(ct, body(t,
			smp(1, t0, "__name__", "x", "pod", "now"),
			smp(1, t0.Add(2*time.Minute), "__name__", "x", "pod", "just allowed"),
			smp(1, t0.Add(2*time.Minute+time.Millisecond), "__name__", "x", "pod", "future"),
			smp(1, t0.Add(-49*time.Hour), "__name__", "x", "pod", "old")))
		if a.status != http.StatusBadRequest {
			t.Fatalf("got %+v", a)
		}
		for _, want := range []string{"2 samples stored", "1 refused (future)", `pod="future"`, "1 refused (too_old)", `pod="old"`} {
			if !strings.Contains(a.text, want) {
				t.Errorf("%q lacks %q", a.text, want)
			}
		}
		if ct == v2 && a.header.Get(writtenSamples) != "2" {
			t.Errorf("told %q samples written", a.header.Get(writtenSamples))
		}
		if g.refused(reasonFuture) != 1 || g.refused(reasonTooOld) != 1 || g.everything() != 2 {
			t.Errorf("%v future, %v old, %d stored", g.refused(reasonFuture), g.refused(reasonTooOld), g.everything())
		}
		if n := testutil.ToFloat64(g.i.metrics.requests.WithLabelValues(resultPartial)); n != 1 {
			t.Errorf("%v partial", n)
		}
	})
}

func TestConflictingDuplicateIsCountedAndTheFirstStays(t *testing.T) {
	versions(t, func(t *testing.T, ct string, body func(testing.TB, ...sample) []byte) {
		g := newRig(t, Limits{})
		for _, v := range []float64{1, 2, 1} {
			// A sender of 2.0 takes it for a failure where nothing is said to be written.
			if a := g.post(ct, body(t, smp(v, t0, "__name__", "x"))); a.status != http.StatusNoContent || ct == v2 && a.header.Get(writtenSamples) != "1" {
				t.Errorf("value %v: %+v", v, a)
			}
		}
		if got := g.query("x", t0); got != `{__name__="x", cluster="prod"} 1` || g.refused(reasonConflict) != 1 {
			t.Errorf("got %s, %v conflicts", got, g.refused(reasonConflict))
		}
	})
}

// Within one request, too, where the store does not say that it drops the second value.
func TestConflictsOfOneRequestAreCounted(t *testing.T) {
	type point struct {
		after time.Duration
		v     float64
	}
	points := []point{{0, 1}, {0, 2}, {0, 1}, {time.Second, 5}, {0, 1}} // the last one is late, and the same
	one, two := prompb.TimeSeries{Labels: []prompb.Label{{Name: "__name__", Value: "x"}}}, writev2.TimeSeries{LabelsRefs: []uint32{1, 2}}
	for _, p := range points {
		one.Samples = append(one.Samples, prompb.Sample{Value: p.v, Timestamp: t0.Add(p.after).UnixMilli()})
		two.Samples = append(two.Samples, writev2.Sample{Value: p.v, Timestamp: t0.Add(p.after).UnixMilli()})
	}
	for ct, body := range map[string][]byte{
		v1: pack(t, &prompb.WriteRequest{Timeseries: []prompb.TimeSeries{one}}),
		v2: pack(t, &writev2.Request{Symbols: []string{"", "__name__", "x"}, Timeseries: []writev2.TimeSeries{two}}),
	} {
		g := newRig(t, Limits{})
		a := g.post(ct, body)
		if a.status != http.StatusNoContent || ct == v2 && a.header.Get(writtenSamples) != "5" {
			t.Errorf("%s: %+v", ct, a)
		}
		if got := g.query("x", t0); got != `{__name__="x", cluster="prod"} 1` || g.refused(reasonConflict) != 1 {
			t.Errorf("%s: got %s, %v conflicts", ct, got, g.refused(reasonConflict))
		}
	}
}

func TestLabelLimitsAndReservedNames(t *testing.T) {
	versions(t, func(t *testing.T, ct string, body func(testing.TB, ...sample) []byte) {
		g := newRig(t, Limits{LabelsPerSeries: 4, LabelNameBytes: 20, LabelValueBytes: 30})
		a := g.post(ct, body(t,
			smp(1, t0, "__name__", "x"),
			smp(1, t0, "__name__", "many", "a", "1", "b", "2", "c", "3", "d", "4"),
			smp(1, t0, "__name__", "long", "a", strings.Repeat("v", 31)),
			smp(1, t0, "__name__", "name", strings.Repeat("n", 21), "v"),
			smp(1, t0, "__name__", rollup.CoverageRatio),
			smp(1, t0, "__name__", catalogue.WorkloadCPU, "workload", "w"),
			smp(1, t0, "__name__", "y")))
		for _, want := range []string{"2 samples stored", "3 refused (labels)", "2 refused (reserved)", rollup.CoverageRatio, "the limit is 4"} {
			if !strings.Contains(a.text, want) {
				t.Errorf("%q lacks %q", a.text, want)
			}
		}
		if a.status != 400 || g.everything() != 2 {
			t.Errorf("got %d, %d stored", a.status, g.everything())
		}
	})
}

func TestActiveSeriesLimit(t *testing.T) {
	versions(t, func(t *testing.T, ct string, body func(testing.TB, ...sample) []byte) {
		g := newRig(t, Limits{SeriesPerCluster: 2})
		x := func(n string, v float64, at time.Time) sample { return smp(v, at, "__name__", "x", "n", n) }
		a := g.post(ct, body(t, x("1", 1, t0), x("2", 1, t0), x("3", 1, t0)))
		if a.status != 400 || !strings.Contains(a.text, "limit of 2 active series") || !strings.Contains(a.text, `n="3"`) || g.everything() != 2 {
			t.Fatalf("got %+v, %d stored", a, g.everything())
		}
		// One ends by its stale marker: there is a place.
		stale := math.Float64frombits(value.StaleNaN)
		if a := g.post(ct, body(t, x("1", stale, t0.Add(step)), x("2", 1, t0.Add(step)), x("3", 1, t0.Add(step)))); a.status != http.StatusNoContent {
			t.Fatalf("got %+v", a)
		}
		if got := g.query(`count(x)`, t0.Add(step)); got != `{} 2` {
			t.Errorf("got %s: the stale marker did not pass", got)
		}
		// It comes again: there is none.
		if a := g.post(ct, body(t, x("1", 1, t0.Add(2*step)))); a.status != 400 {
			t.Fatalf("got %+v", a)
		}
		// The others are idle long enough: there is.
		g.now = t0.Add(idleAfter + sweepEvery)
		if a := g.post(ct, body(t, x("2", 1, g.now))); a.status != http.StatusNoContent {
			t.Fatal(a)
		}
		if a := g.post(ct, body(t, x("1", 1, g.now))); a.status != http.StatusNoContent {
			t.Errorf("got %+v", a)
		}
		if n := testutil.ToFloat64(g.i.metrics.active.WithLabelValues("prod")); n != 2 {
			t.Errorf("%v active", n)
		}
	})
}

// A series that is forgotten at the moment at which it comes again keeps no place of the limit.
func TestASeriesThatIsForgottenAndComesAgainKeepsNoPlace(t *testing.T) {
	for name, marked := range map[string]bool{"it had ended": true, "it was silent": false} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, Limits{})
			v := 1.0
			if marked {
				v = math.Float64frombits(value.StaleNaN)
			}
			if a := g.post(v1, bodyV1(t, smp(v, t0, "__name__", "x"))); a.status != http.StatusNoContent {
				t.Fatal(a)
			}
			c := g.i.cluster("prod")
			var found *series
			for i := range c.shards {
				for _, s := range c.shards[i].series {
					found = s
				}
			}
			g.now = t0.Add(2 * idleAfter)
			g.i.sweep()
			a := g.i.newAppender(t.Context(), &request{i: g.i, c: c, store: g.db})
			if no := a.revive(found); no.reason != "" || c.active.Load() != 0 {
				t.Errorf("%d active, %v", c.active.Load(), no.reason)
			}
			if err := a.rollback(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A tenth of a cluster's pods may be replaced in ten minutes: what they had is not kept as long
// as what is only silent, or came as backlog.
func TestSeriesThatEndedAreForgotten(t *testing.T) {
	g := newRig(t, Limits{})
	g.now = t0.Add(time.Hour)
	x := func(n string, v float64, at time.Time) sample { return smp(v, at, "__name__", "x", "n", n) }
	stale := math.Float64frombits(value.StaleNaN)
	for _, body := range [][]sample{
		{x("ended", 1, g.now.Add(-step)), x("silent", 1, g.now), x("past", 1, t0)},
		{x("ended", stale, g.now), x("past", stale, t0.Add(step))},
	} {
		if a := g.post(v2, bodyV2(t, body...)); a.status != http.StatusNoContent {
			t.Fatal(a)
		}
	}
	kept := func(wait time.Duration) (names []string) {
		g.now = g.now.Add(wait)
		g.i.sweep()
		for i := range g.i.cluster("prod").shards {
			for _, s := range g.i.cluster("prod").shards[i].series {
				names = append(names, s.lset.Get("n"))
			}
		}
		slices.Sort(names)
		return names
	}
	for _, c := range []struct {
		wait time.Duration
		want []string
	}{{endedAfter, []string{"ended", "past", "silent"}}, {sweepEvery, []string{"past", "silent"}}, {idleAfter, nil}} {
		if got := kept(c.wait); !slices.Equal(got, c.want) {
			t.Errorf("%v are kept %v on, want %v", got, c.wait, c.want)
		}
	}
	if n := testutil.ToFloat64(g.i.metrics.active.WithLabelValues("prod")); n != 0 {
		t.Errorf("%v active", n)
	}
}

func TestTooManySeriesInOneRequestStoresNothing(t *testing.T) {
	versions(t, func(t *testing.T, ct string, body func(testing.TB, ...sample) []byte) {
		g := newRig(t, Limits{SeriesPerRequest: 2})
		a := g.post(ct, body(t, smp(1, t0, "__name__", "a"), smp(1, t0, "__name__", "b"), smp(1, t0, "__name__", "c")))
		if a.status != http.StatusRequestEntityTooLarge || !strings.Contains(a.text, "2 series") || g.everything() != 0 {
			t.Errorf("got %+v, %d stored", a, g.everything())
		}
	})
}

func TestReadOnlyStoreAnswers503BeforeAnythingIsRead(t *testing.T) {
	g := newRig(t, Limits{})
	g.readOnly = fmt.Errorf("metrics store: 3 MiB free: %w", fault.ErrUnavailable)
	a := g.post(v1, bodyV1(t, smp(1, t0, "__name__", "x")))
	if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || !strings.Contains(a.text, "3 MiB free") || g.everything() != 0 {
		t.Errorf("got %+v", a)
	}
	g.readOnly = nil
	if a := g.post(v1, bodyV1(t, smp(1, t0, "__name__", "x"))); a.status != http.StatusNoContent {
		t.Errorf("after it recovered: %+v", a)
	}
}

// brokenStore fails to commit, as a full disk does.
type brokenStore struct{ guarded }

type brokenAppender struct{ storage.Appender }

func (s brokenStore) Appender(ctx context.Context) storage.Appender {
	return brokenAppender{s.guarded.Appender(ctx)}
}

func (a brokenAppender) Commit() error {
	return errors.Join(fmt.Errorf("no space left: %w", fault.ErrUnavailable), a.Rollback())
}

func TestCommitThatFailsIs503AndTellsNobody(t *testing.T) {
	versions(t, func(t *testing.T, ct string, body func(testing.TB, ...sample) []byte) {
		g := newRig(t, Limits{})
		g.i.opts.Store = brokenStore{guarded{g.db, g}}
		a := g.post(ct, body(t, smp(1, t0, "__name__", "x")), wire.HeaderSender, "all", wire.HeaderInterval, "30", wire.HeaderComplete, wire.FormatMillis(t0))
		if a.status != http.StatusServiceUnavailable || !strings.Contains(a.text, "no space left") || len(g.arrivals) != 0 {
			t.Errorf("got %+v, arrivals %v", a, g.arrivals)
		}
		if ct == v2 && a.header.Get(writtenSamples) != "0" {
			t.Errorf("told %q samples written", a.header.Get(writtenSamples))
		}
	})
}

// slowBody holds a request until it is closed.
type slowBody struct {
	reading chan struct{}
	release chan struct{}
	once    sync.Once
}

func (b *slowBody) Read([]byte) (int, error) {
	b.once.Do(func() { close(b.reading) })
	<-b.release
	return 0, io.EOF
}

func (b *slowBody) Close() error { return nil }

func TestMoreRequestsThanPlacesAreToldToComeAgain(t *testing.T) {
	g := newRig(t, Limits{Requests: 2, BacklogRequests: 1, BacklogWait: time.Millisecond})
	var working sync.WaitGroup
	b := g.occupy(&working)
	good := bodyV1(t, smp(1, t0, "__name__", "x"))
	if a := g.post(v1, good, wire.HeaderBacklog, "true"); a.status != http.StatusTooManyRequests || a.header.Get("Retry-After") == "" || !strings.Contains(a.text, "backlog") {
		t.Errorf("a second backlog: %+v", a)
	}
	if a := g.post(v1, good); a.status != http.StatusNoContent {
		t.Errorf("live beside a backlog: %+v", a)
	}
	close(b.release)
	working.Wait()
	if a := g.post(v1, good, wire.HeaderBacklog, "true"); a.status != http.StatusNoContent {
		t.Errorf("afterwards: %+v", a)
	}
}

// occupy has a request of backlog take a place until its body is let go.
func (g *rig) occupy(working *sync.WaitGroup) *slowBody {
	b := &slowBody{reading: make(chan struct{}), release: make(chan struct{})}
	working.Go(func() {
		r := httptest.NewRequest(http.MethodPost, "/", b)
		r.Header.Set(wire.HeaderBacklog, "true")
		g.i.ServeWrite(httptest.NewRecorder(), r, "prod")
	})
	<-b.reading
	return b
}

func TestBacklogWaitsForItsTurn(t *testing.T) {
	g := newRig(t, Limits{BacklogRequests: 1, BacklogWaiting: 1, BacklogWait: time.Minute})
	var working sync.WaitGroup
	b := g.occupy(&working)
	good := bodyV1(t, smp(1, t0, "__name__", "x"))
	working.Go(func() {
		if a := g.post(v1, good, wire.HeaderBacklog, "true"); a.status != http.StatusNoContent {
			t.Errorf("the one that waited: %+v", a)
		}
	})
	for deadline := time.Now().Add(time.Minute); g.i.backlog.length() != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody waits")
		}
	}
	if a := g.post(v1, good, wire.HeaderBacklog, "true"); a.status != http.StatusTooManyRequests {
		t.Errorf("one more than may wait: %+v", a)
	}
	close(b.release)
	working.Wait()
	if n := g.i.backlog.length(); n != 0 {
		t.Errorf("%d still wait", n)
	}
}

// An upload that stalls, as all of a site do once its network is cut, does not keep its place from others.
func TestAStalledUploadGivesItsPlaceBack(t *testing.T) {
	for name, header := range map[string]string{"backlog": wire.HeaderBacklog, "live": wire.HeaderSender} {
		t.Run(name, func(t *testing.T) { stalledUpload(t, header) })
	}
}

func stalledUpload(t *testing.T, header string) {
	g := newRig(t, Limits{Requests: 1, BacklogRequests: 1, BacklogWait: time.Minute, Upload: 50 * time.Millisecond})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { g.i.ServeWrite(w, r, "prod") }))
	defer server.Close()
	good := bodyV1(t, smp(1, t0, "__name__", "x"))
	send := func(body io.Reader) (status int, text string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, body)
		if err != nil {
			t.Fatal(err)
		}
		r.ContentLength = int64(len(good))
		r.Header.Set("Content-Type", v1)
		r.Header.Set(header, "true")
		res, err := server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		raw, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(raw)
	}
	part, more := io.Pipe()
	defer more.Close()
	go func() { _, _ = more.Write(good[:1]) }()
	if status, text := send(part); status != http.StatusRequestTimeout || !strings.Contains(text, "did not arrive within 50ms") ||
		testutil.ToFloat64(g.i.metrics.throttled.WithLabelValues("prod", throttledUpload)) != 1 {
		t.Errorf("got %d %s", status, text)
	}
	g.i.limits.Upload = time.Minute // however slow the machine is
	if status, text := send(bytes.NewReader(good)); status != http.StatusNoContent {
		t.Errorf("the next one: %d %s", status, text)
	}
}

// Where an interval comes in parts, those before the last do not say how far they go:
// they have the turn of the one before.
func TestPartsOfBacklogGoByTheIntervalBefore(t *testing.T) {
	g := newRig(t, Limits{SendersPerCluster: 2, BacklogRequests: 1, BacklogWaiting: 1, BacklogWait: time.Minute})
	good := bodyV1(t, smp(1, t0, "__name__", "x"))
	far := func(sender string, through time.Time) time.Time {
		return g.i.cluster("prod").far(about{sender: sender, through: through})
	}
	send := func(status int, sender string, through time.Time, backlog string) {
		t.Helper()
		headers := []string{wire.HeaderSender, sender, wire.HeaderInterval, "30", wire.HeaderBacklog, backlog}
		if !through.IsZero() {
			headers = append(headers, wire.HeaderComplete, wire.FormatMillis(through))
		}
		if a := g.post(v1, good, headers...); a.status != status {
			t.Fatalf("%s: %+v", sender, a)
		}
	}
	first, second := t0.Add(-time.Hour), t0.Add(-time.Hour+30*time.Second)
	send(http.StatusNoContent, "all", time.Time{}, "true")
	if got := far("all", time.Time{}); !got.IsZero() {
		t.Errorf("goes up to %s before it said so", got)
	}
	send(http.StatusNoContent, "all", first, "true")
	send(http.StatusNoContent, "all", t0, "false") // live, beside it
	send(http.StatusNoContent, "all", time.Time{}, "true")
	if got := far("all", time.Time{}); !got.Equal(first) {
		t.Errorf("goes up to %s, want %s", got, first)
	}
	if got := far("all", second); !got.Equal(second) {
		t.Errorf("goes up to %s, but says %s", got, second)
	}
	send(http.StatusNoContent, "node/a", first, "true")
	send(http.StatusBadRequest, "node/b", first, "true")
	if got := far("node/b", time.Time{}); !got.IsZero() || len(g.i.cluster("prod").senders) != 2 {
		t.Errorf("one that is refused is remembered: %s", got)
	}
	var working sync.WaitGroup
	b := g.occupy(&working)
	working.Go(func() {
		if a := g.post(v1, good, wire.HeaderSender, "all", wire.HeaderBacklog, "true"); a.status != http.StatusNoContent {
			t.Errorf("the one that waited: %+v", a)
		}
	})
	for deadline := time.Now().Add(time.Minute); g.i.backlog.length() != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody waits")
		}
	}
	g.i.backlog.mu.Lock()
	if got := g.i.backlog.waiting[0].through; !got.Equal(first) {
		t.Errorf("waits as one that goes up to %s, want %s", got, first)
	}
	g.i.backlog.mu.Unlock()
	close(b.release)
	working.Wait()
}

func TestSenderLimit(t *testing.T) {
	g := newRig(t, Limits{SendersPerCluster: 1})
	good := bodyV1(t, smp(1, t0, "__name__", "x"))
	if a := g.post(v1, good, wire.HeaderSender, "node/a"); a.status != http.StatusNoContent {
		t.Fatal(a)
	}
	if a := g.post(v1, good, wire.HeaderSender, "node/b"); a.status != 400 || !strings.Contains(a.text, "1 senders") {
		t.Errorf("got %+v", a)
	}
	// One that is gone for a day leaves its place to another one.
	g.now = g.now.Add(senderAfter + time.Second)
	g.i.sweep()
	if a := g.post(v1, good, wire.HeaderSender, "node/b"); a.status != http.StatusNoContent {
		t.Errorf("got %+v", a)
	}
	if st, err := g.i.Status("prod", 1); err != nil || st.Senders != 1 {
		t.Errorf("%+v, %v", st, err)
	}
}

// podSeries are the samples of one pod at a time.
func podSeries(at time.Time, workload, pod string, cpu float64) []sample {
	ls := func(name string) []string {
		return []string{"__name__", name, "namespace", "shop", "workload_type", "deployment", "workload", workload, "pod", pod, "node", "n1"}
	}
	return []sample{smp(cpu, at, ls(catalogue.PodCPU)...), smp(cpu*1e9, at, ls(catalogue.PodMem)...)}
}

func TestRollupsFromTheStreamAndArrivals(t *testing.T) {
	versions(t, func(t *testing.T, ct string, body func(testing.TB, ...sample) []byte) {
		g := newRig(t, Limits{})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- g.rollups.Run(ctx) }()
		ss := append(podSeries(t0, "cart", "cart-1", 0.5), podSeries(t0, "cart", "cart-2", 0.25)...)
		ss = append(ss, smp(3, t0, "__name__", catalogue.ClusterCPUTotal))
		headers := []string{wire.HeaderSender, "all", wire.HeaderInterval, "30", wire.HeaderComplete, wire.FormatMillis(t0)}
		for range 2 { // a resend
			if a := g.post(ct, body(t, ss...), headers...); a.status != http.StatusNoContent {
				t.Fatal(a)
			}
		}
		deadline := time.Now().Add(60 * time.Second)
		for g.query(rollup.CoverageRatio, t0) == "" {
			if time.Now().After(deadline) {
				t.Fatal("no rollup within a minute")
			}
			time.Sleep(time.Millisecond)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		want := `{__name__="k8s_workload_cpu_core_used", cluster="prod", namespace="shop", workload="cart", workload_type="deployment"} 0.75`
		if got := g.query(catalogue.WorkloadCPU, t0); got != want {
			t.Errorf("got %s", got)
		}
		if got := g.query(catalogue.ClusterCPUUsedPercent, t0); got != `{__name__="k8s_cluster_rate_cpu_core_used_cluster", cluster="prod"} 25` {
			t.Errorf("got %s", got)
		}
		if got := g.query(rollup.SenderInterval, t0); got != `{__name__="crowsnest_sender_interval_seconds", cluster="prod", sender="all"} 30` {
			t.Errorf("got %s", got)
		}
		// A change between two grid points arrives without a time.
		if a := g.post(ct, body(t, smp(0, t0.Add(7*time.Second), "__name__", catalogue.PodReady, "pod", "cart-1")), wire.HeaderSender, "all", wire.HeaderInterval, "30"); a.status != http.StatusNoContent {
			t.Fatal(a)
		}
		full := Arrival{Cluster: "prod", Sender: "all", Through: t0, Interval: step, ReceivedAt: t0}
		change := full
		change.Through = time.Time{}
		change.Changed, change.Newest = []labels.Labels{labels.FromStrings("__name__", catalogue.PodReady, "cluster", "prod", "pod", "cart-1")}, t0.Add(7*time.Second)
		if !reflect.DeepEqual(g.arrivals, []Arrival{full, full, change}) {
			t.Errorf("arrivals %+v", g.arrivals)
		}
	})
}

// Several intervals of a backlog in one request are as one request for each.
func TestIntervalsThatComeTogether(t *testing.T) {
	at := func(n int) time.Time { return t0.Add(time.Duration(n) * step) }
	samples := func(n int) []sample { return podSeries(at(n), "cart", "cart-1", float64(n)) }
	headers := func(n int, earlier ...time.Time) []string {
		return []string{
			wire.HeaderSender, "node/n1", wire.HeaderInterval, "30", wire.HeaderBacklog, "true",
			wire.HeaderComplete, wire.FormatMillis(at(n)), wire.HeaderEarlier, wire.FormatEarlier(earlier), wire.HeaderClockOffset, "45.000",
		}
	}
	arrived := map[string][]Arrival{}
	for _, how := range []string{"together", "one by one"} {
		g := newRig(t, Limits{})
		g.now = t0.Add(time.Hour)
		if how == "together" {
			ss := slices.Concat(samples(0), samples(1), samples(2), samples(4))
			if a := g.post(v2, bodyV2(t, ss...), headers(4, at(0), at(1), at(2))...); a.status != http.StatusNoContent {
				t.Fatal(a)
			}
		} else {
			for _, n := range []int{0, 1, 2, 4} {
				if a := g.post(v2, bodyV2(t, samples(n)...), headers(n)...); a.status != http.StatusNoContent {
					t.Fatal(a)
				}
			}
		}
		arrived[how] = g.arrivals
		q := fmt.Sprintf("count_over_time(%s[10m])", rollup.SenderInterval)
		if got := g.query(q, at(5)); got != `{cluster="prod", sender="node/n1"} 4` {
			t.Errorf("%s: words %s", how, got)
		}
		if got := g.query(fmt.Sprintf("sum_over_time(%s[10m])", clockOffset), at(5)); got != `{cluster="prod", sender="node/n1"} 180` {
			t.Errorf("%s: clocks %s", how, got)
		}
	}
	if len(arrived["together"]) != 4 || !reflect.DeepEqual(arrived["together"], arrived["one by one"]) {
		t.Errorf("got %+v, want %+v", arrived["together"], arrived["one by one"])
	}
}

// What comes of a point by the import way is summed when its block is made, whatever
// others reported of it here: of each of the points of a request.
func TestEachIntervalThatIsImportedIsLeftToItsBlock(t *testing.T) {
	at := func(n int) time.Time { return t0.Add(time.Duration(n) * step) }
	g := newRig(t, Limits{})
	g.i.opts.History = guarded{g.db, g}
	send := func(history, backlog bool, sender string, ns ...int) {
		t.Helper()
		var ss []sample
		var points []time.Time
		for _, n := range ns {
			ss, points = append(ss, podSeries(at(n), "cart", sender, 1)...), append(points, at(n))
		}
		r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(bodyV2(t, ss...)))
		r.Header.Set("Content-Type", v2)
		r.Header.Set(wire.HeaderSender, "node/"+sender)
		r.Header.Set(wire.HeaderInterval, "30")
		r.Header.Set(wire.HeaderBacklog, fmt.Sprint(backlog))
		r.Header.Set(wire.HeaderComplete, wire.FormatMillis(points[len(points)-1]))
		if len(points) > 1 {
			r.Header.Set(wire.HeaderEarlier, wire.FormatEarlier(points[:len(points)-1]))
		}
		w := httptest.NewRecorder()
		if g.i.serveTo(w, r, "prod", history); w.Code != http.StatusNoContent {
			t.Fatal(w.Code, w.Body)
		}
	}
	coverage := func(n int) string { return g.query(fmt.Sprintf("max_over_time(%s[1s])", rollup.CoverageRatio), at(n)) }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.rollups.Run(ctx) }()
	send(false, false, "a", 0)
	send(false, false, "b", 0)
	for deadline := time.Now().Add(60 * time.Second); coverage(0) == ""; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no rollup within a minute")
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	g.now = t0.Add(time.Hour)
	send(false, true, "a", 1, 2)
	send(true, true, "b", 1, 2)
	send(false, true, "a", 3)
	send(false, true, "b", 3)
	for range 5 {
		g.now = g.now.Add(time.Minute)
		g.rollups.Advance(t.Context())
	}
	if got := coverage(3); got != `{cluster="prod"} 1` {
		t.Errorf("what came by the ordinary way: %q", got)
	}
	for _, n := range []int{1, 2} {
		if got := coverage(n); got != "" {
			t.Errorf("point %d was written without what was imported: %s", n, got)
		}
	}
}

func TestEarlierPointsThatMeanNothing(t *testing.T) {
	g := newRig(t, Limits{})
	g.now = t0.Add(time.Hour)
	many := make([]time.Time, wire.MaxEarlier+1)
	for n := range many {
		many[n] = t0.Add(time.Duration(n-len(many)) * step)
	}
	live := wire.FormatMillis(t0.Add(-step))
	for name, c := range map[string]struct{ earlier, through, backlog string }{
		"no numbers":         {"a,b", wire.FormatMillis(t0), "true"},
		"off the grid":       {wire.FormatMillis(t0.Add(-step + time.Second)), wire.FormatMillis(t0), "true"},
		"not before":         {wire.FormatMillis(t0), wire.FormatMillis(t0), "true"},
		"not in their order": {wire.FormatEarlier([]time.Time{t0.Add(-step), t0.Add(-2 * step)}), wire.FormatMillis(t0), "true"},
		"before all time":    {"0", wire.FormatMillis(t0), "true"},
		"too many":           {wire.FormatEarlier(many), wire.FormatMillis(t0), "true"},
		"live":               {live, wire.FormatMillis(t0), ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := g.post(v2, bodyV2(t, podSeries(t0, "cart", "cart-1", 1)...), wire.HeaderSender, "all", wire.HeaderInterval, "30",
				wire.HeaderBacklog, c.backlog, wire.HeaderComplete, c.through, wire.HeaderEarlier, c.earlier)
			if a.status != http.StatusBadRequest || !strings.Contains(a.text, wire.HeaderEarlier) {
				t.Errorf("got %+v", a)
			}
		})
	}
	if n := g.everything(); n != 0 {
		t.Errorf("%d samples stored", n)
	}
}

// What is older than the server takes comes again by the import way, which sums
// what has no sums yet. So its sender must not count as having reported here,
// though the store, whose newest sample is behind the clock, would still take its
// word.
func TestARefusedIntervalIsNotReported(t *testing.T) {
	g := newRig(t, Limits{})
	post := func(at time.Time) answer {
		return g.post(v2, bodyV2(t, podSeries(at, "cart", "cart-1", 0.5)...), wire.HeaderSender, "all", wire.HeaderInterval, "30", wire.HeaderComplete, wire.FormatMillis(at))
	}
	if a := post(t0); a.status != http.StatusNoContent {
		t.Fatal(a)
	}
	g.now = t0.Add(20 * time.Second)
	old := t0.Add(-48 * time.Hour)
	if a := post(old); a.status != http.StatusBadRequest || !strings.Contains(a.text, "2 refused (too_old)") {
		t.Fatalf("got %+v", a)
	}
	if got := g.query(rollup.SenderInterval, old); got != "" {
		t.Errorf("its word is stored: %s", got)
	}
	for _, a := range g.arrivals[1:] {
		t.Errorf("arrived %+v", a)
	}
}

func TestOneClustersSeriesAreNotAnothers(t *testing.T) {
	g := newRig(t, Limits{SeriesPerCluster: 1})
	body := bodyV1(t, smp(1, t0, "__name__", "x"))
	for _, c := range []string{"one", "two"} {
		r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
		w := httptest.NewRecorder()
		if g.i.ServeWrite(w, r, c); w.Code != http.StatusNoContent {
			t.Errorf("%s: %d %s", c, w.Code, w.Body)
		}
	}
	if got := g.query("count by (cluster) (x)", t0); !strings.Contains(got, "one") || !strings.Contains(got, "two") {
		t.Errorf("got %s", got)
	}
}

func TestManySendersAtOnce(t *testing.T) {
	g := newRig(t, Limits{Requests: 100})
	var wg sync.WaitGroup
	const senders, rounds = 8, 10
	for n := range senders {
		wg.Go(func() {
			for round := range rounds {
				at := t0.Add(time.Duration(round) * time.Second)
				ss := append(podSeries(at, "w", fmt.Sprint("p", n), 1), smp(1, at, "__name__", "shared", "round", fmt.Sprint(round)))
				if a := g.post(v2, bodyV2(t, ss...), wire.HeaderSender, fmt.Sprint("node/", n), wire.HeaderInterval, "1", wire.HeaderComplete, wire.FormatMillis(at)); a.status != http.StatusNoContent {
					t.Errorf("%+v", a)
				}
			}
		})
	}
	wg.Wait()
	if got := g.i.cluster("prod").active.Load(); got != senders*2+rounds {
		t.Errorf("%d active series, want %d", got, senders*2+rounds)
	}
	if got := g.query(`sum(count_over_time(k8s_pod_cpu_core_used[1m]))`, t0.Add(20*time.Second)); got != fmt.Sprintf("{} %d", senders*rounds) {
		t.Errorf("got %s", got)
	}
}

func TestOptionsAndSelfMetrics(t *testing.T) {
	_, err := New(Options{Limits: Limits{Requests: -1, Ahead: time.Hour, DecompressedBytes: 1 << 30}})
	for _, want := range []string{"Store", "Requests", "Ahead", "DecompressedBytes"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to name %s", err, want)
		}
	}
	reg := prometheus.NewRegistry()
	m := newMetrics(reg)
	m.samples.WithLabelValues("a").Inc()
	m.refused.WithLabelValues("a", reasonFuture).Inc()
	m.bytes.WithLabelValues("a").Inc()
	m.active.WithLabelValues("a").Set(1)
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
}

// FuzzServeWrite sends bodies that are anything, as either version, as they are and
// compressed in either way: nothing may panic, and only what was understood is stored.
func FuzzServeWrite(f *testing.F) {
	g := newRig(f, Limits{CompressedBytes: 64 << 10, DecompressedBytes: 256 << 10, SeriesPerCluster: 1000})
	raw := func(packed []byte) []byte {
		out, err := snappy.Decode(nil, packed)
		if err != nil {
			f.Fatal(err)
		}
		return out
	}
	const asIs, asSnappy, asZstd = 0, 1, 2
	f.Add(raw(bodyV1(f, podSeries(t0, "w", "p", 1)...)), false, uint8(asSnappy))
	f.Add(raw(bodyV2(f, podSeries(t0, "w", "p", 1)...)), true, uint8(asZstd))
	one, two := all(f)
	for n, h := range []*histogram.Histogram{tsdbutil.GenerateTestHistogram(2), tsdbutil.GenerateTestCustomBucketsHistogram(2)} {
		f.Add(raw(histogramBody(f, v1, "h", t0, h, nil)), false, uint8(asSnappy+n))
		f.Add(raw(histogramBody(f, v2, "h", t0, h, nil)), true, uint8(asSnappy+n))
	}
	f.Add(raw(histogramBody(f, v1, "f", t0, nil, tsdbutil.GenerateTestFloatHistogram(2))), false, uint8(asZstd))
	f.Add(raw(histogramBody(f, v2, "f", t0, nil, tsdbutil.GenerateTestFloatHistogram(2))), true, uint8(asZstd))
	f.Add(raw(pack(f, &prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{
		Labels: []prompb.Label{{Name: "__name__", Value: "e"}}, Samples: []prompb.Sample{{Value: 1, Timestamp: t0.UnixMilli()}},
		Exemplars: []prompb.Exemplar{{Labels: []prompb.Label{{Name: "trace_id", Value: "a"}}, Value: 1, Timestamp: t0.UnixMilli()}},
	}}})), false, uint8(asSnappy))
	f.Add(raw(pack(f, &writev2.Request{Symbols: []string{"", "__name__", "e", "trace_id", "a"}, Timeseries: []writev2.TimeSeries{{
		LabelsRefs: []uint32{1, 2}, Samples: []writev2.Sample{{Value: 1, Timestamp: t0.UnixMilli()}},
		Exemplars: []writev2.Exemplar{{LabelsRefs: []uint32{3, 4}, Value: 1, Timestamp: t0.UnixMilli()}},
	}}})), true, uint8(asSnappy))
	f.Add(one, false, uint8(asZstd))
	f.Add(two, true, uint8(asSnappy))
	f.Add(packed(f, two), true, uint8(asIs))
	f.Add([]byte("not protobuf"), true, uint8(asSnappy))
	f.Add([]byte("not snappy"), false, uint8(asIs))
	f.Fuzz(func(t *testing.T, body []byte, two bool, how uint8) {
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		switch how % 4 {
		case asSnappy:
			body = snappy.Encode(nil, body)
		case asZstd:
			body = packed(t, body)
			r.Header.Set("Content-Encoding", "zstd")
		case 3: // not compressed, but said to be
			r.Header.Set("Content-Encoding", "zstd")
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		r.Header.Set("Content-Type", v1)
		if two {
			r.Header.Set("Content-Type", v2)
		}
		r.Header.Set(wire.HeaderSender, "all")
		r.Header.Set(wire.HeaderInterval, "30")
		r.Header.Set(wire.HeaderComplete, wire.FormatMillis(t0))
		w := httptest.NewRecorder()
		g.i.ServeWrite(w, r, "prod")
		switch w.Code {
		case 204, 400, 413:
		default:
			t.Errorf("answered %d: %s", w.Code, w.Body)
		}
	})
}

// BenchmarkIngest sends what 1,000 pods are each interval, over HTTP into the
// log; rollups included. It reports samples per second of CPU of this process,
// the sender's included, since both are in it; the body is made beforehand.
// "Prometheus" is its own receiver on the same store and stream, without cluster
// label, limits and rollups.
func BenchmarkIngest(b *testing.B) {
	for _, tc := range []struct {
		name      string
		two, peer bool
	}{{"1.0", false, false}, {"1.0 Prometheus", false, true}, {"2.0", true, false}, {"2.0 Prometheus", true, true}} {
		two := tc.two
		b.Run(tc.name, func(b *testing.B) {
			slog.SetDefault(slog.New(slog.DiscardHandler))
			g := newRig(b, Limits{})
			asPeer := func() {
				if tc.peer {
					g.server.Config.Handler = remote.NewWriteHandler(slog.New(slog.DiscardHandler), prometheus.NewRegistry(), g.db,
						remoteapi.MessageTypes{remoteapi.WriteV1MessageType, remoteapi.WriteV2MessageType}, false, false, false)
				}
			}
			asPeer()
			const pods = 1000
			const rounds = 40
			bodies := make([][]byte, rounds)
			n := 0
			for r := range bodies {
				at := t0.Add(time.Duration(r) * step)
				var ss []sample
				for p := range pods {
					for m := range 12 {
						name := []string{catalogue.PodCPU, catalogue.PodMem, catalogue.PodNetworkReceive, catalogue.PodNetworkTransmit}
						metric := fmt.Sprint("k8s_pod_other_", m)
						if m < len(name) {
							metric = name[m]
						}
						ss = append(ss, smp(float64(p*m+r)/64, at, "__name__", metric, "namespace", fmt.Sprint("ns-", p%20),
							"workload_type", "deployment", "workload", fmt.Sprint("workload-", p/10), "pod", fmt.Sprint("workload-", p/10, "-7c9f6b4d5-", p), "node", fmt.Sprint("node-", p%10)))
					}
				}
				n = len(ss)
				if two {
					bodies[r] = bodyV2(b, ss...)
				} else {
					bodies[r] = bodyV1(b, ss...)
				}
			}
			ct := v1
			if two {
				ct = v2
			}
			send := func(r int) {
				at := t0.Add(time.Duration(r) * step)
				g.now = at
				if a := g.post(ct, bodies[r%rounds], wire.HeaderSender, "all", wire.HeaderInterval, "30", wire.HeaderComplete, wire.FormatMillis(at)); a.status != http.StatusNoContent {
					b.Fatalf("%+v", a)
				}
			}
			send(0)
			done := 0
			cpu := cpuSeconds()
			b.ResetTimer()
			for i := range b.N {
				if i%(rounds-1) == 0 && i > 0 {
					b.StopTimer()
					spent := cpuSeconds()
					g.stop()
					g.dir = b.TempDir()
					g.start(Limits{})
					asPeer()
					send(0)
					cpu += cpuSeconds() - spent
					b.StartTimer()
				}
				send(1 + i%(rounds-1))
				done += n
			}
			b.StopTimer()
			spent := cpuSeconds() - cpu
			b.ReportMetric(float64(done)/spent, "samples/cpu-s")
			b.ReportMetric(spent*1e9/float64(done), "cpu-ns/sample")
		})
	}
}

// Which series follows which is a guess: another order, and series that were
// forgotten meanwhile, make no difference.
func TestSeriesInAnyOrder(t *testing.T) {
	g := newRig(t, Limits{})
	want := 0
	send := func(at time.Time, names ...string) {
		t.Helper()
		g.now = at
		var ss []sample
		for _, n := range names {
			ss = append(ss, smp(float64(at.Unix()), at, "__name__", "m_"+n, "namespace", n))
			want++
		}
		if a := g.post(v2, bodyV2(t, ss...)); a.status != http.StatusNoContent {
			t.Fatalf("%+v", a)
		}
	}
	active := func(n int64) {
		t.Helper()
		if got := g.i.cluster("prod").active.Load(); got != n {
			t.Errorf("%d active series, want %d", got, n)
		}
	}
	send(t0, "a", "b", "c", "d")
	send(t0.Add(step), "a", "b", "c", "d")
	send(t0.Add(2*step), "d", "b", "a", "c", "b2")
	send(t0.Add(3*step), "a", "c", "d")
	active(5)
	for n := 4; n < 100; n++ {
		send(t0.Add(time.Duration(n)*step), "a", "d") // the others are forgotten
	}
	active(2)
	send(t0.Add(100*step), "a", "c", "d", "b", "b2")
	send(t0.Add(101*step), "a", "c", "d", "b", "b2")
	active(5)
	if n := g.everything(); n != want {
		t.Errorf("%d samples, sent %d", n, want)
	}
}

// What a sender calls a series by, references to symbols, means what the symbols are now:
// the same references to others, others to the same, and symbols among the series are
// read anew.
func TestReferencesMeanTheSymbolsOfTheirRequest(t *testing.T) {
	g := newRig(t, Limits{})
	value, at := 0.0, t0
	want := map[string]float64{}
	send := func(symbols []string, rows ...[]uint32) []byte {
		t.Helper()
		at = at.Add(step)
		g.now = at
		req := &writev2.Request{Symbols: symbols}
		for _, refs := range rows {
			value++
			req.Timeseries = append(req.Timeseries, writev2.TimeSeries{LabelsRefs: refs, Samples: []writev2.Sample{{Value: value, Timestamp: at.UnixMilli()}}})
			if len(refs) == 4 {
				want[symbols[refs[1]]+" "+symbols[refs[3]]] = value
			}
		}
		raw, err := req.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	take := func(raw []byte) {
		t.Helper()
		if a := g.post(v2, snappy.Encode(nil, raw)); a.status != http.StatusNoContent {
			t.Fatalf("%+v", a)
		}
		for of, v := range want {
			name, pod, _ := strings.Cut(of, " ")
			if got := g.query(fmt.Sprintf("sum(%s{pod=%q})", name, pod), at); got != fmt.Sprintf("{} %g", v) {
				t.Errorf("%s is %s, want %g", of, got, v)
			}
		}
		clear(want)
	}
	symbols := []string{"", "__name__", "cpu", "pod", "a", "b", "c"}
	a, b, c := []uint32{1, 2, 3, 4}, []uint32{1, 2, 3, 5}, []uint32{1, 2, 3, 6}
	for range 3 {
		take(send(symbols, a, b, c))
	}
	take(send([]string{"", "__name__", "cpu", "pod", "a", "x", "c"}, a, b, c)) // behind the same first one
	take(send([]string{"", "__name__", "cpu", "pod", "b", "c", "d"}, a, b, c))
	take(send([]string{"", "__name__", "mem", "pod", "a", "b", "c"}, a, b, c))
	take(send(symbols, b, a, c))
	take(send(symbols, a, c))
	take(send(symbols, a, b, c))
	// The last symbol stands behind the series that means it.
	for range 2 {
		for _, last := range []string{"y", "z"} {
			raw := send([]string{"", "__name__", "cpu", "pod", "a", last}, a, b)
			tail := protowire.AppendString(protowire.AppendTag(nil, 4, protowire.BytesType), last)
			if !bytes.Contains(raw, tail) {
				t.Fatal("the body has no such symbol")
			}
			take(append(bytes.Replace(raw, tail, nil, 1), tail...))
		}
	}
	if n := g.refused(reasonConflict); n != 0 {
		t.Errorf("%v samples met another one", n)
	}
}
