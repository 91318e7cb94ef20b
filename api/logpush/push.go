// Package logpush owns the ways by which other programs' agents hand over log
// lines: Loki's push API and OTLP. It must not know how lines are stored or
// asked for.
//
// The cluster is that of the ingest token, whatever the lines say. Labels and
// attributes that name a Kubernetes object make the stream, all others become
// fields, so that they never multiply streams. These agents send no batch ids:
// the id is made from the body, so that a request that is repeated as it was is
// stored once, also over a restart of the server; a line that comes again within
// another request is stored again. The same request without times may be a second
// message, too, and is one a quarter of an hour later.
package logpush

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/golang/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/api/problem"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// Paths of the two ways in.
const (
	PathLoki = "/loki/api/v1/push"
	PathOTLP = "/api/v1/otlp/v1/logs"
)

// Bounds of a request.
const (
	maxBody      = 8 << 20 // uncompressed
	maxLabels    = 64      // of a stream or a resource
	maxMetadata  = 128     // of a line, on top
	maxLabelText = 64 << 10
	maxFields    = 500_000 // of all lines together
	maxLines     = 100_000
	slotWait     = 5 * time.Second
)

// Reasons for which lines of a request are not stored.
const (
	droppedLabels   = "too_many_labels"
	droppedMetadata = "too_many_fields"
	droppedWrong    = "malformed"
	cutLine         = "line_cut" // stored, but shortened
)

// Store keeps log lines; *logs.Store is one.
type Store interface {
	// Append returns nil only when the batch is durable. The same batch of a
	// sender is stored once.
	Append(ctx context.Context, cluster string, b *wire.LogBatch) error
}

// Options of a Handler.
type Options struct {
	Store Store // required
	// Seen is told of each cluster that something came from. It must be quick. An
	// error refuses the request.
	Seen        func(ctx context.Context, cluster string) error
	Concurrency int                   // bodies in memory at once; default 4. Further ones wait 5 s, then get 429
	Registerer  prometheus.Registerer // nil: metrics are kept but not exported
	Now         func() time.Time      // default time.Now
}

// Handler serves both ways in.
type Handler struct {
	opts    Options
	slots   chan struct{}
	metrics *metrics
}

