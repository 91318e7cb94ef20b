package ingest

import (
	"math"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"
	"unsafe"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"

	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// An arrival tells of which series it brought something odd, whatever else it says; what
// moves is odd once for each value, which is told again where it was not committed or
// something else is watched.
func TestOddSeriesAreTold(t *testing.T) {
	g := newRig(t, Limits{})
	busy, moves := NewOdd(), NewOdd()
	busy.From, busy.To, moves.Moves = 90, -1, true
	var watch *Watch
	g.i.opts.Watched = func() *Watch { return watch }
	at := t0
	next := func() { at, g.now = at.Add(step), at.Add(step) }
	var last Arrival
	post := func(through bool, samples ...sample) []string {
		t.Helper()
		header := []string{wire.HeaderSender, "cluster", wire.HeaderInterval, "30"}
		if through {
			header = append(header, wire.HeaderComplete, strconv.FormatInt(at.UnixMilli(), 10))
		}
		if a := g.post(v2, bodyV2(t, samples...), header...); a.status != http.StatusNoContent {
			t.Fatal(a)
		}
		last = g.arrivals[len(g.arrivals)-1]
		var out []string
		for _, l := range last.Odd {
			out = append(out, l.Get("__name__")+" "+l.Get("pod"))
		}
		if last.Watch != watch {
			t.Errorf("what was watched is not told")
		}
		return out
	}
	one := func(name, pod string, v float64) sample { return smp(v, at, "__name__", name, "pod", pod) }
	want := func(what string, got []string, want ...string) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q is told, want %q", what, got, want)
		}
	}
	want("nothing is watched", post(true, one("busy", "a", 95)))
	watch = NewWatch(map[string]*Odd{"busy": busy, "moves": moves})
	next()
	want("by itself", post(true, one("busy", "a", 90), one("busy", "b", 89.9), one("busy", "c", -1), one("idle", "a", 95), one("busy", "d", math.NaN()), one("busy", "e", math.Float64frombits(value.StaleNaN))), "busy a", "busy c", "busy d")
	if !last.OddUntil.Equal(at) {
		t.Errorf("until %s", last.OddUntil)
	}
	want("what begins", post(false, one("moves", "a", 3), one("moves", "b", 0)), "moves a")
	next()
	want("what stays", post(true, one("moves", "a", 3), one("moves", "b", 0)))
	next()
	want("what moves", post(true, one("moves", "a", 4), one("moves", "b", 1)), "moves a", "moves b")
	want("the store has another one", post(false, one("moves", "a", 5), one("busy", "a", 1), one("idle", "a", 2)), "moves a")
	next()
	watch = NewWatch(map[string]*Odd{"busy": busy, "moves": moves})
	want("somebody else watches", post(false, one("moves", "a", 4)), "moves a")
	next()
	if a := g.post(v2, bodyV2(t, one("moves", "a", 6)), wire.HeaderSender, "cluster", wire.HeaderBacklog, "true"); a.status != http.StatusNoContent || len(g.arrivals[len(g.arrivals)-1].Odd) != 1 {
		t.Errorf("a backlog: %v, %v", a, g.arrivals[len(g.arrivals)-1])
	}
	if a := g.post(v2, bodyV2(t, one("moves", "a", 6))); a.status != http.StatusNoContent || len(g.arrivals[len(g.arrivals)-1].Odd) != 0 {
		t.Errorf("sent again by whoever: %v", g.arrivals[len(g.arrivals)-1])
	}

	// What could not be stored was told to nobody.
	next()
	q := &request{i: g.i, c: g.i.cluster("prod"), watching: watch, store: guarded{g.db, g}, maxTime: math.MaxInt64, now: g.now}
	a := g.i.newAppender(t.Context(), q)
	s := q.c.find(seriesOf(g, "moves", "a"))
	if err := a.float(s, at.UnixMilli(), 7); err != nil {
		t.Fatal(err)
	}
	if err := a.rollback(); err != nil {
		t.Fatal(err)
	}
	want("after a rollback", post(false, one("moves", "a", 7)), "moves a")

	// More than can be noted.
	next()
	var many []sample
	for i := range maxNamed + 1 {
		many = append(many, one("busy", strconv.Itoa(i), 99))
	}
	if a := g.post(v2, bodyV2(t, many...), wire.HeaderSender, "cluster"); a.status != http.StatusNoContent || g.arrivals[len(g.arrivals)-1].Watch != nil {
		t.Errorf("%d are told", len(g.arrivals[len(g.arrivals)-1].Odd))
	}

	// What is forgotten leaves nothing.
	g.now = at.Add(idleAfter + time.Hour)
	at = g.now
	post(false, one("idle", "b", 1))
	if n := len(q.c.moves.last); n != 0 {
		t.Errorf("%d values of series that are gone are kept", n)
	}
}

