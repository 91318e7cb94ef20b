package logstest

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"
	"github.com/VictoriaMetrics/VictoriaMetrics/lib/encoding/zstd"

	"github.com/crowsnest-dev/crowsnest/storage/logs"
)

// Far is a VictoriaLogs within the test, as far as a store needs one: the library
// behind the protocol of its cluster. What the real program does is tested by make
// remote.
type Far struct {
	URL string
	db  *logstorage.Storage

	mu   sync.Mutex
	meet func(http.ResponseWriter, *http.Request) (handled bool)
}

// StartFar starts one that ends with the test.
func StartFar(t testing.TB) *Far {
	t.Helper()
	if err := logs.Prepare(256 << 20); err != nil {
		t.Fatal(err)
	}
	f := &Far{db: logstorage.MustOpenStorage(t.TempDir(), &logstorage.StorageConfig{Retention: 90 * day, FutureRetention: 2 * day, FlushInterval: 5 * time.Second})}
	server := httptest.NewServer(f)
	f.URL = server.URL
	t.Cleanup(func() {
		server.Close()
		f.db.MustClose()
	})
	return f
}

// Meet makes fn look at each request first; nil for nobody.
func (f *Far) Meet(fn func(http.ResponseWriter, *http.Request) (handled bool)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.meet = fn
}

func (f *Far) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	meet := f.meet
	f.mu.Unlock()
	if meet != nil && meet(w, r) {
		return
	}
	f.Serve(w, r)
}

// Serve answers as an engine does.
func (f *Far) Serve(w http.ResponseWriter, r *http.Request) {
	if err := f.answer(w, r); err != nil {
		w.Header().Set("X-Server-Hostname", "far")
		http.Error(w, err.Error(), http.StatusBadGateway)
	}
}

func (f *Far) answer(w http.ResponseWriter, r *http.Request) error {
	switch r.URL.Path {
	case "/health":
		return nil
	case "/internal/insert":
		return f.insert(r)
	case "/internal/select/tenant_ids":
		ids, err := f.db.GetTenantIDs(r.Context(), 0, 1<<62)
		if err != nil {
			return err
		}
		return json.NewEncoder(w).Encode(ids)
	case "/internal/delete/run_task":
		ids, err := logstorage.UnmarshalTenantIDsFromJSON([]byte(r.FormValue("tenant_ids")))
		if err != nil {
			return err
		}
		filter, err := logstorage.ParseFilter(r.FormValue("filter"))
		if err != nil {
			return err
		}
		at, err := strconv.ParseInt(r.FormValue("timestamp"), 10, 64)
		if err != nil {
			return err
		}
		return f.db.DeleteRunTask(context.WithoutCancel(r.Context()), r.FormValue("task_id"), at, ids, filter)
	case "/internal/delete/active_tasks":
		tasks, err := f.db.DeleteActiveTasks(r.Context())
		if err != nil {
			return err
		}
		_, err = w.Write(logstorage.MarshalDeleteTasksToJSON(tasks))
		return err
	}
	return f.find(w, r)
}

func (f *Far) insert(r *http.Request) error {
	packed, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	data, err := zstd.Decompress(nil, packed)
	if err != nil {
		return err
	}
	lr := logstorage.GetLogRows(nil, nil, nil, nil, "")
	defer logstorage.PutLogRows(lr)
	row := logstorage.GetInsertRow()
	defer logstorage.PutInsertRow(row)
	for len(data) > 0 {
		if data, err = row.UnmarshalInplace(data); err != nil {
			return err
		}
		lr.MustAddInsertRow(row)
	}
	f.db.MustAddRows(lr)
	f.db.DebugFlush() // a real one shows them about a second later
	return nil
}

func (f *Far) find(w http.ResponseWriter, r *http.Request) error {
	ids, err := logstorage.UnmarshalTenantIDsFromJSON([]byte(r.FormValue("tenant_ids")))
	if err != nil {
		return err
	}
	at, err := strconv.ParseInt(r.FormValue("timestamp"), 10, 64)
	if err != nil {
		return err
	}
	q, err := logstorage.ParseQueryAtTimestamp(r.FormValue("query"), at)
	if err != nil {
		return err
	}
	var hidden []string
	if err := json.Unmarshal([]byte(r.FormValue("hidden_fields_filters")), &hidden); err != nil {
		return err
	}
	var stats logstorage.QueryStats
	qctx := logstorage.NewQueryContext(r.Context(), &stats, ids, q, false, hidden)
	field, filter, limit := r.FormValue("field"), r.FormValue("filter"), uint64(0)
	if text := r.FormValue("limit"); text != "" {
		if limit, err = strconv.ParseUint(text, 10, 64); err != nil {
			return err
		}
	}
	var values []logstorage.ValueWithHits
	switch r.URL.Path {
	case "/internal/select/query":
		return f.query(w, qctx)
	case "/internal/select/field_names":
		values, err = f.db.GetFieldNames(qctx, filter)
	case "/internal/select/field_values":
		values, err = f.db.GetFieldValues(qctx, field, filter, limit)
	case "/internal/select/streams":
		values, err = f.db.GetStreams(qctx, limit)
	case "/internal/select/stream_ids":
		values, err = f.db.GetStreamIDs(qctx, limit)
	case "/internal/select/stream_field_names":
		values, err = f.db.GetStreamFieldNames(qctx, filter)
	case "/internal/select/stream_field_values":
		values, err = f.db.GetStreamFieldValues(qctx, field, filter, limit)
	}
	if err != nil {
		return err
	}
	out := binary.BigEndian.AppendUint64(nil, uint64(len(values)))
	for i := range values {
		out = values[i].Marshal(out)
	}
	_, err = w.Write(zstd.CompressLevel(nil, stats.CreateDataBlock(0).Marshal(out), 1))
	return err
}

// query sends a block for each of the library's.
func (f *Far) query(w http.ResponseWriter, qctx *logstorage.QueryContext) error {
	var mu sync.Mutex
	send := func(kind byte, db *logstorage.DataBlock) {
		mu.Lock()
		defer mu.Unlock()
		packed := zstd.CompressLevel(nil, db.Marshal([]byte{kind}), 1)
		_, _ = w.Write(append(binary.BigEndian.AppendUint64(nil, uint64(len(packed))), packed...)) // who went away does not read it
	}
	if err := f.db.RunQuery(qctx, func(_ uint, db *logstorage.DataBlock) { send(0, db) }); err != nil {
		return err
	}
	send(1, qctx.QueryStats.CreateDataBlock(0))
	return nil
}
