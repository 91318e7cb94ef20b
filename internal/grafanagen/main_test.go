package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
)

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
	uids := map[string]bool{}
	for name, content := range files() {
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
