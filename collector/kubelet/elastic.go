package kubelet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/crowsnest-dev/crowsnest/collector/reading"
	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/object"
)

const (
	// maxEndpoints bounds the pods that are asked themselves in an interval, and
	// endpointPatience how long for one.
	maxEndpoints     = 1_000
	endpointPatience = 2 * time.Second
	// endpointTries is how many pods of a node must fail, the first ones, for the
	// others to be left alone.
	endpointTries = 3
)

// readVirtual reads the summary of a virtual node, whose kubelet may be none. Where
// it told of no container twice in a row it is only tried now and then.
func (s *Source) readVirtual(ctx context.Context, n *object.Node, want *expected, m *memory) reading.Set {
	if m.left != "" && m.skipped < recheck {
		m.skipped++
		return reading.Set{Node: n.Name, Source: catalogue.StatsSummary, Err: fmt.Errorf("%s; it is asked again in %d intervals", m.left, recheck-m.skipped+1)}
	}
	m.skipped = 0
	set := s.readSummary(ctx, n, want)
	if containers, _ := delivered(set, want); want.count == 0 || containers > 0 {
		m.blind, m.left = 0, ""
		if set.Err == nil {
			set.Lacking = untold(catalogue.StatsSummary, "the virtual nodes' summary does not tell it")
		}
		return set
	}
	if set.Err == nil {
		set.Err = fmt.Errorf("it tells of none of %d running containers", want.count)
	}
	if m.blind++; m.blind >= blindFor {
		m.left = set.Err.Error()
	}
	return set
}

// readElastic asks elsewhere for the pods on virtual nodes whose summaries do not
// tell of nine tenths of them: metrics.k8s.io, then the pods themselves.
func (s *Source) readElastic(ctx context.Context, nodes []*object.Node, told [][]reading.Set, wanted map[string]*expected, now *state.Snapshot) []reading.Set {
	poor := map[string]*expected{}
	for i, n := range nodes {
		if want := wanted[n.Name]; n.Virtual && want != nil && !tells(told[i], want) {
			poor[n.Name] = want
		}
	}
	if len(poor) == 0 {
		return nil
	}
	var out []reading.Set
	if s.o.PodMetrics != nil {
		out = s.readPodMetrics(ctx, poor, now)
		for _, set := range out {
			if tells([]reading.Set{set}, poor[set.Node]) {
				delete(poor, set.Node)
			}
		}
	}
	if s.o.PodEndpoint != nil && len(poor) > 0 {
		out = append(out, s.readEndpoints(ctx, poor, now)...)
	}
	for i, n := range nodes {
		if want := poor[n.Name]; want != nil && !slices.ContainsFunc(out, func(set reading.Set) bool { return set.Node == n.Name && len(set.Containers) > 0 }) {
			told[i][0].Lacking = untold("", "neither the virtual nodes' summary nor metrics.k8s.io nor the pods themselves tell of usage")
		}
	}
	return out
}

// tells says whether the sets tell of nine tenths of what runs.
func tells(sets []reading.Set, want *expected) bool {
	for _, set := range sets {
		if n, _ := delivered(set, want); n*10 >= want.count*9 {
			return true
		}
	}
	return false
}

// podMetricsList is what is needed of metrics.k8s.io's PodMetricsList.
type podMetricsList struct {
	Items each[podMetrics] `json:"items"`
}

type podMetrics struct {
	Metadata struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	} `json:"metadata"`
	Timestamp  time.Time `json:"timestamp"` // end of the window that usage is a mean over
	Containers few[struct {
		Name  string `json:"name"`
		Usage struct {
			CPU    string `json:"cpu"`
			Memory string `json:"memory"`
		} `json:"usage"`
	}] `json:"containers"`
}

