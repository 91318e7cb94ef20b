package ingest

import (
	"errors"
	"math"
	"reflect"
	"slices"
	"testing"

	"github.com/gogo/protobuf/proto"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// sameAs says whether a message is what Prometheus' types make of a body.
func (m *message1) sameAs(want *prompb.WriteRequest) bool {
	if len(m.of) != len(want.Timeseries) {
		return false
	}
	for i, of := range m.of {
		var got prompb.TimeSeries
		for _, l := range m.pairs[of.labels.from:of.labels.to] {
			got.Labels = append(got.Labels, prompb.Label{Name: l.Name, Value: l.Value})
		}
		for _, p := range m.floats[of.floats.from:of.floats.to] {
			got.Samples = append(got.Samples, prompb.Sample{Timestamp: p.t, Value: p.v})
		}
		got.Exemplars = append(got.Exemplars, m.exemplars[of.exemplars.from:of.exemplars.to]...)
		got.Histograms = append(got.Histograms, m.histograms[of.histograms.from:of.histograms.to]...)
		known := &want.Timeseries[i]
		known.XXX_unrecognized = nil
		for n := range known.Labels {
			known.Labels[n].XXX_unrecognized = nil
		}
		for n := range known.Samples {
			known.Samples[n].XXX_unrecognized = nil
		}
		if !sameBytes(&got, known) {
			return false
		}
	}
	return true
}

func (m *message2) sameAs(want *writev2.Request) bool {
	if len(m.of) != len(want.Timeseries) || !slices.Equal(m.symbols, want.Symbols) {
		return false
	}
	for i, of := range m.of {
		got := writev2.TimeSeries{LabelsRefs: m.refs[of.labels.from:of.labels.to]}
		for _, p := range m.floats[of.floats.from:of.floats.to] {
			got.Samples = append(got.Samples, writev2.Sample{Timestamp: p.t, Value: p.v})
		}
		got.Exemplars = append(got.Exemplars, m.exemplars[of.exemplars.from:of.exemplars.to]...)
		got.Histograms = append(got.Histograms, m.histograms[of.histograms.from:of.histograms.to]...)
		known := &want.Timeseries[i]
		known.Metadata, known.XXX_unrecognized = writev2.Metadata{}, nil // nothing of ours reads these
		for n := range known.Samples {
			known.Samples[n].StartTimestamp, known.Samples[n].XXX_unrecognized = 0, nil
		}
		if !sameBytes(&got, known) {
			return false
		}
	}
	return true
}

// sameBytes compares by what is written: NaN is not itself.
func sameBytes(a, b proto.Marshaler) bool {
	x, errX := a.Marshal()
	y, errY := b.Marshal()
	return errX == nil && errY == nil && reflect.DeepEqual(x, y)
}

// all is a request with something of every kind, and things that are unknown.
func all(f testing.TB) (one, two []byte) {
	must := func(raw []byte, err error) []byte {
		if err != nil {
			f.Fatal(err)
		}
		return raw
	}
	one = must((&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{
		{Labels: []prompb.Label{{Name: "__name__", Value: "a"}, {Name: "b", Value: ""}}, Samples: []prompb.Sample{{Value: 1.5, Timestamp: -7}, {Value: math.NaN(), Timestamp: 1 << 60}}},
		{},
		{Labels: []prompb.Label{{}, {Name: "x", Value: "y"}}, Exemplars: []prompb.Exemplar{{Labels: []prompb.Label{{Name: "t", Value: "1"}}, Value: 2, Timestamp: 3}},
			Histograms: []prompb.Histogram{{Count: &prompb.Histogram_CountInt{CountInt: 3}, Sum: 2, Schema: -4, PositiveSpans: []prompb.BucketSpan{{Offset: -1, Length: 2}}, PositiveDeltas: []int64{1, -1}, Timestamp: 9}}},
	}, Metadata: []prompb.MetricMetadata{{MetricFamilyName: "a", Help: "b"}}}).Marshal())
	two = must((&writev2.Request{Symbols: []string{"", "__name__", "a", "b"}, Timeseries: []writev2.TimeSeries{
		{LabelsRefs: []uint32{1, 2, math.MaxUint32, 0}, Samples: []writev2.Sample{{Value: math.Copysign(0, -1), Timestamp: 5, StartTimestamp: 1}}, Metadata: writev2.Metadata{Type: 1, HelpRef: 3}},
		{},
		{LabelsRefs: []uint32{1, 3}, Exemplars: []writev2.Exemplar{{LabelsRefs: []uint32{2, 3}, Value: 2, Timestamp: 3}},
			Histograms: []writev2.Histogram{{Count: &writev2.Histogram_CountFloat{CountFloat: 3}, Sum: 2, Schema: 2, NegativeSpans: []writev2.BucketSpan{{Offset: 1, Length: 1}}, NegativeCounts: []float64{1}, Timestamp: 9}}},
	}}).Marshal())
	unknown := protowire.AppendVarint(protowire.AppendTag(nil, 77, protowire.VarintType), 1)
	unknown = protowire.AppendString(protowire.AppendTag(unknown, 78, protowire.BytesType), "x")
	unknown = protowire.AppendFixed32(protowire.AppendTag(unknown, 79, protowire.Fixed32Type), 1)
	return append(one, unknown...), append(two, unknown...)
}

