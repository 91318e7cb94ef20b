package host

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"github.com/crowsnest-dev/crowsnest/collector/reading"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
)

// tree makes a folder of files, links where the text begins with "->".
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const stat = "cpu  1000 200 300 4000 500 60 40 100 900 0\ncpu0 1000 200 300 4000 500 60 40 100 900 0\nintr 1\nctxt 1\nbtime 1795460000\nprocesses 1\nprocs_running 1\nprocs_blocked 0\n"

func netDev(bytes map[string][2]int) string {
	out := "Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n"
	for nic, b := range bytes {
		out += fmt.Sprintf("%6s: %d 1 0 0 0 0 0 0 %d 1 0 0 0 0 0 0\n", nic, b[0], b[1])
	}
	return out
}

const (
	routeHead = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
	snmp      = "Tcp: RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab InSegs OutSegs RetransSegs InErrs OutRsts InCsumErrors\nTcp: 1 200 120000 -1 1 1 1 1 148 1 1 1 0 1 0\n"
	mounts    = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
)

// A disk, its partition, and a logical volume on it.
const diskstats = " 254 0 vda 10 0 100 5 20 0 200 5 0 9 10 0 0 0 0 0 0\n 254 1 vda1 10 0 100 5 20 0 200 5 0 9 10 0 0 0 0 0 0\n 253 0 dm-0 10 0 100 5 20 0 200 5 0 9 10 0 0 0 0 0 0\n"

func route(nic string) string {
	return routeHead + nic + "\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n" + nic + "\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
}

func read(t *testing.T, proc, sys map[string]string) reading.Set {
	t.Helper()
	base := map[string]string{"stat": stat, "meminfo": "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 250 kB\n",
		"1/net/dev": netDev(map[string][2]int{"eth0": {10, 20}, "lo": {1, 1}}), "1/net/route": route("eth0"), "1/net/snmp": snmp, "1/mountinfo": mounts,
		"loadavg": "0.50 0.25 0.10 1/200 4242\n", "vmstat": "nr_free_pages 1\noom_kill 3\n", "diskstats": diskstats,
		"1/net/stat/nf_conntrack": "entries  clashres found\n00000040  0 0\n00000040  0 0\n", "sys/net/netfilter/nf_conntrack_max": "256\n"}
	for k, v := range proc {
		base[k] = v
		if v == "" {
			delete(base, k)
		}
	}
	if sys == nil {
		sys = map[string]string{"class/net/eth0/device/vendor": "x", "block/vda/device/vendor": "x", "block/dm-0/dm/name": "x"}
	}
	s, err := New(Options{Node: "n", Proc: tree(t, base), Sys: tree(t, sys), Root: "/root", Now: func() time.Time { return time.Unix(1795460000, 0) }})
	if err != nil {
		t.Fatal(err)
	}
	s.statfs = func(path string) (space, error) {
		if strings.HasSuffix(path, "/broken") {
			return space{}, os.ErrPermission
		}
		return space{float64(len(path)), 100, 30, 70}, nil
	}
	sets := s.Read(t.Context(), time.Time{}, nil)
	if len(sets) != 1 || sets[0].Source != catalogue.Host || sets[0].Node != "n" {
		t.Fatalf("got %+v", sets)
	}
	return sets[0]
}

func TestWholeNode(t *testing.T) {
	set := read(t, nil, nil)
	if set.Err != nil {
		t.Fatal(set.Err)
	}
	n := set.Host
	// User hundredths: 1000+200+300+60+40+100 busy, 4000 idle and 500 waiting; guests are in user.
	for name, got := range map[string][2]float64{
		"busy": {n.CPUBusySeconds.V, 17}, "total": {n.CPUTotalSeconds.V, 62}, "used": {n.MemUsedBytes.V, 750 << 10}, "memory": {n.MemTotalBytes.V, 1000 << 10},
		"in": {n.ReceiveBytes.V, 10}, "out": {n.TransmitBytes.V, 20}, "tcp": {n.TCPEstablished.V, 148},
		"load1": {n.Load1.V, 0.5}, "load15": {n.Load15.V, 0.1}, "kills": {n.OOMKills.V, 3}, "connections": {n.Conntrack.V, 64}, "table": {n.ConntrackMax.V, 256},
		"disk read": {n.FSReadBytes.V, 51200}, "disk written": {n.FSWriteBytes.V, 102400}, "reads": {n.FSReads.V, 10}, "writes": {n.FSWrites.V, 20},
		"inodes": {n.Filesystems[0].UsedInodes.V, 30}, "wrong": {n.NetworkErrors.V, 0},
	} {
		if math.Abs(got[0]-got[1]) > 1e-9 {
			t.Errorf("%s is %v, want %v", name, got[0], got[1])
		}
	}
	if len(n.Filesystems) != 1 || n.Filesystems[0].Mountpoint != "/" || n.Filesystems[0].UsedBytes.V != float64(len("/root")) {
		t.Errorf("file systems %+v", n.Filesystems)
	}
}

