package notify

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	attempts *prometheus.CounterVec
	took     prometheus.Histogram
	closed   *prometheus.CounterVec
	pending  prometheus.Gauge
	flying   prometheus.Gauge
	circuits prometheus.Gauge
	failures prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		attempts: f.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_notify_attempts_total", Help: "Attempts to send a notification, by channel and what came of them.",
		}, []string{"channel", "result"}),
		took: f.NewHistogram(prometheus.HistogramOpts{
			Name: "crowsnest_notify_attempt_duration_seconds", Help: "How long attempts took.", Buckets: []float64{.005, .02, .1, .5, 2, 10},
		}),
		closed: f.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_notify_notifications_closed_total", Help: "Notifications that are not tried any more, by their state.",
		}, []string{"state"}),
		pending: f.NewGauge(prometheus.GaugeOpts{
			Name: "crowsnest_notify_pending_targets", Help: "Targets with a notification that waits.",
		}),
		flying: f.NewGauge(prometheus.GaugeOpts{
			Name: "crowsnest_notify_attempts_in_flight", Help: "Attempts that are being made.",
		}),
		circuits: f.NewGauge(prometheus.GaugeOpts{
			Name: "crowsnest_notify_open_circuits", Help: "Targets that failed five times in a row, and are probed only.",
		}),
		failures: f.NewCounter(prometheus.CounterOpts{
			Name: "crowsnest_notify_store_failures_total", Help: "Reads and writes of the outbox that failed.",
		}),
	}
	for _, channel := range types {
		for _, o := range []outcome{delivered, retry, final} {
			m.attempts.WithLabelValues(channel, string(o))
		}
	}
	for _, s := range []string{"delivered", "dead", "skipped"} {
		m.closed.WithLabelValues(s)
	}
	return m
}
