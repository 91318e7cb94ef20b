// Package control is the collector's end of the control stream: health goes up,
// settings come down, either through a channel of its own where it is large. It owns
// the connection and its return after a break; it must not know what the settings do.
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sync/errgroup"

	"github.com/crowsnest-dev/crowsnest/internal/stream"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

const (
	writeTimeout = 10 * time.Second
	// pingEvery finds connections that a NAT forgot.
	pingEvery = 30 * time.Second
	longest   = time.Minute
)

// errRefused ends a connection that the server does not want.
var errRefused = errors.New("the server refuses this collector")

// Options of a Client. Each function is called one at a time.
type Options struct {
	URL     string                           // http(s) address of the stream; required
	HTTP    *http.Client                     // for HTTP/1.1; default http.DefaultClient
	Header  func(http.Header) error          // adds the credential; may be nil
	Hello   func() wire.Hello                // required
	Welcome func(wire.Welcome)               // may be nil
	Parted  func()                           // a stream of which there was a welcome ended; may be nil
	Apply   func(wire.Settings) wire.Applied // required
	Logger  *slog.Logger
}

// Client keeps one stream open.
type Client struct {
	o Options

	settings stream.Inbox // what came of settings by a connection that broke
	applying sync.Mutex

	mu     sync.Mutex
	health *wire.Health // the newest that was not sent
	wake   chan struct{}
}

// New checks the options; it connects to nothing.
func New(o Options) (*Client, error) {
	if o.URL == "" || o.Hello == nil || o.Apply == nil {
		return nil, errors.New("control: URL, Hello and Apply are required")
	}
	if o.HTTP == nil {
		o.HTTP = http.DefaultClient
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Client{o: o, wake: make(chan struct{}, 1)}, nil
}

// Report gives the newest health. It does not wait; one that was not sent yet is
// replaced, since each is a full state.
func (c *Client) Report(h wire.Health) {
	c.mu.Lock()
	c.health = &h
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Run keeps the stream until ctx ends.
func (c *Client) Run(ctx context.Context) error {
	wait, said := time.Duration(0), ""
	for ctx.Err() == nil {
		welcomed, err := c.connect(ctx)
		if welcomed && c.o.Parted != nil {
			c.o.Parted()
		}
		if ctx.Err() != nil {
			return nil
		}
		if welcomed {
			wait, said = 0, ""
		}
		if text := fmt.Sprint(err); text != said {
			c.o.Logger.Warn("control stream", "err", err)
			said = text
		}
		wait = min(max(2*wait, time.Second), longest)
		t := time.NewTimer(wait/2 + rand.N(wait/2))
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		t.Stop()
	}
	return nil
}

// connect is one life of the stream.
func (c *Client) connect(ctx context.Context) (welcomed bool, err error) {
	h := http.Header{}
	if c.o.Header != nil {
		if err := c.o.Header(h); err != nil {
			return false, err
		}
	}
	dialCtx, cancel := context.WithTimeout(ctx, writeTimeout)
	conn, resp, err := websocket.Dial(dialCtx, c.o.URL, &websocket.DialOptions{HTTPClient: c.o.HTTP, HTTPHeader: h})
	cancel()
	if err != nil {
		if resp != nil {
			return false, fmt.Errorf("connect: server answered %d", resp.StatusCode)
		}
		return false, fmt.Errorf("connect: %w", err)
	}
	defer conn.CloseNow()
	conn.SetReadLimit(wire.MaxFrameBytes)

	hello := c.o.Hello()
	hello.Channels = true
	l := &life{c: c, conn: conn}
	l.mux = stream.New(stream.Options{First: 1, Write: l.frame, Accept: l.accept})
	if err := l.write(ctx, wire.FrameHello, hello); err != nil {
		return false, err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return l.read(ctx) })
	g.Go(func() error { return l.send(ctx) })
	g.Go(func() error { return l.ping(ctx) })
	err = g.Wait()
	l.mux.Wait()
	_ = conn.Close(websocket.StatusGoingAway, "")
	return l.welcomed.Load(), err
}

// life is one connection.
type life struct {
	c        *Client
	conn     *websocket.Conn
	mux      *stream.Mux
	welcomed atomic.Bool
	channels atomic.Bool // the server knows others than 0
}

// send brings up each new health.
func (l *life) send(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-l.c.wake:
		}
		l.c.mu.Lock()
		h := l.c.health
		l.c.health = nil
		l.c.mu.Unlock()
		if h == nil {
			continue
		}
		raw, err := json.Marshal(h)
		if err != nil {
			return fmt.Errorf("encode health: %w", err)
		}
		if l.channels.Load() && len(raw) > wire.InlineBytes {
			// The next one may be taken.
			if err = l.mux.Send(ctx, string(wire.FrameHealth), stream.ID(raw), raw); errors.Is(err, stream.ErrRefused) {
				l.c.o.Logger.Warn("say health", "err", err)
				continue
			}
		} else {
			err = l.write(ctx, wire.FrameHealth, json.RawMessage(raw))
		}
		if err != nil {
			return fmt.Errorf("say health: %w", err)
		}
	}
}

