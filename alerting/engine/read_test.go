package engine

import (
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	tsdb "github.com/crowsnest-dev/crowsnest/storage/metrics"
)

// What the samples of a round cost to read: ten minutes of two metrics of 30,000 pods, of
// which some came late an hour ago, and an hour of one of a workload.
func BenchmarkRead(b *testing.B) {
	const pods, minutes = 30_000, 120
	db, err := tsdb.Open(tsdb.Options{Dir: b.TempDir(), MinFreeBytes: 1})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	series := []labels.Labels{labels.FromStrings(labels.MetricName, catalogue.WorkloadCPU, "cluster", "prod-1", "namespace", "shop-0", "workload_type", "deployment", "workload", "cart")}
	for i := range pods {
		for _, name := range []string{catalogue.PodCPU, catalogue.PodMem} {
			series = append(series, labels.FromStrings(labels.MetricName, name, "cluster", "prod-1", "namespace", "shop-"+strconv.Itoa(i%50), "pod", "cart-"+strconv.Itoa(i), "node", "node-"+strconv.Itoa(i/30), "workload_type", "deployment", "workload", "cart"))
		}
	}
	write := func(minute int, v float64) {
		app := db.Appender(b.Context())
		for _, ls := range series {
			if _, err := app.Append(0, ls, epoch.Add(time.Duration(minute)*time.Minute).UnixMilli(), v); err != nil {
				b.Fatal(err)
			}
		}
		if err := app.Commit(); err != nil {
			b.Fatal(err)
		}
	}
	const late = minutes - 55
	for minute := range minutes {
		if minute != late {
			write(minute, float64(minute))
		}
	}
	write(late, late)
	w := newWant()
	w.metrics[catalogue.PodCPU], w.metrics[catalogue.PodMem], w.metrics[catalogue.WorkloadCPU] = 10*time.Minute, 10*time.Minute, time.Hour
	m := newMemory(1 << 30)
	b.ReportAllocs()
	for b.Loop() {
		m.begin(epoch)
		d, err := (reader{queryable: db, cluster: "prod-1", memory: m}).read(b.Context(), epoch.Add((minutes-1)*time.Minute), w)
		if err != nil || d.metrics[catalogue.PodCPU].len() != pods || d.metrics[catalogue.WorkloadCPU].len() != 1 {
			b.Fatal(d.metrics[catalogue.PodCPU].len(), d.metrics[catalogue.WorkloadCPU].len(), err)
		}
		m.release()
	}
}
