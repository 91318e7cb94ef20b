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
	WorkingSetBytes Value
	FSReadBytes     Value // counter, block devices
	FSWriteBytes    Value // counter, block devices
}

// Pod is one reading of what belongs to the pod as a whole.
type Pod struct {
	UID       string // may be empty where the source has only names
	Namespace string
	Name      string

	CPUSeconds    Value // counter of the pod's own cgroup, which survives restarts of its containers
	ReceiveBytes  Value // counter over all interfaces but lo
	TransmitBytes Value // counter over all interfaces but lo
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
}

// Filesystem is one device of a node, under its shortest mount point.
type Filesystem struct {
	Mountpoint     string
	UsedBytes      Value
	AvailableBytes Value // to non-root
}

// Set is all that one source gave for one node in one attempt.
type Set struct {
	Node       string
	Source     catalogue.Source
	Containers []Container
	Pods       []Pod
	Host       *Node // nil when the source has none
	// Lacking names catalogue metrics that this source cannot fill here, with
	// the reason in words for people.
	Lacking map[string]string
	Took    time.Duration
	Err     error // why the set is empty or partial
}
