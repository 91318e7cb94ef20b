package ingest

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	requests *prometheus.CounterVec
	bytes    *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_api_ingest_requests_total",
			Help: "Requests of collectors, by what they brought and what became of them. Metrics count here only when they were refused at the door.",
		}, []string{"what", "result"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_api_ingest_stored_bytes_total", Help: "Uncompressed bytes of bodies that were stored.",
		}, []string{"what"}),
	}
	for _, what := range []string{"logs", "inventory"} {
		m.bytes.WithLabelValues(what)
		for _, result := range []string{"stored", "malformed", "invalid", "too_large", "unsupported", "conflict", "limited", "unavailable"} {
			m.requests.WithLabelValues(what, result)
		}
	}
	return m, errors.Join(reg.Register(m.requests), reg.Register(m.bytes))
}
