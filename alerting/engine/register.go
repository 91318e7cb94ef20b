package engine

import (
	"iter"
	"slices"
	"strings"

	"github.com/crowsnest-dev/crowsnest/alerting/evaluate"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
)

// register gives the subjects of a level numbers that they have in each metric and each
// round: to look a name up once for each series that is read costs enough. For one
// goroutine.
type register struct {
	level      catalogue.Level
	names      []string // labels of the level's objects
	dimensions []string
	numbers    map[registered]int32
	subjects   []subject // by number
	used       []int32   // by number: the turn in which it was asked for last
	turn       int32     // the present one

	// What a round found of the subjects' objects; see index.object.
	places []int32 // by number: that on the roster, and by how much it is moved there; 0: nobody asked
	first  []int32 // by number on the roster: one more than the number of a subject that is of this object; 0: there is none
	next   []int32 // by number: likewise another one of the same object
}

// registered is how a register knows a subject.
type registered struct{ object, dimensions string }

// registerKey names a register: metrics that are of the same subjects share it.
type registerKey struct {
	cluster    string
	level      catalogue.Level
	dimensions string
}

func registerOf(cluster string, m catalogue.Metric) registerKey {
	return registerKey{cluster, m.Level, strings.Join(m.Dimensions, ",")}
}

func newRegister(m catalogue.Metric) *register {
	return &register{level: m.Level, names: m.Level.ObjectLabels(), dimensions: m.Dimensions, numbers: map[registered]int32{}}
}

// number gives the number of a subject: a new one, if it is not known.
func (r *register) number(object, dimensions []byte) int32 {
	n, ok := r.numbers[registered{string(object), string(dimensions)}]
	if !ok {
		n = r.add(subject{r.level, string(object), string(dimensions)})
	}
	r.used[n] = r.turn
	return n
}

func (r *register) add(sub subject) int32 {
	n := int32(len(r.subjects))
	r.numbers[registered{sub.object, sub.dimensions}] = n
	r.subjects, r.used = append(r.subjects, sub), append(r.used, r.turn)
	return n
}

// find gives the number of a subject that has one.
func (r *register) find(sub subject) (int32, bool) {
	if sub.level != r.level {
		return 0, false
	}
	n, ok := r.numbers[registered{sub.object, sub.dimensions}]
	return n, ok
}

// forget leaves out subjects that nobody asked for since a turn, if they are many; the
// others get other numbers.
func (r *register) forget(since int32) {
	old := 0
	for _, used := range r.used {
		if used < since {
			old++
		}
	}
	if old <= len(r.subjects)/4 {
		return
	}
	subjects, used := r.subjects, r.used
	r.numbers = make(map[registered]int32, len(subjects)-old)
	r.subjects, r.used = make([]subject, 0, len(subjects)-old), make([]int32, 0, len(subjects)-old)
	r.places, r.first, r.next = nil, nil, nil
	for n, sub := range subjects {
		if used[n] >= since {
			r.used[r.add(sub)] = used[n]
		}
	}
}

// ask begins to look for the objects of a round.
func (r *register) ask() {
	if n := len(r.subjects); cap(r.places) < n {
		r.places, r.next = make([]int32, n, n+n/8), make([]int32, n, n+n/8)
	} else {
		r.places, r.next = r.places[:n], r.next[:n]
		clear(r.places)
		clear(r.next)
	}
	clear(r.first)
}

// values are the samples of one metric by subject, in order of time. Nil ones are none.
type values struct {
	of   *register
	pile *samplePile
	rows []row   // in the order in which they were read
	at   []int32 // by number: one more than a place in rows; 0: it is not there
	most most    // rows
}

// row is where the samples of a subject are.
type row struct{ number, page, from, n int32 }

func (v *values) len() int {
	if v == nil {
		return 0
	}
	return len(v.rows)
}

// has tells whether there are values of the subject of a number.
func (v *values) has(number int32) bool {
	return v != nil && int(number) < len(v.at) && v.at[number] > 0
}

// by gives the samples of the subject of a number. Nobody may append to them.
func (v *values) by(number int32) []evaluate.Sample {
	if !v.has(number) {
		return nil
	}
	r := v.rows[v.at[number]-1]
	return v.pile.at(r.page, r.from, r.n)
}

// get gives the samples of a subject.
func (v *values) get(sub subject) []evaluate.Sample {
	if v == nil {
		return nil
	}
	number, ok := v.of.find(sub)
	if !ok {
		return nil
	}
	return v.by(number)
}

// put takes in the samples of the subject of a number, in place of those that it has.
func (v *values) put(number int32, samples []evaluate.Sample) {
	for int(number) >= len(v.at) {
		v.at = append(v.at, 0)
	}
	page, from := v.pile.keep(samples)
	r := row{number, page, from, int32(len(samples))}
	if at := v.at[number]; at > 0 {
		v.rows[at-1] = r
		return
	}
	v.rows = append(v.rows, r)
	v.at[number] = int32(len(v.rows))
}

// valuesOf are those of one subject. They are not copied: a page of a pile for each step and
// subject of a replay was most of all garbage.
func valuesOf(sub subject, samples []evaluate.Sample) *values {
	r := &register{level: sub.level, numbers: map[registered]int32{}}
	number := r.add(sub)
	v := &values{of: r, pile: &samplePile{large: [][]evaluate.Sample{slices.Clip(samples)}}}
	v.put(number, nil)
	v.rows[0] = row{number: number, page: -1, n: int32(len(samples))}
	return v
}

// subjects are those that have values.
func (v *values) subjects() iter.Seq[subject] {
	return func(yield func(subject) bool) {
		if v == nil {
			return
		}
		for _, r := range v.rows {
			if !yield(v.of.subjects[r.number]) {
				return
			}
		}
	}
}

// reset leaves all values out and keeps their memory.
func (v *values) reset() {
	for _, r := range v.rows {
		v.at[r.number] = 0
	}
	v.most.use(len(v.rows))
	v.of, v.pile, v.rows = nil, nil, v.rows[:0]
}

// unused tells whether it has more memory than was used for long.
func (v *values) unused() bool {
	most := v.most.kept()
	v.most.turn()
	return most == 0 || cap(v.rows) > 4*most+1024
}
