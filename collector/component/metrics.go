package component

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/crowsnest-dev/crowsnest/collector/reading"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

const (
	maxLine = 64 << 10
	// maxBuckets bounds a histogram's bounds.
	maxBuckets = 200
)

// figures are what the catalogue has of a component's /metrics.
type figures struct {
	asked time.Time
	err   error

	requests, errors map[string]reading.Value
	latency          map[string]reading.Histogram
	database         reading.Value
	leaders          reading.Value
	pending          reading.Value
	fsync            reading.Histogram
	scheduling       reading.Histogram
}

// groupOf groups verbs; the empty group is for requests that last as long as
// their users want.
func groupOf(verb []byte) string {
	switch string(verb) {
	case "LIST":
		return "list"
	case "GET":
		return "read"
	case "POST", "PUT", "PATCH", "DELETE", "DELETECOLLECTION", "APPLY":
		return "write"
	}
	return ""
}

func (f *figures) read(ctx context.Context, client *http.Client, base *url.URL, at time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, 2*timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base.JoinPath("/metrics").String(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "text/plain")
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", fault.ErrUnavailable, err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%w: needs get on the URL /metrics (nonResourceURLs of a ClusterRole)", fault.ErrForbidden)
	default:
		return fmt.Errorf("%w: it answers %s", fault.ErrUnavailable, resp.Status)
	}
	body := &io.LimitedReader{R: resp.Body, N: maxBody + 1}
	got := figures{asked: f.asked}
	err = got.parse(body, at)
	switch {
	case body.N <= 0:
		// Sums over a part are no sums: a counter would go back and forth with what
		// happened to fit.
		return fmt.Errorf("%w: more than %d bytes", fault.ErrTooLarge, maxBody)
	case err != nil && !errors.Is(err, errBuckets):
		return err
	}
	*f = got
	return err
}

// parse reads exposition text line by line and adds up what is needed over all
// other labels; the rest, nine tenths of the API server's, is passed over.
func (f *figures) parse(r io.Reader, at time.Time) error {
	latency := map[string]map[float64]float64{}
	fsync, scheduling := map[float64]float64{}, map[float64]float64{}
	requests, failed := map[string]float64{}, map[string]float64{}
	largest := func(v *reading.Value, n float64) {
		if !v.OK() || n > v.V {
			*v = reading.Value{V: n, At: at}
		}
	}
	pending, hasPending := 0.0, false
	odd := map[string]bool{} // histograms with too many bounds
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 0, maxLine), maxLine)
	sc.Split(wholeLines)
	for sc.Scan() {
		line := sc.Bytes()
		end := bytes.IndexAny(line, "{ ")
		if end <= 0 || line[0] == '#' {
			continue
		}
		var into map[float64]float64
		switch string(line[:end]) {
		case latencyBuckets:
			group := groupOf(attribute(line, `verb="`))
			if group == "" {
				continue
			}
			if latency[group] == nil {
				latency[group] = map[float64]float64{}
			}
			into = latency[group]
		case fsyncBuckets:
			into = fsync
		case schedulingBuckets:
			into = scheduling
		case "apiserver_request_total", "apiserver_storage_size_bytes", "apiserver_storage_db_total_size_in_bytes",
			"etcd_mvcc_db_total_size_in_bytes", "etcd_server_leader_changes_seen_total", "scheduler_pending_pods":
		default:
			continue
		}
		v, ok := number(line)
		if !ok {
			continue
		}
		if into != nil {
			bound, err := strconv.ParseFloat(string(attribute(line, `le="`)), 64)
			if err != nil || bound != bound {
				continue
			}
			if _, known := into[bound]; !known && len(into) >= maxBuckets {
				odd[string(line[:end])] = true
				continue
			}
			into[bound] += v
			continue
		}
		switch string(line[:end]) {
		case "apiserver_request_total":
			if group := groupOf(attribute(line, `verb="`)); group != "" {
				requests[group] += v
				if bytes.HasPrefix(attribute(line, `code="`), []byte("5")) {
					failed[group] += v
				}
			}
		case "etcd_server_leader_changes_seen_total":
			largest(&f.leaders, v)
		case "scheduler_pending_pods":
			pending, hasPending = pending+v, true
		default:
			largest(&f.database, v)
		}
	}
	if err := sc.Err(); err != nil {
		return fmt.Errorf("%w: %w", fault.ErrMalformed, err)
	}
	if hasPending {
		f.pending = reading.Value{V: pending, At: at}
	}
	f.requests, f.errors, f.latency = map[string]reading.Value{}, map[string]reading.Value{}, map[string]reading.Histogram{}
	for group, v := range requests {
		f.requests[group], f.errors[group] = reading.Value{V: v, At: at}, reading.Value{V: failed[group], At: at}
	}
	if !odd[latencyBuckets] {
		for group, buckets := range latency {
			f.latency[group] = histogram(buckets, at)
		}
	}
	if !odd[fsyncBuckets] {
		f.fsync = histogram(fsync, at)
	}
	if !odd[schedulingBuckets] {
		f.scheduling = histogram(scheduling, at)
	}
	if len(odd) > 0 {
		return fmt.Errorf("%w: %s", errBuckets, strings.Join(slices.Sorted(maps.Keys(odd)), ", "))
	}
	return nil
}

