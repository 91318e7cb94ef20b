package ingest

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/storage/remote"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
)

// promoted resource attributes become labels of every series; the others are on
// target_info.
var promoted = []string{"k8s.namespace.name", "k8s.pod.name", "k8s.container.name", "k8s.node.name"}

// newOTLP makes Prometheus' own receiver; it writes by our appender.
func (i *Ingester) newOTLP() (http.Handler, error) {
	cfg, err := config.Load("", promslog.NewNopLogger())
	if err != nil {
		return nil, err
	}
	cfg.OTLPConfig.PromoteResourceAttributes = promoted
	// What it counts is counted here, by reason and cluster.
	return remote.NewOTLPWriteHandler(slog.New(slog.DiscardHandler), prometheus.NewRegistry(), i,
		func() config.Config { return *cfg }, remote.OTLPOptions{LookbackDelta: 5 * time.Minute}), nil
}

// ServeOTLP takes metrics as OpenTelemetry's protocol has them, protobuf or
// JSON, with the same identity and limits as ServeWrite.
//
// 200 stored; with a partial success in the body, and its reasons, when some
// were refused and the rest is stored. 400 malformed, or everything refused. 413
// too large, 415 another type, 429 and 503 with Retry-After: nothing stored,
// send it again.
func (i *Ingester) ServeOTLP(w http.ResponseWriter, r *http.Request, clusterID string) {
	began := i.opts.Now()
	result := i.serveOTLP(w, r, clusterID, began)
	i.metrics.requests.WithLabelValues(result).Inc()
	i.metrics.seconds.Observe(i.opts.Now().Sub(began).Seconds())
}

func (i *Ingester) serveOTLP(w http.ResponseWriter, r *http.Request, clusterID string, now time.Time) (result string) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || (kind != "application/x-protobuf" && kind != "application/json") {
		return refuse(w, http.StatusUnsupportedMediaType, resultMalformed,
			fmt.Sprintf("content type %q is not taken, send application/x-protobuf or application/json", clip(r.Header.Get("Content-Type"), 64)))
	}
	encoding := r.Header.Get("Content-Encoding")
	if encoding != "" && encoding != "identity" && encoding != "gzip" {
		return refuse(w, http.StatusUnsupportedMediaType, resultMalformed, fmt.Sprintf("the body is compressed as %q, only gzip is taken", clip(encoding, 64)))
	}
	q, done, result := i.admit(w, r, clusterID, false, now)
	if q == nil {
		return result
	}
	defer done()
	body, result := i.body(w, r, q, nil)
	if body == nil {
		return result
	}
	if encoding == "gzip" {
		if body, err = gunzip(body, i.limits.DecompressedBytes); err != nil {
			return refuse(w, http.StatusBadRequest, resultMalformed, "the body cannot be decompressed: "+err.Error())
		}
	}
	if int64(len(body)) > i.limits.DecompressedBytes {
		return refuse(w, http.StatusRequestEntityTooLarge, resultTooLarge, fmt.Sprintf("the body has more than %d bytes when decompressed, which is the limit", i.limits.DecompressedBytes))
	}
	inner := r.Clone(context.WithValue(r.Context(), requestKey{}, q))
	inner.Body = io.NopCloser(bytes.NewReader(body))
	inner.Header.Del("Content-Encoding")
	inner.Header.Set("Content-Type", kind)
	answer := &recorder{header: http.Header{}}
	i.otlp.ServeHTTP(answer, inner)
	if q.committed {
		i.after(q)
	}
	text := clip(strings.TrimSpace(answer.body.String()), 4096)
	switch {
	case q.wait > 0:
		q.c.throttled[throttledRate].add(1)
		return refuseFor(w, q.wait, http.StatusTooManyRequests, resultLimited,
			fmt.Sprintf("cluster %q has the limit of %d samples a second, and has used it up", clusterID, i.limits.SamplesPerSecond))
	case q.abort != nil || q.failed != nil:
		return i.answer(w, q, http.StatusOK)
	case !q.begun: // it could not be decoded
		return refuse(w, http.StatusBadRequest, resultMalformed, text)
	case answer.status/100 != 2:
		// Metrics that have no meaning here, such as deltas. How many samples they
		// would have been is not known.
		q.refuse(1, reasonInvalid, func() string { return text })
	}
	if q.stored == 0 && len(q.refused) > 0 {
		return refuse(w, http.StatusBadRequest, resultPartial, clip(q.explain(), 8<<10))
	}
	out := pmetricotlp.NewExportResponse()
	result = resultStored
	if len(q.refused) > 0 {
		var n int64
		for _, one := range q.refused {
			n += int64(one.n)
		}
		out.PartialSuccess().SetRejectedDataPoints(n)
		out.PartialSuccess().SetErrorMessage(clip(q.explain(), 8<<10))
		result = resultPartial
	}
	var raw []byte
	if kind == "application/json" {
		raw, err = out.MarshalJSON()
	} else {
		raw, err = out.MarshalProto()
	}
	if err != nil {
		i.log.Warn("answer an OTLP request", "err", err)
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(raw) // the client is gone, and what is stored is stored
	return result
}

