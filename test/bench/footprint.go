package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

// footprintInterval is the one that collectors have by default, and the one at
// which the peers are asked.
const footprintInterval = 30 * time.Second

// footprintPeer is a program that measures a part of what a node collector does.
type footprintPeer struct {
	name, pkg string
	args      func(kubeconfig, address string) []string
	scrape    string // path that is asked each interval; empty where it works by itself
	idle      string // what its log says where it has nothing to do after all
}

var footprintPeers = []footprintPeer{
	{"node_exporter", "github.com/prometheus/node_exporter", func(_, address string) []string { return []string{"--web.listen-address=" + address} }, "/metrics", ""},
	{"kube_state_metrics", "k8s.io/kube-state-metrics/v2", func(kubeconfig, address string) []string {
		host, port, _ := strings.Cut(address, ":")
		return []string{"--kubeconfig=" + kubeconfig, "--host=" + host, "--port=" + port, "--telemetry-host=" + host, "--telemetry-port=0"}
	}, "/metrics", ""},
	{"metrics_server", "sigs.k8s.io/metrics-server/cmd/metrics-server", func(kubeconfig, address string) []string {
		_, port, _ := strings.Cut(address, ":")
		return []string{"--kubeconfig=" + kubeconfig, "--authentication-kubeconfig=" + kubeconfig, "--authorization-kubeconfig=" + kubeconfig,
			"--bind-address=127.0.0.1", "--secure-port=" + port, "--kubelet-insecure-tls", "--kubelet-preferred-address-types=InternalIP",
			"--metric-resolution=" + footprintInterval.String(), "--cert-dir=" + os.TempDir()}
	}, "", "Failed to scrape node"},
}

// peerProgram builds a peer from its own module, once.
func peerProgram(ctx context.Context, b *bench, peer footprintPeer) (program, version string, err error) {
	return testbed.Peer(ctx, b.root, peer.name, peer.pkg)
}

// footprintPods is all that the kubelet takes.
const footprintPods = 110

// nodeFootprint measures a node collector that follows no logs, next to the
// programs that measure parts of the same, on the same full node.
func nodeFootprint(ctx context.Context, b *bench) ([]Result, error) {
	return onFullNode(ctx, b, fillerManifest(footprintPods, true), func(c *testbed.Cluster, pods int) ([]Result, error) {
		kubelet, err := openKubelet(c)
		if err != nil {
			return nil, err
		}
		if err := settle(ctx); err != nil {
			return nil, err
		}
		alone, _, _, err := usage(ctx, kubelet.pid, b.for_)
		if err != nil {
			return nil, err
		}
		costs, err := kubelet.costs(ctx, alone)
		if err != nil {
			return nil, err
		}
		server, tokenFile, p, err := b.startServer(ctx, "footprint")
		if err != nil {
			return nil, err
		}
		defer p.Stop(20 * time.Second)
		collector, err := testbed.Start(b.dir, "footprint-collector", filepath.Join(b.root, "bin/crowsnest-collector"), "--role", "node", "--node", testbed.Node,
			"--kubeconfig", c.Kubeconfig, "--server", server.URL, "--token-file", tokenFile, "--data", filepath.Join(b.dir, "footprint-collector"),
			"--interval", footprintInterval.String(), "--listen", "", "--no-logs")
		if err != nil {
			return nil, err
		}
		if err := settle(ctx); err != nil {
			return nil, errors.Join(err, collector.Stop(20*time.Second))
		}
		before, err := kubelet.requests(ctx)
		if err != nil {
			return nil, errors.Join(err, collector.Stop(20*time.Second))
		}
		var read float64 // the kubelet's, while it is read
		var g errgroup.Group
		g.Go(func() (err error) { read, _, _, err = usage(ctx, kubelet.pid, b.for_); return err })
		cores, memory, rss, err := usage(ctx, collector.PID(), b.for_)
		err = errors.Join(err, g.Wait())
		after, asked := kubelet.requests(ctx)
		if err = errors.Join(err, asked, collector.Stop(20*time.Second)); err != nil {
			return nil, err
		}
		note := fmt.Sprintf("Role node without logs at %s, a process beside %d running pods; mean over %s. %s.", footprintInterval, pods, b.for_, machine())
		var extra float64
		var each []string
		for _, path := range slices.Sorted(maps.Keys(costs)) {
			counted := path // as the kubelet names it, which cuts all but its metrics' paths
			if first, _, _ := strings.Cut(path, "/"); first != "metrics" {
				counted = first
			}
			n := after[counted] - before[counted]
			extra += n * costs[path].Seconds() / b.for_.Seconds()
			each = append(each, fmt.Sprintf("%s %.1f ms, asked %.0f times", path, float64(costs[path])/float64(time.Millisecond), n))
		}
		results := []Result{
			{Name: "node_footprint_cpu", Unit: "cores", Ours: cores, Bar: "<= 0.03", Note: note},
			{Name: "node_footprint_memory", Unit: "MiB", Ours: memory, Bar: "<= 40", Note: fmt.Sprintf("Anonymous memory, the most that was seen; with the mapped program %.0f MiB. %s", rss, note)},
			{Name: "node_footprint_kubelet_cpu", Unit: "cores", Ours: extra, Note: fmt.Sprintf("What the kubelet uses for its answers to the collector: the CPU of one answer of each kind, of %d in a row, times how often it was asked (%s). All that the kubelet uses, which varies by more than that: %.4f with the collector, %.4f without. %s", costOf, strings.Join(each, "; "), read, alone, note)},
		}
		more, err := peerFootprints(ctx, b, c, cores, memory, note)
		return append(results, more...), err
	})
}

// costOf is how many answers the cost of one is taken of.
const costOf = 40

