package logs

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	read, sent, malformed prometheus.Counter
	joined                prometheus.Counter
	dropped               *prometheus.CounterVec
	batches               *prometheus.CounterVec
	positions             *prometheus.CounterVec
	masked                *prometheus.CounterVec
	cut, kept, late       prometheus.Counter
	open                  prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		read:      prometheus.NewCounter(prometheus.CounterOpts{Name: "crowsnest_logs_read_lines_total", Help: "Lines read from containers."}),
		sent:      prometheus.NewCounter(prometheus.CounterOpts{Name: "crowsnest_logs_sent_lines_total", Help: "Lines that the server acknowledged."}),
		malformed: prometheus.NewCounter(prometheus.CounterOpts{Name: "crowsnest_logs_malformed_lines_total", Help: "Lines in no known format, sent as they are."}),
		joined:    prometheus.NewCounter(prometheus.CounterOpts{Name: "crowsnest_logs_joined_lines_total", Help: "Lines that were joined to the record before them."}),
		cut:       prometheus.NewCounter(prometheus.CounterOpts{Name: "crowsnest_logs_cut_records_total", Help: "Records that were cut to the limit of their size."}),
		kept:      prometheus.NewCounter(prometheus.CounterOpts{Name: "crowsnest_logs_kept_files_total", Help: "Files that rotation took before the server had their lines, and that were kept."}),
		late:      prometheus.NewCounter(prometheus.CounterOpts{Name: "crowsnest_logs_late_lines_total", Help: "Lines that came after their node was said to be complete through their time: policies may have counted without them."}),
		open:      prometheus.NewGauge(prometheus.GaugeOpts{Name: "crowsnest_logs_open_lines", Help: "Lines of which only a part has come for 15 s or longer, without which their node is said to be complete."}),
		dropped:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "crowsnest_logs_dropped_lines_total", Help: "Lines that were not sent, by reason."}, []string{"reason"}),
		batches:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "crowsnest_logs_batches_total", Help: "Batches by result."}, []string{"result"}),
		positions: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "crowsnest_logs_position_writes_total", Help: "Writes of the positions file by result."}, []string{"result"}),
	}
	m.masked = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "crowsnest_logs_masked_total", Help: "Secrets that were masked in lines, by rule."}, []string{"rule"})
	for _, r := range maskRules {
		m.masked.WithLabelValues(r)
	}
	for _, r := range []string{DropRotated, DropAway, DropRefused, DropGone, DropPod, DropRate, DropFull, DropOld} {
		m.dropped.WithLabelValues(r)
	}
	for _, r := range []string{"sent", "resent", "refused", "conflict"} {
		m.batches.WithLabelValues(r)
	}
	for _, r := range []string{"ok", "error"} {
		m.positions.WithLabelValues(r)
	}
	if reg != nil {
		reg.MustRegister(m.read, m.sent, m.malformed, m.joined, m.dropped, m.batches, m.positions, m.masked, m.cut, m.kept, m.late, m.open)
	}
	return m
}
