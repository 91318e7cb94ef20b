// Package host reads a node itself from its /proc and /sys, and its file systems
// by statfs, as df does. It owns which interfaces and file systems count. It
// must not know what is computed of the readings.
package host

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/procfs"
	"github.com/prometheus/procfs/blockdevice"
	"golang.org/x/sys/unix"

	"github.com/crowsnest-dev/crowsnest/collector/reading"
	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
)

// Options of a Source. The defaults are right on the node itself; inside a pod
// the node's folders are mounted somewhere else.
type Options struct {
	Node string           // required
	Proc string           // default /proc
	Sys  string           // default /sys
	Root string           // the node's root file system; default /
	Now  func() time.Time // default time.Now
}

// Source reads one node.
type Source struct {
	o      Options
	fs     procfs.FS
	blocks blockdevice.FS
	// statfs is unix.Statfs but in tests.
	statfs func(path string) (space, error)
}

// space is what statfs tells of a file system. Inodes are 0 where it makes them
// as it needs them.
type space struct{ used, available, usedInodes, freeInodes float64 }

// New checks that the folders are there.
func New(o Options) (*Source, error) {
	if o.Node == "" {
		return nil, errors.New("host: Node is required")
	}
	for _, d := range []struct {
		path      *string
		otherwise string
	}{{&o.Proc, "/proc"}, {&o.Sys, "/sys"}, {&o.Root, "/"}} {
		if *d.path == "" {
			*d.path = d.otherwise
		}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	fs, err := procfs.NewFS(o.Proc)
	if err != nil {
		return nil, fmt.Errorf("open host's proc: %w", err)
	}
	blocks, err := blockdevice.NewFS(o.Proc, o.Sys)
	if err != nil {
		return nil, fmt.Errorf("open host's sys: %w", err)
	}
	return &Source{o: o, fs: fs, blocks: blocks, statfs: statfs}, nil
}

// Name of the source, for health and metrics.
func (s *Source) Name() string { return string(catalogue.Host) }

// Read gives one set. What cannot be read is left out and named in its error.
func (s *Source) Read(_ context.Context, _ time.Time, _ *state.Snapshot) []reading.Set {
	began := s.o.Now()
	n := &reading.Node{}
	set := reading.Set{Node: s.o.Node, Source: catalogue.Host, Host: n, Lacking: map[string]string{}}
	set.Err = errors.Join(s.cpu(n), s.memory(n), s.network(n, set.Lacking), s.tcp(n), s.filesystems(n), s.load(n), s.disks(n, set.Lacking), s.kernel(n, set.Lacking))
	set.Took = s.o.Now().Sub(began)
	return []reading.Set{set}
}

func (s *Source) value(v float64) reading.Value { return reading.Value{V: v, At: s.o.Now()} }

func (s *Source) cpu(n *reading.Node) error {
	st, err := s.fs.Stat()
	if err != nil {
		return fmt.Errorf("read host's CPU: %w", err)
	}
	c := st.CPUTotal // guests are part of user and nice already
	idle := c.Idle + c.Iowait
	busy := c.User + c.Nice + c.System + c.IRQ + c.SoftIRQ + c.Steal
	n.CPUBusySeconds = s.value(busy)
	n.CPUTotalSeconds = reading.Value{V: busy + idle, At: n.CPUBusySeconds.At}
	return nil
}

func (s *Source) memory(n *reading.Node) error {
	m, err := s.fs.Meminfo()
	if err != nil {
		return fmt.Errorf("read host's memory: %w", err)
	}
	if m.MemTotalBytes == nil || m.MemAvailableBytes == nil {
		return errors.New("read host's memory: /proc/meminfo has no MemAvailable")
	}
	n.MemUsedBytes = s.value(float64(*m.MemTotalBytes) - float64(*m.MemAvailableBytes))
	n.MemTotalBytes = reading.Value{V: float64(*m.MemTotalBytes), At: n.MemUsedBytes.At}
	return nil
}

// network sums the physical interfaces of the host's network namespace, that of
// process 1. The interface of the default route counts too where it stands on no
// other: a bond or bridge moves what its members move already.
func (s *Source) network(n *reading.Node, lacking map[string]string) error {
	p, err := s.fs.Proc(1)
	if err != nil {
		return fmt.Errorf("read host's network: %w", err)
	}
	devices, err := p.NetDev()
	if err != nil {
		return fmt.Errorf("read host's network: %w", err)
	}
	route := s.defaultRoute()
	counted := 0
	var in, out, wrong, dropped float64
	for name, d := range devices {
		if name == "lo" || !(s.physical(name) || (slices.Contains(route, name) && !s.stacked(name))) {
			continue
		}
		counted++
		in += float64(d.RxBytes)
		out += float64(d.TxBytes)
		wrong += float64(d.RxErrors + d.TxErrors)
		dropped += float64(d.RxDropped + d.TxDropped)
	}
	if counted == 0 {
		const why = "the node has no physical interface and no default route that could be found"
		lacking[catalogue.NodeNetworkReceive], lacking[catalogue.NodeNetworkTransmit] = why, why
		return nil
	}
	n.ReceiveBytes = s.value(in)
	n.TransmitBytes = reading.Value{V: out, At: n.ReceiveBytes.At}
	n.NetworkErrors, n.NetworkDrops = reading.Value{V: wrong, At: n.ReceiveBytes.At}, reading.Value{V: dropped, At: n.ReceiveBytes.At}
	return nil
}

func (s *Source) class(nic string, more ...string) string {
	return filepath.Join(append([]string{s.o.Sys, "class", "net", nic}, more...)...)
}

// physical: hardware stands behind it.
func (s *Source) physical(nic string) bool {
	_, err := os.Stat(s.class(nic, "device"))
	return err == nil
}

// stacked: it stands on other interfaces.
func (s *Source) stacked(nic string) bool {
	lower, err := filepath.Glob(s.class(nic, "lower_*"))
	return err == nil && len(lower) > 0
}

// defaultRoute names the interfaces that default routes go through.
func (s *Source) defaultRoute() []string {
	var out []string
	v4, _ := os.ReadFile(filepath.Join(s.o.Proc, "1/net/route"))
	for f := range fieldsOf(v4) {
		if len(f) >= 8 && f[1] == "00000000" && f[7] == "00000000" {
			out = append(out, f[0])
		}
	}
	if len(out) > 0 {
		return out
	}
	v6, _ := os.ReadFile(filepath.Join(s.o.Proc, "1/net/ipv6_route"))
	for f := range fieldsOf(v6) {
		if len(f) >= 10 && strings.Trim(f[0], "0") == "" && f[1] == "00" && f[9] != "lo" {
			out = append(out, f[9])
		}
	}
	return out
}

func fieldsOf(text []byte) func(func([]string) bool) {
	return func(yield func([]string) bool) {
		sc := bufio.NewScanner(bytes.NewReader(text))
		for sc.Scan() {
			if !yield(strings.Fields(sc.Text())) {
				return
			}
		}
	}
}

// tcp reads CurrEstab, the kernel's own count over both protocol versions.
func (s *Source) tcp(n *reading.Node) error {
	p, err := s.fs.Proc(1)
	if err != nil {
		return fmt.Errorf("read host's TCP connections: %w", err)
	}
	snmp, err := p.Snmp()
	if err != nil {
		return fmt.Errorf("read host's TCP connections: %w", err)
	}
	if snmp.Tcp.CurrEstab == nil {
		return errors.New("read host's TCP connections: /proc/1/net/snmp has no CurrEstab")
	}
	n.TCPEstablished = s.value(*snmp.Tcp.CurrEstab)
	return nil
}

// filesystems gives one value for each device, under its shortest mount point.
func (s *Source) filesystems(n *reading.Node) error {
	p, err := s.fs.Proc(1)
	if err != nil {
		return fmt.Errorf("read host's file systems: %w", err)
	}
	mounts, err := p.MountInfo()
	if err != nil {
		return fmt.Errorf("read host's file systems: %w", err)
	}
	var errs []error
	for _, m := range chosen(mounts) {
		sp, err := s.statfs(filepath.Join(s.o.Root, m.MountPoint))
		if err != nil {
			errs = append(errs, fmt.Errorf("read file system %s: %w", m.MountPoint, err))
			continue
		}
		if sp.used+sp.available <= 0 {
			continue
		}
		v := s.value(sp.used)
		f := reading.Filesystem{Mountpoint: m.MountPoint, UsedBytes: v, AvailableBytes: reading.Value{V: sp.available, At: v.At}}
		if sp.usedInodes+sp.freeInodes > 0 {
			f.UsedInodes, f.FreeInodes = reading.Value{V: sp.usedInodes, At: v.At}, reading.Value{V: sp.freeInodes, At: v.At}
		}
		n.Filesystems = append(n.Filesystems, f)
	}
	return errors.Join(errs...)
}

func statfs(path string) (space, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return space{}, err
	}
	return spaceOf(&st), nil
}

