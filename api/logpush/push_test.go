package logpush

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
	"github.com/crowsnest-dev/crowsnest/storage/logs"
	"github.com/crowsnest-dev/crowsnest/storage/logs/logstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, logstest.Leaks()...) }

var t0 = time.Now().UTC().Truncate(24 * time.Hour).Add(-12 * time.Hour)

var sender = &access.Principal{Kind: access.IngestToken, Name: "alloy", Cluster: "prod"}

func serve(t testing.TB, store Store, who *access.Principal) (*Handler, string) {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	h, err := New(Options{Store: store, Registerer: reg})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+PathLoki, h.ServeLoki)
	mux.HandleFunc("POST "+PathOTLP, h.ServeOTLP)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if who != nil {
			r = r.WithContext(access.With(r.Context(), *who))
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		srv.Close()
		if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
			t.Errorf("metrics: %v %v", problems, err)
		}
	})
	return h, srv.URL
}

func post(t testing.TB, url, contentType, encoding string, body []byte) (status int, answer string, header http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	if encoding != "" {
		req.Header.Set("Content-Encoding", encoding)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(raw), res.Header
}

// stored gives all rows, by their message.
func stored(t testing.TB, s *logs.Store) map[string]logs.Row {
	t.Helper()
	out := map[string]logs.Row{}
	n := 0
	if err := s.Query(t.Context(), logs.Query{Text: "*"}, func(r logs.Row) error { n++; out[strings.Clone(r.Get("_msg"))] = r.Clone(); return nil }); err != nil {
		t.Fatal(err)
	}
	if n != len(out) {
		t.Errorf("%d rows of %d messages", n, len(out))
	}
	return out
}

// field gives a length-delimited field of protobuf.
func field(num protowire.Number, raw []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), raw)
}

func varint(num protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, num, protowire.VarintType), v)
}

func lokiStream(labels string, entries ...[]byte) []byte {
	return field(1, append(field(1, []byte(labels)), slices.Concat(entries...)...))
}

func entry(at time.Time, line string, metadata ...string) []byte {
	raw := field(1, append(varint(1, uint64(at.Unix())), varint(2, uint64(at.Nanosecond()))...))
	raw = append(raw, field(2, []byte(line))...)
	for i := 0; i+1 < len(metadata); i += 2 {
		raw = append(raw, field(3, append(field(1, []byte(metadata[i])), field(2, []byte(metadata[i+1]))...))...)
	}
	return field(2, raw)
}

func TestLokiPush(t *testing.T) {
	s := logstest.Open(t)
	_, url := serve(t, s, sender)
	proto := slices.Concat(
		lokiStream(`{namespace="shop", pod="cart-1", container="app", node_name="n-1", stream="stderr", detected_level="warning", app="cart", cluster="forged"}`,
			entry(t0, "first", "trace_id", "abc"), entry(t0.Add(-24*time.Hour), "a day before")),
		lokiStream(`{k8s_deployment_name="web", stream="events"}`, entry(t0, "no event")))
	status, body, _ := post(t, url+PathLoki, "application/x-protobuf", "", snappy.Encode(nil, proto))
	if status != http.StatusNoContent {
		t.Fatalf("%d %s", status, body)
	}
	inJSON := fmt.Sprintf(`{"streams":[{"stream":{"namespace":"shop","pod":"cart-2","level":"ERROR"},"values":[["%d","in JSON",{"user":7,"lag_ms":5,"deep":{"a":[1]}}],["","without a time"]]}]}`, t0.UnixNano())
	for range 2 { // the same request again is stored once
		if status, body, _ := post(t, url+PathLoki, "application/json; charset=utf-8", "", []byte(inJSON)); status != http.StatusNoContent {
			t.Fatalf("%d %s", status, body)
		}
	}
	rows := stored(t, s)
	for message, want := range map[string]map[string]string{
		"first":          {"cluster": "prod", "namespace": "shop", "pod": "cart-1", "container": "app", "node": "n-1", "stream": "stderr", "level": "warn", "app": "cart", "trace_id": "abc", "field.cluster": "forged", "_time": t0.Format(time.RFC3339Nano)},
		"a day before":   {"pod": "cart-1", "_time": t0.Add(-24 * time.Hour).Format(time.RFC3339Nano)},
		"no event":       {"stream": "loki", "workload_type": "deployment", "workload": "web"},
		"in JSON":        {"level": "error", "user": "7", "log_lag_ms": "5", "lag_ms": "", "deep": `{"a":[1]}`, "stream": "loki", "_time": t0.Format(time.RFC3339Nano)},
		"without a time": {"pod": "cart-2"},
	} {
		for name, value := range want {
			if got := rows[message].Get(name); got != value {
				t.Errorf("%s: %s is %q, want %q", message, name, got, value)
			}
		}
	}
	if at, err := time.Parse(time.RFC3339Nano, rows["without a time"].Get("_time")); err != nil || time.Since(at) > time.Minute {
		t.Errorf("got %v %v", at, err)
	}
}

