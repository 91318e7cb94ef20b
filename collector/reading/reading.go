// Package reading holds what sources yield: raw values of containers, pods and
// nodes, each with the time at which the source itself took it. It must not
// know where readings come from or what is computed of them.
package reading

import (
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
)

// Value is one raw value. A zero At means that the source does not have it.
type Value struct {
	V  float64
	At time.Time // when the source read it from the kernel, not when it was scraped
}

// OK says whether the source has the value.
func (v Value) OK() bool { return !v.At.IsZero() }

// Container is one reading of one running container, never the pause sandbox.
type Container struct {
	PodUID    string // may be empty where the source has only names
	Namespace string // may be empty where the source has only a cgroup path
	Pod       string
	Name      string    // of the container; may be empty where the source has only an ID
	ID        string    // without the runtime's prefix; a new instance has a new ID. May be empty
	StartedAt time.Time // of the instance; zero when unknown

	CPUSeconds      Value // counter
	CPUCores        Value // of sources that tell no counter: the mean over a window of their own
	WorkingSetBytes Value
	UsageBytes      Value // page cache included
	FSReadBytes     Value // counter, block devices
	FSWriteBytes    Value // counter, block devices
	FSReads         Value // counter of operations, block devices
	FSWrites        Value // counter of operations, block devices
	Periods         Value // counter of CPU periods in which it wanted to run; only with a limit
	Throttled       Value // counter of those in which it was held back
	OOMKills        Value // counter of processes that the kernel killed in this instance
	PIDs            Value
	LogLines        Value // counter over all instances
	LogBytes        Value // counter, the same
}

// Pod is one reading of what belongs to the pod as a whole.
type Pod struct {
	UID       string // may be empty where the source has only names
	Namespace string
	Name      string

	CPUSeconds    Value // counter of the pod's own cgroup, which survives restarts of its containers
	ReceiveBytes  Value // counter over all interfaces but lo
	TransmitBytes Value // counter over all interfaces but lo

	ReceivePackets  Value // counter over all interfaces but lo
	TransmitPackets Value // counter over all interfaces but lo
	NetworkErrors   Value // counter of errors and drops, both ways

	EphemeralBytes    Value // layers, logs and empty folders
	RootfsBytes       Value // the containers' own layers
	RootfsDeviceBytes Value // size of the file system that they lie on
	Volumes           []Volume
}

// Volume is one claim that a pod uses.
type Volume struct {
	Namespace, Claim       string
	UsedBytes              Value
	AvailableBytes         Value // to non-root
	UsedInodes, FreeInodes Value
}

// Node is one reading of a node itself.
type Node struct {
	// Busy and total CPU time as counters in seconds. A source that knows only
	// the busy time leaves the total out; compute then divides by capacity.
	CPUBusySeconds  Value
	CPUTotalSeconds Value
	MemUsedBytes    Value
	MemTotalBytes   Value // left out by sources that know only the used part
	ReceiveBytes    Value // counter over physical and default-route interfaces
	TransmitBytes   Value // counter
	TCPEstablished  Value
	Filesystems     []Filesystem

	Load1, Load5, Load15      Value
	FSReadBytes, FSWriteBytes Value // counters over whole disks
	FSReads, FSWrites         Value // counters over whole disks
	NetworkErrors             Value // counter, both ways, over the interfaces of ReceiveBytes
	NetworkDrops              Value // counter, the same
	OOMKills                  Value // counter
	Conntrack, ConntrackMax   Value
}

// Filesystem is one device of a node, under its shortest mount point.
type Filesystem struct {
	Mountpoint     string
	UsedBytes      Value
	AvailableBytes Value // to non-root
	UsedInodes     Value // left out where the file system makes inodes as it needs them
	FreeInodes     Value
}

// Histogram is a counter of durations by bucket.
type Histogram struct {
	At     time.Time
	Bounds []float64 // upper bounds in seconds, rising, the last is +Inf
	Counts []float64 // cumulative, as many as Bounds
}

