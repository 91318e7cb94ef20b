// Package catalogue declares every metric of the product, once. What the
// collector computes, which rollups the server writes, what a policy may name,
// the API's catalogue, the console's charts and the reference page are derived
// from it. It must not know how anything is collected, stored or shown; it
// imports nothing of ours and is imported by all.
package catalogue

import (
	"regexp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/nearest"
)

// Level is what a metric is about.
type Level string

const (
	Cluster   Level = "cluster"
	Node      Level = "node"
	Namespace Level = "namespace"
	Workload  Level = "workload"
	Service   Level = "service"
	Pod       Level = "pod"
	Container Level = "container"
	Volume    Level = "volume"
	Component Level = "component"
)

// Levels lists every level from the widest to the narrowest.
var Levels = []Level{Cluster, Node, Namespace, Workload, Service, Pod, Container, Volume, Component}

// ObjectLabels are the labels that name one object of the level, and nothing
// more. The series of a pod carry further ones (its node and workload), which
// say where it belongs.
func (l Level) ObjectLabels() []string {
	switch l {
	case Cluster:
		return []string{"cluster"}
	case Node:
		return []string{"cluster", "node"}
	case Namespace:
		return []string{"cluster", "namespace"}
	case Workload:
		return []string{"cluster", "namespace", "workload_type", "workload"}
	case Service:
		return []string{"cluster", "namespace", "service"}
	case Pod:
		return []string{"cluster", "namespace", "pod"}
	case Container:
		return []string{"cluster", "namespace", "pod", "container"}
	case Volume:
		return []string{"cluster", "namespace", "persistentvolumeclaim"}
	case Component:
		return []string{"cluster", "component"}
	}
	return nil
}

// SeriesLabels are all labels that a series of the level carries before the
// metric's own Dimensions.
func (l Level) SeriesLabels() []string {
	switch l {
	case Pod:
		return []string{"cluster", "namespace", "workload_type", "workload", "pod", "node"}
	case Container:
		return []string{"cluster", "namespace", "workload_type", "workload", "pod", "node", "container"}
	}
	return l.ObjectLabels()
}

// Unit is the unit of a metric's values.
type Unit string

const (
	Percent        Unit = "%"
	Cores          Unit = "cores"
	Bytes          Unit = "B"
	BytesPerSecond Unit = "B/s"
	PerSecond      Unit = "1/s"
	Seconds        Unit = "s"
	Days           Unit = "d"
	Count          Unit = "count"
	Bool           Unit = "0/1"
)

// Kind tells how values behave over time.
type Kind string

const (
	Gauge   Kind = "gauge"   // a measurement, one a grid point
	Counter Kind = "counter" // rises; a fall is a reset. Its statistic is increase
	State   Kind = "state"   // holds until it changes; also sent the moment it changes
)

// Place is who computes a metric.
type Place string

const (
	ByNode    Place = "node"    // the collector that reads the node's kubelet
	ByCluster Place = "cluster" // the collector that watches the objects
	ByServer  Place = "server"  // summed up from others by the server: a rollup
)

// Source is where readings come from.
type Source string

const (
	CadvisorLabels Source = "cadvisor"       // kubelet /metrics/cadvisor, labels filled
	CadvisorPaths  Source = "cadvisor_paths" // the same without labels, mapped by cgroup path
	ResourceAPI    Source = "resource"       // kubelet /metrics/resource
	StatsSummary   Source = "stats_summary"  // kubelet /stats/summary
	MetricsAPI     Source = "metrics_api"    // metrics.k8s.io, for pods on virtual nodes
	PodEndpoint    Source = "pod_endpoint"   // what a pod on a virtual node shows of itself
	Host           Source = "host"           // the node's own /proc and /sys
	Cgroups        Source = "cgroups"        // the node's own cgroup files
	Objects        Source = "objects"        // the API server's objects
	Components     Source = "components"     // control plane: health checks and /metrics of its components
	Rollup         Source = "rollup"         // samples that the server received
	Lines          Source = "logs"           // the followed logs of containers
	Probes         Source = "probes"         // kubelet /metrics/probes
	Peers          Source = "peers"          // other nodes' answers to this one
	Expression     Source = "promql"         // an expression over stored series
)

// ClusterKind is the sort of a cluster; what it has differs.
type ClusterKind string

const (
	Managed     ClusterKind = "managed"
	Independent ClusterKind = "independent"
	Elastic     ClusterKind = "elastic" // no nodes of one's own
	Edge        ClusterKind = "edge"
)

// Statistic is how the samples of a period become one value.
type Statistic string

const (
	Avg      Statistic = "avg"
	Max      Statistic = "max"
	Min      Statistic = "min"
	Sum      Statistic = "sum"
	Last     Statistic = "last"
	P50      Statistic = "p50"
	P95      Statistic = "p95"
	P99      Statistic = "p99"
	Increase Statistic = "increase" // exact, of a counter
)

// Statistics lists every statistic.
var Statistics = []Statistic{Avg, Max, Min, Sum, Last, P50, P95, P99, Increase}

// Severity of an alert, the worst last.
type Severity string

const (
	Info     Severity = "info"
	Warning  Severity = "warning"
	Critical Severity = "critical"
)

// Severities lists every severity, the least severe first.
var Severities = []Severity{Info, Warning, Critical}

// Alert is the condition that a preset or a form starts from.
type Alert struct {
	Statistic Statistic     `json:"statistic"`
	Op        string        `json:"op"` // > >= < <= == !=
	Threshold float64       `json:"threshold"`
	Period    time.Duration `json:"-"`
	Need      int           `json:"need"` // bad periods needed
	Of        int           `json:"of"`   // among the newest so many
	Severity  Severity      `json:"severity"`
}

