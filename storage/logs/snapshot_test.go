package logs

import (
	"context"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
)

// Lines of two days are added while snapshots are taken. Each snapshot holds
// what was acknowledged before it, and opens.
func TestSnapshotHoldsWhatWasAcknowledged(t *testing.T) {
	s := open(t, t.TempDir())
	l := load{lines: 30}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for sender := range 2 {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil && n < 200; n++ {
				appendOK(t, s, "load", writerBatch(l, sender, n, dayStart()))
			}
		})
	}
	type taken struct {
		dir  string
		want int
	}
	var all []taken
	for n := range 3 {
		appendOK(t, s, "a", batch(strconv.Itoa(n), dayStart(), "x"))
		dir := filepath.Join(s.opts.Dir, "snapshot.tmp."+strconv.Itoa(n))
		if err := s.Snapshot(context.Background(), dir); err != nil {
			t.Fatal(err)
		}
		all = append(all, taken{dir, n + 1})
	}
	cancel()
	wg.Wait()
	before := count(t, s, "load")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, one := range all {
		got := open(t, one.dir)
		if n := count(t, got, "a"); n != one.want {
			t.Errorf("%d lines, want %d", n, one.want)
		}
		if n := count(t, got, "load"); n%l.lines != 0 || n > before {
			t.Errorf("%d lines of batches of %d, of %d", n, l.lines, before)
		}
		// It goes on being used.
		appendOK(t, got, "a", batch("more", dayStart(), "x"))
		if n := count(t, got, "a"); n != one.want+1 {
			t.Errorf("%d lines after one more, want %d", n, one.want+1)
		}
	}
}
