package kube

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	resourcehelper "k8s.io/component-helpers/resource"

	"github.com/crowsnest-dev/crowsnest/internal/object"
)

// owner names the controller of an object.
type owner struct {
	apiVersion string
	kind       string
	name       string
	uid        types.UID
	namespace  string // of the owned object; the owner is in it too, or in none
}

// pod is what is kept of a pod before its workload is known.
type pod struct {
	object.Pod
	owner        owner  // zero when nobody controls it
	templateHash string // set by Deployments
}

func metaOf(m *metav1.ObjectMeta) object.Meta {
	return object.Meta{
		UID: string(m.UID), Namespace: m.Namespace, Name: m.Name, Labels: m.Labels, CreatedAt: m.CreationTimestamp.UTC(),
	}
}

func ownerOf(m *metav1.ObjectMeta) owner {
	ref := metav1.GetControllerOfNoCopy(m)
	// A static pod's mirror is owned by its node, which is no workload.
	if ref == nil || ref.Kind == "Node" {
		return owner{}
	}
	return owner{ref.APIVersion, ref.Kind, ref.Name, ref.UID, m.Namespace}
}

const (
	annotationConfigHash   = "kubernetes.io/config.hash"
	annotationConfigMirror = "kubernetes.io/config.mirror"
	labelTemplateHash      = "pod-template-hash"
)

func convertPod(p *corev1.Pod) *pod {
	out := &pod{
		Pod: object.Pod{
			Meta: metaOf(&p.ObjectMeta), Node: p.Spec.NodeName, Phase: string(p.Status.Phase),
			Terminating: p.DeletionTimestamp != nil, HostNetwork: p.Spec.HostNetwork, IP: p.Status.PodIP,
		},
		owner:        ownerOf(&p.ObjectMeta),
		templateHash: p.Labels[labelTemplateHash],
	}
	if _, static := p.Annotations[annotationConfigMirror]; static {
		out.Mirror = p.Annotations[annotationConfigHash]
		if p.Namespace == "kube-system" && p.Labels["component"] != "" && len(p.Spec.Containers) > 0 {
			out.Command = slices.Concat(p.Spec.Containers[0].Command, p.Spec.Containers[0].Args)
		}
	}
	for k, v := range p.Annotations {
		if strings.HasPrefix(k, object.AnnotationLogs) {
			if out.Annotations == nil {
				out.Annotations = map[string]string{}
			}
			out.Annotations[k] = v
		}
	}
	if out.Phase == "" {
		out.Phase = object.PhasePending
	}
	if p.Status.StartTime != nil {
		out.StartedAt = p.Status.StartTime.UTC()
	}
	statuses := map[string]*corev1.ContainerStatus{}
	for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses, p.Status.EphemeralContainerStatuses} {
		for i := range list {
			statuses[list[i].Name] = &list[i]
		}
	}
	for i := range p.Spec.InitContainers {
		c := &p.Spec.InitContainers[i]
		o := convertContainer(c, statuses[c.Name])
		o.Init = true
		o.Sidecar = c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
		out.Containers = append(out.Containers, o)
	}
	for i := range p.Spec.Containers {
		c := &p.Spec.Containers[i]
		out.Containers = append(out.Containers, convertContainer(c, statuses[c.Name]))
	}
	for i := range p.Spec.EphemeralContainers {
		c := corev1.Container(p.Spec.EphemeralContainers[i].EphemeralContainerCommon)
		o := convertContainer(&c, statuses[c.Name])
		o.Ephemeral = true
		out.Containers = append(out.Containers, o)
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionTrue {
			out.ScheduledAt = c.LastTransitionTime.UTC()
		}
	}
	out.Ready, out.Reason = readiness(p, out.Containers)
	podResources(out, p)
	return out
}

