package metrics

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// MergeOverlapping writes the blocks of a folder that overlap in time anew as one, so that none
// overlaps another: those of samples that came late and of series that ended do, until the store has
// merged them. A call that was interrupted can be repeated.
func MergeOverlapping(ctx context.Context, dir string) error {
	blocks, err := BlocksIn(dir)
	if err != nil {
		return fmt.Errorf("merge blocks of %s: %w", dir, err)
	}
	for len(blocks) > 0 {
		n, end := 1, blocks[0].MaxTime
		for ; n < len(blocks) && blocks[n].MinTime < end; n++ {
			end = max(end, blocks[n].MaxTime)
		}
		if n > 1 {
			if err := mergeBlocks(ctx, dir, blocks[:n]); err != nil {
				return fmt.Errorf("merge blocks of %s: %w", dir, err)
			}
		}
		blocks = blocks[n:]
	}
	return nil
}

func mergeBlocks(ctx context.Context, dir string, blocks []tsdb.BlockMeta) error {
	compactor, err := tsdb.NewLeveledCompactor(ctx, nil, slog.New(slog.DiscardHandler), []int64{1}, chunkenc.NewPool(), nil)
	if err != nil {
		return err
	}
	paths := make([]string, 0, len(blocks))
	for _, b := range blocks {
		paths = append(paths, filepath.Join(dir, b.ULID.String()))
	}
	if _, err := compactor.Compact(dir, paths, nil); err != nil {
		return err
	}
	for _, b := range blocks {
		if err := RemoveBlock(dir, b.ULID); err != nil {
			return err
		}
	}
	return nil
}

// RemoveBlock removes a block of a folder. A kill leaves none that lacks a part: BlocksIn would refuse
// the whole folder.
func RemoveBlock(dir string, id ulid.ULID) error {
	path := filepath.Join(dir, id.String())
	if err := os.Rename(path, path+tmpSuffix); err != nil {
		return err
	}
	return os.RemoveAll(path + tmpSuffix)
}
