// Package logs speaks VictoriaLogs' query API over our log store, so that
// vlogscli, Grafana's data source and curl work as against VictoriaLogs. It must
// not know how rows are stored or collected.
//
// What differs from VictoriaLogs: the clusters that may be read come from who
// asks (AccountID and ProjectID headers mean nothing), and the parameter
// "cluster", which may be repeated, narrows them; "service", with "namespace" and one
// cluster, asks for lines of the pods behind a Service; a tail shows lines as they
// arrive, late ones too, whatever its start, end and refresh_interval; an answer is
// whole, also where allow_partial_response says that it need not be; one that broke in
// the middle ends with a broken connection instead of an error among the rows.
package logs

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"runtime"
	"strings"
	"time"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"

	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/api/problem"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/inventory"
	"github.com/crowsnest-dev/crowsnest/storage/logs"
)

// Path is under which the handlers are mounted.
const Path = "/select/logsql/"

// Store is what the handlers read from; *logs.Store has it. All methods return
// the context's error when it ends before the answer is complete, and
// fault.ErrInvalid for a wrong query.
type Store interface {
	Query(ctx context.Context, q logs.Query, fn func(logs.Row) error) error
	Columns(ctx context.Context, q logs.Query, maxBytes int64) ([]string, error)
	Export(ctx context.Context, q logs.Query, fn func(logs.Row) error) error
	Surroundings(ctx context.Context, a logs.Around) (logs.Surroundings, error)
	Watermarks(cluster string) []logs.Watermark
	Facets(ctx context.Context, q logs.Query, o logs.FacetOptions) ([]logs.Facet, error)
	TimeRange(q logs.Query) (start, end time.Time, own bool, err error)
	Hits(ctx context.Context, q logs.Query, step, offset time.Duration, by []string, limit int) ([]logs.HitsSeries, error)
	Stats(ctx context.Context, q logs.Query, step, offset time.Duration) ([]logs.StatsSeries, error)
	FieldNames(ctx context.Context, q logs.Query, part string) ([]logs.ValueHits, error)
	FieldValues(ctx context.Context, q logs.Query, field, part string, limit int) ([]logs.ValueHits, error)
	Streams(ctx context.Context, q logs.Query, limit int) ([]logs.ValueHits, error)
	StreamIDs(ctx context.Context, q logs.Query, limit int) ([]logs.ValueHits, error)
	StreamFieldNames(ctx context.Context, q logs.Query, part string) ([]logs.ValueHits, error)
	StreamFieldValues(ctx context.Context, q logs.Query, field, part string, limit int) ([]logs.ValueHits, error)
	Tail(ctx context.Context, q logs.Query, before time.Duration, fn func([]logs.Row) error) error
}

// Services says which pods are behind a Service; *inventory.Store has it.
type Services interface {
	// PodsBehind gives their names, sorted; those that went lately, too.
	// fault.ErrNotFound without the Service.
	PodsBehind(cluster, namespace, service string) ([]string, error)
}

var (
	_ Store    = (*logs.Store)(nil)
	_ Services = (*inventory.Store)(nil)
)

// Options of a Handler.
type Options struct {
	Store         Store                 // required
	Services      Services              // nil: no Service is known
	MaxQueryTime  time.Duration         // of one query; default 60 s. A request's "timeout" can only be shorter
	MaxConcurrent int                   // queries at once; default twice the CPUs, at least 4
	MaxWait       time.Duration         // of a query for its turn, then 429; default 10 s
	MaxTails      int                   // live tails at once, more get 429; default 64
	MaxRows       int                   // of one answer of rows or values; default 1,000,000
	MaxBytes      int64                 // of one answer of rows, before compression; default 1 GiB
	MaxDownloads  int                   // downloads at once, more get 429; default 4
	MaxDownload   time.Duration         // of one download; default 30 min
	Registerer    prometheus.Registerer // nil: metrics are kept but not exported
	Now           func() time.Time      // default time.Now
}

