package logs

import (
	"context"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// jsonBatch is lines of 100 containers with the fields of a JSON line.
func jsonBatch(r *rand.Rand, n, lines int, at time.Time) *wire.LogBatch {
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	b := &wire.LogBatch{Sender: "node/n1", ID: fmt.Sprintf("%032x", uint64(n)*0x9e3779b97f4a7c15)}
	for c := range 100 {
		g := wire.LogGroup{Stream: wire.LogStream{Namespace: fmt.Sprintf("ns-%d", c%4), Pod: fmt.Sprintf("cart-%d", c), Container: "app", Stream: "stdout", WorkloadType: "deployment", Workload: fmt.Sprintf("cart-%d", c/10), Node: "n1"}}
		for i := range lines / 100 {
			t := at.Add(time.Duration(i)*time.Second + time.Duration(r.Int64N(int64(time.Second))))
			g.Lines = append(g.Lines, wire.LogLine{Time: t.UnixNano(), Message: pick("cart", "order", "payment", "stock", "checkout", "session", "coupon", "address", "invoice", "shipment") + " request handled", Fields: wire.LogFields{
				{Name: "level", Value: pick("info", "info", "info", "info", "info", "info", "debug", "debug", "warn", "error")}, {Name: wire.LagField, Value: fmt.Sprint(int(r.ExpFloat64()))},
				{Name: "method", Value: "GET"}, {Name: "path", Value: pick("/api/v1/cart/items", "/api/v1/orders", "/api/v1/login", "/static/app.js", "/healthz", "/api/v1/search")},
				{Name: "status", Value: pick("200", "200", "200", "201", "304", "404", "500")}, {Name: "duration_ms", Value: fmt.Sprintf("%.3f", r.ExpFloat64()*20)},
				{Name: "user_id", Value: fmt.Sprint(10_000 + r.IntN(50_000))}, {Name: "trace_id", Value: fmt.Sprintf("%016x%016x", r.Uint64(), r.Uint64())},
			}})
		}
		b.Groups = append(b.Groups, g)
	}
	return b
}

// positioned has a batch say how far it takes its containers, as a node's collector does.
func positioned(b *wire.LogBatch) *wire.LogBatch {
	for _, g := range b.Groups {
		last := g.Lines[len(g.Lines)-1].Time
		b.Positions = append(b.Positions, wire.LogPosition{
			LogSource: wire.LogSource{Key: fmt.Sprintf("%s-uid/%s", g.Stream.Pod, g.Stream.Container), Namespace: g.Stream.Namespace, Pod: g.Stream.Pod, Container: g.Stream.Container},
			From:      last, Taken: last, State: `{"file":{"same":1}}`,
		})
	}
	return b
}

// BenchmarkSustained stores 200,000 lines in batches as one collector sends them, without
// positions and with them.
func BenchmarkSustained(b *testing.B) {
	for _, with := range []bool{false, true} {
		b.Run(fmt.Sprintf("positions=%v", with), func(b *testing.B) { sustained(b, with) })
	}
}

func sustained(b *testing.B, positions bool) {
	const batches, lines = 20, 10_000
	all := make([]*wire.LogBatch, batches)
	r, start := rand.New(rand.NewPCG(1, 2)), dayStart()
	for n := range all {
		all[n] = jsonBatch(r, n, lines, start.Add(time.Duration(n)*100*time.Second))
		if positions {
			positioned(all[n])
		}
	}
	var used time.Duration
	var disk uint64
	for b.Loop() {
		s := open(b, b.TempDir(), func(o *Options) { o.CommitInterval = 500 * time.Millisecond })
		before := cpuTime(b)
		for _, x := range all {
			appendOK(b, s, "c1", x)
		}
		for last := cpuTime(b); ; { // until what came is merged
			time.Sleep(2 * time.Second)
			now := cpuTime(b)
			if now-last < 20*time.Millisecond {
				break
			}
			last = now
		}
		used += cpuTime(b) - before
		info, err := s.Info()
		if err != nil {
			b.Fatal(err)
		}
		disk = info.Bytes
		if testing.Verbose() {
			err := s.ask(context.Background(), "c1", "* | block_stats | stats by (field) sum(values_bytes) v, sum(bloom_bytes) b, sum(dict_bytes) d, count() n | sort by (v desc)", 0, 1<<62, func(r Row) { b.Log(r) })
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(used.Seconds()/float64(b.N)*1e6/(batches*lines), "CPU-s/Mlines")
	b.ReportMetric(float64(disk)/(batches*lines), "B/line")
}

func cpuTime(b *testing.B) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
