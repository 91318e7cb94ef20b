// Package settings owns what the server tells the collectors of a cluster to do:
// its versions, who may change it, and what each collector made of it. It must
// not know what a setting does.
package settings

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/oklog/ulid/v2"

	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/api/control"
	"github.com/crowsnest-dev/crowsnest/api/problem"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// project of the rows in the meta store; their name is the cluster.
const project = "default"

const kind = meta.KindClusterSettings

// Options of a Service.
type Options struct {
	Store *meta.DB // required
	// Senders gives what is known of a cluster's collectors; *control.Hub has it.
	Senders func(cluster string) map[string]control.Sender
	// Size gives how much a cluster has, for estimates; nil gives none.
	Size func(cluster string) Size
	// Changed is told of each change, after its commit.
	Changed func(cluster string)
	Now     func() time.Time // default time.Now
}

// Service knows the settings of all clusters.
type Service struct {
	opts Options

	mu  sync.Mutex
	now map[string]wire.Settings // by cluster
}

// New reads what is stored.
func New(ctx context.Context, o Options) (*Service, error) {
	if o.Store == nil {
		return nil, errors.New("settings: Store is required")
	}
	if o.Senders == nil {
		o.Senders = func(string) map[string]control.Sender { return nil }
	}
	if o.Size == nil {
		o.Size = func(string) Size { return Size{} }
	}
	if o.Changed == nil {
		o.Changed = func(string) {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Service{opts: o, now: map[string]wire.Settings{}}
	err := o.Store.View(ctx, func(tx *meta.Tx) error {
		rows, err := tx.Resources(kind)
		for _, row := range rows {
			var w wire.Settings
			if err := json.Unmarshal(row.Spec, &w); err != nil {
				return fmt.Errorf("settings of cluster %q: %w", row.Name, err)
			}
			w.Version = row.Revision
			s.now[row.Name] = w
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	return s, nil
}

// Of gives the settings for a collector; version 0 where nobody made any.
func (s *Service) Of(cluster, _ string) wire.Settings {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now[cluster]
}

// Forget drops what is known of a cluster that was deleted.
func (s *Service) Forget(cluster string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.now, cluster)
}

// set stores a new version. One that was made from another than the present
// version is fault.ErrConflict.
func (s *Service) set(ctx context.Context, cluster string, from *int64, w wire.Settings, by string) (wire.Settings, error) {
	w.Version = 0
	if err := w.Validate(); err != nil {
		var fs fault.Fields
		if errors.As(err, &fs) {
			for i := range fs {
				fs[i].Path = "settings." + fs[i].Path
			}
		}
		return w, err
	}
	raw, err := json.Marshal(w)
	if err != nil {
		return w, err
	}
	at := s.opts.Now().UTC()
	err = s.opts.Store.Update(ctx, func(tx *meta.Tx) error {
		row, err := tx.Resource(kind, project, cluster)
		if err != nil && !errors.Is(err, fault.ErrNotFound) {
			return err
		}
		if from != nil && *from != row.Revision {
			return fault.Because(fault.ErrConflict, fault.SettingsStale, cluster, row.Revision, *from)
		}
		row.Spec, row.UpdatedAt, row.UpdatedBy = raw, at, by
		if row.Revision > 0 {
			w.Version, err = tx.UpdateResource(row)
			return err
		}
		row.ID, row.Kind, row.Project, row.Name, row.ManagedBy, row.CreatedAt = "set_"+ulid.Make().String(), kind, project, cluster, "console", at
		w.Version = 1
		return tx.CreateResource(row)
	})
	if err != nil {
		return w, err
	}
	s.mu.Lock()
	if w.Version > s.now[cluster].Version {
		s.now[cluster] = w
	}
	s.mu.Unlock()
	s.opts.Changed(cluster)
	return w, nil
}

// Collector is what one collector makes of the settings, and how it is.
type Collector struct {
	Sender           string            `json:"sender" doc:"node/NAME, cluster or all."`
	Role             string            `json:"role"`
	Version          string            `json:"version" doc:"Of the collector's program."`
	Connected        bool              `json:"connected"`
	LastSeenAt       time.Time         `json:"last_seen_at"`
	AppliedVersion   int64             `json:"applied_version" doc:"Of the settings that it took, or refused with the error; 0 for none."`
	Error            string            `json:"error,omitempty" doc:"Why it took nothing of that version: its last good settings are in force."`
	Overridden       map[string]string `json:"overridden,omitempty" doc:"Settings for which its own configuration wins, with the value there."`
	Effective        *Settings         `json:"effective,omitempty" doc:"What is in force; left out until it said so."`
	ClockOffset      float64           `json:"clock_offset_seconds" doc:"By how much its clock is ahead of the server's."`
	QueueBatches     int               `json:"queue_batches" doc:"Waiting to be sent."`
	QueueBytes       int64             `json:"queue_bytes"`
	QueueOldestAt    *time.Time        `json:"queue_oldest_at,omitempty"`
	Dropped          []Drop            `json:"dropped" nullable:"false" doc:"Samples given up since its start, by reason."`
	InventoryBatches int               `json:"inventory_batches,omitempty" doc:"Changes of objects that wait to be sent, in batches."`
	InventoryBytes   int64             `json:"inventory_bytes,omitempty"`
	InventoryDropped []Drop            `json:"inventory_dropped,omitempty" doc:"Objects whose changes were given up since its start, by reason."`
	Scrape           *Scrape           `json:"scrape,omitempty" doc:"What it scrapes beyond the catalogue, and what that costs; left out where it scrapes nothing."`
	SourcesDown      []string          `json:"sources_down" nullable:"false" doc:"Sources whose last attempt failed, with why."`
}

// Drop is what was given up for one reason.
type Drop struct {
	Reason  string    `json:"reason" enum:"age,bytes,disk,refused,damaged,overflow"`
	Samples int64     `json:"samples"`
	From    time.Time `json:"from"`
	To      time.Time `json:"to"`
}

// Scrape is wire.ScrapeHealth as the API has it.
type Scrape struct {
	Families []string         `json:"families" nullable:"false" doc:"Of the raw tier, that this collector reads."`
	Series   map[string]int   `json:"series" doc:"Active series by family, users' own targets included."`
	Most     int              `json:"most" doc:"The budget of all series together; what is beyond it is dropped."`
	Dropped  map[string]int64 `json:"dropped" doc:"Samples dropped since the start, by reason."`
}

// RawFamily is one family of the raw tier and its cost.
type RawFamily struct {
	Name     string `json:"name"`
	Reader   string `json:"reader" doc:"The role that reads it where every node has a collector: node or cluster."`
	Chosen   bool   `json:"chosen" doc:"By these settings; a collector's own configuration may choose others."`
	Series   int    `json:"series" doc:"Active series of all collectors together, as they count them."`
	Estimate int    `json:"estimated_series" doc:"About how many series it would have, by the objects that the inventory holds; by experience, not by measurement."`
}

// Settings is wire.Settings as the API has it. What is left out is as a
// collector has it by itself.
type Settings struct {
	IntervalSeconds int       `json:"interval_seconds,omitempty" doc:"10, 15, 30 or 60; a collector's own is 30."`
	Families        []string  `json:"families,omitempty" doc:"Parts of the catalogue that are computed: core, extras. Core always is; left out: all."`
	Logs            *bool     `json:"logs,omitempty" doc:"Follow containers' logs at all; left out: yes."`
	LogRules        *LogRules `json:"log_rules,omitempty"`
	QueueAgeSeconds int64     `json:"queue_age_seconds,omitempty" doc:"How long samples wait while the server is away, at most as long as it accepts them; left out: 24 h."`
	QueueBytes      int64     `json:"queue_bytes,omitempty" doc:"How many bytes on disk may wait; left out: 1 GiB."`
	Raw             *Raw      `json:"raw,omitempty" doc:"Metrics that pass through under the names of whoever made them, for the community's rules and dashboards; left out: none."`
}

// Raw is wire.Raw as the API has it.
type Raw struct {
	Families []string `json:"families,omitempty" doc:"Of cadvisor, kubelet, kubelet_resource, kubelet_probes, apiserver, node-exporter, kube-state-metrics. raw_families of the answer says what each costs."`
	Series   int      `json:"series,omitempty" doc:"Most series that one collector scrapes altogether, users' own targets included; what is beyond is dropped and counted. Left out: 200,000."`
}

// LogRules is wire.LogRules as the API has it.
type LogRules struct {
	Namespaces     []string `json:"namespaces,omitempty" doc:"Patterns of namespaces whose logs are followed, as shop, team-* or !kube-system."`
	Workloads      []string `json:"workloads,omitempty" doc:"Patterns of workloads, as deployment/cart or !*/noisy."`
	Services       []string `json:"services,omitempty" doc:"Patterns of Services whose pods' logs are followed, as cart, shop/* or !*-canary; of pods that are of several, one that is left out decides."`
	Selector       string   `json:"selector,omitempty" doc:"Selector of the pods' labels."`
	Annotations    string   `json:"annotations,omitempty" doc:"Selector of the pods' annotations that begin with logs.crowsnest.dev/."`
	Mask           []string `json:"mask,omitempty" doc:"Regular expressions that are masked in lines, beside what is masked anyway."`
	LinesPerSecond int64    `json:"lines_per_second,omitempty" doc:"What one container may log; the rest is dropped and told in its log."`
	BytesPerSecond int64    `json:"bytes_per_second,omitempty"`
	RecordBytes    int      `json:"record_bytes,omitempty" doc:"Longer records are cut."`

	Multiline []Multiline `json:"multiline,omitempty" doc:"How lines become records: the first rule that matches a container decides. A pod's annotation logs.crowsnest.dev/multiline-start wins; where none matches, stack traces and what is indented below a line are joined. At most 32."`
}

// Multiline is wire.Multiline as the API has it.
type Multiline struct {
	Namespaces  []string `json:"namespaces,omitempty" doc:"Patterns of namespaces; every part that is given must match, and what is left out matches all."`
	Workloads   []string `json:"workloads,omitempty" doc:"Patterns of workloads, as deployment/cart or !*/noisy."`
	Containers  []string `json:"containers,omitempty" doc:"Patterns of containers' names, as app or !istio-*."`
	Selector    string   `json:"selector,omitempty" doc:"Selector of the pods' labels."`
	Annotations string   `json:"annotations,omitempty" doc:"Selector of the pods' annotations that begin with logs.crowsnest.dev/."`
	Start       string   `json:"start,omitempty" doc:"Regular expression (RE2, at most 512 bytes): a line that matches begins a record, any other continues one."`
	Off         bool     `json:"off,omitempty" doc:"Instead of start: every line is a record."`
}

func toWire(in Settings) wire.Settings {
	out := wire.Settings{IntervalSeconds: in.IntervalSeconds, Logs: in.Logs, QueueAgeSeconds: in.QueueAgeSeconds, QueueBytes: in.QueueBytes}
	for _, f := range in.Families {
		out.Families = append(out.Families, catalogue.Family(f))
	}
	if in.LogRules != nil {
		r := in.LogRules
		out.LogRules = &wire.LogRules{
			Namespaces: r.Namespaces, Workloads: r.Workloads, Services: r.Services, Selector: r.Selector, Annotations: r.Annotations,
			Mask: r.Mask, LinesPerSecond: r.LinesPerSecond, BytesPerSecond: r.BytesPerSecond, RecordBytes: r.RecordBytes,
		}
		for _, m := range r.Multiline {
			out.LogRules.Multiline = append(out.LogRules.Multiline, wire.Multiline(m))
		}
	}
	if in.Raw != nil {
		r := wire.Raw(*in.Raw)
		out.Raw = &r
	}
	return out
}

func fromWire(in wire.Settings) Settings {
	out := Settings{IntervalSeconds: in.IntervalSeconds, Logs: in.Logs, QueueAgeSeconds: in.QueueAgeSeconds, QueueBytes: in.QueueBytes}
	for _, f := range in.Families {
		out.Families = append(out.Families, string(f))
	}
	if in.LogRules != nil {
		r := in.LogRules
		out.LogRules = &LogRules{
			Namespaces: r.Namespaces, Workloads: r.Workloads, Services: r.Services, Selector: r.Selector, Annotations: r.Annotations,
			Mask: r.Mask, LinesPerSecond: r.LinesPerSecond, BytesPerSecond: r.BytesPerSecond, RecordBytes: r.RecordBytes,
		}
		for _, m := range r.Multiline {
			out.LogRules.Multiline = append(out.LogRules.Multiline, Multiline(m))
		}
	}
	if in.Raw != nil {
		r := Raw(*in.Raw)
		out.Raw = &r
	}
	return out
}

// ClusterSettings are a cluster's settings and what became of them.
type ClusterSettings struct {
	Cluster    string      `json:"cluster"`
	Version    int64       `json:"version" doc:"One more with each change; 0 where nobody made any."`
	Settings   Settings    `json:"settings"`
	Raw        []RawFamily `json:"raw_families" nullable:"false" doc:"Every family of the raw tier, and what it costs."`
	Collectors []Collector `json:"collectors" nullable:"false" doc:"Those that are connected, or were in the last 24 h, by name."`
}

func (s *Service) describe(cluster string) ClusterSettings {
	w := s.Of(cluster, "")
	out := ClusterSettings{Cluster: cluster, Version: w.Version, Settings: fromWire(w), Collectors: []Collector{}}
	senders := s.opts.Senders(cluster)
	out.Raw = s.costs(w, cluster, senders)
	for _, name := range slices.Sorted(maps.Keys(senders)) {
		e := senders[name]
		c := Collector{
			Sender: name, Role: e.Hello.Role, Version: e.Hello.ProductVersion, Connected: e.Connected, LastSeenAt: e.LastSeenAt.UTC(),
			AppliedVersion: e.Applied.Version, Error: e.Applied.Error, Overridden: e.Applied.Overridden, ClockOffset: e.OffsetSeconds,
			QueueBatches: e.Health.Queue.Batches, QueueBytes: e.Health.Queue.Bytes, Dropped: []Drop{}, SourcesDown: []string{},
		}
		if e.Applied.Effective != nil {
			effective := fromWire(*e.Applied.Effective)
			c.Effective = &effective
		}
		if at := e.Health.Queue.OldestAt; !at.IsZero() {
			c.QueueOldestAt = &at
		}
		for _, d := range e.Health.Queue.Drops {
			c.Dropped = append(c.Dropped, Drop(d))
		}
		if h := e.Health.Scrape; h != nil {
			c.Scrape = &Scrape{Families: append([]string{}, h.Families...), Series: h.Series, Most: h.Most, Dropped: h.Dropped}
		}
		if q := e.Health.Inventory; q != nil {
			c.InventoryBatches, c.InventoryBytes = q.Batches, q.Bytes
			for _, d := range q.Drops {
				c.InventoryDropped = append(c.InventoryDropped, Drop(d))
			}
		}
		for _, src := range e.Health.Sources {
			if !src.Up {
				c.SourcesDown = append(c.SourcesDown, fmt.Sprintf("%s: %s", src.Name, src.Error))
			}
		}
		out.Collectors = append(out.Collectors, c)
	}
	return out
}

// Size is how much a cluster has.
type Size struct{ Nodes, Pods, Containers, Workloads int }

// costs says of each family of the raw tier what it costs.
func (s *Service) costs(w wire.Settings, cluster string, senders map[string]control.Sender) []RawFamily {
	size := s.opts.Size(cluster)
	out := []RawFamily{}
	for _, f := range wire.RawFamilies {
		r := RawFamily{Name: f, Reader: wire.RawReader(f), Chosen: w.Raw != nil && slices.Contains(w.Raw.Families, f), Estimate: estimate(f, size)}
		for _, e := range senders {
			if e.Health.Scrape != nil && e.Connected {
				r.Series += e.Health.Scrape.Series[f]
			}
		}
		out = append(out, r)
	}
	return out
}

// estimate is by experience with Kubernetes v1.34 on cgroup v1: what a family
// showed there for each object.
func estimate(family string, s Size) int {
	switch family {
	case wire.RawCadvisor:
		return 450*s.Nodes + 50*s.Containers + 30*s.Pods
	case wire.RawKubelet:
		return 1_700 * s.Nodes
	case wire.RawResource:
		return 10*s.Nodes + 4*s.Containers + 2*s.Pods
	case wire.RawProbes:
		return 6 * s.Containers
	case wire.RawAPIServer:
		return 20_000
	case wire.RawNodeExporter:
		return 600 * s.Nodes
	case wire.RawKubeState:
		return 100*s.Nodes + 30*s.Pods + 15*s.Containers + 15*s.Workloads
	}
	return 0
}

type getInput struct {
	Cluster string `path:"cluster" doc:"The cluster's id." maxLength:"63"`
}

// SettingsChange asks for other settings.
type SettingsChange struct {
	Version  *int64   `json:"version,omitempty" doc:"The version that the change was made from; another present one is a conflict. Left out: whatever is there is replaced."`
	Settings Settings `json:"settings"`
}

type putInput struct {
	Cluster string `path:"cluster" doc:"The cluster's id." maxLength:"63"`
	Body    SettingsChange
}

type output struct{ Body ClusterSettings }

// Register adds GET and PUT /clusters/{cluster}/settings. A service that is nil
// serves for the document only.
func Register(api huma.API, s *Service) {
	huma.Register(api, huma.Operation{
		OperationID: "get-cluster-settings", Method: http.MethodGet, Path: "/clusters/{cluster}/settings", Tags: []string{"clusters"},
		Summary:     "Show what a cluster's collectors are told, and what they made of it",
		Description: "The settings' version and content, and for each collector the version that it applied, what its own configuration overrides, what is in force, its queue, its clock and the sources that fail.",
	}, func(ctx context.Context, in *getInput) (*output, error) {
		if err := access.Authorize(ctx, access.Read, in.Cluster, ""); err != nil {
			return nil, problem.Error(err)
		}
		return &output{s.describe(in.Cluster)}, nil
	})
	huma.Register(api, huma.Operation{
		OperationID: "put-cluster-settings", Method: http.MethodPut, Path: "/clusters/{cluster}/settings", Tags: []string{"clusters"},
		Summary:     "Change what a cluster's collectors are told",
		Description: "The settings are replaced as a whole and go to every connected collector at once; the others get them when they connect. A collector keeps the last ones that it could apply over restarts.",
	}, func(ctx context.Context, in *putInput) (*output, error) {
		if err := access.Authorize(ctx, access.Write, in.Cluster, ""); err != nil {
			return nil, problem.Error(err)
		}
		p, _ := access.From(ctx)
		if _, err := s.opts.Store.GetCluster(ctx, in.Cluster); err != nil {
			return nil, problem.Error(err)
		}
		if _, err := s.set(ctx, in.Cluster, in.Body.Version, toWire(in.Body.Settings), p.Name); err != nil {
			return nil, problem.Error(err)
		}
		return &output{s.describe(in.Cluster)}, nil
	})
}
