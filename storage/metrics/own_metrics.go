package metrics

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type ownMetrics struct {
	readOnly              prometheus.Gauge
	free                  prometheus.Gauge
	outOfOrderLog         prometheus.Gauge
	outOfOrderCompactions prometheus.Counter
	staleSeries           prometheus.Counter
	staleSeconds          prometheus.Counter
	importedBlocks        prometheus.Counter
	importedSamples       prometheus.Counter
	quarantined           prometheus.Gauge
	cutOff                prometheus.Counter
	quarantineDropped     prometheus.Counter
	toRewrite             prometheus.Gauge
	full                  prometheus.Gauge
}

// newMetrics registers on reg; nil keeps them to itself.
func newMetrics(reg prometheus.Registerer) *ownMetrics {
	f := promauto.With(reg)
	return &ownMetrics{
		readOnly: f.NewGauge(prometheus.GaugeOpts{
			Name: "crowsnest_metrics_read_only_state", Help: "1 while the store takes no samples: too little space, or a folder that cannot be written.",
		}),
		free: f.NewGauge(prometheus.GaugeOpts{
			Name: "crowsnest_metrics_free_bytes", Help: "Free space of the store's file system.",
		}),
		outOfOrderLog: f.NewGauge(prometheus.GaugeOpts{
			Name: "crowsnest_metrics_out_of_order_log_bytes", Help: "Size of the log of out-of-order samples.",
		}),
		outOfOrderCompactions: f.NewCounter(prometheus.CounterOpts{
			Name: "crowsnest_metrics_out_of_order_compactions_total", Help: "Times that the out-of-order log was turned into blocks for its size.",
		}),
		staleSeries: f.NewCounter(prometheus.CounterOpts{
			Name: "crowsnest_metrics_stale_series_total", Help: "Series that had ended and left the memory for a block before the others.",
		}),
		staleSeconds: f.NewCounter(prometheus.CounterOpts{
			Name: "crowsnest_metrics_stale_seconds_total", Help: "Time spent on writing series that had ended to blocks before the others.",
		}),
		toRewrite: f.NewGauge(prometheus.GaugeOpts{
			Name: "crowsnest_metrics_rewrite_blocks", Help: "Blocks that still hold samples of deleted clusters, which are hidden.",
		}),
		full: f.NewGauge(prometheus.GaugeOpts{
			Name: "crowsnest_metrics_full_seconds", Help: "Until the store's file system is full, by the samples of the last day; +Inf for never, NaN while unknown.",
		}),
		quarantined: f.NewGauge(prometheus.GaugeOpts{
			Name: "crowsnest_metrics_quarantined_items", Help: "Blocks, and openings of a damaged log, in the quarantine: their data is missing from answers.",
		}),
		cutOff: f.NewCounter(prometheus.CounterOpts{
			Name: "crowsnest_metrics_cut_off_writes_total", Help: "Starts that found the end of the log cut off within a write that was not acknowledged.",
		}),
		quarantineDropped: f.NewCounter(prometheus.CounterOpts{
			Name: "crowsnest_metrics_quarantine_dropped_total", Help: "Old logs that were removed from the quarantine, since it held too many.",
		}),
		importedBlocks: f.NewCounter(prometheus.CounterOpts{
			Name: "crowsnest_metrics_imported_blocks_total", Help: "Finished blocks that were taken over.",
		}),
		importedSamples: f.NewCounter(prometheus.CounterOpts{
			Name: "crowsnest_metrics_imported_samples_total", Help: "Samples of imported blocks that were appended, because they reach into the time of the head.",
		}),
	}
}