func spaceOf(st *unix.Statfs_t) space {
	size := float64(st.Bsize)
	if st.Frsize > 0 {
		size = float64(st.Frsize)
	}
	return space{float64(st.Blocks-st.Bfree) * size, float64(st.Bavail) * size, float64(st.Files - st.Ffree), float64(st.Ffree)}
}

func (s *Source) load(n *reading.Node) error {
	l, err := s.fs.LoadAvg()
	if err != nil {
		return fmt.Errorf("read host's load: %w", err)
	}
	n.Load1 = s.value(l.Load1)
	n.Load5, n.Load15 = reading.Value{V: l.Load5, At: n.Load1.At}, reading.Value{V: l.Load15, At: n.Load1.At}
	return nil
}

// sector is the unit of /proc/diskstats, whatever the disk's own is.
const sector = 512

// disks sums whole disks with hardware, real or virtual, behind them: neither
// their partitions nor what stands on them (dm, md) count again.
func (s *Source) disks(n *reading.Node, lacking map[string]string) error {
	stats, err := s.blocks.ProcDiskstats()
	if err != nil {
		return fmt.Errorf("read host's disks: %w", err)
	}
	found := false
	var read, written, reads, writes float64
	for _, d := range stats {
		if _, err := os.Stat(filepath.Join(s.o.Sys, "block", d.DeviceName, "device")); err != nil {
			continue
		}
		found = true
		read, written = read+sector*float64(d.ReadSectors), written+sector*float64(d.WriteSectors)
		reads, writes = reads+float64(d.ReadIOs), writes+float64(d.WriteIOs)
	}
	if !found {
		const why = "the node shows no disk with hardware behind it"
		for _, name := range []string{"k8s_node_fs_read_bytes", "k8s_node_fs_write_bytes", "k8s_node_fs_read_times", "k8s_node_fs_write_times"} {
			lacking[name] = why
		}
		return nil
	}
	n.FSReadBytes = s.value(read)
	at := n.FSReadBytes.At
	n.FSWriteBytes, n.FSReads, n.FSWrites = reading.Value{V: written, At: at}, reading.Value{V: reads, At: at}, reading.Value{V: writes, At: at}
	return nil
}

