package push

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/klauspost/compress/snappy"
	"google.golang.org/protobuf/encoding/protowire"
)

const (
	// maxTogether batches of a backlog are sent as one request. A server looks each
	// series up once for all its samples then, and starts few of the lists that it makes
	// of late ones; beyond some eight that saves no more, and others wait for longer.
	maxTogether = 8
	// maxTogetherBytes bounds such a request before compression, about.
	maxTogetherBytes = 2 << 20
)

// Fields of remote write 2.0.
const (
	fieldSymbols    = 4
	fieldTimeseries = 5
	fieldLabelRefs  = 1 // of a time series
	fieldSamples    = 2
	fieldMetadata   = 5
)

var errUnlike = errors.New("not a request as it is sealed here")

// Together makes one request of several: each series is in it once, with the samples of
// all of them in the order in which they were added. What a node sends is the same series
// time and again, so its names are sent, and looked up, once.
type Together struct {
	raws   [][]byte // decompressed, kept for their memory; the first count are in use
	count  int
	size   int               // of the request, about
	known  map[string]uint32 // symbols, by their number
	table  []byte            // the symbols as they are sent
	series []joined
	byRefs map[string]int // place in series
	parts  []part

	like []byte   // the symbols of the request that was added last, as it had them
	same bool     // its references are the same here
	to   []uint32 // what they are here
	refs []byte   // of translate
}

// joined is a series with what the requests have of it.
type joined struct {
	refs        []byte // packed
	meta        []byte // the field as it was sent first
	first, last int    // in parts
}

// part is samples of a series in one request: fields as they were sent.
type part struct {
	fields []byte
	next   int // in parts; 0 for none
}

// Reset forgets what was added.
func (t *Together) Reset() {
	t.count, t.size, t.table, t.series, t.parts = 0, 0, t.table[:0], t.series[:0], append(t.parts[:0], part{})
	if t.known == nil {
		t.known, t.byRefs = map[string]uint32{}, map[string]int{}
	}
	clear(t.known)
	clear(t.byRefs)
}

// Add adds a request, and says whether it did: not when there are enough already. After
// an error the whole is not to be used.
func (t *Together) Add(body []byte) (ok bool, err error) {
	n, err := snappy.DecodedLen(body)
	if err != nil {
		return false, fmt.Errorf("decode sealed batch: %w", err)
	}
	if t.count > 0 && (t.count == maxTogether || t.size+n > maxTogetherBytes) {
		return false, nil
	}
	if t.count == len(t.raws) {
		t.raws = append(t.raws, nil)
	}
	raw, err := snappy.Decode(t.raws[t.count][:cap(t.raws[t.count])], body)
	if err != nil {
		return false, fmt.Errorf("decode sealed batch: %w", err)
	}
	t.raws[t.count] = raw
	t.count++
	if err := t.add(raw); err != nil {
		return false, fmt.Errorf("decode sealed batch: %w", err)
	}
	return true, nil
}

func (t *Together) add(raw []byte) error {
	table, rest, err := symbolsOf(raw)
	if err != nil {
		return err
	}
	if t.count == 1 || !bytes.Equal(table, t.like) {
		t.like, t.same, t.to = table, t.count == 1, t.to[:0]
		if err := t.learn(table); err != nil {
			return err
		}
	}
	next := 0 // a request has the series in the order of the one before, mostly
	for len(rest) > 0 {
		f, n, err := fieldOf(rest)
		if err != nil {
			return err
		}
		rest = rest[n:]
		if f.number != fieldTimeseries {
			return errUnlike
		}
		if next, err = t.addSeries(f.bytes, next); err != nil {
			return err
		}
	}
	return nil
}

// symbolsOf gives the symbols of a request, which come first, and what follows them.
func symbolsOf(raw []byte) (table, rest []byte, err error) {
	rest = raw
	for len(rest) > 0 {
		f, n, err := fieldOf(rest)
		if err != nil {
			return nil, nil, err
		}
		if f.number != fieldSymbols {
			break
		}
		rest = rest[n:]
	}
	return raw[:len(raw)-len(rest)], rest, nil
}

