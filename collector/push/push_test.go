package push

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"go.uber.org/goleak"

	"github.com/crowsnest-dev/crowsnest/collector/compute"
	"github.com/crowsnest-dev/crowsnest/collector/queue"
	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/config"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// request is one that the receiver got, decoded.
type request struct {
	path   string
	header http.Header
	series map[string]float64 // "metric{labels}@millis"
	body   []byte             // of JSON, decompressed
}

// receiver is a server that notes what it gets; answer decides what it says.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	got    []request
	answer func(n int, r request, w http.ResponseWriter)
	came   chan struct{}
}

func newReceiver(t *testing.T, answer func(n int, r request, w http.ResponseWriter)) *receiver {
	r := &receiver{answer: answer, came: make(chan struct{}, 100)}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	raw, _ := io.ReadAll(req.Body)
	got := request{path: req.URL.RequestURI(), header: req.Header, series: map[string]float64{}}
	b := labels.NewScratchBuilder(8)
	switch {
	case req.Header.Get("Content-Encoding") == "zstd":
		d, _ := zstd.NewReader(nil)
		got.body, _ = d.DecodeAll(raw, nil)
		d.Close()
	case req.Header.Get("Content-Type") == contentTypeV2:
		plain, err := snappy.Decode(nil, raw)
		var v2 writev2.Request
		if err == nil && v2.Unmarshal(plain) == nil {
			for _, ts := range v2.Timeseries {
				ls, _ := ts.ToLabels(&b, v2.Symbols)
				for _, one := range ts.Samples {
					got.series[fmt.Sprintf("%s@%d/%s", ls, one.Timestamp, ts.Metadata.Type)] = one.Value
				}
			}
		}
	case req.Header.Get("Content-Type") == contentTypeV1:
		plain, err := snappy.Decode(nil, raw)
		var v1 prompb.WriteRequest
		if err == nil && v1.Unmarshal(plain) == nil {
			for _, ts := range v1.Timeseries {
				got.series[fmt.Sprintf("%s@%d", ts.ToLabels(&b, nil), ts.Samples[0].Timestamp)] = ts.Samples[0].Value
			}
		}
	}
	r.mu.Lock()
	n := len(r.got)
	r.got = append(r.got, got)
	r.mu.Unlock()
	r.answer(n, got, w)
	r.came <- struct{}{}
}

func (r *receiver) all() []request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]request(nil), r.got...)
}

func written(_ int, r request, w http.ResponseWriter) {
	w.Header().Set(headerWritten, fmt.Sprint(len(r.series)))
	w.WriteHeader(http.StatusNoContent)
}

