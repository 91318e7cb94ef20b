package logs

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Reasons for which a query was refused or ended.
const (
	refusedQueries = "too_many_queries"
	refusedTails   = "too_many_tails"
	refusedTime    = "too_slow"
	refusedSize    = "too_large"
	refusedLoads   = "too_many_downloads"
)

type metrics struct {
	refused *prometheus.CounterVec
	active  prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_logsql_queries_refused_total", Help: "LogsQL requests that were refused or ended because of a bound, by reason.",
		}, []string{"reason"}),
		active: prometheus.NewGauge(prometheus.GaugeOpts{Name: "crowsnest_logsql_queries_active", Help: "LogsQL queries that run now, live tails apart."}),
	}
	for _, r := range []string{refusedQueries, refusedTails, refusedTime, refusedSize, refusedLoads} {
		m.refused.WithLabelValues(r)
	}
	if reg == nil {
		return m, nil
	}
	return m, errors.Join(reg.Register(m.refused), reg.Register(m.active))
}
