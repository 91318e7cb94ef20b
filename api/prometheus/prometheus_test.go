package prometheus

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
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gogo/protobuf/proto"
	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"go.uber.org/goleak"

	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/metrics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var t0 = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

var (
	admin  = access.Principal{Kind: access.LocalAdmin, Name: "local"}
	sender = access.Principal{Kind: access.IngestToken, Name: "prod", Cluster: "prod"}
)

// newAPI serves a store with x{cluster,pod} = 1, 2, 3 each 30 s from t0 for
// 5 min, to the principal that the test gives.
func newAPI(t *testing.T, o Options) *API {
	t.Helper()
	db, err := metrics.Open(metrics.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	app := db.Appender(context.Background())
	for i := range 11 {
		for n, pod := range []string{"a", "b", "c"} {
			lset := labels.FromStrings("__name__", "x", "cluster", "prod", "pod", pod)
			at := t0.Add(time.Duration(i) * 30 * time.Second).UnixMilli()
			ref, err := app.Append(0, lset, at, float64(n+1))
			if err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				e := exemplar.Exemplar{Labels: labels.FromStrings("trace_id", pod), Value: 1, Ts: at, HasTs: true}
				if _, err := app.AppendExemplar(ref, lset, e); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	o.Store = db
	a, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.engine.(*promql.Engine).Close() })
	return a
}

type answer struct {
	Status    string          `json:"status"`
	Data      json.RawMessage `json:"data"`
	ErrorType string          `json:"errorType"`
	Error     string          `json:"error"`
	code      int
	header    http.Header
	body      []byte
}

// ask makes a request as a principal; nil is nobody.
func ask(t *testing.T, a http.Handler, who *access.Principal, r *http.Request) answer {
	t.Helper()
	if who != nil {
		r = r.WithContext(access.With(r.Context(), *who))
	}
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r)
	out := answer{code: w.Code, header: w.Header(), body: w.Body.Bytes()}
	if strings.HasPrefix(w.Header().Get("Content-Type"), "application/json") && w.Header().Get("Content-Encoding") == "" {
		if err := json.Unmarshal(out.body, &out); err != nil {
			t.Fatalf("%s: %v: %s", r.URL, err, out.body)
		}
	}
	return out
}

func get(path string, query ...string) *http.Request {
	v := url.Values{}
	for n := 0; n < len(query); n += 2 {
		v.Add(query[n], query[n+1])
	}
	return httptest.NewRequest(http.MethodGet, Prefix+path+"?"+v.Encode(), nil)
}

func stamp(t time.Time) string { return fmt.Sprint(t.Unix()) }

