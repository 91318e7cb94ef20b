package ingest

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/storage/remote/otlptranslator/prometheusremotewrite"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
)

// promoted resource attributes become labels of every series; the others are on
// target_info.
var promoted = []string{"k8s.namespace.name", "k8s.pod.name", "k8s.container.name", "k8s.node.name"}

// identifying attributes of a resource are on every series, too.
var identifying = []string{"service.name", "service.namespace", "service.instance.id"}

// translation is how Prometheus translates by default.
func translation() prometheusremotewrite.Settings {
	c := config.DefaultOTLPConfig
	c.PromoteResourceAttributes = promoted
	return prometheusremotewrite.Settings{
		AddMetricSuffixes: c.TranslationStrategy.ShouldAddSuffixes(), AllowUTF8: !c.TranslationStrategy.ShouldEscape(),
		PromoteResourceAttributes:            prometheusremotewrite.NewPromoteResourceAttributes(c),
		LookbackDelta:                        5 * time.Minute,
		LabelNameUnderscoreSanitization:      c.LabelNameUnderscoreSanitization,
		LabelNamePreserveMultipleUnderscores: c.LabelNamePreserveMultipleUnderscores,
	}
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
	sent := len(body)
	if encoding == "gzip" {
		body, err = gunzip(body, i.limits.DecompressedBytes, func() error { return q.grow(r.Context()) })
		if err != nil {
			return refuseBody(w, err, "the body cannot be decompressed: ")
		}
		sent += len(body)
	}
	if int64(len(body)) > i.limits.DecompressedBytes {
		return refuse(w, http.StatusRequestEntityTooLarge, resultTooLarge, fmt.Sprintf("the body has more than %d bytes when decompressed, which is the limit", i.limits.DecompressedBytes))
	}
	md, err := decodeOTLP(kind, body, q.memory(r.Context(), sent))
	if err != nil {
		return refuseBody(w, err, fmt.Sprintf("the body is no OTLP as %s: ", kind))
	}
	samples := samplesOf(md)
	if samples > i.limits.SeriesPerRequest {
		return refuse(w, http.StatusRequestEntityTooLarge, resultTooLarge, tooManySeries(i.limits.SeriesPerRequest).Error())
	}
	if wait := q.c.take(now, samples, i.limits.SamplesPerSecond, q.later()); wait > 0 {
		return q.overRate(w, wait)
	}
	q.fit(md)
	i.translate(r.Context(), q, md)
	if q.committed {
		i.after(q)
	}
	if q.abort != nil || q.failed != nil {
		return i.answer(w, q, http.StatusOK)
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

// gunzip gives up to one byte more than the limit. Before that is much it calls grow, whose
// error it gives.
func gunzip(body []byte, limit int64, grow func() error) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(z, min(limit+1, smallBytes)))
	if err != nil || len(raw) < smallBytes {
		return raw, err
	}
	if err := grow(); err != nil {
		return nil, err
	}
	rest, err := io.ReadAll(io.LimitReader(z, limit+1-smallBytes))
	return append(raw, rest...), err
}

// decodeOTLP reads a body, whose memory was counted before: fault.ErrTooLarge for one
// that takes too much.
func decodeOTLP(kind string, body []byte, memory memory) (pmetric.Metrics, error) {
	req := pmetricotlp.NewExportRequest()
	var err error
	if kind == "application/json" {
		if err = memory.weighJSON(body, otlpRequest); err == nil {
			err = req.UnmarshalJSON(body)
		}
	} else if err = memory.weigh(body, otlpRequest, "", 0); err == nil {
		err = req.UnmarshalProto(body)
	}
	return req.Metrics(), err
}

// point is a data point of any type.
type point interface {
	Timestamp() pcommon.Timestamp
	Attributes() pcommon.Map
}

