// Package inventory serves clusters and their objects with their current state:
// what lists and pages of the console begin with. It must not know how objects
// are stored or collected, nor decide when anybody is alerted.
package inventory

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/api/problem"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
	"github.com/crowsnest-dev/crowsnest/storage/inventory"
)

// Store has the objects; *inventory.Store is one.
type Store interface {
	Clusters() []string
	Info(cluster string) (inventory.Info, bool)
	List(cluster string, kind object.Kind) []object.Object
	Get(cluster string, key object.Key) (object.Object, bool)
	Gone(cluster string, key object.Key) (inventory.Tombstone, bool)
	Versions(ctx context.Context, cluster string, key object.Key, from, to time.Time) ([]inventory.Version, error)
}

var _ Store = (*inventory.Store)(nil)

// Known is a cluster that somebody has named, perhaps before it sent anything.
type Known struct {
	ID   string
	Name string // for people; empty: the ID
	Kind string // set by hand; empty: as detected
}

// Options say where the parts of an answer come from. Only Store is required to
// serve.
type Options struct {
	Store  Store
	Values Queryable // current values; nil: all are null
	// Known lists clusters that were named. It may give clusters that Store does
	// not have, and the other way round.
	Known func(ctx context.Context) ([]Known, error)
	// Health gives what the collectors of a cluster say of themselves, by sender.
	Health func(cluster string) map[string]wire.Health
	// Peers gives what other nodes say of each node of a cluster, by name; nil gives
	// nothing.
	Peers func(cluster string) map[string]PeerVerdict
	// Incidents counts active incidents by cluster.
	Incidents func(ctx context.Context) (map[string]IncidentCount, error)
	// Delete removes a cluster with all its data; fault.ErrNotFound when there is
	// none, fault.ErrConflict while something makes it come back.
	Delete func(ctx context.Context, cluster string) error
	Now    func() time.Time // default time.Now
}

const (
	defaultInterval = 30 * time.Second
	// maxSources bounds the sources of one answer: a large cluster has three a node.
	maxSources = 200
	// historyWindow is how far back the beginning of a trouble is looked for.
	historyWindow = 7 * 24 * time.Hour
)

type page[T any] struct {
	Items []T     `json:"items" nullable:"false"`
	Next  *string `json:"next" doc:"Give it as cursor to get the next items; null when there are no more."`
}

// Paging asks for a part of a list.
type Paging struct {
	Limit  int    `query:"limit" minimum:"0" maximum:"100000" doc:"At most so many items; 0 gives all."`
	Cursor string `query:"cursor" doc:"next of the answer before."`
}

// ClusterPath names a cluster. (Embedded types must be exported for huma to fill them.)
type ClusterPath struct {
	Cluster string `path:"cluster" doc:"The cluster's id."`
}

type body[T any] struct{ Body T }

// Register adds the routes of clusters and their objects.
func Register(api huma.API, opts Options) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	h := &handlers{opts: opts}
	get(api, "list-clusters", "/clusters", "List clusters, the worst first", h.clusters)
	get(api, "get-cluster", "/clusters/{cluster}", "Show a cluster", h.cluster)
	huma.Register(api, huma.Operation{
		OperationID: "delete-cluster", Method: http.MethodDelete, Path: "/clusters/{cluster}", Tags: []string{"inventory"}, DefaultStatus: http.StatusNoContent,
		Summary: "Delete a cluster with all its data",
		Description: "Its ingest tokens are revoked, its samples, log lines, events and objects are deleted. Files shrink in the background. " +
			"A request that broke off can be repeated.",
	}, func(ctx context.Context, in *ClusterPath) (*struct{}, error) {
		if err := access.Authorize(ctx, access.Admin, in.Cluster, ""); err != nil {
			return nil, problem.Error(err)
		}
		return nil, problem.Error(h.opts.Delete(ctx, in.Cluster))
	})
	get(api, "list-nodes", "/clusters/{cluster}/nodes", "List nodes, the worst first", h.nodes)
	get(api, "get-node", "/clusters/{cluster}/nodes/{node}", "Show a node", h.node)
	h.registerPlaces(api)
	get(api, "search-objects", "/object-search", "Find clusters' objects by words of their names, the best first", h.search)
	get(api, "list-workloads", "/clusters/{cluster}/workloads", "List workloads, the worst first", h.workloads)
	get(api, "get-workload", "/clusters/{cluster}/namespaces/{namespace}/workloads/{type}/{name}", "Show a workload", h.workload)
	get(api, "list-pods", "/clusters/{cluster}/pods", "List pods, the worst first", h.pods)
	get(api, "get-pod", "/clusters/{cluster}/namespaces/{namespace}/pods/{pod}", "Show a pod", h.pod)
}

