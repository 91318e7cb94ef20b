package engine

import (
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/evaluate"
	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
)

const (
	// maxMemory is about how many bytes are kept between rounds; what a round needs
	// beyond that it makes anew.
	maxMemory = 320 << 20
	// maxKnown objects are looked at more closely without making the room for them anew.
	maxKnown = 1 << 16
	// keptFor is how long memory and the numbers of subjects are kept at least after
	// they were used.
	keptFor = 10 * time.Minute
)

// memory is what rounds leave to those that come after them: each reads about as much
// as the one before of its kind, and to make room for that anew was most of the
// engine's garbage. What it gives is its own again once the round has ended. For one
// goroutine.
type memory struct {
	limit     int // bytes that it may keep; more is made anew
	bytes     int // that it keeps
	turn      int32
	turned    time.Time
	registers map[registerKey]*register
	tables    map[string]*values // by metric, each with all that any round reads of it
	pile      samplePile
	known     map[named]known // objects that were looked at
	most      most            // of these
	// Of one policy, until it is judged: what is found, what of it is looked at more
	// closely, and the values of its conditions.
	found      picked
	stirred    []subject
	conditions []*values
	// Of a round: what it is about, and what is known of the cluster's alerts by policy.
	policies   []*compiled
	firing     map[string][]*incident.Alert
	remembered map[string]map[subject]bool

	samples            []evaluate.Sample // of a series that is being read
	object, dimensions []byte
}

func newMemory(limit int) *memory {
	return &memory{
		limit: limit, registers: map[registerKey]*register{}, tables: map[string]*values{}, known: map[named]known{},
		firing: map[string][]*incident.Alert{}, remembered: map[string]map[subject]bool{},
	}
}

// begin tells the time before a round. What was not used for long is forgotten.
func (m *memory) begin(now time.Time) {
	if now.Sub(m.turned) < keptFor && !now.Before(m.turned) {
		return
	}
	m.turned = now
	m.turn++
	for name, v := range m.tables {
		if v.unused() {
			delete(m.tables, name)
		}
	}
	for key, r := range m.registers {
		if r.forget(m.turn - 1); len(r.subjects) == 0 {
			delete(m.registers, key)
		}
	}
	m.pile.trim()
	if m.most.turn(); m.most.kept() == 0 {
		m.known = map[named]known{}
	}
}

// release takes everything back; nothing that was read may be used after it.
func (m *memory) release() {
	m.bytes = 0
	keep := func(bytes int) bool {
		if m.bytes+bytes > m.limit {
			return false
		}
		m.bytes += bytes
		return true
	}
	for _, v := range m.tables {
		v.reset()
	}
	m.found.reset()
	clear(m.stirred)
	clear(m.conditions)
	m.most.use(len(m.known))
	if len(m.known) > maxKnown || !keep(m.most.kept()*knownBytes) {
		m.known, m.most = map[named]known{}, most{}
	}
	clear(m.known)
	for key, r := range m.registers {
		if !keep(cap(r.subjects) * registeredBytes) {
			delete(m.registers, key)
		}
	}
	for name, v := range m.tables {
		if !keep(cap(v.rows)*rowBytes + cap(v.at)*numberBytes) {
			delete(m.tables, name)
		}
	}
	m.pile.reset()
	for i := range m.pile.pages {
		if !keep(pileSize * sampleBytes) {
			m.pile.cut(i)
			break
		}
	}
}

// What an entry takes, about, with what a map leaves free.
const (
	knownBytes      = 130
	registeredBytes = 180
	rowBytes        = 16
	numberBytes     = 4
	sampleBytes     = 16
)

// most is how much of something was used, in the present turn and the one before.
type most struct{ now, before int }

func (u *most) use(n int) { u.now = max(u.now, n) }

// kept is how much of it may be used again.
func (u *most) kept() int { return max(u.now, u.before) }

func (u *most) turn() { u.before, u.now = u.now, 0 }

// register gives the numbers of the subjects of a metric.
func (m *memory) register(cluster string, of catalogue.Metric) *register {
	key := registerOf(cluster, of)
	r := m.registers[key]
	if r == nil {
		r = newRegister(of)
		m.registers[key] = r
	}
	r.turn = m.turn
	return r
}

// of gives an empty table for the values of a metric. A round that reads a metric twice
// gets its second one anew.
func (m *memory) of(cluster string, metric catalogue.Metric) *values {
	v := m.tables[metric.Name]
	if v == nil {
		v = &values{}
		m.tables[metric.Name] = v
	}
	if v.of != nil {
		v = &values{}
	}
	v.of, v.pile = m.register(cluster, metric), &m.pile
	return v
}

// number gives the number of whose series it is by its labels.
func (m *memory) number(r *register, get func(string) string) int32 {
	m.object, m.dimensions = m.object[:0], m.dimensions[:0]
	if len(r.names) > 1 {
		m.object = appendObject(m.object, r.names, get)
	}
	if len(r.dimensions) > 0 {
		m.dimensions = appendDimensions(m.dimensions, r.dimensions, get)
	}
	return r.number(m.object, m.dimensions)
}

// samplePile keeps the samples of many series close together: of a million
// objects, slices that grow one by one would be half air.
type samplePile struct {
	pages [][]evaluate.Sample // each of pileSize
	large [][]evaluate.Sample // each of one series that has many; they are not kept
	used  int                 // of pages
	free  int                 // of the last one of these
	most  most                // pages
}

// pileSize is how many samples are allotted at once.
const pileSize = 16 << 10

// keep copies samples and says where they are.
func (p *samplePile) keep(samples []evaluate.Sample) (page, from int32) {
	n := len(samples)
	if n == 0 {
		return 0, 0
	}
	if n > p.free {
		if n > pileSize/4 {
			p.large = append(p.large, append([]evaluate.Sample(nil), samples...))
			return -int32(len(p.large)), 0
		}
		if p.used == len(p.pages) {
			p.pages = append(p.pages, make([]evaluate.Sample, pileSize))
		}
		p.used++
		p.free = pileSize
	}
	page, from = int32(p.used-1), int32(pileSize-p.free)
	copy(p.pages[page][from:], samples)
	p.free -= n
	return page, from
}

// at gives samples that are kept; nobody may append to them.
func (p *samplePile) at(page, from, n int32) []evaluate.Sample {
	if n == 0 {
		return nil
	}
	if page < 0 {
		return p.large[-page-1]
	}
	return p.pages[page][from : from+n : from+n]
}

// reset takes all pages back.
func (p *samplePile) reset() {
	p.most.use(p.used)
	p.used, p.free, p.large = 0, 0, nil
}

// trim lets pages go that were not used for long.
func (p *samplePile) trim() {
	p.cut(min(len(p.pages), p.most.kept()+1)) // one more, as rounds are not quite alike
	p.most.turn()
}

func (p *samplePile) cut(n int) {
	clear(p.pages[n:])
	p.pages = p.pages[:n]
}
