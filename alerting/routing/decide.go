package routing

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	amlabels "github.com/prometheus/alertmanager/pkg/labels"

	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// Facts are what matchers are asked of an alert: alertname and policy (its
// policy's name), severity, cluster, level, metric, namespace, workload_type,
// workload, pod, container, node, service, volume, component, its dimensions
// and the labels of its policy.
type Facts struct {
	ID     string
	Labels map[string]string
	// Dimensions are the labels among them by which a metric tells apart what one
	// object has several of, as its file systems.
	Dimensions map[string]string
}

// Muting is what keeps an alert from being told.
type Muting struct {
	Kind  string    `json:"kind"` // Silence | Maintenance | Inhibition
	Name  string    `json:"name"`
	Until time.Time `json:"until,omitzero"` // zero: while its source fires
}

type matchers []*amlabels.Matcher

func parseMatchers(list []string) (matchers, error) {
	out := make(matchers, len(list))
	for i, text := range list {
		m, err := amlabels.ParseMatcher(text)
		if err != nil {
			return nil, err
		}
		out[i] = m
	}
	return out, nil
}

func (m matchers) match(f Facts) bool {
	for _, x := range m {
		if !x.Matches(f.Labels[x.Name]) {
			return false
		}
	}
	return true
}

// Set is all that routes and mutes, ready to be asked. It does not change; its
// methods may be called concurrently.
type Set struct {
	routes       []route
	silences     []silence
	maintenances []maintenance
	inhibitions  []inhibition
}

type route struct {
	name string
	RouteSpec
	matchers matchers
}

type silence struct {
	name        string
	from, until time.Time
	matchers    matchers
}

type maintenance struct {
	name     string
	rule     *recurring
	matchers matchers
}

type inhibition struct {
	name           string
	source, target matchers
	equal          []string
}

// objectLabels name what an alert is about.
var objectLabels = []string{"cluster", "level", "namespace", "workload_type", "workload", "pod", "container", "node", "service", "volume", "component"}

// allDimensions among the labels that must be alike stands for all that an alert
// has as dimensions: a full file system says nothing of the one beside it.
const allDimensions = "dimensions"

// DefaultInhibitions hold unless an inhibition of the same name takes their
// place or switches them off.
var DefaultInhibitions = map[string]InhibitionSpec{
	"node-down": {
		Source: []string{`level="node"`, `metric="k8s_node_status_ready"`}, Target: []string{`level=~"pod|container"`}, Equal: []string{"cluster", "node"},
		Comment: "A node that is down silences its pods.",
	},
	"cluster-unreachable": {
		Source: []string{`mutes="cluster"`}, Target: []string{`severity=~".+"`, `mutes!="cluster"`}, Equal: []string{"cluster"},
		Comment: "A cluster that cannot be reached silences all of it.",
	},
	"severities": {
		Source: []string{`severity="critical"`}, Target: []string{`severity=~"warning|info"`}, Equal: append([]string{"metric", allDimensions}, objectLabels...),
		Comment: "The worse of two severities of one object, its dimensions and metric silences the other.",
	},
}

// Compile prepares rows of the four kinds; others are passed over. Those that
// cannot be read are left out and told in the error; the set is usable anyway.
func Compile(rows []meta.Resource) (*Set, error) {
	s := &Set{}
	var errs []error
	defaults := map[string]InhibitionSpec{}
	for name, spec := range DefaultInhibitions {
		defaults[name] = spec
	}
	for _, r := range rows {
		if r.Kind == meta.KindInhibition {
			delete(defaults, r.Name)
		}
		errs = append(errs, s.add(r))
	}
	for name, spec := range defaults {
		errs = append(errs, s.inhibit(name, spec))
	}
	slices.SortFunc(s.routes, func(a, b route) int {
		if a.Default != b.Default {
			if a.Default {
				return 1
			}
			return -1
		}
		return cmp.Or(cmp.Compare(a.Order, b.Order), cmp.Compare(a.name, b.name))
	})
	slices.SortFunc(s.inhibitions, func(a, b inhibition) int { return cmp.Compare(a.name, b.name) })
	return s, errors.Join(errs...)
}

func (s *Set) add(r meta.Resource) error {
	switch r.Kind {
	case meta.KindRoute:
		spec, err := specOf[RouteSpec](r)
		if err != nil {
			return err
		}
		m, err := parseMatchers(spec.Matchers)
		if err != nil {
			return err
		}
		s.routes = append(s.routes, route{r.Name, spec, m})
	case meta.KindSilence:
		spec, err := specOf[SilenceSpec](r)
		if err != nil {
			return err
		}
		m, err := parseMatchers(spec.Matchers)
		if err != nil || spec.From == nil || spec.Until == nil || len(m) == 0 {
			return err
		}
		s.silences = append(s.silences, silence{r.Name, *spec.From, *spec.Until, m})
	case meta.KindMaintenance:
		spec, err := specOf[MaintenanceSpec](r)
		if err != nil {
			return err
		}
		m, err := parseMatchers(spec.Matchers)
		if err != nil || spec.Starts == nil || len(m) == 0 {
			return err
		}
		rule, err := newRecurring(spec.RRule, spec.Timezone, *spec.Starts, spec.Duration.D())
		if err != nil {
			return err
		}
		s.maintenances = append(s.maintenances, maintenance{r.Name, rule, m})
	case meta.KindInhibition:
		spec, err := specOf[InhibitionSpec](r)
		if err != nil {
			return err
		}
		return s.inhibit(r.Name, spec)
	}
	return nil
}

