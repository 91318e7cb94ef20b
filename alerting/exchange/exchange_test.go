package exchange

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/notify"
	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/alerting/routing"
	"github.com/crowsnest-dev/crowsnest/alerting/rules"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || string(want) != got {
		t.Errorf("%s differs (go test ./alerting/exchange -update): %v\n%s", path, err, got)
	}
}

func input(t *testing.T, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// whole is what a user sees: the documents, then what could not be carried over.
func whole(t *testing.T, r Result) string {
	t.Helper()
	raw, err := r.YAML()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.Write(raw)
	b.WriteString("---\n")
	for _, n := range r.Notes {
		b.WriteString("# " + n.String() + "\n")
	}
	return b.String()
}

// valid holds every document to the checks that the server makes.
func valid(t *testing.T, r Result) {
	t.Helper()
	known := routing.Known{Targets: []string{}, Now: time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)}
	for _, d := range r.Documents {
		if d["kind"] == meta.KindTarget {
			known.Targets = append(known.Targets, d["metadata"].(map[string]any)["name"].(string))
		}
	}
	for _, d := range r.Documents {
		raw, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		switch d["kind"] {
		case meta.KindTarget:
			_, err = notify.ParseTarget(raw, nil, &notify.Guard{})
		case meta.KindPolicy:
			_, err = policy.Parse(raw, policy.Known{Targets: known.Targets})
		case meta.KindRoute:
			_, err = routing.ParseRoute(raw, known)
		case meta.KindInhibition:
			_, err = routing.ParseInhibition(raw, known)
		case meta.KindMaintenance:
			_, err = routing.ParseMaintenance(raw, known)
		default:
			t.Errorf("an import makes a %v", d["kind"])
		}
		if err != nil {
			t.Errorf("%s: %v", raw, err)
		}
	}
}

func TestTKEStack(t *testing.T) {
	r, err := TKEStack(input(t, "tkestack.json"), TKEStackOptions{})
	if err != nil {
		t.Fatal(err)
	}
	valid(t, r)
	golden(t, "tkestack.golden.yaml", whole(t, r))
	for text, want := range map[string]string{
		"":                                       "holds no document",
		"kind: Deployment":                       "holds neither policies",
		"{AlarmPolicySettings: {":                "document 1",
		"AlarmPolicySettings: {AlarmMetrics: 3}": "read a policy",
	} {
		if _, err := TKEStack([]byte(text), TKEStackOptions{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func TestAlertmanager(t *testing.T) {
	r, err := Alertmanager(input(t, "alertmanager.yml"))
	if err != nil {
		t.Fatal(err)
	}
	valid(t, r)
	golden(t, "alertmanager.golden.yaml", whole(t, r))
	if _, err := Alertmanager([]byte("route: {receiver: nobody}")); err == nil || !strings.Contains(err.Error(), "undefined receiver") {
		t.Errorf("a receiver that there is not: %v", err)
	}
}

// What the tree of Alertmanager's routes tells whom, ours do too.
func TestRoutesOfAlertmanagerLeadToTheSame(t *testing.T) {
	r, err := Alertmanager(input(t, "alertmanager.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var rows []meta.Resource
	for _, d := range r.Documents {
		raw, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		spec, err := json.Marshal(d["spec"])
		if err != nil {
			t.Fatal(err)
		}
		if d["kind"] == meta.KindMaintenance { // as the server stores it
			m, err := routing.ParseMaintenance(raw, routing.Known{Now: time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)})
			if err != nil {
				t.Fatal(err)
			}
			if spec, err = json.Marshal(m.Spec); err != nil {
				t.Fatal(err)
			}
		}
		rows = append(rows, meta.Resource{Kind: d["kind"].(string), Name: d["metadata"].(map[string]any)["name"].(string), Spec: spec})
	}
	set, err := routing.Compile(rows)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"team=db":                   "db",
		"team=db severity=critical": "db-pager db", // by continue: named in the notes
		"service=web":               "shop-msteamsv2-office shop-opsgenie-office shop-telegram-office",
		"severity=info":             "",
		"namespace=quiet":           "ops-email ops-webhook",
		"team=other":                "ops-email ops-webhook",
	} {
		f := routing.Facts{ID: "a", Labels: map[string]string{}}
		for _, pair := range strings.Fields(text) {
			k, v, _ := strings.Cut(pair, "=")
			f.Labels[k] = v
		}
		var got []string
		for _, target := range set.Targets(f) {
			got = append(got, target.Name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s tells %q, want %q", text, strings.Join(got, " "), want)
		}
	}
	// Sundays at three in Berlin the database is backed up.
	db := routing.Facts{ID: "a", Labels: map[string]string{"team": "db"}}
	for at, want := range map[time.Time]int{
		time.Date(2026, 11, 29, 2, 0, 0, 0, time.UTC): 1, time.Date(2026, 11, 29, 5, 0, 0, 0, time.UTC): 0, time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC): 1,
	} {
		if got := set.Muted(db, []routing.Facts{db}, at); len(got) != want {
			t.Errorf("at %s muted by %v, want %d", at, got, want)
		}
	}
}

func TestPrometheus(t *testing.T) {
	docs, err := documents(input(t, "policies.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var policies []policy.Policy
	for _, d := range docs {
		p, err := policy.Parse(d, policy.Known{})
		if err != nil {
			t.Fatal(err)
		}
		policies = append(policies, *p)
	}
	out, notes := Prometheus(policies)
	raw, err := out.YAML()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rules.Parse(string(raw)); err != nil { // by Prometheus' own parser
		t.Error(err)
	}
	var b strings.Builder
	b.Write(raw)
	for _, n := range notes {
		b.WriteString("# " + n.String() + "\n")
	}
	golden(t, "policies.golden.yaml", b.String())
}
