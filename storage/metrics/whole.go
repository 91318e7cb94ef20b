package metrics

import (
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
)

// lateChunk is how many late samples of a series the head holds as they are before it
// makes a chunk of them: 40 bytes each, two of them pointers that every collection of
// garbage follows. At the TSDB's 32 that was a third of what lives while a site of 150,000
// series brings its backlog.
const lateChunk = 16

// Blocks do not take such chunks as they are, as the TSDB would: each begins with some 24
// bytes for what takes 1.3 on the average, has a place of its own in the index, and is
// handled by itself by whatever reads or merges the block.

// lateHead gives the late samples of each series as if they were in one chunk, which the
// TSDB encodes anew then, in chunks as long as its own.
type lateHead struct{ *tsdb.OOOCompactionHead }

func (h lateHead) Index() (tsdb.IndexReader, error) {
	r, err := h.OOOCompactionHead.Index()
	return lateIndex{r}, err
}

func (h lateHead) Chunks() (tsdb.ChunkReader, error) {
	r, err := h.OOOCompactionHead.Chunks()
	return lateChunks{r}, err
}

// joined are the chunks of a series, none of which overlaps with another. Nothing is
// asked of the chunk that it stands for.
type joined struct {
	chunkenc.Chunk
	parts []chunks.Meta
}

type lateIndex struct{ tsdb.IndexReader }

func (i lateIndex) Series(ref storage.SeriesRef, builder *labels.ScratchBuilder, metas *[]chunks.Meta) error {
	if err := i.IndexReader.Series(ref, builder, metas); err != nil || metas == nil || len(*metas) < 2 {
		return err
	}
	all := *metas
	one := chunks.Meta{MinTime: all[0].MinTime, MaxTime: all[len(all)-1].MaxTime, Chunk: &joined{parts: append([]chunks.Meta(nil), all...)}}
	*metas = append(all[:0], one)
	return nil
}

type lateChunks struct{ tsdb.ChunkReader }

func (c lateChunks) ChunkOrIterable(m chunks.Meta) (chunkenc.Chunk, chunkenc.Iterable, error) {
	of, is := m.Chunk.(*joined)
	if !is {
		return c.ChunkReader.ChunkOrIterable(m)
	}
	all := make(inTurn, len(of.parts))
	for n, part := range of.parts {
		chunk, several, err := c.ChunkReader.ChunkOrIterable(part)
		if err != nil {
			return nil, nil, err
		}
		if all[n] = several; several == nil {
			all[n] = chunk
		}
	}
	return nil, all, nil
}

// inTurn are samples that follow one another.
type inTurn []chunkenc.Iterable

func (all inTurn) Iterator(it chunkenc.Iterator) chunkenc.Iterator {
	return storage.ChainSampleIteratorFromIterables(it, all)
}
