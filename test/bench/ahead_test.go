package main

import (
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/golang/snappy"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// What is computed in parts is as much as what is computed in one go, each sender's intervals
// are in it once, in order, and the files are of the sizes that are said.
func TestPartsOfWhatIsComputedAhead(t *testing.T) {
	t.Parallel()
	const nodes, intervals = 5, 11
	o := scaleFleet(nodes, 30*time.Second)
	whole := 0
	for parts := 1; parts <= 3; parts++ {
		path := filepath.Join(t.TempDir(), "ahead")
		a, err := keptAhead(t.Context(), path, o, nil, siteEnd, intervals, parts)
		if err != nil {
			t.Fatal(err)
		}
		size, next := 0, map[string]time.Time{}
		for _, x := range a.requests {
			if want, ok := next[x.Sender]; ok && !x.At.Equal(want) || !ok && !x.At.Equal(siteEnd) {
				t.Errorf("%d parts: %s has %s, want %s", parts, x.Sender, x.At, want)
			}
			next[x.Sender] = x.At.Add(o.Interval)
			for _, n := range x.Sizes {
				size += n.Body + n.Places
			}
		}
		if len(next) != nodes || len(a.requests) != nodes*intervals {
			t.Errorf("%d parts: %d requests of %d senders", parts, len(a.requests), len(next))
		}
		files := 0
		for _, path := range a.paths {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			files += int(info.Size())
		}
		if parts == 1 {
			whole = size
		}
		if size != files || size < whole*98/100 || size > whole*102/100 {
			t.Errorf("%d parts: %d bytes in files of %d, of %d in one part", parts, size, files, whole)
		}
		again, err := keptAhead(t.Context(), path, o, nil, siteEnd, intervals, parts)
		if err != nil {
			t.Fatal(err)
		}
		if n := again.intervals(); n != intervals {
			t.Errorf("%d parts: %d intervals are kept", parts, n)
		}
		const by = 40 * 24 * time.Hour
		again.move(by)
		var all []io.Reader
		for _, path := range again.paths {
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			all = append(all, f)
		}
		r := io.MultiReader(all...)
		for i, x := range again.requests {
			if want := a.requests[i].At.Add(by); !x.At.Equal(want) {
				t.Fatalf("%d parts: request %d is of %s, want %s", parts, i, x.At, want)
			}
			bodies, err := x.read(r, again.moved)
			if err != nil {
				t.Fatal(err)
			}
			for _, body := range bodies {
				raw, err := snappy.Decode(nil, body)
				if err != nil {
					t.Fatal(err)
				}
				var req writev2.Request
				if err := req.Unmarshal(raw); err != nil {
					t.Fatal(err)
				}
				for _, ts := range req.Timeseries {
					if len(ts.Samples) != 1 || ts.Samples[0].Timestamp != x.At.UnixMilli() {
						t.Fatalf("%d parts: request %d has samples %v, want one of %d", parts, i, ts.Samples, x.At.UnixMilli())
					}
				}
			}
		}
	}
}
