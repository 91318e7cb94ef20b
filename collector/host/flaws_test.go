package host

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Tests named after the flaws of the predecessor's rules (docs/flaws.md).

// The predecessor counted the page cache as used, and in its other metric
// shared memory as free.
func TestF20MemoryIsWhatTheKernelCallsAvailable(t *testing.T) {
	set := read(t, map[string]string{"meminfo": "MemTotal: 1000 kB\nMemFree: 100 kB\nBuffers: 50 kB\nCached: 600 kB\nShmem: 200 kB\nSReclaimable: 80 kB\nMemAvailable: 500 kB\n"}, nil)
	if used, total := set.Host.MemUsedBytes.V, set.Host.MemTotalBytes.V; used != 500<<10 || total != 1000<<10 {
		t.Errorf("%v of %v bytes are used, want half", used, total)
	}
	// On a real node 14 GB are page cache.
	set = read(t, map[string]string{"meminfo": recorded(t, "meminfo")}, nil)
	if used, total := set.Host.MemUsedBytes.V, set.Host.MemTotalBytes.V; used != (24683652-17518012)<<10 || total != 24683652<<10 {
		t.Errorf("%v of %v bytes of a real node are used", used, total)
	}
}

// recorded is what a real kernel told: testdata/README.md.
func recorded(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// The predecessor knew only ext and xfs, and counted bind mounts again.
func TestF21EachDeviceOnceWhateverItsKind(t *testing.T) {
	set := read(t, map[string]string{"1/mountinfo": "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 8:1 /var/x /x rw - ext4 /dev/sda1 rw\n" +
		"3 1 0:30 /data /data rw - btrfs /dev/sdb rw\n4 1 0:31 /home /data/home rw - btrfs /dev/sdb rw\n5 1 0:40 / /pool rw - zfs pool rw\n6 1 0:41 / /pool/a rw - zfs pool/a rw\n"}, nil)
	got := ""
	for _, f := range set.Host.Filesystems {
		got += f.Mountpoint + " "
	}
	if got != "/ /data /pool " {
		t.Errorf("measured are %s", got)
	}
	// On a real node with pods, the kubelet's folder is a bind mount of the only disk.
	set = read(t, map[string]string{"1/mountinfo": recorded(t, "mountinfo")}, nil)
	if f := set.Host.Filesystems; len(f) != 1 || f[0].Mountpoint != "/" {
		t.Errorf("of a real node, measured are %+v", f)
	}
	// Of 100 blocks 40 are used, and of the 60 free ones 10 are root's: df says 40 of 90.
	if got := spaceOf(&unix.Statfs_t{Bsize: 4096, Blocks: 100, Bfree: 60, Bavail: 50}); got.used != 40*4096 || got.available != 50*4096 {
		t.Errorf("%v bytes are used and %v available, want 40 and 50 blocks", got.used, got.available)
	}
}

// The predecessor named interfaces to leave out, and missed most CNIs' and bonds' members.
func TestF22OnlyInterfacesOfTheNodesOwn(t *testing.T) {
	nics := map[string][2]int{"eth0": {100, 1}}
	for _, nic := range []string{"lo", "bond0", "cali12", "cni0", "eni3a", "lxc9", "kube-ipvs0", "nerdctl0", "veth1", "docker0", "flannel.1", "tunl0", "br0"} {
		nics[nic] = [2]int{10_000, 10_000}
	}
	set := read(t, map[string]string{"1/net/dev": netDev(nics)}, map[string]string{"class/net/eth0/device/vendor": "x", "class/net/br0/lower_eth0/x": "", "class/net/bond0/lower_eth0/x": ""})
	if set.Host.ReceiveBytes.V != 100 || set.Host.TransmitBytes.V != 1 {
		t.Errorf("%v in and %v out, want eth0's alone", set.Host.ReceiveBytes.V, set.Host.TransmitBytes.V)
	}
	set = read(t, map[string]string{"1/net/dev": recorded(t, "net_dev")}, map[string]string{"class/net/eth0/device/vendor": "x"})
	if set.Host.ReceiveBytes.V != 3731380537 || set.Host.TransmitBytes.V != 18984958 {
		t.Errorf("%v in and %v out of a real node, want eth0's alone", set.Host.ReceiveBytes.V, set.Host.TransmitBytes.V)
	}
}
