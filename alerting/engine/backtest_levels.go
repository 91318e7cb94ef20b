package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/prometheus/prometheus/promql"

	"github.com/crowsnest-dev/crowsnest/alerting/evaluate"
	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/storage/inventory"
	"github.com/crowsnest-dev/crowsnest/storage/logs"
)

const (
	// maxExprPart of a range is evaluated in one go; less when it has too many
	// samples.
	maxExprPart = 6 * time.Hour
	// maxLinesPart is how many windows the log store counts in one go.
	maxLinesPart = 1000
)

// exprGrid are the values of an expression at each step of a part of time.
type exprGrid struct {
	from   time.Time
	step   time.Duration
	absent []float64 // what a series that is absent stands for; NaN: missing
	values map[subject][]float64
}

func (g *exprGrid) to() time.Time {
	return g.from.Add(time.Duration(len(g.absent)-1) * g.step)
}

func (g *exprGrid) value(sub subject, i int) float64 {
	if i < 0 || i >= len(g.absent) {
		return math.NaN()
	}
	if v, ok := g.values[sub]; ok {
		return v[i]
	}
	return g.absent[i]
}

func (g *exprGrid) windows(at time.Time, period time.Duration, sub subject, n int) []evaluate.Window {
	out := make([]evaluate.Window, n)
	base, stride := int(at.Sub(g.from)/g.step), int(period/g.step)
	for i := range out {
		v := g.value(sub, base-i*stride)
		out[i] = evaluate.Window{End: at.Add(-time.Duration(i) * period), Value: v, Missing: math.IsNaN(v)}
	}
	return out
}

// samples up to a time, the newest maxPoints of them in order of time.
func (g *exprGrid) samples(at time.Time, sub subject) []evaluate.Sample {
	var out []evaluate.Sample
	for i := int(at.Sub(g.from) / g.step); i >= 0 && len(out) < maxPoints; i-- {
		if v := g.value(sub, i); !math.IsNaN(v) {
			out = append(out, evaluate.Sample{T: g.from.Add(time.Duration(i) * g.step).UnixMilli(), V: v})
		}
	}
	slices.Reverse(out)
	return out
}

// evaluateExpr evaluates an expression at each step from one time to another.
func (b *replay) evaluateExpr(ctx context.Context, k exprKey, from, to time.Time) (*exprGrid, error) {
	n := int(to.Sub(from)/b.interval) + 1
	g := &exprGrid{from: from, step: b.interval, absent: make([]float64, n), values: map[subject][]float64{}}
	for i := range g.absent {
		g.absent[i] = math.NaN()
		if k.exists && b.covered(from.Add(time.Duration(i)*b.interval)) {
			g.absent[i] = 0
		}
	}
	for part := from; !part.After(to); {
		length := maxExprPart
		for {
			end := part.Add(length).Truncate(b.interval)
			if end.After(to) {
				end = to
			}
			err := b.evaluatePart(ctx, k, g, part, end)
			var many promql.ErrTooManySamples
			if errors.As(err, &many) && end.After(part) {
				length /= 4
				continue
			}
			if err != nil {
				return nil, err
			}
			part = end.Add(b.interval)
			break
		}
	}
	return g, nil
}

func (b *replay) evaluatePart(ctx context.Context, k exprKey, g *exprGrid, from, to time.Time) error {
	query, err := b.live.promql.NewRangeQuery(ctx, clusterQueryable{b.live.opts.Queryable, b.cluster.ID}, nil, k.expr, from, to, b.interval)
	if err != nil {
		return fmt.Errorf("expression %s: %w", shorten(k.expr), err)
	}
	defer query.Close()
	res := query.Exec(ctx)
	if res.Err != nil {
		return fmt.Errorf("expression %s: %w", shorten(k.expr), res.Err)
	}
	matrix, err := res.Matrix()
	if err != nil {
		return fmt.Errorf("expression %s: %w", shorten(k.expr), err)
	}
	for _, series := range matrix {
		sub := exprSubject(series.Metric)
		values := g.values[sub]
		if values == nil {
			if len(g.values) >= maxExprSeries {
				return fmt.Errorf("expression %s gives more than %d series within %s: %w", shorten(k.expr), maxExprSeries, g.to().Sub(g.from), fault.ErrLimited)
			}
			values = slices.Clone(g.absent)
			g.values[sub] = values
		}
		for _, p := range series.Floats {
			if i := int(time.UnixMilli(p.T).Sub(g.from) / g.step); i >= 0 && i < len(values) {
				if values[i] = p.F; k.exists {
					values[i] = 1
				}
			}
		}
	}
	return nil
}

// covered tells whether the cluster's data of a time were complete. Where
// nothing says so at all, they are taken to be.
func (b *replay) covered(t time.Time) bool {
	return len(b.coverage) == 0 || b.coverage[t.UnixMilli()] >= minCoverage
}