func get[I, O any](api huma.API, id, path, summary string, fn func(context.Context, *I) (O, error)) {
	huma.Register(api, huma.Operation{OperationID: id, Method: http.MethodGet, Path: path, Summary: summary, Tags: []string{"inventory"}},
		func(ctx context.Context, in *I) (*body[O], error) {
			out, err := fn(ctx, in)
			if err != nil {
				return nil, problem.Error(err)
			}
			return &body[O]{out}, nil
		})
}

type handlers struct{ opts Options }

// known finds a named cluster or one that has reported.
func (h *handlers) known(ctx context.Context) (map[string]Known, error) {
	out := map[string]Known{}
	for _, id := range h.opts.Store.Clusters() {
		out[id] = Known{ID: id}
	}
	if h.opts.Known != nil {
		named, err := h.opts.Known(ctx)
		if err != nil {
			return nil, fmt.Errorf("list clusters: %w", err)
		}
		for _, k := range named {
			out[k.ID] = k
		}
	}
	return out, nil
}

// exists refuses a cluster that nobody knows.
func (h *handlers) exists(ctx context.Context, cluster string) error {
	known, err := h.known(ctx)
	if err != nil {
		return err
	}
	if _, ok := known[cluster]; !ok {
		return fault.Because(fault.ErrNotFound, fault.Missing, "cluster", cluster)
	}
	return nil
}

