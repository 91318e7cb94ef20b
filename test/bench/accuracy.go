package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

// accuracyRow is one comparison with the kernel.
type accuracyRow struct {
	Object string  `json:"object"`
	Load   string  `json:"load"` // steady or bursty
	Metric string  `json:"metric"`
	Unit   string  `json:"unit"`
	Kernel float64 `json:"kernel"`
	From   string  `json:"from"` // where the kernel's figure was read
	Ours   float64 `json:"ours"`
	Off    float64 `json:"off_percent"`
	Bar    float64 `json:"bar_percent"` // 0: it is only reported
	Holds  *bool   `json:"holds"`
}

// accuracyEvent is something that makes counters jump, alone, and the highest that
// was reported around it.
type accuracyEvent struct {
	Event    string  `json:"event"`
	Metric   string  `json:"metric"`
	Workload string  `json:"workload"`
	Highest  float64 `json:"highest"`
	Possible float64 `json:"possible"`
	Holds    bool    `json:"holds"`
	Note     string  `json:"note"`
}

type accuracyTable struct {
	Date    string        `json:"date"`
	Machine string        `json:"machine"`
	Note    string        `json:"note"`
	Rows    []accuracyRow `json:"rows"`
	// Events are measured by themselves: figures of what cannot be do not depend on
	// how busy the machine is otherwise.
	EventsDate    string          `json:"events_date"`
	EventsMachine string          `json:"events_machine"`
	Events        []accuracyEvent `json:"events"`
}

const accuracyNote = "Role node at 15 s beside the kernel's own figures over the same time, on the test cluster. " +
	"Block device traffic of containers cannot be read on this kernel (cgroup v1): that is tested with payloads in the form of cgroup v2 and of cAdvisor, written by hand (collector/kubelet, collector/cgroups)."

// accuracyLoads are pods in namespace accuracy. The limit of CPU is what no rate
// may go over.
const accuracyLoads = `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"accuracy"}}
` + "---\n"

func accuracyDeployment(name, command, cpu, memory string) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s, namespace: accuracy}
spec:
  selector: {matchLabels: {app: %[1]s}}
  strategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - name: app
        image: localhost/busybox:1
        imagePullPolicy: Never
        command: ["/bin/sh", "-c", %[2]q]
        resources: {requests: {cpu: 10m, memory: 8Mi}, limits: {cpu: %[3]s, memory: %[4]s}}
---
`, name, command, cpu, memory)
}

const spin = `i=0; while [ $i -lt %d ]; do i=$((i+1)); done; `

func accuracyManifest() string {
	return accuracyLoads +
		accuracyDeployment("steady", `held=$(head -c 16000000 /dev/zero | tr '\0' x); while :; do :; done`, "100m", "100Mi") +
		accuracyDeployment("bursty", `while :; do `+fmt.Sprintf(spin, 60000)+`sleep 7; done`, "200m", "32Mi") +
		accuracyDeployment("download", `mkdir /tmp/www && head -c 200000 /dev/zero >/tmp/www/file && exec httpd -f -p 8080 -h /tmp/www`, "50m", "32Mi") +
		`apiVersion: v1
kind: Service
metadata: {name: download, namespace: accuracy}
spec: {selector: {app: download}, ports: [{port: 8080}]}
---
` +
		accuracyDeployment("fetch", `while :; do wget -q -O /dev/null http://$DOWNLOAD_SERVICE_HOST:8080/file; sleep 0.5; done`, "100m", "32Mi") +
		accuracyDeployment("restarting", `while :; do `+fmt.Sprintf(spin, 10000)+`sleep 1; done`, "100m", "32Mi")
}

// accuracyOOM is started when its turn comes, so that nothing is killed before. It holds
// so much that two instances counted as one are over its limit: dd fills a buffer, and
// cannot write it to the end.
func accuracyOOM() string {
	return accuracyDeployment("oom", `dd if=/dev/zero bs=20000000 count=1 | sleep 600 & sleep 40; held=$(head -c 60000000 /dev/zero | tr '\0' x); sleep 600`, "100m", "32Mi")
}

// accuracyPod is a pod of a workload as the API has it.
type accuracyPod struct {
	Metadata struct {
		Name string `json:"name"`
		UID  string `json:"uid"`
	} `json:"metadata"`
	Status struct {
		ContainerStatuses []struct {
			ContainerID  string `json:"containerID"`
			Ready        bool   `json:"ready"`
			RestartCount int    `json:"restartCount"`
		} `json:"containerStatuses"`
	} `json:"status"`
}

