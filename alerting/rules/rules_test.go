package rules

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"go.uber.org/goleak"
	"sigs.k8s.io/yaml"

	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
	"github.com/crowsnest-dev/crowsnest/storage/metrics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type receiver struct {
	mu  sync.Mutex
	got []incident.External
}

func (r *receiver) Received(_ context.Context, alerts []incident.External) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, alerts...)
	return nil
}

func (r *receiver) all() []incident.External {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]incident.External(nil), r.got...)
}

type world struct {
	t    *testing.T
	db   *metrics.DB
	rows *meta.DB
	got  *receiver
	dir  string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, got: &receiver{}, dir: t.TempDir()}
	var err error
	if w.db, err = metrics.Open(metrics.Options{Dir: filepath.Join(w.dir, "metrics"), MinFreeBytes: 1}); err != nil {
		t.Fatal(err)
	}
	if w.rows, err = meta.Open(filepath.Join(w.dir, "meta.db")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(w.db.Close(), w.rows.Close()); err != nil {
			t.Error(err)
		}
	})
	return w
}

// run starts a manager on the rule file, and gives its end.
func (w *world) run(o Options) (m *Manager, stop func()) {
	w.t.Helper()
	o.Store, o.Rows, o.Receiver, o.Registerer = w.db, w.rows, w.got, prometheus.NewRegistry()
	o.ExternalURL = "https://nest.example"
	m, err := New(o)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := m.Run(ctx); err != nil {
			w.t.Error(err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	w.t.Cleanup(stop)
	return m, stop
}

func (w *world) put(at time.Time, v float64, pairs ...string) {
	w.t.Helper()
	app := w.db.Appender(context.Background())
	if _, err := app.Append(0, labels.FromStrings(pairs...), at.UnixMilli(), v); err != nil {
		w.t.Fatal(err)
	}
	if err := app.Commit(); err != nil {
		w.t.Fatal(err)
	}
}

// value of the newest sample of a series within ten minutes.
func (w *world) value(query string) (v float64, ok bool) {
	w.t.Helper()
	e := promql.NewEngine(promql.EngineOpts{MaxSamples: 1e6, Timeout: time.Minute})
	q, err := e.NewInstantQuery(context.Background(), w.db, nil, query, time.Now())
	if err != nil {
		w.t.Fatal(err)
	}
	defer q.Close()
	vec, err := q.Exec(context.Background()).Vector()
	if err != nil || len(vec) == 0 {
		return 0, false
	}
	return vec[0].F, true
}

func (w *world) await(what string, ok func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("waited in vain for %s", what)
		}
	}
}

const groups = `
groups:
- name: shop
  interval: 100ms
  query_offset: 0s
  rules:
  - record: shop:load
    expr: sum(load)
  - alert: Overload
    expr: load > 5
    keep_firing_for: 1s
    labels: {severity: critical}
    annotations: {summary: "load is {{ $value }} on {{ $labels.pod }}"}
  - alert: Later
    expr: load > 5
    for: 1h
`

