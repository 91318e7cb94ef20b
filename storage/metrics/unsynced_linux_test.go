package metrics

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/tsdb/wlog"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// badDisk is what the logs are written to where syncs of what was written may fail: as of Linux,
// that counts as written from then on, and is on the disk only when it is written once more; the
// next sync goes through.
type badDisk struct {
	mu      sync.Mutex
	fails   bool
	written map[string][]byte  // of each file, what the next sync brings to the disk: 1
	from    map[string]int     // where that begins
	disk    map[string][]byte  // what is there: 1
	again   map[string][]int64 // where it was written by who syncs
}

func newBadDisk() *badDisk {
	return &badDisk{written: map[string][]byte{}, from: map[string]int{}, disk: map[string][]byte{}, again: map[string][]int64{}}
}

func (d *badDisk) open(path string) (segmentFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	return badFile{f, d}, err
}

func (d *badDisk) set(fails bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fails = fails
}

type badFile struct {
	*os.File
	d *badDisk
}

// in is the file in its store's folder.
func (f badFile) in() string {
	dir, name := filepath.Split(f.Name())
	return filepath.Join(filepath.Base(dir), name)
}

func (f badFile) WriteAt(p []byte, at int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	name := f.in()
	f.d.again[name] = append(f.d.again[name], at)
	if written := f.d.written[name]; int(at) < len(written) {
		copy(written[at:], bytes.Repeat([]byte{1}, len(p)))
		f.d.from[name] = min(f.d.from[name], int(at))
	}
	return f.File.WriteAt(p, at)
}

func (f badFile) Sync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	name := f.in()
	written, disk := f.d.written[name], f.d.disk[name]
	if n := int(info.Size()) - len(written); n > 0 { // the TSDB appends
		written, disk = append(written, bytes.Repeat([]byte{1}, n)...), append(disk, make([]byte, n)...)
	}
	fails := f.d.fails && f.d.from[name] < len(written)
	for i := f.d.from[name]; i < len(written); i++ {
		if !fails {
			disk[i] |= written[i]
		}
		written[i] = 0
	}
	f.d.written[name], f.d.disk[name], f.d.from[name] = written, disk, len(written)
	if fails {
		return &os.PathError{Op: "sync", Path: f.Name(), Err: syscall.EIO}
	}
	return nil
}

