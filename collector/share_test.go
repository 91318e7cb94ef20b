package collector

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// partialLogs are shared; each Run is noted.
type partialLogs struct {
	runs   chan struct{}
	shared bool
}

var _ Logs = (*partialLogs)(nil)

func (l *partialLogs) Run(ctx context.Context, _ LogSink) error {
	l.runs <- struct{}{}
	<-ctx.Done()
	return nil
}
func (l *partialLogs) Health() wire.LogHealth { return wire.LogHealth{Read: 7} }
func (l *partialLogs) Shared() bool           { return l.shared }

// A replica that does not lead follows its part of the logs, hears the settings and
// tells of itself; once it leads, it does so as the one collector, and what is shared
// goes on.
func TestAReplicaThatStandsByFollowsItsPart(t *testing.T) {
	hellos, healths, left := make(chan wire.Hello, 10), make(chan wire.Health, 10), make(chan string, 10)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != wire.PathControl {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer func() { _ = conn.CloseNow() }()
		var hello wire.Hello
		for {
			_, raw, err := conn.Read(context.WithoutCancel(r.Context()))
			var f wire.Frame
			if err != nil || json.Unmarshal(raw, &f) != nil {
				left <- hello.Sender
				return
			}
			switch f.Type {
			case wire.FrameHello:
				_ = json.Unmarshal(f.Body, &hello)
				hellos <- hello
			case wire.FrameHealth:
				var h wire.Health
				_ = json.Unmarshal(f.Body, &h)
				healths <- h
			}
		}
	}))
	defer srv.Close()
	mine, leaders := &partialLogs{make(chan struct{}, 10), true}, &partialLogs{make(chan struct{}, 10), false}
	c, err := New(Options{
		Role: wire.RoleAll, Server: srv.URL, Shared: true, Replica: "pod-1", QueueDir: t.TempDir(),
		World: World{State: &fakeState{now: &state.Snapshot{Synced: true}}, Logs: []Logs{mine, leaders}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 2)
	go func() { done <- c.Share(ctx) }()
	if h := wait(t, hellos); h.Sender != "all/pod-1" || h.Role != wire.RoleAll {
		t.Errorf("it stands by as %+v", h)
	}
	if h := wait(t, healths); h.Logs.Read != 14 {
		t.Errorf("it says %+v", h)
	}
	wait(t, mine.runs)
	go func() { done <- c.Run(ctx) }()
	if sender := wait(t, left); sender != "all/pod-1" {
		t.Errorf("%s left", sender)
	}
	if h := wait(t, hellos); h.Sender != "all" {
		t.Errorf("it leads as %+v", h)
	}
	wait(t, leaders.runs)
	cancel()
	for range 2 {
		if err := wait(t, done); err != nil {
			t.Error(err)
		}
	}
	if len(mine.runs)+len(leaders.runs) > 0 {
		t.Error("a log was followed twice")
	}
	if _, err := New(Options{Role: wire.RoleAll, Server: srv.URL, Shared: true, QueueDir: t.TempDir(), World: World{State: &fakeState{}}}); err == nil {
		t.Error("a replica without a name shares")
	}
}

// What one server takes is not held of the next one, which may be older.
func TestANextServerIsNotTakenForTheLast(t *testing.T) {
	conns := make(chan *websocket.Conn)
	done := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		select {
		case conns <- conn:
			<-done
		case <-done:
		}
		_ = conn.CloseNow()
	}))
	defer srv.Close()
	defer close(done)
	c, err := New(Options{Role: wire.RoleAll, Server: srv.URL, QueueDir: t.TempDir(), World: World{State: &fakeState{now: &state.Snapshot{Synced: true}}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.control.Run(ctx) }()
	defer func() {
		cancel()
		if err := wait(t, ended); err != nil {
			t.Error(err)
		}
	}()
	until := func(want bool) {
		t.Helper()
		for deadline := time.Now().Add(60 * time.Second); c.takesTogether() != want; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("several intervals in a request: not %v within a minute", want)
			}
		}
	}
	conn := wait(t, conns)
	f, err := wire.NewFrame(wire.FrameWelcome, wire.Welcome{Cluster: "c", Time: time.Now(), Together: true})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Write(t.Context(), websocket.MessageText, raw); err != nil {
		t.Fatal(err)
	}
	until(true)
	_ = conn.CloseNow()
	until(false)
}

func wait[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(60 * time.Second):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}
