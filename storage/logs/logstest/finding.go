package logstest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
	"github.com/crowsnest-dev/crowsnest/storage/logs"
)

func (f fixture) clustersAreApart(t *testing.T) {
	open := f.engine(t)
	s := open()
	appendOK(t, s, "a", Batch("1", dayStart(), "secret of a"))
	appendOK(t, s, "b", Batch("1", dayStart(), "secret of b"))
	for _, text := range []string{
		`*`, `cluster:=b OR cluster:=a`, `{cluster="b"} or *`, `* | union (cluster:=b)`,
		`_msg:in(* | fields _msg) or *`, `* | join by (_time) (* | rename _msg as other) | fields _msg, other`,
		`* | stream_context before 10 after 10`, `options(ignore_global_time_filter=true) *`, `options(global_filter=(cluster:=b)) * or cluster:=b`, `*:secret`, `clu*:b or _msg:*`,
	} {
		for _, r := range rows(t, s, logs.Query{Text: text, Clusters: []string{"a"}}) {
			if strings.Contains(fmt.Sprint(r), "secret of b") {
				t.Errorf("query %q of cluster a saw %v", text, r)
			}
		}
	}
	if got := rows(t, s, logs.Query{Text: "*"}); len(got) != 2 {
		t.Errorf("all clusters: %d rows, want 2", len(got))
	}
	if got := rows(t, s, logs.Query{Text: "*", Clusters: []string{}}); len(got) != 0 {
		t.Errorf("no cluster: %d rows, want 0", len(got))
	}
	if got := rows(t, s, logs.Query{Text: "*", Clusters: []string{"a", "b", "c"}}); len(got) != 2 {
		t.Errorf("three clusters: %d rows, want 2", len(got))
	}
	if got := rows(t, s, logs.Query{Text: "* | union (*)", Clusters: []string{"a"}, Filters: []string{`namespace:=other`}}); len(got) != 0 {
		t.Errorf("a filter that was added does not hold: %v", got)
	}
}

func (f fixture) hiddenFieldsStayHidden(t *testing.T) {
	open := f.engine(t)
	s := open()
	appendOK(t, s, "a", Batch("secret-id", dayStart(), "x"))
	for _, text := range []string{
		`*`, `* | fields ` + fieldBatch + `, _msg`, `* | copy ` + fieldBatch + ` as x`, `* | pack_json`,
		`* | format "<` + fieldBatch + `>"`, `* | stats by (` + fieldBatch + `) count() n`, `* | field_names`,
		`* | facets keep_const_fields`, `* | coalesce(__crow*, _msg) as x`, `* | stats any(` + fieldBatch + `) n`, `* | stats row_any() n`, `* | stats values(*) n`, `* | unroll by (` + fieldBatch + `)`,
	} {
		if got := fmt.Sprint(rows(t, s, logs.Query{Text: text})); strings.Contains(got, "secret-id") || (strings.Contains(got, hiddenPrefix) && !strings.Contains(text, hiddenPrefix)) {
			t.Errorf("%s shows %s", text, got)
		}
	}
	// Nor does a filter tell what is in them.
	for _, filter := range []string{fieldBatch + `:~"secret"`, `__crow*:~"secret"`, `*:~"secret"`} {
		for _, text := range []string{filter, `* | filter ` + filter, `* | stats count() if (` + filter + `) n | filter n:>0`} {
			if got := rows(t, s, logs.Query{Text: text}); len(got) > 0 {
				t.Errorf("%s finds %v", text, got)
			}
		}
	}
	names, err := s.FieldNames(t.Context(), logs.Query{Text: "*"}, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if strings.HasPrefix(n.Value, hiddenPrefix) {
			t.Errorf("field names list %s", n.Value)
		}
	}
	if len(names) < 8 {
		t.Errorf("field names: %v", names)
	}
}

