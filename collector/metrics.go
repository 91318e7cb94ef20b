package collector

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/crowsnest-dev/crowsnest/collector/compute"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

type metrics struct {
	intervals prometheus.Counter
	samples   prometheus.Counter
	compute   prometheus.Histogram
	reads     *prometheus.CounterVec
	failures  *prometheus.CounterVec
	blind     prometheus.Gauge
	changes   prometheus.Counter
	merged    prometheus.Counter
	mergedWas int
	misfits   *prometheus.CounterVec
	misfitWas map[string]int
}

func newMetrics(reg prometheus.Registerer, clock *serverClock) *metrics {
	m := &metrics{
		intervals: prometheus.NewCounter(prometheus.CounterOpts{Name: "crowsnest_collector_intervals_total", Help: "Intervals that were measured."}),
		samples:   prometheus.NewCounter(prometheus.CounterOpts{Name: "crowsnest_collector_samples_total", Help: "Samples that were computed on the grid."}),
		compute: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "crowsnest_collector_compute_duration_seconds", Help: "How long computing an interval took.", Buckets: []float64{.001, .005, .02, .1, .5, 2},
		}),
		reads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_collector_reads_total", Help: "Attempts to read a source of a node, by result.",
		}, []string{"source", "result"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_collector_read_failures_total", Help: "Reads of a source of a node that failed or told a part only, by reason.",
		}, []string{"source", "reason"}),
		blind: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "crowsnest_collector_blind_containers", Help: "Running containers that the best source of their node did not measure in the last interval.",
		}),
		changes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "crowsnest_collector_change_samples_total", Help: "Samples that were sent between two grid points, because a state changed.",
		}),
		merged: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "crowsnest_collector_merged_changes_total", Help: "Changes of objects that change too often, told as one with a later change.",
		}),
		misfits: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_collector_misfits_total", Help: "Readings and objects that do not fit together, and are left out where they do not, by reason.",
		}, []string{"reason"}),
		misfitWas: map[string]int{},
	}
	m.misfits.WithLabelValues(ownerLoop)
	for _, reason := range compute.Misfits {
		m.misfits.WithLabelValues(string(reason))
	}
	if reg != nil {
		reg.MustRegister(m.intervals, m.samples, m.compute, m.reads, m.failures, m.blind, m.changes, m.merged, m.misfits,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "crowsnest_collector_clock_offset_seconds", Help: "By how much this machine's clock is ahead of the server's; 0 until the server answered.",
			}, func() float64 { d, _ := clock.offset(); return d.Seconds() }))
	}
	return m
}

// reasonOf gives one word for why a read failed.
func reasonOf(err error) string {
	for _, r := range []struct {
		kind error
		word string
	}{
		{fault.ErrTooLarge, "too_large"}, {fault.ErrMalformed, "malformed"}, {fault.ErrForbidden, "forbidden"}, {fault.ErrUnauthenticated, "unauthenticated"},
		{context.DeadlineExceeded, "timeout"}, {fault.ErrNotFound, "not_found"}, {fault.ErrUnavailable, "unavailable"},
	} {
		if errors.Is(err, r.kind) {
			return r.word
		}
	}
	return "other"
}

// held takes how many changes were merged since the start.
func (m *metrics) held(n int) {
	m.merged.Add(float64(n - m.mergedWas))
	m.mergedWas = n
}

// ownerLoop is the misfit of objects that own each other.
const ownerLoop = "owner_loop"

// misfit takes how often something did not fit in one way since the start.
func (m *metrics) misfit(reason string, n int) {
	m.misfits.WithLabelValues(reason).Add(float64(n - m.misfitWas[reason]))
	m.misfitWas[reason] = n
}

func (m *metrics) interval(samples int, took time.Duration, coverage []compute.Coverage) {
	m.intervals.Inc()
	m.samples.Add(float64(samples))
	m.compute.Observe(took.Seconds())
	blind := map[string]int{}
	for _, c := range coverage {
		result := "ok"
		if !c.Up {
			result = "failed"
			m.failures.WithLabelValues(string(c.Source), reasonOf(c.Err)).Inc()
		}
		m.reads.WithLabelValues(string(c.Source), result).Inc()
		if c.Expected == 0 {
			continue
		}
		missing := c.Expected - c.Measured
		if old, seen := blind[c.Node]; !seen || missing < old {
			blind[c.Node] = missing
		}
	}
	sum := 0
	for _, n := range blind {
		sum += n
	}
	m.blind.Set(float64(sum))
}
