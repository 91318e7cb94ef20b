// Package object holds Kubernetes objects in the fields that matter to us: what
// collectors keep as state, what the inventory carries over the wire and what
// the server lists and selects by. It must not know the Kubernetes client, the
// wire's encoding or how anything is measured.
package object

import (
	"slices"
	"strings"
	"time"
)

// Kind is the sort of an object. The values are the words used in the API.
type Kind string

const (
	KindNamespace Kind = "namespace"
	KindNode      Kind = "node"
	KindWorkload  Kind = "workload"
	KindService   Kind = "service"
	KindPod       Kind = "pod"
)

// Kinds lists every kind in the order in which a snapshot sends them, so that a
// pod's node and workload are there before the pod.
var Kinds = []Kind{KindNamespace, KindNode, KindWorkload, KindService, KindPod}

// Meta is what all objects have.
type Meta struct {
	UID       string            `json:"uid"`
	Namespace string            `json:"namespace,omitempty"` // empty for nodes and namespaces
	Name      string            `json:"name"`
	Labels    map[string]string `json:"labels,omitempty"`
	CreatedAt time.Time         `json:"created_at"`
}

// Object is one of *Namespace, *Node, *Workload, *Service, *Pod. Objects are
// immutable once handed out: a change is a new value.
type Object interface {
	Kind() Kind
	GetMeta() Meta
}

func (m Meta) GetMeta() Meta { return m }

// WorkloadRef names the top controller of a pod: a Deployment, not its
// ReplicaSet; a CronJob, not its Job. A pod that nobody controls is its own
// workload, with Type "pod".
type WorkloadRef struct {
	Type string `json:"type"` // lower case: deployment, statefulset, daemonset, job, cronjob, replicaset, pod, or a custom kind
	Name string `json:"name"`
}

func (r WorkloadRef) String() string { return r.Type + "/" + r.Name }

// ParseWorkloadRef reads "deployment/cart".
func ParseWorkloadRef(s string) (WorkloadRef, bool) {
	typ, name, ok := strings.Cut(s, "/")
	return WorkloadRef{Type: typ, Name: name}, ok && typ != "" && name != ""
}

// Namespace is a Kubernetes namespace.
type Namespace struct {
	Meta
	Terminating bool `json:"terminating,omitempty"`
}

func (*Namespace) Kind() Kind { return KindNamespace }

// Resources are amounts of CPU and memory. Has… tells "not set" from zero.
type Resources struct {
	CPUCores    float64 `json:"cpu_cores"`
	HasCPU      bool    `json:"has_cpu"`
	MemoryBytes float64 `json:"memory_bytes"`
	HasMemory   bool    `json:"has_memory"`
}

// Condition is one of a node's conditions.
type Condition struct {
	Type   string    `json:"type"`
	Status string    `json:"status"` // True | False | Unknown
	Reason string    `json:"reason,omitempty"`
	Since  time.Time `json:"since"`
}

// Node is a Kubernetes node.
type Node struct {
	Meta
	Ready         bool        `json:"ready"`
	Unschedulable bool        `json:"unschedulable,omitempty"`
	Virtual       bool        `json:"virtual,omitempty"` // a virtual kubelet's node: no metrics of its own, left out of sums
	Capacity      Resources   `json:"capacity"`
	Allocatable   Resources   `json:"allocatable"`
	MaxPods       int         `json:"max_pods,omitempty"` // allocatable ones
	GPUs          float64     `json:"gpus,omitempty"`     // allocatable cards
	Conditions    []Condition `json:"conditions,omitempty"`
	InternalIP    string      `json:"internal_ip,omitempty"`
	KubeletPort   int32       `json:"kubelet_port,omitempty"`
	Kubelet       string      `json:"kubelet_version,omitempty"`
	Runtime       string      `json:"container_runtime,omitempty"`
	OS            string      `json:"os_image,omitempty"`
	Roles         []string    `json:"roles,omitempty"`
}

func (*Node) Kind() Kind { return KindNode }

// Workload is a top controller with its replica counts. Meta.Name and
// Ref.Name are the same.
type Workload struct {
	Meta
	Ref      WorkloadRef `json:"ref"`
	Desired  int         `json:"desired"`
	Ready    int         `json:"ready"`
	Updated  int         `json:"updated"`
	Abnormal int         `json:"abnormal"`         // the value of k8s_workload_abnormal
	Reason   string      `json:"reason,omitempty"` // why it is abnormal, or that it is rolling out
	Images   []string    `json:"images,omitempty"`
	Revision string      `json:"revision,omitempty"` // of the pod template: changes with each rollout
	Paused   bool        `json:"paused,omitempty"`   // suspended or scaled to zero on purpose
	Rolls    bool        `json:"rolls,omitempty"`    // its changes are rolled out over its pods
	Stuck    bool        `json:"stuck,omitempty"`    // a rollout that has made no progress for its deadline
	Job      *JobState   `json:"job,omitempty"`      // of a Job, and of a CronJob's newest Job
}

// JobState tells how a Job went, or the newest one of a CronJob.
type JobState struct {
	Failed     bool      `json:"failed,omitempty"`
	StartedAt  time.Time `json:"started_at,omitzero"` // zero when none has started
	FinishedAt time.Time `json:"finished_at,omitzero"`
	Missed     bool      `json:"missed,omitempty"` // a CronJob that is overdue
}

func (*Workload) Kind() Kind { return KindWorkload }

// Service is a Kubernetes service.
type Service struct {
	Meta
	Type      string            `json:"type"`
	ClusterIP string            `json:"cluster_ip,omitempty"`
	Selector  map[string]string `json:"selector,omitempty"`
	// Pods are the names of those that EndpointSlices name, in order; only where there is
	// no selector, which else says the same.
	Pods []string `json:"pods,omitempty"`
}

