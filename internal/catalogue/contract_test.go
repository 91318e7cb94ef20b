package catalogue

import (
	"fmt"
	"os"
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
		pod_num allocatable request limit rate_cpu_core_request_node rate_mem_request_node condition load1 load5 load15 fs_read_bytes fs_write_bytes fs_read_times fs_write_times
		filesystem_inode_usage network_errors network_drops oom_kill_total conntrack_usage clock_offset_seconds kubelet_ready age peer_reached peers_reached`,
	Namespace: `pod_num pod_restart_total cpu_core_request mem_request_bytes cpu_core_limit mem_limit_bytes quota_usage cpu_core_used mem_no_cache_bytes mem_usage_bytes
		rate_cpu_core_used_cluster rate_mem_no_cache_cluster rate_cpu_core_used_limit rate_mem_no_cache_limit replicas_desire replicas_ready
		network_receive_bytes_bw network_transmit_bytes_bw network_receive_packets network_transmit_packets fs_read_bytes fs_write_bytes fs_read_times fs_write_times`,
	Workload: `cpu_core_used mem_no_cache_bytes network_receive_bytes_bw network_transmit_bytes_bw pod_restart_total abnormal replicas_desire replicas_ready mem_usage_bytes
		cpu_core_request mem_request_bytes cpu_core_limit mem_limit_bytes rate_cpu_core_used_cluster rate_mem_no_cache_cluster rate_cpu_core_used_limit rate_mem_no_cache_limit
		network_receive_packets network_transmit_packets fs_read_bytes fs_write_bytes fs_read_times fs_write_times pod_num hpa_replicas_current hpa_replicas_desired hpa_replicas_max
		job_failed job_duration cronjob_missed`,
	Service: `endpoints_ready endpoints_not_ready pod cpu_core_used mem_no_cache_bytes network_receive_bytes_bw network_transmit_bytes_bw
		mem_usage_bytes pod_restarts pod_num cpu_core_request mem_request_bytes cpu_core_limit mem_limit_bytes rate_cpu_core_used_cluster rate_mem_no_cache_cluster
		rate_cpu_core_used_limit rate_mem_no_cache_limit network_receive_packets network_transmit_packets fs_read_bytes fs_write_bytes fs_read_times fs_write_times`,
	Pod: `status_ready restart_total cpu_core_used rate_cpu_core_used_limit mem_no_cache_bytes rate_mem_no_cache_limit network_receive_bytes_bw network_transmit_bytes_bw spec_missing
		status_phase waiting_reason unschedulable scheduled_latency started_latency rate_cpu_core_used_node rate_cpu_core_used_request rate_cpu_core_used_resource
		rate_mem_no_cache_node rate_mem_no_cache_request rate_mem_no_cache_resource mem_usage_bytes rate_mem_usage_node rate_mem_usage_request rate_mem_usage_limit rate_mem_usage_resource
		network_receive_packets network_transmit_packets network_errors fs_read_bytes fs_write_bytes fs_read_times fs_write_times rootfs_usage ephemeral_storage_bytes
		gpu_request gpu_used`,
	Container: `cpu_core_used mem_no_cache_bytes fs_read_bytes fs_write_bytes rate_cpu_core_used_node rate_cpu_core_used_request rate_cpu_core_used_limit
		rate_mem_no_cache_node rate_mem_no_cache_request rate_mem_no_cache_limit mem_usage_bytes throttled_ratio oom_kill_total restart_total last_terminated
		fs_read_times fs_write_times pids log_lines log_bytes probe_total`,
	Volume:    `usage inode_usage bound`,
	Component: `ready probe_duration certificate_days request_rate request_error_ratio request_p99 database_bytes leader_changes_total fsync_p99 pending_pods scheduling_p99`,
}

// promised are the core metrics as users know them: unit, dimensions, and the
// default alert as "statistic op threshold, need of of × period, severity".
var promised = []struct {
	name, unit, dimensions, alert string
}{
	{"k8s_cluster_rate_cpu_core_used_cluster", "%", "", "avg > 90, 5 of 5 × 1m0s"},
	{"k8s_cluster_rate_mem_no_cache_bytes_cluster", "%", "", "avg > 90, 5 of 5 × 1m0s"},
	{"k8s_cluster_rate_cpu_core_request_cluster", "%", "", "avg > 95, 5 of 5 × 1m0s"},
	{"k8s_cluster_rate_mem_request_bytes_cluster", "%", "", "avg > 95, 5 of 5 × 1m0s"},
	{"k8s_cluster_node_not_ready_num", "count", "", ""},
	{"k8s_cluster_pod_num", "count", "phase", ""},
	{"k8s_node_status_ready", "0/1", "", "max == 0, 2 of 2 × 1m0s, critical"},
	{"k8s_node_cpu_usage", "%", "", "avg > 90, 5 of 5 × 1m0s"},
	{"k8s_node_mem_usage", "%", "", "avg > 90, 5 of 5 × 1m0s"},
	{"k8s_node_filesystem_usage", "%", "mountpoint", "avg > 90, 5 of 5 × 1m0s"},
	{"k8s_node_network_receive_bytes_bw", "B/s", "", ""},
	{"k8s_node_network_transmit_bytes_bw", "B/s", "", ""},
	{"k8s_node_tcp_curr_estab", "count", "", ""},
	{"k8s_node_pod_restart_total", "count", "", "increase > 5, 1 of 1 × 5m0s"},
	{"k8s_workload_cpu_core_used", "cores", "", ""},
	{"k8s_workload_mem_no_cache_bytes", "B", "", ""},
	{"k8s_workload_network_receive_bytes_bw", "B/s", "", ""},
	{"k8s_workload_network_transmit_bytes_bw", "B/s", "", ""},
	{"k8s_workload_pod_restart_total", "count", "", "increase > 3, 1 of 1 × 5m0s"},
	{"k8s_workload_abnormal", "count", "", "min > 0, 5 of 5 × 1m0s"},
	{"k8s_pod_status_ready", "0/1", "", "max == 0, 5 of 5 × 1m0s"},
	{"k8s_pod_restart_total", "count", "", "increase > 2, 1 of 1 × 5m0s"},
	{"k8s_pod_cpu_core_used", "cores", "", ""},
	{"k8s_pod_rate_cpu_core_used_limit", "%", "", "avg > 90, 5 of 5 × 1m0s"},
	{"k8s_pod_mem_no_cache_bytes", "B", "", ""},
	{"k8s_pod_rate_mem_no_cache_limit", "%", "", "avg > 90, 5 of 5 × 1m0s"},
	{"k8s_pod_network_receive_bytes_bw", "B/s", "", ""},
	{"k8s_pod_network_transmit_bytes_bw", "B/s", "", ""},
	{"k8s_container_cpu_core_used", "cores", "", ""},
	{"k8s_container_mem_no_cache_bytes", "B", "", ""},
	{"k8s_container_fs_read_bytes", "B/s", "", ""},
	{"k8s_container_fs_write_bytes", "B/s", "", ""},
}

func TestTheCoreIsAsPromised(t *testing.T) {
	if len(promised) != 32 {
		t.Errorf("%d core metrics are promised", len(promised))
	}
	for _, p := range promised {
		m, ok := Declared(p.name)
		if !ok || !m.Core {
			t.Errorf("%s is not declared as core", p.name)
			continue
		}
		alert := ""
		if a := m.Alert; a != nil {
			alert = fmt.Sprintf("%s %s %g, %d of %d × %s", a.Statistic, a.Op, a.Threshold, a.Need, a.Of, a.Period)
			if a.Severity != Warning {
				alert += ", " + string(a.Severity)
			}
		}
		if got := strings.Join(m.Dimensions, " "); string(m.Unit) != p.unit || got != p.dimensions || alert != p.alert {
			t.Errorf("%s: unit %q, dimensions %q, alert %q; promised are %q, %q and %q", p.name, m.Unit, got, alert, p.unit, p.dimensions, p.alert)
		}
	}
}

// What users were promised is all that there is but for these, which came with the
// work and are documented like any other.
var beyond = map[Level]string{
	Workload: `rollout_stuck`,
}

func TestNothingIsUndocumented(t *testing.T) {
	known := map[string]bool{}
	for _, of := range []map[Level]string{contract, beyond} {
		for level, names := range of {
			for _, name := range strings.Fields(names) {
				known[PrefixOf(level)+name] = true
			}
		}
	}
	page, err := os.ReadFile("../../docs/reference/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range All() {
		if !known[m.Name] {
			t.Errorf("%s is declared, and neither promised nor listed as beyond that", m.Name)
		}
		if !strings.Contains(string(page), "`"+m.Name+"`") {
			t.Errorf("%s is not in the reference: make generate", m.Name)
		}
	}
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
