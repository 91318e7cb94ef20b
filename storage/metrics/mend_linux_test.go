package metrics

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/wlog"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// inOwnProcess runs the test in a process of its own, and is true in that one. The limit of upTo is
// the whole process's, and go test has a test's process write down which files it opens.
func inOwnProcess(t *testing.T) bool {
	t.Helper()
	const child = "CROWSNEST_TEST_IN_OWN_PROCESS"
	if os.Getenv(child) == t.Name() {
		return true
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.timeout=5m", "-test.v")
	cmd.Env = append(os.Environ(), child+"="+t.Name())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
	return false
}

// upTo has the system refuse to write a file any further than to a size, as a full disk does,
// while it works. It is for a test inOwnProcess.
func upTo(t *testing.T, size int64, work func()) {
	t.Helper()
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: uint64(size), Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
			t.Fatal(err)
		}
	}()
	work()
}

// sizeOf is that of a log's newest segment.
func sizeOf(t *testing.T, log string) int64 {
	t.Helper()
	info, err := os.Stat(newest(t, log))
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// full has all writes to a log's newest segment fail, as with a full disk, while work works.
func full(t *testing.T, log string, work func()) {
	t.Helper()
	device, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	open, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range open {
		fd, err := strconv.Atoi(filepath.Base(path))
		if file, _ := os.Readlink(path); err != nil || file != newest(t, log) {
			continue
		}
		segment, err := syscall.Dup(fd)
		if err == nil {
			err = syscall.Dup3(int(device.Fd()), fd, syscall.O_CLOEXEC)
		}
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := errors.Join(syscall.Dup3(segment, fd, syscall.O_CLOEXEC), syscall.Close(segment)); err != nil {
				t.Fatal(err)
			}
		}()
	}
	work()
}

// newest is the segment of a log that is written to.
func newest(t *testing.T, log string) string {
	t.Helper()
	_, last, err := wlog.Segments(log)
	if err != nil || last < 0 {
		t.Fatal(last, err)
	}
	return wlog.SegmentName(log, last)
}

// killedNow gives the folder as a kill leaves it, in the middle of whatever a store does.
func killedNow(t *testing.T, db *DB) string {
	t.Helper()
	db.compaction.mu.Lock() // a copy of what changes is not what a kill leaves
	defer db.compaction.mu.Unlock()
	db.compaction.commits.Lock()
	defer db.compaction.commits.Unlock()
	db.series.Lock()
	defer db.series.Unlock()
	return killed(t, db.opts.Dir)
}

func numbered(name string, n int) labels.Labels {
	return labels.FromStrings(labels.MetricName, name, "n", strconv.Itoa(n))
}

// send sends one sample of each of so many series.
func send(db *DB, name string, series int, at time.Time) error {
	random := rand.New(rand.NewPCG(1, uint64(at.UnixNano()))) // or they take no room when compressed
	app := db.Appender(context.Background())
	for n := range series {
		if _, err := app.Append(0, numbered(name, n), at.UnixMilli(), random.Float64()); err != nil {
			return errors.Join(err, app.Rollback())
		}
	}
	return app.Commit()
}

func sendOne(db *DB, lset labels.Labels, at time.Time) error {
	app := db.Appender(context.Background())
	if _, err := app.Append(0, lset, at.UnixMilli(), 1); err != nil {
		return errors.Join(err, app.Rollback())
	}
	return app.Commit()
}

// sendUntilTaken sends the same again and again, as senders do.
func sendUntilTaken(t *testing.T, what func() error) {
	t.Helper()
	began := time.Now()
	for refused := 1; ; refused++ {
		err := what()
		if err == nil {
			return
		}
		if !errors.Is(err, fault.ErrUnavailable) || time.Since(began) > 20*time.Second {
			t.Fatalf("after %d times: %v", refused, err)
		}
		<-time.After(time.Millisecond)
	}
}