func (o Options) complete() (Options, error) {
	var errs []error
	if o.Store == nil {
		errs = append(errs, errors.New("Store is required"))
	}
	if o.MaxQueryTime == 0 {
		o.MaxQueryTime = time.Minute
	}
	if o.MaxConcurrent == 0 {
		o.MaxConcurrent = max(4, 2*runtime.GOMAXPROCS(0))
	}
	if o.MaxWait == 0 {
		o.MaxWait = 10 * time.Second
	}
	if o.MaxTails == 0 {
		o.MaxTails = 64
	}
	if o.MaxRows == 0 {
		o.MaxRows = 1_000_000
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 1 << 30
	}
	if o.MaxDownloads == 0 {
		o.MaxDownloads = 4
	}
	if o.MaxDownload == 0 {
		o.MaxDownload = 30 * time.Minute
	}
	if o.MaxQueryTime < 0 || o.MaxConcurrent < 0 || o.MaxWait < 0 || o.MaxTails < 0 || o.MaxRows < 0 || o.MaxBytes < 0 || o.MaxDownloads < 0 || o.MaxDownload < 0 {
		errs = append(errs, errors.New("bounds must be positive"))
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o, errors.Join(errs...)
}

// Handler serves everything under Path.
type Handler struct {
	opts    Options
	metrics *metrics
	turns   *semaphore.Weighted
	tails   *semaphore.Weighted
	loads   *semaphore.Weighted // downloads
	routes  map[string]route
}

// route answers one path. It returns an error as long as nothing was written.
type route struct {
	serve func(ctx context.Context, w http.ResponseWriter, p params) error
	stats bool // errors have Prometheus' shape
	live  bool // goes on until the client leaves
}

// New makes a Handler.
func New(opts Options) (*Handler, error) {
	opts, err := opts.complete()
	if err != nil {
		return nil, fmt.Errorf("new LogsQL API: %w", err)
	}
	m, err := newMetrics(opts.Registerer)
	if err != nil {
		return nil, fmt.Errorf("new LogsQL API: %w", err)
	}
	h := &Handler{
		opts: opts, metrics: m,
		turns: semaphore.NewWeighted(int64(opts.MaxConcurrent)),
		tails: semaphore.NewWeighted(int64(opts.MaxTails)),
		loads: semaphore.NewWeighted(int64(opts.MaxDownloads)),
	}
	h.routes = map[string]route{
		"query":               {serve: h.query},
		"query_time_range":    {serve: h.queryTimeRange},
		"facets":              {serve: h.facets},
		"hits":                {serve: h.hits},
		"stats_query":         {serve: h.statsQuery, stats: true},
		"stats_query_range":   {serve: h.statsQueryRange, stats: true},
		"field_names":         {serve: h.fieldNames},
		"field_values":        {serve: h.fieldValues},
		"streams":             {serve: h.streams},
		"stream_ids":          {serve: h.streamIDs},
		"stream_field_names":  {serve: h.streamFieldNames},
		"stream_field_values": {serve: h.streamFieldValues},
		"tail":                {serve: h.tail, live: true},
	}
	return h, nil
}

// ServeHTTP answers GET and POST (parameters in the URL, in a form, or both).
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	rt, known := h.routes[strings.TrimPrefix(r.URL.Path, Path)]
	p, err := parse(r, h.opts.Now())
	if errors.Is(err, fault.ErrTooLarge) || errors.Is(err, fault.ErrMalformed) {
		p = params{} // who may ask is still decided first
	}
	p.query.Narrow = h.behind(p.service)
	// A wrong request of somebody who may not ask is told nothing about it.
	if aerr := authorize(ctx, p.query.Clusters); aerr != nil {
		fail(w, r, rt, aerr)
		return
	}
	switch {
	case !known:
		fail(w, r, rt, fmt.Errorf("there is no %s here: %w", r.URL.Path, fault.ErrNotFound))
	case r.Method != http.MethodGet && r.Method != http.MethodPost:
		w.Header().Set("Allow", "GET, POST")
		http.Error(w, "use GET or POST", http.StatusMethodNotAllowed)
	case err != nil:
		fail(w, r, rt, err)
	case p.limit > h.opts.MaxRows:
		fail(w, r, rt, fault.Wrong("limit", fault.Say(fault.RowsAtMost, h.opts.MaxRows), p.limit))
	case rt.live:
		if !h.tails.TryAcquire(1) {
			h.metrics.refused.WithLabelValues(refusedTails).Inc()
			fail(w, r, rt, fault.Because(fault.ErrLimited, fault.TailsFull, h.opts.MaxTails))
			return
		}
		defer h.tails.Release(1)
		if err := rt.serve(ctx, w, p); err != nil {
			fail(w, r, rt, err)
		}
	default:
		if err := h.inTurn(ctx, p.timeout, func(ctx context.Context) error { return rt.serve(ctx, w, p) }); err != nil {
			fail(w, r, rt, err)
		}
	}
}

