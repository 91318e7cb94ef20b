package main

import (
	"testing"
	"time"
)

// What is counted series by series is what was counted as the stream was made.
func TestSentIsCountedBySeries(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	b := &bench{siteNodes: 2, siteFor: 3 * time.Minute}
	s, err := b.site(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	sent, err := s.sent(t.Context(), t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for metric, hours := range s.samples {
		for hour, want := range hours {
			got := 0
			for _, counts := range sent[metric] {
				got += counts[hour]
			}
			if got != want {
				t.Errorf("%s at %s: %d samples, want %d", metric, time.UnixMilli(hour).UTC(), got, want)
			}
			total += got
		}
	}
	if total != s.total || total == 0 {
		t.Errorf("%d samples, want %d", total, s.total)
	}
}

func TestDifferencesAreOfEachSeries(t *testing.T) {
	t.Parallel()
	sent := tally{1: {10: 5, 20: 5}, 2: {10: 3}, 3: {10: 1}}
	has := tally{1: {10: 4}, 2: {10: 4}, 4: {10: 2}}
	if lost, twice := differences(sent, has, 10, 10); lost != 2 || twice != 3 {
		t.Errorf("%d lost, %d twice", lost, twice)
	}
}
