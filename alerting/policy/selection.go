package policy

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/object"
)

// Selection tells which clusters and objects a policy is about.
type Selection struct {
	level    catalogue.Level
	clusters Clusters
	include  matcher
	exclude  matcher
}

// matcher is one half of a selection. A part that is nil is not asked.
type matcher struct {
	namespaces []string
	workloads  []string
	names      []string
	selector   labels.Selector
}

// Compile prepares the selection of a spec; fault.ErrInvalid when a selector
// cannot be read.
func Compile(s *Spec) (*Selection, error) {
	sel := &Selection{level: s.ObjectLevel()}
	if s.Clusters != nil {
		sel.clusters = *s.Clusters
	}
	if s.Objects == nil {
		return sel, nil
	}
	var err error
	if sel.include, err = newMatcher(s.Objects.Namespaces, s.Objects.Workloads, s.Objects.Names, s.Objects.Selector); err != nil {
		return nil, err
	}
	if x := s.Objects.Exclude; x != nil {
		if sel.exclude, err = newMatcher(x.Namespaces, x.Workloads, x.Names, x.Selector); err != nil {
			return nil, err
		}
	}
	return sel, nil
}

func newMatcher(namespaces, workloads, names []string, selector string) (matcher, error) {
	m := matcher{namespaces: namespaces, workloads: workloads, names: names}
	if selector == "" {
		return m, nil
	}
	s, err := labels.Parse(selector)
	if err != nil {
		return m, fmt.Errorf("selector %q: %w: %w", selector, fault.ErrInvalid, err)
	}
	m.selector = s
	return m, nil
}

// Kinds of a Hint.
const (
	HintName      = "name"
	HintWorkload  = "workload" // type/name
	HintNamespace = "namespace"
	HintLabel     = "label" // key=value
)

// Hint narrows what may be selected: whatever is has one of the values.
type Hint struct {
	Kind   string
	Values []string
}

// Hint gives the narrowest that there is; false: anything may be selected.
func (s *Selection) Hint() (Hint, bool) {
	exact := func(globs []string) bool {
		for _, g := range globs {
			if strings.ContainsAny(g, "*?") {
				return false
			}
		}
		return len(globs) > 0
	}
	m := s.include
	if exact(m.names) {
		return Hint{HintName, m.names}, true
	}
	if m.selector != nil {
		if requirements, ok := m.selector.Requirements(); ok {
			for _, r := range requirements {
				switch r.Operator() {
				case selection.Equals, selection.DoubleEquals, selection.In:
					var values []string
					for v := range r.Values() {
						values = append(values, r.Key()+"="+v)
					}
					return Hint{HintLabel, values}, true
				}
			}
		}
	}
	if exact(m.workloads) {
		return Hint{HintWorkload, m.workloads}, true
	}
	if exact(m.namespaces) {
		return Hint{HintNamespace, m.namespaces}, true
	}
	return Hint{}, false
}

