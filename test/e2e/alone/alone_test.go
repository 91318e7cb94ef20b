//go:build e2e

// Package alone holds what breaks the whole test cluster on purpose, and so cannot
// run beside other end-to-end tests: make e2e-alone, as root on Debian.
package alone

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

// interval is the collector's.
const interval = 15 * time.Second

// rig is a cluster with a server and a collector in role all beside it.
type rig struct {
	t       *testing.T
	cluster *testbed.Cluster
	server  *testbed.Server
	// collect starts a collector of role all, which goes on where the one before ended,
	// or with other arguments.
	collect func(args ...string) *testbed.Process
}

const workloads = `
apiVersion: v1
kind: Namespace
metadata: {name: alone}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: steady, namespace: alone}
spec:
  replicas: 2
  selector: {matchLabels: {app: steady}}
  template:
    metadata: {labels: {app: steady}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: app
        image: localhost/busybox:1
        imagePullPolicy: Never
        command: ["/bin/sh", "-c", "held=$(head -c 16000000 /dev/zero | tr '\\0' x); while :; do :; done"]
        resources: {requests: {cpu: 100m, memory: 100Mi}, limits: {cpu: 100m, memory: 100Mi}}
      - name: side
        image: localhost/busybox:1
        imagePullPolicy: Never
        command: ["/bin/sh", "-c", "while :; do sleep 1; done"]
        resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {cpu: 50m, memory: 32Mi}}
`

func setUp(t *testing.T) *rig {
	t.Helper()
	ctx := t.Context()
	dir := t.TempDir()
	cluster, err := testbed.Up(ctx, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, cluster: cluster}
	t.Cleanup(func() { _ = cluster.Down(context.WithoutCancel(ctx), os.Stderr) })
	if err := errors.Join(cluster.DeleteNamespaces(ctx, "alone"), cluster.Apply(ctx, workloads)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cluster.DeleteNamespaces(context.WithoutCancel(ctx), "alone") })
	if err := cluster.WaitRolledOut(ctx, "alone", 5*time.Minute, "deployment/steady"); err != nil {
		cluster.Dump(ctx, "alone", os.Stderr)
		t.Fatal(err)
	}
	address, err := testbed.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	token := filepath.Join(dir, "ingest-token")
	if err := os.WriteFile(token, []byte("alone-ingest-token-of-this-run-only-0123\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.server = &testbed.Server{URL: "http://" + address, Cluster: "alone"}
	server, err := testbed.Start(dir, "server", filepath.Join(cluster.Root, "bin/crowsnest"), "server",
		"--data", filepath.Join(dir, "data"), "--listen", address, "--ingest-token-file", r.server.Cluster+"="+token)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop(20 * time.Second) })
	if err := server.WaitReady(ctx, r.server, time.Minute); err != nil {
		t.Fatal(err)
	}
	started := 0
	r.collect = func(args ...string) *testbed.Process {
		t.Helper()
		started++
		if len(args) == 0 {
			args = []string{"--role", "all", "--data", filepath.Join(dir, "collector")}
		}
		collector, err := testbed.Start(dir, fmt.Sprint("collector-", started), filepath.Join(cluster.Root, "bin/crowsnest-collector"), append([]string{"--kubeconfig", cluster.Kubeconfig,
			"--server", r.server.URL, "--token-file", token, "--interval", interval.String(), "--listen", "", "--no-logs"}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = collector.Stop(20 * time.Second)
			if t.Failed() {
				t.Logf("a collector says:\n%s", collector.Tail(60))
			}
		})
		return collector
	}
	return r
}

func (r *rig) await(timeout time.Duration, what string, check func(context.Context) error) {
	r.t.Helper()
	if err := testbed.Await(r.t.Context(), timeout, time.Second, check); err != nil {
		r.t.Fatalf("%s: %v", what, err)
	}
}

// killKubelet ends the kubelet as a dying node does.
func (r *rig) killKubelet() time.Time {
	r.t.Helper()
	file := filepath.Join(r.cluster.State, "pid/kubelet")
	raw, err := os.ReadFile(file)
	if err != nil {
		r.t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGKILL)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	at := time.Now()
	r.await(10*time.Second, "the kubelet ends", func(context.Context) error {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err == nil && !strings.Contains(string(raw), ") Z ") {
			return errors.New("it is still there")
		}
		return nil
	})
	return at
}

