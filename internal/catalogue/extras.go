package catalogue

const (
	noRequest       = "a container that counts has no request, and the pod sets none of its own; k8s_pod_spec_missing is 1"
	noPeriods       = "the container has no CPU limit, so that the kernel does not throttle it"
	needsComponent  = "the component's /metrics cannot be read"
	noControlPlane  = "the provider runs the control plane and does not show it"
	hostOnly        = "the kubelet does not tell; a collector on the node reads it from /proc"
	noServicePod    = "no pod is behind it, or EndpointSlices may not be read"
	noServiceLimit  = "no pod is behind it, one that is has no limit, or EndpointSlices may not be read"
	noServiceMetric = "none of the pods behind it has the metric, or EndpointSlices may not be read"
	notFollowed     = "its log is not followed"
	usedBySummary   = "the kubelet's summary does not tell, or it was not asked in this interval"
)

var (
	fromComponents = []Source{Components}
	fromExpression = []Source{Expression}
	fromLines      = []Source{Lines}
	fromHost       = []Source{Host}
	fromSummary    = []Source{StatsSummary}
	fromProbes     = []Source{Probes}
	fromPeers      = []Source{Peers}
	notManaged     = map[ClusterKind]string{Managed: noControlPlane, Elastic: noControlPlane}
	notProbed      = map[ClusterKind]string{Elastic: noControlPlane} // what a probe from outside does not tell
	onlyElastic    = func() map[ClusterKind]string {
		const why = "pods are measured against their nodes there; the metric is for pods without a node of their own"
		return map[ClusterKind]string{Managed: why, Independent: why, Edge: why}
	}()
)

// behindService is the sum of a pod's metric over the pods behind each Service. A
// pod of which an older series lingers, as where the collector that should have
// ended it was killed, has one value all the same: two would leave every Service
// of the cluster without any.
func behindService(of string) string {
	return "sum by (namespace, service) (k8s_service_pod * on (cluster, namespace, pod) group_left () max by (cluster, namespace, pod) (" + of + "))"
}

