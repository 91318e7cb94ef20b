// Package quality measures what people would be told when something breaks: it
// breaks a real cluster in known ways and looks at which policies fire, how
// soon, and why they end. It must not know how a policy is judged: what it sees
// is what users see.
package quality

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

// Setup is how a lab's collectors measure.
type Setup struct {
	// Interval at which they do.
	Interval time.Duration
	// Divisor of the presets' periods.
	Divisor int
	// Outside: one collector reads the kubelets' cAdvisor, and none the nodes' own
	// files.
	Outside bool
}

// FromFiles measures at the shortest interval, which only cgroup files allow.
func FromFiles() Setup { return Setup{Interval: 10 * time.Second, Divisor: 6} }

// FromCadvisor measures as the one collector of a small cluster does.
func FromCadvisor() Setup { return Setup{Interval: 30 * time.Second, Divisor: 2, Outside: true} }

// Readings says what usage is computed from.
func (s Setup) Readings() string {
	if s.Outside {
		return "cAdvisor"
	}
	return "cgroup files"
}

// apiServer of the test cluster.
const apiServer = "https://" + testbed.Address + ":16443"

// collectors that a lab may have.
var collectors = []string{"collector-node", "collector-cluster", "collector-all"}

// Lab is a server and its collectors that watch the test cluster, with the
// presets at divided periods.
type Lab struct {
	Setup
	Cluster *testbed.Cluster
	Server  *testbed.Server
	Webhook *testbed.Webhook
	Log     io.Writer
	// Beside: several faults go on at the same time, so that only what is about a
	// fault's own namespace is looked at, and a sample more is waited for: how soon
	// each is found is measured with one at a time.
	Beside bool

	dir    string
	own    map[string]time.Duration // by policy
	client *http.Client             // of the API server, as its admin
	watch  *watch

	mu        sync.Mutex // guards the processes
	processes map[string]*testbed.Process
	starts    map[string][]string // arguments, program first
	stopWatch context.CancelFunc
	watching  sync.WaitGroup
}

// Start brings up the server and the collectors as processes of this machine,
// which is the cluster's node. Files and logs go to dir.
func Start(ctx context.Context, setup Setup, cluster *testbed.Cluster, dir string, log io.Writer) (_ *Lab, err error) {
	l := &Lab{
		Setup: setup, Cluster: cluster, Log: log, dir: dir, own: map[string]time.Duration{}, processes: map[string]*testbed.Process{}, starts: map[string][]string{},
	}
	defer func() {
		if err != nil {
			l.Stop()
		}
	}()
	if l.client, err = adminClient(cluster.State); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	tokens := map[string]string{"api-token": token(), "ingest-token": token()}
	for name, text := range tokens {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text+"\n"), 0o600); err != nil {
			return nil, err
		}
	}
	address, err := testbed.FreeAddress()
	if err != nil {
		return nil, err
	}
	l.Server = &testbed.Server{URL: "http://" + address, Token: tokens["api-token"], Cluster: "quality"}
	bin := filepath.Join(cluster.Root, "bin")
	l.starts["server"] = []string{
		filepath.Join(bin, "crowsnest"), "server", "--data", filepath.Join(dir, "data"), "--listen", address, "--presets=false",
		"--api-token-file", filepath.Join(dir, "api-token"), "--ingest-token-file", l.Server.Cluster + "=" + filepath.Join(dir, "ingest-token"),
		"--allow-webhook-cidr", testbed.Address + "/32",
	}
	collector := func(role string, args ...string) []string {
		return append([]string{
			filepath.Join(bin, "crowsnest-collector"), "--role", role, "--kubeconfig", cluster.Kubeconfig, "--server", l.Server.URL, "--listen", "",
			"--token-file", filepath.Join(dir, "ingest-token"), "--data", filepath.Join(dir, "collector-"+role), "--interval", l.Interval.String(),
		}, args...)
	}
	components := []string{"--component", "scheduler=https://127.0.0.1:20259,controller_manager=https://127.0.0.1:20257"}
	if l.Outside {
		l.starts["collector-all"] = collector("all", components...)
	} else {
		l.starts["collector-node"] = collector("node", "--node", testbed.Node, "--kubelet-ca-file", filepath.Join(cluster.State, "pki/ca.crt"))
		l.starts["collector-cluster"] = collector("cluster", components...)
	}
	if err := l.start("server"); err != nil {
		return nil, err
	}
	if err := l.processes["server"].WaitReady(ctx, l.Server, time.Minute); err != nil {
		return nil, err
	}
	if l.Webhook, err = testbed.NewWebhook(); err != nil {
		return nil, err
	}
	if err := l.configure(ctx); err != nil {
		return nil, err
	}
	for _, name := range collectors {
		if l.starts[name] == nil {
			continue
		}
		if err := l.start(name); err != nil {
			return nil, err
		}
	}
	watchCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l.stopWatch, l.watch = cancel, newWatch(l.Server)
	l.watching.Go(func() { l.watch.run(watchCtx) })
	return l, testbed.Await(ctx, 2*time.Minute, time.Second, func(ctx context.Context) error {
		for _, metric := range []string{"k8s_node_status_ready", "k8s_node_cpu_usage", "k8s_cluster_node_not_ready_num"} {
			series, err := l.Server.Instant(ctx, metric, time.Time{})
			if err != nil {
				return err
			}
			if len(series) == 0 {
				return fmt.Errorf("no %s yet", metric)
			}
		}
		return nil
	})
}

