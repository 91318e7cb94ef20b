package control

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

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
