package logs

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	reg           prometheus.Registerer
	stored        prometheus.Counter
	batches       prometheus.Counter
	duplicates    prometheus.Counter
	events        prometheus.Counter
	readBacks     prometheus.Counter
	refused       prometheus.Counter
	conflicts     prometheus.Counter
	dropped       *prometheus.CounterVec
	cut           *prometheus.CounterVec
	commitSeconds prometheus.Histogram
	commitPasses  prometheus.Counter
	queries       *prometheus.CounterVec
	passes        prometheus.Counter
	all           []prometheus.Collector
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		reg:        reg,
		stored:     counter("crowsnest_logs_lines_stored_total", "Lines that were stored durably."),
		batches:    counter("crowsnest_logs_batches_stored_total", "Batches that were stored durably."),
		duplicates: counter("crowsnest_logs_batches_duplicate_total", "Batches that came again and were not stored a second time."),
		events:     counter("crowsnest_logs_events_duplicate_total", "Kubernetes events that came again, in another batch, and were not stored a second time."),
		readBacks:  counter("crowsnest_logs_read_backs_total", "Queries to find out whether a batch is stored already."),
		refused:    counter("crowsnest_logs_batches_refused_total", "Batches that were refused because too much waits to be committed."),
		conflicts:  counter("crowsnest_logs_batches_conflicting_total", "Batches that were refused because their containers had been taken further by another replica."),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_logs_lines_dropped_total", Help: "Lines of accepted batches that were not stored, by reason.",
		}, []string{"reason"}),
		cut: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_logs_lines_altered_total", Help: "Times that a part of a line was left out, cut or renamed, by reason.",
		}, []string{"reason"}),
		commitSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "crowsnest_logs_commit_duration_seconds", Help: "Time in which additions were stopped for a group commit.",
			Buckets: []float64{.01, .025, .05, .1, .2, .4, .8, 1.6, 3.2, 10},
		}),
		commitPasses: counter("crowsnest_logs_commit_passes_total", "Flushes that the commits needed."),
		queries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_logs_queries_total", Help: "Queries, by result.",
		}, []string{"result"}),
		passes: counter("crowsnest_logs_count_passes_total", "Passes over lines that policies' counts needed; many filters share one."),
	}
	for _, r := range dropReasons {
		m.dropped.WithLabelValues(r)
	}
	for _, r := range cutReasons {
		m.cut.WithLabelValues(r)
	}
	for _, r := range queryResults {
		m.queries.WithLabelValues(r)
	}
	m.all = []prometheus.Collector{m.stored, m.batches, m.duplicates, m.events, m.readBacks, m.refused, m.conflicts, m.dropped, m.cut, m.commitSeconds, m.commitPasses, m.queries, m.passes}
	return m, m.register(m.all...)
}

func (m *metrics) register(cs ...prometheus.Collector) error {
	if m.reg == nil {
		return nil
	}
	var errs []error
	for _, c := range cs {
		errs = append(errs, m.reg.Register(c))
	}
	return errors.Join(errs...)
}

// observe adds the figures that are read from the open store.
func (m *metrics) observe(s *Store) {
	gauge := func(name, help string, read func(Info) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			info, err := s.Info()
			if err != nil {
				return 0
			}
			return read(info)
		})
	}
	gauges := []prometheus.Collector{
		gauge("crowsnest_logs_read_only_ratio", "1 while writes are refused, else 0.", func(i Info) float64 {
			if i.ReadOnly != "" {
				return 1
			}
			return 0
		}),
	}
	if s.far == nil { // what an engine elsewhere has, it says itself
		gauges = append(gauges,
			gauge("crowsnest_logs_disk_bytes", "Size of the log store on disk.", func(i Info) float64 { return float64(i.Bytes) }),
			gauge("crowsnest_logs_rows", "Lines in the log store.", func(i Info) float64 { return float64(i.Rows) }))
	}
	if err := m.register(gauges...); err != nil {
		s.log.Warn("register metrics of the log store", "err", err)
	}
	m.all = append(m.all, gauges...)
}

// forget takes the metrics back, so that a store can be opened again.
func (m *metrics) forget() {
	if m.reg == nil {
		return
	}
	for _, c := range m.all {
		m.reg.Unregister(c)
	}
}