// readPodMetrics gives a set for each of the nodes, of one answer for all.
func (s *Source) readPodMetrics(ctx context.Context, poor map[string]*expected, now *state.Snapshot) []reading.Set {
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	began := s.now()
	sets := map[string]*reading.Set{}
	for node := range poor {
		sets[node] = &reading.Set{Node: node, Source: catalogue.MetricsAPI}
	}
	pods := map[string]*object.Pod{}
	for _, p := range now.Pods {
		if sets[p.Node] != nil && !p.Ended() {
			pods[p.Namespace+"/"+p.Name] = p
		}
	}
	var list podMetricsList
	refused := map[string]int{}
	list.Items.take = func(item *podMetrics) {
		name := item.Metadata.Namespace + "/" + item.Metadata.Name
		p := pods[name]
		if p == nil || item.Timestamp.IsZero() {
			return
		}
		delete(pods, name) // told twice, the first counts
		refused[refusedMany] += item.Containers.over
		set := sets[p.Node]
		for _, c := range item.Containers.all {
			r := reading.Container{PodUID: p.UID, Namespace: p.Namespace, Pod: p.Name, Name: c.Name, CPUCores: quantity(c.Usage.CPU, item.Timestamp), WorkingSetBytes: quantity(c.Usage.Memory, item.Timestamp)}
			if poor[p.Node].names[containerName{p.Namespace, p.Name, c.Name}] && (r.CPUCores.OK() || r.WorkingSetBytes.OK()) {
				set.Containers = append(set.Containers, r)
			}
		}
	}
	buf := &limited{most: MaxBodyBytes}
	err := s.o.PodMetrics(ctx, buf)
	if err == nil {
		if err = json.Unmarshal(buf.Bytes(), &list); err != nil {
			err = fmt.Errorf("read metrics.k8s.io: %w: %v", fault.ErrMalformed, err)
		}
	}
	s.refuse(refused)
	for _, set := range sets {
		if set.Err = err; err != nil {
			set.Containers = nil
			continue
		}
		set.Lacking = untold(catalogue.MetricsAPI, "metrics.k8s.io tells of CPU and memory alone, and neither the virtual nodes nor the pods themselves tell more")
	}
	out := make([]reading.Set, 0, len(sets))
	for _, set := range sets {
		if n, _ := delivered(*set, poor[set.Node]); set.Err == nil && n == 0 {
			set.Err = fmt.Errorf("metrics.k8s.io tells of none of %d running containers", poor[set.Node].count)
		}
		set.Took = s.now().Sub(began)
		out = append(out, *set)
	}
	slices.SortFunc(out, func(a, b reading.Set) int { return strings.Compare(a.Node, b.Node) })
	return out
}

// untold are the metrics of usage that a source cannot tell of pods on virtual nodes,
// with the reason; without a source, all.
func untold(by catalogue.Source, why string) map[string]string {
	out := map[string]string{}
	for _, m := range catalogue.All() {
		if m.Place != catalogue.ByNode || m.Lacking[catalogue.Elastic] != "" || slices.ContainsFunc(m.From, func(s catalogue.Source) bool {
			return s == by || s == catalogue.Objects || s == catalogue.Lines // which there are whoever tells of usage
		}) {
			continue
		}
		out[m.Name] = why
	}
	return out
}

// quantity reads "99871234n" or "17344Ki".
func quantity(text string, at time.Time) reading.Value {
	q, err := resource.ParseQuantity(text)
	if err != nil || q.Sign() < 0 {
		return reading.Value{}
	}
	v := q.AsApproximateFloat64()
	if v > 1e300 {
		return reading.Value{}
	}
	return reading.Value{V: v, At: at}
}

