package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"

	"github.com/crowsnest-dev/crowsnest/collector/compute"
	"github.com/crowsnest-dev/crowsnest/collector/simulate"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

// benchCluster is the label that the stream has, and what our token stands for.
const (
	benchCluster = "bench"
	benchToken   = "bench-token-of-this-run-only-0123456789"
)

// stream is a file of remote write 1.0 requests, as the node collectors of a
// simulated cluster send them: one a node and interval, each behind its length.
type stream struct {
	path     string
	requests int
	samples  int
	series   int // different ones, those of replaced pods included
	active   int // in the last interval
	bytes    int64
	from, to time.Time
	interval time.Duration
	of       []mark // by request
}

// mark says whose a request is, and up to when it is complete.
type mark struct {
	node string // empty for what is of the cluster
	at   time.Time
}

// requests writes a stream's file.
type requests struct{ *bufio.Writer }

func newRequests(w io.Writer) requests { return requests{bufio.NewWriterSize(w, 1<<20)} }

// put writes one request and gives its compressed size.
func (w requests) put(req *prompb.WriteRequest) (int, error) {
	raw, err := req.Marshal()
	if err != nil {
		return 0, err
	}
	body := snappy.Encode(nil, raw)
	if _, err := w.Write(binary.BigEndian.AppendUint32(nil, uint32(len(body)))); err != nil {
		return 0, err
	}
	return w.Write(body)
}

// writeStream computes [from, to) by the collector's own code. wanted says which
// metrics are in it; nil is all.
func writeStream(ctx context.Context, path string, o simulate.Options, from, to time.Time, wanted func(metric string) bool) (_ *stream, err error) {
	if o.Now == nil { // a fleet does not go back from where it begins
		o.Now = func() time.Time { return from }
	}
	fleet, err := simulate.New(o)
	if err != nil {
		return nil, err
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := newRequests(f)
	s := &stream{path: path, from: from, to: to, interval: o.Interval}
	comp := compute.New(compute.Options{Role: wire.RoleAll, Sender: wire.Sender(wire.RoleAll, ""), Interval: o.Interval})
	read := fleet.World().Readings[0]
	known := map[uint64]struct{}{}
	b := labels.NewScratchBuilder(12)
	for at := from; at.Before(to); at = at.Add(o.Interval) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		fleet.Advance(at)
		snapshot := fleet.Snapshot()
		samples := comp.Interval(at, read.Read(ctx, at, snapshot), snapshot)
		if wanted != nil {
			samples = slices.DeleteFunc(samples, func(one compute.Sample) bool { return !wanted(one.Metric) })
		}
		slices.SortStableFunc(samples, func(x, y compute.Sample) int { return cmp.Compare(x.Labels.Get("node"), y.Labels.Get("node")) })
		s.active = len(samples)
		for len(samples) > 0 {
			node := samples[0].Labels.Get("node")
			n := 1
			for n < len(samples) && samples[n].Labels.Get("node") == node {
				n++
			}
			var req prompb.WriteRequest
			for _, one := range samples[:n] {
				b.Reset()
				b.Add(labels.MetricName, one.Metric)
				b.Add("cluster", benchCluster)
				one.Labels.Range(func(l labels.Label) { b.Add(l.Name, l.Value) })
				b.Sort()
				lset := b.Labels()
				known[lset.Hash()] = struct{}{}
				req.Timeseries = append(req.Timeseries, prompb.TimeSeries{
					Labels: prompb.FromLabels(lset, nil), Samples: []prompb.Sample{{Value: one.V, Timestamp: one.At.UnixMilli()}},
				})
			}
			size, err := w.put(&req)
			if err != nil {
				return nil, err
			}
			s.of = append(s.of, mark{node, at})
			s.requests++
			s.samples += n
			s.bytes += int64(size)
			samples = samples[n:]
		}
	}
	s.series = len(known)
	return s, w.Flush()
}

// decoded gives every request, decoded.
func (s *stream) decoded(see func(req *prompb.WriteRequest) error) error {
	return s.replay(func(body []byte) error {
		raw, err := snappy.Decode(nil, body)
		if err != nil {
			return err
		}
		var req prompb.WriteRequest
		if err := req.Unmarshal(raw); err != nil {
			return err
		}
		return see(&req)
	})
}

// replay gives every request to send.
func (s *stream) replay(send func(body []byte) error) (err error) {
	f, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	r := bufio.NewReaderSize(f, 1<<20)
	var head [4]byte
	var body []byte
	for n := range s.requests {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return fmt.Errorf("request %d of the stream: %w", n, err)
		}
		size := int(binary.BigEndian.Uint32(head[:]))
		body = slices.Grow(body[:0], size)[:size]
		if _, err := io.ReadFull(r, body); err != nil {
			return fmt.Errorf("request %d of the stream: %w", n, err)
		}
		if err := send(body); err != nil {
			return err
		}
	}
	return nil
}

// awaitListening waits until the program answers queries.
func awaitListening(ctx context.Context, p *testbed.Process, url string) error {
	return testbed.Await(ctx, 2*time.Minute, 100*time.Millisecond, func(ctx context.Context) error {
		select {
		case <-p.Done():
			return fmt.Errorf("%s ended\n%s", p.Name, p.Tail(20))
		default:
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/api/v1/query?query=1", nil)
		if err != nil {
			return err
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("%s says %s", p.Name, res.Status)
		}
		return nil
	})
}

// sendWrite sends a request of remote write 1.0, with further headers.
func sendWrite(ctx context.Context, client *http.Client, url string, body []byte, further ...[2]string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+wire.PathMetrics, bytes.NewReader(body))
	if err != nil {
		return err
	}
	for k, v := range map[string]string{
		"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy", "X-Prometheus-Remote-Write-Version": "0.1.0", "Authorization": "Bearer " + benchToken,
	} {
		req.Header.Set(k, v)
	}
	for _, h := range further {
		req.Header.Set(h[0], h[1])
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 1<<10))
	if err != nil {
		return err
	}
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("%s: %s", res.Status, text)
	}
	return nil
}
