// Package history owns samples that are older than the metrics store takes: what
// a site brings that was cut off for longer than the store's out-of-order window.
// They are in a log on disk when they are acknowledged, and become blocks, with
// the sums that the catalogue declares, once their cluster has brought no more for
// a while. It must not know how samples arrive nor who may send them.
//
// A log is one folder for each cluster and two hours, as long as a block, so that
// the memory of building is that of one block.
package history

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/prometheus/prometheus/util/compression"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

const (
	clusterLabel = "cluster"
	blockRange   = 2 * time.Hour
	lookEvery    = 5 * time.Second
	retryAfter   = time.Minute
	segmentBytes = 16 << 20
)

// Blocks is the metrics store.
type Blocks interface {
	storage.Queryable
	// ImportBlocks takes over the finished blocks in dir.
	ImportBlocks(ctx context.Context, dir string) error
	ReadOnly() error
}

// Expected tells which nodes a cluster has, by the inventory.
type Expected interface{ Nodes(cluster string) []string }

// Options of a Store.
type Options struct {
	Dir      string   // required
	Blocks   Blocks   // required
	Expected Expected // default: whoever sent is expected, nobody else
	// Metrics are the declarations of sums; default the catalogue's.
	Metrics []catalogue.Metric
	// Idle is how long a cluster brings nothing before blocks are made; default
	// 5 min, so that its collectors, which are back at about the same time, are
	// summed together.
	Idle time.Duration
	// ClusterBytes of a cluster's log are made into blocks without waiting;
	// default 512 MiB. MaxBytes bounds all logs, beyond which writes are sent
	// away for later; default 4 GiB.
	ClusterBytes, MaxBytes int64
	// Sync has the system write the log to the disk before a commit returns.
	Sync       bool
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	Now        func() time.Time // default time.Now
}

func (o *Options) complete() error {
	if o.Dir == "" || o.Blocks == nil {
		return errors.New("history: Dir and Blocks are required")
	}
	if o.Metrics == nil {
		o.Metrics = catalogue.All()
	}
	o.Idle = cmp.Or(o.Idle, 5*time.Minute)
	o.ClusterBytes = cmp.Or(o.ClusterBytes, 512<<20)
	o.MaxBytes = cmp.Or(o.MaxBytes, 4<<30)
	if o.Idle < 0 || o.ClusterBytes < 0 || o.MaxBytes < o.ClusterBytes {
		return fmt.Errorf("history: Idle %v, ClusterBytes %d and MaxBytes %d must be positive, and MaxBytes no less than ClusterBytes", o.Idle, o.ClusterBytes, o.MaxBytes)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}

// Store takes samples of the past. Its methods may be called concurrently.
type Store struct {
	opts    Options
	log     *slog.Logger
	metrics *ownMetrics
	wake    chan struct{}

	// importing is held, before mu, while blocks are handed over, so that none of a cluster
	// comes behind its deletion.
	importing sync.Mutex

	mu       sync.Mutex
	closed   bool
	clusters map[string]*cluster
	sealed   int64 // bytes of logs that are waiting to become blocks, or being made
}

// cluster is what one has brought since its log was sealed last.
type cluster struct {
	heard time.Time
	bytes int64
	spans map[int64]*span // by start, Unix milliseconds
}

// span is the open log of two hours.
type span struct {
	wal  *wlog.WL
	refs map[uint64][]ref // by the hash of the labels
	next chunks.HeadSeriesRef
}

type ref struct {
	lset labels.Labels
	ref  chunks.HeadSeriesRef
}

// Open takes over what an earlier process left.
func Open(o Options) (*Store, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	s := &Store{opts: o, log: o.Logger, wake: make(chan struct{}, 1), clusters: map[string]*cluster{}}
	for _, dir := range []string{s.path("open"), s.path("sealed")} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return nil, fmt.Errorf("open history: %w", err)
		}
	}
	// Blocks that were not taken over yet are made again of their log.
	if err := os.RemoveAll(s.path("blocks")); err != nil {
		return nil, fmt.Errorf("open history: %w", err)
	}
	entries, err := os.ReadDir(s.path("open"))
	if err != nil {
		return nil, fmt.Errorf("open history: %w", err)
	}
	for _, e := range entries {
		id, err := url.PathUnescape(e.Name())
		if err != nil || !e.IsDir() {
			continue
		}
		n, err := folderBytes(s.path("open", e.Name()))
		if err != nil {
			return nil, fmt.Errorf("open history: %w", err)
		}
		s.clusters[id] = &cluster{heard: o.Now(), bytes: n, spans: map[int64]*span{}}
	}
	if s.sealed, err = folderBytes(s.path("sealed")); err != nil {
		return nil, fmt.Errorf("open history: %w", err)
	}
	s.metrics = newMetrics(o.Registerer, s.bytes)
	return s, nil
}

