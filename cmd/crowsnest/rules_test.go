package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const shopRules = `
groups:
- name: shop
  interval: 1s
  query_offset: 0s
  rules:
  - record: shop:load:sum
    expr: sum by (cluster) (shop_load)
  - alert: ShopOverload
    expr: shop:load:sum > 5
    labels: {severity: critical, namespace: shop}
    annotations: {summary: "load is {{ $value }}"}
`

func TestRulesByTheCommandLine(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "Shop Load.yml")
	if err := os.WriteFile(file, []byte(shopRules), 0o600); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "other.yml")
	if err := os.WriteFile(other, []byte("groups: [{name: other, interval: 1s, rules: [{record: one, expr: 1}]}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startServer(t, filepath.Join(dir, "data"), func(s *settings) { s.ruleFiles = []string{other} })
	run := func(want string, args ...string) {
		t.Helper()
		out, stderr, err := crowsnest(context.Background(), noEnv, "", args...)
		if err != nil || !strings.Contains(out+stderr, want) {
			t.Fatalf("%v: %q %q %v", args, out, stderr, err)
		}
	}
	run("2 rules in 1 groups", "rules", "check", file)
	run("kind: RuleGroups", "rules", "import", file, "--print")
	run("rulegroups/shop-load created", "rules", "import", file, "--server", s.URL())
	run("rulegroups/shop-load unchanged", "rules", "import", file, "--server", s.URL())

	if code, body := s.send("POST", "/api/v1/write", s.ingest, "application/x-protobuf", remoteWrite(t, "shop_load", 7, "pod", "cart-1"), "Content-Encoding", "snappy", "X-Prometheus-Remote-Write-Version", "0.1.0"); code/100 != 2 {
		t.Fatalf("write: %d %s", code, body)
	}
	eventually(t, "the alert in Prometheus' API", func() bool {
		return strings.Contains(s.get("/api/v1/alerts"), `"alertname":"ShopOverload"`) && strings.Contains(s.get("/api/v1/rules"), `"name":"other"`)
	})
	eventually(t, "ALERTS", func() bool {
		return strings.Contains(s.get("/api/v1/query?query=ALERTS"), `"alertstate":"firing"`) && strings.Contains(s.get("/api/v1/query?query=one"), `"one"`)
	})
	eventually(t, "the incident", func() bool {
		body := s.get("/apis/crowsnest.dev/v1/incidents")
		return strings.Contains(body, "namespace shop: ShopOverload") && strings.Contains(body, `"critical"`)
	})
	eventually(t, "the alert by Alertmanager's API", func() bool { return strings.Contains(s.get("/api/v2/alerts"), "ShopOverload") })
	run("ShopOverload", "rules", "list", "--server", s.URL())
	if body := s.get("/apis/crowsnest.dev/v1/rulegroups/shop-load"); !strings.Contains(body, `"firing":1`) {
		t.Errorf("got %s", body)
	}
	for _, bad := range [][]string{
		{"rules", "check", filepath.Join(dir, "none.yml")}, {"rules", "test", file}, {"rules", "import", file, "--name", "UPPER", "--server", s.URL()},
	} {
		if _, _, err := crowsnest(context.Background(), noEnv, "", bad...); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
}
