package engine

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	rounds   *prometheus.CounterVec
	took     prometheus.Histogram
	delay    prometheus.Histogram
	slow     prometheus.Counter
	skipped  *prometheus.CounterVec
	judged   prometheus.Counter
	failures *prometheus.CounterVec
	firing   prometheus.Gauge
	changes  *prometheus.CounterVec
	bare     *prometheus.CounterVec
	trailing prometheus.Gauge
	left     prometheus.Counter
	jumps    prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		rounds: f.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_engine_rounds_total", Help: "Evaluations of all policies that one arrival concerns, by what arrived.",
		}, []string{"trigger"}),
		took: f.NewHistogram(prometheus.HistogramOpts{
			Name: "crowsnest_engine_round_duration_seconds", Help: "How long a round took, its commit included; those of nodes that are judged together are one.", Buckets: []float64{.001, .005, .02, .1, .5, 2, 10},
		}),
		delay: f.NewHistogram(prometheus.HistogramOpts{
			Name: "crowsnest_engine_arrival_to_commit_seconds", Help: "From the arrival of samples to the commit of the alerts and notifications that they made.", Buckets: []float64{.005, .02, .1, .5, 2, 10},
		}),
		slow: f.NewCounter(prometheus.CounterOpts{
			Name: "crowsnest_engine_slow_rounds_total", Help: "Rounds that took longer than a second; those of nodes that are judged together are one.",
		}),
		skipped: f.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_engine_rounds_skipped_total", Help: "Arrivals that were not evaluated, by reason: their data come late, or newer ones were waiting already.",
		}, []string{"reason"}),
		judged: f.NewCounter(prometheus.CounterOpts{
			Name: "crowsnest_engine_objects_judged_total", Help: "Judgements of an object by a policy.",
		}),
		failures: f.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_engine_failures_total", Help: "Reads of samples, and reads and writes of alerts, that failed.",
		}, []string{"reason"}),
		firing:   f.NewGauge(prometheus.GaugeOpts{Name: "crowsnest_engine_firing_alerts", Help: "Alerts that fire."}),
		trailing: f.NewGauge(prometheus.GaugeOpts{Name: "crowsnest_engine_senders_always_late", Help: "Senders whose newest data always come more than two minutes late, and are evaluated as of their own time."}),
		changes: f.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_engine_alert_changes_total", Help: "Alerts that began and ended.",
		}, []string{"change"}),
		left: f.NewCounter(prometheus.CounterOpts{
			Name: "crowsnest_engine_alerts_left_out_total", Help: "Alerts that did not begin since too many of their policy fire on the cluster already.",
		}),
		jumps: f.NewCounter(prometheus.CounterOpts{
			Name: "crowsnest_engine_clock_jumps_total", Help: "Times at which the wall clock was set by more than an interval.",
		}),
		bare: f.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_engine_alerts_without_evidence_total", Help: "Alerts that were told before their evidence was collected, by reason: it came late, or too many waited for it, so that none is collected.",
		}, []string{"reason"}),
	}
	for _, t := range []string{triggerInterval, triggerChange, triggerRollup, triggerOverdue, triggerLines} {
		m.rounds.WithLabelValues(t)
	}
	for _, r := range []string{"late", "overtaken", "order"} {
		m.skipped.WithLabelValues(r)
	}
	for _, r := range []string{"read", "store", "load", "lease"} {
		m.failures.WithLabelValues(r)
	}
	for _, r := range []string{"late", "busy"} {
		m.bare.WithLabelValues(r)
	}
	for _, c := range []string{"began", "ended"} {
		m.changes.WithLabelValues(c)
	}
	return m
}
