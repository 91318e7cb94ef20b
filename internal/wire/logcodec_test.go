package wire

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func odd() *LogBatch {
	return &LogBatch{Sender: `node/"n\1`, ID: "b1", Groups: []LogGroup{
		{LogStream{Namespace: "shop", Pod: "cart-1", Container: "app", Stream: "stdout", WorkloadType: "deployment", Workload: "cart", Node: "n1"}, []LogLine{
			{Time: 1, Message: "plain"},
			{Time: 1764000000000000000, Message: "tab\t \"quoted\" back\\slash\r\n\x00\x1f\x7f ü 世界 \u2028 <&>", Fields: map[string]string{"level": "info", "b": "", "a": "x\ny", "": "empty"}},
			{Time: -5},
		}},
		{LogStream{Stream: "events"}, nil},
		{LogStream{Stream: "events", Namespace: "ü"}, []LogLine{}},
	}, Complete: []LogMark{{Node: "n1", Through: 7}, {Through: 8}}}
}

// What is written by hand is what encoding/json reads, and the other way round.
func TestLogCodecAgreesWithEncodingJSON(t *testing.T) {
	for name, in := range map[string]*LogBatch{"odd": odd(), "empty": {}, "no lines": {Sender: "a", ID: "b", Groups: []LogGroup{}}} {
		body, _ := MarshalLogBatch(in)
		var want LogBatch
		if err := json.Unmarshal(body, &want); err != nil {
			t.Fatalf("%s: %v in %s", name, err, body)
		}
		if name != "empty" { // null groups are left to encoding/json
			if got, ok := readLogBatch(body); !ok || !same(got, want) {
				t.Errorf("%s: read %+v (%v), want %+v", name, got, ok, want)
			}
		}
		theirs, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		var again LogBatch
		if err := json.Unmarshal(theirs, &again); err != nil {
			t.Fatal(err)
		}
		got, ok := readLogBatch(theirs)
		if name == "odd" && !strings.Contains(string(theirs), `"l":null`) || ok && !same(got, again) {
			t.Errorf("%s: read %+v of encoding/json's, want %+v", name, got, again)
		}
	}
}

// same compares but for what is nil and what is empty, which mean the same.
func same(a, b LogBatch) bool {
	norm := func(x *LogBatch) {
		if len(x.Groups) == 0 {
			x.Groups = nil
		}
		if len(x.Complete) == 0 {
			x.Complete = nil
		}
		for i := range x.Groups {
			if len(x.Groups[i].Lines) == 0 {
				x.Groups[i].Lines = nil
			}
			for j := range x.Groups[i].Lines {
				if len(x.Groups[i].Lines[j].Fields) == 0 {
					x.Groups[i].Lines[j].Fields = nil
				}
			}
		}
	}
	norm(&a)
	norm(&b)
	return reflect.DeepEqual(a, b)
}

func TestWhatIsNotUTF8IsReplaced(t *testing.T) {
	body, _ := MarshalLogBatch(&LogBatch{Sender: "a", ID: "b", Groups: []LogGroup{{LogStream{Stream: "stdout"}, []LogLine{{Time: 1, Message: "a\xff\xfeb\xe4"}}}}})
	b, err := UnmarshalLogBatch(body)
	if err != nil || b.Groups[0].Lines[0].Message != "a\uFFFD\uFFFDb\uFFFD" {
		t.Errorf("read %+v, %v", b, err)
	}
}

// Whatever is read by hand, encoding/json reads, too, and the same.
func FuzzReadLogBatch(f *testing.F) {
	body, _ := MarshalLogBatch(odd())
	f.Add(body)
	for _, s := range []string{
		``, `{}`, `null`, `{"sender":"a","id":"b","groups":[]}`, ` { "sender" : "a" , "groups" : [ { "l" : [ { "t" : 1 } , { } ] } ] } `, `{"SENDER":"a"}`, `{"sender":"a","sender":"b"}`,
		`{"groups":[{"s":{},"s":{"pod":"x"}}]}`, `{"groups":[{"l":[{"t":01}]}]}`, `{"groups":[{"l":[{"t":1.5}]}]}`, `{"groups":[{"l":[{"t":-}]}]}`, `{"groups":[{"l":[{"t":-0,"m":"\u00e4\ud83d\ude00\/"}]}]}`,
		`{"groups":[{"l":[{"f":{"a":"1","a":"2"}}]}]}`, `{"sender":"a"}x`, `{"sender":"a",}`, `{"sender":"\x"}`, `{"complete":[{"node":"a","through":9223372036854775808}]}`, "{\"id\":\"a\nb\"}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, ok := readLogBatch(body)
		if !ok {
			return
		}
		var want LogBatch
		if err := json.Unmarshal(body, &want); err != nil {
			t.Fatalf("read %q, which encoding/json refuses: %v", body, err)
		}
		if !same(got, want) {
			t.Fatalf("read %+v of %q, want %+v", got, body, want)
		}
	})
}

func benchmarkBatch() *LogBatch {
	g := LogGroup{Stream: odd().Groups[0].Stream}
	for i := range 1000 {
		g.Lines = append(g.Lines, LogLine{Time: 1764000000000000000 + int64(i), Message: "cart request handled", Fields: map[string]string{
			"level": "info", "time": "2026-11-23T10:00:00.123Z", "method": "GET", "path": "/api/v1/cart/items", "status": "200", "duration_ms": "12.345", "user_id": "10042", "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
		}})
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

func BenchmarkUnmarshalByReflection(b *testing.B) {
	body, _ := MarshalLogBatch(benchmarkBatch())
	for b.Loop() {
		var out LogBatch
		if err := json.Unmarshal(body, &out); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMarshalByReflection(b *testing.B) {
	in := benchmarkBatch()
	for b.Loop() {
		if _, err := json.Marshal(in); err != nil {
			b.Fatal(err)
		}
	}
}
