package logs

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
	"github.com/crowsnest-dev/crowsnest/storage/logs"
	"github.com/crowsnest-dev/crowsnest/storage/logs/logstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, logstest.Leaks()...) }

// t0 is noon of yesterday, so that what is stored from it lies within one day.
var t0 = time.Now().UTC().Truncate(24 * time.Hour).Add(-12 * time.Hour)

// serve gives the URL of a server whose requests are the principal's.
func serve(t *testing.T, store Store, who *access.Principal, change ...func(*Options)) string {
	t.Helper()
	o := Options{Store: store}
	for _, c := range change {
		c(&o)
	}
	h, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if who != nil {
			r = r.WithContext(access.With(r.Context(), *who))
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv.URL + Path
}

var admin = &access.Principal{Kind: access.LocalAdmin, Name: "local"}

func put(t *testing.T, s *logs.Store, cluster, id string, at time.Time, level string, messages ...string) {
	t.Helper()
	b := &wire.LogBatch{Sender: "node/n-1", ID: id, Groups: []wire.LogGroup{{Stream: wire.LogStream{Namespace: "shop", Pod: "cart-1", Container: "app", Stream: "stdout"}}}}
	for i, m := range messages {
		b.Groups[0].Lines = append(b.Groups[0].Lines, wire.LogLine{Time: at.Add(time.Duration(i) * time.Millisecond).UnixNano(), Message: m, Fields: wire.FieldsOf(map[string]string{"level": level})})
	}
	if err := s.Append(t.Context(), cluster, b); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, method, base, path string, args url.Values) (status int, body string, header http.Header) {
	t.Helper()
	var req *http.Request
	var err error
	if method == http.MethodPost {
		req, err = http.NewRequestWithContext(t.Context(), method, base+path, strings.NewReader(args.Encode()))
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	} else {
		req, err = http.NewRequestWithContext(t.Context(), method, base+path+"?"+args.Encode(), nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("AccountID", "7") // as vlogscli sends it; must not matter
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

func TestEndpointsAnswerInVictoriaLogsShapes(t *testing.T) {
	s := logstest.Open(t)
	put(t, s, "prod", "1", t0, "info", `say "hi"`, "second")
	put(t, s, "prod", "2", t0.Add(time.Minute), "error", "third")
	put(t, s, "other", "1", t0, "info", "elsewhere")
	base := serve(t, s, admin)
	start, end := t0.Format(time.RFC3339), fmt.Sprint(t0.Add(2*time.Minute).Unix())
	from := t0.Format(time.RFC3339Nano)
	for name, tc := range map[string]struct {
		path string
		args url.Values
		want string
	}{
		"query":       {"query", url.Values{"query": {`{cluster="prod"} | fields _time, _msg`}, "limit": {"2"}}, `{"_time":"` + t0.Add(time.Minute).Format(time.RFC3339Nano) + `","_msg":"third"}` + "\n" + `{"_time":"` + t0.Add(time.Millisecond).Format(time.RFC3339Nano) + `","_msg":"second"}` + "\n"},
		"offset":      {"query", url.Values{"query": {`{cluster="prod"} | fields _time, level`}, "limit": {"2"}, "offset": {"2"}}, `{"_time":"` + t0.Format(time.RFC3339Nano) + `","level":"info"}` + "\n"},
		"nothing":     {"query", url.Values{"query": {`absent`}}, ""},
		"range":       {"query", url.Values{"query": {`* | stats count() n`}, "start": {start}, "end": {fmt.Sprint(t0.Unix() + 1)}}, "{\"n\":\"3\"}\n"},
		"one cluster": {"query", url.Values{"query": {`* | stats count() n`}, "cluster": {"other"}}, "{\"n\":\"1\"}\n"},
		"extra filter": {"query", url.Values{"query": {`* | stats count() n`}, "extra_filters": {`{"level":["error","fatal"]}`},
			"extra_stream_filters": {`{"cluster":"prod"}`}}, "{\"n\":\"1\"}\n"},
		"hits": {"hits", url.Values{"query": {`*`}, "cluster": {"prod"}, "start": {start}, "end": {end}, "step": {"1m"}, "field": {"level"}},
			`{"hits":[{"fields":{"level":"info"},"timestamps":["` + from + `","` + t0.Add(time.Minute).Format(time.RFC3339Nano) + `"],"values":[2,0],"total":2},` +
				`{"fields":{"level":"error"},"timestamps":["` + from + `","` + t0.Add(time.Minute).Format(time.RFC3339Nano) + `"],"values":[0,1],"total":1}]}` + "\n"},
		"no hits": {"hits", url.Values{"query": {`absent`}, "step": {"1m"}}, `{"hits":[]}` + "\n"},
		"stats": {"stats_query", url.Values{"query": {`* | stats by (cluster) count() n`}, "cluster": {"prod"}, "time": {end}},
			`{"data":{"result":[{"metric":{"__name__":"n","cluster":"prod"},"value":[` + fmt.Sprint(t0.Add(2*time.Minute).Unix()) + `.000,"3"]}],"resultType":"vector"},"status":"success"}` + "\n"},
		"stats range": {"stats_query_range", url.Values{"query": {`* | stats count() n`}, "cluster": {"prod"}, "start": {start}, "end": {end}, "step": {"1m"}},
			`{"data":{"result":[{"metric":{"__name__":"n"},"values":[[` + fmt.Sprint(t0.Unix()) + `.000,"2"],[` + fmt.Sprint(t0.Unix()+60) + `.000,"1"]]}],"resultType":"matrix"},"status":"success"}` + "\n"},
		"stats range in a zone": {"stats_query_range", url.Values{"query": {`* | stats count() n`}, "cluster": {"prod"}, "start": {start}, "end": {end}, "step": {"1m"}, "offset": {"20s"}},
			`{"data":{"result":[{"metric":{"__name__":"n"},"values":[[` + fmt.Sprint(t0.Unix()-20) + `.000,"2"],[` + fmt.Sprint(t0.Unix()+40) + `.000,"1"]]}],"resultType":"matrix"},"status":"success"}` + "\n"},
		"names with a part":         {"field_names", url.Values{"query": {`*`}, "cluster": {"prod"}, "filter": {"eve"}}, `{"values":[{"value":"level","hits":3}]}` + "\n"},
		"values with a part":        {"field_values", url.Values{"query": {`*`}, "field": {"level"}, "cluster": {"prod"}, "filter": {"rro"}}, `{"values":[{"value":"error","hits":1}]}` + "\n"},
		"stream names with a part":  {"stream_field_names", url.Values{"query": {`*`}, "cluster": {"prod"}, "filter": {"names"}}, `{"values":[{"value":"namespace","hits":3}]}` + "\n"},
		"stream values with a part": {"stream_field_values", url.Values{"query": {`*`}, "field": {"cluster"}, "filter": {"oth"}}, `{"values":[{"value":"other","hits":1}]}` + "\n"},
		"without its pipes":         {"field_values", url.Values{"query": {`error OR level:error | delete level`}, "field": {"level"}, "ignore_pipes": {"1"}}, `{"values":[{"value":"error","hits":1}]}` + "\n"},
		"values":                    {"field_values", url.Values{"query": {`*`}, "field": {"level"}, "cluster": {"prod"}}, `{"values":[{"value":"info","hits":2},{"value":"error","hits":1}]}` + "\n"},
		"facets": {"facets", url.Values{"query": {`* | fields x`}, "cluster": {"prod"}, "hidden_fields_filters": {"_*,stream,pod,container,namespace"}},
			`{"facets":[{"field_name":"level","values":[{"field_value":"info","hits":2},{"field_value":"error","hits":1}]}]}` + "\n"},
		"constant facets": {"facets", url.Values{"query": {`*`}, "cluster": {"prod"}, "keep_const_fields": {"1"}, "hidden_fields_filters": {`["_*","level","pod","container","namespace","stream"]`}},
			`{"facets":[{"field_name":"cluster","values":[{"field_value":"prod","hits":3}]}]}` + "\n"},
		"no facets": {"facets", url.Values{"query": {`absent`}}, `{"facets":[]}` + "\n"},
		"hidden":    {"query", url.Values{"query": {`third | fields _msg, level`}, "hidden_fields_filters": {"lev*"}}, `{"_msg":"third"}` + "\n"},
		"time range": {"query_time_range", url.Values{"query": {`*`}, "start": {start}, "end": {end}},
			`{"start":"` + from + `","end":"` + t0.Add(2*time.Minute).Format(time.RFC3339Nano) + `","hasTimeFilter":false}` + "\n"},
		"own time range": {"query_time_range", url.Values{"query": {`_time:[2026-01-01Z,2026-01-02Z)`}, "start": {start}},
			`{"start":"2026-01-01T00:00:00Z","end":"2026-01-01T23:59:59.999999999Z","hasTimeFilter":true}` + "\n"},
		"no values":     {"field_values", url.Values{"query": {`absent`}, "field": {"level"}}, `{"values":[]}` + "\n"},
		"streams":       {"streams", url.Values{"query": {`*`}, "cluster": {"other"}}, `{"values":[{"value":"{cluster=\"other\",container=\"app\",namespace=\"shop\",pod=\"cart-1\",stream=\"stdout\"}","hits":1}]}` + "\n"},
		"stream fields": {"stream_field_values", url.Values{"query": {`*`}, "field": {"cluster"}}, `{"values":[{"value":"prod","hits":3},{"value":"other","hits":1}]}` + "\n"},
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			status, body, header := get(t, method, base, tc.path, tc.args)
			if status != http.StatusOK || body != tc.want {
				t.Errorf("%s by %s: %d\n got %s\nwant %s", name, method, status, body, tc.want)
			}
			if want := map[bool]string{true: "application/stream+json", false: "application/json"}[tc.path == "query"]; header.Get("Content-Type") != want {
				t.Errorf("%s: content type %s", name, header.Get("Content-Type"))
			}
		}
	}
	status, body, _ := get(t, http.MethodGet, base, "field_names", url.Values{"query": {"*"}})
	if status != http.StatusOK || strings.Contains(body, "crowsnest") || !strings.Contains(body, `"level"`) {
		t.Errorf("field names: %d %s", status, body)
	}
}

func TestRowsAsCSV(t *testing.T) {
	s := logstest.Open(t)
	put(t, s, "prod", "1", t0, "info", `say "hi", twice`, "two\nlines")
	put(t, s, "prod", "2", t0.Add(time.Minute), "", "third")
	base := serve(t, s, admin)
	for name, tc := range map[string]struct {
		args url.Values
		want string
	}{
		"fields":             {url.Values{"query": {"* | sort by (_time) | fields level, _msg"}}, "level,_msg\ninfo,\"say \"\"hi\"\", twice\"\ninfo,\"two\nlines\"\n,third\n"},
		"stats":              {url.Values{"query": {"* | stats by (level) count() n | sort by (n)"}}, "n,level\n1,\n2,info\n"},
		"all fields":         {url.Values{"query": {"third | delete _stream, _stream_id, _time"}, "hidden_fields_filters": {"pod"}}, "_msg,cluster,container,namespace,stream\nthird,prod,app,shop,stdout\n"},
		"those of the limit": {url.Values{"query": {"* | delete _stream, _stream_id, cluster, container, namespace, pod, stream"}, "limit": {"1"}}, "_msg,_time\nthird," + t0.Add(time.Minute).Format(time.RFC3339Nano) + "\n"},
		"nothing":            {url.Values{"query": {"absent"}}, ""},
		"nothing of some":    {url.Values{"query": {"absent | fields a, b"}}, "a,b\n"},
	} {
		tc.args.Set("format", "csv")
		status, body, header := get(t, http.MethodGet, base, "query", tc.args)
		if status != http.StatusOK || body != tc.want || header.Get("Content-Type") != "text/csv" {
			t.Errorf("%s: %d %s\n got %q\nwant %q", name, status, header.Get("Content-Type"), body, tc.want)
		}
	}
}

func TestWrongRequests(t *testing.T) {
	s := logstest.Open(t)
	base := serve(t, s, admin)
	for name, tc := range map[string]struct {
		path   string
		args   url.Values
		status int
		want   string
	}{
		"no query":       {"query", nil, 400, "query"},
		"a wrong query":  {"query", url.Values{"query": {`* | stats nonsense(`}}, 400, "nonsense"},
		"several":        {"query", url.Values{"query": {"*"}, "limit": {"x"}, "start": {"yesterday-ish"}}, 400, "limit"},
		"a wrong step":   {"hits", url.Values{"query": {"*"}, "step": {"0"}}, 400, "step"},
		"no field":       {"field_values", url.Values{"query": {"*"}}, 400, "field"},
		"stats":          {"stats_query", url.Values{"query": {"*"}}, 422, `"errorType":"bad_data"`},
		"an unknown one": {"nonsense", url.Values{"query": {"*"}}, 404, "nonsense"},
		"a tail of sort": {"tail", url.Values{"query": {"* | sort by (_time)"}}, 400, "live"},
		"too many":       {"query", url.Values{"query": {"*"}, "limit": {"1000001"}}, 400, "1000000"},
		"wrong names":    {"query", url.Values{"query": {"*"}, "hidden_fields_filters": {"[1"}}, 400, "hidden_fields_filters"},
		"a wrong bool":   {"hits", url.Values{"query": {"*"}, "ignore_pipes": {"maybe"}}, 400, "ignore_pipes"},
		"another format": {"query", url.Values{"query": {"*"}, "format": {"tsv"}}, 400, "format"},
		"a wrong CSV":    {"query", url.Values{"query": {"* | nonsense"}, "format": {"csv"}}, 400, "nonsense"},
		"half an answer": {"hits", url.Values{"query": {"*"}, "allow_partial_response": {"maybe"}}, 400, "allow_partial_response"},
		"skips some":     {"query", url.Values{"query": {"*"}, "offset": {"3"}}, 400, "limit"},
		"skips a time":   {"query", url.Values{"query": {"*"}, "limit": {"1"}, "offset": {"3m"}}, 400, "offset"},
		"a tail at once": {"tail", url.Values{"query": {"*"}, "refresh_interval": {"0"}}, 400, "refresh_interval"},
		"reversed":       {"query", url.Values{"query": {"*"}, "start": {"now"}, "end": {"now-1h"}}, 400, "start"},
	} {
		status, body, _ := get(t, http.MethodGet, base, tc.path, tc.args)
		if status != tc.status || !strings.Contains(body, tc.want) {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	if status, _, _ := get(t, http.MethodDelete, base, "query", url.Values{"query": {"*"}}); status != http.StatusMethodNotAllowed {
		t.Errorf("DELETE: %d", status)
	}
}

func TestWhoMayAsk(t *testing.T) {
	s := logstest.Open(t)
	for who, want := range map[*access.Principal]int{
		nil:                                      http.StatusUnauthorized,
		{Kind: access.IngestToken, Cluster: "a"}: http.StatusForbidden,
		{Kind: access.APIToken}:                  http.StatusOK,
	} {
		base := serve(t, s, who)
		for _, path := range []string{"query", "hits", "stats_query", "stats_query_range", "field_names", "field_values", "streams", "stream_ids", "facets", "query_time_range"} {
			for _, args := range []url.Values{{"query": {"* | stats count() n"}, "field": {"x"}}, {"query": {"* | stats count() n"}, "field": {"x"}, "cluster": {"a"}}} {
				status, body, _ := get(t, http.MethodGet, base, path, args)
				if status != want {
					t.Errorf("%v asks %s: %d %s, want %d", who, path, status, body, want)
				}
			}
		}
		if who == nil || who.Kind == access.IngestToken {
			// Not even what is wrong with the request.
			if status, _, _ := get(t, http.MethodGet, base, "tail", nil); status != want {
				t.Errorf("%v asks tail: %d, want %d", who, status, want)
			}
		}
	}
}

func TestTailShowsALineWithinTwoSeconds(t *testing.T) {
	s := logstest.Open(t)
	base := serve(t, s, admin)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"tail?query=*&cluster=prod", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req) // the status comes before the first line
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/x-ndjson" {
		t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	lines := bufio.NewScanner(resp.Body)
	for i := range 3 {
		began := time.Now()
		put(t, s, "other", fmt.Sprint(i), began, "info", "elsewhere")
		put(t, s, "prod", fmt.Sprint(i), began, "info", fmt.Sprintf("line %d", i))
		if !lines.Scan() {
			t.Fatal(lines.Err())
		}
		var row map[string]string
		if err := json.Unmarshal(lines.Bytes(), &row); err != nil || row["_msg"] != fmt.Sprintf("line %d", i) {
			t.Errorf("got %s, %v", lines.Text(), err)
		}
		if took := time.Since(began); took > 60*time.Second {
			t.Errorf("line %d showed after %s", i, took)
		}
	}
}

// fakeStore answers as its functions say.
type fakeStore struct {
	Store
	query  func(ctx context.Context, fn func(logs.Row) error) error
	tail   func(ctx context.Context, fn func([]logs.Row) error) error
	around func(ctx context.Context) error
}

func (f fakeStore) Surroundings(ctx context.Context, _ logs.Around) (logs.Surroundings, error) {
	return logs.Surroundings{}, f.around(ctx)
}

func (f fakeStore) Query(ctx context.Context, _ logs.Query, fn func(logs.Row) error) error {
	return f.query(ctx, fn)
}

func (f fakeStore) Columns(_ context.Context, _ logs.Query, maxBytes int64) ([]string, error) {
	if maxBytes < 100 {
		return nil, fmt.Errorf("names: %w", fault.ErrTooLarge)
	}
	return []string{"_msg", strings.Repeat("n", 500)}, nil
}

func (f fakeStore) Tail(ctx context.Context, _ logs.Query, _ time.Duration, fn func([]logs.Row) error) error {
	return f.tail(ctx, fn)
}

func TestAnAnswerThatBreaksIsNotTakenForComplete(t *testing.T) {
	broken := fmt.Errorf("disk: %w", fault.ErrUnavailable)
	for rows, want := range map[int]string{0: "status", 10_000: "broken body"} {
		base := serve(t, fakeStore{query: func(_ context.Context, fn func(logs.Row) error) error {
			for range rows {
				if err := fn(logs.Row{{Name: "_msg", Value: "some line of text"}}); err != nil {
					return err
				}
			}
			return broken
		}}, admin)
		resp, err := http.Get(base + "query?query=*")
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.ReadAll(resp.Body)
		resp.Body.Close()
		got := ""
		switch {
		case resp.StatusCode == http.StatusServiceUnavailable && err == nil:
			got = "status"
		case resp.StatusCode == http.StatusOK && errors.Is(err, io.ErrUnexpectedEOF):
			got = "broken body"
		}
		if got != want {
			t.Errorf("after %d rows: status %d, read %v; want %s", rows, resp.StatusCode, err, want)
		}
	}
}

// An answer over its bounds is refused while that can be said, and else broken off.
func TestAnAnswerThatIsTooLarge(t *testing.T) {
	for name, tc := range map[string]struct {
		rows, maxRows int
		maxBytes      int64
		format        string
		status        int
		complete      bool
	}{
		"fits":           {rows: 100, maxRows: 100, status: http.StatusOK, complete: true},
		"a row too many": {rows: 101, maxRows: 100, status: http.StatusRequestEntityTooLarge, complete: true},
		"begun by then":  {rows: 10_000, maxRows: 9_999, status: http.StatusOK},
		"bytes":          {rows: 100, maxRows: 1000, maxBytes: 1000, status: http.StatusRequestEntityTooLarge, complete: true},
		"names found":    {rows: 1, maxRows: 1000, maxBytes: 99, format: "csv", status: http.StatusRequestEntityTooLarge, complete: true},
		"names":          {rows: 1, maxRows: 1000, maxBytes: 500, format: "csv", status: http.StatusRequestEntityTooLarge, complete: true},
	} {
		base := serve(t, fakeStore{query: func(_ context.Context, fn func(logs.Row) error) error {
			for range tc.rows {
				if err := fn(logs.Row{{Name: "_msg", Value: "some line of text"}}); err != nil {
					return err
				}
			}
			return nil
		}}, admin, func(o *Options) { o.MaxRows, o.MaxBytes = tc.maxRows, tc.maxBytes })
		resp, err := http.Get(base + "query?query=*&format=" + tc.format)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != tc.status || (err == nil) != tc.complete {
			t.Errorf("%s: status %d, read %v", name, resp.StatusCode, err)
		}
	}
}

func TestBounds(t *testing.T) {
	running := make(chan struct{}, 8)
	waits := func(ctx context.Context) error {
		running <- struct{}{}
		<-ctx.Done()
		return context.Cause(ctx)
	}
	reg := prometheus.NewRegistry()
	store := fakeStore{
		query: func(ctx context.Context, _ func(logs.Row) error) error { return waits(ctx) },
		tail: func(ctx context.Context, fn func([]logs.Row) error) error {
			if err := fn(nil); err != nil {
				return err
			}
			return waits(ctx)
		},
	}
	base := serve(t, store, admin, func(o *Options) {
		o.MaxConcurrent, o.MaxTails, o.MaxWait, o.MaxQueryTime, o.Registerer = 1, 1, 50*time.Millisecond, 30*time.Second, reg
	})
	leave := asks(t, base+"query?query=*")
	<-running
	if status, body, header := get(t, http.MethodGet, base, "query", url.Values{"query": {"*"}}); status != http.StatusTooManyRequests || header.Get("Retry-After") == "" {
		t.Errorf("the second query: %d %s", status, body)
	}
	leave()
	status := http.StatusTooManyRequests // until the server has seen that the first one left
	for deadline := time.Now().Add(60 * time.Second); status == http.StatusTooManyRequests && time.Now().Before(deadline); {
		status, _, _ = get(t, http.MethodGet, base, "query", url.Values{"query": {"*"}, "timeout": {"50ms"}})
	}
	if status != http.StatusServiceUnavailable {
		t.Errorf("a query beyond its time: %d", status)
	}
	<-running
	resp, err := http.Get(base + "tail?query=*")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	<-running
	if status, _, _ := get(t, http.MethodGet, base, "tail", url.Values{"query": {"*"}}); status != http.StatusTooManyRequests {
		t.Errorf("the second tail: %d", status)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v %v", problems, err)
	}
}

func TestFilters(t *testing.T) {
	for name, tc := range map[string]struct {
		text   string
		stream bool
		want   string
		wrong  bool
	}{
		"LogsQL":     {text: `level:error`, want: `level:error`},
		"object":     {text: `{"b":["x","y"],"a":"\"z"}`, want: `"a":in("\"z") "b":in("x","y")`},
		"stream":     {text: `{"b":["x.","y"],"a":"z."}`, stream: true, want: `{"a"="z.","b"=~"x\\.|y"}`},
		"empty list": {text: `{"b":[]}`},
		"number":     {text: `{"b":1}`, wrong: true},
		"broken":     {text: `{"b":`, wrong: true},
	} {
		got, err := filterOf(tc.text, tc.stream)
		if got != tc.want || (err != nil) != tc.wrong {
			t.Errorf("%s: got %s, %v", name, got, err)
		}
	}
}

func FuzzParameters(f *testing.F) {
	for _, s := range []string{
		"query=*&start=now-1h&end=2026-11-23T10:00:00Z&limit=10&offset=3", "query=a&step=1d&field=level&fields_limit=3",
		"start=1764000000.5&end=-5m&time=2026-11&timeout=1e300", `query=x&extra_filters={"a":["b"]}&extra_stream_filters={"a":1}`,
		"limit=99999999999999999999&step=-1s&offset=1h&start_offset=5s&cluster=a&cluster=a&cluster=", "start=9223372036854775807&end=-9223372036854775808", "query=a&ignore_pipes=1&filter=x",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		form, err := url.ParseQuery(raw)
		if err != nil {
			return
		}
		for _, of := range []string{"query", "hits", "tail", "facets"} {
			p, err := parseForm(form, of, t0)
			if err != nil {
				if !errors.Is(err, fault.ErrInvalid) {
					t.Errorf("%q: %v is not invalid", raw, err)
				}
				continue
			}
			if p.query.Text == "" || p.query.Limit < 0 || p.query.Offset < 0 || p.step == 0 || p.fieldsLimit < 0 || p.timeout < 0 {
				t.Errorf("%q was taken as %+v", raw, p)
			}
		}
	})
}

// Who leaves takes its query with it: the store is told, and the turn is free at once.
func TestAQueryEndsWithItsClient(t *testing.T) {
	running, ended := make(chan struct{}), make(chan error, 1)
	var free atomic.Bool
	base := serve(t, fakeStore{query: func(ctx context.Context, _ func(logs.Row) error) error {
		if free.Load() {
			return nil
		}
		close(running)
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return context.Cause(ctx)
	}}, admin, func(o *Options) { o.MaxConcurrent, o.MaxWait = 1, time.Minute })
	leave := asks(t, base+"query?query=*")
	<-running
	leave()
	select {
	case <-ended:
	case <-time.After(60 * time.Second):
		t.Fatal("the query goes on without its client")
	}
	free.Store(true)
	if status, body, _ := get(t, http.MethodGet, base, "query", url.Values{"query": {"*"}}); status != http.StatusOK {
		t.Errorf("the next query: %d %s", status, body)
	}
}

// asks has a request run beside the test, until it is left.
func asks(t *testing.T, at string) (leave func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
		}
	}()
	return func() {
		cancel()
		<-done
	}
}
