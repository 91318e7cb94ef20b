package evaluate

import (
	"bufio"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/value"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
)

var t0 = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

func at(v float64) *float64 { return &v }

// above80 is bad over 80 and good from 70 down.
func above80(need, of, recoverAfter int) *Rule {
	return &Rule{
		Conditions:   []Condition{{Op: ">", Thresholds: Levels{nil, at(80), nil}, Recovery: Levels{nil, at(70), nil}, Need: need, Of: of}},
		RecoverAfter: recoverAfter, NoData: "keep", NoDataAfter: time.Hour,
	}
}

// windowsOf reads the runes of periods up to the n-th, the newest first: x bad,
// . good, - between threshold and recovery, ? missing.
func windowsOf(runes string) []Window {
	var out []Window
	for i := len(runes) - 1; i >= 0; i-- {
		w := Window{End: t0.Add(time.Duration(i) * time.Minute)}
		switch runes[i] {
		case 'x':
			w.Value = 90
		case '-':
			w.Value = 75
		case '.':
			w.Value = 10
		case '?':
			w.Missing = true
		}
		out = append(out, w)
	}
	return out
}

func play(r *Rule, runes string) string {
	var s State
	var got strings.Builder
	for i := range len(runes) {
		now := t0.Add(time.Duration(i) * time.Minute)
		s, _ = s.Step(r, Input{At: now, Windows: [][]Window{windowsOf(runes[:i+1])}, Newest: now, Interval: 30 * time.Second})
		if s.Rank(r.NoDataRank) > 0 {
			got.WriteByte('f')
		} else {
			got.WriteByte('o')
		}
	}
	return got.String()
}

func TestStep(t *testing.T) {
	for name, tc := range map[string]struct {
		need, of, recoverAfter int
		windows, want          string
	}{
		"fires when need is met":              {3, 3, 2, "xxx", "oof"},
		"a gap delays, it does not undo":      {3, 3, 2, "xx?x", "ooof"},
		"between thresholds it stays":         {3, 3, 2, "xxx--", "oofff"},
		"one good period is not enough":       {3, 3, 2, "xxx.x", "oofff"},
		"two good periods end it":             {3, 3, 2, "xxx..", "ooffo"},
		"a gap delays recovery":               {3, 3, 2, "xxx.?.", "oofffo"},
		"a gap does not recover":              {3, 3, 2, "xxx????????", "oofffffffff"},
		"recovery reaches back 2 × only":      {3, 3, 2, "xxx.???.", "ooffffff"},
		"need 2 of 3":                         {2, 3, 2, "x.x", "oof"},
		"the newest must be bad":              {2, 3, 9, "xx.", "off"},
		"the newest must be bad (not before)": {2, 3, 9, "x?.x", "ooof"},
		"reaches back of + ⌈of/2⌉":            {3, 3, 2, "xx??x", "oooof"},
		"and no further":                      {3, 3, 2, "xx???x", "oooooo"},
		"between is not bad":                  {1, 1, 2, "---", "ooo"},
		"fires at once":                       {1, 1, 1, "x.x.", "fofo"},
		"it comes back":                       {2, 2, 1, "xx.xx", "ofoof"},
		"need of fewer than of":               {1, 5, 2, "....x", "oooof"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := play(above80(tc.need, tc.of, tc.recoverAfter), tc.windows); got != tc.want {
				t.Errorf("%s\ngot  %s\nwant %s", tc.windows, got, tc.want)
			}
		})
	}
}

