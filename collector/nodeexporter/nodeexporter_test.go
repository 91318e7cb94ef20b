package nodeexporter

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"golang.org/x/sys/unix"
)

func read(t *testing.T, e *Exporter) map[string]*dto.MetricFamily {
	t.Helper()
	var text strings.Builder
	if err := e.Write(t.Context(), &text); err != nil {
		t.Fatal(err)
	}
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(strings.NewReader(text.String()))
	if err != nil {
		t.Fatalf("%v in\n%s", err, &text)
	}
	return families
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.Label {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

// One test, as a process has one configuration of node_exporter's collectors. It
// reads this machine, whose folders are where a pod would have its node's.
func TestTheNodeIsShownUnderNodeExportersNames(t *testing.T) {
	root, dir := t.TempDir(), t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "etc/hostname"), []byte("the-host\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := Options{Node: "n1", Proc: "/proc", Sys: "/sys", Root: root, Dir: dir}
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	got := read(t, e)
	// What the recording rules, alerts and dashboards of the community go by.
	for _, name := range []string{
		"node_cpu_seconds_total", "node_memory_MemTotal_bytes", "node_memory_MemAvailable_bytes", "node_memory_Buffers_bytes", "node_memory_Cached_bytes",
		"node_load1", "node_load5", "node_load15", "node_network_receive_bytes_total", "node_network_transmit_bytes_total", "node_network_receive_drop_total",
		"node_network_receive_errs_total", "node_network_up", "node_vmstat_pgmajfault", "node_vmstat_oom_kill", "node_boot_time_seconds", "node_time_seconds", "node_timex_offset_seconds",
		"node_timex_sync_status", "node_filefd_allocated", "node_filefd_maximum", "node_netstat_Tcp_CurrEstab", "node_sockstat_TCP_inuse", "node_context_switches_total",
		"node_intr_total", "node_forks_total", "node_procs_running", "node_procs_blocked", "node_softnet_dropped_total",
		"node_textfile_scrape_error", "node_uname_info", "node_scrape_collector_success", "node_scrape_collector_duration_seconds", "node_exporter_build_info",
	} {
		if len(got[name].GetMetric()) == 0 {
			t.Errorf("%s is not there", name)
		}
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	if m := got["node_uname_info"].Metric[0]; label(m, "nodename") != "the-host" || label(m, "release") != unix.ByteSliceToString(u.Release[:]) {
		t.Errorf("uname: %v", m)
	}
	// The network is that of process 1, not of whoever reads.
	raw, err := os.ReadFile("/proc/1/net/dev")
	if err != nil {
		t.Skipf("process 1 cannot be looked at: %v", err)
	}
	for _, m := range got["node_network_receive_bytes_total"].GetMetric() {
		if !strings.Contains(string(raw), label(m, "device")+":") {
			t.Errorf("network device %s is none of process 1's", label(m, "device"))
		}
	}
	if to, err := os.Readlink(filepath.Join(dir, "proc/net")); err != nil || to != "/proc/1/net" {
		t.Errorf("the view's net leads to %q, %v", to, err)
	}
	for _, m := range got["node_scrape_collector_success"].GetMetric() {
		switch label(m, "collector") {
		case "arp", "netdev", "netstat", "cpu", "meminfo", "loadavg", "stat", "vmstat", "sockstat", "softnet":
			if m.GetGauge().GetValue() != 1 {
				t.Errorf("collector %s failed", label(m, "collector"))
			}
		case "uname", "conntrack", "btrfs":
			t.Errorf("collector %s runs", label(m, "collector"))
		}
	}
	// The tracked connections, where the kernel tracks any, as package host has them.
	if _, err := os.Stat("/proc/1/net/stat/nf_conntrack"); err == nil {
		for _, name := range []string{"node_nf_conntrack_entries", "node_nf_conntrack_entries_limit", "node_nf_conntrack_stat_drop"} {
			if len(got[name].GetMetric()) != 1 {
				t.Errorf("%s is not there", name)
			}
		}
	}

	if again, err := New(o); err != nil {
		t.Errorf("the same a second time: %v", err)
	} else if n := len(read(t, again)); n < len(got)-3 {
		t.Errorf("a second one shows %d families of %d", n, len(got))
	}
	o.Root = t.TempDir()
	if _, err := New(o); err == nil || !strings.Contains(err.Error(), "another one already") {
		t.Errorf("another configuration: %v", err)
	}
	if _, err := New(Options{Node: "n1"}); err == nil {
		t.Error("without a folder")
	}
	if _, err := New(Options{Node: "n1", Dir: t.TempDir(), Proc: "/does/not/exist"}); err == nil {
		t.Error("without /proc")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.Write(ctx, &strings.Builder{}); err == nil {
		t.Error("nobody reads any longer")
	}
}
