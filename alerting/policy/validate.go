package policy

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/promql/parser"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// Bounds of a policy.
const (
	MaxPeriod       = 24 * time.Hour
	MaxSpan         = 7 * 24 * time.Hour // of × period
	MaxOf           = 60
	maxConditions   = 8
	maxList         = 64  // entries of any list
	maxText         = 253 // characters of a glob or a label
	maxLabels       = 32
	maxAnnotations  = 16
	maxRecoverAfter = 60
	maxMinAge       = 7 * 24 * time.Hour
	maxWait         = time.Hour
	maxExpr         = 8 << 10
	maxForecast     = 30 * 24 * time.Hour
	minForecastFrom = 5 * time.Minute
	maxForecastFrom = 7 * 24 * time.Hour
	minRepeat       = time.Minute
	maxRepeat       = 7 * 24 * time.Hour
	maxBackoff      = 10
	maxEscalations  = 8
	maxAtLeast      = 1_000_000
)

// Defaults of what is left out.
const (
	DefaultRecoverAfter  = 2
	DefaultNoDataAfter   = 5 * time.Minute
	DefaultGroupInterval = 5 * time.Minute
)

// minPercentileSamples is how many samples a window needs for its p95 or p99.
const minPercentileSamples = 20

// Intervals are those that a cluster can have.
var intervals = []time.Duration{10 * time.Second, 15 * time.Second, 30 * time.Second, time.Minute}

// levels that are evaluated: those that the catalogue has metrics of, lines,
// events and promql.
var levels = func() (out []string) {
	for _, l := range catalogue.Levels {
		if slices.ContainsFunc(catalogue.All(), func(m catalogue.Metric) bool { return m.Level == l }) {
			out = append(out, string(l))
		}
	}
	return append(out, LevelLog, LevelEvent, LevelPromQL)
}()

// By which objects lines and events can be counted: those that the log store
// tells apart.
var (
	lineGroups  = words([]catalogue.Level{catalogue.Cluster, catalogue.Namespace, catalogue.Workload, catalogue.Pod, catalogue.Container, catalogue.Node})
	eventGroups = words([]catalogue.Level{catalogue.Cluster, catalogue.Namespace, catalogue.Node})
)

var (
	ops        = []string{">", ">=", "<", "<=", "==", "!="}
	groupWords = []string{"cluster", "namespace", "node", "workload", "service", "pod", "container", "volume", "component", "policy"}
	severities = words(catalogue.Severities)
	statistics = words(catalogue.Statistics)
)

