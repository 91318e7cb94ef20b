package inventory

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/object"
)

const placeSeries = `load 30s
	k8s_namespace_cpu_core_used{cluster="prod",namespace="shop"} 1.5x240
	k8s_namespace_mem_no_cache_bytes{cluster="prod",namespace="shop"} 2e9x240
	k8s_namespace_pod_restart_total{cluster="prod",namespace="shop"} 10x200 12x40
	k8s_service_endpoints_ready{cluster="prod",namespace="shop",service="cart"} 1x240
	k8s_service_endpoints_not_ready{cluster="prod",namespace="shop",service="cart"} 2x240
`

func TestNamespacesAndServices(t *testing.T) {
	labelled := func(p *object.Pod, app string) *object.Pod {
		p.Labels = map[string]string{"app": app}
		return p
	}
	service := func(name string, selector map[string]string) *object.Service {
		return &object.Service{Meta: object.Meta{UID: "s-" + name, Namespace: "shop", Name: name, CreatedAt: now.Add(-time.Hour)}, Type: "ClusterIP", Selector: selector}
	}
	w := serve(t, placeSeries, admin, nil,
		&object.Namespace{Meta: object.Meta{UID: "n-shop", Name: "shop", CreatedAt: now.Add(-48 * time.Hour)}},
		&object.Namespace{Meta: object.Meta{UID: "n-empty", Name: "empty", CreatedAt: now.Add(-time.Hour)}, Terminating: true},
		workload("cart", 2, 1), workload("web", 1, 1), service("web", map[string]string{"app": "web"}), service("cart", map[string]string{"app": "cart"}), service("outside", nil),
		labelled(pod("cart-1", "cart", "n-1", "Running", "CrashLoopBackOff", false), "cart"), labelled(pod("web-1", "web", "n-1", "Running", "", true), "web"),
		labelled(pod("web-0", "web", "n-1", "Succeeded", "", false), "web"))

	namespaces := fetch[page[Namespace]](t, w, "/clusters/prod/namespaces").Items
	if len(namespaces) != 2 || namespaces[0].Name != "shop" || !namespaces[1].Terminating || namespaces[1].CPUCores != nil {
		t.Fatalf("namespaces: %+v", namespaces)
	}
	n := fetch[Namespace](t, w, "/clusters/prod/namespaces/shop")
	if n.Workloads != (WorkloadCount{2, 1}) || n.Services != 3 || n.Pods["running"] != 2 || n.Pods["succeeded"] != 1 || n.NotReady != 1 || n.Requests.CPUCores != 1 {
		t.Errorf("what is in shop: %+v", n)
	}
	if n.CPUCores == nil || *n.CPUCores != 1.5 || *n.MemBytes != 2e9 || *n.Restarts1h != 2 {
		t.Errorf("what shop uses: %+v", n)
	}

	services := fetch[page[Service]](t, w, "/clusters/prod/services?namespace=shop").Items
	if len(services) != 3 || services[0].Name != "cart" || services[0].Pods != 1 || services[0].PodsReady != 0 {
		t.Fatalf("the service without a ready pod is not the first: %+v", services)
	}
	cart := fetch[Service](t, w, "/clusters/prod/namespaces/shop/services/cart")
	if cart.Ready == nil || *cart.Ready != 1 || *cart.NotReady != 2 || len(cart.Workloads) != 1 || cart.Workloads[0] != "deployment/cart" {
		t.Errorf("cart: %+v", cart)
	}
	if web := fetch[Service](t, w, "/clusters/prod/namespaces/shop/services/web"); web.Pods != 1 || web.PodsReady != 1 || web.Ready != nil {
		t.Errorf("web, of whose pods one has ended: %+v", web)
	}
	for service, want := range map[string]int{"cart": 1, "web": 2, "outside": 0} {
		if got := fetch[page[Pod]](t, w, "/clusters/prod/pods?namespace=shop&service="+service).Items; len(got) != want {
			t.Errorf("%d pods behind %s, want %d", len(got), service, want)
		}
	}
	for _, path := range []string{"/clusters/prod/namespaces/none", "/clusters/prod/namespaces/shop/services/none", "/clusters/none/namespaces", "/clusters/none/services", "/clusters/prod/pods?namespace=shop&service=none"} {
		if status, body := raw(t, w, path); status != http.StatusNotFound {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
}

func TestSearch(t *testing.T) {
	w := serve(t, "", admin, nil,
		&object.Namespace{Meta: object.Meta{UID: "n-cart", Name: "cart"}}, node("cart-node", true),
		workload("cart", 2, 1), workload("shopping-cart", 1, 1), pod("cart-1", "cart", "n-1", "Running", "CrashLoopBackOff", false), pod("discard", "web", "n-1", "Running", "", true))
	for q, want := range map[string]string{
		"CART":        "namespace/cart workload/cart node/cart-node pod/cart-1 workload/shopping-cart",
		"cart pod":    "pod/cart-1",
		"cart shop x": "",
		"":            "",
		"(.*":         "",
	} {
		got := ""
		for _, f := range fetch[page[Found]](t, w, "/object-search?q="+url.QueryEscape(q)).Items {
			got += " " + f.Kind + "/" + f.Name
		}
		if strings.TrimSpace(got) != want {
			t.Errorf("%q: got %s, want %s", q, got, want)
		}
	}
	if got := fetch[page[Found]](t, w, "/object-search?q=cart&limit=2").Items; len(got) != 2 {
		t.Errorf("with a limit of 2: %+v", got)
	}
	for search, want := range map[string]int{"cart": 1, "crashloop": 1, "n-1+shop": 2, "deployment+web": 1, "nothing": 0} {
		if got := fetch[page[Pod]](t, w, "/clusters/prod/pods?search="+search).Items; len(got) != want {
			t.Errorf("%d pods have %s, want %d", len(got), search, want)
		}
	}
}
