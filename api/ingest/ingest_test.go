package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// stores keeps what was handed over; err is what it answers.
type stores struct {
	cluster   string
	logs      []*wire.LogBatch
	inventory []*wire.InventoryBatch
	pods      []*object.Pod
	services  []*object.Service // nil while they are not known
	err       error
}

var (
	_ Logs      = (*stores)(nil)
	_ Inventory = (*stores)(nil)
)

func (s *stores) Append(_ context.Context, cluster string, b *wire.LogBatch) error {
	if s.err == nil {
		s.cluster, s.logs = cluster, append(s.logs, b)
	}
	return s.err
}

func (s *stores) Positions(_ context.Context, cluster string, sources []wire.LogSource) ([]wire.LogPosition, error) {
	if s.err != nil {
		return nil, s.err
	}
	s.cluster = cluster
	return []wire.LogPosition{{LogSource: sources[0], Taken: 7, State: "x"}}, nil
}

func (s *stores) Apply(_ context.Context, cluster string, b *wire.InventoryBatch) error {
	if s.err == nil {
		s.cluster, s.inventory = cluster, append(s.inventory, b)
	}
	return s.err
}

func (s *stores) ServicesIn(_ string, namespaces []string) (out []*object.Service, known bool) {
	for _, v := range s.services {
		if slices.Contains(namespaces, v.Namespace) {
			out = append(out, v)
		}
	}
	return out, s.services != nil
}

func (s *stores) PodsOn(_, node string) []*object.Pod {
	return slices.DeleteFunc(slices.Clone(s.pods), func(p *object.Pod) bool { return p.Node != node })
}

func compress(b []byte) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	return w.EncodeAll(b, nil)
}

func as(p access.Principal, method, path string, body []byte) *http.Request {
	r := httptest.NewRequest(method, path, bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	return r.WithContext(access.With(r.Context(), p))
}

var sender = access.Principal{Kind: access.IngestToken, Name: "prod", Cluster: "prod-1"}

const logBody = `{"sender":"all","id":"b1","groups":[{"s":{"stream":"stdout","pod":"p"},"l":[{"t":1700000000000000000,"m":"hello"}]}]}`

func logWire() []byte {
	b, err := wire.UnmarshalLogBatch([]byte(logBody))
	if err != nil {
		panic(err)
	}
	raw, err := wire.MarshalLogBatch(b)
	if err != nil {
		panic(err)
	}
	return raw
}

func TestLogs(t *testing.T) {
	inSize := []byte(logBody + strings.Repeat(" ", wire.MaxLogBatchBytes-len(logBody)))
	for name, tc := range map[string]struct {
		who    access.Principal
		body   []byte
		header map[string]string
		err    error // of the store
		want   int
	}{
		"plain":                       {sender, []byte(logBody), nil, nil, 204},
		"in the form of the wire":     {sender, logWire(), map[string]string{"Content-Type": wire.LogBatchType}, nil, 204},
		"compressed":                  {sender, compress([]byte(logBody)), map[string]string{"Content-Encoding": "zstd"}, nil, 204},
		"exactly as large as allowed": {sender, compress(inSize), map[string]string{"Content-Encoding": "zstd"}, nil, 204},
		"one byte larger":             {sender, compress(append(inSize, ' ')), map[string]string{"Content-Encoding": "zstd"}, nil, 413},
		"larger, not compressed":      {sender, append(inSize, ' '), nil, nil, 413},
		"a bomb":                      {sender, compress(make([]byte, 200<<20)), map[string]string{"Content-Encoding": "zstd"}, nil, 413},
		"not zstd":                    {sender, []byte(logBody), map[string]string{"Content-Encoding": "zstd"}, nil, 400},
		"cut short":                   {sender, compress([]byte(logBody))[:20], map[string]string{"Content-Encoding": "zstd"}, nil, 400},
		"gzip":                        {sender, []byte(logBody), map[string]string{"Content-Encoding": "gzip"}, nil, 415},
		"a form":                      {sender, []byte(logBody), map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, nil, 415},
		"not JSON":                    {sender, []byte("{"), nil, nil, 400},
		"empty":                       {sender, nil, nil, nil, 400},
		"breaks a rule":               {sender, []byte(`{"sender":"all","id":"b1"}`), nil, nil, 422},
		"of a later wire":             {sender, []byte(logBody), map[string]string{wire.HeaderVersion: "9"}, nil, 400},
		"of this wire":                {sender, []byte(logBody), map[string]string{wire.HeaderVersion: "1"}, nil, 204},
		"by an API token":             {access.Principal{Kind: access.APIToken}, []byte(logBody), nil, nil, 403},
		"the store is read-only":      {sender, []byte(logBody), nil, fmt.Errorf("disk: %w", fault.ErrUnavailable), 503},
		"the store breaks":            {sender, []byte(logBody), nil, errors.New("boom"), 500},
		"by a token of no cluster":    {access.Principal{Kind: access.IngestToken}, []byte(logBody), nil, nil, 403},
	} {
		t.Run(name, func(t *testing.T) {
			s := &stores{err: tc.err}
			reg := prometheus.NewPedanticRegistry()
			h, err := New(Options{Logs: s, Inventory: s, Registerer: reg})
			if err != nil {
				t.Fatal(err)
			}
			r := as(tc.who, "POST", wire.PathLogs, tc.body)
			for k, v := range tc.header {
				r.Header.Set(k, v)
			}
			rec := httptest.NewRecorder()
			h.ServeLogs(rec, r)
			if rec.Code != tc.want {
				t.Fatalf("got %d %s, want %d", rec.Code, rec.Body, tc.want)
			}
			if stored := tc.want == 204; stored != (len(s.logs) == 1) {
				t.Errorf("stored %d batches", len(s.logs))
			}
			if tc.want == 204 && s.cluster != tc.who.Cluster {
				t.Errorf("stored for cluster %q", s.cluster)
			}
			if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) != 0 {
				t.Errorf("metrics: %v %v", problems, err)
			}
		})
	}
}