// New makes a Handler.
func New(opts Options) (*Handler, error) {
	if opts.Store == nil {
		return nil, errors.New("new log push API: option Store is required")
	}
	if opts.Concurrency == 0 {
		opts.Concurrency = 4
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	m, err := newMetrics(opts.Registerer)
	if err != nil {
		return nil, fmt.Errorf("new log push API: %w", err)
	}
	return &Handler{opts: opts, slots: make(chan struct{}, opts.Concurrency), metrics: m}, nil
}

// pushed is what a request holds, as far as it can be stored.
type pushed struct {
	groups   map[wire.LogStream]*wire.LogGroup
	order    []*wire.LogGroup
	lines    int
	fields   int
	rejected int    // lines that are not stored
	why      string // the first reason
}

func newPushed() *pushed { return &pushed{groups: map[wire.LogStream]*wire.LogGroup{}} }

func (p *pushed) reject(m *metrics, lines int, reason, why string) {
	p.rejected += lines
	if p.why == "" {
		p.why = why
	}
	m.dropped.WithLabelValues(reason).Add(float64(lines))
}

// errTooMuch refuses a request that would take too much memory.
var errTooMuch = fmt.Errorf("a request may hold at most %d lines and %d fields: send smaller ones: %w", maxLines, maxFields, fault.ErrTooLarge)

// add takes a line; the fields are the line's own from then on.
func (p *pushed) add(m *metrics, st wire.LogStream, at int64, message string, fields map[string]string) error {
	p.lines++
	p.fields += len(fields)
	if p.lines > maxLines || p.fields > maxFields {
		return errTooMuch
	}
	if len(message) > wire.MaxLogLineBytes {
		n := wire.MaxLogLineBytes
		for n > 0 && !utf8.RuneStart(message[n]) {
			n--
		}
		message = message[:n]
		m.dropped.WithLabelValues(cutLine).Inc()
	}
	if v, ok := fields[wire.LagField]; ok { // what a sender calls so is none
		delete(fields, wire.LagField)
		fields["log_"+wire.LagField] = v
	}
	g := p.groups[st]
	if g == nil {
		g = &wire.LogGroup{Stream: st}
		p.groups[st] = g
		p.order = append(p.order, g)
	}
	g.Lines = append(g.Lines, wire.LogLine{Time: max(at, untimed), Message: message, Fields: wire.FieldsOf(fields)})
	return nil
}

// untimed is the time of a line that has none, until its batch is made.
const untimed = 0

// batches cuts the lines into batches of one day and of bounded size. Those without a
// time get now's, in their order and within one day, and are apart: which lines a batch
// has, and its id, are to be the same whenever the request comes.
func (p *pushed) batches(sender, id string, now time.Time) []*wire.LogBatch {
	const dayNanos = int64(24 * time.Hour)
	at := now.UnixNano()
	if at%dayNanos > dayNanos-maxLines {
		at -= maxLines
	}
	var out []*wire.LogBatch
	open := map[int64]*wire.LogBatch{}
	for _, g := range p.order {
		in := map[int64]int{} // the group's index in the day's batch
		for _, l := range g.Lines {
			day := l.Time / dayNanos
			if l.Time == untimed {
				day, l.Time = -1, at
				at++
			}
			b := open[day]
			if b == nil || b.Lines() >= wire.MaxLogBatchLines {
				b = &wire.LogBatch{Sender: sender, ID: fmt.Sprintf("%s-%d", id, len(out)), Untimed: day < 0}
				open[day] = b
				out = append(out, b)
				delete(in, day)
			}
			i, ok := in[day]
			if !ok {
				i = len(b.Groups)
				in[day] = i
				b.Groups = append(b.Groups, wire.LogGroup{Stream: g.Stream})
			}
			b.Groups[i].Lines = append(b.Groups[i].Lines, l)
		}
	}
	return out
}

// take does what both ways have in common: who asks, the body, storing. The
// returned lines are those that could not be taken.
func (h *Handler) take(w http.ResponseWriter, r *http.Request, way string, read func(body []byte, contentType string) (*pushed, error)) (*pushed, error) {
	who, _ := access.From(r.Context())
	if err := access.Authorize(r.Context(), access.Ingest, who.Cluster, ""); err != nil {
		return nil, err
	}
	if h.opts.Seen != nil {
		if err := h.opts.Seen(r.Context(), who.Cluster); err != nil {
			return nil, err
		}
	}
	contentType := ""
	if text := r.Header.Get("Content-Type"); text != "" {
		var err error
		if contentType, _, err = mime.ParseMediaType(text); err != nil {
			return nil, fmt.Errorf("content type %q: %w", text, fault.ErrMalformed)
		}
	}
	timer := time.NewTimer(slotWait)
	defer timer.Stop()
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	case <-r.Context().Done():
		return nil, r.Context().Err()
	case <-timer.C:
		return nil, fmt.Errorf("%d pushes are being stored already: %w", cap(h.slots), fault.ErrLimited)
	}
	encoding := r.Header.Get("Content-Encoding")
	if encoding == "" && way == wayLoki && contentType != "application/json" {
		encoding = "snappy" // Loki's agents do not say so
	}
	body, err := readBody(w, r, encoding)
	if err != nil {
		return nil, err
	}
	p, err := read(body, contentType)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	batches := p.batches(way, hex.EncodeToString(sum[:16]), h.opts.Now())
	g, ctx := errgroup.WithContext(r.Context())
	g.SetLimit(4)
	for _, b := range batches {
		g.Go(func() error { return h.opts.Store.Append(ctx, who.Cluster, b) })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	h.metrics.lines.WithLabelValues(way).Add(float64(p.lines))
	return p, nil
}

// readBody reads and decompresses a body within its bound.
func readBody(w http.ResponseWriter, r *http.Request, encoding string) ([]byte, error) {
	src := io.Reader(http.MaxBytesReader(w, r.Body, maxBody))
	tooLarge := fmt.Errorf("the body is over %d bytes uncompressed: send smaller ones: %w", maxBody, fault.ErrTooLarge)
	switch encoding {
	case "", "identity":
	case "snappy":
		raw, err := io.ReadAll(src)
		if err != nil {
			return nil, readError(err)
		}
		// The length comes first, and is not believed.
		n, err := snappy.DecodedLen(raw)
		if err != nil {
			return nil, readError(err)
		}
		if n > maxBody {
			return nil, tooLarge
		}
		out, err := snappy.Decode(nil, raw)
		if err != nil {
			return nil, readError(err)
		}
		return out, nil
	case "gzip":
		z, err := gzip.NewReader(src)
		if err != nil {
			return nil, readError(err)
		}
		defer func() { _ = z.Close() }() // of a reader
		src = z
	case "zstd":
		z, err := zstd.NewReader(src, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(64<<20), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, readError(err)
		}
		defer z.Close()
		src = z
	default:
		return nil, fmt.Errorf("content encoding %q is not taken, send snappy, gzip or zstd: %w", encoding, fault.ErrMalformed)
	}
	var buf bytes.Buffer
	n, err := io.Copy(&buf, io.LimitReader(src, maxBody+1))
	if err != nil {
		return nil, readError(err)
	}
	if n > maxBody {
		return nil, tooLarge
	}
	return buf.Bytes(), nil
}

func readError(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) || errors.Is(err, zstd.ErrDecoderSizeExceeded) || errors.Is(err, zstd.ErrWindowSizeExceeded) {
		return fmt.Errorf("the body is over %d bytes: send smaller ones: %w", maxBody, fault.ErrTooLarge)
	}
	return fmt.Errorf("the body cannot be read: %w: %v", fault.ErrMalformed, err)
}