func convertContainer(c *corev1.Container, s *corev1.ContainerStatus) object.Container {
	o := object.Container{Name: c.Name, Image: c.Image, State: "waiting"}
	requests, limits := c.Resources.Requests, c.Resources.Limits
	if s != nil {
		_, o.ID, _ = strings.Cut(s.ContainerID, "://")
		o.Ready, o.RestartCount = s.Ready, int(s.RestartCount)
		switch {
		case s.State.Running != nil:
			o.State, o.StartedAt = "running", s.State.Running.StartedAt.UTC()
		case s.State.Terminated != nil:
			o.State, o.Reason, o.StartedAt = "terminated", s.State.Terminated.Reason, s.State.Terminated.StartedAt.UTC()
		case s.State.Waiting != nil:
			o.Reason = s.State.Waiting.Reason
		}
		if t := s.LastTerminationState.Terminated; t != nil {
			o.Last = &object.Termination{Reason: t.Reason, ExitCode: int(t.ExitCode), FinishedAt: t.FinishedAt.UTC()}
		}
		// What applies now, after a resize in place.
		if s.Resources != nil {
			if s.Resources.Requests != nil {
				requests = s.Resources.Requests
			}
			if s.Resources.Limits != nil {
				limits = s.Resources.Limits
			}
		}
	}
	o.Requests, o.Limits = resources(requests), resources(limits)
	return o
}

// podResources follows Kubernetes' own rules, as the scheduler and the kubelet
// apply them.
func podResources(out *pod, p *corev1.Pod) {
	opts := resourcehelper.PodResourcesOptions{UseStatusResources: true, InPlacePodLevelResourcesVerticalScalingEnabled: true}
	requests := resourcehelper.PodRequests(p, opts)
	out.Requests, out.GPUs = resources(requests), gpus(requests)
	if p.Spec.Resources != nil {
		out.OwnRequests = resources(p.Spec.Resources.Requests)
	}
	// Limits are for usage to be compared with: init containers that end do not
	// run beside the others, so theirs do not count.
	running := *p
	running.Spec.InitContainers = slices.DeleteFunc(slices.Clone(p.Spec.InitContainers), func(c corev1.Container) bool {
		return c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways
	})
	out.Limits = resources(resourcehelper.PodLimits(&running, opts))
	var own object.Resources
	if p.Spec.Resources != nil {
		own = resources(p.Spec.Resources.Limits)
	}
	for _, c := range out.Containers {
		if c.Counts() {
			out.Limits.HasCPU = out.Limits.HasCPU && (own.HasCPU || c.Limits.HasCPU)
			out.Limits.HasMemory = out.Limits.HasMemory && (own.HasMemory || c.Limits.HasMemory)
		}
	}
	if !out.Limits.HasCPU {
		out.Limits.CPUCores = 0
	}
	if !out.Limits.HasMemory {
		out.Limits.MemoryBytes = 0
	}
}

func resources(list corev1.ResourceList) object.Resources {
	var r object.Resources
	if q, ok := list[corev1.ResourceCPU]; ok {
		r.HasCPU, r.CPUCores = true, cores(q)
	}
	if q, ok := list[corev1.ResourceMemory]; ok {
		r.HasMemory, r.MemoryBytes = true, float64(q.Value())
	}
	return r
}

// gpuUnits are the resources that device plugins call graphics cards, and how
// much of each is a card.
var gpuUnits = map[corev1.ResourceName]float64{
	"nvidia.com/gpu": 1, "amd.com/gpu": 1, "gpu.intel.com/i915": 1, "gpu.intel.com/xe": 1, "aliyun.com/gpu": 1, "tencent.com/gpu": 1,
	"tencent.com/vcuda-core": 100, "tke.cloud.tencent.com/qgpu-core": 100, // per cent of a card
}

// gpus sums up the cards in a list; parts of a card are fractions. Slices of a
// card that MIG makes (nvidia.com/mig-…) have no common unit, and are left out.
func gpus(list corev1.ResourceList) float64 {
	cards := 0.0
	for name, unit := range gpuUnits {
		if q, ok := list[name]; ok {
			cards += q.AsApproximateFloat64() / unit
		}
	}
	return cards
}

// cores goes by thousandths, the finest that Kubernetes has.
func cores(q resource.Quantity) float64 { return float64(q.MilliValue()) / 1000 }