// perTime counts the samples of a metric by their times.
func perTime(t *testing.T, db *DB, name string) map[int64]int {
	t.Helper()
	q, err := db.Querier(math.MinInt64, math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	out := map[int64]int{}
	set := q.Select(t.Context(), false, nil, labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, name))
	for set.Next() {
		for it := set.At().Iterator(nil); it.Next() != chunkenc.ValNone; {
			out[it.AtT()]++
		}
	}
	if set.Err() != nil {
		t.Fatal(set.Err())
	}
	return out
}

func samplesOf(t *testing.T, db *DB, name string, at time.Time) int {
	t.Helper()
	return perTime(t, db, name)[at.UnixMilli()]
}

// What the out-of-order log could not take is in the head, and a duplicate when it is sent
// again: it is acknowledged once a block has it. So is what comes behind a record that was
// written in part.
func TestLateSamplesAreOnTheDiskOnceAcknowledged(t *testing.T) {
	for name, series := range map[string]int{"less than a page": 1, "more than a page": 2000} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			db := still(t, dir)
			late, later := t0.Add(-19*time.Hour), t0.Add(-18*time.Hour)
			for _, name := range []string{"x", "y"} { // or the log of all has what is late as the oldest of its series
				if err := send(db, name, series, t0); err != nil {
					t.Fatal(err)
				}
			}
			db.compaction.mu.Lock() // nothing is mended while the disk is full
			full(t, filepath.Join(dir, "wbl"), func() {
				if err := send(db, "x", series, late); !errors.Is(err, fault.ErrUnavailable) {
					t.Errorf("with a full disk: %v", err)
				}
			})
			if err := send(db, "x", series, late); !errors.Is(err, fault.ErrUnavailable) {
				t.Errorf("before it is mended: %v", err)
			}
			if err := db.ReadOnly(); !errors.Is(err, fault.ErrUnavailable) {
				t.Errorf("before it is mended it is read-only: %v", err)
			}
			db.compaction.mu.Unlock()
			sendUntilTaken(t, func() error { return send(db, "y", 1, later) }) // another sender
			if n := samplesOf(t, still(t, killedNow(t, db)), "y", later); n != 1 {
				t.Errorf("%d acknowledged samples of another sender are there after a kill, want 1", n)
			}
			sendUntilTaken(t, func() error { return send(db, "x", series, late) })
			if n := samplesOf(t, still(t, killedNow(t, db)), "x", late); n != series {
				t.Errorf("%d acknowledged samples are there after a kill, want %d", n, series)
			}
			if err := db.ReadOnly(); err != nil {
				t.Error(err)
			}
		})
	}
}

// What the out-of-order log could not take only the log of all has until it is in a block, so
// it is not said any more from when on that one has what is in order.
func TestTheLogIsBelievedAfterAFullDisk(t *testing.T) {
	if !inOwnProcess(t) {
		return
	}
	dir := t.TempDir()
	db := still(t, dir)
	put(t, db, labels.FromStrings(labels.MetricName, "live"), t0, 1)
	for n := range 3000 { // the other log is longer than the segment that the log of all is in
		put(t, db, labels.FromStrings(labels.MetricName, "x", "n", strconv.Itoa(n%100)), t0.Add(-20*time.Hour+time.Duration(n)*time.Second), 1)
	}
	if err := db.tsdb.Head().Truncate(t0.Add(-time.Hour).UnixMilli()); err != nil { // begins a segment
		t.Fatal(err)
	}
	if err := db.noteBegin(t0.Add(-time.Hour).UnixMilli()); err != nil {
		t.Fatal(err)
	}
	wbl, err := os.Stat(lastSegment(t, filepath.Join(dir, "wbl")))
	if err != nil {
		t.Fatal(err)
	}
	send := func() error { return sendOne(db, labels.FromStrings(labels.MetricName, "late"), t0.Add(-19*time.Hour)) }
	upTo(t, wbl.Size(), func() { err = send() })
	if err == nil {
		t.Fatal("the commit went through")
	}
	noteGone(t, dir)
	sendUntilTaken(t, send)
	holds(t, still(t, killedNow(t, db)), "late")
}