func (f fixture) limitGivesTheNewest(t *testing.T) {
	open := f.engine(t)
	s := open()
	start := dayStart()
	var all []string
	var together sync.WaitGroup
	for i := range 50 { // 50 batches of 40 lines, 10 minutes apart, so that ranges are halved and widened
		var ms []string
		for j := range 40 {
			ms = append(ms, fmt.Sprintf("m%04d", i*40+j))
		}
		all = append(all, ms...)
		together.Go(func() { appendOK(t, s, "a", Batch(strconv.Itoa(i), start.Add(time.Duration(i)*10*time.Minute), ms...)) })
	}
	together.Wait()
	slices.Reverse(all)
	for _, tc := range []struct{ limit, offset int }{{1, 0}, {10, 0}, {100, 0}, {2000, 0}, {5000, 0}, {10, 35}, {100, 1950}, {10, 3000}} {
		got := messages(rows(t, s, logs.Query{Text: "*", Limit: tc.limit, Offset: tc.offset}))
		want := all[min(tc.offset, len(all)):min(tc.offset+tc.limit, len(all))]
		if !slices.Equal(got, want) {
			t.Errorf("limit %d offset %d: got %d rows %v…, want %d", tc.limit, tc.offset, len(got), got[:min(3, len(got))], len(want))
		}
	}
	// A range: start inclusive, end exclusive.
	got := messages(rows(t, s, logs.Query{Text: "*", Start: start, End: start.Add(time.Millisecond), Limit: 10}))
	if !slices.Equal(got, []string{"m0000"}) {
		t.Errorf("range of 1 ms: %v", got)
	}
	if got := rows(t, s, logs.Query{Text: "* | stats count() n", Limit: 10}); got[0].Get("n") != "2000" {
		t.Errorf("limit after stats: %v", got)
	}
}

// limitGivesTheNewestOfManyStreams has rows of many streams each of which has few, with
// times without any between, and ones that many share.
func (f fixture) limitGivesTheNewestOfManyStreams(t *testing.T) {
	s := f.engine(t)()
	start, r := dayStart(), rand.New(rand.NewPCG(1, 2))
	b := &wire.LogBatch{Sender: "s", ID: "1"}
	var all []string
	times := map[string]int64{}
	for pod := range 60 {
		g := wire.LogGroup{Stream: wire.LogStream{Namespace: "shop", Pod: fmt.Sprintf("cart-%d", pod), Container: "app", Stream: "stdout"}}
		for i := range 40 {
			m, at := fmt.Sprintf("row%02d%02d", pod, i), start.Add(time.Duration(r.Int64N(int64(time.Hour))))
			switch {
			case i < 20: // a dense quarter of an hour, and an hour of nothing
				at = start.Add(2*time.Hour + time.Duration(r.Int64N(int64(15*time.Minute))))
			case i < 22:
				at = start.Add(2*time.Hour + 15*time.Minute)
			}
			if i%4 == 3 {
				m = "other " + m
			} else {
				all, times[m] = append(all, m), at.UnixNano()
			}
			g.Lines = append(g.Lines, wire.LogLine{Time: at.UnixNano(), Message: m})
		}
		b.Groups = append(b.Groups, g)
	}
	appendOK(t, s, "a", b)
	slices.SortFunc(all, func(a, b string) int { return cmp.Compare(times[b], times[a]) })
	for _, end := range []time.Duration{2*time.Hour + 15*time.Minute + 1, 3 * time.Hour, 20 * time.Hour} {
		for _, n := range []int{1, 7, 100, 130, 400, 1000, 1790, 5000} {
			for _, text := range []string{"!other", "!other | fields _time, _msg", "row0* or row1* or row2* or row3* or row4* or row5* | filter !other"} {
				got := messages(rows(t, s, logs.Query{Text: text, Start: start, End: start.Add(end), Limit: n}))
				want := all[:min(n, len(all))]
				for i := range max(len(got), len(want)) {
					if i >= len(got) || i >= len(want) || times[got[i]] != times[want[i]] { // which of one time come first is open
						t.Errorf("%q, limit %d within %v: got %d rows, want %d; they differ at %d", text, n, end, len(got), len(want), i)
						break
					}
				}
				if slices.Sort(got); len(slices.Compact(got)) != len(want) {
					t.Errorf("%q, limit %d within %v: rows are there twice", text, n, end)
				}
			}
		}
	}
}