func (*Service) Kind() Kind { return KindService }

// Selects tells whether a pod is one of the service's: by its selector or, without
// any, because somebody named it among the service's addresses.
func (s *Service) Selects(p *Pod) bool {
	if p.Namespace != s.Namespace {
		return false
	}
	if len(s.Selector) == 0 {
		_, named := slices.BinarySearch(s.Pods, p.Name)
		return named
	}
	for k, v := range s.Selector {
		if got, ok := p.Labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// Phases of a pod, in the order in which they are listed.
const (
	PhasePending   = "Pending"
	PhaseRunning   = "Running"
	PhaseSucceeded = "Succeeded"
	PhaseFailed    = "Failed"
	PhaseUnknown   = "Unknown"
)

// Phases are all phases of a pod; k8s_cluster_pod_num has a series for each.
var Phases = []string{PhasePending, PhaseRunning, PhaseSucceeded, PhaseFailed, PhaseUnknown}

// Container is one container of a pod, never the pause sandbox.
type Container struct {
	Name         string       `json:"name"`
	ID           string       `json:"id,omitempty"` // of the running or last instance, without the runtime's prefix
	Image        string       `json:"image,omitempty"`
	Init         bool         `json:"init,omitempty"`    // runs before the others and ends
	Sidecar      bool         `json:"sidecar,omitempty"` // an init container that goes on running
	Ephemeral    bool         `json:"ephemeral,omitempty"`
	State        string       `json:"state"`            // waiting | running | terminated
	Reason       string       `json:"reason,omitempty"` // of waiting or terminated: CrashLoopBackOff, OOMKilled …
	Ready        bool         `json:"ready"`
	RestartCount int          `json:"restart_count"`
	StartedAt    time.Time    `json:"started_at,omitzero"`
	Last         *Termination `json:"last,omitempty"` // how the instance before this one ended
	Requests     Resources    `json:"requests"`
	Limits       Resources    `json:"limits"`
}

// Counts says whether the container belongs to the pod's sum of requests and
// limits: a plain init container that has ended does not.
func (c Container) Counts() bool {
	return !c.Ephemeral && (!c.Init || c.Sidecar)
}

// Termination is how a container instance ended.
type Termination struct {
	Reason     string    `json:"reason"`
	ExitCode   int       `json:"exit_code"`
	FinishedAt time.Time `json:"finished_at"`
}

// Pod is a Kubernetes pod. A pod that is not scheduled has no Node.
type Pod struct {
	Meta
	Node        string      `json:"node,omitempty"`
	Workload    WorkloadRef `json:"workload"`
	Phase       string      `json:"phase"`
	Reason      string      `json:"reason,omitempty"` // the worst container's, or the pod's own (Evicted, Unschedulable)
	Ready       bool        `json:"ready"`
	Terminating bool        `json:"terminating,omitempty"`
	HostNetwork bool        `json:"host_network,omitempty"`
	// Command is what a static pod of the control plane runs: where it listens is
	// in it. It stays in the collector.
	Command []string `json:"-"`
	Mirror  string   `json:"mirror,omitempty"` // of a static pod: the UID under which the kubelet knows it
	IP      string   `json:"ip,omitempty"`
	// Annotations are those whose names begin with AnnotationLogs. They stay with
	// the collector.
	Annotations map[string]string `json:"-"`
	StartedAt   time.Time         `json:"started_at,omitzero"`
	ScheduledAt time.Time         `json:"scheduled_at,omitzero"`
	GPUs        float64           `json:"gpus,omitempty"` // cards asked for
	Containers  []Container       `json:"containers"`
	// Requests are those that the scheduler counts (overhead and init
	// containers included). Has… is true when the pod has any.
	Requests Resources `json:"requests"`
	// OwnRequests are those that are set for the pod as a whole (pod-level
	// resources); with them its containers need none.
	OwnRequests Resources `json:"own_requests,omitzero"`
	// Limits are the pod's: pod-level where set, else the sum over the
	// containers that count. Has… is false when one of them has none.
	Limits Resources `json:"limits"`
}

// Annotations of pods by which their logs are collected.
const (
	AnnotationLogs           = "logs.crowsnest.dev/"
	AnnotationCollect        = AnnotationLogs + "collect" // "false" leaves the pod out
	AnnotationLinesPerSecond = AnnotationLogs + "lines-per-second"
	AnnotationBytesPerSecond = AnnotationLogs + "bytes-per-second"
	AnnotationMultiline      = AnnotationLogs + "multiline-start" // a regular expression for a record's first line, or "off"
)

func (*Pod) Kind() Kind { return KindPod }

// Ended says that the pod will never run again: metrics of usage and readiness
// do not exist for it.
func (p *Pod) Ended() bool { return p.Phase == PhaseSucceeded || p.Phase == PhaseFailed }

// Restarts is the sum of the restart counts of all containers, init containers
// included.
func (p *Pod) Restarts() int {
	n := 0
	for _, c := range p.Containers {
		n += c.RestartCount
	}
	return n
}

// Key identifies an object within a cluster for people: names, not UIDs.
type Key struct {
	Kind      Kind   `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"` // of a workload: type/name
}

// KeyOf gives the key of an object.
func KeyOf(o Object) Key {
	m := o.GetMeta()
	k := Key{Kind: o.Kind(), Namespace: m.Namespace, Name: m.Name}
	if w, ok := o.(*Workload); ok {
		k.Name = w.Ref.String()
	}
	return k
}

func (k Key) String() string {
	if k.Namespace == "" {
		return string(k.Kind) + " " + k.Name
	}
	return string(k.Kind) + " " + k.Namespace + "/" + k.Name
}
