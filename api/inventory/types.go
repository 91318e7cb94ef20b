package inventory

import (
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/object"
)

// States of a cluster, the worst first.
const (
	StateCritical = "critical"
	StateWarning  = "warning"
	StateStale    = "stale"   // nothing came for three intervals
	StateWaiting  = "waiting" // its objects did not come yet
	StateOK       = "ok"
)

var worstFirst = []string{StateCritical, StateStale, StateWarning, StateWaiting, StateOK}

// Usage is an amount of CPU (cores) or memory (bytes).
type Usage struct {
	Used        *float64 `json:"used" doc:"By all pods, as last measured; null when unknown."`
	Requested   *float64 `json:"requested" doc:"By Pending and Running pods, overhead included; null when unknown."`
	Allocatable *float64 `json:"allocatable" doc:"Of all real nodes; null when there is none."`
}

// NodeCount counts real nodes.
type NodeCount struct {
	Total int `json:"total"`
	Ready int `json:"ready"`
}

// WorkloadCount counts workloads.
type WorkloadCount struct {
	Total    int `json:"total"`
	Abnormal int `json:"abnormal"`
}

// IncidentCount counts active incidents by severity.
type IncidentCount struct {
	Critical int `json:"critical"`
	Warning  int `json:"warning"`
	Info     int `json:"info"`
}

// Unavailable is a metric that the cluster does not have.
type Unavailable struct {
	Metric string `json:"metric"`
	Reason string `json:"reason"`
}

// Source is a source of readings of one collector.
type Source struct {
	Sender        string     `json:"sender" doc:"The collector." example:"node/n-12"`
	Name          string     `json:"name" example:"cadvisor/n-12"`
	Up            bool       `json:"up" doc:"The last attempt succeeded."`
	Error         string     `json:"error,omitempty" doc:"Why not, and what would help."`
	LastSuccessAt *time.Time `json:"last_success_at"`
	Expected      int        `json:"expected" doc:"Objects that should have been measured."`
	Measured      int        `json:"measured" doc:"Objects that were."`
}

// Cluster is a cluster in one view.
type Cluster struct {
	ID              string         `json:"id"`
	Name            string         `json:"name" doc:"For people."`
	Kind            string         `json:"kind" doc:"managed, independent, elastic or edge; empty when unknown."`
	KindReason      string         `json:"kind_reason" doc:"Why it is taken for that kind; empty when nobody says so now."`
	Version         string         `json:"version" doc:"Of Kubernetes; empty when unknown."`
	State           string         `json:"state" enum:"ok,warning,critical,stale,waiting"`
	Sentence        string         `json:"sentence" doc:"The state as a person would say it." example:"2 of 40 workloads are unhealthy; cart has been restarting for 12 min"`
	LastSeenAt      *time.Time     `json:"last_seen_at" doc:"When something came from it last; null when nothing ever did."`
	IntervalSeconds int            `json:"interval_seconds" doc:"Between two samples of a series."`
	Nodes           NodeCount      `json:"nodes"`
	Workloads       WorkloadCount  `json:"workloads"`
	Pods            map[string]int `json:"pods" doc:"By phase: pending, running, succeeded, failed, unknown."`
	CPU             Usage          `json:"cpu" doc:"In cores."`
	Memory          Usage          `json:"memory" doc:"In bytes."`
	Incidents       IncidentCount  `json:"incidents"`
	Unavailable     []Unavailable  `json:"unavailable" nullable:"false"`
	Sources         []Source       `json:"sources" nullable:"false" doc:"Those that are down or measure too little first; at most 200."`
}

// Resources are amounts of CPU and memory.
type Resources struct {
	CPUCores    float64 `json:"cpu_cores"`
	HasCPU      bool    `json:"has_cpu" doc:"False: CPU is not set."`
	MemoryBytes float64 `json:"memory_bytes"`
	HasMemory   bool    `json:"has_memory" doc:"False: memory is not set."`
}

func resourcesOf(r object.Resources) Resources { return Resources(r) }

// Condition is one of a node's conditions.
type Condition struct {
	Type   string    `json:"type"`
	Status string    `json:"status" enum:"True,False,Unknown"`
	Reason string    `json:"reason,omitempty"`
	Since  time.Time `json:"since"`
}

