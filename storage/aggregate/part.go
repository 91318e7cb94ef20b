package aggregate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/fileutil"
	"github.com/prometheus/prometheus/tsdb/index"
)

const (
	partFile = "part.json" // last: it makes the part whole
	making   = ".making"   // ends the name of a folder that is not whole yet
	format   = 1
)

// part is the buckets of one level and some days, in the form of a block.
type part struct {
	span
	origins map[ulid.ULID]bool
	dir     string
	block   *tsdb.Block
	exact   bool // guarded by the Store's mu
}

// partMeta is the file of a part.
type partMeta struct {
	Format  int         `json:"format"`
	Span    span        `json:"span"`
	Origins []ulid.ULID `json:"origins"`
}

func openPart(dir string) (*part, error) {
	raw, err := os.ReadFile(filepath.Join(dir, partFile))
	if err != nil {
		return nil, err
	}
	var m partMeta
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, err
	}
	if m.Format != format || filepath.Base(dir) != nameOf(m.Span) {
		return nil, fmt.Errorf("format %d of %v in %s", m.Format, m.Span, filepath.Base(dir))
	}
	p := &part{span: m.Span, origins: map[ulid.ULID]bool{}, dir: dir}
	for _, id := range m.Origins {
		p.origins[id] = true
	}
	if p.block, err = tsdb.OpenBlock(nil, dir, nil, nil); err != nil {
		return nil, err
	}
	return p, nil
}

// remove waits until nobody reads it.
func (p *part) remove() error {
	return errors.Join(p.block.Close(), os.RemoveAll(p.dir))
}

func nameOf(window span) string {
	text := func(millis int64) string { return time.UnixMilli(millis).UTC().Format("20060102T1504") }
	return text(window.From) + "-" + text(window.To)
}

// makeDay reads a day's samples and writes their buckets, for some levels; not
// made when samples came meanwhile.
func (s *Store) makeDay(ctx context.Context, window span, wanted []int) (made bool, err error) {
	began := s.opts.Now()
	from, ok, err := s.originsOf(window)
	if err != nil || !ok {
		return false, err
	}
	q, err := s.opts.Raw.Querier(window.From+1, window.To)
	if err != nil {
		return false, err
	}
	made, err = s.write(ctx, window, wanted, q, from, func(s storage.Series, it chunkenc.Iterator, n int, e *encoder) (chunkenc.Iterator, error) {
		it = s.Iterator(it)
		return it, fold(it, levels[n].resolution, e.put)
	}, func() (bool, error) { // while it was read, nothing may have come
		now, ok, err := s.originsOf(window)
		return ok && len(now) == len(from) && !slices.ContainsFunc(now, func(id ulid.ULID) bool { return !slices.Contains(from, id) }), err
	})
	if err != nil {
		return false, fmt.Errorf("day until %s: %w", time.UnixMilli(window.To).UTC().Format(time.RFC3339), err)
	}
	if made {
		s.metrics.made.Inc()
	}
	s.metrics.seconds.Add(s.opts.Now().Sub(began).Seconds())
	return made, nil
}

// originsOf says what the samples of a window come from; ok when all are in
// blocks, and none is to be deleted.
func (s *Store) originsOf(window span) (from []ulid.ULID, ok bool, err error) {
	blocks, since, err := s.look()
	if err != nil || since <= window.To || !settled(blocks, window) {
		return nil, false, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	// They are written first: a part that knows less than a later start believes
	// would be made again.
	if err := s.origins.write(filepath.Join(s.opts.Dir, originsFile)); err != nil {
		return nil, false, err
	}
	for id := range s.origins.of(window, blocks) {
		from = append(from, id)
	}
	slices.SortFunc(from, ulid.ULID.Compare)
	return from, len(from) > 0, nil
}

// merge makes one part of the days of a window that are all there.
func (s *Store) merge(ctx context.Context, blocks []tsdb.BlockMeta, border int64) (did bool, err error) {
	width := mergedDays * day.Milliseconds()
	for n := range levels {
		for _, window := range s.mergeable(n, blocks, width, border) {
			return true, s.mergeInto(ctx, n, window)
		}
	}
	return false, nil
}

// mergeable lists windows of which all days with samples have parts, several.
func (s *Store) mergeable(n int, blocks []tsdb.BlockMeta, width, border int64) (out []span) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	seen := map[span]bool{}
	for _, p := range s.parts[n] {
		at := p.From / width * width
		window := span{at, at + width}
		if seen[window] || window.To > border || p.To-p.From == width {
			continue
		}
		seen[window] = true
		parts, whole := 0, true
		for from := window.From; from < window.To; from += day.Milliseconds() {
			one := span{from, from + day.Milliseconds()}
			has := slices.ContainsFunc(s.parts[n], func(p *part) bool { return p.exact && p.overlaps(one) })
			if has {
				parts++
			}
			whole = whole && (has || len(s.origins.of(one, blocks)) == 0)
		}
		if whole && parts > 1 {
			out = append(out, window)
		}
	}
	return out
}

