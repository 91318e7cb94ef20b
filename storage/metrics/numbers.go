package metrics

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/tombstones"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/prometheus/prometheus/util/compression"
)

// The TSDB numbers series one after another, and a start goes on after the highest
// number in the log. But the log forgets series that are over (whenever it is
// shortened), and may lose some by damage, while files of the head's chunks and the
// out-of-order log still have samples under their numbers. A new series would get such
// a number, and the start after that would take these samples for its own. So each
// start puts the highest number that anything has into the log, as a deletion of
// nothing: the TSDB takes from it that the number is given away.
func (db *DB) keepNumbers() error {
	highest, err := highestNumber(db.opts.Dir)
	if err != nil || highest == 0 {
		return err
	}
	if err := logNumber(filepath.Join(db.opts.Dir, "wal"), highest); err != nil {
		// A full disk, most likely, which keeps nobody from opening.
		db.opts.Logger.Error("note which numbers of series are given away", "highest", uint64(highest), "err", err)
	}
	return nil
}

func logNumber(log string, n chunks.HeadSeriesRef) error {
	w, err := wlog.NewSize(nil, nil, log, wlog.DefaultSegmentSize, compression.Snappy)
	if err != nil {
		return err
	}
	segment, _, err := w.LastSegmentAndOffset()
	known := err == nil
	if known {
		nothing := tombstones.Stone{Ref: storage.SeriesRef(n), Intervals: tombstones.Intervals{{Mint: 0, Maxt: 0}}}
		var enc record.Encoder
		err = w.Log(enc.Tombstones([]tombstones.Stone{nothing}, nil))
	}
	if err = errors.Join(err, w.Close()); err != nil && known { // half a record would be damage
		err = errors.Join(err, os.Remove(wlog.SegmentName(log, segment)))
	}
	return err
}

// highestNumber is that of all series of which the head's chunks and the out-of-order
// log have samples.
func highestNumber(dir string) (highest chunks.HeadSeriesRef, err error) {
	note := func(n chunks.HeadSeriesRef) { highest = max(highest, n) }
	if err := chunkNumbers(filepath.Join(dir, "chunks_head"), note); err != nil {
		return 0, fmt.Errorf("read the numbers of the head's chunks: %w", err)
	}
	if err := lateNumbers(filepath.Join(dir, wlog.WblDirName), note); err != nil {
		return 0, fmt.Errorf("read the numbers of the out-of-order log: %w", err)
	}
	return highest, nil
}

func chunkNumbers(dir string, note func(chunks.HeadSeriesRef)) (err error) {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	files, err := chunks.NewChunkDiskMapper(nil, dir, nil, chunks.DefaultWriteBufferSize, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, files.Close()) }()
	err = files.IterateAllChunks(func(n chunks.HeadSeriesRef, _ chunks.ChunkDiskMapperRef, _, _ int64, _ uint16, _ chunkenc.Encoding, _ bool) error {
		note(n)
		return nil
	})
	var damage *chunks.CorruptionErr
	if errors.As(err, &damage) { // the TSDB drops what is behind it
		return nil
	}
	return err
}

func lateNumbers(dir string, note func(chunks.HeadSeriesRef)) error {
	first, last, err := segments(dir)
	if err != nil || last < 0 {
		return err
	}
	samples := samplesOfRecords{
		float:     func(s record.RefSample) { note(s.Ref) },
		histogram: func(s record.RefHistogramSample) { note(s.Ref) },
		floats:    func(s record.RefFloatHistogramSample) { note(s.Ref) },
	}
	keep := samples.reader()
	for n := first; n <= last; n++ {
		if _, _, err := readSegment(wlog.SegmentName(dir, n), keep); err != nil {
			return err
		}
	}
	return nil
}

// samplesOfRecords is what to do with the samples of a log.
type samplesOfRecords struct {
	float     func(record.RefSample)
	histogram func(record.RefHistogramSample)
	floats    func(record.RefFloatHistogramSample)
}

// reader is for readSegment. What cannot be decoded is the TSDB's to complain about.
func (to samplesOfRecords) reader() func(rec []byte) error {
	dec := record.NewDecoder(labels.NewSymbolTable(), nil)
	var floats []record.RefSample
	var ints []record.RefHistogramSample
	var floatHistograms []record.RefFloatHistogramSample
	return func(rec []byte) error {
		switch dec.Type(rec) {
		case record.Samples, record.SamplesV2:
			floats, _ = dec.Samples(rec, floats[:0])
			for _, s := range floats {
				to.float(s)
			}
		case record.HistogramSamples, record.CustomBucketsHistogramSamples, record.HistogramSamplesV2:
			ints, _ = dec.HistogramSamples(rec, ints[:0])
			for _, s := range ints {
				to.histogram(s)
			}
		case record.FloatHistogramSamples, record.CustomBucketsFloatHistogramSamples, record.FloatHistogramSamplesV2:
			floatHistograms, _ = dec.FloatHistogramSamples(rec, floatHistograms[:0])
			for _, s := range floatHistograms {
				to.floats(s)
			}
		}
		return nil
	}
}