// reasonRank orders what can be wrong with a container: what will not mend
// itself first.
var reasonRank = map[string]int{
	"CrashLoopBackOff": 9, "ImagePullBackOff": 8, "ErrImagePull": 8, "ErrImageNeverPull": 8, "InvalidImageName": 8,
	"CreateContainerConfigError": 7, "CreateContainerError": 7, "RunContainerError": 7,
	"OOMKilled": 6, "Error": 5, "ContainerCannotRun": 5, "DeadlineExceeded": 5,
	"PodInitializing": 1, "ContainerCreating": 1, "Completed": 0,
}

// readiness gives whether the pod is ready, and the worst of what keeps it from it.
func readiness(p *corev1.Pod, containers []object.Container) (ready bool, reason string) {
	unschedulable := ""
	for _, c := range p.Status.Conditions {
		switch {
		case c.Type == corev1.PodReady:
			ready = c.Status == corev1.ConditionTrue
		case c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse:
			unschedulable = c.Reason // Unschedulable, SchedulingGated
		}
	}
	if p.Status.Reason != "" {
		return ready, p.Status.Reason // Evicted, NodeLost, Preempting …
	}
	if unschedulable != "" {
		return ready, unschedulable
	}
	best := 0
	for _, c := range containers {
		if c.State == "running" || c.Reason == "" || (c.Init && !c.Sidecar && c.Reason == "Completed") {
			continue
		}
		rank, known := reasonRank[c.Reason]
		if !known {
			rank = 4
		}
		if rank > best {
			best, reason = rank, c.Reason
		}
	}
	return ready, reason
}

func convertNode(n *corev1.Node) *object.Node {
	o := &object.Node{
		Meta: metaOf(&n.ObjectMeta), Unschedulable: n.Spec.Unschedulable,
		Capacity: resources(n.Status.Capacity), Allocatable: resources(n.Status.Allocatable),
		KubeletPort: n.Status.DaemonEndpoints.KubeletEndpoint.Port,
		Kubelet:     n.Status.NodeInfo.KubeletVersion, Runtime: n.Status.NodeInfo.ContainerRuntimeVersion, OS: n.Status.NodeInfo.OSImage,
		Virtual: isVirtual(n), GPUs: gpus(n.Status.Allocatable),
	}
	if q, ok := n.Status.Allocatable[corev1.ResourcePods]; ok {
		o.MaxPods = int(q.Value())
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			o.Ready = c.Status == corev1.ConditionTrue
		}
		// Heartbeats change every few minutes and mean nothing here.
		o.Conditions = append(o.Conditions, object.Condition{
			Type: string(c.Type), Status: string(c.Status), Reason: c.Reason, Since: c.LastTransitionTime.UTC(),
		})
	}
	for _, a := range n.Status.Addresses {
		if a.Type == corev1.NodeInternalIP && o.InternalIP == "" {
			o.InternalIP = a.Address
		}
	}
	for l, v := range n.Labels {
		if role, ok := strings.CutPrefix(l, "node-role.kubernetes.io/"); ok && role != "" {
			o.Roles = append(o.Roles, role)
		} else if l == "kubernetes.io/role" && v != "" {
			o.Roles = append(o.Roles, v)
		}
	}
	slices.Sort(o.Roles)
	o.Roles = slices.Compact(o.Roles)
	return o
}

// isVirtual tells a virtual kubelet's node by what such nodes say of themselves.
func isVirtual(n *corev1.Node) bool {
	if n.Labels["type"] == "virtual-kubelet" || n.Labels["node.kubernetes.io/instance-type"] == "eklet" {
		return true
	}
	return slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return strings.HasPrefix(t.Key, "virtual-kubelet.io/") })
}

func convertNamespace(n *corev1.Namespace) *object.Namespace {
	return &object.Namespace{Meta: metaOf(&n.ObjectMeta), Terminating: n.DeletionTimestamp != nil}
}

func convertService(s *corev1.Service) *object.Service {
	return &object.Service{Meta: metaOf(&s.ObjectMeta), Type: string(s.Spec.Type), ClusterIP: s.Spec.ClusterIP, Selector: s.Spec.Selector}
}

func images(spec *corev1.PodSpec) []string {
	var out []string
	for _, c := range spec.Containers {
		out = append(out, c.Image)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func timeOf(t *metav1.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}
