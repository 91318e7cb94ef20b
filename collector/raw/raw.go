// Package raw owns the opt-in tier of metrics that pass through unchanged, under
// the names and labels that the community's rules and dashboards know: the
// kubelet's endpoints, the API server's, and what node_exporter and
// kube-state-metrics make of a node and of objects. It must not know how any of
// them is reached, nor how samples are kept.
package raw

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery/targetgroup"

	"github.com/crowsnest-dev/crowsnest/collector/scrape"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// ofKubelet are the kubelet's paths.
var ofKubelet = map[string]string{
	wire.RawCadvisor: "/metrics/cadvisor", wire.RawKubelet: "/metrics", wire.RawResource: "/metrics/resource", wire.RawProbes: "/metrics/probes",
}

// limits are for what we read ourselves: an API server of a large cluster has
// 100,000 series and more. What they may add up to is the budget's matter.
var limits = &scrape.Limits{BodyBytes: 64 << 20, Samples: 300_000, TargetsPerJob: 5_000}

// Options of a Tier. A family whose function is nil is not read here.
type Options struct {
	// Nodes gives the nodes whose kubelets are read.
	Nodes func() []*object.Node
	// Fetch writes what a node's kubelet answers at a path.
	Fetch func(ctx context.Context, node *object.Node, path string, into io.Writer) (time.Time, error)
	// APIServer writes what the API server answers at /metrics.
	APIServer func(ctx context.Context, into io.Writer) error
	// Host writes what node_exporter would show of the node called Node.
	Host func(ctx context.Context, into io.Writer) error
	Node string
	// Pod is the collector's own, empty outside of a cluster. The community's
	// rules find a node_exporter's node by the pod that it runs in.
	PodNamespace, Pod string
	// Objects writes what kube-state-metrics would show.
	Objects Objects
}

// Objects are the cluster's, as kube-state-metrics shows them.
type Objects interface {
	// Watch begins to look at objects, or ends it and forgets them.
	Watch(on bool) error
	// Parts is into how many parts the text should be divided.
	Parts() int
	// Write gives one part. It may be called concurrently.
	Write(ctx context.Context, part, parts int, into io.Writer) error
	// Troubles says in words what cannot be looked at.
	Troubles() []string
}

// Tier is the jobs of the families.
type Tier struct {
	o Options

	mu       sync.Mutex
	families []string
	key      string // of what jobs were made of
	nodes    map[string]*object.Node
	jobs     []scrape.Job
}

var _ scrape.Source = (*Tier)(nil)

// New makes a tier without families.
func New(o Options) (*Tier, error) {
	if (o.Nodes == nil) != (o.Fetch == nil) {
		return nil, errors.New("raw: Nodes and Fetch go together")
	}
	if o.Host != nil && o.Node == "" {
		return nil, errors.New("raw: Node is required with Host")
	}
	return &Tier{o: o}, nil
}

// Reads says whether the family can be read here.
func (t *Tier) Reads(family string) bool {
	switch family {
	case wire.RawAPIServer:
		return t.o.APIServer != nil
	case wire.RawNodeExporter:
		return t.o.Host != nil
	case wire.RawKubeState:
		return t.o.Objects != nil
	}
	return ofKubelet[family] != "" && t.o.Fetch != nil
}

// Set chooses the families. Those that are not read here are left out: other
// collectors read them.
func (t *Tier) Set(families []string) error {
	var mine []string
	for _, f := range families {
		if !slices.Contains(wire.RawFamilies, f) {
			return fmt.Errorf("raw: unknown family %q; there are %s", f, strings.Join(wire.RawFamilies, ", "))
		}
		if t.Reads(f) && !slices.Contains(mine, f) {
			mine = append(mine, f)
		}
	}
	if t.o.Objects != nil {
		if err := t.o.Objects.Watch(slices.Contains(mine, wire.RawKubeState)); err != nil {
			return err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.families = mine
	return nil
}

// Families gives those that are read.
func (t *Tier) Families() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.families)
}

