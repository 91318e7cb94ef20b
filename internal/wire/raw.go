package wire

import (
	"fmt"
	"slices"
	"strings"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// Families of the raw tier: metrics that pass through under the names of
// whoever made them.
const (
	RawCadvisor     = "cadvisor"           // container_* and machine_* of each node
	RawKubelet      = "kubelet"            // the kubelet's own, kubelet_volume_stats_* among them
	RawResource     = "kubelet_resource"   // CPU and memory as metrics-server reads them
	RawProbes       = "kubelet_probes"     // prober_probe_total
	RawAPIServer    = "apiserver"          // apiserver_*, and etcd's as the API server sees it
	RawNodeExporter = "node-exporter"      // node_* of each node that has a collector of its own
	RawKubeState    = "kube-state-metrics" // kube_* of the cluster's objects
)

// RawFamilies lists every family of the raw tier.
var RawFamilies = []string{RawCadvisor, RawKubelet, RawResource, RawProbes, RawAPIServer, RawNodeExporter, RawKubeState}

// RawReader says which role reads a family where each node has a collector.
func RawReader(family string) string {
	if family == RawAPIServer || family == RawKubeState {
		return RoleCluster
	}
	return RoleNode
}

// Raw chooses the raw tier.
type Raw struct {
	Families []string `json:"families,omitempty"`
	// Series bounds what one collector scrapes altogether, users' own targets
	// included; 0 leaves it as the collector has it.
	Series int `json:"series,omitempty"`
}

// MaxRawSeries bounds Raw.Series.
const MaxRawSeries = 10_000_000

func (r *Raw) validate(fs *fault.Fields) {
	for i, f := range r.Families {
		if !slices.Contains(RawFamilies, f) {
			fs.Say(fmt.Sprintf("raw.families[%d]", i), fault.Say(fault.OneOf, strings.Join(RawFamilies, ", ")), f)
		}
	}
	if r.Series < 0 || r.Series > MaxRawSeries {
		fs.Say("raw.series", fault.Say(fault.Between, 0, MaxRawSeries), r.Series)
	}
}

// ScrapeHealth is what a collector scrapes, and what it costs.
type ScrapeHealth struct {
	Series   map[string]int   `json:"series,omitempty"`   // active ones, by family
	Most     int              `json:"most,omitempty"`     // the budget of all together
	Dropped  map[string]int64 `json:"dropped,omitempty"`  // samples since the start, by reason
	Families []string         `json:"families,omitempty"` // of the raw tier, that are read here
}
