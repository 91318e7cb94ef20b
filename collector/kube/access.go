package kube

import (
	"context"
	"fmt"
	"strings"
	"sync"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// Right is one that a role needs.
type Right struct {
	Group, Resource, Subresource string
	Verbs                        []string
	For                          string // what is lost without it
}

// Missing is a right that the credential lacks.
type Missing struct {
	Verb     string // as in "list and watch"
	Resource string // with its API group and subresource, as in "pods/log" or "deployments.apps"
	For      string
}

func (m Missing) String() string {
	return fmt.Sprintf("needs %s on %s: without it %s", m.Verb, m.Resource, m.For)
}

// Access says how kubelets and logs are reached.
type Access struct {
	Role      string
	NodeProxy bool // kubelets through the API server's node proxy
	// PodMetrics: usage by metrics.k8s.io, of pods on virtual nodes.
	PodMetrics bool
	PodLogs    bool // logs through the API server
	Monitors   bool // ServiceMonitors and their like are scraped
}

var watchVerbs = []string{"list", "watch"}

// Rights lists what a collector needs.
func Rights(a Access) []Right {
	rights := []Right{
		{"", "pods", "", watchVerbs, "no pod, workload or container can be measured"},
		{"", "nodes", "", watchVerbs, "no node can be measured, and the cluster's totals are missing"},
	}
	if a.Role != wire.RoleNode {
		for _, r := range []string{"namespaces", "services"} {
			rights = append(rights, Right{"", r, "", watchVerbs, r + " are missing from the inventory"})
		}
		for _, r := range []string{"deployments", "statefulsets", "daemonsets", "replicasets"} {
			rights = append(rights, Right{"apps", r, "", watchVerbs, "the state of " + r + " is missing, and pods cannot be told to belong to them"})
		}
		for _, r := range []string{"jobs", "cronjobs"} {
			rights = append(rights, Right{"batch", r, "", watchVerbs, "the state of " + r + " is missing"})
		}
		rights = append(rights,
			Right{"", "events", "", watchVerbs, "Kubernetes events are missing"},
			Right{"", "resourcequotas", "", watchVerbs, "how full quotas are is missing"},
			Right{"", "persistentvolumeclaims", "", watchVerbs, "whether claims are bound is missing"},
			Right{"autoscaling", "horizontalpodautoscalers", "", watchVerbs, "what autoscalers want is missing"},
			Right{"discovery.k8s.io", "endpointslices", "", watchVerbs, "how many addresses are behind Services is missing"})
	}
	if a.Role != wire.RoleCluster {
		if a.NodeProxy {
			rights = append(rights, Right{"", "nodes", "proxy", []string{"get"}, "kubelets cannot be read through the API server, so there is no usage at all"})
		} else {
			rights = append(rights,
				Right{"", "nodes", "metrics", []string{"get"}, "the kubelet's cAdvisor cannot be read"},
				Right{"", "nodes", "stats", []string{"get"}, "the kubelet's summary cannot be read"})
		}
	}
	if a.PodMetrics {
		rights = append(rights, Right{"metrics.k8s.io", "pods", "", []string{"list"}, "the usage of pods on virtual nodes is known only where they tell it themselves"})
	}
	if a.PodLogs {
		rights = append(rights, Right{"", "pods", "log", []string{"get"}, "container logs cannot be read"})
	}
	if a.Monitors {
		for _, r := range []string{"servicemonitors", "podmonitors", "probes"} {
			rights = append(rights, Right{"monitoring.coreos.com", r, "", []string{"list"}, "what " + r + " ask for is not scraped"})
		}
	}
	return rights
}

// Check asks the API server which of the rights the credential lacks. An error
// means that it could not be asked.
func (c *Client) Check(ctx context.Context, rights []Right) ([]Missing, error) {
	var (
		mu      sync.Mutex
		missing []Missing
		first   error
		wg      sync.WaitGroup
		slots   = make(chan struct{}, 8)
	)
	results := make([]*Missing, len(rights))
	for i, r := range rights {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			var refused []string
			for _, verb := range r.Verbs {
				allowed, err := c.may(ctx, verb, r)
				switch {
				case err != nil:
					mu.Lock()
					first = err
					mu.Unlock()
					return
				case !allowed:
					refused = append(refused, verb)
				}
			}
			if len(refused) > 0 {
				results[i] = &Missing{Verb: strings.Join(refused, " and "), Resource: r.name(), For: r.For}
			}
		})
	}
	wg.Wait()
	for _, m := range results {
		if m != nil {
			missing = append(missing, *m)
		}
	}
	if first != nil {
		return missing, fmt.Errorf("check rights: %w", first)
	}
	return missing, nil
}

func (r Right) name() string {
	name := r.Resource
	if r.Subresource != "" {
		name += "/" + r.Subresource
	}
	if r.Group != "" {
		name += "." + r.Group
	}
	return name
}

func (c *Client) may(ctx context.Context, verb string, r Right) (bool, error) {
	review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
		ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: verb, Group: r.Group, Resource: r.Resource, Subresource: r.Subresource},
	}}
	out := &authorizationv1.SelfSubjectAccessReview{}
	err := c.Group(authorizationv1.SchemeGroupVersion).Post().Resource("selfsubjectaccessreviews").
		VersionedParams(&metav1.CreateOptions{}, metav1.ParameterCodec).Body(review).Do(ctx).Into(out)
	if err != nil {
		return false, err
	}
	return out.Status.Allowed, nil
}

// Explain makes one sentence of what is missing.
func Explain(missing []Missing) string {
	parts := make([]string, len(missing))
	for i, m := range missing {
		parts[i] = m.String()
	}
	return strings.Join(parts, "; ")
}
