package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/fileutil"
)

// errHeadFirst ends a compaction of blocks that met a head which is due.
var errHeadFirst = errors.New("the head is to be written first")

// compaction is all writing of blocks, one at a time: the TSDB's own loop is
// switched off, since it does not wait for commits.
//
// A compaction of out-of-order samples first collects what each series has, one
// series after the other, and at its end drops everything up to the last chunk
// that it met. A commit that fills a chunk of a series behind its back is
// dropped, too, if that series had nothing when it was looked at, or nothing so
// old or so young. So commits wait while it collects.
type compaction struct {
	mu        sync.Mutex   // one compaction, and nothing else that holds the TSDB's lock long
	commits   sync.RWMutex // held for reading by each commit
	turn      sync.Mutex   // held by a commit from when it is logged until the head has it
	beginning sync.RWMutex // held for reading while a write begins
	whole     mark         // what is before it in the log is of commits that went through; guarded by commits

	untorn    atomic.Int64           // the segment of the log before which no record is there in part only
	cut       map[mark]struct{}      // pages of the log out of which records were taken, since the last mend; guarded by mu
	begin     int64                  // samples before it are late, as the process before this one said; 0 when it did not
	staleAt   int64                  // the head's newest sample when series that ended left it the last time; guarded by mu
	leftUntil int                    // segments of the log before it may say of series that they left the head; guarded by mu
	trimmed   int64                  // samples out of order before it may have gone from the log
	untrimmed int64                  // about the bytes that samples out of order took in the log since
	flood     flood                  // of samples out of order; guarded by mu
	flooded   atomic.Int64           // until when it lasts at least, Unix milliseconds
	postponed bool                   // merging ended before it was done; guarded by mu
	head      atomic.Bool            // the head may be written
	collected atomic.Pointer[func()] // called when the first block is written
	merging   merging
}

// merging is the context of the TSDB's compactor: it ends with the store, and while blocks are
// merged also when something more urgent waits for that.
type merging struct {
	context.Context
	current atomic.Pointer[merge]
}

type merge struct {
	ctx context.Context
	end context.CancelFunc
}

func (m *merging) now() context.Context {
	if one := m.current.Load(); one != nil {
		return one.ctx
	}
	return m.Context
}

func (m *merging) Done() <-chan struct{} { return m.now().Done() }

func (m *merging) Err() error { return m.now().Err() }

// begin begins a merge, one at a time, which who called it ends.
func (m *merging) begin() (end func()) {
	ctx, cancel := context.WithCancel(m.Context)
	m.current.Store(&merge{ctx, cancel})
	return func() {
		m.current.Store(nil)
		cancel()
	}
}

// makeWay ends the merge that runs. What it was at is merged later, from the beginning.
func (m *merging) makeWay() {
	if one := m.current.Load(); one != nil {
		one.end()
	}
}

// compactLate writes blocks of what is out of order in the head, and reads the folder's
// blocks anew, as the TSDB always does then.
func (db *DB) compactLate(ctx context.Context) error {
	db.compaction.mu.Lock()
	defer db.compaction.mu.Unlock()
	return db.compactLateLocked(ctx)
}

func (db *DB) compactLateLocked(ctx context.Context) error {
	c := &db.compaction
	size, err := db.lateLogBytes()
	if err != nil {
		return err
	}
	db.floor() // it drops from the head what is older than that begins
	c.commits.Lock()
	var once sync.Once
	goOn := func() { once.Do(c.commits.Unlock) }
	defer goOn()
	c.collected.Store(&goOn)
	defer c.collected.Store(nil)
	if err := db.tsdb.CompactOOOHead(ctx); err != nil {
		return err
	}
	c.untrimmed += size // the other log has them, too
	return nil
}

// While a site brings its backlog, a block of late samples is written every minute or so,
// most of which overlap with the one before, and all of which are merged with others twice
// or three times until they are as long as they may be. That costs a fifteenth of all that
// the backlog does, and is worth nothing before the backlog is there; so merging waits.
const (
	// floodOver is how long after the log of late samples was full the last time that
	// they have stopped coming.
	floodOver = 5 * time.Minute
	// mergesWait is how long merging waits at most, and unmergedBlocks how many blocks may
	// be there by then: a query reads all that overlap.
	mergesWait     = 30 * time.Minute
	unmergedBlocks = 64
)

// flood of late samples.
type flood struct {
	since time.Time // merging waits
	last  time.Time // their log was full the last time
}

// came notes that the log of late samples was full.
func (f *flood) came(now time.Time) {
	if now.Sub(f.last) >= floodOver {
		f.since = now
	}
	f.last = now
}

// holds says whether merging of so many blocks waits for its end.
func (f *flood) holds(now time.Time, blocks int) bool {
	return now.Sub(f.last) < floodOver && now.Sub(f.since) < mergesWait && blocks < unmergedBlocks
}

