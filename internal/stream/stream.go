// Package stream owns the channels of a control stream: one connection carries
// several, each with a flow of its own. A channel takes one document from one end
// to the other in pieces, between which other frames pass; a document that is read
// slowly holds up nothing but itself, and one that broke off with its connection
// goes on where it was. It must not know what documents say, nor what carries the
// frames.
package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

const (
	// pieceBytes is what a frame of another channel waits for at most.
	pieceBytes = 16 << 10
	// windowBytes is how much of a document may be on its way, or wait to be read.
	windowBytes = 128 << 10
	// maxChannels bounds what the other end may have open.
	maxChannels = 16
)

// ErrRefused is why the other end does not take a document that it was sent well.
var ErrRefused = errors.New("the other end does not take it")

// Document takes what comes through a channel. Its methods are called one at a
// time.
type Document interface {
	// Have is how much of it came by an earlier connection.
	Have() int64
	// Write takes the next piece; it may take its time.
	Write(piece []byte) (int, error)
	// Done is called once all of it was written. An error is told to whoever sent it.
	Done(ctx context.Context) error
}

// Options of a Mux.
type Options struct {
	// Write sends one frame. It is called concurrently; required.
	Write func(ctx context.Context, f wire.Frame) error
	// First is the number of the first channel that this end opens: 1 or 2, the
	// other end has the other one. Required.
	First uint32
	// Accept says where a document goes that the other end offers; nil refuses all.
	Accept func(o wire.Open) (Document, error)
}

// Mux is one end of a connection's channels.
type Mux struct {
	o Options

	mu      sync.Mutex
	next    uint32
	out     map[uint32]*outgoing
	in      map[uint32]*incoming
	running sync.WaitGroup
}

// outgoing is a document that this end sends.
type outgoing struct {
	wake chan struct{} // something below changed

	// Guarded by the mux' mutex.
	begun  bool  // the other end has said from where
	from   int64 // valid once begun
	window int64 // bytes that may be sent
	end    *wire.End
}

// incoming is a document that the other end sends.
type incoming struct {
	wake chan struct{}

	// Guarded by the mux' mutex.
	pieces  [][]byte
	granted int64 // bytes that the other end may still send
	ended   bool  // all was sent
	broken  error // why it is given up
}

// New makes one end.
func New(o Options) *Mux {
	return &Mux{o: o, next: o.First, out: map[uint32]*outgoing{}, in: map[uint32]*incoming{}}
}

// Wait returns once no document is taken any more, which ends with the context of
// its first frame.
func (m *Mux) Wait() { m.running.Wait() }

// Send brings a document to the other end, and returns once that has taken it. The
// id stands for its content: what the other end has of the same id already is not
// sent again. It is for concurrent use. The error is an ErrRefused where the other
// end gives the document up.
func (m *Mux) Send(ctx context.Context, kind, id string, document []byte) error {
	out := &outgoing{wake: make(chan struct{}, 1)}
	m.mu.Lock()
	number := m.next
	m.next += 2
	m.out[number] = out
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		delete(m.out, number)
		m.mu.Unlock()
	}()
	if err := m.write(ctx, number, wire.FrameOpen, wire.Open{Kind: kind, ID: id, Bytes: int64(len(document))}); err != nil {
		return err
	}
	size := int64(len(document))
	for sent, begun, over := int64(0), false, false; ; {
		m.mu.Lock()
		if out.begun && !begun {
			begun, sent = true, min(out.from, size)
		}
		next, end := int64(0), out.end
		if begun {
			next = min(out.window, pieceBytes, size-sent)
			out.window -= next
		}
		m.mu.Unlock()
		switch {
		case end != nil && end.Error != "":
			return fmt.Errorf("send %s: %w: %s", kind, ErrRefused, end.Error)
		case end != nil && !over:
			return fmt.Errorf("send %s: %w: it says that it has all of it, and cannot", kind, ErrRefused)
		case end != nil:
			return nil
		case next > 0:
			if err := m.write(ctx, number, wire.FrameData, document[sent:sent+next]); err != nil {
				return err
			}
			sent += next
			continue
		case begun && sent == size && !over:
			if err := m.write(ctx, number, wire.FrameEnd, wire.End{}); err != nil {
				return err
			}
			over = true
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-out.wake:
		}
	}
}