// Cluster tells whether the policy is about a cluster.
func (s *Selection) Cluster(id string, clusterLabels map[string]string) bool {
	if s.clusters.Names != nil && !anyGlob(s.clusters.Names, id) {
		return false
	}
	for k, v := range s.clusters.Labels {
		if got, ok := clusterLabels[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// traits is what a selection asks of an object.
type traits struct {
	namespace, name string
	workload        object.WorkloadRef
	labels          map[string]string
}

// Object tells whether the policy is about an object of its level in a cluster
// that it selects. At level container, o is the pod and container its
// container's name. At level cluster everything is selected.
func (s *Selection) Object(o object.Object, container string) bool {
	if s.level == catalogue.Cluster {
		return true
	}
	if o == nil {
		return false
	}
	m := o.GetMeta()
	t := traits{namespace: m.Namespace, name: m.Name, labels: m.Labels}
	switch o := o.(type) {
	case *object.Namespace:
		t.namespace = m.Name
	case *object.Workload:
		t.workload = o.Ref
	case *object.Pod:
		t.workload = o.Workload
		if container != "" {
			t.name = container
		}
	}
	return s.include.all(t) && !s.exclude.any(t)
}

// Key is the same for two selections of one level that select the same objects of
// whatever cluster, as far as their words tell.
func (s *Selection) Key() string { return s.include.key() + "\x00" + s.exclude.key() }

func (m matcher) key() string {
	selector := ""
	if m.selector != nil {
		selector = m.selector.String()
	}
	return fmt.Sprintf("%t %q %t %q %t %q %t %q", m.namespaces != nil, m.namespaces, m.workloads != nil, m.workloads, m.names != nil, m.names, m.selector != nil, selector)
}

// Everything tells whether all objects of the level are selected.
func (s *Selection) Everything() bool { return s.include.none() && s.exclude.none() }

func (m matcher) none() bool {
	return m.namespaces == nil && m.workloads == nil && m.names == nil && m.selector == nil
}

// Named tells whether the policy is about an object that is known by its names
// only. A selector, which asks for labels, selects none of these.
func (s *Selection) Named(namespace string, workload object.WorkloadRef, name string) bool {
	t := traits{namespace: namespace, name: name, workload: workload}
	return s.include.all(t) && !s.exclude.any(t)
}

// Possible tells whether the policy may be about an object of which only namespace and
// name are known; false: it is not, whatever else the object is. An empty name is not
// asked for.
func (s *Selection) Possible(namespace, name string) bool {
	in, out := s.include, s.exclude
	return (in.namespaces == nil || anyGlob(in.namespaces, namespace)) && (name == "" || in.names == nil || anyGlob(in.names, name)) &&
		!anyGlob(out.namespaces, namespace) && (name == "" || !anyGlob(out.names, name))
}

func (m matcher) all(t traits) bool {
	return (m.namespaces == nil || anyGlob(m.namespaces, t.namespace)) &&
		(m.workloads == nil || anyWorkload(m.workloads, t.workload)) &&
		(m.names == nil || anyGlob(m.names, t.name)) &&
		(m.selector == nil || m.selector.Matches(labels.Set(t.labels)))
}

func (m matcher) any(t traits) bool {
	return anyGlob(m.namespaces, t.namespace) || anyWorkload(m.workloads, t.workload) || anyGlob(m.names, t.name) ||
		(m.selector != nil && m.selector.Matches(labels.Set(t.labels)))
}

func anyWorkload(globs []string, w object.WorkloadRef) bool {
	for _, g := range globs {
		typ, name, _ := strings.Cut(g, "/")
		if Glob(typ, w.Type) && Glob(name, w.Name) {
			return true
		}
	}
	return false
}

func anyGlob(globs []string, s string) bool {
	for _, g := range globs {
		if Glob(g, s) {
			return true
		}
	}
	return false
}

// Where tells whether the values of a series' dimensions are asked for.
func (c *Condition) WhereMatches(value func(label string) string) bool {
	for k, globs := range c.Where {
		if !anyGlob(globs, value(k)) {
			return false
		}
	}
	return true
}

// Glob tells whether a text matches a pattern in which * stands for any text,
// also none, and ? for one byte. It takes at most len(pattern) × len(s) steps.
func Glob(pattern, s string) bool {
	// What comes after the last * is at the end of whatever matches: most that does
	// not match differs there or at the beginning, and is told by a byte or two.
	for len(pattern) > 0 && pattern[len(pattern)-1] != '*' {
		last := len(s) - 1
		if last < 0 || (pattern[len(pattern)-1] != '?' && pattern[len(pattern)-1] != s[last]) {
			return false
		}
		pattern, s = pattern[:len(pattern)-1], s[:last]
	}
	if pattern == "*" {
		return true
	}
	p, i := 0, 0
	star, retry := -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, retry = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p++
			i++
		case star >= 0: // let the last star take one byte more
			retry++
			p, i = star+1, retry
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}
