package logs

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// Bounds of the fields that a line may bring. A line that has more keeps its
// whole text as message besides the fields that fit.
const (
	maxFields     = 64
	maxFieldName  = 128
	maxFieldValue = 4 << 10
	maxFieldBytes = 32 << 10 // names and values together
	maxDepth      = 6        // objects within objects
)

// reserved names are the stream's and the store's own; a line's field of that
// name gets a prefix.
func reserved(name string) bool {
	switch name {
	case "cluster", "namespace", "pod", "container", "stream", "workload_type", "workload", "node", wire.LagField:
		return true
	}
	return strings.HasPrefix(name, "_")
}

// Parse makes a message and fields of a record's text. A JSON object or a line
// of logfmt becomes fields, its msg or message the message, provided that every
// other part is kept as a field; else the message is the text as it is. Objects
// inside are flattened with dots, arrays keep their JSON. The field "level" is
// one of trace, debug, info, warn, error, fatal, or not there. at is the record's
// time in Unix nanoseconds: wire.LagField is how many milliseconds the line's own
// time lies before it. One that is further off than a day stands in the field
// "time", in RFC 3339, UTC, to the millisecond.
func Parse(text string, at int64) (message string, fields wire.LogFields) {
	room := fieldRoom{free: make([]wire.LogField, 0, maxFields+2)}
	return room.parse(text, at)
}

// fieldRoom is room for the fields of many lines, made at once. It is not for
// concurrent use.
type fieldRoom struct {
	free []wire.LogField
	more func() []wire.LogField // gives an empty slice for the fields of a line or more; nil: one is made
}

const fieldsAtOnce = 2048

func (r *fieldRoom) parse(text string, at int64) (message string, fields wire.LogFields) {
	trimmed := strings.TrimSpace(text)
	x := extraction{valid: utf8.ValidString(trimmed), at: at}
	if cap(r.free) < maxFields+2 { // level and time come besides
		if r.more != nil {
			r.free = r.more()
		} else {
			r.free = make([]wire.LogField, 0, fieldsAtOnce)
		}
	}
	x.fields = r.free[:0]
	defer func() {
		n := len(fields)
		r.free = r.free[n:n:cap(r.free)]
		fields = slices.Clip(fields)
	}()
	switch {
	case len(trimmed) > 1 && trimmed[0] == '{' && trimmed[len(trimmed)-1] == '}' && x.json(trimmed),
		looksLikeLogfmt(trimmed) && x.logfmt(trimmed):
		if x.message != "" && !x.lacking {
			text = x.message
		}
		if !x.leveled {
			if l := guessLevel(text); l != "" {
				x.put("level", l)
			}
		}
		return x.text(text), x.fields
	}
	if l := guessLevel(trimmed); l != "" {
		x.put("level", l)
	}
	return x.text(text), x.fields
}

