package ingest

import (
	"fmt"
	"math"
	"unsafe"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// Messages are decoded into memory that is used again, and their strings point into
// the body: what Prometheus' own types allocate for a request is garbage of several
// times its size, and was a quarter of the server's memory and a third of its CPU
// under load. What is rare, histograms and exemplars, is decoded by those types.

// field is one field of a protobuf message.
type field struct {
	number protowire.Number
	kind   protowire.Type
	bits   uint64 // of a number
	bytes  []byte // of what has a length
}

// next reads the first field of a message and gives what follows it.
func next(b []byte) (f field, rest []byte, err error) {
	// Nearly all fields have a length, and it and their tag are a byte each.
	if len(b) > 1 && b[0] < 0x80 && b[0]&7 == byte(protowire.BytesType) && b[0] > 7 && b[1] < 0x80 && int(b[1]) <= len(b)-2 {
		end := 2 + int(b[1])
		return field{number: protowire.Number(b[0] >> 3), kind: protowire.BytesType, bytes: b[2:end:end]}, b[end:], nil
	}
	number, kind, n := protowire.ConsumeTag(b)
	if n < 0 {
		return f, nil, protowire.ParseError(n)
	}
	f.number, f.kind, b = number, kind, b[n:]
	switch kind {
	case protowire.VarintType:
		f.bits, n = protowire.ConsumeVarint(b)
	case protowire.Fixed64Type:
		f.bits, n = protowire.ConsumeFixed64(b)
	case protowire.BytesType:
		f.bytes, n = protowire.ConsumeBytes(b)
	default: // none of those that are known
		n = protowire.ConsumeFieldValue(number, kind, b)
	}
	if n < 0 {
		return f, nil, protowire.ParseError(n)
	}
	return f, b[n:], nil
}

// is says whether a field that is known is of its kind.
func (f field) is(kind protowire.Type) error {
	if f.kind != kind {
		return fmt.Errorf("field %d has the wire type %d, want %d", f.number, f.kind, kind)
	}
	return nil
}

// text is a field's bytes as a string that holds as long as they do.
func (f field) text() string { return unsafe.String(unsafe.SliceData(f.bytes), len(f.bytes)) }

// eachField calls see for every field of a message.
func eachField(b []byte, see func(f field) error) error {
	for len(b) > 0 {
		f, rest, err := next(b)
		if err != nil {
			return err
		}
		if err := see(f); err != nil {
			return err
		}
		b = rest
	}
	return nil
}

// part is what of a message's memory belongs to one of its series.
type part struct{ from, to int }

// row is one series of a message: its labels, or references to them, and what it
// brings.
type row struct{ labels, floats, histograms, exemplars part }

// float is a sample of a message.
type float struct {
	t int64
	v float64
}

// decodeFloat reads a sample, which is alike in both protocols.
func decodeFloat(f field) (out float, err error) {
	if err := f.is(protowire.BytesType); err != nil {
		return out, err
	}
	for b := f.bytes; len(b) > 0; {
		var in field
		if in, b, err = next(b); err != nil {
			return out, err
		}
		switch in.number {
		case 1:
			err, out.v = in.is(protowire.Fixed64Type), math.Float64frombits(in.bits)
		case 2:
			err, out.t = in.is(protowire.VarintType), int64(in.bits)
		}
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// unmarshaler is one of Prometheus' types.
type unmarshaler interface{ Unmarshal([]byte) error }

func (m *memory) decodeRare(f field, into unmarshaler, of *shape) error {
	if err := f.is(protowire.BytesType); err != nil {
		return err
	}
	if err := m.weigh(f.bytes, of, of.what, 0); err != nil {
		return err
	}
	return into.Unmarshal(f.bytes)
}

// message1 is remote write 1.0.
// https://prometheus.io/docs/specs/prw/remote_write_spec/
type message1 struct {
	memory
	of         []row
	pairs      []labels.Label
	floats     []float
	histograms []prompb.Histogram
	exemplars  []prompb.Exemplar
}

// decode reads a body of at most so many series, into so much memory; fault.ErrTooLarge
// for one of more.
func (m *message1) decode(raw []byte, series int, memory memory) error {
	m.memory = memory
	m.of, m.pairs, m.floats, m.histograms, m.exemplars = m.of[:0], m.pairs[:0], m.floats[:0], m.histograms[:0], m.exemplars[:0]
	return eachField(raw, func(f field) error {
		if f.number != 1 {
			return nil
		}
		if err := f.is(protowire.BytesType); err != nil {
			return err
		}
		if len(m.of) == series {
			return tooManySeries(series)
		}
		return m.decodeSeries(f.bytes)
	})
}

func tooManySeries(limit int) error {
	return fmt.Errorf("the request has more than the limit of %d series: %w", limit, fault.ErrTooLarge)
}

func (m *message1) decodeSeries(b []byte) (err error) {
	if err := m.take(seriesBytes, "series"); err != nil {
		return err
	}
	s := row{part{from: len(m.pairs)}, part{from: len(m.floats)}, part{from: len(m.histograms)}, part{from: len(m.exemplars)}}
	for len(b) > 0 {
		var f field
		if f, b, err = next(b); err != nil {
			return err
		}
		switch f.number {
		case 1:
			err = m.decodeLabel(f)
		case 2:
			if err = m.take(sampleBytes, "samples"); err != nil {
				return err
			}
			var one float
			one, err = decodeFloat(f)
			m.floats = append(m.floats, one)
		case 3:
			var one prompb.Exemplar
			err = m.decodeRare(f, &one, exemplar1)
			m.exemplars = append(m.exemplars, one)
		case 4:
			var one prompb.Histogram
			err = m.decodeRare(f, &one, histogram1)
			m.histograms = append(m.histograms, one)
		}
		if err != nil {
			return err
		}
	}
	s.labels.to, s.floats.to, s.histograms.to, s.exemplars.to = len(m.pairs), len(m.floats), len(m.histograms), len(m.exemplars)
	m.of = append(m.of, s)
	return nil
}

func (m *message1) decodeLabel(f field) (err error) {
	if err := f.is(protowire.BytesType); err != nil {
		return err
	}
	if err := m.take(labelBytes, "labels"); err != nil {
		return err
	}
	var l labels.Label
	if name, value, ok := shortPair(f.bytes); ok {
		m.pairs = append(m.pairs, labels.Label{Name: name, Value: value})
		return nil
	}
	for b := f.bytes; len(b) > 0; {
		var in field
		if in, b, err = next(b); err != nil {
			return err
		}
		switch in.number {
		case 1:
			err, l.Name = in.is(protowire.BytesType), in.text()
		case 2:
			err, l.Value = in.is(protowire.BytesType), in.text()
		}
		if err != nil {
			return err
		}
	}
	m.pairs = append(m.pairs, l)
	return nil
}

// shortPair reads a label as everybody writes it: a name and a value of less than
// 128 bytes.
func shortPair(b []byte) (name, value string, ok bool) {
	if len(b) < 4 || b[0] != 1<<3|byte(protowire.BytesType) || b[1] >= 0x80 || int(b[1]) > len(b)-4 {
		return "", "", false
	}
	n := 2 + int(b[1])
	if b[n] != 2<<3|byte(protowire.BytesType) || b[n+1] >= 0x80 || int(b[n+1]) != len(b)-n-2 {
		return "", "", false
	}
	return unsafe.String(unsafe.SliceData(b[2:]), n-2), unsafe.String(unsafe.SliceData(b[n+2:]), len(b)-n-2), true
}

// message2 is remote write 2.0.
// https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/
type message2 struct {
	memory
	of         []row
	symbols    []string
	table      []byte // the symbols as they were sent; nil where something stands between them
	refs       []uint32
	floats     []float
	histograms []writev2.Histogram
	exemplars  []writev2.Exemplar
}

// decode is message1's.
func (m *message2) decode(raw []byte, series int, memory memory) error {
	m.memory = memory
	m.of, m.symbols, m.refs, m.floats, m.histograms, m.exemplars = m.of[:0], m.symbols[:0], m.refs[:0], m.floats[:0], m.histograms[:0], m.exemplars[:0]
	from, to, apart := 0, 0, false // where the symbols are
	for b := raw; len(b) > 0; {
		f, rest, err := next(b)
		if err != nil {
			return err
		}
		if f.number == 4 || f.number == 5 {
			if err := f.is(protowire.BytesType); err != nil {
				return err
			}
		}
		switch f.number {
		case 4:
			at := len(raw) - len(b)
			if len(m.symbols) == 0 {
				from = at
			} else {
				apart = apart || at != to
			}
			to = len(raw) - len(rest)
			if err := m.take(symbolBytes, "symbols"); err != nil {
				return err
			}
			m.symbols = append(m.symbols, f.text())
		case 5:
			if len(m.of) == series {
				return tooManySeries(series)
			}
			if err := m.decodeSeries(f.bytes); err != nil {
				return err
			}
		}
		b = rest
	}
	if m.table = raw[from:to]; apart {
		m.table = nil
	}
	return nil
}

func (m *message2) decodeSeries(b []byte) (err error) {
	if err := m.take(seriesBytes, "series"); err != nil {
		return err
	}
	s := row{part{from: len(m.refs)}, part{from: len(m.floats)}, part{from: len(m.histograms)}, part{from: len(m.exemplars)}}
	for len(b) > 0 {
		var f field
		if f, b, err = next(b); err != nil {
			return err
		}
		switch f.number {
		case 1:
			err = m.decodeRefs(f)
		case 2:
			if err = m.take(sampleBytes, "samples"); err != nil {
				return err
			}
			var one float
			one, err = decodeFloat(f)
			m.floats = append(m.floats, one)
		case 3:
			var one writev2.Histogram
			err = m.decodeRare(f, &one, histogram2)
			m.histograms = append(m.histograms, one)
		case 4:
			var one writev2.Exemplar
			err = m.decodeRare(f, &one, exemplar2)
			m.exemplars = append(m.exemplars, one)
		}
		if err != nil {
			return err
		}
	}
	s.labels.to, s.floats.to, s.histograms.to, s.exemplars.to = len(m.refs), len(m.floats), len(m.histograms), len(m.exemplars)
	m.of = append(m.of, s)
	return nil
}

// decodeRefs takes references packed, as they are written, and one by one.
func (m *message2) decodeRefs(f field) error {
	if err := m.take(refBytes*max(1, numbers(f.bytes)), "label references"); err != nil {
		return err
	}
	if f.kind == protowire.VarintType {
		m.refs = append(m.refs, uint32(f.bits))
		return nil
	}
	if err := f.is(protowire.BytesType); err != nil {
		return err
	}
	for b := f.bytes; len(b) > 0; {
		v, n := protowire.ConsumeVarint(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		m.refs, b = append(m.refs, uint32(v)), b[n:]
	}
	return nil
}
