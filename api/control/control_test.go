package control

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/crowsnest-dev/crowsnest/internal/stream"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var t0 = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

type server struct {
	hub *Hub
	url string
	reg *prometheus.Registry
}

func start(t *testing.T) server {
	t.Helper()
	yes := true
	return startWith(t, wire.Settings{Version: 4, IntervalSeconds: 15, Logs: &yes})
}

func startWith(t *testing.T, settings wire.Settings) server {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	hub, err := New(Options{
		Accept: 48 * time.Hour, Registerer: reg, Now: func() time.Time { return t0 },
		Settings: func(cluster, sender string) wire.Settings {
			return settings
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hub.Serve(w, r, "prod-1")
	}))
	t.Cleanup(func() { hub.Close(); srv.Close(); http.DefaultClient.CloseIdleConnections() })
	return server{hub, srv.URL, reg}
}

func dial(t *testing.T, s server) *websocket.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	c, _, err := websocket.Dial(ctx, s.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.CloseNow() })
	return c
}

func say(t *testing.T, c *websocket.Conn, ft wire.FrameType, body any) {
	t.Helper()
	if err := write(context.Background(), c, ft, body); err != nil {
		t.Fatal(err)
	}
}

func hear[T any](t *testing.T, c *websocket.Conn, want wire.FrameType) T {
	t.Helper()
	var body T
	f, err := read(context.Background(), c, 60*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if f.Type != want {
		t.Fatalf("got frame %s %s, want %s", f.Type, f.Body, want)
	}
	if err := json.Unmarshal(f.Body, &body); err != nil {
		t.Fatal(err)
	}
	return body
}

func hello(sender string) wire.Hello {
	return wire.Hello{WireVersion: wire.Version, Role: wire.RoleAll, Sender: sender, Time: t0.Add(3 * time.Second)}
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never came: %s", what)
		}
	}
}

func TestStreamFromHelloToHealth(t *testing.T) {
	s := start(t)
	c := dial(t, s)
	say(t, c, wire.FrameHello, hello("all"))
	w := hear[wire.Welcome](t, c, wire.FrameWelcome)
	if w.Cluster != "prod-1" || w.AcceptSeconds != 48*3600 || !w.Together || !w.Time.Equal(t0) || w.SettingsVersion == nil || *w.SettingsVersion != 4 {
		t.Errorf("got %+v", w)
	}
	if set := hear[wire.Settings](t, c, wire.FrameSettings); set.Version != 4 || set.IntervalSeconds != 15 {
		t.Errorf("got %+v", set)
	}
	if h := s.hub.Health("prod-1"); len(h) != 0 {
		t.Errorf("health before any was said: %v", h)
	}
	if got := s.hub.Senders("prod-1")["all"]; !got.Connected || got.OffsetSeconds != 3 {
		t.Errorf("got %+v", got)
	}
	say(t, c, wire.FrameApplied, wire.Applied{Version: 4})
	say(t, c, "of a later version", map[string]int{"x": 1})
	say(t, c, wire.FrameHealth, wire.Health{Time: t0.Add(-2 * time.Second), IntervalSeconds: 15, Sources: []wire.SourceHealth{{Name: "cadvisor/n1", Up: true}}})
	eventually(t, "the health", func() bool { return len(s.hub.Health("prod-1")) == 1 })
	got := s.hub.Senders("prod-1")["all"]
	if got.Health.Sources[0].Name != "cadvisor/n1" || got.OffsetSeconds != -2 || got.Applied.Version != 4 {
		t.Errorf("got %+v", got)
	}
	if h := s.hub.Health("prod-2"); len(h) != 0 {
		t.Errorf("another cluster has %v", h)
	}
	_ = c.CloseNow()
	eventually(t, "the end", func() bool { return !s.hub.Senders("prod-1")["all"].Connected })
	if len(s.hub.Health("prod-1")) != 1 {
		t.Error("the last words are forgotten")
	}
	if problems, err := testutil.GatherAndLint(s.reg); err != nil || len(problems) != 0 {
		t.Errorf("metrics: %v %v", problems, err)
	}
}

func TestANewConnectionReplacesTheOld(t *testing.T) {
	s := start(t)
	old := dial(t, s)
	say(t, old, wire.FrameHello, hello("all"))
	hear[wire.Welcome](t, old, wire.FrameWelcome)
	hear[wire.Settings](t, old, wire.FrameSettings)
	c := dial(t, s)
	say(t, c, wire.FrameHello, hello("all"))
	hear[wire.Welcome](t, c, wire.FrameWelcome)
	if _, err := read(context.Background(), old, 60*time.Second); err == nil {
		t.Error("the old connection lives")
	}
	if !s.hub.Senders("prod-1")["all"].Connected {
		t.Error("the end of the old connection was taken for the new one's")
	}
}

func TestRefusals(t *testing.T) {
	for name, tc := range map[string]struct {
		first any
		want  string
		typ   wire.FrameType
	}{
		"too new":    {wire.Hello{WireVersion: wire.Version + 2, Sender: "all"}, "up to date", wire.FrameHello},
		"too old":    {wire.Hello{WireVersion: wire.Version - 3, Sender: "all"}, "up to date", wire.FrameHello},
		"no sender":  {wire.Hello{WireVersion: wire.Version}, "sender", wire.FrameHello},
		"no hello":   {wire.Health{}, "hello", wire.FrameHealth},
		"not a body": {"text", "cannot be read", wire.FrameHello},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			c := dial(t, s)
			say(t, c, tc.typ, tc.first)
			if r := hear[wire.Refused](t, c, wire.FrameRefused); !strings.Contains(r.Reason, tc.want) {
				t.Errorf("got %q, want it to say %q", r.Reason, tc.want)
			}
			if _, err := read(context.Background(), c, 60*time.Second); err == nil {
				t.Error("the stream goes on")
			}
			if len(s.hub.Senders("prod-1")) != 0 {
				t.Error("a refused collector is remembered")
			}
		})
	}
}