func manyLabels(n int) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = fmt.Sprintf("l%d=%q", i, fmt.Sprint(i))
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// A push of 10,000 labels is refused with a word on it; the other streams of the
// request are stored.
func TestLokiPushWithTooManyLabels(t *testing.T) {
	s := logstest.Open(t)
	h, url := serve(t, s, sender)
	proto := slices.Concat(lokiStream(manyLabels(10_000), entry(t0, "refused")), lokiStream(`{a="b"}`, entry(t0, "kept")),
		lokiStream(manyLabels(65), entry(t0, "refused too")), lokiStream(manyLabels(64), entry(t0, "kept as well")), lokiStream(`{a=`, entry(t0, "wrong")))
	began := time.Now()
	status, body, _ := post(t, url+PathLoki, "application/x-protobuf", "snappy", snappy.Encode(nil, proto))
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it took %s", took)
	}
	if status != http.StatusBadRequest || !strings.Contains(body, "3 of 5 lines were refused") || !strings.Contains(body, "about 10000 labels") {
		t.Errorf("%d %s", status, body)
	}
	rows := stored(t, s)
	if len(rows) != 2 || rows["kept"] == nil || rows["kept as well"].Get("l63") != "63" {
		t.Errorf("got %v", rows)
	}
	if got := testutil.ToFloat64(h.metrics.dropped.WithLabelValues(droppedLabels)); got != 2 {
		t.Errorf("%v lines were counted", got)
	}
	labels := map[string]string{}
	for i := range 10_000 {
		labels[fmt.Sprint("l", i)] = "x"
	}
	raw, err := json.Marshal(map[string]any{"streams": []any{map[string]any{"stream": labels, "values": [][]string{{fmt.Sprint(t0.UnixNano()), "x"}}}}})
	if err != nil {
		t.Fatal(err)
	}
	if status, body, _ := post(t, url+PathLoki, "application/json", "", raw); status != http.StatusBadRequest || !strings.Contains(body, "10000 labels") {
		t.Errorf("%d %s", status, body)
	}
}

