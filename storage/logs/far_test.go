package logs_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"
	"github.com/VictoriaMetrics/VictoriaMetrics/lib/encoding/zstd"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/logs"
	"github.com/crowsnest-dev/crowsnest/storage/logs/logstest"
	"github.com/crowsnest-dev/crowsnest/storage/logs/remote"
)

func openFar(t *testing.T, url string, change ...func(*logs.Options)) *logs.Store {
	t.Helper()
	open := logstest.Opener(t, logs.Options{CommitInterval: 20 * time.Millisecond, Settle: 300 * time.Millisecond}, func() *remote.Client { return client(t, url) })
	return open(change...)
}

func messagesOf(t *testing.T, s *logs.Store, clusters ...string) (out []string) {
	t.Helper()
	if err := s.Query(t.Context(), logs.Query{Text: "*", Clusters: clusters, Limit: 100}, func(r logs.Row) error {
		out = append(out, strings.Clone(r.Get("_msg")))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// A request that was carried out and whose answer was lost looks like one that
// failed: its batch is not sent a second time.
func TestALostReplyDoublesNothing(t *testing.T) {
	far := logstest.StartFar(t)
	s := openFar(t, far.URL)
	now := time.Now()
	if err := s.Append(t.Context(), "prod", logstest.Batch("0", now, "before")); err != nil {
		t.Fatal(err)
	}
	var inserts atomic.Int32
	var sick atomic.Bool // or the store may ask for its health between the failed write and the look
	sick.Store(true)
	far.Meet(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/health" && sick.Load() {
			http.Error(w, "the way is broken", http.StatusBadGateway)
			return true
		}
		if r.URL.Path != "/internal/insert" || inserts.Add(1) > 1 {
			return false
		}
		far.Serve(httptest.NewRecorder(), r)
		http.Error(w, "the way is broken", http.StatusBadGateway)
		return true
	})
	b := logstest.Batch("1", now.Add(time.Second), "a", "b")
	if err := s.Append(t.Context(), "prod", b); !errors.Is(err, fault.ErrUnavailable) || !strings.Contains(err.Error(), "502") {
		t.Fatalf("a lost reply: %v", err)
	}
	if err := s.ReadOnly(); !errors.Is(err, fault.ErrUnavailable) {
		t.Errorf("right after a failed write: %v", err)
	}
	sick.Store(false)
	awaitWritable(t, s)
	for range 2 {
		if err := s.Append(t.Context(), "prod", b); err != nil {
			t.Fatal(err)
		}
	}
	if got := messagesOf(t, s, "prod"); len(got) != 3 {
		t.Errorf("got %v", got)
	}
	if n := inserts.Load(); n != 1 {
		t.Errorf("%d requests to insert, want 1", n)
	}
}

func awaitWritable(t *testing.T, s *logs.Store) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); s.ReadOnly() != nil; time.Sleep(60 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(s.ReadOnly())
		}
	}
}

// An engine drops lines that are too old for it and says nothing.
func TestLinesThatTheEngineDropsAreCounted(t *testing.T) {
	far, reg := logstest.StartFar(t), prometheus.NewRegistry()
	s := openFar(t, far.URL, func(o *logs.Options) { o.Registerer, o.Retention = reg, 400*24*time.Hour })
	old := logstest.Batch("old", time.Now().Add(-200*24*time.Hour), "a", "b")
	for range 2 {
		if err := s.Append(t.Context(), "prod", old); !errors.Is(err, fault.ErrUnavailable) {
			t.Fatalf("it may still show: %v", err)
		}
	}
	if err := s.Append(t.Context(), "prod", old); err != nil {
		t.Fatalf("a batch that is never shown must not keep its sender for ever: %v", err)
	}
	if got := logstest.Counted(t, reg, "crowsnest_logs_lines_dropped_total", "not_shown"); got != 2 {
		t.Errorf("%v lines counted, want 2", got)
	}
}

