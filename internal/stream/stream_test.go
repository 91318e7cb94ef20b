package stream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/crowsnest-dev/crowsnest/internal/bubbletest"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// line is a connection in memory. It ends after so many frames in one direction.
type line struct {
	ctx    context.Context
	end    context.CancelFunc
	a, b   *Mux // which open odd and even channels
	after  int  // frames from a to b until it breaks; 0 for never
	mu     sync.Mutex
	frames []wire.Frame // from a to b
	reads  sync.WaitGroup
}

var errBroken = errors.New("the line broke")

// connect joins two ends. Frames of channel 0 go to control.
func connect(t *testing.T, after int, a, b func(wire.Open) (Document, error), control func(wire.Frame)) *line {
	ctx, cancel := context.WithCancel(t.Context())
	l := &line{ctx: ctx, end: cancel, after: after}
	toA, toB := make(chan wire.Frame, 1), make(chan wire.Frame, 1)
	put := func(to chan wire.Frame, ctx context.Context, f wire.Frame) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-l.ctx.Done():
			return errBroken
		case to <- f:
			return nil
		}
	}
	l.a = New(Options{First: 1, Accept: a, Write: func(ctx context.Context, f wire.Frame) error {
		l.mu.Lock()
		l.frames = append(l.frames, f)
		broken := l.after > 0 && len(l.frames) > l.after
		l.mu.Unlock()
		if broken {
			l.end()
			return errBroken
		}
		return put(toB, ctx, f)
	}})
	l.b = New(Options{First: 2, Accept: b, Write: func(ctx context.Context, f wire.Frame) error { return put(toA, ctx, f) }})
	read := func(from chan wire.Frame, mux *Mux) func() {
		return func() {
			for {
				select {
				case <-ctx.Done():
					return
				case f := <-from:
					if f.Channel == 0 {
						control(f)
						continue
					}
					mux.Take(ctx, f)
				}
			}
		}
	}
	l.reads.Go(read(toA, l.a))
	l.reads.Go(read(toB, l.b))
	return l
}

func (l *line) close() {
	l.end()
	l.reads.Wait()
	l.a.Wait()
	l.b.Wait()
}

// sent counts the bytes of documents that went from a to b.
func (l *line) sent() (bytes int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.frames {
		var piece []byte
		if f.Type == wire.FrameData && json.Unmarshal(f.Body, &piece) == nil {
			bytes += len(piece)
		}
	}
	return bytes
}

func document(n int) []byte {
	out := make([]byte, n)
	random := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8)})
	_, _ = random.Read(out)
	return out
}

// list keeps what comes, from several channels.
type list[T any] struct {
	mu  sync.Mutex
	all []T
}

func (l *list[T]) add(one T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, one)
}

func (l *list[T]) get() []T {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.all)
}

// taken gives what takes documents into a list.
func taken(box *Inbox, into *list[[]byte]) func(wire.Open) (Document, error) {
	return func(o wire.Open) (Document, error) {
		return box.Document(o, func(_ context.Context, document []byte) error {
			into.add(document)
			return nil
		}), nil
	}
}

func TestDocumentsArriveAsTheyWere(t *testing.T) {
	for _, size := range []int{0, 1, pieceBytes - 1, pieceBytes, pieceBytes + 1, windowBytes, windowBytes + 1, 5*windowBytes + 17} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			bubbletest.Test(t, func(t *testing.T) {
				var got list[[]byte]
				l := connect(t, 0, nil, taken(&Inbox{}, &got), nil)
				want := document(size)
				if err := l.a.Send(t.Context(), "settings", ID(want), want); err != nil {
					t.Error(err)
				}
				if got := got.get(); len(got) != 1 || !bytes.Equal(got[0], want) {
					t.Errorf("%d documents came", len(got))
				}
				l.close()
			})
		})
	}
}

// blocked is a document whose reader does not read.
type blocked struct {
	got int
	go_ chan struct{}
}

func (b *blocked) Have() int64 { return 0 }
func (b *blocked) Write(p []byte) (int, error) {
	<-b.go_
	b.got += len(p)
	return len(p), nil
}
func (b *blocked) Done(context.Context) error { return nil }

