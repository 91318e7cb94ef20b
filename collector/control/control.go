// Package control is the collector's end of the control stream: health goes up,
// settings come down. It owns the connection and its return after a break; it
// must not know what the settings do.
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
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sync/errgroup"

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

// Options of a Client. The functions are called one at a time.
type Options struct {
	URL     string                           // http(s) address of the stream; required
	HTTP    *http.Client                     // for HTTP/1.1; default http.DefaultClient
	Header  func(http.Header) error          // adds the credential; may be nil
	Hello   func() wire.Hello                // required
	Welcome func(wire.Welcome)               // may be nil
	Apply   func(wire.Settings) wire.Applied // required
	Logger  *slog.Logger
}

// Client keeps one stream open.
type Client struct {
	o Options

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

	if err := c.write(ctx, conn, wire.FrameHello, c.o.Hello()); err != nil {
		return false, err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.read(ctx, conn, &welcomed) })
	g.Go(func() error { return c.send(ctx, conn) })
	err = g.Wait()
	_ = conn.Close(websocket.StatusGoingAway, "")
	return welcomed, err
}

// send brings up each new health, and pings.
func (c *Client) send(ctx context.Context, conn *websocket.Conn) error {
	ping := time.NewTicker(pingEvery)
	defer ping.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ping.C:
			pingCtx, cancel := context.WithTimeout(ctx, writeTimeout)
			err := conn.Ping(pingCtx)
			cancel()
			if err != nil {
				return fmt.Errorf("ping: %w", err)
			}
		case <-c.wake:
			c.mu.Lock()
			h := c.health
			c.health = nil
			c.mu.Unlock()
			if h == nil {
				continue
			}
			if err := c.write(ctx, conn, wire.FrameHealth, h); err != nil {
				return err
			}
		}
	}
}

func (c *Client) read(ctx context.Context, conn *websocket.Conn, welcomed *bool) error {
	for {
		_, raw, err := conn.Read(ctx)
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		var f wire.Frame
		if err := json.Unmarshal(raw, &f); err != nil {
			return fmt.Errorf("read frame: %w", err)
		}
		if f.Channel != 0 {
			continue // for a collector that knows more
		}
		switch f.Type {
		case wire.FrameWelcome:
			var w wire.Welcome
			if err := json.Unmarshal(f.Body, &w); err != nil {
				return fmt.Errorf("read welcome: %w", err)
			}
			*welcomed = true
			if c.o.Welcome != nil {
				c.o.Welcome(w)
			}
		case wire.FrameRefused:
			var r wire.Refused
			if err := json.Unmarshal(f.Body, &r); err != nil {
				return fmt.Errorf("read refusal: %w", err)
			}
			return fmt.Errorf("%w: %s", errRefused, r.Reason)
		case wire.FrameSettings:
			var s wire.Settings
			if err := json.Unmarshal(f.Body, &s); err != nil {
				return fmt.Errorf("read settings: %w", err)
			}
			if err := c.write(ctx, conn, wire.FrameApplied, c.o.Apply(s)); err != nil {
				return err
			}
		}
	}
}

func (c *Client) write(ctx context.Context, conn *websocket.Conn, t wire.FrameType, body any) error {
	f, err := wire.NewFrame(t, body)
	if err != nil {
		return fmt.Errorf("encode %s: %w", t, err)
	}
	raw, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("encode %s: %w", t, err)
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if err := conn.Write(ctx, websocket.MessageText, raw); err != nil {
		return fmt.Errorf("write %s: %w", t, err)
	}
	return nil
}
