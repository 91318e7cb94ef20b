package compute

import (
	"slices"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
)

// metric is what compute keeps of a catalogue entry. Its slot is its place among
// the metrics of its level, so that an entity notes its series in one word.
type metric struct {
	name  string
	slot  uint8
	keeps bool // its last value is kept, to see changes
	core  bool
}

// own is the level of the collector's own series.
const own catalogue.Level = "collector"

// table holds the metrics of each level by slot.
var table = func() map[catalogue.Level][]*metric {
	t := map[catalogue.Level][]*metric{}
	add := func(l catalogue.Level, name string, keeps, core bool) {
		if len(t[l]) == 64 {
			panic("BUG: more than 64 metrics at level " + string(l))
		}
		t[l] = append(t[l], &metric{name: name, slot: uint8(len(t[l])), keeps: keeps, core: core})
	}
	for _, m := range catalogue.All() {
		if m.Place != catalogue.ByServer {
			add(m.Level, m.Name, m.Place == catalogue.ByCluster && m.Kind != catalogue.Gauge, m.Family() == catalogue.CoreFamily)
		}
	}
	for _, name := range []string{SourceUp, SourceExpected, SourceMeasured, SourceOldest, CollectionInterval, ClockOffset} {
		add(own, name, false, true)
	}
	return t
}()

// measuredSlots are the slots of what is measured on nodes, by level.
var measuredSlots = func() map[catalogue.Level]uint64 {
	out := map[catalogue.Level]uint64{}
	for _, m := range catalogue.All() {
		if m.Place == catalogue.ByNode {
			out[m.Level] |= 1 << find(m.Name).slot
		}
	}
	return out
}()

// masks gives the slots of each level that belong to the families.
func masks(families []catalogue.Family) map[catalogue.Level]uint64 {
	extras := families == nil || slices.Contains(families, catalogue.ExtrasFamily)
	out := map[catalogue.Level]uint64{}
	for l, ms := range table {
		for _, m := range ms {
			if m.core || extras {
				out[l] |= 1 << m.slot
			}
		}
	}
	return out
}

func find(name string) *metric {
	for _, ms := range table {
		for _, m := range ms {
			if m.name == name {
				return m
			}
		}
	}
	panic("BUG: compute knows " + name + ", the catalogue does not")
}

// podSums are the metrics of a level that say how many pods an object has, and
// what they ask for and may use.
type podSums struct{ pods, cpuRequest, memRequest, cpuLimit, memLimit *metric }

func podSumsOf(l catalogue.Level) podSums {
	of := func(name string) *metric { return find(catalogue.PrefixOf(l) + name) }
	return podSums{of("pod_num"), of("cpu_core_request"), of("mem_request_bytes"), of("cpu_core_limit"), of("mem_limit_bytes")}
}