// A body lies in room that is used again: what was stored of one must not change when
// the next comes.
func TestBodiesDoNotMix(t *testing.T) {
	s := &stores{}
	h, err := New(Options{Logs: s, Inventory: s})
	if err != nil {
		t.Fatal(err)
	}
	const bodies = 20
	for n := range bodies {
		b := &wire.LogBatch{Sender: "all", ID: fmt.Sprint(n), Groups: []wire.LogGroup{{Stream: wire.LogStream{Stream: "stdout", Pod: fmt.Sprint("pod-", n)}, Lines: []wire.LogLine{
			{Time: 1_700_000_000_000_000_000, Message: strings.Repeat(fmt.Sprint(n, " "), bodies-n), Fields: wire.FieldsOf(map[string]string{"n": fmt.Sprint("value-", n)})},
		}}}}
		raw, err := wire.MarshalLogBatch(b)
		if err != nil {
			t.Fatal(err)
		}
		typ := wire.LogBatchType
		if n%2 == 1 { // the same as JSON
			if raw, err = json.Marshal(b); err != nil {
				t.Fatal(err)
			}
			typ = "application/json"
		}
		r := as(sender, "POST", wire.PathLogs, compress(raw))
		r.Header.Set("Content-Type", typ)
		r.Header.Set("Content-Encoding", "zstd")
		rec := httptest.NewRecorder()
		h.ServeLogs(rec, r)
		if rec.Code != 204 {
			t.Fatalf("body %d: got %d %s", n, rec.Code, rec.Body)
		}
	}
	for n, b := range s.logs {
		l := b.Groups[0].Lines[0]
		if b.ID != fmt.Sprint(n) || b.Groups[0].Stream.Pod != fmt.Sprint("pod-", n) || l.Message != strings.Repeat(fmt.Sprint(n, " "), bodies-n) || l.Fields.Get("n") != fmt.Sprint("value-", n) {
			t.Errorf("body %d became %+v", n, b)
		}
	}
}

