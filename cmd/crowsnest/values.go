package main

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/spf13/pflag"

	"github.com/crowsnest-dev/crowsnest/storage/classes"
)

// The types of flags that say what they take. Wrong values are refused with the
// range, never moved into it.
var (
	_ pflag.Value      = (*choice)(nil)
	_ pflag.Value      = (*period)(nil)
	_ pflag.Value      = (*size)(nil)
	_ pflag.Value      = (*number)(nil)
	_ pflag.Value      = (*clusterID)(nil)
	_ pflag.Value      = (*instant)(nil)
	_ pflag.SliceValue = (*cidrs)(nil)
	_ pflag.SliceValue = (*addresses)(nil)
	_ pflag.SliceValue = (*tokenFiles)(nil)
	_ pflag.SliceValue = (*clusterPeriods)(nil)
	_ pflag.SliceValue = (*metricClasses)(nil)
	_ pflag.SliceValue = (*clusterClasses)(nil)
)

// choice is one of a few words.
type choice struct {
	value   string
	allowed []string
}

func newChoice(value string, allowed ...string) *choice { return &choice{value, allowed} }

func (c *choice) String() string { return c.value }
func (c *choice) Type() string   { return "word" }
func (c *choice) Set(s string) error {
	if !slices.Contains(c.allowed, s) {
		return fmt.Errorf("one of %s", strings.Join(c.allowed, ", "))
	}
	c.value = s
	return nil
}

// period is a duration within bounds, written as Prometheus does (90d, 1h30m).
type period struct {
	value    time.Duration
	min, max time.Duration
}

func newPeriod(value, low, high time.Duration) *period { return &period{value, low, high} }

func (p *period) String() string { return model.Duration(p.value).String() }
func (p *period) Type() string   { return "duration" }
func (p *period) Set(s string) error {
	d, err := model.ParseDuration(s)
	if err != nil || time.Duration(d) < p.min || time.Duration(d) > p.max {
		return fmt.Errorf("between %v and %v, for example 30s, 1h30m or 90d", model.Duration(p.min), model.Duration(p.max))
	}
	p.value = time.Duration(d)
	return nil
}

// instant is a time; zero when not given.
type instant struct{ time.Time }

func (i *instant) String() string {
	if i.IsZero() {
		return ""
	}
	return i.Format(time.RFC3339Nano)
}
func (i *instant) Type() string { return "time" }
func (i *instant) Set(s string) error {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return errors.New("a time such as 2026-11-23T10:00:00Z")
	}
	i.Time = t
	return nil
}

// size is a number of bytes, 0 for no bound.
type size struct{ bytes int64 }

