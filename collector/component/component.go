// Package component reads the control plane: whether each of its parts says
// that it is healthy, how soon, and the few figures of their /metrics that the
// catalogue has. It owns which parts show and how each is asked. It must not
// know what is computed of the readings.
package component

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/crowsnest-dev/crowsnest/collector/reading"
	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/object"
)

// Names of components, as the label has them.
const (
	APIServer         = "apiserver"
	Etcd              = "etcd"
	Scheduler         = "scheduler"
	ControllerManager = "controller_manager"
	CoreDNS           = "coredns"
)

// Names lists those that can be given an address.
var Names = []string{Etcd, Scheduler, ControllerManager}

const (
	// metricsEvery is how often /metrics is read: the API server's has several
	// megabytes.
	metricsEvery = time.Minute
	timeout      = 5 * time.Second
	maxBody      = 64 << 20
)

// Options of a Source.
type Options struct {
	API    *url.URL     // of the API server; required
	Client *http.Client // with the credential for it; required
	// Targets are addresses (https://10.0.0.5:10259) of components that the API
	// server does not stand for, by name.
	Targets map[string]string
	Direct  *http.Client // for Targets, and for what static pods show; default http.DefaultClient
	// ClientCert says that Direct has a client certificate, without which etcd
	// answers nobody.
	ClientCert bool
	Logger     *slog.Logger
	Now        func() time.Time // default time.Now
}

// Source reads the control plane. Read must not be called concurrently with itself.
type Source struct {
	o       Options
	log     *slog.Logger
	now     func() time.Time
	targets map[string]*url.URL
	mu      sync.Mutex
	last    map[string]*figures // of /metrics, by component
	said    string
}

// New checks the options; it does not connect.
func New(o Options) (*Source, error) {
	var fs fault.Fields
	if o.API == nil || o.Client == nil {
		return nil, errors.New("component: API and Client are required")
	}
	targets := map[string]*url.URL{}
	for name, address := range o.Targets {
		u, err := url.Parse(address)
		switch {
		case !slices.Contains(Names, name):
			fs.Add("component", "must be "+strings.Join(Names, ", ")+" before the =", name)
		case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
			fs.Add("component."+name, "must be an address as https://10.0.0.5:10259", address)
		default:
			targets[name] = u
		}
	}
	if err := fs.Err(); err != nil {
		return nil, err
	}
	if o.Direct == nil {
		o.Direct = http.DefaultClient
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Source{o: o, log: o.Logger, now: o.Now, targets: targets, last: map[string]*figures{}}, nil
}

// Name of the source, for health and metrics.
func (s *Source) Name() string { return string(catalogue.Components) }

// Read asks every component that shows. One that does not answer is not ready;
// that is a reading, and no error of the source.
func (s *Source) Read(ctx context.Context, _ time.Time, now *state.Snapshot) []reading.Set {
	began := s.now()
	set := reading.Set{Source: catalogue.Components, Lacking: map[string]string{}}
	var (
		wg  sync.WaitGroup
		mu  sync.Mutex
		out []reading.Component
	)
	ask := func(fn func() []reading.Component) {
		wg.Go(func() {
			cs := fn()
			mu.Lock()
			out = append(out, cs...)
			mu.Unlock()
		})
	}
	ask(func() []reading.Component { return s.apiServer(ctx, now.OnlyVirtualNodes()) })
	for name, u := range s.targets {
		ask(func() []reading.Component { return []reading.Component{s.target(ctx, name, name, u)} })
	}
	seen, hidden := s.discover(now)
	for _, f := range seen {
		ask(func() []reading.Component {
			c := s.target(ctx, f.name, f.name+"@"+f.at.Host, f.at)
			if c.ProbeTook == 0 { // nobody said that it can be reached from here; its pod is judged by its own probes
				mu.Lock()
				hidden[f.name] = fmt.Sprintf("%s does not answer at %s, where its pod says that it listens", f.name, f.at)
				mu.Unlock()
				return nil
			}
			return []reading.Component{c}
		})
	}
	wg.Wait()
	out = append(out, s.pods(now)...)
	slices.SortFunc(out, func(a, b reading.Component) int { return strings.Compare(a.Name+"/"+a.Instance, b.Name+"/"+b.Instance) })
	set.Components = out
	set.Err = s.lacking(&set, hidden)
	set.Took = s.now().Sub(began)
	text := ""
	if set.Err != nil {
		text = set.Err.Error()
	}
	if text != "" && text != s.said {
		s.log.Warn("read control plane", "err", text)
	}
	s.said = text
	return []reading.Set{set}
}

// lacking says what no component told, and why.
func (s *Source) lacking(set *reading.Set, hidden map[string]string) error {
	api := s.last[APIServer]
	if api != nil && api.err != nil {
		for _, name := range []string{"k8s_component_request_rate", "k8s_component_request_error_ratio", "k8s_component_request_p99"} {
			set.Lacking[name] = api.err.Error()
		}
	}
	for name, metrics := range map[string][]string{
		Etcd:      {"k8s_component_leader_changes_total", "k8s_component_fsync_p99"},
		Scheduler: {"k8s_component_pending_pods", "k8s_component_scheduling_p99"},
	} {
		if slices.ContainsFunc(set.Components, func(c reading.Component) bool {
			return c.Name == name && (c.LeaderChanges.OK() || c.PendingPods.OK())
		}) {
			continue
		}
		why := fmt.Sprintf("the address of %s is not known; name it with --component %s=https://…", name, name)
		if hidden[name] != "" {
			why = hidden[name] + "; name its address with --component " + name + "=https://…"
		}
		for key, f := range s.last {
			if of, _, _ := strings.Cut(key, "@"); of == name && f.err != nil {
				why = f.err.Error()
			}
		}
		if s.targets[name] != nil && s.last[name] != nil && s.last[name].err == nil {
			continue
		}
		for _, m := range metrics {
			set.Lacking[m] = why
		}
	}
	if !slices.ContainsFunc(set.Components, func(c reading.Component) bool { return c.DatabaseBytes.OK() }) {
		set.Lacking["k8s_component_database_bytes"] = "neither etcd nor the API server tells the size of the database"
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(s.last)) {
		if strings.Contains(name, "@") {
			continue // nobody asked for it: what it lacks is said above
		}
		errs = append(errs, s.last[name].err)
	}
	return errors.Join(errs...)
}

// apiServer probes the API server, and etcd by its word.
func (s *Source) apiServer(ctx context.Context, elastic bool) []reading.Component {
	api := reading.Component{Name: APIServer, At: s.now()}
	s.probe(ctx, s.o.Client, s.o.API, "/readyz", &api)
	if api.ProbeTook == 0 {
		return []reading.Component{api} // what is behind it is not known either
	}
	etcd := reading.Component{Name: Etcd, Instance: "by the API server", At: s.now()}
	answered := s.probe(ctx, s.o.Client, s.o.API, "/readyz/etcd", &etcd)
	if elastic {
		// The provider's own, for many clusters: that it answers is all that is of this
		// one.
		etcd.ProbeTook, etcd.CertExpires = 0, time.Time{}
		if !answered {
			return []reading.Component{api}
		}
		return []reading.Component{api, etcd}
	}
	f := s.figures(ctx, s.o.Client, s.o.API, APIServer)
	api.Requests, api.Errors, api.Latency = f.requests, f.errors, f.latency
	etcd.DatabaseBytes, etcd.ProbeTook, etcd.CertExpires = f.database, 0, time.Time{}
	if !answered {
		// It may not be asked, or does not know the check: what it shows of etcd
		// is only the size.
		if !f.database.OK() {
			return []reading.Component{api}
		}
		etcd.Ready = api.Ready // it cannot answer without etcd
	}
	return []reading.Component{api, etcd}
}

// target reads a component at an address of its own.
func (s *Source) target(ctx context.Context, name, key string, u *url.URL) reading.Component {
	c := reading.Component{Name: name, Instance: u.Host, At: s.now()}
	path := "/healthz"
	if name == Etcd {
		path = "/health"
	}
	s.probe(ctx, s.o.Direct, u, path, &c)
	f := s.figures(ctx, s.o.Direct, u, key)
	c.DatabaseBytes, c.LeaderChanges, c.Fsync, c.PendingPods, c.Scheduling = f.database, f.leaders, f.fsync, f.pending, f.scheduling
	return c
}

// probe asks a component whether it is healthy, and says whether it told. One
// that refuses the question answers, so it is up; one that does not know it
// told nothing.
func (s *Source) probe(ctx context.Context, client *http.Client, base *url.URL, path string, c *reading.Component) (told bool) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base.JoinPath(path).String(), nil)
	if err != nil {
		return false
	}
	began := s.now()
	resp, err := client.Do(req)
	if err != nil {
		return true // it does not answer: not ready
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	c.ProbeTook = max(s.now().Sub(began), time.Microsecond)
	if resp.TLS != nil && len(resp.TLS.PeerCertificates) > 0 {
		c.CertExpires = resp.TLS.PeerCertificates[0].NotAfter
	}
	switch resp.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		c.Ready = true
		return false
	case http.StatusNotFound:
		c.Ready = true
		return false
	}
	c.Ready = resp.StatusCode == http.StatusOK
	return true
}

