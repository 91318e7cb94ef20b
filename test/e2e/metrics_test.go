//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

// all are the Deployments of testdata/workloads.yaml; running those whose pod's
// container runs for good.
var (
	running = []string{"steady", "download", "fetch", "hostnet", "notready", "lines", "burn-quick", "burn-crashed"}
	all     = append(slices.Clone(running), "pending", "crash")
)

func without(list []string, names ...string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(names, s) })
}

// objects says which of the Deployments have, and which must not have, a metric
// of level workload, pod or container. crash is in neither list where it depends
// on the moment.
var objects = map[string]struct{ has, hasNot []string }{
	catalogue.WorkloadCPU:             {running, []string{"pending"}},
	catalogue.WorkloadMem:             {running, []string{"pending"}},
	catalogue.WorkloadNetworkReceive:  {without(running, "hostnet"), []string{"hostnet", "pending"}},
	catalogue.WorkloadNetworkTransmit: {without(running, "hostnet"), []string{"hostnet", "pending"}},
	catalogue.WorkloadRestarts:        {all, nil},
	catalogue.WorkloadAbnormal:        {all, nil},
	catalogue.PodReady:                {all, nil},
	catalogue.PodRestarts:             {without(all, "pending"), nil},
	catalogue.PodCPU:                  {running, []string{"pending"}},
	catalogue.PodCPULimitPercent:      {without(running, "hostnet"), []string{"hostnet", "pending", "crash"}},
	catalogue.PodMem:                  {running, []string{"pending"}},
	catalogue.PodMemLimitPercent:      {without(running, "hostnet"), []string{"hostnet", "pending", "crash"}},
	catalogue.PodNetworkReceive:       {without(running, "hostnet"), []string{"hostnet", "pending"}},
	catalogue.PodNetworkTransmit:      {without(running, "hostnet"), []string{"hostnet", "pending"}},
	catalogue.ContainerCPU:            {running, []string{"pending"}},
	catalogue.ContainerMem:            {running, []string{"pending"}},
	catalogue.ContainerFSRead:         {running, []string{"pending"}},
	catalogue.ContainerFSWrite:        {running, []string{"pending"}},
}

// clusterView is the part of GET /clusters/{cluster} that is looked at.
type clusterView struct {
	ID          string `json:"id"`
	State       string `json:"state"`
	Sentence    string `json:"sentence"`
	Unavailable []struct {
		Metric string `json:"metric"`
		Reason string `json:"reason"`
	} `json:"unavailable"`
	Sources []struct {
		Name  string `json:"name"`
		Up    bool   `json:"up"`
		Error string `json:"error"`
	} `json:"sources"`
}

// unavailable gives the metrics that the cluster declares not to have, with the
// reason.
func (s *site) unavailable(ctx context.Context) (map[string]string, error) {
	var view clusterView
	if err := s.server.GetJSON(ctx, testbed.API+"/clusters/"+s.server.Cluster, &view); err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, u := range view.Unavailable {
		out[u.Metric] = u.Reason
	}
	return out, nil
}

// now gives the series of a metric in the cluster, by the workload's name where
// they have one, that have a value no older than three intervals.
func (s *site) now(ctx context.Context, metric string) ([]testbed.Series, error) {
	return s.server.Instant(ctx, fmt.Sprintf("last_over_time(%s{cluster=%q}[%ds])", metric, s.server.Cluster, int(3*interval/time.Second)), time.Time{})
}

func TestMetrics(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		for _, metric := range catalogue.All() {
			if !metric.Core {
				continue
			}
			t.Run(metric.Name, func(t *testing.T) {
				t.Parallel()
				await(t, 4*time.Minute, "role "+s.role, func(ctx context.Context) error { return s.checkMetric(ctx, metric) })
				if reasons, err := s.unavailable(t.Context()); err == nil && reasons[metric.Name] != "" {
					t.Logf("declared unavailable: %s", reasons[metric.Name])
				}
			})
		}
	})
}

