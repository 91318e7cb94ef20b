package metrics

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/fileutil"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/prometheus/prometheus/util/compression"
)

// A sample that is out of order lives in the out-of-order log until a block has
// it, and that log alone must be believed after a kill. But it also holds
// markers: "all samples of this series so far are in chunk N". They are wrong in
// three ways, each of which loses samples that were acknowledged:
//   - A chunk is written through a buffer of megabytes, its marker at once. A
//     kill loses the chunk; once later chunks have a higher number, the marker is
//     believed.
//   - The first chunk of a series has the marker 0, which is always believed. A
//     compaction empties every series, so the samples that come while it writes
//     are logged behind such a marker, and those before it count as stored while
//     their block is not there yet.
//   - Two commits to one series may log in another order than they inserted.
//
// So the markers are taken out before the log is read. What they spared is
// inserted a second time at most, and merged away by the next compaction.
const markerlessDir = "wbl.opening" // a segment while it is written anew

// forgetMarkers writes each segment of the out-of-order log anew that has a
// marker or cannot be read to its end, with what can be read of it. Segments that
// were damaged keep their second name, by which keptLogs tells.
func forgetMarkers(dir string) error {
	log, tmp := filepath.Join(dir, wlog.WblDirName), filepath.Join(dir, markerlessDir)
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	first, last, err := segments(log)
	if err != nil || last < 0 {
		return err
	}
	for n := first; n <= last; n++ {
		path := wlog.SegmentName(log, n)
		marked, damaged, err := readSegment(path, nil)
		if err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		if !marked && !damaged {
			continue
		}
		mended := func() error {
			rest, _, err := cutOff(path)
			if err != nil || (n == last && len(rest) > 0) { // nothing acknowledged is missing
				return err
			}
			return forgetBegin(dir)
		}
		if damaged, err = withoutMarkers(path, tmp, mended); err != nil {
			return fmt.Errorf("write %s anew: %w", path, err)
		}
		if !damaged {
			kept := filepath.Join(dir, quarantineDir, unopenedLogs, wlog.WblDirName, filepath.Base(path))
			if err := os.Remove(kept); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// withoutMarkers replaces a segment by one that has the same samples. Before one that is
// damaged it calls mended.
func withoutMarkers(path, tmp string, mended func() error) (damaged bool, err error) {
	// One segment becomes one: far larger than any that the TSDB writes.
	w, err := wlog.NewSize(nil, nil, tmp, 1<<30, compression.Snappy)
	if err != nil {
		return false, err
	}
	var batch [][]byte
	_, damaged, err = readSegment(path, func(rec []byte) error {
		batch = append(batch, rec)
		if len(batch) < 256 {
			return nil
		}
		err := w.Log(batch...)
		batch = batch[:0]
		return err
	})
	if err == nil {
		err = w.Log(batch...)
	}
	if err = errors.Join(err, w.Close()); err != nil { // syncs
		return damaged, errors.Join(err, os.RemoveAll(tmp))
	}
	if damaged {
		if err := mended(); err != nil {
			return damaged, errors.Join(err, os.RemoveAll(tmp))
		}
	}
	if err := fileutil.Replace(wlog.SegmentName(tmp, 0), path); err != nil {
		return damaged, err
	}
	return damaged, os.RemoveAll(tmp)
}

// readSegment gives keep a copy of every record that is no marker, as far as the
// segment can be read. Without keep it stops at the first marker.
func readSegment(path string, keep func([]byte) error) (marked, damaged bool, err error) {
	return readBehind(path, 0, keep)
}

// readBehind is readSegment for records that end behind from.
func readBehind(path string, from int64, keep func([]byte) error) (marked, damaged bool, err error) {
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return false, false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	r := wlog.NewReader(bufio.NewReaderSize(f, 1<<20))
	dec := record.NewDecoder(labels.NewSymbolTable(), nil)
	for r.Next() {
		switch rec := r.Record(); {
		case dec.Type(rec) == record.MmapMarkers:
			marked = true
			if keep == nil {
				return marked, damaged, nil
			}
		case keep != nil && r.Offset() > from:
			if err := keep(append([]byte(nil), rec...)); err != nil {
				return marked, damaged, err
			}
		}
	}
	return marked, r.Err() != nil, nil
}

// The TSDB's counts of writes to its logs that failed. A commit whose late samples could not
// be logged it acknowledges all the same, and only logs and counts it.
const (
	logFailures  = "prometheus_tsdb_wal_writes_failed_total"
	lateFailures = "prometheus_tsdb_out_of_order_wbl_writes_failed_total"
)

// registry passes on what the TSDB registers, keeps hold of the failures, and can
// take everything back, so that the TSDB can be opened a second time.
type registry struct {
	next prometheus.Registerer // nil keeps it here

	mu    sync.Mutex
	all   []prometheus.Collector
	watch map[string]prometheus.Metric // by name, which never change: each new series asks for their values
	told  dto.Metric                   // what the last one said, so that asking makes nothing anew
}

var _ prometheus.Registerer = (*registry)(nil)

func (r *registry) Register(c prometheus.Collector) error {
	if r.next != nil {
		if err := r.next.Register(c); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, c)
	described := make(chan *prometheus.Desc, 16)
	go func() {
		c.Describe(described)
		close(described)
	}()
	for d := range described {
		for _, name := range []string{logFailures, lateFailures} {
			if strings.Contains(d.String(), `"`+name+`"`) {
				r.hold(name, c)
			}
		}
	}
	return nil
}

// hold keeps hold of the counter of a name, if a collector has it by now.
func (r *registry) hold(name string, c prometheus.Collector) {
	collected := make(chan prometheus.Metric, 16)
	go func() {
		c.Collect(collected)
		close(collected)
	}()
	for one := range collected {
		if !strings.Contains(one.Desc().String(), `"`+name+`"`) {
			continue
		}
		if r.watch == nil {
			r.watch = map[string]prometheus.Metric{}
		}
		r.watch[name] = one
	}
}

func (r *registry) MustRegister(all ...prometheus.Collector) {
	for _, c := range all {
		if err := r.Register(c); err != nil {
			panic(err)
		}
	}
}

func (r *registry) Unregister(c prometheus.Collector) bool {
	return r.next == nil || r.next.Unregister(c)
}

func (r *registry) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.all {
		r.Unregister(c)
	}
	r.all, r.watch = nil, nil
}

// count gives one of the counters that are kept hold of.
func (r *registry) count(name string) float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	counter := r.watch[name]
	if counter == nil {
		return 0
	}
	if err := counter.Write(&r.told); err != nil {
		return 0
	}
	return r.told.GetCounter().GetValue()
}
