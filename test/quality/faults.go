package quality

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/crowsnest-dev/crowsnest/storage/meta"
	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

// step does something to the cluster, in the fault's namespace.
type step func(ctx context.Context, l *Lab, namespace string) error

// check tells whether something shows.
type check func(ctx context.Context, l *Lab, namespace string) (bool, error)

// Expect is a policy that must fire.
type Expect struct {
	Policy string
	// Shown tells that the API, the kubelet or the kernel shows the fault: time
	// counts from then.
	Shown check
	// Own is what the policy needs by itself, where that is not need × period.
	Own time.Duration
}

// Fault is something that breaks, or that only looks like it.
type Fault struct {
	Name string
	// How it is done, in words.
	How string
	// Setup makes what is to be broken, and waits until it is well.
	Setup, Inject, Mend step
	Find                []Expect
	// May fire too: more general policies that the found one mutes, and what is
	// true as well.
	May []string
	// Causes with which what was found may end.
	Causes []string
	// Delay is the most that Kubernetes takes until the fault shows.
	Delay time.Duration
	// Watch is how long nothing may fire, where nothing is to be found; it is
	// longer than the slowest preset takes.
	Watch time.Duration
	// Ends is what must have ended by itself, for a fault that finds nothing: the
	// alerts of Setup.
	Ends []string
	// Alone: it touches more than its namespace.
	Alone bool
	// Short ones are part of the end-to-end tests.
	Short bool
}

const (
	idle = "while :; do sleep 1; done"
	// A command that does something while a file is there.
	whileThere = "while :; do if [ -f /tmp/on ]; then %s; else sleep 0.2; fi; done"
)

// policies of the suite itself: what people write on their logs.
func ownPolicies(interval time.Duration) []Document {
	log := func(name, query, op string, threshold float64, need int, namespace string) Document {
		spec := map[string]any{
			"level": "log", "objects": map[string]any{"namespaces": []string{namespace}}, "recoverAfter": 2,
			"conditions": []any{map[string]any{
				"query": query, "count": map[string]any{}, "period": interval.String(), "op": op, "thresholds": map[string]any{"warning": threshold},
				"need": need, "of": need, "groupBy": "workload",
			}},
		}
		return document("/policies", meta.KindPolicy, name, spec, time.Duration(need)*interval)
	}
	return []Document{
		log("own-log-keyword", "panic", ">", 0, 1, namespaceOf("log-keyword")),
		log("own-log-silence", "*", "<", 1, 3, namespaceOf("log-silence")),
	}
}

func on(ctx context.Context, l *Lab, ns string) error {
	return l.inPod(ctx, ns, "app", "touch /tmp/on")
}
func off(ctx context.Context, l *Lab, ns string) error {
	return l.inPod(ctx, ns, "app", "rm -f /tmp/on")
}

// app deploys the one workload of a fault and waits until it is ready.
func app(d deployment) step {
	d.name = "app"
	return func(ctx context.Context, l *Lab, ns string) error {
		if err := l.deploy(ctx, ns, d); err != nil {
			return err
		}
		return l.rolledOut(ctx, ns, d.name)
	}
}

// unready deploys the one workload of a fault, which does not get ready.
func unready(d deployment) step {
	d.name = "app"
	return func(ctx context.Context, l *Lab, ns string) error { return l.deploy(ctx, ns, d) }
}

func limits(cpu, memory string) map[string]any {
	return map[string]any{"resources": map[string]any{
		"requests": map[string]string{"cpu": "10m", "memory": "16Mi"}, "limits": map[string]string{"cpu": cpu, "memory": memory},
	}}
}

func readinessOf(file string) map[string]any {
	return map[string]any{"readinessProbe": map[string]any{"exec": map[string]any{"command": []string{"/bin/cat", file}}, "periodSeconds": 2, "failureThreshold": 1}}
}

// now is for what shows as soon as it was done.
func now(context.Context, *Lab, string) (bool, error) { return true, nil }

