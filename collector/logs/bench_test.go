package logs

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// benchWords are picked from, so that lines differ as those of a cluster do.
var (
	benchWords  = []string{"cart", "order", "payment", "stock", "checkout", "session", "coupon", "address", "invoice", "shipment"}
	benchLevels = []string{"INFO", "INFO", "INFO", "INFO", "INFO", "INFO", "DEBUG", "DEBUG", "WARN", "ERROR"}
	benchPaths  = []string{"/api/v1/cart/items", "/api/v1/orders", "/api/v1/login", "/static/app.js", "/healthz", "/api/v1/search"}
)

func pick[T any](r *rand.Rand, of []T) T { return of[r.IntN(len(of))] }

// benchKinds are lines as test/bench measures them next to another agent.
var benchKinds = map[string]func(r *rand.Rand, at time.Time) string{
	"json": func(r *rand.Rand, at time.Time) string {
		return fmt.Sprintf(`{"level":%q,"ts":%q,"msg":"%s request handled","method":"GET","path":%q,"status":%d,"duration_ms":%.3f,"user_id":%d,"trace_id":"%016x%016x"}`,
			strings.ToLower(pick(r, benchLevels)), at.Format("2006-01-02T15:04:05.000Z07:00"), pick(r, benchWords), pick(r, benchPaths), pick(r, []int{200, 200, 200, 201, 304, 404, 500}), r.ExpFloat64()*20, 10_000+r.IntN(50_000), r.Uint64(), r.Uint64())
	},
	"plain": func(r *rand.Rand, at time.Time) string {
		return fmt.Sprintf("%s %-5s [worker-%d] com.shop.%s.Service - %s %d was taken by %d in %d ms",
			at.Format("2006-01-02 15:04:05.000"), pick(r, benchLevels), r.IntN(16), pick(r, benchWords), pick(r, benchWords), r.IntN(1_000_000), r.IntN(50_000), int(r.ExpFloat64()*20))
	},
	"access": func(r *rand.Rand, at time.Time) string {
		return fmt.Sprintf(`10.%d.%d.%d - - [%s] "GET %s?id=%d HTTP/1.1" %d %d "-" "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0 Safari/537.36" %.3f`,
			r.IntN(4), r.IntN(256), r.IntN(256), at.Format("02/Jan/2006:15:04:05 -0700"), pick(r, benchPaths), r.IntN(1_000_000), pick(r, []int{200, 200, 200, 201, 304, 404, 500}), r.IntN(40_000), r.ExpFloat64()/50)
	},
}

// BenchmarkFiles reads a million lines of a kind from 100 files, as fast as it goes, into
// batches that are encoded and compressed; all but the request is measured.
func BenchmarkFiles(b *testing.B) {
	for _, name := range slices.Sorted(maps.Keys(benchKinds)) {
		b.Run(name, func(b *testing.B) { benchFiles(b, benchKinds[name]) })
	}
}

func benchFiles(b *testing.B, line func(r *rand.Rand, at time.Time) string) {
	const files, perFile = 100, 10_000
	root := b.TempDir()
	for i := range files {
		dir := filepath.Join(root, fmt.Sprintf("shop_cart-%d_uid-%d", i, i), "app")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			b.Fatal(err)
		}
		var text strings.Builder
		r := rand.New(rand.NewPCG(1, uint64(i)))
		const step = int64(time.Hour / perFile)
		for n := range int64(perFile) {
			at := clock.Add(time.Duration(n*step + r.Int64N(step)))
			fmt.Fprintf(&text, "%s stdout F %s\n", at.Add(300*time.Microsecond).Format("2006-01-02T15:04:05.000000000Z07:00"), line(r, at))
		}
		if err := os.WriteFile(filepath.Join(dir, "0.log"), []byte(text.String()), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	encoder := benchEncoder(b)
	var used time.Duration
	var sent int64
	for b.Loop() {
		sink := &packing{done: make(chan struct{}, 1), want: files * perFile, zstd: encoder}
		f, err := NewFiles(FilesOptions{Root: root, Dir: b.TempDir(), Sender: "node/n1", Linger: time.Millisecond})
		if err != nil {
			b.Fatal(err)
		}
		before := cpuTime(b)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- f.Run(ctx, sink) }()
		<-sink.done
		cancel()
		if err := <-ended; err != nil {
			b.Fatal(err)
		}
		used += cpuTime(b) - before
		sent += sink.bytes.Load()
	}
	lines := float64(b.N) * files * perFile
	b.ReportMetric(float64(used.Nanoseconds())/lines, "cpu-ns/line")
	b.ReportMetric(float64(sent)/lines, "sent-B/line")
}

