// Package nodeexporter gives a node's figures under node_exporter's names, by
// its own collectors within the process. It owns which of them run and with what
// settings. It must not know how samples are kept.
package nodeexporter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/node_exporter/collector"
	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// Options of an Exporter. The folders are those of package host.
type Options struct {
	Node string // required
	Proc string // default /proc
	Sys  string // default /sys
	Root string // default /
	Dir  string // for a view of Proc; required
}

// Exporter reads the node.
type Exporter struct {
	o   Options
	fs  procfs.FS
	reg *prometheus.Registry
}

// node_exporter's settings are flags of a parser that is one for the process, and
// its collectors are kept by name in a global map. So a process has one
// configuration of them, and a second one is refused.
var (
	mu         sync.Mutex
	configured string
)

// podDevices are the network devices of pods, by name.
const podDevices = `^(veth.*|cali.*|lxc.*|[a-f0-9]{15})$`

var ofPod = regexp.MustCompile(podDevices)

// withoutPods leaves out the mounts and devices of pods, as kube-prometheus has
// it: what belongs to pods is theirs.
var withoutPods = []string{
	`--collector.filesystem.mount-points-exclude=^/(dev|proc|sys|run/k3s/containerd/.+|run/containerd/.+|var/lib/containerd/.+|var/lib/docker/.+|var/lib/containers/storage/.+|var/lib/kubelet/pods/.+)($|/)`,
	"--collector.netclass.ignored-devices=" + podDevices, "--collector.netdev.device-exclude=" + podDevices,
}

// New prepares the collectors that node_exporter runs by default, but btrfs,
// which asks the disks themselves, and those that would show the collector's own
// pod: what uname and conntrack tell is read otherwise.
func New(o Options) (*Exporter, error) {
	if o.Node == "" || o.Dir == "" {
		return nil, errors.New("nodeexporter: Node and Dir are required")
	}
	for _, d := range []struct {
		path      *string
		otherwise string
	}{{&o.Proc, "/proc"}, {&o.Sys, "/sys"}, {&o.Root, "/"}} {
		if *d.path == "" {
			*d.path = d.otherwise
		}
	}
	proc, err := view(o.Proc, o.Dir)
	if err != nil {
		return nil, fmt.Errorf("nodeexporter: %w", err)
	}
	fs, err := procfs.NewFS(proc)
	if err != nil {
		return nil, fmt.Errorf("nodeexporter: %w", err)
	}
	args := append([]string{
		"--path.procfs=" + proc, "--path.sysfs=" + o.Sys, "--path.rootfs=" + o.Root, "--path.udev.data=" + filepath.Join(o.Root, "run/udev/data"),
		// By netlink they would show the network of the collector's own pod.
		"--no-collector.arp.netlink", "--no-collector.netdev.netlink",
		"--no-collector.btrfs", "--no-collector.uname", "--no-collector.conntrack",
	}, withoutPods...)
	mu.Lock()
	defer mu.Unlock()
	switch all := strings.Join(args, " "); configured {
	case all:
	case "":
		if _, err := kingpin.CommandLine.Parse(args); err != nil {
			return nil, fmt.Errorf("nodeexporter: %w", err)
		}
		configured = all
	default:
		return nil, errors.New("nodeexporter: the process has another one already, with other folders")
	}
	// A collector that fails is told by node_scrape_collector_success.
	nodes, err := collector.NewNodeCollector(slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, fmt.Errorf("nodeexporter: %w", err)
	}
	e := &Exporter{o: o, fs: fs, reg: prometheus.NewRegistry()}
	// Whose names these are, as node_exporter's own program tells it.
	build := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "node_exporter_build_info",
		Help: "A metric with a constant '1' value labeled by version, revision, branch, goversion from which node_exporter was built, and the goos and goarch for the build.",
		// A module has no branch and no tags, and its revision is the release.
		ConstLabels: prometheus.Labels{
			"version": release(), "revision": "", "branch": "", "tags": "", "goversion": runtime.Version(), "goos": runtime.GOOS, "goarch": runtime.GOARCH,
		},
	}, func() float64 { return 1 })
	for _, c := range []prometheus.Collector{nodes, own{e}, build} {
		if err := e.reg.Register(c); err != nil {
			return nil, fmt.Errorf("nodeexporter: %w", err)
		}
	}
	return e, nil
}

// Write gives the node's figures as Prometheus' text. Two of one name and labels,
// as a mount that is there twice can make, cost that one and not the rest.
func (e *Exporter) Write(ctx context.Context, into io.Writer) error {
	families, err := e.reg.Gather()
	if len(families) == 0 {
		return fmt.Errorf("gather node's figures: %w", err)
	}
	out := expfmt.NewEncoder(into, expfmt.NewFormat(expfmt.TypeTextPlain))
	for _, f := range families {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := out.Encode(f); err != nil {
			return err
		}
	}
	return nil
}

// release is the one that was linked, "unknown" in tests.
func release() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			if d.Path == "github.com/prometheus/node_exporter" {
				return strings.TrimPrefix(d.Version, "v")
			}
		}
	}
	return "unknown"
}

