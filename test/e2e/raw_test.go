//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/crowsnest-dev/crowsnest/internal/wire"
	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

// With the raw tier switched on by the cluster's settings, recording rules that
// were written for cAdvisor, node_exporter and kube-state-metrics find what they
// join, and their sums agree with the catalogue's.
func TestTheCommunitysRulesRun(t *testing.T) {
	root, err := testbed.Root()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bed.cluster.Kubectl(t.Context(), "", "apply", "-f", filepath.Join(root, "deploy/manifests/kube-state")); err != nil {
		t.Fatal(err)
	}
	s := bed.pods
	families := []string{wire.RawCadvisor, wire.RawKubelet, wire.RawNodeExporter, wire.RawKubeState}
	put := func(raw any) {
		if _, err := s.server.Do(context.WithoutCancel(t.Context()), http.MethodPut, testbed.API+"/clusters/main/settings", map[string]any{
			"settings": map[string]any{"interval_seconds": int(interval.Seconds()), "raw": raw},
		}); err != nil {
			t.Fatal(err)
		}
	}
	put(map[string]any{"families": families})
	t.Cleanup(func() { put(map[string]any{}) })
	raw, err := os.ReadFile("testdata/community.rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var spec map[string]any
	if err := yaml.Unmarshal(raw, &spec); err != nil {
		t.Fatal(err)
	}
	object := map[string]any{"apiVersion": "crowsnest.dev/v1", "kind": "RuleGroups", "metadata": map[string]any{"name": "community"}, "spec": spec}
	if _, err := s.server.Do(t.Context(), http.MethodPost, testbed.API+"/rulegroups", object); err != nil {
		t.Fatal(err)
	}
	for _, g := range spec["groups"].([]any) {
		for _, r := range g.(map[string]any)["rules"].([]any) {
			record := r.(map[string]any)["record"].(string)
			name := fmt.Sprintf("{__name__=%q}", record)
			await(t, 5*time.Minute, record+" is recorded", func(ctx context.Context) error {
				found, err := s.server.Instant(ctx, name, time.Now())
				if err == nil && len(found) == 0 {
					err = fmt.Errorf("it has no series")
				}
				return err
			})
		}
	}
	// The same memory by both ways, for each pod. Both are read at times of their
	// own, and the kernel charges pages in lots for each processor: below a megabyte
	// that is more than the pod.
	await(t, 2*time.Minute, "the memory that a rule records is the catalogue's", func(ctx context.Context) error {
		off, err := s.server.Instant(ctx, `abs(sum by (namespace, pod) (node_namespace_pod_container:container_memory_working_set_bytes{container!="", namespace="e2e"}) - on (namespace, pod) sum by (namespace, pod) (k8s_pod_mem_no_cache_bytes)) > on (namespace, pod) (1048576 + 0.1 * sum by (namespace, pod) (k8s_pod_mem_no_cache_bytes))`, time.Now())
		if err == nil && len(off) > 0 {
			err = fmt.Errorf("they differ: %v", off)
		}
		return err
	})
}