var (
	clusterCPURequest = find(catalogue.ClusterCPURequestPercent)
	clusterMemRequest = find(catalogue.ClusterMemRequestPercent)
	clusterNotReady   = find(catalogue.ClusterNodesNotReady)
	clusterPods       = find(catalogue.ClusterPods)
	clusterCPUTotal   = find(catalogue.ClusterCPUTotal)
	clusterMemTotal   = find(catalogue.ClusterMemTotal)

	nodeReady    = find(catalogue.NodeReady)
	nodeCPU      = find(catalogue.NodeCPUPercent)
	nodeMem      = find(catalogue.NodeMemPercent)
	nodeFS       = find(catalogue.NodeFilesystemPercent)
	nodeReceive  = find(catalogue.NodeNetworkReceive)
	nodeTransmit = find(catalogue.NodeNetworkTransmit)
	nodeTCP      = find(catalogue.NodeTCPEstablished)
	nodeRestarts = find(catalogue.NodeRestarts)

	workloadAbnormal = find(catalogue.WorkloadAbnormal)
	workloadRestarts = find(catalogue.WorkloadRestarts)

	podReady    = find(catalogue.PodReady)
	podRestarts = find(catalogue.PodRestarts)
	podMissing  = find(catalogue.PodSpecMissing)
	podCPU      = find(catalogue.PodCPU)
	podCPULimit = find(catalogue.PodCPULimitPercent)
	podMem      = find(catalogue.PodMem)
	podMemLimit = find(catalogue.PodMemLimitPercent)
	podReceive  = find(catalogue.PodNetworkReceive)
	podTransmit = find(catalogue.PodNetworkTransmit)

	containerCPU     = find(catalogue.ContainerCPU)
	containerMem     = find(catalogue.ContainerMem)
	containerFSRead  = find(catalogue.ContainerFSRead)
	containerFSWrite = find(catalogue.ContainerFSWrite)

	clusterNodes       = find("k8s_cluster_node_num")
	clusterWorkloads   = find("k8s_cluster_workload_num")
	clusterAbnormal    = find("k8s_cluster_workload_abnormal_num")
	clusterMaxPods     = find("k8s_cluster_allocatable_pods_total")
	clusterCPURequests = find("k8s_cluster_cpu_core_request")
	clusterMemRequests = find("k8s_cluster_mem_request_bytes")
	clusterAge         = find("k8s_cluster_age")

	nodePods         = find("k8s_node_pod_num")
	nodeAllocatable  = find("k8s_node_allocatable")
	nodeRequest      = find("k8s_node_request")
	nodeLimit        = find("k8s_node_limit")
	nodeCPURequest   = find("k8s_node_rate_cpu_core_request_node")
	nodeMemRequest   = find("k8s_node_rate_mem_request_node")
	nodeCondition    = find("k8s_node_condition")
	nodeAge          = find("k8s_node_age")
	nodeLoad1        = find("k8s_node_load1")
	nodeLoad5        = find("k8s_node_load5")
	nodeLoad15       = find("k8s_node_load15")
	nodeFSRead       = find("k8s_node_fs_read_bytes")
	nodeFSWrite      = find("k8s_node_fs_write_bytes")
	nodeFSReads      = find("k8s_node_fs_read_times")
	nodeFSWrites     = find("k8s_node_fs_write_times")
	nodeInodes       = find("k8s_node_filesystem_inode_usage")
	nodeNetErrors    = find("k8s_node_network_errors")
	nodeNetDrops     = find("k8s_node_network_drops")
	nodeOOM          = find("k8s_node_oom_kill_total")
	nodeConntrack    = find("k8s_node_conntrack_usage")
	nodeClock        = find("k8s_node_clock_offset_seconds")
	nodeKubeletReady = find("k8s_node_kubelet_ready")
	nodePeerReached  = find(catalogue.NodePeerReached)

	// nodeGauges have a gap where a node's readings lack them, not an end.
	nodeGauges = []*metric{
		nodeCPU, nodeMem, nodeReceive, nodeTransmit, nodeTCP, nodeLoad1, nodeLoad5, nodeLoad15, nodeFSRead, nodeFSWrite, nodeFSReads,
		nodeFSWrites, nodeNetErrors, nodeNetDrops, nodeOOM, nodeConntrack, nodeClock, nodeKubeletReady,
	}

	namespacePods     = podSumsOf(catalogue.Namespace)
	namespaceRestarts = find("k8s_namespace_pod_restart_total")
	namespaceDesired  = find("k8s_namespace_replicas_desire")
	namespaceReady    = find("k8s_namespace_replicas_ready")
	namespaceQuota    = find("k8s_namespace_quota_usage")

	workloadPods       = podSumsOf(catalogue.Workload)
	workloadDesired    = find("k8s_workload_replicas_desire")
	workloadReady      = find("k8s_workload_replicas_ready")
	workloadHPACurrent = find("k8s_workload_hpa_replicas_current")
	workloadHPADesired = find("k8s_workload_hpa_replicas_desired")
	workloadHPAMax     = find("k8s_workload_hpa_replicas_max")
	workloadStuck      = find("k8s_workload_rollout_stuck")
	workloadJobFailed  = find("k8s_workload_job_failed")
	workloadJobTook    = find("k8s_workload_job_duration")
	workloadMissed     = find("k8s_workload_cronjob_missed")

	servicePods     = podSumsOf(catalogue.Service)
	serviceReady    = find("k8s_service_endpoints_ready")
	servicePod      = find("k8s_service_pod")
	serviceNotReady = find("k8s_service_endpoints_not_ready")

	podPhase         = find("k8s_pod_status_phase")
	podWaiting       = find("k8s_pod_waiting_reason")
	podUnschedulable = find("k8s_pod_unschedulable")
	podScheduledIn   = find("k8s_pod_scheduled_latency")
	podStartedIn     = find("k8s_pod_started_latency")
	podGPURequest    = find("k8s_pod_gpu_request")
	podCPUNode       = find("k8s_pod_rate_cpu_core_used_node")
	podCPURequest    = find("k8s_pod_rate_cpu_core_used_request")
	podCPUResource   = find("k8s_pod_rate_cpu_core_used_resource")
	podMemNode       = find("k8s_pod_rate_mem_no_cache_node")
	podMemRequest    = find("k8s_pod_rate_mem_no_cache_request")
	podMemResource   = find("k8s_pod_rate_mem_no_cache_resource")
	podUsageResource = find("k8s_pod_rate_mem_usage_resource")
	podUsage         = find(catalogue.PodMemUsage)
	podUsageNode     = find("k8s_pod_rate_mem_usage_node")
	podUsageRequest  = find("k8s_pod_rate_mem_usage_request")
	podUsageLimit    = find("k8s_pod_rate_mem_usage_limit")
	podNetErrors     = find("k8s_pod_network_errors")
	podEphemeral     = find("k8s_pod_ephemeral_storage_bytes")
	podRootfs        = find("k8s_pod_rootfs_usage")
	podPacketsIn     = find(catalogue.PodPacketsReceive)
	podPacketsOut    = find(catalogue.PodPacketsTransmit)
	podFSRead        = find(catalogue.PodFSRead)
	podFSWrite       = find(catalogue.PodFSWrite)
	podFSReads       = find(catalogue.PodFSReads)
	podFSWrites      = find(catalogue.PodFSWrites)

	containerRestarts   = find("k8s_container_restart_total")
	containerEnd        = find("k8s_container_last_terminated")
	containerOOM        = find("k8s_container_oom_kill_total")
	containerCPUNode    = find("k8s_container_rate_cpu_core_used_node")
	containerCPURequest = find("k8s_container_rate_cpu_core_used_request")
	containerCPULimit   = find("k8s_container_rate_cpu_core_used_limit")
	containerMemNode    = find("k8s_container_rate_mem_no_cache_node")
	containerMemRequest = find("k8s_container_rate_mem_no_cache_request")
	containerMemLimit   = find("k8s_container_rate_mem_no_cache_limit")
	containerUsage      = find("k8s_container_mem_usage_bytes")
	containerThrottled  = find("k8s_container_throttled_ratio")
	containerFSReads    = find("k8s_container_fs_read_times")
	containerFSWrites   = find("k8s_container_fs_write_times")
	containerPIDs       = find("k8s_container_pids")
	containerLogLines   = find("k8s_container_log_lines")
	containerLogBytes   = find("k8s_container_log_bytes")
	containerProbes     = find(catalogue.ContainerProbes)

	volumeUsed   = find("k8s_pvc_usage")
	volumeInodes = find("k8s_pvc_inode_usage")
	volumeBound  = find("k8s_pvc_bound")

	componentReady      = find(catalogue.ComponentReady)
	componentProbe      = find("k8s_component_probe_duration")
	componentCert       = find("k8s_component_certificate_days")
	componentRequests   = find("k8s_component_request_rate")
	componentErrors     = find("k8s_component_request_error_ratio")
	componentLatency    = find("k8s_component_request_p99")
	componentDatabase   = find("k8s_component_database_bytes")
	componentLeaders    = find("k8s_component_leader_changes_total")
	componentFsync      = find("k8s_component_fsync_p99")
	componentPending    = find("k8s_component_pending_pods")
	componentScheduling = find("k8s_component_scheduling_p99")

	sourceUp       = find(SourceUp)
	sourceExpected = find(SourceExpected)
	sourceMeasured = find(SourceMeasured)
	sourceOldest   = find(SourceOldest)
	interval       = find(CollectionInterval)
	clockOffset    = find(ClockOffset)
)