// figures reads /metrics once a minute, and gives the last ones in between.
func (s *Source) figures(ctx context.Context, client *http.Client, base *url.URL, name string) *figures {
	s.mu.Lock()
	f := s.last[name]
	s.mu.Unlock()
	if f != nil && s.now().Sub(f.asked) < metricsEvery-5*time.Second {
		return f
	}
	f = &figures{asked: s.now()}
	f.err = f.read(ctx, client, base, f.asked)
	if f.err != nil {
		f.err = fmt.Errorf("read /metrics of %s: %w", name, f.err)
	}
	s.mu.Lock()
	s.last[name] = f
	s.mu.Unlock()
	return f
}

// pods gives components that show as pods: static ones in kube-system by the
// label that kubeadm and others put on them, and the cluster's DNS.
func (s *Source) pods(now *state.Snapshot) []reading.Component {
	var out []reading.Component
	for _, p := range now.Pods {
		name := componentOf(p)
		if name == "" || p.Ended() || p.Terminating {
			continue
		}
		out = append(out, reading.Component{Name: name, Instance: p.Name, Ready: p.Ready, At: s.now()})
	}
	return out
}

// componentOf tells which component a pod is; empty for none. The API server
// and whatever has an address of its own are asked themselves besides.
func componentOf(p *object.Pod) string {
	if p.Namespace != "kube-system" {
		return ""
	}
	switch p.Labels["component"] {
	case "etcd":
		return Etcd
	case "kube-scheduler":
		return Scheduler
	case "kube-controller-manager":
		return ControllerManager
	}
	if app := p.Labels["k8s-app"]; app == "kube-dns" || app == "coredns" {
		return CoreDNS
	}
	return ""
}