// newest gives the time and value of a series' newest sample of the last minutes,
// by its labels.
func (r *rig) newest(ctx context.Context, selector string) (map[string]testbed.Point, error) {
	now := time.Now()
	series, err := r.server.Raw(ctx, selector, now.Add(-10*time.Minute), now)
	if err != nil {
		return nil, err
	}
	out := map[string]testbed.Point{}
	for _, s := range series {
		if len(s.Points) > 0 {
			out[identity(s)] = s.Points[len(s.Points)-1]
		}
	}
	return out, nil
}

func metricOf(identity string) string {
	_, rest, _ := strings.Cut(identity, "__name__=")
	name, _, _ := strings.Cut(rest, ",")
	return name
}

// identity is what names an object of the series.
func identity(s testbed.Series) string {
	var parts []string
	for k, v := range s.Labels {
		parts = append(parts, k+"="+v)
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}

// A node whose kubelet is gone: what the API knows of it and its pods stays in
// sight, Ready turns when the API says so, and usage ends and is said to have.
func TestNodeDown(t *testing.T) {
	r := setUp(t)
	r.collect()
	const cpu, ready, phase = `k8s_pod_cpu_core_used{namespace="alone"}`, `k8s_node_status_ready`, `k8s_pod_status_phase{namespace="alone"}`
	r.await(3*time.Minute, "usage of both pods", func(ctx context.Context) error {
		found, err := r.newest(ctx, cpu)
		if err == nil && len(found) != 2 {
			err = fmt.Errorf("there are %d", len(found))
		}
		return err
	})
	died := r.killKubelet()
	t.Cleanup(func() { _ = r.cluster.Start(context.WithoutCancel(t.Context()), os.Stderr) })
	var turned time.Time // when the API server says that the node is not ready
	r.await(3*time.Minute, "the API says that the node is not ready", func(ctx context.Context) error {
		var node struct {
			Status struct {
				Conditions []struct {
					Type, Status       string
					LastTransitionTime time.Time
				}
			}
		}
		if err := r.cluster.Get(ctx, &node, "node", testbed.Node); err != nil {
			return err
		}
		for _, c := range node.Status.Conditions {
			if c.Type == "Ready" && c.Status != "True" {
				turned = c.LastTransitionTime
				return nil
			}
		}
		return errors.New("it still says that it is")
	})
	r.await(30*time.Second, "Ready is 0", func(ctx context.Context) error {
		series, err := r.server.Raw(ctx, ready, died, time.Now())
		if err != nil {
			return err
		}
		for _, s := range series {
			for _, p := range s.Points {
				if p.V == 0 {
					// The condition's time has whole seconds.
					if late := p.At.Sub(turned); late > 4*time.Second || late < -time.Second {
						t.Errorf("Ready is 0 since %s, by the API since %s", p.At, turned)
					}
					t.Logf("the kubelet died at %s, the API said so %.0f s later, Ready was 0 %.1f s after that", died.Format(time.TimeOnly), turned.Sub(died).Seconds(), p.At.Sub(turned).Seconds())
					return nil
				}
			}
		}
		return fmt.Errorf("no sample is 0: %s", testbed.Describe(series))
	})
	r.await(3*time.Minute, "usage has ended and is said to have", func(ctx context.Context) error {
		var page struct {
			Items []struct {
				CPUPercent *float64 `json:"cpu_percent"`
				Reasons    []string `json:"reasons"`
			}
		}
		if err := r.server.GetJSON(ctx, testbed.API+"/clusters/alone/nodes", &page); err != nil {
			return err
		}
		var cluster struct {
			Sources []struct {
				Name, Error string
				Up          bool
			}
		}
		if err := r.server.GetJSON(ctx, testbed.API+"/clusters/alone", &cluster); err != nil {
			return err
		}
		switch {
		case len(page.Items) != 1 || len(page.Items[0].Reasons) == 0:
			return fmt.Errorf("the node's reasons are %v", page.Items)
		case page.Items[0].CPUPercent != nil:
			return fmt.Errorf("its CPU is still shown, %g", *page.Items[0].CPUPercent)
		case !slices.ContainsFunc(cluster.Sources, func(s struct {
			Name, Error string
			Up          bool
		}) bool {
			return !s.Up && s.Error != "" && strings.HasSuffix(s.Name, "/"+testbed.Node)
		}):
			return fmt.Errorf("no source is said to be down: %v", cluster.Sources)
		}
		return nil
	})
	// The state is still told, and usage is not.
	for selector, told := range map[string]bool{ready: true, phase: true, `k8s_node_kubelet_ready`: true, `k8s_pod_restart_total{namespace="alone"}`: true, cpu: false, `k8s_node_cpu_usage`: false} {
		found, err := r.newest(t.Context(), selector)
		if err != nil {
			t.Fatal(err)
		}
		if told && len(found) == 0 {
			t.Errorf("%s has no series", selector)
		}
		for of, p := range found {
			if age := time.Since(p.At); told && age > 3*interval || !told && p.At.After(died.Add(time.Minute)) {
				t.Errorf("%s of %s was told %s ago, the kubelet died %s ago", selector, of, age, time.Since(died))
			}
		}
	}
	if found, err := r.newest(t.Context(), `k8s_node_kubelet_ready`); err != nil || len(found) != 1 {
		t.Errorf("k8s_node_kubelet_ready: %v, %v", found, err)
	} else {
		for _, p := range found {
			if p.V != 0 {
				t.Errorf("the kubelet is said to answer")
			}
		}
	}
	// Back again, there is no spike for the time between.
	if err := r.cluster.Start(t.Context(), os.Stderr); err != nil {
		t.Fatal(err)
	}
	back := time.Now()
	r.await(4*time.Minute, "usage is measured again", func(ctx context.Context) error {
		found, err := r.newest(ctx, cpu)
		if err != nil {
			return err
		}
		for of, p := range found {
			if p.At.Before(back.Add(45 * time.Second)) {
				return fmt.Errorf("%s was last measured %s after the kubelet was back", of, p.At.Sub(back))
			}
		}
		return nil
	})
	series, err := r.server.Raw(t.Context(), cpu, died, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range series {
		for _, p := range s.Points {
			if p.V > 0.15 { // the limit is 0.1
				t.Errorf("%s used %.3f cores at %s", identity(s), p.V, p.At)
			}
		}
	}
}

// The kubelet without its containerd socket shows containers by cgroup path only,
// as some distributions do. What is measured is the same; from outside the node, all
// but the traffic of pods, which that kubelet does not know and which is said to be
// missing.
func TestWithoutLabelsTheSameIsMeasured(t *testing.T) {
	r := setUp(t)
	collector := r.collect()
	const all = `{__name__=~"k8s_(pod|container)_.*",namespace="alone"}`
	values := func(after time.Time) (map[string]float64, error) {
		found, err := r.newest(t.Context(), all)
		out := map[string]float64{}
		for of, p := range found {
			if p.At.After(after) {
				out[of] = p.V
			}
		}
		return out, err
	}
	var before map[string]float64
	sources := func(want string) func(context.Context) error {
		return func(ctx context.Context) error {
			series, err := r.server.Instant(ctx, fmt.Sprintf("crowsnest_source_containers_measured{source=%q} > 0", want), time.Now())
			if err == nil && len(series) == 0 {
				err = errors.New("it measures nothing")
			}
			return err
		}
	}
	r.await(3*time.Minute, "cAdvisor with labels measures", sources("cadvisor"))
	began := time.Now()
	time.Sleep(8 * interval) // until rates over a minute are there, too
	before, err := values(began.Add(4 * interval))
	if err != nil || len(before) == 0 {
		t.Fatalf("%d series, %v", len(before), err)
	}
	// One that starts with the kubelet as it is, as after a node's update.
	if err := collector.Stop(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	r.killKubelet()
	t.Setenv("CADVISOR_BARE", "1")
	if err := r.cluster.Start(t.Context(), os.Stderr); err != nil {
		t.Fatal(err)
	}
	// The node counts as ready all the while: the API server waits 40 s.
	r.await(2*time.Minute, "the kubelet answers", func(ctx context.Context) error {
		_, err := r.cluster.Kubectl(ctx, "", "get", "--raw", "/api/v1/nodes/"+testbed.Node+"/proxy/metrics/resource")
		return err
	})
	outside := r.collect()
	bare := time.Now()
	r.await(3*time.Minute, "cAdvisor by paths measures", sources("cadvisor_paths"))
	same := func(what string, after time.Time, leaveOut func(metric string) bool) {
		t.Helper()
		r.await(4*time.Minute, what, func(context.Context) error {
			now, err := values(after.Add(4 * interval))
			if err != nil {
				return err
			}
			var missing []string
			for of := range before {
				if _, ok := now[of]; !ok && !leaveOut(metricOf(of)) {
					missing = append(missing, of)
				}
			}
			if len(missing) > 0 {
				slices.Sort(missing)
				return fmt.Errorf("%d of %d series are missing: %s", len(missing), len(before), strings.Join(missing[:min(len(missing), 20)], "\n"))
			}
			return nil
		})
	}
	same("the same series are there", bare, func(metric string) bool { return slices.Contains(catalogue.PodTraffic, metric) })
	var told struct {
		Unavailable []struct{ Metric, Reason string } `json:"unavailable"`
	}
	if err := r.server.GetJSON(t.Context(), testbed.API+"/clusters/alone", &told); err != nil {
		t.Fatal(err)
	}
	for _, metric := range catalogue.PodTraffic {
		if !slices.ContainsFunc(told.Unavailable, func(u struct{ Metric, Reason string }) bool {
			return u.Metric == metric && u.Reason == catalogue.NoPodTraffic
		}) {
			t.Errorf("%s is not said to be missing: %v", metric, told.Unavailable)
		}
	}
	after, err := values(bare.Add(4 * interval))
	if err != nil {
		t.Fatal(err)
	}
	for of, v := range after {
		if _, ok := before[of]; !ok {
			t.Errorf("by paths there is also %s", of)
		}
		// What the steady container uses is its limit, whichever way it is read.
		if strings.Contains(of, "__name__=k8s_container_cpu_core_used,") && strings.Contains(of, "container=app") && (v < 0.09 || v > 0.11) {
			t.Errorf("%s is %.4f, want its limit of 0.1", of, v)
		}
		// The one that sleeps starts a process each second, whose pages come and go.
		if strings.Contains(of, "__name__=k8s_container_mem_no_cache_bytes,") && math.Abs(v-before[of]) > max(0.05*before[of], 1<<20) {
			t.Errorf("%s is %.0f, with labels it was %.0f", of, v, before[of])
		}
	}
	t.Logf("%d series by both ways, but for pods' traffic", len(after))
	// A collector on the node has that, too: it does not need the kubelet for it.
	if err := outside.Stop(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	inside := time.Now()
	r.collect("--role", "node", "--node", testbed.Node, "--data", filepath.Join(t.TempDir(), "collector"))
	same("on the node nothing is missing", inside, func(metric string) bool {
		m, ok := catalogue.Declared(metric)
		return !ok || m.Place != catalogue.ByNode
	})
}

// setUpElastic applies what ships for clusters without nodes of their own as it is: the
// one node is taken for a virtual one, since its label says so.
func setUpElastic(t *testing.T) *rig {
	t.Helper()
	ctx := t.Context()
	cluster, err := testbed.Up(ctx, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	kubectl := func(ctx context.Context, stdin string, args ...string) {
		t.Helper()
		if out, err := cluster.Kubectl(ctx, stdin, args...); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	t.Cleanup(func() { _ = cluster.Down(context.WithoutCancel(ctx), os.Stderr) })
	tokens := testbed.Tokens{API: "alone-api-token-of-this-run-only-012345", Ingest: "alone-ingest-token-of-this-run-only-0123"}
	if err := errors.Join(cluster.DeleteNamespaces(ctx, "alone", "crowsnest"), cluster.ImportImages(ctx, "e2e"), cluster.Install(ctx, tokens)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cluster.DeleteNamespaces(context.WithoutCancel(ctx), "alone", "crowsnest") })
	// Only the server stays of what other clusters get.
	kubectl(ctx, "", "-n", "crowsnest", "delete", "daemonset/crowsnest-collector-node", "deployment/crowsnest-collector-cluster")
	kubectl(ctx, "", "label", "node", testbed.Node, "type=virtual-kubelet", "--overwrite")
	t.Cleanup(func() {
		_, _ = cluster.Kubectl(context.WithoutCancel(ctx), "", "label", "node", testbed.Node, "type-")
	})
	if err := cluster.Apply(ctx, workloads); err != nil {
		t.Fatal(err)
	}

	manifests := filepath.Join(cluster.Root, "deploy/manifests")
	kubectl(ctx, "", "apply", "--dry-run=server", "-f", filepath.Join(manifests, "elastic"))
	raw, err := os.ReadFile(filepath.Join(manifests, "elastic/collector-elastic.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	manifest := string(raw)
	for old, new := range map[string]string{ // as the other collectors are changed for this cluster
		"crowsnest-collector:dev":           "crowsnest-collector:e2e",
		"        - --data=/data\n":          "        - --data=/data\n        - --interval=15s\n",
		"      enableServiceLinks: false\n": "      enableServiceLinks: false\n      hostAliases: [{ip: 10.96.0.77, hostnames: [crowsnest.crowsnest.svc]}]\n",
	} {
		if strings.Count(manifest, old) != 1 {
			t.Fatalf("%q is %d times in the manifest", old, strings.Count(manifest, old))
		}
		manifest = strings.Replace(manifest, old, new, 1)
	}
	if err := errors.Join(cluster.Apply(ctx, manifest), cluster.WaitRolledOut(ctx, "alone", 2*time.Minute, "deployment/steady"),
		cluster.WaitRolledOut(ctx, "crowsnest", 3*time.Minute, "statefulset/crowsnest-server", "deployment/crowsnest-collector-elastic")); err != nil {
		cluster.Dump(ctx, "crowsnest", os.Stderr)
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			cluster.Dump(context.WithoutCancel(ctx), "crowsnest", os.Stderr)
		}
	})
	return &rig{t: t, cluster: cluster, server: &testbed.Server{URL: "http://10.96.0.77:7420", Token: tokens.API, Cluster: "main"}}
}

// Without nodes of its own a cluster is known by the API, until somebody may ask its
// virtual nodes.
func TestElasticCluster(t *testing.T) {
	ctx := t.Context()
	r := setUpElastic(t)
	kubectl := func(args ...string) {
		t.Helper()
		if out, err := r.cluster.Kubectl(ctx, "", args...); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	const pods = `namespace="alone"`
	there := func(metrics ...string) func(context.Context) error {
		return func(ctx context.Context) error {
			for _, metric := range metrics {
				found, err := r.newest(ctx, metric+"{"+pods+"}")
				if err != nil {
					return err
				}
				if len(found) == 0 {
					return fmt.Errorf("%s has no series", metric)
				}
			}
			return nil
		}
	}
	// Without a way to usage, all that the API tells is there, and why the rest is not.
	r.await(3*time.Minute, "what the API tells", there(catalogue.PodReady, catalogue.PodRestarts, "k8s_workload_replicas_ready", "k8s_namespace_pod_num"))
	r.await(3*time.Minute, "the cluster is elastic, and says what it lacks", func(ctx context.Context) error {
		var view struct {
			Kind        string
			Unavailable []struct{ Metric, Reason string }
			Sources     []struct {
				Up    bool
				Error string
			}
		}
		if err := r.server.GetJSON(ctx, testbed.API+"/clusters/main", &view); err != nil {
			return err
		}
		lacks := map[string]bool{}
		for _, u := range view.Unavailable {
			lacks[u.Metric] = u.Reason != ""
		}
		unread := slices.ContainsFunc(view.Sources, func(s struct {
			Up    bool
			Error string
		}) bool {
			return !s.Up && s.Error != ""
		})
		if view.Kind != string(catalogue.Elastic) || !lacks[catalogue.NodeReady] || !unread {
			return fmt.Errorf("it is %q, lacks %v, and has the sources %v", view.Kind, view.Unavailable, view.Sources)
		}
		return nil
	})
	// With the right to ask virtual nodes by way of the API server they are measured.
	kubectl("apply", "-f", filepath.Join(r.cluster.Root, "deploy/manifests/outside"))
	kubectl("create", "clusterrolebinding", "alone-elastic", "--clusterrole=crowsnest-collector-outside", "--serviceaccount=crowsnest:crowsnest-collector-elastic")
	t.Cleanup(func() {
		_, _ = r.cluster.Kubectl(context.WithoutCancel(ctx), "", "delete", "clusterrolebinding/alone-elastic", "clusterrole/crowsnest-collector-outside")
	})
	r.await(5*time.Minute, "usage of pods", there(catalogue.PodCPU, catalogue.PodMem, catalogue.ContainerMem, catalogue.WorkloadCPU, "k8s_pod_rate_cpu_core_used_resource", "k8s_pod_rate_mem_no_cache_resource"))
	for _, none := range []string{catalogue.NodeReady, catalogue.NodeCPUPercent, "k8s_cluster_node_num", "k8s_pod_rate_cpu_core_used_node"} {
		if found, err := r.newest(ctx, none); err != nil || len(found) > 0 {
			t.Errorf("%s of a cluster without nodes: %v, %v", none, found, err)
		}
	}
	// Logs come by way of the API server.
	r.await(3*time.Minute, "lines of pods", func(ctx context.Context) error {
		rows, err := r.server.Logs(ctx, `namespace:="crowsnest" pod:~"collector-elastic"`, 10)
		if err == nil && len(rows) == 0 {
			err = errors.New("there are none")
		}
		return err
	})
}

// envCountFor makes the counting run longer.
const envCountFor = "CROWSNEST_E2E_LINES_FOR"

// Two replicas share what they follow through the API server, and one after the other
// is killed, and at times its pod with it, while writers number their lines: each line
// is there once, and whole. Of a file that the kubelet has rotated its API gives nothing,
// so the writers stay below its size.
func TestReplicasReadEachLineOnceOverKills(t *testing.T) {
	ctx := t.Context()
	length := 3 * time.Minute
	if text := os.Getenv(envCountFor); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil || length < time.Minute {
			t.Fatalf("%s is %q, must be a duration of at least a minute", envCountFor, text)
		}
	}
	r := setUpElastic(t)
	const namespace, writers, perSecond, killEvery = "alone", 8, 10, 20 * time.Second
	lines := int(length.Seconds()) * perSecond
	manifest := ""
	for i := range writers {
		manifest += testbed.CountedPod(fmt.Sprint("writer-", i+1), namespace, lines, perSecond)
	}
	if err := r.cluster.Apply(ctx, manifest); err != nil {
		t.Fatal(err)
	}
	collectors := func(ctx context.Context) (pods []replica, err error) {
		var list struct{ Items []replica }
		err = r.cluster.Get(ctx, &list, "-n", "crowsnest", "pods", "-l", "app.kubernetes.io/name=crowsnest-collector-elastic", "--sort-by=.metadata.creationTimestamp")
		for _, p := range list.Items {
			if len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].State.Running != nil && p.Metadata.DeletionTimestamp == "" {
				pods = append(pods, p)
			}
		}
		return pods, err
	}
	kills := 0
	for end := time.Now().Add(length - killEvery); time.Now().Before(end); kills++ {
		select {
		case <-ctx.Done():
			t.Fatal(ctx.Err())
		case <-time.After(killEvery):
		}
		var found []replica
		r.await(2*time.Minute, "a replica that runs", func(ctx context.Context) (err error) {
			if found, err = collectors(ctx); err == nil && len(found) == 0 {
				err = errors.New("there is none")
			}
			return err
		})
		// The oldest one: each has its turn. Its pod goes as well, every second time, or the
		// kubelet would wait longer and longer before it starts the container again.
		victim := found[0]
		if err := victim.kill(); err != nil {
			t.Fatal(err)
		}
		if kills%2 == 1 {
			if _, err := r.cluster.Kubectl(ctx, "", "-n", "crowsnest", "delete", "pod", victim.Metadata.Name, "--grace-period=0", "--force", "--wait=false"); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range writers {
		pod := fmt.Sprint("writer-", i+1)
		r.await(length+3*time.Minute, pod, func(ctx context.Context) error { return r.server.CountLines(ctx, namespace, pod, lines) })
	}
	t.Logf("%d lines of each of %d writers, %d kills: 0 lost, 0 split, 0 doubled", lines, writers, kills)
}

// A node's collector and one that reads through the API server take containers from one
// another, each killed without a word and begun on an empty disk: what one took, the
// other hears from the server, by the lines of a real kubelet and a real runtime.
func TestReadersTakeContainersFromOneAnother(t *testing.T) {
	ctx := t.Context()
	r := setUp(t)
	const namespace, writers, perSecond, turns, turn = "alone", 4, 20, 4, 135 * time.Second
	lines := int((turns * turn).Seconds()) * perSecond
	manifest := ""
	for i := range writers {
		manifest += testbed.CountedPod(fmt.Sprint("handed-", i+1), namespace, lines, perSecond)
	}
	if err := r.cluster.Apply(ctx, manifest); err != nil {
		t.Fatal(err)
	}
	for n := range turns {
		args := []string{"--role", "all"}
		if n%2 == 0 {
			args = []string{"--role", "node", "--node", testbed.Node, "--kubelet-insecure-skip-verify", "--no-peers"}
		}
		collector := r.collect(append(args, "--no-logs=false", "--data", t.TempDir())...)
		if n == turns-1 {
			break // it reads to the end
		}
		select {
		case <-ctx.Done():
			t.Fatal(ctx.Err())
		case <-time.After(turn): // a node's first collector waits for 20 s of it, a reader of the API server for 90 s
		}
		collector.Kill()
	}
	for i := range writers {
		pod := fmt.Sprint("handed-", i+1)
		r.await(turns*turn+3*time.Minute, pod, func(ctx context.Context) error { return r.server.CountLines(ctx, namespace, pod, lines) })
	}
	t.Logf("%d lines of each of %d writers, %d readers: 0 lost, 0 split, 0 doubled", lines, writers, turns)
}

// replica is what kubectl tells of a collector's pod.
type replica struct {
	Metadata struct{ Name, DeletionTimestamp string }
	Status   struct {
		ContainerStatuses []struct {
			ContainerID string
			State       struct{ Running *struct{} }
		}
	}
}

// kill ends the collector's process from outside, as kill -9 does.
func (p replica) kill() error {
	_, id, _ := strings.Cut(p.Status.ContainerStatuses[0].ContainerID, "://")
	group, err := testbed.FindCgroup(id)
	if err != nil {
		return err
	}
	pids, err := group.PIDs()
	if err == nil && len(pids) == 0 {
		err = fmt.Errorf("%s has no process", p.Metadata.Name)
	}
	for _, pid := range pids {
		err = errors.Join(err, syscall.Kill(pid, syscall.SIGKILL))
	}
	return err
}

// metricsServer registers metrics.k8s.io with the API server: a Service that leads to
// the machine, since no image of metrics-server can be had here.
const metricsServer = `
apiVersion: v1
kind: Service
metadata: {name: metrics-server, namespace: kube-system}
spec: {ports: [{port: 443, targetPort: %[1]d}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: metrics-server-1, namespace: kube-system, labels: {kubernetes.io/service-name: metrics-server}}
addressType: IPv4
ports: [{name: "", port: %[1]d}]
endpoints: [{addresses: [%[2]s]}]
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1beta1.metrics.k8s.io}
spec: {service: {name: metrics-server, namespace: kube-system}, group: metrics.k8s.io, version: v1beta1, insecureSkipTLSVerify: true, groupPriorityMinimum: 100, versionPriority: 100}
---
apiVersion: v1
kind: Node
metadata: {name: real}
`

// Beside a node that is real (and only an object here), the one that runs pods is
// virtual: the collector in role cluster reads them with what ships for that, and with
// no other right.
func TestVirtualNodesWithTheShippedRights(t *testing.T) {
	ctx := t.Context()
	t.Setenv("AGGREGATION", "1")
	cluster, err := testbed.Up(ctx, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	kubectl := func(ctx context.Context, args ...string) {
		t.Helper()
		if out, err := cluster.Kubectl(ctx, "", args...); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	t.Cleanup(func() { _ = cluster.Down(context.WithoutCancel(ctx), os.Stderr) })
	program, _, err := testbed.Peer(ctx, cluster.Root, "metrics_server", "sigs.k8s.io/metrics-server/cmd/metrics-server")
	if err != nil {
		t.Fatal(err)
	}
	const port = 21443
	dir := t.TempDir()
	summaries, err := testbed.Start(dir, "metrics-server", program, "--kubeconfig="+cluster.Kubeconfig, "--authentication-kubeconfig="+cluster.Kubeconfig,
		"--authorization-kubeconfig="+cluster.Kubeconfig, "--bind-address="+testbed.Address, fmt.Sprint("--secure-port=", port), "--kubelet-insecure-tls", "--kubelet-preferred-address-types=InternalIP",
		"--metric-resolution=15s", "--cert-dir="+dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = summaries.Stop(20 * time.Second)
		if t.Failed() {
			t.Logf("metrics-server says:\n%s", summaries.Tail(30))
		}
	})
	tokens := testbed.Tokens{API: "alone-api-token-of-this-run-only-012345", Ingest: "alone-ingest-token-of-this-run-only-0123"}
	if err := errors.Join(cluster.DeleteNamespaces(ctx, "alone", "crowsnest"), cluster.ImportImages(ctx, "e2e"), cluster.Apply(ctx, fmt.Sprintf(metricsServer, port, testbed.Address)),
		cluster.Install(ctx, tokens)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(ctx)
		_ = cluster.DeleteNamespaces(ctx, "alone", "crowsnest")
		_, _ = cluster.Kubectl(ctx, "", "delete", "--ignore-not-found", "apiservice/v1beta1.metrics.k8s.io", "node/real", "clusterrolebinding/crowsnest-collector-virtual-nodes", "clusterrole/crowsnest-collector-virtual-nodes")
		_, _ = cluster.Kubectl(ctx, "", "-n", "kube-system", "delete", "--ignore-not-found", "service/metrics-server", "endpointslice/metrics-server-1")
		_, _ = cluster.Kubectl(ctx, "", "label", "node", testbed.Node, "type-")
	})
	kubectl(ctx, "-n", "crowsnest", "delete", "daemonset/crowsnest-collector-node") // virtual nodes run none
	kubectl(ctx, "label", "node", testbed.Node, "type=virtual-kubelet", "--overwrite")
	kubectl(ctx, "apply", "-f", filepath.Join(cluster.Root, "deploy/manifests/virtual-nodes"))
	kubectl(ctx, "-n", "crowsnest", "patch", "deployment", "crowsnest-collector-cluster", "--type=json", "--patch", `[{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "--virtual-nodes"}]`)
	if err := errors.Join(cluster.Apply(ctx, workloads), cluster.WaitRolledOut(ctx, "alone", 2*time.Minute, "deployment/steady"),
		cluster.WaitRolledOut(ctx, "crowsnest", 3*time.Minute, "statefulset/crowsnest-server", "deployment/crowsnest-collector-cluster")); err != nil {
		cluster.Dump(ctx, "crowsnest", os.Stderr)
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			cluster.Dump(context.WithoutCancel(ctx), "crowsnest", os.Stderr)
		}
	})
	for what, want := range map[string]string{"get nodes --subresource=proxy": "no", "get nodes --subresource=metrics": "no", "get pods --subresource=exec": "no", "get secrets": "no", "list pods.metrics.k8s.io": "yes", "get pods --subresource=log": "yes"} {
		out, err := cluster.Kubectl(ctx, "", append([]string{"auth", "can-i", "--as=system:serviceaccount:crowsnest:crowsnest-collector-cluster"}, strings.Fields(what)...)...)
		if got := strings.TrimSpace(out); got != want {
			t.Fatalf("whether it may %s is %q, want %s: %v", what, got, want, err)
		}
	}
	r := &rig{t: t, cluster: cluster, server: &testbed.Server{URL: "http://10.96.0.77:7420", Token: tokens.API, Cluster: "main"}}
	for metric, series := range map[string]int{catalogue.PodCPU: 2, catalogue.PodMem: 2, catalogue.ContainerCPU: 4, catalogue.ContainerMem: 4, "k8s_pod_rate_cpu_core_used_resource": 2} {
		r.await(5*time.Minute, metric, func(ctx context.Context) error {
			found, err := r.newest(ctx, metric+`{namespace="alone"}`)
			if err == nil && len(found) != series {
				err = fmt.Errorf("it has %d series, want %d", len(found), series)
			}
			return err
		})
	}
	r.await(3*time.Minute, "a pod's memory is what it holds", func(ctx context.Context) error {
		found, err := r.newest(ctx, catalogue.ContainerMem+`{namespace="alone", container="app"}`)
		for name, p := range found {
			if p.V < 16e6 || p.V > 30e6 {
				err = errors.Join(err, fmt.Errorf("%s is %v, want the 16 MB that it holds and little more", name, p.V))
			}
		}
		return err
	})
	r.await(3*time.Minute, "the source of virtual nodes measures all", func(ctx context.Context) error {
		var view struct {
			Kind    string
			Sources []struct {
				Name, Error        string
				Up                 bool
				Expected, Measured int
			}
		}
		if err := r.server.GetJSON(ctx, testbed.API+"/clusters/main", &view); err != nil {
			return err
		}
		for _, s := range view.Sources {
			if s.Name == "virtual_nodes" && s.Up && s.Error == "" && s.Measured == s.Expected && s.Expected > 4 && view.Kind == string(catalogue.Managed) {
				return nil
			}
		}
		return fmt.Errorf("it is %q with the sources %+v", view.Kind, view.Sources)
	})
	r.await(3*time.Minute, "lines of pods", func(ctx context.Context) error {
		rows, err := r.server.Logs(ctx, `namespace:="crowsnest" pod:~"collector-cluster"`, 10)
		if err == nil && len(rows) == 0 {
			err = errors.New("there are none")
		}
		return err
	})
}