// gunzip gives up to one byte more than the limit.
func gunzip(body []byte, limit int64) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(z, limit+1))
}

type requestKey struct{}

// AppenderV2 is for Prometheus' OTLP receiver: each request brings its state in
// the context.
func (i *Ingester) AppenderV2(ctx context.Context) storage.AppenderV2 {
	q, ok := ctx.Value(requestKey{}).(*request)
	if !ok {
		panic("BUG: a write that did not come through ServeOTLP")
	}
	q.begun = true
	return &otlpAppender{appender: i.newAppender(ctx, q)}
}

// otlpAppender is appender as Prometheus' receiver wants it.
type otlpAppender struct{ *appender }

var _ storage.AppenderV2 = (*otlpAppender)(nil)

// Append takes a sample with its exemplars. An error takes the request back.
func (a *otlpAppender) Append(_ storage.SeriesRef, ls labels.Labels, _, t int64, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, opts storage.AOptions) (storage.SeriesRef, error) {
	if a.q.abort != nil || a.q.failed != nil {
		return 0, errors.Join(a.q.abort, a.q.failed)
	}
	a.pairs = a.pairs[:0]
	ls.Range(func(l labels.Label) { a.pairs = append(a.pairs, l) })
	float := h == nil && fh == nil
	s, no, err := a.series(!float || !value.IsStaleNaN(v))
	if err != nil {
		return 0, err
	}
	if no.reason != "" {
		a.refuseSeries(1, no)
		return 0, nil
	}
	if float {
		err = a.float(s, t, v)
	} else {
		err = a.histogram(s, t, h, fh)
	}
	if err != nil {
		return 0, err
	}
	for _, e := range opts.Exemplars {
		a.exemplar(s, e)
	}
	return s.storeRef(), nil
}

// Commit writes the request to the log, unless the cluster's rate is used up.
func (a *otlpAppender) Commit() error {
	if wait := a.q.c.take(a.q.now, a.q.stored, a.q.i.limits.SamplesPerSecond, false); wait > 0 {
		a.q.wait = wait
		return a.rollback()
	}
	return a.commit()
}

// Rollback is asked for when some metrics could not be translated. The rest is
// good, and the sender will not send it again: it is stored.
func (a *otlpAppender) Rollback() error {
	if a.q.abort != nil || a.q.failed != nil {
		return a.rollback()
	}
	return a.Commit()
}

// recorder keeps an answer.
type recorder struct {
	header http.Header
	body   bytes.Buffer
	status int
}

func (r *recorder) Header() http.Header { return r.header }

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
}

func (r *recorder) Write(p []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	return r.body.Write(p)
}
