package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

const (
	// rejudge is how often workloads are judged anew whose state depends on the
	// time: rollouts and CronJobs.
	rejudge = 10 * time.Second
	// maxQueued bounds the changes that a slow subscriber leaves waiting; beyond
	// it, and beyond twice as many as there are objects among them, changes of one
	// object become one.
	maxQueued = 20_000
	// maxDepth bounds the way from a pod to its top controller.
	maxDepth = 8
)

// OwnersFunc gives the top workloads of a node's pods, by UID of the pod, as far
// as the server knows them.
type OwnersFunc func(ctx context.Context, node string) (map[string]object.WorkloadRef, error)

// Options of a Source.
type Options struct {
	Client *Client    // required
	Role   string     // wire.RoleNode, RoleCluster or RoleAll; required
	Node   string     // required in role node
	Owners OwnersFunc // role node: asks the server; may be nil
	// ClusterKind is what ClusterFacts says instead of what nodes show: managed,
	// independent, elastic or edge. Empty means as detected.
	ClusterKind string
	// Observers are shown every object as the API server has it, so that nobody
	// needs a second watch.
	Observers []Observer
	// Extra kinds are watched for the Observers alone, in roles cluster and all.
	// What is wrong with them is told by Extra, and holds up nothing else.
	Extra  []Watched
	Logger *slog.Logger
	Now    func() time.Time // default time.Now
}

// Observer is shown whole objects: *corev1.Pod, *corev1.Service and whatever
// else the role watches. It is called in order and never concurrently, must be
// quick, and must neither change nor keep what it is shown, other than its maps
// and strings.
type Observer interface {
	Put(o any)    // appeared or changed
	Delete(o any) // gone; the object as last seen
	// Replace gives the complete list of a kind; example is an empty object of it.
	Replace(example any, list []any)
}

// Source watches a cluster's objects and keeps what matters of them.
type Source struct {
	o      Options
	log    *slog.Logger
	now    func() time.Time
	lookup *lookup
	again  chan struct{} // kinds or observers changed

	mu          sync.Mutex
	kinds       []*watched // and what Show added
	observers   []Observer
	version     string
	pods        map[types.UID]*pod
	controllers map[types.UID]*controller
	children    map[types.UID]map[types.UID]bool // controllers and pods by their owner's UID
	told        map[string]object.WorkloadRef    // by the server, by UID of the pod
	asked       map[string]int                   // how often the server was asked about a pod it did not know
	current     state.Snapshot                   // what was published; its maps are ours
	custom      map[string]string                // UIDs of made-up workloads by namespace/type/name
	unselective map[[2]string]string             // UIDs of Services without a selector, by namespace and name
	frozen      *state.Snapshot                  // a copy that was handed out; nil after a change
	customDirty bool
	subscribers map[*subscriber]bool
	loops       int // ways to a top controller that had no end
	wakeOwners  chan struct{}
}

var _ state.Source = (*Source)(nil)

// watched is one kind of API object.
type watched struct {
	Watched
	kind    object.Kind // that it belongs to, for Health; empty for what Show adds
	only    Observer    // that it is watched for, when Show added it
	synced  bool        // under Source.mu
	trouble string      // under Source.mu
}

type subscriber struct {
	queue []state.Change
	most  int // changes that may wait until they are coalesced once more
	wake  chan struct{}
}