func TestQueries(t *testing.T) {
	a := newAPI(t, Options{Version: "1.2.3"})
	end := t0.Add(5 * time.Minute)
	for name, tc := range map[string]struct {
		r    *http.Request
		want string
	}{
		"instant":           {get("/query", "query", `sum by (cluster) (x)`, "time", stamp(end)), `{"resultType":"vector","result":[{"metric":{"cluster":"prod"},"value":[1795428300,"6"]}]}`},
		"at modifier":       {get("/query", "query", `sum(x @ 1795428000)`, "time", stamp(end.Add(time.Hour))), `{"resultType":"vector","result":[{"metric":{},"value":[1795431900,"6"]}]}`},
		"negative offset":   {get("/query", "query", `max(x offset -5m)`, "time", stamp(t0)), `{"resultType":"vector","result":[{"metric":{},"value":[1795428000,"3"]}]}`},
		"range":             {get("/query_range", "query", `count(x)`, "start", stamp(t0), "end", stamp(t0.Add(time.Minute)), "step", "30"), `{"resultType":"matrix","result":[{"metric":{},"values":[[1795428000,"3"],[1795428030,"3"],[1795428060,"3"]]}]}`},
		"scalar":            {get("/query", "query", "1+1", "time", stamp(t0)), `{"resultType":"scalar","result":[1795428000,"2"]}`},
		"labels":            {get("/labels"), `["__name__","cluster","pod"]`},
		"label values":      {get("/label/pod/values"), `["a","b","c"]`},
		"series":            {get("/series", "match[]", `x{pod="a"}`), `[{"__name__":"x","cluster":"prod","pod":"a"}]`},
		"exemplars":         {get("/query_exemplars", "query", `x{pod="a"}`, "start", stamp(t0), "end", stamp(end)), `[{"seriesLabels":{"__name__":"x","cluster":"prod","pod":"a"},"exemplars":[{"labels":{"trace_id":"a"},"value":"1","timestamp":1795428000}]}]`},
		"format":            {get("/format_query", "query", "sum(x)by(pod)"), `"sum by (pod) (x)"`},
		"rules":             {get("/rules"), `{"groups":[]}`},
		"alerts":            {get("/alerts"), `{"alerts":[]}`},
		"alertmanagers":     {get("/alertmanagers"), `{"activeAlertmanagers":[],"droppedAlertmanagers":[]}`},
		"targets":           {get("/targets"), `{"activeTargets":[],"droppedTargets":[],"droppedTargetCounts":{}}`},
		"targets' metadata": {get("/targets/metadata"), `[]`},
		"scrape pools":      {get("/scrape_pools"), `{"scrapePools":[]}`},
		"flags":             {get("/status/flags"), `{}`},
		"metadata of one":   {get("/metadata", "metric", catalogue.PodRestarts), `{"k8s_pod_restart_total":[{"type":"counter","help":"Sum of the restart counts of the pod's containers, init containers included.","unit":"count"}]}`},
	} {
		got := ask(t, a, &admin, tc.r)
		if got.code != 200 || got.Status != "success" || string(got.Data) != tc.want {
			t.Errorf("%s: %d %s\nwant %s", name, got.code, got.body, tc.want)
		}
	}
	for path, want := range map[string]string{
		"/status/buildinfo":   `"version":"1.2.3"`,
		"/status/runtimeinfo": `"storageRetention":"90d"`,
		"/status/config":      `"yaml"`,
		"/status/tsdb":        `"numSeries":3`,
		"/status/tsdb/blocks": `"blocks"`,
		"/status/walreplay":   `"current"`,
		"/features":           ``,
		"/metadata":           catalogue.NodeReady,
		"/openapi.yaml":       `openapi:`,
	} {
		if got := ask(t, a, &admin, get(path)); got.code != 200 || !bytes.Contains(got.body, []byte(want)) {
			t.Errorf("%s: %d %s", path, got.code, got.body)
		}
	}
}

