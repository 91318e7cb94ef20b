package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/crowsnest-dev/crowsnest/alerting/evaluate"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/storage/rollup"
)

func unmarshal(b []byte, v any) error { return json.Unmarshal(b, v) }

// subject is an object and the values of its dimensions.
type subject struct {
	level      catalogue.Level
	object     string // namespace/pod and the like; see objectOf
	dimensions string // "mountpoint=/data", in the metric's order; empty: none
}

// key is how an alert remembers its subject within policy and cluster.
func (s subject) key() string { return string(s.level) + " " + s.object + "|" + s.dimensions }

// parseSubject is the inverse of subject.key.
func parseSubject(key string) subject {
	level, rest, _ := strings.Cut(key, " ")
	obj, dims, _ := strings.Cut(rest, "|")
	return subject{catalogue.Level(level), obj, dims}
}

func compareSubjects(a, b subject) int {
	return cmp.Or(strings.Compare(string(a.level), string(b.level)), strings.Compare(a.object, b.object), strings.Compare(a.dimensions, b.dimensions))
}

// objectOf joins the labels that name an object of the level. No name in
// Kubernetes holds a slash.
func objectOf(level catalogue.Level, get func(string) string) string {
	names := level.ObjectLabels()
	switch len(names) {
	case 0, 1:
		return "" // the cluster itself
	case 2:
		return get(names[1])
	}
	return string(appendObject(nil, names, get))
}

// appendObject appends the name of an object, of which names are the level's labels,
// to a buffer.
func appendObject(buf []byte, names []string, get func(string) string) []byte {
	for i, n := range names[1:] {
		if i > 0 {
			buf = append(buf, '/')
		}
		buf = append(buf, get(n)...)
	}
	return buf
}

// labelsOf is the inverse of objectOf; false when it is no such object.
func labelsOf(level catalogue.Level, name string) (map[string]string, bool) {
	names := level.ObjectLabels()
	if len(names) < 2 {
		return nil, level == catalogue.Cluster && name == ""
	}
	parts := strings.Split(name, "/")
	if len(parts) != len(names)-1 || slices.Contains(parts, "") {
		return nil, false
	}
	out := make(map[string]string, len(parts))
	for i, p := range parts {
		out[names[i+1]] = p
	}
	return out, true
}

const dimensionSeparator = "\x1f"

func dimensionsOf(names []string, get func(string) string) string {
	return string(appendDimensions(nil, names, get))
}

func appendDimensions(buf []byte, names []string, get func(string) string) []byte {
	for i, n := range names {
		if i > 0 {
			buf = append(buf, dimensionSeparator...)
		}
		buf = append(append(append(buf, n...), '='), get(n)...)
	}
	return buf
}

func parseDimensions(s string) map[string]string {
	if s == "" {
		return nil
	}
	out := map[string]string{}
	for _, p := range strings.Split(s, dimensionSeparator) {
		k, v, _ := strings.Cut(p, "=")
		out[k] = v
	}
	return out
}

// pastKey names the samples of a metric as they were so much earlier.
type pastKey struct {
	metric string
	ago    time.Duration
}

// readings are what is judged by.
type readings struct {
	metrics map[string]*values
	past    map[pastKey]*values
	low     map[int64]bool // times of rollups that too few senders contributed to
	exprs   map[exprKey]*exprResult
	lines   map[linesKey]*linesResult
}

// of gives the samples of a condition's metric on a subject. Of a rollup of a
// part nothing can be said, but that the whole is over what the part is over.
func (d readings) of(c condition, rule evaluate.Condition, sub subject) []evaluate.Sample {
	samples := d.metrics[c.Metric].get(sub)
	if c.Change != nil {
		if past := d.past[pastKey{c.Metric, c.Change.Against.D()}].get(sub); len(past) > 0 {
			samples = slices.Concat(past, samples)
		}
	}
	if c.metric.Place != catalogue.ByServer || len(d.low) == 0 {
		return samples
	}
	threshold, ok := rule.Least()
	upward := ok && (c.Op == ">" || c.Op == ">=") && c.Change == nil && c.Forecast == nil
	out := make([]evaluate.Sample, 0, len(samples))
	for _, s := range samples {
		if !d.low[s.T] || (upward && rule.Bad(s.V, threshold)) {
			out = append(out, s)
		}
	}
	return out
}

