package targets

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/crowsnest-dev/crowsnest/collector/scrape"
)

func read[T any](t *testing.T, text string) *T {
	t.Helper()
	out := new(T)
	if err := yaml.UnmarshalStrict([]byte(text), out); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return out
}

// shop is a Service with two pods, one of which has ended, and an address that
// is no pod's.
func shop(t *testing.T) *Objects {
	o := NewObjects()
	o.Put(read[corev1.Pod](t, `
metadata: {name: cart-5f7-a, namespace: shop, uid: p1, labels: {app: cart, pod-template-hash: 5f7}, annotations: {prometheus.io/scrape: "true", prometheus.io/port: "9100", prometheus.io/path: stats},
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: cart-5f7, uid: rs, controller: true}]}
spec: {nodeName: n1, containers: [{name: app, image: cart:1, ports: [{name: http, containerPort: 8080, protocol: TCP}, {name: metrics, containerPort: 9100, protocol: TCP}, {name: dns, containerPort: 53, protocol: UDP}]}]}
status: {phase: Running, podIP: 10.0.0.1, hostIP: 192.168.0.1, conditions: [{type: Ready, status: "True"}]}`))
	o.Put(read[corev1.Pod](t, `
metadata: {name: cart-old, namespace: shop, uid: p2, labels: {app: cart}, annotations: {prometheus.io/scrape: "true"}}
spec: {containers: [{name: app, ports: [{name: metrics, containerPort: 9100}]}]}
status: {phase: Succeeded, podIP: 10.0.0.2}`))
	o.Put(read[corev1.Service](t, `
metadata: {name: cart, namespace: shop, uid: s1, labels: {app: cart, team: shop}}
spec: {ports: [{name: metrics, port: 9100}]}`))
	o.Put(read[discoveryv1.EndpointSlice](t, `
metadata: {name: cart-x, namespace: shop, uid: e1, labels: {kubernetes.io/service-name: cart}}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: metrics, port: 9100}]
endpoints:
- {addresses: [10.0.0.1], targetRef: {kind: Pod, name: cart-5f7-a, namespace: shop}}
- {addresses: [10.0.0.2], targetRef: {kind: Pod, name: cart-old, namespace: shop}}
- {addresses: [10.9.9.9]}`))
	return o
}

// lines gives a job's targets without meta labels, one line each.
func lines(jobs []scrape.Job) []string {
	var out []string
	for _, j := range jobs {
		for _, g := range j.Groups {
			for _, ls := range g.Targets {
				kept := model.LabelSet{}
				for n, v := range ls {
					if !strings.HasPrefix(string(n), model.MetaLabelPrefix) {
						kept[n] = v
					}
				}
				out = append(out, j.Family+" "+j.Config.JobName+" "+kept.String())
			}
		}
	}
	return out
}

// served stands for the API server: pages by path and continue token.
func served(pages map[string]string) Lister {
	return func(_ context.Context, path, resume string) (io.ReadCloser, error) {
		resource := strings.TrimPrefix(path, monitoringPath)
		text, ok := pages[strings.TrimSuffix(resource+"?"+resume, "?")]
		switch {
		case text == "forbidden":
			return nil, apierrors.NewForbidden(schema.GroupResource{Resource: resource}, "", nil)
		case text == "away":
			return nil, apierrors.NewGenericServerResponse(http.StatusServiceUnavailable, "list", schema.GroupResource{Resource: resource}, "", "", 0, true)
		case !ok:
			return nil, apierrors.NewNotFound(schema.GroupResource{Resource: resource}, "")
		}
		raw, err := yaml.YAMLToJSON([]byte(text))
		return io.NopCloser(strings.NewReader(string(raw))), err
	}
}

