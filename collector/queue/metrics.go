package queue

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	dropped *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, q *Queue) *metrics {
	m := &metrics{dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "crowsnest_queue_dropped_samples_total", Help: "Samples that were never acknowledged and are given up, by reason.",
	}, []string{"reason"})}
	for _, r := range Reasons {
		m.dropped.WithLabelValues(r)
	}
	if reg == nil {
		return m
	}
	reg.MustRegister(m.dropped,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "crowsnest_queue_batches", Help: "Batches on disk that wait to be acknowledged."},
			func() float64 { n, _, _, _ := q.Stats(); return float64(n) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "crowsnest_queue_bytes", Help: "Bytes on disk that wait to be acknowledged."},
			func() float64 { _, n, _, _ := q.Stats(); return float64(n) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "crowsnest_queue_oldest_age_seconds", Help: "Age of the oldest sample that waits; 0 when none does."},
			func() float64 {
				_, _, oldest, _ := q.Stats()
				if oldest.IsZero() {
					return 0
				}
				return q.now().Sub(oldest).Seconds()
			}))
	return m
}