// Component is one reading of one instance of a part of the control plane.
type Component struct {
	Name        string // apiserver, etcd, scheduler, controller_manager, coredns
	Instance    string // which one of several, for counters
	Ready       bool
	At          time.Time
	ProbeTook   time.Duration // zero when there was no answer to time
	CertExpires time.Time     // zero when there is no certificate

	Requests      map[string]Value     // counters by verb group
	Errors        map[string]Value     // counters of 5xx by verb group
	Latency       map[string]Histogram // by verb group
	DatabaseBytes Value
	LeaderChanges Value // counter
	Fsync         Histogram
	PendingPods   Value
	Scheduling    Histogram
}

// Probe is how often the kubelet probed a container with one result.
type Probe struct {
	PodUID    string // as the kubelet knows it
	Namespace string
	Pod       string
	Container string
	Probe     string // liveness, readiness or startup
	Result    string // successful, failed or unknown
	Count     Value  // counter
}

// Peer is what another node answered to one question.
type Peer struct {
	Node    string // that was asked
	Probe   string // what of it: node, kubelet, collector
	Reached bool
	At      time.Time
}

// Set is all that one source gave for one node in one attempt.
type Set struct {
	Node       string
	Source     catalogue.Source
	Containers []Container
	Pods       []Pod
	Host       *Node // nil when the source has none
	Components []Component
	Probes     []Probe
	Peers      []Peer // asked by Node
	// Lacking names catalogue metrics that this source cannot fill here, with
	// the reason in words for people.
	Lacking map[string]string
	Took    time.Duration
	Err     error // why the set is empty or partial
	// Partial: it is read for what other sources lack; whether it tells of every
	// container does not matter.
	Partial bool
}

// Counts says whether the set should tell of every running container.
func (s *Set) Counts() bool {
	return !s.Partial && len(s.Components) == 0 && (s.Containers != nil || s.Host == nil)
}

// Shift moves all times of a set, all by the same, so that rates stay exact.
func (s *Set) Shift(by time.Duration) {
	move := func(vs ...*Value) {
		for _, v := range vs {
			if v.OK() {
				v.At = v.At.Add(by)
			}
		}
	}
	for i := range s.Containers {
		c := &s.Containers[i]
		move(&c.CPUSeconds, &c.CPUCores, &c.WorkingSetBytes, &c.UsageBytes, &c.FSReadBytes, &c.FSWriteBytes, &c.FSReads, &c.FSWrites,
			&c.Periods, &c.Throttled, &c.OOMKills, &c.PIDs, &c.LogLines, &c.LogBytes)
	}
	for i := range s.Pods {
		p := &s.Pods[i]
		move(&p.CPUSeconds, &p.ReceiveBytes, &p.TransmitBytes, &p.ReceivePackets, &p.TransmitPackets, &p.NetworkErrors,
			&p.EphemeralBytes, &p.RootfsBytes, &p.RootfsDeviceBytes)
		for j := range p.Volumes {
			v := &p.Volumes[j]
			move(&v.UsedBytes, &v.AvailableBytes, &v.UsedInodes, &v.FreeInodes)
		}
	}
	for i := range s.Probes {
		move(&s.Probes[i].Count)
	}
	if h := s.Host; h != nil {
		move(&h.CPUBusySeconds, &h.CPUTotalSeconds, &h.MemUsedBytes, &h.MemTotalBytes, &h.ReceiveBytes, &h.TransmitBytes, &h.TCPEstablished,
			&h.Load1, &h.Load5, &h.Load15, &h.FSReadBytes, &h.FSWriteBytes, &h.FSReads, &h.FSWrites, &h.NetworkErrors, &h.NetworkDrops,
			&h.OOMKills, &h.Conntrack, &h.ConntrackMax)
		for i := range h.Filesystems {
			f := &h.Filesystems[i]
			move(&f.UsedBytes, &f.AvailableBytes, &f.UsedInodes, &f.FreeInodes)
		}
	}
}
