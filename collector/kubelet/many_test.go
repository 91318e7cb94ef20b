package kubelet

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"runtime"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/crowsnest-dev/crowsnest/collector/reading"
	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/object"
)

// odd is how many label values stand before what a kubelet tells truly.
const odd = 10_000

// oddUID is one of a pod that nobody has created.
func oddUID(i int) string { return fmt.Sprintf("0dd00000-0000-4000-8000-%012d", i) }

var oddFamilies = []string{"cpu_usage_seconds_total", "memory_working_set_bytes", "oom_events_total", "processes", "start_time_seconds"}

// manyContainers is cAdvisor's answer with containers of pods that the API server does
// not know, in several families and before the true ones.
func manyContainers(true_ []byte) []byte {
	var out bytes.Buffer
	for _, name := range oddFamilies {
		for i := range odd {
			fmt.Fprintf(&out, "container_%s{container=\"odd\",id=\"/kubepods/pod%s/%064d\",name=\"%d\",namespace=\"odd\",pod=\"p%d\"} 1\n", name, oddUID(i), i, i, i)
		}
	}
	return append(out.Bytes(), true_...)
}

// manyInterfaces is cAdvisor's answer in which one true pod has so many interfaces.
func manyInterfaces(true_ []byte, pod string) []byte {
	var out bytes.Buffer
	for line := range strings.Lines(string(true_)) {
		if strings.HasPrefix(line, "container_network_") && strings.Contains(line, `pod="`+pod+`"`) {
			for i := range odd {
				out.WriteString(strings.Replace(line, `interface="eth0"`, fmt.Sprintf(`interface="odd%d"`, i), 1))
			}
		}
		out.WriteString(line)
	}
	return out.Bytes()
}

func manyResources(true_ []byte) []byte {
	var out bytes.Buffer
	for i := range odd {
		fmt.Fprintf(&out, "container_cpu_usage_seconds_total{container=\"c\",namespace=\"odd\",pod=\"p%d\"} 1\n", i)
		fmt.Fprintf(&out, "pod_cpu_usage_seconds_total{namespace=\"odd\",pod=\"p%d\"} 1\n", i)
	}
	return append(out.Bytes(), true_...)
}

// manyPods puts odd pods before the true ones of a summary.
func manyPods(true_ []byte) []byte {
	var out bytes.Buffer
	out.WriteString(`"pods": [`)
	for i := range odd {
		fmt.Fprintf(&out, `{"podRef":{"name":"p%d","namespace":"odd","uid":%q},"containers":[{"name":"c"}]},`, i, oddUID(i))
	}
	return []byte(strings.Replace(strings.Replace(string(true_), `"pods":[`, `"pods": [`, 1), `"pods": [`, out.String(), 1))
}

func manyProbes(now *state.Snapshot) []byte {
	var out bytes.Buffer
	line := func(uid, pod string) {
		fmt.Fprintf(&out, "prober_probe_total{container=\"c\",namespace=\"ns\",pod=%q,pod_uid=%q,probe_type=\"Liveness\",result=\"successful\"} 3\n", pod, uid)
	}
	for i := range odd {
		line(oddUID(i), "odd")
	}
	for uid, p := range now.Pods {
		line(uid, p.Name)
	}
	return out.Bytes()
}

