package logs

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"
	"golang.org/x/sys/unix"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// smallDisk mounts a file system of the given size.
func smallDisk(t *testing.T, size int) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting a small disk needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Skipf("mounting a small disk: %v", err) // a container without the right to
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill takes disk space until only so much is left; 0 takes all.
func fill(t *testing.T, dir, name string, leave int64) (remove func()) {
	t.Helper()
	path := filepath.Join(dir, name)
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 64<<10)
	for {
		free, err := freeBytes(dir)
		if err != nil {
			t.Fatal(err)
		}
		if int64(free) <= leave {
			break
		}
		if _, err := f.Write(block[:min(int64(len(block)), int64(free)-leave)]); err != nil {
			break // full
		}
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	}
}

// noise is a batch that does not compress.
func noise(r *rand.Rand, id int) *wire.LogBatch {
	b := batch(fmt.Sprint(id), dayStart().Add(time.Duration(id)*time.Second))
	for i := range 200 {
		raw := make([]byte, 500)
		for j := range raw {
			raw[j] = byte('0' + r.IntN(75))
		}
		b.Groups[0].Lines = append(b.Groups[0].Lines, wire.LogLine{Time: dayStart().Add(time.Duration(id)*time.Second + time.Duration(i)).UnixNano(), Message: string(raw)})
	}
	return b
}

