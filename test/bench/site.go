package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/labels"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/crowsnest-dev/crowsnest/collector"
	"github.com/crowsnest-dev/crowsnest/collector/compute"
	"github.com/crowsnest-dev/crowsnest/collector/push"
	"github.com/crowsnest-dev/crowsnest/collector/simulate"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

const (
	siteInterval = 30 * time.Second
	sitePart     = time.Hour // of a stream in one file
	// siteVersion is part of the kept stream's name: another one is computed anew.
	siteVersion = 1
)

// siteEnd is fixed, so that what was computed once is of use later: its time
// stamps are moved when it is sent.
var siteEnd = time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)

// fleet is a simulated site's collectors.
type fleet struct {
	sim  *simulate.Fleet
	read collector.Readings
	comp *compute.Computer
}

// siteOf is a site of so many nodes.
func siteOf(nodes int) simulate.Options {
	return simulate.Options{Nodes: nodes, PodsPerNode: 30, Seed: 4, Churn: simulate.DefaultChurn, Interval: siteInterval}
}

// newFleet makes the collectors of a role of a site whose first interval ends at a time. Of
// families nil is all.
func newFleet(ctx context.Context, role string, o simulate.Options, families []catalogue.Family, first time.Time) (*fleet, error) {
	before := first.Add(-o.Interval)
	o.Now = func() time.Time { return before }
	sim, err := simulate.New(o)
	if err != nil {
		return nil, err
	}
	f := &fleet{sim: sim, read: sim.World().Readings[0], comp: compute.New(compute.Options{Role: role, Sender: wire.Sender(role, ""), Interval: o.Interval, Families: families})}
	f.interval(ctx, before) // so that the first has rates
	return f, nil
}

// interval gives the samples of one grid point by sender.
func (f *fleet) interval(ctx context.Context, at time.Time) map[string][]compute.Sample {
	f.sim.Advance(at)
	snapshot := f.sim.Snapshot()
	bySender := map[string][]compute.Sample{}
	for _, one := range f.comp.Interval(at, f.read.Read(ctx, at, snapshot), snapshot) {
		sender := wire.Sender(wire.RoleCluster, "")
		if node := one.Labels.Get("node"); node != "" {
			sender = wire.Sender(wire.RoleNode, node)
		}
		bySender[sender] = append(bySender[sender], one)
	}
	return bySender
}

// writeRequest is a request of remote write 2.0, not compressed yet.
func writeRequest(samples []compute.Sample, shift time.Duration) ([]byte, error) {
	symbols := writev2.NewSymbolTable()
	req := writev2.Request{Timeseries: make([]writev2.TimeSeries, 0, len(samples))}
	for _, one := range samples {
		ts := writev2.TimeSeries{Samples: []writev2.Sample{{Value: one.V, Timestamp: one.At.Add(shift).UnixMilli()}}}
		ts.LabelsRefs = append(ts.LabelsRefs, symbols.Symbolize(labels.MetricName), symbols.Symbolize(one.Metric))
		one.Labels.Range(func(l labels.Label) {
			ts.LabelsRefs = append(ts.LabelsRefs, symbols.Symbolize(l.Name), symbols.Symbolize(l.Value))
		})
		req.Timeseries = append(req.Timeseries, ts)
	}
	req.Symbols = symbols.Symbols()
	return req.Marshal()
}

// siteBatch is one request of a site's backlog: its body, and behind it where its
// time stamps are.
type siteBatch struct {
	Sender string
	At     int64 // Unix milliseconds, of all its samples
	Offset int64 // in the part's file
	Size   int   // of the body
	Places int   // bytes of the list behind it
	part   int
}

// partIndex is what is kept beside a part's requests.
type partIndex struct {
	Batches []siteBatch
	// Samples by metric and hour (Unix milliseconds): those at its end included,
	// those at its begin not.
	Samples map[string]map[int64]int
}

// site is what the collectors of a simulated site have in their queues.
type site struct {
	parts   []*os.File
	batches map[string][]siteBatch // by sender, oldest first
	samples map[string]map[int64]int
	total   int
	bytes   int64
}

