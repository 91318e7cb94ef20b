package world

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/crowsnest-dev/crowsnest/collector"
	"github.com/crowsnest-dev/crowsnest/collector/compute"
	"github.com/crowsnest-dev/crowsnest/collector/kube"
	"github.com/crowsnest-dev/crowsnest/collector/kubelet"
	"github.com/crowsnest-dev/crowsnest/collector/raw"
	"github.com/crowsnest-dev/crowsnest/collector/scrape"
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
	Raw      []string      // families of the raw tier; overrides what the server says
	Series   int           // of all targets; overrides what the server says; default 200,000
	Samples  int           // of one target of users; default 10,000
	Interval time.Duration // of jobs that say none; default 30 s
	Share    bool          // in a pod, users' targets are divided among the replicas
}

// Shares says whether several replicas could share what is read: users' targets. The
// raw tier is the leader's.
func (s Scrape) Shares() bool { return len(s.Targets) > 0 || s.File != "" }

// shardLease is the name of the replicas' Leases, before their numbers.
const shardLease = "crowsnest-collector-shard"

// share divides targets among the replicas.
type share struct {
	members *kube.Members
	leads   *atomic.Bool
}

var _ scrape.Share = share{}

// Owns implements scrape.Share. What is read once for a cluster is the leader's;
// without the right to hold places, so is everything.
func (s share) Owns(family, key string) bool {
	if slices.Contains(wire.RawFamilies, family) || s.members.Lone() != "" {
		return s.leads.Load()
	}
	return s.members.Owns(key)
}

// State implements scrape.Share.
func (s share) State() string {
	held, own := s.members.Held()
	return fmt.Sprint(held, own, s.leads.Load(), s.members.Lone() != "")
}

// SetLeading says whether this replica leads.
func (o *Opened) SetLeading(leads bool) { o.leads.Store(leads) }

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
		switch reader := wire.RawReader(f); {
		case !slices.Contains(wire.RawFamilies, f):
			fs.Add("raw", "must be of "+strings.Join(wire.RawFamilies, ", "), f)
		case f == wire.RawNodeExporter && role != wire.RoleNode:
			fs.Add("raw", "is read on the node itself, by role node", f)
		case reader == wire.RoleNode && role == wire.RoleCluster:
			fs.Add("raw", "is read of kubelets, by roles node and all", f)
		case reader == wire.RoleCluster && role == wire.RoleNode:
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

// scraping is the Scraper with what finds its targets. It begins with the first
// wish for anything to be scraped.
type scraping struct {
	*scrape.Scraper
	own   Scrape
	found *targets.Discovery // nil where users' targets are not wanted
	tier  *raw.Tier

	wanted func() // closes wake
	wake   chan struct{}
}

var _ collector.Scraper = (*scraping)(nil)

// Run implements collector.Scraper.
func (s *scraping) Run(ctx context.Context, sink func([]compute.Sample) error) error {
	select {
	case <-s.wake:
	case <-ctx.Done():
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	if s.found != nil {
		g.Go(func() error { return s.found.Run(ctx) })
	}
	g.Go(func() error { return s.Scraper.Run(ctx, sink) })
	return g.Wait()
}

// Cost implements collector.Scraper.
func (s *scraping) Cost() *wire.ScrapeHealth {
	select {
	case <-s.wake:
	default:
		return nil
	}
	out := s.Scraper.Cost()
	out.Families = s.tier.Families()
	return out
}

// SetRaw implements collector.Scraper.
func (s *scraping) SetRaw(r *wire.Raw) (map[string]string, error) {
	if r == nil {
		r = &wire.Raw{}
	}
	overridden := map[string]string{}
	families, series := r.Families, r.Series
	if len(s.own.Raw) > 0 {
		if len(families) > 0 && !slices.Equal(families, s.own.Raw) {
			overridden["raw.families"] = strings.Join(s.own.Raw, ",")
		}
		families = s.own.Raw
	}
	if s.own.Series > 0 {
		if series > 0 && series != s.own.Series {
			overridden["raw.series"] = strconv.Itoa(s.own.Series)
		}
		series = s.own.Series
	}
	if err := s.tier.Set(families); err != nil {
		return nil, err
	}
	s.SetSeries(series)
	if len(s.tier.Families()) > 0 {
		s.wanted()
	}
	return overridden, nil
}

// observers are what scraping needs to see of the watches.
func (s Scrape) observers() (*targets.Objects, []kube.Observer) {
	if len(s.Targets) == 0 {
		return nil, nil
	}
	o := targets.NewObjects()
	return o, []kube.Observer{o}
}

func openScraping(o Options, client *kube.Client, objects *targets.Objects, source *kube.Source, out *Opened) (*scraping, error) {
	s := &scraping{own: o.Scrape, wake: make(chan struct{})}
	s.wanted = sync.OnceFunc(func() { close(s.wake) })
	var err error
	if s.tier, err = openRaw(o, client, source); err != nil {
		return nil, err
	}
	sources := []scrape.Source{s.tier}
	if len(o.Scrape.Targets) > 0 || o.Scrape.File != "" {
		options := targets.Options{Objects: objects, File: o.Scrape.File, Logger: o.Logger}
		options.Annotations = slices.Contains(o.Scrape.Targets, ScrapeAnnotations)
		if slices.Contains(o.Scrape.Targets, ScrapeMonitors) {
			options.Monitors = client.List
		}
		if s.found, err = targets.New(options); err != nil {
			return nil, err
		}
		sources = append(sources, s.found)
	}
	var divided scrape.Share
	if out.Members != nil {
		divided = share{out.Members, out.leads}
	}
	s.Scraper, err = scrape.New(scrape.Options{
		Sources: sources, Share: divided, Families: slices.Concat(targets.Families, wire.RawFamilies), Interval: cmp.Or(o.Scrape.Interval, 30*time.Second),
		Limits: scrape.Limits{Samples: o.Scrape.Samples}, Series: o.Scrape.Series, Logger: o.Logger, Registerer: o.Registerer, Now: o.Now,
	})
	if err != nil {
		return nil, err
	}
	if _, err := s.SetRaw(nil); err != nil {
		return nil, err
	}
	if o.Scrape.on() {
		s.wanted()
	}
	return s, nil
}

func openRaw(o Options, client *kube.Client, source *kube.Source) (*raw.Tier, error) {
	var options raw.Options
	if o.Role != wire.RoleNode {
		options.APIServer = client.Metrics
		options.Objects = &kubeObjects{source: source}
	} else {
		h := &hostExporter{o: o}
		options.Host, options.Node = h.Write, o.Node
		if client.InCluster() {
			// The pod's host name is its own name, unless it shares its node's.
			options.PodNamespace, options.Pod = client.Namespace, os.Getenv("POD_NAME")
			if host, err := os.Hostname(); options.Pod == "" && err == nil {
				options.Pod = host
			}
		}
	}
	if o.Role != wire.RoleCluster {
		options.Nodes = func() []*object.Node { return slices.Collect(maps.Values(source.Snapshot().Nodes)) }
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

// Targets serves the targets' states as JSON.
func (o *Opened) Targets() http.Handler {
	s, ok := o.World.Scraper.(*scraping)
	if !ok {
		return nil
	}
	return s.Scraper
}
