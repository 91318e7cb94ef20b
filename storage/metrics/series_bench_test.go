package metrics

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
)

// BenchmarkSeriesThatComeBack has series begin anew by references that the head has let go, as a
// site's do in the midst of its backlog after each block of late samples. Each is logged by itself,
// before anybody can use it: that is a quarter of what it costs, the rest being the head's.
func BenchmarkSeriesThatComeBack(b *testing.B) {
	const series = 100_000
	sets := make([]labels.Labels, series)
	for n := range sets {
		sets[n] = labels.FromStrings(labels.MetricName, "x", "n", strconv.Itoa(n))
	}
	refs := make([]storage.SeriesRef, series)
	db := open(b, Options{CheckEvery: time.Hour, Now: func() time.Time { return t0 }})
	<-db.settled
	put(b, db, labels.FromStrings(labels.MetricName, "live"), t0, 1)
	at := t0.Add(-20 * time.Hour)
	send := func() {
		for from := 0; from < series; from += 2000 { // of a request
			app := db.Appender(context.Background())
			for n := from; n < from+2000; n++ {
				ref, err := app.Append(refs[n], sets[n], at.UnixMilli(), 1)
				if err != nil {
					b.Fatal(err)
				}
				refs[n] = ref
			}
			if err := app.Commit(); err != nil {
				b.Fatal(err)
			}
		}
		at = at.Add(time.Second)
	}
	send()
	for _, c := range []struct {
		name string
		back bool
	}{{"come back", true}, {"stay", false}} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				if c.back {
					b.StopTimer()
					if err := db.compactLate(b.Context()); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
				}
				send()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/series, "ns/series")
		})
	}
}