func (s *site) Close() error {
	var errs []error
	for _, f := range s.parts {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// site gives the stream that ends at siteEnd. It is kept in the user's cache
// folder, in parts of an hour: what was broken off goes on with the next part.
func (b *bench) site(ctx context.Context) (_ *site, err error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(cache, "crowsnest-bench", fmt.Sprintf("site-v%d-%d-%s", siteVersion, b.siteNodes, b.siteFor))
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	parts := int((b.siteFor + sitePart - 1) / sitePart)
	indexes := make([]partIndex, parts)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.NumCPU())
	for n := range parts {
		g.Go(func() error {
			from := siteEnd.Add(time.Duration(n)*sitePart - b.siteFor)
			to := from.Add(sitePart)
			if to.After(siteEnd) {
				to = siteEnd
			}
			path := filepath.Join(dir, fmt.Sprintf("part-%02d", n))
			index, err := readIndex(path + ".index")
			if errors.Is(err, fs.ErrNotExist) {
				b.say("computing part %d of %d of %s of a site of %d nodes, once", n+1, parts, b.siteFor, b.siteNodes)
				index, err = writePart(gctx, path, b.siteNodes, from, to)
			}
			indexes[n] = index
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	s := &site{batches: map[string][]siteBatch{}, samples: map[string]map[int64]int{}}
	for n, index := range indexes {
		f, err := os.Open(filepath.Join(dir, fmt.Sprintf("part-%02d.requests", n)))
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		s.parts = append(s.parts, f)
		for _, one := range index.Batches {
			one.part = n
			s.batches[one.Sender] = append(s.batches[one.Sender], one)
			s.bytes += int64(one.Size)
		}
		for metric, hours := range index.Samples {
			if s.samples[metric] == nil {
				s.samples[metric] = map[int64]int{}
			}
			for hour, count := range hours {
				s.samples[metric][hour] += count
				s.total += count
			}
		}
	}
	return s, nil
}

func readIndex(path string) (index partIndex, err error) {
	f, err := os.Open(path)
	if err != nil {
		return index, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := gob.NewDecoder(bufio.NewReader(f)).Decode(&index); err != nil {
		return index, fmt.Errorf("%s: %w; delete it to have it made again", path, err)
	}
	return index, nil
}

// writePart computes [from, to) of a site, and its index last.
func writePart(ctx context.Context, path string, nodes int, from, to time.Time) (index partIndex, err error) {
	f, err := newFleet(ctx, wire.RoleAll, siteOf(nodes), nil, from)
	if err != nil {
		return index, err
	}
	index.Samples = map[string]map[int64]int{}
	err = replaceFile(path+".requests", func(w *bufio.Writer) error {
		var offset int64
		for at := from; at.Before(to); at = at.Add(siteInterval) {
			if err := ctx.Err(); err != nil {
				return err
			}
			hour := hourOf(at.UnixMilli())
			bySender := f.interval(ctx, at)
			for sender, samples := range bySender {
				for _, one := range samples {
					if one.Stale() {
						continue
					}
					if index.Samples[one.Metric] == nil {
						index.Samples[one.Metric] = map[int64]int{}
					}
					index.Samples[one.Metric][hour]++
				}
				raw, err := writeRequest(samples, 0)
				if err != nil {
					return err
				}
				body, places, err := stamped(raw, at.UnixMilli())
				if err != nil {
					return fmt.Errorf("request of %s at %s: %w", sender, at.Format(time.RFC3339), err)
				}
				index.Batches = append(index.Batches, siteBatch{Sender: sender, At: at.UnixMilli(), Offset: offset, Size: len(body), Places: len(places)})
				offset += int64(len(body) + len(places))
				for _, part := range [][]byte{body, places} {
					if _, err := w.Write(part); err != nil {
						return err
					}
				}
			}
		}
		return nil
	})
	if err != nil {
		return index, err
	}
	return index, replaceFile(path+".index", func(w *bufio.Writer) error { return gob.NewEncoder(w).Encode(index) })
}

// replaceFile writes a file under a name of its own first.
func replaceFile(path string, write func(w *bufio.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	if err := errors.Join(write(w), w.Flush(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return os.Rename(f.Name(), path)
}

// read gives a request as it is sent: its samples are later by shift. The memory
// is buf's.
func (s *site) read(one siteBatch, shift time.Duration, buf []byte) (body, memory []byte, err error) {
	buf = slices.Grow(buf[:0], one.Size+one.Places)[:one.Size+one.Places]
	if _, err := s.parts[one.part].ReadAt(buf, one.Offset); err != nil {
		return nil, buf, err
	}
	body = buf[:one.Size]
	return body, buf, restamp(body, buf[one.Size:], one.At+shift.Milliseconds())
}

// together gives the first of a sender's requests, with those behind it that its collector
// sends in the same one, and the times of all but the last of these. The memory is used
// again.
func (s *site) together(joint *push.Together, list []siteBatch, shift time.Duration, memory *[]byte) (body []byte, earlier []time.Time, err error) {
	joint.Reset()
	for n, one := range list {
		if body, *memory, err = s.read(one, shift, *memory); err != nil {
			return nil, nil, err
		}
		ok, err := joint.Add(body)
		if err != nil {
			return nil, nil, err
		}
		if !ok {
			break
		}
		if n > 0 {
			earlier = append(earlier, time.UnixMilli(list[n-1].At).Add(shift))
		}
	}
	return joint.Body(), earlier, nil
}

// stampBytes is how many bytes a time stamp has as a varint, from 2004 to 2109.
const stampBytes = 6

// stamped compresses a request whose samples all have one time as a snappy block
// in which that time can be changed. A time stamp's bytes are literals, listed in
// places, or copies of the same bytes of another one: whatever else snappy found
// to be alike becomes a literal.
func stamped(raw []byte, at int64) (body, places []byte, err error) {
	if n := protowire.SizeVarint(uint64(at)); at < 0 || n != stampBytes {
		return nil, nil, fmt.Errorf("a time stamp of %d bytes", n)
	}
	roles, err := stampRoles(raw, at)
	if err != nil {
		return nil, nil, err
	}
	packed := snappy.Encode(nil, raw)
	_, n := binary.Uvarint(packed)
	body = append(make([]byte, 0, len(packed)+len(packed)/8), packed[:n]...)
	last := 0
	literal := func(from, to int) {
		for i := from; i < to; {
			if roles[i] == 0 {
				i++
				continue
			}
			run := 1
			for i+run < to && roles[i+run] == roles[i]+byte(run) {
				run++
			}
			place := len(body) + i - from
			places = append(binary.AppendUvarint(places, uint64(place-last)), roles[i]<<4|byte(run))
			last = place
			i += run
		}
		body = append(body, raw[from:to]...)
	}
	done := 0 // of raw
	for packed = packed[n:]; len(packed) > 0; {
		tag := packed[0]
		var size, back, head int
		switch tag & 3 {
		case 0:
			size, head = int(tag>>2), 1
			if extra := size - 59; extra > 0 {
				size = 0
				for i := range extra {
					size |= int(packed[1+i]) << (8 * i)
				}
				head += extra
			}
			size++
			body = append(body, packed[:head]...)
			literal(done, done+size)
			done += size
			packed = packed[head+size:]
			continue
		case 1:
			size, back, head = 4+int(tag>>2&7), int(tag>>5)<<8|int(packed[1]), 2
		case 2:
			size, back, head = 1+int(tag>>2), int(binary.LittleEndian.Uint16(packed[1:])), 3
		case 3:
			size, back, head = 1+int(tag>>2), int(binary.LittleEndian.Uint32(packed[1:])), 5
		}
		alike := true
		for i := done; i < done+size; i++ {
			alike = alike && roles[i] == roles[i-back]
		}
		if alike {
			body = append(body, packed[:head]...)
		} else {
			if size <= 60 {
				body = append(body, byte(size-1)<<2)
			} else {
				body = append(body, 60<<2, byte(size-1))
			}
			literal(done, done+size)
		}
		done += size
		packed = packed[head:]
	}
	return body, places, nil
}

// stampRoles says of each byte of a request whether it is part of a time stamp:
// the first of one is 1.
func stampRoles(raw []byte, at int64) ([]byte, error) {
	const timeseries, samples, timestamp = 5, 2, 2 // of Request, TimeSeries, Sample
	roles := make([]byte, len(raw))
	var walk func(from, to int, path []protowire.Number) error
	walk = func(from, to int, path []protowire.Number) error {
		for from < to {
			num, typ, n := protowire.ConsumeTag(raw[from:to])
			if n < 0 {
				return protowire.ParseError(n)
			}
			from += n
			size := protowire.ConsumeFieldValue(num, typ, raw[from:to])
			if size < 0 {
				return protowire.ParseError(size)
			}
			switch {
			case num != path[0]:
			case typ == protowire.BytesType && len(path) > 1:
				inner, n := protowire.ConsumeBytes(raw[from:to])
				if err := walk(from+n-len(inner), from+n, path[1:]); err != nil {
					return err
				}
			case typ == protowire.VarintType && len(path) == 1:
				if v, _ := protowire.ConsumeVarint(raw[from:to]); v != uint64(at) {
					return fmt.Errorf("a sample of %d among those of %d", v, at)
				}
				for i := range size {
					roles[from+i] = byte(i + 1)
				}
			}
			from += size
		}
		return nil
	}
	return roles, walk(0, len(raw), []protowire.Number{timeseries, samples, timestamp})
}

// restamp gives all samples of a compressed request another time.
func restamp(body, places []byte, at int64) error {
	var stamp [binary.MaxVarintLen64]byte
	if n := binary.PutUvarint(stamp[:], uint64(at)); n != stampBytes {
		return fmt.Errorf("a time stamp of %d bytes", n)
	}
	place := 0
	for len(places) > 0 {
		d, n := binary.Uvarint(places)
		if n <= 0 || n >= len(places) {
			return errors.New("the list of time stamps is damaged")
		}
		place += int(d)
		first, run := int(places[n]>>4)-1, int(places[n]&15)
		if first < 0 || first+run > stampBytes || place+run > len(body) {
			return errors.New("the list of time stamps is damaged")
		}
		copy(body[place:], stamp[first:first+run])
		places = places[n+1:]
	}
	return nil
}

// edgeStream computes what edgeBacklog sends and measures nothing.
func edgeStream(ctx context.Context, b *bench) ([]Result, error) {
	s, err := b.site(ctx)
	if err != nil {
		return nil, err
	}
	b.say("%d samples in %d requests of %.0f MiB", s.total, s.requests(), float64(s.bytes)/mib)
	return nil, s.Close()
}

func (s *site) requests() (n int) {
	for _, list := range s.batches {
		n += len(list)
	}
	return n
}