func TestSeverities(t *testing.T) {
	r := &Rule{
		Conditions: []Condition{{
			Op: ">", Thresholds: Levels{at(70), at(80), at(95)}, Recovery: Levels{nil, at(70), at(90)}, Need: 1, Of: 1,
		}},
		RecoverAfter: 1, NoData: "keep", NoDataAfter: time.Hour,
	}
	var s State
	for i, tc := range []struct {
		v    float64
		want int
	}{{60, 0}, {71, 1}, {81, 2}, {96, 3}, {92, 3}, {90, 2}, {75, 2}, {70, 0}, {99, 3}, {10, 0}} {
		now := t0.Add(time.Duration(i) * time.Minute)
		var cause Cause
		s, cause = s.Step(r, Input{At: now, Windows: [][]Window{{{End: now, Value: tc.v}}}, Newest: now})
		if got := s.Rank(0); got != tc.want {
			t.Errorf("step %d: %v: got rank %d, want %d", i, tc.v, got, tc.want)
		}
		if (cause == ValueNormal) != (tc.want == 0 && i > 0) {
			t.Errorf("step %d: cause %q", i, cause)
		}
	}
}

func TestCombine(t *testing.T) {
	a := Condition{Op: ">", Thresholds: Levels{nil, at(80), nil}, Need: 1, Of: 1}
	b := Condition{Op: ">", Thresholds: Levels{nil, at(10), at(20)}, Need: 1, Of: 1}
	c := Condition{Op: ">", Thresholds: Levels{nil, nil, at(5)}, Need: 1, Of: 1}
	for name, tc := range map[string]struct {
		conditions []Condition
		any        bool
		values     [][]float64
		want       string
	}{
		"all needs every condition":                {[]Condition{a, b}, false, [][]float64{{90, 5}, {70, 15}, {90, 15}}, "..w"},
		"one that lacks critical counts as it has": {[]Condition{a, b}, false, [][]float64{{90, 25}, {90, 15}, {70, 25}}, "cw."},
		"any needs one":                            {[]Condition{a, b}, true, [][]float64{{90, 5}, {70, 15}, {70, 5}}, "ww."},
		"any: a worse one counts for less":         {[]Condition{a, c}, true, [][]float64{{70, 6}, {90, 4}, {70, 4}}, "cw."},
		"any: all that name it must be good":       {[]Condition{a, b}, true, [][]float64{{90, 15}, {90, 5}, {70, 5}}, "ww."},
		"all: one that is good ends it":            {[]Condition{a, b}, false, [][]float64{{90, 15}, {90, 5}}, "w."},
	} {
		t.Run(name, func(t *testing.T) {
			r := &Rule{Conditions: tc.conditions, Any: tc.any, RecoverAfter: 1, NoData: "keep", NoDataAfter: time.Hour}
			var s State
			got := ""
			for i, vs := range tc.values {
				now := t0.Add(time.Duration(i) * time.Minute)
				in := Input{At: now, Newest: now}
				for _, v := range vs {
					in.Windows = append(in.Windows, []Window{{End: now, Value: v}})
				}
				s, _ = s.Step(r, in)
				got += ".iwc"[s.Rank(0) : s.Rank(0)+1]
			}
			if got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func TestNoData(t *testing.T) {
	for action, want := range map[string]string{
		// Of each full minute; no sample after minute 0, `after` is 5 min and
		// counts from one interval after the newest sample.
		"keep":    "2222222 24h0m30s no_data",
		"resolve": "222222 5m30s no_data",
		"alert":   "2222223 24h0m30s no_data",
	} {
		t.Run(action, func(t *testing.T) {
			r := above80(1, 1, 1)
			r.NoData, r.NoDataAfter, r.NoDataRank = action, 5*time.Minute, 3
			s, _ := State{}.Step(r, Input{At: t0, Windows: [][]Window{{{End: t0, Value: 90}}}, Newest: t0, Interval: 30 * time.Second})
			got := ""
			for i := range 3000 {
				now := t0.Add(time.Duration(i) * 30 * time.Second)
				var cause Cause
				s, cause = s.Step(r, Input{At: now, Windows: [][]Window{{{End: now, Missing: true}}}, Newest: t0, Interval: 30 * time.Second})
				if cause != "" {
					got += fmt.Sprintf(" %v %s", now.Sub(t0), cause)
					break
				}
				if i < 14 && i%2 == 0 {
					got += strconv.Itoa(s.Rank(3))
				}
			}
			if got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
	t.Run("the alert of missing data ends when data is back", func(t *testing.T) {
		r := above80(1, 1, 1)
		r.NoData, r.NoDataAfter, r.NoDataRank = "alert", 5*time.Minute, 1
		s, cause := State{}.Step(r, Input{At: t0, Windows: [][]Window{nil}, Newest: t0.Add(-6 * time.Minute), Interval: time.Minute})
		if s.Rank(1) != 1 || cause != "" {
			t.Fatalf("got rank %d, %q", s.Rank(1), cause)
		}
		next := t0.Add(time.Minute)
		s, cause = s.Step(r, Input{At: next, Windows: [][]Window{{{End: next, Value: 1}}}, Newest: next, Interval: time.Minute})
		if s.Rank(1) != 0 || cause != ValueNormal {
			t.Errorf("got rank %d, %q", s.Rank(1), cause)
		}
	})
	t.Run("what never had a value is not silent", func(t *testing.T) {
		r := above80(1, 1, 1)
		r.NoData, r.NoDataRank = "alert", 1
		if s, _ := (State{}).Step(r, Input{At: t0, Windows: [][]Window{nil}}); s.Rank(1) != 0 {
			t.Error("it fires")
		}
	})
}

func TestGoneEndsWithItsCause(t *testing.T) {
	r := above80(1, 1, 1)
	s, _ := State{}.Step(r, Input{At: t0, Windows: [][]Window{{{End: t0, Value: 90}}}, Newest: t0})
	s, cause := s.Step(r, Input{At: t0.Add(time.Minute), Gone: ScaledDown})
	if s.Rank(0) != 0 || cause != ScaledDown {
		t.Errorf("got %d, %q", s.Rank(0), cause)
	}
	if _, cause = s.Step(r, Input{At: t0.Add(time.Minute), Gone: ScaledDown}); cause != "" {
		t.Errorf("what did not fire cannot end: %q", cause)
	}
}

func TestTimeNeverGoesBack(t *testing.T) {
	r := above80(1, 1, 1)
	s, _ := State{}.Step(r, Input{At: t0, Windows: [][]Window{{{End: t0, Value: 90}}}, Newest: t0})
	old := t0.Add(-time.Minute)
	if got, cause := s.Step(r, Input{At: old, Windows: [][]Window{{{End: old, Value: 1}}}}); !reflect.DeepEqual(got, s) || cause != "" {
		t.Errorf("an old input changed %+v to %+v, %q", s, got, cause)
	}
}

func TestAnEditedRuleLetsGoOfSeveritiesItLost(t *testing.T) {
	r := above80(1, 1, 1)
	s, _ := State{}.Step(r, Input{At: t0, Windows: [][]Window{{{End: t0, Value: 90}}}, Newest: t0})
	edited := above80(1, 1, 1)
	edited.Conditions[0].Thresholds = Levels{nil, nil, at(99)}
	edited.Conditions[0].Recovery = Levels{}
	now := t0.Add(time.Minute)
	if s, cause := s.Step(edited, Input{At: now, Windows: [][]Window{{{End: now, Value: 90}}}, Newest: now}); s.Rank(0) != 0 || cause != ValueNormal {
		t.Errorf("got %d, %q", s.Rank(0), cause)
	}
}

// Random lives: what the contracts say of gaps and of repetition must hold in
// all of them.
func TestProperties(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		of := 1 + rnd.IntN(6)
		r := above80(1+rnd.IntN(of), of, 1+rnd.IntN(3))
		runes := make([]byte, 30)
		for i := range runes {
			runes[i] = "xxx.-?"[rnd.IntN(6)]
		}
		var s State
		for i := range runes {
			now := t0.Add(time.Duration(i) * time.Minute)
			in := Input{At: now, Windows: [][]Window{windowsOf(string(runes[:i+1]))}, Newest: now}
			next, cause := s.Step(r, in)
			was, is := s.Rank(0) > 0, next.Rank(0) > 0
			if bad := strings.Count(lastOf(runes[:i+1], of), "x"); !was && is && (bad < r.Conditions[0].Need || runes[i] != 'x') {
				t.Fatalf("it fires on %d bad periods: %s, need %d of %d", bad, runes[:i+1], r.Conditions[0].Need, of)
			}
			if good := lastOf(runes[:i+1], r.RecoverAfter); was && !is && strings.Trim(good, ".") != "" {
				t.Fatalf("it ends on %s: %s, recoverAfter %d", good, runes[:i+1], r.RecoverAfter)
			}
			if (cause != "") != (was && !is) {
				t.Fatalf("an end comes without its cause, or a cause without an end: %s: %q", runes[:i+1], cause)
			}
			if runes[i] == '?' && next.Latches != s.Latches {
				t.Fatalf("a missing period changed the state: %s, need %d of %d, recoverAfter %d", runes[:i+1], r.Conditions[0].Need, of, r.RecoverAfter)
			}
			if again, cause := next.Step(r, in); !reflect.DeepEqual(again, next) || cause != "" {
				t.Fatalf("the same input twice is not the same as once: %s: %+v, %+v", runes[:i+1], next, again)
			}
			s = next
		}
		// Whatever its life was, once all is well it ends, and once only.
		ends := 0
		firing := s.Rank(0) > 0
		for i := range 60 {
			now := t0.Add(time.Duration(len(runes)+i) * time.Minute)
			in := Input{At: now, Windows: [][]Window{windowsOf(string(runes) + strings.Repeat(".", i+1))}, Newest: now}
			var cause Cause
			if s, cause = s.Step(r, in); cause != "" {
				ends++
			}
		}
		if s.Rank(0) > 0 || (ends == 1) != firing || ends > 1 {
			t.Fatalf("after %s it ended %d times, firing: %t", runes, ends, firing)
		}
	}
}

// lastOf gives the newest n periods that have a value.
func lastOf(runes []byte, n int) string {
	seen := strings.ReplaceAll(string(runes), "?", "")
	return seen[max(0, len(seen)-n):]
}

func samples(interval time.Duration, values ...float64) []Sample {
	var out []Sample
	for i, v := range values {
		if !math.IsNaN(v) {
			out = append(out, Sample{T: t0.Add(time.Duration(i+1) * interval).UnixMilli(), V: v})
		}
	}
	return out
}

// upTo gives 1, 2, … n.
func upTo(n int) (out []float64) {
	for i := range n {
		out = append(out, float64(i+1))
	}
	return out
}

var none = math.NaN() // in samples(): no sample there

func TestWindowStatistics(t *testing.T) {
	stale := math.Float64frombits(value.StaleNaN)
	for name, tc := range map[string]struct {
		series  Series
		samples []Sample
		want    string // windows, the newest first
	}{
		"avg":                               {Series{Statistic: catalogue.Avg}, samples(30*time.Second, 1, 3, 5, 7), "6 2"},
		"max":                               {Series{Statistic: catalogue.Max}, samples(30*time.Second, 1, 3, 5, 7), "7 3"},
		"min":                               {Series{Statistic: catalogue.Min}, samples(30*time.Second, 1, 3, 5, 7), "5 1"},
		"sum":                               {Series{Statistic: catalogue.Sum}, samples(30*time.Second, 1, 3, 5, 7), "12 4"},
		"last":                              {Series{Statistic: catalogue.Last}, samples(30*time.Second, 1, 3, 5, 7), "7 3"},
		"p50":                               {Series{Statistic: catalogue.P50}, samples(30*time.Second, 1, 3, 5, 7), "6 2"},
		"p95 interpolates":                  {Series{Statistic: catalogue.P95, Interval: time.Second}, samples(time.Second, upTo(120)...), "117.05 57.05"},
		"p99 interpolates":                  {Series{Statistic: catalogue.P99, Interval: time.Second}, samples(time.Second, upTo(120)...), "119.41 59.41"},
		"p95 needs 20 samples":              {Series{Statistic: catalogue.P95}, samples(30*time.Second, 1, 3, 5, 7), "? ?"},
		"half of the samples is enough":     {Series{Statistic: catalogue.Avg}, samples(30*time.Second, none, 3, 5, none), "5 3"},
		"under half is missing":             {Series{Statistic: catalogue.Avg, Interval: 15 * time.Second}, samples(15*time.Second, 1, none, none, none, 2, none, 4, none), "3 ?"},
		"nothing is missing":                {Series{Statistic: catalogue.Avg}, nil, "? ?"},
		"samples on change do not count":    {Series{Statistic: catalogue.Max, Interval: 15 * time.Second}, samples(7*time.Second, 1, 2, 3, 4, 5, 6, 7, 8), "? ?"},
		"a stale marker is no sample":       {Series{Statistic: catalogue.Max, Interval: 30 * time.Second}, samples(30*time.Second, 1, 1, stale, 1), "1 1"},
		"only stale markers are missing":    {Series{Statistic: catalogue.Max, Interval: 30 * time.Second}, []Sample{{t0.Add(2 * time.Minute).UnixMilli(), stale}}, "? ?"},
		"before the creation it is missing": {Series{Statistic: catalogue.Avg, CreatedAt: t0.Add(61 * time.Second)}, samples(30*time.Second, 1, 3, 5, 7), "6 ?"},
		"until minAge it is missing":        {Series{Statistic: catalogue.Avg, CreatedAt: t0, MinAge: 2 * time.Minute}, samples(30*time.Second, 1, 3, 5, 7), "6 ?"},
		"an earlier object of the name":     {Series{Statistic: catalogue.Max, CreatedAt: t0.Add(85 * time.Second)}, samples(30*time.Second, 99, 99, 5, 7), "7 ?"},
	} {
		t.Run(name, func(t *testing.T) {
			s := tc.series
			s.Period = time.Minute
			if s.Interval == 0 {
				s.Interval = 30 * time.Second
			}
			if s.Kind == "" {
				s.Kind = catalogue.Gauge
			}
			if got := text(s.Windows(t0.Add(2*time.Minute), 2, tc.samples)); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func text(ws []Window) string {
	var out []string
	for _, w := range ws {
		if w.Missing {
			out = append(out, "?")
		} else {
			out = append(out, strconv.FormatFloat(w.Value, 'g', 6, 64))
		}
	}
	return strings.Join(out, " ")
}

func TestStateAveragesAreWeightedByTime(t *testing.T) {
	s := Series{Statistic: catalogue.Avg, Kind: catalogue.State, Period: time.Minute, Interval: 30 * time.Second}
	sec := func(n int, v float64) Sample { return Sample{t0.Add(time.Duration(n) * time.Second).UnixMilli(), v} }
	// Ready until second 75, then not: in (60, 120] it was ready for 15 of 60 s.
	in := []Sample{sec(30, 1), sec(60, 1), sec(75, 0), sec(90, 0), sec(120, 0)}
	if got := text(s.Windows(t0.Add(2*time.Minute), 2, in)); got != "0.25 1" {
		t.Errorf("got %s", got)
	}
	// Without a value at the start, only what is known is weighed.
	if got := text(s.Windows(t0.Add(2*time.Minute), 1, in[2:])); got != "0" {
		t.Errorf("got %s", got)
	}
}

func TestIncreaseIsExact(t *testing.T) {
	s := Series{Statistic: catalogue.Increase, Kind: catalogue.Counter, Period: 2 * time.Minute, Interval: 30 * time.Second}
	end := t0.Add(4 * time.Minute)
	for name, tc := range map[string]struct {
		created time.Duration // after t0; 0: long ago
		samples []Sample
		want    string
	}{
		"whole numbers, nothing extrapolated":    {-time.Hour, samples(30*time.Second, 3, 3, 3, 3, 4, 4, 6, 6), "3 0"},
		"the value at the window's start counts": {-time.Hour, samples(30*time.Second, 3, 3, 3, 3, 5, 5, 5, 5), "2 0"},
		"resets are added up":                    {-time.Hour, samples(30*time.Second, 9, 9, 9, 9, 1, 2, 1, 1), "3 0"},
		"an old object's first sample is base":   {-time.Hour, samples(30*time.Second, none, none, none, none, 7, 7, 8, 8), "1 ?"},
		"a new object begins at 0":               {130 * time.Second, samples(30*time.Second, none, none, none, none, 1, 2, 3, 3), "3 ?"},
		"a young object's few samples are all":   {205 * time.Second, samples(30*time.Second, none, none, none, none, none, none, none, 1), "1 ?"},
		"an old object's few samples are not":    {-time.Hour, samples(30*time.Second, none, none, none, none, none, none, none, 1), "? ?"},
		"a new object of an old name":            {130 * time.Second, samples(30*time.Second, 40, 41, 42, 43, 1, 2, 3, 3), "3 ?"},
		"what rose in a gap before is not here":  {-time.Hour, samples(30*time.Second, 3, none, none, none, none, 9, 9, 10), "1 ?"},
		"what rose in a gap inside is":           {-time.Hour, samples(30*time.Second, 3, 3, 3, 3, none, none, 9, 10), "7 0"},
		"the series goes on under other labels":  {-time.Hour, samples(30*time.Second, 3, 3, 3, 3, 3, math.Float64frombits(value.StaleNaN), 4, 4), "1 0"},
	} {
		t.Run(name, func(t *testing.T) {
			s := s
			s.CreatedAt = t0.Add(tc.created)
			in := tc.samples
			if strings.Contains(name, "other labels") { // samples() drops NaN: put the marker in
				in = append(in[:5:5], append([]Sample{{t0.Add(3 * time.Minute).UnixMilli(), math.Float64frombits(value.StaleNaN)}}, in[5:]...)...)
			}
			if got := text(s.Windows(end, 2, in)); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

// However a counter moves, the windows that tile a span add up to what it rose
// over the span.
func FuzzIncreasesAddUp(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3})
	f.Fuzz(func(t *testing.T, steps []byte) {
		if len(steps) < 6 || len(steps) > 400 {
			return
		}
		in := []Sample{{T: t0.UnixMilli(), V: 5}}
		v, want := 5.0, 0.0
		for i, b := range steps {
			if b > 250 { // a reset
				v = float64(b - 250)
				want += v
				if v >= in[len(in)-1].V { // cannot be told from a rise
					want -= in[len(in)-1].V
				}
			} else {
				v += float64(b % 4)
				want += float64(b % 4)
			}
			in = append(in, Sample{T: t0.Add(time.Duration(i+1) * 30 * time.Second).UnixMilli(), V: v})
		}
		n := len(steps) / 2
		if len(steps)%2 != 0 {
			return
		}
		s := Series{Statistic: catalogue.Increase, Kind: catalogue.Counter, Period: time.Minute, Interval: 30 * time.Second}
		var got float64
		for _, w := range s.Windows(t0.Add(time.Duration(n)*time.Minute), n, in) {
			if w.Missing {
				t.Fatal("a full window is missing")
			}
			got += w.Value
		}
		if got != want {
			t.Errorf("the windows add up to %v, the counter rose by %v", got, want)
		}
	})
}

// Whatever comes in, the step ends, and NaN is never a value.
func FuzzWindows(f *testing.F) {
	f.Add(int64(0), 1.0, int64(30), 2.0, 0)
	f.Fuzz(func(t *testing.T, t1 int64, v1 float64, gap int64, v2 float64, statistic int) {
		if gap < 0 || t1 > math.MaxInt64/4 || t1 < math.MinInt64/4 || gap > math.MaxInt64/4 {
			return
		}
		s := Series{
			Statistic: catalogue.Statistics[int(uint(statistic)%uint(len(catalogue.Statistics)))], Kind: []catalogue.Kind{catalogue.Gauge, catalogue.Counter, catalogue.State}[int(uint(statistic)%3)],
			Period: time.Minute, Interval: 30 * time.Second,
		}
		for _, w := range s.Windows(time.UnixMilli(t1), 3, []Sample{{t1, v1}, {t1 + gap, v2}}) {
			if !w.Missing && math.IsNaN(w.Value) {
				t.Errorf("%+v", w)
			}
		}
	})
}

// A scenario is a policy and readings by interval → states and causes. See
// testdata/README for the words.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.scenario")
	if err != nil || len(files) == 0 {
		t.Fatal("no scenarios", err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) { runScenario(t, f) })
	}
}

func runScenario(t *testing.T, path string) {
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r := &Rule{RecoverAfter: 2, NoData: "keep", NoDataAfter: 5 * time.Minute, NoDataRank: 2}
	var series []Series
	var readings [][]string
	var want string
	interval := 30 * time.Second
	sc := bufio.NewScanner(file)
	for sc.Scan() {
		words := strings.Fields(sc.Text())
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		switch words[0] {
		case "interval":
			interval, err = time.ParseDuration(words[1])
		case "recoverAfter":
			r.RecoverAfter, err = strconv.Atoi(words[1])
		case "any":
			r.Any = true
		case "noData":
			r.NoData = words[1]
			if len(words) > 2 {
				r.NoDataAfter, err = time.ParseDuration(words[2])
			}
		case "condition":
			var c Condition
			var s Series
			c, s, err = scenarioCondition(words[1:])
			r.Conditions, series = append(r.Conditions, c), append(series, s)
		case "readings": // several lines for one condition go on
			var n int
			if n, err = strconv.Atoi(words[1]); err == nil {
				for len(readings) <= n {
					readings = append(readings, nil)
				}
				readings[n] = append(readings[n], words[2:]...)
			}
		case "states":
			want += strings.Join(words[1:], "")
		default:
			t.Fatalf("unknown word %q", words[0])
		}
		if err != nil {
			t.Fatalf("%s: %v", sc.Text(), err)
		}
	}
	values := make([][]Sample, len(readings))
	var s State
	got := ""
	for i := range readings[0] {
		now := t0.Add(time.Duration(i+1) * interval)
		in := Input{At: now, Interval: interval}
		for c := range readings {
			if w := readings[c][i]; w != "_" {
				v, err := strconv.ParseFloat(w, 64)
				if err != nil {
					t.Fatal(err)
				}
				values[c] = append(values[c], Sample{now.UnixMilli(), v})
			}
			series[c].Interval = interval
			in.Windows = append(in.Windows, series[c].Windows(now, r.Reach(c), values[c]))
			if n := len(values[c]); n > 0 {
				newest := time.UnixMilli(values[c][n-1].T)
				if in.Newest.IsZero() || newest.Before(in.Newest) {
					in.Newest = newest
				}
			}
		}
		var cause Cause
		s, cause = s.Step(r, in)
		rank := s.Rank(r.NoDataRank)
		got += ".iwc"[rank : rank+1]
		if cause != "" {
			got += "(" + string(cause) + ")"
		}
	}
	if got != want {
		t.Errorf("\ngot  %s\nwant %s", got, want)
	}
}

func scenarioCondition(words []string) (c Condition, s Series, err error) {
	c = Condition{Op: words[0], Need: 1, Of: 1}
	s = Series{Statistic: catalogue.Avg, Kind: catalogue.Gauge, Period: time.Minute}
	for _, w := range words[1:] {
		k, v, _ := strings.Cut(w, "=")
		switch k {
		case "statistic":
			s.Statistic = catalogue.Statistic(v)
		case "kind":
			s.Kind = catalogue.Kind(v)
		case "period":
			s.Period, err = time.ParseDuration(v)
		case "need":
			c.Need, err = strconv.Atoi(v)
			c.Of = max(c.Of, c.Need)
		case "of":
			c.Of, err = strconv.Atoi(v)
		default:
			to := &c.Thresholds
			if rest, ok := strings.CutPrefix(k, "recovery."); ok {
				to, k = &c.Recovery, rest
			}
			var f float64
			if f, err = strconv.ParseFloat(v, 64); err == nil {
				rank := catalogue.Severity(k).Rank()
				if rank == 0 {
					return c, s, fmt.Errorf("unknown word %q", w)
				}
				to[rank-1] = &f
			}
		}
		if err != nil {
			return c, s, fmt.Errorf("%s: %w", w, err)
		}
	}
	return c, s, nil
}

// Against yesterday: the same window a day earlier; as percent of it there is
// no value while it was 0.
func TestChange(t *testing.T) {
	day := 24 * time.Hour
	at := t0.Add(day)
	var samples []Sample
	for i := range 4 {
		back := time.Duration(i) * 30 * time.Second
		samples = append(samples, Sample{at.Add(-day - back).UnixMilli(), 40}, Sample{at.Add(-back).UnixMilli(), 50})
	}
	slices.SortFunc(samples, func(a, b Sample) int { return int(a.T - b.T) })
	s := Series{Statistic: catalogue.Avg, Kind: catalogue.Gauge, Period: time.Minute, Interval: 30 * time.Second, Change: day}
	if w := s.Windows(at, 3, samples); w[0].Value != 10 || w[1].Value != 10 || !w[2].Missing {
		t.Errorf("absolute: %+v", w)
	}
	s.ChangePercent = true
	if w := s.Windows(at, 1, samples); w[0].Value != 25 {
		t.Errorf("percent: %+v", w)
	}
	for i := range samples {
		if samples[i].V == 40 {
			samples[i].V = 0
		}
	}
	if w := s.Windows(at, 1, samples); !w[0].Missing {
		t.Errorf("percent of nothing: %+v", w)
	}
	s.CreatedAt = at.Add(-time.Hour) // what was there yesterday was another object
	if w := s.Windows(at, 1, samples); !w[0].Missing {
		t.Errorf("before the object's creation: %+v", w)
	}
}

func TestForecast(t *testing.T) {
	var samples []Sample
	for i := range 120 { // an hour, one more each minute
		at := t0.Add(time.Duration(i-119) * 30 * time.Second)
		samples = append(samples, Sample{at.UnixMilli(), 50 + at.Sub(t0).Minutes()})
	}
	s := Series{Statistic: catalogue.Max, Kind: catalogue.Gauge, Period: time.Minute, Interval: 30 * time.Second, Forecast: 2 * time.Hour, FitFrom: time.Hour}
	w := s.Windows(t0, 1, samples)
	if w[0].Missing || math.Abs(w[0].Value-170) > 1e-6 {
		t.Errorf("got %+v, want 170: 50 now and one more each minute", w)
	}
	if w := s.Windows(t0, 1, samples[70:]); !w[0].Missing {
		t.Errorf("half of the hour is not there: %+v", w)
	}
}

// More than 4 changes in an hour: it stays open, marked, until good for 15 min.
func TestFlapping(t *testing.T) {
	limit := at(80)
	r := &Rule{Conditions: []Condition{{Op: ">", Thresholds: Levels{1: limit}, Need: 1, Of: 1}}, RecoverAfter: 1}
	var s State
	var log []string
	at := t0
	step := func(v float64) {
		at = at.Add(time.Minute)
		var cause Cause
		firing := s.Rank(0) > 0
		s, cause = s.Step(r, Input{At: at, Windows: [][]Window{{{End: at, Value: v}}}, Newest: at, Interval: 30 * time.Second})
		switch {
		case cause != "":
			log = append(log, "end")
		case !firing && s.Rank(0) > 0:
			log = append(log, "fire")
		}
	}
	for range 3 {
		step(90)
		step(10)
	}
	if got := strings.Join(log, " "); got != "fire end fire end fire" || !s.Flapping {
		t.Fatalf("got %s, flapping %t", got, s.Flapping)
	}
	for range 13 { // good since the last step
		step(10)
	}
	step(90) // not good for long enough
	for range 15 {
		step(10)
	}
	if len(log) != 5 {
		t.Fatalf("ended too early: %v", log)
	}
	step(10)
	if len(log) != 6 || s.Flapping || s.Rank(0) != 0 {
		t.Fatalf("did not end after 15 good minutes: %v %+v", log, s)
	}
	for range 60 {
		step(10)
	}
	if len(s.Changes) != 0 {
		t.Errorf("changes of over an hour ago are kept: %v", s.Changes)
	}
}
