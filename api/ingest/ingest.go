// Package ingest owns the ways by which collectors hand over log lines,
// inventory and health, and ask for owners: bounded reading, decompression, and
// answers. It must not know how any of it is stored.
package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/api/problem"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// slotWait is how long a request waits for its turn before the sender is asked
// to come again.
const slotWait = 5 * time.Second

// Logs stores log lines.
type Logs interface {
	// Append returns nil only when the batch is durable. The same batch of a
	// sender is stored once.
	Append(ctx context.Context, cluster string, b *wire.LogBatch) error
	// Positions says how far containers' logs were taken; those of which nothing is
	// stored are left out.
	Positions(ctx context.Context, cluster string, sources []wire.LogSource) ([]wire.LogPosition, error)
}

// Inventory stores objects and knows the present ones.
type Inventory interface {
	// Apply takes the next batch of a session; fault.ErrConflict when one is
	// missing before it.
	Apply(ctx context.Context, cluster string, b *wire.InventoryBatch) error
	// PodsOn gives the pods that are on a node.
	PodsOn(cluster, node string) []*object.Pod
	// ServicesIn gives the Services of namespaces; known is false while they are not all
	// known.
	ServicesIn(cluster string, namespaces []string) (services []*object.Service, known bool)
}

// PathOTLP is where OpenTelemetry's exporters send metrics.
const PathOTLP = "/api/v1/otlp/v1/metrics"

// Metrics takes remote writes and OTLP. It answers by itself.
type Metrics interface {
	ServeWrite(w http.ResponseWriter, r *http.Request, cluster string)
	ServeHistory(w http.ResponseWriter, r *http.Request, cluster string)
	ServeOTLP(w http.ResponseWriter, r *http.Request, cluster string)
}

// Control serves control streams. It answers by itself.
type Control interface {
	Serve(w http.ResponseWriter, r *http.Request, cluster string)
}

// Options of a Handler. All but Peers, Readers, LogReaders, Seen, Concurrency, Registerer and Now are
// required to serve.
type Options struct {
	Metrics   Metrics
	Logs      Logs
	Inventory Inventory
	Control   Control
	// Peers gives the nodes that a node's collector is to ask whether they are there;
	// nil gives none.
	Peers func(cluster, node string) []wire.Peer
	// Readers gives those of some nodes whose own collectors are heard; nil gives none.
	Readers func(cluster string, nodes []string) []string
	// LogReaders gives those whose own collectors follow logs, too; nil gives none.
	LogReaders func(cluster string, nodes []string) []string
	// Seen is told of each cluster that something came from, with every request.
	// It must be quick. An error refuses the request.
	Seen func(ctx context.Context, cluster string) error
	// Concurrency is how many log and inventory bodies are in memory at once;
	// default 8, which is up to 8 × 48 MiB. Further ones wait.
	Concurrency int
	Registerer  prometheus.Registerer // default: a registry of its own
	Now         func() time.Time      // default time.Now
}

// Handler serves what collectors ask.
type Handler struct {
	opts    Options
	slots   chan struct{}
	metrics *metrics
	zstd    sync.Pool // of *zstd.Decoder
	bodies  sync.Pool // of *bytes.Buffer: growing one for each body was a tenth of what storing lines allocated
}

