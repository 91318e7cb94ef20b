package compute

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/crowsnest-dev/crowsnest/collector/reading"
	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

const (
	trueCores = 0.05 // what the container of these tests uses, always
	trueBytes = 1000 // what its pod receives a second
)

// instance is a life of the container: its counters begin at 0.
type instance struct {
	uid, id     string
	from, until float64 // seconds after t0; +Inf while it runs
	lingers     float64 // how long its cgroup stays after that
}

// happening is what happens to a pod between 0 and 300 s.
type happening struct {
	instances []instance
	known     float64   // how much later than it happens the object tells of it
	silent    []float64 // from, until: the source tells nothing
	zeroAt    float64   // when the counters begin anew though nothing did; 0: never
}

// spikeSource is how a source tells of containers.
type spikeSource struct {
	source      catalogue.Source
	ids, starts bool                     // it tells them
	pods        bool                     // it has the pod's own CPU and traffic
	read        func(at float64) float64 // when the reading that it gives at a time was taken
	stamp       func(at float64) float64
	most        float64 // how much a rate may be over the truth
}

func (s spikeSource) set(h happening, at float64) reading.Set {
	set := reading.Set{Node: "n", Source: s.source, Containers: []reading.Container{}}
	taken := s.read(at)
	if len(h.silent) == 2 && at >= h.silent[0] && at < h.silent[1] {
		set.Err = fmt.Errorf("connection refused")
		return set
	}
	value := func(v float64) reading.Value { return val(v, s.stamp(taken)) }
	since := func(begin, until float64) float64 {
		if h.zeroAt > begin && taken >= h.zeroAt {
			begin = h.zeroAt
		}
		return math.Min(taken, until) - begin
	}
	pods := map[string]int{}
	for _, i := range h.instances {
		if taken < i.from || taken > i.until+i.lingers {
			continue
		}
		c := reading.Container{PodUID: i.uid, Namespace: "ns", Pod: "p" + i.uid, Name: "c", CPUSeconds: value(trueCores * since(i.from, i.until)), WorkingSetBytes: value(100)}
		if taken > i.until && s.source == catalogue.Cgroups {
			continue // a group without processes goes at once
		}
		if s.ids {
			c.ID = i.id
		}
		if s.starts {
			c.StartedAt = sec(i.from)
		}
		set.Containers = append(set.Containers, c)
		if _, twice := pods[i.uid]; twice || !s.pods {
			continue
		}
		pods[i.uid] = 1
		first := h.instances[slices.IndexFunc(h.instances, func(j instance) bool { return j.uid == i.uid })].from
		used := 0.0 // by all instances of the pod so far
		for _, j := range h.instances {
			if j.uid == i.uid && taken >= j.from {
				used += trueCores * since(j.from, j.until)
			}
		}
		set.Pods = append(set.Pods, reading.Pod{UID: i.uid, Namespace: "ns", Name: "p" + i.uid, CPUSeconds: value(used), ReceiveBytes: value(trueBytes * since(first, math.Inf(1)))})
	}
	return set
}

// state gives the objects as they are known at a time.
func (h happening) state(at float64) *state.Snapshot {
	var objects []object.Object
	for _, uid := range []string{"u1", "u2"} {
		var now *instance
		for j := range h.instances {
			if i := &h.instances[j]; i.uid == uid && at-h.known >= i.from {
				now = i
			}
		}
		if now == nil || at-h.known > now.until+30 {
			continue
		}
		runs := at-h.known <= now.until
		objects = append(objects, pod(func(p *object.Pod) {
			p.UID, p.Name, p.CreatedAt = uid, "p"+uid, sec(now.from)
			c := &p.Containers[0]
			c.ID, c.StartedAt = now.id, sec(now.from)
			if !runs {
				c.State, p.Ready = "waiting", false
			}
		}))
	}
	return snapshot(append(objects, node())...)
}

