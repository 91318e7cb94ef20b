package logs

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"

	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// Bounds of a batch, below those of the wire so that its encoding and the lines
// that tell of drops fit, too. Who catches up sends a few large ones: the server
// makes a file of each, and merges them; with batches of 20,000 lines that cost it a
// tenth more.
const (
	batchLines = 32_000
	batchBytes = 8 << 20
	heldBytes  = 4 * batchBytes // of text that was read
	groupLines = 16             // for which a group has room at least
)

// batch is what goes to the server at once, and how far each source has come
// with it. C is a source's position.
type batch[C any] struct {
	groups map[wire.LogStream]int // index in wire.Groups
	group  int                    // that had the last line
	wire   wire.LogBatch
	day    int64
	lines  int
	drops  map[dropKey]*drop // what it leaves out
	told   []tell            // of these, what cannot be found out again
	bytes  int
	expect int // lines that are about to come of one stream: room is made for them at once
	// lineCounts are the lines of each container, of which a record may have several.
	lineCounts map[Container]int
	of         Container // whose lines are in ofLines and not in lineCounts yet
	ofLines    int
	from       map[string]C // by source, before the first line of it
	to         map[string]C // after the last
	reached    map[Container]handOn
	said       moment // what it says to be complete is as of
	resent     bool   // it was sent before a restart, perhaps
	memory     *memory
	disposed   func([]wire.LogGroup) // if set, gives the memory back
}

func newBatch[C any](sender string) *batch[C] {
	return &batch[C]{wire: wire.LogBatch{Sender: sender}, groups: map[wire.LogStream]int{}, drops: map[dropKey]*drop{}, lineCounts: map[Container]int{}, from: map[string]C{}, to: map[string]C{}, reached: map[Container]handOn{}, memory: newMemory()}
}

// full says that no further line should go in. Text may be held of which most was left out.
func (b *batch[C]) full() bool {
	return b.lines >= batchLines || b.bytes >= batchBytes || b.memory.held >= heldBytes
}

// What a batch that is made anew may have: as much as it had, were it not by rules and files as
// they are by now. The server takes no more.
const (
	anewLines = wire.MaxLogBatchLines - 2_000
	anewBytes = wire.MaxLogBatchBytes - 4<<20
)

// brimful says that nothing more may go in, though the batch had it before.
func (b *batch[C]) brimful() bool { return b.lines >= anewLines || b.bytes >= anewBytes }

// takes says whether a line of that time may go in.
func (b *batch[C]) takes(nanos int64) bool { return b.empty() || b.day == dayOf(nanos) }

func (b *batch[C]) add(s wire.LogStream, l wire.LogLine) {
	if b.group >= len(b.wire.Groups) || b.wire.Groups[b.group].Stream != s {
		i, ok := b.groups[s]
		if !ok {
			i = len(b.wire.Groups)
			b.groups[s] = i
			b.wire.Groups = append(b.wire.Groups, wire.LogGroup{Stream: s})
		}
		b.group = i
	}
	g := &b.wire.Groups[b.group]
	if len(g.Lines) == cap(g.Lines) {
		n := max(b.expect, groupLines)
		if g.Lines == nil {
			g.Lines = b.memory.linesOf(n)
		}
		g.Lines = slices.Grow(g.Lines, n)
	}
	g.Lines = append(g.Lines, l)
	b.day = dayOf(l.Time)
	b.lines++
	b.bytes += len(l.Message) + 32
	for _, f := range l.Fields {
		b.bytes += len(f.Name) + len(f.Value) + 8
	}
}

// count notes lines of a container.
func (b *batch[C]) count(c Container, lines int) {
	if b.of != c {
		b.counted()
		b.of = c
	}
	b.ofLines += lines
}

// counted gives the lines of each container.
func (b *batch[C]) counted() map[Container]int {
	if b.ofLines > 0 {
		b.lineCounts[b.of] += b.ofLines
		b.ofLines = 0
	}
	return b.lineCounts
}

// drop notes lines that are left out, of a time that the batch takes.
func (b *batch[C]) drop(s wire.LogStream, reason string, lines, bytes int, from, until int64) {
	k := dropKey{s, reason, lines > 0}
	d := b.drops[k]
	if d == nil {
		d = &drop{}
		b.drops[k] = d
	}
	d.add(lines, bytes, from, until)
	b.day = dayOf(until)
}

// tell notes lines that are lost, and that a batch made anew has to tell again.
func (b *batch[C]) tell(t tell) {
	b.drop(t.Stream, t.Reason, t.Lines, int(t.Bytes), t.From, t.Until)
	b.told = append(b.told, t)
}

// empty says that there is nothing to send.
func (b *batch[C]) empty() bool { return b.lines == 0 && len(b.drops) == 0 }

// tellDrops adds a line for each kind of lines that were left out.
func (b *batch[C]) tellDrops() {
	for k, d := range b.drops {
		b.add(k.stream, d.line(k))
	}
	clear(b.drops)
}

// seal gives the batch its id, which follows from the positions alone: a batch
// that is read and sent again after a crash has the same. The marks say what is
// complete with this batch, as of a moment; one that says nothing else has an id of no
// meaning.
func (b *batch[C]) seal(marks []wire.LogMark, said moment) {
	b.wire.Complete, b.said = marks, said
	b.tellDrops()
	if b.lines == 0 {
		b.wire.ID = "marks"
		return
	}
	raw, err := json.Marshal([]any{b.wire.Sender, b.from, b.to, b.day}) // maps are written in the order of their keys
	if err != nil {
		panic("BUG: positions cannot be written as JSON: " + err.Error())
	}
	sum := sha256.Sum256(raw)
	b.wire.ID = hex.EncodeToString(sum[:16])
}
