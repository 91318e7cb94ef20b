package cgroups

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/collector/reading"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

const (
	uid  = "dbe6760d-b0cb-4566-a114-a715fcf1e005"
	ctr  = "73b3865bf07f80f00670a1a97827ecf80b0e0a74c57da655a9fa03527f2080d2"
	box  = "040f1b9f18d89ede50a00d0a368dbbd92df68d58a1112d08eca28b0256057068"
	netd = "Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n" +
		"    lo: 9999 9 0 0 0 0 0 0 9999 9 0 0 0 0 0 0\n  eth0: 1000 10 1 2 0 0 0 0 2000 20 3 4 0 0 0 0\n  net1: 5 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n"
)

var clock = time.Date(2026, 11, 23, 20, 0, 0, 0, time.UTC)

func tree(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func read(t *testing.T, files map[string]string) reading.Set {
	t.Helper()
	s, err := New(Options{Node: "n", Root: tree(t, files), Proc: tree(t, map[string]string{"4242/net/dev": netd}), Now: func() time.Time { return clock }})
	if err != nil {
		t.Fatal(err)
	}
	sets := s.Read(t.Context(), clock, nil)
	if len(sets) != 1 || sets[0].Node != "n" || sets[0].Source != catalogue.Cgroups || s.Last() == nil {
		t.Fatalf("got %+v", sets)
	}
	return sets[0]
}

// v2 is a node with cgroup v2, the systemd driver and containerd.
func v2() map[string]string {
	pod := "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + strings.ReplaceAll(uid, "-", "_") + ".slice/"
	c, b := pod+"cri-containerd-"+ctr+".scope/", pod+"cri-containerd-"+box+".scope/"
	return map[string]string{
		"cgroup.controllers": "cpuset cpu io memory pids\n", "system.slice/sshd.service/memory.current": "1\n",
		pod + "cpu.stat":     "usage_usec 2500000\nuser_usec 1\n",
		c + "cpu.stat":       "usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\nnr_periods 200\nnr_throttled 50\nthrottled_usec 77\n",
		c + "memory.current": "1000000\n",
		c + "memory.stat":    "anon 5\nfile 9\ninactive_anon 1\nactive_anon 1\ninactive_file 300000\nactive_file 3\n",
		c + "memory.events":  "low 0\nhigh 0\nmax 3\noom 2\noom_kill 1\noom_group_kill 0\n",
		c + "io.stat":        "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n8:16 rbytes=100 wbytes=200 rios=3 wios=4 dbytes=0 dios=0\n",
		c + "pids.current":   "7\n",
		c + "cgroup.procs":   "4242\n4243\n",
		b + "cpu.stat":       "usage_usec 10\n",
		b + "memory.current": "4096\n",
		b + "memory.stat":    "inactive_file 0\n",
		b + "cgroup.procs":   "4242\n",
	}
}

// v1 is a node with cgroup v1 and the cgroupfs driver.
func v1() map[string]string {
	pod := "kubepods/burstable/pod" + uid + "/"
	c := pod + ctr + "/"
	return map[string]string{
		"cpuacct/" + pod + "cpuacct.usage":        "2500000000\n",
		"cpuacct/" + c + "cpuacct.usage":          "1500000000\n",
		"cpu/" + c + "cpu.stat":                   "nr_periods 200\nnr_throttled 50\nthrottled_time 77\n",
		"memory/" + c + "memory.usage_in_bytes":   "1000000\n",
		"memory/" + c + "memory.stat":             "cache 1\ninactive_file 1\ntotal_cache 2\ntotal_inactive_file 300000\n",
		"memory/" + c + "memory.oom_control":      "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
		"memory/" + c + "cgroup.procs":            "4242\n",
		"pids/" + c + "pids.current":              "7\n",
		"memory/user.slice/memory.usage_in_bytes": "1\n",
	}
}

func TestBothVersions(t *testing.T) {
	for name, files := range map[string]map[string]string{"v2, systemd": v2(), "v1, cgroupfs": v1()} {
		t.Run(name, func(t *testing.T) {
			set := read(t, files)
			if set.Err != nil || len(set.Pods) != 1 || set.Pods[0].UID != uid {
				t.Fatalf("%v, pods %+v", set.Err, set.Pods)
			}
			var c reading.Container
			for _, one := range set.Containers {
				if one.ID == ctr {
					c = one
				}
			}
			for what, v := range map[string][2]float64{
				"CPU": {c.CPUSeconds.V, 1.5}, "working set": {c.WorkingSetBytes.V, 700000}, "usage": {c.UsageBytes.V, 1e6}, "periods": {c.Periods.V, 200},
				"throttled": {c.Throttled.V, 50}, "kills": {c.OOMKills.V, 1}, "pids": {c.PIDs.V, 7}, "pod's CPU": {set.Pods[0].CPUSeconds.V, 2.5},
				"in": {set.Pods[0].ReceiveBytes.V, 1005}, "out": {set.Pods[0].TransmitBytes.V, 2007}, "packets in": {set.Pods[0].ReceivePackets.V, 11},
				"errors": {set.Pods[0].NetworkErrors.V, 10},
			} {
				if v[0] != v[1] {
					t.Errorf("%s is %v, want %v", what, v[0], v[1])
				}
			}
			if c.PodUID != uid || !c.CPUSeconds.At.Equal(clock) {
				t.Errorf("got %+v", c)
			}
			isV2 := strings.HasPrefix(name, "v2")
			if c.FSReadBytes.OK() != isV2 || (set.Lacking[catalogue.ContainerFSRead] == "") != isV2 {
				t.Errorf("disk %+v, lacking %v", c.FSReadBytes, set.Lacking)
			}
			if isV2 && (c.FSReadBytes.V != 4196 || c.FSWriteBytes.V != 8392 || c.FSReads.V != 4 || c.FSWrites.V != 6) {
				t.Errorf("disk %+v", c)
			}
		})
	}
}

func TestWhatIsNotThereIsLeftOut(t *testing.T) {
	for name := range v2() {
		files := v2()
		if name == "cgroup.controllers" {
			continue
		}
		for _, text := range []string{"", "garbage\n", "-1\n", strings.Repeat("9", 400) + "\n", "\x00\xff"} {
			files[name] = text
			if set := read(t, files); set.Err != nil {
				t.Errorf("%s of %q gave %v", name, text, set.Err)
			}
		}
	}
	if _, err := New(Options{Node: "n", Root: t.TempDir()}); !errors.Is(err, fault.ErrNotFound) {
		t.Errorf("without cgroups: %v", err)
	}
	s, err := New(Options{Node: "n", Root: tree(t, v2())})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if set := s.Read(ctx, clock, nil)[0]; set.Err == nil {
		t.Error("a read that was cut short says nothing of it")
	}
}

func FuzzFiles(f *testing.F) {
	f.Add([]byte("8:0 rbytes=4096 wbytes=8192\n"), "rbytes=")
	f.Add([]byte("usage_usec 5\n"), "usage_usec")
	f.Fuzz(func(t *testing.T, text []byte, name string) {
		if len(name) == 0 {
			return
		}
		if v, ok := find(text, name); ok && v < 0 {
			t.Errorf("%v", v)
		}
		if v, _ := sum(text, name); v < 0 {
			t.Errorf("%v", v)
		}
	})
}

// BenchmarkRead reads 110 pods of one container and a sandbox each. With
// CGROUP_ROOT it makes them in the kernel's own cgroup v1 folders.
func BenchmarkRead(b *testing.B) {
	root := os.Getenv("CGROUP_ROOT")
	var made []string
	if root == "" {
		files := map[string]string{}
		for i := range 110 {
			id := fmt.Sprintf("%08x", i)
			for name, text := range v1() {
				files[strings.NewReplacer(uid[:8], id, ctr[:8], id).Replace(name)] = text
			}
		}
		root = tree(b, files)
	} else {
		for _, controller := range []string{"cpu", "cpuacct", "memory", "pids"} {
			for i := range 110 {
				id := fmt.Sprintf("%08x", i)
				pod := filepath.Join(root, controller, "kubepods/burstable/pod"+id+uid[8:])
				for _, dir := range []string{pod, filepath.Join(pod, id+ctr[8:]), filepath.Join(pod, id+box[8:])} {
					if err := os.MkdirAll(dir, 0o755); err != nil {
						b.Fatal(err)
					}
					made = append(made, dir)
				}
			}
			made = append([]string{filepath.Join(root, controller, "kubepods"), filepath.Join(root, controller, "kubepods/burstable")}, made...)
		}
		defer func() {
			for i := len(made) - 1; i >= 0; i-- {
				_ = os.Remove(made[i])
			}
		}()
	}
	s, err := New(Options{Node: "n", Root: root})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if set := s.Read(b.Context(), clock, nil)[0]; len(set.Containers) < 110 || len(set.Pods) != 110 {
			b.Fatalf("%d containers of %d pods", len(set.Containers), len(set.Pods))
		}
	}
}