// Of a record that a full disk let only in part into the log of all, the rest is never
// written. What is acknowledged behind it must be there all the same, and the log be
// shortened as ever.
func TestTheLogIsWholeAfterAFullDisk(t *testing.T) {
	if !inOwnProcess(t) {
		return
	}
	for _, room := range []int64{0, 100, logPage + 100} {
		t.Run(fmt.Sprint(room, " bytes"), func(t *testing.T) {
			dir := t.TempDir()
			db := still(t, dir)
			wal := filepath.Join(dir, "wal")
			const series = 8000
			if err := send(db, "x", series, t0); err != nil {
				t.Fatal(err)
			}
			at := t0.Add(15 * time.Second)
			db.compaction.mu.Lock() // nothing is mended while the disk is full
			before := sizeOf(t, wal)
			upTo(t, before+room, func() {
				if err := send(db, "x", series, at); !errors.Is(err, fault.ErrUnavailable) {
					t.Errorf("with a full disk: %v", err)
				}
			})
			if grown := sizeOf(t, wal) - before; grown < min(room, logPage) {
				t.Fatalf("%d bytes were written", grown)
			}
			if err := send(db, "z", 1, at); !errors.Is(err, fault.ErrUnavailable) {
				t.Errorf("before it is mended: %v", err)
			}
			db.compaction.mu.Unlock()
			sendUntilTaken(t, func() error { return send(db, "y", 1, at) })
			sendUntilTaken(t, func() error { return send(db, "x", series, at) })
			after := still(t, killedNow(t, db))
			if x, y := samplesOf(t, after, "x", at), samplesOf(t, after, "y", at); x != series || y != 1 {
				t.Errorf("%d and %d acknowledged samples are there after a kill, want %d and 1", x, y, series)
			}
			if q := after.Quarantined(); len(q) > 0 {
				t.Errorf("the log is damaged: %v", q)
			}
			if err := db.tsdb.Head().Truncate(t0.Add(-time.Minute).UnixMilli()); err != nil {
				t.Error(err)
			}
		})
	}
}

// A mend reads what of the log was written to since none of it was in doubt, and all of that.
func TestAMendReadsNoMoreThanItNeeds(t *testing.T) {
	if !inOwnProcess(t) {
		return
	}
	db := still(t, t.TempDir())
	wal := filepath.Join(db.opts.Dir, "wal")
	before := t0.Add(-time.Hour)
	beginSegment := func() {
		t.Helper()
		before = before.Add(time.Second)
		if err := db.tsdb.Head().Truncate(before.UnixMilli()); err != nil {
			t.Fatal(err)
		}
	}
	note := func() {
		t.Helper()
		db.compaction.commits.Lock()
		defer db.compaction.commits.Unlock()
		if err := db.noteWhole(); err != nil {
			t.Fatal(err)
		}
	}
	const series = 8000
	at := t0
	if err := send(db, "x", series, at); err != nil {
		t.Fatal(err)
	}
	for _, noted := range []bool{true, false} { // the one mend notes it for the other
		if beginSegment(); noted {
			note()
		}
		closed, aside := wlog.SegmentName(wal, db.compaction.whole.segment-1), filepath.Join(t.TempDir(), "aside")
		if err := os.Rename(closed, aside); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(closed, 0o750); err != nil { // which cannot be read
			t.Fatal(err)
		}
		at = at.Add(15 * time.Second)
		func() {
			db.compaction.mu.Lock() // nothing is mended meanwhile
			defer db.compaction.mu.Unlock()
			upTo(t, sizeOf(t, wal)+logPage+100, func() { refused(t, send(db, "x", series, at)) })
			beginSegment() // the torn record is not in the last one then
			note()
		}()
		if err := db.mend(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.Remove(closed), os.Rename(aside, closed)); err != nil {
			t.Fatal(err)
		}
		if err := send(db, "x", series, at); err != nil {
			t.Fatal(err)
		}
		after := still(t, killedNow(t, db))
		if n := samplesOf(t, after, "x", at); n != series {
			t.Errorf("%d of %d acknowledged samples are there after a kill", n, series)
		}
		if q := after.Quarantined(); len(q) > 0 {
			t.Errorf("the log is damaged: %v", q)
		}
	}
}