// want is what a round needs to read, and how far back.
type want struct {
	metrics map[string]time.Duration
	past    map[pastKey]time.Duration // back from so much earlier
	exprs   map[exprKey]int           // windows
	lines   map[linesKey]int          // windows
}

func newWant() want {
	return want{map[string]time.Duration{}, map[pastKey]time.Duration{}, map[exprKey]int{}, map[linesKey]int{}}
}

// add notes what a policy needs; least is how far back it looks at least.
func (w want) add(c *compiled, interval, least time.Duration) {
	for i, cond := range c.conditions {
		if cond.Expr != "" {
			k := cond.exprKey()
			n := max(c.rule.Reach(i), min(maxExprWindows, int(least/k.period)+1))
			w.exprs[k] = max(w.exprs[k], n)
			continue
		}
		if cond.Query != "" {
			k := c.linesKey(cond)
			w.lines[k] = max(w.lines[k], c.rule.Reach(i))
			continue
		}
		back := max(least, c.span(i, interval))
		if cond.Change != nil {
			// Two short pieces are read, not all that lies between.
			if ago := cond.Change.Against.D(); ago > back {
				k := pastKey{cond.Metric, ago}
				w.past[k] = max(w.past[k], back)
			} else {
				back += ago
			}
		}
		w.metrics[cond.Metric] = max(w.metrics[cond.Metric], back)
	}
}

// reader reads one cluster's values from the store.
type reader struct {
	queryable storage.Queryable
	promql    promql.QueryEngine
	cluster   string
	on        *labels.Matcher  // only these nodes'; nil: all
	only      map[subject]bool // only these; nil: all
	few       few              // only these; nil: all
	lines     Lines
	known     completeness // of lines
	memory    *memory      // nil: what is read may be kept
}

// read gets the samples that a judgement at a time needs: one Select a metric,
// shared by all policies and objects, straight from the store.
func (rd reader) read(ctx context.Context, at time.Time, w want) (d readings, err error) {
	d = readings{metrics: make(map[string]*values, len(w.metrics)), past: map[pastKey]*values{}, low: map[int64]bool{}, exprs: map[exprKey]*exprResult{}, lines: map[linesKey]*linesResult{}}
	if rd.memory == nil {
		rd.memory = newMemory(0)
	}
	if err := rd.piece(ctx, at, w.metrics, func(name string, v *values) { d.metrics[name] = v }, d.low); err != nil {
		return d, err
	}
	agos := map[time.Duration]map[string]time.Duration{}
	for k, back := range w.past {
		if agos[k.ago] == nil {
			agos[k.ago] = map[string]time.Duration{}
		}
		agos[k.ago][k.metric] = back
	}
	for ago, metrics := range agos {
		if err := rd.piece(ctx, at.Add(-ago), metrics, func(name string, v *values) { d.past[pastKey{name, ago}] = v }, d.low); err != nil {
			return d, err
		}
	}
	for k, n := range w.exprs {
		res, err := rd.readExpr(ctx, at, k, n)
		if err != nil { // this expression's fault, which the others need not suffer
			res = &exprResult{exprKey: k, err: err}
		}
		d.exprs[k] = res
	}
	return d, rd.readLines(ctx, at, w.lines, d.lines)
}

