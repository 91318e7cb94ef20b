package grafana

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
)

// files are the dashboards by file name.
func files(own ...catalogue.Metric) map[string][]byte {
	out := map[string][]byte{}
	for _, name := range Names {
		out[name+".json"] = Dashboard(name, own)
	}
	return out
}

func TestDashboardsAreCommitted(t *testing.T) {
	for name, want := range files() {
		got, err := os.ReadFile(filepath.Join("..", "..", "dashboards", "grafana", name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("dashboards/grafana/%s is not what the catalogue says (%v): make generate", name, err)
		}
	}
}

// What Grafana refuses or draws wrongly, as far as a file can show it.
func TestDashboardsAreWhole(t *testing.T) {
	whole(t, files())
}

func whole(t *testing.T, files map[string][]byte) {
	t.Helper()
	uids := map[string]bool{}
	for name, content := range files {
		var d dashboard
		if err := json.Unmarshal(content, &d); err != nil {
			t.Fatal(err)
		}
		if d.UID == "" || len(d.UID) > 40 || uids[d.UID] {
			t.Errorf("%s: uid %q", name, d.UID)
		}
		uids[d.UID] = true
		variables := map[string]bool{"__interval": true, "__rate_interval": true}
		for _, v := range d.Templating.List {
			if v.Datasource != nil && !variables[strings.Trim(v.Datasource.UID, "${}")] {
				t.Errorf("%s: variable %s asks a data source that is not chosen before it", name, v.Name)
			}
			variables[v.Name] = true
		}
		ids, taken := map[int]bool{}, map[[2]int]int{}
		for _, p := range d.Panels {
			if ids[p.ID] || p.ID == 0 {
				t.Errorf("%s: two panels have id %d", name, p.ID)
			}
			ids[p.ID] = true
			for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
				for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
					if other, ok := taken[[2]int{x, y}]; ok || x >= 24 {
						t.Fatalf("%s: panels %d and %d overlap at column %d, row %d", name, p.ID, other, x, y)
					}
					taken[[2]int{x, y}] = p.ID
				}
			}
			refs := map[string]bool{}
			for _, q := range p.Targets {
				if refs[q.RefID] || len(q.RefID) != 1 {
					t.Errorf("%s: panel %q has two queries %s", name, p.Title, q.RefID)
				}
				refs[q.RefID] = true
				for rest := q.Expr + q.Datasource.UID; ; {
					_, after, ok := strings.Cut(rest, "$")
					if !ok {
						break
					}
					after = strings.TrimPrefix(after, "{")
					end := strings.IndexFunc(after, func(r rune) bool { return r != '_' && (r < 'a' || r > 'z') })
					if end < 0 {
						end = len(after)
					}
					if !variables[after[:end]] {
						t.Errorf("%s: panel %q uses $%s, which is no variable", name, p.Title, after[:end])
					}
					rest = after
				}
			}
			if len(p.Targets) == 0 {
				t.Errorf("%s: panel %q asks nothing", name, p.Title)
			}
		}
	}
}

// Each metric of the levels that have a dashboard is drawn once.
func TestEveryMetricIsDrawn(t *testing.T) {
	all := files()
	for _, m := range catalogue.All() {
		content, ok := all[string(m.Level)+".json"]
		if ok && !bytes.Contains(content, []byte(m.Name+"{")) {
			t.Errorf("%s is not in %s.json", m.Name, m.Level)
		}
	}
}

// Metrics that users added are drawn on the dashboard of their level, however many
// share a chart, and beside the others where they are beyond a threshold.
func TestMetricsOfUsersAreDrawn(t *testing.T) {
	own := []catalogue.Metric{
		{Name: "orders", Title: "Orders", Help: "Orders.", Level: catalogue.Workload, Unit: catalogue.PerSecond, Kind: catalogue.Gauge, Place: catalogue.ByServer, Dimensions: []string{"shop"},
			Statistic: catalogue.Max, Chart: catalogue.Chart{Group: "éclairs"}, Alert: &catalogue.Alert{Statistic: catalogue.Avg, Op: "<", Threshold: 5, Period: time.Minute}},
		{Name: "quota", Title: "Quota", Help: "Of a resource.", Level: catalogue.Cluster, Unit: catalogue.Count, Kind: catalogue.Gauge, Place: catalogue.ByServer, Dimensions: []string{"resource"}, Statistic: catalogue.Avg, Chart: catalogue.Chart{Group: "quota"}},
	}
	for i := range 60 {
		own = append(own, catalogue.Metric{Name: fmt.Sprintf("many_%d", i), Title: "Many", Help: "Many.", Level: catalogue.Pod, Unit: catalogue.Percent, Kind: catalogue.Gauge, Place: catalogue.ByServer, Statistic: catalogue.Avg, Chart: catalogue.Chart{Group: "cpu"}})
	}
	all := files(own...)
	whole(t, all)
	for _, m := range own {
		if n := bytes.Count(all[string(m.Level)+".json"], []byte(m.Name+"{")); n != 1 {
			t.Errorf("%s is drawn %d times in %s.json", m.Name, n, m.Level)
		}
	}
	for file, text := range map[string]string{
		"workload.json": `max by (shop) (max_over_time(orders{cluster=\"$cluster\",namespace=\"$namespace\",workload_type=\"$workload_type\",workload=\"$workload\"}[$__interval]))`,
		"alerts.json":   `count(avg_over_time(orders{cluster=~\"$cluster\"}[60s]) < 5)`, "cluster.json": `max by (resource) (avg_over_time(quota`,
	} {
		if !bytes.Contains(all[file], []byte(text)) {
			t.Errorf("%s does not ask %s", file, text)
		}
	}
	if Dashboard("nothing", nil) != nil {
		t.Error("there is a dashboard that nobody named")
	}
}