// removePoints takes those data points out of a metric that are unfit.
func removePoints(m pmetric.Metric, unfit func(point) bool) {
	switch m.Type() {
	case pmetric.MetricTypeGauge:
		m.Gauge().DataPoints().RemoveIf(func(p pmetric.NumberDataPoint) bool { return unfit(p) })
	case pmetric.MetricTypeSum:
		m.Sum().DataPoints().RemoveIf(func(p pmetric.NumberDataPoint) bool { return unfit(p) })
	case pmetric.MetricTypeHistogram:
		m.Histogram().DataPoints().RemoveIf(func(p pmetric.HistogramDataPoint) bool { return unfit(p) })
	case pmetric.MetricTypeExponentialHistogram:
		m.ExponentialHistogram().DataPoints().RemoveIf(func(p pmetric.ExponentialHistogramDataPoint) bool { return unfit(p) })
	case pmetric.MetricTypeSummary:
		m.Summary().DataPoints().RemoveIf(func(p pmetric.SummaryDataPoint) bool { return unfit(p) })
	}
}

func eachMetric(of pmetric.ResourceMetrics, see func(pmetric.Metric)) {
	for _, scope := range of.ScopeMetrics().All() {
		for _, m := range scope.Metrics().All() {
			see(m)
		}
	}
}

// samplesOf is how many samples a request becomes, without what tells of its resources.
func samplesOf(md pmetric.Metrics) (n int) {
	for _, resource := range md.ResourceMetrics().All() {
		eachMetric(resource, func(m pmetric.Metric) {
			removePoints(m, func(p point) bool {
				n++
				switch p := p.(type) {
				case pmetric.HistogramDataPoint: // with a sum, a count, and buckets
					n += 2 + p.ExplicitBounds().Len()
				case pmetric.SummaryDataPoint:
					n += 1 + p.QuantileValues().Len()
				}
				return false
			})
		})
	}
	return n
}

// fit refuses data points that the translation would do harm with: it goes through all the
// time between the oldest and the newest one of a resource, writes what is common to them
// for each of them, and leaves a metric at the first point that it cannot translate.
func (q *request) fit(md pmetric.Metrics) {
	for _, resource := range md.ResourceMetrics().All() {
		var all verdict
		for _, name := range slices.Concat(promoted, identifying) {
			if v, ok := resource.Resource().Attributes().Get(name); ok && all.reason == "" {
				all = q.tooLong("attribute "+name+" of a resource", v)
			}
		}
		eachMetric(resource, func(m pmetric.Metric) {
			no := all
			if n := len(m.Name()) + len(m.Unit()); n > q.i.limits.LabelValueBytes {
				no = verdict{reasonLabels, func() string {
					return fmt.Sprintf("a metric whose name and unit have %d bytes, the limit is %d: %s", n, q.i.limits.LabelValueBytes, clip(m.Name(), 64))
				}}
			}
			removePoints(m, func(p point) bool {
				v := no
				if v.reason == "" {
					v = q.unfit(m, p)
				}
				if v.reason != "" {
					q.refuse(1, v.reason, v.text)
				}
				return v.reason != ""
			})
		})
	}
}

func (q *request) unfit(m pmetric.Metric, p point) verdict {
	if v := q.outside(int64(p.Timestamp()/pcommon.Timestamp(time.Millisecond)), func() string { return clip(m.Name(), 512) }); v.reason != "" {
		return v
	}
	if n := p.Attributes().Len(); n > q.i.limits.LabelsPerSeries {
		return verdict{reasonLabels, func() string {
			return fmt.Sprintf("%d attributes, the limit is %d: %s", n, q.i.limits.LabelsPerSeries, clip(m.Name(), 512))
		}}
	}
	for name, of := range p.Attributes().All() {
		if n := len(name); n > q.i.limits.LabelNameBytes {
			return verdict{reasonLabels, func() string {
				return fmt.Sprintf("an attribute name of %d bytes, the limit is %d: %s", n, q.i.limits.LabelNameBytes, clip(m.Name(), 512))
			}}
		}
		if nameless(name) {
			return verdict{reasonInvalid, func() string {
				return fmt.Sprintf("the attribute name %q becomes no label's: %s", name, clip(m.Name(), 512))
			}}
		}
		if v := q.tooLong("attribute "+name+" of "+clip(m.Name(), 512), of); v.reason != "" {
			return v
		}
	}
	exemplars := pmetric.NewExemplarSlice()
	switch p := p.(type) {
	case pmetric.NumberDataPoint:
		exemplars = p.Exemplars()
	case pmetric.HistogramDataPoint:
		exemplars = p.Exemplars()
	case pmetric.ExponentialHistogramDataPoint:
		if exemplars = p.Exemplars(); p.Scale() < histogram.ExponentialSchemaMin {
			return verdict{reasonInvalid, func() string {
				return fmt.Sprintf("an exponential histogram of scale %d, the least is %d: %s", p.Scale(), histogram.ExponentialSchemaMin, clip(m.Name(), 512))
			}}
		}
	}
	exemplars.RemoveIf(func(e pmetric.Exemplar) bool {
		empty := e.ValueType() == pmetric.ExemplarValueTypeEmpty
		if empty {
			q.c.refused[reasonExemplar].add(1)
		}
		return empty
	})
	return verdict{}
}