func otlpRequest() plogotlp.ExportRequest {
	in := plog.NewLogs()
	rl := in.ResourceLogs().AppendEmpty()
	for k, v := range map[string]string{"k8s.namespace.name": "shop", "k8s.pod.name": "cart-1", "k8s.container.name": "app", "k8s.deployment.name": "cart", "service.name": "cart"} {
		rl.Resource().Attributes().PutStr(k, v)
	}
	sl := rl.ScopeLogs().AppendEmpty()
	sl.Scope().SetName("lib")
	rec := sl.LogRecords().AppendEmpty()
	rec.SetTimestamp(pcommon.NewTimestampFromTime(t0))
	rec.SetSeverityNumber(plog.SeverityNumberError2)
	rec.Body().SetStr("by OTLP")
	rec.Attributes().PutStr("log.iostream", "stderr")
	rec.Attributes().PutInt("retries", 3)
	rec.SetTraceID(pcommon.TraceID{1})
	rec = sl.LogRecords().AppendEmpty()
	rec.SetObservedTimestamp(pcommon.NewTimestampFromTime(t0))
	rec.SetSeverityText("Warning")
	rec.Body().SetEmptyMap().PutStr("a", "b")
	many := sl.LogRecords().AppendEmpty()
	many.Body().SetStr("refused")
	for i := range 10_000 {
		many.Attributes().PutStr(fmt.Sprint(i), "x")
	}
	wide := in.ResourceLogs().AppendEmpty()
	for i := range 100 {
		wide.Resource().Attributes().PutStr(fmt.Sprint(i), "x")
	}
	wide.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty().Body().SetStr("refused too")
	return plogotlp.NewExportRequestFromLogs(in)
}

func TestOTLP(t *testing.T) {
	for _, contentType := range []string{"application/x-protobuf", "application/json"} {
		s := logstest.Open(t)
		_, url := serve(t, s, sender)
		req := otlpRequest()
		raw, err := req.MarshalProto()
		if contentType == "application/json" {
			raw, err = req.MarshalJSON()
		}
		if err != nil {
			t.Fatal(err)
		}
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		if _, err := z.Write(raw); err != nil || z.Close() != nil {
			t.Fatal(err)
		}
		for range 2 {
			status, body, header := post(t, url+PathOTLP, contentType, "gzip", packed.Bytes())
			out := plogotlp.NewExportResponse()
			if contentType == "application/json" {
				err = out.UnmarshalJSON([]byte(body))
			} else {
				err = out.UnmarshalProto([]byte(body))
			}
			if status != http.StatusOK || err != nil || header.Get("Content-Type") != contentType || out.PartialSuccess().RejectedLogRecords() != 2 || !strings.Contains(out.PartialSuccess().ErrorMessage(), "10000 attributes") {
				t.Fatalf("%d %v %q %s", status, err, body, out.PartialSuccess().ErrorMessage())
			}
		}
		rows := stored(t, s)
		for message, want := range map[string]map[string]string{
			"by OTLP":   {"cluster": "prod", "namespace": "shop", "pod": "cart-1", "container": "app", "workload_type": "deployment", "workload": "cart", "stream": "stderr", "level": "error", "service.name": "cart", "retries": "3", "scope.name": "lib", "trace_id": "01000000000000000000000000000000"},
			`{"a":"b"}`: {"stream": "otlp", "level": "warn", "_time": t0.Format(time.RFC3339Nano)},
		} {
			for name, value := range want {
				if got := rows[message].Get(name); got != value {
					t.Errorf("%s: %s: %s is %q, want %q", contentType, message, name, got, value)
				}
			}
		}
		if len(rows) != 2 {
			t.Errorf("got %v", rows)
		}
	}
}

type storeFunc func(ctx context.Context, cluster string, b *wire.LogBatch) error

func (f storeFunc) Append(ctx context.Context, cluster string, b *wire.LogBatch) error {
	return f(ctx, cluster, b)
}

