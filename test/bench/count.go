package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

const (
	countedAtOnce = 6                // hours of a metric, by one query
	sayEvery      = 15 * time.Second // how far the counting is
)

// tally is how many samples each series has in each hour: those at its end
// included, those at its begin not. Series are told by the hash of their labels
// without the cluster's.
type tally map[uint64]map[int64]int

func (t tally) add(series uint64, hour int64, n int) {
	if t[series] == nil {
		t[series] = map[int64]int{}
	}
	t[series][hour] += n
}

// hourOf gives the end of the hour that a time is in, both Unix milliseconds.
func hourOf(at int64) int64 {
	return time.UnixMilli(at).Add(time.Hour - 1).Truncate(time.Hour).UnixMilli()
}

// sent counts what the site's requests hold, by metric. It reads them all.
func (s *site) sent(ctx context.Context, say func(string, ...any)) (map[string]tally, error) {
	var mu sync.Mutex
	all := map[string]tally{}
	byPart := make([]map[string][]siteBatch, len(s.parts))
	for sender, list := range s.batches {
		for _, one := range list {
			if byPart[one.part] == nil {
				byPart[one.part] = map[string][]siteBatch{}
			}
			byPart[one.part][sender] = append(byPart[one.part][sender], one)
		}
	}
	var done atomic.Int64
	stop := every(sayEvery, func() { say("%d of %d parts of what was sent are counted", done.Load(), len(byPart)) })
	defer stop()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.NumCPU())
	for _, bySender := range byPart {
		g.Go(func() error {
			for _, list := range bySender {
				// A sender's series: what it calls them by changes seldom.
				one := counter{hours: map[int64]map[string]int{}}
				for _, request := range list {
					if err := ctx.Err(); err != nil {
						return err
					}
					if err := one.take(s, request); err != nil {
						return fmt.Errorf("request of %s at %s: %w", request.Sender, time.UnixMilli(request.At).UTC().Format(time.RFC3339), err)
					}
				}
				if err := one.flush(); err != nil {
					return err
				}
				mu.Lock()
				for _, c := range one.done {
					if all[c.metric] == nil {
						all[c.metric] = tally{}
					}
					all[c.metric].add(c.series, c.hour, c.n)
				}
				mu.Unlock()
			}
			done.Add(1)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return all, nil
}

// counter counts the series of requests that one sender makes one after the other.
type counter struct {
	packed, raw []byte
	table       []byte                   // the symbols as the last request had them
	symbols     []string                 // the same, read
	hours       map[int64]map[string]int // samples by references to these
	done        []counted
}

type counted struct {
	metric string
	series uint64
	hour   int64
	n      int
}

// take counts one request.
func (c *counter) take(s *site, one siteBatch) (err error) {
	c.packed = slices.Grow(c.packed[:0], one.Size)[:one.Size]
	if _, err := s.parts[one.part].ReadAt(c.packed, one.Offset); err != nil {
		return err
	}
	if c.raw, err = snappy.Decode(c.raw[:cap(c.raw)], c.packed); err != nil {
		return err
	}
	// All symbols come before the first series, so that they are seen in one pass.
	const symbols, timeseries = 4, 5 // of Request
	from := bytesField(symbols)
	series := c.raw
	for len(series) > 0 && series[0] == from {
		_, n := protowire.ConsumeBytes(series[1:])
		if n < 0 {
			return protowire.ParseError(n)
		}
		series = series[1+n:]
	}
	if table := c.raw[:len(c.raw)-len(series)]; !bytes.Equal(table, c.table) {
		if err := c.flush(); err != nil {
			return err
		}
		c.table, c.symbols = append(c.table[:0], table...), c.symbols[:0]
		for rest := c.table; len(rest) > 0; {
			text, n := protowire.ConsumeBytes(rest[1:])
			c.symbols, rest = append(c.symbols, string(text)), rest[1+n:]
		}
	}
	hour := hourOf(one.At)
	if c.hours[hour] == nil {
		c.hours[hour] = map[string]int{}
	}
	counts := c.hours[hour]
	for len(series) > 0 {
		if series[0] != bytesField(timeseries) {
			return fmt.Errorf("a field of tag %d among the series", series[0])
		}
		body, n := protowire.ConsumeBytes(series[1:])
		if n < 0 {
			return protowire.ParseError(n)
		}
		series = series[1+n:]
		refs, samples, err := rowOf(body)
		if err != nil {
			return err
		}
		if samples > 0 {
			counts[string(refs)] += samples
		}
	}
	return nil
}

func bytesField(n byte) byte { return n<<3 | byte(protowire.BytesType) }

// rowOf gives a series' references to symbols and how many samples it has that are
// no stale markers.
func rowOf(body []byte) (refs []byte, samples int, err error) {
	const refsField, samplesField, valueField = 1, 2, 1 // of TimeSeries, Sample
	err = eachField(body, func(num protowire.Number, typ protowire.Type, field []byte) error {
		switch {
		case num == refsField && typ == protowire.BytesType:
			refs = field
		case num == samplesField && typ == protowire.BytesType:
			v := 0.0 // which is not written
			if err := eachField(field, func(num protowire.Number, typ protowire.Type, field []byte) error {
				if num == valueField && typ == protowire.Fixed64Type {
					bits, _ := protowire.ConsumeFixed64(field)
					v = math.Float64frombits(bits)
				}
				return nil
			}); err != nil {
				return err
			}
			if !value.IsStaleNaN(v) {
				samples++
			}
		}
		return nil
	})
	return refs, samples, err
}

// eachField visits the fields of a message; bytes come without their length.
func eachField(body []byte, visit func(num protowire.Number, typ protowire.Type, field []byte) error) error {
	for len(body) > 0 {
		num, typ, n := protowire.ConsumeTag(body)
		if n < 0 {
			return protowire.ParseError(n)
		}
		body = body[n:]
		size := protowire.ConsumeFieldValue(num, typ, body)
		if size < 0 {
			return protowire.ParseError(size)
		}
		field := body[:size]
		if typ == protowire.BytesType {
			field, _ = protowire.ConsumeBytes(field)
		}
		if err := visit(num, typ, field); err != nil {
			return err
		}
		body = body[size:]
	}
	return nil
}

// flush names what was counted by references, which mean something else from now on.
func (c *counter) flush() error {
	b := labels.NewScratchBuilder(16)
	for hour, counts := range c.hours {
		for refs, n := range counts {
			b.Reset()
			metric := ""
			for rest := []byte(refs); len(rest) > 0; {
				name, taken := protowire.ConsumeVarint(rest)
				if taken < 0 {
					return protowire.ParseError(taken)
				}
				v, more := protowire.ConsumeVarint(rest[taken:])
				if more < 0 {
					return protowire.ParseError(more)
				}
				if max(name, v) >= uint64(len(c.symbols)) {
					return errors.New("a series refers to a symbol that there is not")
				}
				if c.symbols[name] == labels.MetricName {
					metric = c.symbols[v]
				}
				b.Add(c.symbols[name], c.symbols[v])
				rest = rest[taken+more:]
			}
			b.Sort()
			c.done = append(c.done, counted{metric, b.Labels().Hash(), hour, n})
		}
	}
	clear(c.hours)
	return nil
}

// compare counts what the server has of each series and hour, by several queries at a
// time, against what was sent.
func (s *site) compare(ctx context.Context, server *testbed.Server, shift time.Duration, say func(string, ...any)) (lost, twice int, err error) {
	sent, err := s.sent(ctx, say)
	if err != nil {
		return 0, 0, err
	}
	type query struct {
		metric   string
		from, to int64 // ends of hours
	}
	var queries []query
	for _, metric := range slices.Sorted(maps.Keys(s.samples)) {
		hours := slices.Sorted(maps.Keys(s.samples[metric]))
		step := int64(countedAtOnce * time.Hour / time.Millisecond)
		for from := hours[0]; from <= hours[len(hours)-1]; from += step {
			queries = append(queries, query{metric, from, min(from+step-time.Hour.Milliseconds(), hours[len(hours)-1])})
		}
	}
	var mu sync.Mutex
	var done int
	stop := every(sayEvery, func() {
		mu.Lock()
		defer mu.Unlock()
		say("%d of %d queries asked what the server has: %d samples lost, %d twice", done, len(queries), lost, twice)
	})
	defer stop()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.NumCPU())
	for _, q := range queries {
		g.Go(func() error {
			answer, err := server.Range(ctx, fmt.Sprintf("count_over_time(%s{cluster=%q}[1h])", q.metric, benchCluster),
				time.UnixMilli(q.from).Add(shift), time.UnixMilli(q.to).Add(shift), time.Hour)
			if err != nil {
				return err
			}
			has := tally{}
			for _, one := range answer {
				one.Labels[labels.MetricName] = q.metric
				delete(one.Labels, "cluster")
				key := labels.FromMap(one.Labels).Hash()
				for _, p := range one.Points {
					has.add(key, p.At.Add(-shift).UnixMilli(), int(p.V))
				}
			}
			l, t := differences(sent[q.metric], has, q.from, q.to)
			mu.Lock()
			defer mu.Unlock()
			lost, twice, done = lost+l, twice+t, done+1
			return nil
		})
	}
	err = g.Wait() // before lost and twice are read
	return lost, twice, err
}

// differences gives how many samples of the hours are missing, and how many there are
// that were not sent, series by series: one that has too many makes up for no other.
func differences(sent, has tally, from, to int64) (lost, twice int) {
	for key, hours := range sent {
		for hour, want := range hours {
			if hour >= from && hour <= to {
				lost += max(0, want-has[key][hour])
			}
		}
	}
	for key, hours := range has {
		for hour, got := range hours {
			twice += max(0, got-sent[key][hour])
		}
	}
	return lost, twice
}

// every calls something now and then until stop has returned.
func every(d time.Duration, call func()) (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(d)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
				call()
			}
		}
	}()
	return func() {
		close(end)
		<-ended
	}
}