// merged notes that merging has gone through; it may wait again.
func (f *flood) merged(now time.Time) { f.since = now }

// floodCame notes, for who holds compaction.mu, that the log of late samples was full.
func (db *DB) floodCame() {
	now := db.opts.Now()
	db.compaction.flood.came(now)
	db.compaction.flooded.Store(now.Add(floodOver).UnixMilli())
}

// Flooded says whether a backlog comes, of which much is held in memory. It never waits.
func (db *DB) Flooded() bool { return db.opts.Now().UnixMilli() < db.compaction.flooded.Load() }

// trimStep is less than any distance of samples in time that matters.
const trimStep = int64(1 << 20)

// trimShare is which part of the log samples out of order make up at least when it is
// trimmed of them.
const trimShare = 4

// trimLog drops the samples from the older part of the log that are out of order:
// blocks and the out-of-order log have them, and who starts after a kill leaves them
// alone once it has read each of them, which for a day of a site is a minute. The TSDB
// does so when it has written a block of the head, some hours after it was new. It
// does it once for each time up to which samples may go, so that each time is a little
// later, and all are before the oldest sample in order that there is or will be: what is
// older than the newest by half a block is out of order. Each time costs the reading
// and writing of what else is in the log, too, so it waits until it is worth that.
func (db *DB) trimLog() error {
	db.compaction.mu.Lock()
	defer db.compaction.mu.Unlock()
	size, err := fileutil.DirSize(filepath.Join(db.opts.Dir, "wal"))
	if err != nil {
		return err
	}
	if db.compaction.untrimmed <= size/trimShare {
		return nil
	}
	head := db.tsdb.Head()
	mint := db.floor()
	maxt := head.MaxTime()
	if mint > maxt {
		return nil // there is none in order
	}
	most := min(mint, maxt-db.opts.BlockRange.Milliseconds()/2)
	before := max(most-trimStep, db.compaction.trimmed+1)
	if before > most {
		return nil
	}
	db.compaction.trimmed, db.compaction.untrimmed = before, 0
	if err := db.truncated(head.Truncate(before)); err != nil {
		return err
	}
	return db.noteBegin(before)
}

// compact writes what of the head is due, and merges blocks.
func (db *DB) compact(ctx context.Context) error {
	db.compaction.mu.Lock()
	defer db.compaction.mu.Unlock()
	for {
		wrote, err := db.compactHead(ctx)
		if err != nil {
			return err
		}
		if wrote {
			if err := db.compactLateLocked(ctx); err != nil {
				return fmt.Errorf("out-of-order samples: %w", err)
			}
		}
		if db.compaction.flood.holds(db.opts.Now(), len(db.tsdb.BlockMetas())) {
			return nil
		}
		// The head is not due any more, so this merges blocks only.
		db.compaction.postponed = false
		err = db.tsdb.Compact(ctx)
		if err == nil && !db.compaction.postponed && !db.due() {
			db.compaction.flood.merged(db.opts.Now())
		}
		if ctx.Err() == nil && errors.Is(err, context.Canceled) {
			db.opts.Logger.Info("merging blocks waits until a write to the log that failed is mended")
			return nil
		}
		if !errors.Is(err, errHeadFirst) || ctx.Err() != nil {
			return err
		}
	}
}

// due says, as the TSDB does, that the head holds more than it should.
func (db *DB) due() bool {
	mint, maxt := db.tsdb.Head().MinTime(), db.tsdb.Head().MaxTime()
	return mint <= maxt && maxt-mint > db.opts.BlockRange.Milliseconds()/2*3
}

// floor is when the samples in order of the head begin, none of which comes before it any
// more. A write that began while the head was young, of an empty store for one, may bring in
// order what is older than all there; whoever drops from the head what is older than where
// it begins, or is in a block that begins there, would drop that, too. So from now on what
// is older is late, and writes that began before are waited for. For who holds
// compaction.mu, and not for who has a write open.
func (db *DB) floor() int64 {
	head := db.tsdb.Head()
	valid, begun := head.AppendableMinValidTime()
	if !begun {
		return math.MaxInt64
	}
	mint := head.MinTime()
	if valid < mint {
		head.SetMinValidTime(mint)
	}
	db.waitForWrites(mint - 1)
	return head.MinTime()
}

// waitForWrites waits for those that may still bring, in order, what is that old.
func (db *DB) waitForWrites(maxt int64) {
	db.compaction.beginning.Lock()
	head := db.tsdb.Head() // those that were about to begin are open now
	db.compaction.beginning.Unlock()
	head.WaitForAppendersOverlapping(maxt)
}