// Take gives the mux a frame of a channel other than 0. It never waits for whoever
// reads a document. What makes no sense ends its channel; all channels end with ctx,
// the connection's.
func (m *Mux) Take(ctx context.Context, f wire.Frame) {
	if f.Channel == 0 {
		return
	}
	if f.Channel%2 == m.o.First%2 {
		m.answered(f)
		return
	}
	if f.Type == wire.FrameOpen {
		m.opened(ctx, f)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	in := m.in[f.Channel]
	if in == nil || in.ended || in.broken != nil {
		return // it has ended, which the other end will hear
	}
	switch f.Type {
	case wire.FrameData:
		var piece []byte
		switch err := json.Unmarshal(f.Body, &piece); {
		case err != nil || len(piece) == 0:
			in.broken = errors.New("a piece cannot be read")
		case int64(len(piece)) > in.granted:
			in.broken = errors.New("more was sent than was asked for")
		default:
			in.granted -= int64(len(piece))
			in.pieces = append(in.pieces, piece)
		}
	case wire.FrameEnd:
		in.ended = true
	}
	notify(in.wake)
}

// answered notes what the other end says of a document that this one sends.
func (m *Mux) answered(f wire.Frame) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := m.out[f.Channel]
	if out == nil || out.end != nil {
		return
	}
	switch f.Type {
	case wire.FrameWindow:
		var w wire.Window
		if json.Unmarshal(f.Body, &w) != nil || w.From < 0 || w.Bytes < 0 || w.Bytes > wire.MaxDocumentBytes {
			out.end = &wire.End{Error: "what it asks for makes no sense"}
			break
		}
		if !out.begun {
			out.begun, out.from = true, w.From
		}
		out.window = min(out.window+w.Bytes, wire.MaxDocumentBytes)
	case wire.FrameEnd:
		var end wire.End
		if json.Unmarshal(f.Body, &end) != nil {
			end.Error = "its answer cannot be read"
		}
		out.end = &end
	}
	notify(out.wake)
}

// opened begins to take a document.
func (m *Mux) opened(ctx context.Context, f wire.Frame) {
	in := &incoming{wake: make(chan struct{}, 1)}
	var o wire.Open
	var to Document
	err := json.Unmarshal(f.Body, &o)
	m.mu.Lock()
	switch {
	case m.in[f.Channel] != nil:
		m.mu.Unlock()
		return
	case err != nil:
		err = errors.New("what is offered cannot be read")
	case o.Bytes < 0 || o.Bytes > wire.MaxDocumentBytes:
		err = fmt.Errorf("%d bytes are offered, at most %d are taken: %w", o.Bytes, wire.MaxDocumentBytes, fault.ErrTooLarge)
	case len(m.in) >= maxChannels:
		err = fmt.Errorf("%d channels are open already: %w", maxChannels, fault.ErrLimited)
	case m.o.Accept == nil:
		err = errors.New("nothing is taken here")
	}
	m.mu.Unlock()
	if err == nil {
		to, err = m.o.Accept(o)
	}
	if err != nil {
		in.broken = err
	}
	m.mu.Lock()
	m.in[f.Channel] = in
	m.mu.Unlock()
	m.running.Go(func() {
		err := m.receive(ctx, f.Channel, in, o, to)
		m.mu.Lock()
		delete(m.in, f.Channel)
		m.mu.Unlock()
		end := wire.End{}
		if err != nil {
			end.Error = err.Error()
		}
		_ = m.write(ctx, f.Channel, wire.FrameEnd, end) // a connection that fails ends elsewhere
	})
}

// receive hands a document's pieces over, and asks for more as they are taken.
func (m *Mux) receive(ctx context.Context, number uint32, in *incoming, o wire.Open, to Document) error {
	got, taken := int64(0), int64(0)
	for first := true; ; first = false {
		m.mu.Lock()
		broken, ended, pieces := in.broken, in.ended, in.pieces
		in.pieces = nil
		m.mu.Unlock()
		if broken != nil {
			return broken
		}
		ask := wire.Window{}
		if first {
			if got = to.Have(); got < 0 || got > o.Bytes {
				return fmt.Errorf("%d bytes of it are here, %d are offered", got, o.Bytes)
			}
			ask = wire.Window{From: got, Bytes: windowBytes}
		}
		for _, piece := range pieces {
			if got += int64(len(piece)); got > o.Bytes {
				return errors.New("it is longer than was said")
			}
			if _, err := to.Write(piece); err != nil {
				return err
			}
			taken += int64(len(piece))
		}
		if taken >= windowBytes/2 {
			ask.Bytes, taken = taken, 0
		}
		if ended && len(pieces) == 0 {
			if got < o.Bytes {
				return fmt.Errorf("it ends after %d of %d bytes", got, o.Bytes)
			}
			return to.Done(ctx)
		}
		if ask.Bytes > 0 {
			m.mu.Lock()
			in.granted += ask.Bytes
			m.mu.Unlock()
			if err := m.write(ctx, number, wire.FrameWindow, ask); err != nil {
				return err
			}
		}
		if len(pieces) > 0 {
			continue // more may have come meanwhile
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-in.wake:
		}
	}
}

func (m *Mux) write(ctx context.Context, number uint32, t wire.FrameType, body any) error {
	f, err := wire.NewFrame(t, body)
	if err != nil {
		return err
	}
	f.Channel = number
	return m.o.Write(ctx, f)
}

func notify(wake chan struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}
