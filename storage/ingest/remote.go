package ingest

import (
	"context"
	"fmt"
	"math"
	"unicode/utf8"

	remoteapi "github.com/prometheus/client_golang/exp/api/remote"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
)

// Prometheus' own receiver is not used: of protocol 1.0 it drops series with
// wrong labels without telling, and it builds and checks the labels of every
// series of every request. Rules are Prometheus'.

// message is a decoded request.
type message interface {
	// samples is how many samples and histograms it holds.
	samples() int
	// append hands over everything; an error takes the request back.
	append(a *appender) error
}

// exemplarBytes is more than the labels of an exemplar may have: the store takes so many
// characters.
const exemplarBytes = exemplar.ExemplarMaxLabelSetLength * utf8.UTFMax

// keptBytes bounds what of a request's memory is used again. One that needs more leaves it
// to the garbage collector, or each place would come to hold the largest there ever was.
const keptBytes = 16 << 20

// decode reads a body, into memory that was used before where there is some. What
// it gives points into raw, and is done with when done was called.
func (i *Ingester) decode(t remoteapi.WriteMessageType, raw []byte, memory memory) (_ message, done func(), err error) {
	if t == remoteapi.WriteV2MessageType {
		m, _ := i.messages2.Get().(*message2)
		if m == nil {
			m = &message2{}
		}
		return m, func() {
			if m.grow = nil; m.used() <= keptBytes && len(raw) <= keptBytes {
				i.messages2.Put(m)
			}
		}, m.decode(raw, i.limits.SeriesPerRequest, memory)
	}
	m, _ := i.messages1.Get().(*message1)
	if m == nil {
		m = &message1{}
	}
	return m, func() {
		if m.grow = nil; m.used() <= keptBytes && len(raw) <= keptBytes {
			i.messages1.Put(m)
		}
	}, m.decode(raw, i.limits.SeriesPerRequest, memory)
}

// write stores a message.
func (i *Ingester) write(ctx context.Context, q *request, m message) {
	defer q.leave()
	a := i.newAppender(ctx, q)
	if err := m.append(a); err != nil {
		if err := a.rollback(); err != nil {
			i.log.Warn("take a write back", "cluster", q.c.id, "err", err)
		}
		return
	}
	_ = a.commit() // it is on the request
}

func (m *message1) samples() int { return len(m.floats) + len(m.histograms) }

func (m *message1) append(a *appender) error {
	for _, of := range m.of {
		floats, histograms := m.floats[of.floats.from:of.floats.to], m.histograms[of.histograms.from:of.histograms.to]
		sent := m.pairs[of.labels.from:of.labels.to]
		a.pairs = append(a.pairs[:0], sent[:min(len(sent), a.q.i.limits.LabelsPerSeries)]...)
		s, no, err := a.series(len(sent), revives(floats))
		if err != nil {
			return err
		}
		if no.reason != "" {
			a.refuseSeries(len(floats)+len(histograms), no)
			continue
		}
		if err := a.floats(s, floats); err != nil {
			return err
		}
		for _, p := range histograms {
			if err := a.either(s, p.Timestamp, p); err != nil {
				return err
			}
		}
		for _, e := range m.exemplars[of.exemplars.from:of.exemplars.to] {
			a.exemplar(s, e.ToExemplar(&a.builder, nil))
		}
	}
	return nil
}

// revives: floats decide for themselves, one by one; a series of histograms is
// active again when it is sent again.
func revives(floats []float) bool { return len(floats) == 0 }

// floats takes the samples of a series.
func (a *appender) floats(s *series, of []float) error {
	var first float // of its time
	for n, p := range of {
		switch {
		case n == 0 || p.t != first.t:
			first = p
		case math.Float64bits(p.v) != math.Float64bits(first.v):
			a.conflict(s, p.t, &a.q.floats) // the store drops it in the commit, and does not tell
			continue
		}
		if err := a.float(s, p.t, p.v); err != nil {
			return err
		}
	}
	return nil
}

// either takes a native histogram as it is sent, which is of one of two kinds.
func (a *appender) either(s *series, t int64, h interface {
	IsFloatHistogram() bool
	ToIntHistogram() *histogram.Histogram
	ToFloatHistogram() *histogram.FloatHistogram
}) error {
	if h.IsFloatHistogram() {
		return a.histogram(s, t, nil, h.ToFloatHistogram())
	}
	return a.histogram(s, t, h.ToIntHistogram(), nil)
}

// refuseSeries notes a series that is refused with all its samples.
func (a *appender) refuseSeries(samples int, no verdict) {
	if samples > 0 {
		a.q.refuse(samples, no.reason, no.text)
	}
}

func (m *message2) samples() int { return len(m.floats) + len(m.histograms) }

func (m *message2) append(a *appender) error {
	symbol := func(ref uint32) (string, bool) {
		if int(ref) >= len(m.symbols) {
			return "", false
		}
		return m.symbols[ref], true
	}
	table := a.q.i.hash.table(m.table)
	for _, of := range m.of {
		refs, floats, histograms := m.refs[of.labels.from:of.labels.to], m.floats[of.floats.from:of.floats.to], m.histograms[of.histograms.from:of.histograms.to]
		n := len(floats) + len(histograms)
		if n == 0 {
			// The protocol asks for it; 1 stands for the series.
			a.q.refuse(1, reasonInvalid, func() string { return "a series without samples" })
			continue
		}
		var (
			s   *series
			no  verdict
			row uint64
		)
		if m.table != nil {
			row = a.q.i.hash.row(table, refs)
			s = a.again(row)
		}
		if s != nil {
			if revives(floats) && s.is(isStale) {
				no = a.revive(s)
			}
		} else {
			ok := len(refs)%2 == 0
			a.pairs = a.pairs[:0]
			for r := 0; ok && r < len(refs) && len(a.pairs) < a.q.i.limits.LabelsPerSeries; r += 2 {
				name, there := symbol(refs[r])
				v, too := symbol(refs[r+1])
				ok = there && too
				a.pairs = append(a.pairs, labels.Label{Name: name, Value: v})
			}
			if !ok {
				a.q.refuse(n, reasonInvalid, func() string {
					return fmt.Sprintf("label references %v, beyond the %d symbols or not in pairs", refs[:min(len(refs), 32)], len(m.symbols))
				})
				continue
			}
			var err error
			if s, no, err = a.series(len(refs)/2, revives(floats)); err != nil {
				return err
			}
			if s != nil && m.table != nil {
				s.row.Store(row)
			}
		}
		if no.reason != "" {
			a.refuseSeries(n, no)
			continue
		}
		if err := a.floats(s, floats); err != nil {
			return err
		}
		for _, p := range histograms {
			if err := a.either(s, p.Timestamp, p); err != nil {
				return err
			}
		}
		for _, p := range m.exemplars[of.exemplars.from:of.exemplars.to] {
			var bytes int
			for _, ref := range p.LabelsRefs {
				text, _ := symbol(ref)
				bytes += len(text)
			}
			if bytes > exemplarBytes { // of labels that would be built to find that out
				a.q.c.refused[reasonExemplar].add(1)
				continue
			}
			e, err := p.ToExemplar(&a.builder, m.symbols)
			if err != nil {
				a.q.c.refused[reasonExemplar].add(1)
				continue
			}
			a.exemplar(s, e)
		}
	}
	return nil
}
