package logs

import (
	"fmt"
	"testing"
	"time"
)

func TestTimeRangeOfAQuery(t *testing.T) {
	s := open(t, t.TempDir())
	at := dayStart()
	for text, want := range map[string]string{
		"*":                             fmt.Sprint(time.Time{}, at, false),
		"_time:1h":                      fmt.Sprint(at.Add(-time.Hour), at.Add(-1), true),
		"_time:[2026-01-01,2026-01-02)": "2026-01-01 00:00:00 +0000 UTC 2026-01-01 23:59:59.999999999 +0000 UTC true",
	} {
		start, end, own, err := s.TimeRange(Query{Text: text, End: at})
		if got := fmt.Sprint(start, end, own); err != nil || got != want {
			t.Errorf("%s: got %s %v, want %s", text, got, err, want)
		}
	}
}