func (h *handlers) clusters(ctx context.Context, in *Paging) (page[Cluster], error) {
	if err := access.Authorize(ctx, access.Read, "", ""); err != nil {
		return page[Cluster]{}, err
	}
	known, err := h.known(ctx)
	if err != nil {
		return page[Cluster]{}, err
	}
	out, err := h.describe(ctx, "", slices.Collect(maps.Values(known)))
	if err != nil {
		return page[Cluster]{}, err
	}
	slices.SortFunc(out, func(a, b Cluster) int {
		return cmp.Or(cmp.Compare(slices.Index(worstFirst, a.State), slices.Index(worstFirst, b.State)), cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return cutPage(out, *in)
}

func (h *handlers) cluster(ctx context.Context, in *ClusterPath) (Cluster, error) {
	if err := access.Authorize(ctx, access.Read, in.Cluster, ""); err != nil {
		return Cluster{}, err
	}
	known, err := h.known(ctx)
	if err != nil {
		return Cluster{}, err
	}
	k, ok := known[in.Cluster]
	if !ok {
		return Cluster{}, fault.Because(fault.ErrNotFound, fault.Missing, "cluster", in.Cluster)
	}
	out, err := h.describe(ctx, in.Cluster, []Known{k})
	if err != nil {
		return Cluster{}, err
	}
	return out[0], nil
}

// describe makes the views of clusters. only narrows the samples that are read
// to one cluster; "" reads all.
func (h *handlers) describe(ctx context.Context, only string, clusters []Known) ([]Cluster, error) {
	now := h.opts.Now()
	incidents := map[string]IncidentCount{}
	if h.opts.Incidents != nil {
		var err error
		if incidents, err = h.opts.Incidents(ctx); err != nil {
			return nil, fmt.Errorf("count incidents: %w", err)
		}
	}
	health := make(map[string]map[string]wire.Health, len(clusters))
	longest := defaultInterval
	for _, k := range clusters {
		health[k.ID] = h.health(k.ID)
		longest = max(longest, intervalOf(health[k.ID]))
	}
	r := reader{from: h.opts.Values, cluster: only, now: now}
	byCluster := func(l labels.Labels) string { return l.Get("cluster") }
	// The share is a rollup, which is written when all collectors have reported.
	cpu, err := r.newest(ctx, catalogue.ClusterCPUUsedPercent, 3*longest, byCluster)
	if err != nil {
		return nil, err
	}
	mem, err := r.newest(ctx, catalogue.ClusterMemUsedPercent, 3*longest, byCluster)
	if err != nil {
		return nil, err
	}
	// Sent by the cluster collector at each interval: a sign of life.
	life, err := r.newest(ctx, catalogue.ClusterPods, 24*time.Hour, byCluster)
	if err != nil {
		return nil, err
	}
	out := make([]Cluster, 0, len(clusters))
	for _, k := range clusters {
		c, err := h.describeOne(ctx, k, health[k.ID], now, life[k.ID].at)
		if err != nil {
			return nil, err
		}
		c.Incidents = incidents[k.ID]
		limit := now.Add(-staleAfter(time.Duration(c.IntervalSeconds) * time.Second))
		c.CPU.Used = share(cpu[k.ID], c.CPU.Allocatable, limit)
		c.Memory.Used = share(mem[k.ID], c.Memory.Allocatable, limit)
		f := c.facts
		f.incidents = c.Incidents
		c.State, c.Sentence = judge(f, now)
		out = append(out, c.Cluster)
	}
	return out, nil
}

// share is a percentage of an amount; nil when one is unknown or too old.
func share(percent sample, of *float64, notBefore time.Time) *float64 {
	if percent.at.Before(notBefore) || of == nil {
		return nil
	}
	v := percent.v / 100 * *of
	return &v
}

type described struct {
	Cluster
	facts facts
}

func (h *handlers) describeOne(ctx context.Context, k Known, health map[string]wire.Health, now, lifeSign time.Time) (described, error) {
	info, _ := h.opts.Store.Info(k.ID)
	interval := intervalOf(health)
	c := described{Cluster: Cluster{
		ID: k.ID, Name: cmp.Or(k.Name, k.ID), Kind: cmp.Or(k.Kind, info.Kind), Version: info.Version,
		IntervalSeconds: int(interval.Seconds()), Pods: map[string]int{}, Unavailable: []Unavailable{}, Sources: []Source{},
	}}
	last := info.LastSeen
	for _, s := range health {
		last = later(last, s.Time)
	}
	last = later(last, lifeSign)
	if last.After(now) {
		last = now // a clock that is ahead
	}
	c.LastSeenAt = timeOrNil(last)
	f := &c.facts
	*f = facts{synced: info.Synced, lastSeen: last, interval: interval}

	var allocatable object.Resources
	for _, o := range h.opts.Store.List(k.ID, object.KindNode) {
		n := o.(*object.Node)
		if n.Virtual {
			continue
		}
		c.Nodes.Total++
		if n.Ready {
			c.Nodes.Ready++
		} else {
			f.notReady = append(f.notReady, n.Name)
		}
		allocatable.CPUCores += n.Allocatable.CPUCores
		allocatable.MemoryBytes += n.Allocatable.MemoryBytes
	}
	f.nodes = c.Nodes
	if c.Nodes.Total > 0 {
		c.CPU.Allocatable, c.Memory.Allocatable = &allocatable.CPUCores, &allocatable.MemoryBytes
	}

	var worst *object.Workload
	for _, o := range h.opts.Store.List(k.ID, object.KindWorkload) {
		w := o.(*object.Workload)
		c.Workloads.Total++
		if w.Abnormal == 0 {
			continue
		}
		c.Workloads.Abnormal++
		if worst == nil || missing(w) > missing(worst) {
			worst = w
		}
	}
	f.workloads = c.Workloads

	var requested object.Resources
	for _, phase := range object.Phases {
		c.Pods[strings.ToLower(phase)] = 0
	}
	reason := ""
	for _, o := range h.opts.Store.List(k.ID, object.KindPod) {
		p := o.(*object.Pod)
		c.Pods[strings.ToLower(p.Phase)]++
		if p.Phase == object.PhasePending || p.Phase == object.PhaseRunning {
			requested.CPUCores += p.Requests.CPUCores
			requested.MemoryBytes += p.Requests.MemoryBytes
		}
		if worst != nil && !p.Ready && p.Namespace == worst.Namespace && p.Workload == worst.Ref {
			if r := troubleOf(p); rankOf(r) > rankOf(reason) {
				reason = r
			}
		}
	}
	if info.Synced {
		c.CPU.Requested, c.Memory.Requested = &requested.CPUCores, &requested.MemoryBytes
	}
	if worst != nil {
		since, err := h.since(ctx, k.ID, worst, now)
		if err != nil {
			return c, err
		}
		f.worst = &trouble{name: worst.Name, reason: cmp.Or(reason, worst.Reason), ready: worst.Ready, wanted: worst.Desired, job: isJob(worst.Ref)}
		if !since.IsZero() {
			f.worst.since = now.Sub(since)
		}
	}
	c.KindReason = kindReason(k.Kind, c.Kind, health)
	c.Unavailable = unavailable(catalogue.ClusterKind(c.Kind), health)
	c.Sources, f.sources, f.down = sources(health)
	f.unlisted = unlisted(health)
	return c, nil
}

// missing orders workloads by how bad they are: none ready first, then by the
// share of replicas that are missing.
func missing(w *object.Workload) float64 {
	return float64(w.Abnormal) / float64(max(1, w.Desired, w.Abnormal))
}

// troubleOf is the pod's reason; a container that restarts shows it only between
// two crashes.
func troubleOf(p *object.Pod) string {
	if r := podReason(p); rankOf(r) > 2 {
		return r
	}
	for _, c := range p.Containers {
		if c.Last != nil && c.RestartCount > 0 && c.Last.Reason != "Completed" {
			return c.Last.Reason
		}
	}
	return ""
}

// since finds since when a workload has been abnormal.
func (h *handlers) since(ctx context.Context, cluster string, w *object.Workload, now time.Time) (time.Time, error) {
	versions, err := h.opts.Store.Versions(ctx, cluster, object.KeyOf(w), now.Add(-historyWindow), now.Add(time.Hour))
	if err != nil {
		return time.Time{}, fmt.Errorf("find since when %s is abnormal: %w", w.Ref, err)
	}
	states := make([]state, len(versions))
	for i, v := range versions {
		states[i] = state{from: v.From, abnormal: v.Object.(*object.Workload).Abnormal > 0}
	}
	return abnormalSince(states, now), nil
}

func (h *handlers) health(cluster string) map[string]wire.Health {
	if h.opts.Health == nil {
		return nil
	}
	return h.opts.Health(cluster)
}

func (h *handlers) interval(cluster string) time.Duration { return intervalOf(h.health(cluster)) }

// intervalOf is the longest interval of a cluster's collectors.
func intervalOf(health map[string]wire.Health) time.Duration {
	longest := time.Duration(0)
	for _, s := range health {
		longest = max(longest, time.Duration(s.IntervalSeconds)*time.Second)
	}
	return cmp.Or(longest, defaultInterval)
}

// kindReason says why a cluster is taken for a kind: somebody said so here, or a
// collector does.
func kindReason(byHand, kind string, health map[string]wire.Health) string {
	if byHand != "" {
		return "it was set by hand on the server"
	}
	for _, sender := range slices.Sorted(maps.Keys(health)) {
		if h := health[sender]; h.ClusterKind == kind && h.ClusterKindWhy != "" {
			return h.ClusterKindWhy
		}
	}
	return ""
}

// unavailable lists the metrics that a cluster of a kind lacks, or that its
// collectors cannot fill.
func unavailable(kind catalogue.ClusterKind, health map[string]wire.Health) []Unavailable {
	reasons := map[string]string{}
	for _, sender := range slices.Sorted(maps.Keys(health)) {
		for metric, reason := range health[sender].Unavailable {
			reasons[metric] = reason
		}
	}
	for _, m := range catalogue.All() {
		if r, ok := m.Lacking[kind]; ok {
			reasons[m.Name] = r
		}
	}
	// What is computed of metrics that are not there is not there either.
	for more := true; more; {
		more = false
		for _, m := range catalogue.All() {
			for _, part := range m.Parts() {
				if why := reasons[part]; why != "" && reasons[m.Name] == "" {
					reasons[m.Name], more = why, true
				}
			}
		}
	}
	out := make([]Unavailable, 0, len(reasons))
	for _, metric := range slices.Sorted(maps.Keys(reasons)) {
		out = append(out, Unavailable{metric, reasons[metric]})
	}
	return out
}

// unlisted gives the reason for which objects cannot be listed, that of pods
// first: without them nothing else can be shown.
func unlisted(health map[string]wire.Health) string {
	kinds := string(catalogue.Objects) + "/"
	reason := ""
	for _, sender := range slices.Sorted(maps.Keys(health)) {
		for _, s := range health[sender].Sources {
			if s.Name == kinds+string(object.KindPod) && s.Error != "" {
				return s.Error
			}
			if strings.HasPrefix(s.Name, kinds) && reason == "" {
				reason = s.Error
			}
		}
	}
	return reason
}

// sources lists the collectors' sources, those in trouble first.
func sources(health map[string]wire.Health) (out []Source, total, down int) {
	out = []Source{}
	for sender, s := range health {
		for _, src := range s.Sources {
			total++
			if !src.Up {
				down++
			}
			out = append(out, Source{
				Sender: sender, Name: src.Name, Up: src.Up, Error: src.Error, LastSuccessAt: timeOrNil(src.LastSuccess), Expected: src.Expected, Measured: src.Measured,
			})
		}
	}
	rank := func(s Source) int {
		switch {
		case !s.Up:
			return 0
		case s.Measured < s.Expected:
			return 1
		}
		return 2
	}
	slices.SortFunc(out, func(a, b Source) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Sender, b.Sender), cmp.Compare(a.Name, b.Name))
	})
	return out[:min(len(out), maxSources)], total, down
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

type nodesIn struct {
	ClusterPath
	Paging
}

func (h *handlers) nodes(ctx context.Context, in *nodesIn) (page[Node], error) {
	if err := access.Authorize(ctx, access.Read, in.Cluster, ""); err != nil {
		return page[Node]{}, err
	}
	if err := h.exists(ctx, in.Cluster); err != nil {
		return page[Node]{}, err
	}
	verdicts := h.verdicts(in.Cluster)
	shown, err := worst(h.opts.Store.List(in.Cluster, object.KindNode), func(n *object.Node) float64 {
		switch {
		case !n.Ready:
			return 2
		case verdicts[n.Name].Trouble != "" || len(nodeReasons(n)) > 0:
			return 1
		}
		return 0
	}, in.Paging)
	if err != nil {
		return page[Node]{}, err
	}
	out, err := h.fillNodes(ctx, in.Cluster, shown.Items, verdicts, few("node", shown.Items, func(n *object.Node) string { return n.Name })...)
	return page[Node]{Items: out, Next: shown.Next}, err
}

// worst gives a part of a list, those that rank highest first. It is cut before
// values are filled in: only what is shown costs queries.
func worst[O object.Object](objects []object.Object, rank func(O) float64, p Paging) (page[object.Object], error) {
	type ranked struct {
		object.Object
		rank float64
	}
	all := make([]ranked, len(objects))
	for i, o := range objects {
		all[i] = ranked{o, rank(o.(O))}
	}
	slices.SortStableFunc(all, func(a, b ranked) int { return cmp.Compare(b.rank, a.rank) })
	sorted := make([]object.Object, len(all))
	for i, r := range all {
		sorted[i] = r.Object
	}
	return cutPage(sorted, p)
}

// maxFew is up to how many objects are asked for by name; a pattern of more costs
// more than it saves.
const maxFew = 200

// few narrows what is read to the series of these objects, when they are few.
func few[O object.Object](label string, objects []object.Object, name func(O) string) []*labels.Matcher {
	if len(objects) == 0 || len(objects) > maxFew {
		return nil
	}
	names := make([]string, len(objects))
	for i, o := range objects {
		names[i] = regexp.QuoteMeta(name(o.(O)))
	}
	return []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, label, strings.Join(names, "|"))}
}

