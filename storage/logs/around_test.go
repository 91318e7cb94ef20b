package logs

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// twoContainers stores lines 0 … n-1, one a second, by turns to stdout and stderr
// of one container, and as many of another pod.
func twoContainers(t *testing.T, s *Store, n int) {
	t.Helper()
	b := &wire.LogBatch{Sender: "node/n-1", ID: "around"}
	for i := range n {
		for _, pod := range []string{"cart-1", "cart-2"} {
			b.Groups = append(b.Groups, wire.LogGroup{
				Stream: wire.LogStream{Namespace: "shop", Pod: pod, Container: "app", Stream: []string{"stdout", "stderr"}[i%2]},
				Lines:  []wire.LogLine{{Time: dayStart().Add(time.Duration(i) * time.Second).UnixNano(), Message: fmt.Sprintf("%s %d", pod, i)}},
			})
		}
	}
	appendOK(t, s, "prod", b)
}

func TestSurroundingsAreTheLinesOfTheStream(t *testing.T) {
	s := open(t, t.TempDir())
	twoContainers(t, s, 400)
	line := rows(t, s, Query{Text: `"cart-1 200"`})[0]
	a := Around{StreamID: line.Get("_stream_id"), Time: dayStart().Add(200 * time.Second), Before: 3, After: 2, Clusters: []string{"prod"}}
	texts := func(a Around) []string {
		t.Helper()
		got, err := s.Surroundings(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		return slices.Concat(messages(got.Before), []string{"|"}, messages(got.Lines), []string{"|"}, messages(got.After))
	}
	check := func(a Around, want ...string) {
		t.Helper()
		if got := texts(a); !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
	check(a, "cart-1 194", "cart-1 196", "cart-1 198", "|", "cart-1 200", "|", "cart-1 202", "cart-1 204")
	both := a
	both.Container = true
	check(both, "cart-1 197", "cart-1 198", "cart-1 199", "|", "cart-1 200", "|", "cart-1 201", "cart-1 202")
	none := a
	none.Before, none.After = 0, 0
	check(none, "|", "cart-1 200", "|")
	all := a
	all.Before, all.After = 1000, 1000
	if got := texts(all); len(got) != 200+2 {
		t.Errorf("got %d lines", len(got)-2)
	}
	other := a
	other.Clusters = []string{"edge"}
	if _, err := s.Surroundings(t.Context(), other); !errors.Is(err, fault.ErrNotFound) {
		t.Errorf("of another cluster: %v", err)
	}
	for _, wrong := range []Around{{Time: a.Time}, {StreamID: a.StreamID}, {StreamID: a.StreamID, Time: a.Time, Before: -1}, {StreamID: `x" or "`, Time: a.Time}, {StreamID: a.StreamID, Time: a.Time, After: 1001}} {
		if _, err := s.Surroundings(t.Context(), wrong); !errors.Is(err, fault.ErrInvalid) {
			t.Errorf("%+v: %v", wrong, err)
		}
	}
}

func TestExportIsCompleteAndByTime(t *testing.T) {
	s := open(t, t.TempDir())
	// Three dense stretches far apart, one of them within a single millisecond.
	stored := map[string]int{}
	for b, at := range []time.Time{dayStart(), dayStart().Add(5 * time.Hour), dayStart().Add(-20 * day)} {
		for part := range 2 {
			batch := &wire.LogBatch{Sender: "node/n-1", ID: fmt.Sprint(b, part)}
			g := wire.LogGroup{Stream: wire.LogStream{Namespace: "shop", Pod: fmt.Sprintf("p-%d", part), Stream: "stdout"}}
			for i := range 9000 {
				step := time.Duration(i) * time.Millisecond
				if b == 1 {
					step = time.Duration(i)
				}
				m := fmt.Sprintf("%d %d %d", b, part, i)
				stored[m]++
				g.Lines = append(g.Lines, wire.LogLine{Time: at.Add(step).UnixNano(), Message: m})
			}
			batch.Groups = []wire.LogGroup{g}
			appendOK(t, s, "prod", batch)
		}
	}
	last := ""
	err := s.Export(t.Context(), Query{Text: `{namespace="shop"} # all of it`}, func(r Row) error {
		stored[r.Get("_msg")]--
		if now := r.Get("_time"); timeOf(t, now).Before(timeOf(t, last)) {
			return fmt.Errorf("%s came after %s", now, last)
		}
		last = r.Get("_time")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for m, n := range stored {
		if n != 0 {
			t.Fatalf("line %q came %d times too few", m, n)
		}
	}
	var names []string
	if err := s.Export(t.Context(), Query{Text: `* | stats by (pod) count() n | sort by (pod)`}, func(r Row) error { names = append(names, r.Get("pod")+r.Get("n")); return nil }); err != nil || !slices.Equal(names, []string{"p-027000", "p-127000"}) {
		t.Errorf("stats: %v %v", names, err)
	}
	stop := errors.New("enough")
	if err := s.Export(t.Context(), Query{Text: "*"}, func(Row) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
	if err := s.Export(t.Context(), Query{Text: "| nonsense"}, func(Row) error { return nil }); !errors.Is(err, fault.ErrInvalid) {
		t.Errorf("got %v", err)
	}
}

func timeOf(t *testing.T, text string) time.Time {
	t.Helper()
	if text == "" {
		return time.Time{}
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestFacetsHideWhatIsOurs(t *testing.T) {
	s := open(t, t.TempDir())
	twoContainers(t, s, 4)
	appendOK(t, s, "edge", batch("1", dayStart(), "elsewhere"))
	got, err := s.Facets(t.Context(), Query{Text: "* | fields x", Clusters: []string{"prod"}}, FacetOptions{KeepConst: true})
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprint(got)
	for _, f := range got {
		switch f.Field {
		case "pod":
			if fmt.Sprint(f.Values) != "[{cart-1 4} {cart-2 4}]" {
				t.Errorf("pods: %v", f.Values)
			}
		case "cluster":
			if fmt.Sprint(f.Values) != "[{prod 8}]" {
				t.Errorf("clusters: %v", f.Values)
			}
		case fieldSender, fieldBatch:
			t.Errorf("got %s", text)
		}
	}
	if len(got) < 4 {
		t.Errorf("got %s", text)
	}
	hidden, err := s.Facets(t.Context(), Query{Text: "*", Clusters: []string{"prod"}, Hide: []string{"po*"}}, FacetOptions{KeepConst: true})
	if err != nil || slices.ContainsFunc(hidden, func(f Facet) bool { return f.Field == "pod" && f.Values[0].Value != "" }) {
		t.Errorf("pods are hidden, got %v %v", hidden, err)
	}
	ids, err := s.StreamIDs(t.Context(), Query{Text: "*", Clusters: []string{"edge"}}, 0)
	if err != nil || len(ids) != 1 || !streamID.MatchString(ids[0].Value) {
		t.Errorf("got %v %v", ids, err)
	}
}

func TestTimeRangeOfAQuery(t *testing.T) {
	s := open(t, t.TempDir())
	at := dayStart()
	for text, want := range map[string]string{
		"*":                             fmt.Sprint(time.Time{}, at, false),
		"_time:1h":                      fmt.Sprint(at.Add(-time.Hour-1), at.Add(-1), true),
		"_time:[2026-01-01,2026-01-02)": "2026-01-01 00:00:00 +0000 UTC 2026-01-01 23:59:59.999999999 +0000 UTC true",
	} {
		start, end, own, err := s.TimeRange(Query{Text: text, End: at})
		if got := fmt.Sprint(start, end, own); err != nil || got != want {
			t.Errorf("%s: got %s %v, want %s", text, got, err, want)
		}
	}
}