// A document that nobody reads holds up itself alone, in both directions, and
// takes up no more than its window.
func TestASlowDocumentHoldsUpNothingElse(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		slow := &blocked{go_: make(chan struct{})}
		var got, back list[[]byte]
		var boxes [2]Inbox
		var said list[wire.Frame]
		l := connect(t, 0, taken(&boxes[0], &back), func(o wire.Open) (Document, error) {
			if o.Kind == "slow" {
				return slow, nil
			}
			return taken(&boxes[1], &got)(o)
		}, said.add)
		large, other := document(10*windowBytes), document(3*windowBytes)
		result := make(chan error, 1)
		go func() { result <- l.a.Send(t.Context(), "slow", ID(large), large) }()
		synctest.Wait()
		if n := l.sent(); n != windowBytes {
			t.Errorf("%d bytes of what nobody reads were sent, the window is %d", n, windowBytes)
		}
		for range 3 {
			if err := errors.Join(l.a.Send(t.Context(), "quick", ID(other), other), l.b.Send(t.Context(), "up", ID(other), other), l.a.o.Write(t.Context(), wire.Frame{Type: wire.FrameHealth})); err != nil {
				t.Error(err)
			}
		}
		synctest.Wait()
		if len(got.get()) != 3 || len(back.get()) != 3 || len(said.get()) != 3 {
			t.Errorf("%d and %d documents and %d frames came past it", len(got.get()), len(back.get()), len(said.get()))
		}
		select {
		case err := <-result:
			t.Errorf("it ended: %v", err)
		default:
		}
		close(slow.go_)
		if err := <-result; err != nil || slow.got != len(large) {
			t.Errorf("%d of %d bytes in the end: %v", slow.got, len(large), err)
		}
		l.close()
	})
}

// Whatever else is to be said waits for one piece of a document, not for all of it.
func TestPiecesAreSmall(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		var got list[[]byte]
		var boxes [2]Inbox
		l := connect(t, 0, nil, func(o wire.Open) (Document, error) { return taken(&boxes[o.Bytes%2], &got)(o) }, nil)
		var g sync.WaitGroup
		for _, d := range [][]byte{document(6 * windowBytes), document(6*windowBytes + 1)} {
			g.Go(func() {
				if err := l.a.Send(t.Context(), "settings", ID(d), d); err != nil {
					t.Error(err)
				}
			})
		}
		g.Wait()
		for _, f := range l.frames {
			if len(f.Body) > 2*pieceBytes {
				t.Errorf("a frame of %d bytes", len(f.Body))
			}
		}
		if len(got.get()) != 2 {
			t.Errorf("%d documents at a time", len(got.get()))
		}
		l.close()
	})
}

// Over a line that breaks again and again a document comes in parts, and no part
// twice.
func TestADocumentGoesOnWhereItBrokeOff(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		var got list[[]byte]
		var box Inbox
		want := document(8*windowBytes + 5)
		total, lines := 0, 0
		for len(got.get()) == 0 && lines < 100 {
			lines++
			l := connect(t, 12, nil, taken(&box, &got), nil)
			err := l.a.Send(l.ctx, "settings", ID(want), want)
			synctest.Wait()
			l.close()
			total += l.sent()
			if err != nil && !errors.Is(err, errBroken) && !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
		}
		if got := got.get(); len(got) != 1 || !bytes.Equal(got[0], want) || lines < 4 {
			t.Fatalf("%d documents by %d lines", len(got), lines)
		}
		// What a line had taken as it broke may be sent again: a window each time.
		if total > len(want)+lines*windowBytes {
			t.Errorf("%d bytes were sent of a document of %d, by %d lines", total, len(want), lines)
		}
		// Another one begins anew.
		other := document(2 * windowBytes)
		l := connect(t, 0, nil, taken(&box, &got), nil)
		if err := l.a.Send(t.Context(), "settings", ID(other), other); err != nil || len(got.get()) != 2 || !bytes.Equal(got.get()[1], other) || l.sent() != len(other) {
			t.Errorf("%d documents, %d bytes: %v", len(got.get()), l.sent(), err)
		}
		l.close()
	})
}

func TestWhatIsNotTaken(t *testing.T) {
	refuse := func(wire.Open) (Document, error) { return nil, errors.New("no such thing") }
	for name, tc := range map[string]struct {
		accept func(wire.Open) (Document, error)
		id     string
		size   int
		want   string
	}{
		"nothing is":        {nil, "", 10, "nothing is taken here"},
		"an unknown kind":   {refuse, "", 10, "no such thing"},
		"too large":         {refuse, "", wire.MaxDocumentBytes + 1, "too large"},
		"another's content": {taken(&Inbox{}, new(list[[]byte])), "abc", 10, "not what was offered"},
	} {
		t.Run(name, func(t *testing.T) {
			bubbletest.Test(t, func(t *testing.T) {
				l := connect(t, 0, nil, tc.accept, nil)
				err := l.a.Send(t.Context(), "settings", tc.id, document(tc.size))
				if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("got %v", err)
				}
				synctest.Wait()
				if len(l.a.out)+len(l.b.in) > 0 {
					t.Errorf("channels are left: %d, %d", len(l.a.out), len(l.b.in))
				}
				l.close()
			})
		})
	}
}

