package kube

import (
	"slices"
	"strings"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/object"
)

// platformKinds are watched for metrics alone; they are no part of the inventory.
func platformKinds() []*watched {
	kind := func(of object.Kind, w Watched) *watched { return &watched{kind: of, Watched: w} }
	return []*watched{
		kind(object.KindNamespace, Watched{GroupVersion: corev1.SchemeGroupVersion, Resource: "resourcequotas",
			Example: &corev1.ResourceQuota{}, List: func() runtime.Object { return &corev1.ResourceQuotaList{} }}),
		kind(object.KindPod, Watched{GroupVersion: corev1.SchemeGroupVersion, Resource: "persistentvolumeclaims",
			Example: &corev1.PersistentVolumeClaim{}, List: func() runtime.Object { return &corev1.PersistentVolumeClaimList{} }}),
		kind(object.KindWorkload, Watched{GroupVersion: autoscalingv2.SchemeGroupVersion, Resource: "horizontalpodautoscalers",
			Example: &autoscalingv2.HorizontalPodAutoscaler{}, List: func() runtime.Object { return &autoscalingv2.HorizontalPodAutoscalerList{} }}),
		kind(object.KindService, Watched{GroupVersion: discoveryv1.SchemeGroupVersion, Resource: "endpointslices",
			Example: &discoveryv1.EndpointSlice{}, List: func() runtime.Object { return &discoveryv1.EndpointSliceList{} }}),
	}
}

// putPlatformLocked keeps what is measured of such an object; false when it is
// none of them.
func (s *Source) putPlatformLocked(o any) bool {
	switch o := o.(type) {
	case *corev1.ResourceQuota:
		s.current.Quotas[string(o.UID)] = convertQuota(o)
	case *corev1.PersistentVolumeClaim:
		s.current.Claims[string(o.UID)] = &state.Claim{Namespace: o.Namespace, Name: o.Name, Bound: o.Status.Phase == corev1.ClaimBound}
	case *autoscalingv2.HorizontalPodAutoscaler:
		s.current.Autoscalers[string(o.UID)] = convertAutoscaler(o)
	case *discoveryv1.EndpointSlice:
		was := s.current.Endpoints[string(o.UID)]
		e := convertEndpoints(o)
		if e != nil {
			s.current.Endpoints[string(o.UID)] = e
		} else {
			delete(s.current.Endpoints, string(o.UID))
		}
		s.namedLocked(was, e)
	default:
		return false
	}
	s.frozen = nil
	return true
}

func (s *Source) deletePlatformLocked(o any, uid types.UID) bool {
	switch o.(type) {
	case *corev1.ResourceQuota:
		delete(s.current.Quotas, string(uid))
	case *corev1.PersistentVolumeClaim:
		delete(s.current.Claims, string(uid))
	case *autoscalingv2.HorizontalPodAutoscaler:
		delete(s.current.Autoscalers, string(uid))
	case *discoveryv1.EndpointSlice:
		was := s.current.Endpoints[string(uid)]
		delete(s.current.Endpoints, string(uid))
		s.namedLocked(was)
	default:
		return false
	}
	s.frozen = nil
	return true
}

// heldPlatformLocked lists the UIDs that are kept of such a kind.
func (s *Source) heldPlatformLocked(example any) (uids []string) {
	add := func(uid string) { uids = append(uids, uid) }
	switch example.(type) {
	case *corev1.ResourceQuota:
		for uid := range s.current.Quotas {
			add(uid)
		}
	case *corev1.PersistentVolumeClaim:
		for uid := range s.current.Claims {
			add(uid)
		}
	case *autoscalingv2.HorizontalPodAutoscaler:
		for uid := range s.current.Autoscalers {
			add(uid)
		}
	case *discoveryv1.EndpointSlice:
		for uid := range s.current.Endpoints {
			add(uid)
		}
	}
	return uids
}

func convertQuota(q *corev1.ResourceQuota) *state.Quota {
	out := &state.Quota{Namespace: q.Namespace, Name: q.Name, UsedPercent: map[string]float64{}}
	first := func(names ...corev1.ResourceName) float64 {
		for _, name := range names {
			if hard, ok := q.Status.Hard[name]; ok {
				return hard.AsApproximateFloat64()
			}
		}
		return 0
	}
	// "cpu" and "memory" are what Kubernetes takes for requests, too.
	out.CPUCores = first(corev1.ResourceRequestsCPU, corev1.ResourceCPU, corev1.ResourceLimitsCPU)
	out.MemoryBytes = first(corev1.ResourceRequestsMemory, corev1.ResourceMemory, corev1.ResourceLimitsMemory)
	for name, hard := range q.Status.Hard {
		used := q.Status.Used[name]
		switch h, u := hard.AsApproximateFloat64(), used.AsApproximateFloat64(); {
		case h > 0:
			out.UsedPercent[string(name)] = 100 * u / h
		case u > 0:
			out.UsedPercent[string(name)] = 100 // nothing is allowed, and something is there
		default:
			out.UsedPercent[string(name)] = 0
		}
	}
	return out
}

// namedLocked publishes anew the Services without a selector that slices are of.
func (s *Source) namedLocked(parts ...*state.Endpoints) {
	for _, e := range parts {
		if e == nil {
			continue
		}
		if v := s.current.Services[s.unselective[[2]string{e.Namespace, e.Service}]]; v != nil {
			now := *v
			now.Pods = s.podsNamedLocked(v)
			publish(s, s.current.Services, v.UID, &now)
		}
	}
}

// podsNamedLocked are the pods that EndpointSlices name of a Service without a selector.
func (s *Source) podsNamedLocked(v *object.Service) (names []string) {
	for _, e := range s.current.Endpoints {
		if e.Namespace == v.Namespace && e.Service == v.Name {
			names = append(names, e.Pods...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func convertAutoscaler(a *autoscalingv2.HorizontalPodAutoscaler) *state.Autoscaler {
	return &state.Autoscaler{
		Namespace: a.Namespace, Name: a.Name,
		Target:  object.WorkloadRef{Type: strings.ToLower(a.Spec.ScaleTargetRef.Kind), Name: a.Spec.ScaleTargetRef.Name},
		Current: int(a.Status.CurrentReplicas), Desired: int(a.Status.DesiredReplicas), Max: int(a.Spec.MaxReplicas),
	}
}

// convertEndpoints counts a slice's addresses; nil where it is of no Service.
// Terminating ones are on their way out.
func convertEndpoints(e *discoveryv1.EndpointSlice) *state.Endpoints {
	service := e.Labels[discoveryv1.LabelServiceName]
	if service == "" {
		return nil
	}
	out := &state.Endpoints{Namespace: e.Namespace, Service: service}
	for _, ep := range e.Endpoints {
		if t := ep.TargetRef; t != nil && t.Kind == "Pod" && !value(ep.Conditions.Terminating, false) {
			out.Pods = append(out.Pods, t.Name)
		}
		switch {
		case value(ep.Conditions.Terminating, false):
		case value(ep.Conditions.Ready, true):
			out.Ready++
		default:
			out.NotReady++
		}
	}
	return out
}
