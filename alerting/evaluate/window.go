package evaluate

import (
	"math"
	"slices"
	"sort"
	"time"

	"github.com/prometheus/prometheus/model/value"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
)

// percentileSamples is how many samples a window needs for its p95 or p99.
const percentileSamples = 20

// Sample is one value of one object's metric. A stale marker says that the
// series ended there.
type Sample struct {
	T int64 // Unix milliseconds
	V float64
}

// Stale tells a stale marker.
func (s Sample) Stale() bool { return value.IsStaleNaN(s.V) }

// Window is the value of one period.
type Window struct {
	End     time.Time
	Value   float64 // undefined when Missing
	Missing bool
}

// Series describes how the samples of a metric become windows.
type Series struct {
	Statistic catalogue.Statistic
	Kind      catalogue.Kind
	Period    time.Duration
	Interval  time.Duration // of the sender
	CreatedAt time.Time     // of the object; zero: unknown
	MinAge    time.Duration
	// Change compares each window with the one so much earlier; 0: it does not.
	Change        time.Duration
	ChangePercent bool // of the earlier value, which must not be 0
	// Forecast gives, for each window's end, the value so much later, by a
	// straight line through the samples of FitFrom; 0: it does not.
	Forecast, FitFrom time.Duration
}

// Windows gives the newest n windows (at − P, at], (at − 2P, at − P], …, the
// newest first. samples are those of one object (and value of its dimensions),
// in order of time; those after at are not looked at. For increases and states
// they should reach back two intervals beyond the oldest window.
func (s Series) Windows(at time.Time, n int, samples []Sample) []Window {
	samples = s.own(samples)
	out := make([]Window, n)
	for i := range out {
		end := at.Add(-time.Duration(i) * s.Period)
		out[i] = s.window(end, samples)
	}
	return out
}

// own leaves out the samples of an earlier object of the same name.
func (s Series) own(samples []Sample) []Sample {
	if s.CreatedAt.IsZero() {
		return samples
	}
	created := s.CreatedAt.UnixMilli()
	return samples[sort.Search(len(samples), func(i int) bool { return samples[i].T >= created }):]
}

func (s Series) window(end time.Time, samples []Sample) Window {
	switch {
	case s.Change > 0:
		return s.change(end, samples)
	case s.Forecast > 0:
		return s.forecast(end, samples)
	}
	return s.plain(end, samples)
}

func (s Series) change(end time.Time, samples []Sample) Window {
	now, past := s.plain(end, samples), s.plain(end.Add(-s.Change), samples)
	w := Window{End: end, Value: now.Value - past.Value, Missing: now.Missing || past.Missing}
	if s.ChangePercent && !w.Missing {
		w.Value = w.Value / math.Abs(past.Value) * 100
		w.Missing = past.Value == 0
	}
	return w
}

// forecast fits a line by least squares, as PromQL's predict_linear does.
func (s Series) forecast(end time.Time, samples []Sample) Window {
	w := Window{End: end, Missing: true}
	if !s.CreatedAt.IsZero() && end.Before(s.CreatedAt.Add(s.MinAge)) {
		return w
	}
	endMillis := end.UnixMilli()
	start := endMillis - s.FitFrom.Milliseconds()
	from := sort.Search(len(samples), func(i int) bool { return samples[i].T > start })
	to := sort.Search(len(samples), func(i int) bool { return samples[i].T > endMillis })
	var n, regular, sumT, sumV, sumTV, sumTT float64
	for _, x := range samples[from:to] {
		if x.Stale() {
			continue
		}
		if x.T%s.Interval.Milliseconds() == 0 {
			regular++
		}
		t := float64(x.T-endMillis) / 1000
		n, sumT, sumV, sumTV, sumTT = n+1, sumT+t, sumV+x.V, sumTV+t*x.V, sumTT+t*t
	}
	spread := n*sumTT - sumT*sumT
	if regular*2 < float64(s.FitFrom/s.Interval) || spread == 0 {
		return w
	}
	slope := (n*sumTV - sumT*sumV) / spread
	w.Value = sumV/n - slope*sumT/n + slope*s.Forecast.Seconds()
	w.Missing = math.IsNaN(w.Value)
	return w
}