var units = []struct {
	name  string
	bytes int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

func (z *size) String() string {
	for _, u := range units {
		if z.bytes >= u.bytes && z.bytes%u.bytes == 0 {
			return fmt.Sprintf("%d%s", z.bytes/u.bytes, u.name)
		}
	}
	return strconv.FormatInt(z.bytes, 10)
}
func (z *size) Type() string { return "size" }
func (z *size) Set(s string) error {
	number, factor := s, int64(1)
	for _, u := range units {
		if n, ok := strings.CutSuffix(s, u.name); ok {
			number, factor = n, u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
	if err != nil || n < 0 || n > (1<<62)/factor {
		return fmt.Errorf("a number of bytes such as 50GiB or 1073741824, or 0 for no bound")
	}
	z.bytes = n * factor
	return nil
}

// number is a number within bounds.
type number struct {
	value    float64
	min, max float64
	whole    bool
}

func newWhole(value, low, high int) *number {
	return &number{float64(value), float64(low), float64(high), true}
}
func newNumber(value, low, high float64) *number { return &number{value, low, high, false} }

func (n *number) int() int       { return int(n.value) }
func (n *number) String() string { return strconv.FormatFloat(n.value, 'f', -1, 64) }
func (n *number) Type() string   { return "number" }
func (n *number) Set(s string) error {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || !(v >= n.min && v <= n.max) || (n.whole && v != float64(int64(v))) {
		kind := "a number"
		if n.whole {
			kind = "a whole number"
		}
		return fmt.Errorf("%s between %s and %s", kind, strconv.FormatFloat(n.min, 'f', -1, 64), strconv.FormatFloat(n.max, 'f', -1, 64))
	}
	n.value = v
	return nil
}

// addresses is a list of URLs.
type addresses struct {
	list    []*url.URL
	changed bool
}

func (a *addresses) String() string { return strings.Join(a.GetSlice(), ",") }
func (a *addresses) Type() string   { return "url" }
func (a *addresses) Set(s string) error {
	if !a.changed {
		a.list, a.changed = nil, true // the first one given replaces the default
	}
	for _, part := range strings.Split(s, ",") {
		if err := a.Append(part); err != nil {
			return err
		}
	}
	return nil
}

func (a *addresses) Append(s string) error {
	u, err := url.Parse(strings.TrimSpace(s))
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || u.RawQuery != "" {
		return fmt.Errorf("an address such as http://alertmanager:9093, not %q", s)
	}
	a.list = append(a.list, u)
	return nil
}

func (a *addresses) Replace(items []string) error {
	a.list, a.changed = nil, true
	for _, s := range items {
		if err := a.Append(s); err != nil {
			return err
		}
	}
	return nil
}

func (a *addresses) GetSlice() []string {
	out := make([]string, len(a.list))
	for i, u := range a.list {
		out[i] = u.String()
	}
	return out
}

// cidrs is a list of address ranges.
type cidrs struct {
	list    []netip.Prefix
	changed bool
}

func (c *cidrs) String() string { return strings.Join(c.GetSlice(), ",") }
func (c *cidrs) Type() string   { return "cidr" }
func (c *cidrs) Set(s string) error {
	if !c.changed {
		c.list, c.changed = nil, true // the first one given replaces the default
	}
	for _, part := range strings.Split(s, ",") {
		if err := c.Append(part); err != nil {
			return err
		}
	}
	return nil
}

func (c *cidrs) Append(s string) error {
	s = strings.TrimSpace(s)
	p, err := netip.ParsePrefix(s)
	if err != nil {
		addr, err := netip.ParseAddr(s)
		if err != nil {
			return fmt.Errorf("an address range such as 10.0.0.0/8, or an address, not %q", s)
		}
		p = netip.PrefixFrom(addr, addr.BitLen())
	}
	c.list = append(c.list, p.Masked())
	return nil
}

func (c *cidrs) Replace(items []string) error {
	c.list, c.changed = nil, true
	for _, s := range items {
		if err := c.Append(s); err != nil {
			return err
		}
	}
	return nil
}

func (c *cidrs) GetSlice() []string {
	out := make([]string, len(c.list))
	for i, p := range c.list {
		out[i] = p.String()
	}
	return out
}

// tokenFiles is a list of CLUSTER=FILE.
type tokenFiles struct{ list []tokenFile }

type tokenFile struct{ cluster, path string }

func (t *tokenFiles) String() string { return strings.Join(t.GetSlice(), ",") }
func (t *tokenFiles) Type() string   { return "cluster=file" }
func (t *tokenFiles) Set(s string) error {
	for _, part := range strings.Split(s, ",") {
		if err := t.Append(part); err != nil {
			return err
		}
	}
	return nil
}

func (t *tokenFiles) Append(s string) error {
	cluster, path, ok := strings.Cut(strings.TrimSpace(s), "=")
	if !ok || path == "" {
		return fmt.Errorf("CLUSTER=FILE, for example prod-1=/etc/crowsnest/prod-1.token, not %q", s)
	}
	if err := checkCluster(cluster); err != nil {
		return err
	}
	t.list = append(t.list, tokenFile{cluster, path})
	return nil
}

func (t *tokenFiles) Replace(items []string) error {
	t.list = nil
	for _, s := range items {
		if err := t.Append(s); err != nil {
			return err
		}
	}
	return nil
}

func (t *tokenFiles) GetSlice() []string {
	out := make([]string, len(t.list))
	for i, f := range t.list {
		out[i] = f.cluster + "=" + f.path
	}
	return out
}

// clusterPeriods is a list of CLUSTER=DURATION.
type clusterPeriods struct {
	by       map[string]time.Duration
	order    []string
	min, max time.Duration
}

func (c *clusterPeriods) String() string { return strings.Join(c.GetSlice(), ",") }
func (c *clusterPeriods) Type() string   { return "cluster=duration" }
func (c *clusterPeriods) Set(s string) error {
	for _, part := range strings.Split(s, ",") {
		if err := c.Append(part); err != nil {
			return err
		}
	}
	return nil
}

func (c *clusterPeriods) Append(s string) error {
	cluster, text, ok := strings.Cut(strings.TrimSpace(s), "=")
	d := newPeriod(0, c.min, c.max)
	if !ok {
		return fmt.Errorf("CLUSTER=DURATION, for example prod-1=30d, not %q", s)
	}
	if err := checkCluster(cluster); err != nil {
		return err
	}
	if err := d.Set(text); err != nil {
		return err
	}
	if c.by == nil {
		c.by = map[string]time.Duration{}
	}
	if _, known := c.by[cluster]; !known {
		c.order = append(c.order, cluster)
	}
	c.by[cluster] = d.value
	return nil
}

func (c *clusterPeriods) Replace(items []string) error {
	c.by, c.order = nil, nil
	for _, s := range items {
		if err := c.Append(s); err != nil {
			return err
		}
	}
	return nil
}

func (c *clusterPeriods) GetSlice() []string {
	out := make([]string, len(c.order))
	for i, cluster := range c.order {
		out[i] = cluster + "=" + model.Duration(c.by[cluster]).String()
	}
	return out
}

// metricClasses is a list of CLASS=DURATION or CLASS=DURATION:SIZE.
type metricClasses struct {
	list     []classes.Class
	min, max time.Duration
}

func (m *metricClasses) String() string { return strings.Join(m.GetSlice(), ",") }
func (m *metricClasses) Type() string   { return "class=duration[:size]" }
func (m *metricClasses) Set(s string) error {
	for part := range strings.SplitSeq(s, ",") {
		if err := m.Append(part); err != nil {
			return err
		}
	}
	return nil
}

func (m *metricClasses) Append(s string) error {
	name, text, ok := strings.Cut(strings.TrimSpace(s), "=")
	if !ok || name == "" {
		return fmt.Errorf("CLASS=DURATION or CLASS=DURATION:SIZE, for example raw=14d or long=400d:50GiB, not %q", s)
	}
	if slices.ContainsFunc(m.list, func(c classes.Class) bool { return c.Name == name }) {
		return fmt.Errorf("class %q is given twice", name)
	}
	text, bytes, bounded := strings.Cut(text, ":")
	d, z := newPeriod(0, m.min, m.max), &size{}
	if err := d.Set(text); err != nil {
		return err
	}
	if bounded {
		if err := z.Set(bytes); err != nil {
			return err
		}
	}
	m.list = append(m.list, classes.Class{Name: name, Retention: d.value, MaxBytes: z.bytes})
	return nil
}

func (m *metricClasses) Replace(items []string) error {
	m.list = nil
	for _, s := range items {
		if err := m.Append(s); err != nil {
			return err
		}
	}
	return nil
}

func (m *metricClasses) GetSlice() []string {
	out := make([]string, len(m.list))
	for i, c := range m.list {
		out[i] = c.Name + "=" + model.Duration(c.Retention).String()
		if c.MaxBytes > 0 {
			out[i] += ":" + (&size{c.MaxBytes}).String()
		}
	}
	return out
}

// split gives the raw class, and the others.
func (m *metricClasses) split() (raw classes.Class, named []classes.Class) {
	for _, c := range m.list {
		if c.Name == classes.Raw {
			raw = c
		} else {
			named = append(named, c)
		}
	}
	return raw, named
}

// clusterClasses is a list of CLUSTER=CLASS.
type clusterClasses struct {
	by    map[string]string
	order []string
}

func (c *clusterClasses) String() string { return strings.Join(c.GetSlice(), ",") }
func (c *clusterClasses) Type() string   { return "cluster=class" }
func (c *clusterClasses) Set(s string) error {
	for part := range strings.SplitSeq(s, ",") {
		if err := c.Append(part); err != nil {
			return err
		}
	}
	return nil
}

func (c *clusterClasses) Append(s string) error {
	cluster, name, ok := strings.Cut(strings.TrimSpace(s), "=")
	if !ok || name == "" {
		return fmt.Errorf("CLUSTER=CLASS, for example prod-1=long, not %q", s)
	}
	if err := checkCluster(cluster); err != nil {
		return err
	}
	if c.by == nil {
		c.by = map[string]string{}
	}
	if _, known := c.by[cluster]; known {
		return fmt.Errorf("cluster %q has a class already", cluster)
	}
	c.by[cluster] = name
	c.order = append(c.order, cluster)
	return nil
}

func (c *clusterClasses) Replace(items []string) error {
	c.by, c.order = nil, nil
	for _, s := range items {
		if err := c.Append(s); err != nil {
			return err
		}
	}
	return nil
}

func (c *clusterClasses) GetSlice() []string {
	out := make([]string, len(c.order))
	for i, cluster := range c.order {
		out[i] = cluster + "=" + c.by[cluster]
	}
	return out
}

// clusterID is the id of a cluster; empty until it was given.
type clusterID struct{ id string }

func (c *clusterID) String() string { return c.id }
func (c *clusterID) Type() string   { return "id" }
func (c *clusterID) Set(s string) error {
	if err := checkCluster(s); err != nil {
		return err
	}
	c.id = s
	return nil
}

func (c *clusterID) or(id string) string {
	if c.id != "" {
		return c.id
	}
	return id
}
