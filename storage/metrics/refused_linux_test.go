package metrics

import (
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// fullDisk has work meet a log that cannot be written; nothing is mended before it is done.
func fullDisk(t *testing.T, db *DB, log string, work func()) {
	t.Helper()
	db.compaction.mu.Lock()
	defer db.compaction.mu.Unlock()
	full(t, filepath.Join(db.opts.Dir, log), work)
}

func refused(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, fault.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

// What a full disk kept from the log is logged at the mend, ahead of what comes later though it is
// older: that must not be taken for samples in order.
func TestARefusedSampleHidesNoneThatIsAcknowledged(t *testing.T) {
	spans := &histogram.Histogram{Count: 1, Sum: 1, Schema: 1, PositiveSpans: []histogram.Span{{Length: 1}}, PositiveBuckets: []int64{1}}
	for name, send := range map[string]func(db *DB, at time.Time) error{
		"float": func(db *DB, at time.Time) error { return sendOne(db, numbered("x", 0), at) },
		"histogram": func(db *DB, at time.Time) error {
			app := db.Appender(context.Background())
			if _, err := app.AppendHistogram(0, numbered("x", 0), at.UnixMilli(), spans, nil); err != nil {
				return errors.Join(err, app.Rollback())
			}
			return app.Commit()
		},
		"float histogram": func(db *DB, at time.Time) error {
			app := db.AppenderV2(context.Background())
			if _, err := app.Append(0, numbered("x", 0), 0, at.UnixMilli(), 0, nil, spans.ToFloat(nil), storage.AppendV2Options{}); err != nil {
				return errors.Join(err, app.Rollback())
			}
			return app.Commit()
		},
	} {
		t.Run(name, func(t *testing.T) {
			db := still(t, t.TempDir())
			if err := send(db, t0); err != nil {
				t.Fatal(err)
			}
			fullDisk(t, db, "wal", func() { refused(t, send(db, t0.Add(30*time.Minute))) })
			for n := 1; n <= 30; n++ { // a backlog
				sendUntilTaken(t, func() error { return send(db, t0.Add(time.Duration(n)*time.Minute)) })
			}
			for what, of := range map[string]*DB{"going on": db, "after a kill": still(t, killedNow(t, db))} {
				if n := len(perTime(t, of, "x")); n != 31 {
					t.Errorf("%s: %d of 31 acknowledged samples are there", what, n)
				}
			}
		})
	}
}

// So it is with a commit that had the disk again before anything was mended, and was refused with
// the one that failed.
func TestARefusedSampleHidesNoneThatWasLoggedBehindIt(t *testing.T) {
	db := still(t, t.TempDir())
	x := numbered("x", 0)
	put(t, db, x, t0, 1)
	fullDisk(t, db, "wal", func() {
		app := db.tsdb.Appender(t.Context())
		if _, err := app.Append(0, x, t0.Add(2*time.Minute).UnixMilli(), 1); err != nil {
			t.Fatal(err)
		}
		if err := app.Commit(); err == nil {
			t.Error("it went through")
		}
	})
	func() { // it had looked for doubt before that
		db.compaction.mu.Lock()
		defer db.compaction.mu.Unlock()
		app := db.tsdb.Appender(t.Context())
		if _, err := app.Append(0, x, t0.Add(time.Minute).UnixMilli(), 1); err != nil {
			t.Fatal(err)
		}
		if err := app.Commit(); err != nil {
			t.Fatal(err)
		}
	}()
	for _, at := range []time.Duration{time.Minute, 2 * time.Minute} {
		sendUntilTaken(t, func() error { return sendOne(db, x, t0.Add(at)) })
	}
	if n := len(perTime(t, still(t, killedNow(t, db)), "x")); n != 3 {
		t.Errorf("%d of 3 acknowledged samples are there after a kill", n)
	}
}

// A commit that is not done while the log is mended is not acknowledged by what comes of that.
func TestNothingIsMendedWhileACommitGoesOn(t *testing.T) {
	db := still(t, t.TempDir())
	put(t, db, numbered("x", 0), t0, 1)
	mended := make(chan error, 1)
	err := db.commit(func() error {
		fullDisk(t, db, "wal", func() {
			app := db.tsdb.Appender(t.Context())
			if _, err := app.Append(0, numbered("x", 0), t0.Add(time.Minute).UnixMilli(), 1); err != nil {
				t.Error(err)
			}
			if err := app.Commit(); err == nil {
				t.Error("it went through")
			}
		})
		go func() { mended <- db.mend(context.Background()) }()
		select {
		case err := <-mended:
			t.Errorf("it was mended: %v", err)
			mended <- err
		case <-time.After(100 * time.Millisecond):
		}
		return nil
	}, func() error { return nil })
	refused(t, err)
	if err := <-mended; err != nil {
		t.Error(err)
	}
}

// A merge takes minutes, and nothing is taken before the log is mended, so that goes first.
func TestAMergeMakesWayForMending(t *testing.T) {
	db := still(t, t.TempDir())
	put(t, db, numbered("x", 0), t0, 1)
	began, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		db.compaction.mu.Lock() // as all merging does
		defer db.compaction.mu.Unlock()
		_, err := (&compactor{endless{&db.compaction.merging, began}, db}).Compact("", nil, nil)
		ended <- err
	}()
	<-began
	full(t, filepath.Join(db.opts.Dir, "wal"), func() { refused(t, sendOne(db, numbered("x", 0), t0.Add(time.Minute))) })
	sendUntilTaken(t, func() error { return sendOne(db, numbered("x", 0), t0.Add(time.Minute)) })
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the merge ended with %v", err)
	}
}

