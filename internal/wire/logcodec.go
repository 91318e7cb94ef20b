package wire

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A batch of log lines travels as JSON. Writing and reading it by reflection was
// the largest cost of a line, so both are done here by hand, for exactly the form
// that LogBatch's tags describe; the reader leaves every other form to
// encoding/json.

// appendLogBatch appends the batch as JSON, fields in the order of their names.
func appendLogBatch(dst []byte, b *LogBatch) []byte {
	dst = append(dst, `{"sender":`...)
	dst = appendString(dst, b.Sender)
	dst = append(dst, `,"id":`...)
	dst = appendString(dst, b.ID)
	dst = append(dst, `,"groups":`...)
	var names []string
	if b.Groups == nil {
		dst = append(dst, "null"...)
	} else {
		dst = append(dst, '[')
		for i, g := range b.Groups {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst, names = appendLogGroup(dst, g, names)
		}
		dst = append(dst, ']')
	}
	if len(b.Complete) > 0 {
		dst = append(dst, `,"complete":[`...)
		for i, m := range b.Complete {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(dst, '{')
			if m.Node != "" {
				dst = append(dst, `"node":`...)
				dst = append(appendString(dst, m.Node), ',')
			}
			dst = append(dst, `"through":`...)
			dst = append(strconv.AppendInt(dst, m.Through, 10), '}')
		}
		dst = append(dst, ']')
	}
	return append(dst, '}')
}

func appendLogGroup(dst []byte, g LogGroup, names []string) ([]byte, []string) {
	dst = append(dst, `{"s":{`...)
	for _, f := range [...]struct{ name, value string }{
		{`"namespace":`, g.Stream.Namespace}, {`"pod":`, g.Stream.Pod}, {`"container":`, g.Stream.Container},
		{`"workload_type":`, g.Stream.WorkloadType}, {`"workload":`, g.Stream.Workload}, {`"node":`, g.Stream.Node},
	} {
		if f.value != "" {
			dst = append(appendString(append(dst, f.name...), f.value), ',')
		}
	}
	dst = append(appendString(append(dst, `"stream":`...), g.Stream.Stream), `},"l":[`...)
	for i, l := range g.Lines {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendInt(append(dst, `{"t":`...), l.Time, 10)
		dst = appendString(append(dst, `,"m":`...), l.Message)
		if len(l.Fields) > 0 {
			// Sorted: neighbouring lines of the same order compress better.
			names = names[:0]
			for name := range l.Fields {
				names = append(names, name)
			}
			slices.Sort(names)
			dst = append(dst, `,"f":{`...)
			for i, name := range names {
				if i > 0 {
					dst = append(dst, ',')
				}
				dst = append(appendString(dst, name), ':')
				dst = appendString(dst, l.Fields[name])
			}
			dst = append(dst, '}')
		}
		dst = append(dst, '}')
	}
	return append(dst, "]}"...), names
}

const hexDigits = "0123456789abcdef"

// plain says which bytes stand in a JSON string as they are.
var plain = func() (t [256]bool) {
	for c := range t {
		t[c] = c >= ' ' && c < utf8.RuneSelf && c != '"' && c != '\\'
	}
	return t
}()

// appendString appends a JSON string; what is not UTF-8 becomes U+FFFD.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if plain[c] {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				dst = append(append(dst, s[from:i]...), "\uFFFD"...)
				from = i + 1
			}
			i += size
			continue
		}
		dst = append(dst, s[from:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		from = i
	}
	return append(append(dst, s[from:]...), '"')
}

// logReader reads a batch. Any step that meets what it does not know sets odd,
// after which nothing that was read counts.
type logReader struct {
	s   string
	i   int
	odd bool
}

// readLogBatch reads what appendLogBatch writes. It is not ok for other forms of
// the same, which encoding/json may know, and for what is wrong. Messages
// and fields are parts of one copy of the body; who keeps one for longer than the
// batch, clones it.
func readLogBatch(body []byte) (b LogBatch, ok bool) {
	if !utf8.Valid(body) {
		return b, false
	}
	r := &logReader{s: string(body)}
	seen := 0
	r.object(func(key string) {
		switch key {
		case "sender":
			r.once(&seen, 1)
			b.Sender = strings.Clone(r.str())
		case "id":
			r.once(&seen, 2)
			b.ID = strings.Clone(r.str())
		case "groups":
			r.once(&seen, 4)
			b.Groups = []LogGroup{}
			r.array(func() { b.Groups = append(b.Groups, r.group()) })
		case "complete":
			r.once(&seen, 8)
			b.Complete = []LogMark{}
			r.array(func() { b.Complete = append(b.Complete, r.mark()) })
		default:
			r.odd = true
		}
	})
	r.space()
	return b, !r.odd && r.i == len(r.s)
}

func (r *logReader) group() (g LogGroup) {
	seen := 0
	r.object(func(key string) {
		switch key {
		case "s":
			r.once(&seen, 1)
			g.Stream = r.stream()
		case "l":
			r.once(&seen, 2)
			g.Lines = []LogLine{}
			r.array(func() { g.Lines = append(g.Lines, r.line()) })
		default:
			r.odd = true
		}
	})
	return g
}

