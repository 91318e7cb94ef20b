package simulate

import (
	"context"
	"fmt"
	"maps"
	"math"
	"sync"
	"time"

	"github.com/crowsnest-dev/crowsnest/collector/push"
	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/object"
)

const kubernetesVersion = "v1.34.4"

// origin is a Monday, midnight UTC.
var origin = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

// Fleet is a simulated cluster. It is a state.Source; World gives the rest.
type Fleet struct {
	opts      Options
	nodes     []*node
	workloads []*workload
	slots     []*slot
	placed    int // slots placed on nodes so far

	mu       sync.Mutex
	at       float64 // world time of the last advance
	state    state.Snapshot
	shared   *state.Snapshot // handed out; nil when state changed since
	owned    bool            // the maps of state were not handed out yet
	running  map[*node][]*life
	pending  []state.Change
	touched  map[*workload]bool
	events   []event
	quiet    bool // no events are kept: nobody asked, or the past is being caught up
	dispatch sync.Mutex
	watchers map[int]func(state.Change)
	watcher  int
}

var (
	_ state.Source      = (*Fleet)(nil)
	_ push.ClusterFacts = (*Fleet)(nil)
)

// event is something that happened to a pod, a node or a workload.
type event struct {
	at                     float64
	namespace, kind, name  string
	uid, typ, reason, text string
	workloadType, workload string
	node, podName          string
}

// New plans a fleet and brings it to the present. It starts nothing.
func New(o Options) (*Fleet, error) {
	if err := o.complete(); err != nil {
		return nil, fmt.Errorf("simulate: %w", err)
	}
	f := newFleet(o)
	f.Advance(o.Now())
	return f, nil
}

func newFleet(o Options) *Fleet {
	f := &Fleet{opts: o, at: math.Inf(-1), quiet: true, owned: true, touched: map[*workload]bool{}, running: map[*node][]*life{}, watchers: map[int]func(state.Change){}}
	f.plan()
	f.state = state.Snapshot{Synced: true, Pods: map[string]*object.Pod{}, Nodes: map[string]*object.Node{}, Workloads: map[string]*object.Workload{},
		Namespaces: map[string]*object.Namespace{}, Services: map[string]*object.Service{}}
	created := origin.AddDate(2, 2, 0)
	for _, name := range []string{"default"} {
		f.addNamespace(name, created)
	}
	for _, w := range f.workloads {
		f.addNamespace(w.namespace, created)
		f.touched[w] = true
		if w.typ == "deployment" || w.typ == "statefulset" {
			h := hash(w.key, 81)
			f.state.Services[uuid(h)] = &object.Service{
				Meta: object.Meta{UID: uuid(h), Namespace: w.namespace, Name: w.name, CreatedAt: created, Labels: map[string]string{"app": w.name}},
				Type: "ClusterIP", ClusterIP: fmt.Sprintf("172.%d.%d.%d", 16+h%16, h>>8%256, h>>16%254+1), Selector: map[string]string{"app": w.name},
			}
		}
	}
	return f
}

// ClusterFacts gives the kind and the version that the nodes show: one of them
// is a control plane's.
func (f *Fleet) ClusterFacts() (kind, version string) { return "independent", kubernetesVersion }

func (f *Fleet) addNamespace(name string, created time.Time) {
	if f.state.Namespaces[name] == nil {
		f.state.Namespaces[name] = &object.Namespace{Meta: object.Meta{UID: uuid(hash(f.opts.Seed, 82, hashString(name))), Name: name, CreatedAt: created,
			Labels: map[string]string{"kubernetes.io/metadata.name": name}}}
	}
}

// world gives the world's time at a real one; real is its inverse. Origin is
// the same in both, so that live and backfill agree at any speed.
func (f *Fleet) world(t time.Time) float64 { return t.Sub(origin).Seconds() * f.opts.Speed }

func (f *Fleet) real(w float64) time.Time {
	ms := w / f.opts.Speed * 1000
	return origin.Add(time.Duration(ms) * time.Millisecond)
}