func TestWhatIsRefused(t *testing.T) {
	fine := storeFunc(func(context.Context, string, *wire.LogBatch) error { return nil })
	away := storeFunc(func(context.Context, string, *wire.LogBatch) error {
		return fmt.Errorf("disk full: %w", fault.ErrUnavailable)
	})
	line := lokiStream(`{a="b"}`, entry(t0, "x"))
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	if _, err := z.Write(make([]byte, maxBody+1)); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	deep := field(1, []byte("x"))
	for range 2000 {
		if deep = field(5, field(1, deep)); len(deep) > maxBody/2 {
			break
		}
	}
	older := field(1, field(1000, field(2, field(5, deep))))
	deep = field(1, field(2, field(2, field(5, deep))))
	const loki, otlp, proto, inJSON = PathLoki, PathOTLP, "application/x-protobuf", "application/json"
	for name, tc := range map[string]struct {
		store         Store
		who           *access.Principal
		path, ct, enc string
		body          []byte
		status        int
		want          string
	}{
		"nobody":             {fine, nil, loki, proto, "", snappy.Encode(nil, line), 401, ""},
		"a reader":           {fine, &access.Principal{Kind: access.APIToken}, otlp, proto, "", nil, 403, "ingest token"},
		"no snappy":          {fine, sender, loki, proto, "", []byte("plain"), 400, "cannot be read"},
		"a lie of a length":  {fine, sender, loki, proto, "", []byte{0xff, 0xff, 0xff, 0xff, 0x0f, 1}, 413, "bytes"},
		"no protobuf":        {fine, sender, loki, proto, "", snappy.Encode(nil, []byte{0x0a, 0xff}), 400, "protobuf"},
		"no JSON":            {fine, sender, loki, inJSON, "", []byte(`{"streams":[`), 400, "JSON"},
		"a wrong time":       {fine, sender, loki, inJSON, "", []byte(`{"streams":[{"stream":{},"values":[["noon","x"]]}]}`), 400, "streams[0].values[0]"},
		"a bomb":             {fine, sender, otlp, inJSON, "gzip", bomb.Bytes(), 413, "bytes"},
		"deep JSON":          {fine, sender, otlp, inJSON, "", []byte(strings.Repeat(`{"a":[`, 100_000)), 400, "nested"},
		"deep protobuf":      {fine, sender, otlp, proto, "", deep, 400, "nested"},
		"deep, of old":       {fine, sender, otlp, proto, "", older, 400, "nested"},
		"too large":          {fine, sender, otlp, proto, "", make([]byte, maxBody+1), 413, "bytes"},
		"an encoding":        {fine, sender, otlp, proto, "br", nil, 400, "br"},
		"a type":             {fine, sender, otlp, "text/plain", "", nil, 400, "text/plain"},
		"the store is away":  {away, sender, loki, proto, "", snappy.Encode(nil, line), 503, "disk full"},
		"away, told by OTLP": {away, sender, otlp, inJSON, "", []byte(`{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"x"}}]}]}]}`), 503, "disk full"},
		"nothing":            {away, sender, loki, proto, "", snappy.Encode(nil, nil), 204, ""},
	} {
		_, url := serve(t, tc.store, tc.who)
		status, body, _ := post(t, url+tc.path, tc.ct, tc.enc, tc.body)
		if status != tc.status || !strings.Contains(body, tc.want) {
			t.Errorf("%s: %d %.200q, want %d with %q", name, status, body, tc.status, tc.want)
		}
	}
}

func TestLinesAreCutIntoBatchesThatTheWireTakes(t *testing.T) {
	p := newPushed()
	m, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50_000 {
		at := t0.Add(time.Duration(i%3) * 24 * time.Hour)
		st := wire.LogStream{Stream: "loki", Pod: fmt.Sprint(i % 7)}
		if err := p.add(m, st, at.UnixNano(), strings.Repeat("é", 1+i%1000/999*150_000), nil); err != nil {
			t.Fatal(err)
		}
	}
	n, ids := 0, map[string]bool{}
	for _, b := range p.batches("loki", "id", t0) {
		if err := b.Validate(); err != nil {
			t.Fatal(err)
		}
		n += b.Lines()
		ids[b.ID] = true
	}
	if n != 50_000 || len(ids) != 3 {
		t.Errorf("%d lines in %d batches", n, len(ids))
	}
	for range maxLines {
		err = errors.Join(err, p.add(m, wire.LogStream{Stream: "loki"}, 1, "", nil))
	}
	if !errors.Is(err, fault.ErrTooLarge) {
		t.Errorf("got %v", err)
	}
}

