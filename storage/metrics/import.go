package metrics

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/fileutil"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// tmpSuffix marks a folder that is not a block yet; the TSDB removes such at
// its start.
const tmpSuffix = ".tmp-for-creation"

// ImportBlocks takes over every finished block in dir, one folder per block as
// tsdb.BlockWriter leaves them, and makes them readable before it returns. Their
// series need all labels, cluster included. Blocks may overlap each other and
// what the store has; the store merges them later. They are moved: what was
// taken is gone from dir, so that a call that was interrupted can be repeated.
//
// What a block holds of the head's own time (the newest two to three hours) is
// appended instead, since a block there would make the next start believe that
// the head's log is already on disk. Samples older than the retention go with
// the next clean-up.
//
// A folder that is no whole block is fault.ErrInvalid, and nothing is taken. A
// store that is read-only answers fault.ErrUnavailable.
func (db *DB) ImportBlocks(ctx context.Context, dir string) error {
	db.importing.Lock()
	defer db.importing.Unlock()
	if err := db.ReadOnly(); err != nil {
		return err
	}
	blocks, err := BlocksIn(dir)
	if err != nil {
		return fmt.Errorf("import blocks of %s: %w", dir, err)
	}
	for _, b := range blocks {
		path := filepath.Join(dir, b.ULID.String())
		if err := db.importBlock(ctx, path); err != nil {
			return fmt.Errorf("import block %s: %w", path, err)
		}
	}
	if len(blocks) == 0 {
		return nil
	}
	// Of the TSDB's public methods this one always reads the folder anew, after
	// it flushed the out-of-order head.
	if err := db.compactLate(ctx); err != nil {
		return fmt.Errorf("import blocks of %s: load: %w", dir, err)
	}
	return nil
}

// BlocksIn opens every block of a folder once, so that a broken one is found
// before anything is done with the others, and describes them by time. Each lies
// in a folder of its id.
func BlocksIn(dir string) ([]tsdb.BlockMeta, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []tsdb.BlockMeta
	var errs []error
	for _, e := range entries {
		if _, err := ulid.ParseStrict(e.Name()); err != nil || !e.IsDir() {
			continue
		}
		b, err := tsdb.OpenBlock(nil, filepath.Join(dir, e.Name()), nil, nil)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s is no whole block: %w: %w", e.Name(), fault.ErrInvalid, err))
			continue
		}
		out = append(out, b.Meta())
		if b.Meta().ULID.String() != e.Name() {
			errs = append(errs, fmt.Errorf("%s is the folder of block %s: %w", e.Name(), b.Meta().ULID, fault.ErrInvalid))
		}
		if err := b.Close(); err != nil {
			errs = append(errs, err)
		}
	}
	slices.SortFunc(out, func(a, b tsdb.BlockMeta) int { return cmp.Compare(a.MinTime, b.MinTime) })
	return out, errors.Join(errs...)
}

// headStart is the first time that is not left to blocks: the start of the
// block that the head will become.
func (db *DB) headStart() int64 {
	at := db.tsdb.Head().MinTime()
	if at == math.MaxInt64 { // nothing was appended yet
		at = db.opts.Now().UnixMilli()
	}
	return at - at%db.opts.BlockRange.Milliseconds()
}

func (db *DB) importBlock(ctx context.Context, path string) error {
	block, err := tsdb.OpenBlock(db.opts.Logger, path, nil, nil)
	if err != nil {
		return err
	}
	meta, border := block.Meta(), db.headStart()
	if meta.MaxTime <= border {
		if err := block.Close(); err != nil {
			return err
		}
		if err := markLate(path, meta); err != nil {
			return err
		}
		if err := moveBlock(path, filepath.Join(db.opts.Dir, meta.ULID.String())); err != nil {
			return err
		}
		db.metrics.importedBlocks.Inc()
		return nil
	}
	err = db.splitBlock(ctx, block, border)
	if err = errors.Join(err, block.Close()); err != nil {
		return err
	}
	return os.RemoveAll(path)
}

// markLate has a block count as one of out-of-order samples: the end of the
// newest other one is where a start begins to look into the log, and an imported
// block says nothing about what is there.
func markLate(path string, meta tsdb.BlockMeta) error {
	if meta.Compaction.FromOutOfOrder() {
		return nil
	}
	meta.Compaction.SetOutOfOrder()
	raw, err := json.MarshalIndent(meta, "", "\t")
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(path, "meta.json"), raw)
}

