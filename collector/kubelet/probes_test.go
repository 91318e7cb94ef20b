package kubelet

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/collector/reading"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
)

func countedProbes(t *testing.T, body []byte) (r *probes, lines []string) {
	t.Helper()
	r = newProbes(at)
	for len(body) > 0 { // as it comes over the network
		n := min(len(body), 777)
		if _, err := r.Write(body[:n]); err != nil {
			t.Fatal(err)
		}
		body = body[n:]
	}
	r.rest()
	for _, p := range r.out {
		if p.PodUID == "" || !p.Count.At.Equal(at) {
			t.Errorf("%+v", p)
		}
		lines = append(lines, fmt.Sprintf("%s/%s %s %s %s %g", p.Namespace, p.Pod, p.Container, p.Probe, p.Result, p.Count.V))
	}
	slices.Sort(lines)
	return r, lines
}

func TestProbesThatMakeNoSenseAreCounted(t *testing.T) {
	const labels = `container="c",namespace="ns",pod="p",pod_uid="u",`
	r, lines := countedProbes(t, []byte(strings.Join([]string{
		"# HELP prober_probe_total counts", "# TYPE prober_probe_total counter",
		"prober_probe_total{" + labels + `probe_type="Liveness",result="successful"} 7`,
		"prober_probe_total{" + labels + `probe_type="Made up",result="successful"} 1`,
		"prober_probe_total{" + labels + `probe_type="Liveness",result="made up"} 1`,
		"prober_probe_total{" + labels + `probe_type="Readiness",result="failed"} NaN`,
		"prober_probe_total{" + labels + `probe_type="Readiness",result="failed"} -1`,
		`prober_probe_total{container="c",namespace="ns",pod="p",probe_type="Readiness",result="failed"} 1`, // whose?
		`prober_probe_total{container="c`,
		`prober_probe_total{container="` + "\xff" + `"} 1`,
		`prober_probe_duration_seconds_bucket{` + labels + `le="1"} 5`,
		"prober_probe_total{" + strings.Repeat("x", maxLine) + "} 1",
		"prober_probe_total{" + labels + `probe_type="Startup",result="unknown"} 2`,
		"prober_probe_total{" + labels + `probe_type="Startup",result="failed"} 2`, // of 25, maybe: it has no end
	}, "\n")))
	if got, want := strings.Join(lines, "; "), "ns/p c liveness successful 7; ns/p c startup unknown 2"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := fmt.Sprint(r.refused), fmt.Sprint(map[string]int{refusedMalformed: 6, refusedNumber: 1, refusedNegative: 1, refusedLong: 1}); got != want {
		t.Errorf("refused %s, want %s", got, want)
	}
	var many strings.Builder
	for i := range maxProbes + 10 {
		fmt.Fprintf(&many, "prober_probe_total{container=\"c%d\",%sprobe_type=\"Liveness\",result=\"failed\"} 1\n", i, labels[len(`container="c",`):])
	}
	if r, lines := countedProbes(t, []byte(many.String())); len(lines) != maxProbes || r.refused[refusedMany] != 10 {
		t.Errorf("%d probes are kept, %v refused", len(lines), r.refused)
	}
}

// The kubelet is asked once a minute, and what it said holds meanwhile. That it
// does not tell of probes is no trouble of the source, and said once.
func TestProbesAreReadOnceAMinute(t *testing.T) {
	f := newFake(t, recorded(t, "cadvisor_v1_cgroupfs.txt"))
	f.bodies[pathProbes] = []byte(`prober_probe_total{container="c",namespace="ns",pod="p",pod_uid="u",probe_type="Liveness",result="failed"} 3` + "\n")
	now := at
	s, err := New(Options{Fetcher: f, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	read := func() reading.Set {
		sets := s.Read(t.Context(), now, running(t))
		for _, other := range sets[1:] {
			if len(other.Probes) > 0 {
				t.Errorf("%s tells of probes too", other.Source)
			}
		}
		return sets[0]
	}
	for i := range 4 {
		if set := read(); set.Err != nil || len(set.Probes) != 1 || set.Probes[0].Count.V != 3 {
			t.Errorf("read %d: %+v, %v", i, set.Probes, set.Err)
		}
		now = now.Add(30 * time.Second)
	}
	if f.asked[pathProbes] != 2 {
		t.Errorf("asked %d times in two minutes", f.asked[pathProbes])
	}
	f.errs[pathProbes] = errors.New("kubelet answered 404: 404 page not found")
	set := read()
	if set.Err != nil || set.Lacking[catalogue.ContainerProbes] != f.errs[pathProbes].Error() || len(set.Probes) != 1 {
		t.Errorf("not told: %+v, %v, %v", set.Probes, set.Err, set.Lacking)
	}
}

// What a real kubelet says: of 209 lines, 20 count probes.
func TestProbesOfARealKubelet(t *testing.T) {
	r, lines := countedProbes(t, recorded(t, "probes.txt"))
	if len(lines) != 20 || len(r.refused) != 0 {
		t.Fatalf("%d probes, %v refused:\n%s", len(lines), r.refused, strings.Join(lines, "\n"))
	}
	for _, want := range []string{
		"default/probed-56b8845b45-9xfkf app liveness successful 136", "default/probed-56b8845b45-9xfkf app readiness failed 156",
		"default/probed-56b8845b45-9xfkf app startup successful 1", "crowsnest/crowsnest-collector-cluster-764d5bc76f-dzrk5 collector readiness failed 2",
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("%s is not among\n%s", want, strings.Join(lines, "\n"))
		}
	}
	for _, p := range r.out {
		if strings.HasPrefix(p.Pod, "probed-56b8845b45-9xfkf") && p.PodUID != "76a55052-7c3e-4520-874b-621418ff031f" {
			t.Errorf("%+v", p)
		}
	}
}

// BenchmarkProbes reads what a node of 110 pods with two probes each says.
func BenchmarkProbes(b *testing.B) {
	var body strings.Builder
	for i := range 220 {
		ls := fmt.Sprintf(`container="app",namespace="default",pod="probed-56b8845b45-%05d",pod_uid="76a55052-7c3e-4520-874b-%012d",probe_type="Liveness"`, i/2, i/2)
		for range 12 {
			fmt.Fprintf(&body, "prober_probe_duration_seconds_bucket{%s,le=\"0.005\"} 1\n", ls)
		}
		fmt.Fprintf(&body, "prober_probe_total{%s,result=\"successful\"} 136\n", ls)
	}
	b.SetBytes(int64(body.Len()))
	for b.Loop() {
		r := newProbes(at)
		_, _ = r.Write([]byte(body.String()))
		if len(r.out) != 220 {
			b.Fatal(len(r.out))
		}
	}
}

func FuzzProbes(f *testing.F) {
	f.Add([]byte(`prober_probe_total{container="c",namespace="ns",pod="p",pod_uid="u",probe_type="Liveness",result="failed"} 3` + "\n"))
	f.Add([]byte("prober_probe_total{container=\"c\\\\\\\"\"} 1e400 5\nprober_probe_total{"))
	f.Fuzz(func(t *testing.T, body []byte) {
		r := newProbes(at)
		_, _ = r.Write(body[:len(body)/2])
		_, _ = r.Write(body[len(body)/2:])
		r.rest()
		for _, p := range r.out {
			if p.PodUID == "" || p.Container == "" || p.Probe == "" || !probeResults[p.Result] || !(p.Count.V >= 0) || p.Count.V > 1e300 {
				t.Errorf("%+v", p)
			}
		}
	})
}
