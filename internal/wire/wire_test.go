package wire

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/object"
)

func TestLogBatchRoundTrip(t *testing.T) {
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC).UnixNano()
	in := &LogBatch{Sender: "node/n1", ID: "b1", Groups: []LogGroup{{
		Stream: LogStream{Namespace: "shop", Pod: "cart-1", Container: "app", Stream: "stdout"},
		Lines:  []LogLine{{Time: at, Message: "hello", Fields: LogFields{{"level", "info"}}}},
	}}}
	body, err := MarshalLogBatch(in)
	if err != nil {
		t.Fatal(err)
	}
	out, err := UnmarshalLogBatch(body)
	if err != nil {
		t.Fatal(err)
	}
	if out.Groups[0].Stream != in.Groups[0].Stream || out.Groups[0].Lines[0].Message != "hello" {
		t.Errorf("got %+v", out)
	}
}

func TestLogBatchRefusals(t *testing.T) {
	day := int64(24 * time.Hour)
	stream := LogStream{Stream: "stdout"}
	for name, tc := range map[string]struct {
		batch LogBatch
		want  string
	}{
		"no sender":      {LogBatch{ID: "x", Groups: []LogGroup{{stream, []LogLine{{Time: 1}}}}}, "sender"},
		"no lines":       {LogBatch{Sender: "a", ID: "x"}, "groups"},
		"over two days":  {LogBatch{Sender: "a", ID: "x", Groups: []LogGroup{{stream, []LogLine{{Time: day}, {Time: 2 * day}}}}}, "same UTC day"},
		"line too long":  {LogBatch{Sender: "a", ID: "x", Groups: []LogGroup{{stream, []LogLine{{Time: 1, Message: strings.Repeat("x", MaxLogLineBytes+1)}}}}}, "at most"},
		"a wrong mark":   {LogBatch{Sender: "a", ID: "x", Complete: []LogMark{{Node: "n"}}}, "complete[0].through"},
		"without stream": {LogBatch{Sender: "a", ID: "x", Groups: []LogGroup{{LogStream{}, []LogLine{{Time: 1}}}}}, "stream"},
	} {
		err := tc.batch.Validate()
		if !errors.Is(err, fault.ErrInvalid) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want an invalid batch that names %q", name, err, tc.want)
		}
	}
}

func TestInventoryBatchSortsObjectsByKind(t *testing.T) {
	var b InventoryBatch
	b.Put(&object.Pod{Meta: object.Meta{UID: "p", Name: "p"}})
	b.Put(&object.Node{Meta: object.Meta{UID: "n", Name: "n"}})
	got := b.Objects()
	if len(got) != 2 || got[0].Kind() != object.KindNode || got[1].Kind() != object.KindPod {
		t.Errorf("got %v", got)
	}
}

// FuzzParseEarlier: what is read is what is written of it.
func FuzzParseEarlier(f *testing.F) {
	for _, s := range []string{"", "0", "1700000000000,1700000030000", "-1", "1,", ",", "9223372036854775807", strings.Repeat("1,", MaxEarlier) + "1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		all, err := ParseEarlier(s)
		if err != nil {
			return
		}
		if again, err := ParseEarlier(FormatEarlier(all)); err != nil || len(all) > MaxEarlier || !slices.EqualFunc(again, all, time.Time.Equal) {
			t.Errorf("%q: %v is read as %v, %v", s, all, again, err)
		}
	})
}

func FuzzUnmarshalLogBatch(f *testing.F) {
	f.Add([]byte(`{"sender":"a","id":"b","groups":[{"s":{"stream":"stdout"},"l":[{"t":1,"m":"x"}]}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		b, err := UnmarshalLogBatch(body)
		if err == nil && b.Lines() == 0 && len(b.Complete) == 0 {
			t.Error("an accepted batch says nothing")
		}
	})
}

func FuzzUnmarshalInventoryBatch(f *testing.F) {
	f.Add([]byte(`{"session":"s","sequence":1,"time":"2026-11-23T10:00:00Z","pods":[{"uid":"u","name":"n"}]}`))
	f.Add([]byte(`{"session":"s","sequence":1,"time":"2026-11-23T10:00:00Z","pods":[null]}`))
	f.Fuzz(func(_ *testing.T, body []byte) {
		_, _ = UnmarshalInventoryBatch(body)
	})
}