type nodeIn struct {
	ClusterPath
	Node string `path:"node"`
}

func (h *handlers) node(ctx context.Context, in *nodeIn) (Node, error) {
	if err := access.Authorize(ctx, access.Read, in.Cluster, ""); err != nil {
		return Node{}, err
	}
	o, err := h.find(ctx, in.Cluster, object.Key{Kind: object.KindNode, Name: in.Node})
	if err != nil {
		return Node{}, err
	}
	out, err := h.fillNodes(ctx, in.Cluster, []object.Object{o}, h.verdicts(in.Cluster), equal("node", in.Node)...)
	if err != nil {
		return Node{}, err
	}
	return out[0], nil
}

func equal(pairs ...string) (out []*labels.Matcher) {
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			out = append(out, labels.MustNewMatcher(labels.MatchEqual, pairs[i], pairs[i+1]))
		}
	}
	return out
}

// find gives an object, or fault.ErrNotFound that says whether it was deleted.
func (h *handlers) find(ctx context.Context, cluster string, key object.Key) (object.Object, error) {
	if o, ok := h.opts.Store.Get(cluster, key); ok {
		return o, nil
	}
	if err := h.exists(ctx, cluster); err != nil {
		return nil, err
	}
	if t, ok := h.opts.Store.Gone(cluster, key); ok {
		return nil, fault.Because(fault.ErrNotFound, fault.Gone, key, t.At.Format(time.RFC3339))
	}
	return nil, fmt.Errorf("%s in cluster %s: %w", key, cluster, fault.ErrNotFound)
}

