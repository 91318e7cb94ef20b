package logs

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// counting takes everything at once.
type counting struct {
	lines atomic.Int64
	done  chan struct{}
	want  int64
}

func (c *counting) Send(_ context.Context, b *wire.LogBatch) error {
	if c.lines.Add(int64(b.Lines())) >= c.want {
		select {
		case c.done <- struct{}{}:
		default:
		}
	}
	return nil
}

// BenchmarkFiles reads 200,000 lines of a kind from 100 files, without the encoding
// and sending of batches.
func BenchmarkFiles(b *testing.B) {
	for name, line := range map[string]func(n, file int) string{
		"json": benchLine,
		"plain": func(n, file int) string {
			return fmt.Sprintf("2026-11-23 10:00:00,123 INFO  [worker-%d] com.shop.cart.Checkout - order %d of customer 1%05d was put into the queue after %d ms", file, n, n, n%97)
		},
		"access": func(n, file int) string {
			return fmt.Sprintf(`10.1.%d.%d - - [23/Nov/2026:10:00:00 +0000] "GET /api/v1/cart/items?id=%d HTTP/1.1" 200 %d "-" "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0 Safari/537.36" 0.0%d`, file, n%250, n, n%9999, n%97)
		},
	} {
		b.Run(name, func(b *testing.B) { benchFiles(b, line) })
	}
}

func benchFiles(b *testing.B, line func(n, file int) string) {
	const files, perFile = 100, 2000
	root := b.TempDir()
	for i := range files {
		dir := filepath.Join(root, fmt.Sprintf("shop_cart-%d_uid-%d", i, i), "app")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			b.Fatal(err)
		}
		var text strings.Builder
		for n := range perFile {
			text.WriteString(cri(n, "stdout", "F", line(n, i)))
		}
		if err := os.WriteFile(filepath.Join(dir, "0.log"), []byte(text.String()), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	var used time.Duration
	for b.Loop() {
		sink := &counting{done: make(chan struct{}, 1), want: files * perFile}
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
	}
	b.ReportMetric(used.Seconds()/float64(b.N)*1e6/(files*perFile), "CPU-s/Mlines")
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

// packing takes batches as the way to the server does, but for the request.
type packing struct {
	counting
	zstd *zstd.Encoder
}

func (p *packing) Send(ctx context.Context, b *wire.LogBatch) error {
	raw, err := wire.MarshalLogBatch(b)
	if err != nil {
		return err
	}
	_ = p.zstd.EncodeAll(raw, make([]byte, 0, len(raw)/4))
	return p.counting.Send(ctx, b)
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
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		b.Fatal(err)
	}
	sink := &packing{counting{done: make(chan struct{}, 1), want: 1 << 60}, encoder}
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
