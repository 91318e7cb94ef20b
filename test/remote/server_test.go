//go:build peers

package remote

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/storage/rollup"
	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

// crowsnest builds the server's program.
func crowsnest(t *testing.T) string {
	t.Helper()
	root, err := testbed.Root()
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "crowsnest")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", out, "./cmd/crowsnest")
	cmd.Dir = root
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build crowsnest: %v\n%s", err, text)
	}
	return out
}

const (
	fleet      = "fleet" // the simulated cluster
	fleetNodes = 3
	history    = 2 * time.Hour
)

// All that stands above the store works with an engine elsewhere: sums, a policy from its sample to its
// webhook, backtests, charts and tables of a simulated cluster and its past.
func TestAServerWithVictoriaMetrics(t *testing.T) {
	program := crowsnest(t)
	write, query := startVictoria(t)
	at, backups := address(t), t.TempDir()
	start(t, "http://"+at+"/readyz", program, "simulate", "--cluster", fleet, "--nodes", fmt.Sprint(fleetNodes), "--pods-per-node", "5", "--interval", "10s", "--churn", "0",
		"--backfill", history.String(), "--data", t.TempDir(), "--listen", at, "--backup-dir", backups,
		"--metrics-engine", "remote", "--metrics-write-url", write, "--metrics-query-url", query)
	s := &testbed.Server{URL: "http://" + at, Cluster: fleet}
	cli := func(args ...string) string {
		t.Helper()
		out, err := testbed.Command(t.Context(), "", program, append(args, "--server", s.URL)...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	await := func(what string, check func() error) {
		t.Helper()
		if err := testbed.Await(t.Context(), 3*time.Minute, time.Second, func(ctx context.Context) error { return check() }); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}

	// The policy is there before the samples that it fires by.
	told := make(chan string, 100)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		select {
		case told <- string(body):
		default:
		}
	}))
	t.Cleanup(hook.Close)
	const policy = "nodes-work"
	for path, doc := range map[string]any{
		"/targets": map[string]any{"apiVersion": "crowsnest.dev/v1", "kind": "Target", "metadata": map[string]any{"name": "hook"}, "spec": map[string]any{"type": "webhook", "url": hook.URL}},
		"/policies": map[string]any{
			"apiVersion": "crowsnest.dev/v1", "kind": "Policy", "metadata": map[string]any{"name": policy},
			"spec": map[string]any{
				"level": "node", "recoverAfter": 2, "group": map[string]any{"wait": "0s"}, "notify": map[string]any{"targets": []string{"hook"}},
				"conditions": []any{map[string]any{"metric": catalogue.NodeCPUPercent, "statistic": "avg", "period": "1m", "op": ">", "thresholds": map[string]any{"critical": 0.001}, "need": 2, "of": 2}},
			},
		},
	} {
		if _, err := s.Do(t.Context(), http.MethodPost, testbed.API+path, doc); err != nil {
			t.Fatal(err)
		}
	}

	t.Run("sums", func(t *testing.T) {
		await("sums of live samples", func() error {
			got, err := s.Instant(t.Context(), fmt.Sprintf("timestamp(%s{cluster=%q} >= 0.95)", rollup.CoverageRatio, fleet), time.Time{})
			if err != nil || len(got) != 1 {
				return fmt.Errorf("coverage: %s: %w", testbed.Describe(got), err)
			}
			when := time.UnixMilli(int64(got[0].Last() * 1000))
			sums, err := s.Raw(t.Context(), fmt.Sprintf("%s{cluster=%q}", catalogue.WorkloadCPU, fleet), when.Add(-time.Millisecond), when)
			if err != nil {
				return err
			}
			parts, err := s.Raw(t.Context(), fmt.Sprintf("%s{cluster=%q}", catalogue.PodCPU, fleet), when.Add(-time.Millisecond), when)
			if err != nil {
				return err
			}
			workload := func(s testbed.Series) string {
				return s.Labels["namespace"] + "/" + s.Labels["workload_type"] + "/" + s.Labels["workload"]
			}
			want, have := map[string]float64{}, map[string]float64{}
			for _, p := range parts {
				want[workload(p)] += p.Last()
			}
			for _, s := range sums {
				have[workload(s)] = s.Last()
			}
			if len(want) == 0 {
				return fmt.Errorf("no pod has a sample at %s", when)
			}
			for name, v := range want {
				if sum, ok := have[name]; !ok || math.Abs(sum-v) > 0.01*v+1e-9 {
					return fmt.Errorf("the sum of %s at %s is %v (there: %t), and that of its pods %v", name, when, sum, ok, v)
				}
			}
			return nil
		})
	})

	t.Run("a policy fires and is delivered", func(t *testing.T) {
		deadline := time.After(3 * time.Minute)
		for {
			select {
			case body := <-told:
				var n testbed.Notification
				if err := json.Unmarshal([]byte(body), &n); err != nil {
					t.Fatal(err)
				}
				if n.Type == "incident.firing" && len(n.Alerts) > 0 && n.Alerts[0].Policy.Name == policy && n.Alerts[0].Conditions[0].Holds {
					return
				}
			case <-deadline:
				out, _ := s.Do(t.Context(), http.MethodGet, testbed.API+"/alerts", nil)
				t.Fatalf("nobody was told; alerts: %s", out)
			}
		}
	})

	const past = history - 10*time.Minute // what is there once the backfill is
	await("the simulated past", func() error {
		got, err := s.Instant(t.Context(), fmt.Sprintf("%s{cluster=%q}", catalogue.NodeCPUPercent, fleet), time.Now().Add(-past))
		if err != nil || len(got) != fleetNodes {
			return fmt.Errorf("%s: %w", testbed.Describe(got), err)
		}
		return nil
	})

	t.Run("a backtest", func(t *testing.T) {
		out := cli("policy", "backtest", policy, "--from", "90m")
		if !strings.HasPrefix(out, policy+": ") || strings.HasPrefix(out, policy+": 0 incidents") {
			t.Error(out)
		}
	})

	t.Run("a chart", func(t *testing.T) {
		const steps = 12
		end := time.Now().Add(-20 * time.Minute).Truncate(time.Minute)
		begin := end.Add(-(steps - 1) * 5 * time.Minute)
		var chart struct {
			Lines []struct {
				Labels map[string]string
				Values []*float64
			}
		}
		err := s.GetJSON(t.Context(), testbed.API+"/clusters/"+fleet+"/chart?"+url.Values{
			"series": {catalogue.NodeCPUPercent}, "start": {begin.UTC().Format(time.RFC3339)}, "end": {end.UTC().Format(time.RFC3339)}, "step_seconds": {"300"}, "by": {"node"},
		}.Encode(), &chart)
		if err != nil || len(chart.Lines) != fleetNodes {
			t.Fatalf("%+v, %v", chart, err)
		}
		for _, line := range chart.Lines {
			if len(line.Values) != steps {
				t.Fatalf("%s has %d values", line.Labels["node"], len(line.Values))
			}
			for i, v := range line.Values {
				when := begin.Add(time.Duration(i) * 5 * time.Minute)
				raw, err := s.Raw(t.Context(), fmt.Sprintf("%s{cluster=%q,node=%q}", catalogue.NodeCPUPercent, fleet, line.Labels["node"]), when.Add(-5*time.Minute), when)
				if err != nil || len(raw) != 1 || len(raw[0].Points) != 30 {
					t.Fatalf("%s at %s: %s, %v", line.Labels["node"], when, testbed.Describe(raw), err)
				}
				mean := 0.0
				for _, p := range raw[0].Points {
					mean += p.V / float64(len(raw[0].Points))
				}
				if v == nil || math.Abs(*v-mean) > 1e-6*mean {
					t.Errorf("%s at %s: %v, want the mean %v", line.Labels["node"], when, v, mean)
				}
			}
		}
	})

	t.Run("a backup of all but the samples", func(t *testing.T) {
		to := filepath.Join(t.TempDir(), "restored")
		if out := cli("backup"); !strings.HasPrefix(out, "backup ") {
			t.Error(out)
		}
		if out, err := testbed.Command(t.Context(), "", program, "restore", "--from", backups, "--to", to); err != nil || !strings.Contains(out, "--data "+to) {
			t.Errorf("restore: %s %v", out, err)
		}
	})

	t.Run("tables and the command line", func(t *testing.T) {
		top := cli("query", fmt.Sprintf("topk(4, %s{cluster=%q})", catalogue.PodCPU, fleet), "--output", "json")
		var rows struct {
			Data struct{ Result []any }
		}
		if err := json.Unmarshal([]byte(top), &rows); err != nil || len(rows.Data.Result) != 4 {
			t.Errorf("topk: %s %v", top, err)
		}
		for path, want := range map[string]string{
			"/clusters":                         `"ready":3`,
			"/clusters/" + fleet + "/nodes":     `"name":`,
			"/clusters/" + fleet + "/pods":      `"name":`,
			"/clusters/" + fleet + "/workloads": `"name":`,
			"/incidents":                        "CPU used above 0.001 %",
			"/status":                           `"simulated":true`,
		} {
			if out, err := s.Do(t.Context(), http.MethodGet, testbed.API+path, nil); err != nil || !strings.Contains(string(out), want) {
				t.Errorf("%s: %.500s %v", path, out, err)
			}
		}
	})
}
