package collector_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/collector/cgroups"
	"github.com/crowsnest-dev/crowsnest/collector/component"
	"github.com/crowsnest-dev/crowsnest/collector/compute"
	"github.com/crowsnest-dev/crowsnest/collector/host"
	"github.com/crowsnest-dev/crowsnest/collector/kubelet"
	"github.com/crowsnest-dev/crowsnest/collector/reading"
	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// The tests of this file hold what the catalogue declares of each kind of cluster
// against what comes of one: a small cluster of the kind, in which everything that
// it can have is there, is read by the sources that a collector of the role has.

const (
	theUID       = "0b6cdd9f-3bb9-4a3b-b9a2-7d7a2a8b0d37"
	theContainer = "73b3865bf07f80f00670a1a97827ecf80b0e0a74c57da655a9fa03527f2080d2"
	theSandbox   = "040f1b9f18d89ede50a00d0a368dbbd92df68d58a1112d08eca28b0256057068"
)

// clusterOf gives the objects of a cluster of a kind.
func clusterOf(t *testing.T, kind catalogue.ClusterKind) objects {
	t.Helper()
	label, pods := "", []string{
		fmt.Sprintf(`{"metadata":{"namespace":"shop","name":"web-1","uid":%q,"creationTimestamp":"2026-11-23T20:00:00Z","ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web-a","uid":"rs-1","controller":true}]},
			"spec":{"nodeName":"n1","volumes":[{"name":"data","persistentVolumeClaim":{"claimName":"data"}}],"containers":[{"name":"app","image":"i",
			"resources":{"requests":{"cpu":"100m","memory":"64Mi","nvidia.com/gpu":"1"},"limits":{"cpu":"1","memory":"128Mi","nvidia.com/gpu":"1"}}}]},
			"status":{"phase":"Running","podIP":"10.0.0.7","startTime":"2026-11-23T20:00:01Z","conditions":[{"type":"Ready","status":"True"},{"type":"PodScheduled","status":"True","lastTransitionTime":"2026-11-23T20:00:01Z"}],
			"containerStatuses":[{"name":"app","ready":true,"restartCount":0,"containerID":"containerd://%s","state":{"running":{"startedAt":"2026-11-23T20:00:03Z"}},
			"lastState":{"terminated":{"exitCode":1,"reason":"Error","startedAt":"2026-11-23T20:00:02Z","finishedAt":"2026-11-23T20:00:02Z"}}}]}}`, theUID, theContainer),
		podText("kube-system", "waits", "", `"spec":{"containers":[{"name":"c"}]},"status":{"phase":"Pending","conditions":[{"type":"PodScheduled","status":"False","reason":"Unschedulable"}]}`),
		`{"metadata":{"namespace":"kube-system","name":"coredns-1","uid":"dns-1","creationTimestamp":"2026-11-23T20:00:00Z","labels":{"k8s-app":"kube-dns"}},
			"spec":{"nodeName":"n1","containers":[{"name":"coredns"}]},"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}`,
	}
	all := objects{}
	switch kind {
	case catalogue.Independent:
		label = `"node-role.kubernetes.io/control-plane":""`
	case catalogue.Edge:
		label = `"node-role.kubernetes.io/edge":"","node-role.kubernetes.io/control-plane":""`
	case catalogue.Elastic:
		label = `"type":"virtual-kubelet"`
		for _, namespace := range []string{"shop", "kube-system"} {
			all = all.with(t, "resourcequotas", fmt.Sprintf(`{"metadata":{"namespace":%q,"name":"all","uid":"quota-%s"},"status":{"hard":{"requests.cpu":"8","requests.memory":"8Gi"},"used":{"requests.cpu":"1","requests.memory":"1Gi"}}}`, namespace, namespace))
		}
	}
	if kind == catalogue.Independent || kind == catalogue.Edge {
		for _, name := range []string{"etcd", "kube-scheduler", "kube-controller-manager"} {
			pods = append(pods, fmt.Sprintf(`{"metadata":{"namespace":"kube-system","name":"%[1]s-n1","uid":"%[1]s-1","creationTimestamp":"2026-11-23T20:00:00Z","labels":{"component":%[1]q}},
				"spec":{"nodeName":"n1","containers":[{"name":"c"}]},"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}`, name))
		}
	}
	all = all.with(t, "pods", pods...).with(t, "nodes", `{"metadata":{"name":"n1","uid":"node-1","creationTimestamp":"2026-11-23T19:21:24Z","labels":{`+label+`}},
		"status":{"capacity":{"cpu":"4","memory":"16Gi","pods":"110","nvidia.com/gpu":"1"},"allocatable":{"cpu":"2","memory":"8Gi","pods":"110","nvidia.com/gpu":"1"},
		"addresses":[{"type":"InternalIP","address":"127.0.0.1"}],"conditions":[{"type":"Ready","status":"True"},{"type":"DiskPressure","status":"False"}]}}`)
	all = all.with(t, "deployments", `{"metadata":{"namespace":"shop","name":"web","uid":"dep-1"},"spec":{"replicas":1},"status":{"replicas":1,"readyReplicas":1,"updatedReplicas":1}}`)
	all = all.with(t, "replicasets", `{"metadata":{"namespace":"shop","name":"web-a","uid":"rs-1","ownerReferences":[{"apiVersion":"apps/v1","kind":"Deployment","name":"web","uid":"dep-1","controller":true}]},"spec":{"replicas":1},"status":{"replicas":1,"readyReplicas":1}}`)
	all = all.with(t, "cronjobs", `{"metadata":{"namespace":"shop","name":"nightly","uid":"cron-1","creationTimestamp":"2026-11-22T20:00:00Z"},"spec":{"schedule":"0 3 * * *"},"status":{"lastScheduleTime":"2026-11-23T03:00:00Z"}}`)
	all = all.with(t, "jobs", `{"metadata":{"namespace":"shop","name":"nightly-1","uid":"job-1","creationTimestamp":"2026-11-23T03:00:00Z","ownerReferences":[{"apiVersion":"batch/v1","kind":"CronJob","name":"nightly","uid":"cron-1","controller":true}]},
		"status":{"startTime":"2026-11-23T03:00:00Z","completionTime":"2026-11-23T03:01:00Z","conditions":[{"type":"Complete","status":"True"}]}}`)
	all = all.with(t, "namespaces", `{"metadata":{"name":"shop","uid":"ns-1","creationTimestamp":"2026-11-01T00:00:00Z"}}`)
	all = all.with(t, "persistentvolumeclaims", `{"metadata":{"namespace":"shop","name":"data","uid":"pvc-1"},"status":{"phase":"Bound"}}`)
	all = all.with(t, "horizontalpodautoscalers", `{"metadata":{"namespace":"shop","name":"web","uid":"hpa-1"},"spec":{"scaleTargetRef":{"apiVersion":"apps/v1","kind":"Deployment","name":"web"},"maxReplicas":3},"status":{"currentReplicas":1,"desiredReplicas":1}}`)
	all = all.with(t, "resourcequotas", `{"metadata":{"namespace":"shop","name":"pods","uid":"quota-1"},"status":{"hard":{"pods":"10"},"used":{"pods":"2"}}}`)
	return all.with(t, "endpointslices", `{"metadata":{"namespace":"shop","name":"web-x","uid":"ep-1","labels":{"kubernetes.io/service-name":"web"}},"addressType":"IPv4",
		"endpoints":[{"addresses":["10.0.0.7"],"conditions":{"ready":true},"targetRef":{"kind":"Pod","namespace":"shop","name":"web-1"}}]}`)
}

