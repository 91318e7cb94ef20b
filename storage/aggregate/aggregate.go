// Package aggregate owns what long charts are read from: count, sum, least,
// greatest and last of each series' samples for every hour and every five
// minutes of the days that are over, beside the samples themselves. It must not
// know which series there are, nor who asks.
//
// They are made of blocks of samples and can be made again of these at any time:
// nothing here is backed up. They are used only while they are exact: a part
// says of which blocks it was made, and as soon as any other samples of its time
// are there (they came late, were imported, or some were deleted) it is not read
// any more, and made anew.
package aggregate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
)

const day = 24 * time.Hour

// mergedDays is how many days one part holds in the end: each series of each part
// has to be found by itself.
const mergedDays = 10

// level is one length of buckets.
type level struct {
	name       string
	resolution int64         // milliseconds; divides a day
	keep       time.Duration // 0 is as long as the samples
}

// levels, the coarsest first. Charts whose steps are of 5 min to 1 h reach back
// ten days; so much longer the fine ones need not be kept, which cost half as much
// as the samples at 60 s.
var levels = []level{
	{"1h", time.Hour.Milliseconds(), 0},
	{"5m", (5 * time.Minute).Milliseconds(), 14 * day},
}

// Raw is a store of samples. *metrics.DB is one.
type Raw interface {
	storage.Queryable
	BlockMetas() ([]tsdb.BlockMeta, error)
	// InMemorySince is the oldest time of which samples may be in memory instead
	// of in a block, Unix milliseconds; math.MaxInt64 for none.
	InMemorySince() int64
	// ReadOnly is nil while there is space to write.
	ReadOnly() error
}

// Options of a Store.
type Options struct {
	Dir string // required; holds nothing else
	Raw Raw    // required
	// Settled is how old a day must be before it is made: what comes late has come
	// by then. Default 48 h.
	Settled time.Duration
	// Quiet is how long no block of a day may have come, so that history that
	// arrives piece by piece has its days made once. Default 1 h.
	Quiet      time.Duration
	Every      time.Duration // how often is looked what is to be made; default 1 min
	Logger     *slog.Logger
	Registerer prometheus.Registerer // default none
	Now        func() time.Time      // default time.Now
}

func (o *Options) complete() error {
	if o.Dir == "" || o.Raw == nil {
		return errors.New("aggregate: Dir and Raw are required")
	}
	if o.Settled == 0 {
		o.Settled = 48 * time.Hour
	}
	if o.Every == 0 {
		o.Every = time.Minute
	}
	if o.Quiet == 0 {
		o.Quiet = time.Hour
	}
	if o.Settled < 0 || o.Quiet < 0 || o.Every < 0 {
		return fmt.Errorf("aggregate: Settled %v, Quiet %v and Every %v must be positive", o.Settled, o.Quiet, o.Every)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}

// span is a time: after from, up to and with to; Unix milliseconds.
type span struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

func (s span) overlaps(o span) bool { return s.From < o.To && o.From < s.To }

// Store is the aggregates of one store of samples. Its methods may be called
// concurrently.
type Store struct {
	opts    Options
	metrics *ownMetrics

	mu      sync.RWMutex
	parts   [][]*part // by level, in the order of time; none overlaps another
	origins origins
	checked string // the blocks for which parts say whether they are exact

	stop func()
	done chan struct{}
}

// Open opens what is there and begins to make what is missing. What cannot be
// read is removed, and made again.
func Open(o Options) (*Store, error) {
	s, err := open(o)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	go s.run(ctx)
	return s, nil
}

// open is Open without what goes on by itself.
func open(o Options) (*Store, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	s := &Store{opts: o, metrics: newMetrics(o.Registerer), parts: make([][]*part, len(levels)), stop: func() {}, done: make(chan struct{})}
	if err := os.MkdirAll(o.Dir, 0o750); err != nil {
		return nil, fmt.Errorf("open aggregates: %w", err)
	}
	s.origins = readOrigins(filepath.Join(o.Dir, originsFile))
	for n, l := range levels {
		dir := filepath.Join(o.Dir, l.name)
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return nil, fmt.Errorf("open aggregates: %w", err)
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, fmt.Errorf("open aggregates: %w", err)
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			p, err := openPart(path)
			if err != nil { // a kill has left it half, or it is damaged
				o.Logger.Info("aggregates that cannot be read are made again", "dir", path, "err", err)
				if err := os.RemoveAll(path); err != nil {
					return nil, errors.Join(fmt.Errorf("open aggregates: %w", err), s.closeParts())
				}
				continue
			}
			s.parts[n] = append(s.parts[n], p)
		}
		if err := s.dropContained(n); err != nil {
			return nil, errors.Join(fmt.Errorf("open aggregates: %w", err), s.closeParts())
		}
	}
	s.count()
	return s, nil
}

// dropContained removes parts that a kill has left beside what they were merged
// into.
func (s *Store) dropContained(n int) error {
	all := s.parts[n]
	slices.SortFunc(all, func(a, b *part) int { return int(min(max(a.From-b.From, -1), 1)) })
	var errs []error
	s.parts[n] = slices.DeleteFunc(all, func(p *part) bool {
		larger := slices.ContainsFunc(all, func(o *part) bool { return o != nil && o != p && o.overlaps(p.span) && o.To-o.From > p.To-p.From })
		if larger {
			errs = append(errs, p.remove())
		}
		return larger
	})
	return errors.Join(errs...)
}

