package inventory

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Results of a batch, as counted.
const (
	resultOK        = "ok"
	resultDuplicate = "duplicate"
	resultConflict  = "conflict"
	resultError     = "error"
)

type metrics struct {
	reg      prometheus.Registerer
	batches  *prometheus.CounterVec
	versions prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		reg: reg,
		batches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_inventory_batches_total", Help: "Batches of objects that came, by result.",
		}, []string{"result"}),
		versions: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "crowsnest_inventory_changes_total", Help: "Objects that were new, different or gone.",
		}),
	}
	for _, r := range []string{resultOK, resultDuplicate, resultConflict, resultError} {
		m.batches.WithLabelValues(r)
	}
	if reg == nil {
		return m, nil
	}
	return m, errors.Join(reg.Register(m.batches), reg.Register(m.versions))
}

// forget takes the metrics back, so that a store can be opened again.
func (m *metrics) forget() {
	if m.reg != nil {
		m.reg.Unregister(m.batches)
		m.reg.Unregister(m.versions)
	}
}
