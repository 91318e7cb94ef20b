//go:build e2e

package e2e

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

// interval is what all collectors here measure at: the shortest that
// readings from kubelets allow, to save time.
const interval = 15 * time.Second

// bed is what all tests share.
var bed struct {
	cluster   *testbed.Cluster
	artifacts string // folder of screenshots and logs; ignored by git
	pods      *site
	outside   *site
}

// site is one installation of the product that watches the test cluster.
type site struct {
	name      string
	role      string // of its collectors: "node + cluster" or "all"
	server    *testbed.Server
	startedAt time.Time
	// crash ends the server as kill -9 does. Something starts it again: the
	// kubelet, or the function itself.
	crash func(context.Context) error
}

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), 35*time.Minute)
	defer cancel()
	stop, err := setUp(ctx)
	defer stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e: cannot begin:", err)
		if bed.cluster != nil {
			bed.cluster.Dump(ctx, "crowsnest", os.Stderr)
		}
		return 1
	}
	code := m.Run()
	if code != 0 {
		bed.cluster.Dump(ctx, "crowsnest", os.Stderr)
		bed.cluster.Dump(ctx, "e2e", os.Stderr)
	}
	return code
}

// setUp brings up the cluster, the workloads and both installations. What it
// returns takes them down again, whatever went wrong.
func setUp(ctx context.Context) (stop func(), err error) {
	var undo []func()
	stop = func() {
		for i := len(undo) - 1; i >= 0; i-- {
			undo[i]()
		}
	}
	keep := os.Getenv("E2E_KEEP") != "" // leave everything up, to look at
	progress := func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "e2e: %s "+format+"\n", append([]any{time.Now().Format(time.TimeOnly)}, args...)...)
	}

	root, err := testbed.Root()
	if err != nil {
		return stop, err
	}
	bed.artifacts = filepath.Join(root, "test/e2e/artifacts")
	if err := errors.Join(os.RemoveAll(bed.artifacts), os.MkdirAll(bed.artifacts, 0o755)); err != nil {
		return stop, err
	}
	if bed.cluster, err = testbed.Up(ctx, os.Stderr); err != nil {
		return stop, err
	}
	undo = append(undo, func() {
		if !keep {
			_ = bed.cluster.Down(context.Background(), os.Stderr)
		}
	})
	progress("removing what an earlier run left")
	if err := bed.cluster.DeleteNamespaces(ctx, "e2e", "crowsnest"); err != nil {
		return stop, err
	}
	undo = append(undo, func() {
		if !keep {
			_ = bed.cluster.DeleteNamespaces(context.Background(), "e2e", "crowsnest")
		}
	})
	// The node collector's queue and places outlive its pod, and would send an earlier run's samples.
	if err := os.RemoveAll("/var/lib/crowsnest-collector"); err != nil {
		return stop, err
	}

	progress("making and importing the images")
	if err := bed.cluster.ImportImages(ctx, "e2e"); err != nil {
		return stop, err
	}
	progress("installing the shipped manifests")
	tokens := testbed.Tokens{API: token(), Ingest: token()}
	if err := bed.cluster.Install(ctx, tokens); err != nil {
		return stop, err
	}
	bed.pods = &site{
		name: "pods", role: "node + cluster", startedAt: time.Now(),
		server: &testbed.Server{URL: "http://10.96.0.77:7420", Token: tokens.API, Cluster: "main"},
		crash:  crashServerPod,
	}
	progress("starting a server and a collector in role all outside")
	outside, stopOutside, err := startOutside(ctx, root)
	undo = append(undo, stopOutside)
	if err != nil {
		return stop, err
	}
	bed.outside = outside

	if err := bed.cluster.WaitRolledOut(ctx, "crowsnest", 2*time.Minute,
		"statefulset/crowsnest-server", "daemonset/crowsnest-collector-node", "deployment/crowsnest-collector-cluster"); err != nil {
		return stop, err
	}
	// Applied only now, so that lines that are written at once are written
	// before the eyes of the collectors, and objects are seen to appear.
	progress("applying the workloads")
	if _, err := bed.cluster.Kubectl(ctx, "", "apply", "-f", filepath.Join(root, "test/e2e/testdata/workloads.yaml")); err != nil {
		return stop, err
	}
	err = bed.cluster.WaitRolledOut(ctx, "e2e", 2*time.Minute,
		"deployment/steady", "deployment/download", "deployment/fetch", "deployment/hostnet", "deployment/lines", "deployment/burn-quick", "deployment/burn-crashed")
	progress("ready")
	return stop, err
}

func token() string {
	raw := make([]byte, 24)
	_, _ = rand.Read(raw) // never fails
	return hex.EncodeToString(raw)
}

