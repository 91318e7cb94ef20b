package logstest

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
	"github.com/crowsnest-dev/crowsnest/storage/logs"
)

func (f fixture) appendedLinesAreFoundWithTheirFields(t *testing.T) {
	open := f.engine(t)
	s := open()
	b := Batch("1", dayStart(), "hello")
	b.Groups[0].Lines[0].Fields = wire.FieldsOf(map[string]string{"level": "WARNING", "trace_id": "abc", "pod": "forged", "_time": "x", fieldBatch: "y"})
	appendOK(t, s, "prod", b)
	rs := rows(t, s, logs.Query{Text: `{namespace="shop"} hello`})
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

func (f fixture) sameBatchIsStoredOnce(t *testing.T) {
	open := f.engine(t)
	now := time.Now()
	reg := prometheus.NewRegistry()
	s := open(func(o *logs.Options) { o.Registerer = reg })
	live := Batch("live", now.Add(time.Second), "a", "b") // its lines are later than the first contact
	old := Batch("old", dayStart(), "c")
	for range 3 {
		appendOK(t, s, "prod", live)
		appendOK(t, s, "prod", old)
	}
	// Concurrent resends join the pending one.
	var wg sync.WaitGroup
	fresh := Batch("fresh", now.Add(2*time.Second), "d")
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
	if got := Counted(t, reg, "crowsnest_logs_batches_duplicate_total", ""); got != 4+7 {
		t.Errorf("counted %v duplicates, want 11", got)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v %v", problems, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	// A new life knows nothing but what it reads back.
	s = open()
	appendOK(t, s, "prod", live)
	appendOK(t, s, "prod", old)
	appendOK(t, s, "prod", fresh)
	if got := count(t, s, "prod"); got != 4 {
		t.Errorf("after a restart: got %d lines, want 4", got)
	}
}

// A batch whose lines have no times is the same a while later, over restarts too, and
// another one of the same words after that.
func (f fixture) batchesWithoutTimesComeAgain(t *testing.T) {
	open := f.engine(t)
	began := time.Now()
	now := began
	clock := func(o *logs.Options) { o.Now = func() time.Time { return now } }
	s := open(clock)
	again := func(after time.Duration, want int) {
		t.Helper()
		now = began.Add(after)
		b := Batch("untimed", now, "a", "b")
		for i := range b.Groups[0].Lines {
			b.Groups[0].Lines[i].Time = now.UnixNano() // midnight may be near
		}
		b.Untimed = true
		appendOK(t, s, "prod", b)
		if b.ID != "untimed" {
			t.Errorf("the batch is called %s now", b.ID)
		}
		if got := count(t, s, "prod"); got != want {
			t.Errorf("after %s: %d lines, want %d", after, got, want)
		}
	}
	restart := func() {
		t.Helper()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(clock)
	}
	again(0, 2)
	again(time.Second, 2)
	restart()
	again(10*time.Minute, 2)
	again(16*time.Minute, 4)
	again(30*time.Minute, 4)
	restart()
	again(30*time.Minute, 4)
	restart()
	again(40*time.Minute, 6)
	// Others come until it is forgotten.
	var wg sync.WaitGroup
	for i := range 712 {
		wg.Go(func() {
			b := Batch(strconv.Itoa(i), now.Add(time.Second), "x")
			b.Groups[0].Stream.Pod = "other"
			appendOK(t, s, "others", b)
			appendOK(t, s, "prod", b)
		})
	}
	wg.Wait()
	again(41*time.Minute, 6+712)
	again(50*time.Minute, 6+712)
	again(56*time.Minute, 8+712)
}

func (f fixture) forgottenBatchesAreAskedFor(t *testing.T) {
	open := f.engine(t)
	s := open()
	now := time.Now()
	const n = 712 // more than the store remembers of a sender
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			appendOK(t, s, "prod", Batch(strconv.Itoa(i), now.Add(time.Duration(i)*time.Millisecond), "x"))
		})
	}
	wg.Wait()
	for _, i := range []int{0, 1, 150, 199, 250, n - 1} {
		appendOK(t, s, "prod", Batch(strconv.Itoa(i), now.Add(time.Duration(i)*time.Millisecond), "x"))
	}
	if got := count(t, s, "prod"); got != n {
		t.Errorf("got %d lines, want %d", got, n)
	}
}