func (f fixture) wrongQueriesAreInvalid(t *testing.T) {
	open := f.engine(t)
	s := open()
	never := func(logs.Row) error { t.Error("a row"); return nil }
	for _, q := range []logs.Query{
		{Text: ""}, {Text: `a | stats nonsense(`}, {Text: `"unclosed`}, {Text: "*", Limit: -1}, {Text: "*", Limit: 1, Offset: -1},
		{Text: "*", Start: time.Unix(10, 0), End: time.Unix(5, 0)}, {Text: "*", Filters: []string{"a | stats count()"}},
	} {
		if err := s.Query(t.Context(), q, never); !errors.Is(err, fault.ErrInvalid) {
			t.Errorf("%+v: got %v, want invalid", q, err)
		}
	}
	if _, err := s.Stats(t.Context(), logs.Query{Text: "*"}, 0, 0); !errors.Is(err, fault.ErrInvalid) {
		t.Errorf("stats without a stats pipe: %v", err)
	}
	if _, err := s.Hits(t.Context(), logs.Query{Text: "*", Start: time.Unix(0, 0), End: time.Now()}, time.Second, 0, nil, 0); !errors.Is(err, fault.ErrInvalid) {
		t.Errorf("too many steps: %v", err)
	}
	if err := s.Tail(t.Context(), logs.Query{Text: "* | sort by (_time)"}, 0, nil); !errors.Is(err, fault.ErrInvalid) {
		t.Errorf("tail of a sort: %v", err)
	}
	if err := s.Append(t.Context(), "a", &wire.LogBatch{}); !errors.Is(err, fault.ErrInvalid) {
		t.Errorf("empty batch: %v", err)
	}
}