func podOf(ctx context.Context, c *testbed.Cluster, app string) (accuracyPod, error) {
	var list struct {
		Items []accuracyPod `json:"items"`
	}
	err := c.Get(ctx, &list, "-n", "accuracy", "pods", "-l", "app="+app)
	if err == nil && (len(list.Items) != 1 || len(list.Items[0].Status.ContainerStatuses) != 1) {
		err = fmt.Errorf("%d pods of %s, want one with one container", len(list.Items), app)
	}
	if err != nil {
		return accuracyPod{}, err
	}
	return list.Items[0], nil
}

// groupsOf are the groups of a pod and of its container.
func groupsOf(p accuracyPod) (pod, container testbed.Cgroup, err error) {
	if pod, err = testbed.FindCgroup(p.Metadata.UID); err != nil {
		return pod, container, err
	}
	_, id, _ := strings.Cut(p.Status.ContainerStatuses[0].ContainerID, "://")
	container, err = testbed.FindCgroup(id)
	return pod, container, err
}

// received is what the interfaces of a process' network namespace took in.
func received(pid int) (total float64, err error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", pid))
	if err != nil {
		return 0, err
	}
	for _, line := range strings.Split(string(raw), "\n") {
		name, rest, ok := strings.Cut(line, ":")
		if fields := strings.Fields(rest); ok && strings.TrimSpace(name) != "lo" && len(fields) > 8 {
			v, err := strconv.ParseFloat(fields[0], 64)
			if err != nil {
				return 0, err
			}
			total += v
		}
	}
	return total, nil
}

// busyShare is the machine's CPU time that was not idle, and all of it.
func busyShare() (busy, total float64, err error) {
	raw, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	for i, text := range strings.Fields(line)[1:] {
		v, err := strconv.ParseFloat(text, 64)
		if err != nil || i > 7 { // guests are in user already
			continue
		}
		total += v
		if i != 3 && i != 4 {
			busy += v
		}
	}
	return busy, total, nil
}

func memoryUsedPercent() (float64, error) {
	raw, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	value := map[string]float64{}
	for _, line := range strings.Split(string(raw), "\n") {
		if f := strings.Fields(line); len(f) >= 2 {
			value[strings.TrimSuffix(f[0], ":")], _ = strconv.ParseFloat(f[1], 64)
		}
	}
	return 100 * (value["MemTotal"] - value["MemAvailable"]) / value["MemTotal"], nil
}

// accuracyRun is a cluster with the loads, and collectors that read it.
type accuracyRun struct {
	cluster *testbed.Cluster
	server  *testbed.Server
}

// withAccuracy runs a measurement on the cluster once its pods are measured.
func withAccuracy(ctx context.Context, b *bench, name string, measure func(accuracyRun) error) (err error) {
	c, err := testbed.Up(ctx, os.Stderr)
	if err != nil {
		return err
	}
	defer c.Down(context.WithoutCancel(ctx), os.Stderr)
	if err := c.DeleteNamespaces(ctx, "accuracy"); err != nil {
		return err
	}
	defer c.DeleteNamespaces(context.WithoutCancel(ctx), "accuracy")
	if err := c.Apply(ctx, accuracyManifest()); err != nil {
		return err
	}
	if err := c.WaitRolledOut(ctx, "accuracy", 3*time.Minute, "deployment/steady", "deployment/bursty", "deployment/fetch", "deployment/restarting"); err != nil {
		c.Dump(ctx, "accuracy", os.Stderr)
		return err
	}
	server, tokenFile, p, err := b.startServer(ctx, name)
	if err != nil {
		return err
	}
	defer p.Stop(20 * time.Second)
	for _, role := range []string{"node", "cluster"} {
		collector, err := testbed.Start(b.dir, name+"-"+role, filepath.Join(b.root, "bin/crowsnest-collector"), "--role", role, "--node", testbed.Node,
			"--kubeconfig", c.Kubeconfig, "--server", server.URL, "--token-file", tokenFile, "--data", filepath.Join(b.dir, name+"-"+role),
			"--interval", accuracyInterval.String(), "--listen", "", "--no-logs", "--leader-elect=false")
		if err != nil {
			return err
		}
		defer collector.Stop(20 * time.Second)
	}
	err = testbed.Await(ctx, 2*time.Minute, time.Second, func(ctx context.Context) error {
		series, err := server.Instant(ctx, fmt.Sprintf(`%s{namespace="accuracy",workload="fetch"}`, catalogue.PodNetworkReceive), time.Time{})
		if err == nil && len(series) == 0 {
			err = errors.New("no samples of the pods yet")
		}
		return err
	})
	if err != nil {
		return err
	}
	return measure(accuracyRun{c, server})
}