func TestCloseEndsStreamsAtOnce(t *testing.T) {
	s := start(t)
	greeted, silent := dial(t, s), dial(t, s) // the second never says hello
	say(t, greeted, wire.FrameHello, hello("all"))
	hear[wire.Welcome](t, greeted, wire.FrameWelcome)
	done := make(chan struct{})
	go func() { s.hub.Close(); close(done) }()
	select {
	case <-done:
	case <-time.After(60 * time.Second):
		t.Fatal("Close hangs")
	}
	for _, c := range []*websocket.Conn{greeted, silent} {
		for {
			if _, err := read(context.Background(), c, 60*time.Second); err != nil {
				break
			}
		}
	}
	res, err := http.Get(s.url)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("after Close: %d", res.StatusCode)
	}
}

func FuzzFrames(f *testing.F) {
	f.Add([]byte(`{"channel":0,"type":"health","body":{"time":"2026-11-23T10:00:00Z"}}`))
	f.Add([]byte(`{"channel":0,"type":"applied","body":null}`))
	hub, err := New(Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var fr wire.Frame
		if json.Unmarshal(data, &fr) == nil {
			hub.take("c", "s", &entry{}, fr)
		}
	})
}

// Large settings come through a channel of their own where the collector knows
// channels, and as one frame where it does not; large health goes up likewise.
func TestLargeSettingsAndHealth(t *testing.T) {
	large := wire.Settings{Version: 4, LogRules: &wire.LogRules{Mask: []string{strings.Repeat("<&>", 30_000)}}}
	s := startWith(t, large)
	old := dial(t, s)
	old.SetReadLimit(wire.MaxFrameBytes)
	say(t, old, wire.FrameHello, hello("old"))
	hear[wire.Welcome](t, old, wire.FrameWelcome)
	if got := hear[wire.Settings](t, old, wire.FrameSettings); got.LogRules.Mask[0] != large.LogRules.Mask[0] {
		t.Error("a collector without channels got something else")
	}

	c := dial(t, s)
	h := hello("new")
	h.Channels = true
	say(t, c, wire.FrameHello, h)
	if w := hear[wire.Welcome](t, c, wire.FrameWelcome); !w.Channels {
		t.Error("the server does not say that it knows channels")
	}
	ctx, cancel := context.WithCancel(t.Context())
	settings := make(chan []byte, 1)
	mux := stream.New(stream.Options{First: 1, Write: func(ctx context.Context, f wire.Frame) error { return writeFrame(ctx, c, f) }, Accept: func(o wire.Open) (stream.Document, error) {
		return new(stream.Inbox).Document(o, func(_ context.Context, document []byte) error { settings <- document; return nil }), nil
	}})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			f, err := read(ctx, c, time.Minute)
			if err != nil {
				return
			}
			mux.Take(ctx, f)
		}
	}()
	defer func() { cancel(); <-done; mux.Wait() }()
	var got wire.Settings
	if err := json.Unmarshal(<-settings, &got); err != nil || got.Version != 4 || got.LogRules.Mask[0] != large.LogRules.Mask[0] {
		t.Errorf("version %d came: %v", got.Version, err)
	}
	body, err := json.Marshal(wire.Health{Time: t0, Sources: make([]wire.SourceHealth, 20_000)})
	if err != nil || len(body) < wire.MaxFrameBytes {
		t.Fatalf("%d bytes, %v", len(body), err)
	}
	if err := mux.Send(ctx, string(wire.FrameHealth), stream.ID(body), body); err != nil || len(s.hub.Health("prod-1")["new"].Sources) != 20_000 {
		t.Errorf("health of %d sources: %v", len(s.hub.Health("prod-1")["new"].Sources), err)
	}
	if err := mux.Send(ctx, "shell", "x", []byte("ls")); !errors.Is(err, stream.ErrRefused) {
		t.Errorf("what the server does not take: %v", err)
	}
}

func TestChangedSettingsAreToldAtOnce(t *testing.T) {
	s := start(t)
	c := dial(t, s)
	say(t, c, wire.FrameHello, hello("all"))
	hear[wire.Welcome](t, c, wire.FrameWelcome)
	hear[wire.Settings](t, c, wire.FrameSettings)
	s.hub.SettingsChanged("another")
	s.hub.SettingsChanged("prod-1")
	if set := hear[wire.Settings](t, c, wire.FrameSettings); set.Version != 4 {
		t.Errorf("got %+v", set)
	}
	// One that connects anew hears of changes on its new stream.
	again := dial(t, s)
	say(t, again, wire.FrameHello, hello("all"))
	hear[wire.Welcome](t, again, wire.FrameWelcome)
	hear[wire.Settings](t, again, wire.FrameSettings)
	s.hub.SettingsChanged("prod-1")
	hear[wire.Settings](t, again, wire.FrameSettings)
}