// splitBlock writes a block of what lies before border and appends the rest.
func (db *DB) splitBlock(ctx context.Context, block *tsdb.Block, border int64) error {
	meta := block.Meta()
	if err := db.appendBlock(ctx, block, max(border, meta.MinTime), meta.MaxTime-1); err != nil {
		return err
	}
	if meta.MinTime >= border {
		return nil
	}
	compactor, err := tsdb.NewLeveledCompactor(ctx, nil, db.opts.Logger, []int64{db.opts.BlockRange.Milliseconds()}, chunkenc.NewPool(), nil)
	if err != nil {
		return err
	}
	mark := &tsdb.BlockMeta{}
	mark.Compaction.SetOutOfOrder()
	if _, err := compactor.Write(db.opts.Dir, block, meta.MinTime, border, mark); err != nil {
		return err
	}
	db.metrics.importedBlocks.Inc()
	return nil
}

// appendBlock appends the samples of a block between two times, both included.
// It goes by slices of time over all series, so that most samples arrive in
// order.
func (db *DB) appendBlock(ctx context.Context, block *tsdb.Block, mint, maxt int64) error {
	const slice = int64(30 * time.Minute / time.Millisecond)
	for from := mint; from <= maxt; from += slice {
		if err := db.appendSlice(ctx, block, from, min(from+slice-1, maxt)); err != nil {
			return err
		}
	}
	return nil
}

func (db *DB) appendSlice(ctx context.Context, block *tsdb.Block, mint, maxt int64) (err error) {
	q, err := tsdb.NewBlockQuerier(block, mint, maxt)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	const batch = 50_000 // samples, which bounds the memory of a commit
	app, inBatch := db.Appender(ctx), 0
	open := true
	defer func() {
		if open { // left by an error
			err = errors.Join(err, app.Rollback())
		}
	}()
	set := q.Select(ctx, false, nil, labels.MustNewMatcher(labels.MatchRegexp, labels.MetricName, ".*"))
	var it chunkenc.Iterator
	for set.Next() {
		series := set.At()
		it = series.Iterator(it)
		var ref storage.SeriesRef
		lset := series.Labels()
		for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
			var got storage.SeriesRef
			var appendErr error
			switch typ {
			case chunkenc.ValFloat:
				t, v := it.At()
				got, appendErr = app.Append(ref, lset, t, v)
			case chunkenc.ValHistogram:
				t, h := it.AtHistogram(nil)
				got, appendErr = app.AppendHistogram(ref, lset, t, h, nil)
			case chunkenc.ValFloatHistogram:
				t, h := it.AtFloatHistogram(nil)
				got, appendErr = app.AppendHistogram(ref, lset, t, nil, h)
			}
			switch {
			case appendErr == nil:
				ref = got
				db.metrics.importedSamples.Inc()
			case errors.Is(appendErr, storage.ErrDuplicateSampleForTimestamp):
				// What the store has already stays.
			default:
				return fmt.Errorf("append %s: %w", lset, appendErr)
			}
			inBatch++
		}
		if it.Err() != nil {
			return it.Err()
		}
		if inBatch >= batch {
			if err := ctx.Err(); err != nil {
				return err
			}
			open = false // a commit that fails has rolled back
			if err := app.Commit(); err != nil {
				return err
			}
			app, inBatch, open = db.Appender(ctx), 0, true
		}
	}
	if err := set.Err(); err != nil {
		return err
	}
	open = false
	return app.Commit()
}

// moveBlock renames a block into the store, and copies it when it lies on
// another file system. A block that is there already came by an earlier call.
func moveBlock(from, to string) error {
	if _, err := os.Stat(to); err == nil {
		return os.RemoveAll(from)
	}
	if fileutil.Rename(from, to) == nil { // syncs the folder, too
		return nil
	}
	tmp := to + tmpSuffix
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := copyTree(from, tmp); err != nil {
		return errors.Join(err, os.RemoveAll(tmp))
	}
	if err := fileutil.Replace(tmp, to); err != nil {
		return err
	}
	return os.RemoveAll(from)
}

// copyTree copies a folder of files and folders and syncs each file.
func copyTree(from, to string) error { return mirror(from, to, copyFile) }

func copyFile(from, to string) (err error) {
	in, err := os.Open(filepath.Clean(from))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := os.Create(filepath.Clean(to))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Sync()
}
