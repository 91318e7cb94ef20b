package inventory

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/object"
)

// maxServiceWorkloads bounds the workloads named by a service: a selector may
// select every pod of its namespace.
const maxServiceWorkloads = 20

// registerPlaces adds the routes of what pods live in and are reached by:
// namespaces and services.
func (h *handlers) registerPlaces(api huma.API) {
	get(api, "list-namespaces", "/clusters/{cluster}/namespaces", "List namespaces, those with unhealthy workloads first", h.namespaces)
	get(api, "get-namespace", "/clusters/{cluster}/namespaces/{namespace}", "Show a namespace", h.namespace)
	get(api, "list-services", "/clusters/{cluster}/services", "List services, those without a ready pod first", h.services)
	get(api, "get-service", "/clusters/{cluster}/namespaces/{namespace}/services/{service}", "Show a service", h.service)
}

type namespacesIn struct {
	ClusterPath
	Paging
}

func (h *handlers) namespaces(ctx context.Context, in *namespacesIn) (page[Namespace], error) {
	if err := access.Authorize(ctx, access.Read, in.Cluster, ""); err != nil {
		return page[Namespace]{}, err
	}
	if err := h.exists(ctx, in.Cluster); err != nil {
		return page[Namespace]{}, err
	}
	out, err := h.fillNamespaces(ctx, in.Cluster, h.opts.Store.List(in.Cluster, object.KindNamespace))
	if err != nil {
		return page[Namespace]{}, err
	}
	slices.SortStableFunc(out, func(a, b Namespace) int {
		return cmp.Or(cmp.Compare(b.Workloads.Abnormal, a.Workloads.Abnormal), cmp.Compare(a.Name, b.Name))
	})
	return cutPage(out, in.Paging)
}

type namespaceIn struct {
	ClusterPath
	Namespace string `path:"namespace"`
}

func (h *handlers) namespace(ctx context.Context, in *namespaceIn) (Namespace, error) {
	if err := access.Authorize(ctx, access.Read, in.Cluster, in.Namespace); err != nil {
		return Namespace{}, err
	}
	o, err := h.find(ctx, in.Cluster, object.Key{Kind: object.KindNamespace, Name: in.Namespace})
	if err != nil {
		return Namespace{}, err
	}
	out, err := h.fillNamespaces(ctx, in.Cluster, []object.Object{o}, equal("namespace", in.Namespace)...)
	if err != nil {
		return Namespace{}, err
	}
	return out[0], nil
}

func namespaceOf(n *object.Namespace) Namespace {
	out := Namespace{Name: n.Name, UID: n.UID, Labels: n.Labels, CreatedAt: n.CreatedAt, Terminating: n.Terminating, Pods: map[string]int{}}
	for _, phase := range object.Phases {
		out.Pods[strings.ToLower(phase)] = 0
	}
	return out
}

func (h *handlers) fillNamespaces(ctx context.Context, cluster string, objects []object.Object, match ...*labels.Matcher) ([]Namespace, error) {
	out := newRows(objects, namespaceOf, func(n *Namespace) string { return n.Name }, func(l labels.Labels) string { return l.Get("namespace") })
	of := func(o object.Object) *Namespace {
		if i, ok := out.at[o.GetMeta().Namespace]; ok {
			return &out.items[i]
		}
		return nil
	}
	for _, o := range h.opts.Store.List(cluster, object.KindWorkload) {
		if n := of(o); n != nil {
			n.Workloads.Total++
			if o.(*object.Workload).Abnormal > 0 {
				n.Workloads.Abnormal++
			}
		}
	}
	for _, o := range h.opts.Store.List(cluster, object.KindService) {
		if n := of(o); n != nil {
			n.Services++
		}
	}
	for _, o := range h.opts.Store.List(cluster, object.KindPod) {
		n := of(o)
		if n == nil {
			continue
		}
		p := o.(*object.Pod)
		n.Pods[strings.ToLower(p.Phase)]++
		if !p.Ended() && !p.Ready {
			n.NotReady++
		}
		if p.Phase == object.PhasePending || p.Phase == object.PhaseRunning {
			n.Requests.CPUCores += p.Requests.CPUCores
			n.Requests.MemoryBytes += p.Requests.MemoryBytes
			n.Requests.HasCPU = n.Requests.HasCPU || p.Requests.HasCPU
			n.Requests.HasMemory = n.Requests.HasMemory || p.Requests.HasMemory
		}
	}
	r, maxAge := h.reader(cluster, match), staleAfter(h.interval(cluster))
	err := out.fill(ctx, r, maxAge,
		column[Namespace]{catalogue.NamespaceCPU, func(n *Namespace) **float64 { return &n.CPUCores }},
		column[Namespace]{catalogue.NamespaceMem, func(n *Namespace) **float64 { return &n.MemBytes }})
	if err != nil {
		return nil, err
	}
	err = out.count(ctx, r, maxAge, column[Namespace]{catalogue.NamespaceRestarts, func(n *Namespace) **float64 { return &n.Restarts1h }},
		func(n *Namespace) time.Time { return n.CreatedAt })
	return out.items, err
}