// Node is a Kubernetes node.
type Node struct {
	Name          string            `json:"name"`
	UID           string            `json:"uid"`
	Labels        map[string]string `json:"labels,omitempty"`
	CreatedAt     time.Time         `json:"created_at"`
	Ready         bool              `json:"ready"`
	Unschedulable bool              `json:"unschedulable,omitempty" doc:"Cordoned."`
	Virtual       bool              `json:"virtual,omitempty" doc:"A virtual kubelet's node: no metrics of its own, left out of sums."`
	Capacity      Resources         `json:"capacity"`
	Allocatable   Resources         `json:"allocatable"`
	Conditions    []Condition       `json:"conditions" nullable:"false"`
	InternalIP    string            `json:"internal_ip,omitempty"`
	Kubelet       string            `json:"kubelet_version,omitempty"`
	Runtime       string            `json:"container_runtime,omitempty"`
	OS            string            `json:"os_image,omitempty"`
	Roles         []string          `json:"roles" nullable:"false"`
	CPUPercent    *float64          `json:"cpu_percent" doc:"As last measured; null when unknown."`
	MemPercent    *float64          `json:"mem_percent" doc:"As last measured; null when unknown."`
	Pods          int               `json:"pods" doc:"That have not ended."`
	Restarts1h    *float64          `json:"restarts_1h" doc:"Container restarts in the last hour; null when unknown."`
	Reasons       []string          `json:"reasons" nullable:"false" doc:"What is wrong with it, the worst first."`
	Peers         *PeerVerdict      `json:"peers,omitempty" doc:"What follows of what other nodes say of it, where they do; GET /clusters/{cluster}/peers has their words."`
}

// PeerVerdict is what follows for a node of other nodes' answers.
type PeerVerdict struct {
	State    string `json:"state" doc:"As GET /clusters/{cluster}/peers has it." example:"reached"`
	Sentence string `json:"sentence" doc:"The state as a person would say it."`
	// Trouble is the state as a reason; empty where nothing is wrong.
	Trouble string `json:"-"`
}

// Namespace is a Kubernetes namespace with what is in it.
type Namespace struct {
	Name        string            `json:"name"`
	UID         string            `json:"uid"`
	Labels      map[string]string `json:"labels,omitempty"`
	CreatedAt   time.Time         `json:"created_at"`
	Terminating bool              `json:"terminating,omitempty"`
	Workloads   WorkloadCount     `json:"workloads"`
	Services    int               `json:"services"`
	Pods        map[string]int    `json:"pods" doc:"By phase: pending, running, succeeded, failed, unknown."`
	NotReady    int               `json:"not_ready" doc:"Pods that have not ended and are not ready."`
	Requests    Resources         `json:"requests" doc:"Of Pending and Running pods, overhead included."`
	CPUCores    *float64          `json:"cpu_cores" doc:"Used by its pods, as last measured; null when unknown."`
	MemBytes    *float64          `json:"mem_bytes" doc:"Working set of its pods, as last measured; null when unknown."`
	Restarts1h  *float64          `json:"restarts_1h" doc:"Container restarts in the last hour; null when unknown."`
}

// Service is a Kubernetes service.
type Service struct {
	Namespace string            `json:"namespace"`
	Name      string            `json:"name"`
	UID       string            `json:"uid"`
	Labels    map[string]string `json:"labels,omitempty"`
	CreatedAt time.Time         `json:"created_at"`
	Type      string            `json:"type" example:"ClusterIP"`
	ClusterIP string            `json:"cluster_ip,omitempty"`
	Selector  map[string]string `json:"selector,omitempty" doc:"Left out: it selects no pods by itself."`
	Pods      int               `json:"pods" doc:"That its selector selects and that have not ended."`
	PodsReady int               `json:"pods_ready" doc:"Of these, those that are ready."`
	Ready     *float64          `json:"endpoints_ready" doc:"Addresses behind it that are ready; null when unknown."`
	NotReady  *float64          `json:"endpoints_not_ready" doc:"Addresses behind it that are not ready; null when unknown."`
	Workloads []string          `json:"workloads" nullable:"false" doc:"Whose pods it selects, as deployment/cart; at most 20."`
}

