package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
)

func TestMetricsPageIsUpToDate(t *testing.T) {
	got, err := os.ReadFile("../../docs/reference/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != metricsPage() {
		t.Error("docs/reference/metrics.md is not what the catalogue says: make generate")
	}
}

func TestMetricsPageHasWordsForEverything(t *testing.T) {
	for _, m := range catalogue.All() {
		for _, s := range m.From {
			if sourceWords[s] == "" {
				t.Errorf("%s: no words for source %q", m.Name, s)
			}
		}
		if placeWords[m.Place] == "" {
			t.Errorf("%s: no words for place %q", m.Name, m.Place)
		}
		if !strings.Contains(metricsPage(), "\n### "+m.Name+"\n") {
			t.Errorf("%s has no section", m.Name)
		}
	}
}

// docs/dependencies.md has one line for each direct dependency, and none more.
func TestDependenciesAreExplained(t *testing.T) {
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	direct := map[string]bool{}
	for _, line := range strings.Split(string(mod), "\n") {
		if line, ok := strings.CutPrefix(line, "\t"); ok && !strings.Contains(line, "// indirect") {
			if path, version, ok := strings.Cut(line, " "); ok && strings.HasPrefix(version, "v") {
				direct[path] = true
			}
		}
	}
	if len(direct) < 10 {
		t.Fatalf("found %d direct dependencies only", len(direct))
	}
	page, err := os.ReadFile("../../docs/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	explained := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| ([^|]+) \\|$").FindAllStringSubmatch(string(page), -1) {
		if explained[m[1]] {
			t.Errorf("%s is explained twice", m[1])
		}
		if len(strings.TrimSpace(m[2])) < 10 {
			t.Errorf("%s has no reason", m[1])
		}
		explained[m[1]] = true
	}
	for path := range direct {
		if !explained[path] {
			t.Errorf("docs/dependencies.md does not say why %s is needed", path)
		}
	}
	for path := range explained {
		if !direct[path] && !strings.HasPrefix(path, "tools: ") && !strings.HasPrefix(path, "npm: ") {
			t.Errorf("docs/dependencies.md explains %s, which go.mod does not require directly", path)
		}
	}
}