func (s *Store) mergeInto(ctx context.Context, n int, window span) error {
	began := s.opts.Now()
	var queriers []storage.Querier
	from := map[ulid.ULID]bool{}
	s.mu.RLock()
	for _, p := range s.parts[n] {
		if !p.overlaps(window) {
			continue
		}
		q, err := tsdb.NewBlockQuerier(p.block, p.From+1, p.To)
		if err != nil {
			s.mu.RUnlock()
			for _, q := range queriers {
				err = errors.Join(err, q.Close())
			}
			return err
		}
		queriers = append(queriers, q)
		for id := range p.origins {
			from[id] = true
		}
	}
	s.mu.RUnlock()
	all := make([]ulid.ULID, 0, len(from))
	for id := range from {
		all = append(all, id)
	}
	slices.SortFunc(all, ulid.ULID.Compare)
	q := storage.NewMergeQuerier(queriers, nil, storage.ChainedSeriesMerge)
	var h *histogram.FloatHistogram
	_, err := s.write(ctx, window, []int{n}, q, all, func(s storage.Series, it chunkenc.Iterator, _ int, e *encoder) (chunkenc.Iterator, error) {
		it = s.Iterator(it)
		for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
			var at int64
			at, h = it.AtFloatHistogram(h)
			b, err := decode(at, h)
			if err == nil {
				err = e.put(at, &b)
			}
			if err != nil {
				return it, err
			}
		}
		return it, it.Err()
	}, func() (bool, error) { return true, nil })
	if err != nil {
		return fmt.Errorf("merge %s until %s: %w", levels[n].name, time.UnixMilli(window.To).UTC().Format(time.RFC3339), err)
	}
	s.metrics.merged.Inc()
	s.metrics.seconds.Add(s.opts.Now().Sub(began).Seconds())
	return nil
}

// write writes a part of each wanted level of the series that q gives, and closes
// q. sure is asked before they count.
func (s *Store) write(ctx context.Context, window span, wanted []int, q storage.Querier, from []ulid.ULID,
	put func(s storage.Series, it chunkenc.Iterator, level int, e *encoder) (chunkenc.Iterator, error), sure func() (bool, error),
) (written bool, err error) {
	defer func() {
		if q != nil {
			err = errors.Join(err, q.Close())
		}
	}()
	all := labels.MustNewMatcher(labels.MatchRegexp, labels.MetricName, ".*")
	symbols := map[string]struct{}{}
	set := q.Select(ctx, false, &storage.SelectHints{Start: window.From + 1, End: window.To, Func: "series"}, all)
	for set.Next() {
		set.At().Labels().Range(func(l labels.Label) {
			symbols[l.Name], symbols[l.Value] = struct{}{}, struct{}{}
		})
	}
	if err := set.Err(); err != nil {
		return false, err
	}
	sorted := make([]string, 0, len(symbols))
	for text := range symbols {
		sorted = append(sorted, text)
	}
	slices.Sort(sorted)
	writers := make([]*partWriter, 0, len(wanted))
	defer func() {
		for _, w := range writers {
			err = errors.Join(err, w.abort())
		}
	}()
	for _, n := range wanted {
		w, err := newPartWriter(ctx, filepath.Join(s.opts.Dir, levels[n].name, nameOf(window)), sorted)
		if err != nil {
			return false, err
		}
		writers = append(writers, w)
	}
	var it chunkenc.Iterator
	set = q.Select(ctx, true, &storage.SelectHints{Start: window.From + 1, End: window.To}, all)
	for set.Next() {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		series := set.At()
		for i, n := range wanted {
			if it, err = put(series, it, n, &writers[i].enc); err != nil {
				return false, fmt.Errorf("%s: %w", series.Labels(), err)
			}
			if err := writers[i].add(series.Labels()); err != nil {
				return false, err
			}
		}
	}
	if err := set.Err(); err != nil {
		return false, err
	}
	err = q.Close()
	q = nil
	if err != nil {
		return false, err
	}
	if ok, err := sure(); err != nil || !ok {
		return false, err // it is made another time
	}
	for i, n := range wanted {
		p, err := writers[i].finish(window, from)
		if err != nil {
			return false, err
		}
		if err := s.install(n, p); err != nil {
			return false, err
		}
	}
	return true, nil
}

