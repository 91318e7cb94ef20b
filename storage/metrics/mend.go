package metrics

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/fileutil"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/wlog"
)

// A log is written in pages. Where a write fails (a full disk), the TSDB keeps the page and
// writes the rest of it with what is logged next, but leaves out all further pages of the
// record that was logged. Acknowledging goes wrong after that in four ways:
//   - A record whose first pages alone are there hides all that is logged behind it: a start
//     reads up to there, takes the rest for damage and drops it.
//   - What came late is in the head before it is logged. Sent again it is a duplicate, which
//     the out-of-order log does not get any more.
//   - A series is in the head before it is logged, and is not logged again.
//   - A commit that failed is not in the head, but what the page kept of it is logged all the
//     same. What is older of its series the head takes in order later, and a start, which
//     finds it behind what is newer, drops it.
//
// So nothing is acknowledged from such a failure on until all that is in memory is on the disk
// again, and the other way round: records that are not whole are taken out of the log, what came
// late is written to blocks, by which the out-of-order log goes as far as it was written by
// then, and the head takes what is newer in the log than what it has.

// failures are writes to the logs that failed since the start.
type failures struct{ log, late, synced float64 }

func (db *DB) failures() failures {
	f := failures{log: db.registry.count(logFailures), late: db.registry.count(lateFailures)}
	if db.syncer != nil {
		f.synced = float64(db.syncer.failed.Load())
	}
	return f
}

// errDoubt says why nothing is acknowledged though the disk can be written.
var errDoubt = errors.New("a write to the log failed, and what was taken before is not all on the disk yet")

// doubt is nil while what is logged is what a start will find. It says what keeps it from being
// mended, where that was tried.
func (db *DB) doubt() error {
	if db.failures() == *db.mended.Load() {
		return nil
	}
	if why := db.unmended.Load(); why != nil {
		return fmt.Errorf("%w: %w", errDoubt, *why)
	}
	return errDoubt
}

// mend brings on the disk what is in memory, after a write to a log failed.
func (db *DB) mend(ctx context.Context) error {
	if db.doubt() == nil {
		return nil
	}
	db.compaction.mu.Lock()
	defer db.compaction.mu.Unlock()
	if err := db.space.writable(); err != nil { // the TSDB ends the process where chunks meet a full disk
		return err
	}
	was, failed := *db.mended.Load(), db.failures() // those that come now are for the next time
	if failed == was {
		return nil
	}
	torn, err := db.mendLog(ctx)
	if err == nil && (failed.late != was.late || failed.synced != was.synced) {
		err = db.compactLateLocked(ctx)
	}
	if err == nil {
		err = db.agree(ctx, failed)
	}
	if err != nil {
		if !errors.Is(err, errDoubt) {
			db.unmended.Store(&err)
		}
		return fmt.Errorf("bring on the disk what is in memory, after a write to the log failed: %w", err)
	}
	db.opts.Logger.Warn("a write to the log had failed; all that is in memory is on the disk again", "records_cut_off", torn)
	return db.space.check()
}

// agree has the head take what the log has of commits that failed, and believes both from then
// on. Nobody commits meanwhile.
func (db *DB) agree(ctx context.Context, failed failures) error {
	db.compaction.commits.Lock()
	defer db.compaction.commits.Unlock()
	if db.failures() != failed {
		wake(db.room) // another one failed meanwhile
		return errDoubt
	}
	if err := db.takeRefused(ctx); err != nil {
		return err
	}
	if db.syncer != nil {
		// That of a segment out of which records were cut may have failed, too.
		if failed.synced != db.mended.Load().synced || len(db.compaction.cut) > 0 {
			if err := db.syncer.writeAgain(db.compaction.cut); err != nil {
				return err
			}
		}
		if err := db.syncer.sync(); err != nil {
			return err
		}
	}
	end, err := db.endOfLog()
	if err != nil {
		return err
	}
	if db.failures() != failed { // who fails from now on does so in that segment, or behind
		return errDoubt
	}
	clear(db.compaction.cut)
	db.compaction.untorn.Store(int64(end.segment))
	db.mended.Store(&failed)
	db.unmended.Store(nil)
	return nil
}