// rows are objects of one kind as they are shown, into which values are filled.
type rows[T any] struct {
	items []T
	at    map[string]int // by what key gives for their series
	key   func(labels.Labels) string
}

// column is where the value of a metric goes.
type column[T any] struct {
	metric string
	into   func(*T) **float64
}

func newRows[O object.Object, T any](objects []object.Object, shown func(O) T, name func(*T) string, key func(labels.Labels) string) rows[T] {
	s := rows[T]{items: make([]T, len(objects)), at: make(map[string]int, len(objects)), key: key}
	for i, o := range objects {
		s.items[i] = shown(o.(O))
		s.at[name(&s.items[i])] = i
	}
	return s
}

// fill reads the newest value of each metric, one Select each.
func (s rows[T]) fill(ctx context.Context, r reader, maxAge time.Duration, columns ...column[T]) error {
	for _, c := range columns {
		found, err := r.newest(ctx, c.metric, maxAge, s.key)
		if err != nil {
			return err
		}
		for k, v := range found {
			if i, ok := s.at[k]; ok {
				*c.into(&s.items[i]) = &v.v
			}
		}
	}
	return nil
}

// count reads how far a counter rose in the last hour; created tells since when
// an object was there to count from.
func (s rows[T]) count(ctx context.Context, r reader, maxAge time.Duration, c column[T], created func(*T) time.Time) error {
	found, err := r.increases(ctx, c.metric, time.Hour, maxAge, s.key, func(k string) time.Time {
		if i, ok := s.at[k]; ok {
			return created(&s.items[i])
		}
		return time.Time{}
	})
	if err != nil {
		return err
	}
	for k, v := range found {
		if i, ok := s.at[k]; ok {
			*c.into(&s.items[i]) = &v
		}
	}
	return nil
}

