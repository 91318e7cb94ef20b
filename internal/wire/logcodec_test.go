package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func odd() *LogBatch {
	return &LogBatch{Sender: `node/"n\1`, ID: "b1", Groups: []LogGroup{
		{LogStream{Namespace: "shop", Pod: "cart-1", Container: "app", Stream: "stdout", WorkloadType: "deployment", Workload: "cart", Node: "n1"}, []LogLine{
			{Time: 1, Message: "plain"},
			{Time: 1764000000000000000, Message: "tab\t \"quoted\" back\\slash\r\n\x00\x1f\x7f ü 世界 \u2028 <&>", Fields: FieldsOf(map[string]string{"level": "info", "b": "", "a": "x\ny", "": "empty"})},
			{Time: -5, Fields: LogFields{{"z", "1"}, {"level", "warn"}}},
			{Time: -5, Fields: LogFields{{"level", "warn"}, {"z", "1"}}},
		}},
		{LogStream{Stream: "events"}, nil},
		{LogStream{Stream: "events", Namespace: "ü"}, []LogLine{{Time: 7, Fields: LogFields{{"a", "b"}}}}},
	}, Complete: []LogMark{{Node: "n1", Through: 7}, {Through: 8}}}
}

func TestLogBatchComesThroughAsItWas(t *testing.T) {
	shared := odd()
	shared.Complete = append(shared.Complete, LogMark{Node: "n2", Through: 9, Part: 3, Parts: 0b1010})
	shared.Positions = []LogPosition{
		{LogSource{Key: "uid-1/app", Namespace: "shop", Pod: "cart-1", Container: "app"}, 7, 9, `{"time":1}`},
		{LogSource: LogSource{Key: "k"}},
	}
	for name, in := range map[string]*LogBatch{"odd": odd(), "shared": shared, "shared marks": {Complete: []LogMark{{Through: 1, Part: 1, Parts: 2}}}, "empty": {}, "marks only": {Sender: "a", ID: "b", Complete: []LogMark{{Through: 1}}}} {
		body, err := MarshalLogBatch(in)
		if err != nil {
			t.Fatal(err)
		}
		got, err := readLogBatch(string(body))
		if err != nil || !reflect.DeepEqual(&got, in) {
			t.Errorf("%s: read %+v (%v), want %+v", name, got, err, in)
		}
		for n := range body[:len(body)-1] {
			if n < len(logMagic) {
				continue
			}
			if _, err := readLogBatch(string(body[:n])); err == nil {
				t.Errorf("%s: cut to %d of %d bytes it is read", name, n, len(body))
			}
		}
	}
}

// Batches as JSON are taken, too.
func TestLogBatchAsJSON(t *testing.T) {
	in := &LogBatch{Sender: "a", ID: "b", Groups: []LogGroup{{LogStream{Pod: "p", Stream: "stdout"}, []LogLine{{Time: 1, Message: "m", Fields: FieldsOf(map[string]string{"b": "2", "a": "1"})}}}}}
	body, err := json.Marshal(in)
	if err != nil || !strings.Contains(string(body), `"f":{"a":"1","b":"2"}`) {
		t.Fatalf("%s, %v", body, err)
	}
	got, err := UnmarshalLogBatch(body)
	if err != nil || !reflect.DeepEqual(got, in) {
		t.Errorf("read %+v, %v", got, err)
	}
}

func TestDamagedLogBatchIsRefused(t *testing.T) {
	head := logMagic + "\x01a\x01b\x00\x01" + "\x00\x00\x00\x01s\x00\x00\x00" // one group
	for name, body := range map[string]string{
		"a name that is not known":  head + "\x01\x02\x00\x01\x05\x00",
		"a name twice in a line":    head + "\x01\x02\x00\x02\x01\x01n\x00\x01\x00",
		"more lines than there are": head + "\xff\xff\xff\xff\x0f\x02\x00\x00",
		"a number without end":      head + strings.Repeat("\xff", 11),
		"something behind it":       head + "\x01\x02\x00\x00x",
	} {
		if _, err := UnmarshalLogBatch([]byte(body)); err == nil {
			t.Errorf("%s: it is read", name)
		}
	}
	if _, err := UnmarshalLogBatch([]byte(head + "\x01\x02\x00\x00")); err != nil {
		t.Errorf("the same without damage: %v", err)
	}
	many := binary.AppendUvarint([]byte(head), MaxLogBatchLines+1)
	if _, err := UnmarshalLogBatch(append(many, strings.Repeat("\x02\x00\x00", MaxLogBatchLines+1)...)); err == nil {
		t.Error("too many lines are read")
	}
}

func TestWhatIsNotUTF8IsReplaced(t *testing.T) {
	body, _ := MarshalLogBatch(&LogBatch{Sender: "a", ID: "b", Groups: []LogGroup{{LogStream{Stream: "stdout"}, []LogLine{{Time: 1, Message: "a\xff\xfeb\xe4"}}}}})
	b, err := UnmarshalLogBatch(body)
	if err != nil || b.Groups[0].Lines[0].Message != "a\uFFFDb\uFFFD" {
		t.Errorf("read %+v, %v", b, err)
	}
}

