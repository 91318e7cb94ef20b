package ingest

import (
	"errors"
	"fmt"
	"time"
)

// Limits bound what one request, and one cluster, may bring. Zero values take
// the defaults.
type Limits struct {
	CompressedBytes   int64 // of a body as sent; default 16 MiB
	DecompressedBytes int64 // default and at most 32 MiB, which Prometheus' decoder allows
	// DecodedBytes bounds what a body takes in memory until the store has it, by the sizes
	// of what it is made of; default 128 MiB. Where that is of ordinary size, four times its
	// bytes are enough.
	DecodedBytes     int64
	SeriesPerRequest int // default 200,000
	LabelsPerSeries  int // default 40, the cluster's included
	LabelNameBytes   int // default 256
	LabelValueBytes  int // default 2048
	// SeriesPerCluster bounds the active series: those with a sample in the last
	// 30 min and no stale marker since. One that ends in the request in which it began counts
	// until that is stored. Default 3,000,000.
	SeriesPerCluster int
	// SeriesPerNamespace and SeriesPerWorkload bound the active series that carry
	// the same namespace label, or the same namespace, workload_type and workload;
	// default 0, no bound but the cluster's.
	SeriesPerNamespace int
	SeriesPerWorkload  int
	// SamplesPerSecond of one cluster, over a few seconds; a request beyond it is
	// told to come again before anything of it is stored. Backlog and history get what
	// live samples leave, less a reserve for these. Default 0, no bound.
	SamplesPerSecond int
	// SamplesPerNamespace and SamplesPerWorkload bound the samples a second of
	// series that carry the same namespace label, or the same workload's, over a few
	// seconds: samples beyond are refused, the rest of the request is stored. Backlog
	// and history are not counted, which come at once what was sent over hours.
	// Default 0, no bound.
	SamplesPerNamespace int
	SamplesPerWorkload  int
	// SendersPerCluster bounds the collectors of one cluster within a day; default 20,000.
	SendersPerCluster int
	// Requests bounds those worked on at once, over all clusters; more are told
	// to come again (429). Default 32.
	Requests int
	// LargeRequests bounds those of them that take more than 16 MiB of memory, so that they
	// take no more than some 1.6 GiB together; default 4. Another one waits for LargeWait,
	// default 3 s, before it is told to come again.
	LargeRequests int
	LargeWait     time.Duration
	// BacklogRequests bounds those that bring what waited in a queue, so that
	// live samples are not delayed by them; default 4. BacklogWaiting more wait for
	// their turn, default 256, and BacklogWait at most, default 3 s, before they are
	// told to come again.
	BacklogRequests int
	BacklogWaiting  int
	BacklogWait     time.Duration
	// Upload is within which whoever has a place must have sent the body, of backlog and
	// where a collector sends; default 20 s, as that gives up after 15. Others have as long
	// as the HTTP server lets them.
	Upload time.Duration
	// Ahead is how far samples may be ahead of the server; default and at most
	// 2 min, since one sample from the future turns all normal data into
	// out-of-order data.
	Ahead time.Duration
	// Behind is how old samples may be; default 48 h, the store's out-of-order
	// window.
	Behind time.Duration
	// HistoryBehind is the same by the import way; default 90 days.
	HistoryBehind time.Duration
}

func (l *Limits) complete() error {
	var errs []error
	ints := []struct {
		name string
		v    *int
		def  int
	}{
		{"SeriesPerRequest", &l.SeriesPerRequest, 200_000},
		{"LabelsPerSeries", &l.LabelsPerSeries, 40},
		{"LabelNameBytes", &l.LabelNameBytes, 256},
		{"LabelValueBytes", &l.LabelValueBytes, 2048},
		{"SeriesPerCluster", &l.SeriesPerCluster, 3_000_000},
		{"SendersPerCluster", &l.SendersPerCluster, 20_000},
		{"Requests", &l.Requests, 32},
		{"LargeRequests", &l.LargeRequests, 4},
		{"BacklogRequests", &l.BacklogRequests, 4},
		{"BacklogWaiting", &l.BacklogWaiting, 256},
	}
	for _, i := range ints {
		if *i.v == 0 {
			*i.v = i.def
		}
		if *i.v < 1 {
			errs = append(errs, fmt.Errorf("ingest: limit %s must be positive, not %d", i.name, *i.v))
		}
	}
	for name, v := range map[string]int{
		"SeriesPerNamespace": l.SeriesPerNamespace, "SeriesPerWorkload": l.SeriesPerWorkload, "SamplesPerSecond": l.SamplesPerSecond,
		"SamplesPerNamespace": l.SamplesPerNamespace, "SamplesPerWorkload": l.SamplesPerWorkload,
	} {
		if v < 0 {
			errs = append(errs, fmt.Errorf("ingest: limit %s must not be negative, but is %d", name, v))
		}
	}
	if l.CompressedBytes == 0 {
		l.CompressedBytes = 16 << 20
	}
	if l.DecompressedBytes == 0 {
		l.DecompressedBytes = maxDecompressed
	}
	if l.DecodedBytes == 0 {
		l.DecodedBytes = 128 << 20
	}
	if l.DecodedBytes < 1 {
		errs = append(errs, fmt.Errorf("ingest: limit DecodedBytes must be positive, not %d", l.DecodedBytes))
	}
	if l.CompressedBytes < 1 || l.CompressedBytes > maxDecompressed {
		errs = append(errs, fmt.Errorf("ingest: limit CompressedBytes must lie between 1 and %d, not %d", maxDecompressed, l.CompressedBytes))
	}
	if l.DecompressedBytes < 1 || l.DecompressedBytes > maxDecompressed {
		errs = append(errs, fmt.Errorf("ingest: limit DecompressedBytes must lie between 1 and %d, not %d", maxDecompressed, l.DecompressedBytes))
	}
	for _, d := range []struct {
		name string
		v    *time.Duration
		def  time.Duration
	}{{"LargeWait", &l.LargeWait, 3 * time.Second}, {"BacklogWait", &l.BacklogWait, 3 * time.Second}, {"Upload", &l.Upload, 20 * time.Second}} {
		if *d.v == 0 {
			*d.v = d.def
		}
		if *d.v < 0 {
			errs = append(errs, fmt.Errorf("ingest: limit %s must be positive, not %v", d.name, *d.v))
		}
	}
	if l.Ahead == 0 {
		l.Ahead = maxAhead
	}
	if l.Ahead < 0 || l.Ahead > maxAhead {
		errs = append(errs, fmt.Errorf("ingest: limit Ahead must lie between 0 and %v, not %v", maxAhead, l.Ahead))
	}
	if l.Behind == 0 {
		l.Behind = 48 * time.Hour
	}
	if l.Behind < 0 {
		errs = append(errs, fmt.Errorf("ingest: limit Behind must be positive, not %v", l.Behind))
	}
	if l.HistoryBehind == 0 {
		l.HistoryBehind = 90 * 24 * time.Hour
	}
	if l.HistoryBehind < 0 {
		errs = append(errs, fmt.Errorf("ingest: limit HistoryBehind must be positive, not %v", l.HistoryBehind))
	}
	return errors.Join(errs...)
}

const (
	maxDecompressed = 32 << 20
	maxAhead        = 2 * time.Minute
)