// Refused implements scrape.Source.
func (t *Tier) Refused() map[string]int {
	if !slices.Contains(t.Families(), wire.RawKubeState) {
		return nil
	}
	out := map[string]int{}
	for _, why := range t.o.Objects.Troubles() {
		out[wire.RawKubeState+": "+why]++
	}
	return out
}

// Jobs implements scrape.Source; they are made anew when families, nodes or parts
// come or go.
func (t *Tier) Jobs() []scrape.Job {
	nodes := map[string]*object.Node{}
	var names []string
	if t.o.Nodes != nil {
		for _, n := range t.o.Nodes() {
			if !n.Virtual { // it has no kubelet
				nodes[n.Name] = n
				names = append(names, n.Name)
			}
		}
	}
	slices.Sort(names)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.nodes = nodes
	parts := 1
	if slices.Contains(t.families, wire.RawKubeState) {
		parts = t.o.Objects.Parts()
	}
	if key := fmt.Sprint(t.families, parts, names); key != t.key {
		t.key, t.jobs = key, t.make(names, parts)
	}
	return t.jobs
}

func (t *Tier) make(names []string, parts int) []scrape.Job {
	var jobs []scrape.Job
	for _, family := range t.families {
		c := config.DefaultScrapeConfig
		c.JobName = "raw/" + family
		c.HonorLabels = true      // namespace, pod and container are what the series is about
		c.HonorTimestamps = false // cAdvisor's would keep series of ended containers from going stale
		j := scrape.Job{Family: family, Config: &c, Limits: limits}
		g := &targetgroup.Group{Source: c.JobName}
		switch family {
		case wire.RawAPIServer:
			g.Targets = []model.LabelSet{target("apiserver", "apiserver", "apiserver")}
			j.Fetch = func(ctx context.Context, _ string, into io.Writer) error { return t.o.APIServer(ctx, into) }
		case wire.RawNodeExporter:
			one := target(t.o.Node, "node-exporter", t.o.Node)
			if t.o.Pod != "" {
				one["namespace"], one["pod"] = model.LabelValue(t.o.PodNamespace), model.LabelValue(t.o.Pod)
			}
			g.Targets = []model.LabelSet{one}
			j.Fetch = func(ctx context.Context, _ string, into io.Writer) error { return t.o.Host(ctx, into) }
		case wire.RawKubeState:
			for i := range parts {
				instance := wire.RawKubeState
				if parts > 1 {
					instance += "-" + strconv.Itoa(i)
				}
				g.Targets = append(g.Targets, target(strconv.Itoa(i), wire.RawKubeState, instance))
			}
			j.Fetch = func(ctx context.Context, address string, into io.Writer) error {
				host, _, _ := strings.Cut(address, ":")
				part, err := strconv.Atoi(host)
				if err != nil {
					return fmt.Errorf("BUG: part %q of the objects", address)
				}
				return t.o.Objects.Write(ctx, part, parts, into)
			}
		default:
			path := ofKubelet[family]
			c.MetricsPath = path
			for _, n := range names {
				one := target(n, "kubelet", n)
				one["node"], one["metrics_path"] = model.LabelValue(n), model.LabelValue(path)
				g.Targets = append(g.Targets, one)
			}
			j.Fetch = func(ctx context.Context, address string, into io.Writer) error {
				return t.fetch(ctx, address, path, into)
			}
		}
		j.Groups = []*targetgroup.Group{g}
		jobs = append(jobs, j)
	}
	return jobs
}

func target(address, job, instance string) model.LabelSet {
	return model.LabelSet{model.AddressLabel: model.LabelValue(address), model.JobLabel: model.LabelValue(job), model.InstanceLabel: model.LabelValue(instance)}
}

func (t *Tier) fetch(ctx context.Context, address, path string, into io.Writer) error {
	name, _, _ := strings.Cut(address, ":")
	t.mu.Lock()
	n := t.nodes[name]
	t.mu.Unlock()
	if n == nil {
		return fmt.Errorf("node %q is no more", name)
	}
	_, err := t.o.Fetch(ctx, n, path, into)
	return err
}
