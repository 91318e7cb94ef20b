package kubelet

import (
	"encoding/json"
	"fmt"
	"regexp"
	"time"

	"github.com/crowsnest-dev/crowsnest/collector/reading"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// summary is what is needed of the kubelet's /stats/summary. The full type of
// k8s.io/kubelet decodes ten times as much.
type summary struct {
	Node struct {
		CPU     cpuStats     `json:"cpu"`
		Memory  memoryStats  `json:"memory"`
		Network networkStats `json:"network"`
		FS      *fsStats     `json:"fs"`
		Runtime struct {
			ImageFS     *fsStats `json:"imageFs"`
			ContainerFS *fsStats `json:"containerFs"`
		} `json:"runtime"`
	} `json:"node"`
	Pods each[podStats] `json:"pods"`
}

type podStats struct {
	PodRef struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
		UID       string `json:"uid"`
	} `json:"podRef"`
	Containers few[containerStats] `json:"containers"`
	CPU        cpuStats            `json:"cpu"`
	Network    networkStats        `json:"network"`
	Ephemeral  *fsStats            `json:"ephemeral-storage"`
	Volumes    few[volumeStats]    `json:"volume"`
}

type containerStats struct {
	Name      string      `json:"name"`
	StartTime time.Time   `json:"startTime"`
	CPU       cpuStats    `json:"cpu"`
	Memory    memoryStats `json:"memory"`
	Rootfs    *fsStats    `json:"rootfs"`
}

type volumeStats struct {
	fsStats
	PVC *struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
	} `json:"pvcRef"`
}

type cpuStats struct {
	Time                 time.Time `json:"time"`
	UsageCoreNanoSeconds *uint64   `json:"usageCoreNanoSeconds"`
}

type memoryStats struct {
	Time            time.Time `json:"time"`
	WorkingSetBytes *uint64   `json:"workingSetBytes"`
	UsageBytes      *uint64   `json:"usageBytes"`
}

type networkStats struct {
	Time       time.Time           `json:"time"`
	Interfaces few[interfaceStats] `json:"interfaces"`
}

type interfaceStats struct {
	Name    string  `json:"name"`
	RxBytes *uint64 `json:"rxBytes"`
	TxBytes *uint64 `json:"txBytes"`
	RxErrs  *uint64 `json:"rxErrors"`
	TxErrs  *uint64 `json:"txErrors"`
}

type fsStats struct {
	Time           time.Time `json:"time"`
	AvailableBytes *uint64   `json:"availableBytes"`
	CapacityBytes  *uint64   `json:"capacityBytes"`
	UsedBytes      *uint64   `json:"usedBytes"`
	InodesFree     *uint64   `json:"inodesFree"`
	InodesUsed     *uint64   `json:"inodesUsed"`
}

// at makes a value of a figure of the file system.
func (f *fsStats) at(v *uint64) reading.Value {
	if f == nil || v == nil || f.Time.IsZero() {
		return reading.Value{}
	}
	return reading.Value{V: float64(*v), At: f.Time}
}

func (c cpuStats) value() reading.Value {
	if c.UsageCoreNanoSeconds == nil || c.Time.IsZero() {
		return reading.Value{}
	}
	return reading.Value{V: float64(*c.UsageCoreNanoSeconds) / 1e9, At: c.Time}
}

func (m memoryStats) value() reading.Value {
	if m.WorkingSetBytes == nil || m.Time.IsZero() {
		return reading.Value{}
	}
	return reading.Value{V: float64(*m.WorkingSetBytes), At: m.Time}
}

func (m memoryStats) usage() reading.Value {
	if m.UsageBytes == nil || m.Time.IsZero() {
		return reading.Value{}
	}
	return reading.Value{V: float64(*m.UsageBytes), At: m.Time}
}

func (n networkStats) values(nics *regexp.Regexp) (in, out, errors reading.Value) {
	if n.Interfaces.over > 0 {
		return in, out, errors // a sum over some is none
	}
	for _, i := range n.Interfaces.all {
		if i.Name == "lo" || i.RxBytes == nil || i.TxBytes == nil || n.Time.IsZero() || (nics != nil && !nics.MatchString(i.Name)) {
			continue
		}
		add(&in, reading.Value{V: float64(*i.RxBytes), At: n.Time})
		add(&out, reading.Value{V: float64(*i.TxBytes), At: n.Time})
		if i.RxErrs != nil && i.TxErrs != nil {
			add(&errors, reading.Value{V: float64(*i.RxErrs) + float64(*i.TxErrs), At: n.Time})
		}
	}
	return in, out, errors
}