func TestAnEngineThatIsAway(t *testing.T) {
	far := logstest.StartFar(t)
	var away atomic.Bool
	away.Store(true)
	far.Meet(func(w http.ResponseWriter, _ *http.Request) bool {
		if away.Load() {
			http.Error(w, "starting", http.StatusServiceUnavailable)
		}
		return away.Load()
	})
	s := openFar(t, far.URL)
	if err := s.ReadOnly(); !errors.Is(err, fault.ErrUnavailable) {
		t.Errorf("read-only: %v", err)
	}
	if err := s.Append(t.Context(), "prod", logstest.Batch("1", time.Now(), "x")); !errors.Is(err, fault.ErrUnavailable) {
		t.Errorf("append: %v", err)
	}
	for _, q := range []logs.Query{{Text: "*"}, {Text: "*", Clusters: []string{"prod"}}} {
		if err := s.Query(t.Context(), q, func(logs.Row) error { return nil }); !errors.Is(err, fault.ErrUnavailable) {
			t.Errorf("query: %v", err)
		}
	}
	if _, err := s.FieldNames(t.Context(), logs.Query{Text: "*", Clusters: []string{"prod"}}, ""); !errors.Is(err, fault.ErrUnavailable) {
		t.Errorf("field names: %v", err)
	}
	away.Store(false)
	awaitWritable(t, s)
	if err := s.Append(t.Context(), "prod", logstest.Batch("1", time.Now(), "x")); err != nil {
		t.Fatal(err)
	}
	if got := messagesOf(t, s); len(got) != 1 {
		t.Errorf("got %v", got)
	}
}

// Rows of others on the same engine are nobody's here.
func TestOthersOnTheSameEngine(t *testing.T) {
	far := logstest.StartFar(t)
	c := client(t, far.URL)
	defer c.Close()
	var rows []byte
	for _, id := range []logstorage.TenantID{{}, {AccountID: 7, ProjectID: 9}} {
		tags := logstorage.GetStreamTags()
		tags.Add("cluster", "prod")
		row := logstorage.InsertRow{TenantID: id, StreamTagsCanonical: string(tags.MarshalCanonical(nil)), Timestamp: time.Now().UnixNano(),
			Fields: []logstorage.Field{{Name: "_msg", Value: "of others"}, {Name: "cluster", Value: "prod"}}}
		rows = row.Marshal(rows)
		logstorage.PutStreamTags(tags)
	}
	if err := c.Insert(t.Context(), rows); err != nil {
		t.Fatal(err)
	}
	first := openFar(t, far.URL)
	if err := first.Append(t.Context(), "prod", logstest.Batch("1", time.Now(), "ours")); err != nil {
		t.Fatal(err)
	}
	s := openFar(t, far.URL) // another life: it has to find out what is ours
	for name, clusters := range map[string][]string{"all": nil, "one": {"prod"}} {
		if got := messagesOf(t, s, clusters...); len(got) != 1 || got[0] != "ours" {
			t.Errorf("%s: %v", name, got)
		}
	}
	if err := s.Query(t.Context(), logs.Query{Text: "*", Clusters: []string{}}, func(r logs.Row) error { return fmt.Errorf("saw %v", r) }); err != nil {
		t.Error(err)
	}
}

// What broke off must not look complete.
func TestAnAnswerThatBreaksOffIsAnError(t *testing.T) {
	far := logstest.StartFar(t)
	s := openFar(t, far.URL)
	if err := s.Append(t.Context(), "prod", logstest.Batch("1", time.Now(), "x", "y")); err != nil {
		t.Fatal(err)
	}
	block := func() []byte {
		var db logstorage.DataBlock
		db.SetColumns([]logstorage.BlockColumn{{Name: "_msg", Values: []string{"x"}}})
		packed := zstd.CompressLevel(nil, db.Marshal([]byte{0}), 1)
		return append(binary.BigEndian.AppendUint64(nil, uint64(len(packed))), packed...)
	}()
	for name, tc := range map[string]struct {
		body string
		want string
	}{
		"nothing at all":         {"", "broke off"},
		"between two blocks":     {string(block), "broke off"},
		"within a block":         {string(block) + string(block[:20]), "broke off"},
		"by an error, half-way":  {string(block) + "\ncannot sort: needs more memory than there is\n", "needs more memory"},
		"by what is no block":    {"\x00\x00\x00\x00\x00\x00\x00\x04abcd", "broke off"},
		"a block of 100 million": {"\x00\x00\x00\x00\x7f\xff\xff\xff", "broke off"},
	} {
		far.Meet(func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/internal/select/query" {
				return false
			}
			_, _ = w.Write([]byte(tc.body))
			return true
		})
		for kind, q := range map[string]logs.Query{"rows": {Text: "*", Clusters: []string{"prod"}}, "newest": {Text: "*", Clusters: []string{"prod"}, Limit: 10}, "stats": {Text: "* | stats count() n", Clusters: []string{"prod"}}} {
			err := s.Query(t.Context(), q, func(logs.Row) error { return nil })
			if !errors.Is(err, fault.ErrUnavailable) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s, %s: %v", name, kind, err)
			}
		}
	}
}

