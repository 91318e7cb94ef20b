package ingest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
	"github.com/crowsnest-dev/crowsnest/storage/rollup"
)

// raw1 and raw2 make requests as a careless sender does: labels as they come.
func raw1(t testing.TB, series ...[]string) []byte {
	req := &prompb.WriteRequest{}
	for _, ls := range series {
		ts := prompb.TimeSeries{Samples: []prompb.Sample{{Value: 1, Timestamp: t0.UnixMilli()}, {Value: 2, Timestamp: t0.Add(step).UnixMilli()}}}
		for n := 0; n < len(ls); n += 2 {
			ts.Labels = append(ts.Labels, prompb.Label{Name: ls[n], Value: ls[n+1]})
		}
		req.Timeseries = append(req.Timeseries, ts)
	}
	return pack(t, req)
}

func raw2(t testing.TB, series ...[]string) []byte {
	req := &writev2.Request{Symbols: []string{""}}
	for _, ls := range series {
		ts := writev2.TimeSeries{Samples: []writev2.Sample{{Value: 1, Timestamp: t0.UnixMilli()}, {Value: 2, Timestamp: t0.Add(step).UnixMilli()}}}
		for _, s := range ls {
			ts.LabelsRefs = append(ts.LabelsRefs, uint32(len(req.Symbols)))
			req.Symbols = append(req.Symbols, s)
		}
		req.Timeseries = append(req.Timeseries, ts)
	}
	return pack(t, req)
}

func TestInvalidLabelsAreToldInBothVersions(t *testing.T) {
	for name, ls := range map[string][]string{
		"no name":         {"pod", "a"},
		"empty name":      {"__name__", "", "pod", "a"},
		"label twice":     {"__name__", "x", "a", "1", "a", "2"},
		"twice, apart":    {"a", "1", "__name__", "x", "b", "1", "a", "1"},
		"empty label":     {"__name__", "x", "", "v"},
		"name not UTF-8":  {"__name__", "x", "a\xff", "v"},
		"value not UTF-8": {"__name__", "x", "a", "v\xff"},
		"named not UTF-8": {"__name__", "x\xff"},
	} {
		for ct, body := range map[string]func(testing.TB, ...[]string) []byte{v1: raw1, v2: raw2} {
			t.Run(name+" "+ct, func(t *testing.T) {
				g := newRig(t, Limits{})
				a := g.post(ct, body(t, ls, []string{"__name__", "good"}))
				if a.status != http.StatusBadRequest || !strings.Contains(a.text, "2 samples stored; 2 refused (invalid)") {
					t.Errorf("got %+v", a)
				}
				if g.refused(reasonInvalid) != 2 || g.everything() != 2 {
					t.Errorf("%v counted, %d stored", g.refused(reasonInvalid), g.everything())
				}
			})
		}
	}
}

func TestReferencesBeyondTheSymbolsAreRefusedTheRestIsStored(t *testing.T) {
	g := newRig(t, Limits{})
	one := []writev2.Sample{{Value: 1, Timestamp: t0.UnixMilli()}}
	a := g.post(v2, pack(t, &writev2.Request{Symbols: []string{"", "__name__", "x"}, Timeseries: []writev2.TimeSeries{
		{LabelsRefs: []uint32{1, 2}, Samples: one}, {LabelsRefs: []uint32{1, 3}, Samples: one}, {LabelsRefs: []uint32{1}, Samples: one}, {LabelsRefs: []uint32{1, 2}},
	}}))
	if a.status != 400 || !strings.Contains(a.text, "1 samples stored; 3 refused (invalid): label references [1 3]") || a.header.Get(writtenSamples) != "1" {
		t.Errorf("got %+v", a)
	}
}

// One series, however its labels are ordered and whatever cluster it claims.
func TestLabelsInAnyOrderAreOneSeries(t *testing.T) {
	g := newRig(t, Limits{SeriesPerCluster: 1})
	for _, ls := range [][]string{
		{"__name__", "x", "a", "1", "b", "2"}, {"b", "2", "__name__", "x", "a", "1"},
		{"__name__", "x", "a", "1", "b", "2", "cluster", "of another one"}, {"__name__", "x", "a", "1", "b", "2", "c", ""},
	} {
		if a := g.post(v1, raw1(t, ls)); a.status != http.StatusNoContent {
			t.Errorf("%v: %+v", ls, a)
		}
	}
	if g.everything() != 2 {
		t.Errorf("%d samples", g.everything())
	}
}

