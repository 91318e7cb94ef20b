package logs

import (
	"fmt"
	"testing"
	"time"
)

// Options may part a query from the time that it is given: it is answered as the library does,
// not in stretches of time.
func TestOptionsOfTime(t *testing.T) {
	s := open(t, t.TempDir())
	appendOK(t, s, "prod", batch("1", dayStart(), "a", "b", "c"))
	for text, start := range map[string]time.Time{
		"options(ignore_global_time_filter=true) *": dayStart().Add(time.Hour),
		"options(time_offset=1h) *":                 dayStart().Add(time.Hour),
		"options(concurrency=1) *":                  dayStart(),
		"* | math '2026-01-01T00:00:00Z' + 1 as x":  dayStart(), // the library cannot read what it prints of this
	} {
		q := Query{Text: text, Start: start, End: start.Add(10 * time.Minute)}
		exported := 0
		if err := s.Export(t.Context(), q, func(Row) error { exported++; return nil }); err != nil || exported != 3 {
			t.Errorf("%s: %d lines are exported, want 3 (%v)", text, exported, err)
		}
		q.Limit = 100
		if got := rows(t, s, q); len(got) != 3 {
			t.Errorf("%s: %d lines, want 3: %s", text, len(got), fmt.Sprint(got)[:min(300, len(fmt.Sprint(got)))])
		}
	}
}

// Steps stand at the times that are asked for, as the rows of such a query do.
func TestHitsOfRowsOfAnotherTime(t *testing.T) {
	s := open(t, t.TempDir())
	appendOK(t, s, "prod", batch("1", dayStart().Add(time.Minute), "a", "b", "c"))
	for text, by := range map[string]time.Duration{
		"*":                                   0,
		"options(time_offset=1h) *":           time.Hour,
		"options(time_offset=\"-30m\") *":     -30 * time.Minute,
		"options(time_offset=1h) a or b or c": time.Hour,
		"options(concurrency=1, ignore_global_time_filter=false, time_offset=1h, global_filter=(*)) *": time.Hour,
		"options(global_filter=(not x:\"time_offset=5h\")) *":                                          0,
	} {
		asked := dayStart().Add(by)
		got, err := s.Hits(t.Context(), Query{Text: text, Start: asked, End: asked.Add(3 * time.Minute)}, time.Minute, 0, nil, 0)
		if err != nil || len(got) != 1 {
			t.Errorf("%s: %v, %v", text, got, err)
			continue
		}
		want := HitsSeries{Times: []time.Time{asked, asked.Add(time.Minute), asked.Add(2 * time.Minute)}, Values: []uint64{0, 3, 0}, Total: 3}
		if fmt.Sprint(got[0]) != fmt.Sprint(want) {
			t.Errorf("%s:\n got %v\nwant %v", text, got[0], want)
		}
	}
}

func TestQueriesThatAreAskedInParts(t *testing.T) {
	s := open(t, t.TempDir())
	at := dayStart()
	for _, q := range []Query{{}, {Start: at}, {End: at}, {Start: at, End: at.Add(time.Hour)}, {Start: time.Unix(0, 0)}, {End: time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)}} {
		for _, text := range []string{"*", "_time:5m error", "options(global_filter=(level:error)) *", "x | fields a"} {
			q.Text = text
			if p, err := s.parse(q); err != nil || !divides(p) {
				t.Errorf("%s from %s to %s: it is not (%v)", text, q.Start, q.End, err)
			}
		}
	}
}