func (s *Store) path(parts ...string) string {
	return filepath.Join(append([]string{s.opts.Dir}, parts...)...)
}

func folderBytes(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	})
	return n, err
}

func (s *Store) bytes() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytesLocked()
}

func (s *Store) bytesLocked() int64 {
	n := s.sealed
	for _, c := range s.clusters {
		n += c.bytes
	}
	return n
}

// ReadOnly is nil while samples can be stored, else it says why not.
func (s *Store) ReadOnly() error {
	if err := s.opts.Blocks.ReadOnly(); err != nil {
		return err
	}
	if n := s.bytes(); n >= s.opts.MaxBytes {
		return fmt.Errorf("%d bytes of history wait to become blocks, and %d may: %w", n, s.opts.MaxBytes, fault.ErrUnavailable)
	}
	return nil
}

// Querier reads the metrics store: what waits here cannot be read yet.
func (s *Store) Querier(mint, maxt int64) (storage.Querier, error) {
	return s.opts.Blocks.Querier(mint, maxt)
}

// Close closes the logs. What is in them becomes blocks after the next Open.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	var errs []error
	for _, c := range s.clusters {
		errs = append(errs, c.close())
	}
	return errors.Join(errs...)
}

func (c *cluster) close() error {
	var errs []error
	for start, sp := range c.spans {
		errs = append(errs, sp.wal.Close())
		delete(c.spans, start)
	}
	return errors.Join(errs...)
}

// Snapshot writes all that waits here into a new folder on the store's own file system, as second
// names of the logs. What becomes blocks meanwhile is in both, so whoever copies the metrics store,
// too, copies that afterwards.
func (s *Store) Snapshot(ctx context.Context, dir string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, c := range s.clusters { // what comes next is logged in files of its own
		if err := c.close(); err != nil {
			return fmt.Errorf("snapshot: close the log of cluster %s: %w", id, err)
		}
	}
	for _, part := range []string{"open", "sealed"} {
		err := filepath.WalkDir(s.path(part), func(path string, e os.DirEntry, err error) error {
			if err = errors.Join(err, ctx.Err()); err != nil {
				return err
			}
			rel, err := filepath.Rel(s.opts.Dir, path)
			if err != nil {
				return err
			}
			if e.IsDir() {
				return os.MkdirAll(filepath.Join(dir, rel), 0o750)
			}
			return os.Link(path, filepath.Join(dir, rel))
		})
		if err != nil {
			return fmt.Errorf("snapshot of %s: %w", s.path(part), err)
		}
	}
	return nil
}

// Run makes blocks until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var notBefore time.Time
	for {
		if now := s.opts.Now(); !now.Before(notBefore) {
			if err := s.advance(ctx, now); err != nil && ctx.Err() == nil {
				s.log.Error("make blocks of history", "err", err)
				s.metrics.failures.Inc()
				notBefore = now.Add(retryAfter)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-s.wake:
		}
	}
}

// advance seals what is due and makes blocks of what is sealed.
func (s *Store) advance(ctx context.Context, now time.Time) error {
	var errs []error
	s.mu.Lock()
	for _, id := range slices.Sorted(maps.Keys(s.clusters)) {
		if c := s.clusters[id]; now.Sub(c.heard) >= s.opts.Idle || c.bytes >= s.opts.ClusterBytes {
			errs = append(errs, s.sealLocked(id, now))
		}
	}
	s.mu.Unlock()
	entries, err := os.ReadDir(s.path("sealed"))
	errs = append(errs, err)
	for _, e := range entries {
		if ctx.Err() != nil {
			break
		}
		if err := s.build(ctx, e.Name()); err != nil {
			errs = append(errs, fmt.Errorf("history %s: %w", e.Name(), err))
		}
	}
	return errors.Join(errs...)
}

