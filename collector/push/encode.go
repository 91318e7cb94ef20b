package push

import (
	"fmt"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"github.com/crowsnest-dev/crowsnest/collector/compute"
	"github.com/crowsnest-dev/crowsnest/collector/queue"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
)

// maxSeriesPerRequest keeps a request's body in the order of a megabyte before
// compression.
const maxSeriesPerRequest = 10_000

// Batch is what the collector has at one time.
type Batch struct {
	Samples  []compute.Sample
	Through  time.Time     // the grid point that it completes; zero for changes between two
	Interval time.Duration // in force
	// Unchecked says that the clock that stamped the samples was not held against
	// the server's yet.
	Unchecked bool
}

// sealed is one request, compressed.
type sealed struct {
	item   queue.Item
	body   []byte
	onDisk bool
}

// encoder makes remote write 2.0 requests. Its symbol table and buffers are used
// again; it is not for concurrent use.
type encoder struct {
	symbols writev2.SymbolsTable
	req     writev2.Request
	buf     []byte
}

func newEncoder() *encoder {
	return &encoder{symbols: writev2.NewSymbolTable()}
}

// encode seals a batch as one or more requests. The last one carries Through.
func (e *encoder) encode(b Batch) ([]*sealed, error) {
	var out []*sealed
	for rest := b.Samples; len(rest) > 0; {
		n := min(len(rest), maxSeriesPerRequest)
		s, err := e.one(rest[:n], b.Interval)
		if err != nil {
			return nil, err
		}
		rest = rest[n:]
		s.item.Unchecked = b.Unchecked
		if len(rest) == 0 {
			s.item.Through = b.Through
		}
		out = append(out, s)
	}
	return out, nil
}

func (e *encoder) one(samples []compute.Sample, interval time.Duration) (*sealed, error) {
	e.symbols.Reset()
	e.req.Timeseries = e.req.Timeseries[:0]
	item := queue.Item{First: samples[0].At, Last: samples[0].At, Interval: interval, Samples: len(samples)}
	for _, s := range samples {
		if s.At.Before(item.First) {
			item.First = s.At
		}
		if s.At.After(item.Last) {
			item.Last = s.At
		}
		i := len(e.req.Timeseries)
		if i < cap(e.req.Timeseries) {
			e.req.Timeseries = e.req.Timeseries[:i+1]
		} else {
			e.req.Timeseries = append(e.req.Timeseries, writev2.TimeSeries{})
		}
		ts := &e.req.Timeseries[i]
		// __name__ sorts before every label that the catalogue has.
		refs := append(ts.LabelsRefs[:0], e.symbols.Symbolize(model.MetricNameLabel), e.symbols.Symbolize(s.Metric))
		s.Labels.Range(func(l labels.Label) {
			refs = append(refs, e.symbols.Symbolize(l.Name), e.symbols.Symbolize(l.Value))
		})
		ts.LabelsRefs = refs
		ts.Samples = append(ts.Samples[:0], writev2.Sample{Value: s.V, Timestamp: s.At.UnixMilli()})
		ts.Metadata.Type = writev2.Metadata_METRIC_TYPE_GAUGE
		if m, ok := catalogue.Get(s.Metric); ok && m.Kind == catalogue.Counter {
			ts.Metadata.Type = writev2.Metadata_METRIC_TYPE_COUNTER
		}
	}
	e.req.Symbols = e.symbols.Symbols()
	raw, err := e.req.OptimizedMarshal(e.buf[:0])
	if err != nil {
		return nil, fmt.Errorf("encode remote write: %w", err)
	}
	e.buf = raw
	return &sealed{item: item, body: snappy.Encode(nil, raw)}, nil
}

// restamp brings a batch to the server's time that was stamped by a clock that
// was ahead of it by off, which was found out only now. What stood on the grid
// stands on the point before, so that points stay apart and sums find them.
func restamp(item queue.Item, body []byte, off time.Duration) (queue.Item, []byte, error) {
	raw, err := snappy.Decode(nil, body)
	if err != nil {
		return item, nil, fmt.Errorf("decode sealed batch: %w", err)
	}
	var req writev2.Request
	if err := req.Unmarshal(raw); err != nil {
		return item, nil, fmt.Errorf("decode sealed batch: %w", err)
	}
	right := func(t time.Time) time.Time { return righted(t, item.Interval, off) }
	for i := range req.Timeseries {
		for j := range req.Timeseries[i].Samples {
			s := &req.Timeseries[i].Samples[j]
			s.Timestamp = right(time.UnixMilli(s.Timestamp).UTC()).UnixMilli()
		}
	}
	if raw, err = req.Marshal(); err != nil {
		return item, nil, fmt.Errorf("encode remote write: %w", err)
	}
	item.First, item.Last = right(item.First), right(item.Last)
	if !item.Through.IsZero() {
		item.Through = right(item.Through)
	}
	return item, snappy.Encode(nil, raw), nil
}

// righted is the server's time for one of a clock that was ahead of it by off: for a point
// of the grid the point before.
func righted(t time.Time, interval, off time.Duration) time.Time {
	if interval > 0 && t.Equal(t.Truncate(interval)) {
		return t.Add(-off).Truncate(interval)
	}
	return t.Add(-off)
}

// toV1 makes a remote write 1.0 request of a sealed 2.0 one.
func toV1(body []byte) ([]byte, error) {
	raw, err := snappy.Decode(nil, body)
	if err != nil {
		return nil, fmt.Errorf("decode sealed batch: %w", err)
	}
	var v2 writev2.Request
	if err := v2.Unmarshal(raw); err != nil {
		return nil, fmt.Errorf("decode sealed batch: %w", err)
	}
	v1 := prompb.WriteRequest{Timeseries: make([]prompb.TimeSeries, 0, len(v2.Timeseries))}
	b := labels.NewScratchBuilder(10)
	for _, ts := range v2.Timeseries {
		ls, err := ts.ToLabels(&b, v2.Symbols)
		if err != nil {
			return nil, fmt.Errorf("decode sealed batch: %w", err)
		}
		out := prompb.TimeSeries{Labels: prompb.FromLabels(ls, nil)}
		for _, s := range ts.Samples {
			out.Samples = append(out.Samples, prompb.Sample{Value: s.Value, Timestamp: s.Timestamp})
		}
		v1.Timeseries = append(v1.Timeseries, out)
	}
	raw, err = v1.Marshal()
	if err != nil {
		return nil, fmt.Errorf("encode remote write: %w", err)
	}
	return snappy.Encode(nil, raw), nil
}