// cadvisorOf is what a kubelet's cAdvisor tells of the cluster's pod, so many seconds
// after t0; a pod's own endpoint tells the same without the node.
func cadvisorOf(seconds int, node bool) []byte {
	var b strings.Builder
	ms := sec(seconds).UnixMilli()
	line := func(name, labels string, v float64) { fmt.Fprintf(&b, "container_%s{%s} %v %d\n", name, labels, v, ms) }
	n := float64(1000 + seconds)
	container := fmt.Sprintf(`container="app",id="/kubepods/pod%s/%s",image="i",name=%q,namespace="shop",pod="web-1"`, theUID, theContainer, theContainer)
	for _, name := range []string{"cpu_usage_seconds_total", "memory_working_set_bytes", "memory_usage_bytes", "fs_reads_bytes_total", "fs_writes_bytes_total", "fs_reads_total", "fs_writes_total",
		"cpu_cfs_periods_total", "cpu_cfs_throttled_periods_total", "oom_events_total", "processes"} {
		line(name, container, n)
	}
	line("start_time_seconds", container, float64(t0.Unix()-1500))
	for _, name := range []string{"receive_bytes", "transmit_bytes", "receive_packets", "transmit_packets", "receive_errors", "transmit_errors", "receive_packets_dropped", "transmit_packets_dropped"} {
		line("network_"+name+"_total", fmt.Sprintf(`container="",id="/kubepods/pod%s/%s",interface="eth0",name=%q,namespace="shop",pod="web-1"`, theUID, theSandbox, theSandbox), n)
		if node {
			line("network_"+name+"_total", `container="",id="/",interface="eth0",name="",namespace="",pod=""`, n)
		}
	}
	if node {
		line("cpu_usage_seconds_total", `container="",cpu="total",id="/",name="",namespace="",pod=""`, n)
		line("memory_working_set_bytes", `container="",id="/",name="",namespace="",pod=""`, n)
	}
	return []byte(b.String())
}

