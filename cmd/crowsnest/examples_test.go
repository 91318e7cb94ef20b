package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/alerting/routing"
	"github.com/crowsnest-dev/crowsnest/storage/logs"
)

var (
	yamlBlock = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")
	codeBlock = regexp.MustCompile("(?ms)^( *)```\n(.*?)^ *```$")
	link      = regexp.MustCompile(`\]\(([^)#\s]+)`)
)

// What the reference of policies shows is what the server takes.
func TestExamplesOfPoliciesAreTaken(t *testing.T) {
	text, err := os.ReadFile("../../docs/policies.md")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	kinds := map[string]int{}
	for _, block := range yamlBlock.FindAllStringSubmatch(string(text), -1) {
		doc := []byte(block[1])
		var head struct{ Kind string }
		if err := yaml.Unmarshal(doc, &head); err != nil {
			t.Fatalf("%v in\n%s", err, doc)
		}
		kinds[head.Kind]++
		switch known := (routing.Known{Now: now}); head.Kind {
		case "Policy":
			_, err = policy.Parse(doc, policy.Known{Intervals: map[string]time.Duration{"prod-1": 30 * time.Second}, CheckFilter: logs.CheckFilter})
		case "Route":
			_, err = routing.ParseRoute(doc, known)
		case "Maintenance":
			_, err = routing.ParseMaintenance(doc, known)
		case "Inhibition":
			_, err = routing.ParseInhibition(doc, known)
		default:
			err = fmt.Errorf("kind %q is not looked at", head.Kind)
		}
		if err != nil {
			t.Errorf("%v\nin\n%s", err, doc)
		}
	}
	if kinds["Policy"] < 8 || kinds["Route"] < 2 || kinds["Maintenance"] < 1 || kinds["Inhibition"] < 1 {
		t.Errorf("examples were lost: %v", kinds)
	}
}

// Commands that the guides name exist, with their flags, and what they link to
// is there.
func TestGuidesNameWhatThereIs(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) < 8 {
		t.Fatalf("%v, %v", pages, err)
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(page)
		for _, l := range link.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(l[1], "://") || strings.HasPrefix(l[1], "images/") {
				continue // screenshots come from the browser tests
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), l[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", name, l[1])
			}
		}
		for _, block := range codeBlock.FindAllStringSubmatch(string(text), -1) {
			for line := range strings.Lines(block[2]) {
				for _, command := range strings.Split(line, "|") {
					words := strings.Fields(strings.TrimPrefix(strings.TrimSpace(command), "bin/"))
					if len(words) > 1 && words[0] == "crowsnest" {
						if err := exists(words[1:]); err != nil {
							t.Errorf("%s: %s: %v", name, strings.TrimSpace(command), err)
						}
					}
				}
			}
		}
	}
}

// exists says what of a command line the program does not know.
func exists(words []string) error {
	cmd, rest, err := newRoot(noEnv).Find(words)
	if err != nil {
		return err
	}
	for _, w := range rest {
		name, isFlag := strings.CutPrefix(w, "--")
		if !isFlag || name == "" {
			continue
		}
		name, _, _ = strings.Cut(name, "=")
		if cmd.Flags().Lookup(name) == nil && cmd.InheritedFlags().Lookup(name) == nil {
			return fmt.Errorf("%s has no --%s", cmd.CommandPath(), name)
		}
	}
	return nil
}
