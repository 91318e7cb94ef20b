package logs

import (
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"
)

// piece is one line of a container's log file: a whole record, or a part of one
// that the runtime has cut.
type piece struct {
	at      int64 // Unix nanoseconds; 0 when the line has no time that can be right
	stream  string
	text    string
	partial bool // more of the same record follows
}

// parsePiece reads one line of a log file, without its newline, in the format of
// CRI ("time stream P|F text") or of Docker's json-file. ok is false for one that
// is neither: then text is the line as it is.
func parsePiece(line string) (p piece, ok bool) {
	line = strings.TrimLeft(line, "\x00") // what a truncated or crashed file leaves
	if strings.HasPrefix(line, "{") {
		if p, ok := parseDocker(line); ok {
			return p, true
		}
	} else if p, ok := parseCRI(line); ok {
		return p, true
	}
	return untimed(line), false
}

// untimed is a line as it is.
func untimed(line string) piece {
	return piece{stream: "stdout", text: strings.TrimSuffix(line, "\r")}
}

// aheadLimit is by how much the time of a line may be ahead of this machine's clock: the server
// stores none that is a day ahead of its own, which may be a little behind.
const aheadLimit = 23 * time.Hour

// latestBy is the last time that can be right by a clock.
func latestBy(now time.Time) int64 { return now.Add(aheadLimit).UnixNano() }

func parseCRI(line string) (p piece, ok bool) {
	// What most runtimes write: all nine digits of a time in UTC, and a whole record.
	const stampLen, head = len("2026-11-23T10:00:00.123456789Z"), len("2026-11-23T10:00:00.123456789Z stdout F ")
	if len(line) >= head && line[stampLen] == ' ' && (line[stampLen+1:head] == "stdout F " || line[stampLen+1:head] == "stderr F ") {
		if at, ok := parseTime(line[:stampLen]); ok {
			return piece{at: at, stream: line[stampLen+1 : head-len(" F ")], text: line[head:]}, true
		}
	}
	stamp, rest, ok := strings.Cut(line, " ")
	if !ok {
		return p, false
	}
	stream, rest, ok := strings.Cut(rest, " ")
	if !ok || stream != "stdout" && stream != "stderr" {
		return p, false
	}
	tags, text, ok := strings.Cut(rest, " ")
	if !ok { // an empty record may come without the last space
		tags = rest
	}
	// Tags are separated by colons; the first says P or F.
	tag, _, _ := strings.Cut(tags, ":")
	if tag != "P" && tag != "F" {
		return p, false
	}
	at, ok := parseTime(stamp)
	if !ok {
		return p, false
	}
	return piece{at: at, stream: stream, text: text, partial: tag == "P"}, true
}

func parseDocker(line string) (p piece, ok bool) {
	var d struct {
		Log    *string `json:"log"`
		Stream string  `json:"stream"`
		Time   string  `json:"time"`
	}
	if json.Unmarshal([]byte(line), &d) != nil || d.Log == nil {
		return p, false
	}
	at, ok := parseTime(d.Time)
	if !ok {
		return p, false
	}
	if d.Stream != "stderr" {
		d.Stream = "stdout"
	}
	text, whole := strings.CutSuffix(*d.Log, "\n")
	return piece{at: at, stream: d.Stream, text: text, partial: !whole}, true
}

// latest is the last time that the store's nanoseconds can hold with room.
var latest = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()

// parseTime reads RFC 3339 with up to nine digits of a second's fraction. The
// usual form, in UTC, takes no allocation. Times that cannot be right (before
// 1971) are not ok.
func parseTime(s string) (nanos int64, ok bool) {
	if nanos, ok := parseNanos(s); ok {
		return nanos, true
	}
	return parseAnyTime(s)
}

// What stands in the first 24 bytes of 2026-11-23T10:00:00.123456789Z besides digits, eight
// bytes at a time as word has them: what makes a zero of it, and where it is.
const (
	zeros = 0x3030303030303030

	dateMarks, dateAt   = ('-'^'0')<<32 | ('-'^'0')<<56, 0xff<<32 | 0xff<<56
	hourMarks, hourAt   = ('T'^'0')<<16 | (':'^'0')<<40, 0xff<<16 | 0xff<<40
	secondMarks, secsAt = (':' ^ '0') | ('.'^'0')<<24, 0xff | 0xff<<24
)

