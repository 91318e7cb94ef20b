package boards

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/promql/parser"

	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// What a panel can be.
const (
	PanelChart = "chart" // metrics of the catalogue of one object
	PanelQuery = "query" // PromQL, as a chart or a table
	PanelTable = "table" // objects
	PanelLogs  = "logs"  // LogsQL
)

var (
	panelKinds = []string{PanelChart, PanelQuery, PanelTable, PanelLogs}
	tablesOf   = []string{"clusters", "nodes", "workloads", "pods", "incidents"}
	views      = []string{"chart", "table"}
)

const (
	maxPanels  = 60
	maxMetrics = 12
	maxTitle   = 120
	maxText    = 2000
	maxQuery   = 8192
)

// Board is what a user pinned, with its name. It can be exported and imported
// as it is.
type Board struct {
	APIVersion string          `json:"apiVersion" enum:"crowsnest.dev/v1"`
	Kind       string          `json:"kind" enum:"Board"`
	Metadata   policy.Metadata `json:"metadata"`
	Spec       BoardSpec       `json:"spec"`
}

// BoardSpec is what a board shows.
type BoardSpec struct {
	Title       string       `json:"title" doc:"For people, 1 to 120 characters."`
	Description string       `json:"description,omitempty"`
	Panels      []BoardPanel `json:"panels" nullable:"false" doc:"From the upper left on; at most 60."`
}

// BoardPanel is one question and how its answer is drawn.
type BoardPanel struct {
	Title   string            `json:"title" doc:"1 to 120 characters."`
	Kind    string            `json:"kind" enum:"chart,query,table,logs" doc:"chart: metrics of the catalogue of one object. query: PromQL. table: objects. logs: LogsQL."`
	Wide    bool              `json:"wide,omitempty" doc:"As wide as the board."`
	Metrics []string          `json:"metrics,omitempty" doc:"Of a chart: metrics of the catalogue, all of one level."`
	Object  map[string]string `json:"object,omitempty" doc:"Of a chart or a table: the labels that say of what."`
	By      []string          `json:"by,omitempty" doc:"Of a chart: labels that split it into lines."`
	Query   string            `json:"query,omitempty" doc:"Of a query: PromQL. Of logs: LogsQL."`
	View    string            `json:"view,omitempty" enum:"chart,table" doc:"Of a query. Left out: chart."`
	Of      string            `json:"of,omitempty" enum:"clusters,nodes,workloads,pods,incidents" doc:"Of a table: which objects."`
	Filter  string            `json:"filter,omitempty" doc:"Of a table: what rows must contain."`
	Sort    string            `json:"sort,omitempty" doc:"Of a table: the column, with - before it for the largest first."`
}

// Parse reads and validates a board; every wrong field comes back at once, as
// fault.Fields.
func Parse(document []byte) (*Board, error) {
	var b Board
	fields, err := policy.Decode(document, &b)
	if err != nil {
		return nil, fmt.Errorf("read board: %w", err)
	}
	c := check{fields}
	if b.APIVersion != policy.APIVersion {
		c.Say("apiVersion", fault.Say(fault.MustBe, policy.APIVersion), b.APIVersion)
	}
	if b.Kind != meta.KindBoard {
		c.Say("kind", fault.Say(fault.MustBe, meta.KindBoard), b.Kind)
	}
	policy.ValidateMetadata(&c.Fields, &b.Metadata)
	if b.Metadata.Project == "" {
		b.Metadata.Project = policy.DefaultProject
	}
	c.text("spec.title", b.Spec.Title, 1, maxTitle)
	c.text("spec.description", b.Spec.Description, 0, maxText)
	if len(b.Spec.Panels) > maxPanels {
		c.Say("spec.panels", fault.Say(fault.CountAtMost, maxPanels), len(b.Spec.Panels))
		return nil, c.err(b.Metadata.Name)
	}
	for i := range b.Spec.Panels {
		c.panel(fmt.Sprintf("spec.panels[%d]", i), &b.Spec.Panels[i])
	}
	if b.Spec.Panels == nil {
		b.Spec.Panels = []BoardPanel{}
	}
	return &b, c.err(b.Metadata.Name)
}

type check struct{ fault.Fields }

func (c *check) err(name string) error {
	if err := c.Err(); err != nil {
		return fmt.Errorf("board %q: %w", name, err)
	}
	return nil
}

func (c *check) text(path, s string, least, most int) {
	switch n := len([]rune(s)); {
	case n < least:
		c.Say(path, fault.Say(fault.Required), nil)
	case n > most:
		c.Say(path, fault.Say(fault.CharactersAtMost, most), n)
	}
}

