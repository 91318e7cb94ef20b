package metrics

import (
	"bytes"
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

// badDisk is what the logs are written to where syncs may fail: as of Linux, what was written
// since the last one counts as written from then on, and is on the disk only when it is written
// once more.
type badDisk struct {
	mu      sync.Mutex
	fails   bool
	written map[string][]byte // of each file, what the next sync brings to the disk: 1
	from    map[string]int    // where that begins
	disk    map[string][]byte // what is there: 1
}

func newBadDisk() *badDisk {
	return &badDisk{written: map[string][]byte{}, from: map[string]int{}, disk: map[string][]byte{}}
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
	for i := f.d.from[name]; i < len(written); i++ {
		if !f.d.fails {
			disk[i] |= written[i]
		}
		written[i] = 0
	}
	f.d.written[name], f.d.disk[name], f.d.from[name] = written, disk, len(written)
	if f.d.fails {
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

func onBadDisk(t *testing.T) (*DB, *badDisk) {
	t.Helper()
	db, disk := open(t, Options{
		Sync: true, CheckEvery: 5 * time.Millisecond, Now: func() time.Time { return t0 }, Probe: func(string) error { return nil },
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
}

// Where the system has dropped what it could not write, nothing is acknowledged behind that.
func TestNothingIsTakenBehindWhatIsGone(t *testing.T) {
	db, disk := onBadDisk(t)
	wal := filepath.Join(db.opts.Dir, "wal")
	if err := send(db, "x", 3000, t0); err != nil {
		t.Fatal(err)
	}
	at := sizeOf(t, wal)
	disk.set(true)
	if err := send(db, "x", 3000, t0.Add(time.Second)); !errors.Is(err, fault.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	hole := make([]byte, sizeOf(t, wal)-at)
	f, err := os.OpenFile(newest(t, wal), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(hole, at)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	disk.set(false)
	if err := db.mend(t.Context()); !errors.Is(err, errGone) {
		t.Errorf("it is mended: %v", err)
	}
	if err := send(db, "x", 1, t0.Add(2*time.Second)); !errors.Is(err, fault.ErrUnavailable) {
		t.Errorf("got %v", err)
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
	without := func(from, to int) []byte {
		page := bytes.Clone(raw[logPage : 2*logPage])
		clear(page[from:to])
		return page
	}
	for name, c := range map[string]struct {
		page []byte
		ends bool
		ok   bool
	}{
		"as it was":              {raw[logPage : 2*logPage], false, true},
		"the last":               {raw[3*logPage:], true, true},
		"the last, elsewhere":    {raw[3*logPage:], false, false},
		"a hole at its end":      {without(logPage-4096, logPage), false, false},
		"a hole at its begin":    {without(0, 4096), true, false},
		"a hole in its middle":   {without(8192, 12288), true, false},
		"nothing":                {without(0, logPage), false, false},
		"nothing, cut off":       {without(0, logPage), true, true},
		"a record being written": {raw[logPage : logPage+100], true, true},
	} {
		if err := wholePage(c.page, c.ends); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
