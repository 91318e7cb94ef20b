package rollup

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// Intervals of the past, which a site brings when it is back, are summed as they
// pass, too: reading a day of them back from the store was a fifth of what the day
// cost.
//
// What passes is everything only where nothing of an interval had passed before
// this process began. The store is asked about an hour of the past at a time, from
// the moment on that samples of it are watched here: a point of which it has any is
// left to it. So whatever was stored before a kill is counted, and counted once.
//
// What is left to the store is read for many intervals at once: the senders of a site
// are minutes apart, so that a kill finds hundreds half filled, which then become
// complete one by one. To read each by itself is to decode an hour of every series for
// one sample of it, and took as long as the other half of the backlog.

const (
	// windowSpan is how much of the past the store is asked about at a time.
	windowSpan = int64(time.Hour / time.Millisecond)
	// backlogBytes bounds the sums of a cluster's open intervals of the past; what
	// is opened beyond it is read from the store.
	backlogBytes = 64 << 20
	sumBytes     = 24
	// backlogAge is how long an interval of the past is summed as it passes. Ingest keeps
	// series of a backlog for longer, and with them the memory of what they have added.
	backlogAge = 20 * time.Minute
	// gatherFor is how long intervals of the past that are read from the store wait
	// for others, when they are not as many as are read at once.
	gatherFor = 20 * time.Second
)

// window is an hour of the past of which samples are watched.
type window struct {
	asked bool               // the store was asked, after the watch had begun
	had   map[int64]struct{} // points of which it had samples
}

// late says whether an interval is of the past: one for which nobody waits.
func (r *Rollups) late(at int64, now time.Time) bool {
	return now.Sub(time.UnixMilli(at)) > r.opts.MaxOpen
}

// tapLateLocked gives an interval of the past that is being opened sums of its own,
// if all that it will have passes here.
func (c *cluster) tapLateLocked(r *Rollups, iv *span) {
	if iv.at <= c.lateUnseen || (c.owned+1)*len(c.numbered)*sumBytes > r.backlogBytes {
		return
	}
	if !c.sinceBornLocked(r, iv.at) {
		w := c.watchLocked(iv.at)
		c.watchLocked(iv.at + windowSpan) // ahead of those that are on their way there
		if _, had := w.had[iv.at]; had {
			return
		}
	}
	iv.past, iv.sums = true, c.sumsLocked()
	c.owned++
	c.lateNewest = max(c.lateNewest, iv.at)
}

// sinceBornLocked says that nothing of a point can have passed unseen.
func (c *cluster) sinceBornLocked(r *Rollups, at int64) bool {
	return at > r.born+maxAhead.Milliseconds() && at > c.unseen
}

func (c *cluster) watchLocked(at int64) *window {
	from := at - at%windowSpan
	w := c.windows[from]
	if w == nil {
		w = &window{}
		c.windows[from] = w
	}
	return w
}

// wholeLocked says whether the sums of an interval of the past are all there is.
func (c *cluster) wholeLocked(r *Rollups, iv *span) bool {
	if c.sinceBornLocked(r, iv.at) {
		return true
	}
	w := c.windows[iv.at-iv.at%windowSpan]
	if w == nil || !w.asked {
		return false
	}
	_, had := w.had[iv.at]
	return !had
}

// gathersLocked says whether an interval that is due may wait for others, because the
// store is read for it. One that is newer than all that was written may not: which
// rollups ended is told from one interval to the next.
func (c *cluster) gathersLocked(r *Rollups, iv *span, now time.Time) bool {
	passed := iv.sums != nil && (!iv.past || c.wholeLocked(r, iv))
	if passed || !r.late(iv.at, now) || iv.at > c.written {
		iv.ready = time.Time{}
		return false
	}
	if iv.ready.IsZero() {
		iv.ready = now
	}
	return true
}