// authorize asks for each cluster that is read.
func authorize(ctx context.Context, clusters []string) error {
	if clusters == nil {
		return access.Authorize(ctx, access.Read, "", "")
	}
	for _, c := range clusters {
		if err := access.Authorize(ctx, access.Read, c, ""); err != nil {
			return err
		}
	}
	return nil
}

// errTooSlow is the cause of a query that ran into its bound.
var errTooSlow = errors.New("query took too long")

// inTurn runs a query when there is room for it, within the bound of time; timeout, if
// it is not 0, can only shorten that.
func (h *Handler) inTurn(ctx context.Context, timeout time.Duration, query func(context.Context) error) error {
	wait, cancel := context.WithTimeout(ctx, h.opts.MaxWait)
	err := h.turns.Acquire(wait, 1)
	cancel()
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		h.metrics.refused.WithLabelValues(refusedQueries).Inc()
		return fault.Because(fault.ErrLimited, fault.QueriesFull, h.opts.MaxConcurrent, h.opts.MaxWait)
	}
	defer h.turns.Release(1)
	h.metrics.active.Inc()
	defer h.metrics.active.Dec()
	limit := h.opts.MaxQueryTime
	if timeout > 0 {
		limit = min(limit, timeout)
	}
	ctx, cancel = context.WithTimeoutCause(ctx, limit, errTooSlow)
	defer cancel()
	err = query(ctx)
	if err != nil && errors.Is(context.Cause(ctx), errTooSlow) {
		h.metrics.refused.WithLabelValues(refusedTime).Inc()
		return fault.Because(fault.ErrUnavailable, fault.QuerySlow, limit)
	}
	return err
}

// fail answers with an error in VictoriaLogs' shapes: plain text with status
// 400 for a wrong query, Prometheus' JSON with 422 from the stats endpoints.
func fail(w http.ResponseWriter, r *http.Request, rt route, err error) {
	if r.Context().Err() != nil {
		return // the client is gone
	}
	prob := problem.Of(err)
	prob.Report(r.Context())
	text := prob.Detail
	if prob.Instance != "" {
		text += " (" + prob.Instance + ")"
	}
	for k, vs := range prob.GetHeaders() {
		w.Header()[k] = vs
	}
	if rt.stats {
		kind := "internal"
		if prob.Status < http.StatusInternalServerError {
			kind = "bad_data"
		}
		writeJSON(w, prob.Status, map[string]string{"status": "error", "errorType": kind, "error": text})
		return
	}
	if prob.Status == http.StatusUnprocessableEntity {
		prob.Status = http.StatusBadRequest
	}
	http.Error(w, text, prob.Status)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client is gone; there is nobody to tell
}

// flushAt is how many bytes of rows are collected before they are written.
const flushAt = 64 << 10

// errTooMuch ends an answer that is over its bounds.
func (h *Handler) errTooMuch() error {
	h.metrics.refused.WithLabelValues(refusedSize).Inc()
	return fault.Because(fault.ErrTooLarge, fault.AnswerLarge, h.opts.MaxRows, h.opts.MaxBytes>>20)
}

// query streams rows, one JSON object or, below a line of names, one record of CSV a row.
func (h *Handler) query(ctx context.Context, w http.ResponseWriter, p params) error {
	began := h.opts.Now()
	var buf bytes.Buffer
	contentType, add := "application/stream+json", func(r logs.Row) {
		buf.Write(append(logstorage.MarshalFieldsToJSON(buf.AvailableBuffer(), r), '\n'))
	}
	if p.csv {
		columns, err := h.opts.Store.Columns(ctx, p.query, h.opts.MaxBytes)
		if errors.Is(err, fault.ErrTooLarge) {
			return h.errTooMuch()
		}
		if err != nil {
			return err
		}
		contentType, add = "text/csv", records(&buf, columns)
	}
	wrote, rows, size := false, 0, int64(buf.Len())
	flush := func() error {
		if !wrote {
			wrote = true
			w.Header().Set("Content-Type", contentType)
			w.Header().Set("VL-Request-Duration-Seconds", fmt.Sprintf("%.3f", h.opts.Now().Sub(began).Seconds()))
		}
		_, err := buf.WriteTo(w)
		return err
	}
	err := h.opts.Store.Query(ctx, p.query, func(r logs.Row) error {
		before := buf.Len()
		add(r)
		rows++
		size += int64(buf.Len() - before)
		if rows > h.opts.MaxRows || size > h.opts.MaxBytes {
			return h.errTooMuch()
		}
		if buf.Len() >= flushAt {
			return flush()
		}
		return nil
	})
	if err == nil {
		err = flush()
	}
	if err != nil && wrote {
		// The status is sent. Only a broken body says that rows are missing.
		panic(http.ErrAbortHandler)
	}
	return err
}

