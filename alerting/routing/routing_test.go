package routing

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

var now = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

func row(t *testing.T, kind, name string, spec any) meta.Resource {
	t.Helper()
	b, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	return meta.Resource{Kind: kind, Name: name, Spec: b}
}

func facts(pairs ...string) Facts {
	f := Facts{ID: strings.Join(pairs, ","), Labels: map[string]string{}}
	for i := 0; i < len(pairs); i += 2 {
		f.Labels[pairs[i]] = pairs[i+1]
	}
	return f
}

func TestWrongFieldsAreToldAllAtOnce(t *testing.T) {
	head := "apiVersion: crowsnest.dev/v1\nmetadata: {name: a}\n"
	known := Known{Now: now, Targets: []string{"hook"}}
	for _, c := range []struct {
		doc   string
		parse func([]byte, Known) error
		want  []string
	}{
		{
			"kind: Silence\nspec: {matchers: ['team=', 'team=~\"(\"', 'x'], until: 2026-11-22T00:00:00Z, speed: 1}",
			func(b []byte, k Known) error { _, err := ParseSilence(b, k); return err },
			[]string{"spec.matchers[1]", "spec.matchers[2]", "spec.until: must be after from", "spec.speed: unknown key"},
		},
		{
			"kind: Silence\nspec: {matchers: ['team=~\".*\"'], until: 2028-11-24T00:00:00Z}",
			func(b []byte, k Known) error { _, err := ParseSilence(b, k); return err },
			[]string{"everything would be muted", "at most 366 days"},
		},
		{
			"kind: Maintenance\nspec: {matchers: ['team=\"a\"'], rrule: FREQ=SECONDLY, timezone: Mars/Olympus, duration: 1s}",
			func(b []byte, k Known) error { _, err := ParseMaintenance(b, k); return err },
			[]string{"spec.timezone: must be the name of an IANA time zone", "spec.duration"},
		},
		{
			"kind: Maintenance\nspec: {matchers: ['team=\"a\"'], rrule: FREQ=SECONDLY, duration: 1h}",
			func(b []byte, k Known) error { _, err := ParseMaintenance(b, k); return err },
			[]string{"spec.rrule", "HOURLY"},
		},
		{
			"kind: Maintenance\nspec: {matchers: ['team=\"a\"'], rrule: FREQ=HOURLY, duration: 1h, starts: 1996-01-01T00:00:00Z}",
			func(b []byte, k Known) error { _, err := ParseMaintenance(b, k); return err },
			[]string{"spec.starts: must be within the last 10 years"},
		},
		{
			"kind: Maintenance\nspec: {matchers: ['team=\"a\"'], rrule: FREQ=HOURLY, duration: 2h}",
			func(b []byte, k Known) error { _, err := ParseMaintenance(b, k); return err },
			[]string{"spec.duration: must be at most 1h0m0s"},
		},
		{
			"kind: Route\nspec: {targets: [nobody], severities: [bad], default: true}",
			func(b []byte, k Known) error { _, err := ParseRoute(b, k); return err },
			[]string{"spec.targets[0]", "spec.severities[0]", "spec.default"},
		},
		{
			"kind: Inhibition\nspec: {source: [], target: ['a=\"b\"']}",
			func(b []byte, k Known) error { _, err := ParseInhibition(b, k); return err },
			[]string{"spec.source: at least one is required"},
		},
	} {
		err := c.parse([]byte(head+c.doc), known)
		for _, w := range c.want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%s\nis said to be %v, which does not name %s", c.doc, err, w)
			}
		}
	}
}