// mark is a place in the log of all samples.
type mark struct {
	segment int
	size    int64
}

func (m mark) before(other mark) bool {
	return m.segment < other.segment || m.segment == other.segment && m.size < other.size
}

// noteWhole notes, for who keeps others from committing, up to where the log has nothing but
// what the head has.
func (db *DB) noteWhole() error {
	if db.doubt() != nil {
		return nil
	}
	end, err := db.endOfLog()
	if err != nil || db.doubt() != nil { // the record of a series may be torn since, in a segment before that
		return err
	}
	db.compaction.whole = end
	db.compaction.untorn.Store(int64(end.segment))
	return nil
}

func (db *DB) endOfLog() (mark, error) {
	log := filepath.Join(db.opts.Dir, "wal")
	_, last, err := wlog.Segments(log)
	if err != nil {
		return mark{}, err
	}
	info, err := os.Stat(wlog.SegmentName(log, last))
	if err != nil {
		return mark{}, err
	}
	return mark{last, info.Size()}, nil
}

// takeRefused appends to the head what the log has since it was whole, as far as that is newer
// than what the head has of its series: it is logged once more, and whatever comes that is older
// is late from then on, as it will be for a start.
func (db *DB) takeRefused(ctx context.Context) error {
	log := filepath.Join(db.opts.Dir, "wal")
	first, last, err := wlog.Segments(log)
	if err != nil {
		return err
	}
	app := db.tsdb.AppenderV2(ctx)
	// What the head does not take it never takes in order: it has what is newer. Series that it
	// has let go begin anew, for a start as well.
	take := func(ref chunks.HeadSeriesRef, t int64, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram) {
		_, _ = app.Append(storage.SeriesRef(ref), labels.EmptyLabels(), 0, t, v, h, fh, storage.AppendV2Options{RejectOutOfOrder: true})
	}
	samples := samplesOfRecords{
		float:     func(s record.RefSample) { take(s.Ref, s.T, s.V, nil, nil) },
		histogram: func(s record.RefHistogramSample) { take(s.Ref, s.T, 0, s.H, nil) },
		floats:    func(s record.RefFloatHistogramSample) { take(s.Ref, s.T, 0, nil, s.FH) },
	}
	keep := samples.reader()
	for n := max(first, db.compaction.whole.segment); n <= last; n++ {
		from := int64(0)
		if n == db.compaction.whole.segment {
			from = db.compaction.whole.size
		}
		err := ctx.Err()
		if err == nil {
			_, _, err = readBehind(wlog.SegmentName(log, n), from, keep)
		}
		if err != nil {
			return errors.Join(err, app.Rollback())
		}
	}
	if err := app.Commit(); err != nil {
		db.space.fail(err)
		return err
	}
	end, err := db.endOfLog()
	if err != nil {
		return err
	}
	db.compaction.whole = end // what follows may fail, and what was taken is not taken, and logged, again then
	return nil
}

// mendLog takes the records out of the log of which only a part is there, and says how many. A record
// is in one segment, so those are not read that were closed when no write had failed since the last mend.
func (db *DB) mendLog(ctx context.Context) (torn int, err error) {
	// The rest of the page that could not be written goes with what is logged next: the
	// deletion of nothing.
	nothing := labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, "\x00")
	if err := db.tsdb.Head().Delete(ctx, math.MinInt64, math.MaxInt64, nothing); err != nil {
		db.space.fail(err) // there was less room than it seemed
		return 0, err
	}
	log := filepath.Join(db.opts.Dir, "wal")
	first, last, err := wlog.Segments(log)
	if err != nil {
		return 0, err
	}
	for n := max(first, int(db.compaction.untorn.Load())); n <= last; n++ {
		if err := ctx.Err(); err != nil {
			return torn, err
		}
		cut, m, err := mendSegment(wlog.SegmentName(log, n), n == last)
		for _, at := range cut {
			db.compaction.cut[mark{n, at / logPage * logPage}] = struct{}{}
		}
		if err != nil {
			return torn, err
		}
		torn += m
	}
	return torn, db.findLost(log, first, last)
}