// sealLocked ends a cluster's log; what comes next begins another.
func (s *Store) sealLocked(id string, now time.Time) error {
	c := s.clusters[id]
	if err := c.close(); err != nil {
		return err
	}
	// The cluster's name is in front, the time makes it unique.
	to := fmt.Sprintf("%s.%d", url.PathEscape(id), now.UnixNano())
	if err := os.Rename(s.path("open", url.PathEscape(id)), s.path("sealed", to)); err != nil {
		return fmt.Errorf("seal history of cluster %s: %w", id, err)
	}
	s.sealed += c.bytes
	delete(s.clusters, id)
	return nil
}

// spanLocked gives the log of two hours, opened if need be.
func (s *Store) spanLocked(id string, c *cluster, start int64) (*span, error) {
	if sp := c.spans[start]; sp != nil {
		return sp, nil
	}
	wal, err := wlog.NewSize(s.log, nil, s.path("open", url.PathEscape(id), strconv.FormatInt(start, 10)), segmentBytes, compression.Snappy)
	if err != nil {
		return nil, err
	}
	sp := &span{wal: wal, refs: map[uint64][]ref{}}
	c.spans[start] = sp
	return sp, nil
}

// ref gives a series' number in the log, a new one with the record to write.
func (sp *span) ref(lset labels.Labels) (_ chunks.HeadSeriesRef, fresh bool) {
	h := lset.Hash()
	for _, r := range sp.refs[h] {
		if labels.Equal(r.lset, lset) {
			return r.ref, false
		}
	}
	sp.next++
	sp.refs[h] = append(sp.refs[h], ref{lset, sp.next})
	return sp.next, true
}

// write logs samples of one cluster.
func (s *Store) write(id string, samples []sample) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("history is closed: %w", fault.ErrUnavailable)
	}
	c := s.clusters[id]
	if c == nil {
		c = &cluster{spans: map[int64]*span{}}
		s.clusters[id] = c
	}
	c.heard = s.opts.Now()
	slices.SortStableFunc(samples, func(a, b sample) int { return cmp.Compare(a.start(), b.start()) })
	var enc record.Encoder
	for len(samples) > 0 {
		start := samples[0].start()
		n := 1
		for n < len(samples) && samples[n].start() == start {
			n++
		}
		sp, err := s.spanLocked(id, c, start)
		if err != nil {
			return err
		}
		var series []record.RefSeries
		points := make([]record.RefSample, n)
		for i, one := range samples[:n] {
			ref, fresh := sp.ref(one.lset)
			if fresh {
				series = append(series, record.RefSeries{Ref: ref, Labels: one.lset})
			}
			points[i] = record.RefSample{Ref: ref, T: one.at, V: one.v}
		}
		recs := [][]byte{enc.Samples(points, nil)}
		if len(series) > 0 {
			recs = append([][]byte{enc.Series(series, nil)}, recs...)
		}
		err = sp.wal.Log(recs...)
		if err == nil && s.opts.Sync {
			err = sp.wal.Sync()
		}
		if err != nil {
			// Which of the series are in the log is not known: they are told again.
			delete(c.spans, start)
			return errors.Join(err, sp.wal.Close())
		}
		for _, r := range recs {
			c.bytes += int64(len(r))
		}
		samples = samples[n:]
	}
	if c.bytes >= s.opts.ClusterBytes {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

// DeleteCluster removes what waits of a cluster: of that nothing becomes a block once it returns.
func (s *Store) DeleteCluster(_ context.Context, id string) error {
	s.importing.Lock()
	defer s.importing.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.clusters[id]; c != nil {
		if err := s.sealLocked(id, s.opts.Now()); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(s.path("sealed"))
	if err != nil {
		return fmt.Errorf("delete history of cluster %s: %w", id, err)
	}
	var errs []error
	for _, e := range entries {
		if of, _ := clusterOf(e.Name()); of == id {
			errs = append(errs, os.RemoveAll(s.path("sealed", e.Name())))
		}
	}
	left, err := folderBytes(s.path("sealed"))
	s.sealed = left
	return errors.Join(append(errs, err)...)
}
