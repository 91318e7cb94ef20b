package push

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/model/labels"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"github.com/crowsnest-dev/crowsnest/collector/compute"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// contents gives a request's samples by series, in their order.
func contents(t testing.TB, body []byte) map[string][]writev2.Sample {
	t.Helper()
	raw, err := snappy.Decode(nil, body)
	if err != nil {
		t.Fatal(err)
	}
	var req writev2.Request
	if err := req.Unmarshal(raw); err != nil {
		t.Fatal(err)
	}
	b, out := labels.NewScratchBuilder(8), map[string][]writev2.Sample{}
	for _, ts := range req.Timeseries {
		ls, err := ts.ToLabels(&b, req.Symbols)
		if err != nil {
			t.Fatal(err)
		}
		key := fmt.Sprintf("%s/%s", ls, ts.Metadata.Type)
		out[key] = append(out[key], ts.Samples...)
	}
	return out
}

// seal gives a batch's only request.
func seal(t testing.TB, e *encoder, at time.Time, pods ...string) *sealed {
	t.Helper()
	b := Batch{Through: at, Interval: 30 * time.Second}
	for n, pod := range pods {
		for _, metric := range []string{catalogue.PodCPU, catalogue.PodRestarts} {
			b.Samples = append(b.Samples, compute.Sample{Metric: metric, Labels: labels.FromStrings("namespace", "ns", "pod", pod), At: at, V: float64(n) + float64(at.Unix()%977)})
		}
	}
	all, err := e.encode(b)
	if err != nil || len(all) != 1 {
		t.Fatalf("%d requests, %v", len(all), err)
	}
	return all[0]
}

// What is sent together is what was to be sent one by one, whatever comes, goes and
// changes its place from one batch to the next.
func TestTogetherIsAllOfIt(t *testing.T) {
	t0 := time.Unix(1_790_000_000, 0).UTC().Truncate(30 * time.Second)
	joint, e := &Together{}, newEncoder()
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 7))
		want := map[string][]writev2.Sample{}
		joint.Reset()
		pods := []string{"a", "b", "c", "d"}
		for n := range maxTogether + 1 {
			switch rng.IntN(4) {
			case 0:
				pods = append(pods, fmt.Sprintf("new-%d", n))
			case 1:
				rng.Shuffle(len(pods), func(a, b int) { pods[a], pods[b] = pods[b], pods[a] })
			case 2:
				pods = pods[:max(1, len(pods)-1)]
			}
			body := seal(t, e, t0.Add(time.Duration(n)*30*time.Second), pods...).body
			ok, err := joint.Add(body)
			if err != nil || ok != (n < maxTogether) {
				t.Fatalf("seed %d, batch %d: %v, %v", seed, n, ok, err)
			}
			if !ok {
				break
			}
			for key, samples := range contents(t, body) {
				want[key] = append(want[key], samples...)
			}
		}
		if got := contents(t, joint.Body()); !reflect.DeepEqual(got, want) {
			t.Fatalf("seed %d: got %v, want %v", seed, got, want)
		}
	}
}

func TestTogetherIsBounded(t *testing.T) {
	pods := make([]string, maxSeriesPerRequest/2)
	for n := range pods {
		pods[n] = fmt.Sprintf("%0100d", n)
	}
	body := seal(t, newEncoder(), time.Unix(1_790_000_010, 0).UTC(), pods...).body
	joint := &Together{}
	joint.Reset()
	for n := 0; ; n++ {
		ok, err := joint.Add(body)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			if n == 0 {
				t.Error("even one is too large")
			}
			break
		}
		if n == maxTogether {
			t.Fatal("there is no bound")
		}
	}
	if raw, err := snappy.Decode(nil, joint.Body()); err != nil || len(raw) > maxTogetherBytes+maxTogetherBytes/8 {
		t.Errorf("%d bytes, %v", len(raw), err)
	}
}