const (
	logPage    = 32 << 10
	partHeader = 7 // of a part of a record: its kind, two bytes of length, four of checksum

	// Kinds of parts; 0 ends a page.
	wholeRecord = 1
	firstPart   = 2
	middlePart  = 3
	lastPart    = 4
)

// mendSegment overwrites the parts of records that do not go on with zeros, which end a page. Each
// of them reaches to the end of its page. A segment that grows may end with a record that is
// being written.
func mendSegment(path string, grows bool) (cut []int64, torn int, err error) {
	f, err := os.OpenFile(filepath.Clean(path), os.O_RDWR, 0)
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	cut, torn, err = tornParts(f, grows)
	if err != nil || torn == 0 {
		return nil, 0, err
	}
	for _, at := range slices.Backward(cut) { // what stands of a record then is its beginning, still
		if _, err := f.WriteAt(make([]byte, logPage-at%logPage), at); err != nil {
			return cut, 0, err
		}
	}
	return cut, torn, f.Sync()
}

// tornParts finds the parts of records in a segment that do not go on, and counts these. A failed
// write leaves the beginning of a record. What else is no record is other damage, at which a start
// stops anyway: it is left as it is, with the rest of its page and what of its record follows.
func tornParts(segment io.Reader, grows bool) (cut []int64, torn int, err error) {
	var open []int64 // the parts of a record of which there may be more
	interrupted := func() {
		if len(open) > 0 {
			cut, torn = append(cut, open...), torn+1
		}
		open = open[:0]
	}
	page, r := make([]byte, logPage), bufio.NewReaderSize(segment, 1<<20)
	for at := int64(0); ; at += logPage {
		size, err := io.ReadFull(r, page)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, 0, err
		}
		for pos := 0; pos+partHeader <= size && page[pos]&7 != 0; {
			kind, end := page[pos]&7, pos+partHeader+int(binary.BigEndian.Uint16(page[pos+1:]))
			if end > size && grows && size < logPage {
				return cut, torn, nil
			}
			goesOn := kind == firstPart || kind == middlePart
			if kind > lastPart || end > size || goesOn && end+partHeader <= logPage {
				open = open[:0]
				break
			}
			if kind <= firstPart {
				interrupted()
			}
			if kind == firstPart || goesOn && len(open) > 0 {
				open = append(open, at+int64(pos))
			}
			if !goesOn {
				open = open[:0]
			}
			pos = end
		}
		if size < logPage {
			break
		}
	}
	if !grows {
		interrupted()
	}
	return cut, torn, nil
}

