// Package manifests_test holds what the shipped manifests promise: they parse
// strictly, no role has more than it needs, and no container more than it must.
package manifests_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"

	"github.com/crowsnest-dev/crowsnest/collector/kubestate"
)

// outside is the one folder whose rights are powerful, and said to be.
const outside = "outside"

// optional are folders with a right that only who switches something on needs:
// the kustomization does not name them.
var optional = map[string]map[string]string{ // folder → "group/resource" → verbs
	outside:         {"/nodes/proxy": "get", "/pods/log": "get", "metrics.k8s.io/pods": "list"},
	"elastic":       {"/pods/log": "get", "metrics.k8s.io/pods": "list"},
	"virtual-nodes": {"/pods/log": "get", "metrics.k8s.io/pods": "list"},
	"monitors": {
		"monitoring.coreos.com/servicemonitors": "list", "monitoring.coreos.com/podmonitors": "list", "monitoring.coreos.com/probes": "list",
	},
	"kube-state": func() map[string]string {
		rights := map[string]string{}
		for _, w := range kubestate.Watches() {
			rights[w.GroupVersion.Group+"/"+w.Resource] = "list watch"
		}
		return rights
	}(),
}

// load gives the objects of every manifest by file; an unknown or repeated key
// fails the test.
func load(t *testing.T) map[string][]runtime.Object {
	t.Helper()
	decoder := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme.Scheme, scheme.Scheme, json.SerializerOptions{Yaml: true, Strict: true})
	objects := map[string][]runtime.Object{}
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".yaml" || entry.Name() == "kustomization.yaml" {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		docs := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(raw)))
		for {
			doc, err := docs.Read()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			object, _, err := decoder.Decode(doc, nil, nil)
			if err != nil {
				t.Errorf("%s: %v", path, err)
				continue
			}
			objects[path] = append(objects[path], object)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(objects) < 4 {
		t.Fatalf("found manifests in %d files only", len(objects))
	}
	return objects
}

func TestKustomizationNamesEveryFile(t *testing.T) {
	raw, err := os.ReadFile("kustomization.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var kustomization struct {
		Resources []string `json:"resources"`
	}
	if err := yaml.Unmarshal(raw, &kustomization); err != nil {
		t.Fatal(err)
	}
	for path := range load(t) {
		shipped := slices.Contains(kustomization.Resources, path)
		if _, extra := optional[filepath.Dir(path)]; extra == shipped {
			t.Errorf("%s: named by kustomization.yaml is %v", path, shipped)
		}
	}
}

// The rights that a shipped role may have, by API group and resource. A new
// right is added here, on purpose and with its reason in the manifest.
var allowed = map[string]string{ // "group/resource" → verbs
	"/pods":                      "get list watch",
	"/nodes":                     "get list watch",
	"/nodes/metrics":             "get",
	"/nodes/stats":               "get",
	"/namespaces":                "get list watch",
	"/services":                  "get list watch",
	"/events":                    "get list watch",
	"apps/deployments":           "get list watch",
	"apps/statefulsets":          "get list watch",
	"apps/daemonsets":            "get list watch",
	"apps/replicasets":           "get list watch",
	"batch/jobs":                 "get list watch",
	"batch/cronjobs":             "get list watch",
	"coordination.k8s.io/leases": "get list create update",

	"/resourcequotas":                      "get list watch",
	"/persistentvolumeclaims":              "get list watch",
	"autoscaling/horizontalpodautoscalers": "get list watch",
	"discovery.k8s.io/endpointslices":      "get list watch",
}

func TestRolesHaveNoMoreThanTheyNeed(t *testing.T) {
	roles := 0
	for path, objects := range load(t) {
		for _, object := range objects {
			var rules []rbacv1.PolicyRule
			var name string
			switch role := object.(type) {
			case *rbacv1.ClusterRole:
				rules, name = role.Rules, role.Name
				if role.AggregationRule != nil {
					t.Errorf("%s: %s aggregates other roles", path, name)
				}
			case *rbacv1.Role:
				rules, name = role.Rules, role.Name
			default:
				continue
			}
			roles++
			for _, rule := range rules {
				for _, problem := range excess(rule, optional[filepath.Dir(path)]) {
					t.Errorf("%s: %s %s", path, name, problem)
				}
			}
		}
	}
	if roles < 3 {
		t.Errorf("looked at %d roles only", roles)
	}
}