func client(t *testing.T, url string) *Client {
	t.Helper()
	c, err := NewClient(ClientOptions{Server: url, Token: config.NewSecret("hush"), Sender: "node/n1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

type rig struct {
	*Pusher
	queue *queue.Queue
	reg   *prometheus.Registry
	dir   string
	stop  func()
}

func newRig(t *testing.T, url string, started bool) *rig {
	t.Helper()
	r := &rig{reg: prometheus.NewRegistry(), dir: t.TempDir()}
	var err error
	if r.queue, err = queue.Open(queue.Options{Dir: r.dir, Registerer: r.reg}); err != nil {
		t.Fatal(err)
	}
	if r.Pusher, err = New(Options{Client: client(t, url), Queue: r.queue, Registerer: r.reg}); err != nil {
		t.Fatal(err)
	}
	if started {
		r.start(t)
	}
	return r
}

func (r *rig) start(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	var once sync.Once
	r.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
	t.Cleanup(r.stop)
}

func batch(at time.Time, v float64) Batch {
	return Batch{Through: at, Interval: 30 * time.Second, Samples: []compute.Sample{
		{Metric: catalogue.PodCPU, Labels: labels.FromStrings("namespace", "ns", "pod", "p"), At: at, V: v},
		{Metric: catalogue.PodRestarts, Labels: labels.FromStrings("namespace", "ns", "pod", "p"), At: at, V: math.Float64frombits(value.StaleNaN)},
	}}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not come", what)
		}
	}
}

func TestLiveSamplesTouchNoDisk(t *testing.T) {
	rx := newReceiver(t, written)
	r := newRig(t, rx.URL, true)
	at := time.Now().Truncate(30 * time.Second)
	if err := r.Push(batch(at, 1.5)); err != nil {
		t.Fatal(err)
	}
	<-rx.came
	eventually(t, "the acknowledgement", func() bool { return testutil.ToFloat64(r.metrics.samples.WithLabelValues("false")) == 2 })
	got := rx.all()[0]
	key := fmt.Sprintf(`{__name__="k8s_pod_cpu_core_used", namespace="ns", pod="p"}@%d/METRIC_TYPE_GAUGE`, at.UnixMilli())
	stale := fmt.Sprintf(`{__name__="k8s_pod_restart_total", namespace="ns", pod="p"}@%d/METRIC_TYPE_COUNTER`, at.UnixMilli())
	if got.series[key] != 1.5 || !value.IsStaleNaN(got.series[stale]) || len(got.series) != 2 {
		t.Errorf("got %v", got.series)
	}
	for name, want := range map[string]string{
		"Authorization": "Bearer hush", wire.HeaderSender: "node/n1", wire.HeaderInterval: "30", wire.HeaderComplete: wire.FormatMillis(at),
		wire.HeaderVersion: "1", wire.HeaderBacklog: "", "Content-Encoding": "snappy", "X-Prometheus-Remote-Write-Version": "2.0.0",
	} {
		if got.header.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, got.header.Get(name), want)
		}
	}
	if files, _ := os.ReadDir(r.dir); len(files) != 0 {
		t.Errorf("a batch that was acknowledged at once left %v", files)
	}
}

func TestChangesDoNotCompleteAnInterval(t *testing.T) {
	rx := newReceiver(t, written)
	r := newRig(t, rx.URL, true)
	b := batch(time.Now(), 1)
	b.Through = time.Time{}
	if err := r.Push(b); err != nil {
		t.Fatal(err)
	}
	<-rx.came
	if h := rx.all()[0].header; len(h.Values(wire.HeaderComplete)) != 0 {
		t.Errorf("%s is %q", wire.HeaderComplete, h.Get(wire.HeaderComplete))
	}
}

func TestABigBatchIsSplitAndCompletedByItsLastRequest(t *testing.T) {
	b := batch(time.Now(), 1)
	for len(b.Samples) <= maxSeriesPerRequest {
		b.Samples = append(b.Samples, b.Samples[0])
	}
	requests, err := newEncoder().encode(b)
	if err != nil || len(requests) != 2 || !requests[0].item.Through.IsZero() || requests[1].item.Through.IsZero() || requests[0].item.Samples != maxSeriesPerRequest {
		t.Errorf("%v: %+v", err, requests)
	}
}

func TestOutage(t *testing.T) {
	// Two of them: what the first process still had under way may arrive after its end.
	away := newReceiver(t, func(_ int, _ request, w http.ResponseWriter) { http.Error(w, "later", http.StatusServiceUnavailable) })
	rx := newReceiver(t, written)
	r := newRig(t, away.URL, true)
	old := time.Now().Add(-time.Hour).Truncate(30 * time.Second)
	for i := range 3 {
		if err := r.Push(batch(old.Add(time.Duration(i)*30*time.Second), float64(i))); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "three batches on disk", func() bool { n, _, _, _ := r.queue.Stats(); return n == 3 })
	if h := r.Health(); h.Batches != 3 || h.Bytes == 0 || !h.OldestAt.Equal(old) || !strings.Contains(h.LastError, "503") {
		t.Errorf("health %+v", h)
	}
	// A crash: the next process finds them.
	r.stop()
	again := &rig{dir: r.dir, reg: prometheus.NewRegistry()}
	var err error
	if again.queue, err = queue.Open(queue.Options{Dir: r.dir}); err != nil {
		t.Fatal(err)
	}
	if again.Pusher, err = New(Options{Client: client(t, rx.URL), Queue: again.queue}); err != nil {
		t.Fatal(err)
	}
	again.start(t)
	eventually(t, "an empty queue", func() bool { n, _, _, _ := again.queue.Stats(); return n == 0 })
	if n := len(rx.all()); n != 3 {
		t.Errorf("%d requests for three batches", n)
	}
	for i, got := range rx.all() {
		if got.header.Get(wire.HeaderBacklog) != "true" || got.header.Get(wire.HeaderComplete) != wire.FormatMillis(old.Add(time.Duration(i)*30*time.Second)) {
			t.Errorf("request %d: %v", i, got.header)
		}
	}
	if files, _ := os.ReadDir(r.dir); len(files) != 0 {
		t.Errorf("left on disk: %v", files)
	}
}

