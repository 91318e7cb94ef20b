package metrics

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
)

// While late samples fill their log again and again, blocks of them are not merged; once
// they have stopped coming they are, and after half an hour, and when they are many.
func TestMergingWaitsForTheEndOfABacklog(t *testing.T) {
	ctx := context.Background()
	now := t0
	db := open(t, Options{Dir: t.TempDir(), CheckEvery: time.Hour, OutOfOrderLogBytes: 1, Now: func() time.Time { return now }})
	<-db.settled
	x := labels.FromStrings(labels.MetricName, "x")
	put(t, db, x, t0, 1)
	samples := 1
	bring := func() (blocks int) {
		t.Helper()
		put(t, db, x, t0.Add(-20*time.Hour+time.Duration(samples)*time.Second), 1)
		samples++
		if err := db.compactOutOfOrder(ctx); err != nil {
			t.Fatal(err)
		}
		if err := db.compact(ctx); err != nil {
			t.Fatal(err)
		}
		metas, err := db.BlockMetas()
		if err != nil {
			t.Fatal(err)
		}
		if got := len(values(t, db, "x")); got != samples {
			t.Errorf("%d samples, want %d", got, samples)
		}
		return len(metas)
	}
	for want := 1; want <= 5; want++ {
		if got := bring(); got != want {
			t.Errorf("%d blocks, want %d", got, want)
		}
		now = now.Add(time.Minute)
	}
	if !db.Flooded() {
		t.Error("no backlog is said to come")
	}
	now = t0.Add(floodOver + 10*time.Minute) // it had stopped
	if db.Flooded() {
		t.Error("a backlog is said to come still")
	}
	if err := db.compact(ctx); err != nil {
		t.Fatal(err)
	}
	if metas, _ := db.BlockMetas(); len(metas) != 1 {
		t.Errorf("%d blocks after its end", len(metas))
	}
	began := now
	for most := 0; ; now = now.Add(time.Minute) {
		got := bring()
		if now.Sub(began) >= mergesWait {
			if most < 20 || got != 1 {
				t.Errorf("%d blocks after at most %d", got, most)
			}
			break
		}
		most = max(most, got)
	}
	if got := bring(); got != 2 {
		t.Errorf("%d blocks after those that were merged", got)
	}
	f := flood{since: now, last: now}
	if !f.holds(now, unmergedBlocks-1) || f.holds(now, unmergedBlocks) {
		t.Errorf("holds whatever their number")
	}
}

// A kill in the middle of a backlog does not end the wait, and a start with little that is
// late begins none.
func TestMergingWaitsAfterAKillToo(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	x := labels.FromStrings(labels.MetricName, "x")
	start := func(dir string, full int64) *DB {
		t.Helper()
		db := open(t, Options{Dir: dir, CheckEvery: time.Hour, OutOfOrderLogBytes: full, Now: func() time.Time { return t0 }})
		<-db.settled
		return db
	}
	db := start(dir, 1)
	put(t, db, x, t0, 1)
	for n := range 3 {
		put(t, db, x, t0.Add(-20*time.Hour+time.Duration(n)*time.Second), 1)
		if n < 2 {
			if err := db.compactOutOfOrder(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	for full, want := range map[int64]int{1: 3, 1 << 30: 1} {
		again := start(killed(t, dir), full)
		if got := again.Flooded(); got != (full == 1) {
			t.Errorf("full at %d: a backlog is said to come: %v", full, got)
		}
		if err := again.compact(ctx); err != nil {
			t.Fatal(err)
		}
		if metas, _ := again.BlockMetas(); len(metas) != want {
			t.Errorf("full at %d: %d blocks, want %d", full, len(metas), want)
		}
		if got := len(values(t, again, "x")); got != 4 {
			t.Errorf("%d samples", got)
		}
	}
}

// A head of many hours is written block by block, and what comes late meanwhile is written
// between them.
func TestALongHeadLetsLateSamplesGo(t *testing.T) {
	db := open(t, Options{Dir: t.TempDir(), CheckEvery: time.Hour, BlockRange: time.Hour})
	<-db.settled
	db.opts.OutOfOrderLogBytes = 1
	db.compaction.mu.Lock() // nobody else compacts
	unlock := sync.OnceFunc(db.compaction.mu.Unlock)
	defer unlock()
	for hour := range 6 {
		put(t, db, labels.FromStrings(labels.MetricName, "x"), t0.Add(time.Duration(hour)*time.Hour), 1)
	}
	put(t, db, labels.FromStrings(labels.MetricName, "x"), t0.Add(5*time.Hour-time.Minute), 1) // late
	if _, err := db.compactHead(t.Context()); err != nil {
		t.Fatal(err)
	}
	metas, err := db.BlockMetas()
	if err != nil {
		t.Fatal(err)
	}
	var late, newest ulid.ULID
	for _, m := range metas {
		if m.Compaction.FromOutOfOrder() {
			late = m.ULID
		} else if m.ULID.Compare(newest) > 0 {
			newest = m.ULID
		}
	}
	if late == (ulid.ULID{}) || late.Compare(newest) > 0 {
		t.Errorf("the block of late samples is %s, want it before the head's last one, %s", late, newest)
	}
	unlock()
	if got := len(values(t, db, "x")); got != 7 {
		t.Errorf("%d samples, want 7", got)
	}
}

// Merges of a backlog that goes on let its late samples go first, and go on after that.
func TestMergesWaitForAFullLog(t *testing.T) {
	ctx, now := t.Context(), t0
	db := open(t, Options{Dir: t.TempDir(), CheckEvery: time.Hour, Now: func() time.Time { return now }})
	<-db.settled
	x := labels.FromStrings(labels.MetricName, "x")
	put(t, db, x, t0, 1)
	blocks := func() int {
		metas, err := db.BlockMetas()
		if err != nil {
			t.Fatal(err)
		}
		return len(metas)
	}
	late := func(n int) { put(t, db, x, t0.Add(-20*time.Hour+time.Duration(n)*time.Second), 1) }
	for n := range 4 {
		late(n)
		if err := db.compactLate(ctx); err != nil {
			t.Fatal(err)
		}
	}
	db.compaction.flood.came(now)
	now = now.Add(mergesWait)
	db.compaction.flood.last = now // it has gone on until now
	late(4)
	db.opts.OutOfOrderLogBytes = 1
	if err := db.compact(ctx); err != nil {
		t.Fatal(err)
	}
	if got := blocks(); got != 4 {
		t.Errorf("%d blocks while the log is full, want 4", got)
	}
	if err := db.compactOutOfOrder(ctx); err != nil {
		t.Fatal(err)
	}
	if err := db.compact(ctx); err != nil {
		t.Fatal(err)
	}
	if got := blocks(); got != 1 {
		t.Errorf("%d blocks once it is not, want 1", got)
	}
	late(5)
	if err := db.compactOutOfOrder(ctx); err != nil {
		t.Fatal(err)
	}
	if err := db.compact(ctx); err != nil {
		t.Fatal(err)
	}
	if got := blocks(); got != 2 {
		t.Errorf("%d blocks, want 2: merging has waited, and waits anew", got)
	}
}