func (r *logReader) stream() (s LogStream) {
	r.object(func(key string) {
		var to *string
		switch key {
		case "namespace":
			to = &s.Namespace
		case "pod":
			to = &s.Pod
		case "container":
			to = &s.Container
		case "stream":
			to = &s.Stream
		case "workload_type":
			to = &s.WorkloadType
		case "workload":
			to = &s.Workload
		case "node":
			to = &s.Node
		default:
			r.odd = true
			return
		}
		*to = strings.Clone(r.str())
	})
	return s
}

func (r *logReader) line() (l LogLine) {
	seen := 0
	r.object(func(key string) {
		switch key {
		case "t":
			l.Time = r.number()
		case "m":
			l.Message = r.str()
		case "f":
			r.once(&seen, 1)
			l.Fields = map[string]string{}
			r.object(func(name string) { l.Fields[name] = r.str() })
		default:
			r.odd = true
		}
	})
	return l
}

func (r *logReader) mark() (m LogMark) {
	r.object(func(key string) {
		switch key {
		case "node":
			m.Node = strings.Clone(r.str())
		case "through":
			m.Through = r.number()
		default:
			r.odd = true
		}
	})
	return m
}

// once refuses a key that comes twice where the last would not simply win.
func (r *logReader) once(seen *int, bit int) {
	r.odd = r.odd || *seen&bit != 0
	*seen |= bit
}

func (r *logReader) space() {
	for r.i < len(r.s) && (r.s[r.i] == ' ' || r.s[r.i] == '\n' || r.s[r.i] == '\t' || r.s[r.i] == '\r') {
		r.i++
	}
}

// next takes the character c, after space, if it is there.
func (r *logReader) next(c byte) bool {
	r.space()
	if r.i < len(r.s) && r.s[r.i] == c {
		r.i++
		return true
	}
	return false
}

func (r *logReader) must(c byte) {
	if !r.next(c) {
		r.odd = true
	}
}

// object reads an object; value reads the value of a key.
func (r *logReader) object(value func(key string)) {
	r.must('{')
	for first := true; !r.odd; first = false {
		if first && r.next('}') {
			return
		}
		key := r.str()
		r.must(':')
		if r.odd {
			return
		}
		value(key)
		if !r.next(',') {
			r.must('}')
			return
		}
	}
}

func (r *logReader) array(value func()) {
	r.must('[')
	for first := true; !r.odd; first = false {
		if first && r.next(']') {
			return
		}
		value()
		if !r.next(',') {
			r.must(']')
			return
		}
	}
}

// number reads an integer as JSON has it.
func (r *logReader) number() int64 {
	r.space()
	from := r.i
	for r.i < len(r.s) && (r.s[r.i] >= '0' && r.s[r.i] <= '9' || r.s[r.i] == '-' && r.i == from) {
		r.i++
	}
	text := strings.TrimPrefix(r.s[from:r.i], "-")
	n, err := strconv.ParseInt(r.s[from:r.i], 10, 64)
	if err != nil || len(text) > 1 && text[0] == '0' || r.i < len(r.s) && strings.IndexByte(".eE", r.s[r.i]) >= 0 {
		r.odd = true
	}
	return n
}

func (r *logReader) str() string {
	r.must('"')
	if r.odd {
		return ""
	}
	from := r.i
	for r.i < len(r.s) {
		switch c := r.s[r.i]; {
		case c == '"':
			r.i++
			return r.s[from : r.i-1]
		case c == '\\':
			return r.escaped(from)
		case c < ' ':
			r.odd = true
			return ""
		}
		r.i++
	}
	r.odd = true
	return ""
}

// escaped reads on in a string that began at from and has an escape at r.i.
func (r *logReader) escaped(from int) string {
	var b strings.Builder
	for r.i < len(r.s) {
		c := r.s[r.i]
		switch {
		case c == '"':
			b.WriteString(r.s[from:r.i])
			r.i++
			return b.String()
		case c < ' ':
			r.odd = true
			return ""
		case c != '\\':
			r.i++
			continue
		}
		b.WriteString(r.s[from:r.i])
		if r.i+1 >= len(r.s) {
			break
		}
		switch c := r.s[r.i+1]; c {
		case '"', '\\', '/':
			b.WriteByte(c)
		case 'b':
			b.WriteByte('\b')
		case 'f':
			b.WriteByte('\f')
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case 't':
			b.WriteByte('\t')
		case 'u':
			if r.i+6 > len(r.s) {
				r.odd = true
				return ""
			}
			n, err := strconv.ParseUint(r.s[r.i+2:r.i+6], 16, 16)
			if err != nil || n >= 0xd800 && n < 0xe000 { // pairs are rare: Go writes none
				r.odd = true
				return ""
			}
			b.WriteRune(rune(n))
			r.i += 4
		default:
			r.odd = true
			return ""
		}
		r.i += 2
		from = r.i
	}
	r.odd = true
	return ""
}
