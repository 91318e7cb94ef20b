package logpush

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// The ways in, which are also their streams' names and senders.
const (
	wayLoki = "loki"
	wayOTLP = "otlp"
)

type metrics struct {
	requests *prometheus.CounterVec
	lines    *prometheus.CounterVec
	dropped  *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_logpush_requests_total", Help: "Requests by Loki's push API and OTLP, by way and result.",
		}, []string{"way", "result"}),
		lines: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_logpush_lines_total", Help: "Lines that were taken, by way.",
		}, []string{"way"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_logpush_lines_dropped_total", Help: "Lines that were not stored, or shortened (line_cut), by reason.",
		}, []string{"reason"}),
	}
	for _, way := range []string{wayLoki, wayOTLP} {
		m.lines.WithLabelValues(way)
		m.requests.WithLabelValues(way, "stored")
	}
	for _, reason := range []string{droppedLabels, droppedMetadata, droppedWrong, cutLine} {
		m.dropped.WithLabelValues(reason)
	}
	if reg == nil {
		return m, nil
	}
	return m, errors.Join(reg.Register(m.requests), reg.Register(m.lines), reg.Register(m.dropped))
}
