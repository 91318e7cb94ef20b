package collector_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"k8s.io/client-go/rest"

	"github.com/crowsnest-dev/crowsnest/collector/compute"
	"github.com/crowsnest-dev/crowsnest/collector/kube"
	"github.com/crowsnest-dev/crowsnest/collector/kubelet"
	"github.com/crowsnest-dev/crowsnest/collector/reading"
	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// The tests of this file are named after the flaws of the predecessor's rules
// (docs/flaws.md). They drive what a real API server and a real kubelet told at
// one moment, as it was recorded, through the watches, the kubelet's source and
// compute. F20 to F22 are in package host, F24 to F26 in package component.

// t0 lies just behind the recordings.
var t0 = time.Date(2026, 11, 23, 20, 26, 20, 0, time.UTC)

func sec(s int) time.Time { return t0.Add(time.Duration(s) * time.Second) }

func recorded(t *testing.T, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// objects is what an API server holds, by the last part of the list's path.
type objects map[string][]any

const testnode = `{"metadata":{"name":"testnode","uid":"node-1","creationTimestamp":"2026-11-23T19:21:24Z","labels":{"node-role.kubernetes.io/control-plane":""}},
	"status":{"capacity":{"cpu":"4","memory":"16Gi","pods":"110"},"allocatable":{"cpu":"2","memory":"8Gi","pods":"110"},
	"conditions":[{"type":"Ready","status":"True"},{"type":"DiskPressure","status":"False"}]}}`

func decode(t *testing.T, text string) map[string]any {
	t.Helper()
	var o map[string]any
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return o
}

// recordedObjects are the recorded pods, and their node.
func recordedObjects(t *testing.T) objects {
	t.Helper()
	var list struct{ Items []any }
	if err := json.Unmarshal(recorded(t, "kube/testdata/pods.json"), &list); err != nil {
		t.Fatal(err)
	}
	return objects{"pods": list.Items, "nodes": {decode(t, testnode)}}
}

// with adds objects, in the place of those of the same UID.
func (o objects) with(t *testing.T, kind string, texts ...string) objects {
	out := objects{}
	for k, v := range o {
		out[k] = v
	}
	for _, text := range texts {
		added := decode(t, text)
		var all []any
		for _, old := range out[kind] {
			if uid(old) != uid(added) {
				all = append(all, old)
			}
		}
		out[kind] = append(all, added)
	}
	return out
}

func uid(o any) any { return o.(map[string]any)["metadata"].(map[string]any)["uid"] }

var kinds = map[string]string{
	"pods": "v1 Pod", "nodes": "v1 Node", "namespaces": "v1 Namespace", "services": "v1 Service", "deployments": "apps/v1 Deployment", "statefulsets": "apps/v1 StatefulSet",
	"daemonsets": "apps/v1 DaemonSet", "replicasets": "apps/v1 ReplicaSet", "jobs": "batch/v1 Job", "cronjobs": "batch/v1 CronJob", "resourcequotas": "v1 ResourceQuota",
	"persistentvolumeclaims": "v1 PersistentVolumeClaim", "horizontalpodautoscalers": "autoscaling/v2 HorizontalPodAutoscaler", "endpointslices": "discovery.k8s.io/v1 EndpointSlice",
}

// snapshot gives what the collector makes of an API server's objects.
func snapshot(t *testing.T, o objects) *state.Snapshot {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		kind, known := kinds[path.Base(r.URL.Path)]
		version, name, _ := strings.Cut(kind, " ")
		switch {
		case !known:
			http.NotFound(w, r)
		case r.URL.Query().Get("watch") != "":
			if r.URL.Query().Get("sendInitialEvents") == "true" {
				for _, item := range o[path.Base(r.URL.Path)] {
					typed := map[string]any{"kind": name, "apiVersion": version}
					for k, v := range item.(map[string]any) {
						typed[k] = v
					}
					_ = json.NewEncoder(w).Encode(map[string]any{"type": "ADDED", "object": typed})
				}
				_ = json.NewEncoder(w).Encode(map[string]any{"type": "BOOKMARK", "object": map[string]any{"kind": name, "apiVersion": version,
					"metadata": map[string]any{"resourceVersion": "1", "annotations": map[string]any{"k8s.io/initial-events-end": "true"}}}})
			}
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		default:
			items := o[path.Base(r.URL.Path)]
			if items == nil {
				items = []any{}
			}
			_ = json.NewEncoder(w).Encode(map[string]any{"kind": name + "List", "apiVersion": version, "metadata": map[string]any{"resourceVersion": "1"}, "items": items})
		}
	}))
	defer srv.Close()
	client, err := kube.NewClient(&rest.Config{Host: srv.URL}, "test", "default", "test")
	if err != nil {
		t.Fatal(err)
	}
	defer client.HTTP().CloseIdleConnections()
	source, err := kube.NewSource(kube.Options{Client: client, Role: wire.RoleAll, Now: func() time.Time { return t0 }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	done := make(chan error, 1)
	go func() { done <- source.Run(ctx) }()
	for !source.Snapshot().Synced && ctx.Err() == nil {
		time.Sleep(2 * time.Millisecond)
	}
	now := source.Snapshot()
	cancel()
	<-done
	if !now.Synced {
		t.Fatalf("objects were not listed: %v", source.Health())
	}
	return now
}

// answers stands in for a kubelet.
type answers struct {
	bodies map[string][]byte
	err    error
}

func (a *answers) Fetch(_ context.Context, _ *object.Node, path string, into io.Writer) (time.Time, error) {
	if a.err != nil {
		return time.Time{}, a.err
	}
	_, err := into.Write(a.bodies[path])
	return time.Time{}, err
}

const cadvisorPath, summaryPath = "/metrics/cadvisor", "/stats/summary"

func kubeletAnswers(t *testing.T) *answers {
	return &answers{bodies: map[string][]byte{
		cadvisorPath: recorded(t, "kubelet/testdata/cadvisor_v1_cgroupfs.txt"), summaryPath: recorded(t, "kubelet/testdata/summary_v1.json"),
		"/metrics/resource": recorded(t, "kubelet/testdata/resource.txt"),
	}}
}

var counterLine = regexp.MustCompile(`^(container_cpu_usage_seconds_total|container_network_[a-z]+_bytes_total)(\{.*\}) ([0-9.e+]+) (\d+)$`)
var stamped = regexp.MustCompile(` (\d{13})$`)

// later is what the same kubelet would tell so many seconds on, when every
// container used a quarter of a core and every interface moved 1000 bytes a second.
func later(body []byte, seconds int) []byte {
	return moved(body, int64(seconds), 0.25*float64(seconds), 1000*float64(seconds))
}

// moved is what it would tell when so many CPU seconds and bytes had come to each
// counter.
func moved(body []byte, seconds int64, cpu, network float64) []byte {
	lines := strings.Split(string(body), "\n")
	for i, line := range lines {
		if m := counterLine.FindStringSubmatch(line); m != nil {
			v, _ := strconv.ParseFloat(m[3], 64)
			at, _ := strconv.ParseInt(m[4], 10, 64)
			more := cpu
			if strings.HasPrefix(line, "container_network") {
				more = network
			}
			lines[i] = fmt.Sprintf("%s%s %v %d", m[1], m[2], v+more, at+1000*seconds)
		} else if m := stamped.FindStringSubmatch(line); m != nil {
			at, _ := strconv.ParseInt(m[1], 10, 64)
			lines[i] = strings.TrimSuffix(line, m[1]) + strconv.FormatInt(at+1000*seconds, 10)
		}
	}
	return []byte(strings.Join(lines, "\n"))
}

// site is a collector of role all on the recordings.
type site struct {
	t        *testing.T
	kubelet  *kubelet.Source
	answers  *answers
	first    []byte // cAdvisor's recording
	computer *compute.Computer
	clock    time.Time
}

func newSite(t *testing.T) *site {
	s := &site{t: t, answers: kubeletAnswers(t), computer: compute.New(compute.Options{Role: wire.RoleAll, Sender: "all", Interval: 30 * time.Second})}
	s.first = s.answers.bodies[cadvisorPath]
	var err error
	if s.kubelet, err = kubelet.New(kubelet.Options{Fetcher: s.answers, Host: true, Now: func() time.Time { return s.clock }}); err != nil {
		t.Fatal(err)
	}
	return s
}

// tick gives the samples of one interval as "metric{label=value,…}" without the
// prefix k8s_. A series that ends is NaN; two samples of one series fail the test.
func (s *site) tick(seconds int, now *state.Snapshot) map[string]float64 {
	s.t.Helper()
	s.clock = sec(seconds)
	if s.answers.err == nil && len(s.answers.bodies[cadvisorPath]) > 0 {
		s.answers.bodies[cadvisorPath] = later(s.first, seconds)
	}
	return s.with(seconds, now, s.kubelet.Read(s.t.Context(), s.clock, now))
}

func (s *site) with(seconds int, now *state.Snapshot, sets []reading.Set) map[string]float64 {
	s.t.Helper()
	out := map[string]float64{}
	for _, sample := range s.computer.Interval(sec(seconds), sets, now) {
		var b strings.Builder
		b.WriteString(strings.TrimPrefix(sample.Metric, "k8s_") + "{")
		sample.Labels.Range(func(l labels.Label) { b.WriteString(l.Name + "=" + l.Value + ",") })
		name := strings.TrimSuffix(b.String(), ",") + "}"
		if _, twice := out[name]; twice {
			s.t.Errorf("%s has two samples at one time", name)
		}
		out[name] = sample.V
	}
	return out
}

// of finds the values of a metric whose labels hold all the given parts.
func of(samples map[string]float64, metric string, parts ...string) (values []float64) {
next:
	for name, v := range samples {
		if !strings.HasPrefix(name, metric+"{") || math.IsNaN(v) {
			continue
		}
		for _, p := range parts {
			if !strings.Contains(name, p) {
				continue next
			}
		}
		values = append(values, v)
	}
	return values
}

func one(t *testing.T, samples map[string]float64, want float64, metric string, parts ...string) {
	t.Helper()
	got := of(samples, metric, parts...)
	if len(got) != 1 || math.Abs(got[0]-want) > math.Abs(want)/1000 {
		t.Errorf("%s %v is %v, want one of %v", metric, parts, got, want)
	}
}

func none(t *testing.T, samples map[string]float64, metric string, parts ...string) {
	t.Helper()
	if got := of(samples, metric, parts...); len(got) > 0 {
		t.Errorf("%s %v is %v, want none", metric, parts, got)
	}
}

const web = "pod=web-5bf5696f85-55pln"

func TestF01ANodeThatIsDownKeepsItsSeries(t *testing.T) {
	s, all := newSite(t), recordedObjects(t)
	s.tick(0, snapshot(t, all))
	s.tick(30, snapshot(t, all))
	s.answers.err = errors.New("connection refused")
	down := all.with(t, "nodes", strings.Replace(testnode, `"type":"Ready","status":"True"`, `"type":"Ready","status":"Unknown"`, 1))
	got := s.tick(90, snapshot(t, down))
	one(t, got, 0, "node_status_ready", "node=testnode")
	one(t, got, 1, "cluster_node_not_ready_num")
	one(t, got, 0, "node_kubelet_ready", "node=testnode")
	one(t, got, 1, "pod_status_phase", web, "phase=Running")
	if n := len(of(got, "pod_status_ready")); n != 13 {
		t.Errorf("%d pods have a state, want 13", n)
	}
	none(t, got, "pod_cpu_core_used", web)
	one(t, got, 0, "crowsnest_source_up", "source=cadvisor")
	for name, v := range got {
		if math.IsNaN(v) {
			t.Errorf("%s ends, though only nobody can be asked", name)
		}
	}
}

func TestF02ARoleIsAnyRoleLabel(t *testing.T) {
	const kubeadm = `"node-role.kubernetes.io/control-plane":""`
	for labels, want := range map[string]string{
		kubeadm: "[control-plane]", `"node-role.kubernetes.io/master":"true"`: "[master]", `"node-role.kubernetes.io/gpu":"yes"`: "[gpu]",
		kubeadm + `,"node-role.kubernetes.io/etcd":""`: "[control-plane etcd]", `"zone":"x"`: "[]",
	} {
		now := snapshot(t, recordedObjects(t).with(t, "nodes", strings.Replace(testnode, kubeadm, labels, 1)))
		if got := fmt.Sprint(now.Nodes["testnode"].Roles); got != want {
			t.Errorf("labels %s give roles %s, want %s", labels, got, want)
		}
	}
}

// podText is a pod of a namespace; owner is "apiVersion Kind name uid" or empty.
func podText(namespace, name, owner, rest string) string {
	refs := ""
	if p := strings.Fields(owner); len(p) == 4 {
		refs = fmt.Sprintf(`,"ownerReferences":[{"apiVersion":%q,"kind":%q,"name":%q,"uid":%q,"controller":true}]`, p[0], p[1], p[2], p[3])
	}
	if rest == "" {
		rest = `"spec":{"nodeName":"testnode","containers":[{"name":"c"}]},"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}`
	}
	return fmt.Sprintf(`{"metadata":{"namespace":%q,"name":%q,"uid":"%s-%s","creationTimestamp":"2026-11-23T20:00:00Z"%s},%s}`, namespace, name, namespace, name, refs, rest)
}

func TestF03PodsOfOneNameInTwoNamespaces(t *testing.T) {
	all := recordedObjects(t).with(t, "pods", podText("other", "web-5bf5696f85-55pln", "apps/v1 StatefulSet web sts-1", ""))
	got := newSite(t).tick(0, snapshot(t, all))
	one(t, got, 1, "pod_status_ready", web, "namespace=default", "workload_type=deployment")
	one(t, got, 1, "pod_status_ready", web, "namespace=other", "workload_type=statefulset")
}

func TestF04APendingPodIsVisible(t *testing.T) {
	got := newSite(t).tick(0, snapshot(t, recordedObjects(t)))
	one(t, got, 0, "pod_status_ready", "pod=pending-54dc54dcdb-5gc2z", "workload=pending")
	one(t, got, 1, "pod_unschedulable", "pod=pending-54dc54dcdb-5gc2z")
	one(t, got, 1, "pod_waiting_reason", "pod=pending-54dc54dcdb-5gc2z", "reason=Unschedulable")
	one(t, got, 1, "cluster_pod_num", "phase=Pending")
	one(t, got, 12, "cluster_pod_num", "phase=Running")
	for name := range got {
		if strings.Contains(name, "pending-54dc54dcdb") && strings.Contains(name, "node=") {
			t.Errorf("%s has a node", name)
		}
	}
}

func TestF05OwnersAreFollowedToTheTop(t *testing.T) {
	all := recordedObjects(t).
		with(t, "cronjobs", `{"metadata":{"namespace":"e2e","name":"nightly","uid":"cj"},"spec":{"schedule":"0 3 * * *","jobTemplate":{"spec":{"template":{"spec":{"containers":[]}}}}}}`).
		with(t, "jobs", `{"metadata":{"namespace":"e2e","name":"nightly-1","uid":"j1","ownerReferences":[{"apiVersion":"batch/v1","kind":"CronJob","name":"nightly","uid":"cj","controller":true}]},"spec":{"template":{"spec":{"containers":[]}}}}`).
		with(t, "pods", podText("e2e", "nightly-1-x", "batch/v1 Job nightly-1 j1", ""), podText("e2e", "canary-0", "rollouts.example/v1 Rollout canary ro", ""))
	got := newSite(t).tick(0, snapshot(t, all))
	one(t, got, 1, "pod_status_ready", "pod=nightly-1-x", "workload=nightly,", "workload_type=cronjob")
	one(t, got, 1, "pod_status_ready", "pod=canary-0", "workload=canary", "workload_type=rollout")
	one(t, got, 1, "pod_status_ready", web, "workload=web", "workload_type=deployment")
}

// A pod that is replaced under its own name is for a moment two objects with the
// same labels. One series goes on; nothing fails, and nothing else is touched.
func TestF06ADuplicateSparesTheRest(t *testing.T) {
	s, all := newSite(t), recordedObjects(t)
	was := snapshot(t, all.with(t, "pods", podText("db", "main-0", "apps/v1 StatefulSet main sts", "")))
	s.tick(0, was)
	is := snapshot(t, all.with(t, "pods", strings.Replace(podText("db", "main-0", "apps/v1 StatefulSet main sts", ""), `"uid":"db-main-0"`, `"uid":"db-main-0-again"`, 1)))
	got := s.tick(30, is)
	one(t, got, 1, "pod_status_ready", "pod=main-0")
	if n := len(of(got, "pod_status_ready")); n != 14 {
		t.Errorf("%d pods have a state, want 14", n)
	}
	for name, v := range got {
		if math.IsNaN(v) {
			t.Errorf("%s ends, though it goes on", name)
		}
	}
}

func TestF07TrafficOnContainerd(t *testing.T) {
	s, now := newSite(t), snapshot(t, recordedObjects(t))
	if !strings.Contains(string(s.first), `container_network_receive_bytes_total{container="",`) {
		t.Fatal("the recording is not of containerd, whose sandbox has no container's name")
	}
	// The sandbox's name is empty there; dockershim called it POD.
	for _, sandbox := range []string{"", "POD"} {
		s, now := newSite(t), now
		s.first = regexp.MustCompile(`(?m)^([a-z_]+\{)container=""(,.*image="localhost/pause:1")`).ReplaceAll(s.first, fmt.Appendf(nil, "${1}container=%q${2}", sandbox))
		s.tick(0, now)
		got := s.tick(30, now)
		one(t, got, 1000, "pod_network_receive_bytes_bw", web)
		one(t, got, 1000, "pod_network_transmit_bytes_bw", web)
		// Of the recorded pods with a network of their own, none is left out.
		if n := len(of(got, "pod_network_receive_bytes_bw")); n != 11 {
			t.Errorf("with sandboxes called %q %d pods have traffic, want 11", sandbox, n)
		}
	}
}

func TestF08ARateDoesNotDependOnTheInterval(t *testing.T) {
	for _, interval := range []int{10, 15, 30, 40} {
		s, now := newSite(t), snapshot(t, recordedObjects(t))
		s.tick(0, now)
		got := s.tick(interval, now)
		one(t, got, 1000, "pod_network_receive_bytes_bw", web)
		one(t, got, 0.25, "container_cpu_core_used", web)
	}
	// A counter that was reset is no negative rate.
	s, now := newSite(t), snapshot(t, recordedObjects(t))
	counters := regexp.MustCompile(`(?m)^(container_(?:cpu|network)[^ ]*) [0-9.e+]+`)
	s.first = counters.ReplaceAll(s.first, []byte("${1} 1e+09"))
	s.tick(30, now)
	s.first = counters.ReplaceAll(s.first, []byte("${1} 1"))
	got := s.tick(60, now)
	none(t, got, "pod_network_receive_bytes_bw")
	for name, v := range got {
		if v < 0 {
			t.Errorf("%s is %v", name, v)
		}
	}
}

func TestF09HostNetworkPodsHaveNoTrafficOfTheirOwn(t *testing.T) {
	s, now := newSite(t), snapshot(t, recordedObjects(t))
	s.tick(0, now)
	got := s.tick(30, now)
	if !regexp.MustCompile(`(?m)^container_network_receive_bytes_total\{[^}]*pod="hostnet-`).Match(s.first) {
		t.Fatal("the recording does not tell of the node's interfaces under a pod's name")
	}
	none(t, got, "pod_network_receive_bytes_bw", "pod=hostnet")
	none(t, got, "pod_network_transmit_bytes_bw", "pod=hostnet")
	none(t, got, "pod_network_receive_packets", "pod=hostnet")
	one(t, got, 0.25, "container_cpu_core_used", "pod=hostnet")
}

func TestF10DiskFiguresThatAKernelDoesNotGiveAreSaidToLack(t *testing.T) {
	s, now := newSite(t), snapshot(t, recordedObjects(t))
	s.tick(0, now)
	got := s.tick(30, now)
	none(t, got, "container_fs_write_bytes")
	for _, name := range []string{catalogue.ContainerFSRead, catalogue.ContainerFSWrite, catalogue.PodFSRead} {
		if why := s.computer.Unavailable()[name]; !strings.Contains(why, "cgroup v1") {
			t.Errorf("%s lacks because %q", name, why)
		}
	}
}

func TestF11AlertsLookAtTheWorkingSet(t *testing.T) {
	for _, m := range catalogue.All() {
		if m.Alert != nil && strings.Contains(m.Name, "mem_usage") && m.Name != catalogue.NodeMemPercent {
			t.Errorf("%s counts the page cache, and has a default alert", m.Name)
		}
	}
	s, now := newSite(t), snapshot(t, recordedObjects(t))
	body := string(s.first)
	line := regexp.MustCompile(`(?m)^container_memory_working_set_bytes(\{container="app",id="[^"]*dbe6760d[^}]*\}) ([0-9.e+]+) (\d+)$`).FindStringSubmatch(body)
	if line == nil {
		t.Fatal("the recording has no working set of web")
	}
	// The same container with a page cache up to its limit of 64 MiB.
	s.first = []byte(body + "container_memory_usage_bytes" + line[1] + " 67108864 " + line[3] + "\n")
	ws, _ := strconv.ParseFloat(line[2], 64)
	got := s.tick(0, now)
	one(t, got, 100*ws/(64<<20), "pod_rate_mem_no_cache_limit", web)
	one(t, got, 100, "pod_rate_mem_usage_limit", web)
}

func TestF12AMissingLimitIsSaid(t *testing.T) {
	const running = `"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}`
	all := recordedObjects(t).with(t, "pods",
		podText("f12", "partial", "", `"spec":{"nodeName":"testnode","containers":[{"name":"a","resources":{"limits":{"cpu":"1"}}},{"name":"b"}]},`+running),
		podText("f12", "sidecar", "", `"spec":{"nodeName":"testnode","initContainers":[{"name":"s","restartPolicy":"Always"}],"containers":[{"name":"a","resources":{"limits":{"cpu":"1"}}}]},`+running),
		podText("f12", "init", "", `"spec":{"nodeName":"testnode","initContainers":[{"name":"i"}],"containers":[{"name":"a","resources":{"limits":{"cpu":"1"}}}]},`+running))
	s := newSite(t)
	s.tick(0, snapshot(t, all))
	got := s.tick(30, snapshot(t, all))
	one(t, got, 1, "pod_spec_missing", "pod=partial", "resource=cpu", "what=limit")
	one(t, got, 1, "pod_spec_missing", "pod=sidecar", "resource=cpu", "what=limit") // it goes on running beside the others
	none(t, got, "pod_spec_missing", "pod=init", "resource=cpu", "what=limit")      // it ended
	none(t, got, "pod_spec_missing", web, "what=limit")
	one(t, got, 125, "pod_rate_cpu_core_used_limit", web) // 0.25 of 0.2 cores
	none(t, got, "pod_rate_cpu_core_used_limit", "pod=hostnet")
}

func TestF13TotalsComeFromTheNodesThemselves(t *testing.T) {
	got := newSite(t).tick(0, snapshot(t, recordedObjects(t)))
	one(t, got, 2, "cluster_cpu_core_total")
	one(t, got, 8<<30, "cluster_memory_total")
	one(t, got, 2, "node_allocatable", "resource=cpu")
}

// The server names the cluster, by the credential; what is added up is added up
// within one collector's cluster, or by the server within the label.
func TestF14NoSampleNamesACluster(t *testing.T) {
	for name := range newSite(t).tick(0, snapshot(t, recordedObjects(t))) {
		if strings.Contains(name, "{cluster=") || strings.Contains(name, ",cluster=") {
			t.Errorf("%s names a cluster", name)
		}
	}
	for _, m := range catalogue.All() {
		if m.Sum != nil && m.Labels()[0] != "cluster" {
			t.Errorf("%s is not added up by cluster", m.Name)
		}
	}
}

func TestF15OneDenominatorForNodeAndCluster(t *testing.T) {
	s, now := newSite(t), snapshot(t, recordedObjects(t))
	s.tick(0, now)
	got := s.tick(30, now)
	one(t, got, 12.5, "container_rate_cpu_core_used_node", web) // 0.25 of 2 allocatable cores, not of 4
	one(t, got, of(got, "cluster_rate_cpu_core_request_cluster")[0]*2-100*of(got, "cluster_cpu_core_request")[0]/2, "cluster_rate_cpu_core_request_cluster")
	one(t, got, 100*of(got, "node_request", "resource=cpu")[0]/2, "node_rate_cpu_core_request_node")
}

func TestF16RequestsOfPodsThatEndedDoNotCount(t *testing.T) {
	before := of(newSite(t).tick(0, snapshot(t, recordedObjects(t))), "cluster_cpu_core_request")[0]
	const spec = `"spec":{"nodeName":"testnode","overhead":{"cpu":"250m"},"containers":[{"name":"a","resources":{"requests":{"cpu":"1"}}}]},`
	all := recordedObjects(t).with(t, "pods",
		podText("f16", "done", "", spec+`"status":{"phase":"Succeeded"}`), podText("f16", "evicted", "", spec+`"status":{"phase":"Failed","reason":"Evicted"}`),
		podText("f16", "runs", "", spec+`"status":{"phase":"Running"}`))
	one(t, newSite(t).tick(0, snapshot(t, all)), before+1.25, "cluster_cpu_core_request")
}

func TestF17ZeroIsZero(t *testing.T) {
	got := newSite(t).tick(0, snapshot(t, recordedObjects(t)))
	one(t, got, 0, "cluster_node_not_ready_num")
	one(t, got, 0, "cluster_pod_num", "phase=Failed")
	got = newSite(t).tick(0, snapshot(t, recordedObjects(t).with(t, "nodes", strings.Replace(testnode, `"status":"True"`, `"status":"False"`, 1))))
	one(t, got, 1, "cluster_node_not_ready_num") // all of them
}

func TestF18ThePauseContainerIsNoContainer(t *testing.T) {
	s, now := newSite(t), snapshot(t, recordedObjects(t))
	got := s.tick(0, now)
	running := 0
	for _, p := range now.Pods {
		for _, c := range p.Containers {
			if c.State == "running" {
				running++
			}
		}
	}
	if n := len(of(got, "container_mem_no_cache_bytes")); n != running || strings.Count(string(s.first), `image="localhost/pause:1"`) == 0 {
		t.Errorf("%d containers are measured, %d run", n, running)
	}
	none(t, got, "container_mem_no_cache_bytes", "container=POD")
}

func TestF19CardsAreCards(t *testing.T) {
	const spec = `"spec":{"nodeName":"testnode","containers":[{"name":"a","resources":{"requests":{%q:%q}}}]},"status":{"phase":"Running"}`
	all := recordedObjects(t).with(t, "nodes", strings.Replace(testnode, `"allocatable":{`, `"allocatable":{"nvidia.com/gpu":"4",`, 1)).with(t, "pods",
		podText("gpu", "whole", "", fmt.Sprintf(spec, "nvidia.com/gpu", "2")), podText("gpu", "part", "", fmt.Sprintf(spec, "tke.cloud.tencent.com/qgpu-core", "30")))
	got := newSite(t).tick(0, snapshot(t, all))
	one(t, got, 2, "pod_gpu_request", "pod=whole")
	one(t, got, 0.3, "pod_gpu_request", "pod=part")
	one(t, got, 4, "node_allocatable", "resource=gpu")
	one(t, got, 2.3, "node_request", "resource=gpu")
}

// The rates of consecutive intervals cover the time without a gap and without an
// overlap, so that their average is the counter's own.
func TestF23RatesAreAveragesOfAllThatHappened(t *testing.T) {
	s := newSite(t)
	now := snapshot(t, recordedObjects(t))
	counter, sum := 0.0, 0.0
	read := []int64{0, 23, 51, 78, 112, 133} // the kubelet's own times, after those of the recording
	for i, at := range read {
		if i > 0 {
			counter += float64(i) * 7 // bursts of any size
		}
		s.clock = sec(30 * i)
		s.answers.bodies[cadvisorPath] = moved(s.first, at, counter, 0)
		got := of(s.with(30*i, now, s.kubelet.Read(t.Context(), s.clock, now)), "container_cpu_core_used", web)
		if i > 0 {
			if len(got) != 1 {
				t.Fatalf("interval %d has no rate", i)
			}
			sum += got[0] * float64(at-read[i-1])
		}
	}
	if math.Abs(sum-counter) > counter/1000 {
		t.Errorf("the rates add up to %v CPU seconds of %v", sum, counter)
	}
}

func TestF27JobsAndCronJobs(t *testing.T) {
	const cron = `{"metadata":{"namespace":"e2e","name":"nightly","uid":"cj"},"spec":{"schedule":"0 * * * *","jobTemplate":{"spec":{"template":{"spec":{"containers":[]}}}}},"status":{"lastScheduleTime":"2026-11-23T20:00:00Z"}}`
	job := func(name, created, condition string) string {
		return fmt.Sprintf(`{"metadata":{"namespace":"e2e","name":%q,"uid":%q,"creationTimestamp":%q,"ownerReferences":[{"apiVersion":"batch/v1","kind":"CronJob","name":"nightly","uid":"cj","controller":true}]},
			"spec":{"template":{"spec":{"containers":[]}}},"status":{"startTime":%q,"conditions":[{"type":%q,"status":"True"}]}}`, name, name, created, created, condition)
	}
	failed := recordedObjects(t).with(t, "cronjobs", cron).with(t, "jobs", job("n-1", "2026-11-23T19:00:00Z", "Failed"))
	got := newSite(t).tick(0, snapshot(t, failed))
	one(t, got, 1, "workload_job_failed", "workload=nightly")
	one(t, got, 1, "workload_abnormal", "workload=nightly")
	got = newSite(t).tick(0, snapshot(t, failed.with(t, "jobs", job("n-2", "2026-11-23T20:00:00Z", "Complete"))))
	one(t, got, 0, "workload_job_failed", "workload=nightly") // a later one succeeded
	one(t, got, 0, "workload_abnormal", "workload=nightly")
	one(t, got, 0, "workload_cronjob_missed", "workload=nightly")
}

func TestF28PodsThatEndedAreNotOnTheNode(t *testing.T) {
	before := of(newSite(t).tick(0, snapshot(t, recordedObjects(t))), "node_pod_num")[0]
	all := recordedObjects(t).with(t, "pods", podText("f28", "done", "", `"spec":{"nodeName":"testnode","containers":[{"name":"c"}]},"status":{"phase":"Succeeded"}`))
	one(t, newSite(t).tick(0, snapshot(t, all)), before, "node_pod_num")
}

func TestF29ACrashLoopIsNotReady(t *testing.T) {
	got := newSite(t).tick(0, snapshot(t, recordedObjects(t)))
	one(t, got, 0, "pod_status_ready", "pod=crash,")
	one(t, got, 1, "pod_status_phase", "pod=crash,", "phase=Running") // as Kubernetes calls it
	one(t, got, 1, "pod_waiting_reason", "pod=crash,", "reason=CrashLoopBackOff")
	one(t, got, 0, "pod_status_ready", "pod=notready") // a readiness probe that fails
}

// Whatever happens between two intervals, and however it is spread, is in the
// counter's increase.
func TestF30NoRestartIsLost(t *testing.T) {
	s := newSite(t)
	// The recorded pod that crashes, and crashed eight times by then.
	crashed := func(n int) objects {
		all := recordedObjects(t)
		for _, p := range all["pods"] {
			if p := p.(map[string]any); p["metadata"].(map[string]any)["name"] == "crash-66d65d58c-4ntx8" {
				p["status"].(map[string]any)["containerStatuses"].([]any)[0].(map[string]any)["restartCount"] = n
				return all
			}
		}
		t.Fatal("it is not among the recorded pods")
		return nil
	}
	var got map[string]float64
	for i, n := range []int{8, 8, 11, 12, 12} { // three at once, one more
		got = s.tick(30*i, snapshot(t, crashed(n)))
		one(t, got, float64(n), "pod_restart_total", "pod=crash-66d65d58c-4ntx8")
	}
	one(t, got, 4, "workload_pod_restart_total", "namespace=e2e", "workload=crash,")
	m, _ := catalogue.Get(catalogue.PodRestarts)
	if m.Alert.Statistic != catalogue.Increase || m.Alert.Need != 1 {
		t.Errorf("the default alert is %+v, want one that fires when it happened once", m.Alert)
	}
}

// The predecessor recorded 28 series for each container, pause ones included, and
// 36 for each pod, whatever anyone looked at.
func TestF31CostOfAPod(t *testing.T) {
	count := func(families []catalogue.Family) int {
		s := newSite(t)
		s.computer.SetFamilies(families)
		now := snapshot(t, recordedObjects(t))
		s.tick(0, now)
		n := 0
		for name, v := range s.tick(30, now) {
			if strings.Contains(name, web) && !math.IsNaN(v) {
				n++
			}
		}
		return n
	}
	core, all := count([]catalogue.Family{catalogue.CoreFamily}), count(nil)
	t.Logf("a pod of one container has %d series of the core, %d with everything", core, all)
	if core > 13 || all > 60 {
		t.Errorf("a pod of one container has %d series of the core, at most 13, and %d with everything, at most 60; the predecessor had 28 + 28 + 36", core, all)
	}
}

// While a container is replaced, cAdvisor tells of its old cgroup and its new one.
func TestF32TwoCgroupsOfOneContainer(t *testing.T) {
	s, all := newSite(t), recordedObjects(t)
	now := snapshot(t, all)
	s.tick(0, now)
	s.tick(30, now)
	const fresh = "aaaa1b9f18d89ede50a00d0a368dbbd92df68d58a1112d08eca28b0256057068"
	var id string
	for _, p := range now.Pods {
		if p.Name == "web-5bf5696f85-55pln" {
			id = p.Containers[0].ID
		}
	}
	// The new instance has its own cgroup beside the old one, with small counters.
	var more []string
	for _, line := range strings.Split(string(s.first), "\n") {
		if strings.Contains(line, id) {
			line = strings.ReplaceAll(line, id, fresh)
			line = regexp.MustCompile(`^(container_cpu[^ ]*) [0-9.]+`).ReplaceAllString(line, "${1} 0.5")
			line = regexp.MustCompile(`^(container_start_time_seconds[^ ]*) [0-9.e+]+`).ReplaceAllString(line, "${1} 1.795465600e+09")
			line = regexp.MustCompile(`^(container_memory_working_set_bytes[^ ]*) [0-9.e+]+`).ReplaceAllString(line, "${1} 4096")
			more = append(more, line)
		}
	}
	s.first = []byte(string(s.first) + strings.Join(more, "\n") + "\n")
	raw, _ := json.Marshal(all["pods"])
	var pods []any
	if err := json.Unmarshal([]byte(strings.ReplaceAll(string(raw), id, fresh)), &pods); err != nil {
		t.Fatal(err)
	}
	replaced := snapshot(t, objects{"pods": pods, "nodes": all["nodes"]})
	got := s.tick(60, replaced)
	one(t, got, 4096, "container_mem_no_cache_bytes", web) // once, not twice
	one(t, got, 4096, "pod_mem_no_cache_bytes", web)
	none(t, got, "container_cpu_core_used", web) // a first reading gives no rate, above all no spike
	got = s.tick(90, replaced)
	one(t, got, 0.25, "container_cpu_core_used", web)
}

func TestEveryFlawHasItsTestAndItsLine(t *testing.T) {
	page := string(recorded(t, "../docs/flaws.md"))
	code := string(recorded(t, "flaws_test.go")) + string(recorded(t, "host/flaws_test.go")) + string(recorded(t, "component/flaws_test.go"))
	for n := 1; n <= 32; n++ {
		test := regexp.MustCompile(fmt.Sprintf(`TestF%02d\w+`, n))
		name := test.FindString(page)
		if name == "" || !strings.Contains(code, "func "+name+"(") || !strings.Contains(page, fmt.Sprintf("| F%d |", n)) {
			t.Errorf("F%d: the page names %q", n, name)
		}
	}
}
