package metrics

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/prometheus/prometheus/tsdb/wlog"
)

// A series that ended, which its staleness marker says, is in memory until the head is due. Where a
// pod in a hundred is replaced each minute, the head has nearly as many of these then as others. So
// they are written to blocks of their own, and leave, once they are worth that.
const (
	staleShare = 12 // they are at least one in so many
	// staleEvery is the part of a block that the head has gone on since the last time, and that it
	// has before it until it is due: those with late samples stay, whatever is done.
	staleEvery = 12
	// staleWait is how long their readers are waited for at most.
	staleWait = 5 * time.Minute
)

// errStay says that series that ended stay, for now.
var errStay = errors.New("series that ended stay in the head")

// compactStale does so where it is worth it.
func (db *DB) compactStale(ctx context.Context) error {
	db.compaction.mu.Lock()
	defer db.compaction.mu.Unlock()
	if ctx.Err() != nil || !db.staleDue() || db.ReadOnly() != nil {
		return ctx.Err()
	}
	return db.compactStaleLocked()
}

func (db *DB) staleDue() bool {
	head, width := db.tsdb.Head(), db.opts.BlockRange.Milliseconds()
	stale, maxt := head.NumStaleSeries(), head.MaxTime()
	return stale >= db.opts.StaleSeries && stale*staleShare >= head.NumSeries() &&
		maxt-db.compaction.staleAt >= width/staleEvery && maxt-head.MinTime() < width/2*3-width/staleEvery && !db.Flooded()
}

func (db *DB) compactStaleLocked() error {
	db.floor() // what came in order behind its back would leave unwritten
	db.compaction.staleAt = db.tsdb.Head().MaxTime()
	l := &leaving{done: make(chan struct{})}
	db.setLeaving(l)
	pausing := make(chan struct{})
	go func() {
		defer close(pausing)
		db.readers.pause(l.done, readersPause)
	}()
	began := db.opts.Now()
	err := db.tsdb.CompactStaleHead()
	took := db.opts.Now().Sub(began).Seconds()
	left := l.left.Load()
	if err != nil && left > 0 {
		// The log still has them, and a start would take what comes late of them now, and is in
		// order for a series that begins anew, for older than what it has of them, and drop it.
		endWith(fmt.Sprintf("%d series that ended are in blocks and have left the head, and the log cannot be told: %v", left, err))
	}
	db.setLeaving(nil)
	close(l.done)
	<-pausing
	db.readers.goOn()
	db.metrics.staleSeconds.Add(took)
	db.metrics.staleSeries.Add(float64(left))
	if err == nil && left > 0 {
		var last int
		if _, last, err = wlog.Segments(filepath.Join(db.opts.Dir, "wal")); err == nil {
			db.compaction.leftUntil = last + 1
		}
	}
	if errors.Is(err, errStay) {
		db.opts.Logger.Info("series that ended stay in the head", "why", err, "took_seconds", took)
		return nil
	}
	if err != nil {
		return fmt.Errorf("series that ended: %w", err)
	}
	db.opts.Logger.Info("series that ended have left the head", "series", left, "took_seconds", took)
	return nil
}

// awaitReaders waits until nobody reads, and nobody begins to. The TSDB does so, too, but without end, and
// holds up all else meanwhile: a mend, the head, and late samples, of which memory has more and more. Where
// one of these comes to be due, the series stay. What was written of them stays as well: it is merged with
// the head's block of its time.
func (db *DB) awaitReaders(ctx context.Context) error {
	db.readers.awaitLast()
	tick := time.NewTicker(readersLook)
	defer tick.Stop()
	for end := time.Now().Add(staleWait); !db.readers.gone(); {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case now := <-tick.C:
			late, err := db.lateLogBytes()
			if err != nil {
				return err
			}
			if now.After(end) || db.doubt() != nil || db.due() || late >= db.opts.OutOfOrderLogBytes {
				return fmt.Errorf("%w: they are read, or something else is due", errStay)
			}
		}
	}
	// The blocks, and who wrote meanwhile, may have filled the disk, and the log must take what follows.
	if err := db.space.writable(); err != nil {
		return fmt.Errorf("%w: %w", errStay, err)
	}
	return nil
}

// leaving is what knows the series that leave the head before it is due.
//
// The TSDB lets them all go, and logs that then. One that begins anew in between would be logged
// before that, and a start, for which it is the one that ended, would let it go with that one.
type leaving struct {
	hashes []uint64 // of their labels, in order; guarded by DB.series
	left   atomic.Int64
	done   chan struct{} // closed once the log knows of it
}

// has says, for who holds DB.series, whether a series may be one of them.
func (l *leaving) has(hash uint64) bool {
	if l == nil {
		return false
	}
	_, found := slices.BinarySearch(l.hashes, hash)
	return found
}

func (db *DB) setLeaving(l *leaving) {
	db.series.Lock()
	defer db.series.Unlock()
	db.leaving = l
}

// noteLeaving notes which series will leave, before the first of them is written.
func (db *DB) noteLeaving(ctx context.Context, of *tsdb.SelectedSeriesHead) error {
	db.series.RLock()
	noted := db.leaving.hashes != nil
	db.series.RUnlock()
	if noted {
		return nil
	}
	hashes, err := hashesOf(ctx, of)
	if err != nil {
		return fmt.Errorf("list series that ended: %w", err)
	}
	db.series.Lock()
	defer db.series.Unlock()
	db.leaving.hashes = hashes
	return nil
}

func hashesOf(ctx context.Context, of *tsdb.SelectedSeriesHead) (hashes []uint64, err error) {
	ir, err := of.Index()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, ir.Close()) }()
	name, value := index.AllPostingsKey()
	all, err := ir.Postings(ctx, name, value)
	if err != nil {
		return nil, err
	}
	hashes = make([]uint64, 0, of.NumSeries())
	var builder labels.ScratchBuilder
	for all.Next() {
		if err := ir.Series(all.At(), &builder, nil); err != nil && !errors.Is(err, storage.ErrNotFound) {
			return nil, err
		}
		hashes = append(hashes, builder.Labels().Hash())
	}
	slices.Sort(hashes)
	return hashes, all.Err()
}

// lockSeries takes DB.series for who makes a series with these labels, once the log knows of one
// that leaves.
func (db *DB) lockSeries(hash uint64) {
	for {
		db.series.Lock()
		if !db.leaving.has(hash) {
			return
		}
		done := db.leaving.done
		db.series.Unlock()
		<-done
	}
}