// valid replaces what is not UTF-8, which JSON cannot carry.
func valid(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

type extraction struct {
	fields     wire.LogFields // has room for maxFields
	valid      bool           // the line is UTF-8, and so is each part of it
	at         int64          // the record's time, Unix nanoseconds
	bytes      int
	message    string
	hasMessage bool
	leveled    bool // there is the field level
	timed      bool // there is the line's own time, or the field time
	lacking    bool // a part could not be kept as a field
}

func (x *extraction) reset() { *x = extraction{fields: x.fields[:0], valid: x.valid, at: x.at} }

func (x *extraction) put(name, value string) {
	x.leveled = x.leveled || name == "level"
	x.timed = x.timed || name == "time" || name == wire.LagField
	x.fields = append(x.fields, wire.LogField{Name: name, Value: value})
}

// maxLag is the most that a line's own time may be off for a lag.
const maxLag = int64(24 * time.Hour / time.Millisecond)

// putOwn keeps a line's own time, in Unix milliseconds, as its distance from the
// record's. The time itself, which is different in each line, would take a fifth of
// the disk of JSON lines; most distances are small and alike.
func (x *extraction) putOwn(own int64) {
	if lag := x.at/int64(time.Millisecond) - own; lag >= -maxLag && lag <= maxLag {
		x.put(wire.LagField, strconv.FormatInt(lag, 10))
		return
	}
	x.put("time", time.UnixMilli(own).UTC().Format("2006-01-02T15:04:05.000Z")) // which the store keeps as a number
}

// maxZonelessLag is the most that a time without a zone may be off, read as UTC, to be
// taken for a lag: a zone is further from UTC than that.
const maxZonelessLag = int64(15 * time.Minute)

// ownTime reads a line's own time, to the millisecond. One that has no zone is known only
// where it is of UTC: else the lag would be a zone's distance.
func (x *extraction) ownTime(value string) (millis int64, ok bool) {
	if millis, ok := ownTime(value); ok {
		return millis, true
	}
	nanos, ok := zoneless(value)
	lag := x.at - nanos
	return nanos / int64(time.Millisecond), ok && lag >= -maxZonelessLag && lag <= maxZonelessLag
}

func (x *extraction) has(name string) bool {
	for i := range x.fields {
		if x.fields[i].Name == name {
			return true
		}
	}
	return false
}

// text gives a part of the line as UTF-8.
func (x *extraction) text(s string) string {
	if x.valid {
		return s
	}
	return valid(s)
}

// add takes one part of a line.
func (x *extraction) add(name, value string) {
	switch name {
	case "msg", "message":
		if !x.hasMessage {
			x.message, x.hasMessage = value, true
			return
		}
	case "level", "lvl", "severity", "loglevel", "log.level", "levelname":
		if l := normalLevel(value); l != "" && !x.leveled {
			x.put("level", l)
			return
		}
	case "time", "ts", "timestamp", "@timestamp", "asctime":
		if own, ok := x.ownTime(value); ok && !x.timed {
			x.putOwn(own)
			return
		}
	}
	if reserved(name) {
		name = "log_" + strings.TrimLeft(name, "_")
	}
	if name == "" || len(name) > maxFieldName || len(value) > maxFieldValue || len(x.fields) >= maxFields || x.bytes+len(name)+len(value) > maxFieldBytes {
		x.lacking = true
		return
	}
	name = x.text(name)
	if x.has(name) {
		x.lacking = true
		return
	}
	x.bytes += len(name) + len(value)
	x.put(name, x.text(value))
}

// json reads an object. It is not ok when the text is not JSON.
func (x *extraction) json(s string) bool {
	i, ok := x.object(s, 0, "", 0)
	if !ok || skipSpace(s, i) != len(s) {
		x.reset()
		return false
	}
	return true
}

// object reads an object that starts at s[i] and says where it ends.
func (x *extraction) object(s string, i int, prefix string, depth int) (end int, ok bool) {
	i = skipSpace(s, i+1)
	if i < len(s) && s[i] == '}' {
		if depth > 0 {
			x.add(prefix, "{}")
		}
		return i + 1, true
	}
	for i < len(s) && s[i] == '"' {
		key, next, ok := readString(s, i)
		if !ok {
			return 0, false
		}
		i = skipSpace(s, next)
		if i >= len(s) || s[i] != ':' {
			return 0, false
		}
		i = skipSpace(s, i+1)
		if i >= len(s) {
			return 0, false
		}
		if prefix != "" {
			key = prefix + "." + key
		}
		switch {
		case s[i] == '"':
			var v string
			if v, i, ok = readString(s, i); !ok {
				return 0, false
			}
			x.add(key, v)
		case s[i] == '{' && depth+1 < maxDepth && len(key) <= maxFieldName:
			if i, ok = x.object(s, i, key, depth+1); !ok {
				return 0, false
			}
		default:
			end, ok := skipValue(s, i, depth)
			if !ok {
				return 0, false
			}
			x.add(key, s[i:end])
			i = end
		}
		i = skipSpace(s, i)
		if i >= len(s) {
			return 0, false
		}
		if s[i] == '}' {
			return i + 1, true
		}
		if s[i] != ',' {
			return 0, false
		}
		i = skipSpace(s, i+1)
	}
	return 0, false
}

func skipSpace(s string, i int) int {
	for i < len(s) && (s[i] == ' ' || s[i] == '\t' || s[i] == '\n' || s[i] == '\r') {
		i++
	}
	return i
}

// readString reads the string that starts at s[i], a quote.
func readString(s string, i int) (v string, end int, ok bool) {
	start := i + 1
	escaped := false
	for i = start; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			if !escaped {
				return s[start:i], i + 1, true
			}
			v, ok := unescape(s[start:i])
			return v, i + 1, ok
		case c == '\\':
			escaped = true
			i++
		case c < ' ':
			return "", 0, false
		}
	}
	return "", 0, false
}