func TestRulesFromAFile(t *testing.T) {
	w := newWorld(t)
	path := filepath.Join(w.dir, "shop.yml")
	if err := os.WriteFile(path, []byte(groups), 0o644); err != nil {
		t.Fatal(err)
	}
	var posted sync.Map
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var alerts []struct{ Labels map[string]string }
		if json.NewDecoder(r.Body).Decode(&alerts) == nil && len(alerts) > 0 {
			posted.Store(r.URL.Path, alerts[0].Labels["alertname"])
		}
	}))
	defer other.Close()
	u, err := url.Parse(other.URL + "/am")
	if err != nil {
		t.Fatal(err)
	}
	w.put(time.Now().Add(-time.Second), 7, "__name__", "load", "pod", "cart-1")
	m, stop := w.run(Options{Files: []string{filepath.Join(w.dir, "*.yml"), filepath.Join(w.dir, "none.yml")}, Alertmanagers: []*url.URL{u}})
	w.await("the recording rule", func() bool { v, ok := w.value("shop:load"); return ok && v == 7 })
	w.await("the alert", func() bool { return len(w.got.all()) > 0 })
	a := w.got.all()[0]
	if a.Labels["alertname"] != "Overload" || a.Labels["severity"] != "critical" || a.Labels["pod"] != "cart-1" || a.Annotations["summary"] != "load is 7 on cart-1" || !a.EndsAt.After(time.Now()) || !strings.HasPrefix(a.GeneratorURL, "https://nest.example/") || !strings.Contains(a.Expr, "load") {
		t.Errorf("got %+v", a)
	}
	w.await("the series", func() bool {
		_, firing := w.value(`ALERTS{alertname="Overload",alertstate="firing"}`)
		_, pending := w.value(`ALERTS{alertname="Later",alertstate="pending"}`)
		_, since := w.value(`ALERTS_FOR_STATE{alertname="Later"}`)
		return firing && pending && since
	})
	w.await("the other Alertmanager", func() bool { v, ok := posted.Load("/am/api/v2/alerts"); return ok && v == "Overload" })
	if g := m.RuleGroups(); len(g) != 1 || g[0].Name() != "shop" || len(m.AlertingRules()) != 2 {
		t.Errorf("groups %v", g)
	}
	if p := m.Problems(); len(p) != 1 || p[filepath.Join(w.dir, "none.yml")] == "" {
		t.Errorf("problems %v", p)
	}
	// It goes on for keep_firing_for, then it ends.
	good := time.Now().Truncate(time.Millisecond)
	w.put(good, 1, "__name__", "load", "pod", "cart-1")
	var last incident.External
	w.await("the end", func() bool {
		all := w.got.all()
		last = all[len(all)-1]
		return last.Labels["alertname"] == "Overload" && last.EndsAt.Before(time.Now())
	})
	if kept := last.EndsAt.Sub(good); kept < time.Second {
		t.Errorf("it was kept firing for %s", kept)
	}
	w.put(time.Now(), 9, "__name__", "load", "pod", "cart-1")
	w.await("the one that waits", func() bool { _, ok := w.value(`ALERTS_FOR_STATE{alertname="Later"}`); return ok })
	stop()

	// After a restart an alert that waited goes on waiting from its own start:
	// here 20 min ago, as if it had waited so long.
	since := time.Now().Add(-20 * time.Minute)
	w.put(time.Now(), float64(since.Unix()), "__name__", "ALERTS_FOR_STATE", "alertname", "Later", "pod", "cart-1")
	w.put(time.Now(), 9, "__name__", "load", "pod", "cart-1")
	m, _ = w.run(Options{Files: []string{path}})
	w.await("the restored alert", func() bool {
		for _, r := range m.AlertingRules() {
			for _, a := range r.ActiveAlerts() {
				if r.Name() == "Later" && a.ActiveAt.Before(since.Add(10*time.Minute)) { // the time away does not count
					return true
				}
			}
		}
		return false
	})
}