func TestInventoryTellsAMissingBatch(t *testing.T) {
	s := &stores{}
	h, err := New(Options{Logs: s, Inventory: s})
	if err != nil {
		t.Fatal(err)
	}
	body := []byte(`{"session":"s","sequence":1,"time":"2026-11-23T10:00:00Z","pods":[{"uid":"u","name":"p","containers":[]}]}`)
	rec := httptest.NewRecorder()
	h.ServeInventory(rec, as(sender, "POST", wire.PathInventory, body))
	if rec.Code != 204 || len(s.inventory) != 1 || s.inventory[0].Pods[0].Name != "p" {
		t.Fatalf("got %d %s", rec.Code, rec.Body)
	}
	s.err = fmt.Errorf("batch 3 before 2: %w", fault.ErrConflict)
	rec = httptest.NewRecorder()
	h.ServeInventory(rec, as(sender, "POST", wire.PathInventory, body))
	if rec.Code != 409 {
		t.Errorf("got %d, want 409: it makes the collector begin a new session", rec.Code)
	}
}

func TestOwners(t *testing.T) {
	pod := func(uid, node, workload string) *object.Pod {
		return &object.Pod{Meta: object.Meta{UID: uid, Name: uid}, Node: node, Workload: object.WorkloadRef{Type: "deployment", Name: workload}}
	}
	h, err := New(Options{Inventory: &stores{pods: []*object.Pod{pod("a", "n1", "cart"), pod("b", "n2", "pay")}}})
	if err != nil {
		t.Fatal(err)
	}
	rec := httptest.NewRecorder()
	h.ServeOwners(rec, as(sender, "GET", wire.PathOwners+"?node=n1", nil))
	var got wire.OwnersResponse
	if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Owners) != 1 || got.Owners["a"] != (wire.Owner{Type: "deployment", Name: "cart"}) {
		t.Errorf("got %+v", got)
	}
	rec = httptest.NewRecorder()
	h.ServeOwners(rec, as(sender, "GET", wire.PathOwners, nil))
	if rec.Code != 422 {
		t.Errorf("without a node: %d", rec.Code)
	}
}

func TestServices(t *testing.T) {
	s := &stores{}
	h, err := New(Options{Inventory: s})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(query string) *httptest.ResponseRecorder {
		rec := httptest.NewRecorder()
		h.ServeServices(rec, as(sender, "GET", wire.PathServices+query, nil))
		return rec
	}
	if rec := ask("?namespace=shop"); rec.Code != 503 {
		t.Errorf("while the inventory is not complete: %d", rec.Code)
	}
	s.services = []*object.Service{
		{Meta: object.Meta{Namespace: "shop", Name: "cart"}, Selector: map[string]string{"app": "cart"}},
		{Meta: object.Meta{Namespace: "shop", Name: "by-hand"}, Pods: []string{"a"}}, {Meta: object.Meta{Namespace: "pay", Name: "pay"}},
	}
	var got wire.ServicesResponse
	rec := ask("?namespace=shop&namespace=other")
	if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Services) != 2 || got.Services[0].Name != "cart" || got.Services[0].Selector["app"] != "cart" || !slices.Equal(got.Services[1].Pods, []string{"a"}) {
		t.Errorf("got %s", rec.Body)
	}
	for _, query := range []string{"", "?" + strings.Repeat("namespace=x&", wire.MaxServiceNamespaces+1)} {
		if rec := ask(query); rec.Code != 422 {
			t.Errorf("a question of %d bytes: %d", len(query), rec.Code)
		}
	}
}

