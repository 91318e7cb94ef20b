// Package targets owns what users want scraped: pods and Services with
// prometheus.io annotations, ServiceMonitor, PodMonitor and Probe objects, and a
// file of static jobs. It makes scrape jobs of them with Prometheus' own meta
// labels, so that relabelings work as they do there. It must not know how
// targets are read.
//
// prometheus-operator's ConfigGenerator with Prometheus' Kubernetes discovery
// would do the same with watches of its own and the typed clientset: 18 MiB more
// of binary in each collector, and every pod in memory twice. So only the
// operator's types are used, and objects come from the watches that there are.
package targets

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	corev1 "k8s.io/api/core/v1"

	"github.com/crowsnest-dev/crowsnest/collector/scrape"
)

// Families of jobs.
const (
	Annotations    = "annotations"
	ServiceMonitor = "service_monitor"
	PodMonitor     = "pod_monitor"
	Probe          = "probe"
	Static         = "static"
)

// Families lists every family.
var Families = []string{Annotations, ServiceMonitor, PodMonitor, Probe, Static}

// Annotations by which a pod or a Service asks to be scraped.
const (
	annotationScrape = "prometheus.io/scrape" // "true"
	annotationPort   = "prometheus.io/port"   // a number; default every port that is declared
	annotationPath   = "prometheus.io/path"   // default /metrics
	annotationScheme = "prometheus.io/scheme" // default http
)

const (
	pollEvery    = 30 * time.Second
	maxFileBytes = 4 << 20
	maxListBytes = 32 << 20
	maxMonitors  = 2_000
)

// Lister gets a path of the API server. A path that is not there, or may not be
// read, is an error of k8s.io/apimachinery/pkg/api/errors.
type Lister func(ctx context.Context, path, resume string) (io.ReadCloser, error)

// Options of a Discovery. What is not named is not looked for.
type Options struct {
	Objects     *Objects // required with Annotations or Monitors
	Annotations bool
	Monitors    Lister // lists ServiceMonitors, PodMonitors and Probes
	File        string // of static jobs, scrape_configs as Prometheus has them
	Logger      *slog.Logger
}

// template is a job whose targets depend on the objects.
type template struct {
	family  string
	config  *config.ScrapeConfig
	targets func(o *Objects) []model.LabelSet // called with o.mu held
}

// Discovery makes jobs.
type Discovery struct {
	o   Options
	log *slog.Logger

	mu        sync.Mutex
	version   int // rises with every change of monitors or file
	templates []template
	static    []scrape.Job
	refused   map[string]map[string]int // by where from, by reason
	fileAt    time.Time

	madeOf [2]int // of the objects and the templates that jobs were made of
	jobs   []scrape.Job
}

var _ scrape.Source = (*Discovery)(nil)

