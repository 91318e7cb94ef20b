package rollup

import (
	"maps"
	"math"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
)

// Past sums a cluster's samples of intervals that are too old to be opened: those
// of a block that is being made. It is not for concurrent use.
type Past struct {
	seconds  int64 // that the block has
	plan     *plan
	cluster  string
	tallies  []map[string]map[int64]*sum // by tally, key and time
	senders  map[string]map[int64]struct{}
	interval int64 // of the slowest sender, milliseconds
}

// NewPast makes one for the declarations and a block of a length.
func NewPast(cluster string, metrics []catalogue.Metric, block time.Duration) (*Past, error) {
	p, err := newPlan(metrics)
	if err != nil {
		return nil, err
	}
	past := &Past{seconds: int64(block / time.Second), plan: p, cluster: cluster, tallies: make([]map[string]map[int64]*sum, len(p.tallies)), senders: map[string]map[int64]struct{}{}}
	for i := range past.tallies {
		past.tallies[i] = map[string]map[int64]*sum{}
	}
	return past, nil
}

// Series gives what is to be called for each sample of a series; nil when nothing
// needs it. A time that comes again adds nothing.
func (p *Past) Series(lset labels.Labels) func(at int64, v float64) {
	name := lset.Get(labels.MetricName)
	if name == SenderInterval {
		sender := lset.Get(SenderLabel)
		return func(at int64, seconds float64) {
			if !(seconds >= 1 && seconds < math.MaxInt32) {
				return
			}
			p.interval = max(p.interval, int64(seconds*1000))
			if p.senders[sender] == nil {
				p.senders[sender] = map[int64]struct{}{}
			}
			p.senders[sender][at] = struct{}{}
		}
	}
	var into []map[int64]*sum
	for _, t := range p.plan.readBy[name] {
		key, ok := p.plan.tallies[t].key(nil, lset)
		if !ok {
			continue
		}
		byTime := p.tallies[t][string(key)]
		if byTime == nil {
			byTime = map[int64]*sum{}
			p.tallies[t][string(key)] = byTime
		}
		into = append(into, byTime)
	}
	if into == nil {
		return nil
	}
	seen := make([]uint64, (p.seconds+63)/64) // by second, which every grid consists of
	return func(at int64, v float64) {
		second := at / 1000 % p.seconds
		if at%1000 != 0 || seen[second/64]&(1<<(second%64)) != 0 {
			return
		}
		seen[second/64] |= 1 << (second % 64)
		for _, byTime := range into {
			total := byTime[at]
			if total == nil {
				total = &sum{}
				byTime[at] = total
			}
			total.add(v)
		}
	}
}

// Inputs are the names of the metrics that sums are made of, and that of the
// senders' words.
func (p *Past) Inputs() []string {
	return append(slices.Sorted(maps.Keys(p.plan.readBy)), SenderInterval)
}

// Each gives the sums of the grid points that wanted picks, of each series in
// the order of time, the coverage among them. nodes are those that the inventory
// knows now: history has no other word about who is missing.
func (p *Past) Each(nodes []string, wanted func(at int64) bool, put func(lset labels.Labels, at int64, v float64) error) error {
	reported := map[int64]int{}
	expected := map[string]struct{}{}
	byNode := false
	for name, times := range p.senders {
		expected[name] = struct{}{}
		byNode = byNode || isNodeSender(name)
		for at := range times {
			if at%p.interval == 0 {
				reported[at]++
			}
		}
	}
	if byNode {
		for _, n := range nodes {
			expected[nodeSender(n)] = struct{}{}
		}
	}
	var grid []int64
	for at := range reported {
		if wanted(at) {
			grid = append(grid, at)
		}
	}
	slices.Sort(grid)
	for t, tally := range p.plan.tallies {
		for key, byTime := range p.tallies[t] {
			for _, o := range tally.outputs {
				out := p.plan.outputs[o]
				lset := tally.labels(out.name, p.cluster, key)
				for _, at := range grid {
					total := byTime[at]
					if total == nil || total.n == 0 {
						continue
					}
					v := total.value()
					if out.per >= 0 {
						divisor := p.tallies[out.per][key][at]
						if divisor == nil || !(divisor.value() > 0) {
							continue
						}
						v = 100 * v / divisor.value()
					}
					if err := put(lset, at, v); err != nil {
						return err
					}
				}
			}
		}
	}
	lset := labels.FromStrings(labels.MetricName, CoverageRatio, clusterLabel, p.cluster)
	for _, at := range grid {
		if err := put(lset, at, float64(reported[at])/float64(len(expected))); err != nil {
			return err
		}
	}
	return nil
}
