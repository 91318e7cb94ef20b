package logs

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

func TestMain(m *testing.M) {
	flag.Parse() // before Prepare does it without the arguments
	// As logstest.Leaks, which this package's own test cannot import.
	leaks := []goleak.Option{goleak.IgnoreCurrent(), goleak.IgnoreAnyFunction("github.com/VictoriaMetrics/metrics.summariesSwapCron")}
	if err := Prepare(256 << 20); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if os.Getenv(writerEnv) != "" {
		os.Exit(writerMain())
	}
	goleak.VerifyTestMain(m, leaks...)
}

func open(t testing.TB, dir string, change ...func(*Options)) *Store {
	t.Helper()
	o := Options{Dir: dir, CommitInterval: 20 * time.Millisecond, MinFreeBytes: 1 << 20}
	for _, c := range change {
		c(&o)
	}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// dayStart is a time early in the current UTC day, so that a batch of some
// minutes lies within one day; noon of yesterday, to be safe at any hour.
func dayStart() time.Time { return time.Now().UTC().Truncate(day).Add(-12 * time.Hour) }

func batch(id string, at time.Time, messages ...string) *wire.LogBatch {
	g := wire.LogGroup{Stream: wire.LogStream{
		Namespace: "shop", Pod: "cart-1", Container: "app", Stream: "stdout",
		WorkloadType: "deployment", Workload: "cart", Node: "n-1",
	}}
	for i, m := range messages {
		g.Lines = append(g.Lines, wire.LogLine{Time: at.Add(time.Duration(i) * time.Millisecond).UnixNano(), Message: m})
	}
	return &wire.LogBatch{Sender: "node/n-1", ID: id, Groups: []wire.LogGroup{g}}
}

func appendOK(t testing.TB, s *Store, cluster string, b *wire.LogBatch) {
	t.Helper()
	if err := s.Append(t.Context(), cluster, b); err != nil {
		t.Fatal(err)
	}
}

func rows(t testing.TB, s *Store, q Query) []Row {
	t.Helper()
	var out []Row
	if err := s.Query(t.Context(), q, func(r Row) error { out = append(out, r.Clone()); return nil }); err != nil {
		t.Fatalf("query %q: %v", q.Text, err)
	}
	return out
}

func messages(rs []Row) []string {
	out := make([]string, len(rs))
	for i, r := range rs {
		out[i] = r.Get("_msg")
	}
	return out
}

func count(t testing.TB, s *Store, cluster string) int {
	t.Helper()
	rs := rows(t, s, Query{Text: "* | stats count() n", Clusters: []string{cluster}})
	n, err := strconv.Atoi(rs[0].Get("n"))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestAppendedLinesAreFoundWithTheirFields(t *testing.T) {
	s := open(t, t.TempDir())
	b := batch("1", dayStart(), "hello")
	b.Groups[0].Lines[0].Fields = wire.FieldsOf(map[string]string{"level": "WARNING", "trace_id": "abc", "pod": "forged", "_time": "x", fieldBatch: "y"})
	appendOK(t, s, "prod", b)
	rs := rows(t, s, Query{Text: `{namespace="shop"} hello`})
	if len(rs) != 1 {
		t.Fatalf("got %d rows, want 1", len(rs))
	}
	for name, want := range map[string]string{
		"_msg": "hello", "level": "warn", "trace_id": "abc", "pod": "cart-1", "cluster": "prod", "node": "n-1",
		"namespace": "shop", "workload_type": "deployment", "workload": "cart", "stream": "stdout", "container": "app",
		"_time": dayStart().Format(time.RFC3339Nano), "field.pod": "forged", "field._time": "x",
		fieldBatch: "", fieldSender: "",
	} {
		if got := rs[0].Get(name); got != want {
			t.Errorf("field %s = %q, want %q", name, got, want)
		}
	}
	if got := rs[0].Get("_stream"); !strings.Contains(got, `cluster="prod"`) || strings.Contains(got, "crowsnest") {
		t.Errorf("_stream = %s", got)
	}
}

func TestSameBatchIsStoredOnce(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	reg := prometheus.NewRegistry()
	s := open(t, dir, func(o *Options) { o.Registerer = reg })
	live := batch("live", now.Add(time.Second), "a", "b") // its lines are later than the first contact
	old := batch("old", dayStart(), "c")
	for range 3 {
		appendOK(t, s, "prod", live)
		appendOK(t, s, "prod", old)
	}
	// Concurrent resends join the pending one.
	var wg sync.WaitGroup
	fresh := batch("fresh", now.Add(2*time.Second), "d")
	for range 8 {
		wg.Go(func() { appendOK(t, s, "prod", fresh) })
	}
	wg.Wait()
	appendOK(t, s, "other", live) // another cluster's batch of the same sender and id
	if got := count(t, s, "prod"); got != 4 {
		t.Errorf("got %d lines, want 4", got)
	}
	if got := count(t, s, "other"); got != 1+1 {
		t.Errorf("other cluster: got %d lines, want 2", got)
	}
	if got := testutil.ToFloat64(s.metrics.duplicates); got != 4+7 {
		t.Errorf("counted %v duplicates, want 11", got)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v %v", problems, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	// A new life knows nothing but what it reads back.
	s = open(t, dir)
	appendOK(t, s, "prod", live)
	appendOK(t, s, "prod", old)
	appendOK(t, s, "prod", fresh)
	if got := count(t, s, "prod"); got != 4 {
		t.Errorf("after a restart: got %d lines, want 4", got)
	}
}

func TestForgottenBatchesAreAskedFor(t *testing.T) {
	s := open(t, t.TempDir())
	now := time.Now()
	const n = recentBatches + 200
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			appendOK(t, s, "prod", batch(strconv.Itoa(i), now.Add(time.Duration(i)*time.Millisecond), "x"))
		})
	}
	wg.Wait()
	for _, i := range []int{0, 1, 150, 199, 250, n - 1} {
		appendOK(t, s, "prod", batch(strconv.Itoa(i), now.Add(time.Duration(i)*time.Millisecond), "x"))
	}
	if got := count(t, s, "prod"); got != n {
		t.Errorf("got %d lines, want %d", got, n)
	}
}