func TestReaders(t *testing.T) {
	h, err := New(Options{
		Readers:    func(cluster string, nodes []string) []string { return append(nodes[:1], cluster) },
		LogReaders: func(_ string, nodes []string) []string { return nodes },
	})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(query string) *httptest.ResponseRecorder {
		rec := httptest.NewRecorder()
		h.ServeReaders(rec, as(sender, "GET", wire.PathReaders+query, nil))
		return rec
	}
	var got wire.ReadersResponse
	if rec := ask("?node=v1&node=v2"); json.Unmarshal(rec.Body.Bytes(), &got) != nil || !slices.Equal(got.Nodes, []string{"v1", sender.Cluster}) {
		t.Errorf("got %d %s", rec.Code, rec.Body)
	}
	if rec := ask("?logs=true&node=v1&node=v2"); json.Unmarshal(rec.Body.Bytes(), &got) != nil || !slices.Equal(got.Nodes, []string{"v1", "v2"}) {
		t.Errorf("of those that follow logs, got %d %s", rec.Code, rec.Body)
	}
	for _, query := range []string{"", "?" + strings.Repeat("node=x&", wire.MaxReaderNodes+1)} {
		if rec := ask(query); rec.Code != 422 {
			t.Errorf("a question of %d bytes: %d", len(query), rec.Code)
		}
	}
}

func TestBodiesInMemoryAreBounded(t *testing.T) {
	h, err := New(Options{Logs: &stores{}, Concurrency: 1})
	if err != nil {
		t.Fatal(err)
	}
	pr, pw := io.Pipe()
	started, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		r := as(sender, "POST", wire.PathLogs, nil)
		r.Body = io.NopCloser(io.MultiReader(readerFunc(func([]byte) (int, error) { close(started); return 0, io.EOF }), pr))
		h.ServeLogs(httptest.NewRecorder(), r)
	}()
	<-started
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	rec := httptest.NewRecorder()
	r := as(sender, "POST", wire.PathLogs, []byte(logBody))
	h.ServeLogs(rec, r.WithContext(access.With(ctx, sender)))
	if rec.Code != 503 {
		t.Errorf("got %d, want it to give up when its client does", rec.Code)
	}
	_ = pw.Close()
	<-done
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func FuzzLogsBody(f *testing.F) {
	f.Add(compress([]byte(logBody)), true)
	f.Add([]byte(logBody), false)
	h, err := New(Options{Logs: &stores{}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte, compressed bool) {
		r := as(sender, "POST", wire.PathLogs, body)
		if compressed {
			r.Header.Set("Content-Encoding", "zstd")
		}
		rec := httptest.NewRecorder()
		h.ServeLogs(rec, r)
		if rec.Code >= 500 {
			t.Errorf("got %d %s", rec.Code, rec.Body)
		}
	})
}

func TestLogPositions(t *testing.T) {
	const ask = `{"sources":[{"key":"u/app","namespace":"shop","pod":"cart-1","container":"app"},{"key":"v/app"}]}`
	for name, tc := range map[string]struct {
		who    access.Principal
		body   string
		err    error
		want   int
		answer string
	}{
		"asked":                     {sender, ask, nil, 200, `{"positions":[{"key":"u/app","namespace":"shop","pod":"cart-1","container":"app","taken":7,"state":"x"}]}`},
		"without a key":             {sender, `{"sources":[{"pod":"cart-1"}]}`, nil, 422, ""},
		"of too many":               {sender, `{"sources":[` + strings.Repeat(`{"key":"k"},`, wire.MaxLogSources) + `{"key":"k"}]}`, nil, 422, ""},
		"not JSON":                  {sender, `[`, nil, 400, ""},
		"too large":                 {sender, strings.Repeat(" ", maxPositionsBody+1), nil, 413, ""},
		"by an API token":           {access.Principal{Kind: access.APIToken}, ask, nil, 403, ""},
		"the store does not answer": {sender, ask, fmt.Errorf("disk: %w", fault.ErrUnavailable), 503, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := &stores{err: tc.err}
			h, err := New(Options{Logs: s})
			if err != nil {
				t.Fatal(err)
			}
			rec := httptest.NewRecorder()
			h.ServeLogPositions(rec, as(tc.who, "POST", wire.PathLogPositions, []byte(tc.body)))
			if rec.Code != tc.want || tc.answer != "" && strings.TrimSpace(rec.Body.String()) != tc.answer {
				t.Errorf("got %d %s, want %d %s", rec.Code, rec.Body, tc.want, tc.answer)
			}
			if tc.want == 200 && s.cluster != "prod-1" {
				t.Errorf("asked about cluster %q", s.cluster)
			}
		})
	}
}