// scanExpr finds when an expression was bad, of what.
func (b *replay) scanExpr(ctx context.Context, i int) error {
	cond, rule := b.c.conditions[i], b.c.rule.Conditions[i]
	least, _ := rule.Least()
	reach := (time.Duration(b.c.rule.Reach(i)+1) * cond.Period.D()).Milliseconds()
	length := maxExprPart.Truncate(b.interval)
	for from := b.begin; !from.After(b.to); from = from.Add(length) {
		to := from.Add(length - b.interval)
		if to.After(b.to) {
			to = b.to
		}
		g, err := b.evaluateExpr(ctx, cond.exprKey(), from, to)
		if err != nil {
			return err
		}
		for sub, values := range g.values {
			h := b.warm(sub, "")
			for j, v := range values {
				t := from.Add(time.Duration(j) * b.interval).UnixMilli()
				if math.IsNaN(v) || cond.Op == "" && v == 0 {
					continue
				}
				b.seen(h, t)
				if rule.Bad(v, least) {
					h.add(t, t+reach)
				}
			}
		}
		b.progress(0.5 * float64(to.Sub(b.begin)) / float64(max(1, b.to.Sub(b.begin))))
	}
	return nil
}

// warm gives the heat of a subject.
func (b *replay) warm(sub subject, node string) *heat {
	h := b.hot[sub]
	if h == nil {
		h = &heat{node: node, first: math.MaxInt64}
		b.hot[sub] = h
	}
	if node != "" {
		h.node = node
	}
	return h
}

// seen notes a value, and what lies between it and the one before when that was
// long ago.
func (b *replay) seen(h *heat, t int64) {
	if b.c.rule.NoData == policy.NoDataAlert {
		silent := (b.c.rule.NoDataAfter + b.interval).Milliseconds()
		if h.first != math.MaxInt64 && t-h.last > silent {
			h.add(h.last+silent-1, t)
		}
	}
	h.first, h.last = min(h.first, t), t
}

// add a span that does not begin before the ones that are there.
func (h *heat) add(from, to int64) {
	if n := len(h.spans) - 1; n >= 0 && from <= h.spans[n].to && from >= h.spans[n].from {
		h.spans[n].to = max(h.spans[n].to, to)
		return
	}
	h.spans = append(h.spans, span{from, to})
}

// linesGrid counts the lines of a filter up to each step of a part of time.
type linesGrid struct {
	from  time.Time // before the first step's lines
	step  time.Duration
	steps int
	sums  map[subject][]uint64 // lines from the beginning up to the end of each step; the first is 0
	nodes map[subject]string
}

func (g *linesGrid) count(sub subject, at time.Time, period time.Duration) uint64 {
	sums := g.sums[sub]
	if sums == nil {
		return 0
	}
	i := min(max(0, int(at.Sub(g.from)/g.step)), g.steps)
	j := max(0, i-int(period/g.step))
	return sums[i] - sums[j]
}

func (g *linesGrid) matches(at time.Time, period time.Duration, sub subject, n int) []uint64 {
	if g.sums[sub] == nil {
		return nil
	}
	out := make([]uint64, n)
	for i := range out {
		out[i] = g.count(sub, at.Add(-time.Duration(i)*period), period)
	}
	return out
}

// countLines counts the lines of a filter at each step of (from, to].
func (b *replay) countLines(ctx context.Context, k linesKey, from, to time.Time) (*linesGrid, error) {
	g := &linesGrid{from: from, step: b.interval, steps: int(to.Sub(from) / b.interval), sums: map[subject][]uint64{}, nodes: map[subject]string{}}
	level := catalogue.Level(k.by)
	for done := 0; done < g.steps; {
		n := min(maxLinesPart, g.steps-done)
		end := from.Add(time.Duration(done+n) * b.interval)
		counts, err := b.live.opts.Lines.Counts(ctx, []logs.CountQuery{{Cluster: b.cluster.ID, Filter: k.filter, By: k.by, Period: b.interval, End: end, Windows: n, Occurrences: k.events}})
		if err == nil {
			err = counts[0].Err
		}
		if err != nil {
			return nil, fmt.Errorf("count lines: %w", err)
		}
		for _, group := range counts[0].Groups {
			l := map[string]string{
				"namespace": group.Namespace, "workload_type": group.WorkloadType, "workload": group.Workload, "pod": group.Pod, "container": group.Container, "node": group.Node,
			}
			sub := subject{level: level, object: objectOf(level, func(name string) string { return l[name] })}
			if _, ok := labelsOf(level, sub.object); !ok {
				continue
			}
			each := g.sums[sub]
			if each == nil {
				each = make([]uint64, g.steps+1)
				g.sums[sub] = each
			}
			for i, m := range group.Matches { // the newest first
				each[done+n-i] += m
			}
			if onOneNode(level) {
				g.nodes[sub] = group.Node
			}
		}
		done += n
	}
	for _, each := range g.sums {
		for i := 1; i < len(each); i++ {
			each[i] += each[i-1]
		}
	}
	return g, nil
}

