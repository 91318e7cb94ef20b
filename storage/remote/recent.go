package remote

import (
	"slices"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
)

// recent holds what was written lately: an engine shows it some seconds later
// only. Floats alone; nothing of ours reads histograms the moment they arrive.
type recent struct {
	keep time.Duration
	most int // samples

	mu     sync.Mutex
	series map[string]map[uint64][]*recentSeries // by metric name and hash of the labels
	queue  []written                             // the oldest first
	n      int                                   // samples held
}

type recentSeries struct {
	lset    labels.Labels
	samples []prompb.Sample // in order of time
}

// written is one sample in the order of its arrival.
type written struct {
	at     time.Time
	series *recentSeries
	t      int64
}

func newRecent(keep time.Duration, most int) *recent {
	return &recent{keep: keep, most: most, series: map[string]map[uint64][]*recentSeries{}}
}

func (r *recent) size() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.n
}

func (r *recent) add(now time.Time, sets []labels.Labels, list []prompb.TimeSeries) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, lset := range sets {
		if len(list[i].Samples) == 0 {
			continue
		}
		s := r.findLocked(lset)
		for _, p := range list[i].Samples {
			at, found := slices.BinarySearchFunc(s.samples, p.Timestamp, func(have prompb.Sample, t int64) int { return int(have.Timestamp - t) })
			if found {
				continue // the first one stays, as in the engine
			}
			s.samples = slices.Insert(s.samples, at, p)
			r.queue = append(r.queue, written{now, s, p.Timestamp})
			r.n++
		}
	}
	r.forgetLocked(now)
}

func (r *recent) findLocked(lset labels.Labels) *recentSeries {
	name, hash := lset.Get(labels.MetricName), lset.Hash()
	of := r.series[name]
	if of == nil {
		of = map[uint64][]*recentSeries{}
		r.series[name] = of
	}
	for _, s := range of[hash] {
		if labels.Equal(s.lset, lset) {
			return s
		}
	}
	s := &recentSeries{lset: lset}
	of[hash] = append(of[hash], s)
	return s
}

func (r *recent) forgetLocked(now time.Time) {
	n := 0
	for n < len(r.queue) && (now.Sub(r.queue[n].at) > r.keep || r.n > r.most) {
		w := r.queue[n]
		n++
		if at, found := slices.BinarySearchFunc(w.series.samples, w.t, func(have prompb.Sample, t int64) int { return int(have.Timestamp - t) }); found {
			w.series.samples = slices.Delete(w.series.samples, at, at+1)
			r.n--
		}
		if len(w.series.samples) == 0 {
			r.removeLocked(w.series)
		}
	}
	r.queue = slices.Delete(r.queue, 0, n)
}

func (r *recent) removeLocked(s *recentSeries) {
	name, hash := s.lset.Get(labels.MetricName), s.lset.Hash()
	of := r.series[name]
	of[hash] = slices.DeleteFunc(of[hash], func(have *recentSeries) bool { return have == s })
	if len(of[hash]) == 0 {
		delete(of, hash)
	}
	if len(of) == 0 {
		delete(r.series, name)
	}
}

// drop forgets a cluster.
func (r *recent) drop(cluster string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queue = slices.DeleteFunc(r.queue, func(w written) bool {
		if w.series.lset.Get("cluster") != cluster {
			return false
		}
		if len(w.series.samples) > 0 {
			r.n -= len(w.series.samples)
			w.series.samples = nil
			r.removeLocked(w.series)
		}
		return true
	})
}

// selected gives copies of what matches, within two times, both included.
func (r *recent) selected(mint, maxt int64, ms []*labels.Matcher) []series {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []series
	for name, of := range r.series {
		if !matchesName(name, ms) {
			continue
		}
		for _, bucket := range of {
			for _, s := range bucket {
				if !matches(s.lset, ms) {
					continue
				}
				var within []sample
				for _, p := range s.samples {
					if p.Timestamp >= mint && p.Timestamp <= maxt {
						within = append(within, sample{p.Timestamp, p.Value})
					}
				}
				if len(within) > 0 {
					out = append(out, series{s.lset, within})
				}
			}
		}
	}
	return out
}

func matchesName(name string, ms []*labels.Matcher) bool {
	for _, m := range ms {
		if m.Name == labels.MetricName && !m.Matches(name) {
			return false
		}
	}
	return true
}

func matches(lset labels.Labels, ms []*labels.Matcher) bool {
	for _, m := range ms {
		if !m.Matches(lset.Get(m.Name)) {
			return false
		}
	}
	return true
}