// A disk that the store itself fills makes it read-only, with a word on it, and
// keeps all that was acknowledged; once there is room it goes on.
func TestAFullDisk(t *testing.T) {
	const disk, minFree = 96 << 20, 24 << 20
	dir := smallDisk(t, disk)
	store := filepath.Join(dir, "logs")
	change := func(o *Options) { o.MinFreeBytes = minFree }
	s := open(t, store, change)
	r := rand.New(rand.NewPCG(1, 2))
	stored := 0
	put := func(id int) error {
		err := s.Append(t.Context(), "prod", noise(r, id))
		if err == nil {
			stored += 200
		}
		return err
	}
	release := fill(t, dir, "other", 48<<20)
	var err error
	id := 0
	for ; id < 2000 && err == nil; id++ {
		err = put(id)
	}
	if !errors.Is(err, fault.ErrUnavailable) || stored == 0 {
		t.Fatalf("after %d lines: %v", stored, err)
	}
	if info, err := s.Info(); err != nil || info.ReadOnly == "" {
		t.Errorf("%+v %v", info, err)
	}
	if got := count(t, s, "prod"); got != stored {
		t.Errorf("%d lines are there, %d were acknowledged", got, stored)
	}

	// Another program takes the rest, the reserve as well. A merge that ran at this
	// moment would end the process: it looks for room only when it begins.
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(60 * time.Millisecond) {
		var st logstorage.StorageStats
		s.lib.UpdateStats(&st)
		if !s.merging() && st.InmemoryRowsCount == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("merges do not end")
		}
	}
	all := fill(t, dir, "all", 0)
	deadline := time.Now().Add(60 * time.Second)
	for s.space.reserved.Load() && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond) // the watcher looks ten times a second
	}
	if s.space.reserved.Load() {
		t.Error("the reserve was not given back")
	}
	rest := fill(t, dir, "rest", 0)
	if err := put(id); !errors.Is(err, fault.ErrUnavailable) {
		t.Errorf("on a full disk: %v", err)
	}
	if got := count(t, s, "prod"); got != stored {
		t.Errorf("%d lines can be read on a full disk, %d were acknowledged", got, stored)
	}
	s.probe()
	if s.space.unwritable.Load() == nil {
		t.Error("the probe did not find the disk full")
	}
	if err := s.DeleteCluster(t.Context(), "prod"); !errors.Is(err, fault.ErrUnavailable) {
		t.Errorf("delete on a full disk: %v", err)
	}

	release()
	all()
	rest()
	s.probe()
	if err := put(id); err != nil {
		t.Fatalf("with room again: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, store, change)
	if got := count(t, s, "prod"); got != stored {
		t.Errorf("%d lines after a restart, %d were acknowledged", got, stored)
	}
}

// What is there can be read after a start on a full disk, too, and it goes on once there is room.
func TestAStoreOpensOnAFullDisk(t *testing.T) {
	dir := smallDisk(t, 96<<20)
	path := filepath.Join(dir, "logs")
	s := open(t, path)
	appendOK(t, s, "prod", batch("first", dayStart(), "x"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	release := fill(t, dir, "all", 0)
	if _, err := Open(Options{Dir: filepath.Join(dir, "new")}); err == nil {
		t.Error("a new store was made on a full disk")
	}
	s = open(t, path)
	if got := count(t, s, "prod"); got != 1 {
		t.Errorf("of one line %d are read", got)
	}
	second := batch("second", dayStart().Add(time.Second), "y")
	if err := s.Append(t.Context(), "prod", second); !errors.Is(err, fault.ErrUnavailable) {
		t.Errorf("on a full disk: %v", err)
	}
	release()
	s.probe()
	appendOK(t, s, "prod", second)
	if got := count(t, s, "prod"); got != 2 {
		t.Errorf("of two lines %d are read", got)
	}
}

// What was accepted before another program filled the disk finds room in the
// reserve.
func TestTheReserveHoldsACommit(t *testing.T) {
	dir := smallDisk(t, 160<<20)
	s := open(t, filepath.Join(dir, "logs"), func(o *Options) { o.MinFreeBytes, o.CommitInterval = 64<<20, 5*time.Second })
	deadline := time.Now().Add(60 * time.Second)
	for !s.space.reserved.Load() {
		if time.Now().After(deadline) {
			t.Fatal("no reserve was taken")
		}
		time.Sleep(10 * time.Millisecond)
	}
	r := rand.New(rand.NewPCG(1, 2))
	var batches []*wire.LogBatch
	for id := range 20 {
		batches = append(batches, noise(r, id+1)) // slow where races are looked for
	}
	appendOK(t, s, "prod", batch("first", dayStart(), "x")) // the next commit comes 5 s after this one, and must find the disk full
	done := make(chan error, 20)
	for _, b := range batches {
		before, ended := s.waiting.Load(), len(done)
		go func() { done <- s.Append(t.Context(), "prod", b) }()
		for s.waiting.Load() == before && len(done) == ended { // one that comes when the disk is full is refused, and rightly
			time.Sleep(time.Millisecond)
		}
	}
	remove := fill(t, dir, "other", 0)
	for range 20 {
		if err := <-done; err != nil {
			t.Errorf("accepted, but not stored: %v", err)
		}
	}
	if got := count(t, s, "prod"); got != 20*200+1 {
		t.Errorf("%d lines are there", got)
	}
	remove()
}

func TestClusterRetention(t *testing.T) {
	s := open(t, t.TempDir(), func(o *Options) {
		o.Retention, o.ClusterRetention = 10*day, map[string]time.Duration{"short": 3 * day, "long": 60 * day}
	})
	at := func(days int) time.Time { return dayStart().Add(-time.Duration(days) * day) }
	for _, cluster := range []string{"short", "long", "usual"} {
		for _, days := range []int{1, 5, 30, 80} {
			appendOK(t, s, cluster, batch(fmt.Sprint(days), at(days), fmt.Sprint(days)))
		}
	}
	counts := func() string {
		n := func(cluster string) int { // without what tells of lines that were not taken
			return len(rows(t, s, Query{Text: "-crowsnest_dropped_reason:*", Clusters: []string{cluster}}))
		}
		return fmt.Sprint(n("short"), n("long"), n("usual"))
	}
	if got := counts(); got != "1 3 2" {
		t.Errorf("lines that are too old for their cluster are not taken: %s", got)
	}
	// Five days later; only the clock of our own moves.
	if err := s.expireBefore(time.Now().Add(6*day), map[time.Duration]int64{}); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(60 * time.Second)
	for counts() != "0 3 1" {
		if time.Now().After(deadline) {
			t.Fatalf("got %s", counts())
		}
		time.Sleep(50 * time.Millisecond) // the library deletes in the background and tells nobody
	}
	for deleting := true; deleting; {
		var err error
		if deleting, err = s.Deleting(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	if _, err := Open(Options{Dir: t.TempDir(), ClusterRetention: map[string]time.Duration{"x": time.Hour}}); err == nil {
		t.Error("a retention of an hour was taken")
	}
}