// findLost looks which series whose record could not be written are in the log by now. The
// TSDB logs a series once, so what is not there will not be.
func (db *DB) findLost(log string, first, last int) error {
	db.series.RLock()
	lost := maps.Clone(db.lost)
	db.series.RUnlock()
	if len(lost) == 0 {
		return nil
	}
	from := last
	for _, l := range lost {
		from = min(from, l.segment)
	}
	first = max(first, from)
	dec := record.NewDecoder(labels.NewSymbolTable(), nil)
	var series []record.RefSeries
	var found []storage.SeriesRef
	for n := first; n <= last; n++ {
		_, _, err := readSegment(wlog.SegmentName(log, n), func(rec []byte) (err error) {
			if dec.Type(rec) != record.Series {
				return nil
			}
			series, err = dec.Series(rec, series[:0])
			for _, s := range series {
				if _, ok := lost[storage.SeriesRef(s.Ref)]; ok {
					found = append(found, storage.SeriesRef(s.Ref))
				}
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	db.series.Lock()
	defer db.series.Unlock()
	for _, ref := range found {
		delete(db.lost, ref)
	}
	return nil
}

// logLost puts the series that the log lacks into the segment before the one that is written to.
// Nobody could append to them so far, so all that will be said of them comes behind that.
func (db *DB) logLost() error {
	db.series.RLock()
	lost := maps.Clone(db.lost)
	db.series.RUnlock()
	if len(lost) == 0 {
		return nil
	}
	db.compaction.mu.Lock() // nobody shortens the log meanwhile
	defer db.compaction.mu.Unlock()
	if err := errors.Join(db.doubt(), db.space.writable()); err != nil {
		return err
	}
	series := make([]record.RefSeries, 0, len(lost))
	for ref, l := range lost {
		series = append(series, record.RefSeries{Ref: chunks.HeadSeriesRef(ref), Labels: l.lset})
	}
	log := filepath.Join(db.opts.Dir, "wal")
	first, last, err := wlog.Segments(log)
	if err == nil && last < db.compaction.leftUntil {
		// A start would let them go with those that left under the same labels.
		if err = db.truncated(db.tsdb.Head().Truncate(db.floor())); err == nil { // begins a segment
			first, last, err = wlog.Segments(log)
		}
	}
	if err != nil {
		return err
	}
	if last == first || last < db.compaction.leftUntil {
		return fmt.Errorf("%d series that the log lacks have no place in it yet: it has segments %d to %d, and those before %d may tell of series that left", len(series), first, last, db.compaction.leftUntil)
	}
	if db.syncer != nil { // it has the other file from then on, which says nothing of writes to this one
		if err := db.syncer.sync(); err != nil {
			return err
		}
	}
	var enc record.Encoder
	path := wlog.SegmentName(log, last-1)
	err = addRecord(path, filepath.Join(db.opts.Dir, longerFile), enc.Series(series, nil))
	if db.syncer != nil {
		err = errors.Join(err, db.syncer.replaced("wal", last-1))
	}
	if err != nil {
		return fmt.Errorf("put series that the log lacks into %s: %w", path, err)
	}
	db.series.Lock()
	defer db.series.Unlock()
	for ref := range lost {
		delete(db.lost, ref)
	}
	db.opts.Logger.Warn("series could not be logged when a write failed, and are logged now", "series", len(lost))
	return nil
}

// longerFile is a segment of the log while a record is added to it.
const longerFile = "wal.longer"

// addRecord replaces a segment that is closed by one that has a record more, behind all others, which
// keep their places.
func addRecord(path, tmp string, rec []byte) error {
	_, damaged, err := readSegment(path, func([]byte) error { return nil })
	if damaged {
		err = errors.Join(err, errors.New("it is damaged, and a start reads no further than that"))
	}
	if err != nil {
		return err
	}
	if err := copyWith(path, tmp, rec); err != nil {
		return errors.Join(err, os.RemoveAll(tmp))
	}
	return fileutil.Replace(tmp, path)
}

// copyWith copies a segment, with a record more, and has the copy on the disk.
func copyWith(path, tmp string, rec []byte) (err error) {
	from, err := os.Open(filepath.Clean(path))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	to, err := os.Create(filepath.Clean(tmp))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	size, err := io.Copy(to, from)
	if err != nil {
		return err
	}
	// A segment that a kill ended does not fill its last page.
	if _, err := to.Write(append(make([]byte, restOfPage(size)), pagesOf(rec)...)); err != nil {
		return err
	}
	return to.Sync()
}

func restOfPage(size int64) int64 { return (logPage - size%logPage) % logPage }

// pagesOf is a record as a log has it in pages of its own.
func pagesOf(rec []byte) []byte {
	var out []byte
	for begins := true; begins || len(rec) > 0; begins = false {
		part := rec[:min(len(rec), logPage-partHeader)]
		rec = rec[len(part):]
		kind := byte(middlePart)
		switch ends := len(rec) == 0; {
		case begins && ends:
			kind = wholeRecord
		case begins:
			kind = firstPart
		case ends:
			kind = lastPart
		}
		out = binary.BigEndian.AppendUint16(append(out, kind), uint16(len(part)))
		out = append(binary.BigEndian.AppendUint32(out, crc32.Checksum(part, castagnoli)), part...)
	}
	return append(out, make([]byte, restOfPage(int64(len(out))))...)
}

// firstSegment gives a new log a segment before the one that is written to, and removes what a kill
// left of one to which a record was added.
func firstSegment(dir string) error {
	if err := os.RemoveAll(filepath.Join(dir, longerFile)); err != nil {
		return err
	}
	log := filepath.Join(dir, "wal")
	if err := os.MkdirAll(log, 0o750); err != nil {
		return err
	}
	_, last, err := wlog.Segments(log)
	if err != nil || last >= 0 {
		return err
	}
	s, err := wlog.CreateSegment(log, 0)
	if err != nil {
		return err
	}
	return s.Close()
}