// kernel reads single counters: kills for want of memory, and how full the table
// of tracked connections is. Either may not be there.
func (s *Source) kernel(n *reading.Node, lacking map[string]string) error {
	raw, err := os.ReadFile(filepath.Join(s.o.Proc, "vmstat"))
	if err != nil {
		return fmt.Errorf("read host's kills: %w", err)
	}
	for f := range fieldsOf(raw) {
		if len(f) == 2 && f[0] == "oom_kill" {
			if v, err := strconv.ParseUint(f[1], 10, 64); err == nil {
				n.OOMKills = s.value(float64(v))
			}
		}
	}
	if !n.OOMKills.OK() {
		lacking["k8s_node_oom_kill_total"] = "the kernel does not count out-of-memory kills"
	}
	// /proc/sys/net shows the network namespace of whoever reads it, which in a
	// pod is the pod's; the count is taken from process 1's. The bound is one for
	// the whole kernel.
	used, okUsed := s.tracked()
	raw, err = os.ReadFile(filepath.Join(s.o.Proc, "sys/net/netfilter/nf_conntrack_max"))
	size, badSize := strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 64)
	if !okUsed || err != nil || badSize != nil || size == 0 {
		lacking["k8s_node_conntrack_usage"] = "the kernel does not track connections"
		return nil
	}
	n.Conntrack = s.value(used)
	n.ConntrackMax = reading.Value{V: float64(size), At: n.Conntrack.At}
	return nil
}