func (l *life) ping(ctx context.Context) error {
	ping := time.NewTicker(pingEvery)
	defer ping.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ping.C:
			pingCtx, cancel := context.WithTimeout(ctx, writeTimeout)
			err := l.conn.Ping(pingCtx)
			cancel()
			if err != nil {
				return fmt.Errorf("ping: %w", err)
			}
		}
	}
}

// accept takes settings that come through a channel.
func (l *life) accept(o wire.Open) (stream.Document, error) {
	if o.Kind != string(wire.FrameSettings) {
		return nil, fmt.Errorf("this collector takes no %q", o.Kind)
	}
	return l.c.settings.Document(o, l.apply), nil
}

func (l *life) apply(ctx context.Context, settings []byte) error {
	var s wire.Settings
	if err := json.Unmarshal(settings, &s); err != nil {
		return fmt.Errorf("read settings: %w", err)
	}
	l.c.applying.Lock()
	applied := l.c.o.Apply(s)
	l.c.applying.Unlock()
	return l.write(ctx, wire.FrameApplied, applied)
}

func (l *life) read(ctx context.Context) error {
	for {
		_, raw, err := l.conn.Read(ctx)
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		var f wire.Frame
		if err := json.Unmarshal(raw, &f); err != nil {
			return fmt.Errorf("read frame: %w", err)
		}
		if f.Channel != 0 {
			l.mux.Take(ctx, f)
			continue
		}
		switch f.Type {
		case wire.FrameWelcome:
			var w wire.Welcome
			if err := json.Unmarshal(f.Body, &w); err != nil {
				return fmt.Errorf("read welcome: %w", err)
			}
			l.channels.Store(w.Channels)
			l.welcomed.Store(true)
			if l.c.o.Welcome != nil {
				l.c.o.Welcome(w)
			}
		case wire.FrameRefused:
			var r wire.Refused
			if err := json.Unmarshal(f.Body, &r); err != nil {
				return fmt.Errorf("read refusal: %w", err)
			}
			return fmt.Errorf("%w: %s", errRefused, r.Reason)
		case wire.FrameSettings:
			if err := l.apply(ctx, f.Body); err != nil {
				return err
			}
		}
	}
}

func (l *life) write(ctx context.Context, t wire.FrameType, body any) error {
	f, err := wire.NewFrame(t, body)
	if err != nil {
		return fmt.Errorf("encode %s: %w", t, err)
	}
	return l.frame(ctx, f)
}

func (l *life) frame(ctx context.Context, f wire.Frame) error {
	raw, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("encode %s: %w", f.Type, err)
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if err := l.conn.Write(ctx, websocket.MessageText, raw); err != nil {
		return fmt.Errorf("write %s: %w", f.Type, err)
	}
	return nil
}