// What is not as it is sealed here is told, and not guessed at.
func TestTogetherRefusesWhatItDoesNotKnow(t *testing.T) {
	good := writev2.Request{Symbols: []string{"", "a", "b"}, Timeseries: []writev2.TimeSeries{{LabelsRefs: []uint32{1, 2}, Samples: []writev2.Sample{{Value: 1, Timestamp: 1}}}}}
	for name, change := range map[string]func(*writev2.Request){
		"a symbol twice":        func(r *writev2.Request) { r.Symbols = []string{"", "a", "a", "b"} },
		"a histogram":           func(r *writev2.Request) { r.Timeseries[0].Histograms = []writev2.Histogram{{Sum: 1}} },
		"an exemplar":           func(r *writev2.Request) { r.Timeseries[0].Exemplars = []writev2.Exemplar{{Value: 1}} },
		"a series of nothing":   func(r *writev2.Request) { r.Timeseries[0].Samples = nil },
		"a series without name": func(r *writev2.Request) { r.Timeseries[0].LabelsRefs = nil },
		"beyond the symbols":    func(r *writev2.Request) { r.Symbols, r.Timeseries[0].LabelsRefs = []string{"", "b"}, []uint32{1, 2} },
		"no symbols":            func(r *writev2.Request) { r.Symbols = nil },
	} {
		t.Run(name, func(t *testing.T) {
			body := func(r writev2.Request) []byte {
				raw, err := r.Marshal()
				if err != nil {
					t.Fatal(err)
				}
				return snappy.Encode(nil, raw)
			}
			bad := good
			bad.Timeseries = []writev2.TimeSeries{good.Timeseries[0]}
			change(&bad)
			joint := &Together{}
			joint.Reset()
			if ok, err := joint.Add(body(good)); !ok || err != nil {
				t.Fatal(ok, err)
			}
			_, err := joint.Add(body(bad))
			if name == "a symbol twice" { // which only the numbers of the first request must not have
				joint.Reset()
				_, err = joint.Add(body(bad))
			}
			if err == nil {
				t.Error("taken")
			}
		})
	}
}

// takesTogether has a rig's server take several intervals in a request.
func takesTogether(r *rig) { r.Pusher.together = func() bool { return true } }

func TestABacklogIsSentTogether(t *testing.T) {
	rx := newReceiver(t, written)
	r := newRig(t, rx.URL, false)
	takesTogether(r)
	now := time.Now().UTC().Truncate(30 * time.Second)
	var want []queueTimes
	put := func(at, through time.Time, unchecked bool) {
		t.Helper()
		s := seal(t, r.encoder, at, "p")
		s.item.Through, s.item.Unchecked = through, unchecked
		if _, err := r.queue.Put(s.item, s.body); err != nil {
			t.Fatal(err)
		}
	}
	point := func(n int) time.Time { return now.Add(-time.Hour).Add(time.Duration(n) * 30 * time.Second) }
	for n := range maxTogether {
		put(point(n), point(n), false)
	}
	want = append(want, queueTimes{point(maxTogether - 1), []time.Time{point(0), point(1), point(2), point(3), point(4), point(5), point(6)}, maxTogether})
	put(point(20), time.Time{}, false) // a part, which completes nothing
	put(point(20), point(20), false)
	put(point(21), point(21), false)
	put(point(22).Add(time.Second), time.Time{}, false) // a change
	want = append(want, queueTimes{point(21), []time.Time{point(20)}, 4})
	put(point(23), point(23), true) // by a clock that nobody had held against the server's
	put(point(24), point(24), true)
	want = append(want, queueTimes{point(24), []time.Time{point(23)}, 2})
	put(point(30), point(30), false)
	want = append(want, queueTimes{point(30), nil, 1})
	put(point(10), point(10), false) // a clock that was turned back
	put(point(11), point(11), false)
	want = append(want, queueTimes{point(11), []time.Time{point(10)}, 2})
	put(now.Add(-togetherFrom+time.Minute), now.Add(-togetherFrom+time.Minute), false) // an alert may look at it
	want = append(want, queueTimes{now.Add(-togetherFrom + time.Minute), nil, 1})
	r.start(t)
	eventually(t, "an empty queue", func() bool { n, _, _, _ := r.queue.Stats(); return n == 0 })
	got := slices.DeleteFunc(rx.all(), func(one request) bool { return len(one.series) == 0 }) // the time was asked for
	if len(got) != len(want) {
		t.Fatalf("%d requests, want %d", len(got), len(want))
	}
	for n, one := range got {
		if one.header.Get(wire.HeaderComplete) != wire.FormatMillis(want[n].through) || one.header.Get(wire.HeaderEarlier) != wire.FormatEarlier(want[n].earlier) || one.header.Get(wire.HeaderBacklog) != "true" {
			t.Errorf("request %d: %v, want %v", n, one.header, want[n])
		}
		if len(one.series) != 2*want[n].batches && n != 1 {
			t.Errorf("request %d: %d samples, want %d", n, len(one.series), 2*want[n].batches)
		}
	}
	if _, _, _, dropped := r.queue.Stats(); dropped != 0 {
		t.Errorf("%d samples dropped", dropped)
	}
}

