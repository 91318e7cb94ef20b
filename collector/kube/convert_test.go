package kube

import (
	"encoding/json"
	"os"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/crowsnest-dev/crowsnest/internal/object"
)

func read[T any](t *testing.T, text string) *T {
	t.Helper()
	out := new(T)
	if err := yaml.UnmarshalStrict([]byte(text), out); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return out
}

func TestRealPods(t *testing.T) {
	raw, err := os.ReadFile("testdata/pods.json")
	if err != nil {
		t.Fatal(err)
	}
	var list corev1.PodList
	if err := json.Unmarshal(raw, &list); err != nil {
		t.Fatal(err)
	}
	reasons := map[string]string{}
	for i := range list.Items {
		p := convertPod(&list.Items[i])
		if p.UID == "" || p.CreatedAt.IsZero() || len(p.Containers) == 0 {
			t.Errorf("%s lacks fields: %+v", p.Name, p)
		}
		for _, c := range p.Containers {
			if c.State == "running" && (len(c.ID) != 64 || c.StartedAt.IsZero()) {
				t.Errorf("%s/%s runs without an ID or start: %+v", p.Name, c.Name, c)
			}
		}
		name := p.Name
		if p.templateHash != "" {
			name = p.owner.name[:len(p.owner.name)-len(p.templateHash)-1]
		}
		reasons[name] = p.Phase + " " + p.Reason
		switch name {
		case "web":
			if !p.Ready || p.Limits != (object.Resources{CPUCores: .2, HasCPU: true, MemoryBytes: 64 << 20, HasMemory: true}) ||
				p.Requests != (object.Resources{CPUCores: .1, HasCPU: true, MemoryBytes: 32 << 20, HasMemory: true}) {
				t.Errorf("web: %+v", p.Pod)
			}
		case "hostnet":
			if !p.HostNetwork {
				t.Error("hostnet shares its node's network")
			}
		case "notready":
			if p.Ready {
				t.Error("notready is not ready")
			}
		}
	}
	for name, want := range map[string]string{"web": "Running ", "crash": "Running CrashLoopBackOff", "pending": "Pending Unschedulable", "notready": "Running "} {
		if reasons[name] != want {
			t.Errorf("%s is %q, want %q", name, reasons[name], want)
		}
	}
}

func TestRequestsAndLimits(t *testing.T) {
	cpu := func(v float64) object.Resources { return object.Resources{CPUCores: v, HasCPU: true} }
	for name, tc := range map[string]struct {
		pod              string
		requests, limits object.Resources
	}{
		"sum over containers": {`{spec: {containers: [{name: a, resources: {requests: {cpu: 100m}, limits: {cpu: 1}}}, {name: b, resources: {requests: {cpu: 50m}, limits: {cpu: 500m}}}]}}`, cpu(.15), cpu(1.5)},
		"one without a limit": {`{spec: {containers: [{name: a, resources: {limits: {cpu: 1}}}, {name: b}]}}`, object.Resources{}, object.Resources{}},
		"an init container that ends has no part in limits, and a part in requests": {
			`{spec: {initContainers: [{name: i, resources: {requests: {cpu: 2}}}], containers: [{name: a, resources: {requests: {cpu: 1}, limits: {cpu: 1}}}]}}`, cpu(2), cpu(1)},
		"a sidecar counts": {
			`{spec: {initContainers: [{name: s, restartPolicy: Always, resources: {requests: {cpu: 1}, limits: {cpu: 2}}}], containers: [{name: a, resources: {requests: {cpu: 1}, limits: {cpu: 1}}}]}}`, cpu(2), cpu(3)},
		"a sidecar without a limit": {
			`{spec: {initContainers: [{name: s, restartPolicy: Always}], containers: [{name: a, resources: {limits: {cpu: 1}}}]}}`, object.Resources{}, object.Resources{}},
		"for the pod as a whole": {
			`{spec: {resources: {requests: {cpu: 3}, limits: {cpu: 4}}, containers: [{name: a}, {name: b}]}}`, cpu(3), cpu(4)},
		"overhead": {`{spec: {overhead: {cpu: 250m}, containers: [{name: a, resources: {requests: {cpu: 1}, limits: {cpu: 1}}}]}}`, cpu(1.25), cpu(1.25)},
		"resized in place": {
			`{spec: {containers: [{name: a, resources: {requests: {cpu: 1}, limits: {cpu: 1}}}]},
			  status: {containerStatuses: [{name: a, ready: true, restartCount: 0, image: i, imageID: i, resources: {requests: {cpu: 2}, limits: {cpu: 2}}}]}}`, cpu(2), cpu(2)},
	} {
		p := convertPod(read[corev1.Pod](t, tc.pod))
		tc.requests.HasCPU = tc.requests.CPUCores > 0
		if p.Requests.CPUCores != tc.requests.CPUCores || p.Limits.CPUCores != tc.limits.CPUCores || p.Limits.HasCPU != tc.limits.HasCPU {
			t.Errorf("%s: requests %+v and limits %+v, want %+v and %+v", name, p.Requests, p.Limits, tc.requests, tc.limits)
		}
	}
}

