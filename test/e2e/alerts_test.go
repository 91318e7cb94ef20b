//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

// A pod that burns CPU at its limit fires its policy; when it stops, it
// recovers. The webhook is told within two seconds of the arrival of the sample
// that completes the condition, and the recovery is told even when the server
// is killed in between.
func TestAlertFiresAndRecovers(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		webhook := s.createTarget(t)
		for _, tc := range []struct {
			workload string
			crash    bool
		}{{"burn-quick", false}, {"burn-crashed", true}} {
			t.Run(tc.workload, func(t *testing.T) {
				// Not parallel: a crash of the server would be in the other's way.
				policy := "e2e-" + tc.workload
				s.createPolicy(t, policy, tc.workload, webhook.target)
				watch := s.watchArrivals(t, tc.workload)

				burn(t, tc.workload, true)
				stopped := sync.OnceFunc(func() { burn(t, tc.workload, false) })
				defer stopped()
				firing, err := webhook.Wait(t.Context(), policy, "incident.firing", 5*time.Minute)
				if err != nil {
					t.Fatalf("%v\n%s", err, s.explain(t, policy))
				}
				s.checkFiring(t, firing, policy, tc.workload, watch)

				stopped()
				if tc.crash {
					if err := s.crash(t.Context()); err != nil {
						t.Fatalf("kill the server: %v", err)
					}
				}
				if _, err := webhook.Wait(t.Context(), policy, "incident.resolved", 5*time.Minute); err != nil {
					t.Fatalf("%v\n%s", err, s.explain(t, policy))
				}
				s.checkRecovery(t, webhook.Webhook, policy, firing, tc.crash)
			})
		}
	})
}

// burning counts who wants a pod to burn: both installations watch the same pods.
var burning = struct {
	sync.Mutex
	by map[string]int
}{by: map[string]int{}}

func burn(t *testing.T, workload string, on bool) {
	t.Helper()
	burning.Lock()
	defer burning.Unlock()
	change, act := 1, "touch"
	if !on {
		change, act = -1, "rm -f"
	}
	burning.by[workload] += change
	if !on && burning.by[workload] > 0 {
		return
	}
	ctx := context.WithoutCancel(t.Context()) // also when the test ended
	if _, err := bed.cluster.Kubectl(ctx, "", "-n", "e2e", "exec", "deploy/"+workload, "--", "/bin/sh", "-c", act+" /tmp/burn"); err != nil {
		t.Error(err)
	}
}

// target is a webhook as the server knows it.
type target struct {
	*testbed.Webhook
	target string
}

func (s *site) createTarget(t *testing.T) target {
	t.Helper()
	webhook, err := testbed.NewWebhook()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = webhook.Close() })
	name := "e2e-hook"
	raw, err := s.server.Do(t.Context(), http.MethodPost, testbed.API+"/targets", map[string]any{
		"apiVersion": "crowsnest.dev/v1", "kind": "Target", "metadata": map[string]any{"name": name},
		"spec": map[string]any{"type": "webhook", "url": webhook.URL},
	})
	if err != nil {
		t.Fatal(err)
	}
	secret := findSecret(raw)
	if secret == "" {
		t.Fatalf("the answer to a new target has no secret: %s", raw)
	}
	if err := webhook.Trust(secret); err != nil {
		t.Fatal(err)
	}
	return target{webhook, name}
}

// findSecret finds the signing secret in the answer; it is shown this once.
func findSecret(raw []byte) string {
	var tree any
	if json.Unmarshal(raw, &tree) != nil {
		return ""
	}
	var walk func(any) string
	walk = func(v any) string {
		switch v := v.(type) {
		case string:
			if strings.HasPrefix(v, "whsec_") {
				return v
			}
		case map[string]any:
			for _, inner := range v {
				if found := walk(inner); found != "" {
					return found
				}
			}
		}
		return ""
	}
	return walk(tree)
}

