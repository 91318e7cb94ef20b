// Package archtest owns the project's structure: it reads the import graph with
// the go command and holds the direction of dependencies. It has tests only.
package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/crowsnest-dev/crowsnest"

// pkg is what `go list` tells of a package, with import paths.
type pkg struct {
	ImportPath   string
	Dir          string
	Doc          string
	Standard     bool
	GoFiles      []string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Deps         []string
	Error        *struct{ Err string }
}

// local is the path below the module, "." for its root, and empty for a package
// that is not ours.
func (p pkg) local() string { return local(p.ImportPath) }

func local(importPath string) string {
	if importPath == module {
		return "."
	}
	below, ok := strings.CutPrefix(importPath, module+"/")
	if !ok {
		return ""
	}
	return below
}

// ours lists the project's packages, once.
var ours = sync.OnceValues(func() ([]pkg, error) {
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return nil, fmt.Errorf("find the module: %w", err)
	}
	// -e, so that a package that does not compile yet does not hide the rest.
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Dir,Doc,GoFiles,Imports,TestImports,XTestImports,Deps,Error", "./...")
	cmd.Dir = strings.TrimSpace(string(root))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list packages: %w", err)
	}
	var all []pkg
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("read what go list says: %w", err)
		}
		all = append(all, p)
	}
})

func load(t *testing.T) []pkg {
	t.Helper()
	all, err := ours()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 10 {
		t.Fatalf("go list found %d packages only", len(all))
	}
	return all
}

// layers are the parts of the product with those that each may import beside
// itself. What is not named here (deploy, test) is no part of the product.
var layers = map[string][]string{
	"cmd/crowsnest":           {"api", "alerting", "storage", "collector", "dashboards", "internal"},
	"cmd/crowsnest-collector": {"collector", "internal"},
	"api":                     {"alerting", "storage", "dashboards", "internal"},
	"alerting":                {"storage", "internal"},
	"storage":                 {"internal"},
	"collector":               {"internal"},
	"dashboards":              {},
	"internal":                {},
}

// layerOf gives the layer that a package is in; empty for none.
func layerOf(localPath string) string {
	best := ""
	for layer := range layers {
		if within(localPath, layer) && len(layer) > len(best) {
			best = layer
		}
	}
	return best
}

func within(localPath, folder string) bool {
	return localPath == folder || strings.HasPrefix(localPath, folder+"/")
}

// forbidden says why a package may not import another; empty when it may.
func forbidden(from, to string) string {
	fromLayer, toLayer := layerOf(from), layerOf(to)
	switch {
	case fromLayer == "" || toLayer == fromLayer:
		return ""
	case toLayer == "":
		return "is no part of the product"
	case !slices.Contains(layers[fromLayer], toLayer):
		return fromLayer + " may import " + strings.Join(append([]string{"itself"}, layers[fromLayer]...), ", ") + " only"
	}
	return ""
}

func TestDependenciesPointOneWay(t *testing.T) {
	for _, p := range load(t) {
		for _, imported := range p.Imports {
			to := local(imported)
			if to == "" {
				continue
			}
			if why := forbidden(p.local(), to); why != "" {
				t.Errorf("%s imports %s: %s", p.local(), to, why)
			}
		}
	}
}

func TestForbidden(t *testing.T) {
	for _, tc := range []struct {
		from, to string
		want     bool
	}{
		{"collector/kube", "storage/logs", true},
		{"collector", "alerting/policy", true},
		{"collector/push", "api/access", true},
		{"collector/push", "internal/wire", false},
		{"storage/logs", "alerting/policy", true},
		{"storage/logs", "collector/push", true},
		{"alerting/engine", "storage/meta", false},
		{"alerting/engine", "api", true},
		{"api/alerts", "alerting/engine", false},
		{"api", "collector", true},
		{"internal/wire", "storage/meta", true},
		{"cmd/crowsnest", "collector/simulate", false},
		{"cmd/crowsnest-collector", "storage", true},
		{"cmd/crowsnest-collector", "collector", false},
		{"storage", "deploy/image", true},
		{"test/e2e", "storage", false},
	} {
		if got := forbidden(tc.from, tc.to) != ""; got != tc.want {
			t.Errorf("forbidden(%s, %s) is %v", tc.from, tc.to, got)
		}
	}
}

