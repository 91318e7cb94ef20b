//go:build peers

package remote

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/thanos-io/objstore/providers/filesystem"

	"github.com/crowsnest-dev/crowsnest/storage/metrics"
	"github.com/crowsnest-dev/crowsnest/storage/remote"
	"github.com/crowsnest-dev/crowsnest/storage/storetest"
	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

// settle is how long both engines may take until PromQL sees what was written.
const settle = 4 * time.Second

func TestVictoriaMetrics(t *testing.T) {
	write, query := startVictoria(t)
	suite(t, write, query, map[string][]float64{
		`changes(store_aggregates{pod="a"}[1m])`: {2}, // MetricsQL counts from the sample before the window
	})
}

func startVictoria(t *testing.T) (writeURL, queryURL string) {
	t.Helper()
	program := build(t, "victoriametrics", "github.com/VictoriaMetrics/VictoriaMetrics", "app/victoria-metrics")
	at := address(t)
	start(t, "http://"+at+"/health", program, "-storageDataPath="+t.TempDir(), "-httpListenAddr="+at,
		"-retentionPeriod=1y", "-search.latencyOffset=1s", "-dedup.minScrapeInterval=1ms", "-memory.allowedBytes=256MiB")
	return "http://" + at + "/api/v1/write", "http://" + at
}

func TestThanos(t *testing.T) {
	th := startThanos(t)
	suite(t, th.receive, th.query, nil)
	t.Run("a query spans what was moved and what is new", func(t *testing.T) {
		dir := past(t)
		to, err := filesystem.NewBucket(th.bucket)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second finds all of it there
			if err := remote.UploadBlocks(t.Context(), to, dir, map[string]string{"crowsnest": "catalogue"}, func(remote.Block) error { return nil }); err != nil {
				t.Fatal(err)
			}
		}
		spans(t, th.receive, th.query)
	})
}