// New checks the options. A file that cannot be read or understood is an error
// now; later, the jobs stay as they were and Refused tells.
func New(o Options) (*Discovery, error) {
	if (o.Annotations || o.Monitors != nil) && o.Objects == nil {
		return nil, fmt.Errorf("targets: Objects is required")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	d := &Discovery{o: o, log: o.Logger, refused: map[string]map[string]int{}, madeOf: [2]int{-1, -1}}
	if o.File != "" {
		if err := d.readFile(); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// Run keeps monitors and the file up to date until ctx ends.
func (d *Discovery) Run(ctx context.Context) error {
	t := time.NewTicker(pollEvery)
	defer t.Stop()
	for {
		if d.o.Monitors != nil {
			d.poll(ctx)
		}
		if d.o.File != "" {
			if err := d.readFile(); err != nil {
				d.refuse("file", map[string]int{err.Error(): 1})
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

func (d *Discovery) refuse(from string, reasons map[string]int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refused[from] = reasons
}

// Refused implements scrape.Source.
func (d *Discovery) Refused() map[string]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := map[string]int{}
	for _, reasons := range d.refused {
		for why, n := range reasons {
			out[why] += n
		}
	}
	return out
}

// Jobs implements scrape.Source. They are made anew only where objects, monitors
// or the file changed.
func (d *Discovery) Jobs() []scrape.Job {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := [2]int{0, d.version}
	if d.o.Objects != nil {
		d.o.Objects.mu.Lock()
		defer d.o.Objects.mu.Unlock()
		now[0] = d.o.Objects.generation
	}
	if now == d.madeOf {
		return d.jobs
	}
	jobs := slices.Clone(d.static)
	for _, t := range d.templates {
		found := t.targets(d.o.Objects)
		jobs = append(jobs, job(t.family, t.config, found))
	}
	if d.o.Annotations {
		made, refused := annotated(d.o.Objects)
		jobs = append(jobs, made...)
		d.refused["annotations"] = refused
	}
	d.madeOf, d.jobs = now, jobs
	return jobs
}

func job(family string, c *config.ScrapeConfig, targets []model.LabelSet) scrape.Job {
	// The order of maps must not look like a change.
	slices.SortFunc(targets, func(a, b model.LabelSet) int { return strings.Compare(a.String(), b.String()) })
	return scrape.Job{Family: family, Config: c, Groups: []*targetgroup.Group{{Source: c.JobName, Targets: targets}}}
}

// readFile reads the static jobs if the file changed.
func (d *Discovery) readFile() error {
	info, err := os.Stat(d.o.File)
	if err != nil {
		return fmt.Errorf("read scrape configuration: %w", err)
	}
	d.mu.Lock()
	same := info.ModTime().Equal(d.fileAt)
	d.mu.Unlock()
	if same {
		return nil
	}
	if info.Size() > maxFileBytes {
		return fmt.Errorf("read scrape configuration %s: has %d bytes, may have %d", d.o.File, info.Size(), maxFileBytes)
	}
	text, err := os.ReadFile(d.o.File)
	if err != nil {
		return fmt.Errorf("read scrape configuration: %w", err)
	}
	jobs, err := ParseStatic(string(text), d.o.File)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fileAt, d.static = info.ModTime(), jobs
	d.refused["file"] = nil
	d.version++
	return nil
}

// ParseStatic reads Prometheus' configuration; only static_configs are taken.
func ParseStatic(text, path string) ([]scrape.Job, error) {
	c, err := config.Load(text, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, fmt.Errorf("scrape configuration %s: %w", path, err)
	}
	if len(c.ScrapeConfigs) == 0 {
		return nil, fmt.Errorf("scrape configuration %s: has no scrape_configs", path)
	}
	c.SetDirectory(dirOf(path)) // so that relative files of certificates and tokens are found beside it
	var jobs []scrape.Job
	for _, s := range c.ScrapeConfigs {
		j := scrape.Job{Family: Static, Config: s}
		for _, sd := range s.ServiceDiscoveryConfigs {
			static, ok := sd.(discovery.StaticConfig)
			if !ok {
				return nil, fmt.Errorf("scrape configuration %s: job %q: only static_configs are taken, not %s_sd_configs; annotations and monitors find what runs in the cluster", path, s.JobName, sd.Name())
			}
			for i, g := range static {
				g.Source = fmt.Sprintf("%s/%d", s.JobName, i)
			}
			j.Groups = append(j.Groups, static...)
		}
		jobs = append(jobs, j)
	}
	return jobs, nil
}

func dirOf(path string) string {
	if i := strings.LastIndexByte(path, os.PathSeparator); i >= 0 {
		return path[:i+1]
	}
	return "."
}

// annotated makes a job for each namespace of the pods and Services that ask for
// it, so that one with too many targets fails alone.
func annotated(o *Objects) ([]scrape.Job, map[string]int) {
	refused := map[string]int{}
	byNamespace := map[string][]model.LabelSet{}
	taken := map[string]bool{}
	add := func(namespace string, ls model.LabelSet) {
		key := string(ls[model.AddressLabel]) + string(ls[model.MetricsPathLabel])
		if !taken[key] {
			taken[key] = true
			byNamespace[namespace] = append(byNamespace[namespace], ls)
		}
	}
	for _, p := range o.pods {
		if p.annotations[annotationScrape] != "true" || !p.scrapable() {
			continue
		}
		found := false
		for _, number := range portsOf(p.annotations, func() []int32 { return p.declared() }) {
			ls := p.target(p.at(number), net.JoinHostPort(p.ip, strconv.Itoa(int(number))))
			asAnnotated(ls, p.annotations)
			add(p.namespace, ls)
			found = true
		}
		if !found {
			refused[fmt.Sprintf("pod %s/%s is annotated, but neither %s nor a container's ports tell a port", p.namespace, p.name, annotationPort)]++
		}
	}
	for _, v := range o.services {
		if v.annotations[annotationScrape] != "true" {
			continue
		}
		o.endpoints(v, func(number int32, _, address string, p *pod) {
			if want := v.annotations[annotationPort]; want != "" && want != strconv.Itoa(int(number)) {
				if p == nil || !slices.Contains(p.declared(), atoi(want)) {
					return
				}
				number = atoi(want)
			}
			ls := model.LabelSet{model.AddressLabel: model.LabelValue(net.JoinHostPort(address, strconv.Itoa(int(number)))), "namespace": model.LabelValue(v.namespace)}
			if p != nil {
				ls = p.target(p.at(number), string(ls[model.AddressLabel]))
			}
			ls["service"], ls[model.JobLabel] = model.LabelValue(v.name), model.LabelValue(v.namespace+"/"+v.name)
			asAnnotated(ls, v.annotations)
			add(v.namespace, ls)
		})
	}
	var jobs []scrape.Job
	for _, namespace := range slices.Sorted(maps.Keys(byNamespace)) {
		c := config.DefaultScrapeConfig
		c.JobName = "annotations/" + namespace
		c.HTTPClientConfig.FollowRedirects = false // whoever writes an annotation must not choose where we are led
		jobs = append(jobs, job(Annotations, &c, byNamespace[namespace]))
	}
	return jobs, refused
}

func atoi(s string) int32 {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0
	}
	return int32(n)
}

// portsOf gives the ports that annotations tell, else the declared ones.
func portsOf(annotations map[string]string, declared func() []int32) []int32 {
	want := annotations[annotationPort]
	if want == "" {
		return declared()
	}
	if n := atoi(want); n > 0 {
		return []int32{n}
	}
	return nil
}

func asAnnotated(ls model.LabelSet, annotations map[string]string) {
	ls[model.MetricsPathLabel] = "/metrics"
	if path := annotations[annotationPath]; path != "" {
		ls[model.MetricsPathLabel] = model.LabelValue("/" + strings.TrimPrefix(path, "/"))
	}
	if annotations[annotationScheme] == "https" {
		ls[model.SchemeLabel] = "https"
	}
}

func (p *pod) scrapable() bool {
	return p.ip != "" && p.phase != corev1.PodSucceeded && p.phase != corev1.PodFailed
}

// declared are the TCP ports of the containers that keep running.
func (p *pod) declared() []int32 {
	var out []int32
	for _, q := range p.ports {
		if q.number != 0 && !q.init && q.protocol != string(corev1.ProtocolUDP) && q.protocol != string(corev1.ProtocolSCTP) {
			out = append(out, q.number)
		}
	}
	return out
}

// at gives the declared port of a number; without one, the number alone.
func (p *pod) at(number int32) port {
	for _, q := range p.ports {
		if q.number == number {
			return q
		}
	}
	return port{number: number}
}

// target gives a pod's target: who it is, as relabelings and queries want it.
func (p *pod) target(q port, address string) model.LabelSet {
	ls := p.meta()
	q.meta(ls)
	ls[model.AddressLabel] = model.LabelValue(address)
	ls["namespace"], ls["pod"] = model.LabelValue(p.namespace), model.LabelValue(p.name)
	if p.node != "" {
		ls["node"] = model.LabelValue(p.node)
	}
	if q.container != "" {
		ls["container"] = model.LabelValue(q.container)
	}
	owner := p.ownerName
	if hash := p.labels["pod-template-hash"]; hash != "" { // as Deployments name their ReplicaSets
		owner = strings.TrimSuffix(owner, "-"+hash)
	}
	if owner == "" {
		owner = p.name
	}
	ls[model.JobLabel] = model.LabelValue(p.namespace + "/" + owner)
	return ls
}

// endpoints walks the addresses behind a Service with each of its ports; the pod
// is nil where an address is none's.
func (o *Objects) endpoints(v *service, f func(number int32, portName, address string, p *pod)) {
	for _, s := range o.slices {
		if s.namespace != v.namespace || s.service != v.name {
			continue
		}
		for _, e := range s.endpoints {
			var p *pod
			if e.TargetRef != nil && e.TargetRef.Kind == "Pod" {
				if p = o.podByName[s.namespace+"/"+e.TargetRef.Name]; p != nil && !p.scrapable() {
					continue
				}
			}
			for _, q := range s.ports {
				if q.Port == nil {
					continue
				}
				name := ""
				if q.Name != nil {
					name = *q.Name
				}
				for _, a := range e.Addresses {
					f(*q.Port, name, a, p)
				}
			}
		}
	}
}