const (
	accuracyInterval = 15 * time.Second
	// A rate lies between two readings, of which one may be missing: four intervals
	// are enough for what was before an event to be out of all figures.
	accuracySettles = 4*accuracyInterval + 10*time.Second
)

// accuracySteady compares what a node collector reports with the kernel's own figures.
func accuracySteady(ctx context.Context, b *bench) ([]Result, error) {
	var rows []accuracyRow
	err := withAccuracy(ctx, b, "accuracy_steady", func(run accuracyRun) (err error) {
		b.say("comparing with the kernel for %s", b.for_)
		rows, err = compareWithKernel(ctx, b, run.cluster, run.server)
		return err
	})
	if err != nil {
		return nil, err
	}
	err = updateAccuracy(filepath.Join(b.root, "docs"), func(t *accuracyTable) {
		t.Date, t.Machine, t.Note, t.Rows = time.Now().UTC().Format(time.DateOnly), machine(), accuracyNote, rows
	})
	if err != nil {
		return nil, err
	}
	worst := 0.0
	for _, r := range rows {
		if r.Bar > 0 {
			worst = max(worst, math.Abs(r.Off))
		}
	}
	return []Result{{Name: "accuracy_steady", Unit: "%", Ours: worst, Bar: "<= 1", Command: "make accuracy",
		Note: "The worst of the comparisons with the kernel under steady load. The table is docs/accuracy.md. " + machine() + "."}}, nil
}