// sendUnchecked sends three batches in a row, of a clock that was not held against the
// server's.
func sendUnchecked(t *testing.T, r *rig, at time.Time) {
	t.Helper()
	for n := range 3 {
		s := seal(t, r.encoder, at.Add(time.Duration(n)*30*time.Second), "p")
		s.item.Unchecked = true
		if _, err := r.queue.Put(s.item, s.body); err != nil {
			t.Fatal(err)
		}
	}
	r.start(t)
	eventually(t, "an empty queue", func() bool { n, _, _, _ := r.queue.Stats(); return n == 0 })
}

// What a wrong clock stamped is brought to the server's time in all that is sent together.
func TestATogetherOfAWrongClock(t *testing.T) {
	rx := newReceiver(t, written)
	r := newRig(t, rx.URL, false)
	takesTogether(r)
	r.offset = func() (time.Duration, bool) { return 45 * time.Second, true }
	at := time.Now().UTC().Truncate(30 * time.Second).Add(-time.Hour)
	sendUnchecked(t, r, at)
	got := rx.all()
	if len(got) != 1 {
		t.Fatalf("%d requests", len(got))
	}
	first := at.Add(-time.Minute)
	want := []time.Time{first, first.Add(30 * time.Second)}
	if h := got[0].header; h.Get(wire.HeaderEarlier) != wire.FormatEarlier(want) || h.Get(wire.HeaderComplete) != wire.FormatMillis(first.Add(time.Minute)) || h.Get(wire.HeaderClockOffset) != "45.000" {
		t.Errorf("got %v", h)
	}
	for n := range 3 {
		key := fmt.Sprintf("@%d/", first.Add(time.Duration(n)*30*time.Second).UnixMilli())
		if found := slices.ContainsFunc(slices.Collect(maps.Keys(got[0].series)), func(s string) bool { return strings.Contains(s, key) }); !found {
			t.Errorf("nothing at %s: %v", key, got[0].series)
		}
	}
}

// What is too old for the ordinary way by the server's time goes by the other, and alone,
// however young the wrong clock has it; what is young enough does not.
func TestTheWayIsThatOfTheServersTime(t *testing.T) {
	for _, tc := range []struct {
		ahead, age time.Duration // by the wrong clock
		path       string
		requests   int
	}{
		{8 * time.Hour, 40*time.Hour - 9*time.Minute, wire.PathHistory, 3},
		{8 * time.Hour, 40*time.Hour - 12*time.Minute, wire.PathMetrics, 1},
		{-8 * time.Hour, 56*time.Hour - 12*time.Minute, wire.PathMetrics, 1},
		{-8 * time.Hour, 56*time.Hour - 9*time.Minute, wire.PathHistory, 3},
	} {
		rx := newReceiver(t, written)
		r := newRig(t, rx.URL, false)
		r.queue.SetMaxAge(90 * 24 * time.Hour)
		takesTogether(r)
		r.offset = func() (time.Duration, bool) { return tc.ahead, true }
		r.accept = func() time.Duration { return 48 * time.Hour }
		at := time.Now().UTC().Add(-tc.age).Truncate(30 * time.Second)
		sendUnchecked(t, r, at)
		got := rx.all()
		for _, one := range got {
			if one.path != tc.path {
				t.Errorf("%+v: went to %s, points %s and %s", tc, one.path, one.header.Get(wire.HeaderEarlier), one.header.Get(wire.HeaderComplete))
			}
		}
		if len(got) != tc.requests {
			t.Errorf("%+v: %d requests", tc, len(got))
		}
		r.stop()
	}
}

// The server's time that is learned between the making of a request and its sending
// changes neither its times nor its way.
func TestWhatIsLearnedLaterChangesNoRequest(t *testing.T) {
	rx := newReceiver(t, written)
	r := newRig(t, rx.URL, false)
	takesTogether(r)
	r.accept = func() time.Duration { return 48 * time.Hour }
	at := time.Now().UTC().Truncate(30 * time.Second).Add(-41 * time.Hour)
	var items []*sealed
	for n := range 3 {
		s := seal(t, r.encoder, at.Add(time.Duration(n)*30*time.Second), "p")
		s.item.Unchecked = true
		var err error
		if s.item, err = r.queue.Put(s.item, s.body); err != nil {
			t.Fatal(err)
		}
		items = append(items, s)
	}
	g := r.gather(items[0].item, items[0].body)
	r.offset = func() (time.Duration, bool) { return 8 * time.Hour, true }
	if err := r.attempt(t.Context(), g.shipment, true); err != nil {
		t.Fatal(err)
	}
	if got := rx.all()[0]; got.path != wire.PathMetrics || got.header.Get(wire.HeaderComplete) != wire.FormatMillis(at.Add(time.Minute)) || got.header.Get(wire.HeaderClockOffset) != "" {
		t.Errorf("%s, %v", got.path, got.header)
	}
}

