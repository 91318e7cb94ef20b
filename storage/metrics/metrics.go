// Package metrics owns the samples: Prometheus' TSDB, embedded, with its
// retention, out-of-order window, free space and imports of finished blocks. It
// must not know who sends samples, what they mean or who asks for them.
package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/fileutil"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/prometheus/prometheus/util/compression"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// verifyBytesPerSecond is what verifying takes of the disk: 30 GB in a quarter of
// an hour.
const verifyBytesPerSecond = 32 << 20

// stripes are the maps in which the head finds a series by its number, for each sample
// of a write and of a start. Up to eight series fit into the simplest form of a map; the
// TSDB's 16,384 maps have more from 131,000 series on.
const stripes = 1 << 15

// Options of a store.
type Options struct {
	Dir       string        // required; holds nothing but the TSDB
	Retention time.Duration // default 90 days; at least one day
	// BlockRange is the smallest block's, and what the head is cut by: it holds up
	// to one and a half, which a start after a kill reads back. Default 2 h.
	BlockRange time.Duration
	// SnapshotAtClose has Close write what the head holds in memory, which a start
	// reads faster than the log. A kill leaves none. Default no.
	SnapshotAtClose  bool
	Progress         *Progress     // is told how far Open is; default nobody
	MaxBytes         int64         // of all blocks, WAL and head together; 0 means no bound by size
	OutOfOrderWindow time.Duration // how far behind the newest sample others are taken; default 48 h, at most the retention
	// OutOfOrderLogBytes is the size of the out-of-order log past which it is
	// turned into blocks, so that a flood of old samples costs disk instead of
	// memory and a long replay. Default 128 MiB.
	OutOfOrderLogBytes int64
	// StaleSeries is how many series that ended, as a staleness marker says, the head holds at
	// least when they are written to a block before it is due, if they are a tenth of all.
	// Default 20,000.
	StaleSeries uint64
	// MinFreeBytes of the file system, under which the store turns read-only: a
	// block can still be written and the log truncated then. Default 512 MiB.
	MinFreeBytes uint64
	// CheckEvery is how often the out-of-order log and the free space are looked
	// at; default 15 s. Blocks are verified, each once, a multiple of it later.
	CheckEvery time.Duration
	// Sync has the system write the log to the disk before a commit returns, so
	// that it survives a power cut too, and not only a kill.
	Sync         bool
	MaxExemplars int64 // kept in memory, the oldest dropped first; default 100,000
	Logger       *slog.Logger
	Registerer   prometheus.Registerer // default none
	Now          func() time.Time      // default time.Now
	// Newest is up to when this store or one beside it has blocks, Unix milliseconds: the retention
	// counts back from there, too, since one that gets no more samples would keep the last ones for
	// ever. A clock that is wrong would have all of them go. Default this store alone.
	Newest func() int64
	// Forecast is what is told of the file system where other stores grow on it; default the
	// store's own, as if it were alone.
	Forecast func() (in time.Duration, never, known bool)
	// FreeBytes tells the free space of the file system of a folder; default
	// the system's answer.
	FreeBytes func(dir string) (uint64, error)
	// Probe tells whether a file can be written into a folder; default writes
	// one, syncs and removes it.
	Probe func(dir string) error
}