// The histograms that are read.
const (
	latencyBuckets    = "apiserver_request_duration_seconds_bucket"
	fsyncBuckets      = "etcd_disk_wal_fsync_duration_seconds_bucket"
	schedulingBuckets = "scheduler_scheduling_attempt_duration_seconds_bucket"
)

// errBuckets is of a histogram that makes no sense; everything else is read.
var errBuckets = fmt.Errorf("%w: a histogram with more than %d bounds", fault.ErrTooLarge, maxBuckets)

// wholeLines splits into lines. A last one without its end is an error: a number
// without its last digits is another number.
func wholeLines(data []byte, atEOF bool) (advance int, line []byte, err error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return 0, nil, errBrokenOff
	}
	return 0, nil, nil
}

var errBrokenOff = errors.New("it ends in the middle of a line")

// histogram orders buckets; one without a bound of +Inf is none.
func histogram(buckets map[float64]float64, at time.Time) reading.Histogram {
	if _, ok := buckets[math.Inf(1)]; !ok {
		return reading.Histogram{}
	}
	h := reading.Histogram{At: at}
	for bound := range buckets {
		h.Bounds = append(h.Bounds, bound)
	}
	slices.Sort(h.Bounds)
	for _, bound := range h.Bounds {
		h.Counts = append(h.Counts, buckets[bound])
	}
	return h
}

// attribute is the value of a label whose name, with `="`, is given. Verbs,
// codes and bounds have nothing to escape in them.
func attribute(line []byte, name string) []byte {
	for from := 0; ; {
		i := bytes.Index(line[from:], []byte(name))
		if i < 0 {
			return nil
		}
		i += from
		if before := line[max(0, i-1)]; before == '{' || before == ',' {
			v := line[i+len(name):]
			if end := bytes.IndexByte(v, '"'); end >= 0 {
				return v[:end]
			}
			return nil
		}
		from = i + 1
	}
}

// number is a line's value, which is never negative here.
func number(line []byte) (v float64, ok bool) {
	rest := line
	if i := bytes.LastIndexByte(line, '}'); i >= 0 {
		rest = line[i+1:]
	} else if i := bytes.IndexByte(line, ' '); i >= 0 {
		rest = line[i:]
	}
	fields := bytes.Fields(rest)
	if len(fields) == 0 {
		return 0, false
	}
	v, err := strconv.ParseFloat(string(fields[0]), 64)
	return v, err == nil && v >= 0 && v < 1e300
}