func TestRoutes(t *testing.T) {
	set, err := Compile([]meta.Resource{
		row(t, meta.KindRoute, "rest", map[string]any{"default": true, "targets": []string{"all"}}),
		row(t, meta.KindRoute, "b", map[string]any{"order": 2, "policies": []string{"cart-*"}, "targets": []string{"second"}}),
		row(t, meta.KindRoute, "a", map[string]any{"order": 1, "matchers": []string{`team="shop"`}, "targets": []string{"first"}, "continue": true}),
		row(t, meta.KindRoute, "c", map[string]any{"order": 3, "targets": []string{"third"}, "clusters": []string{"edge-*"}}),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		f    Facts
		want string
	}{
		{facts("team", "shop", "policy", "cart-cpu", "cluster", "edge-1"), "first second"},
		{facts("team", "shop", "policy", "other", "cluster", "edge-1"), "first third"},
		{facts("policy", "other", "cluster", "edge-1"), "third"},
		{facts("policy", "other", "cluster", "prod-1"), "all"},
		{facts("team", "shop", "policy", "other", "cluster", "prod-1"), "first"},
	} {
		var got []string
		for _, r := range set.Targets(c.f) {
			got = append(got, r.Name)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%v goes to %v, want %s", c.f.Labels, got, c.want)
		}
	}
}

func TestDefaultInhibitions(t *testing.T) {
	set, err := Compile(nil)
	if err != nil {
		t.Fatal(err)
	}
	node := facts("level", "node", "node", "n-1", "cluster", "prod-1", "metric", "k8s_node_status_ready", "severity", "critical")
	away := facts("level", "cluster", "cluster", "prod-1", "mutes", "cluster", "severity", "critical")
	pod := facts("level", "pod", "pod", "p", "node", "n-1", "cluster", "prod-1", "severity", "warning", "metric", "m")
	worse := facts("level", "pod", "pod", "p", "node", "n-1", "cluster", "prod-1", "severity", "critical", "metric", "m")
	other := facts("level", "pod", "pod", "p", "node", "n-1", "cluster", "prod-1", "severity", "critical", "metric", "x")
	elsewhere := facts("level", "pod", "pod", "p", "node", "n-2", "cluster", "prod-2", "severity", "warning", "metric", "m")
	for _, c := range []struct {
		f      Facts
		firing []Facts
		want   string
	}{
		{pod, []Facts{pod, node}, "node-down"},
		{pod, []Facts{pod, away}, "cluster-unreachable"},
		{pod, []Facts{pod, worse}, "severities"},
		{pod, []Facts{pod, other}, ""},
		{elsewhere, []Facts{elsewhere, node, away, worse}, ""},
		{away, []Facts{away, node}, ""},
		{node, []Facts{node, pod}, ""},
	} {
		var got []string
		for _, m := range set.Muted(c.f, c.firing, now) {
			got = append(got, m.Name)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%v is muted by %v, want %s", c.f.Labels, got, c.want)
		}
	}
	// Two file systems of one node are not one object.
	disk := func(severity, mountpoint string) Facts {
		f := facts("level", "node", "node", "n-1", "cluster", "prod-1", "metric", "fs", "severity", severity, "mountpoint", mountpoint)
		f.Dimensions = map[string]string{"mountpoint": mountpoint}
		return f
	}
	full := disk("critical", "/var")
	for mountpoint, want := range map[string]int{"/var": 1, "/data": 0} {
		if m := set.Muted(disk("warning", mountpoint), []Facts{disk("warning", mountpoint), full}, now); len(m) != want {
			t.Errorf("%s is muted by %v, want %d", mountpoint, m, want)
		}
	}
	off := false
	set, err = Compile([]meta.Resource{row(t, meta.KindInhibition, "node-down", InhibitionSpec{Enabled: &off})})
	if err != nil {
		t.Fatal(err)
	}
	if m := set.Muted(pod, []Facts{node}, now); len(m) != 0 {
		t.Errorf("switched off, it mutes: %v", m)
	}
}

// 02:30 in Berlin: skipped on 28 March 2027, there twice on 31 October.
func TestDaylightSaving(t *testing.T) {
	starts := time.Date(2027, 3, 26, 0, 0, 0, 0, time.UTC)
	spec := MaintenanceSpec{RRule: "FREQ=DAILY;BYHOUR=2;BYMINUTE=30;BYSECOND=0", Timezone: "Europe/Berlin", Starts: &starts}
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	show := func(after time.Time) string {
		next, err := Preview(spec, after)
		if err != nil || len(next) != 5 {
			t.Fatalf("%v %v", next, err)
		}
		var out []string
		for _, n := range next {
			out = append(out, n.In(berlin).Format("02 15:04 -07"))
		}
		return strings.Join(out, ", ")
	}
	if got, want := show(starts), "26 02:30 +01, 27 02:30 +01, 28 03:30 +02, 29 02:30 +02, 30 02:30 +02"; got != want {
		t.Errorf("in spring %s, want %s", got, want)
	}
	if got, want := show(time.Date(2027, 10, 29, 12, 0, 0, 0, time.UTC)), "30 02:30 +02, 31 02:30 +02, 01 02:30 +01, 02 02:30 +01, 03 02:30 +01"; got != want {
		t.Errorf("in autumn %s, want %s", got, want)
	}
	// What happens every hour leaves no hour out, and none comes twice.
	spec.RRule = "FREQ=HOURLY;BYMINUTE=0,30;BYSECOND=0"
	if got, want := show(time.Date(2027, 3, 28, 0, 15, 0, 0, time.UTC)), "28 01:30 +01, 28 03:00 +02, 28 03:30 +02, 28 04:00 +02, 28 04:30 +02"; got != want {
		t.Errorf("hourly in spring %s, want %s", got, want)
	}
	if got, want := show(time.Date(2027, 10, 30, 23, 45, 0, 0, time.UTC)), "31 02:00 +02, 31 02:30 +02, 31 02:00 +01, 31 02:30 +01, 31 03:00 +01"; got != want {
		t.Errorf("hourly in autumn %s, want %s", got, want)
	}
	spec.RRule, spec.Duration = "FREQ=HOURLY;BYMINUTE=0;BYSECOND=0", policy.Duration(time.Hour)
	autumn := time.Date(2027, 10, 30, 0, 0, 0, 0, time.UTC)
	spec.Starts = &autumn
	for at := time.Date(2027, 10, 30, 22, 0, 0, 0, time.UTC); at.Month() == time.October; at = at.Add(10 * time.Minute) {
		if _, active := Active(spec, at); !active {
			t.Errorf("every hour for an hour, but not at %s", at.In(berlin))
		}
	}
	spec.Timezone, spec.Starts = "Australia/Lord_Howe", &starts // half an hour is there twice on 4 April
	spec.RRule = "FREQ=DAILY;BYHOUR=1;BYMINUTE=45;BYSECOND=0"
	if next, err := Preview(spec, time.Date(2027, 4, 3, 0, 0, 0, 0, time.UTC)); err != nil || !next[0].Equal(time.Date(2027, 4, 3, 14, 45, 0, 0, time.UTC)) {
		t.Errorf("on Lord Howe at %v, %v", next, err)
	}
}

// A rule without end is walked through once, not from its beginning each time.
func TestLongRules(t *testing.T) {
	starts := now.Add(-9 * 365 * 24 * time.Hour)
	set, err := Compile([]meta.Resource{row(t, meta.KindMaintenance, "m", map[string]any{
		"matchers": []string{`team="shop"`}, "rrule": "FREQ=HOURLY;BYMINUTE=0;BYSECOND=0", "starts": starts, "duration": "10m",
	})})
	if err != nil {
		t.Fatal(err)
	}
	f := facts("team", "shop")
	var got []string
	for i := range 8 {
		at := now.Add(time.Duration(i) * 10 * time.Minute)
		got = append(got, fmt.Sprint(len(set.Muted(f, nil, at))))
	}
	if strings.Join(got, "") != "10000010" {
		t.Errorf("muted at %v", got)
	}
	if len(set.Muted(f, nil, now)) != 1 { // back in time, as a backtest goes
		t.Error("not muted when asked again")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"apiVersion":"crowsnest.dev/v1","kind":"Maintenance","metadata":{"name":"a"},"spec":{"matchers":["a=\"b\""],"rrule":"FREQ=DAILY","duration":"1h"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 4096 {
			return
		}
		known := Known{Now: now}
		if o, err := ParseMaintenance(b, known); err == nil {
			if _, err := Preview(o.Spec, now); err != nil {
				t.Errorf("%q was taken and cannot be shown: %v", b, err)
			}
		}
		_, _ = ParseSilence(b, known)
		_, _ = ParseRoute(b, known)
		_, _ = ParseInhibition(b, known)
	})
}

// Expressions that explode in other engines are refused or cost next to nothing,
// whatever label they meet.
func TestExpressionsThatExplode(t *testing.T) {
	known := Known{Now: now}
	long := strings.Repeat("x", 4096)
	for _, expr := range []string{
		"(x+x+)+y", "(x|x|x)*y", "(.*)*(.*)*(.*)*y", "((a{100}){100}){100}", "(((((x?){30}){30}){30}){30}){30}", strings.Repeat("(", 2000) + "x" + strings.Repeat(")", 2000), strings.Repeat("x?", 1000) + strings.Repeat("x", 1000),
	} {
		began := time.Now()
		spec, err := json.Marshal(map[string]any{
			"apiVersion": "crowsnest.dev/v1", "kind": "Silence", "metadata": map[string]any{"name": "a"},
			"spec": map[string]any{"matchers": []string{`team="shop"`, `pod=~"` + expr + `"`}, "until": now.Add(time.Hour)},
		})
		if err != nil {
			t.Fatal(err)
		}
		o, err := ParseSilence(spec, known)
		if err == nil {
			set, err := Compile([]meta.Resource{row(t, meta.KindSilence, "a", o.Spec)})
			if err != nil {
				t.Errorf("%.40s: taken and then not read: %v", expr, err)
				continue
			}
			for range 10 {
				set.Muted(facts("team", "shop", "pod", long), nil, now)
			}
		} else if !strings.Contains(err.Error(), "spec.matchers[1]") || len(err.Error()) > 6000 {
			t.Errorf("%.40s: refused with %.200v", expr, err)
		}
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("%.40s: took %s, refused: %v", expr, took, err)
		}
	}
}

// A rule without an end, and one that never happens, cost a bounded walk.
func TestRulesThatNeverEndOrBegin(t *testing.T) {
	starts := now.Add(-9 * 365 * 24 * time.Hour)
	for rule, many := range map[string]int{
		"FREQ=HOURLY;BYMINUTE=0": previewed, "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30": 0, "FREQ=DAILY;INTERVAL=100000": 1,
		"FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29": previewed,
	} {
		began := time.Now()
		spec := MaintenanceSpec{RRule: rule, Timezone: "Europe/Berlin", Starts: &starts}
		next, err := Preview(spec, now)
		if err != nil || (many == 0) != (len(next) == 0) || (many == previewed && len(next) != previewed) {
			t.Errorf("%s: %v, %v", rule, next, err)
		}
		_, _ = Active(spec, now)
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("%s: took %s", rule, took)
		}
	}
}
