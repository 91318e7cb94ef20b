package logs

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

func TestParsePiece(t *testing.T) {
	at := time.Date(2026, 11, 23, 10, 0, 0, 123456789, time.UTC).UnixNano()
	for line, want := range map[string]piece{
		"2026-11-23T10:00:00.123456789Z stdout F hello world":                                          {at, "stdout", "hello world", false},
		"2026-11-23T10:00:00.123456789Z stderr P half":                                                 {at, "stderr", "half", true},
		"2026-11-23T18:00:00.123456789+08:00 stdout F hello":                                           {at, "stdout", "hello", false},
		"2026-11-23T10:00:00.123456789Z stdout F:x tags":                                               {at, "stdout", "tags", false},
		"2026-11-23T10:00:00.123456789Z stdout F ":                                                     {at, "stdout", "", false},
		"2026-11-23T10:00:00.123456789Z stdout F":                                                      {at, "stdout", "", false},
		"2026-11-23T10:00:00.123456789Z stdout F  two":                                                 {at, "stdout", " two", false},
		`{"log":"a\tb\n","stream":"stderr","time":"2026-11-23T10:00:00.123456789Z"}`:                   {at, "stderr", "a\tb", false},
		`{"log":"no end","stream":"stdout","time":"2026-11-23T10:00:00.123456789Z","attrs":{"x":"y"}}`: {at, "stdout", "no end", true},
	} {
		if got, ok := parsePiece(line); !ok || got != want {
			t.Errorf("%s: got %+v, %v", line, got, ok)
		}
	}
	for _, line := range []string{"", "x", "2026-11-23T10:00:00Z stdin F x", "2026-13-23T10:00:00Z stdout F x", "2026-02-30T10:00:00Z stdout F x", "1969-12-31T23:00:00Z stdout F x",
		"2026-13-23T10:00:00.123456789Z stdout F x", "2026-11-23T10:00:00.123456789  stdout F x", "2026-11-23T10:00:00.123 56789Z stderr F x",
		"9999-11-23T10:00:00Z stdout F x", "2026-11-23T10:00:00Z stdout X x", `{"log":1}`, `{"message":"not docker's"}`, "\x00\x00", "2026-11-23T10:00:00.Z stdout F x", "2026-11-23T10:00:00+99:99 stdout F x"} {
		if p, ok := parsePiece(line); ok || p.at != 0 || p.partial {
			t.Errorf("%q: got %+v, %v", line, p, ok)
		}
	}
}

func TestParseTimeAgreesWithTheLibrary(t *testing.T) {
	for at := time.Date(1971, 6, 1, 3, 4, 5, 600, time.UTC); at.Year() < 2190; at = at.Add(1009*time.Hour + 7*time.Second + 1234567) {
		for _, layout := range []string{time.RFC3339Nano, time.RFC3339, "2006-01-02T15:04:05.000Z07:00"} {
			s := at.Format(layout)
			want, err := time.Parse(time.RFC3339Nano, s)
			got, ok := parseTime(s)
			if err != nil || !ok || got != want.UnixNano() {
				t.Fatalf("%s: got %v, %v", s, time.Unix(0, got).UTC(), ok)
			}
		}
	}
}

// The usual form is read in another way than all others; both must agree.
func FuzzParseTime(f *testing.F) {
	for _, s := range []string{"2026-11-23T10:00:00.123456789Z", "2024-02-29T23:59:59.999999999Z", "2026-02-29T00:00:00.000000000Z", "1970-12-31T00:00:00.000000000Z", "2026-11-23T24:00:00.000000000Z",
		"2026-11-23T10:60:00.000000000Z", "2026-11-23T10:00:60.000000000Z", "2026-00-23T10:00:00.000000000Z", "2026-11-00T10:00:00.000000000Z", "2026011-23T10:00:00.123456789Z", "2026-11-23T10:00:00.12345678:Z",
		"2026-11-23T10:00:00,123456789Z", "2026-11-23T10:00:00.12345678\xb9Z", "2300-01-01T00:00:00.000000000Z"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		want, wantOK := parseAnyTime(s)
		if got, ok := parseTime(s); got != want || ok != wantOK {
			t.Errorf("%q is %d, %v, want %d, %v", s, got, ok, want, wantOK)
		}
		if got, ok := parseNanos(s); ok && (!wantOK || got != want) {
			t.Errorf("%q is taken for %d, want %d, %v", s, got, want, wantOK)
		}
	})
}