// A request is known again by its batches, whatever the time that its lines without one get.
func TestLinesWithoutATimeAreBatchesOfTheirOwn(t *testing.T) {
	var mu sync.Mutex
	var got []*wire.LogBatch
	h, url := serve(t, storeFunc(func(_ context.Context, _ string, b *wire.LogBatch) error {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, b)
		return b.Validate()
	}), sender)
	var values []string
	for i := range 1000 {
		values = append(values, fmt.Sprintf(`["","%d"]`, i), fmt.Sprintf(`["%d","%d of its own time"]`, t0.Add(time.Duration(i)).UnixNano(), i))
	}
	body := []byte(`{"streams":[{"stream":{"pod":"a"},"values":[` + strings.Join(values, ",") + `]},{"stream":{"pod":"b"},"values":[["","x"]]}]}`)
	var before []string
	for _, now := range []time.Time{t0, t0.Add(12*time.Hour - 3), t0.Add(12*time.Hour + time.Minute)} {
		h.opts.Now = func() time.Time { return now }
		got = nil
		if status, body, _ := post(t, url+PathLoki, "application/json", "", body); status != http.StatusNoContent {
			t.Fatalf("%s: %d %s", now, status, body)
		}
		var is []string
		for _, b := range got {
			is = append(is, fmt.Sprintf("%s untimed=%v lines=%d", b.ID, b.Untimed, b.Lines()))
			for _, g := range b.Groups {
				for i, l := range g.Lines {
					if off := now.Sub(time.Unix(0, l.Time)).Abs(); b.Untimed && off > time.Second || i > 0 && l.Time <= g.Lines[i-1].Time {
						t.Errorf("%s: %q is of %d, after %d", now, l.Message, l.Time, g.Lines[max(0, i-1)].Time)
					}
				}
			}
		}
		slices.Sort(is)
		if before == nil {
			before = is
		}
		if !slices.Equal(is, before) || len(is) != 2 || !strings.HasSuffix(is[0], "untimed=true lines=1001") || !strings.HasSuffix(is[1], "untimed=false lines=1000") {
			t.Errorf("%s: batches %q, before %q", now, is, before)
		}
	}
}

func FuzzLoki(f *testing.F) {
	f.Add([]byte(`{"streams":[{"stream":{"a":"b"},"values":[["1","x",{"c":1}]]}]}`), true)
	f.Add(lokiStream(`{a="b"}`, entry(t0, "x", "c", "d")), false)
	f.Add(lokiStream(manyLabels(100), entry(t0, "x")), false)
	m, err := newMetrics(nil)
	if err != nil {
		f.Fatal(err)
	}
	h := &Handler{opts: Options{Now: time.Now}, metrics: m}
	f.Fuzz(func(t *testing.T, body []byte, inJSON bool) {
		read := h.lokiProto
		if inJSON {
			read = h.lokiJSON
		}
		p, err := read(body)
		if err != nil {
			if !errors.Is(err, fault.ErrMalformed) && !errors.Is(err, fault.ErrInvalid) && !errors.Is(err, fault.ErrTooLarge) {
				t.Errorf("%v has no kind", err)
			}
			return
		}
		for _, b := range p.batches("loki", "id", t0) {
			if err := b.Validate(); err != nil {
				t.Error(err)
			}
		}
	})
}

func FuzzOTLP(f *testing.F) {
	raw, err := otlpRequest().MarshalProto()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw[:400])
	f.Add(raw)
	m, err := newMetrics(nil)
	if err != nil {
		f.Fatal(err)
	}
	h := &Handler{opts: Options{Now: time.Now}, metrics: m}
	f.Fuzz(func(t *testing.T, body []byte) {
		in := plogotlp.NewExportRequest()
		if checkValues(body, requestShape, 0) != nil || in.UnmarshalProto(body) != nil {
			return
		}
		p, err := h.otlp(in.Logs())
		if err != nil {
			return
		}
		for _, b := range p.batches("otlp", "id", t0) {
			if err := b.Validate(); err != nil {
				t.Error(err)
			}
		}
	})
}