func (o *Options) complete() error {
	var errs []error
	if o.Dir == "" {
		errs = append(errs, errors.New("metrics: Dir is required"))
	}
	if o.Retention == 0 {
		o.Retention = 90 * 24 * time.Hour
	}
	if o.Retention < 24*time.Hour {
		errs = append(errs, fmt.Errorf("metrics: Retention must be at least 24h, not %v", o.Retention))
	}
	if o.MaxBytes < 0 {
		errs = append(errs, fmt.Errorf("metrics: MaxBytes must not be negative, but is %d", o.MaxBytes))
	}
	if o.BlockRange == 0 {
		o.BlockRange = 2 * time.Hour
	}
	if o.BlockRange < time.Minute || o.BlockRange > 24*time.Hour || (24*time.Hour)%o.BlockRange != 0 {
		errs = append(errs, fmt.Errorf("metrics: BlockRange must divide a day, not %v", o.BlockRange))
	}
	if o.Progress == nil {
		o.Progress = &Progress{}
	}
	if o.OutOfOrderWindow == 0 {
		o.OutOfOrderWindow = min(48*time.Hour, o.Retention)
	}
	if o.OutOfOrderWindow < 0 || o.OutOfOrderWindow > o.Retention {
		errs = append(errs, fmt.Errorf("metrics: OutOfOrderWindow must lie between 0 and the retention %v, not %v", o.Retention, o.OutOfOrderWindow))
	}
	if o.OutOfOrderLogBytes == 0 {
		o.OutOfOrderLogBytes = 128 << 20
	}
	if o.StaleSeries == 0 {
		o.StaleSeries = 20_000
	}
	if o.MinFreeBytes == 0 {
		o.MinFreeBytes = 512 << 20
	}
	if o.CheckEvery == 0 {
		o.CheckEvery = 15 * time.Second
	}
	if o.MaxExemplars == 0 {
		o.MaxExemplars = 100_000
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.FreeBytes == nil {
		o.FreeBytes = freeBytes
	}
	if o.Probe == nil {
		o.Probe = probe
	}
	return errors.Join(errs...)
}

// Progress tells how far a log is read while a store opens, or one of several that open after each other.
type Progress struct{ of atomic.Pointer[replay] }

type replay struct {
	dir   string
	stats *tsdb.DBStats
}

// Segments of the log that is being read, and the store's folder: at least so many are done of total, of which
// a checkpoint is one; zero before. The out-of-order log is read after the other one, and counted anew.
func (p *Progress) Segments() (dir string, done, total int) {
	of := p.of.Load()
	if of == nil {
		return "", 0, 0
	}
	st := of.stats.Head.WALReplayStatus.GetWALReplayStatus()
	if st.Max < max(0, st.Min) { // not begun, or no log
		return of.dir, 0, 0
	}
	return of.dir, max(0, min(st.Current, st.Max)-st.Min), st.Max - st.Min + 1
}

// DB is the open store. All methods may be called concurrently.
type DB struct {
	opts    Options
	tsdb    *tsdb.DB
	stats   *tsdb.DBStats
	metrics *ownMetrics
	space   *space
	syncer  *syncer // nil when commits do not wait for the disk
	opened  opened  // what the process before this one left

	registry   *registry // what the TSDB registered
	compaction compaction
	beginNote  beginNote

	// described is held for writing while what blocks say of themselves changes,
	// which the TSDB does without a lock.
	described sync.RWMutex

	series     sync.RWMutex                  // held while a series is made, until the log has it
	lost       map[storage.SeriesRef]lost    // series that the log may lack; guarded by series
	leaving    *leaving                      // series that leave the head before it is due, nil while none do; guarded by series
	introduced atomic.Pointer[labels.Labels] // what series is being made
	mended     atomic.Pointer[failures]      // writes to the logs that failed, of which nothing is left
	unmended   atomic.Pointer[error]         // why the others are not mended, if that was tried

	readers readers

	importing sync.Mutex // one import at a time
	deleting  sync.Mutex // one change of the deletions' file at a time

	verifying sync.Mutex             // one verification at a time
	verified  map[ulid.ULID]struct{} // guarded by verifying
	damagedMu sync.Mutex
	damaged   map[ulid.ULID]struct{}  // blocks to be dropped
	inner     atomic.Pointer[tsdb.DB] // tsdb, for what is asked while it opens

	stop    func()        // ends the maintenance
	headDue chan struct{} // wakes the compaction; holds one
	room    chan struct{} // wakes it when the disk can be written again, and has to be mended; holds one
	settled chan struct{} // closed once what was late before the start is in blocks
	done    chan struct{}
}

var (
	_ storage.Storage           = (*DB)(nil)
	_ storage.ExemplarQueryable = (*DB)(nil)
)

// Open opens the store, creates it where there is none, and replays its log. It
// fails with fault.ErrConflict when another process has it open, and with
// fault.ErrUnavailable when the folder cannot be written. Too little free space,
// or hardly any where there is a store already, does not keep it from opening: it is
// said, and the store is read-only until there is more.
func Open(o Options) (*DB, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Dir, 0o750); err != nil {
		return nil, fmt.Errorf("open metrics store: the folder %s cannot be created: %w: %w", o.Dir, fault.ErrUnavailable, err)
	}
	_, none := os.Stat(filepath.Join(o.Dir, "wal"))
	if err := o.Probe(o.Dir); err != nil && (none != nil || !fault.DiskFull(err)) {
		return nil, fmt.Errorf("open metrics store: the folder %s cannot be written (no right to, read-only, or full): %w: %w", o.Dir, fault.ErrUnavailable, err)
	}
	if err := free(o.Dir); err != nil {
		return nil, err
	}
	if err := clearProbes(o.Dir); err != nil {
		return nil, fmt.Errorf("open metrics store in %s: %w", o.Dir, err)
	}
	opts := tsdb.DefaultOptions()
	opts.RetentionDuration = o.Retention.Milliseconds()
	opts.MaxBytes = o.MaxBytes
	opts.MinBlockDuration = o.BlockRange.Milliseconds()
	opts.EnableMemorySnapshotOnShutdown = o.SnapshotAtClose
	// As Prometheus: a tenth of the retention, so that old blocks go in time.
	opts.MaxBlockDuration = min(o.Retention/10, 31*24*time.Hour).Milliseconds()
	opts.WALCompression = compression.Snappy
	opts.OutOfOrderTimeWindow = o.OutOfOrderWindow.Milliseconds()
	opts.EnableExemplarStorage = true
	opts.MaxExemplars = o.MaxExemplars
	opts.EnableOverlappingCompaction = true
	opts.StripeSize = stripes

	db := &DB{
		opts: o, stats: tsdb.NewDBStats(), metrics: newMetrics(o.Registerer), done: make(chan struct{}), settled: make(chan struct{}), headDue: make(chan struct{}, 1), room: make(chan struct{}, 1),
		verified: map[ulid.ULID]struct{}{}, damaged: map[ulid.ULID]struct{}{}, registry: &registry{next: o.Registerer},
		lost: map[storage.SeriesRef]lost{},
	}
	if db.opts.Forecast == nil {
		db.opts.Forecast = db.Forecast
	}
	db.mended.Store(&failures{})
	db.compaction.cut = map[mark]struct{}{}
	o.Progress.of.Store(&replay{o.Dir, db.stats})
	if o.Sync {
		db.syncer = newSyncer(o.Dir)
	}
	opts.BlocksToDelete = db.blocksToDelete
	opts.SeriesLifecycleCallback = lifecycle{db}
	ctx, cancel := context.WithCancel(context.Background())
	db.stop = cancel
	opts.NewCompactorFunc = db.newCompactor(ctx)
	var err error
	if db.opened, err = noteOpened(o); err != nil {
		return nil, fmt.Errorf("open metrics store in %s: %w", o.Dir, err)
	}
	if err := quarantineClosed(o); err != nil {
		return nil, fmt.Errorf("open metrics store in %s: look for damage: %w", o.Dir, err)
	}
	if err := db.open(opts); err != nil {
		cancel()
		return nil, fmt.Errorf("open metrics store in %s: %w", o.Dir, err)
	}
	if err = db.readBegin(); err == nil {
		_, err = readDeletions(o.Dir)
	}
	if err == nil && db.syncer != nil {
		err = db.syncer.begin()
	}
	if err != nil {
		cancel()
		return nil, errors.Join(fmt.Errorf("open metrics store in %s: %w", o.Dir, err), db.tsdb.Close())
	}
	undone := db.deleteAgain(context.Background())
	if undone != nil { // a full disk, most likely
		o.Logger.Error("samples of deleted clusters are back for now; tried again", "err", undone)
	}
	db.countQuarantined()
	db.countToRewrite()
	db.setForecast()
	if err := db.noteWhole(); err != nil {
		o.Logger.Warn("look how long the log is; a mend of it would read all", "err", err)
	}
	db.space = newSpace(o, db.metrics, db.doubt, func() { wake(db.room) })
	if err := db.space.check(); err != nil {
		o.Logger.Error("metrics store is read-only", "dir", o.Dir, "err", err)
	}
	go db.maintain(ctx, undone != nil)
	return db, nil
}

