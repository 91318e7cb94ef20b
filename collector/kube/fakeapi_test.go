package kube

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"k8s.io/client-go/rest"
)

// api is an API server of a few lines: it lists and watches what tests put into
// it, and refuses what they forbid.
type api struct {
	t   *testing.T
	srv *httptest.Server

	mu       sync.Mutex
	version  int
	objects  map[string]map[string]map[string]any // by path of the collection, by name
	watchers map[string][]chan []byte
	forbid   map[string]bool // "list pods", "get things"
	asked    []string        // requests, method path?query
	done     chan struct{}
}

func newAPI(t *testing.T) (*api, *Client) {
	a := &api{t: t, objects: map[string]map[string]map[string]any{}, watchers: map[string][]chan []byte{}, forbid: map[string]bool{}, done: make(chan struct{})}
	a.srv = httptest.NewServer(a)
	t.Cleanup(func() { close(a.done); a.srv.Close() })
	c, err := NewClient(&rest.Config{Host: a.srv.URL}, "test", "default", "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.http.CloseIdleConnections)
	return a, c
}

// put adds or changes an object of a collection as "/api/v1/pods".
func (a *api) put(collection, text string) {
	a.t.Helper()
	var o map[string]any
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		a.t.Fatalf("%v in %s", err, text)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.version++
	meta := o["metadata"].(map[string]any)
	meta["resourceVersion"] = strconv.Itoa(a.version)
	name := meta["name"].(string)
	kind := "ADDED"
	if a.objects[collection] == nil {
		a.objects[collection] = map[string]map[string]any{}
	} else if a.objects[collection][name] != nil {
		kind = "MODIFIED"
	}
	a.objects[collection][name] = o
	a.tellLocked(collection, kind, o)
}

func (a *api) remove(collection, name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.version++
	o := a.objects[collection][name]
	delete(a.objects[collection], name)
	a.tellLocked(collection, "DELETED", o)
}

func (a *api) tellLocked(collection, kind string, o map[string]any) {
	raw, _ := json.Marshal(map[string]any{"type": kind, "object": o})
	for _, w := range a.watchers[collection] {
		w <- append(raw, '\n')
	}
}

var kindOf = map[string][2]string{
	"pods": {"v1", "Pod"}, "nodes": {"v1", "Node"}, "namespaces": {"v1", "Namespace"}, "services": {"v1", "Service"}, "events": {"v1", "Event"},
	"deployments": {"apps/v1", "Deployment"}, "statefulsets": {"apps/v1", "StatefulSet"}, "daemonsets": {"apps/v1", "DaemonSet"}, "replicasets": {"apps/v1", "ReplicaSet"},
	"jobs": {"batch/v1", "Job"}, "cronjobs": {"batch/v1", "CronJob"},
	"resourcequotas": {"v1", "ResourceQuota"}, "persistentvolumeclaims": {"v1", "PersistentVolumeClaim"},
	"limitranges": {"v1", "LimitRange"}, "leases": {"coordination.k8s.io/v1", "Lease"},
	"horizontalpodautoscalers": {"autoscaling/v2", "HorizontalPodAutoscaler"}, "endpointslices": {"discovery.k8s.io/v1", "EndpointSlice"},
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.asked = append(a.asked, r.Method+" "+r.URL.String())
	a.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	resource := parts[len(parts)-1]
	kind, watched := kindOf[resource]
	verb := "get"
	if watched {
		verb = "list"
		if r.URL.Query().Get("watch") != "" {
			verb = "watch"
		}
	}
	a.mu.Lock()
	refused := a.forbid[verb+" "+resource]
	a.mu.Unlock()
	switch {
	case refused:
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403,"message":"%s is forbidden"}`, resource)
	case r.URL.Path == "/version":
		fmt.Fprint(w, `{"gitVersion": "v1.34.4"}`)
	case resource == "selfsubjectaccessreviews":
		var review struct {
			Spec struct {
				ResourceAttributes struct{ Verb, Resource, Subresource string }
			}
		}
		raw, _ := io.ReadAll(r.Body)
		// The body is protobuf; what is asked stands in it as plain strings.
		_ = json.Unmarshal(raw, &review)
		a.mu.Lock()
		allowed := true
		for what := range a.forbid {
			verb, resource, _ := strings.Cut(what, " ")
			allowed = allowed && !(strings.Contains(string(raw), verb) && strings.Contains(string(raw), resource))
		}
		a.mu.Unlock()
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"kind":"SelfSubjectAccessReview","apiVersion":"authorization.k8s.io/v1","spec":{},"status":{"allowed":%v}}`, allowed)
	case verb == "list":
		a.list(w, r.URL.Path, kind)
	case verb == "watch":
		a.watch(w, r, kind)
	default:
		a.mu.Lock()
		o := a.objects[strings.TrimSuffix(r.URL.Path, "/"+resource)][resource]
		raw, _ := json.Marshal(o)
		a.mu.Unlock()
		if o == nil {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`)
			return
		}
		_, _ = w.Write(raw)
	}
}

func (a *api) itemsLocked(collection string) []map[string]any {
	var names []string
	for n := range a.objects[collection] {
		names = append(names, n)
	}
	slices.Sort(names)
	items := []map[string]any{}
	for _, n := range names {
		items = append(items, a.objects[collection][n])
	}
	return items
}

func (a *api) list(w io.Writer, path string, kind [2]string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	_ = json.NewEncoder(w).Encode(map[string]any{
		"kind": kind[1] + "List", "apiVersion": kind[0], "metadata": map[string]any{"resourceVersion": strconv.Itoa(a.version)}, "items": a.itemsLocked(path),
	})
}

func (a *api) watch(w http.ResponseWriter, r *http.Request, kind [2]string) {
	ch := make(chan []byte, 100)
	a.mu.Lock()
	a.watchers[r.URL.Path] = append(a.watchers[r.URL.Path], ch)
	var initial []byte
	if r.URL.Query().Get("sendInitialEvents") == "true" {
		for _, o := range a.itemsLocked(r.URL.Path) {
			o["kind"], o["apiVersion"] = kind[1], kind[0]
			raw, _ := json.Marshal(map[string]any{"type": "ADDED", "object": o})
			initial = append(append(initial, raw...), '\n')
		}
		raw, _ := json.Marshal(map[string]any{"type": "BOOKMARK", "object": map[string]any{"kind": kind[1], "apiVersion": kind[0],
			"metadata": map[string]any{"resourceVersion": strconv.Itoa(max(a.version, 1)), "annotations": map[string]string{"k8s.io/initial-events-end": "true"}}}})
		initial = append(append(initial, raw...), '\n')
	}
	a.mu.Unlock()
	_, _ = w.Write(initial)
	w.(http.Flusher).Flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case <-a.done:
			return
		case raw := <-ch:
			var e struct {
				Type   string         `json:"type"`
				Object map[string]any `json:"object"`
			}
			_ = json.Unmarshal(raw, &e)
			e.Object["kind"], e.Object["apiVersion"] = kind[1], kind[0]
			_ = json.NewEncoder(w).Encode(e)
			w.(http.Flusher).Flush()
		}
	}
}
