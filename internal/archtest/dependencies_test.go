package archtest

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// docs/dependencies.md has one line for each module that our packages import,
// and none more.
func TestDependenciesAreExplained(t *testing.T) {
	// Not "list -m all": that asks for modules that nothing here is built of, of
	// which some are no more.
	list := exec.Command("go", "list", "-deps", "-test", "-f", "{{with .Module}}{{.Path}}{{end}}", "../../...")
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	modules := strings.Fields(string(out))
	slices.Sort(modules)
	modules = slices.Compact(modules)
	// The longest first: a module may lie within another's path.
	slices.SortFunc(modules, func(a, b string) int { return len(b) - len(a) })

	imported := map[string]string{} // module → one package of ours that imports it
	for _, p := range load(t) {
		for _, path := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			if first, _, _ := strings.Cut(path, "/"); !strings.Contains(first, ".") || local(path) != "" {
				continue // the standard library, or ours
			}
			if i := slices.IndexFunc(modules, func(m string) bool { return within(path, m) }); i >= 0 {
				imported[modules[i]] = p.local()
			}
		}
	}
	if len(imported) < 10 {
		t.Fatalf("found %d imported modules only", len(imported))
	}

	page, err := os.ReadFile("../../docs/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	explained := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([^` ]+)` \\| ([^|]+) \\|$").FindAllStringSubmatch(string(page), -1) {
		if explained[m[1]] {
			t.Errorf("%s is explained twice", m[1])
		}
		explained[m[1]] = true
	}
	for module, by := range imported {
		if !explained[module] {
			t.Errorf("docs/dependencies.md does not say why %s needs %s", by, module)
		}
	}
	for module := range explained {
		if imported[module] == "" {
			t.Errorf("docs/dependencies.md explains %s, which nothing of ours imports", module)
		}
	}
}
