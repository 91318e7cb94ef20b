package ingest

import (
	"context"
	"fmt"

	"github.com/gogo/protobuf/proto"
	remoteapi "github.com/prometheus/client_golang/exp/api/remote"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// Prometheus' own receiver is not used: of protocol 1.0 it drops series with
// wrong labels without telling, and it builds and checks the labels of every
// series of every request. Types, decoding and rules are Prometheus'.

// message is a decoded request.
type message interface {
	// samples is how many samples and histograms it holds.
	samples() int
	// append hands over everything; an error takes the request back.
	append(a *appender) error
}

// decode reads a body. What it gives does not point into raw.
func decode(t remoteapi.WriteMessageType, raw []byte) (message, error) {
	if t == remoteapi.WriteV2MessageType {
		m := &message2{}
		return m, proto.Unmarshal(raw, &m.Request)
	}
	m := &message1{}
	return m, proto.Unmarshal(raw, &m.WriteRequest)
}

// write stores a message.
func (i *Ingester) write(ctx context.Context, q *request, m message) {
	a := i.newAppender(ctx, q)
	if err := m.append(a); err != nil {
		if err := a.rollback(); err != nil {
			i.log.Warn("take a write back", "cluster", q.c.id, "err", err)
		}
		return
	}
	_ = a.commit() // it is on the request
}

// message1 is remote write 1.0.
type message1 struct{ prompb.WriteRequest }

func (m *message1) samples() (n int) {
	for i := range m.Timeseries {
		n += len(m.Timeseries[i].Samples) + len(m.Timeseries[i].Histograms)
	}
	return n
}

func (m *message1) append(a *appender) error {
	for i := range m.Timeseries {
		ts := &m.Timeseries[i]
		a.pairs = a.pairs[:0]
		for _, l := range ts.Labels {
			a.pairs = append(a.pairs, labels.Label{Name: l.Name, Value: l.Value})
		}
		s, no, err := a.series(revives(ts.Samples))
		if err != nil {
			return err
		}
		if no.reason != "" {
			a.refuseSeries(len(ts.Samples)+len(ts.Histograms), no)
			continue
		}
		for _, p := range ts.Samples {
			if err := a.float(s, p.Timestamp, p.Value); err != nil {
				return err
			}
		}
		for _, p := range ts.Histograms {
			if p.IsFloatHistogram() {
				err = a.histogram(s, p.Timestamp, nil, p.ToFloatHistogram())
			} else {
				err = a.histogram(s, p.Timestamp, p.ToIntHistogram(), nil)
			}
			if err != nil {
				return err
			}
		}
		for _, e := range ts.Exemplars {
			a.exemplar(s, e.ToExemplar(&a.builder, nil))
		}
	}
	return nil
}

// revives: floats decide for themselves, one by one; a series of histograms is
// active again when it is sent again.
func revives[T any](floats []T) bool { return len(floats) == 0 }

// refuseSeries notes a series that is refused with all its samples.
func (a *appender) refuseSeries(samples int, no verdict) {
	if samples > 0 {
		a.q.refuse(samples, no.reason, no.text)
	}
}

// message2 is remote write 2.0.
type message2 struct{ writev2.Request }

func (m *message2) samples() (n int) {
	for i := range m.Timeseries {
		n += len(m.Timeseries[i].Samples) + len(m.Timeseries[i].Histograms)
	}
	return n
}

func (m *message2) append(a *appender) error {
	symbol := func(ref uint32) (string, bool) {
		if int(ref) >= len(m.Symbols) {
			return "", false
		}
		return m.Symbols[ref], true
	}
	for i := range m.Timeseries {
		ts := &m.Timeseries[i]
		n := len(ts.Samples) + len(ts.Histograms)
		if n == 0 {
			// The protocol asks for it; 1 stands for the series.
			a.q.refuse(1, reasonInvalid, func() string { return "a series without samples" })
			continue
		}
		ok := len(ts.LabelsRefs)%2 == 0
		a.pairs = a.pairs[:0]
		for r := 0; ok && r < len(ts.LabelsRefs); r += 2 {
			name, there := symbol(ts.LabelsRefs[r])
			v, too := symbol(ts.LabelsRefs[r+1])
			ok = there && too
			a.pairs = append(a.pairs, labels.Label{Name: name, Value: v})
		}
		if !ok {
			a.q.refuse(n, reasonInvalid, func() string {
				return fmt.Sprintf("label references %v, beyond the %d symbols or not in pairs", ts.LabelsRefs[:min(len(ts.LabelsRefs), 32)], len(m.Symbols))
			})
			continue
		}
		s, no, err := a.series(revives(ts.Samples))
		if err != nil {
			return err
		}
		if no.reason != "" {
			a.refuseSeries(n, no)
			continue
		}
		for _, p := range ts.Samples {
			if err := a.float(s, p.Timestamp, p.Value); err != nil {
				return err
			}
		}
		for _, p := range ts.Histograms {
			if p.IsFloatHistogram() {
				err = a.histogram(s, p.Timestamp, nil, p.ToFloatHistogram())
			} else {
				err = a.histogram(s, p.Timestamp, p.ToIntHistogram(), nil)
			}
			if err != nil {
				return err
			}
		}
		for _, p := range ts.Exemplars {
			e, err := p.ToExemplar(&a.builder, m.Symbols)
			if err != nil {
				a.q.c.refused[reasonExemplar].add(1)
				continue
			}
			a.exemplar(s, e)
		}
	}
	return nil
}