// piece reads metrics back from a time, each only as far as it is needed: what the store
// has out of order within a querier's time costs for each series, read or not.
func (rd reader) piece(ctx context.Context, at time.Time, metrics map[string]time.Duration, put func(string, *values), low map[int64]bool) error {
	spans := map[time.Duration][]catalogue.Metric{}
	for name, back := range metrics {
		m, ok := catalogue.Get(name)
		if roots, some := rd.few[name]; ok && (!some || len(roots) > 0) {
			spans[back] = append(spans[back], m)
		}
	}
	covered := time.Duration(-1) // the longest span of rollups: their coverage is read for it
	for back, metrics := range spans {
		if back > covered && slices.ContainsFunc(metrics, func(m catalogue.Metric) bool { return m.Place == catalogue.ByServer }) {
			covered = back
		}
	}
	// It comes after all that it covers, as it is written last: sums that are read without
	// theirs would be taken for whole.
	for _, back := range slices.Sorted(maps.Keys(spans)) {
		var into map[int64]bool
		if back == covered {
			into = low
		}
		if err := rd.span(ctx, at, back, spans[back], put, into); err != nil {
			return err
		}
	}
	return nil
}

// span reads metrics of one span of time, and the coverage of rollups into low, unless it
// is nil.
func (rd reader) span(ctx context.Context, at time.Time, back time.Duration, metrics []catalogue.Metric, put func(string, *values), low map[int64]bool) error {
	mint, maxt := at.Add(-back).UnixMilli(), at.UnixMilli()
	q, err := rd.queryable.Querier(mint, maxt)
	if err != nil {
		return fmt.Errorf("open querier: %w", err)
	}
	defer q.Close()
	for _, m := range metrics {
		v, err := rd.readMetric(ctx, q, m, mint, maxt)
		if err != nil {
			return fmt.Errorf("read %s: %w", m.Name, err)
		}
		put(m.Name, v)
	}
	if low == nil {
		return nil
	}
	return rd.lowCoverage(ctx, q, mint, maxt, low)
}

// onNodes selects what is of some nodes, in one go: a block checks the sum of all that it lists
// of a metric, and of a cluster, each time that it is asked. nil: there are none.
func onNodes(names []string) *labels.Matcher {
	switch len(names) {
	case 0:
		return nil
	case 1:
		return labels.MustNewMatcher(labels.MatchEqual, "node", names[0])
	}
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = regexp.QuoteMeta(name)
	}
	return labels.MustNewMatcher(labels.MatchRegexp, "node", strings.Join(quoted, "|"))
}

func matchers(name, cluster string, also ...*labels.Matcher) []*labels.Matcher {
	return append([]*labels.Matcher{
		labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, name),
		labels.MustNewMatcher(labels.MatchEqual, "cluster", cluster),
	}, also...)
}

