package history

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/wlog"

	"github.com/crowsnest-dev/crowsnest/storage/rollup"
)

// perCommit bounds the memory of a transaction while a block is made.
const perCommit = 50_000

// clusterOf reads the name of a sealed log.
func clusterOf(name string) (id string, ok bool) {
	escaped, _, ok := cutLast(name, ".")
	if !ok {
		return "", false
	}
	id, err := url.PathUnescape(escaped)
	return id, err == nil
}

func cutLast(s, sep string) (before, after string, ok bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// build makes blocks of a sealed log, hands them over and removes it. It may be
// repeated: the store takes two copies of a sample for one.
func (s *Store) build(ctx context.Context, name string) error {
	dir := s.path("sealed", name)
	id, ok := clusterOf(name)
	if !ok {
		return nil // not ours
	}
	began := s.opts.Now()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	blocks := s.path("blocks", name)
	if err := errors.Join(os.RemoveAll(blocks), os.MkdirAll(blocks, 0o750)); err != nil {
		return err
	}
	var spans []int64
	for _, e := range entries {
		if start, err := strconv.ParseInt(e.Name(), 10, 64); err == nil && e.IsDir() {
			spans = append(spans, start)
		}
	}
	slices.Sort(spans)
	deleted := func() bool { // the cluster
		_, err := os.Stat(dir)
		return errors.Is(err, os.ErrNotExist)
	}
	for _, start := range spans {
		if err := s.buildSpan(ctx, id, filepath.Join(dir, strconv.FormatInt(start, 10)), blocks, start); err != nil {
			if deleted() {
				return os.RemoveAll(blocks)
			}
			return fmt.Errorf("two hours from %s: %w", time.UnixMilli(start).UTC().Format(time.RFC3339), err)
		}
	}
	s.importing.Lock()
	defer s.importing.Unlock()
	if deleted() {
		return os.RemoveAll(blocks)
	}
	if err := s.opts.Blocks.ImportBlocks(ctx, blocks); err != nil {
		return err
	}
	n, err := s.removeSealed(dir)
	if err := errors.Join(err, os.RemoveAll(blocks)); err != nil {
		return err
	}
	s.log.Info("history is in blocks", "cluster", id, "blocks", len(spans), "log_bytes", n, "took_seconds", s.opts.Now().Sub(began).Seconds())
	return nil
}

// removeSealed removes a log that is in blocks; not while a snapshot of it is taken, which would have a part.
func (s *Store) removeSealed(dir string) (bytes int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := folderBytes(dir)
	if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
		return 0, err
	}
	s.sealed = max(0, s.sealed-n)
	return n, nil
}