// Advance brings the fleet to a time; one before the last is ignored. Run calls
// it, and whoever drives a fleet by hand may.
func (f *Fleet) Advance(t time.Time) {
	f.dispatch.Lock()
	defer f.dispatch.Unlock()
	f.mu.Lock()
	changes := f.advanceLocked(f.world(t))
	watchers := make([]func(state.Change), 0, len(f.watchers))
	for i := range f.watcher {
		if fn := f.watchers[i]; fn != nil {
			watchers = append(watchers, fn)
		}
	}
	f.mu.Unlock()
	for _, c := range changes {
		for _, fn := range watchers {
			fn(c)
		}
	}
}

func (f *Fleet) advanceLocked(w float64) []state.Change {
	if w <= f.at {
		return nil
	}
	quiet := f.quiet
	if math.IsInf(f.at, -1) {
		f.quiet = true // what happened before the first look is no news
	}
	f.pending = nil
	for _, n := range f.nodes {
		if w >= n.until {
			f.setNode(n, w)
		}
	}
	for _, s := range f.slots {
		if w >= s.until {
			f.advanceSlot(s, w)
		}
	}
	for _, wl := range f.workloads {
		if f.touched[wl] || w >= wl.until {
			f.setWorkload(wl, w)
		}
	}
	clear(f.touched)
	f.at, f.quiet = w, quiet
	return f.pending
}

// own makes the maps ours before the first change after they were handed out.
func (f *Fleet) own() {
	f.shared = nil
	if f.owned {
		return
	}
	f.state.Pods, f.state.Nodes, f.state.Workloads = maps.Clone(f.state.Pods), maps.Clone(f.state.Nodes), maps.Clone(f.state.Workloads)
	f.owned = true
}

func (f *Fleet) changed(before, now object.Object, w float64) {
	c := state.Change{At: f.real(w), Before: before, Now: now}
	if !math.IsInf(f.at, -1) {
		f.pending = append(f.pending, c)
	}
}

func (f *Fleet) setPod(l *life, p *object.Pod, w float64) {
	f.own()
	var before object.Object
	if l.pod != nil {
		before = l.pod
	} else if l.s.n != nil {
		f.running[l.s.n] = append(f.running[l.s.n], l)
	}
	l.pod = p
	f.state.Pods[l.uid] = p
	f.touched[l.s.w] = true
	f.changed(before, p, w)
}

func (f *Fleet) drop(l *life, w float64) {
	if l.pod == nil {
		return
	}
	f.own()
	delete(f.state.Pods, l.uid)
	f.touched[l.s.w] = true
	f.changed(l.pod, nil, l.gone)
	if n := l.s.n; n != nil {
		kept := f.running[n][:0]
		for _, o := range f.running[n] {
			if o != l {
				kept = append(kept, o)
			}
		}
		clear(f.running[n][len(kept):])
		f.running[n] = kept
	}
}

// nodeDown says whether a node is not ready, and when that changes: a few
// minutes once in a while.
func (f *Fleet) nodeDown(n *node, w float64) (down bool, until float64) {
	const p = day
	sched := schedule{key: hash(n.key, 91), period: p, spread: 0.8}
	last, next := sched.around(w)
	if len(f.nodes) < 2 || unit(n.key, 92, math.Float64bits(last)) > 0.04 {
		return false, next
	}
	end := last + between(3, 9, n.key, 93)*minute
	if w < end {
		return true, end
	}
	return false, next
}