// records writes the names of the columns, and gives what writes a row below them.
func records(buf *bytes.Buffer, columns []string) (add func(logs.Row)) {
	out := csv.NewWriter(buf)
	write := func(record []string) {
		_ = out.Write(record) // memory takes it
		out.Flush()
	}
	place := make(map[string]int, len(columns))
	for i, name := range columns {
		place[name] = i
	}
	if len(columns) > 0 {
		write(columns)
	}
	record := make([]string, len(columns))
	return func(r logs.Row) {
		clear(record)
		for _, f := range r {
			if i, ok := place[f.Name]; ok { // else it came after the columns were looked for
				record[i] = f.Value
			}
		}
		write(record)
	}
}

// queryTimeRange answers {"start":"…","end":"…","hasTimeFilter":…}, with
// VictoriaLogs' far ends of time where there is no bound.
func (h *Handler) queryTimeRange(_ context.Context, w http.ResponseWriter, p params) error {
	start, end, own, err := h.opts.Store.TimeRange(p.query)
	if err != nil {
		return err
	}
	if start.IsZero() {
		start = time.Unix(0, math.MinInt64)
	}
	if end.IsZero() {
		end = time.Unix(0, math.MaxInt64)
	}
	writeJSON(w, http.StatusOK, struct {
		Start         string `json:"start"`
		End           string `json:"end"`
		HasTimeFilter bool   `json:"hasTimeFilter"`
	}{start.UTC().Format(time.RFC3339Nano), end.UTC().Format(time.RFC3339Nano), own})
	return nil
}

// facets answers {"facets":[{"field_name":"…","values":[{"field_value":"…","hits":n}]}]}.
func (h *Handler) facets(ctx context.Context, w http.ResponseWriter, p params) error {
	found, err := h.opts.Store.Facets(ctx, p.query, logs.FacetOptions{
		Limit: p.limit, MaxValues: p.maxValues, MaxValueBytes: p.maxValueLen, KeepConst: p.keepConst,
	})
	if err != nil {
		return err
	}
	if found == nil {
		found = []logs.Facet{}
	}
	writeJSON(w, http.StatusOK, map[string]any{"facets": found})
	return nil
}

// hits answers {"hits":[{"fields":{…},"timestamps":[…],"values":[…],"total":n}]}.
func (h *Handler) hits(ctx context.Context, w http.ResponseWriter, p params) error {
	found, err := h.opts.Store.Hits(ctx, p.query, p.step, p.stepOffset, p.fields, p.fieldsLimit)
	if err != nil {
		return err
	}
	type series struct {
		Fields     map[string]string `json:"fields"`
		Timestamps []string          `json:"timestamps"`
		Values     []uint64          `json:"values"`
		Total      uint64            `json:"total"`
	}
	out := make([]series, len(found))
	for i, f := range found {
		out[i] = series{Fields: map[string]string{}, Timestamps: make([]string, len(f.Times)), Values: f.Values, Total: f.Total}
		if f.Values == nil {
			out[i].Values = []uint64{}
		}
		for _, l := range f.Fields {
			out[i].Fields[l.Name] = l.Value
		}
		for j, t := range f.Times {
			out[i].Timestamps[j] = t.Format(time.RFC3339Nano)
		}
	}
	writeJSON(w, http.StatusOK, map[string]any{"hits": out})
	return nil
}

// point is [seconds, "value"], as Prometheus has it.
type point [2]any

func pointOf(p logs.StatsPoint) point {
	return point{json.Number(fmt.Sprintf("%d.%03d", p.At.Unix(), p.At.Nanosecond()/1e6)), p.Value}
}

func metricOf(s logs.StatsSeries) map[string]string {
	m := map[string]string{"__name__": s.Name}
	for _, l := range s.Labels {
		m[l.Name] = l.Value
	}
	return m
}

func writeResult(w http.ResponseWriter, kind string, result any) {
	writeJSON(w, http.StatusOK, map[string]any{"status": "success", "data": map[string]any{"resultType": kind, "result": result}})
}