// They never are at once, and there could be as many as a request may have.
func TestSeriesThatBeginAndEndInOneRequestAreHeldByTheLimit(t *testing.T) {
	versions(t, func(t *testing.T, ct string, body func(testing.TB, ...sample) []byte) {
		g := newRig(t, Limits{SeriesPerCluster: 3, SeriesPerNamespace: 2})
		lives := func(at time.Time, names ...string) (out []sample) {
			for _, n := range names {
				for i, v := range []float64{1, math.Float64frombits(value.StaleNaN)} {
					out = append(out, smp(v, at.Add(time.Duration(i)*time.Second), "__name__", "x", "namespace", n[:1], "n", n))
				}
			}
			return out
		}
		a := g.post(ct, body(t, lives(t0, "a1", "a2", "a3", "b1", "b2")...))
		for _, want := range []string{"6 samples stored", `2 refused (namespace_series_limit): namespace "a" of cluster "prod" has the limit of 2`, `2 refused (series_limit): cluster "prod" has the limit of 3`} {
			if a.status != 400 || !strings.Contains(a.text, want) {
				t.Errorf("%d %q lacks %q", a.status, a.text, want)
			}
		}
		if g.refused(reasonSeriesLimit) != 2 || g.refused(reasonNamespace) != 2 || g.everything() != 6 {
			t.Errorf("%v and %v counted, %d stored", g.refused(reasonSeriesLimit), g.refused(reasonNamespace), g.everything())
		}
		// Once it is stored their places are there for others, and for them again.
		for i, names := range [][]string{{"a3", "b2"}, {"a1", "b1", "b2"}} {
			if n := testutil.ToFloat64(g.i.metrics.active.WithLabelValues("prod")); n != 0 {
				t.Errorf("%v active", n)
			}
			if a := g.post(ct, body(t, lives(t0.Add(time.Duration(i+1)*step), names...)...)); a.status != http.StatusNoContent {
				t.Errorf("%v: got %+v", names, a)
			}
		}
	})
}

func TestSeriesLimitsOfNamespaceAndWorkload(t *testing.T) {
	versions(t, func(t *testing.T, ct string, body func(testing.TB, ...sample) []byte) {
		g := newRig(t, Limits{SeriesPerNamespace: 3, SeriesPerWorkload: 2})
		x := func(ns, workload, pod string, v float64, at time.Time) sample {
			return smp(v, at, "__name__", "x", "namespace", ns, "workload_type", "deployment", "workload", workload, "pod", pod)
		}
		a := g.post(ct, body(t, x("shop", "cart", "1", 1, t0), x("shop", "cart", "2", 1, t0), x("shop", "cart", "3", 1, t0),
			x("shop", "web", "1", 1, t0), x("shop", "web", "2", 1, t0), x("bank", "cart", "1", 1, t0), smp(1, t0, "__name__", "no_owner")))
		for _, want := range []string{"5 samples stored", `1 refused (workload_series_limit): workload "shop/deployment/cart" of cluster "prod" has the limit of 2`,
			`1 refused (namespace_series_limit): namespace "shop" of cluster "prod" has the limit of 3`} {
			if a.status != 400 || !strings.Contains(a.text, want) {
				t.Errorf("%d %q lacks %q", a.status, a.text, want)
			}
		}
		// A place that is given back is there for another one, in all three counts.
		at := t0.Add(step)
		if a := g.post(ct, body(t, x("shop", "cart", "2", math.Float64frombits(value.StaleNaN), at), x("shop", "web", "2", 1, at))); a.status != http.StatusNoContent {
			t.Errorf("got %+v", a)
		}
		if a := g.post(ct, body(t, x("shop", "cart", "2", 1, at.Add(step)))); a.status != 400 {
			t.Errorf("got %+v", a)
		}
		st, err := g.i.Status("prod", 1)
		if err != nil || st.ActiveSeries != 5 || st.Refused[reasonNamespace] != 2 || st.Refused[reasonWorkload] != 1 || st.Created != 6 {
			t.Errorf("got %+v, %v", st, err)
		}
		if got := fmt.Sprint(st.Top); got != "map[metric:[{x 4 5}] namespace:[{shop 3 4}] workload:[{shop/deployment/web 2 2}]]" {
			t.Errorf("top %s", got)
		}
		if got := fmt.Sprint(st.Churn["workload"]); got != "[{shop/deployment/cart 1 2}]" {
			t.Errorf("churn %s", got)
		}
		// An hour on, nothing is new and what was idle is forgotten.
		g.now = t0.Add(90 * time.Minute)
		g.post(ct, body(t, smp(1, g.now, "__name__", "no_owner")))
		g.now = g.now.Add(sweepEvery)
		g.i.sweep()
		if st, _ = g.i.Status("prod", 9); fmt.Sprint(st.Top) != "map[metric:[{no_owner 1 0}] namespace:[] workload:[]]" || len(g.i.cluster("prod").origins.byID) != 1 {
			t.Errorf("later %v", st.Top)
		}
	})
}

