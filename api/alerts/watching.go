package alerts

import (
	"context"
	"fmt"

	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/api/problem"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// Objects is the inventory of the present; *inventory.Store is one.
type Objects interface {
	List(cluster string, kind object.Kind) []object.Object
}

// Watching is a policy that looks at an object, or at some that are inside it.
type Watching struct {
	Name    string `json:"name"`
	Project string `json:"project"`
	Level   string `json:"level" doc:"Of what it looks at, which may be inside the object that was asked for: a node's pods."`
	Objects int    `json:"objects" doc:"How many of these it looks at; 0 when not counted, as for a cluster."`
}

type watchingQuery struct {
	Cluster      string `query:"cluster" doc:"Required."`
	Node         string `query:"node"`
	Namespace    string `query:"namespace"`
	WorkloadType string `query:"workload_type" doc:"Lower case."`
	Workload     string `query:"workload"`
	Service      string `query:"service"`
	Pod          string `query:"pod"`
	Container    string `query:"container"`
}

// place is an object with what is inside it, by level, as a selection asks for it.
type place map[catalogue.Level][]seen

type seen struct {
	object    object.Object
	container string
}

// watching lists the enabled policies that look at an object or into it. Without
// any part but the cluster it is the cluster.
func (h *handlers) watching(ctx context.Context, in *watchingQuery) (*body[list[Watching]], error) {
	if err := access.Authorize(ctx, access.Read, in.Cluster, in.Namespace); err != nil {
		return nil, problem.Error(err)
	}
	if in.Cluster == "" {
		return nil, problem.Error(fault.Wrong("query.cluster", fault.Say(fault.Required), nil))
	}
	var rows []meta.Resource
	clusterLabels := map[string]string{}
	err := h.Store.View(ctx, func(tx *meta.Tx) (err error) {
		if rows, err = tx.Resources(meta.KindPolicy); err != nil {
			return err
		}
		clusters, err := tx.ListClusters()
		for _, c := range clusters {
			if c.ID == in.Cluster {
				clusterLabels = c.Labels
			}
		}
		return err
	})
	if err != nil {
		return nil, problem.Error(err)
	}
	whole := *in == watchingQuery{Cluster: in.Cluster}
	inside := place{}
	if !whole {
		inside = h.inside(*in)
	}
	out := &body[list[Watching]]{}
	out.Body.Items = []Watching{}
	for _, row := range rows {
		p, err := policy.FromRow(row)
		if err != nil {
			continue // written by a newer version: the list of policies says so
		}
		selection, err := policy.Compile(&p.Spec)
		if err != nil {
			return nil, problem.Error(fmt.Errorf("policy %q: %w", row.Name, err))
		}
		if (p.Spec.Enabled != nil && !*p.Spec.Enabled) || !selection.Cluster(in.Cluster, clusterLabels) {
			continue
		}
		level := p.Spec.ObjectLevel()
		n := 0
		for _, s := range inside[level] {
			if selection.Object(s.object, s.container) {
				n++
			}
		}
		if whole || n > 0 {
			out.Body.Items = append(out.Body.Items, Watching{Name: row.Name, Project: row.Project, Level: string(level), Objects: n})
		}
	}
	return out, nil
}

// inside finds the object and what is in it. A container is looked at through its pod.
func (h *handlers) inside(in watchingQuery) place {
	out := place{}
	if h.Objects == nil {
		return out
	}
	add := func(level catalogue.Level, o object.Object) { out[level] = append(out[level], seen{object: o}) }
	isPod, isWorkload, isService := in.Pod != "", in.Workload != "" && in.Pod == "", in.Service != "" && in.Pod == ""
	isNamespace := in.Namespace != "" && !isPod && !isWorkload && !isService
	if in.Node != "" && in.Namespace == "" {
		for _, o := range h.Objects.List(in.Cluster, object.KindNode) {
			if o.GetMeta().Name == in.Node {
				add(catalogue.Node, o)
			}
		}
	}
	if isNamespace {
		for _, o := range h.Objects.List(in.Cluster, object.KindNamespace) {
			if o.GetMeta().Name == in.Namespace {
				add(catalogue.Namespace, o)
			}
		}
	}
	if isNamespace || isWorkload {
		ref := object.WorkloadRef{Type: in.WorkloadType, Name: in.Workload}
		for _, o := range h.Objects.List(in.Cluster, object.KindWorkload) {
			if w := o.(*object.Workload); w.Namespace == in.Namespace && (isNamespace || w.Ref == ref) {
				add(catalogue.Workload, o)
			}
		}
	}
	var service *object.Service
	if isNamespace || isService {
		for _, o := range h.Objects.List(in.Cluster, object.KindService) {
			if m := o.GetMeta(); m.Namespace == in.Namespace && (isNamespace || m.Name == in.Service) {
				service, _ = o.(*object.Service)
				add(catalogue.Service, o)
			}
		}
	}
	for _, o := range h.Objects.List(in.Cluster, object.KindPod) {
		p := o.(*object.Pod)
		switch {
		case in.Namespace != "" && p.Namespace != in.Namespace,
			in.Node != "" && p.Node != in.Node,
			isPod && p.Name != in.Pod,
			isWorkload && (p.Workload.Type != in.WorkloadType || p.Workload.Name != in.Workload),
			isService && (service == nil || !service.Selects(p)):
			continue
		}
		if in.Container == "" {
			add(catalogue.Pod, o)
		}
		for _, c := range p.Containers {
			if in.Container == "" || c.Name == in.Container {
				out[catalogue.Container] = append(out[catalogue.Container], seen{o, c.Name})
			}
		}
	}
	return out
}