// TestWhatIsTooOldGoesTheImportWay and what is not does not.
func TestWhatIsTooOldGoesTheImportWay(t *testing.T) {
	p := &Pusher{path: wire.PathMetrics, now: func() time.Time { return time.Unix(1_000_000, 0) }}
	for _, tc := range []struct {
		accept, age time.Duration
		want        string
	}{
		{0, 1000 * time.Hour, wire.PathMetrics}, // the server knows no other way
		{48 * time.Hour, time.Minute, wire.PathMetrics},
		{48 * time.Hour, 47*time.Hour + 49*time.Minute, wire.PathMetrics},
		{48 * time.Hour, 47*time.Hour + 51*time.Minute, wire.PathHistory}, // it would be too old when it arrives
		{48 * time.Hour, 100 * time.Hour, wire.PathHistory},
	} {
		p.accept = func() time.Duration { return tc.accept }
		if got := p.way(queue.Item{First: p.now().Add(-tc.age)}, 0); got != tc.want {
			t.Errorf("what is %v old where %v is taken goes to %s", tc.age, tc.accept, got)
		}
	}
}

func TestALateBatchIsNoHistory(t *testing.T) {
	rx := newReceiver(t, func(n int, r request, w http.ResponseWriter) {
		if n == 0 {
			http.Error(w, "hiccup", http.StatusBadGateway)
			return
		}
		written(n, r, w)
	})
	r := newRig(t, rx.URL, true)
	if err := r.Push(batch(time.Now(), 1)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the second attempt", func() bool { return len(rx.all()) == 2 })
	if got := rx.all()[1].header.Get(wire.HeaderBacklog); got != "" {
		t.Errorf("%s is %q: a batch of this interval must still count for alerts", wire.HeaderBacklog, got)
	}
}

func TestAThrottledBacklogDoesNotHoldUpLiveSamples(t *testing.T) {
	rx := newReceiver(t, func(n int, r request, w http.ResponseWriter) {
		if r.header.Get(wire.HeaderBacklog) != "" {
			w.Header().Set("Retry-After", "3600")
			http.Error(w, "backlog is full", http.StatusTooManyRequests)
			return
		}
		written(n, r, w)
	})
	r := newRig(t, rx.URL, false)
	old := time.Now().Add(-time.Hour).Truncate(30 * time.Second)
	if _, err := r.queue.Put(queue.Item{First: old, Last: old, Interval: 30 * time.Second, Samples: 1}, []byte("x")); err != nil {
		t.Fatal(err)
	}
	r.start(t)
	eventually(t, "the backlog's attempt", func() bool { return len(rx.all()) == 1 })
	if err := r.Push(batch(time.Now(), 1)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the live batch", func() bool { return len(rx.all()) == 2 })
	if n, _, _, _ := r.queue.Stats(); n != 1 {
		t.Errorf("%d batches on disk, want the one of the past", n)
	}
	if h := r.Health(); h.LastError != "" || h.MaxBytes != queue.DefaultMaxBytes {
		t.Errorf("health %+v", h)
	}
}

func TestSamplesOfAWrongClockAreBroughtToTheServersTime(t *testing.T) {
	rx := newReceiver(t, written)
	r := newRig(t, rx.URL, false)
	r.offset = func() (time.Duration, bool) { return 7*time.Minute + 13*time.Second, true }
	at := time.Now().UTC().Truncate(30 * time.Second)
	b := batch(at, 1)
	b.Unchecked = true
	if err := r.Push(b); err != nil {
		t.Fatal(err)
	}
	r.start(t)
	eventually(t, "the batch", func() bool { return len(rx.all()) == 1 })
	want := at.Add(-7*time.Minute - 30*time.Second)
	got := rx.all()[0]
	if got.header.Get(wire.HeaderClockOffset) != "433.000" || got.header.Get(wire.HeaderComplete) != wire.FormatMillis(want) {
		t.Errorf("headers %v, want complete through %d", got.header, want.UnixMilli())
	}
	for s := range got.series {
		if !strings.Contains(s, fmt.Sprintf("@%d/", want.UnixMilli())) {
			t.Errorf("series %s, want at %d", s, want.UnixMilli())
		}
	}
}

func TestRefusedForGood(t *testing.T) {
	rx := newReceiver(t, func(_ int, _ request, w http.ResponseWriter) { http.Error(w, "no such metric", http.StatusBadRequest) })
	r := newRig(t, rx.URL, true)
	if err := r.Push(batch(time.Now(), 1)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the count", func() bool { _, _, _, d := r.queue.Stats(); return d == 2 })
	if n, _, _, _ := r.queue.Stats(); n != 0 || len(rx.all()) != 1 {
		t.Errorf("%d batches wait, %d requests were sent", n, len(rx.all()))
	}
}

func TestWhatIsFinal(t *testing.T) {
	for status, want := range map[int]bool{400: true, 409: true, 413: true, 422: true, 301: true, 401: false, 403: false, 404: false, 408: false, 415: false, 429: false, 500: false, 503: false} {
		if got := final(&refusal{status: status, kind: kindOf(status)}); got != want {
			t.Errorf("%d is final: %v, want %v", status, got, want)
		}
	}
	if final(io.ErrUnexpectedEOF) {
		t.Error("a broken connection is final")
	}
}

func TestRetryAfterIsHeeded(t *testing.T) {
	rx := newReceiver(t, func(_ int, _ request, w http.ResponseWriter) {
		w.Header().Set("Retry-After", "60")
		http.Error(w, "too much", http.StatusTooManyRequests)
	})
	r := newRig(t, rx.URL, true)
	for i := range 3 {
		if err := r.Push(batch(time.Now().Add(time.Duration(i)), 1)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a batch on disk", func() bool { n, _, _, _ := r.queue.Stats(); return n == i+1 })
	}
	if got := len(rx.all()); got != 1 {
		t.Errorf("%d requests were sent to a server that asked for quiet", got)
	}
}

func TestFallsBackToVersion1(t *testing.T) {
	for name, first := range map[string]func(http.ResponseWriter){
		"when it is told":                       func(w http.ResponseWriter) { w.WriteHeader(http.StatusUnsupportedMediaType) },
		"when the receiver found nothing in it": func(w http.ResponseWriter) { w.WriteHeader(http.StatusOK) },
	} {
		t.Run(name, func(t *testing.T) {
			rx := newReceiver(t, func(_ int, r request, w http.ResponseWriter) {
				if r.header.Get("Content-Type") == contentTypeV2 {
					first(w)
				}
			})
			r := newRig(t, rx.URL, true)
			at := time.Now()
			for range 2 {
				if err := r.Push(batch(at, 2.5)); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "three requests", func() bool { return len(rx.all()) == 3 })
			for _, got := range rx.all()[1:] {
				if v := got.series[fmt.Sprintf(`{__name__="k8s_pod_cpu_core_used", namespace="ns", pod="p"}@%d`, at.UnixMilli())]; v != 2.5 {
					t.Errorf("version 1 got %v", got.series)
				}
			}
		})
	}
}

func TestAServerThatHangsLeavesTheBatchOnDisk(t *testing.T) {
	release := make(chan struct{})
	rx := newReceiver(t, func(n int, r request, w http.ResponseWriter) {
		<-release
		written(n, r, w)
	})
	r := newRig(t, rx.URL, true)
	if err := r.Push(batch(time.Now(), 1)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the batch on disk", func() bool { n, _, _, _ := r.queue.Stats(); return n == 1 })
	close(release)
	eventually(t, "its removal", func() bool { n, _, _, _ := r.queue.Stats(); return n == 0 })
}

func TestWhatWasNotTriedIsOnDiskAtTheEnd(t *testing.T) {
	rx := newReceiver(t, func(_ int, _ request, w http.ResponseWriter) { http.Error(w, "", http.StatusServiceUnavailable) })
	r := newRig(t, rx.URL, false)
	for range liveBatches + 3 {
		if err := r.Push(batch(time.Now(), 1)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if n, _, _, _ := r.queue.Stats(); n != liveBatches+3 {
		t.Errorf("%d batches on disk, want all", n)
	}
}

func TestTokenFileIsReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	now := time.Now()
	write := func(text string, at time.Time) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	write("one\n", now)
	c, err := NewClient(ClientOptions{Server: "http://x", TokenFile: path, Sender: "s", Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	token := func() string {
		h := http.Header{}
		if err := c.Authorize(h); err != nil {
			t.Fatal(err)
		}
		return h.Get("Authorization")
	}
	if got := token(); got != "Bearer one" {
		t.Errorf("got %q", got)
	}
	write("two", now.Add(time.Second))
	now = now.Add(6 * time.Second)
	if got := token(); got != "Bearer two" {
		t.Errorf("after a change: %q", got)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	now = now.Add(6 * time.Second)
	if got := token(); got != "Bearer two" {
		t.Errorf("while the file is replaced: %q", got)
	}
	if _, err := NewClient(ClientOptions{Server: "http://x", TokenFile: path, Sender: "s"}); err == nil {
		t.Error("a missing token file at the start is no error")
	}
}

func TestClientOptions(t *testing.T) {
	for _, server := range []string{"", "crowsnest:7420", "ftp://x", "http://"} {
		if _, err := NewClient(ClientOptions{Server: server, Sender: "s"}); !errors.Is(err, fault.ErrInvalid) {
			t.Errorf("%q gave %v", server, err)
		}
	}
	if _, err := NewClient(ClientOptions{Server: "https://x", Sender: "s", CAFile: "/does/not/exist"}); err == nil {
		t.Error("a missing CA file is no error")
	}
}

func TestLogsAndOwners(t *testing.T) {
	rx := newReceiver(t, func(n int, r request, w http.ResponseWriter) {
		switch {
		case strings.HasPrefix(r.path, wire.PathServices):
			fmt.Fprint(w, `{"services":[{"namespace":"shop","name":"cart","selector":{"app":"cart"}},{"namespace":"shop","name":"by-hand","pods":["a"]}]}`)
		case strings.HasPrefix(r.path, wire.PathReaders):
			fmt.Fprint(w, `{"nodes":["v1"]}`)
		case strings.HasPrefix(r.path, wire.PathOwners):
			fmt.Fprint(w, `{"owners":{"u":{"type":"deployment","name":"cart"}}}`)
		case n == 0:
			http.Error(w, "wait", http.StatusServiceUnavailable)
		case strings.Contains(string(r.body), "bad"):
			http.Error(w, "bad line", http.StatusUnprocessableEntity)
		}
	})
	c := client(t, rx.URL)
	logs := func(text string) *wire.LogBatch {
		return &wire.LogBatch{Sender: "node/n1", ID: "1", Groups: []wire.LogGroup{{Stream: wire.LogStream{Stream: "stdout"}, Lines: []wire.LogLine{{Time: 1, Message: text}}}}}
	}
	hello := logs("hello")
	hello.Complete = []wire.LogMark{{Node: "n1", Through: 1}}
	hello.Unsay(func() bool { return len(rx.all()) > 0 }) // it does not hold by the second attempt
	if err := c.Send(t.Context(), hello); err != nil {
		t.Fatal(err)
	}
	got := rx.all()
	if len(got) != 2 || got[1].path != wire.PathLogs {
		t.Fatalf("got %d requests", len(got))
	}
	for i, r := range got {
		if b, err := wire.UnmarshalLogBatch(r.body); err != nil || b.Groups[0].Lines[0].Message != "hello" || len(b.Complete) != 1-i {
			t.Errorf("attempt %d: got %+v, %v", i, b, err)
		}
	}
	marks := &wire.LogBatch{Sender: "node/n1", ID: "2", Complete: []wire.LogMark{{Through: 1}}}
	marks.Unsay(func() bool { return true })
	if err := c.Send(t.Context(), marks); !errors.Is(err, fault.ErrInvalid) || len(rx.all()) != 2 {
		t.Errorf("a batch that has nothing left to say: %v, after %d requests", err, len(rx.all()))
	}
	if err := c.Send(t.Context(), logs("bad")); !errors.Is(err, fault.ErrInvalid) {
		t.Errorf("a refused batch gave %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Send(ctx, logs("x")); err == nil {
		t.Error("a cancelled send succeeded")
	}
	owners, err := c.Owners(t.Context(), "n/1")
	if err != nil || owners["u"] != (object.WorkloadRef{Type: "deployment", Name: "cart"}) {
		t.Errorf("owners %v, %v", owners, err)
	}
	if got := rx.all(); got[len(got)-1].path != wire.PathOwners+"?node=n%2F1" {
		t.Errorf("asked %s", got[len(got)-1].path)
	}
	services, err := c.Services(t.Context(), []string{"shop", "pay"})
	if err != nil || len(services) != 2 || services[0].Namespace != "shop" || services[0].Name != "cart" || services[0].Selector["app"] != "cart" || services[1].Pods[0] != "a" {
		t.Errorf("Services %v, %v", services, err)
	}
	if got := rx.all(); got[len(got)-1].path != wire.PathServices+"?namespace=shop&namespace=pay" {
		t.Errorf("asked %s", got[len(got)-1].path)
	}
	if _, err := c.LogReaders(t.Context(), []string{"v1"}); err != nil {
		t.Errorf("LogReaders: %v", err)
	}
	if got := rx.all(); got[len(got)-1].path != wire.PathReaders+"?logs=true&node=v1" {
		t.Errorf("asked %s", got[len(got)-1].path)
	}
	before := len(rx.all())
	if nodes, err := c.Readers(t.Context(), slices.Repeat([]string{"v1"}, wire.MaxReaderNodes+1)); err != nil || !slices.Equal(nodes, []string{"v1", "v1"}) || len(rx.all()) != before+2 {
		t.Errorf("%v, %v, of %d questions", nodes, err, len(rx.all())-before)
	}
}

// fixed is a state source that says what tests give it.
type fixed struct{ now *state.Snapshot }

func (f *fixed) Run(context.Context) error                   { return nil }
func (f *fixed) Snapshot() *state.Snapshot                   { return f.now }
func (f *fixed) Changes(context.Context, func(state.Change)) {}
func (f *fixed) Health() map[object.Kind]string              { return nil }
func (f *fixed) ClusterFacts() (kind, version string)        { return "managed", "v1.34.4" }

func TestInventory(t *testing.T) {
	var (
		mu   sync.Mutex
		lost bool
		got  []*wire.InventoryBatch
	)
	rx := newReceiver(t, func(_ int, r request, w http.ResponseWriter) {
		b, err := wire.UnmarshalInventoryBatch(r.body)
		if err != nil {
			t.Errorf("unreadable batch: %v", err)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if lost && !b.Snapshot {
			http.Error(w, "missed one", http.StatusConflict)
			return
		}
		lost = false
		got = append(got, b)
	})
	batches := func() []*wire.InventoryBatch {
		mu.Lock()
		defer mu.Unlock()
		return append([]*wire.InventoryBatch(nil), got...)
	}
	p := func(name, phase string) *object.Pod {
		return &object.Pod{Meta: object.Meta{UID: "u" + name, Namespace: "ns", Name: name}, Phase: phase}
	}
	source := &fixed{&state.Snapshot{Synced: true, Pods: map[string]*object.Pod{"ua": p("a", "Running")}, Nodes: map[string]*object.Node{"n": {Meta: object.Meta{UID: "nu", Name: "n"}}}}}
	q, err := queue.Open(queue.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	v := &Inventory{Client: client(t, rx.URL), Source: source, Queue: q}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- v.Run(ctx) }()
	eventually(t, "the snapshot", func() bool { return len(batches()) == 1 })
	first := batches()[0]
	if !first.Snapshot || !first.Last || first.Sequence != 1 || len(first.Pods) != 1 || len(first.Nodes) != 1 || first.ClusterKind != "managed" || first.ClusterVersion != "v1.34.4" {
		t.Errorf("snapshot %+v", first)
	}
	// However slowly they come after each other: they are told together.
	v.mu.Lock()
	v.pending = append(v.pending, state.Change{At: time.Now(), Before: p("a", "Running"), Now: p("a", "Failed")}, state.Change{At: time.Now(), Now: p("b", "Pending")})
	v.mu.Unlock()
	v.Note(state.Change{At: time.Now(), Before: p("b", "Pending")})
	eventually(t, "the changes", func() bool { return len(batches()) == 2 })
	second := batches()[1]
	if second.Session != first.Session || second.Sequence != 2 || second.Snapshot || len(second.Pods) != 1 || second.Pods[0].Phase != "Failed" || len(second.Deleted) != 1 || second.Deleted[0].UID != "ub" {
		raw, _ := json.Marshal(second)
		t.Errorf("changes %s", raw)
	}
	mu.Lock()
	lost = true
	mu.Unlock()
	v.Note(state.Change{At: time.Now(), Now: p("c", "Pending")})
	eventually(t, "a new session", func() bool { return len(batches()) == 3 })
	if third := batches()[2]; third.Session == first.Session || third.Sequence != 1 || !third.Snapshot {
		t.Errorf("after a conflict %+v", third)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// TestInventoryOutlivesAnOutage has objects change while the server is away, ends
// the collector in the middle, and looks at what the server is told in the end,
// and in which order.
func TestInventoryOutlivesAnOutage(t *testing.T) {
	type told struct {
		session  string
		sequence uint64
		gap      bool
		phase    string
		at       time.Time
	}
	dir := t.TempDir()
	open := func(t *testing.T) *queue.Queue {
		q, err := queue.Open(queue.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		return q
	}
	// What a life still had under way may arrive after its end: so it is not sent to rx.
	away := newReceiver(t, func(_ int, _ request, w http.ResponseWriter) { http.Error(w, "away", http.StatusBadGateway) })
	var (
		mu sync.Mutex
		// The server's side of a session, as storage/inventory has it.
		session  string
		sequence uint64
		got      []told
	)
	rx := newReceiver(t, func(_ int, r request, w http.ResponseWriter) {
		mu.Lock()
		defer mu.Unlock()
		b, err := wire.UnmarshalInventoryBatch(r.body)
		switch {
		case err != nil:
			t.Errorf("unreadable batch: %v", err)
		case b.Session != session && b.Sequence != 1, b.Session == session && b.Sequence > sequence+1 && !b.Gap:
			http.Error(w, "does not follow", http.StatusConflict)
			return
		}
		session, sequence = b.Session, b.Sequence
		phase := ""
		if len(b.Pods) > 0 {
			phase = b.Pods[0].Phase
		}
		got = append(got, told{b.Session, b.Sequence, b.Gap, phase, b.Time})
	})
	pod := func(phase string) *object.Pod {
		return &object.Pod{Meta: object.Meta{UID: "u", Namespace: "ns", Name: "p"}, Phase: phase}
	}
	run := func(t *testing.T, to *receiver, q *queue.Queue, phases ...string) (end func()) {
		source := &fixed{&state.Snapshot{Synced: true, Pods: map[string]*object.Pod{"u": pod(phases[0])}}}
		v := &Inventory{Client: client(t, to.URL), Source: source, Queue: q}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- v.Run(ctx) }()
		waiting := func(n int) func() bool {
			return func() bool { batches, _, _, _ := q.Stats(); return batches >= n }
		}
		before, _, _, _ := q.Stats()
		if to == away {
			eventually(t, "the snapshot on disk", waiting(before+1))
		}
		at := time.Now().Add(-time.Hour) // apart, or they would be told as one
		for i, phase := range phases[1:] {
			v.Note(state.Change{At: at.Add(time.Duration(i) * time.Minute), Before: pod("?"), Now: pod(phase)})
		}
		return func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
		}
	}
	// Two lives without the server: what each saw is on disk at its end.
	run(t, away, open(t), "Pending", "Running", "Failed")()
	run(t, away, open(t), "Failed", "Succeeded")()
	q := open(t)
	if n, _, _, _ := q.Stats(); n != 5 {
		t.Fatalf("%d batches wait, want the two snapshots and three changes", n)
	}
	// One is lost from the first life, another is the first of a session that the server will never know.
	items := []queue.Item{}
	for range 2 {
		item, _ := q.Oldest()
		items = append(items, item)
		if len(items) == 1 {
			body, err := q.Read(item)
			if err != nil {
				t.Fatal(err)
			}
			v := &Inventory{Client: client(t, rx.URL), Queue: q}
			v.init()
			if err := v.attempt(t.Context(), item, body); err != nil {
				t.Fatal(err)
			}
			q.Done(item)
		} else {
			q.Drop(item, queue.DropBytes)
		}
	}
	end := run(t, rx, q, "Succeeded")
	eventually(t, "all of it", func() bool { mu.Lock(); defer mu.Unlock(); return len(got) == 5 })
	eventually(t, "an empty queue", func() bool { n, _, _, _ := q.Stats(); return n == 0 })
	end()
	mu.Lock()
	defer mu.Unlock()
	for i, want := range []struct {
		session, phase string
		sequence       uint64
		gap            bool
	}{
		{got[0].session, "Pending", 1, false},
		{got[0].session, "Failed", 3, true}, // what came before it was given up
		{got[2].session, "Failed", 1, false},
		{got[2].session, "Succeeded", 2, false},
		{got[4].session, "Succeeded", 1, false},
	} {
		if g := got[i]; g.session != want.session || g.phase != want.phase || g.sequence != want.sequence || g.gap != want.gap {
			t.Errorf("batch %d is %+v, want %+v", i, g, want)
		}
	}
	if got[0].session == got[2].session || got[2].session == got[4].session {
		t.Error("a life of the collector is a session of its own")
	}
}

// TestInventoryOfASessionThatNobodyKnows gives up what is left of it, and asks
// about it once.
func TestInventoryOfASessionThatNobodyKnows(t *testing.T) {
	asked := 0
	rx := newReceiver(t, func(_ int, r request, w http.ResponseWriter) {
		if b, err := wire.UnmarshalInventoryBatch(r.body); err == nil && !b.Snapshot {
			asked++
			http.Error(w, "who is that", http.StatusConflict)
		}
	})
	q, err := queue.Open(queue.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	v := &Inventory{Client: client(t, rx.URL), Queue: q}
	v.init()
	for i := range 5 {
		body, err := v.reseal(&wire.InventoryBatch{Session: "s", Sequence: uint64(7 + i), Time: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		v.store(&sealed{body: body, item: queue.Item{First: time.Now(), Last: time.Now(), Samples: 2}})
	}
	for {
		item, ok := q.Oldest()
		if !ok {
			break
		}
		if err := v.sendOne(t.Context(), item); err != nil {
			t.Fatal(err)
		}
	}
	if d := q.Drops(); asked != 2 || len(d) != 1 || d[0].Reason != queue.DropRefused || d[0].Samples != 10 {
		t.Errorf("asked %d times, dropped %+v", asked, d)
	}
}

func TestSnapshotsAreSplit(t *testing.T) {
	s := &state.Snapshot{Pods: map[string]*object.Pod{}, Nodes: map[string]*object.Node{"n": {}}}
	for i := range snapshotObjects {
		s.Pods[fmt.Sprint(i)] = &object.Pod{}
	}
	got := snapshotBatches(s, time.Now())
	if len(got) != 2 || got[0].Last || !got[1].Last || len(got[0].Nodes) != 1 || len(got[0].Pods)+len(got[1].Pods) != snapshotObjects {
		t.Errorf("%d batches", len(got))
	}
}

func TestMetricsAreWellFormed(t *testing.T) {
	reg := prometheus.NewRegistry()
	newMetrics(reg)
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}
