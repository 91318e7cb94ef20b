package push

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	attempts *prometheus.CounterVec
	samples  *prometheus.CounterVec
	seconds  prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_push_attempts_total", Help: "Requests with samples that were sent, by result.",
		}, []string{"result"}),
		samples: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_push_samples_total", Help: "Samples that the server acknowledged, by whether they had waited as backlog.",
		}, []string{"backlog"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "crowsnest_push_attempt_duration_seconds", Help: "How long requests with samples took.",
			Buckets: []float64{.005, .02, .1, .5, 2, 10},
		}),
	}
	for _, r := range []string{"ok", "refused", "failed", "throttled"} {
		m.attempts.WithLabelValues(r)
	}
	m.samples.WithLabelValues("true")
	m.samples.WithLabelValues("false")
	if reg != nil {
		reg.MustRegister(m.attempts, m.samples, m.seconds)
	}
	return m
}
