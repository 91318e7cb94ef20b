package logs

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
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

// A stream whose lines have ever new names of fields (an id as a key) keeps all its lines,
// over restarts and merges, and takes no memory by their number.
func TestEverNewFieldNames(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	const batches, lines, each, life = 30, 170, 10, 10
	name := func(batch, line, field int) string { return fmt.Sprintf("user_%06d", (batch*lines+line)*each+field) }
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	var before int64
	for n := range batches {
		if n == 1 {
			before = heap() // caches and rooms have their size
		}
		if n > 0 && n%life == 0 { // one that knows nothing of the names before
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, dir)
		}
		b := batch(fmt.Sprint(n), dayStart().Add(time.Duration(n)*time.Minute))
		for i := range lines {
			l := wire.LogLine{Time: dayStart().Add(time.Duration(n)*time.Minute + time.Duration(i)*time.Millisecond).UnixNano(), Message: "m", Fields: wire.LogFields{{Name: "level", Value: "info"}}}
			for k := range each {
				l.Fields = append(l.Fields, wire.LogField{Name: name(n, i, k), Value: "seen"})
			}
			b.Groups[0].Lines = append(b.Groups[0].Lines, l)
		}
		appendOK(t, s, "a", b)
	}
	grown := heap() - before
	t.Logf("%d names: %d KiB of heap more", batches*lines*each, grown>>10)
	if grown > 16<<20 {
		t.Errorf("%d names took %d MiB of memory", batches*lines*each, grown>>20)
	}
	if got := testutil.ToFloat64(s.metrics.cut.WithLabelValues(cutNames)); got < life*lines-maxStreamNames/each || got >= life*lines {
		t.Errorf("counted %v lines whose fields were put together", got)
	}
	s.lib.MustForceMerge("")
	if got := count(t, s, "a"); got != batches*lines {
		t.Errorf("%d lines are left of %d", got, batches*lines)
	}
	if got := rows(t, s, Query{Text: name(0, 0, 0) + ":=seen level:=info", Clusters: []string{"a"}}); len(got) != 1 {
		t.Errorf("a name that has room finds %d rows", len(got))
	}
	last := name(batches-1, lines-1, each-1)
	if got := rows(t, s, Query{Text: fieldMore + ":" + last + " level:=info", Clusters: []string{"a"}}); len(got) != 1 || !strings.Contains(got[0].Get(fieldMore), `"`+last+`":"seen"`) {
		t.Errorf("one that has none finds %d rows", len(got))
	}
}
