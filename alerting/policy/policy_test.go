package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/object"
)

const good = `
apiVersion: crowsnest.dev/v1
kind: Policy
metadata: {name: cart-cpu, labels: {team: shop}}
spec:
  enabled: true
  level: pod
  clusters: {names: ["prod-*"], labels: {env: prod}}
  objects:
    namespaces: [shop, "shop-*"]
    workloads: [deployment/cart, "statefulset/*"]
    names: ["cart-*"]
    selector: "tier in (web,api)"
    exclude: {namespaces: [kube-system]}
  conditions:
  - metric: k8s_pod_rate_cpu_core_used_limit
    statistic: avg
    period: 1m
    op: ">"
    thresholds: {info: 70, warning: 80, critical: 95}
    recovery: {warning: 70, critical: 90}
    need: 5
    of: 5
  combine: all
  recoverAfter: 2
  noData: {action: keep, severity: warning, after: 5m}
  minAge: 2m
  annotations: {summary: "{{ .Object.Pod }} uses {{ .Value }} of its CPU limit", runbook_url: "https://example.com/runbook"}
  group: {by: [cluster, workload], wait: 0s, interval: 5m}
  notify:
    targets: [shop-oncall, {name: shop-chat, severities: [info, warning]}]
`

func TestJSONAndYAMLSayTheSame(t *testing.T) {
	fromYAML, err := Parse([]byte(good), Known{})
	if err != nil {
		t.Fatal(err)
	}
	asJSON, err := yaml.YAMLToJSON([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	fromJSON, err := Parse(asJSON, Known{})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(fromYAML, fromJSON) {
		t.Errorf("YAML gave %+v, JSON %+v", fromYAML, fromJSON)
	}
	// What we hand out must be taken back, and mean the same.
	out, err := json.Marshal(fromYAML)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse(out, Known{})
	if err != nil {
		t.Fatalf("our own answer is refused: %v\n%s", err, out)
	}
	if !reflect.DeepEqual(fromYAML, again) {
		t.Errorf("after a round trip %+v, before %+v", again, fromYAML)
	}
	var plain Policy // what a client of the Go types does
	if err := json.Unmarshal(out, &plain); err != nil || plain.Spec.Conditions[0].Period.D() != time.Minute {
		t.Errorf("got %+v, %v", plain, err)
	}
}

func TestDefaults(t *testing.T) {
	p, err := Parse([]byte(`{"apiVersion":"crowsnest.dev/v1","kind":"Policy","metadata":{"name":"a"},"spec":{"level":"pod","conditions":[
		{"metric":"k8s_pod_restart_total","period":"5m","op":">","thresholds":{"warning":2}},
		{"metric":"k8s_pod_status_ready","statistic":"last","period":"1m","op":"==","thresholds":{"critical":0},"of":3}]}}`), Known{})
	if err != nil {
		t.Fatal(err)
	}
	s := p.Spec
	got := fmt.Sprintln(p.IsEnabled(), p.Metadata.Project, s.Combine, s.RecoverAfter, *s.NoData, s.MinAge, *s.Group, s.Conditions[0].Statistic, s.Conditions[0].Need, s.Conditions[0].Of, s.Conditions[1].Need, s.Conditions[1].Of)
	if want := "true default all 2 {keep warning 5m} 0s {[] 0s 5m} increase 1 1 3 3\n"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// A metric that users added stands in a policy as one of the product's, with its own
// statistic, and its level and dimensions are held to.
func TestMetricsOfUsersStandInPolicies(t *testing.T) {
	t.Cleanup(func() { catalogue.SetCustom(nil) })
	parse := func(level string) (*Policy, error) {
		return Parse(fmt.Appendf(nil, `{"apiVersion":"crowsnest.dev/v1","kind":"Policy","metadata":{"name":"a"},"spec":{"level":%q,"conditions":[
			{"metric":"shop_orders","period":"5m","op":">","thresholds":{"warning":2}}]}}`, level), Known{})
	}
	if _, err := parse("workload"); err == nil || !strings.Contains(err.Error(), "spec.conditions[0].metric") {
		t.Errorf("before it is there: %v", err)
	}
	catalogue.SetCustom([]catalogue.Metric{{Name: "shop_orders", Level: catalogue.Workload, Unit: catalogue.Count, Dimensions: []string{"code"}, Statistic: catalogue.Max}})
	p, err := parse("workload")
	if err != nil {
		t.Fatal(err)
	}
	if c := p.Spec.Conditions[0]; c.Statistic != string(catalogue.Max) {
		t.Errorf("the condition goes by %s, want the metric's own statistic", c.Statistic)
	}
	if _, err := parse("node"); err == nil || !strings.Contains(err.Error(), "spec.conditions[0].metric") {
		t.Errorf("at a level that it is not of: %v", err)
	}
}

// Every file of testdata/bad is a policy and, after a line of "---", what must
// be said of it: one "path: part of the reason" a line, and nothing else.
func TestBadPoliciesAreToldEveryWrongField(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no test data", err)
	}
	known := Known{
		Targets:   []string{"shop-oncall", "shop-chat"},
		Intervals: map[string]time.Duration{"prod-1": 30 * time.Second, "edge-1": time.Minute},
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			doc, want, ok := strings.Cut(string(b), "\n---\n")
			if !ok {
				t.Fatal("no expectation")
			}
			_, err = Parse([]byte(doc), known)
			if !errors.Is(err, fault.ErrInvalid) {
				t.Fatalf("got %v, want invalid", err)
			}
			var fields fault.Fields
			if !errors.As(err, &fields) {
				t.Fatalf("%v has no fields", err)
			}
			byPath := map[string]fault.Field{}
			for _, f := range fields {
				if _, twice := byPath[f.Path]; twice {
					t.Errorf("%s is told twice", f.Path)
				}
				byPath[f.Path] = f
			}
			for _, line := range strings.Split(strings.TrimSpace(want), "\n") {
				path, reason, _ := strings.Cut(line, ": ")
				f, ok := byPath[path]
				if !ok {
					t.Errorf("nothing is said of %s; said is %v", path, err)
				} else if !strings.Contains(f.Error(), reason) {
					t.Errorf("%q does not say %q", f.Error(), reason)
				}
				delete(byPath, path)
			}
			for _, f := range byPath {
				t.Errorf("not expected: %v", f)
			}
		})
	}
}

