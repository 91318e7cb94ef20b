package metrics

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
)

func TestManyEnded(t *testing.T) {
	for _, c := range []struct {
		ended, left, all uint64
		want             bool
	}{
		{ended: 0, all: 0},
		{ended: 1000, all: 1000},                                // too few for a block
		{ended: 100_000, all: 1_000_000},                        // of too many others
		{ended: 125_000, all: 1_000_000, want: true},            //
		{ended: 125_000, left: 100_000, all: 1_000_000},         // most cannot go
		{ended: 60_000, left: 100_000, all: 100_000},            // the head's block took some of these
		{ended: 400_000, left: 100_000, all: 1e6, want: true},   //
		{ended: 50_000, left: 0, all: 8 * 50_000, want: true},   //
		{ended: 49_999, left: 0, all: 49_999},                   //
		{ended: 2_400_000, left: 0, all: 5_000_000, want: true}, //
	} {
		if got := manyEnded(c.ended, c.left, c.all, endedLeast); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// A store lets go of what is over by itself, but only when memory is scarce.
func TestEndedSeriesLeaveScarceMemory(t *testing.T) {
	for _, scarce := range []bool{false, true} {
		tried := make(chan struct{}, 1)
		db := open(t, Options{CheckEvery: 50 * time.Millisecond, Now: func() time.Time { return t0 }, Scarce: func() bool {
			select {
			case tried <- struct{}{}:
			default:
			}
			return scarce
		}})
		<-db.settled
		const over = 500
		db.compaction.mu.Lock()
		db.compaction.least = over
		db.compaction.mu.Unlock()
		for i, v := range []float64{1, math.Float64frombits(value.StaleNaN)} {
			app := db.Appender(t.Context())
			for n := range over {
				if _, err := app.Append(0, labels.FromStrings(labels.MetricName, "over", "n", strconv.Itoa(n)), t0.Add(time.Duration(i)*time.Minute).UnixMilli(), v); err != nil {
					t.Fatal(err)
				}
			}
			if err := app.Commit(); err != nil {
				t.Fatal(err)
			}
		}
		put(t, db, labels.FromStrings(labels.MetricName, "live"), t0, 1)
		<-tried
		if !scarce {
			<-tried // what came of the first one is done
		}
		for scarce && testutil.ToFloat64(db.metrics.endedCompactions) == 0 {
			time.Sleep(time.Millisecond)
		}
		if n := db.Series(); n != 1 && scarce || n != over+1 && !scarce {
			t.Errorf("scarce %v: %d series in memory", scarce, n)
		}
	}
}

func letGoOfEnded(t *testing.T, db *DB) {
	t.Helper()
	db.compaction.mu.Lock()
	defer db.compaction.mu.Unlock()
	if err := db.letGoOfEndedLocked(); err != nil {
		t.Fatal(err)
	}
}

// Whoever reads does not notice that series which are over have left memory: not when
// they come back, not after kills, nor when the head's block is written later.
func TestEndedSeriesAreKept(t *testing.T) {
	dir := t.TempDir()
	db := still(t, dir)
	want := map[string]map[int64]string{}
	one := func(name string, at time.Time, v float64) {
		t.Helper()
		put(t, db, labels.FromStrings(labels.MetricName, name), at, v)
		if want[name] == nil {
			want[name] = map[int64]string{}
		}
		want[name][int64(at.Sub(t0).Seconds())] = fmt.Sprint(v)
	}
	check := func(when string, db *DB) {
		t.Helper()
		for name, want := range want {
			got := values(t, db, name)
			same := len(got) == len(want)
			for at, v := range want {
				same = same && v == fmt.Sprint(got[at])
			}
			if !same {
				t.Errorf("%s, %s: %d samples, want %d", when, name, len(got), len(want))
			}
		}
	}
	both := func(when string) {
		t.Helper()
		check(when, db)
		check(when+", killed", still(t, killed(t, dir)))
	}
	stale := math.Float64frombits(value.StaleNaN)
	for n := range 150 { // over a border of blocks, and over full chunks
		at := t0.Add(time.Duration(n-15) * time.Minute)
		one("live", at, 1)
		one("over", at, 1)
		if n < 20 {
			one("comes back", at, 1)
		}
	}
	one("late", t0, 1)
	one("late", t0.Add(-3*time.Hour), 1)
	for _, name := range []string{"over", "comes back", "late"} {
		one(name, t0.Add(136*time.Minute), stale)
	}
	before := db.Series()
	letGoOfEnded(t, db)
	if n := db.Series(); n != before-2 || db.compaction.ended != 1 {
		t.Errorf("%d series in memory of %d, %d of which are over", n, before, db.compaction.ended)
	}
	both("let go")
	one("live", t0.Add(137*time.Minute), 1)
	one("comes back", t0.Add(137*time.Minute), 2)
	one("comes back", t0.Add(135*time.Minute), 3) // late, and of the time of its block
	one("over", t0.Add(134*time.Minute+30*time.Second), 4)
	both("some came back")
	dir = killed(t, dir)
	db = still(t, dir)
	one("comes back", t0.Add(138*time.Minute), stale)
	letGoOfEnded(t, db)
	both("once more")
	for n := range 120 { // so that a block of the head is due
		one("live", t0.Add(time.Duration(140+n)*time.Minute), 1)
	}
	if err := db.compact(context.Background()); err != nil {
		t.Fatal(err)
	}
	both("the head's block is written")
}

// As in TestMergedLateSamplesDoNotHideTheLog: a block of series that are over reaches
// further than what of the head is in blocks, and says nothing of that.
func TestEndedSeriesDoNotHideTheLog(t *testing.T) {
	dir := t.TempDir()
	start := t0.Truncate(6 * time.Hour)
	db := still(t, dir)
	x, over := labels.FromStrings(labels.MetricName, "x"), labels.FromStrings(labels.MetricName, "over")
	want := 0
	one := func(at time.Duration) {
		t.Helper()
		put(t, db, x, start.Add(at), 1)
		want++
	}
	for n := range 12 * 31 { // 6 h 12 m by minute
		one(time.Duration(n) * time.Minute)
	}
	if err := db.compact(context.Background()); err != nil {
		t.Fatal(err)
	}
	put(t, db, over, start.Add(371*time.Minute), 1)
	put(t, db, over, start.Add(372*time.Minute), math.Float64frombits(value.StaleNaN))
	letGoOfEnded(t, db)
	for _, at := range []time.Duration{5 * time.Hour, 6*time.Hour + time.Minute} {
		one(at + 30*time.Second)
	}
	if err := db.compactLate(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := db.compact(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := len(values(t, still(t, killed(t, dir)), "x")); got != want {
		t.Errorf("%d samples, want %d", got, want)
	}
}
