package rollup

import (
	"math"
	"slices"
	"sync"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
)

// Metrics behind something, as those of Services are, read the newest sample of each
// series of a dozen metrics of pods at each interval. To find and decode these in the
// store takes a quarter of the server's CPU time in a large cluster; here they are as
// they pass.

// newestBlock is how many series are read under one lock, in some 10 us.
const newestBlock = 1024

// newest are the last two samples of a series: an interval is looked at while those of
// the next arrive. There are millions of these.
type newest struct {
	lset labels.Labels // empty once its feed was given back
	v    [2]float64    // the newest first
	at   int64         // of the newest, Unix milliseconds; 0: none
	back uint32        // by how many milliseconds the other one is older; 0: none
	// moved is when it was found to have a sample unlike the one before, in Unix seconds,
	// rounded up: since that time all are alike.
	moved uint32
}

func (s *newest) gone() bool { return s.lset.IsEmpty() }

// times are those of the samples, 0 where there is none.
func (s *newest) times() [2]int64 {
	if s.back == 0 {
		return [2]int64{s.at, 0}
	}
	return [2]int64{s.at, s.at - int64(s.back)}
}

// newestOf are the series of one metric of a cluster.
type newestOf struct {
	all  []*newest // only appended to, or replaced
	gone int
}

// newestSeries are those of a cluster.
type newestSeries struct {
	mu     sync.Mutex
	of     map[string]*newestOf // by metric
	before int64                // samples up to here may not have passed, or are others in the store
}

// keep begins with a series.
func (n *newestSeries) keep(metric string, lset labels.Labels) *newest {
	s := &newest{lset: lset}
	n.mu.Lock()
	defer n.mu.Unlock()
	of := n.of[metric]
	if of == nil {
		of = &newestOf{}
		n.of[metric] = of
	}
	of.all = append(of.all, s)
	return s
}

// leave ends with series.
func (n *newestSeries) leave(feeds []*Feed) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, f := range feeds {
		if f == nil || f.newest == nil || f.newest.gone() {
			continue
		}
		of := n.of[f.newest.lset.Get(labels.MetricName)]
		f.newest.lset = labels.EmptyLabels()
		n.before = max(n.before, f.newest.at) // an interval may be late by more than a series is kept
		if of.gone++; of.gone > len(of.all)/4 {
			kept := make([]*newest, 0, len(of.all)-of.gone)
			for _, s := range of.all {
				if !s.gone() {
					kept = append(kept, s)
				}
			}
			of.all, of.gone = kept, 0
		}
	}
}

// add takes a sample in whatever order they come; not sure when there is another one of that
// time, of which the store has the first in a commit, but may give the one that was late.
func (s *newest) add(at int64, v float64) (sure bool) {
	times := s.times()
	for i, t := range times {
		if t == at {
			return math.Float64bits(v) == math.Float64bits(s.v[i])
		}
	}
	if s.at != 0 && v != s.v[0] {
		s.moved = max(s.moved, uint32((max(at, s.at)+999)/1000))
	}
	switch {
	case at > s.at:
		s.at, s.back, s.v = at, 0, [2]float64{v, s.v[0]}
		return times[0] == 0 || s.follows(times[0])
	case at > times[1]:
		s.v[1] = v
		return s.follows(at)
	}
	return true
}

// follows notes the time of the older sample; not sure when it is too long ago to be kept.
func (s *newest) follows(at int64) (sure bool) {
	if s.at-at > math.MaxUint32 {
		s.back = 0
		return false
	}
	s.back = uint32(s.at - at)
	return true
}

// value gives what the series has at a time: its newest sample then, unless that is from
// before since or ends the series. It is not known of a time before both samples.
func (s *newest) value(since, at int64) (v float64, has, known bool) {
	for i, t := range s.times() {
		if t <= at {
			return s.v[i], t >= since && t != 0 && !value.IsStaleNaN(s.v[i]), true
		}
	}
	return 0, false, false
}

// Value is what a series has at a time.
type Value struct {
	Series labels.Labels
	V      float64
	// Moved is a time, in Unix milliseconds, since which all samples of the series are alike;
	// it may be later than that.
	Moved int64
	// Asked says that V is not known, and whether there is one: both samples that are kept
	// of the series are later. The store knows.
	Asked bool
}

// Newest appends to into what each series of a metric has at a time, in Unix
// milliseconds: its newest sample then, none older than since, and not where a stale
// marker follows it. False when the store must be asked: the metric is not one of
// Options.Newest, or samples of that time came before this process, another way, or so that
// the store may have others.
func (r *Rollups) Newest(clusterID, metric string, since, at int64, into []Value) ([]Value, bool) {
	if !slices.Contains(r.opts.Newest, metric) {
		return into, false
	}
	n := &r.cluster(clusterID).newestSeries
	n.mu.Lock()
	sure := since > n.before
	var all []*newest
	if of := n.of[metric]; of != nil {
		all = of.all
	}
	n.mu.Unlock()
	for len(all) > 0 && sure {
		block := all[:min(newestBlock, len(all))]
		all = all[len(block):]
		n.mu.Lock()
		for _, s := range block {
			if s.gone() {
				continue
			}
			v, has, known := s.value(since, at)
			if has || !known {
				into = append(into, Value{s.lset, v, int64(s.moved) * 1000, !known})
			}
		}
		sure = sure && since > n.before
		n.mu.Unlock()
	}
	return into, sure
}

// Pass takes samples that were committed and that no sum is made of: stale markers, and
// those whose feed does not sum. The slice is not kept.
func (r *Rollups) Pass(clusterID string, samples []Sample) {
	if len(samples) > 0 {
		r.cluster(clusterID).newestSeries.add(samples)
	}
}

func (n *newestSeries) add(samples []Sample) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range samples {
		s, at := samples[i].Feed.newest, samples[i].At
		if s != nil && (s.gone() || !s.add(at, samples[i].V)) {
			n.before = max(n.before, at)
		}
	}
}

// Bypassed notes that samples up to a time, in Unix milliseconds, were stored that neither
// Add nor Pass is told of.
func (r *Rollups) Bypassed(clusterID string, upTo int64) {
	r.cluster(clusterID).newestSeries.leaveToStore(upTo)
}

// leaveToStore has the store asked of samples up to a time.
func (n *newestSeries) leaveToStore(upTo int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.before = max(n.before, upTo)
}