// extras holds what goes beyond the core, under the same rules.
var extras = []Metric{
	// Cluster.
	{
		Name: "k8s_cluster_node_num", Title: "Nodes", Help: "Real nodes.",
		Level: Cluster, Unit: Count, Kind: State, Place: ByCluster, From: fromObjects, Statistic: Last, Chart: Chart{Group: "nodes"}, Lacking: notElastic,
	},
	{
		Name: "k8s_cluster_workload_num", Title: "Workloads", Help: "Top controllers, and pods that nobody controls.",
		Level: Cluster, Unit: Count, Kind: State, Place: ByCluster, From: fromObjects, Statistic: Last, Chart: Chart{Group: "workloads"},
	},
	{
		Name: "k8s_cluster_workload_abnormal_num", Title: "Abnormal workloads", Help: "Workloads that miss replicas, or whose Job failed.",
		Level: Cluster, Unit: Count, Kind: State, Place: ByCluster, From: fromObjects, Statistic: Max, Chart: Chart{Group: "workloads"},
	},
	{
		Name: "k8s_cluster_allocatable_pods_total", Title: "Allocatable pods", Help: "Pods that all real nodes may hold.",
		Level: Cluster, Unit: Count, Kind: Gauge, Place: ByCluster, From: fromObjects, Statistic: Last, Chart: Chart{Group: "pods"}, Lacking: notElastic,
	},
	{
		Name: "k8s_cluster_cpu_core_request", Title: "CPU requested", Help: "CPU requests of Pending and Running pods, overhead included.",
		Level: Cluster, Unit: Cores, Kind: Gauge, Place: ByCluster, From: fromObjects, Statistic: Avg, Chart: Chart{Group: "capacity"},
	},
	{
		Name: "k8s_cluster_mem_request_bytes", Title: "Memory requested", Help: "Memory requests of Pending and Running pods, overhead included.",
		Level: Cluster, Unit: Bytes, Kind: Gauge, Place: ByCluster, From: fromObjects, Statistic: Avg, Chart: Chart{Group: "capacity"},
	},
	{
		Name: "k8s_cluster_age", Title: "Age", Help: "Time since the cluster's oldest namespace was made.",
		Level: Cluster, Unit: Seconds, Kind: Gauge, Place: ByCluster, From: fromObjects, Statistic: Last, Chart: Chart{Group: "age"},
		Absent: "namespaces may not be read",
	},
	{
		Name: "k8s_cluster_cpu_core_used", Title: "CPU used", Help: "CPU used by all pods.",
		Level: Cluster, Unit: Cores, Kind: Gauge, Place: ByServer, From: fromSamples, Sum: &Summed{Of: PodCPU}, Statistic: Avg, Chart: Chart{Group: "cpu_cores"},
	},
	{
		Name: "k8s_cluster_mem_no_cache_bytes", Title: "Memory (working set)", Help: "Working set of all pods.",
		Level: Cluster, Unit: Bytes, Kind: Gauge, Place: ByServer, From: fromSamples, Sum: &Summed{Of: PodMem}, Statistic: Avg, Chart: Chart{Group: "memory_bytes"},
	},
	{
		Name: "k8s_cluster_mem_usage_bytes", Title: "Memory with cache", Help: "Memory of all pods, page cache included.",
		Level: Cluster, Unit: Bytes, Kind: Gauge, Place: ByServer, From: fromSamples, Sum: &Summed{Of: PodMemUsage}, Statistic: Avg, Chart: Chart{Group: "memory_bytes"},
	},
	{
		Name: "k8s_cluster_rate_mem_usage_bytes_cluster", Title: "Memory with cache", Help: "Memory of all pods, page cache included, of the allocatable memory of all real nodes.",
		Level: Cluster, Unit: Percent, Kind: Gauge, Place: ByServer, From: fromSamples, Sum: &Summed{Of: PodMemUsage, Per: ClusterMemTotal},
		Statistic: Avg, Chart: Chart{Group: "memory", Max: 100}, Absent: "there is no allocatable memory to divide by",
	},
	{
		Name: "k8s_cluster_network_receive_bytes_bw", Title: "Network in", Help: "Bytes received by all pods, hostNetwork pods left out.",
		Level: Cluster, Unit: BytesPerSecond, Kind: Gauge, Place: ByServer, From: fromSamples, Sum: &Summed{Of: PodNetworkReceive}, Statistic: Avg, Chart: Chart{Group: "network"},
	},
	{
		Name: "k8s_cluster_network_transmit_bytes_bw", Title: "Network out", Help: "Bytes sent by all pods, hostNetwork pods left out.",
		Level: Cluster, Unit: BytesPerSecond, Kind: Gauge, Place: ByServer, From: fromSamples, Sum: &Summed{Of: PodNetworkTransmit}, Statistic: Avg, Chart: Chart{Group: "network"},
	},
	{
		Name: "k8s_cluster_fs_read_bytes", Title: "Disk read", Help: "Bytes that all containers read from block devices.",
		Level: Cluster, Unit: BytesPerSecond, Kind: Gauge, Place: ByServer, From: fromSamples, Sum: &Summed{Of: PodFSRead}, Statistic: Avg, Chart: Chart{Group: "fs"}, Absent: noContainerFS,
	},
	{
		Name: "k8s_cluster_fs_write_bytes", Title: "Disk write", Help: "Bytes that all containers wrote to block devices.",
		Level: Cluster, Unit: BytesPerSecond, Kind: Gauge, Place: ByServer, From: fromSamples, Sum: &Summed{Of: PodFSWrite}, Statistic: Avg, Chart: Chart{Group: "fs"}, Absent: noContainerFS,
	},
	{
		Name: "k8s_cluster_fs_read_times", Title: "Disk reads", Help: "Reads of all containers from block devices.",
		Level: Cluster, Unit: PerSecond, Kind: Gauge, Place: ByServer, From: fromSamples, Sum: &Summed{Of: PodFSReads}, Statistic: Avg, Chart: Chart{Group: "fs_times"}, Absent: noContainerFS,
	},
	{
		Name: "k8s_cluster_fs_write_times", Title: "Disk writes", Help: "Writes of all containers to block devices.",
		Level: Cluster, Unit: PerSecond, Kind: Gauge, Place: ByServer, From: fromSamples, Sum: &Summed{Of: PodFSWrites}, Statistic: Avg, Chart: Chart{Group: "fs_times"}, Absent: noContainerFS,
	},

	// Node, from objects.
	{
		Name: "k8s_node_pod_num", Title: "Pods", Help: "Pending and Running pods that are bound to the node; those that ended are not counted.",
		Level: Node, Unit: Count, Kind: Gauge, Place: ByCluster, From: fromObjects, Statistic: Max, Chart: Chart{Group: "pods"}, Lacking: notElastic,
	},
	{
		Name: "k8s_node_allocatable", Title: "Allocatable", Help: "What pods may request of the node: cpu in cores, memory in bytes, pods and gpu in pieces.",
		Level: Node, Unit: Count, Kind: Gauge, Dimensions: []string{"resource"}, Place: ByCluster, From: fromObjects, Statistic: Last, Chart: Chart{Group: "allocatable"}, Lacking: notElastic,
	},
	{
		Name: "k8s_node_request", Title: "Requested", Help: "Requests of the node's Pending and Running pods, overhead included: cpu in cores, memory in bytes, gpu in cards.",
		Level: Node, Unit: Count, Kind: Gauge, Dimensions: []string{"resource"}, Place: ByCluster, From: fromObjects, Statistic: Avg, Chart: Chart{Group: "requested"}, Lacking: notElastic,
	},
	{
		Name: "k8s_node_limit", Title: "Limits", Help: "Limits of the node's Pending and Running pods that have one: cpu in cores, memory in bytes.",
		Level: Node, Unit: Count, Kind: Gauge, Dimensions: []string{"resource"}, Place: ByCluster, From: fromObjects, Statistic: Avg, Chart: Chart{Group: "limits"}, Lacking: notElastic,
	},
	{
		Name: "k8s_node_rate_cpu_core_request_node", Title: "CPU requested", Help: "CPU requests of the node's Pending and Running pods, of its allocatable CPU.",
		Level: Node, Unit: Percent, Kind: Gauge, Place: ByCluster, From: fromObjects, Statistic: Avg, Chart: Chart{Group: "requests", Max: 100}, Lacking: notElastic,
		Absent: "the node has no allocatable CPU",
	},
	{
		Name: "k8s_node_rate_mem_request_node", Title: "Memory requested", Help: "Memory requests of the node's Pending and Running pods, of its allocatable memory.",
		Level: Node, Unit: Percent, Kind: Gauge, Place: ByCluster, From: fromObjects, Statistic: Avg, Chart: Chart{Group: "requests", Max: 100}, Lacking: notElastic,
		Absent: "the node has no allocatable memory",
	},
	{
		Name: "k8s_node_condition", Title: "Condition", Help: "1 when the condition (DiskPressure, MemoryPressure, PIDPressure, NetworkUnavailable) is True or Unknown, else 0.",
		Level: Node, Unit: Bool, Kind: State, Dimensions: []string{"condition"}, Place: ByCluster, From: fromObjects, Statistic: Max, Chart: Chart{Group: "condition", Max: 1}, Lacking: notElastic,
		Absent: "the node does not tell of the condition",
	},
	{
		Name: "k8s_node_age", Title: "Age", Help: "Time since the node was made.",
		Level: Node, Unit: Seconds, Kind: Gauge, Place: ByCluster, From: fromObjects, Statistic: Last, Chart: Chart{Group: "age"}, Lacking: notElastic,
	},

	// Node, from its own readings.
	{
		Name: "k8s_node_load1", Title: "Load, 1 min", Help: "Processes that run or wait for a processor or the disk, averaged by the kernel over 1 minute.",
		Level: Node, Unit: Count, Kind: Gauge, Place: ByNode, From: fromHost, Statistic: Avg, Chart: Chart{Group: "load"}, Lacking: notElastic, LackingOutside: hostOnly,
	},
	{
		Name: "k8s_node_load5", Title: "Load, 5 min", Help: "Processes that run or wait for a processor or the disk, averaged by the kernel over 5 minutes.",
		Level: Node, Unit: Count, Kind: Gauge, Place: ByNode, From: fromHost, Statistic: Avg, Chart: Chart{Group: "load"}, Lacking: notElastic, LackingOutside: hostOnly,
	},
	{
		Name: "k8s_node_load15", Title: "Load, 15 min", Help: "Processes that run or wait for a processor or the disk, averaged by the kernel over 15 minutes.",
		Level: Node, Unit: Count, Kind: Gauge, Place: ByNode, From: fromHost, Statistic: Avg, Chart: Chart{Group: "load"}, Lacking: notElastic, LackingOutside: hostOnly,
	},
	{
		Name: "k8s_node_fs_read_bytes", Title: "Disk read", Help: "Bytes read from the node's whole disks.",
		Level: Node, Unit: BytesPerSecond, Kind: Gauge, Place: ByNode, From: fromHost, Statistic: Avg, Chart: Chart{Group: "fs"}, Lacking: notElastic, LackingOutside: hostOnly,
		Absent: "the node has no disk that could be found",
	},
	{
		Name: "k8s_node_fs_write_bytes", Title: "Disk write", Help: "Bytes written to the node's whole disks.",
		Level: Node, Unit: BytesPerSecond, Kind: Gauge, Place: ByNode, From: fromHost, Statistic: Avg, Chart: Chart{Group: "fs"}, Lacking: notElastic, LackingOutside: hostOnly,
		Absent: "the node has no disk that could be found",
	},
	{
		Name: "k8s_node_fs_read_times", Title: "Disk reads", Help: "Reads from the node's whole disks.",
		Level: Node, Unit: PerSecond, Kind: Gauge, Place: ByNode, From: fromHost, Statistic: Avg, Chart: Chart{Group: "fs_times"}, Lacking: notElastic, LackingOutside: hostOnly,
		Absent: "the node has no disk that could be found",
	},
	{
		Name: "k8s_node_fs_write_times", Title: "Disk writes", Help: "Writes to the node's whole disks.",
		Level: Node, Unit: PerSecond, Kind: Gauge, Place: ByNode, From: fromHost, Statistic: Avg, Chart: Chart{Group: "fs_times"}, Lacking: notElastic, LackingOutside: hostOnly,
		Absent: "the node has no disk that could be found",
	},
	{
		Name: "k8s_node_filesystem_inode_usage", Title: "Inodes used", Help: "Used inodes of all that the file system has.",
		Level: Node, Unit: Percent, Kind: Gauge, Dimensions: []string{"mountpoint"}, Place: ByNode, From: hostSources, Statistic: Max,
		Alert: above(90, 5), Chart: Chart{Group: "inodes", Max: 100}, Lacking: notElastic, Absent: "the file system makes inodes as it needs them",
	},
	{
		Name: "k8s_node_network_errors", Title: "Network errors", Help: "Packets that the node's own interfaces received or sent with errors.",
		Level: Node, Unit: PerSecond, Kind: Gauge, Place: ByNode, From: hostSources, Statistic: Max, Chart: Chart{Group: "network_errors"}, Lacking: notElastic,
		Absent: "read from outside, when no interface of the kubelet's has the configured name",
	},
	{
		Name: "k8s_node_network_drops", Title: "Packets dropped", Help: "Packets that the node's own interfaces dropped on the way in or out.",
		Level: Node, Unit: PerSecond, Kind: Gauge, Place: ByNode, From: fromHost, Statistic: Max, Chart: Chart{Group: "network_errors"}, Lacking: notElastic, LackingOutside: hostOnly,
		Absent: "the node has no interface that could be found",
	},
	{
		Name: "k8s_node_oom_kill_total", Title: "OOM kills", Help: "Processes that the node's kernel killed because memory ran out.",
		Level: Node, Unit: Count, Kind: Counter, Place: ByNode, From: fromHost, Statistic: Increase, Chart: Chart{Group: "oom"}, Lacking: notElastic, LackingOutside: hostOnly,
		Absent: "the kernel does not count them",
	},
	{
		Name: "k8s_node_conntrack_usage", Title: "Connection tracking used", Help: "Tracked connections, of as many as the kernel tracks.",
		Level: Node, Unit: Percent, Kind: Gauge, Place: ByNode, From: fromHost, Statistic: Max, Alert: above(90, 5), Chart: Chart{Group: "conntrack", Max: 100},
		Lacking: notElastic, LackingOutside: hostOnly, Absent: "the kernel does not track connections",
	},
	{
		Name: "k8s_node_clock_offset_seconds", Title: "Clock offset", Help: "By how much the node's clock is ahead of the server's; behind is negative. Known to within half a round trip.",
		Level: Node, Unit: Seconds, Kind: Gauge, Place: ByNode, From: fromHost, Statistic: Max, Chart: Chart{Group: "clock"}, Lacking: notElastic,
		LackingOutside: "only a collector on the node shows the node's clock", Absent: "the server did not answer yet",
	},
	{
		Name: "k8s_node_kubelet_ready", Title: "Kubelet answers", Help: "1 when the kubelet answered in the interval, else 0.",
		Level: Node, Unit: Bool, Kind: State, Place: ByNode, From: usageSources, Statistic: Max, Chart: Chart{Group: "kubelet", Max: 1}, Lacking: notElastic,
	},
	{
		Name: NodePeerReached, Title: "Reached by a peer", Help: "1 when another node, the peer, got an answer from this one, else 0; each node is asked by three. probe says of what: node (anything that answers at its address), kubelet (its port), collector (the health of the collector on it, over the pods' network).",
		Level: Node, Unit: Bool, Kind: Gauge, Dimensions: []string{"peer", "probe"}, Place: ByNode, From: fromPeers, Statistic: Min, Chart: Chart{Group: "peers", Max: 1}, Lacking: notElastic,
		LackingOutside: "only collectors on nodes ask other nodes",
		Absent:         "the cluster has one node only, or the peer never got such an answer from any node: a network policy may forbid it",
	},
	{
		Name: NodePeersReached, Title: "Peers that reach it", Help: "Of the other nodes that ask this one, the part that got any answer.",
		Level: Node, Unit: Percent, Kind: Gauge, Place: ByServer, From: fromExpression, Statistic: Avg, Chart: Chart{Group: "peers_reached", Max: 100}, Lacking: notElastic,
		LackingOutside: "only collectors on nodes ask other nodes",
		Absent:         "the cluster has one node only, or network policies forbid the nodes' collectors to ask each other",
		Expr:           "100 * avg by (cluster, node) (max by (cluster, node, peer) (" + NodePeerReached + "))",
	},

	// Namespace.
	{
		Name: "k8s_namespace_pod_num", Title: "Pods by phase", Help: "Pods in each phase that has one.",
		Level: Namespace, Unit: Count, Kind: Gauge, Dimensions: []string{"phase"}, Place: ByCluster, From: fromObjects, Statistic: Last, Chart: Chart{Group: "pods"},
		Absent: "no pod is in the phase",
	},
	{
		Name: NamespaceRestarts, Title: "Container restarts", Help: "Container restarts of the namespace's pods, as a counter raised by each pod's increase.",
		Level: Namespace, Unit: Count, Kind: Counter, Place: ByCluster, From: fromObjects, Statistic: Increase, Chart: Chart{Group: "restarts"},
		Absent: "the namespace has no pod",
	},
	{
		Name: "k8s_namespace_cpu_core_request", Title: "CPU requested", Help: "CPU requests of the namespace's Pending and Running pods.",
		Level: Namespace, Unit: Cores, Kind: Gauge, Place: ByCluster, From: fromObjects, Statistic: Avg, Chart: Chart{Group: "cpu"}, Absent: "the namespace has no pod",
	},
	{
		Name: "k8s_namespace_mem_request_bytes", Title: "Memory requested", Help: "Memory requests of the namespace's Pending and Running pods.",
		Level: Namespace, Unit: Bytes, Kind: Gauge, Place: ByCluster, From: fromObjects, Statistic: Avg, Chart: Chart{Group: "memory"}, Absent: "the namespace has no pod",
	},
	{
		Name: "k8s_namespace_cpu_core_limit", Title: "CPU limit", Help: "CPU limits of the namespace's Pending and Running pods.",
		Level: Namespace, Unit: Cores, Kind: Gauge, Place: ByCluster, From: fromObjects, Statistic: Avg, Chart: Chart{Group: "cpu"}, Absent: "the namespace has no pod, or one without a limit",
	},
	{
		Name: "k8s_namespace_mem_limit_bytes", Title: "Memory limit", Help: "Memory limits of the namespace's Pending and Running pods.",
		Level: Namespace, Unit: Bytes, Kind: Gauge, Place: ByCluster, From: fromObjects, Statistic: Avg, Chart: Chart{Group: "memory"}, Absent: "the namespace has no pod, or one without a limit",
	},
	{
		Name: "k8s_namespace_quota_usage", Title: "Quota used", Help: "Used part of the namespace's quota for a resource; the fullest where several quotas name it.",
		Level: Namespace, Unit: Percent, Kind: Gauge, Dimensions: []string{"resource"}, Place: ByCluster, From: fromObjects, Statistic: Max, Chart: Chart{Group: "quota", Max: 100},
		Absent: "the namespace has no quota, or quotas may not be read",
	},
	{
		Name: NamespaceCPU, Title: "CPU used", Help: "CPU used by the namespace's pods.",
		Level: Namespace, Unit: Cores, Kind: Gauge, Place: ByServer, From: fromSamples, Sum: &Summed{Of: PodCPU}, Statistic: Avg, Chart: Chart{Group: "cpu"},
	},
	{
		Name: NamespaceMem, Title: "Memory (working set)", Help: "Working set of the namespace's pods.",
		Level: Namespace, Unit: Bytes, Kind: Gauge, Place: ByServer, From: fromSamples, Sum: &Summed{Of: PodMem}, Statistic: Avg, Chart: Chart{Group: "memory"},
	},
	{
		Name: "k8s_namespace_mem_usage_bytes", Title: "Memory with cache", Help: "Memory of the namespace's pods, page cache included.",
		Level: Namespace, Unit: Bytes, Kind: Gauge, Place: ByServer, From: fromSamples, Sum: &Summed{Of: PodMemUsage}, Statistic: Avg, Chart: Chart{Group: "memory"},
	},
	{
		Name: "k8s_namespace_network_receive_bytes_bw", Title: "Network in", Help: "Bytes received by the namespace's pods.",
		Level: Namespace, Unit: BytesPerSecond, Kind: Gauge, Place: ByServer, From: fromSamples, Sum: &Summed{Of: PodNetworkReceive}, Statistic: Avg, Chart: Chart{Group: "network"},
	},
	{
		Name: "k8s_namespace_network_transmit_bytes_bw", Title: "Network out", Help: "Bytes sent by the namespace's pods.",
		Level: Namespace, Unit: BytesPerSecond, Kind: Gauge, Place: ByServer, From: fromSamples, Sum: &Summed{Of: PodNetworkTransmit}, Statistic: Avg, Chart: Chart{Group: "network"},
	},
	{
		Name: "k8s_namespace_fs_read_bytes", Title: "Disk read", Help: "Bytes that the namespace's containers read from block devices.",
		Level: Namespace, Unit: BytesPerSecond, Kind: Gauge, Place: ByServer, From: fromSamples, Sum: &Summed{Of: PodFSRead}, Statistic: Avg, Chart: Chart{Group: "fs"}, Absent: noContainerFS,
	},
	{
		Name: "k8s_namespace_fs_write_bytes", Title: "Disk write", Help: "Bytes that the namespace's containers wrote to block devices.",
		Level: Namespace, Unit: BytesPerSecond, Kind: Gauge, Place: ByServer, From: fromSamples, Sum: &Summed{Of: PodFSWrite}, Statistic: Avg, Chart: Chart{Group: "fs"}, Absent: noContainerFS,
	},
	{
		Name: "k8s_namespace_fs_read_times", Title: "Disk reads", Help: "Reads of the namespace's containers from block devices.",
		Level: Namespace, Unit: PerSecond, Kind: Gauge, Place: ByServer, From: fromSamples, Sum: &Summed{Of: PodFSReads}, Statistic: Avg, Chart: Chart{Group: "fs_times"}, Absent: noContainerFS,
	},
	{
		Name: "k8s_namespace_fs_write_times", Title: "Disk writes", Help: "Writes of the namespace's containers to block devices.",
		Level: Namespace, Unit: PerSecond, Kind: Gauge, Place: ByServer, From: fromSamples, Sum: &Summed{Of: PodFSWrites}, Statistic: Avg, Chart: Chart{Group: "fs_times"}, Absent: noContainerFS,
	},
	{
		Name: "k8s_namespace_network_receive_packets", Title: "Packets in", Help: "Packets received by the namespace's pods.",
		Level: Namespace, Unit: PerSecond, Kind: Gauge, Place: ByServer, From: fromSamples, Sum: &Summed{Of: PodPacketsReceive}, Statistic: Avg, Chart: Chart{Group: "packets"},
	},
	{
		Name: "k8s_namespace_network_transmit_packets", Title: "Packets out", Help: "Packets sent by the namespace's pods.",
		Level: Namespace, Unit: PerSecond, Kind: Gauge, Place: ByServer, From: fromSamples, Sum: &Summed{Of: PodPacketsTransmit}, Statistic: Avg, Chart: Chart{Group: "packets"},
	},
	{
		Name: "k8s_namespace_rate_cpu_core_used_cluster", Title: "CPU of cluster", Help: "CPU used by the namespace's pods, of the allocatable CPU of all real nodes.",
		Level: Namespace, Unit: Percent, Kind: Gauge, Place: ByServer, From: fromExpression, Statistic: Avg, Chart: Chart{Group: "cpu_cluster"}, Absent: "there is no allocatable CPU to divide by",
		Expr: `100 * k8s_namespace_cpu_core_used / on (cluster) group_left () (k8s_cluster_cpu_core_total > 0)`,
	},
	{
		Name: "k8s_namespace_rate_mem_no_cache_cluster", Title: "Memory of cluster", Help: "Working set of the namespace's pods, of the allocatable memory of all real nodes.",
		Level: Namespace, Unit: Percent, Kind: Gauge, Place: ByServer, From: fromExpression, Statistic: Avg, Chart: Chart{Group: "memory_cluster"}, Absent: "there is no allocatable memory to divide by",
		Expr: `100 * k8s_namespace_mem_no_cache_bytes / on (cluster) group_left () (k8s_cluster_memory_total > 0)`,
	},
	{
		Name: "k8s_namespace_replicas_desire", Title: "Replicas desired", Help: "Replicas that the namespace's workloads should have together.",
		Level: Namespace, Unit: Count, Kind: Gauge, Place: ByCluster, From: fromObjects, Statistic: Last, Chart: Chart{Group: "replicas"}, Absent: "the namespace has no workload",
	},
	{
		Name: "k8s_namespace_replicas_ready", Title: "Replicas ready", Help: "Replicas of the namespace's workloads that are ready.",
		Level: Namespace, Unit: Count, Kind: Gauge, Place: ByCluster, From: fromObjects, Statistic: Min, Chart: Chart{Group: "replicas"}, Absent: "the namespace has no workload",
	},
	{
		Name: "k8s_namespace_rate_cpu_core_used_limit", Title: "CPU of limit", Help: "CPU used by the namespace's pods, of the sum of their limits.",
		Level: Namespace, Unit: Percent, Kind: Gauge, Place: ByServer, From: fromExpression, Statistic: Avg, Chart: Chart{Group: "cpu_limit", Max: 100}, Absent: "the namespace has no pod, or one without a limit",
		Expr: `100 * k8s_namespace_cpu_core_used / (k8s_namespace_cpu_core_limit > 0)`,
	},
	{
		Name: "k8s_namespace_rate_mem_no_cache_limit", Title: "Memory of limit", Help: "Working set of the namespace's pods, of the sum of their limits.",
		Level: Namespace, Unit: Percent, Kind: Gauge, Place: ByServer, From: fromExpression, Statistic: Avg, Chart: Chart{Group: "memory_limit", Max: 100}, Absent: "the namespace has no pod, or one without a limit",
		Expr: `100 * k8s_namespace_mem_no_cache_bytes / (k8s_namespace_mem_limit_bytes > 0)`,
	},

	// Workload.
	{
		Name: "k8s_workload_replicas_desire", Title: "Replicas desired", Help: "Replicas that the workload should have.",
		Level: Workload, Unit: Count, Kind: State, Place: ByCluster, From: fromObjects, Statistic: Last, Chart: Chart{Group: "replicas"},
	},
	{
		Name: "k8s_workload_replicas_ready", Title: "Replicas ready", Help: "Replicas that are ready.",
		Level: Workload, Unit: Count, Kind: State, Place: ByCluster, From: fromObjects, Statistic: Min, Chart: Chart{Group: "replicas"},
	},
	{
		Name: "k8s_workload_pod_num", Title: "Pods by phase", Help: "The workload's pods in each phase that has one.",
		Level: Workload, Unit: Count, Kind: Gauge, Dimensions: []string{"phase"}, Place: ByCluster, From: fromObjects, Statistic: Last, Chart: Chart{Group: "pods"},
		Absent: "none of its pods is in the phase",
	},
	{
		Name: "k8s_workload_cpu_core_request", Title: "CPU requested", Help: "CPU requests of the workload's Pending and Running pods.",
		Level: Workload, Unit: Cores, Kind: Gauge, Place: ByCluster, From: fromObjects, Statistic: Avg, Chart: Chart{Group: "cpu"}, Absent: "the workload has no pod",
	},
	{
		Name: "k8s_workload_mem_request_bytes", Title: "Memory requested", Help: "Memory requests of the workload's Pending and Running pods.",
		Level: Workload, Unit: Bytes, Kind: Gauge, Place: ByCluster, From: fromObjects, Statistic: Avg, Chart: Chart{Group: "memory"}, Absent: "the workload has no pod",
	},
	{
		Name: WorkloadCPULimit, Title: "CPU limit", Help: "CPU limits of the workload's Pending and Running pods.",
		Level: Workload, Unit: Cores, Kind: Gauge, Place: ByCluster, From: fromObjects, Statistic: Avg, Chart: Chart{Group: "cpu"}, Absent: "one of its pods has no limit",
	},
	{
		Name: WorkloadMemLimit, Title: "Memory limit", Help: "Memory limits of the workload's Pending and Running pods.",
		Level: Workload, Unit: Bytes, Kind: Gauge, Place: ByCluster, From: fromObjects, Statistic: Avg, Chart: Chart{Group: "memory"}, Absent: "one of its pods has no limit",
	},
	{
		Name: "k8s_workload_rate_cpu_core_used_limit", Title: "CPU of limit", Help: "CPU used by the workload's pods, of the sum of their limits.",
		Level: Workload, Unit: Percent, Kind: Gauge, Place: ByServer, From: fromSamples, Sum: &Summed{Of: PodCPU, Per: WorkloadCPULimit},
		Statistic: Avg, Chart: Chart{Group: "cpu_limit", Max: 100}, Absent: "one of its pods has no limit",
	},
	{
		Name: "k8s_workload_rate_mem_no_cache_limit", Title: "Memory of limit", Help: "Working set of the workload's pods, of the sum of their limits.",
		Level: Workload, Unit: Percent, Kind: Gauge, Place: ByServer, From: fromSamples, Sum: &Summed{Of: PodMem, Per: WorkloadMemLimit},
		Statistic: Avg, Chart: Chart{Group: "memory_limit", Max: 100}, Absent: "one of its pods has no limit",
	},
	{
		Name: "k8s_workload_rate_cpu_core_used_cluster", Title: "CPU of cluster", Help: "CPU used by the workload's pods, of the allocatable CPU of all real nodes.",
		Level: Workload, Unit: Percent, Kind: Gauge, Place: ByServer, From: fromExpression, Statistic: Avg, Chart: Chart{Group: "cpu_cluster"}, Absent: "there is no allocatable CPU to divide by",
		Expr: `100 * k8s_workload_cpu_core_used / on (cluster) group_left () (k8s_cluster_cpu_core_total > 0)`,
	},
	{
		Name: "k8s_workload_rate_mem_no_cache_cluster", Title: "Memory of cluster", Help: "Working set of the workload's pods, of the allocatable memory of all real nodes.",
		Level: Workload, Unit: Percent, Kind: Gauge, Place: ByServer, From: fromExpression, Statistic: Avg, Chart: Chart{Group: "memory_cluster"}, Absent: "there is no allocatable memory to divide by",
		Expr: `100 * k8s_workload_mem_no_cache_bytes / on (cluster) group_left () (k8s_cluster_memory_total > 0)`,
	},
	{
		Name: "k8s_workload_mem_usage_bytes", Title: "Memory with cache", Help: "Memory of the workload's pods, page cache included.",
		Level: Workload, Unit: Bytes, Kind: Gauge, Place: ByServer, From: fromSamples, Sum: &Summed{Of: PodMemUsage}, Statistic: Avg, Chart: Chart{Group: "memory"},
	},
	{
		Name: "k8s_workload_network_receive_packets", Title: "Packets in", Help: "Packets received by the workload's pods.",
		Level: Workload, Unit: PerSecond, Kind: Gauge, Place: ByServer, From: fromSamples, Sum: &Summed{Of: PodPacketsReceive}, Statistic: Avg, Chart: Chart{Group: "packets"},
	},
	{
		Name: "k8s_workload_network_transmit_packets", Title: "Packets out", Help: "Packets sent by the workload's pods.",
		Level: Workload, Unit: PerSecond, Kind: Gauge, Place: ByServer, From: fromSamples, Sum: &Summed{Of: PodPacketsTransmit}, Statistic: Avg, Chart: Chart{Group: "packets"},
	},
	{
		Name: "k8s_workload_fs_read_bytes", Title: "Disk read", Help: "Bytes that the workload's containers read from block devices.",
		Level: Workload, Unit: BytesPerSecond, Kind: Gauge, Place: ByServer, From: fromSamples, Sum: &Summed{Of: PodFSRead}, Statistic: Avg, Chart: Chart{Group: "fs"}, Absent: noContainerFS,
	},
	{
		Name: "k8s_workload_fs_write_bytes", Title: "Disk write", Help: "Bytes that the workload's containers wrote to block devices.",
		Level: Workload, Unit: BytesPerSecond, Kind: Gauge, Place: ByServer, From: fromSamples, Sum: &Summed{Of: PodFSWrite}, Statistic: Avg, Chart: Chart{Group: "fs"}, Absent: noContainerFS,
	},
	{
		Name: "k8s_workload_fs_read_times", Title: "Disk reads", Help: "Reads of the workload's containers from block devices.",
		Level: Workload, Unit: PerSecond, Kind: Gauge, Place: ByServer, From: fromSamples, Sum: &Summed{Of: PodFSReads}, Statistic: Avg, Chart: Chart{Group: "fs_times"}, Absent: noContainerFS,
	},
	{
		Name: "k8s_workload_fs_write_times", Title: "Disk writes", Help: "Writes of the workload's containers to block devices.",
		Level: Workload, Unit: PerSecond, Kind: Gauge, Place: ByServer, From: fromSamples, Sum: &Summed{Of: PodFSWrites}, Statistic: Avg, Chart: Chart{Group: "fs_times"}, Absent: noContainerFS,
	},
	{
		Name: "k8s_workload_hpa_replicas_current", Title: "Autoscaler: current", Help: "Replicas that the workload's HorizontalPodAutoscaler saw last.",
		Level: Workload, Unit: Count, Kind: Gauge, Place: ByCluster, From: fromObjects, Statistic: Last, Chart: Chart{Group: "hpa"}, Absent: "no autoscaler scales the workload",
	},
	{
		Name: "k8s_workload_hpa_replicas_desired", Title: "Autoscaler: desired", Help: "Replicas that the workload's HorizontalPodAutoscaler wants.",
		Level: Workload, Unit: Count, Kind: Gauge, Place: ByCluster, From: fromObjects, Statistic: Last, Chart: Chart{Group: "hpa"}, Absent: "no autoscaler scales the workload",
	},
	{
		Name: "k8s_workload_hpa_replicas_max", Title: "Autoscaler: most", Help: "The most replicas that the workload's HorizontalPodAutoscaler may want.",
		Level: Workload, Unit: Count, Kind: Gauge, Place: ByCluster, From: fromObjects, Statistic: Last, Chart: Chart{Group: "hpa"}, Absent: "no autoscaler scales the workload",
	},
	{
		Name: "k8s_workload_job_failed", Title: "Job failed", Help: "1 when the Job, or the CronJob's newest Job, has failed for good; 0 again after a later one succeeds.",
		Level: Workload, Unit: Bool, Kind: State, Place: ByCluster, From: fromObjects, Statistic: Max, Chart: Chart{Group: "job", Max: 1}, Absent: "it is no Job or CronJob, or none has run",
	},
	{
		Name: "k8s_workload_job_duration", Title: "Job duration", Help: "How long the Job, or the CronJob's newest Job, runs or ran.",
		Level: Workload, Unit: Seconds, Kind: Gauge, Place: ByCluster, From: fromObjects, Statistic: Max, Chart: Chart{Group: "job_duration"}, Absent: "it is no Job or CronJob, or none has started",
	},
	{
		Name: "k8s_workload_cronjob_missed", Title: "CronJob missed", Help: "1 when the CronJob is overdue by its deadline, else by one period.",
		Level: Workload, Unit: Bool, Kind: State, Place: ByCluster, From: fromObjects, Statistic: Max, Chart: Chart{Group: "job", Max: 1}, Absent: "it is no CronJob",
	},
	{
		Name: "k8s_workload_rollout_stuck", Title: "Rollout stuck", Help: "1 when a rollout has made no progress for its deadline: a Deployment's own, 10 minutes for the others.",
		Level: Workload, Unit: Bool, Kind: State, Place: ByCluster, From: fromObjects, Statistic: Min, Chart: Chart{Group: "rollout", Max: 1}, Absent: "it is not rolled out: a Job, a CronJob or a bare ReplicaSet",
	},

	// Service.
	{
		Name: ServiceEndpointsReady, Title: "Endpoints ready", Help: "Addresses behind the Service that are ready.",
		Level: Service, Unit: Count, Kind: Gauge, Place: ByCluster, From: fromObjects, Statistic: Min, Chart: Chart{Group: "endpoints"},
		Absent: "the Service selects no pods, or EndpointSlices may not be read",
	},
	{
		Name: ServiceEndpointsNotReady, Title: "Endpoints not ready", Help: "Addresses behind the Service that are not ready; those of terminating pods are not counted.",
		Level: Service, Unit: Count, Kind: Gauge, Place: ByCluster, From: fromObjects, Statistic: Max, Chart: Chart{Group: "endpoints"},
		Absent: "the Service selects no pods, or EndpointSlices may not be read",
	},
	{
		Name: "k8s_service_pod", Title: "Pods behind it", Help: "1 for each pod whose address is behind the Service, ready or not; those that terminate are not.",
		Level: Service, Unit: Bool, Kind: Gauge, Dimensions: []string{"pod"}, Place: ByCluster, From: fromObjects, Statistic: Last, Chart: Chart{Group: "pods"},
		Absent: "the pod is not behind the Service, or EndpointSlices may not be read",
	},
	{
		Name: "k8s_service_cpu_core_used", Title: "CPU used", Help: "CPU used by the pods behind the Service.",
		Level: Service, Unit: Cores, Kind: Gauge, Place: ByServer, From: fromExpression, Statistic: Avg, Chart: Chart{Group: "cpu"}, Absent: noServiceMetric,
		Expr: behindService("k8s_pod_cpu_core_used"),
	},
	{
		Name: "k8s_service_mem_no_cache_bytes", Title: "Memory (working set)", Help: "Working set of the pods behind the Service.",
		Level: Service, Unit: Bytes, Kind: Gauge, Place: ByServer, From: fromExpression, Statistic: Avg, Chart: Chart{Group: "memory"}, Absent: noServiceMetric,
		Expr: behindService("k8s_pod_mem_no_cache_bytes"),
	},
	{
		Name: "k8s_service_network_receive_bytes_bw", Title: "Network in", Help: "Bytes received by the pods behind the Service, by whatever way.",
		Level: Service, Unit: BytesPerSecond, Kind: Gauge, Place: ByServer, From: fromExpression, Statistic: Avg, Chart: Chart{Group: "network"}, Absent: noServiceMetric,
		Expr: behindService("k8s_pod_network_receive_bytes_bw"),
	},
	{
		Name: "k8s_service_network_transmit_bytes_bw", Title: "Network out", Help: "Bytes sent by the pods behind the Service, by whatever way.",
		Level: Service, Unit: BytesPerSecond, Kind: Gauge, Place: ByServer, From: fromExpression, Statistic: Avg, Chart: Chart{Group: "network"}, Absent: noServiceMetric,
		Expr: behindService("k8s_pod_network_transmit_bytes_bw"),
	},
	{
		Name: "k8s_service_mem_usage_bytes", Title: "Memory with cache", Help: "Memory of the pods behind the Service, page cache included.",
		Level: Service, Unit: Bytes, Kind: Gauge, Place: ByServer, From: fromExpression, Statistic: Avg, Chart: Chart{Group: "memory"}, Absent: noServiceMetric,
		Expr: behindService("k8s_pod_mem_usage_bytes"),
	},
	{
		Name: "k8s_service_pod_restarts", Title: "Container restarts, 5 min", Help: "Container restarts of the pods behind the Service in the last 5 minutes.",
		Level: Service, Unit: Count, Kind: Gauge, Place: ByServer, From: fromExpression, Statistic: Max, Chart: Chart{Group: "restarts"}, Absent: noServicePod,
		Expr: behindService("k8s_pod_restart_total - min_over_time(k8s_pod_restart_total[5m])"),
	},
	{
		Name: "k8s_service_pod_num", Title: "Pods by phase", Help: "Pods behind the Service in each phase that has one.",
		Level: Service, Unit: Count, Kind: Gauge, Dimensions: []string{"phase"}, Place: ByCluster, From: fromObjects, Statistic: Last, Chart: Chart{Group: "pods"}, Absent: "none of the pods behind it is in the phase, or EndpointSlices may not be read",
	},
	{
		Name: "k8s_service_cpu_core_request", Title: "CPU requested", Help: "CPU requests of the pods behind the Service.",
		Level: Service, Unit: Cores, Kind: Gauge, Place: ByCluster, From: fromObjects, Statistic: Avg, Chart: Chart{Group: "cpu"}, Absent: noServicePod,
	},
	{
		Name: "k8s_service_mem_request_bytes", Title: "Memory requested", Help: "Memory requests of the pods behind the Service.",
		Level: Service, Unit: Bytes, Kind: Gauge, Place: ByCluster, From: fromObjects, Statistic: Avg, Chart: Chart{Group: "memory"}, Absent: noServicePod,
	},
	{
		Name: "k8s_service_cpu_core_limit", Title: "CPU limit", Help: "CPU limits of the pods behind the Service.",
		Level: Service, Unit: Cores, Kind: Gauge, Place: ByCluster, From: fromObjects, Statistic: Avg, Chart: Chart{Group: "cpu"}, Absent: noServiceLimit,
	},
	{
		Name: "k8s_service_mem_limit_bytes", Title: "Memory limit", Help: "Memory limits of the pods behind the Service.",
		Level: Service, Unit: Bytes, Kind: Gauge, Place: ByCluster, From: fromObjects, Statistic: Avg, Chart: Chart{Group: "memory"}, Absent: noServiceLimit,
	},
	{
		Name: "k8s_service_rate_cpu_core_used_limit", Title: "CPU of limit", Help: "CPU used by the pods behind the Service, of the sum of their limits.",
		Level: Service, Unit: Percent, Kind: Gauge, Place: ByServer, From: fromExpression, Statistic: Avg, Chart: Chart{Group: "cpu_limit", Max: 100}, Absent: noServiceLimit,
		Expr: `100 * k8s_service_cpu_core_used / (k8s_service_cpu_core_limit > 0)`,
	},
	{
		Name: "k8s_service_rate_mem_no_cache_limit", Title: "Memory of limit", Help: "Working set of the pods behind the Service, of the sum of their limits.",
		Level: Service, Unit: Percent, Kind: Gauge, Place: ByServer, From: fromExpression, Statistic: Avg, Chart: Chart{Group: "memory_limit", Max: 100}, Absent: noServiceLimit,
		Expr: `100 * k8s_service_mem_no_cache_bytes / (k8s_service_mem_limit_bytes > 0)`,
	},
	{
		Name: "k8s_service_rate_cpu_core_used_cluster", Title: "CPU of cluster", Help: "CPU used by the pods behind the Service, of the allocatable CPU of all real nodes.",
		Level: Service, Unit: Percent, Kind: Gauge, Place: ByServer, From: fromExpression, Statistic: Avg, Chart: Chart{Group: "cpu_cluster"}, Absent: "there is no allocatable CPU to divide by",
		Expr: `100 * k8s_service_cpu_core_used / on (cluster) group_left () (k8s_cluster_cpu_core_total > 0)`,
	},
	{
		Name: "k8s_service_rate_mem_no_cache_cluster", Title: "Memory of cluster", Help: "Working set of the pods behind the Service, of the allocatable memory of all real nodes.",
		Level: Service, Unit: Percent, Kind: Gauge, Place: ByServer, From: fromExpression, Statistic: Avg, Chart: Chart{Group: "memory_cluster"}, Absent: "there is no allocatable memory to divide by",
		Expr: `100 * k8s_service_mem_no_cache_bytes / on (cluster) group_left () (k8s_cluster_memory_total > 0)`,
	},
	{
		Name: "k8s_service_network_receive_packets", Title: "Packets in", Help: "Packets received by the pods behind the Service.",
		Level: Service, Unit: PerSecond, Kind: Gauge, Place: ByServer, From: fromExpression, Statistic: Avg, Chart: Chart{Group: "packets"}, Absent: noServiceMetric,
		Expr: behindService("k8s_pod_network_receive_packets"),
	},
	{
		Name: "k8s_service_network_transmit_packets", Title: "Packets out", Help: "Packets sent by the pods behind the Service.",
		Level: Service, Unit: PerSecond, Kind: Gauge, Place: ByServer, From: fromExpression, Statistic: Avg, Chart: Chart{Group: "packets"}, Absent: noServiceMetric,
		Expr: behindService("k8s_pod_network_transmit_packets"),
	},
	{
		Name: "k8s_service_fs_read_bytes", Title: "Disk read", Help: "Bytes that the containers behind the Service read from block devices.",
		Level: Service, Unit: BytesPerSecond, Kind: Gauge, Place: ByServer, From: fromExpression, Statistic: Avg, Chart: Chart{Group: "fs"}, Absent: noContainerFS,
		Expr: behindService("k8s_pod_fs_read_bytes"),
	},
	{
		Name: "k8s_service_fs_write_bytes", Title: "Disk write", Help: "Bytes that the containers behind the Service wrote to block devices.",
		Level: Service, Unit: BytesPerSecond, Kind: Gauge, Place: ByServer, From: fromExpression, Statistic: Avg, Chart: Chart{Group: "fs"}, Absent: noContainerFS,
		Expr: behindService("k8s_pod_fs_write_bytes"),
	},
	{
		Name: "k8s_service_fs_read_times", Title: "Disk reads", Help: "Reads of the containers behind the Service from block devices.",
		Level: Service, Unit: PerSecond, Kind: Gauge, Place: ByServer, From: fromExpression, Statistic: Avg, Chart: Chart{Group: "fs_times"}, Absent: noContainerFS,
		Expr: behindService("k8s_pod_fs_read_times"),
	},
	{
		Name: "k8s_service_fs_write_times", Title: "Disk writes", Help: "Writes of the containers behind the Service to block devices.",
		Level: Service, Unit: PerSecond, Kind: Gauge, Place: ByServer, From: fromExpression, Statistic: Avg, Chart: Chart{Group: "fs_times"}, Absent: noContainerFS,
		Expr: behindService("k8s_pod_fs_write_times"),
	},

	// Pod, from objects.
	{
		Name: "k8s_pod_status_phase", Title: "Phase", Help: "1 for the phase that the pod is in.",
		Level: Pod, Unit: Bool, Kind: State, Dimensions: []string{"phase"}, Place: ByCluster, From: fromObjects, Statistic: Max, Chart: Chart{Group: "phase", Max: 1},
		Absent: "the pod is in another phase",
	},
	{
		Name: "k8s_pod_waiting_reason", Title: "Waiting", Help: "1 while the pod does not run for the reason, the worst of its containers': CrashLoopBackOff, ImagePullBackOff, CreateContainerConfigError and others.",
		Level: Pod, Unit: Bool, Kind: State, Dimensions: []string{"reason"}, Place: ByCluster, From: fromObjects, Statistic: Max, Chart: Chart{Group: "waiting", Max: 1},
		Absent: "nothing keeps the pod from running",
	},
	{
		Name: "k8s_pod_unschedulable", Title: "Unschedulable", Help: "1 while no node takes the pod.",
		Level: Pod, Unit: Bool, Kind: State, Place: ByCluster, From: fromObjects, Statistic: Max, Chart: Chart{Group: "unschedulable", Max: 1}, Absent: "the pod is scheduled, or has ended",
		Alert: &Alert{Statistic: Max, Op: "==", Threshold: 1, Period: oneMinute, Need: 5, Of: 5, Severity: Warning},
	},
	{
		Name: "k8s_pod_scheduled_latency", Title: "Time to a node", Help: "From the pod's creation to its getting a node.",
		Level: Pod, Unit: Seconds, Kind: Gauge, Place: ByCluster, From: fromObjects, Statistic: Max, Chart: Chart{Group: "start"}, Absent: "the pod is not scheduled, or has ended",
	},
	{
		Name: "k8s_pod_started_latency", Title: "Time to running", Help: "From the pod's creation to the start of the last of its containers; the first instances only.",
		Level: Pod, Unit: Seconds, Kind: Gauge, Place: ByCluster, From: fromObjects, Statistic: Max, Chart: Chart{Group: "start"}, Absent: "not all containers run, one was restarted, or the pod has ended",
	},
	{
		Name: "k8s_pod_gpu_request", Title: "GPUs requested", Help: "Cards that the pod asks for of device plugins (nvidia.com/gpu, amd.com/gpu, tencent.com/gpu and others); a part of a card is a fraction.",
		Level: Pod, Unit: Count, Kind: Gauge, Place: ByCluster, From: fromObjects, Statistic: Last, Chart: Chart{Group: "gpu"}, Absent: "the pod asks for none",
	},
	{
		Name: "k8s_pod_gpu_used", Title: "GPUs used", Help: "Cards that the pod keeps busy, by NVIDIA's DCGM exporter, which is scraped as a target of your own.",
		Level: Pod, Unit: Count, Kind: Gauge, Place: ByServer, From: fromExpression, Statistic: Avg, Chart: Chart{Group: "gpu"}, Absent: "the pod asks for none, or no DCGM exporter is scraped",
		Expr: `k8s_pod_gpu_request * 0 + on (cluster, namespace, pod) group_left () sum by (cluster, namespace, pod) (DCGM_FI_DEV_GPU_UTIL{exported_pod=""} / 100 or label_replace(label_replace(DCGM_FI_DEV_GPU_UTIL{exported_pod!=""} / 100, "pod", "$1", "exported_pod", "(.+)"), "namespace", "$1", "exported_namespace", "(.+)"))`,
	},

	// Pod, measured.
	{
		Name: "k8s_pod_rate_cpu_core_used_node", Title: "CPU of node", Help: "CPU used by the pod, of its node's allocatable CPU.",
		Level: Pod, Unit: Percent, Kind: Gauge, Place: ByNode, From: usageSources, Statistic: Avg, Chart: Chart{Group: "cpu_node"}, Absent: "the node's object may not be read", Lacking: notElastic,
	},
	{
		Name: "k8s_pod_rate_cpu_core_used_request", Title: "CPU of request", Help: "CPU used by the pod, of its CPU request.",
		Level: Pod, Unit: Percent, Kind: Gauge, Place: ByNode, From: usageSources, Statistic: Avg, Chart: Chart{Group: "cpu_request"}, Absent: noRequest,
	},
	{
		Name: "k8s_pod_rate_cpu_core_used_resource", Title: "CPU of specification", Help: "CPU used by the pod, of its specification: its limit, else its request.",
		Level: Pod, Unit: Percent, Kind: Gauge, Place: ByNode, From: usageSources, Statistic: Avg, Chart: Chart{Group: "cpu_resource", Max: 100}, Absent: "the pod has neither a limit nor a request", Lacking: onlyElastic,
	},
	{
		Name: "k8s_pod_rate_mem_no_cache_node", Title: "Memory of node", Help: "Working set of the pod, of its node's allocatable memory.",
		Level: Pod, Unit: Percent, Kind: Gauge, Place: ByNode, From: usageSources, Statistic: Avg, Chart: Chart{Group: "memory_node"}, Absent: "the node's object may not be read", Lacking: notElastic,
	},
	{
		Name: "k8s_pod_rate_mem_no_cache_request", Title: "Memory of request", Help: "Working set of the pod, of its memory request.",
		Level: Pod, Unit: Percent, Kind: Gauge, Place: ByNode, From: usageSources, Statistic: Avg, Chart: Chart{Group: "memory_request"}, Absent: noRequest,
	},
	{
		Name: "k8s_pod_rate_mem_no_cache_resource", Title: "Memory of specification", Help: "Working set of the pod, of its specification: its limit, else its request.",
		Level: Pod, Unit: Percent, Kind: Gauge, Place: ByNode, From: usageSources, Statistic: Avg, Chart: Chart{Group: "memory_resource", Max: 100}, Absent: "the pod has neither a limit nor a request", Lacking: onlyElastic,
	},
	{
		Name: "k8s_pod_rate_mem_usage_resource", Title: "Memory with cache of specification", Help: "Memory of the pod, page cache included, of its specification: its limit, else its request.",
		Level: Pod, Unit: Percent, Kind: Gauge, Place: ByNode, From: cacheSources, Statistic: Avg, Chart: Chart{Group: "memory_resource", Max: 100}, Absent: "the pod has neither a limit nor a request", Lacking: onlyElastic,
	},
	{
		Name: PodMemUsage, Title: "Memory with cache", Help: "Memory of the pod's running containers, page cache included. Near the limit for whoever reads files; alerts look at the working set.",
		Level: Pod, Unit: Bytes, Kind: Gauge, Place: ByNode, From: cacheSources, Statistic: Avg, Chart: Chart{Group: "memory"}, Absent: "a running container has no reading",
	},
	{
		Name: "k8s_pod_rate_mem_usage_node", Title: "Memory with cache of node", Help: "Memory of the pod, page cache included, of its node's allocatable memory.",
		Level: Pod, Unit: Percent, Kind: Gauge, Place: ByNode, From: cacheSources, Statistic: Avg, Chart: Chart{Group: "memory_node"}, Absent: "the node's object may not be read", Lacking: notElastic,
	},
	{
		Name: "k8s_pod_rate_mem_usage_request", Title: "Memory with cache of request", Help: "Memory of the pod, page cache included, of its memory request.",
		Level: Pod, Unit: Percent, Kind: Gauge, Place: ByNode, From: cacheSources, Statistic: Avg, Chart: Chart{Group: "memory_request"}, Absent: noRequest,
	},
	{
		Name: "k8s_pod_rate_mem_usage_limit", Title: "Memory with cache of limit", Help: "Memory of the pod, page cache included, of its memory limit.",
		Level: Pod, Unit: Percent, Kind: Gauge, Place: ByNode, From: cacheSources, Statistic: Avg, Chart: Chart{Group: "memory_limit", Max: 100}, Absent: limitMissing,
	},
	{
		Name: PodPacketsReceive, Title: "Packets in", Help: "Packets received by all of the pod's interfaces but lo.",
		Level: Pod, Unit: PerSecond, Kind: Gauge, Place: ByNode, From: diskSources, Statistic: Avg, Chart: Chart{Group: "packets"}, Absent: hostNetworkPod,
	},
	{
		Name: PodPacketsTransmit, Title: "Packets out", Help: "Packets sent by all of the pod's interfaces but lo.",
		Level: Pod, Unit: PerSecond, Kind: Gauge, Place: ByNode, From: diskSources, Statistic: Avg, Chart: Chart{Group: "packets"}, Absent: hostNetworkPod,
	},
	{
		Name: "k8s_pod_network_errors", Title: "Network errors", Help: "Packets that the pod's interfaces received or sent with errors, or dropped.",
		Level: Pod, Unit: PerSecond, Kind: Gauge, Place: ByNode, From: networkSources, Statistic: Max, Chart: Chart{Group: "network_errors"}, Absent: hostNetworkPod,
	},
	{
		Name: PodFSRead, Title: "Disk read", Help: "Bytes that the pod's containers read from block devices.",
		Level: Pod, Unit: BytesPerSecond, Kind: Gauge, Place: ByNode, From: diskSources, Statistic: Avg, Chart: Chart{Group: "fs"}, Absent: noContainerFS,
	},
	{
		Name: PodFSWrite, Title: "Disk write", Help: "Bytes that the pod's containers wrote to block devices.",
		Level: Pod, Unit: BytesPerSecond, Kind: Gauge, Place: ByNode, From: diskSources, Statistic: Avg, Chart: Chart{Group: "fs"}, Absent: noContainerFS,
	},
	{
		Name: PodFSReads, Title: "Disk reads", Help: "Reads of the pod's containers from block devices.",
		Level: Pod, Unit: PerSecond, Kind: Gauge, Place: ByNode, From: diskSources, Statistic: Avg, Chart: Chart{Group: "fs_times"}, Absent: noContainerFS,
	},
	{
		Name: PodFSWrites, Title: "Disk writes", Help: "Writes of the pod's containers to block devices.",
		Level: Pod, Unit: PerSecond, Kind: Gauge, Place: ByNode, From: diskSources, Statistic: Avg, Chart: Chart{Group: "fs_times"}, Absent: noContainerFS,
	},
	{
		Name: "k8s_pod_ephemeral_storage_bytes", Title: "Ephemeral storage", Help: "Disk space of the pod: its containers' own layers and logs, and its empty folders.",
		Level: Pod, Unit: Bytes, Kind: Gauge, Place: ByNode, From: fromSummary, Statistic: Max, Chart: Chart{Group: "ephemeral"}, Absent: usedBySummary,
	},
	{
		Name: "k8s_pod_rootfs_usage", Title: "Root file systems", Help: "Space of the containers' own layers, of the file system that they lie on.",
		Level: Pod, Unit: Percent, Kind: Gauge, Place: ByNode, From: fromSummary, Statistic: Max, Chart: Chart{Group: "rootfs"}, Absent: usedBySummary,
	},

	// Container.
	{
		Name: "k8s_container_restart_total", Title: "Restarts", Help: "How often the container was started again.",
		Level: Container, Unit: Count, Kind: Counter, Place: ByCluster, From: fromObjects, Statistic: Increase, Chart: Chart{Group: "restarts"},
	},
	{
		Name: "k8s_container_last_terminated", Title: "Last end", Help: "1 for how the instance before the present one ended, or the last one where none runs.",
		Level: Container, Unit: Bool, Kind: State, Dimensions: []string{"reason", "exit_code"}, Place: ByCluster, From: fromObjects, Statistic: Last, Chart: Chart{Group: "terminated", Max: 1},
		Absent: "no instance has ended",
	},
	{
		Name: "k8s_container_oom_kill_total", Title: "OOM kills", Help: "Times that the container's memory ran out: one for each instance that ended OOMKilled, and each process that the kernel killed within the living one.",
		Level: Container, Unit: Count, Kind: Counter, Place: ByNode, From: []Source{Objects, Cgroups, CadvisorLabels, CadvisorPaths}, Statistic: Increase,
		Alert: &Alert{Statistic: Increase, Op: ">", Threshold: 0, Period: 5 * oneMinute, Need: 1, Of: 1, Severity: Warning}, Chart: Chart{Group: "oom"},
	},
	{
		Name: "k8s_container_rate_cpu_core_used_node", Title: "CPU of node", Help: "CPU used by the container, of its node's allocatable CPU.",
		Level: Container, Unit: Percent, Kind: Gauge, Place: ByNode, From: usageSources, Statistic: Avg, Chart: Chart{Group: "cpu_node"}, Absent: "the node's object may not be read", Lacking: notElastic,
	},
	{
		Name: "k8s_container_rate_cpu_core_used_request", Title: "CPU of request", Help: "CPU used by the container, of its CPU request.",
		Level: Container, Unit: Percent, Kind: Gauge, Place: ByNode, From: usageSources, Statistic: Avg, Chart: Chart{Group: "cpu_request"}, Absent: "the container has no CPU request",
	},
	{
		Name: "k8s_container_rate_cpu_core_used_limit", Title: "CPU of limit", Help: "CPU used by the container, of its CPU limit.",
		Level: Container, Unit: Percent, Kind: Gauge, Place: ByNode, From: usageSources, Statistic: Avg, Chart: Chart{Group: "cpu_limit", Max: 100}, Absent: "the container has no CPU limit",
	},
	{
		Name: "k8s_container_rate_mem_no_cache_node", Title: "Memory of node", Help: "Working set of the container, of its node's allocatable memory.",
		Level: Container, Unit: Percent, Kind: Gauge, Place: ByNode, From: usageSources, Statistic: Avg, Chart: Chart{Group: "memory_node"}, Absent: "the node's object may not be read", Lacking: notElastic,
	},
	{
		Name: "k8s_container_rate_mem_no_cache_request", Title: "Memory of request", Help: "Working set of the container, of its memory request.",
		Level: Container, Unit: Percent, Kind: Gauge, Place: ByNode, From: usageSources, Statistic: Avg, Chart: Chart{Group: "memory_request"}, Absent: "the container has no memory request",
	},
	{
		Name: "k8s_container_rate_mem_no_cache_limit", Title: "Memory of limit", Help: "Working set of the container, of its memory limit.",
		Level: Container, Unit: Percent, Kind: Gauge, Place: ByNode, From: usageSources, Statistic: Avg, Chart: Chart{Group: "memory_limit", Max: 100}, Absent: "the container has no memory limit",
	},
	{
		Name: "k8s_container_mem_usage_bytes", Title: "Memory with cache", Help: "Memory of the container, page cache included.",
		Level: Container, Unit: Bytes, Kind: Gauge, Place: ByNode, From: cacheSources, Statistic: Avg, Chart: Chart{Group: "memory"}, Absent: "the source does not tell it",
	},
	{
		Name: "k8s_container_throttled_ratio", Title: "Throttled", Help: "CPU periods in which the container was held back by its limit, of all in which it wanted to run.",
		Level: Container, Unit: Percent, Kind: Gauge, Place: ByNode, From: diskSources, Statistic: Avg, Alert: above(25, 5), Chart: Chart{Group: "throttled", Max: 100}, Absent: noPeriods,
	},
	{
		Name: "k8s_container_fs_read_times", Title: "Disk reads", Help: "Reads of the container's cgroup from block devices.",
		Level: Container, Unit: PerSecond, Kind: Gauge, Place: ByNode, From: diskSources, Statistic: Avg, Chart: Chart{Group: "fs_times"}, Absent: noContainerFS,
	},
	{
		Name: "k8s_container_fs_write_times", Title: "Disk writes", Help: "Writes of the container's cgroup to block devices.",
		Level: Container, Unit: PerSecond, Kind: Gauge, Place: ByNode, From: diskSources, Statistic: Avg, Chart: Chart{Group: "fs_times"}, Absent: noContainerFS,
	},
	{
		Name: "k8s_container_pids", Title: "Processes", Help: "Processes and threads, where the source counts them apart just the processes, of the container's cgroup.",
		Level: Container, Unit: Count, Kind: Gauge, Place: ByNode, From: diskSources, Statistic: Max, Chart: Chart{Group: "pids"}, Absent: "the source does not count them",
	},
	{
		Name: ContainerProbes, Title: "Probes", Help: "Probes of the container by the kubelet: probe is liveness, readiness or startup, result successful, failed or unknown.",
		Level: Container, Unit: Count, Kind: Counter, Dimensions: []string{"probe", "result"}, Place: ByNode, From: fromProbes, Statistic: Increase, Chart: Chart{Group: "probes"},
		Absent: "the container has no such probe, or none with that result yet", Lacking: map[ClusterKind]string{Elastic: "virtual nodes do not tell of their pods' probes"},
	},
	{
		Name: "k8s_container_log_lines", Title: "Log lines", Help: "Lines that the container writes to its log, those that a limit drops included.",
		Level: Container, Unit: PerSecond, Kind: Gauge, Place: ByNode, From: fromLines, Statistic: Avg, Chart: Chart{Group: "log_lines"}, Absent: notFollowed,
	},
	{
		Name: "k8s_container_log_bytes", Title: "Log volume", Help: "Bytes of text that the container writes to its log, those that a limit drops included.",
		Level: Container, Unit: BytesPerSecond, Kind: Gauge, Place: ByNode, From: fromLines, Statistic: Avg, Chart: Chart{Group: "log_bytes"}, Absent: notFollowed,
	},

	// Volume.
	{
		Name: "k8s_pvc_usage", Title: "Space used", Help: "Used part of the volume's space, as df has it.",
		Level: Volume, Unit: Percent, Kind: Gauge, Place: ByNode, From: fromSummary, Statistic: Max, Alert: above(90, 5), Chart: Chart{Group: "volume", Max: 100},
		Absent: "no running pod uses the volume, or its driver does not tell",
	},
	{
		Name: "k8s_pvc_inode_usage", Title: "Inodes used", Help: "Used part of the volume's inodes.",
		Level: Volume, Unit: Percent, Kind: Gauge, Place: ByNode, From: fromSummary, Statistic: Max, Alert: above(90, 5), Chart: Chart{Group: "volume", Max: 100},
		Absent: "no running pod uses the volume, or its driver does not tell",
	},
	{
		Name: "k8s_pvc_bound", Title: "Bound", Help: "1 when the claim has a volume, else 0.",
		Level: Volume, Unit: Bool, Kind: Gauge, Place: ByCluster, From: fromObjects, Statistic: Max, Chart: Chart{Group: "bound", Max: 1},
		Alert: &Alert{Statistic: Max, Op: "==", Threshold: 0, Period: oneMinute, Need: 5, Of: 5, Severity: Warning},
	},

	// Component.
	{
		Name: ComponentReady, Title: "Ready", Help: "1 when an instance of the component (apiserver, etcd, scheduler, controller_manager, coredns) is healthy by its own word, else 0.",
		Level: Component, Unit: Bool, Kind: State, Place: ByCluster, From: fromComponents, Statistic: Max, Chart: Chart{Group: "ready", Max: 1},
		Alert:  &Alert{Statistic: Max, Op: "==", Threshold: 0, Period: oneMinute, Need: 2, Of: 2, Severity: Critical},
		Absent: "no instance of the component shows: the provider runs it",
	},
	{
		Name: "k8s_component_probe_duration", Title: "Probe", Help: "How long the component took to say that it is healthy.",
		Level: Component, Unit: Seconds, Kind: Gauge, Place: ByCluster, From: fromComponents, Statistic: Avg, Chart: Chart{Group: "probe"}, Absent: "it is judged by its pods, or does not answer",
	},
	{
		Name: "k8s_component_certificate_days", Title: "Certificate", Help: "Days until the certificate that the component shows ends; the first of its chain.",
		Level: Component, Unit: Days, Kind: Gauge, Place: ByCluster, From: fromComponents, Statistic: Min, Chart: Chart{Group: "certificate"}, Absent: "the component is not reached by TLS",
		Alert: &Alert{Statistic: Min, Op: "<", Threshold: 14, Period: 5 * oneMinute, Need: 1, Of: 1, Severity: Warning},
	},
	{
		Name: "k8s_component_request_rate", Title: "Requests", Help: "Requests to the API server by verb_group: list, read (other reads), write. WATCH and CONNECT, which last, are not among them.",
		Level: Component, Unit: PerSecond, Kind: Gauge, Dimensions: []string{"verb_group"}, Place: ByCluster, From: fromComponents, Statistic: Avg, Chart: Chart{Group: "requests"}, Absent: needsComponent, Lacking: notProbed,
	},
	{
		Name: "k8s_component_request_error_ratio", Title: "Requests failed", Help: "Requests that the API server answered with 5xx, by verb_group.",
		Level: Component, Unit: Percent, Kind: Gauge, Dimensions: []string{"verb_group"}, Place: ByCluster, From: fromComponents, Statistic: Avg, Chart: Chart{Group: "request_errors", Max: 100}, Absent: needsComponent, Lacking: notProbed,
	},
	{
		Name: "k8s_component_request_p99", Title: "Request latency, p99", Help: "The time within which 99 of 100 requests to the API server were answered, by verb_group, without WATCH and CONNECT.",
		Level: Component, Unit: Seconds, Kind: Gauge, Dimensions: []string{"verb_group"}, Place: ByCluster, From: fromComponents, Statistic: Avg, Chart: Chart{Group: "request_latency"}, Absent: needsComponent, Lacking: notProbed,
	},
	{
		Name: "k8s_component_database_bytes", Title: "etcd size", Help: "Size of etcd's database, the largest of its members', as etcd or the API server tells it.",
		Level: Component, Unit: Bytes, Kind: Gauge, Place: ByCluster, From: fromComponents, Statistic: Max, Chart: Chart{Group: "database"}, Absent: needsComponent, Lacking: notProbed,
	},
	{
		Name: "k8s_component_leader_changes_total", Title: "Leader changes", Help: "How often etcd changed its leader.",
		Level: Component, Unit: Count, Kind: Counter, Place: ByCluster, From: fromComponents, Statistic: Increase, Chart: Chart{Group: "leader_changes"}, Absent: needsComponent, Lacking: notManaged,
	},
	{
		Name: "k8s_component_fsync_p99", Title: "etcd fsync, p99", Help: "The time within which 99 of 100 of etcd's writes to its log were on disk.",
		Level: Component, Unit: Seconds, Kind: Gauge, Place: ByCluster, From: fromComponents, Statistic: Max, Chart: Chart{Group: "fsync"}, Absent: needsComponent, Lacking: notManaged,
	},
	{
		Name: "k8s_component_pending_pods", Title: "Pods that wait for the scheduler", Help: "Pods in the scheduler's queues.",
		Level: Component, Unit: Count, Kind: Gauge, Place: ByCluster, From: fromComponents, Statistic: Max, Chart: Chart{Group: "pending"}, Absent: needsComponent, Lacking: notManaged,
	},
	{
		Name: "k8s_component_scheduling_p99", Title: "Scheduling, p99", Help: "The time within which the scheduler decided 99 of 100 attempts.",
		Level: Component, Unit: Seconds, Kind: Gauge, Place: ByCluster, From: fromComponents, Statistic: Max, Chart: Chart{Group: "scheduling"}, Absent: needsComponent, Lacking: notManaged,
	},
}
