package testbed

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Cgroup is a control group's folder or, in version 1, its folders.
type Cgroup struct {
	CPU    string
	Memory string
	v2     bool
}

// FindCgroup finds the group whose folder's name holds id (a pod's UID or a
// container's id), as the kernel has it.
func FindCgroup(id string) (Cgroup, error) {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		path, err := findFolder("/sys/fs/cgroup", id)
		return Cgroup{CPU: path, Memory: path, v2: true}, err
	}
	cpu, err := findFolder("/sys/fs/cgroup/cpuacct", id)
	if err != nil {
		return Cgroup{}, err
	}
	memory, err := findFolder("/sys/fs/cgroup/memory", id)
	return Cgroup{CPU: cpu, Memory: memory}, err
}

// CgroupOf gives the group that a process is in.
func CgroupOf(pid int) (Cgroup, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return Cgroup{}, err
	}
	paths := map[string]string{} // by controller; version 2 has none
	for _, line := range strings.Split(string(raw), "\n") {
		if parts := strings.SplitN(line, ":", 3); len(parts) == 3 {
			for _, controller := range strings.Split(parts[1], ",") {
				paths[controller] = parts[2]
			}
		}
	}
	const root = "/sys/fs/cgroup"
	if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err == nil {
		path := filepath.Join(root, paths[""])
		return Cgroup{CPU: path, Memory: path, v2: true}, nil
	}
	return Cgroup{CPU: filepath.Join(root, "cpuacct", paths["cpuacct"]), Memory: filepath.Join(root, "memory", paths["memory"])}, nil
}

var errFound = errors.New("found")

func findFolder(root, id string) (string, error) {
	found := ""
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil // groups come and go while we walk
		}
		// With systemd as the driver a pod's UID has underscores.
		if name := strings.ReplaceAll(entry.Name(), "_", "-"); entry.IsDir() && strings.Contains(name, id) {
			found = path
			return errFound
		}
		return nil
	})
	if !errors.Is(err, errFound) {
		return "", fmt.Errorf("no group of %s under %s", id, root)
	}
	return found, nil
}

// CPUUsed is the CPU time of the group since it was made, and when it was read.
func (c Cgroup) CPUUsed() (time.Duration, time.Time, error) {
	if !c.v2 {
		raw, err := os.ReadFile(filepath.Join(c.CPU, "cpuacct.usage"))
		at := time.Now()
		if err != nil {
			return 0, at, err
		}
		nanos, err := strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64)
		return time.Duration(nanos), at, err
	}
	micros, err := field(filepath.Join(c.CPU, "cpu.stat"), "usage_usec")
	return time.Duration(micros) * time.Microsecond, time.Now(), err
}

// WorkingSet is the group's memory without the file pages that the kernel would
// give up first: what kubelet and catalogue call the working set.
func (c Cgroup) WorkingSet() (int64, error) {
	usage, stat, inactive := "memory.usage_in_bytes", "memory.stat", "total_inactive_file"
	if c.v2 {
		usage, inactive = "memory.current", "inactive_file"
	}
	raw, err := os.ReadFile(filepath.Join(c.Memory, usage))
	if err != nil {
		return 0, err
	}
	total, err := strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64)
	if err != nil {
		return 0, err
	}
	file, err := field(filepath.Join(c.Memory, stat), inactive)
	return max(0, total-file), err
}

// PIDs of the processes in the group itself.
func (c Cgroup) PIDs() ([]int, error) {
	raw, err := os.ReadFile(filepath.Join(c.CPU, "cgroup.procs"))
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, text := range strings.Fields(string(raw)) {
		pid, err := strconv.Atoi(text)
		if err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

func field(path, name string) (int64, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for _, line := range strings.Split(string(raw), "\n") {
		if key, value, _ := strings.Cut(line, " "); key == name {
			return strconv.ParseInt(value, 10, 64)
		}
	}
	return 0, fmt.Errorf("%s has no %s", path, name)
}