func (f *Fleet) setNode(n *node, w float64) {
	f.own()
	down, until := f.nodeDown(n, w)
	sched := schedule{key: hash(n.key, 91), period: day, spread: 0.8}
	since, _ := sched.around(w)
	ready := object.Condition{Type: "Ready", Status: "True", Reason: "KubeletReady", Since: f.real(since)}
	if down {
		ready.Status, ready.Reason = "Unknown", "NodeStatusUnknown"
	}
	now := &object.Node{
		Meta: object.Meta{UID: uuid(n.key), Name: n.name, CreatedAt: origin.AddDate(2, 2, int(n.key%60)), Labels: map[string]string{
			"kubernetes.io/hostname": n.name, "kubernetes.io/arch": "amd64", "topology.kubernetes.io/zone": "zone-" + string(rune('a'+n.index%3))}},
		Ready: !down, Capacity: object.Resources{CPUCores: n.cores, HasCPU: true, MemoryBytes: n.memory, HasMemory: true},
		Allocatable: object.Resources{CPUCores: n.cores - 0.1, HasCPU: true, MemoryBytes: n.memory - 0.6*gib, HasMemory: true},
		Conditions:  []object.Condition{ready}, InternalIP: n.ip, KubeletPort: 10250, Kubelet: kubernetesVersion, Runtime: "containerd://2.1.4", OS: "Debian GNU/Linux 13 (trixie)",
	}
	for _, c := range []string{"MemoryPressure", "DiskPressure", "PIDPressure"} {
		now.Conditions = append(now.Conditions, object.Condition{Type: c, Status: "False", Reason: "KubeletHas" + c, Since: now.CreatedAt})
	}
	if n.index == 0 {
		now.Roles = []string{"control-plane"}
	} else {
		now.Roles = []string{"worker"}
	}
	var before object.Object
	if n.now != nil {
		before = n.now
		if n.now.Ready != now.Ready {
			typ, reason, text := "Normal", "NodeReady", "Node "+n.name+" status is now: NodeReady"
			if down {
				typ, reason, text = "Warning", "NodeNotReady", "Node "+n.name+" status is now: NodeNotReady"
			}
			f.addEvent(event{at: w, kind: "Node", name: n.name, uid: now.UID, typ: typ, reason: reason, text: text, node: n.name})
		}
	}
	if n.now == nil || n.now.Ready != now.Ready {
		n.now = now
		f.state.Nodes[n.name] = now
		f.changed(before, now, w)
	}
	n.until = until
}

// setWorkload derives a workload from its pods. (E.g. the abnormal count of the
// catalogue, which a real source derives from the object's own status.)
func (f *Fleet) setWorkload(w *workload, at float64) {
	w.until = math.Inf(1)
	if w.typ == "pod" { // a pod that nobody controls has no object beside itself
		return
	}
	now := &object.Workload{
		Meta: object.Meta{UID: w.uid, Namespace: w.namespace, Name: w.name, CreatedAt: origin.AddDate(2, 2, int(w.key%90)), Labels: map[string]string{"app": w.name, "team": w.namespace}},
		Ref:  w.ref, Images: []string{w.template.image}, Revision: f.revision(w, at, false),
	}
	last, _ := w.rollouts.around(at)
	rolling := at-last < 10*minute || at-last < 5*minute+w.slots[len(w.slots)-1].stagger()
	stuck := false
	for _, s := range w.slots {
		start, _ := s.around(at)
		if w.typ == "cronjob" {
			f.cronStatus(s, now)
			continue
		}
		if math.IsInf(start, -1) {
			continue
		}
		if s.bad {
			stuck = true
			continue
		}
		now.Desired++
		ready := false
		for _, l := range s.lives {
			if l.pod != nil && l.ready {
				ready = true
			}
			if l.start == start && (last == start || start > last) {
				now.Updated++
			}
		}
		if ready {
			now.Ready++
		}
	}
	missing := now.Desired - now.Ready
	switch {
	case w.typ == "cronjob":
	case missing == 0:
		if now.Updated < now.Desired && rolling || stuck {
			now.Reason = "RollingOut"
		}
	case rolling:
		now.Abnormal = max(0, missing-max(1, now.Desired/4))
		now.Reason = "RollingOut"
		w.until = last + 10*minute + 5*minute + w.slots[len(w.slots)-1].stagger()
	default:
		now.Abnormal = missing
		now.Reason = f.whyMissing(w)
	}
	if w.now != nil && w.now.Desired == now.Desired && w.now.Ready == now.Ready && w.now.Updated == now.Updated &&
		w.now.Abnormal == now.Abnormal && w.now.Reason == now.Reason && w.now.Revision == now.Revision {
		return
	}
	f.own()
	var before object.Object
	if w.now != nil {
		before = w.now
		if w.now.Desired != now.Desired {
			f.addEvent(event{at: at, namespace: w.namespace, kind: kindName(w.typ), name: w.name, uid: w.uid, typ: "Normal", reason: "SuccessfulRescale",
				text: fmt.Sprintf("New size: %d; reason: cpu resource utilization (percentage of request)", now.Desired), workloadType: w.typ, workload: w.name})
		}
		if w.now.Revision != now.Revision && w.typ == "deployment" {
			f.addEvent(event{at: at, namespace: w.namespace, kind: kindName(w.typ), name: w.name, uid: w.uid, typ: "Normal", reason: "ScalingReplicaSet",
				text: fmt.Sprintf("Scaled up replica set %s-%s from 0 to 1", w.name, now.Revision), workloadType: w.typ, workload: w.name})
		}
	}
	w.now = now
	f.state.Workloads[w.uid] = now
	f.changed(before, now, at)
}

