package logs

import (
	"cmp"
	"slices"
	"time"
)

// What a node's collector read of a file, another may have to go on with through the
// API server, which says neither offsets nor which line is of stdout and which of
// stderr. Both have the lines in the same order and with the same times, so a line is
// told by these.

// spot tells a line from all others of a file.
type spot struct {
	Time   int64 // the latest of the line's time and of those before it
	Same   int   // how many lines there are of that time, up to this one
	Behind int   // how many have come since the last of those, of earlier times
}

const (
	// spotSlack is by how much the time of a line may lie before that of a line before
	// it. What is further off, and in an earlier second, is not found again.
	spotSlack = 100 * time.Millisecond
	// clockSet is by how much times go back when a clock was set, and not because two
	// streams are written at once.
	clockSet = time.Minute
)

// next is the spot of the line after this one's.
func (s spot) next(at int64) spot {
	switch {
	case at > s.Time || at < s.Time-int64(clockSet):
		return spot{Time: at, Same: 1}
	case at == s.Time:
		return spot{Time: at, Same: s.Same + 1}
	case at >= s.since():
		s.Behind++
	}
	return s
}

// before is a spot whose next, for the line that is there, is this one.
func (s spot) before() spot {
	switch {
	case s.Behind > 0:
		s.Behind--
	case s.Same > 1:
		s.Same--
	default:
		s = spot{Time: s.Time - 1, Same: 1}
	}
	return s
}

func (s spot) since() int64 { return sinceFor(s.Time) }

// sinceFor is the time from which all lines have to be known for one of a time, and
// those after it, to be found: a whole second, as the API server knows no others.
func sinceFor(at int64) int64 {
	return (at - int64(spotSlack)) / int64(time.Second) * int64(time.Second)
}

func (s spot) compare(o spot) int {
	return cmp.Or(cmp.Compare(s.Time, o.Time), cmp.Compare(s.Same, o.Same), cmp.Compare(s.Behind, o.Behind))
}

// stretch is lines that follow one another.
type stretch struct{ from, to spot }

// reached is how far a file was read.
type reached struct {
	// At is the time of the last line; 0 for one that is as long before what else says
	// how far it is as Lag.
	At     int64 `json:"at,omitempty"`
	Lag    int64 `json:"lag,omitempty"`
	Same   int   `json:"same"`
	Behind int   `json:"behind,omitempty"`
	// Open are lines before that which were not sent, as records that may go on: the
	// first and the last of those that follow one another, each by how long its Time is
	// before At, its Same and its Behind.
	Open [][6]int64 `json:"open,omitempty"`
	// Since is how far of them somebody went who did not read files, in the same form.
	Since *[3]int64 `json:"since,omitempty"`
}

// maxStretches bounds the open lines that are told apart. Where there are more, lines
// of the other stream that lie among the last of them are sent twice.
const maxStretches = 40

func reachedAt(at spot, open []stretch) *reached {
	r := &reached{At: at.Time, Same: at.Same, Behind: at.Behind}
	slices.SortFunc(open, func(a, b stretch) int { return a.from.compare(b.from) })
	if len(open) > maxStretches {
		open[maxStretches-1].to = slices.MaxFunc(open[maxStretches-1:], func(a, b stretch) int { return a.to.compare(b.to) }).to
		open = open[:maxStretches]
	}
	for _, s := range open {
		r.Open = append(r.Open, [6]int64{at.Time - s.from.Time, int64(s.from.Same), int64(s.from.Behind), at.Time - s.to.Time, int64(s.to.Same), int64(s.to.Behind)})
	}
	return r
}

func (r *reached) spot() spot { return spot{r.At, r.Same, r.Behind} }

func (r *reached) spotOf(v []int64) spot { return spot{r.At - v[0], int(v[1]), int(v[2])} }

// first is the first line that was not sent; false when that is the one after the last.
func (r *reached) first() (spot, bool) {
	if len(r.Open) == 0 {
		return spot{}, false
	}
	return r.spotOf(r.Open[0][:3]), true
}

// begins is the time from which the file has to be read again.
func (r *reached) begins() int64 {
	since := r.spot().since()
	if first, ok := r.first(); ok {
		since = min(since, first.since())
	}
	return since
}

// taken says whether a line was sent.
func (r *reached) taken(s spot) bool {
	if r.passed(s) {
		return false
	}
	if r.Since != nil && s.compare(r.spotOf(r.Since[:])) <= 0 {
		return true
	}
	return !slices.ContainsFunc(r.Open, func(o [6]int64) bool {
		return s.compare(r.spotOf(o[:3])) >= 0 && s.compare(r.spotOf(o[3:])) <= 0
	})
}

// passed says whether a line is after all that was read.
func (r *reached) passed(s spot) bool { return s.compare(r.spot()) > 0 }

// after is how far it is once a line before its end was sent, too.
func (r *reached) after(s spot) *reached {
	out := *r
	out.Since = &[3]int64{r.At - s.Time, int64(s.Same), int64(s.Behind)}
	return &out
}

// spots gives the lines of a file their spots, by the pieces of its records. The API
// server gives a line for each piece that no partial one is before, whichever of the
// two streams that is of.
type spots struct {
	at     spot
	number int64 // of lines so far
	within bool  // the last piece was partial
}

// after is where a piece leaves it. What no runtime wrote is no line of the API server's.
func (s spots) after(p piece, ok bool) spots {
	if !ok {
		return s
	}
	if !s.within {
		s.at = s.at.next(p.at)
		s.number++
	}
	s.within = p.partial && p.text != ""
	return s
}
