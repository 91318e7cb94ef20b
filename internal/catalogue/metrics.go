package catalogue

import (
	"slices"
	"time"
)

// Names that code refers to. Everything else goes by what an entry says.
const (
	ClusterCPUUsedPercent    = "k8s_cluster_rate_cpu_core_used_cluster"
	ClusterMemUsedPercent    = "k8s_cluster_rate_mem_no_cache_bytes_cluster"
	ClusterCPURequestPercent = "k8s_cluster_rate_cpu_core_request_cluster"
	ClusterMemRequestPercent = "k8s_cluster_rate_mem_request_bytes_cluster"
	ClusterNodesNotReady     = "k8s_cluster_node_not_ready_num"
	ClusterPods              = "k8s_cluster_pod_num"
	ClusterCPUTotal          = "k8s_cluster_cpu_core_total"
	ClusterMemTotal          = "k8s_cluster_memory_total"
	NodeReady                = "k8s_node_status_ready"
	NodeCPUPercent           = "k8s_node_cpu_usage"
	NodeMemPercent           = "k8s_node_mem_usage"
	NodeFilesystemPercent    = "k8s_node_filesystem_usage"
	NodeNetworkReceive       = "k8s_node_network_receive_bytes_bw"
	NodeNetworkTransmit      = "k8s_node_network_transmit_bytes_bw"
	NodeTCPEstablished       = "k8s_node_tcp_curr_estab"
	NodeRestarts             = "k8s_node_pod_restart_total"
	NodePeerReached          = "k8s_node_peer_reached"
	NodePeersReached         = "k8s_node_peers_reached"
	ContainerProbes          = "k8s_container_probe_total"
	WorkloadCPU              = "k8s_workload_cpu_core_used"
	WorkloadMem              = "k8s_workload_mem_no_cache_bytes"
	WorkloadNetworkReceive   = "k8s_workload_network_receive_bytes_bw"
	WorkloadNetworkTransmit  = "k8s_workload_network_transmit_bytes_bw"
	WorkloadRestarts         = "k8s_workload_pod_restart_total"
	WorkloadAbnormal         = "k8s_workload_abnormal"
	PodReady                 = "k8s_pod_status_ready"
	PodRestarts              = "k8s_pod_restart_total"
	PodCPU                   = "k8s_pod_cpu_core_used"
	PodCPULimitPercent       = "k8s_pod_rate_cpu_core_used_limit"
	PodMem                   = "k8s_pod_mem_no_cache_bytes"
	PodMemLimitPercent       = "k8s_pod_rate_mem_no_cache_limit"
	PodNetworkReceive        = "k8s_pod_network_receive_bytes_bw"
	PodNetworkTransmit       = "k8s_pod_network_transmit_bytes_bw"
	PodSpecMissing           = "k8s_pod_spec_missing"
	ContainerCPU             = "k8s_container_cpu_core_used"
	ContainerMem             = "k8s_container_mem_no_cache_bytes"
	ContainerFSRead          = "k8s_container_fs_read_bytes"
	ContainerFSWrite         = "k8s_container_fs_write_bytes"

	PodMemUsage        = "k8s_pod_mem_usage_bytes"
	PodPacketsReceive  = "k8s_pod_network_receive_packets"
	PodPacketsTransmit = "k8s_pod_network_transmit_packets"
	PodFSRead          = "k8s_pod_fs_read_bytes"
	PodFSWrite         = "k8s_pod_fs_write_bytes"
	PodFSReads         = "k8s_pod_fs_read_times"
	PodFSWrites        = "k8s_pod_fs_write_times"
	WorkloadCPULimit   = "k8s_workload_cpu_core_limit"
	WorkloadMemLimit   = "k8s_workload_mem_limit_bytes"
	ComponentReady     = "k8s_component_ready"

	NamespaceCPU             = "k8s_namespace_cpu_core_used"
	NamespaceMem             = "k8s_namespace_mem_no_cache_bytes"
	NamespaceRestarts        = "k8s_namespace_pod_restart_total"
	ServiceEndpointsReady    = "k8s_service_endpoints_ready"
	ServiceEndpointsNotReady = "k8s_service_endpoints_not_ready"
)