func (c *check) oneOf(path, s string, allowed []string) {
	if !slices.Contains(allowed, s) {
		c.Say(path, fault.Say(fault.OneOf, strings.Join(allowed, ", ")), s)
	}
}

// belongs refuses what a panel of another kind has.
func (c *check) belongs(path, kind string, given bool, kinds ...string) {
	if given && !slices.Contains(kinds, kind) {
		c.Say(path, fault.Say(fault.PanelOther, kind, strings.Join(kinds, ", ")), nil)
	}
}

func (c *check) panel(at string, p *BoardPanel) {
	c.text(at+".title", p.Title, 1, maxTitle)
	c.oneOf(at+".kind", p.Kind, panelKinds)
	if !slices.Contains(panelKinds, p.Kind) {
		return
	}
	c.belongs(at+".metrics", p.Kind, p.Metrics != nil, PanelChart)
	c.belongs(at+".by", p.Kind, p.By != nil, PanelChart)
	c.belongs(at+".object", p.Kind, p.Object != nil, PanelChart, PanelTable)
	c.belongs(at+".query", p.Kind, p.Query != "", PanelQuery, PanelLogs)
	c.belongs(at+".view", p.Kind, p.View != "", PanelQuery)
	c.belongs(at+".of", p.Kind, p.Of != "", PanelTable)
	c.belongs(at+".filter", p.Kind, p.Filter != "", PanelTable)
	c.belongs(at+".sort", p.Kind, p.Sort != "", PanelTable)
	c.text(at+".filter", p.Filter, 0, maxTitle)
	c.text(at+".sort", p.Sort, 0, maxTitle)
	for _, k := range sortedKeys(p.Object) {
		c.text(at+".object."+k, p.Object[k], 1, maxText)
	}
	switch p.Kind {
	case PanelChart:
		c.chart(at, p)
	case PanelQuery:
		c.text(at+".query", p.Query, 1, maxQuery)
		if p.View != "" {
			c.oneOf(at+".view", p.View, views)
		}
		if p.Query != "" && len(p.Query) <= maxQuery {
			if _, err := parser.NewParser(parser.Options{}).ParseExpr(p.Query); err != nil {
				c.Say(at+".query", fault.Say(fault.QueryPromQL, err.Error()), p.Query)
			}
		}
	case PanelTable:
		c.oneOf(at+".of", p.Of, tablesOf)
		for _, k := range sortedKeys(p.Object) {
			if !slices.Contains([]string{"cluster", "namespace", "node", "workload_type", "workload"}, k) {
				c.Say(at+".object."+k, fault.Say(fault.TableNarrowed), k)
			}
		}
		if p.Of != "clusters" && p.Of != "incidents" && p.Object["cluster"] == "" {
			c.Say(at+".object.cluster", fault.Say(fault.Required), nil)
		}
	case PanelLogs:
		c.text(at+".query", p.Query, 1, maxQuery)
	}
}

func (c *check) chart(at string, p *BoardPanel) {
	if len(p.Metrics) == 0 || len(p.Metrics) > maxMetrics {
		c.Say(at+".metrics", fault.Say(fault.MetricsBetween, maxMetrics), len(p.Metrics))
		return
	}
	var level catalogue.Level
	labels := []string{}
	for i, name := range p.Metrics {
		path := fmt.Sprintf("%s.metrics[%d]", at, i)
		m, ok := catalogue.Get(name)
		if !ok {
			reason := fault.Say(fault.ChartMetric)
			if near := catalogue.Nearest(name); near != "" {
				reason = fault.Say(fault.ChartMetricNear, near)
			}
			c.Say(path, reason, name)
			return
		}
		if level == "" {
			level = m.Level
		} else if m.Level != level {
			c.Say(path, fault.Say(fault.ChartLevel, m.Level, level), name)
			return
		}
		labels = append(labels, m.Labels()...)
	}
	for _, k := range sortedKeys(p.Object) {
		if !slices.Contains(labels, k) {
			c.Say(at+".object."+k, fault.Say(fault.ChartLabel, level), k)
		}
	}
	for i, k := range p.By {
		if !slices.Contains(labels, k) {
			c.Say(fmt.Sprintf("%s.by[%d]", at, i), fault.Say(fault.ChartLabel, level), k)
		}
	}
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

func fromRow(r meta.Resource) (Board, error) {
	b := Board{APIVersion: policy.APIVersion, Kind: r.Kind, Metadata: policy.MetadataOf(r)}
	if err := json.Unmarshal(r.Spec, &b.Spec); err != nil {
		return b, fmt.Errorf("read board %q: %w", r.Name, err)
	}
	return b, nil
}