// Workload is a top controller: a Deployment, not its ReplicaSet.
type Workload struct {
	Namespace  string            `json:"namespace"`
	Type       string            `json:"type" doc:"Lower case: deployment, statefulset, daemonset, job, cronjob, replicaset, pod, or a custom kind."`
	Name       string            `json:"name"`
	UID        string            `json:"uid"`
	Labels     map[string]string `json:"labels,omitempty"`
	Desired    int               `json:"desired"`
	Ready      int               `json:"ready"`
	Updated    int               `json:"updated"`
	Abnormal   int               `json:"abnormal" doc:"Replicas missing, as k8s_workload_abnormal has it."`
	Paused     bool              `json:"paused,omitempty" doc:"Suspended or scaled to zero on purpose."`
	Reason     string            `json:"reason,omitempty" doc:"Why it is abnormal, or that it is rolling out."`
	Images     []string          `json:"images" nullable:"false"`
	CreatedAt  time.Time         `json:"created_at"`
	CPUCores   *float64          `json:"cpu_cores" doc:"Used by its pods, as last measured; null when unknown."`
	MemBytes   *float64          `json:"mem_bytes" doc:"Working set of its pods, as last measured; null when unknown."`
	Restarts1h *float64          `json:"restarts_1h" doc:"Container restarts in the last hour; null when unknown."`
}

// Termination is how a container instance ended.
type Termination struct {
	Reason     string    `json:"reason"`
	ExitCode   int       `json:"exit_code"`
	FinishedAt time.Time `json:"finished_at"`
}

// Container is a container of a pod.
type Container struct {
	Name         string       `json:"name"`
	Image        string       `json:"image,omitempty"`
	Init         bool         `json:"init,omitempty" doc:"Runs before the others and ends."`
	Sidecar      bool         `json:"sidecar,omitempty" doc:"An init container that goes on running."`
	Ephemeral    bool         `json:"ephemeral,omitempty"`
	State        string       `json:"state" enum:"waiting,running,terminated"`
	Reason       string       `json:"reason,omitempty" doc:"Of waiting or terminated." example:"CrashLoopBackOff"`
	Ready        bool         `json:"ready"`
	RestartCount int          `json:"restart_count"`
	StartedAt    *time.Time   `json:"started_at,omitempty"`
	Last         *Termination `json:"last,omitempty" doc:"How the instance before this one ended."`
	Requests     Resources    `json:"requests"`
	Limits       Resources    `json:"limits"`
}

// Pod is a Kubernetes pod.
type Pod struct {
	Namespace       string            `json:"namespace"`
	Name            string            `json:"name"`
	UID             string            `json:"uid"`
	Labels          map[string]string `json:"labels,omitempty"`
	Node            string            `json:"node,omitempty" doc:"Left out while it is not scheduled."`
	WorkloadType    string            `json:"workload_type"`
	Workload        string            `json:"workload"`
	Phase           string            `json:"phase" enum:"Pending,Running,Succeeded,Failed,Unknown"`
	Ready           bool              `json:"ready"`
	Terminating     bool              `json:"terminating,omitempty"`
	Reason          string            `json:"reason,omitempty" doc:"Why it is not well: the worst container's, or the pod's own." example:"CrashLoopBackOff"`
	Restarts        int               `json:"restarts" doc:"Of all its containers, since it began."`
	CreatedAt       time.Time         `json:"created_at"`
	StartedAt       *time.Time        `json:"started_at,omitempty"`
	HostNetwork     bool              `json:"host_network"`
	IP              string            `json:"ip,omitempty"`
	Requests        Resources         `json:"requests"`
	Limits          Resources         `json:"limits"`
	CPUCores        *float64          `json:"cpu_cores" doc:"As last measured; null when unknown."`
	CPULimitPercent *float64          `json:"cpu_limit_percent" doc:"CPU used of its limit; null without a limit or when unknown."`
	MemBytes        *float64          `json:"mem_bytes" doc:"Working set, as last measured; null when unknown."`
	MemLimitPercent *float64          `json:"mem_limit_percent" doc:"Working set of its limit; null without a limit or when unknown."`
	Containers      []Container       `json:"containers" nullable:"false"`
}

