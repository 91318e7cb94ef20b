package logs

import (
	"sync"
	"unsafe"

	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// memory is what the lines of a batch of files lie in: their text as it was read, their
// fields, and the lines themselves. Who catches up fills one batch after the other, and
// new memory for each was a fifth of what a line cost: to get it, and to find out that
// nobody needs it any more. So the next batch has it once the lines are encoded. Nothing
// but the batch's lines may hold on to a part of it until then, and these no longer.
type memory struct {
	text   blocks[byte]
	fields blocks[wire.LogField]
	room   fieldRoom        // in fields
	lines  [][]wire.LogLine // of groups of a batch before
	held   int              // bytes of text
}

func newMemory() *memory {
	m := &memory{text: blocks[byte]{least: 16 << 10, most: 512 << 10}, fields: blocks[wire.LogField]{least: 2 * (maxFields + 2), most: fieldsAtOnce}}
	m.room.more = func() []wire.LogField { return m.fields.next(maxFields + 2) }
	return m
}

// blocks are filled one after the other. Each is twice as large as the one before: most
// batches of who is not behind are small.
type blocks[T any] struct {
	least, most int
	used        [][]T // the last one is being filled
	unused      [][]T // of a batch before
}

// next begins an empty block with room for at least n.
func (b *blocks[T]) next(n int) []T {
	size := b.least
	if last := len(b.used) - 1; last >= 0 {
		size = min(2*cap(b.used[last]), b.most)
	}
	var block []T
	if last := len(b.unused) - 1; last >= 0 && cap(b.unused[last]) >= n {
		block, b.unused = b.unused[last], b.unused[:last]
	} else {
		block = make([]T, 0, max(size, n))
	}
	b.used = append(b.used, block)
	return block
}

// reset has all blocks be empty. Those that were of no use are let go of.
func (b *blocks[T]) reset() {
	clear(b.unused)
	b.used, b.unused = b.unused[:0], b.used
	for i := range b.unused {
		b.unused[i] = b.unused[i][:0]
	}
}

// copy gives a text of the batch's own.
func (m *memory) copy(text []byte) string {
	if len(text) == 0 {
		return ""
	}
	last := len(m.text.used) - 1
	if last < 0 || cap(m.text.used[last])-len(m.text.used[last]) < len(text) {
		m.text.next(len(text))
		last++
	}
	from := len(m.text.used[last])
	m.text.used[last] = append(m.text.used[last], text...)
	m.held += len(text)
	return unsafe.String(&m.text.used[last][from], len(text)) // nobody writes there before the reset
}

// uncopy takes back the last copy, of which the batch has nothing.
func (m *memory) uncopy(text string) {
	last := &m.text.used[len(m.text.used)-1]
	*last = (*last)[:len(*last)-len(text)]
	m.held -= len(text)
}

// linesOf gives an empty slice for a group with room for so many lines, if one is soon
// found.
func (m *memory) linesOf(n int) []wire.LogLine {
	last := len(m.lines) - 1
	for i := last; i >= max(0, last-8); i-- {
		if l := m.lines[i]; cap(l) >= n {
			m.lines[i], m.lines = m.lines[last], m.lines[:last]
			return l
		}
	}
	return nil
}

// reset has all be there for the next batch, but for what was of no use to this one.
func (m *memory) reset(groups []wire.LogGroup) {
	m.text.reset()
	m.fields.reset()
	m.room.free = nil
	m.held = 0
	clear(m.lines)
	m.lines = m.lines[:0]
	for _, g := range groups {
		// A quiet group may have had a loud one's, which has one of its own by now.
		if cap(g.Lines) <= 8*(len(g.Lines)+groupLines) {
			m.lines = append(m.lines, g.Lines[:0])
		}
	}
}

// memories keeps what no batch has, as long as Go's collector finds it to be used. It is for
// concurrent use.
type memories struct {
	pool sync.Pool
	wipe func(*memory) // if set, has what is given back; tests write over it
}

func (m *memories) take() *memory {
	if v, ok := m.pool.Get().(*memory); ok {
		return v
	}
	return newMemory()
}

// lend has a batch lie in memory that it gives back once it is encoded.
func (m *memories) lend(b *batch[filePos]) *batch[filePos] {
	lent := m.take()
	b.memory = lent
	b.disposed = func(groups []wire.LogGroup) {
		b.memory = newMemory()
		if m.wipe != nil {
			m.wipe(lent)
		}
		lent.reset(groups)
		m.pool.Put(lent)
	}
	return b
}
