package aggregate

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type ownMetrics struct {
	bytes    *prometheus.GaugeVec // resolution
	covered  *prometheus.GaugeVec // resolution
	made     prometheus.Counter
	merged   prometheus.Counter
	stale    prometheus.Counter
	failures prometheus.Counter
	seconds  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *ownMetrics {
	f := promauto.With(reg)
	return &ownMetrics{
		bytes: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "crowsnest_aggregates_bytes", Help: "Space that aggregates take on disk.",
		}, []string{"resolution"}),
		covered: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "crowsnest_aggregates_covered_seconds", Help: "Time that aggregates are there of.",
		}, []string{"resolution"}),
		made: f.NewCounter(prometheus.CounterOpts{
			Name: "crowsnest_aggregates_made_total", Help: "Days whose samples were read to make aggregates.",
		}),
		merged: f.NewCounter(prometheus.CounterOpts{
			Name: "crowsnest_aggregates_merged_total", Help: "Parts that were made of several days.",
		}),
		stale: f.NewCounter(prometheus.CounterOpts{
			Name: "crowsnest_aggregates_stale_parts_total", Help: "Parts that were dropped because samples of their time came, or went, later.",
		}),
		failures: f.NewCounter(prometheus.CounterOpts{
			Name: "crowsnest_aggregates_failures_total", Help: "Attempts to make, merge or read aggregates that failed; charts are read from samples then.",
		}),
		seconds: f.NewCounter(prometheus.CounterOpts{
			Name: "crowsnest_aggregates_work_seconds_total", Help: "Time spent on making and merging aggregates.",
		}),
	}
}