func nodeOf(n *object.Node) Node {
	out := Node{
		Name: n.Name, UID: n.UID, Labels: n.Labels, CreatedAt: n.CreatedAt, Ready: n.Ready, Unschedulable: n.Unschedulable,
		Virtual: n.Virtual, Capacity: resourcesOf(n.Capacity), Allocatable: resourcesOf(n.Allocatable),
		Conditions: make([]Condition, len(n.Conditions)), InternalIP: n.InternalIP, Kubelet: n.Kubelet, Runtime: n.Runtime,
		OS: n.OS, Roles: append([]string{}, n.Roles...), Reasons: nodeReasons(n),
	}
	for i, c := range n.Conditions {
		out.Conditions[i] = Condition(c)
	}
	return out
}

// nodeReasons says what is wrong with a node, the worst first.
func nodeReasons(n *object.Node) []string {
	out := []string{}
	for _, c := range n.Conditions {
		if c.Type == "Ready" && c.Status != "True" {
			if c.Reason != "" && c.Reason != "NodeNotReady" {
				out = append(out, "NotReady: "+c.Reason)
			} else {
				out = append(out, "NotReady")
			}
		}
	}
	if len(out) == 0 && !n.Ready {
		out = append(out, "NotReady")
	}
	for _, c := range n.Conditions {
		if c.Type != "Ready" && c.Status == "True" {
			out = append(out, c.Type) // MemoryPressure, DiskPressure, PIDPressure, NetworkUnavailable
		}
	}
	if n.Unschedulable {
		out = append(out, "Cordoned")
	}
	return out
}

func workloadOf(w *object.Workload) Workload {
	return Workload{
		Namespace: w.Namespace, Type: w.Ref.Type, Name: w.Ref.Name, UID: w.UID, Labels: w.Labels, Desired: w.Desired, Ready: w.Ready,
		Updated: w.Updated, Abnormal: w.Abnormal, Paused: w.Paused, Reason: w.Reason, Images: append([]string{}, w.Images...), CreatedAt: w.CreatedAt,
	}
}

func podOf(p *object.Pod) Pod {
	out := Pod{
		Namespace: p.Namespace, Name: p.Name, UID: p.UID, Labels: p.Labels, Node: p.Node, WorkloadType: p.Workload.Type, Workload: p.Workload.Name,
		Phase: p.Phase, Ready: p.Ready, Terminating: p.Terminating, Reason: podReason(p), Restarts: p.Restarts(), CreatedAt: p.CreatedAt,
		StartedAt: timeOrNil(p.StartedAt), HostNetwork: p.HostNetwork, IP: p.IP, Requests: resourcesOf(p.Requests), Limits: resourcesOf(p.Limits),
		Containers: make([]Container, len(p.Containers)),
	}
	for i, c := range p.Containers {
		out.Containers[i] = Container{
			Name: c.Name, Image: c.Image, Init: c.Init, Sidecar: c.Sidecar, Ephemeral: c.Ephemeral, State: c.State, Reason: c.Reason, Ready: c.Ready,
			RestartCount: c.RestartCount, StartedAt: timeOrNil(c.StartedAt), Requests: resourcesOf(c.Requests), Limits: resourcesOf(c.Limits),
		}
		if c.Last != nil {
			last := Termination(*c.Last)
			out.Containers[i].Last = &last
		}
	}
	return out
}

// podReason is the pod's reason, or the worst of its containers' when the
// collector gave none.
func podReason(p *object.Pod) string {
	if p.Reason != "" {
		return p.Reason
	}
	worst := ""
	for _, c := range p.Containers {
		if c.State == "running" || c.Reason == "" || c.Reason == "Completed" {
			continue
		}
		if worst == "" || rankOf(c.Reason) > rankOf(worst) {
			worst = c.Reason
		}
	}
	return worst
}

// rankOf orders reasons of pods and containers, the worst highest.
func rankOf(reason string) int {
	switch reason {
	case "":
		return 0
	case "Completed", "Succeeded":
		return 1
	case "ContainerCreating", "PodInitializing":
		return 2
	case "CrashLoopBackOff", "OOMKilled":
		return 6
	case "ImagePullBackOff", "ErrImagePull", "InvalidImageName", "CreateContainerConfigError", "CreateContainerError", "RunContainerError":
		return 5
	case "Unschedulable", "Evicted", "Error":
		return 4
	}
	return 3
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