func TestNetworkCountsNothingTwice(t *testing.T) {
	nics := netDev(map[string][2]int{"eno1": {1, 1}, "eno2": {2, 2}, "bond0": {3, 3}, "br0": {3, 3}, "cali1": {50, 50}, "cni0": {50, 50}, "veth1": {50, 50}, "lo": {100, 100}, "eth0": {7, 7}})
	for name, tc := range map[string]struct {
		route string
		sys   map[string]string
		want  float64
	}{
		"physical ones":                      {route("eno1"), map[string]string{"class/net/eno1/device/x": "", "class/net/eno2/device/x": "", "class/net/cali1/x": ""}, 3},
		"a bond is its members":              {route("bond0"), map[string]string{"class/net/eno1/device/x": "", "class/net/eno2/device/x": "", "class/net/bond0/lower_eno1/x": ""}, 3},
		"a default route over a virtual NIC": {route("eth0"), map[string]string{"class/net/cali1/x": ""}, 7},
		"none":                               {routeHead, map[string]string{"class/net/cali1/x": ""}, 0},
	} {
		set := read(t, map[string]string{"1/net/dev": nics, "1/net/route": tc.route}, tc.sys)
		if got := set.Host.ReceiveBytes.V; got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
		if lacks := set.Lacking[catalogue.NodeNetworkReceive] != ""; lacks != (tc.want == 0) {
			t.Errorf("%s: lacking %v", name, set.Lacking)
		}
	}
	set := read(t, map[string]string{"1/net/dev": nics, "1/net/route": routeHead,
		"1/net/ipv6_route": "00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003     eth0\n"}, map[string]string{"x": ""})
	if set.Host.ReceiveBytes.V != 7 {
		t.Errorf("by the IPv6 default route: %v", set.Host.ReceiveBytes.V)
	}
}

func TestFileSystems(t *testing.T) {
	for name, tc := range map[string]struct{ mounts, want string }{
		"one per device, under its shortest mount point": {
			"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 8:2 / /var/lib/data rw - xfs /dev/sdb rw\n3 1 8:2 / /data rw - xfs /dev/sdb rw\n", "/ /data"},
		"bind mounts are no devices of their own": {
			"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 8:1 /var/x /x rw - ext4 /dev/sda1 rw\n", "/"},
		"a bind mount with a shorter path than the device": {
			"1 0 8:2 / /var/lib/data rw - xfs /dev/sdb rw\n2 1 8:2 /sub /d rw - xfs /dev/sdb rw\n", "/var/lib/data"},
		"pseudo, read-only and remote ones are left out": {
			"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:5 / /proc rw - proc proc rw\n3 1 0:6 / /run rw - tmpfs tmpfs rw\n4 1 7:1 / /snap/x ro - squashfs /dev/loop1 ro\n" +
				"5 1 8:3 / /boot ro - ext4 /dev/sda3 rw\n6 1 0:9 / /nfs rw - nfs4 srv:/x rw\n7 1 0:10 / /o rw - overlay overlay rw\n8 1 0:11 / /f rw - fuse.sshfs x rw\n9 1 8:4 / /ro rw - ext4 /dev/sdd ro\n", "/"},
		"what pods mount is theirs": {
			"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 8:5 / /var/lib/kubelet/plugins/kubernetes.io/csi/pv/globalmount rw - ext4 /dev/sde rw\n3 1 8:5 / /var/lib/kubelet/pods/u/volumes/x rw - ext4 /dev/sde rw\n", "/"},
		"the kubelet's own disk is the node's": {
			"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 8:6 / /var/lib/kubelet rw - ext4 /dev/sdf rw\n3 2 8:6 / /var/lib/kubelet/pods/u/x rw - ext4 /dev/sdf rw\n", "/ /var/lib/kubelet"},
		"subvolumes are one device": {
			"1 0 0:30 /root / rw - btrfs /dev/sda1 rw\n2 1 0:31 /home /home rw - btrfs /dev/sda1 rw\n", "/"},
		"a node that is a container has its root": {"1 0 0:40 / / rw - overlay overlay rw\n", "/"},
		"one that cannot be read spares the rest": {"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 8:2 / /broken rw - ext4 /dev/sdb rw\n", "/"},
	} {
		set := read(t, map[string]string{"1/mountinfo": tc.mounts}, nil)
		var got []string
		for _, f := range set.Host.Filesystems {
			got = append(got, f.Mountpoint)
		}
		if strings.Join(got, " ") != tc.want {
			t.Errorf("%s: %v, want %s", name, got, tc.want)
		}
		if broken := strings.Contains(tc.mounts, "broken"); (set.Err != nil) != broken {
			t.Errorf("%s: error %v", name, set.Err)
		}
	}
}