// learn gives each symbol of a table its number here.
func (t *Together) learn(table []byte) error {
	for len(table) > 0 {
		f, n, err := fieldOf(table)
		if err != nil {
			return err
		}
		number, known := t.known[string(f.bytes)]
		if !known {
			number = uint32(len(t.known))
			t.known[string(f.bytes)] = number
			t.table = append(t.table, table[:n]...)
			t.size += n
		} else if t.same {
			return errUnlike // one is there twice, and those behind it have other numbers here
		}
		t.to = append(t.to, number)
		table = table[n:]
	}
	return nil
}

// addSeries adds a series of a request, which is likely to be the next one here, and
// gives the place of the one after it.
func (t *Together) addSeries(b []byte, next int) (after int, err error) {
	var refs, meta, samples []byte
	for len(b) > 0 {
		f, n, err := fieldOf(b)
		if err != nil {
			return 0, err
		}
		switch f.number {
		case fieldLabelRefs:
			if refs != nil {
				return 0, errUnlike
			}
			refs = f.bytes
		case fieldMetadata:
			meta = b[:n]
		case fieldSamples:
			if samples == nil {
				samples = b[:n:n]
			} else {
				samples = append(samples, b[:n]...)
			}
		default:
			return 0, errUnlike
		}
		b = b[n:]
	}
	if refs == nil || samples == nil {
		return 0, errUnlike
	}
	if !t.same {
		if refs, err = t.translate(refs); err != nil {
			return 0, err
		}
	}
	t.parts = append(t.parts, part{fields: samples})
	mine := len(t.parts) - 1
	t.size += len(samples)
	if next >= len(t.series) || !bytes.Equal(t.series[next].refs, refs) {
		known := false
		if next, known = t.byRefs[string(refs)]; !known {
			if !t.same {
				refs = bytes.Clone(refs)
			}
			t.byRefs[string(refs)] = len(t.series)
			t.series = append(t.series, joined{refs: refs, meta: meta, first: mine, last: mine})
			t.size += len(refs) + len(meta) + 8
			return len(t.series), nil
		}
	}
	s := &t.series[next]
	t.parts[s.last].next, s.last = mine, mine
	return next + 1, nil
}

// translate gives references of the request that is added as those here, until it is
// called again.
func (t *Together) translate(refs []byte) ([]byte, error) {
	t.refs = t.refs[:0]
	for len(refs) > 0 {
		v, n := protowire.ConsumeVarint(refs)
		if n < 0 || v >= uint64(len(t.to)) {
			return nil, errUnlike
		}
		refs = refs[n:]
		t.refs = protowire.AppendVarint(t.refs, uint64(t.to[v]))
	}
	return t.refs, nil
}

// Body gives the request, compressed.
func (t *Together) Body() []byte {
	raw := append(make([]byte, 0, t.size+t.size/8), t.table...)
	for _, s := range t.series {
		size := protowire.SizeTag(fieldLabelRefs) + protowire.SizeBytes(len(s.refs)) + len(s.meta)
		for i := s.first; i != 0; i = t.parts[i].next {
			size += len(t.parts[i].fields)
		}
		raw = protowire.AppendTag(raw, fieldTimeseries, protowire.BytesType)
		raw = protowire.AppendVarint(raw, uint64(size))
		raw = protowire.AppendTag(raw, fieldLabelRefs, protowire.BytesType)
		raw = protowire.AppendBytes(raw, s.refs)
		for i := s.first; i != 0; i = t.parts[i].next {
			raw = append(raw, t.parts[i].fields...)
		}
		raw = append(raw, s.meta...)
	}
	return snappy.Encode(nil, raw)
}

// field is one with a length, as all are here.
type field struct {
	number protowire.Number
	bytes  []byte
}

// fieldOf reads the first field of a message, and says how long it is.
func fieldOf(b []byte) (f field, n int, err error) {
	number, kind, n := protowire.ConsumeTag(b)
	if n < 0 {
		return f, 0, protowire.ParseError(n)
	}
	if kind != protowire.BytesType {
		return f, 0, errUnlike
	}
	in, m := protowire.ConsumeBytes(b[n:])
	if m < 0 {
		return f, 0, protowire.ParseError(m)
	}
	return field{number, in}, n + m, nil
}
