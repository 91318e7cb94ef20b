//go:build e2e

package e2e

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

// What is measured agrees with the kernel's own figures. A sample is a rate over
// the last two readings that the kubelet took, which lie up to 45 s back and do
// not stand on our clock. So the load is even, the window is long, and the
// average of the samples is compared with what the group used meanwhile.
func TestAccuracy(t *testing.T) {
	const (
		window    = 4 * time.Minute
		lag       = 45 * time.Second // of the oldest reading that a sample may be made of
		tolerance = 0.02
	)
	steady := workloadPod(t, "steady")
	podGroup, err := testbed.FindCgroup(steady.Metadata.UID)
	if err != nil {
		t.Fatal(err)
	}
	// The pod's memory is that of its containers: the sandbox is none.
	appGroup, err := testbed.FindCgroup(steady.containerID("app"))
	if err != nil {
		t.Fatal(err)
	}

	from := time.Now()
	usedBefore, readBefore, err := podGroup.CPUUsed()
	if err != nil {
		t.Fatal(err)
	}
	var memory, readings float64
	ticker := time.NewTicker(2 * time.Second)
	defer ticker.Stop()
	for time.Since(from) < window {
		<-ticker.C
		bytes, err := appGroup.WorkingSet()
		if err != nil {
			t.Fatal(err)
		}
		memory, readings = memory+float64(bytes), readings+1
	}
	usedAfter, readAfter, err := podGroup.CPUUsed()
	if err != nil {
		t.Fatal(err)
	}
	to := time.Now()
	cores := (usedAfter - usedBefore).Seconds() / readAfter.Sub(readBefore).Seconds()

	for _, s := range []*site{bed.pods, bed.outside} {
		for _, tc := range []struct {
			metric, unit string
			want         float64
		}{
			{catalogue.PodCPU, "cores", cores},
			{catalogue.PodMem, "bytes", memory / readings},
			{catalogue.WorkloadCPU, "cores", cores},
			{catalogue.WorkloadMem, "bytes", memory / readings},
			{catalogue.ContainerCPU, "cores", cores},
			{catalogue.ContainerMem, "bytes", memory / readings},
		} {
			t.Run(s.name+"/"+tc.metric, func(t *testing.T) {
				selector := fmt.Sprintf(`%s{cluster=%q,namespace="e2e",workload="steady"}`, tc.metric, s.server.Cluster)
				// Rollups are written some seconds after their interval: the last may be missing.
				series, err := s.server.Raw(t.Context(), selector, from.Add(lag), to)
				if err != nil {
					t.Fatal(err)
				}
				if len(series) != 1 {
					t.Fatalf("%d series, want one:\n%s", len(series), testbed.Describe(series))
				}
				sum := 0.0
				for _, point := range series[0].Points {
					sum += point.V
				}
				n := len(series[0].Points)
				if least := int((window-lag)/interval) - 2; n < least {
					t.Fatalf("%d samples in %s, want at least %d", n, window-lag, least)
				}
				got := sum / float64(n)
				off := (got - tc.want) / tc.want
				t.Logf("role %s: %.6g %s measured (%d samples), %.6g by the kernel: %+.2f %%", s.role, got, tc.unit, n, tc.want, off*100)
				if math.Abs(off) > tolerance {
					t.Errorf("is off by %+.2f %%, want at most %.0f %%", off*100, tolerance*100)
				}
			})
		}
	}
}
