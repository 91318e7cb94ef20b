// Package control owns the server's end of the control streams: who is
// connected, what each collector says of its own health, and the settings that
// go down. What it knows is kept in memory only: a collector says it all again
// with its next message. It must not know storage or what health is used for.
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/crowsnest-dev/crowsnest/internal/stream"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

const (
	helloTimeout = 10 * time.Second
	writeTimeout = 10 * time.Second
	// silence ends a connection: a collector says its health each interval, which
	// is at most 60 s.
	silence = 3 * time.Minute
	// forget is how long a collector that is gone is remembered, so that what it
	// fed can be shown as stale with its last words.
	forget = 24 * time.Hour
	// maxSenders bounds what one cluster's token can make the server remember.
	maxSenders = 20_000
)

// Options of a Hub.
type Options struct {
	// Settings gives what the server decides for a collector; nil sends none.
	// A version of 0 means none too.
	Settings func(cluster, sender string) wire.Settings
	// Accept is how far back samples are taken.
	Accept     time.Duration
	History    time.Duration         // the same by the import way; 0 for none
	Logger     *slog.Logger          // default: none
	Registerer prometheus.Registerer // default: a registry of its own
	Now        func() time.Time      // default time.Now
}

// Sender is a collector as the server knows it.
type Sender struct {
	Hello       wire.Hello
	Health      wire.Health
	Applied     wire.Applied
	Connected   bool
	ConnectedAt time.Time // of the newest connection
	LastSeenAt  time.Time // of its newest message
	// OffsetSeconds is how far the collector's clock is ahead of the server's,
	// the way of the message included.
	OffsetSeconds float64
}

// Hub knows all collectors that are, or were lately, connected.
type Hub struct {
	opts    Options
	metrics *metrics

	mu      sync.Mutex
	closed  bool
	open    map[*websocket.Conn]struct{}
	senders map[string]map[string]*entry // by cluster, sender
	running sync.WaitGroup               // Add only under mu, after closed was checked
}

// entry guards nothing itself: it is read and written under the hub's mutex.
type entry struct {
	Sender
	conn    *websocket.Conn // of the newest connection; nil when there is none
	changed chan struct{}   // settings are to be said again
}

// New makes a Hub.
func New(opts Options) (*Hub, error) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Registerer == nil {
		opts.Registerer = prometheus.NewRegistry()
	}
	h := &Hub{opts: opts, open: map[*websocket.Conn]struct{}{}, senders: map[string]map[string]*entry{}}
	m, err := newMetrics(opts.Registerer, h)
	if err != nil {
		return nil, err
	}
	h.metrics = m
	return h, nil
}

// Health gives the newest health of each sender of a cluster, by sender. Senders
// that said none yet are left out.
func (h *Hub) Health(cluster string) map[string]wire.Health {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make(map[string]wire.Health, len(h.senders[cluster]))
	for name, e := range h.senders[cluster] {
		if !e.Health.Time.IsZero() {
			out[name] = e.Health
		}
	}
	return out
}

// Senders gives what is known of each collector of a cluster, by sender.
func (h *Hub) Senders(cluster string) map[string]Sender {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make(map[string]Sender, len(h.senders[cluster]))
	for name, e := range h.senders[cluster] {
		out[name] = e.Sender
	}
	return out
}

// Sender gives what is known of one collector.
func (h *Hub) Sender(cluster, sender string) (Sender, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e := h.senders[cluster][sender]; e != nil {
		return e.Sender, true
	}
	return Sender{}, false
}

// Clusters lists the clusters that have a sender, sorted.
func (h *Hub) Clusters() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Sorted(maps.Keys(h.senders))
}

// Close ends all streams and waits for them. Streams that come later are
// refused.
func (h *Hub) Close() {
	h.mu.Lock()
	h.closed = true
	open := slices.Collect(maps.Keys(h.open))
	h.mu.Unlock()
	for _, c := range open {
		// Not by a closing handshake: each would be waited for in turn.
		_ = c.CloseNow()
	}
	h.running.Wait()
}

// Serve runs one collector's stream until it ends. The cluster comes from the
// credential.
func (h *Hub) Serve(w http.ResponseWriter, r *http.Request, cluster string) {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		http.Error(w, "the server is shutting down", http.StatusServiceUnavailable)
		return
	}
	h.running.Add(1)
	h.mu.Unlock()
	defer h.running.Done()

	conn, err := websocket.Accept(w, r, nil) // which refuses a foreign Origin, and answers by itself
	if err != nil {
		h.metrics.refused.WithLabelValues("handshake").Inc()
		return
	}
	defer func() { _ = conn.CloseNow() }()
	if !h.track(conn) {
		return
	}
	defer h.untrack(conn)
	conn.SetReadLimit(wire.MaxFrameBytes)
	// The request's context ends with the handler's return only, since the
	// connection was taken over; Close ends the stream by its connection.
	if err := h.stream(context.WithoutCancel(r.Context()), conn, cluster); err != nil {
		h.opts.Logger.Debug("control stream ended", "cluster", cluster, "error", err)
	}
}

