package metrics

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/fileutil"
	"github.com/prometheus/prometheus/tsdb/wlog"
)

// What is late is on the disk twice: in the out-of-order log, which is believed, and,
// where it filled chunks, in the head's chunk files. A start reads both, and has what
// both have twice until blocks are written, for which it is merged sample by sample:
// after a kill in the middle of a site's backlog that was a tenth of all memory.
const (
	headChunksDir = "chunks_head" // the TSDB's
	inOrderDir    = "chunks_head.opening"
	snapshots     = "chunk_snapshot.*" // the TSDB's
	// worthForgetting is the size of the log from which on chunk files are looked at:
	// what a small one has takes less than reading what a large store has in order.
	worthForgetting = 16 << 20
)

// forgetLateChunks writes the head's chunk files anew without what is late, all of which
// is in blocks or in the log, if that is whole. What is missing of the files is read from the log of all
// samples, so a kill may come at any time.
func forgetLateChunks(dir string, least int64) (err error) {
	from, to := filepath.Join(dir, headChunksDir), filepath.Join(dir, inOrderDir)
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	size, err := logBytes(filepath.Join(dir, wlog.WblDirName))
	if err != nil || size < max(least, 1) {
		return err
	}
	if _, err := os.Stat(from); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	files, err := openHeadChunks(from)
	if err != nil {
		return nil // the TSDB says what is wrong with them
	}
	late, inOrder := 0, 0
	whole, err := eachHeadChunk(files, func(_ headChunk, isLate bool) error {
		if isLate {
			late++
		} else {
			inOrder++
		}
		return nil
	})
	if err == nil && late > 0 && (whole || !hasSnapshot(dir)) {
		if inOrder > 0 {
			err = copyInOrder(files, to)
		} else {
			err = os.Mkdir(to, 0o750)
		}
	} else {
		late = 0
	}
	if err = errors.Join(err, files.Close()); err != nil {
		return errors.Join(err, os.RemoveAll(to))
	}
	if late == 0 {
		return nil
	}
	return fileutil.Replace(to, from)
}

// hasSnapshot says whether the TSDB may read a snapshot of the head. It does not where
// chunk files are damaged, so these must stay as they are then.
func hasSnapshot(dir string) bool {
	found, err := filepath.Glob(filepath.Join(dir, snapshots))
	return err != nil || len(found) > 0
}

func openHeadChunks(dir string) (*chunks.ChunkDiskMapper, error) {
	return chunks.NewChunkDiskMapper(nil, dir, chunkenc.NewPool(), chunks.DefaultWriteBufferSize, chunks.DefaultWriteQueueSize)
}

// headChunk is one of a series.
type headChunk struct {
	series     chunks.HeadSeriesRef
	ref        chunks.ChunkDiskMapperRef
	mint, maxt int64
}

// eachHeadChunk visits the chunks of files up to the first that is damaged, and says
// whether none is. The end of the last file is missing after most kills; what was in it
// and in order is in the log.
func eachHeadChunk(files *chunks.ChunkDiskMapper, visit func(c headChunk, late bool) error) (whole bool, err error) {
	err = files.IterateAllChunks(func(series chunks.HeadSeriesRef, ref chunks.ChunkDiskMapperRef, mint, maxt int64, _ uint16, _ chunkenc.Encoding, late bool) error {
		return visit(headChunk{series, ref, mint, maxt}, late)
	})
	var damage *chunks.CorruptionErr
	if errors.As(err, &damage) {
		return false, nil
	}
	return err == nil, err
}

// copyInOrder writes what is in order into a new folder.
func copyInOrder(files *chunks.ChunkDiskMapper, dir string) (err error) {
	out, err := openHeadChunks(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if _, err := eachHeadChunk(out, nil); err != nil { // it writes none before it was asked for those it has
		return err
	}
	_, err = eachHeadChunk(files, func(c headChunk, late bool) error {
		if late {
			return nil
		}
		chunk, err := files.Chunk(c.ref)
		if err != nil {
			return err
		}
		var failed error
		out.WriteChunk(c.series, c.mint, c.maxt, chunk, false, func(err error) { failed = err })
		return failed
	})
	return err
}