// A series of which the record got lost is logged once the log is mended: it would have samples
// of nothing.
func TestASeriesThatCouldNotBeLoggedIsLoggedThen(t *testing.T) {
	dir := t.TempDir()
	db := still(t, dir)
	wal := filepath.Join(dir, "wal")
	text := make([]byte, 2000) // which is not compressed
	for i, random := 0, rand.New(rand.NewPCG(1, 1)); i < len(text); i++ {
		text[i] = byte('0' + random.IntN(64))
	}
	long := labels.FromStrings(labels.MetricName, "x", "long", string(text))
	filling := 0
	for ; sizeOf(t, wal)%logPage < logPage-1000; filling++ { // its record will not fit into the page
		put(t, db, numbered("filling", filling), t0, 1)
	}
	fullDisk(t, db, "wal", func() { refused(t, sendOne(db, long, t0)) })
	if err := db.mend(t.Context()); err != nil { // if nobody has yet
		t.Fatal(err)
	}
	sendUntilTaken(t, func() error {
		app := db.Appender(context.Background()) // with others, which must not wait for it for long
		for _, lset := range []labels.Labels{numbered("y", 0), long} {
			if _, err := app.Append(0, lset, t0.UnixMilli(), 1); err != nil {
				return errors.Join(err, app.Rollback())
			}
		}
		return app.Commit()
	})
	after := still(t, killedNow(t, db))
	if x, y := samplesOf(t, after, "x", t0), samplesOf(t, after, "y", t0); x != 1 || y != 1 {
		t.Errorf("%d and %d samples are there after a kill, want 1 of each", x, y)
	}
	if q := after.Quarantined(); len(q) > 0 {
		t.Errorf("the log is damaged: %v", q)
	}
	db.series.RLock()
	defer db.series.RUnlock()
	if n := db.Series(); len(db.lost) != 0 || n != uint64(filling)+2 {
		t.Errorf("held for lost: %v; %d series in the head", db.lost, n)
	}
	if entries, err := os.ReadDir(dir); err != nil || slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == longerFile }) {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// A series whose record was only late is found in the log, and taken.
func TestASeriesThatWasLoggedLaterIsTaken(t *testing.T) {
	dir := t.TempDir()
	db := still(t, dir)
	put(t, db, numbered("y", 0), t0, 1)
	x := labels.FromStrings(labels.MetricName, "x")
	db.compaction.mu.Lock()
	full(t, filepath.Join(dir, "wal"), func() {
		if err := sendOne(db, x, t0); !errors.Is(err, fault.ErrUnavailable) {
			t.Errorf("with a full disk: %v", err)
		}
	})
	if len(db.lost) != 1 {
		t.Errorf("lost: %v", db.lost)
	}
	db.compaction.mu.Unlock()
	sendUntilTaken(t, func() error { return send(db, "x", 1, t0) })
	sendUntilTaken(t, func() error { return sendOne(db, x, t0) })
	if n := samplesOf(t, still(t, killedNow(t, db)), "x", t0); n != 2 || len(db.lost) != 0 {
		t.Errorf("%d samples are there after a kill, want 2; lost: %v", n, db.lost)
	}
}

// A log whose sync failed is not believed either: what came late is in a block before it is
// acknowledged.
func TestLateSamplesThatWereNotSyncedGoToABlock(t *testing.T) {
	dir := t.TempDir()
	db := open(t, Options{Dir: dir, Sync: true, CheckEvery: 5 * time.Millisecond})
	<-db.settled
	put(t, db, numbered("x", 0), t0, 1)
	db.syncer.mu.Lock()
	db.syncer.dir = filepath.Join(dir, "wal") // its "wal" is a file
	db.syncer.mu.Unlock()
	if err := os.WriteFile(filepath.Join(dir, "wal", "wal"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	late := t0.Add(-19 * time.Hour)
	if err := send(db, "x", 1, late); !errors.Is(err, fault.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	db.syncer.mu.Lock()
	db.syncer.dir = dir
	db.syncer.mu.Unlock()
	sendUntilTaken(t, func() error { return send(db, "x", 1, late) })
	if len(db.tsdb.Blocks()) == 0 || samplesOf(t, db, "x", late) != 1 {
		t.Errorf("%d blocks, %d samples", len(db.tsdb.Blocks()), samplesOf(t, db, "x", late))
	}
}

// senders send in order and late, two ways of each, and again until it is taken. Series end, leave the
// head, and some begin anew.
type senders struct {
	db           *DB
	mu           sync.Mutex
	acknowledged map[string]map[int64]int // series by name and time
	ended        chan struct{}
	all          sync.WaitGroup
}

func startSenders(db *DB) *senders {
	s := &senders{db: db, acknowledged: map[string]map[int64]int{}, ended: make(chan struct{})}
	for sender := range 4 {
		s.all.Go(func() { s.send(fmt.Sprint("sender_", sender/2), rand.New(rand.NewPCG(7, uint64(sender)))) })
	}
	s.all.Go(func() {
		for !s.endsWithin(10 * time.Millisecond) {
			if err := leave(db); err != nil {
				db.opts.Logger.Error("series that ended stay", "err", err)
			}
		}
	})
	return s
}

func (s *senders) send(as string, random *rand.Rand) {
	for n := 1; ; n++ {
		name, series, at := as, 1+random.IntN(150), t0.Add(time.Duration(n)*time.Second)
		switch random.IntN(4) {
		case 0, 1:
			at = t0.Add(-20*time.Hour + time.Duration(random.IntN(3000))*time.Second)
		case 2:
			at = t0.Add(time.Duration(random.IntN(n)) * time.Second)
		}
		if random.IntN(10) == 0 {
			name = fmt.Sprint(name, "_", n)
		}
		what := func() error { return send(s.db, name, series, at) }
		if at.Unix()%5 == 0 { // for whoever sends of that time
			what = func() error { return sendRange(s.db, name, 0, series, at, ends) }
		}
		for what() != nil {
			if s.endsWithin(5 * time.Millisecond) {
				return
			}
		}
		s.mu.Lock()
		if s.acknowledged[name] == nil {
			s.acknowledged[name] = map[int64]int{}
		}
		s.acknowledged[name][at.UnixMilli()] = max(s.acknowledged[name][at.UnixMilli()], series)
		s.mu.Unlock()
		if s.endsWithin(5 * time.Millisecond) {
			return
		}
	}
}

func (s *senders) endsWithin(d time.Duration) bool {
	select {
	case <-s.ended:
		return true
	case <-time.After(d):
		return false
	}
}

// end has all end.
func (s *senders) end() {
	close(s.ended)
	s.all.Wait()
}

// left says how many series left the head early.
func (s *senders) left() float64 { return testutil.ToFloat64(s.db.metrics.staleSeries) }

// loseNothing looks whether a start finds what was acknowledged, in the folder that left gives.
func (s *senders) loseNothing(t *testing.T, left func() string) {
	t.Helper()
	s.mu.Lock()
	want := map[string]map[int64]int{}
	for name, of := range s.acknowledged {
		want[name] = maps.Clone(of)
	}
	s.mu.Unlock()
	after := still(t, left())
	for name, of := range want {
		there := perTime(t, after, name)
		for at, n := range of {
			if there[at] < n {
				t.Fatalf("%d of %d acknowledged samples of %s at %s are there after a kill; before it %d", there[at], n, name, time.UnixMilli(at).Sub(t0), perTime(t, s.db, name)[at])
			}
		}
	}
	if err := after.Close(); err != nil {
		t.Fatal(err)
	}
}

// Whatever is acknowledged is there after a kill, while the disk is full again and again.
func TestAcknowledgedSamplesOutliveFullDisks(t *testing.T) {
	dir := t.TempDir()
	var mu sync.Mutex
	var now error
	db := open(t, Options{
		Dir: dir, CheckEvery: 20 * time.Millisecond, Now: func() time.Time { return t0 },
		Probe: func(string) error { mu.Lock(); defer mu.Unlock(); return now },
	})
	<-db.settled
	put(t, db, numbered("first", 0), t0, 1)
	all := startSenders(db)
	random, refused := rand.New(rand.NewPCG(7, 9)), 0
	for range 4 {
		db.compaction.mu.Lock()
		mu.Lock()
		now = errors.New("full")
		mu.Unlock()
		log := []string{"wal", "wbl"}[random.IntN(2)]
		full(t, filepath.Join(dir, log), func() {
			for began := time.Now(); db.doubt() == nil && time.Since(began) < 5*time.Second; {
				time.Sleep(time.Millisecond)
			}
			time.Sleep(time.Duration(random.IntN(20)) * time.Millisecond)
		})
		if db.doubt() != nil {
			refused++
		}
		mu.Lock()
		now = nil
		mu.Unlock()
		db.compaction.mu.Unlock()
		time.Sleep(time.Duration(random.IntN(100)) * time.Millisecond)
		all.loseNothing(t, func() string { return killedNow(t, db) })
	}
	all.end()
	t.Logf("%d writes acknowledged, %d full disks met a write", len(all.acknowledged), refused)
	if refused == 0 || all.left() == 0 {
		t.Errorf("%d writes failed, %v series left early", refused, all.left())
	}
}

// page is one of a log, with one part of a record.
func page(kind byte) []byte {
	out := make([]byte, logPage)
	out[0] = kind
	binary.BigEndian.PutUint16(out[1:], logPage-partHeader)
	return out
}

// A disk that is full again while a record of several pages is taken out leaves its beginning,
// which goes the next time.
func TestAMendThatFailsIsTriedAgain(t *testing.T) {
	if !inOwnProcess(t) {
		return
	}
	path := filepath.Join(t.TempDir(), "00000000")
	log := slices.Concat(page(wholeRecord), page(firstPart), page(middlePart), page(wholeRecord))
	if err := os.WriteFile(path, log, 0o600); err != nil {
		t.Fatal(err)
	}
	upTo(t, 2*logPage, func() {
		if _, _, err := mendSegment(path, true); err == nil {
			t.Error("it is mended though it could not be written")
		}
	})
	if _, torn, err := mendSegment(path, true); torn != 1 || err != nil {
		t.Errorf("%d records were taken out: %v", torn, err)
	}
	want := slices.Concat(page(wholeRecord), make([]byte, 2*logPage), page(wholeRecord))
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Error("it is not what is left without that record", err)
	}
}

// Damage that no failed write leaves keeps nobody from mending what one left.
func TestOtherDamageIsLeftAlone(t *testing.T) {
	for name, damaged := range map[string]byte{"no part of a record": 7, "a part of none": lastPart} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "00000000")
			before := slices.Concat(page(firstPart), page(damaged), page(middlePart), page(lastPart), page(wholeRecord))
			if err := os.WriteFile(path, slices.Concat(before, page(firstPart), page(wholeRecord)), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, torn, err := mendSegment(path, true); torn != 1 || err != nil {
				t.Errorf("%d records were taken out: %v", torn, err)
			}
			want := slices.Concat(before, make([]byte, logPage), page(wholeRecord))
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
				t.Error("it is not what is left without the record that was written in part", err)
			}
		})
	}
}

