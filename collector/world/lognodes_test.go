package world

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/object"
)

type fixedState state.Snapshot

func (s *fixedState) Snapshot() *state.Snapshot { return (*state.Snapshot)(s) }

// The logs of a node are left to its collector from when the server hears it until it has
// not for a while in which the server answered; whether it was there before is not known.
func TestWhoseLogsAreFollowedFromOutside(t *testing.T) {
	node := func(name string) *object.Node { return &object.Node{Meta: object.Meta{Name: name}} }
	s := &fixedState{Synced: true, Nodes: map[string]*object.Node{"a": node("a"), "b": node("b")}}
	now := time.Date(2026, 11, 29, 10, 0, 0, 0, time.UTC)
	var heard []string
	var trouble error
	l := newLogNodes(Options{LogReaders: func(_ context.Context, nodes []string) ([]string, error) {
		if !slices.Equal(nodes, []string{"a", "b"}) {
			t.Errorf("asked of %v", nodes)
		}
		return heard, trouble
	}, Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return now }}, s)
	is := func(when string, a, b, quiet bool) {
		t.Helper()
		if gotA, gotB, got := l.Reads(node("a")), l.Reads(node("b")), l.Quiet(); gotA != a || gotB != b || got != quiet {
			t.Errorf("%s: follows a: %v, b: %v, quiet: %v; want %v, %v, %v", when, gotA, gotB, got, a, b, quiet)
		}
	}
	after := func(d time.Duration) { now = now.Add(d); l.refresh(t.Context()) }

	is("before the server was asked", false, false, false)
	trouble = errors.New("away")
	after(0)
	is("before it answers", false, false, false)
	trouble, heard = nil, []string{"a"}
	after(0)
	is("at its first answer", false, true, false)
	after(silentFor)
	is("later", false, true, true)
	heard = nil
	after(time.Second)
	after(silentFor - time.Second)
	is("not heard for a moment", false, true, true)
	trouble = errors.New("away")
	after(silentFor)
	is("while the server is away", false, true, false)
	trouble = nil
	after(time.Second)
	after(silentFor - time.Second)
	is("when collectors are on their way back to it", false, true, false)
	after(time.Second)
	is("silent for long", true, true, true)
	heard = []string{"a", "b"}
	after(time.Second)
	is("heard again", false, false, true)
}
