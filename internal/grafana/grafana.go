// Package grafana owns the Grafana dashboards that are derived from the catalogue. It
// must not know how the server answers: its queries are checked against the API by a
// test of package api.
package grafana

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
)

// Names are those of the dashboards.
var Names = []string{"cluster", "node", "workload", "pod", "logs", "alerts"}

// mostTargets is how many queries a panel has at most, by the letters that name them.
const mostTargets = 26

// Dashboard is one of Names as JSON, nil for any other. own are metrics that users added, which
// are drawn as the product's are, on the dashboard of their level.
func Dashboard(name string, own []catalogue.Metric) []byte {
	all := slices.Concat(catalogue.All(), own)
	var d dashboard
	switch name {
	case "cluster":
		d = ofLevel(all, name, "Cluster", "cluster")
	case "node":
		d = ofLevel(all, name, "Node", "cluster", "node")
	case "workload":
		d = ofLevel(all, name, "Workload", "cluster", "namespace", "workload_type", "workload")
	case "pod":
		d = ofLevel(all, name, "Pod", "cluster", "namespace", "pod")
	case "logs":
		d = logs()
	case "alerts":
		d = alerts(all)
	default:
		return nil
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(d); err != nil {
		panic("BUG: a dashboard of plain values cannot be written: " + err.Error())
	}
	return b.Bytes()
}

// What of Grafana's dashboard model is used; schema version 39 is Grafana 11's,
// and newer ones read it.
type dashboard struct {
	UID           string     `json:"uid"`
	Title         string     `json:"title"`
	Description   string     `json:"description"`
	Tags          []string   `json:"tags"`
	SchemaVersion int        `json:"schemaVersion"`
	Version       int        `json:"version"`
	Editable      bool       `json:"editable"`
	GraphTooltip  int        `json:"graphTooltip"` // 1: all panels share the cursor
	Refresh       string     `json:"refresh"`
	Timezone      string     `json:"timezone"`
	Time          timeRange  `json:"time"`
	Templating    templating `json:"templating"`
	Links         []link     `json:"links"`
	Panels        []panel    `json:"panels"`
}

type timeRange struct {
	From string `json:"from"`
	To   string `json:"to"`
}

type templating struct {
	List []variable `json:"list"`
}

type variable struct {
	Name       string      `json:"name"`
	Label      string      `json:"label"`
	Type       string      `json:"type"` // datasource | query | textbox
	Query      any         `json:"query"`
	Datasource *datasource `json:"datasource,omitempty"`
	Refresh    int         `json:"refresh,omitempty"` // 2: when the time range changes
	Sort       int         `json:"sort,omitempty"`    // 1: by name
	IncludeAll bool        `json:"includeAll,omitempty"`
	AllValue   string      `json:"allValue,omitempty"`
	Multi      bool        `json:"multi,omitempty"`
}

type link struct {
	Title       string   `json:"title"`
	Type        string   `json:"type"`
	Tags        []string `json:"tags"`
	AsDropdown  bool     `json:"asDropdown"`
	IncludeVars bool     `json:"includeVars"`
	KeepTime    bool     `json:"keepTime"`
}

type datasource struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

type panel struct {
	ID          int          `json:"id"`
	Type        string       `json:"type"`
	Title       string       `json:"title"`
	Description string       `json:"description,omitempty"`
	GridPos     grid         `json:"gridPos"`
	Datasource  *datasource  `json:"datasource,omitempty"`
	Targets     []target     `json:"targets,omitempty"`
	FieldConfig *fieldConfig `json:"fieldConfig,omitempty"`
	Options     any          `json:"options,omitempty"`
}

type grid struct {
	H int `json:"h"`
	W int `json:"w"`
	X int `json:"x"`
	Y int `json:"y"`
}

type target struct {
	RefID        string      `json:"refId"`
	Datasource   *datasource `json:"datasource"`
	Expr         string      `json:"expr"`
	LegendFormat string      `json:"legendFormat,omitempty"`
	Instant      bool        `json:"instant,omitempty"`
	Range        bool        `json:"range,omitempty"`
	Format       string      `json:"format,omitempty"`
	QueryType    string      `json:"queryType,omitempty"` // of VictoriaLogs: instant | statsRange
	MaxLines     int         `json:"maxLines,omitempty"`
}

type fieldConfig struct {
	Defaults  defaults `json:"defaults"`
	Overrides []any    `json:"overrides"`
}

type defaults struct {
	Unit   string         `json:"unit"`
	Min    *float64       `json:"min,omitempty"`
	Max    *float64       `json:"max,omitempty"`
	Custom map[string]any `json:"custom,omitempty"`
}

var (
	metricsSource = &datasource{"prometheus", "${metrics}"}
	logsSource    = &datasource{"victoriametrics-logs-datasource", "${logs}"}
)

// units are Grafana's names for ours.
var units = map[catalogue.Unit]string{
	catalogue.Percent: "percent", catalogue.Cores: "short", catalogue.Bytes: "bytes", catalogue.BytesPerSecond: "Bps", catalogue.PerSecond: "ops",
	catalogue.Seconds: "s", catalogue.Days: "d", catalogue.Count: "short", catalogue.Bool: "bool_yes_no",
}

func base(uid, title, description string) dashboard {
	return dashboard{
		UID: "crowsnest-" + uid, Title: "Crowsnest / " + title, Description: description, Tags: []string{"crowsnest"},
		SchemaVersion: 39, Version: 1, Editable: true, GraphTooltip: 1, Refresh: "30s", Timezone: "browser",
		Time:  timeRange{"now-3h", "now"},
		Links: []link{{Title: "Crowsnest", Type: "dashboards", Tags: []string{"crowsnest"}, AsDropdown: true, IncludeVars: true, KeepTime: true}},
		Templating: templating{[]variable{
			{Name: "metrics", Label: "Metrics", Type: "datasource", Query: "prometheus"},
		}},
	}
}

func logsVariable() variable {
	return variable{Name: "logs", Label: "Logs", Type: "datasource", Query: logsSource.Type}
}

// objectVariables offer what there is, each within those before it.
func objectVariables(level catalogue.Level, names []string) []variable {
	metric := ""
	for _, m := range catalogue.All() {
		if m.Level == level && m.Core && len(m.Dimensions) == 0 && m.Absent == "" {
			metric = m.Name // every object has it
			break
		}
	}
	if metric == "" {
		panic("BUG: no metric of level " + level + " that every object has")
	}
	out := make([]variable, len(names))
	for i, name := range names {
		out[i] = variable{
			Name: name, Label: strings.ReplaceAll(name, "_", " "), Type: "query", Datasource: metricsSource, Refresh: 2, Sort: 1,
			Query: map[string]any{"qryType": 1, "query": fmt.Sprintf("label_values(%s%s, %s)", metric, selector(names[:i]), name), "refId": "V"},
		}
	}
	return out
}

func selector(names []string) string {
	parts := make([]string, len(names))
	for i, n := range names {
		parts[i] = fmt.Sprintf("%s=%q", n, "$"+n)
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// ofLevel draws every chart of one level, those of one group and unit together.
func ofLevel(all []catalogue.Metric, uid, title string, names ...string) dashboard {
	level := catalogue.Level(uid)
	d := base(uid, title, "Every metric of the catalogue of one "+uid+". Generated from Crowsnest's catalogue.")
	d.Templating.List = append(d.Templating.List, objectVariables(level, names)...)
	type key struct {
		group string
		unit  catalogue.Unit
	}
	at := map[key]int{}
	var ofResources []catalogue.Metric
	for _, m := range all {
		if m.Level != level {
			continue
		}
		if m.Unit == catalogue.Count && slices.Contains(m.Dimensions, "resource") && m.Place != catalogue.ByServer {
			// Cores in one series and bytes in the next: each resource has its own axis.
			ofResources = append(ofResources, m)
			continue
		}
		k := key{m.Chart.Group, m.Unit}
		i, ok := at[k]
		if !ok || len(d.Panels[i].Targets) == mostTargets {
			i = len(d.Panels)
			at[k] = i
			d.Panels = append(d.Panels, chart(i, m))
		}
		p := &d.Panels[i]
		if len(p.Targets) > 0 {
			p.Title = groupTitle(m.Chart.Group)
			p.Description += "\n\n" + m.Help
		}
		p.Targets = append(p.Targets, target{
			RefID: string(rune('A' + len(p.Targets))), Datasource: metricsSource, Range: true,
			Expr: expr(m, selector(names), m.Dimensions), LegendFormat: legend(m),
		})
	}
	if len(ofResources) > 0 {
		for _, r := range resources {
			p := chart(len(d.Panels), ofResources[0])
			p.Title, p.Description, p.FieldConfig.Defaults.Unit = r.title, r.help, units[r.unit]
			for _, m := range ofResources {
				of := strings.TrimSuffix(selector(names), "}") + fmt.Sprintf(",resource=%q}", r.resource)
				p.Targets = append(p.Targets, target{RefID: string(rune('A' + len(p.Targets))), Datasource: metricsSource, Range: true, Expr: expr(m, of, nil), LegendFormat: m.Title})
			}
			d.Panels = append(d.Panels, p)
		}
	}
	return d
}

var resources = []struct {
	resource, title, help string
	unit                  catalogue.Unit
}{
	{"cpu", "CPU capacity", "Cores that are there for pods, that they request, and that they may use at most.", catalogue.Cores},
	{"memory", "Memory capacity", "Bytes that are there for pods, that they request, and that they may use at most.", catalogue.Bytes},
}

var groupTitles = map[string]string{
	"cpu": "CPU", "cpu_cores": "CPU cores", "tcp": "TCP", "fs": "Disk", "fs_times": "Disk operations", "hpa": "Autoscaler", "memory_bytes": "Memory",
}

func groupTitle(group string) string {
	if t, ok := groupTitles[group]; ok {
		return t
	}
	_, first := utf8.DecodeRuneInString(group)
	return strings.ToUpper(group[:first]) + strings.ReplaceAll(group[first:], "_", " ")
}

// chart is the i-th panel, three in a row.
func chart(i int, m catalogue.Metric) panel {
	zero := 0.0
	f := &fieldConfig{Defaults: defaults{Unit: units[m.Unit], Min: &zero, Custom: map[string]any{"spanNulls": false, "showPoints": "auto", "lineWidth": 1, "fillOpacity": 8}}, Overrides: []any{}}
	if m.Chart.Max > 0 {
		top := m.Chart.Max
		f.Defaults.Max = &top
	}
	if m.Kind == catalogue.Counter {
		f.Defaults.Custom["drawStyle"] = "bars"
	}
	return panel{
		ID: i + 1, Type: "timeseries", Title: m.Title, Description: m.Help, Datasource: metricsSource, FieldConfig: f,
		GridPos: grid{H: 8, W: 8, X: i % 3 * 8, Y: i / 3 * 8},
		Options: map[string]any{
			"legend":  map[string]any{"showLegend": true, "displayMode": "table", "placement": "bottom", "calcs": []string{"max", "lastNotNull"}},
			"tooltip": map[string]any{"mode": "multi", "sort": "desc"},
		},
	}
}

// expr asks for the metric's own statistic of each step, split by its
// dimensions alone: labels that change over an object's life do not cut a line.
func expr(m catalogue.Metric, selector string, split []string) string {
	series := m.Name + selector
	by := "max by (" + strings.Join(split, ", ") + ") "
	switch {
	case m.Kind == catalogue.Counter:
		return by + "(increase(" + series + "[$__rate_interval]))"
	case m.Unit == catalogue.Bool:
		return by + "(min_over_time(" + series + "[$__interval]))"
	case m.Statistic == catalogue.Max || m.Statistic == catalogue.Min || m.Statistic == catalogue.Last || m.Statistic == catalogue.Sum:
		return fmt.Sprintf("%s(%s_over_time(%s[$__interval]))", by, m.Statistic, series)
	}
	return by + "(avg_over_time(" + series + "[$__interval]))"
}

func legend(m catalogue.Metric) string {
	out := m.Title
	for _, d := range m.Dimensions {
		out += " {{" + d + "}}"
	}
	return out
}

const lineFilter = `cluster:in($cluster) namespace:in($namespace) -stream:="events"`

func logs() dashboard {
	d := base("logs", "Logs", "Lines of every container and the cluster's events. Generated from Crowsnest's catalogue.")
	d.Templating.List = append(d.Templating.List, logsVariable())
	for _, v := range objectVariables(catalogue.Workload, []string{"cluster", "namespace"}) {
		v.Multi, v.IncludeAll, v.AllValue = true, true, "*"
		if v.Name == "namespace" {
			v.Query = map[string]any{"qryType": 1, "query": "label_values(" + catalogue.WorkloadCPU + `{cluster=~"$cluster"}, namespace)`, "refId": "V"}
		}
		d.Templating.List = append(d.Templating.List, v)
	}
	d.Templating.List = append(d.Templating.List, variable{Name: "search", Label: "LogsQL", Type: "textbox", Query: "*"})
	of := func(query, queryType string, lines int) []target {
		return []target{{RefID: "A", Datasource: logsSource, Expr: query, QueryType: queryType, MaxLines: lines}}
	}
	lines := map[string]any{"showTime": true, "wrapLogMessage": true, "enableLogDetails": true, "sortOrder": "Descending", "dedupStrategy": "none"}
	stacked := &fieldConfig{Defaults: defaults{Unit: "short", Custom: map[string]any{"drawStyle": "bars", "fillOpacity": 80, "stacking": map[string]any{"mode": "normal"}}}, Overrides: []any{}}
	d.Panels = []panel{
		{ID: 1, Type: "timeseries", Title: "Lines by level", GridPos: grid{H: 6, W: 24}, Datasource: logsSource, FieldConfig: stacked, Targets: of(lineFilter+" ($search) | stats by (level) count() lines", "statsRange", 0)},
		{ID: 2, Type: "logs", Title: "Lines", GridPos: grid{H: 18, W: 24, Y: 6}, Datasource: logsSource, Options: lines, Targets: of(lineFilter+" ($search)", "instant", 1000)},
		{ID: 3, Type: "logs", Title: "Kubernetes events", GridPos: grid{H: 12, W: 24, Y: 24}, Datasource: logsSource, Options: lines, Targets: of(`cluster:in($cluster) stream:="events"`, "instant", 500)},
	}
	return d
}

// alerts shows what is beyond the thresholds that the catalogue gives, and the
// warnings of the clusters. Who was told of what is in the console, and by the
// Alertmanager data source in Grafana's own alerting pages.
func alerts(all []catalogue.Metric) dashboard {
	d := base("alerts", "Alerts", "What is beyond the catalogue's default thresholds now, and since when. Incidents are in Crowsnest's console, and by the Alertmanager data source under Alerting. Generated from Crowsnest's catalogue.")
	d.Templating.List = append(d.Templating.List, logsVariable())
	cluster := objectVariables(catalogue.Cluster, []string{"cluster"})[0]
	cluster.Multi, cluster.IncludeAll, cluster.AllValue = true, true, ".*"
	d.Templating.List = append(d.Templating.List, cluster)
	y := 0
	for _, level := range catalogue.Levels {
		var targets []target
		for _, m := range all {
			if m.Level != level || m.Alert == nil || len(targets) == mostTargets {
				continue
			}
			targets = append(targets, target{
				RefID: string(rune('A' + len(targets))), Datasource: metricsSource, Range: true, Expr: beyond(m),
				LegendFormat: m.Title + " " + m.Alert.Op + " " + fmt.Sprintf("%g", m.Alert.Threshold),
			})
		}
		if len(targets) == 0 {
			continue
		}
		d.Panels = append(d.Panels, panel{
			ID: len(d.Panels) + 1, Type: "timeseries", Title: groupTitle(string(level)) + "s beyond a threshold", Datasource: metricsSource, Targets: targets,
			Description: "How many are beyond each default threshold.", GridPos: grid{H: 8, W: 12, X: len(d.Panels) % 2 * 12, Y: y},
			FieldConfig: &fieldConfig{Defaults: defaults{Unit: "short", Custom: map[string]any{"drawStyle": "bars", "fillOpacity": 80, "stacking": map[string]any{"mode": "normal"}}}, Overrides: []any{}},
		})
		if len(d.Panels)%2 == 0 {
			y += 8
		}
	}
	if len(d.Panels)%2 == 1 {
		y += 8
	}
	d.Panels = append(d.Panels, panel{
		ID: len(d.Panels) + 1, Type: "logs", Title: "Warnings of the clusters", GridPos: grid{H: 12, W: 24, Y: y}, Datasource: logsSource,
		Targets: []target{{RefID: "A", Datasource: logsSource, Expr: `stream:="events" type:="Warning"`, QueryType: "instant", MaxLines: 500}},
	})
	return d
}

// beyond counts the objects that are beyond the metric's default threshold.
func beyond(m catalogue.Metric) string {
	a := m.Alert
	series, period := m.Name+`{cluster=~"$cluster"}`, duration(a.Period)
	value := fmt.Sprintf("avg_over_time(%s[%s])", series, period)
	switch a.Statistic {
	case catalogue.Increase:
		value = fmt.Sprintf("increase(%s[%s])", series, period)
	case catalogue.Max, catalogue.Min, catalogue.Sum, catalogue.Last:
		value = fmt.Sprintf("%s_over_time(%s[%s])", a.Statistic, series, period)
	}
	return fmt.Sprintf("count(%s %s %g)", value, a.Op, a.Threshold)
}

func duration(d time.Duration) string {
	return fmt.Sprintf("%ds", int(d.Seconds()))
}