// buildSpan makes the blocks of two hours: one, and another of what came again
// behind its time.
func (s *Store) buildSpan(ctx context.Context, id, dir, blocks string, start int64) (err error) {
	w, err := s.newWriter(blocks)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	past, err := rollup.NewPast(id, s.opts.Metrics, blockRange)
	if err != nil {
		return err
	}
	var late []lateSample
	series, known := map[chunks.HeadSeriesRef]*logged{}, knownSeries{of: map[uint64][]*logged{}, past: past}
	err = s.read(ctx, dir, func(fresh []record.RefSeries) {
		for _, r := range fresh {
			series[r.Ref] = known.get(r.Labels) // a process that began anew told its series again
		}
	}, func(points []record.RefSample) error {
		for _, p := range points {
			one := series[p.Ref]
			if one == nil {
				s.metrics.dropped.WithLabelValues(dropDamaged).Inc()
				continue
			}
			switch err := w.append(ctx, one, p.T, p.V); {
			case err == nil:
				if one.sum != nil {
					one.sum(p.T, p.V)
				}
			case errors.Is(err, storage.ErrOutOfOrderSample), errors.Is(err, storage.ErrTooOldSample), errors.Is(err, storage.ErrOutOfBounds):
				late = append(late, lateSample{one, p.T, p.V})
			case errors.Is(err, storage.ErrDuplicateSampleForTimestamp):
				s.metrics.dropped.WithLabelValues(dropTwice).Inc()
			default:
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.writeLate(ctx, blocks, late); err != nil {
		return err
	}
	if err := s.writeSums(ctx, id, start, w, past, known); err != nil {
		return err
	}
	return w.flush(ctx)
}

// logged is a series of a log.
type logged struct {
	lset labels.Labels
	ref  storage.SeriesRef
	sum  func(at int64, v float64) // nil when no rollup sums it
}

// knownSeries has each series of a block once.
type knownSeries struct {
	of   map[uint64][]*logged
	past *rollup.Past
}

func (k knownSeries) get(lset labels.Labels) *logged {
	h := lset.Hash()
	for _, l := range k.of[h] {
		if labels.Equal(l.lset, lset) {
			return l
		}
	}
	l := &logged{lset: lset, sum: k.past.Series(lset)}
	k.of[h] = append(k.of[h], l)
	return l
}

type lateSample struct {
	of *logged
	at int64
	v  float64
}

// writeLate makes a block of samples that came behind others of their series.
// The store merges it with the other one: what is in both is there once, and sums
// count a time of a series once.
func (s *Store) writeLate(ctx context.Context, blocks string, late []lateSample) (err error) {
	if len(late) == 0 {
		return nil
	}
	slices.SortStableFunc(late, func(a, b lateSample) int {
		return cmp.Or(labels.Compare(a.of.lset, b.of.lset), cmp.Compare(a.at, b.at))
	})
	w, err := s.newWriter(blocks)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	var one *logged
	for i, l := range late {
		if i == 0 || l.of != late[i-1].of {
			one = &logged{lset: l.of.lset} // its reference is of this block
		}
		switch err := w.append(ctx, one, l.at, l.v); {
		case err == nil:
			if l.of.sum != nil {
				l.of.sum(l.at, l.v)
			}
		case errors.Is(err, storage.ErrDuplicateSampleForTimestamp), errors.Is(err, storage.ErrOutOfOrderSample):
			s.metrics.dropped.WithLabelValues(dropTwice).Inc()
		default:
			return err
		}
	}
	return w.flush(ctx)
}

// writeSums adds the sums of those intervals that have none in the store: a
// rollup is written once.
func (s *Store) writeSums(ctx context.Context, id string, start int64, w *writer, past *rollup.Past, known knownSeries) (err error) {
	q, err := s.opts.Blocks.Querier(start, start+blockRange.Milliseconds()-1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	written, err := times(ctx, q, id, rollup.CoverageRatio)
	if err != nil {
		return err
	}
	if err := addStored(ctx, q, id, written, past, known); err != nil {
		return err
	}
	var nodes []string
	if s.opts.Expected != nil {
		nodes = s.opts.Expected.Nodes(id)
	}
	n := 0
	err = past.Each(nodes, func(at int64) bool { _, ok := written[at]; return !ok }, func(lset labels.Labels, at int64, v float64) error {
		n++
		return w.append(ctx, &logged{lset: lset}, at, v)
	})
	s.metrics.sums.Add(float64(n))
	return err
}

// times gives when the store has samples of a metric of the cluster.
func times(ctx context.Context, q storage.Querier, id, metric string) (map[int64]struct{}, error) {
	out := map[int64]struct{}{}
	err := eachStored(ctx, q, id, metric, func(labels.Labels) func(int64, float64) {
		return func(at int64, _ float64) { out[at] = struct{}{} }
	})
	return out, err
}

// addStored adds to the sums what the store has of intervals that have none:
// those of which some senders came just in time for the ordinary way.
func addStored(ctx context.Context, q storage.Querier, id string, written map[int64]struct{}, past *rollup.Past, known knownSeries) error {
	partly, err := times(ctx, q, id, rollup.SenderInterval)
	if err != nil {
		return err
	}
	maps.DeleteFunc(partly, func(at int64, _ struct{}) bool { _, ok := written[at]; return ok })
	if len(partly) == 0 {
		return nil
	}
	for _, metric := range past.Inputs() {
		err := eachStored(ctx, q, id, metric, func(lset labels.Labels) func(int64, float64) {
			sum := known.get(lset).sum
			if sum == nil {
				return nil
			}
			return func(at int64, v float64) {
				if _, ok := partly[at]; ok && !value.IsStaleNaN(v) {
					sum(at, v)
				}
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// eachStored calls what visit gives for every sample of a metric of the cluster.
func eachStored(ctx context.Context, q storage.Querier, id, metric string, visit func(lset labels.Labels) func(at int64, v float64)) error {
	set := q.Select(ctx, false, nil, labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, metric), labels.MustNewMatcher(labels.MatchEqual, clusterLabel, id))
	for set.Next() {
		see := visit(set.At().Labels())
		if see == nil {
			continue
		}
		it := set.At().Iterator(nil)
		for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
			if typ == chunkenc.ValFloat {
				see(it.At())
			}
		}
		if it.Err() != nil {
			return it.Err()
		}
	}
	return set.Err()
}

// read gives what is in a log. Where it is damaged, as by a kill in the middle of
// a write, the rest of that segment was never acknowledged, and is left out.
func (s *Store) read(ctx context.Context, dir string, series func([]record.RefSeries), points func([]record.RefSample) error) error {
	first, last, err := wlog.Segments(dir)
	if err != nil || first < 0 {
		return err
	}
	dec := record.NewDecoder(nil, s.log)
	for n := first; n <= last; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		segment, err := wlog.OpenReadSegment(wlog.SegmentName(dir, n))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		err = readSegment(segment, &dec, series, points)
		var torn *wlog.CorruptionErr
		if errors.As(err, &torn) {
			s.metrics.dropped.WithLabelValues(dropDamaged).Inc()
			s.log.Warn("history is damaged, the rest of the segment is left out", "err", err)
			err = nil
		}
		if err = errors.Join(err, segment.Close()); err != nil {
			return err
		}
	}
	return nil
}

func readSegment(segment *wlog.Segment, dec *record.Decoder, series func([]record.RefSeries), points func([]record.RefSample) error) error {
	r := wlog.NewReader(io.Reader(segment))
	for r.Next() {
		rec := r.Record()
		switch dec.Type(rec) {
		case record.Series:
			fresh, err := dec.Series(rec, nil)
			if err != nil {
				return &wlog.CorruptionErr{Err: err, Dir: segment.Dir(), Segment: segment.Index(), Offset: r.Offset()}
			}
			series(fresh)
		case record.Samples, record.SamplesV2:
			some, err := dec.Samples(rec, nil)
			if err != nil {
				return &wlog.CorruptionErr{Err: err, Dir: segment.Dir(), Segment: segment.Index(), Offset: r.Offset()}
			}
			if err := points(some); err != nil {
				return err
			}
		}
	}
	return r.Err()
}

// writer makes one block. It is what tsdb.BlockWriter is, which keeps its chunks
// in the system's temporary folder: an image that holds nothing else has none.
type writer struct {
	s       *Store
	blocks  string
	dir     string // of the chunks
	head    *tsdb.Head
	app     storage.Appender
	pending int
}

func (s *Store) newWriter(blocks string) (*writer, error) {
	dir, err := os.MkdirTemp(s.path("blocks"), "head-")
	if err != nil {
		return nil, err
	}
	opts := tsdb.DefaultHeadOptions()
	// Twice the block: no sample of it is out of the head's bounds then.
	opts.ChunkRange, opts.ChunkDirRoot = 2*blockRange.Milliseconds(), dir
	head, err := tsdb.NewHead(nil, s.log, nil, nil, opts, tsdb.NewHeadStats())
	if err == nil {
		err = head.Init(math.MinInt64)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &writer{s: s, blocks: blocks, dir: dir, head: head}, nil
}

func (w *writer) append(ctx context.Context, one *logged, at int64, v float64) error {
	if w.app == nil {
		w.app, w.pending = w.head.Appender(ctx), 0
	}
	ref, err := w.app.Append(one.ref, one.lset, at, v)
	if err != nil {
		return err
	}
	one.ref = ref
	if w.pending++; w.pending < perCommit {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	app := w.app
	w.app = nil
	return app.Commit()
}

func (w *writer) flush(ctx context.Context) error {
	if w.app != nil {
		app := w.app
		w.app = nil
		if err := app.Commit(); err != nil {
			return err
		}
	}
	if w.head.NumSeries() == 0 {
		return nil
	}
	compactor, err := tsdb.NewLeveledCompactor(ctx, nil, w.s.log, []int64{blockRange.Milliseconds()}, chunkenc.NewPool(), nil)
	if err != nil {
		return err
	}
	// A block's end is not in it.
	ids, err := compactor.Write(w.blocks, w.head, w.head.MinTime(), w.head.MaxTime()+1, nil)
	w.s.metrics.blocks.Add(float64(len(ids)))
	return err
}

func (w *writer) close() error {
	var err error
	if w.app != nil {
		err = w.app.Rollback()
	}
	return errors.Join(err, w.head.Close(), os.RemoveAll(w.dir))
}