// summaryOf is the kubelet's /stats/summary of the same.
func summaryOf(seconds int) []byte {
	at, n := sec(seconds).Format(time.RFC3339), 1_000_000_000*(1000+seconds)
	fs := fmt.Sprintf(`{"time":%q,"availableBytes":600,"capacityBytes":1000,"usedBytes":400,"inodesFree":60,"inodesUsed":40}`, at)
	net := fmt.Sprintf(`{"time":%q,"interfaces":[{"name":"eth0","rxBytes":%d,"txBytes":%d,"rxErrors":0,"txErrors":0}]}`, at, n, n)
	use := fmt.Sprintf(`"cpu":{"time":%q,"usageCoreNanoSeconds":%d},"memory":{"time":%q,"workingSetBytes":1000,"usageBytes":1200}`, at, n, at)
	return fmt.Appendf(nil, `{"node":{%[1]s,"network":%[2]s,"fs":%[3]s,"runtime":{"imageFs":%[3]s}},"pods":[{"podRef":{"name":"web-1","namespace":"shop","uid":%[4]q},%[1]s,"network":%[2]s,"ephemeral-storage":%[3]s,
		"containers":[{"name":"app","startTime":"2026-11-23T20:00:03Z",%[1]s,"rootfs":%[3]s}],
		"volume":[{"name":"data","pvcRef":{"name":"data","namespace":"shop"},"time":%[5]q,"availableBytes":600,"capacityBytes":1000,"usedBytes":400,"inodesFree":60,"inodesUsed":40}]}]}`, use, net, fs, theUID, at)
}