// checkMetric says what is wrong with a metric's series.
func (s *site) checkMetric(ctx context.Context, metric catalogue.Metric) error {
	reasons, err := s.unavailable(ctx)
	if err != nil {
		return err
	}
	series, err := s.now(ctx, metric.Name)
	if err != nil {
		return err
	}
	if reason, declared := reasons[metric.Name]; declared {
		if strings.TrimSpace(reason) == "" {
			return errors.New("is declared unavailable without a reason")
		}
		if len(series) > 0 {
			return fmt.Errorf("is declared unavailable (%s) and has series all the same:\n%s", reason, testbed.Describe(series))
		}
		return nil
	}
	if len(series) == 0 {
		return errors.New("has no series and is not declared unavailable")
	}
	for _, one := range series {
		if err := checkLabels(metric, one); err != nil {
			return err
		}
	}
	switch metric.Level {
	case catalogue.Cluster:
		return checkCluster(metric, series)
	case catalogue.Node:
		for _, one := range series {
			if one.Labels["node"] != testbed.Node {
				return fmt.Errorf("has a series of node %q, which there is not", one.Labels["node"])
			}
		}
		return nil
	}
	want, ok := objects[metric.Name]
	if !ok {
		return fmt.Errorf("BUG: the test does not say which objects have it")
	}
	has := map[string]bool{}
	for _, one := range series {
		if one.Labels["namespace"] == "e2e" && one.Labels["workload_type"] == "deployment" {
			has[one.Labels["workload"]] = true
		}
	}
	for _, name := range want.has {
		if !has[name] {
			return fmt.Errorf("is missing for deployment/%s; there is:\n%s", name, testbed.Describe(series))
		}
	}
	for _, name := range want.hasNot {
		if has[name] {
			return fmt.Errorf("is there for deployment/%s, which must not have it:\n%s", name, testbed.Describe(series))
		}
	}
	return nil
}

// checkLabels holds that a series has the labels that the catalogue declares,
// and no others.
func checkLabels(metric catalogue.Metric, one testbed.Series) error {
	declared := metric.Labels()
	for _, label := range declared {
		_, has := one.Labels[label]
		// A pod that waits for a node has none.
		if !has && label != "node" {
			return fmt.Errorf("has a series without label %s: %v", label, one.Labels)
		}
	}
	for label := range one.Labels {
		if label != "__name__" && !slices.Contains(declared, label) {
			return fmt.Errorf("has a series with label %s, which is not declared: %v", label, one.Labels)
		}
	}
	return nil
}

func checkCluster(metric catalogue.Metric, series []testbed.Series) error {
	if metric.Name != catalogue.ClusterPods {
		if len(series) != 1 {
			return fmt.Errorf("has %d series, want one:\n%s", len(series), testbed.Describe(series))
		}
		return nil
	}
	phases := map[string]bool{}
	for _, one := range series {
		phases[one.Labels["phase"]] = true
	}
	if got := slices.Sorted(maps.Keys(phases)); len(got) != len(object.Phases) {
		return fmt.Errorf("has phases %v, want %v", got, object.Phases)
	}
	return nil
}

// value gives the newest value of a metric of a Deployment's objects in e2e.
func (s *site) value(ctx context.Context, metric, workload string) (float64, error) {
	series, err := s.server.Instant(ctx, fmt.Sprintf("last_over_time(%s{cluster=%q,namespace=\"e2e\",workload_type=\"deployment\",workload=%q}[%ds])",
		metric, s.server.Cluster, workload, int(3*interval/time.Second)), time.Time{})
	if err != nil {
		return 0, err
	}
	if len(series) != 1 {
		return 0, fmt.Errorf("%s of deployment/%s has %d series, want one:\n%s", metric, workload, len(series), testbed.Describe(series))
	}
	return series[0].Last(), nil
}

// wantValue waits until a metric has a value that is right.
func (s *site) wantValue(t *testing.T, metric, workload, what string, right func(float64) bool) {
	t.Helper()
	await(t, 4*time.Minute, fmt.Sprintf("%s of deployment/%s in role %s", metric, workload, s.role), func(ctx context.Context) error {
		v, err := s.value(ctx, metric, workload)
		if err == nil && !right(v) {
			err = fmt.Errorf("is %v, want %s", v, what)
		}
		return err
	})
}

// podView is the part of a pod of the inventory that is looked at.
type podView struct {
	Name     string `json:"name"`
	Node     string `json:"node"`
	Workload string `json:"workload"`
	Phase    string `json:"phase"`
	Ready    bool   `json:"ready"`
	Reason   string `json:"reason"`
	Restarts int    `json:"restarts"`
}

func (s *site) pod(ctx context.Context, workload string) (podView, error) {
	var list struct {
		Items []podView `json:"items"`
	}
	path := fmt.Sprintf("%s/clusters/%s/pods?namespace=e2e&workload_type=deployment&workload=%s", testbed.API, s.server.Cluster, workload)
	if err := s.server.GetJSON(ctx, path, &list); err != nil {
		return podView{}, err
	}
	if len(list.Items) != 1 {
		return podView{}, fmt.Errorf("the inventory has %d pods of deployment/%s, want 1", len(list.Items), workload)
	}
	return list.Items[0], nil
}