// summarySet reads the body of /stats/summary. The file systems are named as the
// kubelet names them, since it does not tell where they are mounted: nodefs
// holds its own folder, imagefs the images, if they are not the same.
func summarySet(node string, body []byte, nics *regexp.Regexp, fits room) (reading.Set, error) {
	set := reading.Set{Node: node, Source: catalogue.StatsSummary}
	var s summary
	kept := 0 // of pods, containers and volumes
	s.Pods.take = func(p *podStats) {
		if !fits.takes(kept, p.PodRef.UID, p.PodRef.Namespace, p.PodRef.Name) {
			return
		}
		fits.refused[refusedMany] += p.Containers.over + p.Volumes.over + p.Network.Interfaces.over
		kept += 1 + len(p.Containers.all) + len(p.Volumes.all)
		p.addTo(&set)
	}
	if err := json.Unmarshal(body, &s); err != nil {
		return reading.Set{Node: node, Source: catalogue.StatsSummary}, fmt.Errorf("read /stats/summary: %w: %v", fault.ErrMalformed, err)
	}
	fits.refused[refusedMany] += s.Node.Network.Interfaces.over
	set.Host = &reading.Node{CPUBusySeconds: s.Node.CPU.value(), MemUsedBytes: s.Node.Memory.value()}
	set.Host.ReceiveBytes, set.Host.TransmitBytes, set.Host.NetworkErrors = s.Node.Network.values(nics)
	addFS := func(name string, f *fsStats) {
		if f == nil || f.AvailableBytes == nil || f.UsedBytes == nil || f.CapacityBytes == nil || f.Time.IsZero() {
			return
		}
		used, available := float64(*f.UsedBytes), float64(*f.AvailableBytes)
		if name != "nodefs" {
			// The kubelet tells of imagefs what the images take, not what is used.
			used = max(0, float64(*f.CapacityBytes)-available)
		}
		for _, have := range set.Host.Filesystems {
			if have.AvailableBytes.V == available { // to the byte: the same device
				return
			}
		}
		set.Host.Filesystems = append(set.Host.Filesystems, reading.Filesystem{
			Mountpoint: name, UsedBytes: reading.Value{V: used, At: f.Time}, AvailableBytes: reading.Value{V: available, At: f.Time},
			UsedInodes: f.at(f.InodesUsed), FreeInodes: f.at(f.InodesFree),
		})
	}
	addFS("nodefs", s.Node.FS)
	if image := s.Node.Runtime.ImageFS; image != nil && (s.Node.FS == nil || !sameDevice(image, s.Node.FS)) {
		addFS("imagefs", image)
	}
	return set, nil
}

// addTo adds what is needed of a pod to a set.
func (p *podStats) addTo(set *reading.Set) {
	pod := reading.Pod{UID: p.PodRef.UID, Namespace: p.PodRef.Namespace, Name: p.PodRef.Name, CPUSeconds: p.CPU.value()}
	pod.ReceiveBytes, pod.TransmitBytes, pod.NetworkErrors = p.Network.values(nil)
	if p.Ephemeral != nil {
		pod.EphemeralBytes = p.Ephemeral.at(p.Ephemeral.UsedBytes)
	}
	for _, c := range p.Containers.all {
		set.Containers = append(set.Containers, reading.Container{
			PodUID: p.PodRef.UID, Namespace: p.PodRef.Namespace, Pod: p.PodRef.Name, Name: c.Name, StartedAt: c.StartTime,
			CPUSeconds: c.CPU.value(), WorkingSetBytes: c.Memory.value(), UsageBytes: c.Memory.usage(),
		})
		if c.Rootfs != nil {
			if used := c.Rootfs.at(c.Rootfs.UsedBytes); used.OK() && p.Containers.over == 0 {
				add(&pod.RootfsBytes, used)
			}
			pod.RootfsDeviceBytes = c.Rootfs.at(c.Rootfs.CapacityBytes)
		}
	}
	for i := range p.Volumes.all {
		if v := &p.Volumes.all[i]; v.PVC != nil {
			pod.Volumes = append(pod.Volumes, reading.Volume{
				Namespace: v.PVC.Namespace, Claim: v.PVC.Name, UsedBytes: v.at(v.UsedBytes), AvailableBytes: v.at(v.AvailableBytes),
				UsedInodes: v.at(v.InodesUsed), FreeInodes: v.at(v.InodesFree),
			})
		}
	}
	set.Pods = append(set.Pods, pod)
}

// sameDevice compares capacities: two readings of one device may be seconds
// apart, so that what is free differs.
func sameDevice(a, b *fsStats) bool {
	return a.CapacityBytes != nil && b.CapacityBytes != nil && *a.CapacityBytes == *b.CapacityBytes
}