// podMetricsOf is what metrics.k8s.io tells.
func podMetricsOf(seconds int) []byte {
	return fmt.Appendf(nil, `{"items":[{"metadata":{"namespace":"shop","name":"web-1"},"timestamp":%q,"window":"30s","containers":[{"name":"app","usage":{"cpu":"250m","memory":"64Mi"}}]}]}`, sec(seconds).Format(time.RFC3339))
}

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// machine writes the files of a node's kernel, and what they say so many seconds
// after t0.
func machineOf(t *testing.T, dir string, seconds int) {
	t.Helper()
	n := 1000 + seconds
	net := fmt.Sprintf("Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n  eth0: %d %d 0 0 0 0 0 0 %d %d 0 0 0 0 0 0\n", n, n, n, n)
	pod := "fs/cgroup/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + strings.ReplaceAll(theUID, "-", "_") + ".slice/"
	c := pod + "cri-containerd-" + theContainer + ".scope/"
	write(t, filepath.Join(dir, "proc"), map[string]string{
		"stat":    fmt.Sprintf("cpu  %d 0 0 %d 0 0 0 0 0 0\ncpu0 %d 0 0 %d 0 0 0 0 0 0\nintr 1\nctxt 1\nbtime 1795460000\nprocesses 1\nprocs_running 1\nprocs_blocked 0\n", n, n, n, n),
		"meminfo": "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 250 kB\n", "loadavg": "0.50 0.25 0.10 1/200 4242\n", "vmstat": "nr_free_pages 1\noom_kill 3\n",
		"diskstats": fmt.Sprintf(" 254 0 vda %[1]d 0 %[1]d 5 %[1]d 0 %[1]d 5 0 9 10 0 0 0 0 0 0\n", n), "1/net/dev": net, "4242/net/dev": net, "1/mountinfo": "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n",
		"1/net/route":             "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\neth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n",
		"1/net/snmp":              "Tcp: RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab InSegs OutSegs RetransSegs InErrs OutRsts InCsumErrors\nTcp: 1 200 120000 -1 1 1 1 1 148 1 1 1 0 1 0\n",
		"1/net/stat/nf_conntrack": "entries  clashres found\n00000040  0 0\n", "sys/net/netfilter/nf_conntrack_max": "256\n",
	})
	write(t, filepath.Join(dir, "sys"), map[string]string{
		"class/net/eth0/device/vendor": "x", "block/vda/device/vendor": "x", "fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids\n",
		pod + "cpu.stat": fmt.Sprintf("usage_usec %d\n", n*1_000_000), c + "cpu.stat": fmt.Sprintf("usage_usec %d\nnr_periods %d\nnr_throttled %d\n", n*1_000_000, n, n/2),
		c + "memory.current": "1000000\n", c + "memory.stat": "inactive_file 300000\n", c + "memory.events": "oom_kill 0\n", c + "pids.current": "7\n", c + "cgroup.procs": "4242\n",
		c + "io.stat": fmt.Sprintf("8:0 rbytes=%[1]d wbytes=%[1]d rios=%[1]d wios=%[1]d dbytes=0 dios=0\n", n),
	})
}

// controlPlaneOf is the source of a cluster's components. Where the provider runs
// the control plane, the API server is all that shows.
func controlPlaneOf(t *testing.T, shown bool, seconds *int) *component.Source {
	t.Helper()
	api := func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/metrics":
			n := 1000 + *seconds
			fmt.Fprintf(w, "apiserver_request_total{code=\"200\",verb=\"LIST\"} %[1]d\napiserver_request_duration_seconds_bucket{verb=\"LIST\",le=\"0.05\"} %[1]d\napiserver_request_duration_seconds_bucket{verb=\"LIST\",le=\"+Inf\"} %[1]d\napiserver_storage_size_bytes{} 2.5e+06\n", n)
		default:
			_, _ = io.WriteString(w, "ok")
		}
	}
	own := func(w http.ResponseWriter, r *http.Request) {
		n := 1000 + *seconds
		if r.URL.Path == "/metrics" {
			fmt.Fprintf(w, "scheduler_pending_pods{queue=\"active\"} 1\nscheduler_scheduling_attempt_duration_seconds_bucket{le=\"0.1\"} %[1]d\nscheduler_scheduling_attempt_duration_seconds_bucket{le=\"+Inf\"} %[1]d\n"+
				"etcd_server_leader_changes_seen_total 7\netcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.002\"} %[1]d\netcd_disk_wal_fsync_duration_seconds_bucket{le=\"+Inf\"} %[1]d\n", n)
		}
	}
	serve := func(h http.HandlerFunc) *httptest.Server {
		srv := httptest.NewTLSServer(h)
		t.Cleanup(srv.Close)
		return srv
	}
	server := serve(api)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	o := component.Options{API: u, Client: server.Client(), Now: func() time.Time { return sec(*seconds) }}
	if shown {
		o.Targets = map[string]string{}
		for _, name := range component.Names {
			target := serve(own)
			o.Targets[name], o.Direct = target.URL, target.Client() // one certificate for all of them
		}
	}
	s, err := component.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// ways are those by which the pods of an elastic cluster can be read, of which a