func TestLinesOutsideTheRetentionAreDroppedAndCounted(t *testing.T) {
	s := open(t, t.TempDir())
	appendOK(t, s, "prod", batch("old", time.Now().Add(-91*day), "a", "b"))
	appendOK(t, s, "prod", batch("ahead", time.Now().UTC().Truncate(day).Add(3*day), "c"))
	if got := testutil.ToFloat64(s.metrics.dropped.WithLabelValues(droppedTooOld)); got != 2 {
		t.Errorf("too old: %v, want 2", got)
	}
	if got := testutil.ToFloat64(s.metrics.dropped.WithLabelValues(droppedAhead)); got != 1 {
		t.Errorf("too far ahead: %v, want 1", got)
	}
	if got := count(t, s, "prod"); got != 0 {
		t.Errorf("got %d lines, want 0", got)
	}
}

func TestFieldBounds(t *testing.T) {
	s := open(t, t.TempDir())
	b := batch("1", dayStart(), "x")
	f := map[string]string{strings.Repeat("n", 200): "v", "zz_big": strings.Repeat("v", 2<<20)}
	for i := range 400 {
		f[fmt.Sprintf("f%03d", i)] = "v"
	}
	b.Groups[0].Lines[0].Fields = wire.FieldsOf(f)
	b.Groups[0].Stream.Pod = strings.Repeat("é", 1000)
	appendOK(t, s, "prod", b)
	rs := rows(t, s, Query{Text: `{pod="` + strings.Repeat("é", maxStreamValueBytes/2) + `"}`})
	if len(rs) != 1 {
		t.Fatalf("the row with a long stream value was not found by its stream")
	}
	if n := len(rs[0]); n < maxFields || n > maxFields+15 {
		t.Errorf("row has %d fields", n)
	}
}