func TestSamplesOfANamespaceAndAWorkloadAreLimited(t *testing.T) {
	versions(t, func(t *testing.T, ct string, body func(testing.TB, ...sample) []byte) {
		g := newRig(t, Limits{SamplesPerNamespace: 2, SamplesPerWorkload: 1})
		of := func(workload string, pods int, at time.Time) (out []sample) {
			for n := range pods {
				out = append(out, smp(1, at, "__name__", "x", "namespace", "shop", "workload_type", "deployment", "workload", workload, "pod", fmt.Sprint(n)))
			}
			return out
		}
		// The bursts are 30 and 60: 30 of cart, 20 of web, 10 of the last.
		a := g.post(ct, body(t, slices.Concat(of("cart", 33, t0), of("web", 20, t0), of("last", 15, t0), []sample{smp(1, t0, "__name__", "no_owner")})...))
		for _, want := range []string{
			"61 samples stored", `3 refused (workload_samples_limit): workload "shop/deployment/cart" of cluster "prod" has the limit of 1 samples a second`,
			`5 refused (namespace_samples_limit): namespace "shop" of cluster "prod" has the limit of 2`,
		} {
			if a.status != http.StatusBadRequest || !strings.Contains(a.text, want) {
				t.Errorf("%d %q lacks %q", a.status, a.text, want)
			}
		}
		if g.refused(reasonWorkloadRate) != 3 || g.refused(reasonNamespaceRate) != 5 {
			t.Errorf("counted %v and %v", g.refused(reasonWorkloadRate), g.refused(reasonNamespaceRate))
		}
		// What the namespace refused did not use the workload's rate up: of 30, 20 are left.
		g.now = t0.Add(10 * time.Second)
		if a := g.post(ct, body(t, of("last", 20, g.now)...)); a.status != http.StatusNoContent {
			t.Errorf("got %+v", a)
		}
		// A series can always end, and backlog is not held against its rate.
		if a := g.post(ct, body(t, smp(math.Float64frombits(value.StaleNaN), g.now, "__name__", "x", "namespace", "shop", "workload_type", "deployment", "workload", "last", "pod", "0"))); a.status != http.StatusNoContent {
			t.Errorf("an end: %+v", a)
		}
		if a := g.post(ct, body(t, of("cart", 33, t0.Add(time.Second))...), wire.HeaderBacklog, "true"); a.status != http.StatusNoContent {
			t.Errorf("backlog: %+v", a)
		}
	})
}

func TestRefusedNamesTakeNoMemory(t *testing.T) {
	g := newRig(t, Limits{SeriesPerNamespace: 1})
	g.post(v1, bodyV1(t, smp(1, t0, "__name__", "x", "namespace", "shop")))
	var ss []sample
	for n := range 500 {
		ss = append(ss, smp(1, t0, "__name__", fmt.Sprint("x", n), "namespace", "shop", "workload_type", "deployment", "workload", fmt.Sprint("w", n)))
	}
	if a := g.post(v1, bodyV1(t, ss...)); !strings.Contains(a.text, "500 refused (namespace_series_limit)") {
		t.Errorf("got %+v", a)
	}
	if n := len(g.i.cluster("prod").origins.byID); n != 2 {
		t.Errorf("%d origins are kept", n)
	}
}

