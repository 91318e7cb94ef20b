package ingest

import (
	"bytes"
	"context"
	"errors"
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
	"github.com/prometheus/prometheus/storage"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
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

// inDoubt is a store whose commits fail when their samples can be read already, as where the
// disk does not take its log.
type inDoubt struct{ guarded }

func (s inDoubt) Appender(ctx context.Context) storage.Appender {
	return inDoubtAppender{s.DB.Appender(ctx)}
}

type inDoubtAppender struct{ storage.Appender }

func (a inDoubtAppender) Commit() error {
	return errors.Join(a.Appender.Commit(), errors.New("the disk is full"))
}

// Where the store may have something else than what passed, or more, it is asked.
func TestNewestSamplesInDoubtAreLeftToTheStore(t *testing.T) {
	const cpu, other = "k8s_pod_cpu_core_used", "k8s_service_pod"
	at := func(n int) time.Time { return t0.Add(time.Duration(n) * step) }
	one := func(v float64, n int, metric string) sample {
		return smp(v, at(n), "__name__", metric, "namespace", "shop", "pod", "a")
	}
	ended := math.Float64frombits(value.StaleNaN)
	for name, tc := range map[string]struct {
		requests [][]sample
		fails    int // request whose commit does; 0: none
		ask      int // interval
		known    bool
	}{
		"a value and the end at one time":           {[][]sample{{one(1, 1, cpu), one(ended, 1, cpu)}}, 0, 1, false},
		"and of what no sum is made":                {[][]sample{{one(ended, 1, other), one(1, 1, other)}}, 0, 1, false},
		"another one that is late":                  {[][]sample{{one(1, 1, cpu)}, {one(2, 2, cpu)}, {one(3, 1, cpu)}}, 0, 1, false},
		"long after it":                             {[][]sample{{one(1, 1, cpu)}, {one(2, 2, cpu)}, {one(3, 1, cpu)}, {one(4, 11, cpu)}}, 0, 11, true},
		"the same once more":                        {[][]sample{{one(1, 1, cpu)}, {one(1, 1, cpu)}, {one(ended, 2, cpu)}, {one(ended, 2, cpu)}}, 0, 2, true},
		"a commit that failed":                      {[][]sample{{one(1, 1, cpu)}, {one(2, 2, cpu)}}, 2, 2, false},
		"a commit that failed, of what has no sum":  {[][]sample{{one(1, 1, other)}, {one(2, 2, other)}}, 2, 2, false},
		"a late interval of a series that was idle": {[][]sample{{one(1, 1, cpu)}, {one(2, 72, other)}}, 0, 1, false},
		"and a live one":                            {[][]sample{{one(1, 1, cpu)}, {one(2, 72, other)}}, 0, 72, true},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, Limits{})
			g.now = t0.Add(-time.Hour)
			var err error
			g.rollups, err = rollup.New(rollup.Options{Store: g.db, Newest: []string{cpu, other}, Now: func() time.Time { return g.now }})
			if err != nil {
				t.Fatal(err)
			}
			g.i.opts.Rollups = g.rollups
			for n, samples := range tc.requests {
				g.now = samples[0].at
				g.i.opts.Store = guarded{g.db, g}
				want := http.StatusNoContent
				if n+1 == tc.fails {
					g.i.opts.Store, want = inDoubt{guarded{g.db, g}}, http.StatusServiceUnavailable
				}
				if a := g.post(v2, bodyV2(t, samples...)); a.status != want {
					t.Fatal(a)
				}
			}
			for _, metric := range []string{cpu, other} {
				values, known := g.rollups.Newest("prod", metric, at(tc.ask).Add(-5*time.Minute).UnixMilli()+1, at(tc.ask).UnixMilli(), nil)
				if known != tc.known {
					t.Errorf("%s: %v, known %v", metric, values, known)
				}
				got := ""
				for _, v := range values {
					got += fmt.Sprintf("%s %v", v.Series, v.V)
				}
				if want := g.query(metric, at(tc.ask)); known && got != want {
					t.Errorf("%s: got %s, the store has %s", metric, got, want)
				}
			}
		})
	}
}

// A second value for a time that is not the newest of its series is taken for a sample that
// is late, since the store does not say what it has there. A query gives that one then, and a
// sum that is read from the store has it; a sum of what passes has the value that came first.
func TestASecondValueForAnOlderTime(t *testing.T) {
	at := func(n int) time.Time { return t0.Add(time.Duration(n) * step) }
	g := newRig(t, Limits{})
	send := func(n int, v float64) {
		t.Helper()
		if a := g.post(v2, bodyV2(t, podSeries(at(n), "cart", "cart-1", v)...), wire.HeaderSender, "all", wire.HeaderInterval, "30"); a.status != http.StatusNoContent {
			t.Fatal(a)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.rollups.Run(ctx) }()
	of := func(metric string, n int) string {
		return g.query(fmt.Sprintf(`sum(max_over_time(%s{workload="cart"}[1s]))`, metric), at(n))
	}
	complete := func(n int) {
		t.Helper()
		a := g.post(v2, bodyV2(t, smp(1, at(n), "__name__", "x")), wire.HeaderSender, "all", wire.HeaderInterval, "30", wire.HeaderComplete, wire.FormatMillis(at(n)))
		if a.status != http.StatusNoContent {
			t.Fatal(a)
		}
		for deadline := time.Now().Add(time.Minute); of(catalogue.WorkloadCPU, n) == ""; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("no rollup within a minute")
			}
		}
	}
	for _, c := range []struct {
		at  int
		sum string
	}{{0, "{} 5"}, {10, "{} 1"}} { // what is from just behind the start is read, as some of it may have come before
		g.clock.Lock()
		g.now = at(c.at + 1)
		g.clock.Unlock()
		conflicts := g.refused(reasonConflict)
		send(c.at, 1)
		send(c.at+1, 2)
		send(c.at, 5) // of a time before
		if n := g.refused(reasonConflict); n != conflicts {
			t.Errorf("%v conflicts are known", n-conflicts)
		}
		send(c.at+1, 6) // of the newest time
		if n := g.refused(reasonConflict); n != conflicts+2 {
			t.Errorf("%v conflicts at the newest time are counted", n-conflicts)
		}
		complete(c.at)
		complete(c.at + 1)
		if got := of(catalogue.PodCPU, c.at); got != "{} 5" {
			t.Errorf("a query at %d gives %s", c.at, got)
		}
		if got := of(catalogue.WorkloadCPU, c.at); got != c.sum {
			t.Errorf("the sum at %d is %s, want %s", c.at, got, c.sum)
		}
		if got := of(catalogue.WorkloadCPU, c.at+1); got != "{} 2" {
			t.Errorf("the sum at %d is %s", c.at+1, got)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if st, err := g.i.Status("prod", 0); err != nil || st.Samples != 2*(6+2) {
		t.Errorf("%+v, %v", st, err)
	}
}
