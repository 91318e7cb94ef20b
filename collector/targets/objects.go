package targets

import (
	"reflect"
	"strconv"
	"sync"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/util/strutil"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/crowsnest-dev/crowsnest/collector/kube"
)

// pod, service and slice are what targets need of objects. Maps and strings are
// those of the objects themselves.
type pod struct {
	uid                   types.UID
	namespace, name       string
	ip, hostIP, node      string
	phase                 corev1.PodPhase
	ready                 corev1.ConditionStatus
	labels, annotations   map[string]string
	controller, ownerName string
	ports                 []port
}

type port struct {
	container, image string
	name             string
	number           int32
	protocol         string
	init             bool
}

type service struct {
	namespace, name     string
	labels, annotations map[string]string
	ports               map[string]string // name → target port by name, "" where it is a number
}

type slice struct {
	namespace, service string
	ports              []discoveryv1.EndpointPort
	endpoints          []discoveryv1.Endpoint
}

// Objects keeps the pods, Services and EndpointSlices that targets are made of.
// It is an Observer of the collector's own watches.
type Objects struct {
	mu         sync.Mutex
	generation int // rises with every change that matters
	pods       map[types.UID]*pod
	podByName  map[string]*pod // namespace/name
	services   map[types.UID]*service
	slices     map[types.UID]*slice
}

var _ kube.Observer = (*Objects)(nil)

// NewObjects makes an empty one.
func NewObjects() *Objects {
	return &Objects{
		pods: map[types.UID]*pod{}, podByName: map[string]*pod{}, services: map[types.UID]*service{}, slices: map[types.UID]*slice{},
	}
}

// Put implements kube.Observer.
func (s *Objects) Put(o any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.putLocked(o)
}

func (s *Objects) putLocked(o any) {
	switch o := o.(type) {
	case *corev1.Pod:
		p := convertPod(o)
		if old := s.pods[o.UID]; old != nil && same(old, p) {
			return // most changes of a pod do not matter here
		}
		s.pods[o.UID], s.podByName[o.Namespace+"/"+o.Name] = p, p
	case *corev1.Service:
		v := &service{namespace: o.Namespace, name: o.Name, labels: o.Labels, annotations: plain(o.Annotations), ports: map[string]string{}}
		for _, p := range o.Spec.Ports {
			v.ports[p.Name] = p.TargetPort.StrVal
		}
		s.services[o.UID] = v
	case *discoveryv1.EndpointSlice:
		name := o.Labels[discoveryv1.LabelServiceName]
		if name == "" || o.AddressType == discoveryv1.AddressTypeFQDN {
			delete(s.slices, o.UID)
			return
		}
		s.slices[o.UID] = &slice{namespace: o.Namespace, service: name, ports: o.Ports, endpoints: o.Endpoints}
	default:
		return
	}
	s.generation++
}

// Delete implements kube.Observer.
func (s *Objects) Delete(o any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch o := o.(type) {
	case *corev1.Pod:
		s.dropPodLocked(o.UID)
	case *corev1.Service:
		delete(s.services, o.UID)
	case *discoveryv1.EndpointSlice:
		delete(s.slices, o.UID)
	default:
		return
	}
	s.generation++
}

func (s *Objects) dropPodLocked(uid types.UID) {
	p := s.pods[uid]
	if p == nil {
		return
	}
	delete(s.pods, uid)
	if key := p.namespace + "/" + p.name; s.podByName[key] == p { // a StatefulSet's next pod may have the name already
		delete(s.podByName, key)
	}
}

// Replace implements kube.Observer.
func (s *Objects) Replace(example any, list []any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := map[types.UID]bool{}
	for _, o := range list {
		if m, ok := o.(metav1.Object); ok {
			seen[m.GetUID()] = true
		}
	}
	switch example.(type) {
	case *corev1.Pod:
		for uid := range s.pods {
			if !seen[uid] {
				s.dropPodLocked(uid)
			}
		}
	case *corev1.Service:
		for uid := range s.services {
			if !seen[uid] {
				delete(s.services, uid)
			}
		}
	case *discoveryv1.EndpointSlice:
		for uid := range s.slices {
			if !seen[uid] {
				delete(s.slices, uid)
			}
		}
	default:
		return
	}
	for _, o := range list {
		s.putLocked(o)
	}
	s.generation++
}