// The collector runs on every node: what it links, each node carries.
func TestCollectorDoesNotLinkTheServer(t *testing.T) {
	for _, p := range load(t) {
		if !within(p.local(), "cmd/crowsnest-collector") && !within(p.local(), "collector") {
			continue
		}
		for _, dep := range p.Deps {
			switch to := local(dep); {
			case within(to, "storage"), within(to, "alerting"), within(to, "api"), within(to, "dashboards"):
				t.Errorf("%s links %s", p.local(), to)
			}
			if !within(p.local(), "cmd") {
				continue // the simulator writes TSDB blocks, but only the server's binary holds it
			}
			for _, heavy := range []string{
				"github.com/VictoriaMetrics/VictoriaLogs", "github.com/prometheus/prometheus/promql", "github.com/gin-gonic/gin",
				"github.com/danielgtaylor/huma", "modernc.org/sqlite",
			} {
				// Positions in a query: the storage interfaces, which scraping needs, name them.
				if within(dep, heavy) && dep != "github.com/prometheus/prometheus/promql/parser/posrange" {
					t.Errorf("%s links %s, which only the server needs", p.local(), dep)
				}
			}
		}
	}
}

// Packages that everything imports must import nothing of ours, or cycles begin.
func TestRootsImportNothingOfOurs(t *testing.T) {
	allowed := map[string][]string{
		"internal/nearest":   nil,
		"internal/catalogue": {"internal/nearest"},
		"internal/fault":     nil,
		"internal/object":    nil,
		"internal/reserve":   nil,
		"internal/wire":      {"internal/catalogue", "internal/fault", "internal/object"},
	}
	found := 0
	for _, p := range load(t) {
		may, isRoot := allowed[p.local()]
		if !isRoot {
			continue
		}
		found++
		for _, imported := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			if to := local(imported); to != "" && to != p.local() && !slices.Contains(may, to) {
				t.Errorf("%s imports %s", p.local(), to)
			}
		}
	}
	if found != len(allowed) {
		t.Errorf("looked at %d packages, want %d", found, len(allowed))
	}
}

func TestPackagesSayWhatTheyOwn(t *testing.T) {
	for _, p := range load(t) {
		if p.Error != nil {
			t.Errorf("%s: %s", p.local(), p.Error.Err)
		}
		if p.Doc == "" && len(p.GoFiles) > 0 {
			t.Errorf("%s has no package comment: one sentence on what it owns and what it must not know", p.local())
		}
	}
}

func TestPackagesAreNamedAfterWhatTheyOwn(t *testing.T) {
	for _, p := range load(t) {
		switch name := path.Base(p.ImportPath); name {
		case "util", "utils", "common", "types", "models", "helpers", "misc", "shared", "base":
			t.Errorf("%s: %q says nothing about what it owns", p.local(), name)
		}
	}
}

// What only tests need must not come into a binary. (Libraries of others link
// the testing package; that is theirs to say.)
func TestBinariesLinkNoTestCode(t *testing.T) {
	for _, p := range load(t) {
		if within(p.local(), "cmd") {
			for _, dep := range p.Deps {
				if to := local(dep); strings.HasSuffix(to, "test") {
					t.Errorf("%s links %s", p.local(), to)
				}
			}
		}
		if slices.Contains(p.Imports, "testing") && !strings.HasSuffix(p.local(), "test") {
			t.Errorf("%s imports testing outside its tests; fakes live in packages named …test", p.local())
		}
	}
}

// Tools and the test cluster have modules of their own, so that what they need
// never moves the product's pins.
func TestOtherModulesStayApart(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{"tools", "tools/promtool", "test/e2e/cluster"} {
		if _, err := os.Stat(filepath.Join(root, folder, "go.mod")); err != nil {
			t.Errorf("%s is no module of its own: %v", folder, err)
		}
	}
	raw, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range []string{"k8s.io/kubernetes ", "honnef.co/go/tools "} {
		if strings.Contains(string(raw), other) {
			t.Errorf("the product's module requires %s", other)
		}
	}
}