// What is refused before the log is mended is not in the head either: sent again it is logged.
func TestWhatIsRefusedInDoubtIsLoggedWhenSentAgain(t *testing.T) {
	db := still(t, t.TempDir())
	x := numbered("x", 0)
	put(t, db, x, t0, 1)
	before := len(perTime(t, db, "x"))
	func() {
		db.compaction.mu.Lock() // nothing is mended while the disk is full
		defer db.compaction.mu.Unlock()
		full(t, filepath.Join(db.opts.Dir, "wal"), func() {
			if err := sendOne(db, numbered("y", 0), t0); !errors.Is(err, fault.ErrUnavailable) {
				t.Errorf("with a full disk: %v", err)
			}
		})
		if err := sendOne(db, x, t0.Add(time.Minute)); !errors.Is(err, fault.ErrUnavailable) {
			t.Errorf("before it is mended: %v", err)
		}
		if n := len(perTime(t, db, "x")); n != before {
			t.Errorf("the head has %d samples, want %d", n, before)
		}
	}()
	sendUntilTaken(t, func() error { return sendOne(db, x, t0.Add(time.Minute)) })
	if n := samplesOf(t, still(t, killedNow(t, db)), "x", t0.Add(time.Minute)); n != 1 {
		t.Errorf("%d acknowledged samples are there after a kill, want 1", n)
	}
}

