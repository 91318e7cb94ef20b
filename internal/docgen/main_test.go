package main

import (
	"os"
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

func TestAPIPageIsUpToDate(t *testing.T) {
	openAPI, err := os.ReadFile("../../api/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	want, err := apiPage(openAPI)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../docs/reference/api.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/reference/api.md is not what api/openapi.json says: make generate")
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
