package logs

import (
	"strings"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// All rows of a batch with positions have the field, or storing them takes the library's
// slow way for each block.
func TestPositionsAreAFieldOfAllRows(t *testing.T) {
	s := open(t, t.TempDir(), func(o *Options) {})
	at := dayStart().UnixNano()
	b := &wire.LogBatch{Sender: "node/n1", ID: "1", Groups: []wire.LogGroup{
		{Stream: wire.LogStream{Namespace: "shop", Pod: "cart", Container: "app", Stream: "stdout"}, Lines: []wire.LogLine{{Time: at, Message: "a"}, {Time: at + 1, Message: "b"}}},
		{Stream: wire.LogStream{Namespace: "shop", Pod: "web", Container: "app", Stream: "stdout"}, Lines: []wire.LogLine{{Time: at, Message: "c"}}},
	}, Positions: []wire.LogPosition{{LogSource: wire.LogSource{Key: "uid/app", Namespace: "shop", Pod: "cart", Container: "app"}, From: at + 1, Taken: at + 1, State: "{}"}}}
	appendOK(t, s, "c1", b)
	got := map[string]string{}
	if err := s.ask(t.Context(), "c1", "*", 0, time.Now().Add(day).UnixNano(), func(r Row) { got[strings.Clone(r.Get("_msg"))] = strings.Clone(r.Get(fieldPosition)) }); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"a": noPosition, "b": "ahead 0 uid/app {}", "c": noPosition}
	for line, position := range want {
		if got[line] != position {
			t.Errorf("line %s has position %q, want %q", line, got[line], position)
		}
	}
}