// unhealthy tells that the API server does not say that it is ready.
func unhealthy(path string) check {
	return func(ctx context.Context, l *Lab, _ string) (bool, error) { return l.get(ctx, path, nil) != nil, nil }
}

var replaced = []string{"value_normal", "object_deleted", "workload_replaced"}

// general presets that may fire beside one that says why a pod does not run.
var general = []string{"pod-not-ready", "pod-restarts", "workload-restarts", "workload-replicas-missing", "workload-rollout-stuck"}

// Faults are all, one by one.
func Faults() []Fault {
	crashing := deployment{replicas: 1, command: "sleep 1; exit 3"}
	crashShown := waiting("CrashLoopBackOff")
	return []Fault{
		{
			Name: "crash-loop", How: "a Deployment's container exits with 3 after a second", Short: true, Delay: time.Minute,
			Inject: unready(crashing), Mend: app(deployment{replicas: 1, command: idle}),
			Find: []Expect{{Policy: "pod-crash-loop", Shown: crashShown}}, May: general, Causes: replaced,
		},
		{
			Name: "oom-kill", How: "a container's only process takes more memory than its limit, once", Delay: time.Minute,
			Inject: unready(deployment{
				replicas: 1, command: "[ -f /state/done ] && sleep 1000000; sleep 5; touch /state/done; exec tail /dev/zero",
				container: map[string]any{"volumeMounts": []any{map[string]any{"name": "state", "mountPath": "/state"}}},
				pod:       map[string]any{"volumes": []any{map[string]any{"name": "state", "emptyDir": map[string]any{}}}},
			}),
			Mend: func(context.Context, *Lab, string) error { return nil }, // it is over by itself
			Find: []Expect{{Policy: "container-oom-killed", Shown: anyPod(func(p pod) bool {
				for _, c := range p.Status.ContainerStatuses {
					for _, s := range []containerState{c.State, c.LastState} {
						if s.Terminated != nil && s.Terminated.Reason == "OOMKilled" {
							return true
						}
					}
				}
				return false
			})}},
			May: append([]string{"pod-memory-near-limit"}, general...), Causes: []string{"value_normal"},
		},
		{
			Name: "image-pull", How: "a Deployment's image is in no registry", Short: true, Delay: time.Minute,
			Inject: unready(deployment{replicas: 1, command: idle, container: map[string]any{"image": "localhost/nobody-has-it:1", "imagePullPolicy": "IfNotPresent"}}),
			Mend:   app(deployment{replicas: 1, command: idle}),
			Find:   []Expect{{Policy: "pod-image-pull", Shown: waiting("ErrImagePull", "ImagePullBackOff")}}, May: general, Causes: replaced,
		},
		{
			Name: "unschedulable", How: "a pod asks for 1,000 CPUs", Short: true, Delay: 20 * time.Second,
			Inject: unready(deployment{replicas: 1, command: idle, container: map[string]any{"resources": map[string]any{
				"requests": map[string]string{"cpu": "1000", "memory": "16Mi"}, "limits": map[string]string{"cpu": "1000", "memory": "16Mi"},
			}}}),
			Mend: app(deployment{replicas: 1, command: idle}),
			Find: []Expect{{Policy: "pod-unschedulable", Shown: podCondition("PodScheduled", "False", "Unschedulable")}},
			// What pending pods ask for counts as asked for.
			May: append([]string{"cluster-cpu-requested"}, general...), Causes: replaced,
		},
		{
			Name: "failing-readiness", How: "a running pod's readiness probe begins to fail", Delay: 20 * time.Second,
			Setup:  app(deployment{replicas: 1, command: "touch /tmp/ok; " + idle, container: readinessOf("/tmp/ok")}),
			Inject: func(ctx context.Context, l *Lab, ns string) error { return l.inPod(ctx, ns, "app", "rm /tmp/ok") },
			Mend:   func(ctx context.Context, l *Lab, ns string) error { return l.inPod(ctx, ns, "app", "touch /tmp/ok") },
			Find:   []Expect{{Policy: "pod-not-ready", Shown: podCondition("Ready", "False", "")}},
			May:    []string{"workload-replicas-missing"}, Causes: []string{"value_normal"},
		},
		{
			Name: "cpu-at-limit", How: "a container burns CPU at its limit of 100m", Delay: 20 * time.Second,
			Setup: app(deployment{
				replicas: 1, command: fmt.Sprintf(whileThere, "n=0; while [ $n -lt 3000 ]; do n=$((n+1)); done"), container: limits("100m", "64Mi"),
			}),
			Inject: on, Mend: off, Find: []Expect{{Policy: "pod-cpu-at-limit", Shown: cgroupUse(0.09)}},
			May: []string{"container-throttled"}, Causes: []string{"value_normal"}, // it explains the other
		},
		{
			Name: "memory-near-limit", How: "a container's working set comes to 93 % of its limit of 64 MiB", Delay: 20 * time.Second,
			Setup: app(deployment{replicas: 1, command: fmt.Sprintf(whileThere,
				"head -c 61000000 /dev/zero | tail -c 61000000 | while [ -f /tmp/on ]; do sleep 0.2; done"), container: limits("500m", "64Mi")}),
			Inject: on, Mend: off, Find: []Expect{{Policy: "pod-memory-near-limit", Shown: workingSet(61_000_000)}}, Causes: []string{"value_normal"},
		},
		{
			Name: "throttling", How: "a container wants more CPU than its limit in a part of each second, so that it is throttled while its average is below the limit", Delay: 20 * time.Second,
			Setup: app(deployment{
				replicas: 1, command: fmt.Sprintf(whileThere, "n=0; while [ $n -lt 30000 ]; do n=$((n+1)); done; sleep 0.5"), container: limits("100m", "64Mi"),
			}),
			Inject: on, Mend: off, Find: []Expect{{Policy: "container-throttled", Shown: cgroupUse(0.03)}},
			May: []string{"pod-cpu-at-limit"}, Causes: []string{"value_normal"},
		},
		{
			Name: "replicas-missing", How: "a pod of two ends, and admission refuses its replacement", Delay: 20 * time.Second,
			Setup: app(deployment{replicas: 2, command: idle}),
			Inject: func(ctx context.Context, l *Lab, ns string) error {
				if err := l.deny(ctx, ns, "", "v1", "pods"); err != nil {
					return err
				}
				time.Sleep(3 * time.Second) // a new policy takes a moment to be in force; Kubernetes does not say when it is
				pods, err := l.pods(ctx, ns)
				if err != nil {
					return err
				}
				if len(pods) == 0 {
					return errors.New("there is no pod to delete")
				}
				return l.kubectl(ctx, "-n", ns, "delete", "pod", "--wait=false", pods[0].Metadata.Name)
			},
			Mend: func(ctx context.Context, l *Lab, ns string) error {
				if err := l.allow(ctx, ns); err != nil {
					return err
				}
				// Kubernetes tries again after a while that doubles; a change makes it try now.
				return l.kubectl(ctx, "-n", ns, "annotate", "replicaset", "-l", "app=app", "--overwrite", "q=1")
			},
			Find:   []Expect{{Policy: "workload-replicas-missing", Shown: readyOf("app", func(desired, ready int) bool { return ready < desired })}},
			Causes: []string{"value_normal"},
		},
		{
			Name: "rollout-stuck", How: "the new version of a Deployment does not get ready within its progress deadline of 20 s; the old one serves on", Delay: time.Minute,
			Setup: app(deployment{replicas: 1, command: idle, spec: map[string]any{"progressDeadlineSeconds": 20}}),
			Inject: unready(deployment{
				replicas: 1, command: "echo v2; " + idle, container: readinessOf("/nothing"), spec: map[string]any{"progressDeadlineSeconds": 20},
			}),
			// kubectl does not wait for a Deployment that was said to be stuck.
			Mend: unready(deployment{replicas: 1, command: idle, spec: map[string]any{"progressDeadlineSeconds": 20}}),
			Find: []Expect{{Policy: "workload-rollout-stuck", Shown: deploymentCondition("Progressing", "ProgressDeadlineExceeded")}},
			May:  []string{"pod-not-ready", "workload-replicas-missing"}, Causes: []string{"value_normal"},
		},
		{
			Name: "job-failed", How: "a Job's only try exits with 1", Short: true, Delay: 30 * time.Second,
			Inject: func(ctx context.Context, l *Lab, ns string) error {
				return l.apply(ctx, map[string]any{
					"apiVersion": "batch/v1", "kind": "Job", "metadata": map[string]any{"name": "import", "namespace": ns},
					"spec": map[string]any{"backoffLimit": 0, "template": jobPod("exit 1")},
				})
			},
			Mend: func(ctx context.Context, l *Lab, ns string) error {
				return l.kubectl(ctx, "-n", ns, "delete", "job", "import")
			},
			Find: []Expect{{Policy: "job-failed", Shown: func(ctx context.Context, l *Lab, ns string) (bool, error) {
				var job struct {
					Status struct{ Conditions []condition }
				}
				err := l.get(ctx, "/apis/batch/v1/namespaces/"+ns+"/jobs/import", &job)
				for _, c := range job.Status.Conditions {
					if c.Type == "Failed" && c.Status == "True" {
						return true, nil
					}
				}
				return false, err
			}}},
			// A Job that failed is abnormal, by the catalogue.
			May: []string{"workload-replicas-missing"}, Causes: []string{"object_deleted"},
		},
		{
			Name: "cronjob-missed", How: "admission refuses the Jobs of a CronJob that is due every minute, with a starting deadline of 10 s", Delay: 2 * time.Minute,
			Inject: func(ctx context.Context, l *Lab, ns string) error {
				if err := l.deny(ctx, ns, "batch", "v1", "jobs"); err != nil {
					return err
				}
				return l.apply(ctx, map[string]any{
					"apiVersion": "batch/v1", "kind": "CronJob", "metadata": map[string]any{"name": "tidy", "namespace": ns},
					"spec": map[string]any{"schedule": "* * * * *", "startingDeadlineSeconds": 10, "jobTemplate": map[string]any{"spec": map[string]any{"template": jobPod("true")}}},
				})
			},
			Mend: func(ctx context.Context, l *Lab, ns string) error { return l.allow(ctx, ns) },
			Find: []Expect{{Policy: "cronjob-missed", Shown: func(ctx context.Context, l *Lab, ns string) (bool, error) {
				var job struct {
					Metadata struct{ CreationTimestamp time.Time }
					Status   struct{ LastScheduleTime *time.Time }
				}
				if err := l.get(ctx, "/apis/batch/v1/namespaces/"+ns+"/cronjobs/tidy", &job); err != nil {
					return false, err
				}
				due := job.Metadata.CreationTimestamp.Truncate(time.Minute).Add(time.Minute)
				return job.Status.LastScheduleTime == nil && time.Since(due) > 10*time.Second, nil
			}}},
			May: []string{"workload-replicas-missing"}, Causes: []string{"value_normal"},
		},
		{
			Name: "node-not-ready", How: "the node's kubelet is killed", Alone: true, Delay: 2 * time.Minute,
			Inject: func(ctx context.Context, l *Lab, _ string) error { return l.killDaemon(ctx, "kubelet") },
			Mend:   func(ctx context.Context, l *Lab, _ string) error { return l.reviveDaemons(ctx) },
			Find: []Expect{{Policy: "node-not-ready", Shown: func(ctx context.Context, l *Lab, _ string) (bool, error) {
				var node struct {
					Status struct{ Conditions []condition }
				}
				err := l.get(ctx, "/api/v1/nodes/"+testbed.Node, &node)
				for _, c := range node.Status.Conditions {
					if c.Type == "Ready" && c.Status != "True" {
						return true, nil
					}
				}
				return false, err
			}}},
			// Of a cluster with one node all pods are not ready then; the node's are muted.
			May: []string{"node-pressure", "node-unread", "pod-not-ready", "workload-replicas-missing", "service-without-endpoints"}, Causes: []string{"value_normal"},
		},
		{
			Name: "node-cordoned", How: "the node is cordoned; its pods run on", Alone: true, Watch: 70 * time.Second,
			Inject: func(ctx context.Context, l *Lab, _ string) error { return l.kubectl(ctx, "cordon", testbed.Node) },
			Mend:   func(ctx context.Context, l *Lab, _ string) error { return l.kubectl(ctx, "uncordon", testbed.Node) },
		},
		{
			Name: "disk-filling", How: "a file system of the node is filled to 93 %", Alone: true, Delay: 20 * time.Second,
			Setup: func(ctx context.Context, l *Lab, _ string) error { _, err := l.disk(ctx, "filling"); return err },
			Inject: func(_ context.Context, l *Lab, _ string) error {
				return fill(filepath.Join(l.dir, "disk-filling"), 93)
			},
			Mend: func(ctx context.Context, l *Lab, _ string) error {
				return os.Remove(filepath.Join(l.dir, "disk-filling/filler"))
			},
			Find: []Expect{{Policy: "node-disk-filling", Shown: diskOver("filling", 90)}}, May: []string{"node-disk-forecast"}, Causes: []string{"value_normal"},
		},
		{
			Name: "pvc-nearly-full", How: "a local volume with a claim is filled to 93 %", Alone: true, Delay: 3 * time.Minute,
			Setup: localVolume,
			Inject: func(_ context.Context, l *Lab, _ string) error {
				return fill(filepath.Join(l.dir, "disk-volume"), 93)
			},
			Mend: func(ctx context.Context, l *Lab, _ string) error {
				return os.Remove(filepath.Join(l.dir, "disk-volume/filler"))
			},
			Find: []Expect{{Policy: "volume-filling", Shown: claimOver(90)}},
			// The volume is a file system of the node too.
			May: []string{"node-disk-filling", "node-disk-forecast"}, Causes: []string{"value_normal"},
		},
		{
			Name: "api-server-away", How: "kube-apiserver is killed", Alone: true, Delay: 10 * time.Second,
			Inject: func(ctx context.Context, l *Lab, _ string) error { return l.killDaemon(ctx, "apiserver") },
			Mend:   func(ctx context.Context, l *Lab, _ string) error { return l.reviveDaemons(ctx) },
			Find:   []Expect{{Policy: "component-down", Shown: unhealthy("/readyz")}}, Causes: []string{"value_normal"},
		},
		{
			Name: "scheduler-away", How: "kube-scheduler is killed", Alone: true, Delay: 10 * time.Second,
			Inject: func(ctx context.Context, l *Lab, _ string) error { return l.killDaemon(ctx, "scheduler") },
			Mend:   func(ctx context.Context, l *Lab, _ string) error { return l.reviveDaemons(ctx) },
			Find:   []Expect{{Policy: "component-down", Shown: now}}, Causes: []string{"value_normal"},
		},
		{
			Name: "etcd-away", How: "etcd is killed", Alone: true, Delay: 30 * time.Second,
			Inject: func(ctx context.Context, l *Lab, _ string) error { return l.killDaemon(ctx, "etcd") },
			Mend:   func(ctx context.Context, l *Lab, _ string) error { return l.reviveDaemons(ctx) },
			Find:   []Expect{{Policy: "component-down", Shown: unhealthy("/readyz")}}, May: []string{"component-errors"}, Causes: []string{"value_normal"},
		},
		{
			Name: "collector-killed", How: "the node's collector is killed", Alone: true, Delay: 10 * time.Second,
			Inject: func(_ context.Context, l *Lab, _ string) error { l.kill("collector-node"); return nil },
			Mend:   func(_ context.Context, l *Lab, _ string) error { return l.start("collector-node") },
			// It looks at the last three minutes, here 30 s, two times in a row.
			Find: []Expect{{Policy: "node-unread", Shown: now, Own: 50 * time.Second}}, Causes: []string{"value_normal"},
		},
		{
			Name: "collectors-killed", How: "every collector of the cluster is killed", Alone: true, Delay: 10 * time.Second,
			Inject: func(_ context.Context, l *Lab, _ string) error {
				l.kill("collector-node")
				l.kill("collector-cluster")
				return nil
			},
			Mend: func(_ context.Context, l *Lab, _ string) error {
				return errors.Join(l.start("collector-node"), l.start("collector-cluster"))
			},
			// It looks at the last two minutes, here 20 s, two times in a row.
			Find: []Expect{{Policy: "cluster-silent", Shown: now, Own: 40 * time.Second}}, Causes: []string{"value_normal"},
		},
		{
			Name: "namespace-deleted", How: "a namespace with a crash loop in it is deleted", Watch: 45 * time.Second,
			Setup: func(ctx context.Context, l *Lab, ns string) error {
				if err := unready(crashing)(ctx, l, ns); err != nil {
					return err
				}
				return l.awaitFiring(ctx, "pod-crash-loop", ns, 3*time.Minute)
			},
			Inject: func(ctx context.Context, l *Lab, ns string) error {
				return l.kubectl(ctx, "delete", "namespace", ns, "--wait=false")
			},
			Mend: func(context.Context, *Lab, string) error { return nil },
			May:  general, Ends: []string{"pod-crash-loop"}, Causes: []string{"object_deleted"},
		},
		{
			Name: "scale-to-zero", How: "a Deployment of three with a Service is scaled to zero", Watch: 70 * time.Second,
			Setup: func(ctx context.Context, l *Lab, ns string) error {
				return errors.Join(l.service(ctx, ns), app(deployment{replicas: 3, command: idle})(ctx, l, ns))
			},
			Inject: func(ctx context.Context, l *Lab, ns string) error {
				return l.kubectl(ctx, "-n", ns, "scale", "deploy/app", "--replicas=0")
			},
			Mend: func(context.Context, *Lab, string) error { return nil },
		},
		{
			Name: "rolling-update", How: "a healthy Deployment of three with a Service is rolled out anew; each pod is ready after 3 s", Watch: 80 * time.Second,
			Setup: func(ctx context.Context, l *Lab, ns string) error {
				return errors.Join(l.service(ctx, ns), app(deployment{replicas: 3, command: "sleep 3; touch /tmp/ok; " + idle, container: readinessOf("/tmp/ok")})(ctx, l, ns))
			},
			Inject: func(ctx context.Context, l *Lab, ns string) error {
				return l.kubectl(ctx, "-n", ns, "rollout", "restart", "deploy/app")
			},
			Mend: func(context.Context, *Lab, string) error { return nil },
		},
		{
			Name: "log-keyword", How: "a container writes a line with panic in it", Short: true, Delay: 10 * time.Second,
			Setup: app(deployment{replicas: 1, command: "while :; do echo fine; sleep 1; done"}),
			Inject: func(ctx context.Context, l *Lab, ns string) error {
				return l.inPod(ctx, ns, "app", "echo 'panic: it broke' >/proc/1/fd/1")
			},
			Mend: func(context.Context, *Lab, string) error { return nil }, // one line is one line
			Find: []Expect{{Policy: "own-log-keyword", Shown: now}}, Causes: []string{"value_normal"},
		},
		{
			Name: "log-silence", How: "a container that writes a line each second writes none", Delay: 10 * time.Second,
			Setup:  app(deployment{replicas: 1, command: "touch /tmp/on; " + fmt.Sprintf(whileThere, "echo fine; sleep 1")}),
			Inject: off, Mend: on, Find: []Expect{{Policy: "own-log-silence", Shown: now}}, Causes: []string{"value_normal"},
		},
		{
			Name: "quota-nearly-used", How: "19 of 20 ConfigMaps that a quota allows are there", Short: true, Delay: 20 * time.Second,
			Setup: func(ctx context.Context, l *Lab, ns string) error {
				return l.apply(ctx, map[string]any{
					"apiVersion": "v1", "kind": "ResourceQuota", "metadata": map[string]any{"name": "small", "namespace": ns},
					"spec": map[string]any{"hard": map[string]string{"configmaps": "20"}},
				})
			},
			Inject: func(ctx context.Context, l *Lab, ns string) error {
				var maps []map[string]any
				for i := range 18 { // one more comes with each namespace
					maps = append(maps, map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": fmt.Sprint("c", i), "namespace": ns, "labels": map[string]string{"q": "filler"}}})
				}
				return l.apply(ctx, maps...)
			},
			Mend: func(ctx context.Context, l *Lab, ns string) error {
				return l.kubectl(ctx, "-n", ns, "delete", "configmap", "-l", "q=filler")
			},
			Find: []Expect{{Policy: "namespace-quota", Shown: func(ctx context.Context, l *Lab, ns string) (bool, error) {
				var quota struct {
					Status struct{ Used map[string]string }
				}
				err := l.get(ctx, "/api/v1/namespaces/"+ns+"/resourcequotas/small", &quota)
				return quota.Status.Used["configmaps"] == "19", err
			}}},
			Causes: []string{"value_normal"},
		},
	}
}

// Pair is two faults at once: the second begins while the first is there.
type Pair struct{ First, Second string }

// Name of the pair.
func (p Pair) Name() string { return p.First + "+" + p.Second }

// Pairs are those in which one could hide the other, or make something else
// fire.
func Pairs() []Pair {
	return []Pair{
		{"crash-loop", "oom-kill"},
		{"image-pull", "replicas-missing"},
		{"unschedulable", "quota-nearly-used"},
		{"failing-readiness", "node-not-ready"},
		{"cpu-at-limit", "throttling"},
		{"collector-killed", "crash-loop"},
		{"cpu-at-limit", "api-server-away"}, // the first is begun through the API server
		{"failing-readiness", "namespace-deleted"},
		{"log-silence", "scale-to-zero"},
		{"memory-near-limit", "rolling-update"},
	}
}

// outside is what a fault's name ends with when it is measured by FromCadvisor.
const outside = "@cadvisor"

// Usages are the faults that are measured by FromCadvisor too: those of usage,
// which is read in another way there.
func Usages() []string {
	return []string{"cpu-at-limit" + outside, "memory-near-limit" + outside, "throttling" + outside}
}

// SetupOf says how a fault or pair is measured.
func SetupOf(name string) Setup {
	if strings.HasSuffix(name, outside) {
		return FromCadvisor()
	}
	return FromFiles()
}

func jobPod(command string) map[string]any {
	return map[string]any{"spec": map[string]any{"restartPolicy": "Never", "containers": []any{map[string]any{
		"name": "job", "image": "localhost/busybox:1", "imagePullPolicy": "Never", "command": []string{"/bin/sh", "-c", command},
	}}}}
}

func readyOf(name string, is func(desired, ready int) bool) check {
	return func(ctx context.Context, l *Lab, ns string) (bool, error) {
		var d struct {
			Spec   struct{ Replicas int }
			Status struct{ ReadyReplicas int }
		}
		err := l.get(ctx, "/apis/apps/v1/namespaces/"+ns+"/deployments/"+name, &d)
		return err == nil && is(d.Spec.Replicas, d.Status.ReadyReplicas), err
	}
}

func deploymentCondition(kind, reason string) check {
	return func(ctx context.Context, l *Lab, ns string) (bool, error) {
		var d struct {
			Status struct{ Conditions []condition }
		}
		err := l.get(ctx, "/apis/apps/v1/namespaces/"+ns+"/deployments/app", &d)
		for _, c := range d.Status.Conditions {
			if c.Type == kind && c.Reason == reason {
				return true, nil
			}
		}
		return false, err
	}
}

func (l *Lab) service(ctx context.Context, ns string) error {
	return l.apply(ctx, map[string]any{
		"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"name": "app", "namespace": ns},
		"spec": map[string]any{"selector": map[string]string{"app": "app"}, "ports": []any{map[string]any{"port": 80}}},
	})
}

func diskOver(name string, percent float64) check {
	return func(_ context.Context, l *Lab, _ string) (bool, error) {
		used, err := usedPercent(filepath.Join(l.dir, "disk-"+name))
		return used > percent, err
	}
}

// localVolume makes a claim with a file system of its own behind it, and a pod
// that uses it.
func localVolume(ctx context.Context, l *Lab, ns string) error {
	mountpoint, err := l.disk(ctx, "volume")
	if err != nil {
		return err
	}
	size := map[string]any{"storage": "50Mi"}
	err = l.apply(ctx,
		map[string]any{
			"apiVersion": "v1", "kind": "PersistentVolume", "metadata": map[string]any{"name": ns},
			"spec": map[string]any{
				"capacity": size, "accessModes": []string{"ReadWriteOnce"}, "persistentVolumeReclaimPolicy": "Retain", "storageClassName": ns, "local": map[string]any{"path": mountpoint},
				"nodeAffinity": map[string]any{"required": map[string]any{"nodeSelectorTerms": []any{map[string]any{"matchExpressions": []any{
					map[string]any{"key": "kubernetes.io/hostname", "operator": "In", "values": []string{testbed.Node}},
				}}}}},
			},
		},
		map[string]any{
			"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": map[string]any{"name": "data", "namespace": ns},
			"spec": map[string]any{"accessModes": []string{"ReadWriteOnce"}, "storageClassName": ns, "resources": map[string]any{"requests": size}},
		})
	if err != nil {
		return err
	}
	return app(deployment{
		replicas: 1, command: idle, container: map[string]any{"volumeMounts": []any{map[string]any{"name": "data", "mountPath": "/data"}}},
		pod: map[string]any{"volumes": []any{map[string]any{"name": "data", "persistentVolumeClaim": map[string]any{"claimName": "data"}}}},
	})(ctx, l, ns)
}

// claimOver tells whether the kubelet shows the fault's claim to be so full: it
// looks once a minute.
func claimOver(percent float64) check {
	return func(ctx context.Context, l *Lab, ns string) (bool, error) {
		var summary struct {
			Pods []struct {
				Volume []struct {
					PVCRef                    *struct{ Namespace string }
					UsedBytes, AvailableBytes float64
				}
			}
		}
		if err := l.get(ctx, "/api/v1/nodes/"+testbed.Node+"/proxy/stats/summary", &summary); err != nil {
			return false, err
		}
		for _, p := range summary.Pods {
			for _, v := range p.Volume {
				if v.PVCRef != nil && v.PVCRef.Namespace == ns && 100*v.UsedBytes/(v.UsedBytes+v.AvailableBytes) > percent {
					return true, nil
				}
			}
		}
		return false, nil
	}
}

// awaitFiring waits until a policy fires for something of a namespace.
func (l *Lab) awaitFiring(ctx context.Context, name, namespace string, timeout time.Duration) error {
	return testbed.Await(ctx, timeout, watchEvery, func(context.Context) error {
		for _, a := range l.watch.firing() {
			if a.Policy.Name == name && a.Object["namespace"] == namespace {
				return nil
			}
		}
		return fmt.Errorf("%s does not fire in %s", name, namespace)
	})
}
