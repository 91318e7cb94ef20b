package world

import (
	"fmt"
	"testing"

	"github.com/crowsnest-dev/crowsnest/collector/kube"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// The server chooses the raw tier for a cluster; each role takes of it what it
// reads, and what its own configuration says wins and is named.
func TestTheServerChoosesTheRawTier(t *testing.T) {
	config := kubeconfig(t)
	for name, tc := range map[string]struct {
		role             string
		own              Scrape
		said             *wire.Raw
		families         string
		most             int
		overridden, fail string
	}{
		"nobody chose":              {role: wire.RoleCluster, families: "nothing"},
		"what a node reads":         {role: wire.RoleNode, said: &wire.Raw{Families: wire.RawFamilies, Series: 5}, families: "[cadvisor kubelet kubelet_resource kubelet_probes node-exporter]", most: 5},
		"what the cluster reads":    {role: wire.RoleCluster, said: &wire.Raw{Families: wire.RawFamilies}, families: "[apiserver kube-state-metrics]", most: 200_000},
		"what is read from outside": {role: wire.RoleAll, said: &wire.Raw{Families: []string{wire.RawNodeExporter, wire.RawCadvisor, wire.RawKubeState}}, families: "[cadvisor kube-state-metrics]", most: 200_000},
		"nothing of it is read here": {
			role: wire.RoleNode, said: &wire.Raw{Families: []string{wire.RawKubeState}}, families: "nothing",
		},
		"its own configuration wins": {
			role: wire.RoleNode, own: Scrape{Raw: []string{wire.RawCadvisor}, Series: 7}, said: &wire.Raw{Families: []string{wire.RawKubelet}, Series: 9},
			families: "[cadvisor]", most: 7, overridden: "map[raw.families:cadvisor raw.series:7]",
		},
		"unknown": {role: wire.RoleNode, said: &wire.Raw{Families: []string{"nonsense"}}, fail: "unknown family"},
	} {
		o := Options{Kube: kube.Config{Kubeconfig: config}, Role: tc.role, Node: "n1", Dir: t.TempDir(), NoLogs: true, Scrape: tc.own, HostSys: t.TempDir()}
		opened, err := Open(t.Context(), o)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		overridden, err := opened.World.Scraper.SetRaw(tc.said)
		if (err != nil) != (tc.fail != "") {
			t.Errorf("%s: %v", name, err)
		}
		if tc.fail != "" {
			continue
		}
		got, most := "nothing", 0
		if cost := opened.World.Scraper.Cost(); cost != nil {
			got, most = fmt.Sprint(cost.Families), cost.Most
		}
		if got != tc.families || most != tc.most {
			t.Errorf("%s: %s with at most %d series", name, got, most)
		}
		if tc.overridden == "" {
			tc.overridden = "map[]"
		}
		if fmt.Sprint(overridden) != tc.overridden {
			t.Errorf("%s: overridden %v", name, overridden)
		}
	}
}