// 10,000 label values in one scrape, by each way in: what they cost is bounded, they
// are counted, and what the kubelet tells of what runs is what it is without them,
// from the first answer on.
func Test10000LabelValuesInOneScrape(t *testing.T) {
	recording := recorded(t, "cadvisor_v1_cgroupfs.txt")
	now := running(t)
	var victim *object.Pod // a pod with an interface of its own
	for _, p := range told(t, recording).Pods {
		if o := now.Pods[p.UID]; o != nil && p.ReceiveBytes.OK() && (victim == nil || o.Name < victim.Name) {
			victim = o
		}
	}
	for name, tc := range map[string]struct {
		body map[string][]byte
		errs map[string]error
		own  string // a pod of which only its own traffic may be missing
	}{
		"containers in cAdvisor":      {body: map[string][]byte{pathCadvisor: manyContainers(recording)}},
		"interfaces of one pod":       {body: map[string][]byte{pathCadvisor: manyInterfaces(recording, victim.Name)}, own: victim.UID},
		"containers in the resources": {body: map[string][]byte{pathResource: manyResources(recorded(t, "resource.txt"))}, errs: map[string]error{pathCadvisor: fault.ErrNotFound}},
		"pods in the summary":         {body: map[string][]byte{pathSummary: manyPods(recorded(t, "summary_v1.json"))}, errs: map[string]error{pathCadvisor: fault.ErrNotFound, pathResource: fault.ErrNotFound}},
		"containers that were probed": {body: map[string][]byte{pathProbes: manyProbes(now)}},
	} {
		t.Run(name, func(t *testing.T) {
			read := func(body map[string][]byte) (*Source, []reading.Set, uint64) {
				f := newFake(t, recording)
				if f.bodies[pathProbes] == nil {
					f.bodies[pathProbes] = []byte{}
				}
				maps.Copy(f.bodies, body)
				maps.Copy(f.errs, tc.errs)
				s := source(t, f, true)
				var before, after runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				sets := s.Read(t.Context(), at, now)
				runtime.GC()
				runtime.ReadMemStats(&after)
				return s, sets, max(after.HeapAlloc, before.HeapAlloc) - before.HeapAlloc
			}
			_, want, _ := read(nil)
			s, got, held := read(tc.body)
			// What a source has no room for, others are asked for; then they are no part.
			whole := func(sets []reading.Set) string { return strings.ReplaceAll(sources(sets), "(partial)", "") }
			if whole(got) != whole(want) {
				t.Fatalf("the sources are %s, without them %s", sources(got), sources(want))
			}
			if n := testutil.ToFloat64(s.lines.WithLabelValues(refusedMany)); n < odd/4 {
				t.Errorf("%v were counted as refused", n)
			}
			if held > 48<<20 {
				t.Errorf("%d MiB are held afterwards", held>>20)
			}
			for i := range want {
				a, b := figuresOf(want[i], now), figuresOf(got[i], now)
				if len(a) == 0 && len(want[i].Containers) > 0 {
					t.Fatalf("%s tells of nothing that runs", want[i].Source)
				}
				for key, v := range a {
					if b[key] != v && (tc.own == "" || !strings.HasPrefix(key, "pod "+tc.own)) {
						t.Errorf("%s, %s: %s, without the odd ones %s", want[i].Source, key, b[key], v)
					}
				}
				if n := len(got[i].Containers) + len(got[i].Pods); n > maxSeries/2 {
					t.Errorf("%s: %d readings go on", got[i].Source, n)
				}
			}
			for _, p := range got[0].Pods {
				if p.UID == tc.own && (p.ReceiveBytes.OK() || p.NetworkErrors.OK()) {
					t.Errorf("a sum over some of the interfaces is told: %+v", p)
				}
			}
		})
	}
}

// figuresOf says what a set tells of what runs.
func figuresOf(set reading.Set, now *state.Snapshot) map[string]string {
	out := map[string]string{}
	known := (&expected{pods: map[string]bool{}})
	for uid, p := range now.Pods {
		known.pods[uid], known.pods[p.Namespace+"/"+p.Name] = true, true
	}
	for _, c := range set.Containers {
		if known.knows(c.PodUID, c.Namespace, c.Pod) {
			c.CPUSeconds.At, c.WorkingSetBytes.At = at, at
			out[fmt.Sprintf("container %s %s/%s/%s/%s", c.PodUID, c.Namespace, c.Pod, c.Name, c.ID)] = fmt.Sprint(c)
		}
	}
	for _, p := range set.Pods {
		if known.knows(p.UID, p.Namespace, p.Name) {
			out[fmt.Sprintf("pod %s %s/%s", p.UID, p.Namespace, p.Name)] = fmt.Sprint(p)
		}
	}
	for _, p := range set.Probes {
		if known.knows(p.PodUID, p.Namespace, p.Pod) {
			out[fmt.Sprintf("probe %s %s", p.PodUID, p.Pod)] = fmt.Sprint(p)
		}
	}
	if set.Host != nil {
		out["node"] = fmt.Sprint(*set.Host)
	}
	return out
}