func unescape(s string) (string, bool) {
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		if i++; i >= len(s) {
			return "", false
		}
		switch s[i] {
		case '"', '\\', '/':
			b.WriteByte(s[i])
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
			r, ok := hex4(s, i+1)
			if !ok {
				return "", false
			}
			i += 4
			if r >= 0xd800 && r < 0xe000 { // half of a pair
				low, ok := rune(0), false
				if i+2 < len(s) && s[i+1] == '\\' && s[i+2] == 'u' {
					low, ok = hex4(s, i+3)
				}
				if ok && r < 0xdc00 && low >= 0xdc00 && low < 0xe000 {
					r = (r-0xd800)<<10 + low - 0xdc00 + 0x10000
					i += 6
				} else {
					r = utf8.RuneError
				}
			}
			b.WriteRune(r)
		default:
			return "", false
		}
	}
	return b.String(), true
}

func hex4(s string, i int) (rune, bool) {
	if i+4 > len(s) {
		return 0, false
	}
	n, err := strconv.ParseUint(s[i:i+4], 16, 16)
	return rune(n), err == nil
}

// skipValue finds the end of the value that starts at s[i].
func skipValue(s string, i, depth int) (end int, ok bool) {
	if depth > 64 || i >= len(s) { // a bomb
		return 0, false
	}
	switch c := s[i]; {
	case c == '"':
		_, end, ok = readString(s, i)
		return end, ok
	case c == '{' || c == '[':
		closing := byte('}')
		if c == '[' {
			closing = ']'
		}
		i = skipSpace(s, i+1)
		if i < len(s) && s[i] == closing {
			return i + 1, true
		}
		for i < len(s) {
			if c == '{' {
				if s[i] != '"' {
					return 0, false
				}
				if _, i, ok = readString(s, i); !ok {
					return 0, false
				}
				if i = skipSpace(s, i); i >= len(s) || s[i] != ':' {
					return 0, false
				}
				i = skipSpace(s, i+1)
			}
			if i, ok = skipValue(s, i, depth+1); !ok {
				return 0, false
			}
			if i = skipSpace(s, i); i >= len(s) {
				return 0, false
			}
			if s[i] == closing {
				return i + 1, true
			}
			if s[i] != ',' {
				return 0, false
			}
			i = skipSpace(s, i+1)
		}
		return 0, false
	}
	for end = i; end < len(s) && strings.IndexByte(",}] \t\r\n", s[end]) < 0; end++ {
	}
	switch v := s[i:end]; v {
	case "true", "false", "null":
		return end, true
	default:
		return end, isNumber(v)
	}
}

// isNumber checks the grammar of JSON.
func isNumber(s string) bool {
	s = strings.TrimPrefix(s, "-")
	n := leadingDigits(s)
	if n == 0 || n > 1 && s[0] == '0' {
		return false
	}
	s = s[n:]
	if strings.HasPrefix(s, ".") {
		if n = leadingDigits(s[1:]); n == 0 {
			return false
		}
		s = s[1+n:]
	}
	if s != "" && (s[0] == 'e' || s[0] == 'E') {
		s = s[1:]
		if s != "" && (s[0] == '+' || s[0] == '-') {
			s = s[1:]
		}
		if n = leadingDigits(s); n == 0 {
			return false
		}
		s = s[n:]
	}
	return s == ""
}

func leadingDigits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

// looksLikeLogfmt asks for key=value right at the start.
func looksLikeLogfmt(s string) bool {
	n := keyLength(s)
	return n > 0 && n < len(s) && s[n] == '='
}

func keyLength(s string) int {
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '.' || c == '-' || c == '/' || c == '@' {
			continue
		}
		return i
	}
	return len(s)
}