// NewSource checks the options; it does not connect.
func NewSource(o Options) (*Source, error) {
	if o.Client == nil {
		return nil, errors.New("kube: Client is required")
	}
	if o.Role == wire.RoleNode && o.Node == "" {
		return nil, errors.New("kube: Node is required in role node")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Source{
		o: o, log: o.Logger, now: o.Now,
		pods: map[types.UID]*pod{}, controllers: map[types.UID]*controller{}, children: map[types.UID]map[types.UID]bool{},
		told: map[string]object.WorkloadRef{}, asked: map[string]int{}, custom: map[string]string{}, unselective: map[[2]string]string{},
		subscribers: map[*subscriber]bool{}, wakeOwners: make(chan struct{}, 1), again: make(chan struct{}, 1), observers: o.Observers,
		current: state.Snapshot{
			Pods: map[string]*object.Pod{}, Nodes: map[string]*object.Node{}, Workloads: map[string]*object.Workload{},
			Namespaces: map[string]*object.Namespace{}, Services: map[string]*object.Service{},
			Autoscalers: map[string]*state.Autoscaler{}, Quotas: map[string]*state.Quota{}, Claims: map[string]*state.Claim{},
			Endpoints: map[string]*state.Endpoints{},
		},
	}
	s.lookup = newLookup(o.Client, s.found, o.Logger, o.Now)
	core, apps, batch := corev1.SchemeGroupVersion, appsv1.SchemeGroupVersion, batchv1.SchemeGroupVersion
	kind := func(k object.Kind, gv schema.GroupVersion, resource string, example runtime.Object, list func() runtime.Object) *watched {
		return &watched{kind: k, Watched: Watched{GroupVersion: gv, Resource: resource, Example: example, List: list}}
	}
	s.kinds = []*watched{
		kind(object.KindPod, core, "pods", &corev1.Pod{}, func() runtime.Object { return &corev1.PodList{} }),
		kind(object.KindNode, core, "nodes", &corev1.Node{}, func() runtime.Object { return &corev1.NodeList{} }),
	}
	if o.Role == wire.RoleNode {
		s.kinds[0].Field = "spec.nodeName=" + o.Node
		s.kinds[1].Field = "metadata.name=" + o.Node
		return s, nil
	}
	s.kinds = append(s.kinds,
		kind(object.KindNamespace, core, "namespaces", &corev1.Namespace{}, func() runtime.Object { return &corev1.NamespaceList{} }),
		kind(object.KindService, core, "services", &corev1.Service{}, func() runtime.Object { return &corev1.ServiceList{} }),
		kind(object.KindWorkload, apps, "deployments", &appsv1.Deployment{}, func() runtime.Object { return &appsv1.DeploymentList{} }),
		kind(object.KindWorkload, apps, "statefulsets", &appsv1.StatefulSet{}, func() runtime.Object { return &appsv1.StatefulSetList{} }),
		kind(object.KindWorkload, apps, "daemonsets", &appsv1.DaemonSet{}, func() runtime.Object { return &appsv1.DaemonSetList{} }),
		kind(object.KindWorkload, apps, "replicasets", &appsv1.ReplicaSet{}, func() runtime.Object { return &appsv1.ReplicaSetList{} }),
		kind(object.KindWorkload, batch, "jobs", &batchv1.Job{}, func() runtime.Object { return &batchv1.JobList{} }),
		kind(object.KindWorkload, batch, "cronjobs", &batchv1.CronJob{}, func() runtime.Object { return &batchv1.CronJobList{} }),
	)
	s.kinds = append(s.kinds, platformKinds()...)
	return s, nil
}

// Run watches until ctx ends. Trouble is retried by client-go's reflector and
// told by Health.
func (s *Source) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { s.watch(ctx); return nil })
	g.Go(func() error { s.lookup.run(ctx); return nil })
	g.Go(func() error { s.keepTime(ctx); return nil })
	g.Go(func() error { s.keepVersion(ctx); return nil })
	if s.o.Role == wire.RoleNode && s.o.Owners != nil {
		g.Go(func() error { s.keepOwners(ctx); return nil })
	}
	return g.Wait()
}

// watch watches all kinds, and begins anew when there are others or somebody else
// is to be shown them.
func (s *Source) watch(ctx context.Context) {
	for ctx.Err() == nil {
		s.mu.Lock()
		select {
		case <-s.again: // what came before is seen now
		default:
		}
		kinds := slices.Clone(s.kinds)
		s.mu.Unlock()
		round, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		for _, w := range kinds {
			wg.Go(func() {
				s.o.Client.Watch(round, w.Watched, &store{s: s, w: w}, func(trouble string) { s.note(w, trouble) })
			})
		}
		select {
		case <-ctx.Done():
		case <-s.again:
		}
		cancel()
		wg.Wait()
	}
}