func (s *Set) inhibit(name string, spec InhibitionSpec) error {
	if !spec.enabled() || len(spec.Source) == 0 || len(spec.Target) == 0 {
		return nil
	}
	source, err := parseMatchers(spec.Source)
	if err != nil {
		return err
	}
	target, err := parseMatchers(spec.Target)
	if err != nil {
		return err
	}
	s.inhibitions = append(s.inhibitions, inhibition{name, source, target, spec.Equal})
	return nil
}

// HasRoutes tells whether there is any route.
func (s *Set) HasRoutes() bool { return len(s.routes) > 0 }

// Targets gives who is told of an alert whose policy names nobody: those of the
// first route that matches, and of the ones after it while they say continue.
func (s *Set) Targets(f Facts) []policy.TargetRef {
	out, _ := s.route(f)
	return out
}

// Routed gives the names of the routes that an alert takes.
func (s *Set) Routed(f Facts) []string {
	_, names := s.route(f)
	return names
}

func (s *Set) route(f Facts) (out []policy.TargetRef, names []string) {
	for _, r := range s.routes {
		if r.Default && len(names) > 0 {
			break
		}
		if !r.match(f) {
			continue
		}
		names = append(names, r.name)
		for _, t := range r.Targets {
			if !slices.ContainsFunc(out, func(o policy.TargetRef) bool { return o.Name == t.Name }) {
				out = append(out, t)
			}
		}
		if !r.Continue {
			break
		}
	}
	return out, names
}

func (r route) match(f Facts) bool {
	globs := func(list []string, v string) bool {
		return len(list) == 0 || slices.ContainsFunc(list, func(g string) bool { return policy.Glob(g, v) })
	}
	return (len(r.Severities) == 0 || slices.Contains(r.Severities, f.Labels["severity"])) && globs(r.Clusters, f.Labels["cluster"]) &&
		globs(r.Namespaces, f.Labels["namespace"]) && globs(r.Policies, f.Labels["policy"]) && r.matchers.match(f)
}

// Muted gives what mutes an alert at t, given all alerts that fire. Empty: it
// is told. Whoever asks about many alerts uses Sources and MutedAmong.
func (s *Set) Muted(f Facts, firing []Facts, t time.Time) []Muting {
	return s.MutedAmong(f, s.Sources(firing), t)
}

// Sources are the alerts that fire as far as they could mute others, ready to be
// asked: each alert is compared only with those that agree with it, or a storm
// would cost its square.
type Sources struct{ by []map[string][]Facts } // by inhibition and the values that must be alike

// Sources prepares what fires.
func (s *Set) Sources(firing []Facts) Sources {
	out := Sources{make([]map[string][]Facts, len(s.inhibitions))}
	for i, x := range s.inhibitions {
		for _, g := range firing {
			if !x.source.match(g) {
				continue
			}
			if out.by[i] == nil {
				out.by[i] = map[string][]Facts{}
			}
			k := x.alike(g)
			out.by[i][k] = append(out.by[i][k], g)
		}
	}
	return out
}

// MutedAmong is Muted with what fires prepared by the same set.
func (s *Set) MutedAmong(f Facts, among Sources, t time.Time) []Muting {
	var out []Muting
	for _, x := range s.silences {
		if !t.Before(x.from) && t.Before(x.until) && x.matchers.match(f) {
			out = append(out, Muting{meta.KindSilence, x.name, x.until})
		}
	}
	for _, x := range s.maintenances {
		if !x.matchers.match(f) {
			continue
		}
		if until, active := x.rule.at(t); active {
			out = append(out, Muting{meta.KindMaintenance, x.name, until})
		}
	}
	for i, x := range s.inhibitions {
		if len(among.by[i]) == 0 || !x.target.match(f) {
			continue
		}
		if slices.ContainsFunc(among.by[i][x.alike(f)], func(g Facts) bool { return x.mutes(g, f) }) {
			out = append(out, Muting{Kind: meta.KindInhibition, Name: x.name})
		}
	}
	return out
}

// Mutes tells whether a silence or a maintenance window is active at t, whatever it
// matches.
func (s *Set) Mutes(t time.Time) bool {
	return slices.ContainsFunc(s.silences, func(x silence) bool { return !t.Before(x.from) && t.Before(x.until) }) ||
		slices.ContainsFunc(s.maintenances, func(x maintenance) bool { _, active := x.rule.at(t); return active })
}

// alike joins the values that source and target must have alike.
func (x inhibition) alike(f Facts) string {
	var b strings.Builder
	for _, l := range x.equal {
		if l == allDimensions {
			for _, k := range slices.Sorted(maps.Keys(f.Dimensions)) {
				b.WriteString(k + "=" + f.Dimensions[k] + "\x01")
			}
		}
		b.WriteString(f.Labels[l])
		b.WriteByte(0)
	}
	return b.String()
}

// mutes tells whether an alert that is a source, and agrees with another, mutes
// it. Two that could mute each other do not, or nobody would be told of either.
func (x inhibition) mutes(source, target Facts) bool {
	return source.ID != target.ID && !(x.source.match(target) && x.target.match(source))
}