func TestTheUsualTimeIsReadTheQuickWay(t *testing.T) {
	for at := time.Date(1971, 6, 1, 3, 4, 5, 600, time.UTC); at.Year() < 2190; at = at.Add(1009*time.Hour + 7*time.Second + 1234567) {
		s := at.Format("2006-01-02T15:04:05.000000000Z07:00")
		if got, ok := parseNanos(s); !ok || got != at.UnixNano() {
			t.Fatalf("%s: got %v, %v", s, time.Unix(0, got).UTC(), ok)
		}
	}
}

// guessLevelSlowly looks at each word.
func guessLevelSlowly(s string) string {
	if len(s) > 5 && strings.IndexByte("IWEF", s[0]) >= 0 {
		if _, ok := digits(s[1:5]); ok && s[5] == ' ' {
			return normalLevel(s[:1])
		}
	}
	s = s[:min(len(s), 96)]
	for i := 0; i < len(s); i++ {
		j := i
		for j < len(s) && isLetter(s[j]) {
			j++
		}
		if word := s[i:j]; j-i >= 4 && j-i <= 9 {
			boundary := (i == 0 || strings.IndexByte(" [|(<\t=:", s[i-1]) >= 0) && (j == len(s) || strings.IndexByte(" ]|)>:\t,", s[j]) >= 0)
			upper := word[1] >= 'A' && word[1] <= 'Z'
			bracketed := i > 0 && s[i-1] == '[' && j < len(s) && s[j] == ']'
			if l := normalLevel(word); l != "" && boundary && (upper || bracketed) {
				return l
			}
		}
		i = j
	}
	return ""
}

func FuzzGuessLevel(f *testing.F) {
	for _, s := range []string{"", "E1123 10:00:00 x", "2026-11-23 10:00:00,123 INFO  [worker-1] x", "[warn] x", "x [error", "WARN", "a ERR ERROR: b", "INFORMATION WARNING|", "(DEBUG)", "=FATAL,", "xINFO INFOx -INFO INFO- eINFO INFO",
		strings.Repeat(".", 92) + "INFO", strings.Repeat(" ", 93) + "INFO", "abcINFO INFO", "ab INFO", "abc INFO", "abcd INFO", "abcde INFO"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got, want := guessLevel(s), guessLevelSlowly(s); got != want {
			t.Errorf("%q has the level %q, want %q", s, got, want)
		}
	})
}