// platform has some.
var ways = []string{"the virtual node's summary", "metrics.k8s.io", "the pods' own endpoints", "nothing"}

// delivered runs the sources of a role on a cluster of a kind for three intervals.
// It gives which metrics have samples in the last one, those that the server adds up
// included, and why others are said not to be there.
func delivered(t *testing.T, kind catalogue.ClusterKind, role, way string) (has map[string]bool, lacks map[string]string) {
	t.Helper()
	now := snapshot(t, clusterOf(t, kind))
	has, lacks = map[string]bool{}, map[string]string{}
	seconds, dir := 0, t.TempDir()
	clock := func() time.Time { return sec(seconds) }
	answers := &answers{bodies: map[string][]byte{}}
	type source interface {
		Read(ctx context.Context, at time.Time, now *state.Snapshot) []reading.Set
	}
	var sources []source
	machineOf(t, dir, 0)
	add := func(s source, err error) source {
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, s)
		return s
	}
	switch role {
	case wire.RoleNode:
		add(host.New(host.Options{Node: "n1", Proc: filepath.Join(dir, "proc"), Sys: filepath.Join(dir, "sys"), Root: "/", Now: clock}))
		c := add(cgroups.New(cgroups.Options{Node: "n1", Root: filepath.Join(dir, "sys/fs/cgroup"), Proc: filepath.Join(dir, "proc"), Now: clock})).(*cgroups.Source)
		add(kubelet.New(kubelet.Options{Fetcher: answers, Node: "n1", Before: c.Last, Now: clock}))
	case wire.RoleAll:
		o := kubelet.Options{Fetcher: answers, Host: true, Now: clock}
		if kind == catalogue.Elastic {
			o.PodMetrics = func(_ context.Context, into io.Writer) error {
				if way != ways[1] {
					return fault.ErrNotFound
				}
				_, err := into.Write(podMetricsOf(seconds))
				return err
			}
			o.PodEndpoint = func(_ context.Context, p *object.Pod, into io.Writer) error {
				if way != ways[2] {
					return errors.New("connection refused")
				}
				_, err := into.Write(cadvisorOf(seconds, false))
				return err
			}
		}
		add(kubelet.New(o))
	}
	if role != wire.RoleNode {
		add(controlPlaneOf(t, kind == catalogue.Independent || kind == catalogue.Edge, &seconds), nil)
	}
	computer := compute.New(compute.Options{Role: role, Sender: "s", Interval: 30 * time.Second})
	computer.SetClockOffset(time.Millisecond)
	for ; seconds <= 90; seconds += 30 {
		machineOf(t, dir, seconds)
		if kind != catalogue.Elastic || way == ways[0] {
			answers.bodies[summaryPath] = summaryOf(seconds)
		}
		if kind != catalogue.Elastic {
			answers.bodies[cadvisorPath] = cadvisorOf(seconds, true)
			answers.bodies["/metrics/probes"] = fmt.Appendf(nil, "prober_probe_total{container=\"app\",namespace=\"shop\",pod=\"web-1\",pod_uid=%q,probe_type=\"Liveness\",result=\"successful\"} %d\n", theUID, seconds)
		}
		var sets []reading.Set
		for _, s := range sources {
			sets = append(sets, s.Read(t.Context(), clock(), now)...)
		}
		// What is told by packages logs and peers, in the shape that they have.
		if role != wire.RoleCluster {
			sets = append(sets, reading.Set{Node: "n1", Source: catalogue.Lines, Partial: true, Containers: []reading.Container{{Namespace: "shop", Pod: "web-1", Name: "app",
				LogLines: reading.Value{V: float64(seconds), At: clock()}, LogBytes: reading.Value{V: float64(seconds), At: clock()}}}})
		}
		if role == wire.RoleNode {
			sets = append(sets, reading.Set{Node: "n1", Source: catalogue.Peers, Partial: true, Peers: []reading.Peer{{Node: "n2", Probe: "node", Reached: true, At: clock()}}})
		}
		clear(has)
		for _, s := range computer.Interval(clock(), sets, now) {
			if !s.Stale() {
				has[s.Metric] = true
			}
		}
	}
	maps.Copy(lacks, computer.Unavailable())
	return has, lacks
}

