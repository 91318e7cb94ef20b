// Package raw owns the opt-in tier of metrics that pass through unchanged, under
// the names and labels that the community's rules and dashboards know: the
// kubelet's endpoints and the API server's. It must not know how they are
// reached, nor how samples are kept.
package raw

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery/targetgroup"

	"github.com/crowsnest-dev/crowsnest/collector/scrape"
	"github.com/crowsnest-dev/crowsnest/internal/object"
)

// Families.
const (
	Cadvisor  = "cadvisor"         // container_* and machine_* of each node
	Kubelet   = "kubelet"          // the kubelet's own, kubelet_volume_stats_* among them
	Resource  = "kubelet_resource" // CPU and memory as metrics-server reads them
	Probes    = "kubelet_probes"   // prober_probe_total
	APIServer = "apiserver"        // apiserver_*, and etcd's as the API server sees it
)

// ofKubelet are the kubelet's paths.
var ofKubelet = map[string]string{
	Cadvisor: "/metrics/cadvisor", Kubelet: "/metrics", Resource: "/metrics/resource", Probes: "/metrics/probes",
}

// Families lists every family.
var Families = []string{Cadvisor, Kubelet, Resource, Probes, APIServer}

// OfNodes says whether a family is read of each node.
func OfNodes(family string) bool { return ofKubelet[family] != "" }

// limits are for what we read ourselves: an API server of a large cluster has
// 100,000 series and more. What they may add up to is the budget's matter.
var limits = &scrape.Limits{BodyBytes: 64 << 20, Samples: 300_000, TargetsPerJob: 5_000}

// Options of a Tier.
type Options struct {
	Families []string // at least one
	// Nodes gives the nodes whose kubelets are read; needed for their families.
	Nodes func() []*object.Node
	// Fetch writes what a node's kubelet answers at a path.
	Fetch func(ctx context.Context, node *object.Node, path string, into io.Writer) (time.Time, error)
	// APIServer writes what the API server answers at /metrics; needed for its family.
	APIServer func(ctx context.Context, into io.Writer) error
}

// Tier is the jobs of the families.
type Tier struct {
	o Options

	mu    sync.Mutex
	key   string // the nodes that jobs were made of
	nodes map[string]*object.Node
	jobs  []scrape.Job
}

var _ scrape.Source = (*Tier)(nil)

// New checks the options.
func New(o Options) (*Tier, error) {
	if len(o.Families) == 0 {
		return nil, errors.New("raw: Families is required")
	}
	for _, f := range o.Families {
		switch {
		case !slices.Contains(Families, f):
			return nil, fmt.Errorf("raw: unknown family %q; there are %s", f, strings.Join(Families, ", "))
		case OfNodes(f) && (o.Nodes == nil || o.Fetch == nil):
			return nil, fmt.Errorf("raw: family %q is read of nodes' kubelets, which this role does not reach", f)
		case f == APIServer && o.APIServer == nil:
			return nil, fmt.Errorf("raw: family %q is read by roles cluster and all", f)
		}
	}
	return &Tier{o: o, key: "none yet"}, nil
}

// Refused implements scrape.Source.
func (*Tier) Refused() map[string]int { return nil }

// Jobs implements scrape.Source; they are made anew when nodes come or go.
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
	if key := strings.Join(names, " "); key != t.key {
		t.key, t.jobs = key, t.make(names)
	}
	return t.jobs
}

func (t *Tier) make(names []string) []scrape.Job {
	var jobs []scrape.Job
	for _, family := range t.o.Families {
		c := config.DefaultScrapeConfig
		c.JobName = "raw/" + family
		c.HonorLabels = true      // namespace, pod and container are what the series is about
		c.HonorTimestamps = false // cAdvisor's would keep series of ended containers from going stale
		j := scrape.Job{Family: family, Config: &c, Limits: limits}
		g := &targetgroup.Group{Source: c.JobName}
		if family == APIServer {
			g.Targets = []model.LabelSet{{model.AddressLabel: "apiserver", model.JobLabel: "apiserver", model.InstanceLabel: "apiserver"}}
			j.Fetch = func(ctx context.Context, _ string, into io.Writer) error { return t.o.APIServer(ctx, into) }
		} else {
			path := ofKubelet[family]
			c.MetricsPath = path
			for _, n := range names {
				g.Targets = append(g.Targets, model.LabelSet{
					model.AddressLabel: model.LabelValue(n), model.JobLabel: "kubelet", model.InstanceLabel: model.LabelValue(n),
					"node": model.LabelValue(n), "metrics_path": model.LabelValue(path),
				})
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