// crashServerPod kills the server's process in its container from outside, so
// that neither it nor the kubelet can do anything orderly.
func crashServerPod(ctx context.Context) error {
	pod, err := podOf(ctx, "crowsnest", "app.kubernetes.io/name=crowsnest-server")
	if err != nil {
		return err
	}
	group, err := testbed.FindCgroup(pod.containerID("server"))
	if err != nil {
		return err
	}
	pids, err := group.PIDs()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		process, err := os.FindProcess(pid)
		if err != nil {
			return err
		}
		if err := process.Kill(); err != nil {
			return err
		}
	}
	return testbed.Await(ctx, time.Minute, 200*time.Millisecond, func(ctx context.Context) error {
		now, err := podOf(ctx, "crowsnest", "app.kubernetes.io/name=crowsnest-server")
		if err != nil {
			return err
		}
		if now.restarts("server") <= pod.restarts("server") {
			return errors.New("the server's container has not restarted")
		}
		return nil
	})
}

// startOutside runs a second server and a collector in role all as processes on
// this machine, which know the cluster by its kubeconfig alone.
func startOutside(ctx context.Context, root string) (_ *site, stop func(), err error) {
	dir, err := os.MkdirTemp("", "crowsnest-e2e-")
	if err != nil {
		return nil, func() {}, err
	}
	var (
		mu        sync.Mutex // guards the processes: crash replaces one while stop may run
		server    *testbed.Process
		collector *testbed.Process
	)
	stop = func() {
		mu.Lock()
		defer mu.Unlock()
		for _, p := range []*testbed.Process{collector, server} {
			if p != nil {
				_ = p.Stop(20 * time.Second)
			}
		}
		_ = os.RemoveAll(dir)
	}
	tokens := testbed.Tokens{API: token(), Ingest: token()}
	files := map[string]string{"api-token": tokens.API, "ingest-token": tokens.Ingest}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text+"\n"), 0o600); err != nil {
			return nil, stop, err
		}
	}
	address, err := testbed.FreeAddress()
	if err != nil {
		return nil, stop, err
	}
	health, err := testbed.FreeAddress()
	if err != nil {
		return nil, stop, err
	}
	client := &testbed.Server{URL: "http://" + address, Token: tokens.API, Cluster: "outside"}
	start := func() error {
		p, err := testbed.Start(bed.artifacts, "server-outside", filepath.Join(root, "bin/crowsnest"), "server",
			"--data", filepath.Join(dir, "data"), "--listen", address,
			"--api-token-file", filepath.Join(dir, "api-token"), "--ingest-token-file", client.Cluster+"="+filepath.Join(dir, "ingest-token"),
			"--allow-webhook-cidr", testbed.Address+"/32")
		if err != nil {
			return err
		}
		server = p
		return p.WaitReady(ctx, client, time.Minute)
	}
	mu.Lock()
	defer mu.Unlock()
	if err := start(); err != nil {
		return nil, stop, err
	}
	collector, err = testbed.Start(bed.artifacts, "collector-outside", filepath.Join(root, "bin/crowsnest-collector"),
		"--role", "all", "--kubeconfig", bed.cluster.Kubeconfig, "--server", client.URL, "--token-file", filepath.Join(dir, "ingest-token"),
		"--data", filepath.Join(dir, "collector"), "--interval", interval.String(), "--listen", health)
	if err != nil {
		return nil, stop, err
	}
	return &site{
		name: "outside", role: "all", server: client, startedAt: time.Now(),
		crash: func(context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			server.Kill()
			return start()
		},
	}, stop, nil
}

// pod is what kubectl tells of a pod.
type pod struct {
	Metadata struct {
		Name string `json:"name"`
		UID  string `json:"uid"`
	} `json:"metadata"`
	Status struct {
		Phase             string `json:"phase"`
		PodIP             string `json:"podIP"`
		ContainerStatuses []struct {
			Name         string `json:"name"`
			ContainerID  string `json:"containerID"`
			RestartCount int    `json:"restartCount"`
		} `json:"containerStatuses"`
	} `json:"status"`
}

func (p pod) containerID(name string) string {
	for _, c := range p.Status.ContainerStatuses {
		if c.Name == name {
			_, id, _ := strings.Cut(c.ContainerID, "://")
			return id
		}
	}
	return ""
}

func (p pod) restarts(name string) int {
	for _, c := range p.Status.ContainerStatuses {
		if c.Name == name {
			return c.RestartCount
		}
	}
	return 0
}

// podOf gives the only pod that a selector finds.
func podOf(ctx context.Context, namespace, selector string) (pod, error) {
	var list struct {
		Items []pod `json:"items"`
	}
	if err := bed.cluster.Get(ctx, &list, "-n", namespace, "pods", "-l", selector); err != nil {
		return pod{}, err
	}
	if len(list.Items) != 1 {
		return pod{}, fmt.Errorf("%d pods are %s in %s, want 1", len(list.Items), selector, namespace)
	}
	return list.Items[0], nil
}

// workloadPod gives the pod of a Deployment of testdata/workloads.yaml.
func workloadPod(t *testing.T, name string) pod {
	t.Helper()
	p, err := podOf(t.Context(), "e2e", "app="+name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// eachSite runs a test against both installations at the same time.
func eachSite(t *testing.T, test func(t *testing.T, s *site)) {
	for _, s := range []*site{bed.pods, bed.outside} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			test(t, s)
		})
	}
}

// await fails the test when check does not give nil within the time.
func await(t *testing.T, timeout time.Duration, what string, check func(context.Context) error) {
	t.Helper()
	if err := testbed.Await(t.Context(), timeout, time.Second, check); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}