const oneMinute = time.Minute

// NoContainerDisk is why ContainerDisk may be missing.
const NoContainerDisk = "the node's kernel gives no block device figures for containers (cgroup v1 does not attribute buffered writes)"

// ContainerDisk are the metrics of containers' block devices.
var ContainerDisk = []string{
	ContainerFSRead, ContainerFSWrite, "k8s_container_fs_read_times", "k8s_container_fs_write_times", PodFSRead, PodFSWrite, PodFSReads, PodFSWrites,
}

// NoQuota is why OfTotalCPU and OfTotalMemory may be missing.
const NoQuota = "a cluster without nodes of its own is measured against its namespaces' quotas, and one with pods has none for the resource"

// OfTotalCPU and OfTotalMemory are what a cluster's pods may have, and the metrics
// that are divided by it.
var (
	OfTotalCPU = []string{
		ClusterCPUTotal, ClusterCPURequestPercent, "k8s_cluster_rate_cpu_core_used_cluster", "k8s_namespace_rate_cpu_core_used_cluster",
		"k8s_workload_rate_cpu_core_used_cluster", "k8s_service_rate_cpu_core_used_cluster",
	}
	OfTotalMemory = []string{
		ClusterMemTotal, ClusterMemRequestPercent, "k8s_cluster_rate_mem_no_cache_bytes_cluster", "k8s_cluster_rate_mem_usage_bytes_cluster",
		"k8s_namespace_rate_mem_no_cache_cluster", "k8s_workload_rate_mem_no_cache_cluster", "k8s_service_rate_mem_no_cache_cluster",
	}
)

// NoPodTraffic is why PodTraffic may be missing.
const NoPodTraffic = "the kubelet does not tell the traffic of pods, as where it does not know its container runtime's socket; a collector on the node reads it from /proc"

// PodTraffic are the metrics of pods' own networks.
var PodTraffic = []string{PodNetworkReceive, PodNetworkTransmit, PodPacketsReceive, PodPacketsTransmit, "k8s_pod_network_errors"}

const (
	noNodes        = "an elastic cluster has no nodes of its own; its virtual nodes are left out"
	noContainerFS  = NoContainerDisk
	limitMissing   = "a container that counts has no limit, and the pod sets none of its own; k8s_pod_spec_missing is 1"
	hostNetworkPod = "the pod shares its node's network (hostNetwork), whose traffic is not its own"
)

var (
	usageSources   = []Source{Cgroups, CadvisorLabels, CadvisorPaths, ResourceAPI, StatsSummary, MetricsAPI, PodEndpoint}
	networkSources = []Source{Cgroups, CadvisorLabels, CadvisorPaths, StatsSummary, PodEndpoint}
	cacheSources   = networkSources // /metrics/resource and metrics.k8s.io tell the working set alone
	diskSources    = []Source{Cgroups, CadvisorLabels, CadvisorPaths, PodEndpoint}
	hostSources    = []Source{Host, StatsSummary}
	fromObjects    = []Source{Objects}
	fromSamples    = []Source{Rollup}
	notElastic     = map[ClusterKind]string{Elastic: noNodes}
)

// above is the usual default alert: the average over each of n minutes is
// above the threshold.
func above(threshold float64, n int) *Alert {
	return &Alert{Statistic: Avg, Op: ">", Threshold: threshold, Period: time.Minute, Need: n, Of: n, Severity: Warning}
}

// restarts is the default alert on a restart counter: more than so many within
// five minutes, once.
func restarts(threshold float64) *Alert {
	return &Alert{Statistic: Increase, Op: ">", Threshold: threshold, Period: 5 * time.Minute, Need: 1, Of: 1, Severity: Warning}
}