var (
	nameRE  = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)
	labelRE = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._/-]{0,251}[A-Za-z0-9])?$`)
)

// Known is what a validation may ask about the server; the zero value knows
// nothing, and nothing is refused for it.
type Known struct {
	// Targets are the names of the targets that exist; nil: not asked.
	Targets []string
	// Intervals of the clusters that send, by cluster id.
	Intervals map[string]time.Duration
	// ClusterLabels by cluster id.
	ClusterLabels map[string]map[string]string
	// CheckFilter says what is wrong with a LogsQL filter; nil: not asked.
	CheckFilter func(filter string) error
}

// Parse reads a policy, fills what was left out and validates it. What is wrong
// comes back all at once as fault.Fields.
func Parse(document []byte, known Known) (*Policy, error) {
	var p Policy
	fields, err := Decode(document, &p)
	if err != nil {
		return nil, fmt.Errorf("read policy: %w", err)
	}
	v := validation{fields: fields, known: known}
	v.policy(&p)
	if err := v.fields.Err(); err != nil {
		return nil, fmt.Errorf("policy %q: %w", p.Metadata.Name, err)
	}
	return &p, nil
}

// Complete fills what was left out.
func (p *Policy) Complete() {
	if p.Metadata.Project == "" {
		p.Metadata.Project = DefaultProject
	}
	s := &p.Spec
	if s.Enabled == nil {
		on := true
		s.Enabled = &on
	}
	if s.Combine == "" {
		s.Combine = "all"
	}
	if s.RecoverAfter == 0 {
		s.RecoverAfter = DefaultRecoverAfter
	}
	if s.NoData == nil {
		s.NoData = &NoData{}
	}
	if s.NoData.Action == "" {
		s.NoData.Action = NoDataKeep
	}
	if s.NoData.Severity == "" {
		s.NoData.Severity = string(catalogue.Warning)
	}
	if s.NoData.After == 0 {
		s.NoData.After = Duration(DefaultNoDataAfter)
	}
	if s.Group == nil {
		s.Group = &Group{}
	}
	if s.Group.Interval == 0 {
		s.Group.Interval = Duration(DefaultGroupInterval)
	}
	if n := s.Notify; n != nil && n.Repeat != nil {
		if n.Repeat.Backoff == 0 {
			n.Repeat.Backoff = 1
		}
		if n.Repeat.Max == 0 {
			n.Repeat.Max = max(Duration(24*time.Hour), n.Repeat.Every)
		}
	}
	for i := range s.Conditions {
		c := &s.Conditions[i]
		if m, ok := catalogue.Get(c.Metric); ok && c.Statistic == "" {
			c.Statistic = string(m.Statistic)
		}
		if c.Change != nil && c.Change.As == "" {
			c.Change.As = ChangeAbsolute
		}
		if c.Forecast != nil && c.Forecast.From == 0 {
			c.Forecast.From = max(Duration(minForecastFrom), min(Duration(maxForecastFrom), c.Forecast.Within/4))
		}
		if s.Lines() && c.GroupBy == "" {
			if c.GroupBy = s.Conditions[0].GroupBy; c.GroupBy == "" { // of the first one itself
				c.GroupBy = map[string]string{LevelLog: string(catalogue.Workload), LevelEvent: string(catalogue.Namespace)}[s.Level]
			}
		}
		if c.Expr != "" && c.Op == "" && c.Severity == "" {
			c.Severity = string(catalogue.Warning)
		}
		switch {
		case c.Need == 0 && c.Of == 0:
			c.Need, c.Of = 1, 1
		case c.Need == 0:
			c.Need = c.Of
		case c.Of == 0:
			c.Of = c.Need
		}
	}
}

type validation struct {
	fields fault.Fields
	known  Known
}

// add notes a wrong value, once per path: what could not even be read is not
// judged again.
func (v *validation) add(path string, reason fault.Reason, value any) {
	for _, f := range v.fields {
		if f.Path == path || strings.HasPrefix(f.Path, path+".") || strings.HasPrefix(f.Path, path+"[") {
			return
		}
	}
	v.fields.Say(path, reason, value)
}

func (v *validation) policy(p *Policy) {
	v.envelope(p)
	explicitTargets := p.Spec.Notify != nil && p.Spec.Notify.Targets != nil
	negatives := v.negatives(&p.Spec)
	p.Complete()
	s := &p.Spec
	v.level(s)
	v.clusters(s)
	v.objects(s)
	v.conditions(s)
	if s.Combine != "all" && s.Combine != "any" {
		v.add("spec.combine", fault.Say(fault.OneOf, "all, any"), s.Combine)
	}
	if !negatives && (s.RecoverAfter < 1 || s.RecoverAfter > maxRecoverAfter) {
		v.add("spec.recoverAfter", fault.Say(fault.Between, 1, maxRecoverAfter), s.RecoverAfter)
	}
	v.oneOf("spec.noData.action", s.NoData.Action, []string{NoDataKeep, NoDataResolve, NoDataAlert})
	v.oneOf("spec.noData.severity", s.NoData.Severity, severities)
	if s.NoData.After.D() > MaxPeriod {
		v.add("spec.noData.after", fault.Say(fault.AtMost, "24h"), s.NoData.After)
	}
	if s.MinAge.D() > maxMinAge {
		v.add("spec.minAge", fault.Say(fault.AtMost, "7d"), s.MinAge)
	}
	v.annotations(s)
	v.group(s)
	v.notify(s, explicitTargets)
}

// negatives reports what a default would hide: 0 means "left out", but a
// number below it is a mistake.
func (v *validation) negatives(s *Spec) bool {
	if s.RecoverAfter < 0 {
		v.add("spec.recoverAfter", fault.Say(fault.Between, 1, maxRecoverAfter), s.RecoverAfter)
		return true
	}
	return false
}

func (v *validation) envelope(p *Policy) {
	if p.APIVersion != APIVersion {
		v.add("apiVersion", fault.Say(fault.MustBe, APIVersion), orNil(p.APIVersion))
	}
	if p.Kind != Kind {
		v.add("kind", fault.Say(fault.MustBe, Kind), orNil(p.Kind))
	}
	ValidateMetadata(&v.fields, &p.Metadata)
}

// ValidateMetadata checks what a user writes of any object's metadata.
func ValidateMetadata(fields *fault.Fields, m *Metadata) {
	v := validation{fields: *fields}
	defer func() { *fields = v.fields }()
	if !nameRE.MatchString(m.Name) {
		v.add("metadata.name", fault.Say(fault.Name), orNil(m.Name))
	}
	if m.Project != "" && m.Project != DefaultProject {
		v.add("metadata.project", fault.Say(fault.ProjectDefault), m.Project)
	}
	if len(m.Labels) > maxLabels {
		v.add("metadata.labels", fault.Say(fault.CountAtMost, maxLabels), len(m.Labels))
	}
	for _, k := range sortedKeys(m.Labels) {
		if !labelRE.MatchString(k) {
			v.add(join("metadata.labels", k), fault.Say(fault.LabelName), k)
		} else if len(m.Labels[k]) > maxText {
			v.add(join("metadata.labels", k), fault.Say(fault.CharactersAtMost, maxText), len(m.Labels[k]))
		}
	}
}

func (v *validation) level(s *Spec) {
	switch {
	case s.Level == "":
		v.add("spec.level", fault.Say(fault.RequiredOf, strings.Join(levels, ", ")), nil)
	default:
		v.oneOf("spec.level", s.Level, levels)
	}
}

// oneOf checks a word against the allowed ones.
func (v *validation) oneOf(path, given string, allowed []string) bool {
	if slices.Contains(allowed, given) {
		return true
	}
	reason := fault.Say(fault.OneOf, strings.Join(allowed, ", "))
	if near := meant(given, allowed); near != "" && len(given) > 2 {
		reason = fault.Say(fault.OneOfNear, strings.Join(allowed, ", "), near)
	}
	v.add(path, reason, orNil(given))
	return false
}

func (v *validation) globs(path string, list []string) {
	if len(list) > maxList {
		v.add(path, fault.Say(fault.CountAtMost, maxList), len(list))
	}
	if list != nil && len(list) == 0 {
		v.add(path, fault.Say(fault.GlobsEmpty), list)
	}
	for i, g := range list {
		if g == "" || len(g) > maxText {
			v.add(fmt.Sprintf("%s[%d]", path, i), fault.Say(fault.Glob, maxText), g)
		}
	}
}

func (v *validation) workloads(path string, list []string) {
	v.globs(path, list)
	for i, g := range list {
		typ, name, ok := strings.Cut(g, "/")
		if g != "" && (!ok || typ == "" || name == "" || strings.Contains(name, "/") || typ != strings.ToLower(typ)) {
			v.add(fmt.Sprintf("%s[%d]", path, i), fault.Say(fault.WorkloadGlob), g)
		}
	}
}

func (v *validation) selector(path, s string) {
	if s == "" {
		return
	}
	if _, err := labels.Parse(s); err != nil {
		v.add(path, fault.Say(fault.Selector, err.Error()), s)
	}
}

func (v *validation) clusters(s *Spec) {
	if s.Clusters == nil {
		return
	}
	v.globs("spec.clusters.names", s.Clusters.Names)
}

func (v *validation) objects(s *Spec) {
	o := s.Objects
	if o == nil {
		return
	}
	v.globs("spec.objects.namespaces", o.Namespaces)
	v.workloads("spec.objects.workloads", o.Workloads)
	v.globs("spec.objects.names", o.Names)
	v.selector("spec.objects.selector", o.Selector)
	if n := o.AtLeast; n != nil {
		switch {
		case *n < 1 || *n > maxAtLeast:
			v.add("spec.objects.atLeast", fault.Say(fault.Between, 1, maxAtLeast), *n)
		case s.Level == LevelPromQL || s.ObjectLevel() == catalogue.Cluster || !listed(s.ObjectLevel()):
			v.add("spec.objects.atLeast", fault.Say(fault.ObjectsUncounted), *n)
		}
	}
	x := o.Exclude
	if x == nil {
		x = &Exclude{}
	}
	v.globs("spec.objects.exclude.namespaces", x.Namespaces)
	v.workloads("spec.objects.exclude.workloads", x.Workloads)
	v.globs("spec.objects.exclude.names", x.Names)
	v.selector("spec.objects.exclude.selector", x.Selector)

	// A part that objects of the level do not have would select nothing, or be
	// ignored: both are silence.
	refuse := func(why fault.Reason, parts map[string]bool) {
		for _, path := range sortedKeys(parts) {
			if parts[path] {
				v.add(path, why, nil)
			}
		}
	}
	namespaced := map[string]bool{
		"spec.objects.namespaces":         o.Namespaces != nil,
		"spec.objects.exclude.namespaces": x.Namespaces != nil,
		"spec.objects.workloads":          o.Workloads != nil,
		"spec.objects.exclude.workloads":  x.Workloads != nil,
	}
	switch s.ObjectLevel() {
	case catalogue.Cluster:
		refuse(fault.Say(fault.ClusterNoPart), namespaced)
		refuse(fault.Say(fault.ClusterSelect), map[string]bool{
			"spec.objects.names": o.Names != nil, "spec.objects.exclude.names": x.Names != nil,
			"spec.objects.selector": o.Selector != "", "spec.objects.exclude.selector": x.Selector != "",
		})
	case catalogue.Node:
		refuse(fault.Say(fault.NodeNoPart), namespaced)
	case catalogue.Component:
		refuse(fault.Say(fault.ComponentNoPart), namespaced)
		refuse(fault.Say(fault.ObjectsUnlabelled), map[string]bool{"spec.objects.selector": o.Selector != "", "spec.objects.exclude.selector": x.Selector != ""})
	case catalogue.Namespace, catalogue.Service, catalogue.Volume:
		refuse(fault.Say(fault.LevelNoWorkload, s.ObjectLevel()), map[string]bool{
			"spec.objects.workloads": o.Workloads != nil, "spec.objects.exclude.workloads": x.Workloads != nil,
		})
		if !listed(s.ObjectLevel()) {
			refuse(fault.Say(fault.ObjectsUnlabelled), map[string]bool{"spec.objects.selector": o.Selector != "", "spec.objects.exclude.selector": x.Selector != ""})
		}
	}
}

// listed tells whether the inventory holds the objects of a level.
func listed(level catalogue.Level) bool {
	switch level {
	case catalogue.Volume, catalogue.Component:
		return false
	}
	return true
}

func (v *validation) conditions(s *Spec) {
	if len(s.Conditions) == 0 {
		v.add("spec.conditions", fault.Say(fault.OneNeeded), nil)
	}
	if len(s.Conditions) > maxConditions {
		v.add("spec.conditions", fault.Say(fault.CountAtMost, maxConditions), len(s.Conditions))
		return
	}
	var dimensions []string
	from := -1
	for i := range s.Conditions {
		c := &s.Conditions[i]
		path := fmt.Sprintf("spec.conditions[%d]", i)
		v.condition(path, s, c)
		m, ok := catalogue.Get(c.Metric)
		if !ok || len(m.Dimensions) == 0 {
			continue
		}
		// Each value of the dimensions is judged by itself, so that two metrics
		// can only meet on the same ones.
		if from >= 0 && !slices.Equal(dimensions, m.Dimensions) {
			v.add(path+".metric", fault.Say(fault.DimensionsDiffer, strings.Join(m.Dimensions, ", "), from, strings.Join(dimensions, ", ")), c.Metric)
		}
		if from < 0 {
			dimensions, from = m.Dimensions, i
		}
	}
}

func (v *validation) condition(path string, s *Spec, c *Condition) {
	if s.Lines() {
		v.lines(path, s, c)
		return
	}
	for field, given := range map[string]bool{"query": c.Query != "", "count": c.Count != nil, "groupBy": c.GroupBy != ""} {
		if given {
			v.add(path+"."+field, fault.Say(fault.ForLines), nil)
		}
	}
	if s.Level == LevelPromQL {
		v.expr(path, s, c)
		return
	}
	if c.Expr != "" {
		v.add(path+".expr", fault.Say(fault.ForPromQL), c.Expr)
	}
	if c.Severity != "" {
		v.add(path+".severity", fault.Say(fault.SeverityWithOp), c.Severity)
	}
	m, known := v.metric(path, s, c)
	v.derived(path, c, m, known)
	v.statistic(path, c, m, known)
	v.period(path, s, c)
	v.need(path, c)
	v.oneOf(path+".op", c.Op, ops)
	v.thresholds(path, c)
}

// lines validates a condition of level log or event.
func (v *validation) lines(path string, s *Spec, c *Condition) {
	for field, given := range map[string]bool{
		"metric": c.Metric != "", "where": c.Where != nil, "statistic": c.Statistic != "", "change": c.Change != nil, "forecast": c.Forecast != nil,
		"expr": c.Expr != "", "severity": c.Severity != "",
	} {
		if given {
			v.add(path+"."+field, fault.Say(fault.NotWithQuery), nil)
		}
	}
	at := path + ".query"
	switch {
	case strings.TrimSpace(c.Query) == "":
		v.add(at, fault.Say(fault.QueryNeeded), nil)
	case len(c.Query) > maxExpr:
		v.add(at, fault.Say(fault.CharactersAtMost, maxExpr), len(c.Query))
	case v.known.CheckFilter != nil:
		if err := v.known.CheckFilter(c.Query); err != nil {
			v.add(at, fault.Say(fault.QueryFilter, err.Error()), c.Query)
		}
	}
	groups := lineGroups
	if s.Level == LevelEvent {
		groups = eventGroups
	}
	if v.oneOf(path+".groupBy", c.GroupBy, groups) && c.GroupBy != s.Conditions[0].GroupBy {
		v.add(path+".groupBy", fault.Say(fault.GroupByOther, s.Conditions[0].GroupBy), c.GroupBy)
	}
	v.period(path, s, c)
	v.need(path, c)
	v.oneOf(path+".op", c.Op, ops)
	v.thresholds(path, c)
	for _, sev := range catalogue.Severities {
		if t, ok := c.Thresholds.Of(sev); ok && (c.Op == "<" && t <= 0 || c.Op == "<=" && t < 0 || c.Op == "==" && t < 0) {
			v.add(join(path+".thresholds", string(sev)), fault.Say(fault.CountNever), t)
		}
	}
	if s.NoData.Action != NoDataKeep {
		v.add("spec.noData.action", fault.Say(fault.NoDataOfLines), s.NoData.Action)
	}
}

// promQL reads expressions.
var promQL = parser.NewParser(parser.Options{})

// expr validates a condition of level promql.
func (v *validation) expr(path string, s *Spec, c *Condition) {
	for field, given := range map[string]bool{
		"metric": c.Metric != "", "where": c.Where != nil, "statistic": c.Statistic != "", "change": c.Change != nil, "forecast": c.Forecast != nil,
	} {
		if given {
			v.add(path+"."+field, fault.Say(fault.NotWithExpr), nil)
		}
	}
	at := path + ".expr"
	switch e, err := promQL.ParseExpr(c.Expr); {
	case c.Expr == "":
		v.add(at, fault.Say(fault.ExprNeeded), nil)
	case len(c.Expr) > maxExpr:
		v.add(at, fault.Say(fault.CharactersAtMost, maxExpr), len(c.Expr))
	case err != nil:
		v.add(at, fault.Say(fault.ExprWrong, err.Error()), c.Expr)
	case e.Type() != parser.ValueTypeVector && e.Type() != parser.ValueTypeScalar:
		v.add(at, fault.Say(fault.ExprType, string(e.Type())), c.Expr)
	}
	v.period(path, s, c)
	v.need(path, c)
	if c.Op != "" {
		if c.Severity != "" {
			v.add(path+".severity", fault.Say(fault.SeverityWithOp), c.Severity)
		}
		v.oneOf(path+".op", c.Op, ops)
		v.thresholds(path, c)
		return
	}
	v.oneOf(path+".severity", c.Severity, severities)
	if c.Thresholds != (Thresholds{}) || c.Recovery != nil {
		v.add(path+".op", fault.Say(fault.RequiredWithThresholds), nil)
	}
}

// derived validates change and forecast.
func (v *validation) derived(path string, c *Condition, m catalogue.Metric, known bool) {
	if ch := c.Change; ch != nil {
		if !slices.Contains([]time.Duration{time.Hour, 24 * time.Hour, 7 * 24 * time.Hour}, ch.Against.D()) {
			v.add(path+".change.against", fault.Say(fault.OneOf, "1h, 1d, 1w"), ch.Against.String())
		}
		v.oneOf(path+".change.as", ch.As, []string{ChangeAbsolute, ChangePercent})
	}
	f := c.Forecast
	if f == nil {
		return
	}
	if c.Change != nil {
		v.add(path+".forecast", fault.Say(fault.ForecastWithChange), nil)
	}
	if known && m.Kind == catalogue.Counter {
		v.add(path+".forecast", fault.Say(fault.ForecastOfCounter), c.Metric)
	}
	if f.Within <= 0 || f.Within.D() > maxForecast {
		v.add(path+".forecast.within", fault.Say(fault.AboveAtMost, 0, "30d"), f.Within.String())
	}
	if f.From.D() < minForecastFrom || f.From.D() > maxForecastFrom {
		v.add(path+".forecast.from", fault.Say(fault.Between, "5m", "7d"), f.From.String())
	}
}

func (v *validation) metric(path string, s *Spec, c *Condition) (catalogue.Metric, bool) {
	m, ok := catalogue.Get(c.Metric)
	switch {
	case c.Metric == "":
		v.add(path+".metric", fault.Say(fault.MetricNeeded), nil)
	case !ok:
		reason := fault.Say(fault.MetricUnknown)
		if near := catalogue.Nearest(c.Metric); near != "" {
			reason = fault.Say(fault.MetricUnknownNear, near)
		}
		v.add(path+".metric", reason, c.Metric)
	case string(m.Level) != s.Level && slices.Contains(levels, s.Level):
		v.add(path+".metric", fault.Say(fault.MetricLevel, m.Level, s.Level), c.Metric)
	}
	for _, k := range sortedKeys(c.Where) {
		at := join(path+".where", k)
		if ok && !slices.Contains(m.Dimensions, k) {
			reason := fault.Say(fault.DimensionNone)
			if len(m.Dimensions) > 0 {
				reason = fault.Say(fault.DimensionUnknown, strings.Join(m.Dimensions, ", "))
			}
			v.add(at, reason, c.Where[k])
			continue
		}
		v.globs(at, c.Where[k])
	}
	return m, ok
}

func (v *validation) statistic(path string, c *Condition, m catalogue.Metric, known bool) {
	at := path + ".statistic"
	if c.Statistic == "" && !known {
		return // the metric is to blame
	}
	if !v.oneOf(at, c.Statistic, statistics) || !known {
		return
	}
	st := catalogue.Statistic(c.Statistic)
	switch {
	case m.Kind == catalogue.Counter && st != catalogue.Increase:
		v.add(at, fault.Say(fault.StatisticCounter), c.Statistic)
	case m.Kind != catalogue.Counter && st == catalogue.Increase:
		v.add(at, fault.Say(fault.StatisticIncrease, string(m.Kind)), c.Statistic)
	case st == catalogue.Sum && m.Unit != catalogue.Count:
		v.add(at, fault.Say(fault.StatisticSum, string(m.Unit)), c.Statistic)
	case (c.Op == "==" || c.Op == "!=") && !slices.Contains([]catalogue.Statistic{catalogue.Last, catalogue.Min, catalogue.Max, catalogue.Increase}, st):
		v.add(at, fault.Say(fault.StatisticEqual), c.Statistic)
	}
}

func (v *validation) period(path string, s *Spec, c *Condition) {
	at := path + ".period"
	p := c.Period.D()
	allowed := v.allowedIntervals(s)
	var names []string
	for _, iv := range allowed {
		names = append(names, Duration(iv).String())
	}
	multiples := strings.Join(names, ", ")
	if p == 0 {
		v.add(at, fault.Say(fault.PeriodNeeded, multiples, "24h"), nil)
		return
	}
	fits := func(iv time.Duration) bool { return p >= iv && p%iv == 0 }
	if p < 0 || p > MaxPeriod || !slices.ContainsFunc(allowed, fits) {
		v.add(at, fault.Say(fault.Period, multiples, "24h"), c.Period.String())
		return
	}
	if c.Statistic == string(catalogue.P95) || c.Statistic == string(catalogue.P99) {
		smallest := slices.Min(slices.DeleteFunc(slices.Clone(allowed), func(iv time.Duration) bool { return !fits(iv) }))
		if p < minPercentileSamples*smallest {
			v.add(at, fault.Say(fault.PeriodPercentile, Duration(minPercentileSamples*smallest), c.Statistic, minPercentileSamples), c.Period.String())
		}
	}
}

// allowedIntervals are those of the clusters that the policy selects, as far as
// any is known; else all that a cluster can have.
func (v *validation) allowedIntervals(s *Spec) []time.Duration {
	sel, err := Compile(s)
	if err != nil {
		return intervals
	}
	var out []time.Duration
	for _, id := range sortedKeys(v.known.Intervals) {
		if sel.Cluster(id, v.known.ClusterLabels[id]) && !slices.Contains(out, v.known.Intervals[id]) {
			out = append(out, v.known.Intervals[id])
		}
	}
	if len(out) == 0 {
		return intervals
	}
	slices.Sort(out)
	return out
}

func (v *validation) need(path string, c *Condition) {
	ofOK := c.Of >= 1 && c.Of <= MaxOf
	if !ofOK {
		v.add(path+".of", fault.Say(fault.Between, 1, MaxOf), c.Of)
	}
	switch {
	case c.Need < 1:
		v.add(path+".need", fault.Say(fault.AtLeast, 1), c.Need)
	case ofOK && c.Need > c.Of:
		v.add(path+".need", fault.Say(fault.NeedOverOf, c.Of), c.Need)
	}
	if p := c.Period.D(); ofOK && p > 0 && p <= MaxPeriod && time.Duration(c.Of)*p > MaxSpan {
		v.add(path+".of", fault.Say(fault.OfSpan, Duration(MaxSpan), int64(MaxSpan/p), c.Period), c.Of)
	}
}

// direction is 1 when greater is worse, -1 when less is, 0 when neither.
func direction(op string) float64 {
	switch op {
	case ">", ">=":
		return 1
	case "<", "<=":
		return -1
	}
	return 0
}

func (v *validation) thresholds(path string, c *Condition) {
	dir := direction(c.Op)
	ordered := slices.Contains(ops, c.Op) && dir != 0
	var given int
	var before catalogue.Severity
	var last float64
	for _, sev := range catalogue.Severities {
		t, ok := c.Thresholds.Of(sev)
		at := join(path+".thresholds", string(sev))
		if !ok {
			if c.Recovery != nil {
				if r, ok := c.Recovery.Of(sev); ok {
					v.add(join(path+".recovery", string(sev)), fault.Say(fault.RecoveryAlone), r)
				}
			}
			continue
		}
		given++
		if math.IsNaN(t) || math.IsInf(t, 0) {
			v.add(at, fault.Say(fault.NotNumber), t)
		}
		if ordered && before != "" && (t-last)*dir <= 0 {
			code := fault.ThresholdGreater
			if dir < 0 {
				code = fault.ThresholdLess
			}
			v.add(at, fault.Say(code, before, last), t)
		}
		before, last = sev, t
		if c.Recovery == nil {
			continue
		}
		if r, ok := c.Recovery.Of(sev); ok && ordered && (r-t)*dir > 0 {
			code := fault.RecoveryAtMost
			if dir < 0 {
				code = fault.RecoveryAtLeast
			}
			v.add(join(path+".recovery", string(sev)), fault.Say(code, t), r)
		}
	}
	if given == 0 {
		v.add(path+".thresholds", fault.Say(fault.OneNeededOf, "info, warning, critical"), nil)
	}
	if c.Op == "==" || c.Op == "!=" {
		if c.Recovery != nil {
			v.add(path+".recovery", fault.Say(fault.RecoveryEqual), nil)
		}
		if given > 1 {
			v.add(path+".thresholds", fault.Say(fault.ThresholdsEqual), nil)
		}
	}
}

func (v *validation) annotations(s *Spec) {
	if len(s.Annotations) > maxAnnotations {
		v.add("spec.annotations", fault.Say(fault.CountAtMost, maxAnnotations), len(s.Annotations))
	}
	for _, k := range sortedKeys(s.Annotations) {
		at := join("spec.annotations", k)
		if !labelRE.MatchString(k) {
			v.add(at, fault.Say(fault.AnnotationName), k)
			continue
		}
		if _, err := ParseTemplate(s.Annotations[k]); err != nil {
			v.add(at, fault.Say(fault.Template, err.Error()), s.Annotations[k])
		}
	}
}

func (v *validation) group(s *Spec) {
	if len(s.Group.By) > len(groupWords) {
		v.add("spec.group.by", fault.Say(fault.CountAtMost, len(groupWords)), len(s.Group.By))
	}
	for i, w := range s.Group.By {
		v.oneOf(fmt.Sprintf("spec.group.by[%d]", i), w, groupWords)
	}
	if s.Group.Wait.D() > maxWait {
		v.add("spec.group.wait", fault.Say(fault.AtMost, "1h"), s.Group.Wait)
	}
	if s.Group.Interval.D() > MaxPeriod {
		v.add("spec.group.interval", fault.Say(fault.AtMost, "24h"), s.Group.Interval)
	}
}

func (v *validation) notify(s *Spec, explicitTargets bool) {
	n := s.Notify
	if n == nil {
		return
	}
	if explicitTargets && len(n.Targets) == 0 {
		v.add("spec.notify.targets", fault.Say(fault.TargetsEmpty), []string{})
	}
	if len(n.Targets) > maxList {
		v.add("spec.notify.targets", fault.Say(fault.CountAtMost, maxList), len(n.Targets))
	}
	v.targetRefs("spec.notify.targets", n.Targets)
	if r := n.Repeat; r != nil {
		if r.Every.D() < minRepeat || r.Every.D() > maxRepeat {
			v.add("spec.notify.repeat.every", fault.Say(fault.Between, "1m", "7d"), r.Every.String())
		}
		if r.Backoff < 1 || r.Backoff > maxBackoff {
			v.add("spec.notify.repeat.backoff", fault.Say(fault.Between, 1, maxBackoff), r.Backoff)
		}
		if r.Max < r.Every || r.Max.D() > maxRepeat {
			v.add("spec.notify.repeat.max", fault.Say(fault.RepeatMax, "7d"), r.Max.String())
		}
	}
	if len(n.Escalate) > maxEscalations {
		v.add("spec.notify.escalate", fault.Say(fault.StepsAtMost, maxEscalations), len(n.Escalate))
		return
	}
	for i, e := range n.Escalate {
		at := fmt.Sprintf("spec.notify.escalate[%d]", i)
		if e.After.D() < time.Minute || e.After.D() > maxRepeat {
			v.add(at+".after", fault.Say(fault.Between, "1m", "7d"), e.After.String())
		}
		if i > 0 && e.After <= n.Escalate[i-1].After {
			v.add(at+".after", fault.Say(fault.StepAfter), e.After.String())
		}
		if len(e.Targets) == 0 {
			v.add(at+".targets", fault.Say(fault.TargetsNone), nil)
		}
		v.targetRefs(at+".targets", e.Targets)
	}
}

func (v *validation) targetRefs(path string, refs []TargetRef) {
	seen := map[string]bool{}
	for i, t := range refs {
		at := fmt.Sprintf("%s[%d]", path, i)
		switch {
		case t.Name == "":
			v.add(at, fault.Say(fault.TargetNameless), t.Name)
		case seen[t.Name]:
			v.add(at, fault.Say(fault.TargetTwice), t.Name)
		case v.known.Targets != nil && !slices.Contains(v.known.Targets, t.Name):
			reason := fault.Say(fault.TargetUnknown)
			if near := meant(t.Name, v.known.Targets); near != "" {
				reason = fault.Say(fault.TargetUnknownNear, near)
			}
			v.add(at, reason, t.Name)
		}
		seen[t.Name] = true
		for j, sev := range t.Severities {
			v.oneOf(fmt.Sprintf("%s.severities[%d]", at, j), sev, severities)
		}
	}
}

func words[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i, w := range list {
		out[i] = string(w)
	}
	return out
}

// orNil is nil for what was left out.
func orNil(s string) any {
	if s == "" {
		return nil
	}
	return s
}