// scanLines finds when the lines of a condition were too many or too few, of
// what.
func (b *replay) scanLines(ctx context.Context, i int) error {
	c := b.c
	cond, rule := c.conditions[i], c.rule.Conditions[i]
	least, _ := rule.Least()
	reach := (time.Duration(c.rule.Reach(i)+1) * cond.Period.D()).Milliseconds()
	spans := map[subject][]span{} // when objects existed that were selected
	if cond.downward() {
		if err := b.existed(ctx, func(sub subject, s span, o object.Object) {
			spans[sub] = append(spans[sub], s)
			b.warm(sub, nodeOf(o))
		}); err != nil {
			return err
		}
		if c.level == catalogue.Cluster {
			sub := subject{level: catalogue.Cluster}
			b.warm(sub, "")
			spans[sub] = []span{{b.begin.UnixMilli(), b.to.UnixMilli()}}
		}
	}
	// As many steps as the log store counts in one go, less what a window reaches
	// back.
	length := max(b.interval, (maxLinesPart*b.interval - cond.Period.D()).Truncate(b.interval))
	for from := b.begin; !from.After(b.to); from = from.Add(length) {
		to := from.Add(length - b.interval)
		if to.After(b.to) {
			to = b.to
		}
		g, err := b.countLines(ctx, c.linesKey(cond), from.Add(-cond.Period.D()-b.interval), to)
		if err != nil {
			return err
		}
		look := func(sub subject, h *heat, exists []span) {
			for t := from; !t.After(to); t = t.Add(b.interval) {
				millis := t.UnixMilli()
				if exists != nil && !(&heat{spans: exists}).at(millis) {
					continue
				}
				b.seen(h, millis)
				if rule.Bad(float64(g.count(sub, t, cond.Period.D())), least) {
					h.add(millis, millis+reach)
				}
			}
		}
		for sub := range g.sums {
			if spans[sub] == nil {
				look(sub, b.warm(sub, g.nodes[sub]), nil)
			}
		}
		for sub, s := range spans {
			look(sub, b.warm(sub, g.nodes[sub]), s)
		}
		b.progress(0.5 * float64(to.Sub(b.begin)) / float64(max(1, b.to.Sub(b.begin))))
	}
	return nil
}

// existed visits when objects existed that the policy selects.
func (b *replay) existed(ctx context.Context, visit func(sub subject, s span, o object.Object)) error {
	kind, ok := kindOf[b.c.level]
	if !ok {
		return nil
	}
	return b.archive.History(ctx, b.cluster.ID, kind, b.begin, knownBy(b.to, b.began), func(v inventory.Version) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		s := span{since(v, b.began).UnixMilli(), b.to.UnixMilli() + 1}
		if !v.To.IsZero() {
			s.to = v.To.UnixMilli() - 1
		}
		if s.to < s.from {
			return nil
		}
		b.c.eachOf(v.Object, func(container string) {
			visit(subject{level: b.c.level, object: nameOf(v.Object, container)}, s, v.Object)
		})
		return nil
	})
}

// scanCount finds when too few objects matched.
func (b *replay) scanCount(ctx context.Context) error {
	b.few = &heat{first: math.MaxInt64}
	least := b.c.atLeast()
	if least == 0 {
		return nil
	}
	if _, listed := kindOf[b.c.level]; !listed {
		return nil
	}
	changes := map[int64]int{}
	if err := b.existed(ctx, func(_ subject, s span, _ object.Object) {
		changes[max(s.from, b.begin.UnixMilli())]++
		changes[s.to+1]--
	}); err != nil {
		return err
	}
	times := make([]int64, 0, len(changes)+1)
	for t := range changes {
		times = append(times, t)
	}
	times = append(times, b.begin.UnixMilli())
	slices.Sort(times)
	times = slices.Compact(times)
	n, after := 0, (b.c.rule.NoDataAfter + 2*b.interval).Milliseconds()
	for i, t := range times {
		n += changes[t]
		b.counts = append(b.counts, countAt{t, n})
		end := b.to.UnixMilli()
		if i+1 < len(times) {
			end = times[i+1]
		}
		if n < least {
			b.few.add(t, end+after)
		}
	}
	b.few.merge()
	return nil
}

// countAt is how many objects matched from a time on.
type countAt struct {
	from int64
	n    int
}

func (b *replay) countOf(t int64) int {
	i, found := slices.BinarySearchFunc(b.counts, t, func(c countAt, t int64) int {
		switch {
		case c.from < t:
			return -1
		case c.from > t:
			return 1
		}
		return 0
	})
	if !found {
		i--
	}
	if i < 0 {
		return 0
	}
	return b.counts[i].n
}

// eachOf calls visit once for an object that the policy selects, or once for
// each of its containers that it does.
func (c *compiled) eachOf(o object.Object, visit func(container string)) {
	if c.level != catalogue.Container {
		if c.selection.Object(o, "") {
			visit("")
		}
		return
	}
	if p, ok := o.(*object.Pod); ok {
		for _, ct := range p.Containers {
			if ct.State == "running" && c.selection.Object(p, ct.Name) {
				visit(ct.Name)
			}
		}
	}
}