func TestAMissingFileSparesTheRest(t *testing.T) {
	for _, file := range []string{"stat", "meminfo", "1/net/dev", "1/net/snmp", "1/mountinfo", "loadavg", "vmstat", "diskstats"} {
		set := read(t, map[string]string{file: ""}, nil)
		if set.Err == nil {
			t.Errorf("without %s there is no error", file)
		}
		if n := set.Host; !n.MemUsedBytes.OK() && file != "meminfo" || !n.CPUBusySeconds.OK() && file != "stat" || len(n.Filesystems) == 0 && file != "1/mountinfo" {
			t.Errorf("without %s others are missing: %+v", file, n)
		}
	}
	if _, err := New(Options{Node: "n", Proc: "/does/not/exist"}); err == nil {
		t.Error("a missing proc folder is no error")
	}
}

// TestThisMachine compares with what the kernel says by another way.
func TestThisMachine(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	s, err := New(Options{Node: "n"})
	if err != nil {
		t.Fatal(err)
	}
	n := s.Read(t.Context(), time.Time{}, nil)[0].Host
	var si unix.Sysinfo_t
	if err := unix.Sysinfo(&si); err != nil {
		t.Fatal(err)
	}
	total := float64(si.Totalram) * float64(si.Unit)
	if math.Abs(n.MemTotalBytes.V-total) > total/100 {
		t.Errorf("memory is %v, sysinfo says %v", n.MemTotalBytes.V, total)
	}
	if len(n.Filesystems) == 0 || n.CPUTotalSeconds.V <= n.CPUBusySeconds.V {
		t.Errorf("got %+v", n)
	}
}

func TestWhatTheKernelDoesNotTellIsSaid(t *testing.T) {
	set := read(t, map[string]string{"vmstat": "nr_free_pages 1\n", "1/net/stat/nf_conntrack": "", "diskstats": " 253 0 dm-0 10 0 100 5 20 0 200 5 0 9 10 0 0 0 0 0 0\n"}, nil)
	for _, name := range []string{"k8s_node_oom_kill_total", "k8s_node_conntrack_usage", "k8s_node_fs_read_bytes"} {
		if set.Lacking[name] == "" {
			t.Errorf("%s lacks without a reason", name)
		}
	}
	if set.Err != nil {
		t.Errorf("what a kernel does not have is no error: %v", set.Err)
	}
}

func FuzzMountInfo(f *testing.F) {
	f.Add("1 0 8:1 / / rw - ext4 /dev/sda1 rw\n")
	f.Fuzz(func(t *testing.T, text string) {
		dir := t.TempDir()
		if os.MkdirAll(dir+"/1", 0o755) != nil || os.WriteFile(dir+"/1/mountinfo", []byte(text), 0o600) != nil {
			t.Skip()
		}
		fs, err := procfs.NewFS(dir)
		if err != nil {
			t.Fatal(err)
		}
		p, err := fs.Proc(1)
		if err != nil {
			t.Fatal(err)
		}
		if m, err := p.MountInfo(); err == nil {
			chosen(m)
		}
	})
}