func TestAnEngineThatRefuses(t *testing.T) {
	far := logstest.StartFar(t)
	s := openFar(t, far.URL)
	answer := func(status int, text string) {
		far.Meet(func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/health" {
				return false
			}
			w.Header().Set("X-Server-Hostname", "far")
			http.Error(w, text, status)
			return true
		})
	}
	ask := func() error {
		return s.Query(t.Context(), logs.Query{Text: "*", Clusters: []string{"prod"}}, func(logs.Row) error { return nil })
	}
	answer(400, `unexpected protocol version="v4"; want "v9"`)
	if err := ask(); !errors.Is(err, fault.ErrUnavailable) || !strings.Contains(err.Error(), "another version of VictoriaLogs") {
		t.Errorf("another version: %v", err)
	}
	for _, status := range []int{400, 502} {
		answer(status, "cannot execute: too many values")
		if err := ask(); !errors.Is(err, fault.ErrInvalid) || !strings.Contains(err.Error(), "too many values") {
			t.Errorf("a query that it refuses with %d: %v", status, err)
		}
	}
	for _, text := range []string{
		`cannot connect to storage node at "http://node-2/internal/select/query": connection refused`,
		`cannot read block size from "http://node-2/internal/select/query": unexpected EOF`,
		`cannot read response from "http://node-2/internal/select/field_names": connection reset by peer`,
	} {
		if answer(502, text); !errors.Is(ask(), fault.ErrUnavailable) {
			t.Errorf("a storage node that is away (%s): %v", text, ask())
		}
	}
	answer(401, "who are you")
	if err := ask(); !errors.Is(err, fault.ErrUnavailable) || !strings.Contains(err.Error(), "credentials") {
		t.Errorf("wrong credentials: %v", err)
	}
	answer(400, "requests to /internal/delete/* are disabled")
	if err := s.DeleteCluster(t.Context(), "prod"); err != nil {
		t.Errorf("an engine that does not delete keeps nobody from forgetting a cluster: %v", err)
	}
}

// A stop waits for what was accepted.
func TestCloseSendsWhatWaits(t *testing.T) {
	far := logstest.StartFar(t)
	s := openFar(t, far.URL, func(o *logs.Options) { o.CommitInterval = time.Hour })
	done := make(chan error, 1)
	first := logstest.Batch("0", time.Now(), "first") // goes at once, the next one waits for the interval
	if err := s.Append(t.Context(), "prod", first); err != nil {
		t.Fatal(err)
	}
	entered := make(chan struct{})
	go func() {
		close(entered)
		done <- s.Append(context.WithoutCancel(t.Context()), "prod", logstest.Batch("1", time.Now(), "waits"))
	}()
	<-entered
	var appended error
	for closed := false; !closed; {
		select {
		case appended = <-done:
			t.Fatalf("it did not wait: %v", appended)
		case <-time.After(200 * time.Millisecond): // by now it waits, or Append refuses below
			closed = true
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil && !errors.Is(err, fault.ErrUnavailable) {
		t.Errorf("append during a close: %v", err)
	} else if err == nil {
		if got := messagesOf(t, openFar(t, far.URL), "prod"); len(got) != 2 {
			t.Errorf("got %v", got)
		}
	}
}
