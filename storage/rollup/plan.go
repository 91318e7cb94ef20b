package rollup

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
)

// plan is what the declarations ask for: which metrics are read, by which labels
// they are summed, and what is written.
type plan struct {
	tallies []tally
	outputs []output
	readBy  map[string][]int // by the name of a read metric: the tallies that it feeds
}

// tally sums one metric by some labels. Outputs that want the same sum share it.
type tally struct {
	of      string
	by      []string // cluster is the first
	outputs []int    // those that write its sum
}

// output is one series name that is written.
type output struct {
	name string
	sum  int // tally
	per  int // tally of the divisor, -1 without
}

// newPlan reads the declarations. One that sums a rollup is refused: it would
// have to wait for another one's interval.
func newPlan(metrics []catalogue.Metric) (*plan, error) {
	p := &plan{readBy: map[string][]int{}}
	byName := map[string]catalogue.Metric{}
	for _, m := range metrics {
		byName[m.Name] = m
	}
	var errs []error
	tallyOf := func(rollup, of string, by []string) int {
		if m, ok := byName[of]; !ok {
			errs = append(errs, fmt.Errorf("rollup %s: there is no metric %q", rollup, of))
		} else if m.Sum != nil {
			errs = append(errs, fmt.Errorf("rollup %s: %s is a rollup itself", rollup, of))
		}
		for i, t := range p.tallies {
			if t.of == of && slices.Equal(t.by, by) {
				return i
			}
		}
		p.tallies = append(p.tallies, tally{of: of, by: by})
		i := len(p.tallies) - 1
		p.readBy[of] = append(p.readBy[of], i)
		return i
	}
	for _, m := range metrics {
		if m.Sum == nil {
			continue
		}
		by := m.Labels()
		if len(by) == 0 || by[0] != clusterLabel {
			errs = append(errs, fmt.Errorf("rollup %s: level %q has no cluster label", m.Name, m.Level))
			continue
		}
		out := output{name: m.Name, sum: tallyOf(m.Name, m.Sum.Of, by), per: -1}
		if m.Sum.Per != "" {
			out.per = tallyOf(m.Name, m.Sum.Per, by)
		}
		p.outputs = append(p.outputs, out)
		p.tallies[out.sum].outputs = append(p.tallies[out.sum].outputs, len(p.outputs)-1)
	}
	return p, errors.Join(errs...)
}

// key names the group of a series within a tally; false when the series lacks
// one of the labels. It is appended to buf.
func (t tally) key(buf []byte, lset labels.Labels) ([]byte, bool) {
	for _, name := range t.by[1:] { // all groups of a tally are of one cluster
		v := lset.Get(name)
		if v == "" {
			return nil, false
		}
		buf = append(buf, v...)
		buf = append(buf, 0xff) // in no valid UTF-8
	}
	return buf, true
}

// labels gives the labels of an output's series for a group.
func (t tally) labels(name, cluster, key string) labels.Labels {
	b := labels.NewScratchBuilder(len(t.by) + 1)
	b.Add(labels.MetricName, name)
	b.Add(clusterLabel, cluster)
	if len(t.by) > 1 {
		for i, v := range strings.Split(strings.TrimSuffix(key, "\xff"), "\xff") {
			b.Add(t.by[i+1], v)
		}
	}
	b.Sort()
	return b.Labels()
}
