package remote

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Results of requests.
const (
	resultOK          = "ok"
	resultRefused     = "refused"     // by the engine: the query may be to blame
	resultUnavailable = "unavailable" // may succeed later
)

type metrics struct {
	reg             prometheus.Registerer
	writes, queries *prometheus.CounterVec
	writeSeconds    prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		reg: reg,
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_logs_remote_writes_total", Help: "Requests to write lines to the remote log engine, by result.",
		}, []string{"result"}),
		queries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_logs_remote_queries_total", Help: "Questions to the remote log engine, by result.",
		}, []string{"result"}),
		writeSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "crowsnest_logs_remote_write_seconds", Help: "Time of a write to the remote log engine.", Buckets: prometheus.ExponentialBuckets(0.005, 2, 12),
		}),
	}
	for _, r := range []string{resultOK, resultUnavailable} {
		m.writes.WithLabelValues(r)
		m.queries.WithLabelValues(r)
	}
	m.queries.WithLabelValues(resultRefused)
	if reg == nil {
		return m, nil
	}
	return m, errors.Join(reg.Register(m.writes), reg.Register(m.queries), reg.Register(m.writeSeconds))
}

func (m *metrics) wrote(err error, took time.Duration) {
	m.writeSeconds.Observe(took.Seconds())
	m.writes.WithLabelValues(resultOf(err)).Inc()
}

func (m *metrics) asked(err error) { m.queries.WithLabelValues(resultOf(err)).Inc() }

func resultOf(err error) string {
	var refusal *Refusal
	switch {
	case err == nil:
		return resultOK
	case errors.As(err, &refusal):
		return resultRefused
	}
	return resultUnavailable
}

// forget takes the metrics back, so that a client can be made again.
func (m *metrics) forget() {
	if m.reg == nil {
		return
	}
	for _, c := range []prometheus.Collector{m.writes, m.queries, m.writeSeconds} {
		m.reg.Unregister(c)
	}
}