func TestReasonOfAPod(t *testing.T) {
	for want, status := range map[string]string{
		"Evicted":       `{phase: Failed, reason: Evicted}`,
		"Unschedulable": `{phase: Pending, conditions: [{type: PodScheduled, status: "False", reason: Unschedulable}]}`,
		"CrashLoopBackOff": `{phase: Running, containerStatuses: [{name: a, ready: false, restartCount: 3, image: i, imageID: i, state: {waiting: {reason: CrashLoopBackOff}}},
			{name: b, ready: false, restartCount: 0, image: i, imageID: i, state: {waiting: {reason: ContainerCreating}}}]}`,
		"ImagePullBackOff": `{phase: Pending, containerStatuses: [{name: a, ready: false, restartCount: 0, image: i, imageID: i, state: {waiting: {reason: ImagePullBackOff}}}]}`,
		"OOMKilled":        `{phase: Running, containerStatuses: [{name: a, ready: false, restartCount: 0, image: i, imageID: i, state: {terminated: {exitCode: 137, reason: OOMKilled}}}]}`,
		"SomethingNew":     `{phase: Running, containerStatuses: [{name: a, ready: false, restartCount: 0, image: i, imageID: i, state: {waiting: {reason: SomethingNew}}}]}`,
		"":                 `{phase: Running, containerStatuses: [{name: a, ready: true, restartCount: 0, image: i, imageID: i, state: {running: {}}}]}`,
	} {
		p := convertPod(read[corev1.Pod](t, `{spec: {containers: [{name: a}, {name: b}]}, status: `+status+`}`))
		if p.Reason != want {
			t.Errorf("reason is %q, want %q", p.Reason, want)
		}
	}
}

