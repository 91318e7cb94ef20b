package catalogue

import (
	"slices"
	"strings"
	"testing"
)

// contract is what users were promised, by level: in code, so that an entry that
// goes missing is noticed. Names are without their level's prefix.
var contract = map[Level]string{
	Cluster: `rate_cpu_core_used_cluster rate_mem_no_cache_bytes_cluster rate_cpu_core_request_cluster rate_mem_request_bytes_cluster node_not_ready_num pod_num
		cpu_core_total cpu_core_used memory_total mem_no_cache_bytes mem_usage_bytes rate_mem_usage_bytes_cluster cpu_core_request mem_request_bytes node_num workload_num
		workload_abnormal_num allocatable_pods_total network_receive_bytes_bw network_transmit_bytes_bw fs_read_bytes fs_write_bytes fs_read_times fs_write_times age`,
	Node: `status_ready cpu_usage mem_usage filesystem_usage network_receive_bytes_bw network_transmit_bytes_bw tcp_curr_estab pod_restart_total
		pod_num allocatable request limit rate_cpu_core_request_node rate_mem_request_bytes_node condition load1 load5 load15 fs_read_bytes fs_write_bytes fs_read_times fs_write_times
		filesystem_inode_usage network_errors network_drops oom_kill_total conntrack_usage clock_offset kubelet_ready age peer_reached peers_reached`,
	Namespace: `pod_num pod_restart_total cpu_core_request mem_request_bytes cpu_core_limit mem_limit_bytes quota_usage cpu_core_used mem_no_cache_bytes mem_usage_bytes
		rate_cpu_core_used_cluster rate_mem_no_cache_cluster network_receive_bytes_bw network_transmit_bytes_bw network_receive_packets network_transmit_packets
		fs_read_bytes fs_write_bytes fs_read_times fs_write_times`,
	Workload: `cpu_core_used mem_no_cache_bytes network_receive_bytes_bw network_transmit_bytes_bw pod_restart_total abnormal replicas_desire replicas_ready mem_usage_bytes
		cpu_core_request mem_request_bytes cpu_core_limit mem_limit_bytes rate_cpu_core_used_cluster rate_mem_no_cache_cluster rate_cpu_core_used_limit rate_mem_no_cache_limit
		network_receive_packets network_transmit_packets fs_read_bytes fs_write_bytes fs_read_times fs_write_times pod_num hpa_replicas_current hpa_replicas_desired hpa_replicas_max
		job_failed job_duration cronjob_missed`,
	Service: `endpoints_ready endpoints_not_ready pod cpu_core_used mem_no_cache_bytes network_receive_bytes_bw network_transmit_bytes_bw
		mem_usage_bytes pod_restarts`,
	Pod: `status_ready restart_total cpu_core_used rate_cpu_core_used_limit mem_no_cache_bytes rate_mem_no_cache_limit network_receive_bytes_bw network_transmit_bytes_bw spec_missing
		status_phase waiting_reason unschedulable scheduled_latency started_latency rate_cpu_core_used_node rate_cpu_core_used_request rate_cpu_core_used_resource
		rate_mem_no_cache_node rate_mem_no_cache_request rate_mem_no_cache_resource mem_usage_bytes rate_mem_usage_node rate_mem_usage_request rate_mem_usage_limit
		network_receive_packets network_transmit_packets network_errors fs_read_bytes fs_write_bytes fs_read_times fs_write_times rootfs_usage ephemeral_storage_bytes
		gpu_request gpu_used`,
	Container: `cpu_core_used mem_no_cache_bytes fs_read_bytes fs_write_bytes rate_cpu_core_used_node rate_cpu_core_used_request rate_cpu_core_used_limit
		rate_mem_no_cache_node rate_mem_no_cache_request rate_mem_no_cache_limit mem_usage_bytes throttled_ratio oom_kill_total restart_total last_terminated
		fs_read_times fs_write_times pids log_lines log_bytes probe_total`,
	Volume:    `usage inode_usage bound`,
	Component: `ready probe_duration certificate_days request_rate request_error_ratio request_p99 database_bytes leader_changes_total fsync_p99 pending_pods scheduling_p99`,
}

func TestTheContractIsKept(t *testing.T) {
	for level, names := range contract {
		for _, name := range strings.Fields(names) {
			full := PrefixOf(level) + name
			if m, ok := Declared(full); !ok || m.Level != level {
				t.Errorf("%s is not declared", full)
			}
		}
	}
}

// Where a cluster kind lacks a metric the entry says why, and says it of the kinds
// whose nodes or control plane are not there.
func TestEachKindSaysWhatItLacks(t *testing.T) {
	kinds := []ClusterKind{Managed, Independent, Elastic, Edge}
	for _, m := range All() {
		for kind, why := range m.Lacking {
			if !slices.Contains(kinds, kind) || len(why) < 20 {
				t.Errorf("%s: %s lacks it because %q", m.Name, kind, why)
			}
		}
		_, elastic := m.Lacking[Elastic]
		ofNode := m.Level == Node || strings.HasSuffix(m.Name, "_node")
		if ofNode && !elastic {
			t.Errorf("%s is about nodes, and an elastic cluster, which has none, is not said to lack it", m.Name)
		}
		if ofSpec := strings.HasSuffix(m.Name, "_resource"); ofSpec && (elastic || m.Lacking[Managed] == "" || m.Lacking[Independent] == "" || m.Lacking[Edge] == "") {
			t.Errorf("%s is for elastic clusters alone, and says %v", m.Name, m.Lacking)
		}
		for _, name := range []string{"k8s_component_leader_changes_total", "k8s_component_fsync_p99", "k8s_component_pending_pods", "k8s_component_scheduling_p99"} {
			if m.Name == name && (m.Lacking[Managed] == "" || !elastic || m.Lacking[Independent] != "") {
				t.Errorf("%s: the provider hides it where it runs the control plane, and there alone; it says %v", name, m.Lacking)
			}
		}
	}
}