// Compact halts for good on blocks of the same labels that overlap: it has to go through with what the
// command moves of two classes, one of which has late samples, and queries see each sample once then.
func TestThanosCompactsWhatWasMoved(t *testing.T) {
	th := startThanos(t)
	data := filepath.Join(t.TempDir(), "data")
	expect := map[string]int{}
	fill := func(store, name string, from, to time.Duration) { // to ago
		t.Helper()
		db, err := metrics.Open(metrics.Options{Dir: filepath.Join(data, store)})
		if err != nil {
			t.Fatal(err)
		}
		for at := began.Add(-from); at.Before(began.Add(-to)); at = at.Add(time.Minute) {
			app := db.Appender(t.Context())
			for pod := range 3 {
				lset := labels.FromStrings(labels.MetricName, name, "cluster", "suite", "pod", fmt.Sprint(pod))
				if _, err := app.Append(0, lset, at.UnixMilli(), 1); err != nil {
					t.Fatal(err)
				}
				expect[name]++
			}
			if err := app.Commit(); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	fill("metrics", moved, 40*time.Hour, time.Hour)
	fill("metrics", "late", 30*time.Hour, 3*time.Hour)
	fill("metrics-classes/raw", "raw", 40*time.Hour, time.Hour)
	if out, err := testbed.Command(t.Context(), "", crowsnest(t), "migrate", "--data", data, "--to-bucket", th.config); err != nil {
		t.Fatal(out, err)
	}
	for range 2 { // of what the first wrote, too
		out, err := exec.CommandContext(t.Context(), th.program, "compact", "--data-dir="+t.TempDir(), "--objstore.config-file="+th.config, "--http-address="+address(t),
			"--consistency-delay=0s", "--delete-delay=0s", "--no-debug.halt-on-error").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "compaction iterations done") {
			t.Fatalf("%v\n%s", err, out[max(0, len(out)-4000):])
		}
	}
	for name, want := range expect {
		sees(t, th.receive, th.query, fmt.Sprintf("sum(sum_over_time(%s[41h]))", name), float64(want))
	}
}

func TestVictoriaMetricsTakesThePast(t *testing.T) {
	write, query := startVictoria(t)
	s, err := remote.New(remote.Options{WriteURL: write, QueryURL: query})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	dir := past(t)
	for range 2 { // as if the first had been cut short
		if err := s.SendBlocks(t.Context(), dir, func(remote.Block) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	spans(t, write, query)
}

// The moved samples: one a minute from hoursBack to one hour ago.
const (
	hoursBack = 9
	moved     = "moved"
)

// past gives the blocks of an embedded store.
func past(t *testing.T) (dir string) {
	t.Helper()
	db, err := metrics.Open(metrics.Options{Dir: filepath.Join(t.TempDir(), "metrics")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	app := db.Appender(t.Context())
	for at := began.Add(-hoursBack * time.Hour); at.Before(began.Add(-time.Hour)); at = at.Add(time.Minute) {
		for pod := range 3 {
			lset := labels.FromStrings(labels.MetricName, moved, "cluster", "suite", "pod", fmt.Sprint(pod))
			if _, err := app.Append(0, lset, at.UnixMilli(), 1); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(t.TempDir(), "blocks")
	if err := db.SnapshotBlocks(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// spans writes what is new and asks for both together.
func spans(t *testing.T, write, query string) {
	s, err := remote.New(remote.Options{WriteURL: write, QueryURL: query})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	app := s.Appender(t.Context())
	for at := began.Add(-time.Hour); !at.After(began); at = at.Add(time.Minute) {
		for pod := range 3 {
			lset := labels.FromStrings(labels.MetricName, moved, "cluster", "suite", "pod", fmt.Sprint(pod))
			if _, err := app.Append(0, lset, at.UnixMilli(), 1); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	sees(t, write, query, fmt.Sprintf("sum(sum_over_time(%s[%dm]))", moved, hoursBack*60+1), 3*(hoursBack*60+1))
}

// sees waits until a query gives a value.
func sees(t *testing.T, write, query, expr string, want float64) {
	t.Helper()
	s, err := remote.New(remote.Options{WriteURL: write, QueryURL: query})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	var last string
	for deadline := time.Now().Add(90 * time.Second); time.Now().Before(deadline); time.Sleep(time.Second) {
		q, err := s.Engine(storetest.PromQL()).NewInstantQuery(t.Context(), s, nil, expr, began)
		if err != nil {
			t.Fatal(err)
		}
		v, err := q.Exec(t.Context()).Vector()
		if err == nil && len(v) == 1 && v[0].F == want {
			return
		}
		last = fmt.Sprint(v, err)
	}
	t.Errorf("%s is %s, want %v", expr, last, want)
}

// began is now, on the minute.
var began = time.Now().Truncate(time.Minute)

// thanos is one that runs.
type thanos struct {
	program        string
	receive, query string // URLs
	bucket, config string // a folder, and the file that names it
}

// startThanos starts Receive, Store and Query over a folder as their bucket.
func startThanos(t *testing.T) thanos {
	t.Helper()
	program := build(t, "thanos", "github.com/thanos-io/thanos", "cmd/thanos", "-tags", "slicelabels,netgo")
	dir := t.TempDir()
	bucket := filepath.Join(dir, "bucket")
	config := filepath.Join(dir, "bucket.yml")
	if err := os.MkdirAll(bucket, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, fmt.Appendf(nil, "type: FILESYSTEM\nconfig: {directory: %s}\n", bucket), 0o600); err != nil {
		t.Fatal(err)
	}
	write, receiveGRPC, receiveHTTP := address(t), address(t), address(t)
	start(t, "http://"+receiveHTTP+"/-/ready", program, "receive", "--tsdb.path="+filepath.Join(dir, "receive"), "--remote-write.address="+write,
		"--grpc-address="+receiveGRPC, "--http-address="+receiveHTTP, `--label=replica="0"`, "--tsdb.out-of-order.time-window=2d", "--objstore.config-file="+config)
	storeGRPC, storeHTTP := address(t), address(t)
	start(t, "http://"+storeHTTP+"/-/ready", program, "store", "--data-dir="+filepath.Join(dir, "store"), "--objstore.config-file="+config,
		"--grpc-address="+storeGRPC, "--http-address="+storeHTTP, "--sync-block-duration=3s")
	queryGRPC, queryHTTP := address(t), address(t)
	start(t, "http://"+queryHTTP+"/-/ready", program, "query", "--endpoint="+receiveGRPC, "--endpoint="+storeGRPC, "--query.replica-label=replica", "--query.replica-label=tenant_id", "--query.replica-label=crowsnest",
		"--grpc-address="+queryGRPC, "--http-address="+queryHTTP)
	return thanos{program: program, receive: "http://" + write + "/api/v1/receive", query: "http://" + queryHTTP, bucket: bucket, config: config}
}

func suite(t *testing.T, write, query string, differs map[string][]float64) {
	s, err := remote.New(remote.Options{WriteURL: write, QueryURL: query})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	awaitFirst(t, s)
	storetest.Run(t, storetest.Store{Storage: s, Engine: s.Engine(storetest.PromQL()), Settle: settle, Differs: differs}, "suite")
}

// awaitFirst waits until the engine shows a first sample: Thanos asks its stores
// only now and then which times they have.
func awaitFirst(t *testing.T, s *remote.Store) {
	t.Helper()
	app := s.Appender(t.Context())
	for at := began.Add(-time.Hour); !at.After(began.Add(time.Minute)); at = at.Add(time.Minute) {
		if _, err := app.Append(0, labels.FromStrings(labels.MetricName, "first", "cluster", "first"), at.UnixMilli(), 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	q, err := s.Querier(began.Add(-time.Hour).UnixMilli(), began.UnixMilli())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = q.Close() }()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if values, _, err := q.LabelValues(t.Context(), "cluster", nil); err == nil && slices.Contains(values, "first") {
			return
		}
	}
	t.Fatal("the engine shows nothing")
}

// build builds a peer once and keeps it in the user's cache.
func build(t *testing.T, name, module, program string, flags ...string) string {
	t.Helper()
	root, err := testbed.Root()
	if err != nil {
		t.Fatal(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(root, "tools/peers", name)
	list := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Version}}", module)
	list.Dir = folder
	version, err := list.Output()
	if err != nil {
		t.Fatalf("find the version of %s: %v", module, err)
	}
	out := filepath.Join(cache, "crowsnest", "peers", name+"-"+strings.TrimSpace(string(version)))
	if _, err := os.Stat(out); err == nil {
		return out
	}
	t.Logf("building %s", module)
	cmd := exec.CommandContext(t.Context(), "go", append(append([]string{"build"}, flags...), "-o", out, module+"/"+program)...)
	cmd.Dir, cmd.Env = folder, append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", module, err, text)
	}
	return out
}

// address is a free one on loopback.
func address(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// start runs a program until the test ends, and waits until it answers.
func start(t *testing.T, ready, program string, args ...string) {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("%s said:\n%s", filepath.Base(program), text[max(0, len(text)-4000):])
		}
		_ = log.Close()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, ready, nil)
		if err != nil {
			t.Fatal(err)
		}
		if res, err := http.DefaultClient.Do(req); err == nil {
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-ended:
			text, _ := os.ReadFile(log.Name())
			t.Fatalf("%s ended:\n%s", program, text)
		case <-ctx.Done():
			t.Fatalf("%s does not answer at %s", program, ready)
		case <-time.After(200 * time.Millisecond):
		}
	}
}
