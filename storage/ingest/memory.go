package ingest

import (
	"bytes"
	"context"
	"fmt"
	"time"
	"unsafe"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// A body of a few kilobytes can hold millions of empty messages once it is
// decompressed, each of them a hundred times its two bytes in memory. So what a body
// becomes is counted before it is made, by the sizes that things have in memory
// until the store has them.

// memory is what of the limit of a request is left.
type memory struct {
	limit, left int64
	more        int64        // of the limit, that is there once the request has grown
	grow        func() error // nil once it has
}

func memoryOf(limit int64) memory { return memory{limit: limit, left: limit} }

// take asks for n bytes for a part of the body.
func (m *memory) take(n int, what string) error {
	if m.left -= int64(n); m.left < 0 {
		return m.over(what)
	}
	return nil
}

func (m *memory) over(what string) error {
	if m.grow != nil {
		grow := m.grow
		m.grow = nil
		if err := grow(); err != nil {
			return err
		}
		if m.left, m.more = m.left+m.more, 0; m.left >= 0 {
			return nil
		}
	}
	return fmt.Errorf("the body takes more than the limit of %d bytes of memory when decoded, which its %s exceed; send less in one request: %w", m.limit, what, fault.ErrTooLarge)
}

// used is how much was asked for.
func (m *memory) used() int64 { return m.limit - m.left - m.more }

// smallBytes of memory each request may take: its body as sent, decompressed and decoded. An
// interval of a large node, or eight together, take a third of that. All places full of requests of
// the greatest size would be gigabytes, so those that grow beyond have few places of their own.
const smallBytes = 16 << 20

// memory is what a request may take for decoding its body, which takes so much itself.
func (q *request) memory(ctx context.Context, body int) memory {
	limit := q.i.limits.DecodedBytes
	small := max(0, smallBytes-int64(body))
	if limit <= small {
		return memoryOf(limit)
	}
	return memory{limit: limit, left: small, more: limit - small, grow: func() error { return q.grow(ctx) }}
}

// grow waits for one of the places of large requests, unless this one has it. fault.ErrLimited when it
// gets none in time.
func (q *request) grow(ctx context.Context) error {
	if q.large {
		return nil
	}
	select {
	case q.i.large <- struct{}{}: // one that is free is taken however late it is
		q.large = true
		return nil
	default:
	}
	timer := time.NewTimer(q.i.limits.LargeWait)
	defer timer.Stop()
	select {
	case q.i.large <- struct{}{}:
		q.large = true
		return nil
	case <-timer.C:
	case <-ctx.Done():
	}
	q.c.throttled[throttledLarge].add(1)
	return fmt.Errorf("%d writes that take more than %d MiB of memory are worked on already; send less in one request, or this one again: %w", q.i.limits.LargeRequests, smallBytes>>20, fault.ErrLimited)
}

// shrink gives the place back.
func (q *request) shrink() {
	if q.large {
		<-q.i.large
	}
}

// What is kept of a message until the store has it.
const (
	seriesBytes = int(unsafe.Sizeof(row{}))
	labelBytes  = int(unsafe.Sizeof(labels.Label{}))
	symbolBytes = int(unsafe.Sizeof(""))
	refBytes    = int(unsafe.Sizeof(uint32(0)))
	// A sample is handed to the rollups and to the store's appender besides.
	sampleBytes = int(unsafe.Sizeof(float{})) + 48
)

// shape is what a message becomes in memory when somebody else's types decode it.
type shape struct {
	what   string // in it there is too much of; empty: what that in which it lies says
	bytes  int    // of one, or of one number of a list
	list   bool   // of numbers that take a byte or more as sent, packed or one by one
	fields []member
}

// member is a field of a message whose memory is not just that of its bytes.
type member struct {
	number protowire.Number
	name   string // in JSON, in lower case and without underscores
	of     *shape
}

func (s *shape) field(n protowire.Number) *shape {
	for i := range s.fields {
		if s.fields[i].number == n {
			return s.fields[i].of
		}
	}
	return nil
}

// maxDepth is how deep messages may lie in each other, as protobuf's own decoders
// have it. Those that are used here know no bound but the stack's, at which the
// process ends.
const maxDepth = 100

var errTooDeep = fmt.Errorf("messages lie in each other more than %d deep: %w", maxDepth, fault.ErrMalformed)

// weigh takes what a message of a shape will need.
func (m *memory) weigh(b []byte, of *shape, what string, depth int) error {
	if depth == maxDepth {
		return errTooDeep
	}
	if of.what != "" {
		what = of.what
	}
	if err := m.take(of.bytes, what); err != nil {
		return err
	}
	for len(b) > 0 {
		f, rest, err := next(b)
		if err != nil {
			return err
		}
		b = rest
		in := of.field(f.number)
		switch {
		case in == nil:
			err = m.take(len(f.bytes), what)
		case in.list:
			err = m.take(in.bytes*max(1, numbers(f.bytes)), what)
		case f.kind == protowire.BytesType:
			err = m.weigh(f.bytes, in, what, depth+1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// numbers counts those of a packed list.
func numbers(b []byte) (n int) {
	for _, c := range b {
		if c < 0x80 {
			n++
		}
	}
	return n
}

// weighJSON is weigh of a message in JSON. Of what is no JSON it says nothing: that is
// for who decodes it.
func (m *memory) weighJSON(b []byte, of *shape) error {
	type level struct {
		of   *shape // of the object, or of each element of the list
		list bool
		what string
	}
	var levels [maxDepth]level
	depth, value, what := 0, of, ""
	for i := 0; i < len(b); i++ {
		switch c := b[i]; c {
		case '"':
			end := i + 1
			for ; end < len(b) && b[end] != '"'; end++ {
				if b[end] == '\\' {
					end++
				}
			}
			text := b[i+1 : min(end, len(b))]
			i = end
			// Where there is a text in place of a list or an object, or of one of its names, the
			// decoder goes on within it, though it refuses the body in the end: a comma there has
			// it make one more of whatever it is at.
			if err := m.take(bytes.Count(text, comma)*anything.bytes, what); err != nil {
				return err
			}
			if depth == 0 || levels[depth-1].list {
				if err := m.take(len(text)+jsonBytes, what); err != nil {
					return err
				}
				continue
			}
			if rest := bytes.TrimLeft(b[min(end+1, len(b)):], jsonSpace); len(rest) > 0 && rest[0] == ':' {
				value, i = levels[depth-1].of.named(text), len(b)-len(rest)
			} else if err := m.take(len(text)+jsonBytes, what); err != nil {
				return err
			}
		case '{', '[':
			if depth == maxDepth {
				return errTooDeep
			}
			if value == nil {
				value = nothing
			}
			// An object or a list in place of a number has the decoder lose its place, though it
			// refuses the body in the end: from there on it may take anything for a message.
			inList := depth > 0 && levels[depth-1].list
			if value.list && c == '{' || value == nothing && (c == '{' || inList) || c == '[' && inList {
				value = anything
				if inList {
					levels[depth-1].of = anything
				}
			}
			if value.what != "" {
				what = value.what
			}
			levels[depth] = level{value, c == '[', what}
			depth++
			if c == '{' {
				if err := m.take(value.bytes, what); err != nil {
					return err
				}
			} else if err := m.weighNoObject(b[i+1:], value, what); err != nil {
				return err
			}
		case '}', ']':
			if depth == 0 {
				return nil
			}
			if depth--; depth > 0 {
				what = levels[depth-1].what
			}
		case ',':
			if depth == 0 {
				return nil
			}
			in := levels[depth-1]
			if value = nil; in.list {
				value = in.of
			} else if rest := bytes.TrimLeft(b[i+1:], jsonSpace); len(rest) > 0 && rest[0] != '"' {
				return fmt.Errorf("byte %d is no name of a field: %w", len(b)-len(rest), fault.ErrMalformed)
			}
			if err := m.take(jsonBytes, what); err != nil {
				return err
			}
			if in.list {
				if err := m.weighNoObject(b[i+1:], value, what); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// weighNoObject takes what a list's next element becomes where it is no object: one of null, or of
// what is refused in the end, is made like one of {}.
func (m *memory) weighNoObject(rest []byte, of *shape, what string) error {
	rest = bytes.TrimLeft(rest, jsonSpace)
	if of.list || len(rest) == 0 || rest[0] == '{' || rest[0] == ']' {
		return nil
	}
	return m.take(of.bytes, what)
}

var comma = []byte{','}

const jsonSpace = " \n\r\t"

// jsonBytes is what a number or a string of a list takes, besides the string's text.
const jsonBytes = 16

// named gives the shape of an object's field; nil for one that takes no more than its
// text.
func (s *shape) named(name []byte) *shape {
	if s == anything || bytes.IndexByte(name, '\\') >= 0 {
		return anything // whatever the escapes spell
	}
	for i := range s.fields {
		if sameName(name, s.fields[i].name) {
			return s.fields[i].of
		}
	}
	return nil
}

// sameName says whether a field is meant: JSON may write fooBar and foo_bar.
func sameName(given []byte, name string) bool {
	n := 0
	for _, c := range given {
		if c == '_' {
			continue
		}
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if n == len(name) || name[n] != c {
			return false
		}
		n++
	}
	return n == len(name)
}

// Shapes of what Prometheus' types decode of remote write. A histogram is made twice:
// as it is sent, and as the store takes it.
var (
	histogram1 = histogramShape(int(unsafe.Sizeof(prompb.Histogram{})), int(unsafe.Sizeof(prompb.BucketSpan{})))
	histogram2 = histogramShape(int(unsafe.Sizeof(writev2.Histogram{})), int(unsafe.Sizeof(writev2.BucketSpan{})))
	exemplar1  = &shape{what: "exemplars", bytes: int(unsafe.Sizeof(prompb.Exemplar{})), fields: []member{
		{number: 1, of: &shape{bytes: int(unsafe.Sizeof(prompb.Label{}))}},
	}}
	exemplar2 = &shape{what: "exemplars", bytes: int(unsafe.Sizeof(writev2.Exemplar{})), fields: []member{
		{number: 1, of: &shape{bytes: refBytes, list: true}},
	}}
)

func histogramShape(own, span int) *shape {
	spans := &shape{bytes: span + int(unsafe.Sizeof(histogram.Span{}))}
	deltas := &shape{bytes: 8, list: true}
	return &shape{what: "histograms", bytes: own + int(unsafe.Sizeof(histogram.Histogram{})) + 64, fields: []member{
		{number: 8, of: spans}, {number: 11, of: spans}, {number: 9, of: deltas}, {number: 12, of: deltas},
	}}
}

// Shapes of OTLP's metrics, by the types of the module pdata, which does not let others
// see them: a message in a list of pointers is its size as allocated and 8 bytes.
// https://github.com/open-telemetry/opentelemetry-proto/blob/main/opentelemetry/proto/metrics/v1/metrics.proto
var otlpRequest = otlpShape()

// anything is as much as any one message of OTLP, with more of it inside; nothing is
// what nobody reads.
var anything, nothing = &shape{bytes: 256}, &shape{}

func otlpShape() *shape {
	value := &shape{bytes: 24}
	pair := &shape{bytes: 40, fields: []member{{2, "value", value}}}
	array := &shape{bytes: 40, fields: []member{{1, "values", &shape{bytes: 16 + value.bytes}}}}
	value.fields = []member{
		{5, "arrayvalue", array},
		{6, "kvlistvalue", &shape{bytes: 40, fields: []member{{1, "values", pair}}}},
	}
	array.fields[0].of.fields = value.fields
	numbers := &shape{bytes: 16, list: true}
	exemplar := &shape{what: "exemplars", bytes: 80, fields: []member{{7, "filteredattributes", pair}}}
	points := func(bytes int, fields ...member) []member {
		return []member{{1, "datapoints", &shape{what: "data points", bytes: bytes, fields: fields}}}
	}
	buckets := &shape{fields: []member{{2, "bucketcounts", numbers}}}
	number := &shape{bytes: 40, fields: points(112, member{7, "attributes", pair}, member{5, "exemplars", exemplar})}
	metric := &shape{what: "metrics", bytes: 104, fields: []member{
		{5, "gauge", number}, {7, "sum", number},
		{9, "histogram", &shape{bytes: 40, fields: points(168, member{9, "attributes", pair}, member{8, "exemplars", exemplar})}},
		{10, "exponentialhistogram", &shape{bytes: 40, fields: points(216, member{1, "attributes", pair}, member{8, "positive", buckets}, member{9, "negative", buckets}, member{11, "exemplars", exemplar})}},
		{11, "summary", &shape{bytes: 32, fields: points(104, member{7, "attributes", pair}, member{6, "quantilevalues", &shape{bytes: 24}})}},
		{12, "metadata", pair},
	}}
	scope := &shape{what: "scopes", bytes: 120, fields: []member{
		{1, "scope", &shape{what: "attributes of scopes", fields: []member{{3, "attributes", pair}}}}, {2, "metrics", metric},
	}}
	entity := &shape{bytes: 88, fields: []member{{3, "idkeys", &shape{bytes: 16}}, {4, "descriptionkeys", &shape{bytes: 16}}}}
	resource := &shape{what: "attributes of resources", fields: []member{{1, "attributes", pair}, {3, "entityrefs", entity}}}
	return &shape{fields: []member{{1, "resourcemetrics", &shape{what: "resources", bytes: 136, fields: []member{
		{1, "resource", resource}, {2, "scopemetrics", scope}, {1000, "deprecatedscopemetrics", scope},
	}}}}}
}
