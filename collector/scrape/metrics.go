package scrape

import "github.com/prometheus/client_golang/prometheus"

// Reasons for which samples of a scrape that succeeded are dropped.
const (
	droppedBudget    = "series_budget"    // beyond Options.Series
	droppedReserved  = "reserved_name"    // a name of the catalogue
	droppedHistogram = "native_histogram" // not carried; its classic buckets are
	droppedSink      = "seal"             // they could not be sealed
)

const familyOther = "other" // a relabeling took the family away

type metrics struct {
	families map[string]bool
	targets  *prometheus.GaugeVec
	series   *prometheus.GaugeVec
	samples  *prometheus.CounterVec
	failures *prometheus.CounterVec
	dropped  *prometheus.CounterVec
	refused  prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer, families []string) *metrics {
	m := &metrics{
		families: map[string]bool{},
		targets: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "crowsnest_scrape_targets", Help: "Targets, by family and whether the last scrape succeeded.",
		}, []string{"family", "state"}),
		series: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "crowsnest_scrape_series", Help: "Active series of targets, by family: what a family costs.",
		}, []string{"family"}),
		samples: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_scrape_samples_total", Help: "Samples that were scraped and handed on, by family.",
		}, []string{"family"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_scrape_failures_total", Help: "Scrapes that failed, by family and reason.",
		}, []string{"family", "reason"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_scrape_dropped_samples_total", Help: "Samples of scrapes that succeeded that were dropped, by reason.",
		}, []string{"reason"}),
		refused: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "crowsnest_scrape_refused", Help: "Monitors, endpoints and jobs that were asked for and are not scraped; /targets says why.",
		}),
	}
	for _, f := range append([]string{familyOther}, families...) {
		m.families[f] = true
		m.series.WithLabelValues(f)
		m.samples.WithLabelValues(f)
		for _, r := range failures {
			m.failures.WithLabelValues(f, r)
		}
	}
	for _, r := range []string{droppedBudget, droppedReserved, droppedHistogram, droppedSink} {
		m.dropped.WithLabelValues(r)
	}
	if reg != nil {
		reg.MustRegister(m.targets, m.series, m.samples, m.failures, m.dropped, m.refused)
	}
	return m
}