// Whatever is read is bounded, and comes through writing and reading again.
func FuzzReadLogBatch(f *testing.F) {
	body, _ := MarshalLogBatch(odd())
	f.Add(string(body))
	f.Add(logMagic)
	f.Fuzz(func(t *testing.T, body string) {
		if !strings.HasPrefix(body, logMagic) {
			return
		}
		got, err := readLogBatch(body)
		if err != nil {
			return
		}
		again, _ := MarshalLogBatch(&got)
		twice, err := readLogBatch(string(again))
		if err != nil || !reflect.DeepEqual(got, twice) {
			t.Fatalf("read %+v of %q, then %+v, %v", got, body, twice, err)
		}
	})
}

func benchmarkBatch() *LogBatch {
	g := LogGroup{Stream: odd().Groups[0].Stream}
	for i := range 1000 {
		g.Lines = append(g.Lines, LogLine{Time: 1764000000000000000 + int64(i), Message: "cart request handled", Fields: FieldsOf(map[string]string{
			"level": "info", "time": "2026-11-23T10:00:00.123Z", "method": "GET", "path": "/api/v1/cart/items", "status": "200", "duration_ms": "12.345", "user_id": "10042", "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
		})})
	}
	return &LogBatch{Sender: "node/n1", ID: "b1", Groups: []LogGroup{g}}
}

func BenchmarkMarshalLogBatch(b *testing.B) {
	in := benchmarkBatch()
	for b.Loop() {
		_, _ = MarshalLogBatch(in)
	}
}

func BenchmarkUnmarshalLogBatch(b *testing.B) {
	body, _ := MarshalLogBatch(benchmarkBatch())
	for b.Loop() {
		if _, err := UnmarshalLogBatch(body); err != nil {
			b.Fatal(err)
		}
	}
}

// A batch that is sent several times is the same each time, with its lines or without.
func TestEncode(t *testing.T) {
	want, err := MarshalLogBatch(odd())
	if err != nil {
		t.Fatal(err)
	}
	for _, disposed := range []bool{false, true} {
		b := odd()
		if disposed {
			b.Dispose(nil)
		}
		for range 2 {
			if got, err := b.Encode(); err != nil || !bytes.Equal(got, want) {
				t.Errorf("disposed of %v: %d bytes, %v; want %d", disposed, len(got), err, len(want))
			}
		}
		if (b.Groups == nil) != disposed {
			t.Errorf("disposed of %v: %d groups are left", disposed, len(b.Groups))
		}
	}
}

// What one batch was encoded into, the next one is, if it has room; and the lines' memory is
// given back once, when they are encoded.
func TestEncodeInto(t *testing.T) {
	want, err := MarshalLogBatch(odd())
	if err != nil {
		t.Fatal(err)
	}
	var room []byte
	for round, size := range []int{10, -1, -1} {
		b, given := odd(), 0
		lines := b.Lines()
		if size >= 0 {
			room = make([]byte, size)
		}
		before := &room[:1][0]
		b.EncodeInto(room)
		b.Dispose(func(groups []LogGroup) {
			given++
			if (&LogBatch{Groups: groups}).Lines() != lines {
				t.Errorf("round %d: %d groups are given back", round, len(groups))
			}
		})
		for range 2 {
			if got, err := b.Encode(); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("round %d: %d bytes, %v; want %d", round, len(got), err, len(want))
			}
		}
		room = b.Encoded()
		if same := &room[0] == before; same != (round > 0) || given != 1 {
			t.Errorf("round %d: into the same room: %v; groups are given back %d times", round, same, given)
		}
	}
	b := odd()
	b.EncodeInto(room)
	if got := b.Encoded(); len(got) != len(room) {
		t.Errorf("a batch that was never encoded gives back %d bytes of %d", len(got), len(room))
	}
}

// A batch that keeps only what was encoded gets its lines back, to be changed and encoded
// again.
func TestLogBatchIsReopened(t *testing.T) {
	stream := LogStream{Namespace: "shop", Pod: "cart-1", Container: "app", Stream: "stdout"}
	b := &LogBatch{Sender: "all", ID: "1", Groups: []LogGroup{{stream, []LogLine{{Time: 1_800_000_000_000_000_000, Message: "m", Fields: FieldsOf(map[string]string{"level": "info"})}}}}}
	whole, err := MarshalLogBatch(b)
	if err != nil {
		t.Fatal(err)
	}
	b.Dispose(nil)
	if _, err := b.Encode(); err != nil || b.Groups != nil {
		t.Fatalf("%d groups are left, %v", len(b.Groups), err)
	}
	if err := b.Reopen(); err != nil {
		t.Fatal(err)
	}
	if again, err := b.Encode(); err != nil || string(again) != string(whole) {
		t.Errorf("it is encoded as %d bytes, %v; it was %d", len(again), err, len(whole))
	}
}

// What a batch says to be complete is taken out of it once that does not hold, also after it
// was encoded.
func TestLogBatchUnsays(t *testing.T) {
	for _, outdated := range []int{0, 1, 2} {
		b, asked := &LogBatch{Sender: "all", ID: "1", Complete: []LogMark{{Through: 8}}, Groups: []LogGroup{{LogStream{Stream: "stdout"}, []LogLine{{Time: 1, Message: "m"}}}}}, 0
		want := len(b.Complete)
		b.Dispose(nil)
		b.Unsay(func() bool { asked++; return asked > outdated })
		for attempt := range 3 {
			raw, err := b.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if attempt == outdated {
				want = 0
			}
			if got, err := UnmarshalLogBatch(raw); err != nil || len(got.Complete) != want || got.Lines() != 1 {
				t.Errorf("outdated after %d, attempt %d: %+v, %v", outdated, attempt, got, err)
			}
		}
	}
}
