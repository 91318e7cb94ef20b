package quality

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

// namespaceOf is the namespace of a fault.
func namespaceOf(fault string) string { return "q-" + fault }

// pod is what is looked at of one.
type pod struct {
	Metadata struct {
		Name              string
		UID               string
		DeletionTimestamp string
	}
	Status struct {
		Phase             string
		Conditions        []condition
		ContainerStatuses []struct {
			ContainerID  string
			RestartCount int
			State        containerState
			LastState    containerState
		}
	}
}

type condition struct{ Type, Status, Reason string }

type containerState struct {
	Waiting    *struct{ Reason string }
	Terminated *struct{ Reason string }
}

func (l *Lab) pods(ctx context.Context, namespace string) ([]pod, error) {
	var list struct{ Items []pod }
	err := l.get(ctx, "/api/v1/namespaces/"+namespace+"/pods", &list)
	return list.Items, err
}

// anyPod tells whether a pod of the fault's namespace is so.
func anyPod(is func(p pod) bool) check {
	return func(ctx context.Context, l *Lab, namespace string) (bool, error) {
		pods, err := l.pods(ctx, namespace)
		for _, p := range pods {
			if p.Metadata.DeletionTimestamp == "" && is(p) {
				return true, err
			}
		}
		return false, err
	}
}

func waiting(reasons ...string) check {
	return anyPod(func(p pod) bool {
		for _, c := range p.Status.ContainerStatuses {
			for _, r := range reasons {
				if c.State.Waiting != nil && c.State.Waiting.Reason == r {
					return true
				}
			}
		}
		return false
	})
}

func podCondition(kind, status, reason string) check {
	return anyPod(func(p pod) bool {
		for _, c := range p.Status.Conditions {
			if c.Type == kind && c.Status == status && (reason == "" || c.Reason == reason) {
				return true
			}
		}
		return false
	})
}

// deployment of a Deployment of one container.
type deployment struct {
	name      string
	replicas  int
	command   string
	container map[string]any // what is added to the container
	pod       map[string]any // what is added to the pod
	spec      map[string]any // what is added to the Deployment
}

func (l *Lab) deploy(ctx context.Context, namespace string, d deployment) error {
	container := map[string]any{
		"name": "app", "image": "localhost/busybox:1", "imagePullPolicy": "Never", "command": []string{"/bin/sh", "-c", d.command},
		"resources": map[string]any{"requests": map[string]string{"cpu": "10m", "memory": "16Mi"}, "limits": map[string]string{"cpu": "200m", "memory": "64Mi"}},
	}
	for k, v := range d.container {
		container[k] = v
	}
	podSpec := map[string]any{"terminationGracePeriodSeconds": 0, "containers": []any{container}}
	for k, v := range d.pod {
		podSpec[k] = v
	}
	spec := map[string]any{
		"replicas": d.replicas, "selector": map[string]any{"matchLabels": map[string]string{"app": d.name}},
		"template": map[string]any{"metadata": map[string]any{"labels": map[string]string{"app": d.name}}, "spec": podSpec},
	}
	for k, v := range d.spec {
		spec[k] = v
	}
	return l.apply(ctx, map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": d.name, "namespace": namespace}, "spec": spec})
}

func (l *Lab) apply(ctx context.Context, objects ...map[string]any) error {
	raw, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "List", "items": objects})
	if err != nil {
		return err
	}
	return l.Cluster.Apply(ctx, string(raw))
}

func (l *Lab) rolledOut(ctx context.Context, namespace, name string) error {
	return l.Cluster.WaitRolledOut(ctx, namespace, 2*time.Minute, "deployment/"+name)
}

// inPod runs a command in the container of a Deployment's pod.
func (l *Lab) inPod(ctx context.Context, namespace, deployment, command string) error {
	return l.kubectl(ctx, "-n", namespace, "exec", "deploy/"+deployment, "--", "/bin/sh", "-c", command)
}

// deny has the API server refuse new objects of a kind in a namespace, as a
// policy or a webhook of somebody's would.
func (l *Lab) deny(ctx context.Context, namespace, group, version, resource string) error {
	return l.apply(ctx,
		map[string]any{
			"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": map[string]any{"name": namespace},
			"spec": map[string]any{
				"failurePolicy":    "Fail",
				"matchConstraints": map[string]any{"resourceRules": []any{map[string]any{"apiGroups": []string{group}, "apiVersions": []string{version}, "operations": []string{"CREATE"}, "resources": []string{resource}}}},
				"validations":      []any{map[string]any{"expression": "false", "message": "refused"}},
			},
		},
		map[string]any{
			"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": map[string]any{"name": namespace},
			"spec": map[string]any{
				"policyName": namespace, "validationActions": []string{"Deny"},
				"matchResources": map[string]any{"namespaceSelector": map[string]any{"matchLabels": map[string]string{"kubernetes.io/metadata.name": namespace}}},
			},
		})
}

