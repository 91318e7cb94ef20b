package ingest

import (
	"bytes"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"github.com/crowsnest-dev/crowsnest/storage/rollup"
)

// Rollups know the newest sample of series from all that is stored: also of metrics of
// which no sum is made, and where a series ends. What comes in a way that they do not see
// leaves it to the store.
func TestNewestSamplesAreKnownFromAllThatIsStored(t *testing.T) {
	g := newRig(t, Limits{})
	var err error
	g.now = t0.Add(-time.Hour) // when the server began
	g.rollups, err = rollup.New(rollup.Options{Store: g.db, Newest: []string{"k8s_pod_cpu_core_used", "k8s_service_pod"}, Now: func() time.Time { return g.now }})
	if err != nil {
		t.Fatal(err)
	}
	g.now = t0
	g.i.opts.Rollups = g.rollups
	g.i.opts.History = guarded{g.db, g}
	at := func(n int) time.Time { return t0.Add(time.Duration(n) * step) }
	send := func(history bool, body []byte) {
		t.Helper()
		r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
		r.Header.Set("Content-Type", v2)
		w := httptest.NewRecorder()
		if g.i.serveTo(w, r, "prod", history); w.Code != http.StatusNoContent {
			t.Fatal(w.Code, w.Body)
		}
	}
	newest := func(metric string, n int) string {
		values, known := g.rollups.Newest("prod", metric, at(n).Add(-5*time.Minute).UnixMilli()+1, at(n).UnixMilli(), nil)
		if !known {
			return "the store knows"
		}
		text := ""
		for _, v := range values {
			text += fmt.Sprintf("%s %g ", v.Series.Get("pod"), v.V)
		}
		return text
	}
	expect := func(metric string, n int, want string) {
		t.Helper()
		if got := newest(metric, n); got != want {
			t.Errorf("of %s at %d: %q, want %q", metric, n, got, want)
		}
	}
	cpu := func(v float64, n int, pod string) sample {
		return smp(v, at(n), "__name__", "k8s_pod_cpu_core_used", "namespace", "shop", "pod", pod)
	}
	behind := func(v float64, n int, pod string) sample {
		return smp(v, at(n), "__name__", "k8s_service_pod", "namespace", "shop", "service", "web", "pod", pod)
	}
	send(false, bodyV2(t, cpu(1, 0, "a"), cpu(2, 0, "b"), behind(1, 0, "a")))
	send(false, bodyV2(t, cpu(3, 1, "a"), cpu(math.Float64frombits(value.StaleNaN), 1, "b"), smp(9, at(1), "__name__", "other", "pod", "a")))
	expect("k8s_pod_cpu_core_used", 0, "a 1 b 2 ")
	expect("k8s_pod_cpu_core_used", 1, "a 3 ")
	expect("k8s_service_pod", 1, "a 1 ")
	expect("k8s_service_pod", 10, "")
	expect("other", 1, "the store knows")

	send(true, bodyV2(t, cpu(5, -30, "c"))) // long before
	expect("k8s_pod_cpu_core_used", 1, "a 3 ")
	send(true, bodyV2(t, cpu(5, 1, "d")))
	expect("k8s_pod_cpu_core_used", 1, "the store knows")
	expect("k8s_pod_cpu_core_used", 10, "the store knows")
	expect("k8s_pod_cpu_core_used", 11, "") // all of that is too old
	g.now = at(12)
	send(false, bodyV2(t, cpu(7, 12, "a")))
	expect("k8s_pod_cpu_core_used", 12, "a 7 ")

	st := writev2.NewSymbolTable()
	send(false, pack(t, &writev2.Request{
		Timeseries: []writev2.TimeSeries{{
			LabelsRefs: st.SymbolizeLabels(labels.FromStrings("__name__", "k8s_pod_cpu_core_used", "namespace", "shop", "pod", "e"), nil),
			Histograms: []writev2.Histogram{writev2.FromIntHistogram(0, at(12).UnixMilli(), &histogram.Histogram{Schema: 1, Count: 1, Sum: 1, PositiveSpans: []histogram.Span{{Length: 1}}, PositiveBuckets: []int64{1}})},
		}},
		Symbols: st.Symbols(),
	}))
	expect("k8s_pod_cpu_core_used", 12, "the store knows")
	g.now = at(24)
	send(false, bodyV2(t, cpu(8, 24, "a")))
	expect("k8s_pod_cpu_core_used", 24, "a 8 ")
	if err := g.rollups.DeleteCluster(t.Context(), "prod"); err != nil {
		t.Fatal(err)
	}
	expect("k8s_pod_cpu_core_used", 24, "the store knows")
	g.now = at(40)
	send(false, bodyV2(t, cpu(8, 40, "a")))
	expect("k8s_pod_cpu_core_used", 40, "a 8 ")
}