func TestAnnotations(t *testing.T) {
	d, err := New(Options{Objects: shop(t), Annotations: true})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{`annotations annotations/shop {__address__="10.0.0.1:9100", __metrics_path__="/stats", container="app", job="shop/cart", namespace="shop", node="n1", pod="cart-5f7-a"}`}
	if got := lines(d.Jobs()); !slices.Equal(got, want) {
		t.Errorf("got %s", strings.Join(got, "\n"))
	}
	first := d.Jobs()
	d.o.Objects.Put(&corev1.Node{})
	if again := d.Jobs(); first[0].Config != again[0].Config {
		t.Error("jobs are made anew where nothing changed")
	}
	d.o.Objects.Put(read[corev1.Pod](t, `
metadata: {name: bare, namespace: shop, uid: p3, annotations: {prometheus.io/scrape: "true"}}
spec: {containers: [{name: app}]}
status: {phase: Running, podIP: 10.0.0.3}`))
	d.Jobs()
	if r := d.Refused(); len(r) != 1 {
		t.Errorf("a pod without any port: refused %v", r)
	}
	d.o.Objects.Put(read[corev1.Service](t, `
metadata: {name: cart, namespace: shop, uid: s1, annotations: {prometheus.io/scrape: "true", prometheus.io/port: "8080", prometheus.io/scheme: https}}`))
	got := lines(d.Jobs())
	for _, part := range []string{`__address__="10.0.0.1:8080"`, `__address__="10.9.9.9:8080"`, `__scheme__="https"`, `service="cart"`} {
		if !strings.Contains(strings.Join(got, "\n"), part) {
			t.Errorf("an annotated Service: no %s in %s", part, strings.Join(got, "\n"))
		}
	}
	d.o.Objects.Replace(&corev1.Pod{}, nil)
	d.o.Objects.Delete(read[corev1.Service](t, `metadata: {uid: s1}`))
	if got := lines(d.Jobs()); len(got) != 0 {
		t.Errorf("all is gone, but there is %v", got)
	}
}

