package rollup

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Reasons why an interval was dropped, or a sample not summed.
const (
	reasonEmpty      = "empty"       // nothing to sum arrived in time
	reasonTooOld     = "too_old"     // the store takes nothing that old any more
	reasonTooMany    = "too_many"    // more intervals open than the bound
	reasonDeleted    = "deleted"     // its cluster was deleted
	reasonOffGrid    = "off_grid"    // its time is no point of the cluster's interval
	reasonNoInterval = "no_interval" // no sender of the cluster says by our headers which interval it has
	reasonLate       = "late"        // its interval was written already, or it came again after that
	reasonNumber     = "number"      // not a finite number of sensible size
)

type ownMetrics struct {
	intervals *prometheus.CounterVec // outcome
	dropped   *prometheus.CounterVec // reason
	skipped   *prometheus.CounterVec // reason
	samples   prometheus.Counter
	failures  prometheus.Counter
	rebuilt   prometheus.Counter
	open      prometheus.GaugeFunc
	writeTime prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, open func() float64) *ownMetrics {
	f := promauto.With(reg)
	m := &ownMetrics{
		intervals: f.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_rollup_intervals_total", Help: "Intervals that were written: complete, by the deadline with at least the coverage wanted, or at the maximum age with what was there.",
		}, []string{"outcome"}),
		dropped: f.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_rollup_dropped_intervals_total", Help: "Intervals that were given up without a rollup.",
		}, []string{"reason"}),
		skipped: f.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_rollup_skipped_samples_total", Help: "Samples of summed metrics that no rollup counts.",
		}, []string{"reason"}),
		samples: f.NewCounter(prometheus.CounterOpts{
			Name: "crowsnest_rollup_written_samples_total", Help: "Rollup samples written.",
		}),
		failures: f.NewCounter(prometheus.CounterOpts{
			Name: "crowsnest_rollup_write_failures_total", Help: "Writes of an interval that failed and are tried again.",
		}),
		rebuilt: f.NewCounter(prometheus.CounterOpts{
			Name: "crowsnest_rollup_rebuilt_intervals_total", Help: "Intervals summed from the store and not from passing samples: what was open at a start, or began before it was watched.",
		}),
		open: f.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "crowsnest_rollup_open_intervals", Help: "Intervals that wait for senders.",
		}, open),
		writeTime: f.NewHistogram(prometheus.HistogramOpts{
			Name: "crowsnest_rollup_write_seconds", Help: "Time to sum and write what was due of one cluster.",
			Buckets: []float64{.001, .005, .02, .1, .5, 2, 10},
		}),
	}
	for _, o := range []string{outcomeComplete, outcomeDeadline, outcomeAged} {
		m.intervals.WithLabelValues(o)
	}
	for _, r := range []string{reasonEmpty, reasonTooOld, reasonTooMany, reasonDeleted} {
		m.dropped.WithLabelValues(r)
	}
	for _, r := range []string{reasonOffGrid, reasonNoInterval, reasonLate, reasonNumber} {
		m.skipped.WithLabelValues(r)
	}
	return m
}
