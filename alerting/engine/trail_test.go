package engine

import (
	"testing"
	"time"
)

func TestTrail(t *testing.T) {
	const interval = 30 * time.Second
	at := func(n int) time.Time {
		return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).Add(time.Duration(n) * interval)
	}
	for name, tc := range map[string]struct {
		late func(n int) time.Duration // of the nth arrival
		want bool
	}{
		"always late by the same":      {func(int) time.Duration { return 5 * time.Minute }, true},
		"late by about the same":       {func(n int) time.Duration { return 5*time.Minute + time.Duration(n%3)*8*time.Second }, true},
		"what was kept, all at once":   {func(n int) time.Duration { return 20*time.Minute - time.Duration(n)*interval }, false},
		"what was kept, twice as fast": {func(n int) time.Duration { return 20*time.Minute - time.Duration(n)*interval/2 }, false},
		"ever later":                   {func(n int) time.Duration { return 3*time.Minute + time.Duration(n)*interval/2 }, false},
		"about the past":               {func(int) time.Duration { return 31 * time.Minute }, false},
	} {
		t.Run(name, func(t *testing.T) {
			var tr trail
			got := false
			for n := range 3 * trailAfter {
				got = tr.follows(at(n), at(n).Add(tc.late(n)), interval)
			}
			if got != tc.want || tr.trails() != tc.want {
				t.Errorf("follows %v, trails %v, want %v", got, tr.trails(), tc.want)
			}
		})
	}
	var tr trail
	for range 3 * trailAfter {
		if tr.follows(at(0), at(10), interval) {
			t.Fatal("the same time again is no other arrival")
		}
	}
}
