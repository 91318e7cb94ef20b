package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// fakeAPI is an API server of a few lines: one node and the pods that are put
// into it, for collectors that only need to know which pods there are.
type fakeAPI struct {
	srv *httptest.Server

	mu       sync.Mutex
	version  int
	pods     map[string]map[string]any // by name
	logs     map[string]string         // their files, by name
	watchers map[chan []byte]bool
}

const fakeNode = "n1"

func newFakeAPI() *fakeAPI {
	a := &fakeAPI{version: 1, pods: map[string]map[string]any{}, logs: map[string]string{}, watchers: map[chan []byte]bool{}}
	a.srv = httptest.NewServer(a)
	return a
}

// close ends the watches, too.
func (a *fakeAPI) close() {
	a.srv.CloseClientConnections()
	a.srv.Close()
}

// kubeconfig writes one for the server.
func (a *fakeAPI) kubeconfig(dir string) (path string, err error) {
	path = filepath.Join(dir, "kubeconfig")
	return path, os.WriteFile(path, fmt.Appendf(nil, `apiVersion: v1
kind: Config
current-context: bench
clusters: [{name: bench, cluster: {server: %q}}]
contexts: [{name: bench, context: {cluster: bench, user: bench}}]
users: [{name: bench, user: {token: bench}}]
`, a.srv.URL), 0o600)
}