func (h *handlers) reader(cluster string, match []*labels.Matcher) reader {
	return reader{from: h.opts.Values, cluster: cluster, now: h.opts.Now(), match: match}
}

// verdicts gives what nodes of a cluster say of each other, by name.
func (h *handlers) verdicts(cluster string) map[string]PeerVerdict {
	if h.opts.Peers == nil {
		return nil
	}
	return h.opts.Peers(cluster)
}

func (h *handlers) fillNodes(ctx context.Context, cluster string, objects []object.Object, verdicts map[string]PeerVerdict, match ...*labels.Matcher) ([]Node, error) {
	out := newRows(objects, nodeOf, func(n *Node) string { return n.Name }, func(l labels.Labels) string { return l.Get("node") })
	for _, o := range h.opts.Store.List(cluster, object.KindPod) {
		p := o.(*object.Pod)
		if i, ok := out.at[p.Node]; ok && !p.Ended() {
			out.items[i].Pods++
		}
	}
	for i := range out.items {
		n := &out.items[i]
		if v, ok := verdicts[n.Name]; ok {
			n.Peers = &v
			if v.Trouble != "" {
				n.Reasons = append(n.Reasons, v.Trouble)
			}
		}
	}
	r, maxAge := h.reader(cluster, match), staleAfter(h.interval(cluster))
	err := out.fill(ctx, r, maxAge,
		column[Node]{catalogue.NodeCPUPercent, func(n *Node) **float64 { return &n.CPUPercent }},
		column[Node]{catalogue.NodeMemPercent, func(n *Node) **float64 { return &n.MemPercent }})
	if err != nil {
		return nil, err
	}
	err = out.count(ctx, r, maxAge, column[Node]{catalogue.NodeRestarts, func(n *Node) **float64 { return &n.Restarts1h }},
		func(n *Node) time.Time { return n.CreatedAt })
	return out.items, err
}