// track makes Close end the connection; false when it was closed already.
func (h *Hub) track(conn *websocket.Conn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.open[conn] = struct{}{}
	return true
}

func (h *Hub) untrack(conn *websocket.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.open, conn)
}

func (h *Hub) stream(ctx context.Context, conn *websocket.Conn, cluster string) error {
	hello, err := readHello(ctx, conn)
	if err != nil {
		h.metrics.refused.WithLabelValues("hello").Inc()
		return h.refuse(ctx, conn, err.Error())
	}
	now := h.opts.Now()
	if !wire.Accepts(hello.WireVersion) {
		h.metrics.refused.WithLabelValues("version").Inc()
		return h.refuse(ctx, conn, fmt.Sprintf("wire version %d of collector %s is not taken by this server, which takes %d to %d: bring the older of the two up to date",
			hello.WireVersion, hello.ProductVersion, wire.Version-2, wire.Version+1))
	}
	e, old, err := h.connect(cluster, hello, conn, now)
	if old != nil {
		_ = old.CloseNow()
	}
	if err != nil {
		h.metrics.refused.WithLabelValues("limit").Inc()
		return h.refuse(ctx, conn, err.Error())
	}
	defer h.disconnect(cluster, hello.Sender, conn)
	version := int64(0)
	if h.opts.Settings != nil {
		version = h.opts.Settings(cluster, hello.Sender).Version
	}
	if err := write(ctx, conn, wire.FrameWelcome, wire.Welcome{
		WireVersion: wire.Version, SettingsVersion: &version, Cluster: cluster, Time: now, AcceptSeconds: int64(h.opts.Accept.Seconds()), HistorySeconds: int64(h.opts.History.Seconds()), Channels: true, Together: true,
	}); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var health stream.Inbox // of this connection only: the next health is a full state, too
	mux := stream.New(stream.Options{
		First: 2, Write: func(ctx context.Context, f wire.Frame) error { return writeFrame(ctx, conn, f) },
		Accept: func(o wire.Open) (stream.Document, error) {
			if o.Kind != string(wire.FrameHealth) {
				return nil, fmt.Errorf("this server takes no %q", o.Kind)
			}
			return health.Document(o, func(_ context.Context, body []byte) error {
				h.take(cluster, hello.Sender, e, wire.Frame{Type: wire.FrameHealth, Body: body})
				return nil
			}), nil
		},
	})
	var telling sync.WaitGroup
	defer mux.Wait()
	defer telling.Wait()
	defer cancel()
	if h.opts.Settings != nil {
		h.mu.Lock()
		changed := e.changed
		h.mu.Unlock()
		telling.Go(func() { h.tell(ctx, conn, mux, cluster, hello, changed) })
	}
	for {
		f, err := read(ctx, conn, silence)
		if err != nil {
			return err
		}
		if f.Channel != 0 {
			mux.Take(ctx, f)
			continue
		}
		h.take(cluster, hello.Sender, e, f)
	}
}

