package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// A batch of log lines travels in a form of its own, since writing and reading
// JSON was the largest cost of a line. After logMagic come, in this order:
//
//	sender, id                                  strings: length, bytes
//	number of marks, each: node, through        zigzag varint
//	number of groups, each:
//	  namespace, pod, container, stream, workload_type, workload, node
//	  number of lines, each:
//	    time                                    zigzag varint, less the time of the line before
//	    message
//	    number of fields, each:
//	      name                                  its number; one more than are known: the name follows
//	      value
//
// A batch of somebody who shares containers with others begins with logMagicShared,
// has part and parts with each mark, and ends with the
//
//	number of positions, each: key, namespace, pod, container, from, taken, state
//
// Numbers are varints (encoding/binary). Names are numbered in the order in which
// they come in the batch, from 1. Strings are UTF-8; the reader replaces what is not.

// LogBatchType is the media type of a batch in this form.
const LogBatchType = "application/vnd.crowsnest.logs.v1"

// What begins a batch; JSON cannot.
const (
	logMagic       = "\x00CNL1"
	logMagicShared = "\x00CNL2" // as long
)

// shared says whether the batch needs more than logMagic has.
func (b *LogBatch) shared() bool {
	return len(b.Positions) > 0 || slices.ContainsFunc(b.Complete, func(m LogMark) bool { return m.Parts != 0 })
}

// appendLogBatch appends the batch.
func appendLogBatch(dst []byte, b *LogBatch) []byte {
	shared := b.shared()
	if shared {
		dst = append(dst, logMagicShared...)
	} else {
		dst = append(dst, logMagic...)
	}
	dst = appendText(dst, b.Sender)
	dst = appendText(dst, b.ID)
	dst = binary.AppendUvarint(dst, uint64(len(b.Complete)))
	for _, m := range b.Complete {
		dst = binary.AppendVarint(appendText(dst, m.Node), m.Through)
		if shared {
			dst = binary.AppendUvarint(binary.AppendUvarint(dst, uint64(m.Part)), m.Parts)
		}
	}
	dst = binary.AppendUvarint(dst, uint64(len(b.Groups)))
	names := map[string]uint64{}
	// Lines have mostly the names of the line before, in the same order.
	var before []nameNumber
	for _, g := range b.Groups {
		for _, s := range g.Stream.parts() {
			dst = appendText(dst, *s)
		}
		dst = binary.AppendUvarint(dst, uint64(len(g.Lines)))
		at := int64(0)
		for i := range g.Lines {
			l := &g.Lines[i]
			dst = binary.AppendVarint(dst, l.Time-at)
			at = l.Time
			dst = appendText(dst, l.Message)
			dst = binary.AppendUvarint(dst, uint64(len(l.Fields)))
			for k, f := range l.Fields {
				if k < len(before) && before[k].name == f.Name {
					dst = binary.AppendUvarint(dst, before[k].number)
				} else {
					n, known := names[f.Name]
					if !known {
						n = uint64(len(names) + 1)
						names[f.Name] = n
					}
					dst = binary.AppendUvarint(dst, n)
					if !known {
						dst = appendText(dst, f.Name)
					}
					if k == len(before) {
						before = append(before, nameNumber{})
					}
					if k < len(before) {
						before[k] = nameNumber{f.Name, n}
					}
				}
				dst = appendText(dst, f.Value)
			}
		}
	}
	if shared {
		dst = binary.AppendUvarint(dst, uint64(len(b.Positions)))
		for i := range b.Positions {
			p := &b.Positions[i]
			for _, s := range p.parts() {
				dst = appendText(dst, *s)
			}
			dst = binary.AppendVarint(binary.AppendVarint(dst, p.From), p.Taken)
			dst = appendText(dst, p.State)
		}
	}
	return dst
}

// encodedSize is a little more than what the batch takes.
func encodedSize(b *LogBatch) int {
	n := 1<<10 + 1<<10*len(b.Positions)
	for i := range b.Groups {
		n += 512 + 16*len(b.Groups[i].Lines)
		for k := range b.Groups[i].Lines {
			l := &b.Groups[i].Lines[k]
			n += len(l.Message)
			for j := range l.Fields {
				n += len(l.Fields[j].Value) + 4
			}
		}
	}
	return n
}

type nameNumber struct {
	name   string
	number uint64
}

// parts are the strings of a stream, in the order of the wire.
func (s *LogStream) parts() [7]*string {
	return [...]*string{&s.Namespace, &s.Pod, &s.Container, &s.Stream, &s.WorkloadType, &s.Workload, &s.Node}
}

// parts are the strings of a source, in the order of the wire.
func (s *LogSource) parts() [4]*string {
	return [...]*string{&s.Key, &s.Namespace, &s.Pod, &s.Container}
}