// nameless says whether the translation finds no label's name in an attribute's: it takes each
// character but ASCII's letters and digits for an underscore, and refuses two or more of them alone.
func nameless(name string) bool {
	return name == "" || utf8.RuneCountInString(name) > 1 && !strings.ContainsFunc(name, func(r rune) bool {
		return '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
	})
}

// tooLong refuses an attribute whose value is too long for a label.
func (q *request) tooLong(what string, v pcommon.Value) verdict {
	var n int
	switch v.Type() {
	case pcommon.ValueTypeStr:
		n = len(v.Str())
	case pcommon.ValueTypeBytes, pcommon.ValueTypeMap, pcommon.ValueTypeSlice:
		n = len(v.AsString())
	}
	if n <= q.i.limits.LabelValueBytes {
		return verdict{}
	}
	return verdict{reasonLabels, func() string {
		return fmt.Sprintf("%s has %d bytes, the limit is %d", what, n, q.i.limits.LabelValueBytes)
	}}
}

// translate stores metrics. Those that have no meaning here, such as deltas, are refused;
// how many samples they would have been is not known.
func (i *Ingester) translate(ctx context.Context, q *request, md pmetric.Metrics) {
	defer q.leave()
	a := &otlpAppender{i.newAppender(ctx, q)}
	_, err := prometheusremotewrite.NewPrometheusConverter(a).FromMetrics(ctx, md, translation())
	if q.abort != nil || q.failed != nil {
		if err := a.rollback(); err != nil {
			i.log.Warn("take a write back", "cluster", q.c.id, "err", err)
		}
		return
	}
	if err != nil {
		n, first := firstOf(err)
		q.refuse(n, reasonInvalid, func() string { return clip(first.Error(), 4096) })
	}
	// The rest is good, and the sender will not send it again.
	_ = a.commit() // it is on the request
}

// firstOf counts errors that were joined one by one, whose text together takes the square
// of their number to write, and gives the first.
func firstOf(err error) (n int, first error) {
	for n = 1; ; {
		joined, ok := err.(interface{ Unwrap() []error })
		if !ok {
			return n, err
		}
		all := joined.Unwrap()
		err, n = all[0], n+len(all)-1
	}
}

// otlpAppender is appender as Prometheus' translation wants it.
type otlpAppender struct{ *appender }

var _ storage.AppenderV2 = (*otlpAppender)(nil)

// Append takes a sample with its exemplars. An error takes the request back.
func (a *otlpAppender) Append(_ storage.SeriesRef, ls labels.Labels, _, t int64, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, opts storage.AOptions) (storage.SeriesRef, error) {
	if a.q.abort != nil || a.q.failed != nil {
		return 0, errors.Join(a.q.abort, a.q.failed)
	}
	a.pairs = a.pairs[:0]
	ls.Range(func(l labels.Label) {
		if len(a.pairs) < a.q.i.limits.LabelsPerSeries {
			a.pairs = append(a.pairs, l)
		}
	})
	float := h == nil && fh == nil
	s, no, err := a.series(ls.Len(), !float || !value.IsStaleNaN(v))
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

// Commit and Rollback are for whoever made it.
func (a *otlpAppender) Commit() error   { return a.commit() }
func (a *otlpAppender) Rollback() error { return a.rollback() }
