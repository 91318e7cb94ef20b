package logs

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

const (
	passContainers = 100
	passPacked     = 70 // compressed files of each
	fewBytes       = 20 << 10
	longBytes      = 2 << 20
	passTooMany    = passPacked + 1 - maxHeld // of each, and of these all
)

// passes is a node whose containers have many compressed files beside what is written to.
type passes struct {
	b    *testing.B
	root string
	o    FilesOptions
	made []int // compressed files of each container so far
	long lines // of the oldest, which are given up where there are too many
	few  lines // of the others
	z    *flate.Writer
}

// lines are what compressed files end with that differ by their first lines.
type lines struct {
	text   []byte
	packed []byte // as the last blocks of a compressed text
}

func newPasses(b *testing.B, long int) *passes {
	p := &passes{b: b, root: b.TempDir(), made: make([]int, passContainers)}
	p.o = FilesOptions{Root: p.root, Dir: b.TempDir(), Sender: "node/n1", Linger: time.Millisecond}
	var err error
	if p.z, err = flate.NewWriter(nil, flate.BestSpeed); err != nil {
		b.Fatal(err)
	}
	p.long, p.few = p.lines(long), p.lines(fewBytes)
	for i := range passContainers {
		if err := os.MkdirAll(p.dir(i), 0o755); err != nil {
			b.Fatal(err)
		}
		p.write(i, "0.log", []byte(cri(0, "stdout", "F", fmt.Sprintf("container %d begins, with more than tells a file by its beginning", i))))
	}
	return p
}

func (p *passes) dir(i int) string {
	return filepath.Join(p.root, fmt.Sprintf("shop_cart-%d_uid-%d", i, i), "app")
}

func (p *passes) write(i int, name string, text []byte) {
	if err := os.WriteFile(filepath.Join(p.dir(i), name), text, 0o644); err != nil {
		p.b.Fatal(err)
	}
}

func (p *passes) lines(size int) lines {
	var text, packed bytes.Buffer
	r := rand.New(rand.NewPCG(1, 2))
	for n := 0; text.Len() < size; n++ {
		text.WriteString(cri(n, "stdout", "F", benchKinds["json"](r, clock)))
	}
	if err := p.deflate(&packed, text.Bytes()).Close(); err != nil {
		p.b.Fatal(err)
	}
	return lines{text.Bytes(), packed.Bytes()}
}

func (p *passes) deflate(to *bytes.Buffer, text []byte) *flate.Writer {
	p.z.Reset(to)
	if _, err := p.z.Write(text); err != nil {
		p.b.Fatal(err)
	}
	return p.z
}

// rotate gives a container a further compressed file: a first line of its own, and the lines that
// all have, which are compressed once.
func (p *passes) rotate(i int) {
	n := p.made[i]
	p.made[i]++
	rest := p.few
	if n < passTooMany {
		rest = p.long
	}
	head := []byte(cri(1_000*(n+1), "stdout", "F", fmt.Sprintf("file %d of container %d", n, i)))
	raw := bytes.NewBuffer([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255})
	if err := p.deflate(raw, head).Flush(); err != nil {
		p.b.Fatal(err)
	}
	raw.Write(rest.packed)
	sum := crc32.Update(crc32.ChecksumIEEE(head), crc32.IEEETable, rest.text)
	tail := binary.LittleEndian.AppendUint32(nil, sum)
	raw.Write(binary.LittleEndian.AppendUint32(tail, uint32(len(head)+len(rest.text))))
	p.write(i, packedName(n), raw.Bytes())
}

func (p *passes) rotateAll(times int) {
	for i := range passContainers {
		for range times {
			p.rotate(i)
		}
	}
}

// remove removes the compressed files of a container.
func (p *passes) remove(i int) {
	for n := range p.made[i] {
		if err := os.Remove(filepath.Join(p.dir(i), packedName(n))); err != nil {
			p.b.Fatal(err)
		}
	}
	p.made[i] = 0
}

func packedName(n int) string { return fmt.Sprintf("0.log.20261123-%06d%s", n, packedSuffix) }

// first has a collector know that it is not the first one here.
func (p *passes) first() {
	r := p.begin()
	for _, c := range r.order {
		for _, f := range c.files {
			f.offset, f.last = 100, f.firstTime()
			r.journal.set(f.key(), c.pos(f))
		}
	}
	p.end(r)
}