// A commit does not wait for a mend that goes on, by which it would be refused all the same.
func TestACommitInDoubtDoesNotWaitForTheMend(t *testing.T) {
	db := still(t, t.TempDir())
	db.compaction.mu.Lock()
	defer db.compaction.mu.Unlock()
	db.mended.Store(&failures{log: -1})
	db.compaction.commits.Lock()
	defer db.compaction.commits.Unlock()
	ended := make(chan error)
	go func() { ended <- db.commit(func() error { return nil }, func() error { return nil }) }()
	select {
	case err := <-ended:
		refused(t, err)
	case <-time.After(10 * time.Second):
		t.Error("it waits")
		go func() { <-ended }()
	}
}

// A mend that waited for others looks for room when it begins, and ends with the store.
func TestAMendBeginsWithRoomAlone(t *testing.T) {
	asked, now := make(chan struct{}, 100), atomic.Pointer[error]{}
	db := open(t, Options{CheckEvery: time.Hour, Now: func() time.Time { return t0 }, Probe: func(string) error {
		asked <- struct{}{}
		if err := now.Load(); err != nil {
			return *err
		}
		return nil
	}})
	<-db.settled
	for len(asked) > 0 {
		<-asked
	}
	none := db.failures()
	db.mended.Store(&failures{log: -1})
	db.compaction.mu.Lock()
	mended := make(chan error)
	go func() { mended <- db.mend(context.Background()) }()
	select { // it asked too early, or waits
	case <-asked:
	case <-time.After(50 * time.Millisecond):
	}
	full := errors.New("full")
	now.Store(&full)
	db.compaction.mu.Unlock()
	if err := <-mended; !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
	now.Store(nil)
	ended, end := context.WithCancel(t.Context())
	end()
	if err := db.takeRefused(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("it goes on behind the end: %v", err)
	}
	db.mended.Store(&none)
}

// Nor is it acknowledged where the log is mended while it is taken back.
func TestWhatWasTakenBackIsNotAcknowledged(t *testing.T) {
	db := still(t, t.TempDir())
	db.compaction.mu.Lock()
	defer db.compaction.mu.Unlock()
	none := db.failures()
	db.mended.Store(&failures{log: -1})
	do := func() error { t.Error("it is committed"); return nil }
	if err := db.commit(do, func() error { db.mended.Store(&none); return nil }); !errors.Is(err, fault.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}