// open opens the TSDB. Where that repaired the log, it left out the out-of-order
// log altogether, which the next compaction would then drop; so it is opened once
// more.
func (db *DB) open(opts *tsdb.Options) error {
	o := db.opts
	for again := true; ; again = false {
		if err := errors.Join(keepLogs(o.Dir), forgetMarkers(o.Dir), db.keepNumbers(), firstSegment(o.Dir)); err != nil {
			return fmt.Errorf("look for damage: %w", err)
		}
		inner, err := tsdb.Open(o.Dir, o.Logger, db.registry, opts, db.stats)
		if err != nil {
			return err
		}
		inner.DisableCompactions()
		repaired, err := db.keptLogs()
		if err == nil && (!repaired || !again) {
			db.tsdb = inner
			db.inner.Store(inner)
			return nil
		}
		if err = errors.Join(err, inner.Close()); err != nil {
			return err
		}
		db.registry.clear()
	}
}

// free says plainly when another process has the store open; the TSDB takes the
// lock itself right after.
func free(dir string) error {
	path := filepath.Join(dir, "lock")
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	lock, _, err := fileutil.Flock(path)
	if err != nil {
		return fmt.Errorf("open metrics store: another process has %s open; end it, or use another data folder: %w: %w", dir, fault.ErrConflict, err)
	}
	return lock.Release()
}

