package compute

import "github.com/crowsnest-dev/crowsnest/internal/catalogue"

// metric is what compute keeps of a catalogue entry. Its slot is its place among
// the metrics of its level, so that an entity notes its series in one word.
type metric struct {
	name  string
	slot  uint8
	keeps bool // its last value is kept, to see changes
}

// own is the level of the collector's own series.
const own catalogue.Level = "collector"

// table holds the metrics of each level by slot.
var table = func() map[catalogue.Level][]*metric {
	t := map[catalogue.Level][]*metric{}
	add := func(l catalogue.Level, name string, keeps bool) {
		if len(t[l]) == 64 {
			panic("BUG: more than 64 metrics at level " + string(l))
		}
		t[l] = append(t[l], &metric{name: name, slot: uint8(len(t[l])), keeps: keeps})
	}
	for _, m := range catalogue.All() {
		if m.Place != catalogue.ByServer {
			add(m.Level, m.Name, m.Place == catalogue.ByCluster && m.Kind != catalogue.Gauge)
		}
	}
	for _, name := range []string{SourceUp, SourceExpected, SourceMeasured, SourceOldest, CollectionInterval} {
		add(own, name, false)
	}
	return t
}()

func find(name string) *metric {
	for _, ms := range table {
		for _, m := range ms {
			if m.name == name {
				return m
			}
		}
	}
	panic("BUG: compute knows " + name + ", the catalogue does not")
}

var (
	clusterCPURequest = find(catalogue.ClusterCPURequestPercent)
	clusterMemRequest = find(catalogue.ClusterMemRequestPercent)
	clusterNotReady   = find(catalogue.ClusterNodesNotReady)
	clusterPods       = find(catalogue.ClusterPods)
	clusterCPUTotal   = find(catalogue.ClusterCPUTotal)
	clusterMemTotal   = find(catalogue.ClusterMemTotal)

	nodeReady    = find(catalogue.NodeReady)
	nodeCPU      = find(catalogue.NodeCPUPercent)
	nodeMem      = find(catalogue.NodeMemPercent)
	nodeFS       = find(catalogue.NodeFilesystemPercent)
	nodeReceive  = find(catalogue.NodeNetworkReceive)
	nodeTransmit = find(catalogue.NodeNetworkTransmit)
	nodeTCP      = find(catalogue.NodeTCPEstablished)
	nodeRestarts = find(catalogue.NodeRestarts)

	workloadAbnormal = find(catalogue.WorkloadAbnormal)
	workloadRestarts = find(catalogue.WorkloadRestarts)

	podReady    = find(catalogue.PodReady)
	podRestarts = find(catalogue.PodRestarts)
	podMissing  = find(catalogue.PodSpecMissing)
	podCPU      = find(catalogue.PodCPU)
	podCPULimit = find(catalogue.PodCPULimitPercent)
	podMem      = find(catalogue.PodMem)
	podMemLimit = find(catalogue.PodMemLimitPercent)
	podReceive  = find(catalogue.PodNetworkReceive)
	podTransmit = find(catalogue.PodNetworkTransmit)

	containerCPU     = find(catalogue.ContainerCPU)
	containerMem     = find(catalogue.ContainerMem)
	containerFSRead  = find(catalogue.ContainerFSRead)
	containerFSWrite = find(catalogue.ContainerFSWrite)

	sourceUp       = find(SourceUp)
	sourceExpected = find(SourceExpected)
	sourceMeasured = find(SourceMeasured)
	sourceOldest   = find(SourceOldest)
	interval       = find(CollectionInterval)
)