func appendText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

var errLogBatch = errors.New("the batch is cut off or damaged")

// logReader reads a batch; after an error all it gives is zero.
type logReader struct {
	s      string
	i      int
	odd    bool // what is not UTF-8 has to be looked for
	err    error
	names  []string
	seen   []int      // by the number of a name: the line that had it last
	lines  int        // read so far
	given  int        // fields read so far
	fields []LogField // room for the next ones
}

// readLogBatch reads what appendLogBatch wrote. Nothing is allocated for a number
// that the body only claims.
func readLogBatch(body string) (b LogBatch, err error) {
	r := &logReader{s: body, i: len(logMagic), odd: !utf8.ValidString(body[len(logMagic):])}
	shared := strings.HasPrefix(body, logMagicShared)
	b.Sender, b.ID = strings.Clone(r.text()), strings.Clone(r.text())
	for range r.count(2) {
		m := LogMark{Node: strings.Clone(r.text()), Through: r.signed()}
		if shared {
			m.Part, m.Parts = int(r.number()), r.number()
		}
		b.Complete = append(b.Complete, m)
	}
	for range r.count(8) {
		var g LogGroup
		for _, s := range g.Stream.parts() {
			*s = strings.Clone(r.text())
		}
		n := r.count(3)
		if r.lines+n > MaxLogBatchLines {
			return b, fmt.Errorf("more than %d lines", MaxLogBatchLines)
		}
		if n > 0 {
			g.Lines = make([]LogLine, 0, n)
		}
		at := int64(0)
		for range n {
			at += r.signed()
			r.lines++
			g.Lines = append(g.Lines, LogLine{Time: at, Message: r.text(), Fields: r.lineFields()})
			if r.err != nil {
				return b, r.err
			}
		}
		b.Groups = append(b.Groups, g)
		if r.err != nil {
			return b, r.err
		}
	}
	if shared {
		for range r.count(7) {
			var p LogPosition
			for _, s := range p.parts() {
				*s = strings.Clone(r.text())
			}
			p.From, p.Taken, p.State = r.signed(), r.signed(), strings.Clone(r.text())
			b.Positions = append(b.Positions, p)
		}
	}
	if r.err == nil && r.i != len(r.s) {
		r.err = fmt.Errorf("%d bytes follow the batch", len(r.s)-r.i)
	}
	return b, r.err
}

func (r *logReader) fail() {
	if r.err == nil {
		r.err = errLogBatch
	}
	r.i = len(r.s)
}

func (r *logReader) number() uint64 {
	// encoding/binary reads bytes only.
	n := uint64(0)
	for shift := 0; shift < 64 && r.i < len(r.s); shift += 7 {
		c := r.s[r.i]
		r.i++
		n |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return n
		}
	}
	r.fail()
	return 0
}

func (r *logReader) signed() int64 {
	n := r.number()
	return int64(n>>1) ^ -int64(n&1)
}

// count reads the number of things that follow, each of at least so many bytes.
func (r *logReader) count(least int) int {
	n := r.number()
	if n > uint64((len(r.s)-r.i)/least) {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *logReader) text() string {
	n := r.number()
	if n > uint64(len(r.s)-r.i) {
		r.fail()
		return ""
	}
	s := r.s[r.i : r.i+int(n)]
	r.i += int(n)
	if r.odd && !utf8.ValidString(s) {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	return s
}

const (
	// fieldsAtOnce is how many fields are allocated together.
	fieldsAtOnce = 1024
	// maxBatchFields bounds what a body of two bytes a field would become.
	maxBatchFields = 2_000_000
)

func (r *logReader) lineFields() LogFields {
	n := r.count(2)
	if n == 0 {
		return nil
	}
	if r.given += n; r.given > maxBatchFields {
		r.err = fmt.Errorf("more than %d fields", maxBatchFields)
		return nil
	}
	if cap(r.fields)-len(r.fields) < n {
		r.fields = make([]LogField, 0, max(n, fieldsAtOnce))
	}
	from := len(r.fields)
	for range n {
		k := r.number()
		switch {
		case k == uint64(len(r.names)+1):
			r.names, r.seen = append(r.names, strings.Clone(r.text())), append(r.seen, 0)
		case k == 0 || k > uint64(len(r.names)) || r.seen[k-1] == r.lines:
			r.fail() // unknown, or twice in a line
			return nil
		}
		r.seen[k-1] = r.lines
		r.fields = append(r.fields, LogField{Name: r.names[k-1], Value: r.text()})
		if r.err != nil {
			return nil
		}
	}
	return r.fields[from:len(r.fields):len(r.fields)]
}
