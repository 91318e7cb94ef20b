package metrics

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/wlog"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// errLetGo is for what would make a series other than by introduce.
var errLetGo = fmt.Errorf("the head let the series go at this moment; it begins anew when sent again: %w", fault.ErrUnavailable)

// append has a sample appended to a series that the log has. Senders keep references, and of
// one that the head has let go the TSDB would make a series past introduce, by the labels. It
// gets none, so that it says so instead.
func (db *DB) append(app any, ref storage.SeriesRef, lset labels.Labels, at int64, do func(storage.SeriesRef, labels.Labels) (storage.SeriesRef, error)) (storage.SeriesRef, error) {
	for range 3 { // it may be let go between introduce and do
		if ref == 0 {
			var err error
			if ref, err = db.introduce(app.(storage.GetRef), lset, at); err != nil {
				return 0, err
			}
			if ref == 0 {
				return do(0, lset)
			}
		}
		got, err := do(ref, labels.EmptyLabels())
		switch {
		case got == ref:
			return got, err // of an exemplar
		case err == nil: // it was let go while it was appended to, and somebody has begun it anew
			if db.isLost(got) {
				return 0, errLost
			}
			return got, nil
		case !errors.Is(err, tsdb.ErrInvalidSample) && !errors.Is(err, errLetGo):
			return got, err
		}
		ref = 0
	}
	return 0, errLetGo
}

// lost is a series of which the record could not be written, and the segment of then.
type lost struct {
	segment int
	lset    labels.Labels
}

// errLost is for samples of a series in db.lost.
var errLost = fmt.Errorf("a write to the log failed when this series began; it is taken once the log is mended and has it: %w", fault.ErrUnavailable)

func (db *DB) isLost(ref storage.SeriesRef) bool {
	db.series.RLock()
	defer db.series.RUnlock()
	_, lost := db.lost[ref]
	return lost
}

// introduce has a series in the log before anybody can use it. The TSDB shows a
// new series to everybody at once, and logs it with the commit of whoever came
// first: the samples of whoever commits before that would stand in the log ahead
// of what they are of, and a start drops such.
func (db *DB) introduce(app storage.GetRef, lset labels.Labels, at int64) (storage.SeriesRef, error) {
	lset = lset.WithoutEmpty() // as the TSDB keeps it
	hash := lset.Hash()
	db.series.RLock()
	ref, _ := app.GetRef(lset, hash)
	_, is := db.lost[ref]
	db.series.RUnlock()
	if ref != 0 && !is {
		return ref, nil
	}
	db.lockSeries(hash)
	defer db.series.Unlock()
	if err := db.doubt(); err != nil {
		return 0, fmt.Errorf("begin a series: %w: %w", fault.ErrUnavailable, err)
	}
	first := db.tsdb.Appender(context.Background())
	db.introduced.Store(&lset)
	ref, unfit := first.Append(0, lset, at, 0)
	db.introduced.Store(nil)
	made, _ := first.(storage.GetRef).GetRef(lset, hash)
	if err := first.Rollback(); err != nil { // which logs the series
		if made != 0 {
			_, segment, _ := wlog.Segments(filepath.Join(db.opts.Dir, "wal"))
			db.lost[made] = lost{segment, lset}
		}
		db.space.fail(err)
		db.compaction.merging.makeWay()
		db.wake()
		return 0, fmt.Errorf("log a series: %w: %w", fault.ErrUnavailable, err)
	}
	if _, is = db.lost[made]; is {
		return 0, errLost
	}
	if unfit != nil { // whoever appends now meets it again
		ref = 0
	}
	return ref, nil
}

// known gives what the head has of a series, if the log has that.
func (db *DB) known(app storage.GetRef, lset labels.Labels, hash uint64) (storage.SeriesRef, labels.Labels) {
	db.series.RLock()
	defer db.series.RUnlock()
	ref, have := app.GetRef(lset, hash)
	if _, lost := db.lost[ref]; lost {
		return 0, labels.EmptyLabels()
	}
	return ref, have
}

// lifecycle is told by the TSDB about the series that it makes and lets go.
type lifecycle struct{ db *DB }

var _ tsdb.SeriesLifecycleCallback = lifecycle{}

// PreCreation lets nothing but a start and introduce make a series.
func (l lifecycle) PreCreation(lset labels.Labels) error {
	if l.db.inner.Load() == nil {
		return nil // it is read from the log
	}
	if introduced := l.db.introduced.Load(); introduced == nil || !labels.Equal(*introduced, lset) {
		return errLetGo
	}
	return nil
}

func (lifecycle) PostCreation(labels.Labels) {}

// PostDeletion forgets series that were lost, which begin anew, and counts those that leave early. The TSDB calls it for each of
// its stripes, without a lock.
func (l lifecycle) PostDeletion(gone map[chunks.HeadSeriesRef]labels.Labels) {
	if len(gone) == 0 {
		return
	}
	l.db.series.RLock()
	lost, leaving := len(l.db.lost), l.db.leaving
	l.db.series.RUnlock()
	if leaving != nil {
		leaving.left.Add(int64(len(gone)))
	}
	if lost == 0 {
		return
	}
	l.db.series.Lock()
	defer l.db.series.Unlock()
	for ref := range l.db.lost {
		if _, is := gone[chunks.HeadSeriesRef(ref)]; is {
			delete(l.db.lost, ref)
		}
	}
}