func TestParse(t *testing.T) {
	type m = map[string]string
	at := time.Date(2026, 11, 23, 10, 0, 0, 987_654_321, time.UTC).UnixNano()
	for name, tc := range map[string]struct {
		text, message string
		fields        m
	}{
		"plain":              {"hello", "hello", nil},
		"JSON":               {`{"level":"WARN","msg":"slow","took_ms":12.5,"ok":true,"none":null}`, "slow", m{"level": "warn", "took_ms": "12.5", "ok": "true", "none": "null"}},
		"nested":             {`{"message":"x","http":{"status":502,"h":{"a":"b"}},"tags":["a", 1],"e":{}}`, "x", m{"http.status": "502", "http.h.a": "b", "tags": `["a", 1]`, "e": "{}"}},
		"no message":         {`{"a":"b"}`, `{"a":"b"}`, m{"a": "b"}},
		"empty message":      {`{"msg":"","a":"b"}`, `{"msg":"","a":"b"}`, m{"a": "b"}},
		"escapes":            {`{"msg":"a\"b\\\n\u00e9\ud83d\ude00\ud800"}`, "a\"b\\\n\u00e9😀\uFFFD", nil},
		"pino":               {`{"level":50,"time":1795428000123,"msg":"boom"}`, "boom", m{"level": "error", "lag_ms": "864"}},
		"zap":                {`{"level":"info","ts":1795428000.25,"msg":"m"}`, "m", m{"level": "info", "lag_ms": "737"}},
		"nanoseconds":        {`{"time":"2026-11-23T10:00:00.123999999Z","msg":"m"}`, "m", m{"lag_ms": "864"}},
		"tenths":             {`{"time":"2026-11-23T10:00:00.1Z","msg":"m"}`, "m", m{"lag_ms": "887"}},
		"own time with zone": {`{"@timestamp":"2026-11-23T18:00:00+08:00","msg":"m"}`, "m", m{"lag_ms": "987"}},
		"part of a second":   {`{"ts":1795428000.123,"msg":"m"}`, "m", m{"lag_ms": "864"}},
		"microseconds":       {`{"ts":1795428000123999,"msg":"m"}`, "m", m{"lag_ms": "864"}},
		"Python's":           {`{"asctime":"2026-11-23 10:00:00,123","levelname":"INFO","message":"m"}`, "m", m{"lag_ms": "864", "level": "info"}},
		"Go's":               {`time="2026/11/23 10:00:00.123456" msg=m`, "m", m{"lag_ms": "864"}},
		"no zone":            {`{"@timestamp":"2026-11-23T10:00:00","msg":"m"}`, "m", m{"lag_ms": "987"}},
		"a zone not said":    {`{"time":"2026-11-23 18:00:00,123","msg":"m"}`, "m", m{"time": "2026-11-23 18:00:00,123"}},
		"no day":             {`{"time":"2026-11-31 10:00:00,123","msg":"m"}`, "m", m{"time": "2026-11-31 10:00:00,123"}},
		"at once":            {`{"ts":"2026-11-23T10:00:00.987Z","msg":"m"}`, "m", m{"lag_ms": "0"}},
		"a clock ahead":      {`{"ts":"2026-11-23T10:00:01Z","msg":"m"}`, "m", m{"lag_ms": "-13"}},
		"a day":              {`{"ts":"2026-11-22T10:00:00.987Z","msg":"m"}`, "m", m{"lag_ms": "86400000"}},
		"more than a day":    {`{"ts":"2026-11-22T10:00:00.986Z","msg":"m"}`, "m", m{"time": "2026-11-22T10:00:00.986Z"}},
		"2099":               {`{"ts":"2099-01-01T00:00:00+08:00","msg":"m"}`, "m", m{"time": "2098-12-31T16:00:00.000Z"}},
		"1970":               {`{"time":"1970-01-01T00:00:05Z","msg":"m"}`, "m", m{"time": "1970-01-01T00:00:05Z"}},
		"no time":            {`{"time":"noon","ts":"2026-11-23T10:00:00Z","msg":"m"}`, "m", m{"time": "noon", "ts": "2026-11-23T10:00:00Z"}},
		"two times":          {`{"ts":"2026-11-23T10:00:00Z","time":"2026-11-23T09:00:00Z","msg":"m"}`, "m", m{"lag_ms": "987", "time": "2026-11-23T09:00:00Z"}},
		"a lag of its own":   {`{"ts":"2026-11-23T10:00:00Z","msg":"m","lag_ms":5}`, "m", m{"lag_ms": "987", "log_lag_ms": "5"}},
		"reserved":           {`{"msg":"m","pod":"other","_msg":"x","stream":"s"}`, "m", m{"log_pod": "other", "log_msg": "x", "log_stream": "s"}},
		"twice":              {`{"msg":"m","a":"1","a":"2"}`, `{"msg":"m","a":"1","a":"2"}`, m{"a": "1"}},
		"two messages":       {`{"msg":"m","message":"n"}`, "m", m{"message": "n"}},
		"broken JSON":        {`{"msg":"m",}`, `{"msg":"m",}`, nil},
		"more behind":        {`{"msg":"m"} {"x":1}`, `{"msg":"m"} {"x":1}`, nil},
		"wrong number":       {`{"msg":"m","n":01}`, `{"msg":"m","n":01}`, nil},
		"level in text":      {`{"msg":"ERROR it broke","a":"b"}`, "ERROR it broke", m{"a": "b", "level": "error"}},
		"logfmt":             {`time=2026-11-23T10:00:00Z level=error msg="it \"broke\"" n=3 empty=`, `it "broke"`, m{"lag_ms": "987", "level": "error", "n": "3", "empty": ""}},
		"one pair":           {`a=b`, `a=b`, nil},
		"not all pairs":      {`a=b c=d and text`, `a=b c=d and text`, nil},
		"klog":               {`E1123 10:00:00.1 1 x.go:1] msg`, `E1123 10:00:00.1 1 x.go:1] msg`, m{"level": "error"}},
		"log4j":              {`2026-11-23 10:00:00 WARN  [main] c.a.X - slow`, `2026-11-23 10:00:00 WARN  [main] c.a.X - slow`, m{"level": "warn"}},
		"brackets":           {`10:00 [error] 12#0: *1 open() failed`, `10:00 [error] 12#0: *1 open() failed`, m{"level": "error"}},
		"a word is no level": {`the Error was in information`, `the Error was in information`, nil},
		"not UTF-8":          {"a\xffb", "a\uFFFDb", nil},
	} {
		message, fields := Parse(tc.text, at)
		if message != tc.message || !maps.Equal(fields.Map(), tc.fields) {
			t.Errorf("%s: got %q %v, want %q %v", name, message, fields, tc.message, tc.fields)
		}
	}
}

