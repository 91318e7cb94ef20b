package engine

import (
	"testing"
	"time"
)

func TestOverdueAt(t *testing.T) {
	t.Parallel()
	day := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	for name, tc := range map[string]struct {
		now, interval time.Duration // since day
		at, next      time.Duration
	}{
		"sums may still be on their way": {29 * time.Second, 10 * time.Second, 20 * time.Second, 35333333333},
		"a third of a short interval":    {35400 * time.Millisecond, 10 * time.Second, 30 * time.Second, 45333333333},
		"ten seconds at most":            {71900 * time.Millisecond, time.Minute, 0, 72 * time.Second},
		"and their writing":              {72 * time.Second, time.Minute, time.Minute, 132 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			at, next := overdueAt(day.Add(tc.now), tc.interval)
			if !at.Equal(day.Add(tc.at)) || !next.Equal(day.Add(tc.next)) {
				t.Fatalf("got %s, next %s", at.Sub(day), next.Sub(day))
			}
		})
	}
}