// Memory that was used for another body shows nothing of it.
func TestDecodeLikePrometheus(t *testing.T) {
	one, two := all(t)
	var m1 message1
	var m2 message2
	for range 2 {
		var want1 prompb.WriteRequest
		var want2 writev2.Request
		if err := want1.Unmarshal(one); err != nil {
			t.Fatal(err)
		}
		if err := want2.Unmarshal(two); err != nil {
			t.Fatal(err)
		}
		if err := m1.decode(one, 10, memoryOf(1<<20)); err != nil || !m1.sameAs(&want1) {
			t.Errorf("1.0: %+v, %v", m1, err)
		}
		if err := m2.decode(two, 10, memoryOf(1<<20)); err != nil || !m2.sameAs(&want2) {
			t.Errorf("2.0: %+v, %v", m2, err)
		}
		if m1.samples() != 3 || m2.samples() != 2 {
			t.Errorf("%d and %d samples", m1.samples(), m2.samples())
		}
	}
	// References one by one, which who does not pack may send.
	series := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 7)
	series = protowire.AppendVarint(protowire.AppendTag(series, 1, protowire.VarintType), 1<<32+8)
	if err := m2.decode(protowire.AppendBytes(protowire.AppendTag(nil, 5, protowire.BytesType), series), 1, memoryOf(1<<20)); err != nil || !slices.Equal(m2.refs, []uint32{7, 8}) {
		t.Errorf("got %v, %v", m2.refs, err)
	}
	if err1, err2 := m1.decode(one, 2, memoryOf(1<<20)), m2.decode(two, 2, memoryOf(1<<20)); !errors.Is(err1, fault.ErrTooLarge) || !errors.Is(err2, fault.ErrTooLarge) {
		t.Errorf("three series of two: %v, %v", err1, err2)
	}
	for name, raw := range map[string][]byte{
		"a series that is a number": protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 1),
		"a body that ends":          one[:len(one)/2],
		"a label that is a number":  protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 1)),
	} {
		if err := m1.decode(raw, 1000, memoryOf(1<<20)); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// FuzzDecode: what both take is the same. Either may refuse what the other passes
// over, as fields that nobody reads and the groups of protobuf's past.
func FuzzDecode(f *testing.F) {
	one, two := all(f)
	f.Add(one)
	f.Add(two)
	f.Add([]byte{0x0a})
	var m1 message1
	var m2 message2
	f.Fuzz(func(t *testing.T, raw []byte) {
		var want1 prompb.WriteRequest
		if m1.decode(raw, 1000, memoryOf(1<<20)) == nil && want1.Unmarshal(raw) == nil && !m1.sameAs(&want1) {
			t.Errorf("1.0: %+v, want %+v", m1, want1)
		}
		var want2 writev2.Request
		if m2.decode(raw, 1000, memoryOf(1<<20)) == nil && want2.Unmarshal(raw) == nil && !m2.sameAs(&want2) {
			t.Errorf("2.0: %+v, want %+v", m2, want2)
		}
	})
}