func TestClustersAreApart(t *testing.T) {
	s := open(t, t.TempDir())
	appendOK(t, s, "a", batch("1", dayStart(), "secret of a"))
	appendOK(t, s, "b", batch("1", dayStart(), "secret of b"))
	for _, text := range []string{
		`*`, `cluster:=b OR cluster:=a`, `{cluster="b"} or *`, `* | union (cluster:=b)`,
		`_msg:in(* | fields _msg) or *`, `* | join by (_time) (* | rename _msg as other) | fields _msg, other`,
		`* | stream_context before 10 after 10`, `options(ignore_global_time_filter=true) *`,
	} {
		for _, r := range rows(t, s, Query{Text: text, Clusters: []string{"a"}}) {
			if strings.Contains(fmt.Sprint(r), "secret of b") {
				t.Errorf("query %q of cluster a saw %v", text, r)
			}
		}
	}
	if got := rows(t, s, Query{Text: "*"}); len(got) != 2 {
		t.Errorf("all clusters: %d rows, want 2", len(got))
	}
	if got := rows(t, s, Query{Text: "*", Clusters: []string{}}); len(got) != 0 {
		t.Errorf("no cluster: %d rows, want 0", len(got))
	}
	if got := rows(t, s, Query{Text: "*", Clusters: []string{"a", "b", "c"}}); len(got) != 2 {
		t.Errorf("three clusters: %d rows, want 2", len(got))
	}
	if got := rows(t, s, Query{Text: "* | union (*)", Clusters: []string{"a"}, Filters: []string{`namespace:=other`}}); len(got) != 0 {
		t.Errorf("a filter that was added does not hold: %v", got)
	}
}

