package inventory

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// A large cluster: each Deployment has 10 pods of two containers, and a hundredth of all
// pods are replaced each minute.
const (
	largeNodes = 5_000
	largePods  = 150_000
	largeEach  = 10 // pods of a Deployment
)

func largePod(n int, phase string) *object.Pod {
	w := n % (largePods / largeEach)
	name := fmt.Sprintf("service-%05d", w)
	some := object.Resources{CPUCores: 0.25, HasCPU: true, MemoryBytes: 256 << 20, HasMemory: true}
	p := &object.Pod{
		Meta: object.Meta{
			UID: fmt.Sprintf("%08x-5b1c-4c6e-9d0a-%012x", n, n), Namespace: fmt.Sprintf("team-%03d", w%200), Name: fmt.Sprintf("%s-7d9f8b6c5d-%05x", name, n),
			Labels: map[string]string{"app": name, "pod-template-hash": "7d9f8b6c5d", "team": fmt.Sprintf("team-%03d", w%200)}, CreatedAt: t0,
		},
		Node: fmt.Sprintf("node-%04d.zone-%d.example.com", n%largeNodes, n%3), Workload: object.WorkloadRef{Type: "deployment", Name: name}, Phase: phase,
		IP: fmt.Sprintf("10.%d.%d.%d", n>>16, n>>8&255, n&255), StartedAt: t0, ScheduledAt: t0, Requests: some, Limits: some,
	}
	for i, c := range []string{"app", "proxy"} {
		p.Containers = append(p.Containers, object.Container{
			Name: c, ID: fmt.Sprintf("%064x", 2*n+i), Image: "registry.example.com/" + name + ":1.4.2", State: "running", Ready: true, StartedAt: t0, Requests: some, Limits: some,
		})
	}
	return p
}

// decoded gives a batch as it comes from a collector.
func decoded(b testing.TB, batch *wire.InventoryBatch) *wire.InventoryBatch {
	body, err := json.Marshal(batch)
	if err != nil {
		b.Fatal(err)
	}
	if batch, err = wire.UnmarshalInventoryBatch(body); err != nil {
		b.Fatal(err)
	}
	return batch
}

// heap gives what lives.
func heap() (bytes, objects uint64) {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what was swept by the first
	runtime.ReadMemStats(&m)
	return m.HeapAlloc, m.HeapObjects
}

// cpuTime is what this process has taken; it does not depend on what else runs.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkLargeCluster tells what a pod takes in memory, what a garbage collection of
// all of them costs, and what a batch costs that replaces 25 pods, the changes of a second,
// where the pods are listed every 15.
func BenchmarkLargeCluster(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "inventory.db"), &clock{now: t0})
	seq := uint64(0)
	apply := func(batch *wire.InventoryBatch) {
		if err := s.Apply(b.Context(), "prod", batch); err != nil {
			b.Fatal(err)
		}
	}
	next := func(batch *wire.InventoryBatch) *wire.InventoryBatch {
		seq++
		batch.Session, batch.Sequence, batch.Time = "s1", seq, t0
		return decoded(b, batch)
	}
	emptyBytes, emptyObjects := heap()
	const size = 3_000
	for from := 0; from < largePods; from += size {
		batch := &wire.InventoryBatch{Snapshot: true, Last: from+size == largePods}
		for n := range size {
			batch.Put(largePod(from+n, object.PhaseRunning))
		}
		apply(next(batch))
	}
	if n := len(s.List("prod", object.KindPod)); n != largePods {
		b.Fatalf("%d pods", n)
	}
	bytes, objects := heap()
	collected := time.Hour
	for range 10 { // the least: processors that have nothing to do help, and count
		began := cpuTime(b)
		runtime.GC()
		collected = min(collected, cpuTime(b)-began)
	}
	var batches []*wire.InventoryBatch
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		if len(batches) == 0 {
			b.StopTimer()
			for range 200 {
				batch := &wire.InventoryBatch{}
				for range 25 {
					old := largePod(n, object.PhaseRunning)
					batch.Deleted = append(batch.Deleted, wire.Deleted{Key: object.KeyOf(old), UID: old.UID})
					batch.Put(largePod(n+largePods, object.PhasePending))
					n++
				}
				batches = append(batches, next(batch))
			}
			slices.Reverse(batches)
			b.StartTimer()
		}
		apply(batches[len(batches)-1])
		if batches = batches[:len(batches)-1]; len(batches)%15 == 0 {
			s.List("prod", object.KindPod)
		}
	}
	b.ReportMetric(float64(bytes-emptyBytes)/largePods, "B/pod")
	b.ReportMetric(float64(objects-emptyObjects)/largePods, "objects/pod")
	b.ReportMetric(float64(collected.Microseconds())/1000, "gc-cpu-ms")
}