func convertPod(o *corev1.Pod) *pod {
	p := &pod{
		uid: o.UID, namespace: o.Namespace, name: o.Name, ip: o.Status.PodIP, hostIP: o.Status.HostIP, node: o.Spec.NodeName,
		phase: o.Status.Phase, ready: corev1.ConditionUnknown, labels: o.Labels, annotations: plain(o.Annotations),
	}
	for _, c := range o.Status.Conditions {
		if c.Type == corev1.PodReady {
			p.ready = c.Status
		}
	}
	if c := metav1.GetControllerOfNoCopy(o); c != nil {
		p.controller, p.ownerName = c.Kind, c.Name
	}
	add := func(all []corev1.Container, init bool) {
		for _, c := range all {
			if len(c.Ports) == 0 {
				p.ports = append(p.ports, port{container: c.Name, image: c.Image, init: init})
			}
			for _, q := range c.Ports {
				p.ports = append(p.ports, port{c.Name, c.Image, q.Name, q.ContainerPort, string(q.Protocol), init})
			}
		}
	}
	add(o.Spec.Containers, false)
	add(o.Spec.InitContainers, true)
	return p
}

// plain leaves out the annotation that holds a copy of the whole object.
func plain(annotations map[string]string) map[string]string {
	if _, ok := annotations[corev1.LastAppliedConfigAnnotation]; !ok {
		return annotations
	}
	out := make(map[string]string, len(annotations)-1)
	for k, v := range annotations {
		if k != corev1.LastAppliedConfigAnnotation {
			out[k] = v
		}
	}
	return out
}

const meta = model.MetaLabelPrefix + "kubernetes_"

// metaLabels are those that Prometheus' own discovery gives for an object's
// labels and annotations; users' relabelings rely on them.
func metaLabels(ls model.LabelSet, kind string, labels, annotations map[string]string) {
	for k, v := range labels {
		name := model.LabelName(strutil.SanitizeLabelName(k))
		ls[model.LabelName(meta+kind+"_label_")+name] = model.LabelValue(v)
		ls[model.LabelName(meta+kind+"_labelpresent_")+name] = "true"
	}
	for k, v := range annotations {
		name := model.LabelName(strutil.SanitizeLabelName(k))
		ls[model.LabelName(meta+kind+"_annotation_")+name] = model.LabelValue(v)
		ls[model.LabelName(meta+kind+"_annotationpresent_")+name] = "true"
	}
}

// metaOf gives the labels of Prometheus' discovery role pod, without a port.
func (p *pod) meta() model.LabelSet {
	ls := model.LabelSet{
		meta + "namespace": model.LabelValue(p.namespace), meta + "pod_name": model.LabelValue(p.name), meta + "pod_ip": model.LabelValue(p.ip),
		meta + "pod_ready": readyWord(p.ready), meta + "pod_phase": model.LabelValue(p.phase), meta + "pod_node_name": model.LabelValue(p.node),
		meta + "pod_host_ip": model.LabelValue(p.hostIP), meta + "pod_uid": model.LabelValue(p.uid),
	}
	if p.controller != "" {
		ls[meta+"pod_controller_kind"], ls[meta+"pod_controller_name"] = model.LabelValue(p.controller), model.LabelValue(p.ownerName)
	}
	metaLabels(ls, "pod", p.labels, p.annotations)
	return ls
}

func readyWord(s corev1.ConditionStatus) model.LabelValue {
	switch s {
	case corev1.ConditionTrue:
		return "true"
	case corev1.ConditionFalse:
		return "false"
	}
	return "unknown"
}

func (q port) meta(ls model.LabelSet) {
	ls[meta+"pod_container_name"], ls[meta+"pod_container_image"] = model.LabelValue(q.container), model.LabelValue(q.image)
	ls[meta+"pod_container_init"] = model.LabelValue(strconv.FormatBool(q.init))
	if q.number != 0 {
		ls[meta+"pod_container_port_name"], ls[meta+"pod_container_port_protocol"] = model.LabelValue(q.name), model.LabelValue(q.protocol)
		ls[meta+"pod_container_port_number"] = model.LabelValue(strconv.Itoa(int(q.number)))
	}
}

func (v *service) meta(ls model.LabelSet) {
	ls[meta+"service_name"] = model.LabelValue(v.name)
	metaLabels(ls, "service", v.labels, v.annotations)
}

// same says that nothing changed that targets are made of.
func same(a, b *pod) bool {
	return reflect.DeepEqual(a, b)
}