// excess says what a rule grants that no role of ours may have; more is what its
// folder may have beyond the shipped ones.
func excess(rule rbacv1.PolicyRule, more map[string]string) []string {
	var problems []string
	for _, u := range rule.NonResourceURLs {
		if !slices.Contains([]string{"/metrics", "/readyz", "/readyz/etcd"}, u) || !slices.Equal(rule.Verbs, []string{"get"}) {
			problems = append(problems, fmt.Sprintf("may %v the URL %s", rule.Verbs, u))
		}
	}
	for _, group := range rule.APIGroups {
		for _, resource := range rule.Resources {
			verbs := allowed[group+"/"+resource]
			if v, ok := more[group+"/"+resource]; ok {
				verbs = v
			}
			for _, verb := range rule.Verbs {
				if !slices.Contains(strings.Fields(verbs), verb) {
					problems = append(problems, "may "+verb+" "+group+"/"+resource)
				}
			}
			if resource == "leases" && slices.Contains(rule.Verbs, "update") && len(rule.ResourceNames) == 0 {
				problems = append(problems, "may update every lease of its namespace")
			}
		}
	}
	return problems
}

// What kube-state-metrics' families are made of beyond the shipped rights is in
// the folder for it, all of it.
func TestTheFolderKubeStateGivesEveryRightThatItsFamiliesNeed(t *testing.T) {
	given := map[string]bool{}
	for path, objects := range load(t) {
		for _, object := range objects {
			if role, ok := object.(*rbacv1.ClusterRole); ok && filepath.Dir(path) == "kube-state" {
				for _, rule := range role.Rules {
					for _, resource := range rule.Resources {
						given[rule.APIGroups[0]+"/"+resource] = slices.Equal(rule.Verbs, []string{"list", "watch"})
					}
				}
			}
		}
	}
	for right := range optional["kube-state"] {
		if !given[right] {
			t.Errorf("list and watch on %s is not given", right)
		}
	}
}

func TestExcessFindsWhatMustNotBe(t *testing.T) {
	for name, rule := range map[string]rbacv1.PolicyRule{
		"secrets":           {APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"get"}},
		"nodes/proxy":       {APIGroups: []string{""}, Resources: []string{"nodes/metrics", "nodes/proxy"}, Verbs: []string{"get"}},
		"any verb":          {APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"*"}},
		"any resource":      {APIGroups: []string{""}, Resources: []string{"*"}, Verbs: []string{"get"}},
		"any group":         {APIGroups: []string{"*"}, Resources: []string{"pods"}, Verbs: []string{"get"}},
		"writing":           {APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"delete"}},
		"exec":              {APIGroups: []string{""}, Resources: []string{"pods/exec"}, Verbs: []string{"create"}},
		"URLs":              {NonResourceURLs: []string{"/debug"}, Verbs: []string{"get"}},
		"monitors":          {APIGroups: []string{"monitoring.coreos.com"}, Resources: []string{"probes"}, Verbs: []string{"list"}},
		"somebody's leases": {APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Verbs: []string{"update"}},
	} {
		if len(excess(rule, nil)) == 0 {
			t.Errorf("%s: nothing was found", name)
		}
	}
	for folder, more := range optional {
		if problems := excess(rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"get"}}, more); len(problems) == 0 {
			t.Errorf("secrets are let through in %s", folder)
		}
	}
}

func TestPowerfulRightsSaySo(t *testing.T) {
	files, err := filepath.Glob(outside + "/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in %s (%v)", outside, err)
	}
	for _, path := range files {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(raw), "# POWERFUL.") {
			t.Errorf("%s does not begin with a warning", path)
		}
	}
}

// writable are the host's folders that a pod may write to.
var writable = []string{"/var/lib/crowsnest-collector"}

