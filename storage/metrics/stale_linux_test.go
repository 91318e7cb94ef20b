package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

var ends = math.Float64frombits(value.StaleNaN)

// sendRange sends a value of the series from first up to before last.
func sendRange(db *DB, name string, first, last int, at time.Time, v float64) error {
	app := db.Appender(context.Background())
	for n := first; n < last; n++ {
		if _, err := app.Append(0, numbered(name, n), at.UnixMilli(), v); err != nil {
			return errors.Join(err, app.Rollback())
		}
	}
	return app.Commit()
}

// endedSeries has a head of a block and a quarter, which is not due, with as many series that go on as
// have ended in the middle.
func endedSeries(t *testing.T, o Options, each int) *DB {
	t.Helper()
	o.CheckEvery, o.BlockRange, o.Now = time.Hour, time.Hour, func() time.Time { return t0 }
	db := open(t, o)
	<-db.settled
	for minute := range 75 {
		at, v := t0.Add(time.Duration(minute)*time.Minute), float64(minute)
		err := sendRange(db, "goes_on", 0, each, at, v)
		switch {
		case minute < 60:
			err = errors.Join(err, sendRange(db, "ended", 0, each, at, v))
		case minute == 60:
			err = errors.Join(err, sendRange(db, "ended", 0, each, at, ends))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return db
}

// leave has series that ended leave, as if that were due.
func leave(db *DB) error {
	db.compaction.mu.Lock()
	defer db.compaction.mu.Unlock()
	if db.doubt() != nil { // nothing else is done before that is mended
		return nil
	}
	return db.compactStaleLocked()
}

// hasEach looks that each series has these samples, and each once.
func hasEach(t *testing.T, db *DB, name string, each int, minutes ...int) {
	t.Helper()
	got := perTime(t, db, name)
	for _, minute := range minutes {
		at := t0.Add(time.Duration(minute) * time.Minute)
		if n := got[at.UnixMilli()]; n != each {
			t.Errorf("%s: %d samples at minute %d, want %d", name, n, minute, each)
		}
		delete(got, at.UnixMilli())
	}
	if len(got) > 0 {
		t.Errorf("%s: there are samples of %d times more", name, len(got))
	}
}

func minutes(n int) (out []int) {
	for minute := range n {
		out = append(out, minute)
	}
	return out
}

// A series that ended leaves the memory, and whatever was taken of it is there before, during and after that,
// whenever the server is killed. What comes of it later begins it anew, also where that is late.
func TestSeriesThatEndedLeaveTheHead(t *testing.T) {
	const each = 50
	dir, log := t.TempDir(), newSaid()
	db := endedSeries(t, Options{Dir: dir, Logger: slog.New(log)}, each)
	var copies []string
	look := func() {
		hasEach(t, db, "ended", each, minutes(61)...)
		hasEach(t, db, "goes_on", each, minutes(75)...)
		copies = append(copies, killed(t, dir))
	}
	look()
	log.at("Head portion block created", look) // is there, and not read yet
	if err := leave(db); err != nil {
		t.Fatal(err)
	}
	look()
	if n := db.Series(); n != each {
		t.Errorf("the head has %d series, want %d", n, each)
	}
	if n := testutil.ToFloat64(db.metrics.staleSeries); n != each {
		t.Errorf("%v series are said to have left", n)
	}
	for n, dir := range copies {
		again := still(t, dir)
		hasEach(t, again, "ended", each, minutes(61)...)
		hasEach(t, again, "goes_on", each, minutes(75)...)
		if want := uint64(2 * each); n < 2 && again.Series() != want || n == 2 && again.Series() != each {
			t.Errorf("after kill %d the head has %d series", n, again.Series())
		}
		if err := leave(again); err != nil || again.Series() != each { // a start knows who had ended
			t.Errorf("after kill %d the head has %d series once those that ended have left: %v", n, again.Series(), err)
		}
		hasEach(t, again, "ended", each, minutes(61)...)
	}

	// Late for a series that ended, and in order for one that begins anew; late for both; and for none.
	want := minutes(61)
	for _, later := range []int{50, 36, -600, 80} {
		if err := sendRange(db, "ended", 0, each, t0.Add(time.Duration(later)*time.Minute+time.Second), 7); err != nil {
			t.Fatal(err)
		}
	}
	all := func(db *DB) {
		t.Helper()
		got := perTime(t, db, "ended")
		for _, minute := range want {
			if n := got[t0.Add(time.Duration(minute)*time.Minute).UnixMilli()]; n != each {
				t.Errorf("%d samples at minute %d", n, minute)
			}
		}
		for _, later := range []int{50, 36, -600, 80} {
			if n := got[t0.Add(time.Duration(later)*time.Minute+time.Second).UnixMilli()]; n != each {
				t.Errorf("%d samples of after it had left, of minute %d", n, later)
			}
		}
		if len(got) != len(want)+4 {
			t.Errorf("samples of %d times", len(got))
		}
	}
	all(db)
	all(still(t, killed(t, dir)))

	// Once the head has come so far, its block has what left it, and the log the rest.
	if err := sendRange(db, "goes_on", 0, each, t0.Add(170*time.Minute), 7); err != nil {
		t.Fatal(err)
	}
	if err := db.compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	all(db)
	metas, err := db.BlockMetas()
	if err != nil {
		t.Fatal(err)
	}
	for n, m := range metas {
		if n > 0 && metas[n-1].MaxTime > m.MinTime {
			t.Errorf("blocks overlap: %v and %v", metas[n-1], m)
		}
	}
	all(still(t, killed(t, dir)))
}

// A block of series that ended is of a time of which the log has others that no block has.
func TestSeriesThatEndedDoNotHideTheLog(t *testing.T) {
	const each = 20
	dir := t.TempDir()
	db := endedSeries(t, Options{Dir: dir}, each)
	for range 2 {
		if err := leave(db); err != nil {
			t.Fatal(err)
		}
		if err := db.compact(t.Context()); err != nil { // merges what overlaps
			t.Fatal(err)
		}
		hasEach(t, still(t, killed(t, dir)), "goes_on", each, minutes(75)...)
		if err := errors.Join(sendRange(db, "ended", 0, each, t0.Add(61*time.Minute), 1), sendRange(db, "ended", 0, each, t0.Add(62*time.Minute), ends)); err != nil {
			t.Fatal(err)
		}
	}
	hasEach(t, db, "ended", each, minutes(63)...)
	hasEach(t, still(t, killed(t, dir)), "ended", each, minutes(63)...)
}

// Series with samples that are late in memory stay until these are in blocks.
func TestSeriesWithLateSamplesStay(t *testing.T) {
	const each = 20
	dir := t.TempDir()
	db := endedSeries(t, Options{Dir: dir}, each)
	if err := sendRange(db, "ended", 0, each/2, t0.Add(-10*time.Hour), 1); err != nil {
		t.Fatal(err)
	}
	for _, stay := range []uint64{each / 2, 0} {
		if err := leave(db); err != nil {
			t.Fatal(err)
		}
		if n := db.Series(); n != each+stay {
			t.Errorf("the head has %d series, want %d", n, each+stay)
		}
		for _, db := range []*DB{db, still(t, killed(t, dir))} {
			if n := samplesOf(t, db, "ended", t0.Add(-10*time.Hour)); n != each/2 {
				t.Errorf("%d late samples", n)
			}
		}
		if err := db.compactLate(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// They leave where they are many, a good while before all else does, and not again and again.
func TestWhenSeriesThatEndedLeave(t *testing.T) {
	for name, c := range map[string]struct {
		least, more int
		at          time.Duration // the head goes on up to there
		leave       bool
	}{
		"half of all":                   {20, 0, 75 * time.Minute, true},
		"a twelfth":                     {20, 200, 75 * time.Minute, true},
		"less than a twelfth":           {20, 201, 75 * time.Minute, false},
		"few":                           {21, 0, 75 * time.Minute, false},
		"the head is due soon":          {20, 0, 85 * time.Minute, false},
		"the head is not due that soon": {20, 0, 84 * time.Minute, true},
	} {
		t.Run(name, func(t *testing.T) {
			db := endedSeries(t, Options{StaleSeries: uint64(c.least)}, 20)
			if err := sendRange(db, "more", 0, c.more, t0.Add(c.at), 1); err != nil {
				t.Fatal(err)
			}
			put(t, db, numbered("goes_on", 0), t0.Add(c.at), 1)
			before := db.Series()
			if err := db.compactStale(t.Context()); err != nil {
				t.Fatal(err)
			}
			if left := db.Series() < before; left != c.leave {
				t.Errorf("they left: %v", left)
			}
		})
	}
	db := endedSeries(t, Options{StaleSeries: 1}, 20)
	if err := db.compactStale(t.Context()); err != nil || db.Series() != 20 {
		t.Fatal(db.Series(), err)
	}
	for _, c := range []struct {
		minute int
		leave  bool
	}{{76, false}, {78, false}, {79, true}} {
		if err := errors.Join(sendRange(db, "ended", 0, 20, t0.Add(time.Duration(c.minute)*time.Minute), ends), db.compactStale(t.Context())); err != nil {
			t.Fatal(err)
		}
		if left := db.Series() == 20; left != c.leave {
			t.Errorf("again at minute %d: they left: %v", c.minute, left)
		}
	}
}

// A series that comes again while it leaves is logged behind that: a start would let both go.
func TestASeriesThatComesAgainWhileItLeaves(t *testing.T) {
	const each = 5000
	dir := t.TempDir()
	db := open(t, Options{Dir: dir, CheckEvery: time.Hour, Now: func() time.Time { return t0 }})
	<-db.settled
	if err := errors.Join(sendRange(db, "goes_on", 0, 1, t0.Add(time.Hour), 1), sendRange(db, "ended", 0, each, t0, 1), sendRange(db, "ended", 0, each, t0.Add(time.Second), ends)); err != nil {
		t.Fatal(err)
	}
	var senders sync.WaitGroup
	ended := make(chan struct{})
	came := make([]*atomic.Bool, each)
	for n := range came {
		came[n] = &atomic.Bool{}
	}
	for sender := range 2 {
		random := rand.New(rand.NewPCG(3, uint64(sender)))
		senders.Go(func() {
			for {
				select {
				case <-ended:
					return
				default:
				}
				// In order for a series that begins anew alone, and late for the one that ended.
				n := random.IntN(each)
				if db.Series() > each { // none has left
					continue
				}
				if err := sendOne(db, numbered("ended", n), t0.Add(2*time.Second)); err != nil {
					t.Error(err)
					return
				}
				came[n].Store(true)
			}
		})
	}
	err := leave(db)
	for began := time.Now(); !slices.ContainsFunc(came, func(c *atomic.Bool) bool { return c.Load() }) && time.Since(began) < 10*time.Second; {
		time.Sleep(time.Millisecond)
	}
	close(ended)
	senders.Wait()
	if err != nil {
		t.Fatal(err)
	}
	copied := killedNow(t, db)
	want := 0
	for n := range came {
		if came[n].Load() {
			want++
		}
	}
	for _, db := range []*DB{db, still(t, copied)} {
		if n := samplesOf(t, db, "ended", t0.Add(2*time.Second)); n != want {
			t.Errorf("%d of %d samples that were acknowledged are there", n, want)
		}
	}
	if want == 0 {
		t.Error("none came again")
	}
	t.Logf("%d came again, %d stayed", want, db.Series())
}

// Where the log cannot be told that series have left, the process ends.
func TestSeriesThatLeftAndAreNotLoggedEndTheProcess(t *testing.T) {
	const child, goesOn = "CROWSNEST_TEST_LEFT_UNLOGGED", "it goes on"
	if dir := os.Getenv(child); dir != "" {
		db := endedSeries(t, Options{Dir: dir}, 5)
		full(t, filepath.Join(dir, "wal"), func() { fmt.Println(goesOn, leave(db)) })
		return
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.timeout=1m")
	cmd.Env = append(os.Environ(), child+"="+dir)
	out, err := cmd.CombinedOutput()
	if said := string(out); err == nil || !strings.Contains(said, "5 series that ended are in blocks and have left the head") || strings.Contains(said, goesOn) {
		t.Fatalf("it ended with %v:\n%s", err, out)
	}
	db := still(t, dir)
	hasEach(t, db, "ended", 5, minutes(61)...)
	if err := sendRange(db, "ended", 0, 5, t0.Add(50*time.Minute+time.Second), 1); err != nil {
		t.Fatal(err)
	}
	if n := samplesOf(t, still(t, killed(t, dir)), "ended", t0.Add(50*time.Minute+time.Second)); n != 5 {
		t.Errorf("%d of 5 late samples are there after a kill", n)
	}
}

// Their blocks, or somebody else, may fill the disk: the log could not be told then that they left.
func TestSeriesStayWhereTheDiskIsFullByThen(t *testing.T) {
	const each, enough = 20, 10 << 30
	var free atomic.Uint64
	free.Store(enough)
	log := newSaid()
	db := endedSeries(t, Options{Dir: t.TempDir(), Logger: slog.New(log), FreeBytes: func(string) (uint64, error) { return free.Load(), nil }}, each)
	log.at("Head portion block created", func() { free.Store(1 << 20) })
	for _, want := range []uint64{2 * each, each} {
		if err := leave(db); err != nil || db.Series() != want {
			t.Errorf("the head has %d series, want %d: %v", db.Series(), want, err)
		}
		hasEach(t, db, "ended", each, minutes(61)...)
		hasEach(t, still(t, killed(t, db.opts.Dir)), "ended", each, minutes(61)...)
		free.Store(enough)
	}
}

// Readers who are never all done at once are kept back for a moment, so that what waits for that comes to it.
func TestReadersAreKeptBack(t *testing.T) {
	db := still(t, t.TempDir())
	put(t, db, numbered("x", 0), t0, 1)
	done := make(chan struct{})
	var reading atomic.Int32
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for waitedFor := false; !waitedFor; {
				q, err := db.Querier(0, math.MaxInt64)
				if err != nil {
					t.Error(err)
					return
				}
				reading.Add(1)
				waitedFor = waited(done, time.Duration(5+rand.IntN(10))*time.Millisecond)
				reading.Add(-1)
				_ = q.Close()
			}
		})
	}
	readers.Go(func() { db.readers.pause(done, 10*time.Millisecond) })
	for began := time.Now(); reading.Load() == 0; time.Sleep(time.Millisecond) {
		if time.Since(began) > 5*time.Second {
			t.Fatal("nobody reads")
		}
	}
	db.readers.awaitLast()
	for began := time.Now(); !keptBack(db) || reading.Load() > 0; time.Sleep(time.Millisecond) {
		if time.Since(began) > 30*time.Second {
			t.Error("there was no moment at which nobody read")
			break
		}
	}
	close(done)
	db.readers.goOn()
	readers.Wait()
	if keptBack(db) {
		t.Error("readers are kept back still")
	}
}

// Whoever begins to read while series leave has what they had: of some it would find chunks in the head, and
// then that they are gone.
func TestReadersWhoBeginWhileSeriesLeave(t *testing.T) {
	const each = 20_000
	db := still(t, t.TempDir())
	for n, v := range []float64{1, ends} {
		if err := sendRange(db, "ended", 0, each, t0.Add(time.Duration(n)*time.Second), v); err != nil {
			t.Fatal(err)
		}
	}
	put(t, db, numbered("goes_on", 0), t0.Add(time.Hour), 1)
	done := make(chan struct{})
	read := func() (samples int, err error) {
		q, err := db.Querier(0, math.MaxInt64)
		if err != nil {
			return 0, err
		}
		var series []storage.Series
		set := q.Select(t.Context(), true, nil, labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, "ended"))
		for set.Next() {
			series = append(series, set.At())
		}
		err = set.Err()
		var it chunkenc.Iterator
		for _, s := range series {
			for it = s.Iterator(it); it.Next() != chunkenc.ValNone; samples++ {
			}
			err = errors.Join(err, it.Err())
		}
		return samples, errors.Join(err, q.Close())
	}
	var reader sync.WaitGroup
	reader.Go(func() {
		for !waited(done, 20*time.Millisecond) {
			if n, err := read(); n != 2*each || err != nil {
				t.Errorf("%d of %d samples read, %.200v", n, 2*each, err)
			}
		}
	})
	err := leave(db)
	close(done)
	reader.Wait()
	if n, err := read(); n != 2*each || err != nil {
		t.Errorf("%d of %d samples read, %v", n, 2*each, err)
	}
	if err != nil || db.Series() != 1 {
		t.Errorf("%d series stayed, %v", db.Series()-1, err)
	}
}

// A series that left and whose record could not be written when it began anew is logged behind that it left: a
// start would let it go otherwise.
func TestASeriesThatLeftBeginsAnewOnAFullDisk(t *testing.T) {
	db := still(t, t.TempDir())
	long := make([]byte, 4*logPage) // a full disk takes a part of its record
	random := rand.New(rand.NewPCG(1, 2))
	for n := range long {
		long[n] = byte('a' + random.IntN(26))
	}
	lset := labels.FromStrings(labels.MetricName, "ended", "long", string(long))
	one := func(at time.Time, v float64) error {
		app := db.Appender(t.Context())
		if _, err := app.Append(0, lset, at.UnixMilli(), v); err != nil {
			return errors.Join(err, app.Rollback())
		}
		return app.Commit()
	}
	put(t, db, numbered("goes_on", 0), t0.Add(time.Hour), 1)
	for n := range 2 {
		at := t0.Add(time.Hour + time.Duration(n)*time.Minute)
		if err := errors.Join(one(at, 1), one(at.Add(time.Second), ends), leave(db)); err != nil || db.Series() != 1 {
			t.Fatal(db.Series(), err)
		}
		at = at.Add(2 * time.Second)
		fullDisk(t, db, "wal", func() { refused(t, one(at, 1)) })
		if err := db.mend(t.Context()); err != nil { // if the store itself has not yet
			t.Fatal(err)
		}
		if err := db.logLost(); err != nil {
			// No segment begins a second time; it is refused until one does.
			if n == 0 || one(at, 1) == nil {
				t.Errorf("%d: %v", n, err)
			}
			break
		}
		if err := one(at, 1); err != nil {
			t.Fatal(err)
		}
		for what, db := range map[string]*DB{"now": db, "after a kill": still(t, killedNow(t, db))} {
			if n := samplesOf(t, db, "ended", at); n != 1 {
				t.Errorf("%d of 1 acknowledged samples are there %s", n, what)
			}
		}
	}
}

// Whoever reads for long keeps series that ended from leaving, but nothing that is more urgent.
func TestSeriesStayWhereSomethingElseIsDue(t *testing.T) {
	const each = 20
	for name, due := range map[string]func(t *testing.T, db *DB){
		"a mend": func(t *testing.T, db *DB) {
			full(t, filepath.Join(db.opts.Dir, "wal"), func() { refused(t, sendOne(db, numbered("goes_on", 0), t0.Add(80*time.Minute))) })
		},
		"the head":     func(t *testing.T, db *DB) { put(t, db, numbered("goes_on", 0), t0.Add(100*time.Minute), 1) },
		"late samples": func(t *testing.T, db *DB) { put(t, db, numbered("goes_on", 0), t0.Add(30*time.Second), 1) },
	} {
		t.Run(name, func(t *testing.T) {
			db := endedSeries(t, Options{OutOfOrderLogBytes: 1}, each)
			q, err := db.Querier(0, math.MaxInt64)
			if err != nil {
				t.Fatal(err)
			}
			left := make(chan error, 1)
			go func() {
				db.compaction.mu.Lock()
				defer db.compaction.mu.Unlock()
				left <- db.compactStaleLocked()
			}()
			for began := time.Now(); !awaited(db) && time.Since(began) < 10*time.Second; {
				time.Sleep(time.Millisecond)
			}
			due(t, db)
			select {
			case err = <-left:
			case <-time.After(10 * time.Second):
				t.Error("it waits for the reader still")
			}
			if err := errors.Join(err, q.Close()); err != nil {
				t.Fatal(err)
			}
			if n := db.Series(); n != 2*each || keptBack(db) || awaited(db) {
				t.Errorf("the head has %d series, want %d; readers are kept back: %v", n, 2*each, keptBack(db))
			}
			hasEach(t, db, "ended", each, minutes(61)...)
			if err := errors.Join(db.mend(t.Context()), db.compact(t.Context()), leave(db)); err != nil {
				t.Fatal(err)
			}
			hasEach(t, db, "ended", each, minutes(61)...)
			if n := db.Series(); n != each {
				t.Errorf("the head has %d series later, want %d", n, each)
			}
		})
	}
}

func awaited(db *DB) bool {
	db.readers.mu.RLock()
	defer db.readers.mu.RUnlock()
	return db.readers.await
}

// Blocks of series that ended overlap with each other and with the head's. What is made of a copy has all of
// them, each sample once, and its retention takes the old ones alone.
func TestBlocksOfSeriesThatEndedOutliveACopyAndTheRetention(t *testing.T) {
	const each = 20
	db := endedSeries(t, Options{Retention: 24 * time.Hour}, each)
	had := minutes(61)
	for round := range 6 {
		at := 76 + 2*round
		had = append(had, at, at+1)
		err := errors.Join(sendRange(db, "ended", 0, each, t0.Add(time.Duration(at)*time.Minute), 1),
			sendRange(db, "ended", 0, each, t0.Add(time.Duration(at+1)*time.Minute), ends), leave(db))
		if err != nil {
			t.Fatal(err)
		}
	}
	metas, err := db.BlockMetas()
	if err != nil || len(metas) < 6 {
		t.Fatalf("%d blocks, %v", len(metas), err)
	}
	dir := filepath.Join(t.TempDir(), "copy")
	if err := db.SnapshotBlocks(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	blocks, err := filepath.Glob(filepath.Join(dir, "0*"))
	if err != nil || len(blocks) != len(metas)+1 {
		t.Fatalf("a copy of %d blocks, want %d and the head: %v", len(blocks), len(metas), err)
	}
	for _, block := range blocks {
		if err := VerifyBlock(t.Context(), block, nil); err != nil {
			t.Error(err)
		}
	}
	of := open(t, Options{Dir: dir, Retention: 24 * time.Hour, BlockRange: time.Hour, CheckEvery: time.Hour, Now: func() time.Time { return t0 }})
	<-of.settled
	all := func(ended, goesOn []int) {
		t.Helper()
		hasEach(t, of, "ended", each, ended...)
		hasEach(t, of, "goes_on", each, goesOn...)
	}
	all(had, minutes(75))
	goesOn := minutes(75)
	for hour := 2; hour < 30; hour++ { // each is merged and goes in its time
		if err := errors.Join(sendRange(of, "goes_on", 0, each, t0.Add(time.Duration(hour)*time.Hour), 7), of.compact(t.Context())); err != nil {
			t.Fatalf("hour %d: %v", hour, err)
		}
		goesOn = append(goesOn, 60*hour)
		if hour == 20 {
			all(had, goesOn)
		}
	}
	if n := len(perTime(t, of, "ended")); n != 0 {
		t.Errorf("samples of %d times are past the retention", n)
	}
	got := perTime(t, of, "goes_on")
	for _, minute := range goesOn[len(goesOn)-20:] {
		if n := got[t0.Add(time.Duration(minute)*time.Minute).UnixMilli()]; n != each {
			t.Errorf("%d samples at minute %d", n, minute)
		}
	}
	metas, err = of.BlockMetas()
	if err != nil {
		t.Fatal(err)
	}
	for n, m := range metas {
		if n > 0 && metas[n-1].MaxTime > m.MinTime {
			t.Errorf("blocks overlap: %v and %v", metas[n-1], m)
		}
	}
}

func keptBack(db *DB) bool {
	db.readers.mu.RLock()
	defer db.readers.mu.RUnlock()
	return db.readers.goneBy != nil
}

// An open reader has what it began with to its end.
func TestSeriesLeaveOnceTheirReadersAreDone(t *testing.T) {
	const each = 20
	db := endedSeries(t, Options{}, each)
	q, err := db.Querier(0, math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	left := make(chan error, 1)
	go func() { left <- leave(db) }()
	select {
	case err := <-left:
		t.Errorf("they left a reader: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	// Whoever writes does not wait for that.
	put(t, db, numbered("ended", 0), t0.Add(76*time.Minute), 1)
	put(t, db, numbered("new", 0), t0.Add(76*time.Minute), 1)
	n := 0
	for set := q.Select(t.Context(), false, nil, labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, "ended")); set.Next(); n++ {
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-left; err != nil || n != each {
		t.Errorf("%d series read, %v", n, err)
	}
	// It stayed, as it got a sample meanwhile.
	if n := db.Series(); n != each+2 {
		t.Errorf("the head has %d series, want %d", n, each+2)
	}
	if got := perTime(t, db, "ended"); len(got) != 62 || got[t0.UnixMilli()] != each || got[t0.Add(76*time.Minute).UnixMilli()] != 1 {
		t.Errorf("samples by time: %v", got)
	}
}
