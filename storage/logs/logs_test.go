package logs

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"
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
// minutes lies within one day; noon of yesterday, to be safe at any hour. It is the
// same throughout, though midnight may pass.
func dayStart() time.Time { return started.Truncate(day).Add(-12 * time.Hour) }

var started = time.Now().UTC()

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

func count(t testing.TB, s *Store, cluster string) int {
	t.Helper()
	rs := rows(t, s, Query{Text: "* | stats count() n", Clusters: []string{cluster}})
	n, err := strconv.Atoi(rs[0].Get("n"))
	if err != nil {
		t.Fatal(err)
	}
	return n
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

// The pipes that the docs name for a line's own time.
func TestOwnTimeByLogsQL(t *testing.T) {
	s := open(t, t.TempDir())
	at := dayStart().Add(123_999_000) // a float of nanoseconds is exact to a quarter of a microsecond
	b := batch("1", at, "late", "ahead", "none")
	b.Groups[0].Lines[0].Fields = wire.LogFields{{Name: wire.LagField, Value: "1500"}}
	b.Groups[0].Lines[1].Fields = wire.LogFields{{Name: wire.LagField, Value: "-1"}}
	appendOK(t, s, "c", b)
	got := map[string]string{}
	for _, r := range rows(t, s, Query{Text: `lag_ms:* | math (floor(_time / 1e6) - lag_ms) * 1e6 as own | format "<time:own>" as own`}) {
		got[r.Get("_msg")] = r.Get("own")
		at, _ := time.Parse(time.RFC3339Nano, r.Get("_time"))
		own, ok := wire.OwnTime(at, r.Get(wire.LagField))
		if said, err := time.Parse(time.RFC3339Nano, r.Get("own")); !ok || err != nil || !said.Equal(own) {
			t.Errorf("%s: own time %q, want %s", r.Get("_msg"), r.Get("own"), own)
		}
	}
	if len(got) != 2 {
		t.Errorf("lines with an own time: %v", got)
	}
	if late := rows(t, s, Query{Text: `lag_ms:>1000`}); len(late) != 1 || late[0].Get("_msg") != "late" {
		t.Errorf("late lines: %v", late)
	}
}

// Names that a query's pipes make of lines are bounded while they are looked for.
func TestColumns(t *testing.T) {
	s := open(t, t.TempDir())
	lines := make([]string, 100)
	for i := range lines {
		lines[i] = fmt.Sprintf(`{"name_of_line_%02d":1,"empty":""}`, i)
	}
	appendOK(t, s, "c", batch("1", dayStart(), lines...))
	for text, want := range map[string]int{"*": 12, "* | unpack_json | delete _stream, _stream_id": 110, "* | unpack_json | fields a, empty, b": 3} {
		got, err := s.Columns(t.Context(), Query{Text: text}, 1<<20)
		if err != nil || len(got) != want {
			t.Errorf("%s: %d columns %q, want %d (%v)", text, len(got), got, want, err)
		}
	}
	for _, q := range []Query{{Text: "* | unpack_json"}, {Text: "* | unpack_json", Limit: 90}, {Text: "*"}} {
		bound := int64(50 * (columnBytes + 15))
		if q.Text == "*" {
			bound = 5 * columnBytes
		}
		if _, err := s.Columns(t.Context(), q, bound); !errors.Is(err, fault.ErrTooLarge) {
			t.Errorf("%s, at most %d: %v", q.Text, q.Limit, err)
		}
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

func TestSpareRows(t *testing.T) {
	var s spareRows
	if s.take() != nil {
		t.Fatal("there is room before there was a batch")
	}
	first, second := logstorage.GetLogRows(nil, nil, nil, nil, ""), logstorage.GetLogRows(nil, nil, nil, nil, "")
	first.MustAdd(logstorage.TenantID{}, 1, []logstorage.Field{{Name: "_msg", Value: "x"}}, 0)
	if s.keep(&rowsTaken{lib: first, fields: maxSpareFields + 1}) {
		t.Error("the room of a batch without measure is kept")
	}
	if !s.keep(&rowsTaken{lib: first, fields: 1}) || s.keep(&rowsTaken{lib: second, fields: 1}) {
		t.Error("not the room of one batch is kept")
	}
	if got := s.take(); got != first || got.RowsCount() != 0 {
		t.Errorf("got %p with %d rows, want %p, empty", got, got.RowsCount(), first)
	}
	if s.take() != nil {
		t.Error("the same room is given twice")
	}
	s.keep(&rowsTaken{lib: first, fields: 1})
	if s.expire(); s.rows == nil {
		t.Error("room is let go that was just used")
	}
	if s.expire(); s.rows != nil {
		t.Error("room is kept that nobody uses")
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
		_, err = s.Stats(ctx, q, time.Minute, 0)
		check("stats", err)
		_, err = s.FieldNames(ctx, q, "")
		check("names", err)
		q.Limit = 2
		check("limit", s.Query(ctx, q, see))
	})
}
