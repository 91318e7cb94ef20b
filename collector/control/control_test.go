package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/crowsnest-dev/crowsnest/internal/stream"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve answers each connection with fn, which gets its number.
func serve(t *testing.T, fn func(n int, ctx context.Context, c *websocket.Conn)) *httptest.Server {
	var (
		mu sync.Mutex
		n  int
	)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer tok" {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		mu.Lock()
		me := n
		n++
		mu.Unlock()
		defer c.CloseNow()
		fn(me, r.Context(), c)
	}))
	t.Cleanup(srv.Close)
	return srv
}

func receive(ctx context.Context, t *testing.T, c *websocket.Conn, want wire.FrameType, body any) bool {
	_, raw, err := c.Read(ctx)
	if err != nil {
		return false
	}
	var f wire.Frame
	if err := json.Unmarshal(raw, &f); err != nil || f.Type != want {
		t.Errorf("got %s, want %s", raw, want)
		return false
	}
	return json.Unmarshal(f.Body, body) == nil
}

func send(ctx context.Context, c *websocket.Conn, ft wire.FrameType, body any) {
	f, _ := wire.NewFrame(ft, body)
	raw, _ := json.Marshal(f)
	_ = c.Write(ctx, websocket.MessageText, raw)
}

func newClient(t *testing.T, url string, change func(*Options)) *Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	o := Options{
		URL: url, HTTP: &http.Client{Transport: transport}, Header: func(h http.Header) error { h.Set("Authorization", "Bearer tok"); return nil },
		Hello: func() wire.Hello { return wire.Hello{Sender: "node/n1", WireVersion: wire.Version} },
		Apply: func(s wire.Settings) wire.Applied { return wire.Applied{Version: s.Version} },
	}
	if change != nil {
		change(&o)
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func run(t *testing.T, c *Client) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

func TestConversation(t *testing.T) {
	type report struct {
		hello   wire.Hello
		applied wire.Applied
		health  wire.Health
	}
	got := make(chan report, 1)
	srv := serve(t, func(_ int, ctx context.Context, c *websocket.Conn) {
		var r report
		if !receive(ctx, t, c, wire.FrameHello, &r.hello) {
			return
		}
		send(ctx, c, wire.FrameWelcome, wire.Welcome{Cluster: "prod", AcceptSeconds: 3600})
		_ = c.Write(ctx, websocket.MessageText, []byte(`{"channel":7,"type":"shell"}`))
		_ = c.Write(ctx, websocket.MessageText, []byte(`{"channel":0,"type":"something_new","body":{}}`))
		send(ctx, c, wire.FrameSettings, wire.Settings{Version: 5, IntervalSeconds: 10})
		for range 2 { // in whatever order
			_, raw, err := c.Read(ctx)
			var f wire.Frame
			if err != nil || json.Unmarshal(raw, &f) != nil {
				return
			}
			switch f.Type {
			case wire.FrameApplied:
				_ = json.Unmarshal(f.Body, &r.applied)
			case wire.FrameHealth:
				_ = json.Unmarshal(f.Body, &r.health)
			}
		}
		got <- r
		_, _, _ = c.Read(ctx) // until the client goes
	})
	welcome := make(chan wire.Welcome, 1)
	c := newClient(t, srv.URL, func(o *Options) {
		o.Welcome = func(w wire.Welcome) { welcome <- w }
		o.Apply = func(s wire.Settings) wire.Applied {
			return wire.Applied{Version: s.Version, Overridden: map[string]string{"logs": "true"}}
		}
	})
	c.Report(wire.Health{IntervalSeconds: 30})
	c.Report(wire.Health{IntervalSeconds: 10}) // takes the place of the one before
	stop := run(t, c)
	if w := <-welcome; w.Cluster != "prod" || w.AcceptSeconds != 3600 {
		t.Errorf("welcome %+v", w)
	}
	r := <-got
	if r.hello.Sender != "node/n1" || r.applied.Version != 5 || r.applied.Overridden["logs"] != "true" || r.health.IntervalSeconds != 10 {
		t.Errorf("got %+v", r)
	}
	stop()
}

// Large settings come in pieces: health is said between them, and after a break they
// go on where they were. Large health goes up the same way.
func TestLargeSettingsHoldUpNothing(t *testing.T) {
	settings, err := json.Marshal(wire.Settings{Version: 9, LogRules: &wire.LogRules{Mask: []string{strings.Repeat("<secret>", 20_000)}}})
	if err != nil {
		t.Fatal(err)
	}
	half := len(settings) / 2
	between, applied, large, back := make(chan wire.Health, 1), make(chan wire.Applied, 1), make(chan wire.Health, 1), make(chan wire.Window, 1)
	next := func(ctx context.Context, c *websocket.Conn) (f wire.Frame, ok bool) {
		_, raw, err := c.Read(ctx)
		return f, err == nil && json.Unmarshal(raw, &f) == nil
	}
	say := func(ctx context.Context, c *websocket.Conn, ft wire.FrameType, body any) {
		f, _ := wire.NewFrame(ft, body)
		f.Channel = 2
		raw, _ := json.Marshal(f)
		_ = c.Write(ctx, websocket.MessageText, raw)
	}
	srv := serve(t, func(n int, ctx context.Context, c *websocket.Conn) {
		var h wire.Hello
		if !receive(ctx, t, c, wire.FrameHello, &h) {
			return
		}
		if !h.Channels {
			t.Error("it does not say that it knows channels")
		}
		send(ctx, c, wire.FrameWelcome, wire.Welcome{Channels: true})
		say(ctx, c, wire.FrameOpen, wire.Open{Kind: "settings", ID: stream.ID(settings), Bytes: int64(len(settings))})
		sent, window, begun := 0, 0, false
		mux := stream.New(stream.Options{First: 2, Write: func(ctx context.Context, f wire.Frame) error {
			raw, err := json.Marshal(f)
			return errors.Join(err, c.Write(ctx, websocket.MessageText, raw))
		}, Accept: func(o wire.Open) (stream.Document, error) {
			return new(stream.Inbox).Document(o, func(_ context.Context, body []byte) error {
				var h wire.Health
				err := json.Unmarshal(body, &h)
				large <- h
				return err
			}), nil
		}})
		defer mux.Wait()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		for {
			f, ok := next(ctx, c)
			if !ok {
				return
			}
			switch {
			case f.Channel%2 == 1:
				mux.Take(ctx, f)
			case f.Type == wire.FrameWindow:
				var w wire.Window
				_ = json.Unmarshal(f.Body, &w)
				if !begun {
					begun, sent = true, int(w.From)
					if n == 1 {
						back <- w
					}
				}
				window += int(w.Bytes)
			case f.Type == wire.FrameHealth:
				if n > 0 || sent < half {
					break
				}
				var h wire.Health
				_ = json.Unmarshal(f.Body, &h)
				between <- h
				return // in the middle
			case f.Type == wire.FrameApplied:
				var a wire.Applied
				_ = json.Unmarshal(f.Body, &a)
				applied <- a
			}
			end := len(settings)
			if n == 0 {
				end = half
			}
			for window > 0 && sent < end {
				size := min(window, end-sent, 8<<10)
				say(ctx, c, wire.FrameData, settings[sent:sent+size])
				if sent, window = sent+size, window-size; sent == len(settings) {
					say(ctx, c, wire.FrameEnd, wire.End{})
				}
			}
		}
	})
	c := newClient(t, srv.URL, nil)
	run(t, c)
	wait := func(what string) <-chan time.Time {
		t.Logf("waiting for %s", what)
		return time.After(60 * time.Second)
	}
	// Health comes past the settings that are half there.
	for said, deadline := false, time.Now().Add(60*time.Second); !said; {
		c.Report(wire.Health{IntervalSeconds: 15})
		select {
		case h := <-between:
			said = h.IntervalSeconds == 15
		case <-time.After(20 * time.Millisecond): // it is said again
			if time.Now().After(deadline) {
				t.Fatal("health waits for the settings")
			}
		}
	}
	select {
	case w := <-back:
		if w.From < 1 || w.From > int64(half) {
			t.Errorf("after the break it goes on from %d of %d bytes, %d of which were sent", w.From, len(settings), half)
		}
	case <-wait("the second connection"):
		t.Fatal("it did not come back")
	}
	select {
	case a := <-applied:
		if a.Version != 9 || a.Error != "" {
			t.Errorf("applied: %+v", a)
		}
	case <-wait("what became of them"):
		t.Fatal("the settings were not applied")
	}
	sources := make([]wire.SourceHealth, 1000)
	for i := range sources {
		sources[i] = wire.SourceHealth{Name: fmt.Sprintf("cadvisor/node-%d", i), Error: strings.Repeat("x", 2000)}
	}
	c.Report(wire.Health{Sources: sources}) // more than one frame may have
	select {
	case h := <-large:
		if len(h.Sources) != len(sources) || h.Sources[999].Name != "cadvisor/node-999" {
			t.Errorf("health of %d sources", len(h.Sources))
		}
	case <-wait("large health"):
		t.Fatal("large health did not come")
	}
}

func TestComesBackAfterABreak(t *testing.T) {
	back := make(chan struct{})
	srv := serve(t, func(n int, ctx context.Context, c *websocket.Conn) {
		var h wire.Hello
		if !receive(ctx, t, c, wire.FrameHello, &h) || n == 0 {
			return // the first life ends at once
		}
		close(back)
		_, _, _ = c.Read(ctx) // until the client goes
	})
	run(t, newClient(t, srv.URL, nil))
	select {
	case <-back:
	case <-time.After(60 * time.Second):
		t.Fatal("it did not come back")
	}
}

func TestRefusal(t *testing.T) {
	srv := serve(t, func(_ int, ctx context.Context, c *websocket.Conn) {
		var h wire.Hello
		receive(ctx, t, c, wire.FrameHello, &h)
		send(ctx, c, wire.FrameRefused, wire.Refused{Reason: "too old"})
		_, _, _ = c.Read(ctx) // until the client goes
	})
	c := newClient(t, srv.URL, nil)
	if welcomed, err := c.connect(t.Context()); welcomed || err == nil || err.Error() != "the server refuses this collector: too old" {
		t.Errorf("got %v, %v", welcomed, err)
	}
	c = newClient(t, srv.URL, func(o *Options) { o.Header = nil })
	if _, err := c.connect(t.Context()); err == nil || err.Error() != "connect: server answered 401" {
		t.Errorf("without a credential: %v", err)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("no options are taken")
	}
}