// logfmt reads a line that is nothing but key=value pairs, at least two.
func (x *extraction) logfmt(s string) bool {
	pairs := 0
	for s = strings.TrimLeft(s, " \t"); s != ""; s = strings.TrimLeft(s, " \t") {
		n := keyLength(s)
		if n == 0 || n >= len(s) || s[n] != '=' {
			x.reset()
			return false
		}
		key := s[:n]
		s = s[n+1:]
		var v string
		if strings.HasPrefix(s, `"`) {
			var end int
			var ok bool
			if v, end, ok = readString(s, 0); !ok || end < len(s) && s[end] != ' ' && s[end] != '\t' {
				x.reset()
				return false
			}
			s = s[end:]
		} else {
			end := strings.IndexAny(s, " \t")
			if end < 0 {
				end = len(s)
			}
			if v = s[:end]; strings.ContainsAny(v, `"`) {
				x.reset()
				return false
			}
			s = s[end:]
		}
		x.add(key, v)
		pairs++
	}
	if pairs < 2 {
		x.reset()
		return false
	}
	return true
}

// normalLevel maps the words and numbers in use to six; empty when unknown.
func normalLevel(s string) string {
	var room [12]byte // where strings.ToLower would allocate
	if len(s) > len(room) {
		return ""
	}
	for i := range len(s) {
		room[i] = lower(s[i])
	}
	switch string(room[:len(s)]) {
	case "trace", "trc", "finest", "finer", "10":
		return "trace"
	case "debug", "dbg", "fine", "verbose", "d", "20":
		return "debug"
	case "info", "inf", "information", "notice", "i", "30":
		return "info"
	case "warn", "warning", "wrn", "w", "40":
		return "warn"
	case "error", "err", "eror", "severe", "e", "50":
		return "error"
	case "fatal", "ftl", "critical", "crit", "panic", "alert", "emergency", "emerg", "dpanic", "f", "60":
		return "fatal"
	}
	return ""
}

// guessLevel looks for a level at the beginning of a plain line: klog's first
// letter, or a word in capitals or brackets among the first few.
func guessLevel(s string) string {
	if len(s) > 5 && (s[0] == 'I' || s[0] == 'W' || s[0] == 'E' || s[0] == 'F') {
		if _, ok := digits(s[1:5]); ok && s[5] == ' ' {
			return normalLevel(s[:1])
		}
	}
	if len(s) > 96 {
		s = s[:96]
	}
	const least, most = 4, 9 // letters of a level
	for i := least - 1; i < len(s); i += least {
		if !isLetter(s[i]) {
			continue // and none of the words that could be here has a fourth letter
		}
		from, to := i, i+1
		for from > 0 && isLetter(s[from-1]) {
			from--
		}
		for to < len(s) && isLetter(s[to]) {
			to++
		}
		i = to
		if to-from < least || to-from > most {
			continue
		}
		bracketed := from > 0 && s[from-1] == '[' && to < len(s) && s[to] == ']'
		if upper := s[from+1] <= 'Z'; !upper && !bracketed {
			continue
		}
		boundary := (from == 0 || strings.IndexByte(" [|(<\t=:", s[from-1]) >= 0) && (to == len(s) || strings.IndexByte(" ]|)>:\t,", s[to]) >= 0)
		if boundary {
			if l := normalLevel(s[from:to]); l != "" {
				return l
			}
		}
	}
	return ""
}

// isLetter takes one comparison: each byte of most lines is asked about.
func isLetter(c byte) bool { return c|0x20-'a' < 26 }

// ownTime reads RFC 3339 or a number of seconds, milliseconds, microseconds or
// nanoseconds since 1970, to the millisecond. What is finer is in the time of the
// record.
func ownTime(s string) (millis int64, ok bool) {
	if len(s) > 40 || s == "" {
		return 0, false
	}
	if nanos, ok := parseTime(s); ok {
		return nanos / int64(time.Millisecond), true
	}
	if !isNumber(s) {
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return 0, false
	}
	switch { // the years 1973 to 2286 in each unit
	case f >= 1e8 && f < 1e10:
		whole := math.Floor(f)
		return int64(whole)*1e3 + int64(math.Round((f-whole)*1e6))/1e3, true // a float knows no finer part
	case f >= 1e11 && f < 1e13:
		return int64(f), true
	case f >= 1e14 && f < 1e16:
		return int64(f / 1e3), true
	case f >= 1e17 && f < 9e18:
		return int64(f / 1e6), true
	}
	return 0, false
}
