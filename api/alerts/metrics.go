package alerts

import (
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/crowsnest-dev/crowsnest/alerting/custom"
	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/alerting/routing"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// Custom evaluates the metrics that users add to the catalogue; *custom.Metrics
// is one.
type Custom interface {
	// Changed makes what was written part of the catalogue.
	Changed()
	// Show fills the status.
	Show(o *custom.CustomMetric)
	// Sent says whether somebody sends series of that name.
	Sent(name string) (bool, error)
}

var _ Custom = (*custom.Metrics)(nil)

func (h *handlers) registerMetrics(api huma.API, write writer) {
	registerKind(api, h, write, kind[custom.CustomMetric]{
		kind: meta.KindMetric, path: "/metrics", prefix: "met_", one: "metric of your own", show: custom.Of,
		parse:  func(document []byte, _ routing.Known) (*custom.CustomMetric, error) { return custom.Parse(document) },
		status: func(o *custom.CustomMetric, _ time.Time, _ *routing.Set, _ []routing.Facts) { h.Custom.Show(o) },
		parts:  func(o *custom.CustomMetric) (*policy.Metadata, any) { return &o.Metadata, o.Spec },
	})
}

// roomForMetric refuses a new metric beyond the bound, and one whose name somebody
// sends already.
func (h *handlers) roomForMetric(tx *meta.Tx, o any) error {
	m, ok := o.(*custom.CustomMetric)
	if !ok {
		return nil
	}
	rows, err := tx.Resources(meta.KindMetric)
	if err != nil {
		return err
	}
	if len(rows) >= custom.MaxMetrics {
		return fault.Fields{fault.Wrong("metadata.name", fault.Say(fault.MetricsFull, len(rows)), m.Metadata.Name)}
	}
	name := custom.SeriesName(m.Metadata.Name)
	sent, err := h.Custom.Sent(name)
	if err == nil && sent {
		err = fault.Fields{fault.Wrong("metadata.name", fault.Say(fault.MetricSent, name), m.Metadata.Name)}
	}
	return err
}