// statsQuery answers a Prometheus vector.
func (h *Handler) statsQuery(ctx context.Context, w http.ResponseWriter, p params) error {
	found, err := h.opts.Store.Stats(ctx, p.query, 0, 0)
	if err != nil {
		return err
	}
	out := []map[string]any{}
	for _, s := range found {
		for _, pt := range s.Points {
			out = append(out, map[string]any{"metric": metricOf(s), "value": pointOf(pt)})
		}
	}
	writeResult(w, "vector", out)
	return nil
}

// statsQueryRange answers a Prometheus matrix.
func (h *Handler) statsQueryRange(ctx context.Context, w http.ResponseWriter, p params) error {
	found, err := h.opts.Store.Stats(ctx, p.query, p.step, p.stepOffset)
	if err != nil {
		return err
	}
	out := []map[string]any{}
	for _, s := range found {
		points := make([]point, len(s.Points))
		for i, pt := range s.Points {
			points[i] = pointOf(pt)
		}
		out = append(out, map[string]any{"metric": metricOf(s), "values": points})
	}
	writeResult(w, "matrix", out)
	return nil
}

func (h *Handler) writeValues(w http.ResponseWriter, found []logs.ValueHits, err error) error {
	if err != nil {
		return err
	}
	if len(found) > h.opts.MaxRows {
		return h.errTooMuch()
	}
	if found == nil {
		found = []logs.ValueHits{}
	}
	writeJSON(w, http.StatusOK, map[string]any{"values": found})
	return nil
}

func (h *Handler) fieldNames(ctx context.Context, w http.ResponseWriter, p params) error {
	found, err := h.opts.Store.FieldNames(ctx, p.query, p.part)
	return h.writeValues(w, found, err)
}

func (h *Handler) fieldValues(ctx context.Context, w http.ResponseWriter, p params) error {
	found, err := h.opts.Store.FieldValues(ctx, p.query, p.field(), p.part, p.limit)
	return h.writeValues(w, found, err)
}

func (h *Handler) streams(ctx context.Context, w http.ResponseWriter, p params) error {
	found, err := h.opts.Store.Streams(ctx, p.query, p.limit)
	return h.writeValues(w, found, err)
}

func (h *Handler) streamIDs(ctx context.Context, w http.ResponseWriter, p params) error {
	found, err := h.opts.Store.StreamIDs(ctx, p.query, p.limit)
	return h.writeValues(w, found, err)
}

func (h *Handler) streamFieldNames(ctx context.Context, w http.ResponseWriter, p params) error {
	found, err := h.opts.Store.StreamFieldNames(ctx, p.query, p.part)
	return h.writeValues(w, found, err)
}

func (h *Handler) streamFieldValues(ctx context.Context, w http.ResponseWriter, p params) error {
	found, err := h.opts.Store.StreamFieldValues(ctx, p.query, p.field(), p.part, p.limit)
	return h.writeValues(w, found, err)
}

// tailWriteTimeout is how long a client of a tail may take no bytes.
const tailWriteTimeout = time.Minute

// tail streams rows as they arrive, until the client leaves.
func (h *Handler) tail(ctx context.Context, w http.ResponseWriter, p params) error {
	control := http.NewResponseController(w)
	began := false
	begin := func() error {
		if began {
			return nil
		}
		began = true
		w.Header().Set("Content-Type", "application/x-ndjson")
		w.Header().Set("X-Accel-Buffering", "no") // a proxy must not collect lines
		w.WriteHeader(http.StatusOK)
		return control.Flush()
	}
	var buf bytes.Buffer
	err := h.opts.Store.Tail(ctx, p.query, p.startOffset, func(rows []logs.Row) error {
		if err := begin(); err != nil {
			return err
		}
		if len(rows) == 0 {
			return nil
		}
		buf.Reset()
		for _, r := range rows {
			buf.Write(logstorage.MarshalFieldsToJSON(buf.AvailableBuffer(), r))
			buf.WriteByte('\n')
		}
		// A connection without deadlines is bounded by TCP's own.
		_ = control.SetWriteDeadline(h.opts.Now().Add(tailWriteTimeout))
		if _, err := w.Write(buf.Bytes()); err != nil {
			return err
		}
		return control.Flush()
	})
	if err != nil && began {
		panic(http.ErrAbortHandler)
	}
	return err
}
