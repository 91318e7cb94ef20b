package engine

import (
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
)

const (
	// maxMemory is about how many bytes are kept between rounds; what a round needs
	// beyond that it makes anew.
	maxMemory = 192 << 20
	// maxNames of objects are kept, twice: more than the pods and containers of 5,000
	// nodes with thirty pods of two containers each, and of 1 % of them replaced a minute
	// for as long as names are kept. Of what goes beyond, each metric of a round has
	// names of its own.
	maxNames = 1 << 19
	// namesEvery is how long the name of an object is kept at least after it was read.
	namesEvery = 2 * time.Minute
	// scratchKept is how long the memory of rounds is kept that are not made any more.
	scratchKept = 10 * time.Minute
)

// memory is what rounds leave to those that come after them: each reads about as much
// as the one before of its kind, and to make room for that anew was most of the
// engine's garbage. For one goroutine.
type memory struct {
	scratches map[scratchKey]*scratch
	limit     int       // bytes that all of them may keep; more is made anew
	bytes     int       // that they keep
	found     []subject // of one policy, until it is judged

	names, before map[string]string // see name
	turned        time.Time
	text          []byte
}

// scratchKey names rounds that read about as much as each other.
type scratchKey struct {
	cluster, trigger string
	sender           string // "node" for that of any node
	few              bool   // it reads some objects only
}

// scratch is the memory of one kind of rounds. What it gives is its own again once the
// round has ended. A nil scratch gives everything anew.
type scratch struct {
	memory *memory
	used   time.Time
	bytes  int // that it keeps
	values map[string]*table
	lists  map[string]*numbered
	known  map[named]known
	most   int // objects known after any round
	pile   samplePile
}

// table holds the values of one metric.
type table struct {
	values values
	most   int  // it ever held: clearing it costs as much
	lent   bool // to the present round
}

func newMemory(limit int) *memory {
	return &memory{limit: limit, scratches: map[scratchKey]*scratch{}, names: map[string]string{}, before: map[string]string{}}
}

// scratch gives a round its memory, which is to be given back by release.
func (m *memory) scratch(r round, node string, few bool, now time.Time) *scratch {
	if now.Sub(m.turned) >= namesEvery || now.Before(m.turned) {
		clear(m.before)
		m.names, m.before, m.turned = m.before, m.names, now
		for key, s := range m.scratches {
			if now.Sub(s.used) > scratchKept {
				m.bytes -= s.bytes
				delete(m.scratches, key)
			}
		}
	}
	key := scratchKey{r.source.cluster, r.trigger, r.source.sender, few}
	if node != "" {
		key.sender = "node"
	}
	s := m.scratches[key]
	if s == nil {
		s = &scratch{memory: m, values: map[string]*table{}, lists: map[string]*numbered{}, known: map[named]known{}}
		s.pile.keeps = true
		m.scratches[key] = s
	}
	s.used = now
	return s
}

// What an entry takes, about, with what a map leaves free.
const (
	valueBytes  = 110
	knownBytes  = 130
	listedBytes = 60
	numberBytes = 4
	sampleBytes = 16
)

// release takes everything back; nothing that the scratch gave may be used after it.
func (s *scratch) release() {
	m := s.memory
	m.bytes -= s.bytes
	s.bytes = 0
	keep := func(bytes int) bool {
		if m.bytes+bytes > m.limit {
			return false
		}
		m.bytes += bytes
		s.bytes += bytes
		return true
	}
	if s.most = max(s.most, len(s.known)); oversized(s.most, len(s.known)) || !keep(s.most*knownBytes) {
		s.known, s.most = map[named]known{}, 0
	}
	clear(s.known)
	for name, t := range s.values {
		t.most = max(t.most, len(t.values))
		if !t.lent || oversized(t.most, len(t.values)) || !keep(t.most*valueBytes) {
			delete(s.values, name)
			continue
		}
		t.lent = false
		clear(t.values)
	}
	for name, n := range s.lists {
		if size := cap(n.subjects) + cap(n.outside) + cap(n.all); n.roster == nil || oversized(size, len(n.subjects)+len(n.outside)+len(n.all)) || !keep(size*listedBytes+(cap(n.first)+cap(n.numbers))*numberBytes) {
			delete(s.lists, name)
			continue
		}
		n.reset()
	}
	for i := range s.pile.kept {
		// One more than were used, as rounds are not quite alike.
		if i > s.pile.used || !keep(pileSize*sampleBytes) {
			clear(s.pile.kept[i:])
			s.pile.kept = s.pile.kept[:i]
			break
		}
	}
	s.pile.used, s.pile.free = 0, nil
}

// foundBy takes back the list of a policy's subjects.
func (m *memory) foundBy(found []subject) {
	if cap(found) <= maxNames {
		m.found = found[:0]
	}
}

// oversized tells whether memory for so many is more than it is worth to keep for few.
func oversized(most, now int) bool { return most > 1024 && now < most/4 }

// of gives an empty table for the values of a metric. A round that reads a metric twice
// gets its second one anew.
func (s *scratch) of(metric string) values {
	if s == nil {
		return values{}
	}
	t := s.values[metric]
	if t == nil {
		t = &table{values: values{}}
		s.values[metric] = t
	}
	if t.lent {
		return values{}
	}
	t.lent = true
	return t.values
}

// numbered gives empty lists for the subjects of a metric.
func (s *scratch) numbered(metric string) *numbered {
	if s == nil {
		return &numbered{}
	}
	n := s.lists[metric]
	if n == nil {
		n = &numbered{}
		s.lists[metric] = n
	}
	return n
}

// heap gives where samples are kept.
func (s *scratch) heap() *samplePile {
	if s == nil {
		return &samplePile{}
	}
	return &s.pile
}

// subject gives whose series it is by its labels; names are those of the level's
// objects. Objects are called the same in each metric and each round, so what they were
// called before is given again.
func (s *scratch) subject(m catalogue.Metric, names []string, get func(string) string) subject {
	if s == nil || len(names) < 3 && len(m.Dimensions) == 0 {
		return subject{m.Level, objectOf(m.Level, get), dimensionsOf(m.Dimensions, get)}
	}
	out := subject{level: m.Level}
	if len(names) < 3 {
		out.object = objectOf(m.Level, get)
	} else {
		text := appendObject(s.memory.text[:0], names, get)
		out.object, s.memory.text = s.memory.name(text), text
	}
	if len(m.Dimensions) > 0 {
		text := appendDimensions(s.memory.text[:0], m.Dimensions, get)
		out.dimensions, s.memory.text = s.memory.name(text), text
	}
	return out
}

// name gives a text as a string: the one that was given for it before, if that was not
// long ago.
func (m *memory) name(text []byte) string {
	if name, ok := m.names[string(text)]; ok {
		return name
	}
	name, ok := m.before[string(text)]
	if !ok {
		name = string(text)
	}
	if len(m.names) < maxNames {
		m.names[name] = name
	}
	return name
}