// A pod in trouble is read as what it is: by its metrics, and by the inventory.
func TestPodsInTrouble(t *testing.T) {
	is := func(want float64) func(float64) bool { return func(v float64) bool { return v == want } }
	atLeast := func(least float64) func(float64) bool { return func(v float64) bool { return v >= least } }
	eachSite(t, func(t *testing.T, s *site) {
		for workload, tc := range map[string]struct {
			phase, reason string
			ready         float64
			restarts      bool
			abnormal      float64
		}{
			"pending":  {phase: "Pending", reason: "Unschedulable", abnormal: 1},
			"crash":    {phase: "Running", reason: "CrashLoopBackOff", restarts: true, abnormal: 1},
			"notready": {phase: "Running", reason: "", abnormal: 1},
			"steady":   {phase: "Running", ready: 1},
		} {
			t.Run(workload, func(t *testing.T) {
				t.Parallel()
				s.wantValue(t, catalogue.PodReady, workload, fmt.Sprint(tc.ready), is(tc.ready))
				s.wantValue(t, catalogue.WorkloadAbnormal, workload, fmt.Sprint(tc.abnormal), is(tc.abnormal))
				if tc.restarts {
					s.wantValue(t, catalogue.PodRestarts, workload, "at least 2", atLeast(2))
					s.wantValue(t, catalogue.WorkloadRestarts, workload, "at least 2", atLeast(2))
				} else if workload != "pending" {
					s.wantValue(t, catalogue.PodRestarts, workload, "0", is(0))
				}
				await(t, 3*time.Minute, "inventory", func(ctx context.Context) error {
					p, err := s.pod(ctx, workload)
					switch {
					case err != nil:
						return err
					case p.Phase != tc.phase:
						return fmt.Errorf("phase is %q, want %q", p.Phase, tc.phase)
					case p.Ready != (tc.ready == 1):
						return fmt.Errorf("ready is %v", p.Ready)
					case tc.reason != "" && p.Reason != tc.reason:
						return fmt.Errorf("reason is %q, want %q", p.Reason, tc.reason)
					case (p.Node == "") != (workload == "pending"):
						return fmt.Errorf("node is %q", p.Node)
					}
					return nil
				})
			})
		}
	})
}

// Pods are counted by phase as the API server has them.
func TestPodsByPhase(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		await(t, 3*time.Minute, "role "+s.role, func(ctx context.Context) error {
			var list struct {
				Items []pod `json:"items"`
			}
			if err := bed.cluster.Get(ctx, &list, "-A", "pods"); err != nil {
				return err
			}
			want := map[string]float64{}
			for _, p := range list.Items {
				want[p.Status.Phase]++
			}
			series, err := s.now(ctx, catalogue.ClusterPods)
			if err != nil {
				return err
			}
			for _, one := range series {
				if phase := one.Labels["phase"]; one.Last() != want[phase] {
					return fmt.Errorf("%s: %v pods, the API server has %v", phase, one.Last(), want[phase])
				}
			}
			if len(series) == 0 {
				return errors.New("no series")
			}
			return nil
		})
	})
}

// 200 kB twice a second is fetched by one pod from another.
func TestNetwork(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		moves := func(v float64) bool { return v > 200e3 && v < 600e3 }
		for _, metric := range []string{catalogue.PodNetworkReceive, catalogue.WorkloadNetworkReceive} {
			s.wantValue(t, metric, "fetch", "about 400 kB/s", moves)
		}
		for _, metric := range []string{catalogue.PodNetworkTransmit, catalogue.WorkloadNetworkTransmit} {
			s.wantValue(t, metric, "download", "about 400 kB/s", moves)
		}
		// A pod in the node's network has figures of its own for everything else;
		// that they are absent for the network is not for want of readings.
		s.wantValue(t, catalogue.PodMem, "hostnet", "more than nothing", func(v float64) bool { return v > 0 })
		for _, metric := range []string{catalogue.PodNetworkReceive, catalogue.PodNetworkTransmit, catalogue.WorkloadNetworkReceive, catalogue.WorkloadNetworkTransmit} {
			series, err := s.server.Instant(t.Context(), fmt.Sprintf(`last_over_time(%s{cluster=%q,workload="hostnet"}[30m])`, metric, s.server.Cluster), time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			if len(series) > 0 {
				t.Errorf("%s is there for a pod with hostNetwork:\n%s", metric, testbed.Describe(series))
			}
		}
	})
}