func (s *site) createPolicy(t *testing.T, name, workload, target string) {
	t.Helper()
	_, err := s.server.Do(t.Context(), http.MethodPost, testbed.API+"/policies", map[string]any{
		"apiVersion": "crowsnest.dev/v1", "kind": "Policy", "metadata": map[string]any{"name": name},
		"spec": map[string]any{
			"enabled": true, "level": "pod",
			"objects": map[string]any{"namespaces": []string{"e2e"}, "workloads": []string{"deployment/" + workload}},
			"conditions": []any{map[string]any{
				"metric": catalogue.PodCPULimitPercent, "statistic": "avg", "period": interval.String(), "op": ">",
				"thresholds": map[string]any{"critical": 80}, "recovery": map[string]any{"critical": 50}, "need": 2, "of": 2,
			}},
			"recoverAfter": 2,
			"group":        map[string]any{"wait": "0s"},
			"notify":       map[string]any{"targets": []string{target}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// arrivals knows when each sample of one series arrived at the server.
type arrivals struct {
	mu sync.Mutex
	// by the sample's time: the last moment at which it was known not to be there
	notBefore map[int64]time.Time
}

// watchArrivals asks for the newest sample's time again and again, until the
// test ends.
func (s *site) watchArrivals(t *testing.T, workload string) *arrivals {
	a := &arrivals{notBefore: map[int64]time.Time{}}
	query := fmt.Sprintf(`timestamp(%s{cluster=%q,namespace="e2e",workload=%q})`, catalogue.PodCPULimitPercent, s.server.Cluster, workload)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		last, lastAsked := int64(0), time.Now()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			asked := time.Now()
			series, err := s.server.Instant(ctx, query, time.Time{})
			if err != nil || len(series) != 1 {
				continue // the server is being killed; what is missed is not asserted
			}
			if newest := int64(series[0].Last() * 1000); newest > last {
				a.mu.Lock()
				a.notBefore[newest] = lastAsked
				a.mu.Unlock()
				last = newest
			}
			lastAsked = asked
		}
	}()
	return a
}

// completing gives the newest sample that had arrived when something was told,
// and the last moment at which it had not.
func (a *arrivals) completing(told time.Time) (sample, notBefore time.Time, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for millis, at := range a.notBefore {
		if at.Before(told) && at.After(notBefore) {
			sample, notBefore = time.UnixMilli(millis), at
		}
	}
	if notBefore.IsZero() {
		return sample, notBefore, errors.New("no sample was seen to arrive")
	}
	return sample, notBefore, nil
}

func (s *site) checkFiring(t *testing.T, firing testbed.Delivery, policy, workload string, watch *arrivals) {
	t.Helper()
	if firing.SignedErr != nil {
		t.Errorf("the firing is not signed as Standard Webhooks has it: %v", firing.SignedErr)
	}
	n := firing.Parsed
	if n.Version != "crowsnest/v1" || n.ID != firing.ID || n.Sequence != 1 || n.Incident.State != "open" || n.Incident.Severity != "critical" {
		t.Errorf("the firing does not say what it should: %s", firing.Body)
	}
	if len(n.Alerts) != 1 {
		t.Fatalf("the firing has %d alerts, want 1: %s", len(n.Alerts), firing.Body)
	}
	alert := n.Alerts[0]
	burner := workloadPod(t, workload)
	if alert.Object["pod"] != burner.Metadata.Name || alert.Object["workload"] != workload || alert.Object["cluster"] != s.server.Cluster || alert.Object["node"] != testbed.Node {
		t.Errorf("the alert is about %v, want pod %s of deployment/%s", alert.Object, burner.Metadata.Name, workload)
	}
	if len(alert.Conditions) != 1 || alert.Conditions[0].Value <= 80 || !alert.Conditions[0].Holds {
		t.Errorf("the alert's conditions are %+v", alert.Conditions)
	}
	sample, notBefore, err := watch.completing(firing.At)
	if err != nil {
		t.Fatal(err)
	}
	// The sample arrived after notBefore: the true delay is shorter than this one.
	delay := firing.At.Sub(notBefore)
	t.Logf("role %s: told at most %.2f s after the arrival of the sample of %s (alert since %s)", s.role, delay.Seconds(), sample.UTC().Format(time.TimeOnly), alert.StartedAt.Format(time.TimeOnly))
	if delay > 2*time.Second {
		t.Errorf("the webhook was told %.2f s after the arrival of the completing sample, want at most 2 s", delay.Seconds())
	}
}

func (s *site) checkRecovery(t *testing.T, webhook *testbed.Webhook, policy string, firing testbed.Delivery, crashed bool) {
	t.Helper()
	resolved := webhook.Deliveries(policy, "incident.resolved")
	for _, d := range resolved {
		if d.ID != resolved[0].ID {
			t.Errorf("the recovery was told under two ids: %s and %s", resolved[0].ID, d.ID)
		}
		if d.SignedErr != nil {
			t.Errorf("the recovery is not signed: %v", d.SignedErr)
		}
	}
	if len(resolved) > 1 && !crashed {
		t.Errorf("the recovery was told %d times", len(resolved))
	}
	first := resolved[0].Parsed
	if first.Incident.ID != firing.Parsed.Incident.ID || first.Incident.State != "resolved" || first.Incident.Cause != "value_normal" {
		t.Errorf("the recovery does not end what fired (%s): %s", firing.Parsed.Incident.ID, resolved[0].Body)
	}
	if first.Sequence <= firing.Parsed.Sequence {
		t.Errorf("the recovery has sequence %d, the firing %d", first.Sequence, firing.Parsed.Sequence)
	}
	for _, d := range webhook.Deliveries(policy, "incident.firing") {
		if d.ID != firing.ID {
			t.Errorf("the firing was told under two ids: %s and %s", firing.ID, d.ID)
		}
	}
}

// explain gives what the server says about a policy, for a failure message.
func (s *site) explain(t *testing.T, policy string) string {
	var b strings.Builder
	for _, path := range []string{"/policies/" + policy, "/incidents?state=all", "/deliveries"} {
		raw, err := s.server.Do(t.Context(), http.MethodGet, testbed.API+path, nil)
		fmt.Fprintf(&b, "%s: %.3000s %v\n", path, raw, err)
	}
	return b.String()
}