func TestRateIsDecidedBeforeAnythingIsStored(t *testing.T) {
	versions(t, func(t *testing.T, ct string, body func(testing.TB, ...sample) []byte) {
		g := newRig(t, Limits{SamplesPerSecond: 1})
		var ss []sample
		for n := range 40 { // more than the bucket holds: it is overdrawn by 10
			ss = append(ss, smp(1, t0, "__name__", "x", "n", fmt.Sprint(n)))
		}
		if a := g.post(ct, body(t, ss...)); a.status != http.StatusNoContent {
			t.Fatalf("got %+v", a)
		}
		a := g.post(ct, body(t, smp(1, t0, "__name__", "y")))
		if a.status != http.StatusTooManyRequests || a.header.Get("Retry-After") != "10" || !strings.Contains(a.text, `cluster "prod" has the limit of 1 samples a second`) {
			t.Errorf("got %+v", a)
		}
		if g.everything() != 40 || testutil.ToFloat64(g.i.metrics.throttled.WithLabelValues("prod", throttledRate)) != 1 {
			t.Errorf("%d stored", g.everything())
		}
		g.now = g.now.Add(11 * time.Second)
		if a := g.post(ct, body(t, smp(1, t0, "__name__", "y"))); a.status != http.StatusNoContent {
			t.Errorf("got %+v", a)
		}
	})
}

// Backlog takes no more of the rate than what is left, so that what is live need not wait
// until it is made up for; several intervals that could not but do are to come alone.
func TestBacklogLeavesTheRateToWhatIsLive(t *testing.T) {
	g := newRig(t, Limits{SamplesPerSecond: 10})
	g.now = t0.Add(time.Hour)
	post := func(of string, n int, headers ...string) answer {
		t.Helper()
		var ss []sample
		for m := range n {
			ss = append(ss, smp(1, t0, "__name__", of, "n", fmt.Sprint(m)))
		}
		return g.post(v2, bodyV2(t, ss...), append(headers, wire.HeaderSender, "node/n1", wire.HeaderInterval, "30")...)
	}
	backlog := []string{wire.HeaderBacklog, "true", wire.HeaderComplete, wire.FormatMillis(t0)}
	several := append(slices.Clone(backlog), wire.HeaderEarlier, wire.FormatEarlier([]time.Time{t0.Add(-step)}))
	for n, step := range []struct {
		after   time.Duration
		of      string
		samples int
		headers []string
		status  int
		again   string // Retry-After
	}{
		{0, "live", 200, nil, 204, ""}, // of 300
		{0, "together", 100, several, 429, "15"},
		{0, "alone", 100, backlog, 429, "15"},
		{0, "live", 1, nil, 204, ""},
		{16 * time.Second, "together", 100, several, 204, ""},
		{0, "live", 1, nil, 204, ""},
		{time.Minute, "more", 121, several, 413, ""},
		{0, "live", 1, nil, 204, ""}, // from which the bucket is not quite full
		{0, "more", 121, backlog, 204, ""},
		{0, "live", 151, nil, 204, ""},
		{0, "most", 400, backlog, 429, "25"},
		{25 * time.Second, "most", 400, backlog, 204, ""}, // or it never would be
		{0, "live", 1, nil, 429, "13"},
	} {
		g.now = g.now.Add(step.after)
		a := post(step.of, step.samples, step.headers...)
		if a.status != step.status || a.header.Get("Retry-After") != step.again {
			t.Errorf("request %d, %+v: %d %s, again after %s", n, step, a.status, a.text, a.header.Get("Retry-After"))
		}
	}
	if got := g.query("count({__name__=\"more\"})", t0); got != "{} 121" {
		t.Errorf("stored %s", got)
	}
}

// However much of a backlog waits, the senders of a cluster that sends half of what it may
// all find room at the moment at which they send.
func TestBacklogLeavesAReserveToWhatIsLive(t *testing.T) {
	g := newRig(t, Limits{SamplesPerSecond: 10})
	g.now = t0.Add(time.Hour)
	send := func(sender string, n int, at time.Time, headers ...string) (status int) {
		t.Helper()
		var ss []sample
		for m := range n {
			ss = append(ss, smp(1, at, "__name__", "x", "of", sender, "n", fmt.Sprint(m)))
		}
		return g.post(v2, bodyV2(t, ss...), append(headers, wire.HeaderSender, sender, wire.HeaderInterval, "30")...).status
	}
	const senders = 50
	for round := range 3 {
		through := t0.Add(-time.Duration(round) * time.Hour)
		taken := 0
		for n := 0; ; n++ {
			status := send("node/back", 10, through.Add(time.Duration(n)*step), wire.HeaderBacklog, "true")
			if status == http.StatusTooManyRequests {
				break
			}
			if status != http.StatusNoContent || n == 100 {
				t.Fatalf("request %d of backlog: %d", n, status)
			}
			taken += 10
		}
		if taken < 100 {
			t.Errorf("%d samples of backlog are taken", taken)
		}
		for n := range senders {
			if status := send(fmt.Sprintf("node/live%d", n), 10*30/2/senders, g.now); status != http.StatusNoContent {
				t.Errorf("round %d, live request %d: %d", round+1, n+1, status)
			}
		}
		g.now = g.now.Add(30 * time.Second)
	}
}