func TestNode(t *testing.T) {
	n := convertNode(read[corev1.Node](t, `
metadata: {name: n, labels: {node-role.kubernetes.io/control-plane: "", node-role.kubernetes.io/master: ""}}
spec: {unschedulable: true}
status:
  capacity: {cpu: "4", memory: 8Gi}
  allocatable: {cpu: 3900m, memory: 7Gi}
  conditions: [{type: Ready, status: Unknown, reason: NodeStatusUnknown}, {type: DiskPressure, status: "True"}]
  addresses: [{type: Hostname, address: n}, {type: InternalIP, address: 10.0.0.5}, {type: InternalIP, address: "fd00::5"}]
  daemonEndpoints: {kubeletEndpoint: {Port: 10250}}
`))
	if n.Ready || !n.Unschedulable || n.Virtual || n.InternalIP != "10.0.0.5" || n.KubeletPort != 10250 || len(n.Roles) != 2 || n.Roles[0] != "control-plane" ||
		n.Allocatable.CPUCores != 3.9 || n.Capacity.MemoryBytes != 8<<30 || len(n.Conditions) != 2 {
		t.Errorf("got %+v", n)
	}
	for name, text := range map[string]string{
		"label": `metadata: {name: v, labels: {type: virtual-kubelet}}`,
		"taint": `{metadata: {name: v}, spec: {taints: [{key: virtual-kubelet.io/provider, effect: NoSchedule}]}}`,
	} {
		if !convertNode(read[corev1.Node](t, text)).Virtual {
			t.Errorf("a node with a virtual kubelet's %s is taken for a real one", name)
		}
	}
}

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func TestAbnormal(t *testing.T) {
	const progressing = `conditions: [{type: Progressing, status: "True", reason: ReplicaSetUpdated, lastUpdateTime: "2026-11-23T11:55:00Z"}]`
	for name, tc := range map[string]struct {
		c        *controller
		abnormal int
		reason   string
	}{
		"all ready":               {convertDeployment(read[appsv1.Deployment](t, `{spec: {replicas: 4}, status: {replicas: 4, updatedReplicas: 4, readyReplicas: 4}}`)), 0, ""},
		"one not ready":           {convertDeployment(read[appsv1.Deployment](t, `{spec: {replicas: 4}, status: {replicas: 4, updatedReplicas: 4, readyReplicas: 3}}`)), 1, "1 of 4 replicas not ready"},
		"replicas default to one": {convertDeployment(read[appsv1.Deployment](t, `{status: {replicas: 1, updatedReplicas: 1}}`)), 1, "1 of 1 replicas not ready"},
		"rolling out, within what may be unavailable": {
			convertDeployment(read[appsv1.Deployment](t, `{spec: {replicas: 4}, status: {replicas: 5, updatedReplicas: 2, readyReplicas: 3, `+progressing+`}}`)), 0, "rolling out"},
		"rolling out, beyond it": {
			convertDeployment(read[appsv1.Deployment](t, `{spec: {replicas: 4}, status: {replicas: 5, updatedReplicas: 2, readyReplicas: 1, `+progressing+`}}`)), 2, "rolling out"},
		"a rollout that is not seen yet by its controller": {
			convertDeployment(read[appsv1.Deployment](t, `{metadata: {generation: 2}, spec: {replicas: 4}, status: {observedGeneration: 1, replicas: 4, updatedReplicas: 4, readyReplicas: 3, `+progressing+`}}`)), 0, "rolling out"},
		"a rollout past its own deadline": {
			convertDeployment(read[appsv1.Deployment](t, `{spec: {replicas: 4, progressDeadlineSeconds: 60}, status: {replicas: 5, updatedReplicas: 2, readyReplicas: 3, `+progressing+`}}`)),
			1, "rollout makes no progress, 1 of 4 replicas not ready"},
		"a rollout that Kubernetes gave up": {
			convertDeployment(read[appsv1.Deployment](t, `{spec: {replicas: 4}, status: {replicas: 5, updatedReplicas: 2, readyReplicas: 3, conditions: [{type: Progressing, status: "False", reason: ProgressDeadlineExceeded, lastUpdateTime: "2026-11-23T11:59:00Z"}]}}`)),
			1, "rollout makes no progress, 1 of 4 replicas not ready"},
		"Recreate takes all down": {
			convertDeployment(read[appsv1.Deployment](t, `{spec: {replicas: 4, strategy: {type: Recreate}}, status: {replicas: 4, updatedReplicas: 1, `+progressing+`}}`)), 0, "rolling out"},
		"neither surge nor unavailable is one unavailable": {
			convertDeployment(read[appsv1.Deployment](t, `{spec: {replicas: 3, strategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 0}}}, status: {replicas: 3, updatedReplicas: 1, readyReplicas: 1, `+progressing+`}}`)), 1, "rolling out"},
		"stateful set": {convertStatefulSet(read[appsv1.StatefulSet](t, `{spec: {replicas: 3}, status: {replicas: 3, readyReplicas: 1, updatedReplicas: 3}}`)), 2, "2 of 3 replicas not ready"},
		"daemon set":   {convertDaemonSet(read[appsv1.DaemonSet](t, `{status: {desiredNumberScheduled: 5, numberReady: 4, updatedNumberScheduled: 5, currentNumberScheduled: 5, numberMisscheduled: 0}}`)), 1, "1 of 5 replicas not ready"},
		"job":          {convertJob(read[batchv1.Job](t, `{spec: {completions: 3, parallelism: 2}, status: {active: 2, succeeded: 1}}`)), 0, ""},
		"failed job":   {convertJob(read[batchv1.Job](t, `{status: {conditions: [{type: Failed, status: "True", reason: BackoffLimitExceeded}]}}`)), 1, "BackoffLimitExceeded"},
	} {
		w := tc.c.judge(now, nil)
		if w.Abnormal != tc.abnormal || w.Reason != tc.reason {
			t.Errorf("%s: %d, %q; want %d, %q", name, w.Abnormal, w.Reason, tc.abnormal, tc.reason)
		}
	}
	t.Run("a stateful set's rollout is excused for ten minutes", func(t *testing.T) {
		c := convertStatefulSet(read[appsv1.StatefulSet](t, `{spec: {replicas: 3}, status: {replicas: 3, readyReplicas: 2, updatedReplicas: 1, currentRevision: a, updateRevision: b}}`))
		c.rollingSince = now
		if got := c.judge(now.Add(9*time.Minute), nil).Abnormal; got != 0 {
			t.Errorf("after 9 minutes %d", got)
		}
		if got := c.judge(now.Add(11*time.Minute), nil).Abnormal; got != 1 {
			t.Errorf("after 11 minutes %d", got)
		}
		if c.judge(now.Add(9*time.Minute), nil).Stuck || !c.judge(now.Add(11*time.Minute), nil).Stuck {
			t.Error("it is not stuck from its deadline on")
		}
	})
	t.Run("a Deployment is stuck when Kubernetes says so, of its newest template", func(t *testing.T) {
		const gaveUp = `conditions: [{type: Progressing, status: "False", reason: ProgressDeadlineExceeded, lastUpdateTime: "2026-11-23T08:00:00Z"}]`
		for status, want := range map[string]bool{
			`{observedGeneration: 2, replicas: 2, updatedReplicas: 1, readyReplicas: 1, ` + gaveUp + `}`:                                                                            true, // the old pod serves on: none is missing
			`{observedGeneration: 1, replicas: 2, updatedReplicas: 1, readyReplicas: 1, ` + gaveUp + `}`:                                                                            false,
			`{observedGeneration: 2, replicas: 2, updatedReplicas: 1, readyReplicas: 1, conditions: [{type: Progressing, status: "True", lastUpdateTime: "2026-11-23T08:00:00Z"}]}`: false,
		} {
			w := convertDeployment(read[appsv1.Deployment](t, `{metadata: {generation: 2}, spec: {replicas: 1}, status: `+status+`}`)).judge(now, nil)
			if w.Stuck != want || !w.Rolls {
				t.Errorf("%s: %v", status, w.Stuck)
			}
		}
	})
}