// maintain looks at the space, writes and merges blocks, and verifies each once.
// undone says that a deletion is to be tried again.
func (db *DB) maintain(ctx context.Context, undone bool) {
	defer close(db.done)
	verifying := make(chan struct{})
	go func() {
		defer close(verifying)
		db.verifyAll(ctx)
	}()
	defer func() { <-verifying }()
	compacting := make(chan struct{})
	go func() {
		defer close(compacting)
		db.compactAll(ctx)
	}()
	defer func() { <-compacting }()
	tick := time.NewTicker(db.opts.CheckEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			_ = db.space.check() // logs changes and keeps the gauge
			db.setForecast()
			db.compaction.commits.Lock()
			_ = db.noteWhole() // a mend reads more of the log then
			db.compaction.commits.Unlock()
			undone = undone && db.deleteAgain(ctx) != nil
		}
	}
}

// verifyAll verifies new blocks and rewrites those with deleted samples, a while
// after the start: what waits for the start has the disk first.
func (db *DB) verifyAll(ctx context.Context) {
	tick := time.NewTicker(40 * db.opts.CheckEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := db.verify(ctx, paced(verifyBytesPerSecond)); err != nil && ctx.Err() == nil {
				db.opts.Logger.Warn("verify blocks", "err", err)
			}
			if err := db.rewrite(); err != nil && ctx.Err() == nil {
				db.opts.Logger.Warn("rewrite blocks without what was deleted", "err", err)
			}
			if err := db.forgetDeletions(); err != nil {
				db.opts.Logger.Warn("forget deletions that are done", "err", err)
			}
		}
	}
}

// compactAll mends what a failed write left, writes what of the head is due and merges blocks,
// and turns the out-of-order log into blocks when it is long. What a start found out of order
// goes first: it is in memory twice then (forgetMarkers, dropLate). Nothing may shorten
// the log of all before that is done.
func (db *DB) compactAll(ctx context.Context) {
	late := db.tsdb.Head().MinOOOTime() != math.MaxInt64
	if late {
		db.goOnWithFlood()
	}
	err := db.settle(ctx, late)
	unsettled := err != nil
	if unsettled && ctx.Err() == nil {
		db.opts.Logger.Warn("compact out-of-order samples of before the start", "err", err)
	}
	close(db.settled)
	tick := time.NewTicker(db.opts.CheckEvery)
	defer tick.Stop()
	said := false // a repeated failure is told once
	for {
		due := db.headDue
		if said {
			due = nil // every commit would try again
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-due:
		case <-db.room:
		}
		err = db.mend(ctx)
		var unlogged error // the rest goes on: these series alone are refused
		if err == nil {
			unlogged = db.logLost()
		}
		if err == nil && unsettled {
			err = db.settle(ctx, true)
			unsettled = err != nil
		}
		if err == nil {
			err = db.compactOutOfOrder(ctx)
		}
		if err == nil {
			err = db.compact(ctx)
		}
		if err == nil {
			err = db.compactStale(ctx)
		}
		if err = errors.Join(unlogged, err); err != nil && ctx.Err() == nil && !said {
			db.opts.Logger.Error("write or merge blocks; tried again", "err", err)
		}
		said = err != nil
	}
}