func TestAgeLimitHoldsInAnEmptyStoreToo(t *testing.T) {
	g := newRig(t, Limits{Behind: time.Hour})
	a := g.post(v1, bodyV1(t, smp(1, t0.Add(-time.Hour-time.Millisecond), "__name__", "x"), smp(1, t0.Add(-time.Hour), "__name__", "x")))
	if a.status != 400 || !strings.Contains(a.text, "1 samples stored; 1 refused (too_old): 2026-11-23T08:59:59.999Z is older than the 1h0m0s") {
		t.Errorf("got %+v", a)
	}
}

func TestActiveSeriesAreKnownRightAfterARestart(t *testing.T) {
	g := newRig(t, Limits{SeriesPerCluster: 3})
	stale := math.Float64frombits(value.StaleNaN)
	pod := func(n string, v float64, at time.Time) sample {
		return smp(v, at, "__name__", catalogue.PodCPU, "namespace", "shop", "workload_type", "deployment", "workload", "cart", "pod", n)
	}
	head := []string{wire.HeaderSender, "all", wire.HeaderInterval, "30", wire.HeaderComplete, wire.FormatMillis(t0)}
	g.post(v1, bodyV1(t, pod("idle", 1, t0.Add(-31*time.Minute))))
	g.post(v1, bodyV1(t, pod("ended", 1, t0)))
	g.post(v1, bodyV1(t, pod("ended", stale, t0.Add(time.Second)), pod("1", 1, t0), pod("2", 2, t0)), head...)
	g.stop()
	g.start(Limits{SeriesPerCluster: 3})
	if err := g.i.recover(context.Background()); err != nil {
		t.Fatal(err)
	}
	st, err := g.i.Status("prod", 1)
	if err != nil || st.ActiveSeries != 2 || st.Created != 0 || fmt.Sprint(st.Top["workload"]) != "[{shop/deployment/cart 2 0}]" {
		t.Fatalf("got %+v, %v", st, err)
	}
	if n := testutil.ToFloat64(g.i.metrics.active.WithLabelValues("prod")); n != 2 {
		t.Errorf("the gauge has %v", n)
	}
	// They are the same series to what is sent now, and the limit holds.
	g.now = t0.Add(step)
	a := g.post(v1, bodyV1(t, pod("1", 1, g.now), pod("2", 2, g.now), pod("3", 3, g.now), pod("4", 4, g.now)))
	if a.status != 400 || !strings.Contains(a.text, "3 samples stored; 1 refused (series_limit)") {
		t.Errorf("got %+v", a)
	}
	if _, err := g.i.Status("nobody", 1); !errors.Is(err, fault.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestRunRecoversAndEnds(t *testing.T) {
	g := newRig(t, Limits{})
	g.post(v1, bodyV1(t, smp(1, t0, "__name__", "x")))
	g.stop()
	g.start(Limits{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- g.i.Run(ctx) }()
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(time.Millisecond) {
		if st, err := g.i.Status("prod", 1); err == nil && st.ActiveSeries == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the series was not found")
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Samples that rollups sum, from a sender that says nothing of itself, are
// stored and counted.
func TestSamplesWithoutOurHeadersAreCounted(t *testing.T) {
	g := newRig(t, Limits{})
	if a := g.post(v1, bodyV1(t, podSeries(t0, "cart", "1", 2)...)); a.status != http.StatusNoContent {
		t.Fatalf("got %+v", a)
	}
	if n := testutil.ToFloat64(g.i.metrics.unreported.WithLabelValues("prod")); n == 0 || g.query(rollup.CoverageRatio, t0) != "" {
		t.Errorf("%v counted", n)
	}
}