// refuse counts an error and gives it as agents are told: 400 for whatever would
// be wrong again, since they repeat other answers of 4xx and all of 5xx.
func (h *Handler) refuse(r *http.Request, way string, err error) *problem.Problem {
	p := problem.Of(err)
	p.Report(r.Context())
	if p.Status == http.StatusUnprocessableEntity {
		p.Status = http.StatusBadRequest
	}
	h.metrics.requests.WithLabelValues(way, p.Code).Inc()
	return p
}

// places say which names of labels and attributes make the stream: those of
// Promtail, Alloy, Fluent Bit, the OpenTelemetry collector and VictoriaLogs.
var places = func() map[string]func(*wire.LogStream) *string {
	out := map[string]func(*wire.LogStream) *string{}
	for field, names := range map[string]string{
		wire.FieldNamespace: "namespace k8s.namespace.name k8s_namespace_name kubernetes_namespace_name kubernetes_namespace namespace_name kubernetes.pod_namespace",
		wire.FieldPod:       "pod k8s.pod.name k8s_pod_name kubernetes_pod_name pod_name kubernetes.pod_name",
		wire.FieldContainer: "container k8s.container.name k8s_container_name kubernetes_container_name container_name kubernetes.container_name",
		wire.FieldNode:      "node k8s.node.name k8s_node_name kubernetes_host node_name nodename kubernetes.pod_node_name",
		wire.FieldStream:    "stream log.iostream",
	} {
		for _, name := range strings.Fields(names) {
			out[name] = placeOf[field]
		}
	}
	return out
}()

var placeOf = map[string]func(*wire.LogStream) *string{
	wire.FieldNamespace: func(s *wire.LogStream) *string { return &s.Namespace },
	wire.FieldPod:       func(s *wire.LogStream) *string { return &s.Pod },
	wire.FieldContainer: func(s *wire.LogStream) *string { return &s.Container },
	wire.FieldNode:      func(s *wire.LogStream) *string { return &s.Node },
	wire.FieldStream:    func(s *wire.LogStream) *string { return &s.Stream },
}

// workloads are the types whose name a label k8s_TYPE_name has, the top one first.
var workloads = []string{"cronjob", "deployment", "statefulset", "daemonset", "job", "replicaset"}

// levels are names under which agents send a line's level.
var levels = []string{"level", "detected_level", "severity", "severity_text", "lvl"}

// place takes the values that make a stream out of the labels, and leaves the
// others to be fields.
func place(labels map[string]string, way string) (st wire.LogStream, rest map[string]string) {
	rest = make(map[string]string, len(labels))
	st.WorkloadType, st.Workload = labels["workload_type"], labels["workload"]
	for name, value := range labels {
		if value == "" || name == "workload_type" || name == "workload" {
			continue
		}
		if to := places[name]; to != nil {
			*to(&st) = value
			continue
		}
		rest[name] = value
	}
	for _, kind := range workloads {
		if st.Workload != "" {
			break
		}
		for _, name := range []string{"k8s." + kind + ".name", "k8s_" + kind + "_name"} {
			if v := rest[name]; v != "" && st.Workload == "" {
				st.WorkloadType, st.Workload = kind, v
			}
		}
	}
	if st.Stream != "stdout" && st.Stream != "stderr" {
		st.Stream = way // events are none of theirs
	}
	level(rest)
	return st, rest
}

// level gives the level its one name.
func level(fields map[string]string) {
	for _, name := range levels {
		if v := fields[name]; v != "" {
			if name != "level" {
				delete(fields, name)
				fields["level"] = v
			}
			return
		}
	}
}