func TestUnreadable(t *testing.T) {
	for name, tc := range map[string]struct {
		doc  string
		want error
	}{
		"empty":              {"  ", fault.ErrMalformed},
		"not JSON":           {`{"a": `, fault.ErrMalformed},
		"not YAML":           {"a: [", fault.ErrMalformed},
		"a key twice":        {`{"kind": "Policy", "kind": "Target"}`, fault.ErrMalformed},
		"a key twice, YAML":  {"kind: Policy\nkind: Target\n", fault.ErrMalformed},
		"two documents":      {`{} {}`, fault.ErrMalformed},
		"deep":               {strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 100), fault.ErrMalformed},
		"big":                {"a: " + strings.Repeat("x", MaxBytes), fault.ErrTooLarge},
		"a list":             {"[]", fault.ErrInvalid},
		"a word":             {"hello", fault.ErrInvalid},
		"not a number (NaN)": {"spec: {conditions: [{thresholds: {warning: .nan}}]}", fault.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Parse([]byte(tc.doc), Known{}); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}

// Every default alert that the catalogue declares must be a policy that can be
// saved, or the form would offer what is refused.
func TestEveryDefaultAlertIsAPolicy(t *testing.T) {
	for _, m := range catalogue.All() {
		if m.Alert == nil {
			continue
		}
		v := m.Alert.Threshold
		p := Policy{APIVersion: APIVersion, Kind: Kind, Metadata: Metadata{Name: "a"}, Spec: Spec{Level: string(m.Level), Conditions: []Condition{{
			Metric: m.Name, Statistic: string(m.Alert.Statistic), Period: Duration(m.Alert.Period), Op: m.Alert.Op, Need: m.Alert.Need, Of: m.Alert.Of,
		}}}}
		th := &p.Spec.Conditions[0].Thresholds
		switch m.Alert.Severity {
		case catalogue.Warning:
			th.Warning = &v
		case catalogue.Critical:
			th.Critical = &v
		}
		doc, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(doc, Known{}); err != nil {
			t.Errorf("%s: %v", m.Name, err)
		}
	}
}

func TestSelection(t *testing.T) {
	pod := &object.Pod{
		Meta:     object.Meta{Namespace: "shop", Name: "cart-1", Labels: map[string]string{"tier": "web"}},
		Workload: object.WorkloadRef{Type: "deployment", Name: "cart"},
	}
	for name, tc := range map[string]struct {
		spec      string
		container string
		want      bool
	}{
		"all":                        {`{level: pod}`, "", true},
		"namespace":                  {`{level: pod, objects: {namespaces: ["sh*"]}}`, "", true},
		"other namespace":            {`{level: pod, objects: {namespaces: [shop2]}}`, "", false},
		"workload":                   {`{level: pod, objects: {workloads: ["deployment/*"]}}`, "", true},
		"other type":                 {`{level: pod, objects: {workloads: ["statefulset/cart"]}}`, "", false},
		"name":                       {`{level: pod, objects: {names: ["cart-?"]}}`, "", true},
		"selector":                   {`{level: pod, objects: {selector: "tier in (web,api)"}}`, "", true},
		"other selector":             {`{level: pod, objects: {selector: "tier!=web"}}`, "", false},
		"every part must match":      {`{level: pod, objects: {namespaces: [shop], names: [other]}}`, "", false},
		"excluded by one part":       {`{level: pod, objects: {exclude: {namespaces: [kube-system], names: ["cart-*"]}}}`, "", false},
		"excluded by label":          {`{level: pod, objects: {exclude: {selector: "tier=web"}}}`, "", false},
		"not excluded":               {`{level: pod, objects: {exclude: {workloads: ["deployment/other"]}}}`, "", true},
		"a container by its name":    {`{level: container, objects: {names: [nginx]}}`, "nginx", true},
		"a container by the pod's":   {`{level: container, objects: {names: ["cart-*"]}}`, "nginx", false},
		"a container by pod's label": {`{level: container, objects: {selector: "tier=web"}}`, "nginx", true},
	} {
		t.Run(name, func(t *testing.T) {
			var s Spec
			j, err := yaml.YAMLToJSON([]byte(tc.spec))
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(j, &s); err != nil {
				t.Fatal(err)
			}
			sel, err := Compile(&s)
			if err != nil {
				t.Fatal(err)
			}
			if got := sel.Object(pod, tc.container); got != tc.want {
				t.Errorf("got %v", got)
			}
		})
	}
	sel, _ := Compile(&Spec{Clusters: &Clusters{Names: []string{"prod-*"}, Labels: map[string]string{"env": "prod"}}})
	for id, want := range map[string]bool{"prod-1": true, "edge": false} {
		if got := sel.Cluster(id, map[string]string{"env": "prod"}); got != want {
			t.Errorf("%s: %v", id, got)
		}
	}
	if sel.Cluster("prod-1", nil) {
		t.Error("a cluster without the label is selected")
	}
}

func TestGlob(t *testing.T) {
	f := func(pattern, s string, want bool) {
		t.Helper()
		if got := Glob(pattern, s); got != want {
			t.Errorf("Glob(%q, %q) = %v", pattern, s, got)
		}
	}
	f("*", "", true)
	f("", "", true)
	f("", "a", false)
	f("a*", "a", true)
	f("a*b*c", "axxbyyc", true)
	f("a*b*c", "axxbyy", false)
	f("*b", "abab", true)
	f("?", "", false)
	f("??", "ab", true)
	f("[a]", "a", false)
	f("/var*", "/var/lib", true)
	f(strings.Repeat("*a", 100), strings.Repeat("a", 1000)+"b", false) // must end soon
}

// Every pattern of up to five signs against every text of up to five, by the plainest
// way to tell.
func TestGlobIsThePlainOne(t *testing.T) {
	var plain func(pattern, s string) bool
	plain = func(pattern, s string) bool {
		switch {
		case pattern == "":
			return s == ""
		case pattern[0] == '*':
			return plain(pattern[1:], s) || s != "" && plain(pattern, s[1:])
		}
		return s != "" && (pattern[0] == '?' || pattern[0] == s[0]) && plain(pattern[1:], s[1:])
	}
	upTo := func(n int, of string) []string {
		out, newest := []string{""}, []string{""}
		for range n {
			var longer []string
			for _, s := range newest {
				for _, c := range of {
					longer = append(longer, s+string(c))
				}
			}
			out, newest = append(out, longer...), longer
		}
		return out
	}
	texts := upTo(5, "ab")
	for _, pattern := range upTo(5, "ab*?") {
		for _, s := range texts {
			if got, want := Glob(pattern, s), plain(pattern, s); got != want {
				t.Fatalf("Glob(%q, %q) = %v, want %v", pattern, s, got, want)
			}
		}
	}
}

func TestTemplatesAreBounded(t *testing.T) {
	data := TemplateData{Policy: "p", Severity: "critical", Object: TemplateObject{Pod: "cart-1"}, Value: Quantity{98.66, "%"}}
	good := map[string]string{
		"{{ .Object.Pod }} uses {{ .Value }}": "cart-1 uses 98.66 %",
		"":                                    "",
		`{{ if eq .Severity "critical" }}bad{{ else }}so{{ end }}`:    "bad",
		`{{ printf "%.0f" .Value.Number }}`:                           "99",
		`{{ .Dimensions.mountpoint }}|{{ .Labels.team | upper }}`:     "|",
		`{{ with .Object.Node }}on {{ . }}{{ else }}nowhere{{ end }}`: "nowhere",
	}
	for text, want := range good {
		tm, err := ParseTemplate(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, err := tm.Render(data); err != nil || got != want {
			t.Errorf("%s: got %q, %v", text, got, err)
		}
	}
	bad := []string{
		"{{ .Pod }}", "{{ .Object.Nope }}", "{{", "{{ range 1000000000 }}x{{ end }}", `{{ define "x" }}{{ end }}`,
		`{{ template "annotation" . }}`, `{{ printf "%1000000000d" 1 }}`, `{{ printf "%*d" 1000000000 1 }}`, strings.Repeat("x", 5000),
		`{{ if .Nope }}{{ end }}`, `{{ "` + strings.Repeat("'", 1000) + `" | js | js | js | js }}`,
		`{{ $a := "xxxxxxxxxxxxxxxx" }}` + strings.Repeat(`{{ $a = printf "%s%s%s%s" $a $a $a $a }}`, 30) + `{{ $a }}`,
	}
	for _, text := range bad {
		if _, err := ParseTemplate(text); err == nil {
			t.Errorf("%.60s is taken", text)
		} else if len(err.Error()) > 1000 {
			t.Errorf("%.60s: the reason has %d bytes", text, len(err.Error()))
		}
	}
}

func TestFormatValue(t *testing.T) {
	f := func(v float64, unit, want string) {
		t.Helper()
		if got := FormatValue(v, unit); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	f(98.7, "%", "98.7 %")
	f(95, "%", "95 %")
	f(3, "count", "3")
	f(536870912, "B", "512 MiB")
	f(-2048, "B/s", "-2 KiB/s")
	f(0.12345, "cores", "0.1235 cores")
	f(123456, "count", "123456")
	f(1e16, "B", "9095 TiB")
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(`{"spec":{"conditions":[{"thresholds":{"warning":"x"},"period":-1}]}}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		p, err := Parse(doc, Known{})
		if err != nil {
			if !errors.Is(err, fault.ErrInvalid) && !errors.Is(err, fault.ErrMalformed) && !errors.Is(err, fault.ErrTooLarge) {
				t.Errorf("an error without a kind: %v", err)
			}
			return
		}
		out, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(out, Known{}); err != nil {
			t.Errorf("taken once, refused when it comes back: %v\n%s", err, out)
		}
	})
}

func FuzzGlob(f *testing.F) {
	f.Add("a*b?c", "aXbYc")
	f.Fuzz(func(t *testing.T, pattern, s string) {
		if Glob(pattern, s) && !strings.ContainsAny(pattern, "*?") && pattern != s {
			t.Errorf("%q matches %q", pattern, s)
		}
		if !Glob("*"+pattern+"*", pattern) && !strings.Contains(pattern, "?") {
			t.Errorf("%q does not match itself", pattern)
		}
	})
}

// Globs and selectors that explode in other engines cost next to nothing.
func TestGlobsThatExplode(t *testing.T) {
	began := time.Now()
	glob := strings.Repeat("*a", 50) + "b"
	for range 100 {
		if Glob(glob, strings.Repeat("a", 253)) {
			t.Fatal("it matches")
		}
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("took %s", took)
	}
}