// Summed declares a rollup: the sum of another metric's samples over all its
// series that agree in the labels of the rollup's level.
type Summed struct {
	Of string `json:"of"`
	// Per divides the sum by this metric of the same level and makes it per
	// cent; empty means the sum itself.
	Per string `json:"per,omitempty"`
}

// Metric is one entry.
type Metric struct {
	Name  string `json:"name"`
	Title string `json:"title"` // in the user's words; the name is for machines
	Help  string `json:"help"`
	Level Level  `json:"level"`
	Unit  Unit   `json:"unit"`
	Kind  Kind   `json:"kind"`
	Core  bool   `json:"core"` // one of the 32 that every cluster is judged by
	// Dimensions are labels beyond the level's: a node has a file system usage
	// for each mountpoint.
	Dimensions []string `json:"dimensions,omitempty"`
	Place      Place    `json:"place"`
	From       []Source `json:"from"` // best first
	Sum        *Summed  `json:"sum,omitempty"`
	// Expr is PromQL over other metrics' series, which the server evaluates for
	// each cluster once its sums are written. All metrics that users add have one.
	Expr string `json:"expr,omitempty"`
	// Absent says when an object that is alive has no series; empty means never.
	Absent string `json:"absent,omitempty"`
	// Lacking names the cluster kinds that do not have the metric, and why.
	Lacking map[ClusterKind]string `json:"lacking,omitempty"`
	// LackingOutside says why role all, which reads a cluster from outside its
	// nodes, cannot have the metric; empty means that it can.
	LackingOutside string    `json:"lacking_outside,omitempty"`
	Statistic      Statistic `json:"statistic"` // what a form offers first
	Alert          *Alert    `json:"alert,omitempty"`
	Chart          Chart     `json:"chart"`
}

// Chart says how the metric is drawn.
type Chart struct {
	Group string  `json:"group"`         // charts of one group share a panel: "network" holds receive and transmit
	Max   float64 `json:"max,omitempty"` // top of the axis unless data goes beyond; 0 means by the data
}

// Family is a part of the catalogue that can be left out.
type Family string

const (
	CoreFamily   Family = "core"   // what every cluster is judged by, and what it is of; never left out
	ExtrasFamily Family = "extras" // everything else
)

// Families lists every family.
var Families = []Family{CoreFamily, ExtrasFamily}

// Family tells which family the metric belongs to.
func (m Metric) Family() Family {
	if slices.ContainsFunc(core, func(c Metric) bool { return c.Name == m.Name }) {
		return CoreFamily
	}
	return ExtrasFamily
}

var declaredNames = regexp.MustCompile(`\bk8s_[a-z0-9_]+`)

// Parts are the metrics of the catalogue that the server computes this one of, in
// the order in which the entry names them; none where a collector computes it.
func (m Metric) Parts() (names []string) {
	if m.Sum != nil {
		names = append(names, m.Sum.Of)
		if m.Sum.Per != "" {
			names = append(names, m.Sum.Per)
		}
	}
	return append(names, declaredNames.FindAllString(m.Expr, -1)...)
}

// Labels are all labels of the metric's series, in order.
func (m Metric) Labels() []string {
	return append(slices.Clone(m.Level.SeriesLabels()), m.Dimensions...)
}

// All gives every metric of the product, ordered by level and then as declared.
func All() []Metric { return slices.Clone(metrics) }

// custom are the metrics that users added. They are the one part of the catalogue
// that changes while a process runs, and the catalogue is asked from everywhere:
// by policies' validation, the engine, boards, messages. So they are kept here,
// replaced as a whole by their one owner, and never touched otherwise.
var custom atomic.Pointer[[]Metric]

// SetCustom replaces the metrics that users added. Only whoever owns them calls it.
func SetCustom(all []Metric) {
	all = slices.Clone(all)
	custom.Store(&all)
}

// Custom gives the metrics that users added, by name.
func Custom() []Metric {
	if all := custom.Load(); all != nil {
		return slices.Clone(*all)
	}
	return nil
}

// Declared finds a metric of the product by name.
func Declared(name string) (Metric, bool) {
	i, ok := byName[name]
	if !ok {
		return Metric{}, false
	}
	return metrics[i], true
}

// Get finds a metric by name, one that users added too.
func Get(name string) (Metric, bool) {
	if m, ok := Declared(name); ok {
		return m, true
	}
	if all := custom.Load(); all != nil {
		if i := slices.IndexFunc(*all, func(m Metric) bool { return m.Name == name }); i >= 0 {
			return (*all)[i], true
		}
	}
	return Metric{}, false
}

// Nearest gives the name that is most like the given one, for error messages;
// empty when nothing is near.
func Nearest(name string) string {
	var names []string
	for _, m := range slices.Concat(metrics, Custom()) {
		names = append(names, m.Name)
	}
	return nearest.Word(name, names, len(name)/3)
}

var byName = func() map[string]int {
	idx := make(map[string]int, len(metrics))
	for i, m := range metrics {
		if _, twice := idx[m.Name]; twice {
			panic("BUG: catalogue declares " + m.Name + " twice")
		}
		idx[m.Name] = i
	}
	return idx
}()

// Rank orders severities: info 1, warning 2, critical 3, anything else 0.
func (s Severity) Rank() int { return slices.Index(Severities, s) + 1 }

// PrefixOf is the prefix that all metric names of a level have.
func PrefixOf(l Level) string {
	if l == Volume {
		return "k8s_pvc_" // the object that users know
	}
	return "k8s_" + string(l) + "_"
}