// install has a part be read, in place of those that it holds the days of.
func (s *Store) install(n int, p *part) error {
	var gone []*part
	s.mu.Lock()
	p.exact = true // as it was just made; the next look asks again
	s.checked = ""
	s.parts[n] = slices.DeleteFunc(s.parts[n], func(o *part) bool {
		if o.overlaps(p.span) {
			gone = append(gone, o)
			return true
		}
		return false
	})
	at, _ := slices.BinarySearchFunc(s.parts[n], p.From, func(o *part, from int64) int { return int(min(max(o.From-from, -1), 1)) })
	s.parts[n] = slices.Insert(s.parts[n], at, p)
	s.mu.Unlock()
	var errs []error
	for _, o := range gone {
		errs = append(errs, o.remove())
	}
	s.count()
	return errors.Join(errs...)
}

// partWriter writes the files of a part, of series in the order of their labels.
type partWriter struct {
	dir, tmp string
	index    *index.Writer
	chunks   *chunks.Writer
	enc      encoder
	stats    tsdb.BlockStats
	ref      storage.SeriesRef
	done     bool
}

func newPartWriter(ctx context.Context, dir string, symbols []string) (_ *partWriter, err error) {
	w := &partWriter{dir: dir, tmp: dir + making}
	if err := os.RemoveAll(w.tmp); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(w.tmp, 0o750); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.abort())
		}
	}()
	if w.chunks, err = chunks.NewWriter(filepath.Join(w.tmp, "chunks")); err != nil {
		return nil, err
	}
	if w.index, err = index.NewWriter(ctx, filepath.Join(w.tmp, "index")); err != nil {
		return nil, err
	}
	for _, text := range symbols {
		if err := w.index.AddSymbol(text); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// add writes what the encoder has as a series; nothing when it has nothing.
func (w *partWriter) add(lset labels.Labels) error {
	metas := w.enc.take()
	if len(metas) == 0 {
		return nil
	}
	if err := w.chunks.WriteChunks(metas...); err != nil {
		return err
	}
	if err := w.index.AddSeries(w.ref, lset, metas...); err != nil {
		return err
	}
	w.ref++
	w.stats.NumSeries++
	for _, m := range metas {
		w.stats.NumChunks++
		w.stats.NumSamples += uint64(m.Chunk.NumSamples())
	}
	return nil
}

func (w *partWriter) finish(window span, from []ulid.ULID) (*part, error) {
	w.done = true
	if err := errors.Join(w.index.Close(), w.chunks.Close()); err != nil { // both sync
		return nil, errors.Join(err, os.RemoveAll(w.tmp))
	}
	id := ulid.ULID{}
	if err := id.SetTime(uint64(max(window.From, 0))); err != nil {
		return nil, err
	}
	block, err := json.Marshal(tsdb.BlockMeta{
		ULID: id, MinTime: window.From + 1, MaxTime: window.To + 1, Version: 1, Stats: w.stats,
		Compaction: tsdb.BlockMetaCompaction{Level: 1, Sources: []ulid.ULID{id}},
	})
	if err != nil {
		return nil, err
	}
	own, err := json.Marshal(partMeta{Format: format, Span: window, Origins: from})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(writeSynced(filepath.Join(w.tmp, "meta.json"), block), writeSynced(filepath.Join(w.tmp, partFile), own), fileutil.Replace(w.tmp, w.dir)); err != nil {
		return nil, errors.Join(err, os.RemoveAll(w.tmp))
	}
	return openPart(w.dir)
}

// abort takes back what was not finished.
func (w *partWriter) abort() error {
	if w.done {
		return nil
	}
	w.done = true
	if w.index != nil {
		_ = w.index.Close() // it is incomplete, and says so
	}
	if w.chunks != nil {
		_ = w.chunks.Close()
	}
	return os.RemoveAll(w.tmp)
}

// writeSynced replaces a file as a whole.
func writeSynced(path string, raw []byte) error {
	f, err := os.OpenFile(filepath.Clean(path+".tmp"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return fileutil.Replace(path+".tmp", path)
}
