package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

const mib = 1 << 20

// machine says what the figures were measured on, and how busy it is.
func machine() string {
	load := ""
	if raw, err := os.ReadFile("/proc/loadavg"); err == nil {
		one, _, _ := strings.Cut(string(raw), " ")
		load = ", load average " + one
	}
	return fmt.Sprintf("%d CPUs (%s/%s), Go %s%s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, strings.TrimPrefix(runtime.Version(), "go"), load)
}

// usage measures a process over a time: its mean CPU and the most memory that it
// was seen to hold.
func usage(ctx context.Context, pid int, for_ time.Duration) (cores, anonymousMiB, rssMiB float64, err error) {
	before, err := testbed.UsageOf(pid)
	if err != nil {
		return 0, 0, 0, err
	}
	start := time.Now()
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	var now testbed.Usage
	for time.Since(start) < for_ {
		select {
		case <-ctx.Done():
			return 0, 0, 0, ctx.Err()
		case <-ticker.C:
		}
		if now, err = testbed.UsageOf(pid); err != nil {
			return 0, 0, 0, err
		}
		anonymousMiB = max(anonymousMiB, float64(now.Anonymous)/mib)
		rssMiB = max(rssMiB, float64(now.RSS)/mib)
	}
	return (now.CPU - before.CPU).Seconds() / time.Since(start).Seconds(), anonymousMiB, rssMiB, nil
}

// firstChart measures what a user waits for after `make run` has built: until
// the server is ready, and until a chart has its first points.
func firstChart(ctx context.Context, b *bench) ([]Result, error) {
	address, err := testbed.FreeAddress()
	if err != nil {
		return nil, err
	}
	server := &testbed.Server{URL: "http://" + address, Cluster: "simulated"}
	start := time.Now()
	p, err := testbed.Start(b.dir, "run", filepath.Join(b.root, "bin/crowsnest"), "run", "--simulate", "--data", filepath.Join(b.dir, "run"), "--listen", address)
	if err != nil {
		return nil, err
	}
	defer p.Stop(20 * time.Second)
	if err := p.WaitReady(ctx, server, time.Minute); err != nil {
		return nil, err
	}
	ready := time.Since(start)
	query := fmt.Sprintf("sum(%s{cluster=%q})", catalogue.PodCPU, server.Cluster)
	err = testbed.Await(ctx, 3*time.Minute, 50*time.Millisecond, func(ctx context.Context) error {
		series, err := server.Range(ctx, query, time.Now().Add(-time.Hour), time.Now(), 30*time.Second)
		if err == nil && (len(series) == 0 || len(series[0].Points) == 0) {
			err = errors.New("the chart is empty")
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	chart := time.Since(start)
	note := "From the start of `crowsnest run --simulate` on an empty data folder, which is what `make run` does once it has built. " + machine() + "."
	return []Result{
		{Name: "first_chart_ready", Unit: "s", Ours: ready.Seconds(), Note: note + " Until /readyz says 200."},
		{Name: "first_chart", Unit: "s", Ours: chart.Seconds(), Note: note + " Until a range query of the last hour of the cluster's CPU has points; the simulated cluster's history counts, which the start fills in."},
	}, nil
}

// serverAt1000Pods measures a server alone; the simulated collector is another
// process.
func serverAt1000Pods(ctx context.Context, b *bench) ([]Result, error) {
	address, err := testbed.FreeAddress()
	if err != nil {
		return nil, err
	}
	server := &testbed.Server{URL: "http://" + address, Cluster: "simulated"}
	tokenFile := filepath.Join(b.dir, "ingest-token")
	if err := os.WriteFile(tokenFile, []byte("bench-token-of-this-run-only-0123456789\n"), 0o600); err != nil {
		return nil, err
	}
	p, err := testbed.Start(b.dir, "server", filepath.Join(b.root, "bin/crowsnest"), "server", "--data", filepath.Join(b.dir, "server"),
		"--listen", address, "--ingest-token-file", server.Cluster+"="+tokenFile)
	if err != nil {
		return nil, err
	}
	defer p.Stop(20 * time.Second)
	if err := p.WaitReady(ctx, server, time.Minute); err != nil {
		return nil, err
	}
	simulator, err := testbed.Start(b.dir, "simulate", filepath.Join(b.root, "bin/crowsnest"), "simulate", "--nodes", "20", "--pods-per-node", "50",
		"--server", server.URL, "--token-file", tokenFile)
	if err != nil {
		return nil, err
	}
	defer simulator.Stop(20 * time.Second)
	var pods float64
	err = testbed.Await(ctx, 3*time.Minute, time.Second, func(ctx context.Context) error {
		series, err := server.Instant(ctx, fmt.Sprintf("count(%s{cluster=%q})", catalogue.PodCPU, server.Cluster), time.Time{})
		if err != nil {
			return err
		}
		if len(series) == 0 || series[0].Last() < 900 {
			return fmt.Errorf("fewer than 900 pods have samples: %s\n%s", testbed.Describe(series), simulator.Tail(10))
		}
		pods = series[0].Last()
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := settle(ctx); err != nil {
		return nil, err
	}
	cores, anonymous, rss, err := usage(ctx, p.PID(), b.for_)
	if err != nil {
		return nil, err
	}
	note := fmt.Sprintf("%.0f pods on 20 simulated nodes at 30 s, their logs and inventory included; mean over %s. %s.", pods, b.for_, machine())
	return []Result{
		{Name: "server_1000_pods_cpu", Unit: "cores", Ours: cores, Note: note},
		{Name: "server_1000_pods_memory", Unit: "MiB", Ours: anonymous, Note: fmt.Sprintf("Anonymous memory, the most that was seen; with the mapped program and store files %.0f MiB. %s", rss, note)},
	}, nil
}

// settle lets a start's work pass, so that a steady state is measured.
func settle(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Minute):
		return nil
	}
}

// fillers are the pods that fill the test cluster's node nearly up to the
// kubelet's bound of 110, and write 1,000 lines a second together.
const fillers = 90

func fillerManifest(pods int, quiet bool) string {
	does := "while :; do sleep 5; done"
	// Ten lines at once each second: a shell that wrote them one by one would
	// spend more on starting `sleep` than the collector spends on reading them.
	if !quiet {
		does = `i=0; l='level=info component=cart order=4711 took_ms=12 path=/api/v1/cart/items msg=\"item was put into the cart\" request_id=6f1d0c9a-7b52-4f63-9e0d-2f7f5c1b8a34'; while :; do n=0; while [ $n -lt 11 ]; do n=$((n+1)); i=$((i+1)); echo \"seq=$i $l\"; done; sleep 1; done`
	}
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"bench"}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: filler, namespace: bench}
spec:
  replicas: %d
  selector: {matchLabels: {app: filler}}
  template:
    metadata: {labels: {app: filler}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: app
        image: localhost/busybox:1
        imagePullPolicy: Never
        command: ["/bin/sh", "-c", "%s"]
        resources: {requests: {cpu: 5m, memory: 4Mi}, limits: {cpu: 100m, memory: 16Mi}}
`, pods, does)
}

// onCluster runs a measurement on the test cluster with a full node.
func onCluster(ctx context.Context, b *bench, measure func(c *testbed.Cluster, pods int) ([]Result, error)) ([]Result, error) {
	return onFullNode(ctx, b, fillerManifest(fillers, false), measure)
}

// onFullNode does so with other pods than those that write.
func onFullNode(ctx context.Context, b *bench, manifest string, measure func(c *testbed.Cluster, pods int) ([]Result, error)) ([]Result, error) {
	c, err := testbed.Up(ctx, os.Stderr)
	if err != nil {
		return nil, err
	}
	defer c.Down(context.WithoutCancel(ctx), os.Stderr)
	b.say("filling the node")
	if err := c.Apply(ctx, manifest); err != nil {
		return nil, err
	}
	defer c.DeleteNamespaces(context.WithoutCancel(ctx), "bench")
	if err := c.WaitRolledOut(ctx, "bench", 10*time.Minute, "deployment/filler"); err != nil {
		c.Dump(ctx, "bench", os.Stderr)
		return nil, err
	}
	var list struct {
		Items []struct{} `json:"items"`
	}
	if err := c.Get(ctx, &list, "-A", "pods", "--field-selector", "status.phase=Running"); err != nil {
		return nil, err
	}
	return measure(c, len(list.Items))
}

func collectorNode(ctx context.Context, b *bench) ([]Result, error) {
	return onCluster(ctx, b, func(c *testbed.Cluster, pods int) ([]Result, error) {
		defer c.DeleteNamespaces(context.WithoutCancel(ctx), "crowsnest")
		if err := errors.Join(c.DeleteNamespaces(ctx, "crowsnest"), os.RemoveAll("/var/lib/crowsnest-collector")); err != nil {
			return nil, err
		}
		if err := c.ImportImages(ctx, "e2e"); err != nil {
			return nil, err
		}
		if err := c.Install(ctx, testbed.Tokens{API: "bench-api-token-of-this-run-only-012345", Ingest: "bench-ingest-token-of-this-run-only-0123"}); err != nil {
			return nil, err
		}
		if err := c.WaitRolledOut(ctx, "crowsnest", 3*time.Minute, "statefulset/crowsnest-server", "daemonset/crowsnest-collector-node", "deployment/crowsnest-collector-cluster"); err != nil {
			c.Dump(ctx, "crowsnest", os.Stderr)
			return nil, err
		}
		if err := settle(ctx); err != nil {
			return nil, err
		}
		pid, err := pidOf("/crowsnest-collector", "--role=node")
		if err != nil {
			return nil, err
		}
		group, err := testbed.CgroupOf(pid)
		if err != nil {
			return nil, err
		}
		return collectorResults(ctx, b, "collector_node", pid, &group, pods, "Role node at 15 s, a pod of the shipped DaemonSet, logs from files.")
	})
}

func collectorAll(ctx context.Context, b *bench) ([]Result, error) {
	return onCluster(ctx, b, func(c *testbed.Cluster, pods int) ([]Result, error) {
		address, err := testbed.FreeAddress()
		if err != nil {
			return nil, err
		}
		server := &testbed.Server{URL: "http://" + address, Cluster: "bench"}
		tokenFile := filepath.Join(b.dir, "ingest-token-all")
		if err := os.WriteFile(tokenFile, []byte("bench-token-of-this-run-only-0123456789\n"), 0o600); err != nil {
			return nil, err
		}
		p, err := testbed.Start(b.dir, "server-all", filepath.Join(b.root, "bin/crowsnest"), "server", "--data", filepath.Join(b.dir, "server-all"),
			"--listen", address, "--ingest-token-file", server.Cluster+"="+tokenFile)
		if err != nil {
			return nil, err
		}
		defer p.Stop(20 * time.Second)
		if err := p.WaitReady(ctx, server, time.Minute); err != nil {
			return nil, err
		}
		collector, err := testbed.Start(b.dir, "collector-all", filepath.Join(b.root, "bin/crowsnest-collector"), "--role", "all", "--kubeconfig", c.Kubeconfig,
			"--server", server.URL, "--token-file", tokenFile, "--data", filepath.Join(b.dir, "collector-all"), "--listen", "")
		if err != nil {
			return nil, err
		}
		defer collector.Stop(20 * time.Second)
		if err := settle(ctx); err != nil {
			return nil, err
		}
		return collectorResults(ctx, b, "collector_all", collector.PID(), nil, pods, "Role all at 30 s, a process outside the cluster, logs by the API server.")
	})
}

// collectorResults measures a collector; its memory is the working set of its
// group where it has one of its own, as in a pod, else its anonymous memory.
func collectorResults(ctx context.Context, b *bench, name string, pid int, group *testbed.Cgroup, pods int, what string) ([]Result, error) {
	cores, memory, rss, err := usage(ctx, pid, b.for_)
	if err != nil {
		return nil, err
	}
	kind := "Anonymous memory, the most that was seen"
	if group != nil {
		bytes, err := group.WorkingSet()
		if err != nil {
			return nil, err
		}
		kind = fmt.Sprintf("Working set of its pod's container at the end; anonymous memory at most %.1f MiB", memory)
		memory = float64(bytes) / mib
	}
	note := fmt.Sprintf("%s %d running pods, of which %d write 1,000 lines/s of about 200 B together; mean over %s. %s.", what, pods, fillers, b.for_, machine())
	results := []Result{
		{Name: name + "_cpu", Unit: "cores", Ours: cores, Note: note},
		{Name: name + "_memory", Unit: "MiB", Ours: memory, Note: fmt.Sprintf("%s; with the mapped program %.0f MiB. %s", kind, rss, note)},
	}
	if name == "collector_node" {
		results[0].Bar, results[1].Bar = "<= 0.05", "<= 50"
	}
	return results, nil
}

// pidOf finds a process by its program and one of its arguments.
func pidOf(program, argument string) (int, error) {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0, err
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			continue // it ended
		}
		args := strings.Split(strings.TrimRight(string(raw), "\x00"), "\x00")
		if args[0] != program {
			continue
		}
		for _, arg := range args[1:] {
			if arg == argument {
				var pid int
				_, err := fmt.Sscanf(file, "/proc/%d/cmdline", &pid)
				return pid, err
			}
		}
	}
	return 0, fmt.Errorf("no process %s %s", program, argument)
}

// buildCold builds both programs with empty caches for what is compiled; modules
// and npm packages are there.
func buildCold(ctx context.Context, b *bench) ([]Result, error) {
	cache := filepath.Join(b.dir, "gocache")
	start := time.Now()
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", filepath.Join(b.dir, "bin")+"/", "./cmd/crowsnest", "./cmd/crowsnest-collector")
	cmd.Dir, cmd.Env = b.root, append(os.Environ(), "CGO_ENABLED=0", "GOCACHE="+cache)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	return []Result{{
		Name: "build_cold", Unit: "s", Ours: time.Since(start).Seconds(), Command: `make bench BENCH="--cold --only build_cold"`,
		Note: "Both programs with an empty build cache and the modules downloaded. " + machine() + ".",
	}}, nil
}
