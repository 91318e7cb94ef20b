package ingest

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Reasons why a sample was not stored.
const (
	reasonFuture        = "future"       // further ahead of the server than the limit
	reasonTooOld        = "too_old"      // behind the out-of-order window
	reasonLabels        = "labels"       // too many labels, or too long ones
	reasonReserved      = "reserved"     // a name that only the server writes
	reasonSeriesLimit   = "series_limit" // the cluster's active series
	reasonNamespace     = "namespace_series_limit"
	reasonWorkload      = "workload_series_limit"
	reasonNamespaceRate = "namespace_samples_limit"
	reasonWorkloadRate  = "workload_samples_limit"
	reasonInvalid       = "invalid"  // labels or histogram that mean nothing
	reasonConflict      = "conflict" // the newest time of the series with another value; the first stays, and the sender is not told
	reasonExemplar      = "exemplar" // out of order, or otherwise refused
)

var sampleReasons = []string{reasonFuture, reasonTooOld, reasonLabels, reasonReserved, reasonSeriesLimit, reasonNamespace, reasonWorkload, reasonNamespaceRate, reasonWorkloadRate, reasonInvalid, reasonConflict, reasonExemplar}

// Reasons why a request was told to come again, nothing of it stored.
const (
	throttledBusy    = "busy"    // as many requests as there are places
	throttledBacklog = "backlog" // as many of backlog
	throttledRate    = "rate"    // the cluster's samples per second
	throttledUpload  = "upload"  // a collector's, whose body did not come in time
	throttledLarge   = "large"   // as many that take much memory
)

var throttleReasons = []string{throttledBusy, throttledBacklog, throttledRate, throttledUpload, throttledLarge}

// Results of a request.
const (
	resultStored      = "stored"
	resultPartial     = "partial"     // 400, the rest is stored
	resultMalformed   = "malformed"   // 400, 405, 415
	resultTooLarge    = "too_large"   // 413
	resultLimited     = "limited"     // 429, 408
	resultUnavailable = "unavailable" // 503, 500
)

var results = []string{resultStored, resultPartial, resultMalformed, resultTooLarge, resultLimited, resultUnavailable}

type ownMetrics struct {
	requests   *prometheus.CounterVec // result
	samples    *prometheus.CounterVec // cluster
	unreported *prometheus.CounterVec // cluster
	wrongClock *prometheus.CounterVec // cluster
	refused    *prometheus.CounterVec // cluster, reason
	throttled  *prometheus.CounterVec // cluster, reason
	bytes      *prometheus.CounterVec // cluster
	active     *prometheus.GaugeVec   // cluster
	created    *prometheus.CounterVec // cluster
	seconds    prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *ownMetrics {
	f := promauto.With(reg)
	m := &ownMetrics{
		requests: f.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_ingest_requests_total", Help: "Remote write requests.",
		}, []string{"result"}),
		samples: f.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_ingest_samples_total", Help: "Samples and histograms stored.",
		}, []string{"cluster"}),
		wrongClock: f.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_ingest_wrong_clock_samples_total",
			Help: "Samples stored that a collector stamped before it could hold its clock against the server's, which was then found wrong.",
		}, []string{"cluster"}),
		unreported: f.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_ingest_unreported_samples_total",
			Help: "Samples stored that rollups sum, but whose sender does not say by our headers when an interval is complete: no rollup waits for them.",
		}, []string{"cluster"}),
		throttled: f.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_ingest_throttled_requests_total", Help: "Requests that were told to come again, nothing of them stored.",
		}, []string{"cluster", "reason"}),
		created: f.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_ingest_new_series_total", Help: "Series that were not active before: churn.",
		}, []string{"cluster"}),
		refused: f.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_ingest_refused_samples_total", Help: "Samples, histograms and exemplars not stored. Reason conflict are second values for the newest time of a series; those for an older time are not told from what is stored, and not counted.",
		}, []string{"cluster", "reason"}),
		bytes: f.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_ingest_received_bytes_total", Help: "Bytes of bodies as sent.",
		}, []string{"cluster"}),
		active: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "crowsnest_ingest_active_series", Help: "Series with a sample in the last 30 min and no stale marker since.",
		}, []string{"cluster"}),
		seconds: f.NewHistogram(prometheus.HistogramOpts{
			Name: "crowsnest_ingest_request_seconds", Help: "Time to store a request.",
			Buckets: []float64{.001, .005, .02, .1, .5, 2, 10},
		}),
	}
	for _, r := range results {
		m.requests.WithLabelValues(r)
	}
	return m
}
