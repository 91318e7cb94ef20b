package kubestate

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.uber.org/goleak"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T) *State {
	t.Helper()
	s, err := New()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// series reads all parts as a scraper would, and gives each series with its value.
func series(t *testing.T, s *State, parts int) map[string]float64 {
	t.Helper()
	out := map[string]float64{}
	for part := range parts {
		var text strings.Builder
		if err := s.Write(t.Context(), part, parts, &text); err != nil {
			t.Fatal(err)
		}
		p := expfmt.NewTextParser(model.UTF8Validation)
		families, err := p.TextToMetricFamilies(strings.NewReader(text.String()))
		if err != nil {
			t.Fatalf("%v in\n%s", err, &text)
		}
		for name, f := range families {
			for _, m := range f.Metric {
				labels := map[string]string{}
				for _, l := range m.Label {
					labels[l.GetName()] = l.GetValue()
				}
				key := name
				for _, n := range slices.Sorted(maps.Keys(labels)) {
					key += fmt.Sprintf(" %s=%s", n, labels[n])
				}
				if _, twice := out[key]; twice {
					t.Errorf("%s is there twice", key)
				}
				out[key] = value(f.GetType(), m)
			}
		}
	}
	return out
}

func value(kind dto.MetricType, m *dto.Metric) float64 {
	switch kind {
	case dto.MetricType_COUNTER:
		return m.Counter.GetValue()
	case dto.MetricType_GAUGE:
		return m.Gauge.GetValue()
	}
	return m.Untyped.GetValue()
}

func pod(name, uid, node string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: name, UID: types.UID(uid),
			OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "cart-1", Controller: new(true)}},
		},
		Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "app", Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("250m")},
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")},
		}}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{{Name: "app", RestartCount: 3, State: corev1.ContainerState{
			Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}}}},
	}
}

// Names, labels and values are kube-state-metrics' own: those that the
// community's rules and dashboards go by.
func TestObjectsAreShownAsKubeStateMetricsShowsThem(t *testing.T) {
	s := open(t)
	s.Replace(&corev1.Pod{}, []any{pod("cart-a", "1", "n1")})
	s.Put(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "n"}, Status: corev1.NodeStatus{
		Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4")},
		Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
	}})
	three := int32(3)
	s.Put(&appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart", UID: "d", Generation: 2}, Spec: appsv1.DeploymentSpec{Replicas: &three}})
	s.Put(&policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart", UID: "b"}, Status: policyv1.PodDisruptionBudgetStatus{DesiredHealthy: 2}})
	s.Put(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "hidden", UID: "s"}}) // has no families here
	got := series(t, s, 1)
	for key, want := range map[string]float64{
		"kube_pod_info created_by_kind=ReplicaSet created_by_name=cart-1 host_ip= host_network=false namespace=shop node=n1 pod=cart-a pod_ip= priority_class= uid=1": 1,
		"kube_pod_status_phase namespace=shop phase=Running pod=cart-a uid=1":                                                                                         1,
		"kube_pod_status_phase namespace=shop phase=Pending pod=cart-a uid=1":                                                                                         0,
		"kube_pod_container_resource_requests container=app namespace=shop node=n1 pod=cart-a resource=cpu uid=1 unit=core":                                           0.25,
		"kube_pod_container_resource_limits container=app namespace=shop node=n1 pod=cart-a resource=memory uid=1 unit=byte":                                          64 << 20,
		"kube_pod_container_status_restarts_total container=app namespace=shop pod=cart-a uid=1":                                                                      3,
		"kube_pod_container_status_waiting_reason container=app namespace=shop pod=cart-a reason=CrashLoopBackOff uid=1":                                              1,
		"kube_node_status_condition condition=Ready node=n1 status=true":                                                                                              1,
		"kube_node_status_allocatable node=n1 resource=cpu unit=core":                                                                                                 4,
		"kube_deployment_spec_replicas deployment=cart namespace=shop":                                                                                                3,
		"kube_deployment_metadata_generation deployment=cart namespace=shop":                                                                                          2,
		"kube_poddisruptionbudget_status_desired_healthy namespace=shop poddisruptionbudget=cart":                                                                     2,
	} {
		if v, ok := got[key]; !ok || v != want {
			t.Errorf("%s is %v, %v", key, v, ok)
		}
	}
	for key := range got {
		if strings.Contains(key, "hidden") {
			t.Errorf("%s", key)
		}
	}
	if t.Failed() {
		for _, key := range slices.Sorted(maps.Keys(got)) {
			t.Log(key)
		}
	}
}