// powerCut gives the folder as it is on the disk.
func (d *badDisk) powerCut(t *testing.T, db *DB) string {
	t.Helper()
	dir := killedNow(t, db)
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, there := range d.disk {
		path := filepath.Join(dir, name)
		raw, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		raw = raw[:min(len(raw), len(there))] // syncs go on
		for i := range raw {
			raw[i] *= there[i]
		}
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// onBadDisk gives a store that is mended at once.
func onBadDisk(t *testing.T) (*DB, *badDisk) {
	t.Helper()
	return onBadDiskEvery(t, 5*time.Millisecond)
}

// onBadDiskLeftAlone gives one that nobody mends but the test, if that holds compaction.mu while it
// refuses.
func onBadDiskLeftAlone(t *testing.T) (*DB, *badDisk) {
	t.Helper()
	return onBadDiskEvery(t, time.Hour)
}

func onBadDiskEvery(t *testing.T, every time.Duration) (*DB, *badDisk) {
	t.Helper()
	db, disk := open(t, Options{
		Sync: true, CheckEvery: every, Now: func() time.Time { return t0 }, Probe: func(string) error { return nil },
	}), newBadDisk()
	<-db.settled
	db.syncer.mu.Lock()
	db.syncer.open = disk.open
	db.syncer.mu.Unlock()
	return db, disk
}

// What was written before a sync that failed is on the disk only once it is written again: what is
// acknowledged behind it is not found where it is missing.
func TestWhatASyncLeftOutIsWrittenAgain(t *testing.T) {
	for name, series := range map[string]int{"less than a page": 1, "more than a page": 3000} {
		t.Run(name, func(t *testing.T) {
			db, disk := onBadDisk(t)
			late := t0.Add(-19 * time.Hour)
			if err := send(db, "x", series, t0); err != nil {
				t.Fatal(err)
			}
			disk.set(true)
			for _, at := range []time.Time{t0.Add(time.Second), late} {
				if err := send(db, "x", series, at); !errors.Is(err, fault.ErrUnavailable) {
					t.Errorf("got %v", err)
				}
			}
			if err := send(db, "new", 1, t0); !errors.Is(err, fault.ErrUnavailable) {
				t.Errorf("got %v", err)
			}
			disk.set(false)
			for _, at := range []time.Time{late, t0.Add(2 * time.Second), t0.Add(time.Second)} {
				sendUntilTaken(t, func() error { return send(db, "x", series, at) })
			}
			sendUntilTaken(t, func() error { return send(db, "new", 1, t0) })
			after := still(t, disk.powerCut(t, db))
			got := perTime(t, after, "x")
			for _, at := range []time.Time{t0, late, t0.Add(time.Second), t0.Add(2 * time.Second)} {
				if n := got[at.UnixMilli()]; n != series {
					t.Errorf("%d of %d acknowledged samples at %s are there after a power cut", n, series, at)
				}
			}
			if n := samplesOf(t, after, "new", t0); n != 1 {
				t.Errorf("%d samples of the new series are there", n)
			}
			if q := after.Quarantined(); len(q) > 0 {
				t.Errorf("the log is damaged: %v", q)
			}
		})
	}
}

// Whatever is acknowledged is there after a power cut, while syncs fail again and again.
func TestAcknowledgedSamplesOutliveFailedSyncs(t *testing.T) {
	db, disk := onBadDisk(t)
	put(t, db, numbered("first", 0), t0, 1)
	all := startSenders(db)
	defer all.end()
	random := rand.New(rand.NewPCG(7, 9))
	for range 4 {
		disk.set(true)
		for began := time.Now(); db.doubt() == nil; time.Sleep(time.Millisecond) {
			if time.Since(began) > 10*time.Second {
				t.Fatal("no sync failed")
			}
		}
		time.Sleep(time.Duration(random.IntN(50)) * time.Millisecond)
		disk.set(false)
		time.Sleep(time.Duration(random.IntN(200)) * time.Millisecond)
		all.loseNothing(t, func() string { return disk.powerCut(t, db) })
	}
	if all.left() == 0 {
		t.Error("no series left early")
	}
}

// Where the system has dropped what it could not write, nothing is acknowledged behind that, and it
// is said why.
func TestNothingIsTakenBehindWhatIsGone(t *testing.T) {
	for name, c := range map[string]struct {
		series int
		roll   bool // the head is written meanwhile, which begins a segment
	}{
		"many pages": {3000, false}, "less than a page": {3, false}, "the end of a segment": {3, true},
	} {
		t.Run(name, func(t *testing.T) {
			db, disk := onBadDiskLeftAlone(t)
			wal := filepath.Join(db.opts.Dir, "wal")
			if err := send(db, "x", c.series, t0); err != nil {
				t.Fatal(err)
			}
			func() {
				db.compaction.mu.Lock() // nothing is mended before it is gone
				defer db.compaction.mu.Unlock()
				at := sizeOf(t, wal)
				disk.set(true)
				refused(t, send(db, "x", c.series, t0.Add(time.Second)))
				disk.set(false)
				dropBehind(t, newest(t, wal), at)
				if c.roll {
					if err := db.tsdb.Head().Truncate(t0.Add(-time.Hour).UnixMilli()); err != nil {
						t.Fatal(err)
					}
				}
			}()
			if err := db.mend(t.Context()); !errors.Is(err, errGone) {
				t.Errorf("it is mended: %v", err)
			}
			err := send(db, "x", 1, t0.Add(2*time.Second))
			refused(t, err)
			if told := db.ReadOnly(); !errors.Is(err, errGone) || !errors.Is(told, errGone) {
				t.Errorf("senders are told: %v; others: %v", err, told)
			}
		})
	}
}

// The end of a segment that was closed with nothing behind what the disk had taken looks like what
// the system has dropped; so the disk has it before a commit needs that.
func TestAFailedSyncAfterATruncationIsMended(t *testing.T) {
	for name, truncate := range map[string]func(*DB) error{
		"a block of the head": func(db *DB) error {
			return errors.Join(send(db, "x", 3, t0.Add(200*time.Minute)), db.compact(context.Background()))
		},
		"trimmed log": func(db *DB) error {
			db.compaction.mu.Lock()
			db.compaction.untrimmed = 1 << 30 // it is worth it
			db.compaction.mu.Unlock()
			return db.trimLog()
		},
		"no room for its checkpoint": func(db *DB) error {
			for _, ago := range []time.Duration{3, 2} { // a checkpoint is of several segments
				if err := db.tsdb.Head().Truncate(t0.Add(-ago * time.Hour).UnixMilli()); err != nil {
					return err
				}
			}
			if err := send(db, "x", 3, t0.Add(200*time.Minute)); err != nil {
				return err
			}
			inTheWay := filepath.Join(db.opts.Dir, "wal", "checkpoint.00000009")
			if err := os.WriteFile(inTheWay, nil, 0o600); err != nil {
				return err
			}
			db.compaction.mu.Lock()
			db.compaction.untrimmed = 1 << 30
			db.compaction.mu.Unlock()
			if err := db.trimLog(); err == nil {
				return errors.New("there is a checkpoint")
			}
			return os.Remove(inTheWay)
		},
		"late samples dropped": func(db *DB) error {
			db.compaction.begin = t0.Add(time.Hour).UnixMilli()
			return db.dropLate()
		},
	} {
		t.Run(name, func(t *testing.T) {
			db, disk := onBadDiskLeftAlone(t)
			wal := filepath.Join(db.opts.Dir, "wal")
			for n := range 3 {
				if err := send(db, "x", 3, t0.Add(time.Duration(n)*90*time.Minute)); err != nil {
					t.Fatal(err)
				}
			}
			first := newest(t, wal)
			if err := truncate(db); err != nil || newest(t, wal) == first {
				t.Fatal("no segment is begun:", err)
			}
			at := t0.Add(4 * time.Hour)
			func() {
				db.compaction.mu.Lock()
				defer db.compaction.mu.Unlock()
				disk.set(true)
				refused(t, send(db, "x", 3, at))
				disk.set(false)
			}()
			if err := db.mend(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := send(db, "x", 3, at); err != nil {
				t.Fatal(err)
			}
			if n := samplesOf(t, still(t, disk.powerCut(t, db)), "x", at); n != 3 {
				t.Errorf("%d of 3 acknowledged samples are there after a power cut", n)
			}
		})
	}
}

// dropBehind has a file read as the system gives it that has dropped what it could not write.
func dropBehind(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err == nil {
		_, err = f.WriteAt(make([]byte, info.Size()-at), at)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// The system says once to each file that a write failed: the next sync, of a commit that waited for
// that one, says nothing of what is missing.
func TestASyncSaysNothingOfOneThatFailed(t *testing.T) {
	db, disk := onBadDiskLeftAlone(t)
	if err := send(db, "x", 3, t0); err != nil {
		t.Fatal(err)
	}
	func() {
		db.compaction.mu.Lock() // nothing is mended before both are done
		defer db.compaction.mu.Unlock()
		disk.set(true)
		refused(t, send(db, "y", 3000, t0))
		disk.set(false)
		if err := db.syncer.sync(); err != nil {
			t.Fatal(err)
		}
	}()
	if err := db.mend(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"x", "y"} {
		sendUntilTaken(t, func() error { return send(db, name, 3, t0.Add(time.Second)) })
	}
	after := still(t, disk.powerCut(t, db))
	for _, name := range []string{"x", "y"} {
		if n := samplesOf(t, after, name, t0.Add(time.Second)); n != 3 {
			t.Errorf("%d of 3 acknowledged samples of %s are there after a power cut", n, name)
		}
	}
	// What the disk took counts again from then on.
	if err := send(db, "x", 3, t0.Add(2*time.Second)); err != nil {
		t.Fatal(err)
	}
	if on, size := db.syncer.log("wal").disk, sizeOf(t, filepath.Join(db.opts.Dir, "wal")); on.size != size {
		t.Errorf("on the disk up to %v of %d", on, size)
	}
}

// Of a page out of which a record was taken, that may not be on the disk either: the sync of it may
// have failed, and the next try finds nothing to take out.
func TestAPageThatWasMendedIsWrittenAgain(t *testing.T) {
	db, disk := onBadDiskLeftAlone(t)
	if err := send(db, "x", 3, t0); err != nil {
		t.Fatal(err)
	}
	for n := range 3 { // the disk has more than that page
		if err := send(db, "x", 3000, t0.Add(time.Duration(n+1)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	db.compaction.mu.Lock()
	db.compaction.cut[mark{db.syncer.log("wal").disk.segment, 2 * logPage}] = struct{}{}
	db.mended.Store(&failures{log: -1}) // a write failed before that try
	db.compaction.mu.Unlock()
	if err := db.mend(t.Context()); err != nil {
		t.Fatal(err)
	}
	disk.mu.Lock()
	defer disk.mu.Unlock()
	if at := disk.again["wal/00000001"]; len(at) == 0 || at[0] != 2*logPage {
		t.Errorf("written again from %v on", at)
	}
}

// A mend that fails has not logged again what the log has.
func TestAMendThatFailsLogsNothingTwice(t *testing.T) {
	db, disk := onBadDiskLeftAlone(t)
	wal := filepath.Join(db.opts.Dir, "wal")
	if err := send(db, "x", 1000, t0); err != nil {
		t.Fatal(err)
	}
	disk.set(true)
	refused(t, send(db, "x", 1000, t0.Add(time.Second)))
	var sizes []int64
	for range 5 {
		if err := db.mend(t.Context()); err == nil {
			t.Fatal("it went through")
		}
		sizes = append(sizes, sizeOf(t, wal))
	}
	if grown := sizes[4] - sizes[0]; grown > 1000 { // 1000 samples take more
		t.Errorf("the log after each try: %v bytes", sizes)
	}
}

// A segment is not replaced before the disk has what was written to it: the system says of a write
// that failed to nobody who opens the other one.
func TestASegmentThatIsNotOnTheDiskIsNotReplaced(t *testing.T) {
	db, disk := onBadDiskLeftAlone(t)
	if err := send(db, "x", 3, t0); err != nil {
		t.Fatal(err)
	}
	db.compaction.mu.Lock() // a commit that does not wait for the disk yet
	app := db.tsdb.Appender(t.Context())
	_, err := app.Append(0, numbered("x", 0), t0.Add(time.Second).UnixMilli(), 1)
	if err = errors.Join(err, app.Commit()); err == nil {
		err = db.tsdb.Head().Truncate(t0.Add(-time.Hour).UnixMilli()) // begins a segment
	}
	db.compaction.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	lose(db, numbered("y", 0))
	disk.set(true)
	if err := db.logLost(); err == nil || db.doubt() == nil || len(db.lost) != 1 {
		t.Errorf("got %v; doubt: %v; lost: %v", err, db.doubt(), db.lost)
	}
}

// What is not in the log any more, or was replaced, is not kept open; nor is anything after Close.
func TestOnlySegmentsOfTheLogAreKeptOpen(t *testing.T) {
	db := open(t, Options{Sync: true, CheckEvery: time.Hour, Now: func() time.Time { return t0 }})
	<-db.settled
	for n := range 3 {
		at := t0.Add(time.Duration(n) * time.Second)
		put(t, db, numbered("x", 0), at, 1)
		put(t, db, numbered("x", 0), at.Add(-20*time.Hour), 1)
		if err := db.compactLate(t.Context()); err != nil { // drops what the out-of-order log had
			t.Fatal(err)
		}
		lose(db, numbered("y", 0))
		if err := db.logLost(); err != nil {
			t.Fatal(err)
		}
	}
	put(t, db, numbered("x", 0), t0.Add(time.Minute), 1)
	for name, l := range db.syncer.logs {
		for n, f := range l.files {
			is, err := f.Stat()
			named, err2 := os.Stat(wlog.SegmentName(filepath.Join(db.opts.Dir, name), n))
			if err != nil || err2 != nil || !os.SameFile(is, named) {
				t.Errorf("segment %d of %s: another file is open: %v %v", n, name, err, err2)
			}
		}
	}
	if err := db.syncer.close(); err != nil {
		t.Error(err)
	}
	if err := db.syncer.sync(); err == nil || len(db.syncer.log("wal").files) > 0 {
		t.Errorf("a commit after Close: %v; open: %v", err, db.syncer.log("wal").files)
	}
}

// A page is as it was written where it is full of whole records.
func TestAPageThatIsNotWhole(t *testing.T) {
	dir := t.TempDir()
	w, err := wlog.NewSize(nil, nil, dir, 4*logPage, "none")
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if err := w.Log(bytes.Repeat([]byte{7}, 20000)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(wlog.SegmentName(dir, 0))
	if err != nil || len(raw) != 4*logPage {
		t.Fatal(len(raw), err)
	}
	within, closed, cut := pageEnd{disk: -1}, pageEnd{closed: true, disk: -1}, pageEnd{cut: true, disk: -1}
	lastEnds := bytes.LastIndexByte(raw, 7) + 1 - 3*logPage
	record := func(size int) []byte { return pagesOf(bytes.Repeat([]byte{7}, size-partHeader))[:size] }
	without := func(from, to int) []byte {
		page := bytes.Clone(raw[logPage : 2*logPage])
		clear(page[from:to])
		return page
	}
	for name, c := range map[string]struct {
		page []byte
		end  pageEnd
		ok   bool
	}{
		"as it was":                              {raw[logPage : 2*logPage], within, true},
		"the last of a closed segment":           {raw[3*logPage:], closed, true},
		"the last, elsewhere":                    {raw[3*logPage:], within, false},
		"the last, behind what the disk has":     {raw[3*logPage:], pageEnd{closed: true, disk: int64(lastEnds)}, false},
		"a hole at its end":                      {without(logPage-4096, logPage), within, false},
		"a hole at its begin":                    {without(0, 4096), cut, false},
		"a hole in its middle":                   {without(8192, 12288), closed, false},
		"nothing":                                {without(0, logPage), within, false},
		"nothing, cut off":                       {without(0, logPage), cut, true},
		"nothing, the last of a closed segment":  {without(0, logPage), closed, false},
		"a record being written":                 {raw[logPage : logPage+100], within, true},
		"a hole at the end of what is written":   {append(bytes.Clone(raw[3*logPage:3*logPage+lastEnds]), make([]byte, 100)...), within, false},
		"a hole where a page of the system ends": {append(record(systemPage), make([]byte, logPage-systemPage)...), closed, false},
	} {
		if err := wholePage(c.page, c.end); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