// queueTimes is what a request says of several batches.
type queueTimes struct {
	through time.Time
	earlier []time.Time
	batches int
}

// One that is refused takes no other along, and one that cannot be told apart is sent as
// it is.
func TestOneThatIsRefusedTakesNoOtherAlong(t *testing.T) {
	now := time.Now().UTC().Truncate(30 * time.Second)
	at := func(n int) time.Time { return now.Add(-time.Hour).Add(time.Duration(n) * 30 * time.Second) }
	rx := newReceiver(t, func(n int, r request, w http.ResponseWriter) {
		for series := range r.series {
			var millis int64
			if _, err := fmt.Sscanf(series[len(series)-len("1790000000000/METRIC_TYPE_GAUGE"):], "%d", &millis); err == nil && millis == at(2).UnixMilli() {
				http.Error(w, "never", http.StatusBadRequest)
				return
			}
		}
		written(n, r, w)
	})
	r := newRig(t, rx.URL, false)
	takesTogether(r)
	for n := range 5 {
		s := seal(t, r.encoder, at(n), "p")
		if n == 4 {
			s.body = []byte("no request at all")
		}
		if _, err := r.queue.Put(s.item, s.body); err != nil {
			t.Fatal(err)
		}
	}
	r.start(t)
	eventually(t, "an empty queue", func() bool { n, _, _, _ := r.queue.Stats(); return n == 0 })
	seen := map[string]bool{}
	for _, one := range rx.all() {
		seen[one.header.Get(wire.HeaderComplete)] = true
	}
	for n := range 5 {
		if !seen[wire.FormatMillis(at(n))] {
			t.Errorf("batch %d was not sent", n)
		}
	}
	if drops := r.queue.Drops(); len(drops) != 1 || drops[0].Samples != 2 || !drops[0].From.Equal(at(2)) || !drops[0].To.Equal(at(2)) {
		t.Errorf("dropped %+v", drops)
	}
}

// A server that does not say that it takes them has one request for each.
func TestAnOlderServerHasEachAlone(t *testing.T) {
	rx := newReceiver(t, written)
	r := newRig(t, rx.URL, false)
	at := time.Now().UTC().Truncate(30 * time.Second).Add(-time.Hour)
	for n := range 3 {
		s := seal(t, r.encoder, at.Add(time.Duration(n)*30*time.Second), "p")
		if _, err := r.queue.Put(s.item, s.body); err != nil {
			t.Fatal(err)
		}
	}
	r.start(t)
	eventually(t, "an empty queue", func() bool { n, _, _, _ := r.queue.Stats(); return n == 0 })
	for n, one := range rx.all() {
		if one.header.Get(wire.HeaderEarlier) != "" || n > 2 {
			t.Errorf("request %d: %v", n, one.header)
		}
	}
}

// A queue's batch that cannot be read ends a request, and is counted.
func TestWhatIsGoneFromTheQueueEndsARequest(t *testing.T) {
	r := newRig(t, newReceiver(t, written).URL, false)
	takesTogether(r)
	at := time.Now().UTC().Truncate(30 * time.Second).Add(-time.Hour)
	var items []*sealed
	for n := range 3 {
		s := seal(t, r.encoder, at.Add(time.Duration(n)*30*time.Second), "p")
		var err error
		if s.item, err = r.queue.Put(s.item, s.body); err != nil {
			t.Fatal(err)
		}
		items = append(items, s)
	}
	r.queue.Done(items[1].item)
	g := r.gather(items[0].item, items[0].body)
	if len(g.all) != 2 || g.Samples != 4 || len(g.earlier) != 1 {
		t.Errorf("%d batches, %+v", len(g.all), g.Item)
	}
	if _, err := r.queue.Read(items[1].item); !errors.Is(err, fault.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

func BenchmarkTogether(b *testing.B) {
	pods := make([]string, 750)
	for n := range pods {
		pods[n] = fmt.Sprintf("cart-5d8f7c9b4-%05d", n)
	}
	e := newEncoder()
	var bodies [][]byte
	for n := range maxTogether {
		bodies = append(bodies, seal(b, e, time.Unix(1_790_000_010+int64(n)*30, 0).UTC(), pods...).body)
	}
	joint := &Together{}
	for b.Loop() {
		joint.Reset()
		for _, body := range bodies {
			if ok, err := joint.Add(body); !ok || err != nil {
				b.Fatal(ok, err)
			}
		}
		joint.Body()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*maxTogether*1500), "ns/sample")
}
