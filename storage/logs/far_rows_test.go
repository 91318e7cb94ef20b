package logs

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"
	"github.com/VictoriaMetrics/VictoriaMetrics/lib/encoding/zstd"

	"github.com/crowsnest-dev/crowsnest/storage/logs/remote"
)

// An engine refuses requests over 64 MiB, however they are compressed.
func TestALargeBatchGoesInSeveralRequests(t *testing.T) {
	const rows = 70
	requests, got := 0, 0
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		packed, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		data, err := zstd.Decompress(nil, packed)
		if err != nil || len(data) > remote.MaxInsertBytes {
			t.Errorf("a request of %d bytes, %v", len(data), err)
		}
		requests++
		var row logstorage.InsertRow
		for len(data) > 0 {
			if data, err = row.UnmarshalInplace(data); err != nil {
				t.Fatal(err)
			}
			got++
		}
	}))
	defer server.Close()
	c, err := remote.New(remote.Options{WriteURL: server.URL, QueryURL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	row := logstorage.InsertRow{StreamTagsCanonical: canonical(nil), Fields: []logstorage.Field{{Name: "_msg", Value: strings.Repeat("x", 1<<20)}}}
	var all []byte
	for range rows {
		all = row.Marshal(all)
	}
	s := &Store{far: newFar(c, dayStart())}
	if err := s.insertRows(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	if got != rows || requests < 3 {
		t.Errorf("%d rows in %d requests, want %d", got, requests, rows)
	}
}