func (l *Lab) allow(ctx context.Context, namespace string) error {
	return l.kubectl(ctx, "delete", "--ignore-not-found", "validatingadmissionpolicybinding/"+namespace, "validatingadmissionpolicy/"+namespace)
}

// disk makes a file system of its own on the node.
func (l *Lab) disk(ctx context.Context, name string) (mountpoint string, err error) {
	mountpoint = filepath.Join(l.dir, "disk-"+name)
	image := mountpoint + ".img"
	if err := os.MkdirAll(mountpoint, 0o755); err != nil {
		return "", err
	}
	if err := l.undisk(ctx, name); err != nil {
		return "", err
	}
	for _, args := range [][]string{{"truncate", "-s", "64M", image}, {"mkfs.ext4", "-q", "-m", "0", "-F", image}, {"mount", "-o", "loop", image, mountpoint}} {
		if err := run(ctx, args...); err != nil {
			return "", err
		}
	}
	return mountpoint, nil
}

func (l *Lab) undisk(ctx context.Context, name string) error {
	mountpoint := filepath.Join(l.dir, "disk-"+name)
	raw, err := os.ReadFile("/proc/mounts")
	if err != nil || !strings.Contains(string(raw), " "+mountpoint+" ") {
		return err
	}
	return run(ctx, "umount", "--lazy", mountpoint)
}

// fill leaves as much of a file system in use as is said.
func fill(mountpoint string, percent float64) error {
	var s unix.Statfs_t
	if err := unix.Statfs(mountpoint, &s); err != nil {
		return err
	}
	used := float64(s.Blocks - s.Bfree)
	blocks := percent/100*(used+float64(s.Bavail)) - used
	f, err := os.Create(filepath.Join(mountpoint, "filler"))
	if err != nil {
		return err
	}
	defer f.Close()
	chunk := make([]byte, 1<<20)
	for left := int64(blocks) * s.Bsize; left > 0; left -= int64(len(chunk)) {
		if _, err := f.Write(chunk[:min(left, int64(len(chunk)))]); err != nil {
			return err
		}
	}
	return f.Sync()
}

// usedPercent of a file system, as df has it.
func usedPercent(mountpoint string) (float64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(mountpoint, &s); err != nil {
		return 0, err
	}
	used := float64(s.Blocks - s.Bfree)
	return 100 * used / (used + float64(s.Bavail)), nil
}

func run(ctx context.Context, args ...string) error {
	_, err := testbed.Command(ctx, "", args[0], args[1:]...)
	if err != nil {
		return fmt.Errorf("%s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// cgroupUse tells whether the only pod of a Deployment uses so much of its CPU
// limit, in the kernel's own files.
func cgroupUse(cores float64) check {
	type last struct {
		used time.Duration
		at   time.Time
	}
	seen := map[string]last{}
	return func(ctx context.Context, l *Lab, namespace string) (bool, error) {
		pods, err := l.pods(ctx, namespace)
		if err != nil {
			return false, err
		}
		for _, p := range pods {
			group, err := testbed.FindCgroup(p.Metadata.UID)
			if err != nil {
				return false, err
			}
			used, at, err := group.CPUUsed()
			if err != nil {
				return false, err
			}
			before, known := seen[p.Metadata.UID]
			if !known || at.Sub(before.at) > time.Second {
				seen[p.Metadata.UID] = last{used, at}
				if known && (used-before.used).Seconds()/at.Sub(before.at).Seconds() >= cores {
					return true, nil
				}
			}
		}
		return false, nil
	}
}

func workingSet(atLeast int64) check {
	return func(ctx context.Context, l *Lab, namespace string) (bool, error) {
		pods, err := l.pods(ctx, namespace)
		if err != nil {
			return false, err
		}
		for _, p := range pods {
			group, err := testbed.FindCgroup(p.Metadata.UID)
			if err != nil {
				return false, err
			}
			if set, err := group.WorkingSet(); err != nil || set >= atLeast {
				return err == nil, err
			}
		}
		return false, nil
	}
}