// writerEnv has the test's program write lines into the files of a folder instead of
// testing: the cost of writing them is not the collector's.
const writerEnv = "CROWSNEST_BENCH_WRITE"

const (
	steadyFiles = 100
	steadyLines = 10_000 // a second, over all files
)

// writeSteadily appends a line to one file after the other, those of every 20 ms
// together, until its input ends.
func writeSteadily(root string) {
	var files []*os.File
	for i := range steadyFiles {
		f, err := os.OpenFile(filepath.Join(root, fmt.Sprintf("shop_cart-%d_uid-%d", i, i), "app", "0.log"), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			panic(err)
		}
		files = append(files, f)
	}
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); os.Exit(0) }()
	start, wrote := time.Now(), 0
	for range time.Tick(20 * time.Millisecond) {
		for want := int(time.Since(start).Seconds() * steadyLines); wrote < want; wrote++ {
			if _, err := files[wrote%len(files)].WriteString(fmt.Sprintf("%s stdout F %s\n", time.Now().UTC().Format("2006-01-02T15:04:05.000000000Z07:00"), benchLine(wrote, wrote%len(files)))); err != nil {
				panic(err)
			}
		}
	}
}

func benchLine(n, file int) string {
	return fmt.Sprintf(`{"level":"info","ts":"2026-11-23T10:00:00.123Z","msg":"request handled","method":"GET","path":"/api/v1/cart/items","status":200,"duration_ms":12.345,"user_id":1%05d,"trace_id":"4bf92f3577b34da6a3ce929d0e%06d"}`, n, file)
}

// benchEncoder compresses as the way to the server does.
func benchEncoder(b *testing.B) *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(512<<10))
	if err != nil {
		b.Fatal(err)
	}
	return e
}

// packing takes batches as the way to the server does, but for the request.
type packing struct {
	lines, bytes atomic.Int64
	done         chan struct{}
	want         int64
	zstd         *zstd.Encoder
}

func (p *packing) Send(_ context.Context, b *wire.LogBatch) error {
	lines := int64(b.Lines()) // which Encode lets go of
	raw, err := b.Encode()
	if err != nil {
		return err
	}
	p.bytes.Add(int64(len(p.zstd.EncodeAll(raw, make([]byte, 0, len(raw)/4)))))
	if p.lines.Add(lines) >= p.want {
		select {
		case p.done <- struct{}{}:
		default:
		}
	}
	return nil
}

// BenchmarkFilesSteadily follows 100 files into which another process writes 10,000
// lines a second, each by itself, for 10 s an iteration.
func BenchmarkFilesSteadily(b *testing.B) {
	root := b.TempDir()
	for i := range steadyFiles {
		dir := filepath.Join(root, fmt.Sprintf("shop_cart-%d_uid-%d", i, i), "app")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "0.log"), nil, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	sink := &packing{done: make(chan struct{}, 1), want: 1 << 60, zstd: benchEncoder(b)}
	f, err := NewFiles(FilesOptions{Root: root, Dir: b.TempDir(), Sender: "node/n1"})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx, sink) }()
	writer := exec.Command(os.Args[0])
	writer.Env = append(os.Environ(), writerEnv+"="+root)
	stdin, err := writer.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := writer.Start(); err != nil {
		b.Fatal(err)
	}
	time.Sleep(2 * time.Second)
	before, lines := cpuTime(b), sink.lines.Load()
	for b.Loop() {
		time.Sleep(10 * time.Second)
	}
	b.ReportMetric((cpuTime(b)-before).Seconds()*1e6/float64(sink.lines.Load()-lines), "CPU-s/Mlines")
	_ = stdin.Close()
	_ = writer.Wait()
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}

func cpuTime(b *testing.B) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
