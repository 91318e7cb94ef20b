package metrics

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/fileutil"
	"github.com/prometheus/prometheus/tsdb/index"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// VerifyBlock reads a whole block and checks every checksum that it has: of
// each chunk, each series and each list of series. The TSDB does so only for
// what a query happens to read. An error that is not ctx's says what is damaged.
// pace is called with the bytes read so far, so that a caller can take its time;
// nil does not.
func VerifyBlock(ctx context.Context, dir string, pace func(context.Context, int) error) error {
	if pace == nil {
		pace = func(ctx context.Context, _ int) error { return ctx.Err() }
	}
	b, err := tsdb.OpenBlock(nil, dir, nil, nil)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	if err := b.Close(); err != nil {
		return err
	}
	sizes, err := verifyChunks(ctx, filepath.Join(dir, "chunks"), pace)
	if err != nil {
		return err
	}
	return verifyIndex(ctx, filepath.Join(dir, "index"), sizes, pace)
}

// verifyChunks gives the size of each segment.
func verifyChunks(ctx context.Context, dir string, pace func(context.Context, int) error) (sizes []int64, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries { // by name, which is by number
		n, err := verifySegment(ctx, filepath.Join(dir, e.Name()), pace)
		if err != nil {
			return nil, fmt.Errorf("chunks/%s at byte %d: %w", e.Name(), n, err)
		}
		sizes = append(sizes, n)
	}
	return sizes, nil
}

// verifySegment gives how far it came.
func verifySegment(ctx context.Context, path string, pace func(context.Context, int) error) (at int64, err error) {
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	r := bufio.NewReaderSize(f, 1<<20)
	var head [chunks.SegmentHeaderSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, err
	}
	at = chunks.SegmentHeaderSize
	var buf []byte
	paced := at
	for {
		if at-paced > 1<<20 {
			if err := pace(ctx, int(at-paced)); err != nil {
				return at, err
			}
			paced = at
		}
		n, err := binary.ReadUvarint(r)
		if errors.Is(err, io.EOF) {
			return at, nil
		}
		if err != nil {
			return at, err
		}
		if n > 1<<26 {
			return at, fmt.Errorf("a chunk of %d bytes", n)
		}
		size := int(n) + chunks.ChunkEncodingSize + crc32.Size
		if cap(buf) < size {
			buf = make([]byte, size)
		}
		buf = buf[:size]
		if _, err := io.ReadFull(r, buf); err != nil {
			return at, fmt.Errorf("cut off: %w", err)
		}
		data, sum := buf[:size-crc32.Size], buf[size-crc32.Size:]
		if crc32.Checksum(data, castagnoli) != binary.BigEndian.Uint32(sum) {
			return at, errors.New("checksum of a chunk is wrong")
		}
		at += int64(size) + int64(len(binary.AppendUvarint(nil, n)))
	}
}

func verifyIndex(ctx context.Context, path string, segments []int64, pace func(context.Context, int) error) (err error) {
	f, err := fileutil.OpenMmapFile(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	raw := f.Bytes()
	toc, err := index.NewTOCFromByteSlice(bytesOf(raw))
	if err != nil {
		return fmt.Errorf("index: table of contents: %w", err)
	}
	// The lists lie one behind the other, each with its length and checksum.
	end := toc.LabelIndicesTable
	if end == 0 {
		end = toc.PostingsTable
	}
	// Each begins at a multiple of 4.
	for at, paced := (toc.Postings+3)&^3, toc.Postings; at+4 <= end; {
		n := uint64(binary.BigEndian.Uint32(raw[at:]))
		if n > end || at+4+n+4 > end {
			return fmt.Errorf("index at byte %d: a list of %d bytes goes beyond its part", at, n)
		}
		if crc32.Checksum(raw[at+4:at+4+n], castagnoli) != binary.BigEndian.Uint32(raw[at+4+n:]) {
			return fmt.Errorf("index at byte %d: checksum of a list of series is wrong", at)
		}
		at += 4 + n + 4
		at = (at + 3) &^ 3
		if at-paced > 1<<20 {
			if err := pace(ctx, int(at-paced)); err != nil {
				return err
			}
			paced = at
		}
	}
	r, err := index.NewReader(bytesOf(raw), index.DecodePostingsRaw)
	if err != nil {
		return fmt.Errorf("index: %w", err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	name, value := index.AllPostingsKey()
	all, err := r.Postings(ctx, name, value)
	if err != nil {
		return fmt.Errorf("index: list of all series: %w", err)
	}
	var (
		builder labels.ScratchBuilder
		metas   []chunks.Meta
		seen    int
	)
	for all.Next() {
		if err := r.Series(all.At(), &builder, &metas); err != nil {
			return fmt.Errorf("index: series %d: %w", all.At(), err)
		}
		for _, m := range metas {
			segment, offset := chunks.BlockChunkRef(m.Ref).Unpack()
			if segment >= len(segments) || int64(offset) >= segments[segment] {
				return fmt.Errorf("index: series %d has a chunk at %d of segment %d, which does not go that far", all.At(), offset, segment+1)
			}
		}
		if seen++; seen%10_000 == 0 {
			if err := pace(ctx, 1<<20); err != nil {
				return err
			}
		}
	}
	return all.Err()
}

// bytesOf is an index in memory.
type bytesOf []byte

func (b bytesOf) Len() int                    { return len(b) }
func (b bytesOf) Range(start, end int) []byte { return b[start:end] }

// paced lets a reader take a bounded part of the disk.
func paced(bytesPerSecond int) func(context.Context, int) error {
	return func(ctx context.Context, n int) error {
		timer := time.NewTimer(time.Duration(float64(n) / float64(bytesPerSecond) * float64(time.Second)))
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return nil
		}
	}
}

// Verify reads all blocks that were not verified since the start, and takes
// damaged ones out: they go to the quarantine, and the rest is served. An error
// says only that it could not be done.
func (db *DB) Verify(ctx context.Context) error { return db.verify(ctx, nil) }

func (db *DB) verify(ctx context.Context, pace func(context.Context, int) error) error {
	db.verifying.Lock()
	defer db.verifying.Unlock()
	metas, err := db.BlockMetas()
	if err != nil {
		return err
	}
	for _, m := range metas {
		if _, done := db.verified[m.ULID]; done {
			continue
		}
		dir := filepath.Join(db.opts.Dir, m.ULID.String())
		err := VerifyBlock(ctx, dir, pace)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if _, gone := os.Stat(dir); errors.Is(gone, os.ErrNotExist) {
			continue // merged into another one, or past the retention
		}
		if err == nil {
			db.verified[m.ULID] = struct{}{}
			continue
		}
		if err := db.quarantineLive(ctx, m.ULID, err); err != nil {
			return err
		}
	}
	if metas, err = db.BlockMetas(); err != nil {
		return err
	}
	for id := range db.verified {
		if !slices.ContainsFunc(metas, func(m tsdb.BlockMeta) bool { return m.ULID == id }) {
			delete(db.verified, id)
		}
	}
	return nil
}