// Stop ends what Start began.
func (l *Lab) Stop() {
	if l.stopWatch != nil {
		l.stopWatch()
		l.watching.Wait()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range append(slices.Clone(collectors), "server") {
		if p := l.processes[name]; p != nil {
			_ = p.Stop(20 * time.Second)
		}
	}
	if l.Webhook != nil {
		_ = l.Webhook.Close()
	}
}

func token() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}

func (l *Lab) start(name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, err := testbed.Start(l.dir, name, l.starts[name][0], l.starts[name][1:]...)
	if err == nil {
		l.processes[name] = p
	}
	return err
}

// kill ends one of the lab's processes as a crash would.
func (l *Lab) kill(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.processes[name].Kill()
}

// configure writes the presets, the test's own policies, and whom to tell.
func (l *Lab) configure(ctx context.Context) error {
	raw, err := l.Server.Do(ctx, http.MethodPost, testbed.API+"/targets", map[string]any{
		"apiVersion": "crowsnest.dev/v1", "kind": "Target", "metadata": map[string]any{"name": "quality"}, "spec": map[string]any{"type": "webhook", "url": l.Webhook.URL},
	})
	if err != nil {
		return err
	}
	var made struct {
		Secret string `json:"secret"`
	}
	if json.Unmarshal(raw, &made) == nil && made.Secret != "" {
		if err := l.Webhook.Trust(made.Secret); err != nil {
			return err
		}
	}
	if _, err := l.Server.Do(ctx, http.MethodPost, testbed.API+"/routes", map[string]any{
		"apiVersion": "crowsnest.dev/v1", "kind": "Route", "metadata": map[string]any{"name": "rest"}, "spec": map[string]any{"default": true, "targets": []string{"quality"}},
	}); err != nil {
		return err
	}
	documents, err := Presets(l.Divisor, l.Interval)
	if err != nil {
		return err
	}
	for _, d := range append(documents, ownPolicies(l.Interval)...) {
		if d.Own > 0 || d.Path == "/policies" {
			l.own[d.Name] = d.Own
		}
		if _, err := l.Server.Do(ctx, http.MethodPost, testbed.API+d.Path, d.Body); err != nil {
			return fmt.Errorf("%s: %w", d.Name, err)
		}
	}
	return nil
}

func adminClient(state string) (*http.Client, error) {
	pki := filepath.Join(state, "pki")
	cert, err := tls.LoadX509KeyPair(filepath.Join(pki, "admin.crt"), filepath.Join(pki, "admin.key"))
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(filepath.Join(pki, "ca.crt"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	return &http.Client{
		Timeout:   5 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}},
	}, nil
}

// get asks the API server.
func (l *Lab) get(ctx context.Context, path string, out any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, apiServer+path, nil)
	if err != nil {
		return err
	}
	resp, err := l.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 500))
		return fmt.Errorf("%s: %s: %s", path, resp.Status, text)
	}
	if out == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}
	return json.NewDecoder(resp.Body).Decode(out)
}

func (l *Lab) kubectl(ctx context.Context, args ...string) error {
	_, err := l.Cluster.Kubectl(ctx, "", args...)
	return err
}

// daemon gives the process of one of the cluster's own programs.
func (l *Lab) daemon(name string) (int, error) {
	raw, err := os.ReadFile(filepath.Join(l.Cluster.State, "pid", name))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(raw)))
}

// killDaemon ends one of the cluster's own programs as a crash would, and waits
// until it is gone.
func (l *Lab) killDaemon(ctx context.Context, name string) error {
	pid, err := l.daemon(name)
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill %s: %w", name, err)
	}
	return testbed.Await(ctx, 10*time.Second, 50*time.Millisecond, func(context.Context) error {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err == nil && !strings.Contains(string(raw), ") Z ") {
			return fmt.Errorf("%s is still there", name)
		}
		return nil
	})
}

// reviveDaemons starts what is missing of the cluster's own programs.
func (l *Lab) reviveDaemons(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, filepath.Join(l.Cluster.Root, "test/e2e/cluster/up.sh"), l.Cluster.State)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("up.sh: %w: %s", err, out)
	}
	return nil
}

// Settle makes a healthy workload that stands by, and waits until what comes of
// a start is over.
func (l *Lab) Settle(ctx context.Context) error {
	const ns = "q-bystander"
	// What others left would be found, too.
	for _, args := range [][]string{
		{"delete", "namespace", "--ignore-not-found", "e2e", "crowsnest", "bench"}, {"-n", "default", "delete", "deployments,pods,jobs,services", "-l", "component!=apiserver", "--wait=false"},
	} {
		if err := l.kubectl(ctx, args...); err != nil {
			return err
		}
	}
	if err := l.namespace(ctx, ns); err != nil {
		return err
	}
	if err := errors.Join(l.service(ctx, ns), app(deployment{replicas: 2, command: idle})(ctx, l, ns)); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(3 * l.Interval):
	}
	for _, a := range l.watch.firing() {
		l.say("fires before anything is broken: %s on %s", a.Policy.Name, a.about())
	}
	return nil
}
