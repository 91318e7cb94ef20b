package engine

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/evaluate"
	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
)

// maxValues in an explanation.
const maxValues = 10

var opWords = map[string]string{">": "above", ">=": "at or above", "<": "below", "<=": "at or below", "==": "equal to", "!=": "other than"}

// conditionsView shows a policy's conditions with their newest values.
func conditionsView(c *compiled, rank int, windows [][]evaluate.Window) []incident.Condition {
	out := make([]incident.Condition, len(c.conditions))
	for i, cond := range c.conditions {
		threshold, _, _ := c.rule.Conditions[i].Threshold(rank)
		out[i] = incident.Condition{
			Metric: cond.Metric, Statistic: cond.Statistic, Period: cond.Period.String(), Op: cond.Op, Threshold: threshold,
			Need: cond.Need, Of: cond.Of, Unit: cond.unit(), Expr: cond.Expr, Query: cond.Query, Change: cond.Change, Forecast: cond.Forecast,
		}
		if cond.Query != "" {
			out[i].Statistic = "count"
		}
		if i >= len(windows) {
			continue
		}
		out[i].Holds = c.rule.Conditions[i].Holds(rank, windows[i])
		for _, w := range windows[i] {
			if !w.Missing {
				v := w.Value
				out[i].Value = &v
				break
			}
		}
	}
	return out
}

// main is the condition that is told first: one that holds, else the first.
func mainCondition(c *compiled, rank int, windows [][]evaluate.Window) int {
	for i := range c.conditions {
		if i < len(windows) && c.rule.Conditions[i].Holds(rank, windows[i]) {
			return i
		}
	}
	return 0
}

// title says what is wrong: "CPU of limit above 95 %".
func title(c *compiled, rank int, in evaluate.Input, state evaluate.State, onlySilent bool) string {
	i := mainCondition(c, rank, in.Windows)
	if onlySilent {
		return c.conditions[i].metric.Title + ": no data"
	}
	threshold, _, _ := c.rule.Conditions[i].Threshold(rank)
	cond := c.conditions[i]
	limit := policy.FormatValue(threshold, cond.unit())
	switch {
	case cond.Expr != "" && cond.Op == "":
		return cond.metric.Title + " has a result"
	case cond.Query != "" && (cond.Op == "<" && threshold <= 1 || (cond.Op == "<=" || cond.Op == "==") && threshold == 0):
		return fmt.Sprintf("no %s in %s", strings.ToLower(cond.metric.Title[:1])+cond.metric.Title[1:], cond.Period)
	case cond.Query != "":
		return fmt.Sprintf("%s %s %s in %s", cond.metric.Title, opWords[cond.Op], limit, cond.Period)
	case cond.Change != nil:
		return fmt.Sprintf("%s against %s ago changed by %s %s", cond.metric.Title, cond.Change.Against, opWords[cond.Op], limit)
	case cond.Forecast != nil:
		return fmt.Sprintf("%s will be %s %s in %s", cond.metric.Title, opWords[cond.Op], limit, cond.Forecast.Within)
	case cond.metric.Unit == catalogue.Bool:
		// "Ready equal to 0" is no sentence.
		if good := cond.Op == "==" && threshold == 0 || cond.Op == "<" || cond.Op == "!=" && threshold == 1; good {
			return "not " + strings.ToLower(cond.metric.Title)
		}
		return strings.ToLower(cond.metric.Title)
	}
	return fmt.Sprintf("%s %s %s", cond.metric.Title, opWords[cond.Op], limit)
}

// unit of what is compared.
func (c condition) unit() string {
	if c.Change != nil && c.Change.As == policy.ChangePercent {
		return string(catalogue.Percent)
	}
	return string(c.metric.Unit)
}

// what is compared, in words.
func (c condition) what() string {
	switch {
	case c.Expr != "":
		return "the expression"
	case c.Query != "":
		return fmt.Sprintf("the number of %s in %s", strings.ToLower(c.metric.Title[:1])+c.metric.Title[1:], c.Period)
	case c.Change != nil:
		return fmt.Sprintf("the change of the %s over %s against %s ago", c.Statistic, c.Period, c.Change.Against)
	case c.Forecast != nil:
		return fmt.Sprintf("the forecast for %s later", c.Forecast.Within)
	}
	return fmt.Sprintf("%s over %s", c.Statistic, c.Period)
}