type workloadsIn struct {
	ClusterPath
	Paging
	Namespace string `query:"namespace" doc:"Only those of this namespace."`
}

func (h *handlers) workloads(ctx context.Context, in *workloadsIn) (page[Workload], error) {
	if err := access.Authorize(ctx, access.Read, in.Cluster, in.Namespace); err != nil {
		return page[Workload]{}, err
	}
	if err := h.exists(ctx, in.Cluster); err != nil {
		return page[Workload]{}, err
	}
	var objects []object.Object
	for _, o := range h.opts.Store.List(in.Cluster, object.KindWorkload) {
		if in.Namespace == "" || o.GetMeta().Namespace == in.Namespace {
			objects = append(objects, o)
		}
	}
	shown, err := worst(objects, func(w *object.Workload) float64 {
		if w.Abnormal == 0 {
			return 0
		}
		return missing(w)
	}, in.Paging)
	if err != nil {
		return page[Workload]{}, err
	}
	match := append(equal("namespace", in.Namespace), few("workload", shown.Items, func(w *object.Workload) string { return w.Ref.Name })...)
	out, err := h.fillWorkloads(ctx, in.Cluster, shown.Items, match...)
	return page[Workload]{Items: out, Next: shown.Next}, err
}

type workloadIn struct {
	ClusterPath
	Namespace string `path:"namespace"`
	Type      string `path:"type" doc:"Lower case." example:"deployment"`
	Name      string `path:"name"`
}

func (h *handlers) workload(ctx context.Context, in *workloadIn) (Workload, error) {
	if err := access.Authorize(ctx, access.Read, in.Cluster, in.Namespace); err != nil {
		return Workload{}, err
	}
	ref := object.WorkloadRef{Type: in.Type, Name: in.Name}
	o, err := h.find(ctx, in.Cluster, object.Key{Kind: object.KindWorkload, Namespace: in.Namespace, Name: ref.String()})
	if err != nil {
		return Workload{}, err
	}
	out, err := h.fillWorkloads(ctx, in.Cluster, []object.Object{o}, equal("namespace", in.Namespace, "workload_type", in.Type, "workload", in.Name)...)
	if err != nil {
		return Workload{}, err
	}
	return out[0], nil
}

func (h *handlers) fillWorkloads(ctx context.Context, cluster string, objects []object.Object, match ...*labels.Matcher) ([]Workload, error) {
	out := newRows(objects, workloadOf, func(w *Workload) string { return w.Namespace + "/" + w.Type + "/" + w.Name }, func(l labels.Labels) string {
		return l.Get("namespace") + "/" + l.Get("workload_type") + "/" + l.Get("workload")
	})
	r, maxAge := h.reader(cluster, match), staleAfter(h.interval(cluster))
	err := out.fill(ctx, r, maxAge,
		column[Workload]{catalogue.WorkloadCPU, func(w *Workload) **float64 { return &w.CPUCores }},
		column[Workload]{catalogue.WorkloadMem, func(w *Workload) **float64 { return &w.MemBytes }})
	if err != nil {
		return nil, err
	}
	err = out.count(ctx, r, maxAge, column[Workload]{catalogue.WorkloadRestarts, func(w *Workload) **float64 { return &w.Restarts1h }},
		func(w *Workload) time.Time { return w.CreatedAt })
	return out.items, err
}

type podsIn struct {
	ClusterPath
	Paging
	Namespace    string `query:"namespace" doc:"Only those of this namespace."`
	WorkloadType string `query:"workload_type" doc:"Only those of workloads of this type, lower case."`
	Workload     string `query:"workload" doc:"Only those of this workload."`
	Node         string `query:"node" doc:"Only those on this node."`
	Service      string `query:"service" doc:"Only those that the selector of this service of the namespace selects."`
	Search       string `query:"search" maxLength:"400" doc:"Only those that have each of these words in namespace, name, workload, node or reason."`
}