// settle writes blocks of what a start found late, if it found some, and leaves it out of
// the head then.
func (db *DB) settle(ctx context.Context, late bool) error {
	if late {
		if err := db.compactLate(ctx); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := db.dropLate(); err != nil { // the head is written block by block then
		db.opts.Logger.Warn("drop late samples from the head", "err", err)
	}
	return nil
}

// goOnWithFlood has merging wait where a start found much that is late: the process before
// it was in the middle of a backlog, most likely.
func (db *DB) goOnWithFlood() {
	size, err := db.lateLogBytes()
	if err != nil || size < db.opts.OutOfOrderLogBytes/4 {
		return
	}
	db.compaction.mu.Lock()
	defer db.compaction.mu.Unlock()
	db.floodCame()
}

// compactOutOfOrder writes blocks of the out-of-order samples when their log
// has passed the bound.
func (db *DB) compactOutOfOrder(ctx context.Context) error {
	db.compaction.mu.Lock()
	wrote, err := db.compactFullLog(ctx)
	db.compaction.mu.Unlock()
	if err != nil || !wrote {
		return err
	}
	if err := db.trimLog(); err != nil { // the blocks are written all the same
		db.opts.Logger.Warn("trim the log of out-of-order samples that are in blocks", "err", err)
	}
	return nil
}

// compactFullLog is compactOutOfOrder for who holds compaction.mu.
func (db *DB) compactFullLog(ctx context.Context) (wrote bool, err error) {
	size, err := db.lateLogBytes()
	if err != nil {
		return false, err
	}
	db.metrics.outOfOrderLog.Set(float64(size))
	if size < db.opts.OutOfOrderLogBytes {
		return false, nil
	}
	began := db.opts.Now()
	db.floodCame()
	if err := db.compactLateLocked(ctx); err != nil {
		return false, err
	}
	db.metrics.outOfOrderCompactions.Inc()
	db.opts.Logger.Info("compacted out-of-order samples", "log_bytes", size, "took_seconds", db.opts.Now().Sub(began).Seconds())
	return true, nil
}

// lateLogBytes is the size of the log of samples out of order.
func (db *DB) lateLogBytes() (int64, error) {
	return logBytes(filepath.Join(db.opts.Dir, wlog.WblDirName))
}

// logBytes sums up the segments of a log. A segment that is truncated away
// while they are listed counts nothing.
func logBytes(dir string) (int64, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, e := range entries {
		if info, err := e.Info(); err == nil && !e.IsDir() {
			sum += info.Size()
		}
	}
	return sum, nil
}

// ReadOnly is nil while samples can be stored, else it says why not; the error
// is a fault.ErrUnavailable. It recovers by itself. It is cheap enough to be
// asked for each request.
func (db *DB) ReadOnly() error { return db.space.state() }

// Close ends the maintenance and closes the store.
func (db *DB) Close() error {
	db.stop()
	<-db.done
	err := db.tsdb.Close()
	if db.syncer != nil {
		err = errors.Join(err, db.syncer.close())
	}
	return err
}

// Querier reads samples between two times, both included, Unix milliseconds.
func (db *DB) Querier(mint, maxt int64) (storage.Querier, error) {
	q, err := beginRead(&db.readers, func() (storage.Querier, error) { return db.tsdb.Querier(mint, maxt) })
	if err != nil {
		return nil, err
	}
	return &querier{Querier: q, readers: &db.readers}, nil
}

// ChunkQuerier is Querier for encoded chunks.
func (db *DB) ChunkQuerier(mint, maxt int64) (storage.ChunkQuerier, error) {
	q, err := beginRead(&db.readers, func() (storage.ChunkQuerier, error) { return db.tsdb.ChunkQuerier(mint, maxt) })
	if err != nil {
		return nil, err
	}
	return &chunkQuerier{ChunkQuerier: q, readers: &db.readers}, nil
}

// ExemplarQuerier reads exemplars.
func (db *DB) ExemplarQuerier(ctx context.Context) (storage.ExemplarQuerier, error) {
	return db.tsdb.ExemplarQuerier(ctx)
}

// Appender begins a write. A commit that fails turns the store read-only until the disk
// can be written and has all that was taken; its error is a fault.ErrUnavailable.
func (db *DB) Appender(ctx context.Context) storage.Appender {
	app, inOrder, young := beginWrite(db, func() storage.Appender { return db.tsdb.Appender(ctx) })
	return &appender{Appender: app, db: db, ctx: ctx, inOrder: inOrder, young: young}
}

// beginWrite begins a write, and says from when on it takes samples in order. The TSDB first looks at
// that, and tells who waits for open writes only then; in a young head, with the first sample.
func beginWrite[A any](db *DB, do func() A) (app A, inOrder int64, young bool) {
	db.compaction.beginning.RLock()
	defer db.compaction.beginning.RUnlock()
	inOrder, begun := db.tsdb.Head().AppendableMinValidTime()
	return do(), inOrder, !begun
}

// keepBeginning keeps the samples in order of the head from beginning later, while a write that began
// in a young one appends.
func (db *DB) keepBeginning(young bool) (letGo func()) {
	if !young {
		return func() {}
	}
	db.compaction.beginning.RLock()
	return db.compaction.beginning.RUnlock
}

// AppenderV2 is Appender by Prometheus' newer interface.
func (db *DB) AppenderV2(ctx context.Context) storage.AppenderV2 {
	app, _, young := beginWrite(db, func() storage.AppenderV2 { return db.tsdb.AppenderV2(ctx) })
	return &appenderV2{AppenderV2: app, db: db, young: young}
}

// StartTime is that of the oldest sample, Unix milliseconds.
func (db *DB) StartTime() (int64, error) { return db.tsdb.StartTime() }

// InMemorySince is the oldest time of which samples may be in the head instead of
// in a block, Unix milliseconds; math.MaxInt64 for none.
func (db *DB) InMemorySince() int64 {
	head := db.tsdb.Head()
	return min(head.MinTime(), head.MinOOOTime())
}

// Series is the number of series that the head holds in memory.
func (db *DB) Series() uint64 { return db.tsdb.Head().NumSeries() }

// The rest is what Prometheus' API asks of a store.

// CleanTombstones removes deleted samples from disk.
func (db *DB) CleanTombstones() error {
	db.compaction.mu.Lock()
	defer db.compaction.mu.Unlock()
	return db.tsdb.CleanTombstones()
}

// Delete marks samples of matching series as deleted.
func (db *DB) Delete(ctx context.Context, mint, maxt int64, ms ...*labels.Matcher) error {
	db.compaction.mu.Lock()
	defer db.compaction.mu.Unlock()
	db.described.Lock()
	defer db.described.Unlock()
	return db.tsdb.Delete(ctx, mint, maxt, ms...)
}

// Snapshot writes a copy into a folder.
func (db *DB) Snapshot(dir string, withHead bool) error {
	db.compaction.mu.Lock()
	defer db.compaction.mu.Unlock()
	db.compaction.head.Store(true)
	defer db.compaction.head.Store(false)
	return db.tsdb.Snapshot(dir, withHead)
}

// Stats counts what the head holds.
func (db *DB) Stats(statsByLabelName string, limit int) (*tsdb.Stats, error) {
	return db.tsdb.Head().Stats(statsByLabelName, limit), nil
}

// WALReplayStatus tells how far the replay at start is.
func (db *DB) WALReplayStatus() (tsdb.WALReplayStatus, error) {
	return db.stats.Head.WALReplayStatus.GetWALReplayStatus(), nil
}

// BlockMetas describes the blocks on disk.
func (db *DB) BlockMetas() ([]tsdb.BlockMeta, error) {
	db.described.RLock()
	defer db.described.RUnlock()
	return db.tsdb.BlockMetas(), nil
}

// RetentionText is the retention as Prometheus' API shows it.
func (db *DB) RetentionText() string {
	s := strconv.FormatInt(int64(db.opts.Retention/(24*time.Hour)), 10) + "d"
	if db.opts.MaxBytes > 0 {
		s += " or " + strconv.FormatInt(db.opts.MaxBytes, 10) + "B"
	}
	return s
}

// lateAtOnce is of how many series late samples are committed at a time. The TSDB makes a
// list as long as all series that begin a late chunk in a commit for each of them: of
// 10,000, a gigabyte; of 500, a third of the garbage of a site's backlog. Fewer would not
// pay for the commits. lateSamples is how many these are at most, where a series has
// several: another list grows by doubling up to there, and by less from there on.
const (
	lateAtOnce  = 128
	lateSamples = 512
	// atOnce bounds others: the TSDB keeps the room that a commit took for those that come. The
	// sums of an interval are hundreds of thousands.
	atOnce = 10_000
)

// appender is the TSDB's, and another one after so many samples.
type appender struct {
	storage.Appender
	db         *DB
	ctx        context.Context // of all of them
	inOrder    int64           // what is older is late
	young      bool            // it began in a young head
	full       []storage.Appender
	n          int               // samples
	late       int               // of them
	lateSeries int               // that they are of, where each series' are together
	of         storage.SeriesRef // the last one
}

func (a *appender) Append(ref storage.SeriesRef, lset labels.Labels, t int64, v float64) (storage.SeriesRef, error) {
	a.next(ref, t)
	return a.float(ref, lset, t, v)
}

// AppendNewest is Append of a sample of which the caller believes that its series has none as
// new. Where that is wrong it only costs more. It is late all the same where the head has gone on
// too far, as with a series that ended in a backlog, or all that begins once a clock was set back.
func (a *appender) AppendNewest(ref storage.SeriesRef, lset labels.Labels, t int64, v float64) (storage.SeriesRef, error) {
	if t < a.inOrder {
		a.next(ref, t)
	}
	return a.float(ref, lset, t, v)
}

func (a *appender) float(ref storage.SeriesRef, lset labels.Labels, t int64, v float64) (storage.SeriesRef, error) {
	a.count()
	return a.db.append(a.Appender, ref, lset, t, func(ref storage.SeriesRef, lset labels.Labels) (storage.SeriesRef, error) {
		defer a.db.keepBeginning(a.young)()
		return a.Appender.Append(ref, lset, t, v)
	})
}

func (a *appender) AppendHistogram(ref storage.SeriesRef, lset labels.Labels, t int64, h *histogram.Histogram, fh *histogram.FloatHistogram) (storage.SeriesRef, error) {
	a.next(ref, t)
	a.count()
	return a.db.append(a.Appender, ref, lset, t, func(ref storage.SeriesRef, lset labels.Labels) (storage.SeriesRef, error) {
		defer a.db.keepBeginning(a.young)()
		return a.Appender.AppendHistogram(ref, lset, t, h, fh)
	})
}

// next goes on with another appender where this one has its share of late samples.
// Which are, each series would have to say; what is older than the newest sample of
// all may be, unless somebody knows better. All of an interval is, of a cluster in which
// something always changes.
func (a *appender) next(ref storage.SeriesRef, t int64) {
	if t >= a.db.tsdb.Head().MaxTime() {
		return
	}
	a.late++
	if ref == 0 || ref != a.of {
		a.lateSeries++
		a.of = ref
	}
	if a.lateSeries > lateAtOnce || a.late > lateSamples {
		a.goOn()
		a.late, a.lateSeries = 1, 1
	}
}

// count goes on with another appender where this one has as many samples as are bounded.
func (a *appender) count() {
	if a.n++; a.n > atOnce {
		a.goOn()
		a.n = 1
	}
}

// goOn begins another appender.
func (a *appender) goOn() {
	a.full = append(a.full, a.Appender)
	a.n, a.late, a.lateSeries = 0, 0, 0
	a.Appender, a.inOrder, a.young = beginWrite(a.db, func() storage.Appender { return a.db.tsdb.Appender(a.ctx) })
}

// Commit commits them in their order, up to one that fails: its samples are sent
// again, and those before it are known then.
func (a *appender) Commit() error {
	return a.db.commit(func() error {
		all := append(a.full, a.Appender)
		for i, one := range all {
			if err := a.db.inTurn(one.Commit); err != nil {
				return errors.Join(err, rollback(all[i+1:]))
			}
		}
		return nil
	}, a.Rollback)
}

// Rollback takes all of them back.
func (a *appender) Rollback() error { return rollback(append(a.full, a.Appender)) }

func rollback(all []storage.Appender) error {
	var errs []error
	for _, one := range all {
		errs = append(errs, one.Rollback())
	}
	return errors.Join(errs...)
}

var _ storage.GetRef = (*appender)(nil)

func (a *appender) GetRef(lset labels.Labels, hash uint64) (storage.SeriesRef, labels.Labels) {
	return a.db.known(a.Appender.(storage.GetRef), lset, hash)
}

type appenderV2 struct {
	storage.AppenderV2
	db    *DB
	young bool
}

var _ storage.GetRef = (*appenderV2)(nil)

func (a *appenderV2) Commit() error {
	return a.db.commit(func() error { return a.db.inTurn(a.AppenderV2.Commit) }, a.Rollback)
}

func (a *appenderV2) GetRef(lset labels.Labels, hash uint64) (storage.SeriesRef, labels.Labels) {
	return a.db.known(a.AppenderV2.(storage.GetRef), lset, hash)
}

func (a *appenderV2) Append(ref storage.SeriesRef, lset labels.Labels, st, t int64, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, o storage.AppendV2Options) (storage.SeriesRef, error) {
	return a.db.append(a.AppenderV2, ref, lset, t, func(ref storage.SeriesRef, lset labels.Labels) (storage.SeriesRef, error) {
		defer a.db.keepBeginning(a.young)()
		return a.AppenderV2.Append(ref, lset, st, t, v, h, fh, o)
	})
}

// commit does it, or undoes it where the log is in doubt: what is in the head then, and was not
// logged in its turn, is a duplicate when it is sent again.
func (db *DB) commit(do, undo func() error) error {
	err := db.doubt() // a mend keeps the lock for as long as it takes
	if err != nil {
		err = errors.Join(err, undo(), db.voidBegin())
	} else {
		err = db.commitInTurn(do, undo)
	}
	if err == nil && db.syncer != nil {
		if err = db.syncer.sync(); err == nil {
			err = db.doubt() // what lies before it in the log was not synced
		}
	}
	if err != nil {
		db.space.fail(err)
		err = fmt.Errorf("commit samples: %w: %w", fault.ErrUnavailable, err)
	}
	if err != nil {
		db.compaction.merging.makeWay()
	}
	if err != nil || db.due() {
		db.wake()
	}
	return err
}

// commitInTurn is commit up to where it waits for the disk.
func (db *DB) commitInTurn(do, undo func() error) error {
	db.compaction.commits.RLock()
	defer db.compaction.commits.RUnlock()
	refused := db.doubt()
	if refused != nil {
		do = undo
	}
	err := errors.Join(refused, do()) // though it may be mended by now
	// The TSDB does not say whose a failed write was, and what comes behind it may be lost, too.
	doubt := db.doubt()
	if doubt != nil || db.beginNote.mustGo() {
		err = errors.Join(err, doubt, db.voidBegin())
	}
	return err
}

// inTurn has the head take commits in the order in which the log has them, and none before the one
// ahead is in both logs. The TSDB does not: where two senders of a series commit at once, the log may
// have the newer sample first and the head the older one, in order for it; a start, which goes by the
// log, drops that. And what is late is in the head before it is logged: a second sender of it, of whom
// the log of late samples gets nothing then, would have an answer before it is.
func (db *DB) inTurn(do func() error) error {
	db.compaction.turn.Lock()
	defer db.compaction.turn.Unlock()
	defer endProcess()
	return do()
}

// endProcess has a panic of the TSDB end the process, though whoever handles a request recovers. It
// does so where a chunk cannot be written, with the lock of a series held: all would wait for ever,
// once a compaction waits for that one. And what is logged the head lacks then. A start has both.
func endProcess() {
	if p := recover(); p != nil {
		endWith(fmt.Sprintf("a commit panicked: %v\n%s", p, debug.Stack()))
	}
}

// endWith ends the process. A start has what was acknowledged.
func endWith(why string) {
	go panic(why) // nobody recovers there
	select {}
}

// wake has the compaction look what is due, or to be mended.
func (db *DB) wake() { wake(db.headDue) }

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it is told already
	}
}

// SnapshotBlocks writes all blocks into a new folder on the store's own file
// system, as second names of their files, and what the head holds as one more:
// everything that was committed before the call.
func (db *DB) SnapshotBlocks(ctx context.Context, dir string) error {
	if err := db.compactLate(ctx); err != nil { // a snapshot leaves these out
		return fmt.Errorf("snapshot: %w", err)
	}
	head := db.tsdb.Head()
	if err := db.Snapshot(dir, head.NumSeries() > 0 && head.MinTime() <= head.MaxTime()); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	return nil
}
