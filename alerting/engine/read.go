package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
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
	object     string // namespace/pod and the like; see objectOf
	dimensions string // "mountpoint=/data", in the metric's order; empty: none
}

// key is how an alert remembers its subject within policy and cluster.
func (s subject) key(level catalogue.Level) string {
	return string(level) + " " + s.object + "|" + s.dimensions
}

// objectOf joins the labels that name an object of the level. No name in
// Kubernetes holds a slash.
func objectOf(level catalogue.Level, get func(string) string) string {
	switch level {
	case catalogue.Node:
		return get("node")
	case catalogue.Workload:
		return get("namespace") + "/" + get("workload_type") + "/" + get("workload")
	case catalogue.Pod:
		return get("namespace") + "/" + get("pod")
	case catalogue.Container:
		return get("namespace") + "/" + get("pod") + "/" + get("container")
	}
	return "" // the cluster itself
}

const dimensionSeparator = "\x1f"

func dimensionsOf(names []string, get func(string) string) string {
	if len(names) == 0 {
		return ""
	}
	parts := make([]string, len(names))
	for i, n := range names {
		parts[i] = n + "=" + get(n)
	}
	return strings.Join(parts, dimensionSeparator)
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

// values are the samples of one metric by subject, in order of time.
type values map[subject][]evaluate.Sample

// readings are what a round judges by.
type readings struct {
	metrics map[string]values
	low     map[int64]bool // times of rollups that too few senders contributed to
}

// of gives the samples of a condition's metric on a subject. Of a rollup of a
// part nothing can be said, but that the whole is over what the part is over.
func (d readings) of(c condition, rule evaluate.Condition, sub subject) []evaluate.Sample {
	samples := d.metrics[c.Metric][sub]
	if c.metric.Place != catalogue.ByServer || len(d.low) == 0 {
		return samples
	}
	threshold, ok := rule.Least()
	upward := ok && (c.Op == ">" || c.Op == ">=")
	out := make([]evaluate.Sample, 0, len(samples))
	for _, s := range samples {
		if !d.low[s.T] || (upward && rule.Bad(s.V, threshold)) {
			out = append(out, s)
		}
	}
	return out
}

// want is how far back each metric is needed for a round.
type want map[string]time.Duration

func (w want) add(metric string, back time.Duration) { w[metric] = max(w[metric], back) }

// read gets the samples that a round needs: one Select a metric, shared by all
// policies and objects, straight from the store.
func (e *Engine) read(ctx context.Context, r round, s scope, w want) (d readings, err error) {
	var back time.Duration
	for _, d := range w {
		back = max(back, d)
	}
	mint, maxt := r.at.Add(-back).UnixMilli(), r.at.UnixMilli()
	q, err := e.opts.Queryable.Querier(mint, maxt)
	if err != nil {
		return d, fmt.Errorf("open querier: %w", err)
	}
	defer q.Close()
	d.metrics = make(map[string]values, len(w))
	for name, back := range w {
		m, ok := catalogue.Get(name)
		if !ok {
			continue
		}
		if m.Place == catalogue.ByServer && d.low == nil {
			if d.low, err = e.lowCoverage(ctx, q, r.source.cluster, mint, maxt); err != nil {
				return d, err
			}
		}
		if d.metrics[name], err = e.readMetric(ctx, q, r.source.cluster, s.node, m, r.at.Add(-back).UnixMilli(), maxt); err != nil {
			return d, fmt.Errorf("read %s: %w", name, err)
		}
	}
	return d, nil
}

func matchers(name, cluster, node string) []*labels.Matcher {
	ms := []*labels.Matcher{
		labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, name),
		labels.MustNewMatcher(labels.MatchEqual, "cluster", cluster),
	}
	if node != "" {
		ms = append(ms, labels.MustNewMatcher(labels.MatchEqual, "node", node))
	}
	return ms
}

func (e *Engine) readMetric(ctx context.Context, q storage.Querier, cluster, node string, m catalogue.Metric, mint, maxt int64) (values, error) {
	hints := &storage.SelectHints{Start: mint, End: maxt}
	set := q.Select(ctx, false, hints, matchers(m.Name, cluster, node)...)
	out := values{}
	var it chunkenc.Iterator
	for set.Next() {
		series := set.At()
		lset := series.Labels()
		key := subject{objectOf(m.Level, lset.Get), dimensionsOf(m.Dimensions, lset.Get)}
		before := out[key]
		samples := before
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
			return nil, err
		}
		if len(before) > 0 { // the object's labels changed, as when a pod got its node
			samples = merged(samples)
		}
		out[key] = samples
	}
	return out, set.Err()
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

// lowCoverage gives the times of rollups that too few senders contributed to.
func (e *Engine) lowCoverage(ctx context.Context, q storage.Querier, cluster string, mint, maxt int64) (map[int64]bool, error) {
	set := q.Select(ctx, false, &storage.SelectHints{Start: mint, End: maxt}, matchers(rollup.CoverageRatio, cluster, "")...)
	low := map[int64]bool{}
	var it chunkenc.Iterator
	for set.Next() {
		it = set.At().Iterator(it)
		for vt := it.Next(); vt != chunkenc.ValNone; vt = it.Next() {
			if t, v := it.At(); vt == chunkenc.ValFloat && (v < minCoverage || math.IsNaN(v)) {
				low[t] = true
			}
		}
		if err := it.Err(); err != nil {
			return nil, fmt.Errorf("read rollup coverage: %w", err)
		}
	}
	if err := set.Err(); err != nil {
		return nil, fmt.Errorf("read rollup coverage: %w", err)
	}
	return low, nil
}

// minCoverage of a rollup that can be judged.
const minCoverage = 0.95

// objectKey is the inventory's key of an object; false for the cluster itself.
func objectKey(level catalogue.Level, name string) (key object.Key, container string, ok bool) {
	parts := strings.Split(name, "/")
	switch {
	case level == catalogue.Node && len(parts) == 1 && name != "":
		return object.Key{Kind: object.KindNode, Name: name}, "", true
	case level == catalogue.Workload && len(parts) == 3:
		return object.Key{Kind: object.KindWorkload, Namespace: parts[0], Name: parts[1] + "/" + parts[2]}, "", true
	case level == catalogue.Pod && len(parts) == 2:
		return object.Key{Kind: object.KindPod, Namespace: parts[0], Name: parts[1]}, "", true
	case level == catalogue.Container && len(parts) == 3:
		return object.Key{Kind: object.KindPod, Namespace: parts[0], Name: parts[1]}, parts[2], true
	}
	return object.Key{}, "", false
}
