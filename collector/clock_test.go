package collector

import (
	"testing"
	"time"
)

func TestServerClock(t *testing.T) {
	t0 := time.Unix(1_800_000_000, 0)
	type step struct {
		off, trip time.Duration
		want      time.Duration
	}
	ms := time.Millisecond
	for name, steps := range map[string][]step{
		"a clock that is right enough is left alone":  {{400 * ms, 20 * ms, 0}, {900 * ms, 20 * ms, 0}},
		"a wrong one is corrected, and once":          {{5 * time.Second, 20 * ms, 5 * time.Second}, {5200 * ms, 20 * ms, 5 * time.Second}},
		"behind is negative":                          {{-time.Hour, 20 * ms, -time.Hour}},
		"the quickest exchange tells best":            {{5 * time.Second, 20 * ms, 5 * time.Second}, {7 * time.Second, 6 * time.Second, 5 * time.Second}},
		"one that takes for ever tells nothing":       {{time.Hour, 11 * time.Second, 0}},
		"a clock that is set is followed":             {{time.Hour, 20 * ms, time.Hour}, {0, 900 * ms, 0}},
		"near the bound it does not go to and fro":    {{1100 * ms, 2 * ms, 1100 * ms}, {900 * ms, ms, 1100 * ms}, {300 * ms, ms, 0}, {900 * ms, ms, 0}},
		"more exchanges than are remembered are fine": {{0, ms, 0}, {0, ms, 0}, {0, ms, 0}, {0, ms, 0}, {0, ms, 0}, {0, ms, 0}, {0, ms, 0}, {0, ms, 0}, {0, ms, 0}, {0, ms, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			var c serverClock
			if _, known := c.offset(); known {
				t.Error("known before the server answered")
			}
			for i, s := range steps {
				c.exchanged(t0.Add(s.off), s.trip, t0.Add(s.trip/2))
				if got, _ := c.settle(); got != s.want || c.correction() != s.want {
					t.Errorf("after exchange %d: %v, want %v", i, got, s.want)
				}
			}
			if len(c.exchanges) > clockExchanges {
				t.Errorf("%d exchanges are remembered", len(c.exchanges))
			}
		})
	}
	var c serverClock
	c.exchanged(t0, time.Second, time.Time{})
	if _, known := c.offset(); known {
		t.Error("a server without a time is believed")
	}
}