func (rd reader) readMetric(ctx context.Context, q storage.Querier, m catalogue.Metric, mint, maxt int64) (*values, error) {
	of := matchers(m.Name, rd.cluster)
	if rd.on != nil && hasNode(m) {
		of = append(of, rd.on)
	}
	out := rd.memory.of(rd.cluster, m)
	roots, some := rd.few[m.Name]
	if !some {
		return out, rd.readSeries(ctx, q, m, mint, maxt, of, nil, out)
	}
	names, err := namedBy(m.Level, roots)
	if err != nil {
		return nil, err
	}
	for _, named := range names {
		if err := rd.readSeries(ctx, q, m, mint, maxt, append(slices.Clip(of), named), roots, out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// readSeries adds the samples of the series that are selected to out; of those of some
// objects only, if roots are given.
func (rd reader) readSeries(ctx context.Context, q storage.Querier, m catalogue.Metric, mint, maxt int64, of []*labels.Matcher, roots map[string]bool, out *values) error {
	// To cut chunks at the ends costs half a kilobyte a series; what is beyond is left out below.
	set := q.Select(ctx, false, &storage.SelectHints{Start: mint, End: maxt, DisableTrimming: true}, of...)
	var it chunkenc.Iterator
	samples := rd.memory.samples // of one series
	defer func() { rd.memory.samples = samples[:0] }()
	for set.Next() {
		series := set.At()
		lset := series.Labels()
		number := rd.memory.number(out.of, lset.Get)
		if rd.only != nil && !rd.only[out.of.subjects[number]] || roots != nil && !roots[rootOf(m.Level, out.of.subjects[number].object)] {
			continue
		}
		before := out.by(number)
		samples = append(samples[:0], before...)
		it = series.Iterator(it)
		for vt := it.Seek(mint); vt != chunkenc.ValNone; vt = it.Next() {
			if vt != chunkenc.ValFloat {
				continue // the catalogue has no histograms
			}
			t, v := it.At()
			if t > maxt {
				break
			}
			samples = append(samples, evaluate.Sample{T: t, V: v})
		}
		if err := it.Err(); err != nil {
			return err
		}
		if len(before) > 0 { // the object's labels changed, as when a pod got its node
			samples = merged(samples)
		}
		out.put(number, samples)
	}
	return set.Err()
}

// merged puts the samples of one object's series into one order; of two at the
// same time, a value wins over a stale marker.
func merged(samples []evaluate.Sample) []evaluate.Sample {
	slices.SortStableFunc(samples, func(a, b evaluate.Sample) int {
		switch {
		case a.T != b.T:
			return int(max(-1, min(1, a.T-b.T)))
		case a.Stale() == b.Stale():
			return 0
		case a.Stale():
			return 1
		}
		return -1
	})
	return slices.CompactFunc(samples, func(a, b evaluate.Sample) bool { return a.T == b.T })
}

// hasNode tells whether a metric's series say on which node they were measured.
func hasNode(m catalogue.Metric) bool { return slices.Contains(m.Level.SeriesLabels(), "node") }

// lowCoverage adds the times of rollups that too few senders contributed to.
func (rd reader) lowCoverage(ctx context.Context, q storage.Querier, mint, maxt int64, low map[int64]bool) error {
	return rd.coverage(ctx, q, mint, maxt, func(t int64, v float64) {
		if !(v >= minCoverage) {
			low[t] = true
		}
	})
}

func (rd reader) coverage(ctx context.Context, q storage.Querier, mint, maxt int64, each func(t int64, v float64)) error {
	set := q.Select(ctx, false, &storage.SelectHints{Start: mint, End: maxt}, matchers(rollup.CoverageRatio, rd.cluster)...)
	var it chunkenc.Iterator
	for set.Next() {
		it = set.At().Iterator(it)
		for vt := it.Next(); vt != chunkenc.ValNone; vt = it.Next() {
			if t, v := it.At(); vt == chunkenc.ValFloat {
				each(t, v)
			}
		}
		if err := it.Err(); err != nil {
			return fmt.Errorf("read rollup coverage: %w", err)
		}
	}
	if err := set.Err(); err != nil {
		return fmt.Errorf("read rollup coverage: %w", err)
	}
	return nil
}

// minCoverage of a rollup that can be judged.
const minCoverage = 0.95

// objectKey is the inventory's key of an object; false for the cluster itself
// and for what the inventory does not hold.
func objectKey(level catalogue.Level, name string) (key object.Key, container string, ok bool) {
	// As labelsOf, without a map: it is asked of each object in each round.
	first, rest, _ := strings.Cut(name, "/")
	second, third, more := strings.Cut(rest, "/")
	one := first != "" && first == name
	two := first != "" && second != "" && !more
	three := first != "" && second != "" && third != "" && !strings.Contains(third, "/")
	switch level {
	case catalogue.Node:
		return object.Key{Kind: object.KindNode, Name: first}, "", one
	case catalogue.Namespace:
		return object.Key{Kind: object.KindNamespace, Name: first}, "", one
	case catalogue.Workload:
		return object.Key{Kind: object.KindWorkload, Namespace: first, Name: rest}, "", three
	case catalogue.Service:
		return object.Key{Kind: object.KindService, Namespace: first, Name: second}, "", two
	case catalogue.Pod:
		return object.Key{Kind: object.KindPod, Namespace: first, Name: second}, "", two
	case catalogue.Container:
		return object.Key{Kind: object.KindPod, Namespace: first, Name: second}, third, three
	}
	return object.Key{}, "", false
}
