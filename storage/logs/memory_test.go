package logs

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// A query that would have to hold more than its share of memory is refused as a whole,
// with what it asks for in words; the store goes on, and what holds little is answered.
func TestAQueryIsBoundedInMemory(t *testing.T) {
	s := open(t, t.TempDir())
	const batches, each, size = 8, 5_000, 3_000 // more than 0.4 of the memory that TestMain allows
	for i := range batches {
		texts := make([]string, each)
		for k := range texts {
			texts[k] = fmt.Sprintf("%09d %s", k*batches+i, strings.Repeat("x", size))
		}
		appendOK(t, s, "a", batch(fmt.Sprint(i), dayStart().Add(time.Duration(i)*time.Minute), texts...))
	}
	for _, text := range []string{
		"* | sort by (_msg)", "* | sort by (_msg desc) | fields _msg", "* | stats by (_msg) count() n", "* | uniq by (_msg)", "* | top 100 by (_msg)", "* | stats uniq_values(_msg) v",
	} {
		given := 0
		err := s.Query(t.Context(), Query{Text: text, Clusters: []string{"a"}}, func(Row) error { given++; return nil })
		if !errors.Is(err, fault.ErrInvalid) || !strings.Contains(fmt.Sprint(err), "of memory") || given > 0 {
			t.Errorf("%s: %d rows, then %v", text, given, err)
		}
	}
	got := rows(t, s, Query{Text: "* | sort by (_msg) | limit 3", Clusters: []string{"a"}})
	if len(got) != 3 || !strings.HasPrefix(got[0].Get("_msg"), "000000000 ") || !strings.HasPrefix(got[2].Get("_msg"), "000000002 ") {
		t.Errorf("the first three are %d rows", len(got))
	}
	if n := count(t, s, "a"); n != batches*each {
		t.Errorf("%d lines, want %d", n, batches*each)
	}
}
