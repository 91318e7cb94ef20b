package world

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/crowsnest-dev/crowsnest/collector"
	"github.com/crowsnest-dev/crowsnest/collector/compute"
	"github.com/crowsnest-dev/crowsnest/collector/kube"
	"github.com/crowsnest-dev/crowsnest/collector/kubelet"
	"github.com/crowsnest-dev/crowsnest/collector/raw"
	"github.com/crowsnest-dev/crowsnest/collector/scrape"
	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/collector/targets"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// What Scrape.Targets may name.
const (
	ScrapeAnnotations = "annotations"
	ScrapeMonitors    = "monitors"
)

// Scrape says what is read of targets beyond the catalogue.
type Scrape struct {
	Targets  []string      // ScrapeAnnotations, ScrapeMonitors; roles cluster and all
	File     string        // of static jobs; every role
	Raw      []string      // families of package raw
	Series   int           // of all targets; default 200,000
	Samples  int           // of one target of users; default 10,000
	Interval time.Duration // of jobs that say none; default 30 s
}

func (s Scrape) on() bool { return len(s.Targets) > 0 || s.File != "" || len(s.Raw) > 0 }

func (s Scrape) check(role string) error {
	var fs fault.Fields
	for _, t := range s.Targets {
		if t != ScrapeAnnotations && t != ScrapeMonitors {
			fs.Add("scrape", "must be annotations or monitors", t)
		}
	}
	if len(s.Targets) > 0 && role == wire.RoleNode {
		fs.Add("scrape", "is for roles cluster and all, which watch the whole cluster", role)
	}
	for _, f := range s.Raw {
		switch {
		case !slices.Contains(raw.Families, f):
			fs.Add("raw", "must be of "+strings.Join(raw.Families, ", "), f)
		case raw.OfNodes(f) && role == wire.RoleCluster:
			fs.Add("raw", "is read of kubelets, by roles node and all", f)
		case !raw.OfNodes(f) && role == wire.RoleNode:
			fs.Add("raw", "is read by roles cluster and all", f)
		}
	}
	if s.Series < 0 {
		fs.Add("scrape_series", "must not be negative", s.Series)
	}
	if s.Samples < 0 {
		fs.Add("scrape_samples", "must not be negative", s.Samples)
	}
	return fs.Err()
}

// scraping is the Scraper with what finds its targets.
type scraping struct {
	*scrape.Scraper
	found *targets.Discovery
}

var _ collector.Scraper = (*scraping)(nil)

// Run implements collector.Scraper.
func (s *scraping) Run(ctx context.Context, sink func([]compute.Sample) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.found.Run(ctx) })
	g.Go(func() error { return s.Scraper.Run(ctx, sink) })
	return g.Wait()
}

// observers are what scraping needs to see of the watches.
func (s Scrape) observers() (*targets.Objects, []kube.Observer) {
	if len(s.Targets) == 0 {
		return nil, nil
	}
	o := targets.NewObjects()
	return o, []kube.Observer{o}
}

func openScraping(o Options, client *kube.Client, objects *targets.Objects, now func() *state.Snapshot) (*scraping, error) {
	options := targets.Options{Objects: objects, File: o.Scrape.File, Logger: o.Logger}
	options.Annotations = slices.Contains(o.Scrape.Targets, ScrapeAnnotations)
	if slices.Contains(o.Scrape.Targets, ScrapeMonitors) {
		options.Monitors = client.List
	}
	found, err := targets.New(options)
	if err != nil {
		return nil, err
	}
	sources := []scrape.Source{found}
	if len(o.Scrape.Raw) > 0 {
		tier, err := openRaw(o, client, now)
		if err != nil {
			return nil, err
		}
		sources = append(sources, tier)
	}
	s, err := scrape.New(scrape.Options{
		Sources: sources, Families: slices.Concat(targets.Families, raw.Families), Interval: cmp.Or(o.Scrape.Interval, 30*time.Second),
		Limits: scrape.Limits{Samples: o.Scrape.Samples}, Series: o.Scrape.Series, Logger: o.Logger, Registerer: o.Registerer, Now: o.Now,
	})
	if err != nil {
		return nil, err
	}
	return &scraping{s, found}, nil
}

func openRaw(o Options, client *kube.Client, now func() *state.Snapshot) (*raw.Tier, error) {
	options := raw.Options{Families: o.Scrape.Raw}
	if o.Role != wire.RoleNode {
		options.APIServer = client.Metrics
	}
	if o.Role != wire.RoleCluster {
		options.Nodes = func() []*object.Node { return slices.Collect(maps.Values(now().Nodes)) }
		var kubelets kubelet.Fetcher = &kubelet.Proxy{URL: client.KubeletURL, Client: client.HTTP()}
		if o.Role == wire.RoleNode {
			direct, err := directKubelets(o, client.REST())
			if err != nil {
				return nil, err
			}
			kubelets = direct
		}
		options.Fetch = kubelets.Fetch
	}
	return raw.New(options)
}

// Targets serves the targets' states as JSON; nil where nothing is scraped.
func (o *Opened) Targets() http.Handler {
	s, ok := o.World.Scraper.(*scraping)
	if !ok {
		return nil
	}
	return s.Scraper
}
