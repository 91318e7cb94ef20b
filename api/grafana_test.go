package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	apilogs "github.com/crowsnest-dev/crowsnest/api/logs"
	apiprometheus "github.com/crowsnest-dev/crowsnest/api/prometheus"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/storage/logs"
	tsdb "github.com/crowsnest-dev/crowsnest/storage/metrics"
)

// What the dashboards in dashboards/grafana ask, as Grafana asks it: a store
// that has every metric of the catalogue answers each query with series, and
// each variable with values.
func TestGrafanaDashboardsAreAnswered(t *testing.T) {
	now := time.Now().Truncate(30 * time.Second)
	db, err := tsdb.Open(tsdb.Options{Dir: t.TempDir(), MinFreeBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	app := db.Appender(context.Background())
	for _, m := range catalogue.All() {
		for _, resource := range []string{"cpu", "memory"} {
			lset := map[string]string{"__name__": m.Name}
			for _, l := range m.Labels() {
				lset[l] = "x"
			}
			if _, ok := lset["resource"]; ok {
				lset["resource"] = resource
			} else if resource != "cpu" {
				continue
			}
			for back := 20; back >= 0; back-- {
				if _, err := app.Append(0, labels.FromMap(lset), now.Add(-time.Duration(back)*30*time.Second).UnixMilli(), float64(21-back)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	prom, err := apiprometheus.New(apiprometheus.Options{Store: db})
	if err != nil {
		t.Fatal(err)
	}
	if err := logs.Prepare(64 << 20); err != nil {
		t.Fatal(err)
	}
	lines, err := logs.Open(logs.Options{Dir: t.TempDir(), MinFreeBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(db.Close(), lines.Close()); err != nil {
			t.Error(err)
		}
	})
	logsql, err := apilogs.New(apilogs.Options{Store: lines})
	if err != nil {
		t.Fatal(err)
	}
	s := opened(t, func(o *Options) { o.Prometheus, o.Logs = prom, logsql })

	get := func(path string, params url.Values) (int, string) {
		rec := ask(s, http.MethodGet, path+"?"+params.Encode())
		return rec.Code, rec.Body.String()
	}
	start, end := strconv.FormatInt(now.Add(-10*time.Minute).Unix(), 10), strconv.FormatInt(now.Unix(), 10)
	// As Grafana fills them in.
	fill := func(query string) string {
		query = strings.NewReplacer("$__rate_interval", "2m", "$__interval", "30s", "($search)", "(*)").Replace(query)
		return regexp.MustCompile(`\$[a-z_]+`).ReplaceAllString(query, "x")
	}
	labelValues := regexp.MustCompile(`^label_values\((.+), (\w+)\)$`)

	files, err := filepath.Glob(filepath.Join("..", "dashboards", "grafana", "*.json"))
	if err != nil || len(files) < 6 {
		t.Fatalf("%d dashboards (%v), want cluster, node, workload, pod, logs and alerts", len(files), err)
	}
	asked := 0
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var d struct {
			UID        string `json:"uid"`
			Templating struct {
				List []struct {
					Name, Type string
					Query      any
				}
			}
			Panels []struct {
				Title   string
				Targets []struct {
					Expr, QueryType string
					Datasource      struct{ Type string }
				}
			}
		}
		if err := json.Unmarshal(raw, &d); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, v := range d.Templating.List {
			if v.Type != "query" {
				continue
			}
			query, _ := v.Query.(map[string]any)["query"].(string)
			parts := labelValues.FindStringSubmatch(query)
			if parts == nil {
				t.Fatalf("%s: variable %s asks %q", d.UID, v.Name, query)
			}
			code, body := get("/api/v1/label/"+parts[2]+"/values", url.Values{"match[]": {fill(parts[1])}, "start": {start}, "end": {end}})
			if code != 200 || !strings.Contains(body, `["x"]`) {
				t.Errorf("%s: variable %s: %d %.200s", d.UID, v.Name, code, body)
			}
		}
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				asked++
				if q.Datasource.Type == "prometheus" {
					code, body := get("/api/v1/query_range", url.Values{"query": {fill(q.Expr)}, "start": {start}, "end": {end}, "step": {"30"}})
					// Not every metric is beyond its default threshold here.
					if code != 200 || (d.UID != "crowsnest-alerts" && strings.Contains(body, `"result":[]`)) {
						t.Errorf("%s: %q asks %s: %d %.200s", d.UID, p.Title, q.Expr, code, body)
					}
					continue
				}
				path, params := "/select/logsql/query", url.Values{"query": {fill(q.Expr)}, "start": {start}, "end": {end}}
				if q.QueryType == "statsRange" {
					path = "/select/logsql/stats_query_range"
					params.Set("step", "30s")
				}
				if code, body := get(path, params); code != 200 {
					t.Errorf("%s: %q asks %s: %d %.200s", d.UID, p.Title, q.Expr, code, body)
				}
			}
		}
	}
	if asked < 100 {
		t.Errorf("asked %d queries, want those of every metric", asked)
	}
}