type servicesIn struct {
	ClusterPath
	Paging
	Namespace string `query:"namespace" doc:"Only those of this namespace."`
}

func (h *handlers) services(ctx context.Context, in *servicesIn) (page[Service], error) {
	if err := access.Authorize(ctx, access.Read, in.Cluster, in.Namespace); err != nil {
		return page[Service]{}, err
	}
	if err := h.exists(ctx, in.Cluster); err != nil {
		return page[Service]{}, err
	}
	var objects []object.Object
	for _, o := range h.opts.Store.List(in.Cluster, object.KindService) {
		if in.Namespace == "" || o.GetMeta().Namespace == in.Namespace {
			objects = append(objects, o)
		}
	}
	out, err := h.fillServices(ctx, in.Cluster, objects, equal("namespace", in.Namespace)...)
	if err != nil {
		return page[Service]{}, err
	}
	rank := func(s Service) int {
		switch {
		case s.Pods > 0 && s.PodsReady == 0:
			return 0
		case s.PodsReady < s.Pods:
			return 1
		}
		return 2
	}
	slices.SortStableFunc(out, func(a, b Service) int { return cmp.Compare(rank(a), rank(b)) })
	return cutPage(out, in.Paging)
}

type serviceIn struct {
	ClusterPath
	Namespace string `path:"namespace"`
	Service   string `path:"service"`
}

func (h *handlers) service(ctx context.Context, in *serviceIn) (Service, error) {
	if err := access.Authorize(ctx, access.Read, in.Cluster, in.Namespace); err != nil {
		return Service{}, err
	}
	o, err := h.find(ctx, in.Cluster, object.Key{Kind: object.KindService, Namespace: in.Namespace, Name: in.Service})
	if err != nil {
		return Service{}, err
	}
	out, err := h.fillServices(ctx, in.Cluster, []object.Object{o}, equal("namespace", in.Namespace, "service", in.Service)...)
	if err != nil {
		return Service{}, err
	}
	return out[0], nil
}

func serviceOf(s *object.Service) Service {
	return Service{
		Namespace: s.Namespace, Name: s.Name, UID: s.UID, Labels: s.Labels, CreatedAt: s.CreatedAt, Type: s.Type, ClusterIP: s.ClusterIP,
		Selector: s.Selector, Workloads: []string{},
	}
}

func (h *handlers) fillServices(ctx context.Context, cluster string, objects []object.Object, match ...*labels.Matcher) ([]Service, error) {
	out := newRows(objects, serviceOf, func(s *Service) string { return s.Namespace + "/" + s.Name },
		func(l labels.Labels) string { return l.Get("namespace") + "/" + l.Get("service") })
	// By namespace: each pod is held against the few services that could select it.
	pods := map[string][]*object.Pod{}
	for _, o := range h.opts.Store.List(cluster, object.KindPod) {
		if p := o.(*object.Pod); !p.Ended() {
			pods[p.Namespace] = append(pods[p.Namespace], p)
		}
	}
	for i, o := range objects {
		s := &out.items[i]
		service, workloads := o.(*object.Service), map[string]bool{}
		for _, p := range pods[s.Namespace] {
			if !service.Selects(p) {
				continue
			}
			s.Pods++
			if p.Ready {
				s.PodsReady++
			}
			if ref := p.Workload.String(); !workloads[ref] && len(s.Workloads) < maxServiceWorkloads {
				workloads[ref] = true
				s.Workloads = append(s.Workloads, ref)
			}
		}
		slices.Sort(s.Workloads)
	}
	err := out.fill(ctx, h.reader(cluster, match), staleAfter(h.interval(cluster)),
		column[Service]{catalogue.ServiceEndpointsReady, func(s *Service) **float64 { return &s.Ready }},
		column[Service]{catalogue.ServiceEndpointsNotReady, func(s *Service) **float64 { return &s.NotReady }})
	return out.items, err
}