// explain says why the alert fires: "avg over 1m was 96.2, 97.0 % in the last 2
// periods; critical above 95 %".
func explain(c *compiled, rank int, in evaluate.Input, state evaluate.State, onlySilent bool) string {
	if onlySilent {
		return fmt.Sprintf("no sample since %s, which is longer than %s", state.Newest.UTC().Format(time.RFC3339), policy.Duration(c.rule.NoDataAfter))
	}
	var parts []string
	for i, cond := range c.conditions {
		if i >= len(in.Windows) || (c.rule.Any && !c.rule.Conditions[i].Holds(rank, in.Windows[i]) && len(c.conditions) > 1) {
			continue
		}
		threshold, by, ok := c.rule.Conditions[i].Threshold(rank)
		if !ok {
			continue
		}
		text := sentence(cond, in.Windows[i], cond.Of)
		if cond.Expr != "" && cond.Op == "" {
			parts = append(parts, fmt.Sprintf("%s; %s while it has a result", text, by))
			continue
		}
		parts = append(parts, fmt.Sprintf("%s; %s %s %s", text, by, opWords[cond.Op], policy.FormatValue(threshold, cond.unit())))
	}
	if len(parts) == 0 {
		return "it has not recovered yet"
	}
	return strings.Join(parts, "; and ")
}

// explainEnd says why the alert ended.
func explainEnd(c *compiled, a *incident.Alert, in evaluate.Input, cause evaluate.Cause) string {
	words := incident.CauseWords(cause)
	if cause != evaluate.ValueNormal || c == nil || len(in.Windows) == 0 {
		return words
	}
	return words + ": " + sentence(c.conditions[0], in.Windows[0], c.rule.RecoverAfter)
}

// sentence lists the newest n values of a condition, the oldest first.
func sentence(cond condition, windows []evaluate.Window, n int) string {
	var values []string
	for _, w := range windows {
		if w.Missing {
			continue
		}
		if values = append(values, number(w.Value)); len(values) == n {
			break
		}
	}
	if len(values) == 0 {
		return cond.what() + " has no value"
	}
	total := len(values)
	periods := "period"
	if total > 1 {
		periods = fmt.Sprintf("%d periods", total)
	}
	if cond.Expr != "" && cond.Op == "" {
		return fmt.Sprintf("%s had %s in the last %s", cond.what(), results(values), periods)
	}
	values = values[:min(total, maxValues)]
	for i, j := 0, len(values)-1; i < j; i, j = i+1, j-1 {
		values[i], values[j] = values[j], values[i]
	}
	list := strings.Join(values, ", ")
	if total > maxValues {
		list = "…, " + list
	}
	unit := ""
	switch u := cond.unit(); u {
	case string(catalogue.Count), string(catalogue.Bool), "":
	default:
		unit = " " + u
	}
	return fmt.Sprintf("%s was %s%s in the last %s", cond.what(), list, unit, periods)
}

// results says how often an expression of which only the presence counts had one.
func results(values []string) string {
	had := 0
	for _, v := range values {
		if v != number(0) {
			had++
		}
	}
	switch had {
	case 0:
		return "no result"
	case len(values):
		return "a result"
	}
	return fmt.Sprintf("a result %d times", had)
}

func number(v float64) string {
	s := strconv.FormatFloat(v, 'g', 4, 64)
	if strings.Contains(s, "e") {
		s = strconv.FormatFloat(v, 'f', 0, 64)
	}
	return s
}

// annotate renders the policy's annotations. One that fails says so instead of
// keeping the alert from being told.
func annotate(c *compiled, a *incident.Alert) map[string]string {
	if len(c.templates) == 0 {
		return nil
	}
	o := a.Object
	d := policy.TemplateData{
		Policy: c.ref.Name, Severity: string(a.Severity), Dimensions: a.Dimensions, Labels: c.labels,
		Object: policy.TemplateObject{
			Level: string(o.Level), Cluster: o.Cluster, Namespace: o.Namespace, Node: o.Node,
			WorkloadType: o.WorkloadType, Workload: o.Workload, Pod: o.Pod, Container: o.Container,
			Service: o.Service, Volume: o.Volume, Component: o.Component,
		},
	}
	if len(a.Conditions) > 0 {
		first := a.Conditions[0]
		d.Threshold = policy.Quantity{Number: first.Threshold, Unit: first.Unit}
		if first.Value != nil {
			d.Value = policy.Quantity{Number: *first.Value, Unit: first.Unit}
		}
	}
	out := make(map[string]string, len(c.templates))
	for k, t := range c.templates {
		text, err := t.Render(d)
		if err != nil {
			text = "(this annotation cannot be shown: " + err.Error() + ")"
		}
		out[k] = text
	}
	return out
}