func TestMonitors(t *testing.T) {
	d, err := New(Options{Objects: shop(t), Monitors: served(map[string]string{
		"servicemonitors": `
metadata: {continue: more}
items:
- metadata: {name: cart, namespace: monitoring}
  spec:
    namespaceSelector: {matchNames: [shop]}
    selector: {matchLabels: {app: cart}}
    targetLabels: [team]
    sampleLimit: 100
    endpoints:
    - {port: metrics, interval: 15s, path: /m, honorLabels: true, relabelings: [{sourceLabels: [__meta_kubernetes_pod_node_name], targetLabel: machine}], metricRelabelings: [{action: Drop, sourceLabels: [__name__], regex: go_.*}]}
    - {targetPort: 8080}
    - {port: metrics, basicAuth: {username: {name: s, key: u}, password: {name: s, key: p}}}
    - {port: metrics, bearerTokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token}
    - {port: metrics, relabelings: [{action: Nonsense}]}
    - {port: metrics, tlsConfig: {ca: {configMap: {name: ca, key: ca}}}}`,
		"servicemonitors?more": `
items:
- metadata: {name: elsewhere, namespace: other}
  spec: {selector: {}, endpoints: [{port: metrics}]}
- {metadata: {name: broken}, spec: {selector: 5}}`,
		"podmonitors": `
items:
- metadata: {name: carts, namespace: shop}
  spec: {selector: {matchExpressions: [{key: app, operator: In, values: [cart]}]}, podMetricsEndpoints: [{port: metrics}, {portNumber: 8080, scheme: HTTPS}]}`,
		"probes": `
items:
- metadata: {name: front, namespace: shop}
  spec: {jobName: front, module: http_2xx, prober: {url: "blackbox:9115"}, targets: {staticConfig: {static: ["https://shop.example"], labels: {env: prod}}}}
- metadata: {name: ing, namespace: shop}
  spec: {prober: {url: "blackbox:9115"}, targets: {ingress: {}}}`,
	})})
	if err != nil {
		t.Fatal(err)
	}
	d.poll(t.Context())
	jobs := d.Jobs()
	got := lines(jobs)
	want := []string{
		`service_monitor serviceMonitor/monitoring/cart/0 {__address__="10.0.0.1:9100", container="app", endpoint="metrics", job="cart", namespace="shop", pod="cart-5f7-a", service="cart", team="shop"}`,
		`service_monitor serviceMonitor/monitoring/cart/0 {__address__="10.9.9.9:9100", endpoint="metrics", job="cart", namespace="shop", service="cart", team="shop"}`,
		`service_monitor serviceMonitor/monitoring/cart/1 {__address__="10.0.0.1:8080", container="app", endpoint="8080", job="cart", namespace="shop", pod="cart-5f7-a", service="cart", team="shop"}`,
		`pod_monitor podMonitor/shop/carts/0 {__address__="10.0.0.1:9100", container="app", endpoint="metrics", job="shop/carts", namespace="shop", pod="cart-5f7-a"}`,
		`pod_monitor podMonitor/shop/carts/1 {__address__="10.0.0.1:8080", container="app", job="shop/carts", namespace="shop", pod="cart-5f7-a"}`,
		`probe probe/shop/front {__address__="blackbox:9115", __param_target="https://shop.example", env="prod", instance="https://shop.example", job="front", namespace="shop"}`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
	c := jobs[0].Config
	if time.Duration(c.ScrapeInterval) != 15*time.Second || c.MetricsPath != "/m" || !c.HonorLabels || c.SampleLimit != 100 || len(c.RelabelConfigs) != 1 || len(c.MetricRelabelConfigs) != 1 {
		t.Errorf("configuration of the first endpoint: %+v", c)
	}
	if jobs[1].Config.ScrapeInterval != 0 {
		t.Error("an endpoint without an interval has the collector's, not Prometheus' default")
	}
	refused := d.Refused()
	for _, part := range []string{"endpoint 2: it needs a Secret", "endpoint 3: it names files", "endpoint 4: ", "endpoint 5: its certificates", "cannot unmarshal", "Ingress"} {
		found := false
		for why := range refused {
			found = found || strings.Contains(why, part)
		}
		if !found {
			t.Errorf("%q is not among the refused: %v", part, refused)
		}
	}
}

// A right that is missing ends those jobs and is told; an API server that is
// away leaves them as they were.
func TestMonitorsThatCannotBeListed(t *testing.T) {
	pages := map[string]string{"podmonitors": `{items: [{metadata: {name: a, namespace: shop}, spec: {selector: {}, podMetricsEndpoints: [{port: metrics}]}}]}`}
	d, err := New(Options{Objects: shop(t), Monitors: served(pages)})
	if err != nil {
		t.Fatal(err)
	}
	d.poll(t.Context())
	if n := len(lines(d.Jobs())); n != 1 || len(d.Refused()) != 0 {
		t.Fatalf("%d targets, refused %v: definitions that are not installed are no trouble", n, d.Refused())
	}
	pages["podmonitors"] = "away"
	d.poll(t.Context())
	if n := len(lines(d.Jobs())); n != 1 || len(d.Refused()) != 1 {
		t.Errorf("%d targets, refused %v", n, d.Refused())
	}
	pages["podmonitors"] = "forbidden"
	d.poll(t.Context())
	if n := len(lines(d.Jobs())); n != 0 || d.Refused()["needs list on podmonitors in API group monitoring.coreos.com"] != 1 {
		t.Errorf("%d targets, refused %v", n, d.Refused())
	}
}

func TestStaticFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "scrape.yaml")
	write := func(text string, at time.Time) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	write("scrape_configs: [{job_name: db, bearer_token_file: token, static_configs: [{targets: ['db:9187'], labels: {env: prod}}]}]", time.Unix(1, 0))
	d, err := New(Options{File: path})
	if err != nil {
		t.Fatal(err)
	}
	jobs := d.Jobs()
	if got := lines(jobs); len(got) != 1 || got[0] != `static db {__address__="db:9187"}` || jobs[0].Groups[0].Labels["env"] != "prod" {
		t.Errorf("got %v", got)
	}
	if f := jobs[0].Config.HTTPClientConfig.Authorization.CredentialsFile; f != filepath.Join(filepath.Dir(path), "token") {
		t.Errorf("the token is looked for at %s", f)
	}
	for name, text := range map[string]string{
		"unknown key":     "scrape_configs: [{job_name: a, targets: [x]}]",
		"no jobs":         "global: {scrape_interval: 10s}",
		"another finder":  "scrape_configs: [{job_name: a, kubernetes_sd_configs: [{role: pod}]}]",
		"not YAML":        "\t{",
		"one name, twice": "scrape_configs: [{job_name: a}, {job_name: a}]",
	} {
		if _, err := ParseStatic(text, "f"); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	write("scrape_configs: nonsense", time.Unix(2, 0))
	if err := d.readFile(); err == nil || len(lines(d.Jobs())) != 1 {
		t.Errorf("a broken edit: %v, %d jobs; the last good ones stay", err, len(d.Jobs()))
	}
}

func FuzzParseStatic(f *testing.F) {
	f.Add("scrape_configs: [{job_name: db, static_configs: [{targets: ['db:9187']}]}]")
	f.Fuzz(func(t *testing.T, text string) {
		jobs, err := ParseStatic(text, "f")
		if err == nil && len(jobs) == 0 {
			t.Error("neither jobs nor an error")
		}
	})
}
