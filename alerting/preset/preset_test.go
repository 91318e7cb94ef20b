package preset

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/alerting/routing"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

var update = flag.Bool("update", false, "rewrite the reference page of presets")

const page = "../../docs/reference/presets.md"

// The page for users is made from the presets, so that it cannot say anything
// else.
func TestReferencePage(t *testing.T) {
	all, err := All()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("# Policies that come with the server\n\n<!-- Made from alerting/preset/presets.yaml: go test ./alerting/preset -run Reference -update. Do not edit. -->\n\n" +
		"They are there from the first start (`--presets=false` leaves them out) and look at every cluster that has what they need; `crowsnest policy list` says where one is idle, and why.\n" +
		"Until a route or a policy names a target, they open incidents and tell nobody. `crowsnest policy disable NAME` switches one off. One that is changed with `force` belongs to\n" +
		"whoever changed it, and one that is deleted stays deleted. While a preset fires, an inhibition of the name `NAME-explains` mutes those that it explains, on the same workload,\n" +
		"node or file system.\n\n| name | symptom | fires when | explains |\n|---|---|---|---|\n")
	for _, p := range all {
		pol, err := p.Policy()
		if err != nil {
			t.Fatal(err)
		}
		var when []string
		for _, c := range pol.Spec.Conditions {
			if c.Expr != "" {
				when = append(when, fmt.Sprintf("`%s`, %d of %d × %s: %s", strings.ReplaceAll(c.Expr, "|", "\\|"), c.Need, c.Of, c.Period, c.Severity))
				continue
			}
			for _, s := range []catalogue.Severity{catalogue.Info, catalogue.Warning, catalogue.Critical} {
				if v, ok := c.Thresholds.Of(s); ok {
					forecast := ""
					if c.Forecast != nil {
						forecast = " in " + c.Forecast.Within.String()
					}
					when = append(when, fmt.Sprintf("%s of `%s`%s %s %v, %d of %d × %s: %s", c.Statistic, c.Metric, forecast, c.Op, v, c.Need, c.Of, c.Period, s))
				}
			}
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", p.Name, p.Symptom, strings.Join(when, "; "), strings.Join(p.Explains, ", "))
	}
	if *update {
		if err := os.WriteFile(page, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(page)
	if err != nil || string(want) != b.String() {
		t.Errorf("%s is not what the presets say: run go test ./alerting/preset -run Reference -update: %v", page, err)
	}
}

func TestPresetsAreComplete(t *testing.T) {
	all, err := All()
	if err != nil {
		t.Fatal(err)
	}
	names, metrics := map[string]bool{}, map[string]bool{}
	for _, p := range all {
		if names[p.Name] || p.Title == "" || !strings.HasSuffix(p.Symptom, ".") || len(p.Fires) == 0 || len(p.Quiet) == 0 {
			t.Errorf("%s: is there twice, or lacks a title, a symptom or fixtures", p.Name)
		}
		names[p.Name] = true
		pol, err := p.Policy()
		if err != nil {
			t.Error(err)
			continue
		}
		for _, c := range pol.Spec.Conditions {
			metrics[c.Metric] = true
			for _, m := range catalogue.All() {
				if strings.Contains(c.Expr, m.Name) {
					metrics[m.Name] = true
				}
			}
		}
		if name, spec, ok := p.Inhibition(); ok {
			doc := meta.Resource{Kind: meta.KindInhibition, Name: name}
			if len(name) > 63 || len(spec.Equal) == 0 {
				t.Errorf("%s: inhibition %+v", p.Name, doc)
			}
		}
	}
	for _, p := range all {
		for _, other := range p.Explains {
			if !names[other] || other == p.Name {
				t.Errorf("%s explains %q, which is no other preset", p.Name, other)
			}
		}
	}
	// Whatever the catalogue has a default alert for, a preset looks at.
	for _, m := range catalogue.All() {
		if m.Alert != nil && !metrics[m.Name] {
			t.Errorf("no preset looks at %s", m.Name)
		}
	}
	for _, name := range []string{"pod-cpu-at-limit", "container-throttled"} {
		i := slices.IndexFunc(all, func(p Preset) bool { return p.Name == name })
		pol, err := all[i].Policy()
		if err != nil || pol.Spec.Conditions[0].Thresholds.Info == nil || pol.Spec.Conditions[0].Thresholds.Warning != nil {
			t.Errorf("%s is not info alone: %v", name, err)
		}
	}
}

// Of what happens to one workload, the more specific is told and the rest is
// muted, by name.
func TestTheMoreSpecificMutesTheGeneral(t *testing.T) {
	all, err := All()
	if err != nil {
		t.Fatal(err)
	}
	var rows []meta.Resource
	for _, p := range all {
		of, err := p.rows()
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, of[1:]...)
	}
	set, err := routing.Compile(rows)
	if err != nil {
		t.Fatal(err)
	}
	facts := func(preset, workload string) routing.Facts {
		return routing.Facts{ID: preset + workload, Labels: map[string]string{
			"policy": preset, "severity": "warning", "level": "pod", "cluster": "prod-1", "namespace": "shop", "workload_type": "deployment", "workload": workload, "node": "n-1",
		}}
	}
	firing := []routing.Facts{facts("pod-crash-loop", "cart"), facts("pod-not-ready", "cart"), facts("workload-replicas-missing", "cart"), facts("pod-not-ready", "search")}
	for i, want := range []string{"", "pod-crash-loop-explains", "pod-crash-loop-explains", ""} {
		muted := set.Muted(firing[i], firing, time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC))
		if (want == "") != (len(muted) == 0) || (want != "" && muted[0].Name != want) {
			t.Errorf("%s: muted by %+v, want %q", firing[i].ID, muted, want)
		}
	}
}

func TestInstall(t *testing.T) {
	db, err := meta.Open(filepath.Join(t.TempDir(), "meta.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ctx, now := context.Background(), time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	install := func() (byName map[string]meta.Resource) {
		t.Helper()
		if err := Install(ctx, db, now); err != nil {
			t.Fatal(err)
		}
		byName = map[string]meta.Resource{}
		if err := db.View(ctx, func(tx *meta.Tx) error {
			policies, err := tx.Resources(meta.KindPolicy)
			if err != nil {
				return err
			}
			inhibitions, err := tx.Resources(meta.KindInhibition)
			for _, r := range append(policies, inhibitions...) {
				byName[r.Name] = r
			}
			if _, bad := routing.Compile(inhibitions); bad != nil {
				t.Error(bad)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return byName
	}
	all, err := All()
	if err != nil {
		t.Fatal(err)
	}
	first := install()
	if len(first) < len(all) || first["pod-crash-loop-explains"].ManagedBy != Manager {
		t.Fatalf("%d rows of %d presets", len(first), len(all))
	}
	for name, r := range install() {
		if r.Revision != 1 {
			t.Errorf("%s was written again", name)
		}
	}
	change := func(name string, fn func(*meta.Tx, meta.Resource) error) {
		t.Helper()
		if err := db.Update(ctx, func(tx *meta.Tx) error { return fn(tx, first[name]) }); err != nil {
			t.Fatal(err)
		}
	}
	off := func(r meta.Resource) meta.Resource {
		r.Spec = []byte(strings.Replace(string(r.Spec), `"enabled":true`, `"enabled":false`, 1))
		return r
	}
	// One is switched off by its owner and one is of an older version, one is
	// taken over, one deleted.
	change("node-cpu", func(tx *meta.Tx, r meta.Resource) error {
		r = off(r)
		r.Spec = []byte(strings.Replace(string(r.Spec), `"warning":90`, `"warning":75`, 1))
		_, err := tx.UpdateResource(r)
		return err
	})
	change("node-memory", func(tx *meta.Tx, r meta.Resource) error {
		r.ManagedBy, r.Spec = "console", []byte(strings.Replace(string(r.Spec), `"warning":90`, `"warning":75`, 1))
		_, err := tx.UpdateResource(r)
		return err
	})
	change("node-inodes", func(tx *meta.Tx, r meta.Resource) error { return tx.RemoveResource(r, now, "somebody") })
	after := install()
	p, err := policy.FromRow(after["node-cpu"])
	if err != nil || p.IsEnabled() || *p.Spec.Conditions[0].Thresholds.Warning != 90 {
		t.Errorf("got %s, %v", after["node-cpu"].Spec, err)
	}
	if !strings.Contains(string(after["node-memory"].Spec), `"warning":75`) {
		t.Error("what somebody took over was changed")
	}
	if _, ok := after["node-inodes"]; ok {
		t.Error("what somebody deleted is back")
	}
}