// Show makes an observer see every object from now on, and those of extra kinds,
// which are watched for it alone and whose trouble holds up nothing else. As no
// objects are kept, everything is listed once more. In role node there are no
// extra kinds.
func (s *Source) Show(o Observer, extra []Watched) {
	s.mu.Lock()
	s.observers = append(slices.Clone(s.observers), o)
	if s.o.Role != wire.RoleNode {
		for _, w := range extra {
			s.kinds = append(slices.Clip(s.kinds), &watched{Watched: w, only: o})
		}
	}
	s.againLocked()
	s.mu.Unlock()
}

// Hide ends what Show began.
func (s *Source) Hide(o Observer) {
	s.mu.Lock()
	s.observers = slices.DeleteFunc(slices.Clone(s.observers), func(other Observer) bool { return other == o })
	s.kinds = slices.DeleteFunc(slices.Clone(s.kinds), func(w *watched) bool { return w.only == o })
	s.againLocked()
	s.mu.Unlock()
}

func (s *Source) againLocked() {
	select {
	case s.again <- struct{}{}:
	default: // is to begin anew already
	}
}

// note keeps what is wrong with a kind. A cause that several kinds share, as an
// API server that is away, is logged once.
func (s *Source) note(w *watched, trouble string) {
	s.mu.Lock()
	shared := slices.ContainsFunc(s.kinds, func(o *watched) bool { return o != w && o.trouble == trouble })
	w.trouble, s.frozen = trouble, nil // whether the state is complete depends on it
	s.mu.Unlock()
	switch {
	case trouble == "":
		s.log.Info("watch objects again", "resource", w.Resource)
	case w.only != nil && strings.HasPrefix(trouble, notServed):
		s.log.Debug("watch objects", "resource", w.Resource, "err", trouble)
	case !shared:
		s.log.Warn("watch objects", "resource", w.Resource, "err", trouble)
	}
}

// Snapshot gives the present state. It is copied only after a change.
func (s *Source) Snapshot() *state.Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.customLocked()
	if s.frozen == nil {
		s.frozen = &state.Snapshot{
			Synced: s.syncedLocked(),
			Pods:   maps.Clone(s.current.Pods), Nodes: maps.Clone(s.current.Nodes), Workloads: maps.Clone(s.current.Workloads),
			Namespaces: maps.Clone(s.current.Namespaces), Services: maps.Clone(s.current.Services),
			Autoscalers: maps.Clone(s.current.Autoscalers), Quotas: maps.Clone(s.current.Quotas), Claims: maps.Clone(s.current.Claims),
			Endpoints: maps.Clone(s.current.Endpoints),
		}
	}
	return s.frozen
}

// syncedLocked says whether every kind that may be read was listed once. A kind
// whose right is missing does not hold up the others, but pods do.
func (s *Source) syncedLocked() bool {
	for _, w := range s.kinds {
		if w.only == nil && !w.synced && (w.Resource == "pods" || w.trouble == "") {
			return false
		}
	}
	return true
}

// Changes hands every change after the call to fn, in order, until ctx ends. A
// subscriber that falls far behind gets the changes of one object as one.
func (s *Source) Changes(ctx context.Context, fn func(state.Change)) {
	sub := &subscriber{most: maxQueued, wake: make(chan struct{}, 1)}
	s.mu.Lock()
	s.subscribers[sub] = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.subscribers, sub)
		s.mu.Unlock()
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-sub.wake:
		}
		s.mu.Lock()
		changes := sub.queue
		sub.queue, sub.most = nil, maxQueued
		s.mu.Unlock()
		for _, c := range changes {
			if ctx.Err() != nil {
				return
			}
			fn(c)
		}
	}
}

// Health says what is wrong, by kind.
func (s *Source) Health() map[object.Kind]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	by := map[object.Kind][]string{}
	for _, w := range s.kinds {
		// Where the API server is away, that is all that there is to say of any.
		if w.trouble != "" && w.only == nil && !slices.Contains(by[w.kind], w.trouble) {
			by[w.kind] = append(by[w.kind], w.trouble)
		}
	}
	out := map[object.Kind]string{}
	for kind, troubles := range by {
		out[kind] = strings.Join(troubles, "; ")
	}
	return out
}

