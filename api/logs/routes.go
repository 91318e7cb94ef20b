package logs

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"
	"github.com/VictoriaMetrics/VictoriaMetrics/lib/timeutil"
	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humagin"

	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/api/problem"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/logs"
)

// Register adds our own routes of log lines: what surrounds a line, the download
// of a range, and the watermarks. With a nil Handler they are only described.
func Register(api huma.API, h *Handler) {
	registerWatermarks(api, h)
	huma.Register(api, huma.Operation{
		OperationID: "get-log-context", Method: http.MethodGet, Path: "/logs/context", Tags: []string{"logs"},
		Summary: "Show the lines before and after a line", Description: "The line is named by _stream_id and _time of a row of any LogsQL answer.",
	}, func(ctx context.Context, in *contextInput) (*contextOutput, error) {
		out, err := h.surroundings(ctx, in)
		if err != nil {
			return nil, problem.Error(err)
		}
		return &contextOutput{*out}, nil
	})
	huma.Register(api, huma.Operation{
		OperationID: "download-logs", Method: http.MethodGet, Path: "/logs/download", Tags: []string{"logs"},
		Summary:     "Download lines, oldest first",
		Description: "The answer is streamed. One that could not be completed ends with a broken connection, never with a shorter file.",
		Responses: map[string]*huma.Response{"200": {Description: "The lines", Content: map[string]*huma.MediaType{
			"text/plain":           {Schema: &huma.Schema{Type: "string"}},
			"application/x-ndjson": {Schema: &huma.Schema{Type: "string"}},
			"application/gzip":     {Schema: &huma.Schema{Type: "string", Format: "binary"}},
		}}},
	}, func(ctx context.Context, in *downloadInput) (*huma.StreamResponse, error) {
		if err := authorize(ctx, in.Cluster); err != nil {
			return nil, problem.Error(err)
		}
		p, err := in.params(h.opts.Now())
		if err != nil {
			return nil, problem.Error(err)
		}
		p.query.Narrow = h.behind(p.service)
		if !h.loads.TryAcquire(1) {
			h.metrics.refused.WithLabelValues(refusedLoads).Inc()
			return nil, problem.Error(fault.Because(fault.ErrLimited, fault.DownloadsFull, h.opts.MaxDownloads))
		}
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			defer h.loads.Release(1)
			c := humagin.Unwrap(hc)
			if err := h.download(ctx, c.Writer, p); err != nil {
				problem.Write(c.Writer, c.Request, err)
			}
		}}, nil
	})
}

func registerWatermarks(api huma.API, h *Handler) {
	huma.Register(api, huma.Operation{
		OperationID: "list-log-watermarks", Method: http.MethodGet, Path: "/clusters/{cluster}/logs/watermarks", Tags: []string{"logs"},
		Summary:     "List up to when each node's log lines are complete",
		Description: "What a node's containers wrote later may still be on its way: no line and a missing line look the same.",
	}, func(ctx context.Context, in *watermarksInput) (*watermarksOutput, error) {
		if err := access.Authorize(ctx, access.Read, in.Cluster, ""); err != nil {
			return nil, problem.Error(err)
		}
		out := &watermarksOutput{Body: watermarks{Items: []LogWatermark{}}}
		for _, m := range h.opts.Store.Watermarks(in.Cluster) {
			out.Body.Items = append(out.Body.Items, LogWatermark(m))
		}
		return out, nil
	})
}

type watermarksInput struct {
	Cluster string `path:"cluster" doc:"The cluster's id."`
}

type watermarksOutput struct{ Body watermarks }

type watermarks struct {
	Items []LogWatermark `json:"items" nullable:"false" doc:"By node; none when no collector of the cluster says any."`
}

// LogWatermark says up to when all lines of a node's containers are stored.
type LogWatermark struct {
	Node            string    `json:"node" doc:"Empty: the cluster's events."`
	CompleteThrough time.Time `json:"complete_through" doc:"All lines written up to then are stored."`
	SeenAt          time.Time `json:"seen_at" doc:"When the node's collector said so last."`
}