// parseNanos reads the form that most runtimes write, of all nine digits, of which it
// looks at eight together; it is not ok for any other, and for what it does not like.
func parseNanos(s string) (nanos int64, ok bool) {
	if len(s) != len("2026-11-23T10:00:00.123456789Z") || s[29] != 'Z' {
		return 0, false
	}
	date, hour, second, fraction := word(s[0:8])^dateMarks, word(s[8:16])^hourMarks, word(s[16:24])^secondMarks, word(s[21:29])
	if !areDigits(date) || !areDigits(hour) || !areDigits(second) || !areDigits(fraction) {
		return 0, false
	}
	date, hour, second = date-zeros, hour-zeros, second-zeros
	if date&dateAt|hour&hourAt|second&secsAt != 0 {
		return 0, false // another digit where a mark should be
	}
	y, mo, d := int(date&0xff*1000+date>>8&0xff*100+date>>16&0xff*10+date>>24&0xff), int(date>>40&0xff*10+date>>48&0xff), int(hour&0xff*10+hour>>8&0xff)
	h, mi, sec := int(hour>>24&0xff*10+hour>>32&0xff), int(hour>>48&0xff*10+hour>>56), int(second>>8&0xff*10+second>>16&0xff)
	if mo < 1 || mo > 12 || d < 1 || d > daysIn(y, mo) || h >= 24 || mi >= 60 || sec >= 60 {
		return 0, false
	}
	return sane(unixDays(y, mo, d)*86400+int64(h*3600+mi*60+sec), int64(second>>32&0xff)*100_000_000+int64(eightDigits(fraction)))
}

// word gives eight bytes as a number, the first as the lowest.
func word(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 | uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

// areDigits says whether all eight bytes are '0' to '9'.
func areDigits(w uint64) bool {
	const high = 0xf0f0f0f0f0f0f0f0
	return w&high == zeros && (w+0x0606060606060606)&high == zeros
}

// eightDigits gives the number that eight digits are.
func eightDigits(w uint64) uint64 {
	w -= zeros
	w = w*10 + w>>8 // each second byte holds two digits
	const pair = 0x000000ff000000ff
	return (w&pair*(100+1_000_000<<32) + w>>16&pair*(1+10_000<<32)) >> 32
}

func parseAnyTime(s string) (nanos int64, ok bool) {
	// 2026-11-23T10:00:00.123456789Z
	if len(s) >= 20 && len(s) <= 30 && s[len(s)-1] == 'Z' && s[4] == '-' && s[7] == '-' && s[10] == 'T' && s[13] == ':' && s[16] == ':' {
		y, a := digits(s[0:4])
		mo, b := digits(s[5:7])
		d, c := digits(s[8:10])
		h, e := digits(s[11:13])
		mi, f := digits(s[14:16])
		sec, g := digits(s[17:19])
		fraction, k := 0, true
		if len(s) > 20 {
			fraction, k = digits(s[20 : len(s)-1])
			k = k && s[19] == '.' && len(s) > 21
			for i := len(s) - 21; i < 9; i++ {
				fraction *= 10
			}
		}
		if a && b && c && e && f && g && k && mo >= 1 && mo <= 12 && d >= 1 && d <= daysIn(y, mo) && h < 24 && mi < 60 && sec < 60 {
			return sane(unixDays(y, mo, d)*86400+int64(h*3600+mi*60+sec), int64(fraction))
		}
		return 0, false
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return 0, false
	}
	return sane(t.Unix(), int64(t.Nanosecond()))
}

// zoneless reads a time without a zone as if it were of UTC: 2026-11-23 10:00:00,123, as
// Python and log4j write it, and 2026/11/23 10:00:00.123456, as Go's log does.
func zoneless(s string) (nanos int64, ok bool) {
	if len(s) < len("2026-11-23 10:00:00") || len(s) > len("2026-11-23 10:00:00.123456789") || s[4] != s[7] || s[4] != '-' && s[4] != '/' || s[10] != ' ' && s[10] != 'T' {
		return 0, false
	}
	var room [30]byte
	t := append(append(room[:0], s...), 'Z')
	t[4], t[7], t[10] = '-', '-', 'T'
	if t[19] == ',' {
		t[19] = '.'
	}
	return parseAnyTime(string(t))
}

func sane(sec, nanos int64) (int64, bool) {
	if sec < 365*86400 || sec >= latest/int64(time.Second) {
		return 0, false
	}
	return sec*int64(time.Second) + nanos, true
}

func digits(s string) (n int, ok bool) {
	for i := range len(s) {
		c := s[i] - '0'
		if c > 9 {
			return 0, false
		}
		n = n*10 + int(c)
	}
	return n, true
}

func daysIn(y, m int) int {
	switch m {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if y%4 == 0 && (y%100 != 0 || y%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// unixDays counts days since 1970 (Howard Hinnant's civil_from_days, inverted).
func unixDays(y, m, d int) int64 {
	if m <= 2 {
		y--
	}
	era := y / 400
	yoe := y - era*400
	doy := (153*((m+9)%12)+2)/5 + d - 1
	doe := yoe*365 + yoe/4 - yoe/100 + doy
	return int64(era*146097 + doe - 719468)
}

// cutText splits a text that exceeds max bytes, between characters.
func cutText(s string, limit int) []string {
	var out []string
	for len(s) > limit {
		n := limit
		for i := 0; i < utf8.UTFMax && n > 1 && !utf8.RuneStart(s[n]); i++ {
			n--
		}
		out = append(out, s[:n])
		s = s[n:]
	}
	return append(out, s)
}
