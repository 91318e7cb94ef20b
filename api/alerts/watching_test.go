package alerts_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/crowsnest-dev/crowsnest/api/alerts"
	"github.com/crowsnest-dev/crowsnest/internal/object"
)

// objects are an inventory of one cluster.
type objects []object.Object

var _ alerts.Objects = objects{}

func (all objects) List(cluster string, kind object.Kind) (out []object.Object) {
	for _, o := range all {
		if cluster == "prod-1" && o.Kind() == kind {
			out = append(out, o)
		}
	}
	return out
}

func (s *server) List(cluster string, kind object.Kind) []object.Object {
	return s.objects.List(cluster, kind)
}

func TestWhichPoliciesWatch(t *testing.T) {
	s := newServer(t)
	pod := func(name, workload, node string) *object.Pod {
		return &object.Pod{
			Meta: object.Meta{Namespace: "shop", Name: name, Labels: map[string]string{"app": workload}}, Node: node,
			Workload: object.WorkloadRef{Type: "deployment", Name: workload}, Containers: []object.Container{{Name: "app"}, {Name: "proxy"}},
		}
	}
	workload := func(name string) *object.Workload {
		return &object.Workload{Meta: object.Meta{Namespace: "shop", Name: name}, Ref: object.WorkloadRef{Type: "deployment", Name: name}}
	}
	s.objects = objects{
		&object.Node{Meta: object.Meta{Name: "n-1"}}, &object.Node{Meta: object.Meta{Name: "n-2"}}, &object.Namespace{Meta: object.Meta{Name: "shop"}},
		workload("cart"), workload("web"), &object.Service{Meta: object.Meta{Namespace: "shop", Name: "cart"}, Selector: map[string]string{"app": "cart"}},
		pod("cart-1", "cart", "n-1"), pod("cart-2", "cart", "n-2"), pod("web-1", "web", "n-2"),
	}
	for name, spec := range map[string]string{
		"nodes":      `"level":"node","conditions":[{"metric":"k8s_node_cpu_usage","statistic":"avg","period":"1m","op":">","thresholds":{"warning":80},"need":1,"of":1}]`,
		"cart-pods":  `"level":"pod","objects":{"workloads":["deployment/cart"]},"conditions":[{"metric":"k8s_pod_cpu_core_used","statistic":"avg","period":"1m","op":">","thresholds":{"warning":1},"need":1,"of":1}]`,
		"proxies":    `"level":"container","objects":{"names":["proxy"]},"conditions":[{"metric":"k8s_container_cpu_core_used","statistic":"avg","period":"1m","op":">","thresholds":{"warning":1},"need":1,"of":1}]`,
		"deployed":   `"level":"workload","conditions":[{"metric":"k8s_workload_abnormal","statistic":"max","period":"1m","op":">","thresholds":{"warning":0},"need":1,"of":1}]`,
		"off":        `"enabled":false,"level":"pod","conditions":[{"metric":"k8s_pod_cpu_core_used","statistic":"avg","period":"1m","op":">","thresholds":{"warning":1},"need":1,"of":1}]`,
		"other":      `"level":"pod","clusters":{"names":["prod-2"]},"conditions":[{"metric":"k8s_pod_cpu_core_used","statistic":"avg","period":"1m","op":">","thresholds":{"warning":1},"need":1,"of":1}]`,
		"by-cluster": `"level":"cluster","conditions":[{"metric":"k8s_cluster_node_not_ready_num","statistic":"max","period":"1m","op":">","thresholds":{"warning":0},"need":1,"of":1}]`,
	} {
		s.do("POST", "/policies", fmt.Sprintf(`{"apiVersion":"crowsnest.dev/v1","kind":"Policy","metadata":{"name":%q},"spec":{%s}}`, name, spec), 201)
	}
	for query, want := range map[string]string{
		"":                "by-cluster/cluster/0 cart-pods/pod/0 deployed/workload/0 nodes/node/0 proxies/container/0",
		"&node=n-1":       "cart-pods/pod/1 nodes/node/1 proxies/container/1",
		"&node=n-2":       "cart-pods/pod/1 nodes/node/1 proxies/container/2",
		"&node=none":      "",
		"&namespace=shop": "cart-pods/pod/2 deployed/workload/2 proxies/container/3",
		"&namespace=shop&workload_type=deployment&workload=cart": "cart-pods/pod/2 deployed/workload/1 proxies/container/2",
		"&namespace=shop&workload_type=deployment&workload=web":  "deployed/workload/1 proxies/container/1",
		"&namespace=shop&service=cart":                           "cart-pods/pod/2 proxies/container/2",
		"&namespace=shop&pod=cart-1":                             "cart-pods/pod/1 proxies/container/1",
		"&namespace=shop&pod=web-1":                              "proxies/container/1",
		"&namespace=shop&pod=cart-1&container=app":               "",
		"&namespace=shop&pod=cart-1&container=proxy":             "proxies/container/1",
	} {
		var got struct{ Items []alerts.Watching }
		if err := json.Unmarshal([]byte(s.do("GET", "/watching-policies?cluster=prod-1"+query, "", 200)), &got); err != nil {
			t.Fatal(err)
		}
		words := make([]string, len(got.Items))
		for i, w := range got.Items {
			words[i] = fmt.Sprintf("%s/%s/%d", w.Name, w.Level, w.Objects)
		}
		if text := strings.Join(words, " "); text != want {
			t.Errorf("%q: %q, want %q", query, text, want)
		}
	}
	says(t, s.do("GET", "/watching-policies", "", 422), "is required")
}