// add puts a running pod with one container "app" of the workload on the node; log is where
// that writes to.
func (a *fakeAPI) add(namespace, name, uid, workload, containerID, log string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.version++
	pod := map[string]any{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": map[string]any{
			"name": name, "namespace": namespace, "uid": uid, "resourceVersion": fmt.Sprint(a.version), "creationTimestamp": "2026-01-01T00:00:00Z", "labels": map[string]any{"app": workload},
			"ownerReferences": []any{map[string]any{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": workload, "uid": "w-" + workload, "controller": true}},
		},
		"spec": map[string]any{"nodeName": fakeNode, "containers": []any{map[string]any{"name": "app", "image": "bench:1"}}},
		"status": map[string]any{"phase": "Running", "podIP": "10.0.0.1", "qosClass": "BestEffort", "containerStatuses": []any{map[string]any{
			"name": "app", "image": "bench:1", "imageID": "bench", "containerID": "containerd://" + containerID, "ready": true, "started": true, "restartCount": 0,
			"state": map[string]any{"running": map[string]any{"startedAt": "2026-01-01T00:00:00Z"}},
		}}},
	}
	a.pods[name], a.logs[name] = pod, log
	raw, err := json.Marshal(map[string]any{"type": "ADDED", "object": pod})
	if err != nil {
		panic("BUG: " + err.Error())
	}
	for w := range a.watchers {
		select {
		case w <- append(raw, '\n'):
		default: // one that does not read: it will list again
		}
	}
}

func (a *fakeAPI) node() map[string]any {
	return map[string]any{"apiVersion": "v1", "kind": "Node", "metadata": map[string]any{"name": fakeNode, "uid": "node-uid", "resourceVersion": "1"},
		"status": map[string]any{"addresses": []any{map[string]any{"type": "InternalIP", "address": "127.0.0.1"}}}}
}

// ServeHTTP implements http.Handler.
func (a *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	path, last := strings.TrimSuffix(r.URL.Path, "/"), ""
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		last = path[i+1:]
	}
	watch := r.URL.Query().Get("watch") != ""
	switch {
	case path == "/version":
		fmt.Fprint(w, `{"major":"1","minor":"34","gitVersion":"v1.34.4"}`)
	case watch && r.URL.Query().Get("sendInitialEvents") != "":
		w.WriteHeader(http.StatusUnprocessableEntity)
		fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","code":422,"message":"sendInitialEvents is not known here"}`)
	case watch:
		a.watch(w, r, last == "pods")
	case last == "selfsubjectaccessreviews":
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, `{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectAccessReview","status":{"allowed":true}}`)
	case path == "/api/v1/pods":
		a.list(w, "v1", "PodList", a.podList())
	case path == "/api/v1/nodes":
		a.list(w, "v1", "NodeList", []any{a.node()})
	case emptyLists[last] != "":
		version := strings.TrimPrefix(strings.TrimPrefix(strings.TrimSuffix(path, "/"+last), "/apis/"), "/api/")
		a.list(w, version, emptyLists[last], []any{})
	case path == "/api/v1/nodes/"+fakeNode:
		_ = json.NewEncoder(w).Encode(a.node())
	case strings.HasPrefix(path, "/api/v1/namespaces/") && last == "log":
		a.mu.Lock()
		file := a.logs[filepath.Base(filepath.Dir(path))]
		a.mu.Unlock()
		followLog(w, r, file)
	case strings.HasPrefix(path, "/api/v1/namespaces/") && strings.Contains(path, "/pods/"):
		a.mu.Lock()
		pod := a.pods[last]
		a.mu.Unlock()
		if pod != nil {
			_ = json.NewEncoder(w).Encode(pod)
			return
		}
		fallthrough
	default:
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404,"message":"not found"}`)
	}
}

func (a *fakeAPI) podList() (items []any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	items = []any{}
	for _, p := range a.pods {
		items = append(items, p)
	}
	return items
}

// emptyLists are the collections of which there is nothing.
var emptyLists = map[string]string{
	"namespaces": "NamespaceList", "services": "ServiceList", "events": "EventList", "deployments": "DeploymentList", "statefulsets": "StatefulSetList",
	"daemonsets": "DaemonSetList", "replicasets": "ReplicaSetList", "jobs": "JobList", "cronjobs": "CronJobList",
}

func (a *fakeAPI) list(w http.ResponseWriter, group, kind string, items []any) {
	a.mu.Lock()
	version := fmt.Sprint(a.version)
	a.mu.Unlock()
	_ = json.NewEncoder(w).Encode(map[string]any{"apiVersion": group, "kind": kind, "metadata": map[string]any{"resourceVersion": version}, "items": items})
}

// followLog answers with the lines of a file as a kubelet does that is asked for their times, too,
// and goes on with what comes.
func followLog(w http.ResponseWriter, r *http.Request, file string) {
	q := r.URL.Query()
	since, err := time.Time{}, error(nil)
	if at := q.Get("sinceTime"); at != "" {
		since, err = time.Parse(time.RFC3339, at)
	}
	var f *os.File
	if err == nil {
		f, err = os.Open(file)
	}
	if err != nil || q.Get("previous") == "true" {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"BadRequest","code":400,"message":"there is no such log"}`)
		return
	}
	defer func() { _ = f.Close() }()
	w.Header().Set("Content-Type", "text/plain")
	in, out, begun := bufio.NewReader(f), bufio.NewWriter(w), ""
	for {
		part, err := in.ReadString('\n')
		if begun += part; err == nil {
			if at, text, ok := strings.Cut(begun, " stdout F "); ok {
				if t, err := time.Parse(time.RFC3339Nano, at); err == nil && !t.Before(since) {
					_, _ = out.WriteString(at + " " + text) // that it could not says the flush
				}
			}
			begun = ""
			continue
		}
		if out.Flush() != nil || http.NewResponseController(w).Flush() != nil || q.Get("follow") != "true" {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// watch tells of pods that are added after it began.
func (a *fakeAPI) watch(w http.ResponseWriter, r *http.Request, pods bool) {
	events := make(chan []byte, 256)
	if pods {
		a.mu.Lock()
		a.watchers[events] = true
		a.mu.Unlock()
		defer func() {
			a.mu.Lock()
			delete(a.watchers, events)
			a.mu.Unlock()
		}()
	}
	out := http.NewResponseController(w)
	w.WriteHeader(http.StatusOK)
	_ = out.Flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case raw := <-events:
			if _, err := w.Write(raw); err != nil {
				return
			}
			_ = out.Flush()
		}
	}
}