// accuracySpikes lets each of what makes counters jump happen by itself, and looks for
// figures around it that cannot be.
func accuracySpikes(ctx context.Context, b *bench) ([]Result, error) {
	var events []accuracyEvent
	err := withAccuracy(ctx, b, "accuracy_spikes", func(run accuracyRun) error {
		if err := pause(ctx, accuracySettles); err != nil { // the start is no event
			return err
		}
		for _, cause := range accuracyCauses() {
			b.say("%s", cause.event)
			found, err := run.alone(ctx, cause)
			if err != nil {
				return fmt.Errorf("%s: %w", cause.event, err)
			}
			events = append(events, found...)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = updateAccuracy(filepath.Join(b.root, "docs"), func(t *accuracyTable) {
		t.EventsDate, t.EventsMachine, t.Events = time.Now().UTC().Format(time.DateOnly), machine(), events
	})
	if err != nil {
		return nil, err
	}
	jumps := 0
	for _, e := range events {
		if !e.Holds {
			jumps++
		}
	}
	return []Result{{Name: "accuracy_spikes", Unit: "figures", Ours: float64(jumps), Bar: "<= 0", Command: "make accuracy",
		Note: fmt.Sprintf("Of %d around what makes counters jump, each event alone, how many went over what can be. The table is docs/accuracy.md. %s.", len(events), machine())}}, nil
}

// kernelFigure is one comparison that is under way: the kernel's figure of the window.
type kernelFigure struct {
	row   accuracyRow
	query string
	begin func() error
	each  func() error // every 2 s
	end   func(took time.Duration) (float64, error)
}

func compareWithKernel(ctx context.Context, b *bench, c *testbed.Cluster, server *testbed.Server) ([]accuracyRow, error) {
	var figures []*kernelFigure
	add := func(f *kernelFigure) { figures = append(figures, f) }
	counter := func(row accuracyRow, query string, read func() (float64, error)) {
		var first float64
		var at time.Time
		add(&kernelFigure{row: row, query: query, begin: func() (err error) { first, err = read(); at = time.Now(); return err },
			end: func(time.Duration) (float64, error) {
				last, err := read()
				return (last - first) / time.Since(at).Seconds(), err
			}})
	}
	gauge := func(row accuracyRow, query string, read func() (float64, error)) {
		var sum, n float64
		add(&kernelFigure{row: row, query: query, begin: func() error { return nil },
			each: func() error { v, err := read(); sum, n = sum+v, n+1; return err },
			end:  func(time.Duration) (float64, error) { return sum / n, nil }})
	}
	for _, pod := range []struct {
		app, load string
		bar       float64
	}{{"steady", "steady", 1}, {"bursty", "bursty", 0}, {"fetch", "steady", 1}} {
		object, err := podOf(ctx, c, pod.app)
		if err != nil {
			return nil, err
		}
		group, container, err := groupsOf(object)
		if err != nil {
			return nil, err
		}
		of := func(metric string) string {
			return fmt.Sprintf(`%s{namespace="accuracy",workload=%q}`, metric, pod.app)
		}
		cpu := func(g testbed.Cgroup) func() (float64, error) {
			return func() (float64, error) { used, _, err := g.CPUUsed(); return used.Seconds(), err }
		}
		bar := pod.bar
		if pod.app == "fetch" {
			bar = 0 // a process a second: its CPU is no steady load
		}
		counter(accuracyRow{Object: "pod " + pod.app, Load: pod.load, Metric: catalogue.PodCPU, Unit: "cores", From: "cpuacct of its group", Bar: bar}, of(catalogue.PodCPU), cpu(group))
		counter(accuracyRow{Object: "container of " + pod.app, Load: pod.load, Metric: catalogue.ContainerCPU, Unit: "cores", From: "cpuacct of its group", Bar: bar}, of(catalogue.ContainerCPU), cpu(container))
		gauge(accuracyRow{Object: "pod " + pod.app, Load: pod.load, Metric: catalogue.PodMem, Unit: "bytes", From: "memory of its container's group, every 2 s", Bar: bar}, of(catalogue.PodMem), func() (float64, error) {
			v, err := container.WorkingSet()
			return float64(v), err
		})
		pids, err := container.PIDs()
		if err != nil || len(pids) == 0 {
			return nil, fmt.Errorf("processes of %s: %v, %w", pod.app, pids, err)
		}
		if pod.app == "fetch" {
			first := pids[0]
			counter(accuracyRow{Object: "pod " + pod.app, Load: pod.load, Metric: catalogue.PodNetworkReceive, Unit: "B/s", From: "net/dev of its process", Bar: pod.bar}, of(catalogue.PodNetworkReceive), func() (float64, error) { return received(first) })
		}
	}
	node := func(metric string) string { return fmt.Sprintf(`%s{node=%q}`, metric, testbed.Node) }
	var busy0, total0 float64
	add(&kernelFigure{
		row:   accuracyRow{Object: "node", Load: "as it was", Metric: catalogue.NodeCPUPercent, Unit: "%", From: "/proc/stat", Bar: 0},
		query: node(catalogue.NodeCPUPercent),
		begin: func() (err error) { busy0, total0, err = busyShare(); return err },
		end: func(time.Duration) (float64, error) {
			busy, total, err := busyShare()
			return 100 * (busy - busy0) / (total - total0), err
		},
	})
	gauge(accuracyRow{Object: "node", Load: "as it was", Metric: catalogue.NodeMemPercent, Unit: "%", From: "/proc/meminfo, every 2 s"}, node(catalogue.NodeMemPercent), memoryUsedPercent)
	gauge(accuracyRow{Object: "node, /", Load: "as it was", Metric: catalogue.NodeFilesystemPercent, Unit: "%", From: "statfs, every 2 s", Bar: 1}, fmt.Sprintf(`%s{node=%q,mountpoint="/"}`, catalogue.NodeFilesystemPercent, testbed.Node), func() (float64, error) {
		var st syscall.Statfs_t
		if err := syscall.Statfs("/", &st); err != nil {
			return 0, err
		}
		used, available := float64(st.Blocks-st.Bfree), float64(st.Bavail)
		return 100 * used / (used + available), nil
	})

	// From grid point to grid point, since a rate lies between two of them.
	const grid = accuracyInterval
	from := time.Now().Truncate(grid).Add(grid)
	if err := pause(ctx, time.Until(from.Add(-time.Second))); err != nil {
		return nil, err
	}
	for _, f := range figures {
		if err := f.begin(); err != nil {
			return nil, err
		}
	}
	to := from.Add(b.for_.Truncate(grid))
	for time.Until(to) > 3*time.Second {
		for _, f := range figures {
			if f.each != nil {
				if err := f.each(); err != nil {
					return nil, err
				}
			}
		}
		if err := pause(ctx, 2*time.Second); err != nil {
			return nil, err
		}
	}
	if err := pause(ctx, time.Until(to.Add(-time.Second))); err != nil {
		return nil, err
	}
	for _, f := range figures {
		v, err := f.end(to.Sub(from))
		if err != nil {
			return nil, err
		}
		f.row.Kernel = v
	}
	if err := pause(ctx, 5*time.Second); err != nil {
		return nil, err
	}
	var rows []accuracyRow
	for _, f := range figures {
		series, err := server.Raw(ctx, f.query, from.Add(time.Second), to.Add(time.Second))
		if err != nil {
			return nil, err
		}
		if len(series) != 1 || len(series[0].Points) == 0 {
			return nil, fmt.Errorf("%s has %d series, want one with samples:\n%s", f.query, len(series), testbed.Describe(series))
		}
		sum := 0.0
		for _, point := range series[0].Points {
			sum += point.V
		}
		r := f.row
		r.Ours = sum / float64(len(series[0].Points))
		r.Off = 100 * (r.Ours - r.Kernel) / r.Kernel
		if r.Bar > 0 {
			holds := math.Abs(r.Off) <= r.Bar
			r.Holds = &holds
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// restartContainer kills the processes of a workload's container, and waits until the
// next instance runs. One that ended by itself, again and again, would be left to wait
// for minutes, and there would be nothing to see.
func restartContainer(ctx context.Context, c *testbed.Cluster, app string) error {
	return restartBy(ctx, c, app, func(_, container testbed.Cgroup) error {
		_, err := endProcesses(container)
		return err
	})
}

// restartBy ends processes of a workload's pod, and waits until its container runs again.
func restartBy(ctx context.Context, c *testbed.Cluster, app string, end func(pod, container testbed.Cgroup) error) error {
	before, err := podOf(ctx, c, app)
	if err != nil {
		return err
	}
	pod, container, err := groupsOf(before)
	if err != nil {
		return err
	}
	if err := end(pod, container); err != nil {
		return fmt.Errorf("end processes of %s: %w", app, err)
	}
	return awaitRestart(ctx, c, app, before.Status.ContainerStatuses[0].RestartCount)
}

func endProcesses(of testbed.Cgroup) (ended int, err error) {
	pids, err := of.PIDs()
	if err != nil {
		return 0, err
	}
	for _, pid := range pids {
		switch err := syscall.Kill(pid, syscall.SIGKILL); {
		case err == nil:
			ended++
		case !errors.Is(err, syscall.ESRCH):
			return ended, err
		}
	}
	return ended, nil
}

// awaitRestart waits until a workload's container runs again that was restarted so often.
func awaitRestart(ctx context.Context, c *testbed.Cluster, app string, restarts int) error {
	return testbed.Await(ctx, 3*time.Minute, time.Second, func(ctx context.Context) error {
		now, err := podOf(ctx, c, app)
		if err != nil {
			return err
		}
		if st := now.Status.ContainerStatuses[0]; !st.Ready || st.RestartCount == restarts {
			return fmt.Errorf("the container of %s does not run again yet, after %d restarts", app, st.RestartCount)
		}
		return nil
	})
}

// restartSandbox kills the process that holds the network of a workload's pod. The pod
// stays, with another sandbox.
func restartSandbox(ctx context.Context, c *testbed.Cluster, app string) error {
	return restartBy(ctx, c, app, func(pod, container testbed.Cgroup) error {
		entries, err := os.ReadDir(pod.CPU)
		if err != nil {
			return err
		}
		ended := 0
		for _, e := range entries {
			group := testbed.Cgroup{CPU: filepath.Join(pod.CPU, e.Name())}
			if !e.IsDir() || group.CPU == container.CPU {
				continue
			}
			n, err := endProcesses(group)
			if err != nil {
				return err
			}
			ended += n
		}
		if ended != 1 {
			return fmt.Errorf("%d processes in %s beside its container's, want the sandbox's", ended, pod.CPU)
		}
		return nil
	})
}

// restartKubelet ends the kubelet and has the cluster's script start it again.
func restartKubelet(ctx context.Context, c *testbed.Cluster) error {
	raw, err := os.ReadFile(filepath.Join(c.State, "pid/kubelet"))
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return fmt.Errorf("end the kubelet: %w", err)
	}
	err = testbed.Await(ctx, 30*time.Second, 200*time.Millisecond, func(context.Context) error {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err == nil {
			return fmt.Errorf("kubelet %d is there still", pid)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.Start(ctx, os.Stderr)
}

// accuracyCause is something that makes counters jump, and where to look.
type accuracyCause struct {
	event string
	// begin lets it happen and returns once all runs again; end, if any, clears away.
	begin, end func(ctx context.Context, c *testbed.Cluster) error
	touches    []string // workloads whose pods or containers are others afterwards
	kubelet    bool     // the kubelet is another afterwards
	looks      []accuracyLook
}

type accuracyLook struct {
	metric, workload string
	possible         float64
}

func accuracyCauses() []accuracyCause {
	// What limits allow; a group may use a little more than its quota between two
	// readings, and a pod of fetch has two files a second at the most.
	const cpu, traffic, small, large = 0.1 * 1.1, 2 * 200_000 * 1.2, 32 << 20, 100 << 20
	return []accuracyCause{
		{
			event: "container restarts", touches: []string{"restarting"},
			begin: func(ctx context.Context, c *testbed.Cluster) error { return restartContainer(ctx, c, "restarting") },
			looks: []accuracyLook{{catalogue.PodCPU, "restarting", cpu}, {catalogue.ContainerCPU, "restarting", cpu}, {catalogue.WorkloadCPU, "restarting", cpu}, {catalogue.ContainerMem, "restarting", small}},
		},
		{
			event: "OOM kill", touches: []string{"oom"},
			begin: func(ctx context.Context, c *testbed.Cluster) error {
				if err := c.Apply(ctx, accuracyOOM()); err != nil {
					return err
				}
				return awaitRestart(ctx, c, "oom", 0)
			},
			end: func(ctx context.Context, c *testbed.Cluster) error {
				_, err := c.Kubectl(ctx, "", "-n", "accuracy", "delete", "deployment", "oom", "--cascade=foreground", "--wait")
				return err
			},
			looks: []accuracyLook{{catalogue.PodMem, "oom", small}, {catalogue.ContainerMem, "oom", small}, {catalogue.PodCPU, "oom", cpu}},
		},
		{
			event: "pods replaced, old and new at once", touches: []string{"steady", "fetch"},
			begin: func(ctx context.Context, c *testbed.Cluster) error {
				if _, err := c.Kubectl(ctx, "", "-n", "accuracy", "rollout", "restart", "deployment/steady", "deployment/fetch"); err != nil {
					return err
				}
				return c.WaitRolledOut(ctx, "accuracy", 3*time.Minute, "deployment/steady", "deployment/fetch")
			},
			looks: []accuracyLook{{catalogue.PodCPU, "steady", cpu}, {catalogue.WorkloadCPU, "steady", 2 * cpu}, {catalogue.PodNetworkReceive, "fetch", traffic}},
		},
		{
			event: "sandbox made anew, its traffic's counters begin at 0", touches: []string{"fetch"},
			begin: func(ctx context.Context, c *testbed.Cluster) error { return restartSandbox(ctx, c, "fetch") },
			looks: []accuracyLook{{catalogue.PodNetworkReceive, "fetch", traffic}, {catalogue.PodCPU, "fetch", cpu}},
		},
		{
			event: "kubelet restarts", kubelet: true,
			begin: restartKubelet,
			looks: []accuracyLook{{catalogue.PodCPU, "steady", cpu}, {catalogue.ContainerCPU, "restarting", cpu}, {catalogue.WorkloadCPU, "steady", cpu}, {catalogue.ContainerMem, "steady", large}, {catalogue.PodNetworkReceive, "fetch", traffic}},
		},
	}
}

// surroundings are what must stay as it is while something else happens.
type surroundings struct {
	kubelet    string
	containers map[string]string // by workload: the pod's UID, and how often its container was restarted
}

func surroundingsOf(ctx context.Context, c *testbed.Cluster, but []string) (s surroundings, err error) {
	raw, err := os.ReadFile(filepath.Join(c.State, "pid/kubelet"))
	if err != nil {
		return s, err
	}
	s.kubelet, s.containers = strings.TrimSpace(string(raw)), map[string]string{}
	for _, app := range []string{"steady", "bursty", "download", "fetch", "restarting"} {
		if slices.Contains(but, app) {
			continue
		}
		p, err := podOf(ctx, c, app)
		if err != nil {
			return s, err
		}
		s.containers[app] = fmt.Sprintf("%s, %d restarts", p.Metadata.UID, p.Status.ContainerStatuses[0].RestartCount)
	}
	return s, nil
}

// alone lets something happen, and gives the highest figures from an interval before
// until it is in no figure any more. That anything else happened meanwhile is an error.
func (run accuracyRun) alone(ctx context.Context, cause accuracyCause) (events []accuracyEvent, err error) {
	before, err := surroundingsOf(ctx, run.cluster, cause.touches)
	if err != nil {
		return nil, err
	}
	from := time.Now().Add(-accuracyInterval)
	if err := cause.begin(ctx, run.cluster); err != nil {
		return nil, err
	}
	if err := pause(ctx, accuracySettles); err != nil {
		return nil, err
	}
	to := time.Now()
	after, err := surroundingsOf(ctx, run.cluster, cause.touches)
	if err != nil {
		return nil, err
	}
	if same := before.kubelet == after.kubelet; same == cause.kubelet {
		return nil, fmt.Errorf("the kubelet was %s before and %s after it", before.kubelet, after.kubelet)
	}
	if !maps.Equal(before.containers, after.containers) {
		return nil, fmt.Errorf("it was not alone: there were %v, and are %v", before.containers, after.containers)
	}
	for _, look := range cause.looks {
		series, err := run.server.Raw(ctx, fmt.Sprintf(`%s{namespace="accuracy",workload=%q}`, look.metric, look.workload), from, to)
		if err != nil {
			return nil, err
		}
		e := accuracyEvent{Event: cause.event, Metric: look.metric, Workload: look.workload, Possible: look.possible}
		samples := 0
		for _, s := range series {
			for _, point := range s.Points {
				samples++
				e.Highest = max(e.Highest, point.V)
			}
		}
		if samples == 0 {
			return nil, fmt.Errorf("%s of %s has no sample since %s: nothing is measured of it", look.metric, look.workload, from.Format(time.TimeOnly))
		}
		e.Holds = e.Highest <= e.Possible
		e.Note = fmt.Sprintf("%d samples of %d series", samples, len(series))
		events = append(events, e)
	}
	if cause.end != nil {
		if err := cause.end(ctx, run.cluster); err != nil {
			return nil, err
		}
		err = pause(ctx, accuracySettles)
	}
	return events, err
}

// updateAccuracy changes the table and writes it, and the page made of it.
func updateAccuracy(dir string, change func(*accuracyTable)) error {
	var t accuracyTable
	raw, err := os.ReadFile(filepath.Join(dir, "accuracy.json"))
	if err == nil {
		err = json.Unmarshal(raw, &t)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	change(&t)
	if raw, err = json.MarshalIndent(t, "", "  "); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "accuracy.json"), append(raw, '\n'), 0o644); err != nil {
		return err
	}
	var page strings.Builder
	fmt.Fprintf(&page, "# Accuracy\n\nMade by `make accuracy` of [accuracy.json](accuracy.json) on %s. %s\n\n%s\n\n", t.Date, t.Machine, t.Note)
	page.WriteString("| object | load | metric | kernel | ours | off | bar | holds |\n|---|---|---|---|---|---|---|---|\n")
	verdict := func(holds *bool) string {
		switch {
		case holds == nil:
			return ""
		case *holds:
			return "yes"
		}
		return "**no**"
	}
	for _, r := range t.Rows {
		bar := "reported"
		if r.Bar > 0 {
			bar = fmt.Sprintf("%g %%", r.Bar)
		}
		fmt.Fprintf(&page, "| %s | %s | `%s` | %.6g %s (%s) | %.6g | %+.2f %% | %s | %s |\n", r.Object, r.Load, r.Metric, r.Kernel, r.Unit, r.From, r.Ours, r.Off, bar, verdict(r.Holds))
	}
	fmt.Fprintf(&page, "\nThe highest figure that was reported around what makes counters jump, each alone while everything else runs through, and the highest that can be. On %s, %s.\n\n"+
		"| event | workload | metric | highest | possible | holds | |\n|---|---|---|---|---|---|---|\n", t.EventsDate, t.EventsMachine)
	for _, e := range t.Events {
		fmt.Fprintf(&page, "| %s | %s | `%s` | %.6g | %.6g | %s | %s |\n", e.Event, e.Workload, e.Metric, e.Highest, e.Possible, verdict(&e.Holds), e.Note)
	}
	return os.WriteFile(filepath.Join(dir, "accuracy.md"), []byte(page.String()), 0o644)
}
