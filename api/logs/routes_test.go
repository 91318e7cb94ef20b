package logs

import (
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

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humagin"
	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/api/problem"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
	"github.com/crowsnest-dev/crowsnest/storage/logs"
	"github.com/crowsnest-dev/crowsnest/storage/logs/logstest"
)

// routes gives the URL of a server of our own routes.
func routes(t *testing.T, store Store, who *access.Principal, change ...func(*Options)) string {
	t.Helper()
	problem.Use()
	gin.SetMode(gin.ReleaseMode)
	o := Options{Store: store}
	for _, c := range change {
		c(&o)
	}
	h, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	engine := gin.New()
	Register(humagin.New(engine, huma.DefaultConfig("t", "1")), h)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if who != nil {
			r = r.WithContext(access.With(r.Context(), *who))
		}
		engine.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv.URL + "/logs/"
}

func TestContextOfALine(t *testing.T) {
	s := logstest.Open(t)
	put(t, s, "prod", "1", t0, "info", "a", "b", "c", "d", "e")
	base := routes(t, s, admin)
	var id string
	if err := s.Query(t.Context(), logs.Query{Text: "c"}, func(r logs.Row) error { id = strings.Clone(r.Get("_stream_id")); return nil }); err != nil {
		t.Fatal(err)
	}
	at := t0.Add(2 * time.Millisecond).Format(time.RFC3339Nano)
	status, body, _ := get(t, http.MethodGet, base, "context", url.Values{"stream_id": {id}, "time": {at}, "before": {"1"}, "after": {"5"}, "scope": {"container"}})
	var out logContext
	if err := json.Unmarshal([]byte(body), &out); err != nil || status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	if len(out.Before) != 1 || out.Before[0]["_msg"] != "b" || len(out.Lines) != 1 || out.Lines[0]["_msg"] != "c" || len(out.After) != 2 || out.After[1]["_msg"] != "e" {
		t.Errorf("got %s", body)
	}
	for name, tc := range map[string]struct {
		args   url.Values
		status int
	}{
		"no line":       {url.Values{"stream_id": {id}, "time": {t0.Add(time.Hour).Format(time.RFC3339Nano)}}, 404},
		"its cluster":   {url.Values{"stream_id": {id}, "time": {at}, "cluster": {"edge"}}, 404},
		"a wrong time":  {url.Values{"stream_id": {id}, "time": {"noon"}}, 422},
		"a wrong id":    {url.Values{"stream_id": {"x"}, "time": {at}}, 422},
		"too many":      {url.Values{"stream_id": {id}, "time": {at}, "before": {"1001"}}, 422},
		"without an id": {url.Values{"time": {at}}, 422},
	} {
		if status, body, _ := get(t, http.MethodGet, base, "context", tc.args); status != tc.status {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
}

// The lines around one are a query like the others: it waits for its turn as long as
// they do, and one that takes too long says so.
func TestContextHasTheBoundsOfQueries(t *testing.T) {
	running, reg := make(chan struct{}, 1), prometheus.NewRegistry()
	bounded := func(longest time.Duration, reg prometheus.Registerer) string {
		return routes(t, fakeStore{around: func(ctx context.Context) error {
			running <- struct{}{}
			<-ctx.Done()
			return context.Cause(ctx)
		}}, admin, func(o *Options) {
			o.MaxConcurrent, o.MaxWait, o.MaxQueryTime, o.Registerer = 1, 50*time.Millisecond, longest, reg
		})
	}
	args := url.Values{"stream_id": {"0000007b000001c850d9950ea6196b1a4812081265faa1c7"}, "time": {t0.Format(time.RFC3339Nano)}}
	if status, body, _ := get(t, http.MethodGet, bounded(50*time.Millisecond, reg), "context", args); status != http.StatusServiceUnavailable || !strings.Contains(body, "longer than") {
		t.Errorf("one beyond its time: %d %s", status, body)
	}
	<-running
	if got := refusedBy(t, reg, refusedTime); got != 1 {
		t.Errorf("counted %v too slow, want 1", got)
	}
	reg = prometheus.NewRegistry()
	base := bounded(time.Minute, reg)
	leave := asks(t, base+"context?"+args.Encode())
	<-running
	if status, body, _ := get(t, http.MethodGet, base, "context", args); status != http.StatusTooManyRequests {
		t.Errorf("the second: %d %s", status, body)
	}
	if got := refusedBy(t, reg, refusedQueries); got != 1 {
		t.Errorf("counted %v refused, want 1", got)
	}
	leave()
}

// refusedBy reads how many requests were refused for a reason.
func refusedBy(t *testing.T, reg prometheus.Gatherer, reason string) float64 {
	t.Helper()
	return logstest.Counted(t, reg, "crowsnest_logsql_queries_refused_total", reason)
}

func TestDownload(t *testing.T) {
	s := logstest.Open(t)
	put(t, s, "prod", "1", t0, "info", "a\nb", "c")
	put(t, s, "prod", "2", t0.Add(-time.Hour), "error", "before")
	put(t, s, "edge", "1", t0, "info", "elsewhere")
	base := routes(t, s, admin)
	text := t0.Add(-time.Hour).Format(time.RFC3339Nano) + " shop/cart-1/app ERROR before\n" +
		t0.Format(time.RFC3339Nano) + " shop/cart-1/app INFO a\nb\n" +
		t0.Add(time.Millisecond).Format(time.RFC3339Nano) + " shop/cart-1/app INFO c\n"
	args := url.Values{"query": {"namespace:shop"}, "cluster": {"prod"}, "start": {t0.Add(-2 * time.Hour).Format(time.RFC3339)}, "end": {"now"}}
	status, body, header := get(t, http.MethodGet, base, "download", args)
	if status != http.StatusOK || body != text || !strings.HasPrefix(header.Get("Content-Type"), "text/plain") {
		t.Errorf("%d %v\n got %s\nwant %s", status, header, body, text)
	}
	args.Set("gzip", "true")
	status, body, header = get(t, http.MethodGet, base, "download", args)
	z, err := gzip.NewReader(strings.NewReader(body))
	if err != nil || status != http.StatusOK {
		t.Fatalf("%d %v", status, err)
	}
	plain, err := io.ReadAll(z)
	if err != nil || string(plain) != text || header.Get("Content-Type") != "application/gzip" || !strings.HasSuffix(header.Get("Content-Disposition"), `.log.gz"`) {
		t.Errorf("%v %v %s", header, err, plain)
	}
	args.Del("gzip")
	args.Set("format", "json")
	args.Set("query", "* | fields _time, _msg | delete x")
	status, body, _ = get(t, http.MethodGet, base, "download", args)
	if want := fmt.Sprintf("{\"_time\":%q,\"_msg\":\"before\"}\n{\"_time\":%q,\"_msg\":\"a\\nb\"}\n{\"_time\":%q,\"_msg\":\"c\"}\n",
		t0.Add(-time.Hour).Format(time.RFC3339Nano), t0.Format(time.RFC3339Nano), t0.Add(time.Millisecond).Format(time.RFC3339Nano)); status != http.StatusOK || body != want {
		t.Errorf("%d got %s want %s", status, body, want)
	}
	args.Set("query", "absent")
	if status, body, _ := get(t, http.MethodGet, base, "download", args); status != http.StatusOK || body != "" {
		t.Errorf("nothing: %d %q", status, body)
	}
	args.Set("query", "* | stats nonsense(")
	if status, body, _ := get(t, http.MethodGet, base, "download", args); status != http.StatusUnprocessableEntity {
		t.Errorf("a wrong query: %d %q", status, body)
	}
	if status, _, _ := get(t, http.MethodGet, routes(t, s, nil), "download", args); status != http.StatusUnauthorized {
		t.Errorf("nobody: %d", status)
	}
}

func TestWatermarks(t *testing.T) {
	s := logstest.Open(t)
	if err := s.Append(t.Context(), "prod", &wire.LogBatch{Sender: "node/n-1", ID: "1", Complete: []wire.LogMark{{Node: "n-1", Through: t0.UnixNano()}}}); err != nil {
		t.Fatal(err)
	}
	base := strings.TrimSuffix(routes(t, s, admin), "logs/")
	status, body, _ := get(t, http.MethodGet, base, "clusters/prod/logs/watermarks", nil)
	if status != http.StatusOK || !strings.Contains(body, `"node":"n-1","complete_through":"`+t0.Format(time.RFC3339Nano)) {
		t.Errorf("%d %s", status, body)
	}
	if status, body, _ := get(t, http.MethodGet, base, "clusters/edge/logs/watermarks", nil); status != http.StatusOK || !strings.Contains(body, `"items":[]`) {
		t.Errorf("%d %s", status, body)
	}
}

// exporting answers downloads as its function says.
type exporting struct {
	Store
	export func(ctx context.Context, fn func(logs.Row) error) error
}

func (e exporting) Export(ctx context.Context, _ logs.Query, fn func(logs.Row) error) error {
	return e.export(ctx, fn)
}

func TestADownloadThatBreaksIsNotTakenForComplete(t *testing.T) {
	for _, packed := range []string{"false", "true"} {
		for rows, want := range map[int]string{0: "status", 1_000_000: "broken body"} {
			base := routes(t, exporting{export: func(_ context.Context, fn func(logs.Row) error) error {
				for i := range rows {
					if err := fn(logs.Row{{Name: "_msg", Value: fmt.Sprint("some line of text ", i*i)}}); err != nil {
						return err
					}
				}
				return fmt.Errorf("disk: %w", fault.ErrUnavailable)
			}}, admin)
			resp, err := http.Get(base + "download?start=now-1h&gzip=" + packed)
			if err != nil {
				t.Fatal(err)
			}
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			got := ""
			switch {
			case resp.StatusCode == http.StatusServiceUnavailable && err == nil:
				got = "status"
			case resp.StatusCode == http.StatusOK && errors.Is(err, io.ErrUnexpectedEOF):
				got = "broken body"
			}
			if got != want {
				t.Errorf("gzip %s, after %d rows: status %d, read %v; want %s", packed, rows, resp.StatusCode, err, want)
			}
		}
	}
}

func TestDownloadsAreBounded(t *testing.T) {
	running := make(chan struct{}, 1)
	ended := make(chan error, 1)
	bounded := func(most time.Duration) (base string) {
		return routes(t, exporting{export: func(ctx context.Context, _ func(logs.Row) error) error {
			running <- struct{}{}
			<-ctx.Done()
			ended <- context.Cause(ctx)
			return context.Cause(ctx)
		}}, admin, func(o *Options) { o.MaxDownloads, o.MaxDownload = 1, most })
	}
	if status, body, _ := get(t, http.MethodGet, bounded(50*time.Millisecond), "download", url.Values{"start": {"now-1h"}}); status != http.StatusServiceUnavailable {
		t.Errorf("one beyond its time: %d %s", status, body)
	}
	<-running
	if err := <-ended; !errors.Is(err, errTooSlow) {
		t.Errorf("got %v", err)
	}
	base := bounded(time.Hour)
	ctx, leave := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"download?start=now-1h", nil)
	if err != nil {
		t.Fatal(err)
	}
	first := make(chan error, 1)
	go func() {
		_, err := http.DefaultClient.Do(req)
		first <- err
	}()
	<-running
	if status, body, _ := get(t, http.MethodGet, base, "download", url.Values{"start": {"now-1h"}}); status != http.StatusTooManyRequests {
		t.Errorf("the second: %d %s", status, body)
	}
	// A client that leaves ends it.
	leave()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