// begin has a collector look at all of it, and be about to read.
func (p *passes) begin() *Files {
	p.b.Helper()
	r, err := NewFiles(p.o)
	if err != nil {
		p.b.Fatal(err)
	}
	w, err := newWatch()
	if err != nil {
		p.b.Fatal(err)
	}
	r.findOut(p.b.Context(), r.begin(w))
	r.findLost()
	return r
}

// blocked has it read nothing, as the server is away.
func (p *passes) blocked(r *Files) {
	r.filling = newBatch[filePos](p.o.Sender)
	r.filling.add(wire.LogStream{}, wire.LogLine{Time: clock.UnixNano()})
	r.filling.lines = batchLines
}

// sent has the journal know all files as sent.
func (p *passes) sent(r *Files) {
	for _, c := range r.order {
		for _, f := range c.files {
			if size, ok := f.wholeSize(); ok {
				f.offset, f.skip, f.first = size, [2]int64{size, size}, f.firstTime()
				f.last = f.first
			}
			f.done = f.suffix != ""
			r.journal.set(f.key(), c.pos(f))
			if f.done {
				f.close()
			}
		}
	}
}

// end lets go of all, as a kill does.
func (p *passes) end(r *Files) {
	r.writeJournal()
	for _, c := range r.order {
		c.release()
	}
	r.watch.close()
}

// pass is what the loop does now and then.
func pass(r *Files) {
	r.scanRoot()
	r.rejudge()
	r.tidy()
	r.prune()
}

// times measures do as often as the benchmark wants, and the CPU that it takes, which other work
// beside it does not lengthen. ready gets things ready for each.
func (p *passes) times(ready, do func()) {
	var used time.Duration
	for p.b.Loop() {
		p.b.StopTimer()
		ready()
		before := cpuTime(p.b)
		p.b.StartTimer()
		do()
		used += cpuTime(p.b) - before
	}
	p.b.ReportMetric(float64(used.Microseconds())/1e3/float64(p.b.N), "cpu-ms/op")
}

// BenchmarkPass looks at 100 containers that have 70 compressed files each, in the states in which
// a collector may find them.
func BenchmarkPass(b *testing.B) {
	none := func() {}
	b.Run("sent", func(b *testing.B) { // all of it is known
		p := newPasses(b, fewBytes)
		p.first()
		p.rotateAll(passPacked)
		r := p.begin()
		p.sent(r)
		p.blocked(r)
		p.times(none, func() { pass(r) })
		p.end(r)
	})
	b.Run("held", func(b *testing.B) { // the same, and nothing of it is read
		p := newPasses(b, fewBytes)
		p.first()
		p.rotateAll(maxHeld - 1)
		r := p.begin()
		p.blocked(r)
		p.times(none, func() { pass(r) })
		p.end(r)
	})
	b.Run("begins", func(b *testing.B) { // at a start
		p := newPasses(b, fewBytes)
		p.first()
		p.rotateAll(passPacked)
		r := p.begin()
		p.sent(r)
		p.times(func() { p.end(r) }, func() { r = p.begin() })
		p.end(r)
	})
	b.Run("comes", func(b *testing.B) { // all of it comes at once
		p := newPasses(b, fewBytes)
		p.first()
		var r *Files
		p.times(func() {
			if r != nil {
				p.end(r)
			}
			for i := range passContainers {
				p.remove(i)
			}
			r = p.begin()
			p.blocked(r)
			p.rotateAll(maxHeld - 1)
		}, func() { pass(r) })
		p.end(r)
	})
	b.Run("too many", func(b *testing.B) { // of all, the oldest are given up while nothing is read
		p := newPasses(b, longBytes)
		p.first()
		p.rotateAll(passPacked)
		positions := filepath.Join(p.o.Dir, "file-positions.json")
		known, err := os.ReadFile(positions)
		if err != nil {
			b.Fatal(err)
		}
		var r *Files
		var longest time.Duration
		p.times(func() {
			if r != nil {
				p.end(r)
			}
			if err := os.WriteFile(positions, known, 0o600); err != nil {
				b.Fatal(err)
			}
			r = p.begin()
			p.blocked(r)
		}, func() {
			for turns, lost := 0, 0; lost < passContainers*passTooMany; turns++ {
				if turns > 10_000 {
					b.Fatalf("%d files were given up, want %d", lost, passContainers*passTooMany)
				}
				began := time.Now()
				if turns == 0 {
					pass(r)
				}
				r.fill(r.filling)
				longest = max(longest, time.Since(began))
				lost = 0
				for _, c := range r.order {
					lost += len(c.lost)
				}
			}
		})
		p.end(r)
		b.ReportMetric(float64(longest.Milliseconds()), "ms-longest-turn")
	})
}
