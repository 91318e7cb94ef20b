package logs

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

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

// BenchmarkFiles reads 200,000 JSON lines of 216 bytes from 100 files, without
// the encoding and sending of batches.
func BenchmarkFiles(b *testing.B) {
	const files, perFile = 100, 2000
	root := b.TempDir()
	for i := range files {
		dir := filepath.Join(root, fmt.Sprintf("shop_cart-%d_uid-%d", i, i), "app")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			b.Fatal(err)
		}
		var text strings.Builder
		for n := range perFile {
			text.WriteString(cri(n, "stdout", "F", fmt.Sprintf(`{"level":"info","ts":"2026-11-23T10:00:00.123Z","msg":"request handled","method":"GET","path":"/api/v1/cart/items","status":200,"duration_ms":12.345,"user_id":1%05d,"trace_id":"4bf92f3577b34da6a3ce929d0e%06d"}`, n, i)))
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

func cpuTime(b *testing.B) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