type contextInput struct {
	StreamID string   `query:"stream_id" required:"true" doc:"_stream_id of the line." example:"0000007b000001c850d9950ea6196b1a4812081265faa1c7"`
	Time     string   `query:"time" required:"true" doc:"_time of the line, RFC 3339 with its nanoseconds." example:"2026-11-23T10:00:00.123456789Z"`
	Before   int      `query:"before" minimum:"0" maximum:"1000" default:"10" doc:"Lines before it."`
	After    int      `query:"after" minimum:"0" maximum:"1000" default:"10" doc:"Lines after it."`
	Scope    string   `query:"scope" enum:"stream,container" default:"stream" doc:"container: stdout and stderr together."`
	Cluster  []string `query:"cluster,explode" doc:"Look only in these clusters."`
}

type contextOutput struct{ Body logContext }

// logContext is lines by time; each is the row's fields.
type logContext struct {
	Before []map[string]string `json:"before" nullable:"false" doc:"Oldest first."`
	Lines  []map[string]string `json:"lines" nullable:"false" doc:"The line; several when more have its very time."`
	After  []map[string]string `json:"after" nullable:"false" doc:"Oldest first."`
}

func (h *Handler) surroundings(ctx context.Context, in *contextInput) (*logContext, error) {
	if err := authorize(ctx, in.Cluster); err != nil {
		return nil, err
	}
	at, err := time.Parse(time.RFC3339Nano, in.Time)
	if err != nil {
		return nil, fault.Field{Path: "time", Reason: "must be a time like 2026-11-23T10:00:00.123456789Z", Value: in.Time}
	}
	var found logs.Surroundings
	if err := h.inTurn(ctx, 0, func(ctx context.Context) (err error) {
		found, err = h.opts.Store.Surroundings(ctx, logs.Around{
			StreamID: in.StreamID, Time: at, Before: in.Before, After: in.After, Container: in.Scope == "container", Clusters: in.Cluster,
		})
		return err
	}); err != nil {
		return nil, err
	}
	return &logContext{fieldsOf(found.Before), fieldsOf(found.Lines), fieldsOf(found.After)}, nil
}

func fieldsOf(rows []logs.Row) []map[string]string {
	out := make([]map[string]string, len(rows))
	for i, r := range rows {
		out[i] = make(map[string]string, len(r))
		for _, f := range r {
			out[i][f.Name] = f.Value
		}
	}
	return out
}

type downloadInput struct {
	Query    string   `query:"query" default:"*" doc:"LogsQL." example:"namespace:shop level:error"`
	Start    string   `query:"start" required:"true" doc:"RFC 3339, Unix seconds, or relative like now-1h." example:"now-1h"`
	End      string   `query:"end" default:"now" doc:"As start; exclusive."`
	Format   string   `query:"format" enum:"text,json" default:"text" doc:"text: time, place and message; json: one object of all fields a line."`
	Compress bool     `query:"gzip" doc:"Give a .gz file."`
	Cluster  []string `query:"cluster,explode" doc:"Only lines of these clusters."`
	Service  string   `query:"service" doc:"Only lines of the pods behind this service, those of the last 24 h too; with namespace and one cluster."`
	Of       string   `query:"namespace" doc:"The service's namespace."`
}

type download struct {
	query   logs.Query
	service service
	json    bool
	gzip    bool
	name    string
}