func (s *Store) run(ctx context.Context) {
	defer close(s.done)
	timer := time.NewTimer(s.opts.Every)
	defer timer.Stop()
	said := false // a repeated failure is told once
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		began := s.opts.Now()
		more, err := s.step(ctx)
		if err != nil && ctx.Err() == nil {
			s.metrics.failures.Inc()
			if !said {
				s.opts.Logger.Warn("make aggregates; tried again", "err", err)
			}
		}
		said = err != nil
		wait := s.opts.Every
		if more && err == nil {
			// As much rest as work: what was not made is only slower to read.
			wait = min(wait, max(s.opts.Now().Sub(began), time.Millisecond))
		}
		timer.Reset(wait)
	}
}

// Close ends the making and closes what is open.
func (s *Store) Close() error {
	s.stop()
	<-s.done
	return s.closeParts()
}

func (s *Store) closeParts() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for n, all := range s.parts {
		for _, p := range all {
			errs = append(errs, p.block.Close())
		}
		s.parts[n] = nil
	}
	return errors.Join(errs...)
}

// step drops what is of no use, and makes the newest day that is missing, or
// merges one window of days. more says that there may be more to do.
func (s *Store) step(ctx context.Context) (more bool, err error) {
	if err := s.opts.Raw.ReadOnly(); err != nil {
		return false, nil // it is told elsewhere
	}
	blocks, since, err := s.look()
	if err != nil {
		return false, err
	}
	if err := s.drop(blocks); err != nil {
		return false, err
	}
	if len(blocks) == 0 {
		return false, nil
	}
	oldest, newest := int64(math.MaxInt64), int64(math.MinInt64)
	for _, b := range blocks {
		oldest, newest = min(oldest, b.MinTime), max(newest, b.MaxTime)
	}
	now := s.opts.Now()
	border := min(since-1, now.Add(-s.opts.Settled).UnixMilli())
	width := day.Milliseconds()
	for to := min(border, newest+width) / width * width; to > oldest; to -= width {
		window := span{to - width, to}
		var missing []int
		for n, l := range levels {
			if (l.keep == 0 || to > now.Add(-l.keep).UnixMilli()) && !s.covered(n, window) {
				missing = append(missing, n)
			}
		}
		if len(missing) == 0 || !settled(blocks, window) || !s.quiet(window, blocks, now) {
			continue
		}
		if made, err := s.makeDay(ctx, window, missing); made || err != nil {
			return true, err
		}
	}
	return s.merge(ctx, blocks, border)
}

// look reads which blocks there are and from when on samples are in memory, and
// keeps track of where blocks come from.
func (s *Store) look() (blocks []tsdb.BlockMeta, since int64, err error) {
	// In this order: what leaves the memory meanwhile is in a block then.
	since = s.opts.Raw.InMemorySince()
	if blocks, err = s.opts.Raw.BlockMetas(); err != nil {
		return nil, 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checkLocked(blocks)
	return blocks, since, nil
}

// checkLocked has each part know whether it is exact for these blocks.
func (s *Store) checkLocked(blocks []tsdb.BlockMeta) {
	key := signature(blocks)
	if key == s.checked {
		return
	}
	s.origins.learn(blocks)
	for _, all := range s.parts {
		for _, p := range all {
			p.exact = s.origins.exact(p, blocks)
		}
	}
	s.checked = key
}

// quiet says that there are samples of a window, and that none came lately.
func (s *Store) quiet(window span, blocks []tsdb.BlockMeta, now time.Time) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	from := s.origins.of(window, blocks)
	for id := range from {
		// One of the future is of before a clock was set back.
		if ago := now.Sub(id.Timestamp()); ago >= 0 && ago < s.opts.Quiet {
			return false
		}
	}
	return len(from) > 0
}

func (s *Store) covered(n int, window span) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.ContainsFunc(s.parts[n], func(p *part) bool { return p.overlaps(window) })
}

// drop removes parts that are not exact any more, too old, or whose samples are
// gone.
func (s *Store) drop(blocks []tsdb.BlockMeta) error {
	now := s.opts.Now()
	var gone []*part
	s.mu.Lock()
	for n, l := range levels {
		s.parts[n] = slices.DeleteFunc(s.parts[n], func(p *part) bool {
			old := l.keep != 0 && p.To <= now.Add(-l.keep).UnixMilli()
			some := slices.ContainsFunc(blocks, func(b tsdb.BlockMeta) bool { return spanOf(b).overlaps(p.span) })
			if p.exact && some && !old {
				return false
			}
			if !p.exact {
				s.metrics.stale.Inc()
			}
			gone = append(gone, p)
			return true
		})
	}
	s.mu.Unlock()
	var errs []error
	for _, p := range gone {
		errs = append(errs, p.remove()) // waits for who reads it
	}
	if len(gone) > 0 {
		s.count()
	}
	return errors.Join(errs...)
}

// Bytes of all parts on disk.
func (s *Store) Bytes() (all int64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, parts := range s.parts {
		for _, p := range parts {
			all += p.block.Size()
		}
	}
	return all
}

func (s *Store) count() {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for n, l := range levels {
		var bytes, millis float64
		for _, p := range s.parts[n] {
			bytes += float64(p.block.Size())
			millis += float64(p.To - p.From)
		}
		s.metrics.bytes.WithLabelValues(l.name).Set(bytes)
		s.metrics.covered.WithLabelValues(l.name).Set(millis / 1000)
	}
}