func (h *handlers) pods(ctx context.Context, in *podsIn) (page[Pod], error) {
	if err := access.Authorize(ctx, access.Read, in.Cluster, in.Namespace); err != nil {
		return page[Pod]{}, err
	}
	if err := h.exists(ctx, in.Cluster); err != nil {
		return page[Pod]{}, err
	}
	selects := func(*object.Pod) bool { return true }
	if in.Service != "" {
		o, err := h.find(ctx, in.Cluster, object.Key{Kind: object.KindService, Namespace: in.Namespace, Name: in.Service})
		if err != nil {
			return page[Pod]{}, err
		}
		selects = o.(*object.Service).Selects
	}
	var objects []object.Object
	words := searchWords(in.Search)
	for _, o := range h.opts.Store.List(in.Cluster, object.KindPod) {
		p := o.(*object.Pod)
		if hasAll(words, p.Namespace, p.Name, p.Workload.Type, p.Workload.Name, p.Node, podReason(p), p.Phase) && selects(p) && (in.Namespace == "" || p.Namespace == in.Namespace) && (in.WorkloadType == "" || p.Workload.Type == in.WorkloadType) &&
			(in.Workload == "" || p.Workload.Name == in.Workload) && (in.Node == "" || p.Node == in.Node) {
			objects = append(objects, o)
		}
	}
	match := equal("namespace", in.Namespace, "workload_type", in.WorkloadType, "workload", in.Workload, "node", in.Node)
	shown, err := worst(objects, podRank, in.Paging)
	if err != nil {
		return page[Pod]{}, err
	}
	match = append(match, few("pod", shown.Items, func(p *object.Pod) string { return p.Name })...)
	out, err := h.fillPods(ctx, in.Cluster, shown.Items, match...)
	return page[Pod]{Items: out, Next: shown.Next}, err
}

// podRank orders pods, the worst highest.
func podRank(p *object.Pod) float64 {
	if p.Ready || p.Phase == object.PhaseSucceeded {
		return 0
	}
	return 1 + float64(rankOf(podReason(p)))
}

type podIn struct {
	ClusterPath
	Namespace string `path:"namespace"`
	Pod       string `path:"pod"`
}

func (h *handlers) pod(ctx context.Context, in *podIn) (Pod, error) {
	if err := access.Authorize(ctx, access.Read, in.Cluster, in.Namespace); err != nil {
		return Pod{}, err
	}
	o, err := h.find(ctx, in.Cluster, object.Key{Kind: object.KindPod, Namespace: in.Namespace, Name: in.Pod})
	if err != nil {
		return Pod{}, err
	}
	out, err := h.fillPods(ctx, in.Cluster, []object.Object{o}, equal("namespace", in.Namespace, "pod", in.Pod)...)
	if err != nil {
		return Pod{}, err
	}
	return out[0], nil
}

func (h *handlers) fillPods(ctx context.Context, cluster string, objects []object.Object, match ...*labels.Matcher) ([]Pod, error) {
	out := newRows(objects, podOf, func(p *Pod) string { return p.Namespace + "/" + p.Name },
		func(l labels.Labels) string { return l.Get("namespace") + "/" + l.Get("pod") })
	err := out.fill(ctx, h.reader(cluster, match), staleAfter(h.interval(cluster)),
		column[Pod]{catalogue.PodCPU, func(p *Pod) **float64 { return &p.CPUCores }},
		column[Pod]{catalogue.PodCPULimitPercent, func(p *Pod) **float64 { return &p.CPULimitPercent }},
		column[Pod]{catalogue.PodMem, func(p *Pod) **float64 { return &p.MemBytes }},
		column[Pod]{catalogue.PodMemLimitPercent, func(p *Pod) **float64 { return &p.MemLimitPercent }})
	return out.items, err
}

// cutPage gives the items after the cursor, at most limit. The cursor is a
// position: lists are short-lived, and an item that moved is seen twice or not
// at all until the next refresh.
func cutPage[T any](items []T, p Paging) (page[T], error) {
	if items == nil {
		items = []T{}
	}
	from := 0
	if p.Cursor != "" {
		var err error
		if from, err = strconv.Atoi(p.Cursor); err != nil || from < 0 {
			return page[T]{}, fault.Wrong("query.cursor", fault.Say(fault.Cursor), p.Cursor)
		}
	}
	items = items[min(from, len(items)):]
	out := page[T]{Items: items}
	if p.Limit > 0 && len(items) > p.Limit {
		out.Items = items[:p.Limit]
		next := strconv.Itoa(from + p.Limit)
		out.Next = &next
	}
	return out, nil
}
