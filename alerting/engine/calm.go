package engine

import (
	"math"
	"slices"
	"strings"

	"github.com/crowsnest-dev/crowsnest/alerting/evaluate"
	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/storage/ingest"
)

// doubt says which samples some window of a condition must have to be bad.
type doubt struct {
	op    string // a comparison that such a sample passes
	least float64
	moves bool // instead of it: it is neither 0 nor what the sample before it was; ingest tells it where it is not what was told last
}

// doubt gives that of a condition; false: every sample is such.
func (c *compiled) doubt(i int) (d doubt, ok bool) {
	cond, rule := c.conditions[i], c.rule.Conditions[i]
	least, ok := rule.Least()
	if !ok || cond.Change != nil || cond.Forecast != nil {
		return doubt{}, false
	}
	up := cond.Op == ">" || cond.Op == ">="
	switch catalogue.Statistic(cond.Statistic) {
	case catalogue.Increase:
		return doubt{moves: true}, up && (least > 0 || cond.Op == ">" && least == 0) // what falls to 0, or begins there, adds nothing
	case catalogue.Sum:
		return doubt{op: ">"}, up && (least > 0 || cond.Op == ">" && least == 0)
	case catalogue.Avg, catalogue.P50, catalogue.P95, catalogue.P99:
		if cond.Op == "==" || cond.Op == "!=" {
			return doubt{}, false // it can be equal to what none of its samples is
		}
		// What is computed can lie beyond its samples by a rounding.
		if slack := math.Abs(least) * 1e-9; up {
			least -= slack
		} else {
			least += slack
		}
	}
	// An average, an extreme or a percentile lies among its samples: it is bad
	// only when one of them is.
	return doubt{op: cond.Op, least: least}, true
}

// suspicious gives a test that some sample passes wherever a window of a condition is
// bad, of a sample and the one before it (NaN: that is not known); nil: there is none,
// so that every sample is suspicious.
func (c *compiled) suspicious(i int) func(prev, v float64) bool {
	d, ok := c.doubt(i)
	if !ok {
		return nil
	}
	if d.moves {
		return func(prev, v float64) bool { return v != prev && v != 0 }
	}
	least := d.least
	switch d.op {
	case ">":
		return func(_, v float64) bool { return v > least }
	case ">=":
		return func(_, v float64) bool { return v >= least }
	case "<":
		return func(_, v float64) bool { return v < least }
	case "<=":
		return func(_, v float64) bool { return v <= least }
	}
	rule := c.rule.Conditions[i]
	return func(_, v float64) bool { return rule.Bad(v, least) }
}

// watchOf gives what arrivals are to tell of by name: all that is suspicious to some
// policy.
func watchOf(policies []*compiled) *ingest.Watch {
	of := map[string]*ingest.Odd{}
	for _, c := range policies {
		for i, cond := range c.conditions {
			d, ok := c.doubt(i)
			if !ok || cond.Expr != "" || cond.Query != "" {
				continue
			}
			if of[cond.Metric] == nil {
				of[cond.Metric] = ingest.NewOdd()
			}
			d.add(of[cond.Metric])
		}
	}
	for _, o := range of {
		for _, values := range []*[]float64{&o.Equal, &o.Other} {
			slices.Sort(*values)
			if *values = slices.Compact(*values); len(*values) > maxCompared {
				o.From, *values = math.Inf(-1), nil // all are
			}
		}
	}
	return ingest.NewWatch(of)
}

// maxCompared are compared with each sample of a metric, one by one.
const maxCompared = 8

func (d doubt) add(to *ingest.Odd) {
	switch {
	case d.moves:
		to.Moves = true
	case d.op == ">":
		to.From = min(to.From, math.Nextafter(d.least, math.Inf(1)))
	case d.op == ">=":
		to.From = min(to.From, d.least)
	case d.op == "<":
		to.To = max(to.To, math.Nextafter(d.least, math.Inf(-1)))
	case d.op == "<=":
		to.To = max(to.To, d.least)
	case d.op == "==":
		to.Equal = append(to.Equal, d.least)
	default:
		to.Other = append(to.Other, d.least)
	}
}

// possible tells whether a policy may be about a subject, by its names alone, which cost
// nothing to look at; false: it is not, whatever its object is.
func (c *compiled) possible(sub subject) bool {
	namespace, name, _ := strings.Cut(sub.object, "/")
	switch sub.level {
	case catalogue.Pod:
	case catalogue.Container:
		_, name, _ = strings.Cut(name, "/")
	case catalogue.Workload, catalogue.Service:
		name = ""
	default:
		return true
	}
	return c.promql() || c.lines() || c.selection.Possible(namespace, name)
}

// calm tells that a judgement of a subject that does not fire, and of which nothing is
// remembered, would find nothing, without making it: no sample is such that a window
// could be bad. Nearly all are, and looking costs a small part of judging.
func (c *compiled) calm(sub subject, data readings) bool {
	return c.rule.NoData != policy.NoDataAlert && c.combined(func(i int) bool {
		cond := c.conditions[i]
		return cond.Expr == "" && cond.Query == "" && c.suspects[i] != nil && !suspected(c.suspects[i], data.metrics[cond.Metric].get(cond.about(sub)))
	})
}

// calmBy is calm of the subject of a number, by the tables of the conditions.
func (c *compiled) calmBy(tables []*values, of *register, number int32) bool {
	return c.rule.NoData != policy.NoDataAlert && c.combined(func(i int) bool {
		if cond := c.conditions[i].Condition; cond.Expr != "" || cond.Query != "" || c.suspects[i] == nil {
			return false
		}
		if tables[i] != nil && tables[i].of != of {
			return !suspected(c.suspects[i], tables[i].get(c.conditions[i].about(of.subjects[number])))
		}
		return !suspected(c.suspects[i], tables[i].by(number))
	})
}

// tables gives the values of each condition, in a list of which nothing is kept.
func (c *compiled) tables(data readings, into []*values) []*values {
	into = into[:0]
	for _, cond := range c.conditions {
		into = append(into, data.metrics[cond.Metric])
	}
	return into
}

// suspected tells whether some sample is suspicious. None is told which came before:
// that can be of an earlier object of the name, whose count says nothing of this one's.
func suspected(suspicious func(prev, v float64) bool, samples []evaluate.Sample) bool {
	for _, s := range samples {
		if suspicious(math.NaN(), s.V) && !s.Stale() {
			return true
		}
	}
	return false
}