func TestPostedFormAndStats(t *testing.T) {
	a := newAPI(t, Options{})
	form := url.Values{"query": {"x"}, "time": {stamp(t0)}, "stats": {"all"}}
	r := httptest.NewRequest(http.MethodPost, Prefix+"/query", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	got := ask(t, a, &admin, r)
	if got.code != 200 || !bytes.Contains(got.Data, []byte("totalQueryableSamplesPerStep")) {
		t.Errorf("%d %s", got.code, got.body)
	}
}

func TestAnswersAreCompressedAndForbidOtherOrigins(t *testing.T) {
	a := newAPI(t, Options{})
	r := get("/query", "query", "x", "time", stamp(t0))
	r.Header.Set("Accept-Encoding", "gzip")
	r.Header.Set("Origin", "https://elsewhere.example")
	got := ask(t, a, &admin, r)
	if got.header.Get("Content-Encoding") != "gzip" {
		t.Fatalf("headers %v", got.header)
	}
	z, err := gzip.NewReader(bytes.NewReader(got.body))
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := io.ReadAll(z); err != nil || !bytes.Contains(plain, []byte(`"success"`)) {
		t.Errorf("%s, %v", plain, err)
	}
	if o := got.header.Get("Access-Control-Allow-Origin"); o != "" {
		t.Errorf("allowed origin %q", o)
	}
}

func TestRemoteRead(t *testing.T) {
	a := newAPI(t, Options{})
	for name, typ := range map[string]prompb.ReadRequest_ResponseType{"samples": prompb.ReadRequest_SAMPLES, "chunks": prompb.ReadRequest_STREAMED_XOR_CHUNKS} {
		req := &prompb.ReadRequest{
			Queries: []*prompb.Query{{
				StartTimestampMs: t0.UnixMilli(), EndTimestampMs: t0.Add(time.Minute).UnixMilli(),
				Matchers: []*prompb.LabelMatcher{{Type: prompb.LabelMatcher_EQ, Name: "__name__", Value: "x"}},
			}},
			AcceptedResponseTypes: []prompb.ReadRequest_ResponseType{typ},
		}
		raw, err := proto.Marshal(req)
		if err != nil {
			t.Fatal(err)
		}
		post := func(who *access.Principal) answer {
			return ask(t, a, who, httptest.NewRequest(http.MethodPost, Prefix+"/read", bytes.NewReader(snappy.Encode(nil, raw))))
		}
		got := post(&admin)
		if got.code != 200 || len(got.body) == 0 {
			t.Errorf("%s: %d %s", name, got.code, got.body)
		}
		if typ == prompb.ReadRequest_SAMPLES {
			plain, err := snappy.Decode(nil, got.body)
			if err != nil {
				t.Fatal(err)
			}
			var resp prompb.ReadResponse
			if err := proto.Unmarshal(plain, &resp); err != nil || len(resp.Results[0].Timeseries) != 3 || len(resp.Results[0].Timeseries[0].Samples) != 3 {
				t.Errorf("%v, %v", resp, err)
			}
		}
		if got := post(&sender); got.code != http.StatusForbidden {
			t.Errorf("%s as an ingest token: %d", name, got.code)
		}
	}
}

func TestWhatChangesTheStoreIsNotServed(t *testing.T) {
	a := newAPI(t, Options{})
	for _, r := range []*http.Request{
		httptest.NewRequest(http.MethodPost, Prefix+"/write", nil),
		httptest.NewRequest(http.MethodPost, Prefix+"/otlp/v1/metrics", nil),
		httptest.NewRequest(http.MethodPost, Prefix+"/admin/tsdb/delete_series?match[]=x", nil),
		httptest.NewRequest(http.MethodPut, Prefix+"/admin/tsdb/snapshot", nil),
		httptest.NewRequest(http.MethodPost, Prefix+"/admin/tsdb/clean_tombstones", nil),
		get("/notifications/live"),
	} {
		if got := ask(t, a, &admin, r); got.code != http.StatusNotFound {
			t.Errorf("%s %s: %d %s", r.Method, r.URL, got.code, got.body)
		}
	}
	if got := ask(t, a, &admin, get("/query", "query", "count(x)", "time", stamp(t0))); !bytes.Contains(got.Data, []byte(`"3"`)) {
		t.Errorf("something is gone: %s", got.body)
	}
}

func TestEveryRouteAsksWhoReads(t *testing.T) {
	a := newAPI(t, Options{})
	for _, path := range []string{
		"/query?query=x", "/query_range?query=x&start=1&end=2&step=1", "/query_exemplars?query=x&start=1&end=2", "/labels", "/label/pod/values",
		"/series?match[]=x", "/metadata", "/rules", "/alerts", "/targets", "/status/buildinfo", "/status/tsdb", "/status/walreplay", "/openapi.yaml", "/nowhere",
	} {
		r := httptest.NewRequest(http.MethodGet, Prefix+path, nil)
		if got := ask(t, a, nil, r); got.code != http.StatusUnauthorized {
			t.Errorf("%s as nobody: %d", path, got.code)
		}
		if got := ask(t, a, &sender, r); got.code != http.StatusForbidden || got.Status != "error" {
			t.Errorf("%s as an ingest token: %d %s", path, got.code, got.body)
		}
	}
}

func TestEverySelectionAsksWhoReads(t *testing.T) {
	a := newAPI(t, Options{})
	q, err := a.Queryable().Querier(t0.UnixMilli(), t0.UnixMilli())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = q.Close() }()
	cq, err := a.Queryable().ChunkQuerier(t0.UnixMilli(), t0.UnixMilli())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cq.Close() }()
	m := labels.MustNewMatcher(labels.MatchEqual, "__name__", "x")
	for who, tc := range map[*access.Principal]error{nil: fault.ErrUnauthenticated, &sender: fault.ErrForbidden, &admin: nil} {
		ctx := context.Background()
		if who != nil {
			ctx = access.With(ctx, *who)
		}
		_, _, valuesErr := q.LabelValues(ctx, "pod", nil, m)
		_, _, namesErr := q.LabelNames(ctx, nil, m)
		eq, err := a.store.ExemplarQuerier(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_, exemplarErr := eq.Select(0, 1, []*labels.Matcher{m})
		for name, err := range map[string]error{
			"series": drain(q.Select(ctx, false, nil, m)), "chunks": cq.Select(ctx, false, nil, m).Err(),
			"label values": valuesErr, "label names": namesErr, "exemplars": exemplarErr,
		} {
			if !errors.Is(err, tc) {
				t.Errorf("%v reads %s: %v, want %v", who, name, err, tc)
			}
		}
	}
	// Prometheus wraps what a querier says; the code stays ours.
	query, err := a.Engine().NewInstantQuery(context.Background(), a.Queryable(), nil, "x", t0)
	if err != nil {
		t.Fatal(err)
	}
	defer query.Close()
	if code, _ := status(0, query.Exec(context.Background()).Err); code != http.StatusUnauthorized {
		t.Errorf("code %d", code)
	}
}