func TestRulesFromTheAPI(t *testing.T) {
	w := newWorld(t)
	now := time.Now().UTC()
	set := func(text string) {
		t.Helper()
		var of RulesSpec
		if err := yaml.Unmarshal([]byte(text), &of); err != nil {
			t.Fatal(err)
		}
		spec, err := json.Marshal(of)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.rows.Update(context.Background(), func(tx *meta.Tx) error {
			r, err := tx.Resource(meta.KindRuleGroups, "default", "shop")
			if err != nil {
				return tx.CreateResource(meta.Resource{ID: "rul_1", Kind: meta.KindRuleGroups, Project: "default", Name: "shop", Spec: spec, ManagedBy: "console", CreatedAt: now, UpdatedAt: now})
			}
			r.Spec = spec
			_, err = tx.UpdateResource(r)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	set(groups)
	w.put(time.Now().Add(-time.Second), 7, "__name__", "load", "pod", "cart-1")
	m, _ := w.run(Options{})
	w.await("the rule", func() bool { _, ok := w.value("shop:load"); return ok })
	set(strings.Replace(groups, "shop:load", "shop:load:sum", 1))
	m.Changed()
	w.await("the changed rule", func() bool { _, ok := w.value("shop:load:sum"); return ok })
	// What is broken is reported; what ran goes on.
	set("groups: [{name: shop, rules: [{alert: A, expr: 'sum('}]}]")
	m.Changed()
	w.await("the problem", func() bool { return strings.Contains(m.Problem("shop"), "parse error") })
	if len(m.RuleGroups()) != 1 {
		t.Error("a broken file took the running rules away")
	}
}

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		groups: "", "groups: []": "at least one", "groups: [{name: a}, {name: a}]": "repeated", "x: 1": "not found", "groups: [{name: a, rules: [{alert: A, expr: '1 +'}, {record: 'a b', expr: '1 +'}]}]": "parse error",
		"groups: [{name: a, rules: [{alert: A, expr: up, annotations: {x: '{{ nope }}'}}]}]": "nope",
	} {
		_, err := Parse(text)
		if (err == nil) != (want == "") || (err != nil && (!strings.Contains(err.Error(), want) || !errors.Is(err, fault.ErrInvalid))) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestObject(t *testing.T) {
	o, err := Import("shop", groups)
	if err != nil || len(o.Spec.Groups) != 1 || len(o.Spec.Groups[0].Rules) != 3 || o.Spec.Groups[0].Rules[1].KeepFiringFor != "1s" {
		t.Fatalf("got %+v, %v", o, err)
	}
	if _, err := Import("bare", "groups: [{name: a, rules: [{alert: A, expr: 1}]}]"); err != nil {
		t.Error(err)
	}
	doc, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseObject(doc)
	if err != nil || again.Spec.Text() != o.Spec.Text() || again.Metadata.Project != "default" {
		t.Errorf("got %+v, %v", again, err)
	}
	for doc, want := range map[string]string{
		`{"apiVersion":"crowsnest.dev/v1","kind":"RuleGroups","metadata":{"name":"a"},"spec":{"groups":[{"name":"a","rules":[{"alert":"A","expr":"sum("}]}]}}`: "parse error",
		`{"apiVersion":"crowsnest.dev/v1","kind":"RuleGroups","metadata":{"name":"a"},"spec":{"groups":[]}}`:                                                   "at least one",
		`{"apiVersion":"crowsnest.dev/v1","kind":"RuleGroups","metadata":{"name":"a"},"spec":{"groups":[{"name":"a","rulez":[]}]}}`:                            "rulez",
		`{"kind":"Policy","spec":{}}`: "apiVersion",
	} {
		if _, err := ParseObject([]byte(doc)); !errors.Is(err, fault.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", doc, err)
		}
	}
}

// unittest.yml and rules.yml are promtool's own (prometheus v0.315.0,
// cmd/promtool/testdata); all of failing.yml must be found wrong.
func TestUnitTests(t *testing.T) {
	failures, err := Test(context.Background(), "testdata/unittest.yml")
	if err != nil || len(failures) > 0 {
		t.Errorf("got %v, %v", failures, err)
	}
	failures, err = Test(context.Background(), "testdata/failing.yml")
	if err != nil || len(failures) != 3 || !strings.Contains(failures[1], `{alertname="InstanceDown", instance="localhost:9090", job="prometheus", severity="page"}`) {
		t.Errorf("got %q, %v", failures, err)
	}
	for _, bad := range []string{"testdata/none.yml", "testdata/rules.yml"} {
		if _, err := Test(context.Background(), bad); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(groups)
	f.Fuzz(func(_ *testing.T, text string) { _, _ = Parse(text) })
}
