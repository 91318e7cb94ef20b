package remote

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Results of requests.
const (
	resultOK          = "ok"
	resultRefused     = "refused"     // for good: the engine does not take what was in it
	resultUnavailable = "unavailable" // may succeed later
)

type ownMetrics struct {
	writes, queries *prometheus.CounterVec
	samples         *prometheus.CounterVec
	writeSeconds    prometheus.Histogram
	settling        prometheus.Gauge
	histograms      prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *ownMetrics {
	f := promauto.With(reg)
	m := &ownMetrics{
		writes: f.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_remote_writes_total", Help: "Requests to write samples to the remote engine.",
		}, []string{"result"}),
		queries: f.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_remote_queries_total", Help: "Questions to the remote engine.",
		}, []string{"result"}),
		samples: f.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_remote_samples_total", Help: "Samples sent to the remote engine, by what came of their request. Of a refused request the engine may have kept some.",
		}, []string{"result"}),
		writeSeconds: f.NewHistogram(prometheus.HistogramOpts{
			Name: "crowsnest_remote_write_seconds", Help: "Time of a write to the remote engine.", Buckets: prometheus.ExponentialBuckets(0.005, 2, 12),
		}),
		settling: f.NewGauge(prometheus.GaugeOpts{
			Name: "crowsnest_remote_settling_samples", Help: "Samples held in memory until the remote engine shows them.",
		}),
		histograms: f.NewCounter(prometheus.CounterOpts{
			Name: "crowsnest_remote_histograms_left_out_total", Help: "Native histograms in answers of the remote engine that could not be read back.",
		}),
	}
	for _, r := range []string{resultOK, resultRefused, resultUnavailable} {
		m.writes.WithLabelValues(r)
		m.queries.WithLabelValues(r)
		m.samples.WithLabelValues(r)
	}
	return m
}