// compactHead is what the TSDB's own compaction does with the head.
func (db *DB) compactHead(ctx context.Context) (wrote bool, err error) {
	db.compaction.head.Store(true)
	defer db.compaction.head.Store(false)
	head, width := db.tsdb.Head(), db.opts.BlockRange.Milliseconds()
	for {
		if !db.due() || ctx.Err() != nil {
			return wrote, ctx.Err()
		}
		mint := db.floor()
		border := mint/width*width + width
		r := tsdb.NewRangeHeadWithIsolationDisabled(head, mint, border-1)
		db.waitForWrites(r.MaxTime())
		if err := db.truncated(db.tsdb.CompactHead(r)); err != nil {
			return wrote, err
		}
		wrote, db.compaction.untrimmed = true, 0 // the TSDB trims its log then
		// After a kill in the middle of a backlog the head is as long as the backlog: its
		// blocks take minutes, in which more comes late than memory should hold.
		if _, err := db.compactFullLog(ctx); err != nil {
			return wrote, fmt.Errorf("out-of-order samples: %w", err)
		}
	}
}

// truncated has the disk take the segment that a truncation of the log began, and the end of the one
// before, also where it failed behind that: a full disk has no room for the checkpoint. Where the first
// sync of that end fails, the zeros there may be what is left of what the system has dropped (pageEnd),
// and the store refuses all until a start; the next commit may come much later. One that comes while the
// checkpoint is written is the first to sync it all the same.
func (db *DB) truncated(err error) error {
	if db.syncer == nil {
		return err
	}
	return errors.Join(err, db.syncer.sync())
}

// newCompactor gives the TSDB its own compactor behind ours, which ends with ctx.
func (db *DB) newCompactor(ctx context.Context) tsdb.NewCompactorFunc {
	return func(_ context.Context, r prometheus.Registerer, l *slog.Logger, ranges []int64, pool chunkenc.Pool, o *tsdb.Options) (tsdb.Compactor, error) {
		db.compaction.merging.Context = ctx
		inner, err := tsdb.NewLeveledCompactorWithOptions(&db.compaction.merging, r, l, ranges, pool, tsdb.LeveledCompactorOptions{
			MaxBlockChunkSegmentSize: o.MaxBlockChunkSegmentSize, EnableOverlappingCompaction: o.EnableOverlappingCompaction,
		})
		return &compactor{inner, db}, err
	}
}

type compactor struct {
	tsdb.Compactor
	db *DB
}

var _ tsdb.Compactor = (*compactor)(nil)

func (c *compactor) Write(dest string, b tsdb.BlockReader, mint, maxt int64, base *tsdb.BlockMeta) ([]ulid.ULID, error) {
	if goOn := c.db.compaction.collected.Load(); goOn != nil {
		(*goOn)()
	}
	if _, head := b.(*tsdb.RangeHead); head && !c.db.compaction.head.Load() {
		return nil, errHeadFirst
	}
	if stale, is := b.(*tsdb.SelectedSeriesHead); is {
		if err := c.db.noteLeaving(&c.db.compaction.merging, stale); err != nil {
			return nil, err
		}
		// As late samples' it says nothing of where the log begins, and is merged with the head's
		// block of its time; the TSDB would never merge one of stale series with others.
		base = &tsdb.BlockMeta{}
		base.Compaction.SetOutOfOrder()
		if maxt > c.db.compaction.staleAt { // the last one, after which they leave
			ids, err := c.Compactor.Write(dest, b, mint, maxt, base)
			if err == nil {
				err = c.db.awaitReaders(&c.db.compaction.merging)
			}
			return ids, err
		}
	}
	return c.Compactor.Write(dest, b, mint, maxt, base)
}

// Compact merges blocks, unless the log is to be mended: merging the largest takes minutes, in
// which nothing would be taken.
func (c *compactor) Compact(dest string, dirs []string, open []*tsdb.Block) ([]ulid.ULID, error) {
	m := &c.db.compaction.merging
	defer m.begin()()
	if c.db.doubt() != nil {
		m.makeWay()
	}
	return c.Compactor.Compact(dest, dirs, open)
}

// Plan does not merge a block of out-of-order samples, or of series that ended, that reaches further than
// all blocks of the head with one of these. The merged block would count as the
// head's, and the next start would take all that the log has up to its end for
// stored, without looking. It can be merged once the head has come so far.
func (c *compactor) Plan(dir string) ([]string, error) {
	plan, err := c.Compactor.Plan(dir)
	if err != nil || len(plan) < 2 {
		return plan, err
	}
	if size, err := c.db.lateLogBytes(); err == nil && size >= c.db.opts.OutOfOrderLogBytes {
		c.db.compaction.postponed = true // late samples go first: merges of a backlog take minutes
		return nil, nil
	}
	late, mixed := int64(math.MinInt64), false
	for _, m := range c.db.tsdb.BlockMetas() {
		in := slices.ContainsFunc(plan, func(path string) bool { return filepath.Base(path) == m.ULID.String() })
		switch ofHead := !m.Compaction.FromOutOfOrder(); {
		case ofHead:
			mixed = mixed || in
		case in:
			late = max(late, m.MaxTime)
		}
	}
	if mixed && late > c.db.storedInOrder() {
		return nil, nil
	}
	return plan, nil
}