// The same of pods on virtual nodes: by metrics.k8s.io, and by a pod that claims to be
// 10,000.
func Test10000LabelValuesOnAVirtualNode(t *testing.T) {
	now := elasticState(t)
	usage := usageOf(now)
	var items strings.Builder
	for i := range odd {
		fmt.Fprintf(&items, `{"metadata":{"name":"p%d","namespace":"odd"},"timestamp":"2026-11-23T10:00:00Z","containers":[{"name":"c","usage":{"cpu":"1","memory":"1"}}]},`, i)
	}
	var containers []string
	for i := range odd {
		containers = append(containers, fmt.Sprintf(`{"name":"c%d","usage":{"cpu":"1","memory":"1"}}`, i))
	}
	var one *object.Pod
	for _, p := range now.Pods {
		if one == nil || p.Name < one.Name {
			one = p
		}
	}
	usage = strings.Replace(usage, `"items":[`, `"items":[`+items.String(), 1)
	// The last pod has containers besides its own that it does not have.
	usage = strings.Replace(usage, `"}}]}]}`, `"}},`+strings.Join(containers, ",")+`]}]}`, 1)
	if !json.Valid([]byte(usage)) {
		t.Fatal("the answer is no JSON")
	}
	many := manyContainers(recorded(t, "cadvisor_v1_cgroupfs.txt"))
	small := many[:len(many)/len(oddFamilies)] // of one family is enough for a thousand pods
	for name, o := range map[string]Options{
		"metrics.k8s.io": {PodMetrics: func(_ context.Context, into io.Writer) error { _, err := io.WriteString(into, usage); return err }},
		"a pod itself": {PodEndpoint: func(_ context.Context, p *object.Pod, into io.Writer) error {
			body := recorded(t, "cadvisor_v1_cgroupfs.txt")
			if p == one {
				body = append(bytes.Clone(small[:bytes.LastIndexByte(small, '\n')+1]), body...)
			}
			_, err := into.Write(body)
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, nil)
			f.errs[pathSummary] = fault.ErrNotFound
			o.Fetcher, o.Now = f, source(t, f, false).now
			s, err := New(o)
			if err != nil {
				t.Fatal(err)
			}
			sets := s.Read(t.Context(), at, now)
			last := sets[len(sets)-1]
			if n, _ := delivered(last, expectations(now)["n"]); n < len(now.Pods) {
				t.Errorf("%s tells of %d of %d containers: %v", last.Source, n, len(now.Pods), last.Err)
			}
			if len(last.Containers) > 2*len(now.Pods) {
				t.Errorf("%d containers are told", len(last.Containers))
			}
			if n := testutil.ToFloat64(s.lines.WithLabelValues(refusedMany)); n < odd/4 {
				t.Errorf("%v were counted as refused", n)
			}
		})
	}
}

// An array of empty elements takes three bytes each: held as a slice, sixty times the
// answer's size.
func TestEmptyEntriesTakeNoMemory(t *testing.T) {
	const n = 1 << 20
	body := []byte(`{"pods":[{"containers":[` + strings.Repeat("{},", n) + `{}]},` + strings.Repeat("{},", n) + `{}]}`)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fits := roomy()
	set, err := summarySet("n", body, nil, fits)
	runtime.ReadMemStats(&after)
	if err != nil || len(set.Pods) > maxEntries || len(set.Containers) != maxParts {
		t.Errorf("%d pods, %d containers: %v", len(set.Pods), len(set.Containers), err)
	}
	if got := after.HeapSys - before.HeapSys; after.HeapSys > before.HeapSys && got > 64<<20 {
		t.Errorf("an answer of %d MiB took %d MiB", len(body)>>20, got>>20)
	}
	if fits.refused[refusedMany] < n {
		t.Errorf("refused %v", fits.refused)
	}
	// As with a slice, null is none, and anything else no list.
	if set, err := summarySet("n", []byte(`{"pods":null}`), nil, roomy()); err != nil || len(set.Pods) != 0 {
		t.Errorf("null: %v, %v", set, err)
	}
	if _, err := summarySet("n", []byte(`{"pods":7}`), nil, roomy()); err == nil {
		t.Error("a number was read as a list")
	}
}