// kubelet is the test cluster's, asked as its API server does.
type kubelet struct {
	pid    int
	url    string
	client *http.Client
}

func openKubelet(c *testbed.Cluster) (*kubelet, error) {
	raw, err := os.ReadFile(filepath.Join(c.State, "pid/kubelet"))
	if err != nil {
		return nil, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(c.State, "pki/admin.crt"), filepath.Join(c.State, "pki/admin.key"))
	if err != nil {
		return nil, err
	}
	var node struct {
		Status struct {
			Addresses []struct{ Address string }
		}
	}
	if err := c.Get(context.Background(), &node, "node", testbed.Node); err != nil {
		return nil, err
	}
	if len(node.Status.Addresses) == 0 {
		return nil, errors.New("the node has no address")
	}
	return &kubelet{pid, "https://" + node.Status.Addresses[0].Address + ":10250", &http.Client{
		Timeout: 20 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{pair}, InsecureSkipVerify: true}},
	}}, nil
}

func (k *kubelet) get(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.url+path, nil)
	if err != nil {
		return nil, err
	}
	res, err := k.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", path, res.Status)
	}
	return io.ReadAll(res.Body)
}

// costs gives the CPU of one answer by path, what the kubelet uses anyway left out.
func (k *kubelet) costs(ctx context.Context, alone float64) (map[string]time.Duration, error) {
	out := map[string]time.Duration{}
	for _, path := range []string{"metrics/cadvisor", "metrics/probes", "metrics/resource", "stats/summary"} {
		before, err := testbed.UsageOf(k.pid)
		if err != nil {
			return nil, err
		}
		began := time.Now()
		for range costOf {
			if _, err := k.get(ctx, "/"+path); err != nil {
				return nil, err
			}
		}
		after, err := testbed.UsageOf(k.pid)
		if err != nil {
			return nil, err
		}
		anyway := time.Duration(alone * float64(time.Since(began)))
		out[path] = max(0, after.CPU-before.CPU-anyway) / costOf
	}
	return out, nil
}

var kubeletRequests = regexp.MustCompile(`(?m)^kubelet_http_requests_total\{.*path="([^"]+)".*\} (\S+)$`)

// requests gives how often the kubelet was asked, by path.
func (k *kubelet) requests(ctx context.Context) (map[string]float64, error) {
	raw, err := k.get(ctx, "/metrics")
	if err != nil {
		return nil, err
	}
	out := map[string]float64{}
	for _, found := range kubeletRequests.FindAllStringSubmatch(string(raw), -1) {
		n, err := strconv.ParseFloat(found[2], 64)
		if err != nil {
			return nil, fmt.Errorf("read %q: %w", found[0], err)
		}
		out[found[1]] += n
	}
	return out, nil
}

// peerFootprints measures the peers, at the same time: none reads another one.
func peerFootprints(ctx context.Context, b *bench, c *testbed.Cluster, ours, ourMemory float64, note string) ([]Result, error) {
	all := make([][]Result, len(footprintPeers))
	var g errgroup.Group
	for i, peer := range footprintPeers {
		program, version, err := peerProgram(ctx, b, peer)
		if err != nil {
			// One that cannot be had takes nothing from the others.
			b.say("%s is not measured: %v", peer.name, err)
			continue
		}
		g.Go(func() error {
			more, err := peerFootprint(ctx, b, c, peer, program, version, ours, ourMemory, note)
			if err != nil {
				b.say("%s is not measured: %v", peer.name, err)
			}
			all[i] = more
			return nil
		})
	}
	err := g.Wait()
	return slices.Concat(all...), err
}

// peerFootprint measures one peer while it is asked at the interval.
func peerFootprint(ctx context.Context, b *bench, c *testbed.Cluster, peer footprintPeer, program, version string, ours, ourMemory float64, note string) ([]Result, error) {
	address, err := testbed.FreeAddress()
	if err != nil {
		return nil, err
	}
	p, err := testbed.Start(b.dir, peer.name, program, peer.args(c.Kubeconfig, address)...)
	if err != nil {
		return nil, err
	}
	defer p.Stop(20 * time.Second)
	asking, stop := context.WithCancel(ctx)
	var g errgroup.Group
	answers := 0
	g.Go(func() error {
		for peer.scrape != "" {
			if n, err := get(asking, "http://"+address+peer.scrape); err == nil && n > 0 {
				answers++
			}
			if pause(asking, footprintInterval) != nil {
				return nil
			}
		}
		return nil
	})
	err = settle(ctx)
	var cores, memory, rss float64
	if err == nil {
		cores, memory, rss, err = usage(ctx, p.PID(), b.for_)
	}
	stop()
	if err = errors.Join(err, g.Wait()); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, p.Tail(10))
	}
	if peer.scrape != "" && answers < 2 {
		return nil, fmt.Errorf("it answered %d times\n%s", answers, p.Tail(10))
	}
	if said := p.Tail(10); peer.idle != "" && strings.Contains(said, peer.idle) {
		return nil, fmt.Errorf("it does not work\n%s", said)
	}
	note = fmt.Sprintf("The peer without us, asked every %s where it does not work by itself; its memory with the mapped program %.0f MiB. %s", footprintInterval, rss, note)
	return []Result{
		{Name: "node_footprint_cpu_to_" + peer.name, Unit: "cores", Ours: ours, Peer: &cores, PeerVersion: peer.name + " " + version, Note: note},
		{Name: "node_footprint_memory_to_" + peer.name, Unit: "MiB", Ours: ourMemory, Peer: &memory, PeerVersion: peer.name + " " + version, Note: note},
	}, nil
}

func get(ctx context.Context, url string) (bytes int64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	return io.Copy(io.Discard, res.Body)
}