func (f *Fleet) cronStatus(s *slot, now *object.Workload) {
	var newest *life
	for _, l := range s.lives {
		if l.pod != nil && l.pod.Phase == object.PhaseRunning {
			now.Desired, now.Ready, now.Updated = 1, 1, 1
		}
		if l.pod != nil && (l.phase == succeeded || l.phase == failed) && (newest == nil || l.start > newest.start) {
			newest = l
		}
	}
	if newest != nil && newest.phase == failed {
		now.Abnormal, now.Reason = 1, "JobFailed"
	}
}

func (f *Fleet) whyMissing(w *workload) string {
	for _, s := range w.slots {
		for _, l := range s.lives {
			if l.pod != nil && !l.ready && l.pod.Reason != "" {
				return l.pod.Reason
			}
		}
	}
	return "NotReady"
}

func kindName(typ string) string {
	return map[string]string{"deployment": "Deployment", "statefulset": "StatefulSet", "daemonset": "DaemonSet", "cronjob": "CronJob", "pod": "Pod"}[typ]
}

func (f *Fleet) event(at float64, l *life, typ, reason, text string) {
	if f.quiet {
		return
	}
	w := l.s.w
	e := event{at: at, namespace: w.namespace, kind: "Pod", name: l.name, podName: l.name, uid: l.uid, typ: typ, reason: reason, text: text, workloadType: w.typ, workload: w.name}
	if l.s.n != nil {
		e.node = l.s.n.name
	}
	f.addEvent(e)
}

func (f *Fleet) addEvent(e event) {
	if !f.quiet && e.at > f.at-minute { // older ones belong to what was caught up
		f.events = append(f.events, e)
	}
}

// Run moves the fleet on with the clock until ctx ends.
func (f *Fleet) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			f.Advance(f.opts.Now())
		}
	}
}

// Snapshot gives the present state.
func (f *Fleet) Snapshot() *state.Snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.shared == nil {
		s := f.state
		s.Endpoints = endpoints(s)
		f.shared, f.owned = &s, false
	}
	return f.shared
}

// endpoints gives each Service a slice of the pods that it selects, as the
// controller of a real cluster would.
func endpoints(s state.Snapshot) map[string]*state.Endpoints {
	out := make(map[string]*state.Endpoints, len(s.Services))
	byWorkload := make(map[string]*state.Endpoints, len(s.Services))
	for uid, v := range s.Services {
		e := &state.Endpoints{Namespace: v.Namespace, Service: v.Name}
		out[uid] = e
		byWorkload[v.Namespace+"/"+v.Name] = e // each is named after the workload that it selects
	}
	for _, p := range s.Pods {
		e := byWorkload[p.Namespace+"/"+p.Workload.Name]
		if e == nil || p.Ended() || p.Terminating || p.Node == "" {
			continue
		}
		e.Pods = append(e.Pods, p.Name)
		if p.Ready {
			e.Ready++
		} else {
			e.NotReady++
		}
	}
	return out
}

// Changes hands every change from now on to fn until ctx ends; it does not block.
func (f *Fleet) Changes(ctx context.Context, fn func(state.Change)) {
	f.mu.Lock()
	id := f.watcher
	f.watcher++
	f.watchers[id] = fn
	f.mu.Unlock()
	context.AfterFunc(ctx, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.watchers, id)
	})
}

// Health is always good.
func (f *Fleet) Health() map[object.Kind]string { return map[object.Kind]string{} }