func TestCronJobs(t *testing.T) {
	cron := func(spec, status string) *controller {
		return convertCronJob(read[batchv1.CronJob](t, `{metadata: {name: c, creationTimestamp: "2026-11-23T08:30:00Z"}, spec: {jobTemplate: {}, `+spec+`}, status: {`+status+`}}`))
	}
	failed := convertJob(read[batchv1.Job](t, `{status: {conditions: [{type: Failed, status: "True"}]}}`))
	for name, tc := range map[string]struct {
		c    *controller
		last *controller
		want int
	}{
		"in time":                              {cron(`schedule: "0 * * * *"`, `lastScheduleTime: "2026-11-23T11:00:00Z"`), nil, 0},
		"late, within a period":                {cron(`schedule: "0 * * * *"`, `lastScheduleTime: "2026-11-23T10:00:00Z"`), nil, 0},
		"overdue by a period":                  {cron(`schedule: "0 * * * *"`, `lastScheduleTime: "2026-11-23T09:00:00Z"`), nil, 1},
		"overdue by its deadline":              {cron(`startingDeadlineSeconds: 60, schedule: "0 * * * *"`, `lastScheduleTime: "2026-11-23T10:00:00Z"`), nil, 1},
		"never ran, counted from its creation": {cron(`schedule: "0 * * * *"`, ``), nil, 1},
		"suspended":                            {cron(`suspend: true, schedule: "0 * * * *"`, ``), nil, 0},
		"one still runs and forbids another":   {cron(`concurrencyPolicy: Forbid, schedule: "0 * * * *"`, `active: [{name: x}]`), nil, 0},
		"last Job failed":                      {cron(`schedule: "0 * * * *"`, `lastScheduleTime: "2026-11-23T11:00:00Z"`), failed, 1},
		"in its own zone":                      {cron(`timeZone: Asia/Shanghai, schedule: "0 19 * * *"`, `lastScheduleTime: "2026-11-22T11:00:00Z"`), nil, 0},
		"a schedule that cannot be read":       {cron(`schedule: "every now and then"`, ``), nil, 1},
		"a schedule that never comes":          {cron(`schedule: "0 0 31 2 *"`, ``), nil, 0},
	} {
		if got := tc.c.judge(now, tc.last); got.Abnormal != tc.want {
			t.Errorf("%s: %d (%s), want %d", name, got.Abnormal, got.Reason, tc.want)
		}
	}
}

func FuzzSchedule(f *testing.F) {
	f.Add("TZ=Europe/Berlin */5 * * * *")
	f.Fuzz(func(_ *testing.T, text string) {
		if s, err := parseSchedule(text); err == nil {
			_ = s.Next(now)
		}
	})
}