func (in *downloadInput) params(now time.Time) (download, error) {
	var fs fault.Fields
	at := func(name, text string) time.Time {
		ns, err := timeutil.ParseTimeAt(text, now.UnixNano())
		if err != nil {
			fs.Add(name, "must be a time: RFC 3339, Unix seconds, or relative like now-1h", text)
			return time.Time{}
		}
		return time.Unix(0, ns).UTC()
	}
	d := download{json: in.Format == "json", gzip: in.Compress}
	d.service = serviceOf(&fs, in.Service, in.Of, in.Cluster)
	d.query = logs.Query{Text: in.Query, Start: at("start", in.Start), End: at("end", in.End), Clusters: in.Cluster}
	d.name = "logs-" + d.query.Start.Format("20060102T150405Z") + "-" + d.query.End.Format("20060102T150405Z") + map[bool]string{true: ".jsonl", false: ".log"}[d.json]
	if d.gzip {
		d.name += ".gz"
	}
	return d, fs.Err()
}

// downloadWait is how long a client of a download may take no bytes.
const downloadWait = time.Minute

// download streams rows, oldest first. It returns an error as long as nothing
// was written.
func (h *Handler) download(ctx context.Context, w http.ResponseWriter, d download) error {
	ctx, cancel := context.WithTimeoutCause(ctx, h.opts.MaxDownload, errTooSlow)
	defer cancel()
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{}) // the server's own would end a long download
	out := &begun{w: w, control: control, now: h.opts.Now, begin: func(header http.Header) {
		switch {
		case d.gzip:
			header.Set("Content-Type", "application/gzip")
		case d.json:
			header.Set("Content-Type", "application/x-ndjson")
		default:
			header.Set("Content-Type", "text/plain; charset=utf-8")
		}
		header.Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", d.name))
		header.Set("X-Accel-Buffering", "no")
	}}
	var dst io.Writer = out
	var packed *gzip.Writer
	if d.gzip {
		packed = gzip.NewWriter(out)
		dst = packed
	}
	var buf []byte
	err := h.opts.Store.Export(ctx, d.query, func(r logs.Row) error {
		if d.json {
			buf = append(logstorage.MarshalFieldsToJSON(buf, r), '\n')
		} else {
			buf = appendText(buf, r)
		}
		if len(buf) < flushAt {
			return nil
		}
		_, err := dst.Write(buf)
		buf = buf[:0]
		return err
	})
	if err == nil {
		_, err = dst.Write(buf)
	}
	if err == nil && packed != nil {
		err = packed.Close()
	}
	if err == nil {
		err = out.flush()
	}
	if err != nil && out.started {
		panic(http.ErrAbortHandler) // the status is sent: only a broken body says that lines are missing
	}
	if err != nil && errors.Is(context.Cause(ctx), errTooSlow) {
		h.metrics.refused.WithLabelValues(refusedTime).Inc()
		return fault.Because(fault.ErrUnavailable, fault.QuerySlow, h.opts.MaxDownload)
	}
	return err
}

// begun is a response that sends its header with the first bytes, and gives up
// when the client takes none for a while.
type begun struct {
	w       http.ResponseWriter
	control *http.ResponseController
	now     func() time.Time
	begin   func(http.Header)
	started bool
}

func (b *begun) flush() error {
	if !b.started {
		b.started = true
		b.begin(b.w.Header())
		b.w.WriteHeader(http.StatusOK)
	}
	return nil
}

func (b *begun) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	_ = b.flush()
	// A connection without deadlines is bounded by TCP's own.
	_ = b.control.SetWriteDeadline(b.now().Add(downloadWait))
	return b.w.Write(p)
}

// appendText adds a row as people read it; one without a message as JSON.
func appendText(dst []byte, r logs.Row) []byte {
	msg, isLine := "", false
	for _, f := range r {
		if f.Name == "_msg" {
			msg, isLine = f.Value, true
		}
	}
	if !isLine {
		return append(logstorage.MarshalFieldsToJSON(dst, r), '\n')
	}
	place := r.Get("namespace")
	for _, name := range []string{"pod", "container"} {
		if v := r.Get(name); v != "" {
			place += "/" + v
		}
	}
	for _, part := range []string{r.Get("_time"), place, strings.ToUpper(r.Get("level"))} {
		if part != "" {
			dst = append(append(dst, part...), ' ')
		}
	}
	return append(append(dst, msg...), '\n')
}