// endless merges blocks until its context ends.
type endless struct {
	ctx   context.Context
	began chan struct{}
}

func (e endless) Compact(string, []string, []*tsdb.Block) ([]ulid.ULID, error) {
	close(e.began)
	<-e.ctx.Done()
	return nil, e.ctx.Err()
}

func (endless) Plan(string) ([]string, error) { return nil, nil }

func (endless) Write(string, tsdb.BlockReader, int64, int64, *tsdb.BlockMeta) ([]ulid.ULID, error) {
	return nil, nil
}

// What made way is merged once the log is mended, and is not held for blocks that cannot be.
func TestBlocksAreMergedOnceTheLogIsMended(t *testing.T) {
	full := atomic.Bool{}
	db := open(t, Options{CheckEvery: time.Hour, Now: func() time.Time { return t0 }, Probe: func(string) error {
		if full.Load() { // or it would be mended
			return errors.New("full")
		}
		return nil
	}})
	<-db.settled
	for h := range 20 {
		put(t, db, numbered("x", 0), t0.Add(time.Duration(h)*time.Hour), 1)
	}
	none := db.failures()
	full.Store(true)
	db.mended.Store(&failures{log: -1})
	if err := db.compact(t.Context()); err != nil {
		t.Error(err)
	}
	before := db.tsdb.BlockMetas()
	for _, m := range before {
		if m.Compaction.Level > 1 || m.Compaction.Failed {
			t.Errorf("in doubt: %+v", m.Compaction)
		}
	}
	db.mended.Store(&none)
	if err := db.compact(t.Context()); err != nil {
		t.Error(err)
	}
	if n := len(db.tsdb.BlockMetas()); n >= len(before) {
		t.Errorf("%d blocks became %d", len(before), n)
	}
	if n := len(perTime(t, db, "x")); n != 20 {
		t.Errorf("%d of 20 samples are there", n)
	}
}

// The TSDB looks from when on a write takes samples in order before it tells others of the write:
// who waits for writes waits for those that are at that, too.
func TestWritesThatBeginAreWaitedFor(t *testing.T) {
	db := still(t, t.TempDir())
	began, goOn, waited := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go beginWrite(db, func() storage.Appender {
		close(began)
		<-goOn
		return nil
	})
	<-began
	go func() {
		defer close(waited)
		db.waitForWrites(t0.UnixMilli())
	}()
	select {
	case <-waited:
		t.Error("it was not waited for")
	case <-time.After(50 * time.Millisecond):
	}
	close(goOn)
	<-waited
}