func TestHiddenFieldsStayHidden(t *testing.T) {
	s := open(t, t.TempDir())
	appendOK(t, s, "a", batch("secret-id", dayStart(), "x"))
	for _, text := range []string{
		`*`, `* | fields ` + fieldBatch + `, _msg`, `* | copy ` + fieldBatch + ` as x`, `* | pack_json`,
		`* | format "<` + fieldBatch + `>"`, `* | stats by (` + fieldBatch + `) count() n`, `* | field_names`,
	} {
		if got := fmt.Sprint(rows(t, s, Query{Text: text})); strings.Contains(got, "secret-id") || (strings.Contains(got, hiddenPrefix) && !strings.Contains(text, hiddenPrefix)) {
			t.Errorf("%s shows %s", text, got)
		}
	}
	names, err := s.FieldNames(t.Context(), Query{Text: "*"})
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

func TestLimitGivesTheNewest(t *testing.T) {
	s := open(t, t.TempDir())
	start := dayStart()
	var all []string
	for i := range 50 { // 50 batches of 40 lines, 10 minutes apart, so that ranges are halved and widened
		var ms []string
		for j := range 40 {
			ms = append(ms, fmt.Sprintf("m%04d", i*40+j))
		}
		all = append(all, ms...)
		appendOK(t, s, "a", batch(strconv.Itoa(i), start.Add(time.Duration(i)*10*time.Minute), ms...))
	}
	slices.Reverse(all)
	for _, tc := range []struct{ limit, offset int }{{1, 0}, {10, 0}, {100, 0}, {2000, 0}, {5000, 0}, {10, 35}, {100, 1950}, {10, 3000}} {
		got := messages(rows(t, s, Query{Text: "*", Limit: tc.limit, Offset: tc.offset}))
		want := all[min(tc.offset, len(all)):min(tc.offset+tc.limit, len(all))]
		if !slices.Equal(got, want) {
			t.Errorf("limit %d offset %d: got %d rows %v…, want %d", tc.limit, tc.offset, len(got), got[:min(3, len(got))], len(want))
		}
	}
	// A range: start inclusive, end exclusive.
	got := messages(rows(t, s, Query{Text: "*", Start: start, End: start.Add(time.Millisecond), Limit: 10}))
	if !slices.Equal(got, []string{"m0000"}) {
		t.Errorf("range of 1 ms: %v", got)
	}
	if got := rows(t, s, Query{Text: "* | stats count() n", Limit: 10}); got[0].Get("n") != "2000" {
		t.Errorf("limit after stats: %v", got)
	}
}

func TestWrongQueriesAreInvalid(t *testing.T) {
	s := open(t, t.TempDir())
	never := func(Row) error { t.Error("a row"); return nil }
	for _, q := range []Query{
		{Text: ""}, {Text: `a | stats nonsense(`}, {Text: `"unclosed`}, {Text: "*", Limit: -1}, {Text: "*", Limit: 1, Offset: -1},
		{Text: "*", Start: time.Unix(10, 0), End: time.Unix(5, 0)}, {Text: "*", Filters: []string{"a | stats count()"}},
	} {
		if err := s.Query(t.Context(), q, never); !errors.Is(err, fault.ErrInvalid) {
			t.Errorf("%+v: got %v, want invalid", q, err)
		}
	}
	if _, err := s.Stats(t.Context(), Query{Text: "*"}, 0); !errors.Is(err, fault.ErrInvalid) {
		t.Errorf("stats without a stats pipe: %v", err)
	}
	if _, err := s.Hits(t.Context(), Query{Text: "*", Start: time.Unix(0, 0), End: time.Now()}, time.Second, 0, nil, 0); !errors.Is(err, fault.ErrInvalid) {
		t.Errorf("too many steps: %v", err)
	}
	if err := s.Tail(t.Context(), Query{Text: "* | sort by (_time)"}, 0, nil); !errors.Is(err, fault.ErrInvalid) {
		t.Errorf("tail of a sort: %v", err)
	}
	if err := s.Append(t.Context(), "a", &wire.LogBatch{}); !errors.Is(err, fault.ErrInvalid) {
		t.Errorf("empty batch: %v", err)
	}
}

func TestACancelledQueryIsNoAnswer(t *testing.T) {
	s := open(t, t.TempDir())
	for i := range 20 {
		appendOK(t, s, "a", batch(strconv.Itoa(i), dayStart().Add(time.Duration(i)*time.Minute), slices.Repeat([]string{"x"}, 500)...))
	}
	for name, q := range map[string]Query{"rows": {Text: "*"}, "stats": {Text: "* | stats count() n"}, "newest": {Text: "*", Limit: 100}} {
		ctx, cancel := context.WithCancel(t.Context())
		err := s.Query(ctx, q, func(Row) error { cancel(); return nil })
		cancel()
		if name == "rows" && !errors.Is(err, context.Canceled) {
			t.Errorf("%s, cancelled at the first row: %v", name, err)
		}
		if err := s.Query(ctx, q, func(Row) error { return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("%s, cancelled before: %v", name, err)
		}
	}
	own := errors.New("enough")
	if err := s.Query(t.Context(), Query{Text: "*"}, func(Row) error { return own }); !errors.Is(err, own) {
		t.Errorf("error of the callback: %v", err)
	}
}

func TestHitsAndStats(t *testing.T) {
	s := open(t, t.TempDir())
	start := dayStart()
	for i, level := range []string{"info", "info", "error"} {
		b := batch(strconv.Itoa(i), start.Add(time.Duration(i)*time.Minute), "a", "b")
		for j := range b.Groups[0].Lines {
			b.Groups[0].Lines[j].Fields = wire.FieldsOf(map[string]string{"level": level})
		}
		appendOK(t, s, "a", b)
	}
	q := Query{Text: "*", Start: start, End: start.Add(4 * time.Minute)}
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
	hits, err = s.Hits(t.Context(), Query{Text: "*"}, time.Hour, 0, nil, 0)
	if err != nil || len(hits) != 1 || hits[0].Total != 6 || len(hits[0].Values) != 1 {
		t.Errorf("hits without a range: %+v, %v", hits, err)
	}
	st, err := s.Stats(t.Context(), Query{Text: "* | stats by (level) count() n"}, 0)
	if err != nil || len(st) != 2 || st[0].Points[0].Value != "2" || st[0].Labels[0].Value != "error" || st[0].Name != "n" {
		t.Errorf("stats: %+v, %v", st, err)
	}
	q.Text = "* | stats count() n"
	st, err = s.Stats(t.Context(), q, time.Minute)
	if err != nil || len(st) != 1 || len(st[0].Points) != 3 || !st[0].Points[2].At.Equal(start.Add(2*time.Minute)) {
		t.Errorf("stats by step: %+v, %v", st, err)
	}
	vs, err := s.FieldValues(t.Context(), Query{Text: "*"}, "level", 10)
	if err != nil || fmt.Sprint(vs) != "[{info 4} {error 2}]" {
		t.Errorf("values: %v, %v", vs, err)
	}
	streams, err := s.Streams(t.Context(), Query{Text: "*"}, 10)
	if err != nil || len(streams) != 1 || streams[0].Hits != 6 {
		t.Errorf("streams: %v, %v", streams, err)
	}
}

func TestTailGivesEachLineOnceAndSoon(t *testing.T) {
	s := open(t, t.TempDir())
	now := time.Now()
	appendOK(t, s, "a", batch("before", now, "before"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got []string
	fresh := make(chan string, 100)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Tail(ctx, Query{Text: "* !noise", Clusters: []string{"a"}}, time.Minute, func(rs []Row) error {
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
		case <-time.After(10 * time.Second):
			t.Fatalf("%q did not come", want)
		}
	}
	next("before")
	began := time.Now()
	appendOK(t, s, "a", batch("1", now.Add(time.Second), "one", "noise", "two"))
	next("one")
	next("two")
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("a line showed after %s", took)
	}
	appendOK(t, s, "b", batch("1", now, "of another cluster"))
	appendOK(t, s, "a", batch("history", now.Add(-time.Hour), "history"))
	appendOK(t, s, "a", batch("late", now.Add(-2*time.Second), "late")) // older than what was shown
	next("late")
	appendOK(t, s, "a", batch("late", now.Add(-2*time.Second), "late")) // a resend
	appendOK(t, s, "a", batch("end", now.Add(3*time.Second), "end"))
	next("end")
	cancel()
	wg.Wait()
}

func TestAWrongFolderIsSaidPlainly(t *testing.T) {
	write := func(t *testing.T, path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	filled := func(t *testing.T, dir string) string {
		s := open(t, dir)
		appendOK(t, s, "a", batch("1", dayStart(), "x"))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, partitionsDir, dayStart().Format(partitionName))
	}
	for name, tc := range map[string]struct {
		prepare func(t *testing.T, dir string)
		want    string
	}{
		"a file in its place": {func(t *testing.T, dir string) { write(t, dir, "x") }, "not a directory"},
		"a foreign file":      {func(t *testing.T, dir string) { write(t, filepath.Join(dir, partitionsDir, "lost"), "x") }, "does not belong there"},
		"no index": {func(t *testing.T, dir string) {
			if err := os.RemoveAll(filepath.Join(filled(t, dir), indexdbDir)); err != nil {
				t.Fatal(err)
			}
		}, "damaged"},
		"a broken list": {func(t *testing.T, dir string) { write(t, filepath.Join(filled(t, dir), datadbDir, partsFile), "[") }, "damaged"},
		"a missing part": {func(t *testing.T, dir string) {
			write(t, filepath.Join(filled(t, dir), datadbDir, partsFile), `["00"]`)
		}, "damaged"},
		"a newer format": {func(t *testing.T, dir string) {
			parts := filepath.Join(filled(t, dir), datadbDir)
			names, err := readParts(parts)
			if err != nil || len(names) == 0 {
				t.Fatal(names, err)
			}
			write(t, filepath.Join(parts, names[0], metadataFile), `{"FormatVersion":99}`)
		}, "newer version"},
		"another process": {func(t *testing.T, dir string) { open(t, dir) }, "another process"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "logs")
			tc.prepare(t, dir)
			s, err := Open(Options{Dir: dir})
			if err == nil {
				_ = s.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
}

func TestAFullDiskRefusesWrites(t *testing.T) {
	s := open(t, t.TempDir(), func(o *Options) { o.MinFreeBytes = 1 << 60 })
	err := s.Append(t.Context(), "a", batch("1", dayStart(), "x"))
	if !errors.Is(err, fault.ErrUnavailable) || !strings.Contains(err.Error(), "free") {
		t.Errorf("got %v", err)
	}
	if info, err := s.Info(); err != nil || info.ReadOnly == "" {
		t.Errorf("info: %+v, %v", info, err)
	}
}

func TestAClosedStoreSaysSo(t *testing.T) {
	s := open(t, t.TempDir())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(t.Context(), "a", batch("1", dayStart(), "x")); !errors.Is(err, fault.ErrUnavailable) {
		t.Errorf("append: %v", err)
	}
	if err := s.Query(t.Context(), Query{Text: "*"}, nil); !errors.Is(err, fault.ErrUnavailable) {
		t.Errorf("query: %v", err)
	}
}

func TestDeleteCluster(t *testing.T) {
	s := open(t, t.TempDir())
	appendOK(t, s, "a", batch("1", dayStart(), "x"))
	appendOK(t, s, "b", batch("1", dayStart(), "x"))
	if err := s.DeleteCluster(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for count(t, s, "a") != 0 {
		if time.Now().After(deadline) {
			t.Fatal("the lines are still there")
		}
		time.Sleep(50 * time.Millisecond) // the library works on it in the background and tells nobody
	}
	if got := count(t, s, "b"); got != 1 {
		t.Errorf("the other cluster has %d lines, want 1", got)
	}
}

func TestLevel(t *testing.T) {
	for in, want := range map[string]string{"WARN": "warn", " Warning ": "warn", "E": "error", "50": "error", "CRITICAL": "fatal", "notice": "info", "Custom": "custom", "": ""} {
		if got := Level(in); got != want {
			t.Errorf("Level(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestTooMuchWaiting(t *testing.T) {
	s := open(t, t.TempDir())
	s.waiting.Store(maxWaitingBytes)
	if err := s.Append(t.Context(), "a", batch("1", dayStart(), "x")); !errors.Is(err, fault.ErrLimited) {
		t.Errorf("got %v", err)
	}
	s.waiting.Store(0)
	appendOK(t, s, "a", batch("1", dayStart(), "x"))
	if n := s.waiting.Load(); n != 0 {
		t.Errorf("%d bytes still wait", n)
	}
}

// FuzzQueryText holds that no text takes the process down or leaves the cluster.
func FuzzQueryText(f *testing.F) {
	s := open(f, f.TempDir())
	for _, cluster := range []string{"a", "b"} {
		b := batch("1", dayStart(), "hello of "+cluster, `{"x":1}`)
		b.Groups[0].Lines[0].Fields = wire.FieldsOf(map[string]string{"level": "info"})
		if err := s.Append(context.Background(), cluster, b); err != nil {
			f.Fatal(err)
		}
	}
	for _, text := range []string{
		"*", `{namespace="shop"} hello | stats by (level) count() n`, `_time:5m error or (warn !debug) | sort by (_time) desc | limit 3`,
		`* | extract "<a> of <b>" | uniq by (a)`, `* | unpack_json | math x * 2 as y | fields y`, `* | top 5 by (_msg)`, `in(* | fields _msg)`,
		`* | facets`, `* | union (level:info)`, `* | format "<_msg>" as z`, `_msg:~"h.*"`, `options(concurrency=2) *`, `* | stats histogram(_time) h`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		q := Query{Text: text, Clusters: []string{"a"}, Start: dayStart().Add(-time.Hour), End: dayStart().Add(time.Hour)}
		see := func(r Row) error {
			if strings.Contains(fmt.Sprint(r), "hello of b") && !strings.Contains(text, "b") {
				t.Errorf("%q of cluster a saw %v", text, r)
			}
			return nil
		}
		check := func(what string, err error) {
			if err != nil && !errors.Is(err, fault.ErrInvalid) && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s of %q: %v", what, text, err)
			}
		}
		check("query", s.Query(ctx, q, see))
		_, err := s.Hits(ctx, q, time.Minute, 0, []string{"level"}, 2)
		check("hits", err)
		_, err = s.Stats(ctx, q, time.Minute)
		check("stats", err)
		_, err = s.FieldNames(ctx, q)
		check("names", err)
		q.Limit = 2
		check("limit", s.Query(ctx, q, see))
	})
}
