package queue

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

var t0 = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

func open(t *testing.T, dir string, now time.Time, maxBytes int64) *Queue {
	t.Helper()
	q, err := Open(Options{Dir: dir, MaxBytes: maxBytes, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func item(minute, samples int) Item {
	at := t0.Add(time.Duration(minute) * time.Minute)
	return Item{First: at, Last: at, Through: at, Interval: 30 * time.Second, Samples: samples}
}

func put(t *testing.T, q *Queue, i Item, body string) Item {
	t.Helper()
	i, err := q.Put(i, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestBatchesSurviveAReopenInOrder(t *testing.T) {
	dir := t.TempDir()
	q := open(t, dir, t0, 0)
	a := put(t, q, item(0, 3), "first")
	put(t, q, item(1, 4), "second")
	// What a kill in the middle of a write leaves behind.
	if err := os.WriteFile(filepath.Join(dir, "0000000000000009-1-1-1-30-1.batch.tmp"), []byte("ha"), 0o600); err != nil {
		t.Fatal(err)
	}
	q = open(t, dir, t0, 0)
	got, ok := q.Next(t0.Add(time.Hour))
	if !ok || got != a {
		t.Fatalf("oldest is %+v, want %+v", got, a)
	}
	if body, err := q.Read(got); err != nil || string(body) != "first" {
		t.Errorf("read %q, %v", body, err)
	}
	q.Done(got)
	got, _ = q.Next(t0.Add(time.Hour))
	if body, _ := q.Read(got); string(body) != "second" || got.Samples != 4 {
		t.Errorf("after the first was done: %q of %+v", body, got)
	}
	q.Done(got)
	if n, bytes, oldest, dropped := q.Stats(); n != 0 || bytes != 0 || !oldest.IsZero() || dropped != 0 {
		t.Errorf("an empty queue has %d batches, %d bytes, oldest %v, %d dropped", n, bytes, oldest, dropped)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("files are left: %v", left)
	}
	// Sequence numbers go on after what is on disk only; an empty folder may begin anew.
	if b := put(t, q, item(2, 1), "x"); b.Sequence <= a.Sequence {
		t.Errorf("sequence went from %d to %d", a.Sequence, b.Sequence)
	}
}

func TestBoundsDropTheOldestAndCountIt(t *testing.T) {
	dir := t.TempDir()
	q := open(t, dir, t0, 10)
	put(t, q, item(0, 3), "aaaa")
	put(t, q, item(1, 4), "bbbb")
	put(t, q, item(2, 5), "cccc") // does not fit beside the two
	n, bytes, oldest, dropped := q.Stats()
	if n != 2 || bytes != 8 || !oldest.Equal(t0.Add(time.Minute)) || dropped != 3 {
		t.Errorf("%d batches, %d bytes, oldest %v, %d dropped", n, bytes, oldest, dropped)
	}
	if _, err := q.Put(item(3, 9), make([]byte, 11)); !errors.Is(err, fault.ErrTooLarge) {
		t.Errorf("a batch larger than the queue gave %v", err)
	}
	// The server accepts less than what waits.
	q.now = func() time.Time { return t0.Add(10 * time.Minute) }
	q.SetMaxAge(8*time.Minute + 30*time.Second)
	if got, ok := q.Next(t0.Add(time.Hour)); !ok || got.Samples != 5 {
		t.Errorf("oldest is %+v", got)
	}
	if got := testutil.ToFloat64(q.metrics.dropped.WithLabelValues(DropAge)); got != 4 {
		t.Errorf("%v samples dropped for their age, want 4", got)
	}
}

func TestWhatIsLiveStillGoesBeforeTheBacklog(t *testing.T) {
	q := open(t, t.TempDir(), t0, 0)
	for i := range 5 {
		put(t, q, item(i, i+1), "x")
	}
	for _, want := range []struct{ young, samples int }{{10, 1}, {4, 5}, {3, 4}, {0, 1}} {
		if got, ok := q.Next(t0.Add(time.Duration(want.young) * time.Minute)); !ok || got.Samples != want.samples {
			t.Errorf("with minute %d young, next is %+v, want that of %d samples", want.young, got, want.samples)
		}
	}
}

func TestDropsAreToldWithTheirTimes(t *testing.T) {
	dir := t.TempDir()
	q := open(t, dir, t0, 10)
	it := item(0, 3)
	it.Unchecked = true
	put(t, q, it, "aaaa")
	q = open(t, dir, t0, 10)
	if got, _ := q.Next(t0); !got.Unchecked {
		t.Errorf("after a reopen: %+v", got)
	}
	put(t, q, item(1, 4), "bbbb")
	put(t, q, item(2, 5), "cccc")
	put(t, q, item(3, 6), "dddd")
	q.SetMaxBytes(3)
	put(t, q, item(4, 1), "e")
	drops := q.Drops()
	if len(drops) != 1 || drops[0] != (Drop{Reason: DropBytes, Samples: 18, From: t0, To: t0.Add(3 * time.Minute)}) {
		t.Errorf("drops %+v", drops)
	}
	if age, bytes := q.Bounds(); age != DefaultMaxAge || bytes != 3 {
		t.Errorf("bounds %v, %d", age, bytes)
	}
}

func TestUnwritableFolderIsSaidAndCounted(t *testing.T) {
	dir := t.TempDir()
	q := open(t, dir, t0, 0)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Put(item(0, 7), []byte("x")); err == nil {
		t.Fatal("a batch was sealed in a folder that is gone")
	}
	if got := testutil.ToFloat64(q.metrics.dropped.WithLabelValues(DropDisk)); got != 7 {
		t.Errorf("%v samples dropped for the disk, want 7", got)
	}
}

func TestForeignAndDamagedFiles(t *testing.T) {
	dir := t.TempDir()
	q := open(t, dir, t0, 0)
	a := put(t, q, item(0, 2), "x")
	for _, name := range []string{"README", "0000000000000001-x-1-1-1-1.batch", "1-1-1-1-1-1.batch"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	q = open(t, dir, t0, 0)
	if n, _, _, _ := q.Stats(); n != 1 {
		t.Errorf("%d batches, want the one that is ours", n)
	}
	if err := os.Remove(filepath.Join(dir, a.name())); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Read(a); !errors.Is(err, fault.ErrNotFound) {
		t.Errorf("reading a file that is gone gave %v", err)
	}
	if n, _, _, dropped := q.Stats(); n != 0 || dropped != 2 {
		t.Errorf("%d batches, %d dropped", n, dropped)
	}
}

func TestMetricsAreWellFormed(t *testing.T) {
	reg := prometheus.NewRegistry()
	if _, err := Open(Options{Dir: t.TempDir(), Registerer: reg}); err != nil {
		t.Fatal(err)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}

func FuzzParseName(f *testing.F) {
	f.Add(Item{Sequence: 1, First: t0, Last: t0, Through: t0, Interval: time.Minute, Samples: 5}.name())
	f.Fuzz(func(t *testing.T, name string) {
		if i, ok := parseName(name); ok && i.name() != name {
			t.Errorf("%q reads as %+v, which is written %q", name, i, i.name())
		}
	})
}
