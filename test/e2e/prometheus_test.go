//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

// Prometheus' own tool queries the server as it would a Prometheus.
func TestPromtool(t *testing.T) {
	promtool := filepath.Join(testbed.CacheDir(), "crowsnest/tools/promtool")
	if _, err := os.Stat(promtool); err != nil {
		t.Fatalf("%v: test/e2e/prepare.sh builds it", err)
	}
	eachSite(t, func(t *testing.T, s *site) {
		config := filepath.Join(t.TempDir(), "http.yaml")
		if err := os.WriteFile(config, fmt.Appendf(nil, "authorization: {credentials: %s}\n", s.server.Token), 0o600); err != nil {
			t.Fatal(err)
		}
		query := func(kind string, args ...string) string {
			t.Helper()
			cmd := exec.CommandContext(t.Context(), promtool, append([]string{"query", kind, "--http.config.file", config}, args...)...)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("promtool query %s: %v: %s", kind, err, stderr.Bytes())
			}
			return string(out)
		}
		s.wantValue(t, catalogue.PodMem, "steady", "more than nothing", func(v float64) bool { return v > 0 })
		selector := fmt.Sprintf(`%s{cluster=%q,workload="steady"}`, catalogue.PodMem, s.server.Cluster)
		now := time.Now().Unix()
		for _, tc := range []struct {
			kind string
			args []string
			want string
		}{
			{"instant", []string{s.server.URL, "sum by (workload) (" + selector + ")"}, `{workload="steady"} => `},
			{"range", []string{s.server.URL, selector, "--start", strconv.FormatInt(now-300, 10), "--end", strconv.FormatInt(now, 10), "--step", "15s"}, `workload="steady"`},
			{"series", []string{s.server.URL, "--match", selector}, `workload="steady"`},
			{"labels", []string{s.server.URL, "workload"}, "steady\n"},
		} {
			if got := query(tc.kind, tc.args...); !strings.Contains(got, tc.want) {
				t.Errorf("promtool query %s says\n%s\nwant %q in it", tc.kind, got, tc.want)
			}
		}
	})
}

// The requests that Grafana's Prometheus data source sends: its health check,
// its query builder and its panels.
func TestGrafana(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		s.wantValue(t, catalogue.PodMem, "steady", "more than nothing", func(v float64) bool { return v > 0 })
		now := time.Now()
		start, end := strconv.FormatInt(now.Add(-time.Hour).Unix(), 10), strconv.FormatInt(now.Unix(), 10)
		selector := fmt.Sprintf(`%s{cluster=%q}`, catalogue.PodMem, s.server.Cluster)
		for _, tc := range []struct {
			name, method, path string
			form               url.Values
			check              func(data json.RawMessage) error
		}{
			{"health check", http.MethodPost, "/api/v1/query", url.Values{"query": {"1+1"}, "time": {end}}, contains(`"2"`)},
			{"build info", http.MethodGet, "/api/v1/status/buildinfo", nil, contains(`"version"`)},
			{"panel", http.MethodPost, "/api/v1/query_range", url.Values{
				"query": {"sum by (workload) (" + selector + ")"}, "start": {start}, "end": {end}, "step": {"15"}, "timeout": {"30s"},
			}, contains(`"matrix"`, `"steady"`)},
			{"table", http.MethodPost, "/api/v1/query", url.Values{"query": {"topk(5, " + selector + ")"}, "time": {end}}, contains(`"vector"`, `"workload"`)},
			{"metric names", http.MethodGet, "/api/v1/label/__name__/values", url.Values{"start": {start}, "end": {end}, "limit": {"40000"}}, contains(catalogue.PodMem, catalogue.WorkloadCPU)},
			{"metadata", http.MethodGet, "/api/v1/metadata", url.Values{"limit": {"40000"}}, nil},
			{"label names of a metric", http.MethodPost, "/api/v1/labels", url.Values{"start": {start}, "end": {end}, "match[]": {selector}}, contains(`"workload"`, `"namespace"`, `"cluster"`)},
			{"label values of a metric", http.MethodGet, "/api/v1/label/workload/values", url.Values{"start": {start}, "end": {end}, "match[]": {selector}}, contains(`"steady"`)},
			{"series", http.MethodPost, "/api/v1/series", url.Values{"start": {start}, "end": {end}, "match[]": {selector}}, contains(`"steady"`)},
			{"exemplars", http.MethodPost, "/api/v1/query_exemplars", url.Values{"query": {selector}, "start": {start}, "end": {end}}, nil},
			{"rules", http.MethodGet, "/api/v1/rules", nil, contains(`"groups"`)},
			{"alerts", http.MethodGet, "/api/v1/alerts", nil, contains(`"alerts"`)},
			{"format", http.MethodPost, "/api/v1/format_query", url.Values{"query": {"sum(" + selector + ")"}}, contains("sum(")},
		} {
			t.Run(tc.name, func(t *testing.T) {
				path, body := tc.path, any(nil)
				if tc.method == http.MethodPost {
					body = tc.form
				} else if tc.form != nil {
					path += "?" + tc.form.Encode()
				}
				raw, err := s.server.Do(t.Context(), tc.method, path, body)
				if err != nil {
					t.Fatal(err)
				}
				var answer struct {
					Status string          `json:"status"`
					Data   json.RawMessage `json:"data"`
				}
				if err := json.Unmarshal(raw, &answer); err != nil || answer.Status != "success" || len(answer.Data) == 0 {
					t.Fatalf("no answer as Prometheus gives it (%v): %.500s", err, raw)
				}
				if tc.check != nil {
					if err := tc.check(answer.Data); err != nil {
						t.Error(err)
					}
				}
			})
		}
		t.Run("wrong query", func(t *testing.T) {
			raw, err := s.server.Do(t.Context(), http.MethodPost, "/api/v1/query", url.Values{"query": {"sum("}})
			if err == nil || !strings.Contains(string(raw), `"errorType":"bad_data"`) {
				t.Errorf("a wrong query gives %v: %s", err, raw)
			}
		})
		t.Run("no token", func(t *testing.T) {
			stranger := *s.server
			stranger.Token = ""
			if _, err := stranger.Do(t.Context(), http.MethodPost, "/api/v1/query", url.Values{"query": {"1"}}); status(err) != http.StatusUnauthorized {
				t.Errorf("a query without a token gives %v, want 401", err)
			}
		})
		t.Run("admin endpoints are off", func(t *testing.T) {
			if _, err := s.server.Do(t.Context(), http.MethodPost, "/api/v1/admin/tsdb/delete_series", url.Values{"match[]": {selector}}); err == nil {
				t.Error("series can be deleted")
			}
		})
	})
}

func contains(wants ...string) func(json.RawMessage) error {
	return func(data json.RawMessage) error {
		for _, want := range wants {
			if !bytes.Contains(data, []byte(want)) {
				return fmt.Errorf("no %s in %.800s", want, data)
			}
		}
		return nil
	}
}

// status gives the HTTP status of an answer that was not 2xx; 0 for any other error.
func status(err error) int {
	if err, ok := err.(*testbed.StatusError); ok {
		return err.Status
	}
	return 0
}