// metrics holds every entry, by level.
var metrics = func() []Metric {
	all := slices.Concat(core, extras)
	slices.SortStableFunc(all, func(a, b Metric) int { return slices.Index(Levels, a.Level) - slices.Index(Levels, b.Level) })
	return all
}()

// core holds the metrics that every cluster is judged by, and what they are of.
var core = []Metric{
	// Cluster.
	{
		Name: ClusterCPUUsedPercent, Title: "CPU used", Core: true,
		Help:  "CPU used by all pods, of the allocatable CPU of all real nodes.",
		Level: Cluster, Unit: Percent, Kind: Gauge, Place: ByServer, From: fromSamples,
		Sum: &Summed{Of: PodCPU, Per: ClusterCPUTotal}, Statistic: Avg, Alert: above(90, 5), Chart: Chart{Group: "cpu", Max: 100},
		Absent: "there is no allocatable CPU to divide by",
	},
	{
		Name: ClusterMemUsedPercent, Title: "Memory used (working set)", Core: true,
		Help:  "Working set of all pods, of the allocatable memory of all real nodes.",
		Level: Cluster, Unit: Percent, Kind: Gauge, Place: ByServer, From: fromSamples,
		Sum: &Summed{Of: PodMem, Per: ClusterMemTotal}, Statistic: Avg, Alert: above(90, 5), Chart: Chart{Group: "memory", Max: 100},
		Absent: "there is no allocatable memory to divide by",
	},
	{
		Name: ClusterCPURequestPercent, Title: "CPU requested", Core: true,
		Help:  "CPU requests of Pending and Running pods, overhead included, of the allocatable CPU of all real nodes.",
		Level: Cluster, Unit: Percent, Kind: Gauge, Place: ByCluster, From: fromObjects,
		Statistic: Avg, Alert: above(95, 5), Chart: Chart{Group: "cpu", Max: 100},
		Absent: "there is no allocatable CPU to divide by",
	},
	{
		Name: ClusterMemRequestPercent, Title: "Memory requested", Core: true,
		Help:  "Memory requests of Pending and Running pods, overhead included, of the allocatable memory of all real nodes.",
		Level: Cluster, Unit: Percent, Kind: Gauge, Place: ByCluster, From: fromObjects,
		Statistic: Avg, Alert: above(95, 5), Chart: Chart{Group: "memory", Max: 100},
		Absent: "there is no allocatable memory to divide by",
	},
	{
		Name: ClusterNodesNotReady, Title: "Nodes not ready", Core: true,
		Help:  "Real nodes whose Ready condition is not True; 0 when there is none.",
		Level: Cluster, Unit: Count, Kind: State, Place: ByCluster, From: fromObjects,
		Statistic: Max, Chart: Chart{Group: "nodes"}, Lacking: notElastic,
	},
	{
		Name: ClusterPods, Title: "Pods by phase", Core: true,
		Help:  "Pods in each phase; all five phases always have a series.",
		Level: Cluster, Unit: Count, Kind: State, Dimensions: []string{"phase"}, Place: ByCluster, From: fromObjects,
		Statistic: Last, Chart: Chart{Group: "pods"},
	},
	{
		Name: ClusterCPUTotal, Title: "Allocatable CPU",
		Help:  "Allocatable CPU of all real nodes, NotReady and cordoned ones included; of a cluster without nodes of its own, what the quotas of its namespaces allow.",
		Level: Cluster, Unit: Cores, Kind: Gauge, Place: ByCluster, From: fromObjects,
		Statistic: Last, Chart: Chart{Group: "capacity"}, Absent: "a namespace of a cluster without nodes of its own has pods and no quota",
	},
	{
		Name: ClusterMemTotal, Title: "Allocatable memory",
		Help:  "Allocatable memory of all real nodes, NotReady and cordoned ones included; of a cluster without nodes of its own, what the quotas of its namespaces allow.",
		Level: Cluster, Unit: Bytes, Kind: Gauge, Place: ByCluster, From: fromObjects,
		Statistic: Last, Chart: Chart{Group: "capacity"}, Absent: "a namespace of a cluster without nodes of its own has pods and no quota",
	},

	// Node.
	{
		Name: NodeReady, Title: "Ready", Core: true,
		Help:  "1 when the node's Ready condition is True, else 0. From the API server, so it stays when the node's kubelet or collector is gone.",
		Level: Node, Unit: Bool, Kind: State, Place: ByCluster, From: fromObjects, Lacking: notElastic,
		Statistic: Max, Chart: Chart{Group: "ready", Max: 1},
		Alert: &Alert{Statistic: Max, Op: "==", Threshold: 0, Period: time.Minute, Need: 2, Of: 2, Severity: Critical},
	},
	{
		Name: NodeCPUPercent, Title: "CPU used", Core: true,
		Help:  "CPU time of the node that was neither idle nor waiting for I/O. Read from outside: the root cgroup's CPU, of the node's capacity.",
		Level: Node, Unit: Percent, Kind: Gauge, Place: ByNode, From: hostSources, Lacking: notElastic,
		Statistic: Avg, Alert: above(90, 5), Chart: Chart{Group: "cpu", Max: 100},
	},
	{
		Name: NodeMemPercent, Title: "Memory used", Core: true,
		Help:  "1 − MemAvailable ÷ MemTotal. Read from outside: the root cgroup's working set, of the node's capacity.",
		Level: Node, Unit: Percent, Kind: Gauge, Place: ByNode, From: hostSources, Lacking: notElastic,
		Statistic: Avg, Alert: above(90, 5), Chart: Chart{Group: "memory", Max: 100},
	},
	{
		Name: NodeFilesystemPercent, Title: "File system used", Core: true,
		Help:  "Used ÷ (used + available to non-root), as df has it; one value per device, under its shortest mount point. Read from outside: the kubelet's root and image file systems.",
		Level: Node, Unit: Percent, Kind: Gauge, Dimensions: []string{"mountpoint"}, Place: ByNode, From: hostSources, Lacking: notElastic,
		Statistic: Max, Alert: above(90, 5), Chart: Chart{Group: "filesystem", Max: 100},
	},
	{
		Name: NodeNetworkReceive, Title: "Network in", Core: true,
		Help:  "Bytes received by the node's physical and default-route interfaces.",
		Level: Node, Unit: BytesPerSecond, Kind: Gauge, Place: ByNode, From: hostSources, Lacking: notElastic,
		Statistic: Avg, Chart: Chart{Group: "network"},
		Absent: "read from outside, when no interface of the kubelet's has the configured name",
	},
	{
		Name: NodeNetworkTransmit, Title: "Network out", Core: true,
		Help:  "Bytes sent by the node's physical and default-route interfaces.",
		Level: Node, Unit: BytesPerSecond, Kind: Gauge, Place: ByNode, From: hostSources, Lacking: notElastic,
		Statistic: Avg, Chart: Chart{Group: "network"},
		Absent: "read from outside, when no interface of the kubelet's has the configured name",
	},
	{
		Name: NodeTCPEstablished, Title: "TCP connections", Core: true,
		Help:  "Established TCP connections in the node's own network namespace.",
		Level: Node, Unit: Count, Kind: Gauge, Place: ByNode, From: []Source{Host}, Lacking: notElastic,
		LackingOutside: "the kubelet does not tell the number of TCP connections; a collector on the node reads it from /proc",
		Statistic:      Avg, Chart: Chart{Group: "tcp"},
	},
	{
		Name: NodeRestarts, Title: "Container restarts", Core: true,
		Help:  "Container restarts of the node's pods, as a counter raised by each pod's increase.",
		Level: Node, Unit: Count, Kind: Counter, Place: ByCluster, From: fromObjects, Lacking: notElastic,
		Statistic: Increase, Alert: restarts(5), Chart: Chart{Group: "restarts"},
	},

	// Workload.
	{
		Name: WorkloadCPU, Title: "CPU used", Core: true,
		Help:  "CPU used by the workload's pods.",
		Level: Workload, Unit: Cores, Kind: Gauge, Place: ByServer, From: fromSamples,
		Sum: &Summed{Of: PodCPU}, Statistic: Avg, Chart: Chart{Group: "cpu"},
	},
	{
		Name: WorkloadMem, Title: "Memory (working set)", Core: true,
		Help:  "Working set of the workload's pods.",
		Level: Workload, Unit: Bytes, Kind: Gauge, Place: ByServer, From: fromSamples,
		Sum: &Summed{Of: PodMem}, Statistic: Avg, Chart: Chart{Group: "memory"},
	},
	{
		Name: WorkloadNetworkReceive, Title: "Network in", Core: true,
		Help:  "Bytes received by the workload's pods, hostNetwork pods left out.",
		Level: Workload, Unit: BytesPerSecond, Kind: Gauge, Place: ByServer, From: fromSamples,
		Sum: &Summed{Of: PodNetworkReceive}, Statistic: Avg, Chart: Chart{Group: "network"},
		Absent: "all pods of the workload share their node's network (hostNetwork)",
	},
	{
		Name: WorkloadNetworkTransmit, Title: "Network out", Core: true,
		Help:  "Bytes sent by the workload's pods, hostNetwork pods left out.",
		Level: Workload, Unit: BytesPerSecond, Kind: Gauge, Place: ByServer, From: fromSamples,
		Sum: &Summed{Of: PodNetworkTransmit}, Statistic: Avg, Chart: Chart{Group: "network"},
		Absent: "all pods of the workload share their node's network (hostNetwork)",
	},
	{
		Name: WorkloadRestarts, Title: "Container restarts", Core: true,
		Help:  "Container restarts of the workload's pods, those deleted meanwhile included, as a counter raised by each pod's increase.",
		Level: Workload, Unit: Count, Kind: Counter, Place: ByCluster, From: fromObjects,
		Statistic: Increase, Alert: restarts(3), Chart: Chart{Group: "restarts"},
	},
	{
		Name: WorkloadAbnormal, Title: "Replicas missing", Core: true,
		Help:  "Desired − ready replicas; while rolling out max(0, desired − maxUnavailable − ready); a Job: 1 when it failed; a CronJob: 1 when its last Job failed or it is overdue.",
		Level: Workload, Unit: Count, Kind: State, Place: ByCluster, From: fromObjects,
		Statistic: Min, Chart: Chart{Group: "abnormal"},
		Alert: &Alert{Statistic: Min, Op: ">", Threshold: 0, Period: time.Minute, Need: 5, Of: 5, Severity: Warning},
	},

	// Pod.
	{
		Name: PodReady, Title: "Ready", Core: true,
		Help:  "1 when the pod's Ready condition is True, else 0. Pending, Running and Unknown pods that are not terminating.",
		Level: Pod, Unit: Bool, Kind: State, Place: ByCluster, From: fromObjects,
		Statistic: Max, Chart: Chart{Group: "ready", Max: 1},
		Absent: "the pod is terminating, Succeeded, Failed or evicted",
		Alert:  &Alert{Statistic: Max, Op: "==", Threshold: 0, Period: time.Minute, Need: 5, Of: 5, Severity: Warning},
	},
	{
		Name: PodRestarts, Title: "Container restarts", Core: true,
		Help:  "Sum of the restart counts of the pod's containers, init containers included.",
		Level: Pod, Unit: Count, Kind: Counter, Place: ByCluster, From: fromObjects,
		Statistic: Increase, Alert: restarts(2), Chart: Chart{Group: "restarts"},
	},
	{
		Name: PodCPU, Title: "CPU used", Core: true,
		Help:  "CPU used by the pod: its cgroup's rate where the source has it, else the sum over its containers.",
		Level: Pod, Unit: Cores, Kind: Gauge, Place: ByNode, From: usageSources,
		Statistic: Avg, Chart: Chart{Group: "cpu"},
		Absent: "a running container has no reading",
	},
	{
		Name: PodCPULimitPercent, Title: "CPU of limit", Core: true,
		Help:  "CPU used by the pod, of its CPU limit.",
		Level: Pod, Unit: Percent, Kind: Gauge, Place: ByNode, From: usageSources,
		Statistic: Avg, Alert: above(90, 5), Chart: Chart{Group: "cpu_limit", Max: 100}, Absent: limitMissing,
	},
	{
		Name: PodMem, Title: "Memory (working set)", Core: true,
		Help:  "Working set of the pod's running containers.",
		Level: Pod, Unit: Bytes, Kind: Gauge, Place: ByNode, From: usageSources,
		Statistic: Avg, Chart: Chart{Group: "memory"},
		Absent: "a running container has no reading",
	},
	{
		Name: PodMemLimitPercent, Title: "Memory of limit", Core: true,
		Help:  "Working set of the pod's running containers, of its memory limit.",
		Level: Pod, Unit: Percent, Kind: Gauge, Place: ByNode, From: usageSources,
		Statistic: Avg, Alert: above(90, 5), Chart: Chart{Group: "memory_limit", Max: 100}, Absent: limitMissing,
	},
	{
		Name: PodNetworkReceive, Title: "Network in", Core: true,
		Help:  "Bytes received by all of the pod's interfaces but lo.",
		Level: Pod, Unit: BytesPerSecond, Kind: Gauge, Place: ByNode, From: networkSources,
		Statistic: Avg, Chart: Chart{Group: "network"}, Absent: hostNetworkPod,
	},
	{
		Name: PodNetworkTransmit, Title: "Network out", Core: true,
		Help:  "Bytes sent by all of the pod's interfaces but lo.",
		Level: Pod, Unit: BytesPerSecond, Kind: Gauge, Place: ByNode, From: networkSources,
		Statistic: Avg, Chart: Chart{Group: "network"}, Absent: hostNetworkPod,
	},
	{
		Name: PodSpecMissing, Title: "Missing request or limit",
		Help:  "1 when a request or limit is missing, so that ratios to it do not exist.",
		Level: Pod, Unit: Bool, Kind: State, Dimensions: []string{"resource", "what"}, Place: ByCluster, From: fromObjects,
		Statistic: Last, Chart: Chart{Group: "spec", Max: 1}, Absent: "nothing is missing",
	},

	// Container.
	{
		Name: ContainerCPU, Title: "CPU used", Core: true,
		Help:  "CPU used by the container.",
		Level: Container, Unit: Cores, Kind: Gauge, Place: ByNode, From: usageSources,
		Statistic: Avg, Chart: Chart{Group: "cpu"}, Absent: "the container is not running",
	},
	{
		Name: ContainerMem, Title: "Memory (working set)", Core: true,
		Help:  "Working set of the container.",
		Level: Container, Unit: Bytes, Kind: Gauge, Place: ByNode, From: usageSources,
		Statistic: Avg, Chart: Chart{Group: "memory"}, Absent: "the container is not running",
	},
	{
		Name: ContainerFSRead, Title: "Disk read", Core: true,
		Help:  "Bytes that the container's cgroup read from block devices.",
		Level: Container, Unit: BytesPerSecond, Kind: Gauge, Place: ByNode, From: diskSources,
		Statistic: Avg, Chart: Chart{Group: "fs"}, Absent: noContainerFS,
	},
	{
		Name: ContainerFSWrite, Title: "Disk write", Core: true,
		Help:  "Bytes that the container's cgroup wrote to block devices.",
		Level: Container, Unit: BytesPerSecond, Kind: Gauge, Place: ByNode, From: diskSources,
		Statistic: Avg, Chart: Chart{Group: "fs"}, Absent: noContainerFS,
	},
}
