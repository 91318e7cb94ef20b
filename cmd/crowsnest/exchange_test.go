package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/crowsnest-dev/crowsnest/alerting/rules"
)

// What comes of other products can be read, applied as it was printed and at
// once, and goes back as rules.
func TestImportsAndExportsByTheCommandLine(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, filepath.Join(dir, "data"), func(*settings) {})
	testdata := func(name string) string { return filepath.Join("../../alerting/exchange/testdata", name) }
	run := func(in string, args ...string) (out, said string) {
		t.Helper()
		out, said, err := crowsnest(context.Background(), noEnv, in, args...)
		if err != nil {
			t.Fatalf("%v: %q %q %v", args, out, said, err)
		}
		return out, said
	}
	says := func(text string, wants ...string) {
		t.Helper()
		for _, w := range wants {
			if !strings.Contains(text, w) {
				t.Errorf("%s\ndoes not say %s", text, w)
			}
		}
	}
	printed, said := run("", "import", "tkestack", testdata("tkestack.json"), "--cluster", "prod-1", "--severity", "critical")
	says(printed, "kind: Policy", "kind: Target", "- prod-1", "critical: 90")
	says(said, `channel "chn-sms": text messages are not carried over`)
	out, _ := run(printed, "policy", "apply", "-f", "-", "--server", s.URL())
	says(out, "target/ops-hook created", "policy/shop-pods-pod-restart-total created", "policy/scheduler created")

	out, said = run("", "import", "alertmanager", testdata("alertmanager.yml"), "--apply", "--server", s.URL())
	says(out, "target/db-pager created", "route/db created", "inhibition/alertmanager-1 created", "maintenance/backups-1 created")
	says(said, "repeat_interval 4h")
	says(s.get("/apis/crowsnest.dev/v1/first-use"), `"defaultRoute":"default"`)

	file := filepath.Join(dir, "shop.yml")
	if err := os.WriteFile(file, []byte(shopRules), 0o600); err != nil {
		t.Fatal(err)
	}
	out, _ = run("", "import", "prometheus", file, "--apply", "--server", s.URL())
	says(out, "rulegroups/shop created")

	out, _ = run("", "policy", "export", "--format", "prometheus", "--server", s.URL(), "scheduler", "nodes")
	if _, err := rules.Parse(out); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	says(out, `k8s_component_ready{cluster=~"prod-1",component=~"scheduler"}`, "k8s_node_mem_usage", "severity: critical")
	whole, _ := run("", "policy", "export", "--server", s.URL())
	out, _ = run(whole, "policy", "apply", "-f", "-", "--server", s.URL(), "--force")
	says(out, "policy/scheduler unchanged")

	for _, bad := range [][]string{
		{"import", "tkestack", file}, {"import", "alertmanager", file}, {"import", "prometheus", testdata("alertmanager.yml")}, {"policy", "export", "nobody", "--server", s.URL()},
	} {
		if out, _, err := crowsnest(context.Background(), noEnv, "", bad...); err == nil {
			t.Errorf("%v was taken: %s", bad, out)
		}
	}
}