func TestParseIsBounded(t *testing.T) {
	var many strings.Builder
	many.WriteString(`{"msg":"m"`)
	for i := range 1000 {
		many.WriteString(`,"k` + strings.Repeat("x", i%7) + string(rune('a'+i%26)) + `":"` + strings.Repeat("v", 100) + `"`)
	}
	many.WriteString("}")
	for name, text := range map[string]string{
		"many fields": many.String(),
		"long value":  `{"msg":"m","a":"` + strings.Repeat("v", maxFieldValue+1) + `"}`,
		"long name":   `{"msg":"m","` + strings.Repeat("n", maxFieldName+1) + `":"b"}`,
		"deep":        `{"msg":"m","a":` + strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 100) + "}",
		"bomb":        `{"msg":"m","a":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + "}",
	} {
		message, fields := Parse(text, 0)
		if message != text {
			t.Errorf("%s: the message is not the whole text but %.50q", name, message)
		}
		checkBounds(t, fields.Map())
	}
}

func checkBounds(t *testing.T, fields map[string]string) {
	t.Helper()
	total := 0
	for k, v := range fields {
		total += len(k) + len(v)
		if len(k) > 3*maxFieldName+8 || len(v) > 3*maxFieldValue {
			t.Errorf("field of %d and %d bytes", len(k), len(v))
		}
	}
	if len(fields) > maxFields+2 || total > 3*maxFieldBytes+200 {
		t.Errorf("%d fields of %d bytes", len(fields), total)
	}
}

func FuzzParsePiece(f *testing.F) {
	f.Add("2026-11-23T10:00:00.123456789Z stdout F hello")
	f.Add("2026-11-23T10:00:00+08:00 stderr P x")
	f.Add(`{"log":"a\n","stream":"stdout","time":"2026-11-23T10:00:00Z"}`)
	f.Add("\x00\x00{")
	f.Fuzz(func(t *testing.T, line string) {
		p, ok := parsePiece(line)
		if ok && (p.at <= 0 || p.stream != "stdout" && p.stream != "stderr") {
			t.Errorf("%q: %+v", line, p)
		}
		if !ok && p.partial {
			t.Errorf("%q: a line of no format goes on", line)
		}
	})
}

// What is taken as JSON is JSON; its strings are those that the library reads.
func FuzzParse(f *testing.F) {
	f.Add(`{"level":"warn","msg":"slow","a":{"b":[1,"x"]},"u":"\ud83d\ude00"}`)
	f.Add(`level=info msg="a b" n=1`)
	f.Add("ERROR \xff")
	f.Fuzz(func(t *testing.T, text string) {
		message, fields := Parse(text, 1795428000e9)
		if !utf8.ValidString(message) {
			t.Errorf("message %q", message)
		}
		checkBounds(t, fields.Map())
		for k, v := range fields.Map() {
			if !utf8.ValidString(k) || !utf8.ValidString(v) || k != wire.LagField && reserved(k) {
				t.Errorf("field %q = %q", k, v)
			}
		}
		x := extraction{valid: true}
		s := strings.TrimSpace(text)
		if len(s) < 2 || s[0] != '{' || !utf8.ValidString(s) || !x.json(s) {
			return
		}
		var want map[string]any
		if err := json.Unmarshal([]byte(s), &want); err != nil {
			t.Fatalf("%q is taken as JSON: %v", s, err)
		}
		if m, ok := want["msg"].(string); ok && x.hasMessage && !x.lacking && want["message"] == nil && x.message != m {
			t.Errorf("%q: message %q, want %q", s, x.message, m)
		}
	})
}

func BenchmarkParseJSON(b *testing.B) {
	line := `{"level":"info","ts":"2026-11-23T10:00:00.123Z","msg":"request handled","method":"GET","path":"/api/v1/cart/items","status":200,"duration_ms":12.345,"user_id":48213,"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","bytes":5120}`
	at := time.Date(2026, 11, 23, 10, 0, 0, 124_000_000, time.UTC).UnixNano()
	b.ReportAllocs()
	for b.Loop() {
		Parse(line, at)
	}
}