// gatheredLocked gives the oldest of the intervals that wait for each other, in their
// order, if they are enough or one has waited for long, and says when to look again.
// It gives those of one reading only, so that live ones come between.
func (c *cluster) gatheredLocked(r *Rollups, waiting []*span, now time.Time) (due []*span, next time.Time) {
	next = now.Add(time.Hour)
	if len(waiting) == 0 {
		return nil, next
	}
	for _, iv := range waiting {
		next = earlier(next, iv.ready.Add(gatherFor))
	}
	n := c.togetherLocked(r, waiting)
	if n < c.readAtOnceLocked(r) && now.Before(next) {
		return nil, next
	}
	return waiting[:n], now
}

// readAtOnceLocked is for how many intervals the store is read at once.
func (c *cluster) readAtOnceLocked(r *Rollups) int {
	return max(1, min(readIntervals, r.backlogBytes/(len(c.numbered)*sumBytes)))
}

// togetherLocked says how many of the intervals, from the first on, are read from the
// store together.
func (c *cluster) togetherLocked(r *Rollups, due []*span) (n int) {
	most := min(len(due), c.readAtOnceLocked(r))
	for n = 1; n < most && due[n].sums == nil; n++ {
		if d := due[n].at - due[0].at; d <= 0 || d >= readSpan {
			break
		}
	}
	return n
}

// leaveLocked leaves an interval to the store.
func (c *cluster) leaveLocked(iv *span) {
	c.ownLocked(iv)
	c.giveBackLocked(iv)
}

// ownLocked leaves it to the caller to give an interval's sums back.
func (c *cluster) ownLocked(iv *span) {
	if iv.past {
		iv.past = false
		c.owned--
	}
}

// leaveLateLocked leaves all intervals of the past to the store, and forgets what was
// watched: the grid is another one.
func (c *cluster) leaveLateLocked() {
	for _, iv := range c.open {
		if iv.past {
			c.leaveLocked(iv)
		}
	}
	clear(c.windows)
	c.lateUnseen = c.lateNewest
}

// ask asks the store about the parts of the past that are watched now.
func (r *Rollups) ask(ctx context.Context, c *cluster) error {
	var starts []int64
	c.mu.Lock()
	if r.opts.Now().Before(c.askAfter) {
		c.mu.Unlock()
		return nil
	}
	for from, w := range c.windows {
		if !w.asked {
			starts = append(starts, from)
		}
	}
	c.mu.Unlock()
	for _, from := range starts {
		had, err := r.had(ctx, c, from, from+windowSpan-1)
		if err != nil {
			c.mu.Lock()
			c.askAfter = r.opts.Now().Add(retryAfter)
			c.mu.Unlock()
			return err
		}
		c.mu.Lock()
		if w := c.windows[from]; w != nil && !w.asked {
			w.asked, w.had = true, had
			for at := range had {
				if iv := c.open[at]; iv != nil && iv.past {
					c.leaveLocked(iv)
				}
			}
		}
		c.mu.Unlock()
	}
	return nil
}

// had gives the times of which the store has samples that are summed.
func (r *Rollups) had(ctx context.Context, c *cluster, mint, maxt int64) (had map[int64]struct{}, err error) {
	q, err := r.opts.Store.Querier(mint, maxt)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	had = map[int64]struct{}{}
	var it chunkenc.Iterator
	for of := range r.plan.readBy {
		set := q.Select(ctx, false, &storage.SelectHints{Start: mint, End: maxt, DisableTrimming: true},
			labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, of),
			labels.MustNewMatcher(labels.MatchEqual, clusterLabel, c.id))
		for set.Next() {
			it = set.At().Iterator(it)
			for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
				if at := it.AtT(); at >= mint && at <= maxt {
					had[at] = struct{}{}
				}
			}
			if err := it.Err(); err != nil {
				return nil, err
			}
		}
		if err := set.Err(); err != nil {
			return nil, err
		}
	}
	return had, nil
}
