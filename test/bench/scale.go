package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/crowsnest-dev/crowsnest/collector/kube"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

const (
	scaleToken = "bench-api-server-token-of-this-run"
	// fillPatience bounds the making of nodes and pods, which takes a minute or less on
	// two cores.
	fillPatience = 8 * time.Minute
)

// scaleAPI is a real API server that holds fake nodes and pods; kwok runs those that
// come later. A proxy before it counts who asks what.
type scaleAPI struct {
	url        string // of the API server
	etcd       string
	kubeconfig string // to it
	proxied    string // kubeconfig by way of the proxy
	client     *http.Client

	mu       sync.Mutex
	requests map[string]int // by verb and resource, through the proxy
}

func kubeconfigFor(path, server string) error {
	return os.WriteFile(path, []byte(fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: scale, cluster: {server: %q, insecure-skip-tls-verify: true}}]
users: [{name: scale, user: {token: %s}}]
contexts: [{name: scale, context: {cluster: scale, user: scale}}]
current-context: scale
`, server, scaleToken)), 0o600)
}

// startScaleAPI starts etcd and an API server. What it returns ends them.
func startScaleAPI(ctx context.Context, b *bench) (_ *scaleAPI, stop func(), err error) {
	var undo []func()
	stop = func() {
		for i := len(undo) - 1; i >= 0; i-- {
			undo[i]()
		}
	}
	defer func() {
		if err != nil {
			stop()
		}
	}()
	run := func(name, program string, args ...string) error {
		p, err := testbed.Start(b.dir, name, program, args...)
		if err == nil {
			undo = append(undo, func() { _ = p.Stop(10 * time.Second) })
		}
		return err
	}
	addresses := make([]string, 3)
	for i := range addresses {
		if addresses[i], err = testbed.FreeAddress(); err != nil {
			return nil, nil, err
		}
	}
	etcd, peer, api := "http://"+addresses[0], "http://"+addresses[1], addresses[2]
	if err := run("scale-etcd", "etcd", "--data-dir", filepath.Join(b.dir, "scale-etcd"), "--listen-client-urls", etcd, "--advertise-client-urls", etcd,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer, "--unsafe-no-fsync", "--quota-backend-bytes", "4294967296"); err != nil {
		return nil, nil, err
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, nil, err
	}
	keyFile, tokenFile := filepath.Join(b.dir, "scale-sa.key"), filepath.Join(b.dir, "scale-tokens")
	pemKey := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	if err := errors.Join(os.WriteFile(keyFile, pemKey, 0o600), os.WriteFile(tokenFile, []byte(scaleToken+",bench,bench,system:masters\n"), 0o600)); err != nil {
		return nil, nil, err
	}
	host, port, _ := net.SplitHostPort(api)
	if err := run("scale-apiserver", filepath.Join(testbed.CacheDir(), "testcluster/bin/kube-apiserver"), "--etcd-servers="+etcd, "--bind-address="+host, "--secure-port="+port,
		"--cert-dir="+filepath.Join(b.dir, "scale-certs"), "--token-auth-file="+tokenFile, "--authorization-mode=AlwaysAllow",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file="+keyFile, "--service-account-signing-key-file="+keyFile,
		"--disable-admission-plugins=ServiceAccount,PodSecurity,LimitRanger,ResourceQuota,Priority,DefaultTolerationSeconds,RuntimeClass,MutatingAdmissionPolicy,MutatingAdmissionWebhook,ValidatingAdmissionPolicy,ValidatingAdmissionWebhook",
		"--service-cluster-ip-range=10.96.0.0/16", "--max-requests-inflight=1000", "--max-mutating-requests-inflight=500"); err != nil {
		return nil, nil, err
	}
	s := &scaleAPI{
		url: "https://" + api, etcd: etcd, kubeconfig: filepath.Join(b.dir, "scale.kubeconfig"), proxied: filepath.Join(b.dir, "scale-proxied.kubeconfig"), requests: map[string]int{},
		client: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, MaxIdleConnsPerHost: 64}},
	}
	target, err := url.Parse(s.url)
	if err != nil {
		return nil, nil, err
	}
	proxy := &httputil.ReverseProxy{
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, MaxIdleConnsPerHost: 4096}, FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Header.Set("Authorization", "Bearer "+scaleToken) // clients keep theirs to themselves without TLS
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() == nil { // a watch that its client ended is none
				b.say("proxy: %s: %v", r.URL.Path, err)
			}
			w.WriteHeader(http.StatusBadGateway)
		},
	}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		verb := strings.ToLower(r.Method)
		if r.URL.Query().Get("watch") != "" {
			verb = "watch"
		}
		s.mu.Lock()
		s.requests[verb+" "+r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]]++
		s.mu.Unlock()
		proxy.ServeHTTP(w, r)
	}))
	undo = append(undo, func() { front.CloseClientConnections(); front.Close() })
	if err := errors.Join(kubeconfigFor(s.kubeconfig, s.url), kubeconfigFor(s.proxied, front.URL)); err != nil {
		return nil, nil, err
	}
	err = testbed.Await(ctx, 2*time.Minute, 500*time.Millisecond, func(ctx context.Context) error { return s.do(ctx, http.MethodGet, "/readyz", nil) })
	if err != nil {
		return nil, nil, fmt.Errorf("the API server: %w", err)
	}
	return s, stop, nil
}

// startKwok has what is created from then on run by kwok, and the nodes say that they
// live. It comes when the cluster is filled: having pods run one by one by the API
// server, some dozens a second, took most of the time. Nodes say so every few minutes,
// as kubelets with leases do, and not every 20 s.
func (s *scaleAPI) startKwok(ctx context.Context, b *bench) (*testbed.Process, error) {
	program, stages, err := kwokProgram(ctx, b)
	if err != nil {
		return nil, err
	}
	args := []string{"--kubeconfig", s.kubeconfig, "--manage-all-nodes"}
	for _, stage := range stages {
		args = append(args, "--config", stage)
	}
	kwok, err := testbed.Start(b.dir, "scale-kwok", program, args...)
	if err != nil {
		return nil, err
	}
	// It has the pods and nodes listed when it runs a new pod.
	probe := 3 * b.scalePods
	if err = s.createPod(ctx, b, probe); err == nil {
		err = testbed.Await(ctx, 4*time.Minute, 500*time.Millisecond, func(ctx context.Context) error {
			var pod struct{ Status struct{ Phase string } }
			if err := s.get(ctx, s.podPath(b, probe), &pod); err != nil || pod.Status.Phase == "Running" {
				return err
			}
			return fmt.Errorf("kwok does not run a new pod, which is %s", pod.Status.Phase)
		})
	}
	if err = errors.Join(err, s.deletePod(ctx, b, probe)); err != nil {
		err = fmt.Errorf("%w\n%s", err, kwok.Tail(10))
		return nil, errors.Join(err, kwok.Stop(10*time.Second))
	}
	return kwok, nil
}

// kwokProgram builds kwok from its own module, once, and finds the stages that
// let fake nodes and pods run.
func kwokProgram(ctx context.Context, b *bench) (program string, stages []string, err error) {
	list := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}} {{.Version}}", "sigs.k8s.io/kwok")
	list.Dir = filepath.Join(b.root, "tools/kwok")
	out, err := list.Output()
	if err != nil {
		return "", nil, fmt.Errorf("find kwok: %w", err)
	}
	source, version, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	for _, dir := range []string{"node/fast", "node/heartbeat-with-lease", "pod/fast"} {
		found, err := filepath.Glob(filepath.Join(source, "kustomize/stage", dir, "*.yaml"))
		if err != nil {
			return "", nil, err
		}
		for _, f := range found {
			if filepath.Base(f) != "kustomization.yaml" {
				stages = append(stages, f)
			}
		}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", nil, err
	}
	program = filepath.Join(cache, "crowsnest-bench", "kwok-"+version)
	if _, err := os.Stat(program); err == nil {
		return program, stages, nil
	}
	b.say("building kwok %s", version)
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "sigs.k8s.io/kwok/cmd/kwok")
	build.Dir, build.Env = list.Dir, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", nil, fmt.Errorf("build kwok: %w: %s", err, out)
	}
	return program, stages, nil
}

// do sends one request to the API server itself.
func (s *scaleAPI) do(ctx context.Context, method, path string, body any) error {
	_, err := s.ask(ctx, method, path, body)
	return err
}

// get reads an object of the API server.
func (s *scaleAPI) get(ctx context.Context, path string, into any) error {
	text, err := s.ask(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

func (s *scaleAPI) ask(ctx context.Context, method, path string, body any) ([]byte, error) {
	var raw []byte
	if body != nil {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, s.url+path, bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+scaleToken)
	req.Header.Set("Content-Type", "application/json")
	res, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if res.StatusCode/100 != 2 {
		return nil, fmt.Errorf("%s %s: %s: %.300s", method, path, res.Status, text)
	}
	return text, err
}

// each calls fn for 0 to n-1, several at once, and says now and then how far it is.
func (b *bench) each(ctx context.Context, what string, n int, fn func(ctx context.Context, i int) error) error {
	began := time.Now()
	var done atomic.Int64
	working, end := context.WithCancel(ctx)
	var teller errgroup.Group
	teller.Go(func() error {
		for pause(working, 15*time.Second) == nil {
			b.say("%d of %d %s after %s", done.Load(), n, what, time.Since(began).Round(time.Second))
		}
		return nil
	})
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(32)
	for i := range n {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error {
			defer done.Add(1)
			return fn(ctx, i)
		})
	}
	err := g.Wait()
	end()
	if err = errors.Join(err, teller.Wait()); err != nil {
		return fmt.Errorf("%d of %d %s after %s: %w", done.Load(), n, what, time.Since(began).Round(time.Second), err)
	}
	return nil
}

func (b *bench) scaleWorkloads() int { return max(1, b.scalePods/50) }

func (s *scaleAPI) podPath(b *bench, i int) string {
	return fmt.Sprintf("/api/v1/namespaces/scale/pods/service-%d-7d9f8b6c5d-%05x", i%b.scaleWorkloads(), i)
}

// podObject is a pod as it is created.
func podObject(b *bench, i int) map[string]any {
	w := i % b.scaleWorkloads()
	app := fmt.Sprintf("service-%d", w)
	return map[string]any{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": map[string]any{
			"name": fmt.Sprintf("%s-7d9f8b6c5d-%05x", app, i), "namespace": "scale", "labels": map[string]string{"app": app, "pod-template-hash": "7d9f8b6c5d"},
			"ownerReferences": []any{map[string]any{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": app + "-7d9f8b6c5d", "uid": fmt.Sprintf("00000000-0000-0000-0000-%012x", w+1), "controller": true}},
		},
		"spec": map[string]any{
			"nodeName": fmt.Sprintf("node-%d", i%b.scaleNodes), "terminationGracePeriodSeconds": 0,
			"containers": []any{map[string]any{"name": "app", "image": "example/app:1", "resources": map[string]any{"requests": map[string]string{"cpu": "100m", "memory": "128Mi"}, "limits": map[string]string{"cpu": "1", "memory": "256Mi"}}}},
		},
	}
}

// storedPod is a running pod as etcd has it, with what its API server and its kubelet
// have said of it.
func storedPod(b *bench, i int) map[string]any {
	pod, now := podObject(b, i), time.Now().UTC().Format(time.RFC3339)
	meta := pod["metadata"].(map[string]any)
	meta["uid"], meta["creationTimestamp"] = fmt.Sprintf("5ca1e000-0000-4000-8000-%012x", i), now
	var conditions []any
	for _, what := range []string{"PodScheduled", "Initialized", "ContainersReady", "Ready"} {
		conditions = append(conditions, map[string]any{"type": what, "status": "True", "lastTransitionTime": now})
	}
	ip := fmt.Sprintf("10.%d.%d.%d", 128+i>>16, i>>8&255, i&255)
	pod["status"] = map[string]any{
		"phase": "Running", "qosClass": "Burstable", "startTime": now, "conditions": conditions, "podIP": ip, "podIPs": []any{map[string]any{"ip": ip}},
		"containerStatuses": []any{map[string]any{
			"name": "app", "image": "example/app:1", "imageID": "example/app@sha256:" + strings.Repeat("a", 64), "containerID": fmt.Sprintf("containerd://%064x", i),
			"ready": true, "started": true, "restartCount": 0, "state": map[string]any{"running": map[string]any{"startedAt": now}},
		}},
	}
	return pod
}

// storePods puts running pods into etcd, many at a time: by the API server each would
// cost two requests, and the measurement wants them to be there, not to come.
func (s *scaleAPI) storePods(ctx context.Context, b *bench, from, to int) error {
	type put struct {
		Put struct {
			Key   []byte `json:"key"`
			Value []byte `json:"value"`
		} `json:"requestPut"`
	}
	var txn struct {
		Success []put `json:"success"`
	}
	for i := from; i < to; i++ {
		pod := storedPod(b, i)
		value, err := json.Marshal(pod)
		if err != nil {
			return err
		}
		var p put
		p.Put.Key, p.Put.Value = []byte("/registry/pods/scale/"+pod["metadata"].(map[string]any)["name"].(string)), value
		txn.Success = append(txn.Success, p)
	}
	body, err := json.Marshal(txn)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.etcd+"/v3/kv/txn", bytes.NewReader(body))
	if err != nil {
		return err
	}
	res, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("etcd: %s: %.300s", res.Status, text)
	}
	return err
}

func (s *scaleAPI) createPod(ctx context.Context, b *bench, i int) error {
	return s.do(ctx, http.MethodPost, "/api/v1/namespaces/scale/pods", podObject(b, i))
}

func (s *scaleAPI) deletePod(ctx context.Context, b *bench, i int) error {
	return s.do(ctx, http.MethodDelete, s.podPath(b, i)+"?gracePeriodSeconds=0", nil)
}

// fill makes nodes, Deployments and pods, which run when it returns.
func (s *scaleAPI) fill(ctx context.Context, b *bench) error {
	ctx, cancel := context.WithTimeout(ctx, fillPatience)
	defer cancel()
	now := time.Now().UTC().Format(time.RFC3339)
	if err := s.do(ctx, http.MethodPost, "/api/v1/namespaces", map[string]any{"metadata": map[string]string{"name": "scale"}}); err != nil {
		return err
	}
	err := b.each(ctx, "nodes", b.scaleNodes, func(ctx context.Context, i int) error {
		name := fmt.Sprintf("node-%d", i)
		return s.do(ctx, http.MethodPost, "/api/v1/nodes", map[string]any{
			"apiVersion": "v1", "kind": "Node", "metadata": map[string]any{"name": name, "labels": map[string]string{"kubernetes.io/hostname": name, "type": "kwok"}},
			"status": map[string]any{
				"phase": "Running", "allocatable": map[string]string{"cpu": "16", "memory": "64Gi", "pods": "110"}, "capacity": map[string]string{"cpu": "16", "memory": "64Gi", "pods": "110"},
				"addresses":  []any{map[string]any{"type": "InternalIP", "address": fmt.Sprintf("10.64.%d.%d", i>>8&255, i&255)}, map[string]any{"type": "Hostname", "address": name}},
				"conditions": []any{map[string]any{"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": now, "lastTransitionTime": now}},
			},
		})
	})
	if err != nil {
		return err
	}
	err = b.each(ctx, "Deployments", b.scaleWorkloads(), func(ctx context.Context, i int) error {
		app := fmt.Sprintf("service-%d", i)
		return s.do(ctx, http.MethodPost, "/apis/apps/v1/namespaces/scale/deployments", map[string]any{
			"metadata": map[string]any{"name": app},
			"spec": map[string]any{"replicas": 50, "selector": map[string]any{"matchLabels": map[string]string{"app": app}},
				"template": map[string]any{"metadata": map[string]any{"labels": map[string]string{"app": app}}, "spec": map[string]any{"containers": []any{map[string]any{"name": "app", "image": "example/app:1"}}}}},
		})
	})
	if err != nil {
		return err
	}
	const atOnce = 100 // etcd takes 128
	err = b.each(ctx, "hundreds of pods", (b.scalePods+atOnce-1)/atOnce, func(ctx context.Context, i int) error {
		return s.storePods(ctx, b, i*atOnce, min((i+1)*atOnce, b.scalePods))
	})
	if err != nil {
		return err
	}
	return testbed.Await(ctx, 4*time.Minute, 500*time.Millisecond, func(ctx context.Context) error {
		var pod struct{ Status struct{ Phase string } }
		if err := s.get(ctx, s.podPath(b, b.scalePods-1), &pod); err != nil || pod.Status.Phase == "Running" {
			return err
		}
		return fmt.Errorf("the API server has the last pod as %q", pod.Status.Phase)
	})
}

// takeRequests gives and forgets what was asked through the proxy.
func (s *scaleAPI) takeRequests() (total int, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var parts []string
	for what, n := range s.requests {
		total += n
		if n > 1 {
			parts = append(parts, fmt.Sprintf("%s %d", what, n))
		}
	}
	s.requests = map[string]int{}
	return total, strings.Join(parts, ", ")
}

// collectorScale measures role cluster against a real API server full of fake
// nodes and pods, and what a thousand node collectors ask of it.
func collectorScale(ctx context.Context, b *bench) ([]Result, error) {
	api, stop, err := startScaleAPI(ctx, b)
	if err != nil {
		return nil, err
	}
	defer stop()
	b.say("making %d nodes and %d pods", b.scaleNodes, b.scalePods)
	filling := time.Now()
	if err := api.fill(ctx, b); err != nil {
		return nil, err
	}
	b.say("filled in %s; kwok", time.Since(filling).Round(time.Second))
	kwok, err := api.startKwok(ctx, b)
	if err != nil {
		return nil, err
	}
	defer kwok.Stop(10 * time.Second)
	server, tokenFile, p, err := b.startServer(ctx, "scale")
	if err != nil {
		return nil, err
	}
	defer p.Stop(20 * time.Second)
	api.takeRequests()
	began := time.Now()
	collector, err := testbed.Start(b.dir, "scale-collector", filepath.Join(b.root, "bin/crowsnest-collector"), "--role", "cluster", "--kubeconfig", api.proxied,
		"--server", server.URL, "--token-file", tokenFile, "--data", filepath.Join(b.dir, "scale-collector"), "--listen", "", "--leader-elect=false")
	if err != nil {
		return nil, err
	}
	defer collector.Stop(20 * time.Second)
	err = testbed.Await(ctx, 5*time.Minute, 200*time.Millisecond, func(ctx context.Context) error {
		var cluster struct {
			Nodes struct{ Total, Ready int } `json:"nodes"`
			Pods  map[string]int             `json:"pods"`
		}
		raw, err := server.Do(ctx, http.MethodGet, "/apis/crowsnest.dev/v1/clusters/"+benchCluster, nil)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(raw, &cluster); err != nil {
			return err
		}
		pods := 0
		for _, n := range cluster.Pods {
			pods += n
		}
		if pods < b.scalePods*99/100 || cluster.Nodes.Ready < b.scaleNodes {
			return fmt.Errorf("the inventory has %+v", cluster)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, collector.Tail(10))
	}
	complete := time.Since(began)
	startRequests, startText := api.takeRequests()
	b.say("complete after %s; churn", complete.Round(100*time.Millisecond))
	churning, endChurn := context.WithCancel(ctx)
	var g errgroup.Group
	var replaced atomic.Int64
	g.Go(func() error {
		perMinute := max(1, b.scalePods/100)
		tick := time.NewTicker(time.Minute / time.Duration(perMinute))
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-churning.Done():
				return nil
			case <-tick.C:
			}
			if err := errors.Join(api.deletePod(ctx, b, i), api.createPod(ctx, b, b.scalePods+i)); err != nil {
				return err
			}
			replaced.Add(1)
		}
	})
	err = settle(ctx)
	var cores, memory, rss float64
	if err == nil {
		cores, memory, rss, err = usage(ctx, collector.PID(), b.for_)
	}
	endChurn()
	if err = errors.Join(err, g.Wait()); err != nil {
		return nil, err
	}
	churnRequests, churnText := api.takeRequests()
	note := fmt.Sprintf("Role cluster at 30 s; %d nodes and %d pods in the etcd of a real API server, kwok for their kubelets, %d pods replaced meanwhile (1 %% a minute); mean over %s. %s.", b.scaleNodes, b.scalePods, replaced.Load(), b.for_, machine())
	results := []Result{
		{Name: "collector_scale_cpu", Unit: "cores", Ours: cores, Note: note},
		{Name: "collector_scale_memory", Unit: "KiB", Ours: memory * 1024 / float64(b.scalePods), Note: fmt.Sprintf("For each pod, of %.0f MiB anonymous memory, the most that was seen; with the mapped program %.0f MiB. %s", memory, rss, note)},
		{Name: "collector_scale_complete", Unit: "s", Ours: complete.Seconds(), Note: "From the start of the collector until the server's inventory has all of it. " + note},
		{Name: "collector_scale_requests", Unit: "requests", Ours: float64(startRequests), Note: fmt.Sprintf("Of the API server until then (%s). With churn, %d more (%s). %s", startText, churnRequests, churnText, note)},
	}
	if err := collector.Stop(20 * time.Second); err != nil {
		return nil, err
	}
	more, err := nodeRequests(ctx, b, api)
	results = append(results, more...)
	for i := range results {
		results[i].Command = fmt.Sprintf("make bench BENCH=\"--only collector_scale --scale-nodes %d --scale-pods %d\"", b.scaleNodes, b.scalePods)
	}
	return results, err
}

// nodeRequests has as many node sources as there are nodes start, and counts what
// they ask while a Deployment's pods are replaced.
func nodeRequests(ctx context.Context, b *bench, api *scaleAPI) ([]Result, error) {
	b.say("%d node collectors' watches", b.scaleNodes)
	api.takeRequests()
	running, stop := context.WithCancel(ctx)
	defer stop()
	var g errgroup.Group
	var sources []*kube.Source
	for i := range b.scaleNodes {
		client, err := kube.Open(kube.Config{Kubeconfig: api.proxied})
		if err != nil {
			return nil, err
		}
		source, err := kube.NewSource(kube.Options{Client: client, Role: wire.RoleNode, Node: fmt.Sprintf("node-%d", i)})
		if err != nil {
			return nil, err
		}
		sources = append(sources, source)
		g.Go(func() error { return source.Run(running) })
	}
	err := testbed.Await(ctx, 5*time.Minute, 500*time.Millisecond, func(context.Context) error {
		for i, s := range sources {
			if !s.Snapshot().Synced {
				return fmt.Errorf("node-%d is not listed yet", i)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	start, startText := api.takeRequests()
	const rollout = 300
	err = b.each(ctx, "pods replaced", rollout, func(ctx context.Context, i int) error {
		at := b.scalePods/2 + i
		return errors.Join(api.deletePod(ctx, b, at), api.createPod(ctx, b, 2*b.scalePods+i))
	})
	if err == nil {
		err = pause(ctx, 30*time.Second)
	}
	requests, text := api.takeRequests()
	stop()
	if err = errors.Join(err, g.Wait()); err != nil {
		return nil, err
	}
	note := fmt.Sprintf("%d node sources in one process, each with its own connection. %s.", b.scaleNodes, machine())
	return []Result{
		{Name: "collector_scale_nodes_start", Unit: "requests", Ours: float64(start), Note: fmt.Sprintf("Of the API server until all had listed (%s). %s", startText, note)},
		{Name: "collector_scale_nodes_rollout", Unit: "requests", Ours: float64(requests), Note: fmt.Sprintf("While %d pods were replaced, and half a minute after (%s). Owners that the server tells are asked of it, which is not there in this measurement. %s", rollout, text, note)},
	}, nil
}
