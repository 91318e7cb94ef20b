package main

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/crowsnest-dev/crowsnest/collector/compute"
)

// A request whose time stamps were moved is the one that would have been made
// then, whatever snappy found to be alike.
func TestStamped(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	r := rand.New(rand.NewPCG(1, 2))
	stamp := string(protowire.AppendVarint(nil, uint64(at.UnixMilli())))
	for name, tc := range map[string]struct {
		n     int
		value func() float64
		label func(n int) string
	}{
		"nothing":               {n: 0},
		"one":                   {n: 1, value: r.Float64, label: func(int) string { return "a" }},
		"equal values":          {n: 5000, value: func() float64 { return 1 }, label: func(int) string { return "a" }},
		"different values":      {n: 20000, value: r.NormFloat64, label: func(n int) string { return string(rune('a' + n%26)) }},
		"some alike":            {n: 20000, value: func() float64 { return float64(r.IntN(50)) }, label: func(n int) string { return string(rune('a' + n%26)) }},
		"labels like the stamp": {n: 3000, value: r.Float64, label: func(n int) string { return "x" + stamp[:n%5] + stamp + stamp[n%6:] }},
	} {
		t.Run(name, func(t *testing.T) {
			var samples []compute.Sample
			for n := range tc.n {
				samples = append(samples, compute.Sample{Metric: "m", Labels: labels.FromStrings("pod", tc.label(n)), At: at, V: tc.value()})
			}
			raw, err := writeRequest(samples, 0)
			if err != nil {
				t.Fatal(err)
			}
			body, places, err := stamped(raw, at.UnixMilli())
			if err != nil {
				t.Fatal(err)
			}
			if packed := snappy.Encode(nil, raw); len(body)+len(places) > len(packed)+len(packed)/5+16 {
				t.Errorf("%d bytes and %d of places for %d", len(body), len(places), len(packed))
			}
			for _, shift := range []time.Duration{0, time.Hour, -7 * 24 * time.Hour, 1000 * time.Hour} {
				if err := restamp(body, places, at.Add(shift).UnixMilli()); err != nil {
					t.Fatal(err)
				}
				got, err := snappy.Decode(nil, body)
				if err != nil {
					t.Fatal(err)
				}
				want, err := writeRequest(samples, shift)
				if err != nil {
					t.Fatal(err)
				}
				if string(got) != string(want) {
					t.Fatalf("moved by %s it is another request", shift)
				}
			}
		})
	}
}

func TestStampedRefuses(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	raw, err := writeRequest([]compute.Sample{{Metric: "m", Labels: labels.FromStrings("pod", "a"), At: at, V: 1}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		raw []byte
		at  int64
	}{
		"a sample of another time":   {raw, at.UnixMilli() + 1},
		"a time with fewer bytes":    {raw, 1},
		"a request that is cut":      {raw[:len(raw)-1], at.UnixMilli()},
		"a time before there is one": {raw, -1},
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := stamped(tc.raw, tc.at); err == nil {
				t.Error("taken")
			}
		})
	}
	if err := restamp([]byte("abc"), []byte{1, 1<<4 | 6}, at.UnixMilli()); err == nil {
		t.Error("a place beyond the body was taken")
	}
}