func TestWhatIsGoneIsNotShown(t *testing.T) {
	s := open(t)
	s.Put(pod("a", "1", "n1"))
	s.Put(pod("b", "2", "n1"))
	names := func() string {
		var out []string
		for key := range series(t, s, 1) {
			if strings.HasPrefix(key, "kube_pod_info") {
				_, name, _ := strings.Cut(key, " pod=")
				out = append(out, name[:1])
			}
		}
		slices.Sort(out)
		return strings.Join(out, "")
	}
	for _, step := range []struct {
		do   func()
		want string
	}{
		{func() {}, "ab"},
		{func() { s.Delete(pod("a", "1", "n1")) }, "b"},
		{func() { s.Delete(pod("a", "1", "n1")) }, "b"}, // twice
		{func() { s.Replace(&corev1.Pod{}, []any{pod("c", "3", "n1")}) }, "c"},
		{func() { s.Replace(&appsv1.Deployment{}, nil) }, "c"}, // another kind
		{func() { s.Put(pod("c", "4", "n2")); s.Delete(pod("c", "3", "n1")) }, "c"},
		{func() { s.Replace(&corev1.Pod{}, []any{"not an object", pod("d", "5", "")}) }, "d"},
	} {
		step.do()
		if got := names(); got != step.want {
			t.Errorf("got %q, want %q", got, step.want)
		}
	}
}

// A list that comes while somebody reads takes nothing away that stays.
func TestAReaderMissesNothingWhileAListComes(t *testing.T) {
	s := open(t)
	list := []any{}
	for i := range 50 {
		list = append(list, pod(fmt.Sprintf("p%d", i), fmt.Sprint(i), "n1"))
	}
	s.Replace(&corev1.Pod{}, list)
	want := len(series(t, s, 1))
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 20 {
			s.Replace(&corev1.Pod{}, list)
		}
	})
	for range 10 {
		if got := len(series(t, s, 1)); got != want {
			t.Errorf("%d of %d series", got, want)
		}
	}
	wg.Wait()
}

func TestPartsHoldEachPodOnce(t *testing.T) {
	s := open(t)
	for i := range podsInPart + 1 {
		s.Put(pod(fmt.Sprintf("p%d", i), fmt.Sprint("uid", i), "n1"))
	}
	s.Put(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", UID: "ns"}})
	if got := s.Parts(); got != 2 {
		t.Fatalf("%d parts", got)
	}
	whole := series(t, s, 1)
	for _, parts := range []int{2, 16} {
		if got := series(t, s, parts); !maps.Equal(got, whole) { // series finds what is there twice
			t.Errorf("%d parts hold %d series, the whole has %d", parts, len(got), len(whole))
		}
	}
	for _, wrong := range [][2]int{{0, 0}, {2, 2}, {-1, 1}, {0, 3}, {0, 32}} {
		if err := s.Write(t.Context(), wrong[0], wrong[1], io.Discard); err == nil {
			t.Errorf("part %d of %d", wrong[0], wrong[1])
		}
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, fault.ErrTooLarge }

func TestWritingEndsWithWhoeverReads(t *testing.T) {
	s := open(t)
	s.Put(pod("a", "1", "n1"))
	if err := s.Write(t.Context(), 0, 1, full{}); err == nil {
		t.Error("a full reader is no error")
	}
}

// Every resource has families, and every one that is not watched anyway is in the
// list of rights that the manifests give.
func TestEveryResourceHasFamilies(t *testing.T) {
	s := open(t)
	if len(s.order) != len(Resources()) || len(s.kinds) != len(s.order) {
		t.Errorf("%d resources, %d with families", len(Resources()), len(s.order))
	}
	for _, r := range Resources() {
		if r == "secrets" || r == "configmaps" {
			t.Errorf("%s are looked at", r)
		}
	}
}

func BenchmarkPods(b *testing.B) {
	s, err := New()
	if err != nil {
		b.Fatal(err)
	}
	p := pod("a", "1", "n1")
	b.ReportAllocs()
	for i := range b.N {
		p.UID = types.UID(fmt.Sprint(i % 5000))
		s.Put(p)
	}
}