func (f fixture) linesOutsideTheRetentionAreDroppedAndCounted(t *testing.T) {
	open, reg := f.engine(t), prometheus.NewRegistry()
	s := open(func(o *logs.Options) { o.Registerer = reg })
	appendOK(t, s, "prod", Batch("old", time.Now().Add(-91*day), "a", "b"))
	appendOK(t, s, "prod", Batch("ahead", time.Now().UTC().Truncate(day).Add(3*day), "c"))
	if got := Counted(t, reg, "crowsnest_logs_lines_dropped_total", "too_old"); got != 2 {
		t.Errorf("too old: %v, want 2", got)
	}
	if got := Counted(t, reg, "crowsnest_logs_lines_dropped_total", "too_far_ahead"); got != 1 {
		t.Errorf("too far ahead: %v, want 1", got)
	}
	if got := messages(rows(t, s, logs.Query{Text: "* | sort by (crowsnest_dropped_from)", Clusters: []string{"prod"}})); !slices.Equal(got, []string{
		"2 lines of shop/cart-1 (app) dropped here: their time is beyond what is kept",
		"1 line of shop/cart-1 (app) dropped here: their time is more than a day ahead of the server's clock",
	}) {
		t.Errorf("got %q, want only what tells of them", got)
	}
}

// Lines that are not kept leave one in their stream, once, however often their batch
// comes, over restarts too.
func (f fixture) whatIsDroppedIsTold(t *testing.T) {
	open := f.engine(t)
	// Lines from noon on are kept of that day.
	noon := time.Now().UTC().Truncate(day).Add(-3*day + 12*time.Hour)
	keeping := func(o *logs.Options) { o.Retention = time.Since(noon) }
	s := open(keeping)
	began := time.Now()
	other := wire.LogStream{Namespace: "shop", Stream: wire.StreamEvents}
	outside := Batch("outside", noon.Add(-time.Hour), "a", "bc")
	outside.Groups = append(outside.Groups, wire.LogGroup{Stream: other, Lines: []wire.LogLine{{Time: noon.Add(-2 * time.Hour).UnixNano(), Message: "Killing"}}})
	partly := Batch("partly", noon.Add(-time.Hour), "d", "e", "f")
	kept := noon.Add(2 * time.Hour)
	partly.Groups[0].Lines[2].Time = kept.UnixNano()
	partly.Groups[0].Stream.Pod = "cart-2"
	ahead := Batch("ahead", time.Now().UTC().Truncate(day).Add(3*day), "g")
	ahead.Groups[0].Stream.Pod = "cart-3"
	read := wire.LogPosition{LogSource: wire.LogSource{Key: "uid/app", Namespace: "shop", Pod: "cart-3", Container: "app"}, Taken: 7, State: "{}"}
	ahead.Positions = []wire.LogPosition{read}
	check := func(when string) {
		t.Helper()
		for range 2 {
			for _, b := range []*wire.LogBatch{outside, partly, ahead} {
				appendOK(t, s, "prod", b)
			}
		}
		got := map[string]bool{}
		all := rows(t, s, logs.Query{Text: "*", Clusters: []string{"prod"}})
		for _, r := range all {
			at, err := time.Parse(time.RFC3339Nano, r.Get("_time"))
			if err != nil {
				t.Fatal(err)
			}
			text := at.Format(time.RFC3339Nano)
			if !at.Before(began) {
				text = "now"
			}
			got[strings.Join([]string{r.Get("pod"), r.Get("stream"), text, r.Get("_msg"), r.Get("level"), r.Get("crowsnest_dropped_reason"), r.Get("crowsnest_dropped_lines"), r.Get("crowsnest_dropped_bytes"), r.Get("crowsnest_dropped_from"), r.Get("crowsnest_dropped_until")}, "|")] = true
		}
		at := func(nanos int64) string { return time.Unix(0, nanos).UTC().Format(time.RFC3339Nano) }
		hour, second := noon.Add(-time.Hour).UnixNano(), noon.Add(-time.Hour+time.Millisecond).UnixNano()
		tomorrow := ahead.Groups[0].Lines[0].Time
		want := map[string]bool{
			"cart-1|stdout|now|2 lines of shop/cart-1 (app) dropped here: their time is beyond what is kept|warn|too_old|2|3|" + at(hour) + "|" + at(second):                                     true,
			"|events|now|1 line of shop dropped here: their time is beyond what is kept|warn|too_old|1|7|" + at(noon.Add(-2*time.Hour).UnixNano()) + "|" + at(noon.Add(-2*time.Hour).UnixNano()): true,
			"cart-2|stdout|" + at(kept.UnixNano()) + "|f||||||": true,
			"cart-2|stdout|" + at(kept.UnixNano()) + "|2 lines of shop/cart-2 (app) dropped here: their time is beyond what is kept|warn|too_old|2|2|" + at(hour) + "|" + at(second):            true,
			"cart-3|stdout|now|1 line of shop/cart-3 (app) dropped here: their time is more than a day ahead of the server's clock|warn|too_far_ahead|1|1|" + at(tomorrow) + "|" + at(tomorrow): true,
		}
		if !maps.Equal(got, want) || len(all) != len(want) {
			t.Errorf("%s: %d rows, got\n%s\nwant\n%s", when, len(all), strings.Join(slices.Sorted(maps.Keys(got)), "\n"), strings.Join(slices.Sorted(maps.Keys(want)), "\n"))
		}
		// Who goes on with the container does not read them again.
		if p, err := s.Positions(t.Context(), "prod", []wire.LogSource{read.LogSource}); err != nil || len(p) != 1 || p[0].Taken != 7 {
			t.Errorf("%s: positions %+v, %v", when, p, err)
		}
	}
	check("at once")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(keeping)
	check("after a restart")
}