// tell says the settings to one collector, at first and whenever they changed,
// until its stream ends. A collector that keeps none takes a version of 0 for
// none. Large ones take a channel of their own, so that what else is said does not
// wait for them, and a connection that breaks often brings them in parts.
func (h *Hub) tell(ctx context.Context, conn *websocket.Conn, mux *stream.Mux, cluster string, hello wire.Hello, changed <-chan struct{}) {
	say := func(s wire.Settings) error {
		raw, err := json.Marshal(s)
		if err != nil {
			return err
		}
		if hello.Channels && len(raw) > wire.InlineBytes {
			return mux.Send(ctx, string(wire.FrameSettings), stream.ID(raw), raw)
		}
		return write(ctx, conn, wire.FrameSettings, json.RawMessage(raw))
	}
	for first := true; ; first = false {
		if s := h.opts.Settings(cluster, hello.Sender); s.Version != 0 || !first {
			switch err := say(s); {
			case errors.Is(err, stream.ErrRefused): // the next version may be taken
				h.opts.Logger.Warn("collector does not take settings", "cluster", cluster, "sender", hello.Sender, "error", err)
			case err != nil:
				_ = conn.CloseNow() // it comes back and is told then
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// SettingsChanged has every connected collector of a cluster be told its
// settings anew.
func (h *Hub) SettingsChanged(cluster string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.senders[cluster] {
		if e.Connected {
			select {
			case e.changed <- struct{}{}:
			default: // it will be told the newest anyway
			}
		}
	}
}

func readHello(ctx context.Context, conn *websocket.Conn) (wire.Hello, error) {
	var hello wire.Hello
	f, err := read(ctx, conn, helloTimeout)
	if err != nil {
		return hello, fmt.Errorf("no hello came: %w", err)
	}
	if f.Channel != 0 || f.Type != wire.FrameHello {
		return hello, fmt.Errorf("the first frame must be a hello on channel 0, not %q on channel %d", f.Type, f.Channel)
	}
	if err := json.Unmarshal(f.Body, &hello); err != nil {
		return hello, fmt.Errorf("the hello cannot be read: %w", err)
	}
	if hello.Sender == "" || len(hello.Sender) > 300 {
		return hello, errors.New("the hello must name its sender in 1 to 300 characters")
	}
	// It ends up in labels and logs.
	hello.Sender = strings.ToValidUTF8(hello.Sender, "?")
	return hello, nil
}

// connect notes the new connection. It gives an older one of the same sender
// too, which is to be ended: it is the same collector, which has noticed the
// break before the server did.
func (h *Hub) connect(cluster string, hello wire.Hello, conn *websocket.Conn, now time.Time) (e *entry, old *websocket.Conn, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.forgetLocked(cluster, now)
	senders := h.senders[cluster]
	if senders == nil {
		senders = map[string]*entry{}
		h.senders[cluster] = senders
	}
	e = senders[hello.Sender]
	if e == nil {
		if len(senders) >= maxSenders {
			return nil, nil, fmt.Errorf("cluster %q has %d collectors already, which is the limit", cluster, maxSenders)
		}
		e = &entry{}
		senders[hello.Sender] = e
	}
	if !e.Connected {
		h.opts.Logger.Info("collector connected", "cluster", cluster, "sender", hello.Sender, "version", hello.ProductVersion)
	}
	old, e.changed = e.conn, make(chan struct{}, 1)
	e.conn, e.Hello, e.Connected, e.ConnectedAt, e.LastSeenAt = conn, hello, true, now, now
	if !hello.Time.IsZero() {
		e.OffsetSeconds = hello.Time.Sub(now).Seconds()
	}
	return e, old, nil
}

func (h *Hub) disconnect(cluster, sender string, conn *websocket.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e := h.senders[cluster][sender]; e != nil && e.conn == conn {
		e.conn, e.Connected = nil, false
		h.opts.Logger.Info("collector disconnected", "cluster", cluster, "sender", sender)
	}
}

func (h *Hub) forgetLocked(cluster string, now time.Time) {
	for name, e := range h.senders[cluster] {
		if !e.Connected && now.Sub(e.LastSeenAt) > forget {
			delete(h.senders[cluster], name)
		}
	}
}

// take notes what a frame says. Frames of unknown type or channel are ignored,
// as the wire has it.
func (h *Hub) take(cluster, sender string, e *entry, f wire.Frame) {
	if f.Channel != 0 {
		return
	}
	var health wire.Health
	var applied wire.Applied
	var err error
	switch f.Type {
	case wire.FrameHealth:
		err = json.Unmarshal(f.Body, &health)
	case wire.FrameApplied:
		err = json.Unmarshal(f.Body, &applied)
	default:
		return
	}
	if err != nil {
		h.metrics.frames.WithLabelValues("malformed").Inc()
		return
	}
	h.metrics.frames.WithLabelValues(string(f.Type)).Inc()
	now := h.opts.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	e.LastSeenAt = now
	if f.Type == wire.FrameApplied {
		e.Applied = applied
		if applied.Error != "" {
			h.opts.Logger.Warn("collector could not apply settings", "cluster", cluster, "sender", sender, "error", applied.Error)
		}
		return
	}
	e.Health = health
	switch {
	case health.ClockOffsetSeconds != nil: // the collector knows it better
		e.OffsetSeconds = *health.ClockOffsetSeconds
	case !health.Time.IsZero():
		e.OffsetSeconds = health.Time.Sub(now).Seconds()
	}
}

func (h *Hub) refuse(ctx context.Context, conn *websocket.Conn, reason string) error {
	// The frame says why in full; a close reason holds 123 bytes.
	if err := write(ctx, conn, wire.FrameRefused, wire.Refused{Reason: reason}); err != nil {
		return err
	}
	_ = conn.Close(websocket.StatusPolicyViolation, "refused")
	return errors.New(reason)
}

func read(ctx context.Context, conn *websocket.Conn, timeout time.Duration) (wire.Frame, error) {
	var f wire.Frame
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	kind, data, err := conn.Read(ctx)
	if err != nil {
		return f, err
	}
	if kind != websocket.MessageText {
		return f, errors.New("frames are text messages")
	}
	if err := json.Unmarshal(data, &f); err != nil {
		return f, fmt.Errorf("frame: %w", err)
	}
	return f, nil
}

func write(ctx context.Context, conn *websocket.Conn, t wire.FrameType, body any) error {
	f, err := wire.NewFrame(t, body)
	if err != nil {
		return err
	}
	return writeFrame(ctx, conn, f)
}

func writeFrame(ctx context.Context, conn *websocket.Conn, f wire.Frame) error {
	data, err := json.Marshal(f)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return conn.Write(ctx, websocket.MessageText, data)
}