func (f fixture) aCancelledQueryIsNoAnswer(t *testing.T) {
	open := f.engine(t)
	s := open()
	var together sync.WaitGroup
	for i := range 20 {
		together.Go(func() {
			appendOK(t, s, "a", Batch(strconv.Itoa(i), dayStart().Add(time.Duration(i)*time.Minute), slices.Repeat([]string{"x"}, 500)...))
		})
	}
	together.Wait()
	for name, q := range map[string]logs.Query{"rows": {Text: "*"}, "stats": {Text: "* | stats count() n"}, "newest": {Text: "*", Limit: 100}} {
		ctx, cancel := context.WithCancel(t.Context())
		err := s.Query(ctx, q, func(logs.Row) error { cancel(); return nil })
		cancel()
		if name == "rows" && !errors.Is(err, context.Canceled) {
			t.Errorf("%s, cancelled at the first row: %v", name, err)
		}
		if err := s.Query(ctx, q, func(logs.Row) error { return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("%s, cancelled before: %v", name, err)
		}
	}
	own := errors.New("enough")
	if err := s.Query(t.Context(), logs.Query{Text: "*"}, func(logs.Row) error { return own }); !errors.Is(err, own) {
		t.Errorf("error of the callback: %v", err)
	}
}

func (f fixture) hitsAndStats(t *testing.T) {
	open := f.engine(t)
	s := open()
	start := dayStart()
	for i, level := range []string{"info", "info", "error"} {
		b := Batch(strconv.Itoa(i), start.Add(time.Duration(i)*time.Minute), "a", "b")
		for j := range b.Groups[0].Lines {
			b.Groups[0].Lines[j].Fields = wire.FieldsOf(map[string]string{"level": level})
		}
		appendOK(t, s, "a", b)
	}
	q := logs.Query{Text: "*", Start: start, End: start.Add(4 * time.Minute)}
	hits, err := s.Hits(t.Context(), q, time.Minute, 0, []string{"level"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(hits[0].Fields, hits[0].Values, hits[0].Total, hits[1].Fields, hits[1].Values), "[{level info}] [2 2 0 0] 4 [{level error}] [0 0 2 0]"; got != want {
		t.Errorf("hits by level: got %s, want %s", got, want)
	}
	hits, err = s.Hits(t.Context(), q, time.Minute, 0, []string{"level"}, 1)
	if err != nil || len(hits) != 2 || hits[1].Fields != nil || fmt.Sprint(hits[1].Values) != "[0 0 2 0]" {
		t.Errorf("hits of the first and the others: %+v, %v", hits, err)
	}
	hits, err = s.Hits(t.Context(), logs.Query{Text: "*"}, time.Hour, 0, nil, 0)
	if err != nil || len(hits) != 1 || hits[0].Total != 6 || len(hits[0].Values) != 1 {
		t.Errorf("hits without a range: %+v, %v", hits, err)
	}
	// Days of a zone that is 20 s ahead begin 20 s before those of UTC, and so do its minutes.
	hits, err = s.Hits(t.Context(), q, time.Minute, 20*time.Second, nil, 0)
	if err != nil || len(hits) != 1 || !hits[0].Times[0].Equal(start.Add(-20*time.Second)) || fmt.Sprint(hits[0].Values) != "[2 2 2 0 0]" {
		t.Errorf("hits with an offset: %+v, %v", hits, err)
	}
	for text, want := range map[string]int{"_time:1m": 2, "_time:2m": 4} { // the end of a range is not within it, its start is
		for name, q := range map[string]logs.Query{"at": {Text: text, At: start.Add(2 * time.Minute)}, "end": {Text: text, End: start.Add(2 * time.Minute)}} {
			if got := rows(t, s, q); len(got) != want {
				t.Errorf("%s, %s a line's time: %v, want %d", text, name, got, want)
			}
		}
	}
	st, err := s.Stats(t.Context(), logs.Query{Text: "* | stats by (level) count() n"}, 0, 0)
	if err != nil || len(st) != 2 || st[0].Points[0].Value != "2" || st[0].Labels[0].Value != "error" || st[0].Name != "n" {
		t.Errorf("stats: %+v, %v", st, err)
	}
	q.Text = "* | stats count() n"
	st, err = s.Stats(t.Context(), q, time.Minute, 0)
	if err != nil || len(st) != 1 || len(st[0].Points) != 3 || !st[0].Points[2].At.Equal(start.Add(2*time.Minute)) {
		t.Errorf("stats by step: %+v, %v", st, err)
	}
	st, err = s.Stats(t.Context(), q, time.Minute, 20*time.Second)
	if err != nil || len(st) != 1 || len(st[0].Points) != 3 || !st[0].Points[0].At.Equal(start.Add(-20*time.Second)) {
		t.Errorf("stats by step with an offset: %+v, %v", st, err)
	}
	// Steps are counted whole, wherever in them the range begins and ends; what the text says of
	// time is of the end that was asked for.
	within := logs.Query{Text: "*", Start: start.Add(30 * time.Second), End: start.Add(2*time.Minute + 1)}
	hits, err = s.Hits(t.Context(), within, time.Minute, 0, nil, 0)
	if err != nil || len(hits) != 1 || !hits[0].Times[0].Equal(start) || fmt.Sprint(hits[0].Values) != "[2 2 2]" {
		t.Errorf("hits from within a step to within one: %+v, %v", hits, err)
	}
	within.Text = "_time:1m"
	hits, err = s.Hits(t.Context(), within, time.Minute, 0, nil, 0)
	if err != nil || len(hits) != 1 || fmt.Sprint(hits[0].Values) != "[0 1 1]" {
		t.Errorf("hits of a minute: %+v, %v", hits, err)
	}
	within.Text = "* | stats count() n"
	st, err = s.Stats(t.Context(), within, time.Minute, 0)
	if err != nil || len(st) != 1 || len(st[0].Points) != 3 || st[0].Points[0].Value != "2" || st[0].Points[2].Value != "2" {
		t.Errorf("stats from within a step to within one: %+v, %v", st, err)
	}
	vs, err := s.FieldValues(t.Context(), logs.Query{Text: "*"}, "level", "", 10)
	if err != nil || fmt.Sprint(vs) != "[{info 4} {error 2}]" {
		t.Errorf("values: %v, %v", vs, err)
	}
	vs, err = s.FieldValues(t.Context(), logs.Query{Text: "* | delete level", NoPipes: true}, "level", "rr", 10)
	if err != nil || fmt.Sprint(vs) != "[{error 2}]" {
		t.Errorf("values with a part, without the pipes: %v, %v", vs, err)
	}
	streams, err := s.Streams(t.Context(), logs.Query{Text: "*"}, 10)
	if err != nil || len(streams) != 1 || streams[0].Hits != 6 {
		t.Errorf("streams: %v, %v", streams, err)
	}
	// As VictoriaLogs has it, no step is left out, whichever ends the range has.
	appendOK(t, s, "a", Batch("later", start.Add(4*time.Minute), "a"))
	later := start.Add(4*time.Minute + 1)
	for name, tc := range map[string]struct {
		q    logs.Query
		step time.Duration
		want string
	}{
		"no end":             {logs.Query{Text: "*"}, time.Minute, "[2 2 2 0 1]"},
		"a start":            {logs.Query{Text: "*", Start: start.Add(-2 * time.Minute)}, time.Minute, "[0 0 2 2 2 0 1]"},
		"an end":             {logs.Query{Text: "*", End: start.Add(6 * time.Minute)}, time.Minute, "[2 2 2 0 1 0]"},
		"too many to fill":   {logs.Query{Text: "*", End: later}, time.Millisecond, "[1 1 1 1 1 1 1]"},
		"a start of nowhere": {logs.Query{Text: "*", Start: time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC)}, time.Minute, "[2 2 2 1]"},
	} {
		hits, err := s.Hits(t.Context(), tc.q, tc.step, 0, nil, 0)
		if err != nil || len(hits) != 1 || fmt.Sprint(hits[0].Values) != tc.want {
			t.Errorf("hits with %s: %+v, %v, want %s", name, hits, err, tc.want)
		}
	}
	if _, err := s.Hits(t.Context(), logs.Query{Text: "*", Start: time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC), End: later}, time.Minute, 0, nil, 0); !errors.Is(err, fault.ErrInvalid) {
		t.Errorf("hits of all time: %v", err)
	}
	// The last step before the end of all time has none after it.
	hits, err = s.Hits(t.Context(), logs.Query{Text: "*", Start: start, End: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}, 30*day, 0, nil, 0)
	if err != nil || len(hits) != 1 || hits[0].Total != 7 || len(hits[0].Values) > 3000 {
		t.Errorf("hits up to the end of time: %+v, %v", hits, err)
	}
	// A query with a time of its own may have none of the range that it is asked for.
	apart := logs.Query{Text: "_time:5m", At: start, Start: start.Add(-48 * time.Hour), End: start.Add(-47 * time.Hour)}
	if hits, err := s.Hits(t.Context(), apart, time.Minute, 0, nil, 0); err != nil || len(hits) != 0 {
		t.Errorf("hits of an empty range: %+v, %v", hits, err)
	}
	apart.Text = "_time:5m | stats count() n"
	if stats, err := s.Stats(t.Context(), apart, time.Minute, 0); err != nil || len(stats) != 0 {
		t.Errorf("stats of an empty range: %+v, %v", stats, err)
	}
}

func (f fixture) tailGivesEachLineOnceAndSoon(t *testing.T) {
	open := f.engine(t)
	s := open()
	now := time.Now()
	appendOK(t, s, "a", Batch("before", now, "before"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got []string
	fresh := make(chan string, 100)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Tail(ctx, logs.Query{Text: "* !noise", Clusters: []string{"a"}}, time.Minute, func(rs []logs.Row) error {
			for _, r := range rs {
				if strings.Contains(fmt.Sprint(r), hiddenPrefix) {
					t.Errorf("tail shows %v", r)
				}
				fresh <- r.Get("_msg")
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	})
	next := func(want string) {
		t.Helper()
		select {
		case m := <-fresh:
			got = append(got, m)
			if m != want {
				t.Errorf("got %q, want %q (so far %v)", m, want, got)
			}
		case <-time.After(60 * time.Second):
			t.Fatalf("%q did not come", want)
		}
	}
	next("before")
	began := time.Now()
	appendOK(t, s, "a", Batch("1", now.Add(time.Second), "one", "noise", "two"))
	next("one")
	next("two")
	if took := time.Since(began); took > f.soon {
		t.Errorf("a line showed after %s", took)
	}
	appendOK(t, s, "b", Batch("1", now, "of another cluster"))
	appendOK(t, s, "a", Batch("history", now.Add(-time.Hour), "history"))
	appendOK(t, s, "a", Batch("late", now.Add(-2*time.Second), "late")) // older than what was shown
	next("late")
	appendOK(t, s, "a", Batch("late", now.Add(-2*time.Second), "late")) // a resend
	appendOK(t, s, "a", Batch("end", now.Add(3*time.Second), "end"))
	next("end")
	cancel()
	wg.Wait()
}

// twoContainers stores lines 0 … n-1, one a second, by turns to stdout and stderr
// of one container, and as many of another pod.
func twoContainers(t *testing.T, s *logs.Store, n int) {
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

func (f fixture) surroundingsAreTheLinesOfTheStream(t *testing.T) {
	open := f.engine(t)
	s := open()
	twoContainers(t, s, 400)
	line := rows(t, s, logs.Query{Text: `"cart-1 200"`})[0]
	a := logs.Around{StreamID: line.Get("_stream_id"), Time: dayStart().Add(200 * time.Second), Before: 3, After: 2, Clusters: []string{"prod"}}
	texts := func(a logs.Around) []string {
		t.Helper()
		got, err := s.Surroundings(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		return slices.Concat(messages(got.Before), []string{"|"}, messages(got.Lines), []string{"|"}, messages(got.After))
	}
	check := func(a logs.Around, want ...string) {
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
	for _, wrong := range []logs.Around{{Time: a.Time}, {StreamID: a.StreamID}, {StreamID: a.StreamID, Time: a.Time, Before: -1}, {StreamID: `x" or "`, Time: a.Time}, {StreamID: a.StreamID, Time: a.Time, After: 1001}} {
		if _, err := s.Surroundings(t.Context(), wrong); !errors.Is(err, fault.ErrInvalid) {
			t.Errorf("%+v: %v", wrong, err)
		}
	}
}

func (f fixture) exportIsCompleteAndByTime(t *testing.T) {
	open := f.engine(t)
	s := open()
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
	err := s.Export(t.Context(), logs.Query{Text: `{namespace="shop"}; # all of it`}, func(r logs.Row) error {
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
	if err := s.Export(t.Context(), logs.Query{Text: `* | stats by (pod) count() n | sort by (pod)`}, func(r logs.Row) error { names = append(names, r.Get("pod")+r.Get("n")); return nil }); err != nil || !slices.Equal(names, []string{"p-027000", "p-127000"}) {
		t.Errorf("stats: %v %v", names, err)
	}
	stop := errors.New("enough")
	if err := s.Export(t.Context(), logs.Query{Text: "*"}, func(logs.Row) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
	if err := s.Export(t.Context(), logs.Query{Text: "| nonsense"}, func(logs.Row) error { return nil }); !errors.Is(err, fault.ErrInvalid) {
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

func (f fixture) facetsHideWhatIsOurs(t *testing.T) {
	open := f.engine(t)
	s := open()
	twoContainers(t, s, 4)
	appendOK(t, s, "edge", Batch("1", dayStart(), "elsewhere"))
	got, err := s.Facets(t.Context(), logs.Query{Text: "* | fields x", Clusters: []string{"prod"}}, logs.FacetOptions{KeepConst: true})
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
	hidden, err := s.Facets(t.Context(), logs.Query{Text: "*", Clusters: []string{"prod"}, Hide: []string{"po*"}}, logs.FacetOptions{KeepConst: true})
	if err != nil || slices.ContainsFunc(hidden, func(f logs.Facet) bool { return f.Field == "pod" && f.Values[0].Value != "" }) {
		t.Errorf("pods are hidden, got %v %v", hidden, err)
	}
	ids, err := s.StreamIDs(t.Context(), logs.Query{Text: "*", Clusters: []string{"edge"}}, 0)
	if err != nil || len(ids) != 1 || len(ids[0].Value) != 48 {
		t.Errorf("got %v %v", ids, err)
	}
}
