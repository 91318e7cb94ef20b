// Package kubestate makes of Kubernetes' objects what kube-state-metrics makes of
// them, by its own metric families, from the watches that the collector has
// anyway: the names and labels are its, whatever its release says. It must not
// know how objects are watched nor how samples are kept.
//
// It keeps no objects: each is rendered to text when it changes, and the text is
// put together when it is asked for.
package kubestate

import (
	"bufio"
	"context"
	"fmt"
	"hash/maphash"
	"io"
	"reflect"
	"slices"
	"sync"

	"github.com/go-logr/logr"
	"github.com/prometheus/common/expfmt"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"k8s.io/kube-state-metrics/v2/pkg/allowdenylist"
	"k8s.io/kube-state-metrics/v2/pkg/builder"
	generator "k8s.io/kube-state-metrics/v2/pkg/metric_generator"
	metricsstore "k8s.io/kube-state-metrics/v2/pkg/metrics_store"
	"k8s.io/kube-state-metrics/v2/pkg/optin"

	"github.com/crowsnest-dev/crowsnest/collector/kube"
)

const (
	// podStores is into how many parts pods can be told at most.
	podStores = 16
	// podsInPart is about how many pods one part holds: their text, some 12 KB
	// each, is in memory at once while it is read.
	podsInPart = 2_000
)

// State holds the text of every object.
type State struct {
	kinds map[reflect.Type]*kind
	order []*kind
	pods  *kind
	seed  maphash.Seed
}

var _ kube.Observer = (*State)(nil)

// kind is one resource.
type kind struct {
	resource string
	stores   []*metricsstore.MetricsStore // an object is in that of its UID's hash

	mu   sync.Mutex
	held map[types.UID]bool
}

// New prepares the families of Resources.
func New() (*State, error) {
	all, err := allowdenylist.New(nil, nil)
	if err == nil {
		err = all.Parse()
	}
	if err != nil {
		return nil, fmt.Errorf("kubestate: %w", err)
	}
	// What kube-state-metrics gives only to those who ask for it by name stays
	// out, as it does there.
	usual, err := optin.NewMetricFamilyFilter(nil)
	if err != nil {
		return nil, fmt.Errorf("kubestate: %w", err)
	}
	s := &State{kinds: map[reflect.Type]*kind{}, seed: maphash.MakeSeed()}
	// The library tells on standard error which resources it builds.
	logs := klog.CaptureState()
	defer logs.Restore()
	klog.SetLogger(logr.Discard())
	for _, resource := range Resources() {
		b := builder.NewBuilder()
		b.WithFamilyGeneratorFilter(generator.NewCompositeFamilyGeneratorFilter(all, usual))
		if err := b.WithEnabledResources([]string{resource}); err != nil {
			return nil, fmt.Errorf("kubestate: %w", err)
		}
		b.WithGenerateStoresFunc(func(families []generator.FamilyGenerator, example any,
			_ func(clientset.Interface, string, string) cache.ListerWatcher, _ bool, _ int64,
		) []cache.Store {
			s.add(resource, example, generator.FilterFamilyGenerators(generator.NewCompositeFamilyGeneratorFilter(all, usual), families))
			return nil
		})
		b.BuildStores()
	}
	return s, nil
}

func (s *State) add(resource string, example any, families []generator.FamilyGenerator) {
	k := &kind{resource: resource, held: map[types.UID]bool{}}
	n := 1
	if _, pods := example.(*corev1.Pod); pods {
		n, s.pods = podStores, k
	}
	headers, generate := generator.ExtractMetricFamilyHeaders(families), generator.ComposeMetricGenFuncs(families)
	for range n {
		k.stores = append(k.stores, metricsstore.NewMetricsStore(headers, generate))
	}
	s.kinds[reflect.TypeOf(example)] = k
	s.order = append(s.order, k)
}

// Put implements kube.Observer.
func (s *State) Put(o any) {
	k, m := s.of(o)
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	s.putLocked(k, m, o)
}

func (s *State) putLocked(k *kind, m metav1.Object, o any) {
	k.held[m.GetUID()] = true
	_ = s.store(k, m.GetUID()).Add(o) // fails for what has no metadata, which of found
}

// Delete implements kube.Observer.
func (s *State) Delete(o any) {
	k, m := s.of(o)
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.held, m.GetUID())
	_ = s.store(k, m.GetUID()).Delete(o)
}

// Replace implements kube.Observer. What stays is never away in between, so that
// a reader at the same time misses nothing.
func (s *State) Replace(example any, list []any) {
	k := s.kinds[reflect.TypeOf(example)]
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	seen := make(map[types.UID]bool, len(list))
	for _, o := range list {
		if _, m := s.of(o); m != nil {
			seen[m.GetUID()] = true
			s.putLocked(k, m, o)
		}
	}
	for uid := range k.held {
		if !seen[uid] {
			delete(k.held, uid)
			_ = s.store(k, uid).Delete(&metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{UID: uid}})
		}
	}
}

func (s *State) of(o any) (*kind, metav1.Object) {
	k := s.kinds[reflect.TypeOf(o)]
	m, ok := o.(metav1.Object)
	if k == nil || !ok {
		return nil, nil
	}
	return k, m
}

func (s *State) store(k *kind, uid types.UID) *metricsstore.MetricsStore {
	return k.stores[maphash.String(s.seed, string(uid))%uint64(len(k.stores))]
}

// Parts says into how many parts the text should be divided, so that none is too
// large to be read at once: 1, 2, 4 … 16. A part but the first holds only pods.
func (s *State) Parts() int {
	s.pods.mu.Lock()
	n := len(s.pods.held)
	s.pods.mu.Unlock()
	parts := 1
	for parts < podStores && n > parts*podsInPart {
		parts *= 2
	}
	return parts
}

// Write gives one part of parts as Prometheus' text.
func (s *State) Write(ctx context.Context, part, parts int, into io.Writer) error {
	if parts < 1 || parts > podStores || podStores%parts != 0 || part < 0 || part >= parts {
		return fmt.Errorf("BUG: part %d of %d of the objects' text", part, parts)
	}
	var all metricsstore.MetricsWriterList
	for _, k := range s.order {
		switch {
		case k == s.pods:
			var mine []*metricsstore.MetricsStore
			for i := part; i < podStores; i += parts {
				mine = append(mine, k.stores[i])
			}
			all = append(all, metricsstore.NewMetricsWriter(k.resource, mine...))
		case part == 0:
			all = append(all, metricsstore.NewMetricsWriter(k.resource, k.stores...))
		}
	}
	w := bufio.NewWriterSize(whileWanted{ctx, into}, 64<<10)
	for _, m := range metricsstore.SanitizeHeaders(expfmt.NewFormat(expfmt.TypeTextPlain), all) {
		if err := m.WriteAll(w); err != nil {
			return err
		}
	}
	return w.Flush()
}

// whileWanted ends the writing with its context.
type whileWanted struct {
	ctx context.Context
	w   io.Writer
}

func (w whileWanted) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	return w.w.Write(p)
}

// Resources names those that have families here: all that kube-state-metrics
// shows by default, but ConfigMaps and Secrets. A right to watch those is a right
// to read them, which nobody gives away for two series each.
func Resources() []string {
	out := slices.Clone(watchedAnyway)
	for _, w := range Watches() {
		out = append(out, w.Resource)
	}
	slices.Sort(out)
	return out
}
