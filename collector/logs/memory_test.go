package logs

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// Lines arrive as they were written, though each batch lies in what another lay in before:
// of one piece and of several, joined and not, masked, with fields, and those that wait
// from one batch for the next.
func TestBatchesLieInTheSameMemory(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	f, stop := tr.run(s)
	var want []string
	for round := range 30 {
		var text strings.Builder
		for n := range 501 { // the last of which waits for a further line while the batch is sent
			name := fmt.Sprintf("%d-%d", round, n)
			whole := "line " + name
			switch n % 5 {
			case 0:
				text.WriteString(cri(round, "stdout", "F", whole))
			case 1:
				whole += strings.Repeat(" and more", 40)
				text.WriteString(cri(round, "stdout", "P", whole[:20]) + cri(round, "stdout", "F", whole[20:]))
			case 2:
				whole = "ERROR " + whole + "\n\tat " + name + "\n\tat a.B"
				for l := range strings.SplitSeq(whole, "\n") {
					text.WriteString(cri(round, "stdout", "F", l))
				}
			case 3:
				text.WriteString(cri(round, "stdout", "F", whole+" password=hunter2"))
				whole += " password=" + masked
			case 4:
				text.WriteString(cri(round, "stdout", "F", fmt.Sprintf(`{"msg":%q,"name":%q,"level":"warn"}`, whole, name)))
			}
			want = append(want, whole)
		}
		tr.raw("0.log", text.String())
		s.await(key, len(want)-1)
	}
	got := s.await(key, len(want))
	stop()
	for i, w := range want {
		if got[i] != w {
			t.Fatalf("record %d is %q, want %q", i, got[i], w)
		}
	}
	if s.batches < 10 || f.memories.wipe == nil {
		t.Errorf("%d batches", s.batches)
	}
}

func TestMemory(t *testing.T) {
	m := newMemory()
	for round := range 3 {
		var took []string
		for _, n := range []int{0, 1, 10_000, 10_000, 70_000, 1 << 20, 5} {
			took = append(took, m.copy([]byte(strings.Repeat(string(rune('a'+round)), n))))
		}
		for i, s := range took {
			if strings.Trim(s, string(rune('a'+round))) != "" {
				t.Fatalf("round %d: text %d has something of another", round, i)
			}
		}
		for range 100 {
			_, fields := m.room.parse("INFO x", 0)
			if fields.Get("level") != "info" || len(fields) != cap(fields) {
				t.Fatalf("fields are %v, with room for %d", fields, cap(fields))
			}
		}
		if l := m.linesOf(100); (cap(l) == 128) != (round > 0) || len(l) != 0 {
			t.Errorf("round %d: a group begins with %d lines and room for %d", round, len(l), cap(l))
		}
		m.reset([]wire.LogGroup{{Lines: make([]wire.LogLine, 7, 128)}, {Lines: make([]wire.LogLine, 7, 10)}})
	}
	text := []byte(strings.Repeat("x", 64<<10))
	if n := testing.AllocsPerRun(20, func() {
		for range 30 {
			m.copy(text)
			m.room.parse("INFO x", 0)
		}
		m.reset(nil)
	}); n > 0 {
		t.Errorf("a batch like the one before takes %v pieces of new memory", n)
	}
}

// A batch does not hold the text of lines that are beyond their container's rate.
func TestWhatIsLeftOutIsNotHeld(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	const lines = 40_000
	tr.write("0.log", lines)
	o := tr.options()
	o.Rules.Limit = LimitOptions{Lines: 1}
	f, err := NewFiles(o)
	if err != nil {
		t.Fatal(err)
	}
	var held atomic.Int64
	f.memories.wipe = func(m *memory) { held.Store(max(held.Load(), int64(m.held))) }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx, s) }()
	waitFor(t, func() bool { return f.Health().Read == lines })
	s.await(key, 1)
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if n := held.Load(); n == 0 || n > 4*readBytes {
		t.Errorf("a batch held %d bytes of text, want some, and at most %d", n, 4*readBytes)
	}
}