// tracked is the number of connections that the host's network namespace tracks:
// the first column, in hexadecimal, the same in the line of each processor.
func (s *Source) tracked() (n float64, ok bool) {
	raw, err := os.ReadFile(filepath.Join(s.o.Proc, "1/net/stat/nf_conntrack"))
	if err != nil {
		return 0, false
	}
	for f := range fieldsOf(raw) {
		if len(f) > 0 && f[0] != "entries" {
			v, err := strconv.ParseUint(f[0], 16, 64)
			return float64(v), err == nil
		}
	}
	return 0, false
}

// notDisks are file systems that are no disk of the node: made by the kernel, in
// memory, or images that are always full.
var notDisks = map[string]bool{
	"autofs": true, "bdev": true, "binfmt_misc": true, "bpf": true, "cgroup": true, "cgroup2": true, "configfs": true, "cpuset": true,
	"debugfs": true, "devpts": true, "devtmpfs": true, "efivarfs": true, "erofs": true, "fusectl": true, "hugetlbfs": true, "iso9660": true,
	"mqueue": true, "nsfs": true, "overlay": true, "pipefs": true, "proc": true, "pstore": true, "ramfs": true, "rootfs": true,
	"rpc_pipefs": true, "securityfs": true, "selinuxfs": true, "sockfs": true, "squashfs": true, "sysfs": true, "tmpfs": true, "tracefs": true,
	"udf": true,
}

// remote are file systems of other machines: not the node's, and asking one
// whose server is gone would hang.
func remote(kind string) bool {
	switch kind {
	case "nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "virtiofs", "glusterfs", "lustre", "afs":
		return true
	}
	return strings.HasPrefix(kind, "fuse")
}

// podFolders are where container runtimes and the kubelet mount what belongs to pods.
var podFolders = []string{
	"/var/lib/kubelet/pods/", "/var/lib/kubelet/plugins/", "/var/lib/docker/", "/var/lib/containers/", "/var/lib/containerd/", "/run/",
	"/proc/", "/sys/", "/dev/",
}

// chosen picks the mounts to measure, by their mount points. A node whose root
// is none of a disk, as a node that is itself a container, has just its root.
func chosen(mounts []*procfs.MountInfo) []*procfs.MountInfo {
	best := map[string]*procfs.MountInfo{}
	var root *procfs.MountInfo
	for _, m := range mounts {
		if m.MountPoint == "/" {
			root = m
		}
		_, readOnly := m.Options["ro"]
		_, readOnlyDevice := m.SuperOptions["ro"]
		if readOnly || readOnlyDevice || notDisks[m.FSType] || remote(m.FSType) ||
			slices.ContainsFunc(podFolders, func(f string) bool { return strings.HasPrefix(m.MountPoint, f) }) {
			continue
		}
		// Subvolumes have device numbers of their own on one device.
		device := m.MajorMinorVer
		if m.FSType == "btrfs" || m.FSType == "zfs" {
			device, _, _ = strings.Cut(m.Source, "/")
			if m.FSType == "btrfs" {
				device = m.Source
			}
		}
		if old := best[device]; old == nil || better(m, old) {
			best[device] = m
		}
	}
	out := make([]*procfs.MountInfo, 0, len(best))
	for _, m := range best {
		out = append(out, m)
	}
	if len(out) == 0 && root != nil {
		out = append(out, root)
	}
	slices.SortFunc(out, func(a, b *procfs.MountInfo) int { return strings.Compare(a.MountPoint, b.MountPoint) })
	return out
}

// better prefers a mount of the whole device to a bind mount of a part, then the
// shorter path.
func better(a, b *procfs.MountInfo) bool {
	if whole := a.Root == "/"; whole != (b.Root == "/") {
		return whole
	}
	if len(a.MountPoint) != len(b.MountPoint) {
		return len(a.MountPoint) < len(b.MountPoint)
	}
	return a.MountPoint < b.MountPoint
}