// New makes a Handler.
func New(opts Options) (*Handler, error) {
	if opts.Concurrency == 0 {
		opts.Concurrency = 8
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Registerer == nil {
		opts.Registerer = prometheus.NewRegistry()
	}
	m, err := newMetrics(opts.Registerer)
	if err != nil {
		return nil, err
	}
	return &Handler{opts: opts, slots: make(chan struct{}, opts.Concurrency), metrics: m}, nil
}

// accept finds the cluster that the request may send for. The answer tells the
// server's time, by which a collector corrects its own.
func (h *Handler) accept(w http.ResponseWriter, r *http.Request) (cluster string, err error) {
	w.Header().Set(wire.HeaderTime, wire.FormatMillis(h.opts.Now()))
	p, _ := access.From(r.Context())
	if err := access.Authorize(r.Context(), access.Ingest, p.Cluster, ""); err != nil {
		return "", err
	}
	if v := r.Header.Get(wire.HeaderVersion); v != "" {
		if n, err := strconv.Atoi(v); err != nil || !wire.Accepts(n) {
			return "", fmt.Errorf("wire version %q is not taken, this server takes %d to %d: bring the older side up to date: %w",
				v, wire.Version-2, wire.Version+1, fault.ErrMalformed)
		}
	}
	if h.opts.Seen != nil {
		if err := h.opts.Seen(r.Context(), p.Cluster); err != nil {
			return "", err
		}
	}
	return p.Cluster, nil
}

// ServeMetrics takes a remote write.
func (h *Handler) ServeMetrics(w http.ResponseWriter, r *http.Request) {
	cluster, err := h.accept(w, r)
	if err != nil {
		h.refuse(w, r, "metrics", err)
		return
	}
	h.opts.Metrics.ServeWrite(w, r, cluster)
}

// ServeHistory takes a remote write of samples that ServeMetrics finds too old.
func (h *Handler) ServeHistory(w http.ResponseWriter, r *http.Request) {
	cluster, err := h.accept(w, r)
	if err != nil {
		h.refuse(w, r, "history", err)
		return
	}
	h.opts.Metrics.ServeHistory(w, r, cluster)
}

// ServeOTLPMetrics takes metrics as OpenTelemetry sends them.
func (h *Handler) ServeOTLPMetrics(w http.ResponseWriter, r *http.Request) {
	cluster, err := h.accept(w, r)
	if err != nil {
		h.refuse(w, r, "metrics", err)
		return
	}
	h.opts.Metrics.ServeOTLP(w, r, cluster)
}

// ServeControl opens a control stream.
func (h *Handler) ServeControl(w http.ResponseWriter, r *http.Request) {
	cluster, err := h.accept(w, r)
	if err != nil {
		h.refuse(w, r, "control", err)
		return
	}
	h.opts.Control.Serve(w, r, cluster)
}

// ServeLogs takes a wire.LogBatch.
func (h *Handler) ServeLogs(w http.ResponseWriter, r *http.Request) {
	h.take(w, r, "logs", []string{wire.LogBatchType, "application/json"}, wire.MaxLogBatchBytes, func(ctx context.Context, cluster string, body []byte) error {
		b, err := wire.UnmarshalLogBatch(body)
		if err != nil {
			return err
		}
		return h.opts.Logs.Append(ctx, cluster, b)
	})
}

// maxPositionsBody bounds a wire.LogPositionsRequest.
const maxPositionsBody = 2 << 20

// ServeLogPositions answers a wire.LogPositionsRequest.
func (h *Handler) ServeLogPositions(w http.ResponseWriter, r *http.Request) {
	cluster, err := h.accept(w, r)
	if err == nil {
		err = checkType(r, []string{"application/json"})
	}
	var release func()
	if err == nil {
		release, err = h.slot(r.Context())
	}
	if err != nil {
		h.refuse(w, r, "log_positions", err)
		return
	}
	defer release()
	body, done, err := h.body(w, r, maxPositionsBody)
	defer done()
	var q wire.LogPositionsRequest
	if err == nil {
		if jsonErr := json.Unmarshal(body, &q); jsonErr != nil {
			err = fmt.Errorf("positions of logs: %w: %v", fault.ErrMalformed, jsonErr)
		} else {
			err = q.Validate()
		}
	}
	var answer wire.LogPositionsResponse
	if err == nil {
		answer.Positions, err = h.opts.Logs.Positions(r.Context(), cluster, q.Sources)
	}
	if err != nil {
		h.refuse(w, r, "log_positions", err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // the client is gone; it asks again
}

// ServeInventory takes a wire.InventoryBatch.
func (h *Handler) ServeInventory(w http.ResponseWriter, r *http.Request) {
	h.take(w, r, "inventory", []string{"application/json"}, wire.MaxInventoryBatchBytes, func(ctx context.Context, cluster string, body []byte) error {
		b, err := wire.UnmarshalInventoryBatch(body)
		if err != nil {
			return err
		}
		return h.opts.Inventory.Apply(ctx, cluster, b)
	})
}

// ServeOwners answers which workload owns each pod of a node.
func (h *Handler) ServeOwners(w http.ResponseWriter, r *http.Request) {
	h.ofNode(w, r, "owners", func(cluster, node string) any {
		out := wire.OwnersResponse{Owners: map[string]wire.Owner{}}
		for _, p := range h.opts.Inventory.PodsOn(cluster, node) {
			out.Owners[p.UID] = wire.Owner{Type: p.Workload.Type, Name: p.Workload.Name}
		}
		return out
	})
}

// ServeServices answers which Services there are in namespaces, so that a node's
// collector knows by itself of which ones its pods are.
func (h *Handler) ServeServices(w http.ResponseWriter, r *http.Request) {
	cluster, err := h.accept(w, r)
	namespaces := r.URL.Query()["namespace"]
	if n := len(namespaces); err == nil && (n == 0 || n > wire.MaxServiceNamespaces) {
		err = fault.Field{Path: "namespace", Reason: fmt.Sprintf("is required as a query parameter, 1 to %d times", wire.MaxServiceNamespaces)}
	}
	out := wire.ServicesResponse{Services: []wire.Service{}}
	if err == nil {
		services, known := h.opts.Inventory.ServicesIn(cluster, namespaces)
		if !known {
			err = fmt.Errorf("the inventory of cluster %q is not complete yet: %w", cluster, fault.ErrUnavailable)
		}
		for _, v := range services {
			out.Services = append(out.Services, wire.Service{Namespace: v.Namespace, Name: v.Name, Selector: v.Selector, Pods: v.Pods})
		}
	}
	if err != nil {
		h.refuse(w, r, "services", err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(out) // the client is gone; it asks again
}

// ServePeers answers which nodes a node's collector is to ask.
func (h *Handler) ServePeers(w http.ResponseWriter, r *http.Request) {
	h.ofNode(w, r, "peers", func(cluster, node string) any {
		out := wire.PeersResponse{Peers: []wire.Peer{}}
		if h.opts.Peers != nil {
			out.Peers = append(out.Peers, h.opts.Peers(cluster, node)...)
		}
		return out
	})
}

// ServeReaders answers which nodes' own collectors are heard.
func (h *Handler) ServeReaders(w http.ResponseWriter, r *http.Request) {
	cluster, err := h.accept(w, r)
	nodes := r.URL.Query()["node"]
	if err == nil && (len(nodes) == 0 || len(nodes) > wire.MaxReaderNodes) {
		err = fault.Field{Path: "node", Reason: fmt.Sprintf("is required as a query parameter, at most %d times", wire.MaxReaderNodes)}
	}
	if err != nil {
		h.refuse(w, r, "readers", err)
		return
	}
	out, heard := wire.ReadersResponse{Nodes: []string{}}, h.opts.Readers
	if r.URL.Query().Get("logs") == "true" {
		heard = h.opts.LogReaders
	}
	if heard != nil {
		out.Nodes = heard(cluster, nodes)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(out) // the client is gone; it asks again
}

// ofNode answers what a node's collector asks about it.
func (h *Handler) ofNode(w http.ResponseWriter, r *http.Request, what string, answer func(cluster, node string) any) {
	cluster, err := h.accept(w, r)
	node := r.URL.Query().Get("node")
	if err == nil && node == "" {
		err = fault.Field{Path: "node", Reason: "is required as a query parameter"}
	}
	if err != nil {
		h.refuse(w, r, what, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer(cluster, node)) // the client is gone; it asks again
}

func (h *Handler) take(w http.ResponseWriter, r *http.Request, what string, types []string, limit int64, store func(context.Context, string, []byte) error) {
	cluster, err := h.accept(w, r)
	if err != nil {
		h.refuse(w, r, what, err)
		return
	}
	if err := checkType(r, types); err != nil {
		h.refuse(w, r, what, err)
		return
	}
	release, err := h.slot(r.Context())
	if err != nil {
		h.refuse(w, r, what, err)
		return
	}
	defer release()
	body, done, err := h.body(w, r, limit)
	defer done()
	if err != nil {
		h.refuse(w, r, what, err)
		return
	}
	if err := store(r.Context(), cluster, body); err != nil {
		h.refuse(w, r, what, err)
		return
	}
	h.metrics.requests.WithLabelValues(what, "stored").Inc()
	h.metrics.bytes.WithLabelValues(what).Add(float64(len(body)))
	w.WriteHeader(http.StatusNoContent)
}

func (h *Handler) slot(ctx context.Context) (release func(), err error) {
	timer := time.NewTimer(slotWait)
	defer timer.Stop()
	select {
	case h.slots <- struct{}{}:
		return func() { <-h.slots }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for other writes: %w", fault.ErrUnavailable)
	case <-timer.C:
		return nil, fmt.Errorf("%d writes are being stored already: %w", cap(h.slots), fault.ErrLimited)
	}
}

// unsupported is what RFC 9110 has 415 for; our table of problems has no kind
// of its own for it.
type unsupported struct{ error }

func (unsupported) Unwrap() error { return fault.ErrMalformed }

func checkType(r *http.Request, types []string) error {
	if ct := r.Header.Get("Content-Type"); ct != "" {
		if t, _, err := mime.ParseMediaType(ct); err != nil || !slices.Contains(types, t) {
			return unsupported{fmt.Errorf("content type %q is not taken, send %s", ct, strings.Join(types, " or "))}
		}
	}
	switch e := r.Header.Get("Content-Encoding"); e {
	case "", "identity", "zstd":
		return nil
	default:
		return unsupported{fmt.Errorf("content encoding %q is not taken, send zstd", e)}
	}
}

// body reads and decompresses a body of at most limit bytes. It is there until done is
// called, which has to be, whatever the error.
func (h *Handler) body(w http.ResponseWriter, r *http.Request, limit int64) (body []byte, done func(), err error) {
	buf, ok := h.bodies.Get().(*bytes.Buffer)
	if !ok {
		buf = &bytes.Buffer{}
	}
	done = func() {
		buf.Reset()
		h.bodies.Put(buf)
	}
	var src io.Reader = http.MaxBytesReader(w, r.Body, limit)
	if r.Header.Get("Content-Encoding") == "zstd" {
		d, ok := h.zstd.Get().(*zstd.Decoder)
		if !ok {
			// One goroutine, the caller's; a frame that asks for more memory than
			// the limit is refused before it gets any.
			if d, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(64<<20), zstd.WithDecoderLowmem(true)); err != nil {
				return nil, done, err
			}
		}
		defer func() {
			if d.Reset(nil) == nil {
				h.zstd.Put(d)
			}
		}()
		if err := d.Reset(src); err != nil {
			return nil, done, readError(err, limit)
		}
		src = d
	}
	n, err := io.Copy(buf, io.LimitReader(src, limit+1))
	if err != nil {
		return nil, done, readError(err, limit)
	}
	if n > limit {
		return nil, done, fmt.Errorf("the body is over %d bytes uncompressed: %w", limit, fault.ErrTooLarge)
	}
	return buf.Bytes(), done, nil
}

func readError(err error, limit int64) error {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge), errors.Is(err, zstd.ErrDecoderSizeExceeded), errors.Is(err, zstd.ErrWindowSizeExceeded):
		return fmt.Errorf("the body is over %d bytes: %w", limit, fault.ErrTooLarge)
	}
	return fmt.Errorf("the body cannot be read: %w: %v", fault.ErrMalformed, err)
}

func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, what string, err error) {
	p := problem.Of(err)
	reason := p.Code
	var u unsupported
	if errors.As(err, &u) {
		p.Status, p.Title, reason = http.StatusUnsupportedMediaType, "Unsupported media type", "unsupported"
	}
	h.metrics.requests.WithLabelValues(what, reason).Inc()
	problem.Write(w, r, p)
}