// byServer adds what the server makes of the metrics that are there.
func byServer(has map[string]bool) {
	for range catalogue.Levels { // sums of sums
		for _, m := range catalogue.All() {
			if parts := m.Parts(); len(parts) > 0 && !slices.ContainsFunc(parts, func(p string) bool { return !has[p] }) {
				has[m.Name] = true
			}
		}
	}
}

// TestEachKindOfClusterHasWhatTheCatalogueSays: an entry that says that a kind lacks
// it has no series there, and all others have. From outside, what the entry says of
// it holds besides. No entry is without both series and reason.
func TestEachKindOfClusterHasWhatTheCatalogueSays(t *testing.T) {
	for _, kind := range []catalogue.ClusterKind{catalogue.Managed, catalogue.Independent, catalogue.Edge, catalogue.Elastic} {
		for _, outside := range []bool{false, true} {
			if kind == catalogue.Elastic && !outside {
				continue // no DaemonSet runs there
			}
			t.Run(fmt.Sprintf("%s, outside %v", kind, outside), func(t *testing.T) {
				has := map[string]bool{}
				switch {
				case kind == catalogue.Elastic:
					for _, way := range ways {
						one, lacks := delivered(t, kind, wire.RoleAll, way)
						byServer(one)
						maps.Copy(has, one)
						explained(t, kind, way, one, lacks)
					}
				case outside:
					has, _ = delivered(t, kind, wire.RoleAll, "")
				default:
					has, _ = delivered(t, kind, wire.RoleNode, "")
					cluster, _ := delivered(t, kind, wire.RoleCluster, "")
					maps.Copy(has, cluster)
				}
				byServer(has)
				for _, m := range catalogue.All() {
					declared := m.Lacking[kind] == "" && (!outside || m.LackingOutside == "")
					if has[m.Name] != declared {
						t.Errorf("%s: declared %v (%s%s), delivered %v", m.Name, declared, m.Lacking[kind], m.LackingOutside, has[m.Name])
					}
				}
			})
		}
	}
}

// explained holds that each metric of an elastic cluster that one of the ways does
// not tell is said to be missing, with a reason.
func explained(t *testing.T, kind catalogue.ClusterKind, way string, has map[string]bool, lacks map[string]string) {
	t.Helper()
	for range catalogue.Levels {
		for _, m := range catalogue.All() {
			for _, part := range m.Parts() {
				if lacks[m.Name] == "" && lacks[part] != "" {
					lacks[m.Name] = lacks[part]
				}
			}
		}
	}
	for _, m := range catalogue.All() {
		if !has[m.Name] && m.Lacking[kind] == "" && m.LackingOutside == "" && lacks[m.Name] == "" {
			t.Errorf("by %s: %s has no series, and nobody says why", way, m.Name)
		}
	}
}
