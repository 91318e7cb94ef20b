package faults

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The disk is full: writes are refused with 503, reads are served, nothing that
// was acknowledged is lost, and writes go on by themselves once there is space.
//
// With next to no reserve the store itself meets the end of the disk, in the
// middle of a commit.
func TestFullDisk(t *testing.T) {
	t.Run("found in time", func(t *testing.T) { fullDisk(t, "MiB free", 600<<10, envTmpfs+"=1048576") })
	t.Run("met in a commit", func(t *testing.T) { fullDisk(t, "the last write to", 0, envTmpfs+"=1", envCheck+"=1h") })
}

// fullDisk fills the disk until less than left bytes are free; said is what the
// store must say.
func fullDisk(t *testing.T, said string, left uint64, env ...string) {
	disk := smallDisk(t, 48<<20)
	dir := disk.Dir
	s := start(t, filepath.Join(dir, "metrics"), env...)
	defer func() { s.kill() }()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	served := func() (n int) {
		t.Helper()
		resp, err := http.Get(s.url)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		raw, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("read: %d, %v: %s", resp.StatusCode, err, raw)
		}
		_, _ = fmt.Sscan(string(raw), &n)
		return n
	}
	acked, step := 0, 0
	next := func() (int, error) {
		b := batch{0, 0, base.Add(time.Duration(step) * time.Second)}
		step++
		status, err := send(ctx, s.url, b, b.at, false)
		if err == nil {
			acked += perBatch
		}
		return status, err
	}
	for range 20 {
		if status, err := next(); err != nil {
			t.Fatalf("with space: %d, %v", status, err)
		}
	}
	// Something else takes the disk.
	fill(t, disk, left)
	status := 0
	for status != http.StatusServiceUnavailable {
		var err error
		if status, err = next(); ctx.Err() != nil || (err != nil && status != http.StatusServiceUnavailable) {
			t.Fatalf("%d, %v\n%s", status, err, s.log)
		}
	}
	if n := served(); n < acked {
		t.Errorf("with a full disk %d of %d acknowledged samples are served", n, acked)
	}
	s.kill()
	before := s.log.String()
	fill(t, disk, 0)
	var err error
	if s, err = begin(t, filepath.Join(dir, "metrics"), env...); err == nil {
		if n := served(); n < acked {
			t.Errorf("after a start on a full disk %d of %d acknowledged samples are served", n, acked)
		}
		if status, err := next(); err == nil {
			t.Errorf("after a start on a full disk: %d", status)
		}
	} else if text := s.log.String(); !strings.Contains(text, "repair corrupted WAL") || !strings.Contains(text, "no space left on device") {
		// Where a commit met the end of the disk, there is no room to leave out the end of it.
		t.Errorf("no start on a full disk: %s", text)
	}
	if err := disk.Free(); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		s = start(t, filepath.Join(dir, "metrics"), env...)
	}
	for status != http.StatusNoContent {
		if ctx.Err() != nil {
			t.Fatalf("no recovery: %d\n%s", status, s.log)
		}
		time.Sleep(100 * time.Millisecond)
		status, _ = next()
	}
	if n := served(); n < acked {
		t.Errorf("%d of %d acknowledged samples are served", n, acked)
	}
	s.kill()
	if text := before + s.log.String(); !strings.Contains(text, "metrics store turned read-only") || !strings.Contains(text, said) || strings.Contains(text, "panic") {
		t.Errorf("said %s", text)
	}
	s = start(t, filepath.Join(dir, "metrics"), env...)
	if n := served(); n < acked {
		t.Errorf("after a restart %d of %d acknowledged samples are served", n, acked)
	}
}