func drain(set storage.SeriesSet) error {
	for set.Next() { //nolint:revive // only its error is wanted
	}
	return set.Err()
}

func TestBadQueriesAndBounds(t *testing.T) {
	a := newAPI(t, Options{MaxSamples: 2})
	for name, tc := range map[string]struct {
		r    *http.Request
		code int
		typ  string
	}{
		"syntax":           {get("/query", "query", "sum("), 400, "bad_data"},
		"no time":          {get("/query_range", "query", "x"), 400, "bad_data"},
		"too many points":  {get("/query_range", "query", "x", "start", "1", "end", "100000", "step", "1"), 400, "bad_data"},
		"too many samples": {get("/query", "query", "x", "time", stamp(t0)), 422, "execution"},
		"metadata's limit": {get("/metadata", "limit", "many"), 400, "bad_data"},
		"no such path":     {get("/status/nothing"), 404, ""},
	} {
		if got := ask(t, a, &admin, tc.r); got.code != tc.code || got.ErrorType != tc.typ {
			t.Errorf("%s: %d %s", name, got.code, got.body)
		}
	}
	slow := newAPI(t, Options{Timeout: time.Nanosecond})
	if got := ask(t, slow, &admin, get("/query", "query", "x", "time", stamp(t0))); got.code != http.StatusServiceUnavailable || got.ErrorType != "timeout" {
		t.Errorf("timeout: %d %s", got.code, got.body)
	}
	if got := ask(t, newAPI(t, Options{Ready: func() bool { return false }}), &admin, get("/query", "query", "x")); got.code != http.StatusServiceUnavailable {
		t.Errorf("not ready: %d %s", got.code, got.body)
	}
	if _, err := New(Options{}); err == nil {
		t.Error("no store: taken")
	}
}

func TestQueriesBeyondThePlacesWait(t *testing.T) {
	g := newGate(1)
	n, err := g.Insert(context.Background(), "a")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := g.Insert(ctx, "b"); !errors.Is(err, promql.ErrQueryCanceled("query queue")) {
		t.Errorf("a second one: %v", err)
	}
	g.Delete(n)
	if _, err := g.Insert(context.Background(), "c"); err != nil {
		t.Error(err)
	}
}