// What a counter moves to is odd, though it had it before and was told so: meanwhile it was
// something else, and somebody may have settled what it was.
func TestMovesToWhatItHadBefore(t *testing.T) {
	stale := math.Float64frombits(value.StaleNaN)
	for name, of := range map[string]struct {
		before [][]float64 // of requests: of each the values of points that follow one another
		value  float64
		want   int
	}{
		"it stays":                           {[][]float64{{1}, {1}}, 1, 0},
		"it begins":                          {nil, 3, 1},
		"it rises from a first sample":       {[][]float64{{3}}, 4, 1},
		"it falls":                           {[][]float64{{3}}, 1, 1},
		"it falls to 0":                      {[][]float64{{3}}, 0, 0},
		"from 0":                             {[][]float64{{1}, {1}, {0}, {0}}, 1, 1},
		"from its end":                       {[][]float64{{1}, {stale}}, 1, 1},
		"from another one":                   {[][]float64{{1}, {2}}, 1, 1},
		"from 0 in the request that rose":    {[][]float64{{1, 0}}, 1, 1},
		"from another one in it":             {[][]float64{{1}, {6, 1}}, 6, 1},
		"to what it has, after another one":  {[][]float64{{6, 1}}, 1, 0},
		"from 0, and there again in it":      {[][]float64{{1}, {0, 1}}, 1, 0},
		"from 0 twice":                       {[][]float64{{1}, {0}, {1}, {0}}, 1, 1},
		"from 0, and it stays for two":       {[][]float64{{1}, {0}, {1}, {1}}, 1, 0},
		"from 0 at first, and there already": {[][]float64{{0}, {1}}, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMover(t)
			for _, values := range of.before {
				var samples []sample
				for _, v := range values {
					m.next()
					samples = append(samples, m.one(v))
				}
				m.post(samples...)
			}
			m.next()
			if got := m.post(m.one(of.value)); got != of.want {
				t.Errorf("of %v to %g %d are told, want %d", of.before, of.value, got, of.want)
			}
		})
	}
}

// A sample that is older than what its series has may be odd, or make odd what comes after it,
// and says nothing of what the series has now.
func TestMovesOfWhatComesLate(t *testing.T) {
	for name, of := range map[string]struct {
		had, late, then float64
		want            [2]int // of the late one, and of the one then
	}{
		"from what came late":              {1, 6, 6, [2]int{1, 1}},
		"it stays, but nobody knows":       {1, 6, 1, [2]int{1, 1}},
		"what came later rises from it":    {6, 0, 6, [2]int{1, 1}},
		"it was nothing, and is":           {0, 6, 0, [2]int{1, 0}},
		"it was nothing at any time":       {0, 0, 0, [2]int{0, 0}},
		"it was nothing and something now": {0, 0, 2, [2]int{0, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMover(t)
			m.post(m.one(of.had))
			m.next()
			late := m.one(of.late)
			m.next()
			m.post(m.one(of.had))
			got := [2]int{m.post(late), 0}
			m.next()
			if got[1] = m.post(m.one(of.then)); got != of.want {
				t.Errorf("%d are told, want %d", got, of.want)
			}
		})
	}
}

// The heap gives 112 bytes for a series; of one more it would give 128, for each.
func TestSeriesIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(series{}); size > 112 {
		t.Errorf("a series takes %d bytes", size)
	}
}

// mover sends a counter of which somebody hears when it moves.
type mover struct {
	g  *rig
	at time.Time
}

func newMover(t *testing.T) *mover {
	m := &mover{newRig(t, Limits{}), t0}
	moves := NewOdd()
	moves.Moves = true
	watch := NewWatch(map[string]*Odd{"moves": moves})
	m.g.i.opts.Watched = func() *Watch { return watch }
	return m
}

func (m *mover) next() { m.at, m.g.now = m.at.Add(step), m.at.Add(step) }

func (m *mover) one(v float64) sample { return smp(v, m.at, "__name__", "moves", "pod", "a") }

// post tells how many are told of a request.
func (m *mover) post(samples ...sample) int {
	m.g.t.Helper()
	if a := m.g.post(v2, bodyV2(m.g.t, samples...), wire.HeaderSender, "cluster", wire.HeaderInterval, "30"); a.status != http.StatusNoContent {
		m.g.t.Fatal(a)
	}
	return len(m.g.arrivals[len(m.g.arrivals)-1].Odd)
}

func seriesOf(g *rig, name, pod string) seriesKey {
	a := g.i.newAppender(g.t.Context(), &request{i: g.i, c: g.i.cluster("prod"), store: guarded{g.db, g}})
	defer func() { _ = a.rollback() }()
	a.pairs = []labels.Label{{Name: "__name__", Value: name}, {Name: "pod", Value: pod}}
	for _, p := range a.pairs {
		a.buf = appendPair(a.buf, p.Name, p.Value)
	}
	return g.i.hash.key(a.buf)
}
