package remote

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/crowsnest-dev/crowsnest/storage/metrics"
)

// samplesPerImport bounds one request of an import.
const samplesPerImport = 50_000

// ImportBlocks sends the samples of all blocks in a folder and removes each block
// that was sent. The oldest go first, since engines take a series best in order.
// What the engine refuses for good is counted and logged, as of any write.
func (s *Store) ImportBlocks(ctx context.Context, dir string) error {
	return s.SendBlocks(ctx, dir, func(b Block) error { return metrics.RemoveBlock(dir, b.ID) })
}

// Block is one that was sent.
type Block struct {
	ID               ulid.ULID
	MinTime, MaxTime int64 // Unix milliseconds; the end is not in it
	Samples          uint64
	Refused          Refused
	Number, OfTotal  int // 1 for the first
}

// Refused are requests of which the engine refused samples for good: all, or some, which it does
// not tell.
type Refused struct {
	Requests, OfTotal int
	Why               error // of the first
}

// SendBlocks sends the samples of all blocks in a folder, the oldest first, and
// calls done after each. A block that was cut short is sent whole the next time;
// an engine takes again what it has.
func (s *Store) SendBlocks(ctx context.Context, dir string, done func(Block) error) error {
	metas, err := metrics.BlocksIn(dir)
	if err != nil {
		return fmt.Errorf("send blocks in %s: %w", dir, err)
	}
	for i, m := range metas {
		n, refused, err := s.sendBlock(ctx, filepath.Join(dir, m.ULID.String()))
		if err != nil {
			return fmt.Errorf("send block %s: %w", m.ULID, err)
		}
		if err := done(Block{m.ULID, m.MinTime, m.MaxTime, n, refused, i + 1, len(metas)}); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) sendBlock(ctx context.Context, path string) (n uint64, refused Refused, err error) {
	b, err := tsdb.OpenBlock(slog.New(slog.DiscardHandler), path, nil, nil)
	if err != nil {
		return 0, refused, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	q, err := tsdb.NewBlockQuerier(b, math.MinInt64, math.MaxInt64)
	if err != nil {
		return 0, refused, err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	set := q.Select(ctx, false, nil, labels.MustNewMatcher(labels.MatchRegexp, labels.MetricName, ".+"))
	out := batch{s: s, ctx: ctx, past: true}
	var it chunkenc.Iterator
	for set.Next() {
		var added uint64
		if it, added, err = out.addSeries(set.At(), it); err != nil {
			return n, out.refused, err
		}
		n += added
	}
	if err := set.Err(); err != nil {
		return n, out.refused, err
	}
	err = out.Commit()
	return n, out.refused, err
}

// addSeries adds all samples of one series, and sends when there are enough.
func (b *batch) addSeries(from storage.Series, it chunkenc.Iterator) (_ chunkenc.Iterator, n uint64, err error) {
	lset := from.Labels()
	it = from.Iterator(it)
	for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
		switch typ {
		case chunkenc.ValFloat:
			t, v := it.At()
			b.float(lset, t, v)
		case chunkenc.ValHistogram:
			t, h := it.AtHistogram(nil)
			b.histogram(lset, t, h, nil)
		case chunkenc.ValFloatHistogram:
			t, fh := it.AtFloatHistogram(nil)
			b.histogram(lset, t, nil, fh)
		}
		if n++; b.n >= samplesPerImport {
			if err := b.Commit(); err != nil {
				return it, n, err
			}
		}
	}
	return it, n, it.Err()
}
