package history

import "github.com/prometheus/client_golang/prometheus"

type ownMetrics struct {
	samples  prometheus.Counter
	blocks   prometheus.Counter
	sums     prometheus.Counter
	dropped  *prometheus.CounterVec
	failures prometheus.Counter
}

// Reasons for which a logged sample is in no block.
const (
	dropTwice   = "twice"   // the same series has one at that time already
	dropDamaged = "damaged" // what follows in a damaged log; its value counts places, not samples
)

func newMetrics(reg prometheus.Registerer, waiting func() int64) *ownMetrics {
	m := &ownMetrics{
		samples: prometheus.NewCounter(prometheus.CounterOpts{Name: "crowsnest_history_samples_total", Help: "Samples of the past that were logged, to become blocks."}),
		blocks:  prometheus.NewCounter(prometheus.CounterOpts{Name: "crowsnest_history_blocks_total", Help: "Blocks that were made of samples of the past."}),
		sums:    prometheus.NewCounter(prometheus.CounterOpts{Name: "crowsnest_history_rollup_samples_total", Help: "Samples of sums that were made of samples of the past."}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "crowsnest_history_dropped_total", Help: "What was logged and is in no block, by reason."}, []string{"reason"}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "crowsnest_history_failures_total", Help: "Attempts to make blocks that failed; they are repeated.",
		}),
	}
	for _, r := range []string{dropTwice, dropDamaged} {
		m.dropped.WithLabelValues(r)
	}
	if reg != nil {
		reg.MustRegister(m.samples, m.blocks, m.sums, m.dropped, m.failures, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "crowsnest_history_waiting_bytes", Help: "Logged samples of the past that are no blocks yet.",
		}, func() float64 { return float64(waiting()) }))
	}
	return m
}