// readEndpoints asks the pods of the nodes themselves, as elastic platforms have it:
// each shows its own containers as cAdvisor would. What a pod says of others is not
// believed.
func (s *Source) readEndpoints(ctx context.Context, poor map[string]*expected, now *state.Snapshot) []reading.Set {
	byNode := map[string][]*object.Pod{}
	for _, p := range now.Pods {
		if poor[p.Node] != nil && p.IP != "" && !p.HostNetwork && p.Phase == object.PhaseRunning {
			byNode[p.Node] = append(byNode[p.Node], p)
		}
	}
	var out []reading.Set
	room := maxEndpoints
	for node := range byNode {
		m := s.memoryOf(node)
		if m.endpointsLeft > 0 {
			m.endpointsLeft--
			continue
		}
		pods := byNode[node]
		slices.SortFunc(pods, func(a, b *object.Pod) int { return strings.Compare(a.UID, b.UID) })
		pods = pods[:min(len(pods), room)]
		room -= len(pods)
		began := s.now()
		set := reading.Set{Node: node, Source: catalogue.PodEndpoint}
		tried := min(len(pods), endpointTries)
		err := s.askPods(ctx, pods[:tried], &set)
		if len(set.Containers) == 0 {
			m.endpointsLeft = recheck
		} else {
			err = errors.Join(err, s.askPods(ctx, pods[tried:], &set))
		}
		if n, _ := delivered(set, poor[node]); n == 0 && err == nil {
			err = fmt.Errorf("its pods tell of none of %d running containers", poor[node].count)
		}
		if len(set.Containers) > 0 {
			set.Lacking = untold(catalogue.PodEndpoint, "the virtual nodes' summary does not answer, and the pods themselves do not tell it")
		}
		set.Err, set.Took = err, s.now().Sub(began)
		out = append(out, set)
	}
	slices.SortFunc(out, func(a, b reading.Set) int { return strings.Compare(a.Node, b.Node) })
	return out
}

// askPods asks pods at the same time. The error is one of them.
func (s *Source) askPods(ctx context.Context, pods []*object.Pod, set *reading.Set) error {
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex
		failed int
		one    error
	)
	slots := make(chan struct{}, s.o.Concurrency)
	for _, p := range pods {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(ctx, endpointPatience)
			defer cancel()
			r := newCadvisor(s.o.NICs)
			r.most, r.knows = maxPodSeries, ownOf(p)
			r.begin(s.now())
			err := s.o.PodEndpoint(ctx, p, r)
			r.end(err != nil)
			s.refuse(r.refused)
			own := ofPod(r.set(p.Node), p)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed, one = failed+1, err
			}
			set.Containers, set.Pods = append(set.Containers, own.Containers...), append(set.Pods, own.Pods...)
		})
	}
	wg.Wait()
	if failed > 0 {
		return fmt.Errorf("%d of %d pods do not answer, for one: %w", failed, len(pods), one)
	}
	return nil
}

// ownOf says whether something is of the pod.
func ownOf(p *object.Pod) func(uid, namespace, name string) bool {
	return func(uid, namespace, name string) bool {
		return (namespace == p.Namespace && name == p.Name) || (namespace == "" && name == "" && (uid == p.UID || uid == ""))
	}
}

// ofPod leaves of a set what is of the pod.
func ofPod(set reading.Set, p *object.Pod) reading.Set {
	own := ownOf(p)
	set.Containers = slices.DeleteFunc(set.Containers, func(c reading.Container) bool {
		return !own(c.PodUID, c.Namespace, c.Pod) || c.Name == "" && c.ID == ""
	})
	set.Pods = slices.DeleteFunc(set.Pods, func(q reading.Pod) bool { return !own(q.UID, q.Namespace, q.Name) })
	for i := range set.Containers {
		c := &set.Containers[i]
		c.PodUID, c.Namespace, c.Pod = p.UID, p.Namespace, p.Name
		if c.Name != "" {
			c.ID = "" // of the platform's own; names say enough
		}
	}
	for i := range set.Pods {
		set.Pods[i].UID, set.Pods[i].Namespace, set.Pods[i].Name = p.UID, p.Namespace, p.Name
	}
	return set
}

// limited keeps what is written, up to a bound.
type limited struct {
	bytes.Buffer
	most int
}

var _ io.Writer = (*limited)(nil)

// Write fails beyond the bound.
func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > l.most {
		return 0, fmt.Errorf("%w: more than %d bytes", fault.ErrTooLarge, l.most)
	}
	return l.Buffer.Write(p)
}
