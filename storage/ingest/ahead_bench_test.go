package ingest

import (
	"fmt"
	"log/slog"
	"net/http"
	"testing"
	"time"
)

// An interval of 10,000 series while a state that changed after its point of the grid is
// stored already, as in a cluster in which something always changes.
func BenchmarkIntervalBehindAChange(b *testing.B) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	for _, ahead := range []bool{false, true} {
		b.Run(fmt.Sprint(ahead), func(b *testing.B) {
			g := newRig(b, Limits{})
			r := 0
			post := func(ss ...sample) {
				if a := g.post(v2, bodyV2(b, ss...)); a.status != http.StatusNoContent {
					b.Fatal(a)
				}
			}
			all := make([]sample, 10_000)
			var spent float64
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				at := t0.Add(time.Duration(r) * step)
				g.now = at.Add(step)
				r++
				for p := range all {
					all[p] = smp(float64(p%7+r), at, "__name__", fmt.Sprint("k8s_pod_other_", p%10), "namespace", "shop", "pod", fmt.Sprint("cart-", p/10))
				}
				body := bodyV2(b, all...)
				if ahead {
					post(smp(1, at.Add(time.Second), "__name__", "k8s_pod_state", "pod", "x"))
				}
				began := cpuSeconds()
				b.StartTimer()
				if a := g.post(v2, body); a.status != http.StatusNoContent {
					b.Fatal(a)
				}
				spent += cpuSeconds() - began
			}
			b.ReportMetric(spent*1e9/float64(b.N*len(all)), "cpu-ns/sample")
		})
	}
}