func TestContainersAreConfined(t *testing.T) {
	pods := map[string]corev1.PodSpec{}
	for _, objects := range load(t) {
		for _, object := range objects {
			switch workload := object.(type) {
			case *appsv1.StatefulSet:
				pods[workload.Name] = workload.Spec.Template.Spec
			case *appsv1.Deployment:
				pods[workload.Name] = workload.Spec.Template.Spec
			case *appsv1.DaemonSet:
				pods[workload.Name] = workload.Spec.Template.Spec
			}
		}
	}
	if len(pods) != 4 {
		t.Fatalf("found %d workloads, want server, both collectors and the one of elastic clusters", len(pods))
	}
	for name, pod := range pods {
		for _, problem := range looseness(name, pod) {
			t.Errorf("%s: %s", name, problem)
		}
	}
}

// looseness says what a pod may do that it should not.
func looseness(name string, pod corev1.PodSpec) []string {
	var problems []string
	check := func(ok bool, problem string) {
		if !ok {
			problems = append(problems, problem)
		}
	}
	check(!pod.HostPID && !pod.HostIPC && !pod.HostNetwork, "shares a namespace of its host")
	check(pod.AutomountServiceAccountToken != nil, "does not say whether it gets a token")
	check(pod.SecurityContext != nil && pod.SecurityContext.SeccompProfile != nil &&
		pod.SecurityContext.SeccompProfile.Type == corev1.SeccompProfileTypeRuntimeDefault, "has no seccomp profile")
	if name != "crowsnest-collector-node" {
		check(pod.SecurityContext != nil && pod.SecurityContext.RunAsNonRoot != nil && *pod.SecurityContext.RunAsNonRoot, "may run as root")
	}
	hostPaths := map[string]string{}
	for _, volume := range pod.Volumes {
		if volume.HostPath != nil {
			hostPaths[volume.Name] = volume.HostPath.Path
			check(name == "crowsnest-collector-node", "mounts the host's "+volume.HostPath.Path)
		}
	}
	for _, container := range slices.Concat(pod.InitContainers, pod.Containers) {
		security := container.SecurityContext
		if security == nil {
			check(false, "has a container without a security context")
			continue
		}
		check(security.Privileged == nil || !*security.Privileged, "is privileged")
		check(security.AllowPrivilegeEscalation != nil && !*security.AllowPrivilegeEscalation, "may gain privileges")
		check(security.ReadOnlyRootFilesystem != nil && *security.ReadOnlyRootFilesystem, "may write to its root file system")
		check(security.Capabilities != nil && slices.Contains(security.Capabilities.Drop, "ALL") && len(security.Capabilities.Add) == 0, "keeps capabilities")
		check(!strings.HasSuffix(container.Image, ":latest") && strings.Contains(container.Image, ":"), "runs an image that is not fixed: "+container.Image)
		check(!container.Resources.Limits.Memory().IsZero(), "has no memory limit")
		check(container.LivenessProbe != nil && container.ReadinessProbe != nil, "is not probed")
		for _, mount := range container.VolumeMounts {
			path, isHost := hostPaths[mount.Name]
			check(!isHost || mount.ReadOnly || slices.Contains(writable, path), "may write to the host's "+path)
		}
	}
	return problems
}

func TestLoosenessFindsWhatMustNotBe(t *testing.T) {
	yes := true
	pod := corev1.PodSpec{
		HostNetwork: true,
		Volumes:     []corev1.Volume{{Name: "root", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}}},
		Containers: []corev1.Container{{
			Name: "c", Image: "c:latest", VolumeMounts: []corev1.VolumeMount{{Name: "root", MountPath: "/host"}},
			SecurityContext: &corev1.SecurityContext{Privileged: &yes},
		}},
	}
	got := looseness("crowsnest-collector-node", pod)
	for _, want := range []string{
		"shares a namespace of its host", "has no seccomp profile", "is privileged", "may gain privileges",
		"may write to its root file system", "keeps capabilities", "may write to the host's /", "runs an image that is not fixed: c:latest",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("does not find that it %s", want)
		}
	}
}