// What makes counters jump makes no rate that cannot be, by whatever source, and the
// rate is there again soon after.
func TestNothingThatMakesCountersJumpMakesASpike(t *testing.T) {
	ever := math.Inf(1)
	happenings := map[string]happening{
		"nothing":                        {instances: []instance{{uid: "u1", id: "a", from: -600, until: ever}}},
		"the container restarts":         {instances: []instance{{uid: "u1", id: "a", from: -600, until: 100, lingers: 40}, {uid: "u1", id: "b", from: 101, until: ever}}},
		"it restarts, told late":         {instances: []instance{{uid: "u1", id: "a", from: -600, until: 100, lingers: 40}, {uid: "u1", id: "b", from: 101, until: ever}}, known: 17},
		"it waits before it restarts":    {instances: []instance{{uid: "u1", id: "a", from: -600, until: 100}, {uid: "u1", id: "b", from: 140, until: ever}}, known: 1},
		"it was young when it ended":     {instances: []instance{{uid: "u1", id: "a", from: 88, until: 92, lingers: 40}, {uid: "u1", id: "b", from: 93, until: ever}}},
		"the pod is replaced":            {instances: []instance{{uid: "u1", id: "a", from: -600, until: 130, lingers: 40}, {uid: "u2", id: "b", from: 100, until: ever}}},
		"the kubelet restarts":           {instances: []instance{{uid: "u1", id: "a", from: -600, until: ever}}, silent: []float64{95, 145}},
		"it restarts with the kubelet":   {instances: []instance{{uid: "u1", id: "a", from: -600, until: 110}, {uid: "u1", id: "b", from: 120, until: ever}}, silent: []float64{95, 145}},
		"the counters begin anew":        {instances: []instance{{uid: "u1", id: "a", from: -600, until: ever}}, zeroAt: 100},
		"anew while the kubelet is away": {instances: []instance{{uid: "u1", id: "a", from: 60, until: ever}}, zeroAt: 100, silent: []float64{95, 145}},
	}
	lag := func(at float64) float64 { return at - 3 - float64(int(at*7)%20) } // a reading is 3 to 22 s old
	same := func(at float64) float64 { return at }
	sources := map[string]spikeSource{
		"cgroups":        {catalogue.Cgroups, true, false, true, func(at float64) float64 { return at - 0.5 }, same, 0.001},
		"cadvisor":       {catalogue.CadvisorLabels, true, true, true, lag, same, 0.001},
		"cadvisor_paths": {catalogue.CadvisorPaths, true, true, true, lag, same, 0.001},
		"resource":       {catalogue.ResourceAPI, false, true, false, lag, same, 0.001},
		"summary":        {catalogue.StatsSummary, false, true, true, lag, math.Floor, 0.1}, // whole seconds
		"endpoint":       {catalogue.PodEndpoint, false, true, true, lag, same, 0.001},
	}
	for what, h := range happenings {
		for by, s := range sources {
			for _, grid := range []float64{15, 30, 60} {
				t.Run(fmt.Sprintf("%s, %s, every %g s", what, by, grid), func(t *testing.T) {
					c := New(Options{Role: wire.RoleAll, Sender: "s", Interval: time.Duration(grid) * time.Second})
					for at := grid; at <= 300; at += grid {
						cores := map[string]float64{}
						for _, smp := range c.Interval(sec(at), []reading.Set{s.set(h, at)}, h.state(at)) {
							if smp.Stale() {
								continue
							}
							most := 0.0
							switch smp.Metric {
							case catalogue.ContainerCPU, catalogue.PodCPU:
								most = trueCores
								smp.Labels.Range(func(l labels.Label) {
									if l.Name == "pod" {
										cores[smp.Metric+l.Value] = smp.V
									}
								})
							case catalogue.PodNetworkReceive:
								most = trueBytes
							default:
								continue
							}
							if smp.V > most*(1+s.most) || smp.V < 0 {
								t.Errorf("at %g s %s%s is %g, at most %g can be", at, smp.Metric, smp.Labels, smp.V, most)
							}
						}
						last := h.instances[len(h.instances)-1]
						if at == 300 && (cores[catalogue.ContainerCPU+"p"+last.uid] < trueCores*(1-s.most) || cores[catalogue.PodCPU+"p"+last.uid] < trueCores*(1-s.most)) {
							t.Errorf("in the end the rates are %v", cores)
						}
					}
				})
			}
		}
	}
}