func (s Series) plain(end time.Time, samples []Sample) Window {
	w := Window{End: end, Missing: true}
	if !s.CreatedAt.IsZero() && end.Before(s.CreatedAt.Add(s.MinAge)) {
		return w
	}
	endMillis := end.UnixMilli()
	start := endMillis - s.Period.Milliseconds()
	from := sort.Search(len(samples), func(i int) bool { return samples[i].T > start })
	to := sort.Search(len(samples), func(i int) bool { return samples[i].T > endMillis })
	in := samples[from:to]
	interval := s.Interval.Milliseconds()
	regular, live := 0, 0
	for _, x := range in {
		if x.Stale() {
			continue
		}
		live++
		if x.T%interval == 0 { // what is sent on change stands between the points of the grid
			regular++
		}
	}
	expected := max(1, s.Period.Milliseconds()/interval)
	if created := s.CreatedAt.UnixMilli(); s.Statistic == catalogue.Increase && !s.CreatedAt.IsZero() && created > start && created <= endMillis {
		// An increase of an object that was made inside the window begins from 0
		// there: all that can be known is known, however young it is.
		expected = max(1, (endMillis-created)/interval)
	}
	if live == 0 || int64(regular)*2 < expected {
		return w
	}
	if (s.Statistic == catalogue.P95 || s.Statistic == catalogue.P99) && live < percentileSamples {
		return w
	}
	var before *Sample // what held at the start of the window
	if from > 0 && start-samples[from-1].T <= 2*interval {
		before = &samples[from-1]
	}
	w.Value = s.statistic(start, endMillis, before, in)
	w.Missing = math.IsNaN(w.Value)
	return w
}

func (s Series) statistic(start, end int64, before *Sample, in []Sample) float64 {
	switch s.Statistic {
	case catalogue.Increase:
		created := s.CreatedAt.UnixMilli()
		return increase(before, in, !s.CreatedAt.IsZero() && created > start && created <= end)
	case catalogue.Avg:
		if s.Kind == catalogue.State {
			return weightedAverage(start, end, before, in)
		}
	}
	values := make([]float64, 0, len(in))
	for _, x := range in {
		if !x.Stale() {
			values = append(values, x.V)
		}
	}
	switch s.Statistic {
	case catalogue.Avg:
		return sum(values) / float64(len(values))
	case catalogue.Sum:
		return sum(values)
	case catalogue.Max:
		return slices.Max(values)
	case catalogue.Min:
		return slices.Min(values)
	case catalogue.Last:
		return values[len(values)-1]
	case catalogue.P50:
		return quantile(values, 0.50)
	case catalogue.P95:
		return quantile(values, 0.95)
	case catalogue.P99:
		return quantile(values, 0.99)
	}
	return math.NaN()
}

func sum(values []float64) float64 {
	var total float64
	for _, v := range values {
		total += v
	}
	return total
}

// quantile interpolates between the two nearest values, as PromQL's
// quantile_over_time does. It sorts values.
func quantile(values []float64, q float64) float64 {
	slices.Sort(values)
	rank := q * float64(len(values)-1)
	low := int(math.Floor(rank))
	high := min(low+1, len(values)-1)
	weight := rank - float64(low)
	return values[low]*(1-weight) + values[high]*weight
}

// increase is how much a counter rose: the last value minus the one at the
// window's start, resets added up. Without a value at the start it begins from
// 0 if the object was made inside the window, else from the first sample: what
// was before is unknown, and a gap must not make an increase.
func increase(before *Sample, in []Sample, created bool) float64 {
	var prev float64
	have := created
	if before != nil && !before.Stale() {
		prev, have = before.V, true
	}
	var total float64
	for _, x := range in {
		switch {
		case x.Stale(): // the series goes on under other labels
			continue
		case !have:
		case x.V < prev: // a counter that went down began anew at 0
			total += x.V
		default:
			total += x.V - prev
		}
		prev, have = x.V, true
	}
	return total
}

// weightedAverage weighs each value of a state by how long it held.
func weightedAverage(start, end int64, before *Sample, in []Sample) float64 {
	var weighted, held float64
	at, v, known := start, 0.0, false
	if before != nil && !before.Stale() {
		v, known = before.V, true
	}
	until := func(t int64) {
		if known {
			weighted += v * float64(t-at)
			held += float64(t - at)
		}
		at = t
	}
	for _, x := range in {
		until(x.T)
		v, known = x.V, !x.Stale()
	}
	until(end)
	if held == 0 { // the only sample stands at the end
		for _, x := range slices.Backward(in) {
			if !x.Stale() {
				return x.V
			}
		}
	}
	return weighted / held
}