// Extra says what is wrong with the kinds that Show added. A kind that the API
// server does not serve is none of them: there are no objects of it.
func (s *Source) Extra() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, w := range s.kinds {
		if w.only != nil && w.trouble != "" && !strings.HasPrefix(w.trouble, notServed) {
			out = append(out, w.trouble)
		}
	}
	return out
}

// ClusterFacts gives the cluster's kind, as far as its nodes show it, and the
// version of its API server.
func (s *Source) ClusterFacts() (kind, version string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kind, _ = s.kindLocked()
	return kind, s.version
}

// OwnerLoops counts how often the way to a top controller had no end, or one beyond
// maxDepth, since New.
func (s *Source) OwnerLoops() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.loops
}

// ClusterKind gives the cluster's kind and why it is taken for it.
func (s *Source) ClusterKind() (kind, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kindLocked()
}

func (s *Source) kindLocked() (kind, why string) {
	if s.o.ClusterKind != "" {
		return s.o.ClusterKind, "the collector's configuration says so (--cluster-kind)"
	}
	return clusterKind(s.current.Nodes, s.current.Pods)
}

// clusterKind: without real nodes it is elastic; with nodes of an edge platform,
// edge; where control plane nodes or pods show, independent; else managed.
func clusterKind(nodes map[string]*object.Node, pods map[string]*object.Pod) (kind, why string) {
	if len(nodes) == 0 {
		return "", ""
	}
	realNodes, master := 0, ""
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		n := nodes[name]
		if n.Virtual {
			continue
		}
		realNodes++
		for label, value := range map[string]string{"node-role.kubernetes.io/edge": "", "openyurt.io/is-edge-worker": "true"} {
			if v, ok := n.Labels[label]; ok && v == value {
				return "edge", fmt.Sprintf("node %s has the label %s", name, label)
			}
		}
		if master == "" && (slices.Contains(n.Roles, "control-plane") || slices.Contains(n.Roles, "master")) {
			master = name
		}
	}
	switch {
	case realNodes == 0:
		return "elastic", fmt.Sprintf("none of its %d nodes is real: virtual kubelets stand for them", len(nodes))
	case master != "":
		return "independent", fmt.Sprintf("node %s has the role of a control plane", master)
	}
	for _, p := range pods {
		if p.Namespace == "kube-system" && p.Mirror != "" && strings.HasPrefix(p.Name, "kube-apiserver-") {
			return "independent", "the API server runs as a static pod on node " + p.Node
		}
	}
	return "managed", "neither a node nor a pod of the control plane shows: the provider runs it"
}

func (s *Source) keepVersion(ctx context.Context) {
	for wait := 2 * time.Second; ; {
		v, err := s.o.Client.Version(ctx)
		if err == nil {
			s.mu.Lock()
			s.version, wait = v, time.Hour
			s.mu.Unlock()
		}
		if !sleep(ctx, wait) {
			return
		}
		wait = min(2*wait, time.Hour)
	}
}