// An end that does not keep to the rules ends its own channel, and is bounded in
// what it makes the other one keep.
func TestAnEndThatBreaksTheRules(t *testing.T) {
	frame := func(channel uint32, ft wire.FrameType, body any) wire.Frame {
		f, err := wire.NewFrame(ft, body)
		if err != nil {
			t.Fatal(err)
		}
		f.Channel = channel
		return f
	}
	open := func(channel uint32, bytes int64) wire.Frame {
		return frame(channel, wire.FrameOpen, wire.Open{Kind: "settings", ID: "x", Bytes: bytes})
	}
	for name, tc := range map[string]struct {
		frames []wire.Frame
		want   string // how the channel ends
	}{
		"garbage instead of an offer": {[]wire.Frame{{Channel: 1, Type: wire.FrameOpen, Body: []byte(`7`)}}, "cannot be read"},
		"a negative size":             {[]wire.Frame{open(1, -1)}, "bytes are offered"},
		"garbage instead of a piece":  {[]wire.Frame{open(1, 10), {Channel: 1, Type: wire.FrameData, Body: []byte(`{"a":1}`)}}, "cannot be read"},
		"an empty piece":              {[]wire.Frame{open(1, 10), frame(1, wire.FrameData, []byte{})}, "cannot be read"},
		"longer than offered":         {[]wire.Frame{open(1, 10), frame(1, wire.FrameData, document(11))}, "longer than was said"},
		"shorter than offered":        {[]wire.Frame{open(1, 10), frame(1, wire.FrameEnd, wire.End{})}, "after 0 of 10"},
		"more than the window":        {[]wire.Frame{open(1, 1<<20), frame(1, wire.FrameData, document(windowBytes)), frame(1, wire.FrameData, document(windowBytes))}, "asked for"},
	} {
		t.Run(name, func(t *testing.T) {
			bubbletest.Test(t, func(t *testing.T) {
				slow := &blocked{go_: make(chan struct{})}
				var answers list[wire.Frame]
				m := New(Options{First: 2, Accept: func(wire.Open) (Document, error) { return slow, nil }, Write: func(_ context.Context, f wire.Frame) error {
					answers.add(f)
					return nil
				}})
				for i, f := range tc.frames {
					m.Take(t.Context(), f)
					if i == 0 {
						synctest.Wait() // until it asks
					}
				}
				close(slow.go_) // what is written before gives the sender more to send
				m.Wait()
				var end wire.End
				last := answers.get()[len(answers.get())-1]
				if last.Type != wire.FrameEnd || json.Unmarshal(last.Body, &end) != nil || !strings.Contains(end.Error, tc.want) {
					t.Errorf("it ends with %s %s", last.Type, last.Body)
				}
				m.Take(t.Context(), frame(1, wire.FrameData, document(5))) // after its end
				if len(m.in) > 0 {
					t.Error("a channel is left")
				}
			})
		})
	}
	t.Run("too many channels", func(t *testing.T) {
		bubbletest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			var refused list[uint32]
			m := New(Options{First: 2, Accept: func(wire.Open) (Document, error) { return &blocked{}, nil }, Write: func(_ context.Context, f wire.Frame) error {
				if f.Type == wire.FrameEnd {
					refused.add(f.Channel)
				}
				return nil
			}})
			for i := range maxChannels + 5 {
				m.Take(ctx, open(uint32(2*i+1), 10))
				synctest.Wait()
			}
			if len(refused.get()) != 5 || len(m.in) != maxChannels {
				t.Errorf("%d were refused, %d are open", len(refused.get()), len(m.in))
			}
			cancel()
			m.Wait()
		})
	})
}

func FuzzFrames(f *testing.F) {
	f.Add(uint32(1), "open", []byte(`{"kind":"settings","id":"x","bytes":5}`))
	f.Add(uint32(1), "data", []byte(`"AAAA"`))
	f.Add(uint32(2), "window", []byte(`{"from":9223372036854775807,"bytes":9223372036854775807}`))
	f.Add(uint32(2), "end", []byte(`null`))
	f.Fuzz(func(t *testing.T, channel uint32, ft string, body []byte) {
		ctx, cancel := context.WithCancel(t.Context())
		var box Inbox
		m := New(Options{First: 2, Accept: taken(&box, new(list[[]byte])), Write: func(context.Context, wire.Frame) error { return nil }})
		done := make(chan struct{})
		go func() { _ = m.Send(ctx, "settings", "x", []byte("12345")); close(done) }()
		m.Take(ctx, wire.Frame{Channel: 1, Type: wire.FrameOpen, Body: []byte(`{"kind":"settings","id":"x","bytes":5}`)})
		for range 3 {
			m.Take(ctx, wire.Frame{Channel: channel, Type: wire.FrameType(ft), Body: body})
		}
		cancel()
		<-done
		m.Wait()
	})
}