// A line that was too far ahead when its batch came is not any more when that comes again.
func (f fixture) whatWasTooFarAheadComesAgain(t *testing.T) {
	open := f.engine(t)
	now := time.Now()
	at := now.Add(day - time.Minute - 2*time.Second)
	whole, partly := Batch("whole", at, "a"), Batch("partly", at, "b", "c")
	partly.Groups[0].Lines[0].Time = now.UnixNano()
	if at.UTC().Truncate(day) != now.UTC().Truncate(day) {
		partly.Groups[0].Lines[0].Time = at.UTC().Truncate(day).UnixNano()
	}
	send := func(s *logs.Store) {
		for _, b := range []*wire.LogBatch{whole, partly} {
			appendOK(t, s, "prod", b)
		}
	}
	s := open(func(o *logs.Options) { o.Now = func() time.Time { return now.Add(-5 * time.Second) } })
	send(s)
	was := messages(rows(t, s, logs.Query{Text: "* | sort by (_time, _msg)", Clusters: []string{"prod"}}))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open()
	send(s)
	if got := messages(rows(t, s, logs.Query{Text: "* | sort by (_time, _msg)", Clusters: []string{"prod"}})); len(was) != 3 || !slices.Equal(got, was) {
		t.Errorf("got %q, want what was there before: %q", got, was)
	}
}

func (f fixture) fieldBounds(t *testing.T) {
	open := f.engine(t)
	s := open()
	b := Batch("1", dayStart(), "x")
	fields := map[string]string{strings.Repeat("n", 200): "v", "zz_big": strings.Repeat("v", 2<<20)}
	for i := range 400 {
		fields[fmt.Sprintf("f%03d", i)] = "v"
	}
	b.Groups[0].Lines[0].Fields = wire.FieldsOf(fields)
	b.Groups[0].Stream.Pod = strings.Repeat("é", 1000)
	appendOK(t, s, "prod", b)
	rs := rows(t, s, logs.Query{Text: `{pod="` + strings.Repeat("é", 128) + `"}`})
	if len(rs) != 1 {
		t.Fatalf("the row with a long stream value was not found by its stream")
	}
	if n := len(rs[0]); n < 256 || n > 256+15 {
		t.Errorf("row has %d fields", n)
	}
}