func (s *Source) keepTime(ctx context.Context) {
	for sleep(ctx, rejudge) {
		s.mu.Lock()
		for _, c := range s.controllers {
			if c.timed() {
				s.publishControllerLocked(c)
			}
		}
		s.customLocked()
		s.mu.Unlock()
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// store takes a reflector's objects.
type store struct {
	s *Source
	w *watched
}

func (t *store) Add(o any) error {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	t.s.putLocked(o)
	for _, w := range t.s.observers {
		w.Put(o)
	}
	return nil
}

func (t *store) Update(o any) error { return t.Add(o) }

func (t *store) Delete(o any) error {
	if gone, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = gone.Obj
	}
	if m, ok := o.(metav1.Object); ok {
		t.s.mu.Lock()
		defer t.s.mu.Unlock()
		t.s.deleteLocked(o, m.GetUID(), m.GetName())
		for _, w := range t.s.observers {
			w.Delete(o)
		}
	}
	return nil
}

// Replace takes a complete list: what it does not hold is gone.
func (t *store) Replace(list []any, _ string) error {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	seen := make(map[types.UID]bool, len(list))
	for _, o := range list {
		if m, ok := o.(metav1.Object); ok {
			seen[m.GetUID()] = true
		}
	}
	for _, gone := range t.s.heldLocked(t.w, seen) {
		t.s.deleteLocked(t.w.Example, gone.uid, gone.name)
	}
	for _, o := range list {
		t.s.putLocked(o)
	}
	for _, w := range t.s.observers {
		w.Replace(t.w.Example, list)
	}
	if !t.w.synced {
		t.w.synced = true
		t.s.frozen = nil
		if t.s.syncedLocked() {
			// Pods came before the controllers that own them.
			for _, p := range t.s.pods {
				t.s.publishPodLocked(p)
			}
			t.s.customDirty = true
		}
	}
	return nil
}

func (t *store) Resync() error { return nil }

type held struct {
	uid  types.UID
	name string
}

// heldLocked lists what is kept of a kind and not in seen.
func (s *Source) heldLocked(w *watched, seen map[types.UID]bool) []held {
	var out []held
	add := func(uid types.UID, name string) {
		if !seen[uid] {
			out = append(out, held{uid, name})
		}
	}
	switch w.Example.(type) {
	case *corev1.Pod:
		for uid, p := range s.pods {
			add(uid, p.Name)
		}
	case *corev1.Node:
		for _, n := range s.current.Nodes {
			add(types.UID(n.UID), n.Name)
		}
	case *corev1.Namespace:
		for _, n := range s.current.Namespaces {
			add(types.UID(n.UID), n.Name)
		}
	case *corev1.Service:
		for _, v := range s.current.Services {
			add(types.UID(v.UID), v.Name)
		}
	default:
		for _, uid := range s.heldPlatformLocked(w.Example) {
			add(types.UID(uid), "")
		}
		kind := reflect.TypeOf(w.Example).Elem().Name()
		for uid, c := range s.controllers {
			if c.kind == kind {
				add(uid, c.Name)
			}
		}
	}
	return out
}

func (s *Source) putLocked(o any) {
	if s.putPlatformLocked(o) {
		return
	}
	switch o := o.(type) {
	case *corev1.Pod:
		p := convertPod(o)
		uid := types.UID(p.UID)
		s.pods[uid] = p
		s.linkLocked(p.owner, uid)
		s.publishPodLocked(p)
	case *corev1.Node:
		n := convertNode(o)
		publish(s, s.current.Nodes, n.Name, n)
	case *corev1.Namespace:
		n := convertNamespace(o)
		publish(s, s.current.Namespaces, n.Name, n)
	case *corev1.Service:
		v := convertService(o)
		if name := [2]string{v.Namespace, v.Name}; len(v.Selector) > 0 {
			delete(s.unselective, name)
		} else {
			s.unselective[name] = v.UID
			v.Pods = s.podsNamedLocked(v)
		}
		publish(s, s.current.Services, v.UID, v)
	case *appsv1.Deployment:
		s.putControllerLocked(convertDeployment(o))
	case *appsv1.StatefulSet:
		s.putControllerLocked(convertStatefulSet(o))
	case *appsv1.DaemonSet:
		s.putControllerLocked(convertDaemonSet(o))
	case *appsv1.ReplicaSet:
		s.putControllerLocked(convertReplicaSet(o))
	case *batchv1.Job:
		s.putControllerLocked(convertJob(o))
	case *batchv1.CronJob:
		s.putControllerLocked(convertCronJob(o))
	}
}

func (s *Source) putControllerLocked(c *controller) {
	uid := types.UID(c.UID)
	old := s.controllers[uid]
	if c.rolling && c.rollingSince.IsZero() {
		// Kubernetes does not say since when.
		c.rollingSince = s.now()
		if old != nil && old.rolling && old.Revision == c.Revision {
			c.rollingSince = old.rollingSince
		}
	}
	s.controllers[uid] = c
	s.linkLocked(c.owner, uid)
	s.publishControllerLocked(c)
	if old == nil || old.owner != c.owner {
		s.followLocked(uid, 0)
	}
	if c.kind == "Job" {
		if cron := s.controllers[c.owner.uid]; cron != nil {
			s.publishControllerLocked(cron)
		}
	}
}

func (s *Source) deleteLocked(o any, uid types.UID, name string) {
	if s.deletePlatformLocked(o, uid) {
		return
	}
	switch o.(type) {
	case *corev1.Pod:
		p := s.pods[uid]
		if p == nil {
			return
		}
		delete(s.pods, uid)
		delete(s.told, string(uid))
		delete(s.asked, string(uid))
		s.unlinkLocked(p.owner, uid)
		retract(s, s.current.Workloads, string(uid)) // one that was its own
		retract(s, s.current.Pods, string(uid))
		s.customDirty = s.customDirty || len(s.custom) > 0
	case *corev1.Node:
		if n := s.current.Nodes[name]; n != nil && n.UID == string(uid) {
			retract(s, s.current.Nodes, name)
		}
	case *corev1.Namespace:
		if n := s.current.Namespaces[name]; n != nil && n.UID == string(uid) {
			retract(s, s.current.Namespaces, name)
		}
	case *corev1.Service:
		if v := s.current.Services[string(uid)]; v != nil && s.unselective[[2]string{v.Namespace, v.Name}] == v.UID {
			delete(s.unselective, [2]string{v.Namespace, v.Name})
		}
		retract(s, s.current.Services, string(uid))
	default:
		c := s.controllers[uid]
		if c == nil {
			return
		}
		delete(s.controllers, uid)
		s.unlinkLocked(c.owner, uid)
		retract(s, s.current.Workloads, string(uid))
		if cron := s.controllers[c.owner.uid]; cron != nil && c.kind == "Job" {
			s.publishControllerLocked(cron)
		}
		s.customDirty = s.customDirty || len(s.custom) > 0
	}
}

func (s *Source) linkLocked(o owner, child types.UID) {
	if o.uid == "" {
		return
	}
	if s.children[o.uid] == nil {
		s.children[o.uid] = map[types.UID]bool{}
	}
	s.children[o.uid][child] = true
}

func (s *Source) unlinkLocked(o owner, child types.UID) {
	delete(s.children[o.uid], child)
	if len(s.children[o.uid]) == 0 {
		delete(s.children, o.uid)
		s.lookup.forget(o.uid)
	}
}

// followLocked publishes anew what depends on an owner that became known.
func (s *Source) followLocked(uid types.UID, depth int) {
	if depth > maxDepth {
		return
	}
	for child := range s.children[uid] {
		if p := s.pods[child]; p != nil {
			s.publishPodLocked(p)
		} else if c := s.controllers[child]; c != nil {
			s.publishControllerLocked(c)
			s.followLocked(child, depth+1)
		}
	}
}

// found is called when a look-up came to an end.
func (s *Source) found(uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.followLocked(uid, 0)
	// What it owns may itself be owned by what was looked up.
	for _, top := range s.lookup.ownedBy(uid) {
		s.followLocked(top, 0)
	}
	s.customDirty = true
}

// topLocked finds the top controller from an owner on. made says that it is of a
// kind that is not watched, so that its workload has to be made up.
func (s *Source) topLocked(o owner, templateHash string) (ref object.WorkloadRef, uid types.UID, made bool) {
	for range maxDepth {
		ref, uid = object.WorkloadRef{Type: strings.ToLower(o.kind), Name: o.name}, o.uid
		if c := s.controllers[o.uid]; c != nil {
			if c.owner.uid == "" {
				return ref, uid, false
			}
			o, templateHash = c.owner, ""
			continue
		}
		// Not listed yet, or not watched at all.
		if better := guess(o, templateHash); better != ref {
			return better, "", false
		}
		if s.o.Role != wire.RoleNode && s.watches(o) {
			return ref, uid, false // its own event is on the way
		}
		next, known := s.lookup.owner(o)
		if !known || next.uid == "" {
			return ref, uid, s.o.Role != wire.RoleNode
		}
		o, templateHash = next, ""
	}
	s.loops++
	return ref, uid, true
}

// watches says whether an owner is of a kind that is watched.
func (s *Source) watches(o owner) bool {
	for _, w := range s.kinds {
		if w.kind == object.KindWorkload && w.GroupVersion.String() == o.apiVersion && w.trouble == "" &&
			reflect.TypeOf(w.Example).Elem().Name() == o.kind {
			return true
		}
	}
	return false
}

func (s *Source) publishPodLocked(p *pod) {
	out := p.Pod // a copy; what was published stays as it is
	made := false
	switch told, ok := s.told[p.UID]; {
	case ok:
		out.Workload = told
	case p.owner.uid == "":
		out.Workload = object.WorkloadRef{Type: "pod", Name: p.Name}
	case s.o.Role == wire.RoleNode && s.o.Owners != nil && s.asked[p.UID] < askFirst:
		out.Workload = guess(p.owner, p.templateHash)
	default:
		out.Workload, _, made = s.topLocked(p.owner, p.templateHash)
	}
	if made {
		s.customDirty = true
	}
	if s.o.Role == wire.RoleNode {
		if _, ok := s.told[p.UID]; !ok && p.owner.uid != "" {
			select {
			case s.wakeOwners <- struct{}{}:
			default:
			}
		}
	} else if p.owner.uid == "" {
		publish(s, s.current.Workloads, out.UID, bareWorkload(&out))
	}
	publish(s, s.current.Pods, out.UID, &out)
}

// guess tells the workload by names alone: Deployments name their ReplicaSets by
// the hash that they put on the pods.
func guess(o owner, templateHash string) object.WorkloadRef {
	if name, ok := strings.CutSuffix(o.name, "-"+templateHash); ok && o.kind == "ReplicaSet" && templateHash != "" {
		return object.WorkloadRef{Type: "deployment", Name: name}
	}
	return object.WorkloadRef{Type: strings.ToLower(o.kind), Name: o.name}
}

// bareWorkload makes a workload of a pod that nobody controls.
func bareWorkload(p *object.Pod) *object.Workload {
	w := &object.Workload{Meta: p.Meta, Ref: p.Workload, Desired: 1}
	for _, c := range p.Containers {
		if !c.Init && !c.Ephemeral {
			w.Images = append(w.Images, c.Image)
		}
	}
	switch {
	case p.Phase == object.PhaseSucceeded:
		w.Desired = 0
	case p.Ready:
		w.Ready, w.Updated = 1, 1
	default:
		w.Abnormal, w.Reason = 1, orElse(p.Reason, "not ready")
	}
	return w
}

func (s *Source) publishControllerLocked(c *controller) {
	if c.owner.uid != "" {
		// Not a top controller: only its owner is a workload.
		retract(s, s.current.Workloads, c.UID)
		if !s.watches(c.owner) {
			s.lookup.owner(c.owner)
			s.customDirty = true
		}
		return
	}
	var lastJob *controller
	if c.kind == "CronJob" {
		for child := range s.children[types.UID(c.UID)] {
			if j := s.controllers[child]; j != nil && (lastJob == nil || j.CreatedAt.After(lastJob.CreatedAt)) {
				lastJob = j
			}
		}
	}
	w := c.judge(s.now(), lastJob)
	publish(s, s.current.Workloads, w.UID, &w)
}

// customLocked makes up the workloads of top controllers whose kinds are not
// watched, from the pods and controllers that they own.
func (s *Source) customLocked() {
	if !s.customDirty || s.o.Role == wire.RoleNode {
		return
	}
	s.customDirty = false
	sums := map[string]*object.Workload{}
	sum := func(namespace string, ref object.WorkloadRef, uid types.UID, created time.Time) *object.Workload {
		key := namespace + "/" + ref.String()
		w := sums[key]
		if w == nil {
			w = &object.Workload{Meta: object.Meta{UID: string(uid), Namespace: namespace, Name: ref.Name, CreatedAt: created}, Ref: ref}
			sums[key] = w
		}
		if created.Before(w.CreatedAt) {
			w.CreatedAt = created // it is at least as old as what it owns
		}
		return w
	}
	for _, c := range s.controllers {
		if c.owner.uid == "" {
			continue
		}
		ref, uid, made := s.topLocked(c.owner, "")
		if !made || s.controllers[c.owner.uid] != nil {
			continue // counted by the one between
		}
		child := c.judge(s.now(), nil)
		w := sum(c.Namespace, ref, uid, c.CreatedAt)
		w.Desired += child.Desired
		w.Ready += child.Ready
		w.Updated += child.Updated
		w.Abnormal += child.Abnormal
		w.Images = append(w.Images, child.Images...)
		if child.Abnormal > 0 {
			w.Reason = child.Ref.String() + ": " + child.Reason
		}
	}
	for _, p := range s.pods {
		if p.owner.uid == "" || s.controllers[p.owner.uid] != nil || p.Ended() {
			continue
		}
		ref, uid, made := s.topLocked(p.owner, p.templateHash)
		if !made {
			continue
		}
		w := sum(p.Namespace, ref, uid, p.CreatedAt)
		w.Desired++
		w.Updated++
		if p.Ready {
			w.Ready++
		} else {
			w.Abnormal++
			w.Reason = orElse(p.Reason, "not ready")
		}
		for _, c := range p.Containers {
			w.Images = append(w.Images, c.Image)
		}
	}
	for key, uid := range s.custom {
		if w := sums[key]; w == nil || w.UID != uid {
			retract(s, s.current.Workloads, uid)
			delete(s.custom, key)
		}
	}
	for key, w := range sums {
		slices.Sort(w.Images)
		w.Images = slices.Compact(w.Images)
		s.custom[key] = w.UID
		publish(s, s.current.Workloads, w.UID, w)
	}
}

// publish makes an object part of the state and tells subscribers, unless
// nothing about it changed.
func publish[T object.Object](s *Source, all map[string]T, key string, now T) {
	before, had := all[key]
	if had && reflect.DeepEqual(before, now) {
		return
	}
	all[key] = now
	c := state.Change{At: s.now().UTC(), Now: now}
	if had && before.GetMeta().UID == now.GetMeta().UID {
		c.Before = before
	} else if had {
		s.tell(state.Change{At: c.At, Before: before}) // another object took the name
	}
	s.tell(c)
}

func retract[T object.Object](s *Source, all map[string]T, key string) {
	before, had := all[key]
	if !had {
		return
	}
	delete(all, key)
	s.tell(state.Change{At: s.now().UTC(), Before: before})
}

// tell queues a change for every subscriber; the caller holds the lock.
func (s *Source) tell(c state.Change) {
	s.frozen = nil
	for sub := range s.subscribers {
		sub.queue = append(sub.queue, c)
		if len(sub.queue) > sub.most {
			// Of a first list with more objects than that each change is of another one:
			// looked through at every further one, they would cost their square.
			sub.queue = coalesce(sub.queue)
			sub.most = max(maxQueued, 2*len(sub.queue))
		}
		select {
		case sub.wake <- struct{}{}:
		default:
		}
	}
}

// coalesce makes one change of all changes of an object: from what it was at
// first to what it is now.
func coalesce(changes []state.Change) []state.Change {
	type id struct {
		kind object.Kind
		uid  string
	}
	place := map[id]int{}
	var out []state.Change
	for _, c := range changes {
		o := c.Now
		if o == nil {
			o = c.Before
		}
		k := id{o.Kind(), o.GetMeta().UID}
		if i, seen := place[k]; seen {
			out[i].At, out[i].Now = c.At, c.Now
			continue
		}
		place[k] = len(out)
		out = append(out, c)
	}
	return slices.DeleteFunc(out, func(c state.Change) bool { return c.Before == nil && c.Now == nil })
}
