package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// What is computed in parts is as much as what is computed in one go, each sender's intervals
// are in it once, in order, and the files are of the sizes that are said.
func TestPartsOfWhatIsComputedAhead(t *testing.T) {
	t.Parallel()
	const nodes, intervals = 5, 11
	o := scaleFleet(nodes, 30*time.Second)
	whole := 0
	for parts := 1; parts <= 3; parts++ {
		a, err := computeAhead(t.Context(), filepath.Join(t.TempDir(), "ahead"), o, nil, siteEnd, intervals, parts)
		if err != nil {
			t.Fatal(err)
		}
		size, next := 0, map[string]time.Time{}
		for _, x := range a.requests {
			if want, ok := next[x.sender]; ok && !x.at.Equal(want) || !ok && !x.at.Equal(siteEnd) {
				t.Errorf("%d parts: %s has %s, want %s", parts, x.sender, x.at, want)
			}
			next[x.sender] = x.at.Add(o.Interval)
			for _, n := range x.sizes {
				size += n
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
	}
}