// view makes a folder that shows the node's /proc with the network of process 1:
// /proc/net is that of whoever reads it, which in a pod is the pod's. It is made
// anew at each start.
func view(proc, dir string) (string, error) {
	proc, err := filepath.Abs(proc)
	if err != nil {
		return "", err
	}
	out, err := filepath.Abs(filepath.Join(dir, "proc"))
	if err != nil {
		return "", err
	}
	if err := os.RemoveAll(out); err != nil {
		return "", err
	}
	if err := os.MkdirAll(out, 0o700); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(proc)
	if err != nil {
		return "", err
	}
	links := map[string]string{"1": "1", "self": "1", "net": "1/net", "mounts": "1/mounts"}
	for _, e := range entries {
		name := e.Name()
		if _, is := links[name]; is || name == "thread-self" || strings.Trim(name, "0123456789") == "" {
			continue
		}
		links[name] = name
	}
	for name, to := range links {
		if err := os.Symlink(filepath.Join(proc, to), filepath.Join(out, name)); err != nil {
			return "", err
		}
	}
	return out, nil
}

// own gives what node_exporter would ask the kernel for by system calls and
// files that answer for the namespaces of whoever asks: uname, conntrack, and of
// the network devices what /proc/net/dev does not have. The names, labels and
// types are node_exporter's.
type own struct{ e *Exporter }

var _ prometheus.Collector = own{}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("node_"+name, help, labels, nil)
}

var (
	unameInfo = desc("uname_info", "Labeled system information as provided by the uname system call.", "sysname", "release", "version", "machine", "nodename", "domainname")
	entries   = desc("nf_conntrack_entries", "Number of currently allocated flow entries for connection tracking.")
	limit     = desc("nf_conntrack_entries_limit", "Maximum size of connection tracking table.")
	nohandler = desc("network_receive_nohandler_total", "Network device statistic receive_nohandler.", "device")
	tracking  = []struct {
		desc *prometheus.Desc
		of   func(procfs.ConntrackStatEntry) uint64
	}{
		{desc("nf_conntrack_stat_found", "Number of searched entries which were successful."), func(s procfs.ConntrackStatEntry) uint64 { return s.Found }},
		{desc("nf_conntrack_stat_invalid", "Number of packets seen which can not be tracked."), func(s procfs.ConntrackStatEntry) uint64 { return s.Invalid }},
		{desc("nf_conntrack_stat_ignore", "Number of packets seen which are already connected to a conntrack entry."), func(s procfs.ConntrackStatEntry) uint64 { return s.Ignore }},
		{desc("nf_conntrack_stat_insert", "Number of entries inserted into the list."), func(s procfs.ConntrackStatEntry) uint64 { return s.Insert }},
		{desc("nf_conntrack_stat_insert_failed", "Number of entries for which list insertion was attempted but failed."), func(s procfs.ConntrackStatEntry) uint64 { return s.InsertFailed }},
		{desc("nf_conntrack_stat_drop", "Number of packets dropped due to conntrack failure."), func(s procfs.ConntrackStatEntry) uint64 { return s.Drop }},
		{desc("nf_conntrack_stat_early_drop", "Number of dropped conntrack entries to make room for new ones, if maximum table size was reached."), func(s procfs.ConntrackStatEntry) uint64 { return s.EarlyDrop }},
		{desc("nf_conntrack_stat_search_restart", "Number of conntrack table lookups which had to be restarted due to hashtable resizes."), func(s procfs.ConntrackStatEntry) uint64 { return s.SearchRestart }},
	}
)

// Describe implements prometheus.Collector.
func (own) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{unameInfo, entries, limit, nohandler} {
		out <- d
	}
	for _, t := range tracking {
		out <- t.desc
	}
}

// Collect implements prometheus.Collector.
func (o own) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		text := unix.ByteSliceToString
		name := text(u.Nodename[:])
		if o.e.o.Root != "/" { // within a pod, whose name that is
			name = o.e.hostname()
		}
		gauge(unameInfo, 1, text(u.Sysname[:]), text(u.Release[:]), text(u.Version[:]), text(u.Machine[:]), name, text(u.Domainname[:]))
	}
	o.devices(out)
	// The stat file's first column is the number of entries, the same in the line
	// of each processor. The bound is one for the whole kernel.
	stats, err := o.e.fs.ConntrackStat()
	if err != nil || len(stats) == 0 {
		return
	}
	gauge(entries, float64(stats[0].Entries))
	if raw, err := os.ReadFile(filepath.Join(o.e.o.Proc, "sys/net/netfilter/nf_conntrack_max")); err == nil {
		var most float64
		if _, err := fmt.Sscan(string(raw), &most); err == nil {
			gauge(limit, most)
		}
	}
	for _, t := range tracking {
		var sum uint64
		for _, s := range stats {
			sum += t.of(s)
		}
		gauge(t.desc, float64(sum))
	}
}

// devices tells what was received that no protocol wanted. /sys shows the network
// that it was mounted in, which is the node's.
func (o own) devices(out chan<- prometheus.Metric) {
	all, _ := os.ReadDir(filepath.Join(o.e.o.Sys, "class/net")) // which collector netclass tells of
	for _, d := range all {
		if ofPod.MatchString(d.Name()) {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(o.e.o.Sys, "class/net", d.Name(), "statistics/rx_nohandler"))
		if err != nil {
			continue // a file among the devices, or a device that is gone
		}
		if n, err := strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 64); err == nil {
			out <- prometheus.MustNewConstMetric(nohandler, prometheus.CounterValue, float64(n), d.Name())
		}
	}
}

// hostname is the host's name by its file, else the node's, which is the same
// nearly always.
func (e *Exporter) hostname() string {
	raw, err := os.ReadFile(filepath.Join(e.o.Root, "etc/hostname"))
	if name := strings.TrimSpace(string(raw)); err == nil && name != "" {
		return name
	}
	return e.o.Node
}