// A replica that takes over lists the events of the last hour in batches of its
// own; each is stored once, over restarts of the server, too.
func (f fixture) eventsAreStoredOnceWhoeverSendsThem(t *testing.T) {
	open := f.engine(t)
	at, reg := dayStart(), prometheus.NewRegistry()
	s := open(func(o *logs.Options) { o.Registerer = reg })
	appendOK(t, s, "c1", events("a", at, "e1", "e2", "e3"))
	appendOK(t, s, "c1", events("b", at, "e1", "e2", "e3"))
	appendOK(t, s, "c1", events("c", at, "e1", "e2", "e3", "e4", "e4"))
	more := events("d", at, "e2")
	more.Groups[0].Lines[0].Fields = wire.FieldsOf(map[string]string{"uid": "e2", "count": "2"}) // it happened again
	appendOK(t, s, "c1", more)
	appendOK(t, s, "c2", events("a", at, "e1"))
	if n := count(t, s, "c1"); n != 5 {
		t.Errorf("%d events, want 4 and a repeated one", n)
	}
	if n := Counted(t, reg, "crowsnest_logs_events_duplicate_total", ""); n != 3+4 {
		t.Errorf("counted %v doubles, want 7", n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open()
	appendOK(t, s, "c1", events("e", at, "e1", "e2", "e3", "e4", "e5"))
	if n := count(t, s, "c1"); n != 6 {
		t.Errorf("%d events after a restart, want one more", n)
	}
	// Lines of containers are not events, whatever their fields say.
	b := Batch("f", at, "x", "x")
	for i := range b.Groups[0].Lines {
		b.Groups[0].Lines[i].Fields = wire.FieldsOf(map[string]string{"uid": "e1", "count": "1"})
	}
	appendOK(t, s, "c1", b)
	if n := count(t, s, "c1"); n != 8 {
		t.Errorf("%d rows, want the two lines, too", n)
	}
}

// A collector that does not know how much of a series is new says nothing of it; what is
// stored of the series says it.
func (f fixture) eventsGoOn(t *testing.T) {
	open := f.engine(t)
	at := dayStart().Add(2 * time.Hour)
	s := open()
	line := func(id string, ago time.Duration, uid, n string, more ...wire.LogField) {
		t.Helper()
		b := events(id, at.Add(-ago), uid)
		b.Groups[0].Lines[0].Fields = append(wire.LogFields{{Name: "uid", Value: uid}, {Name: "count", Value: n}}, more...)
		appendOK(t, s, "c1", b)
	}
	line("a", 50*time.Minute, "known", "3")
	line("b", 40*time.Minute, "known", "10")
	line("c", 0, "known", "25")
	line("d", 40*time.Minute, "next", "7")
	line("e", 0, "next", "8")
	line("f", 0, "unknown", "100")
	line("g", 40*time.Minute, "said", "2")
	line("h", 0, "said", "9", wire.LogField{Name: wire.FieldOccurrences, Value: "5"})
	line("i", 90*time.Minute, "long ago", "2")
	line("j", 0, "long ago", "9")
	line("k", 0, "odd", "many")
	got := map[string]string{}
	for _, r := range rows(t, s, logs.Query{Text: fmt.Sprintf("_time:>=%s | fields uid, occurrences, since", at.Format(time.RFC3339Nano)), Clusters: []string{"c1"}}) {
		got[r.Get("uid")] = r.Get(wire.FieldOccurrences) + " " + r.Get("since")
	}
	want := map[string]string{"known": "15 " + at.Add(-40*time.Minute).Format(time.RFC3339Nano), "next": " ", "unknown": " ", "said": "5 ", "long ago": " ", "odd": " "}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if n := count(t, s, "c1"); n != 11 {
		t.Errorf("%d events, want 11", n)
	}
}

// Another replica's batches come while those of the one before are not committed.
func (f fixture) eventsNotCommittedYet(t *testing.T) {
	open := f.engine(t)
	s, at := open(func(o *logs.Options) { o.CommitInterval = 2 * time.Second }), dayStart()
	appendOK(t, s, "c1", Batch("first", at, "the next commit is an interval away"))
	uids := make([]string, 500)
	for i := range uids {
		uids[i] = fmt.Sprint("uid-", i)
	}
	errs := make(chan error)
	for i := range 4 {
		go func() { errs <- s.Append(t.Context(), "c1", events(fmt.Sprint("batch-", i), at, uids...)) }()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	if n := count(t, s, "c1"); n != len(uids)+1 {
		t.Errorf("%d events, want %d", n, len(uids))
	}
}

func (f fixture) deleteCluster(t *testing.T) {
	open := f.engine(t)
	s := open()
	appendOK(t, s, "a", Batch("1", dayStart(), "x"))
	appendOK(t, s, "b", Batch("1", dayStart(), "x"))
	if err := s.DeleteCluster(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(60 * time.Second)
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

func (f fixture) aClosedStoreSaysSo(t *testing.T) {
	open := f.engine(t)
	s := open()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(t.Context(), "a", Batch("1", dayStart(), "x")); !errors.Is(err, fault.ErrUnavailable) {
		t.Errorf("append: %v", err)
	}
	if err := s.Query(t.Context(), logs.Query{Text: "*"}, nil); !errors.Is(err, fault.ErrUnavailable) {
		t.Errorf("query: %v", err)
	}
}

// What lines may hold and when they may be of: each is stored as it is, or counted.
func (f fixture) hostileLines(t *testing.T) {
	open, reg := f.engine(t), prometheus.NewRegistry()
	s := open(func(o *logs.Options) { o.Registerer = reg })
	texts := []string{"a\x00b", "bad \xff\xfe utf-8", "\x1b[31mred\x1b[0m", strings.Repeat("{\"a\":", 10_000), "\n", "_time:5m | delete", strings.Repeat("x", wire.MaxLogLineBytes), "\u202eright to left"}
	appendOK(t, s, "prod", Batch("hostile", dayStart(), texts...))
	got := messages(rows(t, s, logs.Query{Text: "*", Clusters: []string{"prod"}, Limit: 100}))
	slices.Reverse(got)
	if !slices.Equal(got, texts) {
		t.Errorf("got %.80q", got)
	}
	names := Batch("names", dayStart().Add(time.Minute), "fields")
	names.Groups[0].Lines[0].Fields = wire.LogFields{{Name: "n\x00ul", Value: "v"}, {Name: "bad\xff", Value: "v"}, {Name: "", Value: "v"}, {Name: "a b | c", Value: "v\x00"}, {Name: "twice", Value: "1"}, {Name: "twice", Value: "2"}}
	names.Groups[0].Stream.Pod, names.Groups[0].Stream.Workload = "p\x00o\xffd", "\"quoted\\"
	appendOK(t, s, "prod", names)
	if got := rows(t, s, logs.Query{Text: "fields", Clusters: []string{"prod"}}); len(got) != 1 || got[0].Get("a b | c") != "v\x00" {
		t.Errorf("got %q", got)
	}
	for id, at := range map[string]time.Time{"1970": time.Unix(1, 0), "2099": time.Date(2099, 12, 31, 0, 0, 0, 0, time.UTC), "2262": time.Unix(0, math.MaxInt64)} {
		b := Batch(id, time.Unix(0, 1), "x")
		b.Groups[0].Lines[0].Time = at.UnixNano()
		appendOK(t, s, "prod", b)
	}
	if old, ahead := Counted(t, reg, "crowsnest_logs_lines_dropped_total", "too_old"), Counted(t, reg, "crowsnest_logs_lines_dropped_total", "too_far_ahead"); old != 1 || ahead != 2 {
		t.Errorf("counted %v too old and %v too far ahead, want 1 and 2", old, ahead)
	}
	for id, at := range map[string]int64{"0": 0, "before 1970": -1} {
		b := Batch(id, dayStart(), "x")
		b.Groups[0].Lines[0].Time = at
		if err := s.Append(t.Context(), "prod", b); !errors.Is(err, fault.ErrInvalid) {
			t.Errorf("a time of %d: %v", at, err)
		}
	}
	if n := count(t, s, "prod"); n != len(texts)+1+3 { // three tell of what was dropped
		t.Errorf("%d lines, want %d", n, len(texts)+1+3)
	}
}
